//! Events: the data of CloudEvents as proto3 JSON, and the detections that are read back from them.

use rekindle_domain::{
    Alert, Alias, DatasetName, Digest, ModelName, ReplicaId, RunId, Trigger, WorkflowId, WorkflowState,
    alert::AlertState,
    alias::AliasProtection,
    dataset::DatasetVersion,
    deployment_status::{DeploymentPhase, RolloutOutcome},
    event::{Detection, EventKind, Fact, FeatureCause, MeasuredWindow},
    model_version::{ModelVersion, RegisteredModel},
    report::{ColumnDrift, DriftCause, Quality, RepeatedRows, Verdict, WindowReport},
    run::{Run, RunProgress},
    validation::Violations,
};
use rekindle_proto::{
    events as wire,
    json::{self, Named},
    orchestrator,
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    alert::to_wire as alert_to_wire,
    alias::protection_to_wire,
    deployment::{outcome_to_wire, phase_to_wire},
    field::{nested, parse},
    model_version::approval_to_wire,
    report::{
        cause_from_wire as drift_cause_from_wire, cause_to_wire as drift_cause_to_wire, estimate_to_wire,
        examples_to_wire, header_from_wire, header_to_wire, impact_to_wire, onset_to_wire, repeated_from_wire,
        repeated_to_wire, slice_to_wire, verdict_from_wire, verdict_to_wire, volume_to_wire,
    },
    run::{progress_to_wire, status_to_wire},
    time,
    workflow::{state_to_wire, trigger_to_wire},
};

fn fact<M: Named>(kind: EventKind, name: impl ToString, message: &M) -> Fact<Value> {
    Fact { kind, name: name.to_string(), data: json::to_value(message) }
}

/// A dataset version was registered.
pub fn dataset_version_registered(version: &DatasetVersion) -> Fact<Value> {
    let message = wire::DatasetVersionRegistered {
        name: version.name.to_string(),
        version: version.version,
        content_digest: version.content.to_string(),
        rows: version.rows,
        parents: version.parents.iter().map(Digest::to_string).collect(),
    };
    fact(EventKind::DATASET_VERSION_REGISTERED, &version.name, &message)
}

/// A dataset version was deleted or restored.
pub fn dataset_version_changed(version: &DatasetVersion, why: &str) -> Fact<Value> {
    let message = wire::DatasetVersionChanged {
        name: version.name.to_string(),
        version: version.version,
        deleted: version.deleted_at.is_some(),
        why: why.to_owned(),
    };
    fact(EventKind::DATASET_VERSION_CHANGED, &version.name, &message)
}

/// A run was deleted or restored.
pub fn run_changed(run: &Run, why: &str) -> Fact<Value> {
    let message = wire::RunChanged {
        run_id: run.id.to_string(),
        experiment: run.experiment.to_string(),
        deleted: run.deleted_at.is_some(),
        why: why.to_owned(),
        status: status_to_wire(run.status).into(),
    };
    fact(EventKind::RUN_CHANGED, run.id, &message)
}

/// An OpenLineage run event: its data is not a message of this API.
pub fn open_lineage(run: RunId, message: Value) -> Fact<Value> {
    Fact { kind: EventKind::OPEN_LINEAGE_EMITTED, name: run.to_string(), data: message }
}

/// A worker started a run.
pub fn run_started(run: &Run) -> Fact<Value> {
    let message = wire::RunStarted { run_id: run.id.to_string(), experiment: run.experiment.to_string() };
    fact(EventKind::RUN_STARTED, run.id, &message)
}

/// A worker reported how far a run is.
pub fn run_progressed(run: &Run, progress: &RunProgress) -> Fact<Value> {
    let message = wire::RunProgressed {
        run_id: run.id.to_string(),
        experiment: run.experiment.to_string(),
        progress: Some(progress_to_wire(progress)),
        metrics: run.metrics.iter().map(|metric| (metric.name.clone(), metric.value)).collect(),
    };
    fact(EventKind::RUN_PROGRESSED, run.id, &message)
}

/// A run ended, or was lost.
pub fn run_ended(run: &Run) -> Fact<Value> {
    let message = wire::RunEnded {
        run_id: run.id.to_string(),
        experiment: run.experiment.to_string(),
        status: status_to_wire(run.status).into(),
        outputs: run.outputs.clone().into_iter().collect(),
        error: run.error.clone(),
    };
    fact(EventKind::RUN_ENDED, run.id, &message)
}

/// The run of a [`run_ended`] event.
pub fn ended_run(data: &Value) -> Result<RunId, Violations> {
    let message: wire::RunEnded = read(data)?;
    super::field::parse("run_id", &message.run_id)
}

