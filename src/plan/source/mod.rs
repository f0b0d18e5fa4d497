//! Reads tables: converts Arrow, CSV, JSON Lines and single cells to one form, and reports every fault with its row and
//! column.
//!
//! A table is read once and used often, so it stays in columns: Arrow data stays as it is, and a row is assembled on
//! demand.

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
use self::check::Check;
use self::column::Column;
use self::digest::{Digest, Sum};
use self::names::{Names, Role};
use super::{Cell, MatchOn, Mode, Nulls, Suspicion};
use crate::account::{Field, FieldError};
use crate::text::{plain_line, with_separators};

pub use self::builder::{Builder, CellError, Given, Number};
pub use self::check::{is_suspicious, means_nothing};
pub use self::dialect::check_encoding;
pub use self::error::TableError;
pub use self::integers::{Float, IntegerFault};

/// What may be wrong with the names of columns.
const TITLE: &str = "; if the first line is a title, remove it";
/// A longer name is truncated in a message.
const LONGEST_NAME: usize = 100;
/// The most columns of an Excel sheet.
const MOST_COLUMNS: usize = 16_384;
/// The most bytes of one line of JSON, or of one record of separated values: an unclosed quote extends a record to the
/// end of the file.
const LONGEST_RECORD: usize = 16 * 1024 * 1024;
/// The most bytes of one cell. A longer answer is refused, so it could not be verified.
const LONGEST_CELL: usize = 512 * 1024;

/// The fewest rows for which a second thread is faster.
const LONG: usize = 10_000;
/// How many rows are checked at once.
const AT_ONCE: usize = 64;

/// How to read a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// What its columns do to an account.
    pub mode: Mode,
    /// What an empty cell does.
    pub nulls: Nulls,
    /// How a row finds its account.
    pub match_on: MatchOn,
    /// Columns to ignore.
    pub ignore: Vec<String>,
    /// Whether to ignore every column that is not a field.
    pub ignore_unknown: bool,
    /// The mapping from column names to field names.
    pub columns: Vec<(String, String)>,
    /// Texts that are empty cells, besides `""` and white space.
    pub null_values: Vec<String>,
    /// The separator of a CSV file; detected if it is not given.
    pub delimiter: Option<u8>,
    /// The encoding of a CSV file without a byte order mark, if it is not UTF-8.
    pub encoding: Option<String>,
}

impl Options {
    /// Returns whether the table uses a column with this name: as a field, as the key, or as a fault.
    pub fn wants(&self, name: &str) -> bool {
        !matches!(names::role_of(name, self), Ok(Role::Ignored))
    }

    /// Returns whether a row also writes the domain name that it matches on: it replaces the account.
    fn replaces_key(&self) -> bool {
        self.mode == Mode::Replace && self.match_on == MatchOn::DomainName
    }
}

/// The key by which one row finds its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key<'a> {
    /// The account's id, positive.
    Id(i64),
    /// Its domain name or name, in the form of the row, not blank.
    Text(&'a str),
    /// No valid key. The row has a fault.
    Missing,
}

/// A fault of one cell. Its row cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowFault {
    /// The row's number in the table, from 0.
    pub row: u64,
    /// The name of the column in the table.
    pub column: String,
    /// What is wrong and what is expected, with row and column. Never contains the value.
    pub message: String,
}

/// Rows to apply to accounts, with their faults.
#[derive(Debug)]
pub struct Table {
    description: String,
    match_on: MatchOn,
    rows: usize,
    /// The first row of each chunk; all columns are split at the same rows.
    starts: Vec<usize>,
    /// `None` in a table without columns, which has no rows either.
    key: Option<Column>,
    columns: Vec<(Field, Column)>,
    fields: Vec<Field>,
    faults: Vec<RowFault>,
    suspicions: Vec<Suspicion>,
    digest: Digest,
}

impl Table {
    /// Creates a table from Arrow batches, which it keeps as they are.
    ///
    /// # Errors
    /// Returns [`TableError::Faults`] with every fault of every column.
    pub fn from_batches(schema: &Schema, batches: Vec<RecordBatch>, options: &Options) -> Result<Self, TableError> {
        Self::from_named_batches(None, schema, batches, options)
    }

