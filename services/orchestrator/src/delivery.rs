//! Delivery metrics: read from the events of the stream, and computed by [`rekindle_domain::delivery`]. Callers ask for a span; Prometheus gets
//! those of the last 30 days.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use metrics::{describe_gauge, gauge};
use rekindle_bus::{cloudevent, read::From, streams::EVENTS, subject};
use rekindle_client::wire::delivery;
use rekindle_domain::{
    ModelName, RunId, WorkflowState,
    delivery::{DeliveryMetrics, Happened, Occurrence, Spread, measure},
};
use rekindle_service::{Call, chain};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    core::{Core, now},
};

/// The span that is read without `from`.
const DEFAULT_SPAN: TimeDelta = TimeDelta::days(30);
/// The longest span.
const LONGEST_SPAN: TimeDelta = TimeDelta::days(366);
/// What ends in the span began so long before it at most: no workflow lasts longer.
const BEFORE: TimeDelta = TimeDelta::days(30);

/// What a caller asks for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// `None` is every model of the namespace.
    pub model: Option<ModelName>,
    pub from: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
}

/// The metrics, and the span that they are of.
pub(crate) async fn metrics(
    core: &Core,
    call: &Call,
    asked: &Asked,
) -> Result<(Range<DateTime<Utc>>, DeliveryMetrics), Error> {
    let until = asked.until.unwrap_or(call.now);
    let from = asked.from.unwrap_or(until - DEFAULT_SPAN);
    if from >= until {
        return Err(Error::invalid("from", format!("is {from}: expected a time before until, which is {until}")));
    }
    if until - from > LONGEST_SPAN {
        return Err(Error::invalid(
            "from",
            format!("is {from}: expected at most 366 days before until, which is {until}"),
        ));
    }
    let model = asked.model.clone();
    let concerns = |happened: &Happened| {
        happened.model().is_none_or(|named| match &model {
            Some(model) => model == named,
            None => call.namespace.contains(named.as_str()),
        })
    };
    let events = read(core, from - BEFORE, concerns).await?;
    let metrics = tokio::task::spawn_blocking({
        let span = from..until;
        move || measure(events, model.as_ref(), span)
    });
    let metrics = metrics.await.map_err(|error| Error::unrecoverable(error.to_string()))?;
    Ok((from..until, metrics))
}

