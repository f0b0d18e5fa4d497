//! Writing what a plan says, with a look at every account before.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::control::{Control, Phase};
use super::pace::{Admission, Pace, Verdict};
use super::sent::{now_ms, sent_now, unknown_yet};
use super::{ROUNDS, RunError};
use crate::account::{AccountFields, ContactAccount};
use crate::answer::Item;
use crate::client::{Client, ListQuery, Observer};
use crate::error::{Error, ErrorKind};
use crate::plan::diff::{self, Drift};
use crate::plan::file::{FileError, OpenRow, PlanFile};
use crate::plan::planner::{Look, looks, next_look};
use crate::plan::{Change, Status};

/// How many rows are in flight at once, unless it is said otherwise.
pub const CONCURRENCY: usize = 8;
/// An account looked at longer ago is looked at again before it is written.
const FRESH: Duration = Duration::from_secs(120);
/// Rows behind one look when no quota says how many go out in a minute.
const MOST_ON_A_LOOK: usize = 1_000;

/// What to do with a field that somebody else changed between plan and apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnConflict {
    /// The row stays as it is, as a conflict.
    #[default]
    Skip,
    /// The plan's value is written.
    Overwrite,
}

/// How many requests it takes to apply what is left of a plan.
pub fn requests_to_apply(client: &Client, rows: &[OpenRow]) -> u64 {
    rows.len() as u64 + looks(rows, rows_on_a_look(client))
}

fn rows_on_a_look(client: &Client) -> usize {
    let per_minute = client.config().quota.map_or(MOST_ON_A_LOOK, |quota| quota.per_minute as usize);
    per_minute.saturating_sub(1).clamp(1, MOST_ON_A_LOOK)
}

/// A row that was looked at and is about to be written.
struct Ready {
    row: OpenRow,
    changes: Vec<Change>,
    account: ContactAccount,
    looked_at: Instant,
}

/// What came back.
enum Back {
    Looked {
        look: Vec<OpenRow>,
        result: Result<Vec<ContactAccount>, Error>,
    },
    Wrote {
        row: OpenRow,
        result: Result<(), Error>,
    },
    /// It was not sent, since everything was to be held back by then.
    Held {
        row: OpenRow,
    },
    /// It was given up, since the run is to stop.
    Stopped,
    Broken(FileError),
}

/// Applies what is left of a plan. Comes back when nothing is left, or when it is to stop and nothing is in flight.
///
/// # Errors
/// [`RunError`]; every row is then as it was, or as the file says.
pub async fn apply(
    client: &Client,
    file: &PlanFile,
    on_conflict: OnConflict,
    concurrency: usize,
    control: &Arc<Control>,
    observer: Option<Arc<dyn Observer>>,
) -> Result<(), RunError> {
    let now = now_ms();
    let foreign = unknown_yet(file.recent_requests(now)?);
    client.count_earlier(foreign.into_iter().map(|sent| Duration::from_millis(u64::try_from(now - sent).unwrap_or(0))));
    let rows = file.open_rows()?;
    let done = file.rows_done()?;
    {
        let mut progress = control.state();
        progress.phase = Phase::Writing;
        // Who goes on wants to see how far the plan is, not how far this run of it.
        progress.rows = done + rows.len() as u64;
        progress.done = done;
        progress.requests_left = requests_to_apply(client, &rows);
    }
    let run = Apply {
        pace: Pace::new(client, control, observer),
        file: file.clone(),
        on_conflict,
        concurrency: concurrency.max(1),
        most_on_a_look: rows_on_a_look(client),
        todo: rows.into(),
        singly: VecDeque::new(),
        ready: VecDeque::new(),
        rounds: HashMap::new(),
        in_flight: JoinSet::new(),
        looking: 0,
        writing: 0,
        is_proven: false,
    };
    run.run_to_end().await
}

struct Apply {
    pace: Pace,
    file: PlanFile,
    on_conflict: OnConflict,
    concurrency: usize,
    most_on_a_look: usize,
    /// In the order of their place in the list.
    todo: VecDeque<OpenRow>,
    /// To be read one by one: not where they were expected, or tried before.
    singly: VecDeque<OpenRow>,
    ready: VecDeque<Ready>,
    rounds: HashMap<u64, u32>,
    in_flight: JoinSet<Back>,
    /// How many looks are in flight.
    looking: u32,
    /// How many updates are.
    writing: u32,
    /// Whether the service takes updates from this key, so that more than one may be in flight.
    is_proven: bool,
}

