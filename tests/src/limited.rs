//! A process that meets a limit of the system: the child of `limits` (T17).
//!
//! Its story, for every limit alike: it fills a database, the limit comes down on it (somebody else
//! fills the disk, the inodes go, or the process may have fewer descriptors), and it goes on writing.
//! Calls fail then, but only as they may; what failed for want of space is certainly absent (G4);
//! reads go on; deletes and compaction go on where the reserve is made for that (G12). It closes and
//! opens, or dies and is started again, under the limit. Then the limit is lifted, and writes work
//! again without an open (G12, G13). No call takes longer than the watchdog allows (G14).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lignite::internals::fs::disk::DiskFs;
use lignite::{CfOptions, ColumnFamily, Compression, Db, Durability, ErrorKind, Options};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::checks;
use crate::rng::Rng;
use crate::sim::LOG_MODES;
use crate::watchdog::guard;

/// What runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of the disk: another file takes them.
    Bytes,
    /// Bytes of the disk: the database takes them all by itself, and must get out of it by itself.
    OwnBytes,
    /// Inodes: other files take them.
    Inodes,
    /// The size that a file may have (`RLIMIT_FSIZE`).
    FileSize,
    /// Descriptors (`RLIMIT_NOFILE`).
    Descriptors,
    /// Address space (`RLIMIT_AS`), generously: everything works in it.
    AddressSpace,
    /// Bytes of the disk, before there is a database.
    Creation,
}

impl Limit {
    /// All of them.
    pub const ALL: [Limit; 7] = [
        Limit::Bytes,
        Limit::OwnBytes,
        Limit::Inodes,
        Limit::FileSize,
        Limit::Descriptors,
        Limit::AddressSpace,
        Limit::Creation,
    ];

    /// True if it wants a small disk of its own.
    pub fn is_of_a_disk(self) -> bool {
        matches!(self, Limit::Bytes | Limit::OwnBytes | Limit::Inodes | Limit::Creation)
    }
}

/// What happens while the limit is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing but writes and reads.
    Stay,
    /// The database is closed and opened.
    Reopen,
    /// The process dies, and another one opens.
    Die,
}

type Model = [BTreeMap<Vec<u8>, Vec<u8>>; 2];
type Outcome = Result<(), String>;

/// `child-limits LIMIT TURN SEED DISK MODEL [resumed]`: the limit and the turn by number, the disk as
/// a directory; what is expected is kept in the file MODEL when the process dies on purpose.
pub fn main(args: &[&str]) -> ExitCode {
    let [limit, turn, seed, disk, model, ref resumed @ ..] = args[..] else { return ExitCode::from(2) };
    let number = |s: &str| s.parse::<u64>().expect("a parent counts well");
    let limit = Limit::ALL[number(limit) as usize];
    let turn = [Turn::Stay, Turn::Reopen, Turn::Die][number(turn) as usize];
    let seed = number(seed);
    let mut story = Story {
        limit,
        seed,
        rng: Rng::new(seed ^ resumed.len() as u64),
        disk: PathBuf::from(disk),
        model_file: PathBuf::from(model),
        model: Model::default(),
        refused: 0,
        written: 0,
    };
    let outcome = if resumed.is_empty() { story.run(turn) } else { story.resume() };
    match outcome {
        Ok(()) => {
            println!("done {} {}", story.refused, story.written);
            ExitCode::SUCCESS
        }
        Err(words) => {
            println!("w {}", words.replace('\n', " | "));
            ExitCode::from(3)
        }
    }
}

struct Story {
    limit: Limit,
    seed: u64,
    rng: Rng,
    disk: PathBuf,
    model_file: PathBuf,
    model: Model,
    /// Calls that failed as they may.
    refused: u64,
    written: u64,
}

struct Open {
    db: Db,
    families: [ColumnFamily; 2],
}

