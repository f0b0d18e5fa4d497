//! What a row changes about an account, and the update that changes just that. Pure.
//!
//! To the service `""`, `null` and nothing are the same emptiness, so they count as equal wherever it is asked whether
//! something changed.

use super::{Cell, Change, Mode, Nulls, Value};
use crate::account::{AccountFields, ContactAccount, Field, FieldValue, WrongKind};

/// The changes that make an account what a row says; none when it already is. `row` has the columns that are fields,
/// each once.
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
        let keeps = cell == Cell::Empty && nulls == Nulls::Keep || mode == Mode::Fill && filled(before).is_some();
        let after = cell.value();
        if !keeps && filled(before) != filled(after) {
            changes.push(Change { field, before: kept(before), after: kept(after) });
        }
    }
    if mode == Mode::Replace {
        let left_out = |field: &Field| named & (1 << *field as u32) == 0 && field.nullable();
        for field in Field::ALL.iter().copied().filter(left_out) {
            let before = current.value(field);
            if filled(before).is_some() {
                changes.push(Change { field, before: kept(before), after: Value::Null });
            }
        }
    }
    changes
}

/// How an account that was looked at again stands to the changes planned for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drift {
    /// They are still to be made.
    None,
    /// All of them have been made meanwhile.
    Done,
    /// Somebody made these fields something else.
    Conflict(Vec<Field>),
}

/// Compares an account, looked at again, with what was planned.
pub fn drift(current: &ContactAccount, changes: &[Change]) -> Drift {
    let is = |field: Field, value: &Value| filled(current.value(field)) == filled(value.as_field_value());
    if changes.iter().all(|change| is(change.field, &change.after)) {
        return Drift::Done;
    }
    let foreign = |change: &&Change| !is(change.field, &change.before) && !is(change.field, &change.after);
    let conflicts: Vec<Field> = changes.iter().filter(foreign).map(|change| change.field).collect();
    if conflicts.is_empty() { Drift::None } else { Drift::Conflict(conflicts) }
}

/// The update that makes the changes and keeps every other field as it is now.
///
/// # Errors
/// [`WrongKind`] when a change is not of its field's kind; no change made by [`changes`] is.
pub fn update(current: &ContactAccount, changes: &[Change]) -> Result<AccountFields, WrongKind> {
    let mut fields = current.fields();
    for change in changes {
        fields.set(change.field, change.after.as_field_value())?;
    }
    Ok(fields)
}

/// The value, unless it is one of the empty ones.
fn filled(value: Option<FieldValue<'_>>) -> Option<FieldValue<'_>> {
    value.filter(|value| *value != FieldValue::Text(""))
}

fn kept(value: Option<FieldValue<'_>>) -> Value {
    value.map_or(Value::Null, Value::from)
}
