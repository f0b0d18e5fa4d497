//! Files made to harm whoever opens them: refused at once, with little memory, and nothing beside them is touched.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use replyio::plan::file::{FileErrorKind, PlanFile, interruptible};
use rusqlite::Connection;

use super::{Folder, build, export, refusal};

const PLAN: &str = "PRAGMA application_id = 1380994137; PRAGMA user_version = 5;";
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
        // The SQLite of replyio has no such table; another program's has it.
        "PRAGMA writable_schema=ON; INSERT INTO sqlite_schema VALUES ('table', 'plan', 'plan', 0, \
         'CREATE VIRTUAL TABLE plan USING fts5(key, value)')"
            .to_owned(),
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
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{schema:.80}");
    }
}

#[test]
fn sqlite_has_no_kind_of_table_that_a_plan_does_not_need() {
    let connection = Connection::open_in_memory().unwrap();
    let mut modules = connection.prepare("PRAGMA module_list").unwrap();
    let modules: Vec<String> = modules.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let unneeded: Vec<&String> = modules.iter().filter(|name| !name.starts_with("pragma_")).collect();
    assert!(unneeded.is_empty(), "{unneeded:?}: see .cargo/config.toml");
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
    let (lock, victim) = (folder.path().join("plan.replyio.lock"), folder.path().join("victim.db"));
    make(&victim, "CREATE TABLE owner (name TEXT NOT NULL); INSERT INTO owner VALUES ('Ada')");
    let before = fs::read(&victim).unwrap();
    std::os::unix::fs::symlink("victim.db", &lock).unwrap();
    let file = build(&folder.plan(), 10).unwrap();
    drop(PlanFile::open(&folder.plan()).unwrap().start_run().unwrap());
    assert_eq!(fs::read(&victim).unwrap(), before);
    fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink("made.db", &lock).unwrap();
    drop(file.start_run().unwrap());
    assert!(!folder.path().join("made.db").exists());
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = Folder::new();
    let pipe = folder.path().join("pipe.replyio");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
        assert_eq!(refusal(path), FileErrorKind::NotAPlan, "{}", path.display());
    }
}

#[test]
fn a_check_that_takes_long_ends_when_it_is_told_to() {
    let folder = Folder::new();
    drop(build(&folder.plan(), 60_000).unwrap());
    let asked = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&asked);
    let interrupt = move || counts.fetch_add(1, Ordering::Relaxed) > 3;
    let opened = interruptible(interrupt, || PlanFile::open(&folder.plan()));
    assert_eq!(opened.err().unwrap().kind(), &FileErrorKind::Interrupted);
    assert_eq!(asked.load(Ordering::Relaxed), 5);
    // So does what is read later.
    let file = interruptible(|| false, || PlanFile::open(&folder.plan())).unwrap();
    let (exported, counted) = interruptible(|| true, || (export(&file), file.counts()));
    assert_eq!(exported.unwrap_err().kind(), &FileErrorKind::Interrupted);
    assert_eq!(counted.unwrap_err().kind(), &FileErrorKind::Interrupted);
    // Afterwards nothing interrupts.
    export(&file).unwrap();
}

/// A page inside the tree of a table that leads hundreds of times to one other page. Its head is at an offset.
fn inner_page(head: usize, child: usize) -> Vec<u8> {
    const CELLS: usize = 400;
    let mut page = vec![0; PAGE];
    let child = u32::try_from(child).unwrap().to_be_bytes();
    let begin = PAGE - CELLS * 5;
    let two = |number: usize| u16::try_from(number).unwrap().to_be_bytes();
    page[head] = 5;
    page[head + 3..head + 5].copy_from_slice(&two(CELLS));
    page[head + 5..head + 7].copy_from_slice(&two(begin));
    page[head + 8..head + 12].copy_from_slice(&child);
    for cell in 0..CELLS {
        let (at, pointer) = (begin + cell * 5, head + 12 + 2 * cell);
        page[pointer..pointer + 2].copy_from_slice(&two(at));
        page[at..at + 4].copy_from_slice(&child);
        page[at + 4] = 1;
    }
    page
}

const PAGE: usize = 4_096;

