/// Count, extremes, mean and squared deviations of finite numbers, merged by the formula of Chan, Golub and LeVeque (1983).
///
/// Sums are of values divided by `scale`, the largest magnitude so far, so that no sum of squares overflows.
pub(super) struct Moments {
    rows: u64,
    min: f64,
    max: f64,
    scale: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    pub(super) fn new() -> Self {
        Self { rows: 0, min: f64::INFINITY, max: f64::NEG_INFINITY, scale: 0.0, mean: 0.0, squares: 0.0 }
    }

    /// Adds finite values.
    pub(super) fn add(&mut self, values: &[f64]) {
        if values.is_empty() {
            return;
        }
        (self.min, self.max) = values.iter().fold((self.min, self.max), |(min, max), &v| (min.min(v), max.max(v)));
        let scale = self.min.abs().max(self.max.abs());
        let before = self.rows;
        self.rows += values.len() as u64;
        if scale == 0.0 {
            return;
        }
        // A scale of 0 means that all values before were 0, of which mean and squares are 0 in any scale.
        let shrink = self.scale / scale;
        (self.scale, self.mean, self.squares) = (scale, self.mean * shrink, self.squares * shrink * shrink);
        let (n, m) = (before as f64, values.len() as f64);
        let mean = values.iter().map(|v| v / scale).sum::<f64>() / m;
        let squares: f64 = values.iter().map(|v| (v / scale - mean).powi(2)).sum();
        let apart = mean - self.mean;
        let share = m / (n + m);
        if before == 0 {
            (self.mean, self.squares) = (mean, squares);
        } else {
            self.mean += apart * share;
            self.squares += squares + apart * apart * n * share;
        }
    }

    pub(super) fn min(&self) -> Option<f64> {
        (self.rows > 0).then_some(self.min)
    }

    pub(super) fn max(&self) -> Option<f64> {
        (self.rows > 0).then_some(self.max)
    }

    pub(super) fn mean(&self) -> Option<f64> {
        (self.rows > 0).then_some(self.mean * self.scale)
    }

    /// The sample standard deviation; `None` with fewer than two values, or where it exceeds the largest float.
    pub(super) fn std(&self) -> Option<f64> {
        let freedom = self.rows.checked_sub(1).filter(|&freedom| freedom > 0)?;
        Some((self.squares / freedom as f64).sqrt() * self.scale).filter(|std| std.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(batches: &[&[f64]]) -> Moments {
        let mut moments = Moments::new();
        batches.iter().for_each(|batch| moments.add(batch));
        moments
    }

    #[test]
    fn batches_give_the_moments_of_all_values() {
        let moments = of(&[&[0.0, 0.0], &[1.0, 2.0], &[], &[-40.0, 3.0, 3.0]]);
        let all = of(&[&[0.0, 0.0, 1.0, 2.0, -40.0, 3.0, 3.0]]);
        assert_eq!((moments.min(), moments.max()), (Some(-40.0), Some(3.0)));
        let close = |a: Option<f64>, b: Option<f64>| (a.expect("a value") - b.expect("a value")).abs() < 1e-12;
        assert!(close(moments.mean(), all.mean()) && close(moments.std(), all.std()));
        assert!(close(all.mean(), Some(-31.0 / 7.0)));
    }

    #[test]
    fn the_ends_of_the_range_neither_overflow_nor_vanish() {
        let huge = of(&[&[1e308], &[-1e308, 1e308, -1e308]]);
        assert_eq!(huge.mean(), Some(0.0));
        assert!(huge.std().expect("finite") > 1e308);
        let tiny = of(&[&[5e-324, 0.0], &[1e-323]]);
        assert!(tiny.std().expect("a value") > 0.0);
        assert_eq!((of(&[&[0.0], &[0.0]]).std(), of(&[&[7.0]]).std(), of(&[]).mean()), (Some(0.0), None, None));
    }
}
