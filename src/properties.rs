//! Properties of the pure modules for any input.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::account::{AccountFields, CompanySize, ContactAccount, Field, FieldSet, FieldValue, MEMBERS, Presence};
use crate::answer::{Answer, Body, Headers};
use crate::change::{self, Deviations};
#[cfg(feature = "plan")]
use crate::change::{Change, Drift};
use crate::config::{ActAs, ApiKey, AuthScheme, BaseUrl, ProxyUrl};
use crate::error::Failure;
#[cfg(feature = "plan")]
use crate::plan::diff;
#[cfg(feature = "plan")]
use crate::plan::{Cell, Mode, Nulls};
use crate::problem::Problem;
use crate::quota::{Quota, Windows};
use crate::retry::{self, Attempt, Budget};
use crate::text::plain_line;
use crate::timestamp;

const ID: i64 = 7;

/// Returns the update that makes the changes, or `None` if there are none.
fn merge(account: &ContactAccount, wanted: &AccountFields) -> Option<AccountFields> {
    let changes = change::changes(account, wanted);
    (!changes.is_empty()).then(|| change::merged(account, &changes).unwrap())
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), Just("Oslo".to_owned()), any::<String>()]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
        Just(json!("2023-11-07T05:31:56Z")),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let name = prop_oneof![any_member(), any_text()];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(name, inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn any_member() -> impl Strategy<Value = String> {
    let others = ["items", "hasMore", "title", "detail", "code", "errors", "pointer"];
    let names: Vec<String> = MEMBERS.iter().map(|member| member.wire).chain(others).map(ToOwned::to_owned).collect();
    proptest::sample::select(names)
}

/// Seconds, dates of the years 1970 to 9999, and arbitrary values.
fn any_hint() -> impl Strategy<Value = String> {
    let date = (0_u64..253_000_000_000)
        .prop_map(|seconds| httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)));
    prop_oneof![
        any::<String>(),
        "[0-9]{1,40}",
        date,
        "(Sun|Mon), [0-9]{2} (Jan|Feb) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
    ]
}

/// An account as the service may return it: optional members with a value, empty, `null` or missing.
fn any_account() -> impl Strategy<Value = ContactAccount> {
    let texts =
        vec(prop_oneof![Just(None), Just(Some(Value::Null)), any_text().prop_map(|text| Some(text.into()))], 15);
    let extra = proptest::collection::btree_map("x-[a-z]{1,4}", any_json(), 0..3);
    (texts, "[A-Z]{1,8}", 1..i64::MAX, extra).prop_map(|(texts, name, owner, extra)| {
        let mut members: Map<String, Value> = extra.into_iter().collect();
        let optional = Field::ALL.iter().filter(|field| field.nullable());
        members.extend(optional.zip(texts).filter_map(|(field, text)| Some((field.wire().to_owned(), text?))));
        let always = json!({
            "id": ID, "name": name, "ownerUserId": owner, "linkedProspectsCount": 0,
            "createdDate": "2023-11-07T05:31:56Z", "lastActivityDate": "2023-11-07T05:31:56Z",
            "stage": {"id": 1, "name": "Lead"},
        });
        members.extend(always.as_object().unwrap().clone());
        serde_json::from_value(members.into()).unwrap()
    })
}

/// Changes that the API contract allows: the name and the owner are never empty.
fn any_changes() -> impl Strategy<Value = AccountFields> {
    let text = prop_oneof![
        3 => Just(Presence::Absent),
        1 => Just(Presence::Null),
        2 => any_text().prop_map(Presence::Value),
    ];
    let owner = prop_oneof![Just(Presence::Absent), (1..i64::MAX).prop_map(Presence::Value)];
    let name = prop_oneof![Just(Presence::Absent), "[A-Z]{1,8}".prop_map(Presence::Value)];
    let size = prop_oneof![Just(Presence::Absent), Just(Presence::Null), Just(Presence::Value(CompanySize::Empty))];
    (vec(text, 13), owner, name, size).prop_map(|(texts, owner_user_id, name, company_size)| {
        let mut texts = texts.into_iter();
        let mut next = || texts.next().unwrap();
        AccountFields {
            name,
            description: next(),
            domain_name: next(),
            domain_secondary: next(),
            industry: next(),
            company_size,
            country: next(),
            state: next(),
            city: next(),
            time_zone_id: next(),
            linked_in_url: next(),
            phone: next(),
            twitter_url: next(),
            logo_url: next(),
            email: next(),
            owner_user_id,
        }
    })
}

