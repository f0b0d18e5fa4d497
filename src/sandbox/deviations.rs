//! Ways in which the live service may differ from its documentation. This project has not called it; a client must be
//! safe anyway.

use std::collections::BTreeSet;

use http::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::SandboxError;
use super::windows::Left;
use crate::account::{Field, Kind, MEMBERS};

/// How the sandbox deviates from the API contract. The default has no deviation.
///
/// ```
/// use replyio::sandbox::{Dates, Deviations, SandboxOptions};
///
/// let deviations = Deviations { list_cut: Some(20), dates: Dates::Offset, ..Deviations::default() };
/// let options = SandboxOptions { deviations, ..SandboxOptions::default() };
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Deviations {
    /// Members that the items of a list lack, by their JSON names; any but `id`.
    pub list_lacks: BTreeSet<String>,
    /// The number of characters of each text that a list returns; a `GET` returns them all.
    pub list_cut: Option<usize>,
    /// The form of the dates in answers.
    pub dates: Dates,
    /// The form of an empty text in answers.
    pub empty: Empty,
    /// Members that this crate does not know and an update may include, with the initial value of each account. An
    /// update that omits one clears it, like any other.
    pub unknown_members: Map<String, Value>,
    /// What the sandbox stores of a text in an update.
    pub stored: Stored,
    /// Fields that an update does not change, although the sandbox answers 200.
    pub ignored_fields: BTreeSet<Field>,
    /// Members that every update clears, whatever it includes, by their JSON names: `stage`, and the fields that may be
    /// empty.
    pub update_clears: BTreeSet<String>,
    /// The user that every update makes the owner, whatever it includes.
    pub update_owner: Option<i64>,
    /// The headers with the remaining quota. They need a quota.
    pub rate_limit_headers: RateLimitHeaders,
}

/// The form of the dates in answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dates {
    /// `2023-11-07T05:31:56Z`
    #[default]
    Utc,
    /// `2023-11-07T05:31:56+00:00`
    Offset,
    /// `2023-11-07T05:31:56`
    Local,
    /// `2023-11-07`
    DateOnly,
    /// `null`
    Null,
}

/// The form of an empty text in answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Empty {
    /// `null` if it was never set or was cleared, `""` if an update sent that.
    #[default]
    AsSent,
    /// Always `null`.
    Null,
    /// Always `""`.
    Text,
}

/// What the sandbox stores of a text in an update.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stored {
    /// The text.
    #[default]
    AsSent,
    /// The text without leading and trailing white space.
    Trimmed,
    /// The text in a normalized form: no separators in phone numbers, domains and email addresses in lower case,
    /// single spaces.
    Reformatted,
    /// The text escaped for HTML: `&amp;` for `&`.
    Escaped,
}

/// The headers with the remaining quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RateLimitHeaders {
    /// None.
    #[default]
    None,
    /// `X-Rate-Limit-Limit`, `X-Rate-Limit-Remaining` and `X-Rate-Limit-Reset`, of the tighter of the two windows.
    XRateLimit,
    /// `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`, of the tighter of the two windows.
    RateLimit,
    /// `RateLimit` and `RateLimit-Policy` as lists of both windows, as the newer drafts have them.
    Structured,
}

impl Deviations {
    /// Checks the names, and that there is a quota if headers report one.
    ///
    /// # Errors
    /// Returns an error if a name is not that of a member, or is known where an unknown one is expected.
    pub(super) fn check(&self, has_quota: bool) -> Result<(), SandboxError> {
        let refusal = |reason: String| Err(SandboxError::Option { name: "deviations", reason });
        let is_member = |name: &str| MEMBERS.iter().any(|member| member.wire == name);
        let can_lack = |name: &str| (is_member(name) && name != "id") || self.has_member(name);
        if let Some(name) = self.list_lacks.iter().find(|name| !can_lack(name)) {
            return refusal(format!("cannot leave {name:?} out of a list: it is not a member, or it is the id"));
        }
        if let Some(name) = self.unknown_members.keys().find(|name| is_member(name)) {
            return refusal(format!("cannot have {name:?} as an unknown member: the contract has it"));
        }
        let can_clear = |name: &str| name == "stage" || Field::from_wire(name).is_some_and(Field::nullable);
        if let Some(name) = self.update_clears.iter().find(|name| !can_clear(name)) {
            return refusal(format!("cannot clear {name:?} with an update: it is not a member that may be empty"));
        }
        if self.rate_limit_headers != RateLimitHeaders::None && !has_quota {
            return refusal("cannot report the remaining quota: the sandbox has no quota".to_owned());
        }
        Ok(())
    }

