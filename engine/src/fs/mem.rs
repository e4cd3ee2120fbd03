//! A file system in memory that remembers what was synced, and dies on demand.
//!
//! A file has its content, a durable image, and the writes and truncations since the last
//! successful sync, in order; a directory the same for its names. [`MemFs::crash`] makes a new file
//! system out of the durable part and whatever of the rest a [`CrashPolicy`] lets survive: a pure
//! function of state, policy and seed. Contents are shared pages, copied when written, so a copy of
//! the whole costs little more than its table of files.
//!
//! A store through a mapping is two writes, one behind the other, with a border somewhere in between: a
//! process can die within one, and a page can go to the disk while it is stored into. Where a real
//! store would kill the process, behind the end of the file, it fails here. No file says that it
//! [is mappable](File::is_mappable): who wants a mapping must ask for it.
//!
//! A rename across two directories is a link in one and a removal in the other, each pending by
//! itself. A new directory needs a sync of its parent, as a file does. Locks belong to one `MemFs`:
//! a copy begins unlocked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};

use crate::checksum;
use crate::fs::{File, FileLock, Fs, LockedBy, Mapping, Metadata};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::still::Mutex;

/// The unit in which a device writes: kept writes are torn at these borders.
pub const SECTOR: u64 = 512;

/// What of the state that was not synced survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPolicy {
    /// P0: nothing.
    Durable,
    /// P1: everything, as after the death of the process alone.
    Everything,
    /// P2: the first so many changes of all, in the order in which they were made.
    Prefix,
    /// P3: each change by itself with a chance of 0.1, 0.5 or 0.9; in a file in any order.
    Subset,
    /// P4: as `Subset`, and any subset of the sectors of a write.
    Torn,
    /// P5: as `Torn`, and files may have their new length without the data; the gap reads as zeros,
    /// noise or what another file holds, or held before it was deleted.
    LengthFirst,
    /// P6: every change of names, no change of content: new files are empty.
    NamesOnly,
    /// P7: any subset of the changes of names, in any order.
    NamesShuffled,
}

impl CrashPolicy {
    /// Every policy, from P0 to P7.
    pub const ALL: [CrashPolicy; 8] = [
        CrashPolicy::Durable,
        CrashPolicy::Everything,
        CrashPolicy::Prefix,
        CrashPolicy::Subset,
        CrashPolicy::Torn,
        CrashPolicy::LengthFirst,
        CrashPolicy::NamesOnly,
        CrashPolicy::NamesShuffled,
    ];
}

/// What a sync that fails leaves behind; see [`MemFs::fail_sync`]. Of a directory the same holds for
/// its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncFailure {
    /// One error; the cache keeps the new bytes but counts them as clean, so that the next sync
    /// reports success and the disk never gets them.
    PagesClean,
    /// One error; the cache goes back to what the disk has.
    CacheReverts,
    /// This sync and every later one of any file fail.
    Sticky,
}

impl SyncFailure {
    /// Every flavour.
    pub const ALL: [SyncFailure; 3] = [SyncFailure::PagesClean, SyncFailure::CacheReverts, SyncFailure::Sticky];
}

/// A file system in memory. Clones share their state; see [`MemFs::deep_clone`] for a copy.
#[derive(Clone)]
pub struct MemFs(Arc<Mutex<State>>);

impl Default for MemFs {
    fn default() -> MemFs {
        MemFs::new()
    }
}

impl MemFs {
    /// A file system with an empty root directory.
    pub fn new() -> MemFs {
        let mut state = State {
            nodes: BTreeMap::new(),
            next_node: ROOT + 1,
            next_order: 0,
            locked: BTreeSet::new(),
            sync_failure: None,
            deleted: VecDeque::new(),
        };
        state.nodes.insert(ROOT, Node::Dir(Directory::default()));
        MemFs(Arc::new(Mutex::new(state)))
    }

    /// A copy that shares nothing that changes: same contents, same pending changes, no locks.
    pub fn deep_clone(&self) -> MemFs {
        let state = self.0.lock();
        let nodes = state.nodes.iter().map(|(&id, node)| (id, node.detached())).collect();
        MemFs(Arc::new(Mutex::new(State {
            nodes,
            next_node: state.next_node,
            next_order: state.next_order,
            locked: BTreeSet::new(),
            sync_failure: None,
            deleted: state.deleted.clone(),
        })))
    }

    /// The file system that a crash now could leave behind. The same state, policy and seed give the
    /// same result.
    pub fn crash(&self, policy: CrashPolicy, seed: u64) -> MemFs {
        let after = crash_state(&self.0.lock(), policy, &mut Random::new(seed));
        MemFs(Arc::new(Mutex::new(after)))
    }

    /// Makes everything durable: for setting up a test.
    pub fn sync_all(&self) {
        let mut state = self.0.lock();
        for node in state.nodes.values_mut() {
            match node {
                Node::File(file) => file.sync(),
                Node::Dir(dir) => dir.sync(),
            }
        }
        state.collect_garbage();
    }

    /// How many changes of files and names are not durable.
    pub fn pending(&self) -> usize {
        let state = self.0.lock();
        let count = |node: &Node| match node {
            Node::File(file) => file.pending.len(),
            Node::Dir(dir) => dir.pending.len(),
        };
        state.nodes.values().map(count).sum()
    }

    /// Lets the `skip + 1`-th sync of a file from now fail.
    pub fn fail_sync(&self, skip: u64, failure: SyncFailure) {
        self.0.lock().sync_failure = Some(PlannedFailure { skip, failure, directories: false });
    }

