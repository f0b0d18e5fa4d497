//! The only thread that writes a plan's file. It groups the writes of the rows in flight into one commit.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::oneshot;

use super::error::{FileError, FileErrorKind};
use super::rows::{Attempt, Finished, Unplanned};
use super::schema::{self, StoredEdit, StoredRequest, StoredRow};
use super::session::Session;
use super::simulation;
use super::state::{self, AtRisk, ItemsProof, Members};
use crate::account::{Field, FieldSet};
use crate::lock::lock;
use crate::plan::{Change, HOUR_MS, Status, Value};

/// The most writes in one commit.
const MOST_TOGETHER: usize = 1_024;

/// The statuses of rows that a run may send, perhaps with an option.
const MAY_BE_SENT: [Status; 4] = [Status::Pending, Status::Unknown, Status::Failed, Status::Conflict];

/// What a run writes to the plan file.
#[derive(Debug, PartialEq, Eq)]
pub enum Record {
    /// From now on, the update of a row may have been applied. Each value that the update overwrites and that differs
    /// from the plan becomes the `before` of its change.
    Sent {
        /// The row.
        row: u64,
        /// What else the update may alter.
        attempt: Attempt,
        /// When, in milliseconds since 1970.
        at_ms: i64,
    },
    /// The outcome of a row.
    Finish {
        /// The row.
        row: u64,
        /// Its outcome.
        finished: Finished,
    },
    /// An update that was marked as sent was not applied. The values that it would have overwritten are still there, so
    /// these fields get their values at planning again.
    NotSent {
        /// The row.
        row: u64,
        /// The values at planning.
        before: Vec<(Field, Value)>,
    },
    /// Whether the list's items are complete.
    Items(ItemsProof),
    /// Members that an update cleared because it cannot include them.
    Cleared(Vec<String>),
    /// What the update of a row without an answer did to members is known, or no longer matters: it cleared these, and
    /// no others; or its account still had them when it was read after that, and no longer exists.
    Lost {
        /// The row.
        row: u64,
        /// The members, with their values before.
        members: Members,
    },
    /// The times of requests that belong to no row, in milliseconds since 1970.
    Requests(Vec<i64>),
}

/// An order to the thread.
pub(super) enum Write {
    Record(Record),
    RecentRequests { now: i64 },
}

/// The result of a write.
pub(super) enum Written {
    Done,
    Moments(Vec<i64>),
}

type Reply = oneshot::Sender<Result<Written, FileError>>;

/// The handle on the thread. Dropping it ends the thread and the run.
pub(super) struct Writer {
    path: PathBuf,
    orders: Option<Sender<(Write, Reply)>>,
    thread: Option<JoinHandle<()>>,
    /// A simulation has no thread.
    here: Mutex<Option<Commits>>,
}

/// The commits of a run.
struct Commits {
    session: Session,
    /// The rows that this run marked as sent. They are as before if the update was not sent.
    marked: HashMap<u64, Marked>,
}

/// What marking a row as sent replaced and added.
#[derive(Clone)]
struct Marked {
    former: StoredRow,
    unnamed: Vec<Field>,
}

impl Writer {
    pub(super) fn start(path: &Path, session: Session) -> Result<Self, FileError> {
        let commits = Commits { session, marked: HashMap::new() };
        if simulation::is_on() {
            return Ok(Self { path: path.to_owned(), orders: None, thread: None, here: Mutex::new(Some(commits)) });
        }
        let (orders, receiver) = channel();
        let owned = path.to_owned();
        let work = move || work(&owned, commits, &receiver);
        let thread = thread::Builder::new().name("replyio-plan-file".to_owned()).spawn(work);
        let thread = thread.map_err(|error| FileError::new(path, FileErrorKind::Io(error.to_string())))?;
        Ok(Self { path: path.to_owned(), orders: Some(orders), thread: Some(thread), here: Mutex::default() })
    }

    /// Sends a write to the thread. It is on the disk when this completes.
    pub(super) fn write(&self, write: Write) -> impl Future<Output = Result<Written, FileError>> + use<> {
        let (reply, answer) = oneshot::channel();
        let is_taken = self.hand_over(write, reply);
        let ended = FileError::new(&self.path, FileErrorKind::Lost("its run has ended".to_owned()));
        async move {
            if !is_taken {
                return Err(ended);
            }
            answer.await.unwrap_or(Err(ended))
        }
    }

