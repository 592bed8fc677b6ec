use std::{io::Write, sync::Arc};

use ::parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use arrow::{
    array::{ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions},
    compute,
    datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef, TimestampMillisecondType},
};
use bytes::Bytes;

use crate::{
    Error, Table,
    size::{rows_bytes, rows_filling},
};

/// Rows of a row group, at most. This and the next decide the bytes of a file.
const GROUP_ROWS: usize = 128 * 1024;

/// Bytes of values after which a row group ends.
const GROUP_BYTES: usize = 32 << 20;

/// Writes a table as Parquet, compressed with zstd. The same table gives the same bytes. Times are written as
/// instants in UTC, so that other readers do not take them for local time.
///
/// # Errors
/// More text than the format supports in one value.
pub fn write_parquet(table: &Table) -> Result<Bytes, Error> {
    let columns = table.schema.columns.iter().map(|column| (column.name.as_str(), &column.data_type));
    let mut writer = ParquetWriter::new(Vec::new(), columns)?;
    writer.write(&table.batch)?;
    Ok(writer.finish()?.into())
}

/// Writes batches of canonical types as [`write_parquet`] writes a table. The bytes do not depend on how rows are batched.
///
/// Holds one row group in memory, and writes it at once: where the encoder ends its pages depends on the calls it gets.
pub(crate) struct ParquetWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: SchemaRef,
    group: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl<W: Write + Send> ParquetWriter<W> {
    /// A file of these columns: names and canonical types.
    pub(crate) fn new<'a>(into: W, columns: impl Iterator<Item = (&'a str, &'a DataType)>) -> Result<Self, Error> {
        let level = ZstdLevel::try_new(3).map_err(Error::WriteParquet)?;
        let properties = WriterProperties::builder()
            .set_created_by("rekindle".to_owned())
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        // The Arrow schema is omitted: it is specific to Arrow, and canonical types do not need it.
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        // Always nullable, so that the file's schema does not depend on its rows.
        let fields = columns.map(|(name, data_type)| Field::new(name, stored_type(data_type), true));
        let schema = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
        let writer = ArrowWriter::try_new_with_options(into, schema.clone(), options).map_err(Error::WriteParquet)?;
        Ok(Self { writer, schema, group: Vec::new(), rows: 0, bytes: 0 })
    }

    /// Appends rows.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let mut from = 0;
        while from < batch.num_rows() {
            let rows = (GROUP_ROWS - self.rows).min(batch.num_rows() - from);
            let rows = rows_filling(batch, from, rows, GROUP_BYTES - self.bytes);
            self.bytes += rows_bytes(batch, from, rows);
            self.rows += rows;
            self.group.push(batch.slice(from, rows));
            from += rows;
            if self.rows == GROUP_ROWS || self.bytes >= GROUP_BYTES {
                self.write_group()?;
            }
        }
        Ok(())
    }

    fn write_group(&mut self) -> Result<(), Error> {
        let Some(first) = self.group.first() else { return Ok(()) };
        let rows =
            compute::concat_batches(&first.schema(), &self.group).map_err(Error::arrow("assemble a row group"))?;
        self.group.clear();
        (self.rows, self.bytes) = (0, 0);
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let arrays = rows.columns().iter().map(stored).collect();
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options);
        self.writer.write(&rows.map_err(Error::arrow("assemble a row group"))?).map_err(Error::WriteParquet)?;
        self.writer.flush().map_err(Error::WriteParquet)
    }

    /// Completes the file.
    pub(crate) fn finish(mut self) -> Result<W, Error> {
        self.write_group()?;
        self.writer.into_inner().map_err(Error::WriteParquet)
    }
}

fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(unit, _) => DataType::Timestamp(*unit, Some("UTC".into())),
        other => other.clone(),
    }
}

fn stored(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Timestamp(..) => {
            Arc::new(array.as_primitive::<TimestampMillisecondType>().clone().with_timezone("UTC"))
        }
        _ => array.clone(),
    }
}
