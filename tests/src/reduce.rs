//! Makes a failing history short: leave out chunks, ever smaller ones, while it still fails.

/// A part of `ops` that still fails and from which no single operation can be left out, or the best
/// that `tries` attempts found.
pub fn reduce<T: Clone>(ops: &[T], mut tries: usize, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut best = ops.to_vec();
    let mut chunk = best.len().div_ceil(2).max(1);
    loop {
        let mut removed_any = false;
        let mut at = 0;
        while at < best.len() {
            if tries == 0 {
                return best;
            }
            tries -= 1;
            let end = (at + chunk).min(best.len());
            let mut shorter = best[..at].to_vec();
            shorter.extend_from_slice(&best[end..]);
            if !shorter.is_empty() && fails(&shorter) {
                best = shorter;
                removed_any = true;
            } else {
                at = end;
            }
        }
        if chunk == 1 && !removed_any {
            return best;
        }
        if !removed_any || chunk > best.len() {
            chunk = (chunk / 2).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_two_that_matter() {
        let ops: Vec<u32> = (0..1000).collect();
        let short = reduce(&ops, 10_000, |ops| ops.contains(&17) && ops.contains(&803));
        assert_eq!(short, [17, 803]);
    }
}
