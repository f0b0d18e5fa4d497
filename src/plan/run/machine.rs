//! Decides what comes next in a run: look, update, wait or end. Pure: it sends nothing, waits for nothing and stores
//! nothing. The caller reports what happened; the machine returns what to record and which request comes next.
//!
//! Times are measured from the start of the run.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::looks::{parted, requests_to_apply, start_of_proof};
use super::members::{Altered, Members};
use super::policy::{Direction, Kind, Policy, Refusal, Verdict};
use super::proof::{self, Compared, FEWEST, Proofs};
use super::record::{Record, finish, given_up, in_row, said_of, unchanged};
use super::{OnConflict, OnUnknownMember, RunError};
use crate::account::{AccountFields, ContactAccount, Field, STAGE};
use crate::answer::Item;
use crate::change::{self, Change, Deviations, Drift, Value, filled, has_lost, has_unsendable, unsendable};
use crate::error::{Error, WaitReason};
use crate::plan::file::{self, AtRisk, FileError, Finished, ItemsProof, OpenRow, Unplanned};
use crate::plan::planner::{Look, next_look};
use crate::plan::{MatchOn, Status};
use crate::sabotage::{Guard, is_off};
use crate::text::is_blank;

/// A look that is older than this is repeated before the update.
const FRESH: Duration = Duration::from_secs(120);
/// The most looks in succession that may become too old before a run gives up.
const MOST_STALED: u32 = 5;
const TOO_SLOW: &str = "the quota allows this run so few requests that no update could be sent within two minutes after \
    its account was read; every row stays as it is. Wait until other programs of this user have ended, or raise the \
    quota, then apply again";

/// How to apply a plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) on_conflict: OnConflict,
    pub(super) on_unknown_member: OnUnknownMember,
    /// The most updates in flight.
    pub(super) concurrency: usize,
    /// The most rows per look. The look must still be fresh when the run updates the last of them.
    pub(super) most_on_a_look: usize,
    /// The most attempts for a row.
    pub(super) attempts: u32,
    /// Whether the plan changes only fields without a value.
    pub(super) fills: bool,
}

/// A request to send.
#[derive(Debug)]
pub(super) enum Request {
    /// A page of the list, for several rows.
    Page { rows: Vec<OpenRow>, top: u32, skip: u64 },
    /// One account, for one row.
    Account { row: OpenRow },
    /// An update.
    Update(Box<Update>),
}

/// An update that is ready to be sent.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) row: OpenRow,
    /// The fields of the update.
    pub(super) fields: AccountFields,
    /// The account's values that the update overwrites, where they differ from the values at planning.
    pub(super) overwritten: Vec<(Field, Value)>,
    /// The account at the look.
    pub(super) account: ContactAccount,
    /// The members of the account that the update may clear, with their values. Empty if updates were seen to keep
    /// them, or if the run may clear members.
    pub(super) at_risk: file::Members,
    changes: Vec<Change>,
    /// The fields that a revert does not restore, because someone has changed them since.
    left: Vec<Field>,
    looked_at: Duration,
    /// Whether the account comes from a page of the list.
    is_from_page: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Get a slot of the quota, then call [`Machine::start`].
    Request,
    /// Wait until this moment, or until a result arrives.
    Wait(Duration, WaitReason),
    /// Wait until a result arrives.
    Idle,
    /// The run has ended.
    Done,
}

/// An update that may have cleared members, and that no answer confirmed.
#[derive(Debug)]
struct InDoubt {
    at_risk: AtRisk,
    /// The members that had another value when the account was read again: the update reset them, or someone changed
    /// them. The service may apply the update later. `None` until then.
    altered: Option<Vec<String>>,
    /// Whether an earlier run sent it.
    is_old: bool,
}

