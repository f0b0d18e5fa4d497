//! The right to write a plan's file, from the claim to its end.
//!
//! Between runs the file is complete in itself, in SQLite's rollback mode, so that it can be read, copied and moved
//! alone. A run writes to a log next to it (`-wal`). Before its first row, the run makes the file require that log,
//! with two numbers on two pages: they are equal in the log, and differ in the file alone. The file requires the log
//! only after the log has both numbers.
//!
//! Two mechanisms separate two runs. SQLite's own lock on the file (device and inode, released by the system when its
//! process dies) prevents another claim while a run has the plan open. And each write checks whether the plan still has
//! the claim of its run, because a process loses SQLite's locks if it opens and closes the file in another way.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior, ffi};

use super::check::{self, Head};
use super::error::{FileError, FileErrorKind};
use super::presence::Presence;
use super::private::{FileId, links, with_suffix};
use super::simulation::{self, Kept};
use super::state::{self, Activity, Log, Owner};
use super::{connect, log, owner};

/// How long a claim waits; a second run gets its error within a second.
const CLAIM: Duration = Duration::from_millis(700);
/// How long a run waits for readers.
const READERS: Duration = Duration::from_secs(5);
/// The number of commits after which the log is moved into the file.
const COMMITS_IN_LOG: u32 = 4_096;
/// The same after readers kept a part of the log from being moved.
const COMMITS_BESIDE_READERS: u32 = 32;

/// The right of one run to write.
pub(super) struct Session {
    /// The path without symbolic links.
    path: PathBuf,
    /// The original name of the plan.
    name: String,
    run: String,
    connection: Kept,
    file: Option<FileId>,
    log: Option<FileId>,
    commits: u32,
    /// Whether the file alone says that it requires the log.
    is_armed: bool,
    /// Dropped last, after SQLite is closed.
    _presence: Presence,
}

impl Session {
    /// Claims a plan.
    pub(super) fn claim(path: &Path, identity: &str) -> Result<Self, FileError> {
        let refuse = |kind| FileError::new(path, kind);
        let presence = Presence::enter().ok_or_else(|| refuse(FileErrorKind::Forked))?;
        let connection = connect(path)?;
        simulation::before_commit(path).map_err(refuse)?;
        let owner = Owner::here(Activity::Applied)?;
        let mut session = Self {
            path: path.to_owned(),
            name: String::new(),
            run: owner.run.clone(),
            connection,
            file: FileId::at(path),
            log: None,
            commits: 0,
            is_armed: false,
            _presence: presence,
        };
        match session.claim_file(&owner, identity) {
            Ok(Ok(())) => {
                simulation::after_commit(path).map_err(refuse)?;
                Ok(session)
            }
            // Another process claimed the plan after this claim and before this run opened its log.
            Ok(Err(FileErrorKind::Lost(what))) if what == TAKEN => Err(owner::refusal(path)),
            Ok(Err(kind)) => Err(owner::refusal_or(path, kind)),
            Err(error) => Err(owner::refusal_of(path, &connect::endless(error))),
        }
    }

    fn claim_file(&mut self, owner: &Owner, identity: &str) -> check::Found<()> {
        self.connection.busy_timeout(connect::patience(CLAIM))?;
        // Moves the log of an interrupted run into the file. This requires exclusive access to the file, under any name
        // that others have opened.
        if let Err(error) = leave_log(&self.connection, CLAIM) {
            self.wait_for_readers(error)?;
            leave_log(&self.connection, READERS)?;
        }
        let exclusive = || Transaction::new_unchecked(&self.connection, TransactionBehavior::Exclusive);
        let transaction = exclusive().or_else(|error| {
            self.wait_for_readers(error)?;
            exclusive()
        })?;
        if journal_mode(&transaction)? != "delete" {
            drop(transaction);
            return Ok(Err(owner::refusal(&self.path).kind().clone()));
        }
        match check::check_head(&transaction)?.and_then(Head::with_log) {
            Ok(head) if head.header.identity == identity => self.name = head.name,
            Ok(_) => return Ok(Err(FileErrorKind::Lost(REPLACED.to_owned()))),
            Err(kind) => return Ok(Err(kind)),
        }
        if let Err(kind) = check_links(&self.path, &self.name) {
            return Ok(Err(kind));
        }
        state::set_owner(&transaction, Some(owner))?;
        state::set_writer(&transaction, &owner.run)?;
        transaction.commit()?;
        let begun = self.begin_log();
        if !matches!(begun, Ok(Ok(()))) {
            // Otherwise the file would name a run that does not exist.
            self.release();
        }
        begun
    }

