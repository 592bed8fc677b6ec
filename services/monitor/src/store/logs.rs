//! The state of each model's log: counters, the event clock, and up to where its windows are reported.

use std::iter::Sum;

use rekindle_domain::ModelName;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QuerySelect,
    sea_query::{Alias, Expr, ExprTrait as _, OnConflict, SimpleExpr},
};
use serde_json::json;

use super::{counted, entities::log, stored, unreadable};
use crate::event_clock::EventClock;

/// The greatest value of a counter.
const MAX_COUNT: i64 = 1 << 62;

/// The state of a model's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Log {
    /// Rows captured.
    pub(crate) predictions: u64,
    /// Rows that replicas declared lost.
    pub(crate) lost: u64,
    /// Rows that replicas declared to be outside of the sample.
    pub(crate) unsampled: u64,
    /// Messages that never arrived.
    pub(crate) lost_messages: u64,
    /// Captured rows whose window had closed before they arrived.
    pub(crate) late: u64,
    /// Captured test rows. `predictions` does not count them.
    pub(crate) tests: u64,
    /// Lines of outcomes that could not be read.
    pub(crate) bad_lines: u64,
    /// The latest of them, with the reason.
    pub(crate) bad_line: Option<String>,
    /// Outcomes captured, repeated ones included.
    pub(crate) outcomes: u64,
    /// The event clock.
    pub(crate) clock: EventClock,
    /// Event time up to which windows are reported, in milliseconds.
    pub(crate) reported_until: Option<i64>,
    /// Position of the latest chunk when the windows were last restarted; 0 if they never were. Chunks up to it enter no further window.
    pub(crate) reset_at: i64,
}

/// The change that captured messages make to a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogDelta {
    /// Rows captured.
    pub(crate) predictions: u64,
    /// Rows declared lost.
    pub(crate) lost: u64,
    /// Rows declared to be outside of the sample.
    pub(crate) unsampled: u64,
    /// By how much the number of messages that never arrived grew.
    pub(crate) lost_messages: i64,
    /// Rows that arrived after their window had closed.
    pub(crate) late: u64,
    /// Rows that are test rows.
    pub(crate) tests: u64,
    /// Outcomes captured.
    pub(crate) outcomes: u64,
    /// Lines dead-lettered.
    pub(crate) bad_lines: u64,
    /// One of them, with the reason.
    pub(crate) bad_line: Option<String>,
}

impl Sum for LogDelta {
    fn sum<I: Iterator<Item = Self>>(deltas: I) -> Self {
        deltas.fold(Self::default(), |sum, one| Self {
            predictions: sum.predictions.saturating_add(one.predictions),
            lost: sum.lost.saturating_add(one.lost),
            unsampled: sum.unsampled.saturating_add(one.unsampled),
            lost_messages: sum.lost_messages.saturating_add(one.lost_messages),
            late: sum.late.saturating_add(one.late),
            tests: sum.tests.saturating_add(one.tests),
            outcomes: sum.outcomes.saturating_add(one.outcomes),
            bad_lines: sum.bad_lines.saturating_add(one.bad_lines),
            bad_line: one.bad_line.or(sum.bad_line),
        })
    }
}

/// The log of a model; empty if nothing was captured yet.
pub(crate) async fn get(db: &impl ConnectionTrait, model: &ModelName) -> Result<Log, DbErr> {
    let Some(row) = log::Entity::find_by_id(model.as_str()).one(db).await? else { return Ok(Log::default()) };
    let ahead = serde_json::from_value(row.ahead).map_err(|error| unreadable("logs.ahead", error))?;
    Ok(Log {
        predictions: counted(row.predictions),
        lost: counted(row.lost),
        unsampled: counted(row.unsampled),
        lost_messages: counted(row.lost_messages),
        late: counted(row.late),
        tests: counted(row.tests),
        bad_lines: counted(row.bad_lines),
        bad_line: row.bad_line,
        outcomes: counted(row.outcomes),
        clock: EventClock::new(row.latest_event, ahead),
        reported_until: row.reported_until,
        reset_at: row.reset_at,
    })
}

/// Whether a model has a log.
pub(crate) async fn exists(db: &impl ConnectionTrait, model: &ModelName) -> Result<bool, DbErr> {
    Ok(log::Entity::find_by_id(model.as_str()).one(db).await?.is_some())
}

/// A value that changes with a log: evaluation depends on nothing else of it.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub(crate) struct Version {
    predictions: i64,
    outcomes: i64,
    latest_event: Option<i64>,
    reported_until: Option<i64>,
    reset_at: i64,
}

