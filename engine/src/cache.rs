//! The cache: things that took work to load, kept within a budget of bytes.
//!
//! It does not know what it holds. Each file that wants things kept owns a [`Shelf`], an array with one
//! slot for each of its blocks, so a hit is an index into that array: no hash, no search, and no lock but
//! the slot's own, which is held for the time of a clone. What the cache itself owns is the policy: which
//! slots are filled, in which order they came, and how many bytes they take.
//!
//! The policy is a clock (a queue whose head goes to the end again if it was hit meanwhile, as in the
//! main queue of S3-FIFO, Yang and others 2023) behind a gate. While there is room everything comes in.
//! Once something has had to give way, a value comes in only if its slot was missed, or emptied, not long ago: while no
//! more than one budget of bytes was missed since, and four times in a row where lookups miss it. So what is read once (a
//! scan, most of a uniform load) neither pushes anything out nor pays for being kept, and the caller, who is told in
//! advance, can do with less than a value to keep. The slot itself remembers; there is no ghost queue.
//!
//! A value may have *parts*: smaller values that answer for some of what it holds. A slot keeps the marks of the two
//! keys that were last looked up in vain; one of them that is missed again is worth a part, while its value may not
//! be. And a value that the hand finds used in few places only gives way to the part that is used. So the budget goes
//! to whole values where neighbours are popular together, and to single keys where they are not.
//!
//! Always true: a slot is loaded for keeping by one thread at a time while the others wait for it, no
//! lock is held during a load, a load that fails leaves nothing behind, values take no more than the
//! budget less what is lent out, a part never takes the place of the whole unless the hand does it, and no value is
//! dropped under a lock.

#![allow(clippy::disallowed_types, reason = "a slot's lock is held for a clone or a move, never over a wait or a call")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::PoisonError;

use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use crate::sync::{Arc, Condvar, Mutex};

/// Hits that a value gets credit for.
const HEAT_MAX: u8 = 3;
/// A slot counts time in units of so many missed bytes (a shift).
const TICK_SHIFT: u32 = 6;
/// A slot that was never missed.
const NEVER: u32 = 0;
/// Queue entries whose slots were emptied are swept when there are more of them than of others, and than this.
const STALE_MIN: usize = 1024;

/// So many misses by lookups, each soon after the one before, bring a value in.
const RUN_MIN: u8 = 4;

/// What a cache holds.
pub trait Value: Sized {
    /// Bytes that it takes of a budget, always the same.
    fn weight(&self) -> u64;

    /// False for a part.
    fn is_whole(&self) -> bool {
        true
    }

    /// Asks the processor for what a lookup reads first.
    fn prefetch(&self) {}

    /// Notes that all of it was used.
    fn note_use(&self) {}

    /// A part with what was used since the question was last put, if that is clearly less than the value.
    fn part_in_use(&self) -> Option<Self> {
        None
    }
}

/// What is worth keeping of something that was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of it.
    Whole,
    /// A part with the key that was looked up.
    Part,
    /// Nothing.
    Nothing,
}

/// A cache of values that are cheap to clone.
pub struct BlockCache<V> {
    policy: Mutex<Policy<V>>,
    capacity: u64,
    /// What values may take now.
    limit: AtomicU64,
    /// What they take. Written under the lock of the policy.
    usage: AtomicU64,
    /// True since something had to give way, until an eighth is free.
    is_full: AtomicBool,
    /// Bytes missed since the start: the time by which slots remember.
    missed: AtomicU64,
    shelves: AtomicU64,
    loading: Loading,
}

/// Slots for the values of one file. Empty it with [`BlockCache::clear_shelf`] before it goes.
pub struct Shelf<V> {
    id: u64,
    slots: Box<[Slot<V>]>,
}

struct Slot<V> {
    value: std::sync::Mutex<Option<V>>,
    /// When it was last missed or emptied.
    seen: AtomicU32,
    /// Marks of the last two different keys that were looked up in vain, the newer one below.
    marks: AtomicU16,
    /// How many misses came one soon after the other, at most [`RUN_MIN`].
    run: AtomicU8,
    /// Hits since the clock's hand came by, at most [`HEAT_MAX`].
    heat: AtomicU8,
}

