//! A plan under other names: linked, moved, copied alone, and under names that mean something to SQLite.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use replyio::plan::Status;
use replyio::plan::file::{FileError, FileErrorKind, PlanFile, Record, Run};

use super::{Folder, NOW, beside, block_on, build, child, child_path, export, finish, finished, mark_sent, planned};

fn kind<T>(result: Result<T, FileError>) -> FileErrorKind {
    result.err().unwrap().kind().clone()
}

/// Sends a row, and finishes it.
fn change(run: &Run, row: u64) -> Result<(), FileError> {
    block_on(run.store(mark_sent(row, NOW)))?;
    block_on(run.store(finish(row, finished(Status::Changed, None))))
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_leads_to_the_plan_that_another_run_has() {
    let folder = Folder::new();
    let link = folder.path().join("latest.replyio");
    let file = build(&folder.plan(), 10).unwrap();
    std::os::unix::fs::symlink("plan.replyio", &link).unwrap();
    let linked = PlanFile::open(&link).unwrap();
    assert_eq!(linked.path(), link);
    let run = file.start_run().unwrap();
    assert!(matches!(kind(linked.start_run()), FileErrorKind::Locked(_)));
    change(&run, 0).unwrap();
    assert_eq!(linked.counts().unwrap()[&Status::Changed], 1);
    drop(run);
    let run = linked.start_run().unwrap();
    assert!(matches!(kind(file.start_run()), FileErrorKind::Locked(_)));
    change(&run, 1).unwrap();
    drop(run);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[cfg(unix)]
#[test]
fn of_several_hard_links_only_the_name_that_the_plan_was_made_under_may_run() {
    let folder = Folder::new();
    let link = folder.path().join("latest.replyio");
    let file = build(&folder.plan(), 10).unwrap();
    fs::hard_link(folder.plan(), &link).unwrap();
    let linked = PlanFile::open(&link).unwrap();
    let run = file.start_run().unwrap();
    change(&run, 0).unwrap();
    // The other name has no log: nothing is read by it, and its run is refused.
    assert!(linked.counts().is_err());
    assert!(matches!(kind(linked.start_run()), FileErrorKind::Locked(_)));
    change(&run, 1).unwrap();
    drop(run);
    let error = linked.start_run().err().unwrap();
    assert_eq!(error.kind(), &FileErrorKind::Linked { links: 2, name: "plan.replyio".to_owned() });
    assert!(error.to_string().contains("its original name, plan.replyio;"), "{error}");
    // Each thing that the message says to do.
    drop(file.start_run().unwrap());
    let copy = folder.path().join("copy.replyio");
    fs::copy(&link, &copy).unwrap();
    drop(PlanFile::open(&copy).unwrap().start_run().unwrap());
    fs::remove_file(folder.plan()).unwrap();
    let run = linked.start_run().unwrap();
    assert_eq!(linked.counts().unwrap()[&Status::Changed], 2);
    // A link that comes while the run goes on stops it before it sends anything.
    fs::hard_link(&link, folder.plan()).unwrap();
    assert!(matches!(kind(change(&run, 2)), FileErrorKind::Linked { .. }));
}

#[cfg(unix)]
#[test]
fn a_log_that_is_replaced_or_removed_stops_its_run() {
    for is_replaced in [true, false] {
        let folder = Folder::new();
        let log = beside(&folder.plan(), "-wal");
        let run = build(&folder.plan(), 10).unwrap().start_run().unwrap();
        change(&run, 0).unwrap();
        let bytes = fs::read(&log).unwrap();
        fs::rename(&log, folder.path().join("moved")).unwrap();
        if is_replaced {
            fs::write(&log, bytes).unwrap();
        }
        assert!(matches!(kind(change(&run, 1)), FileErrorKind::Lost(_)));
    }
}

#[test]
fn a_plan_that_is_replaced_or_removed_stops_its_run() {
    for is_replaced in [true, false] {
        let folder = Folder::new();
        let run = build(&folder.plan(), 10).unwrap().start_run().unwrap();
        change(&run, 0).unwrap();
        fs::rename(folder.plan(), folder.path().join("moved.replyio")).unwrap();
        if is_replaced {
            fs::copy(folder.path().join("moved.replyio"), folder.plan()).unwrap();
        }
        assert!(matches!(kind(change(&run, 1)), FileErrorKind::Lost(_)));
    }
}

/// Takes the plan over, sends a row, and says how it went.
fn take_over(path: &Path) {
    let took = PlanFile::open(path).and_then(|file| {
        let run = file.start_run()?;
        println!("took over");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        change(&run, 5)
    });
    println!("ended {:?}", took.map_err(|error| error.to_string()));
    std::process::exit(0);
}

#[cfg(unix)]
#[test]
fn a_copy_made_by_the_process_of_a_run_does_not_let_another_run_in() {
    if let Some(path) = child_path() {
        take_over(&path);
    }
    let test = "names::a_copy_made_by_the_process_of_a_run_does_not_let_another_run_in";
    let folder = Folder::new();
    let run = build(&folder.plan(), 10).unwrap().start_run().unwrap();
    change(&run, 0).unwrap();
    fs::copy(folder.plan(), folder.path().join("copy.replyio")).unwrap();
    let mut other = child(test, &folder.plan());
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said = lines.find(|line| line.contains("took over") || line.contains("ended")).unwrap();
    assert!(said.contains("is in use by process"), "{said}");
    other.wait().unwrap();
    change(&run, 1).unwrap();
}

/// A process loses SQLite's locks on files that it opens and closes by other means, such as to copy all of a folder.
#[cfg(unix)]
#[test]
fn a_run_whose_process_has_lost_its_locks_stops_before_it_sends_what_another_run_may_send() {
    if let Some(path) = child_path() {
        take_over(&path);
    }
    let test = "names::a_run_whose_process_has_lost_its_locks_stops_before_it_sends_what_another_run_may_send";
    for has_ended in [false, true] {
        let (folder, copy) = (Folder::new(), Folder::new());
        let run = build(&folder.plan(), 10).unwrap().start_run().unwrap();
        change(&run, 0).unwrap();
        for suffix in ["", "-wal", "-shm"] {
            fs::copy(beside(&folder.plan(), suffix), beside(&copy.plan(), suffix)).unwrap();
        }
        let mut other = child(test, &folder.plan());
        let mut lines = BufReader::new(other.stdout.take().unwrap()).lines().map(Result::unwrap);
        let said = lines.find(|line| line.contains("took over") || line.contains("ended")).unwrap();
        assert!(said.contains("took over"), "{said}");
        let mut go_on = || {
            writeln!(other.stdin.as_mut().unwrap(), "go").unwrap();
            assert!(lines.any(|line| line.contains("ended Ok(())")));
            other.wait().unwrap();
        };
        if has_ended {
            go_on();
        }
        for row in [1, 2] {
            assert!(matches!(kind(change(&run, row)), FileErrorKind::Lost(_)));
        }
        drop(run);
        if !has_ended {
            go_on();
        }
        let mut statuses = Vec::new();
        let file = PlanFile::open(&folder.plan()).unwrap();
        file.for_each_row(|row| statuses.push(row.status)).unwrap();
        let changed = |row: u64| [0, 5].contains(&row);
        let expected = (0..10).map(|row| if changed(row) { Status::Changed } else { planned(row).status });
        assert_eq!(statuses, expected.collect::<Vec<_>>());
    }
}

#[test]
fn a_file_copied_alone_while_a_run_goes_on_is_refused_and_recovered_with_every_row_that_may_have_been_sent() {
    let folder = Folder::new();
    let (file, other) = (build(&folder.plan(), 10).unwrap(), Folder::new());
    let run = file.start_run().unwrap();
    // The file needs its log from the moment that there may be rows in it.
    let copy = |into: &Folder| fs::copy(folder.plan(), into.plan()).unwrap();
    copy(&other);
    assert!(matches!(kind(PlanFile::open(&other.plan())), FileErrorKind::NeedsLog(_)));
    change(&run, 0).unwrap();
    let other = Folder::new();
    copy(&other);
    let error = PlanFile::open(&other.plan()).err().unwrap();
    assert!(matches!(error.kind(), FileErrorKind::NeedsLog(_)));
    assert!(error.to_string().contains("plan.replyio-wal") && error.to_string().contains("recover=True"), "{error}");
    // It stays so.
    assert!(matches!(kind(PlanFile::open(&other.plan())), FileErrorKind::NeedsLog(_)));
    // With the log beside it, it is whole.
    fs::copy(beside(&folder.plan(), "-wal"), beside(&other.plan(), "-wal")).unwrap();
    assert_eq!(PlanFile::open(&other.plan()).unwrap().counts().unwrap()[&Status::Changed], 1);
    let other = Folder::new();
    copy(&other);
    let recovered = PlanFile::recover(&other.plan()).unwrap();
    let counts = recovered.counts().unwrap();
    assert_eq!((counts.get(&Status::Unknown), counts.get(&Status::Pending)), (Some(&8), None));
    let mut revert = Vec::new();
    let take = |row: replyio::plan::file::PlannedRow| {
        revert.push(row.row);
        Ok(())
    };
    recovered.revert_rows(take).unwrap();
    assert_eq!(revert.len(), 8);
    // It is an ordinary plan again, and the one that has its log is not recovered.
    change(&recovered.start_run().unwrap(), 0).unwrap();
    assert_eq!(fs::read_dir(&other.0).unwrap().count(), 1);
    let sound = PlanFile::recover(&folder.plan()).unwrap();
    assert_eq!(sound.counts().unwrap()[&Status::Pending], 7);
    drop(run);
    let other = Folder::new();
    copy(&other);
    assert_eq!(export(&PlanFile::open(&other.plan()).unwrap()).unwrap(), export(&file).unwrap());
}

#[test]
fn a_file_copied_alone_after_its_log_was_moved_into_it_needs_the_next_log() {
    let folder = Folder::new();
    let run = build(&folder.plan(), 10).unwrap().start_run().unwrap();
    let log = || fs::metadata(beside(&folder.plan(), "-wal")).unwrap().len();
    let (mut most, mut moved) = (0, 0);
    for moment in 0..10_000 {
        block_on(run.store(Record::Requests(vec![NOW + moment]))).unwrap();
        let length = log();
        moved += u32::from(length < most);
        most = length;
        if moment % 500 == 0 || length < most {
            let other = Folder::new();
            fs::copy(folder.plan(), other.plan()).unwrap();
            assert!(matches!(kind(PlanFile::open(&other.plan())), FileErrorKind::NeedsLog(_)), "{moment}");
        }
    }
    assert_eq!(moved, 2);
}

#[test]
fn a_reader_that_does_not_let_go_neither_stops_a_run_nor_makes_its_file_look_whole() {
    let folder = Folder::new();
    let run = build(&folder.plan(), 10).unwrap().start_run().unwrap();
    change(&run, 0).unwrap();
    let reader = rusqlite::Connection::open(folder.plan()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM rows").unwrap();
    for moment in 0..9_000 {
        block_on(run.store(Record::Requests(vec![NOW + moment]))).unwrap();
    }
    let other = Folder::new();
    fs::copy(folder.plan(), other.plan()).unwrap();
    assert!(matches!(kind(PlanFile::open(&other.plan())), FileErrorKind::NeedsLog(_)));
    drop(run);
    // What could not be moved into the file is still beside it.
    assert_eq!(PlanFile::open(&folder.plan()).unwrap().counts().unwrap()[&Status::Changed], 1);
    drop(reader);
    let run = PlanFile::open(&folder.plan()).unwrap().start_run().unwrap();
    assert_eq!(run.recent_requests(NOW + 9_000).unwrap().len(), 9_001);
}

#[cfg(unix)]
#[test]
fn a_path_that_sqlite_could_take_for_something_else_is_a_path() {
    let folder = Folder::new();
    let names = ["file:plan.replyio?mode=memory", "plan?immutable=1", ":memory:", "100% #1.replyio", "-wal"];
    for (number, name) in names.into_iter().enumerate() {
        let path = folder.path().join(name);
        let file = build(&path, 10).unwrap();
        change(&file.start_run().unwrap(), 0).unwrap();
        assert_eq!(PlanFile::open(&path).unwrap().counts().unwrap()[&Status::Changed], 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), number + 1, "{name}");
    }
}

/// Two such names can differ only in the bytes that are not UTF-8.
#[cfg(target_os = "linux")]
#[test]
fn a_plan_has_a_name_in_utf_8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let folder = Folder::new();
    let path = folder.path().join(OsStr::from_bytes(b"K\xf6ln.replyplan"));
    let expected = FileErrorKind::Foreign("has a name that is not valid UTF-8; give it another name".to_owned());
    assert_eq!(kind(build(&path, 3)), expected);
    assert!(!path.exists());
    drop(build(&folder.plan(), 3).unwrap());
    fs::rename(folder.plan(), &path).unwrap();
    assert_eq!(kind(PlanFile::open(&path)), expected);
    fs::rename(&path, folder.path().join("K\u{f6}ln.replyplan")).unwrap();
    // A revert of another name does not hold this plan.
    fs::write(folder.path().join(OsStr::from_bytes(b"K\xf6ln.revert.replyplan")), "notes").unwrap();
    let renamed = folder.path().join("K\u{fffd}ln.replyplan");
    fs::rename(folder.path().join("K\u{f6}ln.replyplan"), &renamed).unwrap();
    let file = PlanFile::open(&renamed).unwrap();
    change(&file.start_run().unwrap(), 0).unwrap();
    drop(file.revert_file().unwrap());
}

#[test]
fn a_plan_is_not_made_beside_the_log_of_one_that_was_removed() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let run = file.start_run().unwrap();
    change(&run, 0).unwrap();
    let log = beside(&folder.plan(), "-wal");
    let kept = fs::read(&log).unwrap();
    drop((run, file));
    fs::remove_file(folder.plan()).unwrap();
    fs::write(&log, &kept).unwrap();
    let error = build(&folder.plan(), 5).err().unwrap();
    assert!(matches!(error.kind(), FileErrorKind::StrayLog(_)), "{error}");
    assert_eq!(fs::read(&log).unwrap(), kept, "it may be all that is left of a plan");
    fs::remove_file(&log).unwrap();
    // The journal of a planning that was killed goes with the plan that it was for.
    fs::write(beside(&folder.plan(), "-journal"), b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7 and more").unwrap();
    export(&build(&folder.plan(), 5).unwrap()).unwrap();
}

/// Opens a plan by another name of it, and says what it is told when it reads and when it runs.
fn look_and_run(path: &Path) {
    let told = PlanFile::open(path).and_then(|file| file.start_run());
    println!("told {:?}", told.map(drop).map_err(|error| error.to_string()));
    std::process::exit(0);
}

#[cfg(unix)]
#[test]
fn a_second_process_is_told_who_runs_a_plan_by_each_of_its_hard_links() {
    if let Some(path) = child_path() {
        look_and_run(&path);
    }
    let test = "names::a_second_process_is_told_who_runs_a_plan_by_each_of_its_hard_links";
    let (folder, other) = (Folder::new(), Folder::new());
    let file = build(&folder.plan(), 10).unwrap();
    fs::hard_link(folder.plan(), other.plan()).unwrap();
    let viewed = PlanFile::open(&other.plan()).unwrap();
    let run = file.start_run().unwrap();
    change(&run, 0).unwrap();
    let owner = format!("is in use by process {}", std::process::id());
    for path in [folder.plan(), other.plan()] {
        let mut child = child(test, &path);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let said = lines.find(|line| line.contains("told")).unwrap();
        child.wait().unwrap();
        assert!(said.contains(&owner), "{}: {said}", path.display());
    }
    let owner = format!("is in use by this process ({})", std::process::id());
    let opened = [PlanFile::open(&other.plan()), PlanFile::recover(&other.plan())].map(Result::err);
    for error in [viewed.counts().err(), viewed.start_run().err()].into_iter().chain(opened) {
        let error = error.unwrap().to_string();
        assert!(error.contains(&owner), "{error}");
    }
    change(&run, 1).unwrap();
    drop(run);
    assert_eq!(viewed.counts().unwrap()[&Status::Changed], 2);
}
