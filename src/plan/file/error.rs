//! Errors of plan files, in one line that says what to do.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

use crate::error::internal_error;
use crate::exhaustion::is_exhaustion;
use crate::private_file;

/// A plan file cannot be used as requested. The file loses no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    path: PathBuf,
    kind: FileErrorKind,
}

/// What a half-written file should have become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Half {
    /// A plan.
    Plan,
    /// A plan that replaces another one, which is now at this path.
    Replacement(PathBuf),
    /// A revert of a plan.
    Revert,
}

impl fmt::Display for Half {
    /// Says what to do.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan => formatter.write_str("delete it and plan again; if_exists=\"resume\" does both"),
            Self::Replacement(replaced) => write!(
                formatter,
                "delete it and plan again. The plan that it should have replaced is now {}; to restore that plan, \
                rename it",
                replaced.display()
            ),
            Self::Revert => formatter.write_str("it is a revert; revert its plan again, which replaces this file"),
        }
    }
}

const READ_ONLY: &str = "cannot be used here: the file, its folder or its log (-wal, -shm) is read-only or belongs to \
    another user; make all of them writable, or copy the file, its -wal if there is one, and its reverts to another \
    folder";
const NAME_TOO_LONG: &str = "the name is too long for this file system: the log and the reverts of a plan have its \
    name and up to 65 more characters; choose a shorter name for the plan";
const EXHAUSTED: &str = "cannot be opened, because this process has no file descriptor left; close files and \
    connections, or raise the limit of this process (ulimit -n)";

const FORKED: &str = "cannot be used in a process that was forked while a plan was open; use the process that opened \
    it, or start processes with the spawn method";
const UNREADABLE: &str = "The run sent nothing, because it could write again what this revert has restored. If no \
    other process is writing the file of the revert, move it away; then revert() reverts the plan again, and apply() \
    continues it";

/// The kinds of problems with a plan file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileErrorKind {
    /// The file does not exist.
    Missing,
    /// The plan already exists.
    Exists,
    /// Something else than a plan has the name.
    Occupied,
    /// The file system does not allow so long a name, or not for the files that belong to the plan.
    NameTooLong,
    /// The path of a new file is a symbolic link to a file that does not exist.
    Dangling,
    /// The file does not exist, but a file that SQLite keeps next to it does: its name without the folder.
    StrayLog(String),
    /// The file is not a plan.
    NotAPlan,
    /// A newer version created the file.
    Newer,
    /// Planning was interrupted.
    HalfWritten(Half),
    /// The content differs from what was written.
    Damaged(String),
    /// Another run uses the file: a phrase that follows "the plan".
    Locked(String),
    /// An older version created the file, in a format that this version does not read.
    Older,
    /// The progress is in a log that is missing: the path of the log.
    NeedsLog(String),
    /// The progress is in a log next to another name of the file: a phrase that follows "a run was interrupted, and its
    /// progress".
    LogElsewhere(String),
    /// The log next to the file belongs to another plan, another copy or another time.
    ForeignLog,
    /// Something else has the name of a file that SQLite keeps next to the plan, such as a link or a text: its name
    /// without the folder.
    NotALog(String),
    /// The file was moved, deleted, replaced or taken over by another run during a run.
    Lost(String),
    /// The file has more than one name (hard links), and this is not its original name.
    Linked {
        /// The number of names.
        links: u64,
        /// The original name, without its folder.
        name: String,
    },
    /// The plan belongs to another base URL, user or team, or is not the expected revert.
    Foreign(String),
    /// The run would write again what a revert restores.
    Reverted {
        /// The path of the revert.
        revert: PathBuf,
        /// The path of a revert of it that is not complete.
        incomplete: Option<PathBuf>,
    },
    /// The plan is a revert, and a newer revert has written the opposite.
    Overtaken {
        /// The path of the newer revert.
        by: PathBuf,
    },
    /// A file has the name of a revert of the plan, and cannot be read: its error.
    UnreadableRevert(String),
    /// The plan may not be replaced, because this many of its rows were written, and only it can revert them.
    Written(u64),
    /// The caller wants to stop.
    Interrupted,
    /// The disk is full.
    Full,
    /// The file, its folder, its log or its disk is read-only, or belongs to another user.
    ReadOnly,
    /// The process has no file descriptor left.
    Exhausted,
    /// The disk or the folder reports an error.
    Io(String),
    /// This process was forked while a plan was open.
    Forked,
    /// An internal error of this crate.
    Internal(String),
}

