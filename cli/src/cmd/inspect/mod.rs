//! `inspect`: any single file of a database, without the database.
//!
//! Each kind of file has a reader that tells facts, items (blocks, records or edits) and defects;
//! this module finds out the kind and writes all of it in every format. Entries are written as they
//! are read: a table may hold more than memory does.

use std::path::{Path, PathBuf};

use lignite::internals::filename::FileName;
use lignite::internals::fs::disk::DiskFs;
use lignite::internals::fs::{File, Fs};
use lignite::internals::header::FileKind;
use lignite::{Error, ErrorKind};
use serde_json::{Map, Value};

use super::get;
use crate::args::{FormatArgs, StyleArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt::{self, Polling};
use crate::output::{self, Cell, Format, Output, Table};
use crate::text;

mod found;
mod log;
mod table;

use found::{Defect, Entry, Found, Visit};

/// Show what is in single files: tables, logs, manifests, CURRENT; exit 3 for a damaged one.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite inspect DB/000012.sst --blocks
  lignite inspect DB/000013.wal DB/MANIFEST-000002 --entries --json")]
pub struct Args {
    /// The files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Every block of a table, every record of a log.
    #[arg(long)]
    blocks: bool,
    /// Every entry of a table or log.
    #[arg(long)]
    entries: bool,
    /// The bytes of the file.
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    styles: StyleArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// How much of a file is shown in hex at a time.
const HEX_PIECE_LEN: usize = 64 << 10;

/// Shows them.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let mut out = context.output();
    let _polling = Polling::begin();
    let json = args.format.get() == Format::Json;
    if json {
        out.line("{\"schema\":\"lignite.inspect/1\",\"files\":[")?;
    }
    let mut exit = Exit::Done;
    for (i, path) in args.files.iter().enumerate() {
        if i > 0 {
            out.line(if json { "," } else { "" })?;
        }
        if inspect(path, args, &mut out)? {
            exit = Exit::Corruption;
        }
    }
    if json {
        out.line("]}")?;
    }
    out.flush()?;
    Ok(exit)
}

/// Shows one file; true if it is damaged.
fn inspect(path: &Path, args: &Args, out: &mut Output) -> Result<bool, Failure> {
    let disk = DiskFs::new();
    let file = disk.open(path).map_err(|e| Failure::io("open", path, &e))?;
    let len = file.len().map_err(|e| Failure::io("read", path, &e))?;
    let kind = kind_of(&*file, path, len)?;
    let mut found = match read(&disk, path, kind, args) {
        Ok(found) => found,
        // Too damaged to read at all: that is the finding.
        Err(e) if e.kind() == ErrorKind::Corruption => Found {
            kind: kind.name(),
            facts: Vec::new(),
            items_name: "items",
            items: None,
            defects: vec![Defect::of(&e)],
        },
        Err(e) => return Err(e.into()),
    };
    found.facts.insert(0, ("bytes", Cell::Bytes(len)));
    match args.format.get() {
        Format::Json => write_json(&disk, &*file, path, kind, &mut found, args, out)?,
        Format::Table => write_text(&disk, &*file, path, kind, &mut found, args, out)?,
        format => write_rows(&disk, path, kind, &mut found, args, format, out)?,
    }
    let damages = found.defects.iter().filter(|d| d.damage);
    let mut damaged = false;
    for defect in damages {
        damaged = true;
        let offset = defect.offset.map_or(String::new(), |o| format!("  offset {o}"));
        output::error_line(&format!("corrupt: {}{offset}  {}", path.display(), defect.message));
    }
    Ok(damaged)
}

/// The kinds of files that have a reader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    Log,
    Manifest,
    Current,
    Lock,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Table => "table",
            Kind::Log => "log",
            Kind::Manifest => "manifest",
            Kind::Current => "current",
            Kind::Lock => "lock",
        }
    }
}

