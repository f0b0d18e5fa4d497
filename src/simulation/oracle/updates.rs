//! Checks each update when it is sent.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::service::{Account, Effect, Values};
use super::super::stage::{Operation, Put, Stage};
use super::super::story::{How, Key, Step};
use super::{Job, LONGEST_AGE, WINDOW, had, matched, same, was_cut};
use crate::account::Field;
use crate::plan::{Mode, Status, Value};

/// A client sends an update.
pub(in crate::simulation) fn sent(stage: &mut Stage, put: &Put) {
    let mut broken = Vec::new();
    // The lock of a killed process ends with it, its update may not.
    let is_in_flight = |other: &Put| other.is_open && other.id == put.id && !stage.is_dead(other.process);
    if stage.puts.iter().rev().any(|(_, other)| is_in_flight(other) && takes_turns(stage, put, other)) {
        broken.push((4, format!("two updates of account {} are in flight", put.id)));
    }
    let operation = stage.operations.get(put.operation);
    let from = looked_since(stage, put, WINDOW);
    let account = stage.service.accounts.get(&put.id);
    let shown = |field: Field| {
        account.is_some_and(|it| had(it, field, from, put.sent, |value| same(field, value, &put.value(field))))
    };
    if let Some(text) = operation.and_then(|operation| beyond_part(stage, put, operation)) {
        broken.push((1, text));
    }
    match operation.map(|operation| (operation.lane, &operation.step)) {
        Some((_, Step::Patch(_, given, _))) => {
            let from = looked_since(stage, put, LONGEST_AGE + Duration::from_millis(stage.world.latency_ms.1));
            let is_named =
                |field: Field| given.iter().any(|(other, _)| *other == field) || is_hidden(stage, put, field);
            if !account.is_some_and(|it| is_built_on_one(it, put, from, is_named)) {
                broken.push((
                    1,
                    format!("the patch of account {} sends what the account did not have just before", put.id),
                ));
            }
            says(put, given, &mut broken);
        }
        Some((_, Step::Update(_, given, _))) => {
            let left_out = Field::ALL.iter().filter(|field| !given.iter().any(|(other, _)| other == *field));
            let all: Vec<(Field, Value)> = given.iter().cloned().chain(left_out.map(|it| (*it, Value::Null))).collect();
            says(put, &all, &mut broken);
        }
        Some((lane, Step::Apply(job, how))) => match stage.jobs.get(&(lane, *job)) {
            Some(job) => of_apply(stage, put, job, *how, &shown, &mut broken),
            None => broken.push((2, "an update for a job that has no plan".to_owned())),
        },
        Some((lane, Step::Revert(job, how))) => {
            let is_hidden = |field| {
                let is_known = stage.jobs.get(&(lane, *job)).is_some_and(|job| knows_hidden(stage, put, job, *how));
                is_hidden(stage, put, field) && !is_known
            };
            for field in Field::ALL.iter().filter(|field| !(shown(**field) || is_hidden(**field))) {
                of_revert(stage, put, (lane, *job), *field, &mut broken);
            }
        }
        _ => broken.push((1, format!("an update of account {} that no row or call asked for", put.id))),
    }
    stage.all_violated(broken);
}

/// Returns what is wrong with an update of a run that includes only a part of its plan.
fn beyond_part(stage: &Stage, put: &Put, operation: &Operation) -> Option<String> {
    let (Step::Apply(job, how) | Step::Revert(job, how)) = &operation.step else { return None };
    let row = *stage.jobs.get(&(operation.lane, *job))?.accounts.get(&put.id)?;
    if !how.part.has(row as u64) {
        return Some(format!("row {row} is sent by a run that does not include it"));
    }
    let sent = stage.puts.iter().map(|(_, other)| other).filter(|other| other.operation == put.operation);
    let accounts: BTreeSet<i64> = sent.chain([put]).map(|put| put.id).collect();
    let limit = how.part.limit.filter(|limit| accounts.len() as u64 > *limit)?;
    Some(format!("a run of at most {limit} rows updates {} accounts", accounts.len()))
}

/// Returns whether the processes of two updates wait for each other.
fn takes_turns(stage: &Stage, one: &Put, other: &Put) -> bool {
    one.process == other.process || stage.world.shares_turns
}

