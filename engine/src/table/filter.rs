//! Filters: which keys a table may hold.
//!
//! A filter answers for the hash of a user key ([`crate::checksum::hash_key`]): no, or maybe. Two
//! kinds, told apart by a byte:
//!
//! * **Bloom**, cache-line-blocked: all bits of a key lie in one line of 64 bytes, so a test costs
//!   one cache miss. Quick to build: for young levels.
//! * **Fuse**, binary fuse with 8-bit fingerprints: 9 bits a key for 0.4 % false positives, three
//!   misses that overlap. Needs all hashes at once and takes longer: for deep levels.
//!
//! ```text
//! kind u8 | seed u64 | keys varint |
//!   bloom (1): probes u8 | lines varint | lines x 64 bytes
//!   fuse (2):  segment length varint | segments varint | (segments + 2) x segment length bytes
//! ```

use crate::coding::{Input, put_u64, put_varint};
use crate::error::{Error, Result};
use crate::sabotage::{self, Bug};

const KIND_BLOOM: u8 = 1;
const KIND_FUSE: u8 = 2;
/// How many seeds a fuse filter tries before the builder falls back to Bloom.
const FUSE_SEEDS: u64 = 10;
const FUSE_SEGMENT_LEN_MAX: usize = 1 << 18;
const PROBES_MAX: u8 = 30;

/// How to build a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFilter {
    /// No filter.
    None,
    /// Cache-line-blocked Bloom.
    Bloom {
        /// Bits a key, 1 to 64.
        bits: u8,
    },
    /// Binary fuse with 8-bit fingerprints.
    Fuse8,
}

impl std::fmt::Display for TableFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TableFilter::None => f.write_str("none"),
            TableFilter::Bloom { bits } => write!(f, "bloom:{bits}"),
            TableFilter::Fuse8 => f.write_str("fuse8"),
        }
    }
}

/// Appends a filter for these hashes, which are sorted and freed of duplicates on the way. Returns
/// what was built: a fuse filter that no seed makes work becomes Bloom.
pub fn build(filter: TableFilter, hashes: &mut Vec<u64>, out: &mut Vec<u8>) -> TableFilter {
    match filter {
        TableFilter::None => TableFilter::None,
        TableFilter::Bloom { bits } => {
            build_bloom(hashes, bits, out);
            filter
        }
        TableFilter::Fuse8 => {
            hashes.sort_unstable();
            hashes.dedup();
            if build_fuse(hashes, out) {
                return TableFilter::Fuse8;
            }
            build_bloom(hashes, 10, out);
            TableFilter::Bloom { bits: 10 }
        }
    }
}

/// A filter in memory.
pub struct Filter(Form);

enum Form {
    Bloom { lines: Box<[Line]>, probes: u8 },
    Fuse { shape: Fuse, seed: u64, fingerprints: Box<[u8]> },
}

/// One cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u64; 8]);

impl Filter {
    /// Reads what [`build`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Filter> {
        let mut input = Input::new(bytes);
        let kind = input.u8()?;
        let seed = input.u64()?;
        let _keys = input.varint()?;
        match kind {
            KIND_BLOOM => decode_bloom(input),
            KIND_FUSE => decode_fuse(input, seed),
            _ => Err(Error::unsupported(format!("filter kind {kind} is not supported by this version"))),
        }
    }

    /// False if no key with this hash was added.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        if sabotage::is(Bug::FilterDenies) && hash & 0xff == 7 {
            return false;
        }
        match &self.0 {
            Form::Bloom { lines, probes } => {
                let line = &lines[bloom_line(hash, lines.len())];
                bloom_bits(hash, *probes).all(|bit| line.0[bit >> 6] >> (bit & 63) & 1 == 1)
            }
            Form::Fuse { shape, seed, fingerprints } => {
                let mixed = mix(hash, *seed);
                let [a, b, c] = shape.slots(mixed);
                fingerprint(mixed) == fingerprints[a] ^ fingerprints[b] ^ fingerprints[c]
            }
        }
    }

    /// Bytes of memory.
    pub fn memory_size(&self) -> usize {
        match &self.0 {
            Form::Bloom { lines, .. } => lines.len() * 64,
            Form::Fuse { fingerprints, .. } => fingerprints.len(),
        }
    }

    /// The name of the kind.
    pub fn kind_name(&self) -> &'static str {
        match &self.0 {
            Form::Bloom { .. } => "bloom",
            Form::Fuse { .. } => "fuse8",
        }
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({}, {} bytes)", self.kind_name(), self.memory_size())
    }
}

/// The upper half of the hash picks the line.
#[inline]
fn bloom_line(hash: u64, lines: usize) -> usize {
    (((hash >> 32) * lines as u64) >> 32) as usize
}

