//! The monitor's database: the index of chunks, the state of each model's log, reports, watches, checks of
//! outcomes, join keys, alerts and their notifications, and silences. The only sea-orm code.

pub(crate) mod alerts;
pub(crate) mod chunks;
pub(crate) mod deletions;
pub(crate) mod entities;
pub(crate) mod incarnations;
pub(crate) mod join_keys;
pub(crate) mod logs;
pub mod migrations;
pub(crate) mod notifications;
pub(crate) mod outcome_checks;
pub(crate) mod pending_outcomes;
pub(crate) mod record;
pub(crate) mod reports;
pub(crate) mod revisions;
pub(crate) mod silences;
pub(crate) mod watches;

pub use migrations::Migrator;

/// Unsigned counts are stored in signed 64-bit columns; no count comes near the difference.
fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn counted(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// A stored value that cannot be read back.
fn unreadable(what: &str, why: impl std::fmt::Display) -> sea_orm::DbErr {
    sea_orm::DbErr::Type(format!("{what}: {why}"))
}
