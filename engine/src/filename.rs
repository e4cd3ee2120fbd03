//! The names of the files of a database. Only names of these forms are ever touched.

use std::path::{Path, PathBuf};

/// The largest number in a name. Numbers are given one after the other, so no database comes near it: a
/// name with a larger one is not ours.
pub const NUMBER_MAX: u64 = 1 << 56;

/// The largest number that a manifest may state, and the largest that is counted on from when a file of
/// it is found. It leaves room to count.
pub const NUMBER_GIVEN_MAX: u64 = NUMBER_MAX / 2;

/// What kind of file a name stands for, with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileName {
    /// Names the live manifest; replaced atomically.
    Current,
    /// A new CURRENT that was not renamed yet; garbage at open.
    CurrentTemp,
    /// Locked by the process that has the database open. Its content is advisory.
    Lock,
    /// The history of versions.
    Manifest(u64),
    /// A segment of the write-ahead log.
    Wal(u64),
    /// A sorted table.
    Table(u64),
    /// Reserved: large values.
    Blob(u64),
    /// Space that is given back when the disk is full. It has no content.
    Reserve,
}

impl FileName {
    /// The kind and number that a name stands for; none if it is not one of ours.
    pub fn parse(name: &str) -> Option<FileName> {
        match name {
            "CURRENT" => return Some(FileName::Current),
            "CURRENT.tmp" => return Some(FileName::CurrentTemp),
            "LOCK" => return Some(FileName::Lock),
            "RESERVE" => return Some(FileName::Reserve),
            _ => {}
        }
        let parsed = if let Some(n) = name.strip_prefix("MANIFEST-") {
            FileName::Manifest(number(n)?)
        } else {
            let (n, extension) = name.rsplit_once('.')?;
            match extension {
                "wal" => FileName::Wal(number(n)?),
                "sst" => FileName::Table(number(n)?),
                "blob" => FileName::Blob(number(n)?),
                _ => return None,
            }
        };
        // One name per number: `7.sst` is not `000007.sst`.
        (parsed.to_string() == name).then_some(parsed)
    }

    /// The number in the name, if the kind has one.
    pub fn number(self) -> Option<u64> {
        match self {
            FileName::Manifest(n) | FileName::Wal(n) | FileName::Table(n) | FileName::Blob(n) => Some(n),
            FileName::Current | FileName::CurrentTemp | FileName::Lock | FileName::Reserve => None,
        }
    }

    /// The path of this file in the directory `dir`.
    pub fn path(self, dir: &Path) -> PathBuf {
        dir.join(self.to_string())
    }

    /// Where a salvaging open sets this file aside: a name that is not one of ours, so that nobody
    /// reads or removes it later.
    pub fn set_aside_path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{self}.damaged"))
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FileName::Current => f.write_str("CURRENT"),
            FileName::CurrentTemp => f.write_str("CURRENT.tmp"),
            FileName::Lock => f.write_str("LOCK"),
            FileName::Manifest(n) => write!(f, "MANIFEST-{n:06}"),
            FileName::Wal(n) => write!(f, "{n:06}.wal"),
            FileName::Table(n) => write!(f, "{n:06}.sst"),
            FileName::Blob(n) => write!(f, "{n:06}.blob"),
            FileName::Reserve => f.write_str("RESERVE"),
        }
    }
}

fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|&n| n <= NUMBER_MAX)
}

/// The smallest number above those of all files that are there.
pub fn next_number(files: &[FileName]) -> u64 {
    let seen = files.iter().filter_map(|f| f.number()).filter(|&n| n < NUMBER_GIVEN_MAX).max();
    seen.unwrap_or(0) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let names = ["CURRENT", "CURRENT.tmp", "LOCK", "RESERVE", "MANIFEST-000001", "000012.wal", "1234567.sst"];
        for name in names.into_iter().chain(["000003.blob"]) {
            assert_eq!(FileName::parse(name).unwrap().to_string(), name);
        }
        for name in [
            "",
            "000012.wal.damaged",
            "12.sst",
            "000012.sst.tmp",
            "-00012.wal",
            "MANIFEST-",
            "current",
            "+00001.wal",
            "a.sst",
            "18446744073709551615.sst",
        ] {
            assert_eq!(FileName::parse(name), None, "{name}");
        }
    }
}
