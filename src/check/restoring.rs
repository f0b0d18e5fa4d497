//! What a trial may write, what the service kept of it, and what has to be restored. Pure.

use serde_json::{Map, Value};

use crate::account::{ContactAccount, Field, FieldValue, MEMBERS};
use crate::change::{self, Change};

use super::facts::{are_equal, is_empty};
use super::wording::joined;

/// What a trial writes into an empty description: it says itself where it came from, and has what a service might store in
/// another way. Nothing of value is ever in its place, so that a process that ends in between has lost nothing.
pub(super) const TEXT: &str = "Written by replyio check; delete this. a & b < c > d \"e\"  f ";
/// Letters of the text that nobody else writes. They are searched without what is between them, so that the text is known
/// however the service stored it: wrapped, escaped or cut.
const MARK: &str = "writtenbyreplyio";
/// The one field that a trial names.
pub(super) const FIELD: Field = Field::Description;

/// Why an account must not be written, where it must not: whatever a service may do to it, the trial has to be able to
/// restore it.
pub(super) fn obstacle(account: &ContactAccount, raw: &Map<String, Value>) -> Option<String> {
    if let Some(reason) = unknown_members(raw) {
        return Some(reason);
    }
    if !raw.get(FIELD.wire()).is_none_or(is_empty) {
        return Some(
            "its description is not empty, and the check writes only where there is nothing to lose".to_owned(),
        );
    }
    let delicate: Vec<&str> = Field::ALL
        .iter()
        .filter(|field| is_delicate(**field, account.value(**field)))
        .map(|field| field.name())
        .collect();
    if delicate.is_empty() {
        return None;
    }
    Some(format!(
        "a service may store {} in another form when they are written again, and the check could not restore that. It needs \
         plain values: no & < > or quotes, no white space at the ends or twice, telephone numbers of digits alone, domains \
         and e-mail addresses in lower case, no / at the end of a URL",
        joined(delicate.into_iter())
    ))
}

/// Why an account must not be written that has members unknown to this version. Even `false` may be what somebody chose.
pub(super) fn unknown_members(raw: &Map<String, Value>) -> Option<String> {
    let is_known = |name: &str| MEMBERS.iter().any(|member| member.wire == name);
    let is_there = raw.iter().any(|(name, value)| !is_known(name) && !value.is_null());
    is_there.then(|| {
        "it has members that this version does not know, and an update, which cannot carry them, may clear them"
            .to_owned()
    })
}

/// Whether a service may store a value otherwise than it was sent.
fn is_delicate(field: Field, value: Option<FieldValue<'_>>) -> bool {
    let Some(FieldValue::Text(text)) = value else { return false };
    let spaced = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if spaced != text || text.contains(['&', '<', '>', '"', '\'', '\\']) || text.chars().any(char::is_control) {
        return true;
    }
    match field {
        Field::CompanySize => !crate::account::CompanySize::DOCUMENTED.contains(&text),
        Field::Phone => !text.strip_prefix('+').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit()),
        Field::DomainName | Field::DomainSecondary | Field::Email => text.to_lowercase() != text,
        Field::LinkedInUrl | Field::TwitterUrl | Field::LogoUrl => text.ends_with('/'),
        _ => false,
    }
}

/// The change of a trial.
pub(super) fn trial_change(account: &ContactAccount) -> Change {
    Change { field: FIELD, before: account.value(FIELD).into(), after: change::Value::Text(TEXT.to_owned()) }
}

/// How the service stored the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoredText {
    AsSent,
    Trimmed,
    SpacesJoined,
    Escaped,
    NotAtAll,
    Otherwise,
}

impl StoredText {
    pub(super) fn of(stored: Option<FieldValue<'_>>) -> Self {
        let text = match stored {
            None | Some(FieldValue::Integer(_)) => return Self::NotAtAll,
            Some(FieldValue::Text(text)) => text,
        };
        match text {
            "" => Self::NotAtAll,
            TEXT => Self::AsSent,
            text if text == TEXT.trim() => Self::Trimmed,
            text if text == TEXT.split_whitespace().collect::<Vec<_>>().join(" ") => Self::SpacesJoined,
            text if text.contains("&amp;") || text.contains("&lt;") || text.contains("&quot;") => Self::Escaped,
            _ => Self::Otherwise,
        }
    }
}

/// The fields in which two states of an account differ.
pub(super) fn differing(one: &ContactAccount, other: &ContactAccount) -> Vec<Field> {
    let differs = |field: &Field| change::filled(one.value(*field)) != change::filled(other.value(*field));
    Field::ALL.iter().copied().filter(differs).collect()
}

/// Whether two states of an account have the same stage, as it came.
pub(super) fn same_stage(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let stage = |account: &Map<String, Value>| account.get("stage").cloned().unwrap_or_default();
    are_equal(&stage(one), &stage(other))
}

/// What is to be restored, and what is to be left alone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Restoring {
    /// The changes that restore what the trial changed.
    pub(super) changes: Vec<Change>,
    /// Fields that differ from before the trial, and not by what its update was answered with: somebody else may have
    /// changed them, so that nobody may overwrite them.
    pub(super) left_alone: Vec<Field>,
}

impl Restoring {
    /// From the account before the trial, what the update was answered with (if it was), and the account now.
    pub(super) fn of(before: &ContactAccount, answer: Option<&ContactAccount>, now: &ContactAccount) -> Self {
        let mut restoring = Self::default();
        for field in differing(before, now) {
            let value = now.value(field);
            let is_answered = answer.is_some_and(|answer| change::filled(answer.value(field)) == change::filled(value));
            if field == FIELD && is_text_of_check(value) || is_answered && (field != FIELD || answer_is_ours(answer)) {
                let (before, after) = (value.into(), before.value(field).into());
                restoring.changes.push(Change { field, before, after });
            } else {
                restoring.left_alone.push(field);
            }
        }
        restoring
    }
}

