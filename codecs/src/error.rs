//! The one error type of the crate.
//!
//! Messages are for people: what is wrong and, where it helps, what would be right. Nothing here
//! names a file or an offset; the caller knows those and adds them.

use std::borrow::Cow;
use std::fmt;

/// Why bytes could not be compressed or decompressed, or why a codec or dictionary was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecError {
    /// No codec has this id in this process: it is reserved for a later version of the format, or
    /// a user's codec that was not registered.
    UnknownId(u8),
    /// No filter has this id: it is reserved for a later version of the format.
    UnknownFilter(u8),
    /// The text does not name a codec.
    UnknownName(String),
    /// The compressed bytes do not follow their format, or end too early or too late.
    Malformed {
        /// Name of the codec.
        codec: Cow<'static, str>,
        /// What is wrong with the bytes.
        detail: Cow<'static, str>,
    },
    /// The compressed bytes stand for another number of bytes than the caller expects.
    WrongLength {
        /// The length of the destination.
        expected: usize,
        /// The length found; none if decoding stopped because it was longer than expected.
        actual: Option<usize>,
    },
    /// The input is longer than any codec takes.
    TooLarge {
        /// The length asked for.
        len: usize,
        /// The greatest length that is possible, [`BLOCK_LEN_MAX`](crate::BLOCK_LEN_MAX).
        max: usize,
    },
    /// The level or quality is out of the codec's range.
    InvalidLevel {
        /// Name of the codec.
        codec: &'static str,
        /// The level asked for.
        level: i32,
        /// The lowest level.
        min: i32,
        /// The highest level.
        max: i32,
    },
    /// A dictionary cannot be made, read or used with this codec.
    Dictionary(Cow<'static, str>),
    /// A user's codec cannot be registered.
    Registration(Cow<'static, str>),
    /// Memory or another resource was not to be had.
    Unavailable(Cow<'static, str>),
}

impl CodecError {
    /// Bytes that do not follow the format of `codec`; meant for users' own codecs too.
    pub fn malformed(codec: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> CodecError {
        CodecError::Malformed { codec: codec.into(), detail: detail.into() }
    }

    pub(crate) fn out_of_memory(len: usize) -> CodecError {
        CodecError::Unavailable(format!("no memory for a buffer of {len} bytes").into())
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::UnknownId(id) if *id >= crate::id::CUSTOM_ID_MIN => {
                write!(f, "codec {id} is a user's own and is not registered; register it before opening the database")
            }
            CodecError::UnknownId(id) => write!(f, "codec {id} is not known to this version"),
            CodecError::UnknownFilter(id) => write!(f, "block filter {id} is not known to this version"),
            CodecError::UnknownName(name) => write!(
                f,
                "'{name}' is not a codec; known are none, lz4, lz4hc[:LEVEL], snappy, zstd[:LEVEL], brotli[:QUALITY] and custom:ID[:LEVEL]"
            ),
            CodecError::Malformed { codec, detail } => write!(f, "malformed {codec} data: {detail}"),
            CodecError::WrongLength { expected, actual: Some(actual) } => {
                write!(f, "the data stands for {actual} bytes where {expected} are expected")
            }
            CodecError::WrongLength { expected, actual: None } => {
                write!(f, "the data stands for more than the {expected} bytes that are expected")
            }
            CodecError::TooLarge { len, max } => {
                write!(f, "{len} bytes are too many for one block; at most {max} are possible")
            }
            CodecError::InvalidLevel { codec, level, min, max } => {
                write!(f, "{codec} has no level {level}; its levels go from {min} to {max}")
            }
            CodecError::Dictionary(detail) => write!(f, "dictionary: {detail}"),
            CodecError::Registration(detail) => write!(f, "cannot register the codec: {detail}"),
            CodecError::Unavailable(detail) => f.write_str(detail),
        }
    }
}

impl std::error::Error for CodecError {}
