//! Micro benches of the parts that decide the speed of the whole.
//!
//! * `frame/encode`, `frame/decode`: a data block of 16 KiB to its stored form and back, for every
//!   codec; the figure is raw bytes a second. Decoding includes checksums and the cached form.
//! * `block/find`: a key in a decoded block, by search; `block/look_up`: by its table of rows;
//!   `block/walk`: in the stored form, which need not be decoded for it.
//! * `memtable/insert_random`, `memtable/insert_in_order`, `memtable/get`, `memtable/get_absent`, `memtable/iterate`:
//!   16-byte keys with 100-byte values, in memtables of so many entries; iterating takes one step.
//! * `cache/hit`: a block of 10,000 that are all there, by one thread and by two; and, printed before, how
//!   many of the accesses of a trace are hits: Zipf (0.99), the same with a scan of everything now and then, and
//!   uniform, with room for a tenth. Each beside `quick_cache`, a hash map with S3-FIFO.
//! * `merge/next`: one step of a merge over so many sources with interleaved keys.

#![expect(clippy::unwrap_used, reason = "a bench that fails has nothing better to do than to stop")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lignite::internals::batch::{WriteBatch, walk};
use lignite::internals::cache::{BlockCache, Shelf, Value};
use lignite::internals::checksum::hash_key;
use lignite::internals::frame::{self, Frame, FrameOptions};
use lignite::internals::iter::merge::Merge;
use lignite::internals::iter::{Cursor, VecCursor};
use lignite::internals::key::{FamilyId, Kind, Tag};
use lignite::internals::memtable::Memtable;
use lignite::internals::table::block::{Block, BlockBuilder};
use lignite::internals::table::lookup::Walk;
use lignite_bench::synthetic::{Generator, Permutation, Random};
use lignite_codecs::Codec;

const BLOCK_LEN: usize = 16 << 10;
const VALUE_LEN: usize = 100;
const SALT: u64 = 7;

criterion_group!(benches, blocks, cache, memtable, merge);
criterion_main!(benches);

fn blocks(criterion: &mut Criterion) {
    let builder = full_block();
    let mut keys = Vec::new();
    builder.encode_keys(&mut keys);
    let values = builder.values();
    let n_entries = builder.len() as u32;
    let raw_len = (keys.len() + values.len()) as u64;

    let codecs = [
        Codec::None,
        Codec::Lz4,
        Codec::Snappy,
        Codec::Zstd { level: 1 },
        Codec::Zstd { level: 3 },
        Codec::Brotli { quality: 4 },
    ];
    for codec in codecs {
        let options = FrameOptions::new(codec, 16);
        let mut stored = Vec::new();
        let trailer = frame::encode(&options, SALT, &keys, values, n_entries, None, &mut stored).unwrap();

        let mut group = criterion.benchmark_group("frame");
        group.throughput(Throughput::Bytes(raw_len));
        group.bench_function(BenchmarkId::new("encode", codec), |bencher| {
            let mut out = Vec::new();
            bencher.iter(|| {
                out.clear();
                frame::encode(&options, SALT, &keys, values, n_entries, None, &mut out).unwrap()
            });
        });
        group.bench_function(BenchmarkId::new("decode", codec), |bencher| {
            let mut scratch = Vec::new();
            bencher.iter(|| decode(black_box(&stored), trailer.keys.stored_len, &mut scratch));
        });
        group.finish();
    }

    let mut stored = Vec::new();
    let trailer = frame::encode(&FrameOptions::new(Codec::None, 16), SALT, &keys, values, n_entries, None, &mut stored);
    let block = decode(&stored, trailer.unwrap().keys.stored_len, &mut Vec::new());
    let generator = Generator::new(1, VALUE_LEN);
    let mut random = Random::new(1);
    criterion.bench_function("block/find", |bencher| {
        bencher.iter(|| {
            let key = generator.key(random.below(u64::from(n_entries)));
            block.find(black_box(&key), Tag::NEWEST)
        });
    });
    criterion.bench_function("block/look_up", |bencher| {
        bencher.iter(|| {
            let key = generator.key(random.below(u64::from(n_entries)));
            block.look_up(black_box(&key), hash_key(&key), Tag::NEWEST)
        });
    });
    let mut walk = Walk::default();
    criterion.bench_function("block/walk", |bencher| {
        bencher.iter(|| {
            let key = generator.key(random.below(u64::from(n_entries)));
            walk.find(black_box(&keys), n_entries as usize, values.len(), None, &key, Tag::NEWEST).unwrap()
        });
    });
}

