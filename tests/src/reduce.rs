//! Makes a failing history short: leave out chunks, ever smaller ones, while it still fails; then
//! make what is left plainer.

use crate::model::{ALL, Range};
use crate::ops::{Op, Value, Write};

/// A part of `ops` that still fails and from which no single operation can be left out, or the best
/// that `tries` attempts found.
pub fn reduce<T: Clone>(ops: &[T], mut tries: usize, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    reduce_within(ops, &mut tries, &mut fails)
}

fn reduce_within<T: Clone>(ops: &[T], tries: &mut usize, fails: &mut impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut best = ops.to_vec();
    let mut chunk = best.len().div_ceil(2).max(1);
    loop {
        let mut removed_any = false;
        // From the end on, since what fails is at the end and needs few of those just before it.
        let mut end = best.len();
        while end > 0 {
            if *tries == 0 {
                return best;
            }
            *tries -= 1;
            let at = end.saturating_sub(chunk);
            let mut shorter = best[..at].to_vec();
            shorter.extend_from_slice(&best[end..]);
            if !shorter.is_empty() && fails(&shorter) {
                best = shorter;
                removed_any = true;
            }
            end = at.min(best.len());
        }
        if chunk == 1 && !removed_any {
            return best;
        }
        if !removed_any || chunk > best.len() {
            chunk = (chunk / 2).max(1);
        }
    }
}

/// The same for a history, whose operations are made plainer too: smaller batches, plainer values,
/// ranges and kinds. `failed_at` is the operation that failed first, if that is known.
pub fn reduce_history(
    ops: &[Op],
    failed_at: Option<usize>,
    mut tries: usize,
    mut fails: impl FnMut(&[Op]) -> bool,
) -> Vec<Op> {
    let cut = failed_at.map_or(ops.len(), |at| (at + 1).min(ops.len()));
    let start = if cut < ops.len() && fails(&ops[..cut]) { &ops[..cut] } else { ops };
    let mut best = reduce_within(start, &mut tries, &mut fails);
    loop {
        let mut plainer_any = false;
        for at in 0..best.len() {
            // One change may make way for the next.
            while let Some(plainer) = plainer(&best[at]).into_iter().find_map(|op| {
                if tries == 0 {
                    return None;
                }
                tries -= 1;
                let mut candidate = best.clone();
                candidate[at] = op;
                fails(&candidate).then_some(candidate)
            }) {
                best = plainer;
                plainer_any = true;
            }
        }
        if !plainer_any || tries == 0 {
            return best;
        }
        best = reduce_within(&best, &mut tries, &mut fails);
    }
}

/// Operations that do less than this one, or do it in a plainer way; the boldest first.
fn plainer(op: &Op) -> Vec<Op> {
    match op {
        Op::Write(family, write, true) => vec![Op::Write(*family, write.clone(), false)],
        Op::Write(family, write, false) => {
            plainer_writes(write).into_iter().map(|w| Op::Write(*family, w, false)).collect()
        }
        Op::WriteThen(family, write, _) => vec![Op::Write(*family, write.clone(), false)],
        Op::Batch(writes, sync) => {
            let mut out = Vec::new();
            if let [(family, write)] = &writes[..] {
                out.push(Op::Write(*family, write.clone(), *sync));
            }
            out.extend(shorter(writes).into_iter().map(|w| Op::Batch(w, *sync)));
            for (i, (family, write)) in writes.iter().enumerate().take(10) {
                for plain in plainer_writes(write) {
                    let mut all = writes.clone();
                    all[i] = (*family, plain);
                    out.push(Op::Batch(all, *sync));
                }
            }
            out
        }
        Op::Fill(family, first, count, step, value) => {
            let mut out = Vec::new();
            if *count > 1 {
                let (half, rest) = (*count / 2, *count - *count / 2);
                out.push(Op::Fill(*family, *first, half, *step, *value));
                out.push(Op::Fill(*family, *first, *count - 1, *step, *value));
                let behind = first + u64::from(*step) * u64::from(half);
                out.push(Op::Fill(*family, behind, rest, *step, *value));
            } else {
                let (key, value) = Op::fill(*first, *step, *value, 0);
                out.push(Op::Write(*family, Write::Put(key, value), false));
            }
            out.extend(plainer_value(*value).map(|v| Op::Fill(*family, *first, *count, *step, v)));
            out
        }
        Op::MultiGet(family, at, keys) => match &keys[..] {
            [key] => vec![Op::Get(*family, *at, key.clone())],
            _ => shorter(keys).into_iter().map(|k| Op::MultiGet(*family, *at, k)).collect(),
        },
        Op::Ingest(family, records) => {
            let mut out: Vec<Op> = shorter(records).into_iter().map(|r| Op::Ingest(*family, r)).collect();
            for (i, (_, value)) in records.iter().enumerate().take(10) {
                if let Some(plain) = plainer_value(*value) {
                    let mut all = records.clone();
                    all[i].1 = plain;
                    out.push(Op::Ingest(*family, all));
                }
            }
            out
        }
        Op::IngestBad(family, records, flaw) => {
            shorter(records).into_iter().map(|r| Op::IngestBad(*family, r, *flaw)).collect()
        }
        Op::Scan(family, at, range, back) => {
            plainer_ranges(range).into_iter().map(|r| Op::Scan(*family, *at, r, *back)).collect()
        }
        Op::Ends(family, at, range, steps) => {
            let ranges = plainer_ranges(range).into_iter().map(|r| Op::Ends(*family, *at, r, steps.clone()));
            ranges.chain(shorter(steps).into_iter().map(|s| Op::Ends(*family, *at, range.clone(), s))).collect()
        }
        Op::Walk(family, key, steps) => shorter(steps).into_iter().map(|s| Op::Walk(*family, key.clone(), s)).collect(),
        Op::IterOpen(slot, family, range) => {
            plainer_ranges(range).into_iter().map(|r| Op::IterOpen(*slot, *family, r)).collect()
        }
        Op::IterOpenAt(slot, family, at, range) => {
            plainer_ranges(range).into_iter().map(|r| Op::IterOpenAt(*slot, *family, *at, r)).collect()
        }
        Op::IterStep(slot, n, back) if *n > 1 => {
            vec![Op::IterStep(*slot, n / 2, *back), Op::IterStep(*slot, n - 1, *back)]
        }
        Op::CursorOpen(slot, family, at, range) => {
            plainer_ranges(range).into_iter().map(|r| Op::CursorOpen(*slot, *family, *at, r)).collect()
        }
        Op::CursorStep(slot, steps) => shorter(steps).into_iter().map(|s| Op::CursorStep(*slot, s)).collect(),
        Op::CompactAll => vec![Op::FlushAll, Op::CompactFamily(0)],
        Op::CompactFamily(family) => vec![Op::Flush(*family)],
        Op::Recompress(family, seed) => vec![Op::CompactFamily(*family), Op::SetOptions(*family, *seed)],
        Op::Compact(family, range) => {
            let ranges = plainer_ranges(range).into_iter().map(|r| Op::Compact(*family, r));
            std::iter::once(Op::Flush(*family)).chain(ranges).collect()
        }
        Op::FlushAll => vec![Op::Flush(0)],
        Op::Step(n) if *n > 1 => vec![Op::Step(n / 2)],
        Op::Recreate(slot, _) => vec![Op::Drop(*slot)],
        Op::Reopen(seed, true) => vec![Op::Reopen(*seed, false)],
        Op::Die(seed) | Op::PowerLoss(seed) | Op::CloseBusy(seed) => vec![Op::Reopen(*seed, false)],
        Op::CheckpointUse(_) => vec![Op::Checkpoint],
        _ => Vec::new(),
    }
}

