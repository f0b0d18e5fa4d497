//! The state of a sandbox: its accounts, each user's quota, the remaining faults and the received requests.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Instant;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;

use super::SandboxOptions;
use super::accounts::Accounts;
use super::faults::{Fault, Script};
use super::journal::Journal;
use super::windows::{Left, Windows, retry_after};
use crate::account::{ContactAccount, DateTime};

/// The header of the key.
pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The headers with which a master key acts for a user.
const ACT_AS: [HeaderName; 3] = [
    HeaderName::from_static("x-user-id"),
    HeaderName::from_static("x-user-email"),
    HeaderName::from_static("x-team-id"),
];

/// The most bytes of kept requests, because there may be thousands of requests with long bodies.
const KEPT_BYTES: usize = 256 << 20;

/// A request as the sandbox received it. It contains no key, only `[key]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxRequest {
    /// The number of the request, from 1, over all requests of this sandbox.
    pub number: u64,
    /// The number of its connection, from 1.
    pub connection: u64,
    /// When it was completely read.
    pub time: DateTime,
    /// The method.
    pub method: Method,
    /// The original path.
    pub path: String,
    /// The original text after the `?`; empty without one.
    pub query: String,
    /// The headers in their original order, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The original body.
    pub body: Bytes,
    /// The status of the answer; `None` before the answer, and if a fault sent none.
    pub status: Option<StatusCode>,
    /// Whether it changed the account.
    pub applied: bool,
}

/// A kept request, as small as possible, because there may be a hundred thousand.
#[derive(Debug)]
struct Record {
    connection: u64,
    time: Timestamp,
    method: Method,
    target: Box<str>,
    headers: Box<[(HeaderName, Box<str>)]>,
    body: Box<[u8]>,
    status: Option<StatusCode>,
    applied: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) accounts: Accounts,
    journal: Option<Journal>,
    started: Instant,
    users: HashMap<u64, Windows>,
    hasher: RandomState,
    pub(super) script: Script,
    records: VecDeque<Record>,
    recorded_bytes: usize,
    arrived: u64,
}

impl State {
    pub(super) fn new(accounts: Accounts, journal: Option<Journal>, faults: Vec<Fault>) -> Self {
        Self {
            accounts,
            journal,
            started: Instant::now(),
            users: HashMap::new(),
            hasher: RandomState::new(),
            script: Script(faults),
            records: VecDeque::new(),
            recorded_bytes: 0,
            arrived: 0,
        }
    }

    /// Releases the file for another sandbox.
    pub(super) fn unlock(&self) {
        if let Some(journal) = &self.journal {
            journal.unlock();
        }
    }

    /// Stores a request. Returns its number.
    pub(super) fn arrive(&mut self, connection: u64, parts: &Parts, body: &[u8], keep: usize) -> u64 {
        self.arrived += 1;
        let record = Record {
            connection,
            time: Timestamp::now(),
            method: parts.method.clone(),
            target: parts.uri.path_and_query().map_or_else(|| parts.uri.to_string(), ToString::to_string).into(),
            headers: parts.headers.iter().map(|(name, value)| (name.clone(), shown(name, value.as_bytes()))).collect(),
            body: body.into(),
            status: None,
            applied: false,
        };
        self.recorded_bytes += record.bytes();
        self.records.push_back(record);
        while self.records.len() > keep.max(1) || (self.recorded_bytes > KEPT_BYTES && self.records.len() > 1) {
            let oldest = self.records.pop_front();
            self.recorded_bytes -= oldest.as_ref().map_or(0, Record::bytes);
        }
        self.arrived
    }

    fn record(&mut self, number: u64) -> Option<&mut Record> {
        let behind = usize::try_from(self.arrived.checked_sub(number)?).ok()?;
        let index = self.records.len().checked_sub(behind + 1)?;
        self.records.get_mut(index)
    }

    pub(super) fn answered(&mut self, number: u64, status: StatusCode) {
        if let Some(record) = self.record(number) {
            record.status = Some(status);
        }
    }

    pub(super) fn forget_requests(&mut self) {
        self.records.clear();
        self.recorded_bytes = 0;
    }

    pub(super) fn requests(&self) -> Vec<SandboxRequest> {
        let first = self.arrived + 1 - u64::try_from(self.records.len()).unwrap_or_default();
        (first..).zip(&self.records).map(|(number, record)| record.public(number)).collect()
    }

