//! A plan, its reverts, their reverts and so on: which of these files has written a row last.

use std::cell::OnceCell;
use std::collections::HashMap;

use super::schema::{StoredEdit, StoredRow};
use super::{FileError, PlanFile, Reader, owner};
use crate::plan::Status;

/// The plan of a table and all files that come from it, each after the file that it reverts.
pub(super) struct Family {
    members: Vec<Member>,
    /// The file whose rows are to be reverted.
    plan: usize,
}

struct Member {
    file: PlanFile,
    /// The state of its writes.
    writes: String,
    /// The file that it reverts, if that has sent nothing since.
    seen: Option<usize>,
    reader: OnceCell<Reader>,
}

/// The last update of a row by one of the files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    member: usize,
    at_ms: Option<i64>,
    /// That of the row.
    pub(super) listed: u32,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// An answer says that the account got the values.
    Written,
    /// The answer still had a previous value: the service may have ignored the update.
    Ignored,
    /// No answer says whether the account got the values.
    Unknown,
}

impl Write {
    /// Returns the status of the row.
    pub(super) fn status(self) -> Status {
        if self.outcome == Outcome::Unknown { Status::Unknown } else { Status::Changed }
    }
}

/// The file that has the current values of a row.
pub(super) enum Holder {
    /// The plan itself, as far as is known.
    Plan,
    /// Another file that writes the same values as the plan. It knows what it has overwritten.
    Again(Write),
    /// A file that restores what the plan has overwritten.
    Restored,
}

impl Family {
    /// Opens the files that belong to a plan, from the plan of the table on.
    ///
    /// # Errors
    /// Returns [`FileError`] if one of the files cannot be read.
    pub(super) fn of(plan: &PlanFile, root: PlanFile) -> Result<Self, FileError> {
        let mut members = Vec::new();
        collect(root, None, &mut members)?;
        // Someone may have copied one of the files to another of these names.
        let is_plan = |member: &Member| member.file.real_path() == plan.real_path();
        if !members.iter().any(is_plan) {
            members.clear();
            collect(plan.clone(), None, &mut members)?;
        }
        let plan = members.iter().position(is_plan).unwrap_or_default();
        Ok(Self { members, plan })
    }

    /// Returns when the last file was created or the last update was sent, in milliseconds since 1970.
    ///
    /// # Errors
    /// Returns [`FileError`] if one of the files cannot be read.
    pub(super) fn newest_ms(&self) -> Result<i64, FileError> {
        self.members.iter().try_fold(0, |newest_ms: i64, Member { file, .. }| {
            Ok(newest_ms.max(file.header().created_at_ms).max(file.last_run_ms()?.unwrap_or_default()))
        })
    }

    /// Refuses to continue while a run uses one of the other files: it may write rows that were read already.
    ///
    /// # Errors
    /// Returns [`FileErrorKind::Locked`](super::FileErrorKind::Locked).
    pub(super) fn refuse_if_in_use(&self) -> Result<(), FileError> {
        self.others().filter(|other| owner::running(other.real_path()).is_some()).try_for_each(|other| {
            // A killed process stays in the file.
            other.start_run().map(drop)
        })
    }

    /// Returns the other files.
    pub(super) fn others(&self) -> impl Iterator<Item = &PlanFile> {
        let others = self.members.iter().enumerate().filter(|(member, _)| *member != self.plan);
        others.map(|(_, other)| &other.file)
    }

