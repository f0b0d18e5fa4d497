//! The partial update: read, merge, and a PUT where there is something to change.

use http::Method;
use replyio::{AccountFields, ErrorKind, Field, Presence};
use serde_json::json;

use crate::support::{
    ID, account, acme, acme_but, always, asked, call_error, client, client_without_retries, json_answer, last_body,
    only, sandbox, sandbox_with, set, text, unexpected,
};

fn to_bergen() -> AccountFields {
    AccountFields { city: text("Bergen"), ..AccountFields::default() }
}

#[tokio::test]
async fn a_patch_reads_the_account_and_puts_all_of_it_with_the_change() {
    let sandbox = sandbox();
    let patched = client(&sandbox).patch(ID, &to_bergen()).await.unwrap();
    assert_eq!(asked(&sandbox), ["GET /v3/contact-accounts/7", "PUT /v3/contact-accounts/7"]);
    let mut expected = acme_but(&json!({"city": "Bergen"}));
    for read_only in ["id", "linkedProspectsCount", "createdDate", "lastActivityDate", "stage", "emailProvider"] {
        expected.as_object_mut().unwrap().remove(read_only);
    }
    assert_eq!(last_body(&sandbox), expected);
    assert_eq!((patched.written, patched.deviations.fields.len()), (true, 0));
    assert_eq!(patched.account.city.as_deref(), Some("Bergen"));
    let stored = sandbox.accounts().remove(0);
    assert_eq!(stored.fields(), AccountFields { city: text("Bergen"), ..account(&acme()).fields() });
}

#[tokio::test]
async fn without_a_change_there_is_no_put() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    let same = AccountFields { city: text("Oslo"), owner_user_id: Presence::Value(42), ..AccountFields::default() };
    for changes in [AccountFields::default(), same, account(&acme()).fields()] {
        let patched = client.patch(ID, &changes).await.unwrap();
        assert_eq!((patched.written, patched.deviations.fields.len()), (false, 0));
        assert_eq!(patched.account, account(&acme()));
    }
    assert_eq!(asked(&sandbox), ["GET /v3/contact-accounts/7"; 3]);
}

#[tokio::test]
async fn a_field_is_cleared_by_null_or_by_empty_text_as_it_was_said() {
    for empty in [Presence::Null, text("")] {
        let sandbox = sandbox();
        let mut changes = AccountFields::default();
        set(&mut changes, Field::Phone, empty.clone());
        let patched = client(&sandbox).patch(ID, &changes).await.unwrap();
        assert!(patched.written && patched.deviations.is_empty());
        let sent = if empty == Presence::Null { json!(null) } else { json!("") };
        assert_eq!(last_body(&sandbox)["phone"], sent);
        let again = client(&sandbox).patch(ID, &changes).await.unwrap();
        assert!(!again.written, "cleared already");
    }
}

#[tokio::test]
async fn a_value_that_the_contract_does_not_know_is_kept_as_it_came() {
    let sandbox = sandbox_with(|options| {
        options.faults.push(only(Method::GET, json_answer(&acme_but(&json!({"companySize": "20001+"})))));
    });
    // The sandbox refuses it, as the service may; that it is sent is what counts.
    client(&sandbox).patch(ID, &to_bergen()).await.unwrap_err();
    assert_eq!(last_body(&sandbox)["companySize"], "20001+");
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_sent_is_reported_field_by_field() {
    let answer =
        acme_but(&json!({"city": "Oslo", "phone": null, "companySize": "11-50", "ownerUserId": 1, "score": 1}));
    let sandbox = sandbox_with(|options| options.faults.push(only(Method::PUT, json_answer(&answer))));
    let patched = client(&sandbox).patch(ID, &to_bergen()).await.unwrap();
    assert_eq!(patched.deviations.fields, [Field::CompanySize, Field::City, Field::Phone, Field::OwnerUserId]);
    assert_eq!((patched.written, patched.account), (true, account(&answer)));
}

#[tokio::test]
async fn a_member_that_is_unknown_here_and_gone_after_the_update_is_reported() {
    let before = acme_but(&json!({"annualRevenue": "12 million", "linkedinUrl": "https://x.example", "score": 1}));
    let after = acme_but(&json!({"city": "Bergen", "linkedinUrl": null, "score": 2}));
    let sandbox = sandbox_with(|options| {
        options.faults = vec![only(Method::GET, json_answer(&before)), only(Method::PUT, json_answer(&after))];
    });
    let patched = client(&sandbox).patch(ID, &to_bergen()).await.unwrap();
    assert_eq!(patched.deviations.lost, ["annualRevenue", "linkedinUrl"]);
    assert!(client(&sandbox).patch(ID, &AccountFields::default()).await.unwrap().deviations.lost.is_empty());
}

#[tokio::test]
async fn the_accounts_own_values_are_sent_back_although_a_caller_may_not_give_them() {
    let odd = acme_but(&json!({"name": " ", "ownerUserId": 0, "companySize": "20001+"}));
    let sandbox = sandbox_with(|options| options.faults.push(only(Method::GET, json_answer(&odd))));
    // The sandbox refuses them, as the service may; that they are sent is what counts.
    client(&sandbox).patch(ID, &to_bergen()).await.unwrap_err();
    let body = last_body(&sandbox);
    assert_eq!((&body["name"], &body["ownerUserId"], &body["companySize"]), (&json!(" "), &json!(0), &json!("20001+")));
}

#[tokio::test]
async fn another_accounts_answer_is_an_error() {
    for method in [Method::GET, Method::PUT] {
        let sandbox = sandbox_with(|options| {
            options.faults.push(only(method.clone(), json_answer(&acme_but(&json!({"id": 8})))));
        });
        let error = client(&sandbox).patch(ID, &to_bergen()).await.unwrap_err();
        assert!(unexpected(error).contains("another account"), "{method}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_not_written() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    assert_eq!(client.patch(8, &to_bergen()).await.unwrap_err().kind(), ErrorKind::NotFound);
    sandbox.add_fault(only(Method::GET, json_answer(&json!({"id": ID}))));
    assert_eq!(client.patch(ID, &to_bergen()).await.unwrap_err().kind(), ErrorKind::UnexpectedResponse);
    assert!(sandbox.requests().iter().all(|request| request.method == Method::GET));
}

#[tokio::test]
async fn an_error_counts_the_attempts_of_both_requests() {
    let sandbox = sandbox_with(|options| options.faults.push(only(Method::PUT, always(503))));
    let error = client_without_retries(&sandbox).patch(ID, &to_bergen()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server);
    assert_eq!(call_error(error).attempts, 2);
}

#[tokio::test]
async fn a_change_that_the_page_rules_out_is_refused_without_a_request() {
    let sandbox = sandbox();
    let nameless = AccountFields { name: Presence::Null, ..AccountFields::default() };
    let error = client(&sandbox).patch(ID, &nameless).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation);
    assert_eq!(sandbox.requests(), []);
}
