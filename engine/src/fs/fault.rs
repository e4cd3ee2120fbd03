//! Wraps another file system and fails its calls on demand.
//!
//! Every call that changes something has a number, counted from 1 over the whole file system, and so
//! has every read. A [`FaultControl`] says which of them fail and how, counts and lists what was
//! called, limits the space, and can stop the world: from then on every call fails, so that the file
//! system below can be looked at as a crash would leave it.
//!
//! A failed call changes nothing below, except for the kept part of a short or torn write.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::ManualClock;
use crate::fs::{File, FileLock, Fs, LockedBy, Mapping, Metadata};
use crate::sync::still::Mutex;
use crate::sync::{Arc, locks_held};

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallKind {
    /// [`Fs::create_dir_all`].
    CreateDir,
    /// [`Fs::create_new`].
    Create,
    /// [`Fs::rename`]; the name is the new one.
    Rename,
    /// [`Fs::remove_file`].
    Remove,
    /// [`Fs::remove_dir`].
    RemoveDir,
    /// [`Fs::hard_link`]; the name is the new one.
    Link,
    /// [`Fs::sync_dir`].
    SyncDir,
    /// [`Fs::lock`].
    Lock,
    /// [`File::write_all_at`].
    Write,
    /// [`File::sync_data`].
    Sync,
    /// [`File::set_len`].
    SetLen,
    /// [`File::allocate`].
    Allocate,
    /// [`Mapping::store`]. It takes no space and meets no limit, so of the faults only a stop, a failed
    /// device (where a real process would die), and the part of a short or torn write reach it.
    Store,
    /// [`Fs::open`].
    Open,
    /// [`File::read_at`].
    Read,
    /// [`Fs::list`].
    List,
    /// [`Fs::metadata`] and [`File::len`].
    Metadata,
    /// [`File::map`].
    Map,
}

impl CallKind {
    /// True if the call may change the file system.
    pub fn is_change(self) -> bool {
        !matches!(self, CallKind::Open | CallKind::Read | CallKind::List | CallKind::Metadata | CallKind::Map)
    }
}

/// An error of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// The device failed.
    Eio,
    /// No space left on the device.
    Enospc,
    /// The user's quota is used up.
    Edquot,
    /// The file would be too large.
    Efbig,
    /// The process has too many files open.
    Emfile,
    /// The file system is read-only.
    Erofs,
    /// Not allowed.
    Eacces,
    /// A signal came. The real file system repeats calls that are interrupted before they do
    /// anything; one that comes through all the same is an error like any other.
    Eintr,
}

impl Errno {
    /// Every error, for loops over them.
    pub const ALL: [Errno; 8] = [
        Errno::Eio,
        Errno::Enospc,
        Errno::Edquot,
        Errno::Efbig,
        Errno::Emfile,
        Errno::Erofs,
        Errno::Eacces,
        Errno::Eintr,
    ];

    /// The error as the standard library would return it.
    pub fn error(self) -> io::Error {
        #[cfg(unix)]
        {
            use rustix::io::Errno as Os;
            let number = match self {
                Errno::Eio => Os::IO,
                Errno::Enospc => Os::NOSPC,
                Errno::Edquot => Os::DQUOT,
                Errno::Efbig => Os::FBIG,
                Errno::Emfile => Os::MFILE,
                Errno::Erofs => Os::ROFS,
                Errno::Eacces => Os::ACCESS,
                Errno::Eintr => Os::INTR,
            };
            number.into()
        }
        #[cfg(not(unix))]
        {
            use std::io::ErrorKind;
            let kind = match self {
                Errno::Eio | Errno::Emfile => ErrorKind::Other,
                Errno::Enospc => ErrorKind::StorageFull,
                Errno::Edquot => ErrorKind::QuotaExceeded,
                Errno::Efbig => ErrorKind::FileTooLarge,
                Errno::Erofs => ErrorKind::ReadOnlyFilesystem,
                Errno::Eacces => ErrorKind::PermissionDenied,
                Errno::Eintr => ErrorKind::Interrupted,
            };
            kind.into()
        }
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With this error, and nothing happens.
    Error(Errno),
    /// The first `keep` bytes are written, then the error. On other calls as `Error`.
    ShortWrite {
        /// Bytes that are written.
        keep: usize,
        /// What the caller gets.
        error: Errno,
    },
    /// Every second 512-byte sector is written, beginning with the second, then the error. On other
    /// calls as `Error`.
    TornWrite(Errno),
    /// The call reports success and nothing happens: a write or sync that the device lost.
    Lost,
    /// A read reports success and one bit of the first byte is wrong. On other calls as `Error(Eio)`.
    WrongRead,
    /// A read reports success with only the first so many bytes, although the file goes on. No call
    /// of [`File::read_at`] may do that, but a damaged file system can. On other calls as
    /// `Error(Eio)`.
    ShortRead(usize),
    /// A read or write reports success and went to a place so many bytes further on. On other calls
    /// as `Error(Eio)`.
    Misdirected(u64),
    /// The call works and takes so long, by the clock of [`FaultControl::set_clock`].
    Slow(Duration),
}

/// Which calls fail. Make one with [`Rule::new`] and change its fields.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Only calls of this kind.
    pub kind: Option<CallKind>,
    /// Only calls that change something (true) or do not (false).
    pub change: Option<bool>,
    /// Only on files whose name ends so.
    pub suffix: Option<String>,
    /// So many calls that fit pass first.
    pub skip: u64,
    /// So many calls fail then; `u64::MAX` for all.
    pub times: u64,
    /// How they fail.
    pub fault: Fault,
}