fn memtable(criterion: &mut Criterion) {
    let generator = Generator::new(1, VALUE_LEN);
    let mut group = criterion.benchmark_group("memtable");
    for n in [100_000, 500_000] {
        // Every other number, so that there are absent keys between.
        let order = Permutation::new(n, 1);
        let random: Vec<Vec<u8>> = (0..n).map(|place| batch_of(&generator, 2 * order.at(place))).collect();
        let in_order: Vec<Vec<u8>> = (0..n).map(|number| batch_of(&generator, 2 * number)).collect();
        let fill = |batches: &[Vec<u8>]| {
            let memtable = Arc::new(Memtable::new(1));
            for (seq, batch) in (1..).zip(batches) {
                for entry in walk(batch) {
                    memtable.add(&entry.unwrap(), seq);
                }
            }
            memtable
        };

        group.throughput(Throughput::Elements(n)).sample_size(10);
        for (name, batches) in [("insert_random", &random), ("insert_in_order", &in_order)] {
            group.bench_function(BenchmarkId::new(name, n), |bencher| {
                bencher.iter_batched(|| (), |()| fill(batches), BatchSize::PerIteration);
            });
        }
        group.throughput(Throughput::Elements(1)).sample_size(100);
        let memtable = fill(&random);
        for (name, offset) in [("get", 0), ("get_absent", 1)] {
            let mut random = Random::new(1);
            group.bench_function(BenchmarkId::new(name, n), |bencher| {
                bencher.iter(|| memtable.get(black_box(&generator.key(2 * random.below(n) + offset)), n).is_some());
            });
        }
        let mut cursor = memtable.cursor();
        group.bench_function(BenchmarkId::new("iterate", n), |bencher| {
            bencher.iter(|| {
                if !cursor.valid() {
                    cursor.seek_to_first().unwrap();
                }
                black_box((cursor.key()[0], cursor.value()[0]));
                cursor.next().unwrap();
            });
        });
    }
    group.finish();
}

fn merge(criterion: &mut Criterion) {
    let generator = Generator::new(1, VALUE_LEN);
    let mut group = criterion.benchmark_group("merge/next");
    group.throughput(Throughput::Elements(1));
    for n_sources in [1u64, 2, 4, 8, 16] {
        let source = |source: u64| {
            let numbers = (0..10_000).map(|i| i * n_sources + source);
            let entry = |number| (generator.key(number).to_vec(), Tag::new(number + 1, Kind::Put), vec![0; VALUE_LEN]);
            VecCursor::new(numbers.map(entry).collect())
        };
        let mut merge = Merge::new((0..n_sources).map(source).collect());
        merge.seek_to_first().unwrap();
        group.bench_function(BenchmarkId::from_parameter(n_sources), |bencher| {
            bencher.iter(|| {
                if !merge.valid() {
                    merge.seek_to_first().unwrap();
                }
                black_box(merge.key());
                merge.next().unwrap();
            });
        });
    }
    group.finish();
}

/// A block of a cache, as far as that is concerned.
#[derive(Clone)]
struct Cached(Arc<[u64; 8]>);

impl Value for Cached {
    fn weight(&self) -> u64 {
        BLOCK_LEN as u64
    }
}

/// Two caches behind one face.
trait AnyCache: Sync {
    /// True for a hit.
    fn read(&self, at: usize) -> bool;
}

struct Ours(BlockCache<Cached>, Arc<Shelf<Cached>>);

impl AnyCache for Ours {
    fn read(&self, at: usize) -> bool {
        if let Some(value) = self.0.get(&self.1, at) {
            return value.0[0] == 7;
        }
        if self.0.admits(&self.1, at, BLOCK_LEN as u64) {
            self.0.insert(&self.1, at, Cached(Arc::new([7; 8])));
        }
        false
    }
}

struct Quick(quick_cache::sync::Cache<(u64, u32), Cached, QuickWeight>);

#[derive(Clone)]
struct QuickWeight;

impl quick_cache::Weighter<(u64, u32), Cached> for QuickWeight {
    fn weight(&self, _: &(u64, u32), value: &Cached) -> u64 {
        value.weight()
    }
}

