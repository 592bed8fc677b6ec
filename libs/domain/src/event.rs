//! Events: facts as CloudEvents 1.0 on NATS. The `type` and the subject of an event are derived from one another, so that they cannot
//! disagree.

use std::fmt;

use crate::{
    Trigger,
    report::{DriftCause, RepeatedRows, WindowHeader},
};

/// On whose behalf something happens; carried through calls into the events that they cause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventContext {
    /// The workflow, or another id by which the caller groups; empty if there is none.
    pub correlation_id: String,
    /// The id of the event that led here; empty if there is none.
    pub causation_id: String,
}

impl EventContext {
    /// The context of a workflow.
    pub fn correlated(correlation_id: impl Into<String>) -> Self {
        Self { correlation_id: correlation_id.into(), causation_id: String::new() }
    }
}

/// A fact to be published: its kind, the name of its subject, and its data.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact<D> {
    /// What happened.
    pub kind: EventKind,
    /// The name of the thing, e.g. of the model.
    pub name: String,
    /// The data, in proto3 JSON.
    pub data: D,
}

/// Drift or degradation that the monitor has detected, as read from its event.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// [`Trigger::Drift`] or [`Trigger::Degradation`].
    pub trigger: Trigger,
    /// The window.
    pub window: WindowHeader,
    /// The drifted columns, largest share first.
    pub causes: Vec<FeatureCause>,
    /// Rows that repeat an earlier one.
    pub repeated: Option<RepeatedRows>,
    /// Of degradation: mean loss of the window and of the validation rows.
    pub losses: Option<(f64, f64)>,
}

/// A window whose outcomes have arrived, as read from the event of its report.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredWindow {
    /// The window.
    pub window: WindowHeader,
    /// Whether the quality has degraded: that is an event of its own.
    pub is_degraded: bool,
    /// As [`Detection::has_data_fault`].
    pub has_data_fault: bool,
}

/// A drifted column of a detection.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureCause {
    /// The feature, or `(prediction)`.
    pub name: String,
    /// Population stability index.
    pub psi: f64,
    /// Share of the total effect of the drifted columns.
    pub cause_share: f64,
    /// What has happened, if it is known.
    pub cause: Option<DriftCause>,
    /// Explanation.
    pub reason: String,
}

impl Detection {
    /// Whether a drifted column is probably a fault of the data, or too many rows are repeated: a model that is trained on such rows learns
    /// the fault.
    pub fn has_data_fault(&self) -> bool {
        let is_repeated = self.repeated.as_ref().is_some_and(RepeatedRows::is_fault);
        is_repeated || self.causes.iter().any(|column| column.cause == Some(DriftCause::DataFault))
    }
}

