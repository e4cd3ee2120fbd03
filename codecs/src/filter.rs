//! Filters: what bytes may pass through before their codec, and back through after it.
//!
//! The byte transpose is for rows of fixed width. Rows of numbers resemble each other byte by
//! byte and hardly ever in four bytes at a stretch; laid out by columns, their sign and exponent
//! bytes become runs.
//!
//! ```text
//! before  a0 a1 a2 | b0 b1 b2 | c0 c1 c2 | d0       rows of the width, and a tail
//! after   a0 b0 c0 | a1 b1 c1 | a2 b2 c2 | d0       columns, and the tail
//! ```
//!
//! The delta is for rows that are one integer each and grow or fall slowly (times, counters, offsets): each becomes
//! its difference to the one before, as a zigzag number, and these are laid out by columns. Measured under
//! Zstandard 3 it takes 0.71 of what the transpose takes for times in milliseconds, 0.22 for counters, 0.10 for
//! offsets, and more than it for the floats of `flights` (1.16) and the digests of `digests` (1.01): so it
//! is tried only where nearly all steps go one way.
//!
//! A filter changes neither length nor any order that a decoder must know: it is right for every
//! content, and of use where [`Filter::probe`] says so.

use std::cell::Cell;

use crate::codec::{self, Codec};
use crate::dict::Dictionary;
use crate::error::CodecError;
use crate::scratch::{self, Slot};

/// The id of the byte transpose, as files hold it; 0 is none.
const TRANSPOSE: u8 = 1;
/// Those of the delta, by the order of the integers' bytes.
const DELTA_LITTLE: u8 = 2;
const DELTA_BIG: u8 = 3;
/// The longest integer that has differences.
const INTEGER_LEN_MAX: usize = 8;
/// Differences are tried where so many of a hundred steps go one way.
const ONE_WAY_PERCENT: usize = 90;
/// The smallest width of a row, and the greatest.
const WIDTH_MIN: usize = 2;
const WIDTH_MAX: usize = u8::MAX as usize;
/// The fewest rows for which a width is worth a thought.
const ROWS_MIN: usize = 16;

/// The most of a block that the search for a width looks at.
const SAMPLE_LEN: usize = 2048;
/// A width is tried if so many percent more bytes than usual are what they were one row before.
const LIKENESS_PERCENT: usize = 125;
/// A filter is of use if it saves so many percent.
const GAIN_PERCENT: usize = 3;
/// The same under codecs that decode so fast that undoing the filter costs several times as much: measured on
/// `digests`, 1.4 GB/s instead of 6 under LZ4 for 7 % less size, which is no bargain.
const GAIN_PERCENT_FAST: usize = 10;

/// The longest buffer that a thread keeps for its next block.
const KEPT_LEN_MAX: usize = 1 << 20;

thread_local! {
    static FILTERED: Slot<Vec<u8>> = const { Cell::new(None) };
}

/// A reversible transform of a block's bytes.
///
/// ```
/// use lignite_codecs::{Codec, Filter, compress_filtered, decompress_filtered};
///
/// // Prices that wander, as little-endian numbers of 8 bytes.
/// let prices: Vec<u8> = (0..500u64).flat_map(|i| (40_000 + i * i % 997).to_le_bytes()).collect();
/// let codec = Codec::Lz4;
/// let filter = Filter::probe(codec, &prices, None)?.expect("columns are smaller");
///
/// let (mut plain, mut filtered) = (Vec::new(), Vec::new());
/// compress_filtered(codec, None, &prices, None, &mut plain)?;
/// compress_filtered(codec, Some(filter), &prices, None, &mut filtered)?;
/// assert!(filtered.len() < plain.len() * 3 / 4);
///
/// let mut back = vec![0; prices.len()];
/// decompress_filtered(codec.id(), Some(filter), &filtered, &mut back, None)?;
/// assert_eq!(back, prices);
/// # Ok::<(), lignite_codecs::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Filter {
    /// Rows of `width` bytes are laid out by columns; what is left over at the end stays.
    Transpose {
        /// From 2 to 255.
        width: u8,
    },
    /// Rows of `width` bytes are integers, stored as zigzag differences to the one before, by columns; what is left
    /// over at the end stays.
    Delta {
        /// From 2 to 8.
        width: u8,
        /// True if the last byte is the lowest, as in keys that sort.
        big_endian: bool,
    },
}

