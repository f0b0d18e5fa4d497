//! What a plan was made for, as the file keeps it.

use rusqlite::Connection;
use rusqlite::types::{FromSql, Value as SqlValue};

use super::schema::Sum;
use crate::plan::{MatchOn, Mode, Nulls};

/// What a plan was made for, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The address of the service.
    pub base_url: String,
    /// The user that it acts for.
    pub act_as: Option<String>,
    /// The team that it acts in.
    pub team_id: Option<i64>,
    /// What the columns do.
    pub mode: Mode,
    /// What an empty cell means.
    pub nulls: Nulls,
    /// By what a row finds its account.
    pub match_on: MatchOn,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// What the table was, in words.
    pub source: String,
    /// Whether it takes another plan back.
    pub is_revert: bool,
}

impl Header {
    pub(super) fn members(&self) -> [(&'static str, SqlValue); 9] {
        let text = |text: &str| SqlValue::Text(text.to_owned());
        [
            ("base_url", text(&self.base_url)),
            ("act_as", self.act_as.as_deref().map_or(SqlValue::Null, text)),
            ("team_id", self.team_id.map_or(SqlValue::Null, SqlValue::Integer)),
            ("mode", text(self.mode.as_str())),
            ("nulls", text(self.nulls.as_str())),
            ("match_on", text(self.match_on.as_str())),
            ("created_at_ms", SqlValue::Integer(self.created_at_ms)),
            ("source", text(&self.source)),
            ("is_revert", SqlValue::Integer(i64::from(self.is_revert))),
        ]
    }

    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        fn get<T: FromSql>(connection: &Connection, key: &str) -> rusqlite::Result<T> {
            connection.query_row("SELECT value FROM plan WHERE key = ?1", [key], |row| row.get(0))
        }
        let text = |key| get::<String>(connection, key);
        let (mode, nulls) = (Mode::from_name(&text("mode")?), Nulls::from_name(&text("nulls")?));
        let (Some(mode), Some(nulls), Some(match_on)) = (mode, nulls, MatchOn::from_name(&text("match_on")?)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            base_url: text("base_url")?,
            act_as: get(connection, "act_as")?,
            team_id: get(connection, "team_id")?,
            mode,
            nulls,
            match_on,
            created_at_ms: get(connection, "created_at_ms")?,
            source: text("source")?,
            is_revert: get(connection, "is_revert")?,
        }))
    }
}

/// What the head is checked by.
pub(super) fn header_checksum(connection: &Connection) -> rusqlite::Result<u32> {
    let mut select = connection.prepare("SELECT key, value FROM plan WHERE key <> 'sealed' ORDER BY key")?;
    let pairs = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, SqlValue>(1)?)))?;
    let mut sum = Sum::default();
    for pair in pairs {
        let (key, value) = pair?;
        sum.text(Some(&key));
        match value {
            SqlValue::Integer(number) => sum.integer(Some(number)),
            SqlValue::Text(text) => sum.text(Some(&text)),
            SqlValue::Null | SqlValue::Real(_) | SqlValue::Blob(_) => sum.integer(None),
        };
    }
    Ok(sum.0.finalize())
}