    /// Creates a table from Arrow batches that came from a file.
    ///
    /// # Errors
    /// Returns the errors of [`Table::from_batches`].
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
                let extension = schema.field(index).extension_type_name();
                match Column::of_arrays(name, role.kind(options.match_on), extension, &arrays, &blanks) {
                    Ok(column) => columns.push((*role, column)),
                    Err(fault) => names.faults.push(fault),
                }
            }
        }
        let table = Self::in_words(file, rows, names.count);
        Self::assemble(table, starts, rows, columns, names.faults, options)
    }

    /// Reads a table from a file of separated values, whose first line contains the column names. Reads strictly: a
    /// quote where RFC 4180 does not allow it is an error, because it can turn four rows into two.
    ///
    /// # Errors
    /// Returns [`TableError`] if the file or its columns are invalid.
    pub fn from_csv(path: &Path, options: &Options) -> Result<Self, TableError> {
        csv::read(path, options)
    }

    /// Reads a table from a file with one JSON object per line.
    ///
    /// # Errors
    /// Returns [`TableError`] if the file or its columns are invalid.
    pub fn from_json_lines(path: &Path, options: &Options) -> Result<Self, TableError> {
        json_lines::read(path, options)
    }

    /// Checks the cells and combines the columns.
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
        let roles: Vec<Role> = columns.iter().map(|(role, _)| *role).collect();
        let (mut key, mut others) = (None, Vec::new());
        for (role, column) in columns {
            match role {
                Role::Key => {
                    if options.replaces_key() {
                        others.push((Field::DomainName, column.clone()));
                    }
                    key = Some(column);
                }
                Role::Field(field) => others.push((field, column)),
                Role::Ignored => {}
            }
        }
        let mut table = Self {
            description: table,
            match_on: options.match_on,
            rows,
            starts,
            key,
            fields: others.iter().map(|(field, _)| *field).collect(),
            columns: others,
            faults: Vec::new(),
            suspicions: Vec::new(),
            digest: Digest::default(),
        };
        let ((faults, suspicions), digest) = digest::digest(rows >= LONG, |sum| table.check(&roles, options, sum));
        (table.faults, table.suspicions, table.digest) = (faults, suspicions, digest);
        Ok(table)
    }

    /// Checks the cells, and writes them to a sum. Takes a few rows at a time, so that the processor reads each cell
    /// from the memory once.
    fn check(&self, roles: &[Role], options: &Options, sum: &mut Sum<'_>) -> (Vec<RowFault>, Vec<Suspicion>) {
        let column_of = |role: &Role| match role {
            Role::Key => self.key.as_ref(),
            Role::Field(field) => self.columns.iter().find(|(named, _)| named == field).map(|(_, column)| column),
            Role::Ignored => None,
        };
        let checks = roles.iter().filter_map(|role| Some(Check::new(column_of(role)?, *role, options)));
        let mut checks: Vec<Check<'_>> = checks.collect();
        let mut faults = Vec::new();
        sum.columns(self, options);
        for (chunk, start) in self.starts.iter().enumerate() {
            let end = self.starts.get(chunk + 1).copied().unwrap_or(self.rows);
            for first in (*start..end).step_by(AT_ONCE) {
                let rows = first..end.min(first + AT_ONCE);
                for check in &mut checks {
                    check.rows(chunk, *start, rows.clone(), &mut faults);
                }
                sum.rows(self, chunk, *start, rows);
            }
        }
        faults.sort_by_key(|fault| fault.row);
        sum.faults(&faults);
        (faults, checks.into_iter().filter_map(Check::suspicion).collect())
    }

    /// A description of the table: the name of its file, or its size.
    fn in_words(file: Option<&Path>, rows: usize, columns: usize) -> String {
        let name = file.and_then(Path::file_name).map(|name| plain_line(&name.to_string_lossy(), LONGEST_NAME));
        name.unwrap_or_else(|| {
            let plural = |count: usize| if count == 1 { "" } else { "s" };
            format!("a table of {} row{} and {columns} column{}", with_separators(rows), plural(rows), plural(columns))
        })
    }

    /// Returns the number of rows.
    pub fn len(&self) -> u64 {
        self.rows as u64
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Returns how the rows find their accounts.
    pub fn match_on(&self) -> MatchOn {
        self.match_on
    }

    /// Returns the columns that are fields to change, each once. The key is not among them, except for the domain name
    /// in mode `replace`, in which the row replaces the account.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Returns the key by which a row finds its account.
    pub fn key(&self, row: u64) -> Key<'_> {
        self.place(row).map_or(Key::Missing, |place| self.key_at(place))
    }

    fn key_at(&self, place: Place) -> Key<'_> {
        match self.key.as_ref().and_then(|column| column.cell(place)) {
            Some(Cell::Integer(id)) if id > 0 => Key::Id(id),
            Some(Cell::Text(text)) => Key::Text(text),
            _ => Key::Missing,
        }
    }

    /// Returns the cells of a row. Omits a field that the row does not contain, as an object of JSON Lines may.
    pub fn row(&self, row: u64) -> impl Iterator<Item = (Field, Cell<'_>)> {
        let place = self.place(row);
        self.columns.iter().filter_map(move |(field, column)| Some((*field, column.cell(place?)?)))
    }

    /// Returns the cell of a row in each column; `None` where the row does not contain the column.
    fn cells_at(&self, place: Place) -> impl Iterator<Item = Option<Cell<'_>>> {
        self.columns.iter().map(move |(_, column)| column.cell(place))
    }

    /// Returns every fault of every cell, in the order of the rows. A row may have several.
    pub fn faults(&self) -> &[RowFault] {
        &self.faults
    }

    /// Returns the columns with suspicious texts, which are sent unchanged.
    pub fn suspicions(&self) -> &[Suspicion] {
        &self.suspicions
    }

    /// Returns a digest of the rows and of what the columns do. Two tables with the same digest plan the same changes,
    /// whether they come from a file or a data frame.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Returns a short description of the table: the name of its file, or its size.
    pub fn description(&self) -> &str {
        &self.description
    }

    fn place(&self, row: u64) -> Option<Place> {
        let row = usize::try_from(row).ok().filter(|row| *row < self.rows)?;
        let chunk = self.starts.partition_point(|start| *start <= row).checked_sub(1)?;
        Some(Place { row, chunk, offset: row - self.starts.get(chunk)? })
    }
}

/// The position of a row.
#[derive(Debug, Clone, Copy)]
struct Place {
    row: usize,
    chunk: usize,
    offset: usize,
}
