//! Why a service cannot start, or why it ended.

use std::{error::Error as StdError, net::SocketAddr, time::Duration};

/// Failures of the ground that services stand on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration does not hold together; every problem found, one a line, each with where it comes from.
    #[error("invalid configuration:\n  {}", problems.join("\n  "))]
    Configuration {
        /// What is wrong.
        problems: Vec<String>,
    },
    /// Telemetry cannot be set up.
    #[error("telemetry: {reason}")]
    Telemetry {
        /// What is wrong.
        reason: String,
    },
    /// A port cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        source: std::io::Error,
    },
    /// The descriptors for reflection cannot be read.
    #[error("cannot set up gRPC reflection: {reason}")]
    Reflection {
        /// What is wrong.
        reason: String,
    },
    /// A server stopped serving.
    #[error("cannot go on serving {what}")]
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
        /// What the panic said.
        message: String,
    },
    /// Tasks that did not end in time and were cut off.
    #[error("still running {} after shutdown began, cut off: {}", .after.as_secs_f32(), tasks.join(", "))]
    Unfinished {
        /// Their names.
        tasks: Vec<String>,
        /// How long they were given.
        after: Duration,
    },
    /// The process cannot listen to signals.
    #[error("cannot listen to signals")]
    Signals(#[source] std::io::Error),
}
