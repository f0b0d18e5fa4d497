//! Checks the events with the knowledge of the model. The promises have the numbers of the issue.
//!
//! 1. No run changes a field that no row names, except for another person's edit between look and update.
//! 2. Every row has one correct status.
//! 3. A revert restores every value, except if others changed it later.
//! 4. Two updates of one account are never in flight, and after a crash only what was in flight is sent again.
//! 5. The client causes no 429, waits as long as it is asked to, and sends no more requests than rows and failures
//!    explain.
//! 6. A job ends within the time that the faults' own waits explain.

mod reverts;
mod rows;
mod updates;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) use self::reverts::reverted;
pub(super) use self::rows::{killed, planned, reported, reported_revert};
pub(super) use self::updates::sent;
use super::job::Report;
use super::service::{Account, Effect, Values};
use super::stage::{Put, Stage};
use super::story::{How, Sheet, Step};
use super::world::{Fault, Order, Trait};
use crate::account::Field;
use crate::error::Error;
use crate::plan::file::FileErrorKind;
use crate::plan::run::RunError;
use crate::plan::{Change, MatchOn, Status, Value};

/// The maximum age of a look at its update: two minutes, and the time of the look itself.
pub(super) const WINDOW: Duration = Duration::from_secs(120 + 31);

/// The maximum time from the answer to the look of a single call to its update.
const LONGEST_AGE: Duration = Duration::from_secs(1);

/// A job: a table, its plan, and the last content of the file.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) sheet: Sheet,
    pub(super) planned: (Duration, Duration),
    /// The operation that made the plan.
    pub(super) planned_by: usize,
    pub(super) accounts: BTreeMap<i64, usize>,
    pub(super) changes: BTreeMap<usize, Vec<Change>>,
    /// The values that a revert would restore, at the last read of the file: an update replaces those of the plan by
    /// those that it overwrites.
    pub(super) kept: BTreeMap<(usize, Field), Value>,
    /// The status of each row at the last read of the file.
    pub(super) statuses: Vec<Status>,
    /// From when on the update of a row may have been applied, although no request shows it: its process was killed.
    pub(super) unknown_since: BTreeMap<usize, Duration>,
    /// The rows that were unknown after an operation: their next update may follow another person's change.
    pub(super) were_unknown: BTreeSet<usize>,
    /// Whether the disk failed during the job, or its process died.
    pub(super) is_shaken: bool,
    /// Whether the log of its plan was lost, with the values that updates overwrote.
    pub(super) has_lost_log: bool,
}

impl Job {
    pub(super) fn new(sheet: &Sheet, planned: (Duration, Duration), planned_by: usize, report: &Report) -> Self {
        let accounts = report.rows.iter().filter_map(|row| Some((row.account_id?, row.row as usize)));
        let is_decided = |status| matches!(status, Status::Ambiguous | Status::Invalid);
        let accounts = accounts.filter(|(_, row)| !is_decided(report.rows[*row].status)).collect();
        let mut changes: BTreeMap<usize, Vec<Change>> = BTreeMap::new();
        for change in &report.changes {
            let (field, before, after) = (change.field, change.before.clone(), change.after.clone());
            changes.entry(change.row as usize).or_default().push(Change::new(field, before, after));
        }
        let statuses = report.rows.iter().map(|row| row.status).collect();
        Self {
            sheet: sheet.clone(),
            planned,
            planned_by,
            accounts,
            changes,
            kept: BTreeMap::new(),
            statuses,
            unknown_since: BTreeMap::new(),
            were_unknown: BTreeSet::new(),
            is_shaken: false,
            has_lost_log: false,
        }
    }
}

/// Returns whether the service treats two values of a field as equal.
pub(super) fn same(field: Field, one: &Value, other: &Value) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Text(text) => text.is_empty() || (field == Field::CompanySize && text == "Empty"),
        Value::Integer(_) => false,
    };
    one == other || (is_empty(one) && is_empty(other))
}

/// Returns whether a run may take a value for the whole text behind one that the plan has seen: at least two accounts
/// show that the list cuts this field, because a single one may have been changed meanwhile. A plan cannot know whether
/// a text that ends with a mark was cut or stored so.
fn was_cut(stage: &Stage, field: Field, shown: &Value, now: &Value, from: Duration) -> bool {
    let service = &stage.service;
    let is_cut = |value: &Value| !same(field, &service.listed_value(field, value), value);
    let show_it = || service.accounts.values().filter(|it| had(it, field, from, stage.now(), is_cut)).count() > 1;
    let is_behind_a_mark = match (shown, now) {
        (Value::Text(shown), Value::Text(now)) => {
            let beginning = shown.strip_suffix("...").or_else(|| shown.strip_suffix('\u{2026}'));
            stage.world.texts.has_mark() && beginning.is_some_and(|beginning| now.starts_with(beginning.trim_end()))
        }
        _ => false,
    };
    (is_behind_a_mark || (is_cut(now) && same(field, &service.listed_value(field, now), shown))) && show_it()
}

