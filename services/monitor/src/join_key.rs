//! Join keys: how outcomes name the predicted row without the prediction id.
//!
//! A join key is the client's id of the request, or an entity key with the event time of the row. Both are indexed as the first 128 bits of a
//! SHA-256 digest that covers the model, so that a key costs the same whatever its length, and keys of different models never meet.

use arrow::array::{Array, RecordBatch, StringArray};
use rekindle_domain::{Digest, ModelName, outcome::PredictedRow};

use crate::{
    Error,
    chunk::columns::{self, ENTITY_KEY, Keys, REQUEST_ID},
    outcome::Key,
};

/// A request id, or an entity key with an event time, of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct JoinKey(pub(crate) u128);

/// A logged row, or the first row of a logged request, by its join key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyedRow {
    pub(crate) join_key: JoinKey,
    pub(crate) key: Key,
}

/// How an outcome names its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowName {
    /// By the prediction id.
    Key(Key),
    /// By a join key.
    JoinKey {
        join_key: JoinKey,
        /// The row's distance from the row of the key.
        row: u32,
    },
}

impl RowName {
    /// The name of a model's row.
    pub(crate) fn of(model: &ModelName, row: &PredictedRow) -> Self {
        match row {
            PredictedRow::Prediction { id, row } => Self::Key(Key { prediction: id.uuid().as_u128(), row: *row }),
            PredictedRow::Request { id, row } => Self::JoinKey { join_key: JoinKey::of_request(model, id), row: *row },
            PredictedRow::Entity { key, event_time } => {
                Self::JoinKey { join_key: JoinKey::of_entity(model, key, event_time.timestamp_millis()), row: 0 }
            }
        }
    }
}

impl JoinKey {
    fn of_request(model: &ModelName, id: &str) -> Self {
        Self::digest(&["request", model.as_str(), id])
    }

    fn of_entity(model: &ModelName, key: &str, event_time: i64) -> Self {
        Self::digest(&["entity", model.as_str(), &event_time.to_string(), key])
    }

    /// Only the last part may contain the separator.
    fn digest(parts: &[&str]) -> Self {
        let digest = Digest::of(parts.join("\n").as_bytes());
        let (half, _) = digest.as_bytes().split_at(16);
        Self(half.iter().fold(0, |key, byte| key << 8 | u128::from(*byte)))
    }
}

/// The join keys of logged rows of a model: one per request with an id, and one per row with an entity key.
pub(crate) fn of_batch(model: &ModelName, batch: &RecordBatch) -> Result<Vec<KeyedRow>, Error> {
    let mut keyed = Vec::new();
    let keys = Keys::of(batch)?;
    if let Some(ids) = texts(batch, REQUEST_ID)? {
        let mut last = None;
        for index in (0..keys.rows()).filter(|&index| ids.is_valid(index)) {
            let prediction = keys.key(index).prediction;
            if last.replace(prediction) != Some(prediction) {
                let key = Key { prediction, row: 0 };
                keyed.push(KeyedRow { join_key: JoinKey::of_request(model, ids.value(index)), key });
            }
        }
    }
    if let Some(entities) = texts(batch, ENTITY_KEY)? {
        let times = columns::event_times(batch)?;
        for index in (0..keys.rows()).filter(|&index| entities.is_valid(index)) {
            let join_key = JoinKey::of_entity(model, entities.value(index), times.value(index));
            keyed.push(KeyedRow { join_key, key: keys.key(index) });
        }
    }
    Ok(keyed)
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<Option<&'a StringArray>, Error> {
    batch.column_by_name(name).map(|_| columns::texts(batch, name)).transpose()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn keys_differ_by_model_kind_text_and_time() {
        let (a, b): (ModelName, ModelName) = ("a".parse().expect("a name"), "b".parse().expect("a name"));
        let at = |millis| DateTime::from_timestamp_millis(millis).expect("in range");
        let request = |id: &str| PredictedRow::Request { id: id.into(), row: 3 };
        let entity = |key: &str, millis| PredictedRow::Entity { key: key.into(), event_time: at(millis) };
        let of = |model, row: PredictedRow| match RowName::of(model, &row) {
            RowName::JoinKey { join_key, .. } => join_key,
            RowName::Key(_) => unreachable!("no prediction id is given"),
        };
        let keys = [
            of(&a, request("1")),
            of(&b, request("1")),
            of(&a, request("2")),
            of(&a, entity("1", 1)),
            of(&a, entity("1", 2)),
            of(&a, entity("2\n1", 1)),
            of(&a, entity("1\n1", 2)),
        ];
        let distinct: std::collections::HashSet<JoinKey> = keys.into_iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }
}
