//! Parses the body of an update as the service does: reports every problem, and replaces the account in full.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::answer::Pointed;
use crate::account::{CompanySize, Field, Kind};

/// A body that the API contract allows.
#[derive(Debug, PartialEq)]
pub(super) struct Update(Map<String, Value>);

impl Update {
    /// Parses a body. `is_allowed` returns which members it may have that the API contract does not list.
    ///
    /// # Errors
    /// Returns every problem, those of the known members first.
    pub(super) fn read(body: &[u8], is_allowed: impl Fn(&str) -> bool) -> Result<Self, Vec<Pointed>> {
        let members = match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => members,
            Ok(_) => return Err(vec![Pointed::new("", "The body must be a JSON object.")]),
            Err(_) => return Err(vec![Pointed::new("", "The body is not valid JSON.")]),
        };
        let mut faults = Vec::new();
        for &field in Field::ALL {
            if let Some(detail) = fault(field, members.get(field.wire())) {
                faults.push(Pointed::new(format!("/{}", field.wire()), detail));
            }
        }
        for name in members.keys().filter(|name| Field::from_wire(name).is_none() && !is_allowed(name)) {
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            faults.push(Pointed::new(pointer, "The member is not allowed."));
        }
        if faults.is_empty() { Ok(Self(members)) } else { Err(faults) }
    }

    /// Returns the new owner, if there is one.
    fn owner(&self) -> Option<i64> {
        self.0.get(Field::OwnerUserId.wire()).and_then(Value::as_i64)
    }

    /// Returns why a business rule refuses it, if one does.
    pub(super) fn refusal(&self, owners: Option<&BTreeSet<i64>>) -> Option<String> {
        let owner = self.owner()?;
        owners.is_some_and(|owners| !owners.contains(&owner)).then(|| format!("User {owner} is not in the team."))
    }

    /// Returns the account after the update: clears missing fields, keeps read-only members.
    pub(super) fn apply<'a>(
        mut self,
        account: &Map<String, Value>,
        allowed: impl Iterator<Item = &'a String>,
    ) -> Map<String, Value> {
        let mut updated = account.clone();
        for &field in Field::ALL {
            match self.0.remove(field.wire()) {
                Some(value) => updated.insert(field.wire().to_owned(), value),
                None if field.nullable() => updated.insert(field.wire().to_owned(), Value::Null),
                None => continue,
            };
        }
        for name in allowed {
            updated.insert(name.clone(), self.0.remove(name).unwrap_or_default());
        }
        updated
    }
}

/// Returns what is wrong with one member, if anything.
fn fault(field: Field, value: Option<&Value>) -> Option<String> {
    let Some(value) = value else { return (field == Field::Name).then(|| "Name is required.".to_owned()) };
    let detail = match (field.kind(), value) {
        (Kind::Integer, value) if value.as_i64().is_some_and(|number| number > 0) => return None,
        (Kind::Integer, _) => "The value must be a positive integer.".to_owned(),
        (Kind::CompanySize, Value::String(text)) if !CompanySize::DOCUMENTED.contains(&text.as_str()) => {
            format!("The value must be one of {}.", CompanySize::DOCUMENTED.join(", "))
        }
        (_, Value::String(text)) if field == Field::Name && text.trim().is_empty() => {
            "Name must not be blank.".to_owned()
        }
        (_, Value::String(_)) => return None,
        (_, Value::Null) if field.nullable() => return None,
        (_, _) if field.nullable() => "The value must be a string or null.".to_owned(),
        (_, _) => "The value must be a string.".to_owned(),
    };
    Some(detail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(body: &Value) -> Vec<String> {
        let faults = Update::read(body.to_string().as_bytes(), |_| false).err().unwrap_or_default();
        faults.into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let body = json!({"name": " ", "companySize": "12", "city": 1, "ownerUserId": null, "stage": {}, "a/b~": 1});
        assert_eq!(pointers(&body), ["/name", "/companySize", "/city", "/ownerUserId", "/a~1b~0", "/stage"]);
    }

    #[test]
    fn what_is_not_an_update_is_refused() {
        for body in ["", "{", "[]", "1", "null", "\"name\"", "{\"name\": \"\u{fffd}"] {
            assert_eq!(Update::read(body.as_bytes(), |_| false).map_err(|faults| faults.len()), Err(1), "{body}");
        }
        assert!(Update::read(b"{\"name\": \"\xff\"}", |_| false).is_err());
    }

    #[test]
    fn each_member_has_its_type() {
        for &field in Field::ALL {
            let valid = if field.kind() == Kind::Integer { json!(7) } else { json!("Empty") };
            let with = |value: Value| {
                let mut body = json!({"name": "Acme"});
                body[field.wire()] = value;
                pointers(&body)
            };
            let pointer = vec![format!("/{}", field.wire())];
            assert_eq!(with(valid), Vec::<String>::new());
            assert_eq!(with(json!(true)), pointer);
            assert_eq!(with(json!(1.5)), pointer);
            assert_eq!(with(json!([])), pointer);
            assert_eq!(with(Value::Null).is_empty(), field.nullable(), "{}", field.wire());
        }
    }

    #[test]
    fn an_update_replaces_in_full() {
        let account = json!({
            "id": 1, "name": "Acme", "ownerUserId": 42, "city": "Oslo", "country": "Norway", "phone": "1",
            "stage": {"id": 3}, "createdDate": "2025-01-15T09:30:00Z", "score": 9,
        });
        let update = Update::read(br#"{"name": "New", "city": "", "phone": null}"#, |_| false).unwrap();
        let updated = Value::Object(update.apply(account.as_object().unwrap(), std::iter::empty()));
        assert_eq!(updated["name"], "New");
        assert_eq!(updated["city"], "");
        assert_eq!((&updated["country"], &updated["phone"]), (&Value::Null, &Value::Null));
        for kept in ["id", "ownerUserId", "stage", "createdDate", "score"] {
            assert_eq!(updated[kept], account[kept], "{kept}");
        }
    }

    #[test]
    fn an_owner_outside_the_team_is_a_business_rule() {
        let update = |body: &str| Update::read(body.as_bytes(), |_| false).unwrap();
        let team = BTreeSet::from([42]);
        assert!(update(r#"{"name": "A", "ownerUserId": 43}"#).refusal(Some(&team)).is_some());
        assert!(update(r#"{"name": "A", "ownerUserId": 42}"#).refusal(Some(&team)).is_none());
        assert!(update(r#"{"name": "A"}"#).refusal(Some(&team)).is_none());
        assert!(update(r#"{"name": "A", "ownerUserId": 43}"#).refusal(None).is_none());
    }
}
