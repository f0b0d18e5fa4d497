//! Decides what comes next in a run: look, update, wait or end. Pure: it sends nothing, waits for nothing and stores
//! nothing. The caller reports what happened; the machine returns what to record and which request comes next.
//!
//! Times are measured from the start of the run.

mod answers;
mod reads;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::looks::{parted, requests_for, start_of_proof};
use super::members::Members;
use super::policy::{Direction, Policy, Refusal};
use super::proof::Proofs;
use super::record::name_lost;
use super::{OnConflict, OnUnknownMember, RunError};
use crate::account::{AccountFields, ContactAccount, Field};
use crate::change::{Change, Value, unsendable};
use crate::error::WaitReason;
use crate::plan::MatchOn;
use crate::plan::file::{self, AtRisk, Attempt, Cleared, Finished, ItemsProof, OpenRow, Record};
use crate::plan::planner::{Look, next_look, page_around};
use crate::sabotage::{Guard, is_off};

/// A look that is older than this is repeated before the update.
const FRESH: Duration = Duration::from_secs(120);
/// The most looks in succession that may become too old before a run gives up.
const MOST_STALED: u32 = 5;

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
    /// Whether the plan reverts another one.
    pub(super) is_revert: bool,
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
    /// What is stored of it before it is sent. It names no members if updates were seen to keep them, or if the run may
    /// clear members. The values of unnamed fields are those before the first attempt.
    pub(super) attempt: Attempt,
    /// The account at the look.
    pub(super) account: ContactAccount,
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
    /// The members, with their values before the update.
    members: file::Members,
    /// The members that had another value when the account was read again: the update reset them, or someone changed
    /// them. The service may apply the update later. `None` until then.
    altered: Option<Vec<String>>,
    /// Whether this run reads its account between two attempts: the first is of an earlier run, or a proxy may have
    /// answered it.
    is_read: bool,
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
    /// Rows whose items are read next, because `GET` shows fields empty that the list showed with a value.
    disputed: VecDeque<OpenRow>,
    /// Rows whose items were read or are being read for this reason.
    asked: HashSet<u64>,
    /// Rows whose items agreed with `GET` in this run, as far as an update can clear something.
    agreed: HashSet<u64>,
    /// What is known about the members that an update cannot include.
    members: Members,
    /// Whether an update in flight may clear such a member.
    is_trying: bool,
    /// The rows whose updates may have cleared members, or may still do so, and got no answer.
    in_doubt: HashMap<u64, InDoubt>,
    /// The one of them whose account is read before another account with such a member is updated.
    held_up_by: Option<u64>,
    /// The members that attempts of rows cleared, which got no answer. The outcomes of the rows name them.
    lost: HashMap<u64, Vec<String>>,
    attempts: HashMap<u64, u32>,
    /// The number of rows that were overtaken and wait for their turn.
    claiming: usize,
    /// Rows whose turn the run keeps while it reads them again: other processes wait for it.
    kept: HashSet<u64>,
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
    /// Until then, the row whose update may have been applied without an answer. It is sent again before any other: its
    /// answer shows what updates do to the fields that no row names.
    unproven: Option<u64>,
    stop: Option<RunError>,
    is_stopping: bool,
}