impl Story {
    fn run(&mut self, turn: Turn) -> Outcome {
        if self.limit == Limit::AddressSpace {
            self.impose()?;
        }
        if self.limit == Limit::Creation {
            return self.creation();
        }
        let open = self.open()?;
        for _ in 0..self.rng.within(300, 900) {
            self.eventually_put(&open)?;
        }
        guard("flush", || open.db.flush()).map_err(|e| format!("flush before the limit: {e:?}"))?;
        // A job that met the full disk while it is being filled would give the reserve to the ballast.
        guard("wait", || open.db.wait_for_idle()).map_err(|e| format!("before the limit: {e:?}"))?;
        self.impose()?;
        self.push(&open)?;
        self.read(&open)?;
        self.make_room(&open)?;
        self.read(&open)?;
        // Whatever that has freed, the others take it.
        self.impose()?;
        let open = match turn {
            Turn::Stay => open,
            Turn::Reopen => {
                let closed = guard("close", || open.db.close());
                self.may_fail("close", closed)?;
                drop(open.families);
                let open = self.open_limited()?;
                self.read(&open)?;
                open
            }
            Turn::Die => {
                // A test must be able to write down what it expects.
                set_soft(Resource::Fsize, None);
                set_soft(Resource::Nofile, None);
                self.keep().map_err(|e| format!("keep the model: {e}"))?;
                println!("dies");
                let _ = std::io::stdout().flush();
                std::process::abort();
            }
        };
        self.push(&open)?;
        self.end(open)
    }

    /// Goes on where a process before this one has died.
    fn resume(&mut self) -> Outcome {
        self.load().map_err(|e| format!("load the model: {e}"))?;
        let open = self.open_limited()?;
        self.read(&open)?;
        // The limits of a process have died with it.
        self.impose()?;
        self.push(&open)?;
        self.end(open)
    }

    fn options(&self) -> Options {
        let mut rng = Rng::new(self.seed ^ 0x11);
        Options::new()
            .background_threads(rng.pick(&[1, 2]))
            .decode_threads(0)
            .sync_interval(Duration::from_millis(20))
            .stall_timeout(Duration::from_millis(500))
            .memory_budget(4 << 20)
            .memtable_size(rng.pick(&[32 << 10, 64 << 10]))
            .log_segment_size(rng.pick(&[32 << 10, 128 << 10]))
            .log_size_max(256 << 10)
            .reserve_size(4 << 20)
            .open_tables_max(16)
            .log_mode(rng.pick(&LOG_MODES))
    }

    fn try_open(&self) -> lignite::Result<Open> {
        let options = CfOptions::new()
            .compression(Compression::none())
            .table_size(16 << 10)
            .base_level_size(64 << 10)
            .level0_trigger(2)
            .fan_out(4);
        let db = guard("open", || {
            lignite::Builder::new(self.options())
                .column_family("default", options.clone())
                .column_family("second", options)
                .open(self.disk.join("db"))
        })?;
        let families = [db.default_family(), db.column_family("second")?];
        Ok(Open { db, families })
    }

    /// An open that must work, under a limit too (G12).
    fn open(&self) -> Result<Open, String> {
        self.try_open().map_err(|e| format!("the open failed: {e:?}"))
    }

    /// An open under the limit.
    fn open_limited(&mut self) -> Result<Open, String> {
        // What had been given back before the last process ended, the others have taken.
        let reserve = self.disk.join("db/RESERVE").exists();
        match self.try_open() {
            // What the reserve gives back is one inode, and few descriptors make few files. A
            // recovery may need more; it fails then, as it does without a reserve, and nothing is
            // lost.
            Err(e)
                if (matches!(self.limit, Limit::Inodes | Limit::Descriptors) || !reserve)
                    && self.is_of_the_limit(&e) =>
            {
                self.refused += 1;
                self.lift()?;
                self.open()
            }
            outcome => outcome.map_err(|e| format!("the open under the limit failed: {e:?}")),
        }
    }

    /// One batch; true if it was done.
    fn put(&mut self, open: &Open) -> Result<bool, String> {
        let n = self.rng.within(1, 3);
        let mut batch = open.db.batch();
        let mut changes = Vec::new();
        for _ in 0..n {
            let family = self.rng.below(2) as usize;
            // Few keys where another file fills the disk, many where the database has to.
            let (keys, words) = if self.limit == Limit::OwnBytes { (60_000, 600) } else { (1200, 180) };
            let key = format!("key{:05}", self.rng.below(keys)).into_bytes();
            let value: Vec<u8> =
                (0..self.rng.within(6, words)).flat_map(|_| self.rng.next_u64().to_le_bytes()).collect();
            batch.put(&open.families[family], &key, &value);
            changes.push((family, key, value));
        }
        let durability = if self.rng.chance(20) { Durability::Sync } else { Durability::Buffered };
        match guard("write", || open.db.write_with(batch, durability)) {
            Ok(_) => {
                for (family, key, value) in changes {
                    self.model[family].insert(key, value);
                }
                self.written += 1;
                Ok(true)
            }
            Err(e) if self.is_of_the_limit(&e) => {
                self.refused += 1;
                self.absent_or_whole(open, &e, changes)?;
                Ok(false)
            }
            Err(e) => Err(format!("write {} failed: {e:?}", self.written)),
        }
    }