/// The lower half picks bits: nine from the top, then a multiplication stirs it.
#[inline]
fn bloom_bits(hash: u64, probes: u8) -> impl Iterator<Item = usize> {
    let mut h = hash as u32;
    (0..probes).map(move |_| {
        let bit = (h >> 23) as usize;
        h = h.wrapping_mul(0x9e37_79b9);
        bit
    })
}

fn build_bloom(hashes: &[u64], bits: u8, out: &mut Vec<u8>) {
    let lines = (hashes.len() * usize::from(bits)).div_ceil(512).max(1);
    // Lines fill unevenly, so fewer probes than the ln 2 of an unblocked filter are best.
    let probes = (u32::from(bits) * 6 / 10).clamp(1, u32::from(PROBES_MAX)) as u8;
    let mut words = vec![0u64; lines * 8];
    for &hash in hashes {
        let line = bloom_line(hash, lines) * 8;
        for bit in bloom_bits(hash, probes) {
            words[line + (bit >> 6)] |= 1 << (bit & 63);
        }
    }
    out.push(KIND_BLOOM);
    put_u64(out, 0);
    put_varint(out, hashes.len() as u64);
    out.push(probes);
    put_varint(out, lines as u64);
    out.reserve(lines * 64);
    words.iter().for_each(|w| out.extend_from_slice(&w.to_le_bytes()));
}

fn decode_bloom(mut input: Input<'_>) -> Result<Filter> {
    let probes = input.u8()?;
    let lines = input.length(input.remaining() / 64)?;
    if probes == 0 || probes > PROBES_MAX || lines == 0 || lines > u32::MAX as usize {
        return Err(Error::corruption(format!("a filter has {lines} lines and {probes} probes")));
    }
    let bytes = input.take(lines * 64)?;
    input.finish()?;
    let line = |chunk: &[u8; 64]| {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(chunk.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Line(words)
    };
    Ok(Filter(Form::Bloom { lines: bytes.as_chunks::<64>().0.iter().map(line).collect(), probes }))
}

/// The shape of a binary fuse filter (Graf and Lemire 2022): a key has one slot in each of three
/// neighbouring segments, so that peeling moves through the array like a fuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fuse {
    /// A power of two.
    segment_len: usize,
    /// Segments in which a key's first slot may lie.
    segments: usize,
}

impl Fuse {
    fn for_keys(n: usize) -> Fuse {
        let size = n.max(2) as f64;
        let exponent = (size.ln() / 3.33f64.ln() + 2.25).floor() as u32;
        let segment_len = (1usize << exponent.min(18)).min(FUSE_SEGMENT_LEN_MAX);
        let factor = (0.875 + 0.25 * 1_000_000f64.ln() / size.ln()).max(1.125);
        let slots = (size * factor).round() as usize;
        Fuse { segment_len, segments: slots.div_ceil(segment_len).saturating_sub(2).max(1) }
    }

    fn slots_len(self) -> usize {
        (self.segments + 2) * self.segment_len
    }

    #[inline]
    fn slots(self, mixed: u64) -> [usize; 3] {
        let span = (self.segments * self.segment_len) as u64;
        let first = ((u128::from(mixed) * u128::from(span)) >> 64) as usize;
        let mask = self.segment_len - 1;
        let second = (first + self.segment_len) ^ ((mixed >> 18) as usize & mask);
        let third = (first + 2 * self.segment_len) ^ (mixed as usize & mask);
        [first, second, third]
    }
}

#[inline]
fn mix(hash: u64, seed: u64) -> u64 {
    let mut h = hash.wrapping_add(seed);
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ h >> 33
}

#[inline]
fn fingerprint(mixed: u64) -> u8 {
    (mixed ^ mixed >> 32) as u8
}

/// `hashes` has no duplicates. False, with `out` as it was, if no seed works.
fn build_fuse(hashes: &[u64], out: &mut Vec<u8>) -> bool {
    let shape = Fuse::for_keys(hashes.len());
    for attempt in 1..=FUSE_SEEDS {
        let seed = attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if let Some(fingerprints) = peel(hashes, shape, seed) {
            out.push(KIND_FUSE);
            put_u64(out, seed);
            put_varint(out, hashes.len() as u64);
            put_varint(out, shape.segment_len as u64);
            put_varint(out, shape.segments as u64);
            out.extend_from_slice(&fingerprints);
            return true;
        }
    }
    false
}

