//! Changes of an account, their result, and what an answer shows of them. Pure.
//!
//! The service treats `""`, `null` and a missing member as empty, and has `Empty` for an unknown company size. They are
//! equal in every comparison: a service may show one where another was sent, and its list another than `GET`.

use std::borrow::Cow;

use crate::account::{AccountFields, ContactAccount, Field, FieldValue, MEMBERS, Presence, STAGE, WrongKind};

/// The company size that the service shows for an unknown one.
pub(crate) const UNKNOWN_SIZE: &str = "Empty";

/// The value of a field in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// No value: `null`.
    Null,
    /// Text, or a company size in the form that updates send. `""` stays `""`.
    Text(String),
    /// The id of a user.
    Integer(i64),
}

impl Value {
    /// Returns the value in the form of a field; `None` is no value.
    pub fn as_field_value(&self) -> Option<FieldValue<'_>> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(FieldValue::Text(text)),
            Self::Integer(number) => Some(FieldValue::Integer(*number)),
        }
    }

    /// Returns whether the service treats two values of a field as equal.
    pub fn is(&self, field: Field, other: Option<FieldValue<'_>>) -> bool {
        filled(field, self.as_field_value()) == filled(field, other)
    }

    /// Returns whether it is one of the empty values of a field.
    pub fn is_empty(&self, field: Field) -> bool {
        self.is(field, None)
    }
}

impl From<Option<FieldValue<'_>>> for Value {
    fn from(value: Option<FieldValue<'_>>) -> Self {
        match value {
            None => Self::Null,
            Some(FieldValue::Text(text)) => Self::Text(text.to_owned()),
            Some(FieldValue::Integer(number)) => Self::Integer(number),
        }
    }
}

/// A change of one field of one account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// The field.
    pub field: Field,
    /// The value before the change.
    pub before: Value,
    /// The value after the change.
    pub after: Value,
    /// Whether a row names the field. A revert also restores fields that no row named and that an update spoiled,
    /// unless someone has changed them since.
    pub is_planned: bool,
}

impl Change {
    /// Returns the change of a field that a row names.
    pub fn new(field: Field, before: Value, after: Value) -> Self {
        Self { field, before, after, is_planned: true }
    }

    /// Returns whether it changes nothing, and only stores the value that a field had before an update that does not
    /// name it.
    #[cfg(feature = "plan")]
    pub(crate) fn is_unnamed(&self) -> bool {
        !self.is_planned && self.before == self.after
    }

    /// Returns the change from the current value of an account to the given value; `None` if they are equal.
    pub fn between(field: Field, before: Option<FieldValue<'_>>, after: Option<FieldValue<'_>>) -> Option<Self> {
        let differs = filled(field, before) != filled(field, after);
        differs.then(|| Self::new(field, before.into(), after.into()))
    }
}

/// Returns the changes that the given fields make to an account. An absent field changes nothing.
pub(crate) fn changes(current: &ContactAccount, wanted: &AccountFields) -> Vec<Change> {
    let change = |field: Field| match wanted.get(field) {
        Presence::Absent => None,
        Presence::Null => Change::between(field, current.value(field), None),
        Presence::Value(value) => Change::between(field, current.value(field), Some(value)),
    };
    Field::ALL.iter().copied().filter_map(change).collect()
}

/// Returns the update that makes the changes and keeps every other field of the account.
///
/// # Errors
/// Returns [`WrongKind`] if the type of a change does not match its field.
pub(crate) fn merged(current: &ContactAccount, changes: &[Change]) -> Result<AccountFields, WrongKind> {
    let mut fields = current.fields();
    for change in changes {
        fields.set(change.field, change.after.as_field_value())?;
    }
    Ok(fields)
}

/// The state of an account, compared with the planned changes.
#[cfg(feature = "plan")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Drift {
    /// The changes are not made yet.
    None,
    /// All changes are already made.
    Done,
    /// Someone changed these fields to another value.
    Conflict(Vec<Field>),
}

