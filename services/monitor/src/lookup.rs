//! Logged rows: one by its prediction id, or a model's latest, page by page.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    ops::Range,
    str::FromStr,
};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Float32Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use bytes::Bytes;
use chrono::DateTime;
use rekindle_artifacts::Artifacts;
use rekindle_domain::{
    Digest, ModelName, PredictionId, VersionRef, event_time,
    outcome::Label,
    prediction_log::{LoggedPrediction, Value},
};
use rekindle_service::RequestError;
use sea_orm::DatabaseConnection;

use crate::{
    Error,
    chunk::{
        self, Chunk, Kind,
        columns::{
            self, ANSWERED_AT, ENTITY_KEY, GUARDRAILS, INPUT, Keys, OUTPUT, PREDICTION_ID, REPLICA, REQUEST_ID, ROW,
        },
    },
    frame,
    join::Join,
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
        let Some(listed) = Listed::of(artifacts, chunk).await? else { continue };
        if let Some(index) = listed.rows.iter().position(|(other, _)| *other == key) {
            let scanned = listed.read(db, artifacts, index..index + 1).await?;
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
            let Some(listed) = Listed::of(artifacts, chunk).await? else { continue };
            let end = match before {
                Some(before) if before.chunk == position => before.index.min(listed.rows.len()),
                _ => listed.rows.len(),
            };
            let start = end.saturating_sub(limit - found.len());
            let scanned = listed.read(db, artifacts, start..end).await?;
            let rows = (start..end).rev();
            let rows = rows.map(|index| Ok((LogPosition { chunk: position, index }, scanned.row(index - start)?)));
            found.extend(rows.collect::<Result<Vec<_>, Error>>()?);
            if found.len() == limit {
                return Ok(found);
            }
        }
        from = Some(oldest - 1);
    }
}

/// The keys of a chunk, of which some thousand are cheaper to read than the rows.
struct Listed {
    chunk: Chunk,
    bundle: Digest,
    bytes: Bytes,
    /// Each row once, with its position in the file.
    rows: Vec<(Key, usize)>,
}

impl Listed {
    /// `None` of a chunk of outcomes.
    async fn of(artifacts: &Artifacts, chunk: Chunk) -> Result<Option<Self>, Error> {
        let Some(bundle) = chunk.bundle else { return Ok(None) };
        let bytes = artifacts.get_object_verified(&chunk.object_key, &chunk.digest).await?;
        tokio::task::spawn_blocking(move || {
            let (mut rows, mut seen, mut position) = (Vec::new(), HashSet::new(), 0);
            for batch in chunk::read(bytes.clone(), |name| [PREDICTION_ID, ROW].contains(&name))? {
                let batch = batch?;
                let keys = Keys::of(&batch)?;
                for key in (0..keys.rows()).map(|index| keys.key(index)) {
                    if seen.insert(key) {
                        rows.push((key, position));
                    }
                    position += 1;
                }
            }
            Ok(Some(Self { chunk, bundle, bytes, rows }))
        })
        .await?
    }

    /// Some of the rows, in the order of the file, with their labels.
    async fn read(
        &self,
        db: &DatabaseConnection,
        artifacts: &Artifacts,
        range: Range<usize>,
    ) -> Result<Scanned, Error> {
        let rows = &self.rows[range];
        let (bytes, positions) = (self.bytes.clone(), rows.iter().map(|(_, position)| *position).collect::<Vec<_>>());
        let batch = tokio::task::spawn_blocking(move || chunk::read_rows(bytes, &positions)).await??;
        let mut join = Join::default();
        for (key, _) in rows {
            join.add_row(*key);
        }
        let ids = || rows.iter().map(|(key, _)| key.prediction);
        if let Some(ids) = ids().min().zip(ids().max()) {
            let outcomes = chunks::outcomes_of(db, &self.chunk.model, ids).await?;
            join = frame::with_outcomes(join, artifacts, &outcomes).await?;
        }
        Ok(Scanned {
            model: self.chunk.model.clone(),
            version: VersionRef { version: self.chunk.model_version, bundle: self.bundle },
            is_test: self.chunk.kind == Kind::Test,
            batch,
            labels: join.labels().map(|label| label.cloned()).collect(),
        })
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
