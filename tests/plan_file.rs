//! The plan file: nothing lost, done is done, one owner, and damage is loud.
#![expect(clippy::unwrap_used, reason = "a helper of tests may fail as a test may")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use replyio::Field;
use replyio::plan::file::{Builder, ChangeView, FileError, FileErrorKind, Header, PlanFile, PlannedRow, RowView};
use replyio::plan::{Change, MatchOn, Mode, Nulls, Status, Value};
use tokio::runtime::Builder as RuntimeBuilder;
use tokio::task::JoinSet;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("replyio-plan-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn header() -> Header {
    Header {
        base_url: "http://127.0.0.1:1/v3".to_owned(),
        act_as: Some("someone@example.com".to_owned()),
        team_id: None,
        mode: Mode::Patch,
        nulls: Nulls::Keep,
        match_on: MatchOn::Id,
        created_at_ms: 1_764_000_000_000,
        source: "a table".to_owned(),
        is_revert: false,
    }
}

fn planned(row: u64) -> PlannedRow {
    let changes = vec![
        Change { field: Field::City, before: Value::Text("Oslo".into()), after: Value::Text(format!("Città {row}")) },
        Change { field: Field::Phone, before: Value::Text("+47".into()), after: Value::Null },
        Change { field: Field::OwnerUserId, before: Value::Integer(3), after: Value::Integer(4) },
    ];
    let pending = !row.is_multiple_of(3);
    PlannedRow {
        row,
        account_id: Some(row.cast_signed() + 100),
        key: row.is_multiple_of(5).then(|| format!("company-{row}.example")),
        status: if pending { Status::Pending } else { Status::Unchanged },
        error: None,
        position: Some(row),
        changes: if pending { changes } else { Vec::new() },
    }
}

fn build(path: &Path, rows: u64) -> PlanFile {
    let mut builder = Builder::create(path, &header()).unwrap();
    for row in 0..rows {
        builder.add(planned(row)).unwrap();
    }
    builder.seal(rows).unwrap()
}

type Export = (Header, Vec<RowView>, Vec<ChangeView>);

fn export(file: &PlanFile) -> Result<Export, FileError> {
    let (mut rows, mut changes) = (Vec::new(), Vec::new());
    file.for_each_row(|row| rows.push(row))?;
    file.for_each_change(|change| changes.push(change))?;
    Ok((file.header().clone(), rows, changes))
}

fn refusal(path: &Path) -> FileErrorKind {
    PlanFile::open(path).map(drop).unwrap_err().kind().clone()
}

fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    RuntimeBuilder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn what_was_planned_is_there_after_closing() {
    let folder = Folder::new("roundtrip");
    let path = folder.file("a.replyplan");
    let before = export(&build(&path, 3_000)).unwrap();
    assert_eq!((before.1.len(), before.2.len()), (3_000, 6_000));
    let file = PlanFile::open(&path).unwrap();
    assert_eq!(export(&file).unwrap(), before);
    let open = file.open_rows().unwrap();
    assert_eq!(open.len(), 2_000);
    assert!(open.iter().all(|row| !row.was_sending));
    assert_eq!(
        file.counts().unwrap().into_iter().collect::<Vec<_>>(),
        [(Status::Unchanged, 1_000), (Status::Pending, 2_000)]
    );
    assert_eq!(file.changes_of(&[1]).unwrap().remove(&1).unwrap(), planned(1).changes);
    #[cfg(unix)]
    for entry in fs::read_dir(&folder.0).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", entry.path().display());
    }
}

