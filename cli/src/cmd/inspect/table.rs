//! Tables for `inspect`.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use lignite::Error;
use lignite::internals::cache::BlockCache;
use lignite::internals::clock::SystemClock;
use lignite::internals::fs::disk::DiskFs;
use lignite::internals::key::Kind;
use lignite::internals::metrics::{FamilyMetrics, Metrics};
use lignite::internals::table::reader::{Table, TableContext};

use super::found::{Defect, Entry, Found, Visit};
use crate::exit::Failure;
use crate::output::{self, Cell};
use crate::text::{self, Style};

/// Blocks that are shown are read once; the cache need not hold any.
const CACHE_LEN: u64 = 1 << 20;

/// Reads what a table says about itself, and checks it against its checksums.
pub(super) fn read(disk: &DiskFs, path: &Path, with_blocks: bool) -> Result<Found, Error> {
    let table = open(disk, path)?;
    let properties = table.properties();
    let meta = table.meta();
    let key = |key: &[u8]| Cell::text(text::show(key, Style::Auto));
    let raw = properties.raw_key_bytes + properties.raw_value_bytes;
    let mut facts = vec![
        ("number", Cell::Count(meta.origin.number)),
        ("db_id", Cell::text(format!("{:032x}", meta.origin.db_id))),
        ("entries_count", Cell::Count(properties.entries)),
        ("deletes", Cell::Count(properties.deletes)),
        ("range_deletes", Cell::Count(properties.range_deletes)),
        ("raw_key_bytes", Cell::Bytes(properties.raw_key_bytes)),
        ("raw_value_bytes", Cell::Bytes(properties.raw_value_bytes)),
        ("ratio", Cell::ratio(raw, meta.size)),
        ("blocks_count", Cell::Count(properties.blocks)),
        ("block_size", Cell::Bytes(properties.block_size)),
        ("first", key(&properties.smallest)),
        (
            "last",
            match &properties.largest {
                Bound::Included(last) | Bound::Excluded(last) => key(last),
                Bound::Unbounded => Cell::Empty,
            },
        ),
        ("sequence_min", Cell::Count(properties.seq_min)),
        ("sequence_max", Cell::Count(properties.seq_max)),
        ("created_unix", Cell::Offset(properties.created)),
        ("compression", Cell::text(&properties.compression)),
        ("filter", Cell::text(&properties.filter)),
    ];
    for frame in table.footer().frames() {
        let (name, handle) = frame;
        let name = match name {
            "index" => "index_bytes",
            "properties" => "properties_bytes",
            "filter" => "filter_bytes",
            "tombstones" => "range_tombstone_bytes",
            _ => continue,
        };
        facts.push((name, Cell::Bytes(u64::from(handle.stored_len))));
    }
    let mut defects = Vec::new();
    match table.verify(false) {
        Ok(report) => defects.extend(report.problems.iter().map(|p| Defect {
            offset: Some(p.offset),
            message: p.error.message().to_string(),
            damage: true,
        })),
        Err(e) if e.is_corruption() => defects.push(Defect::of(&e)),
        Err(e) => return Err(e),
    }
    let items = if with_blocks { Some(blocks(&table)?) } else { None };
    Ok(Found { kind: "table", facts, items_name: "blocks", items, defects })
}

fn blocks(table: &Table) -> Result<output::Table, Error> {
    let columns = [
        "block",
        "offset",
        "stored",
        "raw",
        "ratio",
        "entries",
        "keys_stored",
        "keys_raw",
        "codec_keys",
        "codec_values",
        "sequence_min",
        "sequence_max",
        "last",
    ];
    let mut rows = output::Table::new(&columns);
    for (i, block) in table.blocks()?.enumerate() {
        let codec = |id| Cell::text(codec_name(id));
        rows.row(vec![
            Cell::Count(i as u64),
            Cell::Offset(block.offset),
            Cell::Bytes(u64::from(block.stored_len)),
            Cell::Bytes(u64::from(block.raw_len)),
            Cell::ratio(u64::from(block.raw_len), u64::from(block.stored_len)),
            Cell::Count(u64::from(block.entries)),
            Cell::Bytes(u64::from(block.keys_stored)),
            Cell::Bytes(u64::from(block.keys_raw)),
            codec(block.codec_k),
            codec(block.codec_v),
            Cell::Count(block.seq_min),
            Cell::Count(block.seq_max),
            Cell::text(text::show(&block.last_key, Style::Auto)),
        ]);
    }
    Ok(rows)
}

/// The name of a codec by its number in the format.
fn codec_name(id: u8) -> String {
    match id {
        0 => "none".to_string(),
        1 => "lz4".to_string(),
        2 => "snappy".to_string(),
        3 => "zstd".to_string(),
        4 => "brotli".to_string(),
        _ => format!("custom:{id}"),
    }
}

/// Visits the range tombstones, then every point entry in order. Goes on behind a damaged block and
/// fails at the end.
pub(super) fn visit_entries(disk: &DiskFs, path: &Path, visit: Visit<'_>) -> Result<(), Failure> {
    let table = match open(disk, path) {
        // Said already.
        Err(e) if e.is_corruption() => return Ok(()),
        other => other?,
    };
    for fragment in table.tombstones().iter() {
        for &sequence in &fragment.seqs {
            visit(&Entry {
                at: 0,
                sequence,
                kind: "range-delete",
                family: None,
                key: &fragment.start,
                value: fragment.end.as_deref(),
            })?;
        }
    }
    let mut damage = None;
    for number in 0..table.index().len() {
        let block = match table.read_block(number) {
            Ok(block) => block,
            Err(e) if e.is_corruption() => {
                damage.get_or_insert(e);
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        for i in 0..block.len() {
            let tag = block.tag(i);
            visit(&Entry {
                at: number as u64,
                sequence: tag.seq(),
                kind: Kind::from_u8(tag.kind_byte()).map_or("unknown", Kind::name),
                family: None,
                key: block.key(i),
                value: tag.is_put().then(|| block.value(i)),
            })?;
        }
    }
    damage.map_or(Ok(()), |e| Err(e.into()))
}

fn open(disk: &DiskFs, path: &Path) -> Result<Arc<Table>, Error> {
    let context = TableContext {
        cache: Arc::new(BlockCache::new(CACHE_LEN)),
        metrics: Arc::new(Metrics::default()),
        family: Arc::new(FamilyMetrics::default()),
        level: 0,
        clock: Arc::new(SystemClock::new()),
        pool: None,
    };
    Table::open_file(disk, path, &context).map(|(table, _)| table)
}
