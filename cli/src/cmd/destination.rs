//! A directory that a command makes: where it may be made, and how one that is there is replaced.

use std::path::{Path, PathBuf};

use lignite::{Db, ErrorKind};

use crate::exit::Failure;

/// Makes the directory `dest` with `make`. One that is not empty is replaced only if `replace` says so: it goes only
/// when the new one is complete, and only if it holds nothing but a database.
pub fn fill<T>(
    source: &Path,
    dest: &Path,
    replace: bool,
    make: impl FnOnce(&Path) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let occupied = is_occupied(dest)?;
    if occupied && !replace {
        let dest = dest.display();
        return Err(Failure::refused(format!("{dest} is not empty; nothing was changed; add --yes to replace it")));
    }
    if same_directory(source, dest) {
        return Err(Failure::usage("the destination is the database itself"));
    }
    if !occupied {
        if dest.is_dir() {
            std::fs::remove_dir(dest).map_err(|e| Failure::io("replace", dest, &e))?;
        }
        return make(dest);
    }
    let mut beside = dest.as_os_str().to_os_string();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    let made = make(&beside)?;
    let swap = || -> Result<(), Failure> {
        match Db::destroy(dest) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        if is_occupied(dest)? {
            let dest = dest.display();
            return Err(Failure::refused(format!("{dest} holds files that are not a database's; remove them first")));
        }
        std::fs::rename(&beside, dest).map_err(|e| Failure::io("rename to", dest, &e))
    };
    swap().inspect_err(|_| {
        // The failure that is on its way says more than one of cleaning up would.
        let _ = Db::destroy(&beside);
    })?;
    Ok(made)
}

fn is_occupied(dest: &Path) -> Result<bool, Failure> {
    match std::fs::read_dir(dest) {
        Ok(mut names) => Ok(names.next().is_some()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            Err(Failure::usage(format!("{} is not a directory", dest.display())))
        }
        Err(e) => Err(Failure::io("read", dest, &e)),
    }
}

fn same_directory(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