/// The state of a run over a plan.
#[derive(Debug)]
pub(super) struct Machine {
    settings: Settings,
    policy: Policy,
    /// Whether the list's items are complete; `None` until enough of them were compared with their accounts, or one
    /// lacked something.
    items: Option<ItemsProof>,
    /// Rows to read by pages, in the order of their position in the list.
    todo: VecDeque<OpenRow>,
    /// Rows to read with `GET` now.
    singly: VecDeque<OpenRow>,
    /// Rows to read with `GET` from this moment on.
    later: BTreeMap<(Duration, u64), OpenRow>,
    /// Rows whose failure may be about the key or the service, with the failure.
    set_aside: Vec<(OpenRow, Direction, Refusal)>,
    ready: VecDeque<Update>,
    proofs: Proofs,
    /// The rows whose accounts are read again to compare them with their items of the list.
    to_prove: HashSet<u64>,
    /// The list's items of accounts that are still to be compared, kept after another item turned out to be incomplete.
    shown: HashMap<u64, ContactAccount>,
    /// Rows whose decision waited for these items.
    waited: HashSet<u64>,
    /// What is known about the members that an update cannot include.
    members: Members,
    /// Whether an update in flight may clear such a member.
    is_trying: bool,
    /// An update that may have cleared members, or may still do so, and that no answer confirmed.
    in_doubt: Option<InDoubt>,
    attempts: HashMap<u64, u32>,
    overtakings: HashMap<u64, u32>,
    /// The values at planning of rows that were marked as sent and were not, until their accounts are read again.
    reopened: HashMap<u64, Vec<(Field, Value)>>,
    looking: usize,
    /// When the last look was sent; `None` if the computer slept after that, so its answer may be old. There is one
    /// look at a time.
    looked_at: Option<Duration>,
    writing: usize,
    /// How often in succession looks became too old, without an update in between.
    staled: u32,
    requests_left: u64,
    match_on: MatchOn,
    /// The names or domains that matched the rows.
    keys: HashMap<u64, String>,
    /// Whether the service accepted an update of this run, so that several may be in flight.
    is_proven: bool,
    stop: Option<RunError>,
    is_stopping: bool,
}

impl Machine {
    /// Takes the remaining rows, in the order of their position in the list.
    pub(super) fn new(rows: Vec<OpenRow>, items: Option<ItemsProof>, settings: Settings) -> Self {
        let requests_left = requests_to_apply(rows.clone(), items, settings.most_on_a_look);
        let (singly, todo) = parted(rows, items);
        Self {
            settings,
            policy: Policy::new(settings.attempts),
            items,
            todo: todo.into(),
            singly: singly.into(),
            later: BTreeMap::new(),
            set_aside: Vec::new(),
            ready: VecDeque::new(),
            proofs: Proofs::default(),
            to_prove: HashSet::new(),
            shown: HashMap::new(),
            waited: HashSet::new(),
            members: Members::default(),
            is_trying: false,
            in_doubt: None,
            attempts: HashMap::new(),
            overtakings: HashMap::new(),
            reopened: HashMap::new(),
            looking: 0,
            looked_at: None,
            writing: 0,
            staled: 0,
            requests_left,
            match_on: MatchOn::Id,
            keys: HashMap::new(),
            is_proven: false,
            stop: None,
            is_stopping: false,
        }
    }

    /// Makes each row check that its account still has the name or domain that matched: it may have moved to another
    /// account.
    pub(super) fn matched(mut self, match_on: MatchOn, keys: HashMap<u64, String>) -> Self {
        (self.match_on, self.keys) = (match_on, keys);
        self
    }

    /// Makes the run update no account that has one of these members, because an earlier update of the plan cleared
    /// them. Whether an update in doubt did so shows when its account is read, which comes first. A run that does not have
    /// its row updates no account with such a member.
    pub(super) fn sparing(mut self, cleared_members: Vec<String>, in_doubt: Option<AtRisk>) -> Self {
        self.members = Members::new(cleared_members);
        self.in_doubt = in_doubt.map(|at_risk| {
            if let Some(place) = self.todo.iter().position(|row| row.row == at_risk.row) {
                self.requests_left += 1;
                self.singly.extend(self.todo.remove(place));
            }
            let is_old = self.singly.iter().any(|row| row.row == at_risk.row);
            InDoubt { at_risk, altered: None, is_old }
        });
        self
    }

    /// Returns whether a row would find its account again.
    fn still_matches(&self, row: OpenRow, account: &ContactAccount) -> bool {
        self.keys.get(&row.row).is_none_or(|key| self.match_on.still_matches(key, account))
    }

    /// Makes the machine start nothing new. Requests in flight finish.
    pub(super) const fn wind_down(&mut self) {
        self.is_stopping = true;
    }

    /// Makes the run fail. The first reason counts.
    pub(super) fn fail(&mut self, stop: RunError) {
        self.stop.get_or_insert(stop);
    }

    /// Returns why the run ended early.
    pub(super) fn into_stop(self) -> Option<RunError> {
        self.stop
    }

    /// Returns the number of requests in flight.
    pub(super) const fn in_flight(&self) -> usize {
        self.looking + self.writing
    }

