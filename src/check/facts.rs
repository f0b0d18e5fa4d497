//! Counts the forms of accounts in answers. Pure; it stores names and numbers, but no values.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::account::{CompanySize, ContactAccount, Field, Kind, MEMBERS};
use crate::change::UNKNOWN_SIZE;

/// What a list and single reads showed about accounts.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The number of accounts on the page.
    pub(super) items: usize,
    /// The reasons why items of the page are unreadable, with their numbers.
    pub(super) unreadable: BTreeMap<String, usize>,
    /// The number of accounts read one by one.
    pub(super) wholes: usize,
    /// Each of them, compared with its list item.
    pub(super) compared: Vec<Compared>,
    /// The writable members that at least one list item lacks.
    pub(super) items_lack: BTreeSet<&'static str>,
    /// The forms of the dates, with their numbers.
    pub(super) dates: BTreeMap<DateForm, usize>,
    /// The forms of the empty optional fields, with their numbers.
    pub(super) empty: BTreeMap<EmptyForm, usize>,
    /// Members that this version does not know.
    pub(super) unknown: BTreeSet<String>,
    /// Known read-only members whose value has another type, except dates.
    pub(super) other_type: BTreeSet<&'static str>,
    /// The number of company sizes that the API contract does not list.
    pub(super) other_sizes: usize,
    /// The names of rate-limit headers.
    pub(super) limits: BTreeSet<String>,
}

/// The form of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DateForm {
    /// `2023-11-07T05:31:56Z`
    Utc,
    /// `2023-11-07T05:31:56+00:00`
    Offset,
    /// `2023-11-07T05:31:56`
    Local,
    /// `2023-11-07`
    DateOnly,
    /// Anything else that is not null.
    Other,
    /// `null`
    Null,
    /// The answer lacks the member.
    Missing,
}

impl DateForm {
    /// Returns whether this version can parse it.
    pub(super) const fn is_readable(self) -> bool {
        matches!(self, Self::Utc | Self::Offset | Self::Local)
    }

    fn of(value: Option<&Value>) -> Self {
        let text = match value {
            None => return Self::Missing,
            Some(Value::Null) => return Self::Null,
            Some(Value::String(text)) => text,
            Some(_) => return Self::Other,
        };
        let is_readable = crate::timestamp::parse(text).is_some();
        let time = text.split_once(['T', 't', ' ']).map(|(_, time)| time);
        match time {
            Some(time) if is_readable && time.ends_with(['Z', 'z']) => Self::Utc,
            Some(time) if is_readable && time.contains(['+', '-']) => Self::Offset,
            Some(_) if is_readable => Self::Local,
            None if is_date(text) => Self::DateOnly,
            _ => Self::Other,
        }
    }
}

fn is_date(text: &str) -> bool {
    let is_as = |(given, wanted): (u8, u8)| if wanted == b'0' { given.is_ascii_digit() } else { given == wanted };
    text.len() == 10 && text.bytes().zip(*b"0000-00-00").all(is_as)
}

/// The form of an empty optional field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EmptyForm {
    /// `null`
    Null,
    /// `""`
    Text,
    /// The answer lacks the member.
    Missing,
}

/// A list item, compared with the same account read by `GET`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// Members that only the account has.
    pub(super) lacks: BTreeSet<&'static str>,
    /// Members whose text the item truncates.
    pub(super) cut: BTreeSet<&'static str>,
    /// Members that differ in another way.
    pub(super) differ: BTreeSet<&'static str>,
    /// Writable members with a value in the item, and none in the account.
    pub(super) only_in_list: BTreeSet<&'static str>,
}

/// By the API contract, a list does not return it.
const NOT_LISTED: &str = "emailProvider";
/// These change by themselves between two requests.
const VOLATILE: [&str; 2] = ["lastActivityDate", "linkedProspectsCount"];