impl Apply {
    async fn run_to_end(mut self) -> Result<(), RunError> {
        enum Next {
            Back(Result<Back, JoinError>),
            Admitted(Option<Admission>),
        }
        let mut fatal = None;
        loop {
            let goes_on = fatal.is_none() && !self.pace.control.is_stopping();
            let wants_more = goes_on && self.in_flight.len() < self.concurrency && self.has_more();
            // What comes back counts before anything new goes out: it may say to wait, and to stop.
            let next = if wants_more {
                tokio::select! {
                    biased;
                    Some(back) = self.in_flight.join_next() => Next::Back(back),
                    admitted = self.pace.admit() => Next::Admitted(admitted),
                }
            } else {
                match self.in_flight.join_next().await {
                    Some(back) => Next::Back(back),
                    None => break,
                }
            };
            let outcome = match next {
                Next::Admitted(None) => Ok(()),
                Next::Admitted(Some(admission)) => self.start(admission).await,
                Next::Back(Ok(back)) => self.take(back).await,
                Next::Back(Err(_)) => Err(RunError::File(FileError::internal("a row's task ended without a result"))),
            };
            let repeated = self.pace.take_repeated();
            let noted = if repeated.is_empty() { Ok(()) } else { self.file.note_requests(repeated).await };
            if let Err(error) = outcome.and(noted.map_err(RunError::from)) {
                // What is in flight still comes to its end, so that the file says what became of it.
                fatal.get_or_insert(error);
            }
        }
        fatal.map_or(Ok(()), Err)
    }

    fn wants_look(&self) -> bool {
        let has_rows = !(self.todo.is_empty() && self.singly.is_empty());
        has_rows && self.looking == 0 && self.ready.len() < self.concurrency
    }

    /// Whether there is a request to start now.
    fn has_more(&self) -> bool {
        let may_write = self.writing == 0 || (self.is_proven && !self.pace.is_out());
        self.wants_look() || (may_write && !self.ready.is_empty())
    }

    /// Starts the next request, which is admitted.
    async fn start(&mut self, admission: Admission) -> Result<(), RunError> {
        // The wait may have been long.
        let stale = |ready: &Ready| ready.looked_at.elapsed() > FRESH;
        if self.ready.front().is_some_and(stale) {
            let rows = std::mem::take(&mut self.ready).into_iter().map(|ready| ready.row).collect();
            self.put_back(rows);
            return self.start_look(admission).await;
        }
        if self.wants_look() {
            return self.start_look(admission).await;
        }
        if let Some(ready) = self.ready.pop_front() {
            self.start_write(ready, admission);
        }
        Ok(())
    }

    /// Starts a look whose request is admitted.
    async fn start_look(&mut self, admission: Admission) -> Result<(), RunError> {
        let look = match self.singly.front() {
            Some(_) => Look::Single(0),
            None => match next_look(self.todo.make_contiguous(), 0, self.most_on_a_look) {
                Some(look) => look,
                None => return Ok(()),
            },
        };
        let rows: Vec<OpenRow> = match self.singly.pop_front() {
            Some(row) => vec![row],
            None => self.todo.drain(..look.end()).collect(),
        };
        self.file.note_requests(vec![sent_now()]).await?;
        self.looking += 1;
        let client = self.pace.client.admitted();
        let (gate, control) = (Arc::clone(&self.pace.gate), Arc::clone(&self.pace.control));
        self.in_flight.spawn(async move {
            let asked = async {
                match (&look, rows.first()) {
                    (Look::Page { top, skip, .. }, _) => {
                        let page = client.list_page(&ListQuery::default(), *top, *skip).await?;
                        // An account that is not wholly on the page is read by itself.
                        let accounts = page.items.into_iter().filter_map(Item::into_account);
                        Ok(accounts.filter(ContactAccount::is_complete).collect())
                    }
                    (Look::Single(_), Some(OpenRow { account_id: Some(id), .. })) => {
                        client.get(*id).await.map(|account| vec![account])
                    }
                    (Look::Single(_), _) => Ok(Vec::new()),
                }
            };
            let result = tokio::select! {
                result = asked => result,
                () = control.stopped() => return Back::Stopped,
            };
            drop(admission);
            gate.heed(&result);
            Back::Looked { look: rows, result }
        });
        Ok(())
    }

