//! What every service with a database shares: connecting, migrating, transactions, and the tables that make effects happen once
//! — the [`outbox`] of events to tell, the [`inbox`] of messages already acted upon, and the [`idempotency`] keys of
//! calls already answered.
//!
//! A database is SQLite by default and PostgreSQL by URL; nothing outside of [`connect`] and [`migrate`] knows which. This crate
//! holds no table of a service, and never talks to the bus.
//!
//! Invariants kept here:
//! - a committed transaction is on the disk (SQLite: write-ahead log with `synchronous = FULL`);
//! - transactions are serializable on both databases, and one that lost a race runs again, boundedly;
//! - an event is in the outbox if and only if the transaction that it tells of was committed;
//! - times and ids are inputs.

pub mod idempotency;
pub mod inbox;
pub mod migrations;
pub mod outbox;
pub mod page;
pub mod pulse;
pub mod retention;

mod connection;
mod entity;
mod error;
mod transaction;

pub use connection::{Config, connect, migrate};
pub use error::Error;
pub use pulse::Pulse;
pub use sea_orm;
pub use sea_orm_migration;
pub use transaction::{RetryableError, in_transaction};
