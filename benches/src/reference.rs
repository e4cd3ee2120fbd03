//! The reference size R, against which the files of the engine are judged.
//!
//! Each set is cut at record borders into pieces of at most 16 KiB and every piece is compressed on
//! its own with Zstandard 3; it counts raw if that is not smaller. A piece holds the records row-wise,
//! keys front-coded against the record before, without restarts:
//!
//! ```text
//! varint shared key bytes | varint other key bytes | varint value bytes | other key bytes | value
//! ```
//!
//! Everything that could be read either way is read against the engine. The 16 KiB are those of the
//! front-coded form, so that a piece holds as many records as it can; frames carry neither magic nor
//! content size nor checksum; R counts nothing else: no index, no lengths of pieces, no checksums.
//! A record larger than 16 KiB is a piece of its own.

use std::path::Path;
use std::time::Instant;

use zstd_safe::{CCtx, CParameter, DCtx, DParameter, FrameFormat};

use lignite_bench::Result;
use lignite_bench::measure::{Table, megabytes};
use lignite_bench::records::{RecordSet, SETS};

/// Most bytes of a piece, before compression.
pub const PIECE_LEN_MAX: usize = 16 << 10;

/// R of one set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference {
    /// Records.
    pub n_records: u64,
    /// Bytes of keys and values.
    pub raw_bytes: u64,
    /// Pieces.
    pub n_pieces: u64,
    /// Bytes of all pieces before compression.
    pub coded_bytes: u64,
    /// R itself: bytes of all pieces after compression.
    pub bytes: u64,
    /// Nanoseconds that a piece takes to decompress, on the average over one in eight, the shortest of three: with
    /// a context that is kept, nothing checked, nothing built of it.
    pub decode_nanos: u64,
    /// The same with the 16 KiB counted in bytes of keys and values, for comparison only.
    pub bytes_cut_by_raw: u64,
}

/// One piece of so many is timed.
const TIMED_EVERY: u64 = 8;

/// How the 16 KiB of a piece are counted.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    /// In front-coded bytes.
    Coded,
    /// In bytes of keys and values.
    Raw,
}

impl Reference {
    /// Computes R of `set`.
    pub fn compute(set: &RecordSet) -> Result<Reference> {
        let mut reference = Reference { raw_bytes: set.raw_bytes(), ..Reference::default() };
        let mut pieces = Pieces::new()?;
        for (key, value) in set.iter() {
            reference.n_records += 1;
            pieces.add(key, value, Cut::Coded)?;
        }
        pieces.end()?;
        reference.n_pieces = pieces.n_pieces;
        reference.coded_bytes = pieces.coded_bytes;
        reference.bytes = pieces.stored_bytes;
        reference.decode_nanos = pieces.decode_nanos / pieces.n_pieces.div_ceil(TIMED_EVERY).max(1);

        let mut pieces = Pieces::new()?;
        for (key, value) in set.iter() {
            pieces.add(key, value, Cut::Raw)?;
        }
        pieces.end()?;
        reference.bytes_cut_by_raw = pieces.stored_bytes;
        Ok(reference)
    }

    fn add(&mut self, other: &Reference) {
        self.n_records += other.n_records;
        self.raw_bytes += other.raw_bytes;
        self.n_pieces += other.n_pieces;
        self.coded_bytes += other.coded_bytes;
        self.bytes += other.bytes;
        self.bytes_cut_by_raw += other.bytes_cut_by_raw;
    }
}

/// Prints R of every set and of their sum.
pub fn run(data: &Path) -> Result<()> {
    let mut table = Table::new(&[
        "set",
        "records",
        "raw MB",
        "pieces",
        "front-coded MB",
        "R bytes",
        "R MB",
        "ratio",
        "R if cut by raw bytes",
    ]);
    let mut sum = Reference::default();
    let mut row = |name: &str, r: &Reference| {
        table.row(vec![
            name.to_owned(),
            r.n_records.to_string(),
            megabytes(r.raw_bytes),
            r.n_pieces.to_string(),
            megabytes(r.coded_bytes),
            r.bytes.to_string(),
            megabytes(r.bytes),
            format!("{:.2}", r.raw_bytes as f64 / r.bytes as f64),
            r.bytes_cut_by_raw.to_string(),
        ]);
    };
    for name in SETS {
        let reference = Reference::compute(&RecordSet::read(data, name)?)?;
        row(name, &reference);
        sum.add(&reference);
    }
    row("all", &sum);
    print!("{table}");
    Ok(())
}

