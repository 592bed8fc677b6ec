//! Texts: what no other kind holds, as it is spelled. Text is text.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, DictionaryArray, LargeStringArray, StringArray, StringViewArray},
    datatypes::Int8Type,
};
use rekindle_domain::{ColumnKind, dataset::ReadOptions};

use crate::support::{csv, csv_of, parquet_of, read, read_in_kind, register};

/// Texts that look like other values.
const SPELLINGS: [&str; 16] = [
    "01",
    "007",
    "1.0",
    "1e3",
    "+1",
    "-0",
    "true",
    "False",
    "nan",
    "inf",
    "NULL",
    "2024-03-01",
    " x ",
    "a\nb",
    "a,b",
    "\"é\"",
];

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[test]
fn texts_keep_their_spelling_in_both_formats() {
    // One word makes the column text.
    let values = [&SPELLINGS[..], &["word"]].concat();
    let of_csv = read(&csv_of(&values), &ReadOptions::default()).unwrap();
    assert_eq!(of_csv.v(), ("Utf8", values.iter().map(ToString::to_string).collect()));
    assert_eq!(read(&parquet_of(texts(&values)), &ReadOptions::default()).unwrap().content, of_csv.content);
    for spelling in SPELLINGS {
        let of_csv = read_in_kind(&csv_of(&[spelling, spelling]), ColumnKind::Categorical).unwrap();
        assert_eq!(of_csv.v(), ("Utf8", vec![spelling.to_owned(); 2]));
        let of_parquet = read(&parquet_of(texts(&[spelling; 2])), &ReadOptions::default()).unwrap();
        assert_eq!(of_parquet.content, of_csv.content, "{spelling:?}");
    }
}

#[test]
fn every_layout_of_text_in_parquet_is_the_same() {
    let values = ["jfk", "lga", "jfk"];
    let expected = read(&csv_of(&values), &ReadOptions::default()).unwrap().content;
    let dictionary: DictionaryArray<Int8Type> = values.into_iter().collect();
    for array in [
        texts(&values),
        Arc::new(LargeStringArray::from(values.to_vec())),
        Arc::new(StringViewArray::from(values.to_vec())),
        Arc::new(dictionary),
    ] {
        assert_eq!(read(&parquet_of(array), &ReadOptions::default()).unwrap().content, expected);
    }
}

#[test]
fn codes_stay_text_beside_a_file_of_numbers() {
    for files in [[csv("v\nA1\n007\n"), csv("v\n1.0\n1e3\n")], [csv("v\n1.0\n1e3\n"), csv("v\nA1\n007\n")]] {
        let mut values = register(&files, &crate::support::options()).unwrap().v().1;
        values.sort();
        assert_eq!(values, ["007", "1.0", "1e3", "A1"]);
    }
}

#[test]
fn columns_without_a_name_are_named_by_their_position_and_told() {
    let read = |text: &str| read(&csv(text), &ReadOptions::default()).unwrap();
    let unnamed = read(",a\n0,x\n1,y\n");
    assert_eq!(unnamed.table.schema.names().collect::<Vec<_>>(), ["column 1", "a"]);
    assert_eq!(unnamed.column("column 1").0, "Int64");
    assert!(unnamed.note().contains("\"column 1\" has no name of its own, as an index of rows"), "{}", unnamed.note());
    assert!(read("Unnamed: 0,a\n0,x\n").note().contains("\"Unnamed: 0\" has no name of its own"));
    assert_eq!(read("a,,c\n1,2,3\n").table.schema.names().collect::<Vec<_>>(), ["a", "column 2", "c"]);
    let taken = crate::support::read(&csv("column 2,\n1,2\n"), &ReadOptions::default()).unwrap_err();
    assert!(taken.contains("columns 1 and 2 are both named \"column 2\""), "{taken}");
}

#[test]
fn a_file_with_another_delimiter_is_refused_unless_it_is_declared() {
    let file = csv("v;other\n1,5;x\n");
    let refused = read(&file, &ReadOptions::default()).unwrap_err();
    assert!(
        refused.contains("the header \"v;other\" is one field; if ';' is the field delimiter, set it"),
        "{refused}"
    );
    let declared = read(&file, &ReadOptions { separator: b';', ..ReadOptions::default() }).unwrap();
    assert_eq!(declared.v(), ("Utf8", vec!["1,5".to_owned()]));
    assert!(declared.note().contains("with a decimal comma"), "{}", declared.note());
}

#[test]
fn a_text_of_the_model_is_a_text_whatever_the_type_in_the_file() {
    let numbers: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![Some(7), None, Some(-1)]));
    let floats: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![Some(7.0), None, Some(0.5)]));
    for (values, expected) in [(numbers, ["7", "-1"]), (floats, ["7", "0.5"])] {
        let file = parquet_of(values);
        let is_text = |name: &str| name == "v";
        let (table, _) = rekindle_dataset::read_as(file.bytes, file.format, &ReadOptions::default(), is_text).unwrap();
        let column = arrow::array::AsArray::as_string::<i32>(table.column("v").unwrap()).clone();
        assert_eq!((column.iter().flatten().collect::<Vec<_>>(), column.is_null(1)), (expected.to_vec(), true));
    }
}
