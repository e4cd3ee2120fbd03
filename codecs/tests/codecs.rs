//! The crate from the outside: every codec over shapes and sizes, damage, dictionaries, the
//! registry, texts, and stored frames that every later version must still read.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use lignite_codecs::{
    BLOCK_LEN_MAX, BlockCodec, Codec, CodecError, DICTIONARY_LEN_MAX, Dictionary, codec_name, compress, decompress, id,
    is_known, register, takes_dictionary,
};

const CODECS: &[Codec] = &[
    Codec::None,
    Codec::Lz4,
    Codec::Lz4hc { level: 1 },
    Codec::Lz4hc { level: 9 },
    Codec::Lz4hc { level: 11 },
    Codec::Snappy,
    Codec::Zstd { level: -7 },
    Codec::Zstd { level: 0 },
    Codec::Zstd { level: 1 },
    Codec::Zstd { level: 3 },
    Codec::Zstd { level: 9 },
    Codec::Brotli { quality: 0 },
    Codec::Brotli { quality: 1 },
    Codec::Brotli { quality: 4 },
];

const SLOW_CODECS: &[Codec] = &[
    Codec::Zstd { level: 19 },
    Codec::Zstd { level: 22 },
    Codec::Brotli { quality: 9 },
    Codec::Brotli { quality: 10 },
    Codec::Brotli { quality: 11 },
];

const SIZES: &[usize] = &[
    0, 1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 14, 15, 16, 17, 31, 63, 64, 65, 100, 255, 256, 257, 1000, 1007, 1008, 1009,
    1023, 1024, 1025, 4095, 4096, 16_384, 32_768, 65_534, 65_535, 65_536, 65_537, 70_000,
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Zeros, noise, text of records, columns of numbers, and long repeats with rare changes.
fn shapes(len: usize) -> Vec<Vec<u8>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ len as u64);
    let noise: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
    let mut text = Vec::new();
    while text.len() < len {
        text.extend(record(random.below(5000)));
    }
    text.truncate(len);
    let numbers: Vec<u8> =
        (0..len as u64 / 8 + 1).flat_map(|i| (1_700_000_000 + i * 37).to_le_bytes()).take(len).collect();
    let mut repeats: Vec<u8> = (0..len).map(|i| b"abcdefghijklmnopqrstuvwxyz0123456789"[i % 36]).collect();
    (0..len / 500).for_each(|_| repeats[random.below(len)] = random.next() as u8);
    vec![vec![0; len], noise, text, numbers, repeats]
}

fn record(i: usize) -> Vec<u8> {
    format!("{{\"id\":{i},\"name\":\"customer-{}\",\"city\":\"Jena\",\"balance\":{}}}\n", i * 7919 % 977, i * 31)
        .into_bytes()
}

fn dictionary() -> Dictionary {
    let records: Vec<Vec<u8>> = (0..600).map(record).collect();
    let samples: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    Dictionary::train(&samples, 4096).unwrap()
}

fn pack(codec: Codec, src: &[u8], dictionary: Option<&Dictionary>) -> Vec<u8> {
    let mut out = b"kept".to_vec();
    compress(codec, src, dictionary, &mut out).unwrap();
    assert_eq!(&out[..4], b"kept");
    out.split_off(4)
}

fn unpack(id: u8, src: &[u8], len: usize, dictionary: Option<&Dictionary>) -> Result<Vec<u8>, CodecError> {
    let mut dst = vec![0xa5; len];
    let result = decompress(id, src, &mut dst, dictionary);
    if result.is_err() {
        assert!(dst.iter().all(|byte| *byte == 0), "a failed decode left bytes behind");
    }
    result.map(|()| dst)
}

fn assert_round_trip(codec: Codec, src: &[u8], dictionary: Option<&Dictionary>) {
    let packed = pack(codec, src, dictionary);
    let back = unpack(codec.id(), &packed, src.len(), dictionary);
    assert!(back.as_deref() == Ok(src), "{codec} at {} bytes: {:?}", src.len(), back.err());
    for wrong in [src.len() + 1, src.len().wrapping_sub(1)].into_iter().filter(|len| *len < BLOCK_LEN_MAX) {
        let back = unpack(codec.id(), &packed, wrong, dictionary);
        assert!(back.is_err(), "{codec}: {} bytes decoded to {wrong}", src.len());
    }
}

