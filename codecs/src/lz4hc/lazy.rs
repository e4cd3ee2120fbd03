//! The greedy and the lazy parse.
//!
//! The lazy one searches where a match ends for a longer one that overlaps it, and from there for a
//! third, longer still, before it decides what the first keeps of its length. So it searches two
//! or three times a sequence and not at every byte.

use super::chains::Finder;
use super::sequence::{MATCH_LEN_MIN, Match, Writer};

/// The longest match whose length the token itself holds. Of two matches that overlap, the first
/// keeps so much, for it costs nothing, and leaves the rest to the longer second.
const TOKEN_MATCH_LEN: usize = 18;

pub(super) fn parse_greedily<const DICTIONARY: bool>(mut finder: Finder<'_, DICTIONARY>, writer: &mut Writer<'_>) {
    let mut at = finder.begin();
    while at <= finder.start_max() {
        match finder.longest(at, MATCH_LEN_MIN - 1) {
            Some(found) => {
                writer.put(found);
                at = found.end();
            }
            None => at += 1,
        }
    }
}

pub(super) fn parse<const DICTIONARY: bool>(mut finder: Finder<'_, DICTIONARY>, writer: &mut Writer<'_>) {
    let mut at = finder.begin();
    while at <= finder.start_max() {
        at = match finder.longest(at, MATCH_LEN_MIN - 1) {
            Some(found) => put_group(&mut finder, writer, found),
            None => at + 1,
        };
    }
}

/// Writes `first` and what overlaps it, as far as one match leads to a longer one; where the last
/// of them ends, the next search begins.
fn put_group<const DICTIONARY: bool>(
    finder: &mut Finder<'_, DICTIONARY>,
    writer: &mut Writer<'_>,
    mut first: Match,
) -> usize {
    let start_max = finder.start_max();
    // The match that stood in the first's place before one a byte or two further on took it.
    let mut replaced = first;
    'second: loop {
        let found = match first.end() <= start_max {
            true => finder.wider(first.end() - 2, first.start, first.len),
            false => None,
        };
        let Some(mut second) = found else {
            writer.put(first);
            return first.end();
        };
        if replaced.start < first.start && second.start < first.start + replaced.len {
            first = replaced;
        }
        if second.start - first.start < 3 {
            first = second;
            continue;
        }
        loop {
            share(first, &mut second);
            let found = match second.end() <= start_max {
                true => finder.wider(second.end() - 3, second.start, second.len),
                false => None,
            };
            let Some(third) = found else {
                put_before(writer, first, second.start);
                writer.put(second);
                return second.end();
            };
            if third.start >= first.end() + 3 {
                // Three in a row: the first is settled, and the others move up.
                put_before(writer, first, second.start);
                (first, second) = (second, third);
            } else if third.start >= first.end() {
                // No room for the second between them.
                if second.start < first.end() {
                    if second.end() >= first.end() + MATCH_LEN_MIN {
                        second.begin_at(first.end());
                    } else {
                        second = third;
                    }
                }
                writer.put(first);
                (first, replaced) = (third, second);
                continue 'second;
            } else {
                second = third;
            }
        }
    }
}

/// Moves the second's start to where the first should end, if it begins before that.
fn share(first: Match, second: &mut Match) {
    if second.start - first.start >= TOKEN_MATCH_LEN {
        return;
    }
    let kept = first.len.min(TOKEN_MATCH_LEN).min(second.end() - MATCH_LEN_MIN - first.start);
    if first.start + kept > second.start {
        second.begin_at(first.start + kept);
    }
}

/// Writes what a match has before `end`.
fn put_before(writer: &mut Writer<'_>, mut found: Match, end: usize) {
    found.len = found.len.min(end - found.start);
    writer.put(found);
}
