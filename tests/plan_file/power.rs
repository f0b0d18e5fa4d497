//! The loss of power and failing I/O at any moment: what was promised by then is there afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use replyio::plan::Status;
use replyio::plan::file::{Builder, FileError, FileErrorKind, PlanFile, Run};

use super::disk::{Disk, Failing};
use super::{Folder, block_on, finish, finished, header, mark_sent, planned};

/// What has been promised, and what has been asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    is_sealed: bool,
    asked_to_send: BTreeSet<u64>,
    sending: BTreeSet<u64>,
    asked_to_finish: BTreeSet<u64>,
    finished: BTreeMap<u64, Status>,
}

/// A whole job on one disk: planned, half of it done, closed, opened, and done.
struct Job {
    rows: u64,
    concurrency: u64,
    disk: Arc<Disk>,
    known: Arc<Mutex<Known>>,
    folder: Folder,
}

fn outcome(row: u64) -> (Status, Option<String>) {
    if row.is_multiple_of(7) { (Status::Failed, Some("refused ".repeat(40))) } else { (Status::Changed, None) }
}

impl Job {
    fn new(rows: u64, concurrency: u64) -> Self {
        let (folder, known) = (Folder::new(), Arc::default());
        let disk = Disk::watch(folder.path(), &known);
        Self { rows, concurrency, disk, known, folder }
    }

    fn note(&self, note: impl FnOnce(&mut Known)) {
        note(&mut self.known.lock().unwrap());
    }

    fn run(&self) -> Result<(), FileError> {
        let mut builder = Builder::create(&self.folder.plan(), &header())?;
        (0..self.rows).try_for_each(|row| builder.add(planned(row)))?;
        let file = builder.seal(self.rows)?;
        self.note(|known| known.is_sealed = true);
        let half = self.rows / 2;
        let first = file.start_run().and_then(|run| self.send(&run, 0..half));
        drop(file);
        let run = PlanFile::open(&self.folder.plan())?.start_run()?;
        run.recent_requests(1_764_000_000_000)?;
        let second = self.send(&run, half..self.rows);
        drop(run);
        first.and(second)
    }

    /// Sends and finishes rows, several at once; a row that cannot be marked is not sent.
    fn send(&self, run: &Run, rows: std::ops::Range<u64>) -> Result<(), FileError> {
        block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for lane in 0..self.concurrency {
                let rows = rows.clone().filter(move |row| row % self.concurrency == lane && row % 5 != 4);
                let rows: Vec<u64> = rows.collect();
                let (run, known, disk) = (run.clone(), Arc::clone(&self.known), Arc::clone(&self.disk));
                tasks.spawn(async move {
                    let mut result = Ok(());
                    for row in rows {
                        if disk.is_without_power() {
                            break;
                        }
                        result = send_one(&run, &known, row).await.and(result);
                    }
                    result
                });
            }
            tasks.join_all().await.into_iter().collect()
        })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.disk.forget();
    }
}

async fn send_one(run: &Run, known: &Mutex<Known>, row: u64) -> Result<(), FileError> {
    known.lock().unwrap().asked_to_send.insert(row);
    run.store(mark_sent(row, 1_764_000_000_000)).await?;
    known.lock().unwrap().sending.insert(row);
    known.lock().unwrap().asked_to_finish.insert(row);
    let (status, error) = outcome(row);
    run.store(finish(row, finished(status, error))).await?;
    known.lock().unwrap().finished.insert(row, status);
    Ok(())
}

/// What of the promises is not there; nothing when all is well.
fn shortfall(path: &Path, rows: u64, known: &Known) -> Option<String> {
    let mut found = Vec::new();
    let read = PlanFile::open(path).and_then(|file| {
        file.for_each_row(|row| found.push(row))?;
        file.for_each_change(drop)
    });
    if let Err(error) = read {
        return known.is_sealed.then(|| format!("a sealed plan was refused: {error}"));
    }
    if found.len() as u64 != rows {
        return Some(format!("{} of {rows} rows", found.len()));
    }
    found.into_iter().find_map(|row| {
        let (number, status) = (row.row, row.status);
        let is_kept = match known.finished.get(&number) {
            Some(finished) => status == *finished,
            None if known.asked_to_finish.contains(&number) => {
                [Status::Unknown, outcome(number).0].contains(&status)
                    || (status == Status::Pending && !known.sending.contains(&number))
            }
            None if known.sending.contains(&number) => status == Status::Unknown,
            None if known.asked_to_send.contains(&number) => [Status::Unknown, Status::Pending].contains(&status),
            None => status == planned(number).status,
        };
        (!is_kept).then(|| format!("row {number} is {status:?}"))
    })
}

