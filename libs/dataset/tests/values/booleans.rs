//! Booleans: `true` and `false` in any case.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use rekindle_domain::{ColumnKind, dataset::ReadOptions};

use crate::support::{csv_of, parquet_of, read, read_in_kind, reading};

/// Columns, their type, and their values.
const COLUMNS: [(&[&str], &str, &[&str]); 6] = [
    (&["true", "False", "TRUE"], "Boolean", &["true", "false", "true"]),
    (&["true", "", "false"], "Boolean", &["true", "-", "false"]),
    (&["true", "1"], "Utf8", &["true", "1"]),
    (&["yes", "no"], "Utf8", &["yes", "no"]),
    (&["t", "f"], "Utf8", &["t", "f"]),
    (&["0", "1"], "Int64", &["0", "1"]),
];

#[test]
fn columns_of_csv_are_booleans_if_every_value_is() {
    for (values, data_type, read_as) in COLUMNS {
        let column = read(&csv_of(values), &ReadOptions::default()).unwrap();
        assert_eq!(column.v(), (data_type, read_as.iter().map(ToString::to_string).collect()), "{values:?}");
    }
}

#[test]
fn booleans_of_parquet_have_the_digest_of_csv() {
    let array = BooleanArray::from(vec![Some(true), None, Some(false)]);
    let of_parquet = read(&parquet_of(Arc::new(array) as ArrayRef), &reading(&["none"])).unwrap();
    let of_csv = read(&csv_of(&["True", "none", "false"]), &reading(&["none"])).unwrap();
    assert_eq!(of_parquet.content, of_csv.content);
}

#[test]
fn zeros_and_ones_are_booleans_where_they_are_declared() {
    let declared = read_in_kind(&csv_of(&["0", "1", ""]), ColumnKind::Boolean).unwrap();
    assert_eq!(declared.v(), ("Boolean", ["false", "true", "-"].map(str::to_owned).to_vec()));
    let refused = read_in_kind(&csv_of(&["0", "2"]), ColumnKind::Boolean).unwrap_err();
    assert!(refused.contains("row 1: 2 cannot be converted to Boolean"), "{refused}");
}
