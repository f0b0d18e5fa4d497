//! The decisions of a run, without a service, a clock or a file.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{Machine, Next, Request, Settings, Update};
use crate::account::{ContactAccount, Field, FieldSet, Presence};
use crate::answer::Item;
use crate::change::{Change, Value};
use crate::error::{ApiFailure, Call, CallError, Error, Failure, Operation, TransportFault, TransportKind, Unexpected};
use crate::plan::file::{self, AtRisk, Cleared, Finished, ItemsProof, OpenRow, Record, Unplanned};
use crate::plan::run::policy::Refusal;
use crate::plan::run::proof::FEWEST;
use crate::plan::run::{OnConflict, OnUnknownMember, RunError};
use crate::plan::{MatchOn, Status};
use crate::problem::Problem;

const SETTINGS: Settings = Settings {
    on_conflict: OnConflict::Skip,
    on_unknown_member: OnUnknownMember::Stop,
    concurrency: 4,
    most_on_a_look: 100,
    attempts: 4,
    fills: false,
    is_revert: false,
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Members that answered updates cleared.
fn cleared(names: &[&str]) -> Cleared {
    names.iter().map(|name| ((*name).to_owned(), BTreeMap::new())).collect()
}

impl Machine {
    /// Makes the run spare members that were cleared, and those of an update in doubt, which holds up the others.
    fn sparing_one(self, cleared: Cleared, in_doubt: Option<AtRisk>) -> Self {
        let row = in_doubt.as_ref().map(|at_risk| at_risk.row);
        self.sparing(cleared, in_doubt.into_iter().collect(), row)
    }

    /// Returns an outcome as the file stores it.
    fn stored(&self, record: &Record) -> Finished {
        let Record::Finish { row, finished } = record else { panic!("{record:?}") };
        let mut finished = finished.clone();
        self.name_lost(*row, &mut finished);
        finished
    }
}

/// An account that has every writable member.
fn account(id: i64) -> ContactAccount {
    let mut members = serde_json::Map::new();
    for field in Field::ALL {
        members.insert(field.wire().to_owned(), serde_json::Value::Null);
    }
    members.insert("id".into(), id.into());
    members.insert("name".into(), format!("Company {id}").into());
    members.insert("city".into(), "Oslo".into());
    members.insert("ownerUserId".into(), 1.into());
    members.insert("linkedProspectsCount".into(), 0.into());
    members.insert("createdDate".into(), "2023-11-07T05:31:56Z".into());
    members.insert("lastActivityDate".into(), "2023-11-07T05:31:56Z".into());
    members.insert("stage".into(), serde_json::Value::Null);
    serde_json::from_value(members.into()).unwrap()
}

fn with(id: i64, name: &str, value: &str) -> ContactAccount {
    let mut members = serde_json::to_value(account(id)).unwrap();
    members[name] = value.into();
    serde_json::from_value(members).unwrap()
}

fn without(id: i64, name: &str) -> ContactAccount {
    let mut members = serde_json::to_value(account(id)).unwrap();
    members.as_object_mut().unwrap().remove(name);
    serde_json::from_value(members).unwrap()
}

/// Rows 0, 1, … for accounts 1, 2, …, adjacent in the list.
fn rows(count: u64) -> Vec<OpenRow> {
    let row = |row: u64| OpenRow {
        row,
        account_id: Some(row.cast_signed() + 1),
        position: Some(row),
        weight: row,
        listed: FieldSet::default(),
        was_sent: false,
        is_pending: true,
        has_older_values: false,
    };
    (0..count).map(row).collect()
}

fn bergen() -> Vec<Change> {
    vec![Change::new(Field::City, Value::Text("Oslo".into()), Value::Text("Bergen".into()))]
}

fn planned(rows: &[OpenRow]) -> HashMap<u64, Vec<Change>> {
    rows.iter().map(|row| (row.row, bergen())).collect()
}

fn call_failed(failure: Failure) -> Refusal {
    let may_have_been_applied = failure.may_have_been_applied();
    let call = Call { operation: Operation::Update, id: Some(1) };
    let error = CallError { call, attempts: 1, elapsed: Duration::ZERO, may_have_been_applied, failure };
    Error::Call(Box::new(error)).into()
}

fn status(status: u16, code: Option<&str>, retry_after: Option<Duration>) -> Refusal {
    let problem = Problem { code: code.map(ToOwned::to_owned), ..Problem::default() };
    let answer = ApiFailure {
        status,
        problem,
        request_id: None,
        retry_after,
        bearer_challenge: false,
        is_problem: code.is_some(),
        is_page: false,
        refused_key: None,
    };
    call_failed(Failure::Api(Box::new(answer)))
}

fn lost_answer() -> Refusal {
    let fault =
        TransportFault { kind: TransportKind::Broken, sent: true, detail: "the connection broke".into(), source: None };
    call_failed(Failure::Transport(fault))
}

fn login_page() -> Refusal {
    let unexpected = Unexpected { status: Some(200), reason: "not JSON".into(), excerpt: Some("<html>".into()) };
    call_failed(Failure::Unexpected(unexpected))
}

fn next_request(machine: &mut Machine, now: Duration) -> Request {
    assert_eq!(machine.next(now), Next::Request);
    machine.start(now).unwrap()
}

fn next_update(machine: &mut Machine, now: Duration) -> Update {
    match next_request(machine, now) {
        Request::Update(update) => *update,
        other => panic!("an update was expected, not {other:?}"),
    }
}

fn next_account(machine: &mut Machine, now: Duration) -> OpenRow {
    match next_request(machine, now) {
        Request::Account { row } => row,
        other => panic!("a look at one account was expected, not {other:?}"),
    }
}

fn next_page(machine: &mut Machine, now: Duration) -> Vec<OpenRow> {
    match next_request(machine, now) {
        Request::Page { rows, .. } => rows,
        other => panic!("a page was expected, not {other:?}"),
    }
}

fn items(rows: &[OpenRow], account: impl Fn(i64) -> ContactAccount) -> Vec<Item> {
    rows.iter().filter_map(|row| row.account_id).map(|id| Item::Account(account(id))).collect()
}

fn look_at_page(machine: &mut Machine, shown: impl Fn(i64) -> ContactAccount) -> Vec<Record> {
    let rows = next_page(machine, at(0));
    let (planned, items) = (planned(&rows), items(&rows, shown));
    machine.looked_at_page(rows, planned, Ok(items), at(0))
}

fn look_at_account(machine: &mut Machine, account: impl Fn(i64) -> ContactAccount, now: Duration) -> Vec<Record> {
    let row = next_account(machine, now);
    machine.looked_at_account(row, bergen(), Ok(account(row.account_id.unwrap())), now)
}

/// A run that reads accounts with `GET`, and has read the first.
fn looked(count: u64, settings: Settings) -> Machine {
    let mut machine = Machine::new(rows(count), Some(ItemsProof::Incomplete), settings);
    assert_eq!(look_at_account(&mut machine, account, at(0)), []);
    machine
}

fn answered(id: i64) -> ContactAccount {
    with(id, "city", "Bergen")
}

/// The service takes an update: its answer has the fields that were sent, and the other members of an account.
fn wrote_as_sent(machine: &mut Machine, update: Update, other: ContactAccount, now: Duration) -> Vec<Record> {
    let (mut answer, sent) = (serde_json::to_value(other).unwrap(), serde_json::to_value(&update.fields).unwrap());
    for field in Field::ALL {
        answer[field.wire()] = sent[field.wire()].clone();
    }
    machine.wrote(update, Ok(serde_json::from_value(answer).unwrap()), now)
}

fn changed(row: u64) -> Record {
    Record::Finish { row, finished: Finished::of(Status::Changed) }
}

/// The statuses of rows, by their numbers.
fn statuses(records: &[Record]) -> Vec<(u64, Status)> {
    let status = |record: &Record| match record {
        Record::Finish { row, finished } => Some((*row, finished.status)),
        _ => None,
    };
    records.iter().filter_map(status).collect()
}

fn error_of(records: &[Record]) -> String {
    let errors = records.iter().filter_map(|record| match record {
        Record::Finish { finished, .. } => finished.error.clone(),
        _ => None,
    });
    errors.collect::<Vec<_>>().join("\n")
}

#[test]
fn eight_accounts_are_read_again_before_the_first_write_from_a_page_the_one_with_the_longest_text_among_them() {
    let mut machine = Machine::new(rows(16), None, SETTINGS);
    let whole = |id| if id == 5 { with(id, "description", &"x".repeat(50)) } else { account(id) };
    assert_eq!(look_at_page(&mut machine, whole), []);
    let (mut proved, mut records) = (Vec::new(), Vec::new());
    while proved.len() < FEWEST {
        let row = next_account(&mut machine, at(0));
        assert_eq!(machine.next(at(0)), Next::Idle, "nothing is written before the items are proved");
        proved.push(row.row);
        records.extend(machine.looked_at_account(row, bergen(), Ok(whole(row.account_id.unwrap())), at(0)));
    }
    assert_eq!(records, [Record::Items(ItemsProof::Complete)]);
    assert!(proved.contains(&4), "{proved:?}");
    let (written, gets) = run_to_end(&mut machine, whole, whole);
    assert_eq!((written, gets), ((0..16).collect(), 0));
}

#[test]
fn a_few_rows_are_read_by_themselves() {
    let mut machine = Machine::new(rows(8), None, SETTINGS);
    assert_eq!(machine.requests_left(), 16);
    let (written, gets) = run_to_end(&mut machine, account, account);
    assert_eq!((written, gets), ((0..8).collect(), 8));
}

#[test]
fn a_field_that_the_list_always_leaves_empty_is_found() {
    let whole = |id: i64| if id % 2 == 0 { with(id, "description", "a text") } else { account(id) };
    let mut machine = Machine::new(rows(20), None, SETTINGS);
    let (written, gets) = run_to_end(&mut machine, account, whole);
    assert_eq!(written, (0..20).collect::<Vec<_>>());
    assert!(gets >= 20, "{gets} accounts were read by themselves");
}

#[test]
fn a_page_that_cuts_a_text_is_not_written_from_and_every_account_is_read_by_itself() {
    let mut machine = Machine::new(rows(16), None, SETTINGS);
    let whole = |id| with(id, "description", &"x".repeat(400));
    look_at_page(&mut machine, |id| with(id, "description", &"x".repeat(255)));
    assert_eq!(look_at_account(&mut machine, whole, at(0)), [Record::Items(ItemsProof::Incomplete)]);
    let mut written = Vec::new();
    while machine.next(at(0)) != Next::Done {
        match next_request(&mut machine, at(0)) {
            Request::Account { row } => {
                machine.looked_at_account(row, bergen(), Ok(whole(row.account_id.unwrap())), at(0));
            }
            Request::Update(update) => {
                assert_eq!(update.fields.description.value().map(String::len), Some(400));
                written.push(update.row.row);
                wrote_as_sent(&mut machine, *update, account(1), at(0));
            }
            Request::Page { .. } => panic!("pages were shown to be cut"),
        }
    }
    written.sort_unstable();
    assert_eq!(written, (0..16).collect::<Vec<_>>());
}

/// Runs a machine to its end over accounts that `GET` returns whole. Returns how often each row was updated, and the
/// looks.
fn run_to_end(
    machine: &mut Machine,
    page: impl Fn(i64) -> ContactAccount,
    whole: impl Fn(i64) -> ContactAccount,
) -> (Vec<u64>, u64) {
    run_to_end_as(machine, page, whole, answered)
}

/// The same, with the service's answer to an update.
fn run_to_end_as(
    machine: &mut Machine,
    page: impl Fn(i64) -> ContactAccount,
    whole: impl Fn(i64) -> ContactAccount,
    answered: impl Fn(i64) -> ContactAccount,
) -> (Vec<u64>, u64) {
    let (mut written, mut gets) = (Vec::new(), 0);
    while machine.next(at(0)) == Next::Request {
        match machine.start(at(0)).unwrap() {
            Request::Page { rows, .. } => {
                let (planned, items) = (planned(&rows), items(&rows, &page));
                machine.looked_at_page(rows, planned, Ok(items), at(0));
            }
            Request::Account { row } => {
                gets += 1;
                machine.looked_at_account(row, bergen(), Ok(whole(row.account_id.unwrap())), at(0));
            }
            Request::Update(update) => {
                let (row, id) = (update.row.row, update.account.id);
                assert_eq!(update.fields.description, whole(id).fields().description, "row {row}");
                written.push(row);
                wrote_as_sent(machine, *update, answered(id), at(0));
            }
        }
    }
    written.sort_unstable();
    (written, gets)
}

#[test]
fn a_cut_of_one_field_is_found_beside_an_account_with_more_text_in_others() {
    let whole = |id: i64| match id {
        1 => with(1, "logoUrl", &"y".repeat(200)),
        id => with(id, "description", &"x".repeat(100 * usize::try_from(id).unwrap())),
    };
    let cut = |id: i64| if id == 1 { whole(1) } else { with(id, "description", &"x".repeat(150)) };
    let mut machine = Machine::new(rows(12), None, SETTINGS);
    let (written, gets) = run_to_end(&mut machine, cut, whole);
    assert_eq!(written, (0..12).collect::<Vec<_>>());
    assert!(gets >= 12, "{gets} accounts were read by themselves");
}

#[test]
fn a_longer_text_on_a_later_page_is_proved_before_it_is_written() {
    // Pages of two rows each: only the last has texts that the list truncates.
    let settings = Settings { most_on_a_look: 2, ..SETTINGS };
    let whole = |id: i64| with(id, "description", &"x".repeat(if id > 4 { 400 } else { 60 }));
    let cut = |id: i64| with(id, "description", &"x".repeat(if id > 4 { 255 } else { 60 }));
    let lightest_last = |row: OpenRow| OpenRow { weight: 10 - row.row, ..row };
    let mut machine = Machine::new(rows(6).into_iter().map(lightest_last).collect(), None, settings);
    let (written, _) = run_to_end(&mut machine, cut, whole);
    assert_eq!(written, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_proof_that_fails_looks_at_every_row_again_and_at_none_twice() {
    let whole = |id: i64| match id {
        1 => with(1, "logoUrl", &"y".repeat(200)),
        id => with(id, "description", &"x".repeat(40 + usize::try_from(id).unwrap())),
    };
    let mut machine = Machine::new(rows(12), None, SETTINGS);
    look_at_page(&mut machine, whole);
    let proof = next_account(&mut machine, at(0));
    machine.looked_at_account(proof, bergen(), Err(status(404, Some("contactAccount.notFound"), None)), at(0));
    let (written, _) = run_to_end(&mut machine, whole, whole);
    let expected: Vec<u64> = (0..12).filter(|row| *row != proof.row).collect();
    assert_eq!(written, expected);
}

#[test]
fn a_value_that_only_the_list_shows_ends_the_run_before_anything_is_written() {
    let mut machine = Machine::new(rows(16), None, SETTINGS);
    look_at_page(&mut machine, |id| with(id, "description", &"x".repeat(60)));
    assert_eq!(look_at_account(&mut machine, account, at(0)), []);
    assert_eq!(machine.next(at(0)), Next::Done);
    match machine.into_stop() {
        Some(RunError::Contradiction { fields, .. }) => assert_eq!(fields, ["description"]),
        other => panic!("{other:?}"),
    }
    // If it may clear values, the run takes the answers of `GET`.
    let settings = Settings { on_unknown_member: OnUnknownMember::Clear, ..SETTINGS };
    let mut machine = Machine::new(rows(16), None, settings);
    let shown = |id| with(id, "description", &"x".repeat(60));
    assert_eq!(run_to_end(&mut machine, shown, account), ((0..16).collect(), 16));
    assert!(machine.into_stop().is_none());
}

/// Returns rows whose accounts had a phone number in the list at planning.
fn rows_with_phones(count: u64) -> Vec<OpenRow> {
    rows(count).into_iter().map(|row| OpenRow { listed: [Field::Phone].into_iter().collect(), ..row }).collect()
}

#[test]
fn a_value_that_only_the_list_showed_at_planning_ends_a_run_over_few_accounts_before_anything_is_written() {
    for items_proof in [None, Some(ItemsProof::Incomplete)] {
        let mut machine = Machine::new(rows_with_phones(3), items_proof, SETTINGS);
        assert_eq!(look_at_account(&mut machine, account, at(0)), []);
        assert_eq!(look_at_page(&mut machine, |id| with(id, "phone", "1")), []);
        assert_eq!(look_at_account(&mut machine, account, at(0)), []);
        assert_eq!(machine.next(at(0)), Next::Done);
        let stop = machine.into_stop();
        assert!(
            matches!(&stop, Some(RunError::Contradiction { id: 1, fields, .. }) if fields == &["phone"]),
            "{stop:?}"
        );
    }
}

#[test]
fn a_value_that_someone_emptied_since_planning_costs_two_requests_and_holds_up_nothing() {
    let mut machine = Machine::new(rows_with_phones(2), None, SETTINGS);
    let shown = |id: i64| if id == 1 { account(1) } else { with(id, "phone", "1") };
    assert_eq!(look_at_account(&mut machine, shown, at(0)), []);
    assert_eq!(look_at_page(&mut machine, shown), []);
    assert_eq!(look_at_account(&mut machine, shown, at(0)), []);
    assert_eq!(look_at_account(&mut machine, shown, at(0)), []);
    let update = next_update(&mut machine, at(0));
    assert_eq!((update.account.id, update.account.phone.as_deref()), (1, None));
    // Read again, it is not disputed again.
    overtake(&mut machine, &update);
    let (written, _) = run_to_end(&mut machine, shown, shown);
    assert_eq!(written, [0, 1]);
    assert!(machine.into_stop().is_none());
}

#[test]
fn a_row_whose_item_cannot_be_read_is_not_written_if_the_list_showed_more() {
    // The list has moved, or the plan does not know the position. An earlier run may have been killed before it sent
    // the update, or may have been told to clear members.
    for (knows_position, was_sent) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut open = rows_with_phones(1);
        open[0].was_sent = was_sent;
        open[0].position = open[0].position.filter(|_| knows_position);
        let mut machine = Machine::new(open, None, SETTINGS);
        let mut records = look_at_account(&mut machine, account, at(0));
        if knows_position {
            let rows = next_page(&mut machine, at(0));
            records = machine.looked_at_page(rows, HashMap::new(), Ok(vec![Item::Account(account(99))]), at(0));
            assert_eq!(records, []);
            records = look_at_account(&mut machine, account, at(0));
        }
        let status = if was_sent { Status::Unknown } else { Status::Conflict };
        assert_eq!(statuses(&records), [(0, status)]);
        assert!(error_of(&records).contains("the list showed a value of phone when the plan was made"), "{records:?}");
    }
}

#[test]
fn a_value_that_the_file_has_from_before_an_attempt_is_not_cleared_if_only_the_list_shows_it_now() {
    let mut open = rows_with_phones(1);
    (open[0].was_sent, open[0].position) = (true, None);
    let mut machine = Machine::new(open, None, SETTINGS);
    let phone = Value::Text("1".to_owned());
    let unnamed = Change { is_planned: false, ..Change::new(Field::Phone, phone.clone(), phone) };
    let row = next_account(&mut machine, at(0));
    let changes = bergen().into_iter().chain([unnamed]).collect();
    let records = machine.looked_at_account(row, changes, Ok(account(1)), at(0));
    assert_eq!(statuses(&records), [(0, Status::Unknown)]);
}

#[test]
fn a_run_that_may_clear_members_reads_no_item_again() {
    let settings = Settings { on_unknown_member: OnUnknownMember::Clear, ..SETTINGS };
    let mut machine = Machine::new(rows_with_phones(1), None, settings);
    assert_eq!(look_at_account(&mut machine, account, at(0)), []);
    assert_eq!(next_update(&mut machine, at(0)).account.id, 1);
}

#[test]
fn one_update_is_in_flight_while_it_may_clear_a_member() {
    // The first account has another member than the others.
    let unknown = |id: i64| with(id, if id == 1 { "region" } else { "annualRevenue" }, "x");
    let mut machine = Machine::new(rows(4), Some(ItemsProof::Incomplete), SETTINGS);
    let mut updates = Vec::new();
    while updates.len() < 2 {
        match next_request(&mut machine, at(0)) {
            Request::Account { row } => {
                machine.looked_at_account(row, bergen(), Ok(unknown(row.account_id.unwrap())), at(0));
            }
            Request::Update(update) => {
                let mut kept = unknown(update.account.id);
                kept.city = Some("Bergen".into());
                updates.push(update.account.id);
                if updates.len() == 1 {
                    machine.wrote(*update, Ok(kept), at(0));
                } else {
                    while let Next::Request = machine.next(at(0)) {
                        let row = next_account(&mut machine, at(0));
                        machine.looked_at_account(row, bergen(), Ok(unknown(row.account_id.unwrap())), at(0));
                    }
                    assert_eq!(machine.next(at(0)), Next::Idle, "the others wait until the service has answered");
                    machine.wrote(*update, Ok(kept), at(0));
                }
            }
            Request::Page { .. } => panic!("pages were shown to be incomplete"),
        }
    }
    next_update(&mut machine, at(0));
    next_update(&mut machine, at(0));
}

/// Someone overtakes an update, and the run gets the turn.
fn overtake(machine: &mut Machine, update: &Update) {
    machine.overtaken();
    machine.claimed(update.row);
}

#[test]
fn a_run_says_that_it_waits_for_other_updates_of_an_account() {
    let mut machine = looked(1, SETTINGS);
    let update = next_update(&mut machine, at(0));
    assert!(!machine.waits_for_turns(), "it writes");
    machine.overtaken();
    assert_eq!((machine.next(at(0)), machine.waits_for_turns()), (Next::Idle, true));
    machine.claimed(update.row);
    assert_eq!((machine.next(at(0)), machine.waits_for_turns()), (Next::Request, false));
}

#[test]
fn other_rows_go_on_while_one_waits_for_its_turn() {
    let mut machine = Machine::new(rows(3), Some(ItemsProof::Incomplete), SETTINGS);
    let update = next_update_among_looks(&mut machine);
    machine.overtaken();
    let (written, _) = run_to_end(&mut machine, account, account);
    assert_eq!(written.len(), 2);
    assert_eq!(machine.next(at(0)), Next::Idle, "the run is not done");
    machine.claimed(update.row);
    let (written, _) = run_to_end(&mut machine, account, account);
    assert_eq!((written, machine.next(at(0))), (vec![update.row.row], Next::Done));
}

#[test]
fn an_item_without_a_member_is_never_written_from() {
    for missing in Field::ALL.iter().filter(|field| field.nullable()) {
        let mut machine = Machine::new(rows(2), Some(ItemsProof::Complete), SETTINGS);
        let records = look_at_page(&mut machine, |id| without(id, missing.wire()));
        assert_eq!(records, [Record::Items(ItemsProof::Incomplete)]);
        assert_eq!(next_account(&mut machine, at(0)).position, Some(0), "{missing:?}");
    }
}

#[test]
fn an_account_that_a_page_no_longer_shows_or_cannot_show_is_read_by_itself() {
    let mut machine = Machine::new(rows(3), Some(ItemsProof::Complete), SETTINGS);
    let rows = next_page(&mut machine, at(0));
    let shown = vec![
        Item::Account(account(1)),
        Item::Unreadable { id: Some(2), reason: "/city must be a string or null".into() },
    ];
    let planned = planned(&rows);
    assert_eq!(machine.looked_at_page(rows, planned, Ok(shown), at(0)), []);
    // The first account is compared with its item.
    let read: Vec<u64> = (0..3)
        .map(|_| match next_request(&mut machine, at(0)) {
            Request::Account { row } => {
                machine.looked_at_account(
                    row,
                    bergen(),
                    Err(status(404, Some("contactAccount.notFound"), None)),
                    at(0),
                );
                row.row
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(read, [0, 1, 2]);
}

#[test]
fn one_update_goes_out_until_the_service_has_taken_one() {
    let mut machine = looked(3, SETTINGS);
    let update = next_update_among_looks(&mut machine);
    while machine.next(at(0)) == Next::Request {
        match machine.start(at(0)).unwrap() {
            Request::Account { row } => {
                machine.looked_at_account(row, bergen(), Ok(account(row.account_id.unwrap())), at(0));
            }
            other => panic!("{other:?} next to the first update"),
        }
    }
    assert_eq!(machine.wrote(update, Ok(answered(1)), at(0)), [changed(0)]);
    next_update(&mut machine, at(0));
    next_update(&mut machine, at(0));
}

fn next_update_among_looks(machine: &mut Machine) -> Update {
    loop {
        match next_request(machine, at(0)) {
            Request::Update(update) => return *update,
            Request::Account { row } => {
                machine.looked_at_account(row, bergen(), Ok(account(row.account_id.unwrap())), at(0));
            }
            Request::Page { .. } => panic!("pages were shown to be incomplete"),
        }
    }
}

#[test]
fn the_pauses_of_a_row_grow_and_it_stays_unknown_when_an_answer_was_lost() {
    let mut machine = looked(1, SETTINGS);
    let (mut now, mut pauses) = (at(0), Vec::new());
    loop {
        let update = next_update(&mut machine, now);
        let records = machine.wrote(update, Err(lost_answer()), now);
        match machine.next(now) {
            Next::Wait(until, _) => {
                assert_eq!(records, []);
                pauses.push(until.saturating_sub(now).as_secs());
                now = until;
                look_at_account(&mut machine, answered, now);
            }
            next => {
                assert_eq!((next, records), (Next::Done, vec![]));
                assert_eq!(statuses(&machine.last_records()), [(0, Status::Unknown)]);
                break;
            }
        }
    }
    assert_eq!(pauses, [1, 3, 9]);
}

#[test]
fn an_outage_holds_everything_back_and_costs_no_row_an_attempt() {
    let settings = Settings { attempts: 2, ..SETTINGS };
    let mut machine = Machine::new(rows(8), Some(ItemsProof::Incomplete), settings);
    let (mut now, mut sent) = (at(0), 0);
    while now < at(3600) {
        match machine.next(now) {
            Next::Request => {
                let records = match machine.start(now).unwrap() {
                    Request::Account { row } => {
                        machine.looked_at_account(row, bergen(), Ok(account(row.account_id.unwrap())), now)
                    }
                    Request::Update(update) => {
                        sent += 1;
                        machine.wrote(*update, Err(status(503, None, None)), now)
                    }
                    Request::Page { .. } => panic!("pages were shown to be incomplete"),
                };
                assert_eq!(statuses(&records), [], "no row is given up in an outage");
            }
            Next::Wait(until, _) => now = until,
            other => panic!("{other:?}"),
        }
    }
    assert!(sent < 30, "{sent} updates in an hour of outage");
}

#[test]
fn a_service_that_is_out_of_reach_for_two_hours_ends_the_run_with_every_row_as_it_was() {
    let mut machine = Machine::new(rows(8), Some(ItemsProof::Complete), SETTINGS);
    let mut now = at(0);
    loop {
        match machine.next(now) {
            Next::Request => {
                let rows = next_page(&mut machine, now);
                assert_eq!(machine.looked_at_page(rows, HashMap::new(), Err(status(502, None, None)), now), []);
            }
            Next::Wait(until, _) => now = until,
            _ => break,
        }
    }
    assert!(now > at(7200) && now < at(7900), "{now:?}");
    assert_eq!(machine.last_records(), []);
    assert!(matches!(machine.into_stop(), Some(RunError::Call(_))));
}

#[test]
fn a_rate_limit_takes_the_mark_back_and_is_no_attempt() {
    for wait in [None, Some(at(0)), Some(at(30))] {
        let mut machine = looked(1, Settings { attempts: 1, ..SETTINGS });
        let mut now = at(0);
        for _ in 0..8 {
            let update = next_update(&mut machine, now);
            let records = machine.wrote(update, Err(status(429, None, wait)), now);
            assert_eq!(records, [Record::NotSent { row: 0, before: Vec::new() }]);
            if let Next::Wait(until, _) = machine.next(now) {
                now = until;
            }
            look_at_account(&mut machine, account, now);
        }
        let paused = now > at(60);
        assert_eq!(paused, wait != Some(at(30)), "the client holds back what the service asks for, and nothing else");
        let update = next_update(&mut machine, now);
        assert_eq!(machine.wrote(update, Ok(answered(1)), now), [changed(0)]);
    }
}

#[test]
fn a_wait_of_more_than_two_hours_ends_the_run() {
    let mut machine = looked(1, SETTINGS);
    let update = next_update(&mut machine, at(0));
    machine.wrote(update, Err(status(429, None, Some(at(7201)))), at(0));
    assert_eq!(machine.next(at(0)), Next::Done);
    assert!(matches!(machine.into_stop(), Some(RunError::Call(_))));
}

#[test]
fn a_403_without_a_code_is_the_rows_own_once_the_key_is_known_to_work() {
    for (answers, expected, stops) in [
        (vec![Some(403), None], vec![(0, Status::Unknown), (1, Status::Changed)], false),
        (vec![Some(403), Some(403), Some(403)], vec![], true),
        (vec![Some(403)], vec![(0, Status::Unknown)], false),
    ] {
        let mut machine = Machine::new(rows(answers.len() as u64), Some(ItemsProof::Incomplete), SETTINGS);
        let (_, mut records) = run_in_order(
            &mut machine,
            |id, _| account(id),
            |machine, update, _, now| {
                let id = update.account.id;
                let answer = answers[usize::try_from(id).unwrap() - 1];
                let answer = answer.map_or_else(|| Ok(answered(id)), |code| Err(status(code, None, None)));
                machine.wrote(update, answer, now)
            },
        );
        records.extend(machine.last_records());
        let mut found = statuses(&records);
        found.sort_unstable();
        assert_eq!((found, machine.into_stop().is_some()), (expected, stops), "{answers:?}");
    }
}

#[test]
fn an_update_whose_answer_a_proxy_replaced_is_sent_again_and_never_counts_as_unsent() {
    let redirect = || {
        call_failed(Failure::Unexpected(Unexpected { status: Some(302), reason: "elsewhere".into(), excerpt: None }))
    };
    for answer in [redirect, || status(403, None, None), || status(404, None, None), || status(400, None, None)] {
        for keeps_answering in [false, true] {
            let mut machine = Machine::new(rows(2), Some(ItemsProof::Incomplete), SETTINGS);
            let (written, mut records) = run_in_order(
                &mut machine,
                // The service has applied the update, and kept the stage.
                |id, written| if written.contains(&id) { with_stage_of(id, answered(id)) } else { staged(id) },
                |machine, update, before, now| {
                    let id = update.account.id;
                    let is_replaced = id == 1 && (keeps_answering || before.is_empty());
                    machine.wrote(
                        update,
                        if is_replaced { Err(answer()) } else { Ok(with_stage_of(id, answered(id))) },
                        now,
                    )
                },
            );
            records.extend(machine.last_records());
            assert!(machine.into_stop().is_none());
            assert_eq!(written, [1, 1, 2]);
            assert!(!records.iter().any(|record| matches!(record, Record::NotSent { .. })), "{records:?}");
            let first = if keeps_answering { Status::Unknown } else { Status::Changed };
            let mut found = statuses(&records);
            found.sort_unstable();
            assert_eq!(found, [(0, first), (1, Status::Changed)]);
        }
    }
}

#[test]
fn an_answer_that_the_contract_does_not_have_ends_the_run_when_several_rows_get_it() {
    let mut machine = Machine::new(rows(5), Some(ItemsProof::Incomplete), SETTINGS);
    for _ in 0..3 {
        let row = next_account(&mut machine, at(0));
        assert_eq!(machine.looked_at_account(row, bergen(), Err(login_page()), at(0)), []);
    }
    assert_eq!((machine.next(at(0)), machine.last_records()), (Next::Done, vec![]));
    assert!(matches!(machine.into_stop(), Some(RunError::Call(_))));
}

#[test]
fn a_page_that_the_contract_does_not_have_ends_the_run_at_once() {
    let mut machine = Machine::new(rows(9), None, SETTINGS);
    let rows = next_page(&mut machine, at(0));
    assert_eq!(machine.looked_at_page(rows, HashMap::new(), Err(login_page()), at(0)), []);
    assert!(matches!(machine.into_stop(), Some(RunError::Call(_))));
}

#[test]
fn only_the_services_own_404_ends_a_row() {
    for (code, expected) in [(Some("contactAccount.notFound"), vec![(0, Status::NotFound)]), (None, vec![])] {
        let mut machine = Machine::new(rows(2), Some(ItemsProof::Incomplete), SETTINGS);
        let row = next_account(&mut machine, at(0));
        let records = machine.looked_at_account(row, bergen(), Err(status(404, code, None)), at(0));
        assert_eq!(statuses(&records), expected);
    }
}

#[test]
fn a_row_that_may_have_been_sent_is_sent_again_even_when_it_looks_done() {
    let mut rows = rows(1);
    rows[0].was_sent = true;
    let mut machine = Machine::new(rows, Some(ItemsProof::Incomplete), SETTINGS);
    assert_eq!(look_at_account(&mut machine, answered, at(0)), []);
    let update = next_update(&mut machine, at(0));
    assert_eq!(update.attempt.overwritten, [], "what we wrote ourselves is not what revert restores");
    assert_eq!(machine.wrote(update, Ok(answered(1)), at(0)), [changed(0)]);
}

#[test]
fn a_text_that_the_list_truncates_after_the_plan_wrote_it_is_no_conflict_of_a_revert() {
    let written = "a text that the list does not show completely";
    let shown = |text: &'static str| move |id| with(id, "city", text);
    let changes = || vec![Change::new(Field::City, Value::Text(written.into()), Value::Text("Oslo".into()))];
    for beginning in ["a text that the list does not", "a text that the list...", "a text that the list \u{2026}"] {
        let settings = Settings { is_revert: true, ..SETTINGS };
        let mut machine = Machine::new(rows(16), Some(ItemsProof::Complete), settings);
        let rows = next_page(&mut machine, at(0));
        let planned = rows.iter().map(|row| (row.row, changes())).collect();
        assert_eq!(machine.looked_at_page(rows.clone(), planned, Ok(items(&rows, shown(beginning))), at(0)), []);
        let mut restored = 0;
        while machine.next(at(0)) == Next::Request {
            match machine.start(at(0)).unwrap() {
                Request::Account { row } => {
                    let whole = shown(written)(row.account_id.unwrap());
                    assert_eq!(machine.looked_at_account(row, changes(), Ok(whole), at(0)), []);
                }
                Request::Update(update) => {
                    assert_eq!(update.fields.city.value().map(String::as_str), Some("Oslo"));
                    restored += 1;
                    wrote_as_sent(&mut machine, *update, account(1), at(0));
                }
                Request::Page { .. } => panic!("every row is on the first page"),
            }
        }
        assert_eq!(restored, 16, "{beginning}");
    }
    // Another text is a conflict without further requests.
    let mut machine = Machine::new(rows(16), Some(ItemsProof::Complete), Settings { is_revert: true, ..SETTINGS });
    let rows = next_page(&mut machine, at(0));
    let planned = rows.iter().map(|row| (row.row, changes())).collect();
    let records = machine.looked_at_page(rows.clone(), planned, Ok(items(&rows, shown("Molde"))), at(0));
    assert_eq!(statuses(&records), (0..16).map(|row| (row, Status::Conflict)).collect::<Vec<_>>());
}

#[test]
fn a_text_whose_beginning_was_planned_is_restored_by_a_revert_even_if_the_row_may_have_been_sent() {
    let described = |id: i64, length: usize| ContactAccount { description: Some("x".repeat(length)), ..account(id) };
    let change = |before: usize| {
        vec![Change::new(Field::Description, Value::Text("x".repeat(before)), Value::Text("short".to_owned()))]
    };
    let text = |length: usize| (Field::Description, Value::Text("x".repeat(length)));
    for (before, now, overwritten) in [(255, 900, vec![text(900)]), (900, 900, Vec::new())] {
        let mut open = rows(1);
        open[0].was_sent = true;
        let mut machine = Machine::new(open, None, SETTINGS);
        for id in [8, 9] {
            machine.proofs.compare(&described(id, 255), &described(id, 3000));
        }
        let row = next_account(&mut machine, at(0));
        assert_eq!(machine.looked_at_account(row, change(before), Ok(described(1, now)), at(0)), []);
        assert_eq!(next_update(&mut machine, at(0)).attempt.overwritten, overwritten);
    }
}

#[test]
fn a_whole_text_that_an_update_overwrites_is_stored_although_the_row_may_have_been_sent() {
    let whole = "a text that is long enough to be cut by a list";
    for (before, after, expected) in [
        ("a text that is long enough to be cut", "Bergen", Some(whole)),
        ("a text that is long enough to be cut...", "Bergen", Some(whole)),
        // The service may store the text of the plan in another form.
        ("a text that is long enough to be cut", "a text that is long enough to be cut BY A LIST", None),
        ("Oslo", "Bergen", None),
    ] {
        let settings = Settings { on_conflict: OnConflict::Overwrite, ..SETTINGS };
        let rows = rows(1).into_iter().map(|row| OpenRow { was_sent: true, is_pending: false, ..row }).collect();
        let mut machine = Machine::new(rows, Some(ItemsProof::Incomplete), settings);
        let row = next_account(&mut machine, at(0));
        let changes = vec![Change::new(Field::City, Value::Text(before.into()), Value::Text(after.into()))];
        assert_eq!(machine.looked_at_account(row, changes, Ok(with(1, "city", whole)), at(0)), []);
        let update = next_update(&mut machine, at(0));
        let expected = expected.map(|text| (Field::City, Value::Text(text.into())));
        assert_eq!(update.attempt.overwritten, expected.into_iter().collect::<Vec<_>>(), "{before} {after}");
    }
}

#[test]
fn texts_that_the_list_cuts_are_no_conflicts_and_a_revert_restores_all_of_them() {
    let whole = |id: i64| with(id, "description", &format!("{}{id}", "x".repeat(300)));
    let cut = |id: i64| with(id, "description", &"x".repeat(255));
    let changes =
        || vec![Change::new(Field::Description, Value::Text("x".repeat(255)), Value::Text("short".to_owned()))];
    // The text of one account only begins like that: someone has changed it.
    let now = |id: i64| if id == 5 { with(id, "description", "another text") } else { whole(id) };
    let mut machine = Machine::new(rows(20), None, SETTINGS);
    let (mut written, mut records, mut gets) = (Vec::new(), Vec::new(), 0);
    while machine.next(at(0)) == Next::Request {
        records.extend(match machine.start(at(0)).unwrap() {
            Request::Page { rows, .. } => {
                let planned = rows.iter().map(|row| (row.row, changes())).collect();
                let items = items(&rows, cut);
                machine.looked_at_page(rows, planned, Ok(items), at(0))
            }
            Request::Account { row } => {
                gets += 1;
                machine.looked_at_account(row, changes(), Ok(now(row.account_id.unwrap())), at(0))
            }
            Request::Update(update) => {
                let id = update.account.id;
                assert_eq!(
                    update.attempt.overwritten,
                    [(Field::Description, whole(id).value(Field::Description).into())]
                );
                written.push(id);
                wrote_as_sent(&mut machine, *update, account(id), at(0))
            }
        });
    }
    written.sort_unstable();
    assert_eq!(written, (1..=20).filter(|id| *id != 5).collect::<Vec<_>>());
    assert!(statuses(&records).contains(&(4, Status::Conflict)), "{records:?}");
    assert!((20..=22).contains(&gets), "a row waits once for a second account: {gets}");
}

#[test]
fn a_text_that_the_plan_knows_whole_is_never_the_beginning_of_another() {
    let change = || vec![Change::new(Field::Description, Value::Text("x".repeat(255)), Value::Text("old".to_owned()))];
    let described = |id: i64, length: usize| with(id, "description", &"x".repeat(length));
    for (is_revert, is_from_page, is_cut) in [(false, true, true), (true, true, false), (false, false, false)] {
        let mut open = rows(1);
        open[0].position = open[0].position.filter(|_| is_from_page);
        let mut machine = Machine::new(open, None, Settings { is_revert, ..SETTINGS });
        for id in [8, 9] {
            machine.proofs.compare(&described(id, 255), &described(id, 900));
        }
        let row = next_account(&mut machine, at(0));
        let records = machine.looked_at_account(row, change(), Ok(described(1, 300)), at(0));
        let expected = if is_cut { vec![] } else { vec![(0, Status::Conflict)] };
        assert_eq!(statuses(&records), expected, "{is_revert}");
    }
}

#[test]
fn until_an_update_is_accepted_the_row_without_an_answer_is_sent_again_first() {
    let lost = || status(504, None, None);
    let mut machine = Machine::new(rows(4), Some(ItemsProof::Incomplete), SETTINGS);
    for _ in 0..4 {
        look_at_account(&mut machine, account, at(0));
    }
    let first = next_update(&mut machine, at(0));
    assert_eq!(first.row.row, 0);
    assert_eq!(machine.wrote(first, Err(lost()), at(0)), []);
    let Next::Wait(until, _) = machine.next(at(0)) else { panic!("another update is sent") };
    look_at_account(&mut machine, account, until);
    let again = next_update(&mut machine, until);
    assert_eq!(again.row.row, 0);
    wrote_as_sent(&mut machine, again, account(1), until);
    assert_eq!(next_update(&mut machine, until).row.row, 1);
    assert_eq!(next_update(&mut machine, until).row.row, 2);
}

#[test]
fn a_row_without_an_answer_is_read_before_the_proofs_of_a_page_that_was_in_flight() {
    let mut open = rows(20);
    open[0].was_sent = true;
    let mut machine = Machine::new(open, None, Settings { concurrency: 1, ..SETTINGS });
    look_at_account(&mut machine, account, at(0));
    let update = next_update(&mut machine, at(0));
    let page = next_page(&mut machine, at(0));
    assert_eq!(machine.wrote(update, Err(lost_answer()), at(0)), []);
    assert_eq!(machine.next(at(1)), Next::Idle, "the page is in flight");
    let shown = items_of(&page);
    assert_eq!(machine.looked_at_page(page.clone(), planned(&page), Ok(shown), at(1)), []);
    let first = next_account(&mut machine, at(1));
    assert_eq!(first.row, 0);
    assert_eq!(machine.looked_at_account(first, bergen(), Ok(account(1)), at(1)), []);
    let proof = next_account(&mut machine, at(1));
    // All rows of the page are read again.
    machine.looked_at_account(proof, bergen(), Err(status(404, Some("contactAccount.notFound"), None)), at(1));
    let (written, _) = run_to_end(&mut machine, account, account);
    assert_eq!(written, (0..20).filter(|row| *row != proof.row).collect::<Vec<_>>());
}

#[test]
fn a_run_whose_looks_became_too_old_reads_the_row_without_an_answer_before_the_others() {
    for rows_count in [2, 3, 12] {
        for is_from_pages in [false, true] {
            let items = if is_from_pages { ItemsProof::Complete } else { ItemsProof::Incomplete };
            let settings = Settings { concurrency: 1, ..SETTINGS };
            let mut machine = Machine::new(rows(rows_count), Some(items), settings);
            let (mut now, mut sent, mut has_waited) = (at(0), Vec::new(), false);
            loop {
                match machine.next(now) {
                    Next::Request => {}
                    Next::Wait(until, _) => {
                        now = until;
                        continue;
                    }
                    Next::Idle | Next::Done => break,
                }
                match machine.start(now) {
                    Some(Request::Page { rows, .. }) => {
                        machine.looked_at_page(rows.clone(), planned(&rows), Ok(items_of(&rows)), now);
                    }
                    Some(Request::Account { row }) => {
                        machine.looked_at_account(row, bergen(), Ok(account(row.account_id.unwrap())), now);
                        // The next slot of the quota comes late.
                        let is_last = sent == [row.row] && !std::mem::replace(&mut has_waited, true);
                        now += if is_last { at(3_600) } else { at(0) };
                    }
                    Some(Request::Update(update)) => {
                        sent.push(update.row.row);
                        if sent.len() == 1 {
                            machine.wrote(*update, Err(status(503, None, None)), now);
                        } else {
                            wrote_as_sent(&mut machine, *update, account(1), now);
                        }
                    }
                    None => {}
                }
            }
            assert_eq!(sent.first(), sent.get(1), "{sent:?}");
            assert_eq!(sent.len() as u64, rows_count + 1, "{sent:?}");
            assert!(machine.into_stop().is_none());
        }
    }
}

#[test]
fn a_row_that_may_have_been_sent_stays_unknown_until_an_answer_tells() {
    let refused = |code| status(code, Some("contactAccount.invalidInput"), None);
    let mut rows = rows(1);
    rows[0].was_sent = true;
    let mut machine = Machine::new(rows.clone(), Some(ItemsProof::Incomplete), SETTINGS);
    look_at_account(&mut machine, account, at(0));
    let update = next_update(&mut machine, at(0));
    let records = machine.wrote(update, Err(refused(400)), at(0));
    assert_eq!(statuses(&records), [(0, Status::Unknown)]);

    let mut machine = Machine::new(rows, Some(ItemsProof::Incomplete), SETTINGS);
    let records = look_at_account(&mut machine, |id| with(id, "city", "BERGEN"), at(0));
    assert_eq!(statuses(&records), [(0, Status::Unknown)]);
    assert!(error_of(&records).contains("value of city is neither"), "{}", error_of(&records));
}

#[test]
fn a_row_that_may_have_been_sent_is_never_not_found() {
    let gone = || status(404, Some("contactAccount.notFound"), None);
    for (was_sent, expected) in [(true, Status::Unknown), (false, Status::NotFound)] {
        let mut rows = rows(1);
        rows[0].was_sent = was_sent;
        let mut machine = Machine::new(rows, Some(ItemsProof::Incomplete), SETTINGS);
        let row = next_account(&mut machine, at(0));
        let records = machine.looked_at_account(row, bergen(), Err(gone()), at(0));
        assert_eq!(statuses(&records), [(0, expected)]);
    }
}

#[test]
fn fill_overwrites_no_value_even_when_conflicts_are_overwritten() {
    let to_fill = || vec![Change::new(Field::Phone, Value::Null, Value::Text("+47 1".into()))];
    let settings = Settings { on_conflict: OnConflict::Overwrite, fills: true, ..SETTINGS };
    for (was_sent, expected) in [(false, Status::Conflict), (true, Status::Unknown)] {
        let mut rows = rows(1);
        rows[0].was_sent = was_sent;
        let mut machine = Machine::new(rows, Some(ItemsProof::Incomplete), settings);
        let row = next_account(&mut machine, at(0));
        let records = machine.looked_at_account(row, to_fill(), Ok(with(1, "phone", "+47 2")), at(0));
        assert_eq!(statuses(&records), [(0, expected)]);
        assert!(error_of(&records).contains("mode \"fill\" does not overwrite"), "{}", error_of(&records));
    }
    let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), settings);
    let row = next_account(&mut machine, at(0));
    assert_eq!(machine.looked_at_account(row, to_fill(), Ok(with(1, "phone", "")), at(0)), []);
    next_update(&mut machine, at(0));
}

#[test]
fn a_look_is_as_old_as_its_request() {
    let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), SETTINGS);
    let row = next_account(&mut machine, at(0));
    machine.looked_at_account(row, bergen(), Ok(account(1)), at(100));
    assert_eq!(next_account(&mut machine, at(121)).row, 0, "the answer was late");
}

#[test]
fn a_run_whose_every_look_becomes_too_old_ends_and_says_why() {
    let mut machine = Machine::new(rows(2), Some(ItemsProof::Incomplete), SETTINGS);
    let mut now = at(0);
    let mut looks = 0;
    while machine.next(now) == Next::Request {
        let Some(request) = machine.start(now) else { break };
        let Request::Account { row } = request else { panic!("{request:?}") };
        looks += 1;
        let id = row.account_id.unwrap();
        machine.looked_at_account(row, bergen(), Ok(account(id)), now);
        now += Duration::from_secs(130);
    }
    assert!((6..20).contains(&looks), "{looks}");
    assert!(matches!(machine.into_stop(), Some(RunError::TooSlow)));
    // An update in between shows that the quota is not too small.
    let mut machine = Machine::new(rows(40), Some(ItemsProof::Incomplete), SETTINGS);
    let (mut now, mut written) = (at(0), 0);
    while machine.next(now) == Next::Request {
        match machine.start(now).unwrap() {
            Request::Account { row } => {
                let id = row.account_id.unwrap();
                machine.looked_at_account(row, bergen(), Ok(account(id)), now);
            }
            Request::Update(update) => {
                let id = update.account.id;
                written += 1;
                wrote_as_sent(&mut machine, *update, answered(id), now);
                now += Duration::from_secs(130);
            }
            Request::Page { .. } => panic!("pages were shown to be incomplete"),
        }
    }
    assert!(machine.into_stop().is_none() && written == 40);
}

#[test]
fn what_was_read_before_the_machine_slept_is_read_again() {
    let mut machine = looked(2, SETTINGS);
    machine.slept();
    let read = next_account(&mut machine, at(0)).row;
    machine.slept();
    let row = OpenRow { row: read, ..rows(2)[usize::try_from(read).unwrap()] };
    assert_eq!(machine.looked_at_account(row, bergen(), Ok(account(row.account_id.unwrap())), at(0)), []);
    let (written, gets) = run_to_end(&mut machine, account, account);
    assert_eq!((written, gets), ([0, 1].into(), 2), "the answer to a read that was sent before may be old");
}

#[test]
fn a_run_that_slept_is_as_patient_as_before() {
    // The service could not be reached when the machine fell asleep, and cannot for a moment after that.
    let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), SETTINGS);
    let row = next_account(&mut machine, at(0));
    machine.looked_at_account(row, bergen(), Err(status(503, None, None)), at(0));
    machine.slept();
    let row = next_account(&mut machine, at(2));
    assert_eq!(machine.looked_at_account(row, bergen(), Err(status(503, None, None)), at(2)), []);
    let row = next_account(&mut machine, at(60));
    assert_eq!(machine.looked_at_account(row, bergen(), Ok(account(1)), at(60)), []);
    next_update(&mut machine, at(60));
}

