//! ASSEMBLING: the dataset of the champion and the labelled rows after it become a new dataset version. A workflow that a dataset version
//! started takes that one.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_domain::{
    Digest, VersionRef, WorkflowEvent,
    dataset::{DatasetRegistration, DatasetVersion, FileFormat, ReadOptions, Source, SourceColumns},
    event_time,
    lineage::Lineage,
    prediction_log::{ExportRequest, LabelledExport},
};

use super::{
    Workflow,
    progress::{Capture, DatasetRef, Progress},
    steps::Done,
};
use crate::{Error, clients::Calls};

pub(super) async fn step(calls: &Calls, workflow: &Workflow) -> Result<Done, Error> {
    match (&workflow.base, &workflow.progress.capture) {
        (Some(dataset), _) => adopt(calls, workflow, dataset).await,
        (None, None) => capture(calls, workflow).await,
        (None, Some(capture)) => register(calls, workflow, capture).await,
    }
}

/// Takes a dataset version as it is: its rows are labelled. The latest ones of those that the champion was not trained on are held out.
async fn adopt(calls: &Calls, workflow: &Workflow, dataset: &DatasetRef) -> Result<Done, Error> {
    let champion = champion(workflow)?;
    let version = calls.dataset(dataset).await?;
    let Some((time_column, (first, last))) = version.time_column.clone().zip(version.time_range) else {
        let problem =
            format!("dataset {} has no time column: no rows can be held out for the gate", version.reference());
        return Err(Error::unrecoverable(problem));
    };
    let known = base_of(calls.lineage(champion.bundle).await?, workflow, champion).ok();
    let seen = known.and_then(|base| base.time_range).map(|(_, last)| last);
    let new_from = seen.map_or(first, |seen| seen.max(first));
    if last <= new_from {
        let reason =
            format!("dataset {} has no rows after {new_from}, which the champion was trained on", version.reference());
        return Ok(Done::left(WorkflowEvent::Decline, reason, workflow.progress.clone()));
    }
    let capture = Capture {
        base_blob: version.blob,
        base_content: version.content,
        time_column,
        blob: version.blob,
        rows: version.rows,
        manifests: Vec::new(),
        holdout_from: event_time::latest_share((new_from, last), workflow.policy.holdout_share),
    };
    let reason = format!("dataset {}, {} rows, was registered", version.reference(), version.rows);
    let progress = Progress { capture: Some(capture), dataset: Some(dataset.clone()), ..workflow.progress.clone() };
    Ok(Done::left(WorkflowEvent::Assembled, reason, progress))
}

fn champion(workflow: &Workflow) -> Result<VersionRef, Error> {
    workflow.progress.champion.ok_or_else(|| Error::unrecoverable("the champion is not known"))
}

async fn capture(calls: &Calls, workflow: &Workflow) -> Result<Done, Error> {
    let champion = champion(workflow)?;
    let lineage = calls.lineage(champion.bundle).await?;
    let base = base_of(lineage, workflow, champion)?;
    let Some((time_column, (_, last))) = base.time_column.clone().zip(base.time_range) else {
        let problem = format!("dataset {} has no time column: later rows cannot be appended", base.reference());
        return Err(Error::unrecoverable(problem));
    };
    let export = ExportRequest {
        model: workflow.model.clone(),
        // Event time has a precision of one millisecond, and the last one of the base is in use.
        from: Some(last + TimeDelta::milliseconds(1)),
        until: None,
        target: workflow.policy.recipe.target.clone(),
        time_column,
        holdout_share: workflow.policy.holdout_share,
    };
    let exported = calls.export_labelled(&export).await?;
    if exported.rows_left_out > 0 {
        let (model, left_out) = (&workflow.model, exported.rows_left_out);
        tracing::warn!(%model, workflow = %workflow.id, left_out, "the oldest logged rows exceed the limit of an export");
    }
    let needed = workflow.policy.min_new_rows;
    if exported.rows < needed {
        let reason = format!("{} new labelled rows, min_new_rows of the policy is {needed}", exported.rows);
        return Ok(Done::left(WorkflowEvent::Decline, reason, workflow.progress.clone()));
    }
    let capture = captured(&base, &export, &exported)?;
    Ok(Done::kept(Progress { capture: Some(capture), ..workflow.progress.clone() }))
}

