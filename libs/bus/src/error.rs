//! Errors of the bus.

use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};

/// The error of a library.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation on the bus failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the configuration is invalid.
    #[error("invalid configuration of the bus: {what}")]
    Config {
        /// The field and its value.
        what: String,
        /// Why it is invalid.
        source: Source,
    },
    /// The bus does not respond; a retry may succeed.
    #[error("cannot {operation}: the bus did not respond within {waited:?}")]
    Unavailable {
        /// What was tried, as a verb.
        operation: String,
        /// For how long.
        waited: Duration,
        /// The last error, if there was one.
        source: Option<Source>,
    },
    /// A stream, bucket or consumer cannot be created or updated.
    #[error("cannot set up {what}")]
    Setup {
        /// The stream, bucket or consumer.
        what: String,
        /// What the server reported.
        source: Source,
    },
    /// The server rejects a message: no stream has the subject, the stream is full, or the message is too large.
    #[error("the bus rejected a message on {subject}")]
    Refused {
        /// The subject.
        subject: String,
        /// What the server reported.
        source: Source,
    },
    /// The relay cannot read the outbox.
    #[error("cannot read or update the outbox")]
    Outbox {
        /// What the database reported.
        #[from]
        source: rekindle_store::sea_orm::DbErr,
    },
    /// A bucket cannot be read or written; a retry may succeed.
    #[error("cannot {operation} {key:?} of the bucket {bucket}")]
    Bucket {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The bucket.
        bucket: String,
        /// The key, or `>` for all.
        key: String,
        /// What the server reported.
        source: Source,
    },
    /// The messages of a stream cannot be read; a retry may succeed.
    #[error("cannot read the stream {stream}")]
    Read {
        /// The stream.
        stream: &'static str,
        /// What the server reported.
        source: Source,
    },
    /// A database lacks changes whose events are on the bus.
    #[error(
        "the database of the {service}, {url}, lacks changes: event {published} of the {service} is on the bus ({last}), and {found}. \
         Restore the newest backup of the database. If it lacks changes too, or there is none, set {service}.database.accept_data_loss = \
         true (as a variable: REKINDLE__{}__DATABASE__ACCEPT_DATA_LOSS=true) for one start, to continue without these changes",
        service.to_uppercase()
    )]
    DataLoss {
        /// The service.
        service: &'static str,
        /// The URL of the database, without its credentials.
        url: String,
        /// The position of the last event of the service on the bus.
        published: u64,
        /// What the database has instead.
        found: String,
        /// Subject and time of the last event on the bus.
        last: String,
    },
    /// A subject does not name what it should.
    #[error("invalid subject {subject:?}: expected {expected}")]
    InvalidSubject {
        /// The subject, cut to 200 characters.
        subject: String,
        /// Its expected form.
        expected: String,
    },
    /// A message is not a CloudEvent of rekindle.
    #[error("invalid event: {problem}")]
    InvalidEvent {
        /// The header or the data, and what is wrong with it.
        problem: String,
    },
    /// A message cannot be acknowledged; it is redelivered.
    #[error("cannot acknowledge message {sequence} of {stream}")]
    Acknowledge {
        /// The stream.
        stream: String,
        /// The message's sequence in it.
        sequence: u64,
        /// What the server reported.
        source: Source,
    },
}

impl Error {
    /// Whether a message was not stored because its stream does not exist.
    pub(crate) fn is_missing_stream(&self) -> bool {
        let Self::Unavailable { source: Some(source), .. } = self else { return false };
        let published = source.downcast_ref::<PublishError>();
        published.is_some_and(|error| error.kind() == PublishErrorKind::StreamNotFound)
    }

    /// Whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Acknowledge { .. } | Self::Bucket { .. } | Self::Read { .. })
    }
}
