//! Planning and applying: the requests, the pace, and what is kept when.
//!
//! `machine` and `policy` decide and are pure. The drivers, `planning` and `applying`, send the requests, keep the
//! records and wait. A run gets a slot of the quota before it marks a row as sent, so that nothing is marked while it waits.
//! The mark is committed before the first byte leaves, and the outcome before it is counted.

mod applying;
mod control;
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

pub use self::applying::{apply, requests_to_apply};
pub use self::control::{Control, Phase, Progress};
pub use self::planning::plan;
pub use self::selection::Selection;
#[cfg(feature = "simulation")]
pub(crate) use self::sent::forget;

/// How a plan is to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApplyOptions {
    /// What to do with a field that somebody else changed between plan and apply.
    pub on_conflict: OnConflict,
    /// What to do when updates clear members that they cannot carry.
    pub on_unknown_member: OnUnknownMember,
    /// How many updates are in flight at once.
    pub concurrency: usize,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self { on_conflict: OnConflict::default(), on_unknown_member: OnUnknownMember::default(), concurrency: 8 }
    }
}

/// What to do with a field that somebody else changed between plan and apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnConflict {
    /// The row stays as it is, as a conflict.
    #[default]
    Skip,
    /// The plan's value is written. Rows that are conflicts already are written too.
    Overwrite,
}

impl OnConflict {
    /// Whether the plan's value is written over what somebody else wrote.
    pub const fn overwrites(self) -> bool {
        matches!(self, Self::Overwrite)
    }
}

/// What to do when updates clear a member of an account that they cannot carry: `stage`, or one that this version does not
/// know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnUnknownMember {
    /// The run stops at the first such row. A later run stops before it writes an account that has the member.
    #[default]
    Stop,
    /// The run continues, and says in each such row which members were cleared.
    Clear,
}

/// Why a run ended before its end.
#[derive(Debug)]
pub enum RunError {
    /// The service refused the key, or was out of reach too long. No row was lost.
    Call(Error),
    /// The quota's [`Acquire`](crate::Acquire) failed. No row was lost.
    Acquire(Failure),
    /// The plan file cannot be used.
    File(FileError),
    /// Updates clear members that they cannot carry: `stage`, or those that this version does not know. The other rows stay
    /// as they are.
    ClearedMembers {
        /// The row's number in the table.
        row: u64,
        /// The account.
        id: i64,
        /// The members, by their names on the wire.
        members: Vec<String>,
        /// Whether the update was sent, or an earlier one of the plan had shown what it would do.
        is_written: bool,
    },
    /// An update may have cleared such members, and no answer tells. No other account was written that has one of them.
    InDoubt {
        /// The row's number in the table.
        row: u64,
        /// The members, by their names on the wire.
        members: Vec<String>,
    },
    /// The list shows fields of an account that `GET` does not, so that an update built on either may clear them. Every row
    /// stays as it is.
    Contradiction {
        /// The row's number in the table.
        row: u64,
        /// The account.
        id: i64,
        /// The fields.
        fields: Vec<&'static str>,
    },
    /// The run would change more accounts than it may. Nothing was sent.
    TooManyChanges {
        /// How many it would change.
        changes: u64,
        /// How many it may change.
        most: u64,
    },
    /// The run would empty more fields than it may. Nothing was sent.
    TooManyCleared {
        /// How many it would empty.
        cleared: u64,
        /// How many it may empty.
        most: u64,
    },
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
                    "the run has stopped before its next request: {failure}: {reason}. No row was lost: apply() resumes a \
                     plan where it stopped, and a plan that was not finished has to be made again"
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
                        "the update of account {id} (row {row}) would clear {members}, as an earlier update of this plan \
                         did, so nothing was written to it"
                    )?;
                }
                write!(
                    formatter,
                    ": an update cannot carry that. The run has stopped, and the other rows are as they were. A newer \
                     version of replyio may be able to send it; on_unknown_member=\"clear\" lets the plan clear it in \
                     every account that it writes"
                )
            }
            Self::InDoubt { row, members } => write!(
                formatter,
                "the update of row {row} may have cleared {}, which an update cannot carry, and no answer tells. The run has \
                 stopped before it wrote another account that has it. apply() looks at the account of row {row} first, and \
                 resumes where the run stopped",
                members.join(", ")
            ),
            Self::Contradiction { row, id, fields } => write!(
                formatter,
                "the list shows {} of account {id} (row {row}), and GET of the account does not: an update built on either \
                 answer may clear a value, so nothing was written. If somebody has just cleared it, apply() again",
                fields.join(", ")
            ),
            Self::TooManyChanges { changes, most } => write!(
                formatter,
                "nothing was sent: this run would change {changes} account{}, and max_changes={most} allows {most}; review \
                 the plan, then apply it with a higher number, or apply a part of it with rows= or limit=",
                if *changes == 1 { "" } else { "s" }
            ),
            Self::TooManyCleared { cleared, most } => write!(
                formatter,
                "nothing was sent: this run would empty {cleared} field{}, and max_cleared={most} allows {most}; review \
                 the plan, then apply it with a higher number, or apply a part of it with rows=",
                if *cleared == 1 { "" } else { "s" }
            ),
        }
    }
}

impl std::error::Error for RunError {}
