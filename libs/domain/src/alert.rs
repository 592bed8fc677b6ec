//! Alerts: conditions that require attention. At most one alert of each kind is open per model; further windows with the same finding extend it.
//!
//! ```text
//! OPEN --(acknowledge)--> ACKNOWLEDGED
//!   |                          |
//!   +----(resolve, or the finding has ended)----> RESOLVED
//! ```

use std::{collections::BTreeMap, fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    AlertId, ModelName, ReportId, SilenceId, WorkflowId,
    validation::{Checks, Violations},
};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AlertKind {
    /// Inputs or predictions drifted from the reference.
    Drift,
    /// Columns changed in a way that is probably a fault of the data.
    DataFault,
    /// The loss rose.
    Degradation,
    /// The loss rose in a slice of the rows, and not in all rows.
    SliceDegradation,
    /// Correlations between features changed from the reference data.
    DependenceChange,
    /// A window has far more or fewer rows than earlier ones.
    VolumeAnomaly,
    /// Outcomes have classes that the training data did not have.
    NewClass,
    /// Rows arrived more than once.
    DuplicateRows,
    /// Rows arrived after their window was closed.
    LateRows,
    /// Rows have event times more than a window ahead of the others.
    RowsAhead,
    /// No row was captured for longer than the feed timeout.
    FeedStopped,
}

/// How urgent an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Severity {
    /// For information.
    Info,
    /// Requires attention within days.
    Warning,
    /// Requires attention now.
    Critical,
}

/// The state of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AlertState {
    /// It requires attention.
    Open,
    /// Somebody has taken it over.
    Acknowledged,
    /// It is closed.
    Resolved,
}

macro_rules! names {
    ($type:ident: $($variant:ident = $name:literal),*) => {
        impl $type {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in tables, JSON and settings.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $type {
            type Err = String;

            /// In any case, with "-" or "_".
            fn from_str(text: &str) -> Result<Self, String> {
                let name = text.to_uppercase().replace('-', "_");
                let found = Self::ALL.iter().copied().find(|value| value.name() == name);
                let names = Self::ALL.iter().map(|value| value.name()).collect::<Vec<_>>().join(", ");
                let given = || text.chars().take(80).collect::<String>();
                found.ok_or_else(|| format!("is {:?}: expected one of {names}", given()))
            }
        }
    };
}

names!(AlertKind:
    Drift = "DRIFT", DataFault = "DATA_FAULT", Degradation = "DEGRADATION",
    SliceDegradation = "SLICE_DEGRADATION", DependenceChange = "DEPENDENCE_CHANGE",
    VolumeAnomaly = "VOLUME_ANOMALY", NewClass = "NEW_CLASS", DuplicateRows = "DUPLICATE_ROWS",
    LateRows = "LATE_ROWS", RowsAhead = "ROWS_AHEAD", FeedStopped = "FEED_STOPPED");
names!(Severity: Info = "INFO", Warning = "WARNING", Critical = "CRITICAL");
names!(AlertState: Open = "OPEN", Acknowledged = "ACKNOWLEDGED", Resolved = "RESOLVED");

impl AlertKind {
    /// Whether alerts of the kind are about the reports of windows, and not about the arrival of rows.
    pub const fn is_about_windows(self) -> bool {
        match self {
            Self::Drift
            | Self::DataFault
            | Self::Degradation
            | Self::SliceDegradation
            | Self::DependenceChange
            | Self::VolumeAnomaly
            | Self::NewClass
            | Self::DuplicateRows => true,
            Self::LateRows | Self::RowsAhead | Self::FeedStopped => false,
        }
    }
}

/// When alerts of a kind open and resolve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertRule {
    /// How urgent the alerts are.
    pub severity: Severity,
    /// An alert opens when at least so many ...
    pub windows: u32,
    /// ... of so many consecutive windows with a verdict have the finding.
    pub of: u32,
    /// Consecutive windows without the finding that resolve the alert; 0: only a person does.
    pub resolve_after: u32,
    /// Whether no alerts of the kind are opened.
    #[serde(default)]
    pub disabled: bool,
}

impl AlertRule {
    /// The most windows that a rule considers.
    pub const MOST_WINDOWS: u32 = 30;

    /// The rule of a kind for which none is set.
    pub const fn default_of(kind: AlertKind) -> Self {
        let (severity, resolve_after) = match kind {
            AlertKind::Drift
            | AlertKind::SliceDegradation
            | AlertKind::DependenceChange
            | AlertKind::VolumeAnomaly
            | AlertKind::NewClass
            | AlertKind::LateRows
            | AlertKind::RowsAhead => (Severity::Warning, 2),
            AlertKind::Degradation => (Severity::Critical, 2),
            AlertKind::DataFault | AlertKind::DuplicateRows | AlertKind::FeedStopped => (Severity::Critical, 1),
        };
        Self { severity, windows: 1, of: 1, resolve_after, disabled: false }
    }

