//! Planning and applying: the requests, the pace, and what is kept when.
//!
//! A run is one future on one thread. It books every request in the quota before it is sent, so that nothing is marked as
//! being sent while it waits; `sending` is committed before the first byte leaves, and the outcome before it is counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::diff::{self, Drift};
use super::file::{Builder, FileError, Header, OpenRow, PlanFile};
use super::planner::{Look, Planner, Step, looks, next_look};
use super::source::{Options, Table};
use super::{Change, Status};
use crate::account::ContactAccount;
use crate::client::{Client, Event, ListQuery, Observer};
use crate::error::{Error, ErrorKind, Failure, WaitReason};
use crate::per_process::PerProcess;

/// How many rows are in flight at once, unless it is said otherwise.
pub const CONCURRENCY: usize = 8;
/// How long the service may be out of reach, or ask to wait, before a run stops with every row as it is.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);
/// An account looked at longer ago is looked at again before it is written.
const FRESH: Duration = Duration::from_secs(120);
/// How often a row is tried, each time with all attempts of a call, while others succeed.
const ROUNDS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// So many failures with no success between them are the service's, not the rows'.
const OUTAGE: u32 = 3;
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

/// Why a run ended before its end.
#[derive(Debug)]
pub enum RunError {
    /// The service refused the key, or was out of reach too long. No row was lost.
    Call(Error),
    /// The plan file cannot go on.
    File(FileError),
}

impl From<FileError> for RunError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// How many rows there are to do.
    pub rows: u64,
    /// How many are done.
    pub done: u64,
    /// How many requests were sent.
    pub requests: u64,
    /// How many are left, as far as that is known.
    pub requests_left: u64,
    /// The rows that are done, by what became of them.
    pub counts: BTreeMap<Status, u64>,
    /// What it does now.
    pub phase: Phase,
    /// What it waits for, and until when.
    pub waiting: Option<(WaitReason, Instant)>,
}

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// It reads the accounts to plan.
    #[default]
    Reading,
    /// It writes.
    Writing,
}

/// The handle on a run: tells how far it is, and ends it.
#[derive(Debug, Default)]
pub struct Control {
    stopping: AtomicBool,
    stopped: Notify,
    progress: Mutex<Progress>,
}

impl Control {
    /// Starts nothing new. What is in flight comes to its end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stopped.notify_waiters();
    }

    /// Whether it is to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.state().clone()
    }

    fn state(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, status: Status) {
        let mut progress = self.state();
        progress.done += 1;
        *progress.counts.entry(status).or_default() += 1;
    }

    /// Is ready when it is to stop.
    async fn stopped(&self) {
        let stopped = self.stopped.notified();
        if !self.is_stopping() {
            stopped.await;
        }
    }

    /// Waits until a moment, or until it is to stop.
    async fn wait(&self, until: Instant, reason: WaitReason) {
        if self.is_stopping() || until <= Instant::now() {
            return;
        }
        self.state().waiting = Some((reason, until));
        let _shown = Shown(self);
        tokio::select! {
            () = sleep_until(until) => {}
            () = self.stopped() => {}
        }
    }
}

/// A wait that is shown until it ends, or is dropped because something came back.
struct Shown<'a>(&'a Control);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.state().waiting = None;
    }
}

/// Until when the service, or an outage, holds every request back. What is about to be sent looks at it too.
#[derive(Default)]
struct Gate(Mutex<Option<(Instant, WaitReason)>>);

impl Gate {
    /// Until when, and why; `None` when it is open.
    fn held(&self) -> Option<(Instant, WaitReason)> {
        self.state().filter(|(until, _)| *until > Instant::now())
    }

    fn hold(&self, until: Instant, reason: WaitReason) {
        let mut state = self.state();
        if state.is_none_or(|(other, _)| other < until) {
            *state = Some((until, reason));
        }
    }

    /// Holds everything back when that is what the service asked for, and not for too long.
    fn heed<T>(&self, result: &Result<T, Error>) {
        if let Err(Error::Call(call)) = result
            && let Some(wait) = asked_to_wait(&call.failure).filter(|wait| *wait <= PATIENCE)
        {
            self.hold(Instant::now() + wait, WaitReason::RetryAfter);
        }
    }

