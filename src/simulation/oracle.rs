//! Checks the events with the knowledge of the model. The promises have the numbers of the issue.
//!
//! 1. No run changes a field that no row names, except for another person's edit between look and update.
//! 2. Every row has one correct status.
//! 3. A revert restores every value, except if others changed it later.
//! 4. Two updates of one account are never in flight, and after a crash only what was in flight is sent again.
//! 5. The client causes no 429, waits as long as it is asked to, and sends no more requests than rows and failures
//!    explain.
//! 6. A job ends within the time that the faults' own waits explain.

use std::collections::BTreeMap;
use std::time::Duration;

use super::job::Report;
use super::service::{Account, Author, Effect, Values, Version};
use super::stage::{Put, Stage};
use super::story::{How, Key, Sheet, Step};
use super::world::{Fault, Order, Trait};
use crate::account::Field;
use crate::plan::run::RunError;
use crate::plan::{Change, MatchOn, Mode, Status, Value};

/// The maximum age of a look at its update: two minutes, and the time of the look itself.
pub(super) const WINDOW: Duration = Duration::from_secs(120 + 31);

/// A job: a table, its plan, and the last content of the file.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) sheet: Sheet,
    pub(super) planned: (Duration, Duration),
    pub(super) accounts: BTreeMap<i64, usize>,
    pub(super) changes: BTreeMap<usize, Vec<Change>>,
    /// The status of each row at the last read of the file.
    pub(super) statuses: Vec<Status>,
    /// From when on the update of a row may have been applied, although no request shows it: its process was killed.
    pub(super) unknown_since: BTreeMap<usize, Duration>,
    /// Whether the disk failed during the job, or its process died.
    pub(super) is_shaken: bool,
}

