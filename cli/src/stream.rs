//! Where `import` reads and `export` writes: files, standard input and output, Zstandard on the way.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zstd_safe::{CCtx, DCtx, InBuffer, OutBuffer};

use crate::exit::Failure;

/// The first bytes of a Zstandard frame. No format of ours can begin with them: as the lengths of a
/// `kv` record they are out of range, and they are no text.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// An input, decompressed if need be.
pub struct Input {
    /// What to read.
    pub reader: Box<dyn BufRead>,
    /// What to call it.
    pub name: String,
    /// Its length as stored; unknown for a pipe.
    pub len: Option<u64>,
    /// Bytes read so far, as stored.
    pub consumed: Arc<AtomicU64>,
}

/// Opens a file, or standard input for `-`, and decodes it if it is in Zstandard frames.
pub fn open_input(path: &str) -> Result<Input, Failure> {
    let consumed = Arc::new(AtomicU64::new(0));
    let (raw, len) = open_raw(path)?;
    let name = if path == "-" { "standard input".to_string() } else { path.to_string() };
    let counted = Counted { inner: raw, consumed: consumed.clone() };
    let mut buffered = BufReader::with_capacity(256 << 10, counted);
    let begins_like_zstd = peek(&mut buffered, 4).map_err(|e| Failure::io("read", Path::new(&name), &e))? == ZSTD_MAGIC;
    let reader: Box<dyn BufRead> = if begins_like_zstd || path.ends_with(".zst") {
        Box::new(BufReader::with_capacity(256 << 10, ZstdReader::new(buffered)))
    } else {
        Box::new(buffered)
    };
    Ok(Input { reader, name, len, consumed })
}

