//! Sequences: how an LZ4 block says "these literals, then this match".
//!
//! ```text
//! token     literals in the high half, length of the match less 4 in the low half; 15: more follows
//! more      of the literals: bytes of 255, then a smaller one
//! literals
//! offset    u16, how far back the match lies
//! more      of the match, likewise
//! ```
//!
//! The last sequence ends with its literals.

/// How far back an offset reaches, and so how much of a dictionary is of use.
pub(super) const OFFSET_MAX: usize = u16::MAX as usize;
/// The fewest bytes of a match.
pub(super) const MATCH_LEN_MIN: usize = 4;
/// The rules at a block's end: so many last bytes are literals ..
pub(super) const LAST_LITERALS: usize = 5;
/// .. and the last match begins so many bytes before the end.
pub(super) const LAST_MATCH_MARGIN: usize = 12;

/// A match: `len` bytes from `start` on are those `offset` bytes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) offset: usize,
}

impl Match {
    pub(super) fn end(&self) -> usize {
        self.start + self.len
    }

    /// Leaves the first bytes to whatever stands before.
    pub(super) fn begin_at(&mut self, start: usize) {
        self.len -= start - self.start;
        self.start = start;
    }
}

/// The most that a block of `len` bytes takes.
pub(super) fn len_max(len: usize) -> usize {
    len + len / 255 + 16
}

/// Appends the sequences of one block.
pub(super) struct Writer<'a> {
    window: &'a [u8],
    /// The first byte that is not written yet.
    written: usize,
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(window: &'a [u8], begin: usize, out: &'a mut Vec<u8>) -> Writer<'a> {
        Writer { window, written: begin, out }
    }

    /// The number of literals that wait for the next match at `at`.
    pub(super) fn pending(&self, at: usize) -> usize {
        at - self.written
    }

    /// Writes a match and the literals before it.
    pub(super) fn put(&mut self, found: Match) {
        debug_assert!(found.start >= self.written && found.len >= MATCH_LEN_MIN);
        debug_assert!(found.offset > 0 && found.offset <= found.start && found.offset <= OFFSET_MAX);
        let literals = &self.window[self.written..found.start];
        let more = found.len - MATCH_LEN_MIN;
        self.out.push(nibble(literals.len()) << 4 | nibble(more));
        put_more(self.out, literals.len());
        self.out.extend_from_slice(literals);
        self.out.extend_from_slice(&(found.offset as u16).to_le_bytes());
        put_more(self.out, more);
        self.written = found.end();
    }

    /// Writes the last literals.
    pub(super) fn finish(self) {
        let literals = &self.window[self.written..];
        self.out.push(nibble(literals.len()) << 4);
        put_more(self.out, literals.len());
        self.out.extend_from_slice(literals);
    }
}

fn nibble(len: usize) -> u8 {
    len.min(15) as u8
}

fn put_more(out: &mut Vec<u8>, len: usize) {
    let Some(mut rest) = len.checked_sub(15) else { return };
    while rest >= 255 {
        out.push(255);
        rest -= 255;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_many_bytes_as_they_must() {
        let sequence = |literals: usize, len: usize| {
            let window = vec![7; literals + len];
            let mut out = Vec::new();
            let mut writer = Writer::new(&window, 0, &mut out);
            writer.put(Match { start: literals, len, offset: 1 });
            out.retain(|byte| *byte != 7);
            out
        };
        assert_eq!(sequence(1, 4), [0x10, 1, 0]);
        assert_eq!(sequence(14, 18), [0xee, 1, 0]);
        assert_eq!(sequence(15, 19), [0xff, 0, 1, 0, 0]);
        assert_eq!(sequence(269, 273), [0xff, 254, 1, 0, 254]);
        assert_eq!(sequence(270, 274), [0xff, 255, 0, 1, 0, 255, 0]);
        assert_eq!(sequence(525, 529), [0xff, 255, 255, 0, 1, 0, 255, 255, 0]);
    }

    #[test]
    fn a_block_of_literals_is_the_longest() {
        for len in [0, 1, 14, 15, 16, 269, 270, 271, 70_000] {
            let (window, mut out) = (vec![7; len], Vec::new());
            Writer::new(&window, 0, &mut out).finish();
            assert!(out.len() <= len_max(len), "{len}");
        }
    }
}
