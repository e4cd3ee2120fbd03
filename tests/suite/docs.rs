//! What the papers say is what the code does. The hex examples of FORMAT.md are held against the
//! code by the engine's own tests; here are the numbers and names in its tables.

use lignite::internals::filename::FileName;
use lignite::internals::header::{FORMAT_VERSION, FileHeader, FileKind, HEADER_LEN};
use lignite::internals::key::{BATCH_LEN_MAX, FAMILY_NAME_LEN_MAX, KEY_LEN_MAX, Kind, VALUE_LEN_MAX};
use lignite::internals::record::{RECORD_ALIGN, RECORD_HEADER_LEN, RecordKind};
use lignite::internals::table::footer::{FEATURE_BASE, FEATURE_DICTIONARY, FEATURE_FILTERS, FOOTER_MAGIC};
use lignite::internals::tombstone::RANGE_END_LEN_MAX;
use lignite::internals::wal::{FIRST_RECORD, SEGMENT_HEADER_LEN};
use lignite::internals::{checksum, frame};
use lignite_tests::source::workspace;

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Fails unless the text has every one of these, line breaks counting as spaces.
fn assert_says(path: &str, sentences: &[String]) {
    let text = read(path).split_whitespace().collect::<Vec<_>>().join(" ");
    let missing: Vec<&String> =
        sentences.iter().filter(|s| !text.contains(&s.split_whitespace().collect::<Vec<_>>().join(" "))).collect();
    assert!(missing.is_empty(), "{path} does not say {missing:#?}");
}

fn thousands(n: usize) -> String {
    if n < 1000 { n.to_string() } else { format!("{},{:03}", n / 1000, n % 1000) }
}

#[test]
fn format_md_has_the_numbers_of_the_code() {
    let magic = |kind: FileKind| String::from_utf8(kind.magic().to_vec()).unwrap();
    let mut said = vec![
        format!("The format version is {FORMAT_VERSION}."),
        format!("begin with the same {HEADER_LEN} bytes"),
        format!(
            "`{}`, `{}`, `{}`, `{}`",
            magic(FileKind::Manifest),
            magic(FileKind::Wal),
            magic(FileKind::Table),
            magic(FileKind::Blob)
        ),
        format!("| 8 | 4 | format version, {FORMAT_VERSION} |"),
        format!("Keys have at most {} bytes, values {} MiB", thousands(KEY_LEN_MAX), VALUE_LEN_MAX >> 20),
        format!("record payloads {} MiB, names of column families {FAMILY_NAME_LEN_MAX} bytes", BATCH_LEN_MAX >> 20),
        format!("ends of ranges {} bytes", thousands(RANGE_END_LEN_MAX)),
        // Records.
        format!("begin at multiples of {RECORD_ALIGN}"),
        format!("| {RECORD_HEADER_LEN} | | payload, then zeros"),
        format!("| {HEADER_LEN} | {SEGMENT_HEADER_LEN} | segment header |"),
        format!("| {FIRST_RECORD} | | records |"),
        format!("| {} | batch | write batch |", RecordKind::Batch as u8),
        format!("| {} | family operation |", RecordKind::FamilyOperation as u8),
        format!("| {} | ingest |", RecordKind::Ingest as u8),
        format!("| {} | end |", RecordKind::End as u8),
        format!(
            "| {}, {}, {} | prepare, commit, rollback | reserved",
            RecordKind::Prepare as u8,
            RecordKind::Commit as u8,
            RecordKind::Rollback as u8
        ),
        format!("| {} | edit |", RecordKind::Edit as u8),
        // Entries.
        format!("| put | `{:02x}`, family varint", Kind::Put as u8),
        format!("| delete | `{:02x}`, family varint", Kind::Delete as u8),
        format!("| range delete | `{:02x}`, family varint", Kind::RangeDelete as u8),
        format!("`{:02x}` merge", Kind::Merge as u8),
        format!("`{:02x}` single delete", Kind::SingleDelete as u8),
        format!("`{:02x}` blob reference", Kind::BlobRef as u8),
        format!("`{:02x}` put with expiry", Kind::PutExpiring as u8),
        // Tables.
        String::from_utf8(FOOTER_MAGIC.to_vec()).unwrap(),
        FEATURE_BASE.to_string(),
        FEATURE_DICTIONARY.to_string(),
        FEATURE_FILTERS.to_string(),
        format!("{} MiB", frame::PART_LEN_MAX >> 20),
    ];
    for (id, name) in [(0, "none"), (1, "LZ4"), (2, "Snappy"), (3, "Zstandard"), (4, "Brotli")] {
        said.push(format!("{id} {name}"));
        let spelt = lignite_codecs::codec_name(id);
        let short = name.replace("Zstandard", "zstd").to_lowercase();
        assert_eq!(spelt, short, "codec {id}");
    }
    assert_says("engine/FORMAT.md", &said);
}

#[test]
fn the_header_lies_as_format_md_draws_it() {
    let header = FileHeader { kind: FileKind::Table, number: 0x0102_0304_0506_0708, db_id: 0xa1 << 120 | 0xb2 };
    let bytes = header.encode();
    assert_eq!(bytes.len(), HEADER_LEN);
    assert_eq!(bytes[..8], FileKind::Table.magic());
    assert_eq!(bytes[8..12], FORMAT_VERSION.to_le_bytes());
    assert_eq!(bytes[12..16], [0; 4]);
    assert_eq!(bytes[16..24], header.number.to_le_bytes());
    assert_eq!(bytes[24..40], header.db_id.to_le_bytes());
    assert_eq!(bytes[40..44], [0; 4]);
    assert_eq!(bytes[44..], checksum::crc32(0, &[&bytes[..44]]).to_le_bytes());
    assert_eq!(FileHeader::decode(&bytes, FileKind::Table).unwrap(), header);
}

#[test]
fn file_names_are_those_of_format_md() {
    let names = [
        (FileName::Current, "`CURRENT`"),
        (FileName::CurrentTemp, "`CURRENT.tmp`"),
        (FileName::Lock, "`LOCK`"),
        (FileName::Manifest(7), "`MANIFEST-nnnnnn`"),
        (FileName::Wal(7), "`nnnnnn.wal`"),
        (FileName::Table(7), "`nnnnnn.sst`"),
        (FileName::Blob(7), "`nnnnnn.blob`"),
        (FileName::Reserve, "`RESERVE`"),
    ];
    let said: Vec<String> = names.iter().map(|(_, said)| format!("| {said} |")).collect();
    assert_says("engine/FORMAT.md", &said);
    for (name, said) in names {
        assert_eq!(format!("`{}`", name.to_string().replace("000007", "nnnnnn")), said);
    }
}

/// Every module of the engine has its paragraph in the map.
#[test]
fn architecture_md_names_every_module() {
    let text = read("engine/ARCHITECTURE.md");
    let graph = lignite_tests::source::Graph::read(&workspace().join("engine/src/lib.rs"));
    let missing: Vec<&String> = graph
        .modules
        .keys()
        .filter(|m| !m.contains("::") && !matches!(m.as_str(), "crate" | "internals" | "format_examples"))
        .filter(|m| !text.contains(&format!("`{m}`")) && !text.contains(&format!("`{m}/")))
        .collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name {missing:?}");
}
