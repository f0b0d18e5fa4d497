use std::collections::HashMap;
use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::types::{Decimal128Type, Float16Type, Int8Type, UInt32Type};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, Decimal128Array, DictionaryArray, Float16Array, Float32Array,
    Float64Array, Int8Array, Int64Array, LargeStringArray, NullArray, PrimitiveArray, RecordBatch, StringArray,
    StringViewArray, UInt8Array, UInt64Array,
};
use arrow_schema::DataType;
use tempfile::TempDir;

use super::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn table(columns: Vec<(&str, ArrayRef)>, options: &Options) -> Result<Table, TableError> {
    let batch = batch(columns);
    Table::from_batches(&batch.schema(), vec![batch], options)
}

fn ids(count: i64) -> (&'static str, ArrayRef) {
    ("id", Arc::new((1..=count).collect::<Int64Array>()))
}

fn texts(name: &str, texts: Vec<Option<&str>>) -> (String, ArrayRef) {
    (name.to_owned(), Arc::new(StringArray::from(texts)))
}

fn with_ids(column: &(String, ArrayRef), options: &Options) -> Result<Table, TableError> {
    let count = i64::try_from(column.1.len()).unwrap();
    table(vec![ids(count), (column.0.as_str(), Arc::clone(&column.1))], options)
}

/// Returns the content of a column, row by row.
fn cells(array: ArrayRef, name: &str) -> Vec<Option<String>> {
    let table = with_ids(&(name.to_owned(), array), &Options::default()).unwrap();
    assert_eq!(table.faults(), []);
    (0..table.len()).map(|row| shown(table.row(row).next().unwrap().1)).collect()
}

fn shown(cell: Cell<'_>) -> Option<String> {
    match cell {
        Cell::Empty => None,
        Cell::Text(text) => Some(text.to_owned()),
        Cell::Integer(number) => Some(number.to_string()),
    }
}

fn messages(table: &Table) -> Vec<&str> {
    table.faults().iter().map(|fault| fault.message.as_str()).collect()
}

fn refusals(result: Result<Table, TableError>) -> Vec<String> {
    match result {
        Err(TableError::Faults { faults, .. }) => {
            faults.iter().map(|fault| format!("{} {}", fault.field, fault.message)).collect()
        }
        other => panic!("not refused for its columns: {other:?}"),
    }
}

/// A file in a folder of its own. Both are deleted when it is dropped.
struct TableFile {
    path: PathBuf,
    _folder: TempDir,
}

impl Deref for TableFile {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

fn file(name: &str, content: impl AsRef<[u8]>) -> TableFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    TableFile { path, _folder: folder }
}

#[test]
fn a_row_is_put_together_from_its_columns() {
    let cities: ArrayRef = Arc::new(StringArray::from(vec![Some("Oslo"), None]));
    let table = table(vec![ids(2), ("city", cities)], &Options::default()).unwrap();
    assert_eq!((table.len(), table.fields(), table.key(1)), (2, &[Field::City][..], Key::Id(2)));
    assert_eq!(table.row(0).collect::<Vec<_>>(), [(Field::City, Cell::Text("Oslo"))]);
    assert_eq!(table.row(1).collect::<Vec<_>>(), [(Field::City, Cell::Empty)]);
    assert_eq!((table.key(2), table.row(2).count()), (Key::Missing, 0));
    assert_eq!(table.description(), "a table of 2 rows and 2 columns");
}

#[test]
fn every_kind_of_text_is_read_as_it_is() {
    let long = "a text too long to be kept inline, with æ and 🙂";
    let all = vec![Some("a"), None, Some(" a "), Some("e\u{301}\0\u{202e}ש"), Some(long), Some("nan")];
    let expected: Vec<_> = all.iter().map(|text| text.map(ToOwned::to_owned)).collect();
    let arrays: [ArrayRef; 5] = [
        Arc::new(StringArray::from(all.clone())),
        Arc::new(LargeStringArray::from(all.clone())),
        Arc::new(StringViewArray::from(all.clone())),
        Arc::new(all.iter().copied().collect::<DictionaryArray<Int8Type>>()),
        Arc::new(all.iter().copied().collect::<DictionaryArray<UInt32Type>>()),
    ];
    for array in arrays {
        assert_eq!(cells(Arc::clone(&array), "city"), expected, "{:?}", array.data_type());
        assert_eq!(cells(array.slice(1, 4), "city"), expected.get(1..5).unwrap(), "{:?}", array.data_type());
    }
    assert_eq!(cells(Arc::new(NullArray::new(2)), "city"), [None, None]);
}

#[test]
fn every_kind_of_integer_is_read_as_one() {
    let all = [Some(42_u8), None, Some(1)];
    let expected = [Some("42".to_owned()), None, Some("1".to_owned())];
    let decimal = |scale, factor: i128| {
        let numbers = [Some(42 * factor), None, Some(factor)];
        let numbers: PrimitiveArray<Decimal128Type> = numbers.into_iter().collect();
        Arc::new(numbers.with_precision_and_scale(38, scale).unwrap())
    };
    let keys = Int8Array::from(vec![Some(1), None, Some(0)]);
    let arrays: [ArrayRef; 11] = [
        Arc::new(all.iter().map(|number| number.map(i64::from)).collect::<Int64Array>()),
        Arc::new(all.iter().copied().collect::<UInt8Array>()),
        Arc::new(all.iter().map(|number| number.map(u64::from)).collect::<UInt64Array>()),
        Arc::new(Float64Array::from(vec![42.0, f64::NAN, 1.0])),
        Arc::new(all.iter().map(|number| number.map(f32::from)).collect::<Float32Array>()),
        Arc::new(all.iter().map(|number| number.map(half_float)).collect::<Float16Array>()),
        decimal(0, 1),
        decimal(2, 100),
        Arc::new(StringArray::from(vec![Some("42"), None, Some("0001")])),
        Arc::new(DictionaryArray::new(keys, Arc::new(Int64Array::from(vec![1, 42])))),
        Arc::new(vec![Some("42"), None, Some("1")].into_iter().collect::<DictionaryArray<Int8Type>>()),
    ];
    for array in arrays {
        assert_eq!(cells(Arc::clone(&array), "owner_user_id"), expected, "{:?}", array.data_type());
    }
    let tens: Decimal128Array = Decimal128Array::from(vec![4]).with_precision_and_scale(5, -1).unwrap();
    assert_eq!(cells(Arc::new(tens), "owner_user_id"), [Some("40".to_owned())]);
}

