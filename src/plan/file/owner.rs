//! Which process runs a plan, and how messages say so.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::Connection;
#[cfg(unix)]
use rustix::io::Errno;

use super::error::{FileError, FileErrorKind};
use super::header::random;
use super::private::links;
use super::state::{self, Activity, Owner};
use super::{check, connect, elsewhere};
use crate::clock::now_ms;
use crate::text::{hex, plain_line};

/// The longest host name, in characters.
const LONGEST_HOST: usize = 255;
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// How long a run may take to store its process after it has locked its plan.
const STORING: Duration = Duration::from_millis(500);

impl Owner {
    /// Returns this process, from now on.
    pub(super) fn here(activity: Activity) -> Result<Self, FileError> {
        Ok(Self { run: hex(&random()?), activity, process: std::process::id(), host: host(), since_ms: now_ms() })
    }

    /// Returns whether its process may still run. A killed process stays in the file.
    fn may_run(&self) -> bool {
        #[cfg(unix)]
        if self.host == host() && self.process != std::process::id() {
            let process = i32::try_from(self.process).ok().and_then(rustix::process::Pid::from_raw);
            return process.is_some_and(|process| rustix::process::test_kill_process(process) != Err(Errno::SRCH));
        }
        true
    }

    /// Returns the text of a refusal.
    fn refusal(&self) -> String {
        let verb = match self.activity {
            Activity::Planned => "planning",
            Activity::Applied => "applying",
        };
        let is_here = self.process == std::process::id() && self.host == host();
        let process = match &self.host {
            _ if is_here => format!("this process ({})", self.process),
            Some(host) if Some(host) != self::host().as_ref() => {
                format!("process {} on {}", self.process, plain_line(host, LONGEST_HOST))
            }
            _ => format!("process {}", self.process),
        };
        let advice = if is_here { "; wait for that run, or stop it" } else { "" };
        format!("is in use by {process} ({verb} since {}){advice}", since(self.since_ms))
    }
}

fn host() -> Option<String> {
    let host = std::env::var("HOSTNAME").ok()?;
    let end = host.char_indices().nth(LONGEST_HOST).map_or(host.len(), |(end, _)| end);
    host.get(..end).filter(|host| !host.is_empty()).map(str::to_owned)
}

/// Formats a moment; with its day if it is more than a day ago.
fn since(at_ms: i64) -> String {
    let now = Duration::from_millis(now_ms().unsigned_abs());
    let Ok(at) = Timestamp::from_millisecond(at_ms) else { return "an unknown time".to_owned() };
    let text = at.to_string();
    let (day, time) = (text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default());
    let is_recent = now.saturating_sub(Duration::from_millis(at_ms.unsigned_abs())) < DAY;
    if is_recent { format!("{time} UTC") } else { format!("{day} {time} UTC") }
}

/// Returns the error for a plan in use, with its process if the plan contains it.
pub(super) fn refusal(path: &Path) -> FileError {
    let until = Instant::now() + connect::patience(STORING);
    let mut owner = running(path);
    while owner.is_none() && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
        owner = running(path);
    }
    let owner = owner.map_or_else(
        || "is in use by another program; wait until that program closes it".to_owned(),
        |owner| owner.refusal(),
    );
    FileError::new(path, FileErrorKind::Locked(owner))
}

/// Converts an error of SQLite: the plan is in use, or another problem.
pub(super) fn refusal_of(path: &Path, error: &rusqlite::Error) -> FileError {
    if connect::is_busy(error) {
        return refusal(path);
    }
    refusal_or(path, FileError::of_sqlite(path, error).kind().clone())
}

/// The same for an incomplete plan. Under another name of its file (a hard link), a plan is incomplete while a run uses
/// it, because its log has the first name.
pub(super) fn refusal_or(path: &Path, kind: FileErrorKind) -> FileError {
    let may_be_linked = matches!(kind, FileErrorKind::NeedsLog(_) | FileErrorKind::Io(_));
    if may_be_linked && links(path) > 1 && connect::is_in_use(path) {
        return refusal(path);
    }
    let kind = if let FileErrorKind::NeedsLog(name) = &kind { elsewhere::find(path, name) } else { kind };
    FileError::new(path, kind)
}

/// Returns the process stored in the file, if it may still run.
pub(super) fn running(path: &Path) -> Option<Owner> {
    of(path).filter(Owner::may_run)
}

/// Returns the process stored in the file. A plan that is being created is locked for SQLite, and is read without a
/// lock.
fn of(path: &Path) -> Option<Owner> {
    connect::recognize(path).ok()?;
    let state = |connection: Connection| {
        connection.busy_timeout(connect::patience(Duration::from_millis(200))).ok()?;
        check::check_schema(&connection).ok()?.ok()?;
        state::read(&connection).ok()?.map(|(state, _)| state)
    };
    let running = || connect::for_reading(path, Duration::from_millis(200)).ok().and_then(state);
    running().or_else(|| connect::immutable(path).ok().and_then(state))?.owner
}

/// Returns whether a plan is being created, or its creation was interrupted. Then nothing waits for its process.
pub(super) fn is_planned(path: &Path) -> bool {
    let read = || {
        let connection = connect::immutable(path).ok()?;
        check::check_schema(&connection).ok()?.ok()?;
        state::read(&connection).ok()??.0.owner
    };
    read().is_some_and(|owner| owner.activity == Activity::Planned)
}
