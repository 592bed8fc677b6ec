//! Predictions.

use std::sync::Arc;

use rekindle_domain::Task;

use crate::engine::Outputs;

/// Minimum distance of probabilities from 0 and 1: about the resolution of the singles that carry them.
pub const PROBABILITY_MARGIN: f64 = 1e-7;

/// The predictions of one batch: one entry per output of the signature, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The number of rows.
    pub rows: usize,
    /// One per output.
    pub outputs: Vec<Values>,
}

/// The elements of one output tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Singles, row-major.
    Fp32 {
        /// Elements per row.
        width: usize,
        /// `rows * width` elements.
        values: Vec<f32>,
    },
    /// One class name per row.
    Text(Vec<Arc<str>>),
}

impl Prediction {
    /// The predictions for the outputs of a backend.
    pub(crate) fn from_outputs(task: Task, classes: &[Arc<str>], outputs: Outputs) -> Self {
        match outputs {
            Outputs::Raw(raw) => Self::from_raw(task, classes, raw),
            Outputs::Probabilities(probabilities) => Self::from_probabilities(task, classes, probabilities),
        }
    }

    /// The predictions for probabilities, [`raw_width`] per row, row-major. They are clamped by [`PROBABILITY_MARGIN`].
    pub fn from_probabilities(task: Task, classes: &[Arc<str>], mut probabilities: Vec<f32>) -> Self {
        let (least, most) = (PROBABILITY_MARGIN as f32, (1.0 - PROBABILITY_MARGIN) as f32);
        probabilities.iter_mut().for_each(|probability| *probability = probability.clamp(least, most));
        let width = raw_width(task, classes.len());
        let labels: Vec<_> = match task {
            Task::Multiclass => probabilities.chunks_exact(width).map(|row| classes[largest(row)].clone()).collect(),
            _ => probabilities.iter().map(|&probability| of_two(classes, probability)).collect(),
        };
        Self { rows: labels.len(), outputs: vec![Values::Fp32 { width, values: probabilities }, Values::Text(labels)] }
    }

    /// The predictions for raw outputs, [`raw_width`] per row, row-major.
    pub fn from_raw(task: Task, classes: &[Arc<str>], mut raw: Vec<f32>) -> Self {
        let (rows, outputs) = match task {
            Task::Binary => {
                raw.iter_mut().for_each(|value| *value = sigmoid(*value));
                let labels = raw.iter().map(|&probability| of_two(classes, probability)).collect();
                (raw.len(), vec![Values::Fp32 { width: 1, values: raw }, Values::Text(labels)])
            }
            Task::Multiclass => {
                let width = classes.len();
                let labels: Vec<_> = raw.chunks_exact_mut(width).map(|row| classes[softmax(row)].clone()).collect();
                (labels.len(), vec![Values::Fp32 { width, values: raw }, Values::Text(labels)])
            }
            Task::Regression => (raw.len(), vec![Values::Fp32 { width: 1, values: raw }]),
        };
        Self { rows, outputs }
    }

    /// The predictions of `rows` rows from `at` on.
    ///
    /// # Panics
    /// If there are fewer rows.
    pub fn slice(&self, at: usize, rows: usize) -> Self {
        let outputs = self.outputs.iter().map(|values| match values {
            Values::Fp32 { width, values } => {
                Values::Fp32 { width: *width, values: values[at * width..(at + rows) * width].to_vec() }
            }
            Values::Text(texts) => Values::Text(texts[at..at + rows].to_vec()),
        });
        Self { rows, outputs: outputs.collect() }
    }

    /// The numbers that losses are computed from: the width and the elements of the first output.
    pub fn scores(&self) -> (usize, &[f32]) {
        match self.outputs.first() {
            Some(Values::Fp32 { width, values }) => (*width, values),
            _ => (0, &[]),
        }
    }

    /// The predicted class of each row; `None` for regression.
    pub fn labels(&self) -> Option<&[Arc<str>]> {
        self.outputs.iter().find_map(|values| match values {
            Values::Text(labels) => Some(labels.as_slice()),
            Values::Fp32 { .. } => None,
        })
    }
}

/// Raw outputs per row: one logit for two classes, one logit per class for several, one number for regression.
pub fn raw_width(task: Task, classes: usize) -> usize {
    match task {
        Task::Multiclass => classes,
        Task::Binary | Task::Regression => 1,
    }
}

/// The class that a probability of the positive class predicts.
fn of_two(classes: &[Arc<str>], probability: f32) -> Arc<str> {
    classes[usize::from(probability >= 0.5)].clone()
}

/// The index of the largest element, the first of equals.
fn largest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
}

/// The probability of the positive class from its log odds.
fn sigmoid(log_odds: f32) -> f32 {
    let probability = 1.0 / (1.0 + (-f64::from(log_odds)).exp());
    probability.clamp(PROBABILITY_MARGIN, 1.0 - PROBABILITY_MARGIN) as f32
}

/// Converts logits to probabilities in place. Returns the index of the largest, the first of equals.
fn softmax(logits: &mut [f32]) -> usize {
    let best = largest(logits);
    let largest = f64::from(logits.get(best).copied().unwrap_or(0.0));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    for logit in logits.iter_mut() {
        let probability = (f64::from(*logit) - largest).exp() / sum;
        *logit = probability.clamp(PROBABILITY_MARGIN, 1.0 - PROBABILITY_MARGIN) as f32;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extreme_logits_stay_within_the_margin() {
        assert_eq!(sigmoid(0.0), 0.5);
        for log_odds in [-1e30, -100.0, 100.0, 1e30] {
            let probability = sigmoid(log_odds);
            assert!(probability > 0.0 && probability < 1.0, "{log_odds}: {probability}");
        }
        let mut logits = [1000.0, -1000.0, 999.0];
        assert_eq!(softmax(&mut logits), 0);
        assert!(logits.iter().all(|&p| p > 0.0 && p < 1.0), "{logits:?}");
    }

    #[test]
    fn softmax_sums_to_one() {
        let mut logits = [0.1, 0.7, -0.3];
        assert_eq!(softmax(&mut logits), 1);
        assert!((logits.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
