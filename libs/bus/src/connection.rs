//! The connection to the bus.

use std::{path::PathBuf, time::Duration};

use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, ServerAddr,
    connection::State,
    jetstream::{
        self,
        context::{PublishAckFuture, PublishErrorKind},
        kv,
        message::PublishMessage,
    },
};
use bytes::Bytes;
use rekindle_proto::trace;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::{Error, streams, streams::Limits};

/// How to reach the bus, and what it may hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `nats://host:4222`, several separated by commas; a user and a password may stand before the host.
    pub url: String,
    /// A credentials file, where the server asks for one.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// How long the first connection may take.
    #[serde(default = "default_connect_timeout", with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long a publish may wait for its acknowledgement, a lost connection included.
    #[serde(default = "default_publish_timeout", with = "humantime_serde")]
    pub publish_timeout: Duration,
    /// What the streams may hold.
    #[serde(default)]
    pub limits: Limits,
}

fn default_connect_timeout() -> Duration {
    Duration::from_secs(30)
}
fn default_publish_timeout() -> Duration {
    Duration::from_secs(5)
}

impl Config {
    /// The defaults, for a server.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            credentials_file: None,
            connect_timeout: default_connect_timeout(),
            publish_timeout: default_publish_timeout(),
            limits: Limits::default(),
        }
    }
}

/// The bus, with its streams and buckets in place. Clones share one connection, which comes back by itself whenever it is lost.
#[derive(Debug, Clone)]
pub struct Bus {
    jetstream: jetstream::Context,
    publish_timeout: Duration,
}

