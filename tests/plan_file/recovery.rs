//! A plan whose log is lost: which rows it takes for written, and what its revert is.

use std::fs;

use replyio::plan::Status;
use replyio::plan::file::{Builder, PlanFile, PlannedRow, Run};

use super::{Folder, NOW, block_on, build, finish, finished, header, mark_sent, planned};

fn change(run: &Run, row: u64, status: Status) {
    block_on(run.store(mark_sent(row, NOW))).unwrap();
    block_on(run.store(finish(row, finished(status, None)))).unwrap();
}

fn status(file: &PlanFile, row: u64) -> Status {
    let mut found = None;
    file.for_each_row(|view| found = found.or((view.row == row).then_some(view.status))).unwrap();
    found.unwrap()
}

#[test]
fn a_recovered_plan_takes_each_row_for_written_that_any_kind_of_run_may_have_written() {
    let folder = Folder::new();
    let mut builder = Builder::create(&folder.plan(), &header()).unwrap();
    let unplanned = [Status::Invalid, Status::NotFound, Status::Ambiguous, Status::Failed];
    for row in 0..8 {
        builder.add(PlannedRow { status: Status::Pending, ..planned(row * 5) }).unwrap();
    }
    for (row, status) in (100..).zip(unplanned) {
        builder.add(PlannedRow { status, changes: Vec::new(), ..planned(row) }).unwrap();
    }
    let file = builder.seal(12).unwrap();
    let run = file.start_run().unwrap();
    let ends =
        [Status::Changed, Status::Unchanged, Status::Failed, Status::Conflict, Status::NotFound, Status::Unknown];
    for (row, status) in (0..).map(|row| row * 5).zip(ends) {
        change(&run, row, status);
    }
    drop(run);
    // This one sends the failed row and overwrites the conflict, and its log is lost.
    let run = file.start_run().unwrap();
    change(&run, 10, Status::Changed);
    change(&run, 15, Status::Changed);
    let copy = Folder::new();
    fs::copy(folder.plan(), copy.plan()).unwrap();
    let recovered = PlanFile::recover(&copy.plan()).unwrap();
    let expected = [
        (0, Status::Changed),
        (5, Status::Unchanged),
        (10, Status::Unknown),
        (15, Status::Unknown),
        (20, Status::NotFound),
        (25, Status::Unknown),
        (30, Status::Unknown),
        (100, Status::Invalid),
        (101, Status::NotFound),
        (102, Status::Ambiguous),
        // Nothing was ever to be sent for it.
        (103, Status::Failed),
    ];
    for (row, expected) in expected {
        assert_eq!(status(&recovered, row), expected, "row {row}");
    }
}

#[test]
fn a_recovered_plan_does_not_go_on_with_a_revert_from_before() {
    for finishes in [false, true] {
        let folder = Folder::new();
        let file = build(&folder.plan(), 10).unwrap();
        let run = file.start_run().unwrap();
        change(&run, 0, Status::Changed);
        drop(run);
        let revert = file.revert_file().unwrap();
        if finishes {
            change(&revert.start_run().unwrap(), 0, Status::Changed);
        }
        change(&file.start_run().unwrap(), 1, Status::Changed);
        let later = file.revert_file().unwrap();
        // Without the row that the first revert has restored.
        let left = if finishes { 1 } else { 2 };
        assert_eq!(later.counts().unwrap()[&Status::Pending], left);
        // Keeps the file open while it is copied.
        let run = file.start_run().unwrap();
        change(&run, 2, Status::Changed);
        let copy = Folder::new();
        for name in ["plan.replyio", "plan.revert.replyio", "plan.revert2.replyio"] {
            fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
        }
        let recovered = PlanFile::recover(&copy.plan()).unwrap();
        let whole = recovered.revert_file().unwrap();
        assert_eq!(whole.path(), copy.path().join("plan.revert3.replyio"));
        assert_eq!(whole.counts().unwrap()[&Status::Pending], 6 + left);
        // Recovered, it is as it is: its own revert is gone on with.
        assert_eq!(recovered.revert_file().unwrap().path(), whole.path());
    }
}
