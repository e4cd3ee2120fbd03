//! Columns: one number for each entry of a block, laid side by side.
//!
//! ```text
//! base varint       the smallest number
//! width u8          0, 1, 2, 4 or 8
//! n x width bytes   what each number exceeds the base by, little-endian
//! ```
//!
//! A column of equal numbers takes no bytes but its base. Fixed widths make the decoding loop free
//! of branches; what they waste against varints, the codec takes back. The number of entries comes
//! from outside.

use crate::coding::{Input, put_varint};
use crate::error::{Error, Result};

/// Appends a column of the numbers that `values` yields.
pub fn put(out: &mut Vec<u8>, values: impl Iterator<Item = u64> + Clone) {
    let bounds = values.clone().map(|v| (v, v)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let (base, largest) = bounds.unwrap_or((0, 0));
    let spread = largest - base;
    let width = width_of(spread);
    put_varint(out, base);
    out.push(width as u8);
    match width {
        0 => {}
        1 => out.extend(values.map(|v| (v - base) as u8)),
        _ => values.for_each(|v| out.extend_from_slice(&(v - base).to_le_bytes()[..width])),
    }
}

/// A column as it lies in the bytes; its length was checked, its numbers were not.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    base: u64,
    width: usize,
    bytes: &'a [u8],
}

impl<'a> Column<'a> {
    /// Takes a column of `n` numbers off the input.
    pub fn read(input: &mut Input<'a>, n: usize) -> Result<Column<'a>> {
        let base = input.varint()?;
        let width = usize::from(input.u8()?);
        if !matches!(width, 0 | 1 | 2 | 4 | 8) {
            return Err(Error::corruption(format!("a column is {width} bytes wide")));
        }
        let len = n.checked_mul(width).ok_or_else(|| Error::corruption("a column is too long"))?;
        Ok(Column { base, width, bytes: input.take(len)? })
    }

    /// The one number that all entries have, if the column is that narrow.
    pub fn constant(&self) -> Option<u64> {
        (self.width == 0).then_some(self.base)
    }

    /// The number of entry `i`, which there must be.
    #[inline]
    pub fn at(&self, i: usize) -> u64 {
        let mut delta = [0; 8];
        delta[..self.width].copy_from_slice(&self.bytes[i * self.width..(i + 1) * self.width]);
        self.base.wrapping_add(u64::from_le_bytes(delta))
    }

    /// Fails if a number is larger than `max`.
    pub fn check_max(&self, max: u64) -> Result<()> {
        let top = match self.width {
            0 => 0,
            1 => largest::<1>(self.bytes, |b| u64::from(b[0])),
            2 => largest::<2>(self.bytes, |b| u64::from(u16::from_le_bytes(b))),
            4 => largest::<4>(self.bytes, |b| u64::from(u32::from_le_bytes(b))),
            _ => largest::<8>(self.bytes, u64::from_le_bytes),
        };
        self.check_top(top, max)
    }

    /// Writes the numbers, none larger than `max` (itself at most `u32::MAX`), into `out`.
    pub fn fill_u32(&self, out: &mut [u32], max: u64) -> Result<()> {
        debug_assert!(max <= u64::from(u32::MAX));
        self.fill(out, max, |v| v as u32)
    }

    /// Writes the numbers, none larger than `max`, into `out`.
    pub fn fill_u64(&self, out: &mut [u64], max: u64) -> Result<()> {
        self.fill(out, max, |v| v)
    }

    #[inline]
    fn fill<T: Copy>(&self, out: &mut [T], max: u64, narrow: impl Fn(u64) -> T + Copy) -> Result<()> {
        let base = self.base;
        let top = match self.width {
            0 => {
                out.fill(narrow(base));
                0
            }
            1 => widen::<1, T>(self.bytes, out, |b| u64::from(b[0]), base, narrow),
            2 => widen::<2, T>(self.bytes, out, |b| u64::from(u16::from_le_bytes(b)), base, narrow),
            4 => widen::<4, T>(self.bytes, out, |b| u64::from(u32::from_le_bytes(b)), base, narrow),
            _ => widen::<8, T>(self.bytes, out, u64::from_le_bytes, base, narrow),
        };
        self.check_top(top, max)
    }

    #[inline]
    fn check_top(&self, top: u64, max: u64) -> Result<()> {
        match self.base.checked_add(top) {
            Some(largest) if largest <= max => Ok(()),
            _ => Err(Error::corruption(format!("a column has a number above {max}"))),
        }
    }
}

#[inline]
fn largest<const W: usize>(bytes: &[u8], read: impl Fn([u8; W]) -> u64) -> u64 {
    bytes.as_chunks::<W>().0.iter().map(|chunk| read(*chunk)).max().unwrap_or(0)
}

/// The larger of all deltas, for one check at the end instead of one an entry.
#[inline]
fn widen<const W: usize, T>(
    bytes: &[u8],
    out: &mut [T],
    read: impl Fn([u8; W]) -> u64,
    base: u64,
    narrow: impl Fn(u64) -> T,
) -> u64 {
    let mut top = 0;
    for (chunk, out) in bytes.as_chunks::<W>().0.iter().zip(out) {
        let delta = read(*chunk);
        top = top.max(delta);
        *out = narrow(base.wrapping_add(delta));
    }
    top
}

fn width_of(spread: u64) -> usize {
    match spread {
        0 => 0,
        1..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn columns_round_trip_at_every_width() {
        for values in [vec![], vec![7; 5], vec![3, 9, 4], vec![1, 300], vec![0, 70_000], vec![5, u64::MAX]] {
            let mut out = Vec::new();
            put(&mut out, values.iter().copied());
            let mut input = Input::new(&out);
            let column = Column::read(&mut input, values.len()).unwrap();
            input.finish().unwrap();
            let mut back = vec![0; values.len()];
            column.fill_u64(&mut back, u64::MAX).unwrap();
            assert_eq!(back, values);
            assert!((0..values.len()).all(|i| column.at(i) == values[i]));
            if let Some(&max) = values.iter().max() {
                assert!(column.check_max(max).is_ok() && (max == 0 || column.check_max(max - 1).is_err()));
            }
        }
    }

    #[test]
    fn numbers_above_the_limit_are_refused() {
        let mut out = Vec::new();
        put(&mut out, [1, 300].into_iter());
        let column = Column::read(&mut Input::new(&out), 2).unwrap();
        assert!(column.fill_u32(&mut [0; 2], 299).is_err());
        assert!(column.fill_u32(&mut [0; 2], 300).is_ok());
        assert!(Column::read(&mut Input::new(&out), 3).is_err());
        // base + delta overflows 64 bits.
        let hostile = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 1];
        let column = Column::read(&mut Input::new(&hostile), 1).unwrap();
        assert!(column.fill_u64(&mut [0], u64::MAX).is_err());
        assert!(column.check_max(u64::MAX).is_err());
    }
}
