//! The plan file: one SQLite file with every row, what it changes, and what became of it. No key is ever in it.
//!
//! `sending` is committed before the first byte of an update leaves, its outcome before it is reported, both on the disk.
//! After a crash only rows in flight are `sending`, and only those are sent again.

mod builder;
mod check;
mod error;
mod header;
mod lock;
mod presence;
mod report;
mod rows;
mod schema;
mod writer;

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

pub use self::builder::Builder;
use self::check::Trust;
pub use self::error::{FileError, FileErrorKind};
pub use self::header::Header;
use self::lock::Lock;
pub use self::rows::{ChangeView, OpenRow, PlannedRow, RowView};
use self::schema::StoredRequest;
use self::writer::{Write, Writer};
use super::Status;
use crate::per_process::Process;

const HOUR_MS: i64 = 3_600_000;

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
        let opened = check::connect(path).and_then(|connection| Ok((check::check(&connection, trust)?, connection)));
        let refused = match opened {
            Ok((Ok(header), connection)) => return Self::with(path, header, connection, lock),
            Ok((Err(kind), _)) => FileError::new(path, kind),
            Err(error) => FileError::of_sqlite(path, &error),
        };
        lock.abandon();
        Err(refused)
    }

    fn with(path: &Path, header: Header, connection: Connection, lock: Lock) -> Result<Self, FileError> {
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

    /// When requests were sent in the last hour, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read or written.
    pub fn recent_requests(&self, now_ms: i64) -> Result<Vec<i64>, FileError> {
        // A clock that was set back must not hold the job up for longer than an hour.
        let counts =
            move |request: &&StoredRequest| (now_ms - HOUR_MS + 1..=now_ms + HOUR_MS).contains(&request.sent_at);
        let found = self.ask(move |connection| {
            let Some(requests) = StoredRequest::read_all(connection)? else { return Ok(None) };
            let first = requests.iter().find(counts).map_or(i64::MAX, |request| request.number);
            // Only from the beginning, so that the numbers of the others still follow each other.
            connection.execute("DELETE FROM requests WHERE number < ?1", [first])?;
            let mut moments: Vec<i64> =
                requests.iter().filter(counts).map(|request| request.sent_at.min(now_ms)).collect();
            moments.sort_unstable();
            Ok(Some(moments))
        })?;
        found.ok_or_else(|| FileError::new(self.path(), FileErrorKind::Damaged(check::REQUESTS.to_owned())))
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
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
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
