//! What a family's compression costs, what another would cost, and moving to it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::family::ColumnFamily;
use crate::compaction::{Limits, Order, picker};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Dictionary;
use crate::key::KeyRange;
use crate::options::{CfOptions, Codec, Depth, DictionaryPolicy, Objective};
use crate::store::Family;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{self, Arc, Mutex};
use crate::table::{Table, TableWriteOptions};
use crate::tune::compare::{CompareProgress, Compared, Wanted, compare};
use crate::tune::measure::{Candidate, Measured};
use crate::tune::sample::Sample;
use crate::tune::{self, Request, Tuning, objective};
use crate::worker;

/// What [`ColumnFamily::compare`] samples and tries.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CompareOptions {
    /// Bytes of blocks to sample, before compression. Default: 8 MiB. A quarter of them, at most 512 KiB, is what
    /// candidates are measured on; dictionaries are made of the rest.
    pub sample_bytes: u64,
    /// How long to go on; candidates that it does not reach are left out. Default: 30 s.
    pub time_max: Duration,
    /// What to try. Default: LZ4, high-effort LZ4, and Zstandard 1, 3 and 9, each in blocks of 4, 8 and 16 KiB,
    /// with a dictionary and without.
    pub candidates: Vec<Candidate>,
}

impl Default for CompareOptions {
    fn default() -> CompareOptions {
        let codecs =
            [Codec::Lz4, Codec::Lz4hc { level: 9 }].into_iter().chain([1, 3, 9].map(|level| Codec::Zstd { level }));
        let mut candidates = vec![Candidate { codec: Codec::None, block_size: 16 << 10, dictionary: false }];
        for codec in codecs {
            for kib in [4, 8, 16] {
                candidates.extend([false, true].map(|dictionary| Candidate {
                    codec,
                    block_size: kib << 10,
                    dictionary,
                }));
            }
        }
        CompareOptions { sample_bytes: 8 << 20, time_max: Duration::from_secs(30), candidates }
    }
}

/// What came of a comparison.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Comparison {
    /// One row a candidate that was measured.
    pub rows: Vec<Measured>,
    /// For each row, whether no other is both smaller and faster to decode.
    pub pareto: Vec<bool>,
    /// The dictionary that rows with one were measured with; none if there is too little to make one of.
    pub dictionary: Option<Vec<u8>>,
    /// What it saves, as a share of the bytes without one.
    pub dictionary_gain: f64,
    /// Bytes of keys and values in the family's tables.
    pub raw_bytes: u64,
    /// Bytes that they take now.
    pub stored_bytes: u64,
    /// False if time ran out, or it was ended early.
    pub complete: bool,
}

/// What [`ColumnFamily::advise`] recommends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Advice {
    /// For what.
    pub objective: Objective,
    /// The row of the comparison that serves it best.
    pub chosen: Measured,
    /// Everything that was measured.
    pub comparison: Comparison,
    /// Bytes that the family's tables will take, filters apart.
    pub predicted_bytes: u64,
}

/// A dictionary made of a family's blocks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrainedDictionary {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What blocks that it was not made of save with it, as a share of their bytes; negative if it costs.
    pub gain: f64,
    /// The codec and block size that this holds for.
    pub codec: Codec,
    /// The same.
    pub block_size: usize,
}

/// Which dictionary [`ColumnFamily::recompress`] writes with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecompressDictionary {
    /// As the options say.
    #[default]
    Auto,
    /// These bytes, whatever they gain, where the codec takes a dictionary.
    Bytes(Vec<u8>),
}

/// How [`ColumnFamily::recompress`] goes about it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecompressOptions {
    /// The family's options from then on; those of now with another codec, say.
    pub options: CfOptions,
    /// The dictionary.
    pub dictionary: RecompressDictionary,
    /// Bytes of keys and values a second, over all workers; 0 for no limit.
    pub rate: u64,
    /// Threads. Each needs the space of one table while it works. Default: 1.
    pub workers: usize,
}

