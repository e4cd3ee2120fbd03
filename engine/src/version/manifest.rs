//! The manifest: the history of versions, as records with one edit each.
//!
//! ```text
//! manifest  file header (48), records of kind 16 (edit)
//! ```
//!
//! The first record is the state from nothing; every later one is a change. Record `i` says `i` as
//! its first sequence, 1 as its count, and as its promise the manifest's own position up to which it
//! was durable. Every record is synced before the next is written, so a defect is a torn tail only if
//! no whole record follows it. CURRENT names a manifest only once its first record is durable.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::checksum::FileHasher;
use crate::error::{Error, ErrorKind, Result, is_no_space};
use crate::filename::FileName;
use crate::fs::{File, Fs, allocate_ahead};
use crate::header::{FileHeader, FileKind, HEADER_LEN};
use crate::record::reader::{Found, RecordReader};
use crate::record::writer::encode;
use crate::record::{LogPosition, Place, RecordHeader, RecordKind};
use crate::sabotage::{self, Bug};
use crate::sync::Arc;
use crate::version::edit::VersionEdit;
use crate::wal::{ScanItem, scan_records};

/// Space is reserved ahead of the edits in steps of this.
const ALLOCATE_STEP: u64 = 16 << 10;

/// Writes one manifest.
pub struct ManifestWriter {
    file: Arc<dyn File>,
    path: PathBuf,
    place: Place,
    len: u64,
    edits: u64,
    allocated: u64,
    hasher: FileHasher,
    broken: bool,
}

impl ManifestWriter {
    /// Makes manifest `number` with the state from nothing, and syncs the file (not the directory).
    /// On failure the file is removed again as far as that works.
    pub fn create(fs: &dyn Fs, dir: &Path, number: u64, db_id: u128, snapshot: &VersionEdit) -> Result<ManifestWriter> {
        debug_assert!(snapshot.snapshot);
        let path = FileName::Manifest(number).path(dir);
        let file = fs.create_new(&path).map_err(|e| Error::io("create a manifest", &path, e))?;
        let place = Place { db_id, number, salt: 0 };
        let header = FileHeader { kind: FileKind::Manifest, number, db_id }.encode();
        let mut hasher = FileHasher::new();
        hasher.update(&header);
        let mut writer =
            ManifestWriter { file, path, place, len: HEADER_LEN as u64, edits: 0, allocated: 0, hasher, broken: false };
        let written = writer
            .file
            .write_all_at(&header, 0)
            .map_err(|e| Error::io("write a manifest", &writer.path, e))
            .and_then(|()| writer.append(snapshot));
        if let Err(e) = written {
            // Nothing names this manifest yet, so this failure is no worse than that of any new file.
            let _ = fs.remove_file(&writer.path);
            return Err(match e.io_kind() {
                Some(kind) if is_no_space(kind) => e.with_kind(ErrorKind::NoSpace),
                Some(_) => e.with_kind(ErrorKind::Io),
                None => e,
            });
        }
        Ok(writer)
    }

    /// Appends an edit, durably once this returns.
    ///
    /// If the write fails, the manifest is cut back to its old length and the edit is certainly not
    /// in it. If that fails too, or the sync, nobody knows: the error is `Poisoned`, and so is every
    /// later one.
    pub fn append(&mut self, edit: &VersionEdit) -> Result<()> {
        if self.broken {
            return Err(
                Error::new(ErrorKind::Poisoned, "an earlier write to the manifest failed").with_file(&self.path)
            );
        }
        let synced = LogPosition { segment: self.place.number, offset: if self.edits == 0 { 0 } else { self.len } };
        let header = RecordHeader { kind: RecordKind::Edit, first_seq: self.edits, count: 1, synced };
        let mut bytes = Vec::new();
        encode(&mut bytes, &self.place, self.len, &header, &edit.to_bytes())?;
        self.make_space(bytes.len() as u64)?;
        if let Err(e) = self.file.write_all_at(&bytes, self.len) {
            let error = Error::io("write to the manifest", &self.path, e).with_offset(self.len);
            if sabotage::is(Bug::FullManifestGoesOn) {
                self.len += bytes.len() as u64;
                return Err(error);
            }
            self.allocated = self.len;
            let mut cut = self.file.set_len(self.len);
            if error.kind() == ErrorKind::NoSpace {
                // The caller goes on without the edit, so it must be gone after a loss of power too.
                cut = cut.and_then(|()| self.file.sync_data());
            }
            return Err(match cut {
                Ok(()) => error,
                Err(_) => self.poisoned(error),
            });
        }
        let skipped = sabotage::is(Bug::ManifestNotSynced) && self.edits == 0;
        let synced = if skipped { Ok(()) } else { self.file.sync_data() };
        if let Err(e) = synced
            && !sabotage::is(Bug::ManifestSyncIgnored)
        {
            let error = Error::io("sync the manifest", &self.path, e);
            return Err(self.poisoned(error));
        }
        self.hasher.update(&bytes);
        self.len += bytes.len() as u64;
        self.edits += 1;
        Ok(())
    }

