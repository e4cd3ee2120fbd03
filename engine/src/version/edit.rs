//! A version edit: one step in the life of the database, as the manifest (and, for family operations
//! and ingests, the log) stores it.
//!
//! An edit is a list of tagged fields ([`field`](crate::field)); all but `creator` are required.
//!
//! ```text
//!  1 snapshot        empty: the state from nothing, not a change
//!  2 db id           16 bytes
//!  3 features        count varint, then names
//!  4 next file       varint
//!  5 next family     varint
//!  6 last sequence   varint
//!  7 log synced      segment varint, offset varint
//!  8 log first       varint
//!  9 created         varint, seconds since 1970
//! 10 creator         UTF-8, optional
//! 11 family created  fields: 1 id, 2 name, 3 options, 4 created at sequence       any number of times
//! 12 family dropped  id varint                                                    any number of times
//! 13 family renamed  id varint, name                                              any number of times
//! 14 family options  id varint, options                                           any number of times
//! 15 flushed         id varint, sequence varint                                   any number of times
//! 16 added           family varint, level u8, table fields                        any number of times
//! 17 deleted         family varint, level u8, table number varint                 any number of times
//!
//! table fields       1 number, 2 origin (16 bytes, varint), 3 size, 4 hash (16 bytes), 5 smallest key,
//!                    6 largest (1 u8 key: inclusive; 2 u8 key: exclusive; 0 u8: none), 7 sequences (min, max),
//!                    8 counts (entries, deletes, range deletes, raw bytes), 9 times (created, oldest data),
//!                    10 sequence override, 11 owes codec (empty)
//!
//! options fields     1 young, 2 deep, 3 bottom, 4 keys codec (each: id u8, level zigzag varint), 5 min saving,
//!                    6 block size, 7 filter (policy u8, bits u8), 8 table size, 9 level 0 trigger,
//!                    10 base level size, 11 fan-out, 12 tombstone percent; optional: 13 dictionary (policy u8, size
//!                    varint), 14 no transpose (empty), 15 objective (kind u8, nanoseconds varint)
//! ```

use std::fmt;
use std::ops::Bound;
use std::time::Duration;

use crate::coding::{Input, put_bytes, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::field::{Field, Fields, UnknownFields, put_field, put_varint_field, required, set_once};
use crate::filename::NUMBER_GIVEN_MAX;
use crate::key::{FAMILY_NAME_LEN_MAX, FamilyId, SEQ_MAX, SeqNo};
use crate::metrics::LEVELS;
use crate::options::{CfOptions, Codec, DictionaryPolicy, FilterPolicy, Objective};
use crate::record::LogPosition;
use crate::sabotage::{self, Bug};
use crate::tombstone::RANGE_END_LEN_MAX;
use crate::version::{Origin, TableMeta};

/// Longest feature name.
const FEATURE_LEN_MAX: usize = 64;
const FEATURES_MAX: usize = 256;
/// More families than anybody makes; it leaves room to count.
const FAMILY_ID_MAX: u32 = 1 << 30;

/// A column family as the manifest knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilyRecord {
    /// Its number, never used again.
    pub id: FamilyId,
    /// Its name.
    pub name: String,
    /// Its options.
    pub options: CfOptions,
    /// Options of a later version of Lignite, handed on.
    pub unknown_options: UnknownFields,
    /// The sequence number of its creation.
    pub created_seq: SeqNo,
    /// Other words of a later version of Lignite, handed on.
    pub unknown: UnknownFields,
}

impl FamilyRecord {
    /// A family of this version.
    pub fn new(id: FamilyId, name: impl Into<String>, options: CfOptions, created_seq: SeqNo) -> FamilyRecord {
        FamilyRecord {
            id,
            name: name.into(),
            options,
            unknown_options: UnknownFields::default(),
            created_seq,
            unknown: UnknownFields::default(),
        }
    }
}

/// One step: whatever is none or empty stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VersionEdit {
    /// True in the first record of a manifest: the state from nothing.
    pub snapshot: bool,
    /// The database.
    pub db_id: Option<u128>,
    /// Names of the features that files of the database may use.
    pub features: Option<Vec<String>>,
    /// The smallest file number never used.
    pub next_file: Option<u64>,
    /// The smallest family number never used.
    pub next_family: Option<u32>,
    /// The largest sequence number that the state reflects.
    pub last_seq: Option<SeqNo>,
    /// Up to where the log was durable when the edit was written.
    pub log_synced: Option<LogPosition>,
    /// The smallest live segment; smaller ones are garbage.
    pub log_first: Option<u64>,
    /// When the database was made, in seconds since 1970.
    pub created_unix: Option<u64>,
    /// The program that made the manifest, for people.
    pub creator: Option<String>,
    /// New column families.
    pub families_created: Vec<FamilyRecord>,
    /// Column families that are gone.
    pub families_dropped: Vec<FamilyId>,
    /// New names.
    pub families_renamed: Vec<(FamilyId, String)>,
    /// New options.
    pub options_changed: Vec<(FamilyId, CfOptions)>,
    /// Families whose entries up to a sequence number are all in tables.
    pub flushed: Vec<(FamilyId, SeqNo)>,
    /// Tables that come, with their levels.
    pub added: Vec<(FamilyId, u8, TableMeta)>,
    /// Tables that go: level and number.
    pub deleted: Vec<(FamilyId, u8, u64)>,
    /// Optional fields of a later version of Lignite, handed on.
    pub unknown: UnknownFields,
}

