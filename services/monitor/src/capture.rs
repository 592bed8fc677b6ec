//! From the bus to durable chunks.
//!
//! Two loops, one per stream, each with one durable pull consumer: fetch for at most `flush_after`, write the messages as Parquet objects,
//! insert chunks, message ids and counters in one transaction, and only then acknowledge. After a crash, what was not acknowledged is
//! redelivered before anything newer, and what was already inserted is recognised by its message id. An object that was written but not
//! inserted is not part of the log, and harmless.
//!
//! One instance captures at a time, the holder of a lease; its epoch is checked in the transaction that inserts. A loop
//! keeps no state from one epoch to the next: its position is the consumer's, on the bus, and each epoch begins with the first message
//! that is not acknowledged. A message whose rows cannot be stored becomes a dead letter and delays no other. A former holder that has not noticed its loss yet can take messages from the consumer, but cannot insert
//! or acknowledge them; the gap that it leaves is noticed by the [`Order`] of the sequences, and read again before anything newer.

mod dead_letter;
mod flush;
mod order;
pub(crate) mod outcomes;
pub(crate) mod predictions;

use std::{collections::HashSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use ::metrics::counter;
use chrono::TimeDelta;
use futures::future::join_all;
use rekindle_artifacts::Artifacts;
use rekindle_bus::{
    Bus, Delivery, Message,
    consumer::{Consumer, Puller},
    panics::caught,
};
use rekindle_domain::ModelName;
use rekindle_service::chain;
use rekindle_store::{Fence, Leases};
use sea_orm::DatabaseConnection;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::order::Order;
use crate::{
    Error,
    chunk::Draft,
    join_key::KeyedRow,
    known, metrics,
    outcome::{BadLine, PendingOutcome},
    ownership,
    store::logs::{Log, LogDelta},
    window::Timing,
};

/// Pause before a failed flush is retried: the first, doubling up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Concurrent acks or naks.
const ACKS: usize = 64;
/// Time between two purges of a stream that keeps no captured messages.
const PURGE_EVERY: Duration = Duration::from_secs(1);

/// What both loops work with.
#[derive(Clone)]
pub(crate) struct Capture {
    pub(crate) db: DatabaseConnection,
    pub(crate) artifacts: Artifacts,
    pub(crate) bus: Bus,
    pub(crate) leases: Leases,
    /// Longest fetch.
    pub(crate) flush_after: Duration,
    /// Rows that complete a chunk.
    pub(crate) flush_rows: usize,
    /// Messages per fetch.
    pub(crate) fetch_messages: usize,
    /// How far ahead of its answer an event time may lie and still advance the watermark.
    pub(crate) event_horizon: TimeDelta,
    /// Notified after each commit.
    pub(crate) captured: Arc<Notify>,
}

/// One message, decoded.
pub(crate) trait Captured: Clone + Send + Sync + 'static {
    /// The consumer's durable name, which is also the scope of the recorded message ids.
    const CONSUMER: &'static str;
    /// The stream.
    const STREAM: &'static str;
    /// Whether captured messages are purged from the stream, because a full stream refuses new ones.
    const PURGES: bool = false;
    /// Whether messages of models that are not known are dead-lettered.
    const OF_KNOWN_MODELS: bool = false;
    /// Decodes a message; the error says why it is invalid.
    fn decode(message: &Message) -> Result<Self, String>;
    /// Its invalid lines.
    fn bad_lines(&self) -> &[BadLine] {
        &[]
    }
    /// The id by which a redelivery is recognised.
    fn message_id(&self) -> &str;
    /// The model whose log it belongs to.
    fn model(&self) -> &ModelName;
    /// The incarnation of the replica that sent it, and its number there.
    fn numbered(&self) -> Option<(Uuid, u64)> {
        None
    }
    /// Number of rows.
    fn rows(&self) -> usize;
    /// The join keys of its rows.
    fn join_keys(&self) -> &[KeyedRow] {
        &[]
    }
    /// Its outcomes by join key.
    fn pending(&self) -> &[PendingOutcome] {
        &[]
    }
    /// The change that it makes to the counters of its model's log. `timing` decides which rows are late.
    fn delta(&self, before: &Log, timing: &Timing) -> LogDelta;
    /// The event times that may advance the event clock, by request. `horizon_ms` is how far ahead of its answer, in milliseconds, one may
    /// lie.
    fn event_times(&self, _horizon_ms: i64) -> Vec<(Uuid, Vec<i64>)> {
        Vec::new()
    }
    /// The rows of several messages, grouped into chunks.
    fn drafts(messages: &[&Self]) -> Result<Vec<Draft>, Error>;
}