/// The kind of a file by its first bytes, else (they may be what is damaged) by its name.
fn kind_of(file: &dyn File, path: &Path, len: u64) -> Result<Kind, Failure> {
    let mut magic = [0; 8];
    let n = file.read_at(&mut magic, 0).map_err(|e| Failure::io("read", path, &e))?;
    let unsupported = |what: &str| {
        Failure::new(Exit::Unsupported, format!("{}: {what} are not supported by this version", path.display()))
    };
    match FileKind::from_magic(&magic[..n]) {
        Some(FileKind::Table) => return Ok(Kind::Table),
        Some(FileKind::Wal) => return Ok(Kind::Log),
        Some(FileKind::Manifest) => return Ok(Kind::Manifest),
        Some(FileKind::Blob) => return Err(unsupported("blob files")),
        None if magic == *b"LGNTCUR1" => return Ok(Kind::Current),
        None => {}
    }
    match path.file_name().and_then(|n| n.to_str()).and_then(FileName::parse) {
        Some(FileName::Table(_)) => Ok(Kind::Table),
        Some(FileName::Wal(_)) => Ok(Kind::Log),
        Some(FileName::Manifest(_)) => Ok(Kind::Manifest),
        Some(FileName::Current | FileName::CurrentTemp) => Ok(Kind::Current),
        Some(FileName::Lock | FileName::Reserve) => Ok(Kind::Lock),
        Some(FileName::Blob(_)) => Err(unsupported("blob files")),
        None => Err(Failure::usage(format!("{} ({len} bytes) is not a file of a Lignite database", path.display()))),
    }
}

fn read(disk: &DiskFs, path: &Path, kind: Kind, args: &Args) -> Result<Found, Error> {
    match kind {
        Kind::Table => table::read(disk, path, args.blocks),
        Kind::Log => log::read_log(disk, path, args.blocks),
        Kind::Manifest => log::read_manifest(disk, path),
        Kind::Current => log::read_current(disk, path),
        Kind::Lock => log::read_lock(disk, path),
    }
}

/// Visits every entry of a file that has some.
fn visit_entries(disk: &DiskFs, path: &Path, kind: Kind, visit: Visit<'_>) -> Result<(), Failure> {
    let visit = &mut |entry: &Entry<'_>| {
        interrupt::check()?;
        visit(entry)
    };
    match kind {
        Kind::Table => table::visit_entries(disk, path, visit),
        Kind::Log => log::visit_entries(disk, path, visit),
        Kind::Manifest | Kind::Current | Kind::Lock => Ok(()),
    }
}

/// Damage met while entries are read joins what was found before; other failures end the command.
fn take_damage(result: Result<(), Failure>, found: &mut Found) -> Result<(), Failure> {
    match result {
        Err(Failure::Message { exit: Exit::Corruption, message }) => {
            found.defects.push(Defect { offset: None, message, damage: true });
            Ok(())
        }
        other => other,
    }
}

// The formats.

fn write_text(
    disk: &DiskFs,
    file: &dyn File,
    path: &Path,
    kind: Kind,
    found: &mut Found,
    args: &Args,
    out: &mut Output,
) -> Result<(), Failure> {
    let facts = std::mem::take(&mut found.facts);
    out.table(&Table::facts(facts).titled(format!("{} {}", found.kind, path.display())))?;
    if let Some(items) = &found.items
        && !items.is_empty()
    {
        out.line("")?;
        out.line(found.items_name)?;
        out.table(items)?;
    }
    if args.entries {
        out.line("")?;
        let (keys, values) = (args.styles.keys, args.styles.values);
        let result = visit_entries(disk, path, kind, &mut |entry| {
            let family = entry.family.map_or(String::new(), |f| format!("cf{f}\t"));
            let value = entry.value.map_or(String::new(), |v| format!("\t{}", text::show(v, values)));
            let key = text::show(entry.key, keys);
            out.line(&format!("{}\t{}\t{}\t{family}{key}{value}", entry.at, entry.sequence, entry.kind))
        });
        take_damage(result, found)?;
    }
    if args.hex {
        out.line("")?;
        each_piece(file, path, |offset, piece| {
            for (i, line) in piece.chunks(16).enumerate() {
                let digits: Vec<String> = line.iter().map(|b| format!("{b:02x}")).collect();
                let shown: String =
                    line.iter().map(|b| if (b' '..=b'~').contains(b) { char::from(*b) } else { '.' }).collect();
                out.line(&format!("{:08x}  {:<47}  {shown}", offset + 16 * i as u64, digits.join(" ")))?;
            }
            Ok(())
        })?;
    }
    for defect in &found.defects {
        let offset = defect.offset.map_or(String::new(), |o| format!(" at offset {o}"));
        let what = if defect.damage { "damage" } else { "torn tail" };
        out.line(&format!("{what}{offset}: {}", defect.message))?;
    }
    Ok(())
}