impl VersionEdit {
    /// Appends the fields of the module head.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.snapshot {
            put_field(out, 1, true, &[]);
        }
        if let Some(db_id) = self.db_id {
            put_field(out, 2, true, &db_id.to_le_bytes());
        }
        if let Some(features) = &self.features {
            put_with(out, 3, |value| {
                put_varint(value, features.len() as u64);
                features.iter().for_each(|name| put_bytes(value, name.as_bytes()));
            });
        }
        let numbers = [(4, self.next_file), (5, self.next_family.map(u64::from)), (6, self.last_seq)];
        put_numbers(out, &numbers);
        if let Some(synced) = self.log_synced {
            put_with(out, 7, |value| put_varints(value, &[synced.segment, synced.offset]));
        }
        put_numbers(out, &[(8, self.log_first), (9, self.created_unix)]);
        if let Some(creator) = &self.creator {
            put_field(out, 10, false, creator.as_bytes());
        }
        for family in &self.families_created {
            put_with(out, 11, |value| encode_family(family, value));
        }
        for id in &self.families_dropped {
            put_varint_field(out, 12, true, u64::from(id.0));
        }
        for (id, name) in &self.families_renamed {
            put_with(out, 13, |value| {
                put_varint(value, u64::from(id.0));
                put_bytes(value, name.as_bytes());
            });
        }
        for (id, options) in &self.options_changed {
            put_with(out, 14, |value| {
                put_varint(value, u64::from(id.0));
                encode_cf_options(options, &UnknownFields::default(), value);
            });
        }
        for (id, seq) in &self.flushed {
            put_with(out, 15, |value| put_varints(value, &[u64::from(id.0), *seq]));
        }
        for (id, level, meta) in &self.added {
            put_with(out, 16, |value| {
                put_varint(value, u64::from(id.0));
                value.push(*level);
                encode_table(meta, value);
            });
        }
        for (id, level, number) in &self.deleted {
            put_with(out, 17, |value| {
                put_varint(value, u64::from(id.0));
                value.push(*level);
                put_varint(value, *number);
            });
        }
        self.unknown.encode(out);
    }

    /// The edit as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Reads an edit, trusting nothing. `Unsupported` if it has a required field that is not known.
    pub fn decode(bytes: &[u8]) -> Result<VersionEdit> {
        let mut edit = VersionEdit::default();
        let mut snapshot = None;
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.read()? {
            edit.read_field(&field, &mut snapshot)
                .map_err(|e| e.context(format!("version edit, field {}", field.tag)))?;
        }
        edit.snapshot = snapshot.is_some();
        Ok(edit)
    }

    fn read_field(&mut self, field: &Field<'_>, snapshot: &mut Option<()>) -> Result<()> {
        match field.tag {
            1 => set_once(snapshot, field.parse(|_| Ok(()))?, "snapshot"),
            2 => set_once(&mut self.db_id, field.parse(read_u128)?, "db id"),
            3 => set_once(&mut self.features, field.parse(read_features)?, "features"),
            4 => set_once(&mut self.next_file, field.parse(read_file_number)?, "next file"),
            5 => set_once(&mut self.next_family, field.parse(read_family)?.0, "next family"),
            6 => set_once(&mut self.last_seq, field.parse(read_seq)?, "last sequence"),
            7 => {
                let synced = field.parse(|i| Ok(LogPosition { segment: i.varint()?, offset: i.varint()? }))?;
                set_once(&mut self.log_synced, synced, "log synced")
            }
            8 => set_once(&mut self.log_first, field.parse(read_file_number)?, "log first"),
            9 => set_once(&mut self.created_unix, field.varint()?, "created"),
            10 => {
                let creator = std::str::from_utf8(field.value).map_err(|_| Error::corruption("it is not UTF-8"))?;
                set_once(&mut self.creator, creator.to_string(), "creator")
            }
            11 => {
                self.families_created.push(decode_family(field.value)?);
                Ok(())
            }
            12 => {
                self.families_dropped.push(field.parse(read_family)?);
                Ok(())
            }
            13 => {
                self.families_renamed.push(field.parse(|i| Ok((read_family(i)?, read_name(i.bytes()?)?)))?);
                Ok(())
            }
            14 => {
                let (id, (options, _)) = field.parse(|i| Ok((read_family(i)?, decode_cf_options(i.rest())?)))?;
                self.options_changed.push((id, options));
                Ok(())
            }
            15 => {
                self.flushed.push(field.parse(|i| Ok((read_family(i)?, read_seq(i)?)))?);
                Ok(())
            }
            16 => {
                self.added.push(field.parse(|i| Ok((read_family(i)?, read_level(i)?, decode_table(i.rest())?)))?);
                Ok(())
            }
            17 => {
                self.deleted.push(field.parse(|i| Ok((read_family(i)?, read_level(i)?, i.varint()?)))?);
                Ok(())
            }
            _ => self.unknown.keep(field, "the version edit"),
        }
    }

    /// True if nothing but family operations is in it.
    pub fn is_family_operation(&self) -> bool {
        let rest = VersionEdit {
            families_created: Vec::new(),
            families_dropped: Vec::new(),
            families_renamed: Vec::new(),
            options_changed: Vec::new(),
            unknown: UnknownFields::default(),
            ..self.clone()
        };
        rest == VersionEdit::default()
    }

    /// True if nothing but added tables is in it.
    pub fn is_ingest(&self) -> bool {
        let rest = VersionEdit { added: Vec::new(), unknown: UnknownFields::default(), ..self.clone() };
        rest == VersionEdit::default()
    }
}

