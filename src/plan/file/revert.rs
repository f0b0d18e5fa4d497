//! The plan that reverts another one: its content and its file name.

use std::path::{Path, PathBuf};

use super::error::{FileError, FileErrorKind};
use super::header::{Facts, Header};
use super::private::remove;
use super::{Builder, PlanFile, State, check, connect, log};
use crate::clock::now_ms;
use crate::sabotage::{Guard, is_off};

/// Returns whether a half-written file is a revert of this plan, or empty: a process may have died after it created
/// only the name.
fn is_half_made(path: &Path, parent: &str) -> bool {
    let has_parent = || {
        let connection = connect::immutable(path).ok()?;
        check::check_schema(&connection).ok()?.ok()?;
        Header::read(&Facts::read(&connection).ok()??)
    };
    let found = path.symlink_metadata();
    found.is_ok_and(|found| found.is_file())
        && (path.metadata().is_ok_and(|found| found.len() == 0)
            || has_parent().is_some_and(|header| header.parent.as_deref() == Some(parent)))
}

impl PlanFile {
    /// Returns the plan that reverts this one, in a file next to it: `name.revert.suffix`, or the next free name,
    /// `name.revert2.suffix` and so on.
    ///
    /// Opens an earlier revert only to resume it: it has open rows, this plan has written nothing since it was created,
    /// and it was not reverted itself. A revert whose creation was interrupted is created again.
    ///
    /// # Errors
    /// Returns [`FileErrorKind::Locked`] if a run uses this plan, [`FileErrorKind::Foreign`] if another file than a
    /// revert of this plan has one of the names, and another kind if one of the files cannot be used.
    pub fn revert_file(&self) -> Result<Self, FileError> {
        // A run could write rows that the revert does not have, or that it has already read.
        let _no_run = self.start_run()?;
        let state = self.state()?;
        let writes = state.writes();
        for number in 1_u32.. {
            let path = self.revert_path(number);
            let foreign = || {
                let name = self.path().display();
                let what = format!(
                    "has the name of a revert of {name} but is not one; an earlier plan may have had this name; move \
                     it away, then revert again"
                );
                FileError::new(&path, FileErrorKind::Foreign(what))
            };
            if path.symlink_metadata().is_err() {
                return self.revert_as(&path, state);
            }
            let found = match Self::open_settled(&path) {
                Ok(found) => found,
                Err(error) => match error.kind() {
                    FileErrorKind::HalfWritten if is_half_made(&path, &self.header().identity) => {
                        log::refuse_stray(&path)?;
                        remove(&path);
                        return self.revert_as(&path, state);
                    }
                    FileErrorKind::HalfWritten
                    | FileErrorKind::Missing
                    | FileErrorKind::NotAPlan
                    | FileErrorKind::Older => return Err(foreign()),
                    FileErrorKind::Damaged(what) => {
                        let what = format!("is a damaged revert ({what}); move it away, then revert again");
                        return Err(FileError::new(&path, FileErrorKind::Foreign(what)));
                    }
                    _ => return Err(error),
                },
            };
            if is_off(Guard::RevertParent) {
                return Ok(found);
            }
            if found.header().parent.as_ref() != Some(&self.header().identity) {
                return Err(foreign());
            }
            let is_same = found.header().parent_writes.as_ref() == Some(&writes);
            if is_same && found.has_rest()? {
                return Ok(found);
            }
        }
        Err(FileError::new(self.path(), FileErrorKind::Exists))
    }

    /// Returns whether this revert has rows that no run has tried and was not reverted itself, or has no rows at all:
    /// another revert would be the same.
    fn has_rest(&self) -> Result<bool, FileError> {
        let is_reverted = self.revert_path(1).symlink_metadata().is_ok();
        Ok(self.counts()?.is_empty() || (!is_reverted && self.has_untried()?))
    }

    /// Returns the last revert of this plan that has restored values, or may do so, and was not reverted itself. A file
    /// that has the name of a revert and cannot be read counts: another process may be writing it.
    pub fn reverted_by(&self) -> Option<PathBuf> {
        let paths = (1_u32..).map(|number| self.revert_path(number));
        let restores = |path: &PathBuf| match Self::open(path) {
            Ok(revert) => {
                let is_ours = revert.header().parent.as_ref() == Some(&self.header().identity);
                let restores = || Ok::<_, FileError>(revert.written()? > 0 || revert.has_untried()?);
                is_ours && restores().unwrap_or(true) && revert.reverted_by().is_none()
            }
            Err(error) => !matches!(
                error.kind(),
                FileErrorKind::HalfWritten | FileErrorKind::Missing | FileErrorKind::NotAPlan | FileErrorKind::Older
            ),
        };
        let paths: Vec<PathBuf> = paths.take_while(|path| path.symlink_metadata().is_ok()).collect();
        paths.into_iter().rev().find(restores)
    }

    /// Refuses a run that would write values again that a revert has restored.
    ///
    /// # Errors
    /// Returns [`FileErrorKind::Reverted`] if there is such a revert.
    pub(in crate::plan) fn refuse_if_reverted(&self) -> Result<(), FileError> {
        let refused = |revert| FileError::new(self.path(), FileErrorKind::Reverted(revert));
        self.reverted_by().map_or(Ok(()), |revert| Err(refused(revert)))
    }

    fn revert_path(&self, number: u32) -> PathBuf {
        // A link, or a relative path after the working directory changed, has another folder or name than the plan.
        let is_real =
            std::fs::canonicalize(self.path()).is_ok_and(|real| real == self.real_path()) && !self.path().is_symlink();
        let path = if is_real { self.path() } else { self.real_path() };
        let mut name = path.file_stem().unwrap_or_default().to_owned();
        name.push(".revert");
        if number > 1 {
            name.push(number.to_string());
        }
        if let Some(suffix) = path.extension() {
            name.push(".");
            name.push(suffix);
        }
        path.with_file_name(name)
    }

    /// Creates the plan that reverts this one, in a new file. `state` is that of this plan.
    ///
    /// # Errors
    /// Returns [`FileError`] if one of the two files cannot be used.
    pub fn revert_as(&self, path: &Path, state: State) -> Result<Self, FileError> {
        let header = Header {
            identity: Header::new_identity()?,
            parent: Some(self.header().identity.clone()),
            parent_writes: Some(state.writes()),
            suspicions: Vec::new(),
            is_revert: true,
            created_at_ms: now_ms(),
            ..self.header().clone()
        };
        let mut builder = Builder::create(path, &header)?;
        // Its updates clear these members too.
        let mut in_doubt = state.in_doubt(&self.open_rows(&[])?);
        builder.add_cleared(state.cleared_members);
        let mut rows = 0;
        self.revert_rows(|row| {
            rows += 1;
            if let Some(at_risk) = in_doubt.take_if(|at_risk| at_risk.row == row.row) {
                builder.add_at_risk(at_risk);
            }
            builder.add(row)
        })?;
        builder.seal(rows)
    }
}
