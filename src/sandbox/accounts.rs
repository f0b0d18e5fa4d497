//! The accounts of a sandbox: found by id, and in the order of a list.

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::page::PageQuery;
use crate::account::{ContactAccount, Field, FieldValue, Kind, MEMBERS};

/// The member that only `GET` of one account returns.
const DETAIL: &str = "emailProvider";

/// All accounts. A page costs the same with a million of them as with a thousand, because orders are kept until they
/// change.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    by_id: BTreeMap<i64, Box<ContactAccount>>,
    /// The ids of a list without search and order.
    listed: Option<Vec<i64>>,
    /// The ids of the last list with a search or an order.
    ordered: Option<(PageQuery, Vec<i64>)>,
}

impl Accounts {
    pub(super) fn get(&self, id: i64) -> Option<&ContactAccount> {
        self.by_id.get(&id).map(AsRef::as_ref)
    }

    /// Every account, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ContactAccount> {
        self.by_id.values().map(AsRef::as_ref)
    }

    /// Stores an account. Returns whether its id is new.
    pub(super) fn insert(&mut self, account: ContactAccount) -> bool {
        let is_new = self.by_id.insert(account.id, Box::new(account)).is_none();
        self.forget_orders(is_new);
        is_new
    }

    /// Removes an account. Returns whether there was one.
    pub(super) fn remove(&mut self, id: i64) -> bool {
        let was_there = self.by_id.remove(&id).is_some();
        self.forget_orders(was_there);
        was_there
    }

    fn forget_orders(&mut self, ids_have_changed: bool) {
        self.ordered = None;
        if ids_have_changed {
            self.listed = None;
        }
    }

    /// Returns the accounts of a page, without those that the caller has no access to, and whether there are more.
    pub(super) fn page(&mut self, query: &PageQuery, forbidden: &BTreeSet<i64>) -> (Vec<&ContactAccount>, bool) {
        let visible = || self.by_id.values().filter(|account| !forbidden.contains(&account.id));
        let ids = if query.is_plain() {
            // Only the keys: visiting a million accounts would take a tenth of a second.
            let visible_ids = self.by_id.keys().filter(|id| !forbidden.contains(id)).copied();
            self.listed.get_or_insert_with(|| visible_ids.collect())
        } else {
            let whole = query.whole_list();
            if self.ordered.as_ref().is_none_or(|(ordered, _)| *ordered != whole) {
                let ids = query.order(visible().map(AsRef::as_ref));
                self.ordered = Some((whole, ids));
            }
            self.ordered.as_ref().map_or(&[][..], |(_, ids)| ids)
        };
        let (page, has_more) = query.cut(ids);
        (page.iter().filter_map(|id| self.by_id.get(id).map(AsRef::as_ref)).collect(), has_more)
    }
}

/// Returns an account in the form of an answer: every member of the API contract, with or without a value.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    account: &'a ContactAccount,
    is_detailed: bool,
}

impl<'a> Shown<'a> {
    /// Returns the account in the form of `GET`.
    pub(super) fn detailed(account: &'a ContactAccount) -> Self {
        Self { account, is_detailed: true }
    }

    /// Returns the account in the form of updates and lists.
    pub(super) fn brief(account: &'a ContactAccount) -> Self {
        Self { account, is_detailed: false }
    }

    pub(super) fn members(self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(),
        }
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (member, value) in MEMBERS.iter().zip(self.account.members()) {
            if self.is_detailed || member.wire != DETAIL {
                map.serialize_entry(member.wire, &value)?;
            }
        }
        for (name, value) in &self.account.extra {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Returns the members by which accounts can be sorted: those with one value that lists return.
pub(super) fn sortable() -> impl Iterator<Item = &'static crate::account::Member> {
    MEMBERS.iter().filter(|member| member.kind != Kind::Stage && member.wire != DETAIL)
}

/// Returns the sort key of accounts: those without a value come first, and text is compared ignoring case.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SortKey {
    Nothing,
    Integer(i64),
    Text(String),
}

