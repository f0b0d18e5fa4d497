//! A plan and the plan that reverts it: which file it is, and what is in it.

use std::fs;

use replyio::Field;
use replyio::plan::file::{
    Attempt, Builder, FileErrorKind, Finished, Header, PlanFile, PlannedRow, Record, Run, Unplanned,
};
use replyio::plan::{Change, Status, Value};

use super::{Folder, NOW, block_on, build, finish, finished, header, mark_sent, planned};

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn send(run: &Run, row: u64, overwritten: Vec<(Field, Value)>, finished: Finished) {
    block_on(run.store(Record::Sent { row, attempt: Attempt { overwritten, ..Attempt::default() }, at_ms: NOW }))
        .unwrap();
    block_on(run.store(finish(row, finished))).unwrap();
}

fn rows(file: &PlanFile) -> Vec<PlannedRow> {
    let mut rows = Vec::new();
    let take = |row| {
        rows.push(row);
        Ok(())
    };
    file.revert_rows(take).unwrap();
    rows
}

/// The numbers of the rows of a plan.
fn numbers(file: &PlanFile) -> Vec<u64> {
    let mut numbers = Vec::new();
    file.for_each_row(|row| numbers.push(row.row)).unwrap();
    numbers
}

fn of(row: u64, field: Field, before: Value, after: Value) -> (u64, Change) {
    (row, Change::new(field, before, after))
}

#[test]
fn a_revert_expects_what_was_answered_and_restores_what_was_overwritten() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let run = file.start_run().unwrap();
    let answered = |values: Vec<(Field, Value)>| Finished { answered: values, ..Finished::new(Status::Changed, NOW) };
    send(&run, 0, vec![(Field::City, text("Paris"))], answered(Vec::new()));
    send(&run, 1, Vec::new(), answered(vec![(Field::City, text("BERGEN"))]));
    // The answers have the previous city, and the previous owner of the next: the updates were ignored, or the answers
    // were old. A revert finds out.
    send(&run, 2, Vec::new(), answered(vec![(Field::City, text("Oslo 2 äöü"))]));
    send(&run, 3, Vec::new(), answered(vec![(Field::City, text("Oslo 3 äöü")), (Field::OwnerUserId, Value::Null)]));
    // Somebody had emptied it, and the answer has no city: `""` and null are the same.
    send(&run, 5, vec![(Field::City, text(""))], answered(vec![(Field::City, Value::Null)]));
    block_on(run.store(mark_sent(6, NOW))).unwrap();
    send(&run, 7, Vec::new(), finished(Status::Failed, Some("refused".to_owned())));
    drop(run);
    let found: Vec<(u64, Change)> = rows(&file)
        .into_iter()
        .flat_map(|row| row.changes.into_iter().map(move |change| (row.row, change)).collect::<Vec<_>>())
        .collect();
    let owner = |row: u64| of(row, Field::OwnerUserId, Value::Integer(row.cast_signed()), Value::Null);
    let expected = [
        of(0, Field::City, text("Bergen 0 äöü"), text("Paris")),
        owner(0),
        of(1, Field::City, text("BERGEN"), text("Oslo 1 äöü")),
        owner(1),
        of(2, Field::City, text("Bergen 2 äöü"), text("Oslo 2 äöü")),
        owner(2),
        of(3, Field::City, text("Bergen 3 äöü"), text("Oslo 3 äöü")),
        owner(3),
        of(5, Field::City, text("Bergen 5 äöü"), text("")),
        owner(5),
        of(6, Field::City, text("Bergen 6 äöü"), text("Oslo 6 äöü")),
        owner(6),
    ];
    let key = |(row, change): &(u64, Change)| (*row, change.field.name());
    let (mut found, mut expected) = (found, expected.to_vec());
    found.sort_unstable_by_key(key);
    expected.sort_unstable_by_key(key);
    assert_eq!(found, expected);
}