    /// Counts a request against the quota of its user. Returns the seconds until the next request is allowed if the
    /// quota is used up, and the remaining quota.
    pub(super) fn take_quota(
        &mut self,
        options: &SandboxOptions,
        key: &str,
        headers: &HeaderMap,
    ) -> (Option<u64>, Vec<Left>) {
        let Some(quota) = options.quota else { return (None, Vec::new()) };
        let user = self.hasher.hash_one((key, ACT_AS.map(|name| headers.get(name))));
        let now = self.started.elapsed().mul_f64(options.clock_scale);
        let windows = self.users.entry(user).or_default();
        let wait = windows.take(now, quota).err().map(|wait| retry_after(wait, options.clock_scale));
        (wait, windows.left(now, quota, options.clock_scale))
    }

    /// Stores an account, in the file first.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written; nothing has then changed.
    pub(super) fn put(&mut self, account: ContactAccount, request: Option<u64>) -> io::Result<()> {
        if let Some(journal) = &mut self.journal {
            journal.put(&account)?;
        }
        self.accounts.insert(account);
        if let Some(record) = request.and_then(|number| self.record(number)) {
            record.applied = true;
        }
        Ok(())
    }

    /// Removes an account, in the file first. Returns whether there was one.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written; nothing has then changed.
    pub(super) fn remove(&mut self, id: i64) -> io::Result<bool> {
        if let Some(journal) = &mut self.journal {
            journal.remove(id)?;
        }
        Ok(self.accounts.remove(id))
    }
}

impl Record {
    fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| size_of_val(name) + value.len()).sum();
        size_of::<Self>() + self.target.len() + headers + self.body.len()
    }

    fn public(&self, number: u64) -> SandboxRequest {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        SandboxRequest {
            number,
            connection: self.connection,
            time: DateTime::from(self.time),
            method: self.method.clone(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: self.headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            body: Bytes::copy_from_slice(&self.body),
            status: self.status,
            applied: self.applied,
        }
    }
}

/// Returns a header value without the key.
fn shown(name: &HeaderName, value: &[u8]) -> Box<str> {
    let value = String::from_utf8_lossy(value);
    if *name == AUTHORIZATION {
        let scheme = value.split_once(' ').map_or("", |(scheme, _)| scheme);
        return if scheme.eq_ignore_ascii_case("bearer") { format!("{scheme} [key]").into() } else { "[key]".into() };
    }
    if *name == API_KEY || *name == PROXY_AUTHORIZATION || *name == COOKIE { "[key]".into() } else { value.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(target: &str) -> Parts {
        let request = http::Request::builder().uri(target).header("x-api-key", "secret");
        request.header("authorization", "Bearer secret").header("x-user-id", "7").body(()).unwrap().into_parts().0
    }

    #[test]
    fn keys_are_not_remembered() {
        let mut state = State::new(Accounts::default(), None, Vec::new());
        state.arrive(1, &parts("/v3/contact-accounts?top=1"), b"{}", 10);
        let requests = state.requests();
        assert!(!format!("{state:?}{requests:?}").contains("secret"));
        let headers: Vec<&str> = requests[0].headers.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(headers, ["[key]", "Bearer [key]", "7"]);
        assert_eq!((requests[0].path.as_str(), requests[0].query.as_str()), ("/v3/contact-accounts", "top=1"));
    }

    #[test]
    fn long_bodies_are_kept_up_to_a_bound_in_bytes() {
        let mut state = State::new(Accounts::default(), None, Vec::new());
        let body = vec![0; 1 << 20];
        for _ in 0..300 {
            state.arrive(1, &parts("/"), &body, 100_000);
        }
        let kept = state.records.len();
        assert!((200..256).contains(&kept), "{kept}");
        assert_eq!(state.records.iter().map(Record::bytes).sum::<usize>(), state.recorded_bytes);
        state.arrive(1, &parts("/"), &vec![0; KEPT_BYTES + 1], 100_000);
        assert_eq!(state.records.len(), 1);
    }

    #[test]
    fn only_the_newest_requests_are_kept_under_their_own_numbers() {
        let mut state = State::new(Accounts::default(), None, Vec::new());
        for _ in 0..5 {
            state.arrive(1, &parts("/"), b"", 2);
        }
        state.answered(4, StatusCode::OK);
        state.answered(1, StatusCode::IM_A_TEAPOT);
        let kept: Vec<_> = state.requests().iter().map(|request| (request.number, request.status)).collect();
        assert_eq!(kept, [(4, Some(StatusCode::OK)), (5, None)]);
    }
}
