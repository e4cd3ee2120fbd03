//! Checksums: crc32 for log records and manifest edits, xxh3 for blocks, files and filter hashes.
//!
//! Every checksum on disk is bound to its place: a record's crc starts from a seed made of the
//! file's salt, its number and the offset; a block's xxh3 is salted with file and offset. Bytes
//! that are right but in the wrong place fail, be they stale, swapped or misdirected.

use std::cell::Cell;

use twox_hash::XxHash3_64;
use xxhash_rust::xxh3;

/// Longest input of xxh3 that is hashed without stripes, and so without vectors.
const SHORT_LEN_MAX: usize = 240;
/// Two slices of together so many bytes are laid end to end rather than fed one by one: a stream costs
/// more to set up than the copy.
const JOINED_LEN_MAX: usize = 16 << 10;

/// The hash of a user key, shared by all filters of one `get`: xxh3-64.
#[inline]
pub fn hash_key(key: &[u8]) -> u64 {
    xxh3::xxh3_64(key)
}

/// The low 32 bits of xxh3-64 over `bytes`, salted.
#[inline]
pub fn xxh32(bytes: &[u8], salt: u64) -> u32 {
    if bytes.len() <= SHORT_LEN_MAX {
        return xxh3::xxh3_64_with_seed(bytes, salt) as u32;
    }
    XxHash3_64::oneshot_with_seed(salt, bytes) as u32
}

/// As [`xxh32`] over two slices laid end to end.
pub fn xxh32_pair(first: &[u8], second: &[u8], salt: u64) -> u32 {
    thread_local! {
        static JOINED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    if first.len() + second.len() <= JOINED_LEN_MAX {
        let mut joined = JOINED.take();
        joined.clear();
        joined.extend_from_slice(first);
        joined.extend_from_slice(second);
        let hash = xxh32(&joined, salt);
        JOINED.set(joined);
        return hash;
    }
    let mut h = xxh3::Xxh3Builder::new().with_seed(salt).build();
    h.update(first);
    h.update(second);
    h.digest() as u32
}

/// The salt of something that lies at `offset` of file `number` of database `db_id`.
///
/// A function of three numbers, not of a name: a linked or restored file keeps its salt.
pub fn place_salt(db_id: u128, number: u64, offset: u64) -> u64 {
    let mut b = [0u8; 32];
    b[..16].copy_from_slice(&db_id.to_le_bytes());
    b[16..24].copy_from_slice(&number.to_le_bytes());
    b[24..].copy_from_slice(&offset.to_le_bytes());
    xxh3::xxh3_64(&b)
}

/// crc32 (IEEE) over `parts` laid end to end, started from a 64-bit seed.
#[inline]
pub fn crc32(seed: u64, parts: &[&[u8]]) -> u32 {
    let mut crc = crc32_short(0, &seed.to_le_bytes());
    for part in parts {
        crc = crc32_more(crc, part);
    }
    crc
}

/// From so many bytes on crc32fast multiplies without carry; below, and for the bytes behind the last
/// sixteen, it goes byte by byte, which for a log record of usual size took longer than all the rest.
const CRC_BULK: usize = 128;

/// Goes on from the crc of what came before.
fn crc32_more(mut crc: u32, mut bytes: &[u8]) -> u32 {
    if bytes.len() >= CRC_BULK {
        let (bulk, rest) = bytes.split_at(bytes.len() & !15);
        let mut h = crc32fast::Hasher::new_with_initial(crc);
        h.update(bulk);
        (crc, bytes) = (h.finalize(), rest);
    }
    crc32_short(crc, bytes)
}

/// `CRC_TABLES[k][b]` is what byte `b` with `k` bytes behind it adds to a crc: eight bytes are eight
/// lookups that do not wait for each other (Kounavis and Berry, "slicing by 8", 2005).
static CRC_TABLES: [[u32; 256]; 8] = crc_tables();

const fn crc_tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut behind = 1;
    while behind < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc: u32 = tables[behind - 1][byte];
            tables[behind][byte] = crc >> 8 ^ tables[0][(crc & 0xff) as usize];
            byte += 1;
        }
        behind += 1;
    }
    tables
}

fn crc32_short(crc: u32, bytes: &[u8]) -> u32 {
    let mut state = !crc;
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        let word = (u64::from_le_bytes(*eight) ^ u64::from(state)).to_le_bytes();
        let of = |i: usize| CRC_TABLES[7 - i][word[i] as usize];
        state = (of(0) ^ of(1)) ^ (of(2) ^ of(3)) ^ ((of(4) ^ of(5)) ^ (of(6) ^ of(7)));
    }
    for byte in rest {
        state = state >> 8 ^ CRC_TABLES[0][(state as u8 ^ byte) as usize];
    }
    !state
}

/// xxh3-128 of a whole file, fed as it is written or read.
#[derive(Clone, Default)]
pub struct FileHasher(xxh3::Xxh3);

impl FileHasher {
    /// The hash of no bytes yet.
    pub fn new() -> FileHasher {
        FileHasher(xxh3::Xxh3::new())
    }

    /// Adds the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes so far.
    pub fn digest(&self) -> u128 {
        self.0.digest128()
    }
}

impl std::fmt::Debug for FileHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileHasher({:032x})", self.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_matters() {
        assert_ne!(xxh32(b"block", place_salt(1, 2, 3)), xxh32(b"block", place_salt(1, 2, 4)));
        assert_ne!(crc32(1, &[b"record"]), crc32(2, &[b"record"]));
    }

    #[test]
    fn our_crc_is_that_of_crc32fast() {
        let bytes: Vec<u8> = (0..700u32).map(|n| (n * n + n / 3) as u8).collect();
        for from in 0..9 {
            for to in from..bytes.len() {
                let mut h = crc32fast::Hasher::new();
                h.update(&7u64.to_le_bytes());
                h.update(&bytes[from..to]);
                let middle = from + (to - from) / 3;
                let crc = crc32(7, &[&bytes[from..middle], &bytes[middle..to]]);
                assert_eq!((crc, crc32(7, &[&bytes[from..to]])), (h.clone().finalize(), h.finalize()));
            }
        }
    }

    #[test]
    fn parts_equal_the_whole() {
        assert_eq!(crc32(7, &[b"ab", b"c"]), crc32(7, &[b"abc"]));
        let long: Vec<u8> = (0..40_000u32).map(|i| ((i * i) >> 3) as u8).collect();
        for len in [3, 240, 241, 1024, JOINED_LEN_MAX, JOINED_LEN_MAX + 1, long.len()] {
            let expected = xxh3::xxh3_64_with_seed(&long[..len], 7) as u32;
            assert_eq!(xxh32(&long[..len], 7), expected, "one slice of {len}");
            assert_eq!(xxh32_pair(&long[..len - 2], &long[len - 2..len], 7), expected, "two slices of {len}");
        }
        let mut h = FileHasher::new();
        h.update(b"ab");
        h.update(b"c");
        assert_eq!(h.digest(), xxh3::xxh3_128(b"abc"));
    }
}
