//! Logged models.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
};
use rekindle_domain::RunId;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Answer, Body, Parameters, Refused, call,
    fields::{Pair, experiment_id, integer, page_size, pairs, run_id, texts},
    search::{self, Attribute, Field, Record},
};
use crate::{
    App, Error,
    filter::Value as Constant,
    logged_model::{self, LoggedModel, ModelMetric, Status, id_text, parse_id},
    store,
};

/// Logged models of a page that does not state its size, and at most.
const PAGE: usize = 1000;
/// Experiments of one search.
const EXPERIMENTS: usize = 1000;

#[derive(Debug, Deserialize)]
pub(super) struct Create {
    experiment_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    model_type: String,
    #[serde(default)]
    source_run_id: String,
    #[serde(default)]
    params: Vec<Pair>,
    #[serde(default)]
    tags: Vec<Pair>,
}

pub(super) async fn create(State(app): State<App>, Body(request): Body<Create>) -> Answer {
    let call = call();
    let experiment = super::runs::active_experiment(&app, &request.experiment_id).await?;
    let run = match request.source_run_id.as_str() {
        "" => None,
        id => Some(run_of(&app, id).await?),
    };
    let name = match request.name.as_str() {
        "" => format!("model-{}", &call.id.simple().to_string()[20..]),
        name => name.to_owned(),
    };
    let model = LoggedModel {
        id: call.id,
        experiment: experiment.id,
        name,
        model_type: request.model_type,
        run,
        status: Status::Pending,
        status_message: String::new(),
        params: texts(request.params),
        tags: texts(request.tags),
        created_at: call.now,
        updated_at: call.now,
        deleted_at: None,
    };
    let created = logged_model::create(&app.0.db, call, model, app.0.config.limits).await?;
    one(&app, created).await
}

