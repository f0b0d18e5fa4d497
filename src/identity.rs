//! Who is calling: the headers that say so, and that user's quota in this process.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use once_cell::race::OnceBox;
use tokio::time::Instant;

use crate::clock::since_epoch;
#[cfg(any(feature = "python", feature = "simulation"))]
use crate::config::BaseUrl;
use crate::config::{ActAs, Config};
use crate::error::{Error, Failure, WaitReason};
use crate::per_process::PerProcess;
use crate::quota::{HOUR, Quota, Ticket, TooLate, Windows};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const X_USER_ID: HeaderName = HeaderName::from_static("x-user-id");
const X_USER_EMAIL: HeaderName = HeaderName::from_static("x-user-email");
const X_TEAM_ID: HeaderName = HeaderName::from_static("x-team-id");

/// The longest Retry-After that holds back other calls. Every window of the service has opened twice by then, so that a
/// longer one is about something else, or a mistake.
pub(crate) const LONGEST_HOLD: Duration = Duration::from_secs(2 * 3_600);

/// Who is calling: the headers that say so, and the quota of that user.
pub(crate) struct Identity {
    with_api_key: HeaderMap,
    with_bearer: HeaderMap,
    windows: Arc<Mutex<Windows>>,
    clock_scale: f64,
}

impl Identity {
    /// The user that settings name.
    ///
    /// # Errors
    /// [`Error::Configuration`] when a setting cannot be sent as a header.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let mut common = HeaderMap::new();
        common.insert(ACCEPT, HeaderValue::from_static("application/json"));
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
        Ok(Self { with_api_key, with_bearer, windows: windows_of(config), clock_scale: config.quota_clock_scale })
    }

    /// The headers of every request, with the key in one of its two.
    pub(crate) fn headers(&self, bearer: bool) -> &HeaderMap {
        if bearer { &self.with_bearer } else { &self.with_api_key }
    }

    /// Books a slot for one request.
    ///
    /// # Errors
    /// [`Failure::Quota`] when the earliest slot opens after the deadline. Then nothing is booked.
    pub(crate) fn book(
        self: &Arc<Self>,
        quota: Option<Quota>,
        now: Instant,
        deadline: Instant,
    ) -> Result<Slot, Failure> {
        let moment = self.quota_time(now);
        self.book_until(quota, now, self.quota_time(deadline)).map_err(|late| {
            let retry_after = self.real(late.opens_at.saturating_sub(moment));
            Failure::Quota { retry_after, reason: late.reason }
        })
    }

    /// Books a slot for one request that waits for it as long as it takes.
    #[cfg(feature = "plan")]
    pub(crate) fn book_patiently(self: &Arc<Self>, quota: Option<Quota>, now: Instant) -> Slot {
        // No moment is later than the last one.
        let booked = self.book_until(quota, now, Duration::MAX);
        booked.unwrap_or_else(|_| self.slot(State::Unlimited, now, WaitReason::RetryAfter))
    }

    fn book_until(self: &Arc<Self>, quota: Option<Quota>, now: Instant, latest: Duration) -> Result<Slot, TooLate> {
        let Some(quota) = quota else { return Ok(self.slot(State::Unlimited, now, WaitReason::RetryAfter)) };
        let moment = self.quota_time(now);
        let (booked, reason) = lock(&self.windows).reserve(quota, moment, latest)?;
        let opens_at = self.after(now, booked.saturating_sub(moment));
        Ok(self.slot(State::Booked(quota, booked), opens_at, reason))
    }

    fn slot(self: &Arc<Self>, state: State, opens_at: Instant, reason: WaitReason) -> Slot {
        Slot { identity: Arc::clone(self), state, opens_at, reason }
    }

    /// How long it takes to send this number of further requests.
    #[cfg(feature = "plan")]
    pub(crate) fn forecast(&self, quota: Quota, now: Instant, requests: u64) -> Duration {
        self.real(lock(&self.windows).forecast(quota, self.quota_time(now), requests))
    }

    /// Counts requests that another run of the same user sent, each by how long ago that was.
    #[cfg(feature = "plan")]
    pub(crate) fn count_earlier(&self, now: Instant, ages: impl Iterator<Item = Duration>) {
        let now = self.quota_time(now);
        let mut windows = lock(&self.windows);
        ages.for_each(|age| windows.count_earlier(now, age.mul_f64(self.clock_scale)));
    }

    /// A moment on the quota's clock. It begins an hour late, so that requests of an earlier process have a time too.
    fn quota_time(&self, moment: Instant) -> Duration {
        HOUR + since_epoch(moment).mul_f64(self.clock_scale)
    }

    fn real(&self, wait: Duration) -> Duration {
        wait.div_f64(self.clock_scale)
    }

    /// When so much of the quota's time has passed. Rounded up: who wakes up then is not too early, and waits no second time.
    fn after(&self, now: Instant, wait: Duration) -> Instant {
        if wait.is_zero() { now } else { now + self.real(wait) + Duration::from_nanos(1) }
    }

    /// Until when the service asked this user to wait, if it did and that moment has not come.
    pub(crate) fn held(&self, now: Instant) -> Option<Instant> {
        let moment = self.quota_time(now);
        let until = lock(&self.windows).held(moment)?;
        Some(self.after(now, until.saturating_sub(moment)))
    }

    /// Holds every request of the user back for as long as the service asks, with or without a quota. A wait of more than
    /// [`LONGEST_HOLD`] holds nobody: only the call that it answered ends with it, and the next call asks again.
    pub(crate) fn hold(&self, now: Instant, wait: Duration) {
        if wait > LONGEST_HOLD {
            return;
        }
        lock(&self.windows).hold(self.quota_time(now), wait.mul_f64(self.clock_scale));
    }
}