fn half_float(number: u8) -> <Float16Type as ArrowPrimitiveType>::Native {
    <Float16Type as ArrowPrimitiveType>::Native::from_f64(number.into())
}

#[test]
fn what_is_no_integer_makes_its_row_invalid() {
    let wrong = |array: ArrayRef| {
        let table = with_ids(&("owner_user_id".to_owned(), array), &Options::default()).unwrap();
        let found = messages(&table);
        found
            .into_iter()
            .map(|message| message.trim_start_matches("owner_user_id in row ").to_owned())
            .collect::<Vec<_>>()
    };
    let floats = Float64Array::from(vec![1.5, f64::INFINITY, 1e19, -1.0, 9_223_372_036_854_775_808.0, 5.0]);
    let (whole, below) = ("must be a whole number", "must be a positive integer below 2**63");
    assert_eq!(
        wrong(Arc::new(floats)),
        [
            format!("0 {whole}"),
            format!("1 {whole}"),
            format!("2 {below}"),
            "3 must be a positive integer".to_owned(),
            format!("4 {below}")
        ]
    );
    assert_eq!(wrong(Arc::new(UInt64Array::from(vec![1, u64::MAX, 0]))).len(), 2);
    let decimals = Decimal128Array::from(vec![150, 100]).with_precision_and_scale(5, 2).unwrap();
    assert_eq!(wrong(Arc::new(decimals)), [format!("0 {whole}")]);
}

#[test]
fn chunks_are_one_column() {
    let batch = |from: i64, cities: Vec<&str>| {
        let ids: Int64Array = (from..from + i64::try_from(cities.len()).unwrap()).collect();
        batch(vec![("id", Arc::new(ids)), ("city", Arc::new(StringArray::from(cities)))])
    };
    let batches = vec![batch(1, vec!["a"]), batch(2, vec![]), batch(2, vec!["b", "c"]), batch(4, vec![])];
    let schema = batches.first().unwrap().schema();
    let table = Table::from_batches(&schema, batches, &Options::default()).unwrap();
    let rows: Vec<_> = (0..table.len()).map(|row| (table.key(row), shown(table.row(row).next().unwrap().1))).collect();
    let row = |id, city: &str| (Key::Id(id), Some(city.to_owned()));
    assert_eq!(rows, [row(1, "a"), row(2, "b"), row(3, "c")]);
}

#[test]
fn all_faults_of_columns_are_told_at_once() {
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, 5.0]));
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
    let text = || -> ArrayRef { Arc::new(StringArray::from(vec!["a", "b"])) };
    let found = refusals(table(
        vec![
            ("citty", text()),
            ("created_date", text()),
            ("stage_name", text()),
            ("phone", numbers),
            ("owner_user_id", flags),
            ("linkedInUrl", text()),
            ("linked_in_url", text()),
            ("notes", text()),
            ("Whatever", text()),
            ("__index_level_0__", text()),
        ],
        &Options { ignore: vec!["notes".to_owned()], ..Options::default() },
    ));
    assert_eq!(
        found,
        [
            "id is missing: rows find their accounts by it (match_on=\"id\")",
            "citty is not a field of a contact account; did you mean city? Otherwise, list it in ignore=",
            "created_date cannot be updated: the service sets it; list it in ignore=",
            "stage_name cannot be updated: the service sets it; list it in ignore=",
            "linked_in_url is given twice, as \"linkedInUrl\" and as \"linked_in_url\"; rename or remove one of them \
                in the table, because ignore= would ignore both",
            "Whatever is not a field of a contact account; to leave it out, list it in ignore=",
            "phone must be text, not numbers (Float64), first in row 1; read the source again as text: a CSV file with \
                dtype=str, because astype(str) keeps the damage; in an Excel file, correct the cells",
            "owner_user_id must be integers, not booleans (Boolean), first in row 0",
        ]
    );
}

#[test]
fn a_column_of_a_wrong_type_with_nothing_in_it_is_empty() {
    let nothing: [ArrayRef; 3] = [
        Arc::new(Float64Array::from(vec![Some(f64::NAN), None])),
        Arc::new(BooleanArray::from(vec![None, None])),
        Arc::new(DictionaryArray::new(Int8Array::from(vec![None, None]), Arc::new(Int64Array::from(vec![1])))),
    ];
    for array in nothing {
        assert_eq!(cells(array, "phone"), [None, None]);
    }
}

#[test]
fn ignoring_takes_either_spelling() {
    let options = Options { ignore: vec!["linked_in_url".to_owned(), "createdDate".to_owned()], ..Options::default() };
    let text = || -> ArrayRef { Arc::new(StringArray::from(vec!["a"])) };
    let table = table(vec![ids(1), ("linkedInUrl", text()), ("created_date", text())], &options).unwrap();
    assert_eq!(table.fields(), []);
}

