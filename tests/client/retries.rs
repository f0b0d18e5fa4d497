//! What is tried again, how often, and what is not.

use std::time::{Duration, Instant, SystemTime};

use replyio::sandbox::{Applied, Fault};
use replyio::{Client, ErrorKind, Failure};

use crate::support::{
    ID, always, answering, api_failure, asked, body, call_error, client, client_with, client_without_retries, config,
    millis, named, once, sandbox_of, sandbox_with,
};

#[tokio::test]
async fn an_update_refused_twice_with_503_goes_through_the_third_time_unchanged() {
    let sandbox = sandbox_with(|options| options.faults.push(Fault { times: Some(2), ..always(503) }));
    let updated = client(&sandbox).update(ID, &named("Acme Ltd")).await.unwrap();
    assert_eq!(updated.name, "Acme Ltd");
    assert_eq!(asked(&sandbox), ["PUT /v3/contact-accounts/7"; 3]);
    let requests = sandbox.requests();
    assert!(requests.iter().all(|request| body(request) == serde_json::json!({"name": "Acme Ltd"})));
}

/// Each fault hits an account of its own, so that their waits go on side by side.
async fn tries(faults: Vec<Fault>) -> Vec<(bool, usize)> {
    let sandbox = sandbox_of(i64::try_from(faults.len()).unwrap());
    let client = client_with(&sandbox, |config| config.max_attempts = 2);
    let calls: Vec<_> = (1..)
        .zip(faults)
        .map(|(id, fault)| {
            sandbox.add_fault(Fault { id: Some(id), times: Some(1), ..fault });
            let client = client.clone();
            tokio::spawn(async move { client.get(id).await.is_ok() })
        })
        .collect();
    let mut results = Vec::new();
    for (id, call) in (1..).zip(calls) {
        let path = format!("/v3/contact-accounts/{id}");
        let succeeded = call.await.unwrap();
        results.push((succeeded, sandbox.requests().iter().filter(|request| request.path == path).count()));
    }
    results
}

#[tokio::test]
async fn a_status_that_may_pass_is_tried_again() {
    let statuses = [408, 429, 500, 502, 503, 504, 520, 524, 599];
    assert_eq!(tries(statuses.map(always).into()).await, [(true, 2); 9]);
}

#[tokio::test]
async fn a_status_that_will_not_pass_is_not() {
    let statuses = [202, 204, 302, 400, 401, 403, 404, 405, 409, 410, 412, 413, 422, 501, 505];
    let without_challenge = |status| answering(status, &[], "");
    assert_eq!(tries(statuses.map(without_challenge).into()).await, [(false, 1); 15]);
}

#[tokio::test]
async fn a_broken_connection_is_tried_again_wherever_it_broke() {
    let slow = Fault { delay: Duration::from_secs(1), close: true, ..Fault::default() };
    let faults = vec![
        Fault { close: true, ..Fault::default() },
        Fault { reset: true, ..Fault::default() },
        Fault { cut: Some(0), ..Fault::default() },
        Fault { cut: Some(40), ..Fault::default() },
        Fault { cut: Some(40), reset: true, ..Fault::default() },
        slow,
    ];
    assert_eq!(tries(faults).await, [(true, 2); 6]);
}

#[tokio::test]
async fn an_attempt_beyond_its_limit_is_cut_and_tried_again() {
    let slow = Fault { delay: Duration::from_secs(10), times: Some(1), ..Fault::default() };
    let sandbox = sandbox_with(|options| options.faults.push(slow));
    let client = client_with(&sandbox, |config| config.attempt_timeout = millis(100));
    let began = Instant::now();
    client.get(ID).await.unwrap();
    assert_eq!(sandbox.requests().len(), 2);
    assert!(began.elapsed() >= millis(100) && began.elapsed() < Duration::from_secs(2));
    assert_ne!(sandbox.requests()[0].connection, sandbox.requests()[1].connection);
}

#[tokio::test]
async fn the_last_attempt_is_the_last_and_tells_how_many_there_were() {
    for (fault, kind) in [
        (always(503), ErrorKind::Server),
        (Fault { close: true, ..Fault::default() }, ErrorKind::Transport),
        (Fault { cut: Some(10), ..Fault::default() }, ErrorKind::Transport),
    ] {
        let sandbox = sandbox_with(|options| options.faults.push(fault));
        let error = client_with(&sandbox, |config| config.max_attempts = 3).get(ID).await.unwrap_err();
        assert_eq!((error.kind(), sandbox.requests().len()), (kind, 3));
        assert!(error.to_string().contains(" after 3 attempts in "), "{error}");
        assert_eq!(call_error(error).attempts, 3);
    }
}

