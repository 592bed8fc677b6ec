//! Missing values: null, not-a-number, the empty text, and the declared spellings.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, UInt8Array};
use rekindle_domain::dataset::ReadOptions;

use crate::support::{csv_of, parquet_of, read, reading};

/// Texts of a column, or spellings.
type Texts = &'static [&'static str];

/// A CSV column, what is declared missing, its type and its values.
const COLUMNS: [(Texts, Texts, &str, Texts); 12] = [
    (&["1", ""], &[], "Int64", &["1", "-"]),
    (&["1", "nan"], &[], "Float64", &["1.0", "-"]),
    (&["a", ""], &[], "Utf8", &["a", "-"]),
    (&["", ""], &[], "Utf8", &["-", "-"]),
    (&["1", "NA"], &[], "Utf8", &["1", "NA"]),
    (&["1", "NA", "n/a"], &["NA", "n/a"], "Int64", &["1", "-", "-"]),
    (&["1.5", "-999"], &["-999"], "Float64", &["1.5", "-"]),
    // A number is declared, however it is spelled.
    (&["1.5", "-999.0"], &["-999"], "Float64", &["1.5", "-"]),
    (&["1", "-999"], &["-999.0"], "Int64", &["1", "-999"]),
    (&["a", "-999", "-999.0"], &["-999"], "Utf8", &["a", "-", "-999.0"]),
    (&["2024-03-01", "unknown"], &["unknown"], "Timestamp(ms)", &["2024-03-01T00:00:00Z", "-"]),
    (&["true", "?"], &["?"], "Boolean", &["true", "-"]),
];

#[test]
fn missing_values_of_csv() {
    for (values, missing, data_type, read_as) in COLUMNS {
        let column = read(&csv_of(values), &reading(missing)).unwrap();
        assert_eq!(
            column.v(),
            (data_type, read_as.iter().map(ToString::to_string).collect()),
            "{values:?} {missing:?}"
        );
    }
}

#[test]
fn missing_values_of_parquet_have_the_digest_of_csv() {
    let none: [&str; 0] = [];
    for (array, values, missing) in [
        (Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN), None])) as ArrayRef, ["0.5", "", ""], &none[..]),
        (Arc::new(StringArray::from(vec![Some("a"), Some(""), None])), ["a", "", ""], &none),
        (Arc::new(StringArray::from(vec!["a", "NA", "-"])), ["a", "NA", "-"], &["NA", "-"]),
        (Arc::new(Int64Array::from(vec![7, -999, 8])), ["7", "-999", "8"], &["-999", "x"]),
        (Arc::new(UInt8Array::from(vec![7, 255, 8])), ["7", "255", "8"], &["255"]),
        (Arc::new(Float64Array::from(vec![0.5, -999.0, 1e9])), ["0.5", "-999", "1000000000.0"], &["-999", "1e9"]),
    ] {
        let of_parquet = read(&parquet_of(array), &reading(missing)).unwrap();
        let of_csv = read(&csv_of(&values), &reading(missing)).unwrap();
        assert_eq!((of_parquet.v(), of_parquet.content), (of_csv.v(), of_csv.content), "{values:?} {missing:?}");
        assert!(of_csv.v().1.contains(&"-".to_owned()));
    }
}

#[test]
fn values_are_not_missing_unless_they_are_declared() {
    let read = |values: &[&str]| read(&csv_of(values), &ReadOptions::default()).unwrap().v().1;
    assert_eq!(read(&["a", "NA", "null", "None", "?", " "]), ["a", "NA", "null", "None", "?", " "]);
}
