//! Adds events of the platform to the timeline.

use std::{pin::pin, sync::Arc};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use rekindle_client::wire;
use rekindle_domain::{
    Trigger,
    event::{Detection, EventKind, FeatureCause},
    report::DriftCause,
};
use serde_json::Value;
use tokio::task::AbortHandle;

use super::timeline::Timeline;

/// A subscription, which ends when it is dropped.
pub(crate) struct Subscription(AbortHandle);

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Subscribes to all events.
pub(crate) async fn subscribe(nats: &str, timeline: Arc<Timeline>) -> Result<Subscription> {
    let client = async_nats::connect(nats).await.context("NATS is unreachable")?;
    let events = client.subscribe(rekindle_bus::subject::ALL_EVENTS).await.context("cannot subscribe to the events")?;
    let task = tokio::spawn(async move {
        let mut events = pin!(events);
        while let Some(message) = events.next().await {
            let kind = message.headers.as_ref().and_then(|headers| headers.get("ce-type"));
            let kind = kind.and_then(|kind| EventKind::from_ce_type(kind.as_str()));
            let data: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
            if let Some(line) = kind.and_then(|kind| line(kind, &data)) {
                timeline.add(line);
            }
        }
    });
    Ok(Subscription(task.abort_handle()))
}

/// The event in one line; `None` if it is not shown.
fn line(kind: EventKind, data: &Value) -> Option<String> {
    let text = |key: &str| data[key].as_str().unwrap_or_default();
    Some(match kind {
        EventKind::DRIFT_DETECTED | EventKind::DEGRADATION_DETECTED => {
            alert(&wire::event::detection(kind, data).ok()??)
        }
        EventKind::NEW_CLASS_DETECTED => {
            let classes: Vec<&String> = data["new_classes"].as_object()?.keys().collect();
            format!(
                "outcomes of new classes: {}",
                classes.iter().map(|class| class.as_str()).collect::<Vec<_>>().join(", ")
            )
        }
        EventKind::WORKFLOW_ADVANCED => {
            let reason = if text("reason").is_empty() { String::new() } else { format!(" ({})", text("reason")) };
            let state = text("to_state").trim_start_matches("WORKFLOW_STATE_");
            format!("workflow {}: {state}{reason}", end(text("workflow_id")))
        }
        EventKind::DATASET_VERSION_REGISTERED => {
            format!("dataset {} version {} registered: {} rows", text("name"), data["version"], text("rows"))
        }
        EventKind::MODEL_VERSION_REGISTERED => {
            format!("model {} version {} registered", text("model"), data["version"])
        }
        EventKind::REPLICA_UPDATED => format!("{} serves version {}", text("replica"), data["version"]),
        EventKind::ALIAS_MOVED if text("alias") == "champion" => {
            format!("champion is version {} (was {})", data["version"], data["from_version"])
        }
        _ => return None,
    })
}

fn alert(alert: &Detection) -> String {
    let from = alert.window.from.format("%Y-%m-%d");
    match (alert.trigger, alert.losses) {
        (Trigger::Degradation, Some((loss, reference))) => {
            format!("degradation in the window from {from}: loss {loss:.4}, {reference:.4} on the validation data")
        }
        _ => format!("drift in the window from {from}: {}", causes(&alert.causes)),
    }
}

/// The three largest causes, and the number of the others.
fn causes(causes: &[FeatureCause]) -> String {
    const SHOWN: usize = 3;
    let words = |cause| match cause {
        None => "",
        Some(DriftCause::BeyondReference) => ", beyond the reference",
        Some(DriftCause::NewCategory) => ", new values",
        Some(DriftCause::UnseenSeason) => ", season or trend not in the reference",
        Some(DriftCause::DataFault) => ", probably a data fault",
    };
    let shown = |column: &FeatureCause| format!("{} (PSI {:.2}{})", column.name, column.psi, words(column.cause));
    let shown = causes.iter().take(SHOWN).map(shown);
    let mut shown: Vec<String> = shown.collect();
    if causes.len() > SHOWN {
        shown.push(format!("and {} more", causes.len() - SHOWN));
    }
    shown.join(", ")
}

/// The end of an id. Its beginning is a time, which is the same for ids of the same moment.
fn end(id: &str) -> &str {
    id.get(id.len().saturating_sub(6)..).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_become_lines() {
        let moved = json!({ "alias": "champion", "version": 2, "from_version": 1 });
        assert_eq!(line(EventKind::ALIAS_MOVED, &moved).as_deref(), Some("champion is version 2 (was 1)"));
        let advanced = json!({ "workflow_id": "0193b3a0-123456", "to_state": "WORKFLOW_STATE_TRAINING", "reason": "" });
        assert_eq!(line(EventKind::WORKFLOW_ADVANCED, &advanced).as_deref(), Some("workflow 123456: TRAINING"));
        assert_eq!(line(EventKind::RUN_STARTED, &json!({})), None);
    }

    #[test]
    fn only_the_largest_causes_are_listed() {
        let column = |(name, cause): (&str, _)| FeatureCause {
            name: name.into(),
            psi: 0.5,
            cause_share: 0.2,
            cause,
            reason: String::new(),
        };
        let (season, fault) = (Some(DriftCause::UnseenSeason), Some(DriftCause::DataFault));
        let all = [("a", season), ("b", fault), ("c", None), ("d", None), ("e", None)].map(column);
        let expected = "a (PSI 0.50, season or trend not in the reference), b (PSI 0.50, probably a data fault), c (PSI 0.50), and 2 more";
        assert_eq!(causes(&all), expected);
    }
}
