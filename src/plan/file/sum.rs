//! The checksum of a row or a fact of a plan file.

use crc32fast::Hasher;
use rusqlite::types::Value as SqlValue;

use crate::plan::Value;

/// A checksum over values that also covers where each of them ends.
#[derive(Default)]
pub(super) struct Sum(pub(super) Hasher);

impl Sum {
    pub(super) fn integer(&mut self, value: Option<i64>) -> &mut Self {
        match value {
            Some(number) => {
                self.0.update(b"i");
                self.0.update(&number.to_le_bytes());
            }
            None => self.0.update(b"n"),
        }
        self
    }

    pub(super) fn text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(text) => {
                self.0.update(b"t");
                self.0.update(&(text.len() as u64).to_le_bytes());
                self.0.update(text.as_bytes());
            }
            None => self.0.update(b"n"),
        }
        self
    }

    /// Adds a value in the form of SQLite.
    pub(super) fn sql(&mut self, value: &SqlValue) -> &mut Self {
        match value {
            SqlValue::Integer(number) => self.integer(Some(*number)),
            SqlValue::Text(text) => self.text(Some(text)),
            SqlValue::Null => self.integer(None),
            // Never written to this file.
            SqlValue::Real(_) | SqlValue::Blob(_) => self.text(Some("neither integer nor text")),
        }
    }

    pub(super) fn value(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Null => self.integer(None),
            Value::Integer(number) => self.integer(Some(*number)),
            Value::Text(text) => self.text(Some(text)),
        }
    }
}