#[test]
fn few_accounts_are_read_by_themselves_although_all_have_texts_of_one_length() {
    let alike = |id: i64| with(id, "logoUrl", &format!("https://logo.example/{id:032}"));
    let mut machine = Machine::new(rows(40), None, SETTINGS);
    look_at_page(&mut machine, alike);
    let (written, gets) = run_to_end(&mut machine, alike, alike);
    assert_eq!((written, gets), ((0..40).collect(), 9), "eight, and a spot check");
}

#[test]
fn the_estimate_is_right_when_pages_turn_out_to_be_useless() {
    let mut machine = Machine::new(rows(16), None, SETTINGS);
    look_at_page(&mut machine, |id| without(id, "phone"));
    assert_eq!(machine.requests_left(), 32);
    let mut machine = Machine::new(rows(16), None, SETTINGS);
    look_at_page(&mut machine, account);
    look_at_account(&mut machine, |id| with(id, "phone", "+47 1"), at(0));
    assert_eq!(machine.requests_left(), 31);
    let (written, gets) = run_to_end(&mut machine, account, |id| with(id, "phone", "+47 1"));
    assert_eq!((written, gets, machine.requests_left()), ((0..16).collect(), 15, 0));
}

#[test]
fn what_a_colleague_wrote_is_a_conflict_and_overwriting_it_keeps_it_for_revert() {
    let colleague = |id| with(id, "city", "Stavanger");
    let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), SETTINGS);
    let records = look_at_account(&mut machine, colleague, at(0));
    assert_eq!(statuses(&records), [(0, Status::Conflict)]);

    let settings = Settings { on_conflict: OnConflict::Overwrite, ..SETTINGS };
    let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), settings);
    assert_eq!(look_at_account(&mut machine, colleague, at(0)), []);
    let update = next_update(&mut machine, at(0));
    assert_eq!(update.attempt.overwritten, [(Field::City, Value::Text("Stavanger".into()))]);
}

