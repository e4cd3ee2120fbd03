//! Options: plain data, checked once, in two blocks: what changes meaning and what changes speed.
//!
//! Live objects (file system, clock, listener) are not options; they belong to
//! [`Builder`](crate::Builder).

use std::fmt;
use std::time::Duration;

pub use lignite_codecs::{BlockCodec, Codec, CodecError, Dictionary, register as register_codec};

use crate::error::{Error, Result};

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// The whole record is in the operating system's memory before the call returns: it survives
    /// the death of the process, not the loss of power. A background sync follows within
    /// [`Options::sync_interval`].
    #[default]
    Buffered,
    /// The record is on the device before the call returns: it survives the loss of power. Costs a
    /// device sync, shared by all writers who wait at the time.
    Sync,
}

/// What an open does about damage in the log: bytes that were durable and have changed since. A torn
/// tail, which an unclean stop leaves, is no damage and always cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LogRecovery {
    /// The open fails with `Corruption` and changes nothing.
    #[default]
    Strict,
    /// The open keeps the state before the damage and loses every later write, also undamaged ones:
    /// nothing is replayed behind a gap. The log segments from there on are kept under other names
    /// (`nnnnnn.wal.damaged`), and [`RecoveryStats`](crate::RecoveryStats) says how much it was.
    SalvagePrefix,
}

/// How records get into the log. What a write guarantees is the same either way: when it returns, the
/// record is in the operating system's memory, and a sync of the device makes it durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LogMode {
    /// `Mapped` on ext4 and XFS under Linux, `Positioned` elsewhere.
    #[default]
    Auto,
    /// By stores into a memory map of the log, whose space is written ahead with zeros: a write makes no
    /// system call, unless writers wait for the device most of the time. `Positioned` where files cannot be
    /// mapped. A device that fails to read back a page of the log, or somebody who cuts the file, ends the
    /// process (`SIGBUS`); on a file system that copies on write a full disk can do the same. For tests, and for
    /// file systems that you know to be sound.
    Mapped,
    /// By a positioned write for each group of batches.
    Positioned,
}

/// Options of a database.
///
/// ```
/// use lignite::{Durability, Options};
/// let options = Options::new().memory_budget(64 << 20).durability(Durability::Sync);
/// options.validate()?;
/// # Ok::<(), lignite::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Options {
    // What changes meaning.
    /// Make the database if it is not there. Default: true.
    pub create_if_missing: bool,
    /// Fail with `AlreadyExists` if it is there. Default: false.
    pub error_if_exists: bool,
    /// Durability of writes that do not name one. Default: [`Durability::Buffered`].
    pub durability: Durability,
    /// The longest time that a buffered write stays without a sync; zero for no background sync.
    /// Default: 1 s.
    pub sync_interval: Duration,
    /// How long a call may wait for flush and compaction, its own or others', without seeing any of
    /// it succeed before it fails with `Stalled`. Default: 60 s.
    pub stall_timeout: Duration,
    /// Bytes of disk that are kept allocated, in a file named `RESERVE`, and given back when the
    /// disk is full, so that deletes, flush and compaction can still go on and make room. Writes
    /// that need more space fail with `NoSpace` until the reserve can be made again. On a small disk
    /// less is taken. 0 for none. Default: 16 MiB.
    pub reserve_size: u64,
    /// What to do about damage in the log. Default: [`LogRecovery::Strict`].
    pub log_recovery: LogRecovery,

    // What changes speed.
    /// Bytes of memory for block cache, indexes, filters and memtables together. Memtables take at
    /// most half. Default: 256 MiB. More is faster as long as the machine has it.
    pub memory_budget: usize,
    /// A memtable is sealed at this many bytes, or earlier when those that are written to, of all families
    /// together, take an eighth of the budget: more than that has no effect. Default: 32 MiB. Larger ones make
    /// fewer, larger tables, more memory in use and longer waits while one is flushed.
    pub memtable_size: usize,
    /// Bytes of log that may be needed for replay; past it the family that pins the oldest segment
    /// is flushed. Default: 256 MiB, eight memtables. Bounds the time of the next open after a crash.
    pub log_size_max: u64,
    /// Size at which a log segment is closed and the next begun. Default: 32 MiB.
    pub log_segment_size: u64,
    /// How records get into the log. Default: [`LogMode::Auto`]. `Positioned` for who would rather pay a
    /// system call a write than map a file.
    pub log_mode: LogMode,
    /// Threads for flush and compaction; a large compaction uses those that have nothing else to do. 0 runs every job on the thread that needs it (for tests).
    /// Default: the number of cores, at least 2 and at most 8.
    pub background_threads: usize,
    /// Threads of the pool that decodes blocks ahead of scans and for `multi_get`; the pool is
    /// shared by the whole process, so the first database decides. 0 decodes on the caller's
    /// thread only. Default: the number of cores less one.
    pub decode_threads: usize,
    /// Tables kept open at once. Default: 1000. Raise it together with the descriptor limit.
    pub open_tables_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        let cores = crate::sync::available_parallelism();
        Options {
            create_if_missing: true,
            error_if_exists: false,
            durability: Durability::Buffered,
            sync_interval: Duration::from_secs(1),
            stall_timeout: Duration::from_secs(60),
            reserve_size: 16 << 20,
            log_recovery: LogRecovery::Strict,
            memory_budget: 256 << 20,
            memtable_size: 32 << 20,
            log_size_max: 256 << 20,
            log_segment_size: 32 << 20,
            log_mode: LogMode::Auto,
            background_threads: cores.clamp(2, 8),
            decode_threads: cores - 1,
            open_tables_max: 1000,
        }
    }
}

