//! The promises of a plan file: what it refuses, who owns it, and what damage, a full disk, failing I/O and the loss of
//! power leave of it.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a helper of tests may fail as a test may, and says what was tried"
)]

mod connections;
mod damage;
mod disk;
mod failpoints;
mod full;
mod hostile;
mod layer;
mod logs;
mod names;
mod outcomes;
mod owner;
mod pages;
mod power;
mod recovery;
mod refusals;
#[path = "../plan_fuzz/reseal.rs"]
mod reseal;
mod reverts;
#[cfg(feature = "simulation")]
mod simulated;
mod timing;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use replyio::plan::file::{
    Attempt, Builder, FileError, FileErrorKind, Finished, Header, KeyMark, PlanFile, PlannedRow, Record,
};
use replyio::plan::{Change, MatchOn, Mode, Nulls, Status, Suspicion, Value};
use replyio::{ApiKey, Field};
use tempfile::TempDir;

/// When the requests of these tests begin to be sent, in milliseconds since 1970.
const NOW: i64 = 1_764_000_000_000;

/// Tells a test that it is the child process of itself, and on which file it is to work.
const CHILD: &str = "REPLYIO_PLAN_FILE_CHILD";

/// A folder that is deleted when its test ends.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let parent = std::env::temp_dir().canonicalize().unwrap();
        Self(TempDir::with_prefix_in("replyio-plan-file-", parent).unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn plan(&self) -> PathBuf {
        self.path().join("plan.replyio")
    }
}

/// What SQLite, or the lock, puts beside a plan.
fn beside(plan: &Path, suffix: &str) -> PathBuf {
    let mut path = plan.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// The key that the plans of these tests are made with.
fn key() -> ApiKey {
    ApiKey::new("key-of-the-test").unwrap()
}

/// A row that was done when it is written down, with an error or without.
fn finished(status: Status, error: Option<String>) -> Finished {
    Finished { error, ..Finished::new(status, NOW) }
}

/// What is stored before the update of a row.
fn mark_sent(row: u64, at_ms: i64) -> Record {
    Record::Sent { row, attempt: Attempt::default(), at_ms }
}

/// What is stored of the outcome of a row.
fn finish(row: u64, finished: Finished) -> Record {
    Record::Finish { row, finished }
}

fn header() -> Header {
    Header {
        identity: Header::new_identity().unwrap(),
        parent: None,
        parent_writes: None,
        key: KeyMark::of(&key()).unwrap(),
        base_url: "https://api.reply.io/v3".to_owned(),
        act_as: Some("colleague@example.com".to_owned()),
        team_id: Some(7),
        mode: Mode::Patch,
        nulls: Nulls::Keep,
        match_on: MatchOn::DomainName,
        created_at_ms: 1_764_000_000_000,
        source: "a CSV file of 300 rows".to_owned(),
        source_digest: [7; 32],
        suspicions: vec![Suspicion { column: "city".to_owned(), cells: 2, row: 17 }],
        generation: 0,
    }
}

/// A pending row of two changes; every fifth is unchanged.
fn planned(row: u64) -> PlannedRow {
    let text = |what: &str| Value::Text(format!("{what} {row} äöü"));
    let changes = if row % 5 == 4 {
        Vec::new()
    } else {
        let owner = Change::new(Field::OwnerUserId, Value::Null, Value::Integer(row.cast_signed()));
        vec![Change::new(Field::City, text("Oslo"), text("Bergen")), owner]
    };
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

fn build(path: &Path, rows: u64) -> Result<PlanFile, FileError> {
    let mut builder = Builder::create(path, &header())?;
    (0..rows).try_for_each(|row| builder.add(planned(row)))?;
    builder.seal(rows)
}

/// Everything that a plan tells.
fn export(file: &PlanFile) -> Result<String, FileError> {
    use std::fmt::Write as _;
    let mut text = format!("{:?}\n", file.header());
    file.for_each_row(|row| writeln!(text, "{row:?}").unwrap())?;
    file.for_each_change(|change| writeln!(text, "{change:?}").unwrap())?;
    Ok(text)
}

fn refusal(path: &Path) -> FileErrorKind {
    let kind = PlanFile::open(path).err().map(|error| error.kind().clone());
    kind.unwrap_or_else(|| panic!("{} was opened", path.display()))
}

/// The work of a child process, where this is one.
fn child_path() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// Runs one test of this binary in a process of its own, where it finds its file with [`child_path`].
fn child(test: &str, plan: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CHILD, plan);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
