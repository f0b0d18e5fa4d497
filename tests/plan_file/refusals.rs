//! What is no whole plan of this client is refused, each for its reason, and left as it is.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use replyio::ApiKey;
use replyio::plan::file::{Builder, FileErrorKind, Half, Header, PlanFile, Record};
use rusqlite::Connection;

use super::{
    Folder, NOW, beside, block_on, build, child, child_path, export, header, key, mark_sent, planned, refusal,
};

#[test]
fn a_whole_plan_opens_as_it_was_sealed() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 300).unwrap();
    let sealed = export(&file).unwrap();
    drop(file);
    let file = PlanFile::open(&folder.plan()).unwrap();
    assert_eq!(export(&file).unwrap(), sealed);
    assert_eq!(sealed.lines().count(), 1 + 300 + 480);
}

#[test]
fn a_half_written_plan_refuses() {
    let folder = Folder::new();
    let (path, copy) = (folder.plan(), folder.path().join("copy.replyio"));
    let mut builder = Builder::create(&path, &header()).unwrap();
    for row in 0..50_000 {
        builder.add(planned(row)).unwrap();
    }
    fs::copy(&path, &copy).unwrap();
    assert_eq!(refusal(&copy), FileErrorKind::HalfWritten(Half::Plan));
    drop(builder);
    assert_eq!(refusal(&path), FileErrorKind::Missing);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_plan_with_rows_too_few_is_not_sealed() {
    let folder = Folder::new();
    let mut builder = Builder::create(&folder.plan(), &header()).unwrap();
    builder.add(planned(0)).unwrap();
    assert!(builder.seal(2).is_err());
    assert!(!folder.plan().exists());
}

#[test]
fn a_row_twice_is_not_sealed() {
    let folder = Folder::new();
    let mut builder = Builder::create(&folder.plan(), &header()).unwrap();
    builder.add(planned(0)).unwrap();
    builder.add(planned(0)).unwrap();
    assert!(builder.seal(2).is_err());
    assert!(!folder.plan().exists());
}

#[test]
fn planning_that_was_killed_refuses() {
    if let Some(path) = child_path() {
        let mut builder = Builder::create(&path, &header()).unwrap();
        for row in 0_u64.. {
            builder.add(planned(row)).unwrap();
            if row == 20_000 {
                println!("started");
            }
        }
    }
    for pause in [0, 5, 30, 100] {
        let folder = Folder::new();
        let mut child = child("refusals::planning_that_was_killed_refuses", &folder.plan());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("started")));
        thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(refusal(&folder.plan()), FileErrorKind::HalfWritten(Half::Plan));
    }
}

