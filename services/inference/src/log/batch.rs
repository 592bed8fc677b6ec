//! Records as columns: the record batches of the prediction log.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow::{
    array::cast::AsArray,
    array::{
        Array, ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, RecordBatch, StringArray,
        StringBuilder, TimestampMicrosecondArray, TimestampMillisecondArray, UInt32Array,
    },
    compute::concat,
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
    error::ArrowError,
};
use rekindle_bundle::{Signature, Values};
use rekindle_dataset::prediction_log;
use rekindle_domain::{ModelName, PredictionId, VersionRef};
use twox_hash::XxHash3_64;

use super::{EventTimes, PredictionRecord};
use crate::{Error, config::ModelLog};

/// How the rows of one version of a model are logged: which requests, and in which columns.
#[derive(Debug)]
pub(crate) struct LogSchema {
    /// The model.
    pub(crate) model: ModelName,
    /// The version.
    pub(crate) version: VersionRef,
    columns: SchemaRef,
    /// The positions of the inputs that are logged.
    logged: Vec<usize>,
    /// Which requests are logged.
    sample: Sample,
}

/// Which requests are logged: those whose id has a hash of at most this.
#[derive(Debug, Clone, Copy)]
struct Sample(u64);

/// Of the hash of an id, so that the sample is independent of how requests are routed.
const SEED: u64 = 0x73_61_6d_70_6c_65;

impl Sample {
    fn of(rate: f64) -> Self {
        // The conversion saturates.
        Self((rate * u64::MAX as f64) as u64)
    }

    fn has(self, id: PredictionId) -> bool {
        // The ids of one millisecond are consecutive, and their hashes are not.
        XxHash3_64::oneshot_with_seed(SEED, id.uuid().as_bytes()) <= self.0
    }
}

impl LogSchema {
    /// The columns of a version: the fixed ones, its inputs without those that are redacted, and its outputs. Fails, with a sentence, if
    /// an input to redact is none, or is the event time.
    pub(crate) fn new(version: VersionRef, signature: &Signature, config: &ModelLog) -> Result<Self, String> {
        let ModelLog { model, sample_rate, redact } = config;
        if let Some(name) = redact.iter().find(|name| signature.input(name).is_none()) {
            return Err(format!("inference.log.models redacts {name:?}: no input has this name"));
        }
        if let Some(time) = signature.time_input.as_ref().filter(|time| redact.contains(*time)) {
            return Err(format!(
                "inference.log.models redacts {time:?}: it has the event time of each row, which the log needs"
            ));
        }
        let logged: Vec<usize> =
            (0..signature.inputs.len()).filter(|&at| !redact.contains(&signature.inputs[at].name)).collect();
        let inputs = logged.iter().map(|&at| &signature.inputs[at]);
        let inputs = inputs.map(|input| (input.name.as_str(), input.arrow_type()));
        let outputs = signature.outputs.iter().map(|output| {
            let width = output.shape.get(1).and_then(|&width| usize::try_from(width).ok()).unwrap_or(1);
            let data_type = match output.datatype {
                rekindle_bundle::Datatype::Bytes => DataType::Utf8,
                _ => prediction_log::output_type(width),
            };
            (output.name.as_str(), data_type)
        });
        let columns = prediction_log::schema(inputs, outputs);
        Ok(Self { model: model.clone(), version, columns, logged, sample: Sample::of(*sample_rate) })
    }

    /// Whether a request is logged.
    pub(crate) fn samples(&self, id: PredictionId) -> bool {
        self.sample.has(id)
    }
}

/// Rows of one version, ready to be published.
pub(super) struct LogBatch {
    pub(super) schema: Arc<LogSchema>,
    /// Whether all of them are test rows, or none.
    pub(super) is_test: bool,
    pub(super) batch: RecordBatch,
    /// Memory in use.
    pub(super) bytes: usize,
}

impl LogBatch {
    fn new(schema: Arc<LogSchema>, is_test: bool, batch: RecordBatch) -> Self {
        let bytes = batch.get_array_memory_size();
        Self { schema, is_test, batch, bytes }
    }

    /// No rows, for a declaration of losses.
    pub(super) fn empty(schema: Arc<LogSchema>) -> Self {
        let batch = RecordBatch::new_empty(Arc::clone(&schema.columns));
        Self::new(schema, false, batch)
    }

    pub(super) fn rows(&self) -> u64 {
        self.batch.num_rows() as u64
    }

