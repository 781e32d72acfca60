//! Numbers that must not be mixed up: offsets, positions, partitions, generations.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// Wraps a plain number.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The plain number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! distance {
    ($name:ident) => {
        impl $name {
            /// `self + count`, or None past the greatest number.
            pub const fn checked_add(self, count: u64) -> Option<Self> {
                match self.0.checked_add(count) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// `self + count`, stopping at the greatest number.
            pub const fn saturating_add(self, count: u64) -> Self {
                Self(self.0.saturating_add(count))
            }

            /// How far `self` is beyond `earlier`, or None when it lies before.
            pub const fn checked_sub(self, earlier: Self) -> Option<u64> {
                self.0.checked_sub(earlier.0)
            }

            /// How far `self` is beyond `earlier`, or 0 when it lies before.
            pub const fn saturating_sub(self, earlier: Self) -> u64 {
                self.0.saturating_sub(earlier.0)
            }
        }

        impl Add<u64> for $name {
            type Output = Self;

            /// Panics past the greatest number.
            fn add(self, count: u64) -> Self {
                self.checked_add(count)
                    .expect(concat!(stringify!($name), " overflows"))
            }
        }

        impl AddAssign<u64> for $name {
            /// Panics past the greatest number.
            fn add_assign(&mut self, count: u64) {
                *self = *self + count;
            }
        }

        impl Sub for $name {
            type Output = u64;

            /// Panics when `earlier` is the greater one.
            fn sub(self, earlier: Self) -> u64 {
                self.checked_sub(earlier)
                    .expect(concat!(stringify!($name), " subtracted from a smaller one"))
            }
        }
    };
}

number! {
    /// The number of a record in its partition. The first is 0.
    Offset
}
number! {
    /// A place in a segment file, in bytes from its beginning.
    Position
}
number! {
    /// The number of a partition in its data directory. Never used again, also
    /// not after the partition was deleted.
    PartitionId
}
number! {
    /// Which of a partition's active segments is meant: every new segment raises it.
    Generation
}
distance!(Offset);
distance!(Position);

impl Offset {
    /// The greatest offset: records carry theirs as a protobuf int64.
    pub const MAX: Self = Self(i64::MAX as u64);
}

impl Generation {
    /// The generation of the segment after this one.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("Generation overflows"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_and_sums() {
        let five = Offset::new(5);
        assert_eq!(five + 2, Offset::new(7));
        assert_eq!(five - Offset::ZERO, 5);
        assert_eq!(Offset::ZERO.checked_sub(five), None);
        assert_eq!(Offset::ZERO.saturating_sub(five), 0);
        assert_eq!(Offset::new(u64::MAX).checked_add(1), None);
        assert_eq!(Position::new(u64::MAX).saturating_add(9).get(), u64::MAX);
        assert_eq!(Generation::ZERO.next(), Generation::new(1));
    }

    #[test]
    #[should_panic(expected = "Position subtracted from a smaller one")]
    fn a_negative_distance_panics() {
        let _ = Position::new(1) - Position::new(2);
    }

    #[test]
    fn display_is_the_plain_number_and_debug_names_the_type() {
        assert_eq!(format!("{:>4}", Offset::new(12)), "  12");
        assert_eq!(format!("{:?}", PartitionId::new(3)), "PartitionId(3)");
    }
}