    /// Lets the `skip + 1`-th sync from now fail, of files and directories counted together.
    pub fn fail_any_sync(&self, skip: u64, failure: SyncFailure) {
        self.0.lock().sync_failure = Some(PlannedFailure { skip, failure, directories: true });
    }

    /// Syncs that were to fail work again; what they left behind stays.
    pub fn heal(&self) {
        self.0.lock().sync_failure = None;
    }

    /// A number that is equal for two file systems with the same names and bytes, as they would be
    /// read now, and different otherwise; files named `except` do not count.
    pub fn image_hash(&self, except: &str) -> u64 {
        let state = self.0.lock();
        let mut hasher = checksum::FileHasher::new();
        state.hash_names(ROOT, except, &mut hasher);
        hasher.digest() as u64
    }

    /// Flips one bit of a file, in its content and on the disk, as decay of the medium would.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let mut state = self.0.lock();
        let id = state.resolve(path)?;
        let file = state.file_mut(id)?;
        for pages in [&mut file.content, &mut file.durable] {
            let mut byte = [0];
            if pages.read(&mut byte, offset) == 1 {
                pages.write(&[byte[0] ^ 1 << (bit & 7)], offset);
            }
        }
        Ok(())
    }
}

impl Fs for MemFs {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let mut at = ROOT;
        for name in parts(path)? {
            at = match state.dir(at)?.entries.get(name) {
                Some(&id) => id,
                None => {
                    let id = state.add_node(Node::Dir(Directory::default()));
                    state.change_names(at, NameChange::Add { name: name.to_string(), node: id })?;
                    id
                }
            };
        }
        state.dir(at).map(|_| ())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let state = self.0.lock();
        let node = state.resolve(path)?;
        let token = state.file(node)?.token.clone();
        Ok(Arc::new(MemFile { state: self.0.clone(), node, writable: false, _token: token }))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.0.lock();
        let (dir, name) = state.resolve_parent(path)?;
        let (node, token) = state.create_file(dir, name)?;
        Ok(Arc::new(MemFile { state: self.0.clone(), node, writable: true, _token: token }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let (from_dir, from_name) = state.resolve_parent(from)?;
        let node = state.entry(from_dir, from_name)?;
        let (to_dir, to_name) = state.resolve_parent(to)?;
        let replaced = state.dir(to_dir)?.entries.get(to_name).copied();
        if replaced == Some(node) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            match (&state.nodes[&node], &state.nodes[&replaced]) {
                (Node::File(_), Node::File(_)) => {}
                (Node::Dir(_), Node::Dir(dir)) if dir.entries.is_empty() => {}
                (Node::Dir(_), Node::Dir(_)) => return Err(ErrorKind::DirectoryNotEmpty.into()),
                (Node::File(_), Node::Dir(_)) => return Err(ErrorKind::IsADirectory.into()),
                (Node::Dir(_), Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
            }
        }
        let (from_name, to_name) = (from_name.to_string(), to_name.to_string());
        if from_dir == to_dir {
            return state.change_names(from_dir, NameChange::Rename { from: from_name, to: to_name, node });
        }
        state.change_names(to_dir, NameChange::Add { name: to_name, node })?;
        state.change_names(from_dir, NameChange::Remove { name: from_name, node })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let (dir, name) = state.resolve_parent(path)?;
        let node = state.entry(dir, name)?;
        state.file(node)?;
        state.change_names(dir, NameChange::Remove { name: name.to_string(), node })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let (dir, name) = state.resolve_parent(path)?;
        let node = state.entry(dir, name)?;
        if !state.dir(node)?.entries.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        state.change_names(dir, NameChange::Remove { name: name.to_string(), node })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let node = state.resolve(from)?;
        state.file(node)?;
        let (dir, name) = state.resolve_parent(to)?;
        if state.dir(dir)?.entries.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.change_names(dir, NameChange::Add { name: name.to_string(), node })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        let id = state.resolve(path)?;
        Ok(state.dir(id)?.entries.keys().cloned().collect())
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let state = self.0.lock();
        let id = state.resolve(path)?;
        Ok(match &state.nodes[&id] {
            Node::File(file) => Metadata { len: file.content.len, is_dir: false, is_file: true },
            Node::Dir(_) => Metadata { len: 0, is_dir: true, is_file: false },
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let id = state.resolve(path)?;
        let failure = state.next_sync_failure(true);
        let dir = state.dir_mut(id)?;
        match failure {
            None => {
                dir.sync();
                state.collect_garbage();
                return Ok(());
            }
            Some(SyncFailure::PagesClean) => {
                dir.pending.clear();
                dir.diverged = true;
            }
            Some(SyncFailure::CacheReverts) => {
                dir.pending.clear();
                dir.entries = dir.durable.clone();
                dir.diverged = false;
            }
            Some(SyncFailure::Sticky) => {}
        }
        Err(sync_failed())
    }

    fn lock(&self, path: &Path) -> io::Result<Result<Box<dyn FileLock>, LockedBy>> {
        let mut state = self.0.lock();
        let (dir, name) = state.resolve_parent(path)?;
        let (node, token) = match state.dir(dir)?.entries.get(name).copied() {
            Some(node) => (node, state.file(node)?.token.clone()),
            None => state.create_file(dir, name)?,
        };
        if !state.locked.insert(node) {
            return Ok(Err(LockedBy { pid: std::process::id() }));
        }
        let signed = AtomicBool::new(false);
        Ok(Ok(Box::new(MemLock { state: self.0.clone(), node, signed, _token: token })))
    }
}

struct MemFile {
    state: Arc<Mutex<State>>,
    node: NodeId,
    writable: bool,
    /// Keeps the node while the file is open, whatever happens to its names.
    _token: Arc<()>,
}

impl MemFile {
    fn change(&self, change: FileChange) -> io::Result<()> {
        if !self.writable {
            return Err(ErrorKind::PermissionDenied.into());
        }
        self.state.lock().change_file(self.node, change)
    }
}

impl File for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.state.lock();
        Ok(state.file(self.node)?.content.read(buf, offset))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > FILE_LEN_MAX) {
            return Err(ErrorKind::FileTooLarge.into());
        }
        if buf.is_empty() {
            return Ok(());
        }
        self.change(FileChange::Write { offset, bytes: buf.into() })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let failure = state.next_sync_failure(false);
        let file = state.file_mut(self.node)?;
        let Some(failure) = failure else {
            file.sync();
            return Ok(());
        };
        match failure {
            SyncFailure::PagesClean => {
                file.pending.clear();
                file.diverged = true;
            }
            SyncFailure::CacheReverts => {
                file.pending.clear();
                file.content = file.durable.clone();
                file.diverged = false;
            }
            SyncFailure::Sticky => {}
        }
        Err(sync_failed())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > FILE_LEN_MAX {
            return Err(ErrorKind::FileTooLarge.into());
        }
        self.change(FileChange::SetLen(len))
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.state.lock();
        Ok(state.file(self.node)?.content.len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len > FILE_LEN_MAX {
            return Err(ErrorKind::FileTooLarge.into());
        }
        Ok(())
    }

    fn map(&self, len: u64) -> io::Result<Box<dyn Mapping>> {
        if !self.writable {
            return Err(ErrorKind::PermissionDenied.into());
        }
        if len == 0 || len > FILE_LEN_MAX {
            return Err(ErrorKind::InvalidInput.into());
        }
        let file = MemFile { state: self.state.clone(), node: self.node, writable: true, _token: self._token.clone() };
        Ok(Box::new(MemMapping { file, len }))
    }
}

struct MemMapping {
    file: MemFile,
    len: u64,
}

impl Mapping for MemMapping {
    fn len(&self) -> u64 {
        self.len
    }

