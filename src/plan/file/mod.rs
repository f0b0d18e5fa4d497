//! The plan file: one SQLite file with every row, what it changes, and what became of it. No key is ever in it.
//!
//! `sending` is committed before the first byte of an update leaves, its outcome before it is reported, both on the disk.
//! After a crash only rows in flight are `sending`, and only those are sent again.

mod builder;
mod error;
mod lock;
mod schema;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

pub use self::builder::Builder;
pub use self::error::{FileError, FileErrorKind};
use self::lock::Lock;
use self::schema::{SENDING, StoredRow, Sum};
use self::writer::{Write, Writer};
use super::{Change, MatchOn, Mode, Nulls, Status, Value};
use crate::account::Field;
use crate::per_process::Process;

/// Rows are read in steps of this many, so that a report of a million takes little memory.
const STEP: i64 = 10_000;
const HOUR_MS: i64 = 3_600_000;

/// What a plan was made for, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The address of the service.
    pub base_url: String,
    /// The user that it acts for.
    pub act_as: Option<String>,
    /// The team that it acts in.
    pub team_id: Option<i64>,
    /// What the columns do.
    pub mode: Mode,
    /// What an empty cell means.
    pub nulls: Nulls,
    /// By what a row finds its account.
    pub match_on: MatchOn,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// What the table was, in words.
    pub source: String,
    /// Whether it takes another plan back.
    pub is_revert: bool,
}

impl Header {
    fn members(&self) -> [(&'static str, SqlValue); 9] {
        let text = |text: &str| SqlValue::Text(text.to_owned());
        [
            ("base_url", text(&self.base_url)),
            ("act_as", self.act_as.as_deref().map_or(SqlValue::Null, text)),
            ("team_id", self.team_id.map_or(SqlValue::Null, SqlValue::Integer)),
            ("mode", text(self.mode.as_str())),
            ("nulls", text(self.nulls.as_str())),
            ("match_on", text(self.match_on.as_str())),
            ("created_at_ms", SqlValue::Integer(self.created_at_ms)),
            ("source", text(&self.source)),
            ("is_revert", SqlValue::Integer(i64::from(self.is_revert))),
        ]
    }

    fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        fn get<T: rusqlite::types::FromSql>(connection: &Connection, key: &str) -> rusqlite::Result<T> {
            connection.query_row("SELECT value FROM plan WHERE key = ?1", [key], |row| row.get(0))
        }
        let text = |key| get::<String>(connection, key);
        let (mode, nulls) = (Mode::from_name(&text("mode")?), Nulls::from_name(&text("nulls")?));
        let (Some(mode), Some(nulls), Some(match_on)) = (mode, nulls, MatchOn::from_name(&text("match_on")?)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            base_url: text("base_url")?,
            act_as: get(connection, "act_as")?,
            team_id: get(connection, "team_id")?,
            mode,
            nulls,
            match_on,
            created_at_ms: get(connection, "created_at_ms")?,
            source: text("source")?,
            is_revert: get(connection, "is_revert")?,
        }))
    }
}

/// A row as it is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRow {
    /// Its number in the table, from 0.
    pub row: u64,
    /// The account that it is for, where that is known.
    pub account_id: Option<i64>,
    /// The domain or name that it was matched by.
    pub key: Option<String>,
    /// What became of it in planning.
    pub status: Status,
    /// What is wrong with it.
    pub error: Option<String>,
    /// The place of its account in the list.
    pub position: Option<u64>,
    /// What it changes.
    pub changes: Vec<Change>,
}

/// A row that is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenRow {
    /// Its number in the table.
    pub row: u64,
    /// The account that it is for.
    pub account_id: Option<i64>,
    /// The place of its account in the list, when it was planned.
    pub position: Option<u64>,
    /// Whether it was in flight when the file was last used.
    pub was_sending: bool,
}

/// A row in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowView {
    /// Its number in the table.
    pub row: u64,
    /// The account that it is for.
    pub account_id: Option<i64>,
    /// The domain or name that it was matched by.
    pub key: Option<String>,
    /// What became of it; [`Status::Unknown`] while it is in flight.
    pub status: Status,
    /// What is wrong with it.
    pub error: Option<String>,
    /// How often it was sent again after a crash.
    pub repeated: u64,
}