#[test]
fn a_revert_restores_fields_that_no_row_names_and_that_an_update_spoiled() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let unplanned_of =
        |field: Field, before: &str, answered: Value| Unplanned { field, before: text(before), answered };
    let with = |unplanned: Vec<Unplanned>| Finished { unplanned, ..Finished::new(Status::Changed, NOW) };
    let run = file.start_run().unwrap();
    let spoiled = with(vec![
        unplanned_of(Field::TimeZoneId, "Europe/Oslo", Value::Null),
        unplanned_of(Field::Phone, "0150", text("+47 150")),
    ]);
    send(&run, 0, Vec::new(), spoiled.clone());
    // The second time, the service keeps the phone number.
    send(&run, 1, Vec::new(), spoiled);
    send(&run, 1, Vec::new(), with(vec![unplanned_of(Field::TimeZoneId, "Europe/Rome", Value::Null)]));
    drop(run);
    // These fields are no changes of the plan.
    let file = PlanFile::open(&folder.plan()).unwrap();
    let planned = file.changes_of(&[0, 1]).unwrap();
    assert!(planned.values().flatten().all(|change| ![Field::TimeZoneId, Field::Phone].contains(&change.field)));
    assert_eq!(file.count_changes().unwrap(), file.first_changes(100).unwrap().len() as u64);
    let mut shown = 0;
    file.for_each_change(|_| shown += 1).unwrap();
    assert_eq!(file.count_changes().unwrap(), shown);
    let restored: Vec<(u64, Change)> = rows(&file)
        .into_iter()
        .flat_map(|row| row.changes.into_iter().map(move |change| (row.row, change)).collect::<Vec<_>>())
        .filter(|(_, change)| [Field::TimeZoneId, Field::Phone].contains(&change.field))
        .collect();
    let unplanned = |row, field, before, after: &str| {
        (row, Change { is_planned: false, ..Change::new(field, before, text(after)) })
    };
    let expected = [
        unplanned(0, Field::TimeZoneId, Value::Null, "Europe/Oslo"),
        unplanned(0, Field::Phone, text("+47 150"), "0150"),
        unplanned(1, Field::TimeZoneId, Value::Null, "Europe/Rome"),
    ];
    assert_eq!(restored, expected);
    let revert = file.revert_file().unwrap();
    let planned = revert.changes_of(&[0, 1]).unwrap();
    assert_eq!(planned.values().flatten().filter(|change| !change.is_planned).count(), 3);

    // The revert restores the time zone of row 0, leaves its phone, and its own update spoils the phone of row 1.
    let run = revert.start_run().unwrap();
    send(&run, 0, Vec::new(), Finished { left: vec![Field::Phone], ..Finished::new(Status::Changed, NOW) });
    send(&run, 1, Vec::new(), with(vec![unplanned_of(Field::Phone, "0160", text("+47 160"))]));
    drop(run);
    let shown = revert.changes_of(&[0, 1]).unwrap();
    assert!(!shown[&0].iter().any(|change| change.field == Field::Phone), "it was not restored");
    let back: Vec<(u64, Change)> = rows(&revert)
        .into_iter()
        .flat_map(|row| row.changes.into_iter().map(move |change| (row.row, change)).collect::<Vec<_>>())
        .filter(|(_, change)| !change.is_planned)
        .collect();
    // No row named the time zone, so nothing makes it empty again.
    assert_eq!(back, [unplanned(1, Field::Phone, text("+47 160"), "0160")]);
    PlanFile::open(revert.path()).unwrap();
}

#[test]
fn a_plan_that_a_run_uses_is_not_reverted() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let run = file.start_run().unwrap();
    send(&run, 0, Vec::new(), finished(Status::Changed, None));
    let refused = PlanFile::open(&folder.plan()).unwrap().revert_file().err().unwrap();
    assert!(matches!(refused.kind(), FileErrorKind::Locked(_)), "{refused}");
    assert!(!folder.path().join("plan.revert.replyio").exists());
    drop(run);
    assert_eq!(file.revert_file().unwrap().counts().unwrap()[&Status::Pending], 1);
}

#[test]
fn a_revert_is_gone_on_with_until_more_of_its_plan_is_written() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let write = |row| send(&file.start_run().unwrap(), row, Vec::new(), finished(Status::Changed, None));
    write(0);
    let first = file.revert_file().unwrap();
    assert_eq!(first.path(), folder.path().join("plan.revert.replyio"));
    assert_eq!(first.header().parent.as_ref(), Some(&file.header().identity));
    assert_ne!(first.header().identity, file.header().identity);
    assert!(first.header().is_revert());
    assert_eq!(first.counts().unwrap()[&Status::Pending], 1);
    let again = file.revert_file().unwrap();
    assert_eq!((again.path(), again.header()), (first.path(), first.header()));
    send(&first.start_run().unwrap(), 0, Vec::new(), finished(Status::Changed, None));
    write(1);
    let second = file.revert_file().unwrap();
    assert_eq!(second.path(), folder.path().join("plan.revert2.replyio"));
    assert_eq!(numbers(&second), [1], "the first revert has restored row 0");
    // The same rows, sent once more, are not the same any more.
    write(1);
    assert_eq!(file.revert_file().unwrap().path(), folder.path().join("plan.revert3.replyio"));
    // A revert is a plan too.
    let back = first.revert_file().unwrap();
    assert_eq!(back.path(), folder.path().join("plan.revert.revert.replyio"));
    assert_eq!(rows(&first)[0].changes[0].after, planned(0).changes[0].after);
}

#[test]
fn what_only_has_the_name_of_a_revert_is_refused_and_left_alone() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    send(&file.start_run().unwrap(), 0, Vec::new(), finished(Status::Changed, None));
    let path = folder.path().join("plan.revert.replyio");
    let is_refused = |what: &str| {
        let error = file.revert_file().err().unwrap();
        assert_eq!(error.path(), path, "{what}");
        assert!(matches!(error.kind(), FileErrorKind::Foreign(_)), "{what}: {error}");
        assert!(error.to_string().contains("move it away"), "{error}");
    };
    // The revert of an older plan of the same name, another plan, and a copy of this one.
    let other = Folder::new();
    let older = build(&other.plan(), 10).unwrap();
    send(&older.start_run().unwrap(), 3, Vec::new(), finished(Status::Changed, None));
    fs::copy(older.revert_file().unwrap().path(), &path).unwrap();
    is_refused("the revert of another plan");
    fs::copy(other.plan(), &path).unwrap();
    is_refused("another plan");
    fs::copy(folder.plan(), &path).unwrap();
    is_refused("the plan itself");
    fs::write(&path, "a text of mine that is long enough for a page".repeat(200)).unwrap();
    is_refused("a text");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    is_refused("a folder");
    fs::remove_dir(&path).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        is_refused("a link that leads nowhere");
        assert!(!folder.path().join("nowhere").exists());
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(file.revert_file().unwrap().counts().unwrap()[&Status::Pending], 1);
}

