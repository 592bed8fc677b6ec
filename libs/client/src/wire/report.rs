//! Monitoring reports.

use rekindle_domain::{
    VersionRef,
    report::{
        BlockTest, ColumnDrift, Dependence, Drift, DriftCause, Estimate, EstimateRecord, EstimatedMetric, ExampleRow,
        Impact, Interval, LoadAssociation, Onset, PairChange, Quality, RepeatedRows, SliceQuality, Verdict, Volume,
        VolumeSeason, WindowHeader, WindowReport,
    },
    validation::Violations,
};
use rekindle_proto::{json, monitor as wire};
use serde_json::Value;

use super::{
    field::{each, enumeration, nested, nested_optional, optional_time, parse, parse_optional, required_time},
    time,
};

/// A report as a message.
pub fn to_wire(report: &WindowReport) -> wire::WindowReport {
    wire::WindowReport {
        window: Some(header_to_wire(&report.window)),
        drift: verdict_to_wire(report.drift.verdict).into(),
        features: report.drift.features.iter().map(column_to_wire).collect(),
        prediction: report.drift.prediction.as_ref().map(column_to_wire),
        quality: report.quality.as_ref().map(quality_to_wire),
        quality_at: report.quality_at.map(time::to_wire),
        correlation_id: report.correlation_id.map(|id| id.to_string()).unwrap_or_default(),
        reason: report.reason.clone(),
        repeated: report.drift.repeated.map(repeated_to_wire),
        volume: report.drift.volume.map(volume_to_wire),
        dependence: report.drift.dependence.as_ref().map(dependence_to_wire),
        estimate: report.estimate.as_ref().map(estimate_to_wire),
        revision: report.revision,
        changes: report.changes.clone(),
    }
}

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

/// The impact of a column as a message.
pub fn impact_to_wire(impact: &Impact) -> wire::Impact {
    let Impact { importance, score_change, loss_change } = *impact;
    wire::Impact { importance, score_change, loss_change }
}

fn impact_from_wire(given: wire::Impact) -> Impact {
    let wire::Impact { importance, score_change, loss_change } = given;
    Impact { importance, score_change, loss_change }
}

/// Repeated rows as a message.
pub fn repeated_to_wire(repeated: RepeatedRows) -> wire::RepeatedRows {
    let RepeatedRows { rows, share, reference_share } = repeated;
    wire::RepeatedRows { rows, share, reference_share }
}

/// The repeated rows that a message holds.
pub fn repeated_from_wire(given: wire::RepeatedRows) -> RepeatedRows {
    let wire::RepeatedRows { rows, share, reference_share } = given;
    RepeatedRows { rows, share, reference_share }
}

/// The report in proto3 JSON.
pub fn to_json(report: &WindowReport) -> Value {
    json::to_value(&to_wire(report))
}

/// The report that a message holds.
pub fn from_wire(given: wire::WindowReport) -> Result<WindowReport, Violations> {
    let drift = Drift {
        verdict: verdict_from_wire("drift", given.drift)?,
        features: each("features", given.features, column_from_wire)?,
        prediction: nested_optional("prediction", given.prediction, column_from_wire)?,
        repeated: given.repeated.map(repeated_from_wire),
        volume: given.volume.map(volume_from_wire),
        dependence: given.dependence.map(dependence_from_wire),
    };
    Ok(WindowReport {
        window: nested("window", given.window, header_from_wire)?,
        drift,
        estimate: given.estimate.map(estimate_from_wire),
        quality: nested_optional("quality", given.quality, quality_from_wire)?,
        quality_at: optional_time("quality_at", given.quality_at)?,
        correlation_id: parse_optional("correlation_id", &given.correlation_id)?,
        reason: given.reason,
        revision: given.revision.max(1),
        changes: given.changes,
    })
}

/// A header as a message.
pub fn header_to_wire(header: &WindowHeader) -> wire::WindowHeader {
    wire::WindowHeader {
        report_id: header.report.to_string(),
        model: header.model.to_string(),
        model_version: header.version.version,
        bundle_digest: header.version.bundle.to_string(),
        from: Some(time::to_wire(header.from)),
        until: Some(time::to_wire(header.until)),
        rows: header.rows,
        closed_at: Some(time::to_wire(header.closed_at)),
        slice: header.slice.clone(),
    }
}

/// The header that a message holds.
pub fn header_from_wire(given: wire::WindowHeader) -> Result<WindowHeader, Violations> {
    let bundle = parse("bundle_digest", &given.bundle_digest)?;
    Ok(WindowHeader {
        report: parse("report_id", &given.report_id)?,
        model: parse("model", &given.model)?,
        version: VersionRef { version: given.model_version, bundle },
        slice: given.slice,
        from: required_time("from", given.from)?,
        until: required_time("until", given.until)?,
        rows: given.rows,
        closed_at: required_time("closed_at", given.closed_at)?,
    })
}