fn peel(hashes: &[u64], shape: Fuse, seed: u64) -> Option<Vec<u8>> {
    // In the order of the mixed hashes, which is the order of their first slots: neighbours in time
    // are neighbours in memory.
    let mut mixed: Vec<u64> = hashes.iter().map(|&h| mix(h, seed)).collect();
    mixed.sort_unstable();
    // Per slot, how many keys lie there and the sum (xor) of them: a slot with one key names it.
    let mut slots = vec![(0u32, 0u64); shape.slots_len()];
    for &m in &mixed {
        for s in shape.slots(m) {
            slots[s].0 += 1;
            slots[s].1 ^= m;
        }
    }
    let mut lonely: Vec<u32> = (0..slots.len() as u32).filter(|&s| slots[s as usize].0 == 1).collect();
    let mut order = Vec::with_capacity(mixed.len());
    while let Some(slot) = lonely.pop() {
        let (count, m) = slots[slot as usize];
        if count != 1 {
            continue;
        }
        order.push((m, slot));
        for s in shape.slots(m) {
            slots[s].0 -= 1;
            slots[s].1 ^= m;
            if slots[s].0 == 1 {
                lonely.push(s as u32);
            }
        }
    }
    if order.len() < mixed.len() {
        return None;
    }
    let mut fingerprints = vec![0u8; shape.slots_len()];
    for &(m, slot) in order.iter().rev() {
        let [a, b, c] = shape.slots(m);
        // The slot itself is still zero.
        fingerprints[slot as usize] = fingerprint(m) ^ fingerprints[a] ^ fingerprints[b] ^ fingerprints[c];
    }
    Some(fingerprints)
}

fn decode_fuse(mut input: Input<'_>, seed: u64) -> Result<Filter> {
    let segment_len = input.length(FUSE_SEGMENT_LEN_MAX)?;
    let segments = input.length(input.remaining())?;
    if !segment_len.is_power_of_two() || segments == 0 {
        return Err(Error::corruption(format!("a filter has {segments} segments of {segment_len} bytes")));
    }
    let shape = Fuse { segment_len, segments };
    let fingerprints: Box<[u8]> = input.take(shape.slots_len())?.into();
    input.finish()?;
    Ok(Filter(Form::Fuse { shape, seed, fingerprints }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::checksum::hash_key;

    fn hashes(from: u64, n: u64) -> Vec<u64> {
        (from..from + n).map(|i| hash_key(&i.to_le_bytes())).collect()
    }

    fn make(kind: TableFilter, mut keys: Vec<u64>) -> (Filter, TableFilter, usize) {
        let mut out = Vec::new();
        let built = build(kind, &mut keys, &mut out);
        (Filter::decode(&out).unwrap(), built, out.len())
    }

    fn false_positives(filter: &Filter, trials: u64) -> f64 {
        let hits = hashes(1 << 40, trials).into_iter().filter(|&h| filter.may_contain(h)).count();
        hits as f64 / trials as f64
    }

    #[test]
    fn no_key_is_denied_and_few_strangers_pass() {
        for (kind, bound) in [(TableFilter::Bloom { bits: 10 }, 0.015), (TableFilter::Fuse8, 0.006)] {
            for n in [1_000, 30_000] {
                let keys = hashes(0, n);
                let (filter, built, size) = make(kind, keys.clone());
                assert_eq!(built, kind);
                assert!(keys.iter().all(|&h| filter.may_contain(h)));
                let rate = false_positives(&filter, 100_000);
                assert!(rate < bound, "{kind} with {n} keys: {rate}");
                let bits = size as f64 * 8.0 / n as f64;
                assert!(bits < 14.0, "{kind} with {n} keys: {bits} bits a key");
            }
        }
    }

    #[test]
    fn tiny_sets_and_duplicates() {
        for kind in [TableFilter::Bloom { bits: 10 }, TableFilter::Fuse8] {
            for n in 0..40 {
                let mut keys = hashes(0, n);
                keys.extend(hashes(0, n));
                keys.extend(hashes(0, n / 2));
                let (filter, built, _) = make(kind, keys.clone());
                assert_eq!(built, kind, "{n} keys");
                assert!(keys.iter().all(|&h| filter.may_contain(h)));
                assert!(false_positives(&filter, 2000) < 0.05);
            }
        }
    }

    #[test]
    fn no_filter_is_no_bytes() {
        let mut out = Vec::new();
        assert_eq!(build(TableFilter::None, &mut hashes(0, 9), &mut out), TableFilter::None);
        assert!(out.is_empty());
    }

    #[test]
    fn hostile_filters_are_refused() {
        for kind in [TableFilter::Bloom { bits: 10 }, TableFilter::Fuse8] {
            let mut good = Vec::new();
            build(kind, &mut hashes(0, 100), &mut good);
            for n in 0..good.len() {
                assert!(Filter::decode(&good[..n]).is_err());
            }
            for at in 0..20 {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[at] ^= 1 << bit;
                    if let Ok(filter) = Filter::decode(&bad) {
                        let _ = false_positives(&filter, 100);
                    }
                }
            }
        }
        assert_eq!(Filter::decode(&[9; 30]).unwrap_err().kind(), crate::error::ErrorKind::Unsupported);
    }
}
