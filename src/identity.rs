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

    /// Books a place in the quota.
    ///
    /// # Errors
    /// [`Failure::Quota`] when the earliest one is after the deadline.
    pub(crate) fn reserve(self: &Arc<Self>, quota: Quota, now: Instant, deadline: Instant) -> Result<Place, Failure> {
        let (moment, latest) = (self.quota_time(now), self.quota_time(deadline));
        let booked = lock(&self.windows).reserve(quota, moment, latest);
        self.place(quota, now, booked)
    }

    /// Books a place for a request that waits for it as long as it takes.
    #[cfg(feature = "plan")]
    pub(crate) fn reserve_patiently(self: &Arc<Self>, quota: Quota, now: Instant) -> Option<Place> {
        let booked = lock(&self.windows).reserve(quota, self.quota_time(now), Duration::MAX);
        self.place(quota, now, booked).ok()
    }

    fn place(
        self: &Arc<Self>,
        quota: Quota,
        now: Instant,
        booked: Result<(Duration, WaitReason), TooLate>,
    ) -> Result<Place, Failure> {
        match booked {
            Ok((booked, reason)) => {
                let opens_at = now + self.real(booked.saturating_sub(self.quota_time(now)));
                Ok(Place { identity: Arc::clone(self), quota, state: State::Booked(booked), opens_at, reason })
            }
            Err(late) => {
                let retry_after = self.real(late.opens_at.saturating_sub(self.quota_time(now)));
                Err(Failure::Quota { retry_after, reason: late.reason })
            }
        }
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

    /// Holds every request of the user back for as long as the service asks.
    pub(crate) fn hold(&self, now: Instant, wait: Duration) {
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

/// A place in the quota. Dropped before its request goes out, it is given back; after that, its request is answered or
/// given up, and counts from then on.
pub(crate) struct Place {
    identity: Arc<Identity>,
    quota: Quota,
    state: State,
    /// When the request may go out.
    pub(crate) opens_at: Instant,
    /// What it waits for until then.
    pub(crate) reason: WaitReason,
}

enum State {
    Booked(Duration),
    Sent(Ticket),
}

impl Place {
    /// The request goes out, and the place is to be kept until it is answered. `false` when it has to wait. That may be
    /// for longer than it was said: what was in flight counts from its answer, and the service may have asked for it.
    pub(crate) fn send(&mut self) -> bool {
        let (now, State::Booked(booked)) = (Instant::now(), &self.state) else { return true };
        if self.opens_at > now {
            return false;
        }
        let moment = self.identity.quota_time(now);
        let sent = lock(&self.identity.windows).send(self.quota, *booked, moment);
        match sent {
            Ok(ticket) => self.state = State::Sent(ticket),
            Err((later, reason)) => {
                self.state = State::Booked(later);
                self.opens_at = now + self.identity.real(later.saturating_sub(moment));
                self.reason = reason;
            }
        }
        sent.is_ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = self.identity.quota_time(Instant::now());
        let mut windows = lock(&self.identity.windows);
        match self.state {
            State::Booked(booked) => windows.release(booked),
            State::Sent(ticket) => windows.settle(ticket, now),
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
