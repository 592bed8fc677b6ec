//! The audit trail: an append-only table of who changed what, in a chain of hashes.
//!
//! ```text
//! append (in the transaction of the change) -> seal (position and hash, which covers all entries before)
//! ```
//! Entries are sealed by a task and not by their transaction: all writers would wait for the one that appended last. An entry that was
//! deleted before it was sealed, within a second as a rule, leaves no trace here; its event has.
//!
//! Whoever can write to the database can compute new hashes. So the last hash is published at intervals, and [`verify`] takes what was published.

mod verifier;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_domain::{
    audit::{Entry, Filter, Seal, Sealed, Verification},
    event::{EventContext, Fact},
};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, ConnectionTrait, DatabaseConnection, DbErr, EntityTrait, ExprTrait, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, Func},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::verifier::Verifier;
use crate::{
    entity::{audit, audit_head},
    in_transaction,
    outbox::{self, NewEvent},
};

/// Entries that are read or sealed at a time.
const AT_ONCE: u64 = 256;
/// Time between two looks for entries without a wake-up.
const POLL: Duration = Duration::from_secs(1);
/// Time after a wake-up in which further entries come, which are sealed together: each transaction is a write to the disk.
const GATHER: Duration = Duration::from_millis(500);
/// Time between two publications of the last hash.
const PUBLISH_EVERY: Duration = Duration::from_secs(60);
/// The age from which an entry without a hash is a fault: entries are sealed within seconds.
const UNSEALED: TimeDelta = TimeDelta::minutes(1);

/// A change to record: the event that reports it, who made it, and what was there before.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The event.
    pub event: NewEvent,
    /// The principal.
    pub actor: String,
    /// The object, or what changed of it, before; `None` if there was none.
    pub before: Option<serde_json::Value>,
}

impl Change {
    /// The same change of what was there before.
    #[must_use]
    pub fn over(self, before: impl Into<serde_json::Value>) -> Self {
        Self { before: Some(before.into()), ..self }
    }
}

/// Records a change in the audit trail and enqueues its event, in the transaction that makes it.
pub async fn record(txn: &impl ConnectionTrait, change: Change) -> Result<(), DbErr> {
    let Change { event, actor, before } = change;
    let text = |name: &str| event.data.get(name).and_then(serde_json::Value::as_str);
    let entry = Entry {
        request_id: event.id,
        actor,
        action: format!("{}.{}", event.kind.noun, event.kind.verb),
        object: event.kind.ce_subject(&event.name),
        before: before.map(|before| before.to_string()).unwrap_or_default(),
        after: event.data.to_string(),
        reason: text("why").or_else(|| text("reason")).unwrap_or_default().to_owned(),
        correlation_id: event.context.correlation_id.clone(),
        time: event.time,
    };
    append(txn, entry).await?;
    outbox::enqueue(txn, event).await
}

/// Appends an entry, in the transaction of the change.
pub async fn append(txn: &impl ConnectionTrait, entry: Entry) -> Result<(), DbErr> {
    let Entry { request_id, actor, action, object, before, after, reason, correlation_id, time } = entry;
    let row = audit::ActiveModel {
        sequence: NotSet,
        position: Set(None),
        hash: Set(None),
        request_id: Set(request_id),
        actor: Set(actor),
        action: Set(action),
        object: Set(object),
        before: Set(before),
        after: Set(after),
        reason: Set(reason),
        correlation_id: Set(correlation_id),
        // So the hash has the time that is read back.
        time: Set(DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time)),
    };
    audit::Entity::insert(row).exec_without_returning(txn).await?;
    outbox::mark_enqueued();
    Ok(())
}

/// The last seal of a trail; `None` before the first entry is sealed.
pub async fn head(db: &impl ConnectionTrait) -> Result<Option<Seal>, DbErr> {
    let head = audit_head::Entity::find().one(db).await?;
    let head = head.map(|head| Seal { position: unsigned(head.entries), hash: head.hash });
    Ok(head.filter(|head| head.position > 0))
}

/// Seals entries, in the order in which they were appended, until none is left.
pub async fn seal(db: &DatabaseConnection) -> Result<(), DbErr> {
    while seal_some(db).await? {}
    Ok(())
}

