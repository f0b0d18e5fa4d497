//! The plan that reverts another one: its content and its file name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::{FileError, FileErrorKind, Half};
use super::header::{Facts, Header, KeyMark};
use super::history::{Family, History};
use super::private::{remove, with_suffix};
use super::{Builder, PlanFile, State, check, connect, log};
use crate::clock::now_ms;
use crate::config::ApiKey;
use crate::sabotage::{Guard, is_off};

/// Returns the identity of the plan that a half-written file was to revert.
fn parent_of_half(path: &Path) -> Option<String> {
    let connection = connect::immutable(path).ok()?;
    check::check_schema(&connection).ok()?.ok()?;
    Header::read(&Facts::read(&connection).ok()??)?.parent
}

/// Returns whether a file is empty: a process may have died after it created only the name.
fn is_empty(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.len() == 0)
}

/// Returns whether a half-written file is a revert of this plan, or empty.
fn is_half_made(path: &Path, parent: &str) -> bool {
    let is_file = path.symlink_metadata().is_ok_and(|found| found.is_file());
    is_file && (is_empty(path) || parent_of_half(path).is_some_and(|found| found == parent))
}

/// Returns what a half-written file should have become.
pub(super) fn half(path: &Path) -> Half {
    let replaced = with_suffix(path, ".replaced");
    if parent_of_half(path).is_some() || (is_empty(path) && reverts(path).is_some()) {
        Half::Revert
    } else if replaced.is_file() {
        Half::Replacement(replaced)
    } else {
        Half::Plan
    }
}

/// Returns the name of the plan that a file reverts, and the number of the revert, as far as the file's name says so.
fn reverts(file: &Path) -> Option<(String, u32)> {
    let lossy = |name: Option<&OsStr>| name.map(|name| name.to_string_lossy().into_owned());
    let (stem, suffix) = (lossy(file.file_stem())?, lossy(file.extension()));
    let number = |digits: &str| match digits {
        "" => Some(1),
        _ if digits.starts_with(['0', '+']) => None,
        _ => digits.parse().ok().filter(|number| *number > 1),
    };
    let of_stem = stem.rsplit_once(".revert").filter(|(plan, _)| !plan.is_empty()).and_then(|(plan, digits)| {
        let suffix = suffix.as_ref().map_or_else(String::new, |suffix| format!(".{suffix}"));
        Some((format!("{plan}{suffix}"), number(digits)?))
    });
    let of_suffix = || {
        let is_plan = Path::new(&stem).extension().is_none();
        suffix.as_ref()?.strip_prefix("revert").and_then(number).filter(|_| is_plan)
    };
    of_stem.or_else(|| Some((stem.clone(), of_suffix()?)))
}

/// What the reverts of a plan say about it.
#[derive(Default)]
struct Standing {
    /// The last revert that is in effect: it has rows, and was not undone.
    held_by: Option<Hold>,
    /// When the last of these reverts was created, in milliseconds since 1970; the last moment if its file cannot be
    /// read.
    held_at_ms: Option<i64>,
    /// Whether a revert has written again everything that this plan has written, and is in effect itself.
    is_undone: bool,
    /// The last revert that another run may complete.
    incomplete: Option<PathBuf>,
}

/// A file that prevents runs of a plan.
struct Hold {
    by: PathBuf,
    cause: Cause,
}

enum Cause {
    /// It is a revert of the plan. Another run may complete the last revert of it, if there is one here.
    Reverted { incomplete: Option<PathBuf> },
    /// The plan is a revert, and this newer file has written the opposite.
    Overtaken,
    /// It cannot be read, and may be such a file.
    Unreadable(FileError),
}