    fn state(&self) -> MutexGuard<'_, Option<(Instant, WaitReason)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts what is really sent, repetitions included, and remembers when.
struct Counter {
    control: Arc<Control>,
    repeated: Mutex<Vec<i64>>,
    /// The paths of updates of which an attempt may have been applied although no answer says so.
    uncertain: Mutex<HashSet<String>>,
    next: Option<Arc<dyn Observer>>,
}

impl Observer for Counter {
    fn observe(&self, event: Event<'_>) {
        if let Event::Attempted { method, path, outcome, attempt, .. } = &event {
            self.control.state().requests += 1;
            if *attempt > 1 {
                self.repeated.lock().unwrap_or_else(PoisonError::into_inner).push(sent_now());
            }
            let is_uncertain = match outcome {
                Ok(status) => ErrorKind::of_status(*status) == ErrorKind::Server,
                Err(failure) => failure.may_have_been_applied(),
            };
            if *method == http::Method::PUT && is_uncertain {
                self.uncertain.lock().unwrap_or_else(PoisonError::into_inner).insert((*path).to_owned());
            }
        }
        if let Some(next) = &self.next {
            next.observe(event);
        }
    }
}

/// The client of a run, and what holds it back.
struct Pace {
    client: Client,
    control: Arc<Control>,
    counter: Arc<Counter>,
    gate: Arc<Gate>,
    failures: u32,
    pauses: u32,
    failing_since: Option<Instant>,
}

/// What a failure means for the run.
enum Verdict {
    /// The request is to be sent again, after what holds the run back.
    Again,
    /// The run cannot go on.
    Fatal,
    /// It is this request's own.
    Own,
}

impl Pace {
    fn new(client: &Client, control: &Arc<Control>, observer: Option<Arc<dyn Observer>>) -> Self {
        let counter = Counter {
            control: Arc::clone(control),
            repeated: Mutex::default(),
            uncertain: Mutex::default(),
            next: observer,
        };
        let counter = Arc::new(counter);
        let client = client.observed(Arc::clone(&counter) as _);
        let control = Arc::clone(control);
        Self { client, control, counter, gate: Arc::default(), failures: 0, pauses: 0, failing_since: None }
    }

    /// Waits until a request may go out. `false` when the run is to stop. Dropped while it waits, it has taken nothing.
    async fn admit(&self) -> bool {
        loop {
            if self.control.is_stopping() {
                return false;
            }
            if let Some((until, reason)) = self.gate.held() {
                self.control.wait(until, reason).await;
                continue;
            }
            if let Some(place) = self.client.place() {
                if !place.wait.is_zero() {
                    self.control.wait(Instant::now() + place.wait, place.reason).await;
                    if self.control.is_stopping() {
                        return false;
                    }
                }
                place.keep();
            }
            let mut progress = self.control.state();
            progress.requests_left = progress.requests_left.saturating_sub(1);
            return true;
        }
    }

    /// An update succeeded.
    fn succeeded(&mut self) {
        self.answered();
        self.failing_since = None;
    }

    /// The service is there, whatever becomes of updates.
    const fn answered(&mut self) {
        self.failures = 0;
        self.pauses = 0;
    }

    /// Whether so much failed with nothing between that it is the service's fault, and not the rows'.
    const fn is_out(&self) -> bool {
        self.failures >= OUTAGE
    }

    fn failed(&mut self, error: &Error) -> Verdict {
        let Error::Call(call) = error else { return Verdict::Own };
        let now = Instant::now();
        if let Some(wait) = asked_to_wait(&call.failure) {
            if wait > PATIENCE {
                return Verdict::Fatal;
            }
            // Whoever got the answer holds the others back at once.
            self.failures += u32::from(call.failure.kind() != ErrorKind::RateLimit);
            return self.patient(now);
        }
        match call.failure.kind() {
            ErrorKind::Authentication | ErrorKind::Tls | ErrorKind::Configuration | ErrorKind::Internal => {
                Verdict::Fatal
            }
            ErrorKind::PermissionDenied if !is_about_the_account(&call.failure) => Verdict::Fatal,
            ErrorKind::Transport
            | ErrorKind::DeadlineExceeded
            | ErrorKind::Server
            | ErrorKind::RateLimit
            | ErrorKind::UnexpectedResponse => {
                self.failures += 1;
                // Those that were in flight when it began are no reason for a longer pause.
                if self.is_out() && self.gate.held().is_none() {
                    let pause = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(6)).min(LONGEST_PAUSE);
                    self.pauses += 1;
                    self.gate.hold(now + pause, WaitReason::BackOff);
                }
                self.patient(now)
            }
            _ if call.failure.is_retryable() => Verdict::Again,
            _ => Verdict::Own,
        }
    }

