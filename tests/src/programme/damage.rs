//! T5: bytes, sectors, blocks and files that are other ones, and memory that flips.
//!
//! The story: a database was closed in good order, or its process died. Later some bytes are other
//! ones. Opening it, reading it, or `check` on it, says which file and where; or the change makes no
//! difference to anything that can be read. Never does a read give another value, an older version,
//! "not found", or a scan that ends early as if it were whole (G15, G16, G19, G20, G21); a failed open
//! changes nothing (G22); no damage makes the engine panic, or take more memory than the files' own
//! sizes justify (G13, G30).
//!
//! Units come in passes over the same samples. The first eight passes change every byte (an eighth of
//! them each) to one with a random bit flipped, 0x00, 0xff, and itself plus one; the next sixteen flip
//! every bit. From then on samples are new ones. Every unit also moves sectors and files about, and
//! writes tables through memory that flips.

use std::collections::BTreeSet;

use super::{Kind, Tally};
use crate::rng::Rng;
use crate::sample::{ANY, Allowed, Sample, Verdict};

/// The kinds of this module.
pub const KINDS: &[Kind] = &[Kind {
    name: "damage",
    id: "T5",
    about: "changes bytes, sectors and files of small databases: detected by name, or harmless, never a lie",
    ci_units: SAMPLES * STRIDE,
    suite_units: 8,
    at_once: usize::MAX,
    ci_targets: &[("damage_cases", 200_000), ("memory_flips", 900)],
    long_targets: &[("damage_cases", 2_000_000)],
    run,
}];

/// Samples of the first passes: every codec, sealed and open.
const SAMPLES: u64 = 12;
/// A unit looks at every so many-th byte.
const STRIDE: u64 = 8;
const SECTOR: usize = 512;

fn run(unit: u64, tally: &mut Tally) {
    let pass = unit / SAMPLES;
    // The first three rounds over all bytes are of the same samples.
    let seed = if pass < 3 * STRIDE { unit % SAMPLES } else { unit };
    let mut sample = Sample::new(seed);
    let mut rng = Rng::new(unit ^ 0xda3a);
    let mut cases = 0;
    bytes(&sample, pass, &mut rng, &mut cases);
    moves(&mut sample, seed, &mut rng, &mut cases);
    let verdict = sample.judge_read_only("everything was put back");
    assert!(!sample.check(&verdict, "everything was put back", &[], Allowed::DetectedOrHarmless));
    tally.add("damage_cases", cases);
    super::flips::run(&mut rng, tally);
}

/// Changes single bytes.
fn bytes(sample: &Sample, pass: u64, rng: &mut Rng, cases: &mut u64) {
    for name in sample.names() {
        let good = &sample.files[&name];
        // Long values make long logs, of which a part must do.
        let step = if good.len() > 12_000 { 8 * STRIDE } else { STRIDE } as usize;
        for offset in ((pass % STRIDE) as usize..good.len()).step_by(step) {
            let byte = good[offset];
            let others = match pass / STRIDE {
                0 => vec![byte ^ 1 << rng.below(8), 0, 0xff, byte.wrapping_add(1)],
                n @ 1..3 => (0..4).map(|bit| byte ^ 1 << (bit + (n - 1) * 4)).collect(),
                _ => vec![rng.next_u64() as u8],
            };
            let allowed = sample.allowed(&name, offset as u64, offset as u64 + 1);
            for other in BTreeSet::from_iter(others).into_iter().filter(|o| *o != byte) {
                sample.poke(&name, offset as u64, &[other]);
                let story =
                    format!("byte {offset} of {name} ({} bytes) is {other:#x} instead of {byte:#x}", good.len());
                judge(sample, &story, &[&name], allowed, rng, cases);
            }
            sample.poke(&name, offset as u64, &[byte]);
        }
    }
}

/// Judges one case: always read-only, now and then for writing too.
fn judge(sample: &Sample, story: &str, blamed: &[&str], allowed: Allowed, rng: &mut Rng, cases: &mut u64) {
    *cases += 1;
    let verdict = sample.judge_within_limits(story);
    sample.check(&verdict, story, blamed, allowed);
    let dice = rng.below(64);
    if dice < 8 {
        *cases += 1;
        let story = format!("{story}, opened for writing");
        let verdict = sample.judge_writing(&story, dice == 0);
        if let (Verdict::Opened { .. }, Allowed::Detected) = (&verdict, allowed) {
            // Opening for writing replaces CURRENT, so what was wrong with it or the manifest cannot be
            // found any more; it must have been refused.
            let rewritten = blamed.iter().any(|b| *b == "CURRENT" || b.starts_with("MANIFEST") || b.ends_with(".wal"));
            assert!(!rewritten, "{story}: it was opened");
        }
        sample.check(&verdict, &story, blamed, allowed);
    }
}

