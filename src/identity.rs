//! The user of a client: its headers, and its quota in this process.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use once_cell::race::OnceBox;
use tokio::time::Instant;

use crate::acquire::{Acquire, Leave};
use crate::clock::since_epoch;
#[cfg(any(feature = "python", feature = "simulation"))]
use crate::config::BaseUrl;
use crate::config::{ActAs, Config};
use crate::error::{Error, Failure, WaitReason};
use crate::ledger::{Ledger, ProcessUse, User as LedgerUser};
use crate::lock::lock;
use crate::per_process::PerProcess;
pub(crate) use crate::quota::LONGEST_HOLD;
use crate::quota::{HOUR, MINUTE, Quota, Ticket, Windows};
use crate::rate_limit::ServiceWindow;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const X_USER_ID: HeaderName = HeaderName::from_static("x-user-id");
const X_USER_EMAIL: HeaderName = HeaderName::from_static("x-user-email");
const X_TEAM_ID: HeaderName = HeaderName::from_static("x-team-id");

/// On the quota's clock: the maximum age of what is known about other processes, and the maximum delay until they learn
/// about an answer.
const A_MOMENT: Duration = Duration::from_millis(1);

/// The user of a client: the headers, and the quota.
pub(crate) struct Identity {
    with_api_key: HeaderMap,
    with_bearer: HeaderMap,
    counted: Arc<Mutex<Counted>>,
    clock_scale: f64,
    acquire: Option<Arc<dyn Acquire>>,
}

