//! Watches: settings per model, updated by compare-and-set.

use std::collections::HashMap;

use chrono::TimeDelta;
use rekindle_domain::{ModelName, Watch, WatchSettings};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, OnConflict},
};

use super::{counted, entities::watch, record, stored, unreadable};

/// The watch of a model; the defaults, at revision 0, if none was set.
pub(crate) async fn get(db: &impl ConnectionTrait, model: &ModelName) -> Result<Watch, DbErr> {
    let Some(row) = watch::Entity::find_by_id(model.as_str()).one(db).await? else {
        return Ok(Watch { model: model.clone(), settings: WatchSettings::default(), revision: 0 });
    };
    let settings = record::decode(row.settings)?;
    Ok(Watch { model: model.clone(), settings, revision: counted(row.revision) })
}

/// The revision of every watch, by model.
pub(crate) async fn revisions(db: &impl ConnectionTrait) -> Result<HashMap<String, i64>, DbErr> {
    let query = watch::Entity::find().select_only().columns([watch::Column::Model, watch::Column::Revision]);
    let rows: Vec<(String, i64)> = query.into_tuple().all(db).await?;
    Ok(rows.into_iter().collect())
}

/// The models with a feed timeout, each with it.
pub(crate) async fn feed_timeouts(db: &impl ConnectionTrait) -> Result<Vec<(ModelName, TimeDelta)>, DbErr> {
    let query = watch::Entity::find().filter(watch::Column::FeedTimeoutMs.is_not_null()).select_only();
    let columns = [watch::Column::Model, watch::Column::FeedTimeoutMs];
    let rows: Vec<(String, i64)> = query.columns(columns).into_tuple().all(db).await?;
    let read = |(model, millis): (String, i64)| {
        let model = model.parse().map_err(|error| unreadable("watches.model", error))?;
        Ok((model, TimeDelta::try_milliseconds(millis).unwrap_or(TimeDelta::MAX)))
    };
    rows.into_iter().map(read).collect()
}

/// Replaces the settings at revision `expected` (0: none are set); `false` if the watch is at another revision.
pub(crate) async fn set(
    db: &impl ConnectionTrait,
    model: &ModelName,
    settings: &WatchSettings,
    expected: u64,
) -> Result<bool, DbErr> {
    let json = record::encode(settings)?;
    let feed_timeout = settings.feed_timeout.map(|timeout| i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX));
    if expected == 0 {
        let row = watch::ActiveModel {
            model: Set(model.to_string()),
            settings: Set(json),
            revision: Set(1),
            feed_timeout_ms: Set(feed_timeout),
        };
        let inserted = watch::Entity::insert(row)
            .on_conflict(OnConflict::column(watch::Column::Model).do_nothing().to_owned())
            .exec_without_returning(db)
            .await?;
        return Ok(inserted == 1);
    }
    let moved = watch::Entity::update_many()
        .filter(watch::Column::Model.eq(model.as_str()))
        .filter(watch::Column::Revision.eq(stored(expected)))
        .col_expr(watch::Column::Settings, Expr::value(json))
        .col_expr(watch::Column::FeedTimeoutMs, Expr::value(feed_timeout))
        .col_expr(watch::Column::Revision, Expr::value(stored(expected + 1)))
        .exec(db)
        .await?;
    Ok(moved.rows_affected == 1)
}
