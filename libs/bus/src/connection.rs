//! The connection to the bus.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, ServerAddr,
    connection::State,
    jetstream::{
        self,
        context::{PublishAckFuture, PublishErrorKind},
        message::PublishMessage,
    },
};
use backon::{ConstantBuilder, Retryable as _};
use bytes::Bytes;
use rekindle_domain::{
    ReplicaState, Routes,
    validation::{Checks, Violations},
};
use rekindle_proto::trace;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout_at};

use crate::{Bucket, Error, Frozen, cloudevent::decode, consumer::Backoff, streams, streams::Limits};

/// Pause before a message is published again whose stream does not exist, which is created again meanwhile.
const MISSING: Duration = Duration::from_millis(50);

/// Address, deadlines and storage limits of the bus.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `nats://host:4222` or `nats://user:password@host:4222`, where characters such as `/`, `#` and `@` of the password are percent-encoded;
    /// several servers are separated by commas, and have one user.
    pub url: String,
    /// A NATS credentials file (`.creds`), if the server requires one.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// Deadline of the first connection, retries included.
    #[serde(default = "default_connect_timeout", with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Deadline of a publish and its acknowledgement, reconnection included.
    #[serde(default = "default_publish_timeout", with = "humantime_serde")]
    pub publish_timeout: Duration,
    /// Storage limits of streams and buckets.
    #[serde(default)]
    pub limits: Limits,
    /// Bytes that are free on the server's disk, if they are known: the streams are sized to it.
    #[serde(skip)]
    pub free_bytes: Option<u64>,
}

fn default_connect_timeout() -> Duration {
    Duration::from_secs(30)
}
fn default_publish_timeout() -> Duration {
    Duration::from_secs(5)
}

impl Config {
    /// The default configuration with a URL.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            credentials_file: None,
            connect_timeout: default_connect_timeout(),
            publish_timeout: default_publish_timeout(),
            limits: Limits::default(),
            free_bytes: None,
        }
    }

    /// Validates every field and reports all violations.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        for (n, server) in self.url.split(',').enumerate() {
            if let Err(error) = server.trim().parse::<ServerAddr>() {
                // The value is not printed, since it may contain a password.
                checks.violation("url", format!("server {} is invalid ({error}): expected nats://host:4222", n + 1));
            }
        }
        checks.positive("connect_timeout", self.connect_timeout);
        checks.positive("publish_timeout", self.publish_timeout);
        checks.nested("limits", self.limits.validate());
        checks.finish()
    }
}

/// The bus, with its streams and buckets. Clones share one connection, which is re-established automatically.
#[derive(Debug, Clone)]
pub struct Bus {
    jetstream: jetstream::Context,
    publish_timeout: Duration,
    limits: Arc<Limits>,
    /// Bytes that were free on the server's disk at the start.
    free_bytes: Option<u64>,
    /// As the last look has found them: they explain why a publish has no answer.
    frozen: Arc<Mutex<Vec<Frozen>>>,
}

impl Bus {
    /// Connects, retrying for up to `connect_timeout`, and creates or updates every stream and bucket.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let client = connect(config).await?;
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(config.publish_timeout)
            .ack_timeout(config.publish_timeout)
            .build(client);
        let bus = Self {
            jetstream,
            publish_timeout: config.publish_timeout,
            limits: Arc::new(config.limits.clone()),
            free_bytes: config.free_bytes,
            frozen: Arc::default(),
        };
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

    /// Whether the connection is established at this moment.
    pub fn is_connected(&self) -> bool {
        self.client().connection_state() == State::Connected
    }

    /// The desired state of every deployment: its routes. The key is the model's name.
    pub async fn routes(&self) -> Result<Bucket<Routes>, Error> {
        self.bucket(streams::DEPLOYMENTS).await
    }

    /// The actual state of every replica. The key is the replica's id. A state that is not renewed expires.
    pub async fn replica_states(&self) -> Result<Bucket<ReplicaState>, Error> {
        self.bucket(streams::REPLICAS).await
    }

    /// A bucket by its name, with values of type `T`.
    pub async fn bucket<T: Serialize + DeserializeOwned>(&self, name: &'static str) -> Result<Bucket<T>, Error> {
        let store = self.jetstream.get_key_value(name).await.map_err(|error| Error::Unavailable {
            operation: format!("open the bucket {name}"),
            waited: self.publish_timeout,
            source: Some(error.into()),
        })?;
        Ok(Bucket::new(store))
    }

    /// Publishes, and returns when the server has stored the message, or already has one with this id. The trace context of the current
    /// span is added, unless the headers have one.
    ///
    /// While the bus is unreachable or the stream of the subject does not exist, waits up to `publish_timeout` and then returns
    /// [`Error::Unavailable`]. The message may still be stored afterwards, so a retry must use the same `message_id`.
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
        loop {
            let acknowledged =
                self.send(subject.clone(), message_id, headers.clone(), payload.clone(), deadline).await?;
            match self.confirm(&subject, acknowledged, deadline).await {
                Err(error) if error.is_missing_stream() && Instant::now() + MISSING < deadline => {
                    tokio::time::sleep(MISSING).await;
                }
                result => return result,
            }
        }
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

