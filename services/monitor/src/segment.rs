//! Segments: the prediction log and the outcomes as plain Parquet objects.
//!
//! A prediction segment holds rows of one model version: `prediction_id` (16 bytes), `row`, `event_time`, `answered_at`, `in.<feature>`,
//! `out.<output>` as the replicas sent them, and `replica`, `incarnation`. An outcome segment holds `prediction_id`, `row`, `label` or
//! `number`, and where it was told: `told_at`, `told_sequence`, `told_line`. Any Parquet reader can read both.

use std::sync::Arc;

use arrow::{
    array::{
        Array, AsArray, FixedSizeBinaryArray, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray,
        TimestampNanosecondArray, UInt32Array, UInt64Array,
    },
    datatypes::{
        DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType,
        TimestampNanosecondType, UInt32Type, UInt64Type,
    },
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use parquet::{
    arrow::{ArrowWriter, ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
    schema::types::ColumnPath,
};
pub use rekindle_dataset::prediction_log::{
    ANSWERED_AT, EVENT_TIME, INPUT_PREFIX as INPUT, OUTPUT_PREFIX as OUTPUT, PREDICTION_ID, ROW,
};
use rekindle_domain::{Digest, ModelName};
use uuid::Uuid;

use crate::{
    Error,
    join::Told,
    outcome::{Key, Outcome, Truth},
};

/// Name of the column of replicas.
pub const REPLICA: &str = "replica";
/// Name of the column of the replicas' lives.
pub const INCARNATION: &str = "incarnation";
/// Rows decoded at a time.
const READ_ROWS: usize = 8192;

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rows of the prediction log.
    Prediction,
    /// Outcomes.
    Outcome,
}

/// An entry of the index: one immutable object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its id, and its object's name.
    pub id: Uuid,
    /// What it holds.
    pub kind: Kind,
    /// Whose rows.
    pub model: ModelName,
    /// The version that answered; 0 for outcomes.
    pub model_version: u32,
    /// The bundle that answered; `None` for outcomes.
    pub bundle: Option<Digest>,
    /// Key in the object store.
    pub object_key: String,
    /// Of the object's bytes.
    pub digest: Digest,
    /// Rows.
    pub rows: u64,
    /// Size of the object.
    pub bytes: u64,
    /// The earliest and the latest event time, in milliseconds; of predictions only.
    pub events: Option<(i64, i64)>,
    /// The smallest and the greatest prediction id.
    pub ids: (u128, u128),
}

/// The key of a segment written at `now`.
pub fn object_key(kind: Kind, model: &ModelName, now: DateTime<Utc>, id: Uuid) -> String {
    let folder = match kind {
        Kind::Prediction => "captures",
        Kind::Outcome => "outcomes",
    };
    format!("{folder}/{model}/{}/{id}.parquet", now.format("%Y-%m-%d"))
}

/// Writes rows as a Parquet object.
pub fn encode(batch: &RecordBatch) -> Result<Bytes, Error> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_column_dictionary_enabled(ColumnPath::from(PREDICTION_ID), false)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(batch)?;
    Ok(writer.into_inner()?.into())
}

/// Reads the columns of an object whose names `wanted` accepts, some thousand rows at a time.
pub fn read(
    bytes: Bytes,
    wanted: impl Fn(&str) -> bool,
) -> Result<impl Iterator<Item = Result<RecordBatch, Error>>, Error> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let fields = builder.schema().fields().iter().enumerate();
    let roots: Vec<usize> = fields.filter(|(_, field)| wanted(field.name())).map(|(place, _)| place).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder.with_projection(mask).with_batch_size(READ_ROWS).build()?;
    Ok(reader.map(|batch| batch.map_err(Error::from)))
}

fn missing(column: &str, expected: &'static str) -> Error {
    Error::Column { column: column.to_owned(), expected }
}

/// A column that must be there.
pub fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array, Error> {
    batch.column_by_name(name).map(AsRef::as_ref).ok_or_else(|| missing(name, "any type"))
}

/// The columns that name a row.
pub struct Keys<'a> {
    ids: &'a FixedSizeBinaryArray,
    rows: &'a UInt32Array,
}

impl<'a> Keys<'a> {
    /// Finds them.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, Error> {
        let ids = column(batch, PREDICTION_ID)?
            .as_fixed_size_binary_opt()
            .filter(|ids| ids.value_length() == 16)
            .ok_or_else(|| missing(PREDICTION_ID, "16 bytes"))?;
        let rows = column(batch, ROW)?.as_primitive_opt::<UInt32Type>().ok_or_else(|| missing(ROW, "uint32"))?;
        Ok(Self { ids, rows })
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The key of a row.
    pub fn key(&self, place: usize) -> Key {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(self.ids.value(place));
        Key { prediction: u128::from_be_bytes(bytes), row: self.rows.value(place) }
    }

    /// The smallest and the greatest prediction id; `None` where there are no rows.
    pub fn id_range(&self) -> Option<(u128, u128)> {
        let ids = || (0..self.rows()).map(|place| self.key(place).prediction);
        ids().min().zip(ids().max())
    }
}

/// The column of event times.
pub fn event_times(batch: &RecordBatch) -> Result<&TimestampMillisecondArray, Error> {
    column(batch, EVENT_TIME)?
        .as_primitive_opt::<TimestampMillisecondType>()
        .ok_or_else(|| missing(EVENT_TIME, "timestamp in milliseconds"))
}

/// Any of the text columns.
pub fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray, Error> {
    column(batch, name)?.as_string_opt::<i32>().ok_or_else(|| missing(name, "text"))
}

