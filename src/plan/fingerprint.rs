//! Tells whether an account already has the values of a row, without the cells of the row.
//!
//! The accounts of a page can have their rows anywhere in the table. To read a row at a random place, the processor
//! waits for the memory once for each of sixteen columns. So if many rows are far from the previous one, this module
//! reads the table once in its own order, and keeps 24 bytes per row. Rows that follow each other need no fingerprint:
//! their cells are in the processor's cache.

use std::hash::{BuildHasher, Hasher, RandomState};

use siphasher::sip128::{Hasher128, SipHasher13};

use super::source::Table;
use super::{Cell, Mode, Nulls};
use crate::account::{ContactAccount, Field, FieldSet, FieldValue};
use crate::change::filled;

/// Stands for an integer where a text has its length. No cell is this long.
const INTEGER: u32 = u32::MAX;

/// Returns the largest distance, in rows, at which two rows are near each other. In the simulation it is 1, so that the
/// rows of a small table can be far from each other.
fn near() -> u32 {
    #[cfg(feature = "simulation")]
    if crate::simulation::is_running() {
        return 1;
    }
    64
}

/// If fewer than one row in 64 is far from the previous one, it is faster to compare these rows than to make the
/// fingerprints of all rows.
const FAR_ONE_IN: u64 = 64;

/// The fields that a row sets, and a 128-bit keyed hash of their values. Each plan has a new random key. Two different
/// rows have the same hash with a probability of 2^-128.
#[derive(Debug, Clone, Copy, Default)]
struct Fingerprint {
    fields: FieldSet,
    sum: [u64; 2],
}

/// The fingerprints of the rows of a table.
pub(super) struct Fingerprints<'a> {
    table: &'a Table,
    mode: Mode,
    nulls: Nulls,
    /// Empty until many rows are far from the previous one.
    rows: Vec<Fingerprint>,
    /// The previous row.
    last: u32,
    /// How many rows were far from the previous one, and up to which distance a row is near.
    far: u64,
    near: u32,
    /// The fields in which rows are compared with accounts, in the order in which their values are summed.
    pub(super) fields: Vec<Field>,
    key: [u64; 2],
    bytes: Vec<u8>,
}

impl<'a> Fingerprints<'a> {
    pub(super) fn of(table: &'a Table, mode: Mode, nulls: Nulls) -> Self {
        let columns = table.fields();
        let left_out = |field: &Field| mode == Mode::Replace && field.nullable() && !columns.contains(field);
        let fields: Vec<Field> = columns.iter().copied().chain(Field::ALL.iter().copied().filter(left_out)).collect();
        let secret = RandomState::new();
        Self {
            table,
            mode,
            nulls,
            rows: Vec::new(),
            last: 0,
            far: 0,
            near: near(),
            fields,
            key: [secret.hash_one(0), secret.hash_one(1)],
            bytes: Vec::new(),
        }
    }

    /// Makes the fingerprints of all rows.
    fn make(&mut self) {
        self.rows.reserve_exact(usize::try_from(self.table.len()).unwrap_or_default());
        for row in 0..self.table.len() {
            let print = self.of_row(row);
            self.rows.push(print);
        }
    }

    fn of_row(&mut self, row: u64) -> Fingerprint {
        let (mode, nulls) = (self.mode, self.nulls);
        let mut fields = FieldSet::default();
        self.bytes.clear();
        // A row of mappings can lack a column, so the position of a cell does not identify its field.
        let mut cells = self.table.row(row).peekable();
        for field in &self.fields {
            let cell = cells.next_if(|(named, _)| named == field).map(|(_, cell)| cell);
            let value = match cell {
                // For such a cell, `diff` keeps the field, so it is not compared.
                Some(Cell::Empty) if mode == Mode::Fill || nulls != Nulls::Clear => continue,
                Some(cell) => cell.value(),
                None if mode == Mode::Replace && field.nullable() => None,
                None => continue,
            };
            fields.insert(*field);
            add(&mut self.bytes, *field, value);
        }
        Fingerprint { fields, sum: self.sum() }
    }

    /// Returns whether an account surely has all values of a row. If so, the row changes nothing. If not, or if it is
    /// as fast to compare the cells, they have to be compared.
    pub(super) fn has(&mut self, row: u32, account: &ContactAccount) -> bool {
        let is_near = row.abs_diff(std::mem::replace(&mut self.last, row)) <= self.near;
        self.far += u64::from(!is_near);
        if is_near || self.far <= self.table.len() / FAR_ONE_IN {
            return false;
        }
        if self.rows.is_empty() {
            self.make();
        }
        self.is_equal(row, account)
    }

