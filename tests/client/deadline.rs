//! One deadline for the whole call: quota, attempts, pauses and body together.

use std::time::{Duration, Instant};

use http::Method;
use replyio::sandbox::Fault;
use replyio::{AccountFields, Client, Config, Error, ErrorKind, Failure, Quota};

use crate::support::{
    ID, answering, call_error, client_with, config_for, millis, named, only, sandbox_with, server_that_says, text,
};

/// How long after the limit an error may come.
const GRACE: Duration = Duration::from_millis(500);

fn stalled(seconds: u64) -> Fault {
    Fault { delay: Duration::from_secs(seconds), ..Fault::default() }
}

fn assert_within(began: Instant, limit: Duration) {
    let elapsed = began.elapsed();
    assert!(elapsed >= limit && elapsed < limit + GRACE, "{elapsed:?} for {limit:?}");
}

fn whole_call(error: Error) -> bool {
    match call_error(error).failure {
        Failure::Deadline { whole_call, .. } => whole_call,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_silent_server_is_left_at_the_deadline() {
    let sandbox = sandbox_with(|options| options.faults.push(stalled(10)));
    let began = Instant::now();
    let error = client_with(&sandbox, |config| config.timeout = millis(300)).get(ID).await.unwrap_err();
    assert_within(began, millis(300));
    assert_eq!((error.kind(), sandbox.requests().len()), (ErrorKind::DeadlineExceeded, 1));
    assert!(error.to_string().contains("the call took longer than its timeout of 0.3 s"), "{error}");
    assert!(whole_call(error));
}

#[tokio::test]
async fn a_body_that_stalls_is_left_at_the_deadline() {
    for said in [&b"HTTP/1.1 200 OK\r\n"[..], b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"id\": 7,"] {
        let config = Config { timeout: millis(300), ..config_for(&server_that_says(said)) };
        let began = Instant::now();
        let error = Client::new(config).unwrap().get(ID).await.unwrap_err();
        assert_within(began, millis(300));
        assert!(whole_call(error));
    }
}

#[tokio::test]
async fn attempts_and_pauses_together_end_before_the_deadline() {
    // The hint says how long each pause is: after one of random length, an attempt might begin a moment before the
    // deadline and be cut by it, which is another error.
    let sandbox = sandbox_with(|options| options.faults.push(answering(503, &[("retry-after", "1")], "")));
    let client = client_with(&sandbox, |config| {
        config.max_attempts = 1_000;
        config.timeout = millis(2900);
    });
    let began = Instant::now();
    let error = client.get(ID).await.unwrap_err();
    // After 2 s there is time for an attempt and none for another pause: it is not begun, and what failed is told.
    assert!(began.elapsed() < millis(2900), "{:?}", began.elapsed());
    assert_eq!(error.kind(), ErrorKind::Server);
    assert_eq!(call_error(error).attempts, 3);
}

#[tokio::test]
async fn attempts_that_are_cut_count_against_the_call() {
    let sandbox = sandbox_with(|options| options.faults.push(stalled(10)));
    let client = client_with(&sandbox, |config| {
        config.max_attempts = 1_000;
        config.attempt_timeout = millis(200);
        config.timeout = millis(900);
    });
    let began = Instant::now();
    let error = client.get(ID).await.unwrap_err();
    assert!(began.elapsed() < millis(900) + GRACE);
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!((1..=5).contains(&call_error(error).attempts));
}

#[tokio::test]
async fn the_last_attempt_cut_by_its_own_limit_says_so() {
    let sandbox = sandbox_with(|options| options.faults.push(stalled(10)));
    let client = client_with(&sandbox, |config| {
        config.max_attempts = 1;
        config.attempt_timeout = millis(200);
    });
    let error = client.get(ID).await.unwrap_err();
    assert!(error.to_string().contains("an attempt took longer than its timeout of 0.2 s"), "{error}");
    assert!(error.to_string().contains("attempt_timeout="), "{error}");
    assert!(!whole_call(error));
}

#[tokio::test]
async fn both_requests_of_a_patch_share_it() {
    // So late that a deadline of its own for the second request would end after the grace, and not too late.
    let read = Fault { delay: millis(1000), ..only(Method::GET, Fault::default()) };
    let sandbox = sandbox_with(|options| options.faults = vec![read, only(Method::PUT, stalled(10))]);
    let client = client_with(&sandbox, |config| config.timeout = millis(2000));
    let began = Instant::now();
    let changes = AccountFields { city: text("Bergen"), ..AccountFields::default() };
    let error = client.patch(ID, &changes).await.unwrap_err();
    assert_within(began, millis(2000));
    assert_eq!(sandbox.requests().len(), 2);
    assert!(whole_call(error));
}

#[tokio::test]
async fn a_wait_for_the_service_counts_against_it() {
    let wait = Fault { times: Some(1), ..answering(429, &[("retry-after", "1")], "") };
    let sandbox = sandbox_with(|options| options.faults = vec![wait, stalled(10)]);
    let client = client_with(&sandbox, |config| {
        config.timeout = millis(1300);
        config.quota = Some(Quota::default());
    });
    let began = Instant::now();
    let error = client.get(ID).await.unwrap_err();
    assert_within(began, millis(1300));
    assert_eq!(sandbox.requests().len(), 2);
    assert!(whole_call(error));
}

#[tokio::test]
async fn a_wait_for_the_quota_counts_against_it() {
    let sandbox = sandbox_with(|options| options.faults.push(Fault { request: Some(2), ..stalled(10) }));
    let client = client_with(&sandbox, |config| {
        // Five seconds of it are for the answer.
        config.timeout = Duration::from_millis(65_200);
        config.quota = Some(Quota { per_minute: 1, per_hour: 100 });
    });
    client.get(ID).await.unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { (client.get(ID).await, tokio::time::Instant::now()) }
    });
    let began = tokio::time::Instant::now();
    tokio::task::yield_now().await;
    // The minute passes as it does while a laptop sleeps; the attempt behind it takes real time.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    let (outcome, ended) = waiting.await.unwrap();
    let elapsed = ended - began;
    let limit = Duration::from_millis(65_200);
    assert!(elapsed >= limit && elapsed < limit + GRACE, "{elapsed:?}");
    assert_eq!(sandbox.requests().len(), 2);
    assert!(whole_call(outcome.unwrap_err()));
}

#[tokio::test]
async fn a_call_that_is_dropped_closes_its_request() {
    let sandbox = sandbox_with(|options| options.faults.push(Fault { times: Some(1), ..stalled(10) }));
    let client = client_with(&sandbox, |config| config.timeout = Duration::from_secs(60));
    let dropped = tokio::time::timeout(millis(100), client.update(ID, &named("Acme"))).await;
    assert!(dropped.is_err());
    client.get(ID).await.unwrap();
    let requests = sandbox.requests();
    assert_eq!(requests.len(), 2);
    assert_ne!(requests[0].connection, requests[1].connection);
}
