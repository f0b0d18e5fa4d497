//! Checks the status of each row.

use std::time::Duration;

use super::super::job::Report;
use super::super::service::{Account, Effect, Values};
use super::super::stage::{Operation, Put, Stage};
use super::super::story::{End, How, Key, Sheet, Step};
use super::super::world::{Order, Trait};
use super::{Job, had, has_key, matched, matched_throughout, same, site, was_emptied};
use crate::account::Field;
use crate::plan::file::{ChangeView, RowView};
use crate::plan::{Change, MatchOn, Mode, Status, Value};

/// A plan was created.
pub(in crate::simulation) fn planned(stage: &mut Stage, lane: usize, number: usize, report: &Report) {
    let Some(job) = stage.jobs.get(&(lane, number)) else { return };
    let mut broken = Vec::new();
    let (from, to) = job.planned;
    for (row, view) in report.rows.iter().enumerate().take(job.sheet.rows.len()) {
        let Key::Text(key) = &job.sheet.rows[row].key else { continue };
        let match_on = job.sheet.match_on;
        let is_seen = |it: &&Account| !may_be_unseen(stage, it, (from, to));
        let having = stage.service.accounts.values().filter(|it| matched_throughout(it, match_on, key, (from, to)));
        // The plan does not know what an account has that it could not read.
        let is_refused = matches!(view.status, Status::Ambiguous | Status::Invalid | Status::Failed);
        if having.filter(is_seen).count() > 1 && !is_refused {
            broken.push((2, format!("row {row} is {} although several accounts have its key", view.status.as_str())));
        }
        let account = view.account_id.and_then(|id| stage.service.accounts.get(&id));
        let is_found = matches!(view.status, Status::Pending | Status::Unchanged);
        if is_found && !account.is_some_and(|it| matched(it, match_on, key, from, to)) {
            broken.push((2, format!("row {row} is for account {:?}, which never had its key", view.account_id)));
        }
    }
    for (row, view) in report.rows.iter().enumerate().take(job.sheet.rows.len()) {
        let account = view.account_id.and_then(|id| stage.service.accounts.get(&id));
        let Some(account) = account.filter(|_| view.status == Status::Pending) else { continue };
        let changes = job.changes.get(&row).map(Vec::as_slice).unwrap_or_default();
        for field in Field::ALL.iter().filter(|field| !changes.iter().any(|change| change.field == **field)) {
            let needs_none = |now: &Value| is_meant(stage, &job.sheet, row, *field, now);
            // A row whose account cannot be read has no changes.
            if !changes.is_empty() && !had(account, *field, from, to, needs_none) {
                broken.push((2, format!("row {row} is planned without a change of {}, which it says", field.name())));
            }
        }
    }
    for (row, changes) in job.changes.iter().filter(|(row, _)| **row < job.sheet.rows.len()) {
        for change in changes {
            let meant = job.sheet.meant(*row, change.field);
            if !meant.is_some_and(|meant| same(change.field, &meant, &change.after)) {
                let name = change.field.name();
                broken.push((
                    2,
                    format!("row {row} is planned to make {name} {:?}, which it does not say", change.after),
                ));
            }
            let account = report.rows[*row].account_id.and_then(|id| stage.service.accounts.get(&id));
            let was = account.is_some_and(|it| {
                had(it, change.field, from, to, |now| shows(stage, change.field, now, &change.before))
            });
            if !was {
                broken.push((
                    2,
                    format!("row {row} says that {} was {:?}, which it was not", change.field.name(), change.before),
                ));
            }
        }
    }
    stage.all_violated(broken);
}

