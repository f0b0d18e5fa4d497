//! What comes next while a plan is applied: look, write, wait or end. Pure: it sends nothing, waits for nothing and keeps
//! nothing. It is told what happened, and says what to record and which request comes next.
//!
//! Times are measured from the start of the run.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::policy::{Direction, Kind, Policy, Refusal, Verdict};
use super::{OnConflict, OnUnknownMember};
use crate::account::{AccountFields, ContactAccount, Field};
use crate::answer::Item;
use crate::change::{self, Change, Deviations, Drift, Value};
use crate::error::{Error, WaitReason};
use crate::plan::Status;
use crate::plan::file::{Finished, ItemsProof, OpenRow};
use crate::plan::planner::{Look, next_look};

use crate::sabotage::{Guard, is_off};
/// An account that was looked at longer ago is looked at again before it is written.
const FRESH: Duration = Duration::from_secs(120);

/// How a plan is to be applied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) on_conflict: OnConflict,
    pub(super) on_unknown_member: OnUnknownMember,
    /// How many updates are in flight at once.
    pub(super) concurrency: usize,
    /// How many rows are behind one look, so that it is fresh when the last of them is written.
    pub(super) most_on_a_look: usize,
    /// How many attempts a row has.
    pub(super) attempts: u32,
}

/// A request to send.
#[derive(Debug)]
pub(super) enum Request {
    /// A page of the list, to look at several rows.
    Page { rows: Vec<OpenRow>, top: u32, skip: u64 },
    /// One account, to look at one row.
    Account { row: OpenRow },
    /// An update.
    Update(Box<Update>),
}

/// An update that is ready to be sent.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) row: OpenRow,
    /// What is sent.
    pub(super) fields: AccountFields,
    /// What the row's edits really overwrite, where it is not what the plan says.
    pub(super) overwritten: Vec<(Field, Value)>,
    /// The account as it was looked at.
    pub(super) account: ContactAccount,
    changes: Vec<Change>,
    looked_at: Duration,
    /// Whether the account was read from a page of the list.
    is_from_page: bool,
}

/// Something to write to the plan file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// What became of a row.
    Finish { row: u64, finished: Finished },
    /// An update that was marked as sent is known not to have been applied.
    NotSent { row: u64 },
    /// Whether the items of the list are complete.
    Items(ItemsProof),
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Get a slot of the quota, then call [`Machine::start`].
    Request,
    /// Wait until then, or until something comes back.
    Wait(Duration, WaitReason),
    /// Wait until something comes back.
    Idle,
    /// The run has ended.
    Done,
}

/// Why a run ended before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// No request can succeed, or the service was out of reach for too long.
    Refused(Error),
    /// The service has a member that this version does not know, and updates clear it.
    UnknownMembers { row: u64, id: i64, members: Vec<String> },
    /// A plan that cannot be applied.
    Broken(&'static str),
}

/// The state of a run over a plan.
#[derive(Debug)]
pub(super) struct Machine {
    settings: Settings,
    policy: Policy,
    /// What is known of the list's items; `None` until one was compared with its account.
    items: Option<ItemsProof>,
    /// To be looked at by pages, in the order of their position in the list.
    todo: VecDeque<OpenRow>,
    /// To be looked at one by one, now.
    singly: VecDeque<OpenRow>,
    /// To be looked at one by one, from then on.
    later: BTreeMap<(Duration, u64), OpenRow>,
    /// Whose failure may be about the key or the service, with what failed.
    set_aside: Vec<(OpenRow, Direction, Refusal)>,
    ready: VecDeque<Update>,
    /// The row whose account is read again to compare it with its item of the list.
    proof: Option<u64>,
    attempts: HashMap<u64, u32>,
    looking: usize,
    writing: usize,
    requests_left: u64,
    /// Whether the service has taken an update of this run, so that more than one may be in flight.
    is_proven: bool,
    stop: Option<Stop>,
    is_stopping: bool,
}

