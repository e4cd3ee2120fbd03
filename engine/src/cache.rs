//! The cache: things that took work to load, kept within a budget of bytes.
//!
//! A seam over `quick_cache`, which is scan-resistant (S3-FIFO) and sharded. It does not know what it
//! holds. Always true: a key is loaded by one thread at a time while the others wait for it, no lock
//! is held during a load, and a load that fails leaves nothing behind.

use std::hash::{BuildHasherDefault, Hasher};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::sync::{Mutex, foreign};

/// What is cached: block `block` of file `file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// The file's number.
    pub file: u64,
    /// The block's position in the file.
    pub block: u32,
}

/// A cache of values that are cheap to clone.
pub struct BlockCache<V> {
    cache: Cache<CacheKey, Weighed<V>, Weight, BuildHasherDefault<KeyHasher>, DefaultLifecycle<CacheKey, Weighed<V>>>,
    capacity: u64,
    charged: Mutex<u64>,
    #[cfg(feature = "sim")]
    loading: Loading,
}

impl<V: Clone + Send + Sync> BlockCache<V> {
    /// A cache for `capacity` bytes of values of about 16 KiB.
    pub fn new(capacity: u64) -> BlockCache<V> {
        BlockCache::with_average(capacity, 16 << 10)
    }

    /// A cache for `capacity` units of weight, of which a value takes `average`.
    pub fn with_average(capacity: u64, average: u64) -> BlockCache<V> {
        let items = (capacity / average.max(1)).clamp(1, 1 << 24) as usize;
        // A shard turns away what is heavier than its share, so a small cache has few shards.
        let shards = (items / 256).clamp(1, 64);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(items)
            .weight_capacity(capacity)
            .shards(shards)
            .build()
            .expect("all that is required was given");
        let cache = Cache::with_options(options, Weight, BuildHasherDefault::default(), DefaultLifecycle::default());
        BlockCache {
            cache,
            capacity,
            charged: Mutex::new(0),
            #[cfg(feature = "sim")]
            loading: Loading::default(),
        }
    }

    /// The value of a key, if it is there.
    #[inline]
    pub fn get(&self, key: &CacheKey) -> Option<V> {
        foreign(|| self.cache.get(key)).map(|w| w.value)
    }

    /// Keeps a value that takes `weight` bytes.
    pub fn insert(&self, key: CacheKey, value: V, weight: u64) {
        foreign(|| self.cache.insert(key, Weighed { value, weight }));
    }

    /// The value of a key; loaded, with its weight, by one of the threads that ask for it.
    #[inline]
    pub fn get_or_insert_with<E>(&self, key: &CacheKey, load: impl FnOnce() -> Result<(V, u64), E>) -> Result<V, E> {
        #[cfg(feature = "sim")]
        if crate::sync::is_simulated() {
            return self.load_in_turn(key, load);
        }
        let loaded = self.cache.get_or_insert_with(key, || load().map(|(value, weight)| Weighed { value, weight }));
        loaded.map(|w| w.value)
    }

    /// Forgets a key.
    pub fn remove(&self, key: &CacheKey) {
        foreign(|| self.cache.remove(key));
    }