impl Filter {
    /// The id and the parameter that files hold; no filter is `(0, 0)`.
    pub fn to_bytes(filter: Option<Filter>) -> [u8; 2] {
        match filter {
            None => [0, 0],
            Some(Filter::Transpose { width }) => [TRANSPOSE, width],
            Some(Filter::Delta { width, big_endian: false }) => [DELTA_LITTLE, width],
            Some(Filter::Delta { width, big_endian: true }) => [DELTA_BIG, width],
        }
    }

    /// What [`to_bytes`](Filter::to_bytes) wrote. Fails if the id is not known to this version, or if the
    /// filter has no such parameter.
    pub fn from_bytes(bytes: [u8; 2]) -> Result<Option<Filter>, CodecError> {
        match bytes {
            [0, 0] => Ok(None),
            [TRANSPOSE, width] if usize::from(width) >= WIDTH_MIN => Ok(Some(Filter::Transpose { width })),
            [id @ (DELTA_LITTLE | DELTA_BIG), width] if (WIDTH_MIN..=INTEGER_LEN_MAX).contains(&usize::from(width)) => {
                Ok(Some(Filter::Delta { width, big_endian: id == DELTA_BIG }))
            }
            [0 | TRANSPOSE | DELTA_LITTLE | DELTA_BIG, parameter] => {
                Err(CodecError::malformed("filter", format!("filter {} has no parameter {parameter}", bytes[0])))
            }
            [id, _] => Err(CodecError::UnknownFilter(id)),
        }
    }

    /// The width of a row. What no file and no probe has is taken for the nearest that is one, so that nothing fails.
    fn width(self) -> usize {
        match self {
            Filter::Transpose { width } => usize::from(width).max(1),
            Filter::Delta { width, .. } => usize::from(width).clamp(WIDTH_MIN, INTEGER_LEN_MAX),
        }
    }

    /// Writes `src` filtered into `dst`, which is as long, at some GB/s.
    pub fn apply(self, src: &[u8], dst: &mut [u8]) {
        let width = self.width();
        let (rows, rest) = split(src, width);
        let (columns, tail) = dst.split_at_mut(rows.len());
        tail.copy_from_slice(rest);
        match self {
            Filter::Transpose { .. } => transpose(rows, rows.len() / width, width, columns),
            Filter::Delta { big_endian, .. } => with_width(width, Differences { rows, columns, big_endian }),
        }
    }

    /// Undoes [`apply`](Filter::apply).
    pub fn revert(self, src: &[u8], dst: &mut [u8]) {
        let width = self.width();
        let (columns, rest) = split(src, width);
        let (rows, tail) = dst.split_at_mut(columns.len());
        tail.copy_from_slice(rest);
        transpose(columns, width, columns.len() / width, rows);
        if let Filter::Delta { big_endian, .. } = self {
            with_width(width, Sums { rows, big_endian });
        }
    }