    /// Makes sure that there is space for `len` more bytes, as far as the file system can say, so that
    /// a full disk shows before something is logged that the manifest must follow.
    pub fn make_space(&mut self, len: u64) -> Result<()> {
        let end = self.len + len;
        if end > self.allocated {
            let outcome = allocate_ahead(&*self.file, self.len, end, ALLOCATE_STEP);
            self.allocated = *outcome.as_ref().unwrap_or(&self.len);
            outcome.map_err(|e| Error::io("reserve space for the manifest", &self.path, e))?;
        }
        Ok(())
    }

    /// Bytes of the manifest.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if there are no edits, which is never so.
    pub fn is_empty(&self) -> bool {
        self.edits == 0
    }

    /// xxh3-128 of the whole manifest.
    pub fn hash(&self) -> u128 {
        self.hasher.digest()
    }

    /// The manifest's number.
    pub fn number(&self) -> u64 {
        self.place.number
    }

    fn poisoned(&mut self, error: Error) -> Error {
        self.broken = true;
        error.with_kind(ErrorKind::Poisoned)
    }
}

impl fmt::Debug for ManifestWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManifestWriter({}, {} edits, {} bytes)", self.place.number, self.edits, self.len)
    }
}

/// What [`read_manifest`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestScan {
    /// The database.
    pub db_id: u128,
    /// The edits, the snapshot first.
    pub edits: Vec<VersionEdit>,
    /// Where the last whole edit ends.
    pub valid_len: u64,
    /// The length of the file.
    pub file_len: u64,
    /// xxh3-128 of the bytes up to `valid_len`.
    pub hash: u128,
    /// Bytes of a torn last edit, which were dropped.
    pub torn_tail_bytes: u64,
}

/// Reads a manifest. Under a seal, given as length and hash, every difference is `Corruption`; without
/// one a torn last edit is dropped, and everything else is `Corruption`.
pub fn read_manifest(fs: &dyn Fs, dir: &Path, number: u64, seal: Option<(u64, u128)>) -> Result<ManifestScan> {
    let path = FileName::Manifest(number).path(dir);
    let at_path = |e: Error| e.with_file(&path);
    let file = fs.open(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            Error::corruption("the manifest that CURRENT names is missing").with_file(&path).with_offset(0)
        }
        _ => Error::io("open the manifest", &path, e),
    })?;
    let header = read_header(&*file, &path)?;
    if header.number != number {
        return Err(at_path(Error::corruption(format!("the file belongs to another place: {header}"))).with_offset(0));
    }
    let place = Place { db_id: header.db_id, number, salt: 0 };
    let mut reader = RecordReader::new(file.clone(), &path, place)?;
    let file_len = reader.file_len();
    if let Some((len, _)) = seal
        && len != file_len
    {
        return Err(at_path(Error::corruption(format!(
            "the manifest changed after a clean close: it had {len} bytes, now {file_len}"
        )))
        .with_offset(file_len.min(len)));
    }
    let mut edits: Vec<VersionEdit> = Vec::new();
    let mut offset = HEADER_LEN as u64;
    let defect = loop {
        let record = match reader.read(offset)? {
            Found::Record(record) => record,
            Found::End => break None,
            Found::Defect(reason) => break Some(reason),
        };
        let wrong = |what: String| Err(Error::corruption(what).with_file(&path).with_offset(offset));
        if record.header.kind != RecordKind::Edit || record.header.count != 1 {
            return wrong(format!("a record cannot be {} in a manifest", record.header));
        }
        if record.header.first_seq != edits.len() as u64 {
            return wrong(format!("edit {} should come next, {} does", edits.len(), record.header.first_seq));
        }
        let edit = VersionEdit::decode(record.payload).map_err(|e| at_path(e).with_offset(offset))?;
        if edit.snapshot != edits.is_empty() {
            return wrong("a manifest has one snapshot, at its beginning".to_string());
        }
        edits.push(edit);
        offset = record.end;
    };
    if let Some(reason) = defect {
        let follows = reader.find(offset + 1, u64::MAX)?;
        if edits.is_empty() || seal.is_some() || follows.is_some() {
            return Err(at_path(Error::corruption(reason)).with_offset(offset));
        }
    }
    if edits.is_empty() {
        return Err(at_path(Error::corruption("the manifest has no edit")).with_offset(offset));
    }
    let hash = hash_prefix(&*file, &path, offset)?;
    if seal.is_some_and(|(_, sealed)| sealed != hash) {
        return Err(
            at_path(Error::corruption("the manifest changed after a clean close: its hash differs")).with_offset(0)
        );
    }
    let torn_tail_bytes = file_len - offset;
    Ok(ManifestScan { db_id: header.db_id, edits, valid_len: offset, file_len, hash, torn_tail_bytes })
}

