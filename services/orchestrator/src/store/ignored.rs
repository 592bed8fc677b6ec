//! Triggers that started no workflow since the latest one of their model was queued.

use chrono::{DateTime, Utc};
use rekindle_domain::{
    ModelName, Trigger,
    trigger::{IgnoredReason, IgnoredTrigger},
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder,
    sea_query::{Expr, ExprTrait as _, OnConflict},
};

use super::{
    entity::ignored_trigger::{ActiveModel, Column, Entity, Model},
    unsigned,
};
use crate::Error;

/// The ignored triggers of a model, by trigger and reason.
pub(crate) async fn of_model(db: &impl ConnectionTrait, model: &ModelName) -> Result<Vec<IgnoredTrigger>, Error> {
    let rows = Entity::find()
        .filter(Column::Model.eq(model.as_str()))
        .order_by_asc(Column::Trigger)
        .order_by_asc(Column::Reason)
        .all(db)
        .await?;
    rows.into_iter().map(read).collect()
}

/// Counts an ignored trigger.
pub(crate) async fn note(
    txn: &impl ConnectionTrait,
    model: &ModelName,
    trigger: Trigger,
    reason: IgnoredReason,
    explanation: String,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let row = ActiveModel {
        model: Set(model.to_string()),
        trigger: Set(trigger.name().to_owned()),
        reason: Set(reason.name().to_owned()),
        explanation: Set(explanation),
        count: Set(1),
        first_at: Set(now),
        last_at: Set(now),
    };
    let count = Expr::col((Entity, Column::Count)).add(1);
    let again = OnConflict::columns([Column::Model, Column::Trigger, Column::Reason])
        .update_columns([Column::Explanation, Column::LastAt])
        .value(Column::Count, count)
        .to_owned();
    Entity::insert(row).on_conflict(again).exec_without_returning(txn).await?;
    Ok(())
}

/// Forgets the ignored triggers of a model.
pub(crate) async fn forget(txn: &impl ConnectionTrait, model: &ModelName) -> Result<(), Error> {
    Entity::delete_many().filter(Column::Model.eq(model.as_str())).exec(txn).await?;
    Ok(())
}

fn read(row: Model) -> Result<IgnoredTrigger, Error> {
    let unknown = |what: &str, name: &str| DbErr::Type(format!("{name:?} is no {what}"));
    Ok(IgnoredTrigger {
        trigger: Trigger::from_name(&row.trigger).ok_or_else(|| unknown("trigger", &row.trigger))?,
        reason: IgnoredReason::from_name(&row.reason).ok_or_else(|| unknown("reason", &row.reason))?,
        explanation: row.explanation,
        count: unsigned(row.count)?,
        first_at: row.first_at,
        last_at: row.last_at,
    })
}
