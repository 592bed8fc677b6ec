//! Events that ask for a retraining: alerts of the monitor, windows whose outcomes have arrived, and new versions of a dataset.

use chrono::{DateTime, Utc};
use rekindle_bus::cloudevent::CloudEvent;
use rekindle_client::wire;
use rekindle_domain::{
    ModelName, Trigger, WorkflowId,
    event::{Detection, EventKind, FeatureCause, MeasuredWindow},
};

use super::decision::{About, Request};
use crate::{
    Error,
    workflow::{Cause, progress::DatasetRef},
};

/// What an event asks for.
pub(super) enum Asked {
    /// The retraining of one model.
    Retraining(Box<Request>),
    /// The retraining of every model whose policy has this dataset.
    Dataset(DatasetRef),
    /// Nothing: the outcomes of the window have not arrived.
    Nothing,
}

/// Reads an event of the consumer.
pub(super) fn read(event: &CloudEvent) -> Result<Asked, Error> {
    if let Some((name, version)) = wire::event::registered_dataset(event.kind, &event.data)? {
        return Ok(Asked::Dataset(DatasetRef { name, version }));
    }
    if event.kind == EventKind::WINDOW_REPORTED {
        let measured = wire::event::measured_window(event.kind, &event.data)?;
        return Ok(measured.map_or(Asked::Nothing, |measured| Asked::Retraining(Box::new(on_window(event, measured)))));
    }
    let alert = wire::event::detection(event.kind, &event.data)?;
    let alert = alert.ok_or_else(|| Error::invalid("type", format!("is {}: expected an alert", event.kind)))?;
    let has_data_fault = alert.has_data_fault();
    let Detection { trigger, window, causes, .. } = alert;
    let id: WorkflowId =
        event.context.correlation_id.parse().map_err(|error| Error::invalid("correlationid", error))?;
    let cause = Cause {
        id,
        first: None,
        trigger,
        words: explanation(trigger, window.until, &causes),
        causation_id: event.id.to_string(),
        window_until: Some(window.until),
        window_closed_at: Some(window.closed_at),
        dataset: None,
    };
    let is_degraded = trigger == Trigger::Degradation;
    let about = About::Window { version: window.version.version, has_data_fault, is_degraded };
    Ok(Asked::Retraining(Box::new(Request { model: window.model, cause, about })))
}

/// A retraining after a window. Its drift may have started a workflow before, whose id it has then.
fn on_window(event: &CloudEvent, measured: MeasuredWindow) -> Request {
    let MeasuredWindow { window, is_degraded, has_data_fault } = measured;
    let until = window.until.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    let cause = Cause {
        id: event.context.correlation_id.parse().unwrap_or_else(|_| WorkflowId::new(event.id)),
        first: None,
        trigger: Trigger::Window,
        words: format!("the outcomes of the window until {until} have arrived"),
        causation_id: event.id.to_string(),
        window_until: Some(window.until),
        window_closed_at: Some(window.closed_at),
        dataset: None,
    };
    let about = About::Window { version: window.version.version, has_data_fault, is_degraded };
    Request { model: window.model, cause, about }
}

/// A retraining on a dataset version.
pub(super) fn on_dataset(id: WorkflowId, model: ModelName, event: &CloudEvent, dataset: DatasetRef) -> Request {
    let cause = Cause {
        id,
        first: None,
        trigger: Trigger::DatasetVersion,
        words: format!("dataset {}/{} was registered", dataset.name, dataset.version),
        causation_id: event.id.to_string(),
        window_until: None,
        window_closed_at: None,
        dataset: Some(dataset),
    };
    Request { model, cause, about: About::Dataset }
}

/// E.g. `drift in the window until 2013-06-03T00:00:00Z: dep_delay 61%, carrier 20%`. Columns without a share in the shift, which do not
/// matter to the model, are left out.
pub(super) fn explanation(trigger: Trigger, until: DateTime<Utc>, features: &[FeatureCause]) -> String {
    const NAMED: usize = 5;
    let named: Vec<String> = features
        .iter()
        .filter(|feature| feature.cause_share > 0.0)
        .take(NAMED)
        .map(|feature| format!("{} {:.0}%", feature.name, 100.0 * feature.cause_share))
        .collect();
    let until = until.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    let what = trigger.name().to_lowercase();
    let list = if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) };
    format!("{what} in the window until {until}{list}")
}