#[test]
fn every_codec_gives_back_every_shape_and_size() {
    for &len in SIZES {
        for src in shapes(len) {
            CODECS.iter().for_each(|codec| assert_round_trip(*codec, &src, None));
        }
    }
}

#[test]
fn slow_levels_give_back_what_they_were_given() {
    for len in [0, 1, 100, 4096, 20_000] {
        for src in shapes(len) {
            SLOW_CODECS.iter().for_each(|codec| assert_round_trip(*codec, &src, None));
        }
    }
}

#[test]
fn dictionaries_give_back_what_they_were_given() {
    let trained = dictionary();
    let raw = Dictionary::from_bytes((0..900).flat_map(record).collect()).unwrap();
    let tiny = Dictionary::from_bytes(b"customer".to_vec()).unwrap();
    let codecs = [
        Codec::None,
        Codec::Lz4,
        Codec::Lz4hc { level: 2 },
        Codec::Lz4hc { level: 9 },
        Codec::Lz4hc { level: 10 },
        Codec::Zstd { level: -3 },
        Codec::Zstd { level: 1 },
        Codec::Zstd { level: 3 },
        Codec::Zstd { level: 12 },
    ];
    for dictionary in [&trained, &raw, &tiny] {
        for len in [0, 1, 5, 12, 13, 100, 256, 4096, 16_384, 65_536, 70_000] {
            for src in shapes(len) {
                codecs.iter().for_each(|codec| assert_round_trip(*codec, &src, Some(dictionary)));
            }
        }
        let src = shapes(1000).remove(2);
        for codec in [Codec::Lz4, Codec::Lz4hc { level: 9 }, Codec::Zstd { level: 3 }] {
            let (with, without) = (pack(codec, &src, Some(dictionary)), pack(codec, &src, None));
            assert!(with.len() <= without.len() + 8, "{codec}: {} against {}", with.len(), without.len());
        }
    }
    let src = shapes(1000).remove(2);
    for codec in [Codec::Lz4, Codec::Lz4hc { level: 9 }, Codec::Zstd { level: 3 }] {
        let (with, without) = (pack(codec, &src, Some(&trained)).len(), pack(codec, &src, None).len());
        assert!(with * 10 < without * 9, "{codec}: {with} against {without}");
    }
}

#[test]
fn a_wrong_dictionary_is_an_error_or_keeps_the_length() {
    let right = dictionary();
    let wrong = Dictionary::from_bytes((5000..5100).flat_map(record).collect()).unwrap();
    let src = shapes(3000).remove(2);
    for codec in [Codec::Lz4, Codec::Lz4hc { level: 6 }, Codec::Zstd { level: 1 }, Codec::Zstd { level: 9 }] {
        let packed = pack(codec, &src, Some(&right));
        for other in [None, Some(&wrong)] {
            if let Ok(back) = unpack(codec.id(), &packed, src.len(), other) {
                assert!(back != src, "{codec} did not use its dictionary");
            }
        }
    }
}

#[test]
fn damage_is_an_error_or_keeps_the_length() {
    let dictionary = dictionary();
    let mut random = Random(7);
    for src in [record(3), shapes(300).remove(2), vec![7; 200], shapes(40).remove(1), Vec::new()] {
        for &codec in CODECS {
            for dictionary in [None, Some(&dictionary)] {
                if dictionary.is_some() && !codec.takes_dictionary() {
                    continue;
                }
                let packed = pack(codec, &src, dictionary);
                for cut in 0..packed.len() {
                    let back = unpack(codec.id(), &packed[..cut], src.len(), dictionary);
                    assert!(
                        back.is_err() || codec.id() == id::LZ4 || back.as_deref() == Ok(&src),
                        "{codec}: cut at {cut}"
                    );
                }
                let _ = unpack(codec.id(), &[packed.as_slice(), &[0; 3]].concat(), src.len(), dictionary);
                for at in 0..packed.len() {
                    let mut damaged = packed.clone();
                    for change in (0..8).map(|bit| 1 << bit).chain([0xff, random.next() as u8]) {
                        damaged[at] = packed[at] ^ change;
                        let _ = unpack(codec.id(), &damaged, src.len(), dictionary);
                        let _ = unpack(codec.id(), &damaged, random.below(600), dictionary);
                    }
                }
            }
        }
    }
}

