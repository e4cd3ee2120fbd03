//! Fuzz bodies for the codecs crate. The first bytes of the data choose codec, level and lengths;
//! the rest is content. Each function panics if the codecs break a promise, and returns otherwise.
//!
//! | body | data |
//! |---|---|
//! | [`round_trip`] | codec, level, repeat, then what is compressed |
//! | [`hostile`] | codec, length of the destination (u16), then what is decompressed |
//! | [`dictionary`] | codec (Zstandard or LZ4), level, cut (u16), then the dictionary up to the cut and the content behind |

use lignite_codecs::{
    Codec, CodecError, Dictionary, Filter, compress, compress_filtered, decompress, decompress_filtered, id,
};

/// Compresses by a chosen codec and level, and asserts that the same bytes come back, and that no
/// other length is accepted.
pub fn round_trip(data: &[u8]) {
    let Some((&[codec, level, repeat], content)) = data.split_first_chunk() else { return };
    let codec = choose(codec, level);
    // Repeats reach lengths that a small input cannot; bounded, so that a run stays fast.
    let len_max = match codec {
        Codec::Zstd { level: 13.. } | Codec::Lz4hc { level: 11.. } | Codec::Brotli { quality: 9.. } => {
            SLOW_CONTENT_LEN_MAX
        }
        _ => CONTENT_LEN_MAX,
    };
    let content = content.repeat(usize::from(repeat) + 1);
    let content = &content[..content.len().min(len_max)];
    assert_round_trip(codec, content, None);
    // A filter of a width, or none, where the byte is no width.
    let filter = match repeat % 3 {
        _ if repeat < 2 => None,
        0 => Filter::from_bytes([1, repeat]).unwrap_or_default(),
        order => Filter::from_bytes([1 + order, 2 + repeat % 7]).unwrap_or_default(),
    };
    let mut frame = Vec::new();
    compress_filtered(codec, filter, content, None, &mut frame).unwrap_or_else(|error| panic!("{codec}: {error}"));
    let mut back = vec![0xa5; content.len()];
    let result = decompress_filtered(codec.id(), filter, &frame, &mut back, None);
    assert!(result.is_ok() && back == content, "{codec} with {filter:?}: {result:?}");
}

/// Decompresses bytes that nobody compressed, with and without a dictionary.
pub fn hostile(data: &[u8]) {
    let Some((&[codec, low, high], src)) = data.split_first_chunk() else { return };
    let id = codec % (id::BROTLI + 2);
    let len = usize::from(u16::from_le_bytes([low, high]));
    unpack(id, src, len, None).ok();
    if let Ok(dictionary) = Dictionary::from_bytes(FIXED_DICTIONARY.to_vec()) {
        unpack(id, src, len, Some(&dictionary)).ok();
    }
}

/// Makes a dictionary of any bytes, and asserts that it serves, that damage to the frame is an
/// error or keeps the length, and that another dictionary does not read wrongly beyond it.
pub fn dictionary(data: &[u8]) {
    let Some((&[codec, level, low, high], rest)) = data.split_first_chunk() else { return };
    let codec = match codec % 2 {
        0 => choose(id::LZ4, level),
        _ => choose(id::ZSTD, level),
    };
    let cut = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (bytes, content) = rest.split_at(cut);
    match Dictionary::from_bytes(bytes.to_vec()) {
        Ok(dictionary) => {
            let frame = match pack(codec, content, Some(&dictionary)) {
                Ok(frame) => frame,
                // Bytes with the head of a trained dictionary can satisfy the reader of its tables
                // and not the writer.
                Err(CodecError::Dictionary(_)) => return,
                Err(error) => panic!("{codec}: {error}"),
            };
            let back = unpack(codec.id(), &frame, content.len(), Some(&dictionary));
            assert!(back.as_deref() == Ok(content), "{codec}: {:?}", back.err());
            unpack(codec.id(), &frame, content.len(), None).ok();
            unpack(codec.id(), content, bytes.len(), Some(&dictionary)).ok();
        }
        Err(error) => assert!(matches!(error, CodecError::Dictionary(_)), "{error}"),
    }
    // Training on any samples ends with a dictionary that serves, or with an error.
    if level.is_multiple_of(16) && content.len() <= 8192 {
        let samples: Vec<&[u8]> = content.chunks(usize::from(low % 64) + 1).collect();
        match Dictionary::train(&samples, 256 + usize::from(high)) {
            Ok(trained) => assert_round_trip(codec, bytes, Some(&trained)),
            Err(error) => assert!(matches!(error, CodecError::Dictionary(_)), "{error}"),
        }
    }
}

/// Past 64 KiB, where LZ4's offsets end.
const CONTENT_LEN_MAX: usize = 80 << 10;
const SLOW_CONTENT_LEN_MAX: usize = 4 << 10;

const FIXED_DICTIONARY: &[u8] = b"{\"id\":12345,\"name\":\"customer\",\"city\":\"Jena\",\"balance\":0}";

fn choose(codec: u8, level: u8) -> Codec {
    match codec % 5 {
        id::NONE => Codec::None,
        id::LZ4 => match level % 13 {
            0 => Codec::Lz4,
            level => Codec::Lz4hc { level },
        },
        id::SNAPPY => Codec::Snappy,
        id::ZSTD => Codec::Zstd { level: i32::from(level % 30) - 7 },
        _ => Codec::Brotli { quality: level % 12 },
    }
}

fn assert_round_trip(codec: Codec, content: &[u8], dictionary: Option<&Dictionary>) {
    let frame = pack(codec, content, dictionary).unwrap_or_else(|error| panic!("{codec}: {error}"));
    let back = unpack(codec.id(), &frame, content.len(), dictionary);
    assert!(back.as_deref() == Ok(content), "{codec} at {} bytes: {:?}", content.len(), back.err());
    let longer = unpack(codec.id(), &frame, content.len() + 1, dictionary);
    assert!(longer.is_err(), "{codec} decoded {} bytes to one more", content.len());
    if let Some(less) = content.len().checked_sub(1) {
        assert!(
            unpack(codec.id(), &frame, less, dictionary).is_err(),
            "{codec} decoded {less} bytes and one to {less}"
        );
    }
}

fn pack(codec: Codec, content: &[u8], dictionary: Option<&Dictionary>) -> Result<Vec<u8>, CodecError> {
    let mut out = b"kept".to_vec();
    let result = compress(codec, content, dictionary, &mut out);
    assert_eq!(&out[..4], b"kept", "{codec} changed what stood before its output");
    assert!(result.is_ok() || out.len() == 4, "{codec} failed and left bytes behind");
    result.map(|()| out.split_off(4))
}

fn unpack(id: u8, src: &[u8], len: usize, dictionary: Option<&Dictionary>) -> Result<Vec<u8>, CodecError> {
    let mut dst = vec![0xa5; len];
    let result = decompress(id, src, &mut dst, dictionary);
    assert!(result.is_ok() || dst.iter().all(|byte| *byte == 0), "codec {id} failed and left bytes behind");
    result.map(|()| dst)
}
