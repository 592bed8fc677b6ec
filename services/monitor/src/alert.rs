//! What is told of a report: facts for the outbox, made in the transaction that enters the report.

use chrono::{DateTime, Utc};
use rekindle_domain::event::EventKind;
use rekindle_proto::{client::Context, events, json, time::to_wire};
use rekindle_store::outbox::NewEvent;
use uuid::Uuid;

use crate::report::{ColumnDrift, Quality, Report, Verdict};

/// A point in event time, as it travels.
pub(crate) fn wire_time(millis: i64) -> Option<prost_types::Timestamp> {
    DateTime::from_timestamp_millis(millis).map(to_wire)
}

fn causes(report: &Report) -> Vec<events::FeatureCause> {
    let cause = |column: &ColumnDrift| events::FeatureCause {
        name: column.name.clone(),
        psi: column.psi,
        cause_share: column.cause_share,
    };
    report.drift.causes().into_iter().map(cause).collect()
}

fn event(report: &Report, kind: EventKind, data: serde_json::Value, id: Uuid, now: DateTime<Utc>) -> NewEvent {
    let correlation_id = report.correlation_id.map(|id| id.to_string()).unwrap_or_default();
    NewEvent {
        id,
        kind,
        name: report.model.to_string(),
        data,
        context: Context::correlated(correlation_id),
        partition_key: report.model.to_string(),
        time: now,
    }
}

fn reported(report: &Report, now: DateTime<Utc>) -> NewEvent {
    let quality = report.quality.as_ref();
    let data = json::to_value(&events::WindowReported {
        report_id: report.id.to_string(),
        model: report.model.to_string(),
        model_version: report.version.version,
        from: wire_time(report.window.from),
        until: wire_time(report.window.until),
        rows: report.rows,
        drift: report.drift.verdict.as_str().to_owned(),
        quality: quality.map(|quality| quality.verdict.as_str().to_owned()).unwrap_or_default(),
        metrics: quality.map(|quality| quality.metrics.clone().into_iter().collect()).unwrap_or_default(),
    });
    event(report, EventKind::WINDOW_REPORTED, data, Uuid::now_v7(), now)
}

/// The facts of a window that was closed: that it was reported on and, if so, that it drifted.
pub(crate) fn of_closed(report: &Report, now: DateTime<Utc>) -> Vec<NewEvent> {
    let mut told = vec![reported(report, now)];
    if report.drift.verdict == Verdict::Drifted {
        let data = json::to_value(&events::DriftDetected {
            report_id: report.id.to_string(),
            model: report.model.to_string(),
            model_version: report.version.version,
            bundle_digest: report.version.bundle.to_string(),
            from: wire_time(report.window.from),
            until: wire_time(report.window.until),
            rows: report.rows,
            features: causes(report),
            closed_at: Some(to_wire(report.closed_at)),
        });
        told.push(event(report, EventKind::DRIFT_DETECTED, data, Uuid::now_v7(), now));
    }
    told
}

/// The facts of a window whose quality became known.
pub(crate) fn of_judged(report: &Report, quality: &Quality, now: DateTime<Utc>) -> Vec<NewEvent> {
    let mut told = vec![reported(report, now)];
    if quality.verdict == Verdict::Drifted {
        let data = json::to_value(&events::DegradationDetected {
            report_id: report.id.to_string(),
            model: report.model.to_string(),
            model_version: report.version.version,
            bundle_digest: report.version.bundle.to_string(),
            from: wire_time(report.window.from),
            until: wire_time(report.window.until),
            labelled_rows: quality.labelled_rows,
            loss: quality.loss,
            reference_loss: quality.reference_loss,
            metrics: quality.metrics.clone().into_iter().collect(),
            features: causes(report),
            closed_at: Some(to_wire(report.closed_at)),
        });
        told.push(event(report, EventKind::DEGRADATION_DETECTED, data, Uuid::now_v7(), now));
    }
    told
}