/// Returns the error for a file that has the name of a revert of this plan, and cannot be used as one.
fn unusable(plan: &PlanFile, revert: &Path, error: FileError) -> FileError {
    let what = match error.kind() {
        FileErrorKind::HalfWritten(_) if is_half_made(revert, &plan.header().identity) => {
            "is a revert whose creation was interrupted; move it away, then revert again".to_owned()
        }
        FileErrorKind::HalfWritten(_) | FileErrorKind::Missing | FileErrorKind::NotAPlan | FileErrorKind::Older => {
            foreign(plan.path())
        }
        FileErrorKind::Damaged(what) if plan.header().is_revert() => format!(
            "is a damaged revert of {} ({what}), and may have written values again that no other revert restores; \
             compare the accounts with the changes of {0}, then move the damaged file away",
            plan.path().display()
        ),
        FileErrorKind::Damaged(what) => {
            format!("is a damaged revert ({what}); move it away, then revert again before you apply the plan")
        }
        _ => return error,
    };
    FileError::new(revert, FileErrorKind::Foreign(what))
}

fn foreign(plan: &Path) -> String {
    let name = plan.display();
    format!(
        "has the name of a revert of {name}, but is not a revert of that plan; it may belong to an earlier plan of the \
         same name; move it away, then revert again"
    )
}

impl PlanFile {
    /// Returns the plan that reverts this one, in a file next to it: `name.revert.suffix`, `name.revert2.suffix` and so
    /// on, the name after the last one that exists.
    ///
    /// Opens an earlier revert only to resume it: it has open rows, no file has written the values of this plan since
    /// it was created, and it was not reverted itself. A revert whose creation was interrupted is created again.
    ///
    /// # Errors
    /// Returns [`FileErrorKind::Locked`] if a run uses this plan or another one of its family,
    /// [`FileErrorKind::Foreign`] if another file than a revert of this plan has one of the names, and another kind if
    /// one of the files cannot be used.
    pub fn revert_file(&self) -> Result<Self, FileError> {
        self.revert_file_with(None, false)
    }