/// The account after an update, according to the API contract: missing fields are cleared, read-only members are kept.
fn after(account: &ContactAccount, update: &AccountFields) -> ContactAccount {
    let mut members = serde_json::to_value(account).unwrap();
    for field in Field::ALL.iter().filter(|field| field.nullable()) {
        members[field.wire()] = Value::Null;
    }
    members.as_object_mut().unwrap().extend(body(update));
    serde_json::from_value(members).unwrap()
}

fn body(update: &AccountFields) -> Map<String, Value> {
    match serde_json::to_value(update).unwrap() {
        Value::Object(members) => members,
        other => panic!("{other}"),
    }
}

/// Every field by its value, with one form for all empty values.
fn values(fields: &AccountFields) -> BTreeMap<Field, String> {
    let shown = |field: Field| value(field, fields.get(field).value().copied());
    Field::ALL.iter().filter_map(|field| Some((*field, shown(*field)?))).collect()
}

fn value(field: Field, value: Option<FieldValue<'_>>) -> Option<String> {
    match value? {
        FieldValue::Integer(number) => Some(number.to_string()),
        FieldValue::Text("") => None,
        FieldValue::Text("Empty") if field == Field::CompanySize => None,
        FieldValue::Text(text) => Some(text.to_owned()),
    }
}

/// The changes that undo others: for every field that they name, its previous value.
fn undoing(changes: &AccountFields, before: &AccountFields) -> AccountFields {
    let mut undo = AccountFields::default();
    for &field in Field::ALL.iter().filter(|field| !changes.get(**field).is_absent()) {
        if before.get(field).is_absent() {
            undo.copy_from(&nothing(), field);
        } else {
            undo.copy_from(before, field);
        }
    }
    undo
}

/// `null` in every field that may be `null`.
fn nothing() -> AccountFields {
    AccountFields {
        name: Presence::Absent,
        description: Presence::Null,
        domain_name: Presence::Null,
        domain_secondary: Presence::Null,
        industry: Presence::Null,
        company_size: Presence::Null,
        country: Presence::Null,
        state: Presence::Null,
        city: Presence::Null,
        time_zone_id: Presence::Null,
        linked_in_url: Presence::Null,
        phone: Presence::Null,
        twitter_url: Presence::Null,
        logo_url: Presence::Null,
        email: Presence::Null,
        owner_user_id: Presence::Absent,
    }
}

/// The row of a table: the changes as cells, `null` as an empty one.
#[cfg(feature = "plan")]
fn cells(changes: &AccountFields) -> Vec<(Field, Cell<'_>)> {
    let cell = |field: &Field| match changes.get(*field) {
        Presence::Absent => None,
        Presence::Null => Some((*field, Cell::Empty)),
        Presence::Value(FieldValue::Text(text)) => Some((*field, Cell::Text(text))),
        Presence::Value(FieldValue::Integer(number)) => Some((*field, Cell::Integer(number))),
    };
    Field::ALL.iter().filter_map(cell).collect()
}

