//! Pages of accounts: parses the query, sorts the accounts, and cuts the page.

use http::StatusCode;
use url::form_urlencoded;

use super::accounts::{SortKey, sortable};
use super::answer::{Answer, INVALID_PAGINATION, Pointed};
use crate::account::{ContactAccount, Field, FieldValue};

/// The default number of accounts on a page.
pub(super) const DEFAULT_TOP: usize = 25;
/// The most accounts on a page.
pub(super) const MAXIMUM_TOP: usize = 1000;
/// The sort orders, the default first.
pub(super) const DIRECTIONS: [&str; 2] = ["asc", "desc"];

/// The parsed query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PageQuery {
    top: usize,
    skip: usize,
    search: Option<String>,
    sort_by: Option<String>,
    descending: bool,
}

impl PageQuery {
    /// Parses a query.
    ///
    /// # Errors
    /// Returns the 400 for invalid parameters, or for an invalid page.
    pub(super) fn read(query: &str) -> Result<Self, Answer> {
        let mut page = Self { top: DEFAULT_TOP, skip: 0, search: None, sort_by: None, descending: false };
        let mut faults = Vec::new();
        let mut refusal = None;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
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
                "sort_by" if sortable().any(|member| member.wire == value) => page.sort_by = Some(value.into_owned()),
                "sort_by" => faults.push(Pointed::new(name, "Accounts cannot be sorted by this.")),
                "sort_direction" if DIRECTIONS.contains(&&*value) => page.descending = value == "desc",
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

    /// Returns whether it asks for the accounts unsorted, by id.
    pub(super) fn is_plain(&self) -> bool {
        self.search.is_none() && self.sort_by.is_none()
    }

    /// Returns the list that the page is a part of.
    pub(super) fn whole_list(&self) -> Self {
        Self { top: 0, skip: 0, ..self.clone() }
    }

    /// Returns the sorted ids of the whole list, out of all accounts by id.
    pub(super) fn order<'a>(&self, accounts: impl Iterator<Item = &'a ContactAccount>) -> Vec<i64> {
        let found = accounts.filter(|account| self.finds(account));
        let Some(sort_by) = &self.sort_by else { return found.map(|account| account.id).collect() };
        let mut keyed: Vec<(SortKey, i64)> = found.map(|account| (SortKey::of(account, sort_by), account.id)).collect();
        keyed.sort_by(|(left, _), (right, _)| if self.descending { right.cmp(left) } else { left.cmp(right) });
        keyed.into_iter().map(|(_, id)| id).collect()
    }

    /// Returns the page's part of a list, and whether there are more.
    pub(super) fn cut<'a>(&self, ids: &'a [i64]) -> (&'a [i64], bool) {
        let rest = ids.get(self.skip..).unwrap_or_default();
        (rest.get(..self.top).unwrap_or(rest), rest.len() > self.top)
    }

    fn finds(&self, account: &ContactAccount) -> bool {
        let Some(search) = &self.search else { return true };
        [Field::Name, Field::DomainName, Field::DomainSecondary].iter().any(|field| match account.value(*field) {
            Some(FieldValue::Text(text)) => text.to_lowercase().contains(search),
            _ => false,
        })
    }
}

/// Returns an integer of any length; clamps those out of range.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(if negative { i64::MIN } else { i64::MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_cannot_be_asked_for_is_refused() {
        let refused = |query| String::from_utf8(PageQuery::read(query).unwrap_err().body.to_vec()).unwrap();
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
            let page = PageQuery::read(&format!("&search={text}")).unwrap();
            assert_eq!(page.search.as_deref(), Some(expected));
        }
    }
}
