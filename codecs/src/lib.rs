//! The block codecs of Lignite: none, LZ4 (fast and high-effort), Snappy, Zstandard with dictionaries, and Brotli.
//!
//! A block is compressed as a whole and appended to a buffer; the file around it keeps the codec's
//! id, the length and the checksums, so the compressed form holds none of them.
//!
//! ```
//! use lignite_codecs::{Codec, compress, decompress};
//!
//! let block = b"key-0001 value key-0002 value key-0003 value key-0004 value".repeat(8);
//! for codec in ["none", "lz4", "lz4hc:9", "snappy", "zstd:3", "brotli:4"] {
//!     let codec: Codec = codec.parse()?;
//!     let mut stored = Vec::new();
//!     compress(codec, &block, None, &mut stored)?;
//!
//!     let mut back = vec![0; block.len()];
//!     decompress(codec.id(), &stored, &mut back, None)?;
//!     assert_eq!(back, block);
//! }
//! # Ok::<(), lignite_codecs::CodecError>(())
//! ```
//!
//! Compressed bytes may be damaged or hostile. [`decompress`] never panics, writes only into the
//! buffer it is given, and allocates nothing whose size the bytes decide beyond the bound that
//! each codec states. It fills the buffer exactly or fails, and then the buffer is zeroed, so that
//! half a block can never be taken for one:
//!
//! ```
//! use lignite_codecs::{CodecError, decompress, id};
//!
//! let mut back = [1; 4];
//! assert!(matches!(decompress(id::LZ4, b"\xf0", &mut back, None), Err(CodecError::Malformed { .. })));
//! assert_eq!(back, [0; 4]);
//! ```
//!
//! [`Filter`] is what bytes may pass through before their codec: rows of numbers, laid out by columns,
//! shrink by far more than a heavier codec would gain.
//!
//! [`looks_random`] tells noise, on which no codec need be tried, by a sample of it.
//!
//! [`Dictionary`] holds what blocks of one kind have in common: blocks of 4 KiB then compress like
//! blocks of 16 KiB. [`register`] adds a codec of the user's own:
//!
//! ```
//! use std::sync::Arc;
//! use lignite_codecs::{BlockCodec, Codec, CodecError, Dictionary, compress, decompress, register};
//!
//! /// Turns every bit over; of use to nobody.
//! struct Inverse;
//!
//! impl BlockCodec for Inverse {
//!     fn id(&self) -> u8 { 200 }
//!     fn name(&self) -> &str { "inverse" }
//!     fn compress(&self, src: &[u8], _: i32, _: Option<&Dictionary>, out: &mut Vec<u8>) -> Result<(), CodecError> {
//!         out.extend(src.iter().map(|byte| !byte));
//!         Ok(())
//!     }
//!     fn decompress(&self, src: &[u8], dst: &mut [u8], _: Option<&Dictionary>) -> Result<(), CodecError> {
//!         if src.len() != dst.len() {
//!             return Err(CodecError::WrongLength { expected: dst.len(), actual: Some(src.len()) });
//!         }
//!         dst.iter_mut().zip(src).for_each(|(to, from)| *to = !from);
//!         Ok(())
//!     }
//! }
//!
//! register(Arc::new(Inverse))?;
//! let mut stored = Vec::new();
//! compress(Codec::Custom { id: 200, level: 0 }, b"block", None, &mut stored)?;
//! let mut back = [0; 5];
//! decompress(200, &stored, &mut back, None)?;
//! assert_eq!(&back, b"block");
//! # Ok::<(), CodecError>(())
//! ```
#![deny(unsafe_code)]

mod brotli;
mod codec;
mod dict;
mod entropy;
mod error;
mod filter;
pub mod id;
mod lz4;
mod lz4hc;
mod none;
mod output;
mod registry;
mod scratch;
mod snappy;
mod zdict;
mod zstd;

pub use codec::{BLOCK_LEN_MAX, Codec, codec_name, compress, decompress, is_known, takes_dictionary};
pub use dict::{DICTIONARY_LEN_MAX, DICTIONARY_LEN_MIN, Dictionary, TRAINING_LEN_MAX, TRAINING_SAMPLES_MIN};
pub use entropy::looks_random;
pub use error::CodecError;
pub use filter::{Filter, compress_filtered, decompress_filtered, filtered, unfiltered};
pub use id::CUSTOM_ID_MIN;
pub use registry::{BlockCodec, register};
