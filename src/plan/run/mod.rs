//! Planning and applying: the requests, their pace, and the order of writes to the file.
//!
//! `machine` and `policy` decide and are pure. The drivers, `planning` and `applying`, send the requests, store the
//! records and wait. A run gets a slot of the quota before it marks a row as sent, so that no row is marked during a
//! wait. The mark is committed before the first byte of the update is sent, and the outcome before it is counted.

mod applying;
mod control;
mod effects;
mod looks;
mod machine;
mod members;
mod planning;
mod policy;
mod proof;
mod record;
mod request;
mod selection;
mod sent;

use super::file::FileError;
use crate::error::{Error, Failure};
use crate::plan::Status;

pub use self::applying::{apply, requests_to_apply, rows_on_a_look};
pub use self::control::{Control, Phase, Progress};
pub use self::planning::plan;
pub use self::selection::Selection;
#[cfg(feature = "simulation")]
pub(crate) use self::sent::forget;

/// How to apply a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApplyOptions {
    /// What to do with a field that someone else changed between plan and apply.
    pub on_conflict: OnConflict,
    /// What to do if updates clear members that they cannot include.
    pub on_unknown_member: OnUnknownMember,
    /// Whether the run includes failed rows and conflicts. Each keeps its status until the run ends it again.
    pub retry_failed: bool,
    /// The most updates in flight.
    pub concurrency: usize,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        let (on_conflict, on_unknown_member) = (OnConflict::default(), OnUnknownMember::default());
        // Within the quota two would be enough; without one, sixteen would be 50 % faster. But all rows in flight are
        // unknown after a crash, and eight are enough for thousands of rows per second.
        Self { on_conflict, on_unknown_member, retry_failed: false, concurrency: 8 }
    }
}

impl ApplyOptions {
    /// Returns the statuses of the rows that the run includes besides pending and unknown ones.
    fn also(self) -> Vec<Status> {
        match (self.retry_failed, self.on_conflict) {
            (true, _) => vec![Status::Failed, Status::Conflict],
            (false, OnConflict::Overwrite) => vec![Status::Conflict],
            (false, OnConflict::Skip) => Vec::new(),
        }
    }
}

/// What to do with a field that someone else changed between plan and apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnConflict {
    /// Leaves the account unchanged and marks the row as a conflict.
    #[default]
    Skip,
    /// Sends the plan's value, also for rows that are already conflicts.
    Overwrite,
}

/// What to do if updates clear a member of an account that they cannot include: `stage`, or a member that this version
/// does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnUnknownMember {
    /// Stops the run at the first such row. A later run stops before it updates an account that has the member.
    #[default]
    Stop,
    /// Continues, and reports in each such row which members were cleared.
    Clear,
}

/// Why a run ended early.
#[derive(Debug)]
pub enum RunError {
    /// The service refused the key, or was unavailable for too long. Every row stays as it is.
    Call(Error),
    /// The quota's [`Acquire`](crate::Acquire) failed. No row was lost.
    Acquire(Failure),
    /// The plan file cannot be used.
    File(FileError),
    /// Updates clear members that they cannot include: `stage`, or members that this version does not know. The other
    /// rows stay as they are.
    ClearedMembers {
        /// The row's number in the table.
        row: u64,
        /// The account.
        id: i64,
        /// The members, by their JSON names.
        members: Vec<String>,
        /// Whether the update was sent. Otherwise an earlier update of the plan showed what it would do.
        is_written: bool,
    },
    /// An account has another stage or owner after its update, or two accounts have the same value in another such
    /// member: updates reset it, or someone changed it. The other rows stay as they are.
    ResetMembers {
        /// The row's number in the table.
        row: u64,
        /// The account.
        id: i64,
        /// The members, by their JSON names.
        members: Vec<String>,
    },
    /// An update emptied fields that should have a value. The other rows stay as they are.
    EmptiedFields {
        /// The row's number in the table.
        row: u64,
        /// The account.
        id: i64,
        /// The fields.
        fields: Vec<&'static str>,
    },
    /// An update may have cleared such members, and no answer confirmed it. The run updated no other account that has
    /// one of them.
    InDoubt {
        /// The row's number in the table.
        row: u64,
        /// The members, by their JSON names.
        members: Vec<String>,
    },
    /// The list shows fields of an account that `GET` does not, so an update built on either may clear them. Every row
    /// stays as it is.
    Contradiction {
        /// The row's number in the table.
        row: u64,
        /// The account.
        id: i64,
        /// The fields.
        fields: Vec<&'static str>,
    },
    /// The run had its requests so far apart that no update could be sent while the read of its account was fresh.
    TooSlow,
    /// The run would change more accounts than it may. Nothing was sent.
    TooManyChanges {
        /// The number of accounts that it would change.
        changes: u64,
        /// The limit.
        most: u64,
    },
    /// The run would empty more fields than it may. Nothing was sent.
    TooManyCleared {
        /// The number of fields that it would empty.
        cleared: u64,
        /// The limit.
        most: u64,
    },
}

