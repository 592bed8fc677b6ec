//! Registered models. The name that clients have is the title of a model here.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::Uri};
use rekindle_domain::model_version::{RegisteredModel, Update};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Body, Parameters, Refused, call,
    fields::{Pair, page_size, pairs, texts},
    is_here,
    search::{self, Attribute, Field, Record},
    versions,
};
use crate::{
    App, Error, alias,
    filter::Value as Constant,
    model::{self, Model},
    store,
};

/// Models of a page that does not state its size, and at most.
const PAGE: usize = 1000;

/// The model of the namespace of this API with a title that is not deleted, if there is one.
pub(super) async fn by_title(app: &App, title: &str) -> Result<Option<Model>, Refused> {
    let found = store::models::by_title(&app.0.db, title).await?;
    Ok(found.filter(|model| model.deleted_at.is_none() && is_here(model.name.as_str())))
}

/// The same, which must exist.
pub(super) async fn titled(app: &App, title: &str) -> Result<Model, Refused> {
    let found = by_title(app, title).await?;
    found.ok_or_else(|| Refused::not_found(format!("Registered Model with name={title} not found")))
}

/// The model with a title, with its latest version and its aliases.
async fn complete(app: &App, title: &str) -> Result<RegisteredModel, Refused> {
    Ok(model::get(&app.0.db, &titled(app, title).await?.name).await?)
}

#[derive(Debug, Deserialize)]
pub(super) struct Create {
    name: String,
    #[serde(default)]
    tags: Vec<Pair>,
    #[serde(default)]
    description: String,
}

pub(super) async fn create(State(app): State<App>, Body(request): Body<Create>) -> Answer {
    let Create { name, tags, description } = request;
    let created = model::create(&app.0.db, call(), name, description, texts(tags)).await?;
    one(&app, &created.title).await
}

#[derive(Debug, Deserialize)]
pub(super) struct Name {
    name: String,
}

pub(super) async fn get(State(app): State<App>, Parameters(request): Parameters<Name>) -> Answer {
    one(&app, &request.name).await
}

#[derive(Debug, Deserialize)]
pub(super) struct Rename {
    name: String,
    #[serde(default)]
    new_name: String,
}

pub(super) async fn rename(State(app): State<App>, Body(request): Body<Rename>) -> Answer {
    let update = Update { title: Some(request.new_name.clone()), ..Update::default() };
    _ = change(&app, &request.name, update).await?;
    one(&app, &request.new_name).await
}

#[derive(Debug, Deserialize)]
pub(super) struct Describe {
    name: String,
    #[serde(default)]
    description: String,
}

pub(super) async fn update(State(app): State<App>, Body(request): Body<Describe>) -> Answer {
    _ = change(&app, &request.name, Update { description: Some(request.description), ..Update::default() }).await?;
    one(&app, &request.name).await
}

pub(super) async fn delete(State(app): State<App>, Body(request): Body<Name>) -> Answer {
    let name = titled(&app, &request.name).await?.name;
    // Before a version is deleted: all of it, or nothing.
    let aliases = store::aliases::of_models(&app.0.db, &[&name]).await?;
    model::must_not_be_used(&aliases, &format!("model {name}"))?;
    // MLflow deletes the versions with their model.
    let mut before = None;
    loop {
        let versions = store::models::versions(&app.0.db, &name, before, 100).await?;
        let Some(last) = versions.last() else { break };
        before = Some(last.version.version);
        for version in &versions {
            crate::model_version::set_deleted(
                &app.0.db,
                call(),
                name.clone(),
                version.version.version,
                String::new(),
                true,
            )
            .await?;
        }
    }
    model::set_deleted(&app.0.db, call(), name, String::new(), true).await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
pub(super) struct Tag {
    name: String,
    key: String,
    #[serde(default)]
    value: String,
}

pub(super) async fn set_tag(State(app): State<App>, Body(request): Body<Tag>) -> Answer {
    let tags = [(request.key, request.value)].into();
    change(&app, &request.name, Update { tags, ..Update::default() }).await
}

pub(super) async fn delete_tag(State(app): State<App>, Body(request): Body<Tag>) -> Answer {
    change(&app, &request.name, Update { delete_tags: vec![request.key], ..Update::default() }).await
}

async fn change(app: &App, title: &str, update: Update) -> Answer {
    let name = titled(app, title).await?.name;
    model::update(&app.0.db, call(), name, update).await?;
    Ok(Json(json!({})))
}

/// The parameters of a search without a body.
#[derive(Debug, Default)]
pub(super) struct Search {
    pub(super) filter: String,
    pub(super) max_results: Option<i64>,
    pub(super) order_by: Vec<String>,
    pub(super) page_token: String,
}

impl Search {
    /// The parameters of an address, of which `order_by` may occur several times.
    pub(super) fn of_query(query: &str) -> Result<Self, Refused> {
        let mut search = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()).into_owned() {
            match name.as_str() {
                "filter" => search.filter = value,
                "page_token" => search.page_token = value,
                "order_by" => search.order_by.push(value),
                "max_results" => {
                    let number = value.parse().map_err(|_| Refused::invalid("max_results: expected a number"))?;
                    search.max_results = Some(number);
                }
                _ => {}
            }
        }
        Ok(search)
    }

    /// The only name that the filter allows; `None` if it allows several.
    pub(super) fn name(&self) -> Result<Option<String>, Refused> {
        search::only_name(&self.filter)
    }

    /// The records of the page, and the token of the next one.
    pub(super) fn page<R: Record>(&self, records: Vec<R>) -> Result<(Vec<R>, Option<String>), Refused> {
        let size = page_size(self.max_results, PAGE)?;
        search::page(records, &self.filter, &self.order_by, (size, &self.page_token))
    }
}

