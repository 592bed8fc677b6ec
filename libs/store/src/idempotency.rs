//! Idempotency keys of calls: the same key with the same request gets the same response, the same key with another request is refused.

use chrono::{DateTime, Utc};
use rekindle_domain::Digest;
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait};
use serde_json::Value;

use crate::entity::idempotency;

/// Whether a key has been used.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// Never used: execute the call and [`record`] the response in the same transaction.
    New,
    /// Used for the same request; the response to it.
    Same(Value),
    /// Used for another request.
    Different,
}

/// Looks a key up. `scope` keeps the keys of different methods apart, e.g. `CreateRun`.
pub async fn look_up(
    txn: &impl ConnectionTrait,
    scope: &str,
    key: &str,
    request_digest: &Digest,
) -> Result<Seen, DbErr> {
    let row = idempotency::Entity::find_by_id((scope.to_owned(), key.to_owned())).one(txn).await?;
    Ok(match row {
        None => Seen::New,
        Some(row) if row.request_digest == request_digest.to_string() => Seen::Same(row.response),
        Some(_) => Seen::Different,
    })
}

/// Records the response to a call. Of two concurrent calls with one key, [`crate::in_transaction`] runs the second one again, which then
/// finds the response of the first.
pub async fn record(
    txn: &impl ConnectionTrait,
    scope: &str,
    key: &str,
    request_digest: &Digest,
    response: &Value,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let row = idempotency::ActiveModel {
        scope: Set(scope.to_owned()),
        key: Set(key.to_owned()),
        request_digest: Set(request_digest.to_string()),
        response: Set(response.clone()),
        answered_at: Set(now),
    };
    idempotency::Entity::insert(row).exec_without_returning(txn).await?;
    Ok(())
}
