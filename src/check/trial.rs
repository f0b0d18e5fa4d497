//! Changes one account and restores it, to see what an update keeps.
//!
//! A caller who is interrupted in [`Trial::run`] can restore the account with [`Trial::restore`], and repeat that. The
//! trial records its state before each step. The account's turn ends with the operation that took it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;

use crate::account::{AccountFields, ContactAccount, check_id};
use crate::change::{self, Change};
use crate::client::{Client, Looking, Seen, Turn, Updated};
use crate::error::{Delivery, Error, Failure};
use crate::lock::lock;

use super::kept::{self, Moment, Update, may_come_late};
use super::losses::{Losses, Member, Sight, named};
use super::restoring::{self, Restoring};
use super::{Finding, Verdict, refused, said};

/// How long to wait for an update that the account does not show before reading the account again.
const LATE: Duration = Duration::from_secs(3);

/// A change of one account that the trial reverts. Clones share its state.
#[derive(Clone)]
pub struct Trial {
    id: i64,
    state: Arc<Mutex<State>>,
}

/// One step of a trial, with the connections of that step.
struct Step {
    client: Client,
    trial: Trial,
}

/// The state of a trial.
#[derive(Default)]
struct State {
    before: Option<Moment>,
    update: Update,
    answer: Option<Moment>,
    /// What the trial has seen of the account since it sent its update, in this order.
    seen: Vec<Sight>,
    /// Whether the change of the trial may still be in the account.
    is_open: bool,
    /// Whether a read has shown what the trial changed, so that the change cannot appear later.
    is_shown: bool,
    is_restored: bool,
    findings: Vec<Finding>,
    requests: u32,
}

impl Trial {
    /// Creates a trial with an account. Sends no request.
    ///
    /// # Errors
    /// Returns [`Error::Validation`] if the id is invalid.
    pub fn new(id: i64) -> Result<Self, Error> {
        check_id(id).map_err(refused)?;
        Ok(Self { id, state: Arc::default() })
    }

    /// Returns the findings so far.
    pub fn findings(&self) -> Vec<Finding> {
        self.state().findings.clone()
    }

    /// Returns what to restore by hand: the members that an update of the trial has or may have altered, as far as the
    /// trial knows, and their values before the trial.
    pub fn to_restore(&self) -> Vec<(String, Value)> {
        let state = self.state();
        state.before.as_ref().map(|before| state.losses().values(before)).unwrap_or_default()
    }

    /// Returns the number of requests sent.
    pub fn requests(&self) -> u32 {
        self.state().requests
    }

    /// Describes what the trial may have left in the account; `None` if nothing.
    pub fn left_behind(&self) -> Option<String> {
        self.state().is_open.then(|| {
            format!(
                "the description of account {} may still contain the text of the check. It was empty before. Clear it \
                in Reply.io, or with patch_contact_account({}, description=None)",
                self.id, self.id
            )
        })
    }

    /// Checks that the quota allows a read and its update, which must follow it soon.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`] if it does not.
    pub fn check_quota(&self, client: &Client) -> Result<(), Error> {
        client.check_pairs("a check that updates an account")
    }

    /// Adds a finding that says why the account is not updated. Another account may not have this obstacle.
    pub fn refuse(&self, reason: &str) {
        self.not_written(reason, said::ANOTHER_ACCOUNT);
    }

    fn not_written(&self, reason: &str, what_helps: &str) {
        self.found(
            "update",
            format!("The check did not write account {}: {reason}.", self.id),
            &format!("The check cannot tell whether updates work. {what_helps}"),
            true,
        );
    }

    /// Reads the account, writes a text into its empty description, reports what the update kept, and restores what it
    /// changed, in one turn. A failure becomes a finding.
    pub async fn run(&self, client: &Client) {
        Step { client: client.clone(), trial: self.clone() }.run().await;
    }

    /// Restores what an earlier operation changed that was dropped. Does nothing if no update was sent, or if the
    /// account was restored. A failure becomes a finding.
    pub async fn restore(&self, client: &Client) {
        Step { client: client.clone(), trial: self.clone() }.restore().await;
    }