#[cfg(feature = "plan")]
proptest! {
    #[test]
    fn a_planned_update_changes_just_the_fields_meant_and_keeps_every_other(
        account in any_account(), row in any_changes(),
        mode in proptest::sample::select(Mode::ALL), nulls in proptest::sample::select(Nulls::ALL),
    ) {
        let changes = diff::changes(&account, cells(&row), mode, nulls);
        let sent = change::merged(&account, &changes).unwrap();
        let (before, after, meant) = (values(&account.fields()), values(&sent), values(&row));
        for field in Field::ALL {
            let (was, is) = (before.get(field), after.get(field));
            let given = row.get(*field);
            let change = changes.iter().find(|change| change.field == *field);
            let has_value = given.value().is_some();
            let may_change = match mode {
                Mode::Patch => has_value || (given == Presence::Null && nulls == Nulls::Clear),
                Mode::Fill => was.is_none() && has_value,
                Mode::Replace => has_value || given.is_absent() || nulls == Nulls::Clear,
            };
            prop_assert!(may_change || change.is_none(), "{field:?}");
            if change.is_none() {
                prop_assert_eq!(was, is, "kept: {:?}", field);
            }
            if may_change && has_value {
                prop_assert_eq!(is, meant.get(field), "as meant: {:?}", field);
            }
            if mode == Mode::Replace && given.is_absent() && field.nullable() {
                prop_assert_eq!(is, None, "cleared: {:?}", field);
            }
        }
        for name in body(&sent).keys() {
            let member = MEMBERS.iter().find(|member| member.wire == name).unwrap();
            prop_assert!(member.writable, "{name} cannot be sent");
        }
    }

    #[test]
    fn a_plan_applied_leaves_nothing_to_change_and_reverted_gives_back_the_account(
        account in any_account(), row in any_changes(),
        mode in proptest::sample::select(Mode::ALL), nulls in proptest::sample::select(Nulls::ALL),
    ) {
        let changes = diff::changes(&account, cells(&row), mode, nulls);
        let applied = after(&account, &change::merged(&account, &changes).unwrap());
        prop_assert_eq!(diff::changes(&applied, cells(&row), mode, nulls), []);
        prop_assert_eq!(change::drift(&applied, &changes), Drift::Done);
        if !changes.is_empty() {
            prop_assert_eq!(change::drift(&account, &changes), Drift::None);
        }
        let reversed = |change: Change| Change::new(change.field, change.after, change.before);
        let back: Vec<_> = changes.into_iter().map(reversed).collect();
        let reverted = after(&applied, &change::merged(&applied, &back).unwrap());
        prop_assert_eq!(values(&reverted.fields()), values(&account.fields()));
    }

    #[test]
    fn a_field_that_someone_else_changed_is_a_conflict_and_no_other(
        account in any_account(), row in any_changes(), foreign in any_changes(),
    ) {
        let changes = diff::changes(&account, cells(&row), Mode::Patch, Nulls::Clear);
        let drifted = diff::changes(&account, cells(&foreign), Mode::Patch, Nulls::Clear);
        let now = after(&account, &change::merged(&account, &drifted).unwrap());
        let is_foreign = |change: &&Change| drifted.iter().any(|other| other.field == change.field
            && value(other.field, other.after.as_field_value()) != value(change.field, change.after.as_field_value()));
        let expected: Vec<Field> = changes.iter().filter(is_foreign).map(|change| change.field).collect();
        match change::drift(&now, &changes) {
            Drift::Conflict(fields) => prop_assert_eq!(fields, expected),
            Drift::None | Drift::Done => prop_assert_eq!(expected, []),
        }
        let (written, newest) = (change::merged(&now, &changes).unwrap(), now.fields());
        for field in Field::ALL.iter().filter(|field| changes.iter().all(|change| change.field != **field)) {
            prop_assert_eq!(written.get(*field), newest.get(*field), "the newest value is kept: {:?}", field);
        }
    }
}

