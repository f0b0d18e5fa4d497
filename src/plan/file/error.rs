//! Why a plan file cannot be used, in one line that says what to do.

use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// A plan file cannot be used as asked. Nothing is lost that the file had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    path: PathBuf,
    kind: FileErrorKind,
}

/// What is wrong with a plan file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileErrorKind {
    /// There is no such file.
    Missing,
    /// There is one already.
    Exists,
    /// There is none, but what SQLite keeps beside one: by its name, without the folder.
    StrayLog(String),
    /// It is something else.
    NotAPlan,
    /// It was made by a newer version.
    Newer,
    /// Planning was interrupted.
    HalfWritten,
    /// It is not as it was written.
    Damaged(String),
    /// Another run has it; says which, in a phrase that follows "the plan".
    Locked(String),
    /// It was made by an older version, whose format is not read any more.
    Older,
    /// What was done is in a log that is not beside it.
    NeedsLog,
    /// The log beside it is that of another plan, of another copy, or of another time.
    ForeignLog,
    /// What has the name of its log is a link, a FIFO, a folder or a device: by its name, without the folder.
    NotALog(String),
    /// It was moved, removed, replaced or taken over by another run while a run had it.
    Lost(String),
    /// It has more than one name (hard links), and this is not the one that it was made under.
    Linked {
        /// How many names.
        links: u64,
        /// The one that it was made under, without its folder.
        name: String,
    },
    /// It was made for another address, user or team, or is not the revert that it was taken for.
    Foreign(String),
    /// Whoever waited wants to stop.
    Interrupted,
    /// The disk is full.
    Full,
    /// The disk, or the folder, refuses.
    Io(String),
    /// This process was forked while a plan was open.
    Forked,
    /// A fault of this crate.
    Internal(String),
}

impl FileError {
    pub(super) fn new(path: &Path, kind: FileErrorKind) -> Self {
        Self { path: path.to_owned(), kind }
    }

    /// The same, under the name that the user knows.
    pub(super) fn at(self, path: &Path) -> Self {
        Self::new(path, self.kind)
    }

    /// A fault of this crate.
    pub(crate) fn internal(what: &str) -> Self {
        Self { path: PathBuf::new(), kind: FileErrorKind::Internal(what.to_owned()) }
    }

    /// Which file it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong.
    pub fn kind(&self) -> &FileErrorKind {
        &self.kind
    }

    /// What SQLite refused.
    pub(super) fn of_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => FileErrorKind::Full,
            Some(ErrorCode::NotADatabase) => FileErrorKind::NotAPlan,
            Some(ErrorCode::DatabaseCorrupt) => FileErrorKind::Damaged("SQLite cannot read it".to_owned()),
            Some(ErrorCode::OperationInterrupted) => FileErrorKind::Interrupted,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                FileErrorKind::Locked("is in use by another program; wait until that program lets go of it".to_owned())
            }
            Some(_) => FileErrorKind::Io(error.to_string()),
            // A value is not of the type that was written.
            None => FileErrorKind::Damaged("a value is not what was written".to_owned()),
        };
        Self::new(path, kind)
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let FileErrorKind::Internal(what) = &self.kind {
            return write!(formatter, "a fault of replyio itself ({what}); please report it");
        }
        write!(formatter, "plan file {}: ", self.path.display())?;
        match &self.kind {
            FileErrorKind::Missing => formatter.write_str("there is no such file"),
            FileErrorKind::Exists => {
                formatter.write_str(
                "exists already; resume it with open_plan() or if_exists=\"resume\", or give save_as= another name",
            )
            }
            FileErrorKind::StrayLog(name) => write!(
                formatter,
                "cannot be made here: {name} belongs to a plan that was here before, and may hold what was done of it; \
                 move it to where that plan is, or remove it, then plan again"
            ),
            FileErrorKind::NotAPlan => formatter.write_str("is not a plan file"),
            FileErrorKind::Newer => formatter.write_str("was made by a newer replyio; update the package"),
            FileErrorKind::HalfWritten => {
                formatter.write_str("planning was interrupted, so rows are missing; remove it and plan again")
            }
            FileErrorKind::Damaged(what) => {
                write!(formatter, "is damaged ({what}); take a copy from before, or plan again")
            }
            FileErrorKind::Locked(what) | FileErrorKind::Foreign(what) | FileErrorKind::Lost(what) => {
                formatter.write_str(what)
            }
            FileErrorKind::Older => {
                formatter.write_str("was made by an older replyio, whose plans this version cannot read; plan again")
            }
            FileErrorKind::NeedsLog => {
                let name = self.path.file_name().unwrap_or_default().to_string_lossy();
                write!(
                    formatter,
                    "a run was interrupted, and its progress is in {name}-wal, which is not here or not readable; copy \
                     both files here, or open it with recover=True, which treats every row that may have been sent as \
                     unknown"
                )
            }
            FileErrorKind::ForeignLog => {
                let name = self.path.file_name().unwrap_or_default().to_string_lossy();
                write!(
                    formatter,
                    "{name}-wal beside it is not the log of this file, but of another plan or another copy of this \
                     plan; nothing was read from it; move {name}-wal away, then open the plan again"
                )
            }
            FileErrorKind::NotALog(name) => write!(
                formatter,
                "{name} beside it is no regular file; nothing was read from it; move {name} away, then open the plan again"
            ),
            FileErrorKind::Linked { links, name } => write!(
                formatter,
                "has {links} names (hard links), and only the one that it was made under, {name}, may be applied; \
                 open that one, or remove the other names, or copy the file and apply the copy"
            ),
            FileErrorKind::Interrupted => formatter.write_str("reading it was interrupted; nothing was changed"),
            FileErrorKind::Full => formatter.write_str(
                "the disk is full; nothing was sent that is not written down; make room, then apply() goes on",
            ),
            FileErrorKind::Io(what) => write!(
                formatter,
                "cannot be written or read ({what}); nothing was sent that is not written down; apply() goes on later"
            ),
            FileErrorKind::Forked => formatter
                .write_str("cannot be used in a process that was forked while a plan was open; use the one it was opened in, or start a process with spawn"),
            FileErrorKind::Internal(_) => Ok(()),
        }
    }
}

impl std::error::Error for FileError {}
