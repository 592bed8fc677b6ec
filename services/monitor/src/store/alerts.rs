//! Alerts.

use chrono::{DateTime, Utc};
use rekindle_domain::{
    Alert, AlertId, IdPrefix, ModelName, Namespace,
    alert::{AlertKind, AlertState},
};
use rekindle_store::within;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::Expr,
};
use uuid::Uuid;

use super::{
    entities::alert::{ActiveModel, Column, Entity, Model},
    record, unreadable,
};

fn row(alert: &Alert) -> Result<ActiveModel, DbErr> {
    Ok(ActiveModel {
        id: Set(alert.id.uuid()),
        model: Set(alert.model.to_string()),
        kind: Set(alert.kind.name().to_owned()),
        is_open: Set(alert.state() != AlertState::Resolved),
        until_ms: Set(alert.until.timestamp_millis()),
        updated_at: Set(alert.updated_at),
        content: Set(record::encode(alert)?),
        ..Default::default()
    })
}

fn read(row: Model) -> Result<Alert, DbErr> {
    record::decode(row.content)
}

/// Adds an alert about windows since the position `since` of the log, or 0.
pub(crate) async fn insert(txn: &impl ConnectionTrait, alert: &Alert, since: i64) -> Result<(), DbErr> {
    let row = ActiveModel { since: Set(since), is_announced: Set(false), is_pending: Set(true), ..row(alert)? };
    Entity::insert(row).exec_without_returning(txn).await?;
    Ok(())
}

/// Replaces an alert. Of one that is resolved, receivers are to be notified.
pub(crate) async fn update(txn: &impl ConnectionTrait, alert: &Alert) -> Result<(), DbErr> {
    let mut row = row(alert)?;
    if alert.state() == AlertState::Resolved {
        row.is_pending = Set(true);
    }
    Entity::update_many().set(row).filter(Column::Id.eq(alert.id.uuid())).exec(txn).await?;
    Ok(())
}

/// An alert.
pub(crate) async fn get(db: &impl ConnectionTrait, id: AlertId) -> Result<Option<Alert>, DbErr> {
    Entity::find_by_id(id.uuid()).one(db).await?.map(read).transpose()
}

/// Alerts whose id begins so, by id.
pub(crate) async fn beginning_with(
    db: &impl ConnectionTrait,
    prefix: &IdPrefix,
    limit: u64,
) -> Result<Vec<Alert>, DbErr> {
    let (first, last) = prefix.range();
    let query = Entity::find().filter(Column::Id.between(first, last)).order_by_asc(Column::Id).limit(limit);
    query.all(db).await?.into_iter().map(read).collect()
}

/// The alerts of a model that are not resolved.
pub(crate) async fn open_of(db: &impl ConnectionTrait, model: &ModelName) -> Result<Vec<Alert>, DbErr> {
    let query = Entity::find().filter(Column::Model.eq(model.as_str())).filter(Column::IsOpen.eq(true));
    query.all(db).await?.into_iter().map(read).collect()
}

/// The alerts of some kinds that are not resolved.
pub(crate) async fn open_of_kinds(db: &impl ConnectionTrait, kinds: &[AlertKind]) -> Result<Vec<Alert>, DbErr> {
    let kinds = kinds.iter().map(|kind| kind.name());
    let query = Entity::find().filter(Column::IsOpen.eq(true)).filter(Column::Kind.is_in(kinds));
    query.all(db).await?.into_iter().map(read).collect()
}

/// The alerts that are not resolved, and those that were after a time.
pub(crate) async fn open_or_resolved_after(
    db: &impl ConnectionTrait,
    time: DateTime<Utc>,
) -> Result<Vec<Alert>, DbErr> {
    let is_recent = Condition::any().add(Column::IsOpen.eq(true)).add(Column::UpdatedAt.gt(time));
    Entity::find().filter(is_recent).order_by_asc(Column::Id).all(db).await?.into_iter().map(read).collect()
}

/// When an alert last changed.
pub(crate) async fn last_update(db: &impl ConnectionTrait) -> Result<Option<DateTime<Utc>>, DbErr> {
    let query = Entity::find().select_only().column_as(Column::UpdatedAt.max(), "updated_at");
    Ok(query.into_tuple::<Option<DateTime<Utc>>>().one(db).await?.flatten())
}

