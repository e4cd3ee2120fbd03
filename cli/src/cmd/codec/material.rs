//! What codecs are tried on: files cut into stretches, of which a sample is kept, and those into blocks.
//!
//! A file of records becomes blocks as tables have them, keys apart from values; any other file becomes
//! pieces of so many bytes. The sample is even over each file, the same in every run, and bounded while
//! the file is still being read: when too much is kept, every other stretch goes and half as many are
//! taken from then on.

use std::io::{BufRead, Read};
use std::time::Instant;

use lignite::internals::key::{Kind, Tag};
use lignite::internals::table::block::BlockBuilder;

use crate::exit::Failure;
use crate::formats::{DataFormat, RecordReader};
use crate::interrupt;
use crate::progress::Progress;
use crate::stream::{open_input, open_raw};
use crate::units::Sample;

/// A stretch has about so many bytes, and more if a block has.
const STRETCH_LEN: usize = 256 << 10;
/// The most that is kept of all files, whatever sample is asked for.
pub const KEPT_LEN_MAX: u64 = 512 << 20;

/// What was kept of the files.
#[derive(Default)]
pub struct Material {
    stretches: Vec<Stretch>,
    /// Bytes read, as they are before any compression.
    pub read_bytes: u64,
    /// Records among them.
    pub records: u64,
    /// True if reading ended before the files did, since the time was up.
    pub is_cut_short: bool,
}

/// Consecutive bytes of a file, or consecutive records.
struct Stretch {
    bytes: Vec<u8>,
    /// Where each key and each value ends; none for a file without records.
    records: Vec<(u32, u32)>,
}

/// One block: what is compressed on its own, in two parts if it is made of records.
pub struct Block {
    /// The keys part, or nothing.
    pub keys: Vec<u8>,
    /// The values part, or all.
    pub values: Vec<u8>,
}

impl Block {
    /// Bytes of both parts.
    pub fn len(&self) -> usize {
        self.keys.len() + self.values.len()
    }

    /// The parts that hold anything.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        [self.keys.as_slice(), &self.values].into_iter().filter(|part| !part.is_empty())
    }
}

impl Material {
    /// Reads files until `deadline`. No block will be larger than `block_size_max`, save for single records that are.
    pub fn read(
        paths: &[String],
        sample: Sample,
        block_size_max: usize,
        deadline: Instant,
        progress: &mut Progress,
    ) -> Result<Material, Failure> {
        let mut material = Material::default();
        let limit = match sample {
            Sample::Bytes(bytes) => bytes.min(KEPT_LEN_MAX),
            Sample::Share(_) => KEPT_LEN_MAX,
        };
        for path in paths {
            let mut sieve = Sieve {
                share: 1.0,
                kept: 0,
                seen: 0,
                limit: (limit / paths.len() as u64).max(1),
                stretches: Vec::new(),
            };
            if let Sample::Share(share) = sample {
                sieve.share = share;
            }
            let stretch_len = STRETCH_LEN.max(block_size_max);
            if DataFormat::of_name(path) == Some(DataFormat::Kv) {
                let input = open_input(path)?;
                let mut reader = RecordReader::new(DataFormat::Kv, input.reader, input.name)?;
                material.read_with(&mut sieve, deadline, progress, |stretch| {
                    fill_records(&mut reader, stretch, stretch_len)
                })?;
            } else {
                let mut input = open_raw(path)?.0;
                let name = std::path::Path::new(path);
                material.read_with(&mut sieve, deadline, progress, |stretch| {
                    let n = input.by_ref().take(stretch_len as u64).read_to_end(&mut stretch.bytes);
                    n.map(|n| n > 0).map_err(|e| Failure::io("read", name, &e))
                })?;
            }
            material.stretches.append(&mut sieve.stretches);
        }
        Ok(material)
    }

    fn read_with(
        &mut self,
        sieve: &mut Sieve,
        deadline: Instant,
        progress: &mut Progress,
        mut fill: impl FnMut(&mut Stretch) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        loop {
            interrupt::check()?;
            if Instant::now() >= deadline && self.read_bytes > 0 {
                self.is_cut_short = true;
                return Ok(());
            }
            let mut stretch = Stretch { bytes: Vec::new(), records: Vec::new() };
            if !fill(&mut stretch)? {
                return Ok(());
            }
            self.read_bytes += stretch.bytes.len() as u64;
            self.records += stretch.records.len() as u64;
            progress.set(self.read_bytes, None);
            sieve.offer(stretch);
        }
    }

    /// Bytes that were kept.
    pub fn kept_bytes(&self) -> u64 {
        self.stretches.iter().map(|s| s.bytes.len() as u64).sum()
    }

    /// What was kept, in blocks of this size.
    pub fn blocks(&self, block_size: usize) -> Vec<Block> {
        let mut blocks = Vec::new();
        for stretch in &self.stretches {
            if stretch.records.is_empty() {
                let piece = |piece: &[u8]| Block { keys: Vec::new(), values: piece.to_vec() };
                blocks.extend(stretch.bytes.chunks(block_size.max(1)).map(piece));
            } else {
                cut_records(stretch, block_size, &mut blocks);
            }
        }
        blocks
    }
}

/// Keeps some of the stretches of one file.
struct Sieve {
    /// The share that is kept.
    share: f64,
    /// Bytes kept.
    kept: u64,
    /// Stretches seen.
    seen: u64,
    /// The most bytes to keep.
    limit: u64,
    stretches: Vec<Stretch>,
}

