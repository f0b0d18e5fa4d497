//! Errors of reading a table.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::Table;
use super::names::in_quotes;
use crate::account::FieldError;
use crate::text::listed;

/// Why a table cannot be read.
#[derive(Debug)]
pub enum TableError {
    /// Columns have problems. Nothing was sent.
    Faults {
        /// The description of the table, or the name of its file.
        table: String,
        /// Every problem of every column.
        faults: Vec<FieldError>,
    },
    /// A file cannot be read as a table.
    Read {
        /// The file.
        path: PathBuf,
        /// The line, from 1, if there is one.
        line: Option<u64>,
        /// What is wrong.
        reason: String,
    },
    /// A row is invalid.
    Row {
        /// Its number, from 0.
        row: u64,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be opened or read.
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
}

impl fmt::Display for TableError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Faults { table, faults } => {
                write!(formatter, "{} refused before any request:", table.strip_prefix("a ").unwrap_or(table))?;
                let mut columns: Vec<(&FieldError, usize)> = Vec::new();
                for fault in faults {
                    match columns.iter_mut().find(|(other, _)| *other == fault) {
                        Some((_, times)) => *times += 1,
                        None => columns.push((fault, 1)),
                    }
                }
                let column = |(fault, times): &(&FieldError, usize)| {
                    let times = if *times > 1 { format!(" ({times} times)") } else { String::new() };
                    format!("column {}{times} {}", in_quotes(&fault.field), fault.message)
                };
                formatter.write_str(&listed(&columns, column))
            }
            Self::Row { row, reason } => write!(formatter, "table refused before any request: row {row} {reason}"),
            Self::Read { path, line, reason } => {
                let name = Table::in_words(Some(path), 0, 0);
                match line {
                    Some(line) => write!(formatter, "{name} refused before any request: line {line} {reason}"),
                    None => write!(formatter, "{name} refused before any request: {reason}"),
                }
            }
            Self::Io { path, error } => {
                write!(formatter, "{} cannot be read: {error}", Table::in_words(Some(path), 0, 0))
            }
        }
    }
}

impl std::error::Error for TableError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Faults { .. } | Self::Row { .. } | Self::Read { .. } => None,
        }
    }
}
