//! Typed clients of the five services, and the conversions between wire messages and domain types.
//!
//! A [`Connection`] is a channel with its deadline, TLS, identity, trace context and retry policy. Each service has one client, whose
//! methods take and return domain types; [`wire`] has one file of conversions per noun. Services use the same conversions in their rpc
//! layers, so that the two directions of a noun stand side by side.
//!
//! Invariants:
//! - wire to domain may fail, and names every field that is not valid; domain to wire cannot fail;
//! - a call is retried only if the server cannot have had an effect that a repetition would double: reads, and calls that carry an
//!   idempotency key, an expected revision, or an id of their own;
//! - no caller of this crate names a wire message.

pub mod alerts;
pub mod audit;
mod connection;
mod error;
mod identity;
pub mod inference;
pub mod monitor;
pub mod orchestrator;
pub mod registry;
mod retry;
pub mod trainer;
pub mod wire;

pub use self::{
    alerts::Alerts,
    audit::Audit,
    connection::{CONTROL_PLANE, Connection, InvalidAddress, SERVICE_HEADER, Tls},
    error::Error,
    identity::{CAUSATION_ID, CORRELATION_ID, Identity, NAMESPACE, PRINCIPAL},
    inference::Inference,
    monitor::Monitor,
    orchestrator::Orchestrator,
    registry::Registry,
    retry::Retry,
    trainer::Trainer,
};

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The token of the next page; empty on the last one.
    pub next_page_token: String,
}

/// Which page of a list to fetch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Items at most; 0 is the default of the server.
    pub size: u32,
    /// `next_page_token` of the page before; empty is the first page.
    pub token: String,
}

impl PageRequest {
    /// The first page, of at most `size` items.
    pub fn first(size: u32) -> Self {
        Self { size, token: String::new() }
    }
}
