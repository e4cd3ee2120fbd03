//! A process that works on a database until it is killed: the hidden modes of the `xtask` binary.
//!
//! A child says on standard output what [`workload::Heard`](crate::workload::Heard) understands, a
//! line with one call of the system, so that none is torn between two threads. A line that could be
//! written stays readable after the child's death: what was said was acknowledged before.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use lignite::{Builder, ColumnFamily, Db, Durability, LogMode, Options, Reader as _, Snapshot};

use crate::model::Records;
use crate::ops::Write;
use crate::rng::Rng;
use crate::watchdog::guard;
use crate::workload::{Heard, MARKS, Plan, SHARED, Script, Step, mark_key, mark_value};

static BINARY: OnceLock<PathBuf> = OnceLock::new();

/// Says which binary has the child modes: in the suite, where the running one has not.
pub fn set_binary(path: impl Into<PathBuf>) {
    let _ = BINARY.set(path.into());
}

/// The binary that has the child modes.
pub fn binary() -> &'static Path {
    BINARY.get().expect("child::set_binary was not called, or this is not the xtask binary")
}

/// Runs the child mode that the arguments ask for, if they do. `xtask` calls this first.
pub fn main(args: &[String]) -> Option<ExitCode> {
    if let Ok(path) = std::env::current_exe() {
        set_binary(path);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["child-work", dir, seed, round, threads, sync_percent, abort_micros] => {
            let number = |s: &str| s.parse::<u64>().expect("a parent counts well");
            let plan = Plan {
                seed: number(seed),
                round: number(round),
                threads: number(threads) as usize,
                sync_percent: number(sync_percent),
            };
            work(Path::new(dir), plan, number(abort_micros));
            Some(ExitCode::SUCCESS)
        }
        ["child-sync", dir, mode] => {
            sync_once(Path::new(dir), if mode == "mapped" { LogMode::Auto } else { LogMode::Positioned });
            Some(ExitCode::SUCCESS)
        }
        ["child-limits", ..] => Some(crate::programme::limits::child(&args[1..])),
        _ => None,
    }
}

/// What opens the database of a plan, in the child and in its parent.
pub fn builder(plan: &Plan) -> Builder {
    let options = plan.cf_options();
    Builder::new(plan.options())
        .column_family(SHARED[1], options.clone())
        .column_family(SHARED[2], options.clone())
        .column_family(MARKS, options)
}

/// Says a line, whole.
fn say(line: &str) {
    let mut line = line.to_string();
    line.push('\n');
    // The lock of standard output is per call, and its buffer empties at the end of a line.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// Says what is wrong, and ends the process.
fn wrong(words: &str) -> ! {
    let mut line = String::from("w ");
    let _ = write!(line, "{}", words.replace('\n', " | "));
    say(&line);
    std::process::exit(3)
}

/// Makes a database, writes to it with a sync, and closes it, saying each when it is done: for one who
/// watches the calls of the system.
fn sync_once(dir: &Path, log_mode: LogMode) {
    let done = |what: &str| say(what);
    let options = Options::new().background_threads(1).decode_threads(0).log_mode(log_mode);
    let outcome = Builder::new(options).open(dir).and_then(|db| {
        done("opened");
        db.default_family().put_with("key", "value", Durability::Sync)?;
        done("acknowledged");
        db.close()?;
        done("closed");
        Ok(())
    });
    if let Err(e) = outcome {
        wrong(&format!("{e:?}"));
    }
}

fn work(dir: &Path, plan: Plan, abort_micros: u64) {
    if abort_micros > 0 {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(abort_micros));
            std::process::abort();
        });
    }
    let db = match guard("open", || builder(&plan).open(dir)) {
        Ok(db) => db,
        Err(e) => wrong(&format!("the child cannot open: {e:?}")),
    };
    say("o");
    std::thread::scope(|scope| {
        for thread in 0..plan.threads {
            let worker = Worker::new(&db, plan, thread, dir);
            scope.spawn(move || match worker.run() {
                Ok(()) => {}
                Err(words) => wrong(&words),
            });
        }
        if plan.threads == 0 {
            // Only there to be killed: jobs in the background go on.
            std::thread::sleep(Duration::from_secs(60));
        }
    });
}

/// One writing thread of the child.
struct Worker<'a> {
    db: &'a Db,
    plan: Plan,
    thread: usize,
    script: Script,
    steps: usize,
    shared: Vec<ColumnFamily>,
    marks: ColumnFamily,
    own: Option<ColumnFamily>,
    snapshot: Option<(Snapshot, u64)>,
    copies: PathBuf,
}