/// A run that exists.
pub(super) async fn run_of(app: &App, id: &str) -> Result<RunId, Refused> {
    let id = run_id(id, "")?;
    match store::runs::get(&app.0.db, id).await? {
        Some(_) => Ok(id),
        None => Err(Error::not_found("run", id).into()),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Get {
    allow_deleted: bool,
}

pub(super) async fn get(
    State(app): State<App>,
    Path(id): Path<String>,
    Parameters(request): Parameters<Get>,
) -> Answer {
    let id = parse_id(&id)?;
    let model = match request.allow_deleted {
        true => store::logged_models::get(&app.0.db, id).await?,
        false => Some(logged_model::get(&app.0.db, id).await?),
    };
    one(&app, model.ok_or_else(|| Error::not_found("logged model", id_text(id)))?).await
}

#[derive(Debug, Deserialize)]
pub(super) struct Finalize {
    status: String,
}

pub(super) async fn finalize(State(app): State<App>, Path(id): Path<String>, Body(request): Body<Finalize>) -> Answer {
    let status: Status = request.status.parse().map_err(Refused::invalid)?;
    let apply = move |model: &mut LoggedModel| {
        model.status = status;
        Ok(())
    };
    change(app, id, "logged-model.finalized", apply).await
}

pub(super) async fn delete(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let now = call().now;
    let apply = move |model: &mut LoggedModel| {
        model.deleted_at = Some(now);
        Ok(())
    };
    _ = change(app, id, "logged-model.deleted", apply).await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
pub(super) struct Tags {
    #[serde(default)]
    tags: Vec<Pair>,
}

pub(super) async fn set_tags(State(app): State<App>, Path(id): Path<String>, Body(request): Body<Tags>) -> Answer {
    let tags = texts(request.tags);
    let apply = move |model: &mut LoggedModel| {
        model.tags.extend(tags.clone());
        Ok(())
    };
    change(app, id, "logged-model.changed", apply).await
}

pub(super) async fn delete_tag(State(app): State<App>, Path((id, key)): Path<(String, String)>) -> Answer {
    let apply = move |model: &mut LoggedModel| match model.tags.remove(&key) {
        Some(_) => Ok(()),
        None => Err(Error::not_found("tag", &key)),
    };
    _ = change(app, id, "logged-model.changed", apply).await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
pub(super) struct Params {
    #[serde(default)]
    params: Vec<Pair>,
}

pub(super) async fn log_params(State(app): State<App>, Path(id): Path<String>, Body(request): Body<Params>) -> Answer {
    let params = texts(request.params);
    let apply = move |model: &mut LoggedModel| {
        for (name, value) in &params {
            if let Some(written) = model.params.insert(name.clone(), value.clone()).filter(|written| written != value) {
                let problem = format!("the param {name:?} is {written:?}: params are written once");
                return Err(Error::invalid("params", problem));
            }
        }
        Ok(())
    };
    _ = change(app, id, "logged-model.changed", apply).await?;
    Ok(Json(json!({})))
}

async fn change(
    app: App,
    id: String,
    action: &str,
    apply: impl Fn(&mut LoggedModel) -> Result<(), Error> + Send + Sync + 'static,
) -> Answer {
    let id = parse_id(&id)?;
    let changed = logged_model::change(&app.0.db, call(), id, action.to_owned(), app.0.config.limits, apply).await?;
    one(&app, changed).await
}

#[derive(Debug, Deserialize)]
pub(super) struct OrderBy {
    field_name: String,
    #[serde(default = "ascending")]
    ascending: bool,
}

const fn ascending() -> bool {
    true
}

#[derive(Debug, Deserialize)]
pub(super) struct Dataset {
    dataset_name: String,
    #[serde(default)]
    dataset_digest: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Search {
    experiment_ids: Vec<String>,
    filter: String,
    datasets: Vec<Dataset>,
    #[serde(deserialize_with = "integer")]
    max_results: Option<i64>,
    order_by: Vec<OrderBy>,
    page_token: String,
}

/// A logged model with its metrics, those of the datasets of the search if it names some.
struct Found {
    model: LoggedModel,
    metrics: Vec<ModelMetric>,
    compared: Vec<ModelMetric>,
}

impl Record for Found {
    fn value(&self, field: &Field) -> Option<Constant> {
        let model = &self.model;
        match field {
            Field::Metric(name) => {
                // Of several, e.g. of two runs, the last one.
                let of_name = self.compared.iter().filter(|metric| metric.name == *name);
                let last = of_name.max_by_key(|metric| (metric.time_ms, metric.step))?;
                // What is not a number has no place in an order.
                Some(last.value).filter(|value| !value.is_nan()).map(Constant::Number)
            }
            Field::Param(name) => search::text(model.params.get(name)?),
            Field::Tag(name) => search::text(model.tags.get(name)?),
            Field::Attribute(attribute) => match attribute {
                Attribute::Name => search::text(&model.name),
                Attribute::ModelId => search::text(&id_text(model.id)),
                Attribute::ModelType => search::text(&model.model_type),
                Attribute::Status => search::text(model.status.name().trim_start_matches("LOGGED_MODEL_")),
                Attribute::RunId => search::text(&model.run?.uuid().simple().to_string()),
                Attribute::CreatedAt => search::time(model.created_at),
                Attribute::UpdatedAt => search::time(model.updated_at),
                Attribute::VersionNumber | Attribute::SourcePath => None,
            },
        }
    }
}

pub(super) async fn search(State(app): State<App>, Body(request): Body<Search>) -> Answer {
    if request.experiment_ids.len() > EXPERIMENTS {
        let given = request.experiment_ids.len();
        return Err(Refused::invalid(format!("experiment_ids has {given} entries: expected at most {EXPERIMENTS}")));
    }
    let experiments: Vec<i64> = request.experiment_ids.iter().map(|id| experiment_id(id)).collect::<Result<_, _>>()?;
    let models = store::logged_models::of_experiments(&app.0.db, &experiments, search::MOST).await?;
    let ids: Vec<Uuid> = models.iter().map(|model| model.id).collect();
    let mut metrics = metrics_of(&app, &ids).await?;
    let of_search = |metric: &ModelMetric| {
        request.datasets.is_empty()
            || request.datasets.iter().any(|dataset| {
                dataset.dataset_name == metric.dataset_name
                    && (dataset.dataset_digest.is_empty() || dataset.dataset_digest == metric.dataset_digest)
            })
    };
    let found = models.into_iter().map(|model| {
        let metrics = metrics.remove(&model.id).unwrap_or_default();
        let compared = metrics.iter().filter(|metric| of_search(metric)).cloned().collect();
        Found { model, metrics, compared }
    });
    let order_by: Vec<String> = request
        .order_by
        .iter()
        .map(|order| format!("{} {}", order.field_name, if order.ascending { "ASC" } else { "DESC" }))
        .collect();
    let size = page_size(request.max_results, PAGE)?;
    let page = (size, request.page_token.as_str());
    let (page, next) = search::page(found.collect(), &request.filter, &order_by, page)?;
    let models: Vec<_> = page.iter().map(|found| message(&found.model, &found.metrics)).collect();
    let mut answer = json!({ "models": models });
    if let Some(next) = next {
        answer["next_page_token"] = next.into();
    }
    Ok(Json(answer))
}

/// The metrics of logged models. The database takes a limited number of values in a statement.
async fn metrics_of(app: &App, ids: &[Uuid]) -> Result<BTreeMap<Uuid, Vec<ModelMetric>>, Refused> {
    let mut metrics = BTreeMap::new();
    for ids in ids.chunks(1000) {
        metrics.append(&mut store::logged_models::metrics(&app.0.db, ids).await?);
    }
    Ok(metrics)
}

async fn one(app: &App, model: LoggedModel) -> Answer {
    let metrics = store::logged_models::metrics(&app.0.db, &[model.id]).await?.remove(&model.id).unwrap_or_default();
    Ok(Json(json!({ "model": message(&model, &metrics) })))
}

/// The address of a logged model's files.
pub(super) fn artifact_uri(model: &LoggedModel) -> String {
    format!("mlflow-artifacts:/{}/models/{}/artifacts", model.experiment, id_text(model.id))
}

/// The last values of metrics by name, for a version.
pub(super) async fn numbers(app: &App, id: Uuid) -> Result<BTreeMap<String, f64>, Refused> {
    let metrics = store::logged_models::metrics(&app.0.db, &[id]).await?.remove(&id).unwrap_or_default();
    let finite = metrics.into_iter().filter(|metric| metric.value.is_finite());
    Ok(finite.map(|metric| (metric.name, metric.value)).collect())
}

fn message(model: &LoggedModel, metrics: &[ModelMetric]) -> Value {
    let metric = |metric: &ModelMetric| {
        let value = if metric.value.is_nan() { json!("NaN") } else { json!(metric.value) };
        let mut message = json!({
            "key": metric.name,
            "value": value,
            "timestamp": metric.time_ms.unwrap_or_default(),
            "step": metric.step,
            "model_id": id_text(model.id),
            "run_id": metric.run.uuid().simple().to_string(),
        });
        if !metric.dataset_name.is_empty() {
            message["dataset_name"] = metric.dataset_name.clone().into();
            message["dataset_digest"] = metric.dataset_digest.clone().into();
        }
        message
    };
    json!({
        "info": {
            "model_id": id_text(model.id),
            "experiment_id": model.experiment.to_string(),
            "name": model.name,
            "creation_timestamp_ms": model.created_at.timestamp_millis(),
            "last_updated_timestamp_ms": model.updated_at.timestamp_millis(),
            "artifact_uri": artifact_uri(model),
            "status": model.status.name(),
            "model_type": model.model_type,
            "source_run_id": model.run.map(|run| run.uuid().simple().to_string()).unwrap_or_default(),
            "status_message": model.status_message,
            "tags": pairs(&model.tags),
        },
        "data": { "params": pairs(&model.params), "metrics": metrics.iter().map(metric).collect::<Vec<_>>() },
    })
}