/// Seals [`AT_ONCE`] entries at most; returns whether there may be more.
async fn seal_some(db: &DatabaseConnection) -> Result<bool, DbErr> {
    let unsealed = audit::Entity::find().filter(audit::Column::Position.is_null()).limit(1).one(db).await?;
    if unsealed.is_none() {
        return Ok(false);
    }
    in_transaction(db, async move |txn| {
        let head = audit_head::Entity::find().lock_exclusive().one(txn).await?;
        let mut head = head.ok_or_else(|| DbErr::RecordNotFound("the head of the audit trail".to_owned()))?;
        let rows = audit::Entity::find()
            .filter(audit::Column::Position.is_null())
            .order_by_asc(audit::Column::Sequence)
            .limit(AT_ONCE)
            .all(txn)
            .await?;
        let may_be_more = rows.len() as u64 >= AT_ONCE;
        for row in rows {
            head.entries += 1;
            let sequence = row.sequence;
            head.hash = sealed(row).entry.hash(unsigned(head.entries), &head.hash);
            audit::Entity::update_many()
                .col_expr(audit::Column::Position, Expr::value(head.entries))
                .col_expr(audit::Column::Hash, Expr::value(head.hash.clone()))
                .filter(audit::Column::Sequence.eq(sequence))
                .exec(txn)
                .await?;
        }
        audit_head::Entity::update_many()
            .col_expr(audit_head::Column::Entries, Expr::value(head.entries))
            .col_expr(audit_head::Column::Hash, Expr::value(head.hash))
            .exec(txn)
            .await?;
        Ok::<_, DbErr>(may_be_more)
    })
    .await
}

/// Seals entries as they come, and publishes the last hash at intervals, until `shutdown`. `fact` is the event of a database with so many
/// entries and the hash of the last one.
pub async fn run(
    db: DatabaseConnection,
    fact: impl Fn(Uuid, &Seal) -> Fact<serde_json::Value>,
    shutdown: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let mut published = None;
    let mut publish_at = tokio::time::Instant::now() + PUBLISH_EVERY;
    loop {
        let woken = outbox::woken();
        let mut woken = std::pin::pin!(woken);
        woken.as_mut().enable();
        let mut result = seal_some(&db).await;
        if result.is_ok() && tokio::time::Instant::now() >= publish_at {
            publish_at = tokio::time::Instant::now() + PUBLISH_EVERY;
            result = result.and(publish(&db, &fact, &mut published).await.map(|()| true));
        }
        match result {
            // Entries come as fast as they are sealed.
            Ok(true) if !shutdown.is_cancelled() => continue,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "entries of the audit trail are not sealed, retrying"
                );
                _ = tokio::time::timeout(POLL, shutdown.cancelled()).await;
            }
        }
        let next = async {
            if tokio::time::timeout(POLL, woken).await.is_ok() {
                tokio::time::sleep(GATHER).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = next => {}
        }
    }
    // The last hash of this process, so that what is removed while it does not run is noticed.
    let last = async {
        seal(&db).await?;
        publish(&db, &fact, &mut published).await
    };
    if let Err(error) = last.await {
        tracing::info!(
            error = &error as &dyn std::error::Error,
            "the last entries of the audit trail are sealed at the next start"
        );
    }
    Ok(())
}

async fn publish(
    db: &DatabaseConnection,
    fact: &impl Fn(Uuid, &Seal) -> Fact<serde_json::Value>,
    published: &mut Option<Seal>,
) -> Result<(), DbErr> {
    let Some(head) = head(db).await? else { return Ok(()) };
    if published.as_ref() == Some(&head) {
        return Ok(());
    }
    let database = outbox::history(db).await?.database;
    let Fact { kind, name, data } = fact(database, &head);
    let event = NewEvent {
        id: Uuid::now_v7(),
        kind,
        partition_key: name.clone(),
        name,
        data,
        context: EventContext::default(),
        time: Utc::now(),
    };
    in_transaction(db, async move |txn| outbox::enqueue(txn, event.clone()).await).await?;
    *published = Some(head);
    Ok(())
}