/// A model version was registered.
pub fn model_version_registered(version: &ModelVersion) -> Fact<Value> {
    let message = wire::ModelVersionRegistered {
        model: version.model.to_string(),
        version: version.version,
        bundle_digest: version.bundle.to_string(),
        run_id: version.run.map(|run| run.to_string()).unwrap_or_default(),
    };
    fact(EventKind::MODEL_VERSION_REGISTERED, &version.model, &message)
}

/// A model version was reviewed.
pub fn model_version_reviewed(version: &ModelVersion) -> Fact<Value> {
    let message = wire::ModelVersionReviewed {
        model: version.model.to_string(),
        version: version.version,
        approval: approval_to_wire(version.review.approval).into(),
        by: version.review.by.clone(),
        why: version.review.why.clone(),
    };
    fact(EventKind::MODEL_VERSION_REVIEWED, &version.model, &message)
}

/// An alias moved, from the version that it pointed at before.
pub fn alias_moved(alias: &Alias, from: Option<u32>) -> Fact<Value> {
    let message = wire::AliasMoved {
        model: alias.model.to_string(),
        alias: alias.alias.to_string(),
        version: alias.version,
        from_version: from.unwrap_or_default(),
        revision: alias.revision,
        by: alias.by.clone(),
        why: alias.why.clone(),
    };
    fact(EventKind::ALIAS_MOVED, &alias.model, &message)
}

/// An alias was deleted.
pub fn alias_deleted(alias: &Alias) -> Fact<Value> {
    let message = wire::AliasDeleted {
        model: alias.model.to_string(),
        alias: alias.alias.to_string(),
        version: alias.version,
        revision: alias.revision,
        by: alias.by.clone(),
        why: alias.why.clone(),
    };
    fact(EventKind::ALIAS_DELETED, &alias.model, &message)
}

/// What a version needs before an alias is moved to it was set.
pub fn alias_protected(protection: &AliasProtection) -> Fact<Value> {
    let message = wire::AliasProtected { protection: Some(protection_to_wire(protection)) };
    fact(EventKind::ALIAS_PROTECTED, &protection.model, &message)
}

/// A model was created without a version, changed, deleted or restored.
pub fn model_changed(model: &RegisteredModel) -> Fact<Value> {
    let message = wire::ModelChanged {
        model: model.name.to_string(),
        title: model.title.clone(),
        description: model.description.clone(),
        tags: model.tags.clone(),
        deleted: model.deleted_at.is_some(),
    };
    fact(EventKind::MODEL_CHANGED, &model.name, &message)
}

/// A version was changed, deleted or restored.
pub fn model_version_changed(version: &ModelVersion) -> Fact<Value> {
    let message = wire::ModelVersionChanged {
        model: version.model.to_string(),
        version: version.version,
        description: version.description.clone(),
        tags: version.tags.clone(),
        deleted: version.deleted_at.is_some(),
    };
    fact(EventKind::MODEL_VERSION_CHANGED, &version.model, &message)
}

/// The last entry of an audit trail: how many it has, and its hash. `None` for a service that has none.
pub fn audit_sealed(service: &str, database: Uuid, entries: u64, hash: &str) -> Option<Fact<Value>> {
    let kind = audit_kind(service)?;
    let message = wire::AuditSealed { database: database.to_string(), entries, hash: hash.to_owned() };
    Some(fact(kind, database, &message))
}

/// The kind of [`audit_sealed`] events of a service.
pub fn audit_kind(service: &str) -> Option<EventKind> {
    let kinds =
        [EventKind::REGISTRY_AUDIT_SEALED, EventKind::MONITOR_AUDIT_SEALED, EventKind::ORCHESTRATOR_AUDIT_SEALED];
    kinds.into_iter().find(|kind| kind.service == service)
}

/// The number of entries and the hash of an [`audit_sealed`] event.
pub fn sealed_audit(data: &Value) -> Result<(u64, String), Violations> {
    let message: wire::AuditSealed = read(data)?;
    Ok((message.entries, message.hash))
}

/// A window was reported on.
pub fn window_reported(report: &WindowReport) -> Fact<Value> {
    let quality = report.quality.as_ref();
    let message = wire::WindowReported {
        window: Some(header_to_wire(&report.window)),
        drift: verdict_to_wire(report.drift.verdict).into(),
        quality: quality.map(|quality| verdict_to_wire(quality.verdict).into()).unwrap_or_default(),
        metrics: quality.map(|quality| quality.metrics.clone().into_iter().collect()).unwrap_or_default(),
        estimate: report.estimate.as_ref().map(estimate_to_wire),
        revision: report.revision,
        changes: report.changes.clone(),
        degraded_slices: quality.map(degraded_slices).unwrap_or_default(),
        volume: report.drift.volume.map(volume_to_wire),
        data_fault: data_fault_detected(report).is_some(),
    };
    fact(EventKind::WINDOW_REPORTED, &report.window.model, &message)
}

