//! Blocks to measure on: runs of entries from tables, cut into blocks of any size.

use crate::coding::shared_prefix_len;
use crate::error::Result;
use crate::frame;
use crate::key::{Kind, Tag};
use crate::sync::Arc;
use crate::table::Table;
use crate::table::block::{Block, BlockBuilder};

/// Blocks are taken in runs of at least so many bytes, so that larger blocks can be cut from them.
const RUN_LEN: u64 = 64 << 10;
/// The most bytes of blocks that a dictionary is judged by, or a candidate measured on.
const HELD_LEN_MAX: u64 = 512 << 10;
/// From so many runs on, whole runs are held back; below, single blocks.
const RUNS_MIN: usize = 8;
/// One in so many is held back.
const HELD_BACK: usize = 4;

/// Entries taken at even distances.
pub struct Sample {
    runs: Vec<Vec<Block>>,
    /// Sequence numbers are written as zero, as at the bottom.
    zeroed: bool,
}

/// A block as a table would store it, before compression.
pub struct RawBlock {
    /// The keys part.
    pub keys: Vec<u8>,
    /// The values part.
    pub values: Vec<u8>,
    /// Its entries.
    pub entries: u32,
    /// Bytes of its keys in full and its values.
    pub user_bytes: u64,
}

/// The blocks of a sample: those to learn from, and those to judge by.
#[derive(Default)]
pub struct Split {
    /// For making a dictionary.
    pub training: Vec<RawBlock>,
    /// Held back.
    pub held: Vec<RawBlock>,
}

impl Sample {
    /// Takes about `bytes_max` bytes (before compression) out of the tables, all of them if they have no more.
    pub fn take(tables: &[Arc<Table>], bytes_max: u64, zeroed: bool) -> Result<Sample> {
        let total: u64 = tables.iter().map(|t| raw_bytes(t)).sum();
        let runs_wanted = (bytes_max / RUN_LEN).max(RUNS_MIN as u64);
        let (run_len, step) =
            if total <= bytes_max { (u64::MAX, 1) } else { (RUN_LEN, (total / runs_wanted).max(RUN_LEN)) };
        let mut runs = Vec::new();
        let (mut position, mut next) = (0, 0);
        for table in tables {
            let index = table.index();
            let mut number = 0;
            while number < index.len() {
                let len = index.raw_len(number) as u64;
                if position + len <= next {
                    position += len;
                    number += 1;
                    continue;
                }
                let (mut run, mut taken) = (Vec::new(), 0);
                while number < index.len() && taken < run_len {
                    run.push(table.read_block(number)?);
                    taken += index.raw_len(number) as u64;
                    number += 1;
                }
                position += taken;
                next = (next + step).max(position);
                runs.push(run);
            }
        }
        Ok(Sample { runs, zeroed })
    }

    /// A sample of these entries, in their order.
    pub fn of(entries: &[(Vec<u8>, Vec<u8>)]) -> Result<Sample> {
        let mut run = Vec::new();
        let mut builder = BlockBuilder::new();
        let mut last_key: &[u8] = &[];
        let close = |builder: &mut BlockBuilder| {
            let raw = RawBlock::close(builder, &mut 0);
            let fill = |values: &mut [u8]| {
                values.copy_from_slice(&raw.values);
                Ok(())
            };
            Block::decode(&raw.keys, raw.entries as usize, raw.values.len(), None, fill)
        };
        for (key, value) in entries {
            let shared = shared_prefix_len(last_key, key);
            if builder.is_full_for(key.len() - shared, key.len(), value.len(), RUN_LEN as usize) {
                run.push(close(&mut builder)?);
            }
            builder.add(if builder.is_empty() { 0 } else { shared }, key, Tag::new(0, Kind::Put), value);
            last_key = key;
        }
        if !builder.is_empty() {
            run.push(close(&mut builder)?);
        }
        Ok(Sample { runs: vec![run], zeroed: true })
    }

    /// True if nine blocks in ten are mostly values that nothing compresses.
    pub fn is_noise(&self, block_size: usize) -> bool {
        let (mut blocks, mut noise) = (0, 0);
        for block in self.runs.iter().flat_map(|run| self.cut(run, block_size)) {
            blocks += 1;
            let mostly_values = block.values.len() >= 4 * block.keys.len();
            noise += usize::from(mostly_values && frame::looks_random(&block.values));
        }
        noise * 10 >= blocks * 9
    }

    /// The sample in blocks of this size.
    pub fn split(&self, block_size: usize) -> Split {
        let mut split = Split::default();
        let by_run = self.runs.len() >= RUNS_MIN;
        let mut number = 0;
        for (at, run) in self.runs.iter().enumerate() {
            for block in self.cut(run, block_size) {
                let turn = if by_run { at } else { number };
                let part = if turn % HELD_BACK == HELD_BACK - 1 { &mut split.held } else { &mut split.training };
                part.push(block);
                number += 1;
            }
        }
        split
    }

    fn cut(&self, run: &[Block], block_size: usize) -> Vec<RawBlock> {
        let mut blocks = Vec::new();
        let mut builder = BlockBuilder::new();
        let mut last_key: Vec<u8> = Vec::new();
        let mut user_bytes = 0;
        for block in run {
            for i in 0..block.len() {
                let (key, tag, value) = (block.key(i), block.tag(i), block.value(i));
                let tag = if self.zeroed { tag.with_seq(0) } else { tag };
                let shared = shared_prefix_len(&last_key, key);
                if builder.is_full_for(key.len() - shared, key.len(), value.len(), block_size) {
                    blocks.push(RawBlock::close(&mut builder, &mut user_bytes));
                }
                builder.add(if builder.is_empty() { 0 } else { shared }, key, tag, value);
                user_bytes += (key.len() + value.len()) as u64;
                last_key.clear();
                last_key.extend_from_slice(key);
            }
        }
        // What is left over is a block only if it is much of one, or all that there is.
        if !builder.is_empty() && (builder.size() * 2 >= block_size || blocks.is_empty()) {
            blocks.push(RawBlock::close(&mut builder, &mut user_bytes));
        }
        blocks
    }
}

impl RawBlock {
    fn close(builder: &mut BlockBuilder, user_bytes: &mut u64) -> RawBlock {
        let mut keys = Vec::new();
        builder.encode_keys(&mut keys);
        let (values, entries) = (builder.values().to_vec(), builder.len() as u32);
        builder.clear();
        RawBlock { keys, values, entries, user_bytes: std::mem::take(user_bytes) }
    }
}

/// Bytes of a table's blocks before compression.
pub fn raw_bytes(table: &Table) -> u64 {
    (0..table.index().len()).map(|number| table.index().raw_len(number) as u64).sum()
}

impl Split {
    /// With no more blocks held back than are needed; one that was trained on if there would be none.
    pub fn limited(mut self) -> Split {
        let total: u64 = self.held.iter().map(|b| (b.keys.len() + b.values.len()) as u64).sum();
        let step = usize::try_from(total.div_ceil(HELD_LEN_MAX)).unwrap_or(usize::MAX).max(1);
        let mut number = 0;
        self.held.retain(|_| {
            number += 1;
            (number - 1) % step == 0
        });
        if self.held.is_empty() {
            self.held.extend(self.training.pop());
        }
        self
    }
}

/// Bytes of keys in full and values in these blocks, at least one.
pub fn user_bytes(blocks: &[RawBlock]) -> u64 {
    blocks.iter().map(|b| b.user_bytes).sum::<u64>().max(1)
}
