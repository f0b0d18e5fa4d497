//! Clients made from clients: what they share, and what each has of its own.

use std::sync::Arc;
use std::time::Duration;

use replyio::sandbox::Sandbox;
use replyio::{ActAs, ApiKey, AuthScheme, BaseUrl, Client, Config, ErrorKind};

use crate::events::Log;
use crate::support::{ID, client, client_with, config, header, sandbox, sandbox_with};

/// On which connection each request came.
fn connections(sandbox: &Sandbox) -> Vec<u64> {
    sandbox.requests().iter().map(|request| request.connection).collect()
}

#[tokio::test]
async fn calls_one_after_another_share_a_connection() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    for _ in 0..3 {
        client.clone().get(ID).await.unwrap();
    }
    assert_eq!(connections(&sandbox), [1, 1, 1]);
}

#[tokio::test]
async fn with_config_changes_the_settings_over_the_same_connections() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    let config = Config { auth: AuthScheme::Bearer, timeout: Duration::from_secs(5), ..client.config().clone() };
    let derived = client.with_config(config).unwrap();
    client.get(ID).await.unwrap();
    derived.get(ID).await.unwrap();
    assert_eq!(connections(&sandbox), [1, 1]);
    assert_eq!(derived.config().timeout, Duration::from_secs(5));
    assert_eq!(client.config().timeout, Duration::from_secs(120));
    let bearer: Vec<bool> =
        sandbox.requests().iter().map(|request| header(request, "authorization").is_some()).collect();
    assert_eq!(bearer, [false, true]);
}

#[tokio::test]
async fn with_config_keeps_what_belongs_to_the_connections() {
    let sandbox = sandbox_with(|options| options.api_keys = Some(vec!["right-key".to_owned()]));
    let client = client_with(&sandbox, |config| config.api_key = ApiKey::new("right-key").unwrap());
    let elsewhere =
        Config { base_url: BaseUrl::new("https://api.reply.io/v3").unwrap(), ..Config::new("wrong").unwrap() };
    let derived = client.with_config(elsewhere).unwrap();
    assert_eq!(derived.config().base_url, client.config().base_url);
    assert_eq!(derived.config().connect_timeout, client.config().connect_timeout);
    derived.get(ID).await.unwrap();
    assert_eq!(connections(&sandbox), [1]);
}

#[tokio::test]
async fn a_client_with_its_own_connections_or_made_anew_opens_others() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    client.get(ID).await.unwrap();
    client.with_own_connections().unwrap().get(ID).await.unwrap();
    client.anew().unwrap().get(ID).await.unwrap();
    client.get(ID).await.unwrap();
    assert_eq!(connections(&sandbox), [1, 2, 3, 1]);
}

#[tokio::test]
async fn over_connections_of_another_the_settings_stay_and_the_observer_is_told() {
    let sandbox = sandbox();
    let other = client(&sandbox);
    other.get(ID).await.unwrap();
    let log = Arc::new(Log::default());
    let client = client_with(&sandbox, |config| config.auth = AuthScheme::Bearer);
    client.over_connections_of(&other, Arc::clone(&log) as _).get(ID).await.unwrap();
    assert_eq!(connections(&sandbox), [1, 1]);
    assert!(header(&sandbox.requests()[1], "authorization").is_some());
    assert_eq!(log.lines(), ["GET /v3/contact-accounts/7 200 attempt 1"]);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_attempt() {
    let sandbox = sandbox();
    let client = client_with(&sandbox, |config| config.max_attempts = 1);
    for _ in 0..5 {
        client.get(ID).await.unwrap();
        sandbox.close_connections();
        // As long as it takes the client's side to notice.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(connections(&sandbox), [1, 2, 3, 4, 5]);
}

#[test]
fn settings_that_cannot_be_used_are_refused_when_the_client_is_made() {
    let sandbox = sandbox();
    let good = Client::new(config(&sandbox)).unwrap();
    let changes: [fn(&mut Config); 5] = [
        |config| config.timeout = Duration::ZERO,
        |config| config.attempt_timeout = Duration::MAX,
        |config| config.max_attempts = 0,
        |config| config.team_id = Some(-1),
        |config| config.act_as = Some(ActAs::UserEmail("a@b\r\nX: y".to_owned())),
    ];
    for change in changes {
        let mut config = config(&sandbox);
        change(&mut config);
        assert_eq!(Client::new(config.clone()).unwrap_err().kind(), ErrorKind::Configuration);
        assert_eq!(good.with_config(config).unwrap_err().kind(), ErrorKind::Configuration);
    }
    let missing = Config { ca_file: Some("/nowhere/roots.pem".into()), ..config(&sandbox) };
    let error = Client::new(missing).unwrap_err();
    assert!(error.to_string().starts_with("ca_file /nowhere/roots.pem: cannot be read"), "{error}");
    assert_eq!(sandbox.requests(), []);
}