#[test]
fn the_key_is_what_is_matched_on() {
    let by_domain = Options { match_on: MatchOn::DomainName, ..Options::default() };
    let domains = || texts("domainName", vec![Some("acme.com"), Some(" "), None]);
    let found = with_ids(&domains(), &by_domain);
    assert_eq!(
        refusals(found),
        ["id is not used with match_on=\"domain_name\"; if that is intended, list it in \
        ignore="]
    );
    let options = Options { ignore: vec!["id".to_owned()], ..by_domain.clone() };
    let table = with_ids(&domains(), &options).unwrap();
    assert_eq!((table.key(0), table.key(1), table.key(2)), (Key::Text("acme.com"), Key::Missing, Key::Missing));
    assert_eq!(table.fields(), []);
    assert_eq!(
        messages(&table),
        [
            "domainName in row 1 is missing, and replyio finds the account of the row by it",
            "domainName in row 2 is missing, and replyio finds the account of the row by it"
        ]
    );
}

#[test]
fn an_id_must_be_one_that_an_account_can_have() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(-1), None, Some(i64::MAX)]));
    let table = table(vec![("id", numbers)], &Options::default()).unwrap();
    assert_eq!(
        messages(&table),
        [
            "id in row 0 must be a positive integer",
            "id in row 1 must be a positive integer",
            "id in row 2 is missing: it must be a positive integer"
        ]
    );
    assert_eq!((table.key(0), table.key(3)), (Key::Missing, Key::Id(i64::MAX)));
}

#[test]
fn names_sizes_and_owners_are_checked() {
    let names = texts("name", vec![Some("a"), Some(" \t"), None, Some("")]);
    let clear = Options { nulls: Nulls::Clear, ..Options::default() };
    let found = |options: &Options| messages(&with_ids(&names, options).unwrap()).len();
    assert_eq!(found(&Options::default()), 0);
    assert_eq!(found(&clear), 3);
    assert_eq!(found(&Options { mode: Mode::Fill, ..clear.clone() }), 0);
    assert_eq!(found(&Options { mode: Mode::Replace, ..Options::default() }), 3);
    let owners = ("ownerUserId".to_owned(), Arc::new(Int64Array::from(vec![None, Some(0), Some(7)])) as ArrayRef);
    assert_eq!(messages(&with_ids(&owners, &Options::default()).unwrap()).len(), 1);
    assert_eq!(
        messages(&with_ids(&owners, &clear).unwrap()),
        [
            "ownerUserId in row 0 cannot be cleared: every account has an owner",
            "ownerUserId in row 1 must be a positive integer"
        ]
    );
    let sizes = texts("company_size", vec![Some("2-10"), Some("2 \u{2013} 10"), None, Some("")]);
    let table = with_ids(&sizes, &clear).unwrap();
    assert_eq!(table.faults().iter().map(|fault| fault.row).collect::<Vec<_>>(), [1]);
    assert!(messages(&table).first().unwrap().ends_with("10001+; did you mean 2-10?"));
    for number in ["120", " 1,200 ", "1.200", "120.0", "10001"] {
        let table = with_ids(&texts("company_size", vec![Some(number)]), &clear).unwrap();
        let message = messages(&table)[0].to_owned();
        assert!(message.ends_with("replace the number of employees with the range that contains it"), "{message}");
    }
}

#[test]
fn many_unknown_sizes_are_all_told() {
    let wrong: Vec<String> = (0..SIZES + 5).map(|number| format!("size {number}")).collect();
    let table =
        with_ids(&texts("company_size", wrong.iter().map(|text| Some(text.as_str())).collect()), &Options::default());
    assert_eq!(table.unwrap().faults().len(), SIZES + 5);
}

/// As many sizes as are remembered.
const SIZES: usize = 1000;

#[test]
fn white_space_is_an_empty_cell_from_every_source() {
    let all = vec![Some(""), Some(" \t\n"), Some("\u{2003}"), Some("\u{a0}"), None];
    let arrays: [ArrayRef; 4] = [
        Arc::new(StringArray::from(all.clone())),
        Arc::new(LargeStringArray::from(all.clone())),
        Arc::new(StringViewArray::from(all.clone())),
        Arc::new(all.iter().copied().collect::<DictionaryArray<Int8Type>>()),
    ];
    for name in ["city", "owner_user_id", "company_size", "name"] {
        for array in &arrays {
            assert_eq!(
                cells(Arc::clone(array), name),
                [None, None, None, None, None],
                "{name} {:?}",
                array.data_type()
            );
        }
        let mut builder = Builder::new(&Options::default());
        for (id, text) in (1..).zip(all.iter().flatten()) {
            let (key, column) = (builder.column("id").unwrap(), builder.column(name).unwrap());
            builder.push(key, Given::Number(Number::Integer(id), "int")).unwrap();
            builder.push(column, Given::Text(text)).unwrap();
            builder.end_row();
        }
        let table = builder.finish(None).unwrap();
        assert_eq!(table.faults(), []);
        let found: Vec<_> = (0..table.len()).filter_map(|row| table.row(row).next()).map(|(_, cell)| cell).collect();
        assert_eq!(found, [Cell::Empty; 4], "{name}");
    }
}

#[test]
fn words_that_the_caller_names_are_empty_cells() {
    let options = Options { null_values: vec!["NULL".to_owned(), " - ".to_owned()], ..Options::default() };
    let table = with_ids(&texts("city", vec![Some("NULL"), Some("-"), Some(" NULL"), Some("null")]), &options).unwrap();
    let found: Vec<_> = (0..4).map(|row| shown(table.row(row).next().unwrap().1)).collect();
    assert_eq!(found, [None, None, None, Some("null".to_owned())]);
    assert_eq!(with_ids(&texts("owner_user_id", vec![Some("NULL"), Some("-")]), &options).unwrap().faults(), []);
}

