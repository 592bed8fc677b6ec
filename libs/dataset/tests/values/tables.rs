//! Tables of every kind: as CSV, compressed or not, and as Parquet they are the same table, with the same digest and the same profile.

use std::{fmt::Write as _, io::Write as _, sync::Arc};

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use chrono::DateTime;
use proptest::prelude::*;
use rekindle_dataset::{Profiler, Scan, ScanOptions};
use rekindle_domain::dataset::{FileFormat, ReadOptions};

use crate::support::{File, csv, parquet, read};

/// A row: of every kind a value, or none.
#[derive(Debug, Clone)]
struct Row {
    whole: Option<i64>,
    number: Option<f64>,
    flag: Option<bool>,
    text: Option<String>,
    millis: Option<i64>,
    cents: Option<i64>,
}

fn row() -> impl Strategy<Value = Row> {
    let number =
        prop_oneof![8 => -1e9..1e9, 1 => any::<f64>().prop_filter("finite", |v| v.is_finite()), 1 => Just(f64::NAN)];
    let text = prop_oneof!["[a-c]{1,3}", "[a-zé\",\n ]{1,12}", Just("007".to_owned()), Just("true".to_owned())];
    (
        prop::option::of(any::<i64>()),
        prop::option::of(number),
        prop::option::of(any::<bool>()),
        prop::option::of(text),
        prop::option::of(-62_135_596_800_000..=253_402_300_799_999_i64),
        prop::option::of(any::<i64>()),
    )
        .prop_map(|(whole, number, flag, text, millis, cents)| Row { whole, number, flag, text, millis, cents })
}

/// The first row has a value of every kind, which decides the types of CSV columns.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let first = Row {
        whole: Some(1),
        number: Some(0.5),
        flag: Some(true),
        text: Some("word".to_owned()),
        millis: Some(0),
        cents: Some(50),
    };
    prop::collection::vec(row(), 0..40).prop_map(move |rest| std::iter::once(first.clone()).chain(rest).collect())
}

fn as_csv(rows: &[Row]) -> File {
    let mut text = "whole,number,flag,text,at,price\n".to_owned();
    for row in rows {
        let or_none = |value: Option<String>| value.unwrap_or_default();
        let at = row.millis.map(|millis| DateTime::from_timestamp_millis(millis).unwrap());
        let quoted = row.text.as_ref().map(|text| format!("\"{}\"", text.replace('"', "\"\"")));
        let price = row.cents.map(|cents| decimal(&[Some(cents)]).value_as_string(0));
        writeln!(
            text,
            "{},{},{},{},{},{}",
            or_none(row.whole.map(|whole| whole.to_string())),
            or_none(row.number.map(|number| format!("{number:?}"))),
            or_none(row.flag.map(|flag| flag.to_string())),
            or_none(quoted),
            or_none(at.map(|at| at.format("%Y-%m-%d %H:%M:%S%.3f +0000").to_string())),
            or_none(price),
        )
        .unwrap();
    }
    csv(&text)
}

fn decimal(cents: &[Option<i64>]) -> Decimal128Array {
    let cents = cents.iter().map(|cents| cents.map(i128::from));
    cents.collect::<Decimal128Array>().with_precision_and_scale(20, 2).unwrap()
}

fn as_parquet(rows: &[Row]) -> File {
    let whole: Int64Array = rows.iter().map(|row| row.whole).collect();
    let number: Float64Array = rows.iter().map(|row| row.number).collect();
    let flag: BooleanArray = rows.iter().map(|row| row.flag).collect();
    let text: StringArray = rows.iter().map(|row| row.text.as_deref()).collect();
    let at: TimestampMicrosecondArray = rows.iter().map(|row| row.millis.map(|millis| millis * 1000)).collect();
    let cents: Vec<Option<i64>> = rows.iter().map(|row| row.cents).collect();
    let columns: [(&str, ArrayRef); 6] = [
        ("whole", Arc::new(whole)),
        ("number", Arc::new(number)),
        ("flag", Arc::new(flag)),
        ("text", Arc::new(text)),
        ("at", Arc::new(at)),
        ("price", Arc::new(decimal(&cents))),
    ];
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    parquet(&RecordBatch::try_from_iter_with_nullable(columns).unwrap())
}

/// The profile that drift is computed from.
fn profile(file: &File) -> Vec<u8> {
    let mut scan = Scan::of_bytes_in(file.bytes.clone(), file.format, &ScanOptions::default()).unwrap();
    let mut profiler = Profiler::new(scan.columns());
    scan.by_ref().for_each(|batch| profiler.add(&batch.unwrap()));
    profiler.finish().to_bytes()
}

proptest! {
    #[test]
    fn every_format_gives_the_same_table(rows in rows()) {
        let (of_csv, of_parquet) = (as_csv(&rows), as_parquet(&rows));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&of_csv.bytes).unwrap();
        let of_gzip = File { bytes: encoder.finish().unwrap().into(), format: FileFormat::Csv };
        let expected = read(&of_parquet, &ReadOptions::default()).unwrap();
        for file in [&of_csv, &of_gzip] {
            let made = read(file, &ReadOptions::default()).unwrap();
            prop_assert_eq!(&made.table, &expected.table);
            prop_assert_eq!(made.content, expected.content);
            prop_assert_eq!(profile(file), profile(&of_parquet));
        }
    }
}

#[test]
fn a_decimal_of_cents_is_written_as_people_write_it() {
    let price = as_csv(&[Row { whole: None, number: None, flag: None, text: None, millis: None, cents: Some(-1250) }]);
    assert!(price.bytes.ends_with(b",-12.50\n"));
}