impl fmt::Display for VersionEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.snapshot { "snapshot" } else { "edit" })?;
        if let Some(db_id) = self.db_id {
            write!(f, " db={db_id:032x}")?;
        }
        if let Some(features) = &self.features {
            write!(f, " features=[{}]", features.join(","))?;
        }
        let numbers = [
            ("next_file", self.next_file),
            ("next_family", self.next_family.map(u64::from)),
            ("last_seq", self.last_seq),
            ("log_first", self.log_first),
            ("created", self.created_unix),
        ];
        for (name, value) in numbers {
            if let Some(value) = value {
                write!(f, " {name}={value}")?;
            }
        }
        if let Some(synced) = self.log_synced {
            write!(f, " log_synced={synced}")?;
        }
        if let Some(creator) = &self.creator {
            write!(f, " creator={creator:?}")?;
        }
        for family in &self.families_created {
            write!(f, " create({} {:?} at={} {})", family.id, family.name, family.created_seq, Shown(&family.options))?;
        }
        for id in &self.families_dropped {
            write!(f, " drop({id})")?;
        }
        for (id, name) in &self.families_renamed {
            write!(f, " rename({id} {name:?})")?;
        }
        for (id, options) in &self.options_changed {
            write!(f, " options({id} {})", Shown(options))?;
        }
        for (id, seq) in &self.flushed {
            write!(f, " flushed({id} {seq})")?;
        }
        for (id, level, meta) in &self.added {
            write!(f, " add({id} level={level} {meta})")?;
        }
        for (id, level, number) in &self.deleted {
            write!(f, " delete({id} level={level} table {number})")?;
        }
        for tag in self.unknown.tags() {
            write!(f, " unknown({tag})")?;
        }
        Ok(())
    }
}

/// The payload of a log record that makes, drops, renames or changes column families.
pub fn encode_family_operation(edit: &VersionEdit) -> Result<Vec<u8>> {
    if !edit.is_family_operation() {
        return Err(Error::invalid("a family operation changes families and nothing else"));
    }
    Ok(edit.to_bytes())
}

/// Reads the payload of a family operation.
pub fn decode_family_operation(payload: &[u8]) -> Result<VersionEdit> {
    let edit = VersionEdit::decode(payload)?;
    if !edit.is_family_operation() {
        return Err(Error::corruption("a family operation changes more than families"));
    }
    Ok(edit)
}

/// The payload of a log record that takes tables in.
pub fn encode_ingest(edit: &VersionEdit) -> Result<Vec<u8>> {
    if !edit.is_ingest() {
        return Err(Error::invalid("an ingest adds tables and nothing else"));
    }
    Ok(edit.to_bytes())
}

/// Reads the payload of an ingest.
pub fn decode_ingest(payload: &[u8]) -> Result<VersionEdit> {
    let edit = VersionEdit::decode(payload)?;
    if !edit.is_ingest() {
        return Err(Error::corruption("an ingest does more than add tables"));
    }
    Ok(edit)
}

