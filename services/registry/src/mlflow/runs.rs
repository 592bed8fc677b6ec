//! Runs: their parameters, tags and metrics.

use std::{collections::BTreeMap, ops::RangeInclusive};

use axum::{Json, extract::State, http::Uri};
use chrono::{DateTime, Utc};
use rekindle_domain::{
    RunId,
    run::{Metric, NewRun, Run, RunStatus},
};
use rekindle_store::page;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Answer, Body, Parameters, Refused, call,
    fields::{Pair, experiment_id, float, integer, page_size, pairs, run_id, texts, time, view},
};
use crate::{
    App, Error,
    experiment::Experiment,
    filter::{parse_filter, parse_orders},
    logged_model::{ModelMetric, parse_id},
    run::{self, Batch, Cursors, Deletion, Token},
    store::{
        self,
        run_links::{Kind, Link},
        runs::Search,
    },
};

/// The tag with the name of a run, which marks the runs of this API.
pub(crate) const RUN_NAME: &str = "mlflow.runName";
/// The tag with the person whose run it is.
pub(crate) const USER: &str = "mlflow.user";
/// The tag with the run that a run is a part of.
const PARENT: &str = "mlflow.parentRunId";

/// Runs of a page that does not state its size, and at most.
const PAGE: usize = 1000;
/// Experiments of one search.
const EXPERIMENTS: usize = 1000;
/// Runs that are read at a time.
const AT_ONCE: u64 = 64;
/// Bytes of a page, as far as a run of the next page has no more.
const PAGE_BYTES: usize = 8 << 20;
/// Points of a page of a metric.
const POINTS: u64 = 25_000;

#[derive(Debug, Deserialize)]
pub(super) struct Create {
    experiment_id: String,
    #[serde(default)]
    user_id: String,
    #[serde(default)]
    run_name: String,
    #[serde(default, deserialize_with = "integer")]
    start_time: Option<i64>,
    #[serde(default)]
    tags: Vec<Pair>,
}

pub(super) async fn create(State(app): State<App>, Body(request): Body<Create>) -> Answer {
    let call = call();
    let experiment = active_experiment(&app, &request.experiment_id).await?;
    let started_at = request.start_time.map(time).transpose()?.unwrap_or(call.now);
    let mut tags = texts(request.tags);
    let name = match (request.run_name, tags.get(RUN_NAME)) {
        (name, _) if !name.is_empty() => name,
        (_, Some(tagged)) if !tagged.is_empty() => tagged.clone(),
        _ => format!("run-{}", &call.id.simple().to_string()[20..]),
    };
    tags.insert(RUN_NAME.to_owned(), name);
    if !request.user_id.is_empty() {
        tags.entry(USER.to_owned()).or_insert(request.user_id);
    }
    let parent_id = match tags.get(PARENT) {
        // A parent that is not here is a tag and no more, as with MLflow's server.
        Some(parent) => match Uuid::try_parse(parent).ok().map(RunId::new) {
            Some(id) => store::runs::get(&app.0.db, id).await?.map(|_| id),
            None => None,
        },
        None => None,
    };
    let new = NewRun { parent_id, tags, ..NewRun::new(experiment.name.clone()) };
    let limits = app.0.config.limits;
    let created = run::create_started(&app.0.db, call, new, started_at, limits).await?;
    Ok(Json(json!({ "run": message(&created, &experiment, &[]) })))
}

#[derive(Debug, Deserialize)]
pub(super) struct Id {
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    run_uuid: String,
}

pub(super) async fn get(State(app): State<App>, Parameters(request): Parameters<Id>) -> Answer {
    let run = run::get(&app.0.db, run_id(&request.run_id, &request.run_uuid)?).await?;
    let experiment = experiment_of(&app, &run).await?;
    let links = store::run_links::of_runs(&app.0.db, &[run.id]).await?.remove(&run.id).unwrap_or_default();
    Ok(Json(json!({ "run": message(&run, &experiment, &links) })))
}

#[derive(Debug, Deserialize)]
pub(super) struct Update {
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    run_uuid: String,
    #[serde(default)]
    status: String,
    #[serde(default, deserialize_with = "integer")]
    end_time: Option<i64>,
    #[serde(default)]
    run_name: String,
}

