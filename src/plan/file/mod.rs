//! The plan file: one SQLite file with every row, its changes and its outcome. It never contains the key.
//!
//! A [`PlanFile`] is a view: it only reads, takes no lock, and keeps nothing open. A [`Run`] is the only writer. A row
//! is `unknown` on the disk before the first byte of its update is sent, and its outcome is on the disk before it is
//! reported.

mod builder;
mod check;
mod connect;
mod elsewhere;
mod error;
mod header;
mod history;
mod interrupt;
mod log;
mod owner;
mod presence;
mod private;
mod report;
mod revert;
mod rows;
mod run;
mod schema;
mod session;
#[cfg(not(feature = "simulation"))]
#[path = "no_simulation.rs"]
mod simulation;
#[cfg(feature = "simulation")]
#[expect(clippy::expect_used, reason = "a simulation panics if it is wrong")]
pub mod simulation;
mod state;
mod sum;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

pub use self::builder::Builder;
use self::check::Head;
pub use self::error::{FileError, FileErrorKind, Half};
pub use self::header::{Header, KeyMark};
pub use self::interrupt::interruptible;
use self::presence::Presence;
#[cfg(feature = "python")]
pub(crate) use self::private::with_suffix;
pub(crate) use self::report::ON_REVERT;
pub use self::rows::{Attempt, ChangeView, Finished, OpenRow, PlannedRow, RowView, Unplanned};
pub use self::run::Run;
use self::simulation::Kept;
use self::state::Log;
pub use self::state::{Activity, AtRisk, Cleared, ItemsProof, Members, Owner, State};
pub use self::writer::Record;
use crate::clock::now_ms;
use crate::config::ApiKey;
use crate::plan::Status;
use crate::text::plain_line;

/// How long opening waits for a plan that is being created.
const PLANNED: Duration = Duration::from_millis(200);
/// A file that is being created is locked, except for moments shorter than this.
const MAKING: Duration = Duration::from_millis(500);
/// How long a recovery waits for other processes.
const RECOVERY: Duration = Duration::from_millis(700);

/// The longest text of a plan in a message, in characters.
const LONGEST_SHOWN: usize = 200;

/// A read-only view of a plan. It never locks; any number of views may exist, in any process, even while a run writes.
/// Clones are handles on the same view.
#[derive(Clone)]
pub struct PlanFile(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// The path without symbolic links.
    real: PathBuf,
    header: Header,
    cleared: u64,
}

/// A connection for a few queries.
struct Reader {
    connection: Kept,
    /// Dropped last, after SQLite is closed.
    _presence: Presence,
}