    fn hand_over(&self, write: Write, reply: Reply) -> bool {
        if let Some(commits) = lock(&self.here).as_mut() {
            commits.commit(&self.path, vec![(write, reply)]);
            return true;
        }
        self.orders.as_ref().is_some_and(|orders| orders.send((write, reply)).is_ok())
    }

    /// A forked child has no such thread, and the connection belongs to the parent.
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
        if let Some(commits) = self.here.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            commits.session.end();
        }
    }
}

fn work(path: &Path, mut commits: Commits, orders: &Receiver<(Write, Reply)>) {
    while let Ok(first) = orders.recv() {
        let together = std::iter::once(first).chain(orders.try_iter().take(MOST_TOGETHER - 1));
        commits.commit(path, together.collect());
    }
    commits.session.end();
}

impl Commits {
    /// Commits several writes together, and answers each of them.
    fn commit(&mut self, path: &Path, together: Vec<(Write, Reply)>) {
        let (writes, replies): (Vec<Write>, Vec<Reply>) = together.into_iter().unzip();
        let Self { session, marked } = self;
        let before = marked.clone();
        let committed = session.commit(|connection| {
            writes.iter().map(|write| apply(connection, marked, write)).collect::<rusqlite::Result<Vec<Written>>>()
        });
        match committed {
            Ok(written) => replies.into_iter().zip(written).for_each(|(reply, written)| drop(reply.send(Ok(written)))),
            Err(kind) => {
                *marked = before;
                let error = FileError::new(path, kind);
                for reply in replies {
                    drop(reply.send(Err(error.clone())));
                }
            }
        }
    }
}

fn apply(connection: &Connection, marked: &mut HashMap<u64, Marked>, write: &Write) -> rusqlite::Result<Written> {
    match write {
        Write::Record(record) => store(connection, marked, record).map(|()| Written::Done),
        Write::RecentRequests { now } => recent_requests(connection, *now).map(Written::Moments),
    }
}

