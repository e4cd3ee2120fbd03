//! A codec with its level, and the calls that compress and decompress by one.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::dict::Dictionary;
use crate::error::CodecError;
use crate::id::{self, CUSTOM_ID_MIN, ZSTD_LEVEL_MAX, ZSTD_LEVEL_MIN};
use crate::{brotli, lz4, lz4hc, none, registry, snappy, zstd};

/// The most bytes that one call compresses or decompresses. Below every codec's own limit, and
/// far above the engine's blocks.
pub const BLOCK_LEN_MAX: usize = 1 << 30;

/// A codec and its level: how blocks are to be compressed. Blocks name their codec by id alone.
///
/// As text, `none`, `lz4`, `lz4hc:9` (or `lz4hc`), `snappy`, `zstd:3` (or `zstd`), `brotli:4` (or
/// `brotli`) and `custom:200:5` (or `custom:200` for level 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// Bytes as they are.
    None,
    /// The fastest to read, for data that is soon rewritten.
    Lz4,
    /// LZ4 by an encoder that takes its time, for data that stays: the same id and the same decoder,
    /// smaller by 10 to 20 % and read a little faster. With a dictionary about the size of
    /// Zstandard 1 at twice its decoding speed.
    Lz4hc {
        /// From 1, the fastest, to 12, the smallest; 9 is the one to choose, and those from 10 on
        /// gain under 1 % more.
        level: u8,
    },
    /// Much like LZ4 and slower to read; for those who want it.
    Snappy,
    /// Much smaller than LZ4, at a third of its decoding speed.
    Zstd {
        /// From -7, the fastest, to 22, the smallest; 0 stands for 3, zstd's own default.
        level: i32,
    },
    /// About the size of Zstandard's higher levels, at half its decoding speed.
    Brotli {
        /// From 0, the fastest, to 11, the smallest.
        quality: u8,
    },
    /// A registered codec of the user's own.
    Custom {
        /// Its id, from 128 to 255.
        id: u8,
        /// What its `compress` is given; it alone knows the range.
        level: i32,
    },
}

impl Codec {
    /// The id that files hold.
    pub fn id(self) -> u8 {
        match self {
            Codec::None => id::NONE,
            Codec::Lz4 | Codec::Lz4hc { .. } => id::LZ4,
            Codec::Snappy => id::SNAPPY,
            Codec::Zstd { .. } => id::ZSTD,
            Codec::Brotli { .. } => id::BROTLI,
            Codec::Custom { id, .. } => id,
        }
    }

    /// The name without the level, as [`codec_name`] gives it.
    pub fn name(self) -> Cow<'static, str> {
        name_of(self.id())
    }

    /// Whether the codec makes use of a dictionary. Snappy and Brotli refuse one, none ignores it.
    pub fn takes_dictionary(self) -> bool {
        takes_dictionary(self.id())
    }

    /// Fails if the level is out of range, or if the user's codec is not registered.
    pub fn validate(&self) -> Result<(), CodecError> {
        self.check_range()?;
        if is_known(self.id()) { Ok(()) } else { Err(CodecError::UnknownId(self.id())) }
    }

    fn check_range(self) -> Result<(), CodecError> {
        let (codec, level, min, max) = match self {
            Codec::Lz4hc { level } => {
                ("lz4hc", i32::from(level), i32::from(lz4hc::LEVEL_MIN), i32::from(lz4hc::LEVEL_MAX))
            }
            Codec::Zstd { level } => ("zstd", level, ZSTD_LEVEL_MIN, ZSTD_LEVEL_MAX),
            Codec::Brotli { quality } => ("brotli", i32::from(quality), 0, i32::from(brotli::QUALITY_MAX)),
            // A built-in id in the clothes of a user's would be read by another codec than wrote it.
            Codec::Custom { id, .. } if id < CUSTOM_ID_MIN => return Err(CodecError::UnknownId(id)),
            Codec::None | Codec::Lz4 | Codec::Snappy | Codec::Custom { .. } => return Ok(()),
        };
        if (min..=max).contains(&level) { Ok(()) } else { Err(CodecError::InvalidLevel { codec, level, min, max }) }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Codec::None | Codec::Lz4 | Codec::Snappy => f.write_str(&self.name()),
            Codec::Lz4hc { level } => write!(f, "lz4hc:{level}"),
            Codec::Zstd { level } => write!(f, "zstd:{level}"),
            Codec::Brotli { quality } => write!(f, "brotli:{quality}"),
            Codec::Custom { id, level } => write!(f, "custom:{id}:{level}"),
        }
    }
}

impl FromStr for Codec {
    type Err = CodecError;

