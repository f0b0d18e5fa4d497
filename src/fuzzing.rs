//! What must hold for any bytes at all. Seen by `fuzz/` only.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a property that does not hold ends the run"
)]

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::answer::{Answer, Body, Headers};
use crate::config::{ActAs, ApiKey, BaseUrl, ProxyUrl};
use crate::error::{Error, Failure};
use crate::problem::{LONGEST_TEXT, Problem};
use crate::retry;
use crate::{ContactAccount, Page};

/// Two texts, parted by the first NUL.
fn two_texts(data: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(data).ok()?;
    Some(text.split_once('\0').unwrap_or((text, "")))
}

/// A Retry-After and a Date: a wait is bounded where it was given in seconds, and does not depend on our clock where the
/// answer has one of its own.
pub fn headers(data: &[u8]) {
    let Some((value, answered_at)) = two_texts(data) else { return };
    let clock = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
    let wait = retry::retry_after(value, Some(answered_at), clock);
    if value.trim().bytes().all(|byte| byte.is_ascii_digit()) {
        assert_eq!(wait.is_some(), !value.trim().is_empty(), "seconds are always read");
        assert!(wait.unwrap_or_default() <= Duration::from_secs(u64::from(u32::MAX)), "a wait without bound");
    } else if let Some(wait) = wait {
        assert!(wait < Duration::from_secs(10_000 * 366 * 86_400), "a wait past the year 9999");
    }
    if httpdate::parse_http_date(answered_at.trim()).is_ok() {
        let elsewhere = clock + Duration::from_secs(86_400);
        assert_eq!(wait, retry::retry_after(value, Some(answered_at), elsewhere), "our clock matters beside a Date");
    }
}

/// A problem body: every text is one short line, and its essence too.
pub fn problem(data: &[u8]) {
    let problem = Problem::read(data);
    let lines = [&problem.title, &problem.detail, &problem.code].into_iter().flatten();
    for line in lines.chain(problem.errors.iter().flat_map(|error| [&error.field, &error.message])) {
        // The longest escape of one character is `\u{10ffff}`.
        assert!(line.chars().count() <= LONGEST_TEXT * 10 + 1, "too long");
        assert!(!line.chars().any(char::is_control), "not one line");
    }
    assert!(problem.errors.len() <= 100, "too many faults");
    assert!(!problem.summary().unwrap_or_default().chars().any(char::is_control), "not one line");
}

/// An account and a page: what is accepted is the account asked for and survives being written and read again; a refusal
/// never has a text of the body in it that is not a member's name.
pub fn account(data: &[u8]) {
    let answer = Answer { status: 200, headers: Headers::default(), body: Body::Whole(Bytes::copy_from_slice(data)) };
    let stated = serde_json::from_slice::<serde_json::Value>(data).ok();
    match answer.account(7) {
        Ok(account) => {
            let stated = stated.clone().unwrap();
            assert_eq!((account.id, stated["id"].as_i64()), (7, Some(7)), "another account");
            assert_eq!(stated["name"].as_str(), Some(account.name.as_str()), "another name");
            same_again(&account);
        }
        Err(failure) => discreet(&failure),
    }
    match answer.page() {
        Ok(Page { items, has_more }) => {
            let stated = stated.unwrap();
            assert_eq!(stated["hasMore"].as_bool(), Some(has_more), "another end");
            assert_eq!(stated["items"].as_array().map(Vec::len), Some(items.len()), "half a page");
            items.iter().for_each(same_again);
        }
        Err(failure) => discreet(&failure),
    }
}

fn same_again(account: &ContactAccount) {
    let written = serde_json::to_vec(account).unwrap();
    assert_eq!(&serde_json::from_slice::<ContactAccount>(&written).unwrap(), account, "not the same when read again");
}

fn discreet(failure: &Failure) {
    let Failure::Unexpected(unexpected) = failure else { panic!("{failure:?}") };
    let reason = unexpected.reason.as_str();
    let is_plain = |character: char| character.is_ascii_graphic() || character == ' ';
    assert!(!reason.is_empty() && reason.len() < 120 && reason.chars().all(is_plain), "{reason}");
}

/// Settings: a key that is accepted can be a header, is never printed and is taken out wherever it is echoed; an address
/// that is accepted keeps the key from plain http, and every resource is below it.
pub fn configuration(data: &[u8]) {
    let Some((text, around)) = two_texts(data) else { return };
    match ApiKey::new(text) {
        Ok(key) => {
            assert!(http::HeaderValue::from_str(key.expose()).is_ok(), "no header");
            assert!(!format!("{key:?}").contains(text) || "ApiKey(redacted)".contains(text), "printed");
            let redacted = key.redact(&format!("{around}{text}{around}"));
            // What stands beside a `[key]` may end as a short key does that has a bracket in it.
            assert!(redacted.split("[key]").all(|between| !between.contains(text)), "echoed");
        }
        Err(error) => secret(&error, text),
    }
    if let Ok(base) = BaseUrl::new(text) {
        assert!(base.is_https() || base.is_loopback(), "the key in the clear");
        let shown = base.to_string();
        assert_eq!(BaseUrl::new(&shown).unwrap(), base, "not the same when read again: {shown}");
        let whole = base.join(format_args!("/contact-accounts/{}", 7));
        assert_eq!(whole.as_str(), format!("{shown}/contact-accounts/7"), "not below the base");
    }
    match ProxyUrl::new(text) {
        Ok(proxy) => assert_eq!(format!("{proxy:?}"), "ProxyUrl(redacted)", "printed"),
        Err(error) => secret(&error, text),
    }
    if let Ok(ActAs::UserEmail(email)) = ActAs::user_email(text) {
        assert!(http::HeaderValue::from_str(&email).is_ok() && email == text, "no header");
    }
}

/// A refusal says the same whatever the text was, so that it has no more of it than the words it is made of.
fn secret(error: &Error, text: &str) {
    let message = error.to_string();
    assert!(text.len() < 12 || !message.contains(text) || message.starts_with("proxy must be"), "{message}");
}
