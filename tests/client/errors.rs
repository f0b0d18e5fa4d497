//! The contract's table of errors, each with its kind and everything the service said.

use std::error::Error as _;
use std::io;

use replyio::sandbox::{Fault, Scopes};
use replyio::{BaseUrl, ErrorKind, Failure, FieldError, ListQuery, TransportKind};
use serde_json::json;

use crate::support::{
    ID, always, answering, api_failure, call_error, client, client_with, client_without_retries, config_for, named,
    once, problem, sandbox, sandbox_with, unexpected,
};

#[tokio::test]
async fn a_validation_problem_tells_every_fault_under_the_callers_names() {
    let answer = json!({
        "title": "One or more validation errors occurred.", "status": 400, "extensions": {},
        "errors": [
            {"pointer": "/name", "detail": "Name is required."}, {"pointer": "/linkedInUrl", "detail": "Not a URL."},
            {"pointer": "id", "detail": "Not an id."}, {"pointer": "", "detail": "The body is wrong."},
            {"pointer": "#/new~1member", "detail": "Not known."},
        ],
    });
    let sandbox = sandbox_with(|options| options.faults.push(problem(400, &answer)));
    let error = client(&sandbox).update(ID, &named("Acme")).await.unwrap_err();
    assert_eq!((error.kind(), sandbox.requests().len()), (ErrorKind::BadRequest, 1));
    let expected = [
        ("name", "Name is required."),
        ("linked_in_url", "Not a URL."),
        ("id", "Not an id."),
        ("", "The body is wrong."),
        ("new/member", "Not known."),
    ];
    let answer = api_failure(error);
    assert_eq!(answer.problem.errors, expected.map(|(field, message)| FieldError::new(field, message)));
    assert_eq!((answer.status, answer.problem.code), (400, None));
}

#[tokio::test]
async fn the_services_own_refusals_keep_their_codes() {
    let sandbox = sandbox_with(|options| {
        options.forbidden = [9].into();
        options.scopes = [("read-only".to_owned(), Scopes { read: true, write: false })].into();
    });
    let reader = client_with(&sandbox, |config| config.api_key = replyio::ApiKey::new("read-only").unwrap());
    let client = client(&sandbox);
    let missing = client.get(8).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let message = missing.to_string();
    assert!(
        message.starts_with("get of account 8 failed: 404 Not Found (contactAccount.notFound) after 1 attempt in ")
    );
    assert!(message.ends_with("; hint: list_contact_accounts() shows the accounts of this key"), "{message}");
    let forbidden = client.get(9).await.unwrap_err();
    assert_eq!(forbidden.kind(), ErrorKind::PermissionDenied);
    assert_eq!(api_failure(forbidden).problem.code.as_deref(), Some("contactAccount.forbidden"));
    let scope = reader.update(ID, &named("Acme")).await.unwrap_err();
    assert_eq!(scope.kind(), ErrorKind::PermissionDenied);
    let answer = api_failure(scope);
    assert_eq!(
        (answer.problem.code, answer.problem.detail.as_deref()),
        (None, Some("The API key has no scope contacts:write."))
    );
    assert!(reader.get(ID).await.is_ok());
}

#[tokio::test]
async fn a_code_in_capitals_is_kept_too() {
    let answer = json!({"title": "Forbidden", "status": 403, "code": "TEAM_ACCESS_DENIED"});
    let sandbox = sandbox_with(|options| options.faults.push(problem(403, &answer)));
    let error = client(&sandbox).list_page(&ListQuery::default(), 1, 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(api_failure(error).problem.code.as_deref(), Some("TEAM_ACCESS_DENIED"));
}

#[tokio::test]
async fn a_401_has_no_body_and_names_the_key() {
    let sandbox = sandbox_with(|options| options.api_keys = Some(Vec::new()));
    let error = client(&sandbox).get(ID).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.to_string().contains("check the key passed as api_key="), "{error}");
    assert_eq!(api_failure(error).problem, replyio::Problem::default());
}

