//! From the bus to durable segments.
//!
//! Two loops, one per stream, each with one durable pull consumer: fetch for at most `flush_after`, write what came as Parquet
//! objects, enter objects, message ids and counters in one transaction, and only then acknowledge. Killed at any
//! point, what was not acknowledged comes again, before anything newer; what was entered already is recognised by its message id. An
//! object that was written but never entered is not part of the log, and harmless.
//!
//! One instance captures at a time. A second one would share the consumer's messages, lose nothing and double nothing, but
//! rows would look late across instances.

pub(crate) mod outcomes;
pub(crate) mod predictions;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use rekindle_artifacts::Artifacts;
use rekindle_bus::{
    Bus, Delivery, Message,
    consumer::{Consumer, Puller},
    streams::dead_letter_subject,
};
use rekindle_domain::{Digest, ModelName};
use rekindle_store::{in_transaction, inbox};
use sea_orm::{DatabaseConnection, DatabaseTransaction};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Error,
    error::chain,
    outcome::BadLine,
    segment::{self, Kind, Segment},
    store::{
        lives,
        logs::{self, Growth, Log},
        segments, watches,
    },
};

/// Pause before a failed flush is tried again, doubling up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Acknowledgements under way at once.
const ACKS: usize = 64;

/// Time between two removals of captured messages from a stream that keeps none.
const PURGE_EVERY: Duration = Duration::from_secs(1);

/// What both loops work with.
#[derive(Clone)]
pub(crate) struct Capture {
    pub(crate) db: DatabaseConnection,
    pub(crate) artifacts: Artifacts,
    pub(crate) bus: Bus,
    /// How long a fetch may last.
    pub(crate) flush_after: Duration,
    /// Rows that end a segment.
    pub(crate) flush_rows: usize,
    /// Messages of a fetch at most.
    pub(crate) fetch_messages: usize,
    /// How far ahead of its answer an event time may lie and still move the watermark.
    pub(crate) event_horizon: TimeDelta,
    /// Rung after each commit.
    pub(crate) captured: Arc<Notify>,
}

/// One message, decoded: what it adds, under the id by which it is recognised.
pub(crate) trait Captured: Clone + Send + Sync + 'static {
    /// The consumer's durable name, under which the ids are remembered too.
    const CONSUMER: &'static str;
    /// The stream it reads.
    const STREAM: &'static str;
    /// Whether captured messages are removed from the stream, because it takes no more once it is full.
    const PURGES: bool = false;
    /// Reads a message; the error says why none of it can ever be read.
    fn decode(message: &Message) -> Result<Self, String>;
    /// Lines that could not be read, beside those that could.
    fn bad_lines(&self) -> &[BadLine] {
        &[]
    }
    /// By what a second delivery is recognised.
    fn message_id(&self) -> &str;
    /// Whose log it belongs to.
    fn model(&self) -> &ModelName;
    /// Which life of a replica sent it, and its number there.
    fn numbered(&self) -> Option<(Uuid, u64)> {
        None
    }
    /// Rows it brings.
    fn rows(&self) -> usize;
    /// What it adds to its model's log, given the log before, how late rows are told, and how far ahead of its answer, in milliseconds,
    /// an event time may lie and still move the watermark.
    fn growth(&self, before: &Log, timing: &crate::window::Timing, horizon_ms: i64) -> Growth;
    /// The rows of several messages as batches, one to a segment.
    fn drafts(messages: &[&Self]) -> Result<Vec<Draft>, Error>;
}

/// A segment to be written.
pub(crate) struct Draft {
    pub(crate) kind: Kind,
    pub(crate) model: ModelName,
    pub(crate) model_version: u32,
    pub(crate) bundle: Option<Digest>,
    pub(crate) batch: arrow::array::RecordBatch,
}

