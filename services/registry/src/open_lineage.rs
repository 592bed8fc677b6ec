//! OpenLineage 2-0-2 run events (<https://openlineage.io/spec/2-0-2/OpenLineage.json>), for tools that collect the lineage of many systems.
//!
//! One is published when a run starts, and one when it ends, in the transaction of the change. Its job is the experiment, its inputs are the
//! datasets that the run has read, and its outputs the model versions that it has made.

use std::collections::BTreeMap;

use rekindle_client::wire::event;
use rekindle_domain::{
    dataset::DatasetVersion,
    event::EventContext,
    run::{Run, RunStatus},
};
use rekindle_service::Call;
use rekindle_store::outbox;
use sea_orm::{DatabaseTransaction, DbErr};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::store::{
    self,
    run_links::{Kind, Link},
};

/// Who makes the events: the producer of each facet, too.
const PRODUCER: &str = concat!("urn:rekindle:registry:", env!("CARGO_PKG_VERSION"));
const SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
/// Inputs and outputs of an event at most, and columns of a schema.
const DATASETS: usize = 100;
const COLUMNS: usize = 1000;
/// Characters of a description that a schema has.
const DESCRIPTION: usize = 200;
/// Bytes of an event, from which it has no schemas, then no facets of the run, and at last no inputs and outputs.
const LARGE: usize = 256 << 10;

/// Enqueues the event of a run that has started or ended; other changes have none.
pub(crate) async fn enqueue(txn: &DatabaseTransaction, call: &Call, run: &Run) -> Result<(), DbErr> {
    let Some(kind) = kind(run.status) else { return Ok(()) };
    let sources = Sources::read(txn, run).await?;
    let fits = |message: &Value| message.to_string().len() <= LARGE;
    let mut message = message(call, run, kind, &sources, true);
    if !fits(&message) {
        message = self::message(call, run, kind, &sources, false);
    }
    if !fits(&message) {
        message["run"]["facets"] = json!({});
    }
    if !fits(&message) {
        (message["inputs"], message["outputs"]) = (json!([]), json!([]));
    }
    // Each event has an id of its own. A workflow's events are those of this API.
    let call = Call { id: Uuid::now_v7(), context: EventContext::default(), ..call.clone() };
    outbox::enqueue(txn, call.change(event::open_lineage(run.id, message), &run.experiment).event).await
}

fn kind(status: RunStatus) -> Option<&'static str> {
    match status {
        RunStatus::Running => Some("START"),
        RunStatus::Finished => Some("COMPLETE"),
        RunStatus::Failed | RunStatus::Lost => Some("FAIL"),
        RunStatus::Killed => Some("ABORT"),
        RunStatus::Scheduled => None,
    }
}

/// What a run has read and made.
struct Sources {
    parent: Option<Run>,
    datasets: Vec<DatasetVersion>,
    links: Vec<Link>,
    /// Names and numbers of model versions.
    versions: Vec<(String, u32)>,
}

impl Sources {
    async fn read(txn: &DatabaseTransaction, run: &Run) -> Result<Self, DbErr> {
        let parent = match run.parent_id {
            Some(id) => store::runs::get(txn, id).await?.map(|leased| leased.run),
            None => None,
        };
        let datasets = match run.dataset_digests.as_slice() {
            [] => Vec::new(),
            digests => {
                let found = store::datasets::by_digests(txn, &digests[..digests.len().min(DATASETS)]).await?;
                of_run(run, found)
            }
        };
        // A run that starts has logged and made nothing yet.
        let (mut links, mut versions) = (Vec::new(), Vec::new());
        if run.status != RunStatus::Running {
            links = store::run_links::of_runs(txn, &[run.id]).await?.remove(&run.id).unwrap_or_default();
            versions = store::models::of_runs(txn, &[run.id], DATASETS as u64).await?;
        }
        let versions = versions.into_iter().map(|found| (found.version.model.to_string(), found.version.version));
        Ok(Self { parent, datasets, links, versions: versions.collect() })
    }
}

/// One version of each content: one that is not deleted, in the namespace of the run, with the highest number.
fn of_run(run: &Run, found: Vec<DatasetVersion>) -> Vec<DatasetVersion> {
    let (namespace, _) = placed(run.experiment.as_str());
    let rank = |version: &DatasetVersion| (version.deleted_at.is_none(), version.version);
    let mut of_content = BTreeMap::<String, DatasetVersion>::new();
    for version in found.into_iter().filter(|version| placed(version.name.as_str()).0 == namespace) {
        let kept = of_content.entry(version.content.to_string()).or_insert_with(|| version.clone());
        if rank(&version) > rank(kept) {
            *kept = version;
        }
    }
    of_content.into_values().collect()
}

