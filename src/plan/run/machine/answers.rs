//! What the machine does with the answers to updates, and with requests that failed.

use std::time::Duration;

use super::super::RunError;
use super::super::effects::Effects;
use super::super::members::Altered;
use super::super::policy::{Direction, Kind, Refusal, Verdict};
use super::super::record::{finish, given_up, in_row, said_of};
use super::{InDoubt, Machine, Update};
use crate::account::{ContactAccount, Field, STAGE};
use crate::change::{Change, Deviations, Value, has_unsendable};
use crate::plan::Status;
use crate::plan::file::{Attempt, Finished, Members, OpenRow, Record};
use crate::sabotage::{Guard, is_off};

impl Machine {
    /// Takes the answer to [`Request::Update`].
    pub(in crate::plan::run) fn wrote(
        &mut self,
        update: Update,
        answer: Result<ContactAccount, Refusal>,
        now: Duration,
    ) -> Vec<Record> {
        self.writing = self.writing.saturating_sub(1);
        self.is_trying = false;
        self.staled = 0;
        let before = before_of(&update);
        let Update { mut row, fields, account, attempt: Attempt { unnamed, at_risk, .. }, changes, left, .. } = update;
        let answered = match answer {
            Ok(answered) => answered,
            Err(refusal) => {
                let was_marked = !row.was_sent;
                row.was_sent |= refusal.may_have_been_applied;
                let mut records = Vec::new();
                if was_marked && !row.was_sent {
                    records.push(self.not_sent(row, before));
                }
                if refusal.may_have_been_applied && !at_risk.is_empty() {
                    // An answer that a proxy has replaced comes after the update was applied, so a read shows what the
                    // update did.
                    let is_read =
                        |old: &InDoubt| old.is_read || (refusal.kind == Kind::Doubtful && old.altered.is_some());
                    let is_read = self.in_doubt.get(&row.row).is_some_and(is_read);
                    self.in_doubt.insert(row.row, InDoubt { members: at_risk, altered: None, is_read });
                    self.held_up_by = Some(row.row);
                }
                if refusal.may_have_been_applied && !self.is_proven {
                    self.unproven = Some(row.row);
                }
                records.extend(self.row_failed(row, Direction::Write, refusal, now));
                return records;
            }
        };
        self.is_proven = true;
        self.hold_up_no_other(row.row);
        let altered = self.in_doubt.remove(&row.row).and_then(|in_doubt| in_doubt.altered).unwrap_or_default();
        let mut records = self.succeeded(Direction::Write);
        let Deviations { fields: differing, lost, .. } = Deviations::of(&account, &fields, &answered);
        // The update may have reset the stage, or someone may have moved the account meanwhile.
        let lost: Vec<String> =
            lost.into_iter().filter(|name| name != STAGE || !has_unsendable(&answered, name)).collect();
        self.members.cleared(&lost);
        let effects = Effects::of(&account, &changes, &unnamed, !row.has_older_values, &differing, &answered);
        let were_unlisted = self.members.may_be_unlisted();
        let Altered { mut names, mut reset } = self.members.wrote(&account, &answered, effects.is_shown, &altered);
        names.extend(altered);
        if were_unlisted {
            records.extend(self.pages_are_of_use());
        }
        names.extend(effects.doubtful(&differing).map(|field| field.name().to_owned()));
        if effects.has_other_owner {
            reset.push(Field::OwnerUserId.name().to_owned());
        }
        let emptied: Vec<&'static str> = effects.emptied.iter().map(|field| field.name()).collect();
        let finished = Finished {
            stored_otherwise: !is_off(Guard::StoredOtherwise)
                && (!differing.is_empty()
                    || !lost.is_empty()
                    || !reset.is_empty()
                    || !effects.altered.is_empty()
                    || names.iter().any(|name| name == STAGE)),
            error: said_of(&differing, &lost, &names, &left).map(|text| in_row(row, &text)),
            answered: effects.answered,
            unplanned: effects.unplanned,
            altered: effects.altered,
            left,
            ..Finished::of(Status::Changed)
        };
        // A later run must not clear a member because this process dies between the two writes.
        if !lost.is_empty() {
            records.push(Record::Cleared(lost.clone()));
        }
        records.push(Record::Finish { row: row.row, finished });
        if !lost.is_empty() && self.spares_members() {
            self.fail(RunError::ClearedMembers { row: row.row, id: account.id, members: lost, is_written: true });
        } else if !reset.is_empty() && self.spares_members() {
            self.fail(RunError::ResetMembers { row: row.row, id: account.id, members: reset });
        }
        if !emptied.is_empty() && self.spares_members() {
            self.fail(RunError::EmptiedFields { row: row.row, id: account.id, fields: emptied });
        }
        records
    }

    /// An update was not sent, because all requests were held back by then, or because it would have been late. Its row
    /// is already marked as sent.
    pub(in crate::plan::run) fn held_back(&mut self, update: &Update) -> Vec<Record> {
        let before = before_of(update);
        let row = update.row;
        self.is_trying = false;
        self.writing = self.writing.saturating_sub(1);
        self.look_again(row);
        if row.was_sent { Vec::new() } else { vec![self.not_sent(row, before)] }
    }

    /// Makes a row pending again that was marked as sent. The next look may come before the file contains this, so the
    /// values are kept here.
    fn not_sent(&mut self, row: OpenRow, before: Vec<(Field, Value)>) -> Record {
        if !before.is_empty() {
            self.reopened.insert(row.row, before.clone());
        }
        Record::NotSent { row: row.row, before }
    }

