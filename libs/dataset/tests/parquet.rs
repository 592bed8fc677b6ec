//! Parquet files: types of other tools, deterministic bytes, and the content digest.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryArray, Date32Array, DictionaryArray, Float32Array, Int8Array, Int16Array, LargeStringArray,
        RecordBatch, StringViewArray, TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray,
        UInt64Array,
    },
    datatypes::{DataType, Int8Type},
};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use rekindle_dataset::{
    Limits, Table, canonical_timestamp, content_digest, read_csv, read_parquet, read_parquet_within, summarise,
    write_parquet,
};

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn file(batch: &RecordBatch) -> Bytes {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes.into()
}

fn sample() -> Table {
    let text = "i,f,b,t,s\n1,0.1,true,2013-01-01,x\n,,,,\n3,nan,false,1969-12-31T23:59:59.999Z,é\n";
    read_csv(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

#[test]
fn types_of_other_tools_become_canonical() {
    let dictionary: DictionaryArray<Int8Type> = ["jfk", "lga", "jfk"].into_iter().collect();
    let made = batch(vec![
        ("i8", Arc::new(Int8Array::from(vec![Some(-1), None, Some(3)]))),
        ("i16", Arc::new(Int16Array::from(vec![1, 2, 3]))),
        ("u64", Arc::new(UInt64Array::from(vec![1, 2, 3]))),
        ("f32", Arc::new(Float32Array::from(vec![0.1, 0.5, f32::NAN]))),
        ("dictionary", Arc::new(dictionary)),
        ("large", Arc::new(LargeStringArray::from(vec!["a", "b", "c"]))),
        ("view", Arc::new(StringViewArray::from(vec!["a", "b", "c"]))),
        ("date", Arc::new(Date32Array::from(vec![0, 1, -1]))),
        ("s", Arc::new(TimestampSecondArray::from(vec![0, 1, -1]))),
        ("us", Arc::new(TimestampMicrosecondArray::from(vec![0, 1001, -1]).with_timezone("America/New_York"))),
        ("ns", Arc::new(TimestampNanosecondArray::from(vec![0, 1_000_001, -1]))),
    ]);
    let table = read_parquet(file(&made)).unwrap();
    let types: Vec<&DataType> = table.schema.columns.iter().map(|column| &column.data_type).collect();
    let (int, float, text, time) = (DataType::Int64, DataType::Float64, DataType::Utf8, canonical_timestamp());
    assert_eq!(types, [&int, &int, &int, &float, &text, &text, &text, &time, &time, &time, &time]);
    assert_eq!(table.times("date").unwrap(), [0, 86_400_000, -86_400_000]);
    assert_eq!(table.times("s").unwrap(), [0, 1000, -1000]);
    assert_eq!(table.times("us").unwrap(), [0, 1, -1], "truncated towards the past");
    assert_eq!(table.times("ns").unwrap(), [0, 1, -1]);
}

#[test]
fn a_column_without_canonical_form_is_refused_by_name() {
    let made = batch(vec![("pixels", Arc::new(BinaryArray::from_vec(vec![b"x"])))]);
    let message = read_parquet(file(&made)).unwrap_err().to_string();
    assert!(message.contains("\"pixels\"") && message.contains("Binary") && message.contains("drop"), "{message}");
    let made = batch(vec![("id", Arc::new(UInt64Array::from(vec![1, u64::MAX])))]);
    let message = read_parquet(file(&made)).unwrap_err().to_string();
    assert!(message.contains("\"id\", row 1: 18446744073709551615"), "{message}");
}

#[test]
fn damaged_files_are_errors() {
    let good = write_parquet(&sample()).unwrap();
    assert!(read_parquet(Bytes::new()).is_err());
    assert!(read_parquet(Bytes::from_static(b"PAR1 nothing of the kind PAR1")).is_err());
    assert!(read_parquet(good.slice(..good.len() / 2)).is_err());
    assert!(read_parquet(good.slice(10..)).is_err());
}

#[test]
fn files_beyond_the_limits_are_refused() {
    let bytes = write_parquet(&sample()).unwrap();
    let limits = Limits::default();
    assert!(read_parquet_within(bytes.clone(), &Limits { rows: 3, columns: 5, ..limits }).is_ok());
    assert!(read_parquet_within(bytes.clone(), &Limits { rows: 2, ..limits }).is_err());
    assert!(read_parquet_within(bytes.clone(), &Limits { columns: 4, ..limits }).is_err());
    assert!(read_parquet_within(bytes, &Limits { bytes: 64, ..limits }).is_err());
}

#[test]
fn bytes_are_deterministic_and_the_content_survives() {
    let table = sample();
    let bytes = write_parquet(&table).unwrap();
    assert_eq!(bytes, write_parquet(&table.clone()).unwrap());
    let back = read_parquet(bytes.clone()).unwrap();
    assert_eq!(back.schema, table.schema);
    assert_eq!(content_digest(&back), content_digest(&table));
    assert_eq!(write_parquet(&back).unwrap(), bytes);
}

#[test]
fn a_table_without_rows_keeps_its_columns() {
    let table = sample().slice(0, 0);
    let back = read_parquet(write_parquet(&table).unwrap()).unwrap();
    assert_eq!((back.rows(), back.schema.columns.len()), (0, 5));
    assert_eq!(content_digest(&back), content_digest(&table));
    assert_eq!(summarise(&back).len(), 5);
}

/// Computed from the documented bytes by another implementation of SHA-256.
#[test]
fn the_digest_is_of_the_documented_bytes() {
    let table = read_csv(Bytes::from_static(b"n,s\n1,a\n,bc\n")).unwrap();
    let expected = "sha256:50f1e7f34c5a97f7c355b78fc5856acb47f051e0f3ab9c8d916de8196630cf94";
    assert_eq!(content_digest(&table).to_string(), expected);
}

#[test]
fn the_digest_depends_on_the_content_only() {
    let table = sample();
    let digest = content_digest(&table);
    let halves = [table.slice(0, 1), table.slice(1, 2)];
    assert_eq!(content_digest(&Table::concat(&halves).unwrap()), digest, "chunks do not matter");
    assert_ne!(
        content_digest(&table.project(&["f", "i", "b", "t", "s"]).unwrap()),
        digest,
        "the order of columns matters"
    );
    assert_ne!(content_digest(&table.slice(0, 2)), digest);
    let of = |text: &'static str| content_digest(&read_csv(Bytes::from_static(text.as_bytes())).unwrap());
    assert_ne!(of("a\n1\n"), of("b\n1\n"));
    assert_ne!(of("a\n1\n"), of("a\n1.0\n"));
    assert_ne!(of("a,b\nx,\n"), of("a,b\n,x\n"));
    assert_ne!(of("a,b\nxy,z\n"), of("a,b\nx,yz\n"));
}
