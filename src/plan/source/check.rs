//! What a cell may hold.

use std::collections::HashMap;

use super::column::Column;
use super::integers::POSITIVE;
use super::names::Role;
use super::{Options, Place, RowFault};
use crate::account::{CompanySize, Field};
use crate::plan::{Cell, MatchOn, Mode, Nulls};

/// How many refused company sizes are remembered: to find what was probably meant takes long.
const SIZES_REMEMBERED: usize = 1000;

/// Adds the faults of a column's cells.
pub(super) fn cells(
    column: &Column,
    role: Role,
    options: &Options,
    starts: &[usize],
    rows: usize,
    faults: &mut Vec<RowFault>,
) {
    let mut add = |row: usize, message: &str| {
        let message = format!("{} in row {row} {message}", column.name);
        faults.push(RowFault { row: row as u64, column: column.name.clone(), message });
    };
    let mut known = column.faults.iter().peekable();
    let mut sizes = HashMap::new();
    let checked = matches!(role, Role::Key | Role::Field(Field::Name | Field::CompanySize | Field::OwnerUserId));
    if !checked {
        column.faults.iter().for_each(|(row, message)| add(*row, message));
        return;
    }
    for (chunk, start) in starts.iter().enumerate() {
        let end = starts.get(chunk + 1).copied().unwrap_or(rows);
        for row in *start..end {
            if let Some((_, message)) = known.next_if(|(known, _)| *known == row) {
                add(row, message);
                while let Some((_, message)) = known.next_if(|(known, _)| *known == row) {
                    add(row, message);
                }
                continue;
            }
            let cell = column.cell(Place { row, chunk, offset: row - start });
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
                Role::Field(field) => {
                    if let Some(message) = required(field, cell, options) {
                        add(row, message);
                    }
                }
                Role::Ignored => {}
            }
        }
    }
}

fn key(cell: Option<Cell<'_>>, match_on: MatchOn) -> Option<&'static str> {
    match cell {
        Some(Cell::Integer(id)) => (id < 1).then_some(POSITIVE),
        Some(Cell::Text(text)) if !text.trim().is_empty() => None,
        Some(Cell::Text(_)) => Some("must not be blank: the account is found by it"),
        Some(Cell::Empty) | None if match_on == MatchOn::Id => Some("is missing: it must be a positive integer"),
        Some(Cell::Empty) | None => Some("is missing: the account is found by it"),
    }
}

/// The two fields that every account has.
fn required(field: Field, cell: Option<Cell<'_>>, options: &Options) -> Option<&'static str> {
    // Mode `fill` takes nothing away, whatever an empty cell means.
    let clears = options.nulls == Nulls::Clear && options.mode != Mode::Fill;
    let replaces_name = options.mode == Mode::Replace && field == Field::Name;
    match cell {
        Some(Cell::Text(text)) => text.trim().is_empty().then_some("must not be blank"),
        Some(Cell::Integer(id)) => (id < 1).then_some(POSITIVE),
        Some(Cell::Empty) | None if replaces_name => Some("is missing: mode \"replace\" sends accounts in full"),
        Some(Cell::Empty) if clears && field == Field::Name => Some("cannot be cleared: every account has a name"),
        Some(Cell::Empty) if clears => Some("cannot be cleared: every account has an owner"),
        Some(Cell::Empty) | None => None,
    }
}
