//! SurrealKV. What differs from its defaults, and why:
//!
//! * Half of the budget is the block cache; one memtable takes a quarter.
//! * Snappy in every level: it has no LZ4, and compresses nothing otherwise.
//! * Versions and value log are off (default). `Eventual` commits for the class `buffered`, `Immediate` for
//!   `sync`.
//!
//! Its commits are futures: they are driven by a runtime of as many threads as the rules give for the
//! background, one `block_on` a commit.

use std::path::Path;

use ::surrealkv::{
    CompressionType, Durability, Error, LSMIterator, Mode, Options, ReadOptions, Transaction, Tree, TreeBuilder,
};
use tokio::runtime::{Builder, Runtime};

use super::{Class, Engine, Scan, Setup};
use crate::Result;

/// One tree and what drives it.
pub struct Surrealkv {
    tree: Tree,
    runtime: Runtime,
    durability: Durability,
}

impl Surrealkv {
    /// Opens the tree, or makes it.
    pub fn open(directory: &Path, setup: &Setup) -> Result<Surrealkv> {
        let runtime = Builder::new_multi_thread().worker_threads(setup.background_threads).enable_all().build()?;
        let options = Options::new()
            .with_path(directory.to_path_buf())
            .with_compression_per_level(vec![CompressionType::SnappyCompression])
            .with_max_memtable_size(usize::try_from(setup.write_buffers() / 2)?)
            .with_block_cache_capacity(setup.cache());
        let tree = runtime.block_on(TreeBuilder::with_options(options).build_async())?;
        let durability = match setup.class {
            Class::Buffered => Durability::Eventual,
            Class::Sync => Durability::Immediate,
        };
        Ok(Surrealkv { tree, runtime, durability })
    }

    /// Commits what `write` writes, again and again while somebody else has just written the same keys.
    fn commit(&self, write: impl Fn(&mut Transaction) -> ::surrealkv::Result<()>) -> Result<()> {
        loop {
            let mut transaction = self.tree.begin_with_mode(Mode::WriteOnly)?;
            transaction.set_durability(self.durability);
            write(&mut transaction)?;
            match self.runtime.block_on(transaction.commit()) {
                Err(Error::TransactionWriteConflict) => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    fn read_only(&self) -> Result<Transaction> {
        Ok(self.tree.begin_with_mode(Mode::ReadOnly)?)
    }
}

impl Engine for Surrealkv {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.commit(|transaction| transaction.set(key, value))
    }

    fn put_batch(&self, records: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        self.commit(|transaction| {
            records.iter().try_for_each(|(key, value)| transaction.set(key.as_slice(), value.as_slice()))
        })
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.read_only()?.get(key)? {
            visit(&value);
        }
        Ok(())
    }

    fn multi_get(&self, keys: &[Vec<u8>], visit: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let transaction = self.read_only()?;
        for (place, key) in keys.iter().enumerate() {
            if let Some(value) = transaction.get(key.as_slice())? {
                visit(place, &value);
            }
        }
        Ok(())
    }

    fn scan(&self, scan: Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let transaction = self.read_only()?;
        let mut options = ReadOptions::new();
        match scan.from {
            None => {}
            Some(key) if scan.backward => options.set_iterate_upper_bound(Some([key, &[0]].concat())),
            Some(key) => options.set_iterate_lower_bound(Some(key.to_vec())),
        }
        let mut iterator = transaction.range_with_options(&options)?;
        let mut valid = if scan.backward { iterator.seek_last()? } else { iterator.seek_first()? };
        let mut rest = scan.limit;
        while valid && rest > 0 {
            let value = iterator.value()?;
            visit(iterator.key().user_key(), &value);
            rest -= 1;
            valid = if scan.backward { iterator.prev()? } else { iterator.next()? };
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        self.tree.flush_wal(true)?;
        super::wait_until_quiet();
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.runtime.block_on(self.tree.close())?)
    }
}
