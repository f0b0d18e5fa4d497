//! `PUT /v3/contact-accounts/{id}`: the operation, and the body of the update.

use http::{Method, StatusCode};
use replyio::{AccountFields, CompanySize, Error, ErrorKind, Field, Presence};
use serde_json::{Value, json};

use crate::support::{
    ID, account, acme, api_failure, asked, client, header, last_body, named, optional_texts, sandbox, sandbox_with,
    set, text,
};

#[tokio::test]
async fn an_update_is_one_put_with_a_json_body_and_answers_the_whole_account() {
    let sandbox = sandbox();
    let updated = client(&sandbox).update(ID, &named("Acme Ltd")).await.unwrap();
    let requests = sandbox.requests();
    assert_eq!(asked(&sandbox), ["PUT /v3/contact-accounts/7"]);
    assert_eq!((requests[0].method.clone(), requests[0].query.as_str()), (Method::PUT, ""));
    assert_eq!(header(&requests[0], "content-type"), Some("application/json"));
    assert_eq!((requests[0].status, requests[0].applied), (Some(StatusCode::OK), true));
    assert_eq!(last_body(&sandbox), json!({"name": "Acme Ltd"}));
    assert_eq!(updated, sandbox_account_without_provider(&sandbox.accounts()[0]));
    assert_eq!((updated.id, updated.name.as_str(), updated.linked_prospects_count), (ID, "Acme Ltd", Some(12)));
}

fn sandbox_account_without_provider(account: &replyio::ContactAccount) -> replyio::ContactAccount {
    replyio::ContactAccount { email_provider: None, ..account.clone() }
}

#[tokio::test]
async fn it_replaces_the_account_in_full_so_that_what_is_left_out_is_cleared() {
    let sandbox = sandbox();
    let updated = client(&sandbox).update(ID, &named("Acme")).await.unwrap();
    for field in Field::ALL.iter().filter(|field| field.nullable()) {
        assert!(updated.fields().get(*field).is_absent(), "{}", field.name());
    }
}

#[tokio::test]
async fn the_stage_and_the_owner_that_are_not_sent_are_kept() {
    let sandbox = sandbox();
    let updated = client(&sandbox).update(ID, &named("Acme")).await.unwrap();
    assert_eq!((updated.stage, updated.owner_user_id), (account(&acme()).stage, 42));
}

#[tokio::test]
async fn absent_null_and_empty_are_three_things_on_the_wire() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    for field in optional_texts() {
        let mut fields = named("Acme");
        let mut sent = Vec::new();
        for value in [Presence::Absent, Presence::Null, text(""), text("x")] {
            set(&mut fields, field, value);
            client.update(ID, &fields).await.unwrap();
            sent.push(last_body(&sandbox).get(field.wire()).cloned());
        }
        assert_eq!(sent, [None, Some(Value::Null), Some(json!("")), Some(json!("x"))], "{}", field.wire());
    }
}

#[tokio::test]
async fn every_field_of_the_page_is_sent_under_its_own_name() {
    let sandbox = sandbox();
    let fields = account(&acme()).fields();
    client(&sandbox).update(ID, &fields).await.unwrap();
    let sent = last_body(&sandbox);
    let page = [
        "name",
        "description",
        "domainName",
        "domainSecondary",
        "industry",
        "companySize",
        "country",
        "state",
        "city",
        "timeZoneId",
        "linkedInUrl",
        "phone",
        "twitterUrl",
        "logoUrl",
        "email",
        "ownerUserId",
    ];
    let expected: Value = page.iter().map(|name| ((*name).to_owned(), acme()[*name].clone())).collect();
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn each_company_size_is_sent_as_the_page_writes_it() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    let documented = [
        "Empty",
        "SelfEmployed",
        "2-10",
        "11-50",
        "51-200",
        "201-500",
        "501-1000",
        "1001-5000",
        "5001-10000",
        "10001+",
    ];
    assert_eq!(CompanySize::DOCUMENTED, documented);
    for size in documented {
        let company_size = Presence::Value(CompanySize::exactly(size));
        let updated = client.update(ID, &AccountFields { company_size, ..named("Acme") }).await.unwrap();
        assert_eq!(last_body(&sandbox)["companySize"], size);
        assert_eq!(updated.company_size.unwrap().as_str(), size);
    }
}

#[tokio::test]
async fn text_arrives_byte_for_byte() {
    let sandbox = sandbox();
    let strange = "\u{202e}ابج \0 é e\u{301} 🏭 \"\\\u{2028}\u{ffff}";
    let updated = client(&sandbox).update(ID, &AccountFields { city: text(strange), ..named(strange) }).await.unwrap();
    assert_eq!((updated.name.as_str(), updated.city.as_deref()), (strange, Some(strange)));
    assert_eq!(last_body(&sandbox)["city"], strange);
}

#[tokio::test]
async fn an_update_that_the_page_rules_out_is_refused_with_every_fault_and_without_a_request() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    let fields = AccountFields {
        company_size: Presence::Value(CompanySize::exactly("51 to 200")),
        owner_user_id: Presence::Value(0),
        ..AccountFields::default()
    };
    let refused = client.update(0, &fields).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Validation);
    let Error::Validation { errors, .. } = refused else { panic!("{refused:?}") };
    let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["id", "name", "company_size", "owner_user_id"]);
    assert!(errors[2].message.contains("did you mean 51-200?"), "{}", errors[2].message);
    for (name, owner) in
        [(Presence::Null, Presence::Absent), (text(" \t"), Presence::Absent), (text("A"), Presence::Null)]
    {
        let fields = AccountFields { name, owner_user_id: owner, ..AccountFields::default() };
        assert_eq!(client.update(ID, &fields).await.unwrap_err().kind(), ErrorKind::Validation);
    }
    for id in [0, -1, i64::MIN] {
        assert_eq!(client.get(id).await.unwrap_err().kind(), ErrorKind::Validation);
        assert_eq!(client.patch(id, &AccountFields::default()).await.unwrap_err().kind(), ErrorKind::Validation);
    }
    assert_eq!(sandbox.requests(), []);
}

#[tokio::test]
async fn an_owner_is_sent_and_must_be_in_the_callers_team() {
    let sandbox = sandbox_with(|options| options.owners = Some([42, 43].into()));
    let client = client(&sandbox);
    let owned_by = |id| AccountFields { owner_user_id: Presence::Value(id), ..named("Acme") };
    assert_eq!(client.update(ID, &owned_by(43)).await.unwrap().owner_user_id, 43);
    let answer = api_failure(client.update(ID, &owned_by(44)).await.unwrap_err());
    assert_eq!((answer.status, answer.problem.code.as_deref()), (400, Some("contactAccount.invalidInput")));
}