    /// The same. A new file contains the mark of this API key instead of the one of this plan. `recover` opens a revert
    /// whose log is missing, as [`PlanFile::recover`] does.
    ///
    /// # Errors
    /// Returns the errors of [`PlanFile::revert_file`].
    pub fn revert_file_with(&self, key: Option<&ApiKey>, recover: bool) -> Result<Self, FileError> {
        // A run could write rows that the revert does not have, or that it has already read.
        let _no_run = self.start_run()?;
        let state = self.state()?;
        let writes = state.writes();
        let mut last = 0_u32;
        for (number, path) in self.reverts()? {
            last = number;
            let found = Self::open_settled(&path).or_else(|error| match error.kind() {
                FileErrorKind::NeedsLog(_) if recover => Self::recover(&path),
                _ => Err(error),
            });
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    let is_half = matches!(error.kind(), FileErrorKind::HalfWritten(_));
                    if is_half && is_half_made(&path, &self.header().identity) {
                        log::refuse_stray(&path)?;
                        remove(&path);
                        return self.revert_as(&path, &state, key);
                    }
                    return Err(unusable(self, &path, error));
                }
            };
            if is_off(Guard::RevertParent) {
                return Ok(found);
            }
            if !found.is_revert_of(self) {
                // An earlier plan of this name was reverted before it had written anything.
                if found.header().is_revert() && found.counts()?.is_empty() {
                    remove(&path);
                    return self.revert_as(&path, &state, key);
                }
                return Err(FileError::new(&path, FileErrorKind::Foreign(foreign(self.path()))));
            }
            let is_same = found.header().parent_writes.as_ref() == Some(&writes);
            if is_same && self.is_the_next(&found)? {
                return Ok(found);
            }
        }
        self.revert_as(&self.revert_path(last.saturating_add(1)), &state, key)
    }

    /// Returns whether another revert would do no more than this one: it was not reverted itself, has seen everything
    /// that was written, and has rows that no run has tried, or none as another one would have none.
    fn is_the_next(&self, revert: &Self) -> Result<bool, FileError> {
        if !revert.reverts()?.is_empty() {
            return Ok(false);
        }
        if revert.counts()?.is_empty() {
            let mut is_empty = true;
            self.revert_rows(|_| {
                is_empty = false;
                Ok(())
            })?;
            return Ok(is_empty);
        }
        Ok(revert.has_untried()? && !Family::of(self, self.root()?)?.is_overtaken(revert)?)
    }

    /// Returns the file that blocks runs of this plan. It is the last revert of this plan that is in effect: it has
    /// rows, whatever became of them, and no revert of it has written them again. Or this is a revert, and a newer file
    /// of the same plan does the opposite. A file that has the name of a revert and cannot be read counts: it may have
    /// restored values, or another process may be writing it.
    ///
    /// # Errors
    /// Returns [`FileError`] if this file or its folder cannot be read.
    pub fn blocked_by(&self) -> Result<Option<PathBuf>, FileError> {
        self.hold().map(|hold| hold.map(|hold| hold.by))
    }

    /// Returns why no run may use this plan: a revert of it is in effect; or this is a revert itself, and a newer file
    /// of the same plan that does the opposite is in effect.
    fn hold(&self) -> Result<Option<Hold>, FileError> {
        if let Some(hold) = self.standing()?.held_by {
            return Ok(Some(hold));
        }
        if !self.header().is_revert() {
            return Ok(None);
        }
        let family = match Family::of(self, self.root()?) {
            Ok(family) => family,
            Err(error) => return Ok(Some(Hold { by: error.path().into(), cause: Cause::Unreadable(error) })),
        };
        let is_opposite = |other: &&Self| {
            let (other, own) = (other.header(), self.header());
            other.is_of_table() != own.is_of_table() && other.created_at_ms > own.created_at_ms
        };
        let mut others: Vec<&Self> = family.others().filter(is_opposite).collect();
        others.sort_by_key(|other| Reverse(other.header().created_at_ms));
        for other in others {
            if !other.counts()?.is_empty() && !other.standing()?.is_undone {
                return Ok(Some(Hold { by: other.path().into(), cause: Cause::Overtaken }));
            }
        }
        Ok(None)
    }

    fn standing(&self) -> Result<Standing, FileError> {
        let writes = self.state()?.writes();
        let mut standing = Standing::default();
        let (mut undone_at_ms, mut retracted_at_ms) = (None, None);
        for path in self.reverts()?.into_values() {
            let look = |revert: Self| {
                Ok::<_, FileError>((revert.counts()?, revert.has_writable()?, revert.standing()?, revert))
            };
            let looked = self.own_revert(&path).and_then(|revert| revert.map(look).transpose());
            let (counts, is_incomplete, its, revert) = match looked {
                Ok(Some(looked)) => looked,
                Ok(None) => continue,
                Err(error) => {
                    standing.held_by = Some(Hold { by: path, cause: Cause::Unreadable(error) });
                    standing.held_at_ms = Some(i64::MAX);
                    continue;
                }
            };
            let is_current = revert.header().parent_writes.as_ref() == Some(&writes);
            let created_at_ms = revert.header().created_at_ms;
            // A partial revert has not written everything again.
            if !is_incomplete && is_current && its.held_by.is_none() && !its.is_undone {
                undone_at_ms = undone_at_ms.max(Some(created_at_ms));
            }
            // A later revert restored what this one wrote, so a revert that was made before is no longer complete.
            retracted_at_ms = retracted_at_ms.max(its.held_at_ms);
            if is_incomplete {
                standing.incomplete = Some(path.clone());
            }
            if !counts.is_empty() && !its.is_undone {
                standing.held_by = Some(Hold { by: path, cause: Cause::Reverted { incomplete: its.incomplete } });
                standing.held_at_ms = standing.held_at_ms.max(Some(created_at_ms));
            }
        }
        standing.is_undone = undone_at_ms.is_some() && retracted_at_ms <= undone_at_ms;
        Ok(standing)
    }

    /// Refuses a run that would write values again that a revert has restored, or was meant to restore.
    ///
    /// # Errors
    /// Returns [`FileErrorKind::Reverted`] or [`FileErrorKind::Overtaken`] if there is such a revert, and
    /// [`FileErrorKind::UnreadableRevert`] if there may be one.
    pub(in crate::plan) fn refuse_if_reverted(&self) -> Result<(), FileError> {
        let Some(Hold { by, cause }) = self.hold()? else { return Ok(()) };
        let kind = match cause {
            Cause::Reverted { incomplete } => FileErrorKind::Reverted { revert: by, incomplete },
            Cause::Overtaken => FileErrorKind::Overtaken { by },
            Cause::Unreadable(error) => FileErrorKind::UnreadableRevert(error.to_string()),
        };
        Err(FileError::new(self.path(), kind))
    }

    /// Returns the plan of the table from which this one comes, as far as the files between are next to this one.
    ///
    /// # Errors
    /// Returns [`FileError`] if a file that has the name of such a plan cannot be read.
    pub(super) fn root(&self) -> Result<Self, FileError> {
        let mut root = self.clone();
        while let Some(parent) = root.reverted_plan()? {
            root = parent;
        }
        Ok(root)
    }

    /// Opens the plan that this one reverts; `None` if it is not next to this one.
    fn reverted_plan(&self) -> Result<Option<Self>, FileError> {
        // The plan of a table may have such a name, too.
        if !self.header().is_revert() {
            return Ok(None);
        }
        let place = self.place();
        let Some((name, _)) = place.file_name().and_then(|name| reverts(Path::new(name))) else { return Ok(None) };
        match Self::open(&place.with_file_name(name)) {
            Ok(plan) => Ok(Some(plan).filter(|plan| self.is_revert_of(plan))),
            Err(error) if matches!(error.kind(), FileErrorKind::Missing) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the reverts of this plan, in the order in which they were created.
    ///
    /// # Errors
    /// Returns [`FileError`] if this file or its folder cannot be read, or if a file that has the name of a revert
    /// cannot be read.
    pub(super) fn own_reverts(&self) -> Result<Vec<Self>, FileError> {
        let mut found = Vec::new();
        for path in self.reverts()?.into_values() {
            found.extend(self.own_revert(&path).map_err(|error| unusable(self, &path, error))?);
        }
        Ok(found)
    }

    /// Opens the revert of this plan at a path. Returns `None` if the file is part of another plan, or is missing.
    fn own_revert(&self, path: &Path) -> Result<Option<Self>, FileError> {
        match Self::open_settled(path) {
            Ok(found) => Ok(Some(found).filter(|found| found.is_revert_of(self))),
            Err(error) => match error.kind() {
                FileErrorKind::Missing => Ok(None),
                FileErrorKind::HalfWritten(_) if !is_half_made(path, &self.header().identity) => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn is_revert_of(&self, plan: &Self) -> bool {
        self.header().parent.as_ref() == Some(&plan.header().identity)
    }

    /// Returns the name that a plan, its reverts and their reverts have in common.
    pub fn origin(file: &Path) -> String {
        let mut name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        while let Some((plan, _)) = reverts(Path::new(&name)) {
            name = plan;
        }
        name
    }

    /// Returns the files that have the name of a revert of this plan, by their numbers. Someone may have moved one of
    /// them away, so this lists the folder.
    fn reverts(&self) -> Result<BTreeMap<u32, PathBuf>, FileError> {
        let ignores_case = cfg!(any(windows, target_os = "macos"));
        let folder = self.place().parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let io = |error: std::io::Error| FileError::new(self.path(), FileErrorKind::Io(error.to_string()));
        let mut found = BTreeMap::new();
        for file in fs::read_dir(folder).map_err(io)? {
            let file = file.map_err(io)?.file_name();
            let Some((_, number)) = reverts(Path::new(&file)) else { continue };
            let path = self.revert_path(number);
            let name = path.file_name().unwrap_or_default();
            if file == name || (ignores_case && file.eq_ignore_ascii_case(name)) {
                found.insert(number, path);
            }
        }
        Ok(found)
    }

    /// Returns the path next to which the reverts are.
    fn place(&self) -> &Path {
        // A link, or a relative path after the working directory changed, has another folder or name than the plan.
        let is_real =
            fs::canonicalize(self.path()).is_ok_and(|real| real == self.real_path()) && !self.path().is_symlink();
        if is_real { self.path() } else { self.real_path() }
    }

    fn revert_path(&self, number: u32) -> PathBuf {
        let path = self.place();
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

    /// Creates the plan that reverts this one, in a new file. `state` is that of this plan. The file contains the mark
    /// of this API key instead of the one of this plan.
    ///
    /// # Errors
    /// Returns [`FileError`] if one of the two files cannot be used.
    pub fn revert_as(&self, path: &Path, state: &State, key: Option<&ApiKey>) -> Result<Self, FileError> {
        let family = Family::of(self, self.root()?)?;
        let header = Header {
            identity: Header::new_identity()?,
            parent: Some(self.header().identity.clone()),
            parent_writes: Some(state.writes()),
            key: key.map_or(Ok(self.header().key), KeyMark::of)?,
            suspicions: Vec::new(),
            generation: self.header().generation.saturating_add(1),
            // Someone may have set the clock back.
            created_at_ms: now_ms().max(family.newest_ms()?.saturating_add(1)),
            ..self.header().clone()
        };
        let mut builder = Builder::create(path, &header)?;
        // A run that begins from here on finds the file, and writes nothing.
        family.refuse_if_in_use()?;
        let history = History::of(family)?;
        // Its updates clear these members too.
        let open_rows = self.open_rows(&[])?;
        let mut in_doubt = state.in_doubt(&open_rows);
        let mut reverted = BTreeSet::new();
        builder.add_cleared(state.cleared_for_revert(&open_rows));
        let mut rows = 0;
        self.revert_rows_after(&history, |row| {
            rows += 1;
            reverted.extend(in_doubt.iter().map(|at_risk| at_risk.row).filter(|number| *number == row.row));
            builder.add(row)
        })?;
        in_doubt.retain(|at_risk| reverted.contains(&at_risk.row));
        builder.add_at_risk(in_doubt);
        builder.seal(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_revert_tells_its_plan_and_its_number() {
        for (file, expected) in [
            ("a.revert.replyplan", Some(("a.replyplan", 1))),
            ("a.revert12.replyplan", Some(("a.replyplan", 12))),
            ("a.revert.revert3.replyplan", Some(("a.revert.replyplan", 3))),
            ("a.revert3.revert.replyplan", Some(("a.revert3.replyplan", 1))),
            ("a.revert", Some(("a", 1))),
            ("a.revert2", Some(("a", 2))),
            ("a.revert2.revert", Some(("a.revert", 2))),
            ("a.replyplan.revert", None),
            ("a.revert.replyplan.revert", None),
            (".replyplan.revert", Some((".replyplan", 1))),
            (".revert.replyplan", None),
            ("a.replyplan", None),
            ("a.reverted.replyplan", None),
            ("a.revert1.replyplan", None),
            ("a.revert02.replyplan", None),
            ("a.revert+2.replyplan", None),
            ("a.revert99999999999.replyplan", None),
            ("a.revert.replyplan-wal", Some(("a.replyplan-wal", 1))),
        ] {
            let expected = expected.map(|(plan, number)| (plan.to_owned(), number));
            assert_eq!(reverts(Path::new(file)), expected, "{file}");
        }
        assert_eq!(PlanFile::origin(Path::new("/x/a.revert.revert3.replyplan")), "a.replyplan");
        assert_eq!(PlanFile::origin(Path::new("a.reverted.replyplan")), "a.reverted.replyplan");
    }
}
