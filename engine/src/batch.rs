//! A write batch in its final encoding: what a caller builds is what the log stores.
//!
//! Entries get sequence numbers in their order: entry `i` of a batch whose record begins at `first`
//! has `first + i`. Always true of a batch: every entry keeps the limits of [`key`](crate::key), the
//! whole is at most [`BATCH_LEN_MAX`] bytes, and no range is empty. A bad argument is not added; the
//! first one is remembered and reported when the batch is committed.
//!
//! ```text
//! put           1 u8, family varint, key length varint, value length varint, key, value
//! delete        0 u8, family varint, key length varint, key
//! range delete  2 u8, family varint, start length varint, 0 u8, start                       (no end)
//!               2 u8, family varint, start length varint, 1 u8, end length varint, start, end
//! ```

use std::cell::Cell;
use std::fmt;

use crate::coding::{Input, put_varint, varint_len};
use crate::error::{Error, Result};
use crate::key::{BATCH_LEN_MAX, FamilyId, KEY_LEN_MAX, Kind, VALUE_LEN_MAX, check_key, check_value};
use crate::tombstone::RANGE_END_LEN_MAX;

/// Writes that become visible together, over any column families.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    bytes: Vec<u8>,
    entries: u32,
    /// Sorted, each once.
    families: Vec<FamilyId>,
    error: Option<Error>,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> WriteBatch {
        WriteBatch::default()
    }

    /// An empty batch with room for `bytes` bytes of encoded entries.
    pub fn with_capacity(bytes: usize) -> WriteBatch {
        WriteBatch { bytes: Vec::with_capacity(bytes.min(BATCH_LEN_MAX)), ..WriteBatch::default() }
    }

    /// Gives the key a value.
    pub fn put_id(&mut self, family: FamilyId, key: &[u8], value: &[u8]) -> &mut WriteBatch {
        if self.accepts(check_key(key).and_then(|()| check_value(value)), key.len() + value.len()) {
            self.begin(Kind::Put, family);
            put_varint(&mut self.bytes, key.len() as u64);
            put_varint(&mut self.bytes, value.len() as u64);
            self.bytes.extend_from_slice(key);
            self.bytes.extend_from_slice(value);
        }
        self
    }

    /// Removes the key.
    pub fn delete_id(&mut self, family: FamilyId, key: &[u8]) -> &mut WriteBatch {
        if self.accepts(check_key(key), key.len()) {
            self.begin(Kind::Delete, family);
            put_varint(&mut self.bytes, key.len() as u64);
            self.bytes.extend_from_slice(key);
        }
        self
    }

    /// Removes every key from `start` to before `end`, or to the last one. An empty range adds nothing.
    pub fn delete_range_id(&mut self, family: FamilyId, start: &[u8], end: Option<&[u8]>) -> &mut WriteBatch {
        let checked = check_range_end(start).and_then(|()| end.map_or(Ok(()), check_range_end));
        let empty = end.is_some_and(|end| end <= start);
        if self.accepts(checked, start.len() + end.map_or(0, <[u8]>::len)) && !empty {
            self.begin(Kind::RangeDelete, family);
            put_varint(&mut self.bytes, start.len() as u64);
            self.bytes.push(u8::from(end.is_some()));
            if let Some(end) = end {
                put_varint(&mut self.bytes, end.len() as u64);
            }
            self.bytes.extend_from_slice(start);
            self.bytes.extend_from_slice(end.unwrap_or_default());
        }
        self
    }

    /// The number of entries, which is the number of sequence numbers that the batch takes.
    pub fn len(&self) -> usize {
        self.entries as usize
    }

    /// True if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes of the encoded entries.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Removes everything, the remembered error included, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries = 0;
        self.families.clear();
        self.error = None;
    }

    /// The entries in their order.
    pub fn entries(&self) -> BatchIter<'_> {
        walk(&self.bytes)
    }

    /// The column families that the entries name, ascending.
    pub fn families(&self) -> &[FamilyId] {
        &self.families
    }

    /// The first bad argument, if there was one: the batch must not be committed.
    pub fn error(&self) -> Option<Error> {
        self.error.clone()
    }

    /// Remembers a bad argument of a layer above, such as a family of another database.
    pub fn set_error(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// The encoded entries.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The encoded entries.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// True if the checks passed and `payload_len` more bytes fit.
    fn accepts(&mut self, checked: Result<()>, payload_len: usize) -> bool {
        // The longest head of an entry: kind, family, two lengths, a flag.
        const HEAD_LEN_MAX: usize = 1 + 5 + 5 + 5 + 1;
        let checked = checked.and_then(|()| {
            if self.bytes.len() + HEAD_LEN_MAX + payload_len > BATCH_LEN_MAX {
                return Err(Error::invalid(format!("the write batch exceeds {BATCH_LEN_MAX} bytes; split it")));
            }
            Ok(())
        });
        match checked {
            Ok(()) => true,
            Err(e) => {
                self.set_error(e);
                false
            }
        }
    }

    fn begin(&mut self, kind: Kind, family: FamilyId) {
        self.bytes.push(kind as u8);
        put_varint(&mut self.bytes, u64::from(family.0));
        self.entries += 1;
        if let Err(at) = self.families.binary_search(&family) {
            self.families.insert(at, family);
        }
    }
}

