//! What every service runs on: layered configuration, telemetry, health, gRPC and HTTP serving, supervised tasks,
//! and shutdown in phases.
//!
//! It knows nothing of models, databases or the bus, and keeps no global state but what the `tracing` and
//! `metrics` facades are by their nature: installed once per process.
//!
//! Invariants:
//! - listeners are bound by the caller and passed in, so that port 0 works and a busy port fails at start;
//! - a service is healthy when it says so: every name starts as NOT_SERVING;
//! - nothing runs detached: a task that fails or panics ends the process's work in order, and is named.

pub mod config;
mod error;
pub mod grpc;
pub mod health;
pub mod http;
pub mod shutdown;
pub mod supervise;
pub mod telemetry;

pub use error::Error;
