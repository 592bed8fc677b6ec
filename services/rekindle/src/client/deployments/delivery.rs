//! `rekindle deployments metrics`.

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use rekindle_client::wire;
use rekindle_domain::{
    ModelName, WorkflowState,
    delivery::{DeliveryMetrics, Spread},
};

use crate::client::{
    Global,
    output::{Fields, when, words},
    parse,
};

/// Which changes are measured.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The metrics are computed from the events on the bus. Durations count towards the time in which they end.

Examples:
  rekindle deployments metrics
  rekindle deployments metrics flight-delay --from 2026-11-01 --until 2026-12-01")]
pub(crate) struct Args {
    /// Model name; by default all models together
    model: Option<ModelName>,
    /// Start; by default 30 days before the end
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    from: Option<DateTime<Utc>>,
    /// End; by default now
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    until: Option<DateTime<Utc>>,
}

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    let orchestrator = global.platform()?.orchestrator();
    let measured = orchestrator.delivery_metrics(args.model.as_ref(), args.from, args.until).await?;
    global.format().one(
        &measured,
        |(span, metrics)| wire::delivery::to_json(span, metrics),
        |(span, metrics)| {
            let mut shown = vec![("from", when(span.start)), ("until", when(span.end))];
            shown.extend(fields(metrics));
            shown
        },
    );
    Ok(())
}

fn fields(metrics: &DeliveryMetrics) -> Fields {
    let rate = |rate: Option<f64>| rate.map(|rate| format!("{:.1} %", 100.0 * rate));
    let of = |rate: Option<String>, words: String| rate.map(|rate| format!("{rate} ({words})")).unwrap_or_default();
    let detections = match metrics.replayed_detections {
        0 => metrics.detections.to_string(),
        replayed => format!("{}, of which {replayed} in rows of the past", metrics.detections),
    };
    let failed = format!("{} rollouts returned, {} deployments rolled back", metrics.returned, metrics.rolled_back);
    let degraded = format!("{} of {} stable versions degraded", metrics.degraded_versions, metrics.stable_versions);
    vec![
        ("deployments", format!("{}, {:.2} a day", metrics.deployments, metrics.deployments_per_day)),
        ("change failure rate", of(rate(metrics.change_failure_rate), failed)),
        ("time to restore", spread(metrics.time_to_restore)),
        ("cycle time", spread(metrics.cycle_time)),
        ("lead time of retraining", spread(metrics.lead_time)),
        ("training time", spread(metrics.training_time)),
        ("detections", detections),
        ("time to detect", spread(metrics.time_to_detect)),
        ("time to respond", spread(metrics.time_to_respond)),
        ("defect rate", of(rate(metrics.defect_rate), degraded)),
        ("workflows", workflows(metrics)),
    ]
}

fn workflows(metrics: &DeliveryMetrics) -> String {
    let count = |(state, count): (&WorkflowState, &u64)| format!("{count} {}", words(state.name()));
    metrics.workflows.iter().map(count).collect::<Vec<_>>().join(", ")
}

/// E.g. `median 12m, 90 % within 15m, at most 20m (7)`; empty if there are none.
fn spread(spread: Spread) -> String {
    let Spread { count, median, p90, max } = spread;
    match count {
        0 => String::new(),
        1 => format!("{} (1)", duration(max)),
        _ => format!("median {}, 90 % within {}, at most {} ({count})", duration(median), duration(p90), duration(max)),
    }
}

/// A duration with the precision that a person reads.
fn duration(duration: TimeDelta) -> String {
    let precision = if duration < TimeDelta::minutes(1) { 100 } else { 1_000 };
    let millis = u64::try_from(duration.num_milliseconds()).unwrap_or(0) / precision * precision;
    humantime::format_duration(std::time::Duration::from_millis(millis)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_absent_ones_are_left_out() {
        let spread_of =
            |millis: &[i64]| spread(Spread::of(millis.iter().copied().map(TimeDelta::milliseconds).collect()));
        assert_eq!(spread_of(&[]), "");
        assert_eq!(spread_of(&[2_345]), "2s 300ms (1)");
        assert_eq!(spread_of(&[61_234, 1_000]), "median 1s, 90 % within 1m 1s, at most 1m 1s (2)");
        let metrics = DeliveryMetrics::default();
        let shown: Vec<_> = fields(&metrics).into_iter().filter(|(_, value)| !value.is_empty()).collect();
        assert_eq!(shown, [("deployments", "0, 0.00 a day".to_owned()), ("detections", "0".to_owned())]);
    }
}
