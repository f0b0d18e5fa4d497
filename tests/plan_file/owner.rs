//! A plan has one owner, everybody else is told who it is, and it is free as soon as the owner is gone.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Child;
use std::time::{Duration, Instant};

use replyio::plan::Status;
use replyio::plan::file::{FileErrorKind, PlanFile};

use super::{Folder, NOW, block_on, build, child, child_path, finish, finished};

#[test]
fn a_second_run_in_one_process_is_refused_and_viewing_never_is() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let run = file.start_run().unwrap();
    for view in [file.clone(), PlanFile::open(&folder.plan()).unwrap()] {
        let FileErrorKind::Locked(owner) = refused_run(&view) else { panic!("not locked") };
        let expected = format!("is in use by this process ({}) (applying since ", std::process::id());
        assert!(owner.starts_with(&expected), "{owner}");
        assert_eq!(view.counts().unwrap()[&Status::Pending], 8);
    }
    // The refusals have not freed it.
    block_on(run.store(finish(0, finished(Status::Changed, None)))).unwrap();
    let same = run.clone();
    drop(run);
    assert!(matches!(refused_run(&file), FileErrorKind::Locked(_)));
    drop(same);
    drop(file.start_run().unwrap());
}

fn refused_run(file: &PlanFile) -> FileErrorKind {
    file.start_run().err().unwrap().kind().clone()
}

/// Says what became of opening the plan, and holds it until it is told to end.
fn contend() {
    let Some(path) = child_path() else { return };
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let started = Instant::now();
    let opened = PlanFile::open(&path).and_then(|file| file.start_run());
    let took = started.elapsed().as_millis();
    match &opened {
        Ok(_) => println!("result\town\t{took}\t"),
        Err(error) => println!("result\trefused\t{took}\t{error}"),
    }
    let _ = std::io::stdin().read_line(&mut line);
    drop(opened);
    std::process::exit(0);
}

/// Whether a contender owns the plan, how long it took to know in milliseconds, and what it was told.
fn result(child: &mut Child) -> (bool, u64, String) {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let line = lines.find_map(|line| line.unwrap().split_once("result\t").map(|(_, rest)| rest.to_owned())).unwrap();
    let mut parts = line.split('\t');
    let owns = parts.next().unwrap() == "own";
    (owns, parts.next().unwrap().parse().unwrap(), parts.next().unwrap().to_owned())
}

fn race(round: u32) {
    let folder = Folder::new();
    drop(build(&folder.plan(), 300).unwrap());
    let name = "owner::of_four_processes_one_gets_the_plan";
    let mut children: Vec<Child> = (0..4).map(|_| child(name, &folder.plan())).collect();
    for child in &mut children {
        writeln!(child.stdin.as_mut().unwrap(), "go").unwrap();
    }
    let results: Vec<_> = children.iter_mut().map(result).collect();
    let owners: Vec<usize> = (0..4).filter(|index| results[*index].0).collect();
    assert_eq!(owners.len(), 1, "round {round}: {results:?}");
    let owner = owners[0];
    let expected = format!("is in use by process {} (applying since ", children[owner].id());
    for (owns, took, told) in &results {
        assert!(*owns || (told.contains(&expected) && *took < 1_000), "round {round}: {expected}, {took} ms: {told}");
    }
    let file = PlanFile::open(&folder.plan()).unwrap();
    assert!(matches!(refused_run(&file), FileErrorKind::Locked(_)));
    // `kill` is SIGKILL.
    children[owner].kill().unwrap();
    children[owner].wait().unwrap();
    let started = Instant::now();
    drop(file.start_run().unwrap());
    assert!(started.elapsed() < Duration::from_secs(1));
    for mut child in children {
        drop(child.stdin.take());
        let _ = child.stdout.take().map(|mut rest| rest.read_to_end(&mut Vec::new()));
        child.wait().unwrap();
    }
}

#[test]
fn of_four_processes_one_gets_the_plan() {
    contend();
    (0..8).for_each(race);
}

#[cfg(unix)]
#[test]
fn a_killed_run_is_not_named_as_the_owner_and_a_reader_is_waited_for() {
    let folder = Folder::new();
    drop(build(&folder.plan(), 300).unwrap());
    let mut killed = child("owner::of_four_processes_one_gets_the_plan", &folder.plan());
    writeln!(killed.stdin.as_mut().unwrap(), "go").unwrap();
    assert!(result(&mut killed).0);
    let process = killed.id().to_string();
    killed.kill().unwrap();
    killed.wait().unwrap();
    let reader = rusqlite::Connection::open(folder.plan()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM rows").unwrap();
    let file = PlanFile::open(&folder.plan()).unwrap();
    let FileErrorKind::Locked(told) = refused_run(&file) else { panic!("not locked") };
    assert!(told.contains("another program") && !told.contains(&process), "{told}");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(1_500));
            drop(reader);
        });
        drop(file.start_run().unwrap());
    });
    // In rollback mode too: a long look at the plan delays a run, and does not refuse it.
    let reader = rusqlite::Connection::open(folder.plan()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM rows").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(1_500));
            drop(reader);
        });
        drop(file.start_run().unwrap());
    });
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the standard library does not fork")]
#[test]
fn a_forked_child_is_refused_and_leaves_the_lock_alone() {
    unsafe extern "C" {
        fn fork() -> i32;
        fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
        fn _exit(code: i32) -> !;
    }
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    let run = file.start_run().unwrap();
    let mut status = -1;
    // SAFETY: the child only makes the calls that are to be refused, and ends without unwinding.
    unsafe {
        let process = fork();
        if process == 0 {
            let is_forked = |error: replyio::plan::file::FileError| error.kind() == &FileErrorKind::Forked;
            let refused = [
                file.counts().err().is_some_and(is_forked),
                run.recent_requests(NOW).err().is_some_and(is_forked),
                file.start_run().err().is_some_and(is_forked),
            ];
            drop(run);
            _exit(i32::from(refused != [true; 3]));
        }
        assert_eq!(waitpid(process, &raw mut status, 0), process);
    }
    assert_eq!(status, 0);
    assert!(matches!(refused_run(&file), FileErrorKind::Locked(_)));
    block_on(run.store(finish(0, finished(Status::Changed, None)))).unwrap();
}
