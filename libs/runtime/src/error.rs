//! Why a service cannot start, or why it stopped.

use std::{error::Error as StdError, net::SocketAddr, time::Duration};

/// Errors of configuration, telemetry, servers and supervised tasks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not valid. Every problem is on a line of its own, with its origin and key.
    #[error("invalid configuration:\n  {}", problems.join("\n  "))]
    Configuration {
        /// The problems.
        problems: Vec<String>,
    },
    /// Telemetry cannot be initialised.
    #[error("cannot initialise telemetry: {reason}")]
    Telemetry {
        /// The cause.
        reason: String,
    },
    /// An address cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        source: std::io::Error,
    },
    /// The protobuf descriptors cannot be read.
    #[error("cannot set up gRPC reflection: {reason}")]
    Reflection {
        /// The cause.
        reason: String,
    },
    /// A server failed.
    #[error("the {what} server failed")]
    Serve {
        /// Which server.
        what: &'static str,
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A supervised task failed.
    #[error("task {task} failed")]
    Task {
        /// The task's name.
        task: String,
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A supervised task panicked.
    #[error("task {task} panicked: {message}")]
    Panicked {
        /// The task's name.
        task: String,
        /// The panic's message.
        message: String,
    },
    /// Tasks that did not stop in time and were aborted.
    #[error("did not stop within {after:?} of the start of shutdown, aborted: {}", tasks.join(", "))]
    Unfinished {
        /// Their names.
        tasks: Vec<String>,
        /// The deadline, from the start of their phase.
        after: Duration,
    },
    /// The signal handlers cannot be installed.
    #[error("cannot install the signal handlers")]
    Signals(#[source] std::io::Error),
}