/// A change in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeView {
    /// The row's number in the table.
    pub row: u64,
    /// The account.
    pub account_id: Option<i64>,
    /// What became of the row.
    pub status: Status,
    /// The field.
    pub field: Field,
    /// What it was when the plan was made.
    pub before: Value,
    /// What it is to be.
    pub after: Value,
}

/// An open plan file. Clones are handles on the same one; it is closed with [`PlanFile::close`] or with the last of them.
#[derive(Clone)]
pub struct PlanFile(Arc<Inner>);

struct Inner {
    path: PathBuf,
    header: Header,
    process: Process,
    writer: Mutex<Option<Writer>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if Process::current() != self.process
            && let Some(writer) = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner)
        {
            writer.forget();
        }
    }
}

impl PlanFile {
    /// Opens a plan and looks whether all of it is as it was written.
    ///
    /// # Errors
    /// [`FileError`] when it is missing, in use, half written, damaged, newer or no plan.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        if !path.exists() {
            return Err(FileError::new(path, FileErrorKind::Missing));
        }
        let lock = Lock::take(path)?;
        Self::start(path, lock, Trust::Nothing)
    }

    fn start(path: &Path, lock: Lock, trust: Trust) -> Result<Self, FileError> {
        let connection = connect(path).map_err(|error| FileError::of_sqlite(path, &error))?;
        let header = match check(&connection, trust) {
            Ok(Ok(header)) => header,
            Ok(Err(kind)) => return Err(FileError::new(path, kind)),
            Err(error) => return Err(FileError::of_sqlite(path, &error)),
        };
        let writer = Mutex::new(Some(Writer::start(path, connection, lock)?));
        Ok(Self(Arc::new(Inner { path: path.to_owned(), header, process: Process::current(), writer })))
    }

    /// What it was made for.
    pub fn header(&self) -> &Header {
        &self.0.header
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Refuses a plan that was made for something else.
    ///
    /// # Errors
    /// [`FileErrorKind::Foreign`].
    pub fn check_target(&self, base_url: &str, act_as: Option<&str>, team_id: Option<i64>) -> Result<(), FileError> {
        let header = self.header();
        let refuse = |what: String| Err(FileError::new(self.path(), FileErrorKind::Foreign(what)));
        if header.base_url != base_url {
            return refuse(format!("was made for {}, and this client is for {base_url}", header.base_url));
        }
        if header.act_as.as_deref() != act_as || header.team_id != team_id {
            return refuse("was made for another user or team; open it with the same act_as and team_id".to_owned());
        }
        Ok(())
    }

    /// How many rows there are of each status.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn counts(&self) -> Result<BTreeMap<Status, u64>, FileError> {
        let counted = self.ask(|connection| {
            let mut select = connection.prepare("SELECT status, count(*) FROM rows GROUP BY status")?;
            let pairs = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?)))?;
            pairs.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut counts = BTreeMap::new();
        for (status, count) in counted {
            *counts.entry(self.status(&status)?).or_default() += count;
        }
        Ok(counts)
    }

    /// The rows that are still to be done, those in flight at a crash included, in the order of their place in the list.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn open_rows(&self) -> Result<Vec<OpenRow>, FileError> {
        self.ask(|connection| {
            let mut select = connection.prepare(
                "SELECT row, account_id, position, status FROM rows WHERE status IN ('pending', 'sending') \
                 ORDER BY position, row",
            )?;
            let rows = select.query_map([], |row| {
                Ok(OpenRow {
                    row: row.get(0)?,
                    account_id: row.get(1)?,
                    position: row.get(2)?,
                    was_sending: row.get::<_, String>(3)? == SENDING,
                })
            })?;
            rows.collect()
        })
    }

    /// What rows change.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn changes_of(&self, rows: &[u64]) -> Result<HashMap<u64, Vec<Change>>, FileError> {
        let rows: Vec<i64> = rows.iter().filter_map(|row| i64::try_from(*row).ok()).collect();
        let found = self.ask(move |connection| {
            let mut select = connection.prepare_cached(schema::SELECT_EDITS)?;
            let mut found = Vec::new();
            for row in rows {
                let edits = select.query_map([row], schema::read_edit)?;
                found.extend(edits.collect::<rusqlite::Result<Vec<_>>>()?);
            }
            Ok(found)
        })?;
        let mut changes: HashMap<u64, Vec<Change>> = HashMap::new();
        for edit in found {
            let (row, change) = edit.ok_or_else(|| self.damaged("a change is not what was written"))?;
            changes.entry(row.unsigned_abs()).or_default().push(change);
        }
        for changes in changes.values_mut() {
            changes.sort_unstable_by_key(|change| change.field);
        }
        Ok(changes)
    }

    /// When requests were sent in the last hour, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read or written.
    pub fn recent_requests(&self, now_ms: i64) -> Result<Vec<i64>, FileError> {
        self.ask(move |connection| {
            // A clock that was set back must not hold the job up for longer than an hour.
            connection.execute(
                "DELETE FROM requests WHERE sent_at <= ?1 OR sent_at > ?2",
                params![now_ms - HOUR_MS, now_ms + HOUR_MS],
            )?;
            let mut select = connection.prepare("SELECT min(sent_at, ?1) FROM requests ORDER BY 1")?;
            let moments = select.query_map([now_ms], |row| row.get(0))?;
            moments.collect()
        })
    }

    /// Marks a row as being sent. On the disk when this is ready.
    ///
    /// # Errors
    /// [`FileError`]; then nothing is marked, and nothing may be sent.
    pub async fn sending(&self, row: u64, request_at_ms: i64) -> Result<(), FileError> {
        self.write(Write::Sending { row, at: request_at_ms }).await.map(drop)
    }

    /// Writes down what became of a row. On the disk when this is ready.
    ///
    /// # Errors
    /// [`FileError`]; then the row stays as it was.
    pub async fn finish(
        &self,
        row: u64,
        status: Status,
        error: Option<String>,
        request_at_ms: Option<i64>,
    ) -> Result<(), FileError> {
        self.write(Write::Finish { row, status, error, at: request_at_ms }).await.map(drop)
    }

    /// Takes the mark of a row back that is known not to have been applied.
    ///
    /// # Errors
    /// [`FileError`]; then the row stays as it was.
    pub async fn requeue(&self, row: u64) -> Result<(), FileError> {
        self.write(Write::Requeue { row }).await.map(drop)
    }

    /// Writes down when requests were sent that belong to no row.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be written.
    pub async fn note_requests(&self, sent_at_ms: Vec<i64>) -> Result<(), FileError> {
        self.write(Write::Requests(sent_at_ms)).await.map(drop)
    }

    /// Makes failed, unknown and conflicting rows pending again. Gives how many.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be written.
    pub fn retry_failed(&self) -> Result<u64, FileError> {
        // The writing thread answers whether or not a runtime is there.
        let mut writing = Box::pin(self.write(Write::RetryFailed));
        let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = std::task::Context::from_waker(&waker);
        loop {
            if let std::task::Poll::Ready(count) = writing.as_mut().poll(&mut context) {
                return count;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Every row, in order.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn for_each_row(&self, mut take: impl FnMut(RowView)) -> Result<(), FileError> {
        let mut last = -1;
        loop {
            let rows = self.ask(move |connection| {
                let mut select = connection.prepare_cached(schema::SELECT_ROWS)?;
                let rows = select.query_map([last, STEP], StoredRow::read)?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            })?;
            if rows.is_empty() {
                return Ok(());
            }
            for row in rows {
                let row = row.ok_or_else(|| self.damaged("a row is not what was written"))?;
                last = row.row;
                take(self.view(row)?);
            }
        }
    }

    /// Every change, in the order of the rows.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn for_each_change(&self, mut take: impl FnMut(ChangeView)) -> Result<(), FileError> {
        let mut rows = Vec::new();
        self.for_each_row(|row| rows.push((row.row, row.account_id, row.status)))?;
        for step in rows.chunks(usize::try_from(STEP).unwrap_or(1)) {
            let (Some(first), Some(last)) = (step.first(), step.last()) else { continue };
            let (first, last) = (first.0.cast_signed(), last.0.cast_signed());
            let edits = self.ask(move |connection| {
                let mut select = connection.prepare_cached(schema::SELECT_EDITS_BETWEEN)?;
                let edits = select.query_map([first, last], schema::read_edit)?;
                edits.collect::<rusqlite::Result<Vec<_>>>()
            })?;
            let mut step = step.iter().peekable();
            for edit in edits {
                let (row, change) = edit.ok_or_else(|| self.damaged("a change is not what was written"))?;
                while step.next_if(|(number, ..)| number.cast_signed() < row).is_some() {}
                let Some(&&(number, account_id, status)) = step.peek() else { break };
                let Change { field, before, after } = change;
                take(ChangeView { row: number, account_id, status, field, before, after });
            }
        }
        Ok(())
    }

    /// The rows that take back what this plan has changed.
    ///
    /// # Errors
    /// Those of `take`, and [`FileError`] when the file cannot be read.
    pub fn revert_rows(&self, mut take: impl FnMut(PlannedRow) -> Result<(), FileError>) -> Result<(), FileError> {
        let mut done = Vec::new();
        self.for_each_row(|row| {
            if row.status == Status::Changed {
                done.push(row);
            }
        })?;
        let mut positions: HashMap<u64, Option<u64>> = self
            .ask(|connection| {
                let mut select = connection.prepare("SELECT row, position FROM rows WHERE status = 'changed'")?;
                let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            })?
            .into_iter()
            .collect();
        for rows in done.chunks(usize::try_from(STEP).unwrap_or(1)) {
            let numbers: Vec<u64> = rows.iter().map(|row| row.row).collect();
            let mut changes = self.changes_of(&numbers)?;
            for row in rows {
                let changes = changes.remove(&row.row).unwrap_or_default();
                take(PlannedRow {
                    row: row.row,
                    account_id: row.account_id,
                    key: row.key.clone(),
                    status: Status::Pending,
                    error: None,
                    position: positions.remove(&row.row).flatten(),
                    changes: changes.into_iter().map(Change::reversed).collect(),
                })?;
            }
        }
        Ok(())
    }

    /// Closes the file: everything is in it, and others may open it.
    ///
    /// # Errors
    /// [`FileErrorKind::Forked`] in another process than the one that opened it.
    pub fn close(&self) -> Result<(), FileError> {
        self.check_process()?;
        drop(self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
        Ok(())
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, FileError> {
        self.check_process()?;
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = writer.as_ref().ok_or_else(|| FileError::new(self.path(), FileErrorKind::Closed))?;
        writer.ask(question)?.map_err(|error| FileError::of_sqlite(self.path(), &error))
    }

    fn write(&self, write: Write) -> impl Future<Output = Result<u64, FileError>> + use<> {
        let started = self.check_process().and_then(|()| {
            let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let writer = writer.as_ref().ok_or_else(|| FileError::new(self.path(), FileErrorKind::Closed))?;
            Ok(writer.write(write))
        });
        async move { started?.await }
    }

    fn check_process(&self) -> Result<(), FileError> {
        if Process::current() == self.0.process {
            Ok(())
        } else {
            Err(FileError::new(self.path(), FileErrorKind::Forked))
        }
    }

    fn damaged(&self, what: &str) -> FileError {
        FileError::new(self.path(), FileErrorKind::Damaged(what.to_owned()))
    }

    fn status(&self, name: &str) -> Result<Status, FileError> {
        if name == SENDING {
            return Ok(Status::Unknown);
        }
        Status::from_name(name).ok_or_else(|| self.damaged("a row has a status that is none"))
    }

    fn view(&self, row: StoredRow) -> Result<RowView, FileError> {
        let in_flight = row.status == SENDING;
        let error =
            if in_flight { Some("was in flight when the job ended; it is sent again".to_owned()) } else { row.error };
        Ok(RowView {
            row: row.row.unsigned_abs(),
            account_id: row.account_id,
            key: row.matched_by,
            status: self.status(&row.status)?,
            error,
            repeated: row.repeated.unsigned_abs(),
        })
    }
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON")?;
    Ok(connection)
}

/// What need not be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// The file may have been anywhere.
    Nothing,
    /// This process has just written the rows, and has had the lock ever since.
    Rows,
}

/// Looks whether a file is a plan, whole and as it was written; then it is made ready to run.
fn check(connection: &Connection, trust: Trust) -> rusqlite::Result<Result<Header, FileErrorKind>> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    if number("application_id")? != schema::APPLICATION_ID {
        return Ok(Err(FileErrorKind::NotAPlan));
    }
    match number("user_version")? {
        schema::FORMAT => {}
        version if version > schema::FORMAT => return Ok(Err(FileErrorKind::Newer)),
        _ => return Ok(Err(FileErrorKind::NotAPlan)),
    }
    let damaged = |what: &str| Ok(Err(FileErrorKind::Damaged(what.to_owned())));
    let sealed = connection
        .query_row("SELECT value FROM plan WHERE key = 'sealed'", [], |row| row.get::<_, SqlValue>(0))
        .optional()?;
    let Some(sealed) = sealed else { return Ok(Err(FileErrorKind::HalfWritten)) };
    if sealed != SqlValue::Integer(i64::from(header_checksum(connection)?)) {
        return damaged("its head is not what was written");
    }
    let mut select = connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")?;
    let found = select.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    if found != schema::SCHEMA {
        return damaged("its tables are not a plan's");
    }
    if trust == Trust::Nothing
        && let Some(damage) = check_rows(connection)?
    {
        return damaged(damage);
    }
    let Some(header) = Header::read(connection)? else { return damaged("its head is not what was written") };
    connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")?;
    connection.execute("INSERT OR REPLACE INTO plan VALUES ('owner', ?1)", [lock::this_owner()])?;
    Ok(Ok(header))
}

/// What is wrong with the rows and the changes.
fn check_rows(connection: &Connection) -> rusqlite::Result<Option<&'static str>> {
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if sound != "ok" {
        return Ok(Some("SQLite finds it unsound"));
    }
    let (mut rows, mut edits) = (0_i64, 0_i64);
    let mut select = connection.prepare(schema::SELECT_ROWS)?;
    for row in select.query_map([-1, i64::MAX], StoredRow::read)? {
        let Some(row) = row? else { return Ok(Some("a row is not what was written")) };
        if row.status != SENDING && Status::from_name(&row.status).is_none() {
            return Ok(Some("a row has a status that is none"));
        }
        rows += 1;
    }
    let mut select = connection.prepare(schema::SELECT_EDITS_BETWEEN)?;
    for edit in select.query_map([i64::MIN, i64::MAX], schema::read_edit)? {
        if edit?.is_none() {
            return Ok(Some("a change is not what was written"));
        }
        edits += 1;
    }
    let count =
        |key: &str| connection.query_row("SELECT value FROM plan WHERE key = ?1", [key], |row| row.get::<_, i64>(0));
    let is_whole = (count("rows")?, count("edits")?) == (rows, edits);
    Ok((!is_whole).then_some("rows are missing"))
}

