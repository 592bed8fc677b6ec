//! The prediction log: every answered row reaches the bus, or is declared lost.
//!
//! Answering pushes rows into a bounded buffer and goes on. [`Log::run`] turns what has gathered into record batches and
//! sends them in order, each until the bus has acknowledged it. When the bus is away the buffer fills, then the oldest rows
//! are dropped and counted, and the count travels as `lost_before` in the next message of the same model:
//! logged + declared lost = answered.
//!
//! A message that may have reached the bus is never dropped and never changes: it is sent again under the same
//! id, `<replica>/<incarnation>/<sequence>`, by which readers recognise it.

mod buffer;
mod message;
mod rows;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::HeaderMap;
use chrono::{DateTime, Utc};
use rekindle_bus::Bus;
use rekindle_domain::{PredictionId, ReplicaId};
use rekindle_model::Prediction;
use tokio::{
    sync::{Notify, watch},
    task,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use self::rows::LogShape;
use self::{
    buffer::{Buffer, Next},
    message::{Encoded, Message, Sequence},
};
use crate::{Error, config::LogConfig};

/// The rows of one answer.
pub(crate) struct Answered {
    /// Of the version that answered.
    pub(crate) shape: Arc<LogShape>,
    /// The answer's id.
    pub(crate) prediction_id: PredictionId,
    /// When it was answered, by the replica's clock.
    pub(crate) answered_at: DateTime<Utc>,
    /// When its rows happened.
    pub(crate) event_times: EventTimes,
    /// The inputs as decoded.
    pub(crate) rows: arrow::array::RecordBatch,
    /// The outputs.
    pub(crate) prediction: Prediction,
}

/// When the rows of one request happened, in milliseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventTimes {
    /// All at once.
    Same(i64),
    /// As this column of the inputs says: `Int64` without nulls.
    Column(usize),
}

/// The log of one life of a replica.
pub(crate) struct Log {
    config: LogConfig,
    buffer: Mutex<Buffer>,
    sequence: Mutex<Sequence>,
    /// Enough rows for a batch have gathered.
    batch_full: Notify,
    /// There is something to publish.
    publishable: Notify,
}

impl Log {
    /// The empty log of the life `incarnation` of `replica`.
    pub(crate) fn new(config: LogConfig, replica: ReplicaId, incarnation: Uuid) -> Self {
        Self {
            buffer: Mutex::new(Buffer::new(config.buffer_bytes)),
            sequence: Mutex::new(Sequence::new(replica, incarnation)),
            batch_full: Notify::new(),
            publishable: Notify::new(),
            config,
        }
    }

    /// Takes over the rows of an answer; waits for nothing.
    pub(crate) fn push(&self, answered: Answered) {
        let (gathered, dropped) = {
            let mut buffer = self.buffer();
            let dropped = buffer.push(answered);
            (buffer.gathered_rows(), dropped)
        };
        count_dropped(dropped);
        if gathered >= self.config.batch_rows {
            self.batch_full.notify_one();
        }
    }

    /// Rows that wait for the bus.
    pub(crate) fn waiting_rows(&self) -> u64 {
        self.buffer().waiting_rows()
    }

    /// Gathers and publishes until `closing`, then publishes what is left, at most for `flush`; rows that remain are
    /// counted in the process's own log.
    pub(crate) async fn run(
        &self,
        mut bus: watch::Receiver<Option<Bus>>,
        closing: CancellationToken,
        flush: Duration,
    ) -> Result<(), Error> {
        let mut in_hand = None;
        tokio::join!(self.gather(&closing), async {
            tokio::select! {
                () = self.publish_forever(&mut bus, &mut in_hand) => {}
                () = closing.cancelled() => {}
            }
        });
        self.gather_once().await;
        let flushed = timeout(flush, self.publish_all(&mut bus, &mut in_hand)).await;
        let rows = self.waiting_rows() + in_hand.map_or(0, |message| message.rows + message.lost_before);
        if flushed.is_err() && rows > 0 {
            tracing::error!(rows, "rows of the prediction log did not reach the bus before the end");
        }
        Ok(())
    }