impl RecompressOptions {
    /// To these options, by one thread without a limit of its rate.
    pub fn new(options: CfOptions) -> RecompressOptions {
        RecompressOptions { options, dictionary: RecompressDictionary::Auto, rate: 0, workers: 1 }
    }
}

/// How far a recompression has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecompressProgress {
    /// Tables written anew.
    pub tables_done: u64,
    /// Tables to write anew in all.
    pub tables: u64,
    /// Bytes of keys and values read.
    pub bytes_done: u64,
    /// Bytes of keys and values to read in all.
    pub bytes: u64,
}

/// What a recompression would do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RecompressPlan {
    /// Tables that would be written anew.
    pub tables: u64,
    /// Bytes of keys and values in them.
    pub bytes: u64,
    /// What they take as files.
    pub stored_bytes: u64,
    /// Tables that are there already.
    pub tables_kept: u64,
    /// Bytes of all tables of the family.
    pub bytes_before: u64,
}

/// What a recompression did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RecompressReport {
    /// Tables written anew.
    pub tables_rewritten: u64,
    /// Tables that were there already.
    pub tables_kept: u64,
    /// Bytes of the family's tables before.
    pub bytes_before: u64,
    /// Bytes of the family's tables after.
    pub bytes_after: u64,
    /// Length of the dictionary of the last level; 0 for none.
    pub dictionary_len: u64,
    /// True if it was ended before its time. What was written stays; another call goes on.
    pub cancelled: bool,
}

/// What was promised of a family's tables, and what is.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CompressionReport {
    /// Tables that carry a promise, and bytes of keys and values in them.
    pub tables: u64,
    /// The same.
    pub raw_bytes: u64,
    /// Bytes that they were to take.
    pub promised_bytes: u64,
    /// Bytes that they take, filters apart.
    pub stored_bytes: u64,
    /// What decoding a block was to take on the average, in nanoseconds.
    pub promised_decode_nanos: u64,
    /// What it takes, over sampled blocks of those tables, of all where none has a promise; 0 if the clock stands
    /// still.
    pub decode_nanos: u64,
    /// The same that 99 blocks of a hundred were to stay within.
    pub promised_decode_nanos_p99: u64,
    /// What they stay within.
    pub decode_nanos_p99: u64,
    /// The target size of a block in most bytes of all tables, as they were written; 0 if there is no table.
    pub block_size: u64,
    /// Dictionaries in use, those of most tables first.
    pub dictionaries: Vec<DictionaryUse>,
    /// Bytes of tables that owe the codec of their level: written in haste or moved, to be written anew when
    /// there is time.
    pub owed_bytes: u64,
}

/// A dictionary in use.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct DictionaryUse {
    /// By which it is known.
    pub hash: u64,
    /// Its bytes.
    pub len: u64,
    /// Tables that were written with it.
    pub tables: u64,
    /// What it saved when they were, as a share.
    pub gain: f64,
    /// Bytes of memory that it takes, whatever the number of tables.
    pub memory_bytes: u64,
}

