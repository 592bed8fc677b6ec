//! What every service with a database shares: connection, migration, transactions, and the tables for exactly one effect per intent: the
//! [`outbox`] of events to publish, the [`audit`] trail, the [`inbox`] of processed messages, the [`idempotency`] keys of answered calls, and [`lease`]s with a
//! fencing epoch.
//!
//! A database is SQLite by default and PostgreSQL by URL; code outside of this crate does not depend on which. This crate has no table of a
//! service, and does not use the bus.
//!
//! Invariants:
//! - a committed transaction is on the disk (SQLite: write-ahead log with `synchronous = FULL`);
//! - an SQLite file whose pages are damaged is not opened;
//! - transactions are serializable on both databases, and one that conflicts with another is retried a bounded number of times;
//! - an event is in the outbox if and only if the transaction that enqueued it is committed;
//! - a write that is fenced by a lease is committed only under the lease's current epoch;
//! - times of records and ids of events are inputs.

pub mod audit;
pub mod health;
pub mod idempotency;
pub mod inbox;
pub mod lease;
pub mod migrations;
pub mod outbox;
pub mod page;
pub mod retention;

mod connection;
mod entity;
mod error;
mod group;
mod namespace;
mod transaction;

pub use connection::{Config, connect, migrate};
pub use error::Error;
pub use health::DatabaseHealth;
pub use lease::{Fence, LeaseError, Leases};
pub use namespace::within;
pub use sea_orm;
pub use sea_orm_migration;
pub use transaction::{RetryableError, in_read_committed, in_transaction, is_damaged, is_transient};
