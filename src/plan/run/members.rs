//! What is known about the members of an account that an update cannot include: which of them updates keep, which they
//! clear, and which the list does not show. Pure.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::account::{ContactAccount, STAGE};
use crate::change::{has_unsendable, unsendable, unsendable_keys, unsendable_members};
use crate::timestamp;

/// If an update resets a member to a default, an account that already has the default looks unchanged. So updates count
/// as keeping a member only after they kept this many different values.
const VALUES: usize = 2;
/// The most values of a member to remember. A computed member has another one each time.
const MOST_SEEN: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Members {
    /// For each member, the values that updates were seen to keep, up to [`VALUES`].
    kept: HashMap<String, Vec<Value>>,
    /// For each member, the other values that it had after an update: the update reset it, the service computes it, or
    /// someone changed it.
    altered: HashMap<String, Vec<Value>>,
    /// The members that an update was seen to clear.
    cleared: HashSet<String>,
    /// The members that the list was seen to show.
    listed: HashSet<String>,
    /// The members that `GET` was seen to have, with or without a value, although the list does not.
    unlisted: HashSet<String>,
}

impl Members {
    /// Starts with what updates of the plan have cleared before.
    pub(super) fn new(cleared: impl Iterator<Item = String>) -> Self {
        Self { cleared: cleared.collect(), ..Self::default() }
    }

    /// Returns the members of an account that no update was seen to keep with their value.
    pub(super) fn at_risk<'a>(&'a self, account: &'a ContactAccount) -> impl Iterator<Item = &'a str> {
        let has_its_value = |name: &str| {
            let kept = self.kept.get(name);
            kept.is_some_and(|kept| kept.iter().any(|value| is_same(name, value, &unsendable(account, name))))
        };
        unsendable_members(account).filter(move |name| !self.is_kept(name) && !has_its_value(name))
    }

    /// Returns whether updates keep a member, whatever its value is.
    pub(super) fn is_kept(&self, name: &str) -> bool {
        self.kept.get(name).is_some_and(|values| values.len() >= VALUES)
    }

    /// An account was read from a page.
    pub(super) fn listed(&mut self, item: &ContactAccount) {
        for name in unsendable_members(item) {
            if !self.listed.contains(name) {
                self.listed.insert(name.to_owned());
            }
        }
    }

    /// Returns which members of an account an update would clear, as one did before.
    pub(super) fn would_clear(&self, account: &ContactAccount) -> Vec<String> {
        unsendable_members(account).filter(|name| self.cleared.contains(*name)).map(ToOwned::to_owned).collect()
    }

    /// Returns whether an account on a page may have a member that an update would clear and that the page does not
    /// show.
    pub(super) fn may_be_unlisted(&self) -> bool {
        self.unlisted.iter().any(|name| !self.is_kept(name) || self.cleared.contains(name))
            || self.cleared.iter().any(|name| !self.listed.contains(name))
    }

    /// Returns whether the list was not seen to show one of these members.
    pub(super) fn are_unlisted<'a>(&self, mut names: impl Iterator<Item = &'a String>) -> bool {
        names.any(|name| !self.listed.contains(name))
    }

    /// Compares an item of the list with its account.
    pub(super) fn compare(&mut self, item: &ContactAccount, account: &ContactAccount) {
        for name in unsendable_keys(account) {
            // If an item does not have the member at all, the list may hide it for accounts that have a value.
            let is_shown = if has_unsendable(account, name) {
                has_unsendable(item, name)
            } else {
                unsendable_keys(item).any(|other| other == name)
            };
            if !is_shown {
                self.unlisted.insert(name.to_owned());
            }
        }
        self.listed(item);
    }

    /// Updates clear these members.
    pub(super) fn cleared(&mut self, names: &[String]) {
        self.cleared.extend(names.iter().cloned());
    }

    /// An account was updated. `is_shown` is true if the answer shows an effect of the update: only then it shows what
    /// the update kept. `doubted` contains the members that an earlier update of the account may have reset: an
    /// unchanged value of such a member shows nothing.
    pub(super) fn wrote(
        &mut self,
        before: &ContactAccount,
        answered: &ContactAccount,
        is_shown: bool,
        doubted: &[String],
    ) -> Altered {
        let mut found = Altered::default();
        for name in unsendable_members(before).filter(|name| has_unsendable(answered, name)) {
            let (was, is) = (unsendable(before, name), unsendable(answered, name).into_owned());
            if is_same(name, &was, &is) {
                let kept = self.kept.entry(name.to_owned()).or_default();
                let is_new = !kept.iter().any(|value| is_same(name, value, &is));
                if is_shown && is_new && kept.len() < VALUES && !doubted.iter().any(|doubted| doubted == name) {
                    kept.push(is);
                }
                continue;
            }
            found.names.push(name.to_owned());
            if self.is_kept(name) || is_later(&was, &is) {
                continue;
            }
            let seen = self.altered.entry(name.to_owned()).or_default();
            // The service does not compute the stage, so one such update is enough.
            if name == STAGE || seen.iter().any(|value| is_same(name, value, &is)) {
                found.reset.push(name.to_owned());
            } else if seen.len() < MOST_SEEN {
                seen.push(is);
            }
        }
        found
    }
}

/// The members that have another value after an update.
#[derive(Debug, Default)]
pub(super) struct Altered {
    pub(super) names: Vec<String>,
    /// Those that the update may have reset: the stage, and members with a value that another update left too, unless
    /// updates were seen to keep two values of them.
    pub(super) reset: Vec<String>,
}

/// Returns whether a member went from one time to a later one, as the time of the last change does. Two accounts that
/// are updated in the same second have the same one. An update that resets a time leaves an earlier one, or none.
fn is_later(was: &Value, is: &Value) -> bool {
    let time = |value: &Value| value.as_str().and_then(timestamp::parse);
    time(was).zip(time(is)).is_some_and(|(was, is)| is > was)
}

/// Returns whether two values of a member are the same. A stage can be renamed.
fn is_same(name: &str, one: &Value, other: &Value) -> bool {
    if name == STAGE { one.get("id") == other.get("id") } else { one == other }
}