impl Capture {
    /// Captures one stream until `stop`, then hands back what it has not begun.
    pub(crate) async fn run<M: Captured>(self, stop: CancellationToken) -> Result<(), Error> {
        let pending = u32::try_from(self.fetch_messages.saturating_mul(2)).unwrap_or(u32::MAX);
        // In order: a row that came after later ones would be too late for its window.
        let spec = Consumer { max_ack_pending: pending, in_order: true, ..Consumer::new(M::CONSUMER, M::STREAM, []) };
        let mut puller = Puller::new(self.bus.clone(), spec);
        let mut purged = Instant::now();
        // What was captured before a crash may still lie there.
        let mut to_purge = M::PURGES;
        loop {
            let fetched = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                fetched = puller.next_batch(self.fetch_messages, self.flush_after) => fetched,
            };
            match fetched {
                Ok(deliveries) if deliveries.is_empty() => {}
                Ok(deliveries) => {
                    self.take::<M>(&deliveries, &stop).await;
                    to_purge = M::PURGES;
                }
                Err(error) => {
                    tracing::warn!(consumer = M::CONSUMER, error = chain(&error), "fetch failed, trying again");
                    pause(&stop, RETRY.0).await;
                }
            }
            if to_purge && purged.elapsed() >= PURGE_EVERY {
                to_purge = !self.purge::<M>().await;
                purged = Instant::now();
            }
        }
        puller.hand_back().await;
        Ok(())
    }

    /// Removes acknowledged messages from the stream; `false` where that is to be tried again.
    async fn purge<M: Captured>(&self) -> bool {
        match self.bus.purge_acknowledged(M::STREAM, M::CONSUMER).await {
            Ok(messages) => tracing::debug!(stream = M::STREAM, messages, "captured messages removed"),
            Err(error) => {
                tracing::warn!(stream = M::STREAM, error = chain(&error), "captured messages stay for now");
                return false;
            }
        }
        true
    }

    /// Makes deliveries durable and answers for them. What fails is tried again until `stop`; what is then still not durable is
    /// not acknowledged, and comes again.
    async fn take<M: Captured>(&self, deliveries: &[Delivery], stop: &CancellationToken) {
        let (mut good, mut messages) = (Vec::new(), Vec::new());
        for delivery in deliveries {
            match M::decode(delivery.message()) {
                Ok(message) => {
                    good.push(delivery);
                    messages.push(message);
                }
                Err(reason) => self.set_aside::<M>(delivery, &reason).await,
            }
        }
        let mut wait = RETRY.0;
        while let Err(error) = self.store_all(&good, &messages).await {
            metrics::counter!("rekindle_monitor_flush_failures_total", "consumer" => M::CONSUMER).increment(1);
            tracing::warn!(consumer = M::CONSUMER, error = chain(&error), "flush failed, trying again");
            if pause(stop, wait).await {
                return;
            }
            wait = (wait * 2).min(RETRY.1);
        }
        for some in good.chunks(ACKS) {
            for acked in join_all(some.iter().map(|delivery| delivery.ack()).collect::<Vec<_>>()).await {
                if let Err(error) = acked {
                    tracing::debug!(consumer = M::CONSUMER, error = chain(&error), "message will come again");
                }
            }
        }
    }

    async fn store_all<M: Captured>(&self, deliveries: &[&Delivery], messages: &[M]) -> Result<(), Error> {
        self.store(messages.to_vec(), Utc::now()).await?;
        for (delivery, message) in deliveries.iter().zip(messages) {
            if !message.bad_lines().is_empty() {
                self.set_lines_aside::<M>(delivery, message.bad_lines()).await?;
            }
        }
        Ok(())
    }

    async fn set_aside<M: Captured>(&self, delivery: &Delivery, reason: &str) {
        tracing::error!(
            consumer = M::CONSUMER,
            sequence = delivery.sequence,
            reason,
            "message set aside as a dead letter"
        );
        if let Err(error) = delivery.dead(&self.bus, M::CONSUMER, reason).await {
            tracing::warn!(
                consumer = M::CONSUMER,
                error = chain(&error),
                "dead letter was not sent; the message comes again"
            );
        }
    }

    /// Copies unreadable lines to the dead letters; the rest of their message goes its way.
    async fn set_lines_aside<M: Captured>(&self, delivery: &Delivery, bad: &[BadLine]) -> Result<(), Error> {
        let first = bad.first().map(|line| format!("line {}: {}", line.line, line.reason)).unwrap_or_default();
        let reason: String = first.chars().filter(|c| !c.is_control()).take(1000).collect();
        tracing::warn!(
            consumer = M::CONSUMER,
            sequence = delivery.sequence,
            lines = bad.len(),
            reason,
            "lines set aside"
        );
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Rekindle-Dead-Reason", reason.as_str());
        headers.insert("Rekindle-Dead-Consumer", M::CONSUMER);
        headers.insert("Rekindle-Dead-Stream", delivery.stream.as_str());
        headers.insert("Rekindle-Dead-Sequence", delivery.sequence.to_string().as_str());
        headers.insert("Rekindle-Dead-Subject", delivery.subject.as_str());
        headers.insert("Rekindle-Dead-Lines", bad.len().to_string().as_str());
        let (stored_at, sequence) = (delivery.stored_at.timestamp_micros(), delivery.sequence);
        let id = format!("{}/{}/{sequence}/{stored_at}/lines", M::CONSUMER, delivery.stream);
        let lines: Vec<&str> = bad.iter().map(|line| line.text.as_str()).collect();
        Ok(self.bus.publish(dead_letter_subject(M::CONSUMER), &id, headers, lines.join("\n").into()).await?)
    }

    /// Makes messages durable: afterwards they may be acknowledged. Messages that were captured before have no effect.
    async fn store<M: Captured>(&self, messages: Vec<M>, now: DateTime<Utc>) -> Result<(), Error> {
        for part in parts(messages, self.flush_rows) {
            self.store_part(part, now).await?;
        }
        Ok(())
    }

    async fn store_part<M: Captured>(&self, part: Vec<M>, now: DateTime<Utc>) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let mut part: Vec<M> =
            part.into_iter().filter(|message| seen.insert(message.message_id().to_owned())).collect();
        while !part.is_empty() {
            let segments = self.write(&part, now).await?;
            let count = segments.len();
            match commit(&self.db, part.clone(), segments, self.event_horizon, now).await {
                Ok(()) => {
                    tracing::debug!(consumer = M::CONSUMER, messages = part.len(), segments = count, "captured");
                    self.captured.notify_one();
                    return Ok(());
                }
                Err(Error::Repeated(ids)) => {
                    tracing::info!(consumer = M::CONSUMER, messages = ids.len(), "messages came again");
                    part.retain(|message| !ids.contains(message.message_id()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes the rows as objects.
    async fn write<M: Captured>(&self, part: &[M], now: DateTime<Utc>) -> Result<Vec<Segment>, Error> {
        let owned = part.to_vec();
        let encoded = tokio::task::spawn_blocking(move || {
            let drafts = M::drafts(&owned.iter().collect::<Vec<_>>())?;
            drafts.into_iter().map(|draft| encode(draft, now)).collect::<Result<Vec<_>, Error>>()
        })
        .await??;
        let mut segments = Vec::with_capacity(encoded.len());
        for (mut segment, bytes) in encoded {
            segment.digest = self.artifacts.put_object(&segment.object_key, bytes).await?;
            segments.push(segment);
        }
        Ok(segments)
    }
}

/// Commits messages and their segments together, and only then counts them: a transaction that lost a race runs again.
async fn commit<M: Captured>(
    db: &DatabaseConnection,
    part: Vec<M>,
    segments: Vec<Segment>,
    horizon: TimeDelta,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let enter = async move |txn: &DatabaseTransaction| enter(txn, &part, &segments, horizon, now).await;
    for (model, growth) in in_transaction(db, enter).await? {
        count(&model, &growth);
    }
    Ok(())
}

/// Enters everything, or nothing, and says by how much each log has grown.
async fn enter<M: Captured>(
    txn: &DatabaseTransaction,
    part: &[M],
    written: &[Segment],
    horizon: TimeDelta,
    now: DateTime<Utc>,
) -> Result<Vec<(ModelName, Growth)>, Error> {
    let mut repeated = HashSet::new();
    for message in part {
        if !inbox::first_time(txn, M::CONSUMER, message.message_id(), now).await? {
            repeated.insert(message.message_id().to_owned());
        }
    }
    if !repeated.is_empty() {
        return Err(Error::Repeated(repeated));
    }
    let mut by_model: BTreeMap<&ModelName, Vec<&M>> = BTreeMap::new();
    for message in part {
        by_model.entry(message.model()).or_default().push(message);
    }
    let mut grown = Vec::with_capacity(by_model.len());
    for (model, messages) in by_model {
        let before = logs::get(txn, model).await?;
        let timing = watches::get(txn, model).await?.settings.timing();
        let growths = messages.iter().map(|message| message.growth(&before, &timing, horizon.num_milliseconds()));
        let growth = Growth { lost_messages: missing(txn, &messages, now).await?, ..growths.sum() };
        for segment in written.iter().filter(|segment| segment.model == *model) {
            segments::insert(txn, segment, before.latest_event, now).await?;
        }
        logs::grow(txn, model, &before, &growth).await?;
        grown.push((model.clone(), growth));
    }
    Ok(grown)
}

fn count(model: &ModelName, growth: &Growth) {
    let raise = |name: &'static str, by: u64| metrics::counter!(name, "model" => model.to_string()).increment(by);
    raise("rekindle_monitor_predictions_total", growth.predictions);
    raise("rekindle_monitor_lost_rows_total", growth.lost);
    raise("rekindle_monitor_late_rows_total", growth.late);
    raise("rekindle_monitor_outcomes_total", growth.outcomes);
    raise("rekindle_monitor_bad_outcome_lines_total", growth.bad_lines);
    let missing = growth.lost_messages;
    if missing > 0 {
        tracing::warn!(%model, missing, "messages of the prediction log never came");
        metrics::counter!("rekindle_monitor_lost_messages_total").increment(missing.unsigned_abs());
    }
}

/// By how many the messages that never came have grown, told from their numbers. It does not matter in which order messages come.
async fn missing<M: Captured>(txn: &DatabaseTransaction, messages: &[&M], now: DateTime<Utc>) -> Result<i64, Error> {
    let mut senders: BTreeMap<Uuid, (u64, u64)> = BTreeMap::new();
    for (incarnation, sequence) in messages.iter().filter_map(|message| message.numbered()) {
        let (highest, count) = senders.entry(incarnation).or_default();
        *highest = sequence.max(*highest);
        *count += 1;
    }
    let mut missing = 0;
    for (incarnation, (highest, count)) in senders {
        missing += lives::advance(txn, incarnation, highest, count, now).await?;
    }
    Ok(missing)
}

/// Cuts messages into runs of about `rows` rows.
fn parts<M: Captured>(messages: Vec<M>, rows: usize) -> Vec<Vec<M>> {
    let mut parts: Vec<Vec<M>> = Vec::new();
    let mut held = usize::MAX;
    for message in messages {
        if held >= rows {
            parts.push(Vec::new());
            held = 0;
        }
        held += message.rows();
        parts.last_mut().expect("pushed above").push(message);
    }
    parts
}

fn encode(draft: Draft, now: DateTime<Utc>) -> Result<(Segment, Bytes), Error> {
    let keys = segment::Keys::of(&draft.batch)?;
    let ids = keys.id_range().unwrap_or_default();
    let events = match draft.kind {
        Kind::Prediction => {
            let times = segment::event_times(&draft.batch)?;
            arrow::compute::min(times).zip(arrow::compute::max(times))
        }
        Kind::Outcome => None,
    };
    let bytes = segment::encode(&draft.batch)?;
    // The name only has to be new; when the segment was written is in its first bits.
    let id = Uuid::now_v7();
    let segment = Segment {
        id,
        kind: draft.kind,
        object_key: segment::object_key(draft.kind, &draft.model, now, id),
        model: draft.model,
        model_version: draft.model_version,
        bundle: draft.bundle,
        digest: Digest::of(&bytes),
        rows: draft.batch.num_rows() as u64,
        bytes: bytes.len() as u64,
        events,
        ids,
    };
    Ok((segment, bytes))
}

/// The model in a subject such as `rekindle.predictions.flight-delay`.
fn model_of(subject: &str) -> Result<ModelName, String> {
    let name = subject.rsplit('.').next().unwrap_or_default();
    name.parse().map_err(|error| format!("{error}"))
}

/// The publisher's message id, where there is one.
fn published_id(message: &Message) -> Option<&str> {
    message.headers.as_ref()?.get(async_nats::header::NATS_MESSAGE_ID).map(|value| value.as_str())
}

/// Waits; true if `stop` came first.
async fn pause(stop: &CancellationToken, time: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => true,
        () = tokio::time::sleep(time) => false,
    }
}