impl Machine {
    /// Takes the rows that are left, in the order of their position in the list.
    pub(super) fn new(rows: Vec<OpenRow>, items: Option<ItemsProof>, settings: Settings) -> Self {
        let requests_left = requests_to_apply(&rows, items, settings.most_on_a_look);
        let mut machine = Self {
            settings,
            policy: Policy::new(settings.attempts),
            items,
            todo: rows.into(),
            singly: VecDeque::new(),
            later: BTreeMap::new(),
            set_aside: Vec::new(),
            ready: VecDeque::new(),
            proof: None,
            attempts: HashMap::new(),
            looking: 0,
            writing: 0,
            requests_left,
            is_proven: false,
            stop: None,
            is_stopping: false,
        };
        if items == Some(ItemsProof::Incomplete) {
            machine.singly = std::mem::take(&mut machine.todo);
        }
        machine
    }

    /// Starts nothing new. What is in flight comes to its end.
    pub(super) const fn wind_down(&mut self) {
        self.is_stopping = true;
    }

    /// The run has failed. The first reason counts.
    fn fail(&mut self, stop: Stop) {
        self.stop.get_or_insert(stop);
    }

    /// Why the run ended before its end.
    pub(super) fn into_stop(self) -> Option<Stop> {
        self.stop
    }

    /// How many requests are in flight.
    pub(super) const fn in_flight(&self) -> usize {
        self.looking + self.writing
    }

    /// How many requests are left, as far as that is known.
    pub(super) const fn requests_left(&self) -> u64 {
        self.requests_left
    }