    /// Returns the number of requests left, as far as it is known.
    pub(super) const fn requests_left(&self) -> u64 {
        self.requests_left
    }

    /// Returns what to do next.
    pub(super) fn next(&mut self, now: Duration) -> Next {
        if self.stop.is_some() || self.is_stopping {
            return if self.in_flight() > 0 { Next::Idle } else { Next::Done };
        }
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            let row = entry.remove();
            // Rows that others wait for come first.
            if self.is_in_doubt(row) { self.singly.push_front(row) } else { self.singly.push_back(row) }
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
        // No account read with `GET` has shown what updates do to a member that pages do not show.
        if self.are_pages_doubtful()
            && self.to_prove.is_empty()
            && self.next_to_write().is_none()
            && let Some(update) = self.ready.pop_front()
        {
            self.requests_left += 1;
            self.singly.push_front(update.row);
            return Next::Request;
        }
        if let Some(((from, _), _)) = self.later.first_key_value() {
            return Next::Wait((*from).max(self.policy.paused_until()), WaitReason::BackOff);
        }
        if !self.ready.is_empty()
            && let Some(in_doubt) = self.in_doubt.take()
        {
            // The account still has the members, or two runs got no answer about it. The next update is sent alone and
            // shows the same.
            if in_doubt.is_old || in_doubt.altered.is_some() {
                return self.next(now);
            }
            let AtRisk { row, members, .. } = in_doubt.at_risk;
            self.fail(RunError::InDoubt { row, members: members.into_keys().collect() });
        }
        Next::Done
    }

    fn has_look(&self) -> bool {
        !(self.todo.is_empty() && self.singly.is_empty())
    }

    fn wants_look(&self) -> bool {
        let wants_more = !self.to_prove.is_empty()
            || self.ready.len() < self.settings.concurrency
            || (self.next_to_write().is_none() && !self.singly.is_empty())
            || self.singly.front().is_some_and(|row| self.is_in_doubt(*row));
        self.looking == 0 && self.has_look() && wants_more
    }

    /// Returns whether an update is ready whose look would become too old if the run read other accounts first, for
    /// example with a small quota.
    fn is_update_pressing(&self, now: Duration) -> bool {
        let is_aging = |update: &Update| now.saturating_sub(update.looked_at) > FRESH / 4;
        self.ready.iter().any(is_aging) && self.may_write()
    }

    fn may_write(&self) -> bool {
        let Some(next) = self.next_to_write().and_then(|place| self.ready.get(place)) else { return false };
        // Only one update is in flight until the service has accepted one, during an outage, and until its effect on a
        // member is known.
        let is_trial = !self.is_proven || self.policy.is_outage() || self.is_trying || self.may_clear_a_member(next);
        let most = if is_trial { 1 } else { self.settings.concurrency };
        let may_clear_more = self.in_doubt.is_some() && !self.is_in_doubt(next.row) && self.may_clear_a_member(next);
        self.to_prove.is_empty() && self.writing < most && !may_clear_more
    }

    /// Returns the position of the next update in `ready`: the one in doubt; otherwise the first, or, if pages may hide
    /// members, the first whose account was read with `GET`.
    fn next_to_write(&self) -> Option<usize> {
        let mut updates = self.ready.iter();
        if let Some(place) = updates.clone().position(|update| self.is_in_doubt(update.row)) {
            return Some(place);
        }
        if self.are_pages_doubtful() {
            updates.position(|update| !update.is_from_page)
        } else {
            updates.next().map(|_| 0)
        }
    }

    /// Returns whether an account has a member that updates may clear: no update was seen to keep it.
    fn may_clear_a_member(&self, update: &Update) -> bool {
        self.spares_members() && self.members.at_risk(&update.account).next().is_some()
    }

    /// Returns whether an account on a page may have such a member, which the page does not show.
    fn are_pages_doubtful(&self) -> bool {
        self.spares_members() && self.members.may_be_unlisted()
    }

    fn spares_members(&self) -> bool {
        self.settings.on_unknown_member == OnUnknownMember::Stop && !is_off(Guard::UnknownMembers)
    }

    /// Returns the next request; `None` if there is none to send now. The caller must have a slot of the quota.
    pub(super) fn start(&mut self, now: Duration) -> Option<Request> {
        let request = self.choose(now);
        if matches!(request, Some(Request::Page { .. } | Request::Account { .. })) {
            self.looked_at = Some(now);
        }
        self.requests_left = self.requests_left.saturating_sub(u64::from(request.is_some()));
        request
    }

