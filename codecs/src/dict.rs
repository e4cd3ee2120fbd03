//! Dictionaries: bytes that blocks of one kind have in common, given to encoder and decoder alike.
//!
//! One dictionary serves Zstandard (trained tables and content) and LZ4 (content alone). What
//! Zstandard makes of it is digested once per level for compression and once for decompression,
//! what high-effort LZ4 makes of it once for all levels; when first needed, and shared by every [`Dictionary`] of the same bytes in the process: each
//! table holds its own copy on disk, and opening a thousand of them must not digest a thousand.
//!
//! Always true: a `Dictionary` has between [`DICTIONARY_LEN_MIN`] and [`DICTIONARY_LEN_MAX`]
//! bytes, and if they claim to be a trained one, Zstandard has accepted them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};

use xxhash_rust::xxh3::xxh3_64;
use zstd_safe::{CDict, DDict};

use crate::error::CodecError;
use crate::id::{ZSTD_LEVEL_MAX as LEVEL_MAX, ZSTD_LEVEL_MIN as LEVEL_MIN};
use crate::lz4hc::chains::Digest;

/// The fewest bytes of a dictionary; fewer are of no use to any codec.
pub const DICTIONARY_LEN_MIN: usize = 8;
/// The most bytes of a dictionary.
pub const DICTIONARY_LEN_MAX: usize = 1 << 20;
/// The fewest samples that a dictionary can be trained on.
pub const TRAINING_SAMPLES_MIN: usize = 8;
/// The most bytes of samples that a dictionary can be trained on. One or two MiB are enough.
pub const TRAINING_LEN_MAX: usize = 64 << 20;

/// A dictionary, checked and shared; cloning it is cheap.
///
/// ```
/// use lignite_codecs::{Codec, Dictionary, compress, decompress, id};
///
/// let records: Vec<String> =
///     (0..400).map(|i| format!("{{\"id\":{i},\"kind\":\"order\",\"state\":\"paid\",\"sum\":{}}}", i * 37 % 1000)).collect();
/// let samples: Vec<&[u8]> = records.iter().map(|record| record.as_bytes()).collect();
/// let dictionary = Dictionary::train(&samples, 2048)?;
///
/// let codec = Codec::Zstd { level: 3 };
/// let (mut with, mut without) = (Vec::new(), Vec::new());
/// compress(codec, samples[7], Some(&dictionary), &mut with)?;
/// compress(codec, samples[7], None, &mut without)?;
/// assert!(with.len() < without.len());
///
/// let mut back = vec![0; samples[7].len()];
/// decompress(id::ZSTD, &with, &mut back, Some(&dictionary))?;
/// assert_eq!(back, samples[7]);
/// # Ok::<(), lignite_codecs::CodecError>(())
/// ```
#[derive(Clone)]
pub struct Dictionary {
    shared: Arc<Shared>,
}

