//! Single rows of the log, found by the id that the caller was answered with.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Float32Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use rekindle_artifacts::Artifacts;
use rekindle_domain::{ModelName, PredictionId, VersionRef};
use sea_orm::DatabaseConnection;

use crate::{
    Error,
    frame::{Frame, Wanted},
    join::Sample,
    outcome::{Key, Truth},
    segment::{self, ANSWERED_AT, INPUT, Keys, OUTPUT, REPLICA, Segment},
    store::segments,
};

/// A value of an input.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A double.
    Number(f64),
    /// A whole number.
    Integer(i64),
    /// Text.
    Text(String),
    /// A truth value.
    Boolean(bool),
}

/// A logged row.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// Which row.
    pub key: Key,
    /// The model.
    pub model: ModelName,
    /// The version that answered.
    pub version: VersionRef,
    /// The replica that answered.
    pub replica: String,
    /// In milliseconds.
    pub event_time: i64,
    /// In microseconds.
    pub answered_at: i64,
    /// A missing value has no entry.
    pub inputs: BTreeMap<String, Cell>,
    /// Elements as they were sent: little-endian singles; text after its length in four bytes.
    pub outputs: BTreeMap<String, Vec<u8>>,
    /// The last told truth.
    pub truth: Option<Truth>,
}

fn wanted(key: Option<Key>) -> Wanted {
    Wanted { from: None, until: None, key, sample: Sample { of: 1 }, columns: |_| true }
}

/// One row, of whichever model.
pub(crate) async fn get(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    id: PredictionId,
    row: u32,
) -> Result<Logged, Error> {
    let key = Key { prediction: id.uuid().as_u128(), row };
    for segment in segments::holding(db, key.prediction).await? {
        if let Some(found) = rows(db, artifacts, &segment, Some(key)).await?.pop() {
            return Ok(found);
        }
    }
    Err(Error::NoPrediction { id, row })
}

/// The latest rows of a model, newest first.
pub(crate) async fn latest(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    model: &ModelName,
    limit: usize,
) -> Result<Vec<Logged>, Error> {
    let mut found = Vec::new();
    for segment in segments::latest(db, model, limit as u64).await? {
        found.extend(rows(db, artifacts, &segment, None).await?.into_iter().rev());
        if found.len() >= limit {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

async fn rows(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    segment: &Segment,
    key: Option<Key>,
) -> Result<Vec<Logged>, Error> {
    let Some(bundle) = segment.bundle else { return Ok(Vec::new()) };
    let frame = Frame::read(artifacts, std::slice::from_ref(segment), wanted(key)).await?;
    let Some(ids) = frame.ids() else { return Ok(Vec::new()) };
    let outcomes = segments::outcomes_of(db, &segment.model, ids).await?;
    let frame = frame.tell(artifacts, &outcomes).await?;
    let version = VersionRef { version: segment.model_version, bundle };
    let model = segment.model.clone();
    tokio::task::spawn_blocking(move || {
        let Some(batch) = frame.batch()? else { return Ok(Vec::new()) };
        let truths = frame.truths().enumerate();
        truths.map(|(place, truth)| logged(&batch, place, model.clone(), version, truth)).collect()
    })
    .await?
}

fn logged(
    batch: &RecordBatch,
    place: usize,
    model: ModelName,
    version: VersionRef,
    truth: Option<&Truth>,
) -> Result<Logged, Error> {
    let wrong = || Error::Column { column: ANSWERED_AT.to_owned(), expected: "timestamp in microseconds" };
    let answered = segment::column(batch, ANSWERED_AT)?;
    let answered = answered.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)?;
    let (mut inputs, mut outputs) = (BTreeMap::new(), BTreeMap::new());
    for (field, values) in batch.schema().fields().iter().zip(batch.columns()) {
        if let Some(name) = field.name().strip_prefix(INPUT) {
            inputs.extend(cell(values, place).map(|cell| (name.to_owned(), cell)));
        } else if let Some(name) = field.name().strip_prefix(OUTPUT) {
            outputs.insert(name.to_owned(), elements(values, place));
        }
    }
    Ok(Logged {
        key: Keys::of(batch)?.key(place),
        model,
        version,
        replica: segment::texts(batch, REPLICA)?.value(place).to_owned(),
        event_time: segment::event_times(batch)?.value(place),
        answered_at: answered.value(place),
        inputs,
        outputs,
        truth: truth.cloned(),
    })
}

fn cell(values: &dyn Array, place: usize) -> Option<Cell> {
    if values.is_null(place) {
        return None;
    }
    if let Some(values) = values.as_primitive_opt::<Float64Type>() {
        return Some(Cell::Number(values.value(place)));
    }
    if let Some(values) = values.as_primitive_opt::<Int64Type>() {
        return Some(Cell::Integer(values.value(place)));
    }
    if let Some(values) = values.as_boolean_opt() {
        return Some(Cell::Boolean(values.value(place)));
    }
    values.as_string_opt::<i32>().map(|values| Cell::Text(values.value(place).to_owned()))
}

fn elements(values: &dyn Array, place: usize) -> Vec<u8> {
    if values.is_null(place) {
        return Vec::new();
    }
    if let Some(values) = values.as_primitive_opt::<Float32Type>() {
        return values.value(place).to_le_bytes().to_vec();
    }
    if let Some(texts) = values.as_string_opt::<i32>() {
        let text = texts.value(place).as_bytes();
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        return [&length.to_le_bytes(), text].concat();
    }
    let Some(lists) = values.as_fixed_size_list_opt() else { return Vec::new() };
    let row = lists.value(place);
    let numbers = row.as_primitive_opt::<Float32Type>();
    numbers.map(|numbers| numbers.values().iter().flat_map(|number| number.to_le_bytes()).collect()).unwrap_or_default()
}