/// The file of a plan was read after an operation. `ran` has the options of a run of this plan, and `is_done` is true
/// if that run finished.
pub(in crate::simulation) fn reported(
    stage: &mut Stage,
    lane: usize,
    number: usize,
    report: &Report,
    ran: Option<How>,
    is_done: bool,
) {
    let Some(job) = stage.jobs.get(&(lane, number)) else { return };
    let mut broken = Vec::new();
    if let Some(how) = ran {
        part(stage, job, report, how, is_done, &mut broken);
    }
    if report.rows.len() != job.sheet.rows.len() {
        broken
            .push((2, format!("the table has {} rows, but the file has {}", job.sheet.rows.len(), report.rows.len())));
    }
    for (row, view) in report.rows.iter().enumerate().take(job.sheet.rows.len()) {
        let last = view.account_id.and_then(|id| {
            let of_job = |put: &&Put| put.id == id && is_of(stage, lane, number, put) && put.is_answered_well();
            stage.puts.iter().map(|(_, put)| put).rfind(|put| of_job(put))
        });
        if let Some(last) = last.filter(|last| view.status == Status::Changed && !last.is_unsure) {
            let changes = job.changes.get(&row).map(Vec::as_slice).unwrap_or_default();
            let may_say =
                last.differs || job.were_unknown.contains(&row) || is_altered(stage, lane, number, last, changes);
            let said = view.stored_otherwise;
            if (last.differs && !said) || (said && !may_say) {
                broken.push((2, format!("row {row} says stored_otherwise={said}, which is not so")));
            }
        }
        if let Some(last) = last.filter(|last| {
            view.status == Status::Changed && !job.has_lost_log && has_lost_before(stage, lane, number, last)
        }) && !view.stored_otherwise
        {
            let text = format!("row {row} does not say that an update of account {} cleared a member", last.id);
            broken.push((2, text));
        }
        if let Some(text) = judge(stage, lane, number, job, row, view.account_id, view.status, is_done) {
            broken.push((
                2,
                format!("row {row} is {} although {text} (it says: {:?})", view.status.as_str(), view.error),
            ));
        }
    }
    stage.all_violated(broken);
    let statuses = report.rows.iter().map(|row| row.status).collect();
    let kept =
        report.changes.iter().map(|change| ((change.row as usize, change.field), change.before.clone())).collect();
    if let Some(job) = stage.jobs.get_mut(&(lane, number)) {
        let unknown = report.rows.iter().filter(|view| view.status == Status::Unknown);
        job.were_unknown.extend(unknown.map(|view| view.row as usize));
        (job.statuses, job.kept) = (statuses, kept);
    }
}

/// Checks which rows a run has touched: those of its part, at most as many as its limit, and all of them if it
/// finished.
fn part(stage: &Stage, job: &Job, report: &Report, how: How, is_done: bool, broken: &mut Vec<(u8, String)>) {
    let before = |view: &RowView| job.statuses.get(view.row as usize).copied();
    let touched = || report.rows.iter().filter(|view| before(view).is_some_and(|before| before != view.status));
    for view in touched().filter(|view| !how.part.has(view.row)) {
        let text = format!("row {} is {} after a run that does not include it", view.row, view.status.as_str());
        broken.push((2, text));
    }
    let count = touched().count() as u64;
    if how.part.limit.is_some_and(|limit| count > limit) {
        broken.push((2, format!("a run changes the status of {count} rows, but includes {}", how.part)));
    }
    let is_due = |row: u64| how.part.has(row) && job.changes.contains_key(&(row as usize));
    let is_pending = |status: Status| status == Status::Pending;
    let due = report.rows.iter().filter(|view| is_due(view.row));
    let due_before = due.clone().filter(|view| before(view).is_some_and(is_pending)).count() as u64;
    let left = due.filter(|view| is_pending(view.status)).count() as u64;
    // A row whose update may have cleared a member comes before pending ones.
    let has_first = stage.world.has_stages()
        || [Trait::UnknownMember, Trait::MemberComputed].iter().any(|what| stage.world.is(*what));
    let sends = |limit: u64| limit.saturating_sub(u64::from(has_first));
    let most = how.part.limit.map_or(0, |limit| due_before.saturating_sub(sends(limit)));
    if is_done && left > most {
        broken.push((2, format!("{left} rows are pending although the run came to its end, and {most} may be")));
    }
}

