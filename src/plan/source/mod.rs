//! Tables in: from Arrow, CSV, JSON Lines and single cells to one form, with every fault by row and column.
//!
//! A table is read once and looked at often, so it stays in columns: what comes from Arrow is kept as it is, and a row
//! is put together when it is asked for.

mod blanks;
mod builder;
mod check;
mod column;
mod csv;
mod dialect;
mod digest;
mod error;
mod integers;
mod json_lines;
mod names;
mod records;
#[cfg(test)]
mod tests;
mod utf8;

use std::path::Path;

use arrow_array::{Array, RecordBatch};
use arrow_schema::Schema;

use self::blanks::Blanks;
use self::column::Column;
use self::names::{Names, Role};
use super::{Cell, MatchOn, Mode, Nulls, Suspicion};
use crate::account::{Field, FieldError};
use crate::text::{plain_line, with_separators};

pub use self::builder::{Builder, CellError, Given, Number};
pub use self::dialect::encoding_named;
pub use self::error::TableError;
pub use self::integers::Float;

/// A name longer than this is cut in a message.
const LONGEST_NAME: usize = 100;
/// As many columns as a sheet of Excel can have.
const MOST_COLUMNS: usize = 16_384;
/// The most bytes of one line of JSON, or of one record of separated values: a quote that is never closed makes one of the
/// rest of its file.
const LONGEST_RECORD: usize = 16 * 1024 * 1024;
/// The most bytes of one cell. An answer that has more is refused, so nobody could tell whether it was stored.
const LONGEST_CELL: usize = 512 * 1024;

/// How a table is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// What its columns do to an account.
    pub mode: Mode,
    /// What an empty cell means.
    pub nulls: Nulls,
    /// By what a row finds its account.
    pub match_on: MatchOn,
    /// Columns that are not meant for the account.
    pub ignore: Vec<String>,
    /// Whether every column that no field is named like is ignored too.
    pub ignore_unknown: bool,
    /// Which column is which field: its name in the table, and the field's.
    pub columns: Vec<(String, String)>,
    /// Texts that are empty cells, besides `""` and white space.
    pub null_values: Vec<String>,
    /// What separates the fields of a CSV file; recognized when it is not given.
    pub delimiter: Option<u8>,
    /// The encoding of a CSV file that is not UTF-8 and has no byte order mark.
    pub encoding: Option<String>,
}

impl Options {
    /// Whether a column of this name is looked at: as a field, as what the rows are matched on, or as a fault.
    pub fn wants(&self, name: &str) -> bool {
        !matches!(names::role_of(name, self), Ok(Role::Ignored))
    }
}

/// By what one row finds its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key<'a> {
    /// The account's id, positive.
    Id(i64),
    /// Its domain name or name, as the row has it, not blank.
    Text(&'a str),
    /// None that an account can have. The row has a fault.
    Missing,
}

/// One fault of one cell. Its row cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowFault {
    /// The row's number in the table, from 0.
    pub row: u64,
    /// The column, as the table names it.
    pub column: String,
    /// What is wrong and what is expected, with row and column. Never the value.
    pub message: String,
}

/// Rows to be applied to accounts, each with the faults that were found in it.
#[derive(Debug)]
pub struct Table {
    description: String,
    match_on: MatchOn,
    rows: usize,
    /// The first row of each chunk; all columns are cut at the same rows.
    starts: Vec<usize>,
    /// There is none in a table without columns, which has no rows either.
    key: Option<Column>,
    columns: Vec<(Field, Column)>,
    fields: Vec<Field>,
    faults: Vec<RowFault>,
    suspicions: Vec<Suspicion>,
}

impl Table {
    /// A table of Arrow batches, which are kept as they are.
    ///
    /// # Errors
    /// [`TableError::Faults`] with all faults of all columns.
    pub fn from_batches(schema: &Schema, batches: Vec<RecordBatch>, options: &Options) -> Result<Self, TableError> {
        Self::from_named_batches(None, schema, batches, options)
    }

    /// A table of Arrow batches that came from a file.
    ///
    /// # Errors
    /// As [`Table::from_batches`].
    pub fn from_named_batches(
        file: Option<&Path>,
        schema: &Schema,
        mut batches: Vec<RecordBatch>,
        options: &Options,
    ) -> Result<Self, TableError> {
        batches.retain(|batch| batch.num_rows() > 0);
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let mut names = Names::of(&names, options);
        let mut starts = Vec::with_capacity(batches.len());
        let mut rows = 0;
        for batch in &batches {
            starts.push(rows);
            rows += batch.num_rows();
        }
        names.require(rows, options);
        let blanks = Blanks::new(&options.null_values);
        let mut columns = Vec::new();
        for (index, (name, role)) in names.roles.iter().enumerate() {
            if *role != Role::Ignored {
                let arrays: Vec<&dyn Array> = batches.iter().map(|batch| &**batch.column(index)).collect();
                match Column::of_arrays(name, role.kind(options.match_on), &arrays, &blanks) {
                    Ok(column) => columns.push((*role, column)),
                    Err(fault) => names.faults.push(fault),
                }
            }
        }
        let table = Self::in_words(file, rows, names.count());
        Self::assemble(table, starts, rows, columns, names.faults, options)
    }

