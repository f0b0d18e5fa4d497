//! The quota: the service's own, and the client's that keeps from running into it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use replyio::sandbox::{Auth, Fault, Sandbox, SandboxQuota};
use replyio::{AccountFields, ActAs, ApiKey, Client, Config, Error, ErrorKind, Failure, Presence, Quota, WaitReason};
use tokio::task::{JoinHandle, yield_now};

use crate::events::Log;
use crate::support::{
    ID, always, answering, call_error, client, client_without_retries, config, new_key, once, sandbox, sandbox_with,
};

const ONE_A_MINUTE: Quota = Quota { per_minute: 1, per_hour: 100 };

fn with_quota(sandbox: &Sandbox, quota: Quota) -> Config {
    Config { quota: Some(quota), timeout: Duration::from_secs(30), ..config(sandbox) }
}

/// The wait that did not fit, and what for.
fn refusal(error: Error) -> (Duration, WaitReason) {
    match call_error(error).failure {
        Failure::Quota { retry_after, reason } => (retry_after, reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_full_minute_of_the_service_is_waited_for_as_long_as_it_says() {
    let sandbox = sandbox_with(|options| {
        options.quota = Some(SandboxQuota { per_minute: 2, per_hour: 100 });
        options.clock_scale = 60.0;
    });
    let client = client(&sandbox);
    let statuses = |sandbox: &Sandbox| {
        sandbox.requests().iter().map(|request| request.status.unwrap().as_u16()).collect::<Vec<_>>()
    };
    let began = Instant::now();
    for _ in 0..3 {
        client.get(ID).await.unwrap();
    }
    assert_eq!(statuses(&sandbox), [200, 200, 429, 200]);
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_full_hour_of_the_service_is_an_error_that_tells_when_it_opens() {
    let sandbox = sandbox_with(|options| options.quota = Some(SandboxQuota { per_minute: 100, per_hour: 1 }));
    let client = client(&sandbox);
    client.get(ID).await.unwrap();
    let error = client.get(ID).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimit);
    assert!(error.to_string().contains("the quota allows the next request in 60 min"), "{error}");
    let Failure::Api(answer) = call_error(error).failure else { panic!("not an answer") };
    assert!(answer.retry_after.unwrap() > Duration::from_secs(3590));
}

#[tokio::test]
async fn the_clients_own_quota_keeps_within_the_services() {
    let sandbox = sandbox_with(|options| options.quota = Some(SandboxQuota { per_minute: 100, per_hour: 3000 }));
    let config = Config { timeout: Duration::from_secs(30), quota: Some(Quota::default()), ..config(&sandbox) };
    let client = Client::new(config).unwrap();
    let mut refused = 0;
    for _ in 0..110 {
        refused += usize::from(client.get(ID).await.is_err());
    }
    assert_eq!((sandbox.requests().len(), refused), (95, 15));
    assert!(sandbox.requests().iter().all(|request| request.status.unwrap() == 200));
}

#[tokio::test]
async fn what_does_not_fit_the_deadline_is_refused_at_once_and_not_sent() {
    let sandbox = sandbox();
    for (quota, seconds, reason) in [
        (Quota { per_minute: 2, per_hour: 100 }, 60, WaitReason::PerMinute(2)),
        (Quota { per_minute: 100, per_hour: 2 }, 3600, WaitReason::PerHour(2)),
    ] {
        sandbox.clear_requests();
        let client = Client::new(with_quota(&sandbox, quota)).unwrap();
        client.get(ID).await.unwrap();
        client.get(ID).await.unwrap();
        let began = Instant::now();
        let error = client.get(ID).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!((error.kind(), sandbox.requests().len()), (ErrorKind::RateLimit, 2));
        assert!(error.to_string().contains("nothing was sent"), "{error}");
        let (wait, told) = refusal(error);
        assert!(about(wait, seconds), "{wait:?}");
        assert_eq!(told, reason);
    }
}

#[tokio::test]
async fn no_request_is_sent_that_leaves_no_time_for_its_answer() {
    let sandbox = sandbox();
    // The second minute begins just before the deadline.
    let config =
        Config { quota_clock_scale: 60.0, timeout: Duration::from_millis(1_050), ..with_quota(&sandbox, ONE_A_MINUTE) };
    let client = Client::new(config).unwrap();
    client.get(ID).await.unwrap();
    let began = Instant::now();
    refusal(client.get(ID).await.unwrap_err());
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(sandbox.requests().len(), 1);
}

#[tokio::test]
async fn a_patch_needs_two_requests_close_together() {
    let sandbox = sandbox();
    let client = Client::new(with_quota(&sandbox, ONE_A_MINUTE)).unwrap();
    let changes = AccountFields { city: Presence::Value("Bergen".to_owned()), ..AccountFields::default() };
    let error = client.patch(ID, &changes).await.unwrap_err();
    assert!(matches!(&error, Error::Configuration(text) if text.contains("at least 2 requests per minute")), "{error}");
    assert_eq!(sandbox.requests().len(), 0);

    // Each answer closes the window for longer than an update may wait.
    let headers = [
        ("content-type", "application/json"),
        ("ratelimit-limit", "1"),
        ("ratelimit-remaining", "0"),
        ("ratelimit-reset", "2"),
    ];
    let body = format!(
        r#"{{"id": {ID}, "name": "Acme", "ownerUserId": 1, "linkedProspectsCount": 0, "city": "Oslo",
            "createdDate": "2023-11-07T05:31:56Z", "lastActivityDate": "2023-11-07T05:31:56Z"}}"#
    );
    let fault = Fault { method: Some(Method::GET), ..answering(200, &headers, body) };
    sandbox.add_fault(fault);
    let config = Config { quota: Some(Quota { per_minute: 50, per_hour: 500 }), ..config(&sandbox) };
    let client = Client::new(Config { timeout: Duration::from_secs(30), ..config }).unwrap();
    let began = Instant::now();
    let error = call_error(client.patch(ID, &changes).await.unwrap_err());
    assert!(matches!(error.failure, Failure::Apart { .. }), "{error}");
    assert!(error.to_string().contains("after each read of its account"), "{error}");
    assert!(sandbox.requests().iter().all(|request| request.method == Method::GET));
    assert!((5..=6).contains(&sandbox.requests().len()) && began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn clients_of_one_user_count_together() {
    let sandbox = sandbox();
    let config = with_quota(&sandbox, Quota { per_minute: 5, per_hour: 100 });
    let first = Client::new(config.clone()).unwrap();
    let same = [
        first.clone(),
        first.with_config(config.clone()).unwrap(),
        first.with_own_connections().unwrap(),
        first.anew().unwrap(),
        Client::new(config).unwrap(),
    ];
    for client in &same {
        client.get(ID).await.unwrap();
    }
    for client in &same {
        assert_eq!(client.get(ID).await.unwrap_err().kind(), ErrorKind::RateLimit);
    }
    assert_eq!(sandbox.requests().len(), 5);
}

#[tokio::test]
async fn another_key_user_or_address_has_a_quota_of_its_own() {
    let (sandbox, elsewhere) = (sandbox(), sandbox());
    let config = with_quota(&sandbox, ONE_A_MINUTE);
    let others = [
        Config { api_key: ApiKey::new(new_key()).unwrap(), ..config.clone() },
        Config { act_as: Some(ActAs::UserId(1)), ..config.clone() },
        Config { act_as: Some(ActAs::UserId(2)), ..config.clone() },
        Config { act_as: Some(ActAs::UserEmail("a@b.example".to_owned())), ..config.clone() },
        Config { base_url: self::config(&elsewhere).base_url, ..config.clone() },
    ];
    for config in [config].into_iter().chain(others) {
        let client = Client::new(config).unwrap();
        client.get(ID).await.unwrap();
        assert_eq!(client.get(ID).await.unwrap_err().kind(), ErrorKind::RateLimit);
    }
    assert_eq!((sandbox.requests().len(), elsewhere.requests().len()), (5, 1));
}

#[tokio::test]
async fn without_a_quota_the_services_429_is_the_only_one() {
    let sandbox = sandbox();
    let config = with_quota(&sandbox, ONE_A_MINUTE);
    let free = Client::new(Config { quota: None, ..config.clone() }).unwrap();
    for _ in 0..20 {
        free.get(ID).await.unwrap();
    }
    let counted = Client::new(config).unwrap();
    assert!(counted.get(ID).await.is_ok(), "what was not counted does not count");
}

/// Starts a call that has to wait for the quota, and waits until it does.
async fn waiting(client: &Client) -> (JoinHandle<Result<(), Error>>, Duration) {
    let log = Arc::new(Log::default());
    let client = client.observed(Arc::clone(&log) as _);
    let call = tokio::spawn(async move { client.get(ID).await.map(drop) });
    while log.waits().is_empty() {
        yield_now().await;
    }
    assert_eq!(log.lines(), ["get of account 7 waits for quota: 1 per minute"]);
    (call, log.waits().remove(0))
}

async fn cancel(call: JoinHandle<Result<(), Error>>) {
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
}

fn about(wait: Duration, seconds: u64) -> bool {
    let seconds = Duration::from_secs(seconds);
    wait <= seconds && wait > seconds.saturating_sub(Duration::from_secs(5))
}

#[tokio::test]
async fn a_place_is_given_back_when_its_call_is_dropped_while_it_waits() {
    let sandbox = sandbox();
    let config = Config { timeout: Duration::from_secs(200), ..with_quota(&sandbox, ONE_A_MINUTE) };
    let client = Client::new(config).unwrap();
    client.get(ID).await.unwrap();
    for _ in 0..3 {
        let (call, wait) = waiting(&client).await;
        assert!(about(wait, 60), "{wait:?}");
        cancel(call).await;
    }
    let (first, _) = waiting(&client).await;
    let (second, wait) = waiting(&client).await;
    assert!(about(wait, 120), "{wait:?}");
    cancel(second).await;
    cancel(first).await;
    assert_eq!(sandbox.requests().len(), 1);
}

#[tokio::test]
async fn a_place_that_was_used_is_not_given_back() {
    let sandbox = sandbox_with(|options| {
        options.faults.push(Fault { delay: Duration::from_secs(10), ..Default::default() });
    });
    let client = Client::new(with_quota(&sandbox, ONE_A_MINUTE)).unwrap();
    let dropped = tokio::time::timeout(Duration::from_millis(100), client.get(ID)).await;
    assert!(dropped.is_err());
    assert_eq!(sandbox.requests().len(), 1);
    assert_eq!(refusal(client.get(ID).await.unwrap_err()).1, WaitReason::PerMinute(1));
}

#[tokio::test]
async fn a_call_that_is_pushed_back_behind_its_deadline_is_refused_and_not_sent() {
    let sandbox = sandbox_with(|options| {
        let delay = Duration::from_millis(600);
        options.faults.push(Fault { delay, times: Some(1), ..Default::default() });
    });
    let config = Config { quota_clock_scale: 60.0, ..with_quota(&sandbox, ONE_A_MINUTE) };
    let client = Client::new(config.clone()).unwrap();
    let hasty = Client::new(Config { timeout: Duration::from_millis(1_300), ..config }).unwrap();
    let slow = tokio::spawn(async move { client.get(ID).await.map(drop) });
    while sandbox.requests().is_empty() {
        yield_now().await;
    }
    // Its place is a second away, until the slow one is answered and counts from then.
    let error = hasty.get(ID).await.unwrap_err();
    slow.await.unwrap().unwrap();
    assert!(error.to_string().contains("nothing was sent"), "{error}");
    let (wait, reason) = refusal(error);
    assert!(wait > Duration::from_millis(300) && wait < Duration::from_secs(1), "{wait:?}");
    assert_eq!((reason, sandbox.requests().len()), (WaitReason::PerMinute(1), 1));
}

#[tokio::test]
async fn a_call_goes_out_when_the_window_opens_and_not_before() {
    let sandbox = sandbox();
    let config = Config { timeout: Duration::from_secs(200), ..with_quota(&sandbox, ONE_A_MINUTE) };
    let client = Client::new(config).unwrap();
    client.get(ID).await.unwrap();
    let (call, wait) = waiting(&client).await;
    // Only the wait is on the paused clock; the sandbox and its sockets know nothing of it.
    tokio::time::pause();
    tokio::time::advance(wait.saturating_sub(Duration::from_millis(10))).await;
    for _ in 0..100 {
        yield_now().await;
    }
    assert_eq!(sandbox.requests().len(), 1);
    tokio::time::advance(Duration::from_millis(20)).await;
    tokio::time::resume();
    call.await.unwrap().unwrap();
    assert_eq!(sandbox.requests().len(), 2);
}

#[tokio::test]
async fn a_retry_after_holds_back_every_call_of_the_user_and_nobody_else() {
    let sandbox = sandbox_with(|options| {
        let mut busy = answering(429, &[("retry-after", "600")], "");
        busy.times = Some(1);
        options.faults.push(busy);
    });
    let config = with_quota(&sandbox, Quota::default());
    let client = Client::new(config.clone()).unwrap();
    assert_eq!(client.get(ID).await.unwrap_err().kind(), ErrorKind::RateLimit);
    for client in [client.clone(), Client::new(config).unwrap()] {
        let (wait, reason) = refusal(client.get(ID).await.unwrap_err());
        assert!(about(wait, 600) && reason == WaitReason::RetryAfter, "{wait:?} {reason}");
    }
    assert_eq!(sandbox.requests().len(), 1);
    client_without_retries(&sandbox).get(ID).await.unwrap();
}

#[tokio::test]
async fn every_retryable_answer_with_retry_after_holds_back_the_user_with_and_without_a_quota() {
    for quota in [None, Some(Quota::default())] {
        for status in [408, 429, 500, 502, 503, 504, 520] {
            let sandbox = sandbox_with(|options| options.faults.push(answering(status, &[("retry-after", "600")], "")));
            let config = Config { quota, ..config(&sandbox) };
            let (client, same_user) = (Client::new(config.clone()).unwrap(), Client::new(config).unwrap());
            client.get(ID).await.unwrap_err();
            let (wait, reason) = refusal(same_user.get(ID).await.unwrap_err());
            assert!(about(wait, 600) && reason == WaitReason::RetryAfter, "{status} {wait:?} {reason}");
            assert_eq!(sandbox.requests().len(), 1, "{status}");
        }
    }
}

#[tokio::test]
async fn a_hold_that_fits_the_deadline_is_waited_for_by_every_call() {
    let sandbox = sandbox_with(|options| {
        options.faults.push(Fault { times: Some(1), ..answering(502, &[("retry-after", "1")], "") });
    });
    let client = client_without_retries(&sandbox);
    client.get(ID).await.unwrap_err();
    let log = Arc::new(Log::default());
    let began = Instant::now();
    client.observed(Arc::clone(&log) as _).get(ID).await.unwrap();
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(log.lines()[0], "get of account 7 waits for Retry-After of the service");
}

#[tokio::test]
async fn an_answer_that_is_not_tried_again_holds_nobody_back() {
    for status in [400, 403, 404, 501] {
        let sandbox = sandbox_with(|options| {
            let fault = answering(status, &[("retry-after", "600")], "");
            options.faults.push(Fault { times: Some(1), ..fault });
        });
        let client = client(&sandbox);
        client.get(ID).await.unwrap_err();
        client.get(ID).await.unwrap();
    }
}

#[tokio::test]
async fn a_retry_after_of_more_than_two_hours_ends_its_call_and_holds_nobody_back() {
    for (asked, told) in [("7201", 7_201), ("4000000000", 30 * 86_400), ("99999999999999999999", 30 * 86_400)] {
        for quota in [None, Some(Quota::default())] {
            let fault = answering(429, &[("retry-after", asked)], "");
            let sandbox = sandbox_with(|options| {
                options.faults.push(Fault { times: Some(1), ..fault });
            });
            let client = Client::new(Config { quota, ..config(&sandbox) }).unwrap();
            let error = client.get(ID).await.unwrap_err();
            assert_eq!(error.to_string().contains("30 days or more"), told > 7_201, "{error}");
            let Failure::Api(answer) = call_error(error).failure else { panic!("not an answer") };
            assert_eq!(answer.retry_after, Some(Duration::from_secs(told)));
            client.get(ID).await.unwrap();
            assert_eq!(sandbox.requests().len(), 2);
        }
    }
}

#[tokio::test]
async fn a_hold_lasts_as_long_as_the_service_asked_however_fast_the_quotas_clock_is() {
    for quota_clock_scale in [0.001, 1.0, 1_000_000.0] {
        let sandbox = sandbox_with(|options| options.faults.push(answering(503, &[("retry-after", "7200")], "")));
        let client = Client::new(Config { quota_clock_scale, ..config(&sandbox) }).unwrap();
        client.get(ID).await.unwrap_err();
        let (wait, reason) = refusal(client.get(ID).await.unwrap_err());
        assert!(about(wait, 7_200) && reason == WaitReason::RetryAfter, "{quota_clock_scale} {wait:?}");
    }
}

#[tokio::test]
async fn the_second_request_of_the_bearer_fallback_counts() {
    let sandbox = sandbox_with(|options| options.auth = Auth::Bearer);
    let two_a_minute = Quota { per_minute: 2, per_hour: 100 };
    let client = Client::new(with_quota(&sandbox, two_a_minute)).unwrap();
    client.get(ID).await.unwrap();
    assert_eq!(sandbox.requests().len(), 2);
    assert_eq!(refusal(client.get(ID).await.unwrap_err()).1, WaitReason::PerMinute(2));
}

#[tokio::test]
async fn the_bearer_fallback_waits_for_a_slot_of_its_own() {
    let sandbox = sandbox_with(|options| options.auth = Auth::Bearer);
    let client = Client::new(with_quota(&sandbox, ONE_A_MINUTE)).unwrap();
    assert_eq!(refusal(client.get(ID).await.unwrap_err()).1, WaitReason::PerMinute(1));
    assert_eq!(sandbox.requests().len(), 1);
    let config = Config { quota_clock_scale: 100.0, ..with_quota(&sandbox, ONE_A_MINUTE) };
    let client = Client::new(config).unwrap();
    let began = Instant::now();
    client.get(ID).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(600));
}

#[tokio::test]
async fn the_slowest_and_the_fastest_clock_of_a_quota_work() {
    for quota_clock_scale in [0.001, 1_000_000.0] {
        let sandbox = sandbox();
        let config = Config { quota_clock_scale, ..with_quota(&sandbox, ONE_A_MINUTE) };
        let client = Client::new(config).unwrap();
        client.get(ID).await.unwrap();
        match client.get(ID).await {
            Ok(_) => assert!(quota_clock_scale > 1.0),
            Err(error) => assert!(about(refusal(error).0, 60_000) && quota_clock_scale < 1.0),
        }
    }
}

#[tokio::test]
async fn a_next_attempt_that_the_quota_does_not_let_out_tells_what_failed() {
    let sandbox = sandbox_with(|options| options.faults.push(always(503)));
    let client = Client::new(with_quota(&sandbox, ONE_A_MINUTE)).unwrap();
    let error = client.get(ID).await.unwrap_err();
    assert_eq!((error.kind(), sandbox.requests().len()), (ErrorKind::Server, 1));
    assert_eq!(call_error(error).attempts, 1);
}

#[tokio::test]
async fn every_attempt_counts() {
    let sandbox = sandbox_with(|options| options.faults.push(once(503)));
    let client = Client::new(with_quota(&sandbox, Quota { per_minute: 2, per_hour: 100 })).unwrap();
    client.get(ID).await.unwrap();
    assert_eq!(refusal(client.get(ID).await.unwrap_err()).1, WaitReason::PerMinute(2));
}
