//! Checks whether the items of the list match `GET`. Pure.
//!
//! A list may omit members, or truncate long texts. An item is safe to build an update on if, for each field, an item
//! with a longer text was compared with its account and was complete. The longest texts of a page are compared, unless
//! most of the page has them: then some of them are.

use std::collections::{HashMap, HashSet};

use crate::account::{ContactAccount, Field, FieldValue};
use crate::change::{Change, Value, filled};
use crate::plan::SHORTEST_CUT;
use crate::plan::cut::shortened;
use crate::plan::lengths::{Lengths, Reach};
use crate::sabotage::{Guard, is_off};

/// The fewest accounts to compare before the first update: an account with a value reveals a field that the list always
/// leaves empty.
pub(super) const FEWEST: usize = 8;
/// The run compares one more of each 32 accounts that it read from a page and will update, and at least one of each
/// page: a list may leave a field empty that few accounts have, and the first accounts that it compared may not be
/// among them.
const ONE_OF: usize = 32;

/// Returns how many of the accounts on a page to compare besides those that are demanded.
pub(super) fn checks(count: usize, demanded: usize) -> usize {
    (count / ONE_OF).max(usize::from(demanded == 0)).min(count.saturating_sub(demanded))
}

/// The result of comparing an item with its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Compared {
    /// The item shows everything that the account has.
    Whole,
    /// The item lacks something of the account, or differs.
    Lacking,
    /// The item shows values that the account lacks. One of the two answers is wrong, and an update may clear these
    /// fields.
    Contradicting(Vec<Field>),
}

/// Adds the positions of accounts to compare besides the required ones, until there are [`FEWEST`]: the one with the
/// most text, those with the longest text of a field, and others spread over the page.
pub(super) fn sample(accounts: &[&ContactAccount], demanded: &mut Vec<usize>) {
    let longest_by = |length: &dyn Fn(&ContactAccount) -> usize| {
        let place =
            (0..accounts.len()).max_by_key(|place| accounts.get(*place).map_or(0, |account| length(account)))?;
        accounts.get(place).filter(|account| length(account) > 0).map(|_| place)
    };
    let heaviest = longest_by(&ContactAccount::text_bytes);
    let longest = Field::ALL.iter().filter_map(|&field| longest_by(&|account| lengths(account, field).bytes()));
    let spread = (0..FEWEST).map(|part| part * accounts.len().saturating_sub(1) / (FEWEST - 1));
    for place in heaviest.into_iter().chain(longest).chain(spread).chain(0..accounts.len()) {
        if place < accounts.len() && demanded.len() < FEWEST && !demanded.contains(&place) {
            demanded.push(place);
        }
    }
}

/// Adds the positions of accounts to compare besides those that are demanded, spread over the page.
pub(super) fn spot_checks(count: usize, demanded: &mut Vec<usize>) {
    let checks = checks(count, demanded.len());
    for part in 0..checks {
        let middle = (2 * part + 1) * count / (2 * checks);
        demanded.extend((middle..count).chain(0..middle).find(|place| !demanded.contains(place)));
    }
}

/// What this run knows about the list's items.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// The longest text of each field that an item was seen to show completely.
    whole: HashMap<Field, Lengths>,
    /// How many texts of exactly this length were seen to be complete.
    whole_of: HashMap<(Field, Lengths), usize>,
    /// The accounts whose item has only the beginning of a field, by its length. A single account may have changed
    /// between its item and its `GET`.
    cut: HashMap<(Field, usize), HashSet<i64>>,
    /// The accounts whose item has a complete text of this length.
    uncut: HashMap<(Field, usize), HashSet<i64>>,
    /// How many items were compared with their accounts.
    compared: usize,
}