#[test]
fn noise_is_refused_without_a_panic() {
    let dictionary = dictionary();
    let mut random = Random(11);
    for _ in 0..3000 {
        let src: Vec<u8> = (0..random.below(60)).map(|_| random.next() as u8).collect();
        for id in [id::NONE, id::LZ4, id::SNAPPY, id::ZSTD, id::BROTLI, 5, 127, 255] {
            let len = random.below(2000);
            let _ = unpack(id, &src, len, None);
            let _ = unpack(id, &src, len, Some(&dictionary));
        }
    }
}

#[test]
fn bombs_stop_at_the_end_of_the_buffer() {
    let src = vec![0; 4 << 20];
    for codec in [
        Codec::Lz4,
        Codec::Lz4hc { level: 9 },
        Codec::Lz4hc { level: 12 },
        Codec::Snappy,
        Codec::Zstd { level: 3 },
        Codec::Brotli { quality: 5 },
    ] {
        let bomb = pack(codec, &src, None);
        for len in [0, 1, 100, 4096] {
            let error = unpack(codec.id(), &bomb, len, None).unwrap_err();
            let told = matches!(error, CodecError::WrongLength { expected, .. } if expected == len);
            assert!(told || codec.id() == id::BROTLI, "{codec}: {error}");
        }
    }
}

#[test]
fn empty_input_is_malformed_and_empty_output_is_fine() {
    for &codec in &CODECS[1..] {
        for len in [0, 5] {
            assert!(matches!(unpack(codec.id(), &[], len, None), Err(CodecError::Malformed { .. })), "{codec} {len}");
        }
        assert!(!pack(codec, &[], None).is_empty());
    }
    assert_eq!(unpack(id::NONE, &[], 0, None), Ok(Vec::new()));
}

#[test]
fn codecs_without_dictionaries_refuse_one() {
    let dictionary = dictionary();
    for codec in [Codec::Snappy, Codec::Brotli { quality: 4 }] {
        let mut out = b"kept".to_vec();
        assert!(matches!(compress(codec, b"data", Some(&dictionary), &mut out), Err(CodecError::Dictionary(_))));
        assert_eq!(out, b"kept");
        assert!(matches!(unpack(codec.id(), b"data", 4, Some(&dictionary)), Err(CodecError::Dictionary(_))));
        assert!(!takes_dictionary(codec.id()));
    }
}

#[test]
fn dictionaries_are_checked() {
    for len in [0, 7, DICTIONARY_LEN_MAX + 1] {
        assert!(matches!(Dictionary::from_bytes(vec![1; len]), Err(CodecError::Dictionary(_))), "{len}");
    }
    assert_eq!(Dictionary::from_bytes(vec![1; DICTIONARY_LEN_MAX]).unwrap().bytes().len(), DICTIONARY_LEN_MAX);
    let trained = dictionary();
    assert!(trained.bytes().len() <= 4096);
    assert_eq!(Dictionary::from_bytes(trained.bytes().to_vec()).unwrap(), trained);
    // The magic of a trained dictionary with nothing behind it that could be its tables.
    let mut damaged = trained.bytes().to_vec();
    damaged[8..200].fill(0xff);
    let error = Dictionary::from_bytes(damaged).unwrap_err();
    assert_eq!(error.to_string(), "dictionary: it begins like a trained one and is damaged");
    // Every other damage is either found or harmless.
    let mut random = Random(3);
    for _ in 0..300 {
        let mut bytes = trained.bytes().to_vec();
        bytes[random.below(300)] ^= 1 << random.below(8);
        if let Ok(dictionary) = Dictionary::from_bytes(bytes) {
            let mut out = Vec::new();
            let _ = compress(Codec::Zstd { level: 3 }, b"some data to compress", Some(&dictionary), &mut out);
            let _ = unpack(id::ZSTD, &out, 21, Some(&dictionary));
        }
    }
}

