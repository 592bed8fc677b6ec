//! Datasets and their versions.

use chrono::{DateTime, Utc};
use rekindle_domain::{DatasetName, Digest, Namespace, dataset::DatasetVersion};
use rekindle_store::within;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
    sea_query::{Expr, Query},
};

use super::{
    entity::{
        Digests, dataset,
        dataset_version::{self, Columns, Declared, Profile, Violations},
    },
    names, parsed, signed, unsigned, version_number,
};

/// Takes the next number of a dataset, which is made if need be. Holds the dataset's row until the transaction ends.
pub(crate) async fn take_number(
    txn: &impl ConnectionTrait,
    name: &DatasetName,
    now: DateTime<Utc>,
) -> Result<u32, DbErr> {
    let first = dataset::ActiveModel { name: Set(name.to_string()), latest: Set(0), created_at: Set(now) };
    dataset::Entity::insert(first)
        .on_conflict_do_nothing_on([dataset::Column::Name])
        .exec_without_returning(txn)
        .await?;
    dataset::Entity::update_many()
        .col_expr(dataset::Column::Latest, Expr::col(dataset::Column::Latest).add(1))
        .filter(dataset::Column::Name.eq(name.as_str()))
        .exec(txn)
        .await?;
    let row = dataset::Entity::find_by_id(name.as_str()).one(txn).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound(format!("dataset {name} after its insert")))?;
    unsigned("latest", row.latest.into())
}

/// Writes a version.
pub(crate) async fn insert(txn: &impl ConnectionTrait, version: &DatasetVersion) -> Result<(), DbErr> {
    let (time_min, time_max) = version.time_range.unzip();
    let row = dataset_version::Model {
        name: version.name.to_string(),
        version: version_number(version.version),
        content_digest: version.content.to_string(),
        blob_digest: version.blob.to_string(),
        rows: signed(version.rows),
        bytes: signed(version.bytes),
        columns: Columns(version.columns.clone()),
        time_column: version.time_column.clone(),
        time_min,
        time_max,
        parents: Digests(version.parents.clone()),
        description: version.description.clone(),
        profile: Profile(version.profile.clone()),
        created_at: version.created_at,
        declared: version.schema.clone().map(Declared),
        violations: Some(Violations(version.violations.clone())).filter(|violations| !violations.0.is_empty()),
        deleted_at: version.deleted_at,
    };
    row.into_active_model().insert(txn).await?;
    Ok(())
}

/// One version, deleted or not; `None` asks for the latest that is not deleted.
pub(crate) async fn get(
    db: &impl ConnectionTrait,
    name: &DatasetName,
    version: Option<u32>,
) -> Result<Option<DatasetVersion>, DbErr> {
    let mut query = dataset_version::Entity::find().filter(dataset_version::Column::Name.eq(name.as_str()));
    query = match version {
        Some(version) => query.filter(dataset_version::Column::Version.eq(version_number(version))),
        None => query.filter(dataset_version::Column::DeletedAt.is_null()),
    };
    query.order_by_desc(dataset_version::Column::Version).one(db).await?.map(noun).transpose()
}

/// A version, or all of a dataset, deleted or not, by number.
pub(crate) async fn all_versions(
    db: &impl ConnectionTrait,
    name: &DatasetName,
    version: Option<u32>,
) -> Result<Vec<DatasetVersion>, DbErr> {
    let mut query = dataset_version::Entity::find().filter(dataset_version::Column::Name.eq(name.as_str()));
    if let Some(version) = version {
        query = query.filter(dataset_version::Column::Version.eq(version_number(version)));
    }
    let rows = query.order_by_asc(dataset_version::Column::Version).all(db).await?;
    rows.into_iter().map(noun).collect()
}

/// Writes whether a version is deleted.
pub(crate) async fn set_deleted(txn: &impl ConnectionTrait, version: &DatasetVersion) -> Result<(), DbErr> {
    dataset_version::Entity::update_many()
        .col_expr(dataset_version::Column::DeletedAt, Expr::value(version.deleted_at))
        .filter(dataset_version::Column::Name.eq(version.name.as_str()))
        .filter(dataset_version::Column::Version.eq(version_number(version.version)))
        .exec(txn)
        .await?;
    Ok(())
}

