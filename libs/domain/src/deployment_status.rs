//! The state of a deployment as its callers see it.

use chrono::{DateTime, Utc};

use crate::{ModelName, ReplicaId, VersionRef, routes::WeightedVersion};

/// A deployment and its rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentStatus {
    /// The model, and the name of the deployment.
    pub model: ModelName,
    /// Increases with every change of the routes.
    pub generation: u64,
    /// The phase.
    pub phase: DeploymentPhase,
    /// The stable version.
    pub stable: VersionRef,
    /// Versions that answer a share of the requests, the target of a canary step included; the stable version answers the others.
    pub weighted: Vec<WeightedVersion>,
    /// The version that gets a copy of the requests.
    pub shadow: Option<VersionRef>,
    /// The version being rolled out.
    pub target: Option<VersionRef>,
    /// The canary step of the rollout in progress, from 1.
    pub canary_step: Option<u32>,
    /// The replicas that serve the target, or should.
    pub moved: Vec<ReplicaId>,
    /// Reason of the latest change.
    pub reason: String,
    /// Increases with every change.
    pub revision: u64,
    /// When it last changed.
    pub changed_at: DateTime<Utc>,
    /// How the last rollout ended; `None` while one is in progress.
    pub outcome: Option<RolloutOutcome>,
}

/// The phase of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeploymentPhase {
    /// Every replica serves the stable version.
    Stable,
    /// Replicas move to the target, one at a time.
    RollingOut,
    /// Every replica serves the target, which is observed before it becomes stable.
    Observing,
    /// Replicas return to the stable version.
    Returning,
}

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RolloutOutcome {
    /// The target is the stable version.
    Completed,
    /// Every replica returned to the stable version.
    Returned,
    /// A first version, which has no predecessor, was not served by every replica.
    Failed,
}

impl DeploymentPhase {
    /// The name in tables and output, e.g. `ROLLING_OUT`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stable => "STABLE",
            Self::RollingOut => "ROLLING_OUT",
            Self::Observing => "OBSERVING",
            Self::Returning => "RETURNING",
        }
    }
}

impl RolloutOutcome {
    /// The name in tables and output, e.g. `COMPLETED`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "COMPLETED",
            Self::Returned => "RETURNED",
            Self::Failed => "FAILED",
        }
    }
}
