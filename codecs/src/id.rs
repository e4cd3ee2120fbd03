//! The ids of the codecs, as files hold them, and what else several modules must know of them.

/// Bytes as they are.
pub const NONE: u8 = 0;
/// LZ4 raw blocks.
pub const LZ4: u8 = 1;
/// Snappy raw blocks.
pub const SNAPPY: u8 = 2;
/// Magicless Zstandard frames.
pub const ZSTD: u8 = 3;
/// Brotli streams.
pub const BROTLI: u8 = 4;

/// The lowest id of users' own codecs; ids between the built-in ones and this are reserved.
pub const CUSTOM_ID_MIN: u8 = 128;

/// The names of the built-in codecs, by id.
pub(crate) const BUILT_IN_NAMES: [&str; 5] = ["none", "lz4", "snappy", "zstd", "brotli"];

/// The lowest level of Zstandard: the fastest of those that still find something to save.
pub(crate) const ZSTD_LEVEL_MIN: i32 = -7;
/// The highest level of Zstandard.
pub(crate) const ZSTD_LEVEL_MAX: i32 = 22;