impl Job {
    pub(super) fn new(sheet: &Sheet, planned: (Duration, Duration), report: &Report) -> Self {
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
            accounts,
            changes,
            statuses,
            unknown_since: BTreeMap::new(),
            is_shaken: false,
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

fn had(account: &Account, field: Field, from: Duration, to: Duration, wanted: impl Fn(&Value) -> bool) -> bool {
    account.during(from, to).filter_map(|version| version.values.as_ref()).any(|values| wanted(values.get(field)))
}

/// A client sends an update.
pub(super) fn sent(stage: &mut Stage, put: &Put) {
    let mut broken = Vec::new();
    if stage.puts.iter().rev().any(|(_, other)| other.is_open && other.id == put.id && other.process == put.process) {
        broken.push((4, format!("two updates of account {} are in flight", put.id)));
    }
    let operation = stage.operations.get(put.operation);
    let from = put.sent.saturating_sub(WINDOW);
    let account = stage.service.accounts.get(&put.id);
    let shown = |field: Field| {
        account.is_some_and(|it| had(it, field, from, put.sent, |value| same(field, value, &put.value(field))))
    };
    match operation.map(|operation| (operation.lane, &operation.step)) {
        Some((_, Step::Patch(_, given))) => {
            for field in Field::ALL.iter().filter(|field| !given.iter().any(|(other, _)| other == *field)) {
                if !shown(*field) {
                    broken.push((1, not_shown(put, *field)));
                }
            }
        }
        Some((_, Step::Update(..))) => {}
        Some((lane, Step::Apply(job, how))) => match stage.jobs.get(&(lane, *job)) {
            Some(job) => of_apply(stage, put, job, *how, &shown, &mut broken),
            None => broken.push((2, "an update for a job that has no plan".to_owned())),
        },
        Some((lane, Step::Revert(job, _))) => {
            let job = stage.jobs.get(&(lane, *job));
            let changes = job.and_then(|job| job.changes.get(job.accounts.get(&put.id)?));
            for field in Field::ALL.iter().filter(|field| !shown(**field)) {
                let is_named = changes.is_some_and(|changes| changes.iter().any(|change| change.field == *field));
                let was = account.is_some_and(|it| {
                    had(it, *field, Duration::ZERO, put.sent, |value| same(*field, value, &put.value(*field)))
                });
                let was_spoiled = account.is_some_and(|it| was_spoiled(stage, it, put, *field));
                if !(is_named || was_spoiled) || !was {
                    broken.push((1, not_shown(put, *field)));
                }
            }
        }
        _ => broken.push((1, format!("an update of account {} that no row or call asked for", put.id))),
    }
    stage.all_violated(broken);
}

/// Returns whether an update sent the value of a field that this revert sends, and the service stored another one.
fn was_spoiled(stage: &Stage, account: &Account, revert: &Put, field: Field) -> bool {
    account.versions.iter().any(|version| {
        let Author::Put(number) = version.by else { return false };
        let stored = version.values.as_ref().map(|values| values.get(field));
        let sent = stage.puts.iter().find(|(other, _)| *other == number).map(|(_, put)| put.value(field));
        sent.as_ref().is_some_and(|sent| {
            same(field, sent, &revert.value(field)) && stored.is_some_and(|it| !same(field, it, sent))
        })
    })
}

fn not_shown(put: &Put, field: Field) -> String {
    let (name, value) = (field.name(), put.value(field));
    format!(
        "the update of account {} says {name} = {value:?}, which the account did not have recently and which no row or \
         call asked for",
        put.id
    )
}

fn of_apply(
    stage: &Stage,
    put: &Put,
    job: &Job,
    how: How,
    shown: &impl Fn(Field) -> bool,
    broken: &mut Vec<(u8, String)>,
) {
    let Some(&row) = job.accounts.get(&put.id) else {
        broken.push((1, format!("an update of account {} that no row is for", put.id)));
        return;
    };
    let changes = job.changes.get(&row).map(Vec::as_slice).unwrap_or_default();
    let earlier: Vec<&Put> = puts_of(stage, put.operation, put.id).collect();
    let has_lost = |other: &Put| other.has_lost || other.has_reset;
    let is_unwanted = |other: &Put| other.operation == put.operation && other.is_answered_well() && has_lost(other);
    if !how.clear_unknown && stage.puts.iter().any(|(_, other)| is_unwanted(other)) {
        let text =
            format!("row {row} is written although an update has cleared or reset a member that none can include");
        broken.push((1, text));
    }
    if job.statuses.get(row) == Some(&Status::Changed)
        || earlier.iter().any(|other| other.operation == put.operation && other.is_answered_well())
    {
        broken.push((4, format!("row {row} was written and answered, and is sent again")));
    }
    let from = put.sent.saturating_sub(WINDOW);
    for field in Field::ALL {
        let value = put.value(*field);
        let change = changes.iter().find(|change| change.field == *field);
        let is_meant = change.is_some_and(|change| same(*field, &change.after, &value));
        if is_meant {
            let Some(change) = change else { continue };
            let is_due = |now: &Value| same(*field, now, &change.before) || same(*field, now, &change.after);
            let was_due = stage.service.accounts.get(&put.id).is_some_and(|it| had(it, *field, from, put.sent, is_due));
            let is_cut = stage.world.is(Trait::ItemsCut);
            if !was_due && !how.overwrite && !is_cut && earlier.is_empty() {
                broken.push((
                    1,
                    format!("row {row} overwrites what others wrote into {} of account {}", field.name(), put.id),
                ));
            }
        } else if change.is_some() || !shown(*field) {
            broken.push((1, not_shown(put, *field)));
        }
    }
}

/// Returns the updates of an account that the job of an operation sent to apply its plan.
fn puts_of(stage: &Stage, operation: usize, id: i64) -> impl Iterator<Item = &Put> {
    let key = |number: usize| {
        let operation = stage.operations.get(number)?;
        match operation.step {
            Step::Apply(job, _) => Some((operation.lane, job)),
            _ => None,
        }
    };
    let wanted = key(operation);
    stage
        .puts
        .iter()
        .map(|(_, put)| put)
        .filter(move |put| put.id == id && wanted.is_some() && key(put.operation) == wanted)
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

/// A plan was created.
pub(super) fn planned(stage: &mut Stage, lane: usize, number: usize, report: &Report) {
    let Some(job) = stage.jobs.get(&(lane, number)) else { return };
    let mut broken = Vec::new();
    for (row, view) in report.rows.iter().enumerate().take(job.sheet.rows.len()) {
        let Key::Text(key) = &job.sheet.rows[row].key else { continue };
        let (match_on, (from, to)) = (job.sheet.match_on, job.planned);
        let having = stage.service.accounts.values().filter(|it| matched_throughout(it, match_on, key, (from, to)));
        if having.count() > 1 && !matches!(view.status, Status::Ambiguous | Status::Invalid) {
            broken.push((2, format!("row {row} is {} although several accounts have its key", view.status.as_str())));
        }
        let account = view.account_id.and_then(|id| stage.service.accounts.get(&id));
        let is_found = matches!(view.status, Status::Pending | Status::Unchanged);
        if is_found && !account.is_some_and(|it| matched(it, match_on, key, from, to)) {
            broken.push((2, format!("row {row} is for account {:?}, which never had its key", view.account_id)));
        }
    }
    // `judge` later checks whether changes are missing.
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
                had(it, change.field, job.planned.0, job.planned.1, |value| same(change.field, value, &change.before))
            });
            if !was && !stage.world.is(Trait::ItemsCut) {
                broken.push((
                    2,
                    format!("row {row} says that {} was {:?}, which it was not", change.field.name(), change.before),
                ));
            }
        }
    }
    stage.all_violated(broken);
}

