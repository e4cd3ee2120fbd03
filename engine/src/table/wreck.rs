//! What is left of a table: every entry whose checksums are right, whatever else is damaged.
//!
//! A reader begins at the footer, and so does this: footer, index, then block by block. Where the
//! footer or the index is lost, frames are looked for in the bytes: each ends with a trailer that
//! says where it began, and its checksums are salted with its place, so that nothing else is taken
//! for one. The blocks that are found whole are decoded once, their order is checked, and a
//! [`WreckCursor`] walks them. Nothing is ever made up: an entry that comes out of here was written
//! like that, in this file, in this place.
//!
//! Everything that is not whole is a [`Defect`] with the keys that it concerns, as far as they are known.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::frame::{self, Dictionary, Frame, FrameHandle, TRAILER_LEN_MAX, TRAILER_LEN_MIN};
use crate::fs::{File, Fs, read_exact_at};
use crate::header::{FileHeader, FileKind, HEADER_LEN};
use crate::iter::Cursor;
use crate::key::{SeqNo, Tag, cmp_internal};
use crate::slice::Slice;
use crate::sync::Arc;
use crate::table::block::Block;
use crate::table::filter::Filter;
use crate::table::footer::{FOOTER_PAYLOAD_LEN_MAX, FOOTER_TAIL_LEN, Footer};
use crate::table::index::{self, BlockInfo};
use crate::table::properties::Properties;
use crate::tombstone::Fragments;
use crate::version::{Origin, TableMeta};

/// How much is looked through at once for frames.
const WINDOW_LEN: u64 = 1 << 20;

/// Something that is not whole.
#[derive(Clone, Debug)]
pub struct Defect {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes, if known.
    pub len: Option<u64>,
    /// The keys that it concerns, `after < key <= up to`; none if nobody knows or it concerns no keys.
    pub keys: Option<(Vec<u8>, Vec<u8>)>,
    /// Entries lost with it, if known.
    pub entries: Option<u64>,
    /// True if entries or range tombstones are lost; false for what can be made again.
    pub lost: bool,
    /// What is wrong.
    pub error: Error,
}

/// What is left of a table.
pub struct Wreck {
    file: Arc<dyn File>,
    path: PathBuf,
    size: u64,
    origin: Option<Origin>,
    seq_override: Option<SeqNo>,
    pieces: Vec<FrameHandle>,
    dictionaries: Vec<Dictionary>,
    /// The range tombstones that are left, under the sequence override if there is one.
    pub tombstones: Fragments,
    /// True if there are range tombstones that cannot be read, or nobody knows whether there are.
    pub tombstones_lost: bool,
    /// What the table says about itself.
    pub properties: Option<Properties>,
    /// Everything that is not whole, by offset.
    pub defects: Vec<Defect>,
    /// Entries that can be read.
    pub entries: u64,
    /// Point tombstones among them.
    pub deletes: u64,
    /// The largest sequence number of an entry or a range tombstone.
    pub seq_max: SeqNo,
    /// First and last key among the entries.
    pub bounds: Option<(Vec<u8>, Vec<u8>)>,
}

/// What the file says where everything lies.
#[derive(Default)]
struct Map {
    footer: Option<(Footer, u64)>,
    blocks: Option<Vec<BlockInfo>>,
    /// The bytes of frames that are no data blocks, found without a footer.
    others: Vec<(FrameHandle, Vec<u8>)>,
    /// Where bytes belong to no whole frame: from, to.
    gaps: Vec<(u64, u64)>,
}

impl Wreck {
    /// Reads what is left of the file, which the manifest describes as `meta`, or nobody describes.
    /// `guesses` say whose table it may be, for the case that its header cannot.
    ///
    /// # Errors
    /// `Io` if the file cannot be opened, `Unsupported` if it is whole but needs a later version:
    /// then it is not damaged, and nothing may be thrown away.
    pub fn read(fs: &dyn Fs, path: &Path, meta: Option<&TableMeta>, guesses: &[Origin]) -> Result<Wreck> {
        let file = fs.open(path).map_err(|e| Error::io("open a table", path, e))?;
        let size = file.len().map_err(|e| Error::io("measure a table", path, e))?;
        let mut wreck = Wreck {
            file,
            path: path.to_path_buf(),
            size,
            origin: None,
            seq_override: meta.and_then(|m| m.seq_override),
            pieces: Vec::new(),
            dictionaries: Vec::new(),
            tombstones: Fragments::default(),
            tombstones_lost: false,
            properties: None,
            defects: Vec::new(),
            entries: 0,
            deletes: 0,
            seq_max: 0,
            bounds: None,
        };
        wreck.read_all(meta, guesses).map_err(|e| e.with_file(path))?;
        Ok(wreck)
    }

