//! Changes one account and restores it, to see what an update keeps.
//!
//! [`Trial::change`] and [`Trial::restore`] are separate, so that a caller who is interrupted in the first can still
//! run the second. The trial records its state before each step.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::account::check_id;
use crate::change;
use crate::client::{Client, Looking, Turn};
use crate::error::{Delivery, Error, Failure};
use crate::transport::Request;

use super::kept::{self, Moment, Update, may_come_late};
use super::restoring::{self, Restoring};
use super::wording::joined;
use super::{Finding, refused, said};

/// How long to wait for an update whose answer was lost before reading the account again.
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
    turn: Option<Turn>,
    before: Option<Moment>,
    update: Update,
    answer: Option<Moment>,
    /// Whether the change of the trial may still be in the account.
    is_open: bool,
    is_restoring: bool,
    findings: Vec<Finding>,
    to_restore: Vec<(String, Value)>,
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

    /// Returns what to restore by hand: the members, and their values before the trial.
    pub fn to_restore(&self) -> Vec<(String, Value)> {
        self.state().to_restore.clone()
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
                in \
                 Reply.io, or with patch_contact_account({}, description=None)",
                self.id, self.id
            )
        })
    }

    /// Adds a finding that says why the account is not updated.
    pub fn refuse(&self, reason: &str) {
        self.found(
            "update",
            format!("The check did not write account {}: {reason}.", self.id),
            "The check cannot tell whether updates work. In Reply.io, create an account that has only a name, and run \
            the check with its id.",
            true,
        );
    }

    /// Reads the account, and writes a text into its empty description. Takes the account's turn, and keeps it until
    /// [`Trial::restore`] ends. A failure becomes a finding.
    pub async fn change(&self, client: &Client) {
        Step { client: client.clone(), trial: self.clone() }.change().await;
    }

    /// Reads the account, reports what the update kept, and restores what it changed. Does nothing if no update was
    /// sent. A failure becomes a finding.
    pub async fn restore(&self, client: &Client) {
        Step { client: client.clone(), trial: self.clone() }.restore().await;
    }

    fn found(&self, topic: &'static str, found: String, follows: &str, differs: bool) {
        self.state().findings.push(Finding { topic, found, follows: follows.to_owned(), differs });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Step {
    async fn change(&self) {
        let mut looking = self.client.begin_looking();
        let prepared = self.prepare(&mut looking).await;
        self.trial.state().requests += looking.requests();
        let request = match prepared {
            Ok(request) => request,
            Err(reason) => return self.trial.refuse(&reason),
        };
        let mut looking = self.client.begin_looking();
        match self.client.write_once(&mut looking, self.trial.id, request).await {
            Ok(seen) => {
                let mut state = self.trial.state();
                (state.update, state.answer) = (Update::Answered, Some(seen.into()));
            }
            Err(failure) => self.not_answered(&failure),
        }
    }

    /// Reads the account and creates the update, which counts as sent from then on.
    ///
    /// # Errors
    /// Returns why the account is not updated.
    async fn prepare(&self, looking: &mut Looking) -> Result<Request, String> {
        let turn = self.client.turn_for(looking, self.trial.id).await.map_err(|error| self.said(&error))?;
        let read = self.client.look_patiently(looking, self.trial.id).await;
        let read = read.map_err(|error| format!("it could not be read: {}", self.said(&error)))?;
        let before = Moment::from(read);
        if let Some(reason) = restoring::obstacle(&before.account, &before.raw) {
            return Err(reason);
        }
        let changes = [restoring::trial_change(&before.account)];
        let merged = change::merged(&before.account, &changes).map_err(|_| "a field has the wrong type".to_owned())?;
        let request = self.client.write_request(&turn, &merged).map_err(|failure| failure.to_string())?;
        let mut state = self.trial.state();
        (state.turn, state.before) = (Some(turn), Some(before));
        (state.update, state.is_open) = (Update::Unknown, true);
        state.requests += 1;
        Ok(request)
    }

    fn not_answered(&self, failure: &Failure) {
        let is_unknown = failure.delivery() == Delivery::Unknown;
        let said = said::failure(failure, &self.client);
        if is_unknown {
            let found = format!("The update may have been applied, but no answer confirmed it: {said}.");
            self.trial.found("update", found, "The check cannot tell what an update keeps. Run the check again.", true);
        } else {
            self.trial.state().update = Update::NotApplied;
            let found = format!("The update was not applied: {said}.");
            self.trial.found("update", found, "Updates do not work with this key and this account.", true);
        }
    }

    async fn restore(&self) {
        let (before, answer, update) = {
            let mut state = self.trial.state();
            if state.is_restoring {
                return;
            }
            state.is_restoring = true;
            let Some(before) = state.before.clone() else { return };
            (before, state.answer.clone(), state.update)
        };
        self.restore_from(&before, answer.as_ref(), update).await;
        // No other call of this process changes the account before this point.
        let turn = self.trial.state().turn.take();
        drop(turn);
    }

    async fn restore_from(&self, before: &Moment, answer: Option<&Moment>, update: Update) {
        let mut now = self.look().await;
        if now.as_ref().is_ok_and(|now| may_come_late(before, answer, now, update)) {
            tokio::time::sleep(LATE).await;
            now = self.look().await;
        }
        let now = match now {
            Ok(now) => now,
            Err(said) if update == Update::NotApplied => {
                self.trial.state().is_open = false;
                let found = format!("The update was not applied, and reading the account after it failed: {said}.");
                self.trial.found("restored", found, "The check changed nothing.", true);
                return;
            }
            Err(said) => return self.not_restored(&format!("the account could not be read: {said}")),
        };
        if update == Update::Answered {
            self.trial.state().findings.extend(kept::kept(before, answer, &now));
        }
        let restoring = Restoring::of(&before.account, answer.map(|answer| &answer.account), &now.account);
        let last = if restoring.changes.is_empty() {
            now
        } else {
            match self.write_back(&now, &restoring).await {
                Some(last) => last,
                None => return,
            }
        };
        let is_late = restoring.changes.is_empty() && may_come_late(before, answer, &last, update);
        self.conclude(before, &last, &restoring, is_late || update == Update::Unknown);
    }

    /// Restores what the trial changed, and reads the account again. Returns `None` if that may have failed, and adds a
    /// finding.
    async fn write_back(&self, now: &Moment, restoring: &Restoring) -> Option<Moment> {
        let mut looking = self.client.begin_looking();
        let written = match self.restoring_request(now, restoring) {
            Ok(request) => {
                let written = self.client.write_patiently(&mut looking, self.trial.id, &request).await;
                self.trial.state().requests += looking.requests();
                written.map_err(|error| self.said(&error))
            }
            Err(said) => Err(said),
        };
        match (self.look().await, written) {
            (Ok(last), _) => Some(last),
            (Err(_), Ok(answer)) => Some(answer.into()),
            (Err(_), Err(said)) => {
                self.not_restored(&said);
                None
            }
        }
    }

    fn restoring_request(&self, now: &Moment, restoring: &Restoring) -> Result<Request, String> {
        let merged =
            change::merged(&now.account, &restoring.changes).map_err(|_| "a field has the wrong type".to_owned())?;
        let state = self.trial.state();
        let turn = state.turn.as_ref().ok_or("the check lost its exclusive access to the account")?;
        self.client.write_request(turn, &merged).map_err(|failure| failure.to_string())
    }

    /// Reports whether the account has its original values, from the last read.
    fn conclude(&self, before: &Moment, last: &Moment, restoring: &Restoring, is_late: bool) {
        let mut differing = restoring::differing(&before.account, &last.account);
        let holds_text = Restoring::of(&before.account, None, &last.account)
            .changes
            .iter()
            .any(|change| change.field == restoring::FIELD);
        let has_other_text = differing.contains(&restoring::FIELD) && !restoring.left_alone.contains(&restoring::FIELD);
        if holds_text || has_other_text {
            self.not_restored("the update that restores it was not applied");
        } else {
            self.trial.state().is_open = is_late;
        }
        differing.retain(|field| *field != restoring::FIELD);
        let mut by_hand: Vec<(String, Value)> = Vec::new();
        for field in &differing {
            let value = before.raw.get(field.wire()).cloned().unwrap_or_default();
            by_hand.push((field.name().to_owned(), value));
        }
        if !restoring::same_stage(&before.raw, &last.raw) {
            let stage = before.raw.get("stage").cloned().unwrap_or_default();
            by_hand.push(("stage".to_owned(), stage.get("name").cloned().unwrap_or(stage)));
        }
        if !by_hand.is_empty() {
            let names = joined(by_hand.iter().map(|(name, _)| name.as_str()));
            self.trial.state().to_restore.extend(by_hand);
            self.trial.found(
                "restored",
                format!("These members of account {} differ from before the check: {names}.", self.trial.id),
                "Someone else may have changed them during the check, and the check does not overwrite such changes. \
                If no one did, restore them by hand. Their previous values are in to_restore, which is not part of \
                this report.",
                true,
            );
        }
        let is_left_alone = restoring.left_alone.contains(&restoring::FIELD);
        if holds_text || has_other_text || (!differing.is_empty() && !is_late) {
            return;
        }
        if is_left_alone {
            let found = "Someone else changed the description during the check. The check left that change in \
                place."
                .to_owned();
            self.trial.found("restored", found, "The account contains nothing from the check.", true);
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
    }

    async fn look(&self) -> Result<Moment, String> {
        let mut looking = self.client.begin_looking();
        let read = self.client.look_patiently(&mut looking, self.trial.id).await;
        self.trial.state().requests += looking.requests();
        read.map(Moment::from).map_err(|error| self.said(&error))
    }

    fn said(&self, error: &Error) -> String {
        match error {
            Error::Call(call) => said::failure(&call.failure, &self.client),
            other => other.to_string(),
        }
    }
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}