    /// Reads the text form; the level must be in range, a user's codec need not be registered yet.
    fn from_str(text: &str) -> Result<Codec, CodecError> {
        let unknown = || CodecError::UnknownName(text.to_owned());
        let number = |text: &str| text.parse::<i32>().map_err(|_| unknown());
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let (first, second) = (parts.next(), parts.next());
        if parts.next().is_some() {
            return Err(unknown());
        }
        let codec = match (name, first, second) {
            ("none", None, None) => Codec::None,
            ("lz4", None, None) => Codec::Lz4,
            ("lz4hc", level, None) => {
                let level = level.map_or(Ok(9), number)?;
                let (min, max) = (i32::from(lz4hc::LEVEL_MIN), i32::from(lz4hc::LEVEL_MAX));
                let out_of_range = |_| CodecError::InvalidLevel { codec: "lz4hc", level, min, max };
                Codec::Lz4hc { level: u8::try_from(level).map_err(out_of_range)? }
            }
            ("snappy", None, None) => Codec::Snappy,
            ("zstd", level, None) => Codec::Zstd { level: level.map_or(Ok(3), number)? },
            ("brotli", quality, None) => {
                let level = quality.map_or(Ok(4), number)?;
                let max = i32::from(brotli::QUALITY_MAX);
                let out_of_range = |_| CodecError::InvalidLevel { codec: "brotli", level, min: 0, max };
                Codec::Brotli { quality: u8::try_from(level).map_err(out_of_range)? }
            }
            ("custom", Some(id), level) => {
                Codec::Custom { id: id.parse().map_err(|_| unknown())?, level: level.map_or(Ok(0), number)? }
            }
            _ => return Err(unknown()),
        };
        codec.check_range()?;
        Ok(codec)
    }
}

/// Compresses `src` and appends the result to `out`; on failure `out` is as it was.
///
/// Fails if the level is out of range, the codec is not registered, or it takes no dictionary and
/// is given one.
pub fn compress(
    codec: Codec,
    src: &[u8],
    dictionary: Option<&Dictionary>,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    codec.check_range()?;
    check_len(src.len())?;
    check_dictionary(codec.id(), dictionary)?;
    let start = out.len();
    let result = match codec {
        Codec::None => none::compress(src, out),
        Codec::Lz4 => lz4::compress(src, dictionary, out),
        Codec::Lz4hc { level } => lz4hc::compress(src, level, dictionary, out),
        Codec::Snappy => snappy::compress(src, out),
        Codec::Zstd { level } => zstd::compress(src, level, dictionary, out),
        Codec::Brotli { quality } => brotli::compress(src, quality, out),
        Codec::Custom { id, level } => match registry::find(id) {
            Some(found) => found.codec.compress(src, level, dictionary, out),
            None => Err(CodecError::UnknownId(id)),
        },
    };
    if out.len() < start {
        // A user's codec cut away what stood before; whatever that was, it must not reach a file.
        return Err(CodecError::malformed(codec.name(), "the codec did not append to its output"));
    }
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Decompresses `src` by the codec with this id, filling `dst` exactly.
///
/// Fails if `src` is malformed or stands for more or fewer bytes, and `dst` is then zeroed. A
/// dictionary other than the one used for compression gives an error or other bytes of the same
/// length; the checksum around the block tells.
pub fn decompress(id: u8, src: &[u8], dst: &mut [u8], dictionary: Option<&Dictionary>) -> Result<(), CodecError> {
    let result = decompress_unzeroed(id, src, dst, dictionary);
    if result.is_err() {
        dst.fill(0);
    }
    result
}

/// Whether blocks of this codec can be read by this process.
pub fn is_known(id: u8) -> bool {
    usize::from(id) < id::BUILT_IN_NAMES.len() || registry::find(id).is_some()
}

/// The name of a codec, for people: that of a built-in or registered one, else its number.
pub fn codec_name(id: u8) -> String {
    name_of(id).into_owned()
}

/// Whether the codec with this id makes use of a dictionary; users' own codecs are given one.
pub fn takes_dictionary(id: u8) -> bool {
    matches!(id, id::LZ4 | id::ZSTD | CUSTOM_ID_MIN..)
}

fn decompress_unzeroed(id: u8, src: &[u8], dst: &mut [u8], dictionary: Option<&Dictionary>) -> Result<(), CodecError> {
    check_len(dst.len())?;
    check_len(src.len())?;
    check_dictionary(id, dictionary)?;
    match id {
        id::NONE => none::decompress(src, dst),
        id::LZ4 => lz4::decompress(src, dst, dictionary),
        id::SNAPPY => snappy::decompress(src, dst),
        id::ZSTD => zstd::decompress(src, dst, dictionary),
        id::BROTLI => brotli::decompress(src, dst),
        CUSTOM_ID_MIN.. => match registry::find(id) {
            Some(found) => found.codec.decompress(src, dst, dictionary),
            None => Err(CodecError::UnknownId(id)),
        },
        _ => Err(CodecError::UnknownId(id)),
    }
}

fn check_len(len: usize) -> Result<(), CodecError> {
    if len > BLOCK_LEN_MAX { Err(CodecError::TooLarge { len, max: BLOCK_LEN_MAX }) } else { Ok(()) }
}

fn check_dictionary(id: u8, dictionary: Option<&Dictionary>) -> Result<(), CodecError> {
    if dictionary.is_some() && matches!(id, id::SNAPPY | id::BROTLI) {
        return Err(CodecError::Dictionary(format!("{} takes none", name_of(id)).into()));
    }
    Ok(())
}

fn name_of(id: u8) -> Cow<'static, str> {
    match id::BUILT_IN_NAMES.get(usize::from(id)) {
        Some(name) => Cow::Borrowed(name),
        None => registry::find(id).map_or_else(|| format!("codec {id}"), |found| found.name.clone()).into(),
    }
}