/// Returns whether a field of an account had a value and none since the plan of a job was made, or `GET` shows it
/// empty.
fn was_emptied(stage: &Stage, account: &Account, job: &Job) -> bool {
    let from = job.planned.0.saturating_sub(stage.lag());
    let was = |field: Field, is_empty: bool| {
        had(account, field, from, stage.now(), |value| same(field, value, &Value::Null) == is_empty)
    };
    let is_hidden = |field: Field| stage.world.hidden == Some(field);
    Field::ALL.iter().any(|field| (was(*field, true) || is_hidden(*field)) && was(*field, false))
}

fn had(account: &Account, field: Field, from: Duration, to: Duration, wanted: impl Fn(&Value) -> bool) -> bool {
    account.during(from, to).filter_map(|version| version.values.as_ref()).any(|values| wanted(values.get(field)))
}

/// The service refused a request because of the quota.
pub(super) fn refused_by_quota(stage: &mut Stage, process: usize) {
    // A late request counts late, and no client can know that.
    let is_late = stage.world.faults.iter().any(|(fault, _)| *fault == Fault::Late);
    if stage.world.quota.is_none() || is_late {
        return;
    }
    let now = stage.now();
    let from = stage.service.window(now, Duration::from_secs(3_600));
    let is_ours =
        stage.service.hits.iter().rev().take_while(|hit| hit.at >= from).all(|hit| hit.process == Some(process));
    if is_ours {
        stage.violated(
            5,
            "the service refuses a request because of the quota, although only this process has used it".to_owned(),
        );
    }
}

/// Returns the site of a domain of the model, however it is written. Shares no code with the code under test.
fn site(domain: &str) -> String {
    let domain = domain.trim().to_lowercase();
    let host = ["https://", "http://"].iter().find_map(|scheme| domain.strip_prefix(scheme)).unwrap_or(&domain);
    let host = host.strip_prefix("www.").unwrap_or(host);
    ["/about", "/", ":8080", "."].iter().fold(host, |host, end| host.strip_suffix(end).unwrap_or(host)).to_owned()
}

/// Returns how many accounts have a text of nearly the longest length.
fn longest_keys(stage: &Stage, sheet: &Sheet) -> u64 {
    let field = if sheet.match_on == MatchOn::Name { Field::Name } else { Field::DomainName };
    let length = |account: &Account| match account.now().values.as_ref().map(|values| values.get(field)) {
        Some(Value::Text(text)) => text.len(),
        _ => 0,
    };
    let lengths: Vec<usize> = stage.service.accounts.values().map(length).collect();
    let longest = lengths.iter().copied().max().unwrap_or_default();
    lengths.iter().filter(|length| **length + 4 >= longest).count() as u64
}

fn has_key(values: &Values, match_on: MatchOn, key: &str) -> bool {
    match (match_on, values.get(Field::DomainName), values.get(Field::Name)) {
        (MatchOn::DomainName, Value::Text(domain), _) => site(domain) == site(key),
        (MatchOn::Name, _, Value::Text(name)) => name == key,
        _ => false,
    }
}

fn matched(account: &Account, match_on: MatchOn, key: &str, from: Duration, to: Duration) -> bool {
    account.during(from, to).filter_map(|version| version.values.as_ref()).any(|values| has_key(values, match_on, key))
}

fn matched_throughout(account: &Account, match_on: MatchOn, key: &str, during: (Duration, Duration)) -> bool {
    !account.was_missing(during.0, during.1)
        && account
            .during(during.0, during.1)
            .all(|version| version.values.as_ref().is_some_and(|it| has_key(it, match_on, key)))
}

/// Returns whether the service refuses all reads or updates of an account.
fn is_hindered(stage: &Stage, id: i64) -> bool {
    let hinders = [(2, Trait::OneForbiddenWithoutCode), (3, Trait::OneForbidden), (4, Trait::AccountUnreadable)];
    hinders.iter().any(|(other, what)| *other == id && stage.world.is(*what))
}

fn stores_otherwise(stage: &Stage) -> bool {
    stage.world.is(Trait::Trims) || stage.world.is(Trait::TidiesPhones)
}