/// Appends a family's options, and the unknown ones that were read with them.
pub fn encode_cf_options(options: &CfOptions, unknown: &UnknownFields, out: &mut Vec<u8>) {
    let c = &options.compression;
    for (tag, codec) in [(1, Some(c.young)), (2, Some(c.deep)), (3, Some(c.bottom)), (4, c.keys)] {
        if let Some(codec) = codec {
            put_with(out, tag, |value| encode_codec(codec, value));
        }
    }
    put_numbers(out, &[(5, Some(u64::from(c.min_saving))), (6, Some(options.block_size as u64))]);
    let filter = match options.filter {
        FilterPolicy::None => [0, 0],
        FilterPolicy::Auto { bits_per_key } => [1, bits_per_key],
        FilterPolicy::Bloom { bits_per_key } => [2, bits_per_key],
    };
    put_field(out, 7, true, &filter);
    let numbers = [
        (8, Some(options.table_size)),
        (9, Some(options.level0_trigger as u64)),
        (10, Some(options.base_level_size)),
        (11, Some(u64::from(options.fan_out))),
        (12, Some(u64::from(options.tombstone_percent))),
    ];
    put_numbers(out, &numbers);
    let (policy, size) = match options.dictionary {
        DictionaryPolicy::None => (0, 0),
        DictionaryPolicy::Auto { size } => (1, size),
        DictionaryPolicy::Wanted { size } => (2, size),
    };
    let mut value = vec![policy];
    put_varint(&mut value, u64::from(size));
    put_field(out, 13, false, &value);
    if !options.transpose {
        put_field(out, 14, false, &[]);
    }
    if let Some(objective) = options.objective {
        let (kind, nanos) = match objective {
            Objective::Smallest => (1, 0),
            Objective::Balanced => (2, 0),
            Objective::FastestReads => (3, 0),
            Objective::Decode(budget) => (4, budget.as_nanos() as u64),
        };
        let mut value = vec![kind];
        put_varint(&mut value, nanos);
        put_field(out, 15, false, &value);
    }
    unknown.encode(out);
}

/// Reads a family's options, which must be within their limits.
pub fn decode_cf_options(bytes: &[u8]) -> Result<(CfOptions, UnknownFields)> {
    let mut options = CfOptions::default();
    let mut unknown = UnknownFields::default();
    let mut seen = [false; 16];
    options.compression.keys = None;
    // What was written before there were dictionaries has none.
    options.dictionary = DictionaryPolicy::None;
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.read()? {
        let seen = usize::try_from(field.tag).ok().and_then(|tag| seen.get_mut(tag));
        if seen.is_some_and(|seen| std::mem::replace(seen, true)) {
            return Err(Error::corruption(format!("the family option {} appears twice", field.tag)));
        }
        let compression = &mut options.compression;
        match field.tag {
            1 => compression.young = field.parse(read_codec)?,
            2 => compression.deep = field.parse(read_codec)?,
            3 => compression.bottom = field.parse(read_codec)?,
            4 => compression.keys = Some(field.parse(read_codec)?),
            5 => compression.min_saving = narrow(&field)?,
            6 => options.block_size = narrow(&field)?,
            7 => options.filter = field.parse(read_filter)?,
            8 => options.table_size = field.varint()?,
            9 => options.level0_trigger = narrow(&field)?,
            10 => options.base_level_size = field.varint()?,
            11 => options.fan_out = narrow(&field)?,
            12 => options.tombstone_percent = narrow(&field)?,
            13 => options.dictionary = field.parse(read_dictionary_policy)?,
            14 => {
                field.parse(|_| Ok(()))?;
                options.transpose = false;
            }
            15 => options.objective = Some(field.parse(read_objective)?),
            _ => unknown.keep(&field, "the family's options")?,
        }
    }
    if let Some(missing) = (1..=12).find(|&tag| tag != 4 && !seen[tag]) {
        return Err(Error::corruption(format!("the family option {missing} is missing")));
    }
    let codecs = [Some(options.compression.young), Some(options.compression.deep), Some(options.compression.bottom)];
    let custom = codecs.into_iter().chain([options.compression.keys]).any(|c| matches!(c, Some(Codec::Custom { .. })));
    // A user's codec that nobody registered is no damage.
    let refused = if custom { ErrorKind::Unsupported } else { ErrorKind::Corruption };
    options.validate().map_err(|e| e.with_kind(refused).context("the family's options"))?;
    Ok((options, unknown))
}

/// A family's options in a few words.
struct Shown<'a>(&'a CfOptions);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let o = self.0;
        write!(f, "compression={} min_saving={}", o.compression, o.compression.min_saving)?;
        match o.block_size {
            0 => f.write_str(" block=auto")?,
            size => write!(f, " block={size}")?,
        }
        match o.filter {
            FilterPolicy::None => f.write_str(" filter=none")?,
            FilterPolicy::Auto { bits_per_key } => write!(f, " filter=auto:{bits_per_key}")?,
            FilterPolicy::Bloom { bits_per_key } => write!(f, " filter=bloom:{bits_per_key}")?,
        }
        write!(f, " table={} level0={} base={}", o.table_size, o.level0_trigger, o.base_level_size)?;
        write!(f, " fan_out={} tombstones={}% dictionary={}", o.fan_out, o.tombstone_percent, o.dictionary)?;
        if !o.transpose {
            f.write_str(" transpose=off")?;
        }
        if let Some(objective) = o.objective {
            write!(f, " objective={objective}")?;
        }
        Ok(())
    }
}

