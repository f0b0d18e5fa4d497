//! Checks each update when it is sent.

use std::time::Duration;

use super::super::service::{Account, Author};
use super::super::stage::{Put, Stage};
use super::super::story::{How, Step};
use super::{Job, WINDOW, had, same, was_cut};
use crate::account::Field;
use crate::plan::{Mode, Status, Value};

/// A client sends an update.
pub(in crate::simulation) fn sent(stage: &mut Stage, put: &Put) {
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
            let was_due = stage.service.accounts.get(&put.id).is_some_and(|it| had(it, *field, from, put.sent, is_due));
            let is_allowed = how.overwrite && job.sheet.mode != Mode::Fill;
            if !was_due && !is_allowed {
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
