//! From the outbox to the bus: committed events are published in order, and deleted from the outbox once the server has stored them.
//!
//! A crash between the two leaves the row, and the event is published again with the same id: the server discards it within the duplicate
//! window, and every consumer's inbox after that.

use std::time::Duration;

use async_nats::jetstream::context::PublishAckFuture;
use chrono::{DateTime, TimeDelta, Utc};
use rekindle_store::{outbox, retention, sea_orm::DatabaseConnection};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Bus, Error,
    cloudevent::{CloudEvent, Position},
    consumer::Backoff,
};

/// Largest number of events in flight.
const BATCH: u64 = 256;
/// Time between two reads of the outbox without a wake-up: for events of other processes, and for missed wake-ups.
const POLL: Duration = Duration::from_millis(500);
/// How long publishing may take at shutdown; what remains is published at the next start.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two deletions of old inbox and idempotency rows.
const SWEEP: Duration = Duration::from_secs(60 * 60);
/// Retention of inbox and idempotency rows in a service that consumes events alone: that of the event stream.
pub const RETENTION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Publishes the events of `db` until `shutdown`, and deletes inbox and idempotency rows older than `retention`. `source` is
/// `/rekindle/<service>/<instance>`. While the bus or the database is unreachable, retries.
pub async fn run(
    db: DatabaseConnection,
    bus: Bus,
    source: String,
    retention: Duration,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let mut pace = Pace::default();
    let mut next_sweep = Instant::now();
    while !shutdown.is_cancelled() {
        let woken = outbox::woken();
        let mut woken = std::pin::pin!(woken);
        woken.as_mut().enable();
        let wait = pace.after(publish_some(&db, &bus, &source).await);
        if Instant::now() >= next_sweep {
            next_sweep = Instant::now() + SWEEP;
            sweep(&db, retention).await;
        }
        match wait {
            Wait::No => {}
            Wait::Pause(pause) => until(&shutdown, tokio::time::sleep(pause)).await,
            Wait::WakeUp => {
                until(&shutdown, async {
                    timeout(POLL, woken).await.ok();
                })
                .await;
            }
        }
    }
    if bus.is_connected() && timeout(FLUSH_TIMEOUT, publish_all(&db, &bus, &source)).await.is_err() {
        tracing::info!("events remain in the outbox; they are published at the next start");
    }
    Ok(())
}

/// What to wait for before the next read of the outbox.
enum Wait {
    No,
    WakeUp,
    Pause(Duration),
}

const RETRY: Backoff = Backoff { first: Duration::from_millis(100), last: Duration::from_secs(2) };

/// Pauses longer after each consecutive failure, and logs the first.
#[derive(Default)]
struct Pace {
    failures: u32,
}

impl Pace {
    fn after(&mut self, result: Result<usize, Error>) -> Wait {
        match result {
            Ok(published) => {
                if self.failures > 0 {
                    tracing::info!(failures = self.failures, "publishing events again");
                }
                self.failures = 0;
                if published == 0 { Wait::WakeUp } else { Wait::No }
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures == 1 {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot publish events, retrying");
                }
                Wait::Pause(RETRY.after(self.failures.into()))
            }
        }
    }
}

async fn until(shutdown: &CancellationToken, wait: impl Future<Output = ()>) {
    shutdown.run_until_cancelled(wait).await;
}

async fn publish_all(db: &DatabaseConnection, bus: &Bus, source: &str) -> Result<(), Error> {
    while publish_some(db, bus, source).await? > 0 {}
    Ok(())
}

/// Publishes the oldest events, all in flight at once, and deletes those that are stored. An event that fails ends the batch:
/// the next attempt starts with it.
async fn publish_some(db: &DatabaseConnection, bus: &Bus, source: &str) -> Result<usize, Error> {
    let rows = outbox::claim(db, source, BATCH).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let database = outbox::history(db).await?.database;
    let deadline = Instant::now() + bus.publish_timeout();
    let (sent, mut failure) = send_all(bus, database, rows, deadline).await;
    let mut stored = Vec::with_capacity(sent.len());
    for (sequence, subject, acknowledged) in sent {
        match bus.confirm(&subject, acknowledged, deadline).await {
            Ok(()) => stored.push(sequence),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    outbox::mark_published(db, &stored).await?;
    metrics::counter!("rekindle_bus_events_published_total").increment(stored.len() as u64);
    failure.map_or(Ok(stored.len()), Err)
}

type Sent = (i64, String, PublishAckFuture);

/// Sends until one fails.
async fn send_all(bus: &Bus, database: Uuid, rows: Vec<outbox::Row>, deadline: Instant) -> (Vec<Sent>, Option<Error>) {
    let mut sent = Vec::with_capacity(rows.len());
    for row in rows {
        let sequence = row.sequence;
        let event = to_cloudevent(database, row);
        let payload = event.data.to_string().into();
        match bus.send(event.subject(), &event.identity(), event.to_headers(), payload, deadline).await {
            Ok(acknowledged) => sent.push((sequence, event.subject(), acknowledged)),
            Err(error) => return (sent, Some(error)),
        }
    }
    (sent, None)
}

fn to_cloudevent(database: Uuid, row: outbox::Row) -> CloudEvent {
    let outbox::Row { source, traceparent, event, position, .. } = row;
    CloudEvent {
        recorded_time: enqueued_at(&event),
        id: event.id,
        source,
        kind: event.kind,
        name: event.name,
        time: event.time,
        context: event.context,
        partition_key: event.partition_key,
        traceparent,
        position: Some(Position { database, sequence: position }),
        data: event.data,
    }
}

/// An event's id is a UUIDv7, generated when it was enqueued.
fn enqueued_at(event: &outbox::NewEvent) -> DateTime<Utc> {
    let generated = event.id.get_timestamp().and_then(|timestamp| {
        let (seconds, nanos) = timestamp.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
    });
    generated.unwrap_or(event.time)
}

async fn sweep(db: &DatabaseConnection, age: Duration) {
    // An age that reaches back before the first representable time deletes nothing.
    let Some(before) = TimeDelta::from_std(age).ok().and_then(|age| Utc::now().checked_sub_signed(age)) else {
        return;
    };
    match retention::forget(db, before).await {
        Ok(rows) => tracing::debug!(rows, "old inbox and idempotency rows deleted"),
        Err(error) => tracing::warn!(%error, "cannot delete old inbox and idempotency rows"),
    }
}
