//! Many keys of one table at once.

use crate::error::Result;
use crate::key::{SeqNo, Tag};
use crate::slice::Slice;
use crate::sync::Arc;
use crate::table::ahead::{Ahead, decode_nanos};
use crate::table::block::Block;
use crate::table::reader::Table;

/// From so much decoding on, `multi_get` shares it with the pool: two blocks of Zstandard, sixteen of LZ4.
const MULTI_GET_NANOS: u64 = 30_000;

impl Table {
    /// As [`Table::get`] for many keys in ascending order, each with the position of its answer in
    /// `out`, which is set where a key is found. Each block is decoded once, by several threads where
    /// that pays.
    pub fn multi_get(
        self: &Arc<Self>,
        keys: &[(usize, &[u8], u64)],
        visible: SeqNo,
        out: &mut [Option<(Tag, Slice)>],
    ) -> Result<()> {
        let located = |&(at, key, hash): &(usize, _, _)| self.locate(key, hash).map(|number| (number, at, key));
        let wanted: Vec<(usize, usize, &[u8])> = keys.iter().filter_map(located).collect();
        let mut blocks: Vec<usize> = wanted.iter().map(|w| w.0).collect();
        blocks.dedup();
        let mut ahead = self.ahead_of(&blocks);
        let mut current: Option<(usize, Arc<Block>)> = None;
        for (number, at, key) in wanted {
            let block = match &current {
                Some((held, block)) if *held == number => block.clone(),
                _ => match &mut ahead {
                    Some(ahead) => match ahead.next_block()? {
                        Some(block) => block,
                        None => self.block(number, true)?,
                    },
                    None => self.block(number, true)?,
                },
            };
            current = Some((number, block.clone()));
            if let Some(found) = self.get_from(number, Some(block), key, visible)? {
                out[at] = Some(found);
            }
        }
        Ok(())
    }

    /// Something that decodes these blocks together, if that pays.
    fn ahead_of(self: &Arc<Self>, blocks: &[usize]) -> Option<Ahead> {
        let pool = self.pool()?;
        if blocks.len() < 2 || pool.idle() == 0 {
            return None;
        }
        let missing = blocks.iter().filter(|&&b| !self.is_cached(b));
        let nanos: u64 = missing.map(|&b| decode_nanos(self.index().codec(b), self.index().raw_len(b))).sum();
        (nanos >= MULTI_GET_NANOS).then(|| Ahead::of_blocks(self.clone(), blocks.to_vec()))
    }
}
