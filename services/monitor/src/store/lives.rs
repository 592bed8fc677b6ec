//! How far each life of a replica has numbered its messages, to notice those that never came.

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, sea_query::OnConflict};
use uuid::Uuid;

use super::{entities::life, stored};

/// Takes note of `messages` new messages of a life, numbered up to `highest`, and says by how many the missing ones have grown; by less
/// than none where missing ones have come after all.
pub(crate) async fn advance(
    txn: &impl ConnectionTrait,
    incarnation: Uuid,
    highest: u64,
    messages: u64,
    now: DateTime<Utc>,
) -> Result<i64, DbErr> {
    let before = life::Entity::find_by_id(incarnation).one(txn).await?.map_or(0, |life| life.highest);
    let highest = stored(highest).max(before);
    let row = life::ActiveModel { incarnation: Set(incarnation), highest: Set(highest), seen_at: Set(now) };
    let update = [life::Column::Highest, life::Column::SeenAt];
    life::Entity::insert(row)
        .on_conflict(OnConflict::column(life::Column::Incarnation).update_columns(update).to_owned())
        .exec_without_returning(txn)
        .await?;
    Ok((highest - before).saturating_sub(stored(messages)))
}

/// Forgets lives that were last heard of before `before`.
pub(crate) async fn forget(db: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<u64, DbErr> {
    Ok(life::Entity::delete_many().filter(life::Column::SeenAt.lt(before)).exec(db).await?.rows_affected)
}
