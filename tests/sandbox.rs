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
        "{method} /v3{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: k\r\nContent-Type: application/json\r\n\
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

/// Sends what it is given, waits for the end of the connection, and gives everything that came back.
fn raw(sandbox: &Sandbox, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", sandbox.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_web_page_neither_reads_nor_writes() {
    let sandbox = Sandbox::start(SandboxOptions::default()).unwrap();
    let update = r#"{"name": "Written by a page"}"#;
    for page in [
        "Host: evil.example",
        "Host: 127.0.0.1\r\nOrigin: http://evil.example",
        "Host: 127.0.0.1\r\nOrigin: null",
        "Host: localhost\r\nSec-Fetch-Site: cross-site",
    ] {
        for (method, path) in
            [("GET", "/v3/contact-accounts/4711"), ("PUT", "/v3/contact-accounts/4711"), ("GET", "/openapi.json")]
        {
            let length = update.len();
            let request = format!(
                "{method} {path} HTTP/1.1\r\n{page}\r\nX-API-Key: k\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{update}"
            );
            let answer = raw(&sandbox, request.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 403 "), "{page}: {answer}");
            assert!(!answer.contains("Acme"), "{answer}");
            assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
        }
    }
    assert_eq!(sandbox.accounts()[0].name, "Acme");
    let requests = sandbox.requests();
    assert_eq!(requests.len(), 12);
    assert!(requests.iter().all(|request| request.body.is_empty() && request.status.unwrap() == 403));
}

#[test]
fn a_request_that_is_refused_leaves_no_body_behind() {
    let sandbox =
        Sandbox::start(SandboxOptions { api_keys: Some(vec!["k".into()]), ..SandboxOptions::default() }).unwrap();
    let body = "x".repeat(100_000);
    assert!(exchange(&sandbox, "POST", "/contact-accounts", &body).starts_with("HTTP/1.1 405 "));
    assert!(exchange(&sandbox, "PUT", "/nothing", &body).starts_with("HTTP/1.1 404 "));
    let length = body.len();
    let other = format!(
        "PUT /v3/contact-accounts/4711 HTTP/1.1\r\nHost: localhost\r\nX-API-Key: other\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    assert!(raw(&sandbox, other.as_bytes()).starts_with("HTTP/1.1 401 "));
    assert!(exchange(&sandbox, "PUT", "/contact-accounts/4711", &body).starts_with("HTTP/1.1 400 "));
    let kept: Vec<usize> = sandbox.requests().iter().map(|request| request.body.len()).collect();
    assert_eq!(kept, [0, 0, 0, 100_000]);
}

#[test]
fn a_request_that_is_never_finished_is_ended() {
    let idle_timeout = Duration::from_millis(300);
    let sandbox = Sandbox::start(SandboxOptions { idle_timeout, ..SandboxOptions::default() }).unwrap();
    let head = "PUT /v3/contact-accounts/4711 HTTP/1.1\r\nHost: localhost\r\nX-API-Key: k\r\n";
    for half in ["", "GET / HTTP/1.1\r\nHost:", &format!("{head}Content-Length: 9\r\n\r\n{{")] {
        let began = Instant::now();
        let answer = raw(&sandbox, half.as_bytes());
        assert!(began.elapsed() >= idle_timeout && began.elapsed() < Duration::from_secs(5), "{half}");
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    assert!(exchange(&sandbox, "GET", "/contact-accounts/4711", "").starts_with("HTTP/1.1 200 "));
}

#[test]
fn the_description_shows_an_account_only_to_who_has_a_key() {
    let sandbox = Sandbox::start(SandboxOptions::default()).unwrap();
    let request =
        |key: &str| format!("GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n{key}Connection: close\r\n\r\n");
    let answer = raw(&sandbox, request("").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("acme.example"), "{answer}");
    assert!(raw(&sandbox, request("X-API-Key: k\r\n").as_bytes()).contains("acme.example"));
}
