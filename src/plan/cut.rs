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

/// An account that a row may match if the list shows only the beginning of its text.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) seen: Seen,
    /// The row that the shown text matches, if there is one, otherwise one that a longer text may match.
    pub(super) row: u32,
    /// Whether no other row may match it.
    pub(super) is_only: bool,
}

/// The rows that accounts may match, by the comparable texts of the rows.
type Names<'a> = HashMap<Cow<'a, str>, u32>;

/// Returns the accounts that a row may match if the list shows only the beginning of their text.
pub(super) fn wholes(match_on: MatchOn, names: &Names<'_>, accounts: Vec<Seen>) -> Vec<Whole> {
    let beginnings: Vec<_> = accounts.iter().map(|seen| match_on.beginnings(&seen.text)).collect();
    let mut begins = Begins::of_few(beginnings.iter().map(Vec::len).sum());
    for (seen, beginnings) in accounts.iter().zip(&beginnings) {
        let key = match_on.comparable(&seen.text);
        for beginning in beginnings {
            // The row with the key itself is the matched one.
            begins.add(beginning, **beginning != *key);
        }
    }
    // Of each beginning, the first two names.
    let mut begun: HashMap<&str, [Option<(&str, u32)>; 2]> = HashMap::new();
    begins.each(names, |beginning, name| {
        let [first, second] = begun.entry(beginning).or_default();
        if first.is_none_or(|first| name < first) {
            *second = first.replace(name);
        } else if second.is_none_or(|second| name < second) {
            *second = Some(name);
        }
    });
    let found = accounts.iter().zip(&beginnings).map(|(seen, beginnings)| {
        let begun = beginnings.iter().filter_map(|beginning| begun.get(&**beginning)).flatten().flatten();
        let mut begun = begun.map(|(_, row)| *row).peekable();
        let may_be_cut = || seen.text.chars().count() >= SHORTEST_CUT;
        // Nearly all accounts end here.
        if begun.peek().is_none() && !may_be_cut() {
            return None;
        }
        let matched = names.get(&match_on.comparable(&seen.text)).copied();
        let mut others = begun.filter(|row| Some(*row) != matched);
        match (matched, others.next()) {
            (Some(row), None) => may_be_cut().then_some((row, true)),
            (Some(row), Some(_)) => Some((row, false)),
            (None, other) => other.map(|row| (row, others.all(|other| other == row))),
        }
    });
    let found: Vec<_> = found.collect();
    let found = accounts.into_iter().zip(found);
    found.filter_map(|(seen, found)| found.map(|(row, is_only)| Whole { seen, row, is_only })).collect()
}

/// Returns the rows that accounts may match if the list shows only the beginning of their text, each with the place of
/// the account. Takes the places and the shown texts.
pub(super) fn rows_of<'a>(
    match_on: MatchOn,
    names: &Names<'_>,
    shown: impl Iterator<Item = (usize, &'a str)>,
) -> Vec<(usize, u32)> {
    let mut places: HashMap<Cow<'_, str>, Vec<usize>> = HashMap::new();
    for (place, text) in shown {
        for beginning in match_on.beginnings(text) {
            places.entry(beginning).or_default().push(place);
        }
    }
    let mut found = Vec::new();
    let mut begins = Begins::of_few(places.len());
    for beginning in places.keys() {
        begins.add(beginning, true);
    }
    begins.each(names, |beginning, (_, row)| {
        found.extend(places.get(beginning).into_iter().flatten().map(|place| (*place, row)));
    });
    found
}

/// Finds the names that have one of many beginnings. Tells most others by one bit, so that it reads few places of a
/// large memory.
struct Begins {
    /// The lengths of the beginnings, each once, in order.
    lengths: BTreeSet<usize>,
    /// One bit for each value of a short hash, for beginnings of a longer name and for whole names.
    bits: [Vec<u64>; 2],
}

impl Begins {
    fn of_few(count: usize) -> Self {
        const BITS_PER_TEXT: usize = 16;
        let words = (count * BITS_PER_TEXT).next_power_of_two().div_ceil(64);
        Self { lengths: BTreeSet::new(), bits: [vec![0; words], vec![0; words]] }
    }

