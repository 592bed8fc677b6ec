//! Deployments and the versions that were stable.

use rekindle_domain::{ModelName, Namespace, VersionRef};
use rekindle_store::{page::Page, within};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, sea_query::Expr,
};

use super::{
    entity::{
        deployment::{ActiveModel, Column, Entity, Model},
        deployment_history as history,
    },
    from_json, signed, to_json,
};
use crate::{Error, deployment::Record};

/// A model's deployment.
pub(crate) async fn get(db: &impl ConnectionTrait, model: &ModelName) -> Result<Option<Record>, Error> {
    Entity::find_by_id(model.to_string()).one(db).await?.map(read).transpose()
}

/// Every deployment.
pub(crate) async fn all(db: &impl ConnectionTrait) -> Result<Vec<Record>, Error> {
    Entity::find().order_by_asc(Column::Model).all(db).await?.into_iter().map(read).collect()
}

/// A value that changes with every change of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromQueryResult)]
pub(crate) struct Stamp {
    deployments: i64,
    revisions: i64,
}

/// The current stamp.
pub(crate) async fn stamp(db: &impl ConnectionTrait) -> Result<Stamp, DbErr> {
    let revisions = Expr::cust("CAST(COALESCE(SUM(revision), 0) AS BIGINT)");
    let query = Entity::find()
        .select_only()
        .column_as(Column::Model.count(), "deployments")
        .expr_as(revisions, "revisions")
        .into_model::<Stamp>();
    query.one(db).await?.ok_or_else(|| DbErr::Custom("an aggregate has no row".to_owned()))
}

/// One page of the deployments of a namespace, by model.
pub(crate) async fn list(db: &impl ConnectionTrait, namespace: &Namespace, page: &Page) -> Result<Vec<Record>, Error> {
    let mut query =
        Entity::find().filter(within(namespace, Column::Model)).order_by_asc(Column::Model).limit(page.fetch());
    if let Some(after) = &page.after {
        query = query.filter(Column::Model.gt(after.as_str()));
    }
    query.all(db).await?.into_iter().map(read).collect()
}

/// Writes a record over the revision before its own; the first has revision 1.
pub(crate) async fn write(txn: &impl ConnectionTrait, record: &Record) -> Result<(), Error> {
    let model = &record.deployment.model;
    let row = ActiveModel {
        model: Set(model.to_string()),
        revision: Set(signed(record.revision)?),
        record: Set(to_json(record)?),
    };
    if record.revision == 1 {
        Entity::insert(row).exec_without_returning(txn).await?;
        return Ok(());
    }
    let updated = Entity::update_many()
        .set(row)
        .filter(Column::Model.eq(model.as_str()))
        .filter(Column::Revision.eq(signed(record.revision - 1)?))
        .exec(txn)
        .await?;
    match updated.rows_affected {
        1 => Ok(()),
        _ => Err(Error::Raced { what: format!("the deployment of {model}") }),
    }
}

/// Notes that the record's stable version has become that.
pub(crate) async fn remember_stable(txn: &impl ConnectionTrait, record: &Record) -> Result<(), Error> {
    let deployment = &record.deployment;
    let row = history::ActiveModel {
        model: Set(deployment.model.to_string()),
        revision: Set(signed(record.revision)?),
        version: Set(i32::try_from(deployment.stable.version).map_err(|error| DbErr::Type(error.to_string()))?),
        bundle_digest: Set(deployment.stable.bundle.to_string()),
        withdrawn: Set(false),
        stable_at: Set(deployment.changed_at),
    };
    history::Entity::insert(row).exec_without_returning(txn).await?;
    Ok(())
}

/// The version that was stable before the present one, not counting those that were rolled back.
pub(crate) async fn stable_before(db: &impl ConnectionTrait, model: &ModelName) -> Result<Option<VersionRef>, Error> {
    let rows = standing(db, model, 2).await?;
    rows.into_iter().nth(1).map(version).transpose()
}

/// Withdraws the newest version: it was rolled back.
pub(crate) async fn withdraw_newest(txn: &impl ConnectionTrait, model: &ModelName) -> Result<(), Error> {
    for row in standing(txn, model, 1).await? {
        history::Entity::update_many()
            .col_expr(history::Column::Withdrawn, Expr::value(true))
            .filter(history::Column::Model.eq(row.model))
            .filter(history::Column::Revision.eq(row.revision))
            .exec(txn)
            .await?;
    }
    Ok(())
}

async fn standing(db: &impl ConnectionTrait, model: &ModelName, limit: u64) -> Result<Vec<history::Model>, DbErr> {
    history::Entity::find()
        .filter(history::Column::Model.eq(model.as_str()))
        .filter(history::Column::Withdrawn.eq(false))
        .order_by_desc(history::Column::Revision)
        .limit(limit)
        .all(db)
        .await
}

fn version(row: history::Model) -> Result<VersionRef, Error> {
    let unreadable = |error: String| DbErr::Type(format!("a row of deployment_history: {error}"));
    Ok(VersionRef {
        version: u32::try_from(row.version).map_err(|error| unreadable(error.to_string()))?,
        bundle: row.bundle_digest.parse().map_err(|error| unreadable(format!("{error}")))?,
    })
}

fn read(row: Model) -> Result<Record, Error> {
    Ok(from_json("deployments", row.record)?)
}