    fn choose(&mut self, now: Duration) -> Option<Request> {
        // The wait for the slot may have been long.
        let is_stale = |update: &Update| now.saturating_sub(update.looked_at) > FRESH;
        if self.to_prove.is_empty() && self.ready.iter().any(is_stale) {
            self.staled += 1;
            if self.staled > MOST_STALED {
                self.fail(RunError::Call(Error::Configuration(TOO_SLOW.to_owned())));
                return None;
            }
            self.look_again_if(is_stale);
        }
        if self.wants_look() && !self.is_update_pressing(now) {
            return self.start_look();
        }
        if !self.may_write() {
            return None;
        }
        let mut update = self.ready.remove(self.next_to_write()?)?;
        self.is_trying = self.may_clear_a_member(&update);
        if self.is_trying {
            let members = self.members.at_risk(&update.account);
            let with_value = |name: &str| (name.to_owned(), unsendable(&update.account, name).into_owned());
            update.at_risk = members.map(with_value).collect();
            // Its values before the update in doubt still show what that update did.
            if let Some(in_doubt) = self.in_doubt.as_ref().filter(|in_doubt| in_doubt.at_risk.row == update.row.row) {
                update.at_risk.extend(in_doubt.at_risk.members.clone());
            }
        }
        self.writing += 1;
        self.staled = 0;
        Some(Request::Update(Box::new(update)))
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

    /// Schedules a row for another look: in the order of its position, or with `GET` if pages are useless.
    fn look_again(&mut self, row: OpenRow) {
        self.requests_left += 1;
        if self.is_in_doubt(row) {
            self.singly.push_front(row);
            return;
        }
        if self.items == Some(ItemsProof::Incomplete) || row.position.is_none() {
            self.singly.push_back(row);
            return;
        }
        let place = (row.position, row.row);
        let index = self.todo.partition_point(|other| (other.position, other.row) < place);
        self.todo.insert(index, row);
    }

    /// The computer slept, so every look may be old, whatever the clock says.
    pub(super) fn slept(&mut self) {
        self.looked_at = None;
        self.shown.clear();
        self.look_again_if(|_| true);
    }

    /// Looks again at the accounts of updates. Those to be proved are already scheduled.
    fn look_again_if(&mut self, is_useless: impl Fn(&Update) -> bool) {
        let (again, kept): (VecDeque<_>, _) = std::mem::take(&mut self.ready).into_iter().partition(is_useless);
        self.ready = kept;
        let looked_at_soon = std::mem::take(&mut self.to_prove);
        for update in again {
            if !looked_at_soon.contains(&update.row.row) {
                self.look_again(update.row);
            }
        }
    }

    /// A look was given up, because the run is to stop.
    pub(super) fn gave_up_look(&mut self) {
        self.looking = self.looking.saturating_sub(1);
    }

    /// Takes the answer to [`Request::Page`]. `planned` contains the changes of each row.
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
                    _ => self.fail(RunError::Call(refusal.error)),
                }
                return Vec::new();
            }
        };
        let mut records = self.succeeded(Direction::Read);
        if self.looked_at.is_none() {
            for row in rows {
                self.look_again(row);
            }
            return records;
        }
        let accounts = items.into_iter().filter_map(|item| match item {
            Item::Account(account) => Some((account.id, account)),
            // The row is read with `GET`, which may be able to read it, or reports what is wrong.
            Item::Unreadable { .. } => None,
        });
        let mut accounts: HashMap<i64, _> = accounts.collect();
        for account in accounts.values() {
            self.members.listed(account);
        }
        let ready_before = self.ready.len();
        let mut is_useless = false;
        for row in rows {
            let account = row.account_id.and_then(|id| accounts.remove(&id));
            let changes = planned.remove(&row.row).unwrap_or_default();
            match account {
                // `GET` shows what its update cleared.
                Some(_) if self.is_in_doubt(row) => {
                    self.requests_left += 1;
                    self.singly.push_front(row);
                }
                // `GET` shows whether it has another name, or the list truncates it.
                Some(account) if !self.still_matches(row, &account) => {
                    self.requests_left += 1;
                    self.singly.push_back(row);
                }
                // An item that may be truncated decides nothing: its row would become a conflict, or look done.
                Some(account)
                    if self.items != Some(ItemsProof::Complete)
                        && change::drift(&account, &changes) != Drift::None
                        && !is_off(Guard::CompleteItems) =>
                {
                    self.requests_left += 1;
                    self.singly.push_back(row);
                }
                Some(account) if account.is_complete() || is_off(Guard::CompleteItems) => {
                    records.extend(self.take_account(row, changes, account, true));
                }
                Some(_) => {
                    is_useless = true;
                    self.singly.push_back(row);
                }
                None => {
                    self.requests_left += 1;
                    self.singly.push_back(row);
                }
            }
        }
        if is_useless {
            records.extend(self.pages_are_of_no_use());
        } else {
            self.demand_proofs(ready_before);
        }
        records
    }

    /// Schedules accounts of the page for `GET` before any of them is updated.
    fn demand_proofs(&mut self, ready_before: usize) {
        let on_page: Vec<&Update> = self.ready.iter().skip(ready_before).collect();
        let accounts: Vec<&ContactAccount> = on_page.iter().map(|update| &update.account).collect();
        let mut places = self.proofs.demanded(&accounts);
        let are_most_demanded = accounts.len() > FEWEST && 2 * places.len() > accounts.len();
        let mut in_estimate = if self.items.is_none() { FEWEST } else { 0 };
        if are_most_demanded {
            places = proof::spread(&places, accounts.len(), FEWEST);
        } else {
            if self.items.is_none() {
                proof::sample(&accounts, &mut places);
            }
            let before = places.len();
            proof::spot_checks(accounts.len(), &mut places);
            in_estimate += places.len() - before;
        }
        let rows: Vec<OpenRow> = places.iter().filter_map(|place| on_page.get(*place)).map(|one| one.row).collect();
        if are_most_demanded {
            // Comparing all of them would delay every update. The others are read with `GET`, so no update is built on
            // what the page shows of them.
            let is_proof = |update: &Update| rows.contains(&update.row);
            let on_page = self.ready.split_off(ready_before).into_iter();
            let (kept, others): (VecDeque<_>, VecDeque<_>) = on_page.partition(is_proof);
            self.ready.extend(kept);
            self.requests_left += others.len() as u64;
            self.singly.extend(others.into_iter().map(|update| update.row));
        }
        self.requests_left += rows.len().saturating_sub(in_estimate) as u64;
        for row in rows {
            self.to_prove.insert(row.row);
            self.singly.push_front(row);
        }
    }

    /// Returns what a later run need not find out again.
    fn pages_are_of_use(&self) -> Option<Record> {
        let are_of_use = self.items == Some(ItemsProof::Complete) && !self.members.may_be_unlisted();
        are_of_use.then_some(Record::Items(ItemsProof::Complete))
    }

    /// Reads every account with `GET` from now on. Returns what a later run need not find out again.
    fn pages_are_of_no_use(&mut self) -> Option<Record> {
        let was_known = self.items.replace(ItemsProof::Incomplete) == Some(ItemsProof::Incomplete);
        // The run reads these accounts next. Several texts that end at the same length show where the list truncates.
        let shown = self.ready.iter().filter(|update| self.to_prove.contains(&update.row.row));
        self.shown.extend(shown.map(|update| (update.row.row, update.account.clone())));
        self.singly.append(&mut self.todo);
        self.look_again_if(|update| update.is_from_page);
        if was_known {
            return None;
        }
        let to_read = self.singly.len() + self.later.len() + self.set_aside.len();
        self.requests_left = (2 * to_read + self.ready.len()) as u64;
        Some(Record::Items(ItemsProof::Incomplete))
    }

    /// Takes the answer to [`Request::Account`].
    pub(super) fn looked_at_account(
        &mut self,
        row: OpenRow,
        changes: Vec<Change>,
        answer: Result<ContactAccount, Refusal>,
        now: Duration,
    ) -> Vec<Record> {
        self.looking = self.looking.saturating_sub(1);
        let is_proof = self.to_prove.remove(&row.row);
        let shown = is_proof.then(|| self.ready.iter().position(|update| update.row.row == row.row)).flatten();
        let shown = shown.and_then(|place| self.ready.remove(place)).map(|update| update.account);
        let shown = shown.or(self.shown.remove(&row.row));
        let account = match answer {
            Ok(account) => account,
            Err(refusal) => {
                if is_proof {
                    // Without this proof, no account from a page may be updated. Another account can provide the proof.
                    self.look_again_if(|update| update.is_from_page);
                }
                return self.row_failed(row, Direction::Read, refusal, now);
            }
        };
        let mut records = self.succeeded(Direction::Read);
        if self.looked_at.is_none() {
            self.look_again(row);
            return records;
        }
        if let Some(shown) = shown {
            self.members.compare(&shown, &account);
            match self.proofs.compare(&shown, &account) {
                Compared::Whole if self.to_prove.is_empty() && self.items.is_none() && self.proofs.are_enough() => {
                    self.items = Some(ItemsProof::Complete);
                    records.extend(self.pages_are_of_use());
                }
                Compared::Whole => {}
                Compared::Contradicting(fields) if self.spares_members() => {
                    let fields = fields.iter().map(|field| field.name()).collect();
                    self.fail(RunError::Contradiction { row: row.row, id: account.id, fields });
                    return records;
                }
                Compared::Lacking | Compared::Contradicting(_) => {
                    let found = self.pages_are_of_no_use();
                    // The update of this row.
                    self.requests_left += u64::from(found.is_some());
                    records.extend(found);
                }
            }
        }
        let was_in_doubt = self.is_in_doubt(row);
        if was_in_doubt && let Some(in_doubt) = &mut self.in_doubt {
            let members = in_doubt.at_risk.members.iter();
            let differs = |(name, before): &(&String, &serde_json::Value)| has_lost(name, before, &account);
            let differing: Vec<String> = members.filter(differs).map(|(name, _)| name.clone()).collect();
            let (lost, altered): (Vec<String>, Vec<String>) =
                differing.into_iter().partition(|name| name != STAGE || !has_unsendable(&account, name));
            in_doubt.altered = Some(altered);
            if !lost.is_empty() {
                self.in_doubt = None;
                self.members.cleared(&lost);
                // The doubt is over. A later run updates this account, which has lost the members already.
                records.extend([Record::Cleared(lost.clone()), Record::NotAtRisk { row: row.row }]);
                self.fail(RunError::ClearedMembers { row: row.row, id: account.id, members: lost, is_written: true });
                return records;
            }
        }
        let finished = self.take_account(row, changes, account, false);
        if was_in_doubt && finished.is_some() {
            // The run does not write the row again, and its account still had the members, or someone changed them.
            self.in_doubt = None;
        }
        records.extend(finished);
        records
    }

    /// Returns whether a row has an update that may have cleared members, or may still do so, and that no answer
    /// confirmed.
    fn is_in_doubt(&self, row: OpenRow) -> bool {
        self.spares_members() && self.in_doubt.as_ref().is_some_and(|in_doubt| in_doubt.at_risk.row == row.row)
    }

    /// Takes an account that was read: prepares its update, or returns the outcome of its row.
    fn take_account(
        &mut self,
        row: OpenRow,
        mut changes: Vec<Change>,
        account: ContactAccount,
        is_from_page: bool,
    ) -> Option<Record> {
        let reopened = self.reopened.remove(&row.row);
        for (field, before) in reopened.iter().flatten() {
            changes
                .iter_mut()
                .filter(|change| change.field == *field)
                .for_each(|change| change.before = before.clone());
        }
        if changes.is_empty() {
            let error = "reading its account failed when the plan was made; plan this row again";
            return Some(finish(row, Status::Failed, Some(error.to_owned())));
        }
        let is_left = |change: &Change| {
            let is = |value: &Value| value.is(change.field, account.value(change.field));
            !(change.is_planned || is(&change.before) || is(&change.after))
        };
        let left: Vec<Field> = changes.iter().filter(|change| is_left(change)).map(|change| change.field).collect();
        changes.retain(|change| !is_left(change));
        let drift = change::drift(&account, &changes);
        // If the account has all values of an update that may have been sent, the service stored the name or domain in
        // another form.
        let is_ours = row.was_sent && drift == Drift::Done;
        if !is_ours && !self.still_matches(row, &account) {
            let name = self.match_on.as_str();
            let error = format!("the account no longer has the {name} that matched this row; plan this row again");
            let status = if row.was_sent { Status::Unknown } else { Status::Conflict };
            return Some(finish(row, status, Some(error)));
        }
        let foreign: Vec<Field> = match drift {
            Drift::Done if !row.was_sent => return Some(unchanged(row, left)),
            // A row that may have been sent is sent again even if it looks done: only an answer confirms it.
            Drift::None | Drift::Done => Vec::new(),
            Drift::Conflict(fields) => {
                let change_of = |field: &Field| changes.iter().find(|change| change.field == *field);
                let is_cut = |change| self.proofs.is_cut(change, &account);
                let cut: Vec<_> = fields.iter().map(|field| change_of(field).map_or(Some(false), is_cut)).collect();
                if cut.contains(&None) && self.waits_for_items(row, reopened) {
                    return None;
                }
                fields.into_iter().zip(cut).filter(|(_, cut)| *cut != Some(true)).map(|(field, _)| field).collect()
            }
        };
        let is_kept =
            self.settings.fills && foreign.iter().any(|field| filled(*field, account.value(*field)).is_some());
        if !foreign.is_empty() && (self.settings.on_conflict == OnConflict::Skip || is_kept) {
            let names = foreign.iter().map(|field| field.name()).collect::<Vec<_>>().join(", ");
            return Some(match (row.was_sent, is_kept) {
                (true, false) => {
                    let error = format!(
                        "{names} has neither the previous value nor the value sent: the service may store it in another \
                        form, or someone changed it since; apply(on_conflict=\"overwrite\") sends it again"
                    );
                    finish(row, Status::Unknown, Some(error))
                }
                (true, true) => {
                    let error = format!(
                        "{names} has a value that this plan did not send: the service may store it in another form, or \
                        someone else set it; mode \"fill\" does not overwrite values"
                    );
                    finish(row, Status::Unknown, Some(error))
                }
                (false, true) => {
                    let error = format!("{names} has a value now, and mode \"fill\" does not overwrite values");
                    finish(row, Status::Conflict, Some(error))
                }
                (false, false) => {
                    finish(row, Status::Conflict, Some(format!("{names} changed since the plan was made")))
                }
            });
        }
        let would_clear = self.members.would_clear(&account);
        if self.spares_members() && !would_clear.is_empty() {
            self.fail(RunError::ClearedMembers {
                row: row.row,
                id: account.id,
                members: would_clear,
                is_written: false,
            });
            return None;
        }
        // A revert must not restore what an earlier attempt of this plan may have written.
        let is_kept = |change: &&Change| change.before.is(change.field, account.value(change.field));
        // If the plan saw only the beginning of a text, because the list truncates it, the whole text does not come
        // from this plan.
        let may_be_ours = |change: &&Change| row.was_sent && self.proofs.is_cut(change, &account) != Some(true);
        let is_overwritten = |change: &&Change| !may_be_ours(change) && !is_kept(change) && !is_off(Guard::Answers);
        let overwritten = changes.iter().filter(is_overwritten);
        let overwritten = overwritten.map(|change| (change.field, account.value(change.field).into())).collect();
        let Ok(fields) = change::merged(&account, &changes) else {
            self.fail(FileError::internal("a change of the plan is not of its field's kind").into());
            return None;
        };
        self.ready.push_back(Update {
            row,
            fields,
            overwritten,
            account,
            at_risk: file::Members::new(),
            changes,
            left,
            looked_at: self.looked_at.unwrap_or_default(),
            is_from_page,
        });
        None
    }

    /// Reads a row again, at most once, if an account that is still to be compared may show where the list truncates.
    fn waits_for_items(&mut self, row: OpenRow, reopened: Option<Vec<(Field, Value)>>) -> bool {
        if self.shown.is_empty() || !self.waited.insert(row.row) {
            return false;
        }
        self.reopened.extend(reopened.map(|before| (row.row, before)));
        self.look_again(row);
        true
    }

    /// Takes the answer to [`Request::Update`].
    pub(super) fn wrote(
        &mut self,
        update: Update,
        answer: Result<ContactAccount, Refusal>,
        now: Duration,
    ) -> Vec<Record> {
        self.writing = self.writing.saturating_sub(1);
        self.is_trying = false;
        let before = before_of(&update);
        let Update { mut row, fields, account, at_risk, changes, left, .. } = update;
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
                    let at_risk = AtRisk { row: row.row, members: at_risk, is_of_parent: false };
                    let is_old = self.in_doubt.as_ref().is_some_and(|old| old.is_old && old.at_risk.row == row.row);
                    self.in_doubt = Some(InDoubt { at_risk, altered: None, is_old });
                }
                records.extend(self.row_failed(row, Direction::Write, refusal, now));
                return records;
            }
        };
        self.is_proven = true;
        let altered = if self.is_in_doubt(row) { self.in_doubt.take() } else { None };
        let altered = altered.and_then(|in_doubt| in_doubt.altered).unwrap_or_default();
        let mut records = self.succeeded(Direction::Write);
        let Deviations { fields: differing, lost } = Deviations::of(&account, &fields, &answered);
        // The update may have reset the stage, or someone may have moved the account meanwhile.
        let lost: Vec<String> =
            lost.into_iter().filter(|name| name != STAGE || !has_unsendable(&answered, name)).collect();
        self.members.cleared(&lost);
        let is_shown = changes.iter().any(|change| {
            let before = Value::from(account.value(change.field));
            let is = |other| before.is(change.field, other);
            !is(change.after.as_field_value()) && !is(answered.value(change.field))
        });
        let were_unlisted = self.members.may_be_unlisted();
        let Altered { mut names, reset } = self.members.wrote(&account, &answered, is_shown, &altered);
        names.extend(altered);
        if were_unlisted {
            records.extend(self.pages_are_of_use());
        }
        let is_otherwise =
            |change: &&Change| !change.after.is(change.field, answered.value(change.field)) && !is_off(Guard::Answers);
        let stored = changes.iter().filter(is_otherwise);
        let unplanned: Vec<Unplanned> = differing
            .iter()
            .filter(|field| !changes.iter().any(|change| change.field == **field))
            .map(|field| Unplanned {
                field: *field,
                before: account.value(*field).into(),
                answered: answered.value(*field).into(),
            })
            .collect();
        let had_value = |Unplanned { field, before, .. }: &Unplanned| {
            !before.is_empty(*field) && !matches!(before, Value::Text(text) if is_blank(text))
        };
        let emptied =
            unplanned.iter().filter(|unplanned| unplanned.answered.is_empty(unplanned.field) && had_value(unplanned));
        let emptied: Vec<&'static str> = emptied.map(|unplanned| unplanned.field.name()).collect();
        let finished = Finished {
            status: Status::Changed,
            stored_otherwise: !(differing.is_empty()
                && lost.is_empty()
                && reset.is_empty()
                && !names.iter().any(|name| name == STAGE)
                || is_off(Guard::StoredOtherwise)),
            error: said_of(&differing, &lost, &names, &left).map(|text| in_row(row, &text)),
            answered: stored.map(|change| (change.field, answered.value(change.field).into())).collect(),
            unplanned,
            left,
            at_ms: None,
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
    pub(super) fn held_back(&mut self, update: &Update) -> Vec<Record> {
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

    /// An update was not sent, because this process changed its account after the look, or because its turn came too
    /// late. If that happens to a row repeatedly, it is read again after pauses, so that it does not use up the quota.
    pub(super) fn overtaken(&mut self, row: OpenRow, now: Duration) {
        self.is_trying = false;
        self.writing = self.writing.saturating_sub(1);
        self.requests_left += 2;
        let overtakings = self.overtakings.entry(row.row).or_default();
        *overtakings += 1;
        self.later.insert((now + pause_of(*overtakings), row.row), row);
    }

    /// An update was not sent, because the plan file could not be written.
    pub(super) fn not_marked(&mut self) {
        self.writing = self.writing.saturating_sub(1);
        self.is_stopping = true;
    }

    fn succeeded(&mut self, direction: Direction) -> Vec<Record> {
        self.policy.succeeded(direction);
        // Key and service work, so the postponed failures belong to their rows.
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
            Verdict::GiveUp => {
                records.push(given_up(row, &refusal));
                if self.is_in_doubt(row) {
                    if refusal.kind == Kind::NotFound {
                        // The account no longer exists, so it has lost nothing; unless this key can no longer see it.
                        let altered = self.in_doubt.take().and_then(|in_doubt| in_doubt.altered);
                        if altered.is_some_and(|altered| altered.is_empty()) {
                            records.push(Record::NotAtRisk { row: row.row });
                        }
                    }
                    self.in_doubt.take_if(|in_doubt| in_doubt.altered.is_some());
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
    pub(super) fn last_records(&mut self) -> Vec<Record> {
        if self.stop.is_some() || self.is_stopping {
            return Vec::new();
        }
        std::mem::take(&mut self.set_aside).into_iter().map(|(row, _, refusal)| given_up(row, &refusal)).collect()
    }
}

/// Returns the values at planning of the fields that an update overwrites.
fn before_of(update: &Update) -> Vec<(Field, Value)> {
    let is_overwritten = |change: &&Change| update.overwritten.iter().any(|(field, _)| *field == change.field);
    update.changes.iter().filter(is_overwritten).map(|change| (change.field, change.before.clone())).collect()
}

/// Returns the pause before a row is read again, after its update was overtaken this many times. The first time, it is
/// read again immediately.
fn pause_of(overtaken: u32) -> Duration {
    Duration::from_secs(u64::from(overtaken.saturating_sub(1)).pow(2).min(60))
}
