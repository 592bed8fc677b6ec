//! Follows the bus and puts what matters to a person into the story.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use rekindle_domain::event::EventKind;
use serde_json::Value;
use tokio::task::AbortHandle;

use super::story::Story;

/// Following ends when this is dropped.
pub(crate) struct Following(AbortHandle);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins to follow.
pub(crate) async fn follow(nats: &str, story: Arc<Story>) -> Result<Following> {
    let client = async_nats::connect(nats).await.context("cannot reach the bus")?;
    let mut events = client.subscribe("rekindle.events.>").await.context("cannot subscribe to the events")?;
    let task = tokio::spawn(async move {
        while let Some(message) = events.next().await {
            let kind = message.headers.as_ref().and_then(|headers| headers.get("ce-type"));
            let kind = kind.and_then(|kind| EventKind::from_ce_type(kind.as_str()));
            let data: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
            if let Some(line) = kind.and_then(|kind| line(kind, &data)) {
                story.tell(line);
            }
        }
    });
    Ok(Following(task.abort_handle()))
}

/// An event in one line; `None` for what a person need not follow.
fn line(kind: EventKind, data: &Value) -> Option<String> {
    let text = |key: &str| data[key].as_str().unwrap_or_default();
    let number = |key: &str| data[key].as_f64().unwrap_or_default();
    let day = |key: &str| text(key).chars().take(10).collect::<String>();
    Some(match kind {
        EventKind::DRIFT_DETECTED => {
            format!("drift in the window from {}: {}", day("from"), causes(data))
        }
        EventKind::DEGRADATION_DETECTED => format!(
            "degradation in the window from {}: loss {:.4} where {:.4} was learnt",
            day("from"),
            number("loss"),
            number("reference_loss")
        ),
        EventKind::WORKFLOW_ADVANCED => {
            let reason = if text("reason").is_empty() { String::new() } else { format!(" ({})", text("reason")) };
            format!("workflow {}: {}{reason}", short(text("workflow_id")), text("to_state"))
        }
        EventKind::DATASET_VERSION_REGISTERED => {
            format!("dataset {} version {}: {} rows", text("name"), data["version"], text("rows"))
        }
        EventKind::MODEL_VERSION_REGISTERED => {
            format!("model {} version {} registered", text("model"), data["version"])
        }
        EventKind::REPLICA_UPDATED => format!("{} answers with version {}", text("replica"), data["version"]),
        EventKind::ALIAS_MOVED if text("alias") == "champion" => {
            format!("champion is version {} (was {})", data["version"], data["from_version"])
        }
        _ => return None,
    })
}

/// The three features most to blame.
fn causes(data: &Value) -> String {
    let features = data["features"].as_array().map(Vec::as_slice).unwrap_or_default();
    let told = features.iter().take(3).map(|feature| {
        format!(
            "{} (PSI {:.2})",
            feature["name"].as_str().unwrap_or_default(),
            feature["psi"].as_f64().unwrap_or_default()
        )
    });
    let mut told: Vec<String> = told.collect();
    if features.len() > 3 {
        told.push(format!("and {} more", features.len() - 3));
    }
    told.join(", ")
}

/// The end of an id: its beginning is the time, which neighbours share.
fn short(id: &str) -> &str {
    id.get(id.len().saturating_sub(6)..).unwrap_or(id)
}
