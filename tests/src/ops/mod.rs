//! Histories: lists of operations that are a function of a seed, print as text, one a line, and can
//! be read back, so that a failing one can be cut down by hand or by [`reduce`](crate::reduce).
//!
//! Families, snapshots, iterators, cursors and values kept live in numbered slots. An operation on
//! an empty slot does nothing, so any part of a history is a history.

use crate::model::{Change, Range};
use crate::rng::Rng;

mod generate;
mod text;

pub use generate::{Flavour, Mix, generate};
pub use text::{parse, print};

/// Slots for families; slot 0 is the family `default` and never empty.
pub const FAMILIES: u8 = 4;
/// Slots for snapshots.
pub const SNAPSHOTS: u8 = 3;
/// Slots for iterators.
pub const ITERATORS: u8 = 3;
/// Slots for cursors.
pub const CURSORS: u8 = 2;
/// Slots for values that are kept beyond everything.
pub const SLICES: u8 = 4;

/// A value, as seed and length: long ones stay short in print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// What it is made from.
    pub seed: u32,
    /// Bytes.
    pub len: u32,
}

impl Value {
    /// The bytes; about half of them can be compressed away.
    pub fn bytes(self) -> Vec<u8> {
        let len = self.len as usize;
        let mut rng = Rng::new(u64::from(self.seed));
        let mut out = Vec::with_capacity(len + 32);
        while out.len() < len {
            let n = rng.next_u64();
            if n & 1 == 0 {
                out.extend_from_slice(b"lignite lignite ");
            } else {
                out.extend_from_slice(&n.to_le_bytes());
                out.extend_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            }
        }
        out.truncate(len);
        out
    }
}

/// One change, with its value in short form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The key gets this value.
    Put(Vec<u8>, Value),
    /// The key goes.
    Delete(Vec<u8>),
    /// Every key of the range goes.
    DeleteRange(Range),
}

