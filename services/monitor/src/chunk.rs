//! Chunks: the prediction log and the outcomes as immutable Parquet files in the object store.
//!
//! A prediction chunk holds rows of one model version: `prediction_id` (16 bytes), `row`, `event_time`, `answered_at`, `in.<feature>`
//! and `out.<output>` as the replicas sent them, `request_id` and `entity_key` of the request, and `replica`, `incarnation`. An outcome chunk holds `prediction_id`, `row`, `label` or
//! `number`, and the position at which the outcome was reported: `reported_at`, `reported_sequence`, `reported_line`. Any Parquet
//! reader can read both.

pub mod columns;
pub mod outcomes;

use arrow::{array::RecordBatch, compute::concat_batches};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use parquet::{
    arrow::{
        ArrowWriter, ProjectionMask,
        arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector},
    },
    basic::{Compression, ZstdLevel},
    file::{
        metadata::{PageIndexPolicy, ParquetMetaData},
        page_index::column_index::ColumnIndexMetaData,
        properties::WriterProperties,
    },
    schema::types::ColumnPath,
};
use rekindle_dataset::prediction_log::PREDICTION_ID;
use rekindle_domain::{Digest, ModelName};
use uuid::Uuid;

use crate::Error;

/// Rows of a page of outcomes. They are sorted by row, so that those of a window, or of one row, are in a few pages of each chunk.
const PAGE_ROWS: usize = 1024;

/// Rows decoded at a time.
const READ_ROWS: usize = 8192;

/// What the rows of a chunk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rows of the prediction log.
    Prediction,
    /// Rows of the prediction log that are test rows: they are in no window, no quality and no export.
    Test,
    /// Outcomes.
    Outcome,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Prediction, Self::Test, Self::Outcome];

    /// The spelling in the index and in export manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prediction => "prediction",
            Self::Test => "test",
            Self::Outcome => "outcome",
        }
    }

    /// The folder of the object store.
    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Prediction => "captures",
            Self::Test => "tests",
            Self::Outcome => "outcomes",
        }
    }
}

/// An entry of the index: one immutable object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its id, and its object's name.
    pub id: Uuid,
    /// What its rows are.
    pub kind: Kind,
    /// The model whose rows it holds.
    pub model: ModelName,
    /// The version that answered; 0 for outcomes.
    pub model_version: u32,
    /// The bundle that answered; `None` for outcomes.
    pub bundle: Option<Digest>,
    /// Key in the object store.
    pub object_key: String,
    /// Digest of the object's bytes.
    pub digest: Digest,
    /// Number of rows.
    pub rows: u64,
    /// Size of the object in bytes.
    pub bytes: u64,
    /// The earliest and the latest event time, in milliseconds; of predictions only.
    pub events: Option<(i64, i64)>,
    /// The smallest and the greatest prediction id.
    pub ids: (u128, u128),
}

/// Rows of one model version, or outcomes of one model, that become a chunk.
pub(crate) struct Draft {
    pub(crate) kind: Kind,
    pub(crate) model: ModelName,
    /// 0 for outcomes.
    pub(crate) model_version: u32,
    /// `None` for outcomes.
    pub(crate) bundle: Option<Digest>,
    pub(crate) batch: RecordBatch,
}

impl Draft {
    /// The index entry and the object's bytes of a chunk written at `now` under the new id `id`.
    pub(crate) fn encode(self, now: DateTime<Utc>, id: Uuid) -> Result<(Chunk, Bytes), Error> {
        let ids = columns::Keys::of(&self.batch)?.id_range().unwrap_or_default();
        let events = match self.kind {
            Kind::Prediction | Kind::Test => {
                let times = columns::event_times(&self.batch)?;
                arrow::compute::min(times).zip(arrow::compute::max(times))
            }
            Kind::Outcome => None,
        };
        let bytes = encode(&self.batch, self.kind)?;
        let chunk = Chunk {
            id,
            kind: self.kind,
            object_key: object_key(self.kind, &self.model, now, id),
            model: self.model,
            model_version: self.model_version,
            bundle: self.bundle,
            digest: Digest::of(&bytes),
            rows: self.batch.num_rows() as u64,
            bytes: bytes.len() as u64,
            events,
            ids,
        };
        Ok((chunk, bytes))
    }
}

/// The key of a chunk written at `now`.
pub fn object_key(kind: Kind, model: &ModelName, now: DateTime<Utc>, id: Uuid) -> String {
    format!("{}/{model}/{}/{id}.parquet", kind.folder(), now.format("%Y-%m-%d"))
}

/// Encodes rows as a Parquet file.
pub fn encode(batch: &RecordBatch, kind: Kind) -> Result<Bytes, Error> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        // Prediction ids are unique: a dictionary would hold every one of them twice.
        .set_column_dictionary_enabled(ColumnPath::from(PREDICTION_ID), false);
    if kind == Kind::Outcome {
        properties = properties.set_data_page_row_count_limit(PAGE_ROWS).set_write_batch_size(PAGE_ROWS);
    }
    let properties = properties.build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(batch)?;
    Ok(writer.into_inner()?.into())
}