fn message(call: &Call, run: &Run, kind: &str, sources: &Sources, with_schemas: bool) -> Value {
    let time = if kind == "START" { run.started_at } else { run.ended_at };
    let time = time.unwrap_or(call.now);
    let job = |run: &Run| {
        let (namespace, name) = placed(run.experiment.as_str());
        json!({ "namespace": namespace, "name": name })
    };
    let mut facets = json!({
        "rekindle_run": facet("RunFacet", json!({ "params": run.params, "codeRevision": run.code_revision })),
    });
    if let Some(parent) = &sources.parent {
        let parent = json!({ "run": { "runId": parent.id.to_string() }, "job": job(parent) });
        facets["parent"] = facet("1-1-0/ParentRunFacet", parent);
    }
    let error = match run.status {
        RunStatus::Lost => "the run was lost: nothing was reported within its lease",
        _ => run.error.as_str(),
    };
    if !error.is_empty() {
        let error = json!({ "message": error, "programmingLanguage": "unknown" });
        facets["errorMessage"] = facet("1-0-1/ErrorMessageRunFacet", error);
    }
    let mut described = job(run);
    let job_type = json!({ "processingType": "BATCH", "integration": "REKINDLE", "jobType": "TRAINING" });
    described["facets"] = json!({ "jobType": facet("2-0-3/JobTypeJobFacet", job_type) });
    let registered = sources.datasets.iter().map(|dataset| input(dataset, with_schemas));
    let logged = sources.links.iter().filter(|link| link.kind == Kind::Dataset).filter_map(logged_input);
    let inputs: Vec<Value> = registered.chain(logged).take(DATASETS).collect();
    json!({
        "eventType": kind,
        "eventTime": time.to_rfc3339(),
        "run": { "runId": run.id.to_string(), "facets": facets },
        "job": described,
        "inputs": inputs,
        "outputs": sources.versions.iter().map(output).collect::<Vec<_>>(),
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
    })
}

/// The OpenLineage namespace and the name of a qualified name.
fn placed(qualified: &str) -> (String, &str) {
    match qualified.split_once('.') {
        Some((namespace, name)) => (format!("rekindle:{namespace}"), name),
        None => ("rekindle:default".to_owned(), qualified),
    }
}

/// A facet with its producer and the address of its schema: `VERSION/NAME` of the specification, or the name of one that OpenLineage leaves open.
fn facet(name: &str, mut fields: Value) -> Value {
    fields["_producer"] = json!(PRODUCER);
    fields["_schemaURL"] = match name.split_once('/') {
        Some((_, plain)) => json!(format!("https://openlineage.io/spec/facets/{name}.json#/$defs/{plain}")),
        None => json!(format!("https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/{name}")),
    };
    fields
}

fn input(dataset: &DatasetVersion, with_schema: bool) -> Value {
    let (namespace, name) = placed(dataset.name.as_str());
    let version = json!({ "datasetVersion": dataset.version.to_string() });
    let mut facets = json!({ "version": facet("1-0-1/DatasetVersionDatasetFacet", version) });
    if with_schema {
        let description = |column: &str| {
            let declared = dataset.schema.as_ref().and_then(|schema| schema.column(column))?;
            let text: String = declared.description.chars().take(DESCRIPTION).collect();
            (!text.is_empty()).then_some(text)
        };
        let field = |column: &rekindle_domain::dataset::Column| {
            let mut field = json!({ "name": column.name, "type": column.data_type });
            if let Some(description) = description(&column.name) {
                field["description"] = json!(description);
            }
            field
        };
        let fields: Vec<Value> = dataset.columns.iter().take(COLUMNS).map(field).collect();
        facets["schema"] = facet("1-1-1/SchemaDatasetFacet", json!({ "fields": fields }));
    }
    let statistics = json!({ "rowCount": dataset.rows, "size": dataset.bytes });
    let statistics = facet("1-0-0/InputStatisticsInputDatasetFacet", statistics);
    json!({ "namespace": namespace, "name": name, "facets": facets, "inputFacets": { "inputStatistics": statistics } })
}

/// A dataset that a client of MLflow has logged.
fn logged_input(link: &Link) -> Option<Value> {
    let dataset = &link.data["dataset"];
    let (name, digest) = (dataset["name"].as_str()?, dataset["digest"].as_str().unwrap_or_default());
    let version = facet("1-0-1/DatasetVersionDatasetFacet", json!({ "datasetVersion": digest }));
    Some(json!({ "namespace": "mlflow", "name": name, "facets": { "version": version } }))
}

fn output((model, version): &(String, u32)) -> Value {
    let (namespace, name) = placed(model);
    let version = facet("1-0-1/DatasetVersionDatasetFacet", json!({ "datasetVersion": version.to_string() }));
    json!({ "namespace": namespace, "name": format!("models/{name}"), "facets": { "version": version } })
}
