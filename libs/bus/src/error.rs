//! What can go wrong with the bus.

use std::time::Duration;

/// Whatever a library said.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why something could not be done on the bus.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration names no server that could be connected to.
    #[error("the bus cannot be configured with {what}")]
    Config {
        /// The field and its value.
        what: String,
        /// What is wrong with it.
        source: Source,
    },
    /// The bus does not answer; the same may succeed later.
    #[error("the bus did not answer within {waited:?} while trying to {operation}")]
    Unavailable {
        /// What was tried.
        operation: String,
        /// How long.
        waited: Duration,
        /// The last error, where there was one.
        source: Option<Source>,
    },
    /// A stream or bucket cannot be made as it should be.
    #[error("cannot set up {what}")]
    Setup {
        /// The stream, bucket or consumer.
        what: String,
        /// What the server said.
        source: Source,
    },
    /// The server refuses a message: no stream takes the subject, the stream is full, or the message is too large.
    #[error("the bus refused a message on {subject}")]
    Refused {
        /// The subject.
        subject: String,
        /// What the server said.
        source: Source,
    },
    /// The relay cannot read the outbox.
    #[error("cannot read or update the outbox")]
    Outbox {
        /// What the database said.
        #[from]
        source: rekindle_store::sea_orm::DbErr,
    },
    /// A message is not the CloudEvent that it should be.
    #[error("not an event of rekindle: {problem}")]
    InvalidEvent {
        /// The header or the data, and what is wrong with it.
        problem: String,
    },
    /// A message could not be acknowledged; it will be delivered again.
    #[error("cannot acknowledge message {sequence} of {stream}")]
    Acknowledge {
        /// The stream.
        stream: String,
        /// The message's sequence in it.
        sequence: u64,
        /// What went wrong.
        source: Source,
    },
}

impl Error {
    /// Whether the same may succeed a little later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Acknowledge { .. })
    }
}
