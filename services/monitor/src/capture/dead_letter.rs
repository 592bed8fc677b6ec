//! Dead letters: messages and lines that can never be captured, with the reason.

use bytes::Bytes;
use rekindle_artifacts::Artifacts;
use rekindle_bus::{
    Bus, Delivery,
    dead_letter::{MAX_BODY, bounded},
    subject,
};
use rekindle_service::chain;

use super::Captured;
use crate::{Error, outcome::BadLine};

/// Dead-letters a whole message, which ends its delivery. A body that is too large for a dead letter is stored as a blob.
pub(super) async fn message<M: Captured>(bus: &Bus, artifacts: &Artifacts, delivery: &Delivery, reason: &str) {
    if delivery.payload.len() > MAX_BODY
        && let Err(error) = artifacts.put(delivery.payload.clone()).await
    {
        tracing::warn!(consumer = M::CONSUMER, error = chain(&error), "body of a dead letter not stored");
    }
    tracing::error!(consumer = M::CONSUMER, sequence = delivery.sequence, reason, "message dead-lettered");
    if let Err(error) = delivery.dead_letter(bus, M::CONSUMER, reason).await {
        tracing::warn!(consumer = M::CONSUMER, error = chain(&error), "dead letter not sent, message redelivered");
    }
}

/// Copies invalid lines to the dead letters; the rest of their message is captured. Lines that are too large together for a dead letter are
/// stored as a blob.
pub(super) async fn lines<M: Captured>(
    bus: &Bus,
    artifacts: &Artifacts,
    delivery: &Delivery,
    bad: &[BadLine],
) -> Result<(), Error> {
    let first = bad.first().map(|line| format!("line {}: {}", line.line, line.reason)).unwrap_or_default();
    let reason: String = first.chars().filter(|c| !c.is_control()).take(1000).collect();
    let (consumer, sequence, count) = (M::CONSUMER, delivery.sequence, bad.len());
    tracing::warn!(consumer, sequence, lines = count, reason, "lines dead-lettered");
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Rekindle-Dead-Reason", reason.as_str());
    headers.insert("Rekindle-Dead-Consumer", consumer);
    headers.insert("Rekindle-Dead-Stream", delivery.stream.as_str());
    headers.insert("Rekindle-Dead-Sequence", sequence.to_string().as_str());
    headers.insert("Rekindle-Dead-Subject", delivery.subject.as_str());
    headers.insert("Rekindle-Dead-Lines", count.to_string().as_str());
    let id = format!("{consumer}/{}/{sequence}/{}/lines", delivery.stream, delivery.stored_at.timestamp_micros());
    let lines: Vec<&str> = bad.iter().map(|line| line.text.as_str()).collect();
    let body = Bytes::from(lines.join("\n"));
    if body.len() > MAX_BODY {
        artifacts.put(body.clone()).await?;
    }
    let body = bounded(body, &mut headers);
    Ok(bus.publish(subject::dead_letters(consumer), &id, headers, body).await?)
}
