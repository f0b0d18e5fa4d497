//! Facts about a whole job that change during a run: its process, what it learned about the service, and whether the
//! file is complete without its log.

use std::collections::BTreeMap;

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::OpenRow;
use super::sum::Sum;
use crate::plan::named;

/// Whether the items of list pages contain everything that `GET` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemsProof {
    /// They do.
    Complete,
    /// They lack a field, or truncate one.
    Incomplete,
}

/// What a run does with a plan, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Creating the plan.
    Planned,
    /// Applying the plan.
    Applied,
}

named! {
    ItemsProof { Complete "complete" Incomplete "incomplete" }
    Activity { Planned "planned" Applied "applied" }
}

/// The process with the right to write a plan file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// A random number for each run: a run that finds another number in the file has lost the file.
    pub run: String,
    /// What it does.
    pub activity: Activity,
    /// Its process.
    pub process: u32,
    /// Its machine, if it has a name.
    pub host: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
}

/// The members of a row's account that its update may clear or reset, by their JSON names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtRisk {
    /// The row's number in the table.
    pub row: u64,
    /// The members that the account had before the update, with their values.
    pub members: Members,
    /// Whether the plan that this one reverts sent the update.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_of_parent: bool,
}

/// The members that updates cleared because an update cannot include them, by their JSON names. Each has the rows whose
/// updates got no answer, with the value of the member before: the outcome of such a row still has to name the member.
pub type Cleared = BTreeMap<String, BTreeMap<u64, serde_json::Value>>;

/// Members of an account, with their values.
pub type Members = BTreeMap<String, serde_json::Value>;

/// Facts about the whole job that change while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// What the run learned about list items.
    pub items: Option<ItemsProof>,
    /// The process that runs it, or ran it when it was killed.
    pub owner: Option<Owner>,
    /// The number of updates sent, including repeated ones.
    pub sent: u64,
    /// A random number for the last run that sent an update, or for the last recovery without a log, which may have
    /// contained more updates.
    pub recovery: Option<String>,
    /// The members that updates may have cleared and that no earlier update was seen to keep: one entry for each row
    /// whose outcome may still have to name them. The newest is the last.
    pub at_risk: Vec<AtRisk>,
    /// What updates of the plan cleared.
    pub cleared: Cleared,
}

impl State {
    /// Returns which members updates may have cleared, if no answer has confirmed it: their rows are still open.
    pub fn in_doubt(&self, open_rows: &[OpenRow]) -> Vec<AtRisk> {
        let is_open = |at_risk: &&AtRisk| {
            let is_its_row = |row: &OpenRow| row.row == at_risk.row && (row.was_sent || at_risk.is_of_parent);
            !at_risk.members.is_empty() && open_rows.iter().any(is_its_row)
        };
        self.at_risk.iter().filter(is_open).cloned().collect()
    }

    /// Returns the row of the newest update, if it is one of those in doubt. It holds up other rows, unless it is known
    /// already that updates clear its members.
    pub fn held_up_by(&self, in_doubt: &[AtRisk]) -> Option<u64> {
        let newest = self.at_risk.last().filter(|newest| in_doubt.contains(newest))?;
        newest.members.keys().any(|name| !self.cleared.contains_key(name)).then_some(newest.row)
    }

    /// Returns what updates cleared, for the revert of the plan: with the rows whose outcome is still unknown.
    pub(super) fn cleared_for_revert(&self, open_rows: &[OpenRow]) -> Cleared {
        let is_unknown = |number: &u64| open_rows.iter().any(|row| row.row == *number && row.was_sent);
        let mut cleared = self.cleared.clone();
        for rows in cleared.values_mut() {
            rows.retain(|row, _| is_unknown(row));
        }
        cleared
    }

    /// Returns a text that changes whenever more updates may have been sent.
    pub(super) fn writes(&self) -> String {
        let Self { sent, recovery, .. } = self;
        recovery.as_ref().map_or_else(|| sent.to_string(), |recovery| format!("{sent} {recovery}"))
    }
}

/// Identifies the file to which a log belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// The last run or recovery that wrote.
    pub(super) writer: Option<String>,
    /// The number of the log that the file requires.
    pub(super) needed: i64,
    /// The number of the present log.
    present: i64,
    /// That number in the file when the log began.
    pub(super) base: i64,
}

