//! Outcomes by join key that wait for their prediction.

use chrono::{DateTime, Utc};
use rekindle_domain::{ModelName, outcome::Label};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait as _, Query},
};
use uuid::Uuid;

use super::{
    counted,
    entities::{join_key, pending_outcome},
    stored, unreadable,
};
use crate::{
    join_key::JoinKey,
    outcome::{PendingOutcome, Position},
};

/// Rows of one statement: SQLite has at most 32,766 parameters.
const ROWS: usize = 2_048;

/// A stored outcome, by the id of its row in the table.
pub(crate) type Stored = (i64, PendingOutcome);

/// Adds outcomes of a model.
pub(crate) async fn insert(
    txn: &impl ConnectionTrait,
    model: &ModelName,
    outcomes: &[PendingOutcome],
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    for outcomes in outcomes.chunks(ROWS) {
        let rows = outcomes.iter().map(|outcome| {
            let (label, number) = match &outcome.label {
                Label::Class(class) => (Some(class.clone()), None),
                Label::Number(number) => (None, Some(*number)),
            };
            pending_outcome::ActiveModel {
                id: NotSet,
                model: Set(model.to_string()),
                join_key: Set(Uuid::from_u128(outcome.join_key.0)),
                row: Set(outcome.row.into()),
                label: Set(label),
                number: Set(number),
                reported_at: Set(outcome.position.at),
                reported_sequence: Set(stored(outcome.position.sequence)),
                reported_line: Set(outcome.position.line.into()),
                about: Set(outcome.about.clone()),
                captured_at: Set(now),
            }
        });
        pending_outcome::Entity::insert_many(rows).exec_without_returning(txn).await?;
    }
    Ok(())
}

fn of_model(model: &ModelName) -> sea_orm::Select<pending_outcome::Entity> {
    pending_outcome::Entity::find().filter(pending_outcome::Column::Model.eq(model.as_str()))
}

/// The oldest outcomes of a model whose join key is indexed.
pub(crate) async fn indexed(db: &impl ConnectionTrait, model: &ModelName, limit: u64) -> Result<Vec<Stored>, DbErr> {
    let mut keys = Query::select();
    keys.expr(Expr::val(1)).from(join_key::Entity).and_where(
        Expr::col((join_key::Entity, join_key::Column::JoinKey))
            .equals((pending_outcome::Entity, pending_outcome::Column::JoinKey)),
    );
    let query = of_model(model).filter(Expr::exists(keys)).order_by_asc(pending_outcome::Column::Id).limit(limit);
    Ok(query.all(db).await?.into_iter().map(read).collect())
}

/// The oldest outcomes of a model that were captured before `before`.
pub(crate) async fn expired(
    db: &impl ConnectionTrait,
    model: &ModelName,
    before: DateTime<Utc>,
    limit: u64,
) -> Result<Vec<Stored>, DbErr> {
    let query = of_model(model).filter(pending_outcome::Column::CapturedAt.lt(before));
    let query = query.order_by_asc(pending_outcome::Column::CapturedAt).limit(limit);
    Ok(query.all(db).await?.into_iter().map(read).collect())
}

/// The models with outcomes that were captured before `before`.
pub(crate) async fn overdue_models(db: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<Vec<ModelName>, DbErr> {
    let query = pending_outcome::Entity::find().filter(pending_outcome::Column::CapturedAt.lt(before)).select_only();
    let names: Vec<String> = query.column(pending_outcome::Column::Model).distinct().into_tuple().all(db).await?;
    names.iter().map(|name| name.parse().map_err(|error| unreadable("pending_outcomes.model", error))).collect()
}

/// Removes outcomes.
pub(crate) async fn remove(txn: &impl ConnectionTrait, ids: &[i64]) -> Result<(), DbErr> {
    for ids in ids.chunks(ROWS) {
        let ids = pending_outcome::Column::Id.is_in(ids.iter().copied());
        pending_outcome::Entity::delete_many().filter(ids).exec(txn).await?;
    }
    Ok(())
}

/// How many outcomes of a model wait.
pub(crate) async fn count(db: &impl ConnectionTrait, model: &ModelName) -> Result<u64, DbErr> {
    of_model(model).count(db).await
}

/// The id of the latest outcome of any model; 0 if none waits.
pub(crate) async fn latest(db: &impl ConnectionTrait) -> Result<i64, DbErr> {
    let query = pending_outcome::Entity::find().select_only();
    let latest: Option<Option<i64>> =
        query.column_as(pending_outcome::Column::Id.max(), "latest").into_tuple().one(db).await?;
    Ok(latest.flatten().unwrap_or_default())
}

fn read(row: pending_outcome::Model) -> Stored {
    let position = Position {
        at: row.reported_at,
        sequence: counted(row.reported_sequence),
        line: u32::try_from(row.reported_line).unwrap_or(u32::MAX),
    };
    let label = match (row.label, row.number) {
        (Some(class), _) => Label::Class(class),
        (None, number) => Label::Number(number.unwrap_or(f64::NAN)),
    };
    let (join_key, line) = (JoinKey(row.join_key.as_u128()), u32::try_from(row.row).unwrap_or(u32::MAX));
    (row.id, PendingOutcome { position, join_key, row: line, label, about: row.about })
}
