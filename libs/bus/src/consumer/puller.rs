//! Pulling messages, and detecting a server that delivers nothing while messages are pending.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{PullConsumer, pull::Batch},
    context::ConsumerInfoErrorKind,
};
use futures::StreamExt as _;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Backoff, Consumer};
use crate::{Bus, Delivery, Error};

/// How long one request for messages is valid. A request that a server lost when it crashed delays messages by this time at most.
const REQUEST: Duration = Duration::from_secs(2);
/// How much longer than requested the server may take to end a request before the request is regarded as lost.
const GRACE: Duration = Duration::from_secs(1);
/// Time without a delivery after which the server is queried for pending messages.
const SILENCE: Duration = Duration::from_secs(60);
/// Delays between attempts to reach the consumer.
const RETRY: Backoff = Backoff { first: Duration::from_millis(100), last: Duration::from_secs(2) };

/// Pulls messages of a durable consumer one by one or in batches; the caller acknowledges them. Creates the consumer if it does not exist, and
/// starts over whenever the server does not respond.
pub struct Puller {
    bus: Bus,
    spec: Consumer,
    consumer: Option<PullConsumer>,
    request: Option<Request>,
    taken: Vec<Delivery>,
    last_delivery: Instant,
    failures: u32,
    /// Where an ordered consumer continues; `None` until one was found.
    resume: Option<Resume>,
}

/// The first message that an ordered consumer has not acknowledged.
#[derive(Debug, Clone, Copy)]
struct Resume {
    /// When its stream was created, in nanoseconds since 1970: sequences of a stream that was deleted mean nothing in the next one.
    stream: i128,
    sequence: u64,
}

struct Request {
    messages: Batch,
    /// When it is regarded as lost.
    deadline: Instant,
}

impl Puller {
    /// Sends nothing yet: the first request is that of [`Puller::next`] or [`Puller::next_batch`].
    pub fn new(bus: Bus, spec: Consumer) -> Self {
        let (taken, last_delivery) = (Vec::new(), Instant::now());
        Self { bus, spec, consumer: None, request: None, taken, last_delivery, failures: 0, resume: None }
    }

    /// The next message, however long it takes. Requests up to `ready_for` messages at once, each of which must be taken as it
    /// arrives. Nothing is lost when the returned future is dropped.
    pub async fn next(&mut self, ready_for: usize) -> Delivery {
        loop {
            if self.request.is_none()
                && let Err(error) = self.send_request(ready_for.max(1), REQUEST).await
            {
                self.pause_after(&error).await;
                continue;
            }
            if let Some(delivery) = self.receive().await {
                return delivery;
            }
        }
    }

    /// Up to `max_messages`, waiting up to `max_wait` after the request; empty if none arrived. Nothing is lost when the returned
    /// future is dropped: what had arrived is in the next batch.
    pub async fn next_batch(&mut self, max_messages: usize, max_wait: Duration) -> Result<Vec<Delivery>, Error> {
        let deadline = Instant::now() + max_wait;
        if self.taken.len() < max_messages && self.request.is_none() {
            self.send_request(max_messages - self.taken.len(), max_wait).await?;
        }
        while self.taken.len() < max_messages && self.request.is_some() {
            match timeout_at(deadline + GRACE, self.receive()).await {
                Ok(Some(delivery)) => self.taken.push(delivery),
                Ok(None) => {}
                Err(_) => self.start_over(),
            }
        }
        let rest = self.taken.split_off(self.taken.len().min(max_messages));
        Ok(std::mem::replace(&mut self.taken, rest))
    }

    /// Requests redelivery of what was delivered and not taken, so that it is not delayed until its acknowledgement times out.
    pub async fn nak_untaken(&mut self) {
        if let Some(mut request) = self.request.take() {
            while let Ok(Some(Ok(message))) = timeout(Duration::ZERO, request.messages.next()).await {
                self.taken.extend(Delivery::new(message));
            }
        }
        for delivery in self.taken.drain(..) {
            if let Err(error) = delivery.nak(Duration::ZERO).await {
                tracing::debug!(consumer = self.spec.name, %error, "cannot request redelivery; it happens later");
            }
        }
    }

