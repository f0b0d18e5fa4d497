//! Sends one request until it succeeds, fails permanently, or may not be retried.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, timeout, timeout_at};

use super::look_age::Look;
use super::{Client, Event};
use crate::answer::Answer;
use crate::clock::since_epoch;
use crate::config::AuthScheme;
use crate::error::{Call, CallError, Error, Failure, WaitReason};
use crate::identity::Slot;
use crate::lock::lock;
use crate::problem;
use crate::retry::{self, Attempt};
use crate::sabotage::{self, Guard};
use crate::text::plain_line;
use crate::transport::Request;
use crate::turns::Turn;

const LONGEST_EXCERPT: usize = 200;
const LONGEST_REQUEST_ID: usize = 200;
/// The observer hears of a wait for permission only after this time: its length is unknown in advance.
pub(super) const UNTOLD: Duration = Duration::from_secs(5);
/// A timeout that ends later than this was held up: the process was suspended, or a signal handler took its time.
const HELD_UP: Duration = Duration::from_millis(50);
/// The most time to read an answer that arrived while the process was held up.
const MOST_FOR_READING: Duration = Duration::from_millis(200);
/// The most time of a call that is left for the answer to its last request: otherwise a tenth of its timeout.
const MOST_FOR_ANSWER: Duration = Duration::from_secs(5);

/// One call with all its requests.
pub(super) struct Running {
    pub(super) call: Call,
    started: Instant,
    deadline: Instant,
    /// The last moment to book a request for. Later ones would leave too little time for the answer.
    books_until: Instant,
    /// The last moment to send a request. A slot may open later than it was booked for.
    sends_until: Instant,
    timeout: Duration,
    pub(super) attempts: u32,
    /// Whether the request is the update, not a read before it.
    pub(super) updating: bool,
    /// Whether an update was sent.
    pub(super) has_updated: bool,
    pub(super) may_have_been_applied: bool,
}

/// The progress of a request that may have several attempts.
pub(super) struct Tries {
    /// The number of the next attempt, from 1.
    number: u32,
    /// The maximum number of attempts.
    allowed: u32,
    /// The failure of the previous attempt.
    pub(super) last: Option<Failure>,
    /// The slot of the next attempt, if it is already booked.
    pub(super) slot: Option<Slot>,
    /// Whether the service asked for the key as a bearer token.
    is_challenged: bool,
}

impl Tries {
    pub(super) const fn new(allowed: u32) -> Self {
        Self { number: 1, allowed, last: None, slot: None, is_challenged: false }
    }
}

/// What one attempt sends.
#[derive(Clone, Copy)]
pub(super) struct Sending<'a> {
    pub(super) request: &'a Request,
    /// The number of the attempt, from 1.
    pub(super) number: u32,
    pub(super) use_bearer: bool,
    /// The failure of the previous attempt.
    pub(super) last: Option<&'a Failure>,
}

impl Client {
    pub(super) fn begin(&self, call: Call) -> Running {
        sabotage::place("begin");
        let started = Instant::now();
        let timeout = self.config.timeout;
        let for_answer = (timeout / 10).min(MOST_FOR_ANSWER);
        Running {
            call,
            started,
            deadline: started + timeout,
            books_until: started + timeout - for_answer,
            sends_until: started + timeout - for_answer / 5,
            timeout,
            attempts: 0,
            updating: false,
            has_updated: false,
            may_have_been_applied: false,
        }
    }

    /// Waits for the turn to change an account, at most until the deadline of the call.
    pub(super) async fn take_turn(&self, running: &Running, id: i64) -> Result<Turn, Error> {
        let account = self.turns.account(id);
        if let Some(turn) = account.try_take() {
            return Ok(turn);
        }
        let taken = timeout_at(running.deadline, account.take()).await;
        taken.map_err(|_| running.failed(Failure::Turn { limit: running.timeout, process: account.other_process() }))
    }