/// Every model that has a log.
pub(crate) async fn versions(db: &impl ConnectionTrait) -> Result<Vec<(ModelName, Version)>, DbErr> {
    use log::Column;
    #[derive(FromQueryResult)]
    struct Row {
        model: String,
        #[sea_orm(nested)]
        version: Version,
    }
    let columns = [
        Column::Model,
        Column::Predictions,
        Column::Outcomes,
        Column::LatestEvent,
        Column::ReportedUntil,
        Column::ResetAt,
    ];
    let rows = log::Entity::find().select_only().columns(columns).into_model::<Row>().all(db).await?;
    let named = |row: Row| Ok((row.model.parse().map_err(|error| unreadable("logs.model", error))?, row.version));
    rows.into_iter().map(named).collect()
}

/// Applies a change to the log that was `before`, and sets the event clock to what it is after it; `false` if the windows were restarted
/// since.
pub(crate) async fn apply(
    txn: &impl ConnectionTrait,
    model: &ModelName,
    before: &Log,
    delta: &LogDelta,
    clock: &EventClock,
) -> Result<bool, DbErr> {
    create(txn, model).await?;
    let plus = |column: log::Column, count: u64| plus(column, stored(count));
    let mut change = log::Entity::update_many()
        .filter(log::Column::Model.eq(model.as_str()))
        .filter(log::Column::ResetAt.eq(before.reset_at))
        .col_expr(log::Column::Predictions, plus(log::Column::Predictions, delta.predictions))
        .col_expr(log::Column::Lost, plus(log::Column::Lost, delta.lost))
        .col_expr(log::Column::Unsampled, plus(log::Column::Unsampled, delta.unsampled))
        .col_expr(log::Column::LostMessages, self::plus(log::Column::LostMessages, delta.lost_messages))
        .col_expr(log::Column::Late, plus(log::Column::Late, delta.late))
        .col_expr(log::Column::Tests, plus(log::Column::Tests, delta.tests))
        .col_expr(log::Column::Outcomes, plus(log::Column::Outcomes, delta.outcomes))
        .col_expr(log::Column::BadLines, plus(log::Column::BadLines, delta.bad_lines))
        .col_expr(log::Column::LatestEvent, Expr::value(clock.latest()))
        .col_expr(log::Column::Ahead, Expr::value(json!(clock.ahead())));
    if let Some(line) = &delta.bad_line {
        change = change.col_expr(log::Column::BadLine, Expr::value(line.clone()));
    }
    Ok(change.exec(txn).await?.rows_affected == 1)
}

/// Locks a log until the end of the transaction, so that the chunks of a model have positions in the order of their commit: capture changes
/// the log in each of its transactions.
pub(crate) async fn lock(txn: &impl ConnectionTrait, model: &ModelName) -> Result<(), DbErr> {
    create(txn, model).await?;
    let unchanged = log::Entity::update_many()
        .filter(log::Column::Model.eq(model.as_str()))
        .col_expr(log::Column::Model, Expr::value(model.as_str()));
    unchanged.exec(txn).await?;
    Ok(())
}

/// A counter after a change, at most [`MAX_COUNT`]: SQLite turns a sum beyond the range of a column into a floating-point number.
fn plus(column: log::Column, change: i64) -> SimpleExpr {
    let change = Ord::min(change, MAX_COUNT);
    let is_full = Expr::col(column).gt(MAX_COUNT - Ord::max(change, 0));
    Expr::case(is_full, MAX_COUNT).finally(Expr::col(column).add(change)).into()
}

/// Restarts the windows of a log: the event clock is forgotten, and chunks up to the position `reset_at` enter no further window.
pub(crate) async fn reset(txn: &impl ConnectionTrait, model: &ModelName, reset_at: i64) -> Result<(), DbErr> {
    create(txn, model).await?;
    log::Entity::update_many()
        .filter(log::Column::Model.eq(model.as_str()))
        .col_expr(log::Column::ResetAt, Expr::value(reset_at))
        .col_expr(log::Column::LatestEvent, Expr::value(None::<i64>))
        .col_expr(log::Column::Ahead, Expr::value(json!([])))
        .col_expr(log::Column::ReportedUntil, Expr::value(None::<i64>))
        .exec(txn)
        .await?;
    Ok(())
}

/// Creates the log if it does not exist.
async fn create(txn: &impl ConnectionTrait, model: &ModelName) -> Result<(), DbErr> {
    let fresh = log::ActiveModel {
        model: Set(model.to_string()),
        predictions: Set(0),
        lost: Set(0),
        unsampled: Set(0),
        lost_messages: Set(0),
        late: Set(0),
        tests: Set(0),
        outcomes: Set(0),
        bad_lines: Set(0),
        bad_line: Set(None),
        latest_event: Set(None),
        ahead: Set(json!([])),
        reported_until: Set(None),
        reset_at: Set(0),
        late_seen: Set(0),
        predictions_seen: Set(0),
    };
    log::Entity::insert(fresh)
        .on_conflict(OnConflict::column(log::Column::Model).do_nothing().to_owned())
        .exec_without_returning(txn)
        .await?;
    Ok(())
}