fn store(connection: &Connection, marked: &mut HashMap<u64, Marked>, record: &Record) -> rusqlite::Result<()> {
    match record {
        Record::Sent { row, attempt: Attempt { overwritten, unnamed, at_risk }, at_ms } => {
            if !at_risk.is_empty() {
                add_at_risk(connection, *row, at_risk)?;
            }
            StoredRequest::add(connection, *at_ms)?;
            state::count_sent(connection)?;
            set_before(connection, *row, overwritten)?;
            // A revert has values from its plan already.
            let mut added = Vec::new();
            for value in unnamed {
                if insert_unnamed(connection, *row, value)? {
                    added.push(value.0);
                }
            }
            change(connection, *row, |stored| {
                if stored.status == Status::Unknown.as_str() {
                    stored.repeated += 1;
                } else {
                    marked.insert(*row, Marked { former: stored.clone(), unnamed: added });
                }
                Status::Unknown.as_str().clone_into(&mut stored.status);
                stored.error = None;
                // In a revert of this plan, it decides which file wrote the row last.
                stored.finished_at_ms = Some(*at_ms);
            })?;
        }
        Record::Finish { row, finished } => {
            let Finished { status, error, stored_otherwise, can_overwrite, answered, unplanned, altered, left, at_ms } =
                finished;
            let marked = marked.remove(row);
            let mut stored = stored_row(connection, *row)?;
            if stored.stored_otherwise || !answered.is_empty() {
                change_edits(connection, *row, |edit| {
                    let found = answered.iter().find(|(field, _)| *field == edit.change.field);
                    edit.answered = found.map(|(_, value)| value.clone());
                })?;
            }
            let spoiled = unplanned.iter().map(|unplanned| unplanned.field);
            left.iter().copied().chain(spoiled).try_for_each(|field| delete_unplanned(connection, *row, field))?;
            match status {
                // While the outcome is unknown, so is the effect of the update on the other fields.
                Status::Unknown => {}
                // The row of a revert still has the values that its plan stored, because another run may write it.
                Status::Conflict | Status::Failed => {
                    let added = marked.into_iter().flat_map(|marked| marked.unnamed);
                    added.into_iter().try_for_each(|field| delete_unplanned(connection, *row, field))?;
                }
                _ => {
                    let kept = delete_unnamed(connection, *row)?;
                    if *status == Status::Changed {
                        stored.listed &= kept.bits();
                    }
                }
            }
            status.as_str().clone_into(&mut stored.status);
            stored.error.clone_from(error);
            stored.stored_otherwise = *stored_otherwise || !(answered.is_empty() && unplanned.is_empty());
            stored.can_overwrite = *can_overwrite;
            // A row whose outcome stays unknown was sent when it was marked as sent.
            if *status != Status::Unknown || stored.finished_at_ms.is_none() {
                stored.finished_at_ms = *at_ms;
            }
            stored.update(connection)?;
            unplanned.iter().try_for_each(|unplanned| insert_unplanned(connection, *row, unplanned))?;
            altered.iter().try_for_each(|value| insert_unnamed(connection, *row, value).map(drop))?;
        }
        Record::NotSent { row, before } => {
            set_before(connection, *row, before)?;
            if let Some(Marked { former, unnamed }) = marked.remove(row) {
                unnamed.into_iter().try_for_each(|field| delete_unplanned(connection, *row, field))?;
                change(connection, *row, |row| *row = former)?;
            }
        }
        Record::Lost { row, members } => {
            end_doubt(connection, *row)?;
            let of_row = |(name, value): (&String, &_)| (name.clone(), BTreeMap::from([(*row, Clone::clone(value))]));
            state::add_cleared(connection, members.iter().map(of_row).collect())?;
        }
        Record::Requests(moments) => moments.iter().try_for_each(|at| StoredRequest::add(connection, *at))?,
        Record::Items(items) => state::set_items(connection, *items)?,
        Record::Cleared(members) => {
            let of_no_row = |name: &String| (name.clone(), BTreeMap::new());
            state::add_cleared(connection, members.iter().map(of_no_row).collect())?;
        }
    }
    Ok(())
}

/// Stores which members the next update may clear. Forgets those of rows whose outcomes are final.
fn add_at_risk(connection: &Connection, row: u64, members: &Members) -> rusqlite::Result<()> {
    let (mut at_risk, mut is_of_parent) = (Vec::new(), false);
    for older in state::at_risk(connection)? {
        let stored = stored_row(connection, older.row)?;
        if older.row == row {
            is_of_parent = older.is_of_parent;
        } else if !older.members.is_empty() && MAY_BE_SENT.iter().any(|status| stored.status == status.as_str()) {
            at_risk.push(older);
        }
    }
    at_risk.push(AtRisk { row, members: members.clone(), is_of_parent });
    state::set_at_risk(connection, &at_risk)
}

/// Stores that the update of a row is no longer in doubt. The row keeps its place, so that an older one is not taken
/// for the newest.
fn end_doubt(connection: &Connection, row: u64) -> rusqlite::Result<()> {
    let mut at_risk = state::at_risk(connection)?;
    at_risk.iter_mut().filter(|one| one.row == row).for_each(|one| one.members.clear());
    state::set_at_risk(connection, &at_risk)
}

fn change(connection: &Connection, row: u64, change: impl FnOnce(&mut StoredRow)) -> rusqlite::Result<()> {
    let mut stored = stored_row(connection, row)?;
    change(&mut stored);
    stored.update(connection)
}