impl Mark {
    pub(super) fn log(&self) -> Log {
        Log::of(self.needed, self.present)
    }
}

/// Whether a file contains all progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// It does, in itself or in the log next to it.
    Whole,
    /// The rest is in a missing log.
    Missing,
}

impl Log {
    fn of(needed: i64, present: i64) -> Self {
        if needed == present { Self::Whole } else { Self::Missing }
    }
}

/// Every key of the table, to detect a deleted one.
const KEYS: [&str; 15] = [
    "at_risk",
    "cleared",
    "host",
    "items",
    "log",
    "log_base",
    "process",
    "recovery",
    "requests_first",
    "requests_last",
    "run",
    "sent",
    "since_ms",
    "what",
    "writer",
];

/// The longest fact, in bytes.
const LONGEST_FACT: i64 = 64 * 1_024;
/// The longest list of members, in bytes. An answer has at most a MiB of them.
const LONGEST_MEMBERS: i64 = 16 * 1_024 * 1_024;

fn checksum(key: &str, value: &SqlValue) -> u32 {
    let mut sum = Sum::default();
    sum.text(Some(key)).sql(value);
    sum.0.finalize()
}

/// Writes all facts of a new plan.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    for key in KEYS {
        let value = if ["log", "log_base", "sent"].contains(&key) { SqlValue::Integer(0) } else { SqlValue::Null };
        let mut insert = connection.prepare_cached("INSERT INTO state VALUES (?1, ?2, ?3)")?;
        insert.execute(params![key, value, checksum(key, &value)])?;
    }
    let zero = SqlValue::Integer(0);
    connection.execute("INSERT INTO log VALUES (1, ?1, 0, ?2)", params![zero, checksum(LOG, &zero)]).map(drop)
}

fn set(connection: &Connection, key: &str, value: &SqlValue) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached("UPDATE state SET value = ?2, checksum = ?3 WHERE key = ?1")?;
    match update.execute(params![key, value, checksum(key, value)])? {
        1 => Ok(()),
        _ => Err(rusqlite::Error::QueryReturnedNoRows),
    }
}

fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<SqlValue>> {
    let mut select = connection.prepare_cached(
        "SELECT value, checksum FROM state WHERE key = ?1 AND coalesce(octet_length(value), 0) <= ?2",
    )?;
    let longest = if ["at_risk", "cleared"].contains(&key) { LONGEST_MEMBERS } else { LONGEST_FACT };
    let found = select
        .query_row(params![key, longest], |row| Ok((row.get::<_, SqlValue>(0)?, row.get::<_, u32>(1)?)))
        .optional()?;
    Ok(found.filter(|(value, sum)| checksum(key, value) == *sum).map(|(value, _)| value))
}

fn text(text: &str) -> SqlValue {
    SqlValue::Text(text.to_owned())
}

/// The input of the checksum in the table `log`.
const LOG: &str = "log present";

/// The number of the log that the file requires, and the number of the present log. They are on separate pages, so that
/// the file can have one while only the log has the other.
fn logs(connection: &Connection) -> rusqlite::Result<Option<(i64, i64)>> {
    let Some(SqlValue::Integer(needed)) = get(connection, "log")? else { return Ok(None) };
    // A run counts in `written`. A long text there would free pages, and the file would not be whole beside its log.
    let mut select = connection.prepare_cached("SELECT present, checksum, typeof(written) = 'integer' FROM log")?;
    let mut rows = select.query([])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (present, sum) = (row.get::<_, SqlValue>(0)?, row.get::<_, u32>(1)?);
    let is_whole = checksum(LOG, &present) == sum && row.get(2)? && rows.next()?.is_none();
    Ok(if let SqlValue::Integer(present) = present { is_whole.then_some((needed, present)) } else { None })
}

/// Returns what identifies the file, or the file and its log together.
pub(super) fn mark(connection: &Connection) -> rusqlite::Result<Option<Mark>> {
    let Some((needed, present)) = logs(connection)? else { return Ok(None) };
    let (Some(SqlValue::Integer(base)), Some(writer)) = (get(connection, "log_base")?, get(connection, "writer")?)
    else {
        return Ok(None);
    };
    let writer = if let SqlValue::Text(writer) = writer { Some(writer) } else { None };
    Ok(Some(Mark { writer, needed, present, base }))
}

