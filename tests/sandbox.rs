//! The sandbox as a Rust test uses it: started, asked over a plain socket, looked into, stopped.
#![cfg(feature = "sandbox")]
#![expect(clippy::unwrap_used, reason = "a helper of tests may fail as a test may")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use replyio::sandbox::{Applied, Fault, Response, Sandbox, SandboxOptions, account_from_json};
use serde_json::{Value, json};

/// Sends one request on a connection of its own, and gives everything that comes back.
fn exchange(sandbox: &Sandbox, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", sandbox.port())).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} /v3{path} HTTP/1.1\r\nHost: x\r\nX-API-Key: k\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_or_else(|error| error.kind().to_string(), |_| answer)
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn an_update_replaces_the_account_and_is_on_record() {
    let account = account_from_json(&json!({"id": 1, "name": "Acme", "city": "Oslo", "phone": "1"})).unwrap();
    let options = SandboxOptions { accounts: Some(vec![account]), ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).unwrap();
    let answer = exchange(&sandbox, "PUT", "/contact-accounts/1", r#"{"name": "New", "phone": ""}"#);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let account = sandbox.accounts().remove(0);
    assert_eq!((account.name.as_str(), account.city, account.phone.as_deref()), ("New", None, Some("")));
    assert_eq!(body(&answer)["name"], "New");
    let request = sandbox.requests().remove(0);
    assert_eq!((request.number, request.path.as_str(), request.applied), (1, "/v3/contact-accounts/1", true));
    assert_eq!(request.body, r#"{"name": "New", "phone": ""}"#);
}

#[test]
fn a_fault_hits_although_the_write_was_applied() {
    let response = Response::status(503).unwrap();
    let fault = Fault {
        id: Some(4711),
        response: Some(response),
        applied: Applied::Before,
        times: Some(1),
        ..Fault::default()
    };
    let sandbox = Sandbox::start(SandboxOptions { faults: vec![fault], ..SandboxOptions::default() }).unwrap();
    let answer = exchange(&sandbox, "PUT", "/contact-accounts/4711", r#"{"name": "Written"}"#);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(sandbox.accounts()[0].name, "Written");
    sandbox.add_fault(Fault { reset: true, ..Fault::default() });
    assert_eq!(exchange(&sandbox, "GET", "/contact-accounts/4711", ""), "connection reset");
    sandbox.clear_faults();
    assert!(exchange(&sandbox, "GET", "/contact-accounts/4711", "").starts_with("HTTP/1.1 200 "));
}

#[test]
fn it_stops_with_a_request_in_flight_and_lets_the_port_go() {
    let fault = Fault { delay: Duration::from_secs(60), ..Fault::default() };
    let sandbox = Sandbox::start(SandboxOptions { faults: vec![fault], ..SandboxOptions::default() }).unwrap();
    let port = sandbox.port();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| exchange(&sandbox, "GET", "/contact-accounts/4711", ""));
        while sandbox.requests().is_empty() {
            std::thread::yield_now();
        }
        let began = Instant::now();
        sandbox.stop();
        assert!(began.elapsed() < Duration::from_millis(200));
        assert_eq!(waiting.join().unwrap(), "");
    });
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let again = Sandbox::start(SandboxOptions { port, ..SandboxOptions::default() }).unwrap();
    assert_eq!(again.url(), format!("http://127.0.0.1:{port}/v3"));
    assert!(Sandbox::start(SandboxOptions { port, ..SandboxOptions::default() }).is_err());
}

#[test]
fn sandboxes_do_not_know_of_each_other() {
    let sandboxes: Vec<Sandbox> = (0..4).map(|_| Sandbox::start(SandboxOptions::default()).unwrap()).collect();
    exchange(&sandboxes[1], "PUT", "/contact-accounts/4711", r#"{"name": "Only here"}"#);
    let names: Vec<bool> = sandboxes.iter().map(|sandbox| sandbox.accounts()[0].name == "Only here").collect();
    assert_eq!(names, [false, true, false, false]);
    assert_eq!(sandboxes[0].requests().len(), 0);
}