impl Rule {
    /// The next call of any kind fails, once.
    pub fn new(fault: Fault) -> Rule {
        Rule { kind: None, change: None, suffix: None, skip: 0, times: 1, fault }
    }

    /// Only calls of this kind.
    #[must_use]
    pub fn kind(mut self, kind: CallKind) -> Rule {
        self.kind = Some(kind);
        self
    }

    /// Only on files whose name ends so.
    #[must_use]
    pub fn suffix(mut self, suffix: &str) -> Rule {
        self.suffix = Some(suffix.to_string());
        self
    }

    /// So many calls that fit pass first.
    #[must_use]
    pub fn skip(mut self, skip: u64) -> Rule {
        self.skip = skip;
        self
    }

    /// Every call that fits fails, not only one.
    #[must_use]
    pub fn sticky(mut self) -> Rule {
        self.times = u64::MAX;
        self
    }

    fn fits(&self, kind: CallKind, name: &str) -> bool {
        self.kind.is_none_or(|k| k == kind)
            && self.change.is_none_or(|c| c == kind.is_change())
            && self.suffix.as_ref().is_none_or(|s| name.ends_with(s.as_str()))
    }
}

/// One call, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number: changes and reads are counted apart, each from 1.
    pub number: u64,
    /// What was called.
    pub kind: CallKind,
    /// The last part of the path.
    pub name: String,
    /// Where in the file; 0 where that means nothing.
    pub offset: u64,
    /// How many bytes, or the length asked for; 0 where that means nothing.
    pub len: u64,
    /// True if this wrapper failed it, or a sync failed below.
    pub failed: bool,
}

/// How much was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that change something: the number of the last one.
    pub changes: u64,
    /// Calls that do not: the number of the last one.
    pub looks: u64,
    /// Calls of [`File::read_at`].
    pub reads: u64,
    /// Bytes asked for by those.
    pub read_bytes: u64,
    /// Calls of [`File::write_all_at`].
    pub writes: u64,
    /// Bytes given to those.
    pub write_bytes: u64,
    /// Calls of [`Mapping::store`].
    pub stores: u64,
    /// Calls of [`File::sync_data`].
    pub syncs: u64,
    /// Calls of [`Fs::sync_dir`].
    pub dir_syncs: u64,
    /// Calls on which a rule or a plan decided, and syncs that failed below.
    pub faults: u64,
    /// Read-path calls that arrived with a lock held while [`FaultControl::forbid_locks`] was on.
    pub lock_violations: u64,
}

/// A file system whose calls can be made to fail.
pub struct FaultFs {
    inner: Arc<dyn Fs>,
    control: FaultControl,
}

impl FaultFs {
    /// Wraps `inner`; nothing fails until the control says so.
    pub fn new(inner: Arc<dyn Fs>) -> (Arc<FaultFs>, FaultControl) {
        let control = FaultControl(Arc::default());
        (Arc::new(FaultFs { inner, control: control.clone() }), control)
    }

    /// The handle that says what fails.
    pub fn control(&self) -> FaultControl {
        self.control.clone()
    }

    /// What the removal of this path would give back.
    fn charge_of(&self, path: &Path) -> Option<Arc<Charge>> {
        if let Some(charge) = self.control.0.lock().charges.get(path) {
            return Some(charge.clone());
        }
        let len = self.inner.metadata(path).ok().filter(|found| found.is_file)?.len;
        let charge = Arc::new(Charge::new(len));
        self.control.0.lock().charges.insert(path.to_path_buf(), charge.clone());
        Some(charge)
    }

