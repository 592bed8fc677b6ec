//! Files of runs.

use chrono::{DateTime, Utc};
use rekindle_domain::{Digest, RunId};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::OnConflict,
};

use super::{entity::run_artifact, parsed, signed, unsigned};

/// A file of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) path: String,
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

/// Writes a file, over the one at its path.
pub(crate) async fn put(
    txn: &impl ConnectionTrait,
    run: RunId,
    artifact: &Artifact,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let row = run_artifact::Model {
        run_id: run.uuid(),
        path: artifact.path.clone(),
        digest: artifact.digest.to_string(),
        bytes: signed(artifact.bytes),
        written_at: now,
    };
    use run_artifact::Column;
    let replace = OnConflict::columns([Column::RunId, Column::Path])
        .update_columns([Column::Digest, Column::Bytes, Column::WrittenAt])
        .to_owned();
    run_artifact::Entity::insert(row.into_active_model()).on_conflict(replace).exec_without_returning(txn).await?;
    Ok(())
}

/// The file at a path.
pub(crate) async fn get(db: &impl ConnectionTrait, run: RunId, path: &str) -> Result<Option<Artifact>, DbErr> {
    run_artifact::Entity::find_by_id((run.uuid(), path.to_owned())).one(db).await?.map(noun).transpose()
}

/// Files whose paths begin with a text, by path, after a path.
pub(crate) async fn beginning_with(
    db: &impl ConnectionTrait,
    run: RunId,
    prefix: &str,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<Artifact>, DbErr> {
    let mut query = run_artifact::Entity::find().filter(run_artifact::Column::RunId.eq(run.uuid()));
    if !prefix.is_empty() {
        query = query.filter(run_artifact::Column::Path.starts_with(prefix));
    }
    if let Some(after) = after {
        query = query.filter(run_artifact::Column::Path.gt(after));
    }
    query.order_by_asc(run_artifact::Column::Path).limit(limit).all(db).await?.into_iter().map(noun).collect()
}

/// Deletes the file at a path. Returns whether there was one.
pub(crate) async fn delete(txn: &impl ConnectionTrait, run: RunId, path: &str) -> Result<bool, DbErr> {
    let deleted = run_artifact::Entity::delete_by_id((run.uuid(), path.to_owned())).exec(txn).await?;
    Ok(deleted.rows_affected > 0)
}

fn noun(row: run_artifact::Model) -> Result<Artifact, DbErr> {
    let run_artifact::Model { path, digest, bytes, .. } = row;
    Ok(Artifact { path, digest: parsed("digest", &digest)?, bytes: unsigned("bytes", bytes)? })
}
