//! Decides what a failed request means for a run: retry later, give up the row, or stop. Pure.

use std::time::Duration;

use crate::client::LONGEST_HOLD;
use crate::error::{Error, ErrorKind, Failure};

use crate::sabotage::{Guard, is_off};
/// How long the service may be unavailable or ask to wait before a run stops and leaves every row as it is.
pub(super) const PATIENCE: Duration = LONGEST_HOLD;
/// The fewest attempts allowed for a row in a run. A run has more time than a call, so a lower `max_attempts` of the
/// client does not count.
const FEWEST_ATTEMPTS: u32 = 3;
/// The pause before the second attempt. Each later pause is three times as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// If this many rows fail without a success between them, the service is the cause, not the rows.
const SEVERAL: usize = 3;

/// The kind of a failure, as far as it decides what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The service says that there is no such account.
    NotFound,
    /// The service refuses this request because of its content. Other requests are not affected.
    Refused,
    /// The failure may be about the key, or come from a proxy: a 403 without a code, a 404 that is not about the
    /// account, an answer that does not match the API contract.
    Doubtful,
    /// The failure may be temporary: no answer, 5xx, 429.
    Passing,
    /// No request of this client can succeed.
    Fatal,
}

/// A failed request.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    /// Whether it only asks to wait, which says nothing about the row.
    pub(super) is_rate_limit: bool,
    /// Whether the connection broke before any answer, as an idle connection does that the service closed.
    pub(super) is_dropped: bool,
    /// How long the service asks to wait.
    pub(super) retry_after: Option<Duration>,
    /// Whether an update may have been applied although it failed.
    pub(super) may_have_been_applied: bool,
    /// The error that ends the run or fails the row.
    pub(super) error: Error,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let call = if let Error::Call(call) = &error { Some(call) } else { None };
        let failure = call.map(|call| &call.failure);
        let is_about_all = error.kind() == ErrorKind::Configuration;
        Self {
            kind: failure.map_or(if is_about_all { Kind::Fatal } else { Kind::Refused }, kind_of),
            is_rate_limit: failure.is_some_and(|failure| failure.kind() == ErrorKind::RateLimit),
            is_dropped: failure.is_some_and(Failure::is_dropped_connection),
            retry_after: failure.and_then(Failure::retry_after),
            may_have_been_applied: call.is_some_and(|call| call.may_have_been_applied),
            error,
        }
    }
}

fn kind_of(failure: &Failure) -> Kind {
    match failure.kind() {
        // The caller's own function failed, as it may for every other request.
        _ if matches!(failure, Failure::Acquire { .. }) => Kind::Fatal,
        ErrorKind::Authentication | ErrorKind::Tls | ErrorKind::Configuration | ErrorKind::Internal => Kind::Fatal,
        ErrorKind::UnexpectedResponse if is_off(Guard::WrongAnswers) => Kind::Passing,
        ErrorKind::UnexpectedResponse => Kind::Doubtful,
        ErrorKind::Transport if !failure.is_retryable() => Kind::Fatal,
        ErrorKind::Transport | ErrorKind::DeadlineExceeded | ErrorKind::Server | ErrorKind::RateLimit => Kind::Passing,
        _ if failure.is_retryable() => Kind::Passing,
        _ if !failure.is_about_the_account() && !is_off(Guard::ServiceWord) => Kind::Doubtful,
        ErrorKind::NotFound => Kind::NotFound,
        _ => Kind::Refused,
    }
}

/// What to do after a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Retry the row from this moment on.
    Retry(Duration),
    /// Postpone the row: the outcomes of other rows will show whether the cause is the row, the key or the service.
    SetAside,
    /// The row itself is the cause.
    GiveUp,
    /// The run ends with this failure. Every row stays as it is.
    Stop,
}

/// Failures of one kind of request, without a success between them.
#[derive(Debug, Default)]
struct Streak {
    since: Option<Duration>,
    /// The rows that failed, each once; a page of the list counts as a separate row.
    rows: Vec<Option<u64>>,
    /// The rows with an answer that may be about the key, each once.
    doubtful: Vec<Option<u64>>,
    pauses: u32,
}