#[test]
fn a_field_that_is_not_named_keeps_its_newest_value() {
    let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), SETTINGS);
    look_at_account(&mut machine, |id| with(id, "phone", "+47 22 33"), at(0));
    let update = next_update(&mut machine, at(0));
    assert_eq!(update.fields.phone.value().map(String::as_str), Some("+47 22 33"));
    assert_eq!(update.fields.city.value().map(String::as_str), Some("Bergen"));
}

#[test]
fn what_the_service_stored_otherwise_is_kept_and_said() {
    let mut machine = looked(1, SETTINGS);
    let update = next_update(&mut machine, at(0));
    let records = machine.wrote(update, Ok(with(1, "city", "BERGEN")), at(0));
    let Some(Record::Finish { finished, .. }) = records.first() else { panic!("{records:?}") };
    assert!(finished.stored_otherwise && finished.status == Status::Changed);
    assert_eq!(finished.answered, [(Field::City, Value::Text("BERGEN".into()))]);
    assert!(error_of(&records).contains("differs from what was sent in city"), "{}", error_of(&records));
}

#[test]
fn a_member_that_the_update_cleared_stops_the_run_unless_it_may() {
    for (on_unknown_member, goes_on) in [(OnUnknownMember::Stop, false), (OnUnknownMember::Clear, true)] {
        let settings = Settings { on_unknown_member, ..SETTINGS };
        let mut machine = Machine::new(rows(2), Some(ItemsProof::Incomplete), settings);
        look_at_account(&mut machine, |id| with(id, "annualRevenue", "12 million"), at(0));
        let update = next_update_among_looks(&mut machine);
        let records = machine.wrote(update, Ok(answered(1)), at(0));
        assert_eq!(statuses(&records), [(0, Status::Changed)]);
        assert!(error_of(&records).contains("annualRevenue"));
        assert_eq!(machine.next(at(0)) != Next::Done, goes_on);
        let stop = machine.into_stop();
        assert_eq!(stop.is_none(), goes_on);
        assert!(goes_on || matches!(stop, Some(RunError::ClearedMembers { row: 0, id: 1, is_written: true, .. })));
    }
}

