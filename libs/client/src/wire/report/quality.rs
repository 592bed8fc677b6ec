//! Qualities and estimates of reports.

use rekindle_domain::{
    report::{Estimate, EstimateRecord, EstimatedMetric, LoadAssociation, Quality, SliceQuality, WindowHeader},
    validation::Violations,
};
use rekindle_proto::{json, monitor as wire};
use serde_json::Value;

use super::{header_to_wire, interval_from_wire, interval_to_wire, verdict_from_wire, verdict_to_wire};
use crate::wire::{
    field::{each, optional_time},
    time,
};

/// An estimate as a message.
pub fn estimate_to_wire(estimate: &Estimate) -> wire::Estimate {
    let metric = |metric: &EstimatedMetric| wire::EstimatedMetric {
        value: metric.value,
        interval: Some(interval_to_wire(metric.interval)),
    };
    wire::Estimate {
        metrics: estimate.metrics.iter().map(|(name, estimated)| (name.clone(), metric(estimated))).collect(),
        withdrawn: estimate.withdrawn.clone(),
        measured_windows: estimate.record.measured,
        missed_windows: estimate.record.missed,
    }
}

/// The estimate that a message holds.
pub fn estimate_from_wire(given: wire::Estimate) -> Estimate {
    let metric = |metric: wire::EstimatedMetric| EstimatedMetric {
        value: metric.value,
        interval: interval_from_wire(metric.interval.unwrap_or_default()),
    };
    Estimate {
        metrics: given.metrics.into_iter().map(|(name, estimated)| (name, metric(estimated))).collect(),
        withdrawn: given.withdrawn,
        record: EstimateRecord { measured: given.measured_windows, missed: given.missed_windows },
    }
}

pub(super) fn quality_to_wire(quality: &Quality) -> wire::Quality {
    wire::Quality {
        verdict: verdict_to_wire(quality.verdict).into(),
        labelled_rows: quality.labelled_rows,
        rows: quality.rows,
        metrics: quality.metrics.clone().into_iter().collect(),
        reference_metrics: quality.reference_metrics.clone().into_iter().collect(),
        loss: quality.loss,
        reference_loss: quality.reference_loss,
        rise_lower_bound: quality.rise_lower_bound,
        invalid_outcomes: quality.invalid_outcomes,
        new_classes: quality.new_classes.clone().into_iter().collect(),
        selection: quality.selection.clone(),
        slices: quality.slices.iter().map(slice_to_wire).collect(),
        slices_searched: quality.slices_searched,
        onset: quality.onset.map(time::to_wire),
        load: quality.load.as_ref().map(load_to_wire),
        intervals: quality
            .intervals
            .iter()
            .map(|(name, interval)| (name.clone(), interval_to_wire(*interval)))
            .collect(),
    }
}

pub(super) fn quality_from_wire(given: wire::Quality) -> Result<Quality, Violations> {
    Ok(Quality {
        verdict: verdict_from_wire("verdict", given.verdict)?,
        labelled_rows: given.labelled_rows,
        rows: given.rows,
        invalid_outcomes: given.invalid_outcomes,
        new_classes: given.new_classes.into_iter().collect(),
        selection: given.selection,
        slices: each("slices", given.slices, slice_from_wire)?,
        slices_searched: given.slices_searched,
        onset: optional_time("onset", given.onset)?,
        load: given.load.map(load_from_wire),
        intervals: given.intervals.into_iter().map(|(name, interval)| (name, interval_from_wire(interval))).collect(),
        metrics: given.metrics.into_iter().collect(),
        reference_metrics: given.reference_metrics.into_iter().collect(),
        loss: given.loss,
        reference_loss: given.reference_loss,
        rise_lower_bound: given.rise_lower_bound,
    })
}

/// The quality of a slice as a message.
pub fn slice_to_wire(quality: &SliceQuality) -> wire::SliceQuality {
    wire::SliceQuality {
        slice: quality.slice.clone(),
        found: quality.found,
        verdict: verdict_to_wire(quality.verdict).into(),
        reason: quality.reason.clone(),
        labelled_rows: quality.labelled_rows,
        metrics: quality.metrics.clone().into_iter().collect(),
        loss: quality.loss,
        reference_loss: quality.reference_loss,
        reference_rows: quality.reference_rows,
        rise_lower_bound: quality.rise_lower_bound,
    }
}

/// The quality of a slice in proto3 JSON, with the header of its window as `window`.
pub fn slice_to_json(window: &WindowHeader, quality: &SliceQuality) -> Value {
    let mut value = json::to_value(&slice_to_wire(quality));
    value["window"] = json::to_value(&header_to_wire(window));
    value
}

pub(super) fn slice_from_wire(given: wire::SliceQuality) -> Result<SliceQuality, Violations> {
    Ok(SliceQuality {
        verdict: verdict_from_wire("verdict", given.verdict)?,
        slice: given.slice,
        found: given.found,
        reason: given.reason,
        labelled_rows: given.labelled_rows,
        metrics: given.metrics.into_iter().collect(),
        loss: given.loss,
        reference_loss: given.reference_loss,
        reference_rows: given.reference_rows,
        rise_lower_bound: given.rise_lower_bound,
    })
}

pub(super) fn load_to_wire(load: &LoadAssociation) -> wire::LoadAssociation {
    let ([low, high], [rows_low, rows_high]) = (load.means, load.rows_per_hour);
    wire::LoadAssociation {
        metric: load.metric.clone(),
        correlation: load.correlation,
        p_value: load.p_value,
        windows: load.windows,
        metric_at_low_load: low,
        metric_at_high_load: high,
        rows_per_hour_at_low_load: rows_low,
        rows_per_hour_at_high_load: rows_high,
    }
}

pub(super) fn load_from_wire(given: wire::LoadAssociation) -> LoadAssociation {
    LoadAssociation {
        metric: given.metric,
        correlation: given.correlation,
        p_value: given.p_value,
        windows: given.windows,
        means: [given.metric_at_low_load, given.metric_at_high_load],
        rows_per_hour: [given.rows_per_hour_at_low_load, given.rows_per_hour_at_high_load],
    }
}