proptest! {
    #[test]
    fn a_merge_changes_what_is_named_and_keeps_everything_else(account in any_account(), changes in any_changes()) {
        let before = values(&account.fields());
        let wanted = values(&changes);
        let mut expected = before.clone();
        for &field in Field::ALL.iter().filter(|field| !changes.get(**field).is_absent()) {
            match wanted.get(&field) {
                Some(value) => drop(expected.insert(field, value.clone())),
                None => drop(expected.remove(&field)),
            }
        }
        match merge(&account, &changes) {
            None => prop_assert_eq!(before, expected),
            Some(merged) => {
                prop_assert_ne!(&before, &expected);
                prop_assert_eq!(values(&merged), expected.clone());
                prop_assert_eq!(values(&after(&account, &merged).fields()), expected);
                prop_assert!(Deviations::of(&account, &merged, &after(&account, &merged)).is_empty());
                for name in body(&merged).keys() {
                    prop_assert!(Field::from_wire(name).is_some(), "{} cannot be sent", name);
                }
            }
        }
    }

    #[test]
    fn a_merge_applied_twice_changes_nothing_and_undone_gives_back_the_account(
        account in any_account(), changes in any_changes(),
    ) {
        let Some(merged) = merge(&account, &changes) else { return Ok(()) };
        let changed = after(&account, &merged);
        prop_assert_eq!(merge(&changed, &changes), None);
        let undo = undoing(&changes, &account.fields());
        let reverted = after(&changed, &merge(&changed, &undo).unwrap());
        prop_assert_eq!(values(&reverted.fields()), values(&account.fields()));
        prop_assert_eq!((reverted.extra, reverted.stage), (account.extra, account.stage));
    }

    #[test]
    fn every_field_that_an_answer_lacks_is_a_deviation_and_no_other(account in any_account(), lost in any::<u16>()) {
        let sent = account.fields();
        let mut kept = sent.clone();
        let lost: Vec<Field> = Field::ALL
            .iter()
            .copied()
            .filter(|field| field.nullable() && lost >> (*field as u16) & 1 == 1 && values(&sent).contains_key(field))
            .collect();
        for field in &lost {
            kept.remove(*field);
        }
        prop_assert_eq!(Deviations::of(&account, &sent, &after(&account, &kept)).fields, lost);
    }

    #[test]
    fn no_interval_ever_holds_more_requests_than_the_quota(
        per_minute in 1_u32..5,
        per_hour in 1_u32..9,
        steps in vec((0_u64..40_000, 0_u8..8, any::<proptest::sample::Index>()), 1..120),
    ) {
        let quota = Quota { per_minute, per_hour };
        let mut windows = Windows::default();
        let (mut now, mut held, mut booked) = (Duration::ZERO, Duration::ZERO, Vec::new());
        for (millis, action, which) in steps {
            now += Duration::from_millis(millis);
            let waiting: Vec<usize> = (0..booked.len()).filter(|index| booked[*index] > now).collect();
            match action {
                // A waiting call is dropped.
                0 | 1 if !waiting.is_empty() => {
                    let place = booked.remove(*which.get(&waiting));
                    windows.release(place);
                }
                2 => {
                    windows.hold(now, Duration::from_millis(millis));
                    held = held.max(now + Duration::from_millis(millis));
                }
                3 => {
                    let latest = now + Duration::from_millis(millis);
                    match windows.reserve(quota, now, latest) {
                        Ok((moment, _)) => {
                            prop_assert!(moment <= latest);
                            booked.push(moment);
                        }
                        Err(late) => prop_assert!(late.opens_at > latest),
                    }
                }
                _ => {
                    let (moment, _) = windows.reserve(quota, now, Duration::MAX).unwrap();
                    prop_assert!(moment >= now && moment >= held);
                    booked.push(moment);
                }
            }
        }
        booked.sort_unstable();
        for (limit, length) in [(per_minute, 60), (per_hour, 3600)] {
            let limit = usize::try_from(limit).unwrap();
            for (first, beyond) in booked.iter().zip(booked.iter().skip(limit)) {
                prop_assert!(*beyond >= *first + Duration::from_secs(length), "{:?}", booked);
            }
        }
    }

    #[test]
    fn no_interval_of_the_services_holds_more_requests_than_the_quota_however_long_their_way(
        per_minute in 1_u32..5,
        per_hour in 1_u32..9,
        steps in vec((0_u64..40_000, 0_u8..3, any::<proptest::sample::Index>(), 0.0..=1.0), 1..200),
    ) {
        let quota = Quota { per_minute, per_hour };
        let mut windows = Windows::default();
        let (mut now, mut booked) = (Duration::ZERO, Vec::new());
        let (mut in_flight, mut arrived) = (Vec::new(), Vec::new());
        let on_the_way = |sent: Duration, now: Duration, part: f64| sent + now.abs_diff(sent).mul_f64(part);
        for (millis, action, which, part) in steps {
            now += Duration::from_millis(millis);
            if action == 0 && !in_flight.is_empty() {
                let (ticket, sent) = in_flight.swap_remove(which.index(in_flight.len()));
                windows.settle(ticket, now);
                arrived.push(on_the_way(sent, now, part));
            } else if action == 1 && !booked.is_empty() {
                let place = booked.swap_remove(which.index(booked.len()));
                // A call that wakes up late, and a call that is dropped.
                now = now.max(place);
                if millis % 7 == 0 {
                    windows.release(place);
                    continue;
                }
                match windows.send(quota, place, now) {
                    Ok(ticket) => in_flight.push((ticket, now)),
                    Err((later, _)) => {
                        prop_assert!(later > now);
                        booked.push(later);
                    }
                }
            } else if let Ok((place, _)) = windows.reserve(quota, now, Duration::MAX) {
                booked.push(place);
            }
        }
        arrived.extend(in_flight.iter().map(|(_, sent)| on_the_way(*sent, now, 0.5)));
        arrived.sort_unstable();
        for (limit, length) in [(per_minute, 60), (per_hour, 3600)] {
            let limit = usize::try_from(limit).unwrap();
            for (first, beyond) in arrived.iter().zip(arrived.iter().skip(limit)) {
                prop_assert!(*beyond >= *first + Duration::from_secs(length), "{:?}", arrived);
            }
        }
    }

    #[test]
    fn a_wait_before_the_next_attempt_is_bounded(
        number in 1_u32..1_000, allowed in 0_u32..1_000, retryable: bool, dropped: bool, random in 0.0..1.0,
        hint in proptest::option::of(0_u64..100_000), time_left in 0_u64..200_000,
    ) {
        let (hint, time_left) = (hint.map(Duration::from_millis), Duration::from_millis(time_left));
        let attempt = Attempt { number, allowed, retryable, dropped, hint, time_left };
        if let Some(wait) = retry::decide(attempt, &mut Budget::new(), random) {
            prop_assert!(retryable && number < allowed && wait < time_left);
            prop_assert!(wait >= hint.unwrap_or_default());
            prop_assert!(wait <= hint.unwrap_or_default().max(Duration::from_secs(20)));
        }
    }

    #[test]
    fn retries_never_outrun_the_budget(steps in vec(0_u64..3_000, 1..400)) {
        let time_left = Duration::MAX;
        let failed = Attempt { number: 1, allowed: 9, retryable: true, dropped: false, hint: None, time_left };
        let mut budget = Budget::new();
        let (mut now, mut waits) = (Duration::ZERO, 0_u32);
        for millis in steps {
            now += Duration::from_millis(millis);
            budget.refill(now);
            waits += u32::from(retry::decide(failed, &mut budget, 0.5).is_some());
        }
        prop_assert!(f64::from(waits) <= 100.0 + now.as_secs_f64());
    }

    #[test]
    fn whatever_the_bytes_are_an_answer_is_read_or_refused(status in 200_u16..600, bytes in vec(any::<u8>(), 0..300)) {
        read(status, &bytes)?;
    }

    #[test]
    fn whatever_the_json_is_an_answer_is_read_or_refused_by_its_path(
        status in prop_oneof![Just(200_u16), 200_u16..600],
        value in any_json(),
        member in any_member(),
        account in any_account(),
    ) {
        read(status, value.to_string().as_bytes())?;
        let mut account = serde_json::to_value(account).unwrap();
        account[&member] = value.clone();
        read(status, account.to_string().as_bytes())?;
        let page = json!({"items": [account], "hasMore": value});
        read(status, page.to_string().as_bytes())?;
    }

    #[test]
    fn an_account_written_as_json_is_read_as_the_same_account(account in any_account()) {
        let bytes = serde_json::to_vec(&account).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<ContactAccount>(&bytes).unwrap(), &account);
        let whole = ContactAccount { answered: FieldSet::ALL, ..account };
        prop_assert_eq!(answer(200, &bytes).account(ID).unwrap(), whole);
    }

    #[test]
    fn whatever_the_text_is_it_is_a_date_or_none(text in prop_oneof![
        any::<String>(),
        "[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}[Tt ][0-9:]{0,8}([.,][0-9]{0,30})?(Z|z|[+-][0-9:]{0,5}|\\[UTC\\])?",
        "\\PC*[.,][0-9é]{0,12}\\PC*",
    ]) {
        if let Some(read) = timestamp::parse(&text) {
            prop_assert_eq!(timestamp::parse(&read.to_string()), Some(read));
        }
    }

    #[test]
    fn a_moment_is_read_from_each_of_its_spellings(
        seconds in -62_000_000_000_i64..253_000_000_000,
        nanos in 0..1_000_000_000,
        digits in 0_usize..20,
        minutes in -840_i32..840,
    ) {
        let moment = jiff::Timestamp::new(seconds, nanos).unwrap();
        let offset = jiff::tz::Offset::from_seconds(minutes * 60).unwrap();
        let local = offset.to_datetime(moment);
        let fraction = format!("{:09}{}", moment.subsec_nanosecond().rem_euclid(1_000_000_000), "7".repeat(digits));
        let date = local.strftime("%Y-%m-%dT%H:%M:%S");
        let sign = if minutes < 0 { '-' } else { '+' };
        let text = format!("{date}.{fraction}{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60);
        let expected = jiff::tz::Offset::UTC.to_datetime(moment);
        prop_assert_eq!(timestamp::parse(&text), Some(expected), "{}", text);
    }

    #[test]
    fn whatever_retry_after_says_it_is_bounded(
        text in any_hint(), date in any_hint(), seconds in 0_u64..253_000_000_000
    ) {
        let clock = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for date in [None, Some(&*text), Some(&*date)] {
            let read = retry::retry_after(&text, date, clock);
            prop_assert!(read.is_none_or(|wait| wait <= retry::LONGEST_HINT), "{:?}", read);
        }
    }

    #[test]
    fn whatever_a_setting_is_it_is_taken_or_refused_without_an_echo(text in prop_oneof![
        any::<String>(), "[!-~]{0,40}", "(https?|ftp)://[!-~]{0,30}", "[!-~]{0,10}@[!-~]{0,10}",
    ]) {
        let echoed = |error: crate::Error| text.len() > 12 && error.to_string().contains(&text);
        if let Err(error) = ApiKey::new(text.clone()) {
            prop_assert!(!echoed(error));
        } else {
            let header = http::HeaderValue::from_str(&format!("Bearer {text}"));
            prop_assert!(header.is_ok());
        }
        match BaseUrl::new(&text) {
            Ok(url) => {
                prop_assert!(url.is_https() || url.is_loopback());
                prop_assert_eq!(&BaseUrl::new(&url.to_string()).unwrap(), &url);
                prop_assert!(url.join(format_args!("/contact-accounts/7")).path().ends_with("/contact-accounts/7"));
            }
            Err(error) => prop_assert!(!echoed(error)),
        }
        let with_user = BaseUrl::new(&format!("https://canary:canary-word@{text}"));
        prop_assert!(with_user.is_err_and(|error| !error.to_string().contains("canary")));
        if ActAs::user_email(&text).is_ok() {
            prop_assert!(http::HeaderValue::from_str(&text).is_ok());
        }
        prop_assert!(ProxyUrl::new(&text).err().is_none_or(|error| !echoed(error)));
        let _ = AuthScheme::new(&text);
    }

    #[test]
    fn an_escaped_key_is_not_in_what_is_told_about_a_text_with_it(
        key in "[!-~]{8,40}", before in any::<String>(), behind in any::<String>(),
        layers in vec((0_usize..3, any::<u32>()), 0..4), is_upper: bool,
    ) {
        let spelled_key = if is_upper { key.to_uppercase() } else { key.clone() };
        let (mut text, mut spelled) = (format!("{before}{spelled_key}{behind}"), spelled_key);
        for (kind, chosen) in layers {
            // The text around it is escaped with other choices: its spelling is independent of the key's.
            (text, spelled) = (text.replacen(&spelled, "\u{f8ff}", 1), escaped(&spelled, kind, chosen));
            text = escaped(&text, kind, !chosen).replace('\u{f8ff}', &spelled);
        }
        let redacted = ApiKey::new(key).unwrap().redact(&text);
        prop_assert!(redacted.contains("[key]") && !redacted.contains(&spelled), "{}", redacted);
    }

    #[test]
    fn a_text_without_the_key_stays_as_it_is(key in "[!-~]{12,40}", text in "[ -~\u{e9}]{0,200}") {
        prop_assert_eq!(ApiKey::new(key).unwrap().redact(&text), text);
    }

    #[test]
    fn a_key_is_not_in_what_is_told_about_a_text_with_it(
        key in "[!-~]{8,40}", before in any::<String>(), behind in any::<String>(),
    ) {
        let redacted = ApiKey::new(key.clone()).unwrap().redact(&format!("{before}{key}{behind}"));
        prop_assert!(!redacted.replace("[key]", "\n").contains(&key), "{}", redacted);
    }

    #[test]
    fn foreign_text_becomes_one_short_line(text in any::<String>(), limit in 0_usize..40) {
        let line = plain_line(&text, limit);
        prop_assert!(!line.chars().any(char::is_control));
        let longest_escape = "\\U000e0041".len();
        prop_assert!(line.chars().count() <= limit * longest_escape + 1);
    }
}