impl RunError {
    /// Returns the row at which each later run stops too if it includes the row. A run without it may write the others.
    pub(crate) const fn obstacle(&self) -> Option<u64> {
        match self {
            Self::ClearedMembers { row, is_written: false, .. } | Self::Contradiction { row, .. } => Some(*row),
            // The next run continues after a row that was written, and reads the account of a row in doubt first.
            _ => None,
        }
    }
}

impl From<FileError> for RunError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl std::fmt::Display for RunError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Call(error) => error.fmt(formatter),
            Self::Acquire(failure) => {
                let reason = if let Failure::Acquire { reason, .. } = failure { reason } else { "" };
                write!(
                    formatter,
                    "the run stopped before its next request: {failure}: {reason}. No row was lost: repeat the \
                     run to resume where it stopped. If planning was not finished, make the plan again"
                )
            }
            Self::File(error) => error.fmt(formatter),
            Self::ClearedMembers { row, id, members, is_written } => {
                let members = members.join(", ");
                if *is_written {
                    write!(formatter, "the update of account {id} (row {row}) cleared {members}")?;
                } else {
                    write!(
                        formatter,
                        "the run did not send the update of account {id} (row {row}), because it would clear \
                        {members}, as an earlier update of this plan did"
                    )?;
                }
                write!(
                    formatter,
                    ": an update cannot include stage or members that this version does not know. The run stopped and \
                    left the other rows as they were. "
                )?;
                if *is_written {
                    write!(formatter, "Repeat the run to update the accounts that do not have {members}. ")?;
                }
                formatter.write_str(
                    "A newer version of replyio may support an unknown member; on_unknown_member=\"clear\" lets the \
                    plan clear them in every account that it updates",
                )
            }
            Self::ResetMembers { row, id, members } => write!(
                formatter,
                "account {id} (row {row}) has another {} after its update: the update reset it, or someone changed it \
                meanwhile. The run stopped and left the other rows as they were. Look at the account. Repeat the \
                run to resume with the next row. If it stops again for the same reason, the service resets this value. \
                on_unknown_member=\"clear\" lets the run continue when this happens",
                members.join(", ")
            ),
            Self::EmptiedFields { row, id, fields } => {
                let fields = fields.join(", ");
                write!(
                    formatter,
                    "the update of account {id} (row {row}) emptied {fields}: the service did not keep what replyio \
                    sent. The run stopped and left the other rows as they were. \
                    Look at the account. Repeat the run to resume with the next row; on_unknown_member=\"clear\" lets \
                    the run continue when this happens. A revert sends the previous value again, and ends the plan"
                )
            }
            Self::InDoubt { row, members } => write!(
                formatter,
                "the update of row {row} may have cleared {}, which an update cannot include, and no answer showed \
                whether it did. The run stopped before it updated another account with such a member. Repeat the run, \
                and include row {row}: the run then reads the account of that row first. If it cannot read that \
                account, it sends a single update, and continues only if the answer still has the member",
                members.join(", ")
            ),
            Self::Contradiction { row, id, fields } => write!(
                formatter,
                "the list shows {} of account {id} (row {row}), but GET of the account does not: an update built on \
                either answer may clear a value, so the run did not send it. If someone has just cleared it, repeat \
                the run. on_unknown_member=\"clear\" makes the run use the answers of GET, and clears a value that \
                only the list shows",
                fields.join(", ")
            ),
            Self::TooSlow => formatter.write_str(
                "the quota leaves so few requests that no update could follow the read of its account within two \
                minutes. The other rows stay as they are. Wait until other programs of this user have ended, raise the \
                quota, or make the acquire= function return sooner, then repeat the run",
            ),
            Self::TooManyChanges { changes, most } => write!(
                formatter,
                "nothing was sent: this run would change {changes} account{}, but max_changes={most} allows {most}; \
                review the plan, then apply it with a higher limit, or apply part of it with rows= or limit=",
                if *changes == 1 { "" } else { "s" }
            ),
            Self::TooManyCleared { cleared, most } => write!(
                formatter,
                "nothing was sent: this run would empty {cleared} field{}, but max_cleared={most} allows {most}; \
                review the plan, then apply it with a higher limit, or apply part of it with rows=",
                if *cleared == 1 { "" } else { "s" }
            ),
        }
    }
}

impl std::error::Error for RunError {}
