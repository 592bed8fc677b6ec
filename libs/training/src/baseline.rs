//! Baselines: predictions that use no feature, beside which the metrics of a model are read.

use rekindle_bundle::{Targets, card::Baseline, prediction::PROBABILITY_MARGIN};

use crate::train::mean;

/// The baselines of a target on the validation rows. `in_order` says whether the rows are in order of time.
pub(crate) fn baselines(training: &Targets, validation: &Targets, in_order: bool) -> Vec<Baseline> {
    match (training, validation) {
        (Targets::Classes(training), Targets::Classes(validation)) => classes(training, validation),
        (Targets::Numbers(training), Targets::Numbers(validation)) => numbers(training, validation, in_order),
        _ => Vec::new(),
    }
}

fn baseline(name: &str, metric: &str, value: f64) -> Baseline {
    Baseline { name: name.to_owned(), metric: metric.to_owned(), value }
}

fn classes(training: &[Option<usize>], validation: &[Option<usize>]) -> Vec<Baseline> {
    let count = training.iter().chain(validation).flatten().max().map_or(0, |last| last + 1);
    let mut rows = vec![0_usize; count];
    training.iter().flatten().for_each(|&class| rows[class] += 1);
    let rate = |class: Option<usize>| class.map_or(0.0, |class| rows[class] as f64 / training.len() as f64);
    let losses: Vec<f64> = validation.iter().map(|&class| -rate(class).max(PROBABILITY_MARGIN).ln()).collect();
    // The first of the most frequent classes.
    let majority = (0..count).rev().max_by_key(|&class| rows[class]);
    let hits: Vec<f64> = validation.iter().map(|&class| f64::from(u8::from(class == majority))).collect();
    vec![
        baseline("the class rates of the training rows", "log_loss", mean(&losses)),
        baseline("the most frequent class", "accuracy", mean(&hits)),
    ]
}

fn numbers(training: &[f64], validation: &[f64], in_order: bool) -> Vec<Baseline> {
    let mut sorted = training.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let median = f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    let center = mean(training);
    let error = |predicted: &dyn Fn(usize) -> f64| -> Vec<f64> {
        validation.iter().enumerate().map(|(row, number)| number - predicted(row)).collect()
    };
    let mae = |errors: &[f64]| mean(&errors.iter().map(|error| error.abs()).collect::<Vec<_>>());
    let rmse = |errors: &[f64]| mean(&errors.iter().map(|error| error * error).collect::<Vec<_>>()).sqrt();
    let mut found = vec![
        baseline("the median of the training rows", "mae", mae(&error(&|_| median))),
        baseline("the mean of the training rows", "rmse", rmse(&error(&|_| center))),
    ];
    if in_order {
        let last = |row: usize| if row == 0 { training[training.len() - 1] } else { validation[row - 1] };
        let errors = error(&last);
        found.push(baseline("the value of the row before", "mae", mae(&errors)));
        found.push(baseline("the value of the row before", "rmse", rmse(&errors)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(found: &[Baseline]) -> Vec<(&str, f64)> {
        found.iter().map(|baseline| (baseline.metric.as_str(), baseline.value)).collect()
    }

    #[test]
    fn classes_have_their_rates_and_the_most_frequent_one() {
        let training = Targets::Classes([0, 0, 0, 1].map(Some).to_vec());
        let validation = Targets::Classes(vec![Some(0), Some(1)]);
        let found = baselines(&training, &validation, true);
        let expected = -(0.75_f64.ln() + 0.25_f64.ln()) / 2.0;
        assert_eq!(values(&found), [("log_loss", expected), ("accuracy", 0.5)]);
    }

    #[test]
    fn numbers_have_their_median_mean_and_last_value() {
        let (training, validation) = (Targets::Numbers(vec![1.0, 2.0, 9.0]), Targets::Numbers(vec![10.0, 12.0]));
        let found = baselines(&training, &validation, true);
        let rmse = f64::midpoint(36.0, 64.0).sqrt();
        let last = f64::midpoint(1.0, 4.0).sqrt();
        assert_eq!(values(&found), [("mae", 9.0), ("rmse", rmse), ("mae", 1.5), ("rmse", last)]);
        assert_eq!(baselines(&training, &validation, false).len(), 2, "rows without a time have no last value");
    }
}
