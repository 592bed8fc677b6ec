use std::sync::Arc;

use ::parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
        },
    },
    basic::Type as PhysicalType,
    errors::ParquetError,
    file::{
        metadata::{ParquetStatisticsPolicy, RowGroupMetaData},
        reader::{ChunkReader, Length},
    },
    schema::types::Type as ParquetType,
};
use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch, StringArray, new_null_array},
    compute,
    datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit},
};

use bytes::Bytes;

use super::{
    Expectation, Progress, ScanBatch, ScanColumn, ScanOptions, SkipReason, Skipped,
    builder::{Built, ColumnBuilder, dictionary, type_of},
    expectation, put_together, schema_of,
};
use crate::{
    Error, Kind, canonical_timestamp,
    cast::{Value, value_at},
    normalise::normalise,
    parquet_file::without_panic,
    schema::check_names,
};

/// Fewest rows of a batch, however wide: below this the cost of each column outweighs that of its values.
const LEAST_ROWS: usize = 64;

/// A Parquet file past its footer.
pub(super) struct ParquetScan {
    /// Of the row group at hand.
    reader: Option<ParquetRecordBatchReader>,
    /// Makes one of the next.
    readers: Box<dyn Iterator<Item = Result<ParquetRecordBatchReader, ParquetError>> + Send>,
    columns: Vec<Reading>,
    schema: SchemaRef,
    done: u64,
    total: u64,
}

/// How a column is read.
struct Reading {
    name: String,
    /// The type asked of the decoder.
    decoded: DataType,
    /// The type that the decoded values mean something in.
    own: Delivery,
    /// The one they come in, if their own is of another kind than expected.
    expected: Option<Delivery>,
}

#[derive(Clone)]
struct Delivery {
    kind: Kind,
    data_type: DataType,
}

impl ParquetScan {
    /// The file, the columns that are read and those that are not.
    pub(super) fn open<R: ChunkReader + 'static>(
        file: R,
        options: &ScanOptions,
    ) -> Result<(Self, Vec<ScanColumn>, Vec<Skipped>), Error> {
        without_panic(|| Self::open_trusting(file, options))
    }

    fn open_trusting<R: ChunkReader + 'static>(
        file: R,
        options: &ScanOptions,
    ) -> Result<(Self, Vec<ScanColumn>, Vec<Skipped>), Error> {
        let metadata = ArrowReaderMetadata::load(&file, without_statistics()).map_err(Error::Parquet)?;
        let found = metadata.schema().clone();
        if found.fields().len() > options.columns {
            return Err(Error::TooLarge { what: "columns", limit: options.columns });
        }
        check_names(found.fields().iter().map(|field| field.name().as_str()))?;
        let (readings, skipped) = choose(&metadata, options);
        let metadata = with_decoded_types(metadata, &readings)?;
        let roots = readings.iter().map(|(root, _)| *root);
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
        let total = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
        let rows = rows_of_batch(&metadata, &mask, options);
        let groups = 0..metadata.metadata().num_row_groups();
        let file = Arc::new(file);
        // One at a time: a batch over two row groups would have its texts written out, as each group has a dictionary of its own.
        let readers = groups.map(move |group| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(Shared(file.clone()), metadata.clone())
                .with_row_groups(vec![group])
                .with_batch_size(rows)
                .with_projection(mask.clone())
                .build()
        });
        let readings: Vec<Reading> = readings.into_iter().map(|(_, reading)| reading).collect();
        let columns: Vec<ScanColumn> = readings.iter().map(Reading::column).collect();
        let schema = schema_of(&columns);
        let readers = Box::new(readers);
        Ok((Self { reader: None, readers, columns: readings, schema, done: 0, total }, columns, skipped))
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { done: self.done, total: self.total }
    }

    /// The next rows, or `None` at the end. Not to be called again after an error.
    pub(super) fn batch(&mut self) -> Result<Option<ScanBatch>, Error> {
        without_panic(|| self.batch_trusting())
    }

    fn batch_trusting(&mut self) -> Result<Option<ScanBatch>, Error> {
        let Some(decoded) = self.decoded()? else { return Ok(None) };
        let arrays = self.columns.iter().zip(decoded.columns());
        let built = arrays.map(|(column, array)| column.deliver(array).map_err(|error| from_row(self.done, error)));
        let built = built.collect::<Result<Vec<Built>, Error>>()?;
        self.done += decoded.num_rows() as u64;
        put_together(&self.schema, built, decoded.num_rows()).map(Some)
    }

    fn decoded(&mut self) -> Result<Option<RecordBatch>, Error> {
        loop {
            if let Some(batch) = self.reader.as_mut().and_then(Iterator::next) {
                return batch.map(Some).map_err(Error::arrow("decode the Parquet file"));
            }
            match self.readers.next() {
                Some(reader) => self.reader = Some(reader.map_err(Error::Parquet)?),
                None => return Ok(None),
            }
        }
    }
}

