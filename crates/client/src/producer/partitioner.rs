//! Where the broker will put a record with a key, as `docs/protocol.md` tells every client. The broker has the last
//! word: what is here only decides which records travel together.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

/// The partition that the broker chooses for a key.
pub(super) fn partition_of(key: &[u8], partition_count: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partition_count
}

/// MurmurHash2 by Austin Appleby (32 bits, public domain) as Kafka's `Utils.murmur2` has it.
fn murmur2(key: &[u8]) -> u32 {
    let mix = |hash: u32, word: u32| {
        let word = word.wrapping_mul(M);
        hash.wrapping_mul(M) ^ (word ^ (word >> 24)).wrapping_mul(M)
    };
    let (words, tail) = key.as_chunks::<4>();
    let words = words.iter().map(|word| u32::from_le_bytes(*word));
    let mut hash = words.fold(SEED ^ (key.len() as u32), mix);
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_kafkas_own_tests_say() {
        let kafkas = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("abc", 479_470_107),
        ];
        for (key, hash) in kafkas {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert_eq!(partition_of(b"abc", 1000), 107);
    }
}
