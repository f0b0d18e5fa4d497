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
        let opens_at = now + self.real(booked.saturating_sub(moment));
        Ok(self.slot(State::Booked(quota, booked), opens_at, reason))
    }

    fn slot(self: &Arc<Self>, state: State, opens_at: Instant, reason: WaitReason) -> Slot {
        Slot { identity: Arc::clone(self), state, opens_at, reason }
    }

    /// How long it takes until so many more requests are out.
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

    /// Until when the service asked this user to wait, if it did and that moment has not come.
    pub(crate) fn held(&self, now: Instant) -> Option<Instant> {
        let moment = self.quota_time(now);
        let until = lock(&self.windows).held(moment)?;
        Some(now + self.real(until.saturating_sub(moment)))
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
                        self.opens_at = now + self.identity.real(later.saturating_sub(moment));
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

/// Whose quota it is: key and user, known by a hash only, at an address.
type User = (u64, String, Option<ActAs>, u64);

static USERS: PerProcess<Mutex<HashMap<User, Arc<Mutex<Windows>>>>> = PerProcess::new();

/// The windows of each user in this process, so that several clients of one user count together.
fn windows_of(config: &Config) -> Arc<Mutex<Windows>> {
    static HASHER: OnceBox<RandomState> = OnceBox::new();
    let key_hash = HASHER.get_or_init(Box::default).hash_one(config.api_key.expose());
    let user = (key_hash, config.base_url.to_string(), config.act_as.clone(), config.quota_clock_scale.to_bits());
    Arc::clone(lock(USERS.get_or_init(Mutex::default)).entry(user).or_default())
}

/// What a process knows ends with it.
#[cfg(feature = "simulation")]
pub(crate) fn forget() {
    lock(USERS.get_or_init(Mutex::default)).clear();
}

/// A lock whose holder panicked still guards plain numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