    /// Waits for a message of the current request; `None` once it has ended.
    async fn receive(&mut self) -> Option<Delivery> {
        let request = self.request.as_mut()?;
        match timeout_at(request.deadline, request.messages.next()).await {
            Ok(Some(Ok(message))) => {
                self.last_delivery = Instant::now();
                Delivery::new(message)
                    .inspect_err(|error| tracing::warn!(%error, "message without JetStream metadata"))
                    .ok()
            }
            Ok(Some(Err(error))) => {
                tracing::debug!(consumer = self.spec.name, %error, "request for messages failed, starting over");
                self.start_over();
                sleep(Duration::from_millis(50)).await;
                None
            }
            Ok(None) => {
                self.request = None;
                None
            }
            Err(_) => {
                tracing::debug!(consumer = self.spec.name, "request for messages was lost, starting over");
                self.start_over();
                None
            }
        }
    }

    fn start_over(&mut self) {
        self.request = None;
        self.consumer = None;
    }

    async fn send_request(&mut self, messages: usize, expires: Duration) -> Result<(), Error> {
        self.detect_stall().await;
        if self.consumer.is_none() && self.spec.in_order {
            self.resume = self.bus.delete_consumer(&self.spec, self.resume).await?;
        }
        let consumer = match &self.consumer {
            Some(consumer) => consumer,
            None => self
                .consumer
                .insert(self.bus.durable_consumer(&self.spec, self.resume.map(|resume| resume.sequence)).await?),
        };
        // No heartbeats: they would detect a lost request no earlier than the deadline below does.
        let batch = consumer.batch().max_messages(messages).expires(expires).messages().await;
        let messages = batch.map_err(|error| Error::Unavailable {
            operation: format!("request messages of {}", self.spec.name),
            waited: Duration::ZERO,
            source: Some(error.into()),
        })?;
        self.request = Some(Request { messages, deadline: Instant::now() + expires + GRACE });
        self.failures = 0;
        Ok(())
    }

    /// Some servers stop delivering while messages are pending: then the consumer is opened again, and the stall is logged and counted.
    async fn detect_stall(&mut self) {
        if self.last_delivery.elapsed() < SILENCE {
            return;
        }
        self.last_delivery = Instant::now();
        let Some(consumer) = &mut self.consumer else { return };
        let Ok(info) = consumer.info().await else { return };
        if info.num_pending > 0 && info.num_ack_pending == 0 {
            tracing::warn!(
                consumer = self.spec.name,
                pending = info.num_pending,
                "messages are pending but none is delivered, starting over"
            );
            metrics::counter!("rekindle_bus_stalls_total", "consumer" => self.spec.name.clone()).increment(1);
            self.start_over();
        }
    }

    async fn pause_after(&mut self, error: &Error) {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            tracing::warn!(consumer = self.spec.name, %error, "cannot request messages, retrying");
        }
        sleep(RETRY.after(self.failures.into())).await;
    }
}

impl Bus {
    /// Creates or updates a durable consumer.
    async fn durable_consumer(&self, spec: &Consumer, begin: Option<u64>) -> Result<PullConsumer, Error> {
        let consumer = self.jetstream().create_consumer_on_stream(spec.config(begin), spec.stream).await;
        consumer.map_err(|error| setup(spec, error))
    }

    /// Deletes a durable consumer and returns the first message that it did not acknowledge, which is not before `known`; if it does not
    /// exist, `known`, unless the stream was created since. If the process ends before the next one is created, that one begins with the
    /// whole stream.
    async fn delete_consumer(&self, spec: &Consumer, known: Option<Resume>) -> Result<Option<Resume>, Error> {
        let stream = self.jetstream().get_stream(spec.stream).await.map_err(|error| setup(spec, error))?;
        let created = stream.cached_info().created.unix_timestamp_nanos();
        let known = known.filter(|known| known.stream == created);
        let info = match stream.consumer_info(&spec.name).await {
            Ok(info) => info,
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => return Ok(known),
            Err(error) => return Err(setup(spec, error)),
        };
        stream.delete_consumer(&spec.name).await.map_err(|error| setup(spec, error))?;
        let acknowledged = info.ack_floor.stream_sequence.saturating_add(1);
        let sequence = known.map_or(acknowledged, |known| known.sequence.max(acknowledged));
        Ok(Some(Resume { stream: created, sequence }))
    }
}

fn setup(spec: &Consumer, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Setup { what: format!("the consumer {} of {}", spec.name, spec.stream), source: error.into() }
}
