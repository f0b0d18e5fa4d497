//! The purpose of a plan, as the file stores it.

use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::Connection;
use rusqlite::types::{FromSql, Value as SqlValue};

use super::error::FileError;
use super::sum::Sum;
use crate::config::ApiKey;
use crate::plan::{MatchOn, Mode, Nulls, Suspicion};

/// The purpose and the options of a plan. They never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// A random number that identifies the plan, as 32 hexadecimal digits.
    pub identity: String,
    /// The identity of the plan that this one reverts.
    pub parent: Option<String>,
    /// The state of that plan when this one was created; equal texts mean the same state.
    pub parent_writes: Option<String>,
    /// Shows whether an API key is the one that created the plan.
    pub key: KeyMark,
    /// The base URL of the service.
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
    /// When it was created, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// A description of the table.
    pub source: String,
    /// A digest of the rows and of the column options: [`Table::digest`](crate::plan::source::Table::digest). A revert
    /// has the digest of the plan that it reverts.
    pub source_digest: [u8; 32],
    /// The columns of the table with suspicious texts.
    pub suspicions: Vec<Suspicion>,
    /// Whether it reverts another plan.
    pub is_revert: bool,
}

/// The number of facts in a [`Header`].
const FACTS: usize = 16;
/// The header of a plan has these and five others: `name`, `rows`, `edits`, `cleared` and `sealed`.
const MOST_FACTS: usize = FACTS + 5;

impl Header {
    /// Creates an identity for a new plan.
    ///
    /// # Errors
    /// Returns [`FileError`] if the operating system provides no random numbers.
    pub fn new_identity() -> Result<String, FileError> {
        random().map(|bytes| hex(&bytes))
    }

    pub(super) fn members(&self) -> [(&'static str, SqlValue); FACTS] {
        let text = |text: &str| SqlValue::Text(text.to_owned());
        [
            ("identity", text(&self.identity)),
            ("parent", self.parent.as_deref().map_or(SqlValue::Null, text)),
            ("parent_writes", self.parent_writes.as_deref().map_or(SqlValue::Null, text)),
            ("key_salt", text(&hex(&self.key.salt))),
            ("key_hash", text(&hex(&self.key.hash))),
            ("base_url", text(&self.base_url)),
            ("act_as", self.act_as.as_deref().map_or(SqlValue::Null, text)),
            ("team_id", self.team_id.map_or(SqlValue::Null, SqlValue::Integer)),
            ("mode", text(self.mode.as_str())),
            ("nulls", text(self.nulls.as_str())),
            ("match_on", text(self.match_on.as_str())),
            ("created_at_ms", SqlValue::Integer(self.created_at_ms)),
            ("source", text(&self.source)),
            ("source_digest", text(&hex(&self.source_digest))),
            ("suspicions", SqlValue::Text(suspicions_to_text(&self.suspicions))),
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
        let (Some(salt), Some(hash)) = (from_hex(&text("key_salt")?), from_hex(&text("key_hash")?)) else {
            return Ok(None);
        };
        let Some(suspicions) = suspicions_from_text(&text("suspicions")?) else { return Ok(None) };
        let Some(source_digest) = from_hex(&text("source_digest")?) else { return Ok(None) };
        Ok(Some(Self {
            identity: text("identity")?,
            parent: get(connection, "parent")?,
            parent_writes: get(connection, "parent_writes")?,
            key: KeyMark { salt, hash },
            base_url: text("base_url")?,
            act_as: get(connection, "act_as")?,
            team_id: get(connection, "team_id")?,
            mode,
            nulls,
            match_on,
            created_at_ms: get(connection, "created_at_ms")?,
            source: text("source")?,
            source_digest,
            suspicions,
            is_revert: get(connection, "is_revert")?,
        }))
    }
}

fn suspicions_to_text(suspicions: &[Suspicion]) -> String {
    let found = suspicions.iter().map(|found| serde_json::json!([found.column, found.cells, found.row]));
    serde_json::Value::Array(found.collect()).to_string()
}

fn suspicions_from_text(text: &str) -> Option<Vec<Suspicion>> {
    let found: Vec<(String, u64, u64)> = serde_json::from_str(text).ok()?;
    Some(found.into_iter().map(|(column, cells, row)| Suspicion { column, cells, row }).collect())
}

/// A keyed hash of an API key, with its salt. It shows whether a key is the same without revealing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyMark {
    /// The salt, random for each plan.
    pub salt: [u8; 16],
    /// The hash.
    pub hash: [u8; 32],
}

impl KeyMark {
    /// Creates the mark of a key, with a new salt.
    ///
    /// # Errors
    /// Returns [`FileError`] if the operating system provides no random numbers.
    pub fn of(key: &ApiKey) -> Result<Self, FileError> {
        let salt = random()?;
        Ok(Self { salt, hash: key.keyed_hash(&salt) })
    }

    /// Returns whether it is the mark of this key.
    pub fn is_of(&self, key: &ApiKey) -> bool {
        self.hash == key.keyed_hash(&self.salt)
    }
}

/// Returns 128 random bits, the source of every identity, salt, run id and temporary name.
pub(super) fn random() -> Result<[u8; 16], FileError> {
    let mut bytes = [0; 16];
    #[cfg(feature = "simulation")]
    if super::simulation::fill(&mut bytes) {
        return Ok(bytes);
    }
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map(|()| bytes).map_err(|_| FileError::internal("the operating system provides no random numbers"))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// The longest fact of a header, in bytes.
const LONGEST_FACT: i64 = 1_024 * 1_024;

/// Returns whether a header has the facts of a plan, all of a valid length. Otherwise it is not read.
pub(super) fn is_bounded(connection: &Connection) -> rusqlite::Result<bool> {
    let query = "SELECT count(*), coalesce(max(octet_length(key) + coalesce(octet_length(value), 0)), 0) \
                 FROM (SELECT key, value FROM plan LIMIT ?1)";
    let (count, longest) = connection.query_row(query, [MOST_FACTS + 1], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok((..=MOST_FACTS).contains(&count) && (..=LONGEST_FACT).contains(&longest))
}

/// Returns the text that the header's checksum covers.
pub(super) fn header_checksum(connection: &Connection) -> rusqlite::Result<u32> {
    let mut select = connection.prepare("SELECT key, value FROM plan WHERE key <> 'sealed' ORDER BY key")?;
    let pairs = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, SqlValue>(1)?)))?;
    let mut sum = Sum::default();
    for pair in pairs {
        let (key, value) = pair?;
        sum.text(Some(&key)).sql(&value);
    }
    Ok(sum.0.finalize())
}