/// Tells everything that lies in a manifest, also behind defects, without a verdict. The file's own
/// header is believed.
pub fn scan_file(fs: &dyn Fs, path: &Path, visit: &mut dyn FnMut(&ScanItem<'_>) -> Result<()>) -> Result<FileHeader> {
    let file = fs.open(path).map_err(|e| Error::io("open a manifest", path, e))?;
    let header = read_header(&*file, path)?;
    let place = Place { db_id: header.db_id, number: header.number, salt: 0 };
    let mut reader = RecordReader::new(file, path, place)?;
    scan_records(&mut reader, HEADER_LEN as u64, visit)?;
    Ok(header)
}

fn read_header(file: &dyn File, path: &Path) -> Result<FileHeader> {
    let mut bytes = [0; HEADER_LEN];
    let n = file.read_at(&mut bytes, 0).map_err(|e| Error::io("read", path, e).with_offset(0))?;
    FileHeader::decode(&bytes[..n], FileKind::Manifest).map_err(|e| e.with_file(path).with_offset(0))
}

fn hash_prefix(file: &dyn File, path: &Path, len: u64) -> Result<u128> {
    let mut hasher = FileHasher::new();
    let mut buffer = vec![0; (len as usize).min(256 << 10)];
    let mut at = 0;
    while at < len {
        let wanted = (len - at).min(buffer.len() as u64) as usize;
        let n = file.read_at(&mut buffer[..wanted], at).map_err(|e| Error::io("read", path, e).with_offset(at))?;
        if n == 0 {
            return Err(Error::corruption("the manifest became shorter while it was read").with_file(path));
        }
        hasher.update(&buffer[..n]);
        at += n as u64;
    }
    Ok(hasher.digest())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fs::fault::{CallKind, Errno, Fault, FaultFs, Rule};
    use crate::fs::mem::MemFs;
    use crate::fs::read_all;
    use crate::key::FamilyId;

    fn dir() -> &'static Path {
        Path::new("/db")
    }

    fn path() -> PathBuf {
        FileName::Manifest(2).path(dir())
    }

    fn edit(n: u64) -> VersionEdit {
        VersionEdit { flushed: vec![(FamilyId(0), n)], next_file: Some(n), ..VersionEdit::default() }
    }

    fn snapshot() -> VersionEdit {
        VersionEdit { snapshot: true, db_id: Some(5), ..VersionEdit::default() }
    }

    fn holding(bytes: &[u8]) -> MemFs {
        let fs = MemFs::new();
        fs.create_dir_all(dir()).unwrap();
        fs.create_new(&path()).unwrap().write_all_at(bytes, 0).unwrap();
        fs
    }

    /// A manifest of a snapshot and two edits: its bytes, where its records begin, where it ends, and
    /// its seal.
    fn sample() -> (Vec<u8>, Vec<u64>, (u64, u128)) {
        let fs = MemFs::new();
        fs.create_dir_all(dir()).unwrap();
        let mut writer = ManifestWriter::create(&fs, dir(), 2, 5, &snapshot()).unwrap();
        let mut borders = vec![HEADER_LEN as u64, writer.len()];
        for n in [7, 8] {
            writer.append(&edit(n)).unwrap();
            borders.push(writer.len());
        }
        let bytes = read_all(&*fs.open(&path()).unwrap(), 1 << 20).unwrap();
        (bytes, borders, (writer.len(), writer.hash()))
    }

    #[test]
    fn edits_come_back() {
        let (bytes, _, seal) = sample();
        for seal in [None, Some(seal)] {
            let scan = read_manifest(&holding(&bytes), dir(), 2, seal).unwrap();
            assert_eq!(scan.edits, [snapshot(), edit(7), edit(8)]);
            assert_eq!((scan.db_id, scan.valid_len, scan.torn_tail_bytes), (5, bytes.len() as u64, 0));
        }
        assert_eq!(read_manifest(&holding(&bytes), dir(), 2, None).unwrap().hash, seal.1);
    }

    #[test]
    fn only_the_last_edit_may_be_torn() {
        let (bytes, borders, seal) = sample();
        let last = borders[2];
        for offset in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[offset] ^= 4;
            let fs = holding(&changed);
            assert!(read_manifest(&fs, dir(), 2, Some(seal)).unwrap_err().is_corruption());
            match read_manifest(&fs, dir(), 2, None) {
                Ok(scan) => {
                    assert!(offset as u64 >= last, "byte {offset}");
                    assert_eq!((scan.edits.len(), scan.torn_tail_bytes), (2, bytes.len() as u64 - last));
                }
                Err(e) => assert!(e.is_corruption() && (offset as u64) < last, "byte {offset}"),
            }
        }
    }

    #[test]
    fn every_truncation() {
        let (bytes, borders, seal) = sample();
        for len in 0..bytes.len() {
            let fs = holding(&bytes[..len]);
            assert!(read_manifest(&fs, dir(), 2, Some(seal)).unwrap_err().is_corruption());
            let whole = borders.iter().filter(|b| **b <= len as u64).count();
            match read_manifest(&fs, dir(), 2, None) {
                // The first border is the header's end: with one record whole there are two.
                Ok(scan) => assert_eq!(scan.edits.len() + 1, whole, "cut to {len}"),
                Err(e) => assert!(e.is_corruption() && whole < 2, "cut to {len}"),
            }
        }
    }

    #[test]
    fn a_foreign_manifest_is_refused() {
        let (bytes, _, _) = sample();
        let fs = holding(&bytes);
        fs.rename(&path(), &FileName::Manifest(3).path(dir())).unwrap();
        assert!(read_manifest(&fs, dir(), 3, None).unwrap_err().is_corruption());
    }

    #[test]
    fn a_failed_write_is_cut_off_and_a_failed_sync_poisons() {
        let memory = MemFs::new();
        memory.create_dir_all(dir()).unwrap();
        let (fs, control) = FaultFs::new(Arc::new(memory.clone()));
        let mut writer = ManifestWriter::create(&*fs, dir(), 2, 5, &snapshot()).unwrap();
        control.add(Rule::new(Fault::ShortWrite { keep: 9, error: Errno::Enospc }).kind(CallKind::Write));
        assert_eq!(writer.append(&edit(7)).unwrap_err().kind(), ErrorKind::NoSpace);
        writer.append(&edit(8)).unwrap();
        assert_eq!(read_manifest(&memory, dir(), 2, Some((writer.len(), writer.hash()))).unwrap().edits.len(), 2);
        control.add(Rule::new(Fault::Error(Errno::Eio)).kind(CallKind::Sync));
        assert_eq!(writer.append(&edit(9)).unwrap_err().kind(), ErrorKind::Poisoned);
        control.heal();
        assert_eq!(writer.append(&edit(9)).unwrap_err().kind(), ErrorKind::Poisoned);
        control.add(Rule::new(Fault::Error(Errno::Eio)).kind(CallKind::Sync));
        assert_eq!(ManifestWriter::create(&*fs, dir(), 4, 5, &snapshot()).unwrap_err().kind(), ErrorKind::Io);
        assert!(memory.metadata(&FileName::Manifest(4).path(dir())).is_err());
    }

    #[test]
    fn everything_in_a_file_is_told() {
        let (mut bytes, borders, _) = sample();
        bytes[borders[1] as usize + 41] ^= 1;
        let mut lines = Vec::new();
        let header = scan_file(&holding(&bytes), &path(), &mut |item| {
            lines.push(item.to_string());
            Ok(())
        })
        .unwrap();
        assert_eq!(header.to_string(), "manifest number=2 db=00000000000000000000000000000005");
        assert_eq!(
            lines,
            [
                "48: edit seq=0 count=1 synced=2:0 payload=20",
                "112: defect of 48 bytes: the record fails its checksum",
                "160: edit seq=2 count=1 synced=2:160 payload=7",
            ]
        );
    }
}
