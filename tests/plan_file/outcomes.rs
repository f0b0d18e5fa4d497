//! What is told of a row is in the file by then, and what a file says of a row can be taken up again.

use std::fs;

use replyio::plan::Status;
use replyio::plan::file::{Attempt, Members, PlanFile, Record, RowView};
use tokio::task::JoinSet;

use super::{Folder, NOW, beside, block_on, build, export, finish, finished, mark_sent};

fn rows(file: &PlanFile) -> Vec<RowView> {
    let mut rows = Vec::new();
    file.for_each_row(|row| rows.push(row)).unwrap();
    rows
}

#[test]
fn an_outcome_is_there_as_soon_as_it_was_reported() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 300).unwrap();
    let run = file.start_run().unwrap();
    let open: Vec<u64> = file.open_rows(&[]).unwrap().iter().map(|row| row.row).collect();
    let (done, left) = open.split_at(open.len() / 2);
    block_on(async {
        let mut tasks = JoinSet::new();
        for &row in &open {
            let (run, is_done) = (run.clone(), done.contains(&row));
            tasks.spawn(async move {
                run.store(mark_sent(row, NOW)).await.unwrap();
                if is_done {
                    run.store(finish(row, finished(Status::Changed, None))).await.unwrap();
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
    // As a killed process leaves it: another one finds the files as they are now.
    let other = Folder::new();
    for suffix in ["", "-wal"] {
        fs::copy(beside(&folder.plan(), suffix), beside(&other.plan(), suffix)).unwrap();
    }
    let copied = PlanFile::open(&other.plan()).unwrap();
    assert_eq!(export(&copied).unwrap(), export(&file).unwrap());
    // Rows that never were to change anything are nobody's progress.
    assert_eq!((file.rows_done(&[]).unwrap(), copied.rows_done(&[]).unwrap()), (done.len() as u64, done.len() as u64));
    let in_flight: Vec<u64> =
        copied.open_rows(&[]).unwrap().iter().filter(|row| row.was_sent).map(|row| row.row).collect();
    assert_eq!(in_flight.len(), left.len());
    assert!(in_flight.iter().all(|row| left.contains(row)));
    assert_eq!(copied.counts().unwrap()[&Status::Unknown], left.len() as u64);
}

#[test]
fn a_row_in_flight_can_be_sent_again_taken_back_or_given_up() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 300).unwrap();
    let run = file.start_run().unwrap();
    let open: Vec<u64> = file.open_rows(&[]).unwrap().iter().take(3).map(|row| row.row).collect();
    let [again, back, lost] = open[..] else { panic!("{open:?}") };
    block_on(async {
        for row in [again, back, lost, again] {
            run.store(mark_sent(row, NOW)).await.unwrap();
        }
        run.store(finish(again, finished(Status::Changed, None))).await.unwrap();
        run.store(Record::NotSent { row: back, before: Vec::new() }).await.unwrap();
        run.store(finish(lost, finished(Status::Unknown, Some("no answer".to_owned())))).await.unwrap();
    });
    let found = |row: u64| rows(&file).into_iter().find(|found| found.row == row).unwrap();
    assert_eq!((found(again).status, found(again).repeated), (Status::Changed, 1));
    assert_eq!((found(back).status, found(back).repeated), (Status::Pending, 0));
    assert_eq!(found(lost).error.as_deref(), Some("no answer"));
    // Nobody knows what became of it, so it stays open as what it is.
    assert_eq!(found(lost).status, Status::Unknown);
    assert!(file.open_rows(&[]).unwrap().iter().any(|row| row.row == lost && row.was_sent));
}

#[test]
fn members_at_risk_and_cleared_are_kept_however_many_they_are() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 3).unwrap();
    let members: Vec<String> = (0..5_000).map(|number| format!("a member with a long name, number {number}")).collect();
    let run = file.start_run().unwrap();
    block_on(async {
        let values = members.iter().map(|name| (name.clone(), serde_json::json!({"id": 1}))).collect();
        run.store(Record::Sent { row: 0, attempt: Attempt { at_risk: values, ..Attempt::default() }, at_ms: NOW })
            .await
            .unwrap();
        run.store(Record::Cleared(members.clone())).await.unwrap();
    });
    drop(run);
    let state = PlanFile::open(&folder.plan()).unwrap().state().unwrap();
    let [at_risk] = &state.at_risk[..] else { panic!("{:?}", state.at_risk) };
    assert_eq!((at_risk.row, at_risk.members.len()), (0, 5_000));
    assert_eq!(state.cleared.len(), 5_000);
    // A revert spares them: it may clear them as well.
    let revert = file.revert_file().unwrap();
    assert_eq!(revert.state().unwrap().cleared.len(), 5_000);
}

/// What is stored before the update of a row that may clear a member.
fn mark_at_risk(row: u64) -> Record {
    let at_risk = [(format!("member{row}"), serde_json::json!(7))].into();
    Record::Sent { row, attempt: Attempt { at_risk, ..Attempt::default() }, at_ms: NOW }
}

/// The rows in doubt, and the one that holds up the others.
fn in_doubt(file: &PlanFile) -> (Vec<u64>, Option<u64>) {
    let state = file.state().unwrap();
    let found = state.in_doubt(&file.open_rows(&[]).unwrap());
    (found.iter().map(|at_risk| at_risk.row).collect(), state.held_up_by(&found))
}

#[test]
fn each_row_stays_in_doubt_until_its_outcome_is_final_and_the_newest_holds_up_the_others() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 300).unwrap();
    let rows: Vec<u64> = file.open_rows(&[]).unwrap().iter().map(|row| row.row).take(4).collect();
    let [first, second, third, fourth] = rows[..] else { panic!("{rows:?}") };
    let run = file.start_run().unwrap();
    let store = |record| block_on(run.store(record)).unwrap();
    store(mark_at_risk(first));
    store(finish(first, finished(Status::Unknown, None)));
    store(mark_at_risk(second));
    assert_eq!(in_doubt(&file), (vec![first, second], Some(second)));
    store(finish(second, finished(Status::Changed, None)));
    assert_eq!(in_doubt(&file), (vec![first], None));
    store(mark_at_risk(third));
    assert_eq!(file.state().unwrap().at_risk.len(), 2, "the file forgets rows that are done");
    // An older row does not become the newest when its doubt ends, and holds up no other after that of the newest.
    store(mark_at_risk(fourth));
    store(Record::Lost { row: first, members: [(format!("member{first}"), 5.into())].into() });
    assert_eq!(in_doubt(&file), (vec![third, fourth], Some(fourth)));
    store(Record::Lost { row: fourth, members: Members::new() });
    assert_eq!(in_doubt(&file), (vec![third], None));
    // The member of this row is known to be cleared, so no row has to wait for it.
    store(Record::Cleared(vec![format!("member{third}")]));
    store(mark_at_risk(third));
    assert_eq!(in_doubt(&file), (vec![third], None));
    drop(run);
    let revert = file.revert_file().unwrap();
    assert_eq!(in_doubt(&revert), (vec![third], None));
    let cleared = revert.state().unwrap().cleared;
    assert!(cleared[&format!("member{first}")].contains_key(&first), "{cleared:?}");
}