/// A column of numbers as doubles; nulls stay missing. `None` where it holds no numbers.
pub fn numbers(column: &dyn Array) -> Option<Vec<Option<f64>>> {
    if let Some(values) = column.as_primitive_opt::<Float64Type>() {
        return Some(values.iter().collect());
    }
    if let Some(values) = column.as_primitive_opt::<arrow::datatypes::Float32Type>() {
        return Some(values.iter().map(|value| value.map(f64::from)).collect());
    }
    let values = column.as_primitive_opt::<Int64Type>()?;
    Some(values.iter().map(|value| value.map(|value| value as f64)).collect())
}

fn outcome_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(PREDICTION_ID, DataType::FixedSizeBinary(16), false),
        Field::new(ROW, DataType::UInt32, false),
        Field::new("label", DataType::Utf8, true),
        Field::new("number", DataType::Float64, true),
        Field::new("told_at", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), false),
        Field::new("told_sequence", DataType::UInt64, false),
        Field::new("told_line", DataType::UInt32, false),
    ]))
}

/// Outcomes as rows of a segment.
pub fn outcome_batch(outcomes: &[(Told, Outcome)]) -> Result<RecordBatch, Error> {
    let label = |truth: &Truth| match truth {
        Truth::Label(label) => Some(label.clone()),
        Truth::Number(_) => None,
    };
    let number = |truth: &Truth| match truth {
        Truth::Label(_) => None,
        Truth::Number(number) => Some(*number),
    };
    let rows = || outcomes.iter();
    let ids = FixedSizeBinaryArray::try_from_iter(rows().map(|(_, outcome)| outcome.key.prediction.to_be_bytes()))?;
    let told_at: TimestampNanosecondArray = rows().map(|(told, _)| Some(told.at)).collect();
    Ok(RecordBatch::try_new(
        outcome_schema(),
        vec![
            Arc::new(ids),
            Arc::new(rows().map(|(_, outcome)| Some(outcome.key.row)).collect::<UInt32Array>()),
            Arc::new(rows().map(|(_, outcome)| label(&outcome.truth)).collect::<StringArray>()),
            Arc::new(rows().map(|(_, outcome)| number(&outcome.truth)).collect::<Float64Array>()),
            Arc::new(told_at.with_timezone("UTC")),
            Arc::new(rows().map(|(told, _)| Some(told.sequence)).collect::<UInt64Array>()),
            Arc::new(rows().map(|(told, _)| Some(told.line)).collect::<UInt32Array>()),
        ],
    )?)
}

/// Calls `take` for each outcome of a segment's rows.
pub fn each_outcome(batch: &RecordBatch, mut take: impl FnMut(Key, Told, &dyn Fn() -> Truth)) -> Result<(), Error> {
    let keys = Keys::of(batch)?;
    let labels = texts(batch, "label")?;
    let numbers =
        column(batch, "number")?.as_primitive_opt::<Float64Type>().ok_or_else(|| missing("number", "double"))?;
    let at = column(batch, "told_at")?
        .as_primitive_opt::<TimestampNanosecondType>()
        .ok_or_else(|| missing("told_at", "timestamp in nanoseconds"))?;
    let sequences = column(batch, "told_sequence")?
        .as_primitive_opt::<UInt64Type>()
        .ok_or_else(|| missing("told_sequence", "uint64"))?;
    let lines =
        column(batch, "told_line")?.as_primitive_opt::<UInt32Type>().ok_or_else(|| missing("told_line", "uint32"))?;
    for place in 0..keys.rows() {
        let told = Told { at: at.value(place), sequence: sequences.value(place), line: lines.value(place) };
        let truth = || match labels.is_valid(place) {
            true => Truth::Label(labels.value(place).to_owned()),
            false => Truth::Number(numbers.value(place)),
        };
        take(keys.key(place), told, &truth);
    }
    Ok(())
}

/// Rows of the prediction log with the replica that sent them.
pub fn with_replica(batch: &RecordBatch, replica: &str, incarnation: &str) -> Result<RecordBatch, Error> {
    let repeat = |text: &str| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, batch.num_rows())));
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    let mut columns = batch.columns().to_vec();
    for (name, text) in [(REPLICA, replica), (INCARNATION, incarnation)] {
        fields.push(Arc::new(Field::new(name, DataType::Utf8, false)));
        columns.push(repeat(text));
    }
    // The message's own metadata tells of one message; a segment holds many.
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_survive_the_segment() {
        let outcomes: Vec<(Told, Outcome)> = [Truth::Label("late".into()), Truth::Number(2.5)]
            .into_iter()
            .zip(1u32..)
            .map(|(truth, line)| {
                let key = Key { prediction: u128::MAX - u128::from(line), row: line };
                (Told { at: i64::from(line) * 7, sequence: 9, line }, Outcome { key, truth })
            })
            .collect();
        let bytes = encode(&outcome_batch(&outcomes).expect("batch")).expect("parquet");
        let mut again = Vec::new();
        for batch in read(bytes, |_| true).expect("opens") {
            let batch = batch.expect("reads");
            assert_eq!(Keys::of(&batch).expect("keys").id_range(), Some((u128::MAX - 2, u128::MAX - 1)));
            each_outcome(&batch, |key, told, truth| again.push((told, Outcome { key, truth: truth() })))
                .expect("columns");
        }
        assert_eq!(again, outcomes);
    }

    #[test]
    fn keys_sort_the_objects_by_model_and_day() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).expect("in range");
        let model = "flight-delay".parse().expect("name");
        assert_eq!(
            object_key(Kind::Prediction, &model, now, Uuid::nil()),
            "captures/flight-delay/2023-11-14/00000000-0000-0000-0000-000000000000.parquet"
        );
        assert!(object_key(Kind::Outcome, &model, now, Uuid::nil()).starts_with("outcomes/flight-delay/"));
    }
}