/// Entries after a key, which is that of the last entry of a page before.
pub async fn list(
    db: &impl ConnectionTrait,
    filter: &Filter,
    after: Option<i64>,
    limit: u64,
) -> Result<Vec<(i64, Sealed)>, DbErr> {
    use audit::Column;
    let mut condition = Condition::all();
    if !filter.actor.is_empty() {
        condition = condition.add(Column::Actor.eq(filter.actor.as_str()));
    }
    if filter.action.contains('.') {
        condition = condition.add(Column::Action.eq(filter.action.as_str()));
    } else if !filter.action.is_empty() {
        condition = condition.add(starts_with(Column::Action, &format!("{}.", filter.action)));
    }
    if !filter.object.is_empty() {
        condition = condition.add(starts_with(Column::Object, &filter.object));
    }
    if let Some(since) = filter.since {
        condition = condition.add(Column::Time.gte(since));
    }
    if let Some(until) = filter.until {
        condition = condition.add(Column::Time.lt(until));
    }
    let mut query = audit::Entity::find().filter(condition).limit(limit);
    query = match (filter.ascending, after) {
        (true, Some(after)) => query.filter(Column::Sequence.gt(after)),
        (false, Some(after)) => query.filter(Column::Sequence.lt(after)),
        (_, None) => query,
    };
    query = if filter.ascending { query.order_by_asc(Column::Sequence) } else { query.order_by_desc(Column::Sequence) };
    Ok(query.all(db).await?.into_iter().map(|row| (row.sequence, sealed(row))).collect())
}

/// Whether a column begins with a text. LIKE has wildcards, and ignores case on SQLite; the order of texts depends on the database.
fn starts_with(column: audit::Column, text: &str) -> sea_orm::sea_query::SimpleExpr {
    let characters = i32::try_from(text.chars().count()).unwrap_or(i32::MAX);
    Func::cust("substr").args([Expr::col(column), Expr::value(1), Expr::value(characters)]).eq(text)
}

/// Reads the whole trail, and compares it with the head of the database and with seals that were published.
pub async fn verify(db: &impl ConnectionTrait, published: &[Seal]) -> Result<Verification, DbErr> {
    let (unsealed, problem) = unsealed(db).await?;
    // Before the entries: more may be sealed while they are read.
    let head = head(db).await?;
    let mut verifier = Verifier::new(published, head.as_ref());
    if let Some(problem) = problem {
        verifier.fault(0, problem);
    }
    let mut last = i64::MIN;
    loop {
        // Positions are unique in the table.
        let rows = audit::Entity::find()
            .filter(audit::Column::Position.gt(last))
            .order_by_asc(audit::Column::Position)
            .limit(AT_ONCE)
            .all(db)
            .await?;
        let Some(of_last) = rows.last().and_then(|row| row.position) else { break };
        last = of_last;
        for row in rows {
            verifier.add(row.position.unwrap_or_default(), sealed(row));
        }
    }
    Ok(Verification { unsealed, ..verifier.finish() })
}

/// Entries without a hash, and what is wrong with them: the oldest is old, or one has a hash without a position.
async fn unsealed(db: &impl ConnectionTrait) -> Result<(u64, Option<String>), DbErr> {
    use audit::Column;
    let of = || audit::Entity::find().filter(Column::Position.is_null());
    let count = of().count(db).await?;
    if of().filter(Column::Hash.is_not_null()).limit(1).one(db).await?.is_some() {
        return Ok((count, Some("an entry has lost its position".to_owned())));
    }
    let oldest = of().order_by_asc(Column::Sequence).limit(1).one(db).await?;
    let is_old = |row: &audit::Model| Utc::now() - row.time > UNSEALED;
    let problem = oldest.filter(is_old).map(|row| {
        format!("{count} entries since {} have no hash, so that a change of them is not found", row.time.to_rfc3339())
    });
    Ok((count, problem))
}

fn sealed(row: audit::Model) -> Sealed {
    let seal = row.position.zip(row.hash).map(|(position, hash)| Seal { position: unsigned(position), hash });
    let entry = Entry {
        request_id: row.request_id,
        actor: row.actor,
        action: row.action,
        object: row.object,
        before: row.before,
        after: row.after,
        reason: row.reason,
        correlation_id: row.correlation_id,
        time: row.time,
    };
    Sealed { entry, seal }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