/// Moves sectors and whole files about.
fn moves(sample: &mut Sample, seed: u64, rng: &mut Rng, cases: &mut u64) {
    // The same history by another database.
    let other = Sample::new(seed + 5 * (1 + rng.below(40)));
    let names = sample.names();
    for _ in 0..120 {
        let name = rng.pick(&names.iter().collect::<Vec<_>>()).clone();
        let good = sample.files[&name].clone();
        let mut bad = good.clone();
        if good.is_empty() {
            continue;
        }
        let sectors = good.len().div_ceil(SECTOR);
        let at = rng.below(sectors as u64) as usize * SECTOR;
        let end = (at + SECTOR).min(good.len());
        let put = |bad: &mut Vec<u8>, from: &[u8], from_at: usize| {
            let n = (end - at).min(from.len().saturating_sub(from_at));
            bad[at..at + n].copy_from_slice(from.get(from_at..from_at + n).unwrap_or_default());
        };
        let kind = rng.below(9);
        let what = match kind {
            0 => {
                let from = rng.below(sectors as u64) as usize * SECTOR;
                put(&mut bad, &good, from);
                // And the other way round, if both are whole.
                if end - at == SECTOR && from + SECTOR <= good.len() {
                    bad[from..from + SECTOR].copy_from_slice(&good[at..at + SECTOR]);
                }
                format!("sectors at {at} and {from} of {name} changed places")
            }
            1 => {
                let from = rng.pick(&names.iter().collect::<Vec<_>>());
                let bytes = &sample.files[from];
                let from_at = rng.below(bytes.len().div_ceil(SECTOR) as u64) as usize * SECTOR;
                put(&mut bad, bytes, from_at);
                format!("the sector at {at} of {name} is that at {from_at} of {from}")
            }
            2 => {
                let from = rng.pick(&names.iter().collect::<Vec<_>>());
                put(&mut bad, &sample.files[from], at);
                format!("the sector at {at} of {name} is that of {from}")
            }
            3 => {
                bad[at..end].fill(if rng.chance(70) { 0 } else { 0xff });
                format!("the sector at {at} of {name} is filled with {}", bad[at])
            }
            4 => match other.files.get(&name) {
                Some(bytes) => {
                    put(&mut bad, bytes, at);
                    format!("the sector at {at} of {name} is that of the same file of another database")
                }
                None => continue,
            },
            5 => match sample.older.get(&name) {
                Some(versions) => {
                    let version = rng.below(versions.len() as u64) as usize;
                    if rng.chance(50) {
                        bad = versions[version].clone();
                        format!("{name} is an older version of itself ({} bytes)", bad.len())
                    } else {
                        put(&mut bad, &versions[version], at);
                        format!("the sector at {at} of {name} is an older one")
                    }
                }
                None => continue,
            },
            6 => match other.files.get(&name) {
                Some(bytes) => {
                    bad = bytes.clone();
                    format!("{name} is that of another database")
                }
                None => continue,
            },
            7 => {
                let from = rng.pick(&names.iter().collect::<Vec<_>>());
                bad = sample.files[from].clone();
                format!("{name} holds what {from} holds")
            }
            _ => {
                for _ in 0..rng.within(2, 6) {
                    let at = rng.below(bad.len() as u64) as usize;
                    bad[at] ^= rng.within(1, 255) as u8;
                }
                format!("some bytes of {name} are others")
            }
        };
        if bad == good {
            continue;
        }
        let (allowed, blamed) = allowed_whole(sample, &name, &good, &bad);
        sample.put(&name, &bad);
        judge(sample, &what, &[blamed], allowed, rng, cases);
        sample.restore(&name);
    }
}

/// The bytes up to the last one that is not zero.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1)]
}

/// What a file with another content makes right, and whom an error may blame.
fn allowed_whole<'a>(sample: &Sample, name: &'a str, good: &[u8], bad: &[u8]) -> (Allowed, &'a str) {
    let first = good.iter().zip(bad).position(|(a, b)| a != b).unwrap_or(good.len().min(bad.len())) as u64;
    let same_end = good.len() == bad.len();
    let last = if same_end { good.iter().zip(bad).rposition(|(a, b)| a != b).unwrap_or(0) + 1 } else { usize::MAX };
    // An older CURRENT is a whole one, and so is a manifest without its last edits: nobody can tell.
    // Nothing but a file that is missing or another than it says can come of it, and that is blamed.
    if name == "CURRENT" || (name.starts_with("MANIFEST") && !sample.sealed) {
        return (Allowed::DetectedOrHarmless, ANY);
    }
    match sample.allowed(name, first, last as u64) {
        // Cut between two records, perhaps: then there is nothing to drop. Zeros behind are space.
        Allowed::Torn(state) if good.starts_with(without_zeros(bad)) => (Allowed::Cut(state), name),
        allowed => (allowed, name),
    }
}