#[test]
fn an_update_that_clears_the_stage_stops_the_run_and_one_that_keeps_it_is_shown_once() {
    let mut machine = Machine::new(rows(2), Some(ItemsProof::Incomplete), SETTINGS);
    look_at_account(&mut machine, staged, at(0));
    let update = next_update_among_looks(&mut machine);
    let records = machine.wrote(update, Ok(answered(1)), at(0));
    assert!(error_of(&records).contains("cleared stage"), "{}", error_of(&records));
    let kinds = [matches!(records[0], Record::Cleared(_)), matches!(records[1], Record::Finish { .. })];
    assert_eq!(
        kinds,
        [true, true],
        "a later run knows what is cleared before it knows that the row is done: {records:?}"
    );
    assert_eq!(records[0], Record::Cleared(vec!["stage".to_owned()]));
    assert!(matches!(machine.into_stop(), Some(RunError::ClearedMembers { row: 0, is_written: true, .. })));

    let mut machine = Machine::new(rows(3), Some(ItemsProof::Incomplete), SETTINGS);
    let (written, _) =
        run_to_end_as(&mut machine, staged, staged, |id| ContactAccount { stage: staged(id).stage, ..answered(id) });
    assert_eq!(written, [0, 1, 2]);
    assert!(machine.into_stop().is_none());
}

