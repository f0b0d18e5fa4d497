//! The plans that are changed: a new one, one that was applied, its revert, and one whose run was killed.

use std::fs;
use std::path::{Path, PathBuf};

use replyio::plan::file::{Attempt, Builder, Finished, Header, ItemsProof, KeyMark, PlanFile, PlannedRow, Record};
use replyio::plan::{Change, MatchOn, Mode, Nulls, Status, Value};
use replyio::{ApiKey, Field};

pub(crate) const ROWS: u64 = 24;

/// A plan file and what is beside it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub(crate) file: Vec<u8>,
    pub(crate) log: Vec<u8>,
    pub(crate) journal: Vec<u8>,
}

pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

impl Plan {
    pub(crate) fn of(path: &Path) -> Self {
        let read = |suffix| fs::read(beside(path, suffix)).unwrap_or_default();
        Self { file: read(""), log: read("-wal"), journal: read("-journal") }
    }

    pub(crate) fn put(&self, path: &Path) {
        for (suffix, bytes) in [("", &self.file), ("-wal", &self.log), ("-journal", &self.journal), ("-shm", &vec![])] {
            let path = beside(path, suffix);
            if bytes.is_empty() && !suffix.is_empty() {
                let _ = fs::remove_file(path);
            } else {
                fs::write(path, bytes).unwrap();
            }
        }
    }
}

fn header() -> Header {
    Header {
        identity: Header::new_identity().unwrap(),
        parent: None,
        parent_writes: None,
        key: KeyMark::of(&ApiKey::new("key-of-the-test").unwrap()).unwrap(),
        base_url: "https://api.reply.io/v3".to_owned(),
        act_as: Some("colleague@example.com".to_owned()),
        team_id: Some(7),
        mode: Mode::Patch,
        nulls: Nulls::Keep,
        match_on: MatchOn::DomainName,
        created_at_ms: 1_764_000_000_000,
        source: "a CSV file of 24 rows".to_owned(),
        source_digest: [7; 32],
        suspicions: Vec::new(),
        generation: 0,
    }
}

fn planned(row: u64) -> PlannedRow {
    let text = |what: &str| Value::Text(format!("{what} {row} äöü"));
    let owner = Change::new(Field::OwnerUserId, Value::Null, Value::Integer(row.cast_signed() + 1));
    let city = Change::new(Field::City, text("Oslo"), text("Bergen"));
    let changes = if row % 5 == 4 { Vec::new() } else { vec![city, owner] };
    PlannedRow {
        row,
        account_id: Some(4_711 + row.cast_signed()),
        key: Some(format!("customer-{row}.example")),
        status: if changes.is_empty() { Status::Unchanged } else { Status::Pending },
        error: None,
        position: Some(row * 3),
        weight: 40 + row,
        listed: [Field::Phone].into_iter().collect(),
        changes,
    }
}

fn build(path: &Path) -> PlanFile {
    let mut builder = Builder::create(path, &header()).unwrap();
    (0..ROWS).for_each(|row| builder.add(planned(row)).unwrap());
    builder.note_requests([1_764_000_000_000, 1_764_000_000_100]);
    builder.seal(ROWS).unwrap()
}

pub(crate) fn make(folder: &Path) -> Vec<Plan> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let path = folder.join("plan.replyplan");
    let file = build(&path);
    let fresh = Plan::of(&path);
    let now = 1_764_000_100_000;
    let run = file.start_run().unwrap();
    let killed = runtime.block_on(async {
        run.store(Record::Items(ItemsProof::Complete)).await.unwrap();
        run.store(Record::Cleared(vec!["tags".to_owned()])).await.unwrap();
        for row in 0..12 {
            run.store(Record::Sent { row, attempt: Attempt::default(), at_ms: now }).await.unwrap();
            let mut finished = Finished::new(if row % 3 == 1 { Status::Failed } else { Status::Changed }, now);
            match row % 3 {
                0 => finished.answered = vec![(Field::City, Value::Text("BERGEN".to_owned()))],
                1 => finished.error = Some(format!("row {row}: 400 it is refused")),
                _ => {}
            }
            finished.stored_otherwise = row % 3 == 0;
            if row % 5 != 4 && row != 10 {
                run.store(Record::Finish { row, finished }).await.unwrap();
            }
        }
        // As the files of a process are that was killed here.
        Plan::of(&path)
    });
    drop(run);
    let applied = Plan::of(&path);
    let revert = folder.join("revert.replyplan");
    drop(file.revert_as(&revert, &file.state().unwrap(), None).unwrap());
    let revert = Plan::of(&revert);
    vec![fresh, applied, revert, killed]
}