    /// Waits longer, because no run has the plan: others only read it. Fails if a run has it.
    fn wait_for_readers(&self, error: rusqlite::Error) -> rusqlite::Result<()> {
        if !connect::is_busy(&error) || owner::running(&self.path).is_some() {
            return Err(error);
        }
        self.connection.busy_timeout(connect::patience(READERS))
    }

    fn begin_log(&mut self) -> check::Found<()> {
        connect::trust(&mut self.connection)?;
        // Still `EXTRA`: a journal that reappears after a power failure would be next to the log.
        switch(&self.connection, "WAL", READERS)?;
        self.connection.execute_batch("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0")?;
        self.connection.busy_timeout(connect::patience(READERS))?;
        // The first reader creates the log. While that is empty, the reader sees the file alone, which the claim has
        // found whole.
        let base = state::mark(&*self.connection.unchecked_transaction()?)?.map(|mark| mark.needed);
        self.log = FileId::at(&with_suffix(&self.path, "-wal"));
        if self.log.is_none() {
            failure(ffi::SQLITE_IOERR)?;
        }
        self.arm(base)
    }

    /// Writes in one transaction: on the disk when this returns, or not at all if it fails.
    pub(super) fn commit<T>(
        &mut self,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, FileErrorKind> {
        simulation::before_commit(&self.path)?;
        let written = self.commit_armed(write);
        let written = written.map_err(|error| FileError::of_sqlite(&self.path, &error).kind().clone()).flatten();
        simulation::after_commit(&self.path)?;
        written
    }

    fn commit_armed<T>(&mut self, write: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> check::Found<T> {
        if self.commits >= COMMITS_IN_LOG {
            // If this fails, the log grows, and the next attempt comes later.
            let _ = self.merge_log();
        }
        if !self.is_armed
            && let Err(kind) = self.arm(self.whole_file()?)?
        {
            return Ok(Err(kind));
        }
        self.commits += 1;
        self.write(write)
    }

    /// Writes in one transaction that belongs to this run.
    fn write<T>(&mut self, write: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> check::Found<T> {
        if let Err(kind) = self.is_in_place() {
            return Ok(Err(kind));
        }
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        if !is_ours(&transaction, &self.run)? {
            drop(transaction);
            return Ok(Err(FileErrorKind::Lost(TAKEN.to_owned())));
        }
        let written = write(&transaction)?;
        transaction.commit()?;
        // A commit to a log that was replaced is lost.
        Ok(self.is_in_place().map(|()| written))
    }

    /// Returns whether the plan and its log are still the files of this run.
    fn is_in_place(&self) -> Result<(), FileErrorKind> {
        if FileId::at(&self.path) != self.file {
            return Err(FileErrorKind::Lost(REPLACED.to_owned()));
        }
        if self.log.is_some() && FileId::at(&with_suffix(&self.path, "-wal")) != self.log {
            return Err(FileErrorKind::Lost(TAKEN.to_owned()));
        }
        check_links(&self.path, &self.name)
    }

    /// Makes the file alone say that it requires its log, which already says so. `base` is the log number of the file,
    /// if that requires none.
    fn arm(&mut self, base: Option<i64>) -> check::Found<()> {
        let begun = self.write(|connection| {
            base.map_or(Ok(()), |base| state::begin_log(connection, base))?;
            state::need_log(connection)?;
            state::have_log(connection)
        })?;
        if let Err(kind) = begun {
            return Ok(Err(kind));
        }
        // Prevents the checkpoint of later commits.
        let pin = simulation::keep(&self.path, connect::only_reading(&self.path)?);
        let _pinned = pin.unchecked_transaction()?;
        // Reads the header of the file, and so starts to read.
        pin.pragma_query_value(None, "schema_version", |_| Ok(()))?;
        if let Err(kind) = self.write(state::have_log)? {
            return Ok(Err(kind));
        }
        let until = Instant::now() + connect::patience(READERS);
        loop {
            self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
            self.is_armed = self.file_needs_log()?;
            if self.is_armed {
                return Ok(Ok(()));
            }
            // Another process reads an older snapshot.
            if Instant::now() >= until {
                let what = "is open in a transaction of another program; end that transaction, then repeat the call";
                return Ok(Err(FileErrorKind::Locked(what.to_owned())));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns whether the file would be refused without its log.
    fn file_needs_log(&self) -> rusqlite::Result<bool> {
        let found = state::mark(&connect::immutable(&self.path)?)?;
        Ok(found.is_some_and(|mark| mark.log() == Log::Missing))
    }

    /// Returns the log number of a file that is complete without its log.
    fn whole_file(&self) -> rusqlite::Result<Option<i64>> {
        let found = state::mark(&connect::immutable(&self.path)?)?;
        Ok(found.filter(|mark| mark.log() == Log::Whole).map(|mark| mark.needed))
    }

    /// Moves the log into the file. While other processes read older pages, those stay, and the file still requires the
    /// log.
    fn merge_log(&mut self) -> check::Found<()> {
        self.commits = 0;
        self.is_armed = false;
        let written = self.write(|connection| {
            // The two pages are never moved separately.
            state::need_log(connection)?;
            state::have_log(connection)
        })?;
        if written.is_ok() {
            self.connection.busy_timeout(Duration::ZERO)?;
            let merged = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
            self.connection.busy_timeout(connect::patience(READERS))?;
            if merged? {
                // The file has some newer pages, and cannot be used alone until the rest follows.
                self.commits = COMMITS_IN_LOG - COMMITS_BESIDE_READERS;
            }
            self.is_armed = self.file_needs_log()?;
        }
        Ok(written)
    }

    /// Ends the run: moves everything into the one file. If that fails, the log keeps it, and the file says so.
    pub(super) fn end(mut self) {
        simulation::close(&self.path);
        if simulation::is_dead(&self.path) {
            return;
        }
        self.release();
    }

    /// Gives the plan up. If it is no longer this run's, the log beside it may be another run's, and stays.
    fn release(&mut self) {
        let released = self.write(|connection| {
            state::set_owner(connection, None)?;
            state::need_log(connection)?;
            state::have_log(connection)
        });
        if matches!(released, Ok(Ok(()))) {
            let _ = leave_log(&self.connection, CLAIM);
        }
    }
}

/// Opens a plan that may be any file.
fn connect(path: &Path) -> Result<Kept, FileError> {
    if let Some(connection) = simulation::at_hand_for_writing(path) {
        return Ok(connection);
    }
    connect::recognize(path)?;
    log::check(path)?;
    let connection = connect::for_writing(path).map_err(|error| FileError::of_sqlite(path, &error))?;
    Ok(simulation::keep(path, connection))
}

const REPLACED: &str = "was moved, removed or replaced by another file; move it back to this name, then open it again";
const TAKEN: &str = "was taken over by another run; this run stopped and sends nothing more";

fn is_ours(transaction: &Transaction<'_>, run: &str) -> rusqlite::Result<bool> {
    Ok(state::run(transaction)?.as_deref() == Some(run))
}

/// Refuses a file with several names, except under its original name: each name has its own log.
fn check_links(path: &Path, name: &str) -> Result<(), FileErrorKind> {
    let links = links(path);
    if links <= 1 || path.file_name().is_some_and(|found| found.to_string_lossy() == name) {
        return Ok(());
    }
    Err(FileErrorKind::Linked { links, name: name.to_owned() })
}

fn journal_mode(connection: &Connection) -> rusqlite::Result<String> {
    connection.pragma_query_value(None, "journal_mode", |row| row.get(0))
}

/// Moves the log into the file, and deletes the log.
///
/// `EXTRA` waits until the deletion is on the disk: a log that reappears after a power failure would belong to another
/// run.
pub(super) fn leave_log(connection: &Connection, patience: Duration) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA synchronous=EXTRA")?;
    switch(connection, "DELETE", patience)
}

fn failure(code: i32) -> rusqlite::Result<()> {
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
}

/// SQLite does not wait for readers when it switches the mode.
fn switch(connection: &Connection, mode: &str, patience: Duration) -> rusqlite::Result<()> {
    let until = Instant::now() + connect::patience(patience);
    loop {
        let switched = connection.pragma_update_and_check(None, "journal_mode", mode, |row| row.get::<_, String>(0));
        match switched {
            // SQLite reports the same error if the disk refused it.
            Ok(found) if found.eq_ignore_ascii_case(mode) && journal_mode(connection)? == found => return Ok(()),
            Ok(found) if found.eq_ignore_ascii_case(mode) => return failure(ffi::SQLITE_IOERR),
            Ok(_) if Instant::now() >= until => return failure(ffi::SQLITE_BUSY),
            Err(error) if !connect::is_busy(&error) || Instant::now() >= until => return Err(error),
            Ok(_) | Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}