    /// The rows in two parts, in order; `None` for a single row.
    pub(super) fn halves(self) -> Option<(Self, Self)> {
        let (rows, middle) = (self.batch.num_rows(), self.batch.num_rows() / 2);
        if middle == 0 {
            return None;
        }
        // Both slices share the memory; each accounts for its share.
        let part = |at, length| Self {
            schema: Arc::clone(&self.schema),
            is_test: self.is_test,
            batch: self.batch.slice(at, length),
            bytes: self.bytes / 2,
        };
        Some((part(0, middle), part(middle, rows - middle)))
    }
}

impl PredictionRecord {
    /// Memory in use, in bytes, approximately.
    pub(super) fn byte_size(&self) -> usize {
        let outputs: usize = self
            .prediction
            .outputs
            .iter()
            .map(|values| match values {
                Values::Fp32 { values, .. } => size_of_val(values.as_slice()),
                Values::Text(texts) => size_of_val(texts.as_slice()),
            })
            .sum();
        let texts = [&self.entity_keys, &self.guardrails].into_iter().flatten();
        let texts: usize = texts.map(Array::get_array_memory_size).sum();
        size_of::<Self>() + self.rows.get_array_memory_size() + outputs + self.request_id.len() + texts
    }
}

/// Records, joined.
pub(super) struct Joined {
    pub(super) batches: Vec<LogBatch>,
    /// Rows that could not be joined, and why.
    pub(super) failed: Vec<(Arc<LogSchema>, u64, Error)>,
}

/// Joins successive records of one version into batches of about `max_rows` rows, in their order.
pub(super) fn join(records: Vec<PredictionRecord>, max_rows: usize) -> Joined {
    let mut joined = Joined { batches: Vec::new(), failed: Vec::new() };
    for group in by_version(records) {
        for part in parts(&group, max_rows) {
            let schema = Arc::clone(&part[0].schema);
            // Rows that cannot be joined are declared lost, even if the cause is a bug here.
            let columns = catch_unwind(AssertUnwindSafe(|| join_columns(&schema, part)));
            let columns = columns.unwrap_or_else(|_| Err(ArrowError::ComputeError("joining rows panicked".into())));
            match columns {
                Ok(batch) => joined.batches.push(LogBatch::new(schema, part[0].is_test, batch)),
                Err(source) => {
                    let rows = part.iter().map(|record| record.rows.num_rows()).sum::<usize>();
                    let error = Error::LogEncoding { model: schema.model.clone(), rows, source: Box::new(source) };
                    joined.failed.push((schema, rows as u64, error));
                }
            }
        }
    }
    joined
}

/// Records of each version, test rows apart, in the order of their first record.
fn by_version(records: Vec<PredictionRecord>) -> Vec<Vec<PredictionRecord>> {
    let mut groups: Vec<Vec<PredictionRecord>> = Vec::new();
    for record in records {
        let belongs = |group: &&mut Vec<PredictionRecord>| {
            Arc::ptr_eq(&group[0].schema, &record.schema) && group[0].is_test == record.is_test
        };
        match groups.iter_mut().find(belongs) {
            Some(group) => group.push(record),
            None => groups.push(vec![record]),
        }
    }
    groups
}

/// Runs of records with at most `max_rows` rows together. A record that alone has more is a run of its own.
fn parts(mut records: &[PredictionRecord], max_rows: usize) -> Vec<&[PredictionRecord]> {
    let mut parts = Vec::new();
    while !records.is_empty() {
        let mut rows = 0;
        let fitting = records
            .iter()
            .take_while(|record| {
                rows += record.rows.num_rows();
                rows <= max_rows
            })
            .count();
        let (part, rest) = records.split_at(fitting.max(1));
        parts.push(part);
        records = rest;
    }
    parts
}

