//! The deletion of chunks by age, and what was deleted of each model's log.

use chrono::{DateTime, Utc};
use rekindle_domain::{ModelName, event_time, prediction_log::DeletedRows};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait as _,
};

use super::{
    counted,
    entities::{chunk, deletion, outcome_check, report},
    logs, stored, unreadable,
};
use crate::chunk::Kind;

/// What was deleted of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Deleted {
    /// Rows of the prediction log, without test rows.
    pub(crate) predictions: u64,
    /// Test rows.
    pub(crate) tests: u64,
    /// Outcomes, repeated ones included.
    pub(crate) outcomes: u64,
    /// Objects.
    pub(crate) chunks: u64,
    /// Their size in bytes.
    pub(crate) bytes: u64,
    /// The greatest position of a chunk of predictions.
    pub(crate) position: i64,
    /// The latest event time of a prediction, in milliseconds.
    pub(crate) events_until: Option<i64>,
}

impl Deleted {
    /// Both together.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            predictions: self.predictions + other.predictions,
            tests: self.tests + other.tests,
            outcomes: self.outcomes + other.outcomes,
            chunks: self.chunks + other.chunks,
            bytes: self.bytes + other.bytes,
            position: self.position.max(other.position),
            events_until: self.events_until.max(other.events_until),
        }
    }

    /// As an answer shows it.
    pub(crate) fn report(&self) -> DeletedRows {
        let until = self.events_until.map(event_time::clamped);
        DeletedRows { rows: self.predictions, outcomes: self.outcomes, until }
    }

    fn of(chunk: &chunk::Model) -> Self {
        let rows = counted(chunk.rows);
        let one = Self { chunks: 1, bytes: counted(chunk.bytes), ..Self::default() };
        match chunk.kind.as_str() {
            kind if kind == Kind::Prediction.as_str() => {
                Self { predictions: rows, position: chunk.position, events_until: chunk.event_max, ..one }
            }
            kind if kind == Kind::Test.as_str() => Self { tests: rows, ..one },
            _ => Self { outcomes: rows, ..one },
        }
    }
}

/// What was ever deleted of a model's log; `None` if nothing was.
pub(crate) async fn get(db: &impl ConnectionTrait, model: &ModelName) -> Result<Option<Deleted>, DbErr> {
    let row = deletion::Entity::find_by_id(model.as_str()).one(db).await?;
    Ok(row.map(|row| Deleted {
        predictions: counted(row.predictions),
        tests: counted(row.tests),
        outcomes: counted(row.outcomes),
        chunks: counted(row.chunks),
        bytes: counted(row.bytes),
        position: row.position,
        events_until: row.events_until,
    }))
}

/// The models with chunks that were captured before `before`.
pub(crate) async fn models(db: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<Vec<ModelName>, DbErr> {
    let query = chunk::Entity::find().filter(chunk::Column::CreatedAt.lt(before)).select_only();
    let names: Vec<String> = query.column(chunk::Column::Model).distinct().into_tuple().all(db).await?;
    names.iter().map(|name| name.parse().map_err(|error| unreadable("chunks.model", error))).collect()
}

/// Deletes up to `limit` chunks of a model that were captured before `before`, oldest first, and records it. What is still needed stays:
///
/// - predictions of windows that are not reported, or whose quality is not measured;
/// - outcomes that are to be checked, and those captured after the oldest prediction that stays.
pub(crate) async fn delete(
    txn: &impl ConnectionTrait,
    model: &ModelName,
    before: DateTime<Utc>,
    limit: u64,
    now: DateTime<Utc>,
) -> Result<Deleted, DbErr> {
    let is_deletable = Condition::any()
        .add(chunk::Column::Kind.eq(Kind::Test.as_str()))
        .add(deletable_predictions(txn, model).await?)
        .add(deletable_outcomes(txn, model).await?);
    let found = chunk::Entity::find()
        .filter(chunk::Column::Model.eq(model.as_str()))
        .filter(chunk::Column::CreatedAt.lt(before))
        .filter(is_deletable)
        .order_by_asc(chunk::Column::Position)
        .limit(limit)
        .all(txn)
        .await?;
    if found.is_empty() {
        return Ok(Deleted::default());
    }
    let positions = found.iter().map(|chunk| chunk.position);
    chunk::Entity::delete_many().filter(chunk::Column::Position.is_in(positions)).exec(txn).await?;
    let deleted = found.iter().map(Deleted::of).fold(Deleted::default(), Deleted::with);
    record(txn, model, deleted, now).await?;
    Ok(deleted)
}

async fn deletable_predictions(txn: &impl ConnectionTrait, model: &ModelName) -> Result<Condition, DbErr> {
    let log = logs::get(txn, model).await?;
    let is_reported = Condition::any()
        .add(chunk::Column::Position.lte(log.reset_at))
        .add_option(log.reported_until.map(|until| chunk::Column::EventMax.lt(until)));
    let unmeasured: Option<Option<i64>> = report::Entity::find()
        .filter(report::Column::Model.eq(model.as_str()))
        .filter(report::Column::Quality.is_null())
        .select_only()
        .column_as(report::Column::FromMs.min(), "least")
        .into_tuple()
        .one(txn)
        .await?;
    let is_measured = unmeasured.flatten().map(|from| chunk::Column::EventMax.lt(from));
    Ok(Condition::all().add(chunk::Column::Kind.eq(Kind::Prediction.as_str())).add(is_reported).add_option(is_measured))
}

async fn deletable_outcomes(txn: &impl ConnectionTrait, model: &ModelName) -> Result<Condition, DbErr> {
    let oldest: Option<Option<i64>> = chunk::Entity::find()
        .filter(chunk::Column::Model.eq(model.as_str()))
        .filter(chunk::Column::Kind.eq(Kind::Prediction.as_str()))
        .select_only()
        .column_as(chunk::Column::Position.min(), "least")
        .into_tuple()
        .one(txn)
        .await?;
    let to_check = outcome_check::Entity::find()
        .filter(outcome_check::Column::Model.eq(model.as_str()))
        .filter(outcome_check::Column::DueAt.is_not_null())
        .select_only()
        .column(outcome_check::Column::ChunkId)
        .into_query();
    Ok(Condition::all()
        .add(chunk::Column::Kind.eq(Kind::Outcome.as_str()))
        .add(chunk::Column::Id.not_in_subquery(to_check))
        .add_option(oldest.flatten().map(|oldest| chunk::Column::Position.lt(oldest))))
}

async fn record(
    txn: &impl ConnectionTrait,
    model: &ModelName,
    deleted: Deleted,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let before = get(txn, model).await?;
    let sum = before.unwrap_or_default().with(deleted);
    let row = deletion::ActiveModel {
        model: Set(model.to_string()),
        predictions: Set(stored(sum.predictions)),
        tests: Set(stored(sum.tests)),
        outcomes: Set(stored(sum.outcomes)),
        chunks: Set(stored(sum.chunks)),
        bytes: Set(stored(sum.bytes)),
        position: Set(sum.position),
        events_until: Set(sum.events_until),
        deleted_at: Set(now),
    };
    if before.is_some() {
        row.update(txn).await?;
    } else {
        deletion::Entity::insert(row).exec_without_returning(txn).await?;
    }
    Ok(())
}
