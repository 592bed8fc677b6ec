//! Runs and their metrics.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rekindle_domain::{
    ExperimentName, IdPrefix, Namespace, RunId,
    run::{Metric, Run, RunStatus},
};
use rekindle_store::within;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, ExprTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, OnConflict, Query},
};

use super::{
    entity::{
        Digests, Texts,
        run::{self, Status},
        run_metric,
    },
    parsed, signed, unsigned,
};
use crate::run::Leased;

/// Rows of one insert statement: five values each, well below what either database binds at once.
const METRICS_AT_ONCE: usize = 1000;

/// Writes a new run.
pub(crate) async fn insert(txn: &impl ConnectionTrait, leased: &Leased) -> Result<(), DbErr> {
    row(leased).into_active_model().insert(txn).await?;
    Ok(())
}

/// One run, without its metrics.
pub(crate) async fn get(db: &impl ConnectionTrait, id: RunId) -> Result<Option<Leased>, DbErr> {
    run::Entity::find_by_id(id.uuid()).one(db).await?.map(noun).transpose()
}

/// Runs whose id begins so, by id, without their metrics.
pub(crate) async fn beginning_with(
    db: &impl ConnectionTrait,
    prefix: &IdPrefix,
    limit: u64,
) -> Result<Vec<Leased>, DbErr> {
    let (first, last) = prefix.range();
    let query = run::Entity::find().filter(run::Column::Id.between(first, last));
    query.order_by_asc(run::Column::Id).limit(limit).all(db).await?.into_iter().map(noun).collect()
}

/// Whether a run has a point of a metric.
pub(crate) async fn has_metric(db: &impl ConnectionTrait, id: RunId, name: &str) -> Result<bool, DbErr> {
    let query = run_metric::Entity::find()
        .filter(run_metric::Column::RunId.eq(id.uuid()))
        .filter(run_metric::Column::Name.eq(name));
    Ok(query.one(db).await?.is_some())
}

/// The names of the metrics of a run.
pub(crate) async fn metric_names(db: &impl ConnectionTrait, id: RunId, limit: u64) -> Result<Vec<String>, DbErr> {
    let query = run_metric::Entity::find().select_only().column(run_metric::Column::Name).distinct();
    let query = query.filter(run_metric::Column::RunId.eq(id.uuid())).order_by_asc(run_metric::Column::Name);
    query.limit(limit).into_tuple().all(db).await
}

/// Writes a run over the revision that was read; returns whether it was written.
pub(crate) async fn update(txn: &impl ConnectionTrait, leased: &Leased, read_revision: u64) -> Result<bool, DbErr> {
    let changed = row(leased).into_active_model().reset_all();
    let result = run::Entity::update_many()
        .set(changed)
        .filter(run::Column::Id.eq(leased.run.id.uuid()))
        .filter(run::Column::Revision.eq(signed(read_revision)))
        .exec(txn)
        .await?;
    Ok(result.rows_affected == 1)
}

/// Renews the lease of a running run; returns whether it is running.
pub(crate) async fn renew(txn: &impl ConnectionTrait, id: RunId, until: DateTime<Utc>) -> Result<bool, DbErr> {
    let result = run::Entity::update_many()
        .col_expr(run::Column::LeaseUntil, Expr::value(until))
        .filter(run::Column::Id.eq(id.uuid()))
        .filter(run::Column::Status.eq(Status::Running))
        .exec(txn)
        .await?;
    Ok(result.rows_affected == 1)
}

/// Runs whose lease expired before `now`, the earliest first.
pub(crate) async fn expired(db: &impl ConnectionTrait, now: DateTime<Utc>, limit: u64) -> Result<Vec<RunId>, DbErr> {
    let rows = run::Entity::find()
        .filter(run::Column::Status.is_in([Status::Scheduled, Status::Running]))
        .filter(run::Column::LeaseUntil.lt(now))
        .order_by_asc(run::Column::LeaseUntil)
        .limit(limit)
        .all(db)
        .await?;
    Ok(rows.into_iter().map(|row| RunId::new(row.id)).collect())
}

/// Runs of one experiment or of a namespace, newest first, after the last run of the page before.
pub(crate) async fn list(
    db: &impl ConnectionTrait,
    namespace: &Namespace,
    experiment: Option<&ExperimentName>,
    after: Option<(DateTime<Utc>, RunId)>,
    limit: u64,
) -> Result<Vec<Leased>, DbErr> {
    let mut query = match experiment {
        Some(experiment) => run::Entity::find().filter(run::Column::Experiment.eq(experiment.as_str())),
        None => run::Entity::find().filter(within(namespace, run::Column::Experiment)),
    };
    if let Some((created_at, id)) = after {
        let same_time = run::Column::CreatedAt.eq(created_at).and(run::Column::Id.lt(id.uuid()));
        query = query.filter(Condition::any().add(run::Column::CreatedAt.lt(created_at)).add(same_time));
    }
    let query = query.order_by_desc(run::Column::CreatedAt).order_by_desc(run::Column::Id).limit(limit);
    query.all(db).await?.into_iter().map(noun).collect()
}

