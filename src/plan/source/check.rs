//! Validates cells.

use std::collections::HashMap;
use std::iter::Peekable;
use std::ops::Range;
use std::slice::Iter;

use encoding_rs::WINDOWS_1252;

use super::column::Column;
use super::integers::{POSITIVE, is_invisible, is_scientific};
use super::names::Role;
use super::{LONGEST_CELL, Options, Place, RowFault};
use crate::account::{CompanySize, Field};
use crate::plan::{Cell, MatchOn, Mode, Nulls, Suspicion};
use crate::text::{has_hidden_ends, has_plain_ends};

/// The most refused company sizes to remember, because finding a suggestion takes long.
const SIZES_REMEMBERED: usize = 1000;

/// The error values of spreadsheets that end neither in `!` nor in `?`, in the languages that have them.
const SPREADSHEET_ERRORS: [&str; 14] = [
    "#N/A",
    "#N/B",
    "#N/D",
    "#N/V",
    "#NV",
    "#I/T",
    "#YOK",
    "#HIÁNYZIK",
    "#NEDOSTUPNÝ",
    "#NENÍ_K_DISPOZICI",
    "#PUUDUB",
    "#Δ/Υ",
    "#Н/Д",
    "#GETTING_DATA",
];

/// Words that often mean an empty value.
const NOTHING: [&str; 22] = [
    "null",
    "none",
    "nan",
    "nat",
    "na",
    "n/a",
    "n.a.",
    "nil",
    "<na>",
    "<null>",
    "\\n",
    "[]",
    "{}",
    "undefined",
    "unknown",
    "missing",
    "tbd",
    "(blank)",
    "(empty)",
    "(none)",
    "(null)",
    "loading...",
];

/// The length of the longest of them.
const LONGEST_WORD: usize = 10;

/// The characters that begin a formula in a spreadsheet, including their full-width forms.
const FORMULAS: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// Checks the cells of a column, some consecutive rows after others.
pub(super) struct Check<'a> {
    column: &'a Column,
    role: Role,
    options: &'a Options,
    known: Peekable<Iter<'a, (usize, String)>>,
    sizes: HashMap<Box<str>, String>,
    /// The number of suspicious cells, and the row of the first.
    suspicious: Option<(u64, usize)>,
    /// Whether white space at the ends of a text matters: it is written, or no name of an account is equal to the text.
    keeps_ends: bool,
}

impl<'a> Check<'a> {
    pub(super) fn new(column: &'a Column, role: Role, options: &'a Options) -> Self {
        Self {
            column,
            role,
            options,
            known: column.faults.iter().peekable(),
            sizes: HashMap::new(),
            suspicious: None,
            keeps_ends: role != Role::Key || options.replaces_key() || options.match_on == MatchOn::Name,
        }
    }

    /// Adds the faults of rows of a chunk, and counts suspicious cells. Takes the number of the chunk's first row.
    pub(super) fn rows(&mut self, chunk: usize, start: usize, rows: Range<usize>, faults: &mut Vec<RowFault>) {
        let column = self.column;
        let offsets = rows.start - start..rows.end - start;
        // To look at many texts at once is faster than to look at each, and nearly no text has such a byte.
        let bytes = column.chunks.get(chunk).and_then(|chunk| chunk.bytes(offsets.clone()));
        let are_harmless = bytes.is_some_and(|bytes| !has_sign_of_damage(bytes));
        let is_any_text_valid = self.role != Role::Field(Field::CompanySize);
        let has_fault = self.known.peek().is_some_and(|(known, _)| *known < rows.end);
        if are_harmless && is_any_text_valid && !has_fault && column.all_texts(chunk, offsets, has_plain_form) {
            return;
        }
        let mut add = |row: usize, message: &str| {
            let message = format!("{} in row {row} {message}", column.name);
            faults.push(RowFault { row: row as u64, column: column.name.clone(), message });
        };
        for row in rows {
            let mut is_known = false;
            while let Some((_, message)) = self.known.next_if(|(known, _)| *known == row) {
                add(row, message);
                is_known = true;
            }
            if is_known {
                continue;
            }
            let cell = column.cell(Place { row, chunk, offset: row - start });
            if let Some(Cell::Text(text)) = cell
                && !(has_plain_form(text.as_bytes()) && (are_harmless || !is_damaged(text)))
            {
                if text.len() > LONGEST_CELL {
                    add(row, "is longer than 512 KiB, the limit for a cell");
                    continue;
                }
                let trimmed = trimmed(text);
                if is_spreadsheet_error(trimmed) {
                    add(row, "is a spreadsheet error, not a value");
                    continue;
                }
                if is_odd(trimmed) || (!are_harmless && is_damaged(text)) || (self.keeps_ends && has_hidden_ends(text))
                {
                    self.suspicious.get_or_insert((0, row)).0 += 1;
                }
            }
            match self.role {
                Role::Key => {
                    if let Some(message) = key(cell, self.options.match_on) {
                        add(row, message);
                    }
                }
                Role::Field(Field::CompanySize) => {
                    if let Some(Cell::Text(text)) = cell
                        && let CompanySize::Unknown(text) = CompanySize::exactly(text)
                    {
                        if self.sizes.len() < SIZES_REMEMBERED || self.sizes.contains_key(&text) {
                            add(row, self.sizes.entry(text).or_insert_with_key(|text| CompanySize::refusal(text)));
                        } else {
                            add(row, &CompanySize::refusal(""));
                        }
                    }
                }
                Role::Field(field @ (Field::Name | Field::OwnerUserId)) => {
                    if let Some(message) = required(field, cell, self.options) {
                        add(row, message);
                    }
                }
                Role::Field(_) | Role::Ignored => {}
            }
        }
    }

