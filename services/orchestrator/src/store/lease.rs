//! The lease of the one instance that acts.
//!
//! It keeps instances from doing the same work twice. What keeps them from doing harm, should two believe to hold it for a
//! moment, is that every write is guarded by an epoch and every call to another service carries a key.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter,
    sea_query::{Expr, OnConflict},
};

use super::entity::lease::{ActiveModel, Column, Entity};
use crate::Error;

const NAME: &str = "reconciler";

/// Takes or renews the lease for `holder` until `now + length`. `false` while another one holds it.
pub(crate) async fn hold(
    db: &impl ConnectionTrait,
    holder: &str,
    now: DateTime<Utc>,
    length: Duration,
) -> Result<bool, Error> {
    let until = now + length;
    let renewed = Entity::update_many()
        .col_expr(Column::Until, Expr::value(until))
        .filter(Column::Name.eq(NAME))
        .filter(Column::Holder.eq(holder))
        .exec(db)
        .await?;
    if renewed.rows_affected == 1 {
        return Ok(true);
    }
    let taken_over = Entity::update_many()
        .col_expr(Column::Until, Expr::value(until))
        .col_expr(Column::Holder, Expr::value(holder))
        .col_expr(Column::Epoch, Expr::col(Column::Epoch).add(1))
        .filter(Column::Name.eq(NAME))
        .filter(Column::Until.lt(now))
        .exec(db)
        .await?;
    if taken_over.rows_affected == 1 {
        return Ok(true);
    }
    let row =
        ActiveModel { name: Set(NAME.to_owned()), holder: Set(holder.to_owned()), epoch: Set(1), until: Set(until) };
    let unless_there = OnConflict::column(Column::Name).do_nothing().to_owned();
    Ok(Entity::insert(row).on_conflict(unless_there).exec_without_returning(db).await? == 1)
}

/// Gives the lease up, so that another instance need not wait.
pub(crate) async fn release(db: &impl ConnectionTrait, holder: &str, now: DateTime<Utc>) -> Result<(), Error> {
    Entity::update_many()
        .col_expr(Column::Until, Expr::value(now))
        .filter(Column::Name.eq(NAME))
        .filter(Column::Holder.eq(holder))
        .exec(db)
        .await?;
    Ok(())
}