    /// Whose table it is, as far as anything in it says so.
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// True if nothing at all can be read.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tombstones.is_empty()
    }

    /// True if every entry and every range tombstone is there.
    pub fn is_complete(&self) -> bool {
        !self.tombstones_lost && self.defects.iter().all(|d| !d.lost)
    }

    /// A cursor over the entries that are left. Forward only.
    pub fn cursor(self: &Arc<Self>) -> WreckCursor {
        WreckCursor { wreck: self.clone(), piece: 0, block: None, at: 0 }
    }

    fn read_all(&mut self, meta: Option<&TableMeta>, guesses: &[Origin]) -> Result<()> {
        let mut origins: Vec<Origin> = meta.iter().map(|m| m.origin).collect();
        self.read_header(meta, &mut origins)?;
        for &guess in guesses.iter().filter(|_| meta.is_none()) {
            if !origins.contains(&guess) {
                origins.push(guess);
            }
        }
        let mut map = self.read_footer(meta, &origins)?;
        match &map.footer {
            Some((footer, _)) => self.read_meta_frames(&footer.clone(), &mut map)?,
            None => self.search_without_footer(&origins, &mut map)?,
        }
        self.judge_tombstones(meta, &map);
        match map.blocks.take() {
            Some(blocks) => self.walk_index(&blocks, &map.gaps)?,
            None => self.walk_found(meta, &map.gaps)?,
        }
        if let Some((_, max)) = self.tombstones.seq_bounds() {
            self.seq_max = self.seq_max.max(max);
        }
        self.defects.sort_by_key(|d| d.offset);
        Ok(())
    }

    fn defect(&mut self, offset: u64, len: Option<u64>, lost: bool, error: Error) {
        self.defects.push(Defect { offset, len, keys: None, entries: None, lost, error });
    }

    fn read_header(&mut self, meta: Option<&TableMeta>, origins: &mut Vec<Origin>) -> Result<()> {
        if let Some(meta) = meta.filter(|m| m.size != self.size) {
            let e = Error::corruption(format!("the table has {} bytes, the manifest says {}", self.size, meta.size));
            self.defect(self.size.min(meta.size), None, false, e);
        }
        let header = self.bytes(0, HEADER_LEN.min(self.size as usize));
        match header.and_then(|bytes| FileHeader::decode(&bytes, FileKind::Table)) {
            Ok(h) => {
                let origin = Origin { db_id: h.db_id, number: h.number };
                if meta.is_some_and(|m| m.origin != origin) {
                    let e = Error::corruption(format!("the table says that it is {origin}"));
                    self.defect(0, Some(HEADER_LEN as u64), false, e);
                }
                // What the manifest describes is that table and no other, whatever lies in its place.
                if origins.is_empty() {
                    origins.push(origin);
                }
            }
            Err(e) => self.defect(0, Some(HEADER_LEN as u64), false, forgivable(e)?),
        }
        Ok(())
    }

    /// The footer, where the file ends or where the manifest says that it ended.
    fn read_footer(&mut self, meta: Option<&TableMeta>, origins: &[Origin]) -> Result<Map> {
        let mut ends = vec![self.size];
        ends.extend(meta.map(|m| m.size).filter(|&s| s < self.size));
        let mut why = None;
        for end in ends {
            for &origin in origins {
                match self.footer_at(end, origin) {
                    Ok(found) => {
                        self.origin = Some(origin);
                        if end < self.size && meta.is_none_or(|m| m.size != end) {
                            let e = Error::corruption("bytes lie behind the footer");
                            self.defect(end, Some(self.size - end), false, e);
                        }
                        return Ok(Map { footer: Some(found), ..Map::default() });
                    }
                    Err(e) => {
                        why.get_or_insert(forgivable(e)?);
                    }
                }
            }
        }
        let why = why.unwrap_or_else(|| Error::corruption("nothing says whose table it is"));
        let at = why.offset().unwrap_or(self.size.saturating_sub(FOOTER_TAIL_LEN as u64));
        self.defect(at, None, false, why);
        Ok(Map::default())
    }

    fn footer_at(&self, end: u64, origin: Origin) -> Result<(Footer, u64)> {
        let short = || Error::corruption(format!("{end} bytes are too few for a table")).with_offset(0);
        let tail_at = end.checked_sub(FOOTER_TAIL_LEN as u64).ok_or_else(short)?;
        let tail = self.bytes(tail_at, FOOTER_TAIL_LEN)?;
        let tail: [u8; FOOTER_TAIL_LEN] = tail.try_into().map_err(|_| short())?;
        let len = Footer::payload_len(&tail).map_err(|e| e.with_offset(tail_at))?;
        debug_assert!(len <= FOOTER_PAYLOAD_LEN_MAX);
        let at = tail_at.checked_sub(len as u64).filter(|&at| at >= HEADER_LEN as u64).ok_or_else(short)?;
        let bytes = self.bytes(at, len + FOOTER_TAIL_LEN)?;
        let footer = Footer::decode(&bytes, salt(origin, at)).map_err(|e| e.with_offset(at))?;
        Ok((footer, at))
    }

    fn read_meta_frames(&mut self, footer: &Footer, map: &mut Map) -> Result<()> {
        let data_end = footer.frames().first().map_or(0, |(_, handle)| handle.offset);
        for (name, handle) in footer.frames() {
            let payload = self.meta_payload(handle);
            let outcome = match name {
                "index" => payload
                    .and_then(|p| index::decode(&p, HEADER_LEN as u64, data_end))
                    .map(|blocks| map.blocks = Some(blocks)),
                "properties" => payload.and_then(|p| Properties::decode(&p)).map(|p| self.properties = Some(p)),
                "filter" => payload.and_then(|p| Filter::decode(&p)).map(drop),
                "range tombstones" => payload.and_then(|p| Fragments::decode(&p)).map(|t| self.tombstones = t),
                _ => Ok(()), // Dictionaries have an order of their own.
            };
            if let Err(e) = outcome {
                let lost = name == "range tombstones";
                self.tombstones_lost |= lost;
                self.defect(handle.offset, Some(handle.stored_len.into()), lost, forgivable(e)?.context(name));
            }
        }
        // Frames name dictionaries by position, so behind one that is lost none can be used.
        for entry in &footer.dictionaries {
            let read = self
                .meta_payload(entry.handle)
                .and_then(|bytes| Dictionary::from_bytes(bytes).map_err(|e| Error::corruption(e.to_string())));
            match read {
                Ok(dictionary) if dictionary.hash() == entry.hash => self.dictionaries.push(dictionary),
                Ok(_) => {
                    let e = Error::corruption("a dictionary has another hash than the footer says");
                    self.defect(entry.handle.offset, Some(entry.handle.stored_len.into()), false, e);
                    break;
                }
                Err(e) => {
                    let e = forgivable(e)?.context("dictionary");
                    self.defect(entry.handle.offset, Some(entry.handle.stored_len.into()), false, e);
                    break;
                }
            }
        }
        if map.blocks.is_none() {
            let origin = self.origin;
            self.search(HEADER_LEN as u64, data_end.min(self.size), &Vec::from_iter(origin), map)?;
        }
        Ok(())
    }

    /// Finds all frames of the file, and which of them are what.
    fn search_without_footer(&mut self, origins: &[Origin], map: &mut Map) -> Result<()> {
        self.search(HEADER_LEN as u64, self.size, origins, map)?;
        let Some(first) = map.others.first().map(|(handle, _)| handle.offset) else { return Ok(()) };
        // In the order of the file: range tombstones, filter, dictionaries, properties, index. An index
        // fits only if the blocks that it lists end exactly where the first of these begins.
        for (_, payload) in map.others.iter().rev() {
            if map.blocks.is_none()
                && let Ok(blocks) = index::decode(payload, HEADER_LEN as u64, first)
            {
                map.blocks = Some(blocks);
            } else if self.properties.is_none()
                && let Ok(p) = Properties::decode(payload)
                && p.block_size > 0
                && p.entries.saturating_add(p.range_deletes) > 0
            {
                self.properties = Some(p);
            }
        }
        if let Some((_, payload)) = map.others.first()
            && let Ok(fragments) = Fragments::decode(payload)
            && self.properties.as_ref().is_none_or(|p| p.range_deletes == fragments.len() as u64)
        {
            self.tombstones = fragments;
        }
        // Blocks that need a dictionary say which one by position; its bytes are a frame between the
        // first and the properties. One dictionary is all that this version writes.
        let known = self.properties.as_ref().map_or(0, |p| p.dictionary);
        let found = map.others.iter().find_map(|(_, payload)| {
            Dictionary::from_bytes(payload.clone()).ok().filter(|d| known != 0 && d.hash() == known)
        });
        self.dictionaries.extend(found);
        Ok(())
    }

    /// Looks for frames in `from..to`: every place where a trailer may end is tried.
    fn search(&mut self, from: u64, to: u64, origins: &[Origin], map: &mut Map) -> Result<()> {
        // Honest files need their own length once; the rest is for bytes that look like frames.
        let mut budget = self.size.saturating_mul(8).saturating_add(64 << 20);
        let mut done = from; // Everything before belongs to a frame or to none.
        let mut window_at = from;
        while window_at < to {
            let begin = window_at.saturating_sub(TRAILER_LEN_MAX as u64).max(from);
            let end = (window_at + WINDOW_LEN).min(to);
            let Ok(window) = self.bytes(begin, (end - begin) as usize) else {
                window_at = end; // It cannot be read: no frame ends in it.
                continue;
            };
            let first = (window_at.max(from + TRAILER_LEN_MIN as u64 - 1) - begin) as usize;
            for last in first..window.len() {
                let Some((trailer_len, trailer)) = frame::trailer_at_end(&window[..=last]) else { continue };
                let frame_end = begin + last as u64 + 1;
                let parts = u64::from(trailer.keys.stored_len) + u64::from(trailer.values.stored_len);
                let len = parts + trailer_len as u64;
                let Some(offset) = frame_end.checked_sub(len).filter(|&o| o >= done) else { continue };
                let Some(left) = budget.checked_sub(len) else {
                    let e = Error::corruption("too much looks like blocks to judge it");
                    self.defect(offset, Some(to - offset), true, e);
                    return Ok(());
                };
                budget = left;
                let handle = FrameHandle { offset, stored_len: len as u32, keys_stored: trailer.keys.stored_len };
                if self.take_frame(handle, origins, map)? {
                    if offset > done {
                        map.gaps.push((done, offset));
                    }
                    done = frame_end;
                }
            }
            window_at = end;
        }
        if done < to {
            map.gaps.push((done, to));
        }
        Ok(())
    }

    /// Keeps a frame if its checksums are right.
    fn take_frame(&mut self, handle: FrameHandle, origins: &[Origin], map: &mut Map) -> Result<bool> {
        let Ok(bytes) = self.bytes(handle.offset, handle.stored_len as usize) else { return Ok(false) };
        let known = self.origin;
        for &origin in origins.iter().filter(|o| known.is_none_or(|k| k == **o)) {
            let frame = match Frame::open(&bytes, handle.keys_stored, salt(origin, handle.offset)) {
                Ok(frame) => frame,
                Err(e) => {
                    forgivable(e)?;
                    continue;
                }
            };
            self.origin = Some(origin);
            if frame.trailer.entries > 0 {
                self.pieces.push(handle);
            } else {
                let mut scratch = Vec::new();
                let payload = frame.keys(&[], None, &mut scratch).map(<[u8]>::to_vec);
                match payload {
                    Ok(payload) => map.others.push((handle, payload)),
                    Err(e) => drop(forgivable(e)?),
                }
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Are all range tombstones here?
    fn judge_tombstones(&mut self, meta: Option<&TableMeta>, map: &Map) {
        let stated = meta.map(|m| m.range_deletes).or(self.properties.as_ref().map(|p| p.range_deletes));
        let missing = match stated {
            Some(n) => n != self.tombstones.len() as u64,
            None => map.footer.is_none(),
        };
        if missing && !self.tombstones_lost {
            self.tombstones_lost = true;
            if let Some(n) = stated {
                let e = Error::corruption(format!(
                    "the table had {n} range tombstones, {} can be read",
                    self.tombstones.len()
                ));
                self.defect(HEADER_LEN as u64, None, true, e);
            }
        }
        if let Some(seq) = self.seq_override {
            self.tombstones = self.tombstones.with_seq(seq);
        }
    }

    /// Decodes what the index lists, and keeps what is whole.
    fn walk_index(&mut self, blocks: &[BlockInfo], gaps: &[(u64, u64)]) -> Result<()> {
        let data_end = blocks.last().map_or(HEADER_LEN as u64, |b| b.handle().end());
        // Among the blocks the index knows better; behind them lies what can be made again.
        for &(from, to) in gaps.iter().filter(|(from, _)| *from >= data_end) {
            self.defect(from, Some(to - from), false, no_whole_block(from, to));
        }
        self.pieces.clear();
        let mut last: Option<(Vec<u8>, Tag)> = None;
        for (i, info) in blocks.iter().enumerate() {
            let after = if i == 0 { &[][..] } else { &blocks[i - 1].last_key };
            let handle = info.handle();
            let outcome = self.decode(handle).and_then(|block| self.accept(&block, &mut last));
            match outcome {
                Ok(()) => self.pieces.push(handle),
                Err(e) => self.defects.push(Defect {
                    offset: handle.offset,
                    len: Some(handle.stored_len.into()),
                    keys: Some((after.to_vec(), info.last_key.clone())),
                    entries: Some(info.entries.into()),
                    lost: true,
                    error: forgivable(e)?,
                }),
            }
        }
        Ok(())
    }

    /// Decodes what a search found, and says which keys the gaps lie between.
    fn walk_found(&mut self, meta: Option<&TableMeta>, gaps: &[(u64, u64)]) -> Result<()> {
        let mut last: Option<(Vec<u8>, Tag)> = None;
        let mut firsts: Vec<(u64, Vec<u8>, Vec<u8>)> = Vec::new();
        for handle in std::mem::take(&mut self.pieces) {
            let before = last.as_ref().map(|(key, _)| key.clone()).unwrap_or_default();
            match self.decode(handle).and_then(|block| {
                self.accept(&block, &mut last)?;
                Ok(block.key(0).to_vec())
            }) {
                Ok(first) => {
                    firsts.push((handle.offset, before, first));
                    self.pieces.push(handle);
                }
                Err(e) => {
                    let e = forgivable(e)?;
                    self.defect(handle.offset, Some(handle.stored_len.into()), true, e);
                }
            }
        }
        let end = self.pieces.last().map_or(HEADER_LEN as u64, FrameHandle::end);
        let upper = meta.map(|m| &m.largest).or(self.properties.as_ref().map(|p| &p.largest));
        let upper = match upper {
            Some(std::ops::Bound::Included(key) | std::ops::Bound::Excluded(key)) => Some(key.clone()),
            _ => None,
        };
        // Behind the last block may lie more blocks, or only what can be made again.
        let stated = meta.map(|m| m.entries).or(self.properties.as_ref().map(|p| p.entries));
        let all_here = stated == Some(self.entries);
        for &(from, to) in gaps {
            let keys = if let Some((_, before, first)) = firsts.iter().find(|(at, ..)| *at > from) {
                Some((before.clone(), first.clone()))
            } else if from >= end {
                let after = last.as_ref().map(|(key, _)| key.clone()).unwrap_or_default();
                upper.clone().filter(|up_to| *up_to >= after).map(|up_to| (after, up_to))
            } else {
                None
            };
            let keys = keys.filter(|_| !all_here);
            let error = no_whole_block(from, to);
            self.defects.push(Defect {
                offset: from,
                len: Some(to - from),
                keys,
                entries: None,
                lost: !all_here,
                error,
            });
        }
        Ok(())
    }

    /// Counts a block's entries, if they lie behind those before.
    fn accept(&mut self, block: &Block, last: &mut Option<(Vec<u8>, Tag)>) -> Result<()> {
        if block.is_empty() {
            return Err(Error::corruption("a block has no entries"));
        }
        if let Some((key, tag)) = last
            && cmp_internal(key, *tag, block.key(0), block.tag(0)) != Ordering::Less
        {
            return Err(Error::corruption("a block begins before the one in front of it ends"));
        }
        for i in 0..block.len() {
            self.deletes += u64::from(block.tag(i).is_delete());
            self.seq_max = self.seq_max.max(block.tag(i).seq());
        }
        self.entries += block.len() as u64;
        let end = block.len() - 1;
        *last = Some((block.key(end).to_vec(), block.tag(end)));
        let first = self.bounds.take().map_or_else(|| block.key(0).to_vec(), |(first, _)| first);
        self.bounds = Some((first, block.key(end).to_vec()));
        Ok(())
    }

    /// Reads and decodes a block; twice if need be, since memory and cables fail as well as disks.
    fn decode(&self, handle: FrameHandle) -> Result<Block> {
        match self.decode_once(handle) {
            Err(e) if e.is_corruption() => self.decode_once(handle),
            other => other,
        }
    }

    fn decode_once(&self, handle: FrameHandle) -> Result<Block> {
        let bytes = self.bytes(handle.offset, handle.stored_len as usize)?;
        let origin = self.origin.ok_or_else(|| Error::corruption("nothing says whose table it is"))?;
        let frame = Frame::open(&bytes, handle.keys_stored, salt(origin, handle.offset))?;
        let mut scratch = Vec::new();
        let keys = frame.keys(&self.dictionaries, None, &mut scratch)?;
        let (entries, values_len) = (frame.trailer.entries as usize, frame.trailer.values.raw_len as usize);
        Block::decode(keys, entries, values_len, self.seq_override, |values| {
            frame.values_into(&self.dictionaries, None, values)
        })
    }

    fn meta_payload(&self, handle: FrameHandle) -> Result<Vec<u8>> {
        let bytes = self.bytes(handle.offset, handle.stored_len as usize)?;
        let origin = self.origin.ok_or_else(|| Error::corruption("nothing says whose table it is"))?;
        let mut scratch = Vec::new();
        let frame = Frame::open(&bytes, handle.keys_stored, salt(origin, handle.offset))?;
        Ok(frame.keys(&[], None, &mut scratch)?.to_vec())
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.size) {
            return Err(Error::corruption("the file ends within it").with_offset(offset));
        }
        let mut out = Vec::new();
        out.try_reserve_exact(len).map_err(|_| Error::corruption("no memory for a block").with_offset(offset))?;
        out.resize(len, 0);
        read_exact_at(&*self.file, &mut out, offset).map_err(|e| Error::io("read a table", &self.path, e))?;
        Ok(out)
    }
}

impl std::fmt::Debug for Wreck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wreck({}, {} blocks, {} defects)", self.path.display(), self.pieces.len(), self.defects.len())
    }
}