    /// What to do next.
    pub(super) fn next(&mut self, now: Duration) -> Next {
        if self.stop.is_some() || self.is_stopping {
            return if self.in_flight() > 0 { Next::Idle } else { Next::Done };
        }
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            self.singly.push_back(entry.remove());
        }
        if self.policy.paused_until() > now && (self.has_look() || !self.ready.is_empty()) {
            return Next::Wait(self.policy.paused_until(), WaitReason::BackOff);
        }
        if self.wants_look() || self.may_write() {
            return Next::Request;
        }
        if self.in_flight() > 0 {
            return Next::Idle;
        }
        match self.later.first_key_value() {
            Some(((from, _), _)) => Next::Wait((*from).max(self.policy.paused_until()), WaitReason::BackOff),
            None => Next::Done,
        }
    }

    fn has_look(&self) -> bool {
        !(self.todo.is_empty() && self.singly.is_empty())
    }

    fn wants_look(&self) -> bool {
        self.looking == 0 && self.has_look() && (self.proof.is_some() || self.ready.len() < self.settings.concurrency)
    }

    fn may_write(&self) -> bool {
        let is_first = self.writing == 0 || (self.is_proven && !self.policy.is_outage());
        is_first && self.proof.is_none() && self.writing < self.settings.concurrency && !self.ready.is_empty()
    }

    /// The next request; `None` when there is none to send now. A slot of the quota must be at hand.
    pub(super) fn start(&mut self, now: Duration) -> Option<Request> {
        let request = self.choose(now);
        self.requests_left = self.requests_left.saturating_sub(u64::from(request.is_some()));
        request
    }

    fn choose(&mut self, now: Duration) -> Option<Request> {
        // The wait for the slot may have been long.
        if self.proof.is_none() && self.ready.front().is_some_and(|update| now.saturating_sub(update.looked_at) > FRESH)
        {
            for update in std::mem::take(&mut self.ready) {
                self.look_again(update.row);
            }
        }
        if self.wants_look() {
            return self.start_look();
        }
        if !self.may_write() {
            return None;
        }
        self.writing += 1;
        self.ready.pop_front().map(|update| Request::Update(Box::new(update)))
    }

    fn start_look(&mut self) -> Option<Request> {
        if let Some(row) = self.singly.pop_front() {
            self.looking += 1;
            return Some(Request::Account { row });
        }
        let most = self.settings.most_on_a_look;
        let rows = self.todo.make_contiguous();
        let from = if self.items.is_none() { start_of_proof(rows, most) } else { 0 };
        match next_look(rows, from, most)? {
            Look::Single(index) => {
                let row = self.todo.remove(index)?;
                self.looking += 1;
                Some(Request::Account { row })
            }
            Look::Page { rows, top, skip } => {
                self.looking += 1;
                Some(Request::Page { rows: self.todo.drain(rows).collect(), top, skip })
            }
        }
    }

    /// A row is to be looked at again: in the order of its position, or by itself when pages are of no use.
    fn look_again(&mut self, row: OpenRow) {
        self.requests_left += 1;
        if self.items == Some(ItemsProof::Incomplete) || row.position.is_none() {
            self.singly.push_back(row);
            return;
        }
        let place = (row.position, row.row);
        let index = self.todo.partition_point(|other| (other.position, other.row) < place);
        self.todo.insert(index, row);
    }

    /// A look was given up, since the run is to stop.
    pub(super) fn gave_up_look(&mut self) {
        self.looking = self.looking.saturating_sub(1);
    }

    /// The answer to [`Request::Page`]. `planned` is what each row changes.
    pub(super) fn looked_at_page(
        &mut self,
        rows: Vec<OpenRow>,
        mut planned: HashMap<u64, Vec<Change>>,
        answer: Result<Vec<Item>, Refusal>,
        now: Duration,
    ) -> Vec<Record> {
        self.looking = self.looking.saturating_sub(1);
        let items = match answer {
            Ok(items) => items,
            Err(refusal) => {
                match self.policy.failed(Direction::Read, None, &mut 0, &refusal, now) {
                    Verdict::Retry(_) => rows.into_iter().for_each(|row| self.look_again(row)),
                    _ => self.fail(Stop::Refused(refusal.error)),
                }
                return Vec::new();
            }
        };
        let mut records = self.succeeded(Direction::Read);
        let accounts = items.into_iter().filter_map(|item| match item {
            Item::Account(account) => Some((account.id, account)),
            // It is read by itself: `GET` may be able to tell it, or says what is wrong.
            Item::Unreadable { .. } => None,
        });
        let mut accounts: HashMap<i64, _> = accounts.collect();
        let mut heaviest: Option<(usize, u64)> = None;
        for row in rows {
            let account = row.account_id.and_then(|id| accounts.remove(&id));
            let changes = planned.remove(&row.row).unwrap_or_default();
            match account {
                // Nothing is decided by an item that may be cut: its row would be a conflict, or look done.
                Some(account)
                    if self.items != Some(ItemsProof::Complete)
                        && change::drift(&account, &changes) != Drift::None
                        && !is_off(Guard::CompleteItems) =>
                {
                    self.requests_left += 1;
                    self.singly.push_back(row);
                }
                Some(account) if account.is_complete() || is_off(Guard::CompleteItems) => {
                    let before = self.ready.len();
                    let number = row.row;
                    let weight = account.text_bytes();
                    records.extend(self.take_account(row, changes, account, true, now));
                    let is_heavier = heaviest.is_none_or(|(longest, _)| longest < weight);
                    if self.ready.len() > before && is_heavier {
                        heaviest = Some((weight, number));
                    }
                }
                Some(_) => {
                    if self.items != Some(ItemsProof::Incomplete) {
                        records.push(self.pages_are_of_no_use());
                    }
                    self.singly.push_back(row);
                }
                None => {
                    self.requests_left += 1;
                    self.singly.push_back(row);
                }
            }
        }
        if self.items.is_none()
            && let Some((_, number)) = heaviest
            && let Some(update) = self.ready.iter().find(|update| update.row.row == number)
        {
            self.proof = Some(number);
            self.singly.push_front(update.row);
        } else if self.items == Some(ItemsProof::Incomplete) {
            self.drop_what_pages_showed();
        }
        records
    }

    /// From now on every account is read by itself.
    fn pages_are_of_no_use(&mut self) -> Record {
        self.items = Some(ItemsProof::Incomplete);
        self.singly.append(&mut self.todo);
        let rows = self.singly.len() + self.later.len() + self.set_aside.len() + self.ready.len();
        self.requests_left = 2 * rows as u64;
        Record::Items(ItemsProof::Incomplete)
    }

    /// Has every account read by itself that is about to be written as a page showed it.
    fn drop_what_pages_showed(&mut self) {
        let (from_pages, others) = std::mem::take(&mut self.ready).into_iter().partition(|update| update.is_from_page);
        self.ready = others;
        let from_pages: VecDeque<Update> = from_pages;
        self.singly.extend(from_pages.into_iter().map(|update| update.row));
    }

    /// The answer to [`Request::Account`].
    pub(super) fn looked_at_account(
        &mut self,
        row: OpenRow,
        changes: Vec<Change>,
        answer: Result<ContactAccount, Refusal>,
        now: Duration,
    ) -> Vec<Record> {
        self.looking = self.looking.saturating_sub(1);
        let is_proof = self.proof == Some(row.row);
        let account = match answer {
            Ok(account) => account,
            Err(refusal) => {
                if is_proof {
                    // Another account serves as well.
                    self.proof = None;
                    self.ready.retain(|update| update.row.row != row.row);
                    for update in std::mem::take(&mut self.ready) {
                        self.look_again(update.row);
                    }
                }
                return self.row_failed(row, Direction::Read, refusal, now);
            }
        };
        let mut records = self.succeeded(Direction::Read);
        if is_proof {
            self.proof = None;
            let position = self.ready.iter().position(|update| update.row.row == row.row);
            let shown = position.and_then(|position| self.ready.remove(position));
            let is_complete = shown.is_some_and(|shown| is_complete(&shown.account, &account));
            if is_complete {
                self.items = Some(ItemsProof::Complete);
                records.push(Record::Items(ItemsProof::Complete));
            } else {
                records.push(self.pages_are_of_no_use());
                self.drop_what_pages_showed();
            }
        }
        records.extend(self.take_account(row, changes, account, false, now));
        records
    }

    /// An account was looked at: what is to be written, or what became of its row.
    fn take_account(
        &mut self,
        row: OpenRow,
        changes: Vec<Change>,
        account: ContactAccount,
        is_from_page: bool,
        now: Duration,
    ) -> Option<Record> {
        if changes.is_empty() {
            let error = "its account could not be read when the plan was made; plan this row again";
            return Some(finish(row, Status::Failed, Some(error.to_owned())));
        }
        let foreign: Vec<&str> = match change::drift(&account, &changes) {
            Drift::Done if !row.was_sent => return Some(finish(row, Status::Unchanged, None)),
            // A row that may have been sent is sent again even when it looks done: only an answer of ours tells that it is.
            Drift::None | Drift::Done => Vec::new(),
            Drift::Conflict(fields) => {
                let is_cut = |field: &Field| {
                    changes.iter().any(|change| change.field == *field && self.is_cut(change, &account))
                };
                fields.iter().filter(|field| !is_cut(field)).map(|field| field.name()).collect()
            }
        };
        if !foreign.is_empty() && self.settings.on_conflict == OnConflict::Skip {
            let names = foreign.join(", ");
            return Some(if row.was_sent {
                let error = format!(
                    "{names} is neither the value before nor the value sent: the service may store it in another form, or \
                     somebody has changed it since; apply(on_conflict=\"overwrite\") writes it again"
                );
                finish(row, Status::Unknown, Some(error))
            } else {
                finish(row, Status::Conflict, Some(format!("{names} changed since the plan was made")))
            });
        }
        // What an earlier attempt of ours may have written is not what revert is to restore.
        let is_kept = |change: &&Change| change.before.is(account.value(change.field));
        let overwritten = changes.iter().filter(|change| !row.was_sent && !is_kept(change) && !is_off(Guard::Answers));
        let overwritten = overwritten.map(|change| (change.field, account.value(change.field).into())).collect();
        let Ok(fields) = change::merged(&account, &changes) else {
            self.fail(Stop::Broken("a change of the plan is not of its field's kind"));
            return None;
        };
        self.ready.push_back(Update { row, fields, overwritten, account, changes, looked_at: now, is_from_page });
        None
    }

    /// Whether the plan saw only the beginning of a text, because the list cuts it.
    fn is_cut(&self, change: &Change, account: &ContactAccount) -> bool {
        let (Some(ItemsProof::Incomplete), Value::Text(before)) = (self.items, &change.before) else { return false };
        let Value::Text(now) = Value::from(account.value(change.field)) else { return false };
        !before.is_empty() && now.starts_with(before.as_str())
    }

    /// The answer to [`Request::Update`].
    pub(super) fn wrote(
        &mut self,
        update: Update,
        answer: Result<ContactAccount, Refusal>,
        now: Duration,
    ) -> Vec<Record> {
        self.writing = self.writing.saturating_sub(1);
        let Update { mut row, fields, account, changes, .. } = update;
        let answered = match answer {
            Ok(answered) => answered,
            Err(refusal) => {
                let was_marked = !row.was_sent;
                row.was_sent |= refusal.may_have_been_applied;
                let mut records = Vec::new();
                if was_marked && !row.was_sent {
                    records.push(Record::NotSent { row: row.row });
                }
                records.extend(self.row_failed(row, Direction::Write, refusal, now));
                return records;
            }
        };
        self.is_proven = true;
        let mut records = self.succeeded(Direction::Write);
        let Deviations { fields: differing, lost } = Deviations::of(&account, &fields, &answered);
        let is_otherwise = |change: &&Change| !change.after.is(answered.value(change.field)) && !is_off(Guard::Answers);
        let stored = changes.iter().filter(is_otherwise);
        let finished = Finished {
            status: Status::Changed,
            error: said_of(&differing, &lost).map(|text| in_row(row, &text)),
            stored_otherwise: !(differing.is_empty() && lost.is_empty() || is_off(Guard::StoredOtherwise)),
            answered: stored.map(|change| (change.field, answered.value(change.field).into())).collect(),
            at_ms: None,
        };
        records.push(Record::Finish { row: row.row, finished });
        if !lost.is_empty()
            && self.settings.on_unknown_member == OnUnknownMember::Stop
            && !is_off(Guard::UnknownMembers)
        {
            self.fail(Stop::UnknownMembers { row: row.row, id: account.id, members: lost });
        }
        records
    }

    /// An update was not sent, because everything was to be held back by then. Its row is marked as sent already.
    pub(super) fn held_back(&mut self, row: OpenRow) -> Vec<Record> {
        self.writing = self.writing.saturating_sub(1);
        self.look_again(row);
        if row.was_sent { Vec::new() } else { vec![Record::NotSent { row: row.row }] }
    }

    /// An update was not sent, because this process has changed its account since the look.
    pub(super) fn overtaken(&mut self, row: OpenRow) {
        self.writing = self.writing.saturating_sub(1);
        self.requests_left += 2;
        self.singly.push_front(row);
    }

    /// An update was not sent, because the plan file could not be written.
    pub(super) fn not_marked(&mut self) {
        self.writing = self.writing.saturating_sub(1);
        self.is_stopping = true;
    }

    fn succeeded(&mut self, direction: Direction) -> Vec<Record> {
        self.policy.succeeded(direction);
        // Key and service work, so that what was set aside is the fault of its rows.
        let judged = std::mem::take(&mut self.set_aside).into_iter().partition(|(_, of, _)| *of == direction);
        let (judged, others): (Vec<_>, _) = judged;
        self.set_aside = others;
        judged.into_iter().map(|(row, _, refusal)| given_up(row, &refusal)).collect()
    }

    /// A request for one row failed.
    fn row_failed(&mut self, row: OpenRow, direction: Direction, refusal: Refusal, now: Duration) -> Vec<Record> {
        let mut records = Vec::new();
        if matches!(refusal.kind, Kind::NotFound | Kind::Refused) {
            self.is_proven |= direction == Direction::Write;
            records = self.succeeded(direction);
        }
        let attempts = self.attempts.entry(row.row).or_default();
        match self.policy.failed(direction, Some(row.row), attempts, &refusal, now) {
            Verdict::Retry(from) => {
                self.retry(row, direction, from);
                if self.policy.is_outage() {
                    self.retry_what_was_set_aside(from);
                }
            }
            Verdict::SetAside => self.set_aside.push((row, direction, refusal)),
            Verdict::GiveUp => records.push(given_up(row, &refusal)),
            Verdict::Stop => {
                // Those that were set aside stay as they are.
                self.fail(Stop::Refused(refusal.error));
            }
        }
        records
    }

    fn retry(&mut self, row: OpenRow, direction: Direction, from: Duration) {
        self.requests_left += 1 + u64::from(direction == Direction::Write);
        self.later.insert((from, row.row), row);
    }

    /// The service is out of order, so that no row is at fault for what failed meanwhile.
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

    /// What is left to record when nothing is left to send.
    pub(super) fn last_records(&mut self) -> Vec<Record> {
        if self.stop.is_some() || self.is_stopping {
            return Vec::new();
        }
        std::mem::take(&mut self.set_aside).into_iter().map(|(row, _, refusal)| given_up(row, &refusal)).collect()
    }
}