fn staged(id: i64) -> ContactAccount {
    in_stage(id, 3, "Lead")
}

fn with_stage_of(id: i64, other: ContactAccount) -> ContactAccount {
    ContactAccount { stage: staged(id).stage, ..other }
}

fn in_stage(id: i64, stage: i64, name: &str) -> ContactAccount {
    let mut members = serde_json::to_value(account(id)).unwrap();
    members["stage"] = serde_json::json!({"id": stage, "name": name});
    serde_json::from_value(members).unwrap()
}

/// What is at risk in such an account.
fn stage() -> file::Members {
    file::Members::from([("stage".to_owned(), serde_json::json!({"id": 3, "name": "Lead"}))])
}

#[test]
fn a_later_run_stops_before_it_writes_an_account_with_a_member_that_an_earlier_one_cleared() {
    let valued = |id: i64| if id == 2 { with(id, "annualRevenue", "12 million") } else { account(id) };
    for items in [Some(ItemsProof::Complete), Some(ItemsProof::Incomplete), None] {
        let mut machine = Machine::new(rows(16), items, SETTINGS).sparing_one(cleared(&["annualRevenue"]), None);
        let (written, _) = run_to_end(&mut machine, valued, valued);
        assert!(!written.contains(&1), "{written:?}");
        assert!(matches!(machine.into_stop(), Some(RunError::ClearedMembers { row: 1, id: 2, is_written: false, .. })));
    }
    let settings = Settings { on_unknown_member: OnUnknownMember::Clear, ..SETTINGS };
    let mut machine = Machine::new(rows(16), None, settings).sparing_one(cleared(&["annualRevenue"]), None);
    let (written, _) = run_to_end(&mut machine, valued, valued);
    assert_eq!(written, (0..16).collect::<Vec<_>>());
}

#[test]
fn a_member_that_only_get_shows_is_seen_to_be_kept_before_anything_is_written_from_a_page() {
    for (count, are_alike) in [(16, false), (40, false), (16, true)] {
        let whole = |id: i64| with(id, "annualRevenue", &format!("{} million", if are_alike { 12 } else { id }));
        let mut machine = Machine::new(rows(count), None, SETTINGS);
        let (written, gets) = run_to_end_as(&mut machine, account, whole, |id| {
            let answer = whole(id);
            ContactAccount { city: Some("Bergen".into()), ..answer }
        });
        // An update that resets the member keeps one value, too: the default. So each account is read.
        let compared = if are_alike { count } else { 8 + count / 32 };
        assert_eq!((written, gets), ((0..count).collect(), compared), "those that were compared have shown it");

        let mut machine = Machine::new(rows(count), None, SETTINGS);
        let (written, _) = run_to_end(&mut machine, account, whole);
        assert_eq!(written.len(), 1, "the first update shows that it is cleared");
        assert!(matches!(machine.into_stop(), Some(RunError::ClearedMembers { is_written: true, .. })));
    }
}

#[test]
fn a_member_that_items_do_not_have_at_all_is_never_cleared_in_a_second_account() {
    // None of the accounts that are compared at first has a value in it.
    for member in ["stage", "segment"] {
        let whole = |id: i64| {
            let mut members = serde_json::to_value(account(id)).unwrap();
            members[member] =
                if id % 7 == 5 { serde_json::json!({"id": 3, "name": "Lead"}) } else { serde_json::Value::Null };
            serde_json::from_value(members).unwrap()
        };
        for open in [rows(60), rows(40).split_off(12)] {
            let mut machine = Machine::new(open, None, SETTINGS);
            let (written, _) = run_to_end_as(&mut machine, |id| without(id, member), whole, answered);
            let cleared: Vec<&u64> = written.iter().filter(|row| (*row + 1) % 7 == 5).collect();
            assert_eq!(cleared.len(), 1, "{member}: {written:?}");
            assert!(matches!(machine.into_stop(), Some(RunError::ClearedMembers { is_written: true, .. })));
        }
        let mut machine = Machine::new(rows(60), None, SETTINGS);
        let kept = |id: i64| ContactAccount { city: Some("Bergen".into()), ..whole(id) };
        assert_eq!(run_to_end_as(&mut machine, |id| without(id, member), whole, kept).0.len(), 60, "{member}");
    }
}

#[test]
fn what_the_compared_accounts_do_not_show_of_the_list_is_not_kept_for_a_later_run() {
    let mut machine = Machine::new(rows(16), None, SETTINGS);
    let mut records = Vec::new();
    while machine.next(at(0)) == Next::Request {
        records.extend(match machine.start(at(0)).unwrap() {
            Request::Page { rows, .. } => {
                let (planned, items) = (planned(&rows), items(&rows, |id| without(id, "stage")));
                machine.looked_at_page(rows, planned, Ok(items), at(0))
            }
            Request::Account { row } => {
                machine.looked_at_account(row, bergen(), Ok(account(row.account_id.unwrap())), at(0))
            }
            Request::Update(update) => {
                let id = update.account.id;
                wrote_as_sent(&mut machine, *update, answered(id), at(0))
            }
        });
    }
    assert!(records.iter().all(|record| matches!(record, Record::Finish { .. })), "{records:?}");
}

#[test]
fn a_field_that_the_list_leaves_empty_is_found_before_many_accounts_are_written() {
    let hidden = |id: i64| id % 8 == 3;
    let whole = |id: i64| if hidden(id) { with(id, "phone", "+47 22") } else { account(id) };
    let mut machine = Machine::new(rows(640), None, SETTINGS);
    let (mut cleared, mut written) = (0, 0);
    while machine.next(at(0)) == Next::Request {
        match machine.start(at(0)).unwrap() {
            Request::Page { rows, .. } => {
                let (planned, items) = (planned(&rows), items(&rows, account));
                machine.looked_at_page(rows, planned, Ok(items), at(0));
            }
            Request::Account { row } => {
                machine.looked_at_account(row, bergen(), Ok(whole(row.account_id.unwrap())), at(0));
            }
            Request::Update(update) => {
                let id = update.account.id;
                cleared += i32::from(update.fields.phone.value().is_none() && hidden(id));
                written += 1;
                wrote_as_sent(&mut machine, *update, answered(id), at(0));
            }
        }
    }
    assert_eq!(written, 640);
    assert!(cleared <= 8, "{cleared} of 80");
}

/// Rows on pages of 26, as a table that names few of the accounts. Returns how many accounts lost a field that the list
/// leaves empty and that the accounts from `first` on have.
fn lost_on_sparse_pages(first: i64, items: Option<ItemsProof>, on_first_page: u64) -> u64 {
    let place = |row: u64| if row < on_first_page { row } else { 1_000 + (row - on_first_page) * 38 };
    let sparse = |row: OpenRow| OpenRow { position: Some(place(row.row)), weight: 200 - row.row, ..row };
    let whole = |id: i64| if id >= first { with(id, "phone", "+47 22") } else { account(id) };
    let mut machine = Machine::new(rows(200).into_iter().map(sparse).collect(), items, SETTINGS);
    let mut lost = 0;
    while machine.next(at(0)) == Next::Request {
        match machine.start(at(0)).unwrap() {
            Request::Page { rows, .. } => {
                let shown = self::items(&rows, account);
                machine.looked_at_page(rows.clone(), planned(&rows), Ok(shown), at(0));
            }
            Request::Account { row } => {
                machine.looked_at_account(row, bergen(), Ok(whole(row.account_id.unwrap())), at(0));
            }
            Request::Update(update) => {
                let id = update.account.id;
                lost += u64::from(update.fields.phone.value().is_none() && id >= first);
                wrote_as_sent(&mut machine, *update, answered(id), at(0));
            }
        }
    }
    lost
}

#[test]
fn each_page_is_compared_however_few_of_its_accounts_are_written() {
    for (first, items, on_first_page) in [(27, None, 26), (1, Some(ItemsProof::Complete), 26), (2, None, 1)] {
        assert_eq!(lost_on_sparse_pages(first, items, on_first_page), 0, "{first}");
    }
}

#[test]
fn a_later_run_reads_each_account_by_itself_where_the_list_may_hide_the_member_that_was_cleared() {
    let whole = |id: i64| if id == 7 { with(id, "annualRevenue", "12 million") } else { account(id) };
    for items in [Some(ItemsProof::Complete), None] {
        let mut machine = Machine::new(rows(16), items, SETTINGS).sparing_one(cleared(&["annualRevenue"]), None);
        let (written, _) = run_to_end(&mut machine, account, whole);
        assert!(!written.contains(&6), "{written:?}");
        assert!(matches!(machine.into_stop(), Some(RunError::ClearedMembers { row: 6, is_written: false, .. })));
    }
}

#[test]
fn where_none_that_was_compared_can_show_what_updates_do_the_next_accounts_are_read_by_themselves() {
    // The first of the compared accounts has the member, and the service refuses its update.
    let whole = |id: i64| if [1, 15].contains(&id) { with(id, "annualRevenue", "12 million") } else { account(id) };
    let mut machine = Machine::new(rows(16), None, SETTINGS);
    let (mut compared, mut later, mut written) = (Vec::new(), Vec::new(), Vec::new());
    while machine.next(at(0)) == Next::Request {
        match machine.start(at(0)).unwrap() {
            Request::Page { rows, .. } => {
                let (planned, items) = (planned(&rows), items(&rows, account));
                machine.looked_at_page(rows, planned, Ok(items), at(0));
            }
            Request::Account { row } => {
                let looks = if written.is_empty() { &mut compared } else { &mut later };
                looks.push(row.row);
                machine.looked_at_account(row, bergen(), Ok(whole(row.account_id.unwrap())), at(0));
            }
            Request::Update(update) => {
                let id = update.account.id;
                written.push(update.row.row);
                let answer = if id == 1 { Err(status(400, Some("x"), None)) } else { Ok(answered(id)) };
                machine.wrote(*update, answer, at(0));
            }
        }
    }
    assert_eq!((compared.len(), written.last()), (FEWEST, Some(&14)), "compared {compared:?}, written {written:?}");
    assert_eq!(later.last(), Some(&14), "accounts are read by themselves up to the one that shows it: {later:?}");
    assert!(matches!(machine.into_stop(), Some(RunError::ClearedMembers { row: 14, is_written: true, .. })));
}

#[test]
fn a_look_that_is_two_minutes_old_is_repeated() {
    let mut machine = looked(1, SETTINGS);
    assert_eq!(next_account(&mut machine, at(121)).row, 0);
}

#[test]
fn under_a_small_quota_an_account_is_written_before_its_look_is_too_old() {
    for (count, items) in [(4, Some(ItemsProof::Incomplete)), (8, None), (60, None), (60, Some(ItemsProof::Complete))] {
        let mut machine = Machine::new(rows(count), items, Settings { concurrency: 8, ..SETTINGS });
        let (mut written, mut sent, mut now) = (0, 0, at(0));
        while machine.next(now) == Next::Request {
            match machine.start(now).unwrap() {
                Request::Page { rows, .. } => {
                    let (planned, items) = (planned(&rows), items_of(&rows));
                    machine.looked_at_page(rows, planned, Ok(items), now);
                }
                Request::Account { row } => {
                    machine.looked_at_account(row, bergen(), Ok(account(row.account_id.unwrap())), now);
                }
                Request::Update(update) => {
                    written += 1;
                    let id = update.account.id;
                    wrote_as_sent(&mut machine, *update, answered(id), now);
                }
            }
            sent += 1;
            assert!(sent <= 3 * count + 20, "{sent} requests for {written} of {count} rows");
            // Two requests a minute.
            now += at(30);
        }
        assert_eq!(written, count);
    }
}

fn items_of(rows: &[OpenRow]) -> Vec<Item> {
    items(rows, account)
}

#[test]
fn an_account_that_this_machine_changed_since_the_look_is_looked_at_again() {
    let mut machine = looked(1, SETTINGS);
    let update = next_update(&mut machine, at(0));
    overtake(&mut machine, &update);
    assert_eq!(look_at_account(&mut machine, |id| with(id, "phone", "2"), at(0)), []);
    assert_eq!(next_update(&mut machine, at(0)).fields.phone.value().map(String::as_str), Some("2"));
}

#[test]
fn a_row_whose_turn_the_run_keeps_is_read_and_written_before_all_others() {
    let mut machine = Machine::new(rows(9), Some(ItemsProof::Incomplete), SETTINGS);
    let update = next_update_among_looks(&mut machine);
    let row = update.row.row;
    // Meanwhile the run reads as many others as it may.
    while let Some(Request::Account { row: other }) = machine.start(at(0)) {
        machine.looked_at_account(other, bergen(), Ok(account(other.account_id.unwrap())), at(0));
    }
    // Their looks are old enough to be in a hurry.
    let now = super::FRESH / 2;
    for _ in 0..20 {
        machine.overtaken();
        machine.claimed(update.row);
        assert_eq!((machine.next(now), machine.next_kept(now)), (Next::Request, Some(row)), "however often");
        let Some(Request::Account { row: read }) = machine.start(now) else { panic!("the row is read at once") };
        assert_eq!(read.row, row);
        machine.looked_at_account(read, bergen(), Ok(account(1)), now);
        assert_eq!((machine.next(now), machine.next_kept(now)), (Next::Request, Some(row)), "however often");
        let Some(Request::Update(next)) = machine.start(now) else { panic!("the row is written at once") };
        assert_eq!(next.row.row, row);
    }
}

