//! Many keys of one table at once.
//!
//! In stages over the sorted keys, so that the cache misses of one stage overlap: first every filter
//! line, then every search of the index, then block by block. A block that several keys share is
//! decoded once.
//!
//! Where enough has to be decoded, a worker of the pool helps: the caller takes groups of keys that
//! share a block from the front, the worker from the back, a few at a time, until they meet. One
//! wake-up pays for half of the work, and nobody waits for what nobody has begun.

use crate::error::{Error, ErrorKind, Result};
use crate::key::{SeqNo, Tag};
use crate::metrics::Counter;
use crate::slice::Slice;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Condvar, Mutex, is_simulated, spin};
use crate::table::ahead::decode_nanos;
use crate::table::reader::Table;

/// From so much work on half of it goes to a worker, which costs about a quarter of that half.
const HELP_NANOS: u64 = 40_000;
/// As much if there is a worker awake.
const HELP_NANOS_AWAKE: u64 = 10_000;
/// So many turns the caller waits awake for a worker that has begun: for about two blocks.
const WAIT_TURNS: u32 = 200;
/// What reading a block from the page cache takes, and what comes with decoding it.
const READ_NANOS: u64 = 1_000;
/// How many groups are taken at a time.
const STRIDE: u32 = 2;

/// A key that the table may hold: its block, its place among the answers, itself.
struct Wanted<'a> {
    number: usize,
    at: usize,
    key: &'a [u8],
    hash: u64,
}

/// The answers that were found: the place among the answers, and what belongs there.
type Answers = Vec<(usize, (Tag, Slice))>;

impl Table {
    /// As [`Table::get`] for many keys in ascending order, each with the position of its answer in
    /// `out`, which is set where a key is found. Each block is decoded once, by two threads where that pays.
    pub fn multi_get(
        self: &Arc<Self>,
        keys: &[(usize, &[u8], u64)],
        visible: SeqNo,
        out: &mut [Option<(Tag, Slice)>],
    ) -> Result<()> {
        let mut wanted = Vec::with_capacity(keys.len());
        for &(at, key, hash) in keys {
            if self.may_contain(hash) {
                wanted.push(Wanted { number: 0, at, key, hash });
            }
        }
        wanted.retain_mut(|w| match self.find_block(w.key) {
            Some(number) => {
                w.number = number;
                true
            }
            None => false,
        });
        let inline = &self.metrics().decodes_inline;
        let Some(help) = self.help_with(&wanted, visible) else {
            for group in groups(&wanted) {
                self.get_group(group, visible, inline, |at, found| out[at] = Some(found))?;
            }
            return Ok(());
        };
        // Should this end early, the worker finds nothing left.
        let end = EndClaims(&help.claims);
        let mut rest = groups(&wanted);
        while let Some(n) = help.claims.take_front() {
            for group in rest.by_ref().take(n as usize) {
                self.get_group(group, visible, inline, |at, found| out[at] = Some(found))?;
            }
        }
        drop(end);
        for (at, found) in help.wait()? {
            out[at] = Some(found);
        }
        Ok(())
    }

    /// Answers keys that share a block.
    fn get_group(
        &self,
        group: &[Wanted<'_>],
        visible: SeqNo,
        decodes: &Counter,
        mut answer: impl FnMut(usize, (Tag, Slice)),
    ) -> Result<()> {
        // For one key a block need not become one that stays.
        let held = if group.len() > 1 { Some(self.block_for(group[0].number, true, decodes)?) } else { None };
        for w in group {
            if let Some(found) = self.get_from(w.number, held.as_ref(), w.key, w.hash, visible, decodes)? {
                answer(w.at, found);
            }
        }
        Ok(())
    }

    /// Wakes a worker if that pays. It begins at the last group.
    fn help_with(self: &Arc<Self>, wanted: &[Wanted<'_>], visible: SeqNo) -> Option<Arc<Help>> {
        let pool = self.pool()?;
        if wanted.len() < 2 || pool.idle() == 0 {
            return None;
        }
        let index = self.index();
        let nanos = |number: usize| READ_NANOS + decode_nanos(index.codec(number), index.raw_len(number));
        let (mut n_groups, mut work) = (0, 0);
        for group in groups(wanted) {
            n_groups += 1;
            if !self.is_cached(group[0].number, group[0].key) {
                work += nanos(group[0].number);
            }
        }
        let least = if pool.is_awake() { HELP_NANOS_AWAKE } else { HELP_NANOS };
        if work < least || n_groups < 2 {
            return None;
        }
        let help = Arc::new(Help {
            claims: Claims::new(n_groups),
            outcome: Mutex::default(),
            is_done: AtomicBool::new(false),
            done: Condvar::new(),
        });
        // The worker has copies of its own: the caller's keys may be gone before it begins.
        let mut keys = Vec::with_capacity(wanted.iter().map(|w| w.key.len()).sum());
        let mut places = Vec::with_capacity(wanted.len());
        for w in wanted {
            keys.extend_from_slice(w.key);
            places.push((w.number, w.at, keys.len(), w.hash));
        }
        let (table, shared) = (self.clone(), help.clone());
        let job = move || shared.work(&table, &keys, &places, visible);
        pool.try_run(Box::new(job)).ok()?;
        self.metrics().decode_wakeups.inc();
        Some(help)
    }
}

/// The keys of one block after the other.
fn groups<'a, 'b>(wanted: &'b [Wanted<'a>]) -> impl DoubleEndedIterator<Item = &'b [Wanted<'a>]> {
    wanted.chunk_by(|a, b| a.number == b.number)
}

