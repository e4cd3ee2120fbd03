//! Opening: options are values, and the builder adds the live objects.

use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};

use super::handle::Db;
use super::inner::{self, Inner, check_family_name};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventListener};
use crate::fs::Fs;
use crate::fs::disk::DiskFs;
use crate::key::FamilyId;
use crate::metrics::Metrics;
use crate::options::{CfOptions, Options};
use crate::pool::Pool;
use crate::recovery::{self, RecoveryStats};
use crate::store::{Context, Parts, Store};
use crate::sync::atomic::Ordering;
use crate::sync::{self, Arc, Mutex, still};
use crate::tables::Tables;
use crate::worker::Worker;
use crate::write::Writer;

/// Opens a database with everything that is not plain data: file system, clock, listener, and the
/// column families to have from the start.
///
/// ```
/// use lignite::{Builder, CfOptions, Compression, Options};
/// let db = Builder::new(Options::new().memory_budget(32 << 20))
///     .column_family("logs", CfOptions::new().compression(Compression::zstd(3)))
///     .temporary()?;
/// assert_eq!(db.column_family_names(), ["default", "logs"]);
/// # Ok::<(), lignite::Error>(())
/// ```
pub struct Builder {
    options: Options,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    listener: Option<Arc<dyn EventListener>>,
    seed: Option<u64>,
    families: Vec<(String, CfOptions)>,
}

impl Builder {
    /// A builder with these options, real files and the system's clock.
    pub fn new(options: Options) -> Builder {
        Builder {
            options,
            fs: Arc::new(DiskFs::new()),
            clock: Arc::new(SystemClock::new()),
            listener: None,
            seed: None,
            families: Vec::new(),
        }
    }

    /// Uses another file system.
    #[must_use]
    pub fn fs(mut self, fs: Arc<dyn Fs>) -> Builder {
        self.fs = fs;
        self
    }

    /// Uses another clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Builder {
        self.clock = clock;
        self
    }

    /// Tells `listener` what happens.
    #[must_use]
    pub fn listener(mut self, listener: Arc<dyn EventListener>) -> Builder {
        self.listener = Some(listener);
        self
    }

    /// Draws the database's identity and the log's salts from this seed, so that the same history
    /// makes the same bytes. Default: a random one.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = Some(seed);
        self
    }

    /// Has the family `name` from the start: made with `options` if it is not there. If it is
    /// there it keeps its own options and the difference is reported.
    #[must_use]
    pub fn column_family(mut self, name: &str, options: CfOptions) -> Builder {
        self.families.push((name.to_string(), options));
        self
    }

    /// Opens for reading and writing; see [`Db::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Db> {
        self.open_at(path.as_ref(), None)
    }

    /// Opens for reading only; see [`Db::open_read_only`].
    pub fn open_read_only(mut self, path: impl AsRef<Path>) -> Result<Db> {
        // All tables stay open, since a writer may remove their files meanwhile.
        self.options.open_tables_max = 1 << 20;
        let context = self.context(path.as_ref())?;
        let (parts, recovered) = recovery::open_read_only(context)?;
        finish(parts, recovered, None)
    }

    /// Opens a new database in a directory of its own under the system's temporary one; it is
    /// removed with the last handle. It keeps no reserve.
    pub fn temporary(mut self) -> Result<Db> {
        self.options.reserve_size = 0;
        static COUNT: still::AtomicU64 = still::AtomicU64::new(0);
        let unique = (random_seed() << 16) ^ COUNT.fetch_add(1, Ordering::Relaxed);
        #[allow(clippy::disallowed_methods, reason = "a temporary database lies where the system says")]
        let dir = std::env::temp_dir().join(format!("lignite-{}-{unique:016x}", std::process::id()));
        let path = dir.clone();
        self.open_at(&path, Some(dir))
    }

    /// Where files and time come from.
    pub(super) fn doors(&self) -> (Arc<dyn Fs>, Arc<dyn Clock>) {
        (self.fs.clone(), self.clock.clone())
    }

    fn open_at(self, path: &Path, temporary: Option<PathBuf>) -> Result<Db> {
        self.options.validate()?;
        for (name, options) in &self.families {
            check_family_name(name)?;
            options.validate().map_err(|e| e.with_column_family(name))?;
        }
        let context = self.context(path)?;
        let (parts, recovered) = recovery::open(context)?;
        let db = finish(parts, recovered, temporary)?;
        for (name, options) in self.families {
            db.open_column_family(&name, options)?;
        }
        Ok(db)
    }

    fn context(&self, path: &Path) -> Result<Context> {
        let options = self.options.clone();
        let metrics = Arc::new(Metrics::default());
        let pool = (options.decode_threads > 0).then(|| Pool::shared(options.decode_threads));
        let tables = Tables::new(
            self.fs.clone(),
            path,
            // Memtables take at most half of the budget, the cache has the rest.
            options.memory_budget as u64 / 2,
            options.open_tables_max,
            metrics.clone(),
            self.clock.clone(),
            pool.clone(),
        );
        let default_family =
            self.families.iter().find(|(name, _)| name == "default").map(|(_, options)| options.clone());
        Ok(Context {
            default_family: default_family.unwrap_or_default(),
            fs: self.fs.clone(),
            dir: path.to_path_buf(),
            clock: self.clock.clone(),
            listener: self.listener.clone(),
            options,
            seed: self.seed.unwrap_or_else(random_seed),
            metrics,
            tables: Arc::new(tables),
            pool,
        })
    }
}