#[test]
fn training_on_too_little_says_so() {
    let one: &[u8] = b"a single sample of some length";
    let short: &[u8] = b"short";
    let error = Dictionary::train(&[one; 7], 1024).unwrap_err();
    assert_eq!(error.to_string(), "dictionary: training needs at least 8 samples of 8 bytes or more; there are 7");
    assert!(Dictionary::train(&[short; 100], 1024).is_err());
    assert!(Dictionary::train(&[], 1024).is_err());
    for size in [0, 255, DICTIONARY_LEN_MAX + 1] {
        assert!(Dictionary::train(&[one; 100], size).unwrap_err().to_string().contains("is not between 256 and"));
    }
    // Whatever the samples, training ends with a dictionary or an error.
    let mut random = Random(5);
    for round in 0..60 {
        let samples: Vec<Vec<u8>> = (0..8 + random.below(30))
            .map(|_| (0..random.below(40)).map(|_| if round % 2 == 0 { 7 } else { random.next() as u8 }).collect())
            .collect();
        let samples: Vec<&[u8]> = samples.iter().map(Vec::as_slice).collect();
        if let Err(error) = Dictionary::train(&samples, 256 + random.below(4096)) {
            assert!(matches!(error, CodecError::Dictionary(_)), "{error}");
        }
    }
}

/// Frames as this version of the format stores them. A change here is a change of the format.
#[test]
fn stored_frames_stay_readable() {
    let text = b"lignite, lignite, lignite: brown coal burns; brown coal burns.";
    let dictionary = Dictionary::from_bytes(b"brown coal burns; lignite is brown coal".to_vec()).unwrap();
    for (id, with, hex) in GOLDEN {
        let dictionary = with.then_some(&dictionary);
        let back = unpack(*id, &from_hex(hex), text.len(), dictionary);
        assert!(back.as_deref() == Ok(text), "{}: {:?}\n{}", codec_name(*id), back, golden_now(text));
    }
}

const GOLDEN: &[(u8, bool, &str)] = &[
    (
        0,
        false,
        "6c69676e6974652c206c69676e6974652c206c69676e6974653a2062726f776e20636f616c206275726e733b2062726f776e20636f616c206275726e732e",
    ),
    (1, false, "9c6c69676e6974652c200900f8043a2062726f776e20636f616c206275726e733b1200606275726e732e"),
    (1, true, "0315002c2c2009002e3a204200071200606275726e732e"),
    (2, false, "3e206c69676e6974652c203e0900483a2062726f776e20636f616c206275726e733b421200002e"),
    (3, false, "0000350100e86c69676e6974652c203a2062726f776e20636f616c206275726e733b2e02006bce81489103"),
    (3, true, "0000ad0000182c3a2e060035080a4c0029732c25822287d90c02"),
    (4, false, "a1e8010020bacdeb1dbfc85fdf951121c8042b4a45f491aa18aa866ffa5d02e706abfcc4cc11b0573c7d29"),
];

