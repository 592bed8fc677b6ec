//! The index of chunks: which objects hold the rows of a span or of an id.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use rekindle_domain::{Digest, ModelName, event_time};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::SimpleExpr,
};
use uuid::Uuid;

use super::{counted, entities::chunk, stored, unreadable};
use crate::{
    chunk::{Chunk, Kind},
    window::{Timing, Window},
};

fn read(row: chunk::Model) -> Result<Chunk, DbErr> {
    let bundle = match row.bundle_digest.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error| unreadable("chunks.bundle_digest", error))?),
    };
    Ok(Chunk {
        id: row.id,
        kind: Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == row.kind)
            .ok_or_else(|| unreadable("chunks.kind", format!("unknown kind {:?}", row.kind)))?,
        model: row.model.parse().map_err(|error| unreadable("chunks.model", error))?,
        model_version: u32::try_from(row.model_version).map_err(|error| unreadable("chunks.model_version", error))?,
        bundle,
        object_key: row.object_key,
        digest: row.digest.parse().map_err(|error| unreadable("chunks.digest", error))?,
        rows: counted(row.rows),
        bytes: counted(row.bytes),
        events: row.event_min.zip(row.event_max),
        ids: (row.id_min.as_u128(), row.id_max.as_u128()),
    })
}

fn read_all(rows: Vec<chunk::Model>) -> Result<Vec<Chunk>, DbErr> {
    rows.into_iter().map(read).collect()
}

/// Inserts a chunk; `latest_before` is the latest event time in the model's log before it.
pub(crate) async fn insert(
    txn: &impl ConnectionTrait,
    chunk: &Chunk,
    latest_before: Option<i64>,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let row = chunk::ActiveModel {
        position: NotSet,
        id: Set(chunk.id),
        kind: Set(chunk.kind.as_str().to_owned()),
        model: Set(chunk.model.to_string()),
        model_version: Set(chunk.model_version.into()),
        bundle_digest: Set(chunk.bundle.as_ref().map(Digest::to_string).unwrap_or_default()),
        object_key: Set(chunk.object_key.clone()),
        digest: Set(chunk.digest.to_string()),
        rows: Set(stored(chunk.rows)),
        bytes: Set(stored(chunk.bytes)),
        event_min: Set(chunk.events.map(|(min, _)| min)),
        event_max: Set(chunk.events.map(|(_, max)| max)),
        id_min: Set(Uuid::from_u128(chunk.ids.0)),
        id_max: Set(Uuid::from_u128(chunk.ids.1)),
        latest_before: Set(latest_before),
        created_at: Set(now),
    };
    chunk::Entity::insert(row).exec_without_returning(txn).await?;
    Ok(())
}

fn predictions(model: &ModelName) -> sea_orm::Select<chunk::Entity> {
    chunk::Entity::find()
        .filter(chunk::Column::Model.eq(model.as_str()))
        .filter(chunk::Column::Kind.eq(Kind::Prediction.as_str()))
}

/// Chunks of predictions that enter windows: those after the position `since`.
fn monitored(model: &ModelName, since: i64) -> sea_orm::Select<chunk::Entity> {
    predictions(model).filter(chunk::Column::Position.gt(since))
}

/// Predictions, test rows included.
fn is_logged() -> SimpleExpr {
    chunk::Column::Kind.is_in([Kind::Prediction, Kind::Test].map(Kind::as_str))
}

/// Position of the latest chunk of any model; 0 if there is none.
pub(crate) async fn latest_position(db: &impl ConnectionTrait) -> Result<i64, DbErr> {
    let query = chunk::Entity::find().select_only().column_as(chunk::Column::Position.max(), "latest");
    let latest: Option<Option<i64>> = query.into_tuple().one(db).await?;
    Ok(latest.flatten().unwrap_or_default())
}

/// Chunks after the position `since` that may hold rows of `window` and were not too late for it, in order of commit.
pub(crate) async fn in_window(
    db: &impl ConnectionTrait,
    model: &ModelName,
    since: i64,
    timing: &Timing,
    window: &Window,
) -> Result<Vec<Chunk>, DbErr> {
    let in_time = Condition::any()
        .add(chunk::Column::LatestBefore.is_null())
        .add(chunk::Column::LatestBefore.lt(timing.late_from(window)));
    read_all(
        monitored(model, since)
            .filter(chunk::Column::EventMax.gte(window.from))
            .filter(chunk::Column::EventMin.lt(window.until))
            .filter(in_time)
            .order_by_asc(chunk::Column::Position)
            .all(db)
            .await?,
    )
}

