use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};

use super::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn table(columns: Vec<(&str, ArrayRef)>, options: &Options) -> Result<Table, TableError> {
    let batch = batch(columns);
    Table::from_batches(&batch.schema(), vec![batch], options)
}

#[test]
fn a_row_is_put_together_from_its_columns() {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let cities: ArrayRef = Arc::new(StringArray::from(vec![Some("Oslo"), None]));
    let table = table(vec![("id", ids), ("city", cities)], &Options::default()).unwrap();
    assert_eq!((table.len(), table.fields(), table.key(1)), (2, &[Field::City][..], Key::Id(2)));
    assert_eq!(table.row(0).collect::<Vec<_>>(), [(Field::City, Cell::Text("Oslo"))]);
    assert_eq!(table.row(1).collect::<Vec<_>>(), [(Field::City, Cell::Empty)]);
    assert_eq!(table.description(), "a table of 2 rows and 2 columns");
}
