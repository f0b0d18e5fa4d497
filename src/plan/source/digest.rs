//! Whether two tables mean the same: their rows, and what their columns do to an account.

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::{Key, Options, Table};
use crate::plan::Cell;

/// Bytes are handed to the hash in portions of about this many.
const PORTION: usize = 64 * 1_024;

impl Table {
    /// A digest of the rows and of what the columns do. Two tables with the same digest plan the same changes, however they
    /// came: as a file or as a frame.
    pub fn digest(&self, options: &Options) -> [u8; SHA256_OUTPUT_LEN] {
        let mut sum = Sum { context: Context::new(&SHA256), portion: Vec::with_capacity(2 * PORTION) };
        for word in [options.mode.as_str(), options.nulls.as_str(), options.match_on.as_str()] {
            sum.text(word);
        }
        for row in 0..self.len() {
            sum.tag(b'r');
            match self.key(row) {
                Key::Id(id) => sum.integer(id),
                Key::Text(text) => sum.text(text),
                Key::Missing => sum.tag(b'-'),
            }
            for (field, cell) in self.row(row) {
                sum.text(field.name());
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

/// Everything is written with a tag, and texts with their length, so that no two tables are written alike.
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
        let digest = self.context.finish();
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(byte, of)| *byte = *of);
        bytes
    }
}
