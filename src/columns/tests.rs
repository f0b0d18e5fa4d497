use serde_json::{Map, Value};

use super::{Builder, ColumnPage, Columns, MEMBERS, value_of};
use crate::account::{ContactAccount, MemberValue};
use crate::answer::{Answer, Body, Headers, Item};

const GOOD: &str = r#"{"id": 7, "ownerUserId": 1, "name": "Acme", "linkedProspectsCount": 3,
    "createdDate": "2023-11-07T05:31:56Z", "lastActivityDate": "2026-09-08T12:08:22.58+00:00", "companySize": "51-200",
    "stage": {"id": 1, "name": "New", "colorId": 2}, "city": "Z\u00fcrich \"\\", "phone": null}"#;

fn answer(body: &str) -> Answer {
    Answer { status: 200, headers: Headers::default(), body: Body::Whole(body.to_owned().into()) }
}

fn page_of(items: &[&str]) -> Answer {
    answer(&format!("{{\"items\": [{}], \"hasMore\": true}}", items.join(", ")))
}

fn shown(members: &[MemberValue<'_>], extra: &Map<String, Value>) -> String {
    format!("{members:?} {extra:?}")
}

fn rows(columns: &Columns) -> Vec<String> {
    (0..columns.len()).map(|row| columns.with_account(row, |members, extra| shown(members, extra))).collect()
}

/// As the dataclass has it, without nanoseconds.
fn row(account: &ContactAccount) -> String {
    let mut account = account.clone();
    for date in [&mut account.created_date, &mut account.last_activity_date].into_iter().flatten() {
        *date = super::DateTime::of_microsecond(date.as_microsecond());
    }
    shown(&account.members(), &account.extra)
}

/// Compares the columns of an answer with its accounts. Returns whether it parsed in one pass.
fn compare(answer: &Answer) -> bool {
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    match (answer.page(), answer.columns()) {
        (Ok(page), Ok(ColumnPage { accounts: Ok(columns), has_more })) => {
            assert_eq!(has_more, page.has_more, "{body}");
            let accounts: Vec<_> = page.items.into_iter().filter_map(Item::into_account).collect();
            assert_eq!(rows(&columns), accounts.iter().map(row).collect::<Vec<_>>(), "{body}");
            let ids: Vec<_> = accounts.iter().map(|account| Some(account.id)).collect();
            assert_eq!(columns.ids(), ids, "{body}");
        }
        (Ok(page), Ok(ColumnPage { accounts: Err(found), .. })) => {
            let wanted = Item::Unreadable { id: found.id, reason: found.reason };
            assert_eq!(page.items[found.index], wanted, "{body}");
            assert!(page.items[..found.index].iter().all(|item| matches!(item, Item::Account(_))), "{body}");
        }
        (Err(page), Err(columns)) => assert_eq!(format!("{page:?}"), format!("{columns:?}"), "{body}"),
        (page, columns) => panic!("{body}: {page:?}, {columns:?}"),
    }
    answer.columns_at_once().is_some()
}

#[test]
fn a_usual_page_is_parsed_in_one_pass() {
    let open = GOOD.replace("\"colorId\": 2", "\"colorId\": null, \"icon\": \"x\"");
    let open = open.replace("\"Acme\"", "\"Acme\", \"score\": [1.5, {\"a\": null}], \"createdDate\": \"2024-01-02\"");
    let open = open.replacen("\"createdDate\": \"2023-11-07T05:31:56Z\",", "", 1);
    assert!(compare(&page_of(&[GOOD, r#"{"name": "", "ownerUserId": 2, "id": 8}"#, GOOD, &open])));
    assert!(compare(&page_of(&[])));
}

#[test]
fn whatever_a_member_is_the_columns_and_the_accounts_are_the_same() {
    let values = [
        "null",
        "\"\"",
        "\"x\"",
        "\"\\ud83d\\ude00 \\n\"",
        "0",
        "5",
        "-5",
        "-0",
        "5.0",
        "5e2",
        "9223372036854775807",
        "9223372036854775808",
        "99999999999999999999",
        "1e400",
        "true",
        "[]",
        "[1, \"New\"]",
        "{}",
        "{\"a\": 1}",
        "{\"id\": 1, \"name\": \"New\"}",
        "{\"id\": 1, \"name\": null}",
        "{\"id\": 1.0, \"name\": \"New\"}",
        "{\"id\": 1, \"id\": 2, \"name\": \"New\"}",
        "{\"id\": 1, \"name\": \"New\", \"colorId\": \"red\", \"z\": 1}",
        "{\"id\": 1, \"name\": \"New\", \"colorId\": 4, \"z\": {\"z\": 1}}",
        "\"2024-01-02\"",
        "\"51-200\"",
        "\"HUGE\"",
        "\"selfemployed\"",
        "\"0001-01-01T00:00:00\"",
        "\"9999-12-31T23:59:59.9999999\"",
        "\"1969-12-31T23:59:59.9999999Z\"",
        "\"2026-09-08T12:08:22.1234567Z\"",
        "\"2026-09-08 14:08:22+02:00\"",
        "x",
        "\"\\ud83d\"",
    ];
    let mut passes = 0;
    for wire in MEMBERS.iter().map(|member| member.wire).chain(["extra", "items", "hasMore"]) {
        for value in values {
            let mut item: Map<String, Value> = serde_json::from_str(GOOD).unwrap();
            item.remove(wire);
            let bare = serde_json::to_string(&item).unwrap();
            let with_it = bare.replacen('{', &format!("{{\"{wire}\": {value}, "), 1);
            let twice = with_it.replacen('{', &format!("{{\"{wire}\": {value}, "), 1);
            for items in [[GOOD, &with_it, GOOD], [GOOD, &bare, GOOD], [&twice, GOOD, &with_it]] {
                passes += u32::from(compare(&page_of(&items)));
            }
        }
    }
    assert!(passes > 1_000, "only {passes} pages parse in one pass");
}

#[test]
fn a_field_in_another_spelling_and_a_byte_order_mark_are_read_as_in_an_account() {
    for members in [
        r#""City": "Oslo""#,
        r#""country": "Norway", "COUNTRY": "Norway""#,
        r#""COUNTRY": "Norway", "country": null"#,
        r#""linked_in_url": null"#,
        r#""companySize": """#,
        r#""companySize": " \u00a0""#,
    ] {
        let item = GOOD.replace("\"city\": \"Z\\u00fcrich \\\"\\\\\"", members);
        assert_ne!(item, GOOD);
        let item = item.replacen("\"companySize\": \"51-200\",", "", usize::from(members.contains("Size")));
        compare(&page_of(&[GOOD, &item]));
    }
    let marked = answer(&format!("\u{feff}{{\"items\": [{GOOD}], \"hasMore\": true}}"));
    assert!(compare(&marked));
}

#[test]
fn what_is_no_page_is_refused_as_before() {
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "{\"items\": null, \"hasMore\": true}",
        "{\"items\": [], \"hasMore\": null}",
        "{\"items\": [], \"hasMore\": true, \"hasMore\": false}",
        "{\"items\": [], \"items\": [], \"hasMore\": false}",
        "{\"hasMore\": false, \"total\": 1e400, \"items\": []}",
        "{\"items\": [], \"hasMore\": false} x",
        "{\"items\": [null], \"hasMore\": false}",
        "{\"items\": [[7]], \"hasMore\": false}",
        "[[], false]",
        "{\"items\": [7, 8], \"hasMore\": false}",
        "  {\"items\": [ ], \"hasMore\": false}  ",
        "{\"items\": [}",
    ] {
        compare(&answer(body));
    }
}

#[test]
fn rows_are_kept_in_parts_that_copy_nothing() {
    let mut builder = Builder::new(0);
    for id in 1..=6 {
        let item = GOOD.replace("\"id\": 7", &format!("\"id\": {id}")).replace("\"Acme\"", "\"Acme\", \"score\": 1");
        builder.push(serde_json::from_str(&item).unwrap());
    }
    let columns = builder.finish();
    let ids = |keep: &[bool]| columns.kept(keep).iter().map(Columns::ids).collect::<Vec<_>>();
    assert_eq!(ids(&[true; 6]), [[1, 2, 3, 4, 5, 6].map(Some).to_vec()]);
    assert_eq!(ids(&[false, true, true, false, false, true]), [vec![Some(2), Some(3)], vec![Some(6)]]);
    assert!(ids(&[false; 6]).is_empty());
    let part = columns.slice(2, 10).slice(1, 2);
    assert_eq!(part.ids(), [Some(4), Some(5)]);
    assert_eq!(rows(&part), rows(&columns)[3..5]);
    assert_eq!(part.array("stage_name").unwrap().len(), 2);
    assert_eq!(part.slice(9, 1).len(), 0);
}

#[test]
fn a_column_has_the_values_of_its_member() {
    let item = GOOD.replace("\"phone\": null", "\"createdDate\": \"2024-01-02\"").replacen("createdDate", "x", 1);
    let page = answer(&format!(
        "{{\"items\": [{item}, {{\"id\": 8, \"ownerUserId\": 2, \"name\": \"B\"}}], \"hasMore\": false}}"
    ));
    let columns = page.columns().unwrap().accounts.unwrap();
    let values = |name| {
        let array = columns.array(name).unwrap();
        (0..2).map(|row| format!("{:?}", value_of(&array, row))).collect::<Vec<_>>()
    };
    assert_eq!(values("id"), ["Integer(7)", "Integer(8)"]);
    assert_eq!(values("name"), ["Text(\"Acme\")", "Text(\"B\")"]);
    assert_eq!(values("created_date"), ["Nothing", "Nothing"]);
    assert!(values("last_activity_date")[0].contains("2026-09-08T12:08:22.58"));
    assert_eq!(values("company_size"), ["Text(\"51-200\")", "Nothing"]);
    assert_eq!(values("stage_id"), ["Integer(1)", "Nothing"]);
    assert_eq!(values("stage_name"), ["Text(\"New\")", "Nothing"]);
    assert_eq!(values("stage_color_id"), ["Integer(2)", "Nothing"]);
    assert!(columns.array("unknown").is_none());
    assert_eq!(Columns::none().len(), 0);
}
