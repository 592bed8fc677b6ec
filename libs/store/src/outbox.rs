//! Events to tell, committed together with what they tell of. A relay publishes them in the order of their sequence and, once the bus has
//! acknowledged, takes them out; what remains in the table is what is still to be told.
//!
//! ```text
//! enqueue (with the state, one transaction) -> claim (a relay names itself as the source) -> mark_published (row leaves, total grows)
//! ```
//! The source is fixed at the first claim, so that an event that is published again, even by another relay, has the same id on the bus.

use std::{cell::Cell, sync::LazyLock};

use chrono::{DateTime, Utc};
use rekindle_domain::event::EventKind;
use rekindle_proto::{client::Context, trace::traceparent};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbErr, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
    sea_query::Expr,
};
use tokio::sync::{Notify, futures::Notified};
use uuid::Uuid;

use crate::{
    entity::{outbox, outbox_total},
    transaction::in_transaction,
};

/// A fact to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Unique among all events; a UUIDv7 made at the edge.
    pub id: Uuid,
    /// What happened.
    pub kind: EventKind,
    /// To which thing: its name, e.g. the model's.
    pub name: String,
    /// The proto3 JSON form of the kind's message.
    pub data: serde_json::Value,
    /// On whose behalf.
    pub context: Context,
    /// Events with the same key are consumed in order: the model's name, as a rule.
    pub partition_key: String,
    /// When it happened; the id tells when it was written down.
    pub time: DateTime<Utc>,
}

/// An event that waits to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its place in the order.
    pub sequence: i64,
    /// Which relay tells it, as a CloudEvents source.
    pub source: String,
    /// The trace in which it was enqueued, as W3C `traceparent`.
    pub traceparent: Option<String>,
    /// The event.
    pub event: NewEvent,
}

/// The data of one event at most, in bytes of JSON; the bus would refuse a message much above it, again and again.
pub const MAX_DATA_BYTES: usize = 512 * 1024;

/// Writes an event down within the transaction that it tells of. An event with more data than [`MAX_DATA_BYTES`] is an error.
pub async fn enqueue(txn: &impl ConnectionTrait, event: NewEvent) -> Result<(), DbErr> {
    let size = event.data.to_string().len();
    if size > MAX_DATA_BYTES {
        return Err(DbErr::Custom(format!(
            "the data of event {} is {size} bytes, at most {MAX_DATA_BYTES}",
            event.kind
        )));
    }
    let row = outbox::ActiveModel {
        sequence: NotSet,
        id: Set(event.id),
        source: Set(None),
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
    // Outside of `in_transaction` there is no mark to set; the relay's own poll finds the row.
    TOLD.try_with(|told| told.set(true)).ok();
    Ok(())
}

/// Takes on the oldest waiting events, `limit` at most, in order; those that no relay has taken on before become `source`'s.
pub async fn claim(db: &DatabaseConnection, source: &str, limit: u64) -> Result<Vec<Row>, DbErr> {
    let mut rows = outbox::Entity::find().order_by_asc(outbox::Column::Sequence).limit(limit).all(db).await?;
    let unclaimed: Vec<i64> = rows.iter().filter(|row| row.source.is_none()).map(|row| row.sequence).collect();
    if !unclaimed.is_empty() {
        outbox::Entity::update_many()
            .col_expr(outbox::Column::Source, Expr::value(source))
            .filter(outbox::Column::Sequence.is_in(unclaimed))
            .filter(outbox::Column::Source.is_null())
            .exec(db)
            .await?;
        // Read again: another relay may have been first, or may have published some already.
        let sequences: Vec<i64> = rows.iter().map(|row| row.sequence).collect();
        rows = outbox::Entity::find()
            .filter(outbox::Column::Sequence.is_in(sequences))
            .order_by_asc(outbox::Column::Sequence)
            .all(db)
            .await?;
    }
    rows.into_iter().map(Row::try_from).collect()
}

/// How many events wait.
pub async fn pending(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    outbox::Entity::find().count(db).await
}

/// Takes out events that the bus has acknowledged, and counts each once, however many relays report it.
pub async fn mark_published(db: &DatabaseConnection, sequences: &[i64]) -> Result<(), DbErr> {
    if sequences.is_empty() {
        return Ok(());
    }
    let sequences = sequences.to_vec();
    in_transaction(db, async move |txn| {
        let gone = outbox::Entity::delete_many()
            .filter(outbox::Column::Sequence.is_in(sequences.iter().copied()))
            .exec(txn)
            .await?
            .rows_affected;
        let gone = i64::try_from(gone).unwrap_or(i64::MAX);
        outbox_total::Entity::update_many()
            .col_expr(outbox_total::Column::Published, Expr::col(outbox_total::Column::Published).add(gone))
            .exec(txn)
            .await?;
        Ok(())
    })
    .await
}

/// How many events have been published since the database was made.
pub async fn published_total(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    let row = outbox_total::Entity::find().one(db).await?;
    Ok(row.map_or(0, |row| u64::try_from(row.published).unwrap_or(0)))
}

/// Rings for every relay of this process. It is only a hint: a relay that misses it finds the rows at its next poll.
static BELL: LazyLock<Notify> = LazyLock::new(Notify::new);

tokio::task_local! {
    /// Whether the running transaction has enqueued an event.
    pub(crate) static TOLD: Cell<bool>;
}

/// Tells the relays of this process that there may be something to publish; [`in_transaction`] does it after each commit that
/// enqueued an event.
pub fn wake() {
    BELL.notify_waiters();
}

/// Completes at the next [`wake`] after this call, even if that comes before the first poll.
pub fn awoken() -> Notified<'static> {
    BELL.notified()
}

impl TryFrom<outbox::Model> for Row {
    type Error = DbErr;

    fn try_from(row: outbox::Model) -> Result<Self, DbErr> {
        let kind = EventKind::from_ce_type(&row.kind)
            .ok_or_else(|| DbErr::Type(format!("outbox row {} is of the unknown kind {:?}", row.sequence, row.kind)))?;
        let source = row
            .source
            .ok_or_else(|| DbErr::Type(format!("outbox row {} has no source though it was claimed", row.sequence)))?;
        Ok(Self {
            sequence: row.sequence,
            source,
            traceparent: row.traceparent,
            event: NewEvent {
                id: row.id,
                kind,
                name: row.name,
                data: row.data,
                context: Context { correlation_id: row.correlation_id, causation_id: row.causation_id },
                partition_key: row.partition_key,
                time: row.time,
            },
        })
    }
}
