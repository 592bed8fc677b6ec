//! Silences.

use chrono::{DateTime, Utc};
use rekindle_domain::{ModelName, Namespace, SilenceId, alert::Silence};
use rekindle_store::within;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};

use super::{
    alerts::parse_kind,
    entities::silence::{ActiveModel, Column, Entity, Model},
    unreadable,
};

fn read(row: Model) -> Result<Silence, DbErr> {
    Ok(Silence {
        id: SilenceId::new(row.id),
        model: row.model.parse().map_err(|error| unreadable("silences.model", error))?,
        kind: row.kind.map(|kind| parse_kind("silences.kind", &kind)).transpose()?,
        created_at: row.created_at,
        until: row.until,
        by: row.by,
        why: row.why,
    })
}

/// Adds a silence.
pub(crate) async fn insert(txn: &impl ConnectionTrait, silence: &Silence) -> Result<(), DbErr> {
    let row = ActiveModel {
        id: Set(silence.id.uuid()),
        model: Set(silence.model.to_string()),
        kind: Set(silence.kind.map(|kind| kind.name().to_owned())),
        created_at: Set(silence.created_at),
        until: Set(silence.until),
        by: Set(silence.by.clone()),
        why: Set(silence.why.clone()),
    };
    Entity::insert(row).exec_without_returning(txn).await?;
    Ok(())
}

/// A silence.
pub(crate) async fn get(db: &impl ConnectionTrait, id: SilenceId) -> Result<Option<Silence>, DbErr> {
    Entity::find_by_id(id.uuid()).one(db).await?.map(read).transpose()
}

/// Silences that have not ended at a time, of every namespace.
pub(crate) async fn active(db: &impl ConnectionTrait, at: DateTime<Utc>) -> Result<Vec<Silence>, DbErr> {
    Entity::find().filter(Column::Until.gt(at)).all(db).await?.into_iter().map(read).collect()
}

/// Silences of a model or of a namespace that have not ended at a time, the latest first, from before `before`.
pub(crate) async fn list(
    db: &impl ConnectionTrait,
    namespace: &Namespace,
    model: Option<&ModelName>,
    at: DateTime<Utc>,
    before: Option<SilenceId>,
    limit: u64,
) -> Result<Vec<Silence>, DbErr> {
    let mut query = match model {
        Some(model) => Entity::find().filter(Column::Model.eq(model.as_str())),
        None => Entity::find().filter(within(namespace, Column::Model)),
    };
    if let Some(before) = before {
        query = query.filter(Column::Id.lt(before.uuid()));
    }
    query = query.filter(Column::Until.gt(at)).order_by_desc(Column::Id).limit(limit);
    query.all(db).await?.into_iter().map(read).collect()
}

/// Ends a silence, unless it has ended before.
pub(crate) async fn end(txn: &impl ConnectionTrait, id: SilenceId, at: DateTime<Utc>) -> Result<(), DbErr> {
    Entity::update_many()
        .filter(Column::Id.eq(id.uuid()))
        .filter(Column::Until.gt(at))
        .col_expr(Column::Until, Expr::value(at))
        .exec(txn)
        .await?;
    Ok(())
}

/// Deletes the silences that ended before a time; returns how many.
pub(crate) async fn forget(db: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<u64, DbErr> {
    Ok(Entity::delete_many().filter(Column::Until.lt(before)).exec(db).await?.rows_affected)
}