impl Record for Model {
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

pub(super) async fn search(State(app): State<App>, uri: Uri) -> Answer {
    let request = Search::of_query(uri.query().unwrap_or_default())?;
    let mut models = store::models::list(&app.0.db, &call().namespace, None, search::MOST).await?;
    models.sort_by(|one, other| one.title.cmp(&other.title));
    let (page, next) = request.page(models)?;
    let mut messages = Vec::new();
    // The database takes a limited number of values in a statement.
    for page in page.chunks(500) {
        let models = model::complete(&app.0.db, page.to_vec()).await?;
        messages.extend(models.iter().map(message));
    }
    let mut answer = json!({ "registered_models": messages });
    if let Some(next) = next {
        answer["next_page_token"] = next.into();
    }
    Ok(Json(answer))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latest {
    name: String,
    stages: Vec<String>,
}

/// The latest version of each stage, or of some of them.
pub(super) async fn latest_versions(State(app): State<App>, Body(request): Body<Latest>) -> Answer {
    let model = titled(&app, &request.name).await?;
    let of_model = versions::of_model(&app, &model).await?;
    let mut latest = BTreeMap::new();
    for found in of_model {
        let stage = found.stage().to_owned();
        if request.stages.is_empty() || request.stages.iter().any(|given| given.eq_ignore_ascii_case(&stage)) {
            latest.entry(stage).or_insert(found);
        }
    }
    let messages: Vec<_> = latest.values().map(versions::Found::message).collect();
    Ok(Json(json!({ "model_versions": messages })))
}

#[derive(Debug, Deserialize)]
pub(super) struct SetAlias {
    name: String,
    alias: String,
    version: String,
}

pub(super) async fn set_alias(State(app): State<App>, Body(request): Body<SetAlias>) -> Answer {
    let name = titled(&app, &request.name).await?.name;
    let (alias, version) = (alias_name(&request.alias)?, versions::number(&request.version)?);
    alias::set_any(&app.0.db, call(), name, alias, version).await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
pub(super) struct AliasOf {
    name: String,
    alias: String,
}

pub(super) async fn delete_alias(State(app): State<App>, Body(request): Body<AliasOf>) -> Answer {
    let name = titled(&app, &request.name).await?.name;
    match alias::delete(&app.0.db, call(), name, alias_name(&request.alias)?, None, String::new()).await {
        // As MLflow's server: there is none afterwards.
        Ok(_) | Err(Error::Request(rekindle_service::RequestError::NotFound { .. })) => Ok(Json(json!({}))),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn get_by_alias(State(app): State<App>, Parameters(request): Parameters<AliasOf>) -> Answer {
    let model = titled(&app, &request.name).await?;
    let missing = || Refused::invalid(format!("Registered model alias {} not found.", request.alias));
    let found = match request.alias.parse() {
        Ok(alias) => store::aliases::get(&app.0.db, &model.name, &alias).await?.filter(|alias| !alias.deleted),
        Err(_) => None,
    };
    let number = found.ok_or_else(missing)?.version;
    versions::answer(&app, &model, number).await
}

fn alias_name(text: &str) -> Result<rekindle_domain::AliasName, Refused> {
    text.parse().map_err(|error: rekindle_domain::name::InvalidName| Refused::invalid(error.to_string()))
}

async fn one(app: &App, title: &str) -> Answer {
    Ok(Json(json!({ "registered_model": message(&complete(app, title).await?) })))
}

fn message(model: &RegisteredModel) -> Value {
    let aliases: Vec<_> = model
        .aliases
        .iter()
        .map(|alias| json!({ "alias": alias.alias.to_string(), "version": alias.version.to_string() }))
        .collect();
    let latest: Vec<_> = model
        .latest
        .iter()
        .map(|latest| {
            json!({ "name": model.title, "version": latest.version.to_string(), "status": "READY",
            "creation_timestamp": latest.created_at.timestamp_millis(), "current_stage": "None" })
        })
        .collect();
    json!({
        "name": model.title,
        "creation_timestamp": model.created_at.timestamp_millis(),
        "last_updated_timestamp": model.updated_at.timestamp_millis(),
        "description": model.description,
        "tags": pairs(&model.tags),
        "aliases": aliases,
        "latest_versions": latest,
    })
}