    fn patient(&mut self, now: Instant) -> Verdict {
        let since = *self.failing_since.get_or_insert(now);
        if now.duration_since(since) > PATIENCE { Verdict::Fatal } else { Verdict::Again }
    }

    fn take_repeated(&self) -> Vec<i64> {
        std::mem::take(&mut *self.counter.repeated.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether an attempt to update an account may have been applied. Forgets it.
    fn take_uncertain(&self, id: i64) -> bool {
        let path = self.client.config().base_url.join(format_args!("/contact-accounts/{id}"));
        self.counter.uncertain.lock().unwrap_or_else(PoisonError::into_inner).remove(path.path())
    }
}

/// How long the service asked to wait, if it did.
fn asked_to_wait(failure: &Failure) -> Option<Duration> {
    failure.retry_after().filter(|_| matches!(failure, Failure::Api(answer) if matches!(answer.status, 429 | 503)))
}

/// Whether a 403 is about this account, and not about the key.
fn is_about_the_account(failure: &Failure) -> bool {
    let Failure::Api(answer) = failure else { return false };
    answer.problem.code.as_deref().is_some_and(|code| code.starts_with("contactAccount."))
}

/// Plans a table: reads the accounts with the fewest requests and keeps what every row changes. Gives the file, or
/// `None` when it was stopped; then there is no file.
///
/// # Errors
/// [`RunError`]; then there is no file either.
pub async fn plan(
    client: &Client,
    table: &Table,
    options: &Options,
    path: &Path,
    control: &Arc<Control>,
    observer: Option<Arc<dyn Observer>>,
) -> Result<Option<PlanFile>, RunError> {
    let mut pace = Pace::new(client, control, observer);
    let mut builder = Builder::create(path, &header(client, table, options))?;
    control.state().rows = table.len();
    let mut give = |row: super::file::PlannedRow| {
        let status = row.status;
        builder.add(row)?;
        control.count(status);
        Ok::<(), FileError>(())
    };
    let mut planner = Planner::new(table, options, &mut give)?;
    let mut sent = Vec::new();
    let mut rounds: HashMap<u64, u32> = HashMap::new();
    loop {
        let step = planner.next_step();
        if step == Step::Done {
            break;
        }
        if !pace.admit().await {
            return Ok(None);
        }
        sent.push(sent_now());
        let client = pace.client.admitted();
        let asked = async {
            match step {
                Step::Page { top, skip } => {
                    client.list_page(&ListQuery::default(), top, skip).await.map(|page| (page.items, page.has_more))
                }
                Step::Account { id, .. } => client.get(id).await.map(|account| (vec![account], false)),
                Step::Done => Ok((Vec::new(), false)),
            }
        };
        // Nothing is lost with a read.
        let result = tokio::select! {
            result = asked => result,
            () = control.stopped() => return Ok(None),
        };
        pace.gate.heed(&result);
        match (step, result) {
            (Step::Page { skip, .. }, Ok((accounts, has_more))) => {
                planner.page(skip, &accounts, has_more, &mut give)?;
                pace.succeeded();
            }
            (_, Ok((accounts, _))) => {
                planner.single(accounts.first(), &mut give)?;
                pace.succeeded();
            }
            (Step::Account { .. }, Err(error)) if error.kind() == ErrorKind::NotFound => {
                planner.single(None, &mut give)?;
                pace.succeeded();
            }
            (step, Err(error)) => {
                let verdict = pace.failed(&error);
                let Step::Account { row, .. } = step else {
                    let Verdict::Again = verdict else { return Err(RunError::Call(error)) };
                    continue;
                };
                let tried = rounds.entry(row).or_default();
                *tried += u32::from(error.kind() != ErrorKind::RateLimit);
                match verdict {
                    Verdict::Fatal => return Err(RunError::Call(error)),
                    Verdict::Again if *tried < ROUNDS => planner.later(),
                    Verdict::Again | Verdict::Own => planner.unreadable(&error.to_string(), &mut give)?,
                }
            }
        }
        control.state().requests_left = planner.requests_left().unwrap_or(1);
    }
    planner.finish(&mut give)?;
    let file = builder.seal(table.len())?;
    sent.extend(pace.take_repeated());
    file.note_requests(sent).await?;
    Ok(Some(file))
}

fn header(client: &Client, table: &Table, options: &Options) -> Header {
    let config = client.config();
    Header {
        base_url: config.base_url.to_string(),
        act_as: config.act_as.as_ref().map(ToString::to_string),
        team_id: config.team_id,
        mode: options.mode,
        nulls: options.nulls,
        match_on: options.match_on,
        created_at_ms: now_ms(),
        source: table.description().to_owned(),
        is_revert: false,
    }
}

/// Makes the plan that takes back what a plan has changed, in a file of its own.
///
/// # Errors
/// [`FileError`] when one of the two files cannot be used.
pub fn reverse(file: &PlanFile, path: &Path) -> Result<PlanFile, FileError> {
    let header = Header { is_revert: true, created_at_ms: now_ms(), ..file.header().clone() };
    let mut builder = Builder::create(path, &header)?;
    let mut rows = 0;
    file.revert_rows(|row| {
        rows += 1;
        builder.add(row)
    })?;
    builder.seal(rows)
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
    {
        let mut progress = control.state();
        progress.phase = Phase::Writing;
        progress.rows = rows.len() as u64;
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
            Admitted(bool),
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
                Next::Admitted(false) => Ok(()),
                Next::Admitted(true) => self.start().await,
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
    async fn start(&mut self) -> Result<(), RunError> {
        // The wait may have been long.
        let stale = |ready: &Ready| ready.looked_at.elapsed() > FRESH;
        if self.ready.front().is_some_and(stale) {
            let rows = std::mem::take(&mut self.ready).into_iter().map(|ready| ready.row).collect();
            self.put_back(rows);
            return self.start_look().await;
        }
        if self.wants_look() {
            return self.start_look().await;
        }
        if let Some(ready) = self.ready.pop_front() {
            self.start_write(ready);
        }
        Ok(())
    }

    /// Starts a look whose request is admitted.
    async fn start_look(&mut self) -> Result<(), RunError> {
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
                        client.list_page(&ListQuery::default(), *top, *skip).await.map(|page| page.items)
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
            gate.heed(&result);
            Back::Looked { look: rows, result }
        });
        Ok(())
    }

    /// Starts a write whose request is admitted.
    fn start_write(&mut self, ready: Ready) {
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
        let was_uncertain = row.account_id.is_some_and(|id| self.pace.take_uncertain(id));
        let error = match result {
            Ok(()) => {
                self.pace.succeeded();
                self.is_proven = true;
                return Ok(());
            }
            Err(error) => error,
        };
        row.was_sending |= was_uncertain || matches!(&error, Error::Call(call) if call.may_have_been_applied());
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
fn deviating(sent: &crate::account::AccountFields, answered: &ContactAccount) -> Option<String> {
    let fields = crate::merge::deviations(sent, answered);
    let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
    (!names.is_empty())
        .then(|| format!("written, but the service answered {} differently from what was sent", names.join(", ")))
}

/// When this process sent requests, and when others did as far as it has counted them, in milliseconds since 1970, of the
/// last hour.
static KNOWN: PerProcess<Mutex<BTreeSet<i64>>> = PerProcess::new();

/// Now, as the moment at which this process sends a request.
fn sent_now() -> i64 {
    let now = now_ms();
    known(now).insert(now);
    now
}

/// Those moments out of a plan's file that are in no quota of this process yet.
fn unknown_yet(moments: Vec<i64>) -> Vec<i64> {
    let mut known = known(now_ms());
    // Several may have gone out in one millisecond.
    let unknown: Vec<i64> = moments.into_iter().filter(|moment| !known.contains(moment)).collect();
    known.extend(&unknown);
    unknown
}

fn known(now: i64) -> MutexGuard<'static, BTreeSet<i64>> {
    const HOUR_MS: i64 = 3_600_000;
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    while known.first().is_some_and(|first| *first < now - HOUR_MS) {
        known.pop_first();
    }
    known
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
