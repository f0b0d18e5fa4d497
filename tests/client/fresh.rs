//! An update rests on a fresh look: what a colleague writes during a wait is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use replyio::sandbox::{Applied, Fault, Sandbox};
use replyio::{AccountFields, Client, Config, Error, ErrorKind, Patched, Quota, WaitReason};
use serde_json::json;
use tokio::task::{JoinHandle, yield_now};

use crate::events::Log;
use crate::support::{ID, account, acme_but, answering, asked, client, config, only, sandbox, sandbox_with, text};

const GET: &str = "GET /v3/contact-accounts/7";
const PUT: &str = "PUT /v3/contact-accounts/7";

/// A client whose minute lasts three seconds.
fn with_minute(sandbox: &Sandbox, per_minute: u32) -> Client {
    let quota = Some(Quota { per_minute, per_hour: 1_000 });
    Client::new(Config { quota, quota_clock_scale: 20.0, ..config(sandbox) }).unwrap()
}

fn to_bergen() -> AccountFields {
    AccountFields { city: text("Bergen"), ..AccountFields::default() }
}

fn to_oslo() -> AccountFields {
    AccountFields { city: text("Oslo"), ..AccountFields::default() }
}

/// Starts a patch, and lets a colleague change the telephone number when it waits.
async fn patched_beside_a_colleague(sandbox: &Sandbox, client: &Client) -> Result<Patched, Error> {
    let log = Arc::new(Log::default());
    let client = client.observed(Arc::clone(&log) as _);
    let patch: JoinHandle<_> = tokio::spawn(async move { client.patch(ID, &to_bergen()).await });
    while log.waits().is_empty() {
        yield_now().await;
    }
    sandbox.set_account(&account(&acme_but(&json!({"phone": "+47 99"})))).unwrap();
    patch.await.unwrap()
}

fn phone_and_city(sandbox: &Sandbox) -> (Option<String>, Option<String>) {
    let account = sandbox.accounts().remove(0);
    (account.phone, account.city)
}

fn both_edits() -> (Option<String>, Option<String>) {
    (Some("+47 99".to_owned()), Some("Bergen".to_owned()))
}

#[tokio::test]
async fn a_patch_waits_for_the_quota_before_it_looks_and_not_after() {
    let sandbox = sandbox();
    let client = with_minute(&sandbox, 2);
    client.get(ID).await.unwrap();
    let patched = patched_beside_a_colleague(&sandbox, &client).await.unwrap();
    assert_eq!(phone_and_city(&sandbox), both_edits());
    assert!(patched.written && patched.deviations.is_empty());
    assert_eq!(asked(&sandbox), [GET, GET, PUT], "no request more");
}

#[tokio::test]
async fn a_patch_whose_update_is_told_to_wait_looks_again() {
    let busy = answering(429, &[("retry-after", "2")], "");
    let fault = only(Method::PUT, Fault { times: Some(1), ..busy });
    let sandbox = sandbox_with(|options| options.faults.push(fault));
    let patched = patched_beside_a_colleague(&sandbox, &client(&sandbox)).await.unwrap();
    assert_eq!(phone_and_city(&sandbox), both_edits());
    assert!(patched.written && patched.deviations.is_empty());
    assert_eq!(asked(&sandbox), [GET, PUT, GET, PUT]);
}

#[tokio::test]
async fn a_hold_that_another_call_was_told_during_the_look_is_waited_for_and_then_looked_again() {
    let busy = Fault { times: Some(1), request: Some(2), ..answering(503, &[("retry-after", "2")], "") };
    let slow = Fault { request: Some(1), delay: Duration::from_millis(300), ..Fault::default() };
    let sandbox = sandbox_with(|options| options.faults = vec![slow, busy]);
    let client = client(&sandbox);
    let other = Client::new(Config { max_attempts: 1, ..client.config().clone() }).unwrap();
    let held = async {
        while sandbox.requests().is_empty() {
            yield_now().await;
        }
        other.get(ID).await.unwrap_err();
    };
    let (patched, ()) = tokio::join!(patched_beside_a_colleague(&sandbox, &client), held);
    assert!(patched.unwrap().written);
    assert_eq!(phone_and_city(&sandbox), both_edits());
    assert_eq!(asked(&sandbox), [GET, GET, GET, PUT]);
}

#[tokio::test]
async fn an_update_that_was_applied_without_an_answer_is_not_sent_again_when_a_later_look_shows_it() {
    let lost = answering(503, &[("retry-after", "2")], "");
    let fault = only(Method::PUT, Fault { times: Some(1), applied: Applied::Before, ..lost });
    let sandbox = sandbox_with(|options| options.faults.push(fault));
    let patched = client(&sandbox).patch(ID, &to_bergen()).await.unwrap();
    assert_eq!(asked(&sandbox), [GET, PUT, GET]);
    assert!(patched.written && patched.deviations.is_empty());
    assert_eq!(patched.account.city.as_deref(), Some("Bergen"));
}

#[tokio::test]
async fn the_attempts_of_an_update_are_counted_over_all_looks() {
    let busy = answering(429, &[("retry-after", "2")], "");
    let sandbox = sandbox_with(|options| options.faults.push(only(Method::PUT, busy)));
    let client = Client::new(Config { max_attempts: 2, ..config(&sandbox) }).unwrap();
    let error = client.patch(ID, &to_bergen()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimit);
    assert_eq!(asked(&sandbox), [GET, PUT, GET, PUT]);
}

#[tokio::test]
async fn a_patch_that_changes_nothing_uses_one_slot_and_does_not_need_a_second_one() {
    let sandbox = sandbox();
    let quota = Some(Quota { per_minute: 3, per_hour: 1_000 });
    let client = Client::new(Config { quota, timeout: Duration::from_secs(5), ..config(&sandbox) }).unwrap();
    let began = Instant::now();
    for _ in 0..3 {
        assert!(!client.patch(ID, &to_oslo()).await.unwrap().written);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let error = client.patch(ID, &to_oslo()).await.unwrap_err();
    assert!(error.to_string().contains("nothing was sent"), "{error}");
    assert_eq!(asked(&sandbox), [GET; 3]);
}

#[tokio::test]
async fn a_patch_without_a_slot_for_its_update_within_its_time_says_so_and_sends_none() {
    let sandbox = sandbox();
    let quota = Some(Quota { per_minute: 2, per_hour: 1_000 });
    let client = Client::new(Config { quota, timeout: Duration::from_secs(5), ..config(&sandbox) }).unwrap();
    client.get(ID).await.unwrap();
    let error = client.patch(ID, &to_bergen()).await.unwrap_err();
    assert_eq!((error.kind(), asked(&sandbox)), (ErrorKind::RateLimit, vec![GET.to_owned(); 2]));
    let waits = matches!(&error, Error::Call(call)
        if matches!(call.failure, replyio::Failure::Quota { reason: WaitReason::PerMinute(2), .. }));
    assert!(waits, "{error}");
}