/// Drift was detected in a window.
pub fn drift_detected(report: &WindowReport) -> Fact<Value> {
    let message = wire::DriftDetected {
        window: Some(header_to_wire(&report.window)),
        features: causes_to_wire(report),
        repeated: report.drift.repeated.map(repeated_to_wire),
    };
    fact(EventKind::DRIFT_DETECTED, &report.window.model, &message)
}

/// Columns of a window are probably faulty, or too many rows are repeated; `None` if none is.
pub fn data_fault_detected(report: &WindowReport) -> Option<Fact<Value>> {
    let mut features = causes_to_wire(report);
    features.retain(|column| drift_cause_from_wire(column.cause) == Some(DriftCause::DataFault));
    let repeated = report.drift.repeated.filter(RepeatedRows::is_fault).map(repeated_to_wire);
    let message = wire::DataFaultDetected { window: Some(header_to_wire(&report.window)), features, repeated };
    (!message.features.is_empty() || repeated.is_some())
        .then(|| fact(EventKind::DATA_FAULT_DETECTED, &report.window.model, &message))
}

/// Degradation was detected in a window.
pub fn degradation_detected(report: &WindowReport, quality: &Quality) -> Fact<Value> {
    let message = wire::DegradationDetected {
        window: Some(header_to_wire(&report.window)),
        labelled_rows: quality.labelled_rows,
        loss: quality.loss,
        reference_loss: quality.reference_loss,
        metrics: quality.metrics.clone().into_iter().collect(),
        features: causes_to_wire(report),
        repeated: report.drift.repeated.map(repeated_to_wire),
        slices: degraded_slices(quality),
        onset: quality.onset.map(time::to_wire),
    };
    fact(EventKind::DEGRADATION_DETECTED, &report.window.model, &message)
}

fn degraded_slices(quality: &Quality) -> Vec<rekindle_proto::monitor::SliceQuality> {
    quality.degraded_slices().map(slice_to_wire).collect()
}

/// Outcomes in a window have classes that the training data did not have.
pub fn new_class_detected(report: &WindowReport, quality: &Quality) -> Fact<Value> {
    let message = wire::NewClassDetected {
        window: Some(header_to_wire(&report.window)),
        labelled_rows: quality.labelled_rows,
        new_classes: quality.new_classes.clone().into_iter().collect(),
    };
    fact(EventKind::NEW_CLASS_DETECTED, &report.window.model, &message)
}

/// An alert opened, was acknowledged, or was resolved, as its state says.
pub fn alert_changed(alert: &Alert) -> Fact<Value> {
    let message = Some(alert_to_wire(alert));
    match alert.state() {
        AlertState::Open => fact(EventKind::ALERT_OPENED, &alert.model, &wire::AlertOpened { alert: message }),
        AlertState::Acknowledged => {
            fact(EventKind::ALERT_ACKNOWLEDGED, &alert.model, &wire::AlertAcknowledged { alert: message })
        }
        AlertState::Resolved => fact(EventKind::ALERT_RESOLVED, &alert.model, &wire::AlertResolved { alert: message }),
    }
}

/// The detection that an event of `kind` holds; `None` for any other kind of event.
pub fn detection(kind: EventKind, data: &Value) -> Result<Option<Detection>, Violations> {
    if kind == EventKind::DRIFT_DETECTED {
        let message: wire::DriftDetected = read(data)?;
        let window = nested("window", message.window, header_from_wire)?;
        let causes = message.features.into_iter().map(cause_from_wire).collect();
        return Ok(Some(Detection {
            trigger: Trigger::Drift,
            window,
            causes,
            repeated: message.repeated.map(repeated_from_wire),
            losses: None,
        }));
    }
    if kind == EventKind::DEGRADATION_DETECTED {
        let message: wire::DegradationDetected = read(data)?;
        let window = nested("window", message.window, header_from_wire)?;
        let causes = message.features.into_iter().map(cause_from_wire).collect();
        let losses = Some((message.loss, message.reference_loss));
        return Ok(Some(Detection {
            trigger: Trigger::Degradation,
            window,
            causes,
            repeated: message.repeated.map(repeated_from_wire),
            losses,
        }));
    }
    Ok(None)
}

/// The window that an event of `kind` reports, once its quality is measured; `None` before, and for any other kind of event.
pub fn measured_window(kind: EventKind, data: &Value) -> Result<Option<MeasuredWindow>, Violations> {
    if kind != EventKind::WINDOW_REPORTED {
        return Ok(None);
    }
    let message: wire::WindowReported = read(data)?;
    // Without metrics no outcome has arrived within the wait.
    if message.quality == i32::default() || message.metrics.is_empty() {
        return Ok(None);
    }
    Ok(Some(MeasuredWindow {
        window: nested("window", message.window, header_from_wire)?,
        is_degraded: verdict_from_wire("quality", message.quality)? == Verdict::Drifted,
        has_data_fault: message.data_fault,
    }))
}

