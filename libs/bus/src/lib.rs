//! The bus: NATS JetStream with rekindle's streams, subjects and buckets, the relay from the outbox, consumers with at-least-once delivery and
//! dead letters, and events as CloudEvents.
//!
//! This crate depends on no service and does not interpret events.
//!
//! Invariants:
//! - a publish returns when the server has acknowledged that the message is stored;
//! - a message is acknowledged after its handler has returned, and the acknowledgement is itself confirmed;
//! - a handler that panics affects the message alone that it handled;
//! - a service whose database lacks what it has published does not start ([`history`]), and messages that a stream has lost are reported
//!   ([`scrub`]);
//! - streams and buckets that are deleted are created again ([`keep`]);
//! - a message that cannot be processed ends in `REKINDLE_DEAD_LETTERS` with the reason, and is not redelivered;
//! - every wait has a deadline, and every loop ends at its cancellation token;
//! - a lost connection is re-established automatically;
//! - subjects are built and parsed in [`subject`] only, and values of buckets in [`bucket`] only.

pub mod audit;
pub mod bucket;
pub mod claim;
pub mod cloudevent;
pub mod consumer;
pub mod dead_letter;
pub mod history;
pub mod keep;
pub mod relay;
pub mod scrub;
pub mod streams;
pub mod subject;

mod connection;
mod delivery;
pub mod error;
mod frozen;
pub mod panics;
pub mod read;
mod sizes;

pub use bucket::Bucket;
pub use connection::{Bus, Config, connect};
pub use delivery::{Delivery, Message};
pub use error::Error;
pub use frozen::Frozen;