impl FileErrorKind {
    pub(super) fn of_io(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::InvalidFilename { Self::NameTooLong } else { Self::Io(error.to_string()) }
    }
}

impl FileError {
    pub(super) fn new(path: &Path, kind: FileErrorKind) -> Self {
        Self { path: path.to_owned(), kind }
    }

    /// Returns the same error with the path that the user knows.
    pub(super) fn at(self, path: &Path) -> Self {
        Self::new(path, self.kind)
    }

    /// Returns an internal error of this crate.
    pub(crate) fn internal(what: &str) -> Self {
        Self { path: PathBuf::new(), kind: FileErrorKind::Internal(what.to_owned()) }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the kind of the problem.
    pub fn kind(&self) -> &FileErrorKind {
        &self.kind
    }

    /// Converts an error of SQLite.
    pub(super) fn of_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            // SQLite cannot enlarge the file with the index of the log.
            _ if error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE) => {
                FileErrorKind::Full
            }
            Some(ErrorCode::ReadOnly) => FileErrorKind::ReadOnly,
            Some(ErrorCode::DiskFull) => FileErrorKind::Full,
            Some(ErrorCode::NotADatabase) => FileErrorKind::NotAPlan,
            Some(ErrorCode::DatabaseCorrupt) => FileErrorKind::Damaged("SQLite cannot read it".to_owned()),
            Some(ErrorCode::OperationInterrupted) => FileErrorKind::Interrupted,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                FileErrorKind::Locked("is in use by another program; wait until that program closes it".to_owned())
            }
            // SQLite does not say why.
            Some(ErrorCode::CannotOpen) if has_no_descriptor(path) => FileErrorKind::Exhausted,
            Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) if lacks_rights(path) => FileErrorKind::ReadOnly,
            Some(_) => FileErrorKind::Io(error.to_string()),
            // A value has another type than the one written.
            None => FileErrorKind::Damaged("a value differs from what replyio wrote".to_owned()),
        };
        Self::new(path, kind)
    }
}

/// Returns what a run says of a plan that was reverted.
fn reverted(revert: &Path, incomplete: Option<&Path>) -> String {
    let again = incomplete.map_or_else(String::new, |incomplete| {
        format!(
            " again, because {} has rows that are pending, unknown, failed or a conflict (on_conflict=\"overwrite\" \
            overwrites conflicts)",
            incomplete.display()
        )
    });
    format!(
        "was reverted by {}, or is being reverted. Nothing was sent, because this run would overwrite what the revert \
        restores. To continue this plan, revert that revert{again}, then use apply(); to write the table again, plan \
        it with another save_as=; to send single rows, name them with rows=",
        revert.display()
    )
}

fn overtaken(by: &Path) -> String {
    format!(
        "is older than {0}, which may have written the opposite to the same accounts since. Nothing was sent, because \
        this run would overwrite that. To continue this plan, revert {0}, then use apply(); to send single rows, name \
        them with rows=",
        by.display()
    )
}

/// Returns whether this process can open no file. It opens the folder: to close the plan itself would drop SQLite's
/// locks.
fn has_no_descriptor(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder).is_err_and(|error| is_exhaustion(&error))
}

/// Returns whether this process may not write a plan, its folder, or a file that SQLite keeps next to it.
fn lacks_rights(path: &Path) -> bool {
    // A link has another folder.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let beside = ["", "-wal", "-shm"].map(|suffix| {
        let mut beside = real.as_os_str().to_owned();
        beside.push(suffix);
        PathBuf::from(beside)
    });
    let folder = real.parent().map(Path::to_owned);
    beside.into_iter().chain(folder).any(|path| private_file::is_forbidden(&path))
}