impl Machine {
    /// Takes the remaining rows, in the order of their position in the list.
    pub(super) fn new(rows: Vec<OpenRow>, items: Option<ItemsProof>, settings: Settings) -> Self {
        let requests_left = requests_for(rows.clone(), items, settings.most_on_a_look);
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
            disputed: VecDeque::new(),
            asked: HashSet::new(),
            agreed: HashSet::new(),
            members: Members::default(),
            is_trying: false,
            in_doubt: HashMap::new(),
            held_up_by: None,
            lost: HashMap::new(),
            attempts: HashMap::new(),
            claiming: 0,
            kept: HashSet::new(),
            reopened: HashMap::new(),
            looking: 0,
            looked_at: None,
            writing: 0,
            staled: 0,
            requests_left,
            match_on: MatchOn::Id,
            keys: HashMap::new(),
            is_proven: false,
            unproven: None,
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
    /// them. Whether an update in doubt did so shows when its account is read. That of `held_up_by` is read first, and
    /// a run that does not have this row updates no account with such a member.
    pub(super) fn sparing(mut self, cleared: Cleared, in_doubt: Vec<AtRisk>, held_up_by: Option<u64>) -> Self {
        for (name, rows) in &cleared {
            for row in rows.keys() {
                self.lost.entry(*row).or_default().push(name.clone());
            }
        }
        self.members = Members::new(cleared.into_keys());
        self.held_up_by = held_up_by;
        for AtRisk { row, members, .. } in in_doubt {
            let is_read = held_up_by == Some(row) && self.read_first(row);
            self.in_doubt.insert(row, InDoubt { members, altered: None, is_read });
        }
        self
    }

    /// Makes a row the first one to be read. Returns whether the run includes it.
    fn read_first(&mut self, row: u64) -> bool {
        let is_its_row = |other: &OpenRow| other.row == row;
        let place = self.todo.iter().position(is_its_row);
        let row = place.and_then(|place| self.todo.remove(place));
        self.requests_left += u64::from(row.is_some());
        let place = self.singly.iter().position(is_its_row);
        let row = row.or_else(|| self.singly.remove(place?));
        self.singly.extend(row);
        self.singly.rotate_right(usize::from(row.is_some()));
        row.is_some()
    }

    /// Makes the outcome of a row name what its attempts without an answer cleared.
    pub(super) fn name_lost(&self, row: u64, finished: &mut Finished) {
        if let Some(members) = self.lost.get(&row) {
            name_lost(row, finished, members);
        }
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

    /// Returns whether the run ends early, and only waits for what it has begun.
    pub(super) const fn is_ending(&self) -> bool {
        self.stop.is_some() || self.is_stopping
    }

    /// Returns why the run ended early.
    pub(super) fn into_stop(self) -> Option<RunError> {
        self.stop
    }

    /// Returns the number of requests in flight.
    pub(super) const fn in_flight(&self) -> usize {
        self.looking + self.writing
    }

    /// Returns the number of rows that wait for their turn.
    pub(super) const fn claiming(&self) -> usize {
        self.claiming
    }

    /// Returns whether the run waits only for turns.
    pub(super) fn waits_for_turns(&self) -> bool {
        self.claiming > 0 && self.in_flight() == 0 && self.kept.is_empty()
    }

    /// Returns the row of the next request, if the run keeps its turn.
    pub(super) fn next_kept(&self, now: Duration) -> Option<u64> {
        let row = if self.wants_look() && !self.is_update_pressing(now) {
            self.singly.front().filter(|_| self.disputed.is_empty())?
        } else {
            let place = self.next_to_write().filter(|_| self.may_write())?;
            &self.ready.get(place)?.row
        };
        Some(row.row).filter(|row| self.kept.contains(row))
    }

    /// Returns the number of requests left, as far as it is known.
    pub(super) const fn requests_left(&self) -> u64 {
        self.requests_left
    }

    /// Returns what to do next.
    pub(super) fn next(&mut self, now: Duration) -> Next {
        if self.is_ending() {
            return if self.in_flight() + self.claiming > 0 { Next::Idle } else { Next::Done };
        }
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            let row = entry.remove();
            self.read_singly(row);
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
        if self.claiming > 0 {
            return Next::Idle;
        }
        if !self.ready.is_empty()
            && let Some(row) = self.held_up_by.take()
            && let Some(in_doubt) = self.in_doubt.get(&row)
        {
            // The account still has the members, or had them after an earlier attempt, or two runs got no answer about
            // it. The next update is sent alone and shows the same.
            if in_doubt.is_read || in_doubt.altered.is_some() {
                return self.next(now);
            }
            let members = in_doubt.members.keys().cloned().collect();
            self.fail(RunError::InDoubt { row, members });
        }
        Next::Done
    }

    fn has_look(&self) -> bool {
        !(self.todo.is_empty() && self.singly.is_empty() && self.disputed.is_empty())
    }

    /// Returns whether one of these rows holds up the others.
    fn is_awaited_in(&self, rows: &VecDeque<OpenRow>) -> bool {
        let is_held_up = !self.ready.is_empty() && (self.held_up_by.is_some() || self.unproven.is_some());
        is_held_up && rows.iter().any(|row| self.is_awaited(*row))
    }

    fn wants_look(&self) -> bool {
        let wants_more = !self.to_prove.is_empty()
            || !self.disputed.is_empty()
            || self.ready.len() < self.settings.concurrency
            || (self.next_to_write().is_none() && !self.singly.is_empty())
            || self.singly.front().is_some_and(|row| self.is_urgent(*row))
            || (self.writing == 0 && self.is_awaited_in(&self.todo));
        self.looking == 0 && self.has_look() && wants_more
    }

    /// Returns whether an update is ready for whose account others wait, or whose look would become too old if the run
    /// read other accounts first, for example with a small quota.
    fn is_update_pressing(&self, now: Duration) -> bool {
        let is_aging = |update: &Update| now.saturating_sub(update.looked_at) > FRESH / 4;
        let is_kept = |row: &OpenRow| self.kept.contains(&row.row);
        let is_pressing = |update: &Update| is_kept(&update.row) || is_aging(update);
        !self.singly.front().is_some_and(is_kept) && self.ready.iter().any(is_pressing) && self.may_write()
    }

    fn may_write(&self) -> bool {
        let Some(next) = self.next_to_write().and_then(|place| self.ready.get(place)) else { return false };
        // Only one update is in flight until the service has accepted one, during an outage, and until its effect on a
        // member is known.
        let is_trial = !self.is_proven || self.policy.is_outage() || self.is_trying || self.may_clear_a_member(next);
        let most = if is_trial { 1 } else { self.settings.concurrency };
        let is_held_up = self.held_up_by.is_some_and(|row| row != next.row.row);
        let may_clear_more = is_held_up && self.may_clear_a_member(next);
        let waits = !self.is_proven && self.unproven.is_some_and(|row| row != next.row.row);
        self.to_prove.is_empty() && self.writing < most && !may_clear_more && !waits
    }

    /// Returns the position of the next update in `ready`: the one that others wait for; otherwise the first, or, if
    /// pages may hide members, the first whose account was read with `GET`.
    fn next_to_write(&self) -> Option<usize> {
        let mut updates = self.ready.iter();
        let first = |is_first: &dyn Fn(&Update) -> bool| self.ready.iter().position(is_first);
        let awaited = first(&|update| self.is_awaited(update.row));
        if let Some(place) = awaited.or_else(|| first(&|update| self.kept.contains(&update.row.row))) {
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
        let in_doubt = self.held_up_by.and_then(|row| self.in_doubt.get(&row));
        let in_doubt = in_doubt.into_iter().flat_map(|in_doubt| in_doubt.members.keys());
        self.spares_members() && (self.members.may_be_unlisted() || self.members.are_unlisted(in_doubt))
    }

    /// Returns whether a row has an update that may have cleared members, or may still do so, and that no answer
    /// confirmed.
    fn is_in_doubt(&self, row: OpenRow) -> bool {
        self.in_doubt.contains_key(&row.row)
    }

    /// Lets other rows be sent before a row in doubt.
    fn hold_up_no_other(&mut self, row: u64) {
        self.held_up_by.take_if(|held_up_by| *held_up_by == row);
    }

    /// Lets other rows be sent before a row in doubt, if its account was read after its update.
    fn hold_up_no_other_if_read(&mut self, row: u64) {
        if self.in_doubt.get(&row).is_some_and(|in_doubt| in_doubt.altered.is_some()) {
            self.hold_up_no_other(row);
        }
    }

    /// Returns whether others wait for a row.
    fn is_awaited(&self, row: OpenRow) -> bool {
        (self.spares_members() && self.held_up_by == Some(row.row))
            || (!self.is_proven && self.unproven == Some(row.row))
    }

    /// Returns whether others wait for a row, in this run or in other processes.
    fn is_urgent(&self, row: OpenRow) -> bool {
        self.is_awaited(row) || self.kept.contains(&row.row)
    }

    /// Returns what a later run need not find out again.
    fn pages_are_of_use(&self) -> Option<Record> {
        let are_of_use = self.items == Some(ItemsProof::Complete) && !self.members.may_be_unlisted();
        are_of_use.then_some(Record::Items(ItemsProof::Complete))
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
            self.staled += u32::from(self.unproven.is_none());
            if self.staled > MOST_STALED {
                self.fail(RunError::TooSlow);
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
        self.kept.remove(&update.row.row);
        self.is_trying = self.may_clear_a_member(&update);
        if self.is_trying {
            let members = self.members.at_risk(&update.account);
            let with_value = |name: &str| (name.to_owned(), unsendable(&update.account, name).into_owned());
            update.attempt.at_risk = members.map(with_value).collect();
            // Its values before the update in doubt still show what that update did.
            if let Some(in_doubt) = self.in_doubt.get(&update.row.row) {
                update.attempt.at_risk.extend(in_doubt.members.clone());
            }
        }
        self.writing += 1;
        Some(Request::Update(Box::new(update)))
    }

    fn start_look(&mut self) -> Option<Request> {
        if let Some(row) = self.disputed.pop_front() {
            let (top, skip) = page_around(row.position?);
            self.looking += 1;
            return Some(Request::Page { rows: vec![row], top, skip });
        }
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

    /// Schedules a row for a look with `GET`. A row that others wait for comes first.
    fn read_singly(&mut self, row: OpenRow) {
        if self.is_urgent(row) { self.singly.push_front(row) } else { self.singly.push_back(row) }
    }

    /// Schedules a row for another look: in the order of its position, or with `GET` if pages are useless.
    fn look_again(&mut self, row: OpenRow) {
        self.requests_left += 1;
        if self.items == Some(ItemsProof::Incomplete) || row.position.is_none() || self.is_awaited(row) {
            self.read_singly(row);
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
        self.asked.clear();
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
}
