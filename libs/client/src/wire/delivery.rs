//! Delivery metrics, and the events that they are computed from.

use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_domain::{
    Trigger,
    delivery::{DeliveryMetrics, Happened, Spread},
    event::EventKind,
    validation::Violations,
};
use rekindle_proto::{events, json, orchestrator as wire};
use serde_json::Value;

use super::{
    deployment::{outcome_from_wire, phase_from_wire},
    event::read,
    field::{each, nested, optional_time, parse, parse_optional, required_time},
    report::header_from_wire,
    time,
    workflow::{state_from_wire, state_to_wire},
};

/// The metrics of a span as a message.
pub fn to_wire(span: &Range<DateTime<Utc>>, metrics: &DeliveryMetrics) -> wire::DeliveryMetrics {
    let count = |(&state, &count)| wire::WorkflowCount { state: state_to_wire(state).into(), count };
    wire::DeliveryMetrics {
        from: Some(time::to_wire(span.start)),
        until: Some(time::to_wire(span.end)),
        detections: metrics.detections,
        replayed_detections: metrics.replayed_detections,
        time_to_detect: Some(spread_to_wire(metrics.time_to_detect)),
        time_to_respond: Some(spread_to_wire(metrics.time_to_respond)),
        lead_time: Some(spread_to_wire(metrics.lead_time)),
        cycle_time: Some(spread_to_wire(metrics.cycle_time)),
        training_time: Some(spread_to_wire(metrics.training_time)),
        workflows: metrics.workflows.iter().map(count).collect(),
        deployments: metrics.deployments,
        deployments_per_day: metrics.deployments_per_day,
        returned: metrics.returned,
        rolled_back: metrics.rolled_back,
        change_failure_rate: metrics.change_failure_rate,
        time_to_restore: Some(spread_to_wire(metrics.time_to_restore)),
        stable_versions: metrics.stable_versions,
        degraded_versions: metrics.degraded_versions,
        defect_rate: metrics.defect_rate,
    }
}

/// The metrics of a span in proto3 JSON.
pub fn to_json(span: &Range<DateTime<Utc>>, metrics: &DeliveryMetrics) -> Value {
    json::to_value(&to_wire(span, metrics))
}

/// The span and the metrics that a message holds.
pub fn from_wire(given: wire::DeliveryMetrics) -> Result<(Range<DateTime<Utc>>, DeliveryMetrics), Violations> {
    let span = required_time("from", given.from)?..required_time("until", given.until)?;
    let spread = |field, given| nested(field, given, spread_from_wire);
    let counts = each("workflows", given.workflows, |count: wire::WorkflowCount| {
        Ok((state_from_wire("state", count.state)?, count.count))
    })?;
    let metrics = DeliveryMetrics {
        detections: given.detections,
        replayed_detections: given.replayed_detections,
        time_to_detect: spread("time_to_detect", given.time_to_detect)?,
        time_to_respond: spread("time_to_respond", given.time_to_respond)?,
        lead_time: spread("lead_time", given.lead_time)?,
        cycle_time: spread("cycle_time", given.cycle_time)?,
        training_time: spread("training_time", given.training_time)?,
        workflows: counts.into_iter().collect(),
        deployments: given.deployments,
        deployments_per_day: given.deployments_per_day,
        returned: given.returned,
        rolled_back: given.rolled_back,
        change_failure_rate: given.change_failure_rate,
        time_to_restore: spread("time_to_restore", given.time_to_restore)?,
        stable_versions: given.stable_versions,
        degraded_versions: given.degraded_versions,
        defect_rate: given.defect_rate,
    };
    Ok((span, metrics))
}

fn spread_to_wire(spread: Spread) -> wire::DurationSpread {
    // A clock that was put back makes a negative duration.
    let duration = |duration: TimeDelta| Some(time::span_to_wire(duration.to_std().unwrap_or_default()));
    wire::DurationSpread {
        count: spread.count,
        median: duration(spread.median),
        p90: duration(spread.p90),
        max: duration(spread.max),
    }
}

fn spread_from_wire(given: wire::DurationSpread) -> Result<Spread, Violations> {
    let duration = |field: &str, given: Option<prost_types::Duration>| {
        let span = given.and_then(time::span_from_wire).and_then(|span| TimeDelta::from_std(span).ok());
        span.ok_or_else(|| Violations::of(field, "is missing or out of range: expected a duration of at least 0"))
    };
    Ok(Spread {
        count: given.count,
        median: duration("median", given.median)?,
        p90: duration("p90", given.p90)?,
        max: duration("max", given.max)?,
    })
}

/// The kinds of events that delivery metrics are computed from.
pub const KINDS: [EventKind; 7] = [
    EventKind::DRIFT_DETECTED,
    EventKind::DEGRADATION_DETECTED,
    EventKind::WORKFLOW_ADVANCED,
    EventKind::DEPLOYMENT_CHANGED,
    EventKind::MODEL_VERSION_REGISTERED,
    EventKind::RUN_STARTED,
    EventKind::RUN_ENDED,
];