#[test]
fn what_is_no_plan_is_refused_and_left_alone() {
    let folder = Folder::new();
    let path = folder.plan();
    assert_eq!(refusal(&path), FileErrorKind::Missing);
    fs::write(&path, "").unwrap();
    assert_eq!(
        refusal(&path),
        FileErrorKind::HalfWritten(Half::Plan),
        "a process died before the first of it was kept"
    );
    assert_eq!(fs::read(&path).unwrap(), b"");
    for content in ["x", "id,city\n1,Oslo\n", &"text and more text ".repeat(1_000)] {
        fs::write(&path, content).unwrap();
        assert_eq!(refusal(&path), FileErrorKind::NotAPlan);
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
    fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE rows (row)").unwrap();
    let before = fs::read(&path).unwrap();
    assert_eq!(refusal(&path), FileErrorKind::NotAPlan);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn an_existing_file_is_not_planned_over() {
    let folder = Folder::new();
    fs::write(folder.plan(), "mine").unwrap();
    let error = Builder::create(&folder.plan(), &header()).err().unwrap();
    assert_eq!(error.kind(), &FileErrorKind::Occupied);
    assert_eq!(fs::read_to_string(folder.plan()).unwrap(), "mine");
    fs::remove_file(folder.plan()).unwrap();
    fs::create_dir(folder.plan()).unwrap();
    let error = Builder::create(&folder.plan(), &header()).err().unwrap();
    assert_eq!(error.kind(), &FileErrorKind::Occupied);
}

#[test]
fn an_existing_plan_is_not_planned_over() {
    let folder = Folder::new();
    drop(build(&folder.plan(), 1).unwrap());
    let error = Builder::create(&folder.plan(), &header()).err().unwrap();
    assert_eq!(error.kind(), &FileErrorKind::Exists);
}

type Expected<'a> = &'a dyn Fn(&FileErrorKind) -> bool;

fn edit(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_newer_or_an_edited_plan_is_refused() {
    let damaged = |kind: &FileErrorKind| matches!(kind, FileErrorKind::Damaged(_));
    let newer = |kind: &FileErrorKind| kind == &FileErrorKind::Newer;
    let older = |kind: &FileErrorKind| kind == &FileErrorKind::Older;
    let foreign = |kind: &FileErrorKind| kind == &FileErrorKind::NotAPlan;
    let half = |kind: &FileErrorKind| kind == &FileErrorKind::HalfWritten(Half::Plan);
    let cases: [(&str, Expected<'_>); 27] = [
        ("PRAGMA user_version = 6", &newer),
        ("PRAGMA user_version = 4", &older),
        ("PRAGMA user_version = 0", &foreign),
        ("PRAGMA application_id = 1", &foreign),
        ("DELETE FROM plan WHERE key = 'sealed'", &half),
        ("UPDATE plan SET value = 'https://example.com' WHERE key = 'base_url'", &damaged),
        ("UPDATE plan SET value = NULL WHERE key = 'act_as'", &damaged),
        ("UPDATE rows SET status = 'changed' WHERE row = 3", &damaged),
        ("UPDATE rows SET account_id = 1 WHERE row = 3", &damaged),
        ("UPDATE edits SET after = 'x' WHERE row = 3", &damaged),
        ("UPDATE edits SET planned = 0 WHERE row = 3", &damaged),
        ("DELETE FROM rows WHERE row = 3", &damaged),
        ("DELETE FROM edits WHERE row = 3", &damaged),
        ("UPDATE requests SET sent_at = sent_at - 3600000 WHERE number = 3", &damaged),
        ("UPDATE requests SET number = 30 WHERE number = 9", &damaged),
        ("DELETE FROM requests WHERE number = 3", &damaged),
        ("INSERT INTO requests SELECT 10, sent_at, checksum FROM requests WHERE number = 9", &damaged),
        ("DELETE FROM requests WHERE number < 4", &damaged),
        ("DELETE FROM requests WHERE number > 4", &damaged),
        ("DELETE FROM requests", &damaged),
        ("DELETE FROM state WHERE key = 'items'", &damaged),
        ("UPDATE state SET value = value + 1 WHERE key = 'sent'", &damaged),
        ("UPDATE log SET present = present + 1", &damaged),
        ("DELETE FROM log", &damaged),
        ("UPDATE plan SET value = 3 WHERE key = 'cleared'", &damaged),
        ("UPDATE state SET value = 'complete' WHERE key = 'items'", &damaged),
        ("CREATE TRIGGER mine AFTER UPDATE ON rows BEGIN DELETE FROM edits; END", &damaged),
    ];
    for (sql, expected) in cases {
        let folder = Folder::new();
        let run = build(&folder.plan(), 20).unwrap().start_run().unwrap();
        block_on(run.store(Record::Requests((NOW..NOW + 9).collect()))).unwrap();
        drop(run);
        edit(&folder.plan(), sql);
        let kind = refusal(&folder.plan());
        assert!(expected(&kind), "{sql}: {kind:?}");
    }
}

#[test]
fn requests_of_an_hour_ago_are_forgotten_and_the_others_still_whole() {
    let folder = Folder::new();
    let run = build(&folder.plan(), 20).unwrap().start_run().unwrap();
    let hour = 3_600_000;
    // The third comes from a clock that was set back, the last two from one that is ahead.
    let moments = vec![NOW, NOW + 20, NOW - 5, NOW + 30, NOW + hour + 15, NOW + 3 * hour];
    block_on(run.store(Record::Requests(moments))).unwrap();
    let now = NOW + hour + 10;
    assert_eq!(run.recent_requests(now).unwrap(), [NOW + 20, NOW + 30, now]);
    block_on(run.store(Record::Requests(vec![now]))).unwrap();
    drop(run);
    let run = PlanFile::open(&folder.plan()).unwrap().start_run().unwrap();
    assert_eq!(run.recent_requests(now).unwrap(), [NOW + 20, NOW + 30, now, now]);
    assert!(run.recent_requests(now + 9 * hour).unwrap().is_empty());
    block_on(run.store(Record::Requests(vec![now + 9 * hour]))).unwrap();
    drop(run);
    assert_eq!(
        PlanFile::open(&folder.plan()).unwrap().start_run().unwrap().recent_requests(now + 9 * hour).unwrap(),
        [now + 9 * hour]
    );
}

#[test]
fn a_plan_for_something_else_refuses_its_client() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 1).unwrap();
    let (base, user) = ("https://api.reply.io/v3", Some("colleague@example.com"));
    file.check_target(base, user, Some(7), &key(), false).unwrap();
    for (base, user, team) in [
        ("https://api.reply.io/v4", user, Some(7)),
        (base, None, Some(7)),
        (base, Some("other@example.com"), Some(7)),
        (base, user, None),
        (base, user, Some(8)),
    ] {
        let error = file.check_target(base, user, team, &key(), true).unwrap_err();
        assert!(matches!(error.kind(), FileErrorKind::Foreign(_)), "{error}");
    }
    let other = ApiKey::new("key-of-another-user").unwrap();
    let error = file.check_target(base, user, Some(7), &other, false).unwrap_err();
    assert!(matches!(error.kind(), FileErrorKind::Foreign(_)) && error.to_string().contains("new_key=True"), "{error}");
    file.check_target(base, user, Some(7), &other, true).unwrap();
}

#[cfg(unix)]
#[test]
fn only_its_owner_may_read_it_and_what_is_beside_it() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let run = build(&folder.plan(), 10).unwrap().start_run().unwrap();
    block_on(run.store(mark_sent(0, 1))).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let mode = fs::metadata(beside(&folder.plan(), suffix)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    drop(run);
    // The file alone is complete.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn an_io_error_names_its_file_once() {
    let folder = Folder::new();
    let file = build(&folder.plan(), 10).unwrap();
    // SQLite is told to follow no link, and reports that with the path.
    fs::rename(folder.plan(), folder.path().join("moved")).unwrap();
    std::os::unix::fs::symlink("moved", folder.plan()).unwrap();
    for error in [file.counts().err(), file.start_run().err()] {
        let error = error.unwrap().to_string();
        assert_eq!(error.matches("plan.replyio").count(), 1, "{error}");
    }
}

#[test]
fn a_half_written_file_is_told_by_what_it_was_to_become() {
    let folder = Folder::new();
    let told = |path: &Path| PlanFile::open(path).err().unwrap().to_string();
    fs::write(folder.plan(), "").unwrap();
    assert!(
        told(&folder.plan())
            .ends_with("planning was interrupted; delete it and plan again; if_exists=\"resume\" does both")
    );
    let replaced = beside(&folder.plan(), ".replaced");
    fs::write(&replaced, "").unwrap();
    let error = told(&folder.plan());
    let replaced = replaced.display();
    let expected = format!("The plan that it should have replaced is now {replaced}; to restore that plan, rename it");
    assert!(error.contains(&expected), "{error}");
    let revert = folder.path().join("plan.revert2.replyio");
    fs::write(&revert, "").unwrap();
    assert!(told(&revert).contains("it is a revert; revert its plan again, which replaces this file"));
    // By its content, too.
    let path = folder.path().join("made.replyio");
    let parent = Some(header().identity);
    let mut builder = Builder::create(&path, &Header { parent, generation: 1, ..header() }).unwrap();
    builder.add(planned(0)).unwrap();
    let copy = folder.path().join("copy.replyio");
    fs::copy(&path, &copy).unwrap();
    drop(builder);
    assert!(told(&copy).contains("it is a revert; revert its plan again, which replaces this file"));
}