impl Proofs {
    /// Returns the positions of the accounts on a page to compare before any of them is updated. For each field, these
    /// are three groups:
    ///
    /// - those with the longest text by any count, unless a longer one was seen complete,
    /// - those with nearly the longest text,
    /// - those whose text ends like a shortened one.
    ///
    /// If a group is most of the page, as addresses with a number are, [`FEWEST`] of it are enough, and none of a
    /// length that [`FEWEST`] complete texts had.
    pub(super) fn demanded(&self, accounts: &[&ContactAccount]) -> Vec<usize> {
        let mut places: Vec<usize> = Vec::new();
        for &field in Field::ALL {
            let texts = accounts.iter().enumerate().map(|(place, account)| (place, lengths(account, field)));
            let texts: Vec<(usize, Lengths)> = texts.filter(|(_, length)| length.bytes() > SHORTEST_CUT).collect();
            let mut longest = self.whole.get(&field).copied().unwrap_or_default();
            for (_, length) in &texts {
                longest.extend(*length);
            }
            let having = |is_meant: &dyn Fn(Lengths) -> bool| -> Vec<usize> {
                texts.iter().filter(|(_, length)| is_meant(*length)).map(|(place, _)| *place).collect()
            };
            let mut groups: Vec<Vec<usize>> =
                vec![(0..accounts.len()).filter(|place| looks_shortened(accounts, *place, field)).collect()];
            for count in 0..Lengths::COUNTS {
                groups.push(having(&|length| length.reach_by(count, longest) == Reach::Longest));
                groups.push(having(&|length| length.reach_by(count, longest) == Reach::Nearly));
            }
            let is_usual = |place: &usize| {
                let length = accounts.get(*place).map(|account| lengths(account, field)).unwrap_or_default();
                self.whole_of.get(&(field, length)).is_some_and(|seen| *seen >= FEWEST)
            };
            for group in groups {
                if 2 * group.len() <= accounts.len() {
                    places.extend(group);
                    continue;
                }
                let unusual: Vec<usize> = group.iter().copied().filter(|place| !is_usual(place)).collect();
                // On a larger page, a spot check compares one of them.
                let of_usual = usize::from(unusual.is_empty() && accounts.len() < ONE_OF);
                places.extend(spread(&unusual, accounts.len(), FEWEST));
                places.extend(spread(&group, accounts.len(), of_usual));
            }
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Returns whether enough items were compared to trust those of later pages.
    pub(super) const fn are_enough(&self) -> bool {
        self.compared >= FEWEST
    }

    /// Compares an item with its account in every field that an update includes.
    pub(super) fn compare(&mut self, item: &ContactAccount, account: &ContactAccount) -> Compared {
        self.compared += 1;
        let mut lacking = false;
        let mut contradicting = Vec::new();
        for &field in Field::ALL {
            let (shown, real) = (filled(field, item.value(field)), filled(field, account.value(field)));
            if is_off(Guard::CompleteItems) || (item.has(field) && shown == real) {
                let length = lengths(item, field);
                self.whole.entry(field).or_default().extend(length);
                *self.whole_of.entry((field, length)).or_default() += 1;
                if let Some((_, length)) =
                    text(item, field).map(beginning).filter(|(_, length)| *length >= SHORTEST_CUT)
                {
                    self.uncut.entry((field, length)).or_default().insert(account.id);
                }
                continue;
            }
            lacking = true;
            match (shown, real) {
                (Some(FieldValue::Text(shown)), Some(FieldValue::Text(real)))
                    if real.starts_with(beginning(shown).0) =>
                {
                    self.cut.entry((field, beginning(shown).1)).or_default().insert(account.id);
                }
                (Some(_), None) => contradicting.push(field),
                _ => {}
            }
        }
        match (contradicting.is_empty(), lacking) {
            (false, _) => Compared::Contradicting(contradicting),
            (true, true) => Compared::Lacking,
            (true, false) => Compared::Whole,
        }
    }

    /// Returns whether a plan saw only the beginning of an account's text, because the list truncates the field there.
    /// `None` if more accounts have to show that: people may have added to these texts since their items were read. It
    /// takes two accounts, and more than have a complete text of this length.
    pub(super) fn is_cut(&self, change: &Change, account: &ContactAccount) -> Option<bool> {
        let (Value::Text(before), Some(FieldValue::Text(now))) = (&change.before, account.value(change.field)) else {
            return Some(false);
        };
        let (beginning, length) = beginning(before);
        let is_ours = change.after.is(change.field, account.value(change.field));
        if length < SHORTEST_CUT || is_ours || !now.starts_with(beginning) {
            return Some(false);
        }
        let count = |accounts: &HashMap<_, HashSet<i64>>| accounts.get(&(change.field, length)).map_or(0, HashSet::len);
        match count(&self.cut) {
            0 => Some(false),
            cut => (cut > count(&self.uncut).max(1)).then_some(true),
        }
    }
}

/// Returns whether an item may show only the beginning of a text that the plan knows.
pub(super) fn may_show_beginning(item: &ContactAccount, change: &Change) -> bool {
    let Some(shown) = text(item, change.field) else { return false };
    let is_whole = |value: &Value| matches!(value, Value::Text(whole) if whole.starts_with(beginning(shown).0));
    is_whole(&change.before) || is_whole(&change.after)
}

/// Returns whether an account may have the whole text of which the plan knows the beginning, and not the text of the
/// plan in another form.
pub(super) fn may_be_whole(change: &Change, account: &ContactAccount) -> bool {
    let (Value::Text(before), Some(now)) = (&change.before, text(account, change.field)) else { return false };
    let (known, length) = beginning(before);
    let is_like_after = matches!(&change.after, Value::Text(after) if after.starts_with(known));
    length >= SHORTEST_CUT && now.starts_with(known) && !is_like_after
}

/// Returns what the whole text begins with if this one is cut, and its length. Texts that are cut at a word have
/// different lengths, but the same mark.
fn beginning(text: &str) -> (&str, usize) {
    match shortened(text).filter(|known| !known.is_empty()) {
        Some(known) => (known, usize::MAX),
        None => (text, text.chars().count()),
    }
}

fn lengths(account: &ContactAccount, field: Field) -> Lengths {
    text(account, field).map(Lengths::of).unwrap_or_default()
}

/// Returns this number of positions, or all if there are fewer, spread over the page. Two groups that share most of
/// their members also share most of the chosen positions.
pub(super) fn spread(places: &[usize], page: usize, count: usize) -> Vec<usize> {
    let mut chosen = Vec::new();
    for part in 0..count.min(places.len()) {
        let (before, after) = places.split_at(places.partition_point(|place| *place < part * page / count));
        chosen.extend(after.iter().chain(before).find(|place| !chosen.contains(*place)).copied());
    }
    chosen
}

fn looks_shortened(accounts: &[&ContactAccount], place: usize, field: Field) -> bool {
    accounts.get(place).and_then(|account| text(account, field)).and_then(shortened).is_some()
}

fn text(account: &ContactAccount, field: Field) -> Option<&str> {
    match account.value(field)? {
        FieldValue::Text(text) => Some(text),
        FieldValue::Integer(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Compared, FEWEST, Proofs, checks, sample, spot_checks};
    use crate::account::{ContactAccount, Field};
    use crate::change::{Change, Value};

    fn account(members: serde_json::Value) -> ContactAccount {
        let mut all = serde_json::Map::new();
        for field in Field::ALL {
            all.insert(field.wire().to_owned(), serde_json::Value::Null);
        }
        for (name, value) in [("id", 7.into()), ("name", "Acme".into()), ("ownerUserId", 1.into())] {
            all.insert(name.to_owned(), value);
        }
        let serde_json::Value::Object(members) = members else { panic!("members are an object") };
        all.extend(members);
        serde_json::from_value(all.into()).unwrap()
    }

    fn described(length: usize) -> ContactAccount {
        account(serde_json::json!({"description": "x".repeat(length)}))
    }

    #[test]
    fn each_field_is_compared_where_its_text_is_longest() {
        let accounts = [
            account(serde_json::json!({"description": "x".repeat(255), "phone": "1"})),
            account(serde_json::json!({"description": "x".repeat(100), "logoUrl": "y".repeat(400)})),
            account(serde_json::json!({"city": "z".repeat(33)})),
            account(serde_json::json!({"city": "z".repeat(20)})),
        ];
        assert_eq!(Proofs::default().demanded(&accounts.iter().collect::<Vec<_>>()), [0, 1, 2]);
    }

    #[test]
    fn eight_accounts_are_compared_where_there_are_as_many() {
        for count in 0..20 {
            let accounts: Vec<ContactAccount> = (0..count).map(described).collect();
            let accounts: Vec<&ContactAccount> = accounts.iter().collect();
            let mut places = Vec::new();
            sample(&accounts, &mut places);
            assert_eq!(places.len(), count.min(FEWEST));
            assert!(count == 0 || places.contains(&(count - 1)), "the one with the most text is among them");
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), count.min(FEWEST), "none twice");
        }
    }

    #[test]
    fn one_account_of_thirty_two_is_compared_besides_and_at_least_one_of_each_page() {
        let cases = [(0, 0, 0), (1, 0, 1), (31, 0, 1), (31, 4, 0), (32, 4, 1), (64, 0, 2), (190, 4, 5), (190, 190, 0)];
        for (count, demanded, more) in cases {
            let mut places: Vec<usize> = (0..demanded).collect();
            assert_eq!(checks(count, demanded), more);
            spot_checks(count, &mut places);
            assert_eq!(places.len(), demanded + more);
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), demanded + more, "none twice");
        }
        let mut places = Vec::new();
        spot_checks(96, &mut places);
        assert_eq!(places, [16, 48, 80]);
    }

    #[test]
    fn a_text_shorter_than_one_that_was_whole_needs_no_proof() {
        let mut proofs = Proofs::default();
        assert_eq!(proofs.compare(&described(300), &described(300)), Compared::Whole);
        assert!(proofs.demanded(&[&described(290), &described(40)]).is_empty());
        assert_eq!(proofs.demanded(&[&described(290), &described(301), &described(302)]), [1, 2]);
    }

    #[test]
    fn a_text_as_long_as_one_that_was_whole_may_be_cut_there() {
        // An account really has 255 characters. The list cuts the texts of the others there.
        let mut proofs = Proofs::default();
        assert_eq!(proofs.demanded(&[&described(255), &described(255), &described(40)]), [0, 1]);
        proofs.compare(&described(255), &described(255));
        assert_eq!(proofs.demanded(&[&described(255), &described(251), &described(250)]), [0, 1]);
        // By bytes, 85 of these characters are as long, although another text has more characters.
        let japanese = account(serde_json::json!({"description": "\u{65e5}".repeat(85)}));
        assert_eq!(proofs.demanded(&[&described(200), &japanese]), [1]);
    }

    #[test]
    fn few_of_a_page_are_compared_if_most_have_texts_of_one_length() {
        let accounts: Vec<ContactAccount> = (0..100).map(|_| described(60)).collect();
        let demanded = Proofs::default().demanded(&accounts.iter().collect::<Vec<_>>());
        assert_eq!(demanded, [0, 12, 25, 37, 50, 62, 75, 87]);
        let few: Vec<ContactAccount> = (0..100).map(|place| described(if place < 40 { 60 } else { 20 })).collect();
        assert_eq!(Proofs::default().demanded(&few.iter().collect::<Vec<_>>()).len(), 40);

        let mut proofs = Proofs::default();
        for _ in 1..FEWEST {
            proofs.compare(&accounts[0], &accounts[0]);
        }
        assert_eq!(proofs.demanded(&accounts.iter().collect::<Vec<_>>()), demanded);
        proofs.compare(&accounts[0], &accounts[0]);
        assert!(proofs.demanded(&accounts.iter().collect::<Vec<_>>()).is_empty(), "this length is usual");
        assert_eq!(proofs.demanded(&few.iter().collect::<Vec<_>>()).len(), 40, "here it is not");
        assert_eq!(proofs.demanded(&accounts.iter().take(30).collect::<Vec<_>>()), [0], "a page without a spot check");
        let longer = described(61);
        let with_longer: Vec<&ContactAccount> = accounts.iter().skip(1).chain([&longer]).collect();
        assert_eq!(proofs.demanded(&with_longer), [99]);
    }

    #[test]
    fn a_cut_text_is_compared_although_most_texts_look_shortened_or_have_another_length() {
        let shortened = |place: usize| account(serde_json::json!({"description": "x".repeat(90 + place % 20) + "..."}));
        let japanese = |_| account(serde_json::json!({"description": "\u{65e5}".repeat(100)}));
        let nearly = |place: usize| described(251 + place % 4);
        for other in [&shortened as &dyn Fn(usize) -> ContactAccount, &japanese, &nearly] {
            let cut = [5, 44, 93];
            let accounts: Vec<ContactAccount> =
                (0..100).map(|place| if cut.contains(&place) { described(255) } else { other(place) }).collect();
            let demanded = Proofs::default().demanded(&accounts.iter().collect::<Vec<_>>());
            assert!(cut.iter().all(|place| demanded.contains(place)) && demanded.len() < 60, "{demanded:?}");
        }
    }

    #[test]
    fn accounts_that_are_compared_for_another_reason_do_not_stand_for_those_of_a_group() {
        // Ten texts were stored shortened, so the list shows them whole. It cuts the other twenty.
        let shortened = account(serde_json::json!({"description": "x".repeat(252) + "..."}));
        let cut = described(255);
        for first in [0, 20] {
            let is_shortened = |place: usize| (first..first + 10).contains(&place);
            let accounts: Vec<&ContactAccount> =
                (0..30).map(|place| if is_shortened(place) { &shortened } else { &cut }).collect();
            let demanded = Proofs::default().demanded(&accounts);
            assert!(demanded.iter().filter(|place| !is_shortened(**place)).count() >= 4, "{demanded:?}");
        }
    }

    #[test]
    fn groups_with_common_members_share_those_that_are_compared() {
        let all: Vec<usize> = (0..50).collect();
        let most: Vec<usize> = (0..50).filter(|place| place % 7 != 1).collect();
        let (one, other) = (super::spread(&all, 50, FEWEST), super::spread(&most, 50, FEWEST));
        assert_eq!((one.len(), other.len()), (FEWEST, FEWEST));
        assert!(other.iter().all(|place| most.contains(place)));
        assert!(one.iter().filter(|place| other.contains(place)).count() >= 6, "{one:?} {other:?}");
        assert_eq!(super::spread(&[3, 4, 49], 50, FEWEST), [3, 49, 4]);
    }

    #[test]
    fn a_text_that_ends_like_a_shortened_one_is_compared() {
        let mut proofs = Proofs::default();
        proofs.compare(&described(900), &described(900));
        for end in ["\u{2026}", "...", " [...]"] {
            for length in [5, 240] {
                let shortened = account(serde_json::json!({"description": "x".repeat(length) + end}));
                assert_eq!(proofs.demanded(&[&described(240), &shortened]), [1]);
            }
        }
    }

    #[test]
    fn texts_that_end_with_a_mark_count_as_cut_whatever_their_lengths_are() {
        let mut proofs = Proofs::default();
        let marked = |id: i64, text: &str| account(serde_json::json!({"id": id, "description": text}));
        let change = Change::new(Field::Description, Value::Text("International \u{2026}".to_owned()), Value::Null);
        let now = marked(9, "International Shipping Group");
        assert_eq!(proofs.is_cut(&change, &now), Some(false));
        for (id, text, whole, expected) in
            [(1, "Ships \u{2026}", "Ships and harbors", None), (2, "Fish and \u{2026}", "Fish and chips", Some(true))]
        {
            assert_eq!(proofs.compare(&marked(id, text), &marked(id, whole)), Compared::Lacking);
            assert_eq!(proofs.is_cut(&change, &now), expected);
        }
        assert_eq!(proofs.is_cut(&change, &marked(9, "Nordic Shipping")), Some(false));
    }

    #[test]
    fn a_text_that_as_many_accounts_have_completely_is_not_taken_for_cut() {
        let named = |id: i64, more: &str| account(serde_json::json!({"id": id, "name": "x".repeat(40) + more}));
        let change = Change::new(Field::Name, Value::Text("x".repeat(40)), Value::Text("y".to_owned()));
        let mut proofs = Proofs::default();
        for (id, more, expected) in [
            (1, "", Some(false)),
            (2, "", Some(false)),
            (3, " and a note", None),
            (4, " and another note", None),
            (5, " and a third note", Some(true)),
        ] {
            proofs.compare(&named(id, ""), &named(id, more));
            assert_eq!(proofs.is_cut(&change, &named(9, " and more")), expected, "{id}");
        }
    }

    #[test]
    fn a_cut_or_missing_text_is_lacking() {
        let mut proofs = Proofs::default();
        assert_eq!(proofs.compare(&described(255), &described(3000)), Compared::Lacking);
        let mut item = serde_json::to_value(described(3)).unwrap();
        item.as_object_mut().unwrap().remove("phone");
        let item: ContactAccount = serde_json::from_value(item).unwrap();
        assert_eq!(proofs.compare(&item, &described(3)), Compared::Lacking);
    }

    #[test]
    fn a_text_that_the_account_does_not_have_is_a_contradiction() {
        let compared = Proofs::default().compare(&described(60), &account(serde_json::json!({})));
        assert_eq!(compared, Compared::Contradicting(vec![Field::Description]));
    }

    #[test]
    fn only_a_text_of_the_length_at_which_the_list_cuts_counts_as_cut() {
        let mut proofs = Proofs::default();
        proofs.compare(&described(255), &described(3000));
        let other = |length: usize| account(serde_json::json!({"id": 8, "description": "x".repeat(length)}));
        let one = Change::new(Field::Description, Value::Text("x".repeat(255)), Value::Null);
        assert_eq!(proofs.is_cut(&one, &described(900)), None, "one account alone may have been changed meanwhile");
        proofs.compare(&other(255), &other(2000));
        let change = |field, before: String| Change::new(field, Value::Text(before), Value::Null);
        assert_eq!(proofs.is_cut(&change(Field::Description, "x".repeat(255)), &described(900)), Some(true));
        assert_eq!(proofs.is_cut(&change(Field::Description, "x".repeat(254)), &described(900)), Some(false));
        let colleague = account(serde_json::json!({"city": "Oslo, Norway"}));
        assert_eq!(proofs.is_cut(&change(Field::City, "Oslo".to_owned()), &colleague), Some(false));
        let before = Value::Text("x".repeat(255));
        let ours = Change::new(Field::Description, before, Value::Text("x".repeat(900)));
        assert_eq!(proofs.is_cut(&ours, &described(900)), Some(false), "the plan makes this text");
    }
}