    /// Returns the suspicious cells.
    pub(super) fn suspicion(self) -> Option<Suspicion> {
        let column = self.column.name.clone();
        self.suspicious.map(|(cells, row)| Suspicion { column, cells, row: row as u64 })
    }
}

/// Returns whether the form of a text tells that it is neither too long, nor an error value, nor odd, nor hidden at its
/// ends. Nearly every text has such a form; the others are looked at more closely.
fn has_plain_form(bytes: &[u8]) -> bool {
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    let is_plain = |byte: &u8| match byte {
        b'n' | b'u' | b't' | b'm' | b'l' | b'N' | b'U' | b'T' | b'M' | b'L' => bytes.len() > LONGEST_WORD,
        b'A'..=b'Z' | b'a'..=b'z' => true,
        _ => false,
    };
    // A number of three digits follows a colon, or white space behind one.
    let is_number =
        || bytes.len().checked_sub(4).and_then(|place| bytes.get(place)).is_none_or(u8::is_ascii_alphanumeric);
    is_plain(first) && last.is_ascii_graphic() && (!last.is_ascii_digit() || is_number()) && bytes.len() <= LONGEST_CELL
}

/// Returns whether a text is an error value of Excel, Google Sheets or `LibreOffice`, such as `#REF!`, in any language
/// (`#BEZUG!`, `#¡REF!`), or the `####` that a narrow column shows in place of a number, or an error value of an Excel
/// add-in (`#N/A N/A`). The first byte decides for nearly every text.
fn is_spreadsheet_error(text: &str) -> bool {
    if !text.starts_with(['#', 'E']) {
        return false;
    }
    let marked = text.strip_prefix('#').and_then(|rest| rest.strip_suffix(['!', '?']));
    SPREADSHEET_ERRORS.contains(&text)
        || marked.is_some_and(is_capital)
        || text.starts_with("#N/A ")
        || numbered(text).is_some_and(|(word, _)| word == "Err")
        || (text.len() > 1 && text.bytes().all(|byte| byte == b'#'))
}

/// Splits a text such as `Err:502` into its word and its number of three digits.
fn numbered(text: &str) -> Option<(&str, u16)> {
    let (word, number) = text.split_at_checked(text.len().checked_sub(3)?)?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|_| is_number)?;
    Some((word.trim_end().strip_suffix(':')?.trim_end(), number))
}

/// Returns whether a text has the letters of an error value only.
fn is_capital(text: &str) -> bool {
    let is_capital = |letter: char| letter.is_uppercase() || matches!(letter, '/' | '0' | '¡' | '¿' | '_');
    !text.is_empty() && text.chars().all(is_capital)
}

fn is_unseen(character: char) -> bool {
    character.is_whitespace() || is_invisible(character)
}

/// Returns a text without white space and invisible characters at its beginning and end.
fn trimmed(text: &str) -> &str {
    if has_plain_ends(text) { text } else { text.trim_matches(is_unseen) }
}

/// Returns whether a text that is written as it is may be a mistake.
pub fn is_suspicious(text: &str) -> bool {
    is_odd(trimmed(text)) || is_damaged(text) || has_hidden_ends(text)
}

/// Returns whether a text often means an empty value: one of several words, or dashes, dots or question marks only.
pub fn means_nothing(text: &str) -> bool {
    let is_stroke = |character: char| matches!(character, '-' | '.' | '?' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '…');
    let text = trimmed(text);
    match text.as_bytes().first() {
        // Dashes of more than one byte begin with 0xe2.
        Some(b'-' | b'.' | b'?' | 0xe2) if text.chars().all(is_stroke) => true,
        Some(first) if text.len() <= LONGEST_WORD && b"nutml<\\([{".contains(&first.to_ascii_lowercase()) => {
            NOTHING.iter().any(|word| word.eq_ignore_ascii_case(text))
        }
        _ => false,
    }
}