/// What [`GOLDEN`] would be today, for when a frame is added.
fn golden_now(text: &[u8]) -> String {
    let dictionary = Dictionary::from_bytes(b"brown coal burns; lignite is brown coal".to_vec()).unwrap();
    let (zstd, brotli) = (Codec::Zstd { level: 3 }, Codec::Brotli { quality: 9 });
    let all = [
        (Codec::None, false),
        (Codec::Lz4, false),
        (Codec::Lz4, true),
        (Codec::Snappy, false),
        (zstd, false),
        (zstd, true),
        (brotli, false),
    ];
    let line = |(codec, with): (Codec, bool)| {
        let frame = pack(codec, text, with.then_some(&dictionary));
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("    ({}, {with}, \"{hex}\"),\n", codec.id())
    };
    all.into_iter().map(line).collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Run-length coding, and three ways of misbehaving by level.
struct RunLength(u8, &'static str);

impl BlockCodec for RunLength {
    fn id(&self) -> u8 {
        self.0
    }

    fn name(&self) -> &str {
        self.1
    }

    fn compress(&self, src: &[u8], level: i32, _: Option<&Dictionary>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match level {
            -1 => out.clear(),
            -2 => {
                out.extend(b"half");
                return Err(CodecError::malformed("rle", "as asked"));
            }
            _ => src
                .chunk_by(|a, b| a == b)
                .flat_map(|run| run.chunks(255))
                .for_each(|run| out.extend([run.len() as u8, run[0]])),
        }
        Ok(())
    }

    fn decompress(&self, src: &[u8], dst: &mut [u8], _: Option<&Dictionary>) -> Result<(), CodecError> {
        let back: Vec<u8> = src.chunks_exact(2).flat_map(|run| std::iter::repeat_n(run[1], run[0].into())).collect();
        if back.len() != dst.len() {
            return Err(CodecError::WrongLength { expected: dst.len(), actual: Some(back.len()) });
        }
        dst.copy_from_slice(&back);
        Ok(())
    }
}

#[test]
fn users_codecs_are_registered_once() {
    let codec = Codec::Custom { id: 130, level: 0 };
    assert_eq!(codec.validate(), Err(CodecError::UnknownId(130)));
    assert_eq!(compress(codec, b"x", None, &mut Vec::new()), Err(CodecError::UnknownId(130)));
    assert_eq!(unpack(130, b"x", 1, None), Err(CodecError::UnknownId(130)));
    assert!(!is_known(130) && codec_name(130) == "codec 130");

    register(Arc::new(RunLength(130, "rle"))).unwrap();
    codec.validate().unwrap();
    assert!(is_known(130) && codec_name(130) == "rle" && codec.name() == "rle" && takes_dictionary(130));
    for len in [0, 1, 300, 5000] {
        shapes(len).iter().for_each(|src| assert_round_trip(codec, src, None));
    }
    let mut out = b"kept".to_vec();
    assert!(compress(Codec::Custom { id: 130, level: -1 }, b"x", None, &mut out).is_err());
    let mut out = b"kept".to_vec();
    assert!(compress(Codec::Custom { id: 130, level: -2 }, b"x", None, &mut out).is_err());
    assert_eq!(out, b"kept");

    let refusals = [
        (130, "other", "cannot register the codec: 'rle' is registered with id 130 already"),
        (131, "rle", "cannot register the codec: 'rle' is registered with id 130 already"),
        (
            3,
            "mine",
            "cannot register the codec: id 3 belongs to the format; users' own codecs have ids from 128 to 255",
        ),
        (131, "zstd", "cannot register the codec: the name 'zstd' belongs to a built-in codec"),
        (
            131,
            "A b",
            "cannot register the codec: 'A b' is not a name of 1 to 64 lower-case letters, digits, '-' and '_'",
        ),
    ];
    for (id, name, message) in refusals {
        assert_eq!(register(Arc::new(RunLength(id, name))).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_user_id_cannot_name_a_built_in_codec() {
    let codec = Codec::Custom { id: id::LZ4, level: 0 };
    assert_eq!(codec.validate(), Err(CodecError::UnknownId(1)));
    assert_eq!(compress(codec, b"x", None, &mut Vec::new()), Err(CodecError::UnknownId(1)));
}

#[test]
fn texts_read_back() {
    let custom = Codec::Custom { id: 200, level: -5 };
    for codec in CODECS.iter().chain(SLOW_CODECS).chain([&custom]) {
        assert_eq!(codec.to_string().parse::<Codec>().as_ref(), Ok(codec));
    }
    for (text, codec) in [
        ("lz4hc", Codec::Lz4hc { level: 9 }),
        ("lz4hc:12", Codec::Lz4hc { level: 12 }),
        ("zstd", Codec::Zstd { level: 3 }),
        ("zstd:-7", Codec::Zstd { level: -7 }),
        ("brotli", Codec::Brotli { quality: 4 }),
        ("custom:200", Codec::Custom { id: 200, level: 0 }),
    ] {
        assert_eq!(text.parse(), Ok(codec));
    }
    for text in [
        "",
        "ZSTD",
        "zstd:",
        "zstd:x",
        "zstd:3:4",
        "lz4:1",
        "lz4hc:",
        "lz4hc:9:9",
        "custom",
        "custom:300",
        "custom:200:1:2",
        "gzip",
    ] {
        let message = text.parse::<Codec>().unwrap_err().to_string();
        assert!(message.starts_with(&format!("'{text}' is not a codec; known are none, lz4,")), "{message}");
    }
    for (text, message) in [
        ("zstd:23", "zstd has no level 23; its levels go from -7 to 22"),
        ("zstd:-8", "zstd has no level -8; its levels go from -7 to 22"),
        ("lz4hc:0", "lz4hc has no level 0; its levels go from 1 to 12"),
        ("lz4hc:13", "lz4hc has no level 13; its levels go from 1 to 12"),
        ("lz4hc:-1", "lz4hc has no level -1; its levels go from 1 to 12"),
        ("brotli:12", "brotli has no level 12; its levels go from 0 to 11"),
        ("brotli:-1", "brotli has no level -1; its levels go from 0 to 11"),
        ("brotli:300", "brotli has no level 300; its levels go from 0 to 11"),
        ("custom:7", "codec 7 is not known to this version"),
    ] {
        assert_eq!(text.parse::<Codec>().unwrap_err().to_string(), message);
    }
    let mut out = Vec::new();
    for codec in [
        Codec::Zstd { level: 23 },
        Codec::Brotli { quality: 12 },
        Codec::Lz4hc { level: 0 },
        Codec::Lz4hc { level: 13 },
    ] {
        assert!(matches!(codec.validate(), Err(CodecError::InvalidLevel { .. })));
        assert!(matches!(compress(codec, b"", None, &mut out), Err(CodecError::InvalidLevel { .. })));
    }
}

#[test]
fn threads_share_dictionaries() {
    let dictionary = dictionary();
    let src = shapes(4000).remove(2);
    std::thread::scope(|scope| {
        for level in 1..5 {
            let (dictionary, src) = (&dictionary, &src);
            scope.spawn(move || (0..20).for_each(|_| assert_round_trip(Codec::Zstd { level }, src, Some(dictionary))));
            let codec = Codec::Lz4hc { level: level as u8 * 3 };
            scope.spawn(move || (0..20).for_each(|_| assert_round_trip(codec, src, Some(dictionary))));
        }
    });
}

#[test]
fn a_finalized_dictionary_helps_and_keeps_its_bounds() {
    let records: Vec<Vec<u8>> = (0..400u32)
        .map(|i| format!("{{\"id\":{i},\"kind\":\"order\",\"state\":\"paid\",\"sum\":{}}}", i * 37 % 1000).into_bytes())
        .collect();
    let samples: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    for size in [256, 2048, 64 << 10] {
        let dictionary = Dictionary::finalize(&samples[..300], size, 3).unwrap();
        assert!(dictionary.bytes().len() <= size);
        let len = |dictionary| {
            let mut out = Vec::new();
            compress(Codec::Zstd { level: 3 }, samples[350], dictionary, &mut out).unwrap();
            out.len()
        };
        assert!(len(Some(&dictionary)) < len(None), "{size}");
        assert_eq!(Dictionary::finalize(&samples[..300], size, 3).unwrap(), dictionary, "a function of its input");
    }
    assert!(Dictionary::finalize(&samples[..7], 2048, 3).is_err());
    assert!(Dictionary::finalize(&[&[][..]; 20], 2048, 3).is_err());
    assert!(Dictionary::finalize(&samples, 255, 3).is_err());
}
