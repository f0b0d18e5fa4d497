//! A plan file while it is made.
//!
//! Until it is sealed it is written without waiting for the disk, because a half-written plan is of no use to anybody and
//! refuses to be opened. There is a journal all the same, so that it can be told from a damaged one: it costs next to nothing,
//! since pages that are new are not in it. Sealing waits twice: for the rows, and then for the mark that they are there.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::{fs, io};

use rusqlite::{Connection, params};

use super::error::{FileError, FileErrorKind};
use super::header::{Header, header_checksum};
use super::lock::Lock;
use super::presence::Presence;
use super::private::{create_beside, create_private, remove};
use super::schema::{self, StoredRequest, StoredRow};
use super::state::{self, Activity, Owner};
use super::{PlanFile, PlannedRow, connect, session};

/// Rows and changes are handed to the writing thread in batches of this many, each in the order of the rows: where rows
/// come in no order, as those of a table that is not sorted by account do, neighbours are written together.
const BATCH: usize = 65_536;
/// So many batches may wait there.
const BATCHES: usize = 1;

/// A plan file that is being made. Dropped before it is sealed, it takes its file with it.
pub struct Builder {
    /// As it was given.
    name: PathBuf,
    path: PathBuf,
    header: Header,
    batch: Vec<PlannedRow>,
    /// Rows and changes in the batch.
    size: usize,
    rows: u64,
    requests: Vec<i64>,
    sender: Option<SyncSender<Vec<PlannedRow>>>,
    writer: Option<JoinHandle<Result<(Connection, u64), FileError>>>,
    lock: Option<Lock>,
    /// Goes last, when SQLite is not used any more.
    _presence: Presence,
}

impl Builder {
    /// Makes a new file.
    ///
    /// # Errors
    /// [`FileError`] when there is one already, or none can be made.
    pub fn create(name: &Path, header: &Header) -> Result<Self, FileError> {
        let io = |error: io::Error| FileError::new(name, FileErrorKind::Io(error.to_string()));
        let presence = Presence::enter().ok_or_else(|| FileError::new(name, FileErrorKind::Forked))?;
        // A link that leads nowhere is something, too.
        if name.symlink_metadata().is_ok() {
            return Err(FileError::new(name, FileErrorKind::Exists));
        }
        let path = place_of(name).map_err(io)?;
        let lock = session::lock(&path).map_err(|error| error.at(name))?;
        if create_private(&path).map_err(io)?.is_none() {
            return Err(FileError::new(name, FileErrorKind::Exists));
        }
        let started = Owner::here(Activity::Planned).and_then(|owner| start(name, &path, header, &owner));
        let connection = match started {
            Ok(connection) => connection,
            Err(error) => {
                remove(&path);
                lock.abandon();
                return Err(error);
            }
        };
        let (sender, receiver) = sync_channel(BATCHES);
        let owned = name.to_owned();
        let work = move || write(&owned, connection, &receiver);
        let writer = thread::Builder::new().name("replyio-plan-file".to_owned()).spawn(work).map_err(|error| {
            remove(&path);
            io(error)
        })?;
        Ok(Self {
            name: name.to_owned(),
            path,
            header: header.clone(),
            batch: Vec::new(),
            size: 0,
            rows: 0,
            requests: Vec::new(),
            sender: Some(sender),
            writer: Some(writer),
            lock: Some(lock),
            _presence: presence,
        })
    }

    /// Adds when requests were sent, in milliseconds since 1970. They are written down when the plan is sealed.
    pub fn note_requests(&mut self, sent_at_ms: impl IntoIterator<Item = i64>) {
        self.requests.extend(sent_at_ms);
    }

    /// Adds a row. The same number twice is refused when the file is sealed.
    ///
    /// # Errors
    /// [`FileError`] when the rows cannot be written.
    pub fn add(&mut self, row: PlannedRow) -> Result<(), FileError> {
        self.rows += 1;
        self.size += 1 + row.changes.len();
        self.batch.push(row);
        if self.size >= BATCH { self.hand_over() } else { Ok(()) }
    }

    /// Closes the plan: every row is on the disk when this returns.
    ///
    /// # Errors
    /// [`FileError`] when the rows cannot be written, or are not as many as there must be.
    pub fn seal(mut self, rows: u64) -> Result<PlanFile, FileError> {
        self.hand_over()?;
        let (connection, edits) = self.end_writer()?;
        if rows != self.rows {
            return Err(FileError::internal("a plan without some of its rows"));
        }
        let sealed = seal(&connection, rows, edits, &self.requests);
        sealed.map_err(|error| FileError::of_sqlite(&self.name, &error))?;
        drop(connection);
        drop(self.lock.take());
        // What was just written is not read back: that would show what the system remembers, not what the disk has.
        Ok(PlanFile::of(&self.name, &self.path, self.header.clone()))
    }

    fn hand_over(&mut self) -> Result<(), FileError> {
        self.size = 0;
        let mut batch = std::mem::take(&mut self.batch);
        batch.sort_unstable_by_key(|row| row.row);
        match self.sender.as_ref().map(|sender| sender.send(batch)) {
            Some(Ok(())) => Ok(()),
            _ => self.end_writer().and(Err(FileError::internal("the writing thread has ended"))),
        }
    }

