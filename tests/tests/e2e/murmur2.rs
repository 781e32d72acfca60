//! Which partition Kafka's Java client gives a key: written from the published algorithm, and for that
//! reason not the broker's own.
//!
//! MurmurHash2, A. Appleby, public domain, with the seed and the positive modulus of Kafka's
//! `org.apache.kafka.common.utils.Utils.murmur2` and `BuiltInPartitioner.partitionForKey`.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

/// MurmurHash2 of 32 bits, over words in little-endian order.
fn murmur2(key: &[u8]) -> u32 {
    let mix = |word: u32| {
        let word = word.wrapping_mul(M);
        (word ^ (word >> 24)).wrapping_mul(M)
    };
    let mut hash = SEED ^ key.len() as u32;
    let words = key.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        hash = hash.wrapping_mul(M) ^ mix(word);
    }
    if !rest.is_empty() {
        let rest = rest
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u32::from(byte));
        hash = (hash ^ rest).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key.
pub(crate) fn partition_of(key: &[u8], partition_count: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partition_count
}

/// The vectors of Kafka's own test, `UtilsTest.testMurmur2`, and the empty key.
#[test]
fn the_hash_is_kafkas() {
    let vectors: [(&str, i32); 7] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        ),
        ("abc", 479_470_107),
        ("", 275_646_681),
    ];
    for (key, hash) in vectors {
        assert_eq!(murmur2(key.as_bytes()), hash as u32, "{key:?}");
    }
}