    /// Adds a beginning. A name that is equal to it counts only if that is wanted.
    fn add(&mut self, beginning: &str, or_equal: bool) {
        self.lengths.insert(beginning.len());
        let hash = beginning.bytes().fold(Self::START, Self::next);
        let [longer, equal] = &mut self.bits;
        for bits in [Some(longer), or_equal.then_some(equal)].into_iter().flatten() {
            let (place, bit) = Self::place(bits, hash);
            if let Some(word) = bits.get_mut(place) {
                *word |= bit;
            }
        }
    }

    /// Passes on each name that has one of the beginnings, with its row and the beginning. Passes on a few others, each
    /// with a beginning that was not added.
    fn each<'n>(&self, names: &'n Names<'_>, mut take: impl FnMut(&'n str, (&'n str, u32))) {
        let [longer, equal] = &self.bits;
        for (name, row) in names {
            let (mut hash, mut hashed) = (Self::START, 0);
            for length in self.lengths.range(..=name.len()) {
                let more = name.as_bytes().get(hashed..*length).unwrap_or_default();
                (hash, hashed) = (more.iter().copied().fold(hash, Self::next), *length);
                let bits = if hashed == name.len() { equal } else { longer };
                let (place, bit) = Self::place(bits, hash);
                if bits.get(place).is_some_and(|word| word & bit != 0)
                    && let Some(beginning) = name.get(..hashed)
                {
                    take(beginning, (name, *row));
                }
            }
        }
    }

    const START: u64 = 0xcbf2_9ce4_8422_2325;

    /// Adds a byte to a hash (FNV-1a).
    fn next(hash: u64, byte: u8) -> u64 {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }

    /// The word and the bit of a hash.
    fn place(bits: &[u64], hash: u64) -> (usize, u64) {
        // The upper bits of such a hash depend on all bytes, and the lower ones on few.
        let hash = hash ^ (hash >> 32);
        let word = usize::try_from(hash >> 6).unwrap_or_default() & (bits.len() - 1);
        (word, 1 << (hash & 63))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(id: i64, text: &str) -> Seen {
        Seen { id, text: text.into(), listed: FieldSet::default() }
    }

    /// The rows that an account may match, found by a slow search through all names in order, and whether the list may
    /// have truncated its text.
    fn slowly(match_on: MatchOn, names: &Names<'_>, text: &str) -> (Vec<u32>, bool) {
        let matched = names.get(&match_on.comparable(text)).copied();
        let mut sorted: Vec<(&str, u32)> = names.iter().map(|(name, row)| (name.as_ref(), *row)).collect();
        sorted.sort_unstable();
        let beginnings = match_on.beginnings(text);
        let others = beginnings.iter().flat_map(|beginning| {
            sorted.iter().filter(|(other, row)| other.starts_with(&**beginning) && Some(*row) != matched)
        });
        let others: Vec<u32> = others.map(|(_, row)| *row).collect();
        let is_cut = !others.is_empty() || text.chars().count() >= SHORTEST_CUT;
        (matched.into_iter().chain(others).collect(), is_cut)
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
            let found = wholes(match_on, &names, cut.possible());
            let found: Vec<_> = found.iter().map(|whole| (whole.seen.id, whole.row, whole.is_only)).collect();
            assert_eq!(found, [(2, 0, true)], "{text}");
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
            let names: Names<'_> = names.zip(0..).collect();
            let seen: Vec<Seen> = (1..).zip(&texts).map(|(id, text)| seen(id, text)).collect();
            let mut expected = Vec::new();
            let mut rows: Vec<BTreeSet<u32>> = Vec::new();
            for one in &seen {
                let (found, is_cut) = slowly(match_on, &names, &one.text);
                let distinct: BTreeSet<u32> = found.iter().copied().collect();
                if let Some(row) = found.first().filter(|_| is_cut) {
                    expected.push((one.id, *row, distinct.len() == 1));
                }
                rows.push(distinct);
            }
            let texts: Vec<&str> = seen.iter().map(|one| &*one.text).collect();
            let mut found = vec![BTreeSet::new(); texts.len()];
            for (place, row) in rows_of(match_on, &names, texts.iter().copied().enumerate()) {
                found[place].insert(row);
            }
            // The comparable form of a text need not begin with one of these.
            for (place, text) in texts.iter().enumerate() {
                found[place].extend(names.get(&match_on.comparable(text)));
            }
            prop_assert_eq!(found, rows);
            let found = wholes(match_on, &names, seen);
            let found = found.iter().map(|whole| (whole.seen.id, whole.row, whole.is_only));
            prop_assert_eq!(found.collect::<Vec<_>>(), expected);
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