/// Lends a batch to `body` that has nothing in it and memory of earlier ones: a single put allocates
/// nothing for its batch.
pub fn with_scratch<R>(body: impl FnOnce(&mut WriteBatch) -> R) -> R {
    /// Memory that a thread keeps for the next one.
    const KEPT_LEN_MAX: usize = 64 << 10;
    thread_local! {
        static SCRATCH: Cell<WriteBatch> = Cell::new(WriteBatch::new());
    }
    // Taken out, not borrowed: an event listener may write from inside a commit.
    let mut batch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    batch.clear();
    let result = body(&mut batch);
    if batch.bytes.capacity() <= KEPT_LEN_MAX {
        // A thread that is ending keeps nothing.
        let _ = SCRATCH.try_with(|scratch| scratch.set(batch));
    }
    result
}

/// One entry of a batch. The positions say where key and value lie in the encoded batch, so that
/// who owns the batch can refer to them without a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchEntry<'a> {
    /// Gives a key a value.
    Put {
        /// The column family.
        family: FamilyId,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
        /// Where the key begins.
        key_at: usize,
        /// Where the value begins.
        value_at: usize,
    },
    /// Removes a key.
    Delete {
        /// The column family.
        family: FamilyId,
        /// The key.
        key: &'a [u8],
        /// Where the key begins.
        key_at: usize,
    },
    /// Removes a range of keys.
    DeleteRange {
        /// The column family.
        family: FamilyId,
        /// The first key.
        start: &'a [u8],
        /// The first key behind the range; none for no end.
        end: Option<&'a [u8]>,
    },
}

impl BatchEntry<'_> {
    /// The column family of the entry.
    pub fn family(&self) -> FamilyId {
        match *self {
            BatchEntry::Put { family, .. }
            | BatchEntry::Delete { family, .. }
            | BatchEntry::DeleteRange { family, .. } => family,
        }
    }
}

impl fmt::Display for BatchEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchEntry::Put { family, key, value, .. } => {
                write!(f, "put family={family} key=\"{}\" value={} bytes", key.escape_ascii(), value.len())
            }
            BatchEntry::Delete { family, key, .. } => {
                write!(f, "delete family={family} key=\"{}\"", key.escape_ascii())
            }
            BatchEntry::DeleteRange { family, start, end } => {
                write!(f, "delete-range family={family} \"{}\"..", start.escape_ascii())?;
                end.map_or(Ok(()), |end| write!(f, "\"{}\"", end.escape_ascii()))
            }
        }
    }
}

/// Reads an encoded batch, trusting nothing: after the first error it ends.
pub fn walk(payload: &[u8]) -> BatchIter<'_> {
    BatchIter { input: Input::new(payload), failed: false }
}