/// The piece under construction, and the sums over those before.
struct Pieces {
    context: CCtx<'static>,
    piece: Vec<u8>,
    piece_raw: usize,
    record: Vec<u8>,
    previous_key: Vec<u8>,
    compressed: Vec<u8>,
    n_pieces: u64,
    coded_bytes: u64,
    stored_bytes: u64,
    decoder: DCtx<'static>,
    decode_nanos: u64,
}

impl Pieces {
    fn new() -> Result<Pieces> {
        let mut context = CCtx::create();
        for parameter in [
            CParameter::CompressionLevel(3),
            CParameter::Format(FrameFormat::Magicless),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ] {
            context.set_parameter(parameter).map_err(zstd_safe::get_error_name)?;
        }
        let mut decoder = DCtx::create();
        decoder.set_parameter(DParameter::Format(FrameFormat::Magicless)).map_err(zstd_safe::get_error_name)?;
        Ok(Pieces {
            context,
            piece: Vec::new(),
            piece_raw: 0,
            record: Vec::new(),
            previous_key: Vec::new(),
            compressed: Vec::new(),
            n_pieces: 0,
            coded_bytes: 0,
            stored_bytes: 0,
            decoder,
            decode_nanos: 0,
        })
    }

    fn add(&mut self, key: &[u8], value: &[u8], cut: Cut) -> Result<()> {
        self.encode_record(key, value);
        let is_full = match cut {
            Cut::Coded => self.piece.len() + self.record.len() > PIECE_LEN_MAX,
            Cut::Raw => self.piece_raw + key.len() + value.len() > PIECE_LEN_MAX,
        };
        if is_full && !self.piece.is_empty() {
            self.end()?;
            self.encode_record(key, value);
        }
        self.piece.append(&mut self.record);
        self.piece_raw += key.len() + value.len();
        self.previous_key.clear();
        self.previous_key.extend_from_slice(key);
        Ok(())
    }

    /// Ends the piece: the next record is coded against nothing.
    fn end(&mut self) -> Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.compressed.clear();
        self.compressed.reserve(zstd_safe::compress_bound(self.piece.len()));
        let len = self.context.compress2(&mut self.compressed, &self.piece).map_err(zstd_safe::get_error_name)?;
        if self.n_pieces.is_multiple_of(TIMED_EVERY) {
            let mut back = vec![0; self.piece.len()];
            let mut shortest = u64::MAX;
            for _ in 0..3 {
                let begun = Instant::now();
                match len < self.piece.len() {
                    true => {
                        self.decoder.decompress(&mut back[..], &self.compressed).map_err(zstd_safe::get_error_name)?;
                    }
                    false => back.copy_from_slice(&self.piece),
                }
                shortest = shortest.min(begun.elapsed().as_nanos() as u64);
            }
            self.decode_nanos += shortest;
        }
        self.n_pieces += 1;
        self.coded_bytes += self.piece.len() as u64;
        self.stored_bytes += len.min(self.piece.len()) as u64;
        self.piece.clear();
        self.piece_raw = 0;
        self.previous_key.clear();
        Ok(())
    }

    fn encode_record(&mut self, key: &[u8], value: &[u8]) {
        let shared = self.previous_key.iter().zip(key).take_while(|(a, b)| a == b).count();
        self.record.clear();
        put_varint(&mut self.record, shared);
        put_varint(&mut self.record, key.len() - shared);
        put_varint(&mut self.record, value.len());
        self.record.extend_from_slice(&key[shared..]);
        self.record.extend_from_slice(value);
    }
}

fn put_varint(out: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}
