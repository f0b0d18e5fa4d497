//! Compares two tables: their rows, and what their columns do to an account.

use std::ops::Range;
use std::sync::mpsc::{channel, sync_channel};
use std::thread;

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::{Key, Options, Place, RowFault, Table};
use crate::plan::Cell;

/// The hash gets bytes in portions of about this size.
const PORTION: usize = 64 * 1_024;
/// How many portions may wait for the other thread.
const WAITING: usize = 4;

pub(super) type Digest = [u8; SHA256_OUTPUT_LEN];

/// Returns the digest of what is written, and what the writer returns. Hashes on a second thread if there is much.
pub(super) fn digest<T>(has_much: bool, write: impl Fn(&mut Sum<'_>) -> T) -> (T, Digest) {
    if has_much && let Some(done) = on_two_threads(&write) {
        return done;
    }
    let mut context = Context::new(&SHA256);
    let done = Sum::written(write, &mut |portion| {
        context.update(portion);
        portion.clear();
    });
    (done, finished(context))
}

/// `None` if there is no second thread.
fn on_two_threads<T>(write: impl Fn(&mut Sum<'_>) -> T) -> Option<(T, Digest)> {
    let (full, portions) = sync_channel::<Vec<u8>>(WAITING);
    let (used, empty) = channel();
    let hash = move || {
        let mut context = Context::new(&SHA256);
        for mut portion in portions {
            context.update(&portion);
            portion.clear();
            // The writer may have ended.
            let _ = used.send(portion);
        }
        finished(context)
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("replyio-digest".to_owned()).spawn_scoped(scope, hash).ok()?;
        let done = Sum::written(write, &mut |portion| {
            let next = empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(2 * PORTION));
            // It fails only if the thread has panicked, and then there is no digest below.
            let _ = full.send(std::mem::replace(portion, next));
        });
        drop(full);
        Some((done, thread.join().ok()?))
    })
}

fn finished(context: Context) -> Digest {
    // Its length is always that of the digest.
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// What is hashed. Every value is written with a tag, and texts with their length, so that different tables have
/// different bytes.
pub(super) struct Sum<'a> {
    portion: Vec<u8>,
    /// Takes a portion and leaves an empty one.
    hash: &'a mut dyn FnMut(&mut Vec<u8>),
}

impl<'a> Sum<'a> {
    fn written<T>(write: impl Fn(&mut Sum<'_>) -> T, hash: &'a mut dyn FnMut(&mut Vec<u8>)) -> T {
        let mut sum = Sum { portion: Vec::with_capacity(2 * PORTION), hash };
        let done = write(&mut sum);
        (sum.hash)(&mut sum.portion);
        done
    }

    /// Writes what the columns do to an account.
    pub(super) fn columns(&mut self, table: &Table, options: &Options) {
        for word in [options.mode.as_str(), options.nulls.as_str(), options.match_on.as_str()] {
            self.text(word);
        }
        for field in table.fields() {
            self.text(field.name());
        }
    }

    /// Writes rows of a chunk. Takes the number of the chunk's first row.
    pub(super) fn rows(&mut self, table: &Table, chunk: usize, start: usize, rows: Range<usize>) {
        for row in rows {
            let place = Place { row, chunk, offset: row - start };
            self.tag(b'r');
            match table.key_at(place) {
                Key::Id(id) => self.integer(id),
                Key::Text(text) => self.text(text),
                Key::Missing => self.tag(b'-'),
            }
            // A row of mappings can lack a column.
            for (column, cell) in (0..).zip(table.cells_at(place)) {
                let Some(cell) = cell else { continue };
                self.tag(column);
                match cell {
                    Cell::Empty => self.tag(b'-'),
                    Cell::Text(text) => self.text(text),
                    Cell::Integer(number) => self.integer(number),
                }
            }
            if self.portion.len() >= PORTION {
                (self.hash)(&mut self.portion);
            }
        }
    }

    /// Writes the faults.
    pub(super) fn faults(&mut self, faults: &[RowFault]) {
        for fault in faults {
            self.tag(b'f');
            self.integer(i64::try_from(fault.row).unwrap_or(i64::MAX));
            self.text(&fault.message);
            if self.portion.len() >= PORTION {
                (self.hash)(&mut self.portion);
            }
        }
    }

    fn tag(&mut self, tag: u8) {
        self.portion.push(tag);
    }

    fn text(&mut self, text: &str) {
        self.tagged(b't', (text.len() as u64).to_le_bytes());
        self.portion.extend_from_slice(text.as_bytes());
    }

    fn integer(&mut self, number: i64) {
        self.tagged(b'i', number.to_le_bytes());
    }

    fn tagged(&mut self, tag: u8, number: [u8; 8]) {
        let mut bytes = [tag; 9];
        bytes.split_at_mut(1).1.copy_from_slice(&number);
        self.portion.extend_from_slice(&bytes);
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
