//! Which measured reports do not count all outcomes: the position of the log up to which a report counts them, beside the outcome chunks that
//! may be about its rows.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use rekindle_domain::{ModelName, report::WindowReport};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select,
    sea_query::{Expr, ExprTrait as _, Query},
};
use uuid::Uuid;

use super::{
    chunks,
    entities::{chunk, report},
    reports::read,
};
use crate::report::Report;

/// Notes that the quality of a report counts the outcomes up to a position of the log.
pub(crate) async fn count_until(txn: &impl ConnectionTrait, report: &WindowReport, position: i64) -> Result<(), DbErr> {
    let update = report::Entity::update_many().filter(report::Column::Id.eq(report.window.report.uuid()));
    update.col_expr(report::Column::OutcomesPosition, Expr::value(position)).exec(txn).await?;
    Ok(())
}

/// The measured reports of a model.
fn measured(model: &ModelName) -> Select<report::Entity> {
    report::Entity::find()
        .filter(report::Column::Model.eq(model.as_str()))
        .filter(report::Column::QualityAt.is_not_null())
}

/// The position of the log up to which every measured quality counts its outcomes; `None` if none is measured.
pub(crate) async fn counted_until(db: &impl ConnectionTrait, model: &ModelName) -> Result<Option<i64>, DbErr> {
    let query = measured(model).select_only().column_as(report::Column::OutcomesPosition.min(), "earliest");
    let earliest: Option<Option<i64>> = query.into_tuple().one(db).await?;
    Ok(earliest.flatten())
}

/// A chunk of outcomes that a measured report does not count.
pub(crate) struct Uncounted {
    pub(crate) captured_at: DateTime<Utc>,
    pub(crate) position: i64,
    ids: (Uuid, Uuid),
}

/// The earliest chunk of outcomes after a position that a measured report may have outcomes in and does not count, but for some reports.
pub(crate) async fn uncounted(
    db: &impl ConnectionTrait,
    model: &ModelName,
    after: i64,
    but: &HashSet<Uuid>,
) -> Result<Option<Uncounted>, DbErr> {
    let of_report = |column: report::Column| Expr::col((report::Entity, column));
    let of_chunk = |column: chunk::Column| Expr::col((chunk::Entity, column));
    let not_counting = Query::select()
        .expr(Expr::value(1))
        .from(report::Entity)
        .and_where(of_report(report::Column::Model).eq(model.as_str()))
        .and_where(of_report(report::Column::QualityAt).is_not_null())
        .and_where(of_report(report::Column::Id).is_not_in(but.iter().copied()))
        .and_where(of_report(report::Column::OutcomesPosition).lt(of_chunk(chunk::Column::Position)))
        .and_where(of_report(report::Column::IdMin).lte(of_chunk(chunk::Column::IdMax)))
        .and_where(of_report(report::Column::IdMax).gte(of_chunk(chunk::Column::IdMin)))
        .to_owned();
    let query = chunks::outcomes(model)
        .filter(chunk::Column::Position.gt(after))
        .filter(Expr::exists(not_counting))
        .order_by_asc(chunk::Column::Position);
    let found = query.limit(1).one(db).await?;
    Ok(found.map(|chunk| Uncounted {
        captured_at: chunk.created_at,
        position: chunk.position,
        ids: (chunk.id_min, chunk.id_max),
    }))
}

/// The earliest measured report of a model that may have outcomes in a chunk and does not count it, but for some reports.
pub(crate) async fn not_counting(
    db: &impl ConnectionTrait,
    model: &ModelName,
    chunk: &Uncounted,
    but: &HashSet<Uuid>,
) -> Result<Option<Report>, DbErr> {
    let query = measured(model)
        .filter(report::Column::OutcomesPosition.lt(chunk.position))
        .filter(report::Column::Id.is_not_in(but.iter().copied()))
        .filter(report::Column::IdMin.lte(chunk.ids.1))
        .filter(report::Column::IdMax.gte(chunk.ids.0));
    query.order_by_asc(report::Column::UntilMs).limit(1).one(db).await?.map(read).transpose()
}

#[cfg(test)]
mod tests {
    use rekindle_domain::{Digest, ReportId, report::Quality};

    use super::*;
    use crate::{
        chunk::{Chunk, Kind},
        evaluate::contents::tests::report,
        ownership::tests::database,
        store::reports::{complete, insert},
        window::Window,
    };

    #[tokio::test]
    async fn a_report_that_cannot_be_measured_again_hides_no_other() {
        let db = database().await;
        let (model, none) = ("flights".parse::<ModelName>().expect("a name"), HashSet::new());
        let mut reports = Vec::new();
        for (n, ids) in [(1, (10, 19)), (2, (20, 29))] {
            let mut report = report(Window { from: (n - 1) * 100, until: n * 100 }, 40);
            report.content.window.report = ReportId::new(Uuid::from_u128(n.unsigned_abs().into()));
            report.ids = ids;
            insert(&db, &report).await.expect("inserts");
            assert!(complete(&db, &report.content, &Quality::inconclusive(), 0, Utc::now()).await.expect("completes"));
            let chunk = outcomes(&model, ids);
            chunks::insert(&db, &chunk, None, Utc::now()).await.expect("inserts");
            reports.push(report.content);
        }
        let found = async |after: i64, but: &HashSet<Uuid>| {
            let chunk = uncounted(&db, &model, after, but).await.expect("readable")?;
            let report = not_counting(&db, &model, &chunk, but).await.expect("readable")?;
            Some(report.content.window.report.uuid())
        };
        let [first, second] = [&reports[0], &reports[1]].map(|report| report.window.report.uuid());
        assert_eq!(found(0, &none).await, Some(first));
        let failed = HashSet::from([first]);
        assert_eq!(found(0, &failed).await, Some(second));
        count_until(&db, &reports[1], 2).await.expect("stored");
        assert_eq!((found(0, &failed).await, found(0, &none).await), (None, Some(first)));
        count_until(&db, &reports[0], 2).await.expect("stored");
        assert_eq!((found(0, &none).await, counted_until(&db, &model).await.expect("readable")), (None, Some(2)));
    }

    fn outcomes(model: &ModelName, ids: (u128, u128)) -> Chunk {
        Chunk {
            id: Uuid::now_v7(),
            kind: Kind::Outcome,
            model: model.clone(),
            model_version: 0,
            bundle: None,
            object_key: Uuid::now_v7().to_string(),
            digest: Digest::of(b"outcomes"),
            rows: 1,
            bytes: 1,
            events: None,
            ids,
        }
    }
}
