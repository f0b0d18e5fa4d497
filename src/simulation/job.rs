//! The product as a caller uses it: plan, apply, retry, revert, and what the plan file says.

use std::path::Path;
use std::sync::Arc;

use super::story::{How, Sheet};
use crate::client::Client;
use crate::plan::file::{ChangeView, FileError, PlanFile, RowView};
use crate::plan::run::{self, ApplyOptions, Control, OnConflict, OnUnknownMember, RunError};

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
            Self::Run(error) => write!(formatter, "{error}"),
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
    let file = run::plan(client, &table, &sheet.options(), path, control, None).await?;
    file.map(drop).ok_or(Refused::Stopped)
}

/// Applies what is left of a plan.
pub(super) async fn apply(client: &Client, path: &Path, how: How, control: &Arc<Control>) -> Result<(), Refused> {
    apply_file(client, &PlanFile::open(path)?, how, control).await
}

async fn apply_file(client: &Client, file: &PlanFile, how: How, control: &Arc<Control>) -> Result<(), Refused> {
    let config = client.config();
    file.check_target(&config.base_url.to_string(), None, config.team_id, &config.api_key, false)?;
    let options = ApplyOptions {
        on_conflict: if how.overwrite { OnConflict::Overwrite } else { OnConflict::Skip },
        on_unknown_member: if how.clear_unknown { OnUnknownMember::Clear } else { OnUnknownMember::Stop },
        concurrency: how.concurrency,
    };
    Ok(run::apply(client, file.start_run()?, options, control, None).await?)
}

/// Makes failed rows pending again.
pub(super) fn retry_failed(path: &Path) -> Result<(), Refused> {
    PlanFile::open(path)?.start_run()?.retry_failed()?;
    Ok(())
}

/// Reverts a plan, or what is left of that.
pub(super) async fn revert(client: &Client, path: &Path, how: How, control: &Arc<Control>) -> Result<(), Refused> {
    let file = PlanFile::open(path)?.revert_file()?;
    apply_file(client, &file, how, control).await
}

/// Reads all that a plan file says.
pub(super) fn report(path: &Path) -> Result<Report, Refused> {
    report_of(&PlanFile::open(path)?)
}

/// The same for the plan that reverts it.
pub(super) fn revert_report(path: &Path) -> Result<Report, Refused> {
    report_of(&PlanFile::open(path)?.revert_file()?)
}

fn report_of(file: &PlanFile) -> Result<Report, Refused> {
    let mut report = Report::default();
    file.for_each_row(|row| report.rows.push(row))?;
    file.for_each_change(|change| report.changes.push(change))?;
    Ok(report)
}
