//! Triggers that started no workflow, and why.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::Trigger;

/// Triggers of one kind that started no workflow, for one reason, since the latest workflow of the model was queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredTrigger {
    /// The kind.
    pub trigger: Trigger,
    /// The reason.
    pub reason: IgnoredReason,
    /// Explanation of the latest one.
    pub explanation: String,
    /// How many there were.
    pub count: u64,
    /// When the first one came.
    pub first_at: DateTime<Utc>,
    /// When the latest one came.
    pub last_at: DateTime<Utc>,
}

/// Why a trigger of a policy starts no workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IgnoredReason {
    /// An earlier release stored a policy whose values are out of bounds now.
    InvalidPolicy,
    /// It is about a version that is not deployed.
    OtherVersion,
    /// A workflow of the model has not ended.
    Active,
    /// The cooldown since the latest training has not passed.
    CoolingDown,
    /// The gate rejected the latest challengers, so the cooldown is longer.
    BackingOff,
    /// A column of the window is probably faulty: a model that is trained on its rows learns the fault.
    DataFault,
    /// The trainings of the day are used up.
    Budget,
    /// The time of the schedule had passed.
    Missed,
}

impl IgnoredReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::InvalidPolicy,
        Self::OtherVersion,
        Self::Active,
        Self::CoolingDown,
        Self::BackingOff,
        Self::DataFault,
        Self::Budget,
        Self::Missed,
    ];

    /// The name in tables and metrics, e.g. `COOLING_DOWN`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidPolicy => "INVALID_POLICY",
            Self::OtherVersion => "OTHER_VERSION",
            Self::Active => "ACTIVE",
            Self::CoolingDown => "COOLING_DOWN",
            Self::BackingOff => "BACKING_OFF",
            Self::DataFault => "DATA_FAULT",
            Self::Budget => "BUDGET",
            Self::Missed => "MISSED",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}