/// The dataset version whose registration an event of `kind` holds; `None` for any other kind of event.
pub fn registered_dataset(kind: EventKind, data: &Value) -> Result<Option<(DatasetName, u32)>, Violations> {
    if kind != EventKind::DATASET_VERSION_REGISTERED {
        return Ok(None);
    }
    let message: wire::DatasetVersionRegistered = read(data)?;
    Ok(Some((parse("name", &message.name)?, message.version)))
}

/// A policy was set.
pub fn policy_set(model: &ModelName, revision: u64) -> Fact<Value> {
    fact(EventKind::POLICY_SET, model, &wire::PolicySet { model: model.to_string(), revision })
}

/// A transition of a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowTransition<'a> {
    /// The workflow.
    pub workflow: WorkflowId,
    /// Its model.
    pub model: &'a ModelName,
    /// The state before; `None` for the first.
    pub from: Option<WorkflowState>,
    /// The state now.
    pub to: WorkflowState,
    /// What started the workflow.
    pub trigger: Trigger,
    /// Reason of the transition.
    pub reason: &'a str,
    /// The champion when it started.
    pub from_version: Option<u32>,
    /// The challenger.
    pub to_version: Option<u32>,
    /// Increases with every transition.
    pub epoch: u64,
}

/// A workflow moved to another state.
pub fn workflow_advanced(transition: &WorkflowTransition<'_>) -> Fact<Value> {
    let from = transition.from.map_or(orchestrator::WorkflowState::Unspecified, state_to_wire);
    let message = wire::WorkflowAdvanced {
        workflow_id: transition.workflow.to_string(),
        model: transition.model.to_string(),
        from_state: from.into(),
        to_state: state_to_wire(transition.to).into(),
        trigger: trigger_to_wire(transition.trigger).into(),
        reason: transition.reason.to_owned(),
        from_version: transition.from_version.unwrap_or_default(),
        to_version: transition.to_version.unwrap_or_default(),
        epoch: transition.epoch,
    };
    fact(EventKind::WORKFLOW_ADVANCED, transition.model, &message)
}

/// A replica serves the version that it was assigned.
pub fn replica_updated(model: &ModelName, replica: &ReplicaId, version: u32, generation: u64) -> Fact<Value> {
    let message = wire::ReplicaUpdated { model: model.to_string(), replica: replica.to_string(), version, generation };
    fact(EventKind::REPLICA_UPDATED, model, &message)
}

/// A change of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentChange<'a> {
    /// The model.
    pub model: &'a ModelName,
    /// The generation of its routes.
    pub generation: u64,
    /// The phase.
    pub phase: DeploymentPhase,
    /// The stable version.
    pub stable: u32,
    /// The version being rolled out.
    pub target: Option<u32>,
    /// Reason of the change.
    pub reason: &'a str,
    /// How the rollout ended; `None` while one is in progress.
    pub outcome: Option<RolloutOutcome>,
    /// Whether the rollout returns to a version that was stable before.
    pub is_rollback: bool,
}

/// A deployment changed.
pub fn deployment_changed(change: &DeploymentChange<'_>) -> Fact<Value> {
    let message = wire::DeploymentChanged {
        model: change.model.to_string(),
        generation: change.generation,
        phase: phase_to_wire(change.phase).into(),
        stable_version: change.stable,
        target_version: change.target.unwrap_or_default(),
        reason: change.reason.to_owned(),
        outcome: change.outcome.map_or(orchestrator::RolloutOutcome::Unspecified, outcome_to_wire).into(),
        rollback: change.is_rollback,
    };
    fact(EventKind::DEPLOYMENT_CHANGED, change.model, &message)
}

/// The message that the data of an event holds.
pub(super) fn read<M: Named>(data: &Value) -> Result<M, Violations> {
    json::from_slice(data.to_string().as_bytes()).map_err(|error| Violations::of("data", error))
}

fn causes_to_wire(report: &WindowReport) -> Vec<wire::FeatureCause> {
    let cause = |column: &ColumnDrift| wire::FeatureCause {
        name: column.name.clone(),
        psi: column.psi,
        cause_share: column.cause_share,
        cause: drift_cause_to_wire(column.cause).into(),
        reason: column.reason.clone(),
        impact: column.impact.as_ref().map(impact_to_wire),
        since: column.since.map(time::to_wire),
        examples: examples_to_wire(column),
        onset: onset_to_wire(column.onset).into(),
    };
    report.drift.causes().into_iter().map(cause).collect()
}

fn cause_from_wire(given: wire::FeatureCause) -> FeatureCause {
    FeatureCause {
        name: given.name,
        psi: given.psi,
        cause_share: given.cause_share,
        cause: drift_cause_from_wire(given.cause),
        reason: given.reason,
    }
}
