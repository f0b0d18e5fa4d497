//! Changes of one account at the same time: within a process they happen one after another.

use std::thread;
use std::time::Instant;

use http::Method;
use replyio::sandbox::{Fault, Sandbox};
use replyio::{AccountFields, ApiKey, BaseUrl, Client, Config, Error, ErrorKind, Field};

use crate::support::{
    ID, asked, client, client_with, config, millis, named, new_key, only, sandbox_of, sandbox_with, set, text,
};

const FIELDS: [Field; 4] = [Field::City, Field::Phone, Field::Industry, Field::Country];

/// A sandbox whose answers to reads are slow, so that changes that do not wait for each other all read before they
/// write.
fn slow_to_read() -> Sandbox {
    let slow = Fault { delay: millis(30), ..only(Method::GET, Fault::default()) };
    sandbox_with(|options| options.faults.push(slow))
}

fn change(field: Field) -> AccountFields {
    let mut changes = AccountFields::default();
    set(&mut changes, field, text("new"));
    changes
}

fn not_kept(sandbox: &Sandbox) -> Vec<Field> {
    let stored = sandbox.accounts().remove(0).fields();
    let is_kept = |field: &Field| stored.get(*field).value() == change(*field).get(*field).value();
    FIELDS.into_iter().filter(|field| !is_kept(field)).collect()
}

async fn patch_all(clients: impl IntoIterator<Item = Client>) {
    let patches: Vec<_> = clients
        .into_iter()
        .zip(FIELDS)
        .map(|(client, field)| tokio::spawn(async move { client.patch(ID, &change(field)).await.map(drop) }))
        .collect();
    for patch in patches {
        patch.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn patches_of_one_account_by_one_client_keep_each_others_fields() {
    let sandbox = slow_to_read();
    let client = client(&sandbox);
    patch_all(FIELDS.map(|_| client.clone())).await;
    assert_eq!(not_kept(&sandbox), []);
}

#[tokio::test]
async fn patches_of_one_account_over_several_names_of_this_machine_keep_each_others_fields() {
    let sandbox = slow_to_read();
    let url = config(&sandbox).base_url.to_string();
    let clients = ["127.0.0.1", "localhost", "LocalHost", "127.0.0.1"].map(|host| {
        let base_url = BaseUrl::new(&url.replace("127.0.0.1", host)).unwrap();
        Client::new(Config { base_url, ..config(&sandbox) }).unwrap()
    });
    patch_all(clients).await;
    assert_eq!(not_kept(&sandbox), []);
}

#[tokio::test]
async fn patches_of_one_account_by_several_clients_and_keys_keep_each_others_fields() {
    let sandbox = slow_to_read();
    let client = client(&sandbox);
    let other_key = Config { api_key: ApiKey::new(new_key()).unwrap(), ..config(&sandbox) };
    let clients = [
        client.with_own_connections().unwrap(),
        client.anew().unwrap(),
        Client::new(client.config().clone()).unwrap(),
        Client::new(other_key).unwrap(),
    ];
    patch_all(clients).await;
    assert_eq!(not_kept(&sandbox), []);
}

#[test]
fn patches_of_one_account_in_several_runtimes_keep_each_others_fields() {
    let sandbox = slow_to_read();
    let client = client(&sandbox);
    thread::scope(|scope| {
        for field in FIELDS {
            let client = client.with_own_connections().unwrap();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(client.patch(ID, &change(field))).unwrap();
            });
        }
    });
    assert_eq!(not_kept(&sandbox), []);
}

#[tokio::test]
async fn an_update_waits_for_the_patch_before_it() {
    let sandbox = slow_to_read();
    let client = client(&sandbox);
    let patch = tokio::spawn({
        let client = client.clone();
        async move { client.patch(ID, &change(Field::City)).await.map(drop) }
    });
    while sandbox.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    client.update(ID, &named("Acme Ltd")).await.unwrap();
    patch.await.unwrap().unwrap();
    assert_eq!(asked(&sandbox).iter().filter(|line| line.starts_with("PUT")).count(), 2);
    let stored = sandbox.accounts().remove(0);
    assert_eq!((stored.name.as_str(), stored.city), ("Acme Ltd", None), "the update came last");
}

#[tokio::test]
async fn accounts_do_not_wait_for_each_other() {
    let sandbox = sandbox_of(2);
    sandbox.add_fault(Fault { id: Some(1), delay: millis(10_000), ..Fault::default() });
    let client = client(&sandbox);
    let slow = tokio::spawn({
        let client = client.clone();
        async move { client.patch(1, &change(Field::City)).await.map(drop) }
    });
    while sandbox.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    client.patch(2, &change(Field::City)).await.unwrap();
    client.get(2).await.unwrap();
    slow.abort();
}

async fn slow_change(sandbox: &Sandbox, client: &Client) -> tokio::task::JoinHandle<Result<(), Error>> {
    let client = client.clone();
    let change = tokio::spawn(async move { client.update(ID, &named("Slow")).await.map(drop) });
    while sandbox.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    change
}

#[tokio::test]
async fn a_wait_for_another_change_counts_against_the_deadline_and_says_so() {
    let sandbox = sandbox_with(|options| options.faults.push(Fault { delay: millis(10_000), ..Fault::default() }));
    let slow = slow_change(&sandbox, &client(&sandbox)).await;
    let hasty = client_with(&sandbox, |config| config.timeout = millis(200));
    let began = Instant::now();
    for error in
        [hasty.patch(ID, &change(Field::City)).await.unwrap_err(), hasty.update(ID, &named("New")).await.unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        let message = error.to_string();
        let start = "failed: the call took longer than its timeout of 0.2 s; nothing was sent: ";
        assert!(message.contains(start), "{message}");
        assert!(message.contains("it waited for another update of this account by this process"), "{message}");
        assert!(!message.contains("may have been applied"), "{message}");
    }
    assert!(began.elapsed() >= millis(400) && began.elapsed() < millis(1_400), "{:?}", began.elapsed());
    assert_eq!(sandbox.requests().len(), 1);
    slow.abort();
}

#[tokio::test]
async fn a_change_that_is_cancelled_lets_the_next_one_go_on() {
    let delayed = Fault { delay: millis(10_000), times: Some(1), ..Fault::default() };
    let sandbox = sandbox_with(|options| options.faults.push(delayed));
    let client = client_with(&sandbox, |config| config.timeout = millis(5_000));
    let slow = slow_change(&sandbox, &client).await;
    let next = tokio::spawn({
        let client = client.clone();
        async move { client.patch(ID, &change(Field::City)).await.map(drop) }
    });
    tokio::task::yield_now().await;
    slow.abort();
    next.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_read_waits_for_nobody() {
    let delayed = Fault { delay: millis(10_000), ..only(Method::PUT, Fault::default()) };
    let sandbox = sandbox_with(|options| options.faults.push(delayed));
    let client = client(&sandbox);
    let slow = slow_change(&sandbox, &client).await;
    client.get(ID).await.unwrap();
    slow.abort();
}
