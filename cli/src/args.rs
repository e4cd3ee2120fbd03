//! Arguments that several commands share. The commands themselves are in `cmd`.

use std::ops::Bound;
use std::str::FromStr;

use clap::{ArgAction, Args};
use lignite::internals::key::KeyRange;
use lignite::{CfOptions, Codec, Compression, DictionaryPolicy, FilterPolicy, Objective};

use crate::choice::{check_dictionary_size, parse_choice};
use crate::exit::Failure;
use crate::output::{Color, Format};
use crate::progress::Mode;
use crate::text::{self, Style};
use crate::units::{Size, Time};

/// What every command takes.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Global {
    /// Colour on standard output.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Global options")]
    pub color: Color,
    /// Say nothing but errors on standard error.
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Say more on standard error; twice for even more.
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
    /// How far long commands are, on standard error: a bar on terminals, or JSON lines.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM", help_heading = "Global options")]
    pub progress: Mode,
}

/// The format of the result.
#[derive(Args, Clone, Copy, Debug)]
pub struct FormatArgs {
    /// Format of the result on standard output.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Short for --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl FormatArgs {
    /// The format that was asked for.
    pub fn get(self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

/// How keys and values are shown.
#[derive(Args, Clone, Copy, Debug)]
pub struct StyleArgs {
    /// How to show keys; see: lignite help keys.
    #[arg(long, value_enum, default_value_t, hide_possible_values = true, value_name = "STYLE")]
    pub keys: Style,
    /// How to show values: auto, text, hex, b64, esc, u64, len or none.
    #[arg(long, value_enum, default_value_t, hide_possible_values = true, value_name = "STYLE")]
    pub values: Style,
}

/// One column family.
#[derive(Args, Clone, Debug)]
pub struct FamilyArg {
    /// The column family.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub cf: String,
}

/// A range of keys.
#[derive(Args, Clone, Debug)]
pub struct RangeArgs {
    /// The first key, inclusive.
    #[arg(long, value_name = "KEY")]
    pub from: Option<Bytes>,
    /// The end, exclusive.
    #[arg(long, value_name = "KEY")]
    pub to: Option<Bytes>,
    /// Only keys that begin so.
    #[arg(long, value_name = "KEY")]
    pub prefix: Option<Bytes>,
}

impl RangeArgs {
    /// True if no end was given.
    pub fn is_everything(&self) -> bool {
        self.from.is_none() && self.to.is_none() && self.prefix.is_none()
    }

    /// The range: what lies within all that was given.
    pub fn get(&self) -> KeyRange {
        let mut range = self.prefix.as_ref().map_or(KeyRange::ALL, |p| KeyRange::prefix(&p.0));
        if let Some(Bytes(from)) = &self.from
            && range.first() < *from
        {
            range.start = Bound::Included(from.clone());
        }
        if let Some(Bytes(to)) = &self.to
            && range.limit().is_none_or(|limit| *to < limit)
        {
            range.end = Bound::Excluded(to.clone());
        }
        if range.is_empty() {
            // One spelling of "nothing": an end before its start is no range for anybody else.
            return KeyRange { start: Bound::Included(Vec::new()), end: Bound::Excluded(Vec::new()) };
        }
        range
    }

    /// In words.
    pub fn describe(&self) -> String {
        let show = |k: &Bytes| text::show(&k.0, Style::Auto);
        let part = |name: &str, key: &Option<Bytes>| key.as_ref().map(|k| format!("{name} {}", show(k)));
        let parts = [part("from", &self.from), part("to", &self.to), part("with prefix", &self.prefix)];
        let words: Vec<String> = parts.into_iter().flatten().collect();
        if words.is_empty() { "all keys".to_string() } else { format!("keys {}", words.join(" ")) }
    }
}

/// A key or value as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl FromStr for Bytes {
    type Err = String;
    fn from_str(typed: &str) -> Result<Bytes, String> {
        text::parse(typed).map(Bytes)
    }
}

/// How blocks of a column family are compressed.
#[derive(Args, Clone, Debug, Default)]
pub struct CompressionOptions {
    /// Codec of every level: none, lz4, lz4hc[:1-12], snappy, zstd[:-7..22] or brotli[:0-11]; +dict[:SIZE] behind
    /// it for a dictionary.
    #[arg(long, value_name = "CODEC", allow_hyphen_values = true)]
    pub codec: Option<String>,
    /// Codec of levels that are soon rewritten.
    #[arg(long, value_name = "CODEC")]
    pub young_codec: Option<String>,
    /// Codec of levels in between.
    #[arg(long, value_name = "CODEC")]
    pub deep_codec: Option<String>,
    /// Codec of the bottom level, where most of the data lies.
    #[arg(long, value_name = "CODEC")]
    pub bottom_codec: Option<String>,
    /// Codec of keys, where it should differ from that of values.
    #[arg(long, value_name = "CODEC")]
    pub keys_codec: Option<String>,
    /// Keep a block raw if compression saves less than so many 1/256 of it.
    #[arg(long, value_name = "N")]
    pub min_saving: Option<u8>,
    /// Size of a block before compression, such as 16KiB; auto for 16 KiB, and 8 or 4 KiB where those take little
    /// more space.
    #[arg(long, value_name = "SIZE", value_parser = parse_block_size)]
    pub block_size: Option<BlockSize>,
    /// Let the engine choose codecs, block sizes and dictionaries by measuring: smallest, balanced, fastest-reads, or
    /// decode:TIME for the smallest blocks that decode within it, such as decode:20us. Ended by none, or by naming a
    /// codec or a block size.
    #[arg(long, value_name = "OBJECTIVE", value_parser = parse_objective)]
    pub objective: Option<Aim>,
}

/// Options of a column family.
#[derive(Args, Clone, Debug, Default)]
pub struct FamilyOptions {
    #[command(flatten)]
    pub compression: CompressionOptions,
    /// Dictionaries below the young levels: auto[:SIZE] where they pay under zstd and lz4hc, or none.
    #[arg(long, value_name = "POLICY", value_parser = parse_dictionary)]
    pub dictionary: Option<DictionaryPolicy>,
    /// Size of a table on disk.
    #[arg(long, value_name = "SIZE")]
    pub table_size: Option<Size>,
    /// Filters: none, auto[:BITS] or bloom[:BITS].
    #[arg(long, value_name = "FILTER", value_parser = parse_filter)]
    pub filter: Option<FilterPolicy>,
}

/// A block size as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSize {
    /// Whatever the engine takes.
    Auto,
    /// So many bytes.
    Bytes(u64),
}

