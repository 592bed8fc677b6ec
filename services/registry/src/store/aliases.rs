//! Aliases and their history.

use chrono::{DateTime, Utc};
use rekindle_domain::{Alias, AliasName, ModelName, alias::AliasProtection};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, sea_query::OnConflict,
};

use super::{
    entity::{alias, alias_move, alias_protection},
    parsed, signed, unsigned, version_number,
};

/// The latest move of an alias, which may have deleted it.
pub(crate) async fn get(
    db: &impl ConnectionTrait,
    model: &ModelName,
    name: &AliasName,
) -> Result<Option<Alias>, DbErr> {
    alias::Entity::find_by_id((model.to_string(), name.to_string())).one(db).await?.map(current).transpose()
}

/// The latest move of every alias of these models that is not deleted, by model and alias.
pub(crate) async fn of_models(db: &impl ConnectionTrait, models: &[&ModelName]) -> Result<Vec<Alias>, DbErr> {
    let rows = alias::Entity::find()
        .filter(alias::Column::Model.is_in(models.iter().map(|name| name.as_str())))
        .filter(alias::Column::Deleted.eq(false))
        .order_by_asc(alias::Column::Model)
        .order_by_asc(alias::Column::Alias)
        .all(db)
        .await?;
    rows.into_iter().map(current).collect()
}

/// Moves an alias, if its revision is still one below the move's, and writes the move into the history; returns whether it
/// moved.
pub(crate) async fn apply(txn: &impl ConnectionTrait, to: &Alias) -> Result<bool, DbErr> {
    let row = alias::Model {
        model: to.model.to_string(),
        alias: to.alias.to_string(),
        version: version_number(to.version),
        bundle_digest: to.bundle.to_string(),
        revision: signed(to.revision),
        moved_by: to.by.clone(),
        reason: to.why.clone(),
        moved_at: to.moved_at,
        deleted: to.deleted,
    };
    let moved = if to.revision == 1 {
        alias::Entity::insert(row.into_active_model())
            .on_conflict_do_nothing_on([alias::Column::Model, alias::Column::Alias])
            .exec_without_returning(txn)
            .await
            .map(inserted)?
    } else {
        let result = alias::Entity::update_many()
            .set(row.into_active_model().reset_all())
            .filter(alias::Column::Model.eq(to.model.as_str()))
            .filter(alias::Column::Alias.eq(to.alias.as_str()))
            .filter(alias::Column::Revision.eq(signed(to.revision - 1)))
            .exec(txn)
            .await?;
        result.rows_affected == 1
    };
    if moved {
        history_row(to).into_active_model().insert(txn).await?;
    }
    Ok(moved)
}

fn inserted(result: sea_orm::TryInsertResult<u64>) -> bool {
    matches!(result, sea_orm::TryInsertResult::Inserted(1..))
}

/// The moves of an alias, newest first, before a revision.
pub(crate) async fn history(
    db: &impl ConnectionTrait,
    model: &ModelName,
    name: &AliasName,
    before: Option<u64>,
    limit: u64,
) -> Result<Vec<Alias>, DbErr> {
    let mut query = moves_of(model, name);
    if let Some(before) = before {
        query = query.filter(alias_move::Column::Revision.lt(signed(before)));
    }
    query.limit(limit).all(db).await?.into_iter().map(past).collect()
}

/// The move that was in force at a time.
pub(crate) async fn at(
    db: &impl ConnectionTrait,
    model: &ModelName,
    name: &AliasName,
    time: DateTime<Utc>,
) -> Result<Option<Alias>, DbErr> {
    moves_of(model, name).filter(alias_move::Column::MovedAt.lte(time)).one(db).await?.map(past).transpose()
}

fn moves_of(model: &ModelName, name: &AliasName) -> sea_orm::Select<alias_move::Entity> {
    alias_move::Entity::find()
        .filter(alias_move::Column::Model.eq(model.as_str()))
        .filter(alias_move::Column::Alias.eq(name.as_str()))
        .order_by_desc(alias_move::Column::Revision)
}

fn history_row(to: &Alias) -> alias_move::Model {
    alias_move::Model {
        model: to.model.to_string(),
        alias: to.alias.to_string(),
        revision: signed(to.revision),
        version: version_number(to.version),
        bundle_digest: to.bundle.to_string(),
        moved_by: to.by.clone(),
        reason: to.why.clone(),
        moved_at: to.moved_at,
        deleted: to.deleted,
    }
}

fn current(row: alias::Model) -> Result<Alias, DbErr> {
    past(alias_move::Model {
        model: row.model,
        alias: row.alias,
        revision: row.revision,
        version: row.version,
        bundle_digest: row.bundle_digest,
        moved_by: row.moved_by,
        reason: row.reason,
        moved_at: row.moved_at,
        deleted: row.deleted,
    })
}

fn past(row: alias_move::Model) -> Result<Alias, DbErr> {
    Ok(Alias {
        model: parsed("model", &row.model)?,
        alias: parsed("alias", &row.alias)?,
        version: unsigned("version", row.version.into())?,
        bundle: parsed("bundle_digest", &row.bundle_digest)?,
        revision: unsigned("revision", row.revision)?,
        by: row.moved_by,
        why: row.reason,
        moved_at: row.moved_at,
        deleted: row.deleted,
    })
}

/// What a version needs before an alias is moved to it; `None` if nothing.
pub(crate) async fn protection(
    db: &impl ConnectionTrait,
    model: &ModelName,
    alias: &AliasName,
) -> Result<Option<AliasProtection>, DbErr> {
    let row = alias_protection::Entity::find_by_id((model.to_string(), alias.to_string())).one(db).await?;
    let protection = |row: alias_protection::Model| {
        Ok(AliasProtection {
            model: model.clone(),
            alias: alias.clone(),
            approvals: unsigned("approvals", row.approvals.into())?,
            except_author: row.except_author,
            by: row.set_by,
            why: row.reason,
            at: Some(row.set_at),
        })
    };
    row.map(protection).transpose()
}

/// Writes a protection over the one that the alias has.
pub(crate) async fn protect(
    txn: &impl ConnectionTrait,
    protection: &AliasProtection,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    use alias_protection::Column;
    let row = alias_protection::Model {
        model: protection.model.to_string(),
        alias: protection.alias.to_string(),
        approvals: version_number(protection.approvals),
        except_author: protection.except_author,
        set_by: protection.by.clone(),
        reason: protection.why.clone(),
        set_at: now,
    };
    let replace = OnConflict::columns([Column::Model, Column::Alias])
        .update_columns([Column::Approvals, Column::ExceptAuthor, Column::SetBy, Column::Reason, Column::SetAt])
        .to_owned();
    alias_protection::Entity::insert(row.into_active_model()).on_conflict(replace).exec_without_returning(txn).await?;
    Ok(())
}
