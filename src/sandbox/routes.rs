//! The three operations, and the answers to all other requests.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::accounts::Shown;
use super::answer::{Answer, FORBIDDEN, INVALID_INPUT, Pointed};
use super::page::PageQuery;
use super::state::{API_KEY, State};
use super::update::Update;
use super::{Auth, SandboxOptions, openapi};
use crate::account::{ContactAccount, DateTime};

const ACCOUNTS: &str = "/v3/contact-accounts";

/// The resource of a path.
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

    /// Returns the account id in the path, if it is valid.
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

/// A complete request.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) number: u64,
    pub(super) parts: Parts,
    /// `None` if it exceeded the limit.
    pub(super) body: Option<Vec<u8>>,
}

/// Returns whether the sandbox reads the body of a request: it names a resource and has a key. It does not keep the
/// body of any other request.
pub(super) fn may_have_a_body(options: &SandboxOptions, parts: &Parts) -> bool {
    let resource = Resource::of(parts.uri.path());
    matches!(resource, Resource::Account(_) | Resource::Accounts)
        && resource.allows(&parts.method)
        && key(&parts.headers, options).is_some()
}

/// Executes a request, and returns the answer. If `apply` is false, the answer is the same but nothing is stored.
pub(super) fn answer(state: &mut State, options: &SandboxOptions, call: &Call, apply: bool) -> Answer {
    let resource = Resource::of(call.parts.uri.path());
    let key = match admitted(state, options, resource, call) {
        Ok(key) => key,
        Err(answer) => return answer,
    };
    let (wait, left) = state.take_quota(options, key, &call.parts.headers);
    let answered = match wait {
        Some(seconds) => Err(Answer::too_many_requests(seconds)),
        None => authorized(state, options, key, resource, call, apply),
    };
    let mut answer = answered.unwrap_or_else(|refused| refused);
    answer.headers.extend(options.deviations.headers(&left));
    answer
}

/// Returns the key of a request with a valid route.
///
/// # Errors
/// Returns the answer that does not count against the quota.
fn admitted<'a>(
    state: &State,
    options: &SandboxOptions,
    resource: Resource<'_>,
    call: &'a Call,
) -> Result<&'a str, Answer> {
    if resource == Resource::Nothing {
        return Err(Answer::problem(StatusCode::NOT_FOUND, "There is no such route.", None));
    }
    if !resource.allows(&call.parts.method) {
        return Err(Answer::method_not_allowed(resource.methods()));
    }
    let key = key(&call.parts.headers, options);
    if resource == Resource::Description {
        // Anyone may read how accounts are described, but not their content.
        let example = state.accounts.iter().next().filter(|_| key.is_some());
        let example = example.map(|account| Shown::detailed(account).members());
        return Err(Answer::json(&openapi::description(options, example.as_ref())));
    }
    key.ok_or_else(Answer::unauthorized)
}

fn authorized(
    state: &mut State,
    options: &SandboxOptions,
    key: &str,
    resource: Resource<'_>,
    call: &Call,
    apply: bool,
) -> Result<Answer, Answer> {
    let (method, headers) = (&call.parts.method, &call.parts.headers);
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
    let update = if method == Method::PUT { Some(read_update(options, headers, body)?) } else { None };
    if options.forbidden.contains(&id) {
        let detail = format!("You do not have access to contact account {id}.");
        return Err(Answer::problem(StatusCode::FORBIDDEN, &detail, Some(FORBIDDEN)));
    }
    let account = state.accounts.get(id).ok_or_else(|| Answer::not_found(id))?;
    let Some(update) = update else { return Ok(Answer::json(&answered(options, Shown::detailed(account), false))) };
    if let Some(detail) = update.refusal(options.owners.as_ref()) {
        return Err(Answer::problem(StatusCode::BAD_REQUEST, &detail, Some(INVALID_INPUT)));
    }
    if options.deviations.ignores_everything() {
        return Ok(Answer::json(&answered(options, Shown::brief(account), false)));
    }
    let updated = updated(options, account, update).map_err(|error| not_stored(&error))?;
    let answer = Answer::json(&answered(options, Shown::brief(&updated), false));
    if apply {
        state.put(updated, Some(call.number)).map_err(|error| not_stored(&error))?;
    }
    Ok(answer)
}

fn not_stored(error: &dyn std::error::Error) -> Answer {
    Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("The account could not be stored: {error}."), None)
}

/// Returns the account after an update.
fn updated(
    options: &SandboxOptions,
    account: &ContactAccount,
    update: Update,
) -> Result<ContactAccount, serde_json::Error> {
    let before = Shown::detailed(account).members();
    let mut updated = update.apply(&before, options.deviations.unknown_members.keys());
    options.deviations.store(&mut updated, &before);
    updated.insert("lastActivityDate".to_owned(), json!(now()));
    serde_json::from_value(Value::Object(updated))
}

/// Returns an account in the form of an answer.
#[derive(Serialize)]
#[serde(untagged)]
enum Answered<'a> {
    AsStored(Shown<'a>),
    Otherwise(Map<String, Value>),
}

fn answered<'a>(options: &SandboxOptions, account: Shown<'a>, is_item: bool) -> Answered<'a> {
    let deviations = &options.deviations;
    if deviations.shows_as_stored(is_item) {
        return Answered::AsStored(account);
    }
    Answered::Otherwise(deviations.show(account.members(), is_item))
}

/// Returns the current time in milliseconds: the service returns few digits.
fn now() -> DateTime {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now).into()
}

fn read_update(options: &SandboxOptions, headers: &HeaderMap, body: &[u8]) -> Result<Update, Answer> {
    let media_type = headers.get(CONTENT_TYPE).map_or(&b""[..], http::HeaderValue::as_bytes);
    let media_type = media_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !media_type.eq_ignore_ascii_case(b"application/json") {
        return Err(Answer::invalid(&[Pointed::new("", "The Content-Type must be application/json.")]));
    }
    Update::read(body, |name| options.deviations.has_member(name)).map_err(|faults| Answer::invalid(&faults))
}

fn list(state: &mut State, options: &SandboxOptions, query: &str) -> Result<Answer, Answer> {
    let (accounts, has_more) = state.accounts.page(&PageQuery::read(query)?, &options.forbidden);
    let items = accounts.into_iter().map(|account| answered(options, Shown::brief(account), true)).collect();
    Ok(Answer::json(&AccountPage { items, has_more }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountPage<'a> {
    items: Vec<Answered<'a>>,
    has_more: bool,
}

/// Returns the key of a request, if this sandbox accepts it in this header.
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
