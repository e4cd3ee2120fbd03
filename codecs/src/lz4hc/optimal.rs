//! The optimal parse: the cheapest sequences through each 16 KiB of a block.
//!
//! All offsets cost the same, so of the matches at a position only the longest matters, and it may
//! end anywhere: dynamic programming over positions finds the cheapest way. It is exact but for two
//! things: what a run of literals costs beyond its bytes depends on the way that led there, of
//! which only the cheapest is kept; and no match reaches from one 16 KiB to the next, unless it is
//! so long that it is taken unseen.

use super::chains::Finder;
use super::sequence::{MATCH_LEN_MIN, Match, Writer};

/// How much is planned at once.
const PLAN_LEN: usize = 16 << 10;

/// Prices are bytes, shifted, plus sequences: of equally small ways the one with fewer, which is
/// faster to decode.
const BYTE: u32 = 1 << 12;

/// The best way to a position: by `len` bytes from `offset` before, or by a literal if `len` is 0.
#[derive(Clone, Copy, Default)]
struct Step {
    price: u32,
    /// Literals since the last match.
    literals: u32,
    len: u16,
    offset: u16,
}

/// Room for the best ways to all positions of one plan, and for the chosen one.
#[derive(Default)]
pub(super) struct Plan {
    steps: Vec<Step>,
    chosen: Vec<Match>,
}

pub(super) fn parse<const DICTIONARY: bool>(
    mut finder: Finder<'_, DICTIONARY>,
    plan: &mut Plan,
    nice_len: usize,
    writer: &mut Writer<'_>,
) {
    plan.steps.resize(PLAN_LEN + nice_len.max(MATCH_LEN_MIN) + 1, Step::default());
    let mut at = finder.begin();
    while at <= finder.start_max() {
        at = plan.put_next(&mut finder, at, nice_len, writer);
    }
}

impl Plan {
    /// Writes the cheapest sequences from `from` on; the next plan begins where they end.
    fn put_next<const DICTIONARY: bool>(
        &mut self,
        finder: &mut Finder<'_, DICTIONARY>,
        from: usize,
        nice_len: usize,
        writer: &mut Writer<'_>,
    ) -> usize {
        let steps = &mut self.steps;
        let end = PLAN_LEN.min(finder.end_max() - from);
        steps[0] = Step { literals: writer.pending(from) as u32, ..Step::default() };
        // The furthest position to which a way is known, the longest match known to cover the place.
        let (mut reach, mut covering) = (0, None::<Match>);
        let mut taken = None;
        let mut here = 0;
        while here < end {
            let at = from + here;
            let Step { price: step_price, literals, .. } = steps[here];
            let literals = literals + 1;
            let by_literal = Step { price: step_price + literal_price(literals), literals, len: 0, offset: 0 };
            if here == reach || by_literal.price < steps[here + 1].price {
                steps[here + 1] = by_literal;
            }
            reach = reach.max(here + 1);

            // The longest match of the byte before, less that byte, is one here.
            let rest = covering.map(|m| Match { start: at, len: m.end() - at, ..m }).filter(|m| m.len >= MATCH_LEN_MIN);
            // No match from here is of use where the next byte is reached for as little, and so whatever a match
            // reaches beyond its fourth byte, unless that one is.
            let is_passed = here + MATCH_LEN_MIN <= reach
                && steps[here + 1].price <= step_price
                && steps[here + MATCH_LEN_MIN].price <= step_price + match_price(MATCH_LEN_MIN);
            if is_passed || at > finder.start_max() {
                covering = rest;
                here += 1;
                continue;
            }
            covering = finder.longest(at, rest.map_or(MATCH_LEN_MIN - 1, |m| m.len)).or(rest);
            if let Some(found) = covering {
                if found.len >= nice_len {
                    taken = Some(found);
                    break;
                }
                for unknown in &mut steps[reach + 1..=(here + found.len).max(reach)] {
                    unknown.price = u32::MAX;
                }
                reach = reach.max(here + found.len);
                let offset = found.offset as u16;
                for (len, step) in (MATCH_LEN_MIN..).zip(&mut steps[here + MATCH_LEN_MIN..=here + found.len]) {
                    let price = step_price + match_price(len);
                    if price < step.price {
                        *step = Step { price, literals: 0, len: len as u16, offset };
                    }
                }
            }
            here += 1;
        }
        self.put_way(here, from, writer);
        match taken {
            Some(found) => {
                writer.put(found);
                found.end()
            }
            None => from + here,
        }
    }

    /// Writes the matches of the cheapest way to `to`.
    fn put_way(&mut self, to: usize, from: usize, writer: &mut Writer<'_>) {
        let mut at = to;
        while at > 0 {
            let Step { len, offset, .. } = self.steps[at];
            let len = usize::from(len);
            at -= len.max(1);
            if len > 0 {
                self.chosen.push(Match { start: from + at, len, offset: usize::from(offset) });
            }
        }
        self.chosen.drain(..).rev().for_each(|found| writer.put(found));
    }
}

/// What one literal more costs, by which the run has so many.
fn literal_price(literals: u32) -> u32 {
    let is_length_longer = literals >= 15 && (literals - 15).is_multiple_of(255);
    BYTE + if is_length_longer { BYTE } else { 0 }
}

/// What a match costs: token, offset, and what the token cannot hold of the length.
fn match_price(len: usize) -> u32 {
    let more = match len.checked_sub(MATCH_LEN_MIN + 15) {
        Some(rest) => 1 + rest as u32 / 255,
        None => 0,
    };
    (3 + more) * BYTE + 1
}
