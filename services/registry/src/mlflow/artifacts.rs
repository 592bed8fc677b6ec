//! Files of runs and of logged models: MLflow's artifact proxy. A path is `EXPERIMENT/RUN/artifacts/PATH` or
//! `EXPERIMENT/models/MODEL/artifacts/PATH`, as in their artifact URIs.

use std::collections::BTreeMap;

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use rekindle_artifacts::BlobWriter;
use rekindle_domain::RunId;
use rekindle_store::in_transaction;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Answer, Parameters, Refused, call,
    fields::run_id,
    logged_models,
    runs::{artifact_uri, experiment_of},
};
use crate::{
    App, Error,
    garbage::{self, Present},
    logged_model::{self, parse_id},
    run,
    store::{self, artifacts::Artifact},
};

/// The longest path of a file, in bytes.
const MAX_PATH: usize = 1024;
/// Files that are read for a list. A folder with more is listed as far as they go.
const LISTED: u64 = 10_000;

/// A file or a folder of a run or of a logged model.
pub(super) struct Target {
    /// The id of the run or of the model.
    pub(super) owner: Uuid,
    is_model: bool,
    /// Relative to the files of the owner; empty: all of them.
    pub(super) path: String,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, Refused> {
        let foreign = || {
            Refused::not_found(format!(
                "{text:?} is in no run and no model: expected EXPERIMENT/RUN/artifacts/PATH or \
                 EXPERIMENT/models/MODEL/artifacts/PATH"
            ))
        };
        let (_, rest) = text.trim_matches('/').split_once('/').ok_or_else(foreign)?;
        let (is_model, rest) = rest.strip_prefix("models/").map_or((false, rest), |rest| (true, rest));
        let mut parts = rest.splitn(3, '/');
        let (Some(owner), Some("artifacts")) = (parts.next(), parts.next()) else { return Err(foreign()) };
        let path = parts.next().unwrap_or_default().to_owned();
        check_path(&path)?;
        let owner = if is_model { parse_id(owner)? } else { run_id(owner, "")?.uuid() };
        Ok(Self { owner, is_model, path })
    }

    /// Refuses files of a run or a model that is not here.
    async fn must_exist(&self, app: &App) -> Result<(), Refused> {
        if self.is_model {
            logged_model::get(&app.0.db, self.owner).await?;
        } else if store::runs::get(&app.0.db, RunId::new(self.owner)).await?.is_none() {
            return Err(Error::not_found("run", self.owner).into());
        }
        Ok(())
    }

    /// A file, not all of them.
    fn file(text: &str) -> Result<Self, Refused> {
        let target = Self::parse(text)?;
        if target.path.is_empty() {
            return Err(Refused::invalid("the path names no file"));
        }
        Ok(target)
    }
}

pub(super) fn check_path(path: &str) -> Result<(), Refused> {
    let is_valid = path.len() <= MAX_PATH
        && !path.chars().any(|character| character.is_control() || character == '\\')
        && (path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | "..")));
    if is_valid {
        return Ok(());
    }
    Err(Refused::invalid(format!(
        "invalid path: expected at most {MAX_PATH} bytes, and no empty part, no `.`, no `..` and no control characters"
    )))
}

pub(super) async fn upload(
    State(app): State<App>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Json<Value>, Refused> {
    let target = Target::file(&path)?;
    // Before the bytes are received.
    target.must_exist(&app).await?;
    let mut writer = app.0.artifacts.writer().await.map_err(Error::from)?;
    if let Err(refused) = receive(&mut writer, request.into_body()).await {
        if let Err(error) = writer.abort().await {
            tracing::debug!(%error, "an incomplete upload is left to the sweep");
        }
        return Err(refused);
    }
    let (digest, bytes) = garbage::store(&app.0.db, &app.0.artifacts, writer).await?;
    let artifact = Artifact { path: target.path, digest, bytes };
    let present = Present::find(&app.0.db, &app.0.artifacts, vec![digest]).await?;
    let (artifacts, owner, now) = (app.0.artifacts.clone(), target.owner, call().now);
    in_transaction(&app.0.db, async move |txn| {
        present.hold(txn, &artifacts).await?;
        Ok::<_, Error>(store::artifacts::put(txn, owner, &artifact, now).await?)
    })
    .await?;
    Ok(Json(json!({})))
}

async fn receive(writer: &mut BlobWriter, body: Body) -> Result<(), Refused> {
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Refused::invalid(format!("the file cannot be received: {error}")))?;
        writer.write(chunk).await.map_err(Error::from)?;
    }
    Ok(())
}