#[test]
fn a_plan_knows_how_many_fields_it_empties() {
    let folder = Folder::new();
    let mut builder = Builder::create(&folder.plan(), &header()).unwrap();
    for row in 0..10 {
        let change = |field, after| Change::new(field, text("Oslo"), after);
        let mut changes = vec![change(Field::City, if row < 3 { Value::Null } else { text("Bergen") })];
        changes.extend((row < 2).then(|| change(Field::Country, text(""))));
        builder.add(PlannedRow { changes, ..planned(row) }).unwrap();
    }
    let sealed = builder.seal(10).unwrap();
    assert_eq!(sealed.cleared(), 5);
    assert_eq!(PlanFile::open(&folder.plan()).unwrap().cleared(), 5);
    assert_eq!(build(&folder.path().join("other.replyio"), 10).unwrap().cleared(), 0);
}

#[test]
fn a_damaged_revert_is_named_and_another_one_is_made_when_it_is_moved_away() {
    let folder = Folder::new();
    let run = build(&folder.plan(), 10).unwrap().start_run().unwrap();
    block_on(run.store(mark_sent(0, NOW))).unwrap();
    block_on(run.store(finish(0, finished(Status::Changed, None)))).unwrap();
    drop(run);
    let file = PlanFile::open(&folder.plan()).unwrap();
    let path = file.revert_file().unwrap().path().to_owned();
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len() - 4_096;
    bytes.iter_mut().skip(end).for_each(|byte| *byte ^= 0x55);
    fs::write(&path, bytes).unwrap();
    let error = file.revert_file().err().unwrap().to_string();
    assert!(error.contains("is a damaged revert") && error.contains("move it away, then revert again"), "{error}");
    fs::rename(&path, folder.path().join("away")).unwrap();
    assert_eq!(file.revert_file().unwrap().counts().unwrap()[&Status::Pending], 1);
}

#[test]
fn a_revert_that_is_done_or_was_reverted_is_not_taken_for_the_next_one() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let run = file.start_run().unwrap();
    send(&run, 0, Vec::new(), finished(Status::Changed, None));
    send(&run, 1, Vec::new(), finished(Status::Changed, None));
    send(&run, 2, Vec::new(), finished(Status::Changed, None));
    drop(run);
    let first = file.revert_file().unwrap();
    send(&first.start_run().unwrap(), 0, Vec::new(), finished(Status::Changed, None));
    // A part of it is to be done yet, so it is gone on with, until somebody reverts that part.
    assert_eq!(file.revert_file().unwrap().path(), first.path());
    let back = first.revert_file().unwrap();
    let second = file.revert_file().unwrap();
    assert_eq!(second.path(), folder.path().join("plan.revert2.replyio"));
    assert_eq!(numbers(&second), [1, 2], "the first revert has restored row 0");
    drop(back);
    let run = second.start_run().unwrap();
    send(&run, 1, Vec::new(), finished(Status::Changed, None));
    assert_eq!(file.revert_file().unwrap().path(), second.path());
    send(&run, 2, Vec::new(), finished(Status::Failed, None));
    drop(run);
    let third = file.revert_file().unwrap();
    assert_eq!(third.path(), folder.path().join("plan.revert3.replyio"));
    assert_eq!(numbers(&third), [2]);
}

#[test]
fn a_revert_of_nothing_is_made_once() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let first = file.revert_file().unwrap();
    assert_eq!(file.revert_file().unwrap().path(), first.path());
}

#[test]
fn an_empty_revert_of_an_earlier_plan_of_the_name_is_replaced() {
    let folder = Folder::new();
    let earlier = build(&folder.plan(), 10).unwrap();
    earlier.revert_file().unwrap();
    fs::remove_file(folder.plan()).unwrap();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file, &[0]);
    assert_eq!(held_by(&file), None);
    assert_eq!(numbers(&file.revert_file().unwrap()), [0]);
    assert_eq!(held_by(&file).as_deref(), FIRST);
}

#[test]
fn a_revert_whose_making_was_killed_is_made_again() {
    let folder = Folder::new();
    let path = folder.path().join("plan.revert.replyio");
    let file = build(&folder.plan(), 10).unwrap();
    send(&file.start_run().unwrap(), 0, Vec::new(), finished(Status::Changed, None));
    // What a kill leaves: the name alone, or rows without a seal.
    fs::write(&path, "").unwrap();
    assert_eq!(file.revert_file().unwrap().counts().unwrap()[&Status::Pending], 1);
    let half_made = |folder: &Folder, header: &Header| {
        let path = folder.path().join("half.replyio");
        let mut builder = Builder::create(&path, header).unwrap();
        builder.add(planned(0)).unwrap();
        fs::copy(&path, folder.path().join("plan.revert.replyio")).unwrap();
    };
    fs::remove_file(&path).unwrap();
    half_made(&folder, &Header { parent: Some(file.header().identity.clone()), generation: 1, ..header() });
    let revert = file.revert_file().unwrap();
    assert_eq!((revert.path(), revert.counts().unwrap()[&Status::Pending]), (path.as_path(), 1));
    // What somebody else plans under the name is not ours to remove.
    fs::remove_file(&path).unwrap();
    half_made(&folder, &header());
    let error = file.revert_file().err().unwrap();
    assert!(matches!(error.kind(), FileErrorKind::Foreign(_)), "{error}");
    assert!(path.exists());
    // Nor is one that is being made.
    fs::remove_file(&path).unwrap();
    let parent = Some(file.header().identity.clone());
    let builder = Builder::create(&path, &Header { parent, generation: 1, ..header() }).unwrap();
    let error = file.revert_file().err().unwrap();
    assert!(matches!(error.kind(), FileErrorKind::Locked(_)), "{error}");
    drop(builder);
    assert_eq!(file.revert_file().unwrap().counts().unwrap()[&Status::Pending], 1);
}