#[tokio::test]
async fn an_update_that_was_applied_although_it_failed_is_right_in_the_end() {
    for applied in [Applied::Before, Applied::Late, Applied::Never] {
        let lost = Fault { times: Some(1), reset: true, applied, ..Fault::default() };
        let sandbox = sandbox_with(|options| options.faults.push(lost));
        client(&sandbox).update(ID, &named("Written")).await.unwrap();
        assert_eq!(sandbox.accounts()[0].name, "Written");
        assert_eq!(sandbox.requests().len(), 2);
    }
}

#[tokio::test]
async fn retry_after_is_waited_for_in_full() {
    let sandbox = sandbox_with(|options| options.faults.push(Fault { times: Some(1), ..too_many("1") }));
    let began = Instant::now();
    client(&sandbox).get(ID).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(sandbox.requests().len(), 2);
}

fn too_many(retry_after: &str) -> Fault {
    answering(429, &[("retry-after", retry_after)], "")
}

#[tokio::test]
async fn retry_after_beyond_the_deadline_is_an_error_at_once() {
    let in_an_hour = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
    for retry_after in ["3600", in_an_hour.as_str(), "99999999999999999999"] {
        let sandbox = sandbox_with(|options| options.faults.push(too_many(retry_after)));
        let began = Instant::now();
        let error = client(&sandbox).get(ID).await.unwrap_err();
        assert_eq!((error.kind(), sandbox.requests().len()), (ErrorKind::RateLimit, 1));
        assert!(began.elapsed() < Duration::from_secs(1));
        let wait = api_failure(error).retry_after.unwrap();
        assert!(wait > Duration::from_secs(3590), "{wait:?}");
    }
}

#[tokio::test]
async fn retry_after_that_says_nothing_is_like_none() {
    let past = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (retry_after, hint) in
        [("soon", None), ("-1", None), ("", None), ("0", Some(Duration::ZERO)), (past, Some(Duration::ZERO))]
    {
        let sandbox = sandbox_with(|options| options.faults.push(too_many(retry_after)));
        let error = client_without_retries(&sandbox).get(ID).await.unwrap_err();
        assert_eq!(api_failure(error).retry_after, hint, "{retry_after:?}");
    }
}

#[tokio::test]
async fn a_service_that_is_down_is_not_asked_for_ever() {
    let sandbox = sandbox_with(|options| options.faults.push(always(503)));
    let client = client_with(&sandbox, |config| {
        config.max_attempts = 1_000;
        config.timeout = Duration::from_secs(2);
    });
    let calls: Vec<_> = (0..200).map(|_| tokio::spawn(call(client.clone()))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), ErrorKind::Server);
    }
    let retries = sandbox.requests().len() - 200;
    assert!((100..=105).contains(&retries), "{retries}");
}

async fn call(client: Client) -> ErrorKind {
    client.get(ID).await.unwrap_err().kind()
}

#[tokio::test]
async fn the_last_error_before_the_time_was_up_is_told() {
    let slow = Fault { delay: Duration::from_secs(10), ..Fault::default() };
    let sandbox = sandbox_with(|options| options.faults = vec![once(502), slow]);
    let client = client_with(&sandbox, |config| config.timeout = millis(1500));
    let error = call_error(client.get(ID).await.unwrap_err());
    let Failure::Deadline { whole_call: true, last: Some(last), .. } = &error.failure else { panic!("{error:?}") };
    assert_eq!((last.as_str(), error.attempts), ("502 Bad Gateway", 2));
}

#[tokio::test]
async fn a_call_next_to_a_failing_one_gets_its_own_answer() {
    let sandbox = sandbox_of(2);
    sandbox.add_fault(Fault { id: Some(1), ..always(500) });
    let client = Client::new(replyio::Config { max_attempts: 2, ..config(&sandbox) }).unwrap();
    let (failed, read) = tokio::join!(client.get(1), client.get(2));
    assert_eq!((failed.unwrap_err().kind(), read.unwrap().id), (ErrorKind::Server, 2));
    assert_eq!(client.get(2).await.unwrap().id, 2);
}
