//! The only writer of a plan's file.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::PlanFile;
use super::error::{FileError, FileErrorKind};
use super::session::Session;
use super::writer::{Record, Write, Writer, Written};
use crate::lock::lock;
use crate::per_process::Process;

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

    /// Hands a record over immediately, so that records are stored in the order of the calls. On the disk when this
    /// completes.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be written, which is then unchanged, or if it was moved or replaced.
    pub fn store(&self, record: Record) -> impl Future<Output = Result<(), FileError>> + use<> {
        let written = self.write(Write::Record(record));
        async move { written.await.map(drop) }
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
