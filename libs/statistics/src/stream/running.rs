use serde::{Deserialize, Serialize};

/// The mean of the values so far (Welford 1962).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RunningMean {
    pub(super) count: u64,
    pub(super) mean: f64,
}

impl RunningMean {
    pub(super) fn push(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        self.mean += 1.0 / self.count as f64 * (value - self.mean);
    }

    /// The mean; absent before the first value.
    pub(super) fn get(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }
}

/// Mean and variance of the values so far (Welford 1962).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RunningVariance {
    pub(super) mean: RunningMean,
    squares: f64,
}

impl RunningVariance {
    pub(super) fn push(&mut self, value: f64) {
        let before = self.mean.mean;
        self.mean.push(value);
        self.squares += (value - before) * (value - self.mean.mean);
    }

    /// Whether values from 0 to `most` can lead to this state.
    pub(super) fn is_of_values_up_to(&self, most: f64) -> bool {
        let rows = self.mean.count as f64;
        (0.0..=most).contains(&self.mean.mean) && (0.0..=most * most * rows).contains(&self.squares)
    }

    /// The sample standard deviation (divisor n - 1); 0 for fewer than two values.
    pub(super) fn std(&self) -> f64 {
        if self.mean.count < 2 { 0.0 } else { (self.squares / (self.mean.count - 1) as f64).max(0.0).sqrt() }
    }
}
