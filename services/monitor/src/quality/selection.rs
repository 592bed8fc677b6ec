//! Whether the labelled rows of a window are a random sample of it.

use rekindle_domain::WatchSettings;
use rekindle_statistics::{
    drift::{Verdict, compare_column},
    profile::ColumnProfile,
};

use crate::Error;

/// Why the labelled rows are not a random sample of a window; `None` if nothing shows it, or if fewer than `min_rows` rows are labelled or not.
///
/// The scores of the labelled rows are compared with those of the others, and so are their positions in the order of event time, each with
/// one half of the window's share of the false-alarm budget. As for drift, a difference has to exceed the margin.
pub(super) fn statement(
    scores: impl FnOnce() -> Result<Vec<Option<f64>>, Error>,
    is_labelled: &[bool],
    settings: &WatchSettings,
) -> Result<Option<String>, Error> {
    const COMPARISONS: f64 = 2.0;
    let labelled = is_labelled.iter().filter(|labelled| **labelled).count() as u64;
    let others = is_labelled.len() as u64 - labelled;
    if labelled.min(others) < settings.min_rows.max(2) {
        return Ok(None);
    }
    let level = settings.false_alarm_rate / f64::from(WatchSettings::WINDOWS) / COMPARISONS;
    let positions: Vec<Option<f64>> = (0..is_labelled.len()).map(|row| Some(row as f64)).collect();
    let differ = |what: &str, values: &[Option<f64>]| {
        let of = |wanted: bool| {
            let values = values.iter().zip(is_labelled);
            ColumnProfile::of_numbers(values.filter(move |(_, is)| **is == wanted).map(|(value, _)| *value))
        };
        let found = compare_column(what, &of(false), &of(true), level, settings.drift_margin);
        (found.verdict == Verdict::Drifted)
            .then(|| format!("their {what} differ from those of the other rows (PSI {:.2})", found.psi))
    };
    let differences: Vec<String> =
        differ("scores", &scores()?).into_iter().chain(differ("event times", &positions)).collect();
    Ok((!differences.is_empty()).then(|| {
        format!("the rows with an outcome are not a random sample of the window: {}", differences.join(", and "))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 4_000;

    /// The statement on rows with scores in no order, of which some are labelled.
    fn of(is_labelled: impl Fn(usize, f64) -> bool) -> Option<String> {
        let scores: Vec<f64> = (0..ROWS).map(|row| (row * 7919 % ROWS) as f64 / ROWS as f64).collect();
        let labelled: Vec<bool> = scores.iter().enumerate().map(|(row, score)| is_labelled(row, *score)).collect();
        let scores: Vec<Option<f64>> = scores.into_iter().map(Some).collect();
        statement(|| Ok(scores), &labelled, &WatchSettings::default()).expect("numbers")
    }

    #[test]
    fn rows_that_were_labelled_by_score_or_by_time_are_not_a_random_sample() {
        assert_eq!(of(|row, _| row * 104_729 % 3 == 0), None);
        let by_score = of(|row, score| score > 0.5 && row % 2 == 0).expect("a selection");
        assert!(by_score.contains("their scores differ") && !by_score.contains("event times"), "{by_score}");
        let by_time = of(|row, _| row < ROWS / 2).expect("a selection");
        assert!(by_time.contains("their event times differ") && !by_time.contains("scores"), "{by_time}");
    }

    #[test]
    fn of_few_rows_nothing_is_said() {
        assert_eq!(of(|row, _| row < 100), None);
        assert_eq!(of(|row, _| row >= 100), None);
        assert_eq!(of(|_, _| true), None);
    }
}