    /// Turns gathered answers into record batches, each interval or as soon as there are enough.
    async fn gather(&self, closing: &CancellationToken) {
        loop {
            tokio::select! {
                () = sleep(self.config.batch_interval) => {}
                () = self.batch_full.notified() => {}
                () = closing.cancelled() => return,
            }
            self.gather_once().await;
        }
    }

    async fn gather_once(&self) {
        let gathered = self.buffer().take_gathered();
        if gathered.is_empty() {
            return;
        }
        let batch_rows = self.config.batch_rows;
        // Thousands of small arrays are joined: off the threads that answer.
        let joined = task::spawn_blocking(move || rows::join(gathered, batch_rows)).await;
        match joined {
            Ok(joined) => self.keep(joined),
            Err(error) => tracing::error!(%error, "rows of the prediction log were lost undeclared"),
        }
        metrics::gauge!("rekindle_inference_log_buffered_rows").set(self.waiting_rows() as f64);
    }

    fn keep(&self, joined: rows::Joined) {
        for (shape, rows, error) in joined.failed {
            tracing::error!(error = %error.chain(), model = %shape.model, rows, "rows cannot be logged");
            self.buffer().lose(&shape, rows);
            count_dropped(rows);
        }
        let dropped = self.buffer().keep(joined.segments);
        count_dropped(dropped);
        self.publishable.notify_one();
    }

    async fn publish_forever(&self, bus: &mut watch::Receiver<Option<Bus>>, in_hand: &mut Option<Message>) {
        loop {
            self.publish_all(bus, in_hand).await;
            self.publishable.notified().await;
        }
    }

    /// `in_hand` holds the message that may or may not have reached the bus, so that no cancellation loses it.
    async fn publish_all(&self, bus: &mut watch::Receiver<Option<Bus>>, in_hand: &mut Option<Message>) {
        loop {
            if in_hand.is_none() {
                *in_hand = self.next_message();
            }
            let Some(message) = in_hand else { return };
            match connected(bus).await {
                Some(bus) => self.send(&bus, message).await,
                None => return,
            }
            *in_hand = None;
        }
    }

    async fn send(&self, bus: &Bus, message: &Message) {
        let mut failing = false;
        while let Err(error) =
            bus.publish(message.subject.clone(), &message.id, HeaderMap::new(), message.payload.clone()).await
        {
            if !failing {
                tracing::warn!(%error, waiting_rows = self.waiting_rows(), "the bus does not take the prediction log");
                failing = true;
            }
            sleep(self.config.retry_interval).await;
        }
        if failing {
            tracing::info!(waiting_rows = self.waiting_rows(), "the bus takes the prediction log again");
        }
        metrics::counter!("rekindle_inference_log_published_rows_total").increment(message.rows);
    }

    /// The next message to send; splits batches that are larger than a message may be.
    fn next_message(&self) -> Option<Message> {
        loop {
            let Next { segment, lost_before } = self.buffer().next()?;
            let encoded = self.sequence().encode(&segment, lost_before, self.config.batch_bytes);
            match encoded {
                Ok(Encoded::Message(message)) => return Some(message),
                Ok(Encoded::TooLarge) => self.buffer().split(segment, lost_before),
                Err(error) => {
                    let rows = segment.rows();
                    tracing::error!(error = %error.chain(), "rows cannot be logged");
                    count_dropped(rows);
                    self.buffer().lose(&segment.shape, rows + lost_before);
                    // A declaration of losses that cannot be encoded would be next again at once.
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

fn count_dropped(rows: u64) {
    if rows > 0 {
        metrics::counter!("rekindle_inference_log_dropped_rows_total").increment(rows);
    }
}

/// The bus, once there is one; `None` when there will never be.
pub(crate) async fn connected(bus: &mut watch::Receiver<Option<Bus>>) -> Option<Bus> {
    bus.wait_for(Option::is_some).await.ok().and_then(|bus| bus.clone())
}