impl Identity {
    /// Creates the user that the settings name.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`] if a setting cannot be sent as a header.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let mut common = HeaderMap::new();
        common.insert(ACCEPT, HeaderValue::from_static("application/json"));
        // An update must not be built on what a cache between here and the service once stored.
        common.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        common.insert(USER_AGENT, HeaderValue::from_static(concat!("replyio/", env!("CARGO_PKG_VERSION"))));
        match &config.act_as {
            Some(ActAs::UserId(id)) => drop(common.insert(X_USER_ID, HeaderValue::from(*id))),
            Some(ActAs::UserEmail(email)) => drop(common.insert(X_USER_EMAIL, header(email, "act_as")?)),
            None => {}
        }
        if let Some(id) = config.team_id {
            common.insert(X_TEAM_ID, HeaderValue::from(id));
        }
        let (mut with_api_key, mut with_bearer) = (common.clone(), common);
        with_api_key.insert(X_API_KEY, secret_header(config.api_key.expose())?);
        with_bearer.insert(AUTHORIZATION, secret_header(&format!("Bearer {}", config.api_key.expose()))?);
        Ok(Self {
            with_api_key,
            with_bearer,
            counted: counted_of(config),
            clock_scale: config.quota_clock_scale,
            acquire: config.acquire.clone(),
        })
    }

    /// Closes the quota file until the next booking.
    pub(crate) fn close_ledger(&self) {
        // In a forked child, a copied lock may be held, so this does not wait for it.
        if let Ok(mut counted) = self.counted.try_lock()
            && let Some(ledger) = &mut counted.ledger
        {
            ledger.close();
        }
    }

    /// Returns the headers of every request, with the key in one of its two headers.
    pub(crate) fn headers(&self, bearer: bool) -> &HeaderMap {
        if bearer { &self.with_bearer } else { &self.with_api_key }
    }

    /// Books a slot for one request.
    ///
    /// # Errors
    /// Returns [`Failure::Quota`] if the earliest slot opens after the deadline; nothing is then booked.
    pub(crate) fn book(
        self: &Arc<Self>,
        quota: Option<Quota>,
        now: Instant,
        deadline: Instant,
    ) -> Result<Slot, Failure> {
        let patience = deadline.saturating_duration_since(now).mul_f64(self.clock_scale);
        self.book_within(quota, now, patience).map_err(|(wait, reason)| Failure::Quota { retry_after: wait, reason })
    }

    /// Books a slot for one request, however long the wait is.
    #[cfg(feature = "plan")]
    pub(crate) fn book_patiently(self: &Arc<Self>, quota: Option<Quota>, now: Instant) -> Slot {
        // No moment is later than the last one.
        let booked = self.book_within(quota, now, Duration::MAX);
        booked.unwrap_or_else(|_| self.slot(State::Unlimited, now, WaitReason::RetryAfter))
    }

    fn book_within(
        self: &Arc<Self>,
        quota: Option<Quota>,
        now: Instant,
        patience: Duration,
    ) -> Result<Slot, (Duration, WaitReason)> {
        let Some(quota) = quota else { return Ok(self.slot(State::Unlimited, now, WaitReason::RetryAfter)) };
        let mut counted = lock(&self.counted);
        let (moment, booked) = counted.with_windows(self.quota_time(now), |windows, moment| {
            (moment, windows.reserve(quota, moment, moment.saturating_add(patience)))
        });
        let warning = counted.ledger.as_mut().and_then(Ledger::take_warning);
        drop(counted);
        let (booked, reason) = booked.map_err(|late| (self.real(late.opens_at.saturating_sub(moment)), late.reason))?;
        let opens_at = self.after(now, booked.saturating_sub(moment));
        let mut slot = self.slot(State::Booked(quota, booked), opens_at, reason);
        slot.warning = warning;
        Ok(slot)
    }

    fn slot(self: &Arc<Self>, state: State, opens_at: Instant, reason: WaitReason) -> Slot {
        let leave = Leave::of(self.acquire.as_ref());
        Slot { identity: Arc::clone(self), state, leave, opens_at, reason, warning: None, decided: Instant::now() }
    }

    /// Returns how long the quota takes to allow this number of further requests.
    #[cfg(feature = "plan")]
    pub(crate) fn forecast(&self, quota: Quota, now: Instant, requests: u64) -> Duration {
        let mut counted = lock(&self.counted);
        // Trying thousands of slots takes long, so the quota file is not locked meanwhile.
        let moment = counted.with_windows(self.quota_time(now), |_, moment| moment);
        self.real(counted.windows.forecast(quota, moment, requests))
    }

    /// Counts requests that another run of the same user sent, each by its age. A shared quota file already contains
    /// those of this machine.
    #[cfg(feature = "plan")]
    pub(crate) fn count_earlier(&self, now: Instant, ages: impl Iterator<Item = Duration>) {
        let mut counted = lock(&self.counted);
        let may_be_known = counted.ledger.as_ref().is_some_and(Ledger::is_shared);
        let ages: Vec<Duration> = ages.map(|age| whole_micros(age.mul_f64(self.clock_scale))).collect();
        counted.with_windows(self.quota_time(now), |windows, moment| {
            windows.count_earlier(moment, ages.into_iter(), may_be_known);
        });
    }

    /// Returns the used quota, as far as this machine knows.
    pub(crate) fn used(&self, now: Instant) -> QuotaUse {
        let mut counted = lock(&self.counted);
        let Counted { windows, ledger } = &mut *counted;
        let processes = ledger.as_mut().map(|ledger| ledger.used(windows));
        let is_shared = ledger.as_ref().is_some_and(Ledger::is_shared);
        let moment = counted.with_windows(self.quota_time(now), |_, moment| moment);
        let within = |length: Duration| {
            let inside = counted.windows.booked().filter(|booked| *booked + length > moment).count();
            u32::try_from(inside).unwrap_or(u32::MAX)
        };
        let held = counted.windows.held(moment).map(|until| self.real(until.saturating_sub(moment)));
        QuotaUse {
            minute: within(MINUTE),
            hour: within(HOUR),
            held,
            is_shared,
            processes: processes.unwrap_or_default(),
            warning: counted.ledger.as_mut().and_then(Ledger::take_warning),
        }
    }

    /// Returns a moment on the quota's clock. The clock begins at one hour, so that requests of an earlier process have
    /// a time too.
    fn quota_time(&self, moment: Instant) -> Duration {
        own_time(moment, self.clock_scale)
    }

    fn real(&self, wait: Duration) -> Duration {
        wait.div_f64(self.clock_scale)
    }

    /// Returns when this much time has passed on the quota's clock, rounded up, so that a waiter does not wake up too
    /// early.
    fn after(&self, now: Instant, wait: Duration) -> Instant {
        if wait.is_zero() { now } else { now + self.real(wait) + Duration::from_nanos(1) }
    }

    /// Returns until when the service asked this user to wait, if that moment is in the future.
    pub(crate) fn held(&self, now: Instant) -> Option<Instant> {
        let (moment, until) =
            lock(&self.counted).with_windows(self.quota_time(now), |windows, moment| (moment, windows.held(moment)));
        Some(self.after(now, until?.saturating_sub(moment)))
    }

    /// Makes every request of the user wait for as long as the service asks, with or without a quota. A wait longer
    /// than [`LONGEST_HOLD`] affects only the call that received it; the next call tries again.
    pub(crate) fn hold(&self, now: Instant, wait: Duration) {
        if wait > LONGEST_HOLD {
            return;
        }
        let wait = whole_micros(wait.mul_f64(self.clock_scale));
        lock(&self.counted).with_windows(self.quota_time(now), |windows, moment| windows.hold(moment, wait));
    }

    /// Counts the requests of other machines that an answer reports.
    pub(crate) fn lower(&self, quota: Quota, now: Instant, told: &[ServiceWindow]) {
        lock(&self.counted).with_windows(self.quota_time(now), |windows, moment| {
            for window in told {
                let reset = window.reset.map(|reset| whole_micros(reset.mul_f64(self.clock_scale)));
                windows.lower(quota, moment, &ServiceWindow { reset, ..window.clone() });
            }
        });
    }
}