struct Policy<V> {
    /// In the order in which the hand comes by. A slot that was emptied may still be there.
    queue: VecDeque<Place<V>>,
    /// Filled slots.
    filled: usize,
    charged: u64,
    /// What several have in common and is charged once: its bytes, and how many hold it.
    shared: BTreeMap<u64, (u64, u64)>,
}

struct Place<V> {
    shelf: Arc<Shelf<V>>,
    at: u32,
}

impl<V: Clone + Send + Sync + Value> BlockCache<V> {
    /// A cache for `capacity` bytes.
    pub fn new(capacity: u64) -> BlockCache<V> {
        BlockCache {
            policy: Mutex::new(Policy { queue: VecDeque::new(), filled: 0, charged: 0, shared: BTreeMap::new() }),
            capacity,
            limit: AtomicU64::new(capacity),
            usage: AtomicU64::new(0),
            is_full: AtomicBool::new(false),
            missed: AtomicU64::new(1 << TICK_SHIFT),
            shelves: AtomicU64::new(0),
            loading: Loading::default(),
        }
    }

    /// A shelf of `n` empty slots.
    pub fn shelf(&self, n: usize) -> Arc<Shelf<V>> {
        let slot = || Slot {
            value: std::sync::Mutex::new(None),
            seen: AtomicU32::new(NEVER),
            marks: AtomicU16::new(0),
            run: AtomicU8::new(0),
            heat: AtomicU8::new(0),
        };
        let id = self.shelves.fetch_add(1, Relaxed);
        Arc::new(Shelf { id, slots: std::iter::repeat_with(slot).take(n).collect() })
    }

    /// The whole value in a slot, if it is there: a use of all of it.
    #[inline]
    pub fn get(&self, shelf: &Shelf<V>, at: usize) -> Option<V> {
        let value = shelf.slots[at].value().as_ref().filter(|value| value.is_whole()).cloned()?;
        value.note_use();
        self.note_hit(shelf, at);
        Some(value)
    }

    /// What is in a slot, be it a part. No hit: that is for the caller to say.
    #[inline]
    pub fn peek(&self, shelf: &Shelf<V>, at: usize) -> Option<V> {
        let value = shelf.slots[at].value();
        // Counting a holder waits for the memory it is counted in; what lies beside it can come meanwhile.
        value.as_ref()?.prefetch();
        value.clone()
    }

    /// Notes that what [`BlockCache::peek`] gave was of use.
    #[inline]
    pub fn note_hit(&self, shelf: &Shelf<V>, at: usize) {
        let slot = &shelf.slots[at];
        let heat = slot.heat.load(Relaxed);
        if heat < HEAT_MAX {
            // Two hits at once may count as one.
            slot.heat.store(heat + 1, Relaxed);
        }
    }

    /// True if there is a whole value in a slot. No hit.
    pub fn contains(&self, shelf: &Shelf<V>, at: usize) -> bool {
        shelf.slots[at].value().as_ref().is_some_and(V::is_whole)
    }

    /// Counts a miss of a value that takes about `weight` bytes. True if it should be loaded for keeping.
    pub fn admits(&self, shelf: &Shelf<V>, at: usize, weight: u64) -> bool {
        let (is_soon, has_room) = self.count_miss(&shelf.slots[at], weight);
        has_room || is_soon
    }

    /// Counts a miss by a lookup of a key with this hash. Says what to keep.
    pub fn admits_for(&self, shelf: &Shelf<V>, at: usize, weight: u64, hash: u64) -> Keep {
        let slot = &shelf.slots[at];
        let (is_soon, has_room) = self.count_miss(slot, weight);
        let run = if is_soon { (slot.run.load(Relaxed) + 1).min(RUN_MIN) } else { 0 };
        slot.run.store(run, Relaxed);
        // 0 is no mark.
        let (mark, marks) = ((hash >> 48) as u16 % 255 + 1, slot.marks.load(Relaxed));
        let is_known = marks & 0xff == mark || marks >> 8 == mark;
        if !is_known {
            slot.marks.store(marks << 8 | mark, Relaxed);
        }
        match is_known {
            _ if has_room || run == RUN_MIN => Keep::Whole,
            true => Keep::Part,
            false => Keep::Nothing,
        }
    }