/// Decodes the columns that `selects` accepts by name, some thousand rows at a time.
pub fn read(
    bytes: Bytes,
    selects: impl Fn(&str) -> bool,
) -> Result<impl Iterator<Item = Result<RecordBatch, Error>>, Error> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let fields = builder.schema().fields().iter().enumerate();
    let roots: Vec<usize> = fields.filter(|(_, field)| selects(field.name())).map(|(index, _)| index).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder.with_projection(mask).with_batch_size(READ_ROWS).build()?;
    Ok(reader.map(|batch| batch.map_err(Error::from)))
}

/// Decodes the pages that may hold rows of prediction ids in the range `ids`, with every column.
pub fn read_ids(bytes: Bytes, ids: (u128, u128)) -> Result<impl Iterator<Item = Result<RecordBatch, Error>>, Error> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options)?;
    let selection = pages(builder.metadata(), ids);
    let builder = match selection {
        Some(selection) => builder.with_row_selection(selection),
        None => builder,
    };
    let reader = builder.with_batch_size(READ_ROWS).build()?;
    Ok(reader.map(|batch| batch.map_err(Error::from)))
}

/// The rows of the pages whose ids overlap the range `ids`; `None` of a file without an index of its pages.
fn pages(metadata: &ParquetMetaData, (first, last): (u128, u128)) -> Option<RowSelection> {
    let columns = metadata.file_metadata().schema_descr().columns();
    let column = columns.iter().position(|column| column.path().string() == PREDICTION_ID)?;
    let (indexes, offsets) = (metadata.column_index()?, metadata.offset_index()?);
    let bound = |bytes: Option<&[u8]>| bytes.and_then(|bytes| bytes.try_into().ok()).map(u128::from_be_bytes);
    let mut selectors = Vec::new();
    for (group, rows) in metadata.row_groups().iter().enumerate() {
        let ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(index) = indexes.get(group)?.get(column)? else { return None };
        let pages = offsets.get(group)?.get(column)?.page_locations();
        let ends = pages.iter().skip(1).map(|page| page.first_row_index).chain([rows.num_rows()]);
        for (page, (location, end)) in pages.iter().zip(ends).enumerate() {
            let rows = usize::try_from(end - location.first_row_index).ok()?;
            let (least, greatest) = (bound(index.min_value(page))?, bound(index.max_value(page))?);
            let is_outside = greatest < first || least > last;
            selectors.push(if is_outside { RowSelector::skip(rows) } else { RowSelector::select(rows) });
        }
    }
    Some(selectors.into())
}

/// Decodes the rows at some positions of a file, in ascending order, with every column.
pub fn read_rows(bytes: Bytes, positions: &[usize]) -> Result<RecordBatch, Error> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let total = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
    let ranges = positions.iter().map(|&position| position..position + 1);
    let selection = RowSelection::from_consecutive_ranges(ranges, total);
    let schema = builder.schema().clone();
    let reader = builder.with_row_selection(selection).with_batch_size(READ_ROWS).build()?;
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_by_their_positions() {
        let numbers: Vec<i64> = (0..30_000).collect();
        let column: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int64Array::from(numbers));
        let batch = RecordBatch::try_from_iter([("n", column)]).expect("one column");
        let bytes = encode(&batch, Kind::Prediction).expect("a file");
        let read = |positions: &[usize]| {
            let batch = read_rows(bytes.clone(), positions).expect("readable");
            arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(batch.column(0)).values().to_vec()
        };
        assert_eq!(read(&[0, 1, 2, 9_000, 29_999]), [0, 1, 2, 9_000, 29_999]);
        assert_eq!(read(&[]), Vec::<i64>::new());
    }

    #[test]
    fn of_some_ids_only_their_pages_are_read() {
        let ids = |batches: Vec<Result<RecordBatch, Error>>| -> Vec<u128> {
            let batches = batches.into_iter().map(|batch| batch.expect("readable"));
            batches
                .flat_map(|batch| {
                    let keys = columns::Keys::of(&batch).expect("keys");
                    (0..keys.rows()).map(|row| keys.key(row).prediction).collect::<Vec<_>>()
                })
                .collect()
        };
        let outcomes: Vec<_> = (0..10_000_u128).map(|n| outcomes::tests::of_id(n * 7_919 % 10_000 * 10)).collect();
        let batch = outcomes::batch(&outcomes).expect("one batch");
        let read = |kind, range| ids(read_ids(encode(&batch, kind).expect("a file"), range).expect("a file").collect());
        let some = read(Kind::Outcome, (50_005, 50_030));
        assert!((50_010..=50_030).step_by(10).all(|id| some.contains(&id)), "{some:?}");
        assert!(some.len() <= 2 * PAGE_ROWS, "{}", some.len());
        assert_eq!(read(Kind::Outcome, (0, u128::MAX)).len(), 10_000);
        assert!(read(Kind::Outcome, (100_000, u128::MAX)).is_empty());
    }

    #[test]
    fn object_keys_sort_by_model_and_day() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).expect("in range");
        let model = "flight-delay".parse().expect("a valid name");
        assert_eq!(
            object_key(Kind::Prediction, &model, now, Uuid::nil()),
            "captures/flight-delay/2023-11-14/00000000-0000-0000-0000-000000000000.parquet"
        );
        assert!(object_key(Kind::Outcome, &model, now, Uuid::nil()).starts_with("outcomes/flight-delay/"));
    }
}