impl ColumnFamily {
    /// Measures ways of storing the family's blocks on a sample of them: size, encoding, decoding. Reads, and
    /// changes nothing. What is in memtables only does not count, unless there is nothing else. `progress` is called
    /// before each candidate, and after the last if none was left out, and says whether to go on; a comparison that was
    /// ended early has the rows that it came to.
    ///
    /// ```
    /// use lignite::{CompareOptions, Db};
    /// let db = Db::temporary()?;
    /// let cf = db.default_family();
    /// (0..20_000u32).try_for_each(|i| cf.put(i.to_be_bytes(), format!("row {} of many", i % 97)).map(drop))?;
    /// let comparison = cf.compare(&CompareOptions::default(), &mut |_| true)?;
    /// assert_eq!(comparison.rows.len(), comparison.pareto.len());
    /// # Ok::<(), lignite::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if the family is empty, a candidate cannot be, or it ended before anything was measured; what
    /// reading can fail with.
    pub fn compare(
        &self,
        options: &CompareOptions,
        progress: &mut dyn FnMut(&CompareProgress) -> bool,
    ) -> Result<Comparison> {
        for candidate in &options.candidates {
            CfOptions::new().block_size(candidate.block_size.max(1)).validate()?;
            candidate.codec.validate().map_err(|e| Error::invalid(e.to_string()))?;
        }
        let clock = &*self.inner.store.context.clock;
        let until = clock.now().saturating_add(options.time_max);
        let (sample, raw_bytes, stored_bytes) = self.sample(options.sample_bytes)?;
        let o = self.options();
        let size = match o.dictionary {
            DictionaryPolicy::Auto { size } | DictionaryPolicy::Wanted { size } => size as usize,
            DictionaryPolicy::None => 64 << 10,
        };
        let wanted = Wanted {
            candidates: options.candidates.clone(),
            dictionary_size: Some(size),
            dictionary: None,
            min_saving: o.compression.min_saving,
            transpose: o.transpose,
            table_raw: tune::table_raw(&o, raw_bytes),
            until: Some(until),
        };
        let Compared { rows, dictionary, dictionary_gain, complete } = compare(clock, &sample, &wanted, progress)?;
        if rows.is_empty() {
            return Err(Error::invalid("it ended before anything was measured"));
        }
        Ok(Comparison {
            pareto: objective::pareto(&rows),
            rows,
            dictionary: dictionary.map(|d| d.bytes().to_vec()),
            dictionary_gain,
            raw_bytes,
            stored_bytes,
            complete: complete && clock.now() < until,
        })
    }

    /// Measures, and says what serves an objective best. `options.candidates` is not looked at: the objective
    /// has its own. Advice of a comparison that is not complete is about what was measured.
    ///
    /// # Errors
    /// As [`ColumnFamily::compare`].
    pub fn advise(
        &self,
        objective: Objective,
        options: &CompareOptions,
        progress: &mut dyn FnMut(&CompareProgress) -> bool,
    ) -> Result<Advice> {
        let options = CompareOptions { candidates: objective::candidates(objective), ..options.clone() };
        let comparison = self.compare(&options, progress)?;
        let picked = objective::pick(objective, &comparison.rows).and_then(|at| comparison.rows.get(at).copied());
        let Some(chosen) = picked else { return Err(Error::invalid("it ended before anything was measured")) };
        let predicted_bytes = (comparison.raw_bytes as f64 * chosen.stored_share()) as u64;
        Ok(Advice { objective, chosen, comparison, predicted_bytes })
    }

    /// Makes a dictionary of at most `size` bytes of the family's blocks, for the codec of its last level.
    ///
    /// # Errors
    /// `InvalidArgument` if the blocks have too little in common, or there are too few.
    pub fn train_dictionary(&self, size: usize) -> Result<TrainedDictionary> {
        let o = self.options();
        o.clone().dictionary(DictionaryPolicy::Wanted { size: u32::try_from(size).unwrap_or(u32::MAX) }).validate()?;
        let plain = TableWriteOptions::for_depth(&o, Depth::Bottom);
        let codec = if plain.values.takes_dictionary() { plain.values } else { Codec::Zstd { level: 3 } };
        let candidate = Candidate { codec, block_size: plain.block_size, dictionary: true };
        let (sample, raw_bytes, _) = self.sample(8 << 20)?;
        let wanted = Wanted {
            candidates: vec![candidate],
            dictionary_size: Some(size),
            dictionary: None,
            min_saving: plain.min_saving,
            transpose: plain.transpose,
            table_raw: tune::table_raw(&o, raw_bytes),
            until: None,
        };
        let compared = compare(&*self.inner.store.context.clock, &sample, &wanted, &mut |_| true)?;
        let Some(dictionary) = compared.dictionary else {
            return Err(Error::invalid("the family's blocks are too few, or have too little in common"));
        };
        Ok(TrainedDictionary {
            bytes: dictionary.bytes().to_vec(),
            gain: compared.dictionary_gain,
            codec,
            block_size: plain.block_size,
        })
    }