#[test]
fn a_row_whose_turn_does_not_come_is_given_up_and_names_who_has_it() {
    for (process, named) in [(Some(4711), "process 4711"), (Some(0), "another process"), (None, "this process")] {
        let mut machine = looked(1, SETTINGS);
        let update = next_update(&mut machine, at(0));
        machine.overtaken();
        let records = machine.blocked(update.row, process);
        assert_eq!(statuses(&records), [(0, Status::Failed)]);
        let said = format!("row 0: waited seven minutes for another update of this account by {named}");
        assert_eq!(error_of(&records), said);
        assert_eq!(machine.next(at(0)), Next::Done);
    }
}

#[test]
fn rows_that_wait_for_a_row_go_on_when_its_turn_does_not_come() {
    let mut machine = Machine::new(rows(2), Some(ItemsProof::Incomplete), SETTINGS);
    let update = next_update_among_looks(&mut machine);
    let first = update.row.row;
    machine.wrote(update, Err(status(504, None, None)), at(0));
    let (mut now, mut records) = (at(0), Vec::new());
    for _ in 0..20 {
        if let Next::Wait(until, _) = machine.next(now) {
            now = until;
        }
        match machine.start(now) {
            Some(Request::Update(update)) if update.row.row == first => {
                machine.overtaken();
                assert_eq!(machine.start(now).map(|_| ()), None, "the other row waits");
                assert_eq!(machine.next(now), Next::Idle);
                records = machine.blocked(update.row, Some(4711));
            }
            Some(Request::Update(_)) => {
                assert_eq!(statuses(&records), [(first, Status::Unknown)], "the other row goes only then");
                return;
            }
            Some(Request::Account { row }) => {
                machine.looked_at_account(row, bergen(), Ok(account(row.account_id.unwrap())), now);
            }
            Some(Request::Page { .. }) | None => {}
        }
    }
    panic!("the other row never goes");
}

#[test]
fn an_account_whose_own_values_the_contract_does_not_have_is_written_all_the_same() {
    for (member, value) in [("companySize", "20000+"), ("name", " ")] {
        let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), SETTINGS);
        look_at_account(&mut machine, |id| with(id, member, value), at(0));
        let update = next_update(&mut machine, at(0));
        let body = serde_json::to_value(&update.fields).unwrap();
        assert_eq!(body[member], value);
    }
}

#[test]
fn a_run_that_is_stopped_starts_nothing_and_gives_nothing_up() {
    let mut machine = looked(3, SETTINGS);
    let update = next_update_among_looks(&mut machine);
    machine.wind_down();
    assert_eq!(machine.next(at(0)), Next::Idle);
    assert_eq!(statuses(&machine.wrote(update, Ok(answered(1)), at(0))), [(0, Status::Changed)]);
    while machine.in_flight() > 0 {
        machine.gave_up_look();
    }
    assert_eq!((machine.next(at(0)), machine.last_records()), (Next::Done, vec![]));
}

/// A run over rows that were matched by name. The second account has another name by now.
fn matched_on_names(rows: Vec<OpenRow>, items: Option<ItemsProof>) -> (Machine, impl Fn(i64) -> ContactAccount) {
    let keys = rows.iter().map(|row| (row.row, format!("Company {}", row.row + 1))).collect();
    let machine = Machine::new(rows, items, SETTINGS).matched(MatchOn::Name, keys);
    (machine, |id| if id == 2 { with(2, "name", "Company") } else { account(id) })
}

#[test]
fn an_account_that_its_row_would_no_longer_find_is_a_conflict_once_a_get_has_said_so() {
    for items in [None, Some(ItemsProof::Complete), Some(ItemsProof::Incomplete)] {
        let (mut machine, shown) = matched_on_names(rows(2), items);
        let mut records = Vec::new();
        let mut written = Vec::new();
        while machine.next(at(0)) == Next::Request {
            records.extend(match machine.start(at(0)).unwrap() {
                Request::Page { rows, .. } => {
                    let (planned, items) = (planned(&rows), self::items(&rows, &shown));
                    machine.looked_at_page(rows, planned, Ok(items), at(0))
                }
                Request::Account { row } => {
                    machine.looked_at_account(row, bergen(), Ok(shown(row.account_id.unwrap())), at(0))
                }
                Request::Update(update) => {
                    written.push(update.account.id);
                    let answer = answered(update.account.id);
                    machine.wrote(*update, Ok(answer), at(0))
                }
            });
        }
        assert_eq!(machine.next(at(0)), Next::Done);
        assert_eq!(written, [1], "{items:?}");
        let conflicts = records.iter().filter_map(|record| match record {
            Record::Finish { row, finished } if finished.status == Status::Conflict => Some((*row, &finished.error)),
            _ => None,
        });
        let error = "row 1: the account no longer has the name that matched this row; plan this row again";
        assert_eq!(conflicts.collect::<Vec<_>>(), [(1, &Some(error.to_owned()))], "{items:?}");
    }
}

#[test]
fn a_row_that_may_have_been_sent_to_an_account_with_another_name_stays_unknown() {
    let open = rows(2).into_iter().skip(1).map(|row| OpenRow { was_sent: true, ..row }).collect();
    let (mut machine, shown) = matched_on_names(open, Some(ItemsProof::Incomplete));
    let records = look_at_account(&mut machine, shown, at(0));
    assert!(
        matches!(&records[..], [Record::Finish { row: 1, finished }] if finished.status == Status::Unknown),
        "{records:?}"
    );
    assert_eq!(machine.next(at(0)), Next::Done);
}

/// Runs a machine to its end over accounts that are read by themselves. `shown` and `write` also receive the accounts
/// that were updated before, in their order. Returns all updated accounts, and the records.
fn run_in_order(
    machine: &mut Machine,
    shown: impl Fn(i64, &[i64]) -> ContactAccount,
    write: impl Fn(&mut Machine, Update, &[i64], Duration) -> Vec<Record>,
) -> (Vec<i64>, Vec<Record>) {
    let (mut written, mut records, mut now) = (Vec::new(), Vec::new(), at(0));
    loop {
        match machine.next(now) {
            Next::Wait(until, _) => now = until,
            Next::Idle | Next::Done => return (written, records),
            Next::Request => records.extend(match machine.start(now).unwrap() {
                Request::Account { row } => {
                    let account = shown(row.account_id.unwrap(), &written);
                    machine.looked_at_account(row, bergen(), Ok(account), now)
                }
                Request::Update(update) => {
                    let id = update.account.id;
                    let records = write(machine, *update, &written, now);
                    written.push(id);
                    records
                }
                Request::Page { .. } => panic!("pages were shown to be incomplete"),
            }),
        }
    }
}

#[test]
fn a_member_that_an_update_cleared_whose_answer_was_lost_is_seen_at_the_next_look_and_no_other_is_sent_meanwhile() {
    let mut machine = Machine::new(rows(6), Some(ItemsProof::Incomplete), SETTINGS);
    let shown = |id, written: &[i64]| if written.contains(&id) { answered(id) } else { staged(id) };
    let (written, records) = run_in_order(&mut machine, shown, |machine, update, _, now| {
        assert_eq!(update.attempt.at_risk, stage());
        machine.wrote(update, Err(lost_answer()), now)
    });
    assert_eq!(written, [1]);
    assert!(records.contains(&Record::Lost { row: 0, members: stage() }), "{records:?}");
    let finished = machine.stored(records.last().expect("the outcome of the row"));
    assert_eq!(finished.status, Status::Unknown);
    assert_eq!(finished.error.as_deref(), Some("row 0: the update cleared stage, which an update cannot include"));
    assert!(matches!(machine.into_stop(), Some(RunError::ClearedMembers { row: 0, is_written: true, .. })));
}

#[test]
fn an_update_that_may_yet_be_applied_is_sent_again_before_that_of_another_account() {
    // The service answers 504, and applies the update only after the account was looked at.
    let mut machine = Machine::new(rows(6), Some(ItemsProof::Incomplete), SETTINGS);
    let (written, _) = run_in_order(
        &mut machine,
        |id, _| staged(id),
        |machine, update, before, now| {
            let answer = if before.is_empty() { Err(lost_answer()) } else { Ok(answered(update.account.id)) };
            machine.wrote(update, answer, now)
        },
    );
    assert_eq!(written, [1, 1]);
    assert!(matches!(machine.into_stop(), Some(RunError::ClearedMembers { row: 0, id: 1, is_written: true, .. })));
}

#[test]
fn a_doubt_ends_when_its_row_is_not_written_again_and_its_account_still_has_the_members() {
    let mut machine = Machine::new(rows(6), Some(ItemsProof::Incomplete), SETTINGS);
    let moved = |id, city: &str| ContactAccount { city: Some(city.into()), ..staged(id) };
    let shown = |id, written: &[i64]| moved(id, if id == 1 && !written.is_empty() { "Trondheim" } else { "Oslo" });
    let (written, _) = run_in_order(&mut machine, shown, |machine, update, _, now| {
        let id = update.account.id;
        machine.wrote(update, if id == 1 { Err(lost_answer()) } else { Ok(moved(id, "Bergen")) }, now)
    });
    assert_eq!(written, [1, 2, 3, 4, 5, 6]);
    assert!(machine.into_stop().is_none());
}

#[test]
fn a_row_whose_item_cannot_be_read_after_a_lost_answer_holds_up_no_other_and_hides_no_loss() {
    for has_stage in [false, true] {
        let open = rows_with_phones(3).into_iter().map(|row| OpenRow { position: None, ..row }).collect();
        let mut machine = Machine::new(open, Some(ItemsProof::Incomplete), SETTINGS);
        let whole = |id: i64| {
            let phone = with(id, "phone", "1");
            if has_stage { with_stage_of(id, phone) } else { phone }
        };
        // The update that got no answer has cleared both.
        let shown = |id, written: &[i64]| if id == 1 && !written.is_empty() { account(id) } else { whole(id) };
        let (written, _) = run_in_order(&mut machine, shown, |machine, update, _, now| {
            let id = update.account.id;
            let sent = ContactAccount { city: Some("Bergen".into()), ..whole(id) };
            machine.wrote(update, if id == 1 { Err(lost_answer()) } else { Ok(sent) }, now)
        });
        let stop = machine.into_stop();
        if has_stage {
            assert_eq!(written, [1]);
            assert!(matches!(&stop, Some(RunError::ClearedMembers { row: 0, is_written: true, .. })), "{stop:?}");
        } else {
            assert_eq!(written, [1, 2, 3]);
            assert!(stop.is_none(), "{stop:?}");
        }
    }
}

#[test]
fn an_item_that_agrees_with_an_account_in_doubt_lets_its_row_be_sent_again() {
    let mut open = rows_with_phones(1);
    open[0].was_sent = true;
    let at_risk = AtRisk { row: 0, members: stage(), is_of_parent: false };
    let mut machine = Machine::new(open, None, SETTINGS).sparing_one(Cleared::new(), Some(at_risk));
    assert_eq!(look_at_account(&mut machine, staged, at(0)), []);
    assert_eq!(look_at_page(&mut machine, staged), []);
    assert_eq!(look_at_account(&mut machine, staged, at(0)), []);
    assert_eq!(next_update(&mut machine, at(0)).account.id, 1);
}

#[test]
fn a_run_after_a_kill_looks_at_the_account_in_doubt_before_it_writes_another_or_spares_its_members() {
    let at_risk = || Some(AtRisk { row: 0, members: stage(), is_of_parent: false });
    let mut open = rows(3);
    open[0].was_sent = true;
    let shown = |id: i64| if id == 1 { answered(id) } else { staged(id) };
    let mut machine = Machine::new(open.clone(), None, SETTINGS).sparing_one(Cleared::new(), at_risk());
    assert_eq!(run_to_end(&mut machine, shown, shown).0, [0; 0]);
    assert!(matches!(machine.into_stop(), Some(RunError::ClearedMembers { row: 0, id: 1, is_written: true, .. })));

    // A run over the other rows does not read it, however often it is tried. It updates accounts without a stage.
    let shown = |id: i64| if id == 2 { account(id) } else { staged(id) };
    for _ in 0..2 {
        let mut machine = Machine::new(open[1..].to_vec(), None, SETTINGS).sparing_one(Cleared::new(), at_risk());
        assert_eq!(run_to_end(&mut machine, shown, shown).0, [1]);
        assert!(matches!(machine.into_stop(), Some(RunError::InDoubt { row: 0, .. })));
    }
}

#[test]
fn a_revert_reads_the_account_first_whose_update_is_in_doubt_and_spares_the_others_if_it_lost_its_stage() {
    let proofs = [Some(ItemsProof::Complete), Some(ItemsProof::Incomplete), None];
    for (is_kept, items) in [true, false].into_iter().flat_map(|is_kept| proofs.map(|items| (is_kept, items))) {
        let at_risk = AtRisk { row: 10, members: stage(), is_of_parent: true };
        let mut machine = Machine::new(rows(20), items, SETTINGS).sparing_one(Cleared::new(), Some(at_risk));
        let row = next_account(&mut machine, at(0));
        assert_eq!(row.row, 10);
        let found = if is_kept { staged(11) } else { account(11) };
        let records = machine.looked_at_account(row, bergen(), Ok(found), at(0));
        let lost = vec![Record::Lost { row: 10, members: stage() }];
        assert_eq!(records, if is_kept { Vec::new() } else { lost });
        assert_eq!(machine.next(at(0)) == Next::Request, is_kept);
    }
}