macro_rules! setters {
    ($($name:ident: $type:ty),* $(,)?) => {
        $(
            #[doc = concat!("Sets `", stringify!($name), "`; see the field.")]
            #[must_use]
            pub fn $name(mut self, $name: $type) -> Self {
                self.$name = $name;
                self
            }
        )*
    };
}

impl Options {
    /// The defaults.
    pub fn new() -> Options {
        Options::default()
    }

    setters! {
        create_if_missing: bool,
        error_if_exists: bool,
        durability: Durability,
        sync_interval: Duration,
        stall_timeout: Duration,
        reserve_size: u64,
        log_recovery: LogRecovery,
        memory_budget: usize,
        memtable_size: usize,
        log_size_max: u64,
        log_segment_size: u64,
        log_mode: LogMode,
        background_threads: usize,
        decode_threads: usize,
        open_tables_max: usize,
    }

    /// Fails with `InvalidArgument` if a value is out of range.
    pub fn validate(&self) -> Result<()> {
        let at_least = |name: &str, value: u64, min: u64| {
            if value < min {
                return Err(Error::invalid(format!("option {name} is {value}; it must be at least {min}")));
            }
            Ok(())
        };
        at_least("memory_budget", self.memory_budget as u64, 1 << 20)?;
        at_least("memtable_size", self.memtable_size as u64, 16 << 10)?;
        at_least("log_segment_size", self.log_segment_size, 16 << 10)?;
        at_least("log_size_max", self.log_size_max, self.log_segment_size)?;
        at_least("open_tables_max", self.open_tables_max as u64, 16)?;
        Ok(())
    }
}

/// Which codec a column family's blocks get, by the depth of the level they are written to.
///
/// Blocks name their own codec, so changing this never makes data unreadable: it holds for blocks
/// written from then on.
///
/// ```
/// use lignite::{Codec, Compression};
/// let c = Compression::zstd(3);                                  // every level
/// let d = Compression::default().bottom(Codec::Zstd { level: 9 }); // LZ4 young, zstd 1 deep, zstd 9 bottom
/// assert_ne!(c, d);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compression {
    /// Levels 0 and the base level, which are rewritten soon. Default: LZ4.
    pub young: Codec,
    /// Levels in between. Default: Zstandard 1.
    pub deep: Codec,
    /// The bottommost level, where most of the data lies. Default: Zstandard 3.
    pub bottom: Codec,
    /// Codec of the keys part where it should differ from that of the values; none for the same.
    pub keys: Option<Codec>,
    /// A part is stored raw if compression saves less than this many 1/256 of it. Default: 16
    /// (1/16): raw blocks are read at the speed of a copy.
    pub min_saving: u8,
}