#[test]
fn a_float_that_may_be_another_integer_is_a_fault() {
    let faulty = |array: ArrayRef| {
        let table = with_ids(&("owner_user_id".to_owned(), array), &Options::default()).unwrap();
        assert!(
            messages(&table).iter().all(|message| message.contains("too large to be exact")),
            "{:?}",
            messages(&table)
        );
        table.faults().iter().map(|fault| fault.row).collect::<Vec<_>>()
    };
    let half = |number: f64| <Float16Type as ArrowPrimitiveType>::Native::from_f64(number);
    assert_eq!(faulty(Arc::new(Float16Array::from(vec![half(2047.0), half(2048.0), half(2050.0)]))), [1, 2]);
    assert_eq!(faulty(Arc::new(Float32Array::from(vec![16_777_215.0, 16_777_216.0, 16_777_218.0]))), [1, 2]);
    let doubles = vec![9_007_199_254_740_991.0, 9_007_199_254_740_992.0, 9_007_199_254_740_994.0, 1e18];
    assert_eq!(faulty(Arc::new(Float64Array::from(doubles))), [1, 2, 3]);
    let keys = Int8Array::from(vec![0, 1]);
    let values: ArrayRef = Arc::new(Float32Array::from(vec![1.0, 16_777_216.0]));
    assert_eq!(faulty(Arc::new(DictionaryArray::new(keys, values))), [1]);
}

#[test]
fn a_row_with_two_cells_in_one_column_is_refused() {
    let mut builder = Builder::new(&Options::default());
    let city = builder.column("city").unwrap();
    builder.push(city, Given::Text("a")).unwrap();
    assert_eq!(builder.push(city, Given::Empty), Err(CellError::Repeated("city".to_owned())));
    let notes = builder.column("notes").unwrap();
    assert!(!builder.is_wanted(notes));
    assert_eq!(builder.push(notes, Given::Empty), Ok(()));
}

#[test]
fn a_table_has_no_more_columns_than_a_sheet() {
    let mut builder = Builder::new(&Options::default());
    for number in 0..MOST_COLUMNS {
        builder.column(&format!("column{number}")).unwrap();
    }
    assert_eq!(builder.column("one more"), Err(CellError::TooManyColumns));
    let error = builder.finish(None).unwrap_err().to_string();
    assert!(error.ends_with("\n  and 16,375 more") && error.len() < 2_000, "{error}");
}

#[test]
fn errors_of_spreadsheets_and_endless_texts_are_faults() {
    let endless = "x".repeat(LONGEST_CELL + 1);
    let column = texts("city", vec![Some("#REF!"), Some("#N/A"), Some("Err:502"), Some("#1 in Oslo"), Some(&endless)]);
    let table = with_ids(&column, &Options::default()).unwrap();
    assert_eq!(table.faults().iter().map(|fault| fault.row).collect::<Vec<_>>(), [0, 1, 2, 4]);
    assert_eq!(messages(&table).first(), Some(&"city in row 0 is a spreadsheet error, not a value"));
}

#[test]
fn errors_of_spreadsheets_are_known_in_every_language() {
    let errors = [
        "#DIV/0!",
        "#NAME?",
        "#BEZUG!",
        "#¡REF!",
        "#¿NOMBRE?",
        "#SAKNAS!",
        "#ССЫЛКА!",
        " #NV ",
        "#Н/Д",
        "#N/D",
        "#YOK",
        "#HIÁNYZIK",
        "#NENÍ_K_DISPOZICI",
        "#NEDOSTUPNÝ",
        "#Δ/Υ",
        "#N/V",
        "Err:502",
        "Err:508",
        "Err :522",
        "#########",
        "\t#REF!",
        "\u{a0}#NV\u{a0}",
        "\u{feff}Err:502",
        "\u{200b}####",
        "#N/A N/A",
        "#N/A Invalid Security",
    ];
    let values = ["#", "#N/Axis", "#!", "#1!", "#Oslo!", "Oslo!", "Err", "Err:5", "Err:5022", "#OSLO", "# #"];
    let all = errors.iter().chain(&values).map(|text| Some(*text)).collect();
    let table = with_ids(&texts("city", all), &Options::default()).unwrap();
    let rows: Vec<u64> = table.faults().iter().map(|fault| fault.row).collect();
    assert_eq!(rows, (0..errors.len() as u64).collect::<Vec<_>>());
}