impl Bus {
    /// Connects, trying again for `connect_timeout` at most, and makes or updates every stream and bucket.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let client = connect(config).await?;
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(config.publish_timeout)
            .ack_timeout(config.publish_timeout)
            .build(client);
        let bus = Self { jetstream, publish_timeout: config.publish_timeout };
        bus.set_up(config).await?;
        Ok(bus)
    }

    /// JetStream.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// Plain NATS.
    pub fn client(&self) -> Client {
        self.jetstream.client()
    }

    /// Whether the connection stands at this moment.
    pub fn is_connected(&self) -> bool {
        self.client().connection_state() == State::Connected
    }

    /// Desired state of every deployment; the key is the model's name.
    pub async fn deployments(&self) -> Result<kv::Store, Error> {
        self.bucket(streams::DEPLOYMENTS).await
    }

    /// Actual state of every replica; the key is the replica's id. A value that is not renewed within the lease is gone.
    pub async fn replicas(&self) -> Result<kv::Store, Error> {
        self.bucket(streams::REPLICAS).await
    }

    /// Publishes, and returns when the server has stored the message, or already had one with this id. The current span's trace
    /// goes along, unless the headers name another.
    ///
    /// While the bus is away this waits `publish_timeout` at most and then gives [`Error::Unavailable`]; the message may still
    /// arrive afterwards, so whoever tries again must use the same `message_id`.
    pub async fn publish(
        &self,
        subject: String,
        message_id: &str,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), Error> {
        if let (None, Some(traceparent)) = (headers.get(trace::TRACEPARENT), trace::traceparent()) {
            headers.insert(trace::TRACEPARENT, traceparent.as_str());
        }
        let deadline = Instant::now() + self.publish_timeout;
        let acknowledged = self.send(subject.clone(), message_id, headers, payload, deadline).await?;
        self.confirm(&subject, acknowledged, deadline).await
    }

    /// Sends without waiting for the acknowledgement. Messages sent one after the other are stored in that order.
    pub(crate) async fn send(
        &self,
        subject: String,
        message_id: &str,
        headers: HeaderMap,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<PublishAckFuture, Error> {
        self.wait_until_connected(&subject, deadline).await?;
        let message = PublishMessage::build().headers(headers).message_id(message_id).payload(payload);
        match timeout_at(deadline, self.jetstream.send_publish(subject.clone(), message)).await {
            Ok(sent) => sent.map_err(|error| self.publish_error(&subject, error)),
            Err(_) => Err(self.no_answer(&subject, None)),
        }
    }

    /// Waits for the acknowledgement of a message that was sent.
    pub(crate) async fn confirm(
        &self,
        subject: &str,
        acknowledged: PublishAckFuture,
        deadline: Instant,
    ) -> Result<(), Error> {
        match timeout_at(deadline, acknowledged.into_future()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.publish_error(subject, error)),
            Err(_) => Err(self.no_answer(subject, None)),
        }
    }

    /// How long a publish may take.
    pub(crate) fn publish_timeout(&self) -> Duration {
        self.publish_timeout
    }

    /// What is sent while the connection is lost would lie in the client's buffer, with nobody knowing whether it left.
    async fn wait_until_connected(&self, subject: &str, deadline: Instant) -> Result<(), Error> {
        while !self.is_connected() {
            if Instant::now() >= deadline {
                return Err(self.no_answer(subject, None));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn publish_error(&self, subject: &str, error: jetstream::context::PublishError) -> Error {
        match error.kind() {
            PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe | PublishErrorKind::MaxAckPending => {
                self.no_answer(subject, Some(error.into()))
            }
            _ => Error::Refused { subject: subject.to_owned(), source: error.into() },
        }
    }

    fn no_answer(&self, subject: &str, source: Option<crate::error::Source>) -> Error {
        Error::Unavailable { operation: format!("publish on {subject}"), waited: self.publish_timeout, source }
    }

    async fn bucket(&self, name: &'static str) -> Result<kv::Store, Error> {
        self.jetstream.get_key_value(name).await.map_err(|error| Error::Unavailable {
            operation: format!("open the bucket {name}"),
            waited: self.publish_timeout,
            source: Some(error.into()),
        })
    }

    /// JetStream may still be recovering its streams when the connection already stands, so this tries again for a while.
    async fn set_up(&self, config: &Config) -> Result<(), Error> {
        let deadline = Instant::now() + config.connect_timeout;
        loop {
            match self.set_up_once(&config.limits).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= deadline || self.answers().await => return Err(error),
                Err(error) => tracing::debug!(%error, "jetstream is not ready yet"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn answers(&self) -> bool {
        self.jetstream.query_account().await.is_ok()
    }

    async fn set_up_once(&self, limits: &Limits) -> Result<(), Error> {
        for stream in limits.streams() {
            let what = format!("the stream {}", stream.name);
            self.jetstream
                .create_or_update_stream(stream)
                .await
                .map_err(|error| Error::Setup { what, source: error.into() })?;
        }
        for bucket in limits.buckets() {
            let what = format!("the bucket {}", bucket.bucket);
            self.jetstream
                .create_or_update_key_value(bucket)
                .await
                .map_err(|error| Error::Setup { what, source: error.into() })?;
        }
        Ok(())
    }
}

/// Tries until `connect_timeout` has passed; from then on the client reconnects for ever.
async fn connect(config: &Config) -> Result<Client, Error> {
    let servers = parse(&config.url)?;
    let deadline = Instant::now() + config.connect_timeout;
    loop {
        let error = match options(config).await?.connect(servers.clone()).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(Error::Unavailable {
                operation: "connect".to_owned(),
                waited: config.connect_timeout,
                source: Some(error.into()),
            });
        }
        tracing::debug!(%error, "the bus is not there yet");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn parse(url: &str) -> Result<Vec<ServerAddr>, Error> {
    url.split(',')
        .map(|one| {
            one.trim()
                .parse::<ServerAddr>()
                .map_err(|error| Error::Config { what: "its url".to_owned(), source: error.into() })
        })
        .collect()
}

async fn options(config: &Config) -> Result<ConnectOptions, Error> {
    let options = match &config.credentials_file {
        None => ConnectOptions::new(),
        Some(file) => ConnectOptions::with_credentials_file(file).await.map_err(|error| Error::Config {
            what: format!("credentials_file {}", file.display()),
            source: error.into(),
        })?,
    };
    Ok(options
        .name("rekindle")
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(10))
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(|event| async move { tell(&event) }))
}

/// At once, then doubling from 20 ms to 1 s.
fn reconnect_delay(attempts: usize) -> Duration {
    match attempts {
        0 | 1 => Duration::ZERO,
        more => Duration::from_millis(10 << more.min(7)).min(Duration::from_secs(1)),
    }
}

fn tell(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to the bus"),
        Event::Disconnected => tracing::warn!("lost the connection to the bus, reconnecting"),
        Event::LameDuckMode => tracing::info!("the bus is about to shut down"),
        Event::SlowConsumer(subscription) => tracing::warn!(subscription, "reading from the bus too slowly"),
        other => tracing::debug!(event = %other, "bus connection"),
    }
}