/// The file of a plan was read after an operation. `is_done` is true if the operation finished.
pub(super) fn reported(stage: &mut Stage, lane: usize, number: usize, report: &Report, is_done: bool) {
    let Some(job) = stage.jobs.get(&(lane, number)) else { return };
    let mut broken = Vec::new();
    if report.rows.len() != job.sheet.rows.len() {
        broken
            .push((2, format!("the table has {} rows, but the file has {}", job.sheet.rows.len(), report.rows.len())));
    }
    for (row, view) in report.rows.iter().enumerate().take(job.sheet.rows.len()) {
        let last = view.account_id.and_then(|id| {
            let of_job = |put: &&Put| put.id == id && is_of(stage, lane, number, put) && put.is_answered_well();
            stage.puts.iter().map(|(_, put)| put).rfind(|put| of_job(put))
        });
        if let Some(last) = last
            .filter(|last| view.status == Status::Changed && !last.is_unsure && last.differs != view.stored_otherwise)
        {
            let found = if last.differs { "is not what was sent" } else { "is what was sent" };
            let said = view.stored_otherwise;
            broken.push((2, format!("row {row} says stored_otherwise={said}, and the answer to its update {found}")));
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
    if let Some(job) = stage.jobs.get_mut(&(lane, number)) {
        job.statuses = statuses;
    }
}

/// A process was killed while it applied a plan: only the updates in flight may be sent again.
pub(super) fn killed(stage: &mut Stage, lane: usize, number: usize, operation: usize, report: &Report, how: How) {
    let Some(job) = stage.jobs.get(&(lane, number)) else { return };
    let was_open = |row: usize| job.statuses.get(row) == Some(&Status::Unknown);
    let unknown =
        report.rows.iter().enumerate().filter(|(row, view)| view.status == Status::Unknown && !was_open(*row));
    // An update whose answer was lost before is sent again even without a crash.
    let was_lost = |id: Option<i64>| {
        stage.puts.iter().any(|(_, put)| put.operation == operation && put.is_over && Some(put.id) == id)
    };
    let count = unknown.filter(|(_, view)| !was_lost(view.account_id)).count();
    if count > how.concurrency {
        let text = format!("{count} rows are unknown after a crash, and {} were in flight", how.concurrency);
        stage.violated(4, text);
    }
}

/// Returns whether an update was sent to apply the plan of a job.
fn is_of(stage: &Stage, lane: usize, number: usize, put: &Put) -> bool {
    let operation = stage.operations.get(put.operation);
    operation.is_some_and(|it| it.lane == lane && matches!(it.step, Step::Apply(job, _) if job == number))
}

/// Returns what is wrong with the status of a row.
#[expect(clippy::too_many_arguments, reason = "a row is judged by everything that is known about it")]
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
    if sheet.is_invalid(row) != (status == Status::Invalid) {
        return Some(
            if status == Status::Invalid { "nothing is wrong with it" } else { "it cannot be sent" }.to_owned(),
        );
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
        Status::Invalid | Status::Failed => None,
        Status::Changed => (!is_answered).then_some("no update of it was answered"),
        Status::Unchanged => {
            let is_so =
                |values: &Values| Field::ALL.iter().all(|field| is_as_meant(sheet, row, *field, values, changes));
            let versions = account.into_iter().flat_map(|it| it.during(from, to));
            let was = versions.filter_map(|version| version.values.as_ref()).any(|values| is_so(values));
            (!was).then_some("the account never was as it says")
        }
        Status::Pending => (is_done && !changes.is_empty()).then_some("the run came to its end"),
        Status::NotFound => match (&sheet.rows[row].key, id) {
            (Key::Text(key), None) => {
                let mut accounts = stage.service.accounts.values();
                let was_there = accounts.any(|it| matched_throughout(it, sheet.match_on, key, job.planned));
                was_there.then_some("an account had its key all the time")
            }
            (key, id) => {
                let id = if let Key::Id(id) = key { Some(*id) } else { id };
                let account = id.and_then(|id| stage.service.accounts.get(&id));
                account.is_some_and(|it| !it.was_missing(from, to)).then_some("the account was there all the time")
            }
        },
        Status::Ambiguous => {
            let several = |key: &str| {
                stage.service.accounts.values().filter(|it| matched(it, sheet.match_on, key, from, to)).count() > 1
            };
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
            (!stage.world.is(Trait::ItemsCut) && !has_lost_key && !changes.iter().any(foreign))
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

/// Returns whether a field has the value of a row, or the value that the row's changes would produce.
fn is_as_meant(sheet: &Sheet, row: usize, field: Field, values: &Values, changes: &[Change]) -> bool {
    if !changes.is_empty() {
        return changes.iter().all(|change| change.field != field || same(field, &change.after, values.get(field)));
    }
    let now = values.get(field);
    let is_filled = !same(field, now, &Value::Null);
    sheet.meant(row, field).is_none_or(|meant| same(field, &meant, now) || (sheet.mode == Mode::Fill && is_filled))
}

/// Returns the site of a domain of the model, however it is written. Shares no code with the code under test.
fn site(domain: &str) -> String {
    let domain = domain.trim().to_lowercase();
    let host = ["https://", "http://"].iter().find_map(|scheme| domain.strip_prefix(scheme)).unwrap_or(&domain);
    let host = host.strip_prefix("www.").unwrap_or(host);
    ["/about", "/", ":8080", "."].iter().fold(host, |host, end| host.strip_suffix(end).unwrap_or(host)).to_owned()
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

/// Returns whether an account had the key of this row and that of another one at different moments.
fn shares(stage: &Stage, sheet: &Sheet, key: &str, other: &Key, from: Duration, to: Duration) -> bool {
    let Key::Text(other) = other else { return false };
    stage
        .service
        .accounts
        .values()
        .any(|it| matched(it, sheet.match_on, key, from, to) && matched(it, sheet.match_on, other, from, to))
}

/// A revert finished when nothing failed any more.
pub(super) fn reverted(stage: &mut Stage, lane: usize, number: usize, report: &Report, started: Duration) {
    let Some(job) = stage.jobs.get(&(lane, number)) else { return };
    let mut broken = Vec::new();
    for (id, row) in &job.accounts {
        let (Some(account), Some(changes)) = (stage.service.accounts.get(id), job.changes.get(row)) else { continue };
        let Some(values) = account.now().values.as_ref() else { continue };
        let is_ours = |put: &Put| {
            let operation = stage.operations.get(put.operation);
            operation.is_some_and(|it| {
                it.lane == lane && matches!(it.step, Step::Apply(job, _) | Step::Revert(job, _) if job == number)
            })
        };
        let sent = stage.puts.iter().filter(|(_, put)| put.id == *id && is_ours(put));
        let sent: Vec<(usize, &Put)> = sent.map(|(number, put)| (*number, put)).collect();
        let ours: Vec<(usize, &Put)> = sent.iter().copied().filter(|(_, put)| put.effect == Effect::Written).collect();
        let Some((_, first)) = ours.first() else { continue };
        // If one has overtaken another, or arrived after the start of the revert, the last value is uncertain.
        let is_after = |one: &Put, other: &Put| other.sent > one.sent && one.arrived > Some(other.sent);
        let is_overtaken = sent.iter().any(|(_, one)| sent.iter().any(|(_, other)| is_after(one, other)));
        let is_late = ours.iter().any(|(_, put)| put.sent < started && put.arrived.is_some_and(|at| at >= started));
        let others_wrote = account.versions.windows(2).any(|pair| {
            let is_theirs = !matches!(pair[1].by, Author::Put(put) if ours.iter().any(|(other, _)| *other == put));
            // A change after an update that may have been applied cannot be told from that update.
            let maybe_first = sent.iter().find(|(_, put)| put.may_be_applied()).map(|(_, put)| put.sent);
            let marked = job.unknown_since.get(row).copied();
            let is_after = |moment: Option<Duration>| moment.is_some_and(|moment| pair[1].at > moment);
            let is_later = is_after(first.arrived) || is_after(maybe_first) || is_after(marked);
            is_theirs && is_later && changes.iter().any(|change| differs(pair, change.field))
        });
        if is_overtaken || is_late || others_wrote || is_hindered(stage, *id) {
            continue;
        }
        let view = report.rows.iter().find(|view| view.account_id == Some(*id));
        // If no answer showed what was stored, its form cannot be told from another person's change.
        let was_unknown = job.statuses.get(*row) == Some(&Status::Unknown);
        let is_told = |status| status == Status::Unknown || (status == Status::Conflict && was_unknown);
        let is_said = view.is_some_and(|view| view.status == Status::Changed && view.stored_otherwise);
        if is_said || (view.is_some_and(|view| is_told(view.status)) && stores_otherwise(stage)) {
            continue;
        }
        for change in changes {
            let field = change.field;
            let stored = |value: &Value| stage.service.stored_value(field, value);
            let now = stored(values.get(field));
            let before = |version: &&Version| !matches!(version.by, Author::Put(put) if ours.iter().any(|(other, _)| *other == put));
            let shown =
                account.during(first.sent.saturating_sub(WINDOW), first.arrived.unwrap_or_default()).filter(before);
            let mut shown = shown.filter_map(|version| version.values.as_ref());
            if !shown.any(|before| same(field, &stored(before.get(field)), &now)) {
                let said = view.map(|view| (view.status.as_str(), view.error.clone()));
                let name = field.name();
                let text =
                    format!("account {id} (row {row}) has {name} = {now:?} after the revert, which says {said:?}");
                broken.push((3, text));
            }
        }
    }
    stage.all_violated(broken);
}

/// Returns whether a field differs between two versions of an account.
fn differs(pair: &[Version], field: Field) -> bool {
    let value = |version: &Version| version.values.as_ref().map(|values| values.get(field).clone());
    value(&pair[0]) != value(&pair[1])
}

/// Returns whether the service refuses all reads or updates of an account.
fn is_hindered(stage: &Stage, id: i64) -> bool {
    let hinders = [(2, Trait::OneForbiddenWithoutCode), (3, Trait::OneForbidden), (4, Trait::AccountUnreadable)];
    hinders.iter().any(|(other, what)| *other == id && stage.world.is(*what))
}

fn stores_otherwise(stage: &Stage) -> bool {
    stage.world.is(Trait::Trims) || stage.world.is(Trait::TidiesPhones)
}

/// A run stopped because of a member that an update cannot include.
pub(super) fn stopped(stage: &mut Stage, number: usize, error: &RunError) {
    let account = |id: &i64| stage.service.accounts.get(id);
    let is_explained = match error {
        RunError::ClearedMembers { .. } => stage.world.is(Trait::UnknownMember),
        RunError::ResetMembers { id, .. } => account(id).is_some_and(|it| !it.has_one_stage()),
        RunError::InDoubt { .. } => stage.puts.iter().any(|(_, put)| !put.is_answered_well()),
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
        // The client also counts requests that never arrive.
        let hours = stage.requests().max(stage.service.hits.len() as u64) / u64::from(quota.per_hour.max(1));
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
            // Nothing is known of a domain that is cut behind "www.": it may be for any row. A list may have cut a text that
            // is a few bytes shorter than the longest.
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
            let rows = job.statuses.iter().filter(is_open).count() as u64;
            // A look and an update for each row, and the pages that contain several.
            let calm = 2 * rows + rows / 2;
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
