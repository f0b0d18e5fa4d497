//! One column: chunks of Arrow arrays, and the conversion of types that differ from the field's.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{
    Array, GenericStringArray, Int64Array, LargeStringArray, OffsetSizeTrait, PrimitiveArray, StringArray,
    StringViewArray,
};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;

use super::Place;
use super::blanks::Blanks;
use super::integers::reader;
use super::utf8::{first_broken, first_broken_view};
use crate::account::{CompanySize, FieldError, Kind};
use crate::plan::Cell;

/// A column, split at the same rows as all the others of its table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) chunks: Vec<Chunk>,
    /// The texts that are empty cells.
    pub(super) blanks: Blanks,
    /// The rows without a cell, if the column came row by row.
    pub(super) absent: Option<BooleanBuffer>,
    /// The rows with an unreadable cell, in order, with the reason. Their cells are empty.
    pub(super) faults: Vec<(usize, String)>,
}

/// A part of a column in its original form.
#[derive(Debug, Clone)]
pub(super) enum Chunk {
    Empty,
    Text(StringArray),
    LargeText(LargeStringArray),
    TextView(StringViewArray),
    Dictionary(Keys, Box<Self>),
    Integer(Int64Array),
}

impl Chunk {
    pub(super) fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Self::Text(texts) if row < texts.len() && texts.is_valid(row) => Cell::Text(texts.value(row)),
            Self::LargeText(texts) if row < texts.len() && texts.is_valid(row) => Cell::Text(texts.value(row)),
            Self::TextView(texts) if row < texts.len() && texts.is_valid(row) => Cell::Text(texts.value(row)),
            Self::Integer(numbers) if row < numbers.len() && numbers.is_valid(row) => Cell::Integer(numbers.value(row)),
            Self::Dictionary(keys, values) => keys.get(row).map_or(Cell::Empty, |key| values.cell(key)),
            _ => Cell::Empty,
        }
    }

    /// Returns the texts of consecutive rows as one piece, with what a producer left in empty cells; `None` if they are
    /// not stored in one.
    pub(super) fn bytes(&self, rows: Range<usize>) -> Option<&[u8]> {
        fn part<T: OffsetSizeTrait>(texts: &GenericStringArray<T>, rows: Range<usize>) -> Option<&[u8]> {
            let offset = |row: usize| texts.value_offsets().get(row).map(|offset| offset.as_usize());
            texts.value_data().get(offset(rows.start)?..offset(rows.end)?)
        }
        match self {
            Self::Text(texts) => part(texts, rows),
            Self::LargeText(texts) => part(texts, rows),
            _ => None,
        }
    }

    /// Returns whether consecutive rows surely have a text, and all texts have a property.
    pub(super) fn all_texts(&self, rows: Range<usize>, have: fn(&[u8]) -> bool) -> bool {
        fn all<T: OffsetSizeTrait>(
            texts: &GenericStringArray<T>,
            rows: Range<usize>,
            have: fn(&[u8]) -> bool,
        ) -> Option<bool> {
            let bytes = texts.value_data();
            let ends = texts.value_offsets().get(rows.start..=rows.end)?;
            let is_text = |ends: &[T]| match ends {
                [start, end] => bytes.get(start.as_usize()..end.as_usize()).is_some_and(have),
                _ => false,
            };
            let has_nulls = || texts.nulls().is_some_and(|nulls| rows.clone().any(|row| nulls.is_null(row)));
            Some(ends.windows(2).all(is_text) && !has_nulls())
        }
        let all = match self {
            Self::Text(texts) => all(texts, rows, have),
            Self::LargeText(texts) => all(texts, rows, have),
            _ => None,
        };
        all.unwrap_or_default()
    }
}

