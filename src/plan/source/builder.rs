//! Builds tables from single cells, in rows or in columns.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use arrow_array::builder::{Int64Builder, LargeStringBuilder};
use arrow_buffer::BooleanBufferBuilder;

use super::blanks::Blanks;
use super::column::{Chunk, Column, as_text, is_date, wrong_type};
use super::integers::{Float, IntegerFault, POSITIVE, of_float, of_text};
use super::names::{Names, Role, role_of, shown};
use super::{MOST_COLUMNS, Options, Table, TableError};
use crate::account::{CompanySize, FieldError, Kind};
use crate::sabotage::{Guard, is_off};

/// The input for a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Given<'a> {
    /// No value.
    Empty,
    /// Text.
    Text(&'a str),
    /// Invalid text: it contains half of a surrogate pair.
    HalfText,
    /// A number, with the name of its type.
    Number(Number, &'a str),
    /// A value that no field can have, with the name of its type.
    Other(&'a str),
}

/// The numeric input for a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// An integer, or an equivalent such as `42.0`.
    Integer(i64),
    /// A number that is no integer, or not surely one.
    Fault(IntegerFault),
}

impl<'a> Given<'a> {
    /// Converts a float, with the name of its type.
    pub fn float(number: f64, float: Float, name: &'a str) -> Self {
        match of_float(number, float) {
            Ok(Some(number)) => Self::Number(Number::Integer(number), name),
            Ok(None) => Self::Empty,
            Err(fault) => Self::Number(Number::Fault(fault), name),
        }
    }
}

/// Why a cell cannot be added to a table. The text follows the name of the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CellError {
    /// The row already has a cell in this column.
    Repeated(String),
    /// There are too many columns.
    TooManyColumns,
}

impl fmt::Display for CellError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeated(name) => write!(formatter, "names {name} twice"),
            Self::TooManyColumns => write!(formatter, "is the first with more than {MOST_COLUMNS} columns"),
        }
    }
}

impl std::error::Error for CellError {}

/// Builds a table row by row. A row may omit columns, and cannot have two cells in one column, so all columns have the
/// same length.
///
/// # Examples
/// ```
/// use replyio::plan::source::{Builder, Given, Number, Options};
///
/// let mut builder = Builder::new(&Options::default());
/// let (id, city) = (builder.column("id")?, builder.column("city")?);
/// builder.push(id, Given::Number(Number::Integer(4711), "int"))?;
/// builder.push(city, Given::Text("Oslo"))?;
/// builder.end_row();
/// assert_eq!(builder.finish(None)?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Builder {
    options: Options,
    blanks: Blanks,
    columns: Vec<Building>,
    places: HashMap<String, usize>,
    rows: usize,
}

#[derive(Debug)]
struct Building {
    name: String,
    kind: Kind,
    role: Role,
    texts: LargeStringBuilder,
    integers: Int64Builder,
    /// Created when the first row omits the column.
    absent: Option<BooleanBufferBuilder>,
    length: usize,
    filled: usize,
    wrong: Vec<(usize, String)>,
    faults: Vec<(usize, String)>,
}

impl Builder {
    /// Creates an empty table.
    pub fn new(options: &Options) -> Self {
        let (options, blanks) = (options.clone(), Blanks::new(&options.null_values));
        Self { options, blanks, columns: Vec::new(), places: HashMap::new(), rows: 0 }
    }

    /// Returns the position of a column. Adds the column if there is none with this name.
    ///
    /// # Errors
    /// Returns [`CellError::TooManyColumns`].
    pub fn column(&mut self, name: &str) -> Result<usize, CellError> {
        match self.places.get(name) {
            Some(place) => Ok(*place),
            None => self.add_column(name),
        }
    }

    /// Adds a column even if another one has the same name; [`Builder::finish`] reports that.
    ///
    /// # Errors
    /// Returns [`CellError::TooManyColumns`].
    pub fn add_column(&mut self, name: &str) -> Result<usize, CellError> {
        let place = self.columns.len();
        if place == MOST_COLUMNS {
            return Err(CellError::TooManyColumns);
        }
        // A column without a role, or with a duplicate role, is refused at the end, so its cells are not stored.
        let role = role_of(name, &self.options).ok().filter(|role| self.columns.iter().all(|c| c.role != *role));
        self.columns.push(Building::new(name, role.unwrap_or(Role::Ignored), &self.options));
        self.places.insert(name.to_owned(), place);
        Ok(place)
    }

    /// Returns whether the builder uses the cells of a column.
    pub fn is_wanted(&self, column: usize) -> bool {
        self.columns.get(column).is_some_and(|column| column.role != Role::Ignored)
    }

    /// Returns whether a column has this name.
    pub fn is_named(&self, column: usize, name: &str) -> bool {
        self.columns.get(column).is_some_and(|column| column.name == name)
    }

