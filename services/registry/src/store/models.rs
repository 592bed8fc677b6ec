//! Models, their versions and the reviews of these.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rekindle_domain::{
    Digest, ModelName, Namespace, RunId,
    model_version::{ModelVersion, Review},
};
use rekindle_store::within;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect,
    sea_query::{Expr, Query},
};

use super::{
    entity::{Digests, Numbers, Texts, model, model_review, model_version, run},
    names, parsed, signed, unsigned, version_number,
};
use crate::{
    model::Model,
    model_version::{Origin, Registered},
};

/// One model.
pub(crate) async fn model(db: &impl ConnectionTrait, name: &ModelName) -> Result<Option<Model>, DbErr> {
    model::Entity::find_by_id(name.as_str()).one(db).await?.map(model_noun).transpose()
}

/// The model with a title.
pub(crate) async fn by_title(db: &impl ConnectionTrait, title: &str) -> Result<Option<Model>, DbErr> {
    // PostgreSQL has no text with it, and refuses the statement.
    if title.contains('\0') {
        return Ok(None);
    }
    let found = model::Entity::find().filter(model::Column::Title.eq(title)).one(db).await?;
    found.map(model_noun).transpose()
}

/// Models of a namespace that are not deleted, by name after one.
pub(crate) async fn list(
    db: &impl ConnectionTrait,
    namespace: &Namespace,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut query =
        model::Entity::find().filter(within(namespace, model::Column::Name)).filter(model::Column::DeletedAt.is_null());
    if let Some(after) = after {
        query = query.filter(model::Column::Name.gt(after));
    }
    query.order_by_asc(model::Column::Name).limit(limit).all(db).await?.into_iter().map(model_noun).collect()
}

/// Writes a new model.
pub(crate) async fn insert_model(txn: &impl ConnectionTrait, model: &Model) -> Result<(), DbErr> {
    model_row(model).into_active_model().insert(txn).await?;
    Ok(())
}

/// Writes a model over the one of its name, but for the number of its latest version.
pub(crate) async fn update_model(txn: &impl ConnectionTrait, model: &Model) -> Result<(), DbErr> {
    let mut row = model_row(model).into_active_model().reset_all();
    row.latest = sea_orm::ActiveValue::NotSet;
    row.update(txn).await?;
    Ok(())
}

/// Takes the next version number of a model that exists. Locks its row until the transaction ends.
pub(crate) async fn take_number(txn: &impl ConnectionTrait, name: &ModelName) -> Result<u32, DbErr> {
    model::Entity::update_many()
        .col_expr(model::Column::Latest, sea_orm::ExprTrait::add(Expr::col(model::Column::Latest), 1))
        .filter(model::Column::Name.eq(name.as_str()))
        .exec(txn)
        .await?;
    let row = model::Entity::find_by_id(name.as_str()).one(txn).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound(format!("model {name}")))?;
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

/// One version without its aliases; `None` asks for the latest that is not deleted.
pub(crate) async fn get(
    db: &impl ConnectionTrait,
    model: &ModelName,
    version: Option<u32>,
) -> Result<Option<Registered>, DbErr> {
    let query = model_version::Entity::find().filter(model_version::Column::Model.eq(model.as_str()));
    let query = match version {
        Some(version) => query.filter(model_version::Column::Version.eq(version_number(version))),
        None => query.filter(model_version::Column::DeletedAt.is_null()),
    };
    query.order_by_desc(model_version::Column::Version).one(db).await?.map(noun).transpose()
}

/// The versions of one model that are not deleted, without their aliases, newest first, before one.
pub(crate) async fn versions(
    db: &impl ConnectionTrait,
    model: &ModelName,
    before: Option<u32>,
    limit: u64,
) -> Result<Vec<Registered>, DbErr> {
    let mut query = model_version::Entity::find()
        .filter(model_version::Column::Model.eq(model.as_str()))
        .filter(model_version::Column::DeletedAt.is_null());
    if let Some(before) = before {
        query = query.filter(model_version::Column::Version.lt(version_number(before)));
    }
    let rows = query.order_by_desc(model_version::Column::Version).limit(limit).all(db).await?;
    rows.into_iter().map(noun).collect()
}

