//! Quantities as typed: bytes, rates, shares, times.

use std::str::FromStr;
use std::time::Duration;

/// A number of bytes as typed: `16384`, `16KiB`, `4MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;
    fn from_str(typed: &str) -> Result<Size, String> {
        let digits = typed.len() - typed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = typed.split_at(digits);
        let scale: u64 = match unit.trim_start() {
            "" | "B" => 1,
            "kB" | "KB" => 1000,
            "MB" => 1000 * 1000,
            "GB" => 1000 * 1000 * 1000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            other => return Err(format!("unknown unit {other:?}; use B, kB, MB, GB, KiB, MiB or GiB")),
        };
        let number: u64 = number.parse().map_err(|_| "expected a number and a unit, such as 16KiB".to_string())?;
        number.checked_mul(scale).map(Size).ok_or_else(|| "too large".to_string())
    }
}

/// Bytes a second as typed: `100MB/s`, `50MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub u64);

impl FromStr for Rate {
    type Err = String;
    fn from_str(typed: &str) -> Result<Rate, String> {
        match typed.strip_suffix("/s").unwrap_or(typed).parse()? {
            Size(0) => Err("a rate of 0 would never end".to_string()),
            Size(bytes) => Ok(Rate(bytes)),
        }
    }
}

/// How much to look at, as typed: `5%`, `16MiB`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// A share of the whole, above 0 and at most 1.
    Share(f64),
    /// At most so many bytes.
    Bytes(u64),
}

impl Sample {
    /// The bytes that this is of so many.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Sample::Share(share) => ((total as f64 * share).ceil() as u64).min(total),
            Sample::Bytes(bytes) => bytes.min(total),
        }
    }
}

impl FromStr for Sample {
    type Err = String;
    fn from_str(typed: &str) -> Result<Sample, String> {
        let Some(percent) = typed.strip_suffix('%') else {
            return match typed.parse()? {
                Size(0) => Err("a sample of nothing tells nothing".to_string()),
                Size(bytes) => Ok(Sample::Bytes(bytes)),
            };
        };
        match percent.trim_end().parse::<f64>() {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Sample::Share(percent / 100.0)),
            _ => Err("expected a share above 0% and up to 100%, or a size such as 16MiB".to_string()),
        }
    }
}

/// A time as typed: `30s`, `20us`, `5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

impl FromStr for Time {
    type Err = String;
    fn from_str(typed: &str) -> Result<Time, String> {
        let digits = typed.len() - typed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = typed.split_at(digits);
        let nanos: u64 = match unit.trim_start() {
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" | "min" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            other => return Err(format!("unknown unit {other:?}; use ns, us, ms, s, min or h, as in 30s")),
        };
        let number: u64 = number.parse().map_err(|_| "expected a number and a unit, such as 30s".to_string())?;
        match number.checked_mul(nanos) {
            Some(0) => Err("no time at all is too little".to_string()),
            Some(nanos) => Ok(Time(Duration::from_nanos(nanos))),
            None => Err("too long".to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!("16KiB".parse(), Ok(Size(16384)));
        assert_eq!("4096".parse(), Ok(Size(4096)));
        assert_eq!("2 MB".parse(), Ok(Size(2_000_000)));
        assert_eq!("100MB/s".parse(), Ok(Rate(100_000_000)));
        assert!("0".parse::<Rate>().is_err());
        for bad in ["", "K", "1K", "-1", "1.5MiB", "99999999999GiB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn samples() {
        assert_eq!("5%".parse(), Ok(Sample::Share(0.05)));
        assert_eq!("0.5 %".parse(), Ok(Sample::Share(0.005)));
        assert_eq!("16MiB".parse(), Ok(Sample::Bytes(16 << 20)));
        for bad in ["", "%", "0%", "101%", "-5%", "NaN%", "inf%", "0", "5 percent"] {
            assert!(bad.parse::<Sample>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_sample_is_of_the_whole() {
        assert_eq!(Sample::Share(0.05).of(1000), 50);
        assert_eq!(Sample::Share(1.0).of(u64::MAX), u64::MAX);
        assert_eq!(Sample::Bytes(10).of(3), 3);
    }

    #[test]
    fn times() {
        assert_eq!("30s".parse(), Ok(Time(Duration::from_secs(30))));
        assert_eq!("20us".parse(), Ok(Time(Duration::from_micros(20))));
        assert_eq!("2 min".parse(), Ok(Time(Duration::from_secs(120))));
        for bad in ["", "s", "30", "0s", "-1s", "1.5s", "99999999999h", "20µs"] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
    }
}