    /// Adds a cell to the current row.
    ///
    /// # Errors
    /// Returns [`CellError::Repeated`] if the row already has a cell in this column.
    pub fn push(&mut self, column: usize, cell: Given<'_>) -> Result<(), CellError> {
        let rows = self.rows;
        let Some(column) = self.columns.get_mut(column).filter(|column| column.role != Role::Ignored) else {
            return Ok(());
        };
        column.pad(rows);
        if column.length > rows && !is_off(Guard::OneCell) {
            return Err(CellError::Repeated(shown(&column.name)));
        }
        column.push(match cell {
            Given::Text(text) if self.blanks.has(text) => Given::Empty,
            cell => cell,
        });
        Ok(())
    }

    /// Ends a row. Columns without a cell in it have no value for it.
    pub fn end_row(&mut self) {
        self.rows += 1;
    }

    /// Returns the number of finished rows.
    pub fn rows(&self) -> u64 {
        self.rows as u64
    }

    /// Returns the table; `file` is its source, if it came from a file. Ends a row that was begun.
    ///
    /// # Errors
    /// Returns [`TableError::Faults`] with every fault of every column.
    pub fn finish(self, file: Option<&Path>) -> Result<Table, TableError> {
        let Self { options, blanks, columns, rows, .. } = self;
        let rows = columns.iter().map(|column| column.length).max().unwrap_or_default().max(rows);
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let mut names = Names::of(&names, &options);
        names.require(rows, &options);
        let mut finished = Vec::new();
        for (mut column, (name, role)) in columns.into_iter().zip(&names.roles) {
            if *role == Role::Ignored {
                continue;
            }
            column.pad(rows);
            match column.finish(name, &blanks) {
                Ok(column) => finished.push((*role, column)),
                Err(fault) => names.faults.push(fault),
            }
        }
        let table = Table::in_words(file, rows, names.count);
        Table::assemble(table, vec![0], rows, finished, names.faults, &options)
    }
}

impl Building {
    fn new(name: &str, role: Role, options: &Options) -> Self {
        Self {
            name: name.to_owned(),
            kind: role.kind(options.match_on),
            role,
            texts: LargeStringBuilder::new(),
            integers: Int64Builder::new(),
            absent: None,
            length: 0,
            filled: 0,
            wrong: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Omits the rows before this one.
    fn pad(&mut self, rows: usize) {
        let missing = rows.saturating_sub(self.length);
        if missing == 0 {
            return;
        }
        let length = self.length;
        let absent = self.absent.get_or_insert_with(|| BooleanBufferBuilder::new(rows));
        absent.append_n(length - absent.len(), false);
        absent.append_n(missing, true);
        for _ in 0..missing {
            self.append(None, None);
        }
    }

    fn append(&mut self, text: Option<&str>, integer: Option<i64>) {
        if self.kind == Kind::Integer {
            self.integers.append_option(integer);
        } else {
            self.texts.append_option(text);
        }
        self.length += 1;
    }

    fn push(&mut self, cell: Given<'_>) {
        self.filled += usize::from(cell != Given::Empty);
        let row = self.length;
        let is_integer = self.kind == Kind::Integer;
        let (text, integer) = match cell {
            Given::Empty => (None, None),
            Given::HalfText => {
                self.faults.push((row, "must be valid Unicode: it contains a lone surrogate".to_owned()));
                (None, None)
            }
            Given::Text(text) if !is_integer => (Some(text), None),
            Given::Text(text) => (None, self.kept(of_text(text))),
            Given::Number(Number::Integer(number), _) if is_integer => (None, Some(number)),
            Given::Number(Number::Fault(fault), _) if is_integer => (None, self.kept(Err(fault))),
            Given::Number(_, found) | Given::Other(found) => {
                self.wrong.push((row, found.to_owned()));
                (None, None)
            }
        };
        self.append(text, integer);
    }

    fn kept(&mut self, number: Result<i64, IntegerFault>) -> Option<i64> {
        number.map_err(|fault| self.faults.push((self.length, fault.to_string()))).ok()
    }

    /// Returns the column. If no cell has a type that the field can have, the whole column has a fault.
    fn finish(mut self, name: &str, blanks: &Blanks) -> Result<Column, FieldError> {
        if let Some((row, found)) = self.wrong.first()
            && self.wrong.len() == self.filled
        {
            return Err(FieldError::new(name, wrong_type(self.kind, found, *row)));
        }
        let expected = if self.kind == Kind::Integer { POSITIVE } else { "must be text" };
        self.faults.extend(self.wrong.into_iter().map(|(row, found)| {
            let is_size = self.kind == Kind::CompanySize && is_date(&found);
            let hint = match self.kind {
                _ if is_size => format!("; {}", CompanySize::FROM_A_DATE),
                Kind::Integer | Kind::CompanySize => String::new(),
                _ => as_text(&found).to_owned(),
            };
            (row, format!("{expected}, not {found}{hint}"))
        }));
        self.faults.sort_by_key(|(row, _)| *row);
        let chunk = match self.kind {
            Kind::Integer => Chunk::Integer(self.integers.finish()),
            _ => Chunk::LargeText(self.texts.finish()),
        };
        let length = self.length;
        let absent = self.absent.map(|mut absent| {
            absent.append_n(length - absent.len(), false);
            absent.finish()
        });
        let (name, blanks) = (name.to_owned(), blanks.clone());
        Ok(Column { name, chunks: vec![chunk], blanks, absent, faults: self.faults })
    }
}
