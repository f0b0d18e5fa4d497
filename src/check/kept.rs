//! Describes what an update kept. Pure.

use serde_json::{Map, Value};

use crate::account::{ContactAccount, Field, STAGE};
use crate::client::Seen;

use super::Finding;
use super::Verdict::{self, AsExpected, Differs, NotKnown};
use super::losses::{self, Member, named};
use super::restoring::{self, StoredText};

/// An account at one moment.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) account: ContactAccount,
    pub(super) raw: Map<String, Value>,
}

impl From<Seen<ContactAccount>> for Moment {
    fn from(seen: Seen<ContactAccount>) -> Self {
        let raw = if let Value::Object(raw) = seen.raw { raw } else { Map::new() };
        Self { account: seen.read, raw }
    }
}

/// The outcome of the update.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Update {
    /// It was not sent.
    #[default]
    None,
    /// It was sent, but no answer confirmed it.
    Unknown,
    /// The service refused it, or it never arrived.
    NotApplied,
    /// It was answered with the account.
    Answered,
}

/// Describes what the update kept.
pub(super) fn kept(before: &Moment, answer: Option<&Moment>, now: &Moment) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |topic, found, follows: &str, verdict: Verdict| {
        findings.push(Finding { topic, found, follows: follows.to_owned(), verdict });
    };
    found(
        "update",
        "The service answered the update with 200 and the account.".to_owned(),
        "Updates work.",
        AsExpected,
    );
    // The answer to an update may only repeat what was sent.
    let stored = StoredText::of(now.account.value(restoring::FIELD));
    let (what, follows) = match stored {
        StoredText::AsSent => {
            ("The service stored the text as it was sent.", "patch_contact_account() stores exactly what it sends.")
        }
        StoredText::Trimmed => ("The service stored the text without its leading and trailing white space.", OTHERWISE),
        StoredText::SpacesJoined => ("The service stored the text with single spaces.", OTHERWISE),
        StoredText::Escaped => (
            "The service stored the text escaped, such as &amp; for &.",
            "Each update of an account with such characters changes them again, even in fields that the update does \
            not name. Do not update accounts whose values contain & < > or quotes. Report this.",
        ),
        StoredText::NotAtAll => (
            "The service answered 200, but a later read of the account does not show the text.",
            "An update may have no effect even when the service answers 200, or take effect later. \
            patch_contact_account() warns if the answer does not show the change.",
        ),
        StoredText::Otherwise => {
            ("The service stored the text in another form, unless someone else changed it during the check.", OTHERWISE)
        }
    };
    found("stored_text", what.to_owned(), follows, (stored != StoredText::AsSent).into());
    if answer.is_some_and(|answer| is_shown(before, answer)) && !is_shown(before, now) {
        found(
            "update",
            "The answer to the update contains the text, but a later read of the account does not.".to_owned(),
            "The service shows an update late, or its answer contains a value that it did not store. A run may count \
            such a row as changed. Report this.",
            Differs,
        );
    }
    let has_stage = before.raw.get(STAGE).is_some_and(|stage| !stage.is_null());
    let mut differing = losses::differing(before, now);
    // A read that does not show the update may be older than its answer.
    differing.extend(
        answer.filter(|_| !is_shown(before, now)).into_iter().flat_map(|answer| losses::differing(before, answer)),
    );
    let (what, follows, verdict) = if differing.remove(&Member::Stage) {
        ("The stage differs after the update.", "An update loses the stage and cannot send it. Report this.", Differs)
    } else if has_stage {
        ("The stage is the same after the update.", "An update keeps the stage.", AsExpected)
    } else {
        (
            "The account has no stage.",
            "The check cannot tell whether an update keeps the stage. To find out, set a stage in Reply.io and run \
            the check again.",
            NotKnown,
        )
    };
    found("stage", what.to_owned(), follows, verdict);
    let owner_differs = differing.remove(&Member::Field(Field::OwnerUserId));
    let (what, follows) = if owner_differs {
        (
            "The owner differs after the update.",
            "An update changes the owner even though the request includes it. Report this.",
        )
    } else {
        ("The owner is the same after the update.", "An update keeps the owner.")
    };
    found("owner", what.to_owned(), follows, owner_differs.into());
    let (what, follows) = if differing.is_empty() {
        ("All other fields are the same after the update.".to_owned(), "An update keeps them.")
    } else {
        (
            format!("Other fields differ after the update: {}.", named(&differing)),
            "Either the service changes them even though the update includes them, or someone else changed them \
            during the check. Run the check again. If it reports this again, do not update accounts, and report this.",
        )
    };
    found("other_fields", what, follows, (!differing.is_empty()).into());
    findings
}

/// Returns whether the update may still be applied or shown after this read of the account, which does not show it. An
/// answer with status 200 proves nothing: a service may apply an update after its answer.
pub(super) fn may_come_late(before: &Moment, now: &Moment, update: Update) -> bool {
    !is_shown(before, now) && matches!(update, Update::Unknown | Update::Answered)
}

/// Returns whether an account has another description than before the trial.
fn is_shown(before: &Moment, now: &Moment) -> bool {
    restoring::differing(&before.account, &now.account).contains(&restoring::FIELD)
}

const OTHERWISE: &str = "The service may store a value that differs from the one sent. If the answer to an update \
    shows that, patch_contact_account() warns, and a plan sets stored_otherwise for the row.";
