//! Finds rows whose account may have a longer text than the list shows.
//!
//! A list that truncates texts returns none that is longer than its limit. So it can have truncated only two kinds of
//! text: those of the longest length, which is known at the end, and those that end with a mark, which may be shorter
//! if the program cuts at a word.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use super::lengths::Lengths;
use super::{MatchOn, SHORTEST_CUT};
use crate::account::FieldSet;

/// The number of texts at which the shorter ones are removed. They are removed again whenever the number has doubled.
const FEW: usize = 1_024;

/// What the item of an account shows.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) id: i64,
    /// The text that rows are matched by.
    pub(super) text: Box<str>,
    /// The fields that have a value.
    pub(super) listed: FieldSet,
}

/// The accounts with the longest texts so far, and those whose text ends like a shortened one.
#[derive(Debug, Default)]
pub(super) struct Cut {
    texts: Vec<(Lengths, Seen)>,
    longest: Lengths,
    /// How many were left when the shorter ones were last removed.
    kept: usize,
}

impl Cut {
    pub(super) fn add(&mut self, id: i64, text: &str, listed: impl FnOnce() -> FieldSet) {
        let lengths = Lengths::of(text);
        self.longest.extend(lengths);
        if !lengths.reach(self.longest) && shortened(text).is_none() {
            return;
        }
        self.texts.push((lengths, Seen { id, text: text.into(), listed: listed() }));
        if self.texts.len() >= FEW.max(2 * self.kept) {
            self.sort_out();
        }
    }

    fn sort_out(&mut self) {
        let longest = self.longest;
        self.texts.retain(|(lengths, seen)| lengths.reach(longest) || shortened(&seen.text).is_some());
        self.kept = self.texts.len();
    }

    /// Returns the accounts whose text the list may have truncated.
    pub(super) fn possible(mut self) -> Vec<Seen> {
        self.sort_out();
        self.texts.into_iter().map(|(_, seen)| seen).collect()
    }
}

/// Returns what a text begins with if it ends as a program ends a text that it has shortened.
pub(in crate::plan) fn shortened(text: &str) -> Option<&str> {
    let text = text.trim_end_matches([' ', ']', ')']);
    let known = text.strip_suffix('\u{2026}').or_else(|| text.strip_suffix("..."))?;
    Some(known.trim_end_matches([' ', '[', '(']))
}

/// Returns the accounts that a row may match if the list shows only the beginning of their text, each with one such
/// row: the row that the shown text matches, if there is one, otherwise one that a longer text may match.
pub(super) fn wholes(match_on: MatchOn, names: &HashMap<Cow<'_, str>, u32>, accounts: &[Seen]) -> Vec<(i64, u32)> {
    let asked = accounts.iter().map(|Seen { id, text, .. }| {
        let name = match_on.comparable(text);
        let matched = names.get(name.as_ref()).copied();
        let is_long = matched.is_some() && text.chars().count() >= SHORTEST_CUT;
        (*id, name, matched, if is_long { Vec::new() } else { match_on.beginnings(text) })
    });
    let asked: Vec<_> = asked.collect();
    let beginnings = asked.iter().flat_map(|(.., beginnings)| beginnings).map(|beginning| (&**beginning, [None; 2]));
    let begun = begun(beginnings.collect(), names);
    let found = asked.iter().filter_map(|(id, name, matched, beginnings)| {
        let other = beginnings.iter().find_map(|beginning| {
            let begun = begun.get(&**beginning)?.iter().flatten();
            begun.copied().find(|(other, _)| *other != name.as_ref()).map(|(_, row)| row)
        });
        let is_cut = other.is_some() || beginnings.is_empty();
        matched.or(other).filter(|_| is_cut).map(|row| (*id, row))
    });
    found.collect()
}