    fn store(&mut self, offset: u64, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> io::Result<()> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.len) {
            return Err(ErrorKind::InvalidInput.into());
        }
        let mut bytes = vec![0; len];
        if self.file.read_at(&mut bytes, offset)? < len {
            return Err(io::Error::other("a store behind the end of the file: the process would be dead"));
        }
        fill(&mut bytes);
        let first = checksum::place_salt(self.len.into(), offset, len as u64) as usize % len.max(1);
        self.file.write_all_at(&bytes[..first], offset)?;
        self.file.write_all_at(&bytes[first..], offset + first as u64)
    }
}

struct MemLock {
    state: Arc<Mutex<State>>,
    node: NodeId,
    signed: AtomicBool,
    _token: Arc<()>,
}

impl FileLock for MemLock {
    fn sign(&self) {
        let text = format!("{:<15}\n", std::process::id());
        let change = FileChange::Write { offset: 0, bytes: text.into_bytes().into() };
        let _ = self.state.lock().change_file(self.node, change);
        self.signed.store(true, Ordering::Release);
    }
}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.locked.remove(&self.node);
        if self.signed.load(Ordering::Acquire) {
            let _ = state.change_file(self.node, FileChange::SetLen(0));
        }
    }
}

/// A file or directory, whatever its names.
type NodeId = u64;

const ROOT: NodeId = 1;

/// Offsets beyond this are refused: the table of pages is dense.
const FILE_LEN_MAX: u64 = 64 << 30;

/// How many deleted files are remembered for what a crash may put into a gap.
const DELETED_KEPT: usize = 4;

struct State {
    nodes: BTreeMap<NodeId, Node>,
    next_node: NodeId,
    /// Numbers pending changes over all files and directories.
    next_order: u64,
    locked: BTreeSet<NodeId>,
    sync_failure: Option<PlannedFailure>,
    /// What files held that are gone for good: the blocks are free, the bytes are still there.
    deleted: VecDeque<Pages>,
}

struct PlannedFailure {
    skip: u64,
    failure: SyncFailure,
    /// True if syncs of directories count and fail as well.
    directories: bool,
}

fn sync_failed() -> io::Error {
    io::Error::other("the sync failed, as the test asked for")
}

enum Node {
    File(FileNode),
    Dir(Directory),
}

#[derive(Clone, Default)]
struct FileNode {
    content: Pages,
    durable: Pages,
    pending: Vec<(u64, FileChange)>,
    /// True after a failed sync: `durable` plus `pending` is no longer `content`.
    diverged: bool,
    token: Arc<()>,
}

#[derive(Clone, Default)]
struct Directory {
    entries: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
    pending: Vec<(u64, NameChange)>,
    /// True after a failed sync: `durable` plus `pending` is no longer `entries`.
    diverged: bool,
}

#[derive(Clone)]
enum FileChange {
    Write { offset: u64, bytes: Arc<[u8]> },
    SetLen(u64),
}

#[derive(Clone)]
enum NameChange {
    Add { name: String, node: NodeId },
    Remove { name: String, node: NodeId },
    Rename { from: String, to: String, node: NodeId },
}

impl State {
    fn add_node(&mut self, node: Node) -> NodeId {
        let id = self.next_node;
        self.next_node += 1;
        self.nodes.insert(id, node);
        id
    }