/// The plan of a revert was read after the revert was done.
pub(in crate::simulation) fn reported_revert(
    stage: &mut Stage,
    lane: usize,
    number: usize,
    operation: usize,
    report: &Report,
) {
    let is_revert = |it: &Operation| it.lane == lane && matches!(it.step, Step::Revert(job, _) if job == number);
    let reverts = || stage.operations.iter().filter(|it| is_revert(it));
    let is_part = matches!(stage.operations[operation].step, Step::Revert(_, how) if !how.part.is_whole());
    let from = reverts().map(|it| it.started).min().unwrap_or_default();
    let has_lost_log = stage.jobs.get(&(lane, number)).is_some_and(|job| job.has_lost_log);
    let is_shaken = reverts().any(|it| matches!(&it.step, Step::Revert(_, how) if how.end != End::ItsOwn));
    let was_emptied_since = |id| {
        let account = stage.service.accounts.get(&id);
        account.zip(stage.jobs.get(&(lane, number))).is_some_and(|(account, job)| was_emptied(stage, account, job))
    };
    let mut broken = Vec::new();
    for view in &report.rows {
        let Some((id, account)) = view.account_id.and_then(|id| Some((id, stage.service.accounts.get(&id)?))) else {
            continue;
        };
        let puts = stage.puts.iter().map(|(_, put)| put).filter(|put| put.id == id);
        let puts: Vec<&Put> = puts.filter(|put| stage.operations.get(put.operation).is_some_and(is_revert)).collect();
        let changes = || report.changes.iter().filter(|change| change.row == view.row);
        let is_foreign = |change: &ChangeView| {
            had(account, change.field, from.saturating_sub(stage.lag()), stage.now(), |now| {
                !same(change.field, now, &change.before) && !same(change.field, now, &change.after)
            })
        };
        // Without the log, the plan knows only what a list may have cut.
        let is_value = |field: Field, now: &Value, wanted: &Value| {
            same(field, now, wanted) || (has_lost_log && shows(stage, field, now, wanted))
        };
        let is_done = |values: &Values| changes().all(|it| is_value(it.field, values.get(it.field), &it.after));
        // A revert that reads what the account was before its plan takes that for restored; limits.md says so.
        let was_done = || {
            let mut versions = account.during(from.saturating_sub(stage.lag()), stage.now());
            versions.any(|version| version.values.as_deref().is_some_and(is_done))
        };
        let is_written = puts.iter().any(|put| put.operation == operation && put.effect == Effect::Written);
        let wrong = match view.status {
            Status::Changed => {
                (!puts.iter().any(|put| put.is_answered_well())).then_some("no update of it was answered")
            }
            Status::Pending => changes().next().filter(|_| !is_part).map(|_| "the revert is done"),
            Status::Unknown => (puts.is_empty() && !is_shaken).then_some("no update of it was ever sent"),
            _ if is_written => Some("an update of it was written"),
            // Someone may have emptied another field since its plan was made.
            Status::Conflict if was_emptied_since(id) => None,
            Status::Conflict => (!changes().any(is_foreign)).then_some("no one else has changed its fields"),
            Status::Unchanged => (!was_done()).then_some("the account never had these values"),
            Status::NotFound => {
                (!account.was_missing(from, stage.now())).then_some("the account was there all the time")
            }
            _ => None,
        };
        if let Some(text) = wrong {
            let status = view.status.as_str();
            broken.push((2, format!("row {} of the revert is {status} although {text}", view.row)));
        }
    }
    stage.all_violated(broken);
}

/// A process was killed while it applied a plan: only the updates in flight may be sent again.
pub(in crate::simulation) fn killed(
    stage: &mut Stage,
    lane: usize,
    number: usize,
    operation: usize,
    report: &Report,
    how: How,
) {
    let Some(job) = stage.jobs.get(&(lane, number)) else { return };
    let was_open = |row: usize| job.statuses.get(row) == Some(&Status::Unknown);
    let unknown =
        report.rows.iter().enumerate().filter(|(row, view)| view.status == Status::Unknown && !was_open(*row));
    // An update whose answer was lost before is sent again even without a crash.
    let was_lost = |id: Option<i64>| {
        stage.puts.iter().any(|(_, put)| put.operation == operation && put.over.is_some() && Some(put.id) == id)
    };
    let count = unknown.filter(|(_, view)| !was_lost(view.account_id)).count();
    if count > how.concurrency {
        let text = format!("{count} rows are unknown after a crash, and {} were in flight", how.concurrency);
        stage.violated(4, text);
    }
}

/// Returns whether a field that the row does not name had another value before an earlier attempt without an answer.
fn is_altered(stage: &Stage, lane: usize, number: usize, last: &Put, changes: &[Change]) -> bool {
    let is_earlier = |put: &&Put| {
        let is_in_doubt = put.may_be_applied() && !put.is_answered_well();
        put.id == last.id && put.sent < last.sent && is_in_doubt && is_of(stage, lane, number, put)
    };
    let unnamed = || Field::ALL.iter().copied().filter(|field| !changes.iter().any(|change| change.field == *field));
    // A late attempt can undo what a later one has read.
    stage.puts.iter().map(|(_, put)| put).filter(is_earlier).any(|earlier| {
        unnamed().any(|field| {
            let had = earlier.value(field);
            !same(field, &had, &Value::Null) && !same(field, &had, &last.value(field))
        })
    })
}

/// Returns whether an earlier update of a row, which got no answer, cleared a member.
fn has_lost_before(stage: &Stage, lane: usize, number: usize, last: &Put) -> bool {
    let is_lost = |put: &Put| {
        put.id == last.id
            && put.sent < last.sent
            && put.has_lost
            && !put.is_answered_well()
            && stage.operation_spares_members(put.operation)
            && is_of(stage, lane, number, put)
    };
    stage.puts.iter().any(|(_, put)| is_lost(put))
}

