//! A simulation: everything of a plan on one thread, the same each time, with a disk and a process that end when told.

use std::fs;
use std::task::{Context, Poll, Waker};

use replyio::plan::Status;
use replyio::plan::file::simulation::{Fate, Simulation};
use replyio::plan::file::{FileError, FileErrorKind, PlanFile};

use super::{Folder, NOW, build, export, finish, finished, mark_sent};

/// What is asked of a plan is ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits for another thread"),
    }
}

fn job(folder: &Folder) -> Result<(), FileError> {
    let file = build(&folder.plan(), 10)?;
    let run = file.start_run()?;
    for row in 0..4 {
        now(run.store(mark_sent(row, NOW)))?;
        now(run.store(finish(row, finished(Status::Changed, None))))?;
    }
    drop(run);
    file.revert_file().map(drop)
}

#[test]
fn a_simulated_job_uses_no_thread_and_its_random_numbers_come_from_the_seed() {
    let identity = |seed: u64| {
        let folder = Folder::new();
        let simulation = Simulation::begin(seed, |_, _| Fate::Made);
        job(&folder).unwrap();
        let file = PlanFile::open(&folder.plan()).unwrap();
        assert_eq!(file.counts().unwrap()[&Status::Changed], 4);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        let identity = file.header().identity.clone();
        drop(file);
        (identity, simulation.commits())
    };
    assert_eq!(identity(1), identity(1));
    assert_ne!(identity(1).0, identity(2).0);
}

#[test]
fn a_simulated_disk_fails_and_a_simulated_process_dies_at_any_commit() {
    let folder = Folder::new();
    let simulation = Simulation::begin(1, |_, _| Fate::Made);
    job(&folder).unwrap();
    let commits = simulation.commits();
    drop(simulation);
    assert!(commits > 12);
    for at in 1..=commits {
        for fate in [Fate::Fails, Fate::DiesBefore, Fate::DiesAfter] {
            let folder = Folder::new();
            let simulation = Simulation::begin(1, move |_, commit| if commit == at { fate } else { Fate::Made });
            let Err(error) = job(&folder) else { panic!("{at} of {commits}: {fate:?}") };
            assert_eq!(error.kind() == &FileErrorKind::Full, fate == Fate::Fails, "{at} {fate:?}: {error}");
            simulation.restart();
            // What is there is a plan, or says that it is none yet; the job can be taken up.
            match PlanFile::open(&folder.plan()) {
                Ok(file) => {
                    export(&file).unwrap();
                    let run = file.start_run().unwrap();
                    for row in file.open_rows(&[]).unwrap() {
                        now(run.store(mark_sent(row.row, NOW))).unwrap();
                        now(run.store(finish(row.row, finished(Status::Changed, None)))).unwrap();
                    }
                    drop(run);
                    assert_eq!(file.counts().unwrap()[&Status::Changed], 8);
                }
                Err(error) => {
                    let kind = error.kind();
                    assert!(
                        matches!(kind, FileErrorKind::Missing | FileErrorKind::HalfWritten(_)),
                        "{at} {fate:?}: {error}"
                    );
                }
            }
        }
    }
}