#[test]
fn a_run_without_the_row_in_doubt_reads_no_more_accounts_than_it_may_update() {
    let at_risk = AtRisk { row: 99, members: stage(), is_of_parent: false };
    let mut machine =
        Machine::new(rows(60), Some(ItemsProof::Incomplete), SETTINGS).sparing_one(Cleared::new(), Some(at_risk));
    let (written, gets) = run_to_end(&mut machine, staged, staged);
    assert!(written.is_empty() && gets <= 4, "{written:?} {gets}");
    assert!(matches!(machine.into_stop(), Some(RunError::InDoubt { row: 99, .. })));
}

#[test]
fn a_run_without_the_row_in_doubt_updates_no_account_from_a_page_that_may_hide_the_member() {
    for (is_shown, expected) in [(true, 0), (false, 15)] {
        let at_risk = AtRisk { row: 99, members: stage(), is_of_parent: false };
        let mut machine =
            Machine::new(rows(20), Some(ItemsProof::Complete), SETTINGS).sparing_one(Cleared::new(), Some(at_risk));
        // One account of the page has a stage, if the list shows it.
        let page = |id: i64| if is_shown && id == 20 { staged(id) } else { account(id) };
        let (written, gets) = run_to_end(&mut machine, page, |id| if id == 20 { staged(id) } else { account(id) });
        assert!(written.len() > 10 && gets >= expected, "{written:?} {gets}");
        assert!(matches!(machine.into_stop(), Some(RunError::InDoubt { row: 99, .. })));
    }
}

#[test]
fn a_stage_that_updates_reset_is_reset_in_one_more_account_when_the_first_answer_was_lost() {
    let mut machine = Machine::new(rows(6), Some(ItemsProof::Incomplete), SETTINGS);
    let new = |id| in_stage(id, 1, "New");
    let shown = |id, written: &[i64]| if written.contains(&id) { new(id) } else { staged(id) };
    let (written, records) = run_in_order(&mut machine, shown, |machine, update, before, now| {
        let id = update.account.id;
        // That the second update of the account kept the value which the first one left shows nothing.
        assert_eq!(update.attempt.at_risk, stage());
        if before.is_empty() {
            machine.wrote(update, Err(lost_answer()), now)
        } else {
            wrote_as_sent(machine, update, new(id), now)
        }
    });
    assert!(
        error_of(&records).starts_with("row 0: written, but the account now has another value in stage"),
        "{records:?}"
    );
    // The first one twice: someone could have moved it.
    assert_eq!(written, [1, 1, 2]);
    assert!(matches!(machine.into_stop(), Some(RunError::ResetMembers { row: 1, id: 2, .. })));
}

/// Runs over accounts of these stages, whose updates are answered with a stage. Returns which accounts were written.
fn run_over_stages(machine: &mut Machine, before: &[i64], answer: fn(i64, i64) -> ContactAccount) -> Vec<i64> {
    let shown = |id: i64, _: &[i64]| in_stage(id, before[usize::try_from(id - 1).unwrap()], "x");
    let (written, records) = run_in_order(machine, shown, |machine, update, _, now| {
        let id = update.account.id;
        let stage = update.account.stage.as_ref().unwrap().id;
        wrote_as_sent(machine, update, answer(id, stage), now)
    });
    assert!(!records.iter().any(|record| matches!(record, Record::Cleared(_))), "{records:?}");
    written
}

#[test]
fn an_update_that_resets_the_stage_resets_one_although_accounts_with_the_default_kept_it() {
    let mut machine = Machine::new(rows(5), Some(ItemsProof::Incomplete), SETTINGS);
    let written = run_over_stages(&mut machine, &[1, 1, 1, 7, 8], |id, _| in_stage(id, 1, "New"));
    assert_eq!(written, [1, 2, 3, 4]);
    assert!(matches!(machine.into_stop(), Some(RunError::ResetMembers { row: 3, id: 4, .. })));
}

#[test]
fn a_stage_that_someone_changed_during_an_update_stops_no_run_that_saw_stages_kept_and_blocks_no_later_run() {
    let all_later = |id, stage| in_stage(id, if id > 2 { 9 } else { stage }, "x");
    let mut machine = Machine::new(rows(5), Some(ItemsProof::Incomplete), SETTINGS);
    assert_eq!(run_over_stages(&mut machine, &[1, 2, 1, 2, 1], all_later), [1, 2, 3, 4, 5]);
    assert!(machine.into_stop().is_none());

    let answer = |id, stage| in_stage(id, if id == 3 { 9 } else { stage }, "x");

    let mut machine = Machine::new(rows(5), Some(ItemsProof::Incomplete), SETTINGS);
    assert_eq!(run_over_stages(&mut machine, &[1, 1, 1, 1, 1], answer), [1, 2, 3]);
    assert!(matches!(machine.into_stop(), Some(RunError::ResetMembers { row: 2, id: 3, .. })));
    let mut machine = Machine::new(rows(5).split_off(3), Some(ItemsProof::Incomplete), SETTINGS);
    assert_eq!(run_over_stages(&mut machine, &[1, 1, 1, 1, 1], answer), [4, 5]);
}

#[test]
fn a_member_that_two_updates_set_to_the_same_value_stops_the_run_and_one_that_the_service_computes_does_not() {
    let (earlier, later) = ("2026-11-23T08:00:00Z", "2026-11-24T08:00:00Z");
    // Two accounts that are updated in the same second have the same time of their last change.
    let cases = [("private", "team", true), ("private", "", false), (earlier, later, false), (later, earlier, true)];
    for (before, after, is_reset) in cases {
        let shown = |id: i64, _: &[i64]| with(id, "visibility", before);
        let mut machine = Machine::new(rows(6), Some(ItemsProof::Incomplete), SETTINGS);
        let (written, records) = run_in_order(&mut machine, shown, |machine, update, _, now| {
            let id = update.account.id;
            assert!(!update.attempt.at_risk.is_empty(), "no update kept it");
            let value = if after.is_empty() { format!("team {id}") } else { after.to_owned() };
            wrote_as_sent(machine, update, with(id, "visibility", &value), now)
        });
        assert_eq!(written.len(), if is_reset { 2 } else { 6 });
        assert!(!records.iter().any(|record| matches!(record, Record::Cleared(_))), "a later run continues");
        assert!(error_of(&records).contains("now has another value in visibility"), "{records:?}");
        let stop = machine.into_stop();
        assert_eq!(matches!(stop, Some(RunError::ResetMembers { row: 1, id: 2, .. })), is_reset);
    }
}

#[test]
fn an_answer_that_does_not_show_the_update_does_not_show_that_members_are_kept() {
    for is_shown in [true, false] {
        let mut machine = Machine::new(rows(3), Some(ItemsProof::Incomplete), SETTINGS);
        let (written, _) = run_in_order(
            &mut machine,
            |id, _| in_stage(id, id, "x"),
            |machine, update, before, now| {
                assert_eq!(update.attempt.at_risk.is_empty(), is_shown && before.len() == 2);
                let old = update.account.clone();
                let answer = if is_shown { ContactAccount { city: Some("Bergen".into()), ..old } } else { old };
                machine.wrote(update, Ok(answer), now)
            },
        );
        assert_eq!(written, [1, 2, 3]);
    }
}

#[test]
fn a_stage_that_someone_changed_after_a_kill_ends_no_run() {
    let mut open = rows(3);
    open[0].was_sent = true;
    let at_risk = Some(AtRisk { row: 0, members: stage(), is_of_parent: false });
    let mut machine = Machine::new(open, Some(ItemsProof::Incomplete), SETTINGS).sparing_one(Cleared::new(), at_risk);
    let shown = |id: i64| if id == 1 { in_stage(id, 4, "Customer") } else { staged(id) };
    let (written, _) = run_to_end_as(&mut machine, shown, shown, shown);
    assert_eq!(written, [0, 1, 2]);
    assert!(machine.into_stop().is_none());
}

#[test]
fn a_stage_that_someone_changed_after_a_kill_ends_no_run_although_the_row_is_a_conflict() {
    let mut open = rows(3);
    open[0].was_sent = true;
    let at_risk = Some(AtRisk { row: 0, members: stage(), is_of_parent: false });
    let mut machine = Machine::new(open, Some(ItemsProof::Incomplete), SETTINGS).sparing_one(Cleared::new(), at_risk);
    let moved = ContactAccount { city: Some("Trondheim".to_owned()), ..in_stage(1, 4, "Customer") };
    let shown = |id: i64| if id == 1 { moved.clone() } else { staged(id) };
    let (written, _) = run_to_end_as(&mut machine, shown, shown, shown);
    assert_eq!(written, [1, 2]);
    assert!(machine.into_stop().is_none());
}

#[test]
fn the_values_before_the_first_update_in_doubt_stay_known() {
    let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), SETTINGS);
    look_at_account(&mut machine, staged, at(0));
    let update = next_update(&mut machine, at(0));
    machine.wrote(update, Err(lost_answer()), at(0));
    look_at_account(&mut machine, |id| in_stage(id, 1, "New"), at(60));
    assert_eq!(next_update(&mut machine, at(60)).attempt.at_risk, stage());
}

#[test]
fn a_field_that_no_row_names_and_that_an_update_empties_is_stored_and_ends_the_run() {
    for on_unknown_member in [OnUnknownMember::Stop, OnUnknownMember::Clear] {
        for (value, answer) in [("0150", ""), ("0150", "+47 150"), (" \u{200b}", "")] {
            let settings = Settings { on_unknown_member, ..SETTINGS };
            let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), settings);
            let row = next_account(&mut machine, at(0));
            machine.looked_at_account(row, bergen(), Ok(with(1, "phone", value)), at(0));
            let update = next_update(&mut machine, at(0));
            let answered = ContactAccount { phone: Some(answer.to_owned()), ..answered(1) };
            let records = machine.wrote(update, Ok(answered), at(0));
            let [Record::Finish { row: 0, finished }] = &records[..] else { panic!("{records:?}") };
            let (before, answered) = (Value::Text(value.into()), Value::Text(answer.to_owned()));
            assert_eq!(finished.unplanned, [Unplanned { field: Field::Phone, before, answered }]);
            assert!(finished.stored_otherwise && finished.error.as_deref().unwrap().contains("phone"));
            let stops = answer.is_empty() && value == "0150" && on_unknown_member == OnUnknownMember::Stop;
            let stop = machine.into_stop();
            assert_eq!(matches!(stop, Some(RunError::EmptiedFields { row: 0, id: 1, .. })), stops, "{stop:?}");
        }
    }
}

#[test]
fn a_field_that_an_unanswered_update_of_this_run_emptied_ends_the_run_whatever_the_row_was_before() {
    let phone =
        Change { is_planned: false, ..Change::new(Field::Phone, Value::Text("1".into()), Value::Text("1".into())) };
    let with_phone = [bergen(), vec![phone]].concat();
    for is_revert in [false, true] {
        for is_pending in [true, false] {
            // A revert may have the value from the plan that it undoes. The attempt of an earlier run left it in a
            // plan.
            for is_older in [false, true] {
                let mut open = rows(1);
                open[0].is_pending = is_pending && (is_revert || !is_older);
                (open[0].was_sent, open[0].has_older_values) = (is_older && !is_revert, is_older && !is_revert);
                let settings = Settings { is_revert, ..SETTINGS };
                let mut machine = Machine::new(open, Some(ItemsProof::Incomplete), settings);
                let row = next_account(&mut machine, at(0));
                let first = if is_older { with_phone.clone() } else { bergen() };
                machine.looked_at_account(row, first, Ok(with(1, "phone", "1")), at(0));
                let update = next_update(&mut machine, at(0));
                machine.wrote(update, Err(lost_answer()), at(0));
                let row = next_account(&mut machine, at(60));
                machine.looked_at_account(row, with_phone.clone(), Ok(with(1, "phone", "")), at(60));
                let update = next_update(&mut machine, at(60));
                let records = machine.wrote(update, Ok(answered(1)), at(60));
                let Some(Record::Finish { finished, .. }) = records.last() else { panic!("{records:?}") };
                let value = (Field::Phone, Value::Text("1".to_owned()));
                assert_eq!(
                    (finished.unplanned.len(), finished.altered.contains(&value)),
                    (usize::from(!is_older), is_older)
                );
                assert_eq!(matches!(machine.into_stop(), Some(RunError::EmptiedFields { .. })), !is_older);
            }
        }
    }
}

#[test]
fn a_refusal_does_not_show_what_an_update_does_to_other_fields() {
    let mut machine = Machine::new(rows(9), Some(ItemsProof::Incomplete), SETTINGS);
    let mut flying = Vec::new();
    let mut is_first = true;
    while machine.next(at(0)) == Next::Request {
        match machine.start(at(0)).unwrap() {
            Request::Account { row } => {
                let id = row.account_id.unwrap();
                machine.looked_at_account(row, bergen(), Ok(account(id)), at(0));
            }
            Request::Update(update) if std::mem::take(&mut is_first) => {
                machine.wrote(*update, Err(status(400, Some("x"), None)), at(0));
            }
            Request::Update(update) => flying.push(update.account.id),
            Request::Page { .. } => panic!("pages were shown to be incomplete"),
        }
    }
    assert_eq!(flying, [2], "several updates are on their way before the service accepted one");
}

#[test]
fn a_revert_leaves_a_field_that_no_row_named_if_someone_has_changed_it_since() {
    let spoiled = Change { is_planned: false, ..Change::new(Field::Phone, Value::Null, Value::Text("0150".into())) };
    let of = |text: &str| Presence::Value(text.to_owned());
    for (phone, expected) in [("", of("0150")), ("0150", of("0150")), ("0160", of("0160"))] {
        let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), SETTINGS);
        let row = next_account(&mut machine, at(0));
        let changes = [bergen(), vec![spoiled.clone()]].concat();
        assert_eq!(machine.looked_at_account(row, changes, Ok(with(1, "phone", phone)), at(0)), []);
        let update = next_update(&mut machine, at(0));
        assert_eq!(update.fields.phone, expected);
        assert_eq!(update.fields.city, Presence::Value("Bergen".to_owned()));
        let is_left = phone == "0160";
        let records = wrote_as_sent(&mut machine, update, account(1), at(0));
        let [Record::Finish { finished, .. }] = &records[..] else { panic!("{records:?}") };
        assert_eq!(finished.left, if is_left { vec![Field::Phone] } else { Vec::new() });
        assert_eq!(error_of(&records).contains("phone was not restored"), is_left);
    }
    // Nothing else is left to restore.
    let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), SETTINGS);
    let row = next_account(&mut machine, at(0));
    let records = machine.looked_at_account(row, vec![spoiled], Ok(with(1, "phone", "0160")), at(0));
    assert_eq!(statuses(&records), [(0, Status::Unchanged)]);
    assert_eq!(error_of(&records), "row 0: phone was not restored, because it has another value now");
}

