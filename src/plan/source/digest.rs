//! Compares two tables: their rows, and what their columns do to an account.

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::{Key, Options, Table};
use crate::plan::Cell;

/// The hash gets bytes in portions of about this size.
const PORTION: usize = 64 * 1_024;

impl Table {
    /// Returns a digest of the rows and of what the columns do. Two tables with the same digest plan the same changes,
    /// whether they come from a file or a data frame.
    pub fn digest(&self, options: &Options) -> [u8; SHA256_OUTPUT_LEN] {
        let mut sum = Sum { context: Context::new(&SHA256), portion: Vec::with_capacity(2 * PORTION) };
        for word in [options.mode.as_str(), options.nulls.as_str(), options.match_on.as_str()] {
            sum.text(word);
        }
        for field in self.fields() {
            sum.text(field.name());
        }
        for row in 0..self.len() {
            sum.tag(b'r');
            match self.key(row) {
                Key::Id(id) => sum.integer(id),
                Key::Text(text) => sum.text(text),
                Key::Missing => sum.tag(b'-'),
            }
            // A row of mappings can lack a column.
            for (column, cell) in (0..).zip(self.cells(row)) {
                let Some(cell) = cell else { continue };
                sum.tag(column);
                match cell {
                    Cell::Empty => sum.tag(b'-'),
                    Cell::Text(text) => sum.text(text),
                    Cell::Integer(number) => sum.integer(number),
                }
            }
        }
        for fault in self.faults() {
            sum.tag(b'f');
            sum.integer(i64::try_from(fault.row).unwrap_or(i64::MAX));
            sum.text(&fault.message);
        }
        sum.finish()
    }
}

/// Every value is written with a tag, and texts with their length, so that different tables have different bytes.
struct Sum {
    context: Context,
    portion: Vec<u8>,
}

impl Sum {
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

    fn finish(mut self) -> [u8; SHA256_OUTPUT_LEN] {
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
    use crate::plan::{Mode, Nulls};

    fn table(ids: &[i64], cities: ArrayRef, column: &str, cut: usize) -> Table {
        let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
        let batch = RecordBatch::try_from_iter_with_nullable([("id", ids, true), (column, cities, true)]).unwrap();
        let batches = vec![batch.slice(0, cut), batch.slice(cut, batch.num_rows() - cut)];
        Table::from_batches(&batch.schema(), batches, &Options::default()).unwrap()
    }

    fn texts(texts: [Option<&str>; 2]) -> ArrayRef {
        Arc::new(StringArray::from(texts.to_vec()))
    }

    #[test]
    fn the_form_of_a_table_does_not_count() {
        let options = Options::default();
        let one = table(&[1, 2], texts([Some("Oslo"), None]), "city", 0).digest(&options);
        let large: ArrayRef = Arc::new(LargeStringArray::from(vec![Some("Oslo"), Some(" ")]));
        assert_eq!(table(&[1, 2], large, "City", 1).digest(&options), one);
    }

    #[test]
    fn every_cell_the_rows_their_order_and_the_options_count() {
        let options = Options::default();
        let digest = |ids: &[i64], cities, column| table(ids, cities, column, 0).digest(&options);
        let mut seen = vec![
            digest(&[1, 2], texts([Some("Oslo"), None]), "city"),
            digest(&[2, 1], texts([Some("Oslo"), None]), "city"),
            digest(&[1, 2], texts([None, Some("Oslo")]), "city"),
            digest(&[1, 2], texts([Some("Oslo"), None]), "state"),
            digest(&[1, 2], texts([Some("Osl"), Some("o")]), "city"),
            digest(&[1, -2], texts([Some("Oslo"), None]), "city"),
        ];
        let of = |options: &Options| table(&[1, 2], texts([Some("Oslo"), None]), "city", 0).digest(options);
        seen.push(of(&Options { mode: Mode::Fill, ..Options::default() }));
        seen.push(of(&Options { nulls: Nulls::Clear, ..Options::default() }));
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
