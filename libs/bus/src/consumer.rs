//! Durable consumers: each message is processed at least once, acknowledged afterwards, and redelivered a bounded number of times.

mod puller;

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures::{StreamExt as _, stream::FuturesUnordered};
use rekindle_proto::trace;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

pub use self::puller::Puller;
use crate::{Bus, Delivery, Error, Message, panics::caught};

/// A durable consumer: its name, its subjects, and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its durable name, which is also the last token of its dead letters' subject. Processes with the same name share
    /// the messages.
    pub name: String,
    /// The stream to read.
    pub stream: &'static str,
    /// Which subjects of it; empty: all.
    pub subjects: Vec<String>,
    /// How long a delivered message may go without an acknowledgement before it is redelivered. While a handler runs, the time is extended
    /// every third of it.
    pub ack_wait: Duration,
    /// Deliveries of a message before it becomes a dead letter.
    pub max_deliveries: u64,
    /// Largest number of messages that are delivered and not acknowledged, in all processes.
    pub max_ack_pending: u32,
    /// Largest number of messages that this process handles concurrently; 1 keeps the order of the stream.
    pub concurrency: usize,
    /// Delays of redelivery: doubling from `first` to `last`.
    pub backoff: Backoff,
    /// Whether messages are delivered in the order of the stream even after a crash or a lost connection. Messages that were delivered and
    /// not acknowledged are then redelivered at once and before newer ones, together with acknowledged messages in between.
    /// For one process at a time, which detects repeated messages and reads them with [`Puller::next_batch`].
    pub in_order: bool,
}

/// A delay that doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first attempt.
    pub first: Duration,
    /// The longest delay.
    pub last: Duration,
}

impl Backoff {
    /// The delay after the given attempt, from 1.
    pub fn after(&self, attempt: u64) -> Duration {
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
        self.first.saturating_mul(1 << doublings).min(self.last)
    }
}

impl Consumer {
    /// One message at a time, 30 s for the acknowledgement, 12 deliveries with delays from 200 ms to 30 s.
    pub fn new(name: impl Into<String>, stream: &'static str, subjects: impl IntoIterator<Item = String>) -> Self {
        Self {
            name: name.into(),
            stream,
            subjects: subjects.into_iter().collect(),
            ack_wait: Duration::from_secs(30),
            max_deliveries: 12,
            max_ack_pending: 1000,
            concurrency: 1,
            backoff: Backoff { first: Duration::from_millis(200), last: Duration::from_secs(30) },
            in_order: false,
        }
    }

    /// The configuration for the server, beginning at a sequence or with the first message.
    pub(crate) fn config(&self, begin: Option<u64>) -> pull::Config {
        pull::Config {
            durable_name: Some(self.name.clone()),
            filter_subjects: self.subjects.clone(),
            deliver_policy: begin
                .map_or(DeliverPolicy::All, |start_sequence| DeliverPolicy::ByStartSequence { start_sequence }),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait,
            // Deliveries are limited here: a message that reaches the limit of the server would stay in a work queue for ever.
            max_deliver: -1,
            max_ack_pending: i64::from(self.max_ack_pending),
            ..pull::Config::default()
        }
    }
}

/// How a message is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// It was processed, durably.
    Ack,
    /// It cannot be processed now: redeliver it later. After the last delivery the reason is kept with the dead letter.
    Nak(String),
    /// It can never be processed: make it a dead letter with the reason.
    DeadLetter(String),
}

/// Handles messages until `shutdown`, then finishes those in progress and returns. After a lost connection, a restart of the server or the
/// deletion of the consumer, it continues.
///
/// The handler runs in this task, up to `concurrency` times at once. If it panics, the message becomes a dead letter.
pub async fn run<H>(bus: Bus, spec: Consumer, handler: H, shutdown: CancellationToken) -> Result<(), Error>
where
    H: AsyncFn(Message) -> Disposition,
{
    let mut puller = Puller::new(bus.clone(), spec.clone());
    let mut running = FuturesUnordered::new();
    loop {
        let free = spec.concurrency.max(1).saturating_sub(running.len());
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(()) = running.next(), if !running.is_empty() => {}
            delivery = puller.next(free), if free > 0 => running.push(handle(&bus, &spec, &handler, delivery)),
        }
    }
    puller.nak_untaken().await;
    while running.next().await.is_some() {}
    Ok(())
}