    /// Moves the family to other options while it is in use: sets them, and writes every table anew that was
    /// not written so, one for one, where it lies. Each new table is decoded and compared with what was read
    /// of the old one before that goes. What is written meanwhile is written by the new options anyway.
    ///
    /// `progress` is called several times a second, from this thread; if it returns false, the running
    /// tables are given up and the report says `cancelled`. After that, after an error and after a crash the
    /// same call goes on with the tables that are left.
    ///
    /// # Errors
    /// Those of [`Db::set_options`](crate::Db::set_options) and of compactions. Tables written so far stay.
    pub fn recompress(
        &self,
        options: &RecompressOptions,
        progress: &mut dyn FnMut(&RecompressProgress) -> bool,
    ) -> Result<RecompressReport> {
        let store = &self.inner.store;
        store.check_writable()?;
        self.family.check_open()?;
        if *self.family.options() != options.options {
            self.inner.set_options(&self.name(), options.options.clone())?;
        }
        self.flush()?;
        let bytes_before = self.family.view().version.total_size();
        let limits = Arc::new(Limits::new(options.rate));
        let orders = Arc::new(self.orders(options, &limits, &self.family.tuning)?);
        // What lies in level 0 may overlap in any way; it becomes tables of the base level, by the new options.
        let young_stays = self.tables_at(0)?.iter().all(|table| orders.is_served(Depth::Young, table));
        if !young_stays {
            self.inner.worker.compact_levels(&self.family, &KeyRange::ALL, 0)?;
        }
        let (todo, kept) = self.unserved(&orders)?;
        let bytes = todo.iter().map(|(_, raw)| raw).sum();
        let work = Arc::new(Work {
            family: self.family.clone(),
            orders: orders.clone(),
            queue: Mutex::new(todo.iter().rev().map(|(number, _)| *number).collect()),
            outcome: Mutex::default(),
            limits: limits.clone(),
            running: AtomicUsize::new(0),
        });
        let mut now = RecompressProgress { tables: todo.len() as u64, bytes, ..RecompressProgress::default() };
        let told = self.run(&work, options.workers, |done| {
            now.tables_done = done;
            now.bytes_done = limits.read.load(Ordering::Relaxed).min(bytes);
            progress(&now)
        });
        told?;
        let (done, failure) = work.outcome();
        if let Some(e) = failure {
            return Err(e);
        }
        Ok(RecompressReport {
            tables_rewritten: done,
            tables_kept: kept,
            bytes_before,
            bytes_after: self.family.view().version.total_size(),
            dictionary_len: orders.bottom.write.dictionary.as_ref().map_or(0, |d| d.bytes().len() as u64),
            cancelled: limits.cancelled.load(Ordering::Relaxed),
        })
    }

