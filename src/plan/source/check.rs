//! Validates cells.

use std::collections::HashMap;

use super::column::Column;
use super::integers::{POSITIVE, is_invisible, is_scientific};
use super::names::Role;
use super::{LONGEST_CELL, Options, Place, RowFault};
use crate::account::{CompanySize, Field};
use crate::plan::{Cell, MatchOn, Mode, Nulls, Suspicion};
use crate::text::has_hidden_ends;

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
const NOTHING: [&str; 16] = [
    "null",
    "none",
    "nan",
    "nat",
    "na",
    "n/a",
    "nil",
    "<na>",
    "\\n",
    "-",
    "--",
    "?",
    "undefined",
    "(blank)",
    "(null)",
    "loading...",
];

/// The characters that begin a formula in a spreadsheet, including their full-width forms.
const FORMULAS: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// Adds the faults of a column's cells, and counts suspicious cells.
pub(super) fn cells(
    column: &Column,
    role: Role,
    options: &Options,
    starts: &[usize],
    rows: usize,
    faults: &mut Vec<RowFault>,
) -> Option<Suspicion> {
    let mut add = |row: usize, message: &str| {
        let message = format!("{} in row {row} {message}", column.name);
        faults.push(RowFault { row: row as u64, column: column.name.clone(), message });
    };
    let mut known = column.faults.iter().peekable();
    let mut sizes = HashMap::new();
    let mut suspicious: Option<(u64, usize)> = None;
    let is_written = role != Role::Key || options.replaces_key();
    for (chunk, start) in starts.iter().enumerate() {
        let end = starts.get(chunk + 1).copied().unwrap_or(rows);
        for row in *start..end {
            let mut is_known = false;
            while let Some((_, message)) = known.next_if(|(known, _)| *known == row) {
                add(row, message);
                is_known = true;
            }
            if is_known {
                continue;
            }
            let cell = column.cell(Place { row, chunk, offset: row - start });
            if let Some(Cell::Text(text)) = cell {
                if text.len() > LONGEST_CELL {
                    add(row, "is longer than 512 KiB, the limit for a cell");
                    continue;
                }
                let trimmed = text.trim_matches(is_unseen);
                if is_spreadsheet_error(trimmed) {
                    add(row, "is a spreadsheet error, not a value");
                    continue;
                }
                if is_suspicious(trimmed) || is_damaged(text) || (is_written && has_hidden_ends(text)) {
                    suspicious.get_or_insert((0, row)).0 += 1;
                }
            }
            match role {
                Role::Key => {
                    if let Some(message) = key(cell, options.match_on) {
                        add(row, message);
                    }
                }
                Role::Field(Field::CompanySize) => {
                    if let Some(Cell::Text(text)) = cell
                        && let CompanySize::Unknown(text) = CompanySize::exactly(text)
                    {
                        if sizes.len() < SIZES_REMEMBERED || sizes.contains_key(&text) {
                            add(row, sizes.entry(text).or_insert_with_key(|text| CompanySize::refusal(text)));
                        } else {
                            add(row, &CompanySize::refusal(""));
                        }
                    }
                }
                Role::Field(field @ (Field::Name | Field::OwnerUserId)) => {
                    if let Some(message) = required(field, cell, options) {
                        add(row, message);
                    }
                }
                Role::Field(_) | Role::Ignored => {}
            }
        }
    }
    suspicious.map(|(cells, row)| Suspicion { column: column.name.clone(), cells, row: row as u64 })
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
    let (word, number) = text.rsplit_once(':')?;
    let number = number.trim_start();
    let is_number = number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((word.trim_end(), number.parse().ok().filter(|_| is_number)?))
}

/// Returns whether a text has the letters of an error value only.
fn is_capital(text: &str) -> bool {
    let is_capital = |letter: char| letter.is_uppercase() || matches!(letter, '/' | '0' | '¡' | '¿' | '_');
    !text.is_empty() && text.chars().all(is_capital)
}

fn is_unseen(character: char) -> bool {
    character.is_whitespace() || is_invisible(character)
}

/// Returns whether a trimmed text is suspicious: it often means an empty value, or only programs write it, such as a
/// shortened large number, a formula, a `'` that protects from one, a text of JSON with its quotes, or an error value
/// in a language that is not known. The first or the last byte decides for nearly every text.
fn is_suspicious(text: &str) -> bool {
    const LONGEST_WORD: usize = 10;
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
        Some(b'n' | b'N' | b'<' | b'\\' | b'-' | b'?' | b'u' | b'U' | b'(' | b'l' | b'L')
            if text.len() <= LONGEST_WORD =>
        {
            NOTHING.iter().any(|word| word.eq_ignore_ascii_case(text))
        }
        _ => false,
    };
    is_special || is_numbered_error(text)
}

/// Returns whether a text has what only a program that read or wrote it wrongly leaves: the sign for a letter that was
/// lost, a control character, Excel's escape for one, or a character of HTML by its name or number.
fn is_damaged(text: &str) -> bool {
    let is_foreign = |character: char| {
        character == char::REPLACEMENT_CHARACTER || (character.is_control() && !matches!(character, '\t' | '\n' | '\r'))
    };
    text.chars().any(is_foreign)
        || text.split('&').skip(1).any(begins_entity)
        || text.split("_x").skip(1).any(ends_escape)
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

/// Returns whether the text behind a `_x` is that of `_x000D_`.
fn ends_escape(text: &str) -> bool {
    matches!(text.as_bytes(), [a, b, c, d, b'_', ..] if [a, b, c, d].iter().all(|byte| byte.is_ascii_hexdigit()))
}

/// Returns whether a text looks like an error of `LibreOffice`, which translates the word: `Błąd:502`.
fn is_numbered_error(text: &str) -> bool {
    text.ends_with(|last: char| last.is_ascii_digit())
        && numbered(text).is_some_and(|(word, number)| {
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
