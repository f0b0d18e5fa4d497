//! A file beside a log that is not its own: the log of another plan, of another copy, or of another time.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use replyio::plan::Status;
use replyio::plan::file::{Builder, FileError, FileErrorKind, Half, PlanFile, Record, Run};

use super::{Folder, NOW, beside, block_on, build, export, finish, finished, header, mark_sent, planned, refusal};

fn change(run: &Run, row: u64) {
    block_on(run.store(mark_sent(row, NOW))).unwrap();
    block_on(run.store(finish(row, finished(Status::Changed, None)))).unwrap();
}

/// A plan whose run was killed after it had changed some rows: the copy of a folder in which a run goes on.
fn killed(changed: u64) -> Folder {
    let folder = Folder::new();
    let run = build(&folder.plan(), 10).unwrap().start_run().unwrap();
    (0..changed).for_each(|row| change(&run, row));
    copy_of(&folder)
}

fn copy_of(folder: &Folder) -> Folder {
    let copy = Folder::new();
    for suffix in ["", "-wal"] {
        fs::copy(beside(&folder.plan(), suffix), beside(&copy.plan(), suffix)).unwrap();
    }
    copy
}

fn put(file: &Path, log: &Path) -> Folder {
    let folder = Folder::new();
    fs::copy(file, folder.plan()).unwrap();
    fs::copy(log, beside(&folder.plan(), "-wal")).unwrap();
    folder
}

fn is_foreign<T>(result: Result<T, FileError>) -> bool {
    result.err().is_some_and(|error| error.to_string().contains("move plan.replyio-wal away"))
}

/// The file is refused for its log, is not touched, and opens as it is alone when the log is moved away.
fn is_refused_until_its_log_is_moved_away(folder: &Folder, what: &str) {
    let log = beside(&folder.plan(), "-wal");
    let content = || (fs::read(folder.plan()).unwrap(), fs::read(&log).unwrap());
    let before = content();
    assert!(is_foreign(PlanFile::open(&folder.plan())), "{what}");
    assert!(is_foreign(PlanFile::recover(&folder.plan())), "{what}");
    assert!(content() == before, "{what}");
    let alone = Folder::new();
    fs::copy(folder.plan(), alone.plan()).unwrap();
    fs::rename(&log, folder.path().join("moved")).unwrap();
    let opened = |folder: &Folder| PlanFile::open(&folder.plan()).and_then(|file| export(&file));
    // Each error names its own folder.
    let told = |folder: &Folder| opened(folder).map_err(|error| std::mem::discriminant(error.kind()));
    assert_eq!(told(folder), told(&alone), "{what}");
}

#[test]
fn a_file_beside_a_log_that_is_not_its_own_is_refused_and_left_as_it_is() {
    let plan = Folder::new();
    let file = build(&plan.plan(), 10).unwrap();
    let copy = |name: &str| {
        fs::copy(plan.plan(), plan.path().join(name)).unwrap();
        plan.path().join(name)
    };
    let planned = copy("planned");
    let run = file.start_run().unwrap();
    change(&run, 0);
    let running = copy("running");
    let killed_first = copy_of(&plan);
    let first_log = beside(&killed_first.plan(), "-wal");
    for moment in 0..5_000 {
        block_on(run.store(Record::Requests(vec![NOW + moment]))).unwrap();
    }
    let merged_log = beside(&plan.plan(), "-wal");
    is_refused_until_its_log_is_moved_away(&put(&running, &merged_log), "a file from before its log was merged");
    is_refused_until_its_log_is_moved_away(&put(&plan.plan(), &first_log), "the log from before it was merged");
    drop(run);
    let ended = copy("ended");
    let run = PlanFile::open(&plan.plan()).unwrap().start_run().unwrap();
    change(&run, 1);
    let second_log = beside(&plan.plan(), "-wal");
    let other = killed(3);
    for (file, log, what) in [
        (&planned, &first_log, "a file from before the run, beside its log"),
        (&ended, &first_log, "a file after the run, beside an older log of it"),
        (&ended, &second_log, "a file from before a later run, beside its log"),
        (&running, &second_log, "a file of a run, beside the log of a later one"),
        (&ended, &beside(&other.plan(), "-wal"), "the log of another plan"),
        (&running, &beside(&other.plan(), "-wal"), "a file that needs its log, beside the one of another plan"),
    ] {
        is_refused_until_its_log_is_moved_away(&put(file, log), what);
    }
    // Each with its own.
    for (file, log) in [(&running, &first_log), (&plan.plan(), &second_log)] {
        let own = put(file, log);
        assert!(PlanFile::open(&own.plan()).unwrap().counts().unwrap()[&Status::Changed] > 0);
        drop(PlanFile::open(&own.plan()).unwrap().start_run().unwrap());
    }
}

