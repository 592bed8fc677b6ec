use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use arrow::array::RecordBatch;

use super::{Section, columns::Columns, scratch_file};
use crate::{
    Error,
    content::{Checksum, encode_values},
    write::ParquetWriter,
};

/// A written Parquet file.
pub(super) struct Written {
    pub(super) parquet: Section,
    pub(super) rows: u64,
    /// Of the values of each column.
    pub(super) checksums: Vec<u64>,
}

/// The Parquet file being written, and checksums to verify it by.
pub(super) struct Output {
    writer: ParquetWriter<BufWriter<File>>,
    checksums: Vec<Checksum>,
    encoded: Vec<u8>,
    rows: u64,
}

impl Output {
    pub(super) fn new(columns: &Columns, scratch: &Path) -> Result<Self, Error> {
        let writer = ParquetWriter::new(BufWriter::new(scratch_file(scratch)?), columns.names_and_types())?;
        let checksums = columns.names_and_types().map(|_| Checksum::new()).collect();
        Ok(Self { writer, checksums, encoded: Vec::new(), rows: 0 })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.rows += batch.num_rows() as u64;
        for (checksum, array) in self.checksums.iter_mut().zip(batch.columns()) {
            self.encoded.clear();
            encode_values(array, &mut self.encoded);
            checksum.add_values(&self.encoded);
        }
        self.writer.write(batch)
    }

    pub(super) fn finish(self) -> Result<Written, Error> {
        let mut file = self.writer.finish()?;
        file.flush().map_err(Error::scratch("write"))?;
        let file = file.into_inner().map_err(|error| Error::scratch("write")(error.into_error()))?;
        let checksums = self.checksums.iter().map(Checksum::finish).collect();
        Ok(Written { parquet: Section::whole(file).map_err(Error::scratch("read"))?, rows: self.rows, checksums })
    }
}
