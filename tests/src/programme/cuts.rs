//! T6: files that are cut, longer, gone, renamed, swapped, or not ours.
//!
//! The story: something other than the engine was at the directory. Under a seal every difference is
//! an error that names the file (G21); in an open directory the torn-tail rule of DESIGN 12 says which
//! cuts of the log are damage and which are a tail to be dropped, and nothing is ever replayed behind a
//! gap (G20). What is not ours is neither read nor touched (G28), and no name makes anything overflow
//! (G30). A failed open changes nothing (G22).

use lignite::internals::filename::FileName;
use lignite::internals::fs::Fs;

use super::{Kind, Tally};
use crate::rng::Rng;
use crate::sample::{ANY, Allowed, Sample};
use crate::sim::files;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[Kind {
    name: "cuts",
    id: "T6",
    about: "cuts, extends, removes, renames and adds files: an error by name, a torn tail, or no matter",
    ci_units: SAMPLES * STRIDE,
    suite_units: 6,
    at_once: usize::MAX,
    ci_targets: &[("damage_cases", 60_000)],
    long_targets: &[("damage_cases", 300_000)],
    run,
}];

/// Samples of the first passes: every codec, sealed and open.
const SAMPLES: u64 = 12;
/// A unit cuts at every so many-th length.
const STRIDE: u64 = 8;

fn run(unit: u64, tally: &mut Tally) {
    let pass = unit / SAMPLES;
    let seed = if pass < STRIDE { unit % SAMPLES } else { unit };
    let mut case = Cases { sample: Sample::new(seed), rng: Rng::new(unit ^ 0xc0c0), count: 0 };
    case.cuts((pass % STRIDE) as usize);
    case.extensions();
    case.removals();
    case.segments();
    case.foreign();
    let sample = &case.sample;
    let verdict = sample.judge_read_only("everything was put back");
    assert!(!sample.check(&verdict, "everything was put back", &[], Allowed::DetectedOrHarmless));
    tally.add("damage_cases", case.count);
}

struct Cases {
    sample: Sample,
    rng: Rng,
    count: u64,
}

impl Cases {
    /// Judges one case: always read-only, now and then for writing too.
    fn judge(&mut self, story: &str, blamed: &[&str], allowed: Allowed) {
        self.count += 1;
        let verdict = self.sample.judge_within_limits(story);
        self.sample.check(&verdict, story, blamed, allowed);
        let dice = self.rng.below(64);
        if dice < 8 {
            self.count += 1;
            let story = format!("{story}, opened for writing");
            let verdict = self.sample.judge_writing(&story, dice == 0);
            self.sample.check(&verdict, &story, blamed, allowed);
        }
    }

    /// Every length of every file.
    fn cuts(&mut self, pass: usize) {
        for name in self.sample.names() {
            let good = self.sample.files[&name].clone();
            let step = if good.len() > 12_000 { 8 * STRIDE as usize } else { STRIDE as usize };
            let mut lengths: Vec<usize> = (pass..good.len()).step_by(step).collect();
            // The borders between records matter most.
            if let Some(FileName::Wal(number)) = FileName::parse(&name) {
                let log = self.sample.log.iter().filter(|r| r.at.segment == number);
                lengths.extend(log.map(|r| r.at.offset as usize));
            }
            for len in lengths {
                self.sample.put(&name, &good[..len]);
                let (allowed, blamed) = self.allowed_cut(&name, len);
                self.judge(&format!("{name} is cut from {} to {len} bytes", good.len()), &[blamed], allowed);
            }
            self.sample.restore(&name);
        }
    }

