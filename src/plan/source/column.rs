//! One column: chunks of Arrow arrays, and what becomes of types that are not the field's.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrowPrimitiveType, Int64Array, LargeStringArray, OffsetSizeTrait, PrimitiveArray, StringArray,
    StringViewArray,
};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;

use super::Place;
use crate::account::{FieldError, Kind};
use crate::plan::Cell;

pub(super) const POSITIVE: &str = "must be a positive integer";
pub(super) const TOO_LARGE: &str = "must be a positive integer below 2**63";
pub(super) const NOT_WHOLE: &str = "must be a whole number";
pub(super) const NOT_DIGITS: &str = "must be a positive integer, not other text";

/// A column, cut at the same rows as all the others of its table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) chunks: Vec<Chunk>,
    /// The rows that do not have the column, where it came row by row.
    pub(super) absent: Option<BooleanBuffer>,
    /// The rows whose cell could not be read, in their order, with what is wrong. Their cells are empty.
    pub(super) faults: Vec<(usize, String)>,
}

/// A part of a column, as it came.
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
}

/// Makes the enum of what a dictionary's keys may be.
macro_rules! keys {
    ($( $variant:ident $type:ident )+) => {
        #[derive(Debug, Clone)]
        pub(super) enum Keys { $( $variant(PrimitiveArray<$type>), )+ }

        impl Keys {
            fn of(array: &dyn Array) -> Option<(Self, &dyn Array)> {
                $( if let Some(array) = array.as_dictionary_opt::<$type>() {
                    return Some((Self::$variant(array.keys().clone()), &**array.values()));
                } )+
                None
            }

            fn get(&self, row: usize) -> Option<usize> {
                match self {
                    $( Self::$variant(keys) if row < keys.len() && keys.is_valid(row) => {
                        usize::try_from(keys.value(row)).ok()
                    } )+
                    _ => None,
                }
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
enum Refusal {
    /// Its type.
    Type,
    /// This row of it is not UTF-8, or not there at all.
    Broken(usize),
}

impl Column {
    /// The column of arrays, one after the other.
    pub(super) fn of_arrays(name: &str, kind: Kind, arrays: &[&dyn Array]) -> Result<Self, FieldError> {
        let mut column = Self { name: name.to_owned(), chunks: Vec::new(), absent: None, faults: Vec::new() };
        let mut start = 0;
        for array in arrays {
            let chunk = match kind {
                Kind::Integer => column.integers(*array, start),
                _ => texts(*array),
            };
            match chunk {
                Ok(chunk) => column.chunks.push(chunk),
                Err(Refusal::Type) => match first_filled(*array) {
                    Some(row) => {
                        return Err(FieldError::new(
                            name,
                            wrong_type(kind, &type_in_words(array.data_type()), start + row),
                        ));
                    }
                    None => column.chunks.push(Chunk::Empty),
                },
                Err(Refusal::Broken(row)) => {
                    let message = format!("has bytes that are not UTF-8, first in row {}", start + row);
                    return Err(FieldError::new(name, message));
                }
            }
            start += array.len();
        }
        Ok(column)
    }

    /// A cell; `None` where the row does not have the column.
    pub(super) fn cell(&self, place: Place) -> Option<Cell<'_>> {
        if self.absent.as_ref().is_some_and(|absent| place.row < absent.len() && absent.value(place.row)) {
            return None;
        }
        Some(self.chunks.get(place.chunk).map_or(Cell::Empty, |chunk| chunk.cell(place.offset)))
    }

    /// Integers are kept; what means integers is made into them, eight bytes a row.
    fn integers(&mut self, array: &dyn Array, start: usize) -> Result<Chunk, Refusal> {
        if let Some(numbers) = array.as_primitive_opt::<Int64Type>() {
            return Ok(Chunk::Integer(numbers.clone()));
        }
        if *array.data_type() == DataType::Null {
            return Ok(Chunk::Empty);
        }
        let read = reader(array)?;
        let nulls = array.logical_nulls();
        let numbers = (0..array.len()).map(|row| {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                return None;
            }
            read(row).unwrap_or_else(|message| {
                self.faults.push((start + row, message.to_owned()));
                None
            })
        });
        Ok(Chunk::Integer(numbers.collect()))
    }
}

type Reader<'a> = Box<dyn Fn(usize) -> Result<Option<i64>, &'static str> + 'a>;

/// How a row of an array is read as an integer; `None` where it is empty.
fn reader(array: &dyn Array) -> Result<Reader<'_>, Refusal> {
    fn small<T: ArrowPrimitiveType>(array: &dyn Array) -> Result<Reader<'_>, Refusal>
    where
        i64: TryFrom<T::Native>,
    {
        let numbers = array.as_primitive_opt::<T>().ok_or(Refusal::Type)?;
        Ok(Box::new(|row| i64::try_from(numbers.value(row)).map(Some).map_err(|_| TOO_LARGE)))
    }
    fn float<T: ArrowPrimitiveType>(array: &dyn Array, widen: fn(T::Native) -> f64) -> Result<Reader<'_>, Refusal> {
        let numbers = array.as_primitive_opt::<T>().ok_or(Refusal::Type)?;
        Ok(Box::new(move |row| of_float(widen(numbers.value(row)))))
    }
    match array.data_type() {
        DataType::Int8 => small::<Int8Type>(array),
        DataType::Int16 => small::<Int16Type>(array),
        DataType::Int32 => small::<Int32Type>(array),
        DataType::UInt8 => small::<UInt8Type>(array),
        DataType::UInt16 => small::<UInt16Type>(array),
        DataType::UInt32 => small::<UInt32Type>(array),
        DataType::UInt64 => small::<UInt64Type>(array),
        DataType::Int64 => small::<Int64Type>(array),
        DataType::Float16 => float::<Float16Type>(array, <Float16Type as ArrowPrimitiveType>::Native::to_f64),
        DataType::Float32 => float::<Float32Type>(array, f64::from),
        DataType::Float64 => float::<Float64Type>(array, |number| number),
        DataType::Decimal128(_, scale) => {
            let numbers = array.as_primitive_opt::<Decimal128Type>().ok_or(Refusal::Type)?;
            let scale = i32::from(*scale);
            Ok(Box::new(move |row| of_decimal(numbers.value(row), scale).map(Some)))
        }
        DataType::Dictionary(_, values) if !is_text(values) => {
            let (keys, values) = Keys::of(array).ok_or(Refusal::Type)?;
            let (read, nulls, count) = (reader(values)?, values.logical_nulls(), values.len());
            Ok(Box::new(move |row| match keys.get(row).filter(|key| *key < count) {
                Some(key) if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(key)) => read(key),
                _ => Ok(None),
            }))
        }
        _ => {
            let texts = texts(array)?;
            Ok(Box::new(move |row| match texts.cell(row) {
                Cell::Text(text) => digits(text).map(Some),
                _ => Ok(None),
            }))
        }
    }
}

