//! The index of segments: which objects hold the rows of a span or of an id.

use chrono::{DateTime, Utc};
use rekindle_domain::{Digest, ModelName};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::{counted, entities::segment, stored, unreadable};
use crate::{
    segment::{Kind, Segment},
    window::{Timing, Window},
};

fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Prediction => "prediction",
        Kind::Outcome => "outcome",
    }
}

fn read(row: segment::Model) -> Result<Segment, DbErr> {
    let bundle = match row.bundle_digest.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error| unreadable("segments.bundle_digest", error))?),
    };
    Ok(Segment {
        id: row.id,
        kind: if row.kind == kind_text(Kind::Outcome) { Kind::Outcome } else { Kind::Prediction },
        model: row.model.parse().map_err(|error| unreadable("segments.model", error))?,
        model_version: u32::try_from(row.model_version).map_err(|error| unreadable("segments.model_version", error))?,
        bundle,
        object_key: row.object_key,
        digest: row.digest.parse().map_err(|error| unreadable("segments.digest", error))?,
        rows: counted(row.rows),
        bytes: counted(row.bytes),
        events: row.event_min.zip(row.event_max),
        ids: (row.id_min.as_u128(), row.id_max.as_u128()),
    })
}

fn read_all(rows: Vec<segment::Model>) -> Result<Vec<Segment>, DbErr> {
    rows.into_iter().map(read).collect()
}

/// Enters a segment; `latest_before` is the latest event time in the model's log before it.
pub(crate) async fn insert(
    txn: &impl ConnectionTrait,
    segment: &Segment,
    latest_before: Option<i64>,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let row = segment::ActiveModel {
        position: NotSet,
        id: Set(segment.id),
        kind: Set(kind_text(segment.kind).to_owned()),
        model: Set(segment.model.to_string()),
        model_version: Set(segment.model_version.into()),
        bundle_digest: Set(segment.bundle.as_ref().map(Digest::to_string).unwrap_or_default()),
        object_key: Set(segment.object_key.clone()),
        digest: Set(segment.digest.to_string()),
        rows: Set(stored(segment.rows)),
        bytes: Set(stored(segment.bytes)),
        event_min: Set(segment.events.map(|(min, _)| min)),
        event_max: Set(segment.events.map(|(_, max)| max)),
        id_min: Set(Uuid::from_u128(segment.ids.0)),
        id_max: Set(Uuid::from_u128(segment.ids.1)),
        latest_before: Set(latest_before),
        created_at: Set(now),
    };
    segment::Entity::insert(row).exec_without_returning(txn).await?;
    Ok(())
}

fn predictions(model: &ModelName) -> sea_orm::Select<segment::Entity> {
    segment::Entity::find()
        .filter(segment::Column::Model.eq(model.as_str()))
        .filter(segment::Column::Kind.eq(kind_text(Kind::Prediction)))
}

/// Segments that may hold rows of `window` and were not too late for it, in order of commit.
pub(crate) async fn in_window(
    db: &impl ConnectionTrait,
    model: &ModelName,
    timing: &Timing,
    window: &Window,
) -> Result<Vec<Segment>, DbErr> {
    let in_time = Condition::any()
        .add(segment::Column::LatestBefore.is_null())
        .add(segment::Column::LatestBefore.lt(timing.late_from(window)));
    read_all(
        predictions(model)
            .filter(segment::Column::EventMax.gte(window.from))
            .filter(segment::Column::EventMin.lt(window.until))
            .filter(in_time)
            .order_by_asc(segment::Column::Position)
            .all(db)
            .await?,
    )
}

/// Segments that may hold rows of a half-open span of event time, late ones too, in order of commit.
pub(crate) async fn in_span(
    db: &impl ConnectionTrait,
    model: &ModelName,
    from: Option<i64>,
    until: Option<i64>,
) -> Result<Vec<Segment>, DbErr> {
    let mut query = predictions(model);
    if let Some(from) = from {
        query = query.filter(segment::Column::EventMax.gte(from));
    }
    if let Some(until) = until {
        query = query.filter(segment::Column::EventMin.lt(until));
    }
    read_all(query.order_by_asc(segment::Column::Position).all(db).await?)
}

/// The earliest event time at or after `from` that a segment may hold; exact where a segment begins there.
pub(crate) async fn next_event(
    db: &impl ConnectionTrait,
    model: &ModelName,
    from: Option<i64>,
) -> Result<Option<i64>, DbErr> {
    let mut query = predictions(model);
    if let Some(from) = from {
        query = query.filter(segment::Column::EventMax.gte(from));
    }
    let least: Option<Option<i64>> =
        query.select_only().column_as(segment::Column::EventMin.min(), "least").into_tuple().one(db).await?;
    Ok(least.flatten().map(|least| from.map_or(least, |from| least.max(from))))
}

/// Where the first segment that lies wholly at or after `from` begins.
pub(crate) async fn next_beginning(
    db: &impl ConnectionTrait,
    model: &ModelName,
    from: i64,
) -> Result<Option<i64>, DbErr> {
    let query = predictions(model).filter(segment::Column::EventMin.gte(from));
    let least: Option<Option<i64>> =
        query.select_only().column_as(segment::Column::EventMin.min(), "least").into_tuple().one(db).await?;
    Ok(least.flatten())
}

/// Ids of the segments that hold rows on both sides of `time`.
pub(crate) async fn across(db: &impl ConnectionTrait, model: &ModelName, time: i64) -> Result<Vec<Uuid>, DbErr> {
    predictions(model)
        .filter(segment::Column::EventMin.lt(time))
        .filter(segment::Column::EventMax.gte(time))
        .select_only()
        .column(segment::Column::Id)
        .into_tuple()
        .all(db)
        .await
}

/// Outcome segments of a model that may tell of prediction ids in `ids`, in order of commit.
pub(crate) async fn outcomes_of(
    db: &impl ConnectionTrait,
    model: &ModelName,
    ids: (u128, u128),
) -> Result<Vec<Segment>, DbErr> {
    read_all(
        segment::Entity::find()
            .filter(segment::Column::Kind.eq(kind_text(Kind::Outcome)))
            .filter(segment::Column::Model.eq(model.as_str()))
            .filter(segment::Column::IdMax.gte(Uuid::from_u128(ids.0)))
            .filter(segment::Column::IdMin.lte(Uuid::from_u128(ids.1)))
            .order_by_asc(segment::Column::Position)
            .all(db)
            .await?,
    )
}

/// Prediction segments, of any model, whose ids span `id`.
pub(crate) async fn holding(db: &impl ConnectionTrait, id: u128) -> Result<Vec<Segment>, DbErr> {
    let id = Uuid::from_u128(id);
    read_all(
        segment::Entity::find()
            .filter(segment::Column::Kind.eq(kind_text(Kind::Prediction)))
            .filter(segment::Column::IdMax.gte(id))
            .filter(segment::Column::IdMin.lte(id))
            .order_by_asc(segment::Column::Position)
            .all(db)
            .await?,
    )
}

/// The latest prediction segments of a model, newest first.
pub(crate) async fn latest(db: &impl ConnectionTrait, model: &ModelName, limit: u64) -> Result<Vec<Segment>, DbErr> {
    read_all(predictions(model).order_by_desc(segment::Column::Position).limit(limit).all(db).await?)
}

/// How many segments a model has, of both kinds.
pub(crate) async fn count(db: &impl ConnectionTrait, model: &ModelName) -> Result<u64, DbErr> {
    segment::Entity::find().filter(segment::Column::Model.eq(model.as_str())).count(db).await
}
