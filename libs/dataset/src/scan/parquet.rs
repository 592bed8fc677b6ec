use std::{panic::AssertUnwindSafe, sync::Arc};

use ::parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader},
        parquet_to_arrow_field_levels,
    },
    basic::Type as PhysicalType,
    errors::ParquetError,
    file::{
        metadata::{ParquetStatisticsPolicy, RowGroupMetaData},
        reader::ChunkReader,
    },
    schema::types::Type as ParquetType,
};
use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch, StringArray, new_null_array},
    compute,
    datatypes::{ArrowNativeType as _, DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit},
};
use rekindle_domain::{ColumnKind, dataset::TimeFormat};

use super::{
    Expectation, Progress, ScanBatch, ScanColumn, ScanOptions, SkipReason, Skipped, Types, assemble,
    builder::{Built, ColumnBuilder, dictionary, type_of},
    csv::{Choice, no_time},
    expectation, footer,
    missing::Missing,
    page::Held,
    pages::Group,
    schema_of,
};
use crate::{
    Error, Note, canonical_timestamp,
    cast::{Value, epochs, value_at},
    normalise::{canonical_type, float_of_decimal, is_whole_decimal, normalise},
    schema::{check_names, kind_of},
};

/// Fewest rows of a batch, however wide: below this the cost of each column exceeds that of its values.
const LEAST_ROWS: usize = 64;

/// A Parquet file past its footer.
pub(super) struct ParquetScan {
    /// Of the current row group.
    reader: Option<ParquetRecordBatchReader>,
    /// Makes the readers of the next row groups.
    readers: Box<dyn Iterator<Item = Result<ParquetRecordBatchReader, ParquetError>> + Send>,
    /// The pages that the readers hold.
    held: Arc<Held>,
    /// Decoded rows that did not fit into the last batch.
    rest: Option<RecordBatch>,
    columns: Vec<Reading>,
    schema: SchemaRef,
    missing: Missing,
    batch_bytes: usize,
    done: u64,
    total: u64,
}

/// How a column is read.
struct Reading {
    /// Its index in the file.
    root: usize,
    name: String,
    /// The type requested from the decoder.
    decoded: DataType,
    /// The type of the column's own kind.
    own: Delivery,
    /// The type returned, if another kind than the column's own is expected.
    expected: Option<Delivery>,
    /// How times are written that are stored as text or numbers.
    times: TimeFormat,
    /// Whether the column was declared to hold times, so that a value that is none is an error.
    is_declared: bool,
}

#[derive(Clone)]
struct Delivery {
    kind: ColumnKind,
    data_type: DataType,
}