    fn is_equal(&mut self, row: u32, account: &ContactAccount) -> bool {
        let Some(print) = self.rows.get(row as usize).copied() else { return false };
        self.bytes.clear();
        for field in self.fields.iter().filter(|field| print.fields.contains(**field)) {
            add(&mut self.bytes, *field, account.value(*field));
        }
        self.sum() == print.sum
    }

    fn sum(&self) -> [u64; 2] {
        let [one, two] = self.key;
        let mut hasher = SipHasher13::new_with_keys(one, two);
        hasher.write(&self.bytes);
        let sum = hasher.finish128();
        [sum.h1, sum.h2]
    }
}

/// Adds a field and its value. Its length or type comes before each value, so different values give different bytes.
fn add(bytes: &mut Vec<u8>, field: Field, value: Option<FieldValue<'_>>) {
    // The order already identifies the field. With this byte, a wrong order could only make a comparison fail, never
    // make it match another field.
    bytes.push(field as u8);
    match filled(field, value) {
        None => bytes.extend_from_slice(&0_u32.to_le_bytes()),
        Some(FieldValue::Integer(number)) => {
            bytes.extend_from_slice(&INTEGER.to_le_bytes());
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        Some(FieldValue::Text(text)) => {
            let length = u32::try_from(text.len()).unwrap_or(INTEGER);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::plan::diff;
    use crate::plan::source::{Builder, Given, Options};

    type Text<'a> = Option<&'a str>;

    fn is_equal(table: &Table, row: u32, account: &ContactAccount, options: &Options) -> bool {
        let mut prints = Fingerprints::of(table, options.mode, options.nulls);
        prints.make();
        prints.is_equal(row, account)
    }

    /// Returns whether the account has the row, by its fingerprint and by its changes.
    fn has(row: [Text<'_>; 3], owner: Option<i64>, account: [Text<'_>; 4], options: &Options) -> (bool, bool) {
        let &Options { mode, nulls, .. } = options;
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(vec![7]))),
            ("name", Arc::new(StringArray::from(vec!["A"]))),
            ("owner_user_id", Arc::new(Int64Array::from(vec![owner]))),
        ];
        for (name, cell) in ["state", "city", "phone"].into_iter().zip(row) {
            columns.push((name, Arc::new(StringArray::from(vec![cell]))));
        }
        let columns = columns.into_iter().map(|(name, column)| (name, column, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let table = Table::from_batches(&batch.schema(), vec![batch], options).unwrap();
        let [state, city, phone, email] = account;
        let account: ContactAccount = serde_json::from_value(json!({"id": 7, "name": "A", "ownerUserId": 42,
            "state": state, "city": city, "phone": phone, "email": email}))
        .unwrap();
        let is_unchanged = diff::changes(&account, table.row(0), mode, nulls).is_empty();
        (is_equal(&table, 0, &account, options), is_unchanged)
    }

    /// Returns the same for the second of two mappings, which has only some of the keys of the first.
    fn has_some(row: [Option<Text<'_>>; 4], account: [Text<'_>; 4], options: &Options) -> (bool, bool) {
        let mut builder = Builder::new(options);
        let names = ["city", "state", "email", "phone"];
        for (id, cells) in [("6", [Some(Some("x")); 4]), ("7", row)] {
            let cells = names.into_iter().zip(cells).filter_map(|(name, cell)| Some((name, cell?)));
            for (name, cell) in [("id", Some(id)), ("name", Some("A"))].into_iter().chain(cells) {
                let column = builder.column(name).unwrap();
                builder.push(column, cell.map_or(Given::Empty, Given::Text)).unwrap();
            }
            builder.end_row();
        }
        let table = builder.finish(None).unwrap();
        let [city, state, email, phone] = account;
        let account: ContactAccount = serde_json::from_value(json!({"id": 7, "name": "A", "ownerUserId": 42,
            "state": state, "city": city, "phone": phone, "email": email}))
        .unwrap();
        let is_unchanged = diff::changes(&account, table.row(1), options.mode, options.nulls).is_empty();
        (is_equal(&table, 1, &account, options), is_unchanged)
    }

    #[test]
    fn rows_in_order_need_no_fingerprints_and_rows_in_no_order_have_them() {
        let rows = 10_000;
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=rows));
        let cities: ArrayRef = Arc::new(StringArray::from_iter_values((1..=rows).map(|id| format!("{id}"))));
        let batch = RecordBatch::try_from_iter([("id", ids), ("city", cities)]).unwrap();
        let table = Table::from_batches(&batch.schema(), vec![batch], &Options::default()).unwrap();
        let account = |row: u32| -> ContactAccount {
            serde_json::from_value(
                json!({"id": row + 1, "name": "A", "ownerUserId": 1, "city": format!("{}", row + 1)}),
            )
            .unwrap()
        };
        let found = |step: u32, backwards: bool| {
            let mut prints = Fingerprints::of(&table, Mode::Patch, Nulls::Keep);
            let rows = (0..10_000).map(|place: u32| place * step % 10_000);
            let mut found = 0;
            let mut ask = |row| found += u32::from(prints.has(row, &account(row)));
            if backwards {
                rows.rev().for_each(&mut ask);
            } else {
                rows.for_each(&mut ask);
            }
            (found, prints.rows.len())
        };
        assert_eq!(found(1, false), (0, 0));
        assert_eq!(found(1, true), (0, 0));
        assert_eq!(found(7_919, false), (10_000 - 10_000 / 64 - 1, 10_000));
    }

    #[test]
    fn a_value_in_the_field_that_a_row_leaves_out_is_not_its_value() {
        let options = Options { mode: Mode::Replace, ..Options::default() };
        let row = [None, Some(Some("Berlin")), None, None];
        assert_eq!(has_some(row, [Some("Berlin"), None, None, None], &options), (false, false));
        assert_eq!(has_some(row, [None, Some("Berlin"), None, None], &options), (true, true));
    }

    #[test]
    fn where_a_text_ends_and_where_a_field_is_counts() {
        let options = Options::default();
        let account = [Some("ab"), Some("c"), Some("d"), None];
        assert_eq!(has([Some("ab"), Some("c"), Some("d")], Some(42), account, &options), (true, true));
        for row in
            [[Some("a"), Some("bc"), Some("d")], [Some("ab"), Some("d"), Some("c")], [Some("ab"), None, Some("c")]]
        {
            assert_eq!(has(row, Some(42), account, &options), (false, false), "{row:?}");
        }
        assert_eq!(has([Some("ab"), Some("c"), Some("d")], Some(43), account, &options), (false, false));
    }

    fn text() -> impl Strategy<Value = Option<String>> {
        proptest::option::of("[ab]{0,1}")
    }

    proptest! {
        #[test]
        fn an_account_has_a_row_if_and_only_if_the_row_changes_nothing(
            row in [text(), text(), text()],
            owner in proptest::option::of(42_i64..44),
            account in [text(), text(), text(), text()],
            mode in proptest::sample::select(vec![Mode::Patch, Mode::Fill, Mode::Replace]),
            clears in any::<bool>(),
        ) {
            let nulls = if clears && mode != Mode::Fill { Nulls::Clear } else { Nulls::Keep };
            // An owner cannot be cleared.
            let owner = if nulls == Nulls::Clear { owner.or(Some(42)) } else { owner };
            let options = Options { mode, nulls, ..Options::default() };
            let row = row.each_ref().map(Option::as_deref);
            let (has, is_unchanged) = has(row, owner, account.each_ref().map(Option::as_deref), &options);
            // A filled field keeps its value whatever the row has: that it does is left to `diff`.
            prop_assert!(has == is_unchanged || (mode == Mode::Fill && !has), "{has} {is_unchanged}");
        }

        #[test]
        fn a_row_without_some_keys_is_compared_as_it_is(
            row in proptest::array::uniform4(proptest::option::of(text())),
            account in proptest::array::uniform4(text()),
            mode in proptest::sample::select(vec![Mode::Patch, Mode::Replace]),
            nulls in proptest::sample::select(vec![Nulls::Keep, Nulls::Clear]),
        ) {
            let options = Options { mode, nulls, ..Options::default() };
            let row = row.each_ref().map(|cell| cell.as_ref().map(Option::as_deref));
            let (has, is_unchanged) = has_some(row, account.each_ref().map(Option::as_deref), &options);
            prop_assert_eq!(has, is_unchanged);
        }
    }
}