#[test]
fn texts_that_often_mean_nothing_are_counted_and_kept() {
    let suspicious = [
        "NULL",
        "n/a",
        "-",
        "4.91234E+11",
        "4,91234E+11",
        "=\"0047\"",
        "\\N",
        "'+47 22 00 00 00",
        "'=1",
        "#NEZNÁMÝ",
        "\u{a0}NULL",
        "\t-",
        "+4.7E+10",
        "-4.7E+10",
        "(blank)",
        "(null)",
        "Loading...",
        "Błąd:502",
        "Ошибка:504",
        "Fehler :539",
        "\u{a0}Błąd: 522",
        "\"Oslo\"",
        "\"\"",
        "=A1",
        "=B4&\" \"&C4",
        "=(1+2)",
        "=-A1",
        "=\'Sheet 1\'!A1",
        "=$A$1",
        "='[Book.xlsx]Sheet'!A1",
        "'@SUM(A1)",
        "'-5",
        "' =1",
        "''=1",
        "'\u{ff1d}1",
        "Oslo ",
        " Oslo",
        "Oslo\u{a0}",
        "Oslo\n",
        "\u{feff}Oslo",
        "Oslo\u{200b}",
        "Oslo\u{3164}",
        "a\u{ad}",
        "M\u{fffd}nchen",
        "M\u{81}nchen",
        "a\0b",
        "a\u{1b}b",
        "Line 1_x000D_\nLine 2",
        "a_x_x001f_",
        "A_x000D_xyz",
        "AT&amp;T",
        "a & b &lt;c",
        "&quot;",
        "O&#39;Neill",
        "M&#xFC;nchen",
        "a&nbsp;b",
    ];
    let others = [
        "3e",
        "Nanjing",
        "'s-Hertogenbosch",
        "#1",
        "Błąd:500",
        "Błąd:540",
        "Błąd:5020",
        "at 9:502",
        ":502",
        "Gate",
        "+47 22 00 00 00",
        "\"",
        "\"Oslo\" AS",
        "(both)",
        "Loading",
        "=",
        "= equal rights",
        "===",
        "'",
        "'n' Roll",
        "Oslo\u{a0}S",
        "❤\u{fe0f}",
        "می\u{200c}خواهم",
        "Line 1\r\nLine\t2",
        "AT&T; others",
        "&amp",
        "&#;",
        "&#x;",
        "https://a.example/?a=1&lt=2;",
        "max_x000_",
        "_xOslo_",
    ];
    let table = counted(&suspicious, &others);
    assert_eq!(table.row(1).next(), Some((Field::City, Cell::Text("NULL"))));
}

/// Returns a table of texts, after it has counted only the suspicious ones.
fn counted(suspicious: &[&str], others: &[&str]) -> Table {
    for text in suspicious {
        assert_eq!(
            with_ids(&texts("city", vec![Some(text)]), &Options::default()).unwrap().suspicions().len(),
            1,
            "{text}"
        );
    }
    for text in others {
        assert_eq!(with_ids(&texts("city", vec![Some(text)]), &Options::default()).unwrap().suspicions(), [], "{text}");
    }
    let all = ["Oslo"].iter().chain(suspicious).chain(others).map(|text| Some(*text)).collect();
    let table = with_ids(&texts("city", all), &Options::default()).unwrap();
    assert_eq!(table.faults(), []);
    let cells = suspicious.len() as u64;
    assert_eq!(table.suspicions(), [Suspicion { column: "city".to_owned(), cells, row: 1 }]);
    table
}

#[test]
fn signs_for_nothing_and_texts_of_numbers_dates_and_misread_letters_are_counted() {
    let suspicious = [
        "–",
        "—",
        "---",
        "\u{2212}",
        ".",
        "...",
        "??",
        "n.a.",
        "N.A.",
        "Unknown",
        "TBD",
        "missing",
        "(empty)",
        "<null>",
        "[]",
        "{}",
        "4721000001.0",
        "+4721000001.0",
        "-1.0",
        "2026-01-01",
        "2026-01-01 00:00:00",
        "2026-12-31T23:59:59.000001+00:00",
        "BÃ¦rum",
        "MÃ¼nchen",
        "MÃ¼nchen, SÃ£o Paulo",
        "â‚¬",
    ];
    let others = [
        "unknown to us",
        "Unknown Pleasures AS",
        "Missing Link",
        "TBD Inc.",
        "[x]",
        "{a}",
        "•",
        "€",
        "– Oslo",
        "A.",
        "Web 2.0",
        "4721000001.5",
        "4721000001.00",
        ".0",
        "47 21.0",
        "2026",
        "2026-13-45",
        "2026-99-01",
        "2026-01-01 to 2027",
        "20-26-01-01",
        "9026-01-01",
        "Malmö",
        "São Paulo",
        "Bærum",
        "ÅÄÖ",
        "Â",
        "Ñandú",
        "MÃ¼nchen 東京",
    ];
    counted(&suspicious, &others);
}

#[test]
fn spaces_around_a_key_count_only_if_they_are_written_or_compared() {
    let found = |options: &Options| {
        let domains: ArrayRef = Arc::new(StringArray::from(vec![" a.com", "b.com"]));
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b "]));
        let columns = vec![("domain_name", domains), ("name", names)];
        table(columns, options).unwrap().suspicions().iter().map(|found| found.column.clone()).collect::<Vec<_>>()
    };
    let patch = Options { match_on: MatchOn::DomainName, ..Options::default() };
    assert_eq!(found(&patch), ["name"]);
    let by_name = Options { match_on: MatchOn::Name, ignore: vec!["domain_name".to_owned()], ..Options::default() };
    assert_eq!(found(&by_name), ["name"], "no account has a name with spaces around it");
    assert_eq!(found(&Options { mode: Mode::Replace, ..patch }), ["domain_name", "name"]);
}

#[test]
fn a_table_that_has_all_columns_of_a_listing_is_taken_as_it_is() {
    let names = [
        "linked_prospects_count",
        "created_date",
        "last_activity_date",
        "stage_id",
        "stage_name",
        "stage_color_id",
        "email_provider",
    ];
    let columns = |names: &[&'static str]| {
        let read_only = names.iter().map(|name| (*name, Arc::new(Int64Array::from(vec![1])) as ArrayRef));
        [ids(1)].into_iter().chain(read_only).collect::<Vec<_>>()
    };
    assert_eq!(table(columns(&names), &Options::default()).unwrap().fields(), []);
    let part = refusals(table(columns(&names[..6]), &Options::default()));
    assert_eq!(part.len(), 6);
    assert_eq!(part[0], "linked_prospects_count cannot be updated: the service sets it; list it in ignore=");
}