fn encode_family(family: &FamilyRecord, out: &mut Vec<u8>) {
    put_varint_field(out, 1, true, u64::from(family.id.0));
    put_field(out, 2, true, family.name.as_bytes());
    put_with(out, 3, |value| encode_cf_options(&family.options, &family.unknown_options, value));
    put_varint_field(out, 4, true, family.created_seq);
    family.unknown.encode(out);
}

fn decode_family(bytes: &[u8]) -> Result<FamilyRecord> {
    let (mut id, mut name, mut options, mut created_seq) = (None, None, None, None);
    let mut unknown = UnknownFields::default();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.read()? {
        match field.tag {
            1 => set_once(&mut id, field.parse(read_family)?, "family id")?,
            2 => set_once(&mut name, read_name(field.value)?, "family name")?,
            3 => set_once(&mut options, decode_cf_options(field.value)?, "family options")?,
            4 => set_once(&mut created_seq, field.parse(read_seq)?, "created at")?,
            _ => unknown.keep(&field, "the column family")?,
        }
    }
    let (options, unknown_options) = required(options, "family options")?;
    Ok(FamilyRecord {
        id: required(id, "family id")?,
        name: required(name, "family name")?,
        options,
        unknown_options,
        created_seq: required(created_seq, "created at")?,
        unknown,
    })
}

fn encode_table(meta: &TableMeta, out: &mut Vec<u8>) {
    put_varint_field(out, 1, true, meta.number);
    put_with(out, 2, |value| {
        value.extend_from_slice(&meta.origin.db_id.to_le_bytes());
        put_varint(value, meta.origin.number);
    });
    put_varint_field(out, 3, true, meta.size);
    put_field(out, 4, true, &meta.hash.to_le_bytes());
    put_field(out, 5, true, &meta.smallest);
    put_with(out, 6, |value| match &meta.largest {
        Bound::Unbounded => value.push(0),
        Bound::Included(key) => {
            value.push(1);
            value.extend_from_slice(key);
        }
        Bound::Excluded(key) => {
            value.push(2);
            value.extend_from_slice(key);
        }
    });
    put_with(out, 7, |value| put_varints(value, &[meta.seq_min, meta.seq_max]));
    put_with(out, 8, |value| {
        put_varints(value, &[meta.entries, meta.deletes, meta.range_deletes, meta.raw_bytes]);
    });
    put_with(out, 9, |value| put_varints(value, &[meta.created, meta.oldest_data]));
    put_numbers(out, &[(10, meta.seq_override)]);
    if meta.owes_codec {
        put_field(out, 11, true, &[]);
    }
    meta.unknown.encode(out);
}

fn decode_table(bytes: &[u8]) -> Result<TableMeta> {
    let (mut number, mut origin, mut size, mut hash) = (None, None, None, None);
    let (mut smallest, mut largest, mut seqs, mut counts, mut times) = (None, None, None, None, None);
    let (mut seq_override, mut owes_codec) = (None, None);
    let mut unknown = UnknownFields::default();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.read()? {
        match field.tag {
            1 => set_once(&mut number, field.parse(read_file_number)?, "table number")?,
            2 => {
                let read = field.parse(|i| Ok(Origin { db_id: read_u128(i)?, number: i.varint()? }))?;
                set_once(&mut origin, read, "table origin")?;
            }
            3 => set_once(&mut size, field.varint()?, "table size")?,
            4 => set_once(&mut hash, field.parse(read_u128)?, "table hash")?,
            5 => set_once(&mut smallest, read_bound(field.value)?, "smallest key")?,
            6 => set_once(&mut largest, field.parse(read_upper)?, "largest key")?,
            7 => set_once(&mut seqs, field.parse(|i| Ok((read_seq(i)?, read_seq(i)?)))?, "table sequences")?,
            8 => {
                let read = field.parse(|i| Ok([i.varint()?, i.varint()?, i.varint()?, i.varint()?]))?;
                set_once(&mut counts, read, "table counts")?;
            }
            9 => set_once(&mut times, field.parse(|i| Ok((i.varint()?, i.varint()?)))?, "table times")?,
            10 => set_once(&mut seq_override, field.parse(read_seq)?, "sequence override")?,
            11 => set_once(&mut owes_codec, field.parse(|_| Ok(()))?, "owes codec")?,
            _ => unknown.keep(&field, "the table")?,
        }
    }
    let (seq_min, seq_max) = required(seqs, "table sequences")?;
    let [entries, deletes, range_deletes, raw_bytes] = required(counts, "table counts")?;
    let (created, oldest_data) = required(times, "table times")?;
    let meta = TableMeta {
        number: required(number, "table number")?,
        origin: required(origin, "table origin")?,
        size: required(size, "table size")?,
        hash: required(hash, "table hash")?,
        smallest: required(smallest, "smallest key")?,
        largest: required(largest, "largest key")?,
        seq_min,
        seq_max,
        entries,
        deletes,
        range_deletes,
        raw_bytes,
        created,
        oldest_data,
        seq_override,
        owes_codec: owes_codec.is_some(),
        unknown,
    };
    meta.check()?;
    Ok(meta)
}

