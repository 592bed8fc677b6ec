//! Numbers: 64-bit integers where every value is one, else 64-bit floating-point numbers.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, Decimal128Array, Decimal256Array, Float32Array, Float64Array, Int16Array, Int64Array, StringArray,
        UInt64Array,
    },
    datatypes::i256,
};
use proptest::prelude::*;
use rekindle_domain::{ColumnKind, dataset::ReadOptions};

use crate::support::{csv_of, parquet_of, read, read_in_kind, reading};

/// Columns, their type, and their values.
const COLUMNS: [(&[&str], &str, &[&str]); 16] = [
    (&["1", "-3", "+5"], "Int64", &["1", "-3", "5"]),
    (&["9223372036854775807"], "Int64", &["9223372036854775807"]),
    (&["1", "", "2"], "Int64", &["1", "-", "2"]),
    (&["1", "2.5"], "Float64", &["1.0", "2.5"]),
    (&["1.0", "1e-3"], "Float64", &["1.0", "0.001"]),
    (&["1.0", "nan", "NaN"], "Float64", &["1.0", "-", "-"]),
    (&["-0", "0"], "Int64", &["0", "0"]),
    // Whole numbers that a float would round are not numbers beside fractions.
    (&["9007199254740993", "0.5"], "Utf8", &["9007199254740993", "0.5"]),
    (&["9007199254740993", "1"], "Int64", &["9007199254740993", "1"]),
    (&["12345678901234567890", "1"], "Utf8", &["12345678901234567890", "1"]),
    (&["1e400", "1"], "Utf8", &["1e400", "1"]),
    // Codes.
    (&["007", "1"], "Utf8", &["007", "1"]),
    (&["01234", "99999"], "Utf8", &["01234", "99999"]),
    // Spelled otherwise.
    (&[" 1", "2"], "Utf8", &[" 1", "2"]),
    (&["1,5", "2"], "Utf8", &["1,5", "2"]),
    (&["0x10", "1"], "Utf8", &["0x10", "1"]),
];

/// A value beside numbers, and the note on it.
const NOTES: [(&str, &str); 20] = [
    ("NA", "since it has the value \"NA\"; if that stands for a missing value, use --missing"),
    ("?", "since it has the value \"?\""),
    ("$12.50", "numbers with a currency sign, such as \"$12.50\""),
    ("-€1,200", "numbers with a currency sign"),
    ("1.200,50 €", "numbers with a currency sign"),
    ("12 %", "numbers with a percent sign"),
    ("12.5%", "numbers with a percent sign"),
    ("1,234", "numbers with separators of thousands"),
    ("1,234,567.89", "numbers with separators of thousands"),
    ("1.234.567,89", "numbers with separators of thousands"),
    ("1 234", "numbers with separators of thousands"),
    ("-1\u{a0}234,5", "numbers with separators of thousands"),
    ("1'234", "numbers with separators of thousands"),
    ("0,5", "numbers with a decimal comma"),
    ("-12,75", "numbers with a decimal comma"),
    (" 12", "numbers with space around them"),
    ("12.5 ", "numbers with space around them"),
    ("007", "codes, such as \"007\""),
    ("12345678901234567890", "codes, such as \"12345678901234567890\""),
    ("A17", "since it has the value \"A17\""),
];

#[test]
fn columns_of_csv_are_numbers_if_every_value_is() {
    for (values, data_type, read_as) in COLUMNS {
        let column = read(&csv_of(values), &ReadOptions::default()).unwrap();
        assert_eq!(column.v(), (data_type, read_as.iter().map(ToString::to_string).collect()), "{values:?}");
    }
}

#[test]
fn a_value_that_keeps_a_column_from_being_numeric_is_told() {
    for (value, words) in NOTES {
        let mut values = vec!["1.5"; 20];
        values.insert(7, value);
        let column = read(&csv_of(&values), &ReadOptions::default()).unwrap();
        assert_eq!(column.v().0, "Utf8");
        assert!(column.note().starts_with("\"v\" is read as text"), "{value}: {}", column.note());
        assert!(column.note().contains(words), "{value}: {}", column.note());
        let spelled = read(&csv_of(&[value; 3]), &ReadOptions::default()).unwrap();
        assert_eq!(words.starts_with("since"), spelled.note().is_empty(), "{value}: {}", spelled.note());
    }
    for columns in [&["1.5", "2"][..], &["a", "b", "1", "2", "3"], &["a-1", "$"], &["%", "x"]] {
        assert_eq!(read(&csv_of(columns), &ReadOptions::default()).unwrap().note(), "");
    }
}

