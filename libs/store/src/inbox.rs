//! Messages already acted upon, remembered in the same transaction as the effect: a message that is delivered again, or published
//! again after the bus has forgotten its id, has no second effect.

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait, sea_query::OnConflict};

use crate::entity::inbox;

/// Notes that `consumer` acts upon the message; false if it did so before, and then nothing should be done but acknowledge.
///
/// `message_id` identifies the message wherever it comes from: source and id of a CloudEvent.
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
    let unless_known = OnConflict::columns([inbox::Column::Consumer, inbox::Column::MessageId]).do_nothing().to_owned();
    let inserted = inbox::Entity::insert(row).on_conflict(unless_known).exec_without_returning(txn).await?;
    Ok(inserted == 1)
}
