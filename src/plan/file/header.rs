//! The purpose of a plan, as the file stores it.

use std::collections::BTreeMap;

use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::Connection;
use rusqlite::types::Value as SqlValue;

use super::error::FileError;
use super::simulation;
use super::sum::Sum;
use crate::config::ApiKey;
use crate::plan::{MatchOn, Mode, Nulls, Suspicion};
use crate::text::hex;

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
    /// How a row finds its account.
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
    /// 0 for the plan of a table, 1 for its revert, 2 for the revert of that, and so on.
    pub generation: u32,
}

/// The number of facts in a [`Header`].
const FACTS: usize = 16;
/// The header of a plan has these and five others: `name`, `rows`, `edits`, `cleared` and `sealed`.
const MOST_FACTS: usize = FACTS + 5;

impl Header {
    /// Returns whether it reverts another plan.
    pub const fn is_revert(&self) -> bool {
        self.generation > 0
    }

    /// Returns whether it writes what a table says: it is the plan of the table, or it reverts a revert of that plan.
    pub const fn is_of_table(&self) -> bool {
        self.generation.is_multiple_of(2)
    }

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
            ("generation", SqlValue::Integer(i64::from(self.generation))),
        ]
    }

    /// Reads the header; `None` if a fact is missing or has another form.
    pub(super) fn read(facts: &Facts) -> Option<Self> {
        let is_null = |key| Some(*facts.get(key)? == SqlValue::Null);
        let optional = |key| if is_null(key)? { Some(None) } else { facts.text(key).map(Some) };
        Some(Self {
            identity: facts.text("identity")?,
            parent: optional("parent")?,
            parent_writes: optional("parent_writes")?,
            key: KeyMark { salt: from_hex(&facts.text("key_salt")?)?, hash: from_hex(&facts.text("key_hash")?)? },
            base_url: facts.text("base_url")?,
            act_as: optional("act_as")?,
            team_id: if is_null("team_id")? { None } else { Some(facts.integer("team_id")?) },
            mode: Mode::from_name(&facts.text("mode")?)?,
            nulls: Nulls::from_name(&facts.text("nulls")?)?,
            match_on: MatchOn::from_name(&facts.text("match_on")?)?,
            created_at_ms: facts.integer("created_at_ms")?,
            source: facts.text("source")?,
            source_digest: from_hex(&facts.text("source_digest")?)?,
            suspicions: suspicions_from_text(&facts.text("suspicions")?)?,
            generation: u32::try_from(facts.integer("generation")?).ok()?,
        })
    }
}

/// The table `plan`: the header, the name of the file, and how much was written.
pub(super) struct Facts(BTreeMap<String, SqlValue>);

impl Facts {
    /// Reads the table; `None` if it cannot be that of a plan. A hostile file may have endless or huge facts.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let mut select = connection.prepare_cached(
            "SELECT key, CASE WHEN is_short THEN value END, is_short FROM (SELECT key, value, \
             octet_length(key) + coalesce(octet_length(value), 0) <= ?2 AS is_short FROM plan LIMIT ?1)",
        )?;
        let mut facts = BTreeMap::new();
        let mut rows = select.query(rusqlite::params![MOST_FACTS + 1, LONGEST_FACT])?;
        while let Some(row) = rows.next()? {
            if facts.len() == MOST_FACTS || !row.get::<_, bool>(2)? {
                return Ok(None);
            }
            facts.insert(row.get(0)?, row.get(1)?);
        }
        Ok(Some(Self(facts)))
    }

    /// Returns the checksum of all facts but the checksum.
    pub(super) fn checksum(&self) -> u32 {
        let mut sum = Sum::default();
        for (key, value) in self.0.iter().filter(|(key, _)| *key != "sealed") {
            sum.text(Some(key)).sql(value);
        }
        sum.0.finalize()
    }

    pub(super) fn get(&self, key: &str) -> Option<&SqlValue> {
        self.0.get(key)
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        if let SqlValue::Text(text) = self.get(key)? { Some(text.clone()) } else { None }
    }

    pub(super) fn integer(&self, key: &str) -> Option<i64> {
        if let SqlValue::Integer(number) = self.get(key)? { Some(*number) } else { None }
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
    if simulation::fill(&mut bytes) {
        return Ok(bytes);
    }
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map(|()| bytes).map_err(|_| FileError::internal("the operating system provides no random numbers"))
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
