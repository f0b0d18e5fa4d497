//! Compares a row of a table with an account. Pure.

use super::{Cell, Mode, Nulls};
use crate::account::{ContactAccount, Field};
use crate::change::{Change, filled};

/// Returns the changes that give an account the values of a row; none if it already has them. `row` contains each
/// column that is a field once.
pub fn changes<'a>(
    current: &ContactAccount,
    row: impl IntoIterator<Item = (Field, Cell<'a>)>,
    mode: Mode,
    nulls: Nulls,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut named = 0_u32;
    for (field, cell) in row {
        named |= 1 << field as u32;
        let before = current.value(field);
        let keeps = match mode {
            Mode::Fill => cell == Cell::Empty || filled(field, before).is_some(),
            Mode::Patch | Mode::Replace => cell == Cell::Empty && nulls == Nulls::Keep,
        };
        let after = cell.value();
        // Nearly all are equal as they are.
        if !keeps && before != after {
            changes.extend(Change::between(field, before, after));
        }
    }
    if mode == Mode::Replace {
        let left_out = |field: &Field| named & (1 << *field as u32) == 0 && field.nullable();
        let cleared = Field::ALL.iter().filter(|field| left_out(field));
        changes.extend(cleared.filter_map(|field| Change::between(*field, current.value(*field), None)));
    }
    changes
}