    /// Appends the bytes of `range` of what [`revert`](Filter::revert) makes of `src`, without making the rest. By columns
    /// that costs what the range is long; of a delta everything before it is summed up.
    ///
    /// # Panics
    /// If the range does not lie in `src`.
    pub fn revert_range(self, src: &[u8], range: std::ops::Range<usize>, out: &mut Vec<u8>) {
        assert!(range.start <= range.end && range.end <= src.len(), "a range of a block lies in it");
        let width = self.width();
        let (columns, rest) = split(src, width);
        let in_rows = range.start.min(columns.len())..range.end.min(columns.len());
        let n = columns.len() / width;
        match self {
            Filter::Transpose { .. } if !in_rows.is_empty() => {
                let (mut row, mut column) = (in_rows.start / width, in_rows.start % width);
                out.extend(in_rows.clone().map(|_| {
                    let byte = columns[column * n + row];
                    column += 1;
                    if column == width {
                        (row, column) = (row + 1, 0);
                    }
                    byte
                }));
            }
            Filter::Delta { big_endian, .. } if !in_rows.is_empty() => {
                with_width(width, SumsOfRange { columns, range: in_rows.clone(), out, big_endian });
            }
            _ => {}
        }
        let behind = |at: usize| at.saturating_sub(columns.len());
        out.extend_from_slice(&rest[behind(range.start)..behind(range.end)]);
    }

    /// The filter with which `codec` makes the block smaller by 3 % at least, by 10 % under LZ4 and Snappy,
    /// whose decoding it slows down most; none if there is none.
    ///
    /// Costs about 15 us where no width suggests itself (text, noise), and where one does up to five
    /// compressions of the block. For a block now and then, not for every one.
    pub fn probe(codec: Codec, src: &[u8], dictionary: Option<&Dictionary>) -> Result<Option<Filter>, CodecError> {
        let widths = likely_widths(src);
        if codec == Codec::None || widths.iter().all(Option::is_none) {
            return Ok(None);
        }
        let mut out = Vec::new();
        codec::compress(codec, src, dictionary, &mut out)?;
        let gain = match codec {
            Codec::Lz4 | Codec::Lz4hc { .. } | Codec::Snappy => GAIN_PERCENT_FAST,
            _ => GAIN_PERCENT,
        };
        let (mut best, mut limit) = (None, out.len() * (100 - gain) / 100);
        let candidates = widths
            .into_iter()
            .flatten()
            .flat_map(|width| [Some(Filter::Transpose { width }), likely_delta(src, width)].into_iter().flatten());
        for filter in candidates {
            out.clear();
            compress_filtered(codec, Some(filter), src, dictionary, &mut out)?;
            // Summing up is slower than a transpose alone.
            let slower = matches!((filter, best), (Filter::Delta { .. }, Some(Filter::Transpose { .. })));
            let margin = if slower { limit * GAIN_PERCENT / 100 } else { 0 };
            if out.len() <= limit - margin {
                (best, limit) = (Some(filter), out.len().saturating_sub(1));
            }
        }
        Ok(best)
    }
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Filter::Transpose { width } => write!(f, "transpose:{width}"),
            Filter::Delta { width, big_endian: false } => write!(f, "delta:{width}"),
            Filter::Delta { width, big_endian: true } => write!(f, "delta-be:{width}"),
        }
    }
}

/// Runs `run` on `src` as its codec is to see it: filtered, if there is a filter.
pub fn filtered<T>(
    filter: Option<Filter>,
    src: &[u8],
    run: impl FnOnce(&[u8]) -> Result<T, CodecError>,
) -> Result<T, CodecError> {
    let Some(filter) = filter else { return run(src) };
    with_buffer(src.len(), |buffer| {
        filter.apply(src, buffer);
        run(buffer)
    })
}

/// Lets `run` fill `dst` with what comes out of a codec, and puts that back through the filter. If `run` fails, `dst` is
/// zeroed.
pub fn unfiltered(
    filter: Option<Filter>,
    dst: &mut [u8],
    run: impl FnOnce(&mut [u8]) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    let result = match filter {
        None => run(dst),
        Some(filter) => with_buffer(dst.len(), |buffer| {
            run(buffer)?;
            filter.revert(buffer, dst);
            Ok(())
        }),
    };
    if result.is_err() {
        dst.fill(0);
    }
    result
}

