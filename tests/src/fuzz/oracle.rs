//! Plain decoders of LZ4 and Snappy blocks, written from their descriptions, to hold the libraries'
//! decoders against: what a library accepts, these accept, with the same bytes. And our own encoder
//! of LZ4: what it writes, the plain decoder reads.

use lignite_codecs::{Codec, Dictionary, compress, decompress, id};

/// Any bytes as an LZ4 block; the first two are the length of what should come out.
pub fn lz4(data: &[u8]) {
    differ(data, id::LZ4, lz4_plain);
}

/// Level, repeats and cut, then a dictionary up to the cut, and content behind it, repeated.
pub fn lz4hc(data: &[u8]) {
    let Some((&[level, repeats, cut], rest)) = data.split_first_chunk::<3>() else { return };
    let level = level % 12 + 1;
    let (history, content) = rest.split_at(usize::from(cut).min(rest.len()));
    let content = content.repeat(usize::from(repeats % 8) + 1);
    let dictionary = Dictionary::from_bytes(history.to_vec()).ok();
    let mut out = Vec::new();
    compress(Codec::Lz4hc { level }, &content, dictionary.as_ref(), &mut out).unwrap();
    assert!(out.len() <= content.len() + content.len() / 255 + 16, "level {level}: longer than any block");
    let history = dictionary.as_ref().map_or(&[][..], Dictionary::bytes);
    let back = lz4_behind(history, &out, content.len());
    assert!(back.as_deref() == Some(&content[..]), "level {level}: the description reads something else");
    let mut back = vec![0; content.len()];
    decompress(id::LZ4, &out, &mut back, dictionary.as_ref()).unwrap();
    assert!(back == content, "level {level}: the decoder reads something else");
}

/// Any bytes as a Snappy block.
pub fn snappy(data: &[u8]) {
    differ(data, id::SNAPPY, snappy_plain);
}

fn differ(data: &[u8], codec: u8, plain: fn(&[u8], usize) -> Option<Vec<u8>>) {
    let Some((&[low, high], src)) = data.split_first_chunk::<2>() else { return };
    let len = usize::from(u16::from_le_bytes([low, high])) % 2048;
    let mut out = vec![0; len];
    if decompress(codec, src, &mut out, None).is_ok() {
        assert!(plain(src, len).as_deref() == Some(&out[..]), "codec {codec} says one thing, its description another");
    }
}

fn lz4_plain(src: &[u8], len: usize) -> Option<Vec<u8>> {
    lz4_behind(&[], src, len)
}

fn lz4_behind(history: &[u8], src: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut out = history.to_vec();
    let end = history.len() + len;
    let mut at = 0;
    let mut byte = || {
        let b = src.get(at).copied();
        at += 1;
        b
    };
    loop {
        let token = byte()?;
        let mut literals = usize::from(token >> 4);
        if literals == 15 {
            loop {
                let more = byte()?;
                literals += usize::from(more);
                if more < 255 {
                    break;
                }
            }
        }
        for _ in 0..literals {
            out.push(byte()?);
        }
        let Some(low) = byte() else { break };
        let offset = usize::from(low) | usize::from(byte()?) << 8;
        let mut length = usize::from(token & 15) + 4;
        if length == 19 {
            loop {
                let more = byte()?;
                length += usize::from(more);
                if more < 255 {
                    break;
                }
            }
        }
        repeat(&mut out, offset, length, end)?;
    }
    (out.len() == end).then(|| out.split_off(history.len()))
}

fn snappy_plain(src: &[u8], len: usize) -> Option<Vec<u8>> {
    let (mut stated, mut at) = (0u64, 0);
    loop {
        let b = *src.get(at)?;
        stated |= u64::from(b & 0x7f) << (7 * at);
        at += 1;
        if b < 0x80 {
            break;
        }
        if at == 5 {
            return None;
        }
    }
    if stated != len as u64 {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    while at < src.len() {
        let tag = src[at];
        at += 1;
        let little = |from: usize, n: usize| -> Option<usize> {
            Some(src.get(from..from + n)?.iter().rev().fold(0, |sum, &b| sum << 8 | usize::from(b)))
        };
        let (length, offset) = match tag & 3 {
            0 => {
                let mut n = usize::from(tag >> 2);
                if n >= 60 {
                    let bytes = n - 59;
                    n = little(at, bytes)?;
                    at += bytes;
                }
                out.extend_from_slice(src.get(at..at.checked_add(n + 1)?)?);
                at += n + 1;
                continue;
            }
            1 => (usize::from(tag >> 2 & 7) + 4, usize::from(tag >> 5) << 8 | little(at, 1)?),
            2 => (usize::from(tag >> 2) + 1, little(at, 2)?),
            _ => (usize::from(tag >> 2) + 1, little(at, 4)?),
        };
        at += [1, 1, 2, 4][usize::from(tag & 3)];
        repeat(&mut out, offset, length, len)?;
    }
    (out.len() == len).then_some(out)
}

/// Appends `length` bytes from `offset` behind the end; they may overlap what is appended.
fn repeat(out: &mut Vec<u8>, offset: usize, length: usize, limit: usize) -> Option<()> {
    let from = out.len().checked_sub(offset).filter(|_| offset > 0)?;
    if out.len() + length > limit {
        return None;
    }
    for i in 0..length {
        out.push(out[from + i]);
    }
    Some(())
}

/// Valid LZ4 blocks.
pub fn lz4_seeds() -> Vec<Vec<u8>> {
    seeds(Codec::Lz4)
}

/// Content that takes every path of the encoder.
pub fn lz4hc_seeds() -> Vec<Vec<u8>> {
    let text = b"row 17; row 18; row 1789; sow 18; ".repeat(5);
    let runs: Vec<u8> = (0..40u8).flat_map(|i| [vec![i % 3; 7], vec![i]].concat()).collect();
    let chosen = |level: u8, cut: u8, content: &[u8]| [&[level, 3, cut], content].concat();
    (0..12).flat_map(|level| [chosen(level, 0, &text), chosen(level, 60, &text), chosen(level, 9, &runs)]).collect()
}

/// Valid Snappy blocks.
pub fn snappy_seeds() -> Vec<Vec<u8>> {
    seeds(Codec::Snappy)
}

fn seeds(codec: Codec) -> Vec<Vec<u8>> {
    let texts = [
        b"".to_vec(),
        b"a".repeat(300),
        b"row 17; row 18; ".repeat(20),
        (0..=255).collect(),
        b"abcabcabcabcab".to_vec(),
    ];
    texts
        .iter()
        .map(|text| {
            let mut out = (text.len() as u16).to_le_bytes().to_vec();
            compress(codec, text, None, &mut out).unwrap();
            out
        })
        .collect()
}