/// What the caller and its helper share.
struct Help {
    claims: Claims,
    /// What the worker found, once it has stopped; nothing before.
    outcome: Mutex<Option<Result<Answers>>>,
    is_done: AtomicBool,
    done: Condvar,
}

impl Help {
    /// What a worker does.
    fn work(&self, table: &Table, keys: &[u8], places: &[(usize, usize, usize, u64)], visible: SeqNo) {
        let Some(mut n) = self.claims.take_back() else { return };
        // If this panics, the caller gets an error instead of waiting for ever.
        let error = Error::new(ErrorKind::Background, "a thread that helped with a multi_get panicked");
        let mut finish = Finish { help: self, outcome: Some(Err(error)) };
        let begins = |i: usize| if i == 0 { 0 } else { places[i - 1].2 };
        let wanted: Vec<Wanted<'_>> = places
            .iter()
            .enumerate()
            .map(|(i, &(number, at, end, hash))| Wanted { number, at, key: &keys[begins(i)..end], hash })
            .collect();
        let mut answers = Vec::with_capacity(wanted.len());
        let mut rest = groups(&wanted).rev();
        let assisted = &table.metrics().decodes_assisted;
        let mut outcome = Ok(());
        loop {
            for group in rest.by_ref().take(n as usize) {
                if outcome.is_ok() {
                    outcome = table.get_group(group, visible, assisted, |at, found| answers.push((at, found)));
                }
            }
            match self.claims.take_back() {
                Some(more) => n = more,
                None => break,
            }
        }
        finish.outcome = Some(outcome.map(|()| answers));
    }

    /// What the worker has found, if it has begun.
    fn wait(&self) -> Result<Answers> {
        if !self.claims.is_shared() {
            return Ok(Answers::new());
        }
        // Going to sleep and being woken takes longer than what the worker has begun.
        let n_turns = if is_simulated() { 0 } else { WAIT_TURNS };
        (0..n_turns).take_while(|_| !self.is_done.load(Ordering::Relaxed)).for_each(spin);
        let mut outcome = self.outcome.lock();
        loop {
            match outcome.take() {
                Some(outcome) => return outcome,
                None => outcome = self.done.wait(outcome),
            }
        }
    }
}

/// Delivers what a worker has when it goes out of scope, however that happens.
struct Finish<'a> {
    help: &'a Help,
    outcome: Option<Result<Answers>>,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        *self.help.outcome.lock() = self.outcome.take();
        self.help.is_done.store(true, Ordering::Relaxed);
        self.help.done.notify_all();
    }
}

/// Which groups nobody has begun: from the first to before the last, and whether the worker has taken any.
struct Claims(AtomicU64);

/// The lower half counts from the front, the upper half, but for its top bit, to the back.
const SHARED: u64 = 1 << 63;

impl Claims {
    fn new(n_groups: u32) -> Claims {
        Claims(AtomicU64::new(u64::from(n_groups) << 32))
    }

    fn take_front(&self) -> Option<u32> {
        self.take(|front, back, n, shared| (u64::from(back) << 32 | u64::from(front + n)) | shared)
    }

    fn take_back(&self) -> Option<u32> {
        self.take(|front, back, n, _| u64::from(back - n) << 32 | u64::from(front) | SHARED)
    }

    /// Takes up to [`STRIDE`] groups; how many, if any are left.
    fn take(&self, next: impl Fn(u32, u32, u32, u64) -> u64) -> Option<u32> {
        let mut taken = 0;
        let update = |state: u64| {
            let (front, back, shared) = (state as u32, ((state & !SHARED) >> 32) as u32, state & SHARED);
            taken = STRIDE.min(back - front);
            (taken > 0).then(|| next(front, back, taken, shared))
        };
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, update).ok().map(|_| taken)
    }

    fn is_shared(&self) -> bool {
        self.0.load(Ordering::Acquire) & SHARED != 0
    }
}

/// Leaves nothing to claim when it goes out of scope.
struct EndClaims<'a>(&'a Claims);

impl Drop for EndClaims<'_> {
    fn drop(&mut self) {
        while self.0.take_front().is_some() {}
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;

    /// Every group is taken once, and the caller knows whether to wait.
    #[test]
    fn loom_every_group_is_claimed_once() {
        loom::model(|| {
            let claims = Arc::new(Claims::new(5));
            let worker = claims.clone();
            let helper = loom::thread::spawn(move || {
                let mut n = 0;
                while let Some(taken) = worker.take_back() {
                    n += taken;
                }
                n
            });
            let mut n = 0;
            while let Some(taken) = claims.take_front() {
                n += taken;
            }
            let is_shared = claims.is_shared();
            let helped = helper.join().unwrap();
            assert_eq!(n + helped, 5);
            assert_eq!(is_shared, helped > 0);
        });
    }
}