fn encode_codec(codec: Codec, out: &mut Vec<u8>) {
    let level = match codec {
        Codec::Zstd { level } | Codec::Custom { level, .. } => level,
        Codec::Brotli { quality } => i32::from(quality),
        Codec::Lz4hc { level } => i32::from(level),
        _ => 0,
    };
    out.push(codec.id());
    put_varint(out, u64::from(((level << 1) ^ (level >> 31)) as u32));
}

fn read_codec(input: &mut Input<'_>) -> Result<Codec> {
    let id = input.u8()?;
    let zigzag = input.varint32()?;
    let level = (zigzag >> 1) as i32 ^ -((zigzag & 1) as i32);
    let no_level = |codec: Codec| {
        if level == 0 { Ok(codec) } else { Err(Error::corruption(format!("codec {id} has no level {level}"))) }
    };
    match id {
        0 => no_level(Codec::None),
        1 if level == 0 => Ok(Codec::Lz4),
        1 => {
            let level = u8::try_from(level).map_err(|_| Error::corruption(format!("lz4hc has no level {level}")))?;
            Ok(Codec::Lz4hc { level })
        }
        2 => no_level(Codec::Snappy),
        3 => Ok(Codec::Zstd { level }),
        4 => {
            let quality =
                u8::try_from(level).map_err(|_| Error::corruption(format!("brotli has no quality {level}")))?;
            Ok(Codec::Brotli { quality })
        }
        128.. => Ok(Codec::Custom { id, level }),
        _ => Err(Error::unsupported(format!("codec {id} is not known to this version"))),
    }
}

fn read_filter(input: &mut Input<'_>) -> Result<FilterPolicy> {
    let (policy, bits_per_key) = (input.u8()?, input.u8()?);
    match (policy, bits_per_key) {
        (0, 0) => Ok(FilterPolicy::None),
        (0, _) => Err(Error::corruption("a family without filters has bits per key")),
        (1, _) => Ok(FilterPolicy::Auto { bits_per_key }),
        (2, _) => Ok(FilterPolicy::Bloom { bits_per_key }),
        _ => Err(Error::unsupported(format!("filter policy {policy} is not known to this version"))),
    }
}

fn read_dictionary_policy(input: &mut Input<'_>) -> Result<DictionaryPolicy> {
    match (input.u8()?, input.varint32()?) {
        (0, 0) => Ok(DictionaryPolicy::None),
        (0, _) => Err(Error::corruption("a family without dictionaries has a size of them")),
        (1, size) => Ok(DictionaryPolicy::Auto { size }),
        (2, size) => Ok(DictionaryPolicy::Wanted { size }),
        (policy, _) => Err(Error::unsupported(format!("dictionary policy {policy} is not known to this version"))),
    }
}

fn read_objective(input: &mut Input<'_>) -> Result<Objective> {
    let (kind, nanos) = (input.u8()?, input.varint()?);
    match (kind, nanos) {
        (1, 0) => Ok(Objective::Smallest),
        (2, 0) => Ok(Objective::Balanced),
        (3, 0) => Ok(Objective::FastestReads),
        (1..=3, _) => Err(Error::corruption("a family's objective has a time that it does not take")),
        (4, _) => Ok(Objective::Decode(Duration::from_nanos(nanos))),
        _ => Err(Error::unsupported(format!("the objective {kind} is not known to this version"))),
    }
}

fn read_upper(input: &mut Input<'_>) -> Result<Bound<Vec<u8>>> {
    match input.u8()? {
        0 => Ok(Bound::Unbounded),
        1 => Ok(Bound::Included(read_bound(input.rest())?)),
        2 => Ok(Bound::Excluded(read_bound(input.rest())?)),
        form => Err(Error::corruption(format!("a largest key has the form {form}"))),
    }
}

fn read_bound(bytes: &[u8]) -> Result<Vec<u8>> {
    if bytes.len() > RANGE_END_LEN_MAX {
        return Err(Error::corruption(format!("a bound has {} bytes", bytes.len())));
    }
    Ok(bytes.to_vec())
}

fn read_name(bytes: &[u8]) -> Result<String> {
    if bytes.is_empty() || bytes.len() > FAMILY_NAME_LEN_MAX {
        return Err(Error::corruption(format!("a column family's name has {} bytes", bytes.len())));
    }
    let name = std::str::from_utf8(bytes).map_err(|_| Error::corruption("a column family's name is not UTF-8"));
    assert!(name.is_ok() || !sabotage::is(Bug::BadNamePanics), "the name can be read");
    let name = name?;
    Ok(name.to_string())
}

fn read_features(input: &mut Input<'_>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for _ in 0..input.length(FEATURES_MAX)? {
        let name = input.string()?;
        if name.len() > FEATURE_LEN_MAX {
            return Err(Error::corruption(format!("a feature's name has {} bytes", name.len())));
        }
        names.push(name.to_string());
    }
    Ok(names)
}