/// A verdict as its enumeration.
pub fn verdict_to_wire(verdict: Verdict) -> wire::Verdict {
    match verdict {
        Verdict::Stable => wire::Verdict::Stable,
        Verdict::Drifted => wire::Verdict::Drifted,
        Verdict::Inconclusive => wire::Verdict::Inconclusive,
    }
}

fn verdict_from_wire(field: &str, given: i32) -> Result<Verdict, Violations> {
    enumeration(field, given, "VERDICT_STABLE, VERDICT_DRIFTED, VERDICT_INCONCLUSIVE", |verdict| match verdict {
        wire::Verdict::Unspecified => None,
        wire::Verdict::Stable => Some(Verdict::Stable),
        wire::Verdict::Drifted => Some(Verdict::Drifted),
        wire::Verdict::Inconclusive => Some(Verdict::Inconclusive),
    })
}

fn column_to_wire(column: &ColumnDrift) -> wire::FeatureDrift {
    wire::FeatureDrift {
        name: column.name.clone(),
        verdict: verdict_to_wire(column.verdict).into(),
        psi: column.psi,
        p_value: column.p_value,
        minimum_detectable_psi: column.minimum_detectable_psi,
        cause_share: column.cause_share,
        missing_reference: column.missing_reference,
        missing_current: column.missing_current,
        reason: column.reason.clone(),
        blocks: column.blocks.as_ref().map(blocks_to_wire),
        cause: cause_to_wire(column.cause).into(),
        impact: column.impact.as_ref().map(impact_to_wire),
        since: column.since.map(time::to_wire),
        examples: examples_to_wire(column),
        onset: onset_to_wire(column.onset).into(),
    }
}

/// How a change began, as its enumeration.
pub fn onset_to_wire(onset: Option<Onset>) -> wire::Onset {
    match onset {
        None => wire::Onset::Unspecified,
        Some(Onset::Abrupt) => wire::Onset::Abrupt,
        Some(Onset::Gradual) => wire::Onset::Gradual,
    }
}

fn onset_from_wire(given: i32) -> Option<Onset> {
    match wire::Onset::try_from(given).unwrap_or_default() {
        wire::Onset::Unspecified => None,
        wire::Onset::Abrupt => Some(Onset::Abrupt),
        wire::Onset::Gradual => Some(Onset::Gradual),
    }
}

/// The example rows of a column as messages.
pub fn examples_to_wire(column: &ColumnDrift) -> Vec<wire::ExampleRow> {
    let example =
        |example: &ExampleRow| wire::ExampleRow { prediction_id: example.prediction.to_string(), row: example.row };
    column.examples.iter().map(example).collect()
}

fn example_from_wire(given: wire::ExampleRow) -> Result<ExampleRow, Violations> {
    Ok(ExampleRow { prediction: parse("prediction_id", &given.prediction_id)?, row: given.row })
}

fn blocks_to_wire(test: &BlockTest) -> wire::BlockTest {
    wire::BlockTest {
        length: Some(time::span_to_wire(test.length)),
        blocks: test.blocks,
        effective_blocks: test.effective_blocks,
        autocorrelation: test.autocorrelation,
        effect: test.effect,
        largest_effect: test.largest_effect,
        p_value: test.p_value,
        windows_beyond: test.windows_beyond,
    }
}

/// A cause as its enumeration.
pub fn cause_to_wire(cause: Option<DriftCause>) -> wire::DriftCause {
    match cause {
        None => wire::DriftCause::Unspecified,
        Some(DriftCause::BeyondReference) => wire::DriftCause::BeyondReference,
        Some(DriftCause::UnseenSeason) => wire::DriftCause::UnseenSeason,
        Some(DriftCause::DataFault) => wire::DriftCause::DataFault,
        Some(DriftCause::NewCategory) => wire::DriftCause::NewCategory,
    }
}

/// The cause of an enumeration; one of a later release is unknown.
pub fn cause_from_wire(given: i32) -> Option<DriftCause> {
    match wire::DriftCause::try_from(given).unwrap_or_default() {
        wire::DriftCause::Unspecified => None,
        wire::DriftCause::BeyondReference => Some(DriftCause::BeyondReference),
        wire::DriftCause::UnseenSeason => Some(DriftCause::UnseenSeason),
        wire::DriftCause::DataFault => Some(DriftCause::DataFault),
        wire::DriftCause::NewCategory => Some(DriftCause::NewCategory),
    }
}

