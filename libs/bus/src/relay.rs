//! From the outbox to the bus: what was committed is published, in order, and taken out once the server has stored it.
//!
//! A crash between the two leaves the row, and the event is published again with the same id: within the duplicate window the server
//! drops it, after that every consumer's inbox does.

use std::time::Duration;

use async_nats::jetstream::context::PublishAckFuture;
use chrono::{DateTime, Utc};
use rekindle_store::{outbox, retention, sea_orm::DatabaseConnection};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Bus, Error, cloudevent::CloudEvent};

/// Events in flight at most.
const BATCH: u64 = 256;
/// How often the outbox is looked at when nobody rings: for events of other processes, and for a bell that was missed.
const POLL: Duration = Duration::from_millis(500);
/// How long the last events may take at shutdown; what remains is published at the next start.
const LAST_CALL: Duration = Duration::from_secs(2);
/// How often old inbox and idempotency rows are removed, and how old they may get: as old as the event stream's longest memory.
const SWEEP: Duration = Duration::from_secs(60 * 60);
const KEEP: chrono::TimeDelta = chrono::TimeDelta::days(365);

/// Publishes the events of `db` until `shutdown`. `source` is `/rekindle/<service>/<instance>`. A bus or a database that is away is
/// waited for.
pub async fn run(db: DatabaseConnection, bus: Bus, source: String, shutdown: CancellationToken) -> Result<(), Error> {
    let mut pace = Pace::default();
    let mut next_sweep = Instant::now() + SWEEP;
    while !shutdown.is_cancelled() {
        let awoken = outbox::awoken();
        let mut awoken = std::pin::pin!(awoken);
        awoken.as_mut().enable();
        let wait = pace.after(publish_some(&db, &bus, &source).await);
        if Instant::now() >= next_sweep {
            next_sweep += SWEEP;
            sweep(&db).await;
        }
        match wait {
            Wait::No => {}
            Wait::Rest(pause) => until(&shutdown, tokio::time::sleep(pause)).await,
            Wait::Bell => {
                until(&shutdown, async {
                    timeout(POLL, awoken).await.ok();
                })
                .await;
            }
        }
    }
    if bus.is_connected() && timeout(LAST_CALL, publish_all(&db, &bus, &source)).await.is_err() {
        tracing::info!("events remain in the outbox; they are published at the next start");
    }
    Ok(())
}

/// What to do before the next look at the outbox.
enum Wait {
    No,
    Bell,
    Rest(Duration),
}

/// Rests longer after each failure in a row, and logs the first.
#[derive(Default)]
struct Pace {
    failures: u32,
}

impl Pace {
    fn after(&mut self, result: Result<usize, Error>) -> Wait {
        match result {
            Ok(published) => {
                if self.failures > 0 {
                    tracing::info!(failures = self.failures, "events are published again");
                }
                self.failures = 0;
                if published == 0 { Wait::Bell } else { Wait::No }
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures == 1 {
                    tracing::warn!(error = &error as &dyn std::error::Error, "events wait in the outbox");
                }
                Wait::Rest(Duration::from_millis(50 << self.failures.min(6)).min(Duration::from_secs(2)))
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

/// Publishes the oldest events, all in flight at once, and takes out those that were stored. An event that failed ends the batch:
/// the next attempt starts with it.
async fn publish_some(db: &DatabaseConnection, bus: &Bus, source: &str) -> Result<usize, Error> {
    let rows = outbox::claim(db, source, BATCH).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let deadline = Instant::now() + bus.publish_timeout();
    let (sent, mut failure) = send_all(bus, rows, deadline).await;
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

/// Sends until one cannot be sent.
async fn send_all(bus: &Bus, rows: Vec<outbox::Row>, deadline: Instant) -> (Vec<Sent>, Option<Error>) {
    let mut sent = Vec::with_capacity(rows.len());
    for row in rows {
        let sequence = row.sequence;
        let event = to_cloudevent(row);
        let payload = event.data.to_string().into();
        match bus.send(event.subject(), &event.identity(), event.to_headers(), payload, deadline).await {
            Ok(acknowledged) => sent.push((sequence, event.subject(), acknowledged)),
            Err(error) => return (sent, Some(error)),
        }
    }
    (sent, None)
}

fn to_cloudevent(row: outbox::Row) -> CloudEvent {
    let outbox::Row { source, traceparent, event, .. } = row;
    CloudEvent {
        recorded_time: written_down(&event),
        id: event.id,
        source,
        kind: event.kind,
        name: event.name,
        time: event.time,
        context: event.context,
        partition_key: event.partition_key,
        traceparent,
        data: event.data,
    }
}

/// An event's id is a UUIDv7, made when it was written down.
fn written_down(event: &outbox::NewEvent) -> DateTime<Utc> {
    let made = event.id.get_timestamp().and_then(|made| {
        let (seconds, nanos) = made.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
    });
    made.unwrap_or(event.time)
}

async fn sweep(db: &DatabaseConnection) {
    match retention::forget(db, Utc::now() - KEEP).await {
        Ok(rows) => tracing::debug!(rows, "old inbox and idempotency rows removed"),
        Err(error) => tracing::warn!(%error, "old inbox and idempotency rows were not removed"),
    }
}
