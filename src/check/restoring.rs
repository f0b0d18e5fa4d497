//! What a trial may write, what the service kept of it, and what to restore. Pure.

use serde_json::{Map, Value};

use crate::account::{ContactAccount, Field, FieldValue, MEMBERS};
use crate::change::{self, Change};

use super::facts::{are_equal, is_empty};
use super::wording::joined;

/// The text that a trial writes into an empty description. It names its origin, and contains characters that a service
/// might store in another form. It never replaces a value, so a process that ends during the trial loses nothing.
pub(super) const TEXT: &str = "Written by replyio check; delete this. a & b < c > d \"e\"  f ";
/// A text is that of the check if it has at least this many of its letters, and no others. Other characters are
/// ignored, so that it is recognized in any stored form: wrapped, escaped or truncated.
const MARK: usize = "writtenbyreplyio".len();
/// The longest tag or character reference that counts as markup.
const LONGEST_MARKUP: usize = 200;
const MARKUP: [&str; 15] =
    ["p", "div", "br", "span", "html", "body", "pre", "b", "i", "em", "strong", "amp", "lt", "gt", "quot"];
/// The only field that a trial changes.
pub(super) const FIELD: Field = Field::Description;

/// Returns why an account must not be updated: the trial must be able to restore it, whatever the service does.
pub(super) fn obstacle(account: &ContactAccount, raw: &Map<String, Value>) -> Option<String> {
    if let Some(reason) = unknown_members(raw) {
        return Some(reason);
    }
    if !raw.get(FIELD.wire()).is_none_or(is_empty) {
        return Some("its description is not empty, and the check writes only into an empty one".to_owned());
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
        "a service may store {} in another form when the check sends them again, and the check could not restore \
        them. The check needs plain values: no & < > or quotes, no leading, trailing or repeated white space, phone \
        numbers that consist of digits, domains and email addresses in lower case, and no / at the end of a URL",
        joined(delicate.into_iter())
    ))
}

/// Returns why an account with members unknown to this version must not be updated. Even `false` may be a deliberate
/// value.
pub(super) fn unknown_members(raw: &Map<String, Value>) -> Option<String> {
    let is_known = |name: &str| MEMBERS.iter().any(|member| member.wire == name);
    let is_there = raw.iter().any(|(name, value)| !is_known(name) && !value.is_null());
    is_there.then(|| {
        "it has members that this version does not know, and an update cannot include them and may clear them"
            .to_owned()
    })
}

/// Returns whether a service may store a value in another form than the one sent.
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

/// Returns the change that a trial makes.
pub(super) fn trial_change(account: &ContactAccount) -> Change {
    Change::new(FIELD, account.value(FIELD).into(), change::Value::Text(TEXT.to_owned()))
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

/// Returns the fields in which two states of an account differ.
pub(super) fn differing(one: &ContactAccount, other: &ContactAccount) -> Vec<Field> {
    let differs =
        |field: &Field| change::filled(*field, one.value(*field)) != change::filled(*field, other.value(*field));
    Field::ALL.iter().copied().filter(differs).collect()
}

/// Returns whether two states of an account have the same stage in the original JSON.
pub(super) fn same_stage(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let stage = |account: &Map<String, Value>| account.get("stage").cloned().unwrap_or_default();
    are_equal(&stage(one), &stage(other))
}

/// What to restore, and what to leave alone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Restoring {
    /// The changes that restore what the trial changed.
    pub(super) changes: Vec<Change>,
    /// Fields that differ from before the trial for another reason than its update. Someone else may have changed them,
    /// so the trial must not overwrite them.
    pub(super) left_alone: Vec<Field>,
}

impl Restoring {
    /// Compares the account before the trial, the answer to the update (if there was one), and the current account.
    pub(super) fn of(before: &ContactAccount, answer: Option<&ContactAccount>, now: &ContactAccount) -> Self {
        let mut restoring = Self::default();
        for field in differing(before, now) {
            let value = now.value(field);
            let is_answered =
                answer.is_some_and(|answer| change::filled(field, answer.value(field)) == change::filled(field, value));
            if field == FIELD && is_text_of_check(value) || is_answered && (field != FIELD || answer_is_ours(answer)) {
                let (before, after) = (value.into(), before.value(field).into());
                restoring.changes.push(Change::new(field, before, after));
            } else {
                restoring.left_alone.push(field);
            }
        }
        restoring
    }
}

/// Returns whether a value is the text of the check, in any form, and nothing else: someone may have added to it.
pub(super) fn is_text_of_check(value: Option<FieldValue<'_>>) -> bool {
    let Some(FieldValue::Text(text)) = value else { return false };
    let written = letters(TEXT);
    [letters(text), letters(&without_markup(text))]
        .iter()
        .any(|found| found.len() >= MARK && written.starts_with(found))
}

fn letters(text: &str) -> String {
    text.chars().filter(|character| character.is_alphanumeric()).collect::<String>().to_lowercase()
}

/// Removes the tags and character references that an editor of texts adds. The text itself has `&`, `<` and `>`.
fn without_markup(text: &str) -> String {
    let (mut rest, mut found) = (text, String::new());
    while let Some(start) = rest.find(['<', '&']) {
        let (before, markup) = rest.split_at(start);
        found.push_str(before);
        let end = if markup.starts_with('<') { '>' } else { ';' };
        let name = markup.get(1..).unwrap_or_default().trim_start_matches('/');
        let name = name.split([' ', '/', end]).next().unwrap_or_default();
        let is_known = MARKUP.contains(&name) || (name.starts_with('#') && name.len() <= "#x1F600".len());
        let length = markup.find(end).filter(|length| is_known && *length <= LONGEST_MARKUP).unwrap_or(0);
        rest = markup.get(length + 1..).unwrap_or_default();
    }
    found + rest
}

/// Returns whether an answer shows that the update was applied. Then its description comes from the update.
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

    #[test]
    fn a_text_to_which_someone_has_added_is_not_taken_back() {
        let (before, _) = account(&json!({}));
        let (echo, _) = account(&json!({"description": TEXT}));
        for stored in [
            format!("{TEXT} Call Anna on Monday."),
            format!("{TEXT} Позвонить Анне"),
            format!("{TEXT} +47 900 00 000"),
            format!("{TEXT} <anna@acme.example>"),
            format!("<p>{}</p><p>Call Anna</p>", TEXT.replace('&', "&amp;").replace('<', "&lt;")),
            format!("Call Anna. {TEXT}"),
            "Written by replyio check, ask Bob".to_owned(),
        ] {
            let (now, _) = account(&json!({"description": stored}));
            for answer in [None, Some(&echo)] {
                let restoring = Restoring::of(&before, answer, &now);
                assert_eq!(
                    (restoring.changes, restoring.left_alone),
                    (Vec::new(), vec![Field::Description]),
                    "{stored}"
                );
            }
        }
    }
}
