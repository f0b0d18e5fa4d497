//! Parses the bytes of an answer. Pure.
//!
//! serde reads a valid answer in one pass. If serde refuses an answer, this module reads it again as plain JSON and
//! reports where it is wrong and what it expected there, because serde's own messages repeat the value.

use std::ops::Deref;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::account::{ContactAccount, FieldSet, Kind, MEMBERS, respelled};
use crate::error::{ApiFailure, ErrorKind, Failure, REDIRECT, Unexpected};
use crate::problem::Problem;
use crate::rate_limit::ServiceWindow;

/// The number of bytes of a body to keep for messages. Redaction shortens them again.
const KEPT_OF_BODY: usize = 64 << 10;

/// The whole of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Body,
}

/// The body of an answer. Most bodies arrive in one piece, which is not copied.
#[derive(Debug)]
pub(crate) enum Body {
    Empty,
    Whole(Bytes),
    Pieces(Vec<u8>),
}

impl Body {
    /// Adds another piece. Reserves `expected` bytes when the second piece arrives: unused reserved memory costs
    /// nothing, but a growing buffer exists twice.
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

/// The headers that the client uses.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    pub(crate) retry_after: Option<std::time::Duration>,
    pub(crate) windows: Vec<ServiceWindow>,
    pub(crate) request_id: Option<String>,
    pub(crate) bearer_challenge: bool,
    pub(crate) problem_details: bool,
    pub(crate) location: bool,
    /// The names of the rate-limit headers, if the request asked for them.
    pub(crate) limits: Vec<String>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The items of the page.
    pub items: Vec<Item>,
    /// Whether there are more pages.
    pub has_more: bool,
}

/// An item of a page.
#[expect(clippy::large_enum_variant, reason = "nearly every item is an account, and a page has a thousand of them")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An account. It may lack members that `GET` returns; see [`ContactAccount::has`].
    Account(ContactAccount),
    /// An item that does not match the API contract.
    Unreadable {
        /// The id, if it is readable.
        id: Option<i64>,
        /// What is wrong: a JSON pointer and the expected type. Never contains a value.
        reason: String,
    },
}

impl Item {
    /// Returns the id, if it is readable.
    pub const fn id(&self) -> Option<i64> {
        match self {
            Self::Account(account) => Some(account.id),
            Self::Unreadable { id, .. } => *id,
        }
    }

    /// Returns the account, if it is readable.
    pub fn into_account(self) -> Option<ContactAccount> {
        match self {
            Self::Account(account) => Some(account),
            Self::Unreadable { .. } => None,
        }
    }

    fn read(raw: &RawValue) -> Self {
        #[derive(Deserialize)]
        struct Identified {
            id: i64,
        }
        match serde_json::from_str(raw.get()) {
            Ok(account) => Self::Account(account),
            Err(refusal) => Self::Unreadable {
                id: object::<Identified>(raw.get()).map(|item| item.id),
                reason: match serde_json::from_str(raw.get()) {
                    Ok(value) => account_mismatch(&value, "the item").unwrap_or_else(|| repeated(&refusal)),
                    Err(error) => limit(&error).unwrap_or("it is not valid JSON").to_owned(),
                },
            },
        }
    }
}

/// Describes why serde refuses an object whose members all have the right types.
fn repeated(refusal: &serde_json::Error) -> String {
    let text = refusal.to_string();
    let named = MEMBERS.iter().find(|member| text.starts_with(&format!("duplicate field `{}`", member.wire)));
    named.map_or_else(|| "a member occurs twice".to_owned(), |member| format!("/{} occurs twice", member.wire))
}

/// Names what serde refuses in a text that may follow the grammar of JSON. serde has no other access to the cause than
/// its message, which contains no value.
fn limit(error: &serde_json::Error) -> Option<&'static str> {
    let text = error.to_string();
    let limits = [
        ("number out of range", "a number in it is too large"),
        ("recursion limit exceeded", "it is nested too deep"),
        ("lone leading surrogate", HALF),
        ("unexpected end of hex escape", HALF),
        ("invalid unicode code point", "a text in it is not valid UTF-8"),
    ];
    limits.into_iter().find(|(beginning, _)| text.starts_with(beginning)).map(|(_, what)| what)
}

const HALF: &str = "a text in it has half of a surrogate pair";
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// The most bytes of the name of a member to show. The longest name of a field is half as long.
const LONGEST_NAME: usize = 30;