#[test]
fn an_update_of_a_revert_that_was_not_sent_leaves_the_values_that_its_plan_stored() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 3).unwrap();
    let phone = (Field::Phone, text("1"));
    let run = file.start_run().unwrap();
    let attempt = Attempt { unnamed: vec![phone.clone()], ..Attempt::default() };
    block_on(run.store(Record::Sent { row: 0, attempt, at_ms: NOW })).unwrap();
    drop(run);
    let revert = file.revert_file().unwrap();
    let unnamed = || {
        let changes = revert.changes_of(&[0]).unwrap().remove(&0).unwrap();
        changes
            .into_iter()
            .filter(|change| !change.is_planned)
            .map(|change| (change.field, change.before))
            .collect::<Vec<_>>()
    };
    assert_eq!(unnamed(), std::slice::from_ref(&phone));
    // The description is empty in the plan's account, and another person filled it before the revert.
    let added = (Field::Description, text("new"));
    let run = revert.start_run().unwrap();
    let attempt = Attempt { unnamed: vec![phone.clone(), added], ..Attempt::default() };
    block_on(run.store(Record::Sent { row: 0, attempt, at_ms: NOW })).unwrap();
    assert_eq!(unnamed().len(), 2);
    block_on(run.store(Record::NotSent { row: 0, before: Vec::new() })).unwrap();
    assert_eq!(unnamed(), [phone]);
    assert_eq!(revert.counts().unwrap()[&Status::Pending], 1);
}

/// Ends some rows of a plan.
fn end(file: &PlanFile, rows: &[u64], status: Status) {
    let run = file.start_run().unwrap();
    for row in rows {
        block_on(run.store(finish(*row, finished(status, None)))).unwrap();
    }
}

fn change(file: &PlanFile, rows: &[u64]) {
    let run = file.start_run().unwrap();
    for row in rows {
        send(&run, *row, Vec::new(), finished(Status::Changed, None));
    }
}

/// Changes rows by a plan and restores them by its revert. Returns this revert and its own.
fn reverted(file: &PlanFile, rows: &[u64]) -> (PlanFile, PlanFile) {
    change(file, rows);
    let first = file.revert_file().unwrap();
    change(&first, rows);
    let back = first.revert_file().unwrap();
    (first, back)
}

/// The name of the revert for which a run of a plan is refused.
fn held_by(file: &PlanFile) -> Option<String> {
    let revert = file.blocked_by().unwrap();
    revert.map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
}

const FIRST: Option<&str> = Some("plan.revert.replyio");

#[test]
fn only_a_complete_revert_of_a_revert_sets_a_plan_free() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file, &[0, 1]);
    let first = file.revert_file().unwrap();
    assert_eq!(held_by(&file).as_deref(), FIRST, "the revert has rows that it has not tried");
    change(&first, &[0, 1]);
    let second = first.revert_file().unwrap();
    assert_eq!(held_by(&file).as_deref(), FIRST, "the revert of the revert has restored nothing");
    change(&second, &[0]);
    assert_eq!(held_by(&file).as_deref(), FIRST, "it has restored a part");
    for status in [Status::Unknown, Status::Failed] {
        end(&second, &[1], status);
        assert_eq!(held_by(&file).as_deref(), FIRST, "a row is {status:?}");
    }
    for can_overwrite in [true, false] {
        let run = second.start_run().unwrap();
        let outcome = Finished { can_overwrite, ..finished(Status::Conflict, None) };
        block_on(run.store(finish(1, outcome))).unwrap();
        assert_eq!(held_by(&file).is_some(), can_overwrite);
    }
    end(&second, &[1], Status::Unchanged);
    assert_eq!(held_by(&file), None);
    // The third generation is the revert of the plan again, from its first row on.
    let third = second.revert_file().unwrap();
    assert_eq!(held_by(&file).as_deref(), FIRST, "someone begins to restore the values of the revert");
    end(&third, &[0], Status::Unchanged);
    assert_eq!(held_by(&file).as_deref(), FIRST, "the accounts have the values of the revert");
    let fourth = third.revert_file().unwrap();
    assert!(fourth.counts().unwrap().is_empty());
    assert_eq!(held_by(&file), None);
    // And a revert that was undone once may be resumed with rows=.
    change(&first, &[0]);
    assert_eq!(held_by(&file).as_deref(), FIRST, "it has written since");
}

#[test]
fn a_revert_that_has_restored_nothing_is_undone_by_its_revert() {
    for statuses in [[Status::Pending, Status::Pending], [Status::Conflict, Status::Pending]] {
        let folder = Folder::new();
        let file = build(&folder.plan(), 10).unwrap();
        change(&file, &[0, 1]);
        let first = file.revert_file().unwrap();
        if statuses.contains(&Status::Conflict) {
            end(&first, &[0], Status::Conflict);
        }
        assert_eq!(held_by(&file).as_deref(), FIRST);
        let second = first.revert_file().unwrap();
        assert!(second.counts().unwrap().is_empty());
        assert_eq!((held_by(&file), held_by(&first)), (None, None));
        // Whoever reverts that as well still has a way out.
        second.revert_file().unwrap();
        assert_eq!(held_by(&file).as_deref(), FIRST);
        let again = first.revert_file().unwrap();
        assert_eq!(again.path(), folder.path().join("plan.revert.revert2.replyio"));
        assert_eq!(held_by(&file), None);
        // If the revert is resumed after all, it holds its plan again.
        change(&first, &[1]);
        assert_eq!(held_by(&file).as_deref(), FIRST);
    }
}

