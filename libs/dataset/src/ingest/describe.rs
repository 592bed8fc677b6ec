use ::parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
};
use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    datatypes::{DataType, TimestampMillisecondType},
};
use rekindle_domain::{ColumnKind, Digest, dataset::ColumnSummary};

use super::{Section, columns::Columns};
use crate::{
    Column, Error, Schema,
    content::{Checksum, ContentHasher, encode_values},
    schema::kind_of,
    summary::Summariser,
};

/// Rows read at a time.
const BATCH_ROWS: usize = 8 * 1024;

/// The description of a canonical Parquet file.
pub(super) struct Described {
    pub(super) schema: Schema,
    pub(super) content: Digest,
    pub(super) summaries: Vec<ColumnSummary>,
}

/// Reads a canonical Parquet file back, column by column, as the content digest takes it, and compares each column's values with
/// the checksum of those written.
pub(super) fn describe(parquet: &Section, columns: &Columns, checksums: &[u64]) -> Result<Described, Error> {
    let metadata = ArrowReaderMetadata::load(parquet, ArrowReaderOptions::new()).map_err(Error::Parquet)?;
    let rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
    let mut hasher = ContentHasher::new(checksums.len(), rows);
    let (mut schema, mut summaries) = (Schema::default(), Vec::with_capacity(checksums.len()));
    let mut encoded = Vec::new();
    for (index, ((name, data_type), expected)) in columns.names_and_types().zip(checksums).enumerate() {
        let mask = ProjectionMask::roots(metadata.parquet_schema(), [index]);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(parquet.clone(), metadata.clone())
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(Error::Parquet)?;
        let (mut checksum, mut summariser) = (Checksum::new(), Summariser::new(data_type));
        let mut missing = 0;
        hasher.begin_column(name, data_type);
        for batch in reader {
            let array = without_zone(batch.map_err(Error::arrow("read back the Parquet file"))?.column(0));
            missing += array.null_count();
            encoded.clear();
            encode_values(&array, &mut encoded);
            checksum.add_values(&encoded);
            hasher.add_values(&encoded);
            summariser.add(&array);
        }
        if checksum.finish() != *expected {
            return Err(Error::Unverified(format!("the values of column {name:?} differ")));
        }
        let kind = kind_of(data_type).unwrap_or(ColumnKind::Categorical);
        let column = Column { name: name.to_owned(), data_type: data_type.clone(), kind, nullable: missing > 0 };
        schema.columns.push(column);
        summaries.push(summariser.finish(name));
    }
    Ok(Described { schema, content: hasher.finish(), summaries })
}

/// Times without the zone that the file names for other readers.
fn without_zone(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Timestamp(..) => std::sync::Arc::new(
            array.as_primitive::<TimestampMillisecondType>().clone().with_timezone_opt(None::<&str>),
        ),
        _ => array.clone(),
    }
}
