//! From the bytes of an answer to what they say. Pure.
//!
//! Good answers take the fast way through serde. One that serde refuses is read again as plain JSON, to say where it is
//! wrong and what was expected there, because serde's own text repeats the value.

use std::ops::Deref;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::account::{ContactAccount, Kind, MEMBERS};
use crate::error::{ApiFailure, ErrorKind, Failure, Unexpected};
use crate::problem::Problem;

/// How much of a body is kept to be shown. It is cut again, when what nobody may see has been taken out.
const KEPT_OF_BODY: usize = 64 << 10;

/// The whole of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Body,
}

/// The body of an answer. Most come in one piece, which is not copied.
#[derive(Debug)]
pub(crate) enum Body {
    Empty,
    Whole(Bytes),
    Pieces(Vec<u8>),
}

impl Body {
    /// Takes another piece. Room for `expected` bytes is made when there are two; what of it is never filled costs nothing,
    /// while a buffer that grows is there twice.
    pub(crate) fn push(&mut self, piece: Bytes, expected: usize) {
        match self {
            Self::Empty => *self = Self::Whole(piece),
            Self::Whole(first) => {
                let mut pieces = Vec::with_capacity(expected.max(first.len() + piece.len()));
                pieces.extend_from_slice(first);
                pieces.extend_from_slice(&piece);
                *self = Self::Pieces(pieces);
            }
            Self::Pieces(pieces) => pieces.extend_from_slice(&piece),
        }
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Whole(piece) => piece,
            Self::Pieces(pieces) => pieces,
        }
    }
}

/// The headers that mean something to us.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    pub(crate) retry_after: Option<std::time::Duration>,
    pub(crate) request_id: Option<String>,
    pub(crate) bearer_challenge: bool,
    pub(crate) problem_details: bool,
    pub(crate) location: bool,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The accounts on it.
    pub items: Vec<ContactAccount>,
    /// Whether there are more after it.
    pub has_more: bool,
}

impl Answer {
    /// Lets a 200 through; everything else is a failure.
    pub(crate) fn accepted(self) -> Result<Self, Failure> {
        if self.status == 200 {
            return Ok(self);
        }
        let kind = ErrorKind::of_status(self.status);
        let is_explained = self.headers.problem_details || self.status == 408;
        if kind == ErrorKind::UnexpectedResponse || (kind == ErrorKind::Api && !is_explained) {
            let reason = match self.status {
                300..=399 if self.headers.location => "a redirect, which would hand the key to another address",
                201..=299 => "Reply.io answers 200 with the account",
                _ => "a status that the contract does not have",
            };
            return Err(self.unexpected(reason));
        }
        let problem = Problem::whole(&self.body);
        let is_page = self.body.trim_ascii_start().starts_with(b"<");
        Err(Failure::Api(Box::new(ApiFailure {
            status: self.status,
            problem,
            request_id: self.headers.request_id,
            retry_after: self.headers.retry_after,
            bearer_challenge: self.headers.bearer_challenge,
            is_problem: self.headers.problem_details,
            is_page,
            refused_key: None,
        })))
    }

    /// Reads an account, which must be the one asked for.
    pub(crate) fn account(&self, id: i64) -> Result<ContactAccount, Failure> {
        let account: ContactAccount = self.read(|value| account_mismatch(value, ""))?;
        if account.id == id {
            Ok(account)
        } else {
            Err(self.unexpected("it is about another account: /id is not the one asked for"))
        }
    }

