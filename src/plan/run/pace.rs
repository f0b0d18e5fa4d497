//! What holds requests back: the quota, what the service asks for, and an outage.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::control::Control;
use super::sent::sent_now;
use crate::client::{Client, Event, Observer, Slot};
use crate::error::{Error, ErrorKind, Failure, WaitReason};

/// How long the service may be out of reach, or ask to wait, before a run stops with every row as it is.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// So many failures with no success between them are the service's, not the rows'.
const OUTAGE: u32 = 3;

/// Until when the service, or an outage, holds every request back. What is about to be sent looks at it too.
#[derive(Default)]
pub(super) struct Gate(Mutex<Option<(Instant, WaitReason)>>);

impl Gate {
    /// Until when, and why; `None` when it is open.
    pub(super) fn held(&self) -> Option<(Instant, WaitReason)> {
        self.state().filter(|(until, _)| *until > Instant::now())
    }

    fn hold(&self, until: Instant, reason: WaitReason) {
        let mut state = self.state();
        if state.is_none_or(|(other, _)| other < until) {
            *state = Some((until, reason));
        }
    }

    /// Holds everything back when that is what the service asked for, and not for too long.
    pub(super) fn heed<T>(&self, result: &Result<T, Error>) {
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
    next: Option<Arc<dyn Observer>>,
}

impl Observer for Counter {
    fn observe(&self, event: Event<'_>) {
        if let Event::Attempted { attempt, .. } = &event {
            self.control.state().requests += 1;
            if *attempt > 1 {
                self.repeated.lock().unwrap_or_else(PoisonError::into_inner).push(sent_now());
            }
        }
        if let Some(next) = &self.next {
            next.observe(event);
        }
    }
}

/// The client of a run, and what holds it back.
pub(super) struct Pace {
    pub(super) client: Client,
    pub(super) control: Arc<Control>,
    counter: Arc<Counter>,
    pub(super) gate: Arc<Gate>,
    failures: u32,
    pauses: u32,
    failing_since: Option<Instant>,
}

/// What a failure means for the run.
pub(super) enum Verdict {
    /// The request is to be sent again, after what holds the run back.
    Again,
    /// The run cannot go on.
    Fatal,
    /// It is this request's own.
    Own,
}

impl Pace {
    pub(super) fn new(client: &Client, control: &Arc<Control>, observer: Option<Arc<dyn Observer>>) -> Self {
        let counter = Counter { control: Arc::clone(control), repeated: Mutex::default(), next: observer };
        let counter = Arc::new(counter);
        let client = client.observed(Arc::clone(&counter) as _);
        let control = Arc::clone(control);
        Self { client, control, counter, gate: Arc::default(), failures: 0, pauses: 0, failing_since: None }
    }

    /// Waits until a request may go out. `None` when the run is to stop. Dropped while it waits, it has taken nothing.
    pub(super) async fn admit(&self) -> Option<Slot> {
        let mut slot = self.client.book();
        loop {
            if self.control.is_stopping() {
                return None;
            }
            if let Some((until, reason)) = self.gate.held() {
                self.control.wait(until, reason).await;
                continue;
            }
            if !slot.send() {
                self.control.wait(slot.opens_at, slot.reason).await;
                continue;
            }
            let mut progress = self.control.state();
            progress.requests_left = progress.requests_left.saturating_sub(1);
            return Some(slot);
        }
    }

    /// An update succeeded.
    pub(super) fn succeeded(&mut self) {
        self.answered();
        self.failing_since = None;
    }

    /// The service is there, whatever becomes of updates.
    pub(super) const fn answered(&mut self) {
        self.failures = 0;
        self.pauses = 0;
    }

    /// Whether so much failed with nothing between that it is the service's fault, and not the rows'.
    pub(super) const fn is_out(&self) -> bool {
        self.failures >= OUTAGE
    }

    pub(super) fn failed(&mut self, error: &Error) -> Verdict {
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

    pub(super) fn take_repeated(&self) -> Vec<i64> {
        std::mem::take(&mut *self.counter.repeated.lock().unwrap_or_else(PoisonError::into_inner))
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