impl Reading {
    fn column(&self) -> ScanColumn {
        let Delivery { kind, data_type } = self.expected.as_ref().unwrap_or(&self.own).clone();
        ScanColumn { name: self.name.clone(), kind, data_type }
    }

    /// The decoded values in the type they are to come in, as far as it can hold them.
    fn deliver(&self, decoded: &ArrayRef) -> Result<Built, Error> {
        let own = self.in_own_type(decoded)?;
        let all = |array| Ok(Built { array, unparsable: 0, example: None });
        match &self.expected {
            None => all(own),
            Some(Delivery { data_type, .. }) if own.null_count() == own.len() => {
                all(new_null_array(data_type, own.len()))
            }
            Some(Delivery { data_type, .. }) => reparsed(&self.name, &own, data_type),
        }
    }

    fn in_own_type(&self, decoded: &ArrayRef) -> Result<ArrayRef, Error> {
        if *decoded.data_type() == self.own.data_type {
            check_dictionary(decoded)?;
            return Ok(decoded.clone());
        }
        match decoded.data_type() {
            DataType::Null => Ok(new_null_array(&self.own.data_type, decoded.len())),
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => normalise(&self.name, decoded),
            _ => compute::cast(decoded, &self.own.data_type).map_err(Error::arrow("bring a column to a float")),
        }
    }
}

/// A file that several readers read from.
struct Shared<R>(Arc<R>);

impl<R: Length> Length for Shared<R> {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl<R: ChunkReader> ChunkReader for Shared<R> {
    type T = R::T;

    fn get_read(&self, start: u64) -> Result<R::T, ParquetError> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.0.get_bytes(start, length)
    }
}

/// What scans all rows has no use for statistics, and there may be many.
fn without_statistics() -> ArrowReaderOptions {
    ArrowReaderOptions::new()
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll)
}

/// The columns that are read, with their place in the file, and the rest.
fn choose(metadata: &ArrowReaderMetadata, options: &ScanOptions) -> (Vec<(usize, Reading)>, Vec<Skipped>) {
    let roots = metadata.parquet_schema().root_schema().get_fields();
    let (mut readings, mut skipped) = (Vec::new(), Vec::new());
    for (root, (field, stored)) in metadata.schema().fields().iter().zip(roots).enumerate() {
        let name = field.name().clone();
        let wanted = expectation(options, &name);
        if matches!(wanted, Expectation::Skip) {
            skipped.push(Skipped { name, reason: SkipReason::Unexpected });
            continue;
        }
        let Some((decoded, own)) = supported(field.data_type(), stored) else {
            let found = field.data_type().to_string();
            skipped.push(Skipped { name, reason: SkipReason::Unsupported { found } });
            continue;
        };
        let expected = match wanted {
            Expectation::Kind(kind) if kind != own.kind => Some(Delivery { kind, data_type: type_of(kind) }),
            _ => None,
        };
        readings.push((root, Reading { name, decoded, own, expected }));
    }
    (readings, skipped)
}

