use std::{panic::AssertUnwindSafe, sync::Arc};

use ::parquet::{
    arrow::{
        ArrowWriter,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
        arrow_writer::ArrowWriterOptions,
    },
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};
use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions},
    compute,
    datatypes::{DataType, Field, TimestampMillisecondType},
};
use bytes::Bytes;

use crate::{Error, Limits, Table, schema::check_names};

/// Rows decoded at a time. Bounds what is taken beyond the limits before it is noticed.
const READ_ROWS: usize = 64 * 1024;

/// Rows to a row group written; part of what makes the bytes the same every time.
const GROUP_ROWS: usize = 128 * 1024;

/// Reads a Parquet file within the default [`Limits`], bringing every column to its canonical type.
///
/// # Errors
/// Not Parquet or damaged; names unusable or duplicate; a column whose type has no canonical form.
pub fn read_parquet(bytes: Bytes) -> Result<Table, Error> {
    read_parquet_within(bytes, &Limits::default())
}

/// Reads a Parquet file.
///
/// # Errors
/// As [`read_parquet`], and content beyond the limits.
pub fn read_parquet_within(bytes: Bytes, limits: &Limits) -> Result<Table, Error> {
    without_panic(|| read(bytes, limits))
}

fn read(bytes: Bytes, limits: &Limits) -> Result<Table, Error> {
    let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new()).map_err(Error::Parquet)?;
    check_limits(&metadata, limits)?;
    let schema = metadata.schema().clone();
    check_names(schema.fields().iter().map(|field| field.name().as_str()))?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata).with_batch_size(READ_ROWS);
    let mut parts: Vec<Vec<ArrayRef>> = schema.fields().iter().map(|_| Vec::new()).collect();
    let (mut rows, mut size) = (0, 0);
    for batch in builder.build().map_err(Error::Parquet)? {
        let batch = batch.map_err(Error::arrow("decode the Parquet file"))?;
        let part = Table::from_batch(&batch)?.batch;
        rows += part.num_rows();
        size += part.get_array_memory_size();
        if size > limits.bytes {
            return Err(Error::TooLarge { what: "bytes", limit: limits.bytes });
        }
        for (column, array) in parts.iter_mut().zip(part.columns()) {
            column.push(array.clone());
        }
    }
    if rows == 0 {
        return Table::from_batch(&RecordBatch::new_empty(schema));
    }
    let columns = schema.fields().iter().zip(parts).map(|(field, arrays)| {
        let arrays: Vec<&dyn arrow::array::Array> = arrays.iter().map(AsRef::as_ref).collect();
        Ok((field.name().clone(), compute::concat(&arrays).map_err(Error::arrow("join the row groups"))?))
    });
    Table::from_columns(columns.collect::<Result<_, Error>>()?, rows)
}

/// Runs what decodes Parquet. The decoder asserts much of what a damaged file can say otherwise, of its schema above all;
/// here that is an error like any other. What was being read is not to be used again.
pub(crate) fn without_panic<T>(decode: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    std::panic::catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Error::Parquet(ParquetError::General(format!("it is damaged: {}", said.unwrap_or("the decoder gave up")))))
    })
}

fn check_limits(metadata: &ArrowReaderMetadata, limits: &Limits) -> Result<(), Error> {
    let rows = metadata.metadata().file_metadata().num_rows();
    if usize::try_from(rows).map_or(true, |rows| rows > limits.rows) {
        return Err(Error::TooLarge { what: "rows", limit: limits.rows });
    }
    if metadata.schema().fields().len() > limits.columns {
        return Err(Error::TooLarge { what: "columns", limit: limits.columns });
    }
    Ok(())
}

/// Writes a table as Parquet, compressed with zstd. The same table gives the same bytes. Times are written as
/// instants in UTC, so that other readers do not take them for local time.
///
/// # Errors
/// More text than the format takes in one value.
pub fn write_parquet(table: &Table) -> Result<Bytes, Error> {
    let batch = with_utc(table)?;
    let level = ZstdLevel::try_new(3).map_err(Error::WriteParquet)?;
    let properties = WriterProperties::builder()
        .set_created_by("rekindle".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    // The Arrow schema is left out: it is Arrow's own encoding, and canonical types do not need it.
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new_with_options(&mut bytes, batch.schema(), options).map_err(Error::WriteParquet)?;
    writer.write(&batch).map_err(Error::WriteParquet)?;
    writer.close().map_err(Error::WriteParquet)?;
    Ok(bytes.into())
}

fn with_utc(table: &Table) -> Result<RecordBatch, Error> {
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for (column, array) in table.schema.columns.iter().zip(table.batch.columns()) {
        let array = match array.data_type() {
            DataType::Timestamp(..) => {
                Arc::new(array.as_primitive::<TimestampMillisecondType>().clone().with_timezone("UTC"))
            }
            _ => array.clone(),
        };
        // Always nullable, so that the file's schema does not depend on which rows happen to be in it.
        fields.push(Field::new(&column.name, array.data_type().clone(), true));
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(table.rows()));
    RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::new(fields)), arrays, &options)
        .map_err(Error::arrow("put the columns together"))
}