fn write_json(
    disk: &DiskFs,
    file: &dyn File,
    path: &Path,
    kind: Kind,
    found: &mut Found,
    args: &Args,
    out: &mut Output,
) -> Result<(), Failure> {
    let mut head = Map::new();
    head.insert("path".into(), path.display().to_string().into());
    head.insert("kind".into(), found.kind.into());
    for (name, cell) in &found.facts {
        head.insert((*name).to_string(), cell.json());
    }
    if let Some(items) = &found.items {
        head.insert(found.items_name.into(), items.objects().collect::<Vec<_>>().into());
    }
    let head = Value::Object(head).to_string();
    out.record(&head.as_bytes()[..head.len() - 1])?;
    if args.entries {
        out.record(b",\"entries\":[")?;
        let mut separator: &[u8] = b"\n";
        let result = visit_entries(disk, path, kind, &mut |entry| {
            let mut line = separator.to_vec();
            separator = b",\n";
            output::push_json(&mut line, &entry_object(entry, args));
            out.record(&line)
        });
        take_damage(result, found)?;
        out.record(b"]")?;
    }
    if args.hex {
        out.record(b",\"hex\":\"")?;
        each_piece(file, path, |_, piece| {
            let digits: String = piece.iter().map(|b| format!("{b:02x}")).collect();
            out.record(digits.as_bytes())
        })?;
        out.record(b"\"")?;
    }
    let mut tail = b",\"defects\":".to_vec();
    output::push_json(&mut tail, &found.defects);
    tail.extend_from_slice(b"}\n");
    out.record(&tail)
}

/// The finest listing that was asked for, as rows.
fn write_rows(
    disk: &DiskFs,
    path: &Path,
    kind: Kind,
    found: &mut Found,
    args: &Args,
    format: Format,
    out: &mut Output,
) -> Result<(), Failure> {
    if args.entries {
        if format == Format::Csv {
            out.line("at,sequence,kind,cf,k,v")?;
        }
        let (keys, values) = (args.styles.keys, args.styles.values);
        let result = visit_entries(disk, path, kind, &mut |entry| match format {
            Format::Ndjson => out.json_line(&entry_object(entry, args)),
            _ => out.csv_line(
                [
                    entry.at.to_string(),
                    entry.sequence.to_string(),
                    entry.kind.to_string(),
                    entry.family.map_or(String::new(), |f| f.to_string()),
                    text::show(entry.key, keys),
                    entry.value.map_or(String::new(), |v| text::show(v, values)),
                ]
                .iter(),
            ),
        });
        return take_damage(result, found);
    }
    if let Some(items) = &found.items {
        return out.rows(format, items);
    }
    let mut rows = Table::new(&["name", "value"]);
    for (name, cell) in found.facts.drain(..) {
        rows.row(vec![Cell::text(name), cell]);
    }
    out.rows(format, &rows)
}

fn entry_object(entry: &Entry<'_>, args: &Args) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("at".into(), entry.at.into());
    object.insert("sequence".into(), entry.sequence.into());
    object.insert("kind".into(), entry.kind.into());
    if let Some(family) = entry.family {
        object.insert("cf".into(), family.into());
    }
    if let Some(key) = get::json(entry.key, args.styles.keys) {
        object.insert("k".into(), key);
    }
    if let Some(value) = entry.value.and_then(|v| get::json(v, args.styles.values)) {
        object.insert("v".into(), value);
    }
    object
}

fn each_piece(
    file: &dyn File,
    path: &Path,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut piece = vec![0; HEX_PIECE_LEN];
    let mut offset = 0;
    loop {
        interrupt::check()?;
        let n = file.read_at(&mut piece, offset).map_err(|e| Failure::io("read", path, &e))?;
        if n == 0 {
            return Ok(());
        }
        visit(offset, &piece[..n])?;
        offset += n as u64;
    }
}
