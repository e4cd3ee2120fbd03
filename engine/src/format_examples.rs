//! Holds the worked examples of FORMAT.md against what the code writes. Tests only.
//!
//! With `LIGNITE_REWRITE=1` in the environment the test writes the examples into FORMAT.md instead.

use std::fmt::Write;
use std::path::Path;

use crate::batch::WriteBatch;
use crate::checksum::place_salt;
use crate::frame::{self, Codec, Dictionary, Filter, FrameOptions};
use crate::fs::disk::DiskFs;
use crate::fs::mem::MemFs;
use crate::fs::{Fs, read_all};
use crate::key::FamilyId;
use crate::options::CfOptions;
use crate::record::{LogPosition, RecordHeader, RecordKind};
use crate::tombstone::{Fragments, RangeTombstone};
use crate::version::current::{Current, Seal, read_current, write_current};
use crate::version::edit::{FamilyRecord, VersionEdit};
use crate::version::manifest::{self, ManifestWriter};
use crate::wal::{self, SegmentWriter};

const DB_ID: u128 = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;

#[test]
#[allow(clippy::unwrap_used)]
fn the_examples_of_format_md_are_what_the_code_writes() {
    let mut text = include_str!("../FORMAT.md").to_string();
    for (name, example) in examples() {
        let begin = format!("<!-- example:{name} -->\n");
        let start = text.find(&begin).unwrap_or_else(|| panic!("FORMAT.md has no example {name}")) + begin.len();
        let len = text[start..].find("<!-- end -->").unwrap();
        text.replace_range(start..start + len, &format!("```text\n{example}```\n"));
    }
    if std::env::var_os("LIGNITE_REWRITE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("FORMAT.md");
        let fs = DiskFs::new();
        fs.remove_file(&path).unwrap();
        fs.create_new(&path).unwrap().write_all_at(text.as_bytes(), 0).unwrap();
        return;
    }
    let expected = include_str!("../FORMAT.md");
    for (line, (is, should)) in expected.lines().zip(text.lines()).enumerate() {
        assert_eq!(is, should, "FORMAT.md line {}; LIGNITE_REWRITE=1 rewrites it", line + 1);
    }
    assert_eq!(expected, text);
}

#[allow(clippy::unwrap_used)]
fn examples() -> Vec<(&'static str, String)> {
    let fs = MemFs::new();
    let dir = Path::new("/db");
    fs.create_dir_all(dir).unwrap();
    let mut out = Vec::new();

    let mut batch = WriteBatch::new();
    batch.put_id(FamilyId::DEFAULT, b"apple", b"red").delete_id(FamilyId(1), b"pear");
    batch.delete_range_id(FamilyId::DEFAULT, b"a", Some(b"b"));
    let lines: Vec<String> = batch.entries().map(|e| e.unwrap().to_string()).collect();
    out.push(("batch", with_dump(&lines, batch.as_bytes())));

    let mut segment = SegmentWriter::create(&fs, dir, 4, DB_ID, LogPosition::START, 1, 0x5a17).unwrap();
    let header = RecordHeader { kind: RecordKind::Batch, first_seq: 1, count: 3, synced: LogPosition::START };
    segment.append(&header, batch.as_bytes()).unwrap();
    segment.finish(LogPosition { segment: 4, offset: 128 }).unwrap();
    let mut lines = Vec::new();
    let path = segment.path().to_path_buf();
    let (file, header) = wal::scan_file(&fs, &path, &mut |item| {
        lines.push(item.to_string());
        Ok(())
    })
    .unwrap();
    lines.splice(0..0, [file.to_string(), header.to_string()]);
    out.push(("wal", with_dump(&lines, &content(&fs, &path))));

    let snapshot = VersionEdit {
        snapshot: true,
        db_id: Some(DB_ID),
        next_file: Some(5),
        next_family: Some(1),
        log_first: Some(4),
        families_created: vec![FamilyRecord::new(FamilyId::DEFAULT, "default", CfOptions::new(), 0)],
        ..VersionEdit::default()
    };
    let change = VersionEdit {
        next_file: Some(7),
        last_seq: Some(3),
        log_synced: Some(LogPosition { segment: 4, offset: 200 }),
        flushed: vec![(FamilyId::DEFAULT, 3)],
        ..VersionEdit::default()
    };
    out.push(("edit", with_dump(&[change.to_string()], &change.to_bytes())));

    let mut writer = ManifestWriter::create(&fs, dir, 3, DB_ID, &snapshot).unwrap();
    writer.append(&change).unwrap();
    let path = dir.join("MANIFEST-000003");
    let mut lines = Vec::new();
    let file = manifest::scan_file(&fs, &path, &mut |item| {
        lines.push(item.to_string());
        Ok(())
    })
    .unwrap();
    lines.splice(0..0, [file.to_string()]);
    out.push(("manifest", with_dump(&lines, &content(&fs, &path))));

    let seal = Seal {
        manifest_len: writer.len(),
        manifest_hash: writer.hash(),
        logs: vec![wal::hash_segment(&fs, dir, 4).unwrap()],
    };
    write_current(&fs, dir, &Current { db_id: DB_ID, manifest: 3, seal: Some(seal) }).unwrap();
    let current = read_current(&fs, dir).unwrap().unwrap();
    out.push(("current", with_dump(&[current.to_string()], &content(&fs, &dir.join("CURRENT")))));

    let dictionary = Dictionary::from_bytes(vec![0; 32]).unwrap();
    let options = FrameOptions {
        keys: Codec::None,
        dictionary: Some((0, dictionary)),
        values_filter: Some(Filter::Transpose { width: 8 }),
        ..FrameOptions::new(Codec::Lz4, 16)
    };
    let values: Vec<u8> = (1_700_000_000u64..1_700_000_012).flat_map(u64::to_le_bytes).collect();
    let mut bytes = Vec::new();
    let salt = place_salt(DB_ID, 7, 48);
    let trailer = frame::encode(&options, salt, b"twelve keys in 24 bytes.", &values, 12, None, &mut bytes).unwrap();
    out.push(("frame", with_dump(&[trailer.to_string()], &bytes)));

    let range = |start: &[u8], end: Option<&[u8]>, seq| RangeTombstone {
        start: start.to_vec(),
        end: end.map(<[u8]>::to_vec),
        seq,
    };
    let fragments = Fragments::build([range(b"a", Some(b"m"), 3), range(b"f", None, 200)]);
    let mut bytes = Vec::new();
    fragments.encode(&mut bytes);
    out.push(("tombstones", with_dump(&[fragments.to_string()], &bytes)));
    out
}

#[allow(clippy::unwrap_used)]
fn content(fs: &dyn Fs, path: &Path) -> Vec<u8> {
    read_all(&*fs.open(path).unwrap(), 1 << 20).unwrap()
}

/// The lines, then sixteen bytes a line with offset and text.
fn with_dump(lines: &[String], bytes: &[u8]) -> String {
    let mut out = String::new();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
    out.push('\n');
    for (i, chunk) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = chunk.iter().map(|b| format!("{b:02x}")).collect();
        let shown = |b: &u8| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' };
        let text: String = chunk.iter().map(shown).collect();
        let _ = writeln!(out, "{:08x}  {:<47}  |{text}|", i * 16, hex.join(" "));
    }
    out
}
