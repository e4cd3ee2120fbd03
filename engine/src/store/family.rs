//! One column family: its name, its options, and the view that readers take.
//!
//! The view is immutable and replaced as a whole. A point read borrows it without a lock and without
//! touching a count that other threads touch; who keeps it longer clones the `Arc`.
//! Sealing a memtable, a finished flush and a finished compaction each put a new view in place.

use arc_swap::{ArcSwap, Guard};

use crate::error::{Error, ErrorKind, Result};
use crate::field::UnknownFields;
use crate::key::{FamilyId, SeqNo};
use crate::memtable::Memtable;
use crate::metrics::{FamilyMetrics, Metrics};
use crate::options::CfOptions;
use crate::read::View;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, RwLock, point};
use crate::tables::Tables;
use crate::tune::Tuning;
use crate::version::Version;
use crate::version::edit::FamilyRecord;

/// One column family.
pub struct Family {
    /// Its number.
    pub id: FamilyId,
    /// The sequence number of the operation that made it.
    pub created_seq: SeqNo,
    /// Its counters.
    pub metrics: Arc<FamilyMetrics>,
    /// What it has found out about its data.
    pub tuning: Tuning,
    /// What a later version of Lignite has written about it, handed on.
    unknown: (UnknownFields, UnknownFields),
    name: RwLock<Arc<str>>,
    options: RwLock<Arc<CfOptions>>,
    view: ArcSwap<View>,
    /// Held while the view is replaced.
    replacing: Mutex<()>,
    dropped: AtomicBool,
    next_memtable: AtomicU64,
    /// Everything up to here is in tables.
    flushed: AtomicU64,
}

impl Family {
    /// A family over a version, with one empty memtable.
    pub fn new(
        record: FamilyRecord,
        flushed: SeqNo,
        version: Version,
        tables: Arc<Tables>,
        metrics: Arc<Metrics>,
    ) -> Family {
        let family = Arc::new(FamilyMetrics::default());
        let name: Arc<str> = Arc::from(record.name.as_str());
        let memtables = vec![Arc::new(Memtable::new(0))];
        let view = View::new(memtables, Arc::new(version), tables, metrics, family.clone(), name.clone());
        Family {
            id: record.id,
            created_seq: record.created_seq,
            unknown: (record.unknown_options.clone(), record.unknown.clone()),
            metrics: family,
            tuning: Tuning::default(),
            name: RwLock::new(name),
            options: RwLock::new(Arc::new(record.options)),
            view: ArcSwap::from_pointee(view),
            replacing: Mutex::new(()),
            dropped: AtomicBool::new(false),
            next_memtable: AtomicU64::new(1),
            flushed: AtomicU64::new(flushed),
        }
    }

    /// How the manifest describes it now.
    pub fn record(&self) -> FamilyRecord {
        FamilyRecord {
            id: self.id,
            name: self.name().to_string(),
            options: CfOptions::clone(&self.options()),
            unknown_options: self.unknown.0.clone(),
            created_seq: self.created_seq,
            unknown: self.unknown.1.clone(),
        }
    }

    /// Its name now.
    pub fn name(&self) -> Arc<str> {
        self.name.read().clone()
    }

    /// Its options now.
    pub fn options(&self) -> Arc<CfOptions> {
        self.options.read().clone()
    }

    /// What a reader that begins now reads.
    #[inline]
    pub fn view(&self) -> Arc<View> {
        point();
        self.view.load_full()
    }

    /// The same, borrowed: for a read that is over before its caller goes on.
    #[inline]
    pub fn lend_view(&self) -> Guard<Arc<View>> {
        point();
        self.view.load()
    }

    /// The memtable that takes writes.
    pub fn active(&self) -> Arc<Memtable> {
        self.lend_view().memtables[0].clone()
    }

    /// Sealed memtables, oldest first.
    pub fn sealed(&self) -> Vec<Arc<Memtable>> {
        self.lend_view().memtables[1..].iter().rev().cloned().collect()
    }

    /// Everything up to this number is in tables.
    pub fn flushed(&self) -> SeqNo {
        self.flushed.load(Ordering::Acquire)
    }

    /// True once it has been dropped.
    pub fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    /// Fails once it has been dropped.
    pub fn check_open(&self) -> Result<()> {
        if self.is_dropped() {
            return Err(
                Error::new(ErrorKind::Closed, "the column family has been dropped").with_column_family(&*self.name())
            );
        }
        Ok(())
    }

    /// The smallest sequence number that lies in memtables only; none if they are empty.
    pub fn first_unflushed(&self) -> Option<SeqNo> {
        self.lend_view().memtables.iter().filter_map(|m| m.first_seq()).min()
    }

    /// Bytes of all memtables.
    pub fn memtable_bytes(&self) -> u64 {
        self.lend_view().memtables.iter().map(|m| m.size() as u64).sum()
    }

    /// Gives it another name.
    pub(crate) fn rename(&self, name: &str) {
        *self.name.write() = Arc::from(name);
        self.replace_view(|view| {
            let mut view = view.with(view.memtables.clone(), view.version.clone());
            view.name = Arc::from(name);
            view
        });
    }

    /// Gives it other options; they hold from the next table on.
    pub(crate) fn set_options(&self, options: CfOptions) {
        *self.options.write() = Arc::new(options);
    }

    /// Refuses everything from now on.
    pub(crate) fn mark_dropped(&self) {
        self.dropped.store(true, Ordering::Release);
    }

    /// Puts a fresh memtable in front if the active one has entries; true if it had.
    pub(crate) fn seal(&self) -> bool {
        // Only the commit leader adds entries and seals, so this cannot change before the view does.
        if self.active().is_empty() {
            return false;
        }
        let id = self.next_memtable.fetch_add(1, Ordering::Relaxed);
        self.replace_view(|view| {
            let mut memtables = view.memtables.clone();
            memtables.insert(0, Arc::new(Memtable::new(id)));
            view.with(memtables, view.version.clone())
        });
        true
    }

    /// Puts a new version in place and takes out the memtables it contains.
    pub(crate) fn install(&self, version: Version, flushed: &[Arc<Memtable>], flushed_to: Option<SeqNo>) {
        self.replace_view(|view| {
            let mut memtables = view.memtables.clone();
            memtables.retain(|m| !flushed.iter().any(|f| Arc::ptr_eq(m, f)));
            view.with(memtables, Arc::new(version))
        });
        if let Some(seq) = flushed_to {
            self.flushed.fetch_max(seq, Ordering::AcqRel);
        }
    }

    fn replace_view(&self, change: impl FnOnce(&View) -> View) {
        let replacing = self.replacing.lock();
        let view = change(&self.view.load());
        let old = self.view.swap(Arc::new(view));
        drop(replacing);
        drop(old); // May free tables and memtables; not under the lock.
    }
}