/// Damage is what a wreck is about, and so is a device that cannot read; anything else ends the work, since
/// then what cannot be read here is not lost.
pub fn forgivable(error: Error) -> Result<Error> {
    const EIO: i32 = 5;
    match (error.kind(), error.io_kind()) {
        (ErrorKind::Corruption, _) => Ok(error),
        (ErrorKind::Io, Some(std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::NotFound)) => Ok(error),
        (ErrorKind::Io, _) if error.os_code() == Some(EIO) => Ok(error),
        _ => Err(error),
    }
}

fn no_whole_block(from: u64, to: u64) -> Error {
    Error::corruption(format!("{} bytes belong to no whole block", to - from))
}

fn salt(origin: Origin, offset: u64) -> u64 {
    crate::checksum::place_salt(origin.db_id, origin.number, offset)
}

/// Walks the entries of a wreck, forward.
pub struct WreckCursor {
    wreck: Arc<Wreck>,
    /// The piece behind the current block.
    piece: usize,
    block: Option<Block>,
    at: usize,
}

impl WreckCursor {
    fn load(&mut self) -> Result<()> {
        self.block = None;
        self.at = 0;
        let Some(&handle) = self.wreck.pieces.get(self.piece) else { return Ok(()) };
        self.piece += 1;
        let block = self.wreck.decode(handle);
        self.block = Some(block.map_err(|e| e.with_file(&self.wreck.path).with_offset(handle.offset))?);
        Ok(())
    }

