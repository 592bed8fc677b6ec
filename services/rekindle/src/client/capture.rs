//! Notes on rows that no report counts, or that wait: for `reports`, `status` and `replay`.

use std::time::Duration;

use anyhow::Result;
use indicatif::HumanCount;
use rekindle_client::Monitor;
use rekindle_domain::{
    ModelName,
    prediction_log::{CaptureStatus, OutcomeCounts},
};
use tokio::time::{Instant, sleep};

use super::output::when;

/// How long `replay` waits for its rows to be captured before it prints notes.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);

/// Prints the notes once the log has `rows` more rows than `before`, after [`PATIENCE`] at the latest.
pub(crate) async fn print_late(monitor: &Monitor, before: &CaptureStatus, rows: u64) -> Result<()> {
    let (known, deadline) =
        (|status: &CaptureStatus| status.predictions + status.lost + status.unsampled, Instant::now() + PATIENCE);
    while Instant::now() < deadline && known(&monitor.capture_status(&before.model).await?) < known(before) + rows {
        sleep(POLL).await;
    }
    print_notes(monitor, &before.model).await
}

/// Prints the notes on a model's rows to standard error, if there are any.
pub(crate) async fn print_notes(monitor: &Monitor, model: &ModelName) -> Result<()> {
    for note in notes(&monitor.capture_status(model).await?) {
        eprintln!("note: {model}: {note}");
    }
    Ok(())
}

/// One sentence for each kind of rows.
fn notes(status: &CaptureStatus) -> Vec<String> {
    let mut notes = Vec::new();
    if status.late > 0 {
        let (late, all) = (HumanCount(status.late), HumanCount(status.predictions));
        let watermark = when(status.watermark);
        notes.push(format!(
            "{late} of {all} rows came too late for their windows: the watermark is at {watermark}; `rekindle watch reset` \
             restarts the windows"
        ));
    }
    if let Some(ahead) = status.ahead {
        let (rows, requests) = (count(ahead.rows, "row"), count(ahead.requests, "request"));
        let (from, than) = match status.watermark {
            Some(watermark) => (when(ahead.from), format!("the watermark, {}", when(watermark))),
            None => (when(ahead.from), "any watermark yet".to_owned()),
        };
        notes.push(format!(
            "ahead of {than}: {rows} of {requests}, the earliest at {from}; it follows once 20 rows of 3 requests are ahead"
        ));
    }
    if status.unsampled > 0 {
        let rows = count(status.unsampled, "row");
        notes.push(format!("not logged, because the model is sampled: {rows}; their outcomes match no prediction"));
    }
    notes.extend(outcome_notes(&status.outcome_counts));
    if let Some(deleted) = status.deleted {
        let until = when(deleted.until);
        let (rows, outcomes) = (count(deleted.rows, "row"), count(deleted.outcomes, "outcome"));
        notes.push(format!("rows until {until} were deleted by retention: {rows}, {outcomes}"));
    }
    notes
}

/// One sentence for the outcomes that wait, and one for each reason for which no quality counts them.
fn outcome_notes(counts: &OutcomeCounts) -> Vec<String> {
    let waiting =
        (counts.pending > 0).then(|| format!("{} waiting for the prediction", count(counts.pending, "outcome")));
    let refused = counts.refused().into_iter().filter(|(_, outcomes)| *outcomes > 0).map(|(reason, outcomes)| {
        let example = counts.examples.get(reason).map(|example| format!(", e.g. {example}")).unwrap_or_default();
        format!("{} {}{example}", count(outcomes, "outcome"), reason.replace('_', " "))
    });
    waiting.into_iter().chain(refused).collect()
}

fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", HumanCount(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use rekindle_domain::prediction_log::{DeletedRows, RowsAhead};

    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().expect(text)
    }

    fn status() -> CaptureStatus {
        CaptureStatus {
            model: "m".parse().expect("a name"),
            predictions: 5_808,
            lost: 0,
            lost_messages: 0,
            unsampled: 0,
            tests: 0,
            outcomes: 0,
            outcome_counts: OutcomeCounts::default(),
            watermark: Some(time("2026-11-27T00:00:00Z")),
            late: 0,
            ahead: None,
            chunks: 3,
            open_windows: 1,
            deleted: None,
        }
    }

    #[test]
    fn late_rows_and_rows_ahead_are_explained() {
        assert_eq!(notes(&status()), Vec::<String>::new());
        let ahead = RowsAhead { rows: 1, requests: 1, from: time("2027-01-01T00:00:00Z") };
        assert_eq!(
            notes(&CaptureStatus { late: 5_593, ahead: Some(ahead), ..status() }),
            [
                "5,593 of 5,808 rows came too late for their windows: the watermark is at 2026-11-27 00:00:00; \
                 `rekindle watch reset` restarts the windows",
                "ahead of the watermark, 2026-11-27 00:00:00: 1 row of 1 request, the earliest at 2027-01-01 00:00:00; it \
                 follows once 20 rows of 3 requests are ahead",
            ]
        );
    }

    #[test]
    fn rows_outside_of_the_sample_are_noted() {
        let expected = ["not logged, because the model is sampled: 1,200 rows; their outcomes match no prediction"];
        assert_eq!(notes(&CaptureStatus { unsampled: 1_200, ..status() }), expected);
    }

    #[test]
    fn what_retention_has_deleted_is_noted() {
        let until = Some(time("2026-08-01T00:00:00Z"));
        let deleted = Some(DeletedRows { rows: 1_204_331, outcomes: 1, until });
        let expected = ["rows until 2026-08-01 00:00:00 were deleted by retention: 1,204,331 rows, 1 outcome"];
        assert_eq!(notes(&CaptureStatus { deleted, ..status() }), expected);
    }

    #[test]
    fn outcomes_that_wait_and_those_that_no_quality_counts_are_explained() {
        let examples = [("wrong_model".to_owned(), "row 0 of prediction p: it is of weather".to_owned())].into();
        let counts =
            OutcomeCounts { matched: 9, pending: 1, wrong_model: 2, malformed: 1, examples, ..Default::default() };
        let expected = [
            "1 outcome waiting for the prediction",
            "2 outcomes wrong model, e.g. row 0 of prediction p: it is of weather",
            "1 outcome malformed",
        ];
        assert_eq!(notes(&CaptureStatus { outcome_counts: counts, ..status() }), expected);
    }
}