#[test]
fn a_log_that_another_program_holds_for_a_while_is_not_taken_for_a_foreign_one() {
    let folder = killed(3);
    let holder = rusqlite::Connection::open(folder.plan()).unwrap();
    holder.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    holder.execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN IMMEDIATE").unwrap();
    let refused = PlanFile::open(&folder.plan()).err().unwrap();
    assert!(matches!(refused.kind(), FileErrorKind::Locked(_)), "{refused}");
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(1_500));
            drop(holder);
        });
        assert_eq!(PlanFile::open(&folder.plan()).unwrap().counts().unwrap()[&Status::Changed], 3);
    });
}

#[test]
fn a_recovered_file_is_refused_beside_the_log_that_it_once_needed() {
    let folder = killed(3);
    let other = Folder::new();
    fs::rename(folder.plan(), other.plan()).unwrap();
    let recovered = PlanFile::recover(&other.plan()).unwrap();
    let put_back = put(&other.plan(), &beside(&folder.plan(), "-wal"));
    is_refused_until_its_log_is_moved_away(&put_back, "recovered");
    let run = recovered.start_run().unwrap();
    (0..4).for_each(|row| change(&run, row));
    drop(run);
    fs::rename(other.plan(), folder.plan()).unwrap();
    is_refused_until_its_log_is_moved_away(&folder, "recovered and applied");
    assert_eq!(PlanFile::open(&folder.plan()).unwrap().counts().unwrap()[&Status::Changed], 4);
}

#[test]
fn a_view_from_before_sees_a_foreign_log_before_it_reads_or_runs() {
    let (folder, other) = (Folder::new(), killed(3));
    let file = build(&folder.plan(), 10).unwrap();
    fs::copy(beside(&other.plan(), "-wal"), beside(&folder.plan(), "-wal")).unwrap();
    assert!(is_foreign(file.counts()));
    assert!(is_foreign(file.start_run()));
    is_refused_until_its_log_is_moved_away(&folder, "a log that came later");
    assert_eq!(file.counts().unwrap()[&Status::Pending], 8);
}

#[test]
fn no_view_is_refused_while_runs_start_and_end_and_merge_their_logs() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let views = scope.spawn(|| {
            let mut views = 0;
            while !is_done.load(Ordering::SeqCst) {
                PlanFile::open(&folder.plan()).and_then(|file| file.counts()).unwrap();
                views += 1;
            }
            views
        });
        for row in 0..40 {
            // A view may have the file at the moment of the claim.
            let run = file.start_run();
            let Ok(run) = run else { continue };
            change(&run, row % 4);
        }
        let run = (0..100).find_map(|_| file.start_run().ok()).unwrap();
        for moment in 0..9_000 {
            block_on(run.store(Record::Requests(vec![NOW + moment]))).unwrap();
        }
        drop(run);
        is_done.store(true, Ordering::SeqCst);
        assert!(views.join().unwrap() > 20);
    });
}

#[test]
fn a_plan_whose_log_was_moved_in_half_while_somebody_read_is_whole_with_its_log() {
    let folder = Folder::new();
    let run = build(&folder.plan(), 10).unwrap().start_run().unwrap();
    change(&run, 0);
    let reader = rusqlite::Connection::open(folder.plan()).unwrap();
    let (mut moments, mut halves) = (1, 0);
    for round in 0..4 {
        // What was read first is let go of, so that a part of the log can be moved.
        reader.execute_batch("BEGIN; SELECT count(*) FROM rows").unwrap();
        for moment in 0..3_001 {
            block_on(run.store(Record::Requests(vec![NOW + round * 3_001 + moment]))).unwrap();
            moments += 1;
        }
        assert_eq!(PlanFile::open(&folder.plan()).unwrap().counts().unwrap()[&Status::Changed], 1);
        let copy = copy_of(&folder);
        let copied = PlanFile::open(&copy.plan()).unwrap();
        assert_eq!(copied.counts().unwrap()[&Status::Changed], 1);
        assert_eq!(copied.start_run().unwrap().recent_requests(NOW).unwrap().len(), moments);
        let alone = Folder::new();
        fs::copy(folder.plan(), alone.plan()).unwrap();
        let refused = PlanFile::open(&alone.plan()).err().unwrap();
        assert!(matches!(refused.kind(), FileErrorKind::NeedsLog(_)), "round {round}");
        match PlanFile::recover(&alone.plan()).map_err(|error| error.to_string()) {
            Ok(recovered) => assert!(recovered.counts().unwrap()[&Status::Unknown] >= 7, "round {round}"),
            Err(error) => {
                halves += 1;
                assert!(error.contains("only in its log, plan.replyio-wal; copy both files here"), "{error}");
            }
        }
        reader.execute_batch("COMMIT").unwrap();
    }
    assert!(halves > 0, "no file had only a half");
}

