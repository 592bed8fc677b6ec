//! Retention of the inbox and of idempotency keys.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};

use crate::entity::{idempotency, inbox};

/// Deletes the records of messages received and calls answered before `before`, and returns how many. `before` must be earlier than the oldest
/// message that can be redelivered and the oldest call that can be retried: the retention of the event stream is a safe choice.
pub async fn forget(db: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<u64, DbErr> {
    let messages = inbox::Entity::delete_many().filter(inbox::Column::ReceivedAt.lt(before)).exec(db).await?;
    let calls = idempotency::Entity::delete_many().filter(idempotency::Column::AnsweredAt.lt(before)).exec(db).await?;
    Ok(messages.rows_affected + calls.rows_affected)
}