/// Returns a text in the form of URLs, HTML or scripts: with all required escapes, and some optional ones.
fn escaped(text: &str, kind: usize, chosen: u32) -> String {
    let special = ['%', '&', '\\'][kind];
    let mut escaped = String::new();
    for (index, character) in text.chars().enumerate() {
        let choice = chosen.rotate_right(u32::try_from(index % 32).unwrap()) & 3;
        let code = u32::from(character);
        let _ = match (kind, choice) {
            _ if !character.is_ascii() || (character != special && choice > 1) => write!(escaped, "{character}"),
            (0, 0) => write!(escaped, "%{code:02x}"),
            (0, _) => write!(escaped, "%{code:02X}"),
            (1, 0) => write!(escaped, "&#{code};"),
            (1, _) => write!(escaped, "&#x{code:X};"),
            (_, 0) => write!(escaped, "\\x{code:02x}"),
            _ => write!(escaped, "\\u{code:04X}"),
        };
    }
    escaped
}

fn answer(status: u16, bytes: &[u8]) -> Answer {
    Answer { status, headers: Headers::default(), body: Body::Whole(bytes.to_vec().into()) }
}

/// Parses an answer in every way. An error is one line of bounded length that contains a path and no value.
fn read(status: u16, bytes: &[u8]) -> Result<(), TestCaseError> {
    let problem = Problem::read(bytes);
    prop_assert!(problem.errors.len() <= 100);
    let failures = [
        answer(status, bytes).account(ID).err(),
        answer(status, bytes).page().err(),
        answer(status, bytes).accepted().err(),
    ];
    for failure in failures.into_iter().flatten() {
        if let Failure::Unexpected(unexpected) = failure {
            let place = unexpected.reason;
            prop_assert!(place.len() < 100 && place.is_ascii(), "{}", place);
        }
    }
    Ok(())
}