/// A float that means an integer; NaN is nothing.
pub(super) fn of_float(number: f64) -> Result<Option<i64>, &'static str> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if number.is_nan() {
        return Ok(None);
    }
    if number.is_infinite() || number.fract() != 0.0 {
        return Err(NOT_WHOLE);
    }
    if !(-LIMIT..LIMIT).contains(&number) {
        return Err(TOO_LARGE);
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and within the limits")]
    Ok(Some(number as i64))
}

fn of_decimal(number: i128, scale: i32) -> Result<i64, &'static str> {
    let power = 10_i128.checked_pow(scale.unsigned_abs());
    let whole = match power {
        Some(power) if scale < 0 => number.checked_mul(power).ok_or(TOO_LARGE)?,
        Some(power) if number % power == 0 => number / power,
        None if number == 0 => 0,
        None if scale < 0 => return Err(TOO_LARGE),
        _ => return Err(NOT_WHOLE),
    };
    i64::try_from(whole).map_err(|_| TOO_LARGE)
}

/// Text that is nothing but digits.
pub(super) fn digits(text: &str) -> Result<i64, &'static str> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NOT_DIGITS);
    }
    text.parse().map_err(|_| TOO_LARGE)
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Text is kept as it is, once it has been seen to be text: a producer may hand over any bytes.
fn texts(array: &dyn Array) -> Result<Chunk, Refusal> {
    if let Some(texts) = array.as_string_opt::<i32>() {
        bytes_are_text(texts)?;
        return Ok(Chunk::Text(texts.clone()));
    }
    if let Some(texts) = array.as_string_opt::<i64>() {
        bytes_are_text(texts)?;
        return Ok(Chunk::LargeText(texts.clone()));
    }
    if let Some(texts) = array.as_string_view_opt() {
        views_are_text(texts)?;
        return Ok(Chunk::TextView(texts.clone()));
    }
    match array.data_type() {
        DataType::Null => Ok(Chunk::Empty),
        DataType::Dictionary(_, kind) if is_text(kind) || **kind == DataType::Null => {
            let (keys, values) = Keys::of(array).ok_or(Refusal::Type)?;
            let count = values.len();
            // Values that no row has may be anything, and a key past them is nothing that could be read.
            let values = texts(values).map_err(|_| Refusal::Broken(0))?;
            match (0..keys.len()).find(|row| keys.get(*row).is_some_and(|key| key >= count)) {
                Some(row) => Err(Refusal::Broken(row)),
                None => Ok(Chunk::Dictionary(keys, Box::new(values))),
            }
        }
        _ => Err(Refusal::Type),
    }
}

