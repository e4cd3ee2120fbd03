//! Reading ahead of a scan: larger reads, and blocks decoded before they are asked for.
//!
//! An [`Ahead`] hands out the blocks of a table from some block on, in order. It reads frames by the
//! dozen into a private buffer and keeps a ring of the next few blocks. Whoever has time decodes: the
//! consumer takes its next block itself if nobody has begun it, and wakes a worker of the pool only
//! if what lies in the ring is worth the hand-off. No lock is held while reading or decoding.

use std::collections::VecDeque;

use crate::error::{Error, ErrorKind, Result};
use crate::fs::read_exact_at;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, is_simulated, spin};
use crate::table::block::Block;
use crate::table::reader::Table;

/// Blocks in the ring, as long as they have not many bytes before compression.
const RING_LEN: usize = 8;
const RING_BYTES: usize = 4 << 20;
/// Of small blocks there are more: eight of 4 KiB would be no work to share.
const RING_LEN_SMALL: usize = 64;
const RING_BYTES_SMALL: usize = 256 << 10;
/// Blocks in the ring at first; each time it is filled there may be twice as many: most scans are short, and
/// what was decoded for one that ends is wasted.
const WINDOW_MIN: usize = 2;
/// How many blocks at the front of the ring a worker leaves to the consumer while there are others.
const LEAD: usize = 3;
/// The first read, and the largest.
const READ_LEN_MIN: usize = 16 << 10;
const READ_LEN_MAX: usize = 512 << 10;
/// Decoding time in the ring that is worth waking a worker, which costs a quarter of it.
const WAKE_NANOS: u64 = 20_000;

/// So many turns the consumer waits awake for a block that a worker has begun: for as long as some blocks take.
const WAIT_TURNS: u32 = 320;

/// The decoding time of a block, estimated from its codec and length.
pub fn decode_nanos(codec: u8, raw_len: usize) -> u64 {
    let tenths = match codec {
        0 => 1,
        1 => 4,
        2 => 6,
        4 => 30,
        _ => 10,
    };
    raw_len as u64 * tenths / 10
}

/// The blocks of a table, in order, ahead of the consumer.
pub struct Ahead {
    table: Arc<Table>,
    fill_cache: bool,
    /// The block to put into the ring next.
    coming: usize,
    /// The most blocks that the ring may have now.
    window: usize,
    read_len: usize,
    chunks: Vec<Arc<Chunk>>,
    shared: Arc<Shared>,
}

struct Shared {
    ring: Mutex<Ring>,
    done: Condvar,
}

#[derive(Default)]
struct Ring {
    slots: VecDeque<Slot>,
    workers: usize,
    cancelled: bool,
    /// The consumer sleeps until a block is decoded.
    is_awaited: bool,
}

struct Slot {
    block: usize,
    state: State,
}

enum State {
    /// Nobody has begun. The frame's bytes, if they were read already.
    Waiting(Option<Arc<Chunk>>),
    /// A worker is at it.
    Running,
    /// Decoded by a worker.
    Done(Result<Block>),
    /// Found in the cache.
    Cached(Block),
}

/// Several frames, read at once.
struct Chunk {
    offset: u64,
    bytes: Vec<u8>,
    len: usize,
}

impl Ahead {
    /// Hands out blocks from `first` on. They go into the cache only if `fill_cache` says so.
    pub fn new(table: Arc<Table>, first: usize, fill_cache: bool) -> Ahead {
        let shared = Arc::new(Shared { ring: Mutex::default(), done: Condvar::new() });
        Ahead {
            table,
            fill_cache,
            coming: first,
            window: WINDOW_MIN,
            read_len: READ_LEN_MIN,
            chunks: Vec::new(),
            shared,
        }
    }

