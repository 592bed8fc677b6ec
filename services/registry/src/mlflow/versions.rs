//! Model versions. One of a model in the ONNX format is a version that can be served; the files of others are kept.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::Uri};
use rekindle_domain::{
    ModelName,
    model_version::{ModelVersion, VersionStatus},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Answer, Body, Parameters, Refused, call,
    fields::{Pair, pairs, texts},
    logged_models,
    models::{Search, titled},
    search::{self, Attribute, Field, Record},
};
use crate::{
    App, Error,
    filter::Value as Constant,
    logged_model::{self, LoggedModel, id_text, parse_id},
    model::Model,
    model_version::{self, Files, Origin, Registered},
    store::{self, artifacts::Artifact},
    title,
};

/// MLflow's stages. Aliases have taken their place; clients of earlier versions move versions between them.
const STAGES: [&str; 4] = ["None", "Staging", "Production", "Archived"];
/// Files of a version at most.
const FILES: u64 = 10_000;
/// The longest address of a run, in characters.
const MAX_LINK: usize = 2000;

/// A version with what its message has.
#[derive(Debug, Clone)]
pub(super) struct Found {
    title: String,
    registered: Registered,
    aliases: Vec<String>,
}

impl Found {
    pub(super) fn stage(&self) -> &str {
        match self.registered.origin.stage.as_str() {
            "" => STAGES[0],
            stage => stage,
        }
    }

    pub(super) fn message(&self) -> Value {
        let Self { title, registered: Registered { version, origin, updated_at, .. }, aliases } = self;
        let mut message = json!({
            "name": title,
            "version": version.version.to_string(),
            "creation_timestamp": version.created_at.timestamp_millis(),
            "last_updated_timestamp": updated_at.timestamp_millis(),
            "current_stage": self.stage(),
            "description": version.description,
            "source": source(version, origin),
            "run_id": version.run.map(|run| run.uuid().simple().to_string()).unwrap_or_default(),
            // It is complete, although it may not be servable: clients wait for this status.
            "status": "READY",
            "tags": pairs(&version.tags),
            "run_link": origin.run_link,
            "aliases": aliases,
        });
        if version.status == VersionStatus::NotServable {
            message["status_message"] = format!("not servable: {}", version.status_reason).into();
        }
        if let Some(id) = origin.logged_model {
            message["model_id"] = id_text(id).into();
        }
        message
    }
}

/// Where the files are from. Versions of other clients have none.
fn source(version: &ModelVersion, origin: &Origin) -> String {
    if origin.source.is_empty() {
        format!("rekindle:/{}/{}", version.model, version.version)
    } else {
        origin.source.clone()
    }
}

impl Record for Found {
    fn value(&self, field: &Field) -> Option<Constant> {
        let Registered { version, origin, updated_at, .. } = &self.registered;
        match field {
            Field::Metric(name) => version.metrics.get(name).copied().map(Constant::Number),
            Field::Param(_) => None,
            Field::Tag(name) => search::text(version.tags.get(name)?),
            Field::Attribute(attribute) => match attribute {
                Attribute::Name => search::text(&self.title),
                Attribute::VersionNumber => Some(Constant::Number(version.version.into())),
                Attribute::RunId => search::text(&version.run?.uuid().simple().to_string()),
                Attribute::SourcePath => search::text(&source(version, origin)),
                Attribute::ModelId => search::text(&id_text(origin.logged_model?)),
                Attribute::ModelType => None,
                Attribute::Status => search::text(version.status.name()),
                Attribute::CreatedAt => search::time(version.created_at),
                Attribute::UpdatedAt => search::time(*updated_at),
            },
        }
    }
}

/// The number of a version, which MLflow has as a text.
pub(super) fn number(text: &str) -> Result<u32, Refused> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| Refused::invalid(format!("the version is {text:?}: expected a number from 1")))
}

/// The versions of a model that are not deleted, newest first.
pub(super) async fn of_model(app: &App, model: &Model) -> Result<Vec<Found>, Refused> {
    of_models(app, std::slice::from_ref(model)).await
}