/// Compares an account with the planned changes.
#[cfg(feature = "plan")]
pub(crate) fn drift(current: &ContactAccount, changes: &[Change]) -> Drift {
    let is = |field: Field, value: &Value| value.is(field, current.value(field));
    let changes = changes.iter().filter(|change| !change.is_unnamed());
    if changes.clone().all(|change| is(change.field, &change.after)) {
        return Drift::Done;
    }
    let foreign = |change: &&Change| !is(change.field, &change.before) && !is(change.field, &change.after);
    let conflicts: Vec<Field> = changes.filter(foreign).map(|change| change.field).collect();
    if conflicts.is_empty() { Drift::None } else { Drift::Conflict(conflicts) }
}

/// What the answer to an update shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deviations {
    /// The fields in which the answer differs from what was sent.
    pub fields: Vec<Field>,
    /// The fields that a call does not name, and that had another value when it first read the account than in the last
    /// update that it sent: an earlier update without an answer altered them, or someone changed them meanwhile.
    pub altered: Vec<Field>,
    /// The members that the account had before the update, that an update cannot include, and that the answer lacks:
    /// the service cleared them.
    pub lost: Vec<String>,
}

impl Deviations {
    /// Compares the account before an update, the sent fields and the answer. A field that was left out should be
    /// empty.
    pub(crate) fn of(before: &ContactAccount, sent: &AccountFields, answer: &ContactAccount) -> Self {
        let is_as_sent = |field: Field| {
            let sent = sent.get(field);
            filled(field, sent.value().copied()) == filled(field, answer.value(field))
        };
        let fields = Field::ALL.iter().copied().filter(|field| !is_as_sent(*field)).collect();
        let lost = unsendable_members(before).filter(|name| has_lost(name, &unsendable(before, name), answer));
        Self { fields, altered: Vec::new(), lost: lost.map(ToOwned::to_owned).collect() }
    }

    /// Returns whether the answer matches what was sent, and nothing else was altered.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.altered.is_empty() && self.lost.is_empty()
    }
}

/// Returns the fields that the changes do not name, and in which an update differs from the account at the first read.
pub(crate) fn altered(first: &ContactAccount, sent: &AccountFields, changes: &AccountFields) -> Vec<Field> {
    let is_altered = |field: &Field| {
        let value = sent.get(*field).value().copied();
        changes.get(*field).is_absent() && filled(*field, value) != filled(*field, first.value(*field))
    };
    Field::ALL.iter().copied().filter(is_altered).collect()
}

/// Returns the members with a value that an update cannot include and may clear: `stage`, and members that this version
/// does not know. The service computes the other read-only members.
pub(crate) fn unsendable_members(account: &ContactAccount) -> impl Iterator<Item = &str> {
    let has_value = move |(name, value): &(&String, &serde_json::Value)| !is_known(name) && !is_nothing(value);
    let unknown = account.extra.iter().filter(has_value).map(|(name, _)| name.as_str());
    has_stage(account).then_some(STAGE).into_iter().chain(unknown)
}

/// Returns these members, and also those without a value if the answer had them.
#[cfg(feature = "plan")]
pub(crate) fn unsendable_keys(account: &ContactAccount) -> impl Iterator<Item = &str> {
    let unknown = account.extra.keys().map(String::as_str).filter(|name| !is_known(name));
    (account.answered_stage || has_stage(account)).then_some(STAGE).into_iter().chain(unknown)
}

/// Returns whether an account has a value in a member that an update cannot include.
#[cfg(feature = "plan")]
pub(crate) fn has_unsendable(account: &ContactAccount, name: &str) -> bool {
    !is_nothing(&unsendable(account, name))
}

/// Returns the value of such a member.
pub(crate) fn unsendable<'a>(account: &'a ContactAccount, name: &str) -> Cow<'a, serde_json::Value> {
    match &account.stage {
        Some(stage) if name == STAGE => Cow::Owned(serde_json::json!({"id": stage.id, "name": stage.name})),
        // An unreadable stage is in `extra`.
        _ => account.extra.get(name).map_or(Cow::Owned(serde_json::Value::Null), Cow::Borrowed),
    }
}