/// The dataset that the champion was trained on, so that history accumulates from one retraining to the next.
fn base_of(lineage: Lineage, workflow: &Workflow, champion: VersionRef) -> Result<DatasetVersion, Error> {
    let digests = trained_on(&lineage);
    let used = lineage.datasets.into_iter().filter(|version| digests.contains(&version.content));
    // The same content may be registered under several names: that of the policy comes first.
    used.max_by_key(|version| (version.name == workflow.policy.dataset, version.version)).ok_or_else(|| {
        let number = champion.version;
        Error::unrecoverable(format!("version {number} was not trained on a registered dataset: train it on one first"))
    })
}

/// The datasets of the run. An imported model has none: then those that the import named, which are no parents of other datasets.
fn trained_on(lineage: &Lineage) -> BTreeSet<Digest> {
    if let Some(run) = &lineage.run {
        return run.dataset_digests.iter().copied().collect();
    }
    let parents: BTreeSet<Digest> = lineage.datasets.iter().flat_map(|version| version.parents.clone()).collect();
    lineage.datasets.iter().map(|version| version.content).filter(|content| !parents.contains(content)).collect()
}

fn captured(base: &DatasetVersion, export: &ExportRequest, exported: &LabelledExport) -> Result<Capture, Error> {
    let missing = || Error::unrecoverable("the export of labelled rows has no blob or no time range");
    let (blob, manifest) = exported.blob.zip(exported.manifest).ok_or_else(missing)?;
    Ok(Capture {
        base_blob: base.blob,
        base_content: base.content,
        time_column: export.time_column.clone(),
        blob,
        rows: exported.rows,
        // One digest, however many chunks were read: the lineage of a dataset must not grow with the traffic.
        manifests: vec![manifest],
        holdout_from: holdout_from(exported, export.holdout_share).ok_or_else(missing)?,
    })
}

/// From when on rows are held out for the gate: as the monitor reports, else as if rows were evenly distributed over their time range.
fn holdout_from(exported: &LabelledExport, share: f64) -> Option<DateTime<Utc>> {
    if exported.holdout_from.is_some() {
        return exported.holdout_from;
    }
    Some(event_time::latest_share(exported.time_range?, share))
}

async fn register(calls: &Calls, workflow: &Workflow, capture: &Capture) -> Result<Done, Error> {
    let parquet = |digest: Digest| Source { digest, format: FileFormat::Parquet };
    let registration = DatasetRegistration {
        name: workflow.policy.dataset.clone(),
        sources: vec![parquet(capture.base_blob), parquet(capture.blob)],
        time_column: Some(capture.time_column.clone()),
        kinds: BTreeMap::new(),
        parents: std::iter::once(capture.base_content).chain(capture.manifests.iter().copied()).collect(),
        description: format!("{} labelled rows captured for workflow {}", capture.rows, workflow.id),
        from: None,
        until: None,
        reading: ReadOptions::default(),
        // Columns that the model does not take are not captured.
        columns: SourceColumns::Common,
        schema: None,
        accept_violations: false,
    };
    let version = calls.register_dataset(&registration, workflow.id.to_string()).await?;
    let reason = format!("{} new labelled rows, registered as dataset {}", capture.rows, version.reference());
    let dataset = Some(DatasetRef { name: version.name, version: version.version });
    Ok(Done::left(WorkflowEvent::Assembled, reason, Progress { dataset, ..workflow.progress.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(content: &[u8], parents: &[&[u8]]) -> DatasetVersion {
        DatasetVersion {
            name: "flights".parse().expect("a name"),
            version: 1,
            content: Digest::of(content),
            blob: Digest::of(content),
            rows: 0,
            bytes: 0,
            columns: Vec::new(),
            time_column: None,
            time_range: None,
            parents: parents.iter().map(|parent| Digest::of(parent)).collect(),
            description: String::new(),
            profile: Vec::new(),
            created_at: DateTime::UNIX_EPOCH,
            schema: None,
            violations: Vec::new(),
            deleted_at: None,
        }
    }

    #[test]
    fn an_imported_model_was_trained_on_the_dataset_that_its_import_named() {
        let datasets = vec![dataset(b"named", &[b"parent", b"manifest"]), dataset(b"parent", &[])];
        let lineage = Lineage { versions: Vec::new(), run: None, datasets };
        assert_eq!(trained_on(&lineage), BTreeSet::from([Digest::of(b"named")]));
    }
}