impl Default for Compression {
    fn default() -> Compression {
        Compression {
            young: Codec::Lz4,
            deep: Codec::Zstd { level: 1 },
            bottom: Codec::Zstd { level: 3 },
            keys: None,
            min_saving: 16,
        }
    }
}

impl Compression {
    /// One codec for every level.
    pub fn all(codec: Codec) -> Compression {
        Compression { young: codec, deep: codec, bottom: codec, ..Compression::default() }
    }

    /// No compression.
    pub fn none() -> Compression {
        Compression::all(Codec::None)
    }

    /// LZ4 for every level.
    pub fn lz4() -> Compression {
        Compression::all(Codec::Lz4)
    }

    /// High-effort LZ4 at `level` (1 to 12; 9 is a good one) for every level: smaller than LZ4, and read as fast.
    pub fn lz4hc(level: u8) -> Compression {
        Compression::all(Codec::Lz4hc { level })
    }

    /// Snappy for every level.
    pub fn snappy() -> Compression {
        Compression::all(Codec::Snappy)
    }

    /// Zstandard at `level` (-7 to 22) for every level.
    pub fn zstd(level: i32) -> Compression {
        Compression::all(Codec::Zstd { level })
    }

    /// Brotli at `quality` (0 to 11) for every level.
    pub fn brotli(quality: u8) -> Compression {
        Compression::all(Codec::Brotli { quality })
    }

    setters! {
        young: Codec,
        deep: Codec,
        bottom: Codec,
        min_saving: u8,
    }

    /// Sets the codec of the keys part.
    #[must_use]
    pub fn keys(mut self, codec: Codec) -> Compression {
        self.keys = Some(codec);
        self
    }

    /// The codec for values written at this depth.
    pub fn codec_at(&self, depth: Depth) -> Codec {
        match depth {
            Depth::Young => self.young,
            Depth::Deep => self.deep,
            Depth::Bottom => self.bottom,
        }
    }

    /// Fails if a level or quality is out of its codec's range.
    pub fn validate(&self) -> Result<()> {
        for codec in [Some(self.young), Some(self.deep), Some(self.bottom), self.keys].into_iter().flatten() {
            codec.validate().map_err(|e| Error::invalid(e.to_string()))?;
        }
        Ok(())
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.young == self.deep && self.deep == self.bottom {
            write!(f, "{}", self.bottom)?;
        } else {
            write!(f, "{}/{}/{}", self.young, self.deep, self.bottom)?;
        }
        if let Some(keys) = self.keys {
            write!(f, " keys {keys}")?;
        }
        Ok(())
    }
}

/// How deep a table lies, as far as compression and filters care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Depth {
    /// Level 0 and the base level.
    Young,
    /// Below the base level, above the last one.
    Deep,
    /// The last level that holds data.
    Bottom,
}

/// How a family's filters are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterPolicy {
    /// No filters: for families that are only scanned.
    None,
    /// A cache-line-blocked Bloom filter of so many bits a key in young levels, and binary fuse-8
    /// (9 bits a key, 0.4 % false positives) below.
    Auto {
        /// Bits a key of the Bloom filters, 4 to 30.
        bits_per_key: u8,
    },
    /// Bloom filters of so many bits a key, 4 to 30, in every level.
    Bloom {
        /// Bits a key.
        bits_per_key: u8,
    },
}

/// Whether blocks of the deeper levels are compressed with a dictionary: what blocks of the family have in
/// common, given to encoder and decoder alike. It makes small blocks nearly as small on disk as large ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DictionaryPolicy {
    /// None.
    None,
    /// Compactions below the young levels sample their inputs, make a dictionary, and use it if blocks that it
    /// was not made of are at least 3 % smaller with it, the copy in each table counted. For Zstandard and
    /// high-effort LZ4.
    Auto {
        /// The most bytes of a dictionary, 256 to 1,048,576.
        size: u32,
    },
    /// The same, also for plain LZ4, which encodes half as fast with a dictionary, and for users' own codecs.
    /// Snappy and Brotli take none.
    Wanted {
        /// The most bytes of a dictionary, 256 to 1,048,576.
        size: u32,
    },
}

impl DictionaryPolicy {
    /// Up to 64 KiB.
    pub const DEFAULT: DictionaryPolicy = DictionaryPolicy::Auto { size: 64 << 10 };