    fn here(&self) -> &Block {
        self.block.as_ref().expect("an accessor needs a valid cursor")
    }

    fn backward(&mut self) -> Result<()> {
        self.block = None;
        Err(Error::invalid("what is left of a table is read forward only").with_file(&self.wreck.path))
    }
}

impl Cursor for WreckCursor {
    fn valid(&self) -> bool {
        self.block.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.piece = 0;
        self.load()
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.backward()
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.seek_to_first()?;
        while self.valid() && cmp_internal(self.key(), self.tag(), key, tag) == Ordering::Less {
            self.next()?;
        }
        Ok(())
    }

    fn seek_for_prev(&mut self, _: &[u8], _: Tag) -> Result<()> {
        self.backward()
    }

    fn next(&mut self) -> Result<()> {
        let Some(block) = &self.block else { return Ok(()) };
        self.at += 1;
        if self.at >= block.len() { self.load() } else { Ok(()) }
    }

    fn prev(&mut self) -> Result<()> {
        self.backward()
    }

    fn key(&self) -> &[u8] {
        self.here().key(self.at)
    }

    fn tag(&self) -> Tag {
        self.here().tag(self.at)
    }

    fn value(&self) -> &[u8] {
        self.here().value(self.at)
    }

    fn key_slice(&self) -> Slice {
        self.here().key_slice(self.at)
    }

    fn value_slice(&self) -> Slice {
        self.here().value_slice(self.at)
    }
}
