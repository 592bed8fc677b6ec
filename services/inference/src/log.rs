//! The prediction log: every answered row is published to the bus, or declared lost.
//!
//! Answering a request adds a record to a bounded buffer and does not wait. [`Log::run`] joins records into batches and publishes them
//! in order, each until the bus has acknowledged it. When the bus is unreachable and the buffer is full, the oldest rows are dropped
//! and counted, and the next message of the same model declares their number as `lost_before`. Requests that are not in the sample of
//! their model are declared in the same way: logged + declared lost + declared unsampled = answered.
//!
//! A message that may have reached the bus is neither dropped nor changed: it is published again under the same id,
//! `<replica>/<incarnation>/<sequence>`, by which readers recognise duplicates.

mod batch;
mod buffer;
mod message;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arrow::array::StringArray;
use async_nats::HeaderMap;
use chrono::{DateTime, Utc};
use rekindle_bundle::Prediction;
use rekindle_bus::Bus;
use rekindle_domain::{PredictionId, ReplicaId};
use rekindle_service::chain;
use tokio::{
    sync::{Notify, watch},
    task,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use self::batch::LogSchema;
use self::{
    buffer::{Buffer, Declared, Next},
    message::{Encoded, Message, Sequence},
};
use crate::{Error, bus::connected, config::LogConfig, metrics};

/// The rows of one answer.
pub(crate) struct PredictionRecord {
    /// The columns of the version that answered.
    pub(crate) schema: Arc<LogSchema>,
    /// The prediction's id.
    pub(crate) prediction_id: PredictionId,
    /// When it was answered, by the replica's clock.
    pub(crate) answered_at: DateTime<Utc>,
    /// When its rows occurred.
    pub(crate) event_times: EventTimes,
    /// Whether the request was a test request, whose rows are not monitored.
    pub(crate) is_test: bool,
    /// The client's id of the request; may be empty.
    pub(crate) request_id: String,
    /// What each row is about.
    pub(crate) entity_keys: Option<StringArray>,
    /// What guardrails have found in each row, if anything.
    pub(crate) guardrails: Option<StringArray>,
    /// The inputs as they were received.
    pub(crate) rows: arrow::array::RecordBatch,
    /// The outputs as they were answered.
    pub(crate) prediction: Arc<Prediction>,
}

/// When the rows of one request occurred, in milliseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventTimes {
    /// All at the same time.
    Same(i64),
    /// As in this column of the inputs: `Int64` without nulls.
    Column(usize),
}

/// The log of one incarnation of a replica.
pub(crate) struct Log {
    config: LogConfig,
    buffer: Mutex<Buffer>,
    sequence: Mutex<Sequence>,
    /// Notified when the buffer has enough rows for a batch.
    batch_full: Notify,
    /// Notified when there is something to publish.
    publishable: Notify,
}

impl Log {
    /// The empty log of `incarnation` of `replica`.
    pub(crate) fn new(config: LogConfig, replica: ReplicaId, incarnation: Uuid) -> Self {
        Self {
            buffer: Mutex::new(Buffer::new(config.buffer_bytes)),
            sequence: Mutex::new(Sequence::new(replica, incarnation)),
            batch_full: Notify::new(),
            publishable: Notify::new(),
            config,
        }
    }

    /// Adds a record without waiting.
    pub(crate) fn push(&self, record: PredictionRecord) {
        let (recorded, dropped) = {
            let mut buffer = self.buffer();
            let dropped = buffer.push(record);
            (buffer.recorded_rows(), dropped)
        };
        metrics::record_dropped_rows(dropped);
        if recorded >= self.config.batch_rows {
            self.batch_full.notify_one();
        }
    }

    /// Counts the rows of an answer that is not in the sample.
    pub(crate) fn skip(&self, schema: &Arc<LogSchema>, rows: usize) {
        self.buffer().skip(schema, rows as u64);
    }

    /// Rows that are not published yet.
    pub(crate) fn buffered_rows(&self) -> u64 {
        self.buffer().buffered_rows()
    }

