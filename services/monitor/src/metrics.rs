//! The names of the metrics, and their help texts.

use metrics::{counter, describe_counter};
use rekindle_domain::ModelName;

use crate::{chunk::Kind, store::deletions::Deleted};

pub(crate) const PREDICTIONS: &str = "rekindle_monitor_predictions_total";
pub(crate) const LOST_ROWS: &str = "rekindle_monitor_lost_rows_total";
pub(crate) const LOST_MESSAGES: &str = "rekindle_monitor_lost_messages_total";
pub(crate) const LATE_ROWS: &str = "rekindle_monitor_late_rows_total";
pub(crate) const OUTCOMES: &str = "rekindle_monitor_outcomes_total";
pub(crate) const BAD_OUTCOME_LINES: &str = "rekindle_monitor_bad_outcome_lines_total";
pub(crate) const REFUSED_OUTCOMES: &str = "rekindle_monitor_refused_outcomes_total";
pub(crate) const TESTS: &str = "rekindle_monitor_test_rows_total";
pub(crate) const INVALID_OUTCOMES: &str = "rekindle_monitor_invalid_outcomes_total";
pub(crate) const FLUSH_FAILURES: &str = "rekindle_monitor_flush_failures_total";
pub(crate) const WINDOWS: &str = "rekindle_monitor_windows_total";
pub(crate) const QUALITY_REPORTS: &str = "rekindle_monitor_quality_reports_total";
pub(crate) const REVISIONS: &str = "rekindle_monitor_revisions_total";
pub(crate) const DELETED_ROWS: &str = "rekindle_monitor_deleted_rows_total";
pub(crate) const ALERTS: &str = "rekindle_monitor_alerts_total";
pub(crate) const NOTIFICATIONS: &str = "rekindle_monitor_notifications_total";
pub(crate) const EVALUATION_FAILURES: &str = "rekindle_monitor_evaluation_failures_total";

/// Registers the help text of every metric.
pub(crate) fn describe() {
    describe_counter!(PREDICTIONS, "Captured rows of the prediction log by model.");
    describe_counter!(LOST_ROWS, "Rows that replicas declared lost, by model.");
    describe_counter!(LOST_MESSAGES, "Messages of the prediction log that were found missing, by model.");
    describe_counter!(LATE_ROWS, "Captured rows whose window had closed before they arrived, by model.");
    describe_counter!(OUTCOMES, "Captured outcomes by model, repeated ones included.");
    describe_counter!(BAD_OUTCOME_LINES, "Lines of outcomes that were dead-lettered, by model.");
    describe_counter!(REFUSED_OUTCOMES, "Captured outcomes that no quality counts, by model and reason.");
    describe_counter!(TESTS, "Captured rows of test requests, by model.");
    describe_counter!(INVALID_OUTCOMES, "Labels that are no value of the model's target, by model.");
    describe_counter!(FLUSH_FAILURES, "Failed attempts to make messages durable, by consumer.");
    describe_counter!(WINDOWS, "Closed windows by model and drift verdict.");
    describe_counter!(QUALITY_REPORTS, "Windows whose quality was measured, by model and verdict.");
    describe_counter!(REVISIONS, "Revisions of qualities by later or corrected outcomes, by model.");
    describe_counter!(DELETED_ROWS, "Captured rows and outcomes that retention has deleted, by model and kind.");
    describe_counter!(ALERTS, "Alerts that opened, by model and kind.");
    describe_counter!(
        NOTIFICATIONS,
        "Attempts to send a notification to a webhook, by receiver and result: delivered, refused (sent again later), failed (given up)."
    );
    describe_counter!(EVALUATION_FAILURES, "Failed steps of evaluation by model.");
}

/// Adds to a counter of a model.
pub(crate) fn add(name: &'static str, model: &ModelName, count: u64) {
    counter!(name, "model" => model.to_string()).increment(count);
}

/// Counts an alert that opened.
pub(crate) fn alert(model: &ModelName, kind: &'static str) {
    counter!(ALERTS, "model" => model.to_string(), "kind" => kind).increment(1);
}

/// Counts an attempt to send a notification.
pub(crate) fn notification(receiver: &str, result: &'static str) {
    counter!(NOTIFICATIONS, "receiver" => receiver.to_owned(), "result" => result).increment(1);
}

/// Counts what retention has deleted.
pub(crate) fn deleted(model: &ModelName, deleted: &Deleted) {
    let counts =
        [(Kind::Prediction, deleted.predictions), (Kind::Test, deleted.tests), (Kind::Outcome, deleted.outcomes)];
    for (kind, rows) in counts {
        counter!(DELETED_ROWS, "model" => model.to_string(), "kind" => kind.as_str()).increment(rows);
    }
}

/// Counts outcomes that no quality counts, for a reason.
pub(crate) fn refused(model: &ModelName, reason: &'static str, outcomes: u64) {
    if outcomes > 0 {
        counter!(REFUSED_OUTCOMES, "model" => model.to_string(), "reason" => reason).increment(outcomes);
    }
}