/// The versions of models that are not deleted, by model, newest first.
pub(crate) async fn versions_of(
    db: &impl ConnectionTrait,
    models: &[&ModelName],
    limit: u64,
) -> Result<Vec<Registered>, DbErr> {
    let rows = model_version::Entity::find()
        .filter(model_version::Column::Model.is_in(models.iter().map(|name| name.as_str())))
        .filter(model_version::Column::DeletedAt.is_null())
        .order_by_asc(model_version::Column::Model)
        .order_by_desc(model_version::Column::Version)
        .limit(limit)
        .all(db)
        .await?;
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

/// The versions that runs have made, by model and version.
pub(crate) async fn of_runs(db: &impl ConnectionTrait, runs: &[RunId], limit: u64) -> Result<Vec<Registered>, DbErr> {
    let rows = model_version::Entity::find()
        .filter(model_version::Column::RunId.is_in(runs.iter().map(|run| run.uuid())))
        .order_by_asc(model_version::Column::Model)
        .order_by_asc(model_version::Column::Version)
        .limit(limit)
        .all(db)
        .await?;
    rows.into_iter().map(noun).collect()
}

/// Versions that are not deleted, of models that are not either, which were made of a dataset of this content: as their bundles name it, or the
/// runs that made them.
pub(crate) async fn live_of_dataset(
    db: &impl ConnectionTrait,
    content: &Digest,
    limit: u64,
) -> Result<Vec<Registered>, DbErr> {
    let runs = Query::select()
        .column(run::Column::Id)
        .from(run::Entity)
        .and_where(names(run::Column::DatasetDigests, content))
        .take();
    let is_made = Condition::any()
        .add(names(model_version::Column::DatasetDigests, content))
        .add(model_version::Column::RunId.in_subquery(runs));
    live(db, is_made, limit).await
}

/// Versions that are not deleted, of models that are not either, which a run has made.
pub(crate) async fn live_of_run(db: &impl ConnectionTrait, run: RunId, limit: u64) -> Result<Vec<Registered>, DbErr> {
    live(db, Condition::all().add(model_version::Column::RunId.eq(run.uuid())), limit).await
}

async fn live(db: &impl ConnectionTrait, condition: Condition, limit: u64) -> Result<Vec<Registered>, DbErr> {
    let deleted = Query::select()
        .column(model::Column::Name)
        .from(model::Entity)
        .and_where(model::Column::DeletedAt.is_not_null())
        .take();
    let rows = model_version::Entity::find()
        .filter(condition)
        .filter(model_version::Column::DeletedAt.is_null())
        .filter(model_version::Column::Model.not_in_subquery(deleted))
        .order_by_asc(model_version::Column::Model)
        .order_by_asc(model_version::Column::Version)
        .limit(limit)
        .all(db)
        .await?;
    rows.into_iter().map(noun).collect()
}

/// The versions whose bundles name a dataset of this content.
pub(crate) async fn of_dataset(
    db: &impl ConnectionTrait,
    content: &Digest,
    limit: u64,
) -> Result<Vec<Registered>, DbErr> {
    let rows = model_version::Entity::find()
        .filter(names(model_version::Column::DatasetDigests, content))
        .limit(limit)
        .all(db)
        .await?;
    rows.into_iter().map(noun).collect()
}

/// The latest version of each of these models that is not deleted, by model, without its aliases.
pub(crate) async fn latest_of(
    db: &impl ConnectionTrait,
    models: &[&ModelName],
) -> Result<BTreeMap<ModelName, Registered>, DbErr> {
    let latest: Vec<(String, i32)> = model_version::Entity::find()
        .select_only()
        .column(model_version::Column::Model)
        .column_as(model_version::Column::Version.max(), "version")
        .filter(model_version::Column::Model.is_in(models.iter().map(|name| name.as_str())))
        .filter(model_version::Column::DeletedAt.is_null())
        .group_by(model_version::Column::Model)
        .into_tuple()
        .all(db)
        .await?;
    if latest.is_empty() {
        return Ok(BTreeMap::new());
    }
    let keys = latest.into_iter().map(|(name, version)| Expr::tuple([name.into(), version.into()]));
    let key = Expr::tuple([Expr::col(model_version::Column::Model), Expr::col(model_version::Column::Version)]);
    let query = model_version::Entity::find().filter(sea_orm::ExprTrait::is_in(key, keys));
    let versions = query.all(db).await?.into_iter().map(noun).collect::<Result<Vec<_>, _>>()?;
    Ok(versions.into_iter().map(|registered| (registered.version.model.clone(), registered)).collect())
}

/// Writes a review of a version, whose revision it has made.
pub(crate) async fn add_review(
    txn: &impl ConnectionTrait,
    version: &ModelVersion,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let Review { approval, by, why, at, evidence } = version.review.clone();
    let row = model_review::Model {
        model: version.model.to_string(),
        version: version_number(version.version),
        number: signed(version.revision),
        approval: approval.into(),
        reviewed_by: by,
        reason: why,
        evidence: Texts(evidence),
        reviewed_at: at.unwrap_or(now),
    };
    row.into_active_model().insert(txn).await?;
    Ok(())
}

/// The reviews of a version with their numbers, newest first, before a number.
pub(crate) async fn reviews(
    db: &impl ConnectionTrait,
    model: &ModelName,
    version: u32,
    before: Option<u64>,
    limit: u64,
) -> Result<Vec<(u64, Review)>, DbErr> {
    let mut query = model_review::Entity::find()
        .filter(model_review::Column::Model.eq(model.as_str()))
        .filter(model_review::Column::Version.eq(version_number(version)));
    if let Some(before) = before {
        query = query.filter(model_review::Column::Number.lt(signed(before)));
    }
    let rows = query.order_by_desc(model_review::Column::Number).limit(limit).all(db).await?;
    let review = |row: model_review::Model| {
        let review = Review {
            approval: row.approval.into(),
            by: row.reviewed_by,
            why: row.reason,
            at: Some(row.reviewed_at),
            evidence: row.evidence.0,
        };
        Ok((unsigned("number", row.number)?, review))
    };
    rows.into_iter().map(review).collect()
}

fn model_row(model: &Model) -> model::Model {
    let Model { name, latest, title, description, tags, created_at, updated_at, deleted_at } = model.clone();
    model::Model {
        name: name.to_string(),
        latest: version_number(latest),
        created_at,
        title,
        description,
        tags: Texts(tags),
        updated_at: Some(updated_at),
        deleted_at,
    }
}

fn model_noun(row: model::Model) -> Result<Model, DbErr> {
    Ok(Model {
        name: parsed("name", &row.name)?,
        latest: unsigned("latest", row.latest.into())?,
        title: row.title,
        description: row.description,
        tags: row.tags.0,
        created_at: row.created_at,
        updated_at: row.updated_at.unwrap_or(row.created_at),
        deleted_at: row.deleted_at,
    })
}

fn row(Registered { version, datasets, origin, updated_at }: &Registered) -> model_version::Model {
    let Origin { source, run_link, stage, logged_model } = origin.clone();
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
        tags: Texts(version.tags.clone()),
        author: version.author.clone(),
        evidence: Texts(version.review.evidence.clone()),
        updated_at: Some(*updated_at),
        deleted_at: version.deleted_at,
        source,
        run_link,
        stage,
        logged_model_id: logged_model,
    }
}

fn noun(row: model_version::Model) -> Result<Registered, DbErr> {
    let review = Review {
        approval: row.approval.into(),
        by: row.reviewed_by,
        why: row.review_reason,
        at: row.reviewed_at,
        evidence: row.evidence.0,
    };
    let version = ModelVersion {
        model: parsed("model", &row.model)?,
        version: unsigned("version", row.version.into())?,
        status: row.status.into(),
        status_reason: row.status_reason,
        bundle: parsed("bundle_digest", &row.bundle_digest)?,
        run: row.run_id.map(RunId::new),
        description: row.description,
        tags: row.tags.0,
        author: row.author,
        review,
        metrics: row.metrics.0,
        aliases: Vec::new(),
        created_at: row.created_at,
        deleted_at: row.deleted_at,
        revision: unsigned("revision", row.revision)?,
    };
    let origin =
        Origin { source: row.source, run_link: row.run_link, stage: row.stage, logged_model: row.logged_model_id };
    let updated_at = row.updated_at.unwrap_or(row.created_at);
    Ok(Registered { version, datasets: row.dataset_digests.0, origin, updated_at })
}
