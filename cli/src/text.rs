//! Keys and values as text: how they are typed, and how they are shown.
//!
//! Typed: plain text, or an explicit prefix (`hex:`, `b64:`, `u32:`, `u64:`, `i64:`, `esc:`,
//! `text:`). Nothing is ever guessed. Shown: by a [`Style`]; what `auto`, `hex`, `b64`, `esc` and
//! `u64` print is read back by [`parse`] as the same bytes, whatever the bytes are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::ValueEnum;

/// How bytes are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// Text if it is printable UTF-8, else `hex:`; `text:` before text that looks like a prefix.
    #[default]
    Auto,
    /// As text, whatever it is; what cannot be shown is replaced. Cannot be read back.
    Text,
    /// `hex:` and two digits a byte.
    Hex,
    /// `b64:` and Base64.
    B64,
    /// `esc:` and ASCII with `\xNN` escapes.
    Esc,
    /// `u64:` and a number if there are eight bytes, else as `auto`.
    U64,
    /// The number of bytes.
    Len,
    /// Not at all.
    None,
}

impl Style {
    /// True if [`parse`] reads back what this style shows.
    pub fn reads_back(self) -> bool {
        !matches!(self, Style::Text | Style::Len | Style::None)
    }
}

/// The prefixes, all of them.
pub const PREFIXES: [&str; 7] = ["hex:", "b64:", "u32:", "u64:", "i64:", "esc:", "text:"];

/// The bytes that a typed text stands for.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    let Some(prefix) = PREFIXES.into_iter().find(|p| text.starts_with(p)) else {
        return Ok(text.as_bytes().to_vec());
    };
    let rest = &text[prefix.len()..];
    match prefix {
        "hex:" => parse_hex(rest),
        "b64:" => BASE64.decode(rest).map_err(|e| format!("bad Base64 behind b64: ({e})")),
        "u32:" => number::<u32>(prefix, rest).map(|n| n.to_be_bytes().to_vec()),
        "u64:" => number::<u64>(prefix, rest).map(|n| n.to_be_bytes().to_vec()),
        // The sign bit is flipped so that bytewise order is the order of the numbers.
        "i64:" => number::<i64>(prefix, rest).map(|n| (n.cast_unsigned() ^ (1 << 63)).to_be_bytes().to_vec()),
        "esc:" => parse_escaped(rest),
        _ => Ok(rest.as_bytes().to_vec()),
    }
}

/// The text for some bytes.
pub fn show(bytes: &[u8], style: Style) -> String {
    match style {
        Style::Auto => show_auto(bytes),
        Style::Text => String::from_utf8_lossy(bytes).chars().map(harmless).collect(),
        Style::Hex => show_hex(bytes),
        Style::B64 => format!("b64:{}", BASE64.encode(bytes)),
        Style::Esc => show_escaped(bytes),
        Style::U64 => match <[u8; 8]>::try_from(bytes) {
            Ok(eight) => format!("u64:{}", u64::from_be_bytes(eight)),
            Err(_) => show_auto(bytes),
        },
        Style::Len => bytes.len().to_string(),
        Style::None => String::new(),
    }
}

/// True if `auto` shows these bytes as text.
pub fn is_printable(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(printable))
}

fn show_auto(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(printable) => {
            if PREFIXES.iter().any(|p| text.starts_with(p)) {
                format!("text:{text}")
            } else {
                text.to_string()
            }
        }
        _ => show_hex(bytes),
    }
}

/// Neither a control character, nor one that moves or hides other text on a terminal.
fn printable(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'))
}

/// Line ends and tabs stay; other control characters could command the terminal.
fn harmless(c: char) -> char {
    if printable(c) || c == '\n' || c == '\t' { c } else { char::REPLACEMENT_CHARACTER }
}

fn show_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(4 + 2 * bytes.len());
    out.push_str("hex:");
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

fn parse_hex(digits: &str) -> Result<Vec<u8>, String> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return Err("an odd number of digits behind hex:".to_string());
    }
    digits
        .chunks_exact(2)
        .map(|pair| match (hex_digit(pair[0]), hex_digit(pair[1])) {
            (Some(high), Some(low)) => Ok(high << 4 | low),
            _ => Err("something that is not a hexadecimal digit behind hex:".to_string()),
        })
        .collect()
}

fn hex_digit(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        b'A'..=b'F' => Some(c - b'A' + 10),
        _ => None,
    }
}

fn number<N: std::str::FromStr>(prefix: &str, digits: &str) -> Result<N, String> {
    digits.parse().map_err(|_| format!("{digits:?} is not a number that fits behind {prefix}"))
}

