//! What is answered: the whole account, read tolerantly, and never half of it.

use replyio::{Client, ErrorKind};
use serde_json::{Value, json};

use crate::support::{
    ID, account, acme, acme_but, answering, asked, client, config_for, json_answer, sandbox, sandbox_with,
    server_that_says, unexpected,
};

#[tokio::test]
async fn a_get_answers_the_whole_account_with_its_email_provider() {
    let sandbox = sandbox();
    let read = client(&sandbox).get(ID).await.unwrap();
    assert_eq!(asked(&sandbox), ["GET /v3/contact-accounts/7"]);
    assert!(sandbox.requests()[0].body.is_empty());
    assert_eq!(read, account(&acme()));
    assert_eq!(read.email_provider.as_deref(), Some("Gmail"));
}

#[tokio::test]
async fn only_the_id_the_name_and_the_owner_must_be_there() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    let always = ["id", "ownerUserId", "name"];
    for name in acme().as_object().unwrap().keys() {
        let mut missing = acme();
        missing.as_object_mut().unwrap().remove(name);
        for answer in [missing, acme_but(&json!({name.clone(): null}))] {
            sandbox.clear_faults();
            sandbox.add_fault(json_answer(&answer));
            let read = client.get(ID).await;
            if always.contains(&name.as_str()) {
                let reason = unexpected(read.unwrap_err());
                assert!(reason.starts_with(&format!("/{name} must be")), "{reason}");
            } else {
                let read = serde_json::to_value(read.unwrap()).unwrap();
                assert_eq!((&read[name], &read["id"]), (&Value::Null, &json!(ID)));
            }
        }
    }
}

#[tokio::test]
async fn a_value_that_no_update_needs_is_kept_as_it_came_where_it_cannot_be_read() {
    let odd = json!({"createdDate": "2024-01-02", "linkedProspectsCount": "12", "stage": 3, "emailProvider": false});
    let sandbox = sandbox_with(|options| options.faults.push(json_answer(&acme_but(&odd))));
    let read = client(&sandbox).get(ID).await.unwrap();
    assert_eq!((read.created_date, read.linked_prospects_count, &read.stage), (None, None, &None));
    assert_eq!(Value::Object(read.extra), odd);
}

#[tokio::test]
async fn unknown_members_are_kept() {
    let sandbox = sandbox_with(|options| {
        let extra = json!({"score": 9, "tags": ["a", {"b": null}]});
        options.faults.push(json_answer(&acme_but(&extra)));
    });
    let read = client(&sandbox).get(ID).await.unwrap();
    assert_eq!(Value::Object(read.extra), json!({"score": 9, "tags": ["a", {"b": null}]}));
}

#[tokio::test]
async fn an_enum_value_is_read_in_any_casing_and_an_unknown_one_stays_the_text_it_is() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    for (answered, read) in [("selfemployed", "SelfEmployed"), ("EMPTY", "Empty"), ("20001+", "20001+")] {
        sandbox.clear_faults();
        sandbox.add_fault(json_answer(&acme_but(&json!({"companySize": answered, "emailProvider": "new one"}))));
        let account = client.get(ID).await.unwrap();
        assert_eq!(account.company_size.unwrap().as_str(), read);
        assert_eq!(account.email_provider.as_deref(), Some("new one"));
    }
}

#[tokio::test]
async fn every_form_of_date_is_read() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    for (answered, read) in [
        // The time is UTC, and said without an offset.
        ("2023-11-07T05:31:56Z", "2023-11-07T05:31:56"),
        ("2026-09-08T12:08:22.58+00:00", "2026-09-08T12:08:22.58"),
        ("2026-09-08T14:08:22+02:00", "2026-09-08T12:08:22"),
        ("2026-09-08T12:08:22.1234567", "2026-09-08T12:08:22.1234567"),
        ("2026-09-08T12:08:22.1234567891234Z", "2026-09-08T12:08:22.123456789"),
    ] {
        sandbox.clear_faults();
        sandbox.add_fault(json_answer(&acme_but(&json!({"createdDate": answered}))));
        let account = client.get(ID).await.unwrap();
        assert_eq!(account.created_date.unwrap().0.to_string(), read, "{answered}");
    }
}

#[tokio::test]
async fn a_wrong_answer_is_refused_by_path_and_type_and_asked_for_once() {
    for (body, reason) in [
        (String::new(), "the body is empty"),
        ("<html>login</html>".to_owned(), "the body is not valid JSON (line 1, column 1)"),
        (acme().to_string()[..40].to_owned(), "the body is not valid JSON"),
        ("[".repeat(1_000_000), "the body is not valid JSON"),
        ("null".to_owned(), "the body must be an account object"),
        (
            acme_but(&json!({"id": 8})).to_string(),
            "the answer is for another account: its /id is not the requested one",
        ),
        (acme_but(&json!({"id": "7"})).to_string(), "/id must be an integer"),
        (acme_but(&json!({"city": ["secret"]})).to_string(), "/city must be a string or null"),
    ] {
        let sandbox = sandbox_with(|options| options.faults.push(answering(200, &[], body)));
        let error = client(&sandbox).get(ID).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedResponse);
        assert!(!error.to_string().contains("secret"), "{error}");
        let told = unexpected(error);
        assert!(told.starts_with(reason), "{told}");
        assert_eq!(sandbox.requests().len(), 1, "{reason}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_utf_8_is_no_account() {
    let mut body = acme().to_string().into_bytes();
    let place = body.windows(4).position(|window| window == b"Acme").unwrap();
    body[place] = 0xff;
    let sandbox = sandbox_with(|options| options.faults.push(answering(200, &[], body)));
    assert!(unexpected(client(&sandbox).get(ID).await.unwrap_err()).starts_with("the body is not valid JSON"));
}

#[tokio::test]
async fn a_body_longer_than_a_mebibyte_is_refused() {
    for (length, fits) in [(1 << 20, true), ((1 << 20) + 1, false)] {
        let mut body = acme().to_string();
        body.push_str(&" ".repeat(length - body.len()));
        let sandbox = sandbox_with(|options| options.faults.push(answering(200, &[], body)));
        let read = client(&sandbox).get(ID).await;
        assert_eq!(read.is_ok(), fits);
        if !fits {
            assert_eq!(unexpected(read.unwrap_err()), "the body is longer than 1 MiB");
        }
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_too() {
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n", " ".repeat(2 << 20).as_bytes()].concat();
    let client = Client::new(config_for(&server_that_says(&endless))).unwrap();
    assert_eq!(unexpected(client.get(ID).await.unwrap_err()), "the body is longer than 1 MiB");
}