    /// The most bytes of a dictionary for blocks of this codec; none if it is to have none.
    pub fn size_for(&self, codec: Codec) -> Option<usize> {
        let (size, takes) = match *self {
            DictionaryPolicy::None => return None,
            DictionaryPolicy::Auto { size } => (size, matches!(codec, Codec::Zstd { .. } | Codec::Lz4hc { .. })),
            DictionaryPolicy::Wanted { size } => (size, codec.takes_dictionary()),
        };
        takes.then_some(size as usize)
    }
}

impl fmt::Display for DictionaryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DictionaryPolicy::None => f.write_str("none"),
            DictionaryPolicy::Auto { size } => write!(f, "auto:{size}"),
            DictionaryPolicy::Wanted { size } => write!(f, "wanted:{size}"),
        }
    }
}

/// What a family wants of its compression. With an objective the engine chooses codec, level, block size and
/// dictionary of each depth by measuring on the family's own blocks, and
/// [`FamilyStats`](crate::FamilyStats) hold what it promised against what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Objective {
    /// The fewest bytes that an encoder of some 20 MB/s makes. For archives.
    Smallest,
    /// As small as comes cheaply: a byte that a block of 16 KiB takes on disk is worth 50 ns of decoding.
    Balanced,
    /// The shortest decoding at about the size that Zstandard 1 has.
    FastestReads,
    /// The fewest bytes such that decoding a block, which is what a cold point read does, takes at most this
    /// long, in 99 blocks of a hundred.
    Decode(Duration),
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Objective::Smallest => f.write_str("smallest"),
            Objective::Balanced => f.write_str("balanced"),
            Objective::FastestReads => f.write_str("fastest-reads"),
            Objective::Decode(budget) if budget.subsec_nanos() % 1000 == 0 => {
                write!(f, "decode:{}us", budget.as_micros())
            }
            Objective::Decode(budget) => write!(f, "decode:{}ns", budget.as_nanos()),
        }
    }
}

/// The block size that the engine takes where nobody asks for another.
pub const BLOCK_SIZE_DEFAULT: usize = 16 << 10;

/// Options of a column family. They are kept with the database.
///
/// ```
/// use lignite::{CfOptions, Compression};
/// let options = CfOptions::new().compression(Compression::lz4()).block_size(8 << 10);
/// options.validate()?;
/// # Ok::<(), lignite::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CfOptions {
    // All of them change speed and size, none changes meaning.
    /// Codecs by level. Default: LZ4 young, Zstandard 1 deep, Zstandard 3 at the bottom.
    pub compression: Compression,
    /// Target size of a block before compression, 512 bytes to 16 MiB. Smaller blocks make cold point
    /// reads cheaper and the files larger. Default: 0, which is 16 KiB, and 8 or 4 KiB below the
    /// young levels where a sample says that it costs little space, with a dictionary or without.
    pub block_size: usize,
    /// Dictionaries. Default: `Auto` with up to 64 KiB.
    pub dictionary: DictionaryPolicy,
    /// Lets values of fixed width be laid out by columns before their codec where a sample says that it pays (rows of
    /// numbers), and as differences where they are integers that grow or fall (times, counters). Default: true.
    pub transpose: bool,
    /// What the engine should choose codecs, block sizes and dictionaries for, instead of what `compression`,
    /// `block_size` and `dictionary` say. Default: none.
    pub objective: Option<Objective>,
    /// Filters. Default: `Auto` with 10 bits a key.
    pub filter: FilterPolicy,
    /// Target size of a table, in bytes on disk. Default: 64 MiB.
    pub table_size: u64,
    /// Level 0 is compacted when it has this many tables, or fewer when nothing else is to be done. Default: 8.
    pub level0_trigger: usize,
    /// Target size of the base level, the one below level 0. Default: 256 MiB.
    pub base_level_size: u64,
    /// How many times larger each level is than the one above it. Default: 10.
    pub fan_out: u32,
    /// A table is compacted for its tombstones alone when they are more than this share of its
    /// entries, in percent. Default: 50; 0 switches it off.
    pub tombstone_percent: u8,
}

