//! Logged rows: one by its prediction id, or a model's latest, page by page.

use std::{collections::BTreeMap, fmt, str::FromStr};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Float32Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use chrono::DateTime;
use rekindle_artifacts::Artifacts;
use rekindle_domain::{
    ModelName, PredictionId, VersionRef, event_time,
    outcome::Label,
    prediction_log::{LoggedPrediction, Value},
};
use rekindle_service::RequestError;
use sea_orm::DatabaseConnection;

use crate::{
    Error,
    chunk::{
        Chunk, Kind,
        columns::{self, ANSWERED_AT, ENTITY_KEY, GUARDRAILS, INPUT, Keys, OUTPUT, REPLICA, REQUEST_ID},
    },
    frame::{Frame, ScanFilter},
    join::Sample,
    outcome::Key,
    store::chunks,
};

/// Index entries of chunks that are read at once.
const CHUNKS: u64 = 64;

/// The position of a row in the log: its chunk's position in the order of commit, and its index in the chunk. Written `<chunk>/<index>` in
/// page tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPosition {
    /// Of the chunk.
    pub chunk: i64,
    /// Of the row.
    pub index: usize,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.chunk, self.index)
    }
}

/// A text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidPosition;

impl FromStr for LogPosition {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let parsed = text
            .split_once('/')
            .and_then(|(chunk, index)| Some(Self { chunk: chunk.parse().ok()?, index: index.parse().ok()? }));
        parsed.ok_or(InvalidPosition)
    }
}

/// One row of any model.
pub(crate) async fn get(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    id: PredictionId,
    row: u32,
) -> Result<LoggedPrediction, Error> {
    let key = Key { prediction: id.uuid().as_u128(), row };
    for chunk in chunks::holding(db, key.prediction).await? {
        let scanned = Scanned::of(db, artifacts, &chunk, Some(key)).await?;
        if let Some(scanned) = scanned.filter(|scanned| scanned.rows() > 0) {
            return scanned.row(0);
        }
    }
    Err(RequestError::not_found("logged prediction", format!("{id} row {row}")).into())
}

/// The latest `limit` rows of a model with their positions, newest first, from before `before`.
pub(crate) async fn latest(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    model: &ModelName,
    before: Option<LogPosition>,
    limit: usize,
) -> Result<Vec<(LogPosition, LoggedPrediction)>, Error> {
    let mut found = Vec::new();
    let mut from = before.map(|before| before.chunk);
    loop {
        let newest = chunks::newest_first(db, model, from, CHUNKS).await?;
        let Some(&(oldest, _)) = newest.last() else { return Ok(found) };
        for (position, chunk) in newest {
            let Some(scanned) = Scanned::of(db, artifacts, &chunk, None).await? else { continue };
            let end = match before {
                Some(before) if before.chunk == position => before.index.min(scanned.rows()),
                _ => scanned.rows(),
            };
            let start = end.saturating_sub(limit - found.len());
            let rows =
                (start..end).rev().map(|index| Ok((LogPosition { chunk: position, index }, scanned.row(index)?)));
            found.extend(rows.collect::<Result<Vec<_>, Error>>()?);
            if found.len() == limit {
                return Ok(found);
            }
        }
        from = Some(oldest - 1);
    }
}

/// Rows of one chunk with their labels.
struct Scanned {
    model: ModelName,
    version: VersionRef,
    is_test: bool,
    batch: RecordBatch,
    labels: Vec<Option<Label>>,
}

