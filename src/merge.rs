//! The safe partial update. Pure: from an account and the changes meant to the body that makes just those.

use serde_json::Value;

use crate::account::{AccountFields, ContactAccount, Field, FieldValue, MEMBERS, Presence};

/// The update that makes the changes and keeps every other field, or `None` when the account is already so. To the
/// service `""`, `null` and nothing are the same emptiness, so they count as equal.
pub(crate) fn merge(current: &ContactAccount, changes: &AccountFields) -> Option<AccountFields> {
    let mut merged = current.fields();
    let mut differs = false;
    for &field in Field::ALL {
        let wanted = changes.get(field);
        if !wanted.is_absent() && filled(&wanted) != filled(&merged.get(field)) {
            merged.copy_from(changes, field);
            differs = true;
        }
    }
    differs.then_some(merged)
}

/// The fields in which an account is not what an update sent. What was left out was meant to be empty.
pub(crate) fn deviations(sent: &AccountFields, account: &ContactAccount) -> Vec<Field> {
    let answered = account.fields();
    let differs = |field: &Field| filled(&sent.get(*field)) != filled(&answered.get(*field));
    Field::ALL.iter().copied().filter(differs).collect()
}

/// The members that this version does not know and that an update wiped: they had a value before it, and have none in its
/// answer. The update could not carry them, so the service took them for cleared.
pub(crate) fn lost_members(before: &ContactAccount, after: &ContactAccount) -> Vec<String> {
    let had_value = |name: &String, value: &Value| {
        let is_known = MEMBERS.iter().any(|member| member.wire == name);
        !is_known && !is_nothing(value)
    };
    let is_lost = |name: &String| after.extra.get(name).is_none_or(is_nothing);
    let lost = before.extra.iter().filter(|(name, value)| had_value(name, value) && is_lost(name));
    lost.map(|(name, _)| name.clone()).collect()
}

/// Whether a value is one of the forms that "nothing" is answered in.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The value, unless it is one of the empty ones.
fn filled<'a>(presence: &'a Presence<FieldValue<'_>>) -> Option<&'a FieldValue<'a>> {
    presence.value().filter(|value| **value != FieldValue::Text(""))
}

#[cfg(test)]
mod tests {
    use super::{AccountFields, ContactAccount, Field, Presence, deviations, lost_members, merge};
    use crate::account::CompanySize;

    fn account() -> ContactAccount {
        serde_json::from_str(
            r#"{"id": 7, "ownerUserId": 1, "name": "Acme", "linkedProspectsCount": 0, "city": "Oslo", "phone": "",
                "companySize": "enormous", "createdDate": "2023-11-07T05:31:56Z", "lastActivityDate": "2023-11-07T05:31:56Z"}"#,
        )
        .unwrap()
    }

    fn text(value: &str) -> Presence<String> {
        Presence::Value(value.to_owned())
    }

    #[test]
    fn what_is_not_named_is_kept() {
        let changes = AccountFields { country: text("Norway"), ..AccountFields::default() };
        let merged = merge(&account(), &changes).unwrap();
        let expected = AccountFields { country: text("Norway"), ..account().fields() };
        assert_eq!(merged, expected);
        assert_eq!((merged.city, merged.owner_user_id), (text("Oslo"), Presence::Value(1)));
        assert_eq!(merged.company_size, Presence::Value(CompanySize::Unknown("enormous".into())));
    }

    #[test]
    fn a_change_to_what_already_is_changes_nothing() {
        let changes =
            AccountFields { city: text("Oslo"), owner_user_id: Presence::Value(1), ..AccountFields::default() };
        assert_eq!(merge(&account(), &changes), None);
        assert_eq!(merge(&account(), &AccountFields::default()), None);
    }

    #[test]
    fn the_empty_values_are_equal() {
        for empty in [Presence::Null, text("")] {
            let changes = AccountFields { phone: empty.clone(), country: empty.clone(), ..AccountFields::default() };
            assert_eq!(merge(&account(), &changes), None);
            let clearing = AccountFields { city: empty.clone(), ..AccountFields::default() };
            assert_eq!(merge(&account(), &clearing).unwrap().city, empty);
        }
    }

    #[test]
    fn a_merge_applied_changes_nothing_when_repeated() {
        let changes = AccountFields { city: Presence::Null, industry: text("Software"), ..AccountFields::default() };
        let merged = merge(&account(), &changes).unwrap();
        let after = ContactAccount { city: None, industry: Some("Software".into()), ..account() };
        assert_eq!(deviations(&merged, &after), []);
        assert_eq!(merge(&after, &changes), None);
    }

    #[test]
    fn an_answer_that_differs_names_the_fields() {
        let sent = AccountFields { country: text("Norway"), ..account().fields() };
        let answered = ContactAccount { city: None, phone: None, ..account() };
        assert_eq!(deviations(&sent, &answered), [Field::Country, Field::City]);
    }

    #[test]
    fn a_member_that_is_unknown_here_and_gone_after_an_update_is_lost() {
        let with = |extra: serde_json::Value| {
            let serde_json::Value::Object(extra) = extra else { panic!("not an object") };
            ContactAccount { extra, ..account() }
        };
        let before = with(serde_json::json!({
            "kept": 1, "changed": "a", "gone": "x", "null": "x", "text": "x", "list": ["x"], "object": {"a": 1},
            "flag": true, "wasNull": null, "wasEmpty": "", "createdDate": "unreadable",
        }));
        let after = with(serde_json::json!({
            "kept": 1, "changed": "b", "null": null, "text": "", "list": [], "object": {}, "flag": false, "new": 1,
        }));
        assert_eq!(lost_members(&before, &after), ["gone", "list", "null", "object", "text"]);
        assert_eq!(lost_members(&before, &before), [""; 0]);
    }
}
