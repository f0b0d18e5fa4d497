//! Facts about a whole job that change while it runs: who runs it, what it has found out about the service, and whether
//! the file is complete without its log.

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, params};

use super::schema::Sum;

/// Whether the items of list pages have everything that a `GET` of the account has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemsProof {
    /// They have.
    Complete,
    /// They lack a field, or cut one.
    Incomplete,
}

/// What a run does to a plan, as messages say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// The plan is being made.
    Planned,
    /// Its rows are being written.
    Applied,
}

/// Who has the right to write a plan file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// A random number for each run: a run that finds another one in the file has lost the file.
    pub run: String,
    /// What it does.
    pub activity: Activity,
    /// Its process.
    pub process: u32,
    /// Its machine, where that has a name.
    pub host: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
}

/// Facts about the whole job that change while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// What the run has found out about list items, once it has.
    pub items: Option<ItemsProof>,
    /// Who runs it, or ran it when it was killed.
    pub owner: Option<Owner>,
}

/// Where the progress of a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// In the file.
    Merged,
    /// In a log that follows. A file that says this and has no log lacks what was done.
    Expected,
    /// In the log, which is here: this was read from it.
    Present,
}

/// Every key of the table, so that one that was deleted is noticed.
const KEYS: [&str; 9] =
    ["host", "items", "log", "process", "requests_first", "requests_last", "run", "since_ms", "what"];

fn checksum(key: &str, value: &SqlValue) -> u32 {
    let mut sum = Sum::default();
    sum.text(Some(key)).sql(value);
    sum.0.finalize()
}

/// Writes all facts of a new plan.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    for key in KEYS {
        let value = if key == "log" { SqlValue::Integer(0) } else { SqlValue::Null };
        let mut insert = connection.prepare_cached("INSERT INTO state VALUES (?1, ?2, ?3)")?;
        insert.execute(params![key, value, checksum(key, &value)])?;
    }
    Ok(())
}

fn set(connection: &Connection, key: &str, value: &SqlValue) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached("UPDATE state SET value = ?2, checksum = ?3 WHERE key = ?1")?;
    match update.execute(params![key, value, checksum(key, value)])? {
        1 => Ok(()),
        _ => Err(rusqlite::Error::QueryReturnedNoRows),
    }
}

fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<SqlValue>> {
    let mut select = connection.prepare_cached("SELECT value, checksum FROM state WHERE key = ?1")?;
    let found = select.query_row([key], |row| Ok((row.get::<_, SqlValue>(0)?, row.get::<_, u32>(1)?))).optional()?;
    Ok(found.filter(|(value, sum)| checksum(key, value) == *sum).map(|(value, _)| value))
}

fn text(text: &str) -> SqlValue {
    SqlValue::Text(text.to_owned())
}

pub(super) fn set_log(connection: &Connection, log: Log) -> rusqlite::Result<()> {
    set(connection, "log", &SqlValue::Integer(log as i64))
}

pub(super) fn set_items(connection: &Connection, items: ItemsProof) -> rusqlite::Result<()> {
    let name = match items {
        ItemsProof::Complete => "complete",
        ItemsProof::Incomplete => "incomplete",
    };
    set(connection, "items", &text(name))
}

pub(super) fn set_owner(connection: &Connection, owner: Option<&Owner>) -> rusqlite::Result<()> {
    let what = owner.map(|owner| match owner.activity {
        Activity::Planned => "planned",
        Activity::Applied => "applied",
    });
    let or_null = |value: Option<SqlValue>| value.unwrap_or(SqlValue::Null);
    set(connection, "run", &or_null(owner.map(|owner| text(&owner.run))))?;
    set(connection, "what", &or_null(what.map(text)))?;
    set(connection, "process", &or_null(owner.map(|owner| SqlValue::Integer(i64::from(owner.process)))))?;
    set(connection, "host", &or_null(owner.and_then(|owner| owner.host.as_deref()).map(text)))?;
    set(connection, "since_ms", &or_null(owner.map(|owner| SqlValue::Integer(owner.since_ms))))
}

/// The run that has the right to write.
pub(super) fn run(connection: &Connection) -> rusqlite::Result<Option<String>> {
    Ok(get(connection, "run")?.and_then(|value| if let SqlValue::Text(run) = value { Some(run) } else { None }))
}

/// The first and the last number in the table of requests.
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

/// Reads all of it; nothing when a fact is missing or is not as it was written.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Option<(State, Log)>> {
    let mut found = Vec::new();
    for key in KEYS {
        let Some(value) = get(connection, key)? else { return Ok(None) };
        found.push(value);
    }
    let Ok([host, items, log, process, _, _, run, since, what]) = <[SqlValue; 9]>::try_from(found) else {
        return Ok(None);
    };
    let count: i64 = connection.query_row("SELECT count(*) FROM state", [], |row| row.get(0))?;
    let log = match log {
        SqlValue::Integer(0) => Log::Merged,
        SqlValue::Integer(1) => Log::Expected,
        SqlValue::Integer(2) => Log::Present,
        _ => return Ok(None),
    };
    let items = match items {
        SqlValue::Null => None,
        SqlValue::Text(items) if items == "complete" => Some(ItemsProof::Complete),
        SqlValue::Text(items) if items == "incomplete" => Some(ItemsProof::Incomplete),
        _ => return Ok(None),
    };
    let host = if let SqlValue::Text(host) = host { Some(host) } else { None };
    let owner = match (run, process, since, what) {
        (SqlValue::Null, ..) => None,
        (SqlValue::Text(run), SqlValue::Integer(process), SqlValue::Integer(since_ms), SqlValue::Text(what)) => {
            let activity = if what == "planned" { Activity::Planned } else { Activity::Applied };
            let Ok(process) = u32::try_from(process) else { return Ok(None) };
            Some(Owner { run, activity, process, host, since_ms })
        }
        _ => return Ok(None),
    };
    let is_whole = usize::try_from(count) == Ok(KEYS.len());
    Ok(is_whole.then_some((State { items, owner }, log)))
}