    /// What failed for want of space is not there; what failed for another reason is there wholly or
    /// not at all (G4).
    fn absent_or_whole(
        &mut self,
        open: &Open,
        error: &lignite::Error,
        changes: Vec<(usize, Vec<u8>, Vec<u8>)>,
    ) -> Outcome {
        let may_be_there = !matches!(error.kind(), ErrorKind::NoSpace | ErrorKind::Stalled);
        let mut after = self.model.clone();
        for (family, key, value) in &changes {
            after[*family].insert(key.clone(), value.clone());
        }
        let mut there = true;
        let mut absent = true;
        for (family, key, _) in &changes {
            let found = match guard("get", || open.families[*family].get(key)) {
                Ok(found) => found.map(|v| v.to_vec()),
                // Without descriptors nobody can look; then it is not known.
                Err(e) if self.limit == Limit::Descriptors && is_out_of_descriptors(&e) => return Ok(()),
                Err(e) => return Err(format!("get after a failed write: {e:?}")),
            };
            there &= found.as_ref() == after[*family].get(key);
            absent &= found.as_ref() == self.model[*family].get(key);
        }
        match (absent, there && may_be_there) {
            (true, _) => Ok(()),
            (false, true) => {
                self.model = after;
                Ok(())
            }
            (false, false) => Err(format!("a write that failed with {error:?} has left something")),
        }
    }

    fn is_of_the_limit(&self, error: &lignite::Error) -> bool {
        match self.limit {
            Limit::Descriptors => is_out_of_descriptors(error) || error.kind() == ErrorKind::Stalled,
            // Background work may be slow at any time.
            Limit::AddressSpace => error.kind() == ErrorKind::Stalled,
            _ => matches!(error.kind(), ErrorKind::NoSpace | ErrorKind::Stalled),
        }
    }

    fn may_fail(&mut self, what: &str, outcome: lignite::Result<()>) -> Outcome {
        match outcome {
            Ok(()) => Ok(()),
            Err(e) if self.is_of_the_limit(&e) => {
                self.refused += 1;
                Ok(())
            }
            Err(e) => Err(format!("{what}: {e:?}")),
        }
    }

    /// Writes against the limit until it has been met a few times.
    fn push(&mut self, open: &Open) -> Outcome {
        let before = self.refused;
        // What fits into the log's allocated rest is written still.
        for _ in 0..if self.limit == Limit::OwnBytes { 20_000 } else { 2000 } {
            self.put(open)?;
            if self.refused >= before + 3 {
                break;
            }
        }
        let flushed = guard("flush", || open.db.flush());
        self.may_fail("flush", flushed)?;
        let met = self.refused > before;
        match self.limit {
            Limit::Bytes | Limit::OwnBytes if !met => Err("the disk was never full".to_string()),
            // Where files cannot grow, the log goes on in the next one; where none can be made, it goes
            // on in the last one. Both end when nothing can be flushed.
            _ => Ok(()),
        }
    }

    /// Reads go on (G12): everything is there, by key and by scan, and in a snapshot.
    fn read(&mut self, open: &Open) -> Outcome {
        let snapshot = open.db.snapshot();
        for (family, expected) in open.families.iter().zip(&self.model) {
            let scan = || {
                let mut found = BTreeMap::new();
                for entry in lignite::Reader::iter(&snapshot, family) {
                    let entry = entry?;
                    found.insert(entry.key().to_vec(), entry.value()?.to_vec());
                }
                Ok::<_, lignite::Error>(found)
            };
            match guard("scan", scan) {
                Ok(found) if found == *expected => {}
                Ok(found) => {
                    let missing = expected.keys().find(|k| found.get(*k) != expected.get(*k));
                    let more = found.keys().find(|k| !expected.contains_key(*k));
                    return Err(format!(
                        "a scan found {} records of {}; first missing or different: {:?}, first too many: {:?}",
                        found.len(),
                        expected.len(),
                        missing.map(|k| k.escape_ascii().to_string()),
                        more.map(|k| k.escape_ascii().to_string())
                    ));
                }
                Err(e) if self.limit == Limit::Descriptors && is_out_of_descriptors(&e) => {}
                Err(e) => return Err(format!("a scan failed: {e:?}")),
            }
            for (key, value) in expected.iter().step_by(17) {
                match guard("get", || family.get(key)) {
                    Ok(Some(found)) if found == value[..] => {}
                    Err(e) if self.limit == Limit::Descriptors && is_out_of_descriptors(&e) => {}
                    other => return Err(format!("get {}: {other:?}", key.escape_ascii())),
                }
            }
        }
        Ok(())
    }

