//! Removes the key from members that this version does not know, in case the service repeats it there.
//!
//! `extra` of an account that a caller reads keeps the original. The names and values that a run stores and shows, and
//! the names in the warning of a patch, come from here.

use super::Client;
use crate::account::MEMBERS;

impl Client {
    /// Returns the name of a member without the key. A name of the contract stays.
    pub(super) fn without_key_in_name(&self, name: String) -> String {
        if MEMBERS.iter().any(|member| member.wire == name) { name } else { self.config.api_key.redact(&name) }
    }
}

#[cfg(feature = "plan")]
mod of_runs {
    use serde_json::{Map, Value};

    use super::Client;
    use crate::account::ContactAccount;
    use crate::answer::{Answer, Item, Page};
    use crate::error::Failure;

    impl Client {
        /// Parses an account without the key in its unknown members.
        pub(in crate::client) fn account_without_key(
            &self,
            answer: &Answer,
            id: i64,
        ) -> Result<ContactAccount, Failure> {
            answer.account(id).map(|account| self.without_key_in_extra(account))
        }

        /// Parses a page of accounts without the key in their unknown members.
        pub(in crate::client) fn page_without_key(&self, answer: &Answer) -> Result<Page, Failure> {
            let Page { items, has_more } = answer.page()?;
            let clean = |item| match item {
                Item::Account(account) => Item::Account(self.without_key_in_extra(account)),
                Item::Unreadable { .. } => item,
            };
            Ok(Page { items: items.into_iter().map(clean).collect(), has_more })
        }

        fn without_key_in_extra(&self, mut account: ContactAccount) -> ContactAccount {
            // Nearly no account has the key, and one search is faster than one in each text.
            if !account.extra.is_empty() && self.has_key(&account.extra) {
                account.extra = self.members_without_key(account.extra);
            }
            account
        }

        fn has_key(&self, members: &Map<String, Value>) -> bool {
            serde_json::to_string(members).is_ok_and(|text| self.config.api_key.redact(&text) != text)
        }

        fn members_without_key(&self, members: Map<String, Value>) -> Map<String, Value> {
            let clean = |(name, value)| (self.without_key_in_name(name), self.value_without_key(value));
            members.into_iter().map(clean).collect()
        }

        fn value_without_key(&self, value: Value) -> Value {
            match value {
                Value::String(text) => Value::String(self.config.api_key.redact(&text)),
                Value::Array(items) => items.into_iter().map(|item| self.value_without_key(item)).collect(),
                Value::Object(members) => Value::Object(self.members_without_key(members)),
                other => other,
            }
        }
    }
}