/// Stores the number of the file at the beginning of its log.
pub(super) fn begin_log(connection: &Connection, base: i64) -> rusqlite::Result<()> {
    set(connection, "log_base", &SqlValue::Integer(base))
}

/// Stores the owner of the next log. It stays when the run has ended.
pub(super) fn set_writer(connection: &Connection, writer: &str) -> rusqlite::Result<()> {
    set(connection, "writer", &text(writer))
}

/// Stores that the plan was recovered without its log, which no longer belongs to it.
pub(super) fn set_recovery(connection: &Connection, recovery: &str) -> rusqlite::Result<()> {
    set(connection, "recovery", &text(recovery))?;
    set_writer(connection, recovery)
}

/// Writes the page with the log that the file requires: the next one.
pub(super) fn need_log(connection: &Connection) -> rusqlite::Result<()> {
    let (needed, _) = logs(connection)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    set(connection, "log", &SqlValue::Integer(needed.wrapping_add(1)))
}

/// Writes the page that says that this log is present. SQLite does not write an unchanged page, so a counter changes.
pub(super) fn have_log(connection: &Connection) -> rusqlite::Result<()> {
    let (needed, _) = logs(connection)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let needed = SqlValue::Integer(needed);
    let mut update =
        connection.prepare_cached("UPDATE log SET present = ?1, written = (written + 1) % 1000000, checksum = ?2")?;
    update.execute(params![needed, checksum(LOG, &needed)]).map(drop)
}

pub(super) fn set_items(connection: &Connection, items: ItemsProof) -> rusqlite::Result<()> {
    set(connection, "items", &text(items.as_str()))
}

