//! Properties that hold for any input bytes. `fuzz/` searches for counterexamples, guided by coverage; the tests here
//! try its seeds and mutations of them with the ordinary compiler.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a property that does not hold ends the run"
)]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::answer::{Answer, Body, Headers};
use crate::config::{ActAs, ApiKey, BaseUrl, ProxyUrl};
use crate::error::{Call, CallError, Error, Failure, Operation};
use crate::problem::{LONGEST_TEXT, Problem};
use crate::retry;
use crate::transport::meaningful;
use crate::{ContactAccount, Item, Page};

/// Splits the input into two texts at the first NUL.
fn two_texts(data: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(data).ok()?;
    Some(text.split_once('\0').unwrap_or((text, "")))
}

/// Response headers, one per line; or a Retry-After and a Date, separated by NUL. A wait is bounded, and does not
/// depend on this clock if the answer has its own; the client keeps exactly what a header says.
pub fn headers(data: &[u8]) {
    head(data);
    let Some((value, answered_at)) = two_texts(data) else { return };
    let clock = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
    let wait = retry::retry_after(value, Some(answered_at), clock);
    assert!(wait.unwrap_or_default() <= retry::LONGEST_HINT, "a wait without bound");
    if value.trim().bytes().all(|byte| byte.is_ascii_digit()) {
        assert_eq!(wait.is_some(), !value.trim().is_empty(), "seconds are always read");
    }
    if httpdate::parse_http_date(answered_at.trim()).is_ok() {
        let elsewhere = clock + Duration::from_secs(86_400);
        assert_eq!(
            wait,
            retry::retry_after(value, Some(answered_at), elsewhere),
            "the local clock matters although there is a Date"
        );
    }
}

/// Parses the relevant headers from any number of lines `name: value`.
fn head(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), value) {
            headers.append(name, value);
        }
    }
    let read = meaningful(&headers);
    let first = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    assert!(read.retry_after.unwrap_or_default() <= retry::LONGEST_HINT, "a wait without bound");
    assert!(read.retry_after.is_none() || first("retry-after").is_some(), "a wait that the answer did not ask for");
    // A request id appears in messages and attributes: no character in it may end a line.
    let stated = first("x-request-id").or_else(|| first("x-correlation-id"));
    assert_eq!(read.request_id.as_deref(), stated, "another request's name");
    assert!(!stated.unwrap_or_default().contains(['\r', '\n', '\0', '\u{1b}']), "not one line");
    let names_it = |value: &HeaderValue| value.as_bytes().to_ascii_lowercase().windows(6).any(|part| part == b"bearer");
    let is_asked = headers.get_all("www-authenticate").iter().any(names_it);
    assert!(is_asked || !read.bearer_challenge, "another challenge");
    assert_eq!(read.location, headers.contains_key("location"), "another address");
}

/// A problem body: every text is one short line, and so is its summary.
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

/// A value that the account target puts into bodies. No error may echo it, whatever else is wrong.
const CANARY: &str = "canary-4d1f";

/// An account and a page: an accepted account is the requested one and survives a round trip; an error never contains a
/// text of the body that is not a member name.
pub fn account(data: &[u8]) {
    read(data);
    for body in planted(data) {
        let answer = answered(&body);
        for failure in [answer.account(7).err(), answer.page().err()].into_iter().flatten() {
            discreet(&failure);
            let call = Call { operation: Operation::Update, id: Some(7) };
            let error = CallError { call, attempts: 1, elapsed: Duration::ZERO, may_have_been_applied: true, failure };
            assert!(!error.to_string().contains(CANARY), "{error}");
        }
    }
}

fn answered(body: &[u8]) -> Answer {
    Answer { status: 200, headers: Headers::default(), body: Body::Whole(Bytes::copy_from_slice(body)) }
}

/// Returns a body with the canary in place of a value or of a member name, and elsewhere.
fn planted(data: &[u8]) -> Vec<Vec<u8>> {
    let chosen = usize::from(data.first().copied().unwrap_or_default()) + data.len();
    let at = chosen % (data.len() + 1);
    let mut bodies = vec![[&data[..at], format!("\"{CANARY}\"").as_bytes(), &data[at..]].concat()];
    if let Ok(mut value) = serde_json::from_slice::<Value>(data) {
        // Parsed JSON is at most 128 levels deep.
        let mut never = usize::MAX;
        let leaves = plant(&mut value, &mut never);
        let mut left = chosen % leaves;
        plant(&mut value, &mut left);
        bodies.push(serde_json::to_vec(&value).unwrap());
        if let Value::Object(members) = &mut value {
            members.insert(CANARY.to_owned(), CANARY.into());
            bodies.push(serde_json::to_vec(&members).unwrap());
        }
    }
    bodies
}

/// Replaces the leaf with this number by the canary; returns the number of leaves.
fn plant(value: &mut Value, left: &mut usize) -> usize {
    match value {
        Value::Array(items) if !items.is_empty() => items.iter_mut().map(|item| plant(item, left)).sum(),
        Value::Object(members) if !members.is_empty() => members.values_mut().map(|member| plant(member, left)).sum(),
        leaf => {
            if *left == 0 {
                *leaf = CANARY.into();
            }
            *left = left.wrapping_sub(1);
            1
        }
    }
}

/// Returns the members of an object in their original form: a number that no double can represent is valid JSON too.
type Members<'a> = BTreeMap<String, &'a RawValue>;

fn stated<'a, T: Deserialize<'a>>(members: &Members<'a>, name: &str) -> Option<T> {
    serde_json::from_str(members.get(name)?.get()).ok()
}