/// The name and the row of the first two names with each beginning, in the order of the names.
type Begun<'a> = HashMap<&'a str, [Option<(&'a str, u32)>; 2]>;

fn begun<'a>(mut begun: Begun<'a>, names: &'a HashMap<Cow<'_, str>, u32>) -> Begun<'a> {
    let lengths: BTreeSet<usize> = begun.keys().map(|beginning| beginning.len()).collect();
    for (name, row) in names {
        for length in lengths.range(..=name.len()) {
            let Some(beginning) = name.get(..*length) else { continue };
            let Some([first, second]) = begun.get_mut(beginning) else { continue };
            let this = Some((name.as_ref(), *row));
            if first.is_none() || this < *first {
                *second = std::mem::replace(first, this);
            } else if second.is_none() || this < *second {
                *second = this;
            }
        }
    }
    begun
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(id: i64, text: &str) -> Seen {
        Seen { id, text: text.into(), listed: FieldSet::default() }
    }

    /// The same result, found by a slow search through all names in order.
    fn slowly(match_on: MatchOn, names: &HashMap<Cow<'_, str>, u32>, text: &str) -> Option<u32> {
        let name = match_on.comparable(text);
        let matched = names.get(&name).copied();
        if matched.is_some() && text.chars().count() >= SHORTEST_CUT {
            return matched;
        }
        let mut sorted: Vec<(&str, u32)> = names.iter().map(|(name, row)| (name.as_ref(), *row)).collect();
        sorted.sort_unstable();
        let other = match_on.beginnings(text).into_iter().find_map(|beginning| {
            sorted.iter().find(|(other, _)| other.starts_with(&*beginning) && *other != name).map(|(_, row)| *row)
        })?;
        Some(matched.unwrap_or(other))
    }

    #[test]
    fn an_account_whose_text_ends_with_a_mark_is_read_however_long_it_is() {
        let longest = "https://www.a-company-with-a-long-domain.example/";
        let cases = [
            (MatchOn::Name, "International Shipping Group Holdings AS", "International Shipping Group \u{2026}"),
            (MatchOn::Name, "International Shipping Group Holdings AS", "International [...]"),
            (MatchOn::DomainName, "acme-holdings.example", "https://www.acme-holdings..."),
            (MatchOn::DomainName, "acme-holdings.example", "acme-hold\u{2026}"),
        ];
        for (match_on, row, text) in cases {
            let mut cut = Cut::default();
            for (id, text) in [(1, longest), (2, text), (3, "Another...")] {
                cut.add(id, text, FieldSet::default);
            }
            let names = HashMap::from([(match_on.comparable(row), 0)]);
            assert_eq!(wholes(match_on, &names, &cut.possible()), [(2, 0)], "{text}");
        }
        assert_eq!((shortened("Acme"), shortened("..."), shortened("a.. ")), (None, Some(""), None));
    }

    proptest! {
        #[test]
        fn every_name_that_a_text_may_begin_is_found(
            names in proptest::collection::hash_set("[aå.]{0,4}(xn--|w)?[aå.]{0,3}", 0..12),
            texts in proptest::collection::vec("(www\\.)?[aå.]{0,4}|a{30,33}", 0..6),
            by_domain in any::<bool>(),
        ) {
            let match_on = if by_domain { MatchOn::DomainName } else { MatchOn::Name };
            let names = names.iter().map(|name| match_on.comparable(name));
                let names: HashMap<Cow<'_, str>, u32> = names.zip(0..).collect();
            let seen: Vec<Seen> = (1..).zip(&texts).map(|(id, text)| seen(id, text)).collect();
            let expected = seen.iter().filter_map(|one| Some((one.id, slowly(match_on, &names, &one.text)?)));
            prop_assert_eq!(wholes(match_on, &names, &seen), expected.collect::<Vec<_>>());
        }

        #[test]
        fn the_longest_texts_are_kept_by_every_count(texts in proptest::collection::vec("[aå𝒜]{0,3}", 0..40)) {
            let mut cut = Cut { kept: 1, ..Cut::default() };
            for (id, text) in (0..).zip(&texts) {
                cut.add(id, text, FieldSet::default);
                cut.sort_out();
            }
            let counts: [fn(&str) -> usize; 3] =
                [|text| text.chars().count() + 1, |text| text.encode_utf16().count() + 2, |text| text.len() + 4];
            let lengths: [fn(&str) -> usize; 3] =
                [|text| text.chars().count(), |text| text.encode_utf16().count(), str::len];
            let is_longest = |text: &str| {
                counts.iter().zip(lengths).any(|(count, length)| texts.iter().all(|other| length(other) <= count(text)))
            };
            let expected: Vec<i64> =
                (0..).zip(&texts).filter(|(_, text)| is_longest(text)).map(|(id, _)| id).collect();
            prop_assert_eq!(cut.possible().into_iter().map(|seen| seen.id).collect::<Vec<_>>(), expected);
        }
    }
}
