/// A power of two that scales numbers of at most this magnitude so that no sum and no square overflows or loses
/// digits: 1 unless it is needed. Multiplication by it is exact.
fn scale(largest: f64) -> f64 {
    const FAR: f64 = 1e120;
    match largest {
        0.0 => 1.0,
        _ if largest > FAR => 2.0_f64.powi(-600),
        _ if largest < 1.0 / FAR => 2.0_f64.powi(600),
        _ => 1.0,
    }
}

/// The first two moments of finite numbers of any size, in two passes of which the second corrects the rounding of the
/// first (Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", formula 1.7). They are exact for
/// a constant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moments {
    /// The factor by which the numbers are multiplied first.
    scale: f64,
    /// The mean of the scaled numbers.
    mean: f64,
    /// The sum of the squared deviations of the scaled numbers.
    squares: f64,
    /// The sum of the weights.
    rows: f64,
}

impl Moments {
    /// Of numbers with their frequencies. `None` without numbers, or if one is not finite.
    pub(crate) fn of(weighted: impl Iterator<Item = (f64, f64)> + Clone) -> Option<Self> {
        let ends = (f64::INFINITY, f64::NEG_INFINITY);
        let (low, high) = weighted.clone().fold(ends, |(low, high), (value, _)| (low.min(value), high.max(value)));
        if !(low.is_finite() && high.is_finite()) {
            return None;
        }
        let scale = scale(low.abs().max(high.abs()));
        let rows = weighted.clone().fold(0.0, |sum, (_, rows)| sum + rows);
        if low == high {
            return Some(Self { scale, mean: low * scale, squares: 0.0, rows });
        }
        let centre = weighted.clone().fold(0.0, |sum, (value, rows)| sum + rows * (value * scale)) / rows;
        let (rest, squares) = weighted.fold((0.0, 0.0), |(rest, squares), (value, rows)| {
            let deviation = value * scale - centre;
            (rest + rows * deviation, squares + rows * deviation * deviation)
        });
        let mean = (centre + rest / rows).clamp(low * scale, high * scale);
        Some(Self { scale, mean, squares: (squares - rest * rest / rows).max(0.0), rows })
    }

    /// Of numbers with frequency 1.
    pub(crate) fn of_values(values: &[f64]) -> Option<Self> {
        Self::of(values.iter().map(|value| (*value, 1.0)))
    }

    /// The mean, in the unit of the numbers.
    pub(crate) fn mean(&self) -> f64 {
        self.mean / self.scale
    }

    /// The standard deviation with this divisor, in the unit of the numbers, capped at the largest float.
    pub(crate) fn std(&self, divisor: f64) -> f64 {
        ((self.squares / divisor).sqrt() / self.scale).min(f64::MAX)
    }

    /// Whether the numbers are not all equal.
    pub(crate) fn vary(&self) -> bool {
        self.squares > 0.0
    }

    /// The difference of a number from the mean in standard deviations (divisor n), for numbers that [vary](Self::vary).
    pub(crate) fn standardised(&self, value: f64) -> f64 {
        (value * self.scale - self.mean) / (self.squares / self.rows).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.mean` and `numpy.std` of numpy 2.4.6, the last two in exact fractions.
    #[test]
    fn scaling_loses_no_digits() {
        let cases: [(&[f64], f64, f64); 4] = [
            (&[1e9, 1e9 + 1.0, 1e9 + 2.0], 1e9 + 1.0, 0.816_496_580_927_726),
            (&[1e15, 1e15 + 1.0], 1e15 + 0.5, 0.5),
            (&[3e-200, 5e-200], 4e-200, 1e-200),
            (&[-f64::MAX, f64::MAX], 0.0, f64::MAX),
        ];
        for (values, mean, std) in cases {
            let moments = Moments::of_values(values).expect("numbers");
            let close = |got: f64, expected: f64| (got - expected).abs() <= 1e-14 * expected.abs();
            let got = (moments.mean(), moments.std(values.len() as f64));
            assert!(close(got.0, mean) && close(got.1, std), "{values:?}: {got:?}");
        }
    }

    #[test]
    fn a_constant_of_any_size_has_no_deviation() {
        for value in [0.1, -0.1, 1e10 / 3.0, 1e-300 / 3.0, 5e-324, f64::MAX, 0.0] {
            let moments = Moments::of([(value, 1_000_003.0)].into_iter()).expect("numbers");
            assert_eq!((moments.mean(), moments.std(1_000_002.0)), (value, 0.0));
        }
        assert!(Moments::of_values(&[]).is_none() && Moments::of_values(&[1.0, f64::INFINITY]).is_none());
    }
}