#[test]
fn replacing_needs_a_name_and_takes_the_domain_matched_on() {
    let replace = Options { mode: Mode::Replace, match_on: MatchOn::DomainName, ..Options::default() };
    let domains = || -> (&str, ArrayRef) { ("domain_name", Arc::new(StringArray::from(vec!["a.com"]))) };
    let refused = refusals(table(vec![domains()], &replace));
    assert_eq!(refused, ["name is missing: mode \"replace\" sends accounts in full, name included"]);
    let names: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let by_domain = table(vec![domains(), ("name", Arc::clone(&names))], &replace).unwrap();
    assert_eq!(by_domain.fields(), [Field::DomainName, Field::Name]);
    let by_name = table(vec![("name", names)], &Options { match_on: MatchOn::Name, ..replace }).unwrap();
    assert_eq!(by_name.fields(), []);
}

#[test]
fn faults_come_in_the_order_of_the_rows() {
    let columns = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 0, 3])) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec!["#N/A", "b", "#REF!"]))),
    ];
    let table = table(columns, &Options::default()).unwrap();
    assert_eq!(table.faults().iter().map(|fault| fault.row).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_row_may_leave_a_column_out() {
    let mut builder = Builder::new(&Options { nulls: Nulls::Clear, ..Options::default() });
    for (id, city) in [(1, Some(Given::Text("a"))), (2, None), (3, Some(Given::Empty)), (4, None)] {
        let column = builder.column("id").unwrap();
        builder.push(column, Given::Number(Number::Integer(id), "int")).unwrap();
        if let Some(city) = city {
            let column = builder.column("city").unwrap();
            builder.push(column, city).unwrap();
        }
        builder.end_row();
    }
    let table = builder.finish(None).unwrap();
    let cities: Vec<_> = (0..4).map(|row| table.row(row).next().map(|(_, cell)| cell)).collect();
    assert_eq!(cities, [Some(Cell::Text("a")), None, Some(Cell::Empty), None]);
}

#[test]
fn a_cell_of_a_wrong_type_is_a_fault_of_its_row_unless_all_are() {
    let built = |cells: &[Given<'_>]| {
        let mut builder = Builder::new(&Options::default());
        let (id, phone) = (builder.column("id").unwrap(), builder.column("phone").unwrap());
        for (number, cell) in (1..).zip(cells) {
            builder.push(id, Given::Number(Number::Integer(number), "int")).unwrap();
            builder.push(phone, *cell).unwrap();
            builder.end_row();
        }
        builder.finish(None)
    };
    let number = Given::Number(Number::Integer(5), "int");
    let mixed = built(&[Given::Text("0123"), number, Given::HalfText, Given::Other("bool")]).unwrap();
    assert_eq!(
        messages(&mixed),
        [
            "phone in row 1 must be text, not int; read the source again as text: a CSV file with dtype=str, because \
                astype(str) keeps the damage; in an Excel file, correct the cells",
            "phone in row 2 must be valid Unicode: it contains a lone surrogate",
            "phone in row 3 must be text, not bool"
        ]
    );
    let refused = refusals(built(&[Given::Empty, number]));
    assert!(refused[0].starts_with("phone must be text, not int, first in row 1; read the source"), "{refused:?}");
    let quoted = refusals(built(&[Given::Number(Number::Integer(5), "number")]));
    assert_eq!(quoted, ["phone must be text, not number, first in row 0; write it in quotes"]);
}

#[test]
fn a_table_without_columns_is_empty() {
    let table = Builder::new(&Options { mode: Mode::Replace, ..Options::default() }).finish(None).unwrap();
    assert_eq!((table.len(), table.is_empty(), table.key(0)), (0, true, Key::Missing));
}

#[test]
fn a_csv_file_is_a_table() {
    let path = file("good.csv", "\u{feff}\"id\",city,notes\r\n1,\"a \"\"b\"\"\nc\",x\r\n\r\n2,,y\r\n3,nan,z");
    let options = Options { ignore: vec!["notes".to_owned()], ..Options::default() };
    let table = Table::from_csv(&path, &options).unwrap();
    let rows: Vec<_> = (0..table.len()).map(|row| (table.key(row), shown(table.row(row).next().unwrap().1))).collect();
    let row = |id, city: Option<&str>| (Key::Id(id), city.map(ToOwned::to_owned));
    assert_eq!(rows, [row(1, Some("a \"b\"\nc")), row(2, None), row(3, Some("nan"))]);
    assert_eq!(table.description(), "good.csv");
    let tabs = Table::from_csv(&file("good.TSV", "id\tcity\n1\ta,b\n"), &Options::default()).unwrap();
    assert_eq!(tabs.row(0).next().unwrap().1, Cell::Text("a,b"));
}

#[test]
fn a_record_may_have_names_of_columns_as_values() {
    let by_name = Options { match_on: MatchOn::Name, ..Options::default() };
    for content in ["name,city\nCity,\nCity,City\n", "name,city,state\nState,City,\n", "name,city\nName,Oslo\n"] {
        assert!(Table::from_csv(&file("names.csv", content), &by_name).is_ok(), "{content}");
    }
}

#[test]
fn what_is_wrong_in_a_csv_file_is_told_with_its_line() {
    let wrong = |name: &str, content: &[u8]| {
        Table::from_csv(&file(name, content), &Options::default()).unwrap_err().to_string()
    };
    let start = |name| format!("{name} refused before any request: ");
    assert_eq!(
        wrong("ragged.csv", b"id,city\n1,\"a\nb\"\n2,a,b\n"),
        start("ragged.csv") + "line 4 has 3 fields, but the first line has 2"
    );
    let again = "names the columns again, so two files were probably joined; if the columns below it have the same \
        order, remove this line, otherwise make a plan of each file";
    for (content, line) in [
        ("id,city,state\n1,a,b\nid,city,state\n2,c,d\n", 3),
        ("id,city,state\n1,A,S1\nid,state,city\n2,S2,B\n", 3),
        ("id,city,state\n1,\"a\nb\",c\n\nID,City , STATE\n", 5),
        ("id,city,state\nid,city,\n", 2),
        ("id,city,\n1,a,\nid,city,\n", 3),
        ("id\n1\nid\n", 3),
    ] {
        assert_eq!(wrong("joined.csv", content.as_bytes()), start("joined.csv") + &format!("line {line} {again}"));
    }
    assert_eq!(
        wrong("open.csv", b"id,city\n1,a\n2,\"b\n3,c\n"),
        start("open.csv") + "line 3 opens a quote that is never closed"
    );
    assert_eq!(
        wrong("latin.csv", b"id,city\n1,a\n2,\xe6\n"),
        start("latin.csv")
            + "line 3 is not valid UTF-8; save the file as UTF-8, or set its encoding: encoding=\"windows-1252\" if it \
               comes from Western Europe, \"windows-1250\" from Central Europe, \"windows-1251\" for Cyrillic, \
               \"macintosh\" from an old Mac; a file from MS-DOS must be saved as UTF-8"
    );
    let utf_16: Vec<u8> = "id,city\r\n1,Oslo\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(
        wrong("utf-16.csv", &utf_16),
        start("utf-16.csv")
            + "line 1 contains NUL characters; if the file is UTF-16, set encoding=\"utf-16le\" or \
               encoding=\"utf-16be\", otherwise save it as UTF-8"
    );
    let options = Options { encoding: Some("utf-16le".to_owned()), ..Options::default() };
    assert_eq!(Table::from_csv(&file("utf-16.csv", &utf_16), &options).unwrap().len(), 1);
    // The mark tells the order of the bytes, as in Python.
    let utf_16 = Options { encoding: Some("UTF_16".to_owned()), ..Options::default() };
    for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let marked: Vec<u8> = "\u{feff}id,city\r\n1,Oslo\r\n".encode_utf16().flat_map(to_bytes).collect();
        assert_eq!(Table::from_csv(&file("marked.csv", &marked), &utf_16).unwrap().len(), 1);
    }
    let latin = Options { encoding: Some("windows-1252".to_owned()), ..Options::default() };
    for named in ["shift_jis", "gbk", "big5", "euc-kr", "euc-jp", "gb18030"] {
        let options = Options { encoding: Some(named.to_owned()), ..Options::default() };
        for city in ["東京", "Tromsø", "서울"] {
            let read = Table::from_csv(&file("utf-8.csv", format!("id,city\n1,{city}\n")), &options);
            let error = read.unwrap_err().to_string();
            assert!(error.contains("the file is valid UTF-8, but encoding= says"), "{named} {city}: {error}");
        }
    }
    let read = |name, content: &[u8]| Table::from_csv(&file(name, content), &latin).map_err(|error| error.to_string());
    assert_eq!(
        read("utf-8.csv", "id,city\n1,Malmö\n".as_bytes()).unwrap_err(),
        start("utf-8.csv") + "the file is valid UTF-8, but encoding= says windows-1252; remove encoding="
    );
    assert_eq!(read("latin.csv", b"id,city\n1,Malm\xf6\n").unwrap().row(0).next().unwrap().1, Cell::Text("Malmö"));
    assert_eq!(read("ascii.csv", b"id,city\n1,Oslo\n").unwrap().row(0).next().unwrap().1, Cell::Text("Oslo"));
    assert_eq!(wrong("empty.csv", b""), start("empty.csv") + "the file is empty; its first line must name the columns");
    assert_eq!(
        wrong("columns.csv", b"id,citty\n"),
        start("columns.csv")
            + "column \"citty\" is not a field of a contact account; did you mean city? Otherwise, list it in ignore="
    );
    let missing = Table::from_csv(Path::new("missing.csv"), &Options::default()).unwrap_err();
    assert!(
        matches!(&missing, TableError::Io { error, .. } if error.kind() == std::io::ErrorKind::NotFound),
        "{missing}"
    );
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_and_not_waited_for_and_a_link_to_a_file_is_followed() {
    let read = |path: &Path| match path.extension() {
        Some(ending) if ending == "csv" => Table::from_csv(path, &Options::default()),
        _ => Table::from_json_lines(path, &Options::default()),
    };
    for (name, content) in [("linked.csv", "id,city\n1,Oslo\n"), ("linked.jsonl", "{\"id\": 1, \"city\": \"Oslo\"}\n")]
    {
        let target = file(name, content);
        let (link, fifo) = (target.with_file_name(format!("to-{name}")), target.with_file_name(format!("fifo-{name}")));
        std::os::unix::fs::symlink(&*target, &link).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert_eq!(read(&link).unwrap().len(), 1);
        let refused = read(&fifo).unwrap_err().to_string();
        assert!(refused.ends_with("cannot be read: it is not a regular file"), "{refused}");
    }
}

