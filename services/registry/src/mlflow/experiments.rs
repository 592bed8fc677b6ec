//! Experiments.

use axum::{Json, extract::State, http::Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Body, Parameters, Refused, call,
    fields::{Pair, experiment_id, integer, page_size, pairs, texts, view},
    is_here,
    models::Search as ByQuery,
    search::{self, Attribute, Field, Record},
};
use crate::{
    App,
    experiment::{self, Experiment},
    filter::Value as Constant,
    store,
};

/// Experiments of a page that does not state its size, and at most.
const PAGE: usize = 1000;

#[derive(Debug, Deserialize)]
pub(super) struct Create {
    name: String,
    #[serde(default)]
    tags: Vec<Pair>,
}

pub(super) async fn create(State(app): State<App>, Body(request): Body<Create>) -> Answer {
    let id = experiment::create(&app.0.db, call(), request.name, texts(request.tags)).await?;
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
    let found = found.filter(|experiment| is_here(experiment.name.as_str()));
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

/// The parameters of a search without a body, of which `order_by` may occur several times.
pub(super) async fn search_by_query(State(app): State<App>, uri: Uri) -> Answer {
    let query = uri.query().unwrap_or_default();
    let view_type = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "view_type");
    let view_type = view_type.map(|(_, value)| value.into_owned()).unwrap_or_default();
    let ByQuery { filter, max_results, order_by, page_token } = ByQuery::of_query(query)?;
    found(&app, Search { max_results, page_token, filter, view_type, order_by }).await
}

impl Record for Experiment {
    fn value(&self, field: &Field) -> Option<Constant> {
        match field {
            Field::Tag(name) => search::text(self.tags.get(name)?),
            Field::Attribute(Attribute::Name) => search::text(&self.title),
            Field::Attribute(Attribute::CreatedAt) => search::time(self.created_at),
            Field::Attribute(Attribute::UpdatedAt) => search::time(self.updated_at),
            Field::Attribute(_) | Field::Metric(_) | Field::Param(_) => None,
        }
    }
}

async fn found(app: &App, request: Search) -> Answer {
    let size = page_size(request.max_results, PAGE)?;
    let all = store::experiments::list(&app.0.db, view(&request.view_type)?, None, search::MOST).await?;
    let (page, next) = search::page(all, &request.filter, &request.order_by, (size, &request.page_token))?;
    let mut answer = json!({ "experiments": page.iter().map(message).collect::<Vec<_>>() });
    if let Some(next) = next {
        answer["next_page_token"] = next.into();
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
    experiment::change(&app.0.db, call(), experiment_id(id)?, apply).await?;
    Ok(Json(json!({})))
}

fn message(experiment: &Experiment) -> Value {
    json!({
        "experiment_id": experiment.id.to_string(),
        "name": experiment.title,
        "artifact_location": format!("mlflow-artifacts:/{}", experiment.id),
        "lifecycle_stage": if experiment.deleted_at.is_some() { "deleted" } else { "active" },
        "last_update_time": experiment.updated_at.timestamp_millis(),
        "creation_time": experiment.created_at.timestamp_millis(),
        "tags": pairs(&experiment.tags),
    })
}