    fn end_writer(&mut self) -> Result<(Connection, u64), FileError> {
        drop(self.sender.take());
        let ended = self.writer.take().map(JoinHandle::join);
        ended.and_then(Result::ok).unwrap_or_else(|| Err(FileError::internal("the writing thread has ended")))
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            let _ = self.end_writer();
            remove(&self.path);
            lock.abandon();
        }
    }
}

/// Where a new file is to be, without symbolic links.
fn place_of(name: &Path) -> io::Result<PathBuf> {
    let file = name.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
    let folder = name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(folder.canonicalize()?.join(file))
}

/// Puts a file in place whose head is whole, so that a plan whose planning was killed is always told from something else.
fn start(name: &Path, path: &Path, header: &Header, owner: &Owner) -> Result<Connection, FileError> {
    let io = |error: io::Error| FileError::new(name, FileErrorKind::Io(error.to_string()));
    let beside = create_beside(path).map_err(io)?;
    let of_sqlite = |error: rusqlite::Error| FileError::of_sqlite(name, &error);
    let started = write_head(&beside, header, owner).map_err(of_sqlite);
    if let Err(error) = started.and_then(|()| fs::rename(&beside, path).map_err(io)) {
        remove(&beside);
        return Err(error);
    }
    let begin = || {
        let connection = connect::for_writing(path)?;
        connection
            .execute_batch("PRAGMA journal_mode=DELETE; PRAGMA synchronous=OFF; PRAGMA cache_size=-64000; BEGIN")?;
        Ok(connection)
    };
    begin().map_err(of_sqlite)
}

fn write_head(path: &Path, header: &Header, owner: &Owner) -> rusqlite::Result<()> {
    let connection = connect::for_writing(path)?;
    connection.execute_batch("PRAGMA journal_mode=DELETE; PRAGMA synchronous=OFF; BEGIN")?;
    connection.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", schema::FORMAT)?;
    connection.execute_batch(&schema::SCHEMA.join(";"))?;
    for (key, value) in header.members() {
        connection.execute("INSERT INTO plan VALUES (?1, ?2)", params![key, value])?;
    }
    state::create(&connection)?;
    state::set_owner(&connection, Some(owner))?;
    connection.execute_batch("COMMIT")
}

fn write(
    path: &Path,
    connection: Connection,
    receiver: &Receiver<Vec<PlannedRow>>,
) -> Result<(Connection, u64), FileError> {
    let written = write_all(&connection, receiver).map_err(|error| FileError::of_sqlite(path, &error));
    written.map(|edits| (connection, edits))
}

fn write_all(connection: &Connection, receiver: &Receiver<Vec<PlannedRow>>) -> rusqlite::Result<u64> {
    let mut edits = 0;
    {
        let mut insert_row = connection.prepare(schema::INSERT_ROW)?;
        let mut insert_edit = connection.prepare(schema::INSERT_EDIT)?;
        while let Ok(batch) = receiver.recv() {
            for planned in batch {
                let row = stored(&planned);
                row.insert(&mut insert_row)?;
                for change in &planned.changes {
                    let (before, after) = (schema::to_sql(&change.before), schema::to_sql(&change.after));
                    let checksum = schema::edit_checksum(row.row, change, None);
                    insert_edit.execute(params![row.row, change.field.name(), before, after, checksum])?;
                    edits += 1;
                }
            }
        }
    }
    connection.execute_batch("COMMIT")?;
    Ok(edits)
}

fn stored(planned: &PlannedRow) -> StoredRow {
    StoredRow {
        row: i64::try_from(planned.row).unwrap_or(i64::MAX),
        account_id: planned.account_id,
        matched_by: planned.key.clone(),
        status: planned.status.as_str().to_owned(),
        error: planned.error.clone(),
        position: planned.position.and_then(|place| i64::try_from(place).ok()),
        weight: i64::try_from(planned.weight).unwrap_or(i64::MAX),
        repeated: 0,
        stored_otherwise: false,
        finished_at_ms: None,
    }
}

/// `EXTRA` waits for the removal of the journal too: one that comes back after a loss of power takes the mark back.
fn seal(connection: &Connection, rows: u64, edits: u64, requests: &[i64]) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA synchronous=EXTRA")?;
    let insert = "INSERT INTO plan VALUES (?1, ?2)";
    let transaction = connection.unchecked_transaction()?;
    transaction.execute(insert, params!["rows", i64::try_from(rows).unwrap_or(i64::MAX)])?;
    transaction.execute(insert, params!["edits", i64::try_from(edits).unwrap_or(i64::MAX)])?;
    requests.iter().try_for_each(|at| StoredRequest::add(&transaction, *at))?;
    state::set_owner(&transaction, None)?;
    // What it waits for is the whole file.
    transaction.commit()?;
    let checksum = header_checksum(connection)?;
    connection.execute(insert, params!["sealed", checksum]).map(drop)
}