    /// Only a budget needs to know about lengths: without one no extra calls are made below.
    fn has_budget(&self) -> bool {
        self.control.0.lock().free_bytes.is_some()
    }
}

/// Says what fails in a [`FaultFs`]. Clones are the same handle.
#[derive(Clone)]
pub struct FaultControl(Arc<Mutex<Control>>);

#[derive(Default)]
struct Control {
    counts: Counts,
    rules: Vec<Rule>,
    fail_change: BTreeMap<u64, Fault>,
    fail_look: BTreeMap<u64, Fault>,
    stop_at: Option<u64>,
    stopped: bool,
    forbid_locks: bool,
    free_bytes: Option<u64>,
    charges: BTreeMap<PathBuf, Arc<Charge>>,
    log: Option<Vec<Call>>,
    hook: Option<Hook>,
    clock: Option<Arc<ManualClock>>,
}

/// What [`FaultControl::set_hook`] takes.
pub type Hook = Arc<dyn Fn(&Call) + Send + Sync>;

/// The space that a file takes, shared by its names.
struct Charge(Mutex<ChargeState>);

struct ChargeState {
    bytes: u64,
    names: u64,
}

impl Charge {
    fn new(bytes: u64) -> Charge {
        Charge(Mutex::new(ChargeState { bytes, names: 1 }))
    }
}

impl FaultControl {
    /// Fails the change with this number (see [`Counts::changes`]).
    pub fn fail_change(&self, number: u64, fault: Fault) {
        self.0.lock().fail_change.insert(number, fault);
    }

    /// Fails the call that changes nothing with this number (see [`Counts::looks`]).
    pub fn fail_look(&self, number: u64, fault: Fault) {
        self.0.lock().fail_look.insert(number, fault);
    }

    /// Fails every change from this number on, such as on a file system that turned read-only.
    pub fn fail_changes_from(&self, number: u64, error: Errno) {
        let mut control = self.0.lock();
        let skip = number.saturating_sub(control.counts.changes + 1);
        let mut rule = Rule::new(Fault::Error(error)).skip(skip).sticky();
        rule.change = Some(true);
        control.rules.push(rule);
    }

    /// Fails the calls that fit a rule. The oldest rule that fits a call decides; calls on which an
    /// older rule decided are not counted by younger ones.
    pub fn add(&self, rule: Rule) {
        self.0.lock().rules.push(rule);
    }

    /// Forgets every rule, the budget, the ban on locks and the stop.
    pub fn heal(&self) {
        let mut control = self.0.lock();
        let Control { counts, log, hook, clock, .. } = std::mem::take(&mut *control);
        *control = Control { counts, log, hook, clock, ..Control::default() };
    }

    /// Calls `hook` before every change that goes through, on the thread that makes it and with no
    /// lock of this file system held: a look at what a crash at that call would leave.
    pub fn set_hook(&self, hook: Option<Hook>) {
        self.0.lock().hook = hook;
    }

    /// The clock that a [`Fault::Slow`] call moves on.
    pub fn set_clock(&self, clock: Arc<ManualClock>) {
        self.0.lock().clock = Some(clock);
    }

    /// From the change with this number on every call of any kind fails, as if the process had died.
    pub fn stop_at(&self, number: u64) {
        self.0.lock().stop_at = Some(number);
    }

    /// Every call fails from now on.
    pub fn stop(&self) {
        self.0.lock().stopped = true;
    }