/// The end of the last window, in milliseconds, of the resolved alerts of a kind about windows since the position `since` of the log.
pub(crate) async fn resolved_until(
    db: &impl ConnectionTrait,
    model: &ModelName,
    kind: AlertKind,
    since: i64,
) -> Result<Option<i64>, DbErr> {
    let query = Entity::find()
        .filter(Column::Model.eq(model.as_str()))
        .filter(Column::Kind.eq(kind.name()))
        .filter(Column::Since.eq(since))
        .filter(Column::IsOpen.eq(false))
        .select_only()
        .column_as(Column::UntilMs.max(), "until_ms");
    Ok(query.into_tuple::<Option<i64>>().one(db).await?.flatten())
}

/// The latest alert of a kind, if it is resolved.
pub(crate) async fn last_resolved(
    db: &impl ConnectionTrait,
    model: &ModelName,
    kind: AlertKind,
) -> Result<Option<Alert>, DbErr> {
    let query = Entity::find()
        .filter(Column::Model.eq(model.as_str()))
        .filter(Column::Kind.eq(kind.name()))
        .filter(Column::IsOpen.eq(false));
    query.order_by_desc(Column::Id).limit(1).one(db).await?.map(read).transpose()
}

/// Alerts of a model or of a namespace, the latest first, from before `before`.
pub(crate) async fn list(
    db: &impl ConnectionTrait,
    namespace: &Namespace,
    model: Option<&ModelName>,
    include_resolved: bool,
    before: Option<AlertId>,
    limit: u64,
) -> Result<Vec<Alert>, DbErr> {
    let mut query = match model {
        Some(model) => Entity::find().filter(Column::Model.eq(model.as_str())),
        None => Entity::find().filter(within(namespace, Column::Model)),
    };
    if !include_resolved {
        query = query.filter(Column::IsOpen.eq(true));
    }
    if let Some(before) = before {
        query = query.filter(Column::Id.lt(before.uuid()));
    }
    query.order_by_desc(Column::Id).limit(limit).all(db).await?.into_iter().map(read).collect()
}

/// What receivers were last notified of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notified {
    /// Nothing.
    Nothing,
    /// That the alert is open.
    Open,
}

/// Alerts that receivers are to be notified of, from after `after`, the oldest first.
pub(crate) async fn pending(
    db: &impl ConnectionTrait,
    after: Option<AlertId>,
    limit: u64,
) -> Result<Vec<(Alert, Notified)>, DbErr> {
    let mut query = Entity::find().filter(Column::IsPending.eq(true));
    if let Some(after) = after {
        query = query.filter(Column::Id.gt(after.uuid()));
    }
    let rows = query.order_by_asc(Column::Id).limit(limit).all(db).await?;
    let with = |row: Model| {
        let notified = if row.is_announced { Notified::Open } else { Notified::Nothing };
        Ok((read(row)?, notified))
    };
    rows.into_iter().map(with).collect()
}

/// Notes that receivers were notified of an alert, if it is still in the state that they were notified of; `false` if it is not.
pub(crate) async fn set_notified(txn: &impl ConnectionTrait, alert: &Alert) -> Result<bool, DbErr> {
    let updated = Entity::update_many()
        .filter(Column::Id.eq(alert.id.uuid()))
        .filter(Column::IsOpen.eq(alert.state() != AlertState::Resolved))
        .filter(Column::IsPending.eq(true))
        .col_expr(Column::IsAnnounced, Expr::value(true))
        .col_expr(Column::IsPending, Expr::value(false))
        .exec(txn)
        .await?;
    Ok(updated.rows_affected == 1)
}

/// The id of an alert in a page token.
pub(crate) fn parse_id(text: &str) -> Option<AlertId> {
    Uuid::parse_str(text).ok().map(AlertId::new)
}

/// The kind that a column holds.
pub(super) fn parse_kind(what: &str, text: &str) -> Result<AlertKind, DbErr> {
    text.parse().map_err(|error| unreadable(what, error))
}