#[test]
fn an_outcome_is_there_as_soon_as_it_was_reported() {
    let folder = Folder::new("outcomes");
    let path = folder.file("a.replyplan");
    let file = build(&path, 300);
    on_a_runtime(async {
        let mut tasks = JoinSet::new();
        for row in (0..300).filter(|row| row % 3 != 0) {
            let file = file.clone();
            tasks.spawn(async move {
                file.sending(row, 1_764_000_000_000).await.unwrap();
                if row % 2 == 0 {
                    let error = (row % 4 == 0).then(|| "row: refused".to_owned());
                    file.finish(row, Status::Changed, error, None).await.unwrap();
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    });
    // As a killed process leaves it: another one sees the files as they are now.
    let copy = folder.file("b.replyplan");
    for suffix in ["", "-wal"] {
        let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        fs::copy(name(&path), name(&copy)).unwrap();
    }
    let copied = PlanFile::open(&copy).unwrap();
    assert_eq!(export(&copied).unwrap(), export(&file).unwrap());
    let open = copied.open_rows().unwrap();
    assert_eq!(open.len(), 100);
    assert!(open.iter().all(|row| row.was_sending && row.row % 2 == 1));
    assert_eq!(copied.counts().unwrap()[&Status::Unknown], 100);
    on_a_runtime(async {
        copied.sending(1, 1_764_000_000_001).await.unwrap();
        copied.finish(1, Status::Changed, None, None).await.unwrap();
        copied.finish(5, Status::Unknown, Some("no answer".into()), None).await.unwrap();
        copied.requeue(7).await.unwrap();
    });
    let (_, rows, _) = export(&copied).unwrap();
    assert_eq!((rows[1].status, rows[1].repeated), (Status::Changed, 1));
    assert_eq!(rows[7].status, Status::Pending);
    assert_eq!(copied.retry_failed().unwrap(), 1);
    assert_eq!(export(&copied).unwrap().1[5].status, Status::Pending);
}

#[test]
fn a_plan_that_is_not_whole_refuses_to_run() {
    let folder = Folder::new("half");
    let path = folder.file("a.replyplan");
    let mut builder = Builder::create(&path, &header()).unwrap();
    for row in 0..20_000 {
        builder.add(planned(row)).unwrap();
    }
    for attempt in 0..20 {
        let copy = folder.file(&format!("{attempt}.replyplan"));
        fs::copy(&path, &copy).unwrap();
        let kind = refusal(&copy);
        assert!(!matches!(kind, FileErrorKind::Locked(_) | FileErrorKind::Missing), "{kind:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(builder);
    assert_eq!(refusal(&path), FileErrorKind::Missing, "nothing is left of it");
    let mut builder = Builder::create(&path, &header()).unwrap();
    builder.add(planned(0)).unwrap();
    assert!(builder.seal(2).is_err(), "a row is missing");
    assert!(!path.exists());
}

#[test]
fn what_is_no_plan_of_this_version_is_told_apart() {
    let folder = Folder::new("foreign");
    let path = folder.file("a.replyplan");
    assert_eq!(refusal(&path), FileErrorKind::Missing);
    fs::write(&path, "id,city\n1,Oslo\n".repeat(200)).unwrap();
    assert_eq!(refusal(&path), FileErrorKind::NotAPlan);
    fs::write(&path, "").unwrap();
    assert_eq!(refusal(&path), FileErrorKind::NotAPlan);
    fs::remove_file(&path).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE rows (row)").unwrap();
    assert_eq!(refusal(&path), FileErrorKind::NotAPlan);
    fs::remove_file(&path).unwrap();
    build(&path, 10).close().unwrap();
    assert_eq!(Builder::create(&path, &header()).map(drop).unwrap_err().kind(), &FileErrorKind::Exists);
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    assert_eq!(refusal(&path), FileErrorKind::Newer);
    fs::remove_file(&path).unwrap();
    let file = build(&path, 10);
    let header = header();
    assert!(file.check_target(&header.base_url, header.act_as.as_deref(), None).is_ok());
    for (base_url, act_as, team_id) in [
        ("http://127.0.0.1:2/v3", header.act_as.as_deref(), None),
        (header.base_url.as_str(), None, None),
        (header.base_url.as_str(), header.act_as.as_deref(), Some(1)),
    ] {
        let refused = file.check_target(base_url, act_as, team_id).unwrap_err();
        assert!(matches!(refused.kind(), FileErrorKind::Foreign(_)), "{refused}");
    }
}

#[test]
fn there_is_one_owner_and_the_second_is_told_who() {
    let folder = Folder::new("owner");
    let path = folder.file("a.replyplan");
    let file = build(&path, 10);
    let asked = Instant::now();
    let kind = refusal(&path);
    assert!(asked.elapsed() < Duration::from_secs(1));
    let FileErrorKind::Locked(owner) = kind else { unreachable!("{kind:?}") };
    assert!(owner.contains(&std::process::id().to_string()), "{owner}");
    file.close().unwrap();
    assert_eq!(file.counts().unwrap_err().kind(), &FileErrorKind::Closed);
    drop(PlanFile::open(&path).unwrap());
    drop(PlanFile::open(&path).unwrap());
}

/// Opens a damaged copy. `None` when it is refused; otherwise what it says.
fn read_damaged(path: &Path, bytes: &[u8]) -> Option<Export> {
    fs::write(path, bytes).unwrap();
    let read = PlanFile::open(path).and_then(|file| export(&file)).ok();
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let _ = fs::remove_file(format!("{}{suffix}", path.display()));
    }
    read
}

#[test]
fn a_file_cut_at_any_sector_is_refused() {
    let folder = Folder::new("cut");
    let path = folder.file("a.replyplan");
    build(&path, 300).close().unwrap();
    let bytes = fs::read(&path).unwrap();
    let cut = folder.file("b.replyplan");
    assert!(read_damaged(&cut, &bytes).is_some(), "the control: the whole file is taken");
    let mut tried = 0;
    for length in (0..bytes.len()).step_by(512) {
        assert_eq!(read_damaged(&cut, &bytes[..length]), None, "cut to {length} of {} bytes", bytes.len());
        tried += 1;
    }
    println!("reliability: plan file cut tried {tried} short 0");
}

#[test]
fn a_flipped_bit_is_refused_or_changes_nothing() {
    let folder = Folder::new("flip");
    let path = folder.file("a.replyplan");
    build(&path, 200).close().unwrap();
    let bytes = fs::read(&path).unwrap();
    let flipped = folder.file("b.replyplan");
    let original = read_damaged(&flipped, &bytes).unwrap();
    let mut random = fastrand::Rng::with_seed(4711);
    let flips: usize = std::env::var("REPLYIO_FLIPS").ok().and_then(|count| count.parse().ok()).unwrap_or(400);
    let mut refused = 0;
    for _ in 0..flips {
        let (byte, bit) = (random.usize(..bytes.len()), random.u32(..8));
        let mut damaged = bytes.clone();
        damaged[byte] ^= 1 << bit;
        match read_damaged(&flipped, &damaged) {
            None => refused += 1,
            Some(read) => assert_eq!(read, original, "bit {bit} of byte {byte} was not noticed"),
        }
    }
    assert!(refused > flips / 4, "most of the file matters: {refused} of {flips}");
    println!("reliability: plan file bit flips tried {flips} short 0 refused {refused}");
}
