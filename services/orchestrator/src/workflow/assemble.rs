//! ASSEMBLING: the champion's own dataset and the labelled rows of the time after it become a new dataset version.

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_domain::{Digest, VersionRef, WorkflowEvent};
use rekindle_proto::{
    monitor::{ExportLabelledRequest, ExportLabelledResponse},
    registry::{DatasetVersion, FileFormat, Lineage, RegisterVersionRequest, Source},
    time::to_wire,
};

use super::{
    Workflow,
    progress::{Capture, DatasetRef, Progress},
    steps::Done,
};
use crate::{
    Error,
    clients::{Calls, digest, time},
};

const READ: &str = "read the champion's lineage";
const EXPORT: &str = "export the labelled rows";

pub(super) async fn step(calls: &Calls, workflow: &Workflow) -> Result<Done, Error> {
    match &workflow.progress.capture {
        None => capture(calls, workflow).await,
        Some(capture) => register(calls, workflow, capture).await,
    }
}

async fn capture(calls: &Calls, workflow: &Workflow) -> Result<Done, Error> {
    let champion = workflow.progress.champion.ok_or_else(|| Error::Hopeless("no champion is known".into()))?;
    let lineage = calls.lineage(&champion.bundle).await?;
    let base = base_of(lineage, workflow, champion)?;
    if base.time_column.is_empty() {
        let problem =
            format!("dataset {} version {} has no time column: rows cannot be put after it", base.name, base.version);
        return Err(Error::Hopeless(problem));
    }
    // Event time has the precision of a millisecond, and the base's last one is taken already.
    let from = time(READ, "time_max", base.time_max)? + TimeDelta::milliseconds(1);
    let request = ExportLabelledRequest {
        model: workflow.model.to_string(),
        from: Some(to_wire(from)),
        until: None,
        target: workflow.policy.recipe.target.clone(),
        time_column: base.time_column.clone(),
        holdout_share: workflow.policy.holdout_share,
    };
    let exported = calls.export_labelled(request).await?;
    if exported.rows_left_out > 0 {
        let (model, left_out) = (&workflow.model, exported.rows_left_out);
        tracing::warn!(%model, workflow = %workflow.id, left_out, "the oldest logged rows did not fit into the export");
    }
    let needed = workflow.policy.min_new_rows;
    if exported.rows < needed {
        let reason = format!("{} new labelled rows, the policy asks for {needed}", exported.rows);
        return Ok(Done::left(WorkflowEvent::Decline, reason, workflow.progress.clone()));
    }
    let capture = captured(&base, &exported, workflow.policy.holdout_share)?;
    Ok(Done::kept(Progress { capture: Some(capture), ..workflow.progress.clone() }))
}

/// The dataset that the champion was trained on, so that history accumulates from trip to trip.
fn base_of(lineage: Lineage, workflow: &Workflow, champion: VersionRef) -> Result<DatasetVersion, Error> {
    let run = lineage.run.unwrap_or_default();
    let dataset = workflow.policy.dataset.as_str();
    let used = lineage.datasets.into_iter().filter(|version| run.dataset_digests.contains(&version.content_digest));
    // The same content may be registered under several names: the policy's own comes first.
    used.max_by_key(|version| (version.name == dataset, version.version)).ok_or_else(|| {
        let problem = format!(
            "version {} was trained on no dataset that is registered here: train it from one first",
            champion.version
        );
        Error::Hopeless(problem)
    })
}

fn captured(base: &DatasetVersion, exported: &ExportLabelledResponse, share: f64) -> Result<Capture, Error> {
    Ok(Capture {
        base_blob: digest(READ, &base.blob_digest)?,
        base_content: digest(READ, &base.content_digest)?,
        time_column: base.time_column.clone(),
        blob: digest(EXPORT, &exported.blob_digest)?,
        rows: exported.rows,
        // One digest, however many segments were read: a dataset's lineage must not grow with the traffic.
        segments: vec![digest(EXPORT, &exported.manifest_digest)?],
        holdout_from: holdout_from(exported, share)?,
    })
}

/// From when on rows are kept for the gate: as the monitor says, else as if rows were spread evenly over their time.
fn holdout_from(exported: &ExportLabelledResponse, share: f64) -> Result<DateTime<Utc>, Error> {
    if exported.holdout_from.is_some() {
        return time(EXPORT, "holdout_from", exported.holdout_from);
    }
    let first = time(EXPORT, "time_min", exported.time_min)?;
    let last = time(EXPORT, "time_max", exported.time_max)?;
    let kept = (last - first).num_milliseconds() as f64 * share;
    Ok(last - TimeDelta::milliseconds(kept as i64))
}

async fn register(calls: &Calls, workflow: &Workflow, capture: &Capture) -> Result<Done, Error> {
    let parquet = |digest: &Digest| Source { digest: digest.to_string(), format: FileFormat::Parquet.into() };
    let parents = std::iter::once(&capture.base_content).chain(&capture.segments);
    let request = RegisterVersionRequest {
        idempotency_key: workflow.id.to_string(),
        name: workflow.policy.dataset.to_string(),
        sources: vec![parquet(&capture.base_blob), parquet(&capture.blob)],
        time_column: capture.time_column.clone(),
        parents: parents.map(Digest::to_string).collect(),
        description: format!("{} labelled rows captured for workflow {}", capture.rows, workflow.id),
        ..RegisterVersionRequest::default()
    };
    let made = calls.register_dataset(request).await?;
    let reason = format!("{} new labelled rows make {} version {}", capture.rows, made.name, made.version);
    let name = made.name.parse().map_err(|error| Error::answer("register the dataset", error))?;
    let dataset = Some(DatasetRef { name, version: made.version });
    Ok(Done::left(WorkflowEvent::Assembled, reason, Progress { dataset, ..workflow.progress.clone() }))
}