/// Returns whether a trimmed text often means an empty value, or only programs write it, such as a shortened large
/// number, a number or a date that became text, a formula, a `'` that protects from one, a text of JSON with its
/// quotes, or an error value in a language that is not known. The first or the last byte decides for nearly every text.
fn is_odd(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_special = match bytes.first() {
        // A line of `===` is no formula.
        Some(b'=') => text.chars().nth(1).is_some_and(|next| next != '=' && !is_unseen(next)),
        Some(b'\'') => text.trim_start_matches('\'').trim_start_matches(is_unseen).starts_with(FORMULAS),
        Some(b'"') => text.len() > 1 && text.ends_with('"'),
        Some(b'#') => text.strip_prefix('#').is_some_and(is_capital),
        Some(b'0'..=b'9' | b'+' | b'-') if bytes.iter().any(|byte| matches!(byte, b'E' | b'e')) => {
            is_scientific(text.strip_prefix(['+', '-']).unwrap_or(text))
        }
        Some(b'0'..=b'9' | b'+' | b'-') if is_float(text) || is_date(text) => true,
        _ => means_nothing(text),
    };
    is_special || is_numbered_error(text)
}

/// Returns whether a text is a whole number as a float writes it: `4721000001.0`.
fn is_float(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text).strip_suffix(".0").unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns whether a text is a date as a program writes it, with or without a time: `2026-02-10 00:00:00`. No field
/// that a table can have is a date.
fn is_date(text: &str) -> bool {
    let Some((date, time)) = text.split_at_checked(10) else { return false };
    let is_time = || time.starts_with([' ', 'T']) && has_form(time.get(1..6), "29:59");
    date.starts_with(['1', '2']) && has_form(Some(date), "2999-19-39") && (time.is_empty() || is_time())
}

/// Returns whether a text has the signs of a form, and no digit that is greater than that of the form.
fn has_form(text: Option<&str>, form: &str) -> bool {
    let is_like = |(byte, limit): (u8, u8)| match limit {
        b'0'..=b'9' => (b'0'..=limit).contains(&byte),
        sign => byte == sign,
    };
    text.is_some_and(|text| text.len() == form.len() && text.bytes().zip(form.bytes()).all(is_like))
}

/// Returns whether a text has what only a program that read or wrote it wrongly leaves: the sign for a letter that was
/// lost, a control character, Excel's escape for one, a character of HTML by its name or number, or the letters of
/// UTF-8 that was read as windows-1252.
fn is_damaged(text: &str) -> bool {
    let is_foreign = |character: char| {
        character == char::REPLACEMENT_CHARACTER || (character.is_control() && !matches!(character, '\t' | '\n' | '\r'))
    };
    let is_other = |byte: u8| !matches!(byte, b' '..=b'~');
    // Nearly every text ends here.
    has_sign_of_damage(text.as_bytes())
        && ((text.bytes().any(is_other) && (text.chars().any(is_foreign) || is_misread(text)))
            || text.split('&').skip(1).any(begins_entity)
            || text.match_indices('_').any(|(start, _)| text.as_bytes().get(start..).is_some_and(begins_escape)))
}

/// Returns whether bytes have some that every damaged text has.
fn has_sign_of_damage(bytes: &[u8]) -> bool {
    let is_sign = |byte: u8| !matches!(byte, b' '..=b'~' if byte != b'&');
    let next = bytes.get(1..).unwrap_or_default();
    // A fold looks at many bytes at once; `any` does not.
    bytes.iter().fold(false, |has, byte| has | is_sign(*byte))
        || bytes.iter().zip(next).fold(u8::MAX, |least, (byte, next)| least.min((byte ^ b'_') | (next ^ b'x'))) == 0
}

/// Returns whether a text is UTF-8 that was read as windows-1252: `BÃ¦rum`. Nearly every other text lacks the letters
/// with which the bytes of a character begin.
fn is_misread(text: &str) -> bool {
    text.contains(|letter| matches!(letter, 'Â'..='ô')) && {
        let (bytes, _, is_lossy) = WINDOWS_1252.encode(text);
        !is_lossy && std::str::from_utf8(&bytes).is_ok()
    }
}

/// Returns whether the text behind a `&` is that of `&amp;` or `&#38;`.
fn begins_entity(text: &str) -> bool {
    const NAMES: [&str; 6] = ["amp", "lt", "gt", "quot", "apos", "nbsp"];
    let Some((name, _)) = text.split_once(';') else { return false };
    let is_number = |number: &str| match number.strip_prefix(['x', 'X']) {
        Some(number) => !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()),
    };
    NAMES.contains(&name) || name.strip_prefix('#').is_some_and(is_number)
}

