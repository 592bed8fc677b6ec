//! Scores of the predictions served and of the first model's predictions, on the same rows.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use rekindle_domain::Task;
use rekindle_statistics::quality;

use super::summary::Scores;

/// A replayed row with its label, the prediction served and the first model's prediction.
#[derive(Debug, Clone)]
pub(crate) struct ScoredRow {
    pub at: DateTime<Utc>,
    /// The version that answered.
    pub version: u32,
    pub label: Target,
    pub live: Output,
    pub unchanged: Output,
}

/// The label of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Index among the classes of the model.
    Class(usize),
    Number(f64),
}

/// A prediction: the probability of the class with index 1, the probability of each class, or a number.
pub(crate) type Output = Vec<f64>;

/// Selects one of the two predictions.
pub(crate) type Pick = fn(&ScoredRow) -> &Output;

/// The scores of one window of event time.
#[derive(Debug, Clone)]
pub(crate) struct WindowScores {
    pub from: DateTime<Utc>,
    pub rows: usize,
    pub unchanged: Scores,
    pub live: Scores,
    /// Rows that each version answered.
    pub versions: BTreeMap<u32, usize>,
}

/// Scores of the predictions that `pick` selects; without rows, no scores.
pub(crate) fn scores(task: Task, rows: &[ScoredRow], pick: Pick) -> Scores {
    match task {
        Task::Binary => binary(rows, pick),
        Task::Multiclass => multiclass(rows, pick),
        Task::Regression => regression(rows, pick),
    }
}

fn classes(rows: &[ScoredRow]) -> Vec<usize> {
    rows.iter().map(|row| if let Target::Class(class) = row.label { class } else { 0 }).collect()
}

fn flat(rows: &[ScoredRow], pick: Pick) -> Vec<f64> {
    rows.iter().flat_map(pick).copied().collect()
}

fn binary(rows: &[ScoredRow], pick: Pick) -> Scores {
    let probabilities = flat(rows, pick);
    let labels: Vec<bool> = classes(rows).into_iter().map(|class| class == 1).collect();
    Scores {
        log_loss: quality::log_loss(&probabilities, &labels).ok(),
        auc: quality::auc(&probabilities, &labels).ok().flatten(),
        ..Scores::default()
    }
}

fn multiclass(rows: &[ScoredRow], pick: Pick) -> Scores {
    let count = rows.first().map_or(0, |row| pick(row).len());
    Scores {
        log_loss: quality::multiclass_log_loss(&flat(rows, pick), count, &classes(rows)).ok(),
        ..Scores::default()
    }
}

fn regression(rows: &[ScoredRow], pick: Pick) -> Scores {
    let numbers = flat(rows, pick);
    let labels: Vec<f64> =
        rows.iter().map(|row| if let Target::Number(number) = row.label { number } else { f64::NAN }).collect();
    Scores {
        mae: quality::mae(&numbers, &labels).ok(),
        rmse: quality::rmse(&numbers, &labels).ok(),
        ..Scores::default()
    }
}

/// Scores per window. The rows are in time order; windows begin at multiples of `length` since 1970-01-01 UTC, as those of the monitor.
pub(crate) fn by_window(task: Task, rows: &[ScoredRow], length: Duration) -> Vec<WindowScores> {
    let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX).max(1);
    let window = |row: &ScoredRow| row.at.timestamp_millis().div_euclid(length);
    rows.chunk_by(|a, b| window(a) == window(b))
        .filter_map(|rows| {
            let mut versions = BTreeMap::new();
            for row in rows {
                *versions.entry(row.version).or_default() += 1;
            }
            Some(WindowScores {
                from: DateTime::from_timestamp_millis(window(rows.first()?) * length)?,
                rows: rows.len(),
                unchanged: scores(task, rows, |row| &row.unchanged),
                live: scores(task, rows, |row| &row.live),
                versions,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(hour: i64, class: usize, live: f64, unchanged: f64) -> ScoredRow {
        ScoredRow {
            at: DateTime::from_timestamp(hour * 3600, 0).expect("in range"),
            version: 1 + u32::from(hour > 2),
            label: Target::Class(class),
            live: vec![live],
            unchanged: vec![unchanged],
        }
    }

    #[test]
    fn the_better_prediction_has_the_lower_loss() {
        let rows = [row(0, 1, 0.9, 0.5), row(1, 0, 0.1, 0.5)];
        let loss = |pick: Pick| scores(Task::Binary, &rows, pick).log_loss.expect("two rows");
        assert!((loss(|row| &row.unchanged) - 2.0_f64.ln()).abs() < 1e-12);
        assert!((loss(|row| &row.live) + 0.9_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn windows_begin_at_multiples_and_count_rows_by_version() {
        let rows = [row(1, 1, 0.9, 0.5), row(2, 0, 0.2, 0.5), row(3, 0, 0.2, 0.5), row(4, 1, 0.7, 0.5)];
        let windows = by_window(Task::Binary, &rows, Duration::from_secs(4 * 3600));
        assert_eq!(windows.iter().map(|w| w.rows).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(windows[0].versions, BTreeMap::from([(1, 2), (2, 1)]));
        assert_eq!(windows[1].from.timestamp(), 4 * 3600);
    }

    #[test]
    fn regression_is_scored_in_the_units_of_the_target() {
        let mut rows = [row(0, 0, 10.0, 16.0)];
        rows[0].label = Target::Number(12.0);
        let live = scores(Task::Regression, &rows, |row| &row.live);
        assert_eq!((live.mae, live.rmse, live.log_loss), (Some(2.0), Some(2.0), None));
        assert_eq!(scores(Task::Regression, &rows, |row| &row.unchanged).headline(), Some(4.0));
    }
}