/// Checks an encoded batch whole and counts its entries.
pub fn count_entries(payload: &[u8]) -> Result<u32> {
    let mut n = 0;
    for entry in walk(payload) {
        entry?;
        n += 1;
    }
    Ok(n)
}

/// The entries of an encoded batch.
#[derive(Clone, Debug)]
pub struct BatchIter<'a> {
    input: Input<'a>,
    failed: bool,
}

impl<'a> BatchIter<'a> {
    fn read(&mut self) -> Result<BatchEntry<'a>> {
        let input = &mut self.input;
        let kind = Kind::from_u8(input.u8()?)?;
        let family = FamilyId(input.varint32()?);
        match kind {
            Kind::Put => {
                let key_len = input.length(KEY_LEN_MAX)?;
                let value_len = input.length(VALUE_LEN_MAX)?;
                let key_at = input.position();
                let key = input.take(key_len)?;
                let value_at = input.position();
                let value = input.take(value_len)?;
                Ok(BatchEntry::Put { family, key, value, key_at, value_at })
            }
            Kind::Delete => {
                let key_len = input.length(KEY_LEN_MAX)?;
                let key_at = input.position();
                let key = input.take(key_len)?;
                Ok(BatchEntry::Delete { family, key, key_at })
            }
            Kind::RangeDelete => {
                let start_len = input.length(RANGE_END_LEN_MAX)?;
                let end_len = match input.u8()? {
                    0 => None,
                    1 => Some(input.length(RANGE_END_LEN_MAX)?),
                    flag => return Err(Error::corruption(format!("a range delete has the end flag {flag}"))),
                };
                let start = input.take(start_len)?;
                let end = end_len.map(|n| input.take(n)).transpose()?;
                if end.is_some_and(|end| end <= start) {
                    return Err(Error::corruption("a range delete is empty"));
                }
                Ok(BatchEntry::DeleteRange { family, start, end })
            }
            _ => Err(Error::unsupported(format!("{} entries are not supported by this version", kind.name()))),
        }
    }
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = Result<BatchEntry<'a>>;

    fn next(&mut self) -> Option<Result<BatchEntry<'a>>> {
        if self.failed || self.input.is_empty() {
            return None;
        }
        let at = self.input.position();
        let entry = self.read().map_err(|e| e.context(format!("write batch, entry at byte {at}")));
        self.failed = entry.is_err();
        Some(entry)
    }
}

impl std::iter::FusedIterator for BatchIter<'_> {}

/// Bytes that an entry with these lengths takes in a batch, for building batches of a wanted size.
pub fn entry_len(family: FamilyId, key_len: usize, value_len: usize) -> usize {
    let head = 1 + varint_len(u64::from(family.0)) + varint_len(key_len as u64) + varint_len(value_len as u64);
    head + key_len + value_len
}