    /// Forgets blocks `0..blocks` of a file.
    pub fn remove_file(&self, file: u64, blocks: u32) {
        for block in 0..blocks {
            foreign(|| self.cache.remove(&CacheKey { file, block }));
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        foreign(|| self.cache.clear());
    }

    /// Bytes of values.
    pub fn usage(&self) -> u64 {
        self.cache.weight()
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// True if there are no values.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    /// Bytes it was made for, those lent out by [`BlockCache::charge`] included.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Lends bytes of the budget to things that live outside: values give way. A sixteenth stays.
    pub fn charge(&self, bytes: u64) {
        self.lend(|charged| charged.saturating_add(bytes));
    }

    /// Takes back what [`BlockCache::charge`] lent.
    pub fn uncharge(&self, bytes: u64) {
        self.lend(|charged| charged.saturating_sub(bytes));
    }

    /// Bytes that are lent out.
    pub fn charged(&self) -> u64 {
        *self.charged.lock()
    }

    fn lend(&self, change: impl FnOnce(u64) -> u64) {
        let mut charged = self.charged.lock();
        *charged = change(*charged);
        let capacity = self.capacity.saturating_sub(*charged).max(self.capacity / 16);
        foreign(|| self.cache.set_capacity(capacity));
    }
}

/// The keys that simulated threads load now: the twin of `quick_cache`'s placeholders, whose waits no
/// scheduler of ours sees.
#[cfg(feature = "sim")]
#[derive(Default)]
struct Loading {
    keys: Mutex<std::collections::BTreeSet<(u64, u32)>>,
    ended: crate::sync::Condvar,
}

#[cfg(feature = "sim")]
impl<V: Clone + Send + Sync> BlockCache<V> {
    fn load_in_turn<E>(&self, key: &CacheKey, load: impl FnOnce() -> Result<(V, u64), E>) -> Result<V, E> {
        let place = (key.file, key.block);
        let mut keys = self.loading.keys.lock();
        loop {
            if let Some(found) = foreign(|| self.cache.get(key)) {
                return Ok(found.value);
            }
            if keys.insert(place) {
                break;
            }
            keys = self.loading.ended.wait(keys);
        }
        drop(keys);
        let loaded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(load));
        if let Ok(Ok((value, weight))) = &loaded {
            self.insert(*key, value.clone(), *weight);
        }
        self.loading.keys.lock().remove(&place);
        self.loading.ended.notify_all();
        match loaded {
            Ok(outcome) => outcome.map(|(value, _)| value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl<V> std::fmt::Debug for BlockCache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockCache({} bytes)", self.capacity)
    }
}

#[derive(Clone)]
struct Weighed<V> {
    value: V,
    weight: u64,
}

#[derive(Clone)]
struct Weight;

impl<V> Weighter<CacheKey, Weighed<V>> for Weight {
    fn weight(&self, _: &CacheKey, value: &Weighed<V>) -> u64 {
        value.weight
    }
}

/// Two numbers from our own counters need stirring, not secrecy.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u64(u64::from(b)));
    }

    #[inline]
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    #[inline]
    fn write_u64(&mut self, n: u64) {
        let wide = u128::from(self.0 ^ n ^ 0x9e37_79b9_7f4a_7c15) * 0xa076_1d64_78bd_642f_u128;
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sync::atomic::{AtomicUsize, Ordering};
    use crate::sync::{Arc, locks_held, spawn};

    fn key(block: u32) -> CacheKey {
        CacheKey { file: 7, block }
    }

    #[test]
    fn a_failed_load_caches_nothing() {
        let cache = BlockCache::<Arc<u32>>::new(1 << 20);
        assert_eq!(cache.get_or_insert_with(&key(1), || Err("no")), Err("no"));
        assert!(cache.get(&key(1)).is_none());
        let value = cache.get_or_insert_with(&key(1), || Ok::<_, ()>((Arc::new(5), 100))).unwrap();
        assert_eq!((*value, cache.usage(), cache.len()), (5, 100, 1));
        cache.get_or_insert_with(&key(1), || -> Result<_, ()> { panic!("loaded twice") }).unwrap();
        cache.remove_file(7, 2);
        assert!(cache.is_empty());
    }

    #[test]
    fn the_budget_holds_and_shrinks_by_what_is_lent() {
        let cache = BlockCache::<u32>::new(1 << 20);
        (0..1000).for_each(|i| cache.insert(key(i), i, 16 << 10));
        assert!(cache.usage() <= 1 << 20 && cache.usage() > 1 << 19);
        cache.charge(1 << 19);
        assert!(cache.usage() <= 1 << 19);
        cache.charge(1 << 30);
        assert!(cache.usage() <= 1 << 16);
        cache.uncharge((1 << 30) + (1 << 19));
        assert_eq!(cache.charged(), 0);
        (0..1000).for_each(|i| cache.insert(key(i), i, 16 << 10));
        assert!(cache.usage() > 1 << 19);
    }

    #[test]
    fn one_thread_loads_while_the_others_wait() {
        let cache = Arc::new(BlockCache::<u32>::new(1 << 20));
        let loads = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|i| {
                let (cache, loads) = (cache.clone(), loads.clone());
                spawn(&format!("loader {i}"), move || {
                    let load = || {
                        assert_eq!(locks_held(), 0);
                        loads.fetch_add(1, Ordering::SeqCst);
                        crate::sync::sleep(std::time::Duration::ZERO);
                        Ok::<_, ()>((9, 10))
                    };
                    assert_eq!(cache.get_or_insert_with(&key(3), load), Ok(9));
                })
                .unwrap()
            })
            .collect();
        assert!(threads.into_iter().all(|t| t.join()));
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }
}
