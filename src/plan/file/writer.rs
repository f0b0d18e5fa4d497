//! The one thread that has the file: it groups what the rows in flight want written into one commit.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use super::error::{FileError, FileErrorKind};
use super::lock::Lock;
use super::schema::{self, SENDING, StoredRequest, StoredRow};
use crate::plan::Status;

/// At most so many are committed together.
const MOST_TOGETHER: usize = 1_024;

/// A question that the thread answers.
type Question = Box<dyn FnOnce(&Connection) + Send>;

/// What is to be written.
pub(super) enum Write {
    Sending { row: u64, at: i64 },
    Finish { row: u64, status: Status, error: Option<String>, at: Option<i64> },
    Requeue { row: u64 },
    Requests(Vec<i64>),
    RetryFailed,
}

enum Order {
    Write(Write, oneshot::Sender<Result<u64, FileError>>),
    Ask(Question),
}

/// The handle on the thread. Dropping it ends the thread.
pub(super) struct Writer {
    path: PathBuf,
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(path: &Path, connection: Connection, lock: Lock) -> Result<Self, FileError> {
        let (orders, receiver) = channel();
        let owned = path.to_owned();
        let work = move || {
            work(&owned, &connection, &receiver);
            // The last connection moves everything into the one file, and only then is the lock free.
            drop(connection);
            drop(lock);
        };
        let thread = thread::Builder::new().name("replyio-plan-file".to_owned()).spawn(work);
        let thread = thread.map_err(|error| FileError::new(path, FileErrorKind::Io(error.to_string())))?;
        Ok(Self { path: path.to_owned(), orders: Some(orders), thread: Some(thread) })
    }

    /// The same at once, since time stands still in the simulation while anything works.
    #[cfg(feature = "simulation")]
    pub(super) fn write(&self, write: Write) -> impl Future<Output = Result<u64, FileError>> + use<> {
        use crate::simulation::{Disk, after_write, before_write};
        let closed = || FileError::new(&self.path, FileErrorKind::Closed);
        let mut written = match before_write(&self.path) {
            Disk::Works => {
                let (reply, mut answer) = oneshot::channel();
                let sent = self.orders.as_ref().is_some_and(|orders| orders.send(Order::Write(write, reply)).is_ok());
                loop {
                    match answer.try_recv() {
                        Ok(written) => break Some(written),
                        Err(oneshot::error::TryRecvError::Empty) if sent => thread::yield_now(),
                        Err(_) => break Some(Err(closed())),
                    }
                }
            }
            Disk::Fails => Some(Err(FileError::new(&self.path, FileErrorKind::Io("the disk has failed".to_owned())))),
            Disk::Dead => None,
        };
        if after_write(&self.path) == Disk::Dead {
            written = None;
        }
        async move {
            match written {
                Some(written) => written,
                None => std::future::pending().await,
            }
        }
    }