/// The versions of models that are not deleted, by model, newest first; [`search::MOST`] at most.
async fn of_models(app: &App, models: &[Model]) -> Result<Vec<Found>, Refused> {
    /// Models of one query.
    const AT_ONCE: usize = 500;
    let mut found = Vec::new();
    for models in models.chunks(AT_ONCE) {
        let names: Vec<&ModelName> = models.iter().map(|model| &model.name).collect();
        let left = search::MOST - found.len() as u64;
        let versions = store::models::versions_of(&app.0.db, &names, left).await?;
        let aliases = store::aliases::of_models(&app.0.db, &names).await?;
        let titles: BTreeMap<&ModelName, &str> =
            models.iter().map(|model| (&model.name, model.title.as_str())).collect();
        found.extend(versions.into_iter().map(|registered| {
            let version = &registered.version;
            let title = titles.get(&version.model).copied().unwrap_or_default().to_owned();
            let here =
                aliases.iter().filter(|alias| (&alias.model, alias.version) == (&version.model, version.version));
            Found { title, aliases: here.map(|alias| alias.alias.to_string()).collect(), registered }
        }));
        if found.len() as u64 >= search::MOST {
            break;
        }
    }
    Ok(found)
}

/// One version that is not deleted.
async fn one(app: &App, model: &Model, number: u32) -> Result<Found, Refused> {
    let found = store::models::get(&app.0.db, &model.name, Some(number)).await?;
    let registered = found.filter(|registered| registered.version.deleted_at.is_none()).ok_or_else(|| {
        Refused::not_found(format!("Model Version (name={}, version={number}) not found", model.title))
    })?;
    let aliases = store::aliases::of_models(&app.0.db, &[&model.name]).await?;
    let aliases = aliases.into_iter().filter(|alias| alias.version == number).map(|alias| alias.alias.to_string());
    Ok(Found { title: model.title.clone(), registered, aliases: aliases.collect() })
}

/// The answer with one version.
pub(super) async fn answer(app: &App, model: &Model, number: u32) -> Answer {
    Ok(Json(json!({ "model_version": one(app, model, number).await?.message() })))
}

#[derive(Debug, Deserialize)]
pub(super) struct Create {
    name: String,
    source: String,
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    tags: Vec<Pair>,
    #[serde(default)]
    run_link: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    model_id: String,
}

pub(super) async fn create(State(app): State<App>, Body(request): Body<Create>) -> Answer {
    let model = titled(&app, &request.name).await?;
    let tags = texts(request.tags);
    title::check_tags(&tags)?;
    if request.run_link.chars().count() > MAX_LINK || request.run_link.contains('\0') {
        return Err(Refused::invalid(format!("run_link: expected at most {MAX_LINK} characters")));
    }
    if request.source.chars().count() > MAX_LINK || request.source.chars().any(char::is_control) {
        return Err(Refused::invalid(format!("source: expected at most {MAX_LINK} characters, no control characters")));
    }
    let run = match request.run_id.as_str() {
        "" => None,
        id => Some(super::fields::run_id(id, "")?),
    };
    let folder = Folder::parse(&app, &request.source).await?;
    let folder = match (folder, request.model_id.as_str()) {
        (Folder { logged: None, .. }, id) if !id.is_empty() => Folder::of_model(&app, id).await?,
        (folder, _) => folder,
    };
    let files = folder.files(&app).await?;
    let (mut options, mut metrics) = (BTreeMap::new(), BTreeMap::new());
    if let Some(logged) = &folder.logged {
        options.extend(logged.tags.clone());
        metrics = logged_models::numbers(&app, logged.id).await?;
    }
    options.extend(tags.clone());
    let logged_model = folder.logged.as_ref().map(|logged| logged.id);
    let run = run.or_else(|| folder.logged.as_ref().and_then(|logged| logged.run));
    // The files of a version of another model are its own, and not those that its name stands for later.
    let source = if folder.logged.is_some() { request.source } else { folder.address };
    let run_link = request.run_link;
    let given = Files {
        model: model.name.clone(),
        files,
        description: request.description,
        tags,
        run,
        options,
        metrics,
        origin: Origin { source, run_link, stage: String::new(), logged_model },
    };
    let (db, artifacts, bundles) = (&app.0.db, &app.0.artifacts, &app.0.bundles);
    // It holds what it reads of blobs and files.
    let created = Box::pin(model_version::register_files(db, artifacts, bundles, call(), given)).await?;
    answer(&app, &model, created.version).await
}