/// How a batch of deliveries ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Everything is durable and acknowledged.
    Captured,
    /// Messages are missing before or between them; nothing was inserted or acknowledged.
    Gap,
    /// Shutdown came first; nothing was acknowledged.
    Stopped,
    /// The lease was lost; nothing was inserted or acknowledged.
    Refused,
}

/// How an attempt to make messages durable ended.
enum Flushed {
    /// They are.
    Durable,
    /// What they contain cannot be stored, and a retry does not help.
    Impossible(String),
    /// It ended before.
    Ended(Ended),
}

impl Capture {
    /// Captures one stream whenever this instance holds the lease, until `stop`.
    pub(crate) async fn run<M: Captured>(self, stop: CancellationToken) -> Result<(), Error> {
        let mut changes = self.leases.subscribe();
        while !stop.is_cancelled() {
            match self.leases.fence(ownership::CAPTURE) {
                Some(fence) => self.capture::<M>(&fence, &mut changes, &stop).await,
                None => tokio::select! {
                    () = stop.cancelled() => {}
                    _ = changes.changed() => {}
                },
            }
        }
        Ok(())
    }

    /// Captures under one epoch of the lease, then naks what was fetched and not captured.
    async fn capture<M: Captured>(&self, fence: &Fence, changes: &mut watch::Receiver<()>, stop: &CancellationToken) {
        let (mut puller, mut order) = (self.puller::<M>(), Order::default());
        let mut purged = Instant::now();
        // The stream may still hold what was captured before a crash.
        let mut to_purge = M::PURGES;
        while self.leases.fence(ownership::CAPTURE).as_ref() == Some(fence) {
            let fetched = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = changes.changed() => continue,
                fetched = puller.next_batch(self.fetch_messages, self.flush_after) => fetched,
            };
            match fetched {
                Ok(deliveries) if deliveries.is_empty() => {}
                Ok(deliveries) => match self.take::<M>(fence, &mut order, &deliveries, stop).await {
                    Ended::Captured => to_purge = M::PURGES,
                    // A new puller begins with the first message that is not acknowledged.
                    Ended::Gap => puller = self.puller::<M>(),
                    Ended::Stopped | Ended::Refused => {
                        nak(&deliveries).await;
                        break;
                    }
                },
                Err(error) => {
                    tracing::warn!(consumer = M::CONSUMER, error = chain(&error), "fetch failed, retrying");
                    pause(stop, RETRY.0).await;
                }
            }
            if to_purge && purged.elapsed() >= PURGE_EVERY {
                to_purge = !self.purge::<M>().await;
                purged = Instant::now();
            }
        }
        puller.nak_untaken().await;
    }

    fn puller<M: Captured>(&self) -> Puller {
        let pending = u32::try_from(self.fetch_messages.saturating_mul(2)).unwrap_or(u32::MAX);
        // In order: a row captured after later ones would be too late for its window.
        let spec = Consumer { max_ack_pending: pending, in_order: true, ..Consumer::new(M::CONSUMER, M::STREAM, []) };
        Puller::new(self.bus.clone(), spec)
    }

    /// Purges acknowledged messages from the stream; `false` if that is to be retried.
    async fn purge<M: Captured>(&self) -> bool {
        match self.bus.purge_acknowledged(M::STREAM, M::CONSUMER).await {
            Ok(messages) => tracing::debug!(stream = M::STREAM, messages, "captured messages purged"),
            Err(error) => {
                tracing::warn!(stream = M::STREAM, error = chain(&error), "captured messages not purged, retrying");
                return false;
            }
        }
        true
    }

    /// Whether messages are missing before or between deliveries.
    async fn has_gap<M: Captured>(&self, order: &mut Order, deliveries: &[Delivery]) -> Result<bool, Error> {
        if !order.has_begun() {
            order.begin(self.bus.progress(M::STREAM, M::CONSUMER).await?.done);
        }
        Ok(order.has_gap(deliveries.iter().map(|delivery| delivery.sequence)))
    }

    /// Captures deliveries that have no gap.
    async fn take<M: Captured>(
        &self,
        fence: &Fence,
        order: &mut Order,
        deliveries: &[Delivery],
        stop: &CancellationToken,
    ) -> Ended {
        match self.has_gap::<M>(order, deliveries).await {
            Ok(false) => self.make_durable::<M>(fence, deliveries, stop).await,
            Ok(true) => {
                tracing::info!(consumer = M::CONSUMER, "gap in the stream, reading it again");
                Ended::Gap
            }
            Err(error) => {
                tracing::warn!(consumer = M::CONSUMER, error = chain(&error), "progress is unknown, reading again");
                pause(stop, RETRY.0).await;
                Ended::Gap
            }
        }
    }

    /// Makes deliveries durable, dead-letters invalid ones, and acknowledges. Failures are retried until `stop`.
    async fn make_durable<M: Captured>(
        &self,
        fence: &Fence,
        deliveries: &[Delivery],
        stop: &CancellationToken,
    ) -> Ended {
        let (mut valid, mut messages, mut invalid) = (Vec::new(), Vec::new(), Vec::new());
        for delivery in deliveries {
            match decode::<M>(delivery.message()) {
                Ok(message) => {
                    valid.push(delivery);
                    messages.push(message);
                }
                Err(reason) => invalid.push((delivery, reason)),
            }
        }
        if M::OF_KNOWN_MODELS {
            let Some(unknown) = self.unknown_models(&messages, stop).await else { return Ended::Stopped };
            let mut of_known = messages.iter().map(|message| !unknown.contains(message.model()));
            let (known, others): (Vec<_>, Vec<_>) =
                valid.into_iter().partition(|_| of_known.next().unwrap_or_default());
            messages.retain(|message| !unknown.contains(message.model()));
            valid = known;
            let reason = "no such model: nothing of it was captured, and it is neither monitored nor deployed";
            invalid.extend(others.into_iter().map(|delivery| (delivery, reason.to_owned())));
        }
        match self.flush_until_durable(fence, &valid, &messages, stop).await {
            Flushed::Durable => {}
            Flushed::Ended(ended) => return ended,
            Flushed::Impossible(reason) => {
                tracing::error!(
                    consumer = M::CONSUMER,
                    reason,
                    "messages cannot be captured together, capturing each alone"
                );
                let mut durable = Vec::with_capacity(valid.len());
                for (delivery, message) in valid.into_iter().zip(&messages) {
                    match self.flush_until_durable(fence, &[delivery], std::slice::from_ref(message), stop).await {
                        Flushed::Durable => durable.push(delivery),
                        Flushed::Ended(ended) => return ended,
                        Flushed::Impossible(reason) => invalid.push((delivery, reason)),
                    }
                }
                valid = durable;
            }
        }
        // After the flush, which fails without the lease: a dead letter is an acknowledgement too.
        for (delivery, reason) in invalid {
            dead_letter::message::<M>(&self.bus, &self.artifacts, delivery, &reason).await;
        }
        ack(&valid).await;
        Ended::Captured
    }

    /// Makes messages durable. Failures that may pass are retried until `stop`.
    async fn flush_until_durable<M: Captured>(
        &self,
        fence: &Fence,
        deliveries: &[&Delivery],
        messages: &[M],
        stop: &CancellationToken,
    ) -> Flushed {
        let mut wait = RETRY.0;
        loop {
            let flushed = caught(self.flush_all(fence, deliveries, messages)).await;
            let error = match flushed.map_err(Error::from).flatten() {
                Ok(()) => return Flushed::Durable,
                Err(error) => error,
            };
            if error.is_lost_lease() {
                tracing::warn!(consumer = M::CONSUMER, error = chain(&error), "flush refused");
                ownership::give_up(&self.leases, fence);
                return Flushed::Ended(Ended::Refused);
            }
            counter!(metrics::FLUSH_FAILURES, "consumer" => M::CONSUMER).increment(1);
            if error.is_of_messages() {
                return Flushed::Impossible(chain(&error));
            }
            tracing::warn!(consumer = M::CONSUMER, error = chain(&error), "flush failed, retrying");
            if pause(stop, wait).await {
                return Flushed::Ended(Ended::Stopped);
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// The models of messages that are not known. Failures are retried; `None` if `stop` came first.
    async fn unknown_models<M: Captured>(
        &self,
        messages: &[M],
        stop: &CancellationToken,
    ) -> Option<HashSet<ModelName>> {
        let models: HashSet<&ModelName> = messages.iter().map(|message| message.model()).collect();
        let (mut unknown, mut wait) = (HashSet::new(), RETRY.0);
        for model in models {
            loop {
                match known::is_known(&self.db, &self.bus, model).await {
                    Ok(true) => break,
                    Ok(false) => {
                        unknown.insert(model.clone());
                        break;
                    }
                    Err(error) => tracing::warn!(%model, error = chain(&error), "model not looked up, retrying"),
                }
                if pause(stop, wait).await {
                    return None;
                }
                wait = (wait * 2).min(RETRY.1);
            }
        }
        Some(unknown)
    }

    async fn flush_all<M: Captured>(
        &self,
        fence: &Fence,
        deliveries: &[&Delivery],
        messages: &[M],
    ) -> Result<(), Error> {
        self.flush(fence, messages.to_vec(), chrono::Utc::now()).await?;
        for (delivery, message) in deliveries.iter().zip(messages) {
            if !message.bad_lines().is_empty() {
                dead_letter::lines::<M>(&self.bus, &self.artifacts, delivery, message.bad_lines()).await?;
            }
        }
        Ok(())
    }
}

/// Decodes a message; the error says why it is invalid.
fn decode<M: Captured>(message: &Message) -> Result<M, String> {
    let decoded = std::panic::catch_unwind(AssertUnwindSafe(|| M::decode(message)));
    decoded.unwrap_or_else(|_| Err("decoding it panicked".to_owned()))
}

async fn ack(deliveries: &[&Delivery]) {
    for some in deliveries.chunks(ACKS) {
        for result in join_all(some.iter().map(|delivery| delivery.ack()).collect::<Vec<_>>()).await {
            if let Err(error) = result {
                tracing::debug!(error = chain(&error), "acknowledgement failed, message redelivered");
            }
        }
    }
}

/// Naks deliveries, so that they are redelivered at once, to this instance or another.
async fn nak(deliveries: &[Delivery]) {
    for some in deliveries.chunks(ACKS) {
        for result in join_all(some.iter().map(|delivery| delivery.nak(Duration::ZERO)).collect::<Vec<_>>()).await {
            if let Err(error) = result {
                tracing::debug!(error = chain(&error), "nak not sent, message redelivered later");
            }
        }
    }
}

/// The publisher's message id, if any.
fn published_id(message: &Message) -> Option<&str> {
    message.headers.as_ref()?.get(async_nats::header::NATS_MESSAGE_ID).map(|value| value.as_str())
}

/// Waits; `true` if `stop` came first.
async fn pause(stop: &CancellationToken, time: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => true,
        () = tokio::time::sleep(time) => false,
    }
}
