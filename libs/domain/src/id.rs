//! Identifiers that machines make: UUIDs in version 7, which sort by the time of their making.
//! They are made at the edge and handed in.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} id {given:?} is not a UUID, e.g. 018f6e1a-5f2b-7c31-9a52-0c8e4f6b1d20")]
pub struct InvalidId {
    /// What the id was to identify, e.g. `run`.
    pub kind: &'static str,
    /// The text as given, cut to 80 characters.
    pub given: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(Uuid);

        impl $type {
            /// Takes over an id made at the edge.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidId {
                    kind: $kind,
                    given: text.chars().take(80).collect(),
                })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id!(
    /// A run: one training or evaluation, and the job that carries it out.
    RunId,
    "run"
);
id!(
    /// A workflow: one trip round the loop. It is also the `correlationid` of every event of that
    /// trip, from the alert that started it on.
    WorkflowId,
    "workflow"
);
id!(
    /// One answered inference request; its rows are numbered from 0.
    PredictionId,
    "prediction"
);
id!(
    /// The report of one window.
    ReportId,
    "report"
);
id!(
    /// An alert.
    AlertId,
    "alert"
);
id!(
    /// A silence.
    SilenceId,
    "silence"
);