pub(super) async fn update(State(app): State<App>, Body(request): Body<Update>) -> Answer {
    let id = run_id(&request.run_id, &request.run_uuid)?;
    if !request.run_name.is_empty() {
        let tags = [(RUN_NAME.to_owned(), request.run_name)].into();
        _ = log(&app, id, Batch { tags, ..Batch::default() }).await?;
    }
    if !request.status.is_empty() {
        let status = status_of(&request.status)?;
        let ended_at = request.end_time.map(time).transpose()?;
        run::set_status(&app.0.db, call(), id, status, ended_at).await?;
    }
    let run = run::get(&app.0.db, id).await?;
    let experiment = experiment_of(&app, &run).await?;
    Ok(Json(json!({ "run_info": info(&run, &experiment) })))
}

fn status_of(name: &str) -> Result<RunStatus, Refused> {
    let of_mlflow =
        [RunStatus::Scheduled, RunStatus::Running, RunStatus::Finished, RunStatus::Failed, RunStatus::Killed];
    of_mlflow.into_iter().find(|status| status.name() == name).ok_or_else(|| {
        Refused::invalid(format!("status is {name:?}: expected SCHEDULED, RUNNING, FINISHED, FAILED or KILLED"))
    })
}

pub(super) async fn delete(State(app): State<App>, Body(request): Body<Id>) -> Answer {
    let deletion = Deletion { is_deleted: true, in_progress: true, ..Deletion::default() };
    run::set_deleted(&app.0.db, call(), run_id(&request.run_id, &request.run_uuid)?, deletion).await?;
    Ok(Json(json!({})))
}

