//! High-effort LZ4 against its reference, C LZ4: what we encode, C decodes, and the other way round;
//! blocks keep the rules of the format; and they are about as small as those of C LZ4HC.
#![allow(clippy::unwrap_used)]

use lignite_codecs::{Codec, Dictionary, compress, decompress, id};

#[path = "support/c_lz4.rs"]
mod c_lz4;

const LEVELS: std::ops::RangeInclusive<u8> = 1..=12;

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

    fn pick(&mut self, choices: &[usize]) -> usize {
        choices[self.below(choices.len())]
    }
}

/// Bytes made of literals, copies of what is there at all distances, and runs.
fn mixture(random: &mut Random, len: usize) -> Vec<u8> {
    let alphabet = random.pick(&[2, 4, 16, 64, 256]);
    let mut out: Vec<u8> = Vec::with_capacity(len + 1000);
    while out.len() < len {
        let n_max = random.pick(&[4, 20, 300]);
        let n = 1 + random.below(n_max);
        match random.below(4) {
            0 => out.extend((0..n).map(|_| random.below(alphabet) as u8)),
            1 => {
                let byte = random.below(alphabet) as u8;
                out.extend(std::iter::repeat_n(byte, n));
            }
            _ if out.is_empty() => {}
            _ => {
                let reach = random.pick(&[8, 300, 70_000]).min(out.len());
                let from = out.len() - 1 - random.below(reach);
                (0..n).for_each(|i| out.push(out[from + i]));
            }
        }
    }
    out.truncate(len);
    out
}

fn text(random: &mut Random, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while out.len() < len {
        let i = random.below(100_000);
        out.extend(
            format!("{{\"id\":{i},\"name\":\"customer-{}\",\"city\":\"Jena\",\"sum\":{}}}\n", i * 7919 % 977, i * 31)
                .bytes(),
        );
    }
    out.truncate(len);
    out
}

fn pack(level: u8, src: &[u8], dictionary: Option<&Dictionary>) -> Vec<u8> {
    let mut out = Vec::new();
    compress(Codec::Lz4hc { level }, src, dictionary, &mut out).unwrap();
    out
}

/// Both decoders give the content back, and every sequence keeps the rules.
fn assert_sound(level: u8, src: &[u8], dictionary: Option<&Dictionary>) -> usize {
    let packed = pack(level, src, dictionary);
    let mut back = vec![0; src.len()];
    decompress(id::LZ4, &packed, &mut back, dictionary).unwrap();
    assert!(back == src, "level {level}: our decoder, {} bytes", src.len());
    let history = dictionary.map_or(&[][..], Dictionary::bytes);
    let by_c = c_lz4::decompress(&packed, src.len(), history);
    assert!(by_c.as_deref() == Some(src), "level {level}: C's decoder, {} bytes", src.len());
    assert!(packed.len() <= src.len() + src.len() / 255 + 16, "level {level}: {} bytes", src.len());
    assert_rules(&packed, src.len(), history.len());
    packed.len()
}

/// The last sequence has no match and five literals at least, the last match begins twelve bytes before
/// the end or earlier, and no offset reaches before the dictionary.
fn assert_rules(mut packed: &[u8], len: usize, history: usize) {
    fn more(packed: &mut &[u8], nibble: u8) -> usize {
        let (mut sum, mut last) = (usize::from(nibble), if nibble == 15 { 255 } else { 0 });
        while last == 255 {
            let (byte, rest) = packed.split_first().unwrap();
            *packed = rest;
            sum += usize::from(*byte);
            last = *byte;
        }
        sum
    }
    let (mut at, mut matched) = (0, false);
    loop {
        let (token, rest) = packed.split_first().unwrap();
        packed = rest;
        let literals = more(&mut packed, token >> 4);
        packed = &packed[literals..];
        at += literals;
        if packed.is_empty() {
            assert!(!matched || literals >= 5);
            assert_eq!(at, len);
            return;
        }
        let offset = usize::from(u16::from_le_bytes([packed[0], packed[1]]));
        packed = &packed[2..];
        assert!(offset > 0 && offset <= at + history && at + 12 <= len, "offset {offset} at {at} of {len}");
        at += more(&mut packed, token & 15) + 4;
        matched = true;
    }
}

#[test]
fn every_level_and_length_is_sound() {
    let mut random = Random(1);
    let dictionary = Dictionary::from_bytes(text(&mut random, 3000)).unwrap();
    for len in (0..70).chain([255, 256, 270, 271, 1000, 4096, 16_384, 16_385, 65_535, 65_536, 65_549, 140_000]) {
        for src in [mixture(&mut random, len), text(&mut random, len), vec![7; len]] {
            for level in LEVELS {
                assert_sound(level, &src, None);
                assert_sound(level, &src, Some(&dictionary));
            }
        }
    }
}

