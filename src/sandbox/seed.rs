//! The accounts that a sandbox starts with.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::value::MapDeserializer;
use serde_json::{Map, Value, json};

use super::SandboxError;
use crate::account::{ContactAccount, FieldSet, MEMBERS, check_id, nearest};

/// The owner of an account that was given without one.
const OWNER: i64 = 42;
/// The dates of an account that was given without them: 2025-01-15T09:30:00Z.
const BEFORE: Timestamp = Timestamp::constant(1_736_933_400, 0);

/// Makes an account from as little as its id and name. Names are taken in both spellings, `owner_user_id` and
/// `ownerUserId`; what is left out is the default (owner 42, no prospects, fixed dates, everything else `null`). Members
/// that the contract does not know go under `extra`.
///
/// # Errors
/// A member is misspelt, missing, given twice, or has the wrong type.
pub fn account_from_json(given: &Value) -> Result<ContactAccount, SandboxError> {
    let given = given.as_object().ok_or_else(|| refusal("an account must be an object".to_owned()))?;
    account_from_members(given.iter().map(|(name, value)| (name.as_str(), value.clone())))
}

fn refusal(reason: String) -> SandboxError {
    SandboxError::Account { reason }
}

/// Makes an account from its members; see [`account_from_json`]. Many are made at the start of a sandbox.
///
/// # Errors
/// A member is misspelt, missing, given twice, or has the wrong type.
pub(crate) fn account_from_members<'a>(
    given: impl Iterator<Item = (&'a str, Value)>,
) -> Result<ContactAccount, SandboxError> {
    let mut members: Vec<(&str, Value)> = Vec::with_capacity(MEMBERS.len());
    let mut extra = None;
    for (name, value) in given {
        if name == "extra" {
            extra = Some(value);
            continue;
        }
        let Some(member) = MEMBERS.iter().find(|member| member.name == name || member.wire == name) else {
            let hint = nearest(name, MEMBERS.iter().map(|member| member.name));
            let hint = hint.map(|right| format!("; did you mean {right}?")).unwrap_or_default();
            return Err(refusal(format!("there is no member {name:?}{hint}")));
        };
        if members.iter().any(|(wire, _)| *wire == member.wire) {
            return Err(refusal(format!("{} is given twice, in both spellings", member.name)));
        }
        members.push((member.wire, if member.wire == "stage" { wire_stage(&value) } else { value }));
    }
    match members.iter_mut().find(|(wire, _)| *wire == "ownerUserId") {
        Some((_, value)) if value.is_null() => *value = OWNER.into(),
        Some(_) => {}
        None => members.push(("ownerUserId", OWNER.into())),
    }
    let extra = match extra {
        Some(Value::Object(extra)) => extra,
        _ => Map::new(),
    };
    let all = members.into_iter().chain(extra.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let mut account = ContactAccount::deserialize(MapDeserializer::<_, serde_json::Error>::new(all))
        .map_err(|error| refusal(error.to_string()))?;
    (account.answered, account.answered_stage) = (FieldSet::ALL, true);
    // The client keeps a wrong value under the member's own name; here it is a mistake.
    if let Some(member) = MEMBERS.iter().find(|member| account.extra.contains_key(member.wire)) {
        return Err(refusal(format!("{} must be {}", member.name, member.kind.expected())));
    }
    account.linked_prospects_count.get_or_insert(0);
    account.created_date.get_or_insert_with(|| BEFORE.into());
    account.last_activity_date.get_or_insert_with(|| BEFORE.into());
    check_id(account.id).map_err(|fault| refusal(format!("{} {}", fault.field, fault.message)))?;
    if account.name.trim().is_empty() {
        return Err(refusal("name must not be blank".to_owned()));
    }
    Ok(account)
}

/// A stage in the wire's spelling.
fn wire_stage(stage: &Value) -> Value {
    let Some(given) = stage.as_object() else { return stage.clone() };
    let mut members = given.clone();
    if let Some(color) = members.remove("color_id") {
        members.insert("colorId".to_owned(), color);
    }
    if let Some(Value::Object(extra)) = members.remove("extra") {
        members.extend(extra);
    }
    Value::Object(members)
}

/// The accounts of a sandbox that was given none.
pub(super) fn default_accounts() -> Result<Vec<ContactAccount>, SandboxError> {
    [
        json!({
            "id": 4711, "name": "Acme", "ownerUserId": 42, "description": "Industrial supplies, customer since 2021",
            "domainName": "acme.example", "domainSecondary": "acme-supplies.example", "industry": "Manufacturing",
            "companySize": "51-200", "country": "Norway", "state": "Oslo", "city": "Oslo", "timeZoneId": "Europe/Oslo",
            "linkedInUrl": "https://www.linkedin.com/company/acme", "phone": "+47 21 00 00 00",
            "twitterUrl": "https://twitter.com/acme", "logoUrl": "https://acme.example/logo.png",
            "email": "hello@acme.example", "linkedProspectsCount": 12, "createdDate": "2023-11-07T05:31:56Z",
            "lastActivityDate": "2026-09-08T12:08:22.58Z", "stage": {"id": 3, "name": "Customer", "colorId": 7},
            "emailProvider": "Gmail",
        }),
        json!({
            "id": 4712, "name": "Globex", "ownerUserId": 42, "description": "Energy, pilot in two regions",
            "domainName": "globex.example", "domainSecondary": "globex-energy.example", "industry": "Energy",
            "companySize": "1001-5000", "country": "Germany", "state": "Bayern", "city": "München",
            "timeZoneId": "Europe/Berlin", "linkedInUrl": "https://www.linkedin.com/company/globex",
            "phone": "+49 89 0000000", "twitterUrl": "https://twitter.com/globex",
            "logoUrl": "https://globex.example/logo.png", "email": "info@globex.example", "linkedProspectsCount": 48,
            "createdDate": "2024-02-19T14:02:11.4Z", "lastActivityDate": "2026-10-30T08:45:00Z",
            "stage": {"id": 2, "name": "Opportunity", "colorId": 4}, "emailProvider": "Outlook",
        }),
        json!({
            "id": 4713, "name": "Initech", "ownerUserId": 43, "description": "Software, met at a fair",
            "domainName": "initech.example", "domainSecondary": "initech-labs.example", "industry": "Software",
            "companySize": "11-50", "country": "United States", "state": "Texas", "city": "Austin",
            "timeZoneId": "America/Chicago", "linkedInUrl": "https://www.linkedin.com/company/initech",
            "phone": "+1 512 555 0100", "twitterUrl": "https://twitter.com/initech",
            "logoUrl": "https://initech.example/logo.png", "email": "contact@initech.example",
            "linkedProspectsCount": 5, "createdDate": "2025-06-03T16:20:09.125Z",
            "lastActivityDate": "2026-11-12T19:03:47Z", "stage": {"id": 1, "name": "Lead", "colorId": 1},
            "emailProvider": "Other",
        }),
    ]
    .iter()
    .map(account_from_json)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_and_a_name_are_enough() {
        let account = account_from_json(&json!({"id": 1, "name": "Acme"})).unwrap();
        assert_eq!((account.owner_user_id, account.linked_prospects_count), (42, Some(0)));
        assert_eq!((account.city, account.stage), (None, None));
        assert_eq!(serde_json::to_value(account.created_date).unwrap(), "2025-01-15T09:30:00Z");
    }

    #[test]
    fn both_spellings_are_taken_and_both_at_once_are_refused() {
        let snake =
            json!({"id": 1, "name": "A", "linked_in_url": "x", "stage": {"id": 1, "name": "Lead", "color_id": 2}});
        let wire = json!({"id": 1, "name": "A", "linkedInUrl": "x", "stage": {"id": 1, "name": "Lead", "colorId": 2}});
        assert_eq!(account_from_json(&snake).unwrap(), account_from_json(&wire).unwrap());
        let both = json!({"id": 1, "name": "A", "linkedInUrl": "x", "linked_in_url": "x"});
        assert!(account_from_json(&both).unwrap_err().to_string().contains("given twice"));
    }

    #[test]
    fn a_misspelt_member_is_refused_with_the_right_one() {
        let error = account_from_json(&json!({"id": 1, "name": "A", "linkdin_url": "x"})).unwrap_err().to_string();
        assert!(error.contains("did you mean linked_in_url?"), "{error}");
    }

    #[test]
    fn what_no_account_can_be_is_refused() {
        for bad in [
            json!([]),
            json!({"id": 1}),
            json!({"name": "A"}),
            json!({"id": 0, "name": "A"}),
            json!({"id": 1, "name": " "}),
            json!({"id": 1, "name": "A", "city": 7}),
            json!({"id": 1, "name": "A", "created_date": "yesterday"}),
        ] {
            assert!(account_from_json(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_members_go_under_extra_and_come_back_as_they_were() {
        let account = account_from_json(&json!({"id": 1, "name": "A", "extra": {"score": 9}})).unwrap();
        assert_eq!(serde_json::to_value(account).unwrap()["score"], json!(9));
    }

    #[test]
    fn the_default_accounts_have_every_member() {
        let accounts = default_accounts().unwrap();
        assert_eq!(accounts.iter().map(|account| account.id).collect::<Vec<_>>(), [4711, 4712, 4713]);
        for account in accounts {
            let account = serde_json::to_value(account).unwrap();
            assert!(account.as_object().unwrap().values().all(|value| !value.is_null()), "{account}");
        }
    }
}
