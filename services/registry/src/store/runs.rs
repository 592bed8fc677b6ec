//! Runs and their metrics.

pub(crate) mod metrics;
mod search;

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekindle_domain::{
    Digest, IdPrefix, RunId,
    run::{Run, RunProgress, RunStatus},
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, prelude::Json, sea_query::Expr,
};

use super::{
    entity::{
        Digests, Texts,
        run::{self, Status},
    },
    names, parsed, signed, unsigned,
};
use crate::run::Leased;

pub(crate) use self::search::{Position, Search, search};

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

/// Runs that have read a dataset of this content, newest first, without their metrics.
pub(crate) async fn of_dataset(db: &impl ConnectionTrait, content: &Digest, limit: u64) -> Result<Vec<Leased>, DbErr> {
    let query = run::Entity::find().filter(names(run::Column::DatasetDigests, content));
    query.order_by_desc(run::Column::Id).limit(limit).all(db).await?.into_iter().map(noun).collect()
}

/// Runs that are not deleted and not over and read a dataset of this content, without their metrics.
pub(crate) async fn in_progress_of_dataset(
    db: &impl ConnectionTrait,
    content: &Digest,
    limit: u64,
) -> Result<Vec<Leased>, DbErr> {
    let query = run::Entity::find()
        .filter(run::Column::Status.is_in([Status::Scheduled, Status::Running]))
        .filter(run::Column::DeletedAt.is_null())
        .filter(names(run::Column::DatasetDigests, content));
    query.order_by_desc(run::Column::Id).limit(limit).all(db).await?.into_iter().map(noun).collect()
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

/// Renews the lease of a running run, and writes how far it is if that is given; returns whether it is running.
pub(crate) async fn renew(
    txn: &impl ConnectionTrait,
    id: RunId,
    until: DateTime<Utc>,
    progress: Option<&RunProgress>,
) -> Result<bool, DbErr> {
    let mut renewed = run::Entity::update_many().col_expr(run::Column::LeaseUntil, Expr::value(until));
    if progress.is_some() {
        renewed = renewed.col_expr(run::Column::Progress, Expr::value(json(progress)));
    }
    let result =
        renewed.filter(run::Column::Id.eq(id.uuid())).filter(run::Column::Status.eq(Status::Running)).exec(txn).await?;
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

fn json(progress: Option<&RunProgress>) -> Option<Json> {
    progress.and_then(|progress| serde_json::to_value(progress).ok())
}

fn row(Leased { run, lease_until, lease }: &Leased) -> run::Model {
    run::Model {
        id: run.id.uuid(),
        parent_id: run.parent_id.map(RunId::uuid),
        lease_ms: lease.map(|lease| i64::try_from(lease.as_millis()).unwrap_or(i64::MAX)),
        progress: json(run.progress.as_ref()),
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
        deleted_at: run.deleted_at,
        lease_until: *lease_until,
        revision: signed(run.revision),
    }
}

fn noun(row: run::Model) -> Result<Leased, DbErr> {
    let lease = row.lease_ms.map(|millis| unsigned("lease_ms", millis).map(Duration::from_millis)).transpose()?;
    let run = Run {
        id: RunId::new(row.id),
        parent_id: row.parent_id.map(RunId::new),
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
        deleted_at: row.deleted_at,
        // It is not worth more than the run: what a later release wrote is left out.
        progress: row.progress.and_then(|progress| serde_json::from_value(progress).ok()),
        revision: unsigned("revision", row.revision)?,
    };
    Ok(Leased { run, lease_until: row.lease_until, lease })
}
