//! A plan that was cut or flipped is refused, or what it tells is what it told before.

use std::fs;
use std::ops::Range;
use std::path::Path;

use replyio::plan::Status;
use replyio::plan::file::{FileErrorKind, PlanFile};

use super::{Folder, NOW, beside, block_on, build, export, finish, finished, mark_sent};

/// Whether what is at a path is refused; if not, it tells what it is to tell.
fn is_refused(path: &Path, expected: &str, what: &str) -> bool {
    let told = PlanFile::open(path).and_then(|file| export(&file));
    if let Ok(told) = &told {
        assert_eq!(told, expected, "{what}");
    }
    for suffix in ["-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(beside(path, suffix));
    }
    told.is_err()
}

/// A closed plan with rows of every kind: its bytes, and what it tells.
fn plan(folder: &Folder) -> (Vec<u8>, String) {
    let file = build(&folder.plan(), 300).unwrap();
    let run = file.start_run().unwrap();
    block_on(async {
        for row in (0..100).filter(|row| row % 5 != 4) {
            run.store(mark_sent(row, NOW + row.cast_signed())).await.unwrap();
            let error = (row % 3 == 0).then(|| format!("row {row}: refused"));
            let status = if error.is_some() { Status::Failed } else { Status::Changed };
            run.store(finish(row, finished(status, error))).await.unwrap();
        }
        run.store(mark_sent(101, NOW + 101)).await.unwrap();
    });
    drop(run);
    let told = export(&file).unwrap();
    (fs::read(folder.plan()).unwrap(), told)
}

/// Where the moments of requests are: between the first and the last of them, as SQLite keeps a number.
fn requests(bytes: &[u8]) -> Range<usize> {
    let place = |moment: i64| {
        let kept = &moment.to_be_bytes()[2..];
        bytes.windows(kept.len()).position(|found| found == kept).unwrap()
    };
    let (first, last) = (place(NOW + 1), place(NOW + 101));
    let found = first.min(last)..first.max(last);
    assert!(found.len() < 4_096);
    found
}

#[test]
fn a_cut_plan_is_refused() {
    let folder = Folder::new();
    let (bytes, told) = plan(&folder);
    let lengths = (0..bytes.len()).step_by(512);
    for length in lengths.clone() {
        fs::write(folder.plan(), &bytes[..length]).unwrap();
        assert!(is_refused(&folder.plan(), &told, "cut"), "{length} of {} bytes were taken", bytes.len());
    }
    println!("reliability: plan file cut tried {} short 0", lengths.len());
}

#[test]
fn a_flipped_bit_is_refused_or_changes_nothing() {
    let folder = Folder::new();
    let (bytes, told) = plan(&folder);
    let flips: u64 = std::env::var("REPLYIO_FLIPS").ok().and_then(|flips| flips.parse().ok()).unwrap_or(400);
    let mut random = fastrand::Rng::with_seed(4_711);
    // Every bit of the file's head, and then anywhere; and as often where the moments of requests are.
    let requests = requests(&bytes);
    let anywhere: Vec<usize> = (0..flips).map(|_| random.usize(..bytes.len() * 8)).collect();
    let moments = (0..flips).map(|_| random.usize(requests.start * 8..requests.end * 8));
    let places = (0..800).chain(anywhere).chain(moments.collect::<Vec<_>>());
    let (mut refused, mut same) = (0, 0);
    for place in places {
        let mut flipped = bytes.clone();
        flipped[place / 8] ^= 1 << (place % 8);
        fs::write(folder.plan(), flipped).unwrap();
        let counter = if is_refused(&folder.plan(), &told, &format!("bit {place}")) { &mut refused } else { &mut same };
        *counter += 1;
    }
    println!("reliability: plan file bit flips tried {} short 0 refused {refused}", refused + same);
    assert!(refused > 100);
}

/// A log of changes that was cut or flipped ends before the damage: an outcome may be gone, none is invented.
#[test]
fn a_damaged_log_takes_outcomes_back_and_makes_none_up() {
    // In the folder of the plan, a copy would find the plan's whole log.
    let (folder, other) = (Folder::new(), Folder::new());
    let (path, copy) = (folder.plan(), other.plan());
    let run = build(&path, 50).unwrap().start_run().unwrap();
    let rows: Vec<u64> = (0..40).filter(|row| row % 5 != 4).collect();
    block_on(async {
        for row in &rows {
            run.store(mark_sent(*row, 1)).await.unwrap();
            run.store(finish(*row, finished(Status::Changed, None))).await.unwrap();
        }
    });
    let (bytes, log) = (fs::read(&path).unwrap(), fs::read(beside(&path, "-wal")).unwrap());
    let mut random = fastrand::Rng::with_seed(4_711);
    let (mut lengths, mut without) = (Vec::new(), 0);
    for attempt in 0..120 {
        let mut damaged = log.clone();
        let place = random.usize(..log.len());
        if attempt % 2 == 0 {
            damaged.truncate(place);
        } else {
            damaged[place] ^= 1 << random.u32(..8);
        }
        fs::write(&copy, &bytes).unwrap();
        fs::write(beside(&copy, "-wal"), damaged).unwrap();
        let opened = match PlanFile::open(&copy) {
            Ok(opened) => opened,
            // Not even its first frame is left, and the file says that there is one.
            Err(error) => {
                assert!(matches!(error.kind(), FileErrorKind::NeedsLog(_)));
                without += 1;
                continue;
            }
        };
        let mut statuses = Vec::new();
        opened.for_each_row(|row| statuses.push((row.row, row.status))).unwrap();
        // What is left is what was true at one moment.
        let done = rows.iter().take_while(|row| statuses[usize::try_from(**row).unwrap()].1 == Status::Changed).count();
        for (row, status) in statuses {
            let place = rows.iter().position(|known| *known == row);
            match place {
                Some(place) if place < done => assert_eq!(status, Status::Changed),
                Some(place) if place == done => assert!(matches!(status, Status::Unknown | Status::Pending)),
                Some(_) => assert_eq!(status, Status::Pending),
                None => assert!(matches!(status, Status::Pending | Status::Unchanged)),
            }
        }
        lengths.push(done);
    }
    assert!(lengths.iter().min() < lengths.iter().max() && without < 20, "{without}");
}