/// Returns whether an update cleared such a member or a part of it, or reset the stage. `before` is its value before
/// the update.
pub(crate) fn has_lost(name: &str, before: &serde_json::Value, answer: &ContactAccount) -> bool {
    let after = unsendable(answer, name);
    if name == STAGE {
        return is_nothing(&after) || before.get("id") != after.get("id");
    }
    has_lost_a_part(before, &after)
}

/// Returns whether something that had a value is now empty.
fn has_lost_a_part(before: &serde_json::Value, after: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Null, Object};
    match (before, after) {
        (before, _) if is_nothing(before) => false,
        (_, after) if is_nothing(after) => true,
        (Object(before), Object(after)) => {
            before.iter().any(|(name, value)| has_lost_a_part(value, after.get(name).unwrap_or(&Null)))
        }
        (Array(before), Array(after)) => {
            before.len() > after.len() || before.iter().zip(after).any(|(before, after)| has_lost_a_part(before, after))
        }
        _ => false,
    }
}

/// Returns whether the contract has a member. It is in an account's `extra` too if its value was unreadable.
fn is_known(name: &str) -> bool {
    MEMBERS.iter().any(|member| member.wire == name)
}

fn has_stage(account: &ContactAccount) -> bool {
    // An unreadable stage is in `extra`.
    account.stage.as_ref().is_some_and(|stage| stage.id != 0 || !stage.name.is_empty())
        || account.extra.get(STAGE).is_some_and(|value| !is_nothing(value))
}

/// Returns whether a value is one of the forms of an empty value in an answer. A reset member may have `0` or `false`.
fn is_nothing(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null | serde_json::Value::Bool(false) => true,
        serde_json::Value::Bool(true) => false,
        serde_json::Value::Number(number) => number.as_f64() == Some(0.0),
        serde_json::Value::String(text) => text.is_empty(),
        serde_json::Value::Array(items) => items.iter().all(is_nothing),
        serde_json::Value::Object(members) => members.values().all(is_nothing),
    }
}