    /// The names of the streams of this bus, those of its buckets included.
    pub(crate) fn stream_names(&self) -> Vec<String> {
        let streams = self.limits.streams().into_iter().map(|stream| stream.name);
        streams.chain(self.limits.buckets().into_iter().map(|bucket| format!("KV_{}", bucket.bucket))).collect()
    }

    /// How long a publish may take.
    pub(crate) fn publish_timeout(&self) -> Duration {
        self.publish_timeout
    }

    /// What is sent while the connection is lost stays in the client's buffer, and it is unknown whether it is ever sent.
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
            // It was deleted, or the server has not recovered it yet.
            PublishErrorKind::StreamNotFound if self.limits.has_stream_for(subject) => {
                self.no_answer(subject, Some(error.into()))
            }
            _ => Error::Refused { subject: subject.to_owned(), source: error.into() },
        }
    }

    fn no_answer(&self, subject: &str, source: Option<crate::error::Source>) -> Error {
        let source = self.last_frozen().map(|frozen| frozen.to_string().into()).or(source);
        Error::Unavailable { operation: format!("publish on {subject}"), waited: self.publish_timeout, source }
    }

    /// A stream that the server could not write at the last look.
    fn last_frozen(&self) -> Option<Frozen> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
    }

    /// Notes the streams that the server cannot write.
    pub(crate) fn note_frozen(&self, frozen: &[Frozen]) {
        *self.frozen.lock().unwrap_or_else(PoisonError::into_inner) = frozen.to_vec();
    }

    /// JetStream may still be recovering its streams when the connection is established, so this retries.
    async fn set_up(&self, config: &Config) -> Result<(), Error> {
        let deadline = Instant::now() + config.connect_timeout;
        // An error is final if JetStream answers other requests.
        let attempt = async || {
            let result = self.set_up_once().await;
            let is_final = result.is_err() && self.answers().await;
            result.map_err(|error| (error, is_final))
        };
        attempt
            .retry(every(Duration::from_millis(100)))
            .when(|(_, is_final)| !is_final && Instant::now() < deadline)
            .notify(|(error, _), _| tracing::debug!(%error, "jetstream is not ready, retrying"))
            .await
            .map_err(|(error, _)| error)
    }

    async fn answers(&self) -> bool {
        self.jetstream.query_account().await.is_ok()
    }

    /// Creates or updates every stream and bucket.
    pub(crate) async fn set_up_once(&self) -> Result<(), Error> {
        self.create_streams(&self.limits, self.free_bytes).await
    }
}

/// Connects a client that sets up no stream. Retries until `connect_timeout` has passed; once connected, the client reconnects without a limit.
///
/// # Errors
/// The configuration is invalid, or the bus is not reached.
pub async fn connect(config: &Config) -> Result<Client, Error> {
    let servers = parse(&config.url)?;
    let deadline = Instant::now() + config.connect_timeout;
    let unavailable = |error: async_nats::ConnectError| Error::Unavailable {
        operation: "connect".to_owned(),
        waited: config.connect_timeout,
        source: Some(error.into()),
    };
    let attempt = async || options(config).await?.connect(servers.clone()).await.map_err(unavailable);
    attempt
        .retry(every(Duration::from_millis(50)))
        .when(|error| error.is_transient() && Instant::now() < deadline)
        .notify(|error, _| tracing::debug!(error = error as &dyn std::error::Error, "bus unreachable, retrying"))
        .await
}

/// The same pause between all attempts; the caller bounds their number by a deadline.
fn every(pause: Duration) -> ConstantBuilder {
    ConstantBuilder::default().with_delay(pause).without_max_times()
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

/// The user and the password of the first server that has them; the client does not read them from the address. Both may be
/// percent-encoded.
fn login(servers: &[ServerAddr]) -> Option<(String, String)> {
    let of = |server: &ServerAddr| Some((decode(server.username()?), decode(server.password().unwrap_or_default())));
    servers.iter().find_map(of)
}

async fn options(config: &Config) -> Result<ConnectOptions, Error> {
    let options = match (&config.credentials_file, login(&parse(&config.url)?)) {
        (None, None) => ConnectOptions::new(),
        (None, Some((user, password))) => ConnectOptions::with_user_and_password(user, password),
        (Some(file), _) => ConnectOptions::with_credentials_file(file).await.map_err(|error| Error::Config {
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
        .event_callback(|event| async move { log_event(&event) }))
}

/// None at first, then doubling from 20 ms to 1 s.
fn reconnect_delay(attempts: usize) -> Duration {
    const DELAYS: Backoff = Backoff { first: Duration::from_millis(20), last: Duration::from_secs(1) };
    match attempts {
        0 | 1 => Duration::ZERO,
        more => DELAYS.after(more as u64 - 1),
    }
}

fn log_event(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to the bus"),
        Event::Disconnected => tracing::warn!("connection to the bus lost, reconnecting"),
        Event::LameDuckMode => tracing::info!("bus is shutting down"),
        Event::SlowConsumer(subscription) => {
            tracing::warn!(subscription, "slow consumer: messages from the bus are dropped")
        }
        other => tracing::debug!(event = %other, "event of the bus connection"),
    }
}
