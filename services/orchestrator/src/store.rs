//! The orchestrator's database: the only place that knows sea-orm.
//!
//! Every change of a record is guarded by the epoch or revision that was read, so that two instances, or a caller and the
//! reconciler, can never both have their way.

pub(crate) mod deployments;
pub(crate) mod lease;
pub(crate) mod policies;
pub(crate) mod workflows;

mod entity;
mod migration;

pub(crate) use migration::Migrator;

use sea_orm::DbErr;
use serde::{Serialize, de::DeserializeOwned};

/// A record as JSON.
fn to_json(record: &impl Serialize) -> Result<serde_json::Value, DbErr> {
    serde_json::to_value(record).map_err(|error| DbErr::Json(error.to_string()))
}

/// A record as it was written.
fn from_json<T: DeserializeOwned>(table: &str, json: serde_json::Value) -> Result<T, DbErr> {
    serde_json::from_value(json).map_err(|error| DbErr::Json(format!("a record of {table}: {error}")))
}

/// A count as the database keeps it.
fn signed(count: u64) -> Result<i64, DbErr> {
    i64::try_from(count).map_err(|error| DbErr::Type(error.to_string()))
}

/// A count as the database kept it.
fn unsigned(count: i64) -> Result<u64, DbErr> {
    u64::try_from(count).map_err(|error| DbErr::Type(error.to_string()))
}