#[test]
fn a_revert_that_finds_each_account_as_it_was_undoes_a_revert() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file, &[0, 1]);
    let first = file.revert_file().unwrap();
    change(&first, &[0, 1]);
    end(&first.revert_file().unwrap(), &[0, 1], Status::Unchanged);
    assert_eq!(held_by(&file), None);
}

#[test]
fn a_complete_revert_of_a_revert_counts_no_more_if_an_earlier_one_is_taken_back_after_it() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file, &[0, 1]);
    let first = file.revert_file().unwrap();
    change(&first, &[0, 1]);
    let part = first.revert_file().unwrap();
    change(&part, &[0]);
    end(&part, &[1], Status::Conflict);
    let rest = first.revert_file().unwrap();
    assert_eq!(numbers(&rest), [1]);
    change(&rest, &[1]);
    assert_eq!(held_by(&file), None, "the two have written everything again");
    std::thread::sleep(std::time::Duration::from_millis(5));
    let taken_back = part.revert_file().unwrap();
    change(&taken_back, &[0]);
    assert_eq!(held_by(&file).as_deref(), FIRST);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let again = first.revert_file().unwrap();
    assert_eq!(numbers(&again), [0]);
    change(&again, &[0]);
    assert_eq!(held_by(&file), None);
}

#[test]
fn a_revert_with_rows_holds_its_plan_whatever_became_of_them() {
    for status in [Status::Failed, Status::Conflict, Status::NotFound, Status::Unchanged] {
        let folder = Folder::new();
        let file = build(&folder.plan(), 10).unwrap();
        change(&file, &[0, 1]);
        let first = file.revert_file().unwrap();
        end(&first, &[0, 1], status);
        assert_eq!(held_by(&file).as_deref(), FIRST, "{status:?}");
        assert!(first.revert_file().unwrap().counts().unwrap().is_empty());
        assert_eq!(held_by(&file), None, "its revert sets the plan free");
    }
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    assert!(file.revert_file().unwrap().counts().unwrap().is_empty());
    assert_eq!(held_by(&file), None, "a plan that has written nothing was not reverted");
}

#[test]
fn a_file_in_place_of_a_revert_holds_the_plan_until_it_is_moved_away() {
    for content in [Vec::new(), vec![0; 8_192], b"id,city\n1,Oslo\n".to_vec()] {
        let folder = Folder::new();
        let file = build(&folder.plan(), 10).unwrap();
        change(&file, &[0]);
        let path = folder.path().join("plan.revert.replyio");
        fs::write(&path, content).unwrap();
        assert_eq!(held_by(&file).as_deref(), FIRST);
        fs::rename(&path, folder.path().join("away")).unwrap();
        assert_eq!(held_by(&file), None);
    }
    // The plan of another table is not a revert of this one.
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    build(&folder.path().join("plan.revert.replyio"), 10).unwrap();
    assert_eq!(held_by(&file), None);
}

#[test]
fn a_later_revert_has_the_rows_that_no_revert_in_effect_has_restored() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file, &[0, 1, 2, 3]);
    let first = file.revert_file().unwrap();
    change(&first, &[0, 1]);
    end(&first, &[2], Status::Conflict);
    end(&first, &[3], Status::Unchanged);
    let later = || rows(&file).iter().map(|row| row.row).collect::<Vec<_>>();
    assert_eq!(later(), [2, 3]);
    // The revert of the revert writes row 0 again, and may have written row 1 again.
    let back = first.revert_file().unwrap();
    assert_eq!(numbers(&back), [0, 1]);
    change(&back, &[0]);
    end(&back, &[1], Status::Unknown);
    assert_eq!(later(), [0, 1, 2, 3]);
    // The third generation restores row 0 again.
    let third = back.revert_file().unwrap();
    change(&third, &[0]);
    assert_eq!(later(), [1, 2, 3]);
}

#[test]
fn a_row_that_its_plan_has_sent_after_a_revert_is_reverted_again() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file, &[0]);
    end(&file, &[1], Status::Unknown);
    let first = file.revert_file().unwrap();
    change(&first, &[0, 1]);
    assert_eq!(rows(&file), []);
    let later = Finished::new(Status::Changed, first.header().created_at_ms + 1);
    send(&file.start_run().unwrap(), 1, Vec::new(), later);
    assert_eq!(rows(&file).iter().map(|row| row.row).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_row_whose_update_was_in_flight_after_a_revert_is_reverted_again() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file, &[0]);
    end(&file, &[1], Status::Unknown);
    let first = file.revert_file().unwrap();
    change(&first, &[0, 1]);
    assert_eq!(rows(&file), []);
    block_on(file.start_run().unwrap().store(mark_sent(1, first.header().created_at_ms + 1))).unwrap();
    assert_eq!(rows(&file).iter().map(|row| row.row).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_revert_that_is_older_than_a_revert_of_another_one_is_not_resumed() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file, &[0]);
    let first = file.revert_file().unwrap();
    change(&first, &[0]);
    let empty = file.revert_file().unwrap();
    assert_eq!(numbers(&empty), [0_u64; 0]);
    change(&first.revert_file().unwrap(), &[0]);
    let third = file.revert_file().unwrap();
    assert_eq!(third.path(), folder.path().join("plan.revert3.replyio"));
    assert_eq!(numbers(&third), [0]);

    // The revert of the revert may also be older, if nobody has applied it before.
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let (_, back) = reverted(&file, &[0]);
    assert_eq!(numbers(&file.revert_file().unwrap()), [0_u64; 0]);
    change(&back, &[0]);
    assert_eq!(numbers(&file.revert_file().unwrap()), [0]);

    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file, &[0, 1, 2]);
    let first = file.revert_file().unwrap();
    end(&first, &[0], Status::Conflict);
    change(&first, &[1, 2]);
    assert_eq!(numbers(&file.revert_file().unwrap()), [0]);
    change(&first.revert_file().unwrap(), &[1, 2]);
    assert_eq!(numbers(&file.revert_file().unwrap()), [0, 1, 2]);
}

