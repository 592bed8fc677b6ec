//! Files of runs and of logged models.

use chrono::{DateTime, Utc};
use rekindle_domain::Digest;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::OnConflict,
};
use uuid::Uuid;

use super::{entity::artifact, parsed, signed, unsigned};

/// A file of a run or of a logged model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) path: String,
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

/// Writes a file, over the one at its path.
pub(crate) async fn put(
    txn: &impl ConnectionTrait,
    owner: Uuid,
    file: &Artifact,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let row = artifact::Model {
        owner,
        path: file.path.clone(),
        digest: file.digest.to_string(),
        bytes: signed(file.bytes),
        written_at: now,
    };
    use artifact::Column;
    let replace = OnConflict::columns([Column::Owner, Column::Path])
        .update_columns([Column::Digest, Column::Bytes, Column::WrittenAt])
        .to_owned();
    artifact::Entity::insert(row.into_active_model()).on_conflict(replace).exec_without_returning(txn).await?;
    Ok(())
}

/// The file at a path.
pub(crate) async fn get(db: &impl ConnectionTrait, owner: Uuid, path: &str) -> Result<Option<Artifact>, DbErr> {
    artifact::Entity::find_by_id((owner, path.to_owned())).one(db).await?.map(noun).transpose()
}

/// Files whose paths begin with a text, by path, after a path.
pub(crate) async fn beginning_with(
    db: &impl ConnectionTrait,
    owner: Uuid,
    prefix: &str,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<Artifact>, DbErr> {
    let mut query = artifact::Entity::find().filter(artifact::Column::Owner.eq(owner));
    if !prefix.is_empty() {
        query = query.filter(artifact::Column::Path.starts_with(prefix));
    }
    if let Some(after) = after {
        query = query.filter(artifact::Column::Path.gt(after));
    }
    query.order_by_asc(artifact::Column::Path).limit(limit).all(db).await?.into_iter().map(noun).collect()
}

/// Deletes the file at a path. Returns whether there was one.
pub(crate) async fn delete(txn: &impl ConnectionTrait, owner: Uuid, path: &str) -> Result<bool, DbErr> {
    let deleted = artifact::Entity::delete_by_id((owner, path.to_owned())).exec(txn).await?;
    Ok(deleted.rows_affected > 0)
}

fn noun(row: artifact::Model) -> Result<Artifact, DbErr> {
    let artifact::Model { path, digest, bytes, .. } = row;
    Ok(Artifact { path, digest: parsed("digest", &digest)?, bytes: unsigned("bytes", bytes)? })
}
