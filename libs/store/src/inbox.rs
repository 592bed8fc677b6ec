//! Messages that have been processed, recorded in the same transaction as the effect: a message that is redelivered, or published
//! again after the duplicate window of the bus, has no second effect.

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait, sea_query::OnConflict};

use crate::entity::inbox;

/// Records that `consumer` processes the message. Returns false if it has done so before: then acknowledge the message and do nothing else.
///
/// `message_id` identifies the message across redeliveries: source and id of a CloudEvent.
pub async fn first_time(
    txn: &impl ConnectionTrait,
    consumer: &str,
    message_id: &str,
    now: DateTime<Utc>,
) -> Result<bool, DbErr> {
    let row = inbox::ActiveModel {
        consumer: Set(consumer.to_owned()),
        message_id: Set(message_id.to_owned()),
        received_at: Set(now),
    };
    let unless_recorded =
        OnConflict::columns([inbox::Column::Consumer, inbox::Column::MessageId]).do_nothing().to_owned();
    let inserted = inbox::Entity::insert(row).on_conflict(unless_recorded).exec_without_returning(txn).await?;
    Ok(inserted == 1)
}
