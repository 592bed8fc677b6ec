//! A delivered message, until it is acknowledged, negatively acknowledged (nak), or becomes a dead letter.

use std::{ops::Deref, time::Duration};

use async_nats::jetstream::{self, AckKind, message::Acker};
use chrono::{DateTime, Utc};

use crate::{Bus, Error, dead_letter, subject};

/// A message of a stream: subject, headers, payload, and its JetStream metadata.
#[derive(Debug, Clone)]
pub struct Message {
    message: async_nats::Message,
    /// Its stream.
    pub stream: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// How often it has been delivered, including this delivery.
    pub deliveries: u64,
    /// When the server stored it.
    pub stored_at: DateTime<Utc>,
}

impl Deref for Message {
    type Target = async_nats::Message;

    fn deref(&self) -> &async_nats::Message {
        &self.message
    }
}

/// A message that must be acknowledged in one way or another.
pub struct Delivery {
    message: Message,
    acker: Acker,
}

impl Deref for Delivery {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl Delivery {
    pub(crate) fn new(message: jetstream::Message) -> Result<Self, Error> {
        let info =
            message.info().map_err(|source| Error::Acknowledge { stream: String::new(), sequence: 0, source })?;
        let (stream, sequence) = (info.stream.to_owned(), info.stream_sequence);
        let deliveries = u64::try_from(info.delivered).unwrap_or(1);
        let nanos = i64::try_from(info.published.unix_timestamp_nanos()).unwrap_or_default();
        let (message, acker) = message.split();
        let stored_at = DateTime::from_timestamp_nanos(nanos);
        Ok(Self { message: Message { message, stream, sequence, deliveries, stored_at }, acker })
    }

    /// The message alone.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Acknowledges the message, and waits until the server has confirmed.
    pub async fn ack(&self) -> Result<(), Error> {
        self.acknowledge(AckKind::Ack).await
    }

    /// Requests redelivery after `delay`.
    pub async fn nak(&self, delay: Duration) -> Result<(), Error> {
        self.acknowledge(AckKind::Nak(Some(delay))).await
    }

    /// Extends the time for the acknowledgement, so that the message is not redelivered while it is processed.
    pub async fn in_progress(&self) -> Result<(), Error> {
        self.acker.ack_with(AckKind::Progress).await.map_err(|source| self.failed(source))
    }

    /// Copies the message to the dead letters of `consumer` with the reason, then ends its delivery. If the copy fails, the message is
    /// redelivered. A large body is cut ([`dead_letter::bounded`]).
    pub async fn dead_letter(&self, bus: &Bus, consumer: &str, reason: &str) -> Result<(), Error> {
        let mut headers = self.headers.as_ref().map(dead_letter::repeated).unwrap_or_default();
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(1000).collect();
        headers.insert("Rekindle-Dead-Reason", reason.as_str());
        headers.insert("Rekindle-Dead-Consumer", consumer);
        headers.insert("Rekindle-Dead-Stream", self.stream.as_str());
        headers.insert("Rekindle-Dead-Sequence", self.sequence.to_string().as_str());
        headers.insert("Rekindle-Dead-Subject", self.subject.as_str());
        headers.insert("Rekindle-Dead-Deliveries", self.deliveries.to_string().as_str());
        let id = format!("{consumer}/{}/{}/{}", self.stream, self.sequence, self.stored_at.timestamp_micros());
        let body = dead_letter::bounded(self.payload.clone(), &mut headers);
        bus.publish(subject::dead_letters(consumer), &id, headers, body).await?;
        self.acknowledge(AckKind::Term).await
    }

    async fn acknowledge(&self, kind: AckKind) -> Result<(), Error> {
        self.acker.double_ack_with(kind).await.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: async_nats::Error) -> Error {
        Error::Acknowledge { stream: self.stream.clone(), sequence: self.sequence, source }
    }
}