    /// What [`ColumnFamily::recompress`] would do with the tables that there are, without doing any of it. Opens every
    /// table, and looks at some blocks where the codec is to be chosen or a dictionary made.
    ///
    /// ```
    /// use lignite::{CfOptions, Compression, Db, RecompressOptions};
    ///
    /// let db = Db::temporary()?;
    /// let family = db.default_family();
    /// family.put("key", "value")?;
    /// family.compact()?;
    /// let wanted = RecompressOptions::new(CfOptions::new().compression(Compression::snappy()));
    /// assert_eq!(family.plan_recompress(&wanted)?.tables, 1);
    /// family.recompress(&wanted, &mut |_| true)?;
    /// assert_eq!(family.plan_recompress(&wanted)?.tables, 0);
    /// # Ok::<(), lignite::Error>(())
    /// ```
    pub fn plan_recompress(&self, options: &RecompressOptions) -> Result<RecompressPlan> {
        self.family.check_open()?;
        let orders = self.orders(options, &Arc::default(), &Tuning::default())?;
        let view = self.family.view();
        let shape = picker::shape(&view.version, &self.family.options());
        let mut plan = RecompressPlan { bytes_before: view.version.total_size(), ..RecompressPlan::default() };
        for (level, file) in view.version.tables() {
            let table = self.inner.store.context.tables.get_at(file, &self.family.metrics, level)?;
            if orders.is_served(shape.depth(level), &table) {
                plan.tables_kept += 1;
            } else {
                plan.tables += 1;
                plan.bytes += file.meta.raw_bytes;
                plan.stored_bytes += file.meta.size;
            }
        }
        Ok(plan)
    }

    fn run(&self, work: &Arc<Work>, workers: usize, mut tell: impl FnMut(u64) -> bool) -> Result<()> {
        const LOOK: Duration = Duration::from_millis(50);
        let inner = &self.inner;
        if inner.store.is_stepped() {
            // No threads but this one, so that a test sees every step.
            while work.step(&inner.worker) {
                if !tell(work.outcome().0) {
                    work.limits.cancelled.store(true, Ordering::Relaxed);
                }
            }
            return Ok(());
        }
        let mut threads = Vec::new();
        for n in 0..workers.max(1) {
            let (mine, worker) = (work.clone(), inner.worker.clone());
            work.running.fetch_add(1, Ordering::AcqRel);
            let run = move || {
                let _running = Running(&mine.running);
                while mine.step(&worker) {}
            };
            match sync::spawn(&format!("lignite-recompress-{n}"), run) {
                Ok(thread) => threads.push(thread),
                Err(e) => {
                    // Those that were started go on without it.
                    work.running.fetch_sub(1, Ordering::AcqRel);
                    if n == 0 {
                        return Err(Error::new(ErrorKind::Io, format!("cannot start a thread: {e}")));
                    }
                    break;
                }
            }
        }
        while work.running.load(Ordering::Acquire) > 0 {
            if !tell(work.outcome().0) {
                work.limits.cancelled.store(true, Ordering::Relaxed);
            }
            sync::sleep(LOOK);
        }
        // A worker catches what jobs panic with, so this is for what nobody thinks can be.
        if !threads.into_iter().all(sync::JoinHandle::join) {
            return Err(Error::new(ErrorKind::Background, "a thread of the recompression panicked"));
        }
        tell(work.outcome().0);
        Ok(())
    }