/// What an event of one of these kinds says; `None` for any other kind.
pub fn happened(kind: EventKind, data: &Value) -> Result<Option<Happened>, Violations> {
    Ok(Some(match kind {
        EventKind::DRIFT_DETECTED => drift(read(data)?)?,
        EventKind::DEGRADATION_DETECTED => degradation(read(data)?)?,
        EventKind::WORKFLOW_ADVANCED => {
            let message: events::WorkflowAdvanced = read(data)?;
            Happened::WorkflowAdvanced {
                workflow: message.workflow_id,
                model: parse("model", &message.model)?,
                state: state_from_wire("to_state", message.to_state)?,
            }
        }
        EventKind::DEPLOYMENT_CHANGED => {
            let message: events::DeploymentChanged = read(data)?;
            Happened::DeploymentChanged {
                model: parse("model", &message.model)?,
                phase: phase_from_wire("phase", message.phase)?,
                stable: message.stable_version,
                target: Some(message.target_version).filter(|&target| target > 0),
                outcome: outcome_from_wire(message.outcome)?,
                is_rollback: message.rollback,
            }
        }
        EventKind::MODEL_VERSION_REGISTERED => {
            let message: events::ModelVersionRegistered = read(data)?;
            Happened::VersionRegistered {
                model: parse("model", &message.model)?,
                version: message.version,
                run: parse_optional("run_id", &message.run_id)?,
            }
        }
        EventKind::RUN_STARTED => {
            let message: events::RunStarted = read(data)?;
            Happened::RunStarted(parse("run_id", &message.run_id)?)
        }
        EventKind::RUN_ENDED => {
            let message: events::RunEnded = read(data)?;
            Happened::RunEnded(parse("run_id", &message.run_id)?)
        }
        _ => return Ok(None),
    }))
}

fn drift(message: events::DriftDetected) -> Result<Happened, Violations> {
    let since = each("features", message.features, |feature| optional_time("since", feature.since))?;
    detected(Trigger::Drift, message.window, since.into_iter().flatten().min())
}

fn degradation(message: events::DegradationDetected) -> Result<Happened, Violations> {
    let onset = optional_time("onset", message.onset)?;
    detected(Trigger::Degradation, message.window, onset)
}

fn detected(
    trigger: Trigger,
    window: Option<rekindle_proto::monitor::WindowHeader>,
    onset: Option<DateTime<Utc>>,
) -> Result<Happened, Violations> {
    let window = nested("window", window, header_from_wire)?;
    Ok(Happened::Detected {
        model: window.model,
        version: window.version.version,
        trigger,
        onset: onset.unwrap_or(window.from),
        window: (window.from, window.until),
        closed_at: window.closed_at,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rekindle_domain::WorkflowState;

    use super::*;

    #[test]
    fn metrics_survive() {
        let spread = |minutes| Spread::of(vec![TimeDelta::minutes(minutes)]);
        let metrics = DeliveryMetrics {
            detections: 3,
            replayed_detections: 1,
            time_to_detect: spread(1),
            time_to_respond: spread(2),
            lead_time: spread(3),
            cycle_time: spread(4),
            training_time: spread(5),
            workflows: BTreeMap::from([(WorkflowState::Rejected, 2)]),
            deployments: 4,
            deployments_per_day: 0.5,
            returned: 1,
            rolled_back: 1,
            change_failure_rate: Some(0.4),
            time_to_restore: spread(6),
            stable_versions: 2,
            degraded_versions: 0,
            defect_rate: Some(0.0),
        };
        let span = DateTime::UNIX_EPOCH..DateTime::UNIX_EPOCH + TimeDelta::days(8);
        assert_eq!(from_wire(to_wire(&span, &metrics)), Ok((span, metrics)));
    }

    #[test]
    fn an_event_of_an_earlier_release_is_read_and_an_unknown_kind_is_none() {
        let data = serde_json::json!({"model": "m", "generation": "4", "phase": "DEPLOYMENT_PHASE_STABLE",
            "stable_version": 2, "reason": ""});
        let happened = |kind, data| super::happened(kind, data);
        let expected = Happened::DeploymentChanged {
            model: "m".parse().expect("a name"),
            phase: rekindle_domain::deployment_status::DeploymentPhase::Stable,
            stable: 2,
            target: None,
            outcome: None,
            is_rollback: false,
        };
        assert_eq!(happened(EventKind::DEPLOYMENT_CHANGED, &data), Ok(Some(expected)));
        assert_eq!(happened(EventKind::POLICY_SET, &data), Ok(None));
        assert!(happened(EventKind::RUN_STARTED, &data).is_err());
    }
}
