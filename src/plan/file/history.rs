//! A plan, its reverts, their reverts and so on: which of these files has written a row last.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::schema::{StoredEdit, StoredRow};
use super::{FileError, PlanFile, Reader, owner};
use crate::plan::Status;

/// The plan of a table and all files that come from it, in the order in which they were created.
pub(super) struct Family {
    members: Vec<Member>,
    /// The file whose rows are to be reverted.
    plan: usize,
}

struct Member {
    file: PlanFile,
    /// The state of its writes.
    writes: String,
    reader: OnceCell<Reader>,
}

/// An update of a row that a file has sent.
#[derive(Debug, Clone, Copy)]
struct Write {
    member: usize,
    at_ms: Option<i64>,
    /// That of the row.
    listed: u32,
    /// Whether an answer says that the account got the values.
    is_certain: bool,
}

/// The file that has the current values of a row.
pub(super) enum Holder {
    /// The plan itself, as far as is known.
    Plan,
    /// Another file that writes the same values as the plan: its number, and `listed` of its row.
    Again(usize, u32),
    /// A file that restores what the plan has overwritten.
    Restored,
}

impl Family {
    /// Opens the files that belong to a plan.
    ///
    /// # Errors
    /// Returns [`FileError`] if one of the files cannot be read.
    pub(super) fn of(plan: &PlanFile) -> Result<Self, FileError> {
        let root = plan.ancestors().pop().unwrap_or_else(|| plan.clone());
        let mut members = Vec::new();
        collect(root, &mut members)?;
        members.sort_by_key(|member| member.file.header().created_at_ms);
        let identity = &plan.header().identity;
        let plan = members.iter().position(|member| member.file.header().identity == *identity).unwrap_or_default();
        Ok(Self { members, plan })
    }

    /// Returns when the newest file was created, in milliseconds since 1970.
    pub(super) fn newest_ms(&self) -> i64 {
        self.members.iter().map(|member| member.file.header().created_at_ms).max().unwrap_or_default()
    }

    /// Refuses to continue while a run uses one of the other files: it may write rows that were read already.
    ///
    /// # Errors
    /// Returns [`FileErrorKind::Locked`](super::FileErrorKind::Locked).
    pub(super) fn refuse_if_in_use(&self) -> Result<(), FileError> {
        let others = self.members.iter().enumerate().filter(|(member, _)| *member != self.plan);
        others.filter(|(_, other)| owner::running(other.file.real_path()).is_some()).try_for_each(|(_, other)| {
            // A killed process stays in the file.
            other.file.start_run().map(drop)
        })
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
            if is_other && ((is_newer && !file.counts()?.is_empty()) || file.has_written_since(made_at_ms)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_like_plan(&self, member: usize) -> bool {
        let generation = |member: usize| self.members.get(member).map(|found| found.file.header().is_of_table());
        generation(member) == generation(self.plan)
    }

    /// Returns whether an update of a newer file came after one of an older file, which may have been used again.
    fn follows(&self, newer: Write, older: Write) -> bool {
        let member = |write: Write| self.members.get(write.member);
        let has_seen_all = member(newer).zip(member(older)).is_some_and(|(newer, older)| {
            let header = newer.file.header();
            header.parent.as_ref() == Some(&older.file.header().identity)
                && header.parent_writes.as_ref() == Some(&older.writes)
        });
        has_seen_all || older.at_ms.zip(newer.at_ms).is_some_and(|(older, newer)| older <= newer)
    }

    /// Returns what a file has sent of a row.
    fn write_of(&self, member: usize, row: &StoredRow) -> Result<Option<Write>, FileError> {
        let Some(Member { file, .. }) = self.members.get(member) else { return Ok(None) };
        let is_certain = match file.status(&row.status)? {
            Status::Unknown => false,
            Status::Changed => !row.stored_otherwise || !self.edits(member, row)?.iter().any(StoredEdit::was_ignored),
            _ => return Ok(None),
        };
        Ok(Some(Write { member, at_ms: row.finished_at_ms, listed: row.listed, is_certain }))
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

fn collect(file: PlanFile, members: &mut Vec<Member>) -> Result<(), FileError> {
    let reverts = file.own_reverts()?;
    let writes = file.state()?.writes();
    members.push(Member { file, writes, reader: OnceCell::new() });
    reverts.into_iter().try_for_each(|revert| collect(revert, members))
}

/// The last update of each row by a file other than the plan.
pub(super) struct History {
    family: Family,
    rows: HashMap<u64, Write>,
}

impl History {
    /// Reads the rows of the files.
    ///
    /// # Errors
    /// Returns [`FileError`] if one of the files cannot be read.
    pub(super) fn of(family: Family) -> Result<Self, FileError> {
        let mut rows = HashMap::new();
        for (number, member) in family.members.iter().enumerate().filter(|(number, _)| *number != family.plan) {
            member.file.for_each_stored(|row| {
                let Some(write) = family.write_of(number, &row)? else { return Ok(()) };
                match rows.entry(row.row.unsigned_abs()) {
                    Entry::Vacant(entry) => drop(entry.insert(write)),
                    Entry::Occupied(mut entry) if family.follows(write, *entry.get()) => drop(entry.insert(write)),
                    Entry::Occupied(_) => {}
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
        let (Some(last), Some(own)) =
            (self.rows.get(&row.row.unsigned_abs()).copied(), family.write_of(family.plan, row)?)
        else {
            return Ok(Holder::Plan);
        };
        let is_last = if last.member > own.member { family.follows(last, own) } else { !family.follows(own, last) };
        Ok(match last {
            _ if !is_last || !last.is_certain => Holder::Plan,
            Write { member, listed, .. } if family.is_like_plan(member) => Holder::Again(member, listed),
            _ => Holder::Restored,
        })
    }

    /// Returns what a file has of the fields of a row.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub(super) fn edits(&self, member: usize, row: &StoredRow) -> Result<Vec<StoredEdit>, FileError> {
        self.family.edits(member, row)
    }
}
