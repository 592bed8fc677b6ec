//! Monitoring reports.

mod drift;
mod quality;

use rekindle_domain::{
    VersionRef,
    report::{Drift, Interval, Verdict, WindowHeader, WindowReport},
    validation::Violations,
};
use rekindle_proto::{json, monitor as wire};
use serde_json::Value;

pub use self::{
    drift::{
        cause_from_wire, cause_to_wire, examples_to_wire, impact_to_wire, onset_to_wire, repeated_from_wire,
        repeated_to_wire, volume_to_wire,
    },
    quality::{estimate_from_wire, estimate_to_wire, slice_to_json, slice_to_wire},
};
use self::{
    drift::{column_from_wire, column_to_wire, dependence_from_wire, dependence_to_wire, volume_from_wire},
    quality::{quality_from_wire, quality_to_wire},
};
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

pub(super) fn verdict_from_wire(field: &str, given: i32) -> Result<Verdict, Violations> {
    enumeration(field, given, "VERDICT_STABLE, VERDICT_DRIFTED, VERDICT_INCONCLUSIVE", |verdict| match verdict {
        wire::Verdict::Unspecified => None,
        wire::Verdict::Stable => Some(Verdict::Stable),
        wire::Verdict::Drifted => Some(Verdict::Drifted),
        wire::Verdict::Inconclusive => Some(Verdict::Inconclusive),
    })
}

fn interval_to_wire(interval: Interval) -> wire::Interval {
    wire::Interval { lower: interval.lower, upper: interval.upper }
}

fn interval_from_wire(given: wire::Interval) -> Interval {
    Interval { lower: given.lower, upper: given.upper }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use chrono::DateTime;
    use rekindle_domain::{
        Digest,
        report::{
            BlockTest, ColumnDrift, Dependence, DriftCause, Estimate, EstimateRecord, EstimatedMetric, ExampleRow,
            Impact, LoadAssociation, Onset, PREDICTION, PairChange, Quality, RepeatedRows, SliceQuality, Volume,
            VolumeSeason,
        },
    };

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
