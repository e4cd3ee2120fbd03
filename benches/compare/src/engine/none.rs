//! No engine: takes everything, knows nothing. Its figures are what the harness itself costs.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Engine, Scan};
use crate::Result;

/// Counts what it is given, so that nothing of it can be left out.
#[derive(Default)]
pub struct Nothing {
    bytes: AtomicU64,
}

impl Engine for Nothing {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.bytes.fetch_add((key.len() + value.len()) as u64, Ordering::Relaxed);
        Ok(())
    }

    fn put_batch(&self, records: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        records.iter().try_for_each(|(key, value)| self.put(key, value))
    }

    fn get(&self, key: &[u8], _: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.bytes.fetch_add(key.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn scan(&self, _: Scan<'_>, _: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