fn read_family(input: &mut Input<'_>) -> Result<FamilyId> {
    let id = input.varint32()?;
    if id > FAMILY_ID_MAX {
        return Err(Error::corruption(format!("no column family can have the number {id}")));
    }
    Ok(FamilyId(id))
}

fn read_file_number(input: &mut Input<'_>) -> Result<u64> {
    let number = input.varint()?;
    if number > NUMBER_GIVEN_MAX {
        return Err(Error::corruption(format!("no file can have the number {number}")));
    }
    Ok(number)
}

fn read_level(input: &mut Input<'_>) -> Result<u8> {
    let level = input.u8()?;
    if usize::from(level) >= LEVELS {
        return Err(Error::corruption(format!("there is no level {level}")));
    }
    Ok(level)
}

fn read_seq(input: &mut Input<'_>) -> Result<SeqNo> {
    let seq = input.varint()?;
    if seq > SEQ_MAX {
        return Err(Error::corruption(format!("the sequence number {seq} is out of range")));
    }
    Ok(seq)
}

fn read_u128(input: &mut Input<'_>) -> Result<u128> {
    Ok(u128::from_le_bytes(input.array()?))
}

fn narrow<T: TryFrom<u64>>(field: &Field<'_>) -> Result<T> {
    let value = field.varint()?;
    T::try_from(value).map_err(|_| Error::corruption(format!("the family option {} cannot be {value}", field.tag)))
}

/// Appends a required field whose value `write` makes.
fn put_with(out: &mut Vec<u8>, tag: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let mut value = Vec::new();
    write(&mut value);
    put_field(out, tag, true, &value);
}

fn put_numbers(out: &mut Vec<u8>, numbers: &[(u64, Option<u64>)]) {
    for &(tag, number) in numbers {
        if let Some(number) = number {
            put_varint_field(out, tag, true, number);
        }
    }
}

