//! The state of each model's log: counters, the event clock, and up to where its windows are reported.

use std::iter::Sum;

use rekindle_domain::ModelName;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait as _, OnConflict},
};
use serde_json::json;

use super::{counted, entities::log, stored, unreadable};
use crate::event_clock::EventClock;

/// The state of a model's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Log {
    /// Rows captured.
    pub(crate) predictions: u64,
    /// Rows that replicas declared lost.
    pub(crate) lost: u64,
    /// Messages that never arrived.
    pub(crate) lost_messages: u64,
    /// Captured rows whose window had closed before they arrived.
    pub(crate) late: u64,
    /// Outcomes captured, repeated ones included.
    pub(crate) outcomes: u64,
    /// The event clock.
    pub(crate) clock: EventClock,
    /// Event time up to which windows are reported, in milliseconds.
    pub(crate) reported_until: Option<i64>,
}

/// The change that captured messages make to a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogDelta {
    /// Rows captured.
    pub(crate) predictions: u64,
    /// Rows declared lost.
    pub(crate) lost: u64,
    /// By how much the number of messages that never arrived grew.
    pub(crate) lost_messages: i64,
    /// Rows that arrived after their window had closed.
    pub(crate) late: u64,
    /// Outcomes captured.
    pub(crate) outcomes: u64,
    /// Lines dead-lettered.
    pub(crate) bad_lines: u64,
}

impl Sum for LogDelta {
    fn sum<I: Iterator<Item = Self>>(deltas: I) -> Self {
        deltas.fold(Self::default(), |sum, one| Self {
            predictions: sum.predictions + one.predictions,
            lost: sum.lost + one.lost,
            lost_messages: sum.lost_messages + one.lost_messages,
            late: sum.late + one.late,
            outcomes: sum.outcomes + one.outcomes,
            bad_lines: sum.bad_lines + one.bad_lines,
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
        lost_messages: counted(row.lost_messages),
        late: counted(row.late),
        outcomes: counted(row.outcomes),
        clock: EventClock::new(row.latest_event, ahead),
        reported_until: row.reported_until,
    })
}

/// Every model that has a log.
pub(crate) async fn models(db: &impl ConnectionTrait) -> Result<Vec<ModelName>, DbErr> {
    let names: Vec<String> = log::Entity::find().select_only().column(log::Column::Model).into_tuple().all(db).await?;
    names.iter().map(|name| name.parse().map_err(|error| unreadable("logs.model", error))).collect()
}

/// Applies a change, and sets the event clock to what it is after it.
pub(crate) async fn apply(
    txn: &impl ConnectionTrait,
    model: &ModelName,
    delta: &LogDelta,
    clock: &EventClock,
) -> Result<(), DbErr> {
    let fresh = log::ActiveModel {
        model: Set(model.to_string()),
        predictions: Set(0),
        lost: Set(0),
        lost_messages: Set(0),
        late: Set(0),
        outcomes: Set(0),
        bad_lines: Set(0),
        latest_event: Set(None),
        ahead: Set(json!([])),
        reported_until: Set(None),
    };
    log::Entity::insert(fresh)
        .on_conflict(OnConflict::column(log::Column::Model).do_nothing().to_owned())
        .exec_without_returning(txn)
        .await?;
    let plus = |column: log::Column, count: u64| Expr::col(column).add(stored(count));
    log::Entity::update_many()
        .filter(log::Column::Model.eq(model.as_str()))
        .col_expr(log::Column::Predictions, plus(log::Column::Predictions, delta.predictions))
        .col_expr(log::Column::Lost, plus(log::Column::Lost, delta.lost))
        .col_expr(log::Column::LostMessages, Expr::col(log::Column::LostMessages).add(delta.lost_messages))
        .col_expr(log::Column::Late, plus(log::Column::Late, delta.late))
        .col_expr(log::Column::Outcomes, plus(log::Column::Outcomes, delta.outcomes))
        .col_expr(log::Column::BadLines, plus(log::Column::BadLines, delta.bad_lines))
        .col_expr(log::Column::LatestEvent, Expr::value(clock.latest()))
        .col_expr(log::Column::Ahead, Expr::value(json!(clock.ahead())))
        .exec(txn)
        .await?;
    Ok(())
}

/// Moves the end of the reported windows from `before` to `until`; `false` if it is no longer at `before`.
pub(crate) async fn move_reported_until(
    txn: &impl ConnectionTrait,
    model: &ModelName,
    before: Option<i64>,
    until: i64,
) -> Result<bool, DbErr> {
    let unmoved = match before {
        Some(before) => log::Column::ReportedUntil.eq(before),
        None => log::Column::ReportedUntil.is_null(),
    };
    let moved = log::Entity::update_many()
        .filter(log::Column::Model.eq(model.as_str()))
        .filter(unmoved)
        .col_expr(log::Column::ReportedUntil, Expr::value(until))
        .exec(txn)
        .await?;
    Ok(moved.rows_affected == 1)
}
