//! Prediction of the next value of a sample.

use crate::{
    Error,
    error::{check_rows, check_share},
    paired::{moments, student_tail},
};

/// The interval outside of which one further draw from the distribution of `values` lies with probability `level`, on both sides together: for
/// independent normal values, `mean +- t(n - 1) sqrt(s^2 (1 + 1/n) + floor^2)`. `floor` is a deviation that the next value has at least, beyond that of
/// the sample.
///
/// # Errors
/// Fewer than two values; a value that is not finite; a level outside (0, 1).
pub fn interval(values: &[f64], floor: f64, level: f64) -> Result<(f64, f64), Error> {
    const WHAT: &str = "prediction interval";
    check_rows(WHAT, 2, values.len())?;
    crate::error::check_finite(WHAT, values)?;
    check_share("level", level)?;
    let (moments, count) = (moments(WHAT, values)?, values.len() as f64);
    let variance = moments.std(count - 1.0).powi(2) * (1.0 + 1.0 / count) + floor * floor;
    let half = student_tail(level / 2.0, count - 1.0) * variance.sqrt();
    let (mean, most) = (moments.mean(), f64::MAX);
    Ok(((mean - half).max(-most), (mean + half).min(most)))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn the_interval_is_that_of_the_formula() {
        // Mean 3, deviation sqrt(2.5), t(4) at 0.975 is 2.776445.
        let (lower, upper) = interval(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.0, 0.05).expect("valid");
        let half = 2.776_445_105_197_794 * (2.5_f64 * 1.2).sqrt();
        assert!((lower - (3.0 - half)).abs() < 1e-9 && (upper - (3.0 + half)).abs() < 1e-9, "{lower} {upper}");
        let (lower, upper) = interval(&[7.0; 8], 0.1, 0.05).expect("valid");
        assert!(lower < 6.8 && lower > 6.7 && upper > 7.2 && upper < 7.3, "{lower} {upper}");
        assert!(interval(&[1.0], 0.0, 0.05).is_err() && interval(&[1.0, f64::NAN], 0.0, 0.05).is_err());
        assert!(interval(&[1.0, 2.0], 0.0, 1.0).is_err());
        assert!(interval(&[1.0, 2.0], 0.0, 1e-300).is_ok(), "a level below the precision of 1");
    }

    #[test]
    fn the_next_value_lies_outside_as_often_as_declared() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut normal = || (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
        let outside = (0..4_000).filter(|_| {
            let values: Vec<f64> = (0..8).map(|_| normal()).collect();
            let (lower, upper) = interval(&values, 0.0, 0.05).expect("valid");
            !(lower..=upper).contains(&normal())
        });
        // 5 % of 4,000 with the binomial 99.9 % bounds.
        let outside = outside.count();
        assert!((158..=244).contains(&outside), "{outside}");
    }
}
