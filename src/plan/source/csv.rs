//! Reads files of separated values.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::Path;

use super::builder::{Builder, Given};
use super::dialect::{self, Head};
use super::names::{Role, plain, role_of};
use super::records::{RecordError, Records};
use super::{Options, TITLE, Table, TableError};
use crate::private_file::open_linked;

/// How much of a file to read to detect the separator.
const HEAD: u64 = 1024 * 1024;

pub(super) fn read(path: &Path, options: &Options) -> Result<Table, TableError> {
    let io = |error| TableError::Io { path: path.to_owned(), error };
    let wrong = |line: Option<u64>, reason: String| TableError::Read { path: path.to_owned(), line, reason };
    let is_tsv = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tsv"));
    let mut source = dialect::decoded(open_linked(path).map_err(io)?, options).map_err(|error| match error {
        RecordError::Io(error) => io(error),
        RecordError::Line(line, reason) => wrong((line > 0).then_some(line), reason),
    })?;
    let mut head = Vec::new();
    source.by_ref().take(HEAD).read_to_end(&mut head).map_err(io)?;
    let Head { delimiter, skipped } =
        dialect::of_head(&head, is_tsv, options).map_err(|reason| wrong(Some(1), reason))?;
    let first_line = if skipped > 0 { 2 } else { 1 };
    let rest = head.get(skipped..).unwrap_or_default().to_owned();
    let source = BufReader::new(Cursor::new(rest).chain(source));
    table(Records::new(source, delimiter, first_line), path, options).map_err(|error| match error {
        Failed::Record(RecordError::Io(error)) => io(error),
        Failed::Record(RecordError::Line(line, reason)) => wrong(Some(line), reason),
        Failed::Empty => wrong(None, "the file is empty; its first line must name the columns".to_owned()),
        Failed::Table(error) => error,
    })
}

enum Failed {
    Record(RecordError),
    Empty,
    Table(TableError),
}

fn table<R: BufRead>(mut records: Records<R>, path: &Path, options: &Options) -> Result<Table, Failed> {
    let at = |line: u64, reason: String| Failed::Record(RecordError::Line(line, reason));
    let mut builder = Builder::new(options);
    let mut columns: Vec<usize> = Vec::new();
    let mut header = Header::default();
    let mut width = 0;
    while records.advance().map_err(Failed::Record)? {
        // Spreadsheets leave empty rows.
        if records.fields().all(|field| field.trim_ascii().is_empty()) {
            continue;
        }
        let line = records.record_line();
        if columns.is_empty() {
            if records.fields().any(|name| name.contains(&0)) {
                return Err(at(line, dialect::HAS_NULS.to_owned()));
            }
            width = records.len();
            // They also leave empty columns.
            let blank = records.fields().map(|name| name.trim_ascii().is_empty()).collect::<Vec<_>>();
            let named = blank.iter().rposition(|blank| !blank).map_or(0, |last| last + 1);
            for name in records.fields().take(named) {
                let name = text(name).map_err(|reason| at(line, reason))?;
                columns.push(builder.add_column(name).map_err(|error| at(line, error.to_string()))?);
                header.add(name, options);
            }
            continue;
        }
        if header.is_repeated(records.fields()) {
            return Err(at(line, REPEATED.to_owned()));
        }
        if records.len() != width {
            let (found, hint) = match records.len() {
                // Programs write their name, a date or a copyright below a report.
                1 => ("1 field".to_owned(), "; if it is a note below the table, remove it"),
                count if width == 1 => (format!("{count} fields"), TITLE),
                count => (format!("{count} fields"), ""),
            };
            return Err(at(line, format!("has {found}, but the first line has {width}{hint}")));
        }
        for (place, field) in records.fields().enumerate() {
            let text = text(field).map_err(|reason| at(line, reason))?;
            match columns.get(place) {
                Some(column) => {
                    builder.push(*column, Given::Text(text)).map_err(|error| at(line, error.to_string()))?;
                }
                None if text.trim().is_empty() => {}
                None => {
                    let (place, hint) = (place + 1, if columns.len() == 1 { TITLE } else { "" });
                    let reason = format!("has a value in column {place}, which has no name in the first line{hint}");
                    return Err(at(line, reason));
                }
            }
        }
        builder.end_row();
    }
    if columns.is_empty() {
        return Err(Failed::Empty);
    }
    builder.finish(Some(path)).map_err(Failed::Table)
}

/// What is wrong with a record that names the columns.
const REPEATED: &str = "names the columns again, so two files were probably joined; if the columns below it have the \
    same order, remove this line, otherwise make a plan of each file";

/// The names of the columns, as they are compared.
#[derive(Default)]
struct Header {
    names: HashSet<String>,
    key: Option<String>,
}

impl Header {
    fn add(&mut self, name: &str, options: &Options) {
        let compared = plain(name);
        if role_of(name, options) == Ok(Role::Key) {
            self.key = Some(compared.clone());
        }
        if !compared.is_empty() {
            self.names.insert(compared);
        }
    }

    /// Returns whether a record has only names of columns, in any order, that of the key included: an account can have
    /// the name of another column.
    fn is_repeated<'a>(&self, mut fields: impl Iterator<Item = &'a [u8]>) -> bool {
        let mut has_key = false;
        let mut is_name = |field: &[u8]| {
            let name = std::str::from_utf8(field).map(plain).unwrap_or_default();
            has_key |= self.key.as_ref() == Some(&name);
            self.names.contains(&name)
        };
        fields.all(|field| field.trim_ascii().is_empty() || is_name(field)) && has_key
    }
}

fn text(field: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(field).map_err(|_| dialect::NOT_UTF8.to_owned())
}