    /// Starts a write whose request is admitted.
    fn start_write(&mut self, ready: Ready, admission: Admission) {
        self.writing += 1;
        let (client, file) = (self.pace.client.admitted(), self.file.clone());
        let (gate, control) = (Arc::clone(&self.pace.gate), Arc::clone(&self.pace.control));
        self.in_flight.spawn(async move {
            let Ready { row, changes, account, .. } = ready;
            let Ok(fields) = diff::update(&account, &changes) else {
                return Back::Broken(FileError::internal("a change of the plan is not of its field's kind"));
            };
            if let Err(error) = file.sending(row.row, sent_now()).await {
                return Back::Broken(error);
            }
            if gate.held().is_some() {
                return Back::Held { row };
            }
            let result = client.update(account.id, &fields).await;
            drop(admission);
            gate.heed(&result);
            match result {
                // Here and not where it comes back: that may be in the middle of a long wait.
                Ok(answered) => {
                    match finish(&file, &control, &row, Status::Changed, deviating(&fields, &answered)).await {
                        Ok(()) => Back::Wrote { row, result: Ok(()) },
                        Err(error) => Back::Broken(error),
                    }
                }
                Err(error) => Back::Wrote { row, result: Err(error) },
            }
        });
    }

    async fn take(&mut self, back: Back) -> Result<(), RunError> {
        if !matches!(back, Back::Looked { .. } | Back::Stopped) {
            self.writing = self.writing.saturating_sub(1);
        }
        match back {
            Back::Broken(error) => Err(error.into()),
            Back::Looked { look, result } => {
                self.looking = self.looking.saturating_sub(1);
                self.took_look(look, result).await
            }
            Back::Wrote { row, result } => self.took_write(row, result).await,
            Back::Held { row } => {
                self.unmark(&row).await?;
                self.put_back(vec![row]);
                Ok(())
            }
            Back::Stopped => Ok(()),
        }
    }

    async fn took_look(
        &mut self,
        rows: Vec<OpenRow>,
        result: Result<Vec<ContactAccount>, Error>,
    ) -> Result<(), RunError> {
        let alone = rows.len() == 1;
        let accounts = match result {
            Ok(accounts) => {
                self.pace.answered();
                accounts
            }
            Err(error) => {
                let verdict = self.pace.failed(&error);
                match (verdict, rows.first()) {
                    (Verdict::Own, Some(row)) if alone => {
                        let status =
                            if error.kind() == ErrorKind::NotFound { Status::NotFound } else { Status::Failed };
                        self.finish(row, status, Some(error.to_string())).await?;
                        return Ok(());
                    }
                    (Verdict::Again, Some(row)) if alone => {
                        if error.kind() != ErrorKind::RateLimit && self.is_given_up(row) {
                            let status = if row.was_sending { Status::Unknown } else { Status::Failed };
                            return self.finish(row, status, Some(error.to_string())).await;
                        }
                        self.singly.push_back(*row);
                        return Ok(());
                    }
                    (Verdict::Again, _) => {
                        self.put_back(rows);
                        return Ok(());
                    }
                    _ => return Err(RunError::Call(error)),
                }
            }
        };
        let mut found: HashMap<i64, ContactAccount> =
            accounts.into_iter().map(|account| (account.id, account)).collect();
        let numbers: Vec<u64> = rows.iter().map(|row| row.row).collect();
        let mut planned = self.file.changes_of(&numbers)?;
        let looked_at = Instant::now();
        for row in rows {
            let account = row.account_id.and_then(|id| found.remove(&id));
            let changes = planned.remove(&row.row).unwrap_or_default();
            match account {
                Some(account) => self.looked_at(row, changes, account, looked_at).await?,
                None if alone => {
                    self.finish(&row, Status::NotFound, Some("the account is gone".to_owned())).await?;
                }
                None => {
                    self.pace.control.state().requests_left += 1;
                    self.singly.push_back(row);
                }
            }
        }
        Ok(())
    }

