//! Who is calling: the key in its two headers, and the user and the team that a master key acts for.

use replyio::sandbox::{Auth, Sandbox};
use replyio::{ActAs, ApiKey, AuthScheme, Client, ErrorKind};
use serde_json::json;

use crate::support::{ID, client, client_with, header, problem, sandbox, sandbox_with};

/// How the key came, request by request.
fn schemes(sandbox: &Sandbox) -> Vec<&'static str> {
    let scheme = |request| match (header(request, "x-api-key"), header(request, "authorization")) {
        (Some("[key]"), None) => "key",
        (None, Some("Bearer [key]")) => "bearer",
        other => panic!("{other:?}"),
    };
    sandbox.requests().iter().map(scheme).collect()
}

fn with_scheme(sandbox: &Sandbox, auth: AuthScheme) -> Client {
    client_with(sandbox, |config| config.auth = auth)
}

#[tokio::test]
async fn the_key_goes_out_as_x_api_key_with_the_package_as_user_agent() {
    let sandbox = sandbox_with(|options| options.api_keys = Some(vec!["right-key".to_owned()]));
    let client = client_with(&sandbox, |config| config.api_key = ApiKey::new("right-key").unwrap());
    client.get(ID).await.unwrap();
    assert_eq!(schemes(&sandbox), ["key"]);
    let request = sandbox.requests().remove(0);
    assert_eq!(header(&request, "user-agent"), Some(concat!("replyio/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(header(&request, "accept"), Some("application/json"));
    assert_eq!(header(&request, "cache-control"), Some("no-cache"), "an update must not be built on a cached account");
    for absent in ["x-user-id", "x-user-email", "x-team-id", "cookie", "accept-encoding", "referer"] {
        assert_eq!(header(&request, absent), None, "{absent}");
    }
}

#[tokio::test]
async fn a_challenge_for_bearer_is_followed_once_and_what_worked_is_remembered() {
    let sandbox = sandbox_with(|options| options.auth = Auth::Bearer);
    let client = client(&sandbox);
    client.get(ID).await.unwrap();
    assert_eq!(schemes(&sandbox), ["key", "bearer"]);
    client.get(ID).await.unwrap();
    client.clone().get(ID).await.unwrap();
    client.with_config(client.config().clone()).unwrap().get(ID).await.unwrap();
    assert_eq!(schemes(&sandbox)[2..], ["bearer"; 3]);
    client.anew().unwrap().get(ID).await.unwrap();
    assert_eq!(schemes(&sandbox)[5..], ["key", "bearer"]);
}

#[tokio::test]
async fn a_scheme_that_was_chosen_is_the_only_one_tried() {
    for (auth, refused_by, came) in
        [(AuthScheme::ApiKeyHeader, Auth::Bearer, "key"), (AuthScheme::Bearer, Auth::ApiKey, "bearer")]
    {
        let sandbox = sandbox();
        with_scheme(&sandbox, auth).get(ID).await.unwrap();
        assert_eq!(schemes(&sandbox), [came]);
        let sandbox = sandbox_with(|options| options.auth = refused_by);
        let error = with_scheme(&sandbox, auth).get(ID).await.unwrap_err();
        assert_eq!((error.kind(), schemes(&sandbox)), (ErrorKind::Authentication, vec![came]));
    }
}

#[tokio::test]
async fn a_wrong_key_is_tried_both_ways_once_and_bearer_is_not_remembered() {
    let sandbox = sandbox_with(|options| options.api_keys = Some(vec!["other".to_owned()]));
    let client = client(&sandbox);
    for _ in 0..2 {
        assert_eq!(client.get(ID).await.unwrap_err().kind(), ErrorKind::Authentication);
    }
    assert_eq!(schemes(&sandbox), ["key", "bearer", "key", "bearer"]);
}

#[tokio::test]
async fn a_401_that_does_not_ask_for_bearer_is_not_followed() {
    let refusal = json!({"title": "Unauthorized", "status": 401, "detail": "The user has no team.", "code": "NO_TEAM"});
    let sandbox = sandbox_with(|options| options.faults.push(problem(401, &refusal)));
    let error = client(&sandbox).get(ID).await.unwrap_err();
    assert_eq!((error.kind(), sandbox.requests().len()), (ErrorKind::Authentication, 1));
    assert!(error.to_string().contains("401 Unauthorized (NO_TEAM)"), "{error}");
    assert!(error.to_string().contains("The user has no team"), "{error}");
}

#[tokio::test]
async fn a_master_key_acts_for_a_user_and_in_a_team() {
    let sandbox = sandbox();
    for (act_as, name, value) in [
        (ActAs::user_id(99).unwrap(), "x-user-id", "99"),
        (ActAs::user_email("ann@acme.example").unwrap(), "x-user-email", "ann@acme.example"),
    ] {
        let client = client_with(&sandbox, |config| {
            config.act_as = Some(act_as);
            config.team_id = Some(5);
        });
        client.get(ID).await.unwrap();
        let request = sandbox.requests().pop().unwrap();
        assert_eq!((header(&request, name), header(&request, "x-team-id")), (Some(value), Some("5")));
    }
}

#[tokio::test]
async fn the_user_is_named_with_the_bearer_header_too() {
    let sandbox = sandbox_with(|options| options.auth = Auth::Bearer);
    client_with(&sandbox, |config| config.act_as = Some(ActAs::UserId(99))).get(ID).await.unwrap();
    let named: Vec<_> = sandbox.requests().iter().map(|request| header(request, "x-user-id").is_some()).collect();
    assert_eq!(named, [true, true]);
}