impl<'a> Worker<'a> {
    fn new(db: &'a Db, plan: Plan, thread: usize, dir: &Path) -> Worker<'a> {
        let names = db.column_family_names();
        let own = Script::own_among(thread, names.iter().map(String::as_str));
        let family = |name: &str| db.column_family(name).unwrap_or_else(|e| wrong(&format!("{name}: {e:?}")));
        Worker {
            db,
            plan,
            thread,
            own: own.as_deref().map(family),
            script: Script::new(&plan, thread, own),
            steps: 0,
            shared: SHARED.iter().map(|n| family(n)).collect(),
            marks: family(MARKS),
            snapshot: None,
            copies: dir.with_file_name("copies"),
        }
    }

    fn run(mut self) -> Result<(), String> {
        loop {
            let step = self.script.step();
            let seq = self.step(&step).map_err(|e| {
                let step: String = format!("{step:?}").chars().take(100).collect();
                format!("thread {}, step {} ({step}): {e}", self.thread, self.steps)
            })?;
            self.steps += 1;
            say(&format!("a {} {seq}", self.thread));
        }
    }

    fn step(&mut self, step: &Step) -> Result<u64, String> {
        let text = |e: lignite::Error| format!("{e:?}");
        let durability = |sync: &bool| if *sync { Durability::Sync } else { Durability::Buffered };
        match step {
            Step::Batch(writes, sync) => {
                let mut batch = self.db.batch();
                for (family, write) in writes {
                    let family = match family {
                        Some(n) => &self.shared[*n],
                        None => self.own()?,
                    };
                    match write {
                        Write::Put(key, value) => batch.put(family, key, value.bytes()),
                        Write::Delete(key) => batch.delete(family, key),
                        Write::DeleteRange(range) => batch.delete_range(family, range.clone()),
                    };
                }
                batch.put(&self.marks, mark_key(self.thread), mark_value(self.plan.round, self.steps + 1));
                let commit = guard("write a batch", || self.db.write_with(batch, durability(sync))).map_err(text)?;
                return Ok(commit.seq());
            }
            Step::Own(write, sync) => {
                let own = self.own()?;
                guard("write", || match write {
                    Write::Put(key, value) => own.put_with(key, value.bytes(), durability(sync)),
                    Write::Delete(key) => {
                        let mut batch = self.db.batch();
                        batch.delete(own, key);
                        self.db.write_with(batch, durability(sync))
                    }
                    Write::DeleteRange(range) => {
                        let mut batch = self.db.batch();
                        batch.delete_range(own, range.clone());
                        self.db.write_with(batch, durability(sync))
                    }
                })
                .map_err(text)?;
            }
            Step::Create(name) => {
                let made = guard("create a family", || self.db.create_column_family(name, self.plan.cf_options()));
                self.own = Some(made.map_err(text)?);
            }
            Step::Rename(old, new) => {
                guard("rename a family", || self.db.rename_column_family(old, new)).map_err(text)?;
            }
            Step::Drop(name) => {
                self.own = None;
                guard("drop a family", || self.db.drop_column_family(name)).map_err(text)?;
            }
            Step::Ingest(records) => {
                let own = self.own()?;
                guard("ingest", || own.ingest(records.iter().map(|(k, v)| (k, v.bytes())))).map_err(text)?;
            }
            Step::SetOptions(name, seed) => {
                guard("set options", || self.db.set_options(name, crate::sim::cf_options(*seed))).map_err(text)?;
            }
            Step::Sync => guard("sync", || self.db.sync()).map_err(text)?,
            Step::Flush(n) => guard("flush", || self.shared[*n].flush()).map_err(text)?,
            Step::Compact(n) => guard("compact", || self.shared[*n].compact()).map_err(text)?,
            Step::Snapshot => match self.snapshot.take() {
                None => {
                    let snapshot = self.db.snapshot();
                    let print = self.print(&snapshot).map_err(text)?;
                    self.snapshot = Some((snapshot, print));
                }
                Some((snapshot, before)) => {
                    let now = self.print(&snapshot).map_err(text)?;
                    if now != before {
                        return Err("a snapshot changed".to_string());
                    }
                }
            },
            Step::Read(keys) => {
                for key in keys {
                    guard("get", || self.shared[0].get(key)).map_err(text)?;
                }
                // What this thread has acknowledged it reads.
                let mark = guard("get", || self.marks.get(mark_key(self.thread))).map_err(text)?;
                let mark = mark.map(|m| String::from_utf8_lossy(&m).into_owned()).unwrap_or_default();
                let marked: Option<usize> = match mark.split_once(' ') {
                    Some((round, n)) if round == self.plan.round.to_string() => n.parse().ok(),
                    _ => Some(0),
                };
                if marked.is_none_or(|m| m > self.steps) {
                    return Err(format!("the mark is {mark:?} after {} steps", self.steps));
                }
            }
            Step::Checkpoint => {
                say(&format!("c {}", self.thread));
                let dest = self.copies.join(copy_name(self.plan.round, self.thread, self.steps));
                guard("checkpoint", || self.db.checkpoint(&dest)).map_err(text)?;
            }
        }
        Ok(0)
    }

    fn own(&self) -> Result<&ColumnFamily, String> {
        self.own.as_ref().ok_or_else(|| "the script wants a family that is not there".to_string())
    }

    /// A number that is equal for equal records of the shared families.
    fn print(&self, snapshot: &Snapshot) -> lignite::Result<u64> {
        let mut content = crate::model::Content::new();
        for (family, name) in self.shared.iter().zip(SHARED) {
            let mut records = Records::new();
            guard("scan a snapshot", || {
                for entry in snapshot.iter(family) {
                    let entry = entry?;
                    records.insert(entry.key().to_vec(), entry.value()?.to_vec());
                }
                Ok::<_, lignite::Error>(())
            })?;
            content.insert(name.to_string(), records);
        }
        Ok(crate::model::fingerprint(&content))
    }
}

/// The directory of a copy that a thread made as its step of this number, under `copies`.
pub fn copy_name(round: u64, thread: usize, step: usize) -> String {
    format!("{round}-{thread}-{step}")
}

/// How a child dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// SIGKILL by its parent.
    Kill,
    /// It calls `abort`.
    Abort,
    /// SIGSTOP, and SIGKILL when the parent has looked at the files that lie still.
    Stop,
}

