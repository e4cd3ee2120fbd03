//! How hard writes must be held back: one smooth controller without cliffs.
//!
//! *Debt* is how much work waits for flush and compaction as a share of what may wait at all:
//! 0 is none, 1 is a full stop. Below one half nothing is delayed. Above it, writers may go at the
//! measured drain rate times a factor that falls linearly from 2 to nearly 0, taken in steps of at
//! most a millisecond: a memtable that fills meanwhile approaches its end without reaching it, also where a flush
//! takes twice as long as the ones before. So a burst is absorbed, a sustained overload converges to the rate that the
//! machine can compact, and no write meets a wall unless background work has come to a halt.

use std::time::Duration;

/// Debt from which writes are slowed down.
pub const SLOWDOWN: f64 = 0.5;
/// Even at a full stop's edge writers may go at this share of the drain rate, so that they get to it.
const FACTOR_MIN: f64 = 1.0 / 16.0;
/// The longest single delay.
pub const STEP_MAX: Duration = Duration::from_millis(1);
/// The shortest: sleeps below it are rounded up by the system anyway.
pub const STEP_MIN: Duration = Duration::from_micros(200);

/// The measurements that make up the debt.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Bytes of all memtables, active and sealed.
    pub memtable_bytes: u64,
    /// How many of them there may be.
    pub memtable_limit: u64,
    /// Tables in level 0 of the family that has most.
    pub level0_tables: usize,
    /// How many of them there may be.
    pub level0_limit: usize,
    /// Bytes that compactions have yet to rewrite, of the family that has most.
    pub pending_bytes: u64,
    /// How many of them there may be.
    pub pending_limit: u64,
    /// Bytes of log that memtables pin.
    pub log_bytes: u64,
    /// How many of them there may be.
    pub log_limit: u64,
}

impl Load {
    /// The largest of the shares.
    pub fn debt(&self) -> f64 {
        let share = |n: u64, limit: u64| if limit == 0 { 0.0 } else { n as f64 / limit as f64 };
        share(self.memtable_bytes, self.memtable_limit)
            .max(share(self.level0_tables as u64, self.level0_limit as u64))
            .max(share(self.pending_bytes, self.pending_limit))
            .max(share(self.log_bytes, self.log_limit))
    }
}

/// Bytes a second that writers may write at this debt; none for no limit.
pub fn allowed_rate(debt: f64, drain_rate: f64) -> Option<f64> {
    if debt < SLOWDOWN || drain_rate <= 0.0 {
        return None;
    }
    let over = ((debt - SLOWDOWN) / (1.0 - SLOWDOWN)).min(1.0);
    Some(drain_rate * (2.0 * (1.0 - over)).max(FACTOR_MIN))
}

/// Spreads writes over time: what is written is owed as time at the allowed rate, and the time that
/// passes pays it off, that of the writes themselves included. So a writer that is slower than the rate
/// is not delayed at all. Credit is not saved up: who has paused begins anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    owed: Duration,
    /// When it was paid off last.
    since: Duration,
    /// The sleep that was asked for last, which counts whatever the clock says.
    step: Duration,
}

impl Pace {
    /// Owes the time of `bytes` at `rate` bytes a second; true if it is worth asking the clock and
    /// [`Pace::pay`].
    #[inline]
    pub fn owe(&mut self, bytes: usize, rate: f64) -> bool {
        self.owed += Duration::from_secs_f64(bytes as f64 / rate);
        self.owed >= STEP_MIN
    }

    /// Pays with the time since the last payment; how long to sleep next, if that is worth it.
    pub fn pay(&mut self, now: Duration) -> Option<Duration> {
        let passed = now.saturating_sub(self.since).max(self.step);
        self.owed = self.owed.saturating_sub(passed);
        self.since = now;
        self.step = if self.owed >= STEP_MIN { self.owed.min(STEP_MAX) } else { Duration::ZERO };
        (!self.step.is_zero()).then_some(self.step)
    }

    /// Owes nothing any more.
    pub fn forgive(&mut self) {
        self.owed = Duration::ZERO;
    }
}

/// An exponentially weighted average of a rate in bytes a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate(f64);

impl Rate {
    /// Adds a measurement.
    pub fn add(&mut self, bytes: u64, took: Duration) {
        let rate = bytes as f64 / took.as_secs_f64().max(1e-6);
        self.0 = if self.0 == 0.0 { rate } else { self.0 * 0.7 + rate * 0.3 };
    }

    /// Bytes a second; 0 if nothing was measured yet.
    pub fn get(&self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_delay_below_half_and_no_cliff_above() {
        assert_eq!(allowed_rate(0.49, 100.0), None);
        assert_eq!(allowed_rate(0.5, 100.0), Some(200.0));
        assert_eq!(allowed_rate(0.75, 100.0), Some(100.0));
        assert_eq!(allowed_rate(1.0, 100.0), Some(100.0 * FACTOR_MIN));
        let mut last = 201.0;
        for i in 0..=50 {
            let rate = allowed_rate(0.5 + f64::from(i) * 0.01, 100.0).unwrap_or_default();
            assert!((0.0..5.0).contains(&(last - rate)), "a step of {}", last - rate);
            last = rate;
        }
    }

    #[test]
    fn only_a_writer_above_the_rate_is_delayed() {
        // A thousand bytes a write at a million bytes a second: one write a millisecond.
        for (own, expected) in [(1200, 0), (400, 600), (0, 1000)] {
            let mut pace = Pace::default();
            let (mut now, mut slept) = (Duration::from_secs(5), Duration::ZERO);
            for _ in 0..1000 {
                now += Duration::from_micros(own);
                if pace.owe(1000, 1e6) {
                    while let Some(step) = pace.pay(now) {
                        assert!(step <= STEP_MAX);
                        (now, slept) = (now + step, slept + step);
                    }
                }
            }
            let mean = slept.as_micros() as i64 / 1000;
            assert!((mean - expected).abs() <= 2, "{mean} us of sleep a write of {own} us");
        }
    }

    #[test]
    fn debt_is_the_worst_share() {
        let load =
            Load { memtable_bytes: 10, memtable_limit: 100, level0_tables: 6, level0_limit: 12, ..Load::default() };
        assert_eq!(load.debt(), 0.5);
    }
}
