//! Between the wire and the monitor's own nouns.

use chrono::{DateTime, TimeDelta};
use rekindle_proto::{
    error::invalid_argument,
    monitor::{
        self as wire, FeatureDrift, LoggedPrediction, Value, WindowReport, outcome::Truth as WireTruth,
        value::Value as WireValue,
    },
    time::{span_from_wire, span_to_wire, to_wire},
};
use tonic::Status;

use crate::{
    alert::wire_time,
    lookup::{Cell, Logged},
    outcome::{self, Outcome, Truth},
    report::{ColumnDrift, Quality, Report, Verdict},
    watch::{Settings, Watch},
};

fn span(field: &'static str, given: Option<prost_types::Duration>, default: i64) -> Result<i64, Status> {
    let Some(given) = given else { return Ok(default) };
    let seconds = given.seconds;
    let span = span_from_wire(given)
        .ok_or_else(|| invalid_argument(field, format!("is {seconds} s: expected at most 10 years")))?;
    Ok(span.num_milliseconds())
}

/// Settings as given; what is left out takes the default.
pub(super) fn settings(given: &wire::Watch) -> Result<Settings, Status> {
    let default = Settings::default();
    let number = |given: f64, default: f64| if given == 0.0 { default } else { given };
    let settings = Settings {
        window: span("watch.window", given.window, default.window)?,
        window_offset: span("watch.window_offset", given.window_offset, default.window_offset)?,
        lateness: span("watch.lateness", given.lateness, default.lateness)?,
        label_wait: span("watch.label_wait", given.label_wait, default.label_wait)?,
        min_rows: if given.min_rows == 0 { default.min_rows } else { given.min_rows },
        drift_margin: number(given.drift_margin, default.drift_margin),
        degradation_margin: number(given.degradation_margin, default.degradation_margin),
        false_alarm_rate: number(given.false_alarm_rate, default.false_alarm_rate),
    };
    settings
        .validate()
        .map_err(|error| invalid_argument(error.field, format!("is {}: expected {}", error.got, error.expected)))?;
    Ok(settings)
}

pub(super) fn watch(watch: &Watch) -> wire::Watch {
    let span = |millis| Some(span_to_wire(TimeDelta::milliseconds(millis)));
    let settings = &watch.settings;
    wire::Watch {
        model: watch.model.to_string(),
        window: span(settings.window),
        window_offset: span(settings.window_offset),
        lateness: span(settings.lateness),
        label_wait: span(settings.label_wait),
        min_rows: settings.min_rows,
        drift_margin: settings.drift_margin,
        degradation_margin: settings.degradation_margin,
        false_alarm_rate: settings.false_alarm_rate,
        revision: watch.revision,
    }
}

/// Checks the outcome at `place` of the request.
pub(super) fn outcome(place: usize, given: wire::Outcome) -> Result<Outcome, Status> {
    let (label, number) = match given.truth {
        Some(WireTruth::Label(label)) => (Some(label), None),
        Some(WireTruth::Number(number)) => (None, Some(number)),
        None => (None, None),
    };
    outcome::check(&given.prediction_id, given.row, label, number)
        .map_err(|error| invalid_argument(format!("outcomes[{place}].{}", error.field), error.problem))
}

fn verdict(verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Stable => wire::Verdict::Stable,
        Verdict::Drifted => wire::Verdict::Drifted,
        Verdict::Unknown => wire::Verdict::Unknown,
    }
    .into()
}

fn feature(column: &ColumnDrift) -> FeatureDrift {
    FeatureDrift {
        name: column.name.clone(),
        verdict: verdict(column.verdict),
        psi: column.psi,
        p_value: column.p_value,
        minimum_detectable_psi: column.minimum_detectable_psi,
        cause_share: column.cause_share,
        missing_reference: column.missing_reference,
        missing_current: column.missing_current,
        reason: column.reason.clone(),
    }
}