/// A child at work.
pub struct Running {
    child: Child,
    heard: Arc<Mutex<Heard>>,
    reader: std::thread::JoinHandle<()>,
    begun: Instant,
}

impl Running {
    /// Starts a child that works on the database in `dir`; it aborts after so many microseconds
    /// unless they are 0.
    pub fn start(dir: &Path, plan: &Plan, abort_micros: u64) -> Running {
        let mut child = Command::new(binary())
            .arg("child-work")
            .arg(dir)
            .args([plan.seed, plan.round, plan.threads as u64, plan.sync_percent, abort_micros].map(|n| n.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let begun = Instant::now();
        let mut out = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let heard = Arc::new(Mutex::new(Heard::default()));
        let to = heard.clone();
        let reader = std::thread::spawn(move || {
            let mut line = String::new();
            loop {
                line.clear();
                match out.read_line(&mut line) {
                    // Without its end a line may be cut short.
                    Ok(n) if n > 0 && line.ends_with('\n') => to.lock().unwrap().line(line.trim_end_matches('\n')),
                    _ => break,
                }
            }
        });
        Running { child, heard, reader, begun }
    }

    /// What it has said so far.
    pub fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until the child is so old.
    pub fn live_until(&self, age: Duration) {
        std::thread::sleep(age.saturating_sub(self.begun.elapsed()));
    }

    /// Stops it where it is; it goes on existing.
    pub fn stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::STOP);
    }

    /// Ends it with SIGKILL (which does nothing if it has ended already), and says all that it said
    /// and what was wrong with it.
    pub fn kill(mut self) -> Result<Heard, String> {
        let _ = self.child.kill();
        self.end()
    }

    /// Ends it like [`kill`](Running::kill), whatever was wrong with it: for one whose file system was
    /// taken away.
    pub fn kill_anyhow(mut self) -> Heard {
        let _ = self.child.kill();
        let heard = self.heard.clone();
        let _ = self.end();
        heard.lock().unwrap().clone()
    }

    /// Waits for it to end.
    pub fn end(mut self) -> Result<Heard, String> {
        let status = self.child.wait().expect("it is our child");
        self.reader.join().expect("the reader does not panic");
        let heard = self.heard.lock().unwrap().clone();
        let mut stderr = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            let _ = std::io::Read::read_to_string(&mut pipe, &mut stderr);
        }
        if let Some(words) = &heard.wrong {
            return Err(format!("the child found:{words}; {stderr}"));
        }
        match died_as_wanted(status) {
            true => Ok(heard),
            false => Err(format!("the child ended by itself ({status}): {stderr}")),
        }
    }
}

/// By SIGKILL, or by SIGABRT, which a child that aborts by itself gets.
fn died_as_wanted(status: ExitStatus) -> bool {
    matches!(status.signal(), Some(6 | 9))
}

/// A random lifetime: mostly short, since what is interesting comes early and often.
pub fn lifetime(rng: &mut Rng, max: Duration) -> Duration {
    // Evenly over the logarithm, from 1 ms to the longest.
    let doublings = (max.as_micros() as f64 / 1000.0).log2();
    let x = rng.below(1 << 20) as f64 / f64::from(1 << 20) * doublings;
    Duration::from_micros((1000.0 * x.exp2()) as u64)
}