    /// Returns whether answers show exactly what is stored.
    pub(super) fn shows_as_stored(&self, is_item: bool) -> bool {
        let is_whole = !is_item || (self.list_lacks.is_empty() && self.list_cut.is_none());
        is_whole && self.dates == Dates::Utc && self.empty == Empty::AsSent
    }

    /// Converts an account to the form of the answer; `is_item` is true for an item of a list.
    pub(super) fn show(&self, mut members: Map<String, Value>, is_item: bool) -> Map<String, Value> {
        for member in MEMBERS {
            let Some(value) = members.get_mut(member.wire) else { continue };
            match member.kind {
                Kind::DateTime => self.dates.show(value),
                Kind::Text if member.writable => {
                    if let (Some(most), Value::String(text)) = (self.list_cut.filter(|_| is_item), &mut *value) {
                        *text = text.chars().take(most).collect();
                    }
                    if member.nullable() {
                        self.empty.show(value);
                    }
                }
                _ => {}
            }
        }
        if is_item {
            members.retain(|name, _| !self.list_lacks.contains(name));
        }
        members
    }

    /// Returns whether an update may include a member that the API contract does not list.
    pub(super) fn has_member(&self, name: &str) -> bool {
        self.unknown_members.contains_key(name)
    }

    /// Adds the unknown members that an account does not have yet.
    pub(super) fn complete(&self, extra: &mut Map<String, Value>) {
        for (name, value) in &self.unknown_members {
            extra.entry(name).or_insert_with(|| value.clone());
        }
    }

    /// Returns whether updates change nothing at all.
    pub(super) fn ignores_everything(&self) -> bool {
        self.ignored_fields.len() == Field::ALL.len()
    }

    /// Converts an updated account to the stored form.
    pub(super) fn store(&self, updated: &mut Map<String, Value>, before: &Map<String, Value>) {
        for field in Field::ALL {
            let Some(value) = updated.get_mut(field.wire()) else { continue };
            if self.ignored_fields.contains(field) {
                *value = before.get(field.wire()).cloned().unwrap_or_default();
            } else if let (Kind::Text, Value::String(text)) = (field.kind(), value) {
                *text = self.stored.tidied(*field, text);
            }
        }
        for name in &self.update_clears {
            updated.insert(name.clone(), Value::Null);
        }
        if let Some(owner) = self.update_owner {
            updated.insert(Field::OwnerUserId.wire().to_owned(), owner.into());
        }
    }

    /// Returns the headers with the remaining quota.
    pub(super) fn headers(&self, left: &[Left]) -> Vec<(HeaderName, HeaderValue)> {
        let prefix = match self.rate_limit_headers {
            RateLimitHeaders::None => return Vec::new(),
            RateLimitHeaders::XRateLimit => "x-rate-limit-",
            RateLimitHeaders::RateLimit => "ratelimit-",
            RateLimitHeaders::Structured => {
                let list = |of: fn(&Left) -> String| left.iter().map(of).collect::<Vec<_>>().join(", ");
                let rest = list(|left| format!("\"{}\";r={};t={}", left.window, left.remaining, left.reset));
                let policy = list(|left| format!("\"{}\";q={};w={}", left.window, left.limit, left.length));
                return header("ratelimit", &rest).into_iter().chain(header("ratelimit-policy", &policy)).collect();
            }
        };
        let Some(tightest) = left.iter().min_by_key(|left| left.remaining) else { return Vec::new() };
        let numbers = [
            ("limit", u64::from(tightest.limit)),
            ("remaining", u64::from(tightest.remaining)),
            ("reset", tightest.reset),
        ];
        numbers.iter().filter_map(|(name, number)| header(&format!("{prefix}{name}"), &number.to_string())).collect()
    }
}

fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name.parse().ok()?, value.parse().ok()?))
}

impl Dates {
    fn show(self, value: &mut Value) {
        let Value::String(text) = value else { return };
        match self {
            Self::Utc => {}
            Self::Offset => *text = format!("{}+00:00", text.trim_end_matches('Z')),
            Self::Local => *text = text.trim_end_matches('Z').to_owned(),
            Self::DateOnly => text.truncate("2023-11-07".len()),
            Self::Null => *value = Value::Null,
        }
    }
}

impl Empty {
    fn show(self, value: &mut Value) {
        match (self, &*value) {
            (Self::Null, Value::String(text)) if text.is_empty() => *value = Value::Null,
            (Self::Text, Value::Null) => *value = Value::String(String::new()),
            _ => {}
        }
    }
}

impl Stored {
    fn tidied(self, field: Field, text: &str) -> String {
        match self {
            Self::AsSent => text.to_owned(),
            Self::Trimmed => text.trim().to_owned(),
            Self::Escaped => {
                text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
            }
            Self::Reformatted => {
                let spaced = text.split_whitespace().collect::<Vec<_>>().join(" ");
                match field {
                    Field::Phone => spaced.chars().filter(|each| each.is_ascii_digit() || *each == '+').collect(),
                    Field::DomainName | Field::DomainSecondary | Field::Email => spaced.to_lowercase(),
                    Field::LinkedInUrl | Field::TwitterUrl | Field::LogoUrl => spaced.trim_end_matches('/').to_owned(),
                    _ => spaced,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(deviations: &Deviations, is_item: bool) -> Value {
        let account = json!({
            "id": 1, "name": "Acme Industries", "city": null, "phone": "", "companySize": null,
            "createdDate": "2023-11-07T05:31:56.58Z",
        });
        Value::Object(deviations.show(account.as_object().unwrap().clone(), is_item))
    }

    #[test]
    fn an_item_lacks_and_cuts_what_a_single_read_has() {
        let list_lacks = BTreeSet::from(["city".to_owned(), "createdDate".to_owned()]);
        let deviations = Deviations { list_lacks, list_cut: Some(4), ..Deviations::default() };
        assert_eq!(shown(&deviations, true), json!({"id": 1, "name": "Acme", "phone": "", "companySize": null}));
        assert_eq!(shown(&deviations, false), shown(&Deviations::default(), false));
        assert!(deviations.shows_as_stored(false) && !deviations.shows_as_stored(true));
    }

    #[test]
    fn dates_have_the_form_that_is_wanted() {
        let date = |dates| shown(&Deviations { dates, ..Deviations::default() }, false)["createdDate"].clone();
        assert_eq!(date(Dates::Offset), "2023-11-07T05:31:56.58+00:00");
        assert_eq!(date(Dates::Local), "2023-11-07T05:31:56.58");
        assert_eq!(date(Dates::DateOnly), "2023-11-07");
        assert_eq!(date(Dates::Null), Value::Null);
    }

    #[test]
    fn an_empty_text_has_the_form_that_is_wanted() {
        let both = |empty| {
            let shown = shown(&Deviations { empty, ..Deviations::default() }, true);
            (shown["city"].clone(), shown["phone"].clone(), shown["companySize"].clone())
        };
        assert_eq!(both(Empty::AsSent), (json!(null), json!(""), json!(null)));
        assert_eq!(both(Empty::Null), (json!(null), json!(null), json!(null)));
        assert_eq!(both(Empty::Text), (json!(""), json!(""), json!(null)));
    }

    #[test]
    fn what_is_stored_is_tidied_or_ignored() {
        let stored = |stored, field: Field, text: &str| {
            let deviations =
                Deviations { stored, ignored_fields: BTreeSet::from([Field::City]), ..Deviations::default() };
            let mut updated = json!({"city": "new", field.wire(): text}).as_object().unwrap().clone();
            deviations.store(&mut updated, json!({"city": "old"}).as_object().unwrap());
            assert_eq!(updated["city"], "old");
            updated[field.wire()].as_str().unwrap().to_owned()
        };
        assert_eq!(stored(Stored::Trimmed, Field::Name, " a  b "), "a  b");
        assert_eq!(stored(Stored::Reformatted, Field::Name, " a  b "), "a b");
        assert_eq!(stored(Stored::Reformatted, Field::Phone, "+47 (22) 33"), "+472233");
        assert_eq!(stored(Stored::Reformatted, Field::DomainName, "Acme.Example"), "acme.example");
        assert_eq!(stored(Stored::Reformatted, Field::LogoUrl, "https://a/"), "https://a");
        assert_eq!(stored(Stored::Escaped, Field::Name, "A & B"), "A &amp; B");
        assert_eq!(stored(Stored::AsSent, Field::Name, " A & B "), " A & B ");
    }

    #[test]
    fn an_update_loses_the_stage_and_the_owner() {
        let deviations = Deviations {
            update_clears: BTreeSet::from(["stage".to_owned(), "city".to_owned()]),
            update_owner: Some(9),
            ..Deviations::default()
        };
        assert!(deviations.check(false).is_ok());
        let mut updated = json!({"city": "Oslo", "stage": {"id": 1}, "ownerUserId": 1}).as_object().unwrap().clone();
        let before = updated.clone();
        deviations.store(&mut updated, &before);
        assert_eq!(Value::Object(updated), json!({"city": null, "stage": null, "ownerUserId": 9}));
    }

    #[test]
    fn headers_tell_of_the_tighter_window_or_of_both() {
        let left = [
            Left { window: "minute", length: 60, limit: 100, remaining: 40, reset: 12 },
            Left { window: "hour", length: 3600, limit: 3000, remaining: 39, reset: 900 },
        ];
        let told = |rate_limit_headers| {
            let deviations = Deviations { rate_limit_headers, ..Deviations::default() };
            let headers = deviations.headers(&left).into_iter();
            headers.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect::<Vec<_>>()
        };
        assert!(told(RateLimitHeaders::None).is_empty());
        let names = ["x-rate-limit-limit: 3000", "x-rate-limit-remaining: 39", "x-rate-limit-reset: 900"];
        assert_eq!(told(RateLimitHeaders::XRateLimit), names);
        assert_eq!(told(RateLimitHeaders::RateLimit)[1], "ratelimit-remaining: 39");
        assert_eq!(
            told(RateLimitHeaders::Structured),
            [
                "ratelimit: \"minute\";r=40;t=12, \"hour\";r=39;t=900",
                "ratelimit-policy: \"minute\";q=100;w=60, \"hour\";q=3000;w=3600",
            ]
        );
    }

    #[test]
    fn a_deviation_that_cannot_be_is_refused() {
        let named = |name: &str| BTreeSet::from([name.to_owned()]);
        for bad in [
            Deviations { list_lacks: named("id"), ..Deviations::default() },
            Deviations { list_lacks: named("linked_in_url"), ..Deviations::default() },
            Deviations { update_clears: named("name"), ..Deviations::default() },
            Deviations { update_clears: named("createdDate"), ..Deviations::default() },
            Deviations { unknown_members: Map::from_iter([("city".to_owned(), Value::Null)]), ..Deviations::default() },
            Deviations { rate_limit_headers: RateLimitHeaders::RateLimit, ..Deviations::default() },
        ] {
            assert!(bad.check(false).is_err(), "{bad:?}");
        }
        assert!(Deviations { list_lacks: named("name"), ..Deviations::default() }.check(false).is_ok());
        let unknown_members = Map::from_iter([("score".to_owned(), Value::Null)]);
        let deviations = Deviations { list_lacks: named("score"), unknown_members, ..Deviations::default() };
        assert!(deviations.check(false).is_ok());
    }
}