    /// Sends a request until it succeeds, fails permanently, or may not be retried.
    pub(super) async fn exchange<T>(
        &self,
        running: &mut Running,
        request: &Request,
        read: impl Fn(&Answer) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let mut tries = Tries::new(self.config.max_attempts);
        let answered = self.exchange_by(running, request, &read, &mut tries, None).await?;
        answered.ok_or_else(|| running.failed(Failure::Internal("a request without a read was held back".to_owned())))
    }

    /// Sends a request like [`Client::exchange`], but each attempt only while its look is fresh. Returns `None` if an
    /// attempt would be sent later. Then the caller may create another request, which continues the same tries.
    pub(super) async fn exchange_by<T>(
        &self,
        running: &mut Running,
        request: &Request,
        read: &impl Fn(&Answer) -> Result<T, Failure>,
        tries: &mut Tries,
        look: Option<&Look>,
    ) -> Result<Option<T>, Error> {
        loop {
            let use_bearer = tries.is_challenged || self.prefers_bearer();
            let opened = self.slot_by(running, tries.slot.take(), look).await;
            let slot = match opened {
                Ok((slot, true)) => slot,
                Ok((slot, false)) => {
                    tries.slot = Some(slot);
                    return Ok(None);
                }
                Err(failed @ Failure::Acquire { .. }) => return Err(running.failed(failed)),
                // If the wait before a retry does not fit, the error reports the failure, not the wait.
                Err(closed) => return Err(running.failed(tries.last.take().unwrap_or(closed))),
            };
            let sending = Sending { request, number: tries.number, use_bearer, last: tries.last.as_ref() };
            let failure = match self.attempt(running, slot, sending, read).await {
                Ok(value) => return Ok(Some(value)),
                Err(failure) => failure,
            };
            if self.should_try_bearer(&failure, use_bearer) {
                tries.is_challenged = true;
                continue;
            }
            let Some(wait) = self.decide(running, tries, &failure) else { return Err(running.failed(failure)) };
            let hinted = failure.retry_after().is_some_and(|hint| hint == wait);
            let reason = if hinted { WaitReason::RetryAfter } else { WaitReason::BackOff };
            tries.last = Some(failure);
            tries.number += 1;
            self.sleep(running, wait, reason).await;
        }
    }