fn check_range_end(key: &[u8]) -> Result<()> {
    if key.len() > RANGE_END_LEN_MAX {
        return Err(Error::invalid(format!(
            "the end of a range has {} bytes; at most {RANGE_END_LEN_MAX} are allowed",
            key.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ErrorKind;

    const HOT: FamilyId = FamilyId(300);

    fn sample() -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.put_id(FamilyId::DEFAULT, b"key", b"value").delete_id(HOT, b"gone");
        batch.delete_range_id(HOT, b"a", Some(b"b")).delete_range_id(FamilyId::DEFAULT, b"x", None);
        batch.put_id(HOT, b"", b"");
        batch
    }

    #[test]
    fn entries_come_back_in_order_with_their_places() {
        let batch = sample();
        assert_eq!((batch.len(), batch.families()), (5, &[FamilyId::DEFAULT, HOT][..]));
        let shown: Vec<String> = batch.entries().map(|e| e.unwrap().to_string()).collect();
        assert_eq!(
            shown,
            [
                "put family=0 key=\"key\" value=5 bytes",
                "delete family=300 key=\"gone\"",
                "delete-range family=300 \"a\"..\"b\"",
                "delete-range family=0 \"x\"..",
                "put family=300 key=\"\" value=0 bytes",
            ]
        );
        let Some(Ok(BatchEntry::Put { key_at, value_at, .. })) = batch.entries().next() else { panic!() };
        assert_eq!(&batch.as_bytes()[key_at..key_at + 3], b"key");
        assert_eq!(&batch.as_bytes()[value_at..value_at + 5], b"value");
        assert_eq!(value_at + 5, entry_len(FamilyId::DEFAULT, 3, 5));
        assert_eq!(count_entries(batch.as_bytes()).unwrap(), 5);
    }

    #[test]
    fn a_lent_batch_is_empty_and_its_own_also_inside_another() {
        with_scratch(|outer| {
            outer.put_id(FamilyId::DEFAULT, b"outer", b"");
            with_scratch(|inner| {
                assert!(inner.is_empty());
                inner.delete_id(FamilyId::DEFAULT, &vec![0; KEY_LEN_MAX + 1]);
            });
            assert_eq!((outer.len(), outer.error().is_none()), (1, true));
        });
        with_scratch(|batch| assert!(batch.is_empty() && batch.error().is_none() && batch.families().is_empty()));
    }

    #[test]
    fn the_first_bad_argument_is_kept_and_nothing_of_it_is_added() {
        let mut batch = WriteBatch::new();
        batch.put_id(FamilyId::DEFAULT, &vec![0; KEY_LEN_MAX], b"");
        batch.delete_range_id(FamilyId::DEFAULT, b"", Some(&vec![0; RANGE_END_LEN_MAX]));
        assert!(batch.error().is_none());
        let before = batch.as_bytes().to_vec();
        batch.delete_id(FamilyId::DEFAULT, &vec![0; KEY_LEN_MAX + 1]);
        batch.put_id(FamilyId::DEFAULT, b"k", &vec![0; VALUE_LEN_MAX + 1]);
        batch.delete_range_id(FamilyId::DEFAULT, &vec![0; RANGE_END_LEN_MAX + 1], None);
        batch.delete_range_id(FamilyId::DEFAULT, b"b", Some(b"b"));
        assert_eq!(batch.as_bytes(), before);
        let error = batch.error().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().starts_with("the key has 65537 bytes"));
        batch.clear();
        assert!(batch.error().is_none() && batch.is_empty() && batch.families().is_empty());
    }

    #[test]
    fn a_batch_has_a_largest_size() {
        let mut batch = WriteBatch::new();
        let value = vec![0; VALUE_LEN_MAX];
        for _ in 0..8 {
            batch.put_id(FamilyId::DEFAULT, b"k", &value);
        }
        assert!(batch.error().unwrap().message().contains("exceeds"));
        assert_eq!(batch.len(), 7);
        assert!(batch.byte_len() <= BATCH_LEN_MAX);
    }

    #[test]
    fn hostile_bytes_end_in_an_error() {
        let bytes = sample().into_bytes();
        let mut borders = vec![0];
        let mut entries = walk(&bytes);
        while entries.next().is_some() {
            borders.push(entries.input.position());
        }
        for cut in 0..=bytes.len() {
            assert_eq!(count_entries(&bytes[..cut]).is_ok(), borders.contains(&cut), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut changed = bytes.clone();
                changed[at] = value;
                let n = walk(&changed).count();
                assert!(n <= bytes.len());
            }
        }
        let kinds = |kind: u8| walk(&[kind, 0, 0, 0]).next().unwrap().unwrap_err().kind();
        assert_eq!([kinds(3), kinds(4), kinds(5), kinds(6)], [ErrorKind::Unsupported; 4]);
        assert_eq!(kinds(7), ErrorKind::Corruption);
        assert!(count_entries(&[2, 0, 1, 1, 1, b'b', b'b']).is_err(), "an empty range");
        assert!(count_entries(&[1, 0, 0xff, 0xff, 0xff, 0x7f]).is_err(), "a hostile length");
    }
}