impl ParquetScan {
    /// The file, the columns that are read and those that are not.
    pub(super) fn open<R: ChunkReader + 'static>(file: R, options: &ScanOptions) -> Result<(Self, Choice), Error> {
        without_panic(|| Self::open_trusting(file, options))
    }

    fn open_trusting<R: ChunkReader + 'static>(file: R, options: &ScanOptions) -> Result<(Self, Choice), Error> {
        footer::check(&file)?;
        let metadata = ArrowReaderMetadata::load(&file, without_statistics()).map_err(Error::Parquet)?;
        let found = metadata.schema().clone();
        if found.fields().len() > options.columns {
            return Err(Error::TooLarge { what: "columns", limit: options.columns });
        }
        check_names(found.fields().iter().map(|field| field.name().as_str()))?;
        let (readings, mut chosen) = choose(&metadata, options)?;
        let metadata = with_decoded_types(metadata, &readings)?;
        let mask = ProjectionMask::roots(metadata.parquet_schema(), readings.iter().map(|reading| reading.root));
        let total = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
        let rows = rows_of_batch(&metadata, &mask, options);
        let hint = Some(metadata.schema().fields());
        let levels = parquet_to_arrow_field_levels(metadata.parquet_schema(), mask, hint).map_err(Error::Parquet)?;
        let held = Arc::new(Held::for_file(file.len()));
        let (file, metadata) = (Arc::new(file), metadata.metadata().clone());
        let (page_bytes, pages) = (options.page_bytes, held.clone());
        // One row group per reader: the decoder expands the texts of a batch over two groups, as each has its own dictionary.
        let readers = (0..metadata.num_row_groups()).map(move |index| {
            let (file, metadata, held) = (file.clone(), metadata.clone(), pages.clone());
            let group = Group { file, metadata, index, page_bytes, held };
            ParquetRecordBatchReader::try_new_with_row_groups(&levels, &group, rows, None)
        });
        let columns: Vec<ScanColumn> = readings.iter().map(Reading::column).collect();
        let scan = Self {
            reader: None,
            readers: Box::new(readers),
            held,
            rest: None,
            columns: readings,
            schema: schema_of(&columns),
            missing: Missing::new(&options.reading.missing),
            batch_bytes: options.batch_bytes,
            done: 0,
            total,
        };
        chosen.columns = columns;
        Ok((scan, chosen))
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { done: self.done, total: self.total }
    }

    /// The next rows, or `None` at the end. Not to be called again after an error.
    pub(super) fn batch(&mut self) -> Result<Option<ScanBatch>, Error> {
        without_panic(|| self.batch_trusting())
    }

    fn batch_trusting(&mut self) -> Result<Option<ScanBatch>, Error> {
        let Some(decoded) = self.fitting()? else { return Ok(None) };
        let arrays = self.columns.iter().zip(decoded.columns());
        let deliver = |(column, array): (&Reading, &ArrayRef)| column.deliver(array, &self.missing);
        let built = arrays.map(|array| deliver(array).map_err(|error| error.after_rows(self.done)));
        let built = built.collect::<Result<Vec<Built>, Error>>()?;
        self.done += decoded.num_rows() as u64;
        assemble(&self.schema, built, decoded.num_rows(), &self.missing).map(Some)
    }

    /// Decoded rows that stay within the bytes of a batch when their texts are expanded from dictionaries; at least one.
    fn fitting(&mut self) -> Result<Option<RecordBatch>, Error> {
        let decoded = match self.rest.take() {
            Some(rest) => rest,
            None => match self.decoded()? {
                Some(decoded) => decoded,
                None => return Ok(None),
            },
        };
        let expanded = self.columns.iter().zip(decoded.columns()).filter(|(column, _)| column.is_expanded());
        let mut bytes = vec![0; decoded.num_rows()];
        for (_, array) in expanded {
            check_dictionary(array)?;
            add_text_bytes(array, &mut bytes);
        }
        let mut total = 0_usize;
        let fitting = bytes.iter().take_while(|&&row| {
            total = total.saturating_add(row);
            total <= self.batch_bytes
        });
        let rows = fitting.count().max(1).min(decoded.num_rows());
        if rows < decoded.num_rows() {
            self.rest = Some(decoded.slice(rows, decoded.num_rows() - rows));
        }
        Ok(Some(decoded.slice(0, rows)))
    }

    fn decoded(&mut self) -> Result<Option<RecordBatch>, Error> {
        self.held.begin();
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

/// Runs what decodes Parquet. The decoder asserts much that a damaged file can violate, in its schema above all;
/// a panic becomes an error like any other. What was being read must not be used afterwards.
pub(crate) fn without_panic<T>(decode: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    std::panic::catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let reason = said.unwrap_or("the decoder panicked");
        Err(Error::Parquet(ParquetError::General(format!("the file is damaged: {reason}"))))
    })
}

impl Reading {
    fn column(&self) -> ScanColumn {
        let Delivery { kind, data_type } = self.expected.as_ref().unwrap_or(&self.own).clone();
        ScanColumn { name: self.name.clone(), kind, data_type, is_empty: false }
    }

    /// Whether decoded dictionaries are expanded to one text per row.
    fn is_expanded(&self) -> bool {
        self.own.data_type == DataType::Utf8 && self.decoded == dictionary()
    }