    fn allowed_cut<'a>(&self, name: &'a str, len: usize) -> (Allowed, &'a str) {
        match self.sample.allowed(name, len as u64, u64::MAX) {
            // A manifest without its last edits is a manifest. What they did is in the log, or something
            // is missing that is blamed instead.
            allowed if name.starts_with("MANIFEST") && !self.sample.sealed => (allowed, ANY),
            // Cut between two records, perhaps: then there is nothing to drop.
            Allowed::Torn(state) => (Allowed::Cut(state), name),
            allowed => (allowed, name),
        }
    }

    /// Bytes behind the end.
    fn extensions(&mut self) {
        for name in self.sample.names() {
            let good = self.sample.files[&name].clone();
            for _ in 0..6 {
                let n = if self.rng.chance(50) { self.rng.within(1, 64) } else { self.rng.within(1, 4096) } as usize;
                let (what, more): (_, Vec<u8>) = match self.rng.below(3) {
                    0 => ("zeros", vec![0; n]),
                    1 => ("noise", (0..n).map(|_| self.rng.next_u64() as u8).collect()),
                    _ => ("its own bytes", good.iter().copied().cycle().take(n).collect()),
                };
                let last = self.sample.states.len() - 1;
                let allowed = match FileName::parse(&name) {
                    _ if self.sample.sealed => Allowed::Detected,
                    Some(FileName::Wal(_)) => Allowed::Cut(last),
                    Some(FileName::Manifest(_)) => Allowed::DetectedOrHarmless,
                    _ => self.sample.allowed(&name, good.len() as u64, u64::MAX),
                };
                self.sample.put(&name, &[good.as_slice(), &more].concat());
                self.judge(&format!("{name} is longer by {n} bytes, which are {what}"), &[&name], allowed);
            }
            self.sample.restore(&name);
        }
    }

    /// What it makes right that a file is gone. The directory may be blamed for it.
    fn allowed_gone(&self, name: &str) -> Allowed {
        match FileName::parse(name) {
            Some(FileName::Wal(number)) if !self.sample.sealed => self.sample.allowed_without_segment(number),
            _ => self.sample.allowed(name, 0, u64::MAX),
        }
    }

    /// Files that are gone, or that go by another name.
    fn removals(&mut self) {
        let names = [self.sample.names(), vec!["LOCK".to_string()]].concat();
        for name in &names {
            let path = self.sample.setup.dir.join(name);
            let allowed = self.allowed_gone(name);
            self.sample.fs().remove_file(&path).unwrap();
            // Of a segment that is missing, the place where the log breaks off is blamed.
            let blamed = if name.ends_with(".wal") { ANY } else { name };
            self.judge(&format!("{name} is gone"), &[blamed, "db"], allowed);
            let other = match FileName::parse(name) {
                Some(FileName::Manifest(n)) => FileName::Manifest(n + self.rng.within(1, 700)),
                Some(FileName::Wal(n)) => FileName::Wal(n + self.rng.within(20, 700)),
                Some(FileName::Table(n)) => FileName::Table(n + self.rng.within(20, 700)),
                _ => FileName::CurrentTemp,
            };
            let bytes = self.sample.files[name].clone();
            self.add(&other.to_string(), &bytes);
            self.judge(&format!("{name} is now {other}"), &[ANY], allowed);
            self.sample.restore_all();
        }
    }

    /// Segments of the log that changed among themselves.
    fn segments(&mut self) {
        let numbers: Vec<u64> = self
            .sample
            .files
            .keys()
            .filter_map(|n| match FileName::parse(n) {
                Some(FileName::Wal(number)) => Some(number),
                _ => None,
            })
            .collect();
        for (i, &a) in numbers.iter().enumerate() {
            for &b in &numbers[i + 1..] {
                let [of_a, of_b] = [a, b].map(|n| FileName::Wal(n).to_string());
                let (bytes_a, bytes_b) = (self.sample.files[&of_a].clone(), self.sample.files[&of_b].clone());
                self.sample.put(&of_a, &bytes_b);
                self.sample.put(&of_b, &bytes_a);
                let both = if self.sample.sealed {
                    Allowed::Detected
                } else {
                    self.sample.allowed_in_log(&[(a, 0, u64::MAX), (b, 0, u64::MAX)])
                };
                self.judge(&format!("{of_a} and {of_b} changed places"), &[&of_a, &of_b], both);
                self.sample.restore(&of_b);
                self.sample.restore(&of_a);
                // The older one is cut and the newer one damaged further on.
                let (len, at) = (self.rng.below(bytes_a.len() as u64), self.rng.below(bytes_b.len() as u64));
                self.sample.put(&of_a, &bytes_a[..len as usize]);
                self.sample.poke(&of_b, at, &[bytes_b[at as usize] ^ 0x20]);
                let both = if self.sample.sealed {
                    Allowed::Detected
                } else {
                    match self.sample.allowed_in_log(&[(a, len, u64::MAX), (b, at, at + 1)]) {
                        Allowed::Torn(state) => Allowed::Cut(state),
                        allowed => allowed,
                    }
                };
                let story = format!("{of_a} is cut to {len} bytes and byte {at} of {of_b} is another one");
                self.judge(&story, &[&of_a, &of_b], both);
                self.sample.restore(&of_b);
                self.sample.restore(&of_a);
            }
        }
    }

    fn add(&self, name: &str, bytes: &[u8]) {
        let fs = self.sample.fs();
        let file = fs.create_new(&self.sample.setup.dir.join(name)).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_data().unwrap();
        fs.sync_dir(&self.sample.setup.dir).unwrap();
    }

    /// Files and directories that the engine did not make.
    fn foreign(&mut self) {
        let foreign = [
            "18446744073709551615.sst",
            "18446744073709551615.wal",
            "18446744073709551614.blob",
            "MANIFEST-18446744073709551615",
            "18446744073709551616.sst",
            "9223372036854775808.wal",
            "99999999999999999999999999999999.sst",
            "9.sst",
            "0000000009.sst",
            "000009.SST",
            "000009.sst.tmp",
            "000009.wal~",
            "-00009.wal",
            "+00009.wal",
            "MANIFEST-",
            "MANIFEST-1",
            "MANIFEST--00001",
            "manifest-000001",
            "CURRENT.bak",
            "current",
            "LOCK.old",
            "notes.txt",
            ".hidden",
            "é\u{202e}.sst",
        ];
        let last = self.sample.states.len() - 1;
        let bytes: Vec<u8> = self.sample.files["CURRENT"].clone();
        for name in foreign {
            self.add(name, &bytes);
        }
        let dir = self.sample.setup.dir.clone();
        self.sample.fs().create_dir_all(&dir.join("000777.sst.d/sub")).unwrap();
        self.untouched("foreign files are there");
        self.sample.restore_all();
        // Garbage of the right form.
        for (name, allowed) in [
            ("000777.sst", Allowed::Cut(last)),
            ("4000000000.sst", Allowed::Cut(last)),
            ("MANIFEST-000777", Allowed::Cut(last)),
            ("CURRENT.tmp", Allowed::Cut(last)),
            ("000777.blob", Allowed::Cut(last)),
            ("000777.wal", Allowed::Cut(last)),
        ] {
            let noise: Vec<u8> = (0..self.rng.below(600)).map(|_| self.rng.next_u64() as u8).collect();
            self.add(name, &noise);
            self.judge(&format!("{name} is there, {} bytes of noise", noise.len()), &[name, "db"], allowed);
            let verdict = self.sample.judge_writing(&format!("{name} is there, for writing"), true);
            self.sample.check(&verdict, &format!("{name} is there, for writing"), &[name, "db"], allowed);
            self.sample.restore_all();
        }
    }

    /// Opens for writing, writes, closes and opens once more: the database is sound, and what is not its
    /// own is as it was.
    fn untouched(&mut self, story: &str) {
        self.count += 1;
        let verdict = self.sample.judge_read_only(story);
        self.sample.check(&verdict, story, &[], Allowed::Cut(self.sample.states.len() - 1));
        let before = files(&**self.sample.fs(), &self.sample.setup.dir);
        let fs = std::sync::Arc::new(self.sample.fs().deep_clone());
        let setup = self.sample.setup.on(fs.clone());
        let db = setup.open().unwrap_or_else(|e| panic!("{story}: {e:?}"));
        db.put("more", "x").unwrap();
        db.compact().unwrap();
        db.close().unwrap();
        let db = setup.open().unwrap_or_else(|e| panic!("{story}, opened again: {e:?}"));
        assert_eq!(db.get("more").unwrap().unwrap(), b"x");
        let mut found = crate::sim::content(&db).unwrap();
        found.get_mut("default").unwrap().remove(&b"more"[..]);
        assert!(&found == self.sample.content(), "{story}: the content is another one");
        drop(db);
        let after = files(&*fs, &setup.dir);
        for (name, bytes) in before.iter().filter(|(n, _)| !self.sample.files.contains_key(*n)) {
            assert!(after.get(name) == Some(bytes), "{story}: {name} was touched");
        }
        assert!(fs.metadata(&setup.dir.join("000777.sst.d/sub")).is_ok_and(|m| m.is_dir), "{story}: a directory went");
    }
}