/// As [`compress`](crate::compress), with `src` filtered first.
pub fn compress_filtered(
    codec: Codec,
    filter: Option<Filter>,
    src: &[u8],
    dictionary: Option<&Dictionary>,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    filtered(filter, src, |bytes| codec::compress(codec, bytes, dictionary, out))
}

/// As [`decompress`](crate::decompress), with what comes out put back through the filter.
pub fn decompress_filtered(
    id: u8,
    filter: Option<Filter>,
    src: &[u8],
    dst: &mut [u8],
    dictionary: Option<&Dictionary>,
) -> Result<(), CodecError> {
    unfiltered(filter, dst, |bytes| codec::decompress(id, src, bytes, dictionary))
}

/// Lends a buffer of `len` bytes with any content, kept by the thread.
fn with_buffer<T>(len: usize, run: impl FnOnce(&mut [u8]) -> Result<T, CodecError>) -> Result<T, CodecError> {
    if len > codec::BLOCK_LEN_MAX {
        return Err(CodecError::TooLarge { len, max: codec::BLOCK_LEN_MAX });
    }
    let mut buffer = scratch::take(&FILTERED).unwrap_or_default();
    if buffer.len() < len {
        let missing = len - buffer.len();
        buffer.try_reserve(missing).map_err(|_| CodecError::out_of_memory(missing))?;
        buffer.resize(len, 0);
    }
    let result = run(&mut buffer[..len]);
    if buffer.len() <= KEPT_LEN_MAX {
        scratch::keep(&FILTERED, buffer);
    }
    result
}

/// Whole rows, and what is left over.
fn split(bytes: &[u8], width: usize) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.len() - bytes.len() % width)
}

/// A loop over rows of a width that the compiler knows.
trait OfWidth {
    fn run<const N: usize>(self);
}

/// `width` is from 2 to 8.
fn with_width(width: usize, work: impl OfWidth) {
    match width {
        2 => work.run::<2>(),
        3 => work.run::<3>(),
        4 => work.run::<4>(),
        5 => work.run::<5>(),
        6 => work.run::<6>(),
        7 => work.run::<7>(),
        _ => work.run::<8>(),
    }
}

/// An integer of `N` bytes.
#[inline(always)]
fn integer<const N: usize>(bytes: [u8; N], big_endian: bool) -> u64 {
    let mut wide = [0; 8];
    if big_endian {
        wide[8 - N..].copy_from_slice(&bytes);
        return u64::from_be_bytes(wide);
    }
    wide[..N].copy_from_slice(&bytes);
    u64::from_le_bytes(wide)
}

#[inline(always)]
fn bytes_of<const N: usize>(integer: u64, big_endian: bool) -> [u8; N] {
    let mut bytes = [0; N];
    match big_endian {
        true => bytes.copy_from_slice(&integer.to_be_bytes()[8 - N..]),
        false => bytes.copy_from_slice(&integer.to_le_bytes()[..N]),
    }
    bytes
}

/// Writes differences of rows by columns.
struct Differences<'a> {
    rows: &'a [u8],
    columns: &'a mut [u8],
    big_endian: bool,
}

impl OfWidth for Differences<'_> {
    fn run<const N: usize>(self) {
        let rows = self.rows.as_chunks::<N>().0;
        let mut before = 0;
        for (i, row) in rows.iter().enumerate() {
            let now = integer(*row, self.big_endian);
            // What is above the width falls away; the sign is that of the width.
            let shift = 64 - 8 * N as u32;
            let difference = (now.wrapping_sub(before) << shift) as i64 >> shift;
            let zigzag = (difference << 1 ^ difference >> 63) as u64;
            for (c, byte) in bytes_of::<N>(zigzag, false).into_iter().enumerate() {
                self.columns[c * rows.len() + i] = byte;
            }
            before = now;
        }
    }
}

/// Makes rows of zigzag differences what they were.
struct Sums<'a> {
    rows: &'a mut [u8],
    big_endian: bool,
}

