//! Requests of a service check, which keep the original answers.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::exchange::{Running, Sending};
use super::{Client, LIST, ListQuery, Shared, Turn, Updated};
use crate::account::{AccountFields, ContactAccount};
use crate::answer::{Answer, Page};
use crate::config::AuthScheme;
use crate::error::{Call, Error, Failure, Operation, WaitReason};
use crate::transport::Request;

/// An answer, with its original content.
#[derive(Debug, Clone)]
pub(crate) struct Seen<T> {
    /// What this version reads in it.
    pub(crate) read: T,
    /// The original body.
    pub(crate) raw: Value,
    /// The names of its rate-limit headers.
    pub(crate) limits: Vec<String>,
}

/// The requests of one check, under one timeout.
pub(crate) struct Looking {
    running: Running,
    ends: Instant,
}

impl Looking {
    /// The number of requests sent.
    pub(crate) fn requests(&self) -> u32 {
        self.running.attempts
    }

    /// Returns whether an update was sent.
    pub(crate) fn has_updated(&self) -> bool {
        self.running.has_updated
    }

    /// Returns whether a wait ends within the timeout.
    pub(crate) fn has_time_for(&self, wait: Duration) -> bool {
        Instant::now() + wait < self.ends
    }
}

impl Client {
    /// Returns the same client without its knowledge of the accepted header.
    pub(crate) fn without_memory(&self) -> Self {
        Self { shared: Arc::new(Shared::new()), ..self.clone() }
    }

    /// Returns whether the settings choose the bearer scheme; `None` if they leave the choice to the client.
    pub(crate) fn chosen_bearer(&self) -> Option<bool> {
        match self.config().auth {
            AuthScheme::Auto => None,
            AuthScheme::ApiKeyHeader => Some(false),
            AuthScheme::Bearer => Some(true),
        }
    }

    /// Returns a text of the service without the key of this client.
    pub(crate) fn without_key(&self, text: &str) -> String {
        self.config.api_key.redact(text)
    }

    /// Begins requests that share one timeout.
    pub(crate) fn begin_looking(&self) -> Looking {
        let running = self.begin(LIST);
        Looking { running, ends: Instant::now() + self.config.timeout }
    }

    /// Reads the first page of accounts in one attempt.
    pub(crate) async fn look_at_page(
        &self,
        looking: &mut Looking,
        query: &ListQuery,
        top: u32,
        use_bearer: bool,
    ) -> Result<Seen<Page>, Failure> {
        let request = self.list_request(query, top, 0);
        let request = request.map_err(|error| Failure::Internal(error.to_string()))?;
        looking.running.call = LIST;
        self.look(looking, request, use_bearer, Answer::page).await
    }

    /// Reads an account in one attempt.
    pub(crate) async fn look_at_account(
        &self,
        looking: &mut Looking,
        id: i64,
        use_bearer: bool,
    ) -> Result<Seen<ContactAccount>, Failure> {
        looking.running.call = Call { operation: Operation::Get, id: Some(id) };
        let request = self.account_request(Method::GET, id, None);
        self.look(looking, request, use_bearer, |answer| answer.account(id)).await
    }

    /// Reads an account, and retries if that may help.
    pub(crate) async fn look_patiently(&self, looking: &mut Looking, id: i64) -> Result<Seen<ContactAccount>, Error> {
        looking.running.call = Call { operation: Operation::Get, id: Some(id) };
        let request = self.account_request(Method::GET, id, None);
        self.exchange(&mut looking.running, &request, |answer| seen(answer, answer.account(id)?)).await
    }

    /// Returns the turn to change an account.
    pub(crate) async fn turn_for(&self, looking: &Looking, id: i64) -> Result<Turn, Error> {
        self.take_turn(&looking.running, id).await
    }

    /// Reads an account, and sends the update that `decide` makes from it, in at most `attempts` attempts, or in those
    /// of the settings. See [`Client::look_and_update`].
    pub(crate) async fn look_and_write(
        &self,
        looking: &mut Looking,
        turn: &Turn,
        attempts: Option<u32>,
        decide: impl FnMut(&Seen<ContactAccount>) -> Result<Option<AccountFields>, Failure>,
    ) -> Result<Updated<Seen<ContactAccount>>, Error> {
        let id = turn.id();
        looking.running.call = Call { operation: Operation::Patch, id: Some(id) };
        let attempts = attempts.unwrap_or(self.config.max_attempts);
        let read = |answer: &Answer| seen(answer, answer.account(id)?);
        self.look_and_update(&mut looking.running, turn, attempts, read, decide).await
    }

    /// Waits before a retry.
    pub(crate) async fn pause(&self, looking: &Looking, wait: Duration) {
        self.sleep(&looking.running, wait, WaitReason::BackOff).await;
    }

    async fn look<T>(
        &self,
        looking: &mut Looking,
        request: Request,
        use_bearer: bool,
        read: impl Fn(&Answer) -> Result<T, Failure>,
    ) -> Result<Seen<T>, Failure> {
        let request = Request { names_limits: true, ..request };
        let slot = self.wait_for_slot(&looking.running).await?;
        let sending = Sending { request: &request, number: 1, use_bearer, last: None };
        self.attempt(&mut looking.running, slot, sending, &|answer| seen(answer, read(answer)?)).await
    }
}

/// Returns the parsed answer with the original body.
fn seen<T>(answer: &Answer, read: T) -> Result<Seen<T>, Failure> {
    let raw = serde_json::from_slice(answer.json()).map_err(|error| Failure::Internal(error.to_string()))?;
    Ok(Seen { read, raw, limits: answer.headers.limits.clone() })
}