impl Write {
    /// The same for the oracle.
    pub fn change(&self) -> Change {
        match self {
            Write::Put(key, value) => Change::Put(key.clone(), value.bytes()),
            Write::Delete(key) => Change::Delete(key.clone()),
            Write::DeleteRange(range) => Change::DeleteRange(range.clone()),
        }
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// One change in one family; `true` waits for the device.
    Write(u8, Write, bool),
    /// One change whose ticket is asked to say when it is durable: by waiting or (`true`) by a callback.
    WriteThen(u8, Write, bool),
    /// Changes in several families, all or none.
    Batch(Vec<(u8, Write)>, bool),
    /// One batch of so many puts of keys that are so far apart: first, count, step, first value.
    Fill(u8, u64, u16, u16, Value),
    /// Removes everything of a family by one range delete.
    Clear(u8),
    /// Everything acknowledged so far becomes durable.
    Sync,
    /// Point read, now or in a snapshot.
    Get(u8, Option<u8>, Vec<u8>),
    /// Point read that lends the value.
    GetWith(u8, Vec<u8>),
    /// Asks if a key is there.
    Contains(u8, Option<u8>, Vec<u8>),
    /// Several point reads.
    MultiGet(u8, Option<u8>, Vec<Vec<u8>>),
    /// Point read whose value is kept beyond everything: slot, then as for a read.
    SliceKeep(u8, u8, Option<u8>, Vec<u8>),
    /// Compares a kept value with what it was.
    SliceCheck(u8),
    /// Reads a whole range, forwards or (`true`) backwards.
    Scan(u8, Option<u8>, Range, bool),
    /// Reads a range from both ends by turns: `>` from the front, `<` from the back.
    Ends(u8, Option<u8>, Range, Vec<bool>),
    /// Reads the keys with a prefix.
    Prefix(u8, Option<u8>, Vec<u8>),
    /// Moves a cursor about: seek to the key, then steps, `>` forward and `<` backward.
    Walk(u8, Vec<u8>, Vec<bool>),
    /// Opens an iterator over a range.
    IterOpen(u8, u8, Range),
    /// Opens an iterator over a range in a snapshot: slot, family, snapshot.
    IterOpenAt(u8, u8, u8, Range),
    /// Takes so many entries from its front or (`true`) back.
    IterStep(u8, u8, bool),
    /// Lets it go.
    IterDrop(u8),
    /// Opens a cursor over a range, or over everything in a snapshot.
    CursorOpen(u8, u8, Option<u8>, Range),
    /// Moves it to the first entry at or after a key or (`true`) the last at or before.
    CursorSeek(u8, Vec<u8>, bool),
    /// Moves it to the first or (`true`) last entry.
    CursorEnd(u8, bool),
    /// Moves it by steps.
    CursorStep(u8, Vec<bool>),
    /// Takes so many entries at once.
    CursorChunk(u8, u8),
    /// Lets it go.
    CursorDrop(u8),
    /// Takes a snapshot.
    SnapshotTake(u8),
    /// Clones one into another slot.
    SnapshotClone(u8, u8),
    /// Lets it go.
    SnapshotDrop(u8),
    /// Flushes a family.
    Flush(u8),
    /// Flushes all of them.
    FlushAll,
    /// Compacts a range of a family.
    Compact(u8, Range),
    /// Compacts a family.
    CompactFamily(u8),
    /// Compacts everything.
    CompactAll,
    /// Moves a family to another codec, dictionary and block size, which are a function of the seed.
    Recompress(u8, u64),
    /// Lets no background job begin for a while.
    Pause,
    /// Lets them begin again.
    Resume,
    /// Runs so many background jobs, if there are as many.
    Step(u8),
    /// Runs all of them.
    WaitIdle,
    /// Closes and opens with options made from the seed; `true` drops the handle instead of closing.
    Reopen(u64, bool),
    /// Closes while iterators and snapshots are alive, uses them, lets them go and opens again.
    CloseBusy(u64),
    /// The process dies and the database is opened from what the system had.
    Die(u64),
    /// Power fails right after a sync; what was not synced survives as the seed says.
    PowerLoss(u64),
    /// Closes the database, removes it and makes it anew.
    Destroy(u64),
    /// Copies the database and compares the copy.
    Checkpoint,
    /// Copies it, opens the copy with other options, writes to it and compares both.
    CheckpointUse(u64),
    /// Copies it and goes on in the copy.
    Move(u64),
    /// Opens it read-only beside itself and compares what is to be seen.
    ReadOnly,
    /// Opens it read-only and keeps it.
    ReaderOpen,
    /// Compares what the kept one shows with the moment when it was opened, and lets it go.
    ReaderCheck,
    /// Makes a family in an empty slot.
    Create(u8, u64),
    /// Drops a family.
    Drop(u8),
    /// Drops a family and makes another one of the same name.
    Recreate(u8, u64),
    /// Gives a family a new name, made from the number.
    Rename(u8, u64),
    /// Opens a family by name with other options than it has, or makes it.
    OpenFamily(u8, u64),
    /// Compares the names and numbers of all families.
    Families,
    /// Adds sorted records from outside.
    Ingest(u8, Vec<(Vec<u8>, Value)>),
    /// Tries to ingest records with a flaw of the kind that the number says.
    IngestBad(u8, Vec<(Vec<u8>, Value)>, u8),
    /// Changes a family's options (codecs among them) to those made from the seed.
    SetOptions(u8, u64),
    /// Asks how large a range is.
    Size(u8, Range),
    /// Compares statistics and health with what is known.
    Stats,
    /// Does what must not be done, of the kind that the number says, and sees it refused.
    Misuse(u8, u8),
    /// Compares everything.
    Compare,
    /// Checks the structural truths.
    Check,
}

impl Op {
    /// The name of its kind, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Write(_, Write::Put(..), false) => "put",
            Op::Write(_, Write::Put(..), true) => "put-sync",
            Op::Write(_, Write::Delete(_), _) => "delete",
            Op::Write(_, Write::DeleteRange(_), _) => "delete-range",
            Op::WriteThen(_, _, false) => "write-wait",
            Op::WriteThen(_, _, true) => "write-callback",
            Op::Batch(..) => "batch",
            Op::Fill(..) => "fill",
            Op::Clear(_) => "clear",
            Op::Sync => "sync",
            Op::Get(_, None, _) => "get",
            Op::Get(_, Some(_), _) => "snapshot-get",
            Op::GetWith(..) => "get-with",
            Op::Contains(..) => "contains",
            Op::MultiGet(..) => "multi-get",
            Op::SliceKeep(..) => "slice-keep",
            Op::SliceCheck(_) => "slice-check",
            Op::Scan(_, None, ..) => "scan",
            Op::Scan(_, Some(_), ..) => "snapshot-scan",
            Op::Ends(..) => "ends",
            Op::Prefix(..) => "prefix",
            Op::Walk(..) => "walk",
            Op::IterOpen(..) => "iter-open",
            Op::IterOpenAt(..) => "iter-open-at",
            Op::IterStep(..) => "iter-step",
            Op::IterDrop(_) => "iter-drop",
            Op::CursorOpen(..) => "cursor-open",
            Op::CursorSeek(..) => "cursor-seek",
            Op::CursorEnd(..) => "cursor-end",
            Op::CursorStep(..) => "cursor-step",
            Op::CursorChunk(..) => "cursor-chunk",
            Op::CursorDrop(_) => "cursor-drop",
            Op::SnapshotTake(_) => "snapshot-take",
            Op::SnapshotClone(..) => "snapshot-clone",
            Op::SnapshotDrop(_) => "snapshot-drop",
            Op::Flush(_) => "flush",
            Op::FlushAll => "flush-all",
            Op::Compact(..) => "compact",
            Op::CompactFamily(_) => "compact-family",
            Op::CompactAll => "compact-all",
            Op::Recompress(..) => "recompress",
            Op::Pause => "pause",
            Op::Resume => "resume",
            Op::Step(_) => "step",
            Op::WaitIdle => "wait-idle",
            Op::Reopen(_, false) => "reopen-close",
            Op::Reopen(_, true) => "reopen-drop",
            Op::CloseBusy(_) => "close-busy",
            Op::Die(_) => "die",
            Op::PowerLoss(_) => "power-loss",
            Op::Destroy(_) => "destroy",
            Op::Checkpoint => "checkpoint",
            Op::CheckpointUse(_) => "checkpoint-use",
            Op::Move(_) => "move",
            Op::ReadOnly => "read-only",
            Op::ReaderOpen => "reader-open",
            Op::ReaderCheck => "reader-check",
            Op::Create(..) => "create",
            Op::Drop(_) => "drop",
            Op::Recreate(..) => "recreate",
            Op::Rename(..) => "rename",
            Op::OpenFamily(..) => "open-family",
            Op::Families => "families",
            Op::Ingest(..) => "ingest",
            Op::IngestBad(..) => "ingest-bad",
            Op::SetOptions(..) => "set-options",
            Op::Size(..) => "size",
            Op::Stats => "stats",
            Op::Misuse(..) => "misuse",
            Op::Compare => "compare",
            Op::Check => "check",
        }
    }

    /// The key of one of a [`Op::Fill`]'s puts and its value.
    pub fn fill(first: u64, step: u16, value: Value, n: u16) -> (Vec<u8>, Value) {
        let key = generate::number_key(first + u64::from(n) * u64::from(step));
        (key, Value { seed: value.seed.wrapping_add(n.into()), ..value })
    }
}