#[test]
fn random_content_under_random_dictionaries_is_sound() {
    let mut random = Random(2);
    for _ in 0..60 {
        let history = random.pick(&[8, 100, 5000, 65_534, 65_535, 65_536, 65_537, 200_000]);
        let (dictionary_len, len) = (history, random.below(40_000));
        let mut both = mixture(&mut random, dictionary_len + len);
        let src = both.split_off(dictionary_len);
        let dictionary = Dictionary::from_bytes(both).unwrap();
        for level in [1, 2, 3, 6, 9, 10, 12] {
            assert_sound(level, &src, Some(&dictionary));
        }
    }
}

#[test]
fn what_c_encodes_is_decoded() {
    let mut random = Random(3);
    for round in 0..60 {
        let dictionary_len = random.pick(&[8, 3000, 70_000]);
        let len = 1 + random.below(50_000);
        let mut both = mixture(&mut random, dictionary_len + len);
        let src = both.split_off(dictionary_len);
        let dictionary = (round % 2 == 0).then(|| Dictionary::from_bytes(both).unwrap());
        for level in [3, 9, 12] {
            let mut packed = Vec::new();
            c_lz4::Encoder::new(level, dictionary.as_ref().map(Dictionary::bytes)).compress(&src, &mut packed);
            let mut back = vec![0; src.len()];
            decompress(id::LZ4, &packed, &mut back, dictionary.as_ref()).unwrap();
            assert!(back == src);
        }
    }
}

#[test]
fn blocks_are_as_small_as_those_of_c() {
    let mut random = Random(4);
    let dictionary = Dictionary::from_bytes(text(&mut random, 64 << 10)).unwrap();
    for dictionary in [None, Some(&dictionary)] {
        for (level, permille) in [(3, 1050), (6, 1020), (9, 1005), (10, 1010), (11, 1005), (12, 1005)] {
            let mut c = c_lz4::Encoder::new(i32::from(level), dictionary.map(Dictionary::bytes));
            let (mut ours, mut reference) = (0, 0);
            for len in [4096, 16_384, 65_536] {
                for src in [text(&mut random, len), mixture(&mut random, len), mixture(&mut random, len)] {
                    ours += pack(level, &src, dictionary).len();
                    let mut packed = Vec::new();
                    c.compress(&src, &mut packed);
                    reference += packed.len();
                }
            }
            assert!(ours * 1000 <= reference * permille, "level {level}: {ours} against {reference}");
        }
    }
}

#[test]
fn more_effort_saves_more() {
    let mut random = Random(5);
    let src = text(&mut random, 60_000);
    let mut fast = Vec::new();
    compress(Codec::Lz4, &src, None, &mut fast).unwrap();
    let sizes: Vec<usize> = LEVELS.map(|level| pack(level, &src, None).len()).collect();
    assert!(sizes[0] < fast.len() && sizes[8] < sizes[2] && sizes[2] < sizes[0] && sizes[11] <= sizes[8], "{sizes:?}");
}

/// What earlier blocks left in the thread's tables and window never shows.
#[test]
fn a_block_does_not_depend_on_those_before() {
    let mut random = Random(6);
    let dictionaries: Vec<Dictionary> =
        [100, 70_000, 70_000].iter().map(|len| Dictionary::from_bytes(mixture(&mut random, *len)).unwrap()).collect();
    let blocks: Vec<(u8, Vec<u8>, Option<&Dictionary>)> = (0..80)
        .map(|_| {
            let len_max = random.pick(&[30, 3000, 90_000]);
            let len = random.below(len_max);
            (1 + random.below(12) as u8, mixture(&mut random, len), dictionaries.get(random.below(5)))
        })
        .collect();
    let together: Vec<Vec<u8>> = blocks.iter().map(|(level, src, dictionary)| pack(*level, src, *dictionary)).collect();
    for ((level, src, dictionary), packed) in blocks.iter().zip(&together) {
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(pack(*level, src, *dictionary) == *packed, "level {level}, {} bytes", src.len()));
        });
    }
}

#[test]
fn long_blocks_are_sound() {
    let mut random = Random(7);
    let mut src = mixture(&mut random, 3 << 20);
    src.resize(6 << 20, 0);
    src.extend_from_within(1 << 20..3 << 20);
    let dictionary = Dictionary::from_bytes(src[..100_000].to_vec()).unwrap();
    for level in [1, 9, 10] {
        assert_sound(level, &src, None);
        assert_sound(level, &src, Some(&dictionary));
    }
}

#[test]
fn the_longest_parts_are_sound() {
    let mut src = text(&mut Random(8), 1 << 20).repeat(33);
    src.resize(64 << 20, 1);
    assert_sound(2, &src, None);
}

/// Runs and short periods put all positions into one chain; the depth of the search bounds the time.
#[test]
fn one_long_chain_ends() {
    let shapes: [Vec<u8>; 3] = [
        vec![0; 300_000],
        (0..100_000u32).map(|i| (i % 3) as u8).collect(),
        (0..40_000u32).map(|i| u8::from(i.wrapping_mul(0x9e37_79b9) >> 29 == 0)).collect(),
    ];
    for src in shapes {
        LEVELS.for_each(|level| {
            assert_sound(level, &src, None);
        });
    }
}