/// Sets the gauges of the last 30 days, per model, until `shutdown`. Every instance has the same ones, since they follow from the events.
pub(crate) async fn export(core: Arc<Core>, shutdown: CancellationToken) -> Result<(), Error> {
    describe();
    // A model without events is set to nothing, instead of left as it was.
    let mut known = BTreeSet::new();
    loop {
        let until = now();
        match read(&core, until - DEFAULT_SPAN - BEFORE, |_| true).await {
            Ok(events) => {
                known.extend(events.iter().filter_map(|event| event.happened.model().cloned()));
                let models = known.clone();
                let set = tokio::task::spawn_blocking(move || set_all(&models, events, until));
                if let Err(error) = set.await {
                    tracing::error!(error = chain(&error), "the delivery metrics are not computed");
                }
            }
            Err(error) => tracing::warn!(error = chain(&error), "the events of the delivery metrics cannot be read"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(core.config.delivery_interval) => {}
        }
    }
}

fn describe() {
    let span = "in the last 30 days, by model";
    describe_gauge!("rekindle_delivery_deployments", format!("Versions that became the stable version {span}."));
    describe_gauge!(
        "rekindle_delivery_change_failure_ratio",
        format!("Rollouts that failed, as a share of those that ended {span}.")
    );
    describe_gauge!(
        "rekindle_delivery_defect_ratio",
        format!("Stable versions whose quality degraded, as a share of all stable versions {span}.")
    );
    describe_gauge!("rekindle_delivery_detections", format!("Detections of drift and degradation {span}."));
    describe_gauge!("rekindle_delivery_workflows", format!("Retraining workflows that ended {span} and state."));
    describe_gauge!(
        "rekindle_delivery_duration_seconds",
        "Median, 90th percentile and longest duration of a phase in the last 30 days, by model, phase and quantile."
    );
}

/// Sets the gauges of every model.
fn set_all(models: &BTreeSet<ModelName>, events: Vec<Occurrence>, until: DateTime<Utc>) {
    let mut models: BTreeMap<&ModelName, Vec<Occurrence>> = models.iter().map(|model| (model, Vec::new())).collect();
    // Events of runs name no model: each belongs to the model whose version the run has made.
    let mut runs: HashMap<RunId, Vec<Occurrence>> = HashMap::new();
    for event in events {
        if let Happened::RunStarted(run) | Happened::RunEnded(run) = event.happened {
            runs.entry(run).or_default().push(event);
        } else if let Some(events) = event.happened.model().and_then(|model| models.get_mut(model)) {
            events.push(event);
        }
    }
    for (model, mut events) in models {
        let trained_by = |event: &Occurrence| match &event.happened {
            Happened::VersionRegistered { run, .. } => run.and_then(|run| runs.get(&run)),
            _ => None,
        };
        let of_runs: Vec<Occurrence> = events.iter().filter_map(trained_by).flatten().cloned().collect();
        events.extend(of_runs);
        events.sort_by_key(|event| event.at);
        set(model, &measure(events, Some(model), until - DEFAULT_SPAN..until));
    }
}

fn set(model: &ModelName, found: &DeliveryMetrics) {
    let model = model.to_string();
    let count = |name: &'static str, value: u64| gauge!(name, "model" => model.clone()).set(value as f64);
    count("rekindle_delivery_deployments", found.deployments);
    count("rekindle_delivery_detections", found.detections);
    let ratios = [
        ("rekindle_delivery_change_failure_ratio", found.change_failure_rate),
        ("rekindle_delivery_defect_ratio", found.defect_rate),
    ];
    for (name, ratio) in ratios {
        // Without a rollout there is no share of them.
        gauge!(name, "model" => model.clone()).set(ratio.unwrap_or(f64::NAN));
    }
    for state in WorkflowState::ALL.into_iter().filter(|state| state.is_terminal()) {
        let labels = [("model", model.clone()), ("state", state.name().to_lowercase())];
        let ended = found.workflows.get(&state).copied().unwrap_or_default();
        gauge!("rekindle_delivery_workflows", &labels).set(ended as f64);
    }
    let phases: [(&str, Spread); 6] = [
        ("detect", found.time_to_detect),
        ("respond", found.time_to_respond),
        ("restore", found.time_to_restore),
        ("lead", found.lead_time),
        ("cycle", found.cycle_time),
        ("training", found.training_time),
    ];
    for (phase, spread) in phases {
        for (quantile, value) in [("0.5", spread.median), ("0.9", spread.p90), ("1", spread.max)] {
            let labels = [("model", model.clone()), ("phase", phase.to_owned()), ("quantile", quantile.to_owned())];
            let seconds = if spread.count > 0 { value.as_seconds_f64() } else { f64::NAN };
            gauge!("rekindle_delivery_duration_seconds", &labels).set(seconds);
        }
    }
}

/// The events since `from` that concern the caller, in order. One that cannot be read is left out, and the log says so.
async fn read(
    core: &Core,
    from: DateTime<Utc>,
    concerns: impl Fn(&Happened) -> bool,
) -> Result<Vec<Occurrence>, Error> {
    let mut events = Vec::new();
    for kind in delivery::KINDS {
        core.bus
            .read(EVENTS, subject::events_of(kind), From::Time(from), |stored| {
                let event = cloudevent::from_stored(&stored).map_err(|error| chain(&error));
                let happened = event.and_then(|event| {
                    let happened = delivery::happened(event.kind, &event.data).map_err(|error| error.to_string())?;
                    Ok(happened.map(|happened| Occurrence {
                        at: event.time,
                        correlation_id: event.context.correlation_id,
                        happened,
                    }))
                });
                match happened {
                    Ok(happened) => {
                        let happened = happened.filter(|occurred| concerns(&occurred.happened));
                        events.extend(happened.map(|happened| (stored.sequence, happened)));
                    }
                    Err(error) => tracing::warn!(sequence = stored.sequence, error, "an event cannot be read"),
                }
                true
            })
            .await?;
    }
    events.sort_unstable_by_key(|(sequence, event)| (event.at, *sequence));
    Ok(events.into_iter().map(|(_, event)| event).collect())
}