fn seeds() -> u64 {
    std::env::var("REPLYIO_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60)
}

/// Runs a job, takes the power away at a random moment, and looks at several disks that this may have left.
fn lose_power(seed: u64, is_deaf: bool) -> (u64, Vec<String>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (rows, concurrency) = (random.u64(40..500), [1, 4, 16][random.usize(..3)]);
    let changes = {
        let job = Job::new(rows, concurrency);
        job.run().unwrap();
        job.disk.changes()
    };
    let job = Job::new(rows, concurrency);
    if is_deaf {
        job.disk.be_deaf();
    }
    // A third of the time while it is planned, sealed and opened, which takes few changes.
    let last = if random.u8(..3) == 0 { changes.min(120) } else { changes };
    job.disk.lose_power_at(random.u64(..last));
    job.run().unwrap();
    let Some(image) = job.disk.image() else { return (0, Vec::new()) };
    let mut short = Vec::new();
    for attempt in 0..4 {
        let left = Folder::new();
        image.write_to(left.path(), &mut random);
        short.extend(shortfall(&left.plan(), rows, &image.known).map(|what| format!("seed {seed}.{attempt}: {what}")));
    }
    (4, short)
}

#[test]
fn what_was_promised_outlives_the_loss_of_power() {
    let (mut tried, mut short) = (0, Vec::new());
    // The two others lose it when a run has made its log and nothing is in it.
    for seed in (0..seeds()).chain([148, 229]) {
        let (images, found) = lose_power(seed, false);
        tried += images;
        short.extend(found);
    }
    println!("reliability: power loss tried {tried} short {}", short.len());
    assert!(short.is_empty(), "{short:#?}");
    assert!(tried > 0);
}

/// The control: a disk that is never waited for must fall short, or the test above sees nothing.
#[test]
fn a_disk_that_is_not_waited_for_falls_short() {
    let (mut tried, mut short) = (0, 0);
    for seed in 0..seeds().min(20) {
        let (images, found) = lose_power(seed, true);
        tried += images;
        short += found.len();
    }
    println!("reliability: power loss without any sync tried {tried} short {short}");
    assert!(short > 5);
}

/// Runs a job whose I/O fails somewhere, and gives what is missing, and whether it failed at all.
fn fail(failing: Failing) -> (Option<String>, bool) {
    let job = Job::new(12, 3);
    job.disk.fail(Some(failing));
    let result = job.run();
    let was_reached = job.disk.operations() >= failing.first;
    job.disk.fail(None);
    if let Err(error) = &result {
        let expected = matches!(error.kind(), FileErrorKind::Io(_) | FileErrorKind::Full);
        if !expected {
            return (Some(format!("{error}")), was_reached);
        }
    }
    let known = job.known.lock().unwrap().clone();
    let short = shortfall(&job.folder.plan(), 12, &known);
    // An unsealed plan is gone or is whole; never is it in the way.
    let in_the_way = !known.is_sealed && job.folder.plan().exists() && PlanFile::open(&job.folder.plan()).is_err();
    let short = short.or_else(|| in_the_way.then(|| "an unfinished plan was left".to_owned()));
    (short, was_reached)
}

#[test]
fn failing_reads_writes_and_syncs_lose_nothing() {
    let (mut tried, mut short) = (0, Vec::new());
    for (lasting, full) in [(false, false), (true, false), (false, true), (true, true)] {
        for first in 1.. {
            let (sender, receiver) = mpsc::channel();
            let failing = Failing { first, lasting, full };
            thread::spawn(move || sender.send(fail(failing)));
            // Whoever waits for a busy file waits for 5 seconds.
            let (found, was_reached) = receiver.recv_timeout(Duration::from_secs(30)).expect("it hangs");
            if !was_reached {
                break;
            }
            tried += 1;
            short.extend(found.map(|what| format!("{failing:?}: {what}")));
        }
    }
    println!("reliability: failing I/O tried {tried} short {}", short.len());
    assert!(short.is_empty(), "{short:#?}");
}
