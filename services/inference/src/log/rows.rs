//! Answers as columns: the record batches that the prediction log is made of.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow::{
    array::cast::AsArray,
    array::{
        ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, RecordBatch, StringArray,
        TimestampMicrosecondArray, TimestampMillisecondArray, UInt32Array,
    },
    compute::concat,
    datatypes::{DataType, Field, Int64Type, SchemaRef},
    error::ArrowError,
};
use rekindle_dataset::prediction_log;
use rekindle_domain::{ModelName, VersionRef};
use rekindle_model::{Signature, Values};

use super::{Answered, EventTimes};
use crate::Error;

/// Columns of the log for one version of a model.
#[derive(Debug)]
pub(crate) struct LogShape {
    /// The model.
    pub(crate) model: ModelName,
    /// The version.
    pub(crate) version: VersionRef,
    schema: SchemaRef,
}

impl LogShape {
    /// The columns of a version: fixed ones, its inputs, its outputs.
    pub(crate) fn new(model: ModelName, version: VersionRef, signature: &Signature) -> Self {
        let inputs = signature.inputs.iter().map(|input| (input.name.as_str(), input.arrow_type()));
        let outputs = signature.outputs.iter().map(|output| {
            let width = output.shape.get(1).and_then(|&width| usize::try_from(width).ok()).unwrap_or(1);
            let data_type = match output.datatype {
                rekindle_model::Datatype::Bytes => DataType::Utf8,
                _ => prediction_log::output_type(width),
            };
            (output.name.as_str(), data_type)
        });
        Self { model, version, schema: prediction_log::schema(inputs, outputs) }
    }
}

/// Rows of one version, ready to be sent.
pub(super) struct Segment {
    pub(super) shape: Arc<LogShape>,
    pub(super) batch: RecordBatch,
    /// Memory held.
    pub(super) bytes: usize,
}

impl Segment {
    fn new(shape: Arc<LogShape>, batch: RecordBatch) -> Self {
        let bytes = batch.get_array_memory_size();
        Self { shape, batch, bytes }
    }

    /// No rows: carries a declaration of losses.
    pub(super) fn empty(shape: Arc<LogShape>) -> Self {
        let batch = RecordBatch::new_empty(Arc::clone(&shape.schema));
        Self::new(shape, batch)
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
        // Slices share memory; each is held to account for its share.
        let part = |at, length| Self {
            shape: Arc::clone(&self.shape),
            batch: self.batch.slice(at, length),
            bytes: self.bytes / 2,
        };
        Some((part(0, middle), part(middle, rows - middle)))
    }
}

impl Answered {
    /// Memory held, in bytes, about.
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
        size_of::<Self>() + self.rows.get_array_memory_size() + outputs
    }
}

/// Answers, joined.
pub(super) struct Joined {
    pub(super) segments: Vec<Segment>,
    /// Rows that could not be joined, and why.
    pub(super) failed: Vec<(Arc<LogShape>, u64, Error)>,
}

/// Joins neighbouring answers of one version into segments of about `max_rows` rows, keeping their order.
pub(super) fn join(answers: Vec<Answered>, max_rows: usize) -> Joined {
    let mut joined = Joined { segments: Vec::new(), failed: Vec::new() };
    for group in by_version(answers) {
        for part in parts(&group, max_rows) {
            let shape = Arc::clone(&part[0].shape);
            // Rows that cannot be joined are declared lost, even where it is this program's mistake.
            let columns = catch_unwind(AssertUnwindSafe(|| join_columns(&shape, part)));
            let columns = columns.unwrap_or_else(|_| Err(ArrowError::ComputeError("joining rows panicked".into())));
            match columns {
                Ok(batch) => joined.segments.push(Segment::new(shape, batch)),
                Err(source) => {
                    let rows = part.iter().map(|answer| answer.rows.num_rows()).sum::<usize>();
                    let error = Error::LogEncoding { model: shape.model.clone(), rows, source: Box::new(source) };
                    joined.failed.push((shape, rows as u64, error));
                }
            }
        }
    }
    joined
}

/// Answers of each version, versions in the order of their first answer.
fn by_version(answers: Vec<Answered>) -> Vec<Vec<Answered>> {
    let mut groups: Vec<Vec<Answered>> = Vec::new();
    for answer in answers {
        match groups.iter_mut().find(|group| Arc::ptr_eq(&group[0].shape, &answer.shape)) {
            Some(group) => group.push(answer),
            None => groups.push(vec![answer]),
        }
    }
    groups
}

/// Runs of answers with at most `max_rows` rows together; an answer that alone has more is a run of its own.
fn parts(mut answers: &[Answered], max_rows: usize) -> Vec<&[Answered]> {
    let mut parts = Vec::new();
    while !answers.is_empty() {
        let mut rows = 0;
        let fitting = answers
            .iter()
            .take_while(|answer| {
                rows += answer.rows.num_rows();
                rows <= max_rows
            })
            .count();
        let (part, rest) = answers.split_at(fitting.max(1));
        parts.push(part);
        answers = rest;
    }
    parts
}

fn join_columns(shape: &LogShape, answers: &[Answered]) -> Result<RecordBatch, ArrowError> {
    let mut columns = fixed_columns(answers)?;
    for input in 0..answers[0].rows.num_columns() {
        let arrays: Vec<_> = answers.iter().map(|answer| answer.rows.column(input).as_ref()).collect();
        columns.push(concat(&arrays)?);
    }
    for output in 0..answers[0].prediction.outputs.len() {
        columns.push(output_column(answers, output)?);
    }
    RecordBatch::try_new(Arc::clone(&shape.schema), columns)
}

fn fixed_columns(answers: &[Answered]) -> Result<Vec<ArrayRef>, ArrowError> {
    let rows: usize = answers.iter().map(|answer| answer.rows.num_rows()).sum();
    let mut ids = Vec::with_capacity(rows * 16);
    let (mut numbers, mut event_times, mut answered_at) =
        (Vec::with_capacity(rows), Vec::with_capacity(rows), Vec::with_capacity(rows));
    for answer in answers {
        let count = answer.rows.num_rows();
        for _ in 0..count {
            ids.extend_from_slice(answer.prediction_id.uuid().as_bytes());
        }
        numbers.extend((0u32..).take(count));
        answered_at.extend(std::iter::repeat_n(answer.answered_at.timestamp_micros(), count));
        match answer.event_times {
            EventTimes::Same(time) => event_times.extend(std::iter::repeat_n(time, count)),
            EventTimes::Column(column) => {
                event_times.extend_from_slice(answer.rows.column(column).as_primitive::<Int64Type>().values());
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

fn output_column(answers: &[Answered], output: usize) -> Result<ArrayRef, ArrowError> {
    match &answers[0].prediction.outputs[output] {
        Values::Text(_) => {
            let texts = answers.iter().flat_map(|answer| match &answer.prediction.outputs[output] {
                Values::Text(texts) => texts.as_slice(),
                Values::Fp32 { .. } => &[],
            });
            let texts: Vec<&str> = texts.map(AsRef::as_ref).collect();
            Ok(Arc::new(StringArray::from(texts)))
        }
        Values::Fp32 { width, .. } => {
            let numbers = answers.iter().flat_map(|answer| match &answer.prediction.outputs[output] {
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