impl Compared {
    pub(super) fn of(item: &Map<String, Value>, whole: &Map<String, Value>) -> Self {
        let mut compared = Self::default();
        for member in MEMBERS.iter().filter(|member| member.wire != NOT_LISTED) {
            let wire = member.wire;
            let is_no_size = |text: &str| text == UNKNOWN_SIZE || CompanySize::tolerantly(text).is_blank();
            let is_unknown =
                |value: &Value| wire == Field::CompanySize.wire() && value.as_str().is_some_and(is_no_size);
            let is_empty = |value: &Value| is_empty(value) || is_unknown(value);
            let are_equal = |one: &Value, other: &Value| one == other || (is_empty(one) && is_empty(other));
            let into = match (item.get(wire), whole.get(wire)) {
                (None, Some(_)) => &mut compared.lacks,
                (Some(listed), value) if member.writable && !is_empty(listed) && value.is_none_or(is_empty) => {
                    &mut compared.only_in_list
                }
                (Some(listed), Some(value)) if !are_equal(listed, value) && !VOLATILE.contains(&wire) => {
                    if is_cut(listed, value) { &mut compared.cut } else { &mut compared.differ }
                }
                _ => continue,
            };
            into.insert(wire);
        }
        compared
    }

    pub(super) fn is_equal(&self) -> bool {
        *self == Self::default()
    }
}

/// Returns whether a value is one of the forms of an empty text.
pub(super) fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

/// Returns whether the service treats two values as equal.
pub(super) fn are_equal(one: &Value, other: &Value) -> bool {
    one == other || (is_empty(one) && is_empty(other))
}

fn is_cut(listed: &Value, value: &Value) -> bool {
    let (Some(listed), Some(text)) = (listed.as_str(), value.as_str()) else { return false };
    let beginning = listed.trim_end_matches(['…', '.']).trim_end();
    listed.len() < text.len() + "…".len() && text.starts_with(beginning)
}

/// The id of an account.
pub(super) fn id(account: &Map<String, Value>) -> Option<i64> {
    account.get("id").and_then(Value::as_i64).filter(|id| *id > 0)
}

/// Returns the accounts to read by `GET`, at most two: the requested one, the one with the most text, and the one with
/// the least.
pub(super) fn worth_reading(items: &[Map<String, Value>], account: Option<i64>) -> Vec<i64> {
    let bytes = |item: &&Map<String, Value>| {
        item.values().filter_map(Value::as_str).map(str::len).sum::<usize>()
            + item.values().filter(|v| !v.is_null()).count()
    };
    let known = || items.iter().filter(|item| id(item).is_some());
    let fullest = known().max_by_key(bytes).and_then(id);
    let emptiest = known().min_by_key(bytes).and_then(id);
    let mut chosen = Vec::new();
    for candidate in [account, fullest, emptiest].into_iter().flatten() {
        if !chosen.contains(&candidate) && chosen.len() < 2 {
            chosen.push(candidate);
        }
    }
    chosen
}

impl Facts {
    /// Counts the items of a page.
    pub(super) fn items(&mut self, items: &[Map<String, Value>], unreadable: &[String]) {
        self.items = items.len();
        for reason in unreadable {
            *self.unreadable.entry(reason.clone()).or_default() += 1;
        }
        for item in items {
            self.items_lack
                .extend(Field::ALL.iter().map(|field| field.wire()).filter(|wire| !item.contains_key(*wire)));
            self.account(item);
        }
    }

    /// Counts an account that was read by `GET`.
    pub(super) fn whole(&mut self, whole: &Map<String, Value>) {
        self.wholes += 1;
        self.account(whole);
    }

    fn account(&mut self, account: &Map<String, Value>) {
        for member in MEMBERS {
            let value = account.get(member.wire);
            match member.kind {
                Kind::DateTime => *self.dates.entry(DateForm::of(value)).or_default() += 1,
                Kind::CompanySize if value.and_then(Value::as_str).is_some_and(is_other_size) => self.other_sizes += 1,
                _ => {}
            }
            if member.writable && member.nullable() {
                let form = match value {
                    None => EmptyForm::Missing,
                    Some(Value::Null) => EmptyForm::Null,
                    Some(value) if is_empty(value) => EmptyForm::Text,
                    Some(_) => continue,
                };
                *self.empty.entry(form).or_default() += 1;
            }
        }
        let read = serde_json::from_value::<ContactAccount>(Value::Object(account.clone())).ok();
        for name in read.iter().flat_map(|account| account.extra.keys()) {
            match MEMBERS.iter().find(|member| member.wire == name) {
                Some(member) if member.kind == Kind::DateTime => {}
                Some(member) => drop(self.other_type.insert(member.wire)),
                None => drop(self.unknown.insert(name.clone())),
            }
        }
    }
}

