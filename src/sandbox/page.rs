//! Pages of accounts: reads what is asked for, and cuts the page.

use std::cmp::Ordering;

use http::StatusCode;
use serde_json::{Map, Value};

use super::answer::{Answer, INVALID_PAGINATION, Pointed};
use crate::account::{Kind, MEMBERS, Member};

/// How many accounts a page holds that does not say it.
pub(super) const DEFAULT_TOP: usize = 25;
/// How many accounts a page can hold.
pub(super) const MAXIMUM_TOP: usize = 1000;
/// The orders, the default first.
pub(super) const DIRECTIONS: [&str; 2] = ["asc", "desc"];

type Account = Map<String, Value>;

/// What was asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Page {
    top: usize,
    skip: usize,
    search: Option<String>,
    sort_by: Option<String>,
    descending: bool,
}

/// The members that accounts can be sorted by: those with one value, but for the one that lists leave out.
pub(super) fn sortable() -> impl Iterator<Item = &'static Member> {
    MEMBERS.iter().filter(|member| member.kind != Kind::Stage && member.wire != "emailProvider")
}

impl Page {
    /// Reads a query.
    ///
    /// # Errors
    /// The 400: for every parameter that is not what it should be, or for a page that cannot be asked for.
    pub(super) fn read(query: &str) -> Result<Self, Answer> {
        let mut page = Self { top: DEFAULT_TOP, skip: 0, search: None, sort_by: None, descending: false };
        let mut faults = Vec::new();
        let mut refusal = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name), decoded(value));
            match name.as_str() {
                "top" | "skip" => match integer(&value) {
                    None => faults.push(Pointed::new(name, "The value must be an integer.")),
                    Some(number) if name == "top" => match usize::try_from(number) {
                        Ok(top) if (1..=MAXIMUM_TOP).contains(&top) => page.top = top,
                        _ => refusal = Some(format!("top must be 1 to {MAXIMUM_TOP}.")),
                    },
                    Some(number) => match usize::try_from(number) {
                        Ok(skip) => page.skip = skip,
                        Err(_) => refusal = Some("skip must not be negative.".to_owned()),
                    },
                },
                "search" => page.search = Some(value.to_lowercase()).filter(|text| !text.is_empty()),
                "sort_by" if sortable().any(|member| member.wire == value) => page.sort_by = Some(value),
                "sort_by" => faults.push(Pointed::new(name, "Accounts cannot be sorted by this.")),
                "sort_direction" if DIRECTIONS.contains(&value.as_str()) => page.descending = value == "desc",
                "sort_direction" => faults.push(Pointed::new(name, "The value must be asc or desc.")),
                _ => {}
            }
        }
        match refusal {
            _ if !faults.is_empty() => Err(Answer::invalid(&faults)),
            Some(detail) => Err(Answer::problem(StatusCode::BAD_REQUEST, &detail, Some(INVALID_PAGINATION))),
            None => Ok(page),
        }
    }

    /// The accounts of the page, out of all of them in the order of their ids, and whether there are more behind it.
    pub(super) fn cut<'a>(&self, accounts: impl Iterator<Item = &'a Account>) -> (Vec<&'a Account>, bool) {
        let found = accounts.filter(|account| self.finds(account));
        let Some(sort_by) = &self.sort_by else { return self.cut_sorted(found) };
        let mut sorted: Vec<&Account> = found.collect();
        sorted.sort_by(|left, right| {
            let order = compare(left.get(sort_by), right.get(sort_by));
            if self.descending { order.reverse() } else { order }
        });
        self.cut_sorted(sorted.into_iter())
    }

    fn cut_sorted<'a>(&self, accounts: impl Iterator<Item = &'a Account>) -> (Vec<&'a Account>, bool) {
        let mut rest = accounts.skip(self.skip);
        let items: Vec<&Account> = rest.by_ref().take(self.top).collect();
        (items, rest.next().is_some())
    }

    fn finds(&self, account: &Account) -> bool {
        let Some(search) = &self.search else { return true };
        ["name", "domainName", "domainSecondary"]
            .iter()
            .filter_map(|name| account.get(*name)?.as_str())
            .any(|text| text.to_lowercase().contains(search))
    }
}

/// Accounts without a value come first; text is compared without regard to case.
fn compare(left: Option<&Value>, right: Option<&Value>) -> Ordering {
    match (left, right) {
        (Some(Value::Number(left)), Some(Value::Number(right))) => left.as_i64().cmp(&right.as_i64()),
        (left, right) => {
            let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_lowercase);
            text(left).cmp(&text(right))
        }
    }
}

/// An integer of any length, those out of range as the nearest that is in it.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(if negative { i64::MIN } else { i64::MAX }))
}

/// A name or a value of a query, decoded: `+` is a space, `%2B` a plus.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let (byte, left) = match (first, behind) {
            (b'%', [high, low, left @ ..]) => match (hexadecimal(*high), hexadecimal(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, left),
                _ => (b'%', behind),
            },
            (b'+', _) => (b' ', behind),
            _ => (*first, behind),
        };
        bytes.push(byte);
        rest = left;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ids(query: &str) -> (Vec<i64>, bool) {
        let accounts: Vec<Account> = [(1, "b", Some("x")), (2, "C", None), (3, "a", Some("Y")), (4, "b", None)]
            .iter()
            .map(|(id, name, city)| json!({"id": id, "name": name, "city": city}).as_object().unwrap().clone())
            .collect();
        let (items, more) = Page::read(query).unwrap().cut(accounts.iter());
        (items.iter().map(|account| account["id"].as_i64().unwrap()).collect(), more)
    }

    #[test]
    fn a_page_is_cut_by_top_and_skip() {
        assert_eq!(ids(""), (vec![1, 2, 3, 4], false));
        assert_eq!(ids("top=2"), (vec![1, 2], true));
        assert_eq!(ids("top=2&skip=2"), (vec![3, 4], false));
        assert_eq!(ids("skip=99999999999999999999"), (vec![], false));
    }

    #[test]
    fn sorting_is_stable_and_ignores_case() {
        assert_eq!(ids("sort_by=name").0, [3, 1, 4, 2]);
        assert_eq!(ids("sort_by=name&sort_direction=desc").0, [2, 1, 4, 3]);
        assert_eq!(ids("sort_by=city").0, [2, 4, 1, 3]);
        assert_eq!(ids("sort_by=id&sort_direction=desc").0, [4, 3, 2, 1]);
    }

    #[test]
    fn search_finds_a_part_of_the_name() {
        assert_eq!(ids("search=B").0, [1, 4]);
        assert_eq!(ids("search=").0, [1, 2, 3, 4]);
    }

    #[test]
    fn a_page_that_cannot_be_asked_for_is_refused() {
        let refused = |query| String::from_utf8(Page::read(query).unwrap_err().body.to_vec()).unwrap();
        for query in ["top=1001", "top=0", "top=-1", "skip=-1", "top=99999999999999999999"] {
            assert!(refused(query).contains(INVALID_PAGINATION), "{query}");
        }
        for query in ["top=x", "top=", "skip=1.0", "sort_by=stage", "sort_by=owner_user_id", "sort_direction=up"] {
            assert!(refused(query).contains("\"errors\""), "{query}");
        }
    }

    #[test]
    fn a_query_is_decoded() {
        for (text, expected) in
            [("a+b", "a b"), ("a%2Bb", "a+b"), ("%C3%A9", "é"), ("100%", "100%"), ("%zz%4", "%zz%4")]
        {
            assert_eq!(decoded(text), expected);
        }
    }
}
