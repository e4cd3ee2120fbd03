//! A data block between the builder that gathered it and the file: to be compressed, on any thread, and then to
//! be sealed where it lies.

use crate::clock::Clock;
use crate::error::Result;
use crate::frame::{self, Codec, FrameOptions, Meter, StoredValues, Unsealed};
use crate::key::SeqNo;
use crate::metrics::FamilyMetrics;
use crate::sync::Arc;
use crate::table::line::{Task, WAKE_NANOS};
use crate::table::veto::Verdict;

/// The encoding time of so many bytes, estimated from codec and level. Too low rather than too high.
pub fn encode_nanos(codec: Codec, raw_len: usize) -> u64 {
    let tenths = match codec {
        Codec::None => 0,
        Codec::Lz4 | Codec::Snappy => 10,
        Codec::Zstd { level: ..0 } => 15,
        Codec::Zstd { level: 1..=2 } => 25,
        Codec::Zstd { level: 0 | 3..=5 } => 40,
        Codec::Zstd { level: 6..=12 } => 150,
        Codec::Zstd { .. } => 500,
        Codec::Lz4hc { .. } => 100,
        Codec::Brotli { quality: 0..=4 } => 50,
        Codec::Brotli { .. } => 200,
        _ => 20,
    };
    raw_len as u64 * tenths / 10
}

/// True if a block of this size takes its codecs so long that another core is worth asking. LZ4 and Snappy are
/// done before a core could be asked, whatever the size.
pub fn is_slow(keys: Codec, values: Codec, block_size: usize) -> bool {
    // Most of a block is values; where they are not, keys are usually of the same codec.
    let slower = if encode_nanos(keys, 1024) > encode_nanos(values, 1024) { keys } else { values };
    !matches!(slower, Codec::None | Codec::Lz4 | Codec::Snappy) && encode_nanos(slower, block_size) >= WAKE_NANOS
}

/// What of a block is known before it is compressed and needed when it is sealed.
#[derive(Debug)]
pub struct Closed {
    /// Entries.
    pub entries: u32,
    /// Smallest sequence number.
    pub seq_min: SeqNo,
    /// Largest sequence number.
    pub seq_max: SeqNo,
    /// What separates it from the next block.
    pub last_key: Vec<u8>,
    /// What is to become of the keys part and of the values part.
    pub verdicts: [Verdict; 2],
    /// How long it is taken to be until it is written.
    pub expected_len: u64,
}

/// A block to be compressed.
pub struct Encoding {
    /// How.
    pub frame: FrameOptions,
    /// The raw keys part.
    pub keys: Vec<u8>,
    /// The raw values part.
    pub values: Vec<u8>,
    /// The values part as it is to be stored, if that is known.
    pub known: Option<StoredValues>,
    /// Both parts as stored, once the task has run.
    pub stored: Vec<u8>,
    /// What is known without compressing it.
    pub closed: Closed,
    /// Where the codecs' times are counted.
    pub metrics: Arc<FamilyMetrics>,
    /// The level that they are counted for.
    pub level: usize,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// What came out.
    pub outcome: Option<Result<Unsealed>>,
}

impl Encoding {
    /// How long it will take.
    pub fn nanos(&self) -> u64 {
        let values = if self.known.is_some() { 0 } else { encode_nanos(self.frame.values, self.values.len()) };
        encode_nanos(self.frame.keys, self.keys.len()) + values
    }

    /// Bytes of both parts before compression.
    pub fn raw_len(&self) -> usize {
        self.keys.len() + self.values.len()
    }

    /// Appends both parts as stored to `out`.
    pub fn compress(&self, out: &mut Vec<u8>) -> Result<Unsealed> {
        let meter = Meter { clock: &*self.clock, level: &self.metrics.levels[self.level] };
        match &self.known {
            Some(known) => frame::compress_beside(&self.frame, &self.keys, known, Some(meter), out),
            None => frame::compress(&self.frame, &self.keys, &self.values, Some(meter), out),
        }
    }
}

impl Task for Encoding {
    fn run(&mut self) {
        let mut stored = std::mem::take(&mut self.stored);
        stored.clear();
        self.outcome = Some(self.compress(&mut stored));
        self.stored = stored;
    }
}
