//! Policies, one per model.

use chrono::{DateTime, Utc};
use rekindle_domain::{DatasetName, ModelName, Policy};
use rekindle_service::{RequestError, chain};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    sea_query::{Expr, OnConflict},
};

use super::{
    entity::policy::{ActiveModel, Column, Entity, Model},
    from_json, signed, to_json, unsigned,
};
use crate::Error;

/// A policy and how often it was set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Revised {
    pub policy: Policy,
    pub revision: u64,
}

/// A policy with a schedule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scheduled {
    pub policy: Policy,
    /// The latest time of the schedule that was considered, or when the schedule was set.
    pub since: DateTime<Utc>,
}

/// A model's policy.
pub(crate) async fn get(db: &impl ConnectionTrait, model: &ModelName) -> Result<Option<Revised>, Error> {
    Entity::find_by_id(model.to_string()).one(db).await?.map(read).transpose()
}

/// Policies whose watch the monitor has not acknowledged.
pub(crate) async fn with_watch_to_push(db: &impl ConnectionTrait) -> Result<Vec<Revised>, Error> {
    let rows = Entity::find().filter(Column::WatchPushed.eq(false)).all(db).await?;
    rows.into_iter().map(read).collect()
}

/// Policies with a schedule.
pub(crate) async fn scheduled(db: &impl ConnectionTrait) -> Result<Vec<Scheduled>, Error> {
    let rows = Entity::find().filter(Column::ScheduleFrom.is_not_null()).all(db).await?;
    let scheduled = rows.into_iter().filter_map(|row| {
        let since = row.schedule_from?;
        Some(Scheduled { policy: readable(row)?, since })
    });
    Ok(scheduled.collect())
}

/// Notes that a time of a schedule was considered, over the one that was read. For use within a transaction.
pub(crate) async fn note_time(
    txn: &impl ConnectionTrait,
    scheduled: &Scheduled,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    let model = &scheduled.policy.model;
    let updated = Entity::update_many()
        .col_expr(Column::ScheduleFrom, Expr::value(at))
        .filter(Column::Model.eq(model.as_str()))
        .filter(Column::ScheduleFrom.eq(scheduled.since))
        .exec(txn)
        .await?;
    match updated.rows_affected {
        1 => Ok(()),
        _ => Err(Error::Raced { what: format!("schedule of {model}") }),
    }
}

/// Policies whose dataset this is, by model.
pub(crate) async fn of_dataset(db: &impl ConnectionTrait, dataset: &DatasetName) -> Result<Vec<Policy>, Error> {
    let rows = Entity::find().order_by_asc(Column::Model).all(db).await?;
    Ok(rows.into_iter().filter_map(readable).filter(|policy| policy.dataset == *dataset).collect())
}

/// Notes that the monitor has acknowledged the watch of this revision.
pub(crate) async fn watch_pushed(db: &impl ConnectionTrait, policy: &Revised) -> Result<(), Error> {
    Entity::update_many()
        .col_expr(Column::WatchPushed, Expr::value(true))
        .filter(Column::Model.eq(policy.policy.model.as_str()))
        .filter(Column::Revision.eq(signed(policy.revision)?))
        .exec(db)
        .await?;
    Ok(())
}

/// Sets a policy over the revision that the caller expects (0: none), and returns the new one. For use within a transaction.
pub(crate) async fn set(
    txn: &impl ConnectionTrait,
    policy: &Policy,
    expected: u64,
    now: DateTime<Utc>,
) -> Result<Revised, Error> {
    let before = Entity::find_by_id(policy.model.to_string()).one(txn).await?;
    let schedule_from = before.as_ref().and_then(|row| row.schedule_from);
    let before = before.map(read).transpose()?;
    let actual = before.as_ref().map_or(0, |revised| revised.revision);
    if actual != expected {
        let resource = format!("policy of {}", policy.model);
        return Err(RequestError::StaleRevision { resource, expected, actual }.into());
    }
    let row = ActiveModel {
        model: Set(policy.model.to_string()),
        revision: Set(signed(actual + 1)?),
        policy: Set(to_json(policy)?),
        watch_pushed: Set(policy.watch.is_none()),
        // Times of the schedule before it was set are not due.
        schedule_from: Set(match &policy.schedule {
            None => None,
            Some(schedule) => {
                let is_same = before.is_some_and(|before| before.policy.schedule.as_ref() == Some(schedule));
                schedule_from.filter(|_| is_same).or(Some(now))
            }
        }),
    };
    let replace = OnConflict::column(Column::Model)
        .update_columns([Column::Revision, Column::Policy, Column::WatchPushed, Column::ScheduleFrom])
        .to_owned();
    Entity::insert(row).on_conflict(replace).exec_without_returning(txn).await?;
    Ok(Revised { policy: policy.clone(), revision: actual + 1 })
}

/// The policy of a row. One that this release cannot read does not keep the others from theirs.
fn readable(row: Model) -> Option<Policy> {
    let model = row.model.clone();
    match read(row) {
        Ok(revised) => Some(revised.policy),
        Err(error) => {
            tracing::warn!(model, error = chain(&error), "the policy cannot be read");
            None
        }
    }
}

fn read(row: Model) -> Result<Revised, Error> {
    Ok(Revised { policy: from_json("policies", row.policy)?, revision: unsigned(row.revision)? })
}
