//! A plan that may have no more pages, as of `PRAGMA max_page_count`, stops before the next update, marks nothing, and
//! loses nothing; with more pages the same handle goes on.

use std::fs;
use std::path::Path;

use replyio::plan::Status;
use replyio::plan::file::{Builder, FileError, FileErrorKind, PlanFile, Record};

use super::connections::limit_pages;
use super::{Folder, NOW, block_on, build, finish, finished, header, mark_sent, planned};

pub(crate) const ROWS: u64 = 400;
const MANY: u32 = 1_000_000;
const NOTED: usize = 200;

/// Sends and finishes rows until there is no room, looks that nothing but that is lost, makes room, and goes on. Gives
/// why it stopped.
pub(crate) fn fill_and_go_on(path: &Path, make_room: impl FnOnce()) -> FileError {
    let file = PlanFile::open(path).unwrap();
    let run = file.start_run().unwrap();
    let rows: Vec<u64> = (0..ROWS).filter(|row| row % 5 != 4).collect();
    let long = "x".repeat(2_000);
    let mut done = Vec::new();
    let mut refused = None;
    for row in &rows {
        if let Err(error) = block_on(run.store(mark_sent(*row, 1))) {
            refused = Some((*row, error, Status::Pending));
            break;
        }
        if let Err(error) = block_on(run.store(finish(*row, finished(Status::Failed, Some(long.clone()))))) {
            refused = Some((*row, error, Status::Unknown));
            break;
        }
        done.push(*row);
    }
    let (at, error, expected) = refused.unwrap();
    assert!(matches!(error.kind(), FileErrorKind::Full | FileErrorKind::Io(_)), "{error}");
    assert!(!done.is_empty());
    let look = |done: &[u64]| {
        let statuses = statuses(&file);
        assert!(done.iter().all(|row| statuses[usize::try_from(*row).unwrap()] == Status::Failed));
        statuses[usize::try_from(at).unwrap()]
    };
    assert_eq!(look(&done), expected);
    assert!(block_on(run.store(finish(at, finished(Status::Failed, Some(long.repeat(9)))))).is_err());
    assert_eq!(look(&done), expected);
    make_room();
    for row in &rows[done.len()..] {
        block_on(run.store(mark_sent(*row, 1))).unwrap();
        block_on(run.store(finish(*row, finished(Status::Failed, Some(long.clone()))))).unwrap();
    }
    look(&rows);
    drop(run);
    let counts = PlanFile::open(path).unwrap().counts().unwrap();
    assert_eq!(counts[&Status::Failed], rows.len() as u64);
    error
}

fn statuses(file: &PlanFile) -> Vec<Status> {
    let mut statuses = Vec::new();
    file.for_each_row(|row| statuses.push(row.status)).unwrap();
    statuses
}

fn pages(path: &Path) -> u32 {
    u32::try_from(fs::metadata(path).unwrap().len() / 4_096).unwrap()
}

fn assert_full(error: &FileError, path: &Path) {
    assert_eq!(error.kind(), &FileErrorKind::Full);
    let told = "the disk is full; free some space, then repeat the call. The file has a record of every update that \
                was sent";
    assert_eq!(error.to_string(), format!("plan file {}: {told}", path.display()));
}

#[test]
fn a_plan_without_pages_for_outcomes_stops_and_goes_on() {
    let folder = Folder::new();
    let path = folder.plan();
    drop(build(&path, ROWS).unwrap());
    limit_pages(&path, pages(&path) + 50);
    let error = fill_and_go_on(&path, || limit_pages(&path, MANY));
    assert_full(&error, &path);
}

#[test]
fn a_plan_without_pages_for_marks_sends_nothing_more_and_goes_on() {
    let folder = Folder::new();
    let path = folder.plan();
    drop(build(&path, ROWS).unwrap());
    limit_pages(&path, pages(&path));
    let file = PlanFile::open(&path).unwrap();
    let run = file.start_run().unwrap();
    // Most of the page for the moments of requests is taken.
    block_on(run.store(Record::Requests(vec![NOW; NOTED]))).unwrap();
    let mut sent = Vec::new();
    let mut refused = None;
    for row in (0..ROWS).filter(|row| row % 5 != 4) {
        match block_on(run.store(mark_sent(row, NOW))) {
            Ok(()) => sent.push(row),
            Err(error) => {
                refused = Some((row, error));
                break;
            }
        }
    }
    let (at, error) = refused.unwrap();
    assert_full(&error, &path);
    let look = || {
        let in_flight: Vec<u64> =
            file.open_rows(&[]).unwrap().iter().filter(|row| row.was_sent).map(|row| row.row).collect();
        assert_eq!(in_flight, sent);
        assert_eq!(statuses(&file)[usize::try_from(at).unwrap()], Status::Pending);
    };
    look();
    // It stays so however often it is tried.
    assert_full(&block_on(run.store(mark_sent(at, NOW))).unwrap_err(), &path);
    look();
    // The outcome of what is in flight still has room.
    block_on(run.store(finish(sent[0], finished(Status::Changed, None)))).unwrap();
    limit_pages(&path, MANY);
    block_on(run.store(mark_sent(at, NOW))).unwrap();
    block_on(run.store(finish(at, finished(Status::Changed, None)))).unwrap();
    assert_eq!(run.recent_requests(NOW).unwrap().len(), NOTED + sent.len() + 1);
    drop(run);
    let statuses = statuses(&PlanFile::open(&path).unwrap());
    assert_eq!(statuses[usize::try_from(at).unwrap()], Status::Changed);
}

#[test]
fn an_outcome_without_pages_forgets_nothing_of_the_mark() {
    let folder = Folder::new();
    let path = folder.plan();
    drop(build(&path, 10).unwrap());
    limit_pages(&path, pages(&path) + 1);
    let file = PlanFile::open(&path).unwrap();
    let run = file.start_run().unwrap();
    block_on(run.store(mark_sent(0, NOW))).unwrap();
    let outcome = finished(Status::Failed, Some("x".repeat(200_000)));
    assert_full(&block_on(run.store(finish(0, outcome))).unwrap_err(), &path);
    block_on(run.store(Record::NotSent { row: 0, before: Vec::new() })).unwrap();
    assert_eq!(statuses(&file)[0], Status::Pending);
}

#[test]
fn planning_without_pages_leaves_nothing_behind() {
    let folder = Folder::new();
    let path = folder.plan();
    limit_pages(&path, 40);
    let made = Builder::create(&path, &header()).and_then(|mut builder| {
        (0..ROWS * 10).try_for_each(|row| builder.add(planned(row)))?;
        builder.seal(ROWS * 10)
    });
    assert_eq!(made.err().unwrap().kind(), &FileErrorKind::Full);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
