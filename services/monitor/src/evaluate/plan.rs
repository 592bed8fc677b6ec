//! What is due. Pure decisions on event times, row counts and settings.

use crate::{
    report::Report,
    window::{Timing, Window},
};

/// How far a model's windows are reported, and how far its log has come. Event times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// Up to here windows are reported.
    pub(super) reported_until: Option<i64>,
    /// The earliest event time of the log at or after it.
    pub(super) next_event: Option<i64>,
    /// The event clock of the log.
    pub(super) latest_event: Option<i64>,
}

/// The window to close next; `None` while none is due.
pub(super) fn next_window(timing: &Timing, progress: &Progress) -> Option<Window> {
    let window = timing.window_from(progress.reported_until, progress.next_event?);
    timing.is_closed(&window, progress.latest_event?).then_some(window)
}

/// Up to where windows are reported once `window` is closed. After a window without rows all further ones before `next_event`, the
/// earliest event time after it, have none either.
pub(super) fn reported_until(timing: &Timing, window: &Window, has_rows: bool, next_event: Option<i64>) -> i64 {
    match next_event {
        Some(next) if !has_rows => window.until.max(timing.window_of(next).from),
        _ => window.until,
    }
}

/// Whether the quality of a report can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Labels {
    /// The label wait is over, and every outcome that was reported by then is captured.
    Due,
    /// So many outcomes are captured that the window may be labelled sufficiently.
    Sufficient,
    /// More outcomes are waited for.
    Pending,
}

/// Whether a report's quality can be measured, by the model's outcome watermark and the number of outcomes in chunks that may hold the
/// report's. No more rows can be labelled than outcomes are captured: most decisions need no rows.
pub(super) fn labels(
    timing: &Timing,
    labelled_share: f64,
    report: &Report,
    outcomes_until: Option<i64>,
    outcomes: u64,
) -> Labels {
    if outcomes_until.is_some_and(|until| timing.labels_are_due(report.window.until, until)) {
        Labels::Due
    } else if outcomes as f64 >= labelled_share * report.content.window.rows as f64 {
        Labels::Sufficient
    } else {
        Labels::Pending
    }
}

/// Whether a window with so many rows and labels is evaluated now.
pub(super) fn is_labelled(labels: Labels, labelled_share: f64, rows: usize, labelled: usize) -> bool {
    labels == Labels::Due || labelled as f64 >= labelled_share * rows as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::contents::tests::report;

    const TIMING: Timing = Timing { length: 100, offset: 0, lateness: 10, label_wait: 50 };

    fn window(from: i64, until: i64) -> Window {
        Window { from, until }
    }

    #[test]
    fn the_window_of_the_next_event_is_closed_once_the_watermark_reaches_its_end() {
        let next = |latest_event| {
            let progress = Progress { reported_until: Some(200), next_event: Some(345), latest_event };
            next_window(&TIMING, &progress)
        };
        assert_eq!(next(Some(410)), Some(window(300, 400)));
        assert_eq!(next(Some(409)), None);
        assert_eq!(next(None), None);
        let empty = Progress { reported_until: Some(200), next_event: None, latest_event: Some(1_000) };
        assert_eq!(next_window(&TIMING, &empty), None);
    }

    #[test]
    fn a_window_is_closed_without_the_part_that_is_reported() {
        let progress = Progress { reported_until: Some(350), next_event: Some(360), latest_event: Some(900) };
        assert_eq!(next_window(&TIMING, &progress), Some(window(350, 400)));
    }

    #[test]
    fn windows_without_rows_are_skipped_up_to_the_window_of_the_next_event() {
        let after = |has_rows, next| reported_until(&TIMING, &window(0, 100), has_rows, next);
        assert_eq!(after(true, Some(730)), 100);
        assert_eq!(after(false, Some(730)), 700);
        assert_eq!(after(false, Some(100)), 100);
        assert_eq!(after(false, None), 100);
        // The next event lies in the same window of a longer length.
        assert_eq!(reported_until(&TIMING, &window(0, 50), false, Some(60)), 50);
    }

    #[test]
    fn quality_is_measured_when_enough_rows_are_labelled_or_the_label_wait_is_over() {
        let report = report(window(0, 100), 40);
        let decide = |outcomes_until, outcomes| labels(&TIMING, 0.5, &report, outcomes_until, outcomes);
        assert_eq!(decide(None, 19), Labels::Pending);
        assert_eq!(decide(None, 20), Labels::Sufficient);
        assert_eq!(decide(Some(159), 0), Labels::Pending);
        assert_eq!(decide(Some(160), 0), Labels::Due);
        assert_eq!(decide(Some(160), 40), Labels::Due);
        assert!(!is_labelled(Labels::Sufficient, 0.5, 40, 19));
        assert!(is_labelled(Labels::Sufficient, 0.5, 40, 20));
        assert!(is_labelled(Labels::Due, 0.5, 40, 0));
    }
}