/// Generates the enum of the key types of a dictionary.
macro_rules! keys {
    ($( $variant:ident $type:ident )+) => {
        #[derive(Debug, Clone)]
        pub(super) enum Keys { $( $variant(PrimitiveArray<$type>), )+ }

        impl Keys {
            pub(super) fn of(array: &dyn Array) -> Option<(Self, &dyn Array)> {
                $( if let Some(array) = array.as_dictionary_opt::<$type>() {
                    return Some((Self::$variant(array.keys().clone()), &**array.values()));
                } )+
                None
            }

            pub(super) fn get(&self, row: usize) -> Option<usize> {
                match self {
                    $( Self::$variant(keys) if row < keys.len() && keys.is_valid(row) => {
                        // A negative key refers to nothing, as one beyond the values.
                        Some(usize::try_from(keys.value(row)).unwrap_or(usize::MAX))
                    } )+
                    _ => None,
                }
            }

            /// Checks that each key refers to a value: a producer can pass a key that is negative or too large.
            pub(super) fn check(&self, values: usize) -> Result<(), Refusal> {
                let without_value = (0..self.len()).find(|row| self.get(*row).is_some_and(|key| key >= values));
                without_value.map_or(Ok(()), |row| Err(Refusal::NoValue(row)))
            }

            fn len(&self) -> usize {
                match self { $( Self::$variant(keys) => keys.len(), )+ }
            }
        }
    };
}

keys! {
    Signed8 Int8Type Signed16 Int16Type Signed32 Int32Type Signed64 Int64Type
    Unsigned8 UInt8Type Unsigned16 UInt16Type Unsigned32 UInt32Type Unsigned64 UInt64Type
}

/// Why an array cannot be a chunk.
pub(super) enum Refusal {
    /// Its type.
    Type,
    /// This row is not valid UTF-8.
    Broken(usize),
    /// The dictionary has no value for the key of this row.
    NoValue(usize),
}

impl Column {
    /// Returns the column of consecutive arrays, which may have an extension type.
    pub(super) fn of_arrays(
        name: &str,
        kind: Kind,
        extension: Option<&str>,
        arrays: &[&dyn Array],
        blanks: &Blanks,
    ) -> Result<Self, FieldError> {
        let (name, blanks) = (name.to_owned(), blanks.clone());
        let mut column = Self { name, chunks: Vec::new(), blanks, absent: None, faults: Vec::new() };
        let mut start = 0;
        for array in arrays {
            let chunk = match kind {
                // The storage has another meaning: that of a period counts from 1970, and a text of JSON has quotes.
                _ if extension.is_some() => Err(Refusal::Type),
                Kind::Integer => column.integers(*array, start),
                _ => texts(*array),
            };
            match chunk {
                Ok(chunk) => column.chunks.push(chunk),
                Err(Refusal::Type) => match first_filled(*array, &column.blanks) {
                    Some(row) => {
                        let found = extension.map_or_else(|| type_in_words(array.data_type()), str::to_owned);
                        return Err(FieldError::new(column.name, wrong_type(kind, &found, start + row)));
                    }
                    None => column.chunks.push(Chunk::Empty),
                },
                Err(Refusal::Broken(row)) => {
                    let message = format!("has bytes that are not valid UTF-8, first in row {}", start + row);
                    return Err(FieldError::new(column.name, message));
                }
                Err(Refusal::NoValue(row)) => {
                    let message = format!("has keys without a value in its dictionary, first in row {}", start + row);
                    return Err(FieldError::new(column.name, message));
                }
            }
            start += array.len();
        }
        Ok(column)
    }

    /// Returns a cell; `None` if the row does not have the column.
    pub(super) fn cell(&self, place: Place) -> Option<Cell<'_>> {
        if self.absent.as_ref().is_some_and(|absent| place.row < absent.len() && absent.value(place.row)) {
            return None;
        }
        match self.chunks.get(place.chunk).map_or(Cell::Empty, |chunk| chunk.cell(place.offset)) {
            Cell::Text(text) if self.blanks.has(text) => Some(Cell::Empty),
            cell => Some(cell),
        }
    }

    /// Returns whether rows of a chunk surely are no empty cells, and all have a text with a property.
    pub(super) fn all_texts(&self, chunk: usize, rows: Range<usize>, have: fn(&[u8]) -> bool) -> bool {
        let chunk = self.chunks.get(chunk).filter(|_| self.absent.is_none() && self.blanks.are_only_blank());
        chunk.is_some_and(|chunk| chunk.all_texts(rows, have))
    }

    /// Keeps integers, and converts their equivalents to integers, eight bytes per row.
    fn integers(&mut self, array: &dyn Array, start: usize) -> Result<Chunk, Refusal> {
        if let Some(numbers) = array.as_primitive_opt::<Int64Type>() {
            return Ok(Chunk::Integer(numbers.clone()));
        }
        if *array.data_type() == DataType::Null {
            return Ok(Chunk::Empty);
        }
        let read = reader(array, &self.blanks)?;
        let nulls = array.logical_nulls();
        let numbers = (0..array.len()).map(|row| {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                return None;
            }
            read(row).unwrap_or_else(|fault| {
                self.faults.push((start + row, fault.to_string()));
                None
            })
        });
        Ok(Chunk::Integer(numbers.collect()))
    }
}