    /// Reads a page of accounts.
    pub(crate) fn page(&self) -> Result<Page, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct WirePage {
            items: Vec<ContactAccount>,
            has_more: bool,
        }
        let WirePage { items, has_more } = self.read(page_mismatch)?;
        Ok(Page { items, has_more })
    }

    fn read<'a, T: Deserialize<'a>>(&'a self, mismatch: impl Fn(&Value) -> Option<String>) -> Result<T, Failure> {
        // Checking the whole text once is a third of the cost of checking every string in it.
        let read = std::str::from_utf8(&self.body).map(serde_json::from_str::<T>);
        if let Ok(Ok(value)) = read {
            return Ok(value);
        }
        let reason = match serde_json::from_slice::<Value>(&self.body) {
            _ if self.body.is_empty() => "the body is empty".to_owned(),
            Ok(value) => mismatch(&value).unwrap_or_else(|| "the body is not what the contract says".to_owned()),
            Err(error) => format!("the body is not JSON (line {}, column {})", error.line(), error.column()),
        };
        Err(self.unexpected(reason))
    }

    fn unexpected(&self, reason: impl Into<String>) -> Failure {
        let beginning = self.body.get(..self.body.len().min(KEPT_OF_BODY)).unwrap_or_default();
        let excerpt = Some(String::from_utf8_lossy(beginning).into_owned());
        Failure::Unexpected(Unexpected { status: Some(self.status), reason: reason.into(), excerpt })
    }
}

/// Where an account is not what the contract says: its JSON pointer, and the type expected there.
fn account_mismatch(value: &Value, at: &str) -> Option<String> {
    let Value::Object(members) = value else {
        return Some(format!("{} must be an account object", place(at)));
    };
    MEMBERS.iter().find_map(|member| {
        let fits = match members.get(member.wire) {
            None | Some(Value::Null) => !member.always_answered,
            Some(value) => match member.kind {
                Kind::Text | Kind::CompanySize => value.is_string(),
                Kind::Integer => value.is_i64(),
                Kind::DateTime => crate::account::DateTime::deserialize(value).is_ok(),
                Kind::Stage => crate::account::ContactAccountStage::deserialize(value).is_ok(),
            },
        };
        (!fits).then(|| {
            let or_null = if member.always_answered { "" } else { " or null" };
            format!("{at}/{} must be {}{or_null}", member.wire, member.kind.expected())
        })
    })
}

fn page_mismatch(value: &Value) -> Option<String> {
    let Value::Object(members) = value else {
        return Some(format!("{} must be a page object", place("")));
    };
    let Some(Value::Array(items)) = members.get("items") else {
        return Some("/items must be a list".to_owned());
    };
    if !matches!(members.get("hasMore"), Some(Value::Bool(_))) {
        return Some("/hasMore must be true or false".to_owned());
    }
    items.iter().enumerate().find_map(|(index, item)| account_mismatch(item, &format!("/items/{index}")))
}

