//! The audit trail: an append-only table of who changed what, in a chain of hashes.
//!
//! ```text
//! append (in the transaction of the change) -> seal (position and hash, which covers all entries before)
//! ```
//! Entries are sealed by a task and not by their transaction: all writers would wait for the one that appended last. An entry that was
//! deleted before it was sealed, within a second as a rule, leaves no trace here; its event has.
//!
//! Whoever can write to the database can compute new hashes. So the last hash is published at intervals, and [`verify`] takes what was published.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekindle_domain::{
    audit::{Entry, Fault, Filter, Seal, Sealed, Verification},
    event::{EventContext, Fact},
};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, ConnectionTrait, DatabaseConnection, DbErr, EntityTrait, ExprTrait, QueryFilter,
    QueryOrder, QuerySelect,
    sea_query::{Expr, Func},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    entity::{audit, audit_head},
    in_transaction,
    outbox::{self, NewEvent},
};

/// Entries that are read or sealed at a time.
const AT_ONCE: u64 = 256;
/// Faults that a verification names.
const FAULTS: usize = 100;
/// Time between two looks for entries without a wake-up.
const POLL: Duration = Duration::from_secs(1);
/// Time after a wake-up in which further entries come, which are sealed together: each transaction is a write to the disk.
const GATHER: Duration = Duration::from_millis(500);
/// Time between two publications of the last hash.
const PUBLISH_EVERY: Duration = Duration::from_secs(60);

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
    loop {
        let unsealed = audit::Entity::find().filter(audit::Column::Position.is_null()).limit(1).one(db).await?;
        if unsealed.is_none() {
            return Ok(());
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
            Ok::<_, DbErr>(())
        })
        .await?;
    }
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
        let mut result = seal(&db).await;
        if result.is_ok() && tokio::time::Instant::now() >= publish_at {
            publish_at = tokio::time::Instant::now() + PUBLISH_EVERY;
            result = publish(&db, &fact, &mut published).await;
        }
        if let Err(error) = result {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "entries of the audit trail are not sealed, retrying"
            );
            tokio::time::sleep(POLL).await;
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
    let mut found = Verification {
        published: published.iter().map(|seal| seal.position).max().unwrap_or(0),
        ..Verification::default()
    };
    let mut fault = |position: u64, problem: &str| {
        if found.faults.len() < FAULTS {
            found.faults.push(Fault { position, problem: problem.to_owned() });
        }
    };
    // Before the entries: more may be sealed while they are read.
    let head = head(db).await?;
    // The hash of the entry before, if it was read.
    let (mut previous, mut expected) = (Some(String::new()), 1);
    let mut entries = 0;
    loop {
        let rows = audit::Entity::find()
            .filter(audit::Column::Position.gte(signed(expected)))
            .order_by_asc(audit::Column::Position)
            .order_by_asc(audit::Column::Sequence)
            .limit(AT_ONCE)
            .all(db)
            .await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            let Sealed { entry, seal: Some(seal) } = sealed(row) else { continue };
            entries += 1;
            if seal.position < expected {
                fault(seal.position, &format!("occurs twice: {} of {}", entry.action, entry.object));
                continue;
            }
            if seal.position > expected {
                fault(expected, &missing(expected, seal.position - 1));
                previous = None;
            }
            if let Some(previous) = &previous
                && entry.hash(seal.position, previous) != seal.hash
            {
                fault(seal.position, &format!("was changed, or the one before: {} of {}", entry.action, entry.object));
            }
            let positioned = |published: &&Seal| published.position == seal.position;
            if published.iter().chain(&head).find(positioned).is_some_and(|published| published.hash != seal.hash) {
                fault(seal.position, "has another hash than was published: entries up to it were changed");
            }
            expected = seal.position + 1;
            previous = Some(seal.hash);
        }
    }
    let last = published.iter().chain(&head).map(|seal| seal.position).max().unwrap_or(0);
    if last >= expected {
        fault(expected, &missing(expected, last));
    }
    found.entries = entries;
    found.hash = previous.unwrap_or_default();
    Ok(found)
}

fn missing(first: u64, last: u64) -> String {
    if first == last { "is missing".to_owned() } else { format!("is missing, and all up to {last}") }
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

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