    /// Returns whether a file that writes what the plan writes was created, or has written, after a revert of the plan
    /// was made. That revert has not seen what the file wrote.
    ///
    /// # Errors
    /// Returns [`FileError`] if one of the files cannot be read.
    pub(super) fn is_overtaken(&self, revert: &PlanFile) -> Result<bool, FileError> {
        let made_at_ms = revert.header().created_at_ms;
        for (member, Member { file, .. }) in self.members.iter().enumerate() {
            let is_newer = file.header().created_at_ms > made_at_ms;
            let is_other = member != self.plan && self.is_like_plan(member);
            if is_other && ((is_newer && !file.counts()?.is_empty()) || file.last_run_ms()? >= Some(made_at_ms)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_like_plan(&self, member: usize) -> bool {
        let generation = |member: usize| self.members.get(member).map(|found| found.file.header().is_of_table());
        generation(member) == generation(self.plan)
    }

    /// Returns whether an update came after another one. The older file of the two may have been used again.
    fn is_after(&self, one: Write, other: Write) -> bool {
        if self.has_seen(one.member, other.member) || self.has_seen(other.member, one.member) {
            return self.has_seen(one.member, other.member);
        }
        let made = |write: Write| {
            let member = self.members.get(write.member);
            (member.map(|member| member.file.header().created_at_ms), write.member)
        };
        match one.at_ms.zip(other.at_ms) {
            Some((one_ms, other_ms)) if one_ms != other_ms => one_ms > other_ms,
            Some(_) => made(one) > made(other),
            None => made(one) < made(other),
        }
    }

    /// Returns whether a file was made when another one had sent all its updates, whatever the clock says.
    fn has_seen(&self, mut member: usize, other: usize) -> bool {
        while let Some(seen) = self.members.get(member).and_then(|member| member.seen) {
            if seen == other {
                return true;
            }
            member = seen;
        }
        false
    }

    /// Returns what a file has sent of a row.
    fn write_of(&self, member: usize, row: &StoredRow) -> Result<Option<Write>, FileError> {
        let Some(Member { file, .. }) = self.members.get(member) else { return Ok(None) };
        let was_ignored = || Ok::<_, FileError>(self.edits(member, row)?.iter().any(StoredEdit::was_ignored));
        let outcome = match file.status(&row.status)? {
            Status::Unknown => Outcome::Unknown,
            Status::Changed if row.stored_otherwise && was_ignored()? => Outcome::Ignored,
            Status::Changed => Outcome::Written,
            _ => return Ok(None),
        };
        // Someone may have set the clock back after the file was created.
        let at_ms = row.finished_at_ms.map(|at_ms| at_ms.max(file.header().created_at_ms));
        Ok(Some(Write { member, at_ms, listed: row.listed, outcome }))
    }

    fn edits(&self, member: usize, row: &StoredRow) -> Result<Vec<StoredEdit>, FileError> {
        let Some(Member { file, reader, .. }) = self.members.get(member) else { return Ok(Vec::new()) };
        if reader.get().is_none() {
            let _ = reader.set(file.reader()?);
        }
        let number = row.row.unsigned_abs();
        reader.get().map_or_else(|| Ok(Vec::new()), |reader| file.edits_of_row(reader, number))
    }
}

fn collect(file: PlanFile, parent: Option<usize>, members: &mut Vec<Member>) -> Result<(), FileError> {
    let reverts = file.own_reverts()?;
    let writes = file.state()?.writes();
    let parent_writes = file.header().parent_writes.as_ref();
    let seen = parent.filter(|parent| members.get(*parent).map(|parent| &parent.writes) == parent_writes);
    let number = members.len();
    members.push(Member { file, writes, seen, reader: OnceCell::new() });
    reverts.into_iter().try_for_each(|revert| collect(revert, Some(number), members))
}

/// The last updates of each row by other files than the plan.
pub(super) struct History {
    family: Family,
    rows: HashMap<u64, Last>,
}

/// The last updates of a row.
#[derive(Default)]
struct Last {
    /// By a file that writes what the plan writes.
    again: Option<Write>,
    /// By a file that restores what the plan has overwritten.
    restored: Option<Write>,
}

impl History {
    /// Reads the rows of the files.
    ///
    /// # Errors
    /// Returns [`FileError`] if one of the files cannot be read.
    pub(super) fn of(family: Family) -> Result<Self, FileError> {
        let mut rows: HashMap<u64, Last> = HashMap::new();
        for (number, member) in family.members.iter().enumerate().filter(|(number, _)| *number != family.plan) {
            member.file.for_each_stored(|row| {
                let Some(write) = family.write_of(number, &row)? else { return Ok(()) };
                let last = rows.entry(row.row.unsigned_abs()).or_default();
                let last = if family.is_like_plan(number) { &mut last.again } else { &mut last.restored };
                if last.is_none_or(|last| family.is_after(write, last)) {
                    *last = Some(write);
                }
                Ok(())
            })?;
        }
        Ok(Self { family, rows })
    }

    /// Returns the file that has the current values of a row of the plan.
    ///
    /// # Errors
    /// Returns [`FileError`] if a file cannot be read.
    pub(super) fn holder(&self, row: &StoredRow) -> Result<Holder, FileError> {
        let family = &self.family;
        let (Some(last), Some(own)) = (self.rows.get(&row.row.unsigned_abs()), family.write_of(family.plan, row)?)
        else {
            return Ok(Holder::Plan);
        };
        let again = last.again.filter(|again| family.is_after(*again, own));
        let wrote_last = again.unwrap_or(own);
        let is_restored =
            |restored: Write| restored.outcome == Outcome::Written && family.is_after(restored, wrote_last);
        Ok(match again {
            _ if last.restored.is_some_and(is_restored) => Holder::Restored,
            // If the service ignored it, it has overwritten nothing.
            Some(again) if again.outcome != Outcome::Ignored => Holder::Again(again),
            _ => Holder::Plan,
        })
    }

    /// Returns what a file has of the fields of a row.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub(super) fn edits(&self, write: Write, row: &StoredRow) -> Result<Vec<StoredEdit>, FileError> {
        self.family.edits(write.member, row)
    }
}
