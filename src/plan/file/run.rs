//! The only writer of a plan's file.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::PlanFile;
use super::error::{FileError, FileErrorKind};
use super::rows::{Attempt, Finished};
use super::session::Session;
use super::state::ItemsProof;
use super::writer::{Write, Writer, Written};
use crate::account::Field;
use crate::lock::lock;
use crate::per_process::Process;
use crate::plan::Value;

/// The only run of a plan: it holds the plan's lock, and writes. Clones are handles on the same run. Dropping the last
/// one ends the run: it moves everything into the one file, and releases the lock.
#[derive(Clone)]
pub struct Run(Arc<Inner>);

struct Inner {
    file: PlanFile,
    process: Process,
    writer: Mutex<Writer>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if Process::current() != self.process {
            self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).forget();
        }
    }
}

impl Run {
    pub(super) fn start(file: &PlanFile) -> Result<Self, FileError> {
        let session = Session::claim(file.real_path(), &file.header().identity)?;
        let writer = Mutex::new(Writer::start(file.path(), session)?);
        Ok(Self(Arc::new(Inner { file: file.clone(), process: Process::current(), writer })))
    }

    /// Returns the plan of the run.
    pub fn file(&self) -> &PlanFile {
        &self.0.file
    }

    /// Marks a row: from now on its update may have been applied. Each value that the update overwrites and that
    /// differs from the plan becomes the `before` of its change. On the disk when this completes.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be written; nothing is then marked, and nothing may be sent.
    pub async fn sending(&self, row: u64, overwritten: Vec<(Field, Value)>, at_ms: i64) -> Result<(), FileError> {
        self.trying(row, Attempt { overwritten, ..Attempt::default() }, at_ms).await
    }

    /// Marks a row like [`Run::sending`], and stores what else the update may alter. On the disk when this completes,
    /// both or neither.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be written; nothing is then marked, and nothing may be sent.
    pub async fn trying(&self, row: u64, attempt: Attempt, at_ms: i64) -> Result<(), FileError> {
        self.write(Write::Sending { row, attempt, at: at_ms }).await.map(drop)
    }

    /// Stores the outcome of a row. On the disk when this completes.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be written; the row is then unchanged.
    pub async fn finish(&self, row: u64, finished: Finished) -> Result<(), FileError> {
        self.write(Write::Finish { row, finished }).await.map(drop)
    }

    /// Makes a row pending again whose update is known not to have been applied. `before` contains the values at
    /// planning of the fields that the update would have overwritten.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be written; the row is then unchanged.
    pub async fn not_sent(&self, row: u64, before: Vec<(Field, Value)>) -> Result<(), FileError> {
        self.write(Write::NotSent { row, before }).await.map(drop)
    }

    /// Stores what the run learned about list items.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be written.
    pub async fn set_items(&self, items: ItemsProof) -> Result<(), FileError> {
        self.write(Write::Items(items)).await.map(drop)
    }

    /// Stores members that an update cleared.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be written.
    pub async fn add_cleared(&self, members: Vec<String>) -> Result<(), FileError> {
        self.write(Write::Cleared(members)).await.map(drop)
    }

    /// Hands a write over immediately, so that writes are stored in the order of the calls. On the disk when this
    /// completes.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be written.
    pub(in crate::plan) fn store(&self, write: Write) -> impl Future<Output = Result<(), FileError>> + use<> {
        let written = self.write(write);
        async move { written.await.map(drop) }
    }

    /// Stores the times of requests that belong to no row.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be written.
    pub async fn note_requests(&self, sent_at_ms: Vec<i64>) -> Result<(), FileError> {
        self.write(Write::Requests(sent_at_ms)).await.map(drop)
    }

    /// Returns the times of the requests in the last hour, in milliseconds since 1970.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read or written.
    pub fn recent_requests(&self, now_ms: i64) -> Result<Vec<i64>, FileError> {
        self.wait(Write::RecentRequests { now: now_ms }).map(|written| match written {
            Written::Moments(moments) => moments,
            Written::Done => Vec::new(),
        })
    }

    /// Waits for a write without a runtime: the writing thread answers with or without one.
    fn wait(&self, write: Write) -> Result<Written, FileError> {
        let mut writing = Box::pin(self.write(write));
        let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = std::task::Context::from_waker(&waker);
        loop {
            if let std::task::Poll::Ready(written) = writing.as_mut().poll(&mut context) {
                return written;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn write(&self, write: Write) -> impl Future<Output = Result<Written, FileError>> + use<> {
        let started = if Process::current() == self.0.process {
            Ok(lock(&self.0.writer).write(write))
        } else {
            Err(FileError::new(self.0.file.path(), FileErrorKind::Forked))
        };
        async move { started?.await }
    }
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
