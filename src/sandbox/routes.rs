//! The three operations, and what is answered in their place.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::answer::{Answer, FORBIDDEN, INVALID_INPUT, Pointed};
use super::page::Page;
use super::state::{API_KEY, State};
use super::update::Update;
use super::{Auth, SandboxOptions, openapi};
use crate::account::DateTime;

const ACCOUNTS: &str = "/v3/contact-accounts";

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource<'a> {
    Account(&'a str),
    Accounts,
    Description,
    Nothing,
}

impl<'a> Resource<'a> {
    pub(super) fn of(path: &'a str) -> Self {
        match path.strip_prefix(ACCOUNTS) {
            Some("") => Self::Accounts,
            Some(rest) => match rest.strip_prefix('/') {
                Some(id) if !id.is_empty() && !id.contains('/') => Self::Account(id),
                _ => Self::Nothing,
            },
            None if path == "/openapi.json" => Self::Description,
            None => Self::Nothing,
        }
    }

    /// The id of the account that is named, where it is one.
    pub(super) fn id(self) -> Option<i64> {
        match self {
            Self::Account(text) if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => text.parse().ok(),
            _ => None,
        }
    }

    const fn methods(self) -> &'static str {
        match self {
            Self::Account(_) => "GET, PUT",
            Self::Accounts | Self::Description | Self::Nothing => "GET",
        }
    }

    fn allows(self, method: &Method) -> bool {
        self.methods().split(", ").any(|allowed| method == allowed)
    }
}

/// A request that has arrived in full.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) number: u64,
    pub(super) parts: Parts,
    /// `None` where it was longer than the bound.
    pub(super) body: Option<Vec<u8>>,
}

/// Whether a request gets as far as its body: it names a resource and has a key. The body of any other is not kept.
pub(super) fn may_have_a_body(options: &SandboxOptions, parts: &Parts) -> bool {
    let resource = Resource::of(parts.uri.path());
    matches!(resource, Resource::Account(_) | Resource::Accounts)
        && resource.allows(&parts.method)
        && key(&parts.headers, options).is_some()
}

/// Does what a request asks for, and gives the answer. With `apply` false the answer is the same but nothing is stored.
pub(super) fn answer(state: &mut State, options: &SandboxOptions, call: &Call, apply: bool) -> Answer {
    match authorized(state, options, call, apply) {
        Ok(answer) | Err(answer) => answer,
    }
}

fn authorized(state: &mut State, options: &SandboxOptions, call: &Call, apply: bool) -> Result<Answer, Answer> {
    let resource = Resource::of(call.parts.uri.path());
    if resource == Resource::Nothing {
        return Err(Answer::problem(StatusCode::NOT_FOUND, "There is no such route.", None));
    }
    let method = &call.parts.method;
    if !resource.allows(method) {
        return Err(Answer::method_not_allowed(resource.methods()));
    }
    let headers = &call.parts.headers;
    let key = key(headers, options);
    if resource == Resource::Description {
        // Anybody may know how the accounts are read, but not what is in one.
        let example = state.accounts.values().next().filter(|_| key.is_some());
        return Ok(Answer::json(&openapi::description(options, example)));
    }
    let key = key.ok_or_else(Answer::unauthorized)?;
    state.take_quota(options, key, headers).map_err(Answer::too_many_requests)?;
    check_scope(options, key, method)?;
    let Some(body) = &call.body else {
        return Err(Answer::problem(StatusCode::PAYLOAD_TOO_LARGE, "The body is too long.", None));
    };
    let Resource::Account(text) = resource else {
        return list(state, options, call.parts.uri.query().unwrap_or_default());
    };
    let id = resource.id().ok_or_else(|| {
        let detail = format!("The value '{}' is not an account's ID.", text.escape_debug());
        Answer::invalid(&[Pointed::new("id", detail)])
    })?;
    let update = if method == Method::PUT { Some(read_update(headers, body)?) } else { None };
    if options.forbidden.contains(&id) {
        let detail = format!("You have no right to contact account {id}.");
        return Err(Answer::problem(StatusCode::FORBIDDEN, &detail, Some(FORBIDDEN)));
    }
    let account = state.accounts.get(&id).ok_or_else(|| Answer::not_found(id))?;
    let Some(update) = update else { return Ok(Answer::json(account)) };
    if let Some(detail) = update.refusal(options.owners.as_ref()) {
        return Err(Answer::problem(StatusCode::BAD_REQUEST, &detail, Some(INVALID_INPUT)));
    }
    let mut updated = update.apply(account);
    updated.insert("lastActivityDate".to_owned(), json!(now()));
    let answer = Answer::json(&Brief(&updated));
    if apply {
        state.put(id, updated, Some(call.number)).map_err(|error| {
            let detail = format!("The account could not be stored: {error}.");
            Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, &detail, None)
        })?;
    }
    Ok(answer)
}