    /// The decoded values in the type to return, as far as it can hold them.
    fn deliver(&self, decoded: &ArrayRef, missing: &Missing) -> Result<Built, Error> {
        let own = self.in_own_type(decoded)?;
        let all = |array| Ok(Built { array, unparsable: 0, example: None });
        let Some(Delivery { kind, data_type }) = &self.expected else { return all(own) };
        // What is missing must not be parsed.
        let own = missing.unified(own)?;
        if own.null_count() == own.len() {
            return all(new_null_array(data_type, own.len()));
        }
        if let (ColumnKind::Timestamp, ColumnKind::Numeric, TimeFormat::Epoch(unit)) = (kind, self.own.kind, self.times)
        {
            return epochs(&self.name, &own, unit).and_then(all);
        }
        let built = reparsed(&self.name, &own, data_type, self.times)?;
        if self.is_declared && built.unparsable > 0 {
            let row = (0..own.len()).find(|&row| own.is_valid(row) && built.array.is_null(row)).unwrap_or_default();
            return Err(no_time(&self.name, row, built.example.as_deref().unwrap_or_default(), self.times));
        }
        Ok(built)
    }

    fn in_own_type(&self, decoded: &ArrayRef) -> Result<ArrayRef, Error> {
        if *decoded.data_type() == self.own.data_type {
            check_dictionary(decoded)?;
            return Ok(decoded.clone());
        }
        match (decoded.data_type(), &self.own.data_type) {
            (DataType::Null, own) => Ok(new_null_array(own, decoded.len())),
            (found, DataType::Float64) if found.is_decimal() => float_of_decimal(decoded),
            (DataType::Float16, own @ DataType::Float32) => {
                compute::cast(decoded, own).map_err(Error::arrow("convert a column to floats"))
            }
            _ => normalise(&self.name, decoded),
        }
    }
}

/// Adds to `bytes` what the text of each row takes.
fn add_text_bytes(array: &ArrayRef, bytes: &mut [usize]) {
    let array = array.as_dictionary::<Int32Type>();
    let texts = array.values().as_string::<i32>();
    for (row, bytes) in bytes.iter_mut().enumerate() {
        if let Some(key) = array.key(row) {
            *bytes += texts.offsets()[key + 1].as_usize() - texts.offsets()[key].as_usize();
        }
    }
}

/// A scan of all rows needs no statistics, and there may be many.
fn without_statistics() -> ArrowReaderOptions {
    ArrowReaderOptions::new()
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll)
}

/// Chooses the columns that are read; also returns those that are not, and the notes.
fn choose(metadata: &ArrowReaderMetadata, options: &ScanOptions) -> Result<(Vec<Reading>, Choice), Error> {
    let roots = metadata.parquet_schema().root_schema().get_fields();
    let (mut readings, mut chosen) = (Vec::new(), Choice::default());
    for (root, (field, stored)) in metadata.schema().fields().iter().zip(roots).enumerate() {
        let name = field.name().clone();
        let expectation = expectation(options, &name);
        if matches!(expectation, Expectation::Skip) {
            chosen.skipped.push(Skipped { name, reason: SkipReason::Unexpected });
            continue;
        }
        let Some((decoded, own)) = reading(&name, field.data_type(), stored, options.types)? else {
            let found = field.data_type().to_string();
            chosen.skipped.push(Skipped { name, reason: SkipReason::Unsupported { found } });
            continue;
        };
        let is_declared = matches!(expectation, Expectation::Own) && options.reading.time_formats.contains_key(&name);
        let expected = match expectation {
            Expectation::Kind(kind) => Some(kind),
            _ => is_declared.then_some(ColumnKind::Timestamp),
        };
        let expected = expected.filter(|&kind| kind != own.kind);
        let expected = expected.map(|kind| Delivery { kind, data_type: type_of(kind, options.types) });
        chosen.notes.extend(Note::of_index(&name, true));
        chosen.notes.extend(Note::of_decimals(&name, field.data_type()));
        let times = options.reading.time_format_of(&name);
        readings.push(Reading { root, name, decoded, own, expected, times, is_declared });
    }
    Ok((readings, chosen))
}