#[test]
fn a_file_of_json_lines_is_a_table() {
    let content = "\u{feff}{\"id\":1,\"city\":\"\\u00e6\"}\n\n{\"city\":null,\"id\":2.0}\r\n\
        {\"id\":\"3\"}\n{\"id\":4,\"city\":\"nan\",\"notes\":[1,{}]}";
    let options = Options { ignore: vec!["notes".to_owned()], ..Options::default() };
    let table = Table::from_json_lines(&file("good.jsonl", content), &options).unwrap();
    let rows: Vec<_> =
        (0..table.len()).map(|row| (table.key(row), table.row(row).next().map(|(_, cell)| cell))).collect();
    let row = |id, cell| (Key::Id(id), cell);
    let (text, nan) = (Some(Cell::Text("æ")), Some(Cell::Text("nan")));
    assert_eq!(rows, [row(1, text), row(2, Some(Cell::Empty)), row(3, None), row(4, nan)]);
}

#[test]
fn what_is_wrong_in_json_lines_is_told_with_its_line() {
    let wrong = |line: &[u8]| {
        let content = [b"{\"id\":1}\n", line].concat();
        let error = Table::from_json_lines(&file("wrong.jsonl", content), &Options::default()).unwrap_err().to_string();
        error.trim_start_matches("wrong.jsonl refused before any request: line 2 ").to_owned()
    };
    assert_eq!(wrong(b"{\"id\":1,\"id\":2}"), "names id twice");
    assert_eq!(wrong(b"[1]"), "is not a JSON object");
    assert_eq!(wrong(b"{\"id\":1"), "is not valid JSON, at column 7");
    assert_eq!(wrong(b"{\"id\":1} {}"), "is not valid JSON, at column 10");
    let deep = [&b"{\"id\":1,\"city\":"[..], &b"[".repeat(10_000)].concat();
    assert_eq!(wrong(&deep), "is not valid JSON, at column 10015");
    assert_eq!(wrong(b"{\"id\":NaN}"), "is not valid JSON, at column 7");
    assert_eq!(wrong(b"{\"id\":\"\xff\"}"), "is not valid UTF-8; save the file as UTF-8");
}