/// The two halves, and everything but one, for lists that are short enough.
fn shorter<T: Clone>(list: &[T]) -> Vec<Vec<T>> {
    let mut out = Vec::new();
    if list.len() > 1 {
        out.push(list[..list.len() / 2].to_vec());
        out.push(list[list.len() / 2..].to_vec());
    }
    if list.len() > 2 && list.len() <= 24 {
        for at in 0..list.len() {
            let mut rest = list.to_vec();
            rest.remove(at);
            out.push(rest);
        }
    } else if list.len() > 24 {
        // A window of a quarter at a time.
        let quarter = list.len() / 4;
        for at in (0..list.len()).step_by(quarter) {
            let mut rest = list.to_vec();
            rest.drain(at..(at + quarter).min(list.len()));
            out.push(rest);
        }
    }
    out
}

fn plainer_writes(write: &Write) -> Vec<Write> {
    match write {
        Write::Put(key, value) => {
            plainer_value(*value).map(|value| Write::Put(key.clone(), value)).into_iter().collect()
        }
        Write::Delete(_) => Vec::new(),
        Write::DeleteRange(range) => plainer_ranges(range).into_iter().map(Write::DeleteRange).collect(),
    }
}

fn plainer_value(value: Value) -> Option<Value> {
    if value.len > 1 {
        return Some(Value { len: value.len / 2, ..value });
    }
    (value.seed > 999).then_some(Value { seed: value.seed % 1000, ..value })
}

fn plainer_ranges(range: &Range) -> Vec<Range> {
    if *range == ALL { Vec::new() } else { vec![ALL] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Flavour, Mix, generate};

    #[test]
    fn finds_the_two_that_matter() {
        let ops: Vec<u32> = (0..1000).collect();
        let short = reduce(&ops, 10_000, |ops| ops.contains(&17) && ops.contains(&803));
        assert_eq!(short, [17, 803]);
    }

    #[test]
    fn operations_become_plainer() {
        let mix = Mix { ops: 3000, keys: 100, value_len: 100, sync_percent: 10, flavour: Flavour::Plain };
        let ops = generate(3, mix);
        // "Fails" once some batch or fill puts this key and a compaction follows.
        let puts = |op: &Op| match op {
            Op::Batch(writes, _) => writes.iter().any(|(_, w)| matches!(w, Write::Put(key, _) if key == b"key000041")),
            Op::Write(_, Write::Put(key, _), _) => key == b"key000041",
            Op::Fill(_, first, count, step, _) => (0..*count).any(|n| first + u64::from(n) * u64::from(*step) == 41),
            _ => false,
        };
        let fails = |ops: &[Op]| {
            let put = ops.iter().position(puts);
            put.is_some_and(|at| ops[at..].iter().any(|op| matches!(op, Op::Compact(..) | Op::CompactFamily(_))))
        };
        assert!(fails(&ops));
        let short = reduce_history(&ops, None, 5000, fails);
        assert_eq!(short.len(), 2, "{}", crate::ops::print(&short));
        assert!(matches!(&short[0], Op::Write(_, Write::Put(_, Value { len: 0 | 1, .. }), false)), "{}", short[0]);
    }
}