/// Opens a file, or standard input for `-`, as it is; with its length, unless it is a pipe.
pub fn open_raw(path: &str) -> Result<(Box<dyn Read>, Option<u64>), Failure> {
    if path == "-" {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let file = File::open(path).map_err(|e| Failure::io("open", Path::new(path), &e))?;
    let metadata = file.metadata().map_err(|e| Failure::io("read", Path::new(path), &e))?;
    if metadata.is_dir() {
        return Err(Failure::usage(format!("{path} is a directory")));
    }
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

/// The next bytes without taking them, at most as many as one read gives.
fn peek<R: Read>(input: &mut BufReader<R>, n: usize) -> io::Result<Vec<u8>> {
    // A pipe may give one byte at a time; a frame's first write is never that small in practice,
    // and a missed magic only means a clear "malformed" instead of a decoded stream.
    let bytes = input.fill_buf()?;
    Ok(bytes[..bytes.len().min(n)].to_vec())
}

struct Counted<R> {
    inner: R,
    consumed: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.consumed.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Decodes a stream of Zstandard frames.
struct ZstdReader<R> {
    input: R,
    context: DCtx<'static>,
    /// True between the first byte of a frame and its last.
    inside: bool,
}

impl<R: BufRead> ZstdReader<R> {
    fn new(input: R) -> ZstdReader<R> {
        ZstdReader { input, context: DCtx::create(), inside: true }
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let source = self.input.fill_buf()?;
            let ended = source.is_empty();
            if ended && !self.inside {
                return Ok(0);
            }
            let mut input = InBuffer::around(source);
            let mut output = OutBuffer::around(&mut *buf);
            let hint = self
                .context
                .decompress_stream(&mut output, &mut input)
                .map_err(|code| io::Error::new(io::ErrorKind::InvalidData, zstd_error(code)))?;
            let (written, read) = (output.pos(), input.pos());
            self.input.consume(read);
            if read > 0 || written > 0 {
                self.inside = hint != 0;
            }
            if written > 0 {
                return Ok(written);
            }
            if ended {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the Zstandard stream is cut off"));
            }
        }
    }
}

fn zstd_error(code: usize) -> String {
    format!("not a valid Zstandard stream: {}", zstd_safe::get_error_name(code))
}

/// An output for whole records: standard output, or a file that appears under its name only when it
/// is complete.
pub struct Sink {
    target: Target,
    compressor: Option<CCtx<'static>>,
    packed: Vec<u8>,
    written: u64,
}

enum Target {
    Stdout,
    /// A device or a pipe: written as it is.
    Special(File, PathBuf),
    File(Pending),
}

/// A file under a temporary name; removed when dropped.
struct Pending {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    kept: bool,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

impl Sink {
    /// Opens a file, or standard output for `-`. An existing file is replaced only if `replace`.
    /// A name that ends in `.zst` gets compressed content.
    pub fn create(path: &str, replace: bool) -> Result<Sink, Failure> {
        let sink = |target, compressor| Sink { target, compressor, packed: Vec::new(), written: 0 };
        if path == "-" {
            return Ok(sink(Target::Stdout, None));
        }
        let target = Path::new(path);
        match std::fs::metadata(target) {
            Ok(found) if found.is_dir() => return Err(Failure::usage(format!("{path} is a directory"))),
            Ok(found) if !found.is_file() => {
                let file = File::options().write(true).open(target).map_err(|e| Failure::io("open", target, &e))?;
                return Ok(sink(Target::Special(file, target.to_path_buf()), None));
            }
            Ok(_) if !replace => {
                return Err(Failure::refused(format!("{path} exists; nothing was written; add --yes to replace it")));
            }
            Ok(_) | Err(_) => {}
        }
        let Some(name) = target.file_name() else {
            return Err(Failure::usage(format!("{path} is not the name of a file")));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", std::process::id()));
        let temporary = target.with_file_name(hidden);
        let file = File::create_new(&temporary).map_err(|e| Failure::io("create", &temporary, &e))?;
        let pending = Pending { file, temporary, path: target.to_path_buf(), kept: false };
        let compressor = if path.ends_with(".zst") {
            let mut context = CCtx::create();
            context.init(3).map_err(|code| Failure::usage(zstd_error(code)))?;
            Some(context)
        } else {
            None
        };
        Ok(sink(Target::File(pending), compressor))
    }

    /// Writes whole records.
    pub fn write(&mut self, records: &[u8]) -> Result<(), Failure> {
        let Some(context) = &mut self.compressor else { return self.put(records) };
        let mut packed = std::mem::take(&mut self.packed);
        packed.resize(CCtx::out_size(), 0);
        let mut input = InBuffer::around(records);
        while input.pos() < records.len() {
            let mut output = OutBuffer::around(packed.as_mut_slice());
            context.compress_stream(&mut output, &mut input).map_err(|code| Failure::usage(zstd_error(code)))?;
            let n = output.pos();
            self.target.put(&packed[..n])?;
            self.written += n as u64;
        }
        self.packed = packed;
        Ok(())
    }

    /// Ends: the file is synced and gets its name. Returns the bytes written.
    pub fn finish(mut self) -> Result<u64, Failure> {
        if let Some(mut context) = self.compressor.take() {
            let mut packed = vec![0; CCtx::out_size()];
            loop {
                let mut output = OutBuffer::around(packed.as_mut_slice());
                let left = context.end_stream(&mut output).map_err(|code| Failure::usage(zstd_error(code)))?;
                let n = output.pos();
                self.put(&packed[..n])?;
                if left == 0 {
                    break;
                }
            }
        }
        match &mut self.target {
            Target::Stdout => io::stdout().lock().flush().map_err(|e| Failure::output(&e))?,
            Target::Special(..) => {}
            Target::File(pending) => {
                pending.file.sync_all().map_err(|e| Failure::io("write", &pending.temporary, &e))?;
                std::fs::rename(&pending.temporary, &pending.path)
                    .map_err(|e| Failure::io("rename to", &pending.path, &e))?;
                pending.kept = true;
            }
        }
        Ok(self.written)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.target.put(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

impl Target {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Target::Stdout => io::stdout().lock().write_all(bytes).map_err(|e| Failure::output(&e)),
            Target::Special(file, path) => file.write_all(bytes).map_err(|e| match e.kind() {
                io::ErrorKind::BrokenPipe => Failure::PipeClosed,
                _ => Failure::io("write", path, &e),
            }),
            Target::File(pending) => {
                pending.file.write_all(bytes).map_err(|e| Failure::io("write", &pending.temporary, &e))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
        zstd_safe::compress(&mut out, bytes, 3).unwrap();
        out
    }

    fn unpack(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        ZstdReader::new(BufReader::with_capacity(7, bytes)).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn frames_are_decoded_one_after_another() {
        let text: Vec<u8> = (0..20_000u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        let mut frames = packed(&text);
        frames.extend(packed(b""));
        frames.extend(packed(b"tail"));
        assert_eq!(unpack(&frames).unwrap(), [&text[..], b"tail"].concat());
    }

    #[test]
    fn a_cut_or_changed_stream_is_an_error() {
        let text: Vec<u8> = (0..2_000u32).flat_map(u32::to_le_bytes).collect();
        let frame = packed(&text);
        for cut in 0..frame.len() {
            assert!(unpack(&frame[..cut]).is_err(), "cut at {cut}");
        }
        assert!(unpack(b"not zstd at all").is_err());
    }
}