#[test]
fn a_view_whose_log_was_deleted_refuses_to_read_and_to_revert() {
    let folder = killed(3);
    let view = PlanFile::open(&folder.plan()).unwrap();
    assert_eq!(view.counts().unwrap()[&Status::Changed], 3);
    fs::remove_file(beside(&folder.plan(), "-wal")).unwrap();
    let _ = fs::remove_file(beside(&folder.plan(), "-shm"));
    let needs_its_log =
        |kind: Option<FileErrorKind>| assert!(matches!(kind, Some(FileErrorKind::NeedsLog(_))), "{kind:?}");
    needs_its_log(view.counts().err().map(|error| error.kind().clone()));
    needs_its_log(view.revert_file().err().map(|error| error.kind().clone()));
    assert!(!folder.path().join("plan.revert.replyio").exists());
}

#[test]
fn an_unfinished_plan_has_no_journal_that_sqlite_would_replay_into_another_plan_of_its_name() {
    let folder = Folder::new();
    let mut builder = Builder::create(&folder.plan(), &header()).unwrap();
    // More than a batch, so that the thread writes.
    (0..70_000).try_for_each(|row| builder.add(planned(row))).unwrap();
    for _ in 0..100 {
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        thread::sleep(Duration::from_millis(5));
    }
    // More than the cache holds: a killed process leaves a file in which only some pages are new.
    let mut rows = 70_000;
    while fs::metadata(folder.plan()).unwrap().len() < 4_000_000 {
        builder.add(planned(rows)).unwrap();
        rows += 1;
    }
    let copy = Folder::new();
    fs::copy(folder.plan(), copy.plan()).unwrap();
    assert_eq!(refusal(&copy.plan()), FileErrorKind::HalfWritten(Half::Plan));
    assert_eq!(builder.seal(rows).unwrap().counts().unwrap().values().sum::<u64>(), rows);
}

#[test]
fn no_plan_is_made_beside_a_log_that_was_left_there() {
    let (folder, other) = (Folder::new(), killed(3));
    let log = beside(&folder.plan(), "-wal");
    fs::copy(beside(&other.plan(), "-wal"), &log).unwrap();
    let left = fs::read(&log).unwrap();
    let is_stray = |error: Option<FileError>| {
        let kind = error.map(|error| error.kind().clone());
        assert!(matches!(kind, Some(FileErrorKind::StrayLog(_))), "{kind:?}");
    };
    is_stray(build(&folder.plan(), 10).err());
    fs::write(folder.plan(), "").unwrap();
    is_stray(PlanFile::resume(&folder.plan(), header().source_digest).err());
    is_stray(PlanFile::make_way(&folder.plan()).err());
    assert!(folder.plan().exists());
    assert_eq!(fs::read(&log).unwrap(), left);

    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    change(&file.start_run().unwrap(), 0);
    let revert = folder.path().join("plan.revert.replyio");
    let log = beside(&revert, "-wal");
    fs::copy(beside(&other.plan(), "-wal"), &log).unwrap();
    fs::write(&revert, "").unwrap();
    is_stray(file.revert_file().err());
    assert_eq!(fs::read(&log).unwrap(), left);
}