    /// True once the world has stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.lock().stopped
    }

    /// Lets writes take at most so many bytes from now on; none for no limit. What does not fit fails
    /// with `StorageFull` after a prefix; removing and cutting files gives space back.
    pub fn set_free_bytes(&self, free_bytes: Option<u64>) {
        self.0.lock().free_bytes = free_bytes;
    }

    /// What is left of the budget.
    pub fn free_bytes(&self) -> Option<u64> {
        self.0.lock().free_bytes
    }

    /// Fails every read and open that arrives on a thread that holds a lock of [`crate::sync`].
    pub fn forbid_locks(&self, forbid: bool) {
        self.0.lock().forbid_locks = forbid;
    }

    /// How much was called so far.
    pub fn counts(&self) -> Counts {
        self.0.lock().counts
    }

    /// Begins to list calls, or stops and forgets the list.
    pub fn set_log(&self, on: bool) {
        self.0.lock().log = on.then(Vec::new);
    }

    /// The calls since the log began or was last taken.
    pub fn take_log(&self) -> Vec<Call> {
        self.0.lock().log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Counts a call and decides whether it goes through (none), or how it fails.
    fn arrive(&self, kind: CallKind, name: &str, offset: u64, len: u64) -> io::Result<Option<Fault>> {
        #[cfg(feature = "sim")]
        crate::sync::sim::call(kind as u64, name, offset, len);
        let held = locks_held();
        let mut control = self.0.lock();
        let verdict = control.decide(kind, name, len, held);
        let number = if kind.is_change() { control.counts.changes } else { control.counts.looks };
        control.counts.faults += u64::from(matches!(verdict, Ok(Some(_))));
        let verdict = match verdict {
            Ok(Some(Fault::Slow(time))) => {
                if let Some(clock) = &control.clock {
                    clock.advance(time);
                }
                Ok(None)
            }
            other => other,
        };
        let failed = !matches!(verdict, Ok(None));
        let hook = control.hook.clone().filter(|_| kind.is_change() && verdict.is_ok());
        if control.log.is_some() || hook.is_some() {
            let call = Call { number, kind, name: name.to_string(), offset, len, failed };
            if let Some(log) = &mut control.log {
                log.push(call.clone());
            }
            drop(control);
            if let Some(hook) = hook {
                hook(&call);
            }
        }
        verdict
    }

    /// Notes in the list that the file system below failed the last call on this name.
    fn note<T>(&self, name: &str, outcome: io::Result<T>) -> io::Result<T> {
        if outcome.is_err() {
            let mut control = self.0.lock();
            control.counts.faults += 1;
            let call = control.log.iter_mut().flatten().rev().find(|call| call.name == name);
            if let Some(call) = call {
                call.failed = true;
            }
        }
        outcome
    }

    /// For calls that can only succeed or fail: true if the call is to go through, false if it is to
    /// report success without being made.
    fn pass(&self, kind: CallKind, name: &str, offset: u64, len: u64) -> io::Result<bool> {
        match self.arrive(kind, name, offset, len)? {
            None => Ok(true),
            Some(Fault::Lost) => Ok(false),
            Some(fault) => Err(fault.error()),
        }
    }

    /// Takes up to `wanted` bytes from the budget: what was granted.
    fn take_space(&self, wanted: u64) -> u64 {
        match &mut self.0.lock().free_bytes {
            None => wanted,
            Some(free) => {
                let granted = wanted.min(*free);
                *free -= granted;
                granted
            }
        }
    }

    fn give_space(&self, bytes: u64) {
        if let Some(free) = &mut self.0.lock().free_bytes {
            *free = free.saturating_add(bytes);
        }
    }

    /// Takes a name from a file; its space comes back with the last one.
    fn release_name(&self, path: &Path, charge: Option<Arc<Charge>>) {
        self.0.lock().charges.remove(path);
        let Some(charge) = charge else { return };
        let freed = {
            let mut state = charge.0.lock();
            state.names = state.names.saturating_sub(1);
            if state.names == 0 { std::mem::take(&mut state.bytes) } else { 0 }
        };
        self.give_space(freed);
    }
}

impl Control {
    fn decide(&mut self, kind: CallKind, name: &str, len: u64, held: usize) -> io::Result<Option<Fault>> {
        self.count(kind, len);
        if kind.is_change() && self.stop_at.is_some_and(|at| self.counts.changes >= at) {
            self.stopped = true;
        }
        if self.stopped {
            return Err(io::Error::other("the simulated machine has stopped"));
        }
        if self.forbid_locks && held > 0 && matches!(kind, CallKind::Open | CallKind::Read) {
            self.counts.lock_violations += 1;
            let message = format!("a read-path call ({kind:?} on {name}) arrived on a thread that holds {held} locks");
            return Err(io::Error::other(message));
        }
        let planned = if kind.is_change() {
            self.fail_change.remove(&self.counts.changes)
        } else {
            self.fail_look.remove(&self.counts.looks)
        };
        if planned.is_some() {
            return Ok(planned);
        }
        for rule in &mut self.rules {
            if rule.times == 0 || !rule.fits(kind, name) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if rule.times != u64::MAX {
                rule.times -= 1;
            }
            return Ok(Some(rule.fault));
        }
        Ok(None)
    }