    fn found(&self, topic: &'static str, found: String, follows: &str, verdict: impl Into<Verdict>) {
        self.state().findings.push(Finding { topic, found, follows: follows.to_owned(), verdict: verdict.into() });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Step {
    async fn run(&self) {
        let looking = self.client.begin_looking();
        match self.client.turn_for(&looking, self.trial.id).await {
            Ok(turn) => {
                self.change(looking, &turn).await;
                self.restore_in(&turn).await;
            }
            Err(error) => self.trial.not_written(&self.said(&error), said::what_helps(&error)),
        }
    }

    async fn change(&self, mut looking: Looking, turn: &Turn) {
        let mut obstacle = None;
        let decide = |seen: &Seen<ContactAccount>| {
            let before = Moment::from(seen.clone());
            obstacle = restoring::obstacle(&before.account, &before.raw);
            if obstacle.is_some() {
                return Ok(None);
            }
            let update = merged(&before, &[restoring::trial_change(&before.account)])?;
            let mut state = self.trial.state();
            state.before = Some(before);
            (state.update, state.is_open) = (Update::Unknown, true);
            Ok(Some(update))
        };
        let updated = self.client.look_and_write(&mut looking, turn, Some(1), decide).await;
        self.trial.state().requests += looking.requests();
        match updated {
            Ok(Updated { update: Some((_, after)), .. }) => {
                let mut state = self.trial.state();
                let answer = Moment::from(after);
                state.seen.push(Sight::Answer(answer.clone()));
                (state.update, state.answer) = (Update::Answered, Some(answer));
            }
            Err(error) if looking.has_updated() => self.not_answered(&error),
            Ok(_) => {
                self.trial.state().forget_update();
                self.trial.refuse(&obstacle.unwrap_or_default());
            }
            Err(error) => {
                let had_read = self.trial.state().forget_update();
                let reason = match said::closed_quota(&error).filter(|_| had_read) {
                    Some(quota) => format!(
                        "the update could not be sent: it must follow a read of the account within a second, which was \
                        not possible within the timeout of the call ({quota})"
                    ),
                    None if had_read => format!("the update could not be sent: {}", self.said(&error)),
                    None => format!("it could not be read: {}", self.said(&error)),
                };
                self.trial.not_written(&reason, said::what_helps(&error));
            }
        }
    }

    fn not_answered(&self, error: &Error) {
        let said = self.said(error);
        let failure = said::failure_of(error);
        if failure.is_none_or(|failure| failure.delivery() == Delivery::Unknown) {
            let found = format!("The update may have been applied, but no answer confirmed it: {said}.");
            self.trial.found("update", found, "The check cannot tell what an update keeps. Run the check again.", true);
        } else {
            self.trial.state().update = Update::NotApplied;
            let follows = if failure.is_some_and(Failure::is_retryable) {
                "The check cannot tell whether updates work: the service refused this one temporarily. Run the check \
                again later."
            } else {
                "Updates do not work with this key and this account."
            };
            self.trial.found("update", format!("The update was not applied: {said}."), follows, true);
        }
    }

    async fn restore(&self) {
        if self.trial.state().to_take_back().is_none() {
            return;
        }
        match self.client.turn_for(&self.client.begin_looking(), self.trial.id).await {
            Ok(turn) => self.restore_in(&turn).await,
            Err(error) => self.not_restored(&self.said(&error)),
        }
    }

    async fn restore_in(&self, turn: &Turn) {
        let before = self.trial.state().to_take_back().cloned();
        if let Some(before) = before {
            self.take_back(turn, &before).await;
            self.trial.state().is_restored = true;
        }
    }

    async fn take_back(&self, turn: &Turn, before: &Moment) {
        let (answer, update, is_shown) = {
            let state = self.trial.state();
            (state.answer.clone(), state.update, state.is_shown)
        };
        let answer = answer.as_ref();
        let comes_late = |now: &Moment| !is_shown && may_come_late(before, now, update);
        let mut waits = true;
        let (last, restoring, is_taken_back) = loop {
            let (mut kept, mut restoring) = (None, Restoring::default());
            let decide = |seen: &Seen<ContactAccount>| {
                let now = Moment::from(seen.clone());
                self.trial.state().seen.push(Sight::Read(now.clone()));
                restoring = Restoring::of(&before.account, answer.map(|answer| &answer.account), &now.account);
                if waits && comes_late(&now) {
                    return Ok(None);
                }
                // A later read may show the restored values.
                kept.get_or_insert_with(|| kept::kept(before, answer, &now));
                if restoring.changes.is_empty() {
                    return Ok(None);
                }
                self.trial.state().is_shown = true;
                merged(&now, &restoring.changes).map(Some)
            };
            let mut looking = self.client.begin_looking();
            let updated = self.client.look_and_write(&mut looking, turn, None, decide).await;
            self.trial.state().requests += looking.requests();
            let has_kept = kept.is_some();
            self.trial.state().findings.extend(kept.filter(|_| update == Update::Answered).into_iter().flatten());
            match updated {
                Ok(_) if !has_kept => {
                    waits = false;
                    tokio::time::sleep(LATE).await;
                }
                Ok(Updated { looked, update: None }) => break (Moment::from(looked), restoring, false),
                Ok(Updated { update: Some((_, after)), .. }) => {
                    let after = Moment::from(after);
                    self.trial.state().seen.push(Sight::Answer(after.clone()));
                    break (self.look().await.unwrap_or(after), restoring, true);
                }
                Err(error) if has_kept => match self.look().await {
                    Ok(last) => break (last, restoring, false),
                    Err(_) => return self.not_restored(&self.said(&error)),
                },
                Err(error) => return self.not_read(update, &self.said(&error)),
            }
        };
        let is_late = restoring.changes.is_empty() && comes_late(&last);
        self.conclude(before, &last, &restoring, is_late || update == Update::Unknown && !is_taken_back);
    }

    fn not_read(&self, update: Update, said: &str) {
        if update == Update::NotApplied {
            self.trial.state().is_open = false;
            let found = format!("The update was not applied, and reading the account after it failed: {said}.");
            self.trial.found("restored", found, "The check changed nothing.", true);
        } else {
            self.not_restored(&format!("the account could not be read: {said}"));
        }
    }

    /// Reports whether the account has its original values, from the last read.
    fn conclude(&self, before: &Moment, last: &Moment, restoring: &Restoring, is_late: bool) {
        let holds_text = Restoring::of(&before.account, None, &last.account)
            .changes
            .iter()
            .any(|change| change.field == restoring::FIELD);
        let differs = restoring::differing(&before.account, &last.account).contains(&restoring::FIELD);
        let has_other_text = differs && !restoring.left_alone.contains(&restoring::FIELD);
        if holds_text || has_other_text {
            return self.not_restored("the update that restores it was not applied");
        }
        self.trial.state().is_open = is_late;
        let has_losses = self.report_losses();
        let is_left_alone = restoring.left_alone.contains(&restoring::FIELD);
        if has_losses && !is_late && !is_left_alone {
            return;
        }
        if is_left_alone {
            let found = "The check does not recognize the text in the description, and left it in place.".to_owned();
            let follows = "Either someone else changed the description during the check, or the service stored the \
                text of the check in another form. Look at the description, and clear it if the check wrote it.";
            self.trial.found("restored", found, follows, true);
        } else if is_late {
            self.trial.found(
                "restored",
                "When the check last read the account, it contained nothing from the check.".to_owned(),
                "The service may still apply the update, or show it later. Look at the description in a few minutes, \
                and clear it if it contains the text of the check.",
                true,
            );
        } else {
            let found = "Every writable field of the account has the same value as before the check.".to_owned();
            self.trial.found("restored", found, "There is nothing to do.", false);
        }
    }

    fn not_restored(&self, reason: &str) {
        self.trial.state().is_open = true;
        self.trial.found(
            "restored",
            format!("The check may not have restored the account: {reason}."),
            &self.trial.left_behind().map(|left| capitalized(&left) + ".").unwrap_or_default(),
            true,
        );
        self.report_losses();
    }

    /// Adds findings with the names of the members that the trial may have altered. Returns whether there are any.
    fn report_losses(&self) -> bool {
        let (losses, id) = (self.trial.state().losses(), self.trial.id);
        let report = |members: &BTreeSet<Member>, found: &dyn Fn(&str) -> String, follows: &str| {
            if !members.is_empty() {
                let follows =
                    format!("{follows} The previous values are in to_restore, which is not part of this report.");
                self.trial.found("restored", found(&named(members)), &follows, true);
            }
        };
        report(
            &losses.shown,
            &|names| format!("These members of account {id} differ from before the check: {names}."),
            "Someone else may have changed them during the check, and the check does not overwrite such changes. If no \
            one did, restore by hand those that still differ.",
        );
        report(
            &losses.answered,
            &|names| {
                format!(
                    "An answer to an update shows other values than before the check in {names}, and a later read of \
                    account {id} does not."
                )
            },
            "The read may be older than the answer. Look at the account in a few minutes, and restore by hand what \
            differs then, unless someone else changed it.",
        );
        report(
            &losses.unseen,
            &|names| {
                format!(
                    "The update may have been applied, and no read has shown account {id} since. These members may \
                    differ from before the check: {names}."
                )
            },
            "An update may lose the stage, and the service may store fields in another form. Look at the account, and \
            restore by hand what differs, unless someone else changed it.",
        );
        !losses.is_empty()
    }

    async fn look(&self) -> Result<Moment, String> {
        let mut looking = self.client.begin_looking();
        let read = self.client.look_patiently(&mut looking, self.trial.id).await;
        self.trial.state().requests += looking.requests();
        let read = read.map(Moment::from).map_err(|error| self.said(&error))?;
        self.trial.state().seen.push(Sight::Read(read.clone()));
        Ok(read)
    }

    fn said(&self, error: &Error) -> String {
        said::failure_of(error).map_or_else(|| error.to_string(), |failure| said::failure(failure, &self.client))
    }
}

impl State {
    /// Returns the account before the update, if one was sent and the account was not restored since.
    fn to_take_back(&self) -> Option<&Moment> {
        self.before.as_ref().filter(|_| !self.is_restored)
    }

    /// Records that the update was not sent. Returns whether the trial was ready to send it.
    fn forget_update(&mut self) -> bool {
        (self.update, self.is_open) = (Update::None, false);
        self.before.take().is_some()
    }

    fn losses(&self) -> Losses {
        self.before.as_ref().map(|before| Losses::of(before, self.update, &self.seen)).unwrap_or_default()
    }
}

/// Returns the update that makes the changes to an account.
fn merged(account: &Moment, changes: &[Change]) -> Result<AccountFields, Failure> {
    change::merged(&account.account, changes).map_err(|_| Failure::Internal("a field has the wrong type".to_owned()))
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}
