//! What the tests share: a sandbox with one account, a client of it, and short ways to say what they mean.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use replyio::sandbox::{Fault, Response, Sandbox, SandboxOptions, SandboxRequest, account_from_json};
use replyio::{
    AccountFields, ApiFailure, BaseUrl, CallError, Client, Config, ContactAccount, Error, Failure, Field, Presence,
};
use serde_json::{Value, json};

/// The account that every sandbox of these tests has.
pub(crate) const ID: i64 = 7;

/// That account, with a value in every member.
pub(crate) fn acme() -> Value {
    json!({
        "id": ID, "ownerUserId": 42, "name": "Acme", "linkedProspectsCount": 12, "createdDate": "2023-11-07T05:31:56Z",
        "lastActivityDate": "2026-09-08T12:08:22.58Z", "description": "Supplies", "domainName": "acme.example",
        "domainSecondary": "acme.test", "industry": "Manufacturing", "companySize": "51-200", "country": "Norway",
        "state": "Oslo", "city": "Oslo", "timeZoneId": "Europe/Oslo", "linkedInUrl": "https://linkedin.example/acme",
        "phone": "+47 21", "twitterUrl": "https://twitter.example/acme", "logoUrl": "https://acme.example/logo.png",
        "email": "hello@acme.example", "stage": {"id": 3, "name": "Customer", "colorId": 7}, "emailProvider": "Gmail",
    })
}

/// The account with other members.
pub(crate) fn acme_but(members: &Value) -> Value {
    let mut account = acme();
    account.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    account
}

pub(crate) fn account(value: &Value) -> ContactAccount {
    serde_json::from_value(value.clone()).unwrap()
}

/// A sandbox with that account, and what else it is told.
pub(crate) fn sandbox_with(change: impl FnOnce(&mut SandboxOptions)) -> Sandbox {
    let mut options = SandboxOptions { accounts: Some(vec![account(&acme())]), ..SandboxOptions::default() };
    change(&mut options);
    Sandbox::start(options).unwrap()
}

pub(crate) fn sandbox() -> Sandbox {
    sandbox_with(|_| {})
}

/// A sandbox with that many accounts, 1, 2 and so on.
pub(crate) fn sandbox_of(count: i64) -> Sandbox {
    let account = |id| account_from_json(&json!({"id": id, "name": format!("Account {id}")})).unwrap();
    sandbox_with(|options| options.accounts = Some((1..=count).map(account).collect()))
}

/// A key that no other test uses: the quota is counted per key over the whole process.
pub(crate) fn new_key() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("key-of-test-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Settings for an address, with a new key and no quota of the client's own.
pub(crate) fn config_for(url: &str) -> Config {
    let base_url = BaseUrl::new(url).unwrap();
    Config { base_url, quota: None, ..Config::new(new_key()).unwrap() }
}

pub(crate) fn config(sandbox: &Sandbox) -> Config {
    config_for(&sandbox.url())
}

pub(crate) fn client_with(sandbox: &Sandbox, change: impl FnOnce(&mut Config)) -> Client {
    let mut config = config(sandbox);
    change(&mut config);
    Client::new(config).unwrap()
}

pub(crate) fn client(sandbox: &Sandbox) -> Client {
    client_with(sandbox, |_| {})
}

/// A client that tries once.
pub(crate) fn client_without_retries(sandbox: &Sandbox) -> Client {
    client_with(sandbox, |config| config.max_attempts = 1)
}

pub(crate) fn text(text: &str) -> Presence<String> {
    Presence::Value(text.to_owned())
}

/// An update that names only the account.
pub(crate) fn named(name: &str) -> AccountFields {
    AccountFields { name: text(name), ..AccountFields::default() }
}

/// Says something about a text field.
pub(crate) fn set(fields: &mut AccountFields, field: Field, value: Presence<String>) {
    let slot = match field {
        Field::Name => &mut fields.name,
        Field::Description => &mut fields.description,
        Field::DomainName => &mut fields.domain_name,
        Field::DomainSecondary => &mut fields.domain_secondary,
        Field::Industry => &mut fields.industry,
        Field::Country => &mut fields.country,
        Field::State => &mut fields.state,
        Field::City => &mut fields.city,
        Field::TimeZoneId => &mut fields.time_zone_id,
        Field::LinkedInUrl => &mut fields.linked_in_url,
        Field::Phone => &mut fields.phone,
        Field::TwitterUrl => &mut fields.twitter_url,
        Field::LogoUrl => &mut fields.logo_url,
        Field::Email => &mut fields.email,
        Field::CompanySize | Field::OwnerUserId => panic!("{field:?} is not a text field"),
    };
    *slot = value;
}

/// The text fields that an update may clear.
pub(crate) fn optional_texts() -> impl Iterator<Item = Field> {
    Field::ALL.iter().copied().filter(|field| field.nullable() && *field != Field::CompanySize)
}

pub(crate) fn body(request: &SandboxRequest) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

pub(crate) fn last_body(sandbox: &Sandbox) -> Value {
    body(sandbox.requests().last().unwrap())
}

pub(crate) fn header<'a>(request: &'a SandboxRequest, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
}

/// What was asked for, as `PUT /v3/contact-accounts/7`.
pub(crate) fn asked(sandbox: &Sandbox) -> Vec<String> {
    sandbox.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
}

/// A fault that answers a status, once.
pub(crate) fn once(status: u16) -> Fault {
    Fault { times: Some(1), ..always(status) }
}

/// A fault that answers a status to every request.
pub(crate) fn always(status: u16) -> Fault {
    Fault { response: Some(Response::status(status).unwrap()), ..Fault::default() }
}

/// A fault that answers a status with headers and a body.
pub(crate) fn answering(status: u16, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> Fault {
    let mut response = Response::status(status).unwrap();
    for (name, value) in headers {
        response.headers.insert(*name, value.parse().unwrap());
    }
    response.body = Some(body.into());
    Fault { response: Some(response), ..Fault::default() }
}

pub(crate) fn problem(status: u16, body: &Value) -> Fault {
    answering(status, &[("content-type", "application/problem+json")], body.to_string())
}

pub(crate) fn json_answer(body: &Value) -> Fault {
    answering(200, &[("content-type", "application/json")], body.to_string())
}

pub(crate) fn only(method: Method, fault: Fault) -> Fault {
    Fault { method: Some(method), ..fault }
}

/// The call that failed.
pub(crate) fn call_error(error: Error) -> CallError {
    match error {
        Error::Call(error) => *error,
        other => panic!("{other:?}"),
    }
}

/// The error that the service answered.
pub(crate) fn api_failure(error: Error) -> ApiFailure {
    match call_error(error).failure {
        Failure::Api(answer) => *answer,
        other => panic!("{other:?}"),
    }
}

/// Why an answer is not what the contract has.
pub(crate) fn unexpected(error: Error) -> String {
    match call_error(error).failure {
        Failure::Unexpected(unexpected) => unexpected.reason,
        other => panic!("{other:?}"),
    }
}

/// A server of one connection that says something, whatever it is asked, and then nothing more.
pub(crate) fn server_that_says(what: &[u8]) -> String {
    let what = what.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v3", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        // Whether the client is still there does not matter.
        let _ = stream.read(&mut request).and_then(|_| stream.write_all(&what));
        std::thread::sleep(Duration::from_secs(20));
    });
    url
}

pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