impl OfWidth for Sums<'_> {
    fn run<const N: usize>(self) {
        let mut now = 0u64;
        for row in self.rows.as_chunks_mut::<N>().0 {
            let zigzag = integer(*row, false);
            now = now.wrapping_add(zigzag >> 1 ^ (zigzag & 1).wrapping_neg());
            *row = bytes_of(now, self.big_endian);
        }
    }
}

/// Appends some bytes of the rows that differences by columns stand for.
struct SumsOfRange<'a> {
    columns: &'a [u8],
    range: std::ops::Range<usize>,
    out: &'a mut Vec<u8>,
    big_endian: bool,
}

impl OfWidth for SumsOfRange<'_> {
    fn run<const N: usize>(self) {
        let n = self.columns.len() / N;
        let mut now = 0u64;
        for row in 0..self.range.end.div_ceil(N) {
            let zigzag = (0..N).rev().fold(0, |all, c| all << 8 | u64::from(self.columns[c * n + row]));
            now = now.wrapping_add(zigzag >> 1 ^ (zigzag & 1).wrapping_neg());
            let from = self.range.start.saturating_sub(row * N);
            if from < N {
                let to = (self.range.end - row * N).min(N);
                self.out.extend_from_slice(&bytes_of::<N>(now, self.big_endian)[from..to]);
            }
        }
    }
}

/// The delta of a width, if nearly all steps go one way: of the two orders of bytes that in which more do.
fn likely_delta(src: &[u8], width: u8) -> Option<Filter> {
    let w = usize::from(width);
    if w > INTEGER_LEN_MAX {
        return None;
    }
    let len = src.len().min(SAMPLE_LEN) / w * w;
    let sample = &src[(src.len() - len) / 2 / w * w..][..len];
    let (mut ups, mut n_steps) = ([0; 2], 0);
    let mut before: Option<[u64; 2]> = None;
    for row in sample.chunks_exact(w) {
        let big = row.iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
        let little = row.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
        if let Some(before) = before {
            n_steps += 1;
            ups[0] += usize::from(little >= before[0]);
            ups[1] += usize::from(big >= before[1]);
        }
        before = Some([little, big]);
    }
    let one_way = ups.map(|ups| ups.max(n_steps - ups));
    let big_endian = one_way[1] > one_way[0];
    let most = one_way[usize::from(big_endian)];
    (n_steps > 0 && most * 100 >= n_steps * ONE_WAY_PERCENT).then_some(Filter::Delta { width, big_endian })
}

/// Lays out `rows` rows of `columns` bytes each as `columns` rows of `rows` bytes.
fn transpose(src: &[u8], rows: usize, columns: usize, dst: &mut [u8]) {
    debug_assert!(src.len() == rows * columns && dst.len() == src.len());
    if rows < TILE || columns < TILE {
        // A number that the compiler knows makes a loop of few turns into none.
        return match (rows, columns) {
            (2, _) => transpose_bytewise(src, 2, columns, dst),
            (3, TILE..) => interleave::<3>(src, columns, dst),
            (4, TILE..) => interleave::<4>(src, columns, dst),
            (5, TILE..) => interleave::<5>(src, columns, dst),
            (6, TILE..) => interleave::<6>(src, columns, dst),
            (7, TILE..) => interleave::<7>(src, columns, dst),
            (_, 2) => transpose_bytewise(src, rows, 2, dst),
            (_, 3) => transpose_bytewise(src, rows, 3, dst),
            (_, 4) => transpose_bytewise(src, rows, 4, dst),
            _ => transpose_bytewise(src, rows, columns, dst),
        };
    }
    // The last tile of a row or column lies over the one before, as far as it must to fit.
    for row in (0..rows).step_by(TILE).map(|row| row.min(rows - TILE)) {
        for column in (0..columns).step_by(TILE).map(|column| column.min(columns - TILE)) {
            let mut tile = [0; TILE];
            for (i, line) in tile.iter_mut().enumerate() {
                let at = (row + i) * columns + column;
                *line = u64::from_le_bytes(src[at..at + TILE].first_chunk().copied().unwrap_or_default());
            }
            transpose_tile(&mut tile);
            for (i, line) in tile.iter().enumerate() {
                let at = (column + i) * rows + row;
                dst[at..at + TILE].copy_from_slice(&line.to_le_bytes());
            }
        }
    }
}

