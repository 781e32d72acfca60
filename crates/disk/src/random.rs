//! Randomness behind a trait: the operating system's, and a seeded stream that repeats itself run
//! after run.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::rand::{GetRandomFlags, getrandom};

/// Where random bytes come from.
pub trait Random: Send + Sync + fmt::Debug {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);

    /// Sixty-four random bits.
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    /// The bytes of a random UUID: version 4 and variant of RFC 9562, the other 122 bits random.
    fn uuid_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        bytes
    }
}

/// The operating system's randomness (getrandom), fit for secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, mut out: &mut [u8]) {
        while !out.is_empty() {
            match getrandom(&mut *out, GetRandomFlags::empty()) {
                Ok(filled) => out = &mut out[filled..],
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the operating system gives no random bytes: {error}"),
            }
        }
    }
}

/// A reproducible stream for tests and simulations; never for secrets.
///
/// The generator is SplitMix64: G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number
/// Generators", OOPSLA 2014, with the constants of S. Vigna's public-domain `splitmix64.c`. Its
/// state is one counter, so threads share it without a lock.
#[derive(Debug)]
pub struct SeededRandom {
    state: AtomicU64,
}

impl SeededRandom {
    /// A stream that is the same for the same seed.
    pub fn new(seed: u64) -> Self {
        SeededRandom {
            state: AtomicU64::new(seed),
        }
    }

    fn next(&self) -> u64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self
            .state
            .fetch_add(GAMMA, Ordering::Relaxed)
            .wrapping_add(GAMMA);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Random for SeededRandom {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_be_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeded_stream_is_splitmix64() {
        // The first outputs of splitmix64.c for seed 1234567.
        let random = SeededRandom::new(1_234_567);
        let outputs: Vec<u64> = (0..5).map(|_| random.u64()).collect();
        assert_eq!(
            outputs,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423,
                4593380528125082431,
                16408922859458223821
            ]
        );
    }

    #[test]
    fn uuids_carry_version_and_variant_and_differ() {
        for random in [&SystemRandom as &dyn Random, &SeededRandom::new(7)] {
            let (one, other) = (random.uuid_bytes(), random.uuid_bytes());
            assert_ne!(one, other);
            assert_eq!((one[6] >> 4, one[8] >> 6), (4, 2));
        }
    }

    #[test]
    fn a_fill_reaches_every_byte() {
        for random in [&SystemRandom as &dyn Random, &SeededRandom::new(7)] {
            let mut seen = [0u8; 1_003];
            for _ in 0..8 {
                let mut out = [0u8; 1_003];
                random.fill(&mut out);
                seen.iter_mut()
                    .zip(out)
                    .for_each(|(seen, byte)| *seen |= byte);
            }
            assert!(
                seen.iter().all(|byte| *byte != 0),
                "a byte stayed zero in eight fills"
            );
        }
    }
}