/// Returns whether a text begins with an escape such as `_x000D_`.
fn begins_escape(text: &[u8]) -> bool {
    matches!(text, [b'_', b'x', a, b, c, d, b'_', ..] if [a, b, c, d].iter().all(|byte| byte.is_ascii_hexdigit()))
}

/// Returns whether a text looks like an error of `LibreOffice`, which translates the word: `Błąd:502`.
fn is_numbered_error(text: &str) -> bool {
    numbered(text).is_some_and(|(word, number)| {
        (501..540).contains(&number) && !word.is_empty() && word.chars().all(char::is_alphabetic)
    })
}

fn key(cell: Option<Cell<'_>>, match_on: MatchOn) -> Option<&'static str> {
    match cell {
        Some(Cell::Integer(id)) => (id < 1).then_some(POSITIVE),
        Some(Cell::Text(_)) => None,
        Some(Cell::Empty) | None if match_on == MatchOn::Id => Some("is missing: it must be a positive integer"),
        Some(Cell::Empty) | None => Some("is missing, and replyio finds the account of the row by it"),
    }
}

/// Checks the two fields that every account has.
fn required(field: Field, cell: Option<Cell<'_>>, options: &Options) -> Option<&'static str> {
    // Mode `fill` clears nothing, whatever an empty cell means.
    let clears = options.nulls == Nulls::Clear && options.mode != Mode::Fill;
    let replaces_name = options.mode == Mode::Replace && field == Field::Name;
    match cell {
        Some(Cell::Integer(id)) => (id < 1).then_some(POSITIVE),
        Some(Cell::Empty) | None if replaces_name => Some("is missing: mode \"replace\" sends accounts in full"),
        Some(Cell::Empty) if clears && field == Field::Name => Some("cannot be cleared: every account has a name"),
        Some(Cell::Empty) if clears => Some("cannot be cleared: every account has an owner"),
        Some(Cell::Text(_) | Cell::Empty) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use proptest::prelude::*;

    use super::*;
    use crate::plan::source::Table;

    /// What the long search says of a text.
    fn is_refused_or_suspicious(text: &str) -> bool {
        is_spreadsheet_error(trimmed(text))
            || is_odd(trimmed(text))
            || has_hidden_ends(text)
            || text.len() > LONGEST_CELL
    }

    #[test]
    fn no_text_that_is_looked_for_has_a_plain_form() {
        let many = "a".repeat(LONGEST_CELL + 1);
        let others = ["Err:502", "Err: 510", "Fel:\u{a0}502", "\u{142}:502", "Oslo ", "Oslo\u{200b}", "", &many];
        for text in NOTHING.iter().chain(&SPREADSHEET_ERRORS).chain(&others) {
            for text in [(*text).to_owned(), text.to_ascii_uppercase(), format!("{text} ")] {
                assert!(!has_plain_form(text.as_bytes()), "{text}");
            }
        }
        assert!(NOTHING.iter().all(|word| word.len() <= LONGEST_WORD));
        for text in ["Bergen", "https://acme.example/", "Acme 123456", "Nordic Foods AS", "B8"] {
            assert!(has_plain_form(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_with_a_plain_form_is_neither_refused_nor_suspicious(
            text in prop_oneof![
                "[EeFfNnUu#='\"+-]?[a-zA-Z0-9:./ #!?_\u{a0}\u{142}]{0,8}[ :]{0,2}[0-9]{0,4}",
                "[a-zA-Z]{1,6}:\\s?5[0-3][0-9]",
                any::<String>(),
            ],
        ) {
            prop_assert!(!has_plain_form(text.as_bytes()) || !is_refused_or_suspicious(&text));
        }

        #[test]
        fn damage_is_found_in_any_row_of_a_column(
            texts in proptest::collection::vec(proptest::option::of("a{0,3}(\u{fffd}|&amp;|_x000D_|&|_)?"), 1..200),
            cut in 0_usize..300,
        ) {
            let (before, after) = texts.split_at(cut.min(texts.len()));
            let expected = texts.iter().flatten().filter(|text| is_suspicious(text)).count() as u64;
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((1..).take(texts.len())));
            let cities: ArrayRef = Arc::new([before, after].concat().into_iter().collect::<StringArray>());
            let batch = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("city", cities, true)]).unwrap();
            let batches = vec![batch.slice(0, before.len()), batch.slice(before.len(), after.len())];
            let table = Table::from_batches(&batch.schema(), batches, &Options::default()).unwrap();
            prop_assert_eq!(table.suspicions().iter().map(|found| found.cells).sum::<u64>(), expected);
        }
    }
}
