use std::{
    io::{Read as _, Write as _},
    sync::Arc,
};

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, StringArray};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use rekindle_dataset::{
    Error, IngestError, IngestOptions, Ingested, Limits, Section, Table, ingest, read_csv, read_parquet,
};
use rekindle_domain::dataset::{FileFormat, ReadOptions, SourceColumns};

/// A file.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) bytes: Bytes,
    pub(crate) format: FileFormat,
}

impl Input {
    pub(crate) fn csv(text: &str) -> Self {
        Self { bytes: Bytes::copy_from_slice(text.as_bytes()), format: FileFormat::Csv }
    }

    pub(crate) fn table(&self) -> Result<Table, Error> {
        match self.format {
            FileFormat::Csv => read_csv(self.bytes.clone()),
            FileFormat::Parquet => read_parquet(self.bytes.clone()),
        }
    }
}

/// A prefix that makes any value text.
const MARK: &str = "~";

impl Input {
    /// As [`table`](Self::table), with these columns of a CSV file without quotes as text.
    pub(crate) fn table_with(&self, texts: &[String]) -> Result<Table, Error> {
        if self.format == FileFormat::Parquet {
            return self.table();
        }
        let csv = std::str::from_utf8(&self.bytes).unwrap();
        let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
        let is_text: Vec<bool> = header.iter().map(|name| texts.iter().any(|text| text == name)).collect();
        let mut marked = header.join(",") + "\n";
        for line in csv.lines().skip(1) {
            let fields = line.split(',').zip(&is_text);
            let fields: Vec<String> = fields
                .map(
                    |(field, &is_text)| {
                        if is_text && !field.is_empty() { format!("{MARK}{field}") } else { field.to_owned() }
                    },
                )
                .collect();
            marked += &(fields.join(",") + "\n");
        }
        let table = read_csv(Bytes::from(marked))?;
        let columns = table.schema.names().map(|name| {
            let array = table.column(name).unwrap();
            let unmarked = |text: &str| text.strip_prefix(MARK).unwrap_or(text).to_owned();
            let array = match array.as_string_opt::<i32>() {
                Some(strings) if texts.iter().any(|text| text == name) => {
                    Arc::new(strings.iter().map(|text| text.map(unmarked)).collect::<StringArray>()) as ArrayRef
                }
                _ => array.clone(),
            };
            (name.to_owned(), array)
        });
        Table::from_batch(&RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap())
    }
}

pub(crate) fn options() -> IngestOptions {
    IngestOptions {
        kinds: [].into(),
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

pub(crate) fn ingested(inputs: &[Input], options: &IngestOptions) -> Result<Ingested, IngestError> {
    let section = |input: &Input| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&input.bytes).unwrap();
        (Section::whole(file).unwrap(), input.format)
    };
    ingest(&inputs.iter().map(section).collect::<Vec<_>>(), options)
}

/// The bytes of the Parquet file.
pub(crate) fn read_all(made: &Ingested) -> Bytes {
    let mut bytes = Vec::new();
    made.parquet.clone().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, made.parquet.size());
    bytes.into()
}

pub(crate) fn table_of(made: &Ingested) -> Table {
    read_parquet(read_all(made)).unwrap()
}

pub(crate) fn parquet_of(columns: Vec<(&str, ArrayRef)>) -> Bytes {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes.into()
}
