//! Policies, one per model.

use rekindle_domain::{ModelName, Policy};
use rekindle_service::RequestError;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
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

/// A model's policy.
pub(crate) async fn get(db: &impl ConnectionTrait, model: &ModelName) -> Result<Option<Revised>, Error> {
    Entity::find_by_id(model.to_string()).one(db).await?.map(read).transpose()
}

/// Policies whose watch the monitor has not acknowledged.
pub(crate) async fn with_watch_to_push(db: &impl ConnectionTrait) -> Result<Vec<Revised>, Error> {
    let rows = Entity::find().filter(Column::WatchPushed.eq(false)).all(db).await?;
    rows.into_iter().map(read).collect()
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
pub(crate) async fn set(txn: &impl ConnectionTrait, policy: &Policy, expected: u64) -> Result<Revised, Error> {
    let actual = get(txn, &policy.model).await?.map_or(0, |revised| revised.revision);
    if actual != expected {
        let resource = format!("policy of {}", policy.model);
        return Err(RequestError::StaleRevision { resource, expected, actual }.into());
    }
    let row = ActiveModel {
        model: Set(policy.model.to_string()),
        revision: Set(signed(actual + 1)?),
        policy: Set(to_json(policy)?),
        watch_pushed: Set(policy.watch.is_none()),
    };
    let replace = OnConflict::column(Column::Model)
        .update_columns([Column::Revision, Column::Policy, Column::WatchPushed])
        .to_owned();
    Entity::insert(row).on_conflict(replace).exec_without_returning(txn).await?;
    Ok(Revised { policy: policy.clone(), revision: actual + 1 })
}

fn read(row: Model) -> Result<Revised, Error> {
    Ok(Revised { policy: from_json("policies", row.policy)?, revision: unsigned(row.revision)? })
}