fn read(data: &[u8]) {
    let answer = answered(data);
    match answer.account(7) {
        Ok(account) => {
            let members: Members<'_> = serde_json::from_slice(answer.json()).unwrap();
            assert_eq!((account.id, stated(&members, "id")), (7, Some(7)), "another account");
            assert_eq!(stated(&members, "name"), Some(account.name.clone()), "another name");
            same_again(&account);
        }
        Err(failure) => discreet(&failure),
    }
    match answer.page() {
        Ok(Page { items, has_more }) => {
            let members: Members<'_> = serde_json::from_slice(answer.json()).unwrap();
            let came: Vec<&RawValue> = stated(&members, "items").unwrap();
            assert_eq!(stated(&members, "hasMore"), Some(has_more), "another end");
            assert_eq!(came.len(), items.len(), "half a page");
            for (item, came) in items.iter().zip(came) {
                let id = serde_json::from_str(came.get()).ok().and_then(|members| stated::<i64>(&members, "id"));
                assert!(item.id().is_none() || item.id() == id, "another account");
                match item {
                    Item::Account(account) => same_again(account),
                    Item::Unreadable { reason, .. } => plain(reason),
                }
            }
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
    plain(&unexpected.reason);
}

fn plain(reason: &str) {
    let is_plain = |character: char| character.is_ascii_graphic() || character == ' ';
    assert!(!reason.is_empty() && reason.len() < 120 && reason.chars().all(is_plain), "{reason}");
}

/// Settings: an accepted key can be a header, is never printed and is redacted in every echo; an accepted URL protects
/// the key from plain http, and every resource is below it.
pub fn configuration(data: &[u8]) {
    let Some((text, around)) = two_texts(data) else { return };
    match ApiKey::new(text) {
        Ok(key) => {
            assert!(HeaderValue::from_str(key.expose()).is_ok(), "no header");
            assert!(!format!("{key:?}").contains(text) || "ApiKey(redacted)".contains(text), "printed");
            let redacted = key.redact(&format!("{around}{text}{around}"));
            // The text next to a `[key]` may end like a short key that contains a bracket.
            assert!(redacted.split("[key]").all(|between| !between.contains(text)), "echoed");
        }
        Err(error) => secret(&error, text),
    }
    for scheme in ["https", "http", text] {
        let error = BaseUrl::new(&format!("{scheme}://{CANARY}:{CANARY}@{text}"));
        // After another URL, it is a part of that URL's path.
        assert!(error.is_err() || scheme == text, "a user and a password");
        let message = error.map_or_else(|error| error.to_string(), |_| String::new());
        assert!(!message.contains(CANARY), "{message}");
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
        assert!(HeaderValue::from_str(&email).is_ok() && email == text, "no header");
    }
}

/// An error has the same text for any input, so it contains nothing of the input.
fn secret(error: &Error, text: &str) {
    let message = error.to_string();
    assert!(text.len() < 12 || !message.contains(text) || message.starts_with("proxy must be"), "{message}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};
    use std::{env, fs};

    use fastrand::Rng;

    /// The number of mutants of its seeds that each target tries, unless `REPLYIO_FUZZ_MUTANTS` is set.
    const MUTANTS: usize = 2_000;
    /// A target ends after this time, however many mutants are left.
    const LONGEST: Duration = Duration::from_secs(20);
    const PIECES: [&[u8]; 22] = [
        b"\0",
        b"\n",
        b":",
        b"\"",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b"null",
        b"1e400",
        b"-0",
        b"\\u00",
        b"\xff",
        b"9999",
        b"://",
        b"@",
        b"%2f",
        b"retry-after: ",
        b"x-request-id: ",
        b"www-authenticate: bearer\n",
        b"GMT",
    ];

    fn mutant(chance: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut mutant = chance.choice(seeds).unwrap().clone();
        for _ in 0..chance.usize(1..4) {
            let at = chance.usize(..=mutant.len());
            let end = mutant.len().min(at + [1, 1, 2, 8, 64][chance.usize(..5)]);
            match chance.u8(..6) {
                0 => mutant.truncate(at),
                1 => drop(mutant.drain(at..end)),
                2 => mutant.extend_from_within(at..end),
                3 => drop(mutant.splice(at..at, chance.choice(PIECES).unwrap().iter().copied())),
                4 => drop(mutant.splice(at..end, chance.choice(seeds).unwrap().iter().copied())),
                _ if at < end => mutant[at] = chance.u8(..),
                _ => {}
            }
        }
        mutant
    }

    fn tried(target: &str, property: impl Fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        // The published crate has no seeds.
        let Ok(files) = fs::read_dir(folder) else { return };
        let mut seeds: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
        seeds.sort();
        for seed in &seeds {
            property(seed);
        }
        let mut chance = Rng::with_seed(20_261_124);
        let mutants = env::var("REPLYIO_FUZZ_MUTANTS").map_or(MUTANTS, |count| count.parse().unwrap());
        let started = Instant::now();
        let mut done = 0_usize;
        while done < mutants && started.elapsed() < LONGEST {
            property(&mutant(&mut chance, &seeds));
            done += 1;
        }
        println!("{target}: {done} of {mutants} mutants in {:.1} s", started.elapsed().as_secs_f64());
    }

    #[test]
    fn headers_hold_for_seeds_and_mutants() {
        tried("headers", super::headers);
    }

    #[test]
    fn problems_hold_for_seeds_and_mutants() {
        tried("problem", super::problem);
    }

    #[test]
    fn accounts_hold_for_seeds_and_mutants() {
        tried("account", super::account);
    }

    #[test]
    fn configurations_hold_for_seeds_and_mutants() {
        tried("configuration", super::configuration);
    }
}