fn is_other_size(text: &str) -> bool {
    let size = CompanySize::tolerantly(text);
    matches!(size, CompanySize::Unknown(_)) && !size.is_blank()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn each_form_of_a_date_is_told_apart() {
        for (value, form) in [
            (json!("2023-11-07T05:31:56Z"), DateForm::Utc),
            (json!("2026-09-08T12:08:22.58+00:00"), DateForm::Offset),
            (json!("2026-09-08T12:08:22.58-02:00"), DateForm::Offset),
            (json!("2023-11-07T05:31:56"), DateForm::Local),
            (json!("2023-11-07"), DateForm::DateOnly),
            (json!("07.11.2023"), DateForm::Other),
            (json!("yesterdaY"), DateForm::Other),
            (json!(1_699_335_116), DateForm::Other),
            (json!(""), DateForm::Other),
            (json!(null), DateForm::Null),
        ] {
            assert_eq!(DateForm::of(Some(&value)), form, "{value}");
        }
        assert_eq!(DateForm::of(None), DateForm::Missing);
    }

    #[test]
    fn an_item_is_compared_with_its_account_by_meaning() {
        let whole = json!({
            "id": 1, "name": "Acme Industries", "city": null, "phone": "1", "state": "Oslo", "lastActivityDate": "a",
            "stage": {"id": 1}, "emailProvider": "Gmail", "email": null, "logoUrl": "",
        });
        let item = json!({
            "id": 1, "name": "Acme…", "city": "", "state": "Oslo kommune", "lastActivityDate": "b", "country": "Norway",
            "stage": {"id": 1}, "industry": "", "email": "a@b.example", "logoUrl": "https://b.example",
        });
        let compared = Compared::of(&members(&item), &members(&whole));
        assert_eq!(compared.lacks, BTreeSet::from(["phone"]));
        assert_eq!(compared.cut, BTreeSet::from(["name"]));
        assert_eq!(compared.differ, BTreeSet::from(["state"]));
        assert_eq!(compared.only_in_list, BTreeSet::from(["country", "email", "logoUrl"]));
        assert!(Compared::of(&members(&whole), &members(&whole)).is_equal());
    }

    #[test]
    fn the_account_asked_for_the_fullest_and_the_emptiest_are_read() {
        let items: Vec<_> =
            [json!({"id": 1, "name": "abc"}), json!({"id": 2, "name": "a"}), json!({"id": 3, "name": "ab"})]
                .iter()
                .map(members)
                .collect();
        assert_eq!(worth_reading(&items, None), [1, 2]);
        assert_eq!(worth_reading(&items, Some(3)), [3, 1]);
        assert_eq!(worth_reading(&items, Some(1)), [1, 2]);
        assert_eq!(worth_reading(&[], Some(9)), [9]);
        assert_eq!(worth_reading(&[members(&json!({"id": -1}))], None), [0; 0]);
    }

    #[test]
    fn names_and_counts_are_kept_and_no_value_is() {
        let mut facts = Facts::default();
        let account = json!({
            "id": 1, "ownerUserId": 2, "name": "canary", "city": "canary", "phone": "", "state": null,
            "future": "canary", "stage": "canary", "createdDate": "canary", "companySize": "canary",
        });
        facts.items(&[members(&account)], &["/name must be a string".to_owned()]);
        facts.whole(&members(&account));
        assert_eq!((facts.items, facts.wholes, facts.other_sizes), (1, 1, 2));
        assert_eq!(facts.unknown, BTreeSet::from(["future".to_owned()]));
        assert_eq!(facts.other_type, BTreeSet::from(["stage"]));
        assert_eq!(facts.empty, BTreeMap::from([(EmptyForm::Null, 2), (EmptyForm::Text, 2), (EmptyForm::Missing, 20)]));
        assert_eq!(facts.dates, BTreeMap::from([(DateForm::Other, 2), (DateForm::Missing, 2)]));
        assert!(facts.items_lack.contains("country") && !facts.items_lack.contains("city"));
        assert!(!format!("{facts:?}").contains("canary"));
    }
}