/// What the head is checked by: everything about the plan but who has it open.
fn header_checksum(connection: &Connection) -> rusqlite::Result<u32> {
    let mut select =
        connection.prepare("SELECT key, value FROM plan WHERE key NOT IN ('owner', 'sealed') ORDER BY key")?;
    let pairs = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, SqlValue>(1)?)))?;
    let mut sum = Sum::default();
    for pair in pairs {
        let (key, value) = pair?;
        sum.text(Some(&key));
        match value {
            SqlValue::Integer(number) => sum.integer(Some(number)),
            SqlValue::Text(text) => sum.text(Some(&text)),
            SqlValue::Null | SqlValue::Real(_) | SqlValue::Blob(_) => sum.integer(None),
        };
    }
    Ok(sum.0.finalize())
}

fn describe_owner(process: u32, host: &str) -> String {
    if host.is_empty() { format!("process {process}") } else { format!("process {process} on {host}") }
}

/// Makes an empty file that only its owner can read. Gives whether it was not there before; an existing file is not
/// touched, since to open and close it would drop the locks that this process has on it.
fn create_private(path: &Path) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a file that was never finished, and what SQLite may have put beside it.
fn remove(path: &Path) {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut path = path.as_os_str().to_owned();
        path.push(suffix);
        let _ = fs::remove_file(path);
    }
}