    fn count(&mut self, kind: CallKind, len: u64) {
        let counts = &mut self.counts;
        if kind.is_change() {
            counts.changes += 1;
        } else {
            counts.looks += 1;
        }
        match kind {
            CallKind::Read => {
                counts.reads += 1;
                counts.read_bytes += len;
            }
            CallKind::Write => {
                counts.writes += 1;
                counts.write_bytes += len;
            }
            CallKind::Store => counts.stores += 1,
            CallKind::Sync => counts.syncs += 1,
            CallKind::SyncDir => counts.dir_syncs += 1,
            _ => {}
        }
    }
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Fault::Error(error) | Fault::ShortWrite { error, .. } | Fault::TornWrite(error) => error.error(),
            _ => Errno::Eio.error(),
        }
    }
}

impl Fs for FaultFs {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if self.control.pass(CallKind::CreateDir, &name_of(path), 0, 0)? {
            self.inner.create_dir_all(path)?;
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        if !self.control.pass(CallKind::Open, &name_of(path), 0, 0)? {
            return Err(Errno::Eio.error());
        }
        let inner = self.inner.open(path)?;
        Ok(Arc::new(FaultFile { inner, name: name_of(path), control: self.control.clone(), charge: None }))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        if !self.control.pass(CallKind::Create, &name_of(path), 0, 0)? {
            return Err(Errno::Eio.error());
        }
        let inner = self.inner.create_new(path)?;
        let charge = Arc::new(Charge::new(0));
        self.control.0.lock().charges.insert(path.to_path_buf(), charge.clone());
        let control = self.control.clone();
        Ok(Arc::new(FaultFile { inner, name: name_of(path), control, charge: Some(charge) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.control.pass(CallKind::Rename, &name_of(to), 0, 0)? {
            return Ok(());
        }
        if from == to {
            return self.inner.rename(from, to);
        }
        let replaced = if self.has_budget() { self.charge_of(to) } else { None };
        self.inner.rename(from, to)?;
        self.control.release_name(to, replaced);
        let mut control = self.control.0.lock();
        if let Some(charge) = control.charges.remove(from) {
            control.charges.insert(to.to_path_buf(), charge);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        if !self.control.pass(CallKind::Remove, &name_of(path), 0, 0)? {
            return Ok(());
        }
        let charge = if self.has_budget() { self.charge_of(path) } else { None };
        self.inner.remove_file(path)?;
        self.control.release_name(path, charge);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if self.control.pass(CallKind::RemoveDir, &name_of(path), 0, 0)? {
            self.inner.remove_dir(path)?;
        }
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.control.pass(CallKind::Link, &name_of(to), 0, 0)? {
            return Ok(());
        }
        let charge = if self.has_budget() { self.charge_of(from) } else { None };
        self.inner.hard_link(from, to)?;
        if let Some(charge) = charge {
            charge.0.lock().names += 1;
            self.control.0.lock().charges.insert(to.to_path_buf(), charge);
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.control.pass(CallKind::List, &name_of(path), 0, 0)?;
        self.inner.list(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.control.pass(CallKind::Metadata, &name_of(path), 0, 0)?;
        self.inner.metadata(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let name = name_of(path);
        if self.control.pass(CallKind::SyncDir, &name, 0, 0)? {
            self.control.note(&name, self.inner.sync_dir(path))?;
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Result<Box<dyn FileLock>, LockedBy>> {
        if !self.control.pass(CallKind::Lock, &name_of(path), 0, 0)? {
            return Err(Errno::Eio.error());
        }
        self.inner.lock(path)
    }
}

struct FaultFile {
    inner: Arc<dyn File>,
    name: String,
    control: FaultControl,
    /// What the file takes of the budget; none if it was opened for reading.
    charge: Option<Arc<Charge>>,
}

impl FaultFile {
    /// Takes the space for growth to `end`; returns up to where it was granted.
    fn charge_up_to(&self, end: u64) -> u64 {
        let Some(charge) = &self.charge else { return end };
        let mut state = charge.0.lock();
        let growth = end.saturating_sub(state.bytes);
        let granted = self.control.take_space(growth);
        state.bytes += granted;
        end - (growth - granted)
    }
}

impl File for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.control.arrive(CallKind::Read, &self.name, offset, buf.len() as u64)? {
            None => self.inner.read_at(buf, offset),
            Some(Fault::WrongRead) => {
                let n = self.inner.read_at(buf, offset)?;
                if let Some(byte) = buf[..n].first_mut() {
                    *byte ^= 1;
                }
                Ok(n)
            }
            Some(Fault::ShortRead(keep)) => {
                let keep = keep.min(buf.len());
                self.inner.read_at(&mut buf[..keep], offset)
            }
            Some(Fault::Misdirected(by)) => self.inner.read_at(buf, offset.saturating_add(by)),
            Some(fault) => Err(fault.error()),
        }
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let Some(fault) = self.control.arrive(CallKind::Write, &self.name, offset, buf.len() as u64)? else {
            let granted = self.charge_up_to(offset + buf.len() as u64);
            let fits = granted.saturating_sub(offset) as usize;
            if fits < buf.len() {
                self.inner.write_all_at(&buf[..fits], offset)?;
                return Err(Errno::Enospc.error());
            }
            return self.inner.write_all_at(buf, offset);
        };
        match fault {
            Fault::ShortWrite { keep, error } => {
                let keep = keep.min(buf.len());
                self.charge_up_to(offset + keep as u64);
                self.inner.write_all_at(&buf[..keep], offset)?;
                Err(error.error())
            }
            Fault::TornWrite(error) => {
                self.charge_up_to(offset + buf.len() as u64);
                for (n, sector) in buf.chunks(512).enumerate().filter(|(n, _)| n % 2 == 1) {
                    self.inner.write_all_at(sector, offset + n as u64 * 512)?;
                }
                Err(error.error())
            }
            Fault::Lost => Ok(()),
            Fault::Misdirected(by) => {
                let offset = offset.saturating_add(by);
                self.charge_up_to(offset + buf.len() as u64);
                self.inner.write_all_at(buf, offset)
            }
            _ => Err(fault.error()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.control.pass(CallKind::Sync, &self.name, 0, 0)? {
            self.control.note(&self.name, self.inner.sync_data())?;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !self.control.pass(CallKind::SetLen, &self.name, 0, len)? {
            return Ok(());
        }
        self.inner.set_len(len)?;
        if let Some(charge) = &self.charge {
            let mut state = charge.0.lock();
            let freed = state.bytes.saturating_sub(len);
            state.bytes -= freed;
            self.control.give_space(freed);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.control.pass(CallKind::Metadata, &self.name, 0, 0)?;
        self.inner.len()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if !self.control.pass(CallKind::Allocate, &self.name, 0, len)? {
            return Ok(());
        }
        // As some file systems do, a failed call keeps what it got.
        if self.charge_up_to(len) < len {
            return Err(Errno::Enospc.error());
        }
        self.inner.allocate(len)
    }

    fn is_mappable(&self) -> bool {
        self.inner.is_mappable()
    }

    fn map(&self, len: u64) -> io::Result<Box<dyn Mapping>> {
        if !self.control.pass(CallKind::Map, &self.name, 0, len)? {
            return Err(Errno::Eio.error());
        }
        let inner = self.inner.map(len)?;
        Ok(Box::new(FaultMapping { inner, name: self.name.clone(), control: self.control.clone() }))
    }
}

struct FaultMapping {
    inner: Box<dyn Mapping>,
    name: String,
    control: FaultControl,
}

impl Mapping for FaultMapping {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn store(&mut self, offset: u64, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> io::Result<()> {
        let fault = self.control.arrive(CallKind::Store, &self.name, offset, len as u64)?;
        let (kept, error): (&dyn Fn(usize) -> bool, Errno) = match &fault {
            Some(Fault::Error(Errno::Eio)) => return Err(Errno::Eio.error()),
            Some(Fault::ShortWrite { keep, error }) => (&|at| at < *keep, *error),
            Some(Fault::TornWrite(error)) => (&|at| at / 512 % 2 == 1, *error),
            _ => return self.inner.store(offset, len, fill),
        };
        self.inner.store(offset, len, &mut |bytes| {
            let mut all = bytes.to_vec();
            fill(&mut all);
            bytes.iter_mut().zip(all).enumerate().filter(|(at, _)| kept(*at)).for_each(|(_, (to, from))| *to = from);
        })?;
        Err(error.error())
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::ErrorKind;

    use super::*;
    use crate::fs::disk::tests::behaves;
    use crate::fs::mem::{CrashPolicy, MemFs};
    use crate::fs::read_all;

    fn faulty() -> (Arc<MemFs>, Arc<FaultFs>, FaultControl) {
        let mem = Arc::new(MemFs::new());
        let (fs, control) = FaultFs::new(mem.clone());
        (mem, fs, control)
    }

    fn path(name: &str) -> &Path {
        Path::new(name)
    }

    #[test]
    fn without_faults_it_behaves_as_what_it_wraps() {
        let (_, fs, control) = faulty();
        behaves(&*fs, path("/db"));
        control.set_free_bytes(Some(1 << 30));
        behaves(&*fs, path("/again"));
        assert_eq!(control.counts().lock_violations, 0);
    }

    #[test]
    fn the_nth_change_fails_and_is_listed() {
        let (_, fs, control) = faulty();
        control.set_log(true);
        control.fail_change(3, Fault::Error(Errno::Enospc));
        let file = fs.create_new(path("d.wal")).unwrap();
        file.write_all_at(b"one", 0).unwrap();
        assert_eq!(file.write_all_at(b"two", 3).unwrap_err().kind(), ErrorKind::StorageFull);
        file.write_all_at(b"two", 3).unwrap();
        assert_eq!(read_all(&*file, 99).unwrap(), b"onetwo");
        let log = control.take_log();
        let failed: Vec<&Call> = log.iter().filter(|call| call.failed).collect();
        let expected = Call { number: 3, kind: CallKind::Write, name: "d.wal".into(), offset: 3, len: 3, failed: true };
        assert_eq!(failed, [&expected]);
        let counts = control.counts();
        assert_eq!((counts.changes, counts.writes, counts.write_bytes, counts.reads), (4, 3, 9, 1));
    }

    #[test]
    fn rules_choose_by_kind_name_and_count() {
        let (_, fs, control) = faulty();
        let log = fs.create_new(path("1.wal")).unwrap();
        let table = fs.create_new(path("2.sst")).unwrap();
        control.add(Rule::new(Fault::Error(Errno::Eio)).kind(CallKind::Sync).suffix(".wal").skip(1).sticky());
        assert!(log.sync_data().is_ok() && table.sync_data().is_ok());
        assert!(log.sync_data().is_err() && log.sync_data().is_err() && table.sync_data().is_ok());
        control.heal();
        assert!(log.sync_data().is_ok());
        control.fail_changes_from(control.counts().changes + 2, Errno::Erofs);
        assert!(log.sync_data().is_ok());
        assert_eq!(fs.remove_file(path("1.wal")).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
        assert!(table.len().is_ok(), "reads go on");
    }

    #[test]
    fn every_error_looks_like_the_real_one() {
        for errno in Errno::ALL {
            let (_, fs, control) = faulty();
            control.add(Rule::new(Fault::Error(errno)));
            let error = fs.create_new(path("f")).err().unwrap();
            assert_eq!(error.kind(), errno.error().kind());
            #[cfg(unix)]
            assert!(error.raw_os_error().is_some());
        }
    }

    #[test]
    fn short_torn_and_lost_writes_and_wrong_reads() {
        let (_, fs, control) = faulty();
        let file = fs.create_new(path("f")).unwrap();
        control.add(Rule::new(Fault::ShortWrite { keep: 2, error: Errno::Eio }));
        assert!(file.write_all_at(b"abcd", 0).is_err());
        assert_eq!(read_all(&*file, 99).unwrap(), b"ab");
        control.add(Rule::new(Fault::TornWrite(Errno::Eio)));
        assert!(file.write_all_at(&[7; 1100], 0).is_err());
        let bytes = read_all(&*file, 9999).unwrap();
        assert_eq!((bytes.len(), bytes[0], bytes[511], bytes[512], bytes[1023]), (1024, b'a', 0, 7, 7));
        control.add(Rule::new(Fault::Lost).kind(CallKind::Write));
        file.write_all_at(b"zz", 0).unwrap();
        control.add(Rule::new(Fault::WrongRead).kind(CallKind::Read));
        let mut buf = [0; 2];
        file.read_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"`b");
        file.read_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"ab");
    }

    #[test]
    fn short_and_misdirected_calls_and_slow_ones() {
        let (_, fs, control) = faulty();
        let clock = Arc::new(ManualClock::new());
        control.set_clock(clock.clone());
        let file = fs.create_new(path("f")).unwrap();
        file.write_all_at(b"abcdef", 0).unwrap();
        let looks = control.counts().looks;
        control.fail_look(looks + 1, Fault::ShortRead(2));
        control.fail_look(looks + 2, Fault::Misdirected(3));
        control.fail_look(looks + 3, Fault::Slow(Duration::from_secs(9)));
        let read = || {
            let mut buf = [0; 3];
            let n = file.read_at(&mut buf, 0).unwrap();
            buf[..n].to_vec()
        };
        assert_eq!((read(), read()), (b"ab".to_vec(), b"def".to_vec()));
        assert_eq!((read(), crate::clock::Clock::now(&*clock)), (b"abc".to_vec(), Duration::from_secs(9)));
        control.add(Rule::new(Fault::Misdirected(2)).kind(CallKind::Write));
        file.write_all_at(b"X", 0).unwrap();
        assert_eq!(read_all(&*file, 99).unwrap(), b"abXdef");
    }

    #[test]
    fn the_hook_sees_the_disk_before_every_change() {
        let (mem, fs, control) = faulty();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let list = seen.clone();
        control.set_hook(Some(Arc::new(move |call| {
            let names = mem.crash(CrashPolicy::Everything, 0).list(path("")).unwrap();
            list.lock().push((call.kind, names.len()));
        })));
        let file = fs.create_new(path("a")).unwrap();
        file.write_all_at(b"x", 0).unwrap();
        file.len().unwrap();
        fs.rename(path("a"), path("b")).unwrap();
        fs.remove_file(path("b")).unwrap();
        let seen = seen.lock().clone();
        let expected = [(CallKind::Create, 0), (CallKind::Write, 1), (CallKind::Rename, 1), (CallKind::Remove, 1)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_sync_that_fails_below_is_listed() {
        let (mem, fs, control) = faulty();
        control.set_log(true);
        let file = fs.create_new(path("a")).unwrap();
        mem.fail_any_sync(1, crate::fs::mem::SyncFailure::PagesClean);
        assert!(file.sync_data().is_ok() && fs.sync_dir(path("")).is_err() && fs.sync_dir(path("")).is_ok());
        let failed: Vec<bool> = control.take_log().iter().map(|call| call.failed).collect();
        assert_eq!(failed, [false, false, true, false]);
        assert!(mem.crash(CrashPolicy::Durable, 0).open(path("a")).is_err(), "the second sync was a lie");
    }

    #[test]
    fn space_runs_out_and_comes_back() {
        let (_, fs, control) = faulty();
        control.set_free_bytes(Some(10));
        let a = fs.create_new(path("a")).unwrap();
        a.write_all_at(b"123456", 0).unwrap();
        a.write_all_at(b"654321", 0).unwrap();
        fs.hard_link(path("a"), path("c")).unwrap();
        let b = fs.create_new(path("b")).unwrap();
        assert!(b.allocate(5).is_err() && b.allocate(4).is_ok());
        assert_eq!(b.write_all_at(b"123456", 0).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!((b.len().unwrap(), control.free_bytes()), (4, Some(0)), "a prefix was written");
        b.set_len(1).unwrap();
        assert_eq!(control.free_bytes(), Some(3));
        fs.remove_file(path("a")).unwrap();
        assert_eq!(control.free_bytes(), Some(3), "the other name keeps it");
        fs.rename(path("b"), path("c")).unwrap();
        assert_eq!(control.free_bytes(), Some(9));
        fs.remove_file(path("c")).unwrap();
        assert_eq!(control.free_bytes(), Some(10));
    }

    #[test]
    fn the_world_stops() {
        let (mem, fs, control) = faulty();
        let file = fs.create_new(path("f")).unwrap();
        file.write_all_at(b"a", 0).unwrap();
        file.sync_data().unwrap();
        fs.sync_dir(path("")).unwrap();
        control.stop_at(control.counts().changes + 2);
        file.write_all_at(b"b", 1).unwrap();
        assert!(file.sync_data().is_err() && control.is_stopped());
        assert!(file.len().is_err() && fs.open(path("f")).is_err() && fs.lock(path("LOCK")).is_err());
        let read = |policy| read_all(&*mem.crash(policy, 0).open(path("f")).unwrap(), 9).unwrap();
        assert_eq!((read(CrashPolicy::Durable), read(CrashPolicy::Everything)), (b"a".to_vec(), b"ab".to_vec()));
    }

    #[test]
    fn a_read_under_a_lock_is_refused() {
        let (_, fs, control) = faulty();
        let file = fs.create_new(path("f")).unwrap();
        control.forbid_locks(true);
        let lock = crate::sync::Mutex::new(());
        let guard = lock.lock();
        assert!(file.read_at(&mut [0], 0).unwrap_err().to_string().contains("holds 1 locks"));
        assert!(fs.open(path("f")).is_err());
        assert!(file.write_all_at(b"x", 0).is_ok(), "writes may");
        drop(guard);
        assert!(fs.open(path("f")).is_ok());
        assert_eq!(control.counts().lock_violations, 2);
    }
}