fn finish(parts: Parts, recovered: RecoveryStats, temporary: Option<PathBuf>) -> Result<Db> {
    let read_only = parts.log.is_none();
    let store = Store::new(parts);
    let threads = if read_only { 0 } else { store.context.options.background_threads };
    let worker = Worker::start(&store, threads)?;
    let notifier = if threads > 0 { Some(start_notifier(&store)?) } else { None };
    let default = store
        .family(FamilyId::DEFAULT)
        .ok_or_else(|| Error::corruption("the column family \"default\" is missing").with_file(&store.context.dir))?;
    let took = std::time::Duration::from_nanos(recovered.nanos);
    store.event(&Event::Recovered { batches: recovered.batches, torn_tail_bytes: recovered.torn_tail_bytes, took });
    let inner = Inner {
        writer: Writer::new(store.clone()),
        worker,
        notifier: Mutex::new(notifier),
        recovered,
        differences: Mutex::new(Vec::new()),
        temporary,
        store,
    };
    Ok(Db::new(Arc::new(inner), default))
}

/// Starts the thread that syncs the log now and then and runs durability callbacks.
fn start_notifier(store: &Arc<Store>) -> Result<sync::JoinHandle> {
    let interval = store.context.options.sync_interval;
    // It ends before the last handle does, so it may hold the store; `Inner::shutdown` joins it.
    let store = store.clone();
    sync::spawn("lignite-sync", move || {
        if let Ok(log) = store.log() {
            log.run_notifier(interval, |e| store.poison(e));
        }
    })
    .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start the sync thread: {e}")))
}

#[allow(clippy::disallowed_methods, reason = "the one place where a seed that was not given comes from")]
fn random_seed() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

impl Db {
    /// Opens the database in the directory `path` with default options, making it if need be.
    ///
    /// # Errors
    /// `Locked` if it is open elsewhere, `Corruption` if its files are damaged (nothing is changed
    /// then), `Unsupported` if it needs a newer version, `Io`.
    ///
    /// ```
    /// # let dir = tempfile_dir();
    /// let db = lignite::Db::open(&dir)?;
    /// db.put("user:1", "Ada")?;
    /// # db.close()?;
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # fn tempfile_dir() -> std::path::PathBuf { std::env::temp_dir().join(format!("lignite-doc-open-{}", std::process::id())) }
    /// # Ok::<(), lignite::Error>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Db> {
        Builder::new(Options::new()).open(path)
    }

    /// Opens the database for reading only, as it is at this moment, logs included. Takes no lock
    /// and writes nothing; works beside a process that has it open.
    ///
    /// # Errors
    /// `NotFound` if there is no database; `Busy` if files kept changing during 10 attempts.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Db> {
        Builder::new(Options::new()).open_read_only(path)
    }

    /// The default options, to change some and open with them.
    pub fn options() -> Options {
        Options::new()
    }

    /// A database in a new directory under the system's temporary one, removed with the last handle.
    pub fn temporary() -> Result<Db> {
        Builder::new(Options::new()).temporary()
    }

    /// Removes a database: every file of ours in the directory, and the directory if it is empty
    /// then. Other files stay.
    ///
    /// # Errors
    /// `Locked` if it is open, `NotFound` if there is none.
    pub fn destroy(path: impl AsRef<Path>) -> Result<()> {
        inner::destroy(&DiskFs::new(), path.as_ref())
    }
}

impl Options {
    /// Opens with these options; see [`Db::open`].
    ///
    /// ```no_run
    /// let db = lignite::Options::new().memory_budget(1 << 30).open("data")?;
    /// # Ok::<(), lignite::Error>(())
    /// ```
    pub fn open(self, path: impl AsRef<Path>) -> Result<Db> {
        Builder::new(self).open(path)
    }

    /// Opens for reading only with these options; see [`Db::open_read_only`].
    pub fn open_read_only(self, path: impl AsRef<Path>) -> Result<Db> {
        Builder::new(self).open_read_only(path)
    }
}
