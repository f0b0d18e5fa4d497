//! Whatever means an integer, as one.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrowPrimitiveType};
use arrow_buffer::i256;
use arrow_schema::DataType;

use super::column::{Keys, Refusal, is_text, texts};
use crate::plan::Cell;

pub(super) const POSITIVE: &str = "must be a positive integer";
pub(super) const TOO_LARGE: &str = "must be a positive integer below 2**63";
pub(super) const NOT_WHOLE: &str = "must be a whole number";
pub(super) const NOT_DIGITS: &str = "must be a positive integer, not other text";

pub(super) type Reader<'a> = Box<dyn Fn(usize) -> Result<Option<i64>, &'static str> + 'a>;

/// How a row of an array is read as an integer; `None` where it is empty.
pub(super) fn reader(array: &dyn Array) -> Result<Reader<'_>, Refusal> {
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
    fn decimal<T: ArrowPrimitiveType>(
        array: &dyn Array,
        scale: i8,
        widen: fn(T::Native) -> Option<i128>,
    ) -> Result<Reader<'_>, Refusal> {
        let numbers = array.as_primitive_opt::<T>().ok_or(Refusal::Type)?;
        Ok(Box::new(move |row| {
            let number = widen(numbers.value(row)).ok_or(TOO_LARGE)?;
            of_decimal(number, scale.into()).map(Some)
        }))
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
        DataType::Decimal32(_, scale) => decimal::<Decimal32Type>(array, *scale, |number| Some(number.into())),
        DataType::Decimal64(_, scale) => decimal::<Decimal64Type>(array, *scale, |number| Some(number.into())),
        DataType::Decimal128(_, scale) => decimal::<Decimal128Type>(array, *scale, Some),
        DataType::Decimal256(_, scale) => decimal::<Decimal256Type>(array, *scale, i256::to_i128),
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
