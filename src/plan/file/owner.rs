//! Who runs a plan, and how that is told.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;

use super::error::{FileError, FileErrorKind};
use super::header::{hex, random};
use super::private::links;
use super::state::{self, Activity, Owner};
use super::{check, connect};
use crate::clock::now_ms;
use crate::text::plain_line;

/// No machine has a longer name, in characters.
const LONGEST_HOST: usize = 255;
const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Owner {
    /// This process, from now on.
    pub(super) fn here(activity: Activity) -> Result<Self, FileError> {
        Ok(Self { run: hex(&random()?), activity, process: std::process::id(), host: host(), since_ms: now_ms() })
    }

    /// What a refusal says about it.
    fn refusal(&self) -> String {
        let verb = match self.activity {
            Activity::Planned => "planned",
            Activity::Applied => "applied",
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
        format!("is being {verb} by {process} since {}{advice}", since(self.since_ms))
    }
}

fn host() -> Option<String> {
    let host = std::env::var("HOSTNAME").ok()?;
    let end = host.char_indices().nth(LONGEST_HOST).map_or(host.len(), |(end, _)| end);
    host.get(..end).filter(|host| !host.is_empty()).map(str::to_owned)
}

/// A moment as a person reads it; with its day unless that was today or yesterday.
fn since(at_ms: i64) -> String {
    let now = Duration::from_millis(now_ms().unsigned_abs());
    let Ok(at) = Timestamp::from_millisecond(at_ms) else { return "an unknown time".to_owned() };
    let text = at.to_string();
    let (day, time) = (text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default());
    let is_recent = now.saturating_sub(Duration::from_millis(at_ms.unsigned_abs())) < DAY;
    if is_recent { format!("{time} UTC") } else { format!("{day} {time} UTC") }
}

/// The refusal of a plan that somebody else has, which says whose it is where the plan tells.
pub(super) fn refusal(path: &Path) -> FileError {
    let owner = of(path).map_or_else(
        || "is in use by another program; wait until that program lets go of it".to_owned(),
        |owner| owner.refusal(),
    );
    FileError::new(path, FileErrorKind::Locked(owner))
}

/// Why a plan cannot be used, as SQLite says it: somebody else has it, or something else.
pub(super) fn refusal_of(path: &Path, error: &rusqlite::Error) -> FileError {
    if connect::is_busy(error) {
        return refusal(path);
    }
    refusal_or(path, FileError::of_sqlite(path, error).kind().clone())
}

/// The same where a plan is not whole. By another name of its file (a hard link) it is not while a run has it, whose log has
/// the first name.
pub(super) fn refusal_or(path: &Path, kind: FileErrorKind) -> FileError {
    let may_be_linked = matches!(kind, FileErrorKind::NeedsLog | FileErrorKind::Io(_));
    if may_be_linked && links(path) > 1 && connect::is_in_use(path) {
        return refusal(path);
    }
    FileError::new(path, kind)
}

/// Who is written down as the owner. A plan that is being made is locked for SQLite, and is read as it is.
pub(super) fn of(path: &Path) -> Option<Owner> {
    connect::recognize(path).ok()?;
    let state = |connection: Connection| {
        connection.busy_timeout(connect::patience(Duration::from_millis(200))).ok()?;
        check::check_schema(&connection).ok()?.ok()?;
        state::read(&connection).ok()?.map(|(state, _)| state)
    };
    let running = || connect::for_reading_within(path, Duration::from_millis(200)).ok().and_then(state);
    running().or_else(|| connect::immutable(path).ok().and_then(state))?.owner
}

/// Whether a plan is being made, or its making was cut off: then nobody waits for whoever has it.
pub(super) fn is_planned(path: &Path) -> bool {
    let read = || {
        let connection = connect::immutable(path).ok()?;
        check::check_schema(&connection).ok()?.ok()?;
        state::read(&connection).ok()??.0.owner
    };
    read().is_some_and(|owner| owner.activity == Activity::Planned)
}