impl AnyCache for Quick {
    fn read(&self, at: usize) -> bool {
        let key = (1, at as u32);
        if let Some(value) = self.0.get(&key) {
            return value.0[0] == 7;
        }
        self.0.insert(key, Cached(Arc::new([7; 8])));
        false
    }
}

fn caches(n_blocks: usize, room: usize) -> [(&'static str, Box<dyn AnyCache>); 2] {
    let capacity = (room * BLOCK_LEN) as u64;
    let ours = BlockCache::new(capacity);
    let shelf = ours.shelf(n_blocks);
    let quick = quick_cache::sync::Cache::with_weighter(room, capacity, QuickWeight);
    [("lignite", Box::new(Ours(ours, shelf))), ("quick_cache", Box::new(Quick(quick)))]
}

fn cache(criterion: &mut Criterion) {
    const N: usize = 10_000;
    // Zipf by its inverse over ranks that are spread over the blocks.
    let order = Permutation::new(N as u64, 3);
    let sums: Vec<f64> = (1..=N)
        .scan(0.0, |sum, rank| {
            *sum += (rank as f64).powf(-0.99);
            Some(*sum)
        })
        .collect();
    let zipf = |random: &mut Random| {
        let wanted = random.below(1 << 53) as f64 / (1u64 << 53) as f64 * sums[N - 1];
        order.at(sums.partition_point(|&s| s < wanted).min(N - 1) as u64) as usize
    };
    for (trace, scans, is_zipf) in [("zipf", false, true), ("zipf and scans", true, true), ("uniform", false, false)] {
        for (name, cache) in caches(N, N / 10) {
            let mut random = Random::new(9);
            let (mut hits, mut reads) = (0u64, 0u64);
            for i in 0..40 * N {
                let at = if is_zipf { zipf(&mut random) } else { random.below(N as u64) as usize };
                let is_hit = cache.read(at);
                if i > 10 * N {
                    hits += u64::from(is_hit);
                    reads += 1;
                }
                if scans && i % (4 * N) == 0 {
                    (0..N).for_each(|at| _ = cache.read(at));
                }
            }
            eprintln!("cache of a tenth, {trace}, {name}: {:.2} % hits", 100.0 * hits as f64 / reads as f64);
        }
    }

    let mut group = criterion.benchmark_group("cache/hit");
    group.throughput(Throughput::Elements(1));
    for (name, cache) in caches(N, 2 * N) {
        (0..N).for_each(|at| _ = cache.read(at));
        group.bench_function(BenchmarkId::new(name, "1 thread"), |bencher| {
            let mut random = Random::new(1);
            bencher.iter(|| cache.read(random.below(N as u64) as usize));
        });
        group.bench_function(BenchmarkId::new(name, "2 threads"), |bencher| {
            let stop = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut random = Random::new(2);
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        black_box(cache.read(random.below(N as u64) as usize));
                    }
                });
                let mut random = Random::new(1);
                bencher.iter(|| cache.read(random.below(N as u64) as usize));
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            });
        });
    }
    group.finish();
}

/// As many records as go into a block.
fn full_block() -> BlockBuilder {
    let generator = Generator::new(1, VALUE_LEN);
    let mut builder = BlockBuilder::new();
    let mut last_key = Vec::new();
    let mut value = Vec::new();
    for number in 0.. {
        let key = generator.key(number);
        generator.value_into(number, &mut value);
        let shared = last_key.iter().zip(&key).take_while(|(a, b)| a == b).count();
        if builder.is_full_for(key.len() - shared, key.len(), value.len(), BLOCK_LEN) {
            break;
        }
        builder.add(shared, &key, Tag::new(0, Kind::Put), &value);
        last_key = key.to_vec();
    }
    builder
}

fn decode(stored: &[u8], keys_stored: u32, scratch: &mut Vec<u8>) -> Block {
    let frame = Frame::open(stored, keys_stored, SALT).unwrap();
    let values_len = frame.trailer.values.raw_len as usize;
    let n_entries = frame.trailer.entries as usize;
    let keys = frame.keys(&[], None, scratch).unwrap();
    Block::decode(keys, n_entries, values_len, None, |out| frame.values_into(&[], None, out)).unwrap()
}

fn batch_of(generator: &Generator, number: u64) -> Vec<u8> {
    let mut value = Vec::new();
    generator.value_into(number, &mut value);
    let mut batch = WriteBatch::new();
    batch.put_id(FamilyId(0), &generator.key(number), &value);
    batch.into_bytes()
}
