use std::{
    collections::BTreeMap,
    error::Error as _,
    io::{Read as _, Write as _},
    sync::Arc,
};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch, StringArray},
    compute,
    datatypes::{DataType, TimestampMillisecondType},
};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use parquet::arrow::ArrowWriter;
use rekindle_dataset::{
    IngestError, IngestOptions, Ingested, Limits, Preview, Section, Table, ingest, preview, read_parquet, type_name,
};
use rekindle_domain::{
    ColumnKind, Digest,
    dataset::{FileFormat, ReadOptions, SourceColumns, TimeFormat},
};

/// A file.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) bytes: Bytes,
    pub(crate) format: FileFormat,
}

/// What a file is read as.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) table: Table,
    pub(crate) content: Digest,
    /// Of each file.
    pub(crate) notes: Vec<Vec<String>>,
}

pub(crate) fn csv(text: &str) -> File {
    File { bytes: Bytes::copy_from_slice(text.as_bytes()), format: FileFormat::Csv }
}

/// A CSV file of the column `v`, whose values are quoted.
pub(crate) fn csv_of(values: &[&str]) -> File {
    let row = |value: &&str| format!("\"{}\",x\n", value.replace('"', "\"\""));
    csv(&("v,other\n".to_owned() + &values.iter().map(row).collect::<String>()))
}

/// A Parquet file of the column `v`.
pub(crate) fn parquet_of(values: impl Into<ArrayRef>) -> File {
    let values = values.into();
    let other: ArrayRef = Arc::new(StringArray::from(vec!["x"; values.len()]));
    let batch = RecordBatch::try_from_iter_with_nullable([("v", values, true), ("other", other, true)]).unwrap();
    parquet(&batch)
}

pub(crate) fn parquet(batch: &RecordBatch) -> File {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    File { bytes: bytes.into(), format: FileFormat::Parquet }
}

pub(crate) fn reading(missing: &[&str]) -> ReadOptions {
    ReadOptions { missing: missing.iter().map(ToString::to_string).collect(), ..ReadOptions::default() }
}

/// The times of `v` are in this format.
pub(crate) fn times_in(format: TimeFormat) -> ReadOptions {
    ReadOptions { time_formats: [("v".to_owned(), format)].into(), ..ReadOptions::default() }
}

pub(crate) fn options() -> IngestOptions {
    IngestOptions {
        kinds: BTreeMap::new(),
        time_column: None,
        from: None,
        until: None,
        reading: ReadOptions::default(),
        columns: SourceColumns::Any,
        schema: None,
        limits: Limits::default(),
        scratch: std::env::temp_dir(),
    }
}

pub(crate) fn sections(files: &[File]) -> Vec<(Section, FileFormat)> {
    let section = |file: &File| {
        let mut written = tempfile::tempfile().unwrap();
        written.write_all(&file.bytes).unwrap();
        (Section::whole(written).unwrap(), file.format)
    };
    files.iter().map(section).collect()
}

/// Registers files. An error is all its reasons.
pub(crate) fn register(files: &[File], options: &IngestOptions) -> Result<Registered, String> {
    let sections = sections(files);
    let Preview { columns, notes } = preview(&sections, options).map_err(|error| said(&error))?;
    let made = ingest(&sections, options).map_err(|error| said(&error))?;
    let planned = columns.iter().map(|column| (column.name.as_str(), &column.data_type));
    assert!(planned.eq(made.schema.columns.iter().map(|column| (column.name.as_str(), &column.data_type))));
    let notes = notes.iter().map(|notes| notes.iter().map(ToString::to_string).collect());
    Ok(Registered { table: table_of(&made), content: made.content, notes: notes.collect() })
}

fn said(error: &IngestError) -> String {
    let mut reason = format!("{}: {}", error.part, error.error);
    let mut source = error.error.source();
    while let Some(error) = source {
        reason += &format!(": {error}");
        source = error.source();
    }
    reason
}

fn table_of(made: &Ingested) -> Table {
    let mut bytes = Vec::new();
    made.parquet.clone().read_to_end(&mut bytes).unwrap();
    read_parquet(bytes.into()).unwrap()
}

/// Registers one file, read in this way.
pub(crate) fn read(file: &File, reading: &ReadOptions) -> Result<Registered, String> {
    register(std::slice::from_ref(file), &IngestOptions { reading: reading.clone(), ..options() })
}

/// As [`read`], with `v` of this kind.
pub(crate) fn read_in_kind(file: &File, kind: ColumnKind) -> Result<Registered, String> {
    register(std::slice::from_ref(file), &IngestOptions { kinds: [("v".to_owned(), kind)].into(), ..options() })
}

impl Registered {
    /// The type of `v` and its values as text, `-` where they are missing.
    pub(crate) fn v(&self) -> (&'static str, Vec<String>) {
        self.column("v")
    }

    pub(crate) fn column(&self, name: &str) -> (&'static str, Vec<String>) {
        let column = self.table.column(name).unwrap();
        (type_name(column.data_type()), texts(column))
    }

    /// The notes on the only file.
    pub(crate) fn note(&self) -> String {
        self.notes[0].join("\n")
    }
}

fn texts(column: &ArrayRef) -> Vec<String> {
    let or_missing = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    if let Some(times) = column.as_primitive_opt::<TimestampMillisecondType>() {
        let text =
            |millis| DateTime::from_timestamp_millis(millis).unwrap().to_rfc3339_opts(SecondsFormat::AutoSi, true);
        return times.iter().map(|time| or_missing(time.map(text))).collect();
    }
    let texts = compute::cast(column, &DataType::Utf8).unwrap();
    texts.as_string::<i32>().iter().map(|text| or_missing(text.map(str::to_owned))).collect()
}
