//! What `info`, `stats`, `tree` and `cf` say about a column family and its levels.

use lignite::{CfOptions, CodecCounters, DictionaryPolicy, FamilyStats, FilterPolicy, LevelStats};
use serde::Serialize;

/// Options of a family.
#[derive(Serialize)]
pub struct OptionsDocument {
    codec_young: String,
    codec_deep: String,
    codec_bottom: String,
    codec_keys: Option<String>,
    min_saving: u8,
    /// 0 is auto.
    block_size: usize,
    dictionary: &'static str,
    dictionary_bytes: Option<u32>,
    transpose: bool,
    objective: Option<String>,
    filter: &'static str,
    filter_bits_per_key: Option<u8>,
    table_size: u64,
    level0_trigger: usize,
    base_level_size: u64,
    fan_out: u32,
    tombstone_percent: u8,
}

impl OptionsDocument {
    /// Of these.
    pub fn of(options: &CfOptions) -> OptionsDocument {
        let (filter, filter_bits_per_key) = match options.filter {
            FilterPolicy::None => ("none", None),
            FilterPolicy::Auto { bits_per_key } => ("auto", Some(bits_per_key)),
            FilterPolicy::Bloom { bits_per_key } => ("bloom", Some(bits_per_key)),
        };
        let (dictionary, dictionary_bytes) = match options.dictionary {
            DictionaryPolicy::Auto { size } => ("auto", Some(size)),
            DictionaryPolicy::Wanted { size } => ("wanted", Some(size)),
            _ => ("none", None),
        };
        OptionsDocument {
            codec_young: options.compression.young.to_string(),
            codec_deep: options.compression.deep.to_string(),
            codec_bottom: options.compression.bottom.to_string(),
            codec_keys: options.compression.keys.map(|c| c.to_string()),
            min_saving: options.compression.min_saving,
            block_size: options.block_size,
            dictionary,
            dictionary_bytes,
            transpose: options.transpose,
            objective: options.objective.map(|o| o.to_string()),
            filter,
            filter_bits_per_key,
            table_size: options.table_size,
            level0_trigger: options.level0_trigger,
            base_level_size: options.base_level_size,
            fan_out: options.fan_out,
            tombstone_percent: options.tombstone_percent,
        }
    }
}

/// Tables of a family taken together.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Totals {
    /// Tables.
    pub tables: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Bytes of keys and values in them.
    pub raw_bytes: u64,
    /// Entries, deletes among them.
    pub entries: u64,
}

impl Totals {
    /// Over all levels.
    pub fn of(stats: &FamilyStats) -> Totals {
        stats.levels.iter().fold(Totals::default(), |sum, l| Totals {
            tables: sum.tables + l.tables as u64,
            bytes: sum.bytes + l.bytes,
            raw_bytes: sum.raw_bytes + l.raw_bytes,
            entries: sum.entries + l.entries,
        })
    }
}

/// One level.
#[derive(Serialize)]
pub struct LevelDocument {
    level: usize,
    tables: usize,
    bytes: u64,
    raw_bytes: u64,
    entries: u64,
    deletes: u64,
    range_deletes: u64,
    target_bytes: u64,
    score: f64,
}

impl LevelDocument {
    /// Of this one.
    pub fn of(level: &LevelStats) -> LevelDocument {
        LevelDocument {
            level: level.level,
            tables: level.tables,
            bytes: level.bytes,
            raw_bytes: level.raw_bytes,
            entries: level.entries,
            deletes: level.deletes,
            range_deletes: level.range_deletes,
            target_bytes: level.target_bytes,
            // JSON has no infinity; a level with no target is never due.
            score: if level.score.is_finite() { level.score } else { 0.0 },
        }
    }
}

/// Work of one codec on one level since the database was opened.
#[derive(Serialize)]
pub struct CodecDocument {
    level: usize,
    codec: String,
    encoded_parts: u64,
    encoded_raw_bytes: u64,
    encoded_stored_bytes: u64,
    encode_nanos: u64,
    decoded_parts: u64,
    decoded_stored_bytes: u64,
    decoded_raw_bytes: u64,
    decode_nanos: u64,
}

impl CodecDocument {
    /// Of these counters.
    pub fn of(level: usize, codec: &str, counters: &CodecCounters) -> CodecDocument {
        CodecDocument {
            level,
            codec: codec.to_string(),
            encoded_parts: counters.encoded_parts,
            encoded_raw_bytes: counters.encoded_raw_bytes,
            encoded_stored_bytes: counters.encoded_stored_bytes,
            encode_nanos: counters.encode_nanos,
            decoded_parts: counters.decoded_parts,
            decoded_stored_bytes: counters.decoded_stored_bytes,
            decoded_raw_bytes: counters.decoded_raw_bytes,
            decode_nanos: counters.decode_nanos,
        }
    }
}
