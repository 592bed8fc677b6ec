//! Events to publish, committed together with the change that they report. A relay publishes them in the order of their sequence and deletes
//! them once the bus has acknowledged; what is in the table is not yet published.
//!
//! ```text
//! enqueue (in the transaction of the change) -> claim (a relay sets itself as the source) -> mark_published (row deleted, total incremented)
//! ```
//! The first claim fixes the source and the position, so that an event that is published again, even by another relay, has the same id on
//! the bus. Positions count the events of the database without gaps, from 1, or from the number of those that an earlier release has
//! published: by the highest one on the bus a database that has lost committed events is recognised.

use std::{cell::Cell, sync::LazyLock};

use chrono::{DateTime, Utc};
use rekindle_domain::event::{EventContext, EventKind};
use rekindle_proto::trace::traceparent;
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, EntityTrait, ExprTrait,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
use tokio::sync::{Notify, futures::Notified};
use uuid::Uuid;

use crate::{
    entity::{outbox, outbox_total},
    transaction::in_transaction,
};

/// An event to publish.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Unique among all events; a UUIDv7 made at the edge.
    pub id: Uuid,
    /// What happened.
    pub kind: EventKind,
    /// To which thing: its name, e.g. the model's, qualified by its namespace.
    pub name: String,
    /// The proto3 JSON form of the kind's message.
    pub data: serde_json::Value,
    /// On whose behalf.
    pub context: EventContext,
    /// Events with the same key are consumed in order: the model's name, as a rule.
    pub partition_key: String,
    /// When it happened. The id has the time at which it was enqueued.
    pub time: DateTime<Utc>,
}

/// An event that is not yet published.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its key: the order in which events were enqueued.
    pub sequence: i64,
    /// Its position among the published events of the database.
    pub position: u64,
    /// The relay that publishes it, as a CloudEvents source.
    pub source: String,
    /// The trace in which it was enqueued, as W3C `traceparent`.
    pub traceparent: Option<String>,
    /// The event.
    pub event: NewEvent,
}

/// Largest data of one event, in bytes of JSON. The bus would refuse much larger messages at every attempt.
pub const MAX_DATA_BYTES: usize = 512 * 1024;

/// Enqueues an event in the transaction of the change that it reports. More data than [`MAX_DATA_BYTES`] is an error.
pub async fn enqueue(txn: &impl ConnectionTrait, event: NewEvent) -> Result<(), DbErr> {
    let size = event.data.to_string().len();
    if size > MAX_DATA_BYTES {
        return Err(DbErr::Custom(format!(
            "the data of event {} is {size} bytes long: expected at most {MAX_DATA_BYTES}",
            event.kind
        )));
    }
    let row = outbox::ActiveModel {
        sequence: NotSet,
        id: Set(event.id),
        source: Set(None),
        position: Set(None),
        kind: Set(event.kind.ce_type()),
        name: Set(event.name),
        data: Set(event.data),
        correlation_id: Set(event.context.correlation_id),
        causation_id: Set(event.context.causation_id),
        partition_key: Set(event.partition_key),
        traceparent: Set(traceparent()),
        time: Set(event.time),
    };
    outbox::Entity::insert(row).exec_without_returning(txn).await?;
    mark_enqueued();
    Ok(())
}

/// Wakes those that wait for changes once the transaction is committed. Outside of `in_transaction` there is no flag to set; they find
/// the rows when they poll.
pub(crate) fn mark_enqueued() {
    ENQUEUED.try_with(|enqueued| enqueued.set(true)).ok();
}

/// Claims the oldest events, `limit` at most, in order. Events that no relay has claimed before get `source` and their positions.
pub async fn claim(db: &DatabaseConnection, source: &str, limit: u64) -> Result<Vec<Row>, DbErr> {
    // Those with a position first, in their order: on PostgreSQL, an event may be committed after one with a higher sequence.
    let oldest = outbox::Entity::find()
        .order_by_asc(outbox::Column::Position.into_expr().is_null())
        .order_by_asc(outbox::Column::Position)
        .order_by_asc(outbox::Column::Sequence)
        .limit(limit);
    let mut rows = oldest.all(db).await?;
    if rows.iter().any(|row| row.position.is_none()) {
        // Read again, since another relay may have claimed or published some of them in between.
        let sequences: Vec<i64> = rows.iter().map(|row| row.sequence).collect();
        let source = source.to_owned();
        rows = in_transaction(db, async move |txn| claim_rows(txn, &source, &sequences).await).await?;
    }
    rows.sort_by_key(|row| row.position);
    rows.into_iter().map(Row::try_from).collect()
}