#[test]
fn an_update_of_a_revert_that_was_not_sent_leaves_the_doubt_of_its_plan() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 3).unwrap();
    let row = file.open_rows(&[]).unwrap()[0].row;
    block_on(file.start_run().unwrap().store(mark_at_risk(row))).unwrap();
    let revert = file.revert_file().unwrap();
    let run = revert.start_run().unwrap();
    block_on(run.store(mark_at_risk(row))).unwrap();
    block_on(run.store(Record::NotSent { row, before: Vec::new() })).unwrap();
    assert_eq!(revert.counts().unwrap()[&Status::Pending], 1);
    assert_eq!(in_doubt(&revert), (vec![row], Some(row)));
}

#[test]
fn the_oldest_members_at_risk_give_way_if_all_are_too_long_for_the_file() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 300).unwrap();
    let rows: Vec<u64> = file.open_rows(&[]).unwrap().iter().map(|row| row.row).take(3).collect();
    let run = file.start_run().unwrap();
    for row in &rows {
        let at_risk = [("member".to_owned(), serde_json::json!("x".repeat(7 << 20)))].into();
        let attempt = Attempt { at_risk, ..Attempt::default() };
        block_on(run.store(Record::Sent { row: *row, attempt, at_ms: NOW })).unwrap();
    }
    drop(run);
    assert_eq!(in_doubt(&PlanFile::open(&folder.plan()).unwrap()).0, rows[1..]);
}
