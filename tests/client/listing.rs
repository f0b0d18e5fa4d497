//! `GET /v3/contact-accounts`, one page at a time.

use std::collections::BTreeMap;

use replyio::sandbox::Sandbox;
use replyio::{ErrorKind, Item, ListQuery, Page};
use serde_json::json;

use crate::support::{acme, answering, asked, client, json_answer, sandbox, sandbox_of, sandbox_with, unexpected};

fn query(sandbox: &Sandbox) -> BTreeMap<String, String> {
    let request = sandbox.requests().pop().unwrap();
    let pairs = url::form_urlencoded::parse(request.query.as_bytes());
    pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

fn parameters(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn ids(page: &Page) -> Vec<i64> {
    page.items.iter().filter_map(Item::id).collect()
}

#[tokio::test]
async fn pages_are_cut_by_top_and_skip_and_tell_whether_there_are_more() {
    let sandbox = sandbox_of(5);
    let client = client(&sandbox);
    let mut pages = Vec::new();
    for skip in [0, 2, 4, 6] {
        let page = client.list_page(&ListQuery::default(), 2, skip).await.unwrap();
        pages.push((ids(&page), page.has_more));
    }
    assert_eq!(pages, [(vec![1, 2], true), (vec![3, 4], true), (vec![5], false), (vec![], false)]);
    assert_eq!(asked(&sandbox), ["GET /v3/contact-accounts"; 4]);
    assert_eq!(query(&sandbox), parameters(&[("top", "2"), ("skip", "6")]));
}

#[tokio::test]
async fn the_items_have_every_writable_field_and_no_email_provider() {
    let sandbox = sandbox();
    let page = client(&sandbox).list_page(&ListQuery::default(), 1000, 0).await.unwrap();
    let account = page.items[0].clone().into_account().unwrap();
    assert!(account.is_complete());
    assert_eq!(account.fields(), crate::support::account(&acme()).fields());
    assert_eq!(account.email_provider, None);
}

#[tokio::test]
async fn search_and_order_are_sent_as_the_service_names_them() {
    let sandbox = sandbox_of(3);
    let client = client(&sandbox);
    for (list, sent) in [
        (ListQuery { search: Some("a & b+c=%".to_owned()), ..ListQuery::default() }, &[("search", "a & b+c=%")][..]),
        (
            ListQuery { sort_by: Some("createdDate".to_owned()), ..ListQuery::default() },
            &[("sort_by", "createdDate"), ("sort_direction", "asc")],
        ),
        (
            ListQuery { sort_by: Some("id".to_owned()), descending: true, ..ListQuery::default() },
            &[("sort_by", "id"), ("sort_direction", "desc")],
        ),
        (ListQuery { descending: true, ..ListQuery::default() }, &[("sort_direction", "desc")]),
    ] {
        client.list_page(&list, 10, 0).await.unwrap();
        let expected = [&[("top", "10"), ("skip", "0")], sent].concat();
        assert_eq!(query(&sandbox), parameters(&expected));
    }
    let descending = ListQuery { sort_by: Some("id".to_owned()), descending: true, ..ListQuery::default() };
    assert_eq!(ids(&client.list_page(&descending, 2, 0).await.unwrap()), [3, 2]);
    let found = ListQuery { search: Some("account 2".to_owned()), ..ListQuery::default() };
    assert_eq!(ids(&client.list_page(&found, 2, 0).await.unwrap()), [2]);
}

#[tokio::test]
async fn a_page_that_the_service_would_refuse_is_not_asked_for() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    for top in [0, 1001, u32::MAX] {
        let error = client.list_page(&ListQuery::default(), top, 0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation);
        assert!(error.to_string().contains("from 1 to 1000"), "{error}");
    }
    assert_eq!(sandbox.requests(), []);
    let error = client.list_page(&ListQuery { sort_by: Some("stage".to_owned()), ..ListQuery::default() }, 1, 0).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::BadRequest);
}

#[tokio::test]
async fn what_is_no_page_is_an_error_that_names_the_member() {
    for (body, reason) in [
        (json!([]), "the body must be a page object"),
        (json!({"hasMore": false}), "/items must be a list"),
        (json!({"items": []}), "/hasMore must be true or false"),
        (json!({"items": null, "hasMore": false}), "/items must be a list"),
    ] {
        let sandbox = sandbox_with(|options| options.faults.push(json_answer(&body)));
        let error = client(&sandbox).list_page(&ListQuery::default(), 10, 0).await.unwrap_err();
        assert_eq!(unexpected(error), reason);
    }
}

#[tokio::test]
async fn an_account_that_cannot_be_read_does_not_hide_the_others() {
    let (mut wrong, mut odd) = (acme(), acme());
    wrong["ownerUserId"] = json!(null);
    odd["lastActivityDate"] = json!("2024-01-02");
    let body = json!({"items": [acme(), wrong, odd], "hasMore": false});
    let sandbox = sandbox_with(|options| options.faults.push(json_answer(&body)));
    let page = client(&sandbox).list_page(&ListQuery::default(), 10, 0).await.unwrap();
    assert_eq!(page.items[0].clone().into_account().unwrap().name, "Acme");
    let reason = "/ownerUserId must be an integer".to_owned();
    assert_eq!(page.items[1], Item::Unreadable { id: Some(7), reason });
    let odd = page.items[2].clone().into_account().unwrap();
    assert_eq!((odd.last_activity_date, &odd.extra["lastActivityDate"]), (None, &json!("2024-01-02")));
}

#[tokio::test]
async fn a_page_may_be_as_long_as_its_accounts() {
    let mut body = json!({"items": [acme()], "hasMore": false}).to_string();
    body.push_str(&" ".repeat(2 << 20));
    let sandbox = sandbox_with(|options| options.faults.push(answering(200, &[], body)));
    let client = client(&sandbox);
    assert_eq!(client.list_page(&ListQuery::default(), 1000, 0).await.unwrap().items.len(), 1);
    let refused = client.list_page(&ListQuery::default(), 10, 0).await.unwrap_err();
    assert_eq!(unexpected(refused), "the body is longer than 1 MiB");
}