#[test]
fn a_revert_of_a_revert_is_not_resumed_after_a_newer_revert_of_the_plan() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let (_, back) = reverted(&file, &[0, 1]);
    change(&back, &[0]);
    assert_eq!(held_by(&back), None);
    let second = file.revert_file().unwrap();
    assert_eq!(held_by(&back).as_deref(), Some("plan.revert2.replyio"));
    change(&second.revert_file().unwrap(), &[]);
    assert_eq!(held_by(&back), None, "the newer revert was undone");
}

#[test]
fn a_revert_is_not_resumed_after_a_newer_revert_of_a_revert() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file, &[0, 1]);
    let first = file.revert_file().unwrap();
    change(&first, &[0]);
    change(&file, &[2]);
    let second = file.revert_file().unwrap();
    assert_eq!(numbers(&second), [1, 2]);
    change(&second, &[1, 2]);
    assert_eq!(held_by(&first), None);
    let again = second.revert_file().unwrap();
    assert_eq!(held_by(&first).as_deref(), Some("plan.revert2.revert.replyio"), "it may be in use");
    change(&again, &[1, 2]);
    change(&again.revert_file().unwrap(), &[1, 2]);
    assert_eq!(held_by(&first), None, "the newer file was undone");

    // The same, one generation further.
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let (first, back) = reverted(&file, &[0, 1]);
    change(&back, &[0]);
    change(&file, &[2]);
    change(&first, &[1]);
    let newer = first.revert_file().unwrap();
    assert_eq!(newer.path(), folder.path().join("plan.revert.revert2.replyio"));
    change(&newer, &[1]);
    assert_eq!(held_by(&back), None);
    change(&newer.revert_file().unwrap(), &[1]);
    assert_eq!(held_by(&back).as_deref(), Some("plan.revert.revert2.revert.replyio"));
}

#[test]
fn a_plan_is_not_reverted_while_a_run_uses_a_revert_of_its_revert() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let (_, back) = reverted(&file, &[0, 1]);
    let run = back.start_run().unwrap();
    let error = file.revert_file().err().unwrap();
    assert!(matches!(error.kind(), FileErrorKind::Locked(_)), "{error}");
    assert_eq!(error.path(), back.path());
    drop(run);
    file.revert_file().unwrap();
}

#[test]
fn the_times_of_updates_decide_which_file_wrote_a_row_last() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let (_, back) = reverted(&file, &[0]);
    let at = |at_ms| Finished::new(Status::Changed, at_ms);
    block_on(back.start_run().unwrap().store(mark_sent(0, NOW + 1))).unwrap();
    let second = file.revert_file().unwrap();
    let created_at_ms = second.header().created_at_ms;
    send(&second.start_run().unwrap(), 0, Vec::new(), at(created_at_ms + 2));
    assert_eq!(rows(&file), []);
    send(&back.start_run().unwrap(), 0, Vec::new(), at(created_at_ms + 3));
    assert_eq!(rows(&file).len(), 1);
}

#[test]
fn a_value_that_the_plan_never_wrote_is_not_expected_by_its_revert() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file, &[0]);
    let first = file.revert_file().unwrap();
    // With permission to overwrite, the revert overwrites what a colleague wrote. Its own revert restores that.
    send(&first.start_run().unwrap(), 0, vec![(Field::City, text("Paris"))], finished(Status::Changed, None));
    change(&first.revert_file().unwrap(), &[0]);
    let city = |changes: &[Change]| changes.iter().find(|change| change.field == Field::City).unwrap().clone();
    let Change { before, after, .. } = city(&planned(0).changes);
    assert_eq!(city(&rows(&file)[0].changes), Change::new(Field::City, after, before));
}

#[test]
fn only_an_answer_with_the_previous_value_puts_a_restored_row_in_doubt() {
    let restored = |finished: Finished| {
        let folder = Folder::new();
        let file = build(&folder.plan(), 10).unwrap();
        change(&file, &[0]);
        send(&file.revert_file().unwrap().start_run().unwrap(), 0, Vec::new(), finished);
        rows(&file).is_empty()
    };
    let changed = || finished(Status::Changed, None);
    let city = planned(0).changes.iter().find(|change| change.field == Field::City).unwrap().clone();
    let answered = |value: Value| Finished { answered: vec![(Field::City, value)], ..changed() };
    assert!(restored(changed()));
    assert!(restored(answered(text("trimmed"))));
    assert!(restored(Finished { left: vec![Field::Phone], stored_otherwise: true, ..changed() }));
    assert!(!restored(answered(city.after)), "the service may have ignored the update");
}