/// A folder of files: of a run, or of a logged model.
struct Folder {
    owner: Uuid,
    /// Relative to the owner's files; empty: all of them.
    path: String,
    logged: Option<LoggedModel>,
    /// An address that stays that of the folder, whatever models are called later.
    address: String,
}

impl Folder {
    /// The folder that an address names. Addresses of other servers are refused: a version must not change with them.
    async fn parse(app: &App, source: &str) -> Result<Self, Refused> {
        if let Some(path) = source.strip_prefix("mlflow-artifacts:") {
            // An address may name this server.
            let path = path.strip_prefix("//").map_or(path, |rest| rest.split_once('/').map_or("", |(_, path)| path));
            let path = path.trim_start_matches('/').trim_start_matches("api/2.0/mlflow-artifacts/artifacts/");
            let target = super::artifacts::Target::parse(path)?;
            let logged = store::logged_models::get(&app.0.db, target.owner).await?;
            return Ok(Self { owner: target.owner, path: target.path, logged, address: source.to_owned() });
        }
        if let Some(rest) = source.strip_prefix("models:/") {
            if let Some((title, number)) = rest.trim_matches('/').rsplit_once('/') {
                let number = self::number(number)?;
                return Self::of_version(app, &one(app, &titled(app, title).await?, number).await?.registered).await;
            }
            return Self::of_model(app, rest.trim_matches('/')).await;
        }
        if let Some(rest) = source.strip_prefix("runs:/") {
            let (run, path) = rest.trim_end_matches('/').split_once('/').unwrap_or((rest.trim_end_matches('/'), ""));
            let owner = super::fields::run_id(run, "")?.uuid();
            super::artifacts::check_path(path)?;
            return Ok(Self { owner, path: path.to_owned(), logged: None, address: source.to_owned() });
        }
        Err(Refused::invalid(format!(
            "the source {source:?} is not on this server: log the model with log_model, or its files with log_artifacts, \
             and register it from there (models:/, runs:/ or mlflow-artifacts:/)"
        )))
    }

    async fn of_model(app: &App, id: &str) -> Result<Self, Refused> {
        let logged = logged_model::get(&app.0.db, parse_id(id)?).await?;
        let address = format!("models:/{}", id_text(logged.id));
        Ok(Self { owner: logged.id, path: String::new(), logged: Some(logged), address })
    }

    async fn of_version(app: &App, registered: &Registered) -> Result<Self, Refused> {
        let source = registered.origin.source.as_str();
        match registered.origin.logged_model {
            Some(id) => Self::of_model(app, &id_text(id)).await,
            None if source.is_empty() => Err(Refused::invalid("the version has no files of MLflow's format")),
            None => Box::pin(Self::parse(app, source)).await,
        }
    }

