//! The right to write a plan's file, from its claim to its end.
//!
//! Between runs the file is complete in itself, in SQLite's rollback mode, so that it can be read, copied and moved alone.
//! A run writes to a log beside it (`-wal`). Before its first row, the file itself gets a mark that says so, and the log
//! begins with a frame that takes the mark back: whoever reads the mark lacks the log.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::check::{self, Head};
use super::error::{FileError, FileErrorKind};
use super::lock::{FileId, Lock, Refusal};
use super::presence::Presence;
use super::state::{self, Activity, Log, Owner};
use super::{connect, owner};

/// How long a claim waits for readers; whoever is second is told so within a second.
const CLAIM: Duration = Duration::from_millis(700);
/// The log is moved into the file after so many commits.
const COMMITS_IN_LOG: u32 = 4_096;

/// One run's right to write.
pub(super) struct Session {
    path: PathBuf,
    run: String,
    connection: Connection,
    file: FileId,
    commits: u32,
    /// Whether the log says that it is there.
    log_is_marked: bool,
    /// Freed when the connection is closed.
    lock: Lock,
    /// Goes last, when SQLite is not used any more.
    _presence: Presence,
}

/// Takes the lock of a plan, whose path has no links.
pub(super) fn lock(path: &Path) -> Result<Lock, FileError> {
    let until = Instant::now() + CLAIM / 4;
    loop {
        match Lock::take(path) {
            Ok(lock) => return Ok(lock),
            Err(Refusal::Io(error)) => return Err(FileError::new(path, FileErrorKind::Io(error.to_string()))),
            // It may be somebody who only looks whether there is a run, or a run that has not said yet who it is.
            Err(Refusal::Held) if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
            Err(Refusal::Held) => return Err(owner::refusal(path)),
        }
    }
}

impl Session {
    /// Claims a plan: its lock, and the claim in the file itself.
    pub(super) fn claim(path: &Path, identity: &str) -> Result<Self, FileError> {
        let refuse = |kind| FileError::new(path, kind);
        let presence = Presence::enter().ok_or_else(|| refuse(FileErrorKind::Forked))?;
        let metadata = || fs::metadata(path).map_err(|error| refuse(FileErrorKind::Io(error.to_string())));
        let lock = lock(path)?;
        let found = metadata()?;
        if links(&found) > 1 {
            return Err(refuse(FileErrorKind::Linked(links(&found))));
        }
        connect::recognize(path)?;
        let owner = Owner::here(Activity::Applied)?;
        let connection = connect::for_writing(path).map_err(|error| FileError::of_sqlite(path, &error))?;
        let mut session = Self {
            path: path.to_owned(),
            run: owner.run.clone(),
            connection,
            file: FileId::of(&found),
            commits: 0,
            log_is_marked: false,
            lock,
            _presence: presence,
        };
        match session.claim_file(&owner, identity) {
            Ok(Ok(())) => Ok(session),
            Ok(Err(kind)) => Err(refuse(kind)),
            Err(error) if is_busy(&error) => Err(owner::refusal(path)),
            Err(error) => Err(FileError::of_sqlite(path, &error)),
        }
    }

    fn claim_file(&mut self, owner: &Owner, identity: &str) -> check::Found<()> {
        self.connection.busy_timeout(CLAIM)?;
        // What an interrupted run left in its log goes into the file. This needs the file for this connection alone, by
        // whatever name others have opened it.
        leave_log(&self.connection, Instant::now() + CLAIM)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        if journal_mode(&transaction)? != "delete" {
            return Ok(Err(FileErrorKind::Lost("another run has just taken it".to_owned())));
        }
        match check::check_head(&transaction)?.and_then(Head::with_log) {
            Ok(head) if head.header.identity == identity => {}
            Ok(_) => return Ok(Err(FileErrorKind::Lost(REPLACED.to_owned()))),
            Err(kind) => return Ok(Err(kind)),
        }
        state::set_owner(&transaction, Some(owner))?;
        transaction.commit()?;
        self.connection.execute_batch("PRAGMA synchronous=FULL")?;
        enter_log(&self.connection, Instant::now() + CLAIM)?;
        self.connection.execute_batch("PRAGMA wal_autocheckpoint=0")?;
        self.connection.busy_timeout(Duration::from_secs(5))?;
        if !self.merge_log()? {
            let what = "is being read by another program, which does not let go of it; end its transaction";
            return Ok(Err(FileErrorKind::Locked(what.to_owned())));
        }
        self.write(|_| Ok(()))
    }