impl fmt::Display for FileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let FileErrorKind::Internal(what) = &self.kind {
            return formatter.write_str(&internal_error(what));
        }
        write!(formatter, "plan file {}: ", self.path.display())?;
        match &self.kind {
            FileErrorKind::Missing => formatter.write_str("there is no such file"),
            FileErrorKind::Exists => formatter.write_str(
                "already exists; resume it with open_plan() or if_exists=\"resume\", or choose another name with \
                save_as=",
            ),
            FileErrorKind::Occupied => {
                formatter.write_str("already exists and is not a plan; choose another name with save_as=")
            }
            FileErrorKind::NameTooLong => formatter.write_str(NAME_TOO_LONG),
            FileErrorKind::Dangling => formatter.write_str(
                "is a symbolic link to a file that does not exist; delete the link, or choose another name with \
                save_as=",
            ),
            FileErrorKind::StrayLog(name) => write!(
                formatter,
                "cannot be created here: {name} belongs to an earlier plan in this place and may contain its \
                progress; if that plan was moved or renamed, move {name} next to that plan, with the name of that plan \
                in front of -wal; if you no longer need that plan, delete {name}; then plan again"
            ),
            FileErrorKind::NotAPlan => formatter.write_str("is not a plan file"),
            FileErrorKind::Newer => {
                formatter.write_str("was created by a newer version of replyio; upgrade the package")
            }
            FileErrorKind::HalfWritten(half) => {
                write!(formatter, "is incomplete because planning was interrupted; {half}")
            }
            FileErrorKind::Damaged(what) => {
                write!(formatter, "is damaged ({what}); restore a backup, or move it away and plan again")
            }
            FileErrorKind::Locked(what) | FileErrorKind::Foreign(what) | FileErrorKind::Lost(what) => {
                formatter.write_str(what)
            }
            FileErrorKind::Older => formatter.write_str(
                "was created by an older version of replyio, whose plans this version cannot read; plan again with \
                another save_as=. Keep this file: only that version can show its changes and revert them",
            ),
            FileErrorKind::NeedsLog(log) => write!(
                formatter,
                "a run was interrupted, and its progress is in {log}, which is missing or not readable; copy both \
                files here, or open this file with recover=True, which treats every row that may have been sent as \
                unknown"
            ),
            FileErrorKind::LogElsewhere(place) => {
                write!(formatter, "a run was interrupted, and its progress {place}")
            }
            FileErrorKind::ForeignLog => {
                let name = self.path.file_name().unwrap_or_default().to_string_lossy();
                write!(
                    formatter,
                    "{name}-wal next to it is the log of another plan or of another copy of this plan; replyio read \
                    nothing from it; move {name}-wal away, then open the plan again"
                )
            }
            FileErrorKind::NotALog(name) => write!(
                formatter,
                "{name} next to it is not the file that SQLite keeps under this name; replyio read nothing from it; \
                move {name} away, then try again"
            ),
            FileErrorKind::Linked { links, name } => write!(
                formatter,
                "has {links} names (hard links), and replyio applies it only under its original name, {name}; open \
                that one, or delete the other names"
            ),
            FileErrorKind::Reverted { revert, incomplete } => {
                formatter.write_str(&reverted(revert, incomplete.as_deref()))
            }
            FileErrorKind::Overtaken { by } => formatter.write_str(&overtaken(by)),
            FileErrorKind::UnreadableRevert(error) => {
                write!(formatter, "may have been reverted: {error}. {UNREADABLE}")
            }
            FileErrorKind::Written(rows) => write!(
                formatter,
                "cannot be replaced: it may have written {rows} row{}, and only this file can revert {}; choose \
                another name with save_as=, or move this file and its reverts away, then plan again",
                if *rows == 1 { "" } else { "s" },
                if *rows == 1 { "it" } else { "them" },
            ),
            FileErrorKind::Interrupted => formatter.write_str("reading it was interrupted; nothing was changed"),
            FileErrorKind::Full => formatter.write_str(
                "the disk is full; free some space, then repeat the call. The file has a record of every update \
                that was sent",
            ),
            FileErrorKind::ReadOnly => formatter.write_str(READ_ONLY),
            FileErrorKind::Exhausted => formatter.write_str(EXHAUSTED),
            FileErrorKind::Io(what) => write!(
                formatter,
                "cannot be written or read ({what}); check the folder and the disk, then repeat the call. The file \
                has a record of every update that was sent"
            ),
            FileErrorKind::Forked => formatter.write_str(FORKED),
            FileErrorKind::Internal(_) => Ok(()),
        }
    }
}

impl std::error::Error for FileError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_read_only_file_are_named() {
        let of = |code| {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            FileError::of_sqlite(Path::new("a.replyplan"), &error).kind().clone()
        };
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_SHMSIZE] {
            assert_eq!(of(code), FileErrorKind::Full, "{code}");
        }
        for code in [ffi::SQLITE_READONLY, ffi::SQLITE_READONLY_DIRECTORY] {
            assert_eq!(of(code), FileErrorKind::ReadOnly, "{code}");
        }
        assert!(matches!(of(ffi::SQLITE_IOERR_READ), FileErrorKind::Io(_)));
    }
}