    /// The next block; none behind the last.
    pub fn next_block(&mut self) -> Result<Option<Block>> {
        self.refill();
        let metrics = self.table.metrics().clone();
        let mut ring = self.shared.ring.lock();
        let Some(slot) = ring.slots.front_mut() else { return Ok(None) };
        let number = slot.block;
        let taken = match std::mem::replace(&mut slot.state, State::Running) {
            State::Waiting(chunk) => {
                ring.slots.pop_front();
                self.wake(ring);
                metrics.decodes_inline.inc();
                decode(&self.table, number, chunk.as_deref())?
            }
            State::Cached(block) => {
                ring.slots.pop_front();
                return Ok(Some(block));
            }
            state => {
                slot.state = state;
                // Awake at first: what a worker has begun takes less time than going to sleep and being woken.
                let mut n_turns = if is_simulated() { 0 } else { WAIT_TURNS };
                let result = loop {
                    match ring.slots.front_mut().map(|slot| &mut slot.state) {
                        Some(State::Running) if n_turns > 0 => {
                            drop(ring);
                            (0..WAIT_TURNS / 16).for_each(spin);
                            n_turns -= WAIT_TURNS / 16;
                            ring = self.shared.ring.lock();
                        }
                        Some(State::Running) => {
                            ring.is_awaited = true;
                            ring = self.shared.done.wait(ring);
                            ring.is_awaited = false;
                        }
                        _ => break ring.slots.pop_front(),
                    }
                };
                drop(ring);
                metrics.decodes_assisted.inc();
                match result.map(|slot| slot.state) {
                    Some(State::Done(result)) => result?,
                    _ => return Err(Error::new(ErrorKind::Background, "a block decoded ahead got lost")),
                }
            }
        };
        if self.fill_cache {
            self.table.cache_block(number, &taken);
        }
        Ok(Some(taken))
    }

    /// Fills the ring when it is half empty.
    fn refill(&mut self) {
        let (mut len, mut bytes) = {
            let ring = self.shared.ring.lock();
            let len = ring.slots.len();
            if len > self.window / 2 {
                return;
            }
            (len, ring.slots.iter().map(|s| self.table.index().raw_len(s.block)).sum::<usize>())
        };
        if len > RING_LEN / 2 && bytes > RING_BYTES_SMALL / 2 {
            return;
        }
        let window = self.window;
        self.window = (window * 2).min(RING_LEN_SMALL);
        let has_room = |len, bytes| {
            let fits = len < RING_LEN && bytes < RING_BYTES || bytes < RING_BYTES_SMALL;
            len == 0 || len < window && fits
        };
        let mut fresh = Vec::new();
        while has_room(len, bytes) {
            let block = self.coming;
            if block >= self.table.index().len() {
                break;
            }
            self.coming += 1;
            len += 1;
            bytes += self.table.index().raw_len(block);
            let state = match self.table.cached_block(block) {
                Some(block) => State::Cached(block),
                None => State::Waiting(self.chunk_for(block)),
            };
            fresh.push(Slot { block, state });
        }
        if !fresh.is_empty() {
            self.shared.ring.lock().slots.extend(fresh);
        }
    }

    /// The bytes of a block, from the last read or a new one. None if that failed: reading the block
    /// alone will say why.
    fn chunk_for(&mut self, block: usize) -> Option<Arc<Chunk>> {
        let index = self.table.index();
        let handle = index.handle(block);
        if let Some(chunk) = self.chunks.last().filter(|c| c.frame(handle.offset, handle.stored_len).is_some()) {
            return Some(chunk.clone());
        }
        let mut end = handle.end();
        for next in block + 1..index.len() {
            let next_end = index.handle(next).end();
            if next_end - handle.offset > self.read_len as u64 {
                break;
            }
            end = next_end;
        }
        let len = (end - handle.offset) as usize;
        self.read_len = (self.read_len * 2).min(READ_LEN_MAX);
        let free = self.chunks.iter_mut().position(|c| Arc::get_mut(c).is_some());
        let mut chunk = match free.map(|i| Arc::try_unwrap(self.chunks.remove(i))) {
            Some(Ok(chunk)) => chunk,
            _ => Chunk { offset: 0, bytes: Vec::new(), len: 0 },
        };
        if chunk.bytes.len() < len {
            chunk.bytes.try_reserve(len - chunk.bytes.len()).ok()?;
            chunk.bytes.resize(len, 0);
        }
        read_exact_at(self.table.file(), &mut chunk.bytes[..len], handle.offset).ok()?;
        self.table.metrics().table_read_bytes.add(len as u64);
        (chunk.offset, chunk.len) = (handle.offset, len);
        let chunk = Arc::new(chunk);
        self.chunks.push(chunk.clone());
        Some(chunk)
    }

