//! The bus: NATS JetStream with rekindle's streams and buckets, the relay from the outbox to it, consumers that lose nothing and
//! repeat nothing visibly, and the CloudEvents form of facts.
//!
//! This crate knows no service and decides nothing about what an event means.
//!
//! Invariants kept here:
//! - a publish is done when the server has acknowledged that it is stored;
//! - a message is acknowledged after its handler is done, and the acknowledgement is itself confirmed;
//! - a message that cannot be handled ends in `REKINDLE_DEAD_LETTERS` with the reason, and is delivered no more;
//! - everything that waits has a bound, and everything that runs ends at its cancellation token;
//! - when the bus is away, connections come back by themselves; nobody waits for it unboundedly.

pub mod cloudevent;
pub mod consumer;
pub mod relay;
pub mod streams;

mod connection;
mod delivery;
pub mod error;

pub use connection::{Bus, Config};
pub use delivery::{Delivery, Message};
pub use error::Error;