fn blocks_from_wire(given: wire::BlockTest) -> BlockTest {
    BlockTest {
        length: given.length.and_then(time::span_from_wire).unwrap_or_default(),
        blocks: given.blocks,
        effective_blocks: given.effective_blocks,
        autocorrelation: given.autocorrelation,
        effect: given.effect,
        largest_effect: given.largest_effect,
        p_value: given.p_value,
        windows_beyond: given.windows_beyond,
    }
}

fn column_from_wire(given: wire::FeatureDrift) -> Result<ColumnDrift, Violations> {
    Ok(ColumnDrift {
        verdict: verdict_from_wire("verdict", given.verdict)?,
        name: given.name,
        reason: given.reason,
        psi: given.psi,
        p_value: given.p_value,
        minimum_detectable_psi: given.minimum_detectable_psi,
        cause_share: given.cause_share,
        missing_reference: given.missing_reference,
        missing_current: given.missing_current,
        blocks: given.blocks.map(blocks_from_wire),
        cause: cause_from_wire(given.cause),
        impact: given.impact.map(impact_from_wire),
        examples: each("examples", given.examples, example_from_wire)?,
        onset: onset_from_wire(given.onset),
        since: optional_time("since", given.since)?,
    })
}

fn interval_to_wire(interval: Interval) -> wire::Interval {
    wire::Interval { lower: interval.lower, upper: interval.upper }
}

fn interval_from_wire(given: wire::Interval) -> Interval {
    Interval { lower: given.lower, upper: given.upper }
}

