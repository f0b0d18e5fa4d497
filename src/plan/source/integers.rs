//! Converts all forms of an integer.

use std::fmt;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrowPrimitiveType};
use arrow_buffer::i256;
use arrow_schema::DataType;

use super::blanks::Blanks;
use super::column::{Keys, Refusal, is_text, texts};
use crate::plan::Cell;

pub(super) const POSITIVE: &str = "must be a positive integer";

/// Why a cell is not an integer. The text follows the name of the cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegerFault {
    /// A number beyond 64 bits.
    TooLarge,
    /// A number with a fraction, or infinity.
    NotWhole,
    /// A float so large that it may stand for several integers.
    Inexact,
    /// A text that is no integer, and what is expected.
    Text(&'static str),
}

impl fmt::Display for IntegerFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::TooLarge => "must be a positive integer below 2**63",
            Self::NotWhole => "must be a whole number",
            Self::Inexact => "is a float too large to be exact; use integers or text",
            Self::Text(expected) => expected,
        })
    }
}

/// A type of floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float {
    /// 16 bits.
    Half,
    /// 32 bits.
    Single,
    /// 64 bits.
    Double,
}

impl Float {
    /// From here on, neighboring integers are the same float.
    const fn first_inexact(self) -> f64 {
        match self {
            Self::Half => 2_048.0,
            Self::Single => 16_777_216.0,
            Self::Double => 9_007_199_254_740_992.0,
        }
    }
}

pub(super) type Reader<'a> = Box<dyn Fn(usize) -> Result<Option<i64>, IntegerFault> + 'a>;

/// Reads a row of an array as an integer; `None` if it is empty.
pub(super) fn reader<'a>(array: &'a dyn Array, blanks: &'a Blanks) -> Result<Reader<'a>, Refusal> {
    fn small<T: ArrowPrimitiveType>(array: &dyn Array) -> Result<Reader<'_>, Refusal>
    where
        i64: TryFrom<T::Native>,
    {
        let numbers = array.as_primitive_opt::<T>().ok_or(Refusal::Type)?;
        Ok(Box::new(|row| i64::try_from(numbers.value(row)).map(Some).map_err(|_| IntegerFault::TooLarge)))
    }
    fn float<T: ArrowPrimitiveType>(
        array: &dyn Array,
        float: Float,
        widen: fn(T::Native) -> f64,
    ) -> Result<Reader<'_>, Refusal> {
        let numbers = array.as_primitive_opt::<T>().ok_or(Refusal::Type)?;
        Ok(Box::new(move |row| of_float(widen(numbers.value(row)), float)))
    }
    fn decimal<T: ArrowPrimitiveType>(
        array: &dyn Array,
        scale: i8,
        widen: fn(T::Native) -> Option<i128>,
    ) -> Result<Reader<'_>, Refusal> {
        let numbers = array.as_primitive_opt::<T>().ok_or(Refusal::Type)?;
        Ok(Box::new(move |row| {
            let number = widen(numbers.value(row)).ok_or(IntegerFault::TooLarge)?;
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
        DataType::Float16 => {
            float::<Float16Type>(array, Float::Half, <Float16Type as ArrowPrimitiveType>::Native::to_f64)
        }
        DataType::Float32 => float::<Float32Type>(array, Float::Single, f64::from),
        DataType::Float64 => float::<Float64Type>(array, Float::Double, |number| number),
        DataType::Decimal32(_, scale) => decimal::<Decimal32Type>(array, *scale, |number| Some(number.into())),
        DataType::Decimal64(_, scale) => decimal::<Decimal64Type>(array, *scale, |number| Some(number.into())),
        DataType::Decimal128(_, scale) => decimal::<Decimal128Type>(array, *scale, Some),
        DataType::Decimal256(_, scale) => decimal::<Decimal256Type>(array, *scale, i256::to_i128),
        DataType::Dictionary(_, values) if !is_text(values) => {
            let (keys, values) = Keys::of(array).ok_or(Refusal::Type)?;
            keys.check(values.len())?;
            let (read, nulls) = (reader(values, blanks)?, values.logical_nulls());
            Ok(Box::new(move |row| match keys.get(row) {
                Some(key) if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(key)) => read(key),
                _ => Ok(None),
            }))
        }
        _ => {
            let texts = texts(array)?;
            Ok(Box::new(move |row| match texts.cell(row) {
                Cell::Text(text) if !blanks.has(text) => of_text(text).map(Some),
                _ => Ok(None),
            }))
        }
    }
}

