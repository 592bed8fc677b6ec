//! Claims: messages of a work queue that are delivered over calls instead of a connection to the bus. A claim is named by a token, so that any
//! instance can renew and end it, and the state of a claim is that of its delivery on the server.

use std::time::Duration;

use async_nats::jetstream::{self, AckKind, consumer::pull, stream::LastRawMessageErrorKind};
use bytes::Bytes;
use futures::TryStreamExt as _;
use tokio::time::timeout;

use crate::{Bus, Error, consumer::Consumer, error::Source};

/// After this time without a claim, the server forgets a consumer; the messages stay in the queue.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// How much longer than requested the server may take to end a request.
const GRACE: Duration = Duration::from_secs(2);

/// A message that is claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Names the claim.
    pub token: String,
    /// The payload of the message.
    pub payload: Bytes,
    /// How often the message has been delivered, this delivery included.
    pub deliveries: u64,
}

/// A message that is still in the queue, as a token names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The payload of the message.
    pub payload: Bytes,
    /// The consumer that it was claimed from.
    pub consumer: String,
    /// How often the message had been delivered with this claim.
    pub deliveries: u64,
}

/// The delivery that a token names.
struct Delivered {
    sequence: u64,
    consumer: String,
    deliveries: u64,
    /// It is acknowledged in place of the message.
    message: jetstream::Message,
}

impl Bus {
    /// Claims the next message of a durable consumer, which is created if it does not exist; waits for one up to `wait`. Unless the claim is
    /// renewed within `ack_wait` of the consumer, the message is delivered again.
    pub async fn claim(&self, spec: &Consumer, wait: Duration) -> Result<Option<Claim>, Error> {
        let failed = |source: Source| Error::Unavailable {
            operation: format!("claim a message of {}", spec.name),
            waited: wait,
            source: Some(source),
        };
        let config = pull::Config { inactive_threshold: FORGOTTEN, ..spec.config(None) };
        let created = self.jetstream().create_consumer_on_stream(config, spec.stream).await;
        let consumer = created.map_err(|error| Error::Setup {
            what: format!("the consumer {} of {}", spec.name, spec.stream),
            source: error.into(),
        })?;
        // The server does not wait for no time at all.
        let expires = wait.max(Duration::from_millis(100));
        let request = async {
            let batch = consumer.batch().max_messages(1).expires(expires).messages().await;
            batch.map_err(|error| failed(error.into()))?.try_collect::<Vec<_>>().await.map_err(failed)
        };
        let messages = timeout(expires + GRACE, request).await.map_err(|elapsed| failed(elapsed.into()))??;
        let Some(message) = messages.into_iter().next() else { return Ok(None) };
        let info = message.info().map_err(failed)?;
        let deliveries = u64::try_from(info.delivered).unwrap_or(1);
        let token = message.reply.as_ref().map(|reply| hex::encode(reply.as_str())).unwrap_or_default();
        Ok(Some(Claim { token, payload: message.payload.clone(), deliveries }))
    }

    /// The message of a claim; `None` if the token names no claim of this stream, or if the message has left the queue. The message may have
    /// been delivered to another one since: the caller compares `deliveries` with the latest that it knows of.
    pub async fn claimed(&self, stream: &'static str, token: &str) -> Result<Option<Claimed>, Error> {
        let failed = |source: Source| Error::Read { stream, source };
        let Some(Delivered { sequence, consumer, deliveries, .. }) = self.delivery(stream, token) else {
            return Ok(None);
        };
        let found = self.jetstream().get_stream(stream).await.map_err(|error| failed(error.into()))?;
        match found.get_raw_message(sequence).await {
            Ok(message) => Ok(Some(Claimed { payload: message.payload, consumer, deliveries })),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Renews a claim.
    pub async fn renew_claim(&self, stream: &'static str, token: &str) -> Result<(), Error> {
        self.acknowledge_claim(stream, token, AckKind::Progress).await
    }

    /// Ends a claim: the message is not delivered again.
    pub async fn end_claim(&self, stream: &'static str, token: &str) -> Result<(), Error> {
        self.acknowledge_claim(stream, token, AckKind::Ack).await
    }

    /// Gives a claim up: the message is delivered again after `delay`.
    pub async fn release_claim(&self, stream: &'static str, token: &str, delay: Duration) -> Result<(), Error> {
        self.acknowledge_claim(stream, token, AckKind::Nak(Some(delay))).await
    }

    async fn acknowledge_claim(&self, stream: &'static str, token: &str, kind: AckKind) -> Result<(), Error> {
        let Some(Delivered { sequence, message, .. }) = self.delivery(stream, token) else { return Ok(()) };
        let failed = |source| Error::Acknowledge { stream: stream.to_owned(), sequence, source };
        match kind {
            AckKind::Progress => message.ack_with(kind).await.map_err(failed),
            _ => message.double_ack_with(kind).await.map_err(failed),
        }
    }

    /// The delivery that a token names; `None` if it names none of this stream. A token comes from outside: what is not the address of a delivery
    /// is not published to.
    fn delivery(&self, stream: &str, token: &str) -> Option<Delivered> {
        let reply = String::from_utf8(hex::decode(token).ok()?).ok()?;
        let is_token = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"$-_".contains(&byte))
        };
        if !reply.starts_with("$JS.ACK.") || !reply.split('.').all(is_token) {
            return None;
        }
        let message = async_nats::Message {
            subject: reply.as_str().into(),
            reply: Some(reply.as_str().into()),
            payload: Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        let message = jetstream::Message { message, context: self.jetstream().clone() };
        let (sequence, consumer, deliveries) = {
            let info = message.info().ok().filter(|info| info.stream == stream)?;
            (info.stream_sequence, info.consumer.to_owned(), u64::try_from(info.delivered).ok()?)
        };
        Some(Delivered { sequence, consumer, deliveries, message })
    }
}