pub(super) async fn restore(State(app): State<App>, Body(request): Body<Id>) -> Answer {
    let id = run_id(&request.run_id, &request.run_uuid)?;
    run::set_deleted(&app.0.db, call(), id, Deletion::default()).await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
pub(super) struct Point {
    key: String,
    #[serde(deserialize_with = "float")]
    value: f64,
    #[serde(default, deserialize_with = "integer")]
    timestamp: Option<i64>,
    #[serde(default, deserialize_with = "integer")]
    step: Option<i64>,
    /// The logged model that was measured.
    #[serde(default)]
    model_id: String,
    /// The data that it was measured on.
    #[serde(default)]
    dataset_name: String,
    #[serde(default)]
    dataset_digest: String,
}

impl Point {
    /// The metric of the logged model that the point names.
    fn of_model(&self, run: RunId) -> Result<Option<(Uuid, ModelMetric)>, Refused> {
        if self.model_id.is_empty() {
            return Ok(None);
        }
        for text in [&self.dataset_name, &self.dataset_digest] {
            if text.chars().count() > 1024 || text.contains('\0') {
                return Err(Refused::invalid(
                    "a dataset of a metric has a NUL character, or more than 1024 in its name",
                ));
            }
        }
        let metric = ModelMetric {
            run,
            name: self.key.clone(),
            dataset_name: self.dataset_name.clone(),
            dataset_digest: self.dataset_digest.clone(),
            value: self.value.clamp(f64::MIN, f64::MAX),
            step: self.step.unwrap_or_default(),
            time_ms: self.timestamp,
        };
        Ok(Some((parse_id(&self.model_id)?, metric)))
    }

    fn metric(self) -> Result<Metric, Refused> {
        // Infinity is the greatest number, as in MLflow's own database.
        let value = if self.value.is_nan() { self.value } else { self.value.clamp(f64::MIN, f64::MAX) };
        let time = self.timestamp.map(time).transpose()?;
        Ok(Metric { name: self.key, value, step: self.step.unwrap_or_default(), time })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct LogMetric {
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    run_uuid: String,
    #[serde(flatten)]
    point: Point,
}

pub(super) async fn log_metric(State(app): State<App>, Body(request): Body<LogMetric>) -> Answer {
    let id = run_id(&request.run_id, &request.run_uuid)?;
    let of_models = request.point.of_model(id)?.into_iter().collect();
    let metrics = vec![request.point.metric()?];
    log(&app, id, Batch { metrics, of_models, ..Batch::default() }).await
}

#[derive(Debug, Deserialize)]
pub(super) struct LogPair {
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    run_uuid: String,
    key: String,
    #[serde(default)]
    value: String,
}

pub(super) async fn log_param(State(app): State<App>, Body(request): Body<LogPair>) -> Answer {
    let params = [(request.key, request.value)].into();
    log(&app, run_id(&request.run_id, &request.run_uuid)?, Batch { params, ..Batch::default() }).await
}

pub(super) async fn set_tag(State(app): State<App>, Body(request): Body<LogPair>) -> Answer {
    let tags = [(request.key, request.value)].into();
    log(&app, run_id(&request.run_id, &request.run_uuid)?, Batch { tags, ..Batch::default() }).await
}

pub(super) async fn delete_tag(State(app): State<App>, Body(request): Body<LogPair>) -> Answer {
    let id = run_id(&request.run_id, &request.run_uuid)?;
    if !run::get(&app.0.db, id).await?.tags.contains_key(&request.key) {
        return Err(Refused::not_found(format!("No tag with name: {} in run with id {id}", request.key)));
    }
    log(&app, id, Batch { delete_tags: vec![request.key], ..Batch::default() }).await
}

#[derive(Debug, Deserialize)]
pub(super) struct LogBatch {
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    run_uuid: String,
    #[serde(default)]
    metrics: Vec<Point>,
    #[serde(default)]
    params: Vec<Pair>,
    #[serde(default)]
    tags: Vec<Pair>,
}

pub(super) async fn log_batch(State(app): State<App>, Body(request): Body<LogBatch>) -> Answer {
    let mut params = BTreeMap::new();
    for Pair { key, value } in request.params {
        if params.insert(key.clone(), value.clone()).is_some_and(|earlier| earlier != value) {
            return Err(Refused::invalid(format!("the batch has two values of the param {key:?}")));
        }
    }
    let id = run_id(&request.run_id, &request.run_uuid)?;
    let of_models = request.metrics.iter().filter_map(|point| point.of_model(id).transpose());
    let of_models = of_models.collect::<Result<_, _>>()?;
    let metrics = request.metrics.into_iter().map(Point::metric).collect::<Result<_, _>>()?;
    let batch = Batch { params, tags: texts(request.tags), metrics, of_models, delete_tags: Vec::new() };
    log(&app, id, batch).await
}

async fn log(app: &App, id: RunId, batch: Batch) -> Answer {
    run::log(&app.0.db, id, batch, app.0.config.limits, app.0.config.leases(), call()).await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
pub(super) struct LogInputs {
    run_id: String,
    #[serde(default)]
    datasets: Vec<DatasetInput>,
    #[serde(default)]
    models: Vec<ModelLink>,
}

#[derive(Debug, Deserialize, Serialize)]
struct DatasetInput {
    #[serde(default)]
    tags: Vec<Value>,
    dataset: Dataset,
}

#[derive(Debug, Deserialize, Serialize)]
struct Dataset {
    name: String,
    digest: String,
    #[serde(default)]
    source_type: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    schema: String,
    #[serde(default)]
    profile: String,
}

#[derive(Debug, Deserialize)]
struct ModelLink {
    model_id: String,
    #[serde(default, deserialize_with = "integer")]
    step: Option<i64>,
}

pub(super) async fn log_inputs(State(app): State<App>, Body(request): Body<LogInputs>) -> Answer {
    let datasets = request.datasets.into_iter().map(|input| {
        let key = format!("{}/{}", input.dataset.name, input.dataset.digest);
        Link { kind: Kind::Dataset, key, data: json!(input) }
    });
    let models = request.models.into_iter().map(|model| Link {
        kind: Kind::ModelInput,
        data: json!({ "model_id": model.model_id }),
        key: model.model_id,
    });
    link(&app, &request.run_id, datasets.chain(models).collect()).await
}

#[derive(Debug, Deserialize)]
pub(super) struct LogOutputs {
    run_id: String,
    #[serde(default)]
    models: Vec<ModelLink>,
}

pub(super) async fn log_outputs(State(app): State<App>, Body(request): Body<LogOutputs>) -> Answer {
    let models = request.models.into_iter().map(|model| Link {
        kind: Kind::ModelOutput,
        data: json!({ "model_id": model.model_id, "step": model.step.unwrap_or_default() }),
        key: format!("{}/{}", model.model_id, model.step.unwrap_or_default()),
    });
    link(&app, &request.run_id, models.collect()).await
}

/// Links of one request at most, and the most bytes of one.
const LINKS: usize = 1000;
const LINK_BYTES: usize = 1 << 20;

async fn link(app: &App, id: &str, links: Vec<Link>) -> Answer {
    let id = run_id(id, "")?;
    if links.len() > LINKS {
        return Err(Refused::invalid(format!("has {} entries: expected at most {LINKS}", links.len())));
    }
    for link in &links {
        let bytes = link.data.to_string().len();
        let is_valid =
            link.key.len() <= store::KEY_BYTES && bytes <= LINK_BYTES && !link.data.to_string().contains("\\u0000");
        if !is_valid {
            let problem = "a dataset or a model has too long a name, too many bytes, or a NUL character";
            return Err(Refused::invalid(format!(
                "{problem}: expected at most {} bytes of names and {LINK_BYTES} bytes of data",
                store::KEY_BYTES
            )));
        }
    }
    run::link(&app.0.db, call(), id, links).await?;
    Ok(Json(json!({})))
}

/// Clients of MLflow 1 and 2 describe a model that they have uploaded in a tag of its run.
#[derive(Debug, Deserialize)]
pub(super) struct LogModel {
    run_id: String,
    model_json: String,
}

pub(super) async fn log_model(State(app): State<App>, Body(request): Body<LogModel>) -> Answer {
    const HISTORY: &str = "mlflow.log-model.history";
    let id = run_id(&request.run_id, "")?;
    let model: Value = serde_json::from_str(&request.model_json)
        .map_err(|error| Refused::invalid(format!("model_json is no JSON: {error}")))?;
    let run = run::get(&app.0.db, id).await?;
    let earlier = run.tags.get(HISTORY).and_then(|history| serde_json::from_str(history).ok());
    let mut history: Vec<Value> = earlier.unwrap_or_default();
    history.push(model);
    let tags = [(HISTORY.to_owned(), json!(history).to_string())].into();
    log(&app, id, Batch { tags, ..Batch::default() }).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SearchRuns {
    experiment_ids: Vec<String>,
    filter: String,
    run_view_type: String,
    #[serde(deserialize_with = "integer")]
    max_results: Option<i64>,
    order_by: Vec<String>,
    page_token: String,
}

pub(super) async fn search(State(app): State<App>, Body(request): Body<SearchRuns>) -> Answer {
    if request.experiment_ids.len() > EXPERIMENTS {
        let given = request.experiment_ids.len();
        return Err(Refused::invalid(format!("experiment_ids has {given} entries: expected at most {EXPERIMENTS}")));
    }
    let mut experiments = BTreeMap::new();
    for id in &request.experiment_ids {
        if let Some(experiment) = store::experiments::get(&app.0.db, experiment_id(id)?).await? {
            experiments.insert(experiment.name.clone(), experiment);
        }
    }
    let search = Search {
        namespace: call().namespace,
        experiments: Some(experiments.keys().cloned().collect()),
        view: view(&request.run_view_type)?,
        filter: parse_filter(&request.filter)?,
        orders: parse_orders(&request.order_by)?,
    };
    let size = page_size(request.max_results, PAGE)?;
    let cursors = Cursors::of(&search);
    let mut after = cursors.resume(&app.0.db, token(&request.page_token)?).await?;
    let (mut runs, mut bytes) = (Vec::new(), 0);
    let next_page_token = loop {
        let found = run::search(&app.0.db, &search, after.as_ref().map(|cursor| &cursor.position), AT_ONCE).await?;
        let count = found.len() as u64;
        let mut is_full = false;
        let ids: Vec<RunId> = found.iter().map(|run| run.id).collect();
        let links = store::run_links::of_runs(&app.0.db, &ids).await?;
        for run in found {
            let experiment =
                experiments.get(&run.experiment).ok_or_else(|| Error::not_found("experiment", &run.experiment))?;
            let message = message(&run, experiment, links.get(&run.id).map(Vec::as_slice).unwrap_or_default());
            let size_of = message.to_string().len();
            is_full = runs.len() >= size || (!runs.is_empty() && bytes + size_of > PAGE_BYTES);
            if is_full {
                break;
            }
            after = Some(cursors.after(&run));
            bytes += size_of;
            runs.push(message);
        }
        if is_full {
            break after.map(|cursor| page::encode(&cursor.to_string()));
        }
        if count < AT_ONCE {
            break None;
        }
    };
    let mut answer = json!({ "runs": runs });
    if let Some(token) = next_page_token {
        answer["next_page_token"] = token.into();
    }
    Ok(Json(answer))
}

fn token(text: &str) -> Result<Option<Token>, Refused> {
    let foreign = || Refused::invalid("page_token: expected that of the page before");
    let key = page::parse(1, text).map_err(|_| foreign())?.after;
    key.map(|key| key.parse().map_err(|()| foreign())).transpose()
}

#[derive(Debug, Deserialize)]
pub(super) struct History {
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    run_uuid: String,
    metric_key: String,
    #[serde(default)]
    max_results: Option<i64>,
    #[serde(default)]
    page_token: String,
}

pub(super) async fn history(State(app): State<App>, Parameters(request): Parameters<History>) -> Answer {
    let id = run_id(&request.run_id, &request.run_uuid)?;
    let size =
        request.max_results.and_then(|given| u64::try_from(given).ok()).map_or(POINTS, |given| given.min(POINTS));
    let from = match request.page_token.as_str() {
        "" => 0,
        token => token.parse().map_err(|_| Refused::invalid("page_token: expected that of the page before"))?,
    };
    if size == 0 {
        return Err(Refused::invalid("max_results: expected a number from 1"));
    }
    if store::runs::get(&app.0.db, id).await?.is_none() {
        return Err(Error::not_found("run", id).into());
    }
    let name = &request.metric_key;
    let points = store::runs::metrics::all(&app.0.db, id, name, from, size + 1).await?;
    let more = points.len() as u64 > size;
    let returned = usize::try_from(size).unwrap_or(usize::MAX);
    let metrics: Vec<_> = points.iter().take(returned).map(point).collect();
    let mut answer = json!({ "metrics": metrics });
    if more {
        answer["next_page_token"] = (from + size).to_string().into();
    }
    Ok(Json(answer))
}

/// Runs of one request, and points of each, at most.
const SAMPLED_RUNS: usize = 100;
const SAMPLED_POINTS: usize = 2_500;

/// What is sampled: `run_ids` repeat.
#[derive(Debug)]
struct Samples {
    runs: Vec<RunId>,
    name: String,
    steps: RangeInclusive<i64>,
    most: usize,
}

impl Samples {
    fn of_query(query: &str) -> Result<Self, Refused> {
        let (mut runs, mut name, mut most) = (Vec::new(), String::new(), SAMPLED_POINTS);
        let (mut start, mut end) = (*run::ALL_STEPS.start(), *run::ALL_STEPS.end());
        let number = |field: &str, text: &str| {
            text.parse().map_err(|_| Refused::invalid(format!("{field}: expected a whole number")))
        };
        for (field, value) in form_urlencoded::parse(query.as_bytes()) {
            match field.as_ref() {
                "run_ids" => runs.push(run_id(&value, "")?),
                "metric_key" => name = value.into_owned(),
                "start_step" => start = number("start_step", &value)?,
                "end_step" => end = number("end_step", &value)?,
                "max_results" => most = number("max_results", &value)?.try_into().unwrap_or(0),
                _ => {}
            }
        }
        if runs.is_empty() || runs.len() > SAMPLED_RUNS {
            return Err(Refused::invalid(format!("run_ids: expected 1 to {SAMPLED_RUNS} of them")));
        }
        if name.is_empty() || start > end || !(1..=SAMPLED_POINTS).contains(&most) {
            return Err(Refused::invalid(format!(
                "expected metric_key, start_step at most end_step, and max_results from 1 to {SAMPLED_POINTS}"
            )));
        }
        Ok(Self { runs, name, steps: start..=end, most })
    }
}

/// At most so many points of a metric of each run: the least and the greatest of each of so many ranges of steps.
pub(super) async fn history_bulk_interval(State(app): State<App>, uri: Uri) -> Answer {
    let Samples { runs, name, steps, most } = Samples::of_query(uri.query().unwrap_or_default())?;
    let mut metrics = Vec::new();
    for id in runs {
        // A metric without a number has no points.
        if store::runs::metrics::history(&app.0.db, id, &name, None, 1).await?.is_empty() {
            continue;
        }
        // A range has two extremes.
        let sample = run::metric_sample(&app.0.db, id, &name, steps.clone(), most.max(4)).await?;
        metrics.extend(sample.iter().take(most).map(|metric| {
            let mut point = point(metric);
            point["run_id"] = id.uuid().simple().to_string().into();
            point
        }));
    }
    Ok(Json(json!({ "metrics": metrics })))
}

fn point(metric: &Metric) -> Value {
    // JSON has no NaN.
    let value = if metric.value.is_nan() { json!("NaN") } else { json!(metric.value) };
    let timestamp = metric.time.map(|time| time.timestamp_millis());
    json!({ "key": metric.name, "value": value, "timestamp": timestamp, "step": metric.step })
}

pub(super) async fn active_experiment(app: &App, id: &str) -> Result<Experiment, Refused> {
    let experiment = crate::experiment::get(&app.0.db, experiment_id(id)?).await?;
    match experiment.deleted_at {
        None => Ok(experiment),
        Some(_) => {
            Err(Refused::invalid_state(format!("the experiment {:?} is deleted: restore it first", experiment.title)))
        }
    }
}

/// The experiment of a run.
pub(super) async fn experiment_of(app: &App, run: &Run) -> Result<Experiment, Refused> {
    let found = store::experiments::by_name(&app.0.db, &run.experiment).await?;
    Ok(found.ok_or_else(|| Error::not_found("experiment", &run.experiment))?)
}

/// The address of a run's files.
pub(super) fn artifact_uri(run: &Run, experiment: &Experiment) -> String {
    format!("mlflow-artifacts:/{}/{}/artifacts", experiment.id, run.id.uuid().simple())
}

fn info(run: &Run, experiment: &Experiment) -> Value {
    let id = run.id.uuid().simple().to_string();
    let millis = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_millis());
    // MLflow has no lost runs.
    let status = if run.status == RunStatus::Lost { RunStatus::Failed } else { run.status };
    let mut info = json!({
        "run_id": id,
        "run_uuid": id,
        "run_name": run.tags.get(RUN_NAME).cloned().unwrap_or_else(|| run.id.to_string()),
        "experiment_id": experiment.id.to_string(),
        "user_id": run.tags.get(USER).cloned().unwrap_or_default(),
        "status": status.name(),
        "start_time": millis(run.started_at.or(Some(run.created_at))),
        "artifact_uri": artifact_uri(run, experiment),
        "lifecycle_stage": if run.deleted_at.is_some() { "deleted" } else { "active" },
    });
    if let Some(ended) = millis(run.ended_at) {
        info["end_time"] = ended.into();
    }
    info
}

fn message(run: &Run, experiment: &Experiment, links: &[Link]) -> Value {
    let of_kind =
        |kind: Kind| -> Vec<&Value> { links.iter().filter(|link| link.kind == kind).map(|link| &link.data).collect() };
    json!({
        "info": info(run, experiment),
        "data": {
            "metrics": run.metrics.iter().map(point).collect::<Vec<_>>(),
            "params": pairs(&run.params),
            "tags": pairs(&run.tags),
        },
        "inputs": {
            "dataset_inputs": of_kind(Kind::Dataset),
            "model_inputs": of_kind(Kind::ModelInput),
        },
        "outputs": { "model_outputs": of_kind(Kind::ModelOutput) },
    })
}
