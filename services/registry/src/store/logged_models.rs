//! Models that runs have logged, with their metrics.

use std::collections::BTreeMap;

use rekindle_domain::RunId;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, sea_query::OnConflict,
};
use uuid::Uuid;

use super::{
    entity::{Texts, logged_model, logged_model_metric},
    parsed,
};
use crate::logged_model::{LoggedModel, ModelMetric};

/// Writes a new logged model.
pub(crate) async fn insert(txn: &impl ConnectionTrait, model: &LoggedModel) -> Result<(), DbErr> {
    row(model).into_active_model().insert(txn).await?;
    Ok(())
}

/// Writes a logged model over the one with its id.
pub(crate) async fn update(txn: &impl ConnectionTrait, model: &LoggedModel) -> Result<(), DbErr> {
    row(model).into_active_model().reset_all().update(txn).await?;
    Ok(())
}

/// One logged model, deleted or not.
pub(crate) async fn get(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<LoggedModel>, DbErr> {
    logged_model::Entity::find_by_id(id).one(db).await?.map(noun).transpose()
}

/// Logged models of experiments that are not deleted, newest first.
pub(crate) async fn of_experiments(
    db: &impl ConnectionTrait,
    experiments: &[i64],
    limit: u64,
) -> Result<Vec<LoggedModel>, DbErr> {
    let query = logged_model::Entity::find()
        .filter(logged_model::Column::ExperimentId.is_in(experiments.iter().copied()))
        .filter(logged_model::Column::DeletedAt.is_null())
        .order_by_desc(logged_model::Column::Id)
        .limit(limit);
    query.all(db).await?.into_iter().map(noun).collect()
}

/// The metrics of logged models, by name.
pub(crate) async fn metrics(
    db: &impl ConnectionTrait,
    models: &[Uuid],
) -> Result<BTreeMap<Uuid, Vec<ModelMetric>>, DbErr> {
    let rows = logged_model_metric::Entity::find()
        .filter(logged_model_metric::Column::ModelId.is_in(models.iter().copied()))
        .order_by_asc(logged_model_metric::Column::Name)
        .order_by_asc(logged_model_metric::Column::TimeMs)
        .all(db)
        .await?;
    let mut metrics = BTreeMap::<_, Vec<_>>::new();
    for row in rows {
        let (id, metric) = metric(row);
        metrics.entry(id).or_default().push(metric);
    }
    Ok(metrics)
}

/// Writes the last value of a metric, unless there is one of a later step or time.
pub(crate) async fn put_metric(txn: &impl ConnectionTrait, model: Uuid, given: &ModelMetric) -> Result<(), DbErr> {
    use logged_model_metric::Column;
    let given = given.clone();
    let key = (model, given.run.uuid(), given.name.clone(), given.dataset_name.clone(), given.dataset_digest.clone());
    let present = logged_model_metric::Entity::find_by_id(key).one(txn).await?;
    if present.is_some_and(|present| (present.step, present.time_ms) > (given.step, given.time_ms)) {
        return Ok(());
    }
    let row = logged_model_metric::Model {
        model_id: model,
        run_id: given.run.uuid(),
        name: given.name,
        dataset_name: given.dataset_name,
        dataset_digest: given.dataset_digest,
        value: Some(given.value).filter(|value| !value.is_nan()),
        step: given.step,
        time_ms: given.time_ms,
    };
    let replace =
        OnConflict::columns([Column::ModelId, Column::RunId, Column::Name, Column::DatasetName, Column::DatasetDigest])
            .update_columns([Column::Value, Column::Step, Column::TimeMs])
            .to_owned();
    let insert = logged_model_metric::Entity::insert(row.into_active_model());
    insert.on_conflict(replace).exec_without_returning(txn).await?;
    Ok(())
}

fn metric(row: logged_model_metric::Model) -> (Uuid, ModelMetric) {
    let metric = ModelMetric {
        run: RunId::new(row.run_id),
        name: row.name,
        dataset_name: row.dataset_name,
        dataset_digest: row.dataset_digest,
        value: row.value.unwrap_or(f64::NAN),
        step: row.step,
        time_ms: row.time_ms,
    };
    (row.model_id, metric)
}

fn row(model: &LoggedModel) -> logged_model::Model {
    let model = model.clone();
    logged_model::Model {
        id: model.id,
        experiment_id: model.experiment,
        name: model.name,
        model_type: model.model_type,
        run_id: model.run.map(RunId::uuid),
        status: model.status.name().to_owned(),
        status_message: model.status_message,
        params: Texts(model.params),
        tags: Texts(model.tags),
        created_at: model.created_at,
        updated_at: model.updated_at,
        deleted_at: model.deleted_at,
    }
}

fn noun(row: logged_model::Model) -> Result<LoggedModel, DbErr> {
    Ok(LoggedModel {
        id: row.id,
        experiment: row.experiment_id,
        name: row.name,
        model_type: row.model_type,
        run: row.run_id.map(RunId::new),
        status: parsed("status", &row.status)?,
        status_message: row.status_message,
        params: row.params.0,
        tags: row.tags.0,
        created_at: row.created_at,
        updated_at: row.updated_at,
        deleted_at: row.deleted_at,
    })
}