pub(super) async fn download(State(app): State<App>, Path(path): Path<String>) -> Result<Response, Refused> {
    let target = Target::file(&path)?;
    let found = store::artifacts::get(&app.0.db, target.owner, &target.path).await?;
    let artifact = found.ok_or_else(|| Refused::not_found(format!("there is no file {:?}", target.path)))?;
    let reader = app.0.artifacts.reader(&artifact.digest).await.map_err(Error::from)?;
    let chunks = stream::try_unfold(reader, async |mut reader| {
        let chunk = reader.chunk().await?;
        Ok::<_, rekindle_artifacts::Error>(chunk.map(|chunk| (chunk, reader)))
    });
    let mut response = Body::from_stream(chunks).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, artifact.bytes.into());
    // A browser must not run what somebody has uploaded.
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

pub(super) async fn delete(State(app): State<App>, Path(path): Path<String>) -> Result<Response, Refused> {
    let target = Target::file(&path)?;
    if !store::artifacts::delete(&app.0.db, target.owner, &target.path).await? {
        return Err(Refused::not_found(format!("there is no file {:?}", target.path)));
    }
    Ok((StatusCode::OK, Json(json!({}))).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct List {
    path: String,
}

pub(super) async fn list(State(app): State<App>, Parameters(request): Parameters<List>) -> Answer {
    let target = Target::parse(&request.path)?;
    let entries = entries(&app, target.owner, &target.path).await?;
    let files: Vec<_> = entries.into_iter().map(|(name, entry)| file(&name, &entry)).collect();
    Ok(Json(json!({ "files": files })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ListOfRun {
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    run_uuid: String,
    path: String,
}

pub(super) async fn list_of_run(State(app): State<App>, Parameters(request): Parameters<ListOfRun>) -> Answer {
    let path = request.path.trim_matches('/');
    check_path(path)?;
    let run = run::get(&app.0.db, run_id(&request.run_id, &request.run_uuid)?).await?;
    let experiment = experiment_of(&app, &run).await?;
    let below = if path.is_empty() { String::new() } else { format!("{path}/") };
    let entries = entries(&app, run.id.uuid(), path).await?;
    let files: Vec<_> = entries.into_iter().map(|(name, entry)| file(&format!("{below}{name}"), &entry)).collect();
    Ok(Json(json!({ "root_uri": artifact_uri(&run, &experiment), "files": files })))
}

enum Entry {
    Folder,
    File { bytes: u64 },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ListOfModel {
    artifact_directory_path: String,
}

pub(super) async fn list_of_model(
    State(app): State<App>,
    Path(id): Path<String>,
    Parameters(request): Parameters<ListOfModel>,
) -> Answer {
    let path = request.artifact_directory_path.trim_matches('/');
    check_path(path)?;
    let model = logged_model::get(&app.0.db, parse_id(&id)?).await?;
    let below = if path.is_empty() { String::new() } else { format!("{path}/") };
    let entries = entries(&app, model.id, path).await?;
    let files: Vec<_> = entries.into_iter().map(|(name, entry)| file(&format!("{below}{name}"), &entry)).collect();
    Ok(Json(json!({ "root_uri": logged_models::artifact_uri(&model), "files": files })))
}

/// What is directly in a folder, by name. A file is in no folder of its own.
async fn entries(app: &App, owner: Uuid, folder: &str) -> Result<BTreeMap<String, Entry>, Refused> {
    let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let found = store::artifacts::beginning_with(&app.0.db, owner, &below, None, LISTED).await?;
    let mut entries = BTreeMap::new();
    for artifact in found {
        // The database may ignore the case.
        let Some(rest) = artifact.path.strip_prefix(&below) else { continue };
        match rest.split_once('/') {
            Some((name, _)) => entries.insert(name.to_owned(), Entry::Folder),
            None => entries.insert(rest.to_owned(), Entry::File { bytes: artifact.bytes }),
        };
    }
    Ok(entries)
}

fn file(path: &str, entry: &Entry) -> Value {
    match entry {
        Entry::Folder => json!({ "path": path, "is_dir": true }),
        Entry::File { bytes } => json!({ "path": path, "is_dir": false, "file_size": bytes }),
    }
}
