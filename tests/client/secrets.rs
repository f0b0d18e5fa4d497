//! Nothing prints the key, whatever the other side does with it.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::sync::Arc;

use replyio::sandbox::{Auth, Fault, Sandbox};
use replyio::{Client, Config, Error, Event, Observer, ProxyUrl};
use serde_json::json;

use crate::support::{ID, answering, config, config_for, named, problem, sandbox_with, server_that_says};

const KEY: &str = "canary+key/0123456789";
/// Parts of the key, of its escaped forms, of its base64 in each alignment, alone and behind `Bearer `, and of its
/// hexadecimal digits.
const TRACES: [&str; 12] = [
    "canary",
    "CANARY",
    "%2Bkey",
    "%252Bkey",
    "Bkey",
    "43;key",
    "plus;key",
    "63616e61",
    "Y2FuYXJ5",
    "jYW5hcnkr",
    "5hcnkra2V5",
    "W5hcnkra2V",
];

fn with_key(config: Config) -> Config {
    Config { max_attempts: 2, ..Config { api_key: replyio::ApiKey::new(KEY).unwrap(), ..config } }
}

/// Everything that an error can be asked for.
fn printed(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut next = error.source();
    while let Some(source) = next {
        write!(text, " {source} {source:?}").unwrap();
        next = source.source();
    }
    text
}

fn assert_clean(text: &str) {
    for trace in TRACES {
        assert!(!text.contains(trace), "{trace} in {text}");
    }
}

/// Remembers everything that it was told.
#[derive(Default)]
struct Transcript(std::sync::Mutex<String>);

impl Observer for Transcript {
    fn observe(&self, event: Event<'_>) {
        write!(self.0.lock().unwrap(), "{event:?}").unwrap();
    }
}

async fn told(config: Config) -> String {
    let transcript = Arc::new(Transcript::default());
    let client = Client::new(with_key(config)).unwrap().observed(Arc::clone(&transcript) as _);
    let error = client.update(ID, &named("Acme")).await.unwrap_err();
    let text = format!("{client:?} {} {}", printed(&error), transcript.0.lock().unwrap());
    assert!(text.len() > 100);
    text
}

#[test]
fn a_client_its_settings_and_its_proxy_print_no_secret() {
    let proxy = Some(ProxyUrl::new("http://user:canary@proxy.example:3128").unwrap());
    let config = Config { proxy, ..with_key(Config::new("none").unwrap()) };
    let client = Client::new(config.clone()).unwrap();
    for text in [format!("{config:?}"), format!("{client:?}"), format!("{:#?}", client.config().api_key)] {
        assert_clean(&text);
    }
}

fn echoing() -> Vec<Fault> {
    let percent = "canary%2Bkey%2F0123456789";
    let base64 = "Y2FuYXJ5K2tleS8wMTIzNDU2Nzg5";
    let bearer_base64 = "QmVhcmVyIGNhbmFyeStrZXkvMDEyMzQ1Njc4OQ==";
    let escaped = [
        "canary%252Bkey%252F0123456789",
        "canary&#x2B;key&#47;0123456789",
        "canary&plus;key&sol;0123456789",
        r"canary\u002Bkey/0123456789",
        "canary key/0123456789",
        "CANARY+KEY/0123456789",
        "63616e6172792b6b65792f30313233343536373839",
    ]
    .join(", ");
    let said = format!("You sent {KEY}, {percent}, {base64}, {bearer_base64}, {escaped}.");
    let details = json!({
        "title": said, "detail": said, "code": said, "errors": [{"pointer": said, "detail": said}], "extensions": {}
    });
    vec![
        problem(400, &details),
        problem(403, &json!({"detail": said})),
        problem(503, &json!({"detail": said})),
        answering(404, &[("x-request-id", &said)], ""),
        answering(200, &[], said.clone()),
        answering(200, &[], json!({"id": said, "name": said}).to_string()),
        answering(302, &[("location", &format!("https://other.example/?key={percent}"))], said.clone()),
        answering(418, &[], format!("<html>{said}")),
    ]
}

#[tokio::test]
async fn an_answer_that_echoes_the_key_is_told_without_it() {
    for fault in echoing() {
        let sandbox = sandbox_with(|options| options.faults.push(fault));
        assert_clean(&told(config(&sandbox)).await);
    }
}

#[tokio::test]
async fn a_key_cut_in_the_middle_with_the_text_around_it_is_not_told_either() {
    for before in 170..200 {
        let sandbox = sandbox_with(|options| {
            options.faults.push(answering(200, &[], format!("{}{KEY}", "x".repeat(before))));
        });
        assert_clean(&told(config(&sandbox)).await);
    }
    let detail = format!("{}{KEY}", "x".repeat(490));
    let sandbox = sandbox_with(|options| options.faults.push(problem(400, &json!({"detail": detail}))));
    assert_clean(&told(config(&sandbox)).await);
    let spaces = format!("{}{KEY}", " ".repeat(790));
    let sandbox = sandbox_with(|options| options.faults.push(answering(200, &[], spaces)));
    assert_clean(&told(config(&sandbox)).await);
}

#[tokio::test]
async fn errors_below_the_answers_have_no_key_in_them() {
    let refused = config(&Sandbox::start(replyio::sandbox::SandboxOptions::default()).unwrap());
    assert_clean(&told(refused).await);
    for fault in [
        Fault { close: true, ..Fault::default() },
        Fault { reset: true, ..Fault::default() },
        Fault { cut: Some(5), ..Fault::default() },
    ] {
        let sandbox = sandbox_with(|options| options.faults.push(fault));
        assert_clean(&told(config(&sandbox)).await);
    }
    for said in [&b"X-API-Key: canary+key/0123456789\r\n\r\n"[..], b"HTTP/1.1 200 canary+key/0123456789\x01\r\n\r\n"] {
        assert_clean(&told(config_for(&server_that_says(said))).await);
    }
}

#[tokio::test]
async fn a_refused_key_is_told_by_the_name_of_its_setting() {
    let sandbox = sandbox_with(|options| options.auth = Auth::Bearer);
    sandbox.add_fault(answering(401, &[], KEY));
    let text = told(config(&sandbox)).await;
    assert_clean(&text);
    assert!(text.contains("check the key passed as api_key="), "{text}");
}