fn show_escaped(bytes: &[u8]) -> String {
    let mut out = String::from("esc:");
    for &byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

fn parse_escaped(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next() {
            Some(b'\\') => b'\\',
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'x') => match (bytes.next().and_then(hex_digit), bytes.next().and_then(hex_digit)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err("two hexadecimal digits must follow \\x behind esc:".to_string()),
            },
            _ => return Err("after a backslash only \\ n r t 0 xNN may follow behind esc:".to_string()),
        });
    }
    Ok(out)
}

/// A path or a name as a shell takes it.
pub fn shell_quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !path.is_empty() && path.chars().all(plain) {
        path.to_string()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::seeded::Seeded;

    const READ_BACK: [Style; 5] = [Style::Auto, Style::Hex, Style::B64, Style::Esc, Style::U64];

    #[track_caller]
    fn assert_round_trip(bytes: &[u8]) {
        for style in READ_BACK {
            let shown = show(bytes, style);
            assert_eq!(parse(&shown).unwrap(), bytes, "{style:?} shows {shown:?}");
            assert!(!shown.contains(['\n', '\r', '\t']), "{shown:?} is more than one line or field");
        }
    }

    #[test]
    fn every_byte_and_every_pair_reads_back() {
        assert_round_trip(b"");
        for a in 0..=255u8 {
            assert_round_trip(&[a]);
            for b in 0..=255u8 {
                let shown = show(&[a, b], Style::Auto);
                assert_eq!(parse(&shown).unwrap(), [a, b]);
            }
        }
    }

    #[test]
    fn random_bytes_read_back() {
        let mut random = Seeded::new(7);
        for _ in 0..2000 {
            let len = random.below(40) as usize;
            let narrow = random.below(2) == 0;
            let bytes: Vec<u8> = (0..len)
                .map(|_| if narrow { b' ' + random.below(95) as u8 } else { random.below(256) as u8 })
                .collect();
            assert_round_trip(&bytes);
        }
    }

    #[test]
    fn what_looks_like_a_prefix_is_marked() {
        for prefix in PREFIXES {
            assert_eq!(show(prefix.as_bytes(), Style::Auto), format!("text:{prefix}"));
            assert_round_trip(format!("{prefix}zz").as_bytes());
            assert_round_trip(format!("text:{prefix}").as_bytes());
        }
        assert_eq!(show(b"user:1", Style::Auto), "user:1");
        assert_eq!(parse("HEX:00").unwrap(), b"HEX:00");
    }

    #[test]
    fn auto_shows_text_only_if_it_is_printable() {
        assert_eq!(show("héllo wörld".as_bytes(), Style::Auto), "héllo wörld");
        assert_eq!(show(b"a\nb", Style::Auto), "hex:610a62");
        assert_eq!(show(b"\x7f", Style::Auto), "hex:7f");
        assert_eq!(show("\u{9b}31m".as_bytes(), Style::Auto), "hex:c29b33316d");
        assert_eq!(show("\u{202e}x".as_bytes(), Style::Auto), "hex:e280ae78");
        assert_eq!(show(b"\x1b[2J\n", Style::Text), "\u{fffd}[2J\n");
    }

    #[test]
    fn numbers_keep_their_order() {
        assert_eq!(parse("u64:258").unwrap(), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(parse("u32:258").unwrap(), [0, 0, 1, 2]);
        let keys: Vec<_> = ["i64:-9223372036854775808", "i64:-1", "i64:0", "i64:1", "i64:9223372036854775807"]
            .map(|t| parse(t).unwrap())
            .into();
        assert!(keys.is_sorted());
        assert_eq!(show(&[0, 0, 0, 0, 0, 0, 1, 2], Style::U64), "u64:258");
    }

    #[test]
    fn bad_input_is_refused() {
        for bad in [
            "hex:0",
            "hex:zz",
            "b64:*",
            "b64:QQ",
            "u64:-1",
            "u64:",
            "u32:4294967296",
            "i64:x",
            "esc:\\",
            "esc:\\x0",
            "esc:\\q",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("esc:\\x00\\\\\\n").unwrap(), b"\x00\\\n");
        assert_eq!(parse("text:hex:00").unwrap(), b"hex:00");
    }

    #[test]
    fn paths_are_quoted_for_the_shell() {
        assert_eq!(shell_quoted("/tmp/a-b"), "/tmp/a-b");
        assert_eq!(shell_quoted("it's"), "'it'\\''s'");
    }
}