    /// Writes in one transaction, on the disk when this comes back; nothing of it when it fails.
    pub(super) fn commit<T>(
        &mut self,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, FileErrorKind> {
        let kind_of = |path: &Path, error: &rusqlite::Error| FileError::of_sqlite(path, error).kind().clone();
        if self.commits >= COMMITS_IN_LOG {
            // Where this fails the log grows on, and it is tried again later.
            let _ = self.merge_log();
        }
        self.commits += 1;
        let path = self.path.clone();
        self.write(write).map_err(|error| kind_of(&path, &error)).and_then(|written| written)
    }

    fn write<T>(&mut self, write: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> check::Found<T> {
        if let Err(kind) = self.is_ours() {
            return Ok(Err(kind));
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if state::run(&transaction)?.as_ref() != Some(&self.run) {
            return Ok(Err(FileErrorKind::Lost("another run has taken it over; this one has stopped".to_owned())));
        }
        if !self.log_is_marked {
            state::set_log(&transaction, Log::Present)?;
        }
        let written = write(&transaction)?;
        transaction.commit()?;
        self.log_is_marked = true;
        Ok(Ok(written))
    }

    /// Whether the plan and its lock are still the files that this run has.
    fn is_ours(&self) -> Result<(), FileErrorKind> {
        let found = fs::symlink_metadata(&self.path).ok();
        let is_in_place = found.is_some_and(|found| FileId::of(&found) == self.file && links(&found) <= 1);
        if is_in_place && self.lock.is_in_place() {
            return Ok(());
        }
        Err(FileErrorKind::Lost(if is_in_place { UNLOCKED } else { REPLACED }.to_owned()))
    }

    /// Moves the log into the file, which then says that a log follows. Gives whether it could be done.
    fn merge_log(&mut self) -> rusqlite::Result<bool> {
        self.log_is_marked = false;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if state::run(&transaction)?.as_ref() != Some(&self.run) {
            return Ok(false);
        }
        state::set_log(&transaction, Log::Expected)?;
        transaction.commit()?;
        let is_busy: bool = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if !is_busy {
            self.commits = 0;
        }
        Ok(!is_busy)
    }

    /// Ends the run: everything goes into the one file. Where that fails it stays in the log, and the file says so.
    pub(super) fn end(mut self) {
        let ended = self.is_ours().is_ok() && self.release().is_ok();
        if ended {
            let _ = leave_log(&self.connection, Instant::now() + CLAIM);
        }
        drop(self.connection);
        drop(self.lock);
    }

    fn release(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if state::run(&transaction)?.as_ref() == Some(&self.run) {
            state::set_owner(&transaction, None)?;
            state::set_log(&transaction, Log::Merged)?;
            transaction.commit()?;
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        Ok(())
    }
}

const REPLACED: &str = "was moved, removed, linked or replaced by another file; open it again";
const UNLOCKED: &str = "its lock file was removed or replaced while a run had it; start the run again";

#[cfg(unix)]
fn links(found: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(found)
}

#[cfg(not(unix))]
fn links(_: &Metadata) -> u64 {
    1
}

fn journal_mode(connection: &Connection) -> rusqlite::Result<String> {
    connection.pragma_query_value(None, "journal_mode", |row| row.get(0))
}

/// Moves what is in the log into the file, and removes the log.
pub(super) fn leave_log(connection: &Connection, until: Instant) -> rusqlite::Result<()> {
    switch(connection, "DELETE", until)
}

fn enter_log(connection: &Connection, until: Instant) -> rusqlite::Result<()> {
    switch(connection, "WAL", until)
}

/// SQLite does not wait for readers by itself when it switches.
fn switch(connection: &Connection, mode: &str, until: Instant) -> rusqlite::Result<()> {
    loop {
        let switched = connection.pragma_update_and_check(None, "journal_mode", mode, |row| row.get::<_, String>(0));
        match switched {
            Ok(found) if found.eq_ignore_ascii_case(mode) => return Ok(()),
            Ok(_) if Instant::now() >= until => {
                let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                return Err(rusqlite::Error::SqliteFailure(busy, None));
            }
            Err(error) if !is_busy(&error) || Instant::now() >= until => return Err(error),
            Ok(_) | Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