    /// Whether the miss before was not long ago, and whether there is room without taking any from others.
    fn count_miss(&self, slot: &Slot<V>, weight: u64) -> (bool, bool) {
        let now = tick(self.missed.fetch_add(weight.max(1), Relaxed));
        let seen = slot.seen.swap(now, Relaxed);
        let limit = self.limit.load(Relaxed);
        let is_soon = seen != NEVER && u64::from(now.wrapping_sub(seen)) << TICK_SHIFT <= limit;
        (is_soon, !self.is_full.load(Relaxed) && self.usage.load(Relaxed) + weight <= limit)
    }

    /// The value of a slot; loaded by one of the threads that ask for it, and kept.
    pub fn get_or_insert_with<E>(
        &self,
        shelf: &Arc<Shelf<V>>,
        at: usize,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        let Some(turn) = self.loading.begin((shelf.id, at as u32), || self.get(shelf, at)) else {
            // It was there, or came while others loaded it.
            return match self.get(shelf, at) {
                Some(value) => Ok(value),
                None => load(),
            };
        };
        let value = load()?;
        self.insert(shelf, at, value.clone());
        drop(turn);
        Ok(value)
    }

    /// Keeps a value, whatever the gate says; a part only where the whole is not.
    pub fn insert(&self, shelf: &Arc<Shelf<V>>, at: usize, value: V) {
        let weight = value.weight();
        let mut out = Vec::new();
        let mut policy = self.policy.lock();
        let slot = &shelf.slots[at];
        let is_needless = !value.is_whole() && slot.value().as_ref().is_some_and(V::is_whole);
        if weight <= self.limit.load(Relaxed) && !is_needless {
            let mut usage = self.usage.load(Relaxed) + weight;
            let old = slot.value().replace(value);
            match old {
                Some(old) => {
                    usage -= old.weight();
                    out.push(old);
                }
                None => {
                    slot.heat.store(0, Relaxed);
                    policy.filled += 1;
                    policy.queue.push_back(Place { shelf: shelf.clone(), at: at as u32 });
                }
            }
            self.usage.store(usage, Relaxed);
            self.make_room(&mut policy, &mut out);
        }
        drop(policy);
        drop(out);
    }

    /// Empties a shelf.
    pub fn clear_shelf(&self, shelf: &Shelf<V>) {
        let mut out = Vec::new();
        let mut policy = self.policy.lock();
        let mut usage = self.usage.load(Relaxed);
        for slot in &shelf.slots {
            if let Some(value) = slot.value().take() {
                usage -= value.weight();
                policy.filled -= 1;
                out.push(value);
            }
        }
        self.set_usage(usage);
        policy.sweep();
        drop(policy);
        drop(out);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let mut policy = self.policy.lock();
        let places = std::mem::take(&mut policy.queue);
        let out: Vec<V> = places.iter().filter_map(|p| p.slot().value().take()).collect();
        policy.filled = 0;
        self.set_usage(0);
        drop(policy);
        drop(out);
    }

    /// Bytes of values.
    pub fn usage(&self) -> u64 {
        self.usage.load(Relaxed)
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.policy.lock().filled
    }

    /// True if there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

    /// As [`BlockCache::charge`] for something known by `id` that several may hold: it is charged to the first.
    pub fn charge_shared(&self, id: u64, bytes: u64) {
        self.lend_to(|policy| {
            let held = policy.shared.entry(id).or_insert((bytes, 0));
            held.1 += 1;
            if held.1 == 1 {
                policy.charged = policy.charged.saturating_add(bytes);
            }
        });
    }

    /// Takes back what [`BlockCache::charge_shared`] lent; the last holder gives it.
    pub fn uncharge_shared(&self, id: u64) {
        self.lend_to(|policy| {
            let Some(held) = policy.shared.get_mut(&id) else { return };
            held.1 = held.1.saturating_sub(1);
            if held.1 == 0 {
                let bytes = held.0;
                policy.shared.remove(&id);
                policy.charged = policy.charged.saturating_sub(bytes);
            }
        });
    }

    /// Bytes that are lent out.
    pub fn charged(&self) -> u64 {
        self.policy.lock().charged
    }

