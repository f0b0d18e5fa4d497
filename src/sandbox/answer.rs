//! The answers of the sandbox: JSON, or problem details (RFC 9457).

use bytes::Bytes;
use http::StatusCode;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;
use serde_json::{Value, json};

use super::faults::Response;

/// The code for a missing account.
pub(super) const NOT_FOUND: &str = "contactAccount.notFound";
/// The code for an account that the caller has no access to.
pub(super) const FORBIDDEN: &str = "contactAccount.forbidden";
/// The code for an update that a business rule refuses.
pub(super) const INVALID_INPUT: &str = "contactAccount.invalidInput";
/// The code for an invalid page.
pub(super) const INVALID_PAGINATION: &str = "contactAccount.invalidPagination";

/// Status, headers and the whole body.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}

/// A problem of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Pointed {
    pub(super) pointer: String,
    pub(super) detail: String,
}

impl Pointed {
    pub(super) fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

impl Answer {
    pub(super) fn json(value: &impl Serialize) -> Self {
        Self::typed(StatusCode::OK, HeaderValue::from_static("application/json; charset=utf-8"), value)
    }

    /// Returns problem details, with a code if the API contract has one.
    pub(super) fn problem(status: StatusCode, detail: &str, code: Option<&str>) -> Self {
        let mut body = problem_body(status, detail);
        if let (Some(code), Some(members)) = (code, body.as_object_mut()) {
            members.insert("code".to_owned(), code.into());
        }
        Self::problem_of(status, &body)
    }

    /// Returns the 400 for validation: every problem, and no code.
    pub(super) fn invalid(errors: &[Pointed]) -> Self {
        let status = StatusCode::BAD_REQUEST;
        let mut body = problem_body(status, "One or more validation errors occurred.");
        if let Some(members) = body.as_object_mut() {
            members.insert("errors".to_owned(), json!(errors));
        }
        Self::problem_of(status, &body)
    }

    /// Returns the 401: an empty body and the challenge.
    pub(super) fn unauthorized() -> Self {
        Self { status: StatusCode::UNAUTHORIZED, ..Self::default() }
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    pub(super) fn not_found(id: i64) -> Self {
        let detail = format!("Contact account with ID {id} was not found.");
        Self::problem(StatusCode::NOT_FOUND, &detail, Some(NOT_FOUND))
    }

    pub(super) fn method_not_allowed(allowed: &'static str) -> Self {
        let detail = format!("The methods of this resource are {allowed}.");
        Self::problem(StatusCode::METHOD_NOT_ALLOWED, &detail, None).with(ALLOW, HeaderValue::from_static(allowed))
    }

    pub(super) fn too_many_requests(seconds: u64) -> Self {
        let detail = format!("The quota is used up. It resets in {seconds} seconds.");
        Self::problem(StatusCode::TOO_MANY_REQUESTS, &detail, None).with(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Returns the answer of a fault.
    pub(super) fn scripted(response: &Response) -> Self {
        let mut answer = match &response.body {
            Some(body) => Self { status: response.status, body: body.clone(), ..Self::default() },
            None if response.status == StatusCode::UNAUTHORIZED => Self::unauthorized(),
            None if is_bodiless(response.status) => Self { status: response.status, ..Self::default() },
            None => Self::problem(response.status, "The sandbox was told to answer this.", None),
        };
        answer.headers.retain(|(name, _)| !response.headers.contains_key(name));
        answer.headers.extend(response.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        answer
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn problem_of(status: StatusCode, body: &Value) -> Self {
        Self::typed(status, HeaderValue::from_static("application/problem+json; charset=utf-8"), body)
    }

    fn typed(status: StatusCode, content_type: HeaderValue, value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).unwrap_or_default().into();
        Self { status, body, ..Self::default() }.with(CONTENT_TYPE, content_type)
    }
}

fn is_bodiless(status: StatusCode) -> bool {
    status.is_success() || status == StatusCode::NOT_MODIFIED
}

/// Returns the members that every problem has. The live service adds an `extensions` that its documentation does not
/// list.
fn problem_body(status: StatusCode, detail: &str) -> Value {
    json!({
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
        "extensions": {},
    })
}