/// Returns whether a row has the beginning of a longer text of its account, as a list may show it.
fn is_beginning(stage: &Stage, job: &Job, row: usize, id: Option<i64>) -> bool {
    let Some(account) = id.and_then(|id| stage.service.accounts.get(&id)) else { return false };
    let (from, to) = job.planned;
    Field::ALL.iter().any(|field| {
        let Some(Value::Text(meant)) = job.sheet.meant(row, *field) else { return false };
        let beginning = meant.trim_end_matches('…').trim_end_matches("...").trim_end();
        let is_begun = |now: &Value| matches!(now, Value::Text(now) if *now != meant && now.starts_with(beginning));
        // The list may have cut a text in its mark, so that the plan cannot know that the row has the whole text.
        had(account, *field, from, to, |now| is_begun(now) || is_begun(&stage.service.listed_value(*field, now)))
    })
}

/// Returns whether an account may have been on none of the pages that a plan read: its update moved it to a page that
/// the plan had read, and the deletion of another account moved the others back, so that the pages fit together.
fn may_be_unseen(stage: &Stage, account: &Account, (from, to): (Duration, Duration)) -> bool {
    let is_deleted = |it: &Account| it.versions.iter().any(|it| it.values.is_none() && it.at > from && it.at <= to);
    let is_moved = account.versions.iter().any(|it| it.at > from && it.at <= to);
    stage.world.order == Order::LastWritten && is_moved && stage.service.accounts.values().any(is_deleted)
}

/// Returns whether an update was sent to apply the plan of a job.
fn is_of(stage: &Stage, lane: usize, number: usize, put: &Put) -> bool {
    let operation = stage.operations.get(put.operation);
    operation.is_some_and(|it| it.lane == lane && matches!(it.step, Step::Apply(job, _) if job == number))
}

/// Returns what is wrong with the status of a row.
#[expect(
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "a row is judged by everything that is known about it"
)]
fn judge(
    stage: &Stage,
    lane: usize,
    number: usize,
    job: &Job,
    row: usize,
    id: Option<i64>,
    status: Status,
    is_done: bool,
) -> Option<String> {
    let sheet = &job.sheet;
    let (from, to) = (job.planned.0, stage.now());
    let is_its_account = id.is_some_and(|id| job.accounts.get(&id) == Some(&row));
    let puts = stage
        .puts
        .iter()
        .map(|(_, put)| put)
        .filter(|put| is_its_account && Some(put.id) == id && is_of(stage, lane, number, put));
    let puts: Vec<&Put> = puts.collect();
    let is_written = puts.iter().any(|put| put.effect == Effect::Written);
    let is_answered = puts.iter().any(|put| put.is_answered_well());
    let account = id.and_then(|id| stage.service.accounts.get(&id));
    let changes = job.changes.get(&row).map(Vec::as_slice).unwrap_or_default();
    let may_be_invalid = sheet.is_invalid(row) || is_beginning(stage, job, row, id);
    match status {
        Status::Invalid if !may_be_invalid => return Some("nothing is wrong with it".to_owned()),
        Status::Invalid => return None,
        _ if sheet.is_invalid(row) => return Some("it cannot be sent".to_owned()),
        _ => {}
    }
    if let (Key::Id(key), Some(id)) = (&sheet.rows[row].key, id)
        && *key != id
    {
        return Some(format!("it is for account {key}, and the file says {id}"));
    }
    let wrong = match status {
        Status::Failed | Status::Pending | Status::Conflict | Status::Unchanged | Status::NotFound if is_written => {
            Some("an update of it was written")
        }
        Status::Invalid | Status::Failed | Status::Pending => None,
        Status::Changed => (!is_answered).then_some("no update of it was answered"),
        Status::Unchanged => {
            let is_so = |values: &Values| {
                Field::ALL.iter().all(|field| is_as_meant(stage, sheet, row, *field, values, changes))
            };
            let versions = account.into_iter().flat_map(|it| it.during(from, to));
            let was = versions.filter_map(|version| version.values.as_ref()).any(|values| is_so(values));
            (!was).then_some("the account never was as it says")
        }
        Status::NotFound => match (&sheet.rows[row].key, id) {
            (Key::Text(key), None) => {
                let mut accounts = stage.service.accounts.values();
                // If each page has another order, all of them may miss the same account.
                let was_there = stage.world.order != Order::None
                    && accounts.any(|it| matched_throughout(it, sheet.match_on, key, job.planned));
                was_there.then_some("an account had its key all the time")
            }
            (key, id) => {
                let id = if let Key::Id(id) = key { Some(*id) } else { id };
                let account = id.and_then(|id| stage.service.accounts.get(&id));
                account.is_some_and(|it| !it.was_missing(from, to)).then_some("the account was there all the time")
            }
        },
        Status::Ambiguous => {
            // By name or domain, a row stays ambiguous although a `GET` shows that the list has cut one of two equal
            // texts.
            let is_like = |it: &&Account, key: &str| {
                let mut versions = it.during(from, to).filter_map(|version| version.values.as_ref());
                versions.any(|values| {
                    let mut listed = Values::clone(values);
                    for field in [Field::Name, Field::DomainName] {
                        listed.set(field, stage.service.listed_value(field, values.get(field)));
                    }
                    has_key(values, sheet.match_on, key) || has_key(&listed, sheet.match_on, key)
                })
            };
            let several = |key: &str| stage.service.accounts.values().filter(|it| is_like(it, key)).count() > 1;
            let is_so = match &sheet.rows[row].key {
                key if is_repeated(sheet, row) => *key != Key::Empty,
                Key::Text(key) => {
                    several(key)
                        || sheet
                            .rows
                            .iter()
                            .enumerate()
                            .any(|(other, it)| other != row && shares(stage, sheet, key, &it.key, from, to))
                }
                Key::Id(_) | Key::Empty => false,
            };
            (!is_so).then_some("nothing about it is ambiguous")
        }
        Status::Conflict => {
            let foreign = |change: &Change| {
                account.is_some_and(|it| {
                    had(it, change.field, from, to, |now| {
                        !same(change.field, now, &change.before) && !same(change.field, now, &change.after)
                    })
                })
            };
            // The account no longer belongs to the row if it lost the key, or another account got it.
            let has_lost_key = match &sheet.rows[row].key {
                Key::Text(key) => account.is_some_and(|it| !matched_throughout(it, sheet.match_on, key, (from, to))),
                Key::Id(_) | Key::Empty => false,
            };
            // If the list has moved since, nothing tells that from a field that `GET` does not show.
            let is_emptied = account.is_some_and(|it| was_emptied(stage, it, job));
            (!has_lost_key && !is_emptied && !changes.iter().any(foreign))
                .then_some("no one else has changed its fields, nor the text that it was matched on")
        }
        Status::Unknown => (puts.is_empty() && !job.is_shaken).then_some("no update of it was ever sent"),
    };
    if wrong.is_none() && is_answered && status != Status::Changed && is_done && !job.is_shaken {
        return Some("an update of it was answered with success".to_owned());
    }
    if wrong.is_none() && is_repeated(sheet, row) && !matches!(status, Status::Ambiguous | Status::Invalid) {
        return Some("another row is for the same account".to_owned());
    }
    wrong.map(str::to_owned)
}