/// The versions of one dataset that are not deleted, newest first, before one.
pub(crate) async fn versions(
    db: &impl ConnectionTrait,
    name: &DatasetName,
    before: Option<u32>,
    limit: u64,
) -> Result<Vec<DatasetVersion>, DbErr> {
    let mut query = dataset_version::Entity::find()
        .filter(dataset_version::Column::Name.eq(name.as_str()))
        .filter(dataset_version::Column::DeletedAt.is_null());
    if let Some(before) = before {
        query = query.filter(dataset_version::Column::Version.lt(version_number(before)));
    }
    let rows = query.order_by_desc(dataset_version::Column::Version).limit(limit).all(db).await?;
    rows.into_iter().map(noun).collect()
}

/// The latest version that is not deleted of each dataset of a namespace, by name after one.
pub(crate) async fn latest_of_each(
    db: &impl ConnectionTrait,
    namespace: &Namespace,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<DatasetVersion>, DbErr> {
    let other = |column: dataset_version::Column| Expr::col(("other", column));
    let name = (dataset_version::Entity, dataset_version::Column::Name);
    let latest = Query::select()
        .expr(other(dataset_version::Column::Version).max())
        .from_as(dataset_version::Entity, "other")
        .and_where(other(dataset_version::Column::Name).equals(name))
        .and_where(other(dataset_version::Column::DeletedAt).is_null())
        .take();
    let mut query = dataset_version::Entity::find()
        .filter(dataset_version::Column::Version.in_subquery(latest))
        .filter(within(namespace, dataset_version::Column::Name));
    if let Some(after) = after {
        query = query.filter(dataset_version::Column::Name.gt(after));
    }
    let rows = query.order_by_asc(dataset_version::Column::Name).limit(limit).all(db).await?;
    rows.into_iter().map(noun).collect()
}

/// Every version whose content or blob has one of these digests, by name and version.
pub(crate) async fn by_digests(db: &impl ConnectionTrait, digests: &[Digest]) -> Result<Vec<DatasetVersion>, DbErr> {
    let texts: Vec<String> = digests.iter().map(Digest::to_string).collect();
    let either = Condition::any()
        .add(dataset_version::Column::ContentDigest.is_in(texts.clone()))
        .add(dataset_version::Column::BlobDigest.is_in(texts));
    let rows = dataset_version::Entity::find()
        .filter(either)
        .order_by_asc(dataset_version::Column::Name)
        .order_by_asc(dataset_version::Column::Version)
        .all(db)
        .await?;
    rows.into_iter().map(noun).collect()
}

/// The versions that name the content or the blob of this one as a parent.
pub(crate) async fn children_of(
    db: &impl ConnectionTrait,
    version: &DatasetVersion,
) -> Result<Vec<DatasetVersion>, DbErr> {
    use dataset_version::Column::Parents;
    let either = Condition::any().add(names(Parents, &version.content)).add(names(Parents, &version.blob));
    let rows = dataset_version::Entity::find().filter(either).all(db).await?;
    rows.into_iter().map(noun).collect()
}

fn noun(row: dataset_version::Model) -> Result<DatasetVersion, DbErr> {
    Ok(DatasetVersion {
        name: parsed("name", &row.name)?,
        version: unsigned("version", row.version.into())?,
        content: parsed("content_digest", &row.content_digest)?,
        blob: parsed("blob_digest", &row.blob_digest)?,
        rows: unsigned("rows", row.rows)?,
        bytes: unsigned("bytes", row.bytes)?,
        columns: row.columns.0,
        time_column: row.time_column,
        time_range: row.time_min.zip(row.time_max),
        parents: row.parents.0,
        description: row.description,
        profile: row.profile.0,
        created_at: row.created_at,
        schema: row.declared.map(|declared| declared.0),
        violations: row.violations.map(|violations| violations.0).unwrap_or_default(),
        deleted_at: row.deleted_at,
    })
}