/// Now, to the millisecond: the service answers with few digits.
fn now() -> DateTime {
    let now = Timestamp::now();
    DateTime(Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now))
}

fn read_update(headers: &HeaderMap, body: &[u8]) -> Result<Update, Answer> {
    let media_type = headers.get(CONTENT_TYPE).map_or(&b""[..], http::HeaderValue::as_bytes);
    let media_type = media_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !media_type.eq_ignore_ascii_case(b"application/json") {
        return Err(Answer::invalid(&[Pointed::new("", "The Content-Type must be application/json.")]));
    }
    Update::read(body).map_err(|faults| Answer::invalid(&faults))
}

fn list(state: &State, options: &SandboxOptions, query: &str) -> Result<Answer, Answer> {
    let page = Page::read(query)?;
    let visible = state.accounts.iter().filter(|(id, _)| !options.forbidden.contains(id)).map(|(_, account)| account);
    let (items, has_more) = page.cut(visible);
    let items: Vec<Brief<'_>> = items.into_iter().map(Brief).collect();
    Ok(Answer::json(&AccountPage { items, has_more }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountPage<'a> {
    items: Vec<Brief<'a>>,
    has_more: bool,
}

/// An account as updates and lists answer it: without the one member that only a read adds.
struct Brief<'a>(&'a Map<String, Value>);

impl Serialize for Brief<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().filter(|(name, _)| *name != "emailProvider"))
    }
}

/// The key of a request, if it is one that this sandbox knows, sent as it may be.
fn key<'a>(headers: &'a HeaderMap, options: &SandboxOptions) -> Option<&'a str> {
    let plain = headers.get(API_KEY).filter(|_| options.auth != Auth::Bearer);
    let bearer = headers.get(AUTHORIZATION).filter(|_| options.auth != Auth::ApiKey);
    let key = match (plain, bearer) {
        (Some(value), _) => value.to_str().ok()?,
        (None, Some(value)) => {
            let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
            Some(key.trim()).filter(|_| scheme.eq_ignore_ascii_case("bearer"))?
        }
        (None, None) => return None,
    };
    let known = match &options.api_keys {
        Some(keys) => keys.iter().any(|known| known == key) || options.scopes.contains_key(key),
        None => !key.is_empty(),
    };
    known.then_some(key)
}

fn check_scope(options: &SandboxOptions, key: &str, method: &Method) -> Result<(), Answer> {
    let Some(scopes) = options.scopes.get(key) else { return Ok(()) };
    let (granted, scope) =
        if method == Method::PUT { (scopes.write, "contacts:write") } else { (scopes.read, "contacts:read") };
    if granted {
        return Ok(());
    }
    Err(Answer::problem(StatusCode::FORBIDDEN, &format!("The API key has no scope {scope}."), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_resource() {
        for (path, resource, id) in [
            ("/v3/contact-accounts", Resource::Accounts, None),
            ("/v3/contact-accounts/", Resource::Nothing, None),
            ("/v3/contact-accounts/4711", Resource::Account("4711"), Some(4711)),
            ("/v3/contact-accounts/-1", Resource::Account("-1"), Some(-1)),
            ("/v3/contact-accounts/+1", Resource::Account("+1"), None),
            ("/v3/contact-accounts/1.0", Resource::Account("1.0"), None),
            ("/v3/contact-accounts/99999999999999999999", Resource::Account("99999999999999999999"), None),
            ("/v3/contact-accounts/1/2", Resource::Nothing, None),
            ("/v3/contact-accountsx", Resource::Nothing, None),
            ("/v1/contact-accounts", Resource::Nothing, None),
            ("/openapi.json", Resource::Description, None),
        ] {
            assert_eq!((Resource::of(path), Resource::of(path).id()), (resource, id), "{path}");
        }
    }
}