    /// An update was not sent, because someone on this machine changes its account, or has changed it after the look.
    /// The row waits for its turn, in which the run reads the account again: no one overtakes it once more.
    pub(in crate::plan::run) fn overtaken(&mut self) {
        self.is_trying = false;
        self.writing = self.writing.saturating_sub(1);
        self.requests_left += 2;
        self.claiming += 1;
    }

    /// The run has the turn of a row that was overtaken.
    pub(in crate::plan::run) fn claimed(&mut self, row: OpenRow) {
        self.gave_up_claim();
        self.kept.insert(row.row);
        self.read_singly(row);
    }

    /// The run does not wait for the turn of a row any more.
    pub(in crate::plan::run) fn gave_up_claim(&mut self) {
        self.claiming = self.claiming.saturating_sub(1);
    }

    /// The run no longer keeps the turn of a row.
    pub(in crate::plan::run) fn gave_up_turn(&mut self, row: u64) {
        self.kept.remove(&row);
    }

    /// The turn of a row did not come for a long time. The process that has it may be suspended, so the row ends.
    pub(in crate::plan::run) fn blocked(&mut self, row: OpenRow, process: Option<u32>) -> Vec<Record> {
        self.gave_up_claim();
        // Other rows no longer wait for this one.
        self.unproven.take_if(|unproven| *unproven == row.row);
        self.hold_up_no_other_if_read(row.row);
        let other = match process {
            None => "this process".to_owned(),
            Some(0) => "another process".to_owned(),
            Some(process) => format!("process {process}"),
        };
        let status = if row.was_sent { Status::Unknown } else { Status::Failed };
        let error = format!("waited seven minutes for another update of this account by {other}");
        vec![finish(row, status, Some(error))]
    }

    /// An update was not sent, because the plan file could not be written.
    pub(in crate::plan::run) fn not_marked(&mut self) {
        self.writing = self.writing.saturating_sub(1);
        self.is_stopping = true;
    }

    pub(super) fn succeeded(&mut self, direction: Direction) -> Vec<Record> {
        self.policy.succeeded(direction);
        // Key and service work, so the postponed failures belong to their rows.
        let judged = std::mem::take(&mut self.set_aside).into_iter().partition(|(_, of, _)| *of == direction);
        let (judged, others): (Vec<_>, _) = judged;
        self.set_aside = others;
        judged.into_iter().map(|(row, _, refusal)| given_up(row, &refusal)).collect()
    }

    /// A request for one row failed.
    pub(super) fn row_failed(
        &mut self,
        row: OpenRow,
        direction: Direction,
        refusal: Refusal,
        now: Duration,
    ) -> Vec<Record> {
        let mut records = Vec::new();
        if matches!(refusal.kind, Kind::NotFound | Kind::Refused) {
            records = self.succeeded(direction);
        }
        let attempts = self.attempts.entry(row.row).or_default();
        let verdict = self.policy.failed(direction, Some(row.row), attempts, &refusal, now);
        if !matches!(verdict, Verdict::Retry(_)) {
            self.unproven.take_if(|unproven| *unproven == row.row);
        }
        match verdict {
            Verdict::Retry(from) => {
                self.retry(row, direction, from);
                if self.policy.is_outage() {
                    self.retry_what_was_set_aside(from);
                }
            }
            Verdict::SetAside => self.set_aside.push((row, direction, refusal)),
            Verdict::GiveUp => {
                records.push(given_up(row, &refusal));
                self.hold_up_no_other_if_read(row.row);
                if refusal.kind == Kind::NotFound {
                    self.hold_up_no_other(row.row);
                    // The account no longer exists, so it has lost nothing; unless this key can no longer see it.
                    let altered = self.in_doubt.get(&row.row).and_then(|in_doubt| in_doubt.altered.as_ref());
                    if altered.is_some_and(Vec::is_empty) {
                        records.push(Record::Lost { row: row.row, members: Members::new() });
                    }
                }
            }
            Verdict::Stop => {
                // The postponed rows stay as they are.
                self.fail(RunError::Call(refusal.error));
            }
        }
        records
    }

    fn retry(&mut self, row: OpenRow, direction: Direction, from: Duration) {
        self.requests_left += 1 + u64::from(direction == Direction::Write);
        self.later.insert((from, row.row), row);
    }

    /// The service is unavailable, so no row caused its recent failures.
    fn retry_what_was_set_aside(&mut self, from: Duration) {
        for (row, direction, refusal) in std::mem::take(&mut self.set_aside) {
            if refusal.kind == Kind::Passing {
                self.attempts.remove(&row.row);
                self.retry(row, direction, from);
            } else {
                self.set_aside.push((row, direction, refusal));
            }
        }
    }

    /// Returns what to record when nothing is left to send.
    pub(in crate::plan::run) fn last_records(&mut self) -> Vec<Record> {
        if self.stop.is_some() || self.is_stopping {
            return Vec::new();
        }
        std::mem::take(&mut self.set_aside).into_iter().map(|(row, _, refusal)| given_up(row, &refusal)).collect()
    }
}

/// Returns the values at planning of the fields that an update overwrites.
fn before_of(update: &Update) -> Vec<(Field, Value)> {
    let is_overwritten = |change: &&Change| update.attempt.overwritten.iter().any(|(field, _)| *field == change.field);
    update.changes.iter().filter(is_overwritten).map(|change| (change.field, change.before.clone())).collect()
}
