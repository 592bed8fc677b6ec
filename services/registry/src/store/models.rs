//! Models and their versions.

use chrono::{DateTime, Utc};
use rekindle_domain::{
    Digest, ModelName, Namespace, RunId,
    model_version::{ModelVersion, Review},
};
use rekindle_store::within;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, ExprTrait, IntoActiveModel,
    JoinType, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr,
};

use super::{
    entity::{Digests, Numbers, model, model_version},
    parsed, signed, unsigned, version_number,
};
use crate::model_version::Registered;

/// Takes the next version number of a model, which is created if it does not exist. Locks the row of the model until the transaction ends.
pub(crate) async fn take_number(
    txn: &impl ConnectionTrait,
    name: &ModelName,
    now: DateTime<Utc>,
) -> Result<u32, DbErr> {
    let first = model::ActiveModel { name: Set(name.to_string()), latest: Set(0), created_at: Set(now) };
    model::Entity::insert(first).on_conflict_do_nothing_on([model::Column::Name]).exec_without_returning(txn).await?;
    model::Entity::update_many()
        .col_expr(model::Column::Latest, Expr::col(model::Column::Latest).add(1))
        .filter(model::Column::Name.eq(name.as_str()))
        .exec(txn)
        .await?;
    let row = model::Entity::find_by_id(name.as_str()).one(txn).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound(format!("model {name} after its insert")))?;
    unsigned("latest", row.latest.into())
}

/// Writes a new version.
pub(crate) async fn insert(txn: &impl ConnectionTrait, registered: &Registered) -> Result<(), DbErr> {
    row(registered).into_active_model().insert(txn).await?;
    Ok(())
}

/// Writes a version over the revision that was read; returns whether it was written.
pub(crate) async fn update(
    txn: &impl ConnectionTrait,
    registered: &Registered,
    read_revision: u64,
) -> Result<bool, DbErr> {
    let version = &registered.version;
    let changed = row(registered).into_active_model().reset_all();
    let result = model_version::Entity::update_many()
        .set(changed)
        .filter(model_version::Column::Model.eq(version.model.as_str()))
        .filter(model_version::Column::Version.eq(version_number(version.version)))
        .filter(model_version::Column::Revision.eq(signed(read_revision)))
        .exec(txn)
        .await?;
    Ok(result.rows_affected == 1)
}

/// One version without its aliases; `None` asks for the latest.
pub(crate) async fn get(
    db: &impl ConnectionTrait,
    model: &ModelName,
    version: Option<u32>,
) -> Result<Option<Registered>, DbErr> {
    let mut query = model_version::Entity::find().filter(model_version::Column::Model.eq(model.as_str()));
    if let Some(version) = version {
        query = query.filter(model_version::Column::Version.eq(version_number(version)));
    }
    query.order_by_desc(model_version::Column::Version).one(db).await?.map(noun).transpose()
}

/// The versions of one model without their aliases, newest first, before one.
pub(crate) async fn versions(
    db: &impl ConnectionTrait,
    model: &ModelName,
    before: Option<u32>,
    limit: u64,
) -> Result<Vec<Registered>, DbErr> {
    let mut query = model_version::Entity::find().filter(model_version::Column::Model.eq(model.as_str()));
    if let Some(before) = before {
        query = query.filter(model_version::Column::Version.lt(version_number(before)));
    }
    let rows = query.order_by_desc(model_version::Column::Version).limit(limit).all(db).await?;
    rows.into_iter().map(noun).collect()
}

/// Every version with this bundle, by model and version.
pub(crate) async fn by_bundle(
    db: &impl ConnectionTrait,
    bundle: &Digest,
    limit: u64,
) -> Result<Vec<Registered>, DbErr> {
    let rows = model_version::Entity::find()
        .filter(model_version::Column::BundleDigest.eq(bundle.to_string()))
        .order_by_asc(model_version::Column::Model)
        .order_by_asc(model_version::Column::Version)
        .limit(limit)
        .all(db)
        .await?;
    rows.into_iter().map(noun).collect()
}

/// The latest version of each model of a namespace without its aliases, by name after one.
pub(crate) async fn latest_of_each(
    db: &impl ConnectionTrait,
    namespace: &Namespace,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<Registered>, DbErr> {
    let same_name = model_version::Entity::belongs_to(model::Entity)
        .from(model_version::Column::Model)
        .to(model::Column::Name)
        .into();
    let mut query = model_version::Entity::find()
        .join(JoinType::InnerJoin, same_name)
        .filter(model_version::Column::Version.into_expr().eq(model::Column::Latest.into_expr()))
        .filter(within(namespace, model_version::Column::Model));
    if let Some(after) = after {
        query = query.filter(model_version::Column::Model.gt(after));
    }
    let rows = query.order_by_asc(model_version::Column::Model).limit(limit).all(db).await?;
    rows.into_iter().map(noun).collect()
}

fn row(Registered { version, datasets }: &Registered) -> model_version::Model {
    model_version::Model {
        model: version.model.to_string(),
        version: version_number(version.version),
        status: version.status.into(),
        status_reason: version.status_reason.clone(),
        bundle_digest: version.bundle.to_string(),
        run_id: version.run.map(RunId::uuid),
        dataset_digests: Digests(datasets.clone()),
        description: version.description.clone(),
        metrics: Numbers(version.metrics.clone()),
        approval: version.review.approval.into(),
        reviewed_by: version.review.by.clone(),
        review_reason: version.review.why.clone(),
        reviewed_at: version.review.at,
        created_at: version.created_at,
        revision: signed(version.revision),
    }
}

fn noun(row: model_version::Model) -> Result<Registered, DbErr> {
    let review =
        Review { approval: row.approval.into(), by: row.reviewed_by, why: row.review_reason, at: row.reviewed_at };
    let version = ModelVersion {
        model: parsed("model", &row.model)?,
        version: unsigned("version", row.version.into())?,
        status: row.status.into(),
        status_reason: row.status_reason,
        bundle: parsed("bundle_digest", &row.bundle_digest)?,
        run: row.run_id.map(RunId::new),
        description: row.description,
        review,
        metrics: row.metrics.0,
        aliases: Vec::new(),
        created_at: row.created_at,
        revision: unsigned("revision", row.revision)?,
    };
    Ok(Registered { version, datasets: row.dataset_digests.0 })
}
