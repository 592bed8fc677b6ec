use super::{
    Sample,
    sample::{check_samples, merged},
};
use crate::Error;

/// The magnitude from which values are scaled by a quarter, so that no difference overflows.
const HUGE: f64 = f64::MAX / 4.0;

/// The first Wasserstein distance, in the unit of the values: the mean distance by which rows have to move to turn one sample into
/// the other. It is the area between the two empirical distribution functions (Vallender 1974, "Calculation of the
/// Wasserstein distance between probability distributions on the line"), as `scipy.stats.wasserstein_distance`.
///
/// It is not divided by a scale, on which conventions differ. A distance above the largest float is that float.
///
/// # Errors
/// A sample without rows; an infinite value.
pub fn wasserstein(reference: &Sample, window: &Sample) -> Result<f64, Error> {
    const WHAT: &str = "Wasserstein distance";
    check(WHAT, reference, window)?;
    let scale = scale(reference, window);
    // Starts at 0.0: a single value has no strips, and the sum of no floats is -0.0.
    let area = strips(reference, window, scale).fold(0.0, |area, (width, height)| area + width * height.abs());
    Ok((area / scale).min(f64::MAX))
}

/// For every two neighbouring values of the pooled samples: their difference times `scale`, and the distribution function of the
/// reference minus that of the window.
pub(super) fn strips<'s>(
    reference: &'s Sample,
    window: &'s Sample,
    scale: f64,
) -> impl Iterator<Item = (f64, f64)> + 's {
    let (n, m) = (u128::from(reference.rows()), u128::from(window.rows()));
    let rows = (n * m) as f64;
    let mut last: Option<(f64, f64)> = None;
    merged(reference, window).filter_map(move |step| {
        let value = step.value * scale;
        // Integers, so that equal shares differ by exactly 0 and not by rounding.
        let (left, right) = (u128::from(step.through[0]) * m, u128::from(step.through[1]) * n);
        let height = if left < right { -((right - left) as f64) } else { (left - right) as f64 } / rows;
        last.replace((value, height)).map(|(before, height)| (value - before, height))
    })
}

/// A power of two with which no difference of two values overflows.
pub(super) fn scale(reference: &Sample, window: &Sample) -> f64 {
    let huge = |sample: &Sample| ends(sample).into_iter().flatten().any(|value| value.abs() > HUGE);
    if huge(reference) || huge(window) { 0.25 } else { 1.0 }
}

/// Checks for rows and finite values. An error states the rank of the value among the sorted rows.
pub(super) fn check(what: &'static str, reference: &Sample, window: &Sample) -> Result<(), Error> {
    check_samples(what, 1, reference, window)?;
    for sample in [reference, window] {
        let rows = sample.rows() - sample.counts().last().copied().unwrap_or(0);
        for (rank, value) in [0, rows].into_iter().zip(ends(sample).into_iter().flatten()) {
            if value.is_infinite() {
                let row = usize::try_from(rank).unwrap_or(usize::MAX);
                return Err(Error::Value { what, row, value, expected: "a finite number" });
            }
        }
    }
    Ok(())
}

fn ends(sample: &Sample) -> [Option<f64>; 2] {
    [sample.values().first().copied(), sample.values().last().copied()]
}