/// Moves the end of the reported windows to `until`; `false` if it is no longer where it was in the log `before`.
pub(crate) async fn move_reported_until(
    txn: &impl ConnectionTrait,
    model: &ModelName,
    before: &Log,
    until: i64,
) -> Result<bool, DbErr> {
    let unmoved = match before.reported_until {
        Some(before) => log::Column::ReportedUntil.eq(before),
        None => log::Column::ReportedUntil.is_null(),
    };
    let moved = log::Entity::update_many()
        .filter(log::Column::Model.eq(model.as_str()))
        .filter(unmoved)
        .filter(log::Column::ResetAt.eq(before.reset_at))
        .col_expr(log::Column::ReportedUntil, Expr::value(until))
        .exec(txn)
        .await?;
    Ok(moved.rows_affected == 1)
}

/// A log with late rows since they were last counted, or with rows ahead of the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrivals {
    /// The model.
    pub(crate) model: ModelName,
    /// Rows captured since.
    pub(crate) rows: u64,
    /// Those of them whose window had closed before they arrived.
    pub(crate) late: u64,
    /// The event clock.
    pub(crate) clock: EventClock,
}

/// The logs with late rows since they were last counted, or with rows ahead of the clock.
pub(crate) async fn arrivals(db: &impl ConnectionTrait) -> Result<Vec<Arrivals>, DbErr> {
    use log::Column;
    let is_late = Expr::col(Column::Late).ne(Expr::col(Column::LateSeen));
    let is_ahead = Expr::col(Column::Ahead).cast_as(Alias::new("TEXT")).ne("[]");
    let rows = log::Entity::find().filter(is_late.or(is_ahead)).all(db).await?;
    let read = |row: log::Model| {
        let ahead = serde_json::from_value(row.ahead).map_err(|error| unreadable("logs.ahead", error))?;
        Ok(Arrivals {
            model: row.model.parse().map_err(|error| unreadable("logs.model", error))?,
            rows: counted(row.predictions.saturating_sub(row.predictions_seen)),
            late: counted(row.late.saturating_sub(row.late_seen)),
            clock: EventClock::new(row.latest_event, ahead),
        })
    };
    rows.into_iter().map(read).collect()
}

/// Rows on time after which the rows before them are forgotten, so that late rows are compared with the latest rows.
pub(crate) const FORGOTTEN_AFTER: i64 = 2000;

/// The models whose latest [`FORGOTTEN_AFTER`] rows or more were on time.
pub(crate) async fn on_time(db: &impl ConnectionTrait) -> Result<Vec<ModelName>, DbErr> {
    use log::Column;
    let unseen = Expr::col(Column::Predictions).sub(Expr::col(Column::PredictionsSeen));
    let query = log::Entity::find()
        .filter(Expr::col(Column::Late).eq(Expr::col(Column::LateSeen)))
        .filter(unseen.gte(FORGOTTEN_AFTER));
    let names: Vec<String> = query.select_only().column(Column::Model).into_tuple().all(db).await?;
    names.into_iter().map(|name| name.parse().map_err(|error| unreadable("logs.model", error))).collect()
}

/// Counts late rows from now on, among the rows after those captured now.
pub(crate) async fn see(txn: &impl ConnectionTrait, models: &[ModelName]) -> Result<(), DbErr> {
    use log::Column;
    log::Entity::update_many()
        .filter(Column::Model.is_in(models.iter().map(ModelName::as_str)))
        .col_expr(Column::LateSeen, Expr::col(Column::Late))
        .col_expr(Column::PredictionsSeen, Expr::col(Column::Predictions))
        .exec(txn)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::tests::database;

    #[tokio::test]
    async fn counters_stop_at_their_greatest_value() {
        let db = database().await;
        let model: ModelName = "flights".parse().expect("a name");
        let delta = LogDelta { lost: u64::MAX, lost_messages: i64::MAX, predictions: 1, ..LogDelta::default() };
        for n in 1..=3 {
            let before = get(&db, &model).await.expect("readable");
            assert!(apply(&db, &model, &before, &delta, &EventClock::default()).await.expect("stored"));
            let log = get(&db, &model).await.expect("readable");
            assert_eq!((log.predictions, log.lost, log.lost_messages), (n, 1 << 62, 1 << 62));
        }
        let arrived = LogDelta { lost_messages: -5, ..LogDelta::default() };
        let before = get(&db, &model).await.expect("readable");
        assert!(apply(&db, &model, &before, &arrived, &EventClock::default()).await.expect("stored"));
        assert_eq!(get(&db, &model).await.expect("readable").lost_messages, (1 << 62) - 5);
    }
}