/// Puts pages over the only page of a table, each of which leads hundreds of times to the next one: a few KiB with so
/// many rows that no count of them ends.
fn make_endless(path: &Path, root: usize) {
    let mut bytes = fs::read(path).unwrap();
    let (begin, head) = ((root - 1) * PAGE, if root == 1 { 100 } else { 0 });
    let mut leaf = bytes[begin..begin + PAGE].to_vec();
    let length = 8 + 2 * usize::from(u16::from_be_bytes([leaf[head + 3], leaf[head + 4]]));
    leaf.copy_within(head..head + length, 0);
    let first = bytes.len() / PAGE + 1;
    bytes[begin + head..begin + PAGE].copy_from_slice(&inner_page(head, first)[head..]);
    (1..10).for_each(|step| bytes.extend(inner_page(0, first + step)));
    bytes.extend(leaf);
    let pages = u32::try_from(bytes.len() / PAGE).unwrap();
    bytes[28..32].copy_from_slice(&pages.to_be_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_tree_of_pages_that_has_no_end_is_refused_at_once() {
    for table in ["sqlite_schema", "rows", "requests", "log"] {
        let folder = Folder::new();
        let file = build(&folder.plan(), 10).unwrap();
        let query = "SELECT coalesce((SELECT rootpage FROM sqlite_schema WHERE name = ?1), 1)";
        let connection = Connection::open(folder.plan()).unwrap();
        let root: usize = connection.query_row(query, [table], |row| row.get(0)).unwrap();
        drop(connection);
        make_endless(&folder.plan(), root);
        let started = Instant::now();
        let kind = refusal(&folder.plan());
        assert!(matches!(kind, FileErrorKind::Damaged(_)), "{table}: {kind:?}");
        let started_run = file.start_run().err().map(|error| error.kind().clone());
        assert!(table != "sqlite_schema" || matches!(started_run, Some(FileErrorKind::Damaged(_))), "{started_run:?}");
        assert!(started.elapsed() < Duration::from_secs(4), "{table}: {:?}", started.elapsed());
    }
}

#[cfg(unix)]
fn lay(trap: &str, path: &Path) {
    match trap {
        "a FIFO" => assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success()),
        "a folder" => fs::create_dir(path).unwrap(),
        "a link" => std::os::unix::fs::symlink("precious", path).unwrap(),
        _ => std::os::unix::fs::symlink("made", path).unwrap(),
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_file_beside_a_plan_is_neither_waited_for_nor_written_through() {
    for suffix in ["-wal", "-shm", "-journal"] {
        for name in ["a FIFO", "a folder", "a link", "a dangling link"] {
            let folder = Folder::new();
            let precious = folder.path().join("precious");
            fs::write(&precious, "keep me").unwrap();
            let file = build(&folder.plan(), 10).unwrap();
            lay(name, &super::beside(&folder.plan(), suffix));
            let started = Instant::now();
            let kind = FileErrorKind::NotALog(format!("plan.replyio{suffix}"));
            assert_eq!(refusal(&folder.plan()), kind, "{name}");
            assert_eq!(file.counts().unwrap_err().kind(), &kind, "{name}");
            assert_eq!(file.start_run().err().unwrap().kind(), &kind, "{name}");
            assert_eq!(PlanFile::recover(&folder.plan()).err().unwrap().kind(), &kind, "{name}");
            assert!(started.elapsed() < Duration::from_secs(2), "{name}{suffix}: {:?}", started.elapsed());
            assert_eq!(fs::read_to_string(&precious).unwrap(), "keep me", "{name}{suffix}");
            assert!(!folder.path().join("made").exists(), "{name}{suffix}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_new_plan_is_made_through_no_link_and_waits_for_no_fifo() {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let folder = Folder::new();
        let precious = folder.path().join("precious");
        fs::write(&precious, "keep me").unwrap();
        std::os::unix::fs::symlink("precious", super::beside(&folder.plan(), suffix)).unwrap();
        let started = Instant::now();
        let made = build(&folder.plan(), 10).and_then(|file| file.start_run().map(drop));
        assert!(made.is_err(), "{suffix}");
        assert!(started.elapsed() < Duration::from_secs(2), "{suffix}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "keep me", "{suffix}");
    }
}

#[test]
fn a_file_of_another_kind_with_the_name_of_a_file_of_sqlite_is_not_deleted() {
    let other = Folder::new();
    drop(build(&other.plan(), 3).unwrap());
    let plan = fs::read(other.plan()).unwrap();
    for suffix in ["-wal", "-shm", "-journal"] {
        for content in [&plan[..], b"notes", b"notes about the leads of Wal-Mart, which are long enough"] {
            // Nothing opens a `-shm`, and its length can be that of a plan.
            if suffix == "-shm" && content.len() > 4_096 {
                continue;
            }
            let folder = Folder::new();
            let beside = super::beside(&folder.plan(), suffix);
            fs::write(&beside, content).unwrap();
            assert!(build(&folder.plan(), 10).is_err(), "planned beside {suffix}");
            fs::remove_file(&beside).unwrap();
            let file = build(&folder.plan(), 10).unwrap();
            fs::write(&beside, content).unwrap();
            let kind = FileErrorKind::NotALog(format!("plan.replyio{suffix}"));
            assert_eq!(refusal(&folder.plan()), kind, "{suffix}");
            assert_eq!(file.counts().unwrap_err().kind(), &kind, "{suffix}");
            assert_eq!(file.start_run().err().unwrap().kind(), &kind, "{suffix}");
            assert_eq!(PlanFile::recover(&folder.plan()).err().unwrap().kind(), &kind, "{suffix}");
            assert_eq!(fs::read(&beside).unwrap(), content, "{suffix}");
        }
    }
}

#[test]
fn no_plan_gets_a_name_under_which_sqlite_keeps_a_file_of_another_plan() {
    for suffix in ["-wal", "-shm", "-journal"] {
        let folder = Folder::new();
        let path = super::beside(&folder.plan(), suffix);
        let error = build(&path, 3).err().unwrap();
        let expected =
            format!("cannot have a name that ends in {suffix}: SQLite keeps such a file next to another plan");
        assert!(error.to_string().contains(&expected), "{error}");
        assert!(!path.exists());
    }
}

/// Changes a plan and makes its checksums right again, as the tests of the fuzzer do.
fn forge(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(&format!("PRAGMA synchronous=OFF; {sql}")).unwrap();
    super::reseal::reseal(&connection);
}

#[test]
fn what_no_plan_can_say_is_refused_although_its_checksums_are_right() {
    let edits = [
        "UPDATE edits SET after = 'seven' WHERE field = 'owner_user_id' AND row = 0",
        "UPDATE edits SET after = 7 WHERE field = 'city' AND row = 0",
        "UPDATE edits SET before = 7 WHERE field = 'city' AND row = 0",
        "UPDATE edits SET answered = 7 WHERE field = 'city' AND row = 0",
        "UPDATE edits SET field = 'id' WHERE field = 'city' AND row = 0",
        "DELETE FROM rows WHERE row = 3",
        "DELETE FROM rows WHERE row = 8",
        "UPDATE edits SET row = 77 WHERE row = 0",
        "UPDATE rows SET account_id = 0 WHERE row = 0",
        "UPDATE rows SET account_id = -4711 WHERE row = 0",
        "UPDATE rows SET row = -1 WHERE row = 0; UPDATE edits SET row = -1 WHERE row = 0",
        "UPDATE rows SET position = -1 WHERE row = 0",
        "UPDATE rows SET weight = -1 WHERE row = 0",
        "UPDATE rows SET repeated = -9223372036854775808 WHERE row = 0",
        "UPDATE rows SET status = 'sending' WHERE row = 0",
        "UPDATE rows SET error = CAST(x'ff' AS TEXT) WHERE row = 0",
        "INSERT INTO plan VALUES ('more', 1), ('most', 1)",
        "UPDATE plan SET value = printf('%.*c', 2000000, 'x') WHERE key = 'base_url'",
        "UPDATE plan SET value = printf('%.*c', 60000000, 'x') WHERE key IN \
         ('base_url', 'source', 'act_as', 'identity')",
        "UPDATE plan SET value = NULL WHERE key = 'base_url'",
        "UPDATE plan SET value = 'now' WHERE key = 'created_at_ms'",
        "INSERT INTO state VALUES ('more', 1, 0)",
        "UPDATE state SET value = printf('%.*c', 100000, 'x') WHERE key = 'host'",
    ];
    for edit in edits {
        let folder = Folder::new();
        drop(build(&folder.plan(), 10).unwrap());
        forge(&folder.plan(), edit);
        let kind = PlanFile::open(&folder.plan()).err().map(|error| error.kind().clone());
        assert!(matches!(kind, Some(FileErrorKind::Damaged(_))), "{edit}: {kind:?}");
    }
    let folder = Folder::new();
    drop(build(&folder.plan(), 10).unwrap());
    forge(&folder.plan(), "UPDATE rows SET account_id = 4712 WHERE row = 0");
    // A forged plan that a plan could be is taken: checksums detect damage, not intent.
    assert!(PlanFile::open(&folder.plan()).is_ok());
}