fn stored_row(connection: &Connection, row: u64) -> rusqlite::Result<StoredRow> {
    let number = i64::try_from(row).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(schema::SELECT_ROW)?;
    // A damaged row is an error, so that no other row is marked instead.
    let stored = select.query_row([number], StoredRow::read).optional()?.flatten();
    stored.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// Stores the values of a row's fields before the row changes them.
fn set_before(connection: &Connection, row: u64, before: &[(Field, Value)]) -> rusqlite::Result<()> {
    if before.is_empty() {
        return Ok(());
    }
    change_edits(connection, row, |edit| {
        if let Some((_, value)) = before.iter().find(|(field, _)| *field == edit.change.field) {
            edit.change.before.clone_from(value);
        }
    })
}

/// Stores the value of a field that the row does not name. Returns whether the file did not have one.
fn insert_unnamed(connection: &Connection, row: u64, (field, value): &(Field, Value)) -> rusqlite::Result<bool> {
    let change = Change { field: *field, before: value.clone(), after: value.clone(), is_planned: false };
    let mut insert = connection.prepare_cached(schema::INSERT_UNNAMED)?;
    schema::insert_edit(&mut insert, i64::try_from(row).unwrap_or(i64::MAX), &change, None).map(|inserted| inserted > 0)
}

/// Removes the values of such fields that no answer has confirmed. Returns the fields.
fn delete_unnamed(connection: &Connection, row: u64) -> rusqlite::Result<FieldSet> {
    let mut delete = connection.prepare_cached(schema::DELETE_UNNAMED)?;
    let names = delete.query_map([i64::try_from(row).unwrap_or(i64::MAX)], |row| row.get::<_, String>(0))?;
    names.filter_map(|name| name.map(|name| Field::from_name(&name)).transpose()).collect()
}

/// Removes what is stored of a field that the row does not name.
fn delete_unplanned(connection: &Connection, row: u64, field: Field) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached(schema::DELETE_UNPLANNED)?;
    delete.execute(rusqlite::params![i64::try_from(row).unwrap_or(i64::MAX), field.name()]).map(drop)
}

/// Stores the values of a field that the row does not name, so that a revert can restore it.
fn insert_unplanned(connection: &Connection, row: u64, unplanned: &Unplanned) -> rusqlite::Result<()> {
    let Unplanned { field, before, answered } = unplanned.clone();
    let change = Change { field, before: before.clone(), after: before, is_planned: false };
    let mut insert = connection.prepare_cached(schema::INSERT_EDIT)?;
    schema::insert_edit(&mut insert, i64::try_from(row).unwrap_or(i64::MAX), &change, Some(&answered)).map(drop)
}

/// Updates what the file stores about each field of a row.
fn change_edits(connection: &Connection, row: u64, mut change: impl FnMut(&mut StoredEdit)) -> rusqlite::Result<()> {
    let number = i64::try_from(row).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(schema::SELECT_EDITS)?;
    let edits = select.query_map([number], StoredEdit::read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    for edit in edits {
        let mut edit = edit.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        let before = edit.clone();
        change(&mut edit);
        if edit != before {
            edit.update(connection)?;
        }
    }
    Ok(())
}

/// Updates every row of two statuses that changes something.
pub(super) fn each_of(
    connection: &Connection,
    statuses: [Status; 2],
    change: impl Fn(&mut StoredRow),
) -> rusqlite::Result<()> {
    const STEP: i64 = 10_000;
    let [one, other] = statuses.map(Status::as_str);
    let mut select = connection.prepare_cached(schema::SELECT_CHANGING_ROWS_OF)?;
    let mut last = -1;
    loop {
        let rows = select.query_map(rusqlite::params![one, other, last, STEP], StoredRow::read)?;
        let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            let mut row = row.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            last = row.row;
            change(&mut row);
            row.update(connection)?;
        }
    }
}

/// Forgets requests older than an hour, and returns the times of the others.
fn recent_requests(connection: &Connection, now: i64) -> rusqlite::Result<Vec<i64>> {
    // A clock that was set back must not delay the job by more than an hour.
    let counts = |request: &&StoredRequest| (now - HOUR_MS + 1..=now + HOUR_MS).contains(&request.sent_at);
    let requests = StoredRequest::read_all(connection)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    // Only from the beginning, so that the numbers of the others stay consecutive.
    let first = requests.iter().find(counts).map(|request| request.number);
    let mut delete = connection.prepare_cached("DELETE FROM requests WHERE number < ?1")?;
    delete.execute([first.unwrap_or(i64::MAX)])?;
    let last = requests.last().map(|request| request.number);
    state::set_requests(connection, first.zip(last))?;
    let mut moments: Vec<i64> = requests.iter().filter(counts).map(|request| request.sent_at.min(now)).collect();
    moments.sort_unstable();
    Ok(moments)
}