    fn validate(&self, kind: AlertKind) -> Result<(), Violations> {
        let mut checks = Checks::new();
        let most = Self::MOST_WINDOWS;
        if kind.is_about_windows() {
            checks.require((1..=most).contains(&self.of), "of", self.of, "1 to 30");
            checks.require((1..=self.of.max(1)).contains(&self.windows), "windows", self.windows, "1 to `of`");
        } else {
            let expected = "1, since the kind is not about windows";
            checks.require(self.of == 1, "of", self.of, expected);
            checks.require(self.windows == 1, "windows", self.windows, expected);
        }
        checks.require(self.resolve_after <= most, "resolve_after", self.resolve_after, "0 to 30");
        checks.finish()
    }
}

/// The rules of a model. Kinds that are not among them have their [default](AlertRule::default_of).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AlertRules(pub BTreeMap<AlertKind, AlertRule>);

impl AlertRules {
    /// The rule of a kind.
    pub fn of(&self, kind: AlertKind) -> AlertRule {
        self.0.get(&kind).copied().unwrap_or_else(|| AlertRule::default_of(kind))
    }

    /// Whether none is set.
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks every bound.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        for (kind, rule) in &self.0 {
            checks.nested(kind.name(), rule.validate(*kind));
        }
        checks.finish()
    }
}

/// Who did something to an alert, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The principal.
    pub by: String,
    /// The reason.
    pub why: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// What an alert says, in sentences.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What happened.
    pub summary: String,
    /// Why it is probably so, the most important first.
    pub causes: Vec<String>,
    /// What rekindle does about it.
    pub response: String,
    /// What a person can do.
    pub advice: String,
}

/// A condition that requires attention.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The alert.
    pub id: AlertId,
    /// The model.
    pub model: ModelName,
    /// What was found.
    pub kind: AlertKind,
    /// How urgent it is.
    pub severity: Severity,
    /// What it says of the latest finding.
    pub message: Message,
    /// The latest model version with the finding; `None` if it is not about a version.
    pub version: Option<u32>,
    /// The start of the first window with the finding, in event time; of rows ahead, the earliest of their event times; of a feed, when its last
    /// row was captured.
    pub from: DateTime<Utc>,
    /// The end of the last one.
    pub until: DateTime<Utc>,
    /// Windows with the finding; 0 for kinds that are not about windows.
    pub windows: u32,
    /// Late, ahead or repeated rows; of other kinds, the rows of the latest window; 0 for a feed that has stopped.
    pub rows: u64,
    /// The latest report with the finding.
    pub report: Option<ReportId>,
    /// The correlation id of the latest report.
    pub correlation_id: Option<WorkflowId>,
    /// When it opened.
    pub opened_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Who has taken it over.
    pub acknowledged: Option<Note>,
    /// Who has closed it.
    pub resolved: Option<Note>,
}

impl Alert {
    /// Its state.
    pub fn state(&self) -> AlertState {
        match (&self.resolved, &self.acknowledged) {
            (Some(_), _) => AlertState::Resolved,
            (None, Some(_)) => AlertState::Acknowledged,
            (None, None) => AlertState::Open,
        }
    }

    /// The alert, taken over by somebody. One that is acknowledged or resolved stays as it is.
    #[must_use]
    pub fn acknowledged(self, note: Note) -> Self {
        match self.state() {
            AlertState::Open => Self { updated_at: note.at, acknowledged: Some(note), ..self },
            AlertState::Acknowledged | AlertState::Resolved => self,
        }
    }

    /// The alert, closed. One that is resolved stays as it is.
    #[must_use]
    pub fn resolved(self, note: Note) -> Self {
        match self.state() {
            AlertState::Open | AlertState::Acknowledged => Self { updated_at: note.at, resolved: Some(note), ..self },
            AlertState::Resolved => self,
        }
    }
}

/// A time in which alerts of a model are not notified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// The silence.
    pub id: SilenceId,
    /// The model.
    pub model: ModelName,
    /// The kind of alerts; `None`: every kind.
    pub kind: Option<AlertKind>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub until: DateTime<Utc>,
    /// Who created it.
    pub by: String,
    /// The reason.
    pub why: String,
}

impl Silence {
    /// The longest silence: a year.
    pub const LONGEST: chrono::TimeDelta = chrono::TimeDelta::days(366);

    /// Whether it covers an alert at a time.
    pub fn covers(&self, model: &ModelName, kind: AlertKind, at: DateTime<Utc>) -> bool {
        self.model == *model && self.kind.is_none_or(|only| only == kind) && at < self.until
    }
}