fn place(at: &str) -> &str {
    if at.is_empty() { "the body" } else { at }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Body, ErrorKind, Failure, Headers};

    const GOOD: &str = r#"{"id": 7, "ownerUserId": 1, "name": "Acme", "linkedProspectsCount": 0,
        "createdDate": "2023-11-07T05:31:56Z", "lastActivityDate": "2026-09-08T12:08:22.58+00:00"}"#;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, headers: Headers::default(), body: Body::Whole(body.to_owned().into()) }
    }

    fn refused(body: &str) -> String {
        match answer(200, body).account(7) {
            Err(Failure::Unexpected(unexpected)) => unexpected.reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_body_in_pieces_is_put_together_in_order() {
        let mut body = Body::Empty;
        for piece in ["a", "", "bc", "d"] {
            body.push(piece.into(), 2);
        }
        assert_eq!(&*body, b"abcd");
    }

    #[test]
    fn a_minimal_account_is_read_and_the_rest_is_absent() {
        let account = answer(200, GOOD).account(7).unwrap();
        assert_eq!((account.name.as_str(), account.city, account.stage), ("Acme", None, None));
    }

    #[test]
    fn unknown_members_and_enum_values_are_kept() {
        let body = GOOD.replace(
            "\"Acme\"",
            r#""Acme", "companySize": "huge", "tags": ["a", {"b": 1}], "stage": {"id": 1, "name": "New", "icon": "x"}"#,
        );
        let account = answer(200, &body).account(7).unwrap();
        assert_eq!(account.company_size.unwrap().as_str(), "huge");
        assert_eq!(account.extra["tags"][1]["b"], 1);
        assert_eq!(account.stage.unwrap().extra["icon"], "x");
    }

    #[test]
    fn the_casing_of_an_enum_value_does_not_matter() {
        let body = GOOD.replace("\"Acme\"", r#""Acme", "companySize": "selfemployed""#);
        assert_eq!(answer(200, &body).account(7).unwrap().company_size.unwrap().as_str(), "SelfEmployed");
    }

    #[test]
    fn a_wrong_answer_is_refused_by_path_and_type_and_never_by_value() {
        for (from, to, expected) in [
            ("\"Acme\"", "[\"canary\"]", "/name must be a string"),
            ("\"Acme\"", "null", "/name must be a string"),
            ("\"id\": 7", "\"id\": \"canary\"", "/id must be an integer"),
            ("\"id\": 7", "\"id\": 123456789012345678901234567890", "/id must be an integer"),
            ("\"id\": 7", "\"id\": 7.0", "/id must be an integer"),
            ("\"id\": 7", "\"id\": 8", "another account"),
            ("\"2023-11-07T05:31:56Z\"", "\"canary\"", "/createdDate must be a date and time"),
            ("\"Acme\"", "\"Acme\", \"city\": 5", "/city must be a string or null"),
            ("\"Acme\"", "\"Acme\", \"stage\": {\"id\": \"canary\"}", "/stage must be a stage object"),
            ("\"id\": 7", "\"id\": 1e400", "not JSON (line 1, column"),
        ] {
            let message = refused(&GOOD.replace(from, to));
            assert!(message.contains(expected) && !message.contains("canary"), "{message}");
        }
        for (body, expected) in [
            ("", "empty"),
            ("[]", "the body must be an account object"),
            ("{\"id\": 7", "not JSON"),
            ("<html>", "not JSON"),
            (&"[".repeat(1_000_000), "not JSON"),
        ] {
            assert!(refused(body).contains(expected), "{}", refused(body));
        }
    }

    #[test]
    fn a_page_names_the_item_that_is_wrong() {
        let page = |body: &str| match answer(200, body).page() {
            Ok(page) => Ok(page),
            Err(Failure::Unexpected(unexpected)) => Err(unexpected.reason),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(page(&format!(r#"{{"items": [{GOOD}], "hasMore": true, "total": 1}}"#)).unwrap().items.len(), 1);
        assert!(
            page(&format!(r#"{{"items": [{GOOD}, 5], "hasMore": true}}"#)).unwrap_err().contains("/items/1 must be")
        );
        assert!(page(r#"{"items": {}}"#).unwrap_err().contains("/items must be a list"));
        assert!(page(r#"{"items": []}"#).unwrap_err().contains("/hasMore must be"));
    }

    #[test]
    fn every_status_has_its_kind() {
        for (status, kind) in [
            (202, ErrorKind::UnexpectedResponse),
            (204, ErrorKind::UnexpectedResponse),
            (302, ErrorKind::UnexpectedResponse),
            (400, ErrorKind::BadRequest),
            (401, ErrorKind::Authentication),
            (403, ErrorKind::PermissionDenied),
            (404, ErrorKind::NotFound),
            (409, ErrorKind::Conflict),
            (412, ErrorKind::Conflict),
            (418, ErrorKind::UnexpectedResponse),
            (422, ErrorKind::BadRequest),
            (429, ErrorKind::RateLimit),
            (500, ErrorKind::Server),
            (520, ErrorKind::Server),
            (999, ErrorKind::UnexpectedResponse),
        ] {
            assert_eq!(answer(status, "").accepted().unwrap_err().kind(), kind, "{status}");
        }
        let explained = Headers { problem_details: true, ..Headers::default() };
        let answer = Answer { status: 413, headers: explained, body: Body::Empty };
        assert_eq!(answer.accepted().unwrap_err().kind(), ErrorKind::Api);
    }
}