    /// A table in a file of separated values, whose first line names the columns. Read strictly: a quote where RFC 4180
    /// allows none is an error, for it can make two rows of four.
    ///
    /// # Errors
    /// [`TableError`], whatever is wrong with the file or its columns.
    pub fn from_csv(path: &Path, options: &Options) -> Result<Self, TableError> {
        csv::read(path, options)
    }

    /// A table in a file with one JSON object a line.
    ///
    /// # Errors
    /// [`TableError`], whatever is wrong with the file or its columns.
    pub fn from_json_lines(path: &Path, options: &Options) -> Result<Self, TableError> {
        json_lines::read(path, options)
    }

    /// Checks the cells and brings the columns together.
    fn assemble(
        table: String,
        starts: Vec<usize>,
        rows: usize,
        columns: Vec<(Role, Column)>,
        faults: Vec<FieldError>,
        options: &Options,
    ) -> Result<Self, TableError> {
        if !faults.is_empty() {
            return Err(TableError::Faults { table, faults });
        }
        let (mut found, mut suspicions) = (Vec::new(), Vec::new());
        let (mut key, mut others) = (None, Vec::new());
        for (role, column) in columns {
            suspicions.extend(check::cells(&column, role, options, &starts, rows, &mut found));
            match role {
                Role::Key => {
                    // The account becomes what the row says, and its domain name is part of that.
                    if options.mode == Mode::Replace && options.match_on == MatchOn::DomainName {
                        others.push((Field::DomainName, column.clone()));
                    }
                    key = Some(column);
                }
                Role::Field(field) => others.push((field, column)),
                Role::Ignored => {}
            }
        }
        found.sort_by_key(|fault| fault.row);
        let fields = others.iter().map(|(field, _)| *field).collect();
        let match_on = options.match_on;
        Ok(Self { description: table, match_on, rows, starts, key, columns: others, fields, faults: found, suspicions })
    }

    /// What a table is called: its file's name, or how large it is.
    fn in_words(file: Option<&Path>, rows: usize, columns: usize) -> String {
        let name = file.and_then(Path::file_name).map(|name| plain_line(&name.to_string_lossy(), LONGEST_NAME));
        name.unwrap_or_else(|| {
            let plural = |count: usize| if count == 1 { "" } else { "s" };
            format!("a table of {} row{} and {columns} column{}", with_separators(rows), plural(rows), plural(columns))
        })
    }

    /// The number of rows.
    pub fn len(&self) -> u64 {
        self.rows as u64
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// By what the rows find their accounts.
    pub fn match_on(&self) -> MatchOn {
        self.match_on
    }

    /// The columns that are fields to change, each once. What the rows are matched on is not among them, except for the
    /// domain name in mode `replace`: the account becomes what the row says.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// By what a row finds its account.
    pub fn key(&self, row: u64) -> Key<'_> {
        let cell = self.place(row).zip(self.key.as_ref()).and_then(|(place, column)| column.cell(place));
        match cell {
            Some(Cell::Integer(id)) if id > 0 => Key::Id(id),
            Some(Cell::Text(text)) => Key::Text(text),
            _ => Key::Missing,
        }
    }

    /// The cells of a row. A field that the row does not name, as an object of JSON Lines may, is left out.
    pub fn row(&self, row: u64) -> impl Iterator<Item = (Field, Cell<'_>)> {
        let place = self.place(row);
        self.columns.iter().filter_map(move |(field, column)| Some((*field, column.cell(place?)?)))
    }

    /// Every fault of every cell, in the order of the rows. A row may have several.
    pub fn faults(&self) -> &[RowFault] {
        &self.faults
    }

    /// The columns with texts that often mean nothing, or that only a program makes. They are sent as they are.
    pub fn suspicions(&self) -> &[Suspicion] {
        &self.suspicions
    }

    /// The table in a few words: the name of its file, or its size.
    pub fn description(&self) -> &str {
        &self.description
    }

    fn place(&self, row: u64) -> Option<Place> {
        let row = usize::try_from(row).ok().filter(|row| *row < self.rows)?;
        let chunk = self.starts.partition_point(|start| *start <= row).checked_sub(1)?;
        Some(Place { row, chunk, offset: row - self.starts.get(chunk)? })
    }
}

/// Where a row is.
#[derive(Debug, Clone, Copy)]
struct Place {
    row: usize,
    chunk: usize,
    offset: usize,
}