/// A single call failed or succeeded.
pub(super) fn called(stage: &mut Stage, number: usize, error: Option<&Error>) {
    let may_have_been_applied = !matches!(error, Some(Error::Call(error)) if !error.may_have_been_applied);
    let operation = &mut stage.operations[number];
    operation.is_said_unapplied = !may_have_been_applied;
    let operation = &stage.operations[number];
    let of_call = || stage.puts.iter().map(|(_, put)| put).filter(|put| put.operation == number);
    if !may_have_been_applied && of_call().any(|put| put.effect == Effect::Written) {
        let text = format!("{} says that no update was applied, and one was", operation.step);
        return stage.violated(2, text);
    }
    let (Step::Patch(id, given, _) | Step::Update(id, given, _)) = &operation.step else { return };
    let is_made = |values: &Values| {
        given.iter().all(|(field, value)| {
            let stored = |value: &Value| stage.service.stored_value(*field, value);
            same(*field, &stored(values.get(*field)), &stored(value))
        })
    };
    let account = stage.service.accounts.get(id);
    let was_made = account.is_some_and(|it| {
        let mut versions = it.during(operation.started.saturating_sub(stage.lag()), stage.now());
        versions.any(|version| version.values.as_deref().is_some_and(is_made))
    });
    if error.is_none() && !was_made && !of_call().any(|put| put.effect == Effect::Ignored) {
        let text = format!("{} succeeds, and the account never had these values", operation.step);
        stage.violated(2, text);
    }
}

/// A run stopped because of a member that an update cannot include.
pub(super) fn stopped(stage: &mut Stage, number: usize, error: &RunError) {
    let account = |id: &i64| stage.service.accounts.get(id);
    let is_explained = match error {
        RunError::ClearedMembers { .. } => stage.world.is(Trait::UnknownMember),
        RunError::ResetMembers { id, .. } => {
            // Someone may have written another owner before an update that the service ignored.
            let is_ignored = |put: &Put| put.operation == number && put.id == *id && put.effect == Effect::Ignored;
            account(id).is_some_and(|it| !it.has_one_stage()) || stage.puts.iter().any(|(_, put)| is_ignored(put))
        }
        RunError::EmptiedFields { id, .. } => {
            // Another writer's change after an attempt without an answer, or before one that the service ignored,
            // cannot be told from that attempt.
            let is_in_doubt = |put: &Put| {
                let hides = !put.is_answered_well() || put.effect == Effect::Ignored;
                put.operation == number && put.id == *id && hides
            };
            let has_cause = stage.world.is(Trait::TidiesPhones) || stage.world.hidden.is_some();
            has_cause || stage.puts.iter().any(|(_, put)| is_in_doubt(put))
        }
        RunError::Acquire(_) => stage.operations[number].is_refused_permission,
        RunError::File(error) if matches!(error.kind(), FileErrorKind::Locked(_)) => {
            matches!(stage.operations[number].step, Step::Apply(_, How { is_twice: true, .. }))
        }
        RunError::InDoubt { row, .. } => {
            // A disk that failed, or a process that died, may have lost an answer.
            let operation = &stage.operations[number];
            let is_lost = match &operation.step {
                Step::Apply(job, _) | Step::Revert(job, _) => stage
                    .jobs
                    .get(&(operation.lane, *job))
                    .is_some_and(|job| job.is_shaken && job.statuses.get(*row as usize) == Some(&Status::Unknown)),
                _ => false,
            };
            is_lost || stage.puts.iter().any(|(_, put)| !put.is_answered_well())
        }
        _ => true,
    };
    if !is_explained {
        let text = format!("{} stops, and nothing explains it: {error}", stage.operations[number].step);
        stage.violated(2, text);
    }
}

/// Reports a violation if a run that must stop at the first reset stage reset more stages than it needs to notice.
fn judge_resets(stage: &mut Stage, number: usize) {
    let operation = &stage.operations[number];
    let (Step::Apply(_, how) | Step::Revert(_, how)) = &operation.step else { return };
    let resets = stage.puts.iter().filter(|(_, put)| put.operation == number && put.has_reset).count() as u64;
    // Each update without an answer hides what it did.
    if !how.clear_unknown && resets > 1 + operation.failures {
        let text = format!("{} reset {resets} stages, and {} requests failed", operation.step, operation.failures);
        stage.violated(1, text);
    }
}

