use std::io::{Read as _, Write as _};

use arrow::array::{ArrayRef, RecordBatch};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use rekindle_dataset::{
    Error, IngestError, IngestOptions, Ingested, Limits, Section, Table, ingest, read_csv, read_parquet,
};
use rekindle_domain::dataset::FileFormat;

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

pub(crate) fn options() -> IngestOptions {
    IngestOptions {
        kinds: [].into(),
        time_column: None,
        from: None,
        until: None,
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