impl Dictionary {
    /// A dictionary of these bytes: one that [`train`](Dictionary::train) made, or any content.
    ///
    /// Fails if there are too few or too many bytes, or if they begin like a trained dictionary
    /// and are damaged.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Dictionary, CodecError> {
        if !(DICTIONARY_LEN_MIN..=DICTIONARY_LEN_MAX).contains(&bytes.len()) {
            return Err(refused(format!(
                "{} bytes are not between {DICTIONARY_LEN_MIN} and {DICTIONARY_LEN_MAX}",
                bytes.len()
            )));
        }
        let hash = xxh3_64(&bytes);
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = live.get(&hash).and_then(Weak::upgrade) {
            if *shared.bytes == *bytes {
                return Ok(Dictionary { shared });
            }
            // Two contents with one hash: the second one lives alone.
            return Dictionary::checked(bytes, hash);
        }
        let dictionary = Dictionary::checked(bytes, hash)?;
        live.retain(|_, shared| shared.strong_count() > 0);
        live.insert(hash, Arc::downgrade(&dictionary.shared));
        Ok(dictionary)
    }

    /// Trains a dictionary of at most `max_size` bytes on samples, best whole blocks as they will
    /// be compressed, a hundred times `max_size` in all. Takes about 90 ms a MiB of samples.
    ///
    /// Samples of fewer than eight bytes are passed over. Fails if fewer than
    /// [`TRAINING_SAMPLES_MIN`] are left, or if they have too little in common.
    pub fn train(samples: &[&[u8]], max_size: usize) -> Result<Dictionary, CodecError> {
        let Gathered { joined, lens, total } = gather(samples, max_size)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(max_size).map_err(|_| CodecError::out_of_memory(max_size))?;
        zstd_safe::train_from_buffer(&mut bytes, &joined, &lens).map_err(|code| {
            refused(format!(
                "{} samples of {total} bytes in all do not make a dictionary; give more or longer ones ({})",
                lens.len(),
                zstd_safe::get_error_name(code)
            ))
        })?;
        bytes.truncate(max_size);
        Dictionary::from_bytes(bytes)
    }

    /// A dictionary of at most `max_size` bytes with the samples' own content, chosen at even distances, under
    /// statistics that are taken of them all. Costs about 5 ms a MiB of samples, a twentieth of
    /// [`train`](Dictionary::train), and has most of its gain.
    ///
    /// Fails as [`train`](Dictionary::train) does.
    pub fn finalize(samples: &[&[u8]], max_size: usize, level: i32) -> Result<Dictionary, CodecError> {
        let Gathered { joined, lens, total } = gather(samples, max_size)?;
        // What the header and the statistics take, at most; the content's beginning would be cut off for them.
        const HEADER_LEN_MAX: usize = 512;
        let content_len = max_size.saturating_sub(HEADER_LEN_MAX).max(TRAINED_LEN_MIN.min(max_size)).min(total);
        let content = spread(&joined, content_len);
        let bytes = crate::zdict::finalize(&content, &joined, &lens, max_size, level)?;
        Dictionary::from_bytes(bytes)
    }

    /// The dictionary's bytes, as files hold them.
    pub fn bytes(&self) -> &[u8] {
        &self.shared.bytes
    }

    /// XXH3-64 of the bytes, by which files and the process know the dictionary.
    pub fn hash(&self) -> u64 {
        self.shared.hash
    }

    /// The bytes of memory that the dictionary takes now, digested forms included. It grows when
    /// a level is used for the first time; all dictionaries of the same bytes share it.
    pub fn memory_size(&self) -> usize {
        let shared = &self.shared;
        let compression: usize = shared.compression.iter().filter_map(OnceLock::get).flatten().map(CDict::sizeof).sum();
        let decompression = shared.decompression.get().and_then(Option::as_ref).map_or(0, DDict::sizeof);
        let lz4hc = shared.lz4hc.get().map_or(0, Digest::memory_size);
        size_of::<Shared>() + shared.bytes.len() + compression + decompression + lz4hc
    }

    /// The form that zstd compresses with at `level`, digested at the first call.
    pub(crate) fn for_compression(&self, level: i32) -> Result<&CDict<'static>, CodecError> {
        // Level 0 means zstd's default, as everywhere.
        let level = if level == 0 { zstd_safe::CLEVEL_DEFAULT } else { level };
        let slot = usize::try_from(level - LEVEL_MIN).ok().and_then(|at| self.shared.compression.get(at));
        slot.and_then(|slot| slot.get_or_init(|| CDict::try_create(self.bytes(), level)).as_ref())
            .ok_or_else(|| refused(format!("zstd cannot digest it for level {level}")))
    }

    /// The form that zstd decompresses with, digested at the first call.
    pub(crate) fn for_decompression(&self) -> Result<&DDict<'static>, CodecError> {
        let slot = &self.shared.decompression;
        slot.get_or_init(|| DDict::try_create(self.bytes()))
            .as_ref()
            .ok_or_else(|| refused("it begins like a trained one and is damaged"))
    }

    /// The form that high-effort LZ4 compresses with, digested at the first call.
    pub(crate) fn for_lz4hc(&self) -> &Digest {
        self.shared.lz4hc.get_or_init(|| Digest::new(self.bytes()))
    }

    fn checked(bytes: Vec<u8>, hash: u64) -> Result<Dictionary, CodecError> {
        let trained = bytes.starts_with(&zstd_safe::MAGIC_DICTIONARY.to_le_bytes());
        let shared = Shared {
            bytes: bytes.into_boxed_slice(),
            hash,
            compression: [const { OnceLock::new() }; LEVELS],
            decompression: OnceLock::new(),
            lz4hc: OnceLock::new(),
        };
        let dictionary = Dictionary { shared: Arc::new(shared) };
        if trained {
            dictionary.for_decompression()?;
        }
        Ok(dictionary)
    }
}

impl PartialEq for Dictionary {
    fn eq(&self, other: &Dictionary) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared) || self.bytes() == other.bytes()
    }
}

