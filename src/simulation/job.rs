//! The product from the perspective of a caller: plan, apply, retry, revert, and reading the plan file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::story::{How, Sheet};
use crate::client::Client;
use crate::error::Error;
use crate::plan::file::{ChangeView, FileError, FileErrorKind, PlanFile, RowView, Run};
use crate::plan::run::{self, ApplyOptions, Control, OnConflict, OnUnknownMember, RunError};
use crate::sabotage::{Guard, is_off};

/// The content of a plan file.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub(super) rows: Vec<RowView>,
    pub(super) changes: Vec<ChangeView>,
}

/// Why an operation did not finish.
#[derive(Debug)]
pub(super) enum Refused {
    /// It was asked to stop, and has no result.
    Stopped,
    /// It was abandoned, with what it had in flight.
    Abandoned,
    Run(RunError),
    Call(Error),
    Other(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped => write!(formatter, "stopped"),
            Self::Abandoned => write!(formatter, "abandoned"),
            Self::Run(error) => write!(formatter, "{error}"),
            Self::Call(error) => write!(formatter, "{error}"),
            Self::Other(text) => write!(formatter, "{text}"),
        }
    }
}

impl From<RunError> for Refused {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

impl From<FileError> for Refused {
    fn from(error: FileError) -> Self {
        Self::Run(RunError::File(error))
    }
}

/// Plans a table.
pub(super) async fn plan(client: &Client, sheet: &Sheet, path: &Path, control: &Arc<Control>) -> Result<(), Refused> {
    let table = sheet.table().map_err(Refused::Other)?;
    let file = match run::plan(client, &table, &sheet.options(), path, control, None).await {
        Err(RunError::File(error)) if matches!(error.kind(), FileErrorKind::StrayLog(_)) => {
            remove_logs(path);
            run::plan(client, &table, &sheet.options(), path, control, None).await?
        }
        file => file?,
    };
    file.map(drop).ok_or(Refused::Stopped)
}

/// Applies the rest of a plan.
pub(super) async fn apply(client: &Client, path: &Path, how: How, control: &Arc<Control>) -> Result<(), Refused> {
    apply_file(client, &PlanFile::open(path)?, how, control).await
}

/// Applies one plan in two runs at the same time. One of them must fail.
pub(super) async fn apply_twice(client: &Client, path: &Path, how: How, control: &Arc<Control>) -> Result<(), Refused> {
    let file = PlanFile::open(path)?;
    if is_off(Guard::OneRun) {
        let run = file.start_run()?;
        let runs = (run_once(client, run.clone(), how, control), run_once(client, run, how, control));
        let (one, other) = tokio::join!(runs.0, runs.1);
        return one.and(other);
    }
    let (one, other) = tokio::join!(apply_file(client, &file, how, control), apply(client, path, how, control));
    one.or(other)
}

async fn apply_file(client: &Client, file: &PlanFile, how: How, control: &Arc<Control>) -> Result<(), Refused> {
    let config = client.config();
    file.check_target(&config.base_url.to_string(), None, config.team_id, &config.api_key, false)?;
    run_once(client, file.start_run()?, how, control).await
}

async fn run_once(client: &Client, run: Run, how: How, control: &Arc<Control>) -> Result<(), Refused> {
    let options = ApplyOptions {
        on_conflict: if how.overwrite { OnConflict::Overwrite } else { OnConflict::Skip },
        on_unknown_member: if how.clear_unknown { OnUnknownMember::Clear } else { OnUnknownMember::Stop },
        retry_failed: how.retries,
        concurrency: how.concurrency,
    };
    Ok(run::apply(client, run, options, &how.part.selection(), control, None).await?)
}

/// Reverts a plan, or resumes the revert. Returns the plan of the revert.
pub(super) async fn revert(client: &Client, path: &Path, how: How, control: &Arc<Control>) -> Result<PathBuf, Refused> {
    let file = revert_file(path)?;
    apply_file(client, &file, how, control).await?;
    Ok(file.path().to_owned())
}

/// Returns whether a run of a plan would write again what a revert has restored, so it is refused.
pub(super) fn is_reverted(path: &Path) -> bool {
    PlanFile::open(path).is_ok_and(|file| file.blocked_by().is_ok_and(|revert| revert.is_some()))
}

/// Returns the file that reverts a plan. Moves a file in its way, as the error says.
fn revert_file(path: &Path) -> Result<PlanFile, Refused> {
    let file = PlanFile::open(path)?;
    loop {
        match file.revert_file() {
            Err(error) if matches!(error.kind(), FileErrorKind::Foreign(_) | FileErrorKind::HalfWritten(_)) => {
                std::fs::remove_file(error.path()).map_err(|error| Refused::Other(error.to_string()))?;
            }
            Err(error) if matches!(error.kind(), FileErrorKind::StrayLog(_)) => remove_logs(error.path()),
            found => return Ok(found?),
        }
    }
}

/// Reads everything that a plan file contains.
pub(super) fn report(path: &Path) -> Result<Report, Refused> {
    report_of(&PlanFile::open(path)?)
}

fn report_of(file: &PlanFile) -> Result<Report, Refused> {
    let mut report = Report::default();
    file.for_each_row(|row| report.rows.push(row))?;
    file.for_each_change(|change| report.changes.push(change))?;
    Ok(report)
}

/// Deletes the log of a plan, as a copy of the file alone lacks it. Returns whether the plan needs its log.
pub(super) fn lose_log(path: &Path) -> bool {
    for suffix in ["-wal", "-shm"] {
        let mut log = path.as_os_str().to_owned();
        log.push(suffix);
        let _ = std::fs::remove_file(log);
    }
    matches!(PlanFile::open(path), Err(error) if matches!(error.kind(), FileErrorKind::NeedsLog(_)))
}

/// Recovers a plan without its log.
pub(super) fn recover(path: &Path) -> Result<(), Refused> {
    Ok(PlanFile::recover(path).map(drop)?)
}

/// Deletes the logs of a deleted plan, as the error says.
fn remove_logs(path: &Path) {
    for suffix in ["-wal", "-journal"] {
        let mut log = path.as_os_str().to_owned();
        log.push(suffix);
        let _ = std::fs::remove_file(log);
    }
}