fn own_time(moment: Instant, scale: f64) -> Duration {
    HOUR + since_epoch(moment).mul_f64(scale)
}

fn header(text: &str, setting: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|_| Error::Configuration(format!("{setting} cannot be sent as a header")))
}

fn secret_header(text: &str) -> Result<HeaderValue, Error> {
    let mut value = header(text, "api_key")?;
    value.set_sensitive(true);
    Ok(value)
}

/// A slot of the quota: the permission to send one request. A slot that is dropped before its request is sent is
/// returned. After that, the request counts from the moment of its answer or failure. Without a quota, only a hold of
/// the service closes a slot.
pub(crate) struct Slot {
    identity: Arc<Identity>,
    state: State,
    pub(crate) leave: Leave,
    /// The moment when the request may be sent.
    pub(crate) opens_at: Instant,
    /// The reason to wait until then.
    pub(crate) reason: WaitReason,
    /// Why the quota does not count other processes, to report once.
    pub(crate) warning: Option<String>,
    /// The last time that the windows checked it.
    decided: Instant,
}

enum State {
    Unlimited,
    Booked(Quota, Duration),
    Sent(Option<Ticket>),
}

impl Slot {
    /// Uses the slot for the request that is sent now. Returns `false` if it has to wait until `opens_at`, which may be
    /// later than before: requests in flight count from their answer, and the service may have asked to wait.
    pub(crate) fn send(&mut self) -> bool {
        if self.leave.is_wanted() {
            return false;
        }
        let now = Instant::now();
        match self.state {
            State::Sent(_) => true,
            State::Unlimited => match self.identity.held(now) {
                None => {
                    self.state = State::Sent(None);
                    true
                }
                Some(until) => {
                    self.opens_at = until;
                    self.reason = WaitReason::RetryAfter;
                    false
                }
            },
            State::Booked(..) if self.opens_at > now => false,
            State::Booked(quota, booked) => {
                let (moment, sent) = self.decide(now, |windows, moment| (moment, windows.send(quota, booked, moment)));
                self.decided = now;
                match sent {
                    Ok(ticket) => self.state = State::Sent(Some(ticket)),
                    Err((later, reason)) => {
                        self.state = State::Booked(quota, later);
                        self.opens_at = self.identity.after(now, later.saturating_sub(moment));
                        self.reason = reason;
                    }
                }
                sent.is_ok()
            }
        }
    }

