//! How far a long command is, on standard error: a bar on a terminal, JSON lines for wrappers.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Which form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// A bar if standard error is a terminal.
    #[default]
    Auto,
    /// Nothing.
    None,
    /// One JSON object a line.
    Json,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes read, written or looked at.
    Bytes,
    /// Steps that take about as long as each other.
    Steps,
}

/// How far one command is.
pub struct Progress {
    command: &'static str,
    unit: Unit,
    done: u64,
    total: Option<u64>,
    begun: Instant,
    sink: Sink,
}

enum Sink {
    Nothing,
    Bar(ProgressBar),
    Json { last: Option<Instant> },
}

/// How often a bar moves by itself.
const TICK: Duration = Duration::from_millis(100);

/// Two JSON lines have at least this between them.
const JSON_PAUSE: Duration = Duration::from_millis(200);

#[derive(Serialize)]
struct Line {
    schema: &'static str,
    command: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_bytes: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_steps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_steps: Option<Option<u64>>,
    nanos: u64,
    finished: bool,
}

impl Progress {
    /// Begins. `total` is unknown for a pipe.
    pub fn begin(mode: Mode, quiet: bool, command: &'static str, unit: Unit, total: Option<u64>) -> Progress {
        let sink = match mode {
            Mode::Json => Sink::Json { last: None },
            Mode::Auto if !quiet && std::io::stderr().is_terminal() => Sink::Bar(bar(command, unit, total)),
            Mode::Auto | Mode::None => Sink::Nothing,
        };
        Progress { command, unit, done: 0, total, begun: Instant::now(), sink }
    }

    /// So many are done by now; the total may have become known.
    pub fn set(&mut self, done: u64, total: Option<u64>) {
        let is_news = total.is_some() && self.total.is_none();
        self.done = done;
        self.total = total.or(self.total);
        match &mut self.sink {
            Sink::Nothing => {}
            Sink::Bar(bar) => {
                if is_news {
                    bar.set_style(style(self.unit, true));
                }
                if let Some(total) = self.total {
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            Sink::Json { last } => {
                if last.is_none_or(|at| at.elapsed() >= JSON_PAUSE) {
                    *last = Some(Instant::now());
                    self.json(false);
                }
            }
        }
    }

    /// Ends; the bar goes away.
    pub fn finish(self) -> Duration {
        match &self.sink {
            Sink::Nothing => {}
            Sink::Bar(bar) => bar.finish_and_clear(),
            Sink::Json { .. } => self.json(true),
        }
        self.begun.elapsed()
    }

    fn json(&self, finished: bool) {
        let of = |unit| self.unit == unit;
        let line = Line {
            schema: "lignite.progress/1",
            command: self.command,
            done_bytes: of(Unit::Bytes).then_some(self.done),
            total_bytes: of(Unit::Bytes).then_some(self.total),
            done_steps: of(Unit::Steps).then_some(self.done),
            total_steps: of(Unit::Steps).then_some(self.total),
            nanos: self.begun.elapsed().as_nanos() as u64,
            finished,
        };
        json_to_stderr(&line);
    }
}

/// One JSON line on standard error.
pub fn json_to_stderr(value: &impl Serialize) {
    let mut text = Vec::new();
    crate::output::push_json(&mut text, value);
    text.push(b'\n');
    // There is nobody left to tell if standard error is closed.
    let _ = std::io::stderr().lock().write_all(&text);
}

fn bar(command: &'static str, unit: Unit, total: Option<u64>) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(10);
    let bar =
        ProgressBar::with_draw_target(total, target).with_style(style(unit, total.is_some())).with_prefix(command);
    if unit == Unit::Steps {
        // The first one may be long in coming.
        bar.enable_steady_tick(TICK);
    }
    bar
}

fn style(unit: Unit, has_total: bool) -> ProgressStyle {
    let template = match (unit, has_total) {
        (Unit::Bytes, true) => "{prefix} [{bar:28}] {percent:>3}%  {binary_bytes_per_sec}  eta {eta}",
        (Unit::Bytes, false) => "{prefix} {spinner} {binary_bytes}  {binary_bytes_per_sec}",
        (Unit::Steps, true) => "{prefix} [{bar:28}] {pos} of {len}  eta {eta}",
        (Unit::Steps, false) => "{prefix} {spinner} {elapsed}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("##-")
        .tick_chars("|/-\\ ")
}