/// Returns whether an account with a value of a field, or its item of the list, shows a value.
fn shows(stage: &Stage, field: Field, now: &Value, shown: &Value) -> bool {
    same(field, now, shown) || same(field, &stage.service.listed_value(field, now), shown)
}

/// Returns whether a field has the value of a row, or the value that the row's changes would produce.
fn is_as_meant(stage: &Stage, sheet: &Sheet, row: usize, field: Field, values: &Values, changes: &[Change]) -> bool {
    if !changes.is_empty() {
        return changes.iter().all(|change| change.field != field || same(field, &change.after, values.get(field)));
    }
    is_meant(stage, sheet, row, field, values.get(field))
}

/// Returns whether a row leaves a value of a field as it is.
fn is_meant(stage: &Stage, sheet: &Sheet, row: usize, field: Field, now: &Value) -> bool {
    let is_filled = !same(field, now, &Value::Null);
    sheet
        .meant(row, field)
        .is_none_or(|meant| shows(stage, field, now, &meant) || (sheet.mode == Mode::Fill && is_filled))
}

fn is_repeated(sheet: &Sheet, row: usize) -> bool {
    let key = |row: usize| match &sheet.rows[row].key {
        Key::Text(text) if sheet.match_on == MatchOn::DomainName => Key::Text(site(text)),
        key => key.clone(),
    };
    // An invalid row is not sent, but it may be the right one of the two.
    let others = (0..sheet.rows.len()).filter(|other| *other != row);
    !sheet.is_invalid(row) && key(row) != Key::Empty && others.map(key).any(|other| other == key(row))
}

/// Returns whether an account had the key of this row and that of another one at different moments.
fn shares(stage: &Stage, sheet: &Sheet, key: &str, other: &Key, from: Duration, to: Duration) -> bool {
    let Key::Text(other) = other else { return false };
    stage
        .service
        .accounts
        .values()
        .any(|it| matched(it, sheet.match_on, key, from, to) && matched(it, sheet.match_on, other, from, to))
}