async fn handle<H>(bus: &Bus, spec: &Consumer, handler: &H, delivery: Delivery)
where
    H: AsyncFn(Message) -> Disposition,
{
    let disposition = if delivery.deliveries > spec.max_deliveries {
        // No process that got it has acknowledged it in one way or another: each may have crashed.
        Disposition::DeadLetter(format!("delivered {} times without an acknowledgement", delivery.deliveries - 1))
    } else {
        let work = caught(handler(delivery.message().clone())).instrument(span_of(spec, &delivery));
        let handled = while_in_progress(&delivery, spec.ack_wait / 3, work).await;
        handled.unwrap_or_else(|panicked| Disposition::DeadLetter(panicked.to_string()))
    };
    metrics::counter!("rekindle_bus_consumed_total", "consumer" => spec.name.clone(), "disposition" => disposition.label())
        .increment(1);
    if let Err(error) = acknowledge(bus, spec, &delivery, disposition).await {
        tracing::warn!(consumer = spec.name, sequence = delivery.sequence, %error, "cannot acknowledge a message, it is redelivered");
    }
}

/// A span that continues the trace in which the message was published; without one, at the debug level only.
fn span_of(spec: &Consumer, message: &Message) -> Span {
    let (consumer, subject) = (&spec.name, message.subject.as_str());
    let Some(traceparent) = message.headers.as_ref().and_then(|headers| headers.get(trace::TRACEPARENT)) else {
        return tracing::debug_span!("message", consumer, subject);
    };
    let span = tracing::info_span!("message", otel.name = subject, otel.kind = "consumer", consumer);
    trace::continue_message(&span, traceparent.as_str());
    span
}

/// Runs `work`, and extends the time for the acknowledgement every `period`.
async fn while_in_progress<T>(delivery: &Delivery, period: Duration, work: impl Future<Output = T>) -> T {
    let mut ticks = tokio::time::interval(period.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.reset();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = ticks.tick() => {
                if let Err(error) = delivery.in_progress().await {
                    tracing::debug!(sequence = delivery.sequence, %error, "cannot extend the acknowledgement deadline");
                }
            }
        }
    }
}

async fn acknowledge(bus: &Bus, spec: &Consumer, delivery: &Delivery, disposition: Disposition) -> Result<(), Error> {
    let reason = match disposition {
        Disposition::Ack => return delivery.ack().await,
        Disposition::Nak(reason) if delivery.deliveries < spec.max_deliveries => {
            let delay = spec.backoff.after(delivery.deliveries);
            tracing::info!(consumer = spec.name, sequence = delivery.sequence, reason, ?delay, "redelivery delayed");
            return delivery.nak(delay).await;
        }
        Disposition::Nak(reason) => format!("after {} deliveries: {reason}", delivery.deliveries),
        Disposition::DeadLetter(reason) => reason,
    };
    tracing::error!(consumer = spec.name, sequence = delivery.sequence, reason, "message dead-lettered");
    metrics::counter!("rekindle_bus_dead_letters_total", "consumer" => spec.name.clone()).increment(1);
    delivery.dead_letter(bus, &spec.name, &reason).await
}

impl Disposition {
    fn label(&self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Nak(_) => "nak",
            Self::DeadLetter(_) => "dead_letter",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_bound() {
        let backoff = Backoff { first: Duration::from_millis(200), last: Duration::from_secs(1) };
        let pauses: Vec<_> = (1..=5).map(|attempt| backoff.after(attempt).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.after(u64::MAX), backoff.last);
    }
}