/// What happened to which kind of thing, and which service publishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventKind {
    /// The service that publishes it, e.g. `registry`.
    pub service: &'static str,
    /// The noun, e.g. `model-version`.
    pub noun: &'static str,
    /// The past verb, e.g. `registered`.
    pub verb: &'static str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $service:literal $noun:literal $verb:literal;)*) => {
        impl EventKind {
            $($(#[$doc])* pub const $name: Self = Self { service: $service, noun: $noun, verb: $verb };)*

            /// Every kind of event that rekindle publishes.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

kinds! {
    /// A dataset version exists.
    DATASET_VERSION_REGISTERED = "registry" "dataset-version" "registered";
    /// A dataset version was deleted or restored.
    DATASET_VERSION_CHANGED = "registry" "dataset-version" "changed";
    /// A worker started a run.
    RUN_STARTED = "registry" "run" "started";
    /// A worker reported how far a run is.
    RUN_PROGRESSED = "registry" "run" "progressed";
    /// A run ended in a terminal status, or was lost.
    RUN_ENDED = "registry" "run" "ended";
    /// A run was deleted or restored, or waits again.
    RUN_CHANGED = "registry" "run" "changed";
    /// A run started or ended, as an OpenLineage run event.
    OPEN_LINEAGE_EMITTED = "registry" "openlineage" "emitted";
    /// A model version is ready.
    MODEL_VERSION_REGISTERED = "registry" "model-version" "registered";
    /// A model version was reviewed.
    MODEL_VERSION_REVIEWED = "registry" "model-version" "reviewed";
    /// An alias moved.
    ALIAS_MOVED = "registry" "alias" "moved";
    /// An alias was deleted.
    ALIAS_DELETED = "registry" "alias" "deleted";
    /// What a version needs before an alias is moved to it was set.
    ALIAS_PROTECTED = "registry" "alias" "protected";
    /// A model was created without a version, changed, deleted or restored.
    MODEL_CHANGED = "registry" "model" "changed";
    /// A version was changed, deleted or restored.
    MODEL_VERSION_CHANGED = "registry" "model-version" "changed";
    /// The last entry of the registry's audit trail.
    REGISTRY_AUDIT_SEALED = "registry" "audit" "sealed";
    /// The last entry of the monitor's audit trail.
    MONITOR_AUDIT_SEALED = "monitor" "audit" "sealed";
    /// The last entry of the orchestrator's audit trail.
    ORCHESTRATOR_AUDIT_SEALED = "orchestrator" "audit" "sealed";
    /// A window was reported on.
    WINDOW_REPORTED = "monitor" "window" "reported";
    /// Inputs or predictions drifted from the reference.
    DRIFT_DETECTED = "monitor" "drift" "detected";
    /// Columns drifted in a way that is probably a fault of the data.
    DATA_FAULT_DETECTED = "monitor" "data-fault" "detected";
    /// Model quality degraded.
    DEGRADATION_DETECTED = "monitor" "degradation" "detected";
    /// Outcomes have classes that the training data did not have.
    NEW_CLASS_DETECTED = "monitor" "new-class" "detected";
    /// An alert opened.
    ALERT_OPENED = "monitor" "alert" "opened";
    /// Somebody has taken an alert over.
    ALERT_ACKNOWLEDGED = "monitor" "alert" "acknowledged";
    /// An alert was closed.
    ALERT_RESOLVED = "monitor" "alert" "resolved";
    /// A policy was set.
    POLICY_SET = "orchestrator" "policy" "set";
    /// A workflow moved to another state.
    WORKFLOW_ADVANCED = "orchestrator" "workflow" "advanced";
    /// A replica serves the version that it was assigned.
    REPLICA_UPDATED = "orchestrator" "replica" "updated";
    /// A deployment changed.
    DEPLOYMENT_CHANGED = "orchestrator" "deployment" "changed";
}

impl EventKind {
    /// The CloudEvents `type`: `dev.rekindle.<service>.<noun>.<past-verb>.v1`.
    pub fn ce_type(self) -> String {
        format!("dev.rekindle.{}.{}.{}.v1", self.service, self.noun, self.verb)
    }

    /// The CloudEvents `subject`: `<noun>/<name>`.
    pub fn ce_subject(self, name: &str) -> String {
        format!("{}/{name}", self.noun)
    }

    /// The kind whose CloudEvents `type` this is.
    pub fn from_ce_type(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.ce_type() == text)
    }
}

/// Validates the name of a service instance, which ends the CloudEvents `source` of its events: `/rekindle/<service>/<instance>`.
pub fn validate_instance(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=63).contains(&name.len()) && name.chars().all(is_allowed) {
        return Ok(());
    }
    Err(format!("is {name:?}: expected 1 to 63 letters, digits, \"-\", \"_\" or \".\""))
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.service, self.noun, self.verb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_and_subject_follow_the_contract() {
        let kind = EventKind::MODEL_VERSION_REGISTERED;
        assert_eq!(kind.ce_type(), "dev.rekindle.registry.model-version.registered.v1");
        assert_eq!(kind.ce_subject("flight-delay"), "model-version/flight-delay");
    }

    #[test]
    fn an_instance_is_one_segment_of_a_source() {
        assert_eq!(validate_instance("registry-0.pod_7"), Ok(()));
        for name in ["", "a/b", "a b", "é", &"x".repeat(64)] {
            assert!(validate_instance(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn types_are_unique_and_resolve() {
        for &kind in EventKind::ALL {
            assert_eq!(EventKind::from_ce_type(&kind.ce_type()), Some(kind));
        }
        assert_eq!(EventKind::from_ce_type("dev.rekindle.registry.run.started.v2"), None);
    }
}