#[tokio::test]
async fn a_wrong_route_is_a_404_without_a_code_that_points_at_the_address() {
    let sandbox = sandbox();
    let wrong = format!("http://127.0.0.1:{}/v2", sandbox.port());
    let client = client_with(&sandbox, |config| config.base_url = BaseUrl::new(&wrong).unwrap());
    let error = client.get(ID).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().ends_with("hint: the URL may be wrong; check base_url, which ends in /v3"), "{error}");
}

#[tokio::test]
async fn a_404_of_something_in_front_of_the_service_says_that_it_is_not_the_services_own() {
    let html = "<html><h1>404 Not Found</h1><hr>nginx</html>";
    for (kind, body) in
        [("text/html", html), ("application/json", r#"{"message": "no Route matched with those values"}"#), ("", "")]
    {
        let sandbox = sandbox_with(|options| options.faults.push(answering(404, &[("content-type", kind)], body)));
        let error = client(&sandbox).get(ID).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("this does not look like an answer from Reply.io"), "{error}");
        assert!(!call_error(error).failure.is_about_the_account());
    }
}

#[tokio::test]
async fn only_the_services_own_statement_is_about_the_account() {
    let sandbox = sandbox_with(|options| options.forbidden = [9].into());
    let client = client(&sandbox);
    for id in [8, 9] {
        assert!(call_error(client.get(id).await.unwrap_err()).failure.is_about_the_account(), "{id}");
    }
    let validation = json!({"title": "Validation", "status": 400, "errors": [{"pointer": "/name", "detail": "Bad."}]});
    let invalid = json!({"title": "Bad", "code": "contactAccount.invalidInput"});
    let plain = json!({"title": "Forbidden"});
    let team = json!({"title": "Forbidden", "code": "TEAM_ACCESS_DENIED"});
    for (fault, expected) in [
        (problem(400, &validation), true),
        (problem(422, &validation), true),
        (answering(400, &[], invalid.to_string()), true),
        (answering(400, &[], "<html>"), false),
        (answering(400, &[("content-type", "application/json")], r#"{"error": "bad request"}"#), false),
        (problem(404, &plain), false),
        (problem(403, &plain), false),
        (problem(403, &team), false),
        (problem(401, &invalid), false),
        (problem(429, &invalid), false),
        (problem(500, &invalid), false),
        (once(503), false),
    ] {
        let shown = format!("{fault:?}");
        let sandbox = sandbox_with(|options| options.faults.push(fault));
        let error = client_without_retries(&sandbox).get(ID).await.unwrap_err();
        assert_eq!(call_error(error).failure.is_about_the_account(), expected, "{shown}");
    }
}

#[tokio::test]
async fn an_update_may_have_been_applied_unless_an_answer_or_a_missing_connection_tells_otherwise() {
    let page = || answering(200, &[("content-type", "text/html")], "<html>login</html>");
    for (fault, expected) in [
        (always(500), true),
        (always(408), true),
        (always(202), true),
        (always(303), true),
        (always(600), true),
        (page(), true),
        (Fault { close: true, ..Fault::default() }, true),
        (Fault { cut: Some(20), ..Fault::default() }, true),
        (always(302), true),
        (problem(400, &json!({"title": "Bad"})), false),
        (problem(413, &json!({"title": "Too long"})), false),
        (problem(418, &json!({"title": "A teapot"})), false),
        (problem(403, &json!({"title": "Forbidden", "code": "TEAM_ACCESS_DENIED"})), false),
        (answering(403, &[], r#"{"code": "contactAccount.forbidden"}"#), false),
        (answering(401, &[], ""), false),
        (answering(429, &[], ""), false),
        // A proxy may have replaced the answer to an update that the service applied.
        (answering(403, &[("content-type", "application/json")], r#"{"code": "blocked"}"#), true),
        (problem(403, &json!({"title": "Forbidden"})), true),
        (problem(404, &json!({"title": "Not found"})), true),
        (problem(408, &json!({"title": "Timeout"})), true),
        (answering(400, &[], "<html>"), true),
        (answering(401, &[], "<html>"), true),
        (answering(404, &[], "<html>"), true),
        (answering(413, &[], "<html>"), true),
        (answering(418, &[], ""), true),
        (answering(429, &[], "<html>"), true),
    ] {
        let shown = format!("{fault:?}");
        let sandbox = sandbox_with(|options| options.faults.push(fault));
        let error = client_without_retries(&sandbox).update(ID, &named("Acme")).await.unwrap_err();
        assert_eq!(call_error(error).may_have_been_applied, expected, "{shown}");
    }
    let refused = {
        let sandbox = sandbox();
        config_for(&sandbox.url())
    };
    let client = replyio::Client::new(replyio::Config { max_attempts: 1, ..refused }).unwrap();
    let error = call_error(client.update(ID, &named("Acme")).await.unwrap_err());
    assert!(!error.may_have_been_applied && matches!(error.failure, Failure::Transport(fault) if !fault.sent));
}

#[tokio::test]
async fn every_other_status_has_its_kind() {
    for (status, kind) in [
        (409, ErrorKind::Conflict),
        (412, ErrorKind::Conflict),
        (422, ErrorKind::BadRequest),
        (413, ErrorKind::Api),
        (429, ErrorKind::RateLimit),
        (500, ErrorKind::Server),
        (503, ErrorKind::Server),
        (520, ErrorKind::Server),
        (599, ErrorKind::Server),
        (408, ErrorKind::Api),
        (600, ErrorKind::UnexpectedResponse),
    ] {
        let sandbox = sandbox_with(|options| options.faults.push(always(status)));
        let error = client_without_retries(&sandbox).get(ID).await.unwrap_err();
        assert_eq!((error.kind(), sandbox.requests().len()), (kind, 1), "{status}");
    }
}

#[tokio::test]
async fn a_status_that_the_contract_does_not_have_is_unexpected() {
    for status in [201, 202, 204, 300, 304] {
        let sandbox = sandbox_with(|options| options.faults.push(always(status)));
        let error = client(&sandbox).get(ID).await.unwrap_err();
        assert_eq!((error.kind(), sandbox.requests().len()), (ErrorKind::UnexpectedResponse, 1), "{status}");
    }
    let teapot = answering(418, &[("content-type", "text/plain")], "short and stout");
    let sandbox = sandbox_with(|options| options.faults.push(teapot));
    assert_eq!(client(&sandbox).get(ID).await.unwrap_err().kind(), ErrorKind::UnexpectedResponse);
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let other = sandbox();
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/contact-accounts/7", other.url());
        let sandbox = sandbox_with(|options| options.faults.push(answering(status, &[("location", &location)], "")));
        let error = client(&sandbox).update(ID, &named("Acme")).await.unwrap_err();
        assert!(error.to_string().contains("never follows redirects"), "{error}");
        assert!(unexpected(error).contains("another address"));
        assert_eq!((sandbox.requests().len(), other.requests().len()), (1, 0), "{status}");
    }
}

#[tokio::test]
async fn a_problem_body_of_any_kind_is_no_error_of_its_own() {
    for body in [
        String::new(),
        "<html>".to_owned(),
        json!({"title": 5, "errors": {"name": ["x"]}}).to_string(),
        json!({"detail": "\u{1b}[31m\n".repeat(50_000), "errors": [1, null, {"pointer": 5}]}).to_string(),
    ] {
        let sandbox = sandbox_with(|options| options.faults.push(answering(400, &[], body)));
        let error = client(&sandbox).get(ID).await.unwrap_err();
        let message = error.to_string();
        assert_eq!(error.kind(), ErrorKind::BadRequest);
        assert!(message.len() < 5_000 && !message.contains(['\n', '\u{1b}']), "{message}");
    }
}

#[tokio::test]
async fn the_services_name_for_the_request_is_kept() {
    for header in ["x-request-id", "x-correlation-id"] {
        let sandbox = sandbox_with(|options| options.faults.push(answering(404, &[(header, "abc-123")], "")));
        let answer = api_failure(client(&sandbox).get(ID).await.unwrap_err());
        assert_eq!(answer.request_id.as_deref(), Some("abc-123"));
    }
}

#[tokio::test]
async fn what_the_transport_said_is_in_the_chain_of_sources() {
    let refused = {
        let sandbox = sandbox();
        config_for(&sandbox.url())
    };
    let client = replyio::Client::new(replyio::Config { max_attempts: 1, ..refused }).unwrap();
    let error = client.get(ID).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transport);
    let mut chain = std::iter::successors(error.source(), |error| (*error).source());
    assert!(chain.any(|error| {
        error.downcast_ref().is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused)
    }));
    let Failure::Transport(fault) = call_error(error).failure else { panic!("not the transport") };
    assert_eq!(fault.kind, TransportKind::Connect);
}

#[tokio::test]
async fn a_broken_connection_has_a_source_and_an_answer_has_none() {
    let sandbox =
        sandbox_with(|options| options.faults = vec![Fault { close: true, times: Some(1), ..Fault::default() }]);
    let client = client_without_retries(&sandbox);
    let error = client.get(ID).await.unwrap_err();
    assert!(error.source().is_some());
    let Failure::Transport(fault) = call_error(error).failure else { panic!("not the transport") };
    assert_ne!(fault.kind, TransportKind::Connect);
    sandbox.add_fault(once(500));
    assert!(client.get(ID).await.unwrap_err().source().is_none());
}

#[tokio::test]
async fn a_broken_update_says_that_it_may_have_been_applied() {
    let sandbox = sandbox_with(|options| options.faults = vec![Fault { reset: true, ..Fault::default() }]);
    let client = client_without_retries(&sandbox);
    let error = client.update(ID, &named("Acme")).await.unwrap_err();
    assert!(error.to_string().contains("may have been applied; sending it again is safe"), "{error}");
    let error = client.get(ID).await.unwrap_err();
    assert!(!error.to_string().contains("applied"), "{error}");
}

#[tokio::test]
async fn a_patch_that_broke_before_its_update_says_nothing_of_being_applied() {
    let sandbox =
        sandbox_with(|options| options.faults = vec![Fault { reset: true, times: Some(1), ..Fault::default() }]);
    let client = client_without_retries(&sandbox);
    let error = client.patch(ID, &named("Acme Ltd")).await.unwrap_err();
    assert!(!error.to_string().contains("applied"), "{error}");
    sandbox.add_fault(Fault { reset: true, method: Some(http::Method::PUT), ..Fault::default() });
    let error = client.patch(ID, &named("Acme Ltd")).await.unwrap_err();
    assert!(error.to_string().contains("may have been applied"), "{error}");
}

#[tokio::test]
async fn what_an_earlier_attempt_may_have_done_is_told_although_the_last_one_was_answered() {
    let sandbox = sandbox_with(|options| {
        options.faults = vec![Fault { reset: true, times: Some(1), ..Fault::default() }, once(409)];
    });
    let error = client(&sandbox).update(ID, &named("Acme")).await.unwrap_err();
    assert!(error.to_string().contains("an earlier attempt may have been applied"), "{error}");
    assert!(call_error(error).may_have_been_applied);
    sandbox.add_fault(once(409));
    let error = client(&sandbox).update(ID, &named("Acme")).await.unwrap_err();
    assert!(!error.to_string().contains("applied"), "{error}");
    assert!(!call_error(error).may_have_been_applied);
}