    /// Has something written. It is on the disk when this is ready.
    #[cfg(not(feature = "simulation"))]
    pub(super) fn write(&self, write: Write) -> impl Future<Output = Result<u64, FileError>> + use<> {
        let (reply, answer) = oneshot::channel();
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(Order::Write(write, reply)).is_ok());
        let closed = FileError::new(&self.path, FileErrorKind::Closed);
        async move {
            if !sent {
                return Err(closed);
            }
            answer.await.unwrap_or(Err(closed))
        }
    }

    /// Asks something and waits for the answer.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> T + Send + 'static,
    ) -> Result<T, FileError> {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        let ask = Order::Ask(Box::new(move |connection| drop(reply.send(question(connection)))));
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(ask).is_ok());
        let closed = || FileError::new(&self.path, FileErrorKind::Closed);
        if sent { answer.recv().map_err(|_| closed()) } else { Err(closed()) }
    }

    /// In a forked child there is no thread to wait for, and the connection is the parent's.
    pub(super) fn forget(&mut self) {
        std::mem::forget((self.orders.take(), self.thread.take()));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(path: &Path, connection: &Connection, orders: &Receiver<Order>) {
    let mut question = None;
    loop {
        if let Some(question) = question.take() {
            let question: Question = question;
            question(connection);
        }
        let mut writes = Vec::new();
        let mut replies = Vec::new();
        let Ok(mut order) = orders.recv() else { return };
        loop {
            match order {
                Order::Write(write, reply) => {
                    writes.push(write);
                    replies.push(reply);
                }
                Order::Ask(ask) => {
                    question = Some(ask);
                    break;
                }
            }
            match orders.try_recv() {
                Ok(next) if writes.len() < MOST_TOGETHER => order = next,
                Ok(Order::Ask(ask)) => {
                    question = Some(ask);
                    break;
                }
                Ok(Order::Write(write, reply)) => {
                    writes.push(write);
                    replies.push(reply);
                    break;
                }
                Err(_) => break,
            }
        }
        if writes.is_empty() {
            continue;
        }
        let committed = commit(connection, &writes).map_err(|error| {
            // SQLite may have rolled back by itself.
            let _ = connection.execute_batch("ROLLBACK");
            FileError::of_sqlite(path, &error)
        });
        for (index, reply) in replies.into_iter().enumerate() {
            let counted = committed.as_ref().map(|counts| counts.get(index).copied().unwrap_or_default());
            let _ = reply.send(counted.map_err(Clone::clone));
        }
    }
}

fn commit(connection: &Connection, writes: &[Write]) -> rusqlite::Result<Vec<u64>> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let counts = writes.iter().map(|write| apply(connection, write)).collect::<rusqlite::Result<_>>()?;
    connection.execute_batch("COMMIT")?;
    Ok(counts)
}

fn apply(connection: &Connection, write: &Write) -> rusqlite::Result<u64> {
    match write {
        Write::Sending { row, at } => {
            request(connection, *at)?;
            change(connection, *row, |row| {
                if row.status == SENDING {
                    row.repeated += 1;
                }
                SENDING.clone_into(&mut row.status);
                row.error = None;
            })
        }
        Write::Finish { row, status, error, at } => {
            if let Some(at) = at {
                request(connection, *at)?;
            }
            change(connection, *row, |row| {
                status.as_str().clone_into(&mut row.status);
                row.error.clone_from(error);
            })
        }
        Write::Requeue { row } => change(connection, *row, |row| Status::Pending.as_str().clone_into(&mut row.status)),
        Write::Requests(moments) => {
            moments.iter().try_for_each(|at| request(connection, *at))?;
            Ok(0)
        }
        Write::RetryFailed => retry_failed(connection),
    }
}

fn request(connection: &Connection, at: i64) -> rusqlite::Result<()> {
    let last: i64 = connection.prepare_cached(schema::LAST_REQUEST)?.query_row([], |row| row.get(0))?;
    let request = StoredRequest { number: last.saturating_add(1), sent_at: at };
    let mut insert = connection.prepare_cached(schema::INSERT_REQUEST)?;
    insert.execute(params![request.number, request.sent_at, request.checksum()]).map(drop)
}

fn change(connection: &Connection, row: u64, change: impl FnOnce(&mut StoredRow)) -> rusqlite::Result<u64> {
    let number = i64::try_from(row).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(schema::SELECT_ROW)?;
    // A row that is damaged is no row: better an error than a mark on something else.
    let stored = select.query_row([number], StoredRow::read).optional()?.flatten();
    let mut stored = stored.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    change(&mut stored);
    write_row(connection, &stored)?;
    Ok(1)
}

fn write_row(connection: &Connection, row: &StoredRow) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(schema::UPDATE_ROW)?;
    update.execute(params![row.row, row.status, row.error, row.repeated, row.checksum()]).map(drop)
}

fn retry_failed(connection: &Connection) -> rusqlite::Result<u64> {
    let mut select = connection.prepare(
        "SELECT row, account_id, matched_by, status, error, position, repeated, checksum FROM rows \
         WHERE status IN ('failed', 'unknown', 'conflict')",
    )?;
    let rows = select.query_map([], StoredRow::read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut count = 0;
    for mut row in rows.into_iter().flatten() {
        Status::Pending.as_str().clone_into(&mut row.status);
        row.error = None;
        write_row(connection, &row)?;
        count += 1;
    }
    Ok(count)
}