/// How to read a column of type `found`; `None` if it is to be skipped.
fn reading(
    name: &str,
    found: &DataType,
    stored: &ParquetType,
    types: Types,
) -> Result<Option<(DataType, Delivery)>, Error> {
    let supported = supported(found, stored);
    if types == Types::Stored {
        return Ok(supported);
    }
    let data_type = canonical_type(name, found)?;
    let kind = kind_of(&data_type).unwrap_or(ColumnKind::Categorical);
    Ok(supported.map(|(decoded, _)| (decoded, Delivery { kind, data_type })))
}

/// The type in which to decode a column of type `found`, and the cheapest type for its values; `None` if no kind fits.
fn supported(found: &DataType, stored: &ParquetType) -> Option<(DataType, Delivery)> {
    use DataType as T;
    let (decoded, kind, data_type) = match found {
        T::Dictionary(_, values) => return supported(values, stored),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => (dictionary(), ColumnKind::Categorical, dictionary()),
        T::Null => (T::Null, ColumnKind::Categorical, dictionary()),
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => {
            (found.clone(), ColumnKind::Numeric, found.clone())
        }
        T::Float32 | T::Float64 => (found.clone(), ColumnKind::Numeric, found.clone()),
        T::Float16 => (T::Float16, ColumnKind::Numeric, T::Float32),
        found if is_whole_decimal(found) => (found.clone(), ColumnKind::Numeric, T::Int64),
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => {
            (found.clone(), ColumnKind::Numeric, T::Float64)
        }
        T::Boolean => (T::Boolean, ColumnKind::Boolean, T::Boolean),
        // By default these old timestamps decode to nanoseconds, which end in the year 2262.
        T::Timestamp(..) if is_int96(stored) => {
            (T::Timestamp(TimeUnit::Millisecond, None), ColumnKind::Timestamp, canonical_timestamp())
        }
        T::Date32 | T::Date64 | T::Timestamp(..) => (found.clone(), ColumnKind::Timestamp, canonical_timestamp()),
        _ => return None,
    };
    Some((decoded, Delivery { kind, data_type }))
}

fn is_int96(stored: &ParquetType) -> bool {
    stored.is_primitive() && stored.get_physical_type() == PhysicalType::INT96
}

/// The metadata with the types in which the columns are decoded.
fn with_decoded_types(metadata: ArrowReaderMetadata, readings: &[Reading]) -> Result<ArrowReaderMetadata, Error> {
    let mut fields: Vec<Field> = metadata.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    for reading in readings {
        fields[reading.root] = fields[reading.root].clone().with_data_type(reading.decoded.clone());
    }
    let options = without_statistics().with_schema(Arc::new(Schema::new(fields)));
    ArrowReaderMetadata::try_new(metadata.metadata().clone(), options).map_err(Error::Parquet)
}

/// As many rows as the options allow, given the row group whose rows take most on average.
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

/// Converts values to another kind by way of their text.
fn reparsed(name: &str, values: &ArrayRef, data_type: &DataType, times: TimeFormat) -> Result<Built, Error> {
    let mut builder = ColumnBuilder::new(data_type, times);
    if let Some(texts) = values.as_dictionary_opt::<Int32Type>().and_then(|keys| keys.downcast_dict::<StringArray>()) {
        texts.into_iter().try_for_each(|text| builder.push(text))?;
        return Ok(builder.finish());
    }
    let canonical = match values.data_type() {
        // Some of these are beyond the canonical integers.
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

/// For a damaged file the decoder may return keys without values.
fn check_dictionary(array: &ArrayRef) -> Result<(), Error> {
    match array.as_any_dictionary_opt() {
        Some(dictionary) if dictionary.values().is_empty() && array.null_count() < array.len() => {
            Err(Error::Parquet(ParquetError::General("a dictionary page has no values".to_owned())))
        }
        _ => Ok(()),
    }
}
