//! Durable consumers: each message is handled at least once, acknowledged after that, and never without end.

mod puller;

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures::{StreamExt as _, stream::FuturesUnordered};
use rekindle_proto::trace;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

pub use self::puller::Puller;
use crate::{Bus, Delivery, Error, Message};

/// A durable consumer: who reads what, and with how much patience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its durable name, which is also the last token of its dead letters' subject. Several processes with the same name share
    /// the messages among them.
    pub name: String,
    /// The stream to read.
    pub stream: &'static str,
    /// Which subjects of it; empty: all.
    pub subjects: Vec<String>,
    /// How long a delivered message may go without a sign of life before it is delivered again. While a handler runs, signs are
    /// given every third of it.
    pub ack_wait: Duration,
    /// How often a message is delivered before it is a dead letter.
    pub max_deliveries: u64,
    /// Messages delivered but not acknowledged at most, over all processes.
    pub max_ack_pending: u32,
    /// Messages handled at the same time by this process at most; 1 keeps the order of the stream.
    pub concurrency: usize,
    /// How long a message that is to be retried rests: doubling from `first` to `last`.
    pub backoff: Backoff,
    /// Whether messages are to come in the order of the stream even after a crash or a lost connection. What was delivered and
    /// not acknowledged then comes again at once and before what is newer, together with acknowledged messages in between.
    /// For one process at a time, which knows repeated messages and takes them with [`Puller::next_batch`].
    pub in_order: bool,
}

/// A pause that doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first attempt.
    pub first: Duration,
    /// At most.
    pub last: Duration,
}

impl Backoff {
    /// The pause after the given attempt, from 1.
    pub fn after(&self, attempt: u64) -> Duration {
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
        self.first.saturating_mul(1 << doublings).min(self.last)
    }
}

impl Consumer {
    /// One message at a time, 30 s without a sign of life, 12 deliveries resting from 200 ms to 30 s in between.
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

    /// The consumer as the server is to have it, beginning at a sequence or with the first message.
    fn config(&self, begin: Option<u64>) -> pull::Config {
        pull::Config {
            durable_name: Some(self.name.clone()),
            filter_subjects: self.subjects.clone(),
            deliver_policy: begin
                .map_or(DeliverPolicy::All, |start_sequence| DeliverPolicy::ByStartSequence { start_sequence }),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait,
            // Deliveries are counted here: a message that the server gives up on by itself would lie in a work queue for ever.
            max_deliver: -1,
            max_ack_pending: i64::from(self.max_ack_pending),
            ..pull::Config::default()
        }
    }
}

/// What a handler made of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done, durably.
    Ack,
    /// Not now; deliver it again later. The reason is kept if it never works out.
    Retry(String),
    /// Never; set it aside with the reason.
    Dead(String),
}

/// Handles messages until `shutdown`, then finishes those in hand and returns. Lost connections, a restarted server or a deleted
/// consumer are waited out.
///
/// The handler runs within this task, `concurrency` times at once; a panic in it ends the task.
pub async fn run<H>(bus: Bus, spec: Consumer, handler: H, shutdown: CancellationToken) -> Result<(), Error>
where
    H: AsyncFn(Message) -> Outcome,
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
    puller.hand_back().await;
    while running.next().await.is_some() {}
    Ok(())
}

async fn handle<H>(bus: &Bus, spec: &Consumer, handler: &H, delivery: Delivery)
where
    H: AsyncFn(Message) -> Outcome,
{
    let outcome = if delivery.deliveries > spec.max_deliveries {
        // Whoever had it before fell silent, each time.
        Outcome::Dead(format!("delivered {} times without an answer", delivery.deliveries - 1))
    } else {
        let work = handler(delivery.message().clone()).instrument(span_of(spec, &delivery));
        alive_while(&delivery, spec.ack_wait / 3, work).await
    };
    metrics::counter!("rekindle_bus_consumed_total", "consumer" => spec.name.clone(), "outcome" => outcome.label())
        .increment(1);
    if let Err(error) = answer(bus, spec, &delivery, outcome).await {
        tracing::warn!(consumer = spec.name, sequence = delivery.sequence, %error, "message will be delivered again");
    }
}

/// A span that goes on with the trace under which the message was published; where there is none, only for debugging.
fn span_of(spec: &Consumer, message: &Message) -> Span {
    let (consumer, subject) = (&spec.name, message.subject.as_str());
    let Some(traceparent) = message.headers.as_ref().and_then(|headers| headers.get(trace::TRACEPARENT)) else {
        return tracing::debug_span!("message", consumer, subject);
    };
    let span = tracing::info_span!("message", otel.name = subject, otel.kind = "consumer", consumer);
    trace::continue_message(&span, traceparent.as_str());
    span
}

/// Runs `work`, telling the server every `period` that it still runs.
async fn alive_while<T>(delivery: &Delivery, period: Duration, work: impl Future<Output = T>) -> T {
    let mut beat = tokio::time::interval(period.max(Duration::from_millis(10)));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    beat.reset();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = beat.tick() => {
                if let Err(error) = delivery.in_progress().await {
                    tracing::debug!(sequence = delivery.sequence, %error, "sign of life was not sent");
                }
            }
        }
    }
}

async fn answer(bus: &Bus, spec: &Consumer, delivery: &Delivery, outcome: Outcome) -> Result<(), Error> {
    let reason = match outcome {
        Outcome::Ack => return delivery.ack().await,
        Outcome::Retry(reason) if delivery.deliveries < spec.max_deliveries => {
            let delay = spec.backoff.after(delivery.deliveries);
            tracing::info!(consumer = spec.name, sequence = delivery.sequence, reason, ?delay, "message rests");
            return delivery.retry(delay).await;
        }
        Outcome::Retry(reason) => format!("after {} deliveries: {reason}", delivery.deliveries),
        Outcome::Dead(reason) => reason,
    };
    tracing::error!(consumer = spec.name, sequence = delivery.sequence, reason, "message set aside as a dead letter");
    metrics::counter!("rekindle_bus_dead_letters_total", "consumer" => spec.name.clone()).increment(1);
    delivery.dead(bus, &spec.name, &reason).await
}

impl Outcome {
    fn label(&self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Retry(_) => "retry",
            Self::Dead(_) => "dead",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let backoff = Backoff { first: Duration::from_millis(200), last: Duration::from_secs(1) };
        let pauses: Vec<_> = (1..=5).map(|attempt| backoff.after(attempt).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.after(u64::MAX), backoff.last);
    }
}