impl PlanFile {
    /// Opens a plan and verifies its content.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file is missing, incomplete, damaged, newer or not a plan, or lacks its log.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let real = connect::resolve(path)?;
        let of = |error: FileError| match error.kind() {
            FileErrorKind::HalfWritten(_) => FileError::new(path, FileErrorKind::HalfWritten(revert::half(&real))),
            _ => error.at(path),
        };
        if !simulation::is_at_hand(&real) {
            connect::recognize(&real).map_err(of)?;
        }
        // If this does not wait, the activity does not matter.
        let is_planned = connect::patience(PLANNED) > Duration::ZERO && owner::is_planned(&real);
        let wait = if is_planned { PLANNED } else { connect::PATIENCE };
        let checked = Reader::open(&real, wait).map_err(of)?.and_then(|reader| {
            // One snapshot of a plan that a run may be writing.
            let reading = reader.connection.unchecked_transaction()?;
            match check::check_head(&reading)?.and_then(Head::with_log) {
                Ok(head) => Ok(check::check_rows(&reading, &head)?.map(|()| head)),
                Err(kind) => Ok(Err(kind)),
            }
        });
        match checked {
            Ok(Ok(head)) => Ok(Self::of(path, &real, head.header, head.cleared)),
            Ok(Err(kind)) => Err(of(owner::refusal_or(&real, log::without(&real, kind)))),
            Err(error) => {
                let refusal = owner::refusal_of(&real, &error);
                Err(of(owner::refusal_or(&real, log::without(&real, refusal.kind().clone()))))
            }
        }
    }

    /// Opens a plan. A file that is half-written twice, half a second apart, is no longer being created.
    fn open_settled(path: &Path) -> Result<Self, FileError> {
        Self::open(path).or_else(|error| {
            if !matches!(error.kind(), FileErrorKind::HalfWritten(_)) {
                return Err(error);
            }
            thread::sleep(connect::patience(MAKING));
            Self::open(path)
        })
    }

    fn of(path: &Path, real: &Path, header: Header, cleared: u64) -> Self {
        Self(Arc::new(Inner { path: path.to_owned(), real: real.to_owned(), header, cleared }))
    }

    /// Opens a plan. If its log is missing, every row that may have been sent becomes unknown, and the plan is complete
    /// again.
    ///
    /// # Errors
    /// Returns the errors of [`PlanFile::open`], and [`FileErrorKind::Locked`] if a run uses the plan.
    pub fn recover(path: &Path) -> Result<Self, FileError> {
        match Self::open(path) {
            Err(error) if matches!(error.kind(), FileErrorKind::NeedsLog(_)) => {}
            opened => return opened,
        }
        let real = connect::resolve(path)?;
        let _presence = Presence::enter().ok_or_else(|| FileError::new(path, FileErrorKind::Forked))?;
        log::check(&real).map_err(|error| error.at(path))?;
        let recovery = Header::new_identity()?;
        let refusal = match recover(&real, &recovery) {
            Ok(Ok(())) => return Self::open(path),
            Ok(Err(kind)) => owner::refusal_or(&real, kind),
            Err(error) => owner::refusal_of(&real, &connect::endless(error)),
        };
        Err(match refusal.kind() {
            FileErrorKind::Damaged(_) => log::halved(path),
            _ => refusal.at(path),
        })
    }

    /// Opens the plan that planning the same table would create again. Returns `None` if there is no file, or if
    /// planning was interrupted; it then deletes the file, because nothing was sent for it.
    ///
    /// # Errors
    /// Returns the errors of [`PlanFile::open`], and [`FileErrorKind::Foreign`] if the plan was created from other rows
    /// or options.
    pub fn resume(path: &Path, source_digest: [u8; 32]) -> Result<Option<Self>, FileError> {
        match Self::open_settled(path) {
            Ok(file) if file.header().is_revert() => Err(is_a_revert(path)),
            Ok(file) if file.header().source_digest == source_digest => Ok(Some(file)),
            Ok(file) => {
                let replace = if file.written()? == 0 { ", or replace it with if_exists=\"replace\"" } else { "" };
                let what = format!(
                    "was created from other rows or options, so it cannot be resumed with these; choose another name \
                     with save_as=, or look at the old plan with read_plan() and finish it with open_plan(){replace}"
                );
                Err(FileError::new(path, FileErrorKind::Foreign(what)))
            }
            Err(error) => Self::nothing_there(path, error).map(|()| None),
        }
    }

    /// Makes way for a new plan: deletes a file whose planning was interrupted. Returns whether a plan is left, which
    /// may be replaced, because no run uses it and it has written nothing.
    ///
    /// # Errors
    /// Returns [`FileErrorKind::NotAPlan`], [`FileErrorKind::Locked`], [`FileErrorKind::Written`], or
    /// [`FileErrorKind::Foreign`] for a revert, or another kind if the file cannot be read.
    pub fn make_way(path: &Path) -> Result<bool, FileError> {
        match Self::open_settled(path) {
            Ok(file) if file.header().is_revert() => Err(is_a_revert(path)),
            Ok(file) => {
                let _no_run = file.start_run()?;
                match file.written()? {
                    0 => Ok(true),
                    rows => Err(FileError::new(path, FileErrorKind::Written(rows))),
                }
            }
            Err(error) => Self::nothing_there(path, error).map(|()| false),
        }
    }

    /// Returns whether a run uses the plan of a file, or plans it.
    pub fn is_in_use(path: &Path) -> bool {
        match Self::open(path) {
            Ok(file) => file.start_run().is_err(),
            Err(error) => matches!(error.kind(), FileErrorKind::Locked(_)),
        }
    }

    /// Returns the number of rows that were written, or may have been.
    fn written(&self) -> Result<u64, FileError> {
        let counts = self.counts()?;
        Ok([Status::Changed, Status::Unknown].iter().filter_map(|status| counts.get(status)).sum())
    }

    fn nothing_there(path: &Path, error: FileError) -> Result<(), FileError> {
        match error.kind() {
            FileErrorKind::Missing => Ok(()),
            FileErrorKind::HalfWritten(_) => {
                log::refuse_stray(path)?;
                private::remove(path);
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Takes the right to write immediately.
    ///
    /// # Errors
    /// Returns [`FileErrorKind::Locked`] if another run uses the plan, and another kind if the file was replaced.
    pub fn start_run(&self) -> Result<Run, FileError> {
        Run::start(self).map_err(|error| error.at(self.path()))
    }

    /// Returns the purpose of the plan.
    pub fn header(&self) -> &Header {
        &self.0.header
    }

    /// Returns how many of its changes empty a field.
    pub fn cleared(&self) -> u64 {
        self.0.cleared
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Returns the absolute path without links.
    pub fn real_path(&self) -> &Path {
        &self.0.real
    }

    /// Refuses a plan that was created for another base URL, user, team or API key. `new_key` accepts another API key
    /// of the same user.
    ///
    /// # Errors
    /// Returns [`FileErrorKind::Foreign`].
    pub fn check_target(
        &self,
        base_url: &str,
        act_as: Option<&str>,
        team_id: Option<i64>,
        key: &ApiKey,
        new_key: bool,
    ) -> Result<(), FileError> {
        let header = self.header();
        let refuse = |what: String| Err(FileError::new(self.path(), FileErrorKind::Foreign(what)));
        if header.base_url != base_url {
            let made_for = plain_line(&header.base_url, LONGEST_SHOWN);
            return refuse(format!(
                "was created for {made_for}, but this client uses {base_url}; open it with base_url={made_for}"
            ));
        }
        if header.act_as.as_deref() != act_as || header.team_id != team_id {
            let act_as = header.act_as.as_deref().map(|user| plain_line(user, LONGEST_SHOWN));
            let user = match act_as {
                Some(user) if user.bytes().all(|byte| byte.is_ascii_digit()) => format!("with act_as={user}"),
                Some(user) => format!("with act_as=\"{user}\""),
                None => "without act_as=".to_owned(),
            };
            let team =
                header.team_id.map_or_else(|| "without team_id=".to_owned(), |team| format!("with team_id={team}"));
            return refuse(format!("was created for another user or team; open it {user} and {team}"));
        }
        if !new_key && !header.key.is_of(key) {
            let what = "was created with another API key; open it with that one, or with open_plan() and \
                new_key=True if this is another key of the same user";
            return refuse(what.to_owned());
        }
        Ok(())
    }

    fn reader(&self) -> Result<Reader, FileError> {
        let was_at_hand = simulation::is_at_hand(&self.0.real);
        let reader = Reader::open(&self.0.real, connect::PATIENCE);
        let reader = reader.map_err(|error| error.at(self.path()))?;
        let of_sqlite = |error: rusqlite::Error| owner::refusal_of(&self.0.real, &error).at(self.path());
        let reader = reader.map_err(of_sqlite)?;
        if was_at_hand {
            return Ok(reader);
        }
        let found = reader.connection.unchecked_transaction().and_then(|reading| check::check_head(&reading));
        match found.map(|found| found.and_then(Head::with_log)) {
            Ok(Ok(head)) if head.header.identity == self.header().identity => Ok(reader),
            Ok(Ok(_)) => {
                let what = "was replaced by another plan since it was opened; open it again";
                Err(FileError::new(self.path(), FileErrorKind::Lost(what.to_owned())))
            }
            Ok(Err(kind)) => Err(owner::refusal_or(&self.0.real, kind).at(self.path())),
            Err(error) => Err(of_sqlite(error)),
        }
    }

    fn ask<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, FileError> {
        let reader = self.reader()?;
        let asked = reader.connection.unchecked_transaction().and_then(|reading| question(&reading));
        asked.map_err(|error| FileError::of_sqlite(self.path(), &error))
    }
}

/// If a plan had the name of a revert, the next revert would be refused.
fn is_a_revert(path: &Path) -> FileError {
    let what = "is the revert of another plan; choose another name with save_as=";
    FileError::new(path, FileErrorKind::Foreign(what.to_owned()))
}

impl Reader {
    fn open(path: &Path, wait: Duration) -> Result<rusqlite::Result<Self>, FileError> {
        if !path.exists() {
            return Err(FileError::new(path, FileErrorKind::Missing));
        }
        let presence = Presence::enter().ok_or_else(|| FileError::new(path, FileErrorKind::Forked))?;
        if let Some(connection) = simulation::at_hand(path) {
            return Ok(Ok(Self { connection, _presence: presence }));
        }
        log::check(path)?;
        let open = || {
            let mut connection = connect::for_reading(path, wait)?;
            connect::trust_interruptibly(&mut connection)?;
            Ok(Self { connection: simulation::keep(path, connection), _presence: presence })
        };
        Ok(open())
    }
}

/// The value that a run found instead of the planned one is only in the log.
const RECOVERED: &str = "the update may have been applied: the log of the run was missing when the plan was recovered. \
    The value that it may have overwritten is unknown, so a revert restores the value in the plan, in which a list may \
    have truncated a long text";

/// Repairs a plan whose log is missing.
fn recover(path: &Path, recovery: &str) -> check::Found<()> {
    simulation::close(path);
    let mut connection = connect::for_writing(path)?;
    connection.busy_timeout(connect::patience(RECOVERY))?;
    session::leave_log(&connection, RECOVERY)?;
    if let Err(kind) = check::check_schema(&connection)? {
        return Ok(Err(kind));
    }
    connect::trust(&mut connection)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let checked = match check::check_head(&transaction)? {
        Ok(head) if head.log == Log::Missing => check::check_rows(&transaction, &head)?,
        Ok(_) => return Ok(Ok(())),
        Err(kind) => Err(kind),
    };
    if let Err(kind) = checked {
        return Ok(Err(kind));
    }
    // A run that retries or overwrites also sends the last two. A row without changes is never sent.
    for statuses in [[Status::Pending, Status::Unknown], [Status::Failed, Status::Conflict]] {
        writer::each_of(&transaction, statuses, |row| {
            Status::Unknown.as_str().clone_into(&mut row.status);
            row.error = Some(format!("row {}: {RECOVERED}", row.row));
            // Every update was sent before.
            row.finished_at_ms = Some(now_ms());
        })?;
    }
    state::set_recovery(&transaction, recovery)?;
    state::set_owner(&transaction, None)?;
    state::have_log(&transaction)?;
    #[cfg(feature = "simulation")]
    if let Err(kind) = simulation::before_commit(path) {
        return Ok(Err(kind));
    }
    transaction.commit()?;
    #[cfg(feature = "simulation")]
    if let Err(kind) = simulation::after_commit(path) {
        return Ok(Err(kind));
    }
    Ok(Ok(()))
}
