//! How fast and how well changes of models reach production, from the events alone: the four keys of DORA (deployment frequency, lead time,
//! change failure rate, time to restore) and what a retraining loop has besides. See <https://dora.dev/guides/dora-metrics/>.
//!
//! What began more than 30 days before the span is not known to them, e.g. when a version was registered.
//!
//! The metrics are a pure function of the events, so that they are the same however often they are computed.

mod fold;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

pub use self::fold::measure;
use crate::{
    ModelName, RunId, Trigger, WorkflowState,
    deployment_status::{DeploymentPhase, RolloutOutcome},
};

/// The metrics of a span of time. Durations count towards the span in which they end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeliveryMetrics {
    /// Detections of drift, and of degradation, in a window.
    pub detections: u64,
    /// Those among them whose window closed long after its end: rows of the past. [`time_to_detect`](Self::time_to_detect) leaves them out.
    pub replayed_detections: u64,
    /// From the first row that can have shifted, in event time, to the detection: from the onset of a degradation, or else from the start of
    /// the first of the consecutive drifted windows.
    pub time_to_detect: Spread,
    /// From the detection to the new version on every replica.
    pub time_to_respond: Spread,
    /// From the start of a retraining workflow to its success.
    pub lead_time: Spread,
    /// From the registration of a version to its deployment as the stable version.
    pub cycle_time: Spread,
    /// How long the training of a registered version ran.
    pub training_time: Spread,
    /// Workflows that ended, by state.
    pub workflows: BTreeMap<WorkflowState, u64>,
    /// Versions that became the stable version, rollbacks excluded.
    pub deployments: u64,
    /// Deployments per day of the span.
    pub deployments_per_day: f64,
    /// Rollouts that returned to the stable version.
    pub returned: u64,
    /// Deployments that were rolled back later.
    pub rolled_back: u64,
    /// Rollouts that returned and deployments that were rolled back, as a share of all rollouts that ended; `None` if none did.
    pub change_failure_rate: Option<f64>,
    /// From the start of the rollout of a version that failed to the version before it on every replica.
    pub time_to_restore: Spread,
    /// Versions that were stable, and among them those whose quality degraded.
    pub stable_versions: u64,
    /// See [`stable_versions`](Self::stable_versions).
    pub degraded_versions: u64,
    /// Degraded versions as a share of stable versions; `None` if there were none.
    pub defect_rate: Option<f64>,
}

/// A distribution of durations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many there are.
    pub count: u64,
    /// The median; zero if there are none.
    pub median: TimeDelta,
    /// The 90th percentile.
    pub p90: TimeDelta,
    /// The longest.
    pub max: TimeDelta,
}

impl Spread {
    /// The distribution of these durations. A quantile is the smallest duration that at least its share of them does not exceed.
    pub fn of(mut durations: Vec<TimeDelta>) -> Self {
        durations.sort_unstable();
        let count = durations.len();
        let quantile = |percent: usize| {
            let rank = (count * percent).div_ceil(100).max(1);
            durations.get(rank - 1).copied().unwrap_or_default()
        };
        Self { count: count as u64, median: quantile(50), p90: quantile(90), max: quantile(100) }
    }
}

/// An event that the metrics depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The correlation id.
    pub correlation_id: String,
    /// What happened.
    pub happened: Happened,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// Drift or degradation was detected.
    Detected {
        /// The model.
        model: ModelName,
        /// The version that answered.
        version: u32,
        /// What was detected.
        trigger: Trigger,
        /// The first row that can have shifted, in event time.
        onset: DateTime<Utc>,
        /// The start and the end of the window, in event time.
        window: (DateTime<Utc>, DateTime<Utc>),
        /// When the window closed.
        closed_at: DateTime<Utc>,
    },
    /// A workflow entered a state.
    WorkflowAdvanced {
        /// The workflow's id.
        workflow: String,
        /// The model.
        model: ModelName,
        /// The state.
        state: WorkflowState,
    },
    /// A deployment entered a phase.
    DeploymentChanged {
        /// The model.
        model: ModelName,
        /// The phase.
        phase: DeploymentPhase,
        /// The stable version.
        stable: u32,
        /// The version that is rolled out.
        target: Option<u32>,
        /// How the rollout ended.
        outcome: Option<RolloutOutcome>,
        /// Whether the rollout returns to a version that was stable before.
        is_rollback: bool,
    },
    /// A version was registered.
    VersionRegistered {
        /// The model.
        model: ModelName,
        /// Its number.
        version: u32,
        /// The run that trained it.
        run: Option<RunId>,
    },
    /// A run started.
    RunStarted(RunId),
    /// A run ended.
    RunEnded(RunId),
}

impl Happened {
    /// The model that it is about; `None` for runs, which name none. Those of other models belong to no version of this one.
    pub fn model(&self) -> Option<&ModelName> {
        match self {
            Self::Detected { model, .. }
            | Self::WorkflowAdvanced { model, .. }
            | Self::DeploymentChanged { model, .. }
            | Self::VersionRegistered { model, .. } => Some(model),
            Self::RunStarted(_) | Self::RunEnded(_) => None,
        }
    }
}
