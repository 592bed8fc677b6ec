//! The database of the orchestrator: the only code that uses sea-orm.
//!
//! Every change of a record is a compare-and-set on the epoch or revision that was read, so that of two concurrent writers one is refused.

pub(crate) mod deployments;
pub(crate) mod ignored;
pub(crate) mod policies;
pub(crate) mod workflows;

mod entity;
mod migration;
mod upgrade;

pub(crate) use migration::Migrator;

use std::fmt::Display;

use rekindle_domain::schema::{self, UnreadableRecord};
use sea_orm::DbErr;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The schema version of the JSON records that this build writes. Version 1 has no field `schema`.
const SCHEMA: u64 = 2;

/// A record as JSON, with the schema version [`SCHEMA`].
fn to_json(record: &impl Serialize) -> Result<Value, DbErr> {
    let mut json = serde_json::to_value(record).map_err(|error| DbErr::Json(error.to_string()))?;
    if let Value::Object(fields) = &mut json {
        fields.insert("schema".to_owned(), SCHEMA.into());
    }
    Ok(json)
}

/// A record that this build or an earlier one wrote.
fn from_json<T: DeserializeOwned>(table: &str, mut json: Value) -> Result<T, DbErr> {
    let unreadable = |error: &dyn Display| DbErr::Json(format!("a record of {table}: {error}"));
    let version = schema::version_of(&json).map_err(|error| unreadable(&error))?;
    if version > SCHEMA {
        let found = UnreadableRecord::Unsupported { found: version, supported: SCHEMA };
        return Err(unreadable(&found));
    }
    if let Value::Object(fields) = &mut json {
        fields.remove("schema");
    }
    upgrade::to_latest(version, &mut json);
    serde_json::from_value(json).map_err(|error| unreadable(&error))
}

/// A count as the database keeps it.
fn signed(count: u64) -> Result<i64, DbErr> {
    i64::try_from(count).map_err(|error| DbErr::Type(error.to_string()))
}

/// A count as the database kept it.
fn unsigned(count: i64) -> Result<u64, DbErr> {
    u64::try_from(count).map_err(|error| DbErr::Type(error.to_string()))
}