/// Returns from when on an account must have had the values that an update keeps. What a process that it takes turns
/// with wrote before, and knows of, must not be undone, unless reads are behind: then every look is as old as the
/// accounts that it shows. A look after a call that was cancelled shows its update, if that had arrived by then.
fn looked_since(stage: &Stage, put: &Put, window: Duration) -> Duration {
    let is_known = |other: &Put| {
        // A call may repeat its own update without another look while the look is fresh.
        let is_repeated = other.operation == put.operation && !other.is_answered_well();
        // A process that is killed has its turn until then.
        let over = other.over.or_else(|| stage.died_at(other.process));
        other.id == put.id
            && takes_turns(stage, put, other)
            && over.is_some_and(|at| at <= put.sent && other.arrived.is_some_and(|arrived| arrived <= at))
            && !is_repeated
    };
    let known = stage.puts.iter().map(|(_, other)| other).filter(|other| is_known(other));
    let known = known.filter(|other| other.effect == Effect::Written).filter_map(|other| other.arrived);
    known.max().unwrap_or_default().max(put.sent.saturating_sub(window)).saturating_sub(stage.lag())
}

/// Returns whether one version of an account had all values that an update keeps.
fn is_built_on_one(account: &Account, put: &Put, from: Duration, is_named: impl Fn(Field) -> bool) -> bool {
    let mut versions = account.during(from, put.sent).filter_map(|version| version.values.as_ref());
    let kept = |field: &&Field| !is_named(**field);
    versions.any(|it| Field::ALL.iter().filter(kept).all(|field| same(*field, it.get(*field), &put.value(*field))))
}

/// Checks that an update sends these values.
fn says(put: &Put, given: &[(Field, Value)], broken: &mut Vec<(u8, String)>) {
    for (field, value) in given.iter().filter(|(field, value)| !same(*field, value, &put.value(*field))) {
        let (name, sent) = (field.name(), put.value(*field));
        broken.push((1, format!("the update of account {} says {name} = {sent:?} instead of {value:?}", put.id)));
    }
}

/// Checks a value that a revert sends and that the account did not have recently.
fn of_revert(stage: &Stage, put: &Put, (lane, number): (usize, usize), field: Field, broken: &mut Vec<(u8, String)>) {
    let Some(account) = stage.service.accounts.get(&put.id) else { return };
    let job = stage.jobs.get(&(lane, number));
    let changes = job.and_then(|job| job.changes.get(job.accounts.get(&put.id)?));
    let planned = changes.and_then(|changes| changes.iter().find(|change| change.field == field));
    let is_named = planned.is_some();
    // A revert of a revert writes the values of the table, even if its revert has only perhaps restored a row.
    let may_be_of_table =
        matches!(stage.operations.get(put.operation).map(|it| &it.step), Some(Step::Revert(_, how)) if how.of > 0);
    let is_of_table = may_be_of_table && planned.is_some_and(|change| same(field, &change.after, &put.value(field)));
    let is_unknown = job.is_some_and(|job| {
        let row = job.accounts.get(&put.id);
        job.has_lost_log || row.and_then(|row| job.statuses.get(*row)) == Some(&Status::Unknown)
    });
    let planned = planned.filter(|_| is_unknown);
    let was = had(account, field, Duration::ZERO, put.sent, |value| same(field, value, &put.value(field)));
    // The plan may know only what a list has cut.
    let was = was || is_of_table || planned.is_some_and(|change| same(field, &change.before, &put.value(field)));
    if !(is_named || was_spoiled(stage, account, put, field)) || !was {
        broken.push((1, not_shown(put, field)));
        return;
    }
    let is_ours = |other: &&Put| {
        let operation = stage.operations.get(other.operation);
        let is_of_job = |step: &Step| matches!(step, Step::Apply(job, _) | Step::Revert(job, _) if *job == number);
        other.id == put.id && operation.is_some_and(|it| it.lane == lane && is_of_job(&it.step))
    };
    let ours: Vec<&Put> = stage.puts.iter().map(|(_, other)| other).filter(is_ours).collect();
    // The plan cannot tell its own update from someone's who wrote the same.
    let is_as_planned = |now: &Value| {
        planned
            .is_some_and(|change| same(field, now, &change.after) || (is_of_table && same(field, now, &change.before)))
    };
    let is_due = |now: &Value| {
        let stored = |other: &Put| stage.service.stored_value(field, &other.value(field));
        let is_of = |other: &Put| {
            same(field, now, &stored(other)) || answered(stage, account, other, field, |shown| same(field, shown, now))
        };
        ours.iter().any(|other| other.may_be_applied() && is_of(other)) || is_as_planned(now)
    };
    // An earlier run of this revert was told to overwrite, and may have been killed while it did.
    let is_told =
        |it: &Operation| it.lane == lane && matches!(it.step, Step::Revert(job, how) if job == number && how.overwrite);
    let overwrites = stage.operations.iter().any(is_told);
    if !overwrites && !had(account, field, put.sent.saturating_sub(WINDOW + stage.lag()), put.sent, is_due) {
        broken
            .push((1, format!("the revert overwrites what others wrote into {} of account {}", field.name(), put.id)));
    }
}