    /// What was promised of the family's tables, and what is. Opens every table, and decodes some blocks.
    pub fn compression_report(&self) -> Result<CompressionReport> {
        const TIMED_MAX: usize = 256;
        let mut report =
            CompressionReport { owed_bytes: worker::owed_bytes(&self.family), ..CompressionReport::default() };
        let mut dictionaries: BTreeMap<u64, DictionaryUse> = BTreeMap::new();
        let mut promised = Vec::new();
        let mut bytes_by_block_size: BTreeMap<u64, u64> = BTreeMap::new();
        let (mut decode_weighted, mut blocks) = (0, 0);
        let tables = self.all_tables()?;
        for table in &tables {
            let p = table.properties();
            *bytes_by_block_size.entry(p.block_size).or_default() += table.meta().size;
            for dictionary in table.dictionaries() {
                let entry = dictionaries.entry(dictionary.hash()).or_insert(DictionaryUse {
                    hash: dictionary.hash(),
                    len: dictionary.bytes().len() as u64,
                    tables: 0,
                    gain: p.promise.dictionary_gain as f64 / 1000.0,
                    memory_bytes: dictionary.memory_size() as u64,
                });
                entry.tables += 1;
            }
            if p.promise.stored_per_mib == 0 {
                continue;
            }
            let raw = p.raw_key_bytes + p.raw_value_bytes;
            report.tables += 1;
            report.raw_bytes += raw;
            report.promised_bytes += ((u128::from(p.promise.stored_per_mib) * u128::from(raw)) >> 20) as u64;
            let filter = table.footer().filter.map_or(0, |handle| u64::from(handle.stored_len));
            report.stored_bytes += table.meta().size.saturating_sub(filter);
            report.promised_decode_nanos_p99 = report.promised_decode_nanos_p99.max(p.promise.decode_nanos_p99);
            decode_weighted += u128::from(p.promise.decode_nanos) * u128::from(p.blocks);
            blocks += table.index().len();
            promised.push(table);
        }
        report.promised_decode_nanos = (decode_weighted / blocks.max(1) as u128) as u64;
        if promised.is_empty() {
            // Nothing to hold it against, but what it costs can be told.
            promised = tables.iter().collect();
            blocks = tables.iter().map(|t| t.index().len()).sum();
        }
        let step = blocks.div_ceil(TIMED_MAX).max(1);
        let mut times = Vec::new();
        let every = promised.iter().flat_map(|table| (0..table.index().len()).map(move |number| (table, number)));
        for (table, number) in every.step_by(step) {
            times.push(table.time_block(number, 3)?.as_nanos() as u64);
        }
        times.sort_unstable();
        report.decode_nanos = times.iter().sum::<u64>() / times.len().max(1) as u64;
        report.decode_nanos_p99 =
            times.get((times.len() * 99 / 100).min(times.len().saturating_sub(1))).copied().unwrap_or(0);
        report.block_size = bytes_by_block_size.into_iter().max_by_key(|&(_, bytes)| bytes).map_or(0, |(size, _)| size);
        report.dictionaries = dictionaries.into_values().collect();
        report.dictionaries.sort_by_key(|d| std::cmp::Reverse(d.tables));
        Ok(report)
    }

    fn all_tables(&self) -> Result<Vec<Arc<Table>>> {
        open_tables(&self.inner.store, &self.family, None)
    }

    fn tables_at(&self, level: usize) -> Result<Vec<Arc<Table>>> {
        open_tables(&self.inner.store, &self.family, Some(level))
    }

    /// Blocks of the family's tables; of what a scan gives if there are none. With the bytes of keys and values
    /// there are, and what they take.
    fn sample(&self, bytes_max: u64) -> Result<(Sample, u64, u64)> {
        let tables = self.all_tables()?;
        let raw: u64 = tables.iter().map(|t| t.meta().raw_bytes).sum();
        if raw > 0 {
            let stored = tables.iter().map(|t| t.meta().size).sum();
            return Ok((Sample::take(&tables, bytes_max, true)?, raw, stored));
        }
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for entry in self.iter() {
            let entry = entry?;
            let value = entry.value()?;
            bytes += (entry.key().len() + value.len()) as u64;
            entries.push((entry.key().to_vec(), value.to_vec()));
            if bytes >= bytes_max {
                break;
            }
        }
        if entries.is_empty() {
            return Err(Error::invalid("the column family is empty").with_column_family(self.name()));
        }
        Ok((Sample::of(&entries)?, bytes, 0))
    }

