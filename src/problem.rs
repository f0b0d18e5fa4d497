//! Parses problem details (RFC 9457) from the service leniently.

use serde_json::Value;

use crate::account::{Field, FieldError};
use crate::text::plain_line;

/// A longer text is truncated, because messages are for people.
pub(crate) const LONGEST_TEXT: usize = 500;
/// More problems than this are dropped.
const MOST_ERRORS: usize = 100;
/// The most problems in a message; the others are in the error.
const MOST_IN_SUMMARY: usize = 5;

/// The content of an error body. Members that are missing or of another type are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problem {
    /// A summary of the kind of problem.
    pub title: Option<String>,
    /// What happened this time.
    pub detail: Option<String>,
    /// The service's code, such as `contactAccount.notFound`.
    pub code: Option<String>,
    /// The problems of single fields, with their Python names; empty for the body as a whole.
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// Parses a body. Never fails: the result contains what is readable.
    pub fn read(body: &[u8]) -> Self {
        Self::whole(body).map_texts(|text| plain_line(text, LONGEST_TEXT))
    }

    /// Parses a body without truncating texts.
    pub(crate) fn whole(body: &[u8]) -> Self {
        let Ok(Value::Object(members)) = serde_json::from_slice(body) else { return Self::default() };
        let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
        let errors = members.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Self {
            title: text("title"),
            detail: text("detail"),
            code: text("code"),
            errors: errors.iter().take(MOST_ERRORS).filter_map(field_error).collect(),
        }
    }

    /// Returns a one-line summary.
    pub(crate) fn summary(&self) -> Option<String> {
        if !self.errors.is_empty() {
            let faults: Vec<String> = self
                .errors
                .iter()
                .take(MOST_IN_SUMMARY)
                .map(|error| {
                    if error.field.is_empty() {
                        error.message.clone()
                    } else {
                        format!("{}: {}", error.field, error.message.trim_end_matches('.'))
                    }
                })
                .collect();
            let more = self.errors.len().saturating_sub(MOST_IN_SUMMARY);
            let more = if more == 0 { String::new() } else { format!("; and {more} more") };
            return Some(faults.join("; ") + &more);
        }
        self.detail.clone().or_else(|| self.title.clone()).filter(|text| !text.is_empty())
    }

    /// Applies a function to every text in it.
    pub(crate) fn map_texts(mut self, change: impl Fn(&str) -> String) -> Self {
        for text in [&mut self.title, &mut self.detail, &mut self.code].into_iter().flatten() {
            *text = change(text);
        }
        for error in &mut self.errors {
            error.field = change(&error.field);
            error.message = change(&error.message);
        }
        self
    }
}

fn field_error(value: &Value) -> Option<FieldError> {
    let detail = value.get("detail").and_then(Value::as_str)?;
    let pointer = value.get("pointer").and_then(Value::as_str).unwrap_or_default();
    Some(FieldError::new(field_name(pointer), detail))
}

/// Returns the field for a JSON pointer or a bare name.
fn field_name(pointer: &str) -> String {
    let pointer = pointer.strip_prefix('#').unwrap_or(pointer);
    let bare = pointer.strip_prefix('/').unwrap_or(pointer);
    let plain = bare.replace("~1", "/").replace("~0", "~");
    match Field::from_wire(&plain) {
        Some(field) => field.name().to_owned(),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::{FieldError, Problem};

    #[test]
    fn a_validation_problem_names_fields_as_callers_do() {
        let problem = Problem::read(
            br#"{"title": "Validation", "status": 400, "extensions": {}, "errors": [
                {"pointer": "/companySize", "detail": "Unknown value."}, {"pointer": "id", "detail": "Bad id."},
                {"pointer": "", "detail": "Body is empty."}, {"detail": "No pointer."}, 5]}"#,
        );
        let expected =
            [("company_size", "Unknown value."), ("id", "Bad id."), ("", "Body is empty."), ("", "No pointer.")];
        assert_eq!(problem.errors, expected.map(|(field, message)| FieldError::new(field, message)));
        assert_eq!(problem.title.as_deref(), Some("Validation"));
    }

    #[test]
    fn whatever_the_body_is_it_is_no_error() {
        for body in [&b""[..], b"[]", b"<html>", b"{\"title\": 5, \"errors\": {}}", b"\xff\xfe", b"{\"detail\": null}"]
        {
            assert_eq!(Problem::read(body), Problem::default());
        }
    }

    #[test]
    fn a_huge_detail_full_of_escapes_becomes_one_short_line() {
        let body = serde_json::json!({ "detail": "\u{1b}[31m\n".repeat(200_000) }).to_string();
        let detail = Problem::read(body.as_bytes()).detail.unwrap();
        assert!(detail.chars().count() < 5_000, "{}", detail.len());
        assert!(!detail.contains(['\n', '\u{1b}']));
    }
}