#[test]
fn a_row_that_was_overtaken_often_is_not_given_up_sooner() {
    let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), SETTINGS);
    let mut now = at(0);
    for _ in 0..SETTINGS.attempts {
        look_at_account(&mut machine, account, now);
        let update = next_update(&mut machine, now);
        overtake(&mut machine, &update);
        now += at(100);
    }
    let row = next_account(&mut machine, now);
    let records = machine.looked_at_account(row, bergen(), Err(status(503, None, None)), now);
    assert_eq!(records, []);
    next_account(&mut machine, now + at(100));
}

#[test]
fn what_an_update_would_have_overwritten_is_known_again_before_the_file_says_so() {
    let settings = Settings { on_conflict: OnConflict::Overwrite, ..SETTINGS };
    let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), settings);
    let elsewhere = |id: i64| with(id, "city", "Trondheim");
    look_at_account(&mut machine, elsewhere, at(0));
    let update = next_update(&mut machine, at(0));
    machine.held_back(&update);
    // The file still has what the update would have overwritten.
    let stale = vec![Change { before: Value::Text("Trondheim".into()), ..bergen().remove(0) }];
    let row = next_account(&mut machine, at(0));
    machine.looked_at_account(row, stale, Ok(elsewhere(1)), at(0));
    assert_eq!(next_update(&mut machine, at(0)).attempt.overwritten, [(Field::City, Value::Text("Trondheim".into()))]);
}

#[test]
fn what_an_update_would_have_overwritten_is_planned_again_as_it_was_when_the_update_is_refused() {
    let settings = Settings { on_conflict: OnConflict::Overwrite, ..SETTINGS };
    for refusal in [status(401, None, None), status(400, Some("x"), None)] {
        let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), settings);
        look_at_account(&mut machine, |id| with(id, "city", "Trondheim"), at(0));
        let update = next_update(&mut machine, at(0));
        assert_eq!(update.attempt.overwritten, [(Field::City, Value::Text("Trondheim".into()))]);
        let records = machine.wrote(update, Err(refusal), at(0));
        let before = vec![(Field::City, Value::Text("Oslo".into()))];
        assert_eq!(records[0], Record::NotSent { row: 0, before });
    }
}

#[test]
fn a_row_that_may_have_been_sent_and_is_all_there_is_sent_again_whatever_became_of_its_key() {
    let open = rows(2).into_iter().skip(1).map(|row| OpenRow { was_sent: true, ..row }).collect();
    let (mut machine, shown) = matched_on_names(open, Some(ItemsProof::Incomplete));
    look_at_account(&mut machine, |id| ContactAccount { city: Some("Bergen".into()), ..shown(id) }, at(0));
    assert_eq!(next_update(&mut machine, at(0)).row.row, 1);
}

#[test]
fn an_update_whose_effect_stays_unknown_ends_the_run_before_another_may_clear_a_member() {
    let mut machine = Machine::new(rows(2), Some(ItemsProof::Incomplete), SETTINGS);
    let mut written = Vec::new();
    while machine.next(at(0)) == Next::Request {
        match machine.start(at(0)).unwrap() {
            Request::Account { row } => {
                let id = row.account_id.unwrap();
                let answer = if written.contains(&id) { Err(login_page()) } else { Ok(staged(id)) };
                machine.looked_at_account(row, bergen(), answer, at(0));
            }
            Request::Update(update) => {
                written.push(update.account.id);
                machine.wrote(*update, Err(login_page()), at(0));
            }
            Request::Page { .. } => panic!("pages were shown to be incomplete"),
        }
    }
    assert_eq!((machine.next(at(0)), written), (Next::Done, vec![1]));
    assert!(matches!(machine.into_stop(), Some(RunError::InDoubt { row: 0, .. })));
}

#[test]
fn a_page_that_shows_the_member_that_was_cleared_is_trusted_again() {
    let shown = |id: i64| if id == 8 { with(id, "annualRevenue", "12 million") } else { account(id) };
    let rows = rows(7);
    let mut machine =
        Machine::new(rows, Some(ItemsProof::Complete), SETTINGS).sparing_one(cleared(&["annualRevenue"]), None);
    let Request::Page { rows, .. } = next_request(&mut machine, at(0)) else { panic!("a page costs fewer requests") };
    let (planned, mut items) = (planned(&rows), items(&rows, shown));
    items.push(Item::Account(shown(8)));
    machine.looked_at_page(rows, planned, Ok(items), at(0));
    // One account of the page is compared.
    assert_eq!(run_to_end(&mut machine, shown, shown), ((0..7).collect(), 1));
}

/// Runs over accounts that have a stage. `first` answers only the first update; the other updates keep the stage.
/// Returns the updated accounts and the most accounts that were read before their update.
fn run_staged(machine: &mut Machine, mut first: Option<Refusal>, gone: &[i64]) -> (Vec<i64>, usize) {
    let (mut written, mut ahead, mut most_ahead, mut now) = (Vec::new(), 0_usize, 0, at(0));
    loop {
        match machine.next(now) {
            Next::Wait(until, _) => now = until,
            Next::Idle | Next::Done => return (written, most_ahead),
            Next::Request => match machine.start(now).unwrap() {
                Request::Account { row } => {
                    let id = row.account_id.unwrap();
                    let is_gone = gone.contains(&id) && written.contains(&id);
                    let answer =
                        if is_gone { Err(status(404, Some("contactAccount.notFound"), None)) } else { Ok(staged(id)) };
                    machine.looked_at_account(row, bergen(), answer, now);
                    ahead += 1;
                    most_ahead = most_ahead.max(ahead);
                }
                Request::Update(update) => {
                    let id = update.account.id;
                    written.push(id);
                    ahead = ahead.saturating_sub(1);
                    let kept = ContactAccount { stage: staged(id).stage, ..answered(id) };
                    let answer = first.take().map_or(Ok(kept), Err);
                    machine.wrote(*update, answer, now);
                }
                Request::Page { .. } => panic!("pages were shown to be incomplete"),
            },
        }
    }
}

#[test]
fn an_account_in_doubt_that_is_gone_holds_up_no_other() {
    let mut machine = Machine::new(rows(3), Some(ItemsProof::Incomplete), SETTINGS);
    let (written, _) = run_staged(&mut machine, Some(lost_answer()), &[1]);
    assert_eq!(written, [1, 2, 3]);
    assert!(machine.into_stop().is_none());
}

#[test]
fn a_member_at_risk_is_forgotten_only_if_the_account_had_it_after_the_update() {
    let gone = || status(404, Some("contactAccount.notFound"), None);
    for seen in [Some(staged(1)), Some(in_stage(1, 4, "Customer")), None] {
        let mut machine = Machine::new(rows(1), Some(ItemsProof::Incomplete), SETTINGS);
        look_at_account(&mut machine, staged, at(0));
        let update = next_update(&mut machine, at(0));
        assert_eq!(update.attempt.at_risk, stage());
        machine.wrote(update, Err(lost_answer()), at(0));
        let had_it = seen == Some(staged(1));
        let records = if let Some(seen) = seen {
            assert_eq!(look_at_account(&mut machine, |_| seen.clone(), at(60)), []);
            let update = next_update(&mut machine, at(60));
            machine.wrote(update, Err(gone()), at(60))
        } else {
            let row = next_account(&mut machine, at(60));
            machine.looked_at_account(row, bergen(), Err(gone()), at(60))
        };
        assert_eq!(statuses(&records), [(0, Status::Unknown)]);
        assert_eq!(records.contains(&Record::Lost { row: 0, members: file::Members::new() }), had_it, "{records:?}");
    }
}

#[test]
fn an_account_in_doubt_that_two_runs_cannot_read_holds_up_no_other() {
    for refusal in [|| status(403, None, None), || status(403, Some("contactAccount.forbidden"), None)] {
        for (is_kept, expected) in [(true, vec![2, 3, 4]), (false, vec![2])] {
            let mut open = rows(4);
            open[0].was_sent = true;
            let at_risk = Some(AtRisk { row: 0, members: stage(), is_of_parent: false });
            let mut machine =
                Machine::new(open, Some(ItemsProof::Incomplete), SETTINGS).sparing_one(Cleared::new(), at_risk);
            let (mut written, mut now) = (Vec::new(), at(0));
            loop {
                match machine.next(now) {
                    Next::Wait(until, _) => now = until,
                    Next::Idle | Next::Done => break,
                    Next::Request => match machine.start(now).unwrap() {
                        Request::Account { row } => {
                            let id = row.account_id.unwrap();
                            let answer = if id == 1 { Err(refusal()) } else { Ok(in_stage(id, id, "x")) };
                            machine.looked_at_account(row, bergen(), answer, now);
                        }
                        Request::Update(update) => {
                            let id = update.account.id;
                            written.push(id);
                            let other = if is_kept { in_stage(id, id, "x") } else { account(id) };
                            wrote_as_sent(&mut machine, *update, other, now);
                        }
                        Request::Page { .. } => panic!("pages were shown to be incomplete"),
                    },
                }
            }
            assert_eq!(written, expected);
            let stop = machine.into_stop();
            let is_cleared = matches!(stop, Some(RunError::ClearedMembers { row: 1, is_written: true, .. }));
            assert!(if is_kept { stop.is_none() } else { is_cleared });
        }
    }
}

#[test]
fn an_account_whose_update_gets_no_answer_in_two_runs_holds_up_no_other() {
    for is_second in [false, true] {
        let mut open = rows(3);
        open[0].was_sent = is_second;
        let at_risk = is_second.then(|| AtRisk { row: 0, members: stage(), is_of_parent: false });
        let mut machine =
            Machine::new(open, Some(ItemsProof::Incomplete), SETTINGS).sparing_one(Cleared::new(), at_risk);
        let (mut written, _) = run_in_order(
            &mut machine,
            |id, _| in_stage(id, 2 + id, "x"),
            |machine, update, _, now| match update.account.id {
                1 => machine.wrote(update, Err(lost_answer()), now),
                id => wrote_as_sent(machine, update, in_stage(id, 2 + id, "x"), now),
            },
        );
        written.retain(|id| *id != 1);
        assert_eq!(written, if is_second { vec![2, 3] } else { Vec::new() });
        assert_eq!(matches!(machine.into_stop(), Some(RunError::InDoubt { row: 0, .. })), !is_second);
    }
}

#[test]
fn an_account_in_doubt_whose_next_update_is_refused_holds_up_no_other_if_it_was_looked_at() {
    for code in [Some("x"), None] {
        let mut machine = Machine::new(rows(3), Some(ItemsProof::Incomplete), SETTINGS);
        let (written, _) = run_in_order(
            &mut machine,
            |id, _| staged(id),
            |machine, update, before, now| match (update.account.id, before.is_empty()) {
                (1, true) => machine.wrote(update, Err(lost_answer()), now),
                // Without a code, the answer may be about the key, and the row is set aside.
                (1, false) => {
                    machine.wrote(update, Err(status(if code.is_some() { 400 } else { 403 }, code, None)), now)
                }
                (id, _) => machine.wrote(update, Ok(ContactAccount { stage: staged(id).stage, ..answered(id) }), now),
            },
        );
        assert_eq!(written, [1, 1, 2, 3]);
        assert!(machine.into_stop().is_none());
    }
}

#[test]
fn a_row_in_doubt_that_another_success_has_given_up_ends_the_run_with_an_error() {
    // The second account has no stage, so its update shows that the first row itself is the cause.
    let shown = |id: i64| if id == 2 { account(id) } else { staged(id) };
    let mut machine = Machine::new(rows(3), Some(ItemsProof::Incomplete), SETTINGS);
    let mut written = Vec::new();
    while machine.next(at(0)) == Next::Request {
        match machine.start(at(0)).unwrap() {
            Request::Account { row } => {
                let id = row.account_id.unwrap();
                let answer = if written.contains(&id) { Err(login_page()) } else { Ok(shown(id)) };
                machine.looked_at_account(row, bergen(), answer, at(0));
            }
            Request::Update(update) => {
                let id = update.account.id;
                written.push(id);
                let answer = if id == 1 { Err(login_page()) } else { Ok(answered(id)) };
                machine.wrote(*update, answer, at(0));
            }
            Request::Page { .. } => panic!("pages were shown to be incomplete"),
        }
    }
    assert_eq!((machine.next(at(0)), written), (Next::Done, vec![1, 2]));
    assert!(matches!(machine.into_stop(), Some(RunError::InDoubt { row: 0, .. })));
}

#[test]
fn no_more_accounts_are_looked_at_ahead_than_are_written_at_once() {
    // In doubt about pages for the whole run, and about one account for some time.
    for (cleared, first) in [(cleared(&["annualRevenue"]), None), (Cleared::new(), Some(lost_answer()))] {
        let mut machine = Machine::new(rows(60), Some(ItemsProof::Incomplete), SETTINGS).sparing_one(cleared, None);
        let (written, most_ahead) = run_staged(&mut machine, first, &[]);
        assert!(written.len() >= 60);
        assert!(most_ahead <= SETTINGS.concurrency + 1, "{most_ahead} accounts were looked at ahead");
    }
}
