//! Codecs as typed: one of them, lists with ranges of levels, with or without a dictionary.
//!
//! ```text
//! list    item , item ..
//! item    codec [+dict[:SIZE]]  |  name:FROM..TO [+dict[:SIZE]]      both ends belong to it
//! codec   none | snappy | lz4 | lz4hc[:1-12] | zstd[:-7..22] | brotli[:0-11]
//! ```

use std::fmt;

use lignite::Codec;

use crate::exit::{Exit, Failure};
use crate::units::Size;

/// The size of a dictionary where none is said.
pub const DICTIONARY_LEN: u64 = 64 << 10;

/// A codec, and the size of the dictionary that it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The codec.
    pub codec: Codec,
    /// The most bytes of its dictionary; none for no dictionary.
    pub dictionary: Option<u64>,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.codec, if self.dictionary.is_some() { "+dict" } else { "" })
    }
}

/// A codec by its name. A name that no codec of this version has is "not supported" (code 6); a
/// malformed level is a wrong argument (code 2).
pub fn parse_codec(typed: &str) -> Result<Codec, Failure> {
    let name = typed.split([':', '+']).next().unwrap_or(typed);
    if !matches!(name, "none" | "lz4" | "lz4hc" | "snappy" | "zstd" | "brotli") || typed.contains('+') {
        return Err(Failure::new(
            Exit::Unsupported,
            format!(
                "codec {typed:?} is not supported by this version; it has none, lz4, lz4hc, snappy, zstd and brotli"
            ),
        ));
    }
    let codec: Codec = typed.parse().map_err(|e| Failure::usage(format!("codec {typed:?}: {e}")))?;
    codec.validate().map_err(|e| Failure::usage(format!("codec {typed:?}: {e}")))?;
    Ok(codec)
}

/// A codec with or without a dictionary.
pub fn parse_choice(typed: &str) -> Result<Choice, Failure> {
    let (codec, suffix) = split_suffix(typed);
    with_suffix(parse_codec(codec)?, suffix, typed)
}

/// A list of codecs; each stands in the result once.
pub fn parse_choices(typed: &str) -> Result<Vec<Choice>, Failure> {
    let mut choices = Vec::new();
    for item in typed.split(',') {
        let item = item.trim();
        let (codec, suffix) = split_suffix(item);
        for codec in parse_range(codec)? {
            let choice = with_suffix(codec, suffix, item)?;
            if !choices.contains(&choice) {
                choices.push(choice);
            }
        }
    }
    Ok(choices)
}

/// `zstd:1..9` as nine codecs, anything else as one.
fn parse_range(typed: &str) -> Result<Vec<Codec>, Failure> {
    let Some((name, from, to)) =
        typed.split_once(':').and_then(|(name, levels)| levels.split_once("..").map(|(from, to)| (name, from, to)))
    else {
        return Ok(vec![parse_codec(typed)?]);
    };
    // Both ends are levels of the codec, so there are never more of them than it has.
    for end in [from, to] {
        parse_codec(&format!("{name}:{end}"))?;
    }
    match (from.parse::<i32>(), to.parse::<i32>()) {
        (Ok(from), Ok(to)) if from <= to => (from..=to).map(|level| parse_codec(&format!("{name}:{level}"))).collect(),
        _ => {
            Err(Failure::usage(format!("codec {typed:?}: the levels go from the lower to the higher, as in zstd:1..9")))
        }
    }
}

fn split_suffix(typed: &str) -> (&str, Option<&str>) {
    typed.split_once('+').map_or((typed, None), |(codec, suffix)| (codec, Some(suffix)))
}

fn with_suffix(codec: Codec, suffix: Option<&str>, typed: &str) -> Result<Choice, Failure> {
    let wrong = |what: String| Failure::usage(format!("codec {typed:?}: {what}"));
    let dictionary = match suffix {
        None => return Ok(Choice { codec, dictionary: None }),
        Some("dict") => DICTIONARY_LEN,
        Some(suffix) => match suffix.strip_prefix("dict:") {
            Some(size) => size.parse::<Size>().map_err(wrong)?.0,
            None => return Err(wrong("the suffix is +dict or +dict:SIZE".to_string())),
        },
    };
    if codec == Codec::None || !codec.takes_dictionary() {
        return Err(wrong(format!("{} takes no dictionary; lz4, lz4hc and zstd do", codec.name())));
    }
    check_dictionary_size(dictionary).map_err(wrong)?;
    Ok(Choice { codec, dictionary: Some(dictionary) })
}