/// Chunks that may hold rows of a half-open span of event time, including late ones, in order of commit.
pub(crate) async fn in_span(
    db: &impl ConnectionTrait,
    model: &ModelName,
    from: Option<i64>,
    until: Option<i64>,
) -> Result<Vec<Chunk>, DbErr> {
    let mut query = predictions(model);
    if let Some(from) = from {
        query = query.filter(chunk::Column::EventMax.gte(from));
    }
    if let Some(until) = until {
        query = query.filter(chunk::Column::EventMin.lt(until));
    }
    read_all(query.order_by_asc(chunk::Column::Position).all(db).await?)
}

/// The earliest event time at or after `from` that a chunk after the position `since` may hold; exact if a chunk begins there.
pub(crate) async fn next_event(
    db: &impl ConnectionTrait,
    model: &ModelName,
    since: i64,
    from: Option<i64>,
) -> Result<Option<i64>, DbErr> {
    // Former builds accepted rows outside of the range: they are in no window.
    let from = from.unwrap_or(*event_time::RANGE.start()).max(*event_time::RANGE.start());
    let query = monitored(model, since)
        .filter(chunk::Column::EventMax.gte(from))
        .filter(chunk::Column::EventMin.lte(*event_time::RANGE.end()));
    let least: Option<Option<i64>> =
        query.select_only().column_as(chunk::Column::EventMin.min(), "least").into_tuple().one(db).await?;
    Ok(least.flatten().map(|least| least.max(from)))
}

/// Where the first chunk after the position `since` that lies entirely at or after `from` begins.
pub(crate) async fn next_beginning(
    db: &impl ConnectionTrait,
    model: &ModelName,
    since: i64,
    from: i64,
) -> Result<Option<i64>, DbErr> {
    let query = monitored(model, since).filter(chunk::Column::EventMin.gte(from));
    let least: Option<Option<i64>> =
        query.select_only().column_as(chunk::Column::EventMin.min(), "least").into_tuple().one(db).await?;
    Ok(least.flatten())
}

/// Ids of the chunks after the position `since` that hold rows on both sides of `time`.
pub(crate) async fn across(
    db: &impl ConnectionTrait,
    model: &ModelName,
    since: i64,
    time: i64,
) -> Result<Vec<Uuid>, DbErr> {
    monitored(model, since)
        .filter(chunk::Column::EventMin.lt(time))
        .filter(chunk::Column::EventMax.gte(time))
        .select_only()
        .column(chunk::Column::Id)
        .into_tuple()
        .all(db)
        .await
}

/// The outcome chunks of a model.
pub(crate) fn outcomes(model: &ModelName) -> sea_orm::Select<chunk::Entity> {
    chunk::Entity::find()
        .filter(chunk::Column::Kind.eq(Kind::Outcome.as_str()))
        .filter(chunk::Column::Model.eq(model.as_str()))
}

/// Position of the latest outcome chunk of a model; 0 if there is none.
pub(crate) async fn latest_outcomes(db: &impl ConnectionTrait, model: &ModelName) -> Result<i64, DbErr> {
    let query = outcomes(model).select_only().column_as(chunk::Column::Position.max(), "latest");
    let latest: Option<Option<i64>> = query.into_tuple().one(db).await?;
    Ok(latest.flatten().unwrap_or_default())
}

/// Outcome chunks of a model that may hold outcomes of prediction ids in `ids`, in order of commit.
pub(crate) async fn outcomes_of(
    db: &impl ConnectionTrait,
    model: &ModelName,
    ids: (u128, u128),
) -> Result<Vec<Chunk>, DbErr> {
    read_all(
        outcomes(model)
            .filter(chunk::Column::IdMax.gte(Uuid::from_u128(ids.0)))
            .filter(chunk::Column::IdMin.lte(Uuid::from_u128(ids.1)))
            .order_by_asc(chunk::Column::Position)
            .all(db)
            .await?,
    )
}

