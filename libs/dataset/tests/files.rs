//! The files of the project.

use std::path::Path;

use bytes::Bytes;
use rekindle_dataset::{content_digest, read_csv, read_parquet, summarise, write_parquet};
use rekindle_domain::ColumnKind;

fn file(path: &str) -> Bytes {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read(root.join(path)).expect("the file is in the repository").into()
}

#[test]
fn a_year_of_flights() {
    let table = read_parquet(file("deploy/demo/flights_2013.parquet")).unwrap();
    assert_eq!((table.rows(), table.schema.columns.len()), (327_346, 25));
    assert_eq!(table.schema.column("carrier").unwrap().kind, ColumnKind::Categorical);
    assert_eq!(table.schema.column("timestamp").unwrap().kind, ColumnKind::Timestamp);
    let (first, last) = table.time_range("timestamp").unwrap().unwrap();
    assert_eq!(first.to_rfc3339(), "2013-01-01T10:15:00+00:00");
    assert_eq!(last.date_naive().to_string(), "2014-01-01");
    let columns = summarise(&table);
    let find = |name: &str| columns.iter().find(|column| column.name == name).unwrap();
    assert_eq!((find("carrier").distinct, find("dest").distinct, find("late").distinct), (16, 104, 2));
    assert!((find("late").mean.unwrap() - 0.237).abs() < 1e-3);
    assert_eq!((find("arr_delay").min, find("arr_delay").max), (Some(-86.0), Some(1272.0)));
    let bytes = write_parquet(&table).unwrap();
    let back = read_parquet(bytes.clone()).unwrap();
    assert_eq!(content_digest(&back), content_digest(&table));
    assert_eq!(write_parquet(&back).unwrap(), bytes);
}

#[test]
fn handwritten_digits() {
    let table = read_csv(file("integration-tests/data/digits_8x8.csv")).unwrap();
    assert_eq!((table.rows(), table.schema.columns.len()), (1797, 65));
    assert!(table.schema.columns.iter().all(|column| column.kind == ColumnKind::Numeric && !column.nullable));
}