#[test]
fn numbers_of_json_are_integers_where_they_mean_one() {
    let content =
        "{\"id\":18446744073709551615}\n{\"id\":1e30}\n{\"id\":1.5}\n{\"id\":true}\n{\"id\":-3}\n{\"id\":5}\n";
    let table = Table::from_json_lines(&file("numbers.jsonl", content), &Options::default()).unwrap();
    assert_eq!(
        messages(&table),
        [
            "id in row 0 must be a positive integer below 2**63",
            "id in row 1 must be a positive integer below 2**63",
            "id in row 2 must be a whole number",
            "id in row 3 must be a positive integer, not boolean",
            "id in row 4 must be a positive integer"
        ]
    );
}

#[test]
fn a_number_of_json_is_not_rounded_to_an_integer() {
    let numbers = ["0.99999999999999999999", "2.0000000000000000001", "9007199254740993.0", "1e400", "1e-400"];
    let content = numbers.map(|number| format!("{{\"id\":{number}}}")).join("\n");
    let table = Table::from_json_lines(&file("exact.jsonl", content), &Options::default()).unwrap();
    assert_eq!(
        messages(&table),
        [
            "id in row 0 must be a whole number",
            "id in row 1 must be a whole number",
            "id in row 2 is a float too large to be exact; use integers or text",
            "id in row 3 must be a positive integer below 2**63",
            "id in row 4 must be a whole number",
        ]
    );
}

#[test]
fn half_a_surrogate_pair_in_json_is_a_fault_of_its_row_and_not_read_in_a_column_that_is_ignored() {
    let options = Options { ignore: vec!["notes".to_owned()], ..Options::default() };
    let content =
        "{\"id\":1,\"city\":\"cut \\ud83d\",\"notes\":1e400}\n{\"id\":2,\"city\":\"Oslo\",\"notes\":\"\\ud83d\"}\n";
    let table = Table::from_json_lines(&file("half.jsonl", content), &options).unwrap();
    assert_eq!(messages(&table), ["city in row 0 must be valid Unicode: it contains a lone surrogate"]);
    assert_eq!(table.row(1).next(), Some((Field::City, Cell::Text("Oslo"))));
}

#[test]
fn a_text_with_an_extension_type_is_not_read_as_text() {
    for name in ["arrow.json", "arrow.opaque"] {
        let read = |column: &str, texts: Vec<Option<&str>>| {
            let metadata = HashMap::from([("ARROW:extension:name".to_owned(), name.to_owned())]);
            let values = arrow_schema::Field::new(column, DataType::Utf8, true).with_metadata(metadata);
            let key = arrow_schema::Field::new("id", DataType::Int64, false);
            let schema = Arc::new(Schema::new(vec![key, values]));
            let columns: Vec<ArrayRef> =
                vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(StringArray::from(texts))];
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
            Table::from_batches(&schema, vec![batch], &Options::default())
        };
        let refused = refusals(read("city", vec![None, Some("\"Oslo\"")]));
        assert_eq!(refused.len(), 1);
        assert!(refused[0].starts_with(&format!("city must be text, not {name}, first in row 1")), "{refused:?}");
        assert_eq!(refusals(read("owner_user_id", vec![None, Some("7")])).len(), 1);
        assert_eq!(read("city", vec![None, None]).unwrap().row(0).next(), Some((Field::City, Cell::Empty)));
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_table_or_an_error(content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60)) {
        for start in [&b""[..], b"id,city\n", b"\xff\xfe", b"sep=;\n", b"{\"id\":1}\n"] {
            let content = [start, &content].concat();
            let (csv, jsonl) = (file("any.csv", &content), file("any.jsonl", &content));
            let options = Options::default();
            for table in [Table::from_csv(&csv, &options), Table::from_json_lines(&jsonl, &options)]
                .into_iter()
                .flatten()
            {
                for row in 0..table.len() {
                    table.row(row).for_each(drop);
                    assert!(table.key(row) != Key::Missing || table.faults().iter().any(|fault| fault.row == row));
                }
            }
        }
    }
}