    /// Rows that are to be looked at again, in the order of their place.
    fn put_back(&mut self, rows: Vec<OpenRow>) {
        for row in rows {
            let place = (row.position, row.row);
            let index = self.todo.partition_point(|other| (other.position, other.row) < place);
            self.todo.insert(index, row);
        }
    }

    /// Takes the mark of a row back that was not sent, or refused. One that was sent before keeps it.
    async fn unmark(&self, row: &OpenRow) -> Result<(), FileError> {
        if row.was_sending { Ok(()) } else { self.file.requeue(row.row).await }
    }

    /// Counts a failure of a row, unless the service fails for all. Whether it was the last one.
    fn is_given_up(&mut self, row: &OpenRow) -> bool {
        let rounds = self.rounds.entry(row.row).or_default();
        *rounds += u32::from(!self.pace.is_out());
        *rounds >= ROUNDS
    }

    async fn looked_at(
        &mut self,
        row: OpenRow,
        changes: Vec<Change>,
        account: ContactAccount,
        looked_at: Instant,
    ) -> Result<(), RunError> {
        if changes.is_empty() {
            let error = "its account could not be read when the plan was made; plan this row again".to_owned();
            return self.finish(&row, Status::Failed, Some(error)).await;
        }
        // A row that was in flight is sent again even when it looks done: only an answer of ours tells that it is.
        match diff::drift(&account, &changes) {
            Drift::Done if !row.was_sending => self.finish(&row, Status::Unchanged, None).await?,
            Drift::Conflict(fields) if self.on_conflict == OnConflict::Skip => {
                let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
                let error = format!("{} changed since the plan was made", names.join(", "));
                self.finish(&row, Status::Conflict, Some(error)).await?;
            }
            Drift::None | Drift::Done | Drift::Conflict(_) => {
                self.ready.push_back(Ready { row, changes, account, looked_at });
            }
        }
        Ok(())
    }

    async fn took_write(&mut self, mut row: OpenRow, result: Result<(), Error>) -> Result<(), RunError> {
        let error = match result {
            Ok(()) => {
                self.pace.succeeded();
                self.is_proven = true;
                return Ok(());
            }
            Err(error) => error,
        };
        row.was_sending |= matches!(&error, Error::Call(call) if call.may_have_been_applied);
        let fell_short = if row.was_sending { Status::Unknown } else { Status::Failed };
        match self.pace.failed(&error) {
            Verdict::Own => {
                self.pace.succeeded();
                self.is_proven = true;
                let status = if error.kind() == ErrorKind::NotFound { Status::NotFound } else { fell_short };
                self.finish(&row, status, Some(error.to_string())).await
            }
            Verdict::Again => {
                if error.kind() == ErrorKind::RateLimit {
                    self.unmark(&row).await?;
                    self.put_back(vec![row]);
                    return Ok(());
                }
                if self.is_given_up(&row) {
                    return self.finish(&row, fell_short, Some(error.to_string())).await;
                }
                self.unmark(&row).await?;
                self.pace.control.state().requests_left += 2;
                self.singly.push_back(row);
                Ok(())
            }
            Verdict::Fatal => {
                self.unmark(&row).await?;
                Err(RunError::Call(error))
            }
        }
    }

    async fn finish(&mut self, row: &OpenRow, status: Status, error: Option<String>) -> Result<(), RunError> {
        Ok(finish(&self.file, &self.pace.control, row, status, error).await?)
    }
}

/// Keeps what became of a row, then counts it.
async fn finish(
    file: &PlanFile,
    control: &Control,
    row: &OpenRow,
    status: Status,
    error: Option<String>,
) -> Result<(), FileError> {
    file.finish(row.row, status, error.map(|error| format!("row {}: {error}", row.row)), None).await?;
    control.count(status);
    Ok(())
}

/// What a row says when the service's answer is not what was sent.
fn deviating(sent: &AccountFields, answered: &ContactAccount) -> Option<String> {
    let fields = crate::merge::deviations(sent, answered);
    let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
    (!names.is_empty())
        .then(|| format!("written, but the service answered {} differently from what was sent", names.join(", ")))
}
