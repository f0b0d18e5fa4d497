//! What an observer is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use replyio::sandbox::Fault;
use replyio::{AccountFields, Event, ListQuery, Observer};

use crate::support::{ID, client, client_with, once, sandbox, sandbox_with, text};

/// Writes down what it is told.
#[derive(Default)]
pub(crate) struct Log {
    lines: Mutex<Vec<String>>,
    waits: Mutex<Vec<Duration>>,
    doubts: Mutex<Vec<bool>>,
}

impl Log {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn doubts(&self) -> Vec<bool> {
        self.doubts.lock().unwrap().clone()
    }

    pub(crate) fn waits(&self) -> Vec<Duration> {
        self.waits.lock().unwrap().clone()
    }
}

impl Observer for Log {
    fn observe(&self, event: Event<'_>) {
        let line = match event {
            Event::Attempted { method, path, outcome: Ok(status), attempt, sent } => {
                assert!(sent.elapsed() < Duration::from_secs(60));
                format!("{method} {path} {status} attempt {attempt}")
            }
            Event::Attempted { method, path, outcome: Err(failure), attempt, .. } => {
                format!("{method} {path} {:?} attempt {attempt}", failure.kind())
            }
            Event::QuotaNotShared { reason } => format!("not shared: {reason}"),
            Event::Unconfirmed { may_have_been_applied } => {
                self.doubts.lock().unwrap().push(may_have_been_applied);
                return;
            }
            Event::Waiting { wait, reason, call } => {
                self.waits.lock().unwrap().push(wait);
                format!("{call} waits for {reason}")
            }
        };
        self.lines.lock().unwrap().push(line);
    }
}

#[tokio::test]
async fn every_request_of_a_call_is_told_with_its_number() {
    let sandbox = sandbox();
    let log = Arc::new(Log::default());
    let client = client(&sandbox).observed(Arc::clone(&log) as _);
    client.patch(ID, &AccountFields { city: text("Bergen"), ..AccountFields::default() }).await.unwrap();
    client.get(8).await.unwrap_err();
    client.list_page(&ListQuery::default(), 10, 0).await.unwrap();
    let told = [
        "GET /v3/contact-accounts/7 200 attempt 1",
        "PUT /v3/contact-accounts/7 200 attempt 1",
        "GET /v3/contact-accounts/8 404 attempt 1",
        "GET /v3/contact-accounts 200 attempt 1",
    ];
    assert_eq!(log.lines(), told);
}

#[tokio::test]
async fn failed_attempts_and_the_waits_between_them_are_told() {
    let close = Fault { times: Some(1), close: true, ..Fault::default() };
    let sandbox = sandbox_with(|options| options.faults = vec![once(503), close]);
    let log = Arc::new(Log::default());
    client(&sandbox).observed(Arc::clone(&log) as _).get(ID).await.unwrap();
    let told = [
        "GET /v3/contact-accounts/7 503 attempt 1",
        "get of account 7 waits for pause before the next attempt",
        "GET /v3/contact-accounts/7 Transport attempt 2",
        "get of account 7 waits for pause before the next attempt",
        "GET /v3/contact-accounts/7 200 attempt 3",
    ];
    assert_eq!(log.lines(), told);
    let longest = [Duration::from_millis(500), Duration::from_secs(1)];
    assert!(log.waits().iter().zip(longest).all(|(wait, longest)| *wait <= longest), "{:?}", log.waits());
}

/// If the call is dropped, nothing else says whether its update may have been applied.
#[tokio::test]
async fn an_update_that_no_answer_has_confirmed_is_told_before_it_is_sent_and_after_it_failed() {
    for (first, told) in [(429, [true, false, true]), (503, [true, true, true])] {
        let put = Some(Method::PUT);
        let sandbox = sandbox_with(|options| options.faults = vec![Fault { method: put, ..once(first) }]);
        let log = Arc::new(Log::default());
        let client = client(&sandbox).observed(Arc::clone(&log) as _);
        client.get(ID).await.unwrap();
        assert!(log.doubts().is_empty(), "a read leaves no doubt");
        client.patch(ID, &AccountFields { city: text("Bergen"), ..AccountFields::default() }).await.unwrap();
        assert_eq!(log.doubts(), told, "{first}");
    }
}

#[tokio::test]
async fn an_attempt_that_runs_out_of_time_is_told_as_that() {
    let slow = Fault { times: Some(1), delay: Duration::from_secs(5), ..Fault::default() };
    let sandbox = sandbox_with(|options| options.faults.push(slow));
    let log = Arc::new(Log::default());
    let client = client_with(&sandbox, |config| config.attempt_timeout = Duration::from_millis(100));
    client.observed(Arc::clone(&log) as _).get(ID).await.unwrap();
    assert_eq!(log.lines()[0], "GET /v3/contact-accounts/7 DeadlineExceeded attempt 1");
    assert_eq!(log.lines().last().unwrap(), "GET /v3/contact-accounts/7 200 attempt 2");
}

#[tokio::test]
async fn a_client_without_an_observer_does_not_tell_the_one_it_was_made_from() {
    let sandbox = sandbox();
    let log = Arc::new(Log::default());
    let client = client(&sandbox);
    let observed = client.observed(Arc::clone(&log) as _);
    client.get(ID).await.unwrap();
    observed.anew().unwrap().get(ID).await.unwrap();
    assert_eq!(log.lines(), Vec::<String>::new());
}