/// Fails if no dictionary of this size can be trained.
pub fn check_dictionary_size(size: u64) -> Result<(), String> {
    const LEN_MIN: u64 = 1 << 10;
    let max = lignite_codecs::DICTIONARY_LEN_MAX as u64;
    if (LEN_MIN..=max).contains(&size) {
        return Ok(());
    }
    Err(format!("a dictionary has between {LEN_MIN} and {max} bytes"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn codecs_that_are_not_there_have_their_own_code() {
        assert_eq!(parse_codec("zstd:-7").unwrap(), Codec::Zstd { level: -7 });
        assert_eq!(parse_codec("lz4hc").unwrap(), Codec::Lz4hc { level: 9 });
        assert_eq!(parse_codec("lz4hc:12").unwrap(), Codec::Lz4hc { level: 12 });
        assert_eq!(parse_codec("brotli").unwrap(), Codec::Brotli { quality: 4 });
        for name in ["zstd:3+dict", "zstd+dict:64KiB", "lzma", "", "custom:200"] {
            assert_eq!(parse_codec(name).unwrap_err().exit(), Exit::Unsupported, "{name}");
        }
        for name in ["zstd:99", "brotli:12", "zstd:x", "lz4:1", "lz4hc:0", "lz4hc:13"] {
            assert_eq!(parse_codec(name).unwrap_err().exit(), Exit::Usage, "{name}");
        }
    }

    #[test]
    fn a_codec_may_have_a_dictionary() {
        let choice = |typed: &str| parse_choice(typed).map(|c| (c.codec.to_string(), c.dictionary)).unwrap();
        assert_eq!(choice("zstd:3"), ("zstd:3".to_string(), None));
        assert_eq!(choice("zstd:3+dict"), ("zstd:3".to_string(), Some(65536)));
        assert_eq!(choice("lz4+dict:16KiB"), ("lz4".to_string(), Some(16384)));
        assert_eq!(parse_choice("brotli:4+dict").unwrap_err().exit(), Exit::Usage);
        assert_eq!(parse_choice("zstd:1..3").unwrap_err().exit(), Exit::Usage);
        assert_eq!(parse_choice("lzma+dict").unwrap_err().exit(), Exit::Unsupported);
    }

    #[test]
    fn lists_hold_ranges_and_dictionaries() {
        let shown = |typed: &str| {
            let choices = parse_choices(typed).unwrap();
            choices.iter().map(|c| (c.to_string(), c.dictionary)).collect::<Vec<_>>()
        };
        let plain = |name: &str| (name.to_string(), None);
        assert_eq!(shown("lz4,zstd:1..3"), ["lz4", "zstd:1", "zstd:2", "zstd:3"].map(plain));
        assert_eq!(shown("zstd:-2..-1, zstd:-1"), ["zstd:-2", "zstd:-1"].map(plain));
        assert_eq!(shown("brotli:4..4"), ["brotli:4"].map(plain));
        let with = |name: &str, size| (name.to_string(), Some(size));
        assert_eq!(
            shown("lz4hc:9+dict,zstd:1..2+dict:16KiB"),
            [with("lz4hc:9+dict", 65536), with("zstd:1+dict", 16384), with("zstd:2+dict", 16384)]
        );
        assert_eq!(parse_choices("zstd:-7..22").unwrap().len(), 30);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for typed in [
            "zstd:9..1",
            "zstd:..",
            "zstd:1..",
            "zstd:1..99",
            "zstd:1..9..3",
            "lz4:1..2",
            "zstd:3+dictionary",
            "zstd:3+dict:1",
            "zstd:3+dict:9GiB",
            "zstd:3+dict:",
            "snappy+dict",
            "none+dict",
            "zstd:-2147483648..2",
        ] {
            assert_eq!(parse_choices(typed).unwrap_err().exit(), Exit::Usage, "{typed}");
        }
        for typed in ["", "lz4,", "lzma:1..2", "zstd:3,lzma"] {
            assert_eq!(parse_choices(typed).unwrap_err().exit(), Exit::Unsupported, "{typed}");
        }
    }
}