#[test]
fn a_revert_restores_what_the_revert_of_a_revert_has_overwritten() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let (_, back) = reverted(&file, &[0]);
    let colleague = vec![(Field::City, text("Paris"))];
    send(&back.start_run().unwrap(), 0, colleague, finished(Status::Changed, None));
    let second = file.revert_file().unwrap();
    let (planned, found) = (planned(0), rows(&file));
    let city = |changes: &[Change]| changes.iter().find(|change| change.field == Field::City).unwrap().clone();
    assert_eq!(city(&found[0].changes), Change::new(Field::City, city(&planned.changes).after, text("Paris")));
    assert_eq!((found[0].account_id, found[0].key.as_ref()), (planned.account_id, planned.key.as_ref()));
    assert_eq!(numbers(&second), [0]);
}

#[test]
fn what_a_revert_of_a_revert_has_overwritten_is_restored_although_a_later_answer_is_lost() {
    let city = |changes: &[Change]| changes.iter().find(|change| change.field == Field::City).unwrap().clone();
    let colleague = || vec![(Field::City, text("Paris"))];
    let restored = |file: &PlanFile| city(&rows(file)[0].changes).after;
    // Its own answer is lost.
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let (_, back) = reverted(&file, &[0]);
    send(&back.start_run().unwrap(), 0, colleague(), finished(Status::Unknown, None));
    assert_eq!(restored(&file), text("Paris"));
    // That of the next revert is lost, or still has the previous value.
    let previous = city(&planned(0).changes).after;
    let ignored = Finished { answered: vec![(Field::City, previous)], ..finished(Status::Changed, None) };
    for outcome in [finished(Status::Unknown, Some("no answer".to_owned())), ignored] {
        let folder = Folder::new();
        let file = build(&folder.plan(), 10).unwrap();
        let (_, back) = reverted(&file, &[0]);
        send(&back.start_run().unwrap(), 0, colleague(), finished(Status::Changed, None));
        send(&file.revert_file().unwrap().start_run().unwrap(), 0, Vec::new(), outcome);
        assert_eq!(restored(&file), text("Paris"));
    }
}

#[test]
fn a_clock_that_was_set_back_does_not_matter_in_a_chain_of_reverts() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let at = |at_ms| Finished::new(Status::Changed, at_ms);
    send(&file.start_run().unwrap(), 0, Vec::new(), at(NOW + 100));
    let mut last = file.clone();
    for (generation, at_ms) in (1..).zip([NOW + 50, NOW + 55, NOW + 60]) {
        last = last.revert_file().unwrap();
        send(&last.start_run().unwrap(), 0, Vec::new(), at(at_ms));
        assert_eq!(rows(&file).is_empty(), generation % 2 == 1, "{generation}");
    }
}

#[test]
fn a_clock_that_was_set_back_does_not_hide_what_a_newer_file_wrote() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let (_, back) = reverted(&file, &[0]);
    change(&back, &[0]);
    let second = file.revert_file().unwrap();
    let created_at_ms = second.header().created_at_ms;
    let at = |at_ms| Finished::new(Status::Changed, at_ms);
    send(&second.start_run().unwrap(), 0, Vec::new(), at(created_at_ms + 1));
    // The clock is set back by an hour before the last of these files writes the row again.
    let again = second.revert_file().unwrap();
    send(&again.start_run().unwrap(), 0, Vec::new(), at(created_at_ms - 3_600_000));
    assert_eq!(numbers(&file.revert_file().unwrap()), [0]);
}

#[test]
fn a_clock_that_was_ahead_during_a_revert_does_not_hide_what_a_newer_file_wrote() {
    const HOUR: i64 = 3_600_000;
    let at = |file: &PlanFile, later_ms| Finished::new(Status::Changed, file.header().created_at_ms + later_ms);
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let (_, back) = reverted(&file, &[0]);
    send(&back.start_run().unwrap(), 0, Vec::new(), at(&back, HOUR));
    // The clock is right again. This revert restores the row, and the next one leaves it out.
    let second = file.revert_file().unwrap();
    send(&second.start_run().unwrap(), 0, Vec::new(), at(&back, 1));
    assert_eq!(rows(&file), []);

    // The clock is ahead during the second revert of the plan, and right when the first one is reverted once more.
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let (first, back) = reverted(&file, &[0]);
    change(&back, &[0]);
    let second = file.revert_file().unwrap();
    send(&second.start_run().unwrap(), 0, Vec::new(), at(&second, HOUR));
    let again = first.revert_file().unwrap();
    assert_ne!(again.path(), back.path());
    change(&again, &[0]);
    assert_eq!(numbers(&file.revert_file().unwrap()), [0]);
}

#[test]
fn a_plan_that_cannot_be_read_blocks_an_interrupted_revert_of_its_revert() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let (_, back) = reverted(&file, &[0, 1]);
    assert!(back.blocked_by().is_ok());
    fs::write(folder.plan(), [0; 4_096]).unwrap();
    let error = back.blocked_by().err().unwrap();
    assert_eq!(error.path(), folder.plan());
    fs::remove_file(folder.plan()).unwrap();
    assert_eq!(held_by(&back), None);
}

