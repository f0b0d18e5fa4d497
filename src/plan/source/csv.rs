//! Files of comma- or tab-separated values.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use csv::{ByteRecord, ErrorKind, ReaderBuilder};

use super::builder::{Builder, Given};
use super::{Options, Table, TableError};

/// A line put below the file. When it is not found again, a quote was opened and not closed, and what follows it, the rest
/// of the file perhaps, is all one cell.
const END: &[u8] = b"\n\x1e end of the file \x1e\n";

pub(super) fn read(path: &Path, options: &Options) -> Result<Table, TableError> {
    let io = |error| TableError::Io { path: path.to_owned(), error };
    let wrong = |line: Option<u64>, reason: String| TableError::Read { path: path.to_owned(), line, reason };
    let file = File::open(path).map_err(io)?;
    let is_tsv = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tsv"));
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(if is_tsv { b'\t' } else { b',' })
        .from_reader(file.chain(END));
    let mut builder = Builder::new(options);
    let mut columns: Vec<usize> = Vec::new();
    let mut record = ByteRecord::new();
    let mut line = 1;
    loop {
        let found = reader.read_byte_record(&mut record).map_err(|error| match error.into_kind() {
            ErrorKind::Io(error) => io(error),
            _ => wrong(None, "is no table of separated values".to_owned()),
        })?;
        if !found {
            return Err(wrong(Some(line), "opens a quote that is never closed".to_owned()));
        }
        if record.len() == 1 && record.get(0) == Some(END.trim_ascii()) {
            break;
        }
        line = record.position().map_or(line, csv::Position::line);
        if columns.is_empty() {
            for name in &record {
                let name = std::str::from_utf8(name).map_err(|_| wrong(Some(line), NOT_UTF8.to_owned()))?;
                columns.push(builder.add_column(name));
            }
            continue;
        }
        if record.len() != columns.len() {
            let reason = format!("has {} fields, not {} as the first line", record.len(), columns.len());
            return Err(wrong(Some(line), reason));
        }
        for (column, field) in columns.iter().zip(&record) {
            let text = std::str::from_utf8(field).map_err(|_| wrong(Some(line), NOT_UTF8.to_owned()))?;
            builder.push(*column, if text.is_empty() { Given::Empty } else { Given::Text(text) });
        }
        builder.end_row();
    }
    if columns.is_empty() {
        return Err(wrong(None, "the file is empty; its first line must name the columns".to_owned()));
    }
    builder.finish(Some(path))
}

pub(super) const NOT_UTF8: &str = "is not UTF-8; save the file as UTF-8";