fn quality(quality: &Quality) -> wire::Quality {
    wire::Quality {
        verdict: verdict(quality.verdict),
        labelled_rows: quality.labelled_rows,
        metrics: quality.metrics.clone().into_iter().collect(),
        reference_metrics: quality.reference_metrics.clone().into_iter().collect(),
        loss: quality.loss,
        reference_loss: quality.reference_loss,
        rise_lower_bound: quality.rise_lower_bound,
    }
}

pub(super) fn report(report: &Report) -> WindowReport {
    let invalid = report.quality.as_ref().map_or(0, |quality| quality.invalid_outcomes);
    let mut reason = report.reason.clone();
    if invalid > 0 {
        let separator = if reason.is_empty() { "" } else { "; " };
        reason = format!("{reason}{separator}{invalid} outcomes are no value of the target");
    }
    WindowReport {
        id: report.id.to_string(),
        model: report.model.to_string(),
        model_version: report.version.version,
        bundle_digest: report.version.bundle.to_string(),
        from: wire_time(report.window.from),
        until: wire_time(report.window.until),
        rows: report.rows,
        drift: verdict(report.drift.verdict),
        features: report.drift.features.iter().map(feature).collect(),
        prediction: report.drift.prediction.as_ref().map(feature),
        quality: report.quality.as_ref().map(quality),
        closed_at: Some(to_wire(report.closed_at)),
        quality_at: report.quality_at.map(to_wire),
        correlation_id: report.correlation_id.map(|id| id.to_string()).unwrap_or_default(),
        reason,
    }
}

fn value(cell: Cell) -> Value {
    let value = match cell {
        Cell::Number(number) => WireValue::Number(number),
        Cell::Integer(integer) => WireValue::Integer(integer),
        Cell::Text(text) => WireValue::Text(text),
        Cell::Boolean(boolean) => WireValue::Boolean(boolean),
    };
    Value { value: Some(value) }
}

pub(super) fn logged(logged: Logged) -> LoggedPrediction {
    let prediction_id = uuid::Uuid::from_u128(logged.key.prediction).to_string();
    let row = logged.key.row;
    let truth = logged.truth.map(|truth| match truth {
        Truth::Label(label) => WireTruth::Label(label),
        Truth::Number(number) => WireTruth::Number(number),
    });
    LoggedPrediction {
        outcome: truth.map(|truth| wire::Outcome { prediction_id: prediction_id.clone(), row, truth: Some(truth) }),
        prediction_id,
        row,
        model: logged.model.to_string(),
        model_version: logged.version.version,
        bundle_digest: logged.version.bundle.to_string(),
        replica: logged.replica,
        event_time: wire_time(logged.event_time),
        answered_at: DateTime::from_timestamp_micros(logged.answered_at).map(to_wire),
        inputs: logged.inputs.into_iter().map(|(name, cell)| (name, value(cell))).collect(),
        outputs: logged.outputs.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Duration;

    use super::*;

    #[test]
    fn spans_out_of_all_measure_are_refused_by_name() {
        for seconds in [i64::MIN, i64::MIN + 1, -10, crate::watch::LONGEST / 1_000 + 10, i64::MAX / 1_000, i64::MAX] {
            for nanos in [i32::MIN, 0, i32::MAX] {
                let given = wire::Watch { label_wait: Some(Duration { seconds, nanos }), ..Default::default() };
                let refused = settings(&given).map(|settings| settings.label_wait);
                let refused = refused.expect_err(&format!("{seconds} s, {nanos} ns"));
                assert_eq!(refused.code(), tonic::Code::InvalidArgument);
                assert!(refused.message().starts_with("watch.label_wait"), "{refused}");
            }
        }
        let longest = Duration { seconds: crate::watch::LONGEST / 1_000, nanos: 0 };
        let given = wire::Watch { label_wait: Some(longest), ..Default::default() };
        assert_eq!(settings(&given).map(|settings| settings.label_wait).ok(), Some(crate::watch::LONGEST));
    }
}