/// How many requests it takes to apply rows.
pub(super) fn requests_to_apply(rows: &[OpenRow], items: Option<ItemsProof>, most_on_a_look: usize) -> u64 {
    if items == Some(ItemsProof::Incomplete) {
        return 2 * rows.len() as u64;
    }
    let (mut requests, mut has_page) = (rows.len() as u64, false);
    for (_, look) in looks(rows, most_on_a_look) {
        requests += 1;
        has_page |= matches!(look, Look::Page { .. });
    }
    requests + u64::from(has_page && items.is_none())
}

/// The looks at rows, one after the other.
fn looks(rows: &[OpenRow], most: usize) -> impl Iterator<Item = (usize, Look)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let look = next_look(rows, start, most)?;
        let from = std::mem::replace(&mut start, look.end());
        Some((from, look))
    })
}

/// Where the look begins that shows the account with the longest texts: that account tells whether items are cut.
fn start_of_proof(rows: &[OpenRow], most: usize) -> usize {
    let on_pages = rows.iter().enumerate().filter(|(_, row)| row.position.is_some());
    let Some((heaviest, _)) = on_pages.max_by_key(|(_, row)| row.weight) else { return 0 };
    looks(rows, most).find(|(_, look)| look.end() > heaviest).map_or(0, |(from, _)| from)
}