fn header(text: &str, setting: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|_| Error::Configuration(format!("{setting} cannot be sent as a header")))
}

fn secret_header(text: &str) -> Result<HeaderValue, Error> {
    let mut value = header(text, "api_key")?;
    value.set_sensitive(true);
    Ok(value)
}

/// A slot of the quota: leave to send one request. Dropped before its request goes out, it is given back. After that its
/// request is answered or given up, and counts from then on. Without a quota only a hold of the service closes it.
pub(crate) struct Slot {
    identity: Arc<Identity>,
    state: State,
    /// When the request may go out.
    pub(crate) opens_at: Instant,
    /// What it waits for until then.
    pub(crate) reason: WaitReason,
}

enum State {
    Unlimited,
    Booked(Quota, Duration),
    Sent(Option<Ticket>),
}

impl Slot {
    /// Takes the slot for the request that goes out now. `false` when it has to wait until `opens_at`. That may be later
    /// than it was before: what was in flight counts from its answer, and the service may have asked to wait.
    pub(crate) fn send(&mut self) -> bool {
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
                let moment = self.identity.quota_time(now);
                let sent = lock(&self.identity.windows).send(quota, booked, moment);
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
}

impl Drop for Slot {
    fn drop(&mut self) {
        match self.state {
            State::Unlimited | State::Sent(None) => {}
            State::Booked(_, booked) => lock(&self.identity.windows).release(booked),
            State::Sent(Some(ticket)) => {
                let now = self.identity.quota_time(Instant::now());
                lock(&self.identity.windows).settle(ticket, now);
            }
        }
    }
}

/// Whose quota it is: key and user, known by a hash only, at a service.
type User = (u64, String, Option<ActAs>, u64);

static USERS: PerProcess<Mutex<HashMap<User, Arc<Mutex<Windows>>>>> = PerProcess::new();

/// The windows of each user in this process, so that several clients of one user count together.
fn windows_of(config: &Config) -> Arc<Mutex<Windows>> {
    static HASHER: OnceBox<RandomState> = OnceBox::new();
    let key_hash = HASHER.get_or_init(Box::default).hash_one(config.api_key.expose());
    let user = (key_hash, config.base_url.service(), config.act_as.clone(), config.quota_clock_scale.to_bits());
    Arc::clone(lock(USERS.get_or_init(Mutex::default)).entry(user).or_default())
}

/// Forgets what was counted for every user of a service that starts anew, such as a sandbox on the port of an earlier one.
#[cfg(any(feature = "python", feature = "simulation"))]
pub(crate) fn forget(service: &BaseUrl) {
    let service = service.service();
    lock(USERS.get_or_init(Mutex::default)).retain(|(_, other, ..), _| *other != service);
}

/// A lock whose holder panicked still guards plain numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A user of its own, so that no other case counts in its quota.
    fn identity(scale: f64) -> Arc<Identity> {
        static CASES: AtomicU32 = AtomicU32::new(0);
        let key = format!("property-{}", CASES.fetch_add(1, Ordering::Relaxed));
        Arc::new(Identity::new(&Config { quota_clock_scale: scale, ..Config::new(key).unwrap() }).unwrap())
    }

    fn paused(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
        // All tests of this process measure from the first moment that is asked for: it must not be one of a paused clock.
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
                // With nothing in flight a slot opens within an hour of the quota's clock after every hold and request.
                let mut slot = identity.book(quota, Instant::now(), Instant::now() + Duration::from_secs(1 << 32)).unwrap();
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