const TILE: usize = 8;

/// Transposes 8 x 8 bytes: quarters, then quarters of quarters, then bytes change places.
fn transpose_tile(tile: &mut [u64; TILE]) {
    for (distance, mask) in [(4, 0x0000_0000_ffff_ffff), (2, 0x0000_ffff_0000_ffff), (1, 0x00ff_00ff_00ff_00ff)] {
        let bits = distance as u32 * 8;
        for i in (0..TILE).filter(|i| i & distance == 0) {
            let change = (tile[i] >> bits ^ tile[i + distance]) & mask;
            tile[i + distance] ^= change;
            tile[i] ^= change << bits;
        }
    }
}

/// Of `N` rows, fewer than a tile has, and at least as many columns.
fn interleave<const N: usize>(src: &[u8], columns: usize, dst: &mut [u8]) {
    for column in (0..columns).step_by(TILE).map(|column| column.min(columns - TILE)) {
        let mut tile = [0; TILE];
        for (row, line) in tile.iter_mut().enumerate().take(N) {
            let at = row * columns + column;
            *line = u64::from_le_bytes(src[at..at + TILE].first_chunk().copied().unwrap_or_default());
        }
        transpose_tile(&mut tile);
        for (to, line) in dst[column * N..(column + TILE) * N].as_chunks_mut::<N>().0.iter_mut().zip(tile) {
            to.copy_from_slice(&line.to_le_bytes()[..N]);
        }
    }
}

/// Writes along the columns, which is what the few rows or columns are that no tile fits into.
#[inline(always)]
fn transpose_bytewise(src: &[u8], rows: usize, columns: usize, dst: &mut [u8]) {
    for (column, to) in dst.chunks_exact_mut(rows.max(1)).enumerate() {
        let from = src.get(column..).unwrap_or_default().iter().step_by(columns.max(1));
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }
}