/// The plan and its log are in one folder, but the log has another name. Neither reading nor recovering it is offered,
/// and the plan is as it was when the person has done what the error says.
#[test]
fn a_plan_whose_log_has_its_original_name_is_not_recovered_without_it() {
    type Move = fn(&Path, &Path);
    let ways: [(Move, &str); 3] = [
        (|plan, other| fs::rename(plan, other).unwrap(), "its log was renamed; rename the log to other.replyio-wal"),
        (|plan, other| fs::hard_link(plan, other).unwrap(), "has two names (hard links); open "),
        (
            |plan, other| assert!(fs::copy(plan, other).unwrap() > 0),
            "is a copy; copy the log, too, as other.replyio-wal",
        ),
    ];
    for (way, told) in ways {
        let folder = killed(3);
        let other = folder.path().join("other.replyio");
        let log = beside(&folder.plan(), "-wal");
        way(&folder.plan(), &other);
        let before = (fs::read(&other).unwrap(), fs::read(&log).unwrap());
        for error in [PlanFile::open(&other).err(), PlanFile::recover(&other).err()] {
            let error = error.unwrap().to_string();
            assert!(error.contains(&format!("progress is in {}, because this file", log.display())), "{error}");
            assert!(error.contains(told), "{error}");
            assert!(!error.contains("recover"), "{error}");
        }
        assert!((fs::read(&other).unwrap(), fs::read(&log).unwrap()) == before, "{told}");
        if !told.contains("hard links") {
            fs::copy(&log, beside(&other, "-wal")).unwrap();
            assert_eq!(PlanFile::open(&other).unwrap().counts().unwrap()[&Status::Changed], 3, "{told}");
        }
        if folder.plan().exists() {
            assert_eq!(PlanFile::open(&folder.plan()).unwrap().counts().unwrap()[&Status::Changed], 3, "{told}");
        }
    }
}

/// Nobody is told to open the plan that took the place of the killed one: it is another plan.
#[test]
fn a_copy_of_a_killed_plan_that_was_replaced_gets_its_log() {
    let (folder, another) = (killed(3), Folder::new());
    let copy = folder.path().join("other.replyio");
    fs::copy(folder.plan(), &copy).unwrap();
    drop(build(&another.plan(), 10).unwrap());
    fs::rename(another.plan(), folder.plan()).unwrap();
    let error = PlanFile::open(&copy).err().unwrap().to_string();
    assert!(error.contains("rename the log to other.replyio-wal, then open this file again"), "{error}");
    fs::rename(beside(&folder.plan(), "-wal"), beside(&copy, "-wal")).unwrap();
    assert_eq!(PlanFile::open(&copy).unwrap().counts().unwrap()[&Status::Changed], 3);
    assert_eq!(PlanFile::open(&folder.plan()).unwrap().counts().unwrap()[&Status::Pending], 8);
}

#[test]
fn a_plan_with_two_names_is_not_recovered_and_its_copy_is() {
    let (folder, elsewhere) = (killed(3), Folder::new());
    fs::remove_file(beside(&folder.plan(), "-wal")).unwrap();
    fs::hard_link(folder.plan(), elsewhere.path().join("other.replyio")).unwrap();
    for path in [folder.plan(), elsewhere.path().join("other.replyio")] {
        let error = PlanFile::recover(&path).err().unwrap().to_string();
        assert!(error.contains("one of the 2 names") && error.contains("copy the file to another folder"), "{error}");
    }
    fs::copy(folder.plan(), elsewhere.plan()).unwrap();
    assert_eq!(PlanFile::recover(&elsewhere.plan()).unwrap().counts().unwrap()[&Status::Unknown], 8);
}

#[test]
fn the_log_of_another_plan_does_not_keep_a_renamed_plan_from_being_recovered() {
    let (folder, stranger) = (killed(3), killed(2));
    let other = folder.path().join("other.replyio");
    fs::rename(folder.plan(), &other).unwrap();
    fs::copy(beside(&stranger.plan(), "-wal"), beside(&folder.plan(), "-wal")).unwrap();
    let error = PlanFile::open(&other).err().unwrap().to_string();
    let names = [beside(&other, "-wal").display().to_string(), "(or in plan.replyio-wal, if the file was".to_owned()];
    assert!(names.iter().all(|name| error.contains(name)) && error.contains("recover=True"), "{error}");
    assert_eq!(PlanFile::recover(&other).unwrap().counts().unwrap()[&Status::Unknown], 8);
    // Through a link, the message names the folder of the plan.
    #[cfg(unix)]
    {
        let (folder, links) = (killed(3), Folder::new());
        fs::remove_file(beside(&folder.plan(), "-wal")).unwrap();
        std::os::unix::fs::symlink(folder.plan(), links.plan()).unwrap();
        let error = PlanFile::open(&links.plan()).err().unwrap().to_string();
        assert!(error.contains(&beside(&folder.plan(), "-wal").display().to_string()), "{error}");
    }
}