impl Sieve {
    /// The first one is always kept, so that something is.
    fn offer(&mut self, mut stretch: Stretch) {
        let before = (self.seen as f64 * self.share).ceil();
        self.seen += 1;
        if (self.seen as f64 * self.share).ceil() <= before {
            return;
        }
        if self.stretches.is_empty() {
            stretch.shorten(self.limit);
        }
        self.kept += stretch.bytes.len() as u64;
        self.stretches.push(stretch);
        while self.kept > self.limit && self.stretches.len() > 1 {
            let mut at = 0;
            self.stretches.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.share /= 2.0;
            self.kept = self.stretches.iter().map(|s| s.bytes.len() as u64).sum();
        }
    }
}

impl Stretch {
    /// Leaves at most so many bytes, but one record at least.
    fn shorten(&mut self, limit: u64) {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if self.bytes.len() <= limit {
            return;
        }
        if self.records.is_empty() {
            self.bytes.truncate(limit);
            return;
        }
        let n = self.records.iter().take_while(|(_, end)| *end as usize <= limit).count().max(1);
        self.records.truncate(n);
        self.bytes.truncate(self.records[n - 1].1 as usize);
    }
}

fn fill_records<R: BufRead>(
    reader: &mut RecordReader<R>,
    stretch: &mut Stretch,
    stretch_len: usize,
) -> Result<bool, Failure> {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    while stretch.bytes.len() < stretch_len && reader.read(&mut key, &mut value)? {
        stretch.bytes.extend_from_slice(&key);
        let key_end = stretch.bytes.len() as u32;
        stretch.bytes.extend_from_slice(&value);
        stretch.records.push((key_end, stretch.bytes.len() as u32));
    }
    Ok(!stretch.records.is_empty())
}

/// Cuts records into blocks as a table does; the builder is the engine's own.
fn cut_records(stretch: &Stretch, block_size: usize, blocks: &mut Vec<Block>) {
    let tag = Tag::new(1, Kind::Put);
    let mut builder = BlockBuilder::new();
    let (mut at, mut last_key): (usize, &[u8]) = (0, &[]);
    for &(key_end, value_end) in &stretch.records {
        let (key, value) = (&stretch.bytes[at..key_end as usize], &stretch.bytes[key_end as usize..value_end as usize]);
        let shared = last_key.iter().zip(key).take_while(|(a, b)| a == b).count();
        if builder.is_full_for(key.len() - shared, key.len(), value.len(), block_size) {
            close(&mut builder, blocks);
        }
        builder.add(if builder.is_empty() { 0 } else { shared }, key, tag, value);
        (at, last_key) = (value_end as usize, key);
    }
    if !builder.is_empty() {
        close(&mut builder, blocks);
    }
}

fn close(builder: &mut BlockBuilder, blocks: &mut Vec<Block>) {
    let mut keys = Vec::new();
    builder.encode_keys(&mut keys);
    blocks.push(Block { keys, values: builder.values().to_vec() });
    builder.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(len: usize) -> Stretch {
        Stretch { bytes: vec![7; len], records: Vec::new() }
    }

    #[test]
    fn a_sieve_keeps_an_even_sample_within_its_limit() {
        let mut sieve = Sieve { share: 1.0, kept: 0, seen: 0, limit: 1000, stretches: Vec::new() };
        for i in 0..200 {
            sieve.offer(Stretch { bytes: vec![i as u8; 100], records: Vec::new() });
            assert!(sieve.kept <= 1000 && !sieve.stretches.is_empty());
        }
        let kept: Vec<u8> = sieve.stretches.iter().map(|s| s.bytes[0]).collect();
        assert!(kept.len() >= 5 && kept.windows(2).all(|w| w[0] < w[1]), "{kept:?}");
        assert!(kept[0] == 0 && *kept.last().unwrap_or(&0) > 150, "{kept:?}");

        let mut sieve = Sieve { share: 0.1, kept: 0, seen: 0, limit: 1 << 20, stretches: Vec::new() };
        (0..50).for_each(|_| sieve.offer(stretch(10)));
        assert_eq!(sieve.stretches.len(), 5);

        let mut sieve = Sieve { share: 1.0, kept: 0, seen: 0, limit: 30, stretches: Vec::new() };
        (0..5).for_each(|_| sieve.offer(stretch(100)));
        assert_eq!(sieve.kept, 30);
    }

    #[test]
    fn blocks_hold_everything() {
        let raw = Material { stretches: vec![stretch(1000), stretch(100)], ..Material::default() };
        let lens: Vec<usize> = raw.blocks(300).iter().map(Block::len).collect();
        assert_eq!(lens, [300, 300, 300, 100, 100]);

        let mut records = stretch(0);
        for i in 0..100u32 {
            records.bytes.extend_from_slice(format!("key/{i:04}").as_bytes());
            let key_end = records.bytes.len() as u32;
            records.bytes.extend_from_slice(&[i as u8; 50]);
            records.records.push((key_end, records.bytes.len() as u32));
        }
        let blocks = Material { stretches: vec![records], ..Material::default() }.blocks(1024);
        assert!(blocks.len() > 4 && blocks.iter().all(|b| b.len() <= 1100 && b.parts().count() == 2));
        assert_eq!(blocks.iter().map(|b| b.values.len()).sum::<usize>(), 5000);
    }
}