    /// How tables of each depth are to be written, with what `tuning` finds out about them anew.
    fn orders(&self, options: &RecompressOptions, limits: &Arc<Limits>, tuning: &Tuning) -> Result<Orders> {
        let given = match &options.dictionary {
            RecompressDictionary::Auto => None,
            RecompressDictionary::Bytes(bytes) => {
                Some(Dictionary::from_bytes(bytes.clone()).map_err(|e| Error::invalid(e.to_string()))?)
            }
        };
        let inputs = self.all_tables()?;
        tuning.forget();
        let order = |depth: Depth| {
            let mut write = tuning.table_options(&Request {
                options: &options.options,
                depth,
                zeroed: depth == Depth::Bottom,
                inputs: &inputs,
                clock: &*self.inner.store.context.clock,
                pressed: false,
            });
            if let Some(given) = given.as_ref().filter(|_| depth != Depth::Young && write.values.takes_dictionary()) {
                write.dictionary = Some(given.clone());
            }
            Arc::new(Order { write, limits: limits.clone() })
        };
        let (bottom, deep, young) = (order(Depth::Bottom), order(Depth::Deep), order(Depth::Young));
        if let Some(given) = given {
            tuning.adopt(&options.options, given, tune::dictionary::GAIN_MIN);
        }
        Ok(Orders { young, deep, bottom })
    }

    /// Numbers and raw sizes of the tables below level 0 that are not as the orders say, and how many are.
    fn unserved(&self, orders: &Orders) -> Result<(Vec<(u64, u64)>, u64)> {
        let store = &self.inner.store;
        let view = self.family.view();
        let shape = picker::shape(&view.version, &self.family.options());
        let (mut todo, mut kept) = (Vec::new(), 0);
        for (level, file) in view.version.tables() {
            let table = store.context.tables.get_at(file, &self.family.metrics, level)?;
            if orders.is_served(shape.depth(level), &table) {
                kept += 1;
            } else if level > 0 {
                todo.push((file.number(), file.meta.raw_bytes));
            }
        }
        Ok((todo, kept))
    }
}

fn open_tables(store: &Arc<crate::store::Store>, family: &Arc<Family>, only: Option<usize>) -> Result<Vec<Arc<Table>>> {
    let view = family.view();
    let wanted = view.version.tables().filter(|(level, _)| only.is_none_or(|only| only == *level));
    wanted.map(|(level, file)| store.context.tables.get_at(file, &family.metrics, level)).collect()
}

/// What tables are to be, by depth.
struct Orders {
    young: Arc<Order>,
    deep: Arc<Order>,
    bottom: Arc<Order>,
}

impl Orders {
    fn at(&self, depth: Depth) -> &Arc<Order> {
        match depth {
            Depth::Young => &self.young,
            Depth::Deep => &self.deep,
            Depth::Bottom => &self.bottom,
        }
    }

    /// True if a table was written so.
    fn is_served(&self, depth: Depth, table: &Table) -> bool {
        self.at(depth).write.is_that_of(table.properties())
    }
}

/// Tables to write anew, taken by several threads.
struct Work {
    family: Arc<Family>,
    orders: Arc<Orders>,
    queue: Mutex<Vec<u64>>,
    outcome: Mutex<(u64, Option<Error>)>,
    limits: Arc<Limits>,
    /// Threads at work.
    running: AtomicUsize,
}

/// Counts a thread as running while it lives.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Work {
    fn outcome(&self) -> (u64, Option<Error>) {
        self.outcome.lock().clone()
    }

    /// Writes the next table anew; false if there is none, or an end is wanted.
    fn step(&self, worker: &worker::Worker) -> bool {
        if self.limits.cancelled.load(Ordering::Relaxed) || self.family.is_dropped() {
            return false;
        }
        let Some(number) = self.queue.lock().pop() else { return false };
        match worker.rewrite(&self.family, number, |plan| self.orders.at(plan.depth).clone()) {
            Ok(true) => self.outcome.lock().0 += 1,
            Ok(false) => {
                // Others are at it: it is asked for again at the end, and is gone by then more often than not.
                self.queue.lock().insert(0, number);
                worker.wait_a_little();
            }
            Err(e) if e.kind() == ErrorKind::Cancelled => return false,
            Err(e) => {
                let mut outcome = self.outcome.lock();
                outcome.1.get_or_insert(e);
                self.limits.cancelled.store(true, Ordering::Relaxed);
                return false;
            }
        }
        true
    }
}