    /// Lets a worker of the pool help if that pays. The consumer's own block has left the ring.
    fn wake(&self, mut ring: MutexGuard<'_, Ring>) {
        let Some(pool) = self.table.pool() else { return };
        if pool.idle() == 0 {
            return;
        }
        let index = self.table.index();
        let mut missing = WAKE_NANOS * (ring.workers as u64 + 1);
        for slot in ring.slots.iter().filter(|s| matches!(s.state, State::Waiting(_))) {
            missing = missing.saturating_sub(decode_nanos(index.codec(slot.block), index.raw_len(slot.block)));
            if missing == 0 {
                break;
            }
        }
        if missing > 0 {
            return;
        }
        ring.workers += 1;
        drop(ring);
        let (table, shared) = (self.table.clone(), self.shared.clone());
        if pool.try_run(Box::new(move || work(&table, &shared))).is_ok() {
            self.table.metrics().decode_wakeups.inc();
        } else {
            self.shared.ring.lock().workers -= 1;
        }
    }
}

impl Drop for Ahead {
    /// Waits for nobody: a worker finds out when it is done with its block.
    fn drop(&mut self) {
        let mut ring = self.shared.ring.lock();
        ring.cancelled = true;
        let wasted = ring.slots.iter().filter(|s| matches!(s.state, State::Done(_))).count();
        let slots = std::mem::take(&mut ring.slots);
        drop(ring);
        drop(slots);
        self.table.metrics().decodes_wasted.add(wasted as u64);
    }
}

impl std::fmt::Debug for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ahead({} bytes a read)", self.read_len)
    }
}

impl Chunk {
    fn frame(&self, offset: u64, len: u32) -> Option<&[u8]> {
        let start = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        self.bytes[..self.len].get(start..start.checked_add(len as usize)?)
    }
}

/// What a worker does: decodes what nobody has begun until nothing is left.
fn work(table: &Arc<Table>, shared: &Shared) {
    let mut ring = shared.ring.lock();
    while !ring.cancelled {
        // Not the next one if there are others: the consumer would be there first, or wait for it.
        let is_waiting = |s: &Slot| matches!(s.state, State::Waiting(_));
        let behind = ring.slots.iter().skip(LEAD).position(is_waiting).map(|at| at + LEAD);
        let Some(at) = behind.or_else(|| ring.slots.iter().position(is_waiting)) else { break };
        let slot = &mut ring.slots[at];
        let block = slot.block;
        let State::Waiting(chunk) = std::mem::replace(&mut slot.state, State::Running) else { break };
        drop(ring);
        // If decoding panics, the consumer gets this error instead of waiting for ever.
        let mut finish = Finish {
            table,
            shared,
            block,
            result: Some(Err(Error::new(ErrorKind::Background, "a thread that decoded a block ahead panicked"))),
        };
        finish.result = Some(decode(table, block, chunk.as_deref()));
        drop(chunk);
        drop(finish);
        ring = shared.ring.lock();
    }
    ring.workers -= 1;
}

/// Delivers a worker's result when it goes out of scope, however that happens.
struct Finish<'a> {
    table: &'a Table,
    shared: &'a Shared,
    block: usize,
    result: Option<Result<Block>>,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        let mut ring = self.shared.ring.lock();
        let slot = ring.slots.iter_mut().find(|s| s.block == self.block && matches!(s.state, State::Running));
        match (slot, self.result.take()) {
            (Some(slot), Some(result)) => slot.state = State::Done(result),
            (_, result) => {
                drop(ring);
                drop(result);
                self.table.metrics().decodes_wasted.inc();
                return;
            }
        }
        let is_awaited = ring.is_awaited;
        drop(ring);
        if is_awaited {
            self.shared.done.notify_all();
        }
    }
}

/// Decodes a block from bytes read ahead; if they are damaged or missing, reads it by itself, which
/// tries twice and says where it failed.
fn decode(table: &Table, block: usize, chunk: Option<&Chunk>) -> Result<Block> {
    let handle = table.index().handle(block);
    let bytes = chunk.and_then(|c| c.frame(handle.offset, handle.stored_len));
    if let Some(Ok(decoded)) = bytes.map(|bytes| table.decode_block(handle, bytes)) {
        return Ok(decoded);
    }
    table.load_block(block)
}