    fn create_file(&mut self, dir: NodeId, name: &str) -> io::Result<(NodeId, Arc<()>)> {
        if self.dir(dir)?.entries.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let file = FileNode::default();
        let token = file.token.clone();
        let node = self.add_node(Node::File(file));
        self.change_names(dir, NameChange::Add { name: name.to_string(), node })?;
        Ok((node, token))
    }

    fn resolve(&self, path: &Path) -> io::Result<NodeId> {
        parts(path)?.into_iter().try_fold(ROOT, |at, name| self.entry(at, name))
    }

    fn resolve_parent<'a>(&self, path: &'a Path) -> io::Result<(NodeId, &'a str)> {
        let mut names = parts(path)?;
        let Some(last) = names.pop() else { return Err(ErrorKind::InvalidInput.into()) };
        let dir = names.into_iter().try_fold(ROOT, |at, name| self.entry(at, name))?;
        self.dir(dir)?;
        Ok((dir, last))
    }

    fn entry(&self, dir: NodeId, name: &str) -> io::Result<NodeId> {
        self.dir(dir)?.entries.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn file(&self, id: NodeId) -> io::Result<&FileNode> {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn file_mut(&mut self, id: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn dir(&self, id: NodeId) -> io::Result<&Directory> {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn dir_mut(&mut self, id: NodeId) -> io::Result<&mut Directory> {
        match self.nodes.get_mut(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn change_file(&mut self, id: NodeId, change: FileChange) -> io::Result<()> {
        let order = self.next_order;
        self.next_order += 1;
        let file = self.file_mut(id)?;
        change.apply(&mut file.content);
        file.pending.push((order, change));
        Ok(())
    }

    fn change_names(&mut self, id: NodeId, change: NameChange) -> io::Result<()> {
        let order = self.next_order;
        self.next_order += 1;
        let dir = self.dir_mut(id)?;
        change.apply(&mut dir.entries);
        dir.pending.push((order, change));
        Ok(())
    }

    fn next_sync_failure(&mut self, directory: bool) -> Option<SyncFailure> {
        let planned = self.sync_failure.as_mut().filter(|p| p.directories || !directory)?;
        if planned.skip > 0 {
            planned.skip -= 1;
            return None;
        }
        let failure = planned.failure;
        if failure != SyncFailure::Sticky {
            self.sync_failure = None;
        }
        Some(failure)
    }

    fn hash_names(&self, id: NodeId, except: &str, hasher: &mut checksum::FileHasher) {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => {
                for (name, child) in dir.entries.iter().filter(|(name, _)| *name != except) {
                    hasher.update(&(name.len() as u64).to_le_bytes());
                    hasher.update(name.as_bytes());
                    self.hash_names(*child, except, hasher);
                }
                hasher.update(&u64::MAX.to_le_bytes());
            }
            Some(Node::File(file)) => {
                hasher.update(&file.content.len.to_le_bytes());
                file.content.hash(hasher);
            }
            None => {}
        }
    }

    /// Forgets nodes that no name leads to, now or after any crash, and that nobody has open.
    fn collect_garbage(&mut self) {
        let mut named = BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            let Node::Dir(dir) = node else { continue };
            named.extend(dir.entries.values().chain(dir.durable.values()).copied());
            named.extend(dir.pending.iter().map(|(_, change)| change.node()));
        }
        let deleted = &mut self.deleted;
        self.nodes.retain(|id, node| match node {
            Node::File(file) if !named.contains(id) && Arc::strong_count(&file.token) == 1 => {
                if file.content.len > 0 {
                    deleted.push_back(std::mem::take(&mut file.content));
                    if deleted.len() > DELETED_KEPT {
                        deleted.pop_front();
                    }
                }
                false
            }
            Node::File(_) => true,
            Node::Dir(_) => named.contains(id),
        });
    }
}

impl Node {
    /// A copy that no open file keeps alive.
    fn detached(&self) -> Node {
        match self {
            Node::File(file) => Node::File(FileNode { token: Arc::default(), ..file.clone() }),
            Node::Dir(dir) => Node::Dir(dir.clone()),
        }
    }
}

impl FileNode {
    fn sync(&mut self) {
        if self.diverged {
            for (_, change) in &self.pending {
                change.apply(&mut self.durable);
            }
        } else {
            self.durable = self.content.clone();
        }
        self.pending.clear();
    }
}

impl Directory {
    fn sync(&mut self) {
        if self.diverged {
            for (_, change) in &self.pending {
                change.apply(&mut self.durable);
            }
        } else {
            self.durable = self.entries.clone();
        }
        self.pending.clear();
    }
}

impl FileChange {
    fn apply(&self, pages: &mut Pages) {
        match self {
            FileChange::Write { offset, bytes } => pages.write(bytes, *offset),
            FileChange::SetLen(len) => pages.set_len(*len),
        }
    }
}

impl NameChange {
    fn node(&self) -> NodeId {
        match *self {
            NameChange::Add { node, .. } | NameChange::Remove { node, .. } | NameChange::Rename { node, .. } => node,
        }
    }

    /// Works on any state of the names: after a crash an earlier change may be missing.
    fn apply(&self, names: &mut BTreeMap<String, NodeId>) {
        let remove = |names: &mut BTreeMap<String, NodeId>, name: &String, node: NodeId| {
            if names.get(name) == Some(&node) {
                names.remove(name);
            }
        };
        match self {
            NameChange::Add { name, node } => {
                names.insert(name.clone(), *node);
            }
            NameChange::Remove { name, node } => remove(names, name, *node),
            NameChange::Rename { from, to, node } => {
                remove(names, from, *node);
                names.insert(to.clone(), *node);
            }
        }
    }
}

const PAGE: usize = 4096;

/// A file's bytes. A page that is missing reads as zeros; bytes past the length are zero.
#[derive(Clone, Default)]
struct Pages {
    pages: Arc<Vec<Option<Arc<[u8; PAGE]>>>>,
    len: u64,
}

impl Pages {
    fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let total = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < total {
            let (page, within) = place(offset + done as u64);
            let n = (PAGE - within).min(total - done);
            match self.pages.get(page).and_then(Option::as_ref) {
                Some(bytes) => buf[done..done + n].copy_from_slice(&bytes[within..within + n]),
                None => buf[done..done + n].fill(0),
            }
            done += n;
        }
        total
    }

    fn write(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        let pages = Arc::make_mut(&mut self.pages);
        let needed = (end as usize).div_ceil(PAGE);
        if pages.len() < needed {
            pages.resize(needed, None);
        }
        let mut done = 0;
        while done < bytes.len() {
            let (page, within) = place(offset + done as u64);
            let n = (PAGE - within).min(bytes.len() - done);
            let page = pages[page].get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + n].copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
        self.len = self.len.max(end);
    }

    /// Page by page; a page of zeros and one that is missing are the same.
    fn hash(&self, hasher: &mut checksum::FileHasher) {
        let mut left = self.len;
        for page in 0..self.len.div_ceil(PAGE as u64) as usize {
            let n = left.min(PAGE as u64) as usize;
            match self.pages.get(page).and_then(Option::as_ref) {
                Some(bytes) => hasher.update(&bytes[..n]),
                None => hasher.update(&[0; PAGE][..n]),
            }
            left -= n as u64;
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (last, within) = place(len);
            let pages = Arc::make_mut(&mut self.pages);
            pages.truncate(if within == 0 { last } else { last + 1 });
            if within > 0
                && let Some(Some(page)) = pages.get_mut(last)
            {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.len = len;
    }
}

fn place(offset: u64) -> (usize, usize) {
    ((offset / PAGE as u64) as usize, (offset % PAGE as u64) as usize)
}

/// The names on the way from the root. Relative paths begin at the root as well.
fn parts(path: &Path) -> io::Result<Vec<&str>> {
    let mut out = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => out.push(name.to_str().ok_or(ErrorKind::InvalidInput)?),
            Component::ParentDir | Component::Prefix(_) => return Err(ErrorKind::InvalidInput.into()),
        }
    }
    Ok(out)
}

fn crash_state(state: &State, policy: CrashPolicy, random: &mut Random) -> State {
    // Drawn in this order whatever the policy, so that one seed means related crashes.
    let keep_per_mille = [100, 500, 900][random.below(3) as usize];
    let prefix_end = {
        let mut orders: Vec<u64> = Vec::new();
        for node in state.nodes.values() {
            match node {
                Node::File(file) => orders.extend(file.pending.iter().map(|(order, _)| order)),
                Node::Dir(dir) => orders.extend(dir.pending.iter().map(|(order, _)| order)),
            }
        }
        orders.sort_unstable();
        let n = random.below(orders.len() as u64 + 1) as usize;
        orders.get(n).copied().unwrap_or(u64::MAX)
    };
    let keep_content = random.chance(500);
    let mut nodes = BTreeMap::new();
    for (&id, node) in &state.nodes {
        let survivor = match node {
            Node::Dir(dir) => {
                let keep = |order: u64, random: &mut Random| match policy {
                    CrashPolicy::Durable => false,
                    CrashPolicy::Everything | CrashPolicy::NamesOnly => true,
                    CrashPolicy::Prefix => order < prefix_end,
                    _ => random.chance(keep_per_mille),
                };
                let mut kept: Vec<&NameChange> = Vec::new();
                for (order, change) in &dir.pending {
                    if keep(*order, random) {
                        kept.push(change);
                    }
                }
                let names = if policy == CrashPolicy::NamesShuffled {
                    shuffled_names(dir, kept, random)
                } else {
                    let mut names = dir.durable.clone();
                    kept.iter().for_each(|change| change.apply(&mut names));
                    names
                };
                Node::Dir(Directory { entries: names.clone(), durable: names, ..Directory::default() })
            }
            Node::File(file) => {
                let pages = match policy {
                    CrashPolicy::Durable | CrashPolicy::NamesOnly => file.durable.clone(),
                    CrashPolicy::Everything if !file.diverged => file.content.clone(),
                    CrashPolicy::NamesShuffled if !keep_content => file.durable.clone(),
                    CrashPolicy::Everything | CrashPolicy::NamesShuffled => file.after(u64::MAX),
                    CrashPolicy::Prefix => file.after(prefix_end),
                    CrashPolicy::Subset => file.after_subset(keep_per_mille, false, random).0,
                    CrashPolicy::Torn => file.after_subset(keep_per_mille, true, random).0,
                    CrashPolicy::LengthFirst => {
                        let (mut pages, written) = file.after_subset(keep_per_mille, true, random);
                        grow_without_data(state, file, &mut pages, written, random);
                        pages
                    }
                };
                Node::File(FileNode { content: pages.clone(), durable: pages, ..FileNode::default() })
            }
        };
        nodes.insert(id, survivor);
    }
    let mut after = State {
        nodes,
        next_node: state.next_node,
        next_order: state.next_order,
        locked: BTreeSet::new(),
        sync_failure: None,
        deleted: state.deleted.clone(),
    };
    after.forget_lost_names();
    after
}

impl State {
    /// Drops what cannot be reached from the root. A name may lead to a directory whose own names are
    /// all lost, never to nothing: nodes go only when no change names them any more.
    fn forget_lost_names(&mut self) {
        let mut reached = BTreeSet::new();
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            if !reached.insert(id) {
                continue;
            }
            if let Some(Node::Dir(dir)) = self.nodes.get(&id) {
                open.extend(dir.entries.values().copied());
            }
        }
        self.nodes.retain(|id, _| reached.contains(id));
    }
}

impl FileNode {
    /// The durable image with the changes numbered below `end`.
    fn after(&self, end: u64) -> Pages {
        let mut pages = self.durable.clone();
        for (_, change) in self.pending.iter().filter(|(order, _)| *order < end) {
            change.apply(&mut pages);
        }
        pages
    }

    /// The durable image with some of the changes, and which byte ranges those wrote.
    fn after_subset(&self, keep_per_mille: u64, torn: bool, random: &mut Random) -> (Pages, Vec<(u64, u64)>) {
        let mut kept: Vec<&FileChange> = Vec::new();
        for (_, change) in &self.pending {
            if random.chance(keep_per_mille) {
                kept.push(change);
            }
        }
        if random.chance(500) {
            random.shuffle(&mut kept);
        }
        let mut pages = self.durable.clone();
        let mut written = Vec::new();
        for change in kept {
            match change {
                FileChange::Write { offset, bytes } if torn && random.chance(500) => {
                    let sector_per_mille = [100, 500, 900][random.below(3) as usize];
                    for (from, to) in sectors(*offset, bytes.len() as u64) {
                        if random.chance(sector_per_mille) {
                            pages.write(&bytes[(from - offset) as usize..(to - offset) as usize], from);
                            written.push((from, to));
                        }
                    }
                }
                FileChange::Write { offset, bytes } => {
                    pages.write(bytes, *offset);
                    written.push((*offset, offset + bytes.len() as u64));
                }
                FileChange::SetLen(len) => {
                    pages.set_len(*len);
                    written.retain(|&(from, _)| from < *len);
                }
            }
        }
        (pages, written)
    }
}

/// The parts of `offset ..offset + len` that lie in one sector each.
fn sectors(offset: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = offset + len;
    (offset / SECTOR..end.div_ceil(SECTOR)).map(move |n| ((n * SECTOR).max(offset), ((n + 1) * SECTOR).min(end)))
}

/// Gives a file its length of before the crash; what was not written in between is anything.
fn grow_without_data(
    state: &State,
    file: &FileNode,
    pages: &mut Pages,
    mut written: Vec<(u64, u64)>,
    random: &mut Random,
) {
    if random.chance(500) && pages.len < file.content.len {
        pages.set_len(file.content.len);
    }
    let fill = random.below(3);
    if fill == 0 {
        return;
    }
    let living = state.nodes.values().filter_map(|node| match node {
        Node::File(other) if other.content.len > 0 => Some(&other.content),
        _ => None,
    });
    let donors: Vec<&Pages> = living.chain(&state.deleted).collect();
    let donor = if donors.is_empty() { None } else { Some(donors[random.below(donors.len() as u64) as usize]) };
    written.sort_unstable();
    let mut at = file.durable.len.min(pages.len);
    written.push((pages.len, pages.len));
    for (from, to) in written {
        let mut gap = at;
        while gap < from.min(pages.len) {
            let n = (from.min(pages.len) - gap).min(PAGE as u64) as usize;
            let mut bytes = vec![0; n];
            match donor {
                Some(donor) if fill == 1 => {
                    donor.read(&mut bytes, gap);
                }
                _ => bytes.iter_mut().for_each(|byte| *byte = random.next() as u8),
            }
            pages.write(&bytes, gap);
            gap += n as u64;
        }
        at = at.max(to);
    }
}

/// The names after these changes in any order. A file that is moved was there first, so its creation
/// does not come after its move.
fn shuffled_names(dir: &Directory, mut kept: Vec<&NameChange>, random: &mut Random) -> BTreeMap<String, NodeId> {
    random.shuffle(&mut kept);
    let mut names = dir.durable.clone();
    let mut moved = BTreeSet::new();
    for change in kept {
        match change {
            NameChange::Add { node, .. } if moved.contains(node) => continue,
            NameChange::Add { .. } => {}
            NameChange::Remove { node, .. } | NameChange::Rename { node, .. } => {
                moved.insert(*node);
            }
        }
        change.apply(&mut names);
    }
    names
}

/// A small generator (splitmix64): the same numbers on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fs::disk::tests::behaves;
    use crate::fs::read_all;

    fn content(fs: &MemFs, path: &str) -> Option<Vec<u8>> {
        fs.open(Path::new(path)).ok().map(|file| read_all(&*file, 1 << 20).unwrap())
    }

    /// A synced file `f` of `old` with `new` written over it, not synced.
    fn half_synced(old: &[u8], new: &[u8]) -> MemFs {
        let fs = MemFs::new();
        let file = fs.create_new(Path::new("f")).unwrap();
        file.write_all_at(old, 0).unwrap();
        fs.sync_all();
        file.write_all_at(new, 0).unwrap();
        fs
    }

    /// Everything that can be read, for comparing two file systems.
    fn dump(fs: &MemFs) -> Vec<(String, Option<Vec<u8>>)> {
        let names = fs.list(Path::new("")).unwrap();
        names.into_iter().map(|name| (name.clone(), content(fs, &name))).collect()
    }

    #[test]
    fn equal_images_have_equal_hashes() {
        let (a, b) = (half_synced(b"old", b"new"), half_synced(b"older", b"new"));
        assert_ne!(a.image_hash(""), b.image_hash(""), "lengths differ");
        assert_eq!(a.image_hash(""), a.crash(CrashPolicy::Everything, 0).image_hash(""));
        assert_ne!(a.image_hash(""), a.crash(CrashPolicy::Durable, 0).image_hash(""));
        assert_eq!(a.image_hash("f"), b.image_hash("f"), "that file does not count");
        let c = half_synced(b"old", b"new");
        c.rename(Path::new("f"), Path::new("g")).unwrap();
        assert_ne!(a.image_hash(""), c.image_hash(""), "names differ");
    }

    #[test]
    fn a_gap_may_show_what_a_deleted_file_held() {
        let fs = MemFs::new();
        fs.create_new(Path::new("old")).unwrap().write_all_at(&[b'D'; 5000], 0).unwrap();
        fs.sync_all();
        fs.remove_file(Path::new("old")).unwrap();
        fs.sync_dir(Path::new("")).unwrap();
        let file = fs.create_new(Path::new("new")).unwrap();
        fs.sync_dir(Path::new("")).unwrap();
        file.write_all_at(&[b'N'; 5000], 0).unwrap();
        let shows = |seed| {
            content(&fs.crash(CrashPolicy::LengthFirst, seed), "new").is_some_and(|bytes| bytes.starts_with(b"DDDD"))
        };
        assert!((0..200).any(shows));
    }

    #[test]
    fn a_failed_sync_of_a_directory_leaves_its_names_in_three_ways() {
        for failure in SyncFailure::ALL {
            let fs = MemFs::new();
            fs.create_new(Path::new("f")).unwrap();
            fs.fail_any_sync(0, failure);
            assert!(fs.sync_dir(Path::new("")).is_err());
            let visible = fs.list(Path::new("")).unwrap().len();
            assert_eq!(visible, usize::from(failure != SyncFailure::CacheReverts), "{failure:?}");
            assert_eq!(fs.sync_dir(Path::new("")).is_err(), failure == SyncFailure::Sticky);
            fs.heal();
            fs.sync_dir(Path::new("")).unwrap();
            let durable = fs.crash(CrashPolicy::Durable, 0).list(Path::new("")).unwrap().len();
            assert_eq!(durable, usize::from(failure == SyncFailure::Sticky), "{failure:?}");
        }
    }

    #[test]
    fn memory_behaves() {
        behaves(&MemFs::new(), Path::new("/db"));
    }

    #[test]
    fn bytes_need_a_sync_and_names_a_sync_of_the_directory() {
        let fs = MemFs::new();
        fs.create_dir_all(Path::new("/db")).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        let file = fs.create_new(Path::new("/db/f")).unwrap();
        file.write_all_at(b"one", 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(content(&fs.crash(CrashPolicy::Durable, 1), "/db/f"), None, "the name is not durable");
        fs.sync_dir(Path::new("/db")).unwrap();
        file.write_all_at(b"two", 0).unwrap();
        assert_eq!(content(&fs.crash(CrashPolicy::Durable, 1), "/db/f").unwrap(), b"one");
        assert_eq!(content(&fs.crash(CrashPolicy::Everything, 1), "/db/f").unwrap(), b"two");
        fs.rename(Path::new("/db/f"), Path::new("/db/g")).unwrap();
        let after = fs.crash(CrashPolicy::Durable, 1);
        assert_eq!((content(&after, "/db/f").unwrap(), content(&after, "/db/g")), (b"one".to_vec(), None));
        let after = fs.crash(CrashPolicy::NamesOnly, 1);
        assert_eq!((content(&after, "/db/f"), content(&after, "/db/g").unwrap()), (None, b"one".to_vec()));
        fs.remove_file(Path::new("/db/g")).unwrap();
        assert_eq!(content(&fs.crash(CrashPolicy::Durable, 1), "/db/f").unwrap(), b"one", "the removal is not durable");
        fs.sync_dir(Path::new("/db")).unwrap();
        assert_eq!(content(&fs.crash(CrashPolicy::Everything, 1), "/db/f"), None);
    }

    #[test]
    fn a_new_name_may_be_durable_before_its_content() {
        let fs = MemFs::new();
        fs.create_new(Path::new("new")).unwrap().write_all_at(b"text", 0).unwrap();
        assert_eq!(content(&fs.crash(CrashPolicy::NamesOnly, 0), "new").unwrap(), b"");
    }

    #[test]
    fn a_prefix_keeps_the_order_over_files() {
        let fs = MemFs::new();
        let (a, b) = (fs.create_new(Path::new("a")).unwrap(), fs.create_new(Path::new("b")).unwrap());
        fs.sync_all();
        for n in 1..=20u8 {
            a.write_all_at(&[n], 0).unwrap();
            b.write_all_at(&[n], 0).unwrap();
        }
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let after = fs.crash(CrashPolicy::Prefix, seed);
            let last = |name| content(&after, name).unwrap().first().copied().unwrap_or(0);
            let (a, b) = (last("a"), last("b"));
            assert!(a == b || a == b + 1, "a wrote {a} and b {b}");
            seen.insert((a, b));
        }
        assert!(seen.len() > 20, "prefixes of many lengths: {}", seen.len());
    }

    #[test]
    fn a_subset_may_lose_the_first_and_keep_the_second() {
        let fs = MemFs::new();
        let file = fs.create_new(Path::new("f")).unwrap();
        fs.sync_all();
        file.write_all_at(b"a", 0).unwrap();
        file.write_all_at(b"b", 1).unwrap();
        let seen: BTreeSet<Vec<u8>> =
            (0..100).map(|seed| content(&fs.crash(CrashPolicy::Subset, seed), "f").unwrap()).collect();
        let all: [&[u8]; 4] = [b"", b"\0b", b"a", b"ab"];
        assert_eq!(seen.iter().map(Vec::as_slice).collect::<Vec<_>>(), all);
    }

    #[test]
    fn torn_writes_break_at_sectors() {
        let fs = half_synced(&[1; 4096], &[2; 4096]);
        let mut mixed = 0;
        for seed in 0..100 {
            let bytes = content(&fs.crash(CrashPolicy::Torn, seed), "f").unwrap();
            for sector in bytes.chunks(SECTOR as usize) {
                assert!(sector.iter().all(|&b| b == sector[0]), "a sector is whole");
            }
            mixed += usize::from(bytes.contains(&1) && bytes.contains(&2));
        }
        assert!(mixed > 10, "{mixed}");
        assert_eq!(sectors(500, 600).collect::<Vec<_>>(), [(500, 512), (512, 1024), (1024, 1100)]);
    }

    #[test]
    fn the_length_may_come_before_the_data() {
        let fs = half_synced(&[1; 100], &[2; 5000]);
        let (mut zeros, mut noise) = (false, false);
        for seed in 0..200 {
            let bytes = content(&fs.crash(CrashPolicy::LengthFirst, seed), "f").unwrap();
            assert!(bytes.len() >= 100 && bytes[..100].iter().all(|b| [1, 2].contains(b)));
            let gap = &bytes[100..];
            zeros |= gap.len() == 4900 && gap.iter().all(|&b| b == 0);
            noise |= gap.len() == 4900 && gap.iter().any(|&b| b > 2);
        }
        assert!(zeros && noise);
    }

    #[test]
    fn names_come_in_any_order() {
        let fs = MemFs::new();
        for name in ["a", "b", "tmp"] {
            fs.create_new(Path::new(name)).unwrap();
        }
        fs.sync_all();
        fs.remove_file(Path::new("a")).unwrap();
        fs.rename(Path::new("tmp"), Path::new("b")).unwrap();
        let seen: BTreeSet<Vec<String>> =
            (0..200).map(|seed| fs.crash(CrashPolicy::NamesShuffled, seed).list(Path::new("")).unwrap()).collect();
        assert_eq!(seen.len(), 4, "{seen:?}");
    }

    #[test]
    fn a_crash_is_a_function_of_its_seed_and_leaves_the_original_alone() {
        let fs = half_synced(&[1; 3000], &[2; 9000]);
        fs.create_new(Path::new("g")).unwrap().write_all_at(&[3; 2000], 100).unwrap();
        fs.rename(Path::new("g"), Path::new("h")).unwrap();
        let before = dump(&fs);
        for policy in CrashPolicy::ALL {
            for seed in 0..20 {
                let after = fs.crash(policy, seed);
                assert_eq!(dump(&after), dump(&fs.crash(policy, seed)));
                assert_eq!(dump(&after), dump(&after.crash(CrashPolicy::Durable, 0)), "all of it is durable");
                assert_eq!(after.pending(), 0);
            }
        }
        assert_eq!(dump(&fs), before);
    }

    #[test]
    fn copies_are_independent_and_unlocked() {
        let fs = half_synced(b"old", b"new");
        let _lock = fs.lock(Path::new("LOCK")).unwrap().ok().unwrap();
        let copy = fs.deep_clone();
        assert!(copy.lock(Path::new("LOCK")).unwrap().is_ok());
        assert!(fs.lock(Path::new("LOCK")).unwrap().is_err());
        assert!(fs.crash(CrashPolicy::Everything, 0).lock(Path::new("LOCK")).unwrap().is_ok());
        copy.remove_file(Path::new("f")).unwrap();
        assert_eq!(content(&fs, "f").unwrap(), b"new");
        assert_eq!(content(&fs.deep_clone().crash(CrashPolicy::Durable, 0), "f").unwrap(), b"old");
    }

    #[test]
    fn failed_syncs_lie_in_three_ways() {
        for failure in [SyncFailure::PagesClean, SyncFailure::CacheReverts, SyncFailure::Sticky] {
            let fs = MemFs::new();
            let file = fs.create_new(Path::new("f")).unwrap();
            fs.sync_all();
            file.write_all_at(b"a", 0).unwrap();
            fs.fail_sync(0, failure);
            assert!(file.sync_data().is_err());
            file.write_all_at(b"b", 1).unwrap();
            assert_eq!(file.sync_data().is_err(), failure == SyncFailure::Sticky);
            let cached = if failure == SyncFailure::CacheReverts { b"\0b" } else { b"ab" };
            assert_eq!(content(&fs, "f").unwrap(), cached);
            let durable: &[u8] = if failure == SyncFailure::Sticky { b"" } else { b"\0b" };
            assert_eq!(content(&fs.crash(CrashPolicy::Durable, 0), "f").unwrap(), durable, "{failure:?}");
        }
    }

    #[test]
    fn removed_files_are_forgotten() {
        let fs = MemFs::new();
        let file = fs.create_new(Path::new("f")).unwrap();
        fs.sync_dir(Path::new("")).unwrap();
        fs.remove_file(Path::new("f")).unwrap();
        fs.sync_dir(Path::new("")).unwrap();
        assert_eq!(fs.0.lock().nodes.len(), 2, "still open");
        drop(file);
        fs.sync_dir(Path::new("")).unwrap();
        assert_eq!(fs.0.lock().nodes.len(), 1);
    }
}