/// Appends points; one with the same name and step is replaced.
pub(crate) async fn put_metrics(
    txn: &impl ConnectionTrait,
    id: RunId,
    metrics: &[Metric],
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    // One statement must not touch a row twice, so of several points with one key the last is kept.
    let unique: BTreeMap<(&str, i64), &Metric> = metrics.iter().map(|m| ((m.name.as_str(), m.step), m)).collect();
    let rows: Vec<_> = unique
        .into_values()
        .map(|metric| {
            let Metric { name, value, step, time } = metric.clone();
            let time = time.unwrap_or(now);
            run_metric::Model { run_id: id.uuid(), name, step, value, time }.into_active_model()
        })
        .collect();
    for rows in rows.chunks(METRICS_AT_ONCE) {
        let replace =
            OnConflict::columns([run_metric::Column::RunId, run_metric::Column::Name, run_metric::Column::Step])
                .update_columns([run_metric::Column::Value, run_metric::Column::Time])
                .to_owned();
        run_metric::Entity::insert_many(rows.iter().cloned()).on_conflict(replace).exec_without_returning(txn).await?;
    }
    Ok(())
}

/// The points of one metric, by step, after a step.
pub(crate) async fn metric_history(
    db: &impl ConnectionTrait,
    id: RunId,
    name: &str,
    after: Option<i64>,
    limit: u64,
) -> Result<Vec<Metric>, DbErr> {
    let mut query = run_metric::Entity::find()
        .filter(run_metric::Column::RunId.eq(id.uuid()))
        .filter(run_metric::Column::Name.eq(name));
    if let Some(after) = after {
        query = query.filter(run_metric::Column::Step.gt(after));
    }
    let rows = query.order_by_asc(run_metric::Column::Step).limit(limit).all(db).await?;
    Ok(rows.into_iter().map(metric).collect())
}

/// The point with the highest step of each metric of each of these runs, by name.
pub(crate) async fn last_metrics(
    db: &impl ConnectionTrait,
    ids: &[RunId],
) -> Result<BTreeMap<RunId, Vec<Metric>>, DbErr> {
    let ids: Vec<_> = ids.iter().map(|id| id.uuid()).collect();
    let last = sea_orm::sea_query::Alias::new("later");
    let later = Query::select()
        .expr(Expr::val(1))
        .from_as(run_metric::Entity, last.clone())
        .and_where(Expr::col((last.clone(), run_metric::Column::RunId)).eq(run_metric::Column::RunId.into_expr()))
        .and_where(Expr::col((last.clone(), run_metric::Column::Name)).eq(run_metric::Column::Name.into_expr()))
        .and_where(Expr::col((last, run_metric::Column::Step)).gt(run_metric::Column::Step.into_expr()))
        .to_owned();
    let rows = run_metric::Entity::find()
        .filter(run_metric::Column::RunId.is_in(ids))
        .filter(Expr::exists(later).not())
        .order_by_asc(run_metric::Column::Name)
        .all(db)
        .await?;
    let mut by_run = BTreeMap::<RunId, Vec<Metric>>::new();
    for row in rows {
        by_run.entry(RunId::new(row.run_id)).or_default().push(metric(row));
    }
    Ok(by_run)
}

fn metric(row: run_metric::Model) -> Metric {
    Metric { name: row.name, value: row.value, step: row.step, time: Some(row.time) }
}

fn row(Leased { run, lease_until }: &Leased) -> run::Model {
    run::Model {
        id: run.id.uuid(),
        experiment: run.experiment.to_string(),
        status: run.status.into(),
        params: Texts(run.params.clone()),
        tags: Texts(run.tags.clone()),
        code_revision: run.code_revision.clone(),
        dataset_digests: Digests(run.dataset_digests.clone()),
        seed: run.seed.cast_signed(),
        outputs: Texts(run.outputs.clone()),
        error: run.error.clone(),
        created_at: run.created_at,
        started_at: run.started_at,
        ended_at: run.ended_at,
        lease_until: *lease_until,
        revision: signed(run.revision),
    }
}

fn noun(row: run::Model) -> Result<Leased, DbErr> {
    let run = Run {
        id: RunId::new(row.id),
        experiment: parsed("experiment", &row.experiment)?,
        status: RunStatus::from(row.status),
        params: row.params.0,
        tags: row.tags.0,
        code_revision: row.code_revision,
        dataset_digests: row.dataset_digests.0,
        seed: row.seed.cast_unsigned(),
        metrics: Vec::new(),
        outputs: row.outputs.0,
        error: row.error,
        created_at: row.created_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        revision: unsigned("revision", row.revision)?,
    };
    Ok(Leased { run, lease_until: row.lease_until })
}
