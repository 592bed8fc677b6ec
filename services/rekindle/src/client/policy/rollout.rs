//! The flags of the rollout.

use std::time::Duration;

use humantime::format_duration;
use rekindle_domain::{
    rollout::{CanaryStep, Strategy},
    routes::TOTAL_WEIGHT,
};

use super::replace;
use crate::client::{deployments, parse};

/// The pace and the limits of a rollout.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Args {
    /// Observation time of each updated replica before the next one is updated
    #[arg(long, value_name = "D", value_parser = parse::span)]
    bake: Option<Duration>,
    /// Observation time of all replicas before the version becomes stable
    #[arg(long, value_name = "D", value_parser = parse::span)]
    observe: Option<Duration>,
    /// Maximum share of requests that may fail in the new version; above it, the version is rolled back
    #[arg(long, value_name = "SHARE", value_parser = parse::number)]
    max_error_rate: Option<f64>,
    /// Maximum 99th percentile of the latency of the new version on a replica, or none; above it, the version is rolled back
    #[arg(long, value_name = "D", value_parser = super::alert_rule::span_or_none)]
    max_latency: Option<super::alert_rule::SpanOrNone>,
    /// Maximum share of the answered requests in which a guardrail clips or flags a value, or none; above it, the version is rolled back
    #[arg(long, value_name = "SHARE", value_parser = share)]
    max_guardrail_rate: Option<Share>,
    /// Steps before the first replica is updated, each a share of the requests and how long it lasts, or none; with the share 0 the new
    /// version gets a copy of the requests
    #[arg(long, value_name = "SHARE=D,..", value_parser = canary)]
    canary: Option<Canary>,
}

/// A share, or none.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Share(Option<f64>);

fn share(text: &str) -> Result<Share, String> {
    if text == "none" { Ok(Share(None)) } else { parse::number(text).map(|share| Share(Some(share))) }
}

/// The steps of a canary rollout; empty for none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Canary(Vec<CanaryStep>);

fn canary(text: &str) -> Result<Canary, String> {
    if text == "none" {
        return Ok(Canary(Vec::new()));
    }
    text.split(',').map(step).collect::<Result<_, _>>().map(Canary)
}

fn step(text: &str) -> Result<CanaryStep, String> {
    let expected = "expected a share and a duration, e.g. 5%=10m";
    let (share, duration) = text.split_once('=').ok_or(expected)?;
    let is_shadow = matches!(share.trim(), "0" | "0%" | "shadow");
    let weight = if is_shadow { 0 } else { deployments::weight(share).ok_or(expected)?? };
    Ok(CanaryStep { weight, duration: parse::span(duration)? })
}

impl Args {
    /// Changes what the flags give.
    pub(super) fn change(self, strategy: &mut Strategy) {
        replace(&mut strategy.bake, self.bake);
        replace(&mut strategy.observe, self.observe);
        replace(&mut strategy.max_error_rate, self.max_error_rate);
        replace(&mut strategy.max_latency, self.max_latency.map(|limit| limit.0));
        replace(&mut strategy.max_guardrail_rate, self.max_guardrail_rate.map(|limit| limit.0));
        replace(&mut strategy.canary, self.canary.map(|canary| canary.0));
    }
}

/// The strategy in words.
pub(super) fn words(strategy: &Strategy) -> String {
    let span = |span: Duration| format_duration(span).to_string();
    let step = |step: &CanaryStep| match step.weight {
        0 => format!("shadow for {}", span(step.duration)),
        weight => format!("{} % for {}", f64::from(weight) * 100.0 / f64::from(TOTAL_WEIGHT), span(step.duration)),
    };
    let mut parts: Vec<String> = strategy.canary.iter().map(step).collect();
    parts.push(format!("bake {}", span(strategy.bake)));
    parts.push(format!("observe {}", span(strategy.observe)));
    parts.push(format!("at most {} % errors", strategy.max_error_rate * 100.0));
    parts.extend(strategy.max_latency.map(|limit| format!("99 % within {}", span(limit))));
    parts.extend(
        strategy
            .max_guardrail_rate
            .map(|limit| format!("at most {} % clipped or flagged by guardrails", limit * 100.0)),
    );
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_shares_with_durations() {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        let steps = [(0, minute), (500, hour), (2_500, hour)].map(|(weight, duration)| CanaryStep { weight, duration });
        assert_eq!(canary("0=1m,5%=1h,25=1h"), Ok(Canary(steps.to_vec())));
        assert_eq!(canary("none"), Ok(Canary(Vec::new())));
        for wrong in ["", "5%", "5%=", "100%=1h", "x=1h", "5%=1h,", "0.001%=1h"] {
            assert!(canary(wrong).is_err(), "{wrong}");
        }
        let limited = Strategy { max_latency: Some(minute), max_guardrail_rate: Some(0.25), ..Strategy::default() };
        assert_eq!(
            words(&Strategy { canary: steps.to_vec(), ..limited }),
            "shadow for 1m, 5 % for 1h, 25 % for 1h, bake 1s, observe 5s, at most 0 % errors, 99 % within 1m, \
             at most 25 % clipped or flagged by guardrails"
        );
        assert_eq!((share("none"), share("0.1")), (Ok(Share(None)), Ok(Share(Some(0.1)))));
    }
}