impl Answer {
    /// Returns the answer if its status is 200, and a failure otherwise.
    pub(crate) fn accepted(self) -> Result<Self, Failure> {
        if self.status == 200 {
            return Ok(self);
        }
        let kind = ErrorKind::of_status(self.status);
        let is_explained = self.headers.problem_details || self.status == 408;
        if kind == ErrorKind::UnexpectedResponse || (kind == ErrorKind::Api && !is_explained) {
            let reason = match self.status {
                300..=399 if self.headers.location => REDIRECT,
                201..=299 => "Reply.io answers a successful request with status 200",
                _ => "a status that the API contract does not list",
            };
            return Err(self.unexpected(reason));
        }
        let problem = Problem::whole(self.json());
        let is_page = self.json().trim_ascii_start().starts_with(b"<");
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

    /// Parses an account, which must be the requested one. The answer is the whole account, so a missing member is
    /// `null`.
    pub(crate) fn account(&self, id: i64) -> Result<ContactAccount, Failure> {
        let account: ContactAccount = self.read(|value| account_mismatch(value, "the body"))?;
        if account.id == id {
            Ok(ContactAccount { answered: FieldSet::ALL, answered_stage: true, ..account })
        } else {
            Err(self.unexpected("the answer is for another account: its /id is not the requested one"))
        }
    }

    /// Parses a page of accounts.
    pub(crate) fn page(&self) -> Result<Page, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct WirePage<T> {
            items: Vec<T>,
            has_more: bool,
        }
        if let Some(WirePage { items, has_more }) = self.read_at_once() {
            return Ok(Page { items: items.into_iter().map(Item::Account).collect(), has_more });
        }
        // One invalid item must not hide the others.
        let WirePage::<&RawValue> { items, has_more } = self.read(page_mismatch)?;
        Ok(Page { items: items.into_iter().map(Item::read).collect(), has_more })
    }

    /// Returns the body without a byte order mark, which some servers and proxies write before JSON.
    pub(crate) fn json(&self) -> &[u8] {
        self.body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.body)
    }

    fn read_at_once<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        // Checking the whole text once takes a third of the time of checking every string in it.
        object(std::str::from_utf8(self.json()).ok()?)
    }

    fn read<'a, T: Deserialize<'a>>(&'a self, mismatch: impl Fn(&Value) -> Option<String>) -> Result<T, Failure> {
        if let Some(value) = self.read_at_once() {
            return Ok(value);
        }
        let json = self.json();
        let reason = match serde_json::from_slice::<Value>(json) {
            _ if json.is_empty() => "the body is empty".to_owned(),
            Ok(value) => mismatch(&value)
                .or_else(|| serde_json::from_slice::<T>(json).err().as_ref().map(repeated))
                .unwrap_or_else(|| "the body must be an object".to_owned()),
            Err(error) => {
                let place = format!("line {}, column {}", error.line(), error.column());
                let cause = limit(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                format!("the body is not valid JSON ({place}){cause}")
            }
        };
        Err(self.unexpected(reason))
    }

    fn unexpected(&self, reason: impl Into<String>) -> Failure {
        let beginning = self.json();
        let beginning = beginning.get(..beginning.len().min(KEPT_OF_BODY)).unwrap_or_default();
        let excerpt = Some(String::from_utf8_lossy(beginning).into_owned());
        Failure::Unexpected(Unexpected { status: Some(self.status), reason: reason.into(), excerpt })
    }
}

/// Parses an object. By default, serde also accepts a list and reads the members by position.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok())?
}

/// Describes where an account does not match the API contract: the JSON pointer and the expected type. `whole` names
/// the text that should be an account.
fn account_mismatch(value: &Value, whole: &str) -> Option<String> {
    let Value::Object(members) = value else {
        return Some(format!("{whole} must be an account object"));
    };
    if let Some((name, field)) = respelled(members, |field| members.contains_key(field.wire())) {
        let (name, wire) = (name.get(..LONGEST_NAME).unwrap_or(name), field.wire());
        return Some(format!("/{name} looks like the field {wire}, which is missing, and an update would clear it"));
    }
    MEMBERS.iter().filter(|member| member.is_needed()).find_map(|member| {
        let fits = match members.get(member.wire) {
            None | Some(Value::Null) => !member.always_answered,
            Some(value) if member.kind == Kind::Integer => value.is_i64(),
            Some(value) => value.is_string(),
        };
        (!fits).then(|| {
            let or_null = if member.always_answered { "" } else { " or null" };
            format!("/{} must be {}{or_null}", member.wire, member.kind.expected())
        })
    })
}

