//! What a fact is called on the bus: CloudEvents 1.0 attributes and the NATS subject, derived from one
//! another so that they cannot disagree.

use std::fmt;

/// What happened, to what kind of thing, as told by which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventKind {
    /// The service that tells it, e.g. `registry`.
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

            /// Every kind of event that rekindle tells.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

kinds! {
    /// A dataset version exists.
    DATASET_VERSION_REGISTERED = "registry" "dataset-version" "registered";
    /// A worker has taken a run.
    RUN_STARTED = "registry" "run" "started";
    /// A run has ended, in whichever terminal status, or was lost.
    RUN_ENDED = "registry" "run" "ended";
    /// A model version is ready.
    MODEL_VERSION_REGISTERED = "registry" "model-version" "registered";
    /// An approval was given, refused or withdrawn.
    MODEL_VERSION_REVIEWED = "registry" "model-version" "reviewed";
    /// An alias points elsewhere.
    ALIAS_MOVED = "registry" "alias" "moved";
    /// A window was closed and reported on.
    WINDOW_REPORTED = "monitor" "window" "reported";
    /// Inputs or predictions moved away from the reference.
    DRIFT_DETECTED = "monitor" "drift" "detected";
    /// Predictions became worse than the reference.
    DEGRADATION_DETECTED = "monitor" "degradation" "detected";
    /// A policy was set.
    POLICY_SET = "orchestrator" "policy" "set";
    /// A workflow moved to another state.
    WORKFLOW_ADVANCED = "orchestrator" "workflow" "advanced";
    /// A replica answers with the version it was asked to move to.
    REPLICA_UPDATED = "orchestrator" "replica" "updated";
    /// A deployment's desired state changed.
    DEPLOYMENT_CHANGED = "orchestrator" "deployment" "changed";
}

impl EventKind {
    /// The CloudEvents `type`: `dev.rekindle.<service>.<noun>.<past-verb>.v1`.
    pub fn ce_type(self) -> String {
        format!("dev.rekindle.{}.{}.{}.v1", self.service, self.noun, self.verb)
    }

    /// The NATS subject for the thing named `name`: `rekindle.events.<service>.<noun>.<past-verb>.<name>`.
    pub fn subject(self, name: &str) -> String {
        format!("rekindle.events.{}.{}.{}.{name}", self.service, self.noun, self.verb)
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
        assert_eq!(kind.subject("flight-delay"), "rekindle.events.registry.model-version.registered.flight-delay");
        assert_eq!(kind.ce_subject("flight-delay"), "model-version/flight-delay");
    }

    #[test]
    fn types_are_unique_and_resolve() {
        for &kind in EventKind::ALL {
            assert_eq!(EventKind::from_ce_type(&kind.ce_type()), Some(kind));
        }
        assert_eq!(EventKind::from_ce_type("dev.rekindle.registry.run.started.v2"), None);
    }
}