impl Streak {
    fn is_outage(&self) -> bool {
        self.rows.len() >= SEVERAL
    }
}

/// Reading or updating: one may fail while the other works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// The failures so far, and what follows from them.
#[derive(Debug)]
pub(super) struct Policy {
    /// The most attempts for a row in one run.
    allowed: u32,
    reads: Streak,
    writes: Streak,
    paused_until: Duration,
}

impl Policy {
    pub(super) fn new(allowed: u32) -> Self {
        Self { allowed, reads: Streak::default(), writes: Streak::default(), paused_until: Duration::ZERO }
    }

    /// Returns the time until which failures delay every request.
    pub(super) const fn paused_until(&self) -> Duration {
        self.paused_until
    }

    /// Returns whether enough rows have failed to count as an outage of the service.
    pub(super) fn is_outage(&self) -> bool {
        self.reads.is_outage() || self.writes.is_outage()
    }

    /// A request succeeded. A read says nothing about updates.
    pub(super) fn succeeded(&mut self, direction: Direction) {
        self.reads = Streak::default();
        if direction == Direction::Write {
            self.writes = Streak::default();
        }
    }

    /// A request failed. `row` is its row, `None` for a page of the list; `attempts` counts the row's failures.
    pub(super) fn failed(
        &mut self,
        direction: Direction,
        row: Option<u64>,
        attempts: &mut u32,
        refusal: &Refusal,
        now: Duration,
    ) -> Verdict {
        match refusal.kind {
            Kind::Fatal => return Verdict::Stop,
            Kind::NotFound | Kind::Refused => {
                self.succeeded(direction);
                return Verdict::GiveUp;
            }
            Kind::Doubtful | Kind::Passing => {}
        }
        let streak = match direction {
            Direction::Read => &mut self.reads,
            Direction::Write => &mut self.writes,
        };
        let since = *streak.since.get_or_insert(now);
        if refusal.kind == Kind::Doubtful {
            if !streak.doubtful.contains(&row) {
                streak.doubtful.push(row);
            }
            *attempts += 1;
            let is_the_key = row.is_none() || streak.doubtful.len() >= SEVERAL;
            // The next read of the account shows what the update did, if the service applied it.
            let is_read_again = refusal.may_have_been_applied && *attempts == 1;
            return match (is_the_key, is_read_again) {
                (true, _) => Verdict::Stop,
                (false, true) => Verdict::Retry(now),
                (false, false) => Verdict::SetAside,
            };
        }
        if now.saturating_sub(since) > PATIENCE || refusal.retry_after.is_some_and(|wait| wait > PATIENCE) {
            return Verdict::Stop;
        }
        // The client delays every request if the service asks to wait.
        let asks_to_wait = refusal.retry_after.is_some_and(|wait| wait >= FIRST_PAUSE);
        if refusal.is_rate_limit && asks_to_wait {
            return Verdict::Retry(now);
        }
        if !refusal.is_rate_limit && !streak.rows.contains(&row) && !streak.is_outage() {
            streak.rows.push(row);
        }
        // A page is for many rows, and a rate limit for all of them, so neither counts against a row.
        if streak.is_outage() || row.is_none() || refusal.is_rate_limit {
            // Failures of requests that were in flight when the pause began do not prolong it.
            if now >= self.paused_until {
                self.paused_until = now + pause_after(streak.pauses, refusal);
                streak.pauses += 1;
            }
            return Verdict::Retry(self.paused_until);
        }
        *attempts += 1;
        if *attempts >= self.allowed.max(FEWEST_ATTEMPTS) {
            return Verdict::SetAside;
        }
        Verdict::Retry(now + pause_after(*attempts - 1, refusal))
    }
}

/// Returns the pause after this number of earlier failures.
fn pause_after(failures: u32, refusal: &Refusal) -> Duration {
    if refusal.is_dropped && failures == 0 {
        return Duration::ZERO;
    }
    FIRST_PAUSE.saturating_mul(3_u32.saturating_pow(failures)).min(LONGEST_PAUSE)
}