#[test]
fn numbers_of_parquet_have_the_digest_of_csv() {
    let decimals = Decimal128Array::from(vec![Some(150), Some(-25), None]).with_precision_and_scale(9, 2).unwrap();
    let whole = Decimal128Array::from(vec![Some(150), None]).with_precision_and_scale(18, 0).unwrap();
    // 2^53 + 1, and more digits than a float has.
    let long = Decimal128Array::from(vec![9_007_199_254_740_993, 123_456_789_012_345_678_901_234_567]);
    let long = long.with_precision_and_scale(38, 9).unwrap();
    let huge = Decimal256Array::from(vec![i256::from_string("123456789012345678901234567890123456789012345").unwrap()]);
    let huge = huge.with_precision_and_scale(60, 20).unwrap();
    for (array, values) in [
        (Arc::new(Int16Array::from(vec![Some(1), None, Some(-3)])) as ArrayRef, &["1", "", "-3"][..]),
        (Arc::new(UInt64Array::from(vec![9_223_372_036_854_775_807])), &["9223372036854775807"]),
        (Arc::new(Float32Array::from(vec![0.5, f32::NAN])), &["0.5", "nan"]),
        (Arc::new(Float64Array::from(vec![Some(0.1), None, Some(-0.0)])), &["0.1", "", "-0.0"]),
        (Arc::new(decimals), &["1.50", "-0.25", ""]),
        (Arc::new(whole), &["150", ""]),
        (Arc::new(long), &["9007199.254740993", "123456789012345678.901234567"]),
        (Arc::new(huge), &["1234567890123456789012345.67890123456789012345"]),
    ] {
        let of_parquet = read(&parquet_of(array), &ReadOptions::default()).unwrap();
        let of_csv = read(&csv_of(values), &ReadOptions::default()).unwrap();
        assert_eq!((of_parquet.v(), of_parquet.content), (of_csv.v(), of_csv.content), "{values:?}");
    }
}

#[test]
fn decimals_with_more_digits_than_a_number_are_told() {
    let decimal = |precision, scale| {
        let array = Decimal128Array::from(vec![1]).with_precision_and_scale(precision, scale).unwrap();
        read(&parquet_of(Arc::new(array) as ArrayRef), &ReadOptions::default()).unwrap()
    };
    let wide = decimal(38, 10).note();
    assert!(wide.contains("\"v\" has the type Decimal128(38, 10)") && wide.contains("15 digits"), "{wide}");
    assert!(decimal(19, 0).note().contains("2^53"));
    assert_eq!((decimal(18, 0).note(), decimal(15, 4).note()), (String::new(), String::new()));
    assert_eq!((decimal(18, 0).v().0, decimal(19, 0).v().0), ("Int64", "Float64"));
}

/// A request with an infinite number is refused, and so is a file.
#[test]
fn infinity_is_refused_unless_it_is_declared_missing() {
    let floats = Float64Array::from(vec![0.5, f64::NEG_INFINITY, f64::INFINITY]);
    let parquet = parquet_of(Arc::new(floats) as ArrayRef);
    for file in [csv_of(&["0.5", "-inf", "inf"]), csv_of(&["0.5", "-Infinity", "+INF"]), parquet.clone()] {
        let refused = read(&file, &ReadOptions::default()).unwrap_err();
        assert!(refused.starts_with("source 0: column \"v\", row 1: -inf is not a finite number"), "{refused}");
        let half = read(&file, &reading(&["-inf"])).unwrap_err();
        assert!(half.contains("row 2: inf is not a finite number; declare it as missing (inf)"), "{half}");
        let declared = read(&file, &reading(&["-inf", "inf"])).unwrap();
        assert_eq!(declared.v(), ("Float64", ["0.5", "-", "-"].map(str::to_owned).to_vec()));
    }
    let text = read_in_kind(&csv_of(&["inf", "x"]), ColumnKind::Categorical).unwrap();
    assert_eq!(text.v().1, ["inf", "x"], "text is text");
}

#[test]
fn what_a_number_cannot_hold_is_refused_by_row() {
    let refused =
        read(&parquet_of(Arc::new(UInt64Array::from(vec![1, u64::MAX])) as ArrayRef), &ReadOptions::default());
    let refused = refused.unwrap_err();
    assert!(refused.contains("\"v\", row 1: 18446744073709551615 cannot be converted to Int64"), "{refused}");
    let texts = Arc::new(StringArray::from(vec!["007", "1"])) as ArrayRef;
    for file in [csv_of(&["007", "1"]), parquet_of(texts)] {
        assert_eq!(read_in_kind(&file, ColumnKind::Numeric).unwrap().v(), ("Int64", vec!["7".into(), "1".into()]));
    }
    let refused = read_in_kind(&csv_of(&["1", "NA"]), ColumnKind::Numeric).unwrap_err();
    assert!(refused.contains("row 1: NA cannot be converted to Float64"), "{refused}");
}

proptest! {
    /// A decimal is the float nearest to its digits.
    #[test]
    fn decimals_are_read_as_their_text_is(digits in any::<i64>(), scale in 0_i8..=18) {
        let decimal = Decimal128Array::from(vec![i128::from(digits)]).with_precision_and_scale(38, scale).unwrap();
        let text = decimal.value_as_string(0);
        let of_parquet = read(&parquet_of(Arc::new(decimal) as ArrayRef), &ReadOptions::default()).unwrap();
        let expected = text.parse::<f64>().unwrap();
        let floats = Arc::new(Float64Array::from(vec![expected])) as ArrayRef;
        prop_assert_eq!(of_parquet.content, read(&parquet_of(floats), &ReadOptions::default()).unwrap().content);
    }

    #[test]
    fn every_integer_is_kept(values in prop::collection::vec(any::<i64>(), 1..20)) {
        let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let of_csv = read(&csv_of(&texts), &ReadOptions::default()).unwrap();
        let of_parquet = read(&parquet_of(Arc::new(Int64Array::from(values)) as ArrayRef), &ReadOptions::default()).unwrap();
        prop_assert_eq!(of_csv.content, of_parquet.content);
    }
}