/// A message to a receiver: the state of an alert at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The message, by which a receiver recognises a repetition.
    pub id: uuid::Uuid,
    /// The receiver.
    pub receiver: String,
    /// [`AlertState::Open`] or [`AlertState::Resolved`].
    pub state: AlertState,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// How often it was sent.
    pub attempts: u32,
    /// When the receiver accepted it.
    pub delivered_at: Option<DateTime<Utc>>,
    /// When it was given up.
    pub failed_at: Option<DateTime<Utc>>,
    /// The next attempt.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Of the last attempt that failed; empty without one.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).expect("a time")
    }

    fn note(by: &str, second: i64) -> Note {
        Note { by: by.to_owned(), why: "because".to_owned(), at: at(second) }
    }

    fn alert() -> Alert {
        Alert {
            id: AlertId::new(Uuid::from_u128(1)),
            model: "flights".parse().expect("a name"),
            kind: AlertKind::Drift,
            severity: Severity::Warning,
            message: Message::default(),
            version: Some(1),
            from: at(0),
            until: at(10),
            windows: 1,
            rows: 100,
            report: None,
            correlation_id: None,
            opened_at: at(11),
            updated_at: at(11),
            acknowledged: None,
            resolved: None,
        }
    }

    #[test]
    fn an_alert_is_acknowledged_once_and_resolved_once() {
        let acknowledged = alert().acknowledged(note("ann", 20));
        assert_eq!((acknowledged.state(), acknowledged.updated_at), (AlertState::Acknowledged, at(20)));
        assert_eq!(acknowledged.clone().acknowledged(note("bob", 21)), acknowledged);
        let resolved = acknowledged.resolved(note("bob", 30));
        assert_eq!((resolved.state(), resolved.updated_at), (AlertState::Resolved, at(30)));
        assert_eq!(resolved.clone().resolved(note("ann", 31)), resolved);
        assert_eq!(resolved.clone().acknowledged(note("ann", 31)), resolved);
        assert_eq!(alert().resolved(note("bob", 30)).state(), AlertState::Resolved);
    }

    #[test]
    fn names_are_read_in_any_case_and_with_hyphens() {
        for &kind in AlertKind::ALL {
            assert_eq!(kind.name().to_lowercase().replace('_', "-").parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).expect("json"), kind.name());
        }
        for &severity in Severity::ALL {
            assert_eq!(serde_json::to_value(severity).expect("json"), severity.name());
        }
        assert!("drifting".parse::<AlertKind>().expect_err("no kind").contains("DRIFT, DATA_FAULT"));
    }

    #[test]
    fn the_bounds_of_rules_are_named() {
        let rules = |rule| AlertRules(BTreeMap::from([(AlertKind::Drift, rule)]));
        let base = AlertRule::default_of(AlertKind::Drift);
        for &kind in AlertKind::ALL {
            assert_eq!(AlertRule::default_of(kind).validate(kind), Ok(()));
        }
        for (field, rule) in [
            ("DRIFT.of", AlertRule { of: 0, ..base }),
            ("DRIFT.of", AlertRule { of: 31, ..base }),
            ("DRIFT.windows", AlertRule { windows: 0, ..base }),
            ("DRIFT.windows", AlertRule { windows: 2, ..base }),
            ("DRIFT.resolve_after", AlertRule { resolve_after: 31, ..base }),
        ] {
            let violations = rules(rule).validate().expect_err(field);
            assert!(violations.iter().any(|violation| violation.field == field), "{violations}");
        }
        let several = AlertRule { windows: 2, of: 3, ..base };
        assert_eq!(rules(several).validate(), Ok(()));
        assert!(AlertRules(BTreeMap::from([(AlertKind::FeedStopped, several)])).validate().is_err());
    }

    #[test]
    fn a_silence_covers_its_model_and_kind_until_it_ends() {
        let silence = Silence {
            id: SilenceId::new(Uuid::from_u128(1)),
            model: "flights".parse().expect("a name"),
            kind: Some(AlertKind::Drift),
            created_at: at(0),
            until: at(10),
            by: "ann".to_owned(),
            why: "a holiday".to_owned(),
        };
        let (model, other) = (silence.model.clone(), "other".parse().expect("a name"));
        assert!(silence.covers(&model, AlertKind::Drift, at(9)));
        assert!(!silence.covers(&model, AlertKind::Drift, at(10)));
        assert!(!silence.covers(&model, AlertKind::DataFault, at(9)));
        assert!(!silence.covers(&other, AlertKind::Drift, at(9)));
        assert!(Silence { kind: None, ..silence }.covers(&model, AlertKind::DataFault, at(9)));
    }
}