/// An objective as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// What the options say is done.
    None,
    /// The engine chooses.
    For(Objective),
}

impl CompressionOptions {
    /// True if nothing was given.
    pub fn is_empty(&self) -> bool {
        !self.chooses() && self.min_saving.is_none() && self.objective.is_none()
    }

    /// True if a codec or a block size was given.
    fn chooses(&self) -> bool {
        let codecs = [&self.codec, &self.young_codec, &self.deep_codec, &self.bottom_codec, &self.keys_codec];
        self.block_size.is_some() || codecs.iter().any(|codec| codec.is_some())
    }

    /// These options with what was given put over them.
    pub fn apply(&self, mut options: CfOptions) -> Result<CfOptions, Failure> {
        let mut wanted: Option<u64> = None;
        let mut codec = |typed: &Option<String>| -> Result<Option<Codec>, Failure> {
            let Some(choice) = typed.as_deref().map(parse_choice).transpose()? else { return Ok(None) };
            match (wanted, choice.dictionary) {
                (Some(one), Some(other)) if one != other => {
                    return Err(Failure::usage("a family has dictionaries of one size; two are given"));
                }
                (_, given) => wanted = wanted.or(given),
            }
            Ok(Some(choice.codec))
        };
        let compression = &mut options.compression;
        if let Some(all) = codec(&self.codec)? {
            *compression = Compression::all(all).min_saving(compression.min_saving);
        }
        if let Some(deep) = codec(&self.deep_codec)? {
            compression.deep = deep;
        }
        if let Some(bottom) = codec(&self.bottom_codec)? {
            compression.bottom = bottom;
        }
        if let Some(keys) = codec(&self.keys_codec)? {
            compression.keys = Some(keys);
        }
        if let Some(young) = self.young_codec.as_deref().map(parse_choice).transpose()? {
            if young.dictionary.is_some() {
                return Err(Failure::usage(
                    "young levels are rewritten too soon for a dictionary; name it for the others",
                ));
            }
            compression.young = young.codec;
        }
        if let Some(size) = wanted {
            options.dictionary = DictionaryPolicy::Wanted { size: u32::try_from(size).unwrap_or(u32::MAX) };
        }
        if let Some(min_saving) = self.min_saving {
            compression.min_saving = min_saving;
        }
        match self.block_size {
            None => {}
            Some(BlockSize::Auto) => options.block_size = 0,
            Some(BlockSize::Bytes(size)) => options.block_size = usize::try_from(size).unwrap_or(usize::MAX),
        }
        match self.objective {
            // Who names a codec wants that one, whatever the engine would choose.
            None if self.chooses() => options.objective = None,
            None => {}
            Some(Aim::None) => options.objective = None,
            Some(Aim::For(_)) if self.chooses() => {
                return Err(Failure::usage("an objective chooses codecs and block sizes; give it, or those"));
            }
            Some(Aim::For(objective)) => options.objective = Some(objective),
        }
        options.validate()?;
        Ok(options)
    }
}