fn quality_to_wire(quality: &Quality) -> wire::Quality {
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

fn quality_from_wire(given: wire::Quality) -> Result<Quality, Violations> {
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

fn slice_from_wire(given: wire::SliceQuality) -> Result<SliceQuality, Violations> {
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

fn load_to_wire(load: &LoadAssociation) -> wire::LoadAssociation {
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

fn load_from_wire(given: wire::LoadAssociation) -> LoadAssociation {
    LoadAssociation {
        metric: given.metric,
        correlation: given.correlation,
        p_value: given.p_value,
        windows: given.windows,
        means: [given.metric_at_low_load, given.metric_at_high_load],
        rows_per_hour: [given.rows_per_hour_at_low_load, given.rows_per_hour_at_high_load],
    }
}

/// A volume as a message.
pub fn volume_to_wire(volume: Volume) -> wire::Volume {
    let season = match volume.season {
        VolumeSeason::None => wire::VolumeSeason::None,
        VolumeSeason::HourOfDay => wire::VolumeSeason::HourOfDay,
        VolumeSeason::HourOfWeek => wire::VolumeSeason::HourOfWeek,
    };
    wire::Volume {
        rows_per_hour: volume.rows_per_hour,
        expected: Some(interval_to_wire(volume.expected)),
        windows: volume.windows,
        season: season.into(),
    }
}

fn dependence_to_wire(dependence: &Dependence) -> wire::Dependence {
    let pair = |pair: &PairChange| {
        let [first, second] = pair.features.clone();
        let PairChange { correlation, reference, expected, .. } = *pair;
        wire::PairChange { first, second, correlation, reference, expected: Some(interval_to_wire(expected)) }
    };
    wire::Dependence { pairs: dependence.pairs, changed: dependence.changed.iter().map(pair).collect() }
}

fn dependence_from_wire(given: wire::Dependence) -> Dependence {
    let pair = |pair: wire::PairChange| PairChange {
        features: [pair.first, pair.second],
        correlation: pair.correlation,
        reference: pair.reference,
        expected: interval_from_wire(pair.expected.unwrap_or_default()),
    };
    Dependence { pairs: given.pairs, changed: given.changed.into_iter().map(pair).collect() }
}

fn volume_from_wire(given: wire::Volume) -> Volume {
    let season = match given.season() {
        wire::VolumeSeason::Unspecified | wire::VolumeSeason::None => VolumeSeason::None,
        wire::VolumeSeason::HourOfDay => VolumeSeason::HourOfDay,
        wire::VolumeSeason::HourOfWeek => VolumeSeason::HourOfWeek,
    };
    Volume {
        rows_per_hour: given.rows_per_hour,
        expected: interval_from_wire(given.expected.unwrap_or_default()),
        windows: given.windows,
        season,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use chrono::DateTime;
    use rekindle_domain::{Digest, report::PREDICTION};

    use super::*;

    const ID: &str = "0193b3a0-0000-7000-8000-000000000000";

    fn column(name: &str, verdict: Verdict) -> ColumnDrift {
        ColumnDrift {
            name: name.into(),
            verdict,
            reason: "moved".into(),
            psi: 0.3,
            p_value: 1e-9,
            minimum_detectable_psi: 0.05,
            cause_share: 0.5,
            missing_reference: 0.0,
            missing_current: 0.1,
            blocks: (verdict == Verdict::Drifted).then_some(BlockTest {
                length: Duration::from_secs(7 * 86_400),
                blocks: 17,
                effective_blocks: 9.5,
                autocorrelation: 0.4,
                effect: 0.3,
                largest_effect: 0.2,
                p_value: 1e-5,
                windows_beyond: 4,
            }),
            cause: (verdict == Verdict::Drifted).then_some(DriftCause::UnseenSeason),
            impact: (verdict == Verdict::Drifted).then_some(Impact {
                importance: Some(0.1),
                score_change: -0.2,
                loss_change: 0.3,
            }),
            since: (verdict == Verdict::Drifted).then_some(DateTime::UNIX_EPOCH),
            onset: (verdict == Verdict::Drifted).then_some(Onset::Gradual),
            examples: (verdict == Verdict::Drifted)
                .then(|| ExampleRow { prediction: ID.parse().expect("an id"), row: 3 })
                .into_iter()
                .collect(),
        }
    }

    #[test]
    fn reports_survive() {
        let id = ID;
        let window = WindowHeader {
            report: id.parse().expect("an id"),
            model: "m".parse().expect("a name"),
            version: VersionRef { version: 1, bundle: Digest::of(b"bundle") },
            slice: String::new(),
            from: DateTime::UNIX_EPOCH,
            until: DateTime::UNIX_EPOCH,
            rows: 200,
            closed_at: DateTime::UNIX_EPOCH,
        };
        let quality = Quality {
            verdict: Verdict::Drifted,
            labelled_rows: 100,
            rows: 200,
            invalid_outcomes: 2,
            new_classes: Default::default(),
            metrics: BTreeMap::from([("auc".into(), 0.6)]),
            intervals: BTreeMap::from([("auc".into(), Interval { lower: 0.55, upper: 0.65 })]),
            reference_metrics: BTreeMap::from([("auc".into(), 0.7)]),
            loss: 0.6,
            reference_loss: 0.5,
            rise_lower_bound: 0.05,
            selection: "their scores differ".into(),
            slices: vec![SliceQuality {
                slice: "carrier = 'AA'".into(),
                found: true,
                verdict: Verdict::Drifted,
                reason: String::new(),
                labelled_rows: 40,
                metrics: BTreeMap::from([("auc".into(), 0.5)]),
                loss: 0.8,
                reference_loss: 0.5,
                reference_rows: 300,
                rise_lower_bound: 0.1,
            }],
            slices_searched: true,
            onset: Some(DateTime::UNIX_EPOCH),
            load: Some(LoadAssociation {
                metric: "accuracy".into(),
                correlation: -0.9,
                p_value: 0.001,
                windows: 12,
                means: [0.98, 0.85],
                rows_per_hour: [1e4, 6e4],
            }),
        };
        let interval = Interval { lower: 0.4, upper: 0.8 };
        let estimate = Estimate {
            metrics: BTreeMap::from([("log_loss".into(), EstimatedMetric { value: 0.6, interval })]),
            withdrawn: "2 of the last 8 measured windows".into(),
            record: EstimateRecord { measured: 8, missed: 2 },
        };
        let report = WindowReport {
            window,
            drift: Drift {
                verdict: Verdict::Drifted,
                features: vec![column("a", Verdict::Drifted), column("b", Verdict::Stable)],
                prediction: Some(column(PREDICTION, Verdict::Inconclusive)),
                repeated: Some(RepeatedRows { rows: 20, share: 0.1, reference_share: 0.01 }),
                dependence: Some(Dependence {
                    pairs: 3,
                    changed: vec![PairChange {
                        features: ["a".into(), "b".into()],
                        correlation: 0.1,
                        reference: 0.8,
                        expected: Interval { lower: 0.7, upper: 0.9 },
                    }],
                }),
                volume: Some(Volume {
                    rows_per_hour: 7.5,
                    expected: Interval { lower: 9.0, upper: 11.0 },
                    windows: 8,
                    season: VolumeSeason::HourOfWeek,
                }),
            },
            estimate: Some(estimate),
            quality: Some(quality),
            quality_at: Some(DateTime::UNIX_EPOCH),
            correlation_id: Some(id.parse().expect("an id")),
            reason: "2 outcomes are not a class of the model".into(),
            revision: 2,
            changes: "outcomes were corrected".into(),
        };
        let json = to_json(&report);
        assert_eq!((&json["window"]["rows"], &json["drift"]), (&"200".into(), &"VERDICT_DRIFTED".into()));
        assert_eq!(from_wire(to_wire(&report)), Ok(report.clone()));
        let without = WindowReport { estimate: None, quality: None, quality_at: None, correlation_id: None, ..report };
        assert_eq!(from_wire(to_wire(&without)), Ok(without));
    }
}
