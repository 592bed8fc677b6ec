//! The monitor's database: the index of segments, the state of each model's log, reports and settings. The only sea-orm code.

pub(crate) mod entities;
pub(crate) mod lives;
pub(crate) mod logs;
pub mod migrations;
pub(crate) mod reports;
pub(crate) mod segments;
pub(crate) mod watches;

pub use migrations::Migrator;

/// Unsigned counts lie in signed 64-bit columns; no count here comes near the difference.
fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn counted(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// A value that this service wrote and can no longer read.
fn unreadable(what: &str, why: impl std::fmt::Display) -> sea_orm::DbErr {
    sea_orm::DbErr::Type(format!("{what}: {why}"))
}
