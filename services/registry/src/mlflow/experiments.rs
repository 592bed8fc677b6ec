//! Experiments.

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Body, Parameters, Refused, call,
    fields::{Pair, experiment_id, integer, texts, view},
};
use crate::{
    App,
    experiment::{self, Experiment},
    store,
};

/// Experiments of a page that does not state its size, and at most.
const PAGE: u64 = 1000;

#[derive(Debug, Deserialize)]
pub(super) struct Create {
    name: String,
    #[serde(default)]
    tags: Vec<Pair>,
}

pub(super) async fn create(State(app): State<App>, Body(request): Body<Create>) -> Answer {
    let id = experiment::create(&app.0.db, request.name, texts(request.tags), call().now).await?;
    Ok(Json(json!({ "experiment_id": id.to_string() })))
}

#[derive(Debug, Deserialize)]
pub(super) struct Id {
    experiment_id: String,
}

pub(super) async fn get(State(app): State<App>, Parameters(request): Parameters<Id>) -> Answer {
    let experiment = experiment::get(&app.0.db, experiment_id(&request.experiment_id)?).await?;
    Ok(Json(json!({ "experiment": message(&experiment) })))
}

#[derive(Debug, Deserialize)]
pub(super) struct Name {
    experiment_name: String,
}

pub(super) async fn get_by_name(State(app): State<App>, Parameters(request): Parameters<Name>) -> Answer {
    let title = request.experiment_name;
    let found = store::experiments::by_title(&app.0.db, &title).await?;
    let experiment =
        found.ok_or_else(|| Refused::not_found(format!("Could not find experiment with name '{title}'")))?;
    Ok(Json(json!({ "experiment": message(&experiment) })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Search {
    #[serde(deserialize_with = "integer")]
    max_results: Option<i64>,
    page_token: String,
    filter: String,
    order_by: Vec<String>,
    view_type: String,
}

pub(super) async fn search(State(app): State<App>, Body(request): Body<Search>) -> Answer {
    found(&app, request).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SearchByQuery {
    max_results: Option<i64>,
    page_token: String,
    filter: String,
    view_type: String,
}

pub(super) async fn search_by_query(State(app): State<App>, Parameters(request): Parameters<SearchByQuery>) -> Answer {
    let SearchByQuery { max_results, page_token, filter, view_type } = request;
    found(&app, Search { max_results, page_token, filter, view_type, order_by: Vec::new() }).await
}

async fn found(app: &App, request: Search) -> Answer {
    if !request.filter.trim().is_empty() {
        return Err(Refused::invalid("experiments are not searched by a filter: list them, or get one by its name"));
    }
    if !request.order_by.is_empty() {
        return Err(Refused::invalid("experiments are listed newest first: leave order_by empty"));
    }
    let size = request.max_results.map_or(PAGE, |given| u64::try_from(given).unwrap_or(0));
    if size == 0 {
        return Err(Refused::invalid("max_results: expected a number from 1"));
    }
    let size = size.min(PAGE);
    let below = match request.page_token.as_str() {
        "" => None,
        token => Some(token.parse().map_err(|_| Refused::invalid("page_token: expected that of the page before"))?),
    };
    let mut page = store::experiments::list(&app.0.db, view(&request.view_type)?, below, size + 1).await?;
    let is_last = page.len() as u64 <= size;
    page.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    let mut answer = json!({ "experiments": page.iter().map(message).collect::<Vec<_>>() });
    if let Some(last) = page.last().filter(|_| !is_last) {
        answer["next_page_token"] = last.id.to_string().into();
    }
    Ok(Json(answer))
}

#[derive(Debug, Deserialize)]
pub(super) struct Update {
    experiment_id: String,
    #[serde(default)]
    new_name: String,
}

pub(super) async fn update(State(app): State<App>, Body(request): Body<Update>) -> Answer {
    let title = request.new_name;
    change(&app, &request.experiment_id, move |experiment| experiment.title.clone_from(&title)).await
}

pub(super) async fn delete(State(app): State<App>, Body(request): Body<Id>) -> Answer {
    let now = call().now;
    change(&app, &request.experiment_id, move |experiment| experiment.deleted_at = Some(now)).await
}

pub(super) async fn restore(State(app): State<App>, Body(request): Body<Id>) -> Answer {
    change(&app, &request.experiment_id, |experiment| experiment.deleted_at = None).await
}

#[derive(Debug, Deserialize)]
pub(super) struct Tag {
    experiment_id: String,
    key: String,
    #[serde(default)]
    value: String,
}

pub(super) async fn set_tag(State(app): State<App>, Body(request): Body<Tag>) -> Answer {
    let Tag { experiment_id, key, value } = request;
    change(&app, &experiment_id, move |experiment| _ = experiment.tags.insert(key.clone(), value.clone())).await
}

pub(super) async fn delete_tag(State(app): State<App>, Body(request): Body<Tag>) -> Answer {
    let Tag { experiment_id, key, .. } = request;
    change(&app, &experiment_id, move |experiment| _ = experiment.tags.remove(&key)).await
}

async fn change(app: &App, id: &str, apply: impl Fn(&mut Experiment) + Send + Sync + 'static) -> Answer {
    experiment::change(&app.0.db, experiment_id(id)?, call().now, apply).await?;
    Ok(Json(json!({})))
}

fn message(experiment: &Experiment) -> Value {
    let tags: Vec<_> = experiment.tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    json!({
        "experiment_id": experiment.id.to_string(),
        "name": experiment.title,
        "artifact_location": format!("mlflow-artifacts:/{}", experiment.id),
        "lifecycle_stage": if experiment.deleted_at.is_some() { "deleted" } else { "active" },
        "last_update_time": experiment.updated_at.timestamp_millis(),
        "creation_time": experiment.created_at.timestamp_millis(),
        "tags": tags,
    })
}