impl FamilyOptions {
    /// True if nothing was given.
    pub fn is_empty(&self) -> bool {
        self.compression.is_empty() && self.dictionary.is_none() && self.table_size.is_none() && self.filter.is_none()
    }

    /// These options with what was given put over them.
    pub fn apply(&self, mut options: CfOptions) -> Result<CfOptions, Failure> {
        if let Some(dictionary) = self.dictionary {
            options.dictionary = dictionary;
        }
        let mut options = self.compression.apply(options)?;
        if let Some(Size(size)) = self.table_size {
            options.table_size = size;
        }
        if let Some(filter) = self.filter {
            options.filter = filter;
        }
        options.validate()?;
        Ok(options)
    }
}

fn parse_block_size(typed: &str) -> Result<BlockSize, String> {
    match typed {
        "auto" => Ok(BlockSize::Auto),
        // Zero is how the engine spells auto; whoever types it has something else in mind.
        _ => match typed.parse()? {
            Size(0) => Err("a block of nothing holds nothing; auto lets the engine choose".to_string()),
            Size(size) => Ok(BlockSize::Bytes(size)),
        },
    }
}

/// An objective, or none.
fn parse_objective(typed: &str) -> Result<Aim, String> {
    Ok(match typed {
        "none" => Aim::None,
        _ => Aim::For(parse_wish(typed)?),
    })
}

/// An objective.
pub fn parse_wish(typed: &str) -> Result<Objective, String> {
    match typed {
        "smallest" => Ok(Objective::Smallest),
        "balanced" => Ok(Objective::Balanced),
        "fastest-reads" => Ok(Objective::FastestReads),
        _ => match typed.strip_prefix("decode:") {
            Some(time) => Ok(Objective::Decode(time.parse::<Time>()?.0)),
            None => Err("expected smallest, balanced, fastest-reads or decode:TIME, such as decode:20us".to_string()),
        },
    }
}

/// A policy of dictionaries.
pub fn parse_dictionary(typed: &str) -> Result<DictionaryPolicy, String> {
    match typed {
        "none" => Ok(DictionaryPolicy::None),
        "auto" => Ok(DictionaryPolicy::DEFAULT),
        _ => match typed.strip_prefix("auto:") {
            Some(size) => {
                let Size(size) = size.parse()?;
                check_dictionary_size(size)?;
                Ok(DictionaryPolicy::Auto { size: u32::try_from(size).unwrap_or(u32::MAX) })
            }
            None => Err("expected auto, auto:SIZE or none".to_string()),
        },
    }
}