    /// Batches and publishes until `closing`, then publishes the rest for at most `flush`. The number of rows that remain is logged.
    pub(crate) async fn run(
        &self,
        mut bus: watch::Receiver<Option<Bus>>,
        closing: CancellationToken,
        flush: Duration,
    ) -> Result<(), Error> {
        let mut unacknowledged = None;
        tokio::join!(self.batch_forever(&closing), async {
            tokio::select! {
                () = self.publish_forever(&mut bus, &mut unacknowledged) => {}
                () = closing.cancelled() => {}
            }
        });
        self.batch_once().await;
        let flushed = timeout(flush, self.publish_all(&mut bus, &mut unacknowledged)).await;
        let rows = self.buffered_rows() + unacknowledged.map_or(0, |message| message.rows + message.declared.lost);
        if flushed.is_err() && rows > 0 {
            tracing::error!(rows, "rows of the prediction log were not published before shutdown");
        }
        Ok(())
    }

    /// Joins records into batches, at the batch interval or as soon as there are enough rows.
    async fn batch_forever(&self, closing: &CancellationToken) {
        loop {
            tokio::select! {
                () = sleep(self.config.batch_interval) => {}
                () = self.batch_full.notified() => {}
                () = closing.cancelled() => return,
            }
            self.batch_once().await;
        }
    }

    async fn batch_once(&self) {
        let records = self.buffer().take_records();
        if records.is_empty() {
            if self.buffer().has_declarations() {
                self.publishable.notify_one();
            }
            return;
        }
        let batch_rows = self.config.batch_rows;
        // Joining thousands of small arrays would delay the requests on the thread that does it.
        let joined = task::spawn_blocking(move || batch::join(records, batch_rows)).await;
        match joined {
            Ok(joined) => self.keep(joined),
            Err(error) => tracing::error!(%error, "rows of the prediction log were lost undeclared"),
        }
        metrics::set_buffered_rows(self.buffered_rows());
    }

    fn keep(&self, joined: batch::Joined) {
        for (schema, rows, error) in joined.failed {
            tracing::error!(error = chain(&error), model = %schema.model, rows, "failed to log rows");
            self.buffer().lose(&schema, rows);
            metrics::record_dropped_rows(rows);
        }
        let dropped = self.buffer().keep(joined.batches);
        metrics::record_dropped_rows(dropped);
        self.publishable.notify_one();
    }

    async fn publish_forever(&self, bus: &mut watch::Receiver<Option<Bus>>, unacknowledged: &mut Option<Message>) {
        loop {
            self.publish_all(bus, unacknowledged).await;
            self.publishable.notified().await;
        }
    }

    /// Publishes everything. `unacknowledged` keeps the message that may or may not have reached the bus, so that cancelling this does
    /// not lose it.
    async fn publish_all(&self, bus: &mut watch::Receiver<Option<Bus>>, unacknowledged: &mut Option<Message>) {
        loop {
            if unacknowledged.is_none() {
                *unacknowledged = self.next_message();
            }
            let Some(message) = unacknowledged else { return };
            match connected(bus).await {
                Some(bus) => self.publish(&bus, message).await,
                None => return,
            }
            *unacknowledged = None;
            metrics::set_buffered_rows(self.buffered_rows());
        }
    }

    async fn publish(&self, bus: &Bus, message: &Message) {
        let mut failing = false;
        while let Err(error) =
            bus.publish(message.subject.clone(), &message.id, HeaderMap::new(), message.payload.clone()).await
        {
            if !failing {
                let buffered_rows = self.buffered_rows();
                tracing::warn!(%error, buffered_rows, "failed to publish the prediction log, retrying");
                failing = true;
            }
            sleep(self.config.retry_interval).await;
        }
        if failing {
            tracing::info!(buffered_rows = self.buffered_rows(), "publishing the prediction log again");
        }
        metrics::record_published_rows(message.rows);
    }

    /// The next message. A batch that is larger than a message may be is split.
    fn next_message(&self) -> Option<Message> {
        loop {
            let Next { batch, declared } = self.buffer().next()?;
            let encoded = self.sequence().encode(&batch, declared, self.config.batch_bytes);
            match encoded {
                Ok(Encoded::Message(message)) => return Some(message),
                Ok(Encoded::TooLarge) => self.buffer().split(batch, declared),
                Err(error) => {
                    let rows = batch.rows();
                    tracing::error!(error = chain(&error), "failed to log rows");
                    metrics::record_dropped_rows(rows);
                    self.buffer().declare(&batch.schema, Declared { lost: rows + declared.lost, ..declared });
                    // A declaration of losses that cannot be encoded would be the next message again at once.
                    if rows == 0 {
                        return None;
                    }
                }
            }
        }
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sequence(&self) -> MutexGuard<'_, Sequence> {
        self.sequence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