    fn lend(&self, change: impl FnOnce(u64) -> u64) {
        self.lend_to(|policy| policy.charged = change(policy.charged));
    }

    fn lend_to(&self, change: impl FnOnce(&mut Policy<V>)) {
        let mut out = Vec::new();
        let mut policy = self.policy.lock();
        change(&mut policy);
        self.limit.store(self.capacity.saturating_sub(policy.charged).max(self.capacity / 16), Relaxed);
        self.make_room(&mut policy, &mut out);
        drop(policy);
        drop(out);
    }

    /// Moves values out until the others fit.
    fn make_room(&self, policy: &mut Policy<V>, out: &mut Vec<V>) {
        let (mut usage, limit) = (self.usage.load(Relaxed), self.limit.load(Relaxed));
        if usage > limit {
            self.is_full.store(true, Relaxed);
        }
        while usage > limit {
            let Some(place) = policy.queue.pop_front() else { break };
            let slot = place.slot();
            let heat = slot.heat.load(Relaxed);
            if heat > 0 {
                slot.heat.store(heat - 1, Relaxed);
                let mut value = slot.value();
                if let Some(part) = value.as_ref().and_then(V::part_in_use) {
                    usage += part.weight();
                    if let Some(old) = value.replace(part) {
                        usage -= old.weight();
                        out.push(old);
                    }
                }
                drop(value);
                policy.queue.push_back(place);
            } else if let Some(value) = slot.value().take() {
                if value.is_whole() {
                    slot.seen.store(tick(self.missed.load(Relaxed)), Relaxed);
                    slot.run.store(RUN_MIN - 1, Relaxed);
                }
                usage -= value.weight();
                policy.filled -= 1;
                out.push(value);
            }
        }
        self.set_usage(usage);
    }

    /// Under the lock of the policy.
    fn set_usage(&self, usage: u64) {
        self.usage.store(usage, Relaxed);
        let limit = self.limit.load(Relaxed);
        if usage < limit - limit / 8 {
            self.is_full.store(false, Relaxed);
        }
    }
}

impl<V> Policy<V> {
    /// Forgets places that are empty once they are the most.
    fn sweep(&mut self) {
        if self.queue.len() > 2 * self.filled + STALE_MIN {
            self.queue.retain(|place| place.slot().value().is_some());
        }
    }
}

impl<V> Place<V> {
    fn slot(&self) -> &Slot<V> {
        &self.shelf.slots[self.at as usize]
    }
}

impl<V> Shelf<V> {
    /// Bytes of memory of the slots, their values left out.
    pub fn memory_size(&self) -> usize {
        size_of_val(&*self.slots)
    }
}

impl<V> Slot<V> {
    #[inline]
    fn value(&self) -> std::sync::MutexGuard<'_, Option<V>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time of so many missed bytes; never [`NEVER`].
fn tick(missed: u64) -> u32 {
    ((missed >> TICK_SHIFT) as u32).max(1)
}

/// What is being loaded, so that one thread does it while the others wait.
#[derive(Default)]
pub struct Loading {
    state: Mutex<Loads>,
    ended: Condvar,
}

#[derive(Default)]
struct Loads {
    /// A few at a time.
    keys: Vec<(u64, u32)>,
    waiting: usize,
}

/// The right to load something; it ends when it is dropped, however that comes about.
pub struct Turn<'a> {
    loading: &'a Loading,
    key: (u64, u32),
}

impl Loading {
    /// The right to load `key`. None once `is_there` finds it, which is asked again whenever another thread's
    /// turn has ended.
    pub fn begin<T>(&self, key: (u64, u32), is_there: impl Fn() -> Option<T>) -> Option<Turn<'_>> {
        let mut state = self.state.lock();
        while is_there().is_none() {
            if !state.keys.contains(&key) {
                state.keys.push(key);
                return Some(Turn { loading: self, key });
            }
            state.waiting += 1;
            state = self.ended.wait(state);
            state.waiting -= 1;
        }
        None
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.loading.state.lock();
        state.keys.retain(|k| *k != self.key);
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.loading.ended.notify_all();
        }
    }
}

impl<V> std::fmt::Debug for BlockCache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockCache({} bytes)", self.capacity)
    }
}