/// Whether a value is the text of the check, in whatever form.
pub(super) fn is_text_of_check(value: Option<FieldValue<'_>>) -> bool {
    let Some(FieldValue::Text(text)) = value else { return false };
    let letters: String = text.chars().filter(char::is_ascii_alphabetic).collect();
    letters.to_ascii_lowercase().contains(MARK)
}

/// Whether an answer shows that the update was applied: then whatever it has as the description came from the update.
fn answer_is_ours(answer: Option<&ContactAccount>) -> bool {
    answer.is_some_and(|answer| StoredText::of(answer.value(FIELD)) != StoredText::NotAtAll)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn account(members: &Value) -> (ContactAccount, Map<String, Value>) {
        let mut account = json!({"id": 7, "name": "Plain", "ownerUserId": 1, "description": null});
        let account = account.as_object_mut().unwrap();
        account.extend(members.as_object().unwrap().clone());
        (serde_json::from_value(Value::Object(account.clone())).unwrap(), account.clone())
    }

    fn refused(members: &Value) -> Option<String> {
        let (account, raw) = account(members);
        obstacle(&account, &raw)
    }

    #[test]
    fn only_an_account_whose_values_come_back_as_they_are_may_be_written() {
        for plain in
            [json!({}), json!({"description": ""}), json!({"phone": "+4721", "city": "São Paulo", "futureNull": null})]
        {
            assert_eq!(refused(&plain), None, "{plain}");
        }
        for (member, value) in [
            ("description", json!("theirs")),
            ("name", json!("A & B")),
            ("city", json!(" Oslo")),
            ("city", json!("New  York")),
            ("phone", json!("+47 21")),
            ("domainName", json!("Acme.example")),
            ("logoUrl", json!("https://a.example/")),
            ("companySize", json!("huge")),
            ("segment", json!("x")),
            ("segment", json!(false)),
            ("segment", json!([])),
        ] {
            let reason = refused(&json!({member: value})).unwrap();
            assert!(!reason.contains("Acme") && !reason.contains("huge") && !reason.contains("theirs"), "{reason}");
        }
    }

    #[test]
    fn what_the_service_did_to_the_text_is_told_apart() {
        let stored = |text: &str| StoredText::of(Some(FieldValue::Text(text)));
        assert_eq!(stored(TEXT), StoredText::AsSent);
        assert_eq!(stored(TEXT.trim()), StoredText::Trimmed);
        assert_eq!(stored(&TEXT.trim().replace("  ", " ")), StoredText::SpacesJoined);
        assert_eq!(stored(&TEXT.replace('&', "&amp;")), StoredText::Escaped);
        assert_eq!(stored("x"), StoredText::Otherwise);
        assert_eq!((stored(""), StoredText::of(None)), (StoredText::NotAtAll, StoredText::NotAtAll));
    }

    #[test]
    fn what_the_update_was_answered_with_is_restored_and_what_others_changed_is_not() {
        let (before, _) = account(&json!({"city": "Oslo", "state": "A"}));
        let (answer, _) = account(&json!({"city": null, "state": "A", "description": TEXT.trim(), "ownerUserId": 9}));
        let (now, _) = account(&json!({"city": null, "state": "B", "description": TEXT.trim(), "ownerUserId": 9}));
        let restoring = Restoring::of(&before, Some(&answer), &now);
        let fields: Vec<Field> = restoring.changes.iter().map(|change| change.field).collect();
        assert_eq!(fields, [Field::Description, Field::City, Field::OwnerUserId]);
        assert_eq!(restoring.left_alone, [Field::State]);
        assert_eq!(restoring.changes[0].after, change::Value::Null);
    }

    #[test]
    fn the_text_of_the_check_is_known_in_every_form_that_a_service_may_store() {
        let (before, _) = account(&json!({}));
        for stored in [
            TEXT.to_owned(),
            format!("<p>{TEXT}</p>"),
            format!("<div dir=\"ltr\">{}</div>", TEXT.replace('&', "&amp;").replace('<', "&lt;")),
            TEXT.to_uppercase(),
            TEXT.replace(' ', "\u{a0}"),
            TEXT.chars().take(25).collect(),
        ] {
            let (now, _) = account(&json!({"description": stored}));
            let (echo, _) = account(&json!({"description": TEXT}));
            for answer in [None, Some(&echo)] {
                let restoring = Restoring::of(&before, answer, &now);
                assert_eq!((restoring.changes.len(), restoring.left_alone.len()), (1, 0), "{stored}");
            }
        }
    }

    #[test]
    fn without_an_answer_only_the_text_of_the_check_is_taken_back() {
        let (before, _) = account(&json!({"city": "Oslo"}));
        let (now, _) = account(&json!({"city": "Bergen", "description": TEXT}));
        let restoring = Restoring::of(&before, None, &now);
        assert_eq!(restoring.changes.iter().map(|change| change.field).collect::<Vec<_>>(), [Field::Description]);
        assert_eq!(restoring.left_alone, [Field::City]);
        let (theirs, _) = account(&json!({"city": "Oslo", "description": "a colleague's words"}));
        for answer in [None, Some(&now)] {
            let restoring = Restoring::of(&before, answer, &theirs);
            assert_eq!((restoring.changes, restoring.left_alone), (Vec::new(), vec![Field::Description]));
        }
    }
}
