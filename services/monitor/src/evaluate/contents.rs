//! The contents of a window, and the reports that follow from them. Pure: times and ids are inputs.

use chrono::{DateTime, Utc};
use rekindle_domain::{
    ModelName, ReportId, VersionRef, WorkflowId, event_time,
    report::{Drift, Estimate, Verdict, Volume, WindowHeader, WindowReport},
};
use uuid::Uuid;

use crate::{
    drift::note_onset,
    report::{Announced, Report, inconclusive_reason},
    window::{Span, Window},
};

/// The rows of a window.
pub(super) struct Contents {
    pub(super) versions: Vec<VersionRows>,
    /// The span of every version's rows in the window.
    pub(super) all: Option<Span>,
    /// The position of the log after which its chunks were read.
    pub(super) since: i64,
    /// The first event time of the log, in milliseconds.
    pub(super) log_began: Option<i64>,
    /// The earliest event time after the window, in milliseconds.
    pub(super) next_event: Option<i64>,
    /// The rows of every version beside those of earlier windows.
    pub(super) volume: Option<Volume>,
}

/// The rows of one version in a window, and how they compare with its reference data.
pub(super) struct VersionRows {
    pub(super) version: VersionRef,
    pub(super) rows: u64,
    /// The smallest and the greatest prediction id.
    pub(super) ids: (u128, u128),
    /// The span of the rows in the window.
    pub(super) span: Option<Span>,
    pub(super) comparison: Comparison,
    /// The drift of the version in its window before.
    pub(super) before: Option<Drift>,
    /// The metrics, estimated from the predictions.
    pub(super) estimate: Option<Estimate>,
}

/// Rows against reference data.
pub(super) enum Comparison {
    /// The drift of every column.
    Compared(Box<Drift>),
    /// The bundle has no usable reference data; the reason.
    Incomparable(String),
    /// The chunks are missing or corrupt; the reason.
    Unreadable(String),
}

/// The reports of a window, one per version.
pub(super) fn reports(
    model: &ModelName,
    window: Window,
    contents: Contents,
    now: DateTime<Utc>,
    mut new_id: impl FnMut() -> Uuid,
) -> Vec<Report> {
    let Contents { versions, all, since, log_began, volume, .. } = contents;
    let is_covered = |span: Option<Span>| match (span, all, log_began) {
        (Some(own), Some(all), Some(log_began)) => window.is_covered_by(own, all, log_began),
        _ => true,
    };
    let mut report = |of: VersionRows| {
        let partial = of.span.filter(|_| !is_covered(of.span));
        let (mut drift, reason) = conclude(of.comparison, of.rows, of.version, partial);
        drift.volume = volume;
        note_onset(&mut drift, of.before.as_ref(), event_time::clamped(window.from));
        let header = WindowHeader {
            report: ReportId::new(new_id()),
            model: model.clone(),
            version: of.version,
            slice: String::new(),
            from: event_time::clamped(window.from),
            until: event_time::clamped(window.until),
            rows: of.rows,
            closed_at: now,
        };
        let correlation_id = (drift.verdict == Verdict::Drifted).then(|| WorkflowId::new(new_id()));
        let content = WindowReport {
            window: header,
            drift,
            estimate: of.estimate,
            quality: None,
            quality_at: None,
            correlation_id,
            reason,
            revision: 1,
            changes: String::new(),
        };
        Report { content, window, ids: of.ids, since, announced: Announced::default() }
    };
    versions.into_iter().map(&mut report).collect()
}

/// The drift to report, and the reason for an inconclusive one. `partial` is the span of the rows if they cover a part of the window
/// only: a part need not resemble the whole.
fn conclude(comparison: Comparison, rows: u64, version: VersionRef, partial: Option<Span>) -> (Drift, String) {
    match (comparison, partial) {
        (Comparison::Unreadable(why), _) => {
            let reason = "inconclusive: the rows cannot be read; their number is that of the chunk records";
            (inconclusive(), format!("{reason}: {why}"))
        }
        (Comparison::Compared(drift), None) => {
            let reason = inconclusive_reason(&drift, rows).unwrap_or_default();
            (*drift, reason)
        }
        (Comparison::Incomparable(why), None) => {
            (inconclusive(), format!("cannot be compared with the reference data of bundle {}: {why}", version.bundle))
        }
        (Comparison::Compared(drift), Some(span)) => partially_covered(*drift, span),
        (Comparison::Incomparable(_), Some(span)) => partially_covered(inconclusive(), span),
    }
}