/// Reads which members updates may have cleared.
pub(super) fn at_risk(connection: &Connection) -> rusqlite::Result<Vec<AtRisk>> {
    get(connection, "at_risk")?.and_then(|value| parsed(&value)).ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// Stores which members updates may clear. Leaves out the oldest if they are too long together.
pub(super) fn set_at_risk(connection: &Connection, mut at_risk: &[AtRisk]) -> rusqlite::Result<()> {
    let mut json = to_json(at_risk)?;
    while let [_, newer @ ..] = at_risk
        && i64::try_from(json.len()).is_ok_and(|length| length > LONGEST_MEMBERS)
    {
        at_risk = newer;
        json = to_json(at_risk)?;
    }
    set(connection, "at_risk", &text(&json))
}

/// Adds members that updates cleared.
pub(super) fn add_cleared(connection: &Connection, members: Cleared) -> rusqlite::Result<()> {
    let known = get(connection, "cleared")?.and_then(|value| parsed(&value));
    let mut all: Cleared = known.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    for (name, rows) in members {
        all.entry(name).or_default().extend(rows);
    }
    set_cleared(connection, &all)
}

pub(super) fn set_cleared(connection: &Connection, all: &Cleared) -> rusqlite::Result<()> {
    set(connection, "cleared", &text(&to_json(all)?))
}

fn to_json(members: &(impl Serialize + ?Sized)) -> rusqlite::Result<String> {
    serde_json::to_string(members).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// Parses members, or returns `None` for another form. Null means that there are none.
fn parsed<T: Default + DeserializeOwned>(value: &SqlValue) -> Option<T> {
    match value {
        SqlValue::Null => Some(T::default()),
        SqlValue::Text(members) => serde_json::from_str(members).ok(),
        _ => None,
    }
}

pub(super) fn set_owner(connection: &Connection, owner: Option<&Owner>) -> rusqlite::Result<()> {
    let what = owner.map(|owner| owner.activity.as_str());
    let or_null = |value: Option<SqlValue>| value.unwrap_or(SqlValue::Null);
    set(connection, "run", &or_null(owner.map(|owner| text(&owner.run))))?;
    set(connection, "what", &or_null(what.map(text)))?;
    set(connection, "process", &or_null(owner.map(|owner| SqlValue::Integer(i64::from(owner.process)))))?;
    set(connection, "host", &or_null(owner.and_then(|owner| owner.host.as_deref()).map(text)))?;
    set(connection, "since_ms", &or_null(owner.map(|owner| SqlValue::Integer(owner.since_ms))))
}

/// Returns the run that has the right to write.
pub(super) fn run(connection: &Connection) -> rusqlite::Result<Option<String>> {
    Ok(get(connection, "run")?.and_then(|value| if let SqlValue::Text(run) = value { Some(run) } else { None }))
}

/// Counts a sent update. The number of its run tells it from an update of another run of a restored backup, which has
/// the same count.
pub(super) fn count_sent(connection: &Connection) -> rusqlite::Result<()> {
    let run = get(connection, "run")?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    if get(connection, "recovery")?.as_ref() != Some(&run) {
        set(connection, "recovery", &run)?;
    }
    let Some(SqlValue::Integer(sent)) = get(connection, "sent")? else {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    };
    set(connection, "sent", &SqlValue::Integer(sent.saturating_add(1)))
}

/// Returns the first and the last number in the table of requests.
pub(super) fn requests(connection: &Connection) -> rusqlite::Result<Option<(i64, i64)>> {
    match (get(connection, "requests_first")?, get(connection, "requests_last")?) {
        (Some(SqlValue::Integer(first)), Some(SqlValue::Integer(last))) => Ok(Some((first, last))),
        _ => Ok(None),
    }
}

pub(super) fn set_requests(connection: &Connection, numbers: Option<(i64, i64)>) -> rusqlite::Result<()> {
    let or_null = |number: Option<i64>| number.map_or(SqlValue::Null, SqlValue::Integer);
    set(connection, "requests_first", &or_null(numbers.map(|numbers| numbers.0)))?;
    set(connection, "requests_last", &or_null(numbers.map(|numbers| numbers.1)))
}

/// Reads the value of each key; `None` if one is missing, unknown or differs from what was written. Stops at the first
/// such row: a hostile file may have no end.
fn read_values(connection: &Connection) -> rusqlite::Result<Option<Vec<SqlValue>>> {
    let mut select = connection.prepare_cached(
        "SELECT key, CASE WHEN is_short THEN value END, checksum, is_short FROM (SELECT key, value, checksum, \
         coalesce(octet_length(value), 0) <= CASE WHEN key IN ('at_risk', 'cleared') THEN ?1 ELSE ?2 END AS is_short \
         FROM state) ORDER BY key",
    )?;
    let mut rows = select.query([LONGEST_MEMBERS, LONGEST_FACT])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(key) =
            KEYS.get(found.len()).filter(|key| row.get_ref(0).is_ok_and(|found| found.as_str() == Ok(**key)))
        else {
            return Ok(None);
        };
        let value = row.get(1)?;
        if !row.get::<_, bool>(3)? || checksum(key, &value) != row.get::<_, u32>(2)? {
            return Ok(None);
        }
        found.push(value);
    }
    Ok((found.len() == KEYS.len()).then_some(found))
}

/// Reads all facts; `None` if one is missing or differs from what was written.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Option<(State, Log)>> {
    let Some(found) = read_values(connection)? else { return Ok(None) };
    let Ok([at_risk, members, host, items, _, _, process, recovery, _, _, run, sent, since, what, _]) =
        <[SqlValue; 15]>::try_from(found)
    else {
        return Ok(None);
    };
    let (Some(at_risk), Some(cleared)) = (parsed(&at_risk), parsed(&members)) else { return Ok(None) };
    let Some(log) = logs(connection)?.map(|(needed, present)| Log::of(needed, present)) else { return Ok(None) };
    let items = match items {
        SqlValue::Null => None,
        SqlValue::Text(items) => match ItemsProof::from_name(&items) {
            None => return Ok(None),
            items => items,
        },
        _ => return Ok(None),
    };
    let SqlValue::Integer(sent) = sent else { return Ok(None) };
    let host = if let SqlValue::Text(host) = host { Some(host) } else { None };
    let recovery = if let SqlValue::Text(recovery) = recovery { Some(recovery) } else { None };
    let owner = match (run, process, since, what) {
        (SqlValue::Null, ..) => None,
        (SqlValue::Text(run), SqlValue::Integer(process), SqlValue::Integer(since_ms), SqlValue::Text(what)) => {
            let (Some(activity), Ok(process)) = (Activity::from_name(&what), u32::try_from(process)) else {
                return Ok(None);
            };
            Some(Owner { run, activity, process, host, since_ms })
        }
        _ => return Ok(None),
    };
    Ok(Some((State { items, owner, sent: sent.unsigned_abs(), recovery, at_risk, cleared }, log)))
}
