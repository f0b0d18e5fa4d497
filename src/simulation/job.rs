//! The product as a caller uses it: plan, apply, retry, revert, and what the plan file says.

use std::path::Path;
use std::sync::Arc;

use super::story::{How, Sheet};
use crate::client::Client;
use crate::plan::file::{ChangeView, FileError, PlanFile, RowView};
use crate::plan::run::{self, Control, OnConflict, RunError};

/// What a plan file says.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub(super) rows: Vec<RowView>,
    pub(super) changes: Vec<ChangeView>,
}

/// Why an operation did not come to its own end.
#[derive(Debug)]
pub(super) enum Refused {
    /// It was asked to stop, and there is nothing.
    Stopped,
    Run(RunError),
    Other(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped => write!(formatter, "stopped"),
            Self::Run(RunError::Call(error)) => write!(formatter, "refused: {error}"),
            Self::Run(RunError::File(error)) => write!(formatter, "file: {error}"),
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
    let table = sheet.table().map_err(|error| Refused::Other(format!("table: {error}")))?;
    let file = run::plan(client, &table, &sheet.options(), path, control, None).await?;
    file.map(drop).ok_or(Refused::Stopped)
}

/// Applies what is left of a plan.
pub(super) async fn apply(client: &Client, path: &Path, how: How, control: &Arc<Control>) -> Result<(), Refused> {
    let file = PlanFile::open(path)?;
    let on_conflict = if how.overwrite { OnConflict::Overwrite } else { OnConflict::Skip };
    Ok(run::apply(client, &file, on_conflict, how.concurrency, control, None).await?)
}

/// Makes failed rows pending again.
pub(super) fn retry_failed(path: &Path) -> Result<(), Refused> {
    PlanFile::open(path)?.retry_failed()?;
    Ok(())
}

/// Makes the plan that takes a plan back, unless there is one.
pub(super) fn reverse(path: &Path, revert: &Path) -> Result<(), Refused> {
    if !revert.exists() {
        run::reverse(&PlanFile::open(path)?, revert)?;
    }
    Ok(())
}

/// Reads all that a plan file says.
pub(super) fn report(path: &Path) -> Result<Report, Refused> {
    let file = PlanFile::open(path)?;
    let mut report = Report::default();
    file.for_each_row(|row| report.rows.push(row))?;
    file.for_each_change(|change| report.changes.push(change))?;
    Ok(report)
}