    /// Returns whether only the grant of [`Leave`] is missing. Otherwise the request waits until `opens_at`.
    pub(crate) fn waits_for_leave(&mut self) -> bool {
        if !self.leave.is_wanted() {
            return false;
        }
        let now = Instant::now();
        if let Some(until) = self.identity.held(now).filter(|until| *until > self.opens_at) {
            (self.opens_at, self.reason) = (until, WaitReason::RetryAfter);
        }
        self.opens_at <= now
    }

    /// Checks this slot with the windows. Shortly after the last check, it need not read the bookings of other
    /// processes, and writes its own with the next one.
    fn decide<T>(&self, now: Instant, decide: impl FnOnce(&mut Windows, Duration) -> T) -> T {
        let own = self.identity.quota_time(now);
        let passed = now.saturating_duration_since(self.decided).mul_f64(self.identity.clock_scale);
        let mut counted = lock(&self.identity.counted);
        if passed <= A_MOMENT { counted.with_known_windows(own, decide) } else { counted.with_windows(own, decide) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        match self.state {
            State::Unlimited | State::Sent(None) => {}
            State::Booked(_, booked) => {
                let own = self.identity.quota_time(Instant::now());
                lock(&self.identity.counted).with_windows(own, |windows, _| windows.release(booked));
            }
            State::Sent(Some(ticket)) => {
                self.decide(Instant::now(), |windows, moment| windows.settle(ticket, moment));
            }
        }
    }
}

impl Drop for Identity {
    /// Closes the quota file of a user with its last client: a program may serve many users, and file descriptors are
    /// limited.
    fn drop(&mut self) {
        // The list of users holds the other reference, with the counts.
        if Arc::strong_count(&self.counted) <= 2 {
            self.close_ledger();
        }
    }
}

/// The user of a quota: key and user as a hash, at a service.
type User = (u64, String, Option<ActAs>, u64);

/// The counts of a user: the windows, and the shared quota file that synchronizes them with other processes.
#[derive(Default)]
struct Counted {
    windows: Windows,
    ledger: Option<Ledger>,
}

impl Counted {
    /// Counts in a shared quota file from now on. Moves the counts from this process's clock to the clock of the file.
    fn share(&mut self, ledger: Ledger, own: Duration) {
        let before = std::mem::take(&mut self.windows);
        let ledger = self.ledger.insert(ledger);
        let mut booked = before.booked().peekable();
        let held = before.held(own);
        if booked.peek().is_some() || held.is_some() {
            ledger.in_step(&mut self.windows, |windows, now| {
                windows.book_again(booked.map(|moment| whole_micros((now + moment).saturating_sub(own))));
                if let Some(until) = held {
                    windows.hold(now, whole_micros(until.saturating_sub(own)));
                }
            });
        }
    }

    /// Runs an operation on the windows. `own` is the time on the clock of this process, used without a shared file.
    fn with_windows<T>(&mut self, own: Duration, decide: impl FnOnce(&mut Windows, Duration) -> T) -> T {
        match &mut self.ledger {
            Some(ledger) => ledger.in_step(&mut self.windows, decide),
            None => decide(&mut self.windows, own),
        }
    }

    /// The same, with what this process knows about the others.
    fn with_known_windows<T>(&mut self, own: Duration, decide: impl FnOnce(&mut Windows, Duration) -> T) -> T {
        match &mut self.ledger {
            Some(ledger) => ledger.out_of_step(&mut self.windows, decide),
            None => decide(&mut self.windows, own),
        }
    }
}

/// The used part of a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaUse {
    /// The requests that count in the minute, including those booked for later.
    pub minute: u32,
    /// The requests that count in the hour.
    pub hour: u32,
    /// How long the service asked to wait.
    pub held: Option<Duration>,
    /// Whether they include the requests of other processes.
    pub is_shared: bool,
    /// The processes that sent them, if known.
    pub processes: Vec<ProcessUse>,
    /// Why they do not include the requests of other processes, unless a call or an earlier use has reported it.
    pub warning: Option<String>,
}

