//! Calibration of the probabilities of a classifier by temperature scaling.
//!
//! The temperature is fitted on the validation rows, for the network that was not trained on them; the network that serves has the same
//! one. It does not change the predicted class.

use rekindle_bundle::{Prediction, Targets, network::Network, score};
use rekindle_domain::Task;

use crate::{Error, train::mean};

/// Bounds of the natural logarithm of the temperature.
const LOG_BOUNDS: (f64, f64) = (-2.0, 2.0);
/// Steps of the golden section: the logarithm is then within 0.00001.
const STEPS: usize = 26;

/// The temperature with the lowest log loss; 1 for a regression. `predict` makes predictions of raw outputs.
pub(crate) fn temperature(
    task: Task,
    outputs: &[f32],
    labels: &Targets,
    predict: impl Fn(Vec<f32>) -> Prediction,
) -> Result<f64, Error> {
    if task == Task::Regression {
        return Ok(1.0);
    }
    let loss = |log: f64| -> Result<f64, Error> {
        let scaled = outputs.iter().map(|&output| (f64::from(output) / log.exp()) as f32).collect();
        Ok(mean(&score::losses(task, &predict(scaled), labels)?))
    };
    // The log loss is convex in the inverse of the temperature, so that it has one minimum.
    let ratio = (5_f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = LOG_BOUNDS;
    let (mut left, mut right) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_left, mut at_right) = (loss(left)?, loss(right)?);
    for _ in 0..STEPS {
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - ratio * (high - low);
            at_left = loss(left)?;
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + ratio * (high - low);
            at_right = loss(right)?;
        }
    }
    let log = f64::midpoint(low, high);
    // At the lower bound, the rows say nothing: they have one class, or none of them is misjudged.
    let is_fitted = log - LOG_BOUNDS.0 > 0.01;
    Ok(if is_fitted { log.exp() } else { 1.0 })
}

/// Divides the outputs of a network by the temperature.
pub(crate) fn apply(network: &mut Network, temperature: f64) {
    let divide = |values: &mut Vec<f32>| {
        values.iter_mut().for_each(|value| *value = (f64::from(*value) / temperature) as f32);
    };
    divide(&mut network.output.weight.data);
    divide(&mut network.output.bias);
    if network.hidden.is_empty() {
        network.embeddings.iter_mut().for_each(|embedding| divide(&mut embedding.data));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn log_odds_that_are_three_times_too_large_have_temperature_three() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let (mut outputs, mut classes) = (Vec::new(), Vec::new());
        for _ in 0..20_000 {
            let log_odds: f32 = random.random_range(-2.0..2.0);
            outputs.push(3.0 * log_odds);
            classes.push(Some(usize::from(random.random::<f32>() < 1.0 / (1.0 + (-log_odds).exp()))));
        }
        let labels: Vec<Arc<str>> = vec!["no".into(), "yes".into()];
        let predict = |raw| Prediction::from_raw(Task::Binary, &labels, raw);
        let found = temperature(Task::Binary, &outputs, &Targets::Classes(classes), predict).expect("a temperature");
        assert!((found - 3.0).abs() < 0.15, "{found}");
    }

    #[test]
    fn rows_without_a_misjudged_one_have_no_temperature() {
        let labels: Vec<Arc<str>> = vec!["no".into(), "yes".into()];
        let predict = |raw| Prediction::from_raw(Task::Binary, &labels, raw);
        let classes = Targets::Classes(vec![Some(0), Some(1), Some(1)]);
        let found = temperature(Task::Binary, &[-1.0, 1.0, 2.0], &classes, predict).expect("a temperature");
        assert_eq!(found, 1.0);
    }
}
