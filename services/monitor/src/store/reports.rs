//! Reports: one row per model, version and window, entered when the window closes and completed when its quality is known.

use chrono::{DateTime, Utc};
use rekindle_domain::{ModelName, ReportId, VersionRef};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::Expr,
};
use uuid::Uuid;

use super::{counted, entities::report, stored, unreadable};
use crate::{
    report::{Quality, Report},
    window::Window,
};

fn read(row: report::Model) -> Result<Report, DbErr> {
    let parse = |column: &str, json| serde_json::from_value(json).map_err(|error| unreadable(column, error));
    let quality = row
        .quality
        .map(|json| serde_json::from_value::<Quality>(json).map_err(|error| unreadable("reports.quality", error)));
    Ok(Report {
        id: ReportId::new(row.id),
        model: row.model.parse().map_err(|error| unreadable("reports.model", error))?,
        version: VersionRef {
            version: u32::try_from(row.model_version).map_err(|error| unreadable("reports.model_version", error))?,
            bundle: row.bundle_digest.parse().map_err(|error| unreadable("reports.bundle_digest", error))?,
        },
        window: Window { from: row.from_ms, until: row.until_ms },
        rows: counted(row.rows),
        drift: parse("reports.drift", row.drift)?,
        quality: quality.transpose()?,
        ids: (row.id_min.as_u128(), row.id_max.as_u128()),
        closed_at: row.closed_at,
        quality_at: row.quality_at,
        correlation_id: row.correlation_id,
        reason: row.reason,
    })
}

/// Enters the report of a closed window. A second one for the same window and version is refused by the database.
pub(crate) async fn insert(txn: &impl ConnectionTrait, report: &Report) -> Result<(), DbErr> {
    let json = |error| unreadable("reports.drift", error);
    let row = report::ActiveModel {
        id: Set(report.id.uuid()),
        model: Set(report.model.to_string()),
        model_version: Set(report.version.version.into()),
        bundle_digest: Set(report.version.bundle.to_string()),
        from_ms: Set(report.window.from),
        until_ms: Set(report.window.until),
        rows: Set(stored(report.rows)),
        drift: Set(serde_json::to_value(&report.drift).map_err(json)?),
        quality: Set(None),
        id_min: Set(Uuid::from_u128(report.ids.0)),
        id_max: Set(Uuid::from_u128(report.ids.1)),
        closed_at: Set(report.closed_at),
        quality_at: Set(None),
        correlation_id: Set(report.correlation_id),
        reason: Set(report.reason.clone()),
    };
    report::Entity::insert(row).exec_without_returning(txn).await?;
    Ok(())
}

/// Enters the quality of a report that has none yet; `false` where it has.
pub(crate) async fn complete(
    txn: &impl ConnectionTrait,
    report: &Report,
    quality: &Quality,
    now: DateTime<Utc>,
) -> Result<bool, DbErr> {
    let json = serde_json::to_value(quality).map_err(|error| unreadable("reports.quality", error))?;
    let completed = report::Entity::update_many()
        .filter(report::Column::Id.eq(report.id.uuid()))
        .filter(report::Column::QualityAt.is_null())
        .col_expr(report::Column::Quality, Expr::value(json))
        .col_expr(report::Column::QualityAt, Expr::value(now))
        .col_expr(report::Column::Reason, Expr::value(report.reason.clone()))
        .col_expr(report::Column::CorrelationId, Expr::value(report.correlation_id))
        .exec(txn)
        .await?;
    Ok(completed.rows_affected == 1)
}

/// Reports of a model whose quality is not known yet, oldest window first.
pub(crate) async fn unjudged(db: &impl ConnectionTrait, model: &ModelName, limit: u64) -> Result<Vec<Report>, DbErr> {
    let rows = report::Entity::find()
        .filter(report::Column::Model.eq(model.as_str()))
        .filter(report::Column::QualityAt.is_null())
        .order_by_asc(report::Column::UntilMs)
        .order_by_asc(report::Column::Id)
        .limit(limit)
        .all(db)
        .await?;
    rows.into_iter().map(read).collect()
}

/// A model's reports, newest window first, from after the one with end `after.0` and id `after.1`.
pub(crate) async fn list(
    db: &impl ConnectionTrait,
    model: &ModelName,
    after: Option<(i64, Uuid)>,
    limit: u64,
) -> Result<Vec<Report>, DbErr> {
    let mut query = report::Entity::find().filter(report::Column::Model.eq(model.as_str()));
    if let Some((until, id)) = after {
        let same_window = Condition::all().add(report::Column::UntilMs.eq(until)).add(report::Column::Id.lt(id));
        query = query.filter(Condition::any().add(report::Column::UntilMs.lt(until)).add(same_window));
    }
    let rows =
        query.order_by_desc(report::Column::UntilMs).order_by_desc(report::Column::Id).limit(limit).all(db).await?;
    rows.into_iter().map(read).collect()
}
