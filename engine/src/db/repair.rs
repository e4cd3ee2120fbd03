//! Repair and salvage, with the doors of a [`Builder`].

use std::path::{Path, PathBuf};

use super::builder::Builder;
use super::handle::Db;
use crate::error::Result;
use crate::options::Options;
use crate::repair::salvage::{self, SalvageReport};
use crate::repair::{self, RepairProgress, RepairReport};

impl Db {
    /// Makes a new database in the directory `to`, which must not exist or be empty, from what is left of
    /// the damaged one in `from`. Nothing in `from` is written; nobody should have it open for writing.
    ///
    /// Everything in the result was written like that: only bytes whose checksums are right are used. The
    /// report says what is wrong, what is lost, and what may have come back because deletes were lost. What no
    /// readable manifest names is in families `lost+found/..`. Repairing the result again copies it.
    ///
    /// # Errors
    /// `NotFound` if there is no database in `from`, `AlreadyExists` if `to` holds anything,
    /// `InvalidArgument` if it lies within `from`, `Unsupported` if a whole file needs a later version,
    /// `Io`, `NoSpace`. What was begun in `to` is removed then.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("lignite-doc-repair-{}", std::process::id()));
    /// # let (from, to) = (dir.join("db"), dir.join("repaired"));
    /// let db = lignite::Db::open(&from)?;
    /// db.put("k", "v")?;
    /// db.close()?;
    /// std::fs::remove_file(from.join("CURRENT")).unwrap();
    /// assert!(lignite::Db::open(&from).is_err());
    /// let report = lignite::Db::repair(&from, &to)?;
    /// assert!(report.losses.is_empty());
    /// assert_eq!(lignite::Db::open(&to)?.get("k")?.unwrap(), b"v");
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # Ok::<(), lignite::Error>(())
    /// ```
    pub fn repair(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<RepairReport> {
        Builder::new(Options::new()).repair(from, to, &mut |_| true)
    }
}

impl Builder {
    /// As [`Db::repair`]; `go_on` is told how far it is, and ends it with `Cancelled` by saying false.
    ///
    /// # Errors
    /// As [`Db::repair`].
    pub fn repair(
        self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        go_on: &mut dyn FnMut(RepairProgress) -> bool,
    ) -> Result<RepairReport> {
        let (fs, clock) = self.doors();
        repair::repair(&fs, &clock, from.as_ref(), to.as_ref(), go_on)
    }

    /// Reads single tables and log segments of any origin, without a database, and hands their live records
    /// to `sink` in order of the keys: of each key the newest version over all files, unless a delete among them is newer.
    /// Of logs only the entries of the family with the number `family` count, if one is given; else the logs must
    /// be of one family.
    ///
    /// # Errors
    /// `InvalidArgument` if a file is neither table nor log, or logs of several families were given and none
    /// chosen; `Unsupported`; `Io`; whatever `sink` fails with. Damage is in the report.
    pub fn salvage(
        self,
        files: &[PathBuf],
        family: Option<u32>,
        go_on: &mut dyn FnMut(RepairProgress) -> bool,
        sink: &mut dyn FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<SalvageReport> {
        let (fs, _) = self.doors();
        salvage::salvage(&*fs, files, family, go_on, sink)
    }
}
