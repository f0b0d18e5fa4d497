//! How long a million rows take; `cargo test --release … -- --ignored --nocapture timing`.

use std::fs;
use std::time::Instant;

use replyio::plan::Status;
use replyio::plan::file::{Builder, PlanFile, PlannedRow};

use super::{Folder, NOW, block_on, finish, finished, header, mark_sent, planned};

const ROWS: u64 = 1_000_000;
const CONCURRENCY: u64 = 32;

/// One row of twenty changes.
fn sparse(row: u64) -> PlannedRow {
    let mut planned = planned(row);
    if !row.is_multiple_of(20) {
        planned.changes.clear();
        planned.status = Status::Unchanged;
    }
    planned
}

#[test]
#[ignore = "minutes without optimization"]
fn a_million_rows() {
    let folder = Folder::new();
    let started = Instant::now();
    let mut builder = Builder::create(&folder.plan(), &header()).unwrap();
    (0..ROWS).for_each(|row| builder.add(sparse(row)).unwrap());
    let added = started.elapsed();
    drop(builder.seal(ROWS).unwrap());
    let megabytes = fs::metadata(folder.plan()).unwrap().len() / 1_000_000;
    println!("timing: build {ROWS} rows {added:.2?}, sealed after {:.2?}, {megabytes} MB", started.elapsed());

    let started = Instant::now();
    let file = PlanFile::open(&folder.plan()).unwrap();
    let opened = started.elapsed();
    let open = file.open_rows(&[]).unwrap();
    println!("timing: open {opened:.2?}, with {} open rows {:.2?}", open.len(), started.elapsed());

    let run = file.start_run().unwrap();
    let started = Instant::now();
    let rows: Vec<u64> = open.iter().map(|row| row.row).take(20_000).collect();
    block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for lane in 0..CONCURRENCY {
            let rows = rows.iter().copied().filter(move |row| row / 20 % CONCURRENCY == lane).collect::<Vec<_>>();
            let run = run.clone();
            tasks.spawn(async move {
                for row in rows {
                    run.store(mark_sent(row, NOW)).await.unwrap();
                    run.store(finish(row, finished(Status::Changed, None))).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
    });
    let took = started.elapsed();
    let rate = rows.len() as u128 * 1_000 / took.as_millis().max(1);
    println!("timing: {} rows sent and finished in {took:.2?}, {rate} rows/s", rows.len());

    let started = Instant::now();
    let mut count = 0;
    file.for_each_row(|_| count += 1).unwrap();
    file.for_each_change(|_| count += 1).unwrap();
    println!("timing: report of {count} rows and changes {:.2?}", started.elapsed());
    let started = Instant::now();
    drop(run);
    println!("timing: end of the run {:.2?}", started.elapsed());
    let started = Instant::now();
    let file = PlanFile::open(&folder.plan()).unwrap();
    println!("timing: resume {:.2?}", started.elapsed());
    drop(file);
}
