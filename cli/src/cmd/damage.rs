//! How damage is told: a line on standard error in every format, an object in JSON.

use lignite::{Loss, Problem};
use serde::Serialize;

use crate::output::{self, Cell, Table};
use crate::text::{self, Style};

/// One thing that is wrong.
#[derive(Serialize)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in it.
    pub offset: Option<u64>,
    /// The column family.
    pub cf: Option<String>,
    /// The level of the table.
    pub level: Option<usize>,
    /// The first key that may be affected.
    pub first: Option<String>,
    /// The last one.
    pub last: Option<String>,
    /// What is wrong.
    pub message: String,
}

/// Something that is lost.
#[derive(Serialize)]
pub struct Lost {
    /// Where it was.
    #[serde(flatten)]
    pub damage: Damage,
    /// Bytes of the file, if known.
    pub bytes: Option<u64>,
    /// Entries, if known.
    pub entries: Option<u64>,
}

fn key(key: Option<&Vec<u8>>) -> Option<String> {
    key.map(|k| text::show(k, Style::Auto))
}

impl Damage {
    /// A defect that a check found.
    pub fn of(problem: &Problem) -> Damage {
        Damage {
            file: problem.file.display().to_string(),
            offset: problem.offset,
            cf: problem.column_family.clone(),
            level: problem.level,
            first: key(problem.first_key.as_ref()),
            last: key(problem.last_key.as_ref()),
            message: problem.message.clone(),
        }
    }

    /// One line: file, offset, family, key range, what is wrong.
    fn line(&self) -> String {
        let mut line = String::new();
        let mut part = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                line.push_str(&format!("{name}{value}  "));
            }
        };
        part("", Some(self.file.clone()));
        part("offset ", self.offset.map(|o| o.to_string()));
        part("cf ", self.cf.clone());
        part("level ", self.level.map(|l| l.to_string()));
        match (&self.first, &self.last) {
            (Some(first), Some(last)) => part("keys ", Some(format!("{first} .. {last}"))),
            (Some(first), None) => part("keys from ", Some(first.clone())),
            (None, Some(last)) => part("keys to ", Some(last.clone())),
            (None, None) => {}
        }
        format!("{line}{}", self.message)
    }
}

impl Lost {
    /// A loss.
    pub fn of(loss: &Loss) -> Lost {
        let damage = Damage {
            file: loss.file.display().to_string(),
            offset: loss.offset,
            cf: loss.column_family.clone(),
            level: None,
            first: key(loss.first_key.as_ref()),
            last: key(loss.last_key.as_ref()),
            message: loss.message.clone(),
        };
        Lost { damage, bytes: loss.bytes, entries: loss.entries }
    }

    fn line(&self) -> String {
        let entries = self.entries.map_or(String::new(), |n| format!("{}  ", entries(n)));
        let bytes = self.bytes.map_or(String::new(), |n| format!("{}  ", output::bytes(n)));
        format!("{entries}{bytes}{}", self.damage.line())
    }
}

/// A number of entries with its noun.
pub fn entries(n: u64) -> String {
    format!("{} {}", output::count(n), if n == 1 { "entry" } else { "entries" })
}

/// Tells on standard error. The contract wants damage there in every format.
pub fn tell(damages: &[Damage], losses: &[Lost], warnings: &[String]) {
    for damage in damages {
        output::error_line(&format!("corrupt: {}", damage.line()));
    }
    for loss in losses {
        output::error_line(&format!("lost: {}", loss.line()));
    }
    for warning in warnings {
        output::error_line(&format!("warning: {warning}"));
    }
}

/// Rows for ndjson and CSV.
pub fn table<'a>(damages: impl Iterator<Item = &'a Damage>) -> Table {
    let mut table = Table::new(&["file", "offset", "cf", "first", "last", "message"]);
    let text = |text: &Option<String>| text.as_deref().map_or(Cell::Empty, Cell::text);
    for damage in damages {
        table.row(vec![
            Cell::text(&damage.file),
            damage.offset.map_or(Cell::Empty, Cell::Count),
            text(&damage.cf),
            text(&damage.first),
            text(&damage.last),
            Cell::text(&damage.message),
        ]);
    }
    table
}
