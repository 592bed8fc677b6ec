//! CSV files: inferred types, and error messages.

use arrow::{array::AsArray as _, datatypes::Int64Type};
use bytes::Bytes;
use proptest::prelude::*;
use rekindle_dataset::{Error, Limits, Table, read_csv, read_csv_within};
use rekindle_domain::ColumnKind;

fn csv(text: &str) -> Result<Table, Error> {
    read_csv(Bytes::copy_from_slice(text.as_bytes()))
}

#[track_caller]
fn refusal(text: &str) -> String {
    csv(text).expect_err("it should be refused").to_string()
}

fn types(table: &Table) -> Vec<String> {
    table.schema.columns.iter().map(|column| rekindle_dataset::type_name(&column.data_type).to_owned()).collect()
}

#[test]
fn every_type_is_inferred_from_all_rows() {
    let text = "i,f,b,t,s,late_text\n\
                1,1.5,true,2013-01-01T10:00:00Z,x,1\n\
                ,,,,,2\n\
                -3,2,False,2013-01-01 11:00:00.250,\"y, z\",three\n";
    let table = csv(text).unwrap();
    assert_eq!(types(&table), ["Int64", "Float64", "Boolean", "Timestamp(ms)", "Utf8", "Utf8"]);
    assert!(table.schema.columns[..5].iter().all(|column| column.nullable));
    assert!(!table.schema.columns[5].nullable);
    assert_eq!(table.schema.column("b").unwrap().kind, ColumnKind::Boolean);
    assert_eq!(table.column("s").unwrap().as_string::<i32>().value(2), "y, z");
    let times = table.slice(2, 1).times("t").unwrap().to_vec();
    assert_eq!(times, [1_357_038_000_250]);
}

#[test]
fn the_last_of_many_rows_can_change_the_type() {
    let mut text = "n\n".to_owned() + &"1\n".repeat(20_000);
    text.push_str("one\n");
    assert_eq!(types(&csv(&text).unwrap()), ["Utf8"]);
}

#[test]
fn line_ends_quotes_and_a_byte_order_mark_are_parsed() {
    let table = csv("\u{feff}a,\"b \"\"quoted\"\"\"\r\n1,\"two\r\nlines\"\r\n2,\"\"\r\n\r\n\n").unwrap();
    assert_eq!(table.schema.names().collect::<Vec<_>>(), ["a", "b \"quoted\""]);
    assert_eq!(table.rows(), 2);
    assert_eq!(table.column("a").unwrap().as_primitive::<Int64Type>().values(), &[1, 2]);
    assert_eq!(table.column("b \"quoted\"").unwrap().as_string::<i32>().value(0), "two\r\nlines");
    assert!(table.schema.columns[1].nullable, "an empty field is missing, quoted or not");
}

#[test]
fn a_trailing_comma_is_a_missing_last_field() {
    let table = csv("a,b\n1,").unwrap();
    assert_eq!((table.rows(), table.schema.columns[1].nullable), (1, true));
}

#[test]
fn malformed_files_are_refused_with_line_and_remedy() {
    for (text, words) in [
        ("", vec!["no content"]),
        ("\n\n  \n", vec!["no content"]),
        ("a,b\n", vec!["no rows"]),
        ("a,b,a\n1,2,3\n", vec!["columns 1 and 3", "\"a\"", "rename"]),
        ("a;b\n1;2\n", vec!["\"a;b\" is one field", "';'"]),
        ("a, b\n1,2\n", vec!["column 2", "\" b\"", "remove the space"]),
        ("a,b\n1,2\n3\n", vec!["line 3", "1 fields", "has 2"]),
        ("a,b\n\"x\ny\",2\n1,2,3\n", vec!["line 4", "3 fields"]),
        ("a,b\n1,2\n\n3,4\n", vec!["line 3", "1 fields"]),
        ("a,b\n1,2\n3,x\"y\n", vec!["line 3, field 2", "quote inside"]),
        ("a,b\n1,\"x\"y\n", vec!["line 2, field 2", "after the closing quote"]),
        ("a,b\n1,2\n\"open,4\n5,6\n", vec!["line 3, field 1", "never ends"]),
    ] {
        let message = refusal(text);
        for word in words {
            assert!(message.contains(word), "{text:?}: {message}");
        }
    }
    let message = read_csv(Bytes::from_static(b"a\nok\n\xff\n")).unwrap_err().to_string();
    assert!(message.contains("line 3 is not UTF-8 (byte 5"), "{message}");
}

#[test]
fn errors_name_the_limit() {
    let text = Bytes::from_static(b"a,b\n1,2\n3,4\n");
    let within = |limits: Limits| read_csv_within(text.clone(), &limits).map_err(|error| error.to_string());
    let limits = Limits::default();
    assert!(within(Limits { rows: 2, ..limits }).is_ok());
    assert!(within(Limits { rows: 1, ..limits }).unwrap_err().contains("1 rows"));
    assert!(within(Limits { columns: 1, ..limits }).unwrap_err().contains("1 columns"));
    assert!(within(Limits { bytes: 11, ..limits }).unwrap_err().contains("11 bytes"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-c0-9,\"\r\n. é-]{0,60}") {
        if let Ok(table) = csv(&text) {
            prop_assert!(table.rows() > 0);
        }
    }

    #[test]
    fn quoted_text_is_unquoted(values in proptest::collection::vec("[a-c,\"\r\n é]{1,8}", 1..20)) {
        let lines: Vec<String> = values.iter().map(|v| format!("x,\"{}\"\n", v.replace('"', "\"\""))).collect();
        let table = csv(&format!("k,v\n{}", lines.concat())).unwrap();
        let column = table.column("v").unwrap().as_string::<i32>();
        prop_assert!(column.iter().map(Option::unwrap).eq(values.iter().map(String::as_str)));
    }
}