    /// The files with their paths in the folder.
    async fn files(&self, app: &App) -> Result<Vec<Artifact>, Refused> {
        let below = if self.path.is_empty() { String::new() } else { format!("{}/", self.path) };
        let files = store::artifacts::beginning_with(&app.0.db, self.owner, &below, None, FILES + 1).await?;
        if files.len() as u64 > FILES {
            return Err(Refused::invalid(format!("the folder has more than {FILES} files")));
        }
        let within = |file: Artifact| {
            let path = file.path.strip_prefix(&below)?.to_owned();
            Some(Artifact { path, ..file })
        };
        let files: Vec<_> = files.into_iter().filter_map(within).collect();
        if files.is_empty() {
            return Err(Refused::invalid("the source has no files: log them before the version is created"));
        }
        Ok(files)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Id {
    name: String,
    version: String,
}

pub(super) async fn get(State(app): State<App>, Parameters(request): Parameters<Id>) -> Answer {
    answer(&app, &titled(&app, &request.name).await?, number(&request.version)?).await
}

pub(super) async fn download_uri(State(app): State<App>, Parameters(request): Parameters<Id>) -> Answer {
    let model = titled(&app, &request.name).await?;
    let registered = one(&app, &model, number(&request.version)?).await?.registered;
    let origin = &registered.origin;
    let uri = match origin.logged_model {
        Some(id) => store::logged_models::get(&app.0.db, id).await?.map(|logged| logged_models::artifact_uri(&logged)),
        None => None,
    };
    match uri.or_else(|| Some(origin.source.clone()).filter(|source| !source.is_empty())) {
        Some(uri) => Ok(Json(json!({ "artifact_uri": uri }))),
        None => Err(Refused::invalid(format!(
            "version {} of {} has no files of MLflow's format: its bundle is {}",
            registered.version.version, model.title, registered.version.bundle
        ))),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Describe {
    name: String,
    version: String,
    #[serde(default)]
    description: String,
}

pub(super) async fn update(State(app): State<App>, Body(request): Body<Describe>) -> Answer {
    let description = request.description;
    rekindle_domain::text::check_description(&description).map_err(|error| Refused::invalid(error.to_string()))?;
    change(&app, &request.name, &request.version, move |registered| {
        registered.version.description.clone_from(&description);
        Ok(())
    })
    .await
}

#[derive(Debug, Deserialize)]
pub(super) struct Transition {
    name: String,
    version: String,
    stage: String,
    #[serde(default)]
    archive_existing_versions: bool,
}

pub(super) async fn transition(State(app): State<App>, Body(request): Body<Transition>) -> Answer {
    let stage = STAGES.into_iter().find(|stage| stage.eq_ignore_ascii_case(&request.stage));
    let stage = stage.ok_or_else(|| {
        Refused::invalid(format!("the stage is {:?}: expected one of {}", request.stage, STAGES.join(", ")))
    })?;
    if request.archive_existing_versions {
        let model = titled(&app, &request.name).await?;
        let moved = number(&request.version)?;
        for found in of_model(&app, &model).await? {
            let number = found.registered.version.version;
            if found.stage() == stage && number != moved {
                let archived = in_stage(STAGES[3]);
                model_version::change(&app.0.db, call(), model.name.clone(), number, archived).await?;
            }
        }
    }
    change(&app, &request.name, &request.version, in_stage(stage)).await
}

/// Moves a version to a stage.
fn in_stage(stage: &'static str) -> impl Fn(&mut Registered) -> Result<(), Error> + Send + Sync + 'static {
    move |registered| {
        registered.origin.stage = if stage == STAGES[0] { String::new() } else { stage.to_owned() };
        Ok(())
    }
}

pub(super) async fn delete(State(app): State<App>, Body(request): Body<Id>) -> Answer {
    let model = titled(&app, &request.name).await?;
    let number = one(&app, &model, number(&request.version)?).await?.registered.version.version;
    model_version::set_deleted(&app.0.db, call(), model.name, number, String::new(), true).await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
pub(super) struct Tag {
    name: String,
    #[serde(default)]
    version: String,
    key: String,
    #[serde(default)]
    value: String,
}

pub(super) async fn set_tag(State(app): State<App>, Body(request): Body<Tag>) -> Answer {
    let Tag { name, version, key, value } = request;
    _ = change(&app, &name, &version, move |registered| {
        registered.version.tags.insert(key.clone(), value.clone());
        title::check_tags(&registered.version.tags)
    })
    .await?;
    Ok(Json(json!({})))
}

pub(super) async fn delete_tag(State(app): State<App>, Body(request): Body<Tag>) -> Answer {
    let Tag { name, version, key, .. } = request;
    _ = change(&app, &name, &version, move |registered| {
        registered.version.tags.remove(&key);
        Ok(())
    })
    .await?;
    Ok(Json(json!({})))
}

async fn change(
    app: &App,
    title: &str,
    version: &str,
    apply: impl Fn(&mut Registered) -> Result<(), Error> + Send + Sync + 'static,
) -> Answer {
    let model = titled(app, title).await?;
    let number = one(app, &model, number(version)?).await?.registered.version.version;
    model_version::change(&app.0.db, call(), model.name.clone(), number, apply).await?;
    answer(app, &model, number).await
}

pub(super) async fn search(State(app): State<App>, uri: Uri) -> Answer {
    let request = Search::of_query(uri.query().unwrap_or_default())?;
    let models = match request.name()? {
        Some(title) => super::models::by_title(&app, &title).await?.into_iter().collect(),
        None => store::models::list(&app.0.db, &call().namespace, None, search::MOST).await?,
    };
    let (page, next) = request.page(of_models(&app, &models).await?)?;
    let mut answer = json!({ "model_versions": page.iter().map(Found::message).collect::<Vec<_>>() });
    if let Some(next) = next {
        answer["next_page_token"] = next.into();
    }
    Ok(Json(answer))
}