fn partially_covered(drift: Drift, span: Span) -> (Drift, String) {
    let time = |millis| DateTime::from_timestamp_millis(millis).map(|time| time.to_rfc3339()).unwrap_or_default();
    let why = format!("the version answered only from {} to {}", time(span.first), time(span.last));
    let Drift { mut features, mut prediction, repeated, .. } = drift;
    for column in features.iter_mut().chain(&mut prediction) {
        (column.verdict, column.reason) = (Verdict::Inconclusive, why.clone());
        (column.cause, column.blocks) = (None, None);
    }
    (Drift { repeated, ..Drift::of(Verdict::Inconclusive, features, prediction) }, format!("inconclusive: {why}"))
}

/// The drift of a window that has no columns to compare.
pub(super) fn inconclusive() -> Drift {
    Drift::of(Verdict::Inconclusive, Vec::new(), None)
}

#[cfg(test)]
pub(crate) mod tests {
    use rekindle_domain::Digest;

    use super::*;

    pub(in crate::evaluate) const WINDOW: Window = Window { from: 100, until: 200 };
    const ALL: Span = Span { first: 100, last: 199 };

    fn rows(comparison: Comparison, span: Span) -> VersionRows {
        let version = VersionRef { version: 1, bundle: Digest::of(b"bundle") };
        VersionRows { version, rows: 40, ids: (1, 2), span: Some(span), comparison, before: None, estimate: None }
    }

    /// A comparison without columns.
    fn compared(verdict: Verdict) -> Comparison {
        Comparison::Compared(Box::new(Drift { verdict, ..inconclusive() }))
    }

    fn reported(versions: Vec<VersionRows>) -> Vec<Report> {
        let contents =
            Contents { versions, all: Some(ALL), since: 0, log_began: Some(0), next_event: None, volume: None };
        let mut ids = (1..).map(Uuid::from_u128);
        let model = "flights".parse().expect("a valid name");
        reports(&model, WINDOW, contents, DateTime::UNIX_EPOCH, || ids.next().expect("endless"))
    }

    fn contents(versions: Vec<VersionRows>) -> Vec<WindowReport> {
        reported(versions).into_iter().map(|report| report.content).collect()
    }

    pub(crate) fn report(window: Window, rows: u64) -> Report {
        let stable = self::rows(compared(Verdict::Stable), ALL);
        let report = reported(vec![stable]).pop().expect("one version");
        let header = WindowHeader { rows, ..report.content.window };
        Report { content: WindowReport { window: header, ..report.content }, window, ..report }
    }

    #[test]
    fn only_a_drifted_window_has_a_correlation_id() {
        let compared = [Verdict::Stable, Verdict::Drifted].map(|verdict| rows(compared(verdict), ALL));
        let reports = contents(compared.into());
        let ids = reports.iter().map(|report| (report.window.report.uuid().as_u128(), report.correlation_id));
        assert_eq!(ids.collect::<Vec<_>>(), [(1, None), (2, Some(WorkflowId::new(Uuid::from_u128(3))))]);
        assert!(
            reports
                .iter()
                .all(|report| report.window.slice.is_empty() && report.window.closed_at == DateTime::UNIX_EPOCH)
        );
        assert!(reports.iter().all(|report| report.reason.is_empty()), "{reports:?}");
    }

    #[test]
    fn a_version_that_covers_a_part_of_the_window_is_inconclusive() {
        let partial = Span { first: 150, last: 199 };
        let reports = contents(vec![rows(compared(Verdict::Drifted), partial)]);
        assert_eq!((reports[0].drift.verdict, reports[0].correlation_id), (Verdict::Inconclusive, None));
        assert!(reports[0].reason.starts_with("inconclusive: the version answered only from 1970"), "{reports:?}");
    }

    #[test]
    fn rows_that_cannot_be_read_or_compared_are_inconclusive_with_the_reason() {
        let failures = [Comparison::Unreadable("no object".into()), Comparison::Incomparable("no profile".into())];
        let reports = contents(failures.map(|failure| rows(failure, ALL)).into());
        assert!(reports.iter().all(|report| report.drift.verdict == Verdict::Inconclusive && report.window.rows == 40));
        assert!(reports[0].reason.contains("cannot be read") && reports[0].reason.ends_with("no object"));
        assert!(reports[1].reason.contains("cannot be compared") && reports[1].reason.ends_with("no profile"));
    }

    #[test]
    fn a_window_without_rows_has_no_report() {
        assert!(reported(Vec::new()).is_empty());
    }

    /// The reports of a window with one version, which has drifted.
    pub(in crate::evaluate) fn drifted() -> Vec<Report> {
        reported(vec![rows(compared(Verdict::Drifted), ALL)])
    }
}
