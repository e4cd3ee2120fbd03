//! redb 4. What differs from its defaults, and why:
//!
//! * The cache is the whole budget: it has no write buffers beside it.
//! * It compresses nothing, and has no class `buffered`: a commit is durable, or gone with the process until a
//!   durable one follows. In that class it runs without durability and is marked; `settle` makes a durable commit.
//!
//! One transaction a put, one read transaction a get, as in its own benchmarks.

use std::path::Path;

use ::redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Class, Engine, Scan, Setup};
use crate::Result;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// One table of one database.
pub struct Redb {
    db: Database,
    durability: Durability,
}

impl Redb {
    /// Opens the database, or makes it.
    pub fn open(directory: &Path, setup: &Setup) -> Result<Redb> {
        let db = Database::builder().set_cache_size(usize::try_from(setup.budget)?).create(directory.join("redb"))?;
        let transaction = db.begin_write()?;
        transaction.open_table(TABLE)?;
        transaction.commit()?;
        let durability = match setup.class {
            Class::Buffered => Durability::None,
            Class::Sync => Durability::Immediate,
        };
        Ok(Redb { db, durability })
    }
}

impl Engine for Redb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(self.durability)?;
        transaction.open_table(TABLE)?.insert(key, value)?;
        Ok(transaction.commit()?)
    }

    fn put_batch(&self, records: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(self.durability)?;
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in records {
            table.insert(key.as_slice(), value.as_slice())?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.db.begin_read()?.open_table(TABLE)?.get(key)? {
            visit(value.value());
        }
        Ok(())
    }

    fn multi_get(&self, keys: &[Vec<u8>], visit: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let table = self.db.begin_read()?.open_table(TABLE)?;
        for (place, key) in keys.iter().enumerate() {
            if let Some(value) = table.get(key.as_slice())? {
                visit(place, value.value());
            }
        }
        Ok(())
    }

    fn scan(&self, scan: Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let table = self.db.begin_read()?.open_table(TABLE)?;
        let limit = usize::try_from(scan.limit).unwrap_or(usize::MAX);
        let range = match (scan.from, scan.backward) {
            (None, _) => table.iter()?,
            (Some(key), false) => table.range(key..)?,
            (Some(key), true) => table.range(..=key)?,
        };
        if scan.backward {
            for entry in range.rev().take(limit) {
                let (key, value) = entry?;
                visit(key.value(), value.value());
            }
        } else {
            for entry in range.take(limit) {
                let (key, value) = entry?;
                visit(key.value(), value.value());
            }
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        Ok(transaction.commit()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.settle()
    }
}