static USERS: PerProcess<Mutex<HashMap<User, Arc<Mutex<Counted>>>>> = PerProcess::new();

/// The counts of each user in this process, so that several clients of one user share a count. A user shares with other
/// processes if one of the clients does.
fn counted_of(config: &Config) -> Arc<Mutex<Counted>> {
    static HASHER: OnceBox<RandomState> = OnceBox::new();
    let key_hash = HASHER.get_or_init(Box::default).hash_one(config.api_key.expose());
    let user = (key_hash, config.base_url.service(), config.act_as.clone(), config.quota_clock_scale.to_bits());
    let counted = Arc::clone(lock(USERS.get_or_init(Mutex::default)).entry(user).or_default());
    if config.quota_shared && config.quota.is_some_and(|quota| Ledger::can_hold(quota.per_hour)) {
        let mut known = lock(&counted);
        if known.ledger.is_none() {
            let user = LedgerUser {
                key_hash: config.api_key.keyed_hash(b"replyio quota"),
                service: config.base_url.service(),
                rest: match &config.act_as {
                    None => String::new(),
                    Some(ActAs::UserId(id)) => format!("id {id}"),
                    Some(ActAs::UserEmail(email)) => format!("email {email}"),
                },
                scale: config.quota_clock_scale,
            };
            let ledger = Ledger::new(user, None);
            known.share(ledger, own_time(Instant::now(), config.quota_clock_scale));
        }
    }
    counted
}

/// Converts a time to the unit of the quota file, rounded up.
fn whole_micros(time: Duration) -> Duration {
    Duration::from_micros(u64::try_from(time.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX))
}

/// Forgets the counts of every user of a service that starts again, such as a sandbox on the port of an earlier one: in
/// this process, and in all quota files.
#[cfg(feature = "python")]
pub(crate) fn forget(service: &BaseUrl) {
    forget_here(service);
    crate::ledger::forget(&service.service(), None);
}

/// The same, only in this process.
#[cfg(any(feature = "python", feature = "simulation"))]
pub(crate) fn forget_here(service: &BaseUrl) {
    let service = service.service();
    lock(USERS.get_or_init(Mutex::default)).retain(|(_, other, ..), _| *other != service);
}

