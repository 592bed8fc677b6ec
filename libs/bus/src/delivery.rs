//! One message in a consumer's hands, until it is acknowledged, handed back, or set aside.

use std::{ops::Deref, time::Duration};

use async_nats::jetstream::{self, AckKind, message::Acker};
use chrono::{DateTime, Utc};

use crate::{Bus, Error, streams::dead_letter_subject};

/// A message of a stream, as a handler sees it: subject, headers, payload, and where it stands.
#[derive(Debug, Clone)]
pub struct Message {
    message: async_nats::Message,
    /// The stream it lies in.
    pub stream: String,
    /// Its sequence there.
    pub sequence: u64,
    /// How often it was delivered, this time included.
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

/// A message and the duty to answer for it.
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

    /// Says that the message is done with, and waits until the server has taken note.
    pub async fn ack(&self) -> Result<(), Error> {
        self.answer(AckKind::Ack).await
    }

    /// Hands the message back, to be delivered again after `delay`.
    pub async fn retry(&self, delay: Duration) -> Result<(), Error> {
        self.answer(AckKind::Nak(Some(delay))).await
    }

    /// Says that the message is still being worked on, so that it is not delivered to anybody else.
    pub async fn in_progress(&self) -> Result<(), Error> {
        self.acker.ack_with(AckKind::Progress).await.map_err(|source| self.failed(source))
    }

    /// Copies the message to the dead letters of `consumer` with the reason, then ends its delivery. When the copy cannot be made the
    /// message stays, and is delivered again.
    pub async fn dead(&self, bus: &Bus, consumer: &str, reason: &str) -> Result<(), Error> {
        let mut headers = self.headers.clone().unwrap_or_default();
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(1000).collect();
        headers.insert("Rekindle-Dead-Reason", reason.as_str());
        headers.insert("Rekindle-Dead-Consumer", consumer);
        headers.insert("Rekindle-Dead-Stream", self.stream.as_str());
        headers.insert("Rekindle-Dead-Sequence", self.sequence.to_string().as_str());
        headers.insert("Rekindle-Dead-Subject", self.subject.as_str());
        headers.insert("Rekindle-Dead-Deliveries", self.deliveries.to_string().as_str());
        let id = format!("{consumer}/{}/{}/{}", self.stream, self.sequence, self.stored_at.timestamp_micros());
        bus.publish(dead_letter_subject(consumer), &id, headers, self.payload.clone()).await?;
        self.answer(AckKind::Term).await
    }

    async fn answer(&self, kind: AckKind) -> Result<(), Error> {
        self.acker.double_ack_with(kind).await.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: async_nats::Error) -> Error {
        Error::Acknowledge { stream: self.stream.clone(), sequence: self.sequence, source }
    }
}