impl Scanned {
    /// Reads the row `key` of a chunk, or all; `None` without rows.
    async fn of(
        db: &DatabaseConnection,
        artifacts: &Artifacts,
        chunk: &Chunk,
        key: Option<Key>,
    ) -> Result<Option<Self>, Error> {
        let Some(bundle) = chunk.bundle else { return Ok(None) };
        let filter = ScanFilter { from: None, until: None, key, sample: Sample { of: 1 }, columns: |_| true };
        let frame = Frame::scan(artifacts, std::slice::from_ref(chunk), filter).await?;
        let Some(ids) = frame.ids() else { return Ok(None) };
        let outcomes = chunks::outcomes_of(db, &chunk.model, ids).await?;
        let frame = frame.with_labels(artifacts, &outcomes).await?;
        let Some(batch) = frame.batch()? else { return Ok(None) };
        let labels = frame.labels().map(|label| label.cloned()).collect();
        let version = VersionRef { version: chunk.model_version, bundle };
        let is_test = chunk.kind == Kind::Test;
        Ok(Some(Self { model: chunk.model.clone(), version, is_test, batch, labels }))
    }

    fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    fn row(&self, index: usize) -> Result<LoggedPrediction, Error> {
        let batch = &self.batch;
        let wrong = || Error::Column { column: ANSWERED_AT.to_owned(), expected: "timestamp in microseconds" };
        let answered = columns::column(batch, ANSWERED_AT)?;
        let answered = answered.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)?;
        let key = Keys::of(batch)?.key(index);
        let (mut inputs, mut outputs) = (BTreeMap::new(), BTreeMap::new());
        for (field, values) in batch.schema().fields().iter().zip(batch.columns()) {
            if let Some(name) = field.name().strip_prefix(INPUT) {
                inputs.extend(value(values, index).map(|value| (name.to_owned(), value)));
            } else if let Some(name) = field.name().strip_prefix(OUTPUT) {
                outputs.insert(name.to_owned(), elements(values, index));
            }
        }
        Ok(LoggedPrediction {
            prediction: key.prediction_id(),
            row: key.row,
            model: self.model.clone(),
            version: self.version,
            replica: columns::texts(batch, REPLICA)?.value(index).to_owned(),
            event_time: Some(event_time::clamped(columns::event_times(batch)?.value(index))),
            answered_at: DateTime::from_timestamp_micros(answered.value(index)),
            inputs,
            outputs,
            label: self.labels.get(index).cloned().flatten(),
            is_test: self.is_test,
            request_id: optional_text(batch, REQUEST_ID, index),
            entity_key: optional_text(batch, ENTITY_KEY, index),
            guardrails: optional_text(batch, GUARDRAILS, index),
        })
    }
}

/// A value of an optional text column.
fn optional_text(batch: &RecordBatch, name: &str, index: usize) -> Option<String> {
    let texts = columns::texts(batch, name).ok()?;
    texts.is_valid(index).then(|| texts.value(index).to_owned())
}

fn value(values: &dyn Array, index: usize) -> Option<Value> {
    if values.is_null(index) {
        return None;
    }
    if let Some(values) = values.as_primitive_opt::<Float64Type>() {
        return Some(Value::Number(values.value(index)));
    }
    if let Some(values) = values.as_primitive_opt::<Int64Type>() {
        return Some(Value::Integer(values.value(index)));
    }
    if let Some(values) = values.as_boolean_opt() {
        return Some(Value::Boolean(values.value(index)));
    }
    values.as_string_opt::<i32>().map(|values| Value::Text(values.value(index).to_owned()))
}

fn elements(values: &dyn Array, index: usize) -> Vec<u8> {
    if values.is_null(index) {
        return Vec::new();
    }
    if let Some(values) = values.as_primitive_opt::<Float32Type>() {
        return values.value(index).to_le_bytes().to_vec();
    }
    if let Some(texts) = values.as_string_opt::<i32>() {
        let text = texts.value(index).as_bytes();
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        return [&length.to_le_bytes(), text].concat();
    }
    let Some(lists) = values.as_fixed_size_list_opt() else { return Vec::new() };
    let row = lists.value(index);
    let numbers = row.as_primitive_opt::<Float32Type>();
    numbers.map(|numbers| numbers.values().iter().flat_map(|number| number.to_le_bytes()).collect()).unwrap_or_default()
}