#[cfg(test)]
mod properties {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};
    use tokio::time::{Duration, Instant, advance};

    use super::{Config, Identity, LONGEST_HOLD, Quota, Slot};

    /// A separate user, so that no other case counts in its quota.
    fn identity(scale: f64) -> Arc<Identity> {
        static CASES: AtomicU32 = AtomicU32::new(0);
        let key = format!("property-{}", CASES.fetch_add(1, Ordering::Relaxed));
        Arc::new(Identity::new(&Config { quota_clock_scale: scale, ..Config::new(key).unwrap() }).unwrap())
    }

    fn paused(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
        // All tests of this process measure from the first requested moment, which must not be one of a paused clock.
        let _ = super::since_epoch(Instant::now());
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test)
    }

    async fn advance_to(moment: Instant) {
        advance(moment.saturating_duration_since(Instant::now())).await;
    }

    #[derive(Debug, Clone)]
    enum Step {
        Advance(u64),
        Book { patience: Option<u64> },
        Send(Index),
        SendWhenOpen(Index),
        Drop(Index),
        Hold(u64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u64..200_000).prop_map(Step::Advance),
            proptest::option::of(0_u64..5_000_000).prop_map(|patience| Step::Book { patience }),
            any::<Index>().prop_map(Step::Send),
            any::<Index>().prop_map(Step::SendWhenOpen),
            any::<Index>().prop_map(Step::Drop),
            prop_oneof![0_u64..100_000, 0_u64..20_000_000].prop_map(Step::Hold),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_slot_opens_while_the_service_asks_to_wait_and_every_slot_opens_at_last(
            per_minute in 1_u32..4,
            per_hour in 1_u32..5,
            is_limited: bool,
            scale in select(vec![0.001, 1.0, 7.3, 60.0, 1_000_000.0]),
            steps in vec(any_step(), 1..60),
        ) {
            paused(async {
                let quota = is_limited.then_some(Quota { per_minute, per_hour });
                let identity = identity(scale);
                let mut slots: Vec<Slot> = Vec::new();
                let (mut held_until, mut sent) = (Instant::now(), 0_u32);
                for step in steps {
                    let now = Instant::now();
                    let chosen = |index: Index| (!slots.is_empty()).then(|| index.index(slots.len()));
                    match step {
                        Step::Advance(millis) => advance(Duration::from_millis(millis)).await,
                        Step::Book { patience: Some(millis) } => {
                            let deadline = now + Duration::from_millis(millis);
                            match identity.book(quota, now, deadline) {
                                Ok(slot) => {
                                    prop_assert!(slot.opens_at <= deadline + Duration::from_millis(1));
                                    slots.push(slot);
                                }
                                Err(_) => prop_assert!(quota.is_some()),
                            }
                        }
                        #[cfg(feature = "plan")]
                        Step::Book { patience: None } => slots.push(identity.book_patiently(quota, now)),
                        #[cfg(not(feature = "plan"))]
                        Step::Book { patience: None } => {}
                        Step::Send(index) | Step::SendWhenOpen(index) => {
                            let Some(index) = chosen(index) else { continue };
                            if matches!(step, Step::SendWhenOpen(_)) {
                                advance_to(slots[index].opens_at).await;
                            }
                            let now = Instant::now();
                            let was_sent = matches!(slots[index].state, super::State::Sent(_));
                            if slots[index].send() {
                                prop_assert!(was_sent || now + Duration::from_millis(1) >= held_until, "held");
                                sent += u32::from(!was_sent);
                            } else {
                                prop_assert!(slots[index].opens_at > now, "who waits for it would spin");
                            }
                        }
                        Step::Drop(index) => {
                            if let Some(index) = chosen(index) {
                                slots.swap_remove(index);
                            }
                        }
                        Step::Hold(millis) => {
                            let wait = Duration::from_millis(millis);
                            identity.hold(now, wait);
                            if wait <= LONGEST_HOLD {
                                held_until = held_until.max(now + wait);
                            }
                            let held = identity.held(now).unwrap_or(now);
                            let error = held.max(held_until).duration_since(held.min(held_until).max(now));
                            prop_assert!(held_until <= now || error <= Duration::from_millis(1), "{error:?}");
                        }
                    }
                }
                slots.clear();
                // With nothing in flight, a slot opens within an hour of the quota's clock after every hold and
                // request.
                let now = Instant::now();
        let mut slot = identity.book(quota, now, now + Duration::from_secs(1 << 32)).unwrap();
                let limit = LONGEST_HOLD + Duration::from_secs(3_600).div_f64(scale) * (sent + 2);
                let began = Instant::now();
                let mut looks = 0;
                while !slot.send() {
                    looks += 1;
                    prop_assert!(looks < 50, "it is never open");
                    advance_to(slot.opens_at).await;
                }
                prop_assert!(began.elapsed() <= limit, "{:?} of {limit:?}", began.elapsed());
                Ok(())
            })?;
        }

        #[test]
        fn tiny_quotas_let_a_look_and_its_update_out_in_two_slots(
            per_minute in 0_u32..3, per_hour in 0_u32..3, rows in 1_usize..20,
        ) {
            paused(async {
                let quota = Some(Quota { per_minute, per_hour });
                let identity = identity(1.0);
                let began = Instant::now();
                for _ in 0..rows * 2 {
                    let now = Instant::now();
                    let mut slot = identity.book(quota, now, now + Duration::from_secs(7_200)).unwrap();
                    let mut looks = 0;
                    while !slot.send() {
                        looks += 1;
                        prop_assert!(looks <= 2);
                        advance_to(slot.opens_at).await;
                    }
                }
                prop_assert!(began.elapsed() <= Duration::from_secs(3_601) * u32::try_from(rows * 2).unwrap());
                Ok(())
            })?;
        }
    }
}