/// An operation finished.
pub(super) fn ended(stage: &mut Stage, number: usize) {
    let operation = &stage.operations[number];
    let took = operation.ended.unwrap_or_default().saturating_sub(operation.started);
    judge_requests(stage, number);
    judge_resets(stage, number);
    let operation = &stage.operations[number];
    // Operations share the quota.
    let requests = stage.requests() - operation.earlier_requests + stage.puts.len() as u64;
    let in_quota = stage.world.quota.map_or(0, |quota| {
        let minutes = requests / u64::from(quota.per_minute.max(1)) + 2;
        // The client also counts requests that never arrive, and a process may send its first one twice, with either
        // header. If one process starts, the others forget which requests of a plan's file they know, and count them
        // once more.
        let known = if stage.processes.len() > 1 { 2 } else { 1 };
        let sent = known * stage.requests().max(stage.service.hits.len() as u64) + stage.operations.len() as u64;
        let hours = sent / u64::from(quota.per_hour.max(1));
        minutes * 60 + hours * 3_600
    });
    let ways = Duration::from_millis(2 * stage.world.latency_ms.1) * u32::try_from(requests).unwrap_or(u32::MAX);
    let explained = operation.excuse + ways + Duration::from_secs(in_quota + 300);
    if took > explained {
        let text = format!("{} took {took:?}, and {explained:?} is explained", operation.step);
        stage.violated(6, text);
    }
}

/// Reports a violation if an operation sent more requests than its rows and the failures explain.
fn judge_requests(stage: &mut Stage, number: usize) {
    let operation = &stage.operations[number];
    let (lane, requests) = (operation.lane, operation.requests);
    let is_alone = stage.world.is_quiet() && stage.current.len() == 1;
    let most = match &operation.step {
        // Twice the fewest that find every account, or the pages of the list.
        Step::Plan(job, _) if is_alone => {
            let Some(sheet) = stage.sheets.get(&(lane, *job)) else { return };
            let rows = (0..sheet.rows.len()).filter(|row| !sheet.is_invalid(*row)).count() as u64;
            // By name, all pages are read again while accounts move, and so is an account whose name may be truncated.
            let times = if stage.world.order == Order::None { 5 } else { 1 };
            let pages = times * stage.world.accounts.div_ceil(8).max(1);
            // Nothing is known of a domain that is cut behind "www.": it may be for any row. A list may have cut a text
            // that is a few bytes shorter than the longest.
            let read = if stage.world.is(Trait::ItemsCut) { stage.world.accounts } else { longest_keys(stage, sheet) };
            let read = rows + read;
            operation.failures * 2 + if sheet.match_on == MatchOn::Id { 2 * rows } else { pages + read }
        }
        Step::Apply(job, how) if !how.is_twice => {
            let Some(job) = stage.jobs.get(&(lane, *job)) else { return };
            let is_open = |status: &&Status| {
                matches!(status, Status::Pending | Status::Unknown)
                    || ((how.overwrite || how.retries) && **status == Status::Conflict)
                    || (how.retries && **status == Status::Failed)
            };
            let included = job.statuses.iter().enumerate().filter(|(row, _)| how.part.has(*row as u64));
            let rows = included.filter(|(_, status)| is_open(status)).count() as u64;
            let rows = how.part.limit.map_or(rows, |limit| rows.min(limit));
            // A look and an update for each row, and the pages that contain several. A text that the list may have cut
            // is read once more.
            let calm = if stage.world.is(Trait::ItemsCut) { 3 * rows } else { 2 * rows + rows / 2 };
            // If an answer lacks a member or has another stage, the account is read once more.
            let has_members = stage.world.has_stages() || stage.world.is(Trait::UnknownMember);
            let is_ours = |put: &Put| has_members && put.operation == number && put.is_answered_well();
            let calm = calm + stage.puts.iter().filter(|(_, put)| is_ours(put)).count() as u64;
            // If a field of an account was emptied since the plan was made, its page and the account are read again.
            let is_emptied = |row: usize| {
                let of_row = job.accounts.iter().find(|(_, other)| **other == row);
                of_row.and_then(|(id, _)| stage.service.accounts.get(id)).is_some_and(|it| was_emptied(stage, it, job))
            };
            let emptied = (0..job.statuses.len()).filter(|row| how.part.has(*row as u64) && is_emptied(*row)).count();
            let calm = calm + 2 * emptied as u64;
            let at_once = how.concurrency as u64;
            // A look is at most two minutes old, so a wait can repeat the looks of pending updates.
            let took = operation.ended.unwrap_or_default().saturating_sub(operation.started);
            let waits = took.as_secs() / 120;
            let disturbed = (operation.failures + operation.overtaken) * (2 + 2 * at_once) + waits * (1 + at_once);
            calm + disturbed
        }
        _ => return,
    };
    if requests > most {
        let text = format!("{} took {requests} requests, and {most} are explained", operation.step);
        stage.violated(5, text);
    }
}