/// Prediction chunks of any model whose ids span `id`.
pub(crate) async fn holding(db: &impl ConnectionTrait, id: u128) -> Result<Vec<Chunk>, DbErr> {
    let id = Uuid::from_u128(id);
    read_all(
        chunk::Entity::find()
            .filter(is_logged())
            .filter(chunk::Column::IdMax.gte(id))
            .filter(chunk::Column::IdMin.lte(id))
            .order_by_asc(chunk::Column::Position)
            .all(db)
            .await?,
    )
}

/// Chunks of predictions of any model whose ids overlap the range `ids`, with their positions, in order of commit from after `after`.
pub(crate) async fn spanning(
    db: &impl ConnectionTrait,
    ids: (u128, u128),
    after: i64,
    limit: u64,
) -> Result<Vec<(i64, Chunk)>, DbErr> {
    let query = chunk::Entity::find()
        .filter(is_logged())
        .filter(chunk::Column::Position.gt(after))
        .filter(chunk::Column::IdMax.gte(Uuid::from_u128(ids.0)))
        .filter(chunk::Column::IdMin.lte(Uuid::from_u128(ids.1)));
    let rows = query.order_by_asc(chunk::Column::Position).limit(limit).all(db).await?;
    rows.into_iter().map(|row| Ok((row.position, read(row)?))).collect()
}

/// Those of some object keys that a chunk has.
pub(crate) async fn known_objects(db: &impl ConnectionTrait, keys: &[String]) -> Result<HashSet<String>, DbErr> {
    let find = async |filter: SimpleExpr| -> Result<Vec<String>, DbErr> {
        let query = chunk::Entity::find().filter(filter).select_only();
        query.column(chunk::Column::ObjectKey).into_tuple().all(db).await
    };
    let by_id = find(chunk::Column::Id.is_in(keys.iter().filter_map(|key| id_of(key)))).await?;
    let mut known: HashSet<String> = by_id.into_iter().collect();
    let others: Vec<&String> = keys.iter().filter(|key| !known.contains(*key)).collect();
    if !others.is_empty() {
        // The keys have no index: only few are left, and nothing that a chunk has may count as left behind.
        known.extend(find(chunk::Column::ObjectKey.is_in(others)).await?);
    }
    Ok(known)
}

/// The id of the chunk for which an object was written.
fn id_of(key: &str) -> Option<Uuid> {
    let name = key.rsplit('/').next()?;
    name.strip_suffix(".parquet")?.parse().ok()
}

/// A chunk by its id.
pub(crate) async fn get(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<Chunk>, DbErr> {
    chunk::Entity::find().filter(chunk::Column::Id.eq(id)).one(db).await?.map(read).transpose()
}

/// Prediction chunks of a model with their positions in the order of commit, newest first, from position `from` down.
pub(crate) async fn newest_first(
    db: &impl ConnectionTrait,
    model: &ModelName,
    from: Option<i64>,
    limit: u64,
) -> Result<Vec<(i64, Chunk)>, DbErr> {
    let mut query = chunk::Entity::find().filter(chunk::Column::Model.eq(model.as_str())).filter(is_logged());
    if let Some(from) = from {
        query = query.filter(chunk::Column::Position.lte(from));
    }
    let rows = query.order_by_desc(chunk::Column::Position).limit(limit).all(db).await?;
    rows.into_iter().map(|row| Ok((row.position, read(row)?))).collect()
}

/// When the latest rows of a model were captured, without test rows.
pub(crate) async fn last_captured(
    db: &impl ConnectionTrait,
    model: &ModelName,
) -> Result<Option<DateTime<Utc>>, DbErr> {
    let query = chunk::Entity::find()
        .filter(chunk::Column::Model.eq(model.as_str()))
        .filter(chunk::Column::Kind.eq(Kind::Prediction.as_str()))
        .select_only()
        .column_as(chunk::Column::CreatedAt.max(), "created_at");
    Ok(query.into_tuple::<Option<DateTime<Utc>>>().one(db).await?.flatten())
}

/// Number of chunks of a model, of both kinds.
pub(crate) async fn count(db: &impl ConnectionTrait, model: &ModelName) -> Result<u64, DbErr> {
    chunk::Entity::find().filter(chunk::Column::Model.eq(model.as_str())).count(db).await
}