fn join_columns(schema: &LogSchema, records: &[PredictionRecord]) -> Result<RecordBatch, ArrowError> {
    let mut columns = fixed_columns(records)?;
    for &input in &schema.logged {
        let arrays: Vec<_> = records.iter().map(|record| record.rows.column(input).as_ref()).collect();
        columns.push(concat(&arrays)?);
    }
    for output in 0..records[0].prediction.outputs.len() {
        columns.push(output_column(records, output)?);
    }
    let mut fields = Vec::new();
    for (name, column) in [
        (prediction_log::REQUEST_ID, request_ids(records)),
        (prediction_log::ENTITY_KEY, texts(records, |record| record.entity_keys.as_ref())?),
        (prediction_log::GUARDRAILS, texts(records, |record| record.guardrails.as_ref())?),
    ] {
        if let Some(column) = column {
            fields.push(Arc::new(prediction_log::optional_field(name)));
            columns.push(Arc::new(column));
        }
    }
    if fields.is_empty() {
        return RecordBatch::try_new(Arc::clone(&schema.columns), columns);
    }
    fields.splice(..0, schema.columns.fields().iter().cloned());
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// The request id of each row; `None` if no request has one.
fn request_ids(records: &[PredictionRecord]) -> Option<StringArray> {
    if records.iter().all(|record| record.request_id.is_empty()) {
        return None;
    }
    let mut ids = StringBuilder::new();
    for record in records {
        let id = Some(&record.request_id).filter(|id| !id.is_empty());
        (0..record.rows.num_rows()).for_each(|_| ids.append_option(id));
    }
    Some(ids.finish())
}

/// An optional text of each row; `None` if no request has them.
fn texts(
    records: &[PredictionRecord],
    of: impl Fn(&PredictionRecord) -> Option<&StringArray>,
) -> Result<Option<StringArray>, ArrowError> {
    if records.iter().all(|record| of(record).is_none()) {
        return Ok(None);
    }
    let given = |record: &PredictionRecord| {
        of(record).cloned().unwrap_or_else(|| StringArray::new_null(record.rows.num_rows()))
    };
    let arrays: Vec<StringArray> = records.iter().map(given).collect();
    let arrays: Vec<&dyn Array> = arrays.iter().map(|array| array as &dyn Array).collect();
    Ok(Some(concat(&arrays)?.as_string::<i32>().clone()))
}

fn fixed_columns(records: &[PredictionRecord]) -> Result<Vec<ArrayRef>, ArrowError> {
    let rows: usize = records.iter().map(|record| record.rows.num_rows()).sum();
    let mut ids = Vec::with_capacity(rows * 16);
    let (mut numbers, mut event_times, mut answered_at) =
        (Vec::with_capacity(rows), Vec::with_capacity(rows), Vec::with_capacity(rows));
    for record in records {
        let count = record.rows.num_rows();
        for _ in 0..count {
            ids.extend_from_slice(record.prediction_id.uuid().as_bytes());
        }
        numbers.extend((0u32..).take(count));
        answered_at.extend(std::iter::repeat_n(record.answered_at.timestamp_micros(), count));
        match record.event_times {
            EventTimes::Same(time) => event_times.extend(std::iter::repeat_n(time, count)),
            EventTimes::Column(column) => {
                event_times.extend_from_slice(record.rows.column(column).as_primitive::<Int64Type>().values());
            }
        }
    }
    Ok(vec![
        Arc::new(FixedSizeBinaryArray::try_new(16, ids.into(), None)?),
        Arc::new(UInt32Array::from(numbers)),
        Arc::new(TimestampMillisecondArray::from(event_times).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(answered_at).with_timezone("UTC")),
    ])
}

fn output_column(records: &[PredictionRecord], output: usize) -> Result<ArrayRef, ArrowError> {
    match &records[0].prediction.outputs[output] {
        Values::Text(_) => {
            let texts = records.iter().flat_map(|record| match &record.prediction.outputs[output] {
                Values::Text(texts) => texts.as_slice(),
                Values::Fp32 { .. } => &[],
            });
            let texts: Vec<&str> = texts.map(AsRef::as_ref).collect();
            Ok(Arc::new(StringArray::from(texts)))
        }
        Values::Fp32 { width, .. } => {
            let numbers = records.iter().flat_map(|record| match &record.prediction.outputs[output] {
                Values::Fp32 { values, .. } => values.as_slice(),
                Values::Text(_) => &[],
            });
            lists(Float32Array::from_iter_values(numbers.copied()), *width)
        }
    }
}

/// One list of `width` numbers to a row, or the numbers themselves where the width is 1.
fn lists(numbers: Float32Array, width: usize) -> Result<ArrayRef, ArrowError> {
    match i32::try_from(width) {
        Ok(size) if size > 1 => {
            let item = Arc::new(Field::new_list_field(DataType::Float32, true));
            Ok(Arc::new(FixedSizeListArray::try_new(item, size, Arc::new(numbers), None)?))
        }
        _ => Ok(Arc::new(numbers)),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn consecutive_ids_are_sampled_independently() {
        let share = |rate| {
            let sample = Sample::of(rate);
            (0..10_000_u128).filter(|&id| sample.has(PredictionId::new(Uuid::from_u128(7 << 64 | id)))).count()
        };
        // Five standard deviations of a binomial count.
        assert!((850..=1150).contains(&share(0.1)), "{}", share(0.1));
        assert_eq!((share(1.0), share(1e-12)), (10_000, 0));
    }
}