#[test]
fn a_plan_whose_name_is_that_of_a_revert_is_reverted_beside_any_other_file() {
    let folder = Folder::new();
    let file = build(&folder.path().join("data.revert"), 10).unwrap();
    change(&file, &[0]);
    fs::write(folder.path().join("data"), "id,city\n1,Oslo\n").unwrap();
    assert_eq!(numbers(&file.revert_file().unwrap()), [0]);
}

#[test]
fn a_revert_knows_what_the_list_showed_in_the_fields_that_its_plan_kept() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let phone = |row: u64| planned(row).listed.contains(Field::Phone);
    assert!([0, 1, 2, 3].into_iter().all(phone));
    let run = file.start_run().unwrap();
    let attempt = |unnamed: &[(Field, Value)]| Attempt { unnamed: unnamed.to_vec(), ..Attempt::default() };
    // The update of row 1 cleared the field, with permission; that of row 3 may have kept it.
    for (row, unnamed) in [(0, vec![(Field::Phone, text("1"))]), (1, vec![]), (3, vec![(Field::Phone, text("1"))])] {
        block_on(run.store(Record::Sent { row, attempt: attempt(&unnamed), at_ms: NOW })).unwrap();
        if row != 3 {
            block_on(run.store(finish(row, finished(Status::Changed, None)))).unwrap();
        }
    }
    drop(run);
    let found: Vec<_> = rows(&file).iter().map(|row| (row.row, row.listed.contains(Field::Phone))).collect();
    assert_eq!(found, [(0, true), (1, false), (3, true)]);
}

#[test]
fn every_second_generation_writes_what_the_table_says() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let (first, back) = reverted(&file, &[0]);
    let facts = |file: &PlanFile| (file.header().generation, file.header().is_revert(), file.header().is_of_table());
    assert_eq!([&file, &first, &back].map(facts), [(0, false, true), (1, true, false), (2, true, true)]);
    let reopened = PlanFile::open(back.path()).unwrap();
    assert_eq!((facts(&reopened), reopened.header().match_on), (facts(&back), file.header().match_on));
}

#[test]
fn reverts_are_found_behind_a_gap_and_the_next_has_the_next_number() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file, &[0]);
    let first = file.revert_file().unwrap();
    change(&first, &[0]);
    change(&file, &[1, 2]);
    let second = file.revert_file().unwrap();
    change(&second, &[1]);
    fs::rename(first.path(), folder.path().join("away")).unwrap();
    assert_eq!(held_by(&file).as_deref(), Some("plan.revert2.replyio"));
    assert_eq!(file.revert_file().unwrap().path(), second.path(), "it is resumed");
    end(&second, &[2], Status::Unchanged);
    assert_eq!(file.revert_file().unwrap().path(), folder.path().join("plan.revert3.replyio"));
    // The reverts of the others are not its own, and neither are other names.
    let other = build(&folder.path().join("plan.reverted.replyio"), 10).unwrap();
    assert_eq!(held_by(&other), None);
    assert_eq!(held_by(&second), None);
}

#[test]
fn a_revert_that_cannot_be_read_holds_its_plan_and_undoes_nothing() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let (first, second) = reverted(&file, &[0]);
    change(&second, &[0]);
    assert_eq!(held_by(&file), None);
    let damage = |path: &std::path::Path| {
        let mut bytes = fs::read(path).unwrap();
        let end = bytes.len() - 4_096;
        bytes.iter_mut().skip(end).for_each(|byte| *byte ^= 0x55);
        fs::write(path, bytes).unwrap();
    };
    damage(second.path());
    assert_eq!(held_by(&file).as_deref(), FIRST);
    let error = file.revert_file().err().unwrap().to_string();
    assert!(error.contains("may have written values again that no other revert restores"), "{error}");
    fs::write(second.path(), []).unwrap();
    let error = file.revert_file().err().unwrap().to_string();
    assert!(error.contains("whose creation was interrupted"), "{error}");
    damage(first.path());
    assert_eq!(held_by(&file).as_deref(), FIRST);
}

#[test]
fn a_revert_has_the_mark_of_the_key_that_makes_it() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file, &[0]);
    let new_key = replyio::ApiKey::new("another-key-of-the-test").unwrap();
    let revert = file.revert_file_with(Some(&new_key), false).unwrap();
    assert!(revert.header().key.is_of(&new_key) && !revert.header().key.is_of(&super::key()));
    assert!(PlanFile::open(revert.path()).unwrap().header().key.is_of(&new_key));
}

#[test]
fn a_revert_without_its_log_is_recovered_only_if_asked() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file, &[0, 1]);
    let revert = file.revert_file().unwrap();
    let run = revert.start_run().unwrap();
    send(&run, 0, Vec::new(), finished(Status::Changed, None));
    let copy = Folder::new();
    for name in ["plan.replyio", "plan.revert.replyio"] {
        fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    drop(run);
    let file = PlanFile::open(&copy.plan()).unwrap();
    let error = file.revert_file().err().unwrap();
    assert!(matches!(error.kind(), FileErrorKind::NeedsLog(_)), "{error}");
    assert_eq!(held_by(&file).as_deref(), FIRST);
    let again = file.revert_file_with(None, true).unwrap();
    // Its rows may have been sent, so no run would end them all: the next one reads every account again.
    assert_eq!(again.path(), copy.path().join("plan.revert2.replyio"));
    assert_eq!(
        PlanFile::open(&copy.path().join("plan.revert.replyio")).unwrap().counts().unwrap()[&Status::Unknown],
        2
    );
}