/// Whether an item of the list shows all that `GET` shows, in every field that an update carries.
fn is_complete(item: &ContactAccount, account: &ContactAccount) -> bool {
    let is_shown = |field: &Field| item.has(*field) && Value::from(item.value(*field)).is(account.value(*field));
    is_off(Guard::CompleteItems) || Field::ALL.iter().all(is_shown)
}

fn finish(row: OpenRow, status: Status, error: Option<String>) -> Record {
    let error = error.map(|error| in_row(row, &error));
    Record::Finish {
        row: row.row,
        finished: Finished { status, error, stored_otherwise: false, answered: Vec::new(), at_ms: None },
    }
}

/// What became of a row whose request failed for good.
fn given_up(row: OpenRow, refusal: &Refusal) -> Record {
    let status = match refusal.kind {
        Kind::NotFound => Status::NotFound,
        _ if row.was_sent => Status::Unknown,
        _ => Status::Failed,
    };
    finish(row, status, Some(refusal.error.to_string()))
}

fn in_row(row: OpenRow, text: &str) -> String {
    format!("row {}: {text}", row.row)
}

/// What a row says when the service's answer is not what was sent.
fn said_of(differing: &[Field], lost: &[String]) -> Option<String> {
    let mut parts = Vec::new();
    if !differing.is_empty() {
        let names: Vec<&str> = differing.iter().map(|field| field.name()).collect();
        parts.push(format!("the service answered {} differently from what was sent", names.join(", ")));
    }
    if !lost.is_empty() {
        parts.push(format!("the update cleared {}, which this version of replyio does not know", lost.join(", ")));
    }
    (!parts.is_empty()).then(|| format!("written, but {}", parts.join("; ")))
}
