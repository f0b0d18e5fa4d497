//! Checks the accounts after the last revert.

use std::time::Duration;

use super::super::job::Report;
use super::super::service::{Author, Effect, Version};
use super::super::stage::{Put, Stage};
use super::super::story::Step;
use super::{WINDOW, is_hindered, same, stores_otherwise, was_emptied};
use crate::account::Field;
use crate::plan::{Status, Value};

/// A revert finished when nothing failed any more.
pub(in crate::simulation) fn reverted(
    stage: &mut Stage,
    lane: usize,
    number: usize,
    report: &Report,
    started: Duration,
) {
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
        // The client cannot tell an update that the service accepted and ignored, if someone wrote the same meanwhile.
        let ours: Vec<(usize, &Put)> = sent.iter().copied().filter(|(_, put)| put.effect != Effect::None).collect();
        let Some((_, first)) = ours.first() else { continue };
        // If one has overtaken another, or arrived after the start of the revert, the last value is uncertain.
        let is_after = |one: &Put, other: &Put| other.sent > one.sent && one.arrived > Some(other.sent);
        let is_overtaken = sent.iter().any(|(_, one)| sent.iter().any(|(_, other)| is_after(one, other)));
        // A revert does not look again at an account that it found as it was before.
        let is_revert = |step: &Step| matches!(step, Step::Revert(job, _) if *job == number);
        let reverts = stage.operations.iter().filter(|it| it.lane == lane && is_revert(&it.step));
        let starts: Vec<Duration> = reverts.map(|it| it.started).chain([started]).collect();
        let is_after_start =
            |put: &Put, start: Duration| put.sent <= start && put.arrived.is_some_and(|at| at >= start);
        let is_late = ours.iter().any(|(_, put)| starts.iter().any(|start| is_after_start(put, *start)));
        // A change after an update that may have been applied cannot be told from that update. If the disk failed, the
        // file may not say that the service refused it.
        let maybe_first = sent.iter().find(|(_, put)| put.may_be_applied() || job.is_shaken).map(|(_, put)| put.sent);
        let from = maybe_first.unwrap_or(first.sent).min(first.sent);
        let others_wrote = account.versions.windows(2).any(|pair| {
            let is_theirs = !matches!(pair[1].by, Author::Put(put) if ours.iter().any(|(other, _)| *other == put));
            let marked = job.unknown_since.get(row).copied();
            let is_after = |moment: Option<Duration>| moment.is_some_and(|moment| pair[1].at > moment);
            let is_later = is_after(first.arrived) || is_after(maybe_first) || is_after(marked);
            is_theirs && is_later && changes.iter().any(|change| differs(pair, change.field))
        });
        if is_overtaken || is_late || others_wrote || is_hindered(stage, *id) {
            continue;
        }
        let view = report.rows.iter().find(|view| view.account_id == Some(*id));
        // The revert cannot tell a field that someone has emptied from one that `GET` does not show.
        if view.is_some_and(|view| view.status == Status::Conflict) && was_emptied(stage, account, job) {
            continue;
        }
        // If no answer showed what was stored, its form cannot be told from another person's change.
        let was_unknown = job.statuses.get(*row) == Some(&Status::Unknown);
        let is_told = |status| status == Status::Unknown || (status == Status::Conflict && was_unknown);
        let is_said = view.is_some_and(|view| view.status == Status::Changed && view.stored_otherwise);
        // If reads are behind, a revert soon after an update takes what the account was before for restored; limits.md
        // says so.
        let last = ours.iter().filter_map(|(_, put)| put.arrived).max().unwrap_or_default();
        let is_soon = !stage.lag().is_zero() && starts.iter().any(|start| *start <= last + stage.lag());
        if is_soon && view.is_some_and(|view| view.status == Status::Unchanged) {
            continue;
        }
        if is_said || (view.is_some_and(|view| is_told(view.status)) && stores_otherwise(stage)) {
            continue;
        }
        for change in changes {
            let field = change.field;
            let stored = |value: &Value| stage.service.stored_value(field, value);
            let now = stored(values.get(field));
            let is_ours = |put| ours.iter().any(|(other, _)| *other == put);
            let before = |version: &&Version| !matches!(version.by, Author::Put(put) if is_ours(put));
            let shown = account
                .during(from.saturating_sub(WINDOW + stage.lag()), first.arrived.unwrap_or_default())
                .filter(before);
            let mut shown = shown.filter_map(|version| version.values.as_ref());
            // Without the log, the file knows only the value from when the plan was made.
            let is_planned = job.has_lost_log && same(field, &stored(&change.before), &now);
            if !is_planned && !shown.any(|before| same(field, &stored(before.get(field)), &now)) {
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
