//! What the readers of `inspect` tell about a file.

use lignite::Error;
use lignite::internals::header::FileHeader;
use serde::Serialize;

use crate::exit::Failure;
use crate::output::{Cell, Table};

/// What a reader tells about a file.
pub(super) struct Found {
    /// What kind of file it is.
    pub(super) kind: &'static str,
    /// Names and values.
    pub(super) facts: Vec<(&'static str, Cell)>,
    /// What the items are called.
    pub(super) items_name: &'static str,
    /// Blocks, records or edits, if they were asked for or are few.
    pub(super) items: Option<Table>,
    /// What is wrong with it.
    pub(super) defects: Vec<Defect>,
}

/// Something wrong with a file.
#[derive(Serialize)]
pub(super) struct Defect {
    pub(super) offset: Option<u64>,
    pub(super) message: String,
    /// False for the end of a log that was never complete: that is no damage.
    pub(super) damage: bool,
}

impl Defect {
    pub(super) fn of(error: &Error) -> Defect {
        Defect { offset: error.offset(), message: error.message().to_string(), damage: true }
    }
}

/// One entry of a table or of a batch in a log.
pub(super) struct Entry<'a> {
    /// The block it lies in, or the offset of its record.
    pub(super) at: u64,
    pub(super) sequence: u64,
    pub(super) kind: &'static str,
    /// The number of its family; a table does not say.
    pub(super) family: Option<u32>,
    pub(super) key: &'a [u8],
    /// The value of a put, or the end of a range.
    pub(super) value: Option<&'a [u8]>,
}

/// Is given one entry after another.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&Entry<'_>) -> Result<(), Failure>;

/// What a file's header says about it.
pub(super) fn facts_of_header(header: &FileHeader) -> Vec<(&'static str, Cell)> {
    vec![("number", Cell::Count(header.number)), ("db_id", Cell::text(format!("{:032x}", header.db_id)))]
}
