//! Checksums: crc32 for log records and manifest edits, xxh3 for blocks, files and filter hashes.
//!
//! Every checksum on disk is bound to its place: a record's crc starts from a seed made of the
//! file's salt, its number and the offset; a block's xxh3 is salted with file and offset. Bytes
//! that are right but in the wrong place fail, be they stale, swapped or misdirected.

use xxhash_rust::xxh3;

/// The hash of a user key, shared by all filters of one `get`: xxh3-64.
#[inline]
pub fn hash_key(key: &[u8]) -> u64 {
    xxh3::xxh3_64(key)
}

/// The low 32 bits of xxh3-64 over `bytes`, salted.
#[inline]
pub fn xxh32(bytes: &[u8], salt: u64) -> u32 {
    xxh3::xxh3_64_with_seed(bytes, salt) as u32
}

/// As [`xxh32`] over two slices laid end to end.
pub fn xxh32_pair(first: &[u8], second: &[u8], salt: u64) -> u32 {
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
pub fn crc32(seed: u64, parts: &[&[u8]]) -> u32 {
    let mut h = crc32fast::Hasher::new();
    h.update(&seed.to_le_bytes());
    for part in parts {
        h.update(part);
    }
    h.finalize()
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
    fn parts_equal_the_whole() {
        assert_eq!(crc32(7, &[b"ab", b"c"]), crc32(7, &[b"abc"]));
        assert_eq!(xxh32_pair(b"ab", b"c", 7), xxh32(b"abc", 7));
        let mut h = FileHasher::new();
        h.update(b"ab");
        h.update(b"c");
        assert_eq!(h.digest(), xxh3::xxh3_128(b"abc"));
    }
}