/// Gives source and position to those of the rows that have none, and returns all that are left.
async fn claim_rows(txn: &DatabaseTransaction, source: &str, sequences: &[i64]) -> Result<Vec<outbox::Model>, DbErr> {
    let total = outbox_total::Entity::find().lock_exclusive().one(txn).await?;
    let mut position = total.ok_or_else(no_total)?.claimed;
    let mut rows = outbox::Entity::find()
        .filter(outbox::Column::Sequence.is_in(sequences.iter().copied()))
        .order_by_asc(outbox::Column::Sequence)
        .all(txn)
        .await?;
    for row in rows.iter_mut().filter(|row| row.position.is_none()) {
        position += 1;
        row.position = Some(position);
        row.source.get_or_insert_with(|| source.to_owned());
        outbox::Entity::update_many()
            .col_expr(outbox::Column::Source, Expr::value(row.source.clone()))
            .col_expr(outbox::Column::Position, Expr::value(position))
            .filter(outbox::Column::Sequence.eq(row.sequence))
            .exec(txn)
            .await?;
    }
    outbox_total::Entity::update_many()
        .col_expr(outbox_total::Column::Claimed, Expr::value(position))
        .exec(txn)
        .await?;
    Ok(rows)
}

/// What a database has published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// The identity of the database.
    pub database: Uuid,
    /// The position of the last event that a relay has claimed, and may have published.
    pub claimed: u64,
    /// How many events the bus has acknowledged.
    pub published: u64,
}

/// What the database has published.
pub async fn history(db: &impl ConnectionTrait) -> Result<History, DbErr> {
    let total = outbox_total::Entity::find().one(db).await?.ok_or_else(no_total)?;
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(History { database: total.database, claimed: count(total.claimed), published: count(total.published) })
}

/// Continues the history that another database, or a later state of this one, has published up to `position`, unless this database has
/// continued it already. Events that are not yet published get new positions.
pub async fn continue_history(db: &DatabaseConnection, database: Uuid, position: u64) -> Result<(), DbErr> {
    let position = i64::try_from(position).map_err(|_| DbErr::Type(format!("no position of an event: {position}")))?;
    in_transaction(db, async move |txn| {
        let total = outbox_total::Entity::find().lock_exclusive().one(txn).await?.ok_or_else(no_total)?;
        if total.database == database && total.claimed >= position {
            return Ok(());
        }
        outbox::Entity::update_many().col_expr(outbox::Column::Position, Expr::value(None::<i64>)).exec(txn).await?;
        outbox_total::Entity::update_many()
            .col_expr(outbox_total::Column::Database, Expr::value(database))
            .col_expr(outbox_total::Column::Claimed, Expr::value(position))
            .col_expr(outbox_total::Column::Published, Expr::value(position))
            .exec(txn)
            .await?;
        Ok::<_, DbErr>(())
    })
    .await
}

fn no_total() -> DbErr {
    DbErr::RecordNotFound("the totals of the outbox".to_owned())
}

/// How many events are not yet published.
pub async fn pending(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    outbox::Entity::find().count(db).await
}

/// Deletes events that the bus has acknowledged, and counts each once, however many relays report it.
pub async fn mark_published(db: &DatabaseConnection, sequences: &[i64]) -> Result<(), DbErr> {
    if sequences.is_empty() {
        return Ok(());
    }
    let sequences = sequences.to_vec();
    in_transaction(db, async move |txn| {
        let deleted = outbox::Entity::delete_many()
            .filter(outbox::Column::Sequence.is_in(sequences.iter().copied()))
            .exec(txn)
            .await?
            .rows_affected;
        let deleted = i64::try_from(deleted).unwrap_or(i64::MAX);
        outbox_total::Entity::update_many()
            .col_expr(outbox_total::Column::Published, Expr::col(outbox_total::Column::Published).add(deleted))
            .exec(txn)
            .await?;
        Ok(())
    })
    .await
}

/// Wakes every relay of this process. A relay that misses it finds the rows at its next poll.
static WAKE: LazyLock<Notify> = LazyLock::new(Notify::new);

tokio::task_local! {
    /// Whether the running transaction has enqueued an event.
    pub(crate) static ENQUEUED: Cell<bool>;
}

/// Wakes the relays of this process. [`in_transaction`] does it after each commit that enqueued an event.
pub fn wake() {
    WAKE.notify_waiters();
}

/// Completes at the next [`wake`] after this call, even if that comes before the first poll.
pub fn woken() -> Notified<'static> {
    WAKE.notified()
}

impl TryFrom<outbox::Model> for Row {
    type Error = DbErr;

    fn try_from(row: outbox::Model) -> Result<Self, DbErr> {
        let kind = EventKind::from_ce_type(&row.kind)
            .ok_or_else(|| DbErr::Type(format!("outbox row {} has the unknown kind {:?}", row.sequence, row.kind)))?;
        let source = row
            .source
            .ok_or_else(|| DbErr::Type(format!("outbox row {} is claimed and has no source", row.sequence)))?;
        let position = row.position.and_then(|position| u64::try_from(position).ok());
        let position = position
            .ok_or_else(|| DbErr::Type(format!("outbox row {} is claimed and has no position", row.sequence)))?;
        Ok(Self {
            sequence: row.sequence,
            position,
            source,
            traceparent: row.traceparent,
            event: NewEvent {
                id: row.id,
                kind,
                name: row.name,
                data: row.data,
                context: EventContext { correlation_id: row.correlation_id, causation_id: row.causation_id },
                partition_key: row.partition_key,
                time: row.time,
            },
        })
    }
}