impl<V> std::fmt::Debug for Shelf<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shelf({} slots)", self.slots.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sync::atomic::{AtomicUsize, Ordering};
    use crate::sync::{locks_held, spawn};

    /// A value of so many bytes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Bytes(u64);

    impl Value for Bytes {
        fn weight(&self) -> u64 {
            self.0
        }
    }

    /// As a reader does it: a hit, or a miss and a value that is kept if it should be. True for a hit.
    fn read(cache: &BlockCache<Bytes>, shelf: &Arc<Shelf<Bytes>>, at: usize, weight: u64) -> bool {
        if cache.get(shelf, at).is_some() {
            return true;
        }
        if cache.admits(shelf, at, weight) {
            cache.get_or_insert_with(shelf, at, || Ok::<_, ()>(Bytes(weight))).unwrap();
        }
        false
    }

    #[test]
    fn a_failed_load_caches_nothing() {
        let cache = BlockCache::<Bytes>::new(1 << 20);
        let shelf = cache.shelf(2);
        assert_eq!(cache.get_or_insert_with(&shelf, 1, || Err("no")), Err("no"));
        assert!(cache.get(&shelf, 1).is_none());
        let value = cache.get_or_insert_with(&shelf, 1, || Ok::<_, ()>(Bytes(100))).unwrap();
        assert_eq!((value, cache.usage(), cache.len()), (Bytes(100), 100, 1));
        cache.get_or_insert_with(&shelf, 1, || -> Result<_, ()> { panic!("loaded twice") }).unwrap();
        cache.clear_shelf(&shelf);
        assert!(cache.is_empty() && cache.usage() == 0 && !cache.contains(&shelf, 1));
    }

    #[test]
    fn the_budget_holds_and_shrinks_by_what_is_lent() {
        let cache = BlockCache::<Bytes>::new(1 << 20);
        let shelf = cache.shelf(1000);
        (0..1000).for_each(|i| cache.insert(&shelf, i, Bytes(16 << 10)));
        assert!(cache.usage() <= 1 << 20 && cache.usage() > 1 << 19);
        cache.charge(1 << 19);
        assert!(cache.usage() <= 1 << 19);
        cache.charge(1 << 30);
        assert!(cache.usage() <= 1 << 16);
        cache.uncharge((1 << 30) + (1 << 19));
        assert_eq!(cache.charged(), 0);
        (0..3).for_each(|_| cache.charge_shared(7, 100));
        cache.charge_shared(8, 10);
        assert_eq!(cache.charged(), 110, "what three hold is charged once");
        (0..2).for_each(|_| cache.uncharge_shared(7));
        assert_eq!(cache.charged(), 110);
        [7, 8, 9].into_iter().for_each(|id| cache.uncharge_shared(id));
        assert_eq!(cache.charged(), 0);
        (0..1000).for_each(|i| cache.insert(&shelf, i, Bytes(16 << 10)));
        assert!(cache.usage() > 1 << 19);
        cache.insert(&shelf, 0, Bytes(2 << 20));
        assert!(cache.usage() <= 1 << 20, "what is larger than everything is not kept");
    }

    #[test]
    fn a_scan_pushes_nothing_out_that_is_in_use() {
        let cache = BlockCache::<Bytes>::new(100_000);
        let shelf = cache.shelf(1000);
        for _ in 0..3 {
            (0..50).for_each(|i| _ = read(&cache, &shelf, i, 1000));
        }
        (100..1000).for_each(|i| _ = read(&cache, &shelf, i, 1000));
        assert!((0..50).all(|i| read(&cache, &shelf, i, 1000)));
        assert!(cache.len() == 100 && cache.usage() == 100_000);
    }

    #[test]
    fn what_is_missed_twice_within_a_budget_comes_in() {
        let cache = BlockCache::<Bytes>::new(100_000);
        let shelf = cache.shelf(1000);
        (0..100).for_each(|i| _ = read(&cache, &shelf, i, 1000));
        assert!(!read(&cache, &shelf, 500, 1000) && !cache.contains(&shelf, 500), "there is no room");
        assert!(!read(&cache, &shelf, 500, 1000) && cache.contains(&shelf, 500), "soon asked for again");
        assert!(!read(&cache, &shelf, 600, 1000));
        (700..850).for_each(|i| _ = read(&cache, &shelf, i, 1000));
        assert!(!read(&cache, &shelf, 600, 1000) && !cache.contains(&shelf, 600), "too long ago");
    }

    /// Sixteen neighbouring keys, or some of them, and how often each was looked up.
    #[derive(Clone)]
    struct Keys(Arc<[(u64, AtomicU8)]>);

    const NEIGHBOURS: u64 = 16;

    impl Keys {
        fn new(keys: impl Iterator<Item = u64>) -> Keys {
            Keys(keys.map(|key| (key, AtomicU8::new(0))).collect())
        }

        fn look_up(&self, key: u64) -> bool {
            let found = self.0.iter().find(|k| k.0 == key);
            found.map(|k| k.1.fetch_add(1, Relaxed)).is_some()
        }
    }

    impl Value for Keys {
        fn weight(&self) -> u64 {
            10 * (4 + self.0.len() as u64)
        }

        fn is_whole(&self) -> bool {
            self.0.len() as u64 == NEIGHBOURS
        }

        fn part_in_use(&self) -> Option<Keys> {
            let used: Vec<(u64, u8)> = self.0.iter().map(|k| (k.0, k.1.swap(0, Relaxed))).filter(|k| k.1 > 0).collect();
            let is_sparse = used.len() < 4 && used.iter().any(|k| k.1 > 1);
            (is_sparse && used.len() < self.0.len()).then(|| Keys::new(used.iter().map(|k| k.0)))
        }
    }

    /// As a table does it. True for a hit.
    fn look_up(cache: &BlockCache<Keys>, shelf: &Arc<Shelf<Keys>>, key: u64) -> bool {
        let at = (key / NEIGHBOURS) as usize;
        let held = cache.peek(shelf, at);
        if held.as_ref().is_some_and(|keys| keys.look_up(key)) {
            cache.note_hit(shelf, at);
            return true;
        }
        let first = key / NEIGHBOURS * NEIGHBOURS;
        match cache.admits_for(shelf, at, 200, key.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            Keep::Whole => {
                let load = || Ok::<_, ()>(Keys::new(first..first + NEIGHBOURS));
                assert!(cache.get_or_insert_with(shelf, at, load).unwrap().look_up(key));
            }
            Keep::Part => {
                let others = held.iter().flat_map(|keys| keys.0.iter().map(|k| k.0));
                cache.insert(shelf, at, Keys::new(others.chain([key])));
            }
            Keep::Nothing => {}
        }
        assert!(cache.usage() <= 20_000, "a hundred whole values");
        false
    }

    /// Of 100,000 lookups by `draw` the last half: how many of a thousand hit, and how many values are whole, and parts.
    fn hits(mut draw: impl FnMut(&mut dyn FnMut(u64) -> u64) -> u64) -> (u64, usize, usize) {
        let cache = BlockCache::<Keys>::new(20_000);
        let shelf = cache.shelf(1000);
        let mut random = 77u64;
        let mut below = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % n
        };
        let mut n_hits = 0;
        for i in 0..100_000 {
            let is_hit = look_up(&cache, &shelf, draw(&mut below));
            n_hits += u64::from(i >= 50_000 && is_hit);
        }
        let values: Vec<Keys> = shelf.slots.iter().filter_map(|slot| slot.value().clone()).collect();
        let n_whole = values.iter().filter(|keys| keys.is_whole()).count();
        assert_eq!((values.len(), values.iter().map(Value::weight).sum()), (cache.len(), cache.usage()));
        (n_hits / 50, n_whole, values.len() - n_whole)
    }

    #[test]
    fn popular_keys_without_popular_neighbours_are_kept_alone() {
        // One key each of 250 values takes nine lookups of ten. Whole, 100 values have room.
        let (n_hits, n_whole, n_parts) =
            hits(|below| if below(10) > 0 { 4 * below(250) * NEIGHBOURS + 3 } else { below(16_000) });
        assert!(n_hits > 800 && n_parts > 200, "{n_hits} of 1000, {n_whole} whole values, {n_parts} parts");
    }

    #[test]
    fn popular_neighbours_are_kept_together() {
        let (n_hits, n_whole, n_parts) =
            hits(|below| if below(10) > 0 { below(80 * NEIGHBOURS) } else { below(16_000) });
        assert!(n_hits > 850 && n_whole > 75, "{n_hits} of 1000, {n_whole} whole values, {n_parts} parts");
        // Evenly drawn, a lookup here and there is no reason to take values apart.
        let (n_hits, n_whole, n_parts) = hits(|below| below(250 * NEIGHBOURS));
        assert!(n_hits > 330 && n_whole > 60, "{n_hits} of 1000, {n_whole} whole values, {n_parts} parts");
    }

    #[test]
    fn a_part_does_not_replace_the_whole() {
        let cache = BlockCache::<Keys>::new(1000);
        let shelf = cache.shelf(2);
        cache.insert(&shelf, 0, Keys::new(0..1));
        assert!(cache.get(&shelf, 0).is_none() && !cache.contains(&shelf, 0) && cache.peek(&shelf, 0).is_some());
        cache.get_or_insert_with(&shelf, 0, || Ok::<_, ()>(Keys::new(0..NEIGHBOURS))).unwrap();
        assert!(cache.contains(&shelf, 0) && cache.usage() == 200 && cache.len() == 1);
        cache.insert(&shelf, 0, Keys::new(1..2));
        assert!(cache.contains(&shelf, 0) && cache.usage() == 200);
    }

    #[test]
    fn usage_is_the_sum_of_what_is_there() {
        let cache = BlockCache::<Bytes>::new(50_000);
        let mut shelves: Vec<_> = (0..4).map(|_| cache.shelf(64)).collect();
        let mut random = 9u64;
        let mut below = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % n
        };
        for _ in 0..20_000 {
            let (shelf, at) = (below(4) as usize, below(64) as usize);
            match below(100) {
                0 => {
                    cache.clear_shelf(&shelves[shelf]);
                    shelves[shelf] = cache.shelf(64);
                }
                1 => cache.charge(below(2000)),
                2 => cache.uncharge(below(3000)),
                3..10 => cache.insert(&shelves[shelf], at, Bytes(1 + below(2000))),
                _ => _ = read(&cache, &shelves[shelf], at, 1 + below(2000)),
            }
            let values: Vec<Bytes> =
                shelves.iter().flat_map(|s| s.slots.iter().filter_map(|slot| *slot.value())).collect();
            assert_eq!((values.len(), values.iter().map(|v| v.0).sum()), (cache.len(), cache.usage()));
            assert!(cache.usage() <= cache.limit.load(Relaxed));
            let queue = cache.policy.lock().queue.len();
            assert!(queue <= 2 * values.len() + STALE_MIN + 64, "{queue} places for {}", values.len());
        }
        cache.clear();
        assert!(cache.is_empty() && cache.usage() == 0);
    }

    #[test]
    fn one_thread_loads_while_the_others_wait() {
        let cache = Arc::new(BlockCache::<Bytes>::new(1 << 20));
        let shelf = cache.shelf(4);
        let loads = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|i| {
                let (cache, shelf, loads) = (cache.clone(), shelf.clone(), loads.clone());
                spawn(&format!("loader {i}"), move || {
                    let load = || {
                        assert_eq!(locks_held(), 0);
                        loads.fetch_add(1, Ordering::SeqCst);
                        crate::sync::sleep(std::time::Duration::ZERO);
                        Ok::<_, ()>(Bytes(10))
                    };
                    assert_eq!(cache.get_or_insert_with(&shelf, 3, load), Ok(Bytes(10)));
                })
                .unwrap()
            })
            .collect();
        assert!(threads.into_iter().all(|t| t.join()));
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_panic_while_loading_ends_the_turn() {
        let cache = Arc::new(BlockCache::<Bytes>::new(1 << 20));
        let shelf = cache.shelf(4);
        let (cache2, shelf2) = (cache.clone(), shelf.clone());
        let load = move || _ = cache2.get_or_insert_with::<()>(&shelf2, 3, || panic!("on purpose"));
        assert!(!spawn("panics", load).unwrap().join());
        assert_eq!(cache.get_or_insert_with(&shelf, 3, || Ok::<_, ()>(Bytes(10))), Ok(Bytes(10)));
    }
}
