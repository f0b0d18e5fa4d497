//! Compares two tables: their rows, and what their columns do to an account.

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::{Key, Options, RowFault, Table};
use crate::plan::Cell;

/// The hash gets bytes in portions of about this size.
const PORTION: usize = 64 * 1_024;

/// The digest of a table, or the beginning of it. Every value is written with a tag, and texts with their length, so that
/// different tables have different bytes.
pub(super) struct Sum {
    context: Context,
    portion: Vec<u8>,
}

impl Sum {
    /// Sums the options and the rows of a table.
    pub(super) fn of_rows(table: &Table, options: &Options) -> Self {
        let mut sum = Self { context: Context::new(&SHA256), portion: Vec::with_capacity(2 * PORTION) };
        for word in [options.mode.as_str(), options.nulls.as_str(), options.match_on.as_str()] {
            sum.text(word);
        }
        for field in table.fields() {
            sum.text(field.name());
        }
        for row in 0..table.len() {
            sum.tag(b'r');
            match table.key(row) {
                Key::Id(id) => sum.integer(id),
                Key::Text(text) => sum.text(text),
                Key::Missing => sum.tag(b'-'),
            }
            // A row of mappings can lack a column.
            for (column, cell) in (0..).zip(table.cells(row)) {
                let Some(cell) = cell else { continue };
                sum.tag(column);
                match cell {
                    Cell::Empty => sum.tag(b'-'),
                    Cell::Text(text) => sum.text(text),
                    Cell::Integer(number) => sum.integer(number),
                }
            }
        }
        sum
    }

    fn tag(&mut self, tag: u8) {
        self.portion.push(tag);
        if self.portion.len() >= PORTION {
            self.context.update(&self.portion);
            self.portion.clear();
        }
    }

    fn text(&mut self, text: &str) {
        self.tag(b't');
        self.portion.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.portion.extend_from_slice(text.as_bytes());
    }

    fn integer(&mut self, number: i64) {
        self.tag(b'i');
        self.portion.extend_from_slice(&number.to_le_bytes());
    }

    /// Adds the faults, which are the last part.
    pub(super) fn with_faults(mut self, faults: &[RowFault]) -> [u8; SHA256_OUTPUT_LEN] {
        for fault in faults {
            self.tag(b'f');
            self.integer(i64::try_from(fault.row).unwrap_or(i64::MAX));
            self.text(&fault.message);
        }
        self.context.update(&self.portion);
        // Its length is always that of the digest.
        self.context.finish().as_ref().try_into().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, LargeStringArray, RecordBatch, StringArray};

    use super::{Options, Table};
    use crate::plan::source::LONG;
    use crate::plan::{Mode, Nulls};
    use crate::text::hex;

    fn table(ids: &[i64], cities: ArrayRef, column: &str, cut: usize, options: &Options) -> [u8; 32] {
        let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
        let batch = RecordBatch::try_from_iter_with_nullable([("id", ids, true), (column, cities, true)]).unwrap();
        let batches = vec![batch.slice(0, cut), batch.slice(cut, batch.num_rows() - cut)];
        Table::from_batches(&batch.schema(), batches, options).unwrap().digest()
    }

    fn texts(texts: [Option<&str>; 2]) -> ArrayRef {
        Arc::new(StringArray::from(texts.to_vec()))
    }

    #[test]
    fn the_form_of_a_table_does_not_count() {
        let options = Options::default();
        let one = table(&[1, 2], texts([Some("Oslo"), None]), "city", 0, &options);
        let large: ArrayRef = Arc::new(LargeStringArray::from(vec![Some("Oslo"), Some(" ")]));
        assert_eq!(table(&[1, 2], large, "City", 1, &options), one);
    }

    #[test]
    fn a_digest_is_the_same_in_every_version_and_for_a_table_of_any_length() {
        let options = Options::default();
        let one = table(&[1, 2], texts([Some("Oslo"), None]), "city", 0, &options);
        assert_eq!(hex(&one), "e832ccc4df84069149a77dfef5094260c277e6f3e4b51fd96c956f0f602cc65b");
        // Another thread reads a long table.
        let rows = 30_000;
        assert!(rows > LONG);
        let ids: Vec<i64> = (1..).take(rows).collect();
        let cities: StringArray = (0..rows).map(|row| (row % 3 > 0).then_some("Oslo")).collect();
        let many = table(&ids, Arc::new(cities), "city", 7, &options);
        assert_eq!(hex(&many), "cf0e6a349e15d0d6aa309f6ca019bc6cc1a496a2739872ebd6bfcad6a782dfe0");
    }

    #[test]
    fn every_cell_the_rows_their_order_and_the_options_count() {
        let options = Options::default();
        let digest = |ids: &[i64], cities, column| table(ids, cities, column, 0, &options);
        let mut seen = vec![
            digest(&[1, 2], texts([Some("Oslo"), None]), "city"),
            digest(&[2, 1], texts([Some("Oslo"), None]), "city"),
            digest(&[1, 2], texts([None, Some("Oslo")]), "city"),
            digest(&[1, 2], texts([Some("Oslo"), None]), "state"),
            digest(&[1, 2], texts([Some("Osl"), Some("o")]), "city"),
            digest(&[1, -2], texts([Some("Oslo"), None]), "city"),
        ];
        let of = |options: &Options| table(&[1, 2], texts([Some("Oslo"), None]), "city", 0, options);
        seen.push(of(&Options { mode: Mode::Fill, ..Options::default() }));
        seen.push(of(&Options { nulls: Nulls::Clear, ..Options::default() }));
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