    /// Makes one attempt in an open slot, from the request to the parsed answer.
    pub(super) async fn attempt<T>(
        &self,
        running: &mut Running,
        mut slot: Slot,
        sending: Sending<'_>,
        read: &impl Fn(&Answer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Sending { request, number, use_bearer, .. } = sending;
        running.attempts += 1;
        running.has_updated |= running.updating;
        self.report_unconfirmed(running, true);
        slot.leave.spend();
        let sent = Instant::now();
        let answer = self.send(running, sending, sent).await;
        drop(slot);
        sabotage::place("answered");
        let status = answer.as_ref().ok().map(|answer| answer.status);
        if let (Some(quota), Ok(answer)) = (self.config.quota, &answer)
            && !answer.headers.windows.is_empty()
        {
            self.identity.lower(quota, Instant::now(), &answer.headers.windows);
        }
        let failure = match answer.and_then(Answer::accepted).and_then(|answer| read(&answer)) {
            Ok(value) => {
                self.report_attempt(request, Ok(StatusCode::OK.as_u16()), number, sent);
                self.remember_scheme(use_bearer);
                return Ok(value);
            }
            Err(failure) => self.presentable(failure),
        };
        running.may_have_been_applied |= running.updating && failure.may_have_been_applied();
        self.report_unconfirmed(running, running.may_have_been_applied);
        let is_heeded = matches!(status, Some(429 | 503)) || !sabotage::is_off(Guard::RetryAfter);
        if let Some(wait) = failure.asked_to_wait().filter(|_| is_heeded) {
            self.identity.hold(Instant::now(), wait);
        }
        self.report_attempt(request, status.ok_or(&failure), number, sent);
        Err(failure)
    }

    /// Sends a request, within the timeouts of the attempt and of the call.
    async fn send(&self, running: &Running, sending: Sending<'_>, sent: Instant) -> Result<Answer, Failure> {
        let headers = self.identity.headers(sending.use_bearer);
        let attempt_ends = sent + self.config.attempt_timeout;
        let whole_call = running.deadline <= attempt_ends;
        let mut answered = pin!(self.transport.send(sending.request, headers));
        let ends = attempt_ends.min(running.deadline);
        let mut in_time = timeout_at(ends, &mut answered).await;
        if in_time.is_err() && ends.elapsed() > HELD_UP {
            in_time = timeout(MOST_FOR_READING, answered).await;
        }
        in_time.unwrap_or_else(|_| {
            let limit = if whole_call { running.timeout } else { self.config.attempt_timeout };
            Err(Failure::Deadline { limit, whole_call, last: sending.last.map(ToString::to_string) })
        })
    }

    /// Waits until a slot of the quota opens, or fails immediately if that is after the deadline.
    pub(super) async fn wait_for_slot(&self, running: &Running) -> Result<Slot, Failure> {
        self.slot_by(running, None, None).await.map(|(slot, _)| slot)
    }

    /// Waits until a slot opens. Books one if the caller has none. Returns whether the slot is open: it stays closed if
    /// the look would be too old then.
    async fn slot_by(
        &self,
        running: &Running,
        booked: Option<Slot>,
        look: Option<&Look>,
    ) -> Result<(Slot, bool), Failure> {
        let mut slot = match booked {
            Some(slot) => slot,
            None => self.book_slot(running)?,
        };
        let is_late = |opens_at: Instant| look.is_some_and(|look| look.is_stale_at(opens_at));
        while !is_late(slot.opens_at) {
            if slot.send() {
                return Ok((slot, true));
            }
            if slot.waits_for_leave() {
                self.get_leave(running, &mut slot).await?;
                continue;
            }
            let wait = slot.opens_at.saturating_duration_since(Instant::now());
            if slot.opens_at > running.sends_until {
                return Err(Failure::Quota { retry_after: wait, reason: slot.reason });
            }
            if !is_late(slot.opens_at) {
                self.sleep(running, wait, slot.reason).await;
            }
        }
        Ok((slot, false))
    }

    /// Books a slot of the quota that opens early enough for an answer before the deadline.
    pub(super) fn book_slot(&self, running: &Running) -> Result<Slot, Failure> {
        sabotage::place("quota");
        let mut slot = self.identity.book(self.config.quota, Instant::now(), running.books_until)?;
        self.tell_of_quota(&mut slot);
        Ok(slot)
    }

    /// Waits until the function that counts over several machines grants a request, at most until the call's deadline.
    pub(super) async fn get_leave(&self, running: &Running, slot: &mut Slot) -> Result<(), Failure> {
        let late = |_| Failure::AcquireDeadline { limit: running.timeout };
        let mut asked = pin!(timeout_at(running.deadline, slot.leave.get()));
        let granted = if let Ok(granted) = timeout(UNTOLD, &mut asked).await {
            granted
        } else {
            if let Some(observer) = &self.observer {
                let wait = running.deadline.saturating_duration_since(Instant::now());
                observer.observe(Event::Waiting { wait, reason: WaitReason::Acquire, call: running.call });
            }
            asked.await
        };
        granted.map_err(late)?.map_err(|failure| self.presentable(failure))
    }

    /// Reports once why the quota does not count other processes.
    pub(super) fn tell_of_quota(&self, slot: &mut Slot) {
        if let Some(reason) = slot.warning.take()
            && let Some(observer) = &self.observer
        {
            observer.observe(Event::QuotaNotShared { reason: &reason });
        }
    }

    pub(super) async fn sleep(&self, running: &Running, wait: Duration, reason: WaitReason) {
        if let Some(observer) = self.observer.as_ref().filter(|_| !wait.is_zero()) {
            observer.observe(Event::Waiting { wait, reason, call: running.call });
        }
        tokio::time::sleep(wait).await;
    }

    fn decide(&self, running: &Running, tries: &Tries, failure: &Failure) -> Option<Duration> {
        let now = Instant::now();
        let mut budget = lock(&self.shared.budget);
        sabotage::place("budget");
        budget.refill(since_epoch(now));
        let attempt = Attempt {
            number: tries.number,
            allowed: tries.allowed,
            retryable: failure.is_retryable(),
            dropped: failure.is_dropped_connection(),
            hint: failure.retry_after(),
            time_left: running.sends_until.saturating_duration_since(now),
        };
        retry::decide(attempt, &mut budget, fastrand::f64())
    }

    pub(super) fn prefers_bearer(&self) -> bool {
        match self.config.auth {
            AuthScheme::Auto => self.shared.bearer_worked.load(Ordering::Relaxed),
            AuthScheme::ApiKeyHeader => false,
            AuthScheme::Bearer => true,
        }
    }

    pub(super) fn should_try_bearer(&self, failure: &Failure, used_bearer: bool) -> bool {
        let challenged = matches!(failure, Failure::Api(answer) if answer.status == 401 && answer.bearer_challenge);
        self.config.auth == AuthScheme::Auto && challenged && !used_bearer
    }

    fn remember_scheme(&self, used_bearer: bool) {
        if used_bearer && !self.shared.bearer_worked.load(Ordering::Relaxed) {
            self.shared.bearer_worked.store(true, Ordering::Relaxed);
        }
    }

    fn report_unconfirmed(&self, running: &Running, may_have_been_applied: bool) {
        if let Some(observer) = self.observer.as_ref().filter(|_| running.updating) {
            observer.observe(Event::Unconfirmed { may_have_been_applied });
        }
    }

    fn report_attempt(&self, request: &Request, outcome: Result<u16, &Failure>, attempt: u32, sent: Instant) {
        if let Some(observer) = &self.observer {
            let (method, path) = (&request.method, request.url.path());
            observer.observe(Event::Attempted { method, path, outcome, attempt, sent });
        }
    }

    /// Makes a failure safe to show: removes the key, in case the other side echoed it, and then truncates foreign
    /// texts to one line, so that no part of the key remains. Adds the origin of a refused key.
    pub(super) fn presentable(&self, failure: Failure) -> Failure {
        let shown = |text: &str, limit| plain_line(&self.config.api_key.redact(text), limit);
        match failure {
            Failure::Api(mut answer) => {
                answer.problem = answer.problem.map_texts(|text| shown(text, problem::LONGEST_TEXT));
                answer.request_id = answer.request_id.map(|id| shown(&id, LONGEST_REQUEST_ID));
                if answer.status == StatusCode::UNAUTHORIZED.as_u16() {
                    answer.refused_key = Some(self.config.api_key.origin());
                }
                Failure::Api(answer)
            }
            Failure::Unexpected(mut unexpected) => {
                let excerpt = unexpected.excerpt.map(|excerpt| shown(&excerpt, LONGEST_EXCERPT));
                unexpected.excerpt = excerpt.filter(|excerpt| !excerpt.is_empty());
                Failure::Unexpected(unexpected)
            }
            Failure::Acquire { reason, source } => Failure::Acquire { reason: shown(&reason, LONGEST_EXCERPT), source },
            other => other,
        }
    }
}

impl Running {
    /// Starts the timeout again.
    #[cfg(feature = "plan")]
    pub(super) fn start_again(&mut self) {
        self.started = Instant::now();
        self.deadline = self.started + self.timeout;
    }

    pub(super) fn failed(&self, failure: Failure) -> Error {
        let (call, attempts, elapsed) = (self.call, self.attempts, self.started.elapsed());
        let may_have_been_applied = self.may_have_been_applied;
        Error::Call(Box::new(CallError { call, attempts, elapsed, may_have_been_applied, failure }))
    }
}