fn put_varints(out: &mut Vec<u8>, values: &[u64]) {
    values.iter().for_each(|&value| put_varint(out, value));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::options::Compression;

    fn table(number: u64) -> TableMeta {
        TableMeta {
            number,
            origin: Origin { db_id: 5, number: 2 },
            size: 70_000,
            hash: u128::MAX - 1,
            smallest: b"a".to_vec(),
            largest: Bound::Excluded(b"q".to_vec()),
            seq_min: 3,
            seq_max: 300,
            entries: 99,
            deletes: 9,
            range_deletes: 1,
            raw_bytes: 90_000,
            created: 1_700_000_000,
            oldest_data: 1_600_000_000,
            seq_override: None,
            owes_codec: false,
            unknown: UnknownFields::default(),
        }
    }

    fn full() -> VersionEdit {
        let options = CfOptions::new()
            .compression(
                Compression::zstd(-7)
                    .young(Codec::Lz4)
                    .deep(Codec::Lz4hc { level: 12 })
                    .keys(Codec::Brotli { quality: 11 }),
            )
            .filter(FilterPolicy::Bloom { bits_per_key: 12 });
        let mut second = table(8);
        second.largest = Bound::Unbounded;
        second.seq_override = Some(77);
        second.owes_codec = true;
        let mut third = table(9);
        third.largest = Bound::Included(b"z".to_vec());
        VersionEdit {
            snapshot: true,
            db_id: Some(5),
            features: Some(vec!["blob".into(), "merge".into()]),
            next_file: Some(10),
            next_family: Some(3),
            last_seq: Some(300),
            log_synced: Some(LogPosition { segment: 4, offset: 1000 }),
            log_first: Some(4),
            created_unix: Some(1_700_000_000),
            creator: Some("lignite 0.1.0".into()),
            families_created: vec![FamilyRecord::new(FamilyId(2), "logs", options.clone(), 40)],
            families_dropped: vec![FamilyId(1)],
            families_renamed: vec![(FamilyId(2), "old".into())],
            options_changed: vec![(FamilyId(2), options)],
            flushed: vec![(FamilyId(0), 250), (FamilyId(2), 300)],
            added: vec![(FamilyId(0), 0, table(7)), (FamilyId(0), 6, second), (FamilyId(2), 1, third)],
            deleted: vec![(FamilyId(0), 3, 6)],
            unknown: UnknownFields::default(),
        }
    }

    #[test]
    fn an_edit_comes_back_and_has_one_form() {
        for edit in [full(), VersionEdit::default()] {
            let bytes = edit.to_bytes();
            let read = VersionEdit::decode(&bytes).unwrap();
            assert_eq!(read, edit);
            assert_eq!(read.to_bytes(), bytes);
        }
    }

    #[test]
    fn one_line() {
        let mut edit = full();
        edit.added.truncate(1);
        assert_eq!(
            edit.to_string(),
            "snapshot db=00000000000000000000000000000005 features=[blob,merge] next_file=10 next_family=3 last_seq=300 \
             log_first=4 created=1700000000 log_synced=4:1000 creator=\"lignite 0.1.0\" create(2 \"logs\" at=40 \
             compression=lz4/lz4hc:12/zstd:-7 keys brotli:11 min_saving=16 block=auto filter=bloom:12 table=67108864 \
             level0=8 base=268435456 fan_out=10 tombstones=50% dictionary=auto:65536) drop(1) rename(2 \"old\") options(2 \
             compression=lz4/lz4hc:12/zstd:-7 keys brotli:11 min_saving=16 block=auto filter=bloom:12 table=67108864 \
             level0=8 base=268435456 fan_out=10 tombstones=50% dictionary=auto:65536) flushed(0 250) flushed(2 300) add(0 level=0 table 7 \
             size=70000 keys=\"a\"..\"q\" seq=3..=300 entries=99 deletes=9 range_deletes=1 raw=90000 created=1700000000 \
             oldest=1600000000 hash=fffffffffffffffffffffffffffffffe origin=00000000000000000000000000000005/2) \
             delete(0 level=3 table 6)"
        );
    }

    #[test]
    fn unknown_fields_are_refused_or_kept_at_every_depth() {
        let mut edit = full();
        let optional = Field { tag: 70, required: false, value: b"later" };
        edit.unknown.keep(&optional, "").unwrap();
        edit.families_created[0].unknown.keep(&optional, "").unwrap();
        edit.families_created[0].unknown_options.keep(&optional, "").unwrap();
        edit.added[0].2.unknown.keep(&optional, "").unwrap();
        let read = VersionEdit::decode(&edit.to_bytes()).unwrap();
        assert_eq!(read, edit);
        let mut bytes = edit.to_bytes();
        put_field(&mut bytes, 71, true, b"");
        let e = VersionEdit::decode(&bytes).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert_eq!(
            e.message(),
            "version edit, field 71: the version edit has the required field 71, which this version does not know"
        );
    }

    #[test]
    fn a_field_that_may_appear_once_is_refused_twice() {
        for tag in 1..=10 {
            let bytes = full().to_bytes();
            let mut fields = Fields::new(&bytes);
            let field = std::iter::from_fn(|| fields.read().unwrap()).find(|f| f.tag == tag).unwrap();
            let mut twice = bytes.clone();
            put_field(&mut twice, tag, field.required, field.value);
            assert!(VersionEdit::decode(&twice).unwrap_err().is_corruption(), "field {tag}");
        }
        let mut options = Vec::new();
        encode_cf_options(&CfOptions::new(), &UnknownFields::default(), &mut options);
        put_varint_field(&mut options, 5, true, 16);
        assert!(decode_cf_options(&options).unwrap_err().is_corruption());
    }

    #[test]
    fn hostile_bytes_never_panic_and_what_is_read_has_one_form() {
        let bytes = full().to_bytes();
        for cut in 0..bytes.len() {
            if let Ok(read) = VersionEdit::decode(&bytes[..cut]) {
                assert_eq!(read.to_bytes(), bytes[..cut], "whole fields only");
            }
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let _ = VersionEdit::decode(&changed);
            }
        }
    }

    #[test]
    fn names_and_options_keep_their_limits() {
        let with_name = |name: String| {
            let families_created = vec![FamilyRecord::new(FamilyId(2), name, CfOptions::new(), 0)];
            VersionEdit::decode(&VersionEdit { families_created, ..VersionEdit::default() }.to_bytes())
        };
        assert!(with_name("x".repeat(FAMILY_NAME_LEN_MAX)).is_ok());
        assert!(with_name("x".repeat(FAMILY_NAME_LEN_MAX + 1)).is_err());
        assert!(with_name(String::new()).is_err());
        let mut bytes = Vec::new();
        encode_cf_options(&CfOptions::new().block_size(1), &UnknownFields::default(), &mut bytes);
        assert!(decode_cf_options(&bytes).unwrap_err().is_corruption());
        assert!(decode_cf_options(&[]).unwrap_err().message().contains("missing"));
    }

    #[test]
    fn log_payloads_are_restricted() {
        let create = VersionEdit {
            families_created: vec![FamilyRecord::new(FamilyId(2), "logs", CfOptions::new(), 40)],
            ..VersionEdit::default()
        };
        let ingest = VersionEdit { added: vec![(FamilyId(2), 6, table(3))], ..VersionEdit::default() };
        assert_eq!(decode_family_operation(&encode_family_operation(&create).unwrap()).unwrap(), create);
        assert_eq!(decode_ingest(&encode_ingest(&ingest).unwrap()).unwrap(), ingest);
        assert!(encode_ingest(&create).is_err() && encode_family_operation(&ingest).is_err());
        assert!(decode_ingest(&create.to_bytes()).is_err() && decode_family_operation(&ingest.to_bytes()).is_err());
    }
}