/// The type to decode a column of type `found` in, and the one its values come in; `None` if it has no kind.
fn supported(found: &DataType, stored: &ParquetType) -> Option<(DataType, Delivery)> {
    use DataType as T;
    let (decoded, kind, data_type) = match found {
        T::Dictionary(_, values) => return supported(values, stored),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => (dictionary(), Kind::Categorical, dictionary()),
        T::Null => (T::Null, Kind::Categorical, dictionary()),
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => {
            (found.clone(), Kind::Numeric, found.clone())
        }
        T::Float32 | T::Float64 => (found.clone(), Kind::Numeric, found.clone()),
        T::Float16 => (T::Float16, Kind::Numeric, T::Float32),
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => {
            (found.clone(), Kind::Numeric, T::Float64)
        }
        T::Boolean => (T::Boolean, Kind::Boolean, T::Boolean),
        // The nanoseconds that these old timestamps decode to by default end in the year 2262.
        T::Timestamp(..) if is_int96(stored) => {
            (T::Timestamp(TimeUnit::Millisecond, None), Kind::Timestamp, canonical_timestamp())
        }
        T::Date32 | T::Date64 | T::Timestamp(..) => (found.clone(), Kind::Timestamp, canonical_timestamp()),
        _ => return None,
    };
    Some((decoded, Delivery { kind, data_type }))
}

fn is_int96(stored: &ParquetType) -> bool {
    stored.is_primitive() && stored.get_physical_type() == PhysicalType::INT96
}

/// The same metadata, by which the columns read decode to the types asked for.
fn with_decoded_types(
    metadata: ArrowReaderMetadata,
    readings: &[(usize, Reading)],
) -> Result<ArrowReaderMetadata, Error> {
    let mut fields: Vec<Field> = metadata.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    for (root, reading) in readings {
        fields[*root] = fields[*root].clone().with_data_type(reading.decoded.clone());
    }
    let options = without_statistics().with_schema(Arc::new(Schema::new(fields)));
    ArrowReaderMetadata::try_new(metadata.metadata().clone(), options).map_err(Error::Parquet)
}

/// As many rows as the options allow, given what a row takes on average in the row group where it takes most.
fn rows_of_batch(metadata: &ArrowReaderMetadata, mask: &ProjectionMask, options: &ScanOptions) -> usize {
    let row_bytes = |group: &RowGroupMetaData| {
        let read = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
        let bytes = read.fold(0_i64, |sum, (_, column)| sum.saturating_add(column.uncompressed_size().max(0)));
        usize::try_from(bytes / group.num_rows().max(1)).unwrap_or(usize::MAX)
    };
    let widest = metadata.metadata().row_groups().iter().map(row_bytes).max().unwrap_or(0);
    let fitting = options.batch_bytes / widest.max(1);
    options.batch_rows.min(fitting.max(LEAST_ROWS)).max(1)
}

/// Values of one kind as values of another: each as it would be written in text.
fn reparsed(name: &str, values: &ArrayRef, data_type: &DataType) -> Result<Built, Error> {
    let mut builder = ColumnBuilder::new(data_type);
    if let Some(texts) = values.as_dictionary_opt::<Int32Type>().and_then(|keys| keys.downcast_dict::<StringArray>()) {
        texts.into_iter().try_for_each(|text| builder.push(text))?;
        return Ok(builder.finish());
    }
    let canonical = match values.data_type() {
        // Beyond the canonical integers there are some that have a text.
        DataType::UInt64 => compute::cast(values, &DataType::Utf8).map_err(Error::arrow("write integers as text"))?,
        _ => normalise(name, values)?,
    };
    for row in 0..canonical.len() {
        match value_at(&canonical, row) {
            None => builder.push(None)?,
            Some(Value::Text(text)) => builder.push(Some(text))?,
            Some(value) => builder.push(Some(&value.text()))?,
        }
    }
    Ok(builder.finish())
}

/// A decoder that was led astray by a damaged file may answer with keys for which there are no values.
fn check_dictionary(array: &ArrayRef) -> Result<(), Error> {
    match array.as_any_dictionary_opt() {
        Some(dictionary) if dictionary.values().is_empty() && array.null_count() < array.len() => {
            Err(Error::Parquet(ParquetError::General("a dictionary page has no values".to_owned())))
        }
        _ => Ok(()),
    }
}

/// Counts rows from the start of the file instead of the batch's.
fn from_row(start: u64, error: Error) -> Error {
    match error {
        Error::Lossy { column, row, value, to } => {
            Error::Lossy { column, row: row.saturating_add(usize::try_from(start).unwrap_or(usize::MAX)), value, to }
        }
        other => other,
    }
}
