//! Numbers of bytes as people write them.

/// Reads `2GB`, `512MiB`, `1000`.
///
/// # Errors
/// Says how sizes are written.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(HOW.to_owned()),
    };
    let count: u64 = digits.parse().map_err(|_| HOW.to_owned())?;
    count.checked_mul(unit).ok_or_else(|| HOW.to_owned())
}

const HOW: &str = "write a size as 2GB, 500MB, 256MiB or 1000";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        assert_eq!(parse_size("2GB"), Ok(2_000_000_000));
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size("17"), Ok(17));
        for bad in ["", "GB", "1.5GB", "3 GB", "9TB", "99999999999GiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