impl Eq for Dictionary {}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dictionary({} bytes, hash {:016x})", self.bytes().len(), self.hash())
    }
}

/// The trainer's own least size.
const TRAINED_LEN_MIN: usize = 256;

/// Samples back to back, as trainers take them.
struct Gathered {
    joined: Vec<u8>,
    lens: Vec<usize>,
    total: usize,
}

fn gather(samples: &[&[u8]], max_size: usize) -> Result<Gathered, CodecError> {
    // Trainers hash eight bytes at a time, and count on every sample to have them.
    const SAMPLE_LEN_MIN: usize = 8;
    if !(TRAINED_LEN_MIN..=DICTIONARY_LEN_MAX).contains(&max_size) {
        return Err(refused(format!(
            "a trained dictionary of {max_size} bytes is not between {TRAINED_LEN_MIN} and {DICTIONARY_LEN_MAX}"
        )));
    }
    let used = || samples.iter().filter(|sample| sample.len() >= SAMPLE_LEN_MIN);
    let lens: Vec<usize> = used().map(|sample| sample.len()).collect();
    if lens.len() < TRAINING_SAMPLES_MIN {
        return Err(refused(format!(
            "training needs at least {TRAINING_SAMPLES_MIN} samples of {SAMPLE_LEN_MIN} bytes or more; there are {}",
            lens.len()
        )));
    }
    let total = lens.iter().fold(0usize, |total, len| total.saturating_add(*len));
    if total > TRAINING_LEN_MAX {
        return Err(refused(format!("{total} bytes of samples are too many; at most {TRAINING_LEN_MAX} are used")));
    }
    let mut joined = Vec::new();
    joined.try_reserve_exact(total).map_err(|_| CodecError::out_of_memory(total))?;
    used().for_each(|sample| joined.extend_from_slice(sample));
    Ok(Gathered { joined, lens, total })
}

/// `len` bytes of `joined`, in pieces of 1 KiB at even distances.
fn spread(joined: &[u8], len: usize) -> Vec<u8> {
    const PIECE_LEN: usize = 1 << 10;
    let pieces = len.div_ceil(PIECE_LEN).max(1);
    let mut content = Vec::with_capacity(len);
    for piece in 0..pieces {
        let from = joined.len() * piece / pieces;
        let want = PIECE_LEN.min(len - content.len()).min(joined.len() - from);
        content.extend_from_slice(&joined[from..from + want]);
    }
    content
}

const LEVELS: usize = (LEVEL_MAX - LEVEL_MIN + 1) as usize;

/// One content and what was made of it; none in a slot means that zstd refused.
struct Shared {
    bytes: Box<[u8]>,
    hash: u64,
    compression: [OnceLock<Option<CDict<'static>>>; LEVELS],
    decompression: OnceLock<Option<DDict<'static>>>,
    lz4hc: OnceLock<Digest>,
}

/// The dictionaries in use, by hash. An entry dies with its last user and is swept at the next
/// insertion, so that the map never holds more than was ever in use at once.
static LIVE: LazyLock<Mutex<HashMap<u64, Weak<Shared>>>> = LazyLock::new(Mutex::default);

fn refused(detail: impl Into<Cow<'static, str>>) -> CodecError {
    CodecError::Dictionary(detail.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn equal_bytes_share_their_digests() {
        let bytes = b"a content that two tables have in common".repeat(20);
        let (one, two) = (Dictionary::from_bytes(bytes.clone()).unwrap(), Dictionary::from_bytes(bytes).unwrap());
        assert!(Arc::ptr_eq(&one.shared, &two.shared));
        let before = two.memory_size();
        one.for_compression(3).unwrap();
        let digested = two.memory_size();
        assert!(digested > before);
        one.for_compression(0).unwrap();
        assert_eq!(two.memory_size(), digested, "level 0 is level 3");
        one.for_decompression().unwrap();
        assert!(two.memory_size() > digested);
        assert!(one.for_compression(LEVEL_MAX + 1).is_err() && one.for_compression(LEVEL_MIN - 1).is_err());
    }

    #[test]
    fn the_registry_holds_only_what_is_in_use() {
        let make = |i: u32| Dictionary::from_bytes(format!("short-lived content {i}").into_bytes()).unwrap();
        let hashes: Vec<u64> = (0..50).map(|i| make(i).hash()).collect();
        let _last = make(50);
        let live = LIVE.lock().unwrap();
        assert!(hashes.iter().all(|hash| !live.contains_key(hash)));
    }
}