fn bytes_are_text<O: OffsetSizeTrait>(texts: &arrow_array::GenericStringArray<O>) -> Result<(), Refusal> {
    let offsets = texts.offsets();
    let range = |start: O, end: O| texts.values().as_slice().get(start.as_usize()..end.as_usize());
    let all = offsets.first().zip(offsets.last()).and_then(|(first, last)| range(*first, *last));
    // ASCII may be cut anywhere.
    let mut pairs = offsets.iter().zip(offsets.iter().skip(1));
    if all.is_some_and(<[u8]>::is_ascii) && pairs.clone().all(|(start, end)| start <= end) {
        return Ok(());
    }
    let is_text = |(start, end): (&O, &O)| {
        start <= end && range(*start, *end).is_some_and(|bytes| std::str::from_utf8(bytes).is_ok())
    };
    let mut row = 0;
    let wrong = pairs.find_map(|pair| {
        let here = row;
        row += 1;
        (texts.is_valid(here) && !is_text(pair)).then_some(here)
    });
    wrong.map_or(Ok(()), |row| Err(Refusal::Broken(row)))
}

fn views_are_text(texts: &StringViewArray) -> Result<(), Refusal> {
    const INLINE: u128 = 12;
    const HIGH_BITS: u128 = 0x8080_8080_8080_8080_8080_8080_0000_0000;
    let buffers = texts.data_buffers();
    let is_text = |view: u128| {
        let length = view & 0xffff_ffff;
        if length <= INLINE {
            let bytes = view.to_le_bytes();
            let Some(bytes) = usize::try_from(length).ok().and_then(|length| bytes.get(4..4 + length)) else {
                return false;
            };
            return view & HIGH_BITS == 0 || std::str::from_utf8(bytes).is_ok();
        }
        let part = |shift: u32| usize::try_from((view >> shift) & 0xffff_ffff).unwrap_or(usize::MAX);
        let bytes = buffers.get(part(64)).and_then(|buffer| {
            let start = part(96);
            buffer.as_slice().get(start..start.saturating_add(part(0)))
        });
        bytes.is_some_and(|bytes| std::str::from_utf8(bytes).is_ok())
    };
    let mut views = texts.views().iter().enumerate();
    match views.find(|(row, view)| texts.is_valid(*row) && !is_text(**view)) {
        Some((row, _)) => Err(Refusal::Broken(row)),
        None => Ok(()),
    }
}

/// The first row that is not empty, whatever the type.
fn first_filled(array: &dyn Array) -> Option<usize> {
    let (nulls, read) = (array.logical_nulls(), reader(array).ok());
    (0..array.len()).find(|row| {
        nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row))
            && read.as_ref().is_none_or(|read| read(*row) != Ok(None))
    })
}

/// What is wrong with a column of a type that the field cannot have.
pub(super) fn wrong_type(kind: Kind, found: &str, row: usize) -> String {
    match kind {
        Kind::Integer => format!("must be integers, not {found}, first in row {row}"),
        _ => format!("must be text, not {found}, first in row {row}"),
    }
}

/// A type as people know it, with the name that its owner can look up.
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
        _ => "this",
    };
    let name = kind.to_string();
    let name = name.split(['(', ' ']).next().unwrap_or_default();
    format!("{words} ({name})")
}
