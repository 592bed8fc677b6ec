//! How far each incarnation of a replica has numbered its messages, to detect messages that never arrived.

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, sea_query::OnConflict};
use uuid::Uuid;

use super::{entities::incarnation, stored};

/// Records `messages` new messages of an incarnation, numbered up to `highest`, and returns by how much the number of missing messages
/// grew; negative when missing messages arrived after all.
pub(crate) async fn advance(
    txn: &impl ConnectionTrait,
    id: Uuid,
    highest: u64,
    messages: u64,
    now: DateTime<Utc>,
) -> Result<i64, DbErr> {
    let before = incarnation::Entity::find_by_id(id).one(txn).await?.map_or(0, |row| row.highest);
    let highest = stored(highest).max(before);
    let row = incarnation::ActiveModel { incarnation: Set(id), highest: Set(highest), seen_at: Set(now) };
    let update = [incarnation::Column::Highest, incarnation::Column::SeenAt];
    incarnation::Entity::insert(row)
        .on_conflict(OnConflict::column(incarnation::Column::Incarnation).update_columns(update).to_owned())
        .exec_without_returning(txn)
        .await?;
    Ok((highest - before).saturating_sub(stored(messages)))
}

/// Deletes incarnations that last sent a message before `before`.
pub(crate) async fn forget(db: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<u64, DbErr> {
    let forgotten = incarnation::Entity::delete_many().filter(incarnation::Column::SeenAt.lt(before)).exec(db).await?;
    Ok(forgotten.rows_affected)
}