    /// Deletes half, and compacts: on a full disk the reserve is there for that. Not every attempt must
    /// succeed, since two jobs may live on the reserve at once, and ext4 gives the space of a removed
    /// file back a moment later; but they must go on, soon.
    fn make_room(&mut self, open: &Open) -> Outcome {
        let half = if self.limit == Limit::OwnBytes { "key55000" } else { "key00600" };
        let (start, end) = (b"key00100".to_vec(), half.as_bytes().to_vec());
        for (n, family) in open.families.iter().enumerate() {
            if self.goes_on(open, "a delete", || family.delete_range(start.clone()..end.clone()).map(drop))? {
                self.model[n].retain(|k, _| *k < start || *k >= end);
            }
        }
        self.goes_on(open, "a compaction", || open.db.compact())?;
        if self.limit == Limit::OwnBytes {
            // It has got out of it by itself.
            self.eventually_put(open)?;
        }
        Ok(())
    }

    /// Does what the reserve is there for, until it works; says if it did, where it need not.
    fn goes_on(
        &mut self,
        open: &Open,
        what: &'static str,
        body: impl Fn() -> lignite::Result<()>,
    ) -> Result<bool, String> {
        let must = matches!(self.limit, Limit::Bytes | Limit::OwnBytes | Limit::AddressSpace);
        let begun = Instant::now();
        loop {
            match guard(what, &body) {
                Ok(()) => return Ok(true),
                Err(e) if !self.is_of_the_limit(&e) => return Err(format!("{what} failed: {e:?}")),
                Err(_) if !must => {
                    self.refused += 1;
                    return Ok(false);
                }
                Err(e) if begun.elapsed() > Duration::from_secs(10) => {
                    return Err(format!("{what} does not work on a full disk: {e:?}; {}", self.inventory(open)));
                }
                Err(_) => self.refused += 1,
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Who has the space, for a story that went wrong.
    fn inventory(&self, open: &Open) -> String {
        use std::os::unix::fs::MetadataExt as _;
        let mut sizes: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for entry in std::fs::read_dir(self.disk.join("db")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = name.rsplit_once('.').map_or(name.clone(), |(_, end)| end.to_string());
            let size = sizes.entry(kind).or_default();
            *size = (size.0 + 1, size.1 + entry.metadata().map_or(0, |m| m.blocks() * 512));
        }
        format!("files and bytes {sizes:?}, {:?}, {:?}", open.db.health(), open.db.stats().log)
    }

    /// Writes work again, without an open, and all is there in the end.
    fn end(&mut self, open: Open) -> Outcome {
        self.lift()?;
        if self.limit == Limit::OwnBytes {
            self.make_room(&open)?;
        }
        self.eventually_put(&open)?;
        for _ in 0..200 {
            self.eventually_put(&open)?;
        }
        let good = |what: &str, outcome: lignite::Result<()>| outcome.map_err(|e| format!("{what} at the end: {e:?}"));
        good("flush", guard("flush", || open.db.flush()))?;
        good("compact", guard("compact", || open.db.compact()))?;
        good("idle", guard("wait", || open.db.wait_for_idle()))?;
        self.read(&open)?;
        let health = open.db.health();
        if health.poisoned.is_some() || health.stalled || health.background_error.is_some() {
            return Err(format!("in the end the health is {health:?}"));
        }
        checks::database(&open.db, &DiskFs::new())?;
        checks::no_orphans(&open.db, &DiskFs::new())?;
        good("close", guard("close", || open.db.close()))?;
        drop(open.families);
        let open = self.open()?;
        self.read(&open)?;
        if !open.db.stats().recovered.clean {
            return Err("it was closed, and the open does not think so".to_string());
        }
        good("close", guard("close", || open.db.close()))
    }

    /// A write that works, at once or after a while: what has failed in the background is tried again
    /// with a growing pause.
    fn eventually_put(&mut self, open: &Open) -> Outcome {
        let begun = Instant::now();
        while !self.put(open)? {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err(format!("writes do not work again: {:?}", open.db.health()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// A database is to be made on a full disk: that fails, and works once there is room.
    fn creation(&mut self) -> Outcome {
        self.impose()?;
        match self.try_open() {
            // An empty database may have fitted in.
            Ok(open) => {
                for _ in 0..10 {
                    self.put(&open)?;
                }
                let closed = guard("close", || open.db.close());
                self.may_fail("close", closed)?;
            }
            Err(e) if e.kind() == ErrorKind::NoSpace => self.refused += 1,
            Err(e) => return Err(format!("making a database on a full disk: {e:?}")),
        }
        self.lift()?;
        let open = self.open()?;
        self.read(&open)?;
        for _ in 0..300 {
            self.eventually_put(&open)?;
        }
        self.end(open)
    }

    /// The limit comes down.
    fn impose(&mut self) -> Outcome {
        let text = |e: std::io::Error| format!("the limit cannot be made: {e}");
        match self.limit {
            Limit::Bytes | Limit::Creation => {
                let rest = self.rng.pick(&[0, 0, 4 << 10, 40 << 10]);
                fill(&self.disk.join("ballast"), rest).map_err(text)
            }
            Limit::OwnBytes => Ok(()),
            Limit::Inodes => {
                let mut n = 0;
                while File::create(self.disk.join(format!("inode-{}-{n}", self.rng.next_u64()))).is_ok() {
                    n += 1;
                }
                // Some are left over, sometimes.
                let names = inode_files(&self.disk);
                names.iter().take(self.rng.below(3) as usize).for_each(|p| drop(std::fs::remove_file(p)));
                Ok(())
            }
            Limit::FileSize => {
                let size = self.rng.pick(&[20 << 10, 48 << 10, 150 << 10]);
                set_soft(Resource::Fsize, Some(size));
                Ok(())
            }
            Limit::Descriptors => {
                set_soft(Resource::Nofile, None);
                let open = std::fs::read_dir("/proc/self/fd").map_err(text)?.count() as u64;
                set_soft(Resource::Nofile, Some(open + self.rng.below(4)));
                Ok(())
            }
            Limit::AddressSpace => {
                set_soft(Resource::As, Some(1 << 30));
                Ok(())
            }
        }
    }

    /// The limit goes.
    fn lift(&mut self) -> Outcome {
        match self.limit {
            Limit::Bytes | Limit::Creation => {
                let removed = std::fs::remove_file(self.disk.join("ballast"));
                if let Some(e) = removed.err().filter(|e| e.kind() != std::io::ErrorKind::NotFound) {
                    return Err(format!("the ballast: {e}"));
                }
            }
            Limit::Inodes => inode_files(&self.disk).iter().for_each(|p| drop(std::fs::remove_file(p))),
            Limit::FileSize => set_soft(Resource::Fsize, None),
            Limit::Descriptors => set_soft(Resource::Nofile, None),
            Limit::OwnBytes | Limit::AddressSpace => {}
        }
        Ok(())
    }

    fn keep(&self) -> std::io::Result<()> {
        let mut text = String::new();
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        for (n, records) in self.model.iter().enumerate() {
            for (key, value) in records {
                text.push_str(&format!("{n} {} {}\n", hex(key), hex(value)));
            }
        }
        std::fs::write(&self.model_file, text)
    }

    fn load(&mut self) -> std::io::Result<()> {
        let bytes = |hex: &str| {
            (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect::<Vec<u8>>()
        };
        for line in std::fs::read_to_string(&self.model_file)?.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            self.model[words[0].parse::<usize>().unwrap()].insert(bytes(words[1]), bytes(words[2]));
        }
        Ok(())
    }
}

fn is_out_of_descriptors(error: &lignite::Error) -> bool {
    // EMFILE and ENFILE.
    matches!(error.os_code(), Some(23 | 24))
}

fn inode_files(disk: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(disk).into_iter().flatten().flatten().map(|e| e.path());
    entries.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("inode-"))).collect()
}

/// Adds to a file until the disk is full but for so many bytes.
fn fill(path: &Path, rest: u64) -> std::io::Result<()> {
    let mut file = File::options().append(true).create(true).open(path)?;
    let mut piece = vec![0x5a; 64 << 10];
    while !piece.is_empty() {
        while file.write_all(&piece).is_ok() {}
        piece.truncate(piece.len() / 2);
    }
    let len = file.metadata()?.len();
    file.set_len(len.saturating_sub(rest))?;
    // Not durable, but where the device has to say no, it does so now.
    let _ = file.sync_all();
    Ok(())
}

/// Sets the limit that a process may lift again by itself.
fn set_soft(resource: Resource, to: Option<u64>) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: to.or(maximum), maximum }).expect("a lower limit is always allowed");
}