/// Converts a float that stands for one integer; NaN is an empty cell.
pub(super) fn of_float(number: f64, float: Float) -> Result<Option<i64>, IntegerFault> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if number.is_nan() {
        return Ok(None);
    }
    if number.is_infinite() || number.fract() != 0.0 {
        return Err(IntegerFault::NotWhole);
    }
    if !(-LIMIT..LIMIT).contains(&number) {
        return Err(IntegerFault::TooLarge);
    }
    if number.abs() >= float.first_inexact() {
        return Err(IntegerFault::Inexact);
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and within the limits")]
    Ok(Some(number as i64))
}

fn of_decimal(number: i128, scale: i32) -> Result<i64, IntegerFault> {
    let power = 10_i128.checked_pow(scale.unsigned_abs());
    let whole = match power {
        Some(power) if scale < 0 => number.checked_mul(power).ok_or(IntegerFault::TooLarge)?,
        Some(power) if number % power == 0 => number / power,
        None if number == 0 => 0,
        None if scale < 0 => return Err(IntegerFault::TooLarge),
        _ => return Err(IntegerFault::NotWhole),
    };
    i64::try_from(whole).map_err(|_| IntegerFault::TooLarge)
}

/// Converts a number of JSON. A float would be rounded first, so that a fraction may become an integer.
pub(super) fn of_json(text: &str) -> Result<i64, IntegerFault> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let (sign, unsigned) = text.strip_prefix('-').map_or(("", text), |unsigned| ("-", unsigned));
    let (number, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0');
    let leading = digits.len() - significant.len();
    let significant = significant.trim_end_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let beyond = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
    let length = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    // The number of digits before the decimal point.
    let point = exponent.parse().unwrap_or(beyond).saturating_add(length(whole.len()) - length(leading));
    let zeros = point.saturating_sub(length(significant.len()));
    if zeros < 0 {
        return Err(IntegerFault::NotWhole);
    }
    let zeros = usize::try_from(zeros).ok().filter(|zeros| *zeros < 19).ok_or(IntegerFault::TooLarge)?;
    let number: i64 =
        format!("{sign}{significant}{}", "0".repeat(zeros)).parse().map_err(|_| IntegerFault::TooLarge)?;
    if number.unsigned_abs() >= 1 << f64::MANTISSA_DIGITS { Err(IntegerFault::Inexact) } else { Ok(number) }
}

