//! The process around a service: layered configuration, telemetry, health, gRPC and HTTP servers, supervised tasks, and
//! shutdown in phases.
//!
//! The crate does not depend on models, databases or the bus. Its only global state is that of the `tracing` and `metrics`
//! facades, which are installed once per process.
//!
//! Invariants:
//! - the caller binds listeners and passes them in, so that port 0 works and a busy port fails at startup;
//! - every service starts as NOT_SERVING and is healthy only once it is set ready;
//! - no task runs detached: a task that fails or panics starts an orderly shutdown, and its name is reported;
//! - configuration is validated as a whole, and all problems are reported at once.

pub mod config;
mod connections;
pub mod disk;
mod error;
pub mod grpc;
pub mod health;
pub mod http;
pub mod shutdown;
pub mod supervise;
pub mod telemetry;

pub use error::Error;
