//! What is known about the members of an account that an update cannot include: which of them updates keep, which they
//! clear, and which the list does not show. Pure.

use std::collections::HashSet;

use crate::account::ContactAccount;
use crate::change::{has_unsendable, unsendable_keys, unsendable_members};

#[derive(Debug, Default)]
pub(super) struct Members {
    /// An update was seen to keep them.
    kept: HashSet<String>,
    /// An update was seen to clear them.
    cleared: HashSet<String>,
    /// The list was seen to show them.
    listed: HashSet<String>,
    /// `GET` was seen to have them, with or without a value, although the list does not.
    unlisted: HashSet<String>,
}

impl Members {
    /// Starts with what updates of the plan have cleared before.
    pub(super) fn new(cleared: Vec<String>) -> Self {
        Self { cleared: cleared.into_iter().collect(), ..Self::default() }
    }

    /// Returns the members of an account that no update was seen to keep.
    pub(super) fn at_risk<'a>(&'a self, account: &'a ContactAccount) -> impl Iterator<Item = &'a str> {
        unsendable_members(account).filter(|name| !self.kept.contains(*name))
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
        self.unlisted.iter().any(|name| !self.kept.contains(name) || self.cleared.contains(name))
            || self.cleared.iter().any(|name| !self.listed.contains(name))
    }

    /// Compares an item of the list with its account.
    pub(super) fn compare(&mut self, item: &ContactAccount, account: &ContactAccount) {
        for name in unsendable_keys(account) {
            // An item that does not have the member at all hides the values of other accounts.
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

    /// An account was updated. `lost` contains the members that the answer lacks, and `altered` those that an earlier
    /// update of the account may have reset: that they are as they were shows nothing.
    pub(super) fn wrote(&mut self, before: &ContactAccount, lost: &[String], altered: &[String]) {
        let is_in = |names: &[String], name: &str| names.iter().any(|other| other == name);
        let kept = unsendable_members(before).filter(|name| !is_in(lost, name) && !is_in(altered, name));
        self.kept.extend(kept.map(ToOwned::to_owned));
        self.cleared.extend(lost.iter().cloned());
    }
}
