//! Experiments.

use chrono::{DateTime, Utc};
use rekindle_domain::ExperimentName;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::OnConflict,
};

use super::{
    entity::{Texts, experiment},
    parsed,
};
use crate::experiment::{Experiment, View};

/// Writes a new experiment and returns its number.
pub(crate) async fn insert(txn: &impl ConnectionTrait, new: &Experiment) -> Result<i64, DbErr> {
    let row = experiment::ActiveModel { id: NotSet, ..row(new).into_active_model() };
    Ok(row.insert(txn).await?.id)
}

/// Makes the experiment of this name, unless there is one.
pub(crate) async fn ensure(txn: &impl ConnectionTrait, name: &ExperimentName, now: DateTime<Utc>) -> Result<(), DbErr> {
    if by_name(txn, name).await?.is_some() {
        return Ok(());
    }
    // An experiment of another name may have been given this title.
    let mut title = name.to_string();
    for number in 2_u32.. {
        if by_title(txn, &title).await?.is_none() {
            break;
        }
        title = format!("{name} ({number})");
    }
    let row = experiment::ActiveModel {
        id: NotSet,
        name: Set(name.to_string()),
        title: Set(title),
        tags: Set(Texts::default()),
        created_at: Set(now),
        updated_at: Set(now),
        deleted_at: Set(None),
    };
    let keep = OnConflict::new().do_nothing().to_owned();
    experiment::Entity::insert(row).on_conflict(keep).exec_without_returning(txn).await?;
    Ok(())
}

/// The experiment with a number.
pub(crate) async fn get(db: &impl ConnectionTrait, id: i64) -> Result<Option<Experiment>, DbErr> {
    experiment::Entity::find_by_id(id).one(db).await?.map(noun).transpose()
}

/// The experiment with a name.
pub(crate) async fn by_name(db: &impl ConnectionTrait, name: &ExperimentName) -> Result<Option<Experiment>, DbErr> {
    let found = experiment::Entity::find().filter(experiment::Column::Name.eq(name.as_str())).one(db).await?;
    found.map(noun).transpose()
}

/// The experiment with a title.
pub(crate) async fn by_title(db: &impl ConnectionTrait, title: &str) -> Result<Option<Experiment>, DbErr> {
    // PostgreSQL has no text with it, and refuses the statement.
    if title.contains('\0') {
        return Ok(None);
    }
    let found = experiment::Entity::find().filter(experiment::Column::Title.eq(title)).one(db).await?;
    found.map(noun).transpose()
}

/// Experiments, those with the highest numbers first, below a number.
pub(crate) async fn list(
    db: &impl ConnectionTrait,
    view: View,
    below: Option<i64>,
    limit: u64,
) -> Result<Vec<Experiment>, DbErr> {
    let mut query = experiment::Entity::find();
    match view {
        View::Active => query = query.filter(experiment::Column::DeletedAt.is_null()),
        View::Deleted => query = query.filter(experiment::Column::DeletedAt.is_not_null()),
        View::All => {}
    }
    if let Some(below) = below {
        query = query.filter(experiment::Column::Id.lt(below));
    }
    query.order_by_desc(experiment::Column::Id).limit(limit).all(db).await?.into_iter().map(noun).collect()
}

/// Writes an experiment over the one with its number.
pub(crate) async fn update(txn: &impl ConnectionTrait, experiment: &Experiment) -> Result<(), DbErr> {
    row(experiment).into_active_model().reset_all().update(txn).await?;
    Ok(())
}

fn row(experiment: &Experiment) -> experiment::Model {
    let Experiment { id, name, title, tags, created_at, updated_at, deleted_at } = experiment.clone();
    experiment::Model { id, name: name.to_string(), title, tags: Texts(tags), created_at, updated_at, deleted_at }
}

fn noun(row: experiment::Model) -> Result<Experiment, DbErr> {
    let experiment::Model { id, name, title, tags, created_at, updated_at, deleted_at } = row;
    Ok(Experiment { id, name: parsed("name", &name)?, title, tags: tags.0, created_at, updated_at, deleted_at })
}