pub(super) fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Keeps text after checking that it is valid, because a producer may pass any bytes.
pub(super) fn texts(array: &dyn Array) -> Result<Chunk, Refusal> {
    if let Some(texts) = array.as_string_opt::<i32>() {
        whole(first_broken(texts))?;
        return Ok(Chunk::Text(texts.clone()));
    }
    if let Some(texts) = array.as_string_opt::<i64>() {
        whole(first_broken(texts))?;
        return Ok(Chunk::LargeText(texts.clone()));
    }
    if let Some(texts) = array.as_string_view_opt() {
        whole(first_broken_view(texts))?;
        return Ok(Chunk::TextView(texts.clone()));
    }
    match array.data_type() {
        DataType::Null => Ok(Chunk::Empty),
        DataType::Dictionary(_, kind) if is_text(kind) || **kind == DataType::Null => {
            let (keys, values) = Keys::of(array).ok_or(Refusal::Type)?;
            keys.check(values.len())?;
            let values = texts(values).map_err(|_| Refusal::Broken(0))?;
            Ok(Chunk::Dictionary(keys, Box::new(values)))
        }
        _ => Err(Refusal::Type),
    }
}

fn whole(broken: Option<usize>) -> Result<(), Refusal> {
    broken.map_or(Ok(()), |row| Err(Refusal::Broken(row)))
}

/// Returns the first row that is not empty, for any type.
fn first_filled(array: &dyn Array, blanks: &Blanks) -> Option<usize> {
    let (nulls, read) = (array.logical_nulls(), reader(array, blanks).ok());
    (0..array.len()).find(|row| {
        nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row))
            && read.as_ref().is_none_or(|read| read(*row) != Ok(None))
    })
}

/// Returns what is wrong with a column of a type that the field cannot have.
pub(super) fn wrong_type(kind: Kind, found: &str, row: usize) -> String {
    match kind {
        Kind::Integer => format!("must be integers, not {found}, first in row {row}"),
        Kind::CompanySize if is_number(found) => {
            format!(
                "must be ranges such as 51-200, not {found}, first in row {row}; replace each number of employees with \
                 the range that contains it"
            )
        }
        Kind::CompanySize if is_date(found) => {
            format!("must be ranges such as 51-200, not {found}, first in row {row}; {}", CompanySize::FROM_A_DATE)
        }
        _ => format!("must be text, not {found}, first in row {row}{}", as_text(found)),
    }
}

/// What to do with numbers in a column of texts: a text that is made of a number lacks the signs and zeros that the
/// number has lost.
pub(super) fn as_text(found: &str) -> &'static str {
    match found {
        "number" => "; write it in quotes",
        found if is_number(found) => {
            "; read the source again as text: a CSV file with dtype=str, because astype(str) keeps the damage; in an \
                Excel file, correct the cells"
        }
        _ => "",
    }
}

/// Returns whether a type is a number: of Arrow, of Python, of JSON or of numpy.
fn is_number(found: &str) -> bool {
    let family = found.trim_end_matches(|last: char| last.is_ascii_digit());
    found.contains("numbers") || matches!(family, "int" | "uint" | "float" | "number" | "Decimal" | "longdouble")
}

/// Returns whether a type is a date: of Arrow, of Python, of pandas or of numpy.
pub(super) fn is_date(found: &str) -> bool {
    found.starts_with("dates") || matches!(found, "datetime" | "date" | "Timestamp" | "datetime64")
}

/// Returns a type in common words, with the name that users can look up.
fn type_in_words(kind: &DataType) -> String {
    let words = match kind {
        DataType::Boolean => "booleans",
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => "dates",
        DataType::Time32(_) | DataType::Time64(_) | DataType::Duration(_) | DataType::Interval(_) => "times",
        DataType::Struct(_) | DataType::Map(..) => "structs",
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(..) => "lists",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytes",
        kind if kind.is_numeric() => "numbers",
        DataType::Dictionary(_, values) => return format!("categories of {}", type_in_words(values)),
        _ => "another type",
    };
    let name = kind.to_string();
    let name = name.split(['(', ' ']).next().unwrap_or_default();
    format!("{words} ({name})")
}