fn parse_filter(typed: &str) -> Result<FilterPolicy, String> {
    let (name, bits) = match typed.split_once(':') {
        Some((name, bits)) => (name, Some(bits)),
        None => (typed, None),
    };
    let bits_per_key = bits.map_or(Ok(10), |b| b.parse().map_err(|_| format!("{b:?} is not a number of bits")))?;
    match name {
        "none" if bits.is_none() => Ok(FilterPolicy::None),
        "auto" => Ok(FilterPolicy::Auto { bits_per_key }),
        "bloom" => Ok(FilterPolicy::Bloom { bits_per_key }),
        _ => Err("expected none, auto[:BITS] or bloom[:BITS]".to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::exit::Exit;

    #[test]
    fn ranges_are_what_lies_within_all_ends() {
        let range = |from: Option<&str>, to: Option<&str>, prefix: Option<&str>| {
            let key = |k: Option<&str>| k.map(|k| Bytes(k.as_bytes().to_vec()));
            RangeArgs { from: key(from), to: key(to), prefix: key(prefix) }.get()
        };
        assert_eq!(range(None, None, None), KeyRange::ALL);
        let r = range(Some("ab"), None, Some("a"));
        assert!(r.contains(b"ab") && r.contains(b"a\xff") && !r.contains(b"aa") && !r.contains(b"b"));
        let r = range(Some("0"), Some("ac"), Some("a"));
        assert!(r.contains(b"a") && r.contains(b"ab") && !r.contains(b"ac") && !r.contains(b"9"));
        assert!(range(Some("b"), Some("a"), None).is_empty());
        assert!(range(Some("b"), None, Some("a")).is_empty());
    }

    fn given(codec: &str) -> FamilyOptions {
        let compression = CompressionOptions { codec: Some(codec.into()), ..CompressionOptions::default() };
        FamilyOptions { compression, ..FamilyOptions::default() }
    }

    #[test]
    fn later_options_go_over_earlier_ones() {
        let mut wanted = given("lz4");
        wanted.compression.bottom_codec = Some("zstd:9".into());
        wanted.compression.block_size = Some(BlockSize::Bytes(8192));
        let options = wanted.apply(CfOptions::new()).unwrap();
        assert_eq!(options.compression.young, Codec::Lz4);
        assert_eq!(options.compression.bottom, Codec::Zstd { level: 9 });
        assert_eq!((options.block_size, options.dictionary), (8192, DictionaryPolicy::DEFAULT));
        let mut tiny = FamilyOptions::default();
        tiny.compression.block_size = Some(BlockSize::Bytes(1));
        assert_eq!(tiny.apply(CfOptions::new()).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn a_codec_with_a_dictionary_asks_the_family_for_one() {
        let options = given("zstd:3+dict:16KiB").apply(CfOptions::new()).unwrap();
        assert_eq!(options.dictionary, DictionaryPolicy::Wanted { size: 16384 });
        let mut two = given("lz4");
        two.compression.deep_codec = Some("zstd:1+dict:16KiB".into());
        two.compression.bottom_codec = Some("zstd:3+dict".into());
        assert_eq!(two.apply(CfOptions::new()).unwrap_err().exit(), Exit::Usage);
        let mut young = given("zstd:3");
        young.compression.young_codec = Some("lz4+dict".into());
        assert_eq!(young.apply(CfOptions::new()).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn a_codec_that_is_named_ends_an_objective() {
        let aimed = || CfOptions::new().objective(Objective::Smallest);
        assert_eq!(given("lz4").apply(aimed()).unwrap().objective, None);
        assert_eq!(FamilyOptions::default().apply(aimed()).unwrap().objective, Some(Objective::Smallest));
        let mut both = given("lz4");
        both.compression.objective = Some(Aim::For(Objective::Balanced));
        assert_eq!(both.apply(CfOptions::new()).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn objectives_dictionaries_and_block_sizes_as_typed() {
        assert_eq!(parse_wish("decode:20us"), Ok(Objective::Decode(Duration::from_micros(20))));
        assert_eq!(parse_objective("none"), Ok(Aim::None));
        assert_eq!(parse_objective("fastest-reads"), Ok(Aim::For(Objective::FastestReads)));
        for bad in ["", "fast", "decode", "decode:", "decode:20", "decode:0us"] {
            assert!(parse_objective(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_dictionary("auto:16KiB"), Ok(DictionaryPolicy::Auto { size: 16384 }));
        assert!(parse_dictionary("auto:1").is_err() && parse_dictionary("yes").is_err());
        assert_eq!(parse_block_size("auto"), Ok(BlockSize::Auto));
        assert!(parse_block_size("0").is_err());
    }
}
