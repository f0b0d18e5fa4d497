//! Files made to harm whoever opens them: refused at once, with little memory, and nothing beside them is touched.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use replyio::plan::file::{FileErrorKind, PlanFile};
use rusqlite::Connection;

use super::{Folder, build, export, refusal};

const PLAN: &str = "PRAGMA application_id = 1380994137; PRAGMA user_version = 2;";
const ENDLESS: &str = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)";

fn make(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_schema_that_is_not_a_plans_is_refused_before_anything_of_it_runs() {
    let text = "SELECT 'sealed' AS key, printf('%.*c', 900000000, 'x') AS value";
    let schemas = [
        format!("CREATE VIEW plan AS {ENDLESS} SELECT 'sealed' AS key, 1 AS value FROM c WHERE x < 0"),
        format!("CREATE VIEW plan AS {text} UNION ALL {text}"),
        "CREATE TABLE plan (key TEXT, value AS (zeroblob(900000000)))".to_owned(),
        "CREATE TABLE plan (key TEXT DEFAULT (hex(randomblob(400000000))), value)".to_owned(),
        "CREATE VIRTUAL TABLE plan USING fts5(key, value)".to_owned(),
        (0..2_000).fold(String::new(), |sql, number| format!("{sql}CREATE TABLE t{number} (a);")),
    ];
    for schema in schemas {
        let folder = Folder::new();
        make(&folder.plan(), &format!("{PLAN} {schema}"));
        let before = fs::read(folder.plan()).unwrap();
        let started = Instant::now();
        let kind = refusal(&folder.plan());
        assert!(matches!(kind, FileErrorKind::Damaged(_)), "{schema:.80}: {kind:?}");
        assert!(started.elapsed() < Duration::from_secs(2), "{schema:.80}: {:?}", started.elapsed());
        assert_eq!(fs::read(folder.plan()).unwrap(), before);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "{schema:.80}");
    }
}

#[test]
fn a_table_of_a_plan_that_became_a_view_or_got_a_trigger_is_refused() {
    let edits = [
        format!(
            "DROP TABLE state; CREATE VIEW state AS {ENDLESS} SELECT 'log' AS key, 0 AS value, 0 AS checksum FROM c"
        ),
        format!("DROP VIEW changes; CREATE VIEW changes AS {ENDLESS} SELECT x FROM c"),
        "CREATE TRIGGER t AFTER UPDATE ON rows BEGIN UPDATE edits SET after = 'mine'; END".to_owned(),
        "CREATE INDEX i ON rows (abs(account_id))".to_owned(),
        "ALTER TABLE rows ADD COLUMN more".to_owned(),
    ];
    for edit in edits {
        let folder = Folder::new();
        let file = build(&folder.plan(), 10).unwrap();
        make(&folder.plan(), &edit);
        assert!(matches!(refusal(&folder.plan()), FileErrorKind::Damaged(_)), "{edit}");
        // Neither is it taken by a view that was opened before.
        assert!(matches!(file.counts().unwrap_err().kind(), FileErrorKind::Damaged(_)), "{edit}");
        assert!(matches!(file.start_run().err().unwrap().kind(), FileErrorKind::Damaged(_)), "{edit}");
    }
}

#[cfg(unix)]
#[test]
fn what_has_the_name_of_a_lock_is_neither_read_nor_written() {
    let folder = Folder::new();
    let (lock, victim) = (folder.0.join("plan.replyio.lock"), folder.0.join("victim.db"));
    make(&victim, "CREATE TABLE owner (name TEXT NOT NULL); INSERT INTO owner VALUES ('Ada')");
    let before = fs::read(&victim).unwrap();
    std::os::unix::fs::symlink("victim.db", &lock).unwrap();
    let file = build(&folder.plan(), 10).unwrap();
    drop(PlanFile::open(&folder.plan()).unwrap().start_run().unwrap());
    assert_eq!(fs::read(&victim).unwrap(), before);
    fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink("made.db", &lock).unwrap();
    drop(file.start_run().unwrap());
    assert!(!folder.0.join("made.db").exists());
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = Folder::new();
    let pipe = folder.0.join("pipe.replyio");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [&pipe, &folder.0, Path::new("/dev/zero")] {
        assert_eq!(refusal(path), FileErrorKind::NotAPlan, "{}", path.display());
    }
}

#[test]
fn a_check_that_takes_long_ends_when_it_is_told_to() {
    let folder = Folder::new();
    drop(build(&folder.plan(), 60_000).unwrap());
    let asked = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&asked);
    let opened = PlanFile::open_with(&folder.plan(), Arc::new(move || counts.fetch_add(1, Ordering::Relaxed) > 3));
    assert_eq!(opened.err().unwrap().kind(), &FileErrorKind::Interrupted);
    assert_eq!(asked.load(Ordering::Relaxed), 5);
    // So does what is read later.
    let stop = Arc::new(AtomicU32::new(0));
    let stops = Arc::clone(&stop);
    let interrupt = Arc::new(move || stops.load(Ordering::Relaxed) == 1);
    let file = PlanFile::open_with(&folder.plan(), interrupt).unwrap();
    export(&file).unwrap();
    stop.store(1, Ordering::Relaxed);
    assert_eq!(export(&file).unwrap_err().kind(), &FileErrorKind::Interrupted);
    assert_eq!(file.counts().unwrap_err().kind(), &FileErrorKind::Interrupted);
}
