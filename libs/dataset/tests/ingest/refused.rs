//! What is refused, and which input or setting the error names.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, DictionaryArray, RecordBatch, StringArray},
    datatypes::Int32Type,
};
use bytes::Bytes;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::{
        properties::WriterProperties,
        reader::{FileReader as _, SerializedFileReader},
        writer::SerializedFileWriter,
    },
};
use rekindle_dataset::{Error, IngestError, IngestOptions, Limits, Part};
use rekindle_domain::dataset::FileFormat;

use crate::support::{Input, ingested, options};

const GOOD: &str = "at,n\n2013-01-01,1\n2013-01-02,2\n";

fn refused(texts: &[&str], change: impl FnOnce(&mut IngestOptions)) -> IngestError {
    let mut options = options();
    change(&mut options);
    let inputs: Vec<Input> = texts.iter().map(|text| Input::csv(text)).collect();
    ingested(&inputs, &options).expect_err("it is refused")
}

#[test]
fn the_part_to_blame_is_named() {
    let by_time = |column: &'static str| move |options: &mut IngestOptions| options.time_column = Some(column.into());
    let as_usual = |_: &mut IngestOptions| {};
    assert_eq!(refused(&[GOOD, "a\n"], as_usual).part, Part::Source(1));
    assert_eq!(refused(&[GOOD, "at,n\n1\n"], as_usual).part, Part::Source(1));
    assert_eq!(refused(&[GOOD, ""], as_usual).part, Part::Source(1));
    assert_eq!(refused(&[GOOD, "x,y\n1,2\n"], as_usual).part, Part::Sources);
    assert_eq!(refused(&["flag\ntrue\n", "flag\n7\n"], as_usual).part, Part::Sources);
    assert_eq!(refused(&[], as_usual).part, Part::Sources);
    assert_eq!(refused(&[GOOD], by_time("n")).part, Part::TimeColumn);
    assert_eq!(refused(&[GOOD], by_time("absent")).part, Part::TimeColumn);
    let missing = refused(&[GOOD, "at,n\n2013-01-01,1\n,2\n"], by_time("at"));
    assert!(matches!((missing.part, missing.error), (Part::TimeColumn, Error::MissingTime { row: 3, .. })));
    let kinds =
        refused(&[GOOD], |options| options.kinds = [("absent".into(), rekindle_domain::ColumnKind::Boolean)].into());
    assert!(matches!((kinds.part, kinds.error), (Part::Kinds, Error::NoColumn { .. })));
    let scratch = refused(&[GOOD], |options| options.scratch = "/nonexistent/folder".into());
    assert!(matches!((scratch.part, scratch.error), (Part::Scratch, Error::Scratch { .. })));
}

#[test]
fn limits_hold_for_each_source_and_for_all_together() {
    let limited =
        |rows, bytes| move |options: &mut IngestOptions| options.limits = Limits { rows, bytes, ..Limits::default() };
    let rows = |refused: IngestError| match refused.error {
        Error::TooLarge { what, .. } => (refused.part, what),
        error => panic!("{error}"),
    };
    assert_eq!(rows(refused(&[GOOD, GOOD], limited(1, 1000))), (Part::Source(0), "rows"));
    assert_eq!(rows(refused(&[GOOD, GOOD], limited(3, 1000))), (Part::Sources, "rows"));
    assert_eq!(rows(refused(&[GOOD], limited(9, 30))), (Part::Source(0), "bytes"), "the file has 31 bytes");
    assert_eq!(rows(refused(&[GOOD, GOOD], limited(9, 40))), (Part::Sources, "bytes"), "a row has 16 bytes");
    let columns = |options: &mut IngestOptions| options.limits = Limits { columns: 2, ..Limits::default() };
    assert_eq!(rows(refused(&["a,b\n1,2\n", "a,c\n1,2\n"], columns)), (Part::Sources, "columns"));
}

/// A Parquet file of one text, repeated: a row group that is copied `groups` times.
fn repeated(text: &str, rows: usize, groups: usize, properties: WriterProperties) -> Bytes {
    let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let texts = DictionaryArray::<Int32Type>::new(vec![0; rows].into(), text);
    let batch = RecordBatch::try_from_iter([("text", Arc::new(texts) as ArrayRef)]).unwrap();
    let mut one = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut one, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let metadata = writer.close().unwrap();
    let one = Bytes::from(one);
    let column = metadata.row_group(0).column(0);
    let schema =
        SerializedFileReader::new(one.clone()).unwrap().metadata().file_metadata().schema_descr().root_schema_ptr();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    for _ in 0..groups {
        let mut group = writer.next_row_group().unwrap();
        let close = parquet::column::writer::ColumnCloseResult {
            bytes_written: column.compressed_size().cast_unsigned(),
            rows_written: rows as u64,
            metadata: column.clone(),
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        group.append_column(&one, close).unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    bytes.into()
}

fn compressed() -> parquet::file::properties::WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()))
}

#[test]
fn a_text_repeated_a_hundred_million_times_is_refused_by_its_number_of_rows() {
    let file = repeated("again", 1_000_000, 100, compressed().build());
    assert!(file.len() < 1_000_000, "{} bytes", file.len());
    let refused = ingested(&[Input { bytes: file, format: FileFormat::Parquet }], &options()).expect_err("refused");
    assert_eq!(refused.part, Part::Source(0));
    assert!(matches!(refused.error, Error::TooLarge { what: "rows", limit: 50_000_000 }), "{}", refused.error);
}

#[test]
fn a_long_text_repeated_is_refused_by_its_bytes() {
    // 10 GB of text in a small file, and 1 GB without a dictionary, where the pages are compressed instead.
    let plain = compressed().set_dictionary_enabled(false).build();
    for (rows, properties) in [(1000, compressed().build()), (100, plain)] {
        let file = repeated(&"long".repeat(25_000), rows, 100, properties);
        assert!(file.len() < 2_000_000, "{} bytes", file.len());
        let limits = Limits { bytes: 100_000_000, ..Limits::default() };
        let options = IngestOptions { limits, ..options() };
        let refused = ingested(&[Input { bytes: file, format: FileFormat::Parquet }], &options).expect_err("refused");
        assert!(matches!(refused.error, Error::TooLarge { what: "bytes", .. }), "{}", refused.error);
    }
}

#[test]
fn a_page_that_is_too_large_is_refused_before_it_is_decompressed() {
    let one_page = compressed()
        .set_dictionary_enabled(false)
        .set_data_page_size_limit(usize::MAX)
        .set_data_page_row_count_limit(usize::MAX)
        .set_write_batch_size(usize::MAX)
        .build();
    let file = repeated(&"x".repeat(1 << 20), 100, 1, one_page);
    assert!(file.len() < 100_000, "{} bytes", file.len());
    let refused = ingested(&[Input { bytes: file, format: FileFormat::Parquet }], &options()).expect_err("refused");
    let source = std::error::Error::source(&refused.error).expect("a reason").to_string();
    assert!(source.contains("a page has 104") && source.contains("smaller pages"), "{source}");
}
