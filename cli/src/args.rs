//! Arguments that several commands share. The commands themselves are in `cmd`.

use std::ops::Bound;
use std::str::FromStr;

use clap::{ArgAction, Args};
use lignite::internals::key::KeyRange;
use lignite::{CfOptions, Compression, FilterPolicy};

use crate::choice::parse_codec;
use crate::exit::Failure;
use crate::output::{Color, Format};
use crate::progress::Mode;
use crate::text::{self, Style};
use crate::units::Size;

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

/// Options of a column family.
#[derive(Args, Clone, Debug, Default)]
pub struct FamilyOptions {
    /// Codec of every level: none, lz4, lz4hc[:1-12], snappy, zstd[:-7..22] or brotli[:0-11].
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
    /// Size of a block before compression, such as 16KiB.
    #[arg(long, value_name = "SIZE")]
    pub block_size: Option<Size>,
    /// Size of a table on disk.
    #[arg(long, value_name = "SIZE")]
    pub table_size: Option<Size>,
    /// Filters: none, auto[:BITS] or bloom[:BITS].
    #[arg(long, value_name = "FILTER", value_parser = parse_filter)]
    pub filter: Option<FilterPolicy>,
}

impl FamilyOptions {
    /// True if nothing was given.
    pub fn is_empty(&self) -> bool {
        self.codec.is_none()
            && self.young_codec.is_none()
            && self.deep_codec.is_none()
            && self.bottom_codec.is_none()
            && self.keys_codec.is_none()
            && self.min_saving.is_none()
            && self.block_size.is_none()
            && self.table_size.is_none()
            && self.filter.is_none()
    }

    /// These options with what was given put over them.
    pub fn apply(&self, mut options: CfOptions) -> Result<CfOptions, Failure> {
        let codec = |text: &Option<String>| text.as_deref().map(parse_codec).transpose();
        let compression = &mut options.compression;
        if let Some(all) = codec(&self.codec)? {
            *compression = Compression::all(all).min_saving(compression.min_saving);
        }
        if let Some(young) = codec(&self.young_codec)? {
            compression.young = young;
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
        if let Some(min_saving) = self.min_saving {
            compression.min_saving = min_saving;
        }
        if let Some(Size(size)) = self.block_size {
            options.block_size = usize::try_from(size).unwrap_or(usize::MAX);
        }
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
    use lignite::Codec;

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

    #[test]
    fn later_options_go_over_earlier_ones() {
        let given = FamilyOptions {
            codec: Some("lz4".into()),
            bottom_codec: Some("zstd:9".into()),
            block_size: Some(Size(8192)),
            ..FamilyOptions::default()
        };
        let options = given.apply(CfOptions::new()).unwrap();
        assert_eq!(options.compression.young, Codec::Lz4);
        assert_eq!(options.compression.bottom, Codec::Zstd { level: 9 });
        assert_eq!(options.block_size, 8192);
        let tiny = FamilyOptions { block_size: Some(Size(1)), ..FamilyOptions::default() };
        assert_eq!(tiny.apply(CfOptions::new()).unwrap_err().exit(), Exit::Usage);
    }
}