impl Default for CfOptions {
    fn default() -> CfOptions {
        CfOptions {
            compression: Compression::default(),
            block_size: 0,
            dictionary: DictionaryPolicy::DEFAULT,
            transpose: true,
            objective: None,
            filter: FilterPolicy::Auto { bits_per_key: 10 },
            table_size: 64 << 20,
            level0_trigger: 8,
            base_level_size: 256 << 20,
            fan_out: 10,
            tombstone_percent: 50,
        }
    }
}

impl CfOptions {
    /// The defaults.
    pub fn new() -> CfOptions {
        CfOptions::default()
    }

    setters! {
        compression: Compression,
        block_size: usize,
        dictionary: DictionaryPolicy,
        transpose: bool,
        filter: FilterPolicy,
        table_size: u64,
        level0_trigger: usize,
        base_level_size: u64,
        fan_out: u32,
        tombstone_percent: u8,
    }

    /// Sets `objective`; see the field.
    #[must_use]
    pub fn objective(mut self, objective: Objective) -> Self {
        self.objective = Some(objective);
        self
    }

    /// The block size of tables without a dictionary.
    pub fn plain_block_size(&self) -> usize {
        if self.block_size == 0 { BLOCK_SIZE_DEFAULT } else { self.block_size }
    }

    /// One line that says where `given` differs from these; empty if nowhere.
    pub fn difference(&self, given: &CfOptions) -> String {
        let mut parts: Vec<String> = Vec::new();
        let mut compare = |name: &str, kept: String, given: String| {
            if kept != given {
                parts.push(format!("{name}: kept {kept}, given {given}"));
            }
        };
        compare("compression", self.compression.to_string(), given.compression.to_string());
        compare("min_saving", self.compression.min_saving.to_string(), given.compression.min_saving.to_string());
        compare("block_size", self.block_size.to_string(), given.block_size.to_string());
        compare("dictionary", self.dictionary.to_string(), given.dictionary.to_string());
        compare("transpose", self.transpose.to_string(), given.transpose.to_string());
        let shown = |o: &Option<Objective>| o.map_or_else(|| "none".to_string(), |o| o.to_string());
        compare("objective", shown(&self.objective), shown(&given.objective));
        compare("filter", format!("{:?}", self.filter), format!("{:?}", given.filter));
        compare("table_size", self.table_size.to_string(), given.table_size.to_string());
        compare("level0_trigger", self.level0_trigger.to_string(), given.level0_trigger.to_string());
        compare("base_level_size", self.base_level_size.to_string(), given.base_level_size.to_string());
        compare("fan_out", self.fan_out.to_string(), given.fan_out.to_string());
        compare("tombstone_percent", self.tombstone_percent.to_string(), given.tombstone_percent.to_string());
        parts.join("; ")
    }

    /// Fails with `InvalidArgument` if a value is out of range.
    pub fn validate(&self) -> Result<()> {
        self.compression.validate()?;
        let within = |name: &str, value: u64, min: u64, max: u64| {
            if value < min || value > max {
                return Err(Error::invalid(format!("option {name} is {value}; it must be within {min} and {max}")));
            }
            Ok(())
        };
        if self.block_size != 0 {
            within("block_size", self.block_size as u64, 512, 16 << 20)?;
        }
        if let DictionaryPolicy::Auto { size } | DictionaryPolicy::Wanted { size } = self.dictionary {
            within("dictionary", u64::from(size), 256, 1 << 20)?;
        }
        if let Some(Objective::Decode(budget)) = self.objective {
            within("objective decode, in nanoseconds,", budget.as_nanos() as u64, 200, 1_000_000_000)?;
        }
        within("table_size", self.table_size, 4 << 10, 64 << 30)?;
        within("level0_trigger", self.level0_trigger as u64, 1, 1000)?;
        within("base_level_size", self.base_level_size, 4 << 10, 1 << 50)?;
        within("fan_out", u64::from(self.fan_out), 2, 100)?;
        within("tombstone_percent", u64::from(self.tombstone_percent), 0, 100)?;
        if let FilterPolicy::Auto { bits_per_key } | FilterPolicy::Bloom { bits_per_key } = self.filter {
            within("bits_per_key", u64::from(bits_per_key), 4, 30)?;
        }
        Ok(())
    }
}