fn page_mismatch(value: &Value) -> Option<String> {
    let Value::Object(members) = value else {
        return Some("the body must be a page object".to_owned());
    };
    if !matches!(members.get("items"), Some(Value::Array(_))) {
        return Some("/items must be a list".to_owned());
    }
    (!matches!(members.get("hasMore"), Some(Value::Bool(_)))).then(|| "/hasMore must be true or false".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Answer, Body, ContactAccount, ErrorKind, Failure, Headers, Item, Page};
    use crate::account::{Field, MEMBERS, Presence};

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
            ("\"Acme\"", "\"Acme\", \"city\": 5", "/city must be a string or null"),
            ("\"Acme\"", "\"Acme\", \"phone\": \"canary\", \"phone\": null", "/phone occurs twice"),
            ("\"id\": 7", "\"id\": 8, \"id\": 7", "/id occurs twice"),
            ("\"id\": 7", "\"id\": 7, \"t\": 1, \"t\": null", "a member occurs twice"),
            ("\"id\": 7", "\"id\": 1e400", "not valid JSON (line 1, column"),
            ("\"id\": 7", "\"id\": 7, \"score\": 1e400", "): a number in it is too large"),
        ] {
            let message = refused(&GOOD.replace(from, to));
            assert!(message.contains(expected) && !message.contains("canary"), "{message}");
        }
        for (body, expected) in [
            ("", "empty"),
            ("[]", "the body must be an account object"),
            ("{\"id\": 7", "not valid JSON"),
            ("<html>", "not valid JSON"),
            (&"[".repeat(1_000_000), "not valid JSON"),
        ] {
            assert!(refused(body).contains(expected), "{}", refused(body));
        }
    }

    #[test]
    fn a_wrong_value_of_a_member_that_the_service_sets_is_kept_as_it_came() {
        for (member, value) in [
            ("createdDate", json!("2024-01-02")),
            ("createdDate", json!(1_704_153_600)),
            ("lastActivityDate", json!({"canary": [1, null]})),
            ("linkedProspectsCount", json!("12")),
            ("linkedProspectsCount", json!(1.5)),
            ("stage", json!("Lead")),
            ("stage", json!({"id": "3", "name": "Lead"})),
            ("emailProvider", json!(5)),
        ] {
            let mut body: Value = serde_json::from_str(GOOD).unwrap();
            body[member] = value.clone();
            let account = answer(200, &body.to_string()).account(7).unwrap();
            assert_eq!(account.extra.get(member), Some(&value));
            let written = serde_json::to_value(&account).unwrap();
            assert_eq!((&written[member], &written["name"]), (&value, &json!("Acme")), "{member}");
        }
    }

    #[test]
    fn a_member_that_the_service_sets_may_be_null_or_missing() {
        let bare = answer(200, r#"{"id": 7, "ownerUserId": 1, "name": "Acme"}"#).account(7).unwrap();
        let null = json!({"id": 7, "ownerUserId": 1, "name": "Acme", "linkedProspectsCount": null, "createdDate": null,
            "lastActivityDate": null, "stage": null, "emailProvider": null});
        assert_eq!(answer(200, &null.to_string()).account(7).unwrap(), bare);
        assert_eq!((bare.created_date, bare.last_activity_date, bare.linked_prospects_count), (None, None, None));
        assert!(bare.extra.is_empty());
    }

    fn page(body: &str) -> Result<Page, String> {
        match answer(200, body).page() {
            Ok(page) => Ok(page),
            Err(Failure::Unexpected(unexpected)) => Err(unexpected.reason),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_page_is_refused() {
        assert_eq!(page(&format!(r#"{{"items": [{GOOD}], "hasMore": true, "total": 1}}"#)).unwrap().items.len(), 1);
        for (body, expected) in [
            (r#"{"items": {}}"#, "/items must be a list"),
            (r#"{"items": null, "hasMore": true}"#, "/items must be a list"),
            (r#"{"items": []}"#, "/hasMore must be true or false"),
            (r#"{"items": [], "hasMore": true, "hasMore": false}"#, "a member occurs twice"),
            ("<html>Sign in</html>", "the body is not valid JSON (line 1, column 1)"),
            (&format!("[[{GOOD}], false]"), "the body must be a page object"),
            ("[[{\"id\": 7}], false]", "the body must be a page object"),
            (&"[".repeat(1_000_000), "the body is not valid JSON (line 1, column 128): it is nested too deep"),
        ] {
            assert_eq!(page(body).unwrap_err(), expected);
        }
    }

    #[test]
    fn an_item_that_cannot_be_read_leaves_the_others_readable() {
        let wrong = |from: &str, to: &str| GOOD.replace(from, to);
        for (item, id, reason) in [
            (wrong("\"ownerUserId\": 1", "\"ownerUserId\": null"), Some(7), "/ownerUserId must be an integer"),
            (wrong("\"Acme\"", "5"), Some(7), "/name must be a string"),
            (wrong("\"Acme\"", "\"Acme\", \"city\": [\"canary\"]"), Some(7), "/city must be a string or null"),
            (wrong("\"id\": 7", "\"id\": \"canary\""), None, "/id must be an integer"),
            (wrong("\"id\": 7", "\"id\": 8, \"id\": 7"), None, "/id occurs twice"),
            (wrong("\"id\": 7", "\"id\": 7, \"t\": 1, \"t\": 1"), Some(7), "a member occurs twice"),
            (wrong("\"Acme\"", "\"A\", \"phone\": \"1\", \"phone\": \"2\""), Some(7), "/phone occurs twice"),
            (wrong("\"Acme\"", "\"Acme\", \"score\": 1e400"), Some(7), "a number in it is too large"),
            ("null".to_owned(), None, "the item must be an account object"),
            ("[]".to_owned(), None, "the item must be an account object"),
            ("[7]".to_owned(), None, "the item must be an account object"),
        ] {
            let page = page(&format!(r#"{{"items": [{GOOD}, {item}, {GOOD}], "hasMore": false}}"#)).unwrap();
            assert_eq!(page.items[1], Item::Unreadable { id, reason: reason.to_owned() });
            for readable in [0, 2] {
                assert!(matches!(&page.items[readable], Item::Account(account) if account.id == 7), "{reason}");
            }
        }
    }

    #[test]
    fn an_account_and_an_item_say_the_same_about_a_value_that_cannot_be_read() {
        for (value, reason) in [
            (r#""Vi\ud800ken""#.to_owned(), "a text in it has half of a surrogate pair"),
            (r#""\udc00""#.to_owned(), "a text in it has half of a surrogate pair"),
            (r#""\ud800\u0041""#.to_owned(), "a text in it has half of a surrogate pair"),
            ("[".repeat(200) + &"]".repeat(200), "it is nested too deep"),
            ("-1e400".to_owned(), "a number in it is too large"),
        ] {
            for name in ["city", "canary", "stage", "createdDate"] {
                let body = GOOD.replace("\"Acme\"", &format!("\"Acme\", \"{name}\": {value}"));
                let whole = refused(&body);
                assert!(whole.starts_with("the body is not valid JSON (line 1, column "), "{whole}");
                assert!(whole.ends_with(&format!("): {reason}")), "{whole}");
                let page = page(&format!(r#"{{"items": [{body}], "hasMore": false}}"#)).unwrap();
                assert_eq!(page.items[0], Item::Unreadable { id: Some(7), reason: reason.to_owned() }, "{name}");
            }
        }
        let bytes: Vec<u8> = GOOD.bytes().map(|byte| if byte == b'A' { 0xe9 } else { byte }).collect();
        let latin = Answer { body: Body::Whole(bytes.into()), ..answer(200, "") };
        let Err(Failure::Unexpected(latin)) = latin.account(7) else { panic!("read") };
        assert!(latin.reason.ends_with("): a text in it is not valid UTF-8"), "{}", latin.reason);
    }

    #[test]
    fn a_known_member_that_occurs_twice_is_refused_whatever_its_values() {
        for member in MEMBERS {
            let mut members: serde_json::Map<String, Value> = serde_json::from_str(GOOD).unwrap();
            let value = members.remove(member.wire).unwrap_or(Value::Null);
            let bare = serde_json::to_string(&members).unwrap();
            for (first, second) in [(&value, &value), (&value, &Value::Null), (&Value::Null, &value)] {
                let twice = format!("{{\"{0}\": {first}, \"{0}\": {second}, ", member.wire);
                let body = bare.replacen('{', &twice, 1);
                // A value of the wrong type is refused before its repetition.
                let is_wrong = member.is_needed() && member.always_answered && *first != *second;
                if !is_wrong {
                    assert_eq!(refused(&body), format!("/{} occurs twice", member.wire));
                }
                assert!(answer(200, &body).account(7).is_err(), "{body}");
            }
        }
    }

    #[test]
    fn a_field_in_another_spelling_makes_an_account_unreadable() {
        for (name, wire) in [
            ("linkedinUrl", "linkedInUrl"),
            ("linked_in_url", "linkedInUrl"),
            ("LINKED-IN-URL", "linkedInUrl"),
            ("City", "city"),
            ("Name", "name"),
            ("owner_user_id", "ownerUserId"),
        ] {
            for value in ["\"canary\"", "null", "5"] {
                let mut members: serde_json::Map<String, Value> = serde_json::from_str(GOOD).unwrap();
                members.remove(wire);
                let body =
                    serde_json::to_string(&members).unwrap().replacen('{', &format!("{{\"{name}\": {value}, "), 1);
                let reason =
                    format!("/{name} looks like the field {wire}, which is missing, and an update would clear it");
                assert_eq!(refused(&body), reason);
                let page = page(&format!(r#"{{"items": [{body}], "hasMore": false}}"#)).unwrap();
                assert_eq!(page.items[0], Item::Unreadable { id: Some(7), reason });
            }
        }
        let long = GOOD.replace("\"Acme\"", &format!("\"Acme\", \"ci{}ty\": null", "_".repeat(500)));
        assert!(refused(&long).len() < 120, "{}", refused(&long));
    }

    #[test]
    fn an_unknown_member_beside_the_field_that_it_resembles_is_kept() {
        for beside in
            [r#""city": null, "City": "Oslo""#, r#""CITY": "Oslo", "city": "Bergen""#, r#""Stage": 1, "Ort": 2"#]
        {
            let body = GOOD.replace("\"Acme\"", &format!("\"Acme\", {beside}"));
            assert!(!answer(200, &body).account(7).unwrap().extra.is_empty());
        }
    }

    #[test]
    fn a_byte_order_mark_before_the_json_is_ignored() {
        let marked = |body: &str| answer(200, &format!("\u{feff}{body}"));
        assert_eq!(marked(GOOD).account(7).unwrap(), answer(200, GOOD).account(7).unwrap());
        let page = format!(r#"{{"items": [{GOOD}], "hasMore": false}}"#);
        assert_eq!(marked(&page).page().unwrap(), answer(200, &page).page().unwrap());
        let twice = marked("\u{feff}{}").account(7).unwrap_err();
        assert!(matches!(twice, Failure::Unexpected(twice) if twice.reason.contains("line 1, column 1")));
        let problem = Answer { status: 400, ..marked(r#"{"code": "contactAccount.invalidInput"}"#) };
        let problem = Answer { headers: Headers { problem_details: true, ..Headers::default() }, ..problem };
        let Err(Failure::Api(failure)) = problem.accepted() else { panic!("accepted") };
        assert_eq!(failure.problem.code.as_deref(), Some("contactAccount.invalidInput"));
        let sign_in = Answer { status: 403, ..marked("<html>Sign in</html>") };
        let Err(Failure::Api(failure)) = sign_in.accepted() else { panic!("accepted") };
        assert!(failure.is_page);
    }

    #[test]
    fn a_blank_company_size_is_none_because_an_update_cannot_have_it() {
        for blank in ["", " ", "\u{a0}\u{200b}"] {
            let body = GOOD.replace("\"Acme\"", &format!("\"Acme\", \"companySize\": \"{blank}\""));
            let account = answer(200, &body).account(7).unwrap();
            assert_eq!((&account.company_size, account.fields().company_size), (&None, Presence::Absent));
        }
    }

    #[test]
    fn an_item_has_the_members_that_are_there_and_an_account_asked_for_has_them_all() {
        let body = GOOD.replace("\"Acme\"", "\"Acme\", \"phone\": null, \"city\": \"\"");
        let page = page(&format!(r#"{{"items": [{body}], "hasMore": false}}"#)).unwrap();
        let item = page.items[0].clone().into_account().unwrap();
        let has: Vec<Field> = Field::ALL.iter().copied().filter(|field| item.has(*field)).collect();
        assert_eq!(has, [Field::Name, Field::City, Field::Phone, Field::OwnerUserId]);
        assert!(!item.is_complete());
        let account = answer(200, &body).account(7).unwrap();
        assert!(account.is_complete());
        assert_eq!(serde_json::from_value::<ContactAccount>(serde_json::to_value(&item).unwrap()).unwrap(), item);
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