impl SortKey {
    pub(super) fn of(account: &ContactAccount, wire: &str) -> Self {
        if wire == "id" {
            return Self::Integer(account.id);
        }
        if let Some(field) = Field::from_wire(wire) {
            return match account.value(field) {
                Some(FieldValue::Text(text)) => Self::Text(text.to_lowercase()),
                Some(FieldValue::Integer(number)) => Self::Integer(number),
                None => Self::Nothing,
            };
        }
        match Shown::brief(account).members().get(wire) {
            Some(Value::String(text)) => Self::Text(text.to_lowercase()),
            Some(Value::Number(number)) => number.as_i64().map_or(Self::Nothing, Self::Integer),
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sandbox::seed::account_from_json;

    fn accounts() -> Accounts {
        let mut accounts = Accounts::default();
        for (id, name, city) in [(3, "a", Some("Y")), (1, "b", Some("x")), (4, "b", None), (2, "C", None)] {
            accounts.insert(account_from_json(&json!({"id": id, "name": name, "city": city})).unwrap());
        }
        accounts
    }

    fn ids(accounts: &mut Accounts, query: &str) -> (Vec<i64>, bool) {
        let (items, more) = accounts.page(&PageQuery::read(query).unwrap(), &BTreeSet::from([9]));
        (items.iter().map(|account| account.id).collect(), more)
    }

    #[test]
    fn an_account_is_shown_with_every_member_and_its_own() {
        let account = account_from_json(&json!({"id": 1, "name": "A", "extra": {"score": 9}})).unwrap();
        let members = Shown::detailed(&account).members();
        for member in MEMBERS {
            assert!(members.contains_key(member.wire), "{}", member.wire);
        }
        assert_eq!((members.len(), &members["score"]), (MEMBERS.len() + 1, &json!(9)));
        assert_eq!(serde_json::from_value::<ContactAccount>(Value::Object(members)).unwrap(), account);
        assert!(!Shown::brief(&account).members().contains_key(DETAIL));
    }

    #[test]
    fn a_page_is_cut_by_top_and_skip() {
        let accounts = &mut accounts();
        assert_eq!(ids(accounts, ""), (vec![1, 2, 3, 4], false));
        assert_eq!(ids(accounts, "top=2"), (vec![1, 2], true));
        assert_eq!(ids(accounts, "top=2&skip=2"), (vec![3, 4], false));
        assert_eq!(ids(accounts, "skip=99999999999999999999"), (vec![], false));
    }

    #[test]
    fn sorting_is_stable_and_ignores_case() {
        let accounts = &mut accounts();
        assert_eq!(ids(accounts, "sort_by=name").0, [3, 1, 4, 2]);
        assert_eq!(ids(accounts, "sort_by=name&sort_direction=desc").0, [2, 1, 4, 3]);
        assert_eq!(ids(accounts, "sort_by=city").0, [2, 4, 1, 3]);
        assert_eq!(ids(accounts, "sort_by=id&sort_direction=desc").0, [4, 3, 2, 1]);
        assert_eq!(ids(accounts, "sort_by=createdDate").0, [1, 2, 3, 4]);
    }

    #[test]
    fn search_finds_a_part_of_the_name() {
        assert_eq!(ids(&mut accounts(), "search=B").0, [1, 4]);
        assert_eq!(ids(&mut accounts(), "search=").0, [1, 2, 3, 4]);
    }

    #[test]
    fn a_list_follows_every_change() {
        let accounts = &mut accounts();
        for query in ["", "sort_by=name", "search=b"] {
            ids(accounts, query);
        }
        accounts.insert(account_from_json(&json!({"id": 5, "name": "0b"})).unwrap());
        accounts.insert(account_from_json(&json!({"id": 9, "name": "forbidden"})).unwrap());
        accounts.remove(2);
        assert_eq!(ids(accounts, "").0, [1, 3, 4, 5]);
        assert_eq!(ids(accounts, "sort_by=name").0, [5, 3, 1, 4]);
        accounts.insert(account_from_json(&json!({"id": 3, "name": "z"})).unwrap());
        assert_eq!(ids(accounts, "sort_by=name").0, [5, 1, 4, 3]);
        assert_eq!(ids(accounts, "search=b").0, [1, 4, 5]);
    }
}
