//! The index of join keys: which logged row a request id, or an entity key with an event time, names.

use std::collections::{HashMap, hash_map};

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter,
    sea_query::{Alias, Expr, ExprTrait as _, OnConflict},
};
use uuid::Uuid;

use super::entities::join_key;
use crate::{
    join_key::{JoinKey, KeyedRow},
    outcome::Key,
};

/// Rows of one statement: SQLite has at most 32,766 parameters.
const ROWS: usize = 4_096;

/// What a join key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// This row, or the request that begins with it.
    Row(Key),
    /// Several.
    Ambiguous,
}

/// Adds the join keys of logged rows. A key of several rows becomes ambiguous.
pub(crate) async fn insert(txn: &impl ConnectionTrait, rows: &[KeyedRow], now: DateTime<Utc>) -> Result<(), DbErr> {
    let mut named: HashMap<JoinKey, (Key, bool)> = HashMap::with_capacity(rows.len());
    for row in rows {
        match named.entry(row.join_key) {
            hash_map::Entry::Vacant(entry) => drop(entry.insert((row.key, false))),
            hash_map::Entry::Occupied(mut entry) => entry.get_mut().1 |= entry.get().0 != row.key,
        }
    }
    let rows: Vec<join_key::ActiveModel> = named
        .into_iter()
        .map(|(join_key, (key, is_ambiguous))| join_key::ActiveModel {
            join_key: Set(Uuid::from_u128(join_key.0)),
            prediction: Set(Uuid::from_u128(key.prediction)),
            row: Set(key.row.into()),
            is_ambiguous: Set(is_ambiguous),
            captured_at: Set(now),
        })
        .collect();
    for rows in rows.chunks(ROWS) {
        join_key::Entity::insert_many(rows.to_vec()).on_conflict(ambiguous()).exec_without_returning(txn).await?;
    }
    Ok(())
}

/// A key that is known already is ambiguous if it names another row now.
fn ambiguous() -> OnConflict {
    let known = |column: join_key::Column| Expr::col((join_key::Entity, column));
    let new = |column: join_key::Column| Expr::col((Alias::new("excluded"), column));
    let differs = |column| known(column).ne(new(column));
    let is_ambiguous = known(join_key::Column::IsAmbiguous)
        .or(new(join_key::Column::IsAmbiguous))
        .or(differs(join_key::Column::Prediction))
        .or(differs(join_key::Column::Row));
    OnConflict::column(join_key::Column::JoinKey)
        .value(join_key::Column::IsAmbiguous, is_ambiguous)
        .value(join_key::Column::CapturedAt, new(join_key::Column::CapturedAt))
        .to_owned()
}

/// What the keys name; a key without an entry is unknown.
pub(crate) async fn find(db: &impl ConnectionTrait, keys: &[JoinKey]) -> Result<HashMap<JoinKey, Named>, DbErr> {
    let mut found = HashMap::new();
    for keys in keys.chunks(ROWS) {
        let ids = keys.iter().map(|key| Uuid::from_u128(key.0));
        let rows = join_key::Entity::find().filter(join_key::Column::JoinKey.is_in(ids)).all(db).await?;
        found.extend(rows.into_iter().map(|row| (JoinKey(row.join_key.as_u128()), named(&row))));
    }
    Ok(found)
}

fn named(row: &join_key::Model) -> Named {
    match (row.is_ambiguous, u32::try_from(row.row)) {
        (false, Ok(first)) => Named::Row(Key { prediction: row.prediction.as_u128(), row: first }),
        _ => Named::Ambiguous,
    }
}

/// Deletes the keys of rows that were captured before `before`.
pub(crate) async fn forget(db: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<u64, DbErr> {
    let forgotten = join_key::Entity::delete_many().filter(join_key::Column::CapturedAt.lt(before)).exec(db).await?;
    Ok(forgotten.rows_affected)
}