/// The two widths, the smaller ones of equals, at which most bytes are what they were one row before; none
/// that hardly differs from the usual width.
fn likely_widths(src: &[u8]) -> [Option<u8>; 2] {
    let len = src.len().min(SAMPLE_LEN);
    // From the middle: the first rows of a block may be of another kind.
    let sample = &src[(src.len() - len) / 2..][..len];
    let width_max = WIDTH_MAX.min(src.len() / ROWS_MIN).min(len / 2);
    if width_max < WIDTH_MIN {
        return [None; 2];
    }
    let likeness: Vec<usize> = (WIDTH_MIN..=width_max)
        .map(|width| {
            let (later, earlier) = (&sample[width_max..], &sample[width_max - width..]);
            // In pieces whose count fits a byte, which the compiler makes wide instructions of.
            let pieces = later.chunks(128).zip(earlier.chunks(128));
            let same = |(a, b): (&[u8], &[u8])| a.iter().zip(b).map(|(a, b)| u8::from(a == b)).sum::<u8>();
            pieces.map(|piece| usize::from(same(piece))).sum()
        })
        .collect();
    let usual = {
        let mut sorted = likeness.clone();
        let middle = sorted.len() / 2;
        *sorted.select_nth_unstable(middle).1
    };
    let best = |not_of: Option<usize>| {
        let apart = |width: &usize| not_of.is_none_or(|other| !width.is_multiple_of(other));
        let widths = || (WIDTH_MIN..=width_max).filter(apart);
        let most = widths().map(|width| likeness[width - WIDTH_MIN]).max()?;
        if most * 100 <= usual * LIKENESS_PERCENT || most * 50 < len - width_max {
            return None;
        }
        widths().find(|width| likeness[width - WIDTH_MIN] * 100 >= most * 95)
    };
    let first = best(None);
    let second = first.and_then(|width| best(Some(width)));
    [first, second].map(|width| width.and_then(|width| u8::try_from(width).ok()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ len as u64;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .take(len)
        .collect()
    }

    #[test]
    fn every_width_and_tail_is_as_by_bytes_and_back() {
        for width in 2..=255u8 {
            let w = usize::from(width);
            for len in [0, 1, w - 1, w, w + 1, 2 * w, 3 * w + 1, 7 * w, 8 * w, 9 * w - 1, 16 * w + 5, 53 * w + w / 2] {
                let src = noise(len);
                let filter = Filter::Transpose { width };
                let (mut there, mut back) = (vec![0; len], vec![0; len]);
                filter.apply(&src, &mut there);
                let n = len / w;
                let mut plain = src.clone();
                transpose_bytewise(&src[..n * w], n, w, &mut plain[..n * w]);
                assert_eq!(there, plain, "width {width}, {len} bytes");
                filter.revert(&there, &mut back);
                assert_eq!(back, src, "width {width}, {len} bytes");
            }
        }
    }

    #[test]
    fn every_delta_is_as_by_numbers_and_back() {
        for width in 2..=8u8 {
            let w = usize::from(width);
            for (len, big_endian) in
                [0, 1, w, w + 1, 3 * w + 1, 17 * w, 1000 * w + w - 1].map(|n| [(n, false), (n, true)]).concat()
            {
                let mut src = noise(len);
                // The greatest steps there are.
                src.chunks_mut(w).step_by(3).for_each(|row| row.fill(0xff));
                src.chunks_mut(w).step_by(4).for_each(|row| row.fill(0));
                let filter = Filter::Delta { width, big_endian };
                let (mut there, mut back) = (vec![0; len], vec![0; len]);
                filter.apply(&src, &mut there);
                filter.revert(&there, &mut back);
                assert_eq!(back, src, "{filter}, {len} bytes");
                let n = len / w;
                let number = |row: &[u8]| {
                    let bytes: Vec<u8> = if big_endian { row.to_vec() } else { row.iter().rev().copied().collect() };
                    bytes.iter().fold(0i128, |n, &byte| n << 8 | i128::from(byte))
                };
                let modulus = 1i128 << (8 * w);
                let mut before = 0;
                for (r, row) in src[..n * w].chunks(w).enumerate() {
                    let mut step = (number(row) - before).rem_euclid(modulus);
                    if step >= modulus / 2 {
                        step -= modulus;
                    }
                    let zigzag = if step < 0 { -2 * step - 1 } else { 2 * step };
                    let found = (0..w).rev().fold(0i128, |all, c| all << 8 | i128::from(there[c * n + r]));
                    assert_eq!(found, zigzag, "{filter}, row {r}");
                    before = number(row);
                }
                assert_eq!(there[n * w..], src[n * w..]);
            }
        }
    }

    #[test]
    fn a_range_is_what_all_of_it_has_there() {
        let filters = (2..=8u8).flat_map(|width| {
            [
                Filter::Transpose { width },
                Filter::Transpose { width: 9 * width },
                Filter::Delta { width, big_endian: false },
                Filter::Delta { width, big_endian: true },
            ]
        });
        for filter in filters {
            for len in [0, 1, 7, 64, 100, 257] {
                let src = noise(len);
                let mut whole = vec![0; len];
                filter.revert(&src, &mut whole);
                for start in 0..=len {
                    for end in [start, (start + 1).min(len), (start + 8).min(len), (start + 70).min(len), len] {
                        let mut found = b"before".to_vec();
                        filter.revert_range(&src, start..end, &mut found);
                        assert_eq!(found[6..], whole[start..end], "{filter}, {start}..{end} of {len}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_probe_takes_differences_of_what_grows_and_of_nothing_else() {
        let steps = noise(40_000);
        let made = |width: usize, big_endian: bool, step: &dyn Fn(usize) -> u64| -> Vec<u8> {
            let mut now = 1_700_000_000_123u64;
            let rows = (0..16_000 / width).flat_map(|i| {
                now = now.wrapping_add(step(i));
                if big_endian { now.to_be_bytes()[8 - width..].to_vec() } else { now.to_le_bytes()[..width].to_vec() }
            });
            rows.collect()
        };
        for codec in [Codec::Lz4, Codec::Zstd { level: 3 }] {
            for width in [4usize, 6, 8] {
                for big_endian in [false, true] {
                    let up = made(width, big_endian, &|i| 950 + u64::from(steps[i]));
                    let down = made(width, big_endian, &|i| 0u64.wrapping_sub(950 + u64::from(steps[i])));
                    let expected = Some(Filter::Delta { width: width as u8, big_endian });
                    assert_eq!(Filter::probe(codec, &up, None).unwrap(), expected, "{codec}");
                    assert_eq!(Filter::probe(codec, &down, None).unwrap(), expected, "{codec}");
                }
            }
            // Floats that wander go by columns.
            let prices: Vec<u8> = (0..2000).flat_map(|i| (40.0 + f64::from(steps[i]) / 64.0).to_le_bytes()).collect();
            let found = Filter::probe(codec, &prices, None).unwrap();
            assert_eq!(found, Some(Filter::Transpose { width: 8 }), "{codec}");
        }
    }

    #[test]
    fn bytes_of_files_are_checked() {
        for bytes in (0..=u16::MAX).map(u16::to_le_bytes) {
            match Filter::from_bytes(bytes) {
                Ok(filter) => assert_eq!(Filter::to_bytes(filter), bytes),
                Err(CodecError::UnknownFilter(id)) => assert!(id > DELTA_BIG && id == bytes[0]),
                Err(error) => {
                    let is_known = matches!(bytes, [0, _] | [1, 0 | 1] | [2 | 3, 0 | 1 | 9..]);
                    assert!(is_known, "{bytes:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_probe_finds_the_width_of_rows() {
        for width in [3usize, 4, 8, 12, 24, 64, 100] {
            // A slow counter, a steady column, and noise.
            let rows = 16_384 / width;
            let src: Vec<u8> = noise(rows * width)
                .chunks(width)
                .enumerate()
                .flat_map(|(i, row)| [&[(i >> 5) as u8, 7], &row[..width - 2]].concat())
                .collect();
            let found = Filter::probe(Codec::Zstd { level: 1 }, &src, None).unwrap();
            let expected = (width <= 24).then_some(Filter::Transpose { width: width as u8 });
            assert!(found == expected || width > 24, "{width}: {found:?}");
        }
    }

    #[test]
    fn a_probe_passes_over_what_has_no_rows() {
        let word = |i: u32| ["a", "lamp", "burning", "for", "nobody", "at all"][(i * 7919 % 97 % 6) as usize];
        let text: Vec<u8> = (0..4000u32).flat_map(|i| format!("{} {} ", word(i), i % 11).into_bytes()).collect();
        for src in [noise(16 << 10), text, vec![0; 5000], Vec::new(), b"short".to_vec()] {
            for codec in [Codec::None, Codec::Lz4, Codec::Zstd { level: 3 }] {
                assert_eq!(Filter::probe(codec, &src, None), Ok(None), "{codec}, {} bytes", src.len());
            }
        }
    }

    #[test]
    fn failures_zero_the_destination() {
        let mut dst = [9; 40];
        let filter = Some(Filter::Transpose { width: 4 });
        assert!(decompress_filtered(crate::id::LZ4, filter, b"\xf0", &mut dst, None).is_err());
        assert_eq!(dst, [0; 40]);
    }
}