/// Parses text that is an integer: digits, with optional white space, and an optional `.0` if the text was a float.
pub(super) fn of_text(text: &str) -> Result<i64, IntegerFault> {
    let text = text.trim();
    let (digits, zeros) = text.split_once('.').map_or((text, None), |(digits, zeros)| (digits, Some(zeros)));
    let has_zeros = zeros.is_none_or(|zeros| !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0'));
    if !is_digits(digits) || !has_zeros || (zeros.is_some_and(|zeros| zeros.len() > 2) && has_separators(text)) {
        return Err(IntegerFault::Text(odd(text)));
    }
    let number: i64 = digits.parse().map_err(|_| IntegerFault::TooLarge)?;
    let may_be_rounded = zeros.is_some() && number >= 1 << f64::MANTISSA_DIGITS;
    if may_be_rounded { Err(IntegerFault::Inexact) } else { Ok(number) }
}

/// Returns why a text is not an integer, and what is expected.
fn odd(text: &str) -> &'static str {
    let unsigned = text.strip_prefix(['-', '+', '\u{2212}']).unwrap_or(text);
    let decimal = || unsigned.split_once(['.', ',']).is_some_and(|(whole, rest)| is_digits(whole) && is_digits(rest));
    if matches!(text.to_ascii_lowercase().as_str(), "true" | "false") {
        "must be a positive integer, not a boolean"
    } else if unsigned != text && is_digits(unsigned) {
        "must be a positive integer without a sign"
    } else if has_separators(unsigned) {
        "must be a positive integer; it has a thousands separator"
    } else if is_scientific(unsigned) {
        "must be a positive integer; it is in scientific notation, which may have lost digits"
    } else if decimal() {
        "must be a positive integer; it has a decimal fraction"
    } else if text.chars().any(is_invisible) {
        "must be a positive integer; it has an invisible character"
    } else if text.chars().all(char::is_numeric) {
        "must be a positive integer in the digits 0 to 9"
    } else {
        "must be a positive integer; it has characters other than digits"
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns whether digits are in groups of three: `4,711`.
fn has_separators(text: &str) -> bool {
    let is_separator = |character: char| matches!(character, ',' | '.' | '\'' | '’' | '_') || character.is_whitespace();
    let mut groups = text.split(is_separator);
    let starts = groups.next().is_some_and(|first| is_digits(first) && first.len() <= 3);
    let mut count = 0;
    starts
        && groups.all(|group| {
            count += 1;
            group.len() == 3 && is_digits(group)
        })
        && count > 0
}

/// Returns whether a number has the form that spreadsheets use for large numbers: `4.7E+11`.
pub(super) fn is_scientific(text: &str) -> bool {
    text.split_once(['e', 'E']).is_some_and(|(number, exponent)| {
        let (whole, fraction) = number.split_once(['.', ',']).unwrap_or((number, "0"));
        is_digits(whole) && is_digits(fraction) && is_digits(exponent.trim_start_matches(['+', '-']))
    })
}

/// Returns whether a character is invisible: it may have been copied unnoticed.
pub(super) fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(character, '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_json_is_judged_before_it_is_rounded() {
        for (text, expected) in [
            ("42", 42),
            ("-3", -3),
            ("-0", 0),
            ("0.0", 0),
            ("0e99999999999999999999", 0),
            ("42.0", 42),
            ("42.000", 42),
            ("4.2e1", 42),
            ("4.2E+01", 42),
            ("420e-1", 42),
            ("0.00042e5", 42),
            ("-42.0", -42),
            ("9007199254740991.0", 9_007_199_254_740_991),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(of_json(text), Ok(expected), "{text}");
        }
        for (text, fault) in [
            ("0.99999999999999999999", IntegerFault::NotWhole),
            ("2.0000000000000000001", IntegerFault::NotWhole),
            ("42e-1", IntegerFault::NotWhole),
            ("0.05", IntegerFault::NotWhole),
            ("1e-400", IntegerFault::NotWhole),
            ("1e-99999999999999999999", IntegerFault::NotWhole),
            ("9007199254740993.0", IntegerFault::Inexact),
            ("9.1e15", IntegerFault::Inexact),
            ("-9.1e15", IntegerFault::Inexact),
            ("9223372036854775808", IntegerFault::TooLarge),
            ("1e30", IntegerFault::TooLarge),
            ("1e400", IntegerFault::TooLarge),
            ("1e99999999999999999999", IntegerFault::TooLarge),
        ] {
            assert_eq!(of_json(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn a_text_is_an_integer_when_it_means_one_only() {
        for (text, expected) in
            [("42", 42), (" 42\u{a0}", 42), ("0042", 42), ("4711.0", 4711), ("4711.000", 4711), ("4.0", 4)]
        {
            assert_eq!(of_text(text), Ok(expected), "{text}");
        }
        assert_eq!(of_text("9223372036854775807"), Ok(i64::MAX));
        assert_eq!(of_text("9007199254740991.0"), Ok(9_007_199_254_740_991));
        for (text, says) in [
            ("9007199254740993.0", "too large to be exact"),
            ("9223372036854775808", "below 2**63"),
            ("4,711", "thousands separator"),
            ("4 711", "thousands separator"),
            ("4.711", "thousands separator"),
            ("4.000", "thousands separator"),
            ("1.000.000", "thousands separator"),
            ("1'000", "thousands separator"),
            ("4711,0", "decimal fraction"),
            ("4711.5", "decimal fraction"),
            ("4711.", "characters other than digits"),
            ("1e20", "scientific notation"),
            ("4.7E+03", "scientific notation"),
            ("+42", "without a sign"),
            ("-1", "without a sign"),
            ("True", "not a boolean"),
            ("false", "not a boolean"),
            ("٤٢", "digits 0 to 9"),
            ("42\u{200b}", "invisible character"),
            ("#42", "characters other than digits"),
            ("0x2a", "characters other than digits"),
            ("1_0", "characters other than digits"),
        ] {
            let found = of_text(text).unwrap_err().to_string();
            assert!(found.contains(says), "{text}: {found}");
        }
    }
}