/// Returns the value of a field, unless it is one of the empty ones.
pub(crate) fn filled(field: Field, value: Option<FieldValue<'_>>) -> Option<FieldValue<'_>> {
    let is_empty = |text: &str| text.is_empty() || (field == Field::CompanySize && text == UNKNOWN_SIZE);
    value.filter(|value| !matches!(value, FieldValue::Text(text) if is_empty(text)))
}

#[cfg(test)]
mod tests {
    use super::{Change, Deviations, Value, changes, merged};
    use crate::account::{AccountFields, CompanySize, ContactAccount, Field, Presence};

    fn account() -> ContactAccount {
        serde_json::from_str(
            r#"{"id": 7, "ownerUserId": 1, "name": "Acme", "linkedProspectsCount": 0, "city": "Oslo", "phone": "",
                "companySize": "enormous", "createdDate": "2023-11-07T05:31:56Z",
                "lastActivityDate": "2023-11-07T05:31:56Z"}"#,
        )
        .unwrap()
    }

    fn text(value: &str) -> Presence<String> {
        Presence::Value(value.to_owned())
    }

    #[test]
    fn what_is_not_named_is_kept() {
        let wanted = AccountFields { country: text("Norway"), ..AccountFields::default() };
        let merged = merged(&account(), &changes(&account(), &wanted)).unwrap();
        assert_eq!(merged, AccountFields { country: text("Norway"), ..account().fields() });
        assert_eq!((merged.city, merged.owner_user_id), (text("Oslo"), Presence::Value(1)));
        assert_eq!(merged.company_size, Presence::Value(CompanySize::Unknown("enormous".into())));
    }

    #[test]
    fn a_change_to_what_already_is_changes_nothing() {
        let wanted =
            AccountFields { city: text("Oslo"), owner_user_id: Presence::Value(1), ..AccountFields::default() };
        assert_eq!(changes(&account(), &wanted), []);
        assert_eq!(changes(&account(), &AccountFields::default()), []);
    }

    #[test]
    fn the_empty_values_are_equal() {
        for (empty, value) in [(Presence::Null, Value::Null), (text(""), Value::Text(String::new()))] {
            let wanted = AccountFields { phone: empty.clone(), country: empty.clone(), ..AccountFields::default() };
            assert_eq!(changes(&account(), &wanted), []);
            let wanted = AccountFields { city: empty.clone(), ..AccountFields::default() };
            let change = Change::new(Field::City, Value::Text("Oslo".into()), value);
            assert_eq!(changes(&account(), &wanted), std::slice::from_ref(&change));
            assert_eq!(merged(&account(), &[change]).unwrap().city, empty);
        }
    }

    #[test]
    fn a_merge_applied_changes_nothing_when_repeated() {
        let wanted = AccountFields { city: Presence::Null, industry: text("Software"), ..AccountFields::default() };
        let sent = merged(&account(), &changes(&account(), &wanted)).unwrap();
        let after = ContactAccount { city: None, industry: Some("Software".into()), ..account() };
        assert!(Deviations::of(&account(), &sent, &after).is_empty());
        assert_eq!(changes(&after, &wanted), []);
    }

    #[test]
    fn an_answer_that_differs_names_the_fields() {
        let sent = AccountFields { country: text("Norway"), ..account().fields() };
        let answered = ContactAccount { city: None, phone: None, ..account() };
        assert_eq!(Deviations::of(&account(), &sent, &answered).fields, [Field::Country, Field::City]);
    }

    #[test]
    fn a_member_that_is_unknown_here_and_gone_after_an_update_is_lost() {
        let with = |extra: serde_json::Value| {
            let serde_json::Value::Object(extra) = extra else { panic!("not an object") };
            ContactAccount { extra, ..account() }
        };
        let before = with(serde_json::json!({
            "kept": 1, "changed": "a", "gone": "x", "null": "x", "text": "x", "list": ["x"], "object": {"a": 1},
            "flag": true, "count": 5, "nested": {"a": "x"}, "wasNull": null, "wasEmpty": "", "wasZero": 0,
            "createdDate": "unreadable",
        }));
        let after = with(serde_json::json!({
            "kept": 1, "changed": "b", "null": null, "text": "", "list": [null], "object": {}, "flag": false,
            "count": 0, "nested": {"a": null}, "new": 1,
        }));
        let lost = |answer| Deviations::of(&before, &account().fields(), answer).lost;
        assert_eq!(lost(&after), ["count", "flag", "gone", "list", "nested", "null", "object", "text"]);
        assert_eq!(lost(&before), [""; 0]);
    }

    #[test]
    fn a_stage_that_is_gone_empty_or_another_one_is_lost() {
        let staged = |stage: serde_json::Value| {
            let mut members = serde_json::to_value(account()).unwrap();
            members["stage"] = stage;
            serde_json::from_value::<ContactAccount>(members).unwrap()
        };
        let lead = || staged(serde_json::json!({"id": 3, "name": "Lead"}));
        let lost =
            |before: &ContactAccount, answer: &ContactAccount| Deviations::of(before, &account().fields(), answer).lost;
        for stage in [
            serde_json::json!(null),
            serde_json::json!({"id": 0, "name": "", "colorId": 0}),
            serde_json::json!({"id": 1, "name": "New"}),
        ] {
            assert_eq!(lost(&lead(), &staged(stage)), ["stage"]);
        }
        assert_eq!(lost(&lead(), &staged(serde_json::json!({"id": 3, "name": "Renamed"}))), [""; 0]);
        assert_eq!(lost(&staged(serde_json::json!({"id": 0, "name": ""})), &account()), [""; 0]);
    }

    #[test]
    fn a_part_of_a_member_that_is_gone_is_lost() {
        use serde_json::json;
        for (before, after) in [
            (json!([{"key": "tier", "value": "gold"}]), json!([{"key": "tier", "value": null}])),
            (json!({"type": "a", "v": "gold"}), json!({"type": "a"})),
            (json!(["a", "b"]), json!(["a"])),
        ] {
            assert!(super::has_lost_a_part(&before, &after), "{before} {after}");
            assert!(!super::has_lost_a_part(&before, &before));
            assert!(!super::has_lost_a_part(&after, &before));
        }
        assert!(!super::has_lost_a_part(&json!({"at": 1}), &json!({"at": 2, "by": 3})));
    }
}
