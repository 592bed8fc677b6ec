//! Keeps the inbox and the idempotency keys bounded by age.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};

use crate::entity::{idempotency, inbox};

/// Forgets the messages received and the calls answered before `before`, and says how many. `before` must lie further back than
/// any message can still be delivered and any caller still tries again: the retention of the event stream is a safe choice.
pub async fn forget(db: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<u64, DbErr> {
    let messages = inbox::Entity::delete_many().filter(inbox::Column::ReceivedAt.lt(before)).exec(db).await?;
    let calls = idempotency::Entity::delete_many().filter(idempotency::Column::AnsweredAt.lt(before)).exec(db).await?;
    Ok(messages.rows_affected + calls.rows_affected)
}