/// Returns whether an update sent the value of a field that this revert sends, and its answer showed another one, or it
/// got no answer, and the next one of the same run found the field empty: someone else may have emptied it.
fn was_spoiled(stage: &Stage, account: &Account, revert: &Put, field: Field) -> bool {
    let answers_otherwise = |other: &Put| {
        let differs = |now: &Value| !same(field, now, &other.value(field));
        same(field, &other.value(field), &revert.value(field)) && answered(stage, account, other, field, differs)
    };
    let puts = || stage.puts.iter().map(|(_, other)| other).filter(|other| other.id == account.id);
    let is_emptied = |other: &Put| {
        let is_next = |next: &Put| next.operation == other.operation && next.sent > other.sent;
        let is_empty = |next: &Put| same(field, &next.value(field), &Value::Null);
        let had_it = same(field, &other.value(field), &revert.value(field));
        had_it && !other.is_answered_well() && puts().any(|next| is_next(next) && is_empty(next))
    };
    puts().any(|other| answers_otherwise(other) || is_emptied(other))
}

/// Returns whether the answer to an update showed such a value. If the service ignored the update, the answer may show
/// what a colleague has written since the look, and the product takes that for a result of the update.
fn answered(stage: &Stage, account: &Account, put: &Put, field: Field, wanted: impl Fn(&Value) -> bool) -> bool {
    let at = put.arrived.filter(|_| put.effect != Effect::None);
    at.is_some_and(|at| had(account, field, at, at, |value| wanted(stage.service.answered_value(field, value))))
}

/// Returns whether the list has shown the hidden field of an account to a plan, and a run has to look for it: it is not
/// told to clear what it cannot see.
fn knows_hidden(stage: &Stage, put: &Put, job: &Job, how: How) -> bool {
    stage.listed.contains(&(job.planned_by, put.id)) && !how.clear_unknown
}

/// Returns whether an update clears a field that its client may take for empty, because `GET` shows it so.
fn is_hidden(stage: &Stage, put: &Put, field: Field) -> bool {
    stage.world.hidden == Some(field) && same(field, &put.value(field), &Value::Null)
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
    let from = looked_since(stage, put, WINDOW);
    let account = stage.service.accounts.get(&put.id);
    // If an update may have been applied, the service may have stored the key in another form. Without its log, the
    // file says so of each row; if the account then has all values of the row, nothing tells them from that update.
    let is_as_planned = |values: &Values| changes.iter().all(|it| same(it.field, values.get(it.field), &it.after));
    let may_be_ours = job.has_lost_log
        && job.statuses.get(row) == Some(&Status::Unknown)
        && account.is_some_and(|it| {
            it.during(from, put.sent).filter_map(|version| version.values.as_deref()).any(is_as_planned)
        });
    if let Key::Text(key) = &job.sheet.rows[row].key
        && !(may_be_ours || earlier.iter().any(|other| other.may_be_applied()))
        && !account.is_some_and(|it| matched(it, job.sheet.match_on, key, from, put.sent))
    {
        broken.push((1, format!("row {row} is written to account {}, which no longer has its key", put.id)));
    }
    let is_hidden = |field: Field| is_hidden(stage, put, field) && !knows_hidden(stage, put, job, how);
    let is_named = |field: Field| is_hidden(field) || changes.iter().any(|change| change.field == field);
    let are_shown = Field::ALL.iter().all(|field| is_named(*field) || shown(*field));
    if are_shown && !account.is_some_and(|it| is_built_on_one(it, put, from, is_named)) {
        broken.push((1, format!("row {row} sends values that account {} had at different moments", put.id)));
    }
    for field in Field::ALL {
        let value = put.value(*field);
        let change = changes.iter().find(|change| change.field == *field);
        let is_meant = change.is_some_and(|change| same(*field, &change.after, &value));
        if is_meant {
            let Some(change) = change else { continue };
            let by_us = |now: &Value| {
                let stored = |other: &Put| stage.service.stored_value(*field, &other.value(*field));
                earlier.iter().any(|other| other.may_be_applied() && same(*field, now, &stored(other)))
            };
            let is_due = |now: &Value| {
                let kept = job.kept.get(&(row, *field)).filter(|_| job.statuses.get(row) == Some(&Status::Unknown));
                let mut known = [Some(&change.before), Some(&change.after), kept].into_iter().flatten();
                known.any(|it| same(*field, now, it))
                    || by_us(now)
                    || was_cut(stage, *field, &change.before, now, job.planned.0)
            };
            let was_due = account.is_some_and(|it| had(it, *field, from, put.sent, is_due));
            let is_allowed = how.overwrite && job.sheet.mode != Mode::Fill;
            if !was_due && !is_allowed {
                broken.push((
                    1,
                    format!("row {row} overwrites what others wrote into {} of account {}", field.name(), put.id),
                ));
            }
        } else if change.is_some() || !(shown(*field) || is_hidden(*field)) {
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
