//! Scaling of numbers to a bounded range.
//!
//! A number is first limited to the range of the training rows, so that a value beyond it, by a unit change or a fault, predicts what the
//! nearest value of that range does. It is then scaled by quartiles and clipped smoothly (Holzmüller, Grinsztajn and Steinwart 2024,
//! "Better by default: Strong pre-tuned MLPs and boosted trees on tabular data"), so that the range of the other values does not depend on
//! outliers. With knots, the piecewise-linear encoding of Gorishniy, Rubachev and Babenko 2022 ("On embeddings for numerical features in
//! tabular deep learning") follows.

use serde::{Deserialize, Serialize};

/// The bound of a smoothly clipped number: `x / sqrt(1 + (x / bound)^2)`.
pub const SMOOTH_CLIP: f64 = 3.0;

/// How a number is scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// The least value of the training rows; lower ones count as this one.
    pub low: f64,
    /// The median of the training rows.
    pub median: f64,
    /// The greatest value of the training rows; higher ones count as this one.
    pub high: f64,
    /// The divisor of the difference from the median.
    pub scale: f64,
    /// Bounds of the bins of the piecewise-linear encoding, strictly increasing; empty without it.
    pub knots: Vec<f64>,
}

impl Scaling {
    /// Scaling by quartiles, with up to `bins` bins of about the same number of training rows. `None` if the values are the same up to the
    /// resolution of single precision, or there are none.
    ///
    /// `sorted` has the values of the training rows in ascending order.
    pub fn of(sorted: &[f64], bins: usize) -> Option<Self> {
        let (&low, &high) = (sorted.first()?, sorted.last()?);
        if is_negligible(low, high) {
            return None;
        }
        let (first, third) = (quantile(sorted, 0.25), quantile(sorted, 0.75));
        // Half the range, if half of the values are the same. The ends of the range may be so far apart that their difference overflows.
        let scale = if is_negligible(first, third) { high / 2.0 - low / 2.0 } else { third - first };
        if !scale.is_finite() {
            return None;
        }
        let mut knots: Vec<f64> = (0..=bins).map(|bin| quantile(sorted, bin as f64 / bins.max(1) as f64)).collect();
        knots.dedup_by(|next, kept| is_negligible(*kept, *next));
        // One bin is the number itself, between its bounds.
        if knots.len() < 3 {
            knots.clear();
        }
        Some(Self { low, median: quantile(sorted, 0.5), high, scale, knots })
    }

    /// The number of elements of the encoding.
    pub fn width(&self) -> usize {
        1 + self.knots.len().saturating_sub(1)
    }

    /// Whether every value has a finite encoding.
    pub(crate) fn is_valid(&self) -> bool {
        let Self { low, median, high, scale, knots } = self;
        let finite = [low, median, high, scale].into_iter().chain(knots).all(|value| value.is_finite());
        let bins = knots.windows(2).all(|pair| pair[0] < pair[1] && (pair[1] - pair[0]).is_finite());
        finite && low <= median && median <= high && *scale > 0.0 && bins && knots.len() != 1
    }

    /// Writes the encoding of a number into `slots`, which has [`Self::width`] elements. A missing one is the median.
    #[inline]
    pub(crate) fn write(&self, value: Option<f64>, slots: &mut [f32]) {
        let value = value.map_or(self.median, |value| value.clamp(self.low, self.high));
        let scaled = (value - self.median) / self.scale;
        let [first, bins @ ..] = slots else { return };
        *first = smooth_clip(scaled) as f32;
        if self.knots.is_empty() {
            return;
        }
        // Bins below the value are full, and those above it are empty.
        let bin = self.knots[1..self.knots.len() - 1].partition_point(|knot| *knot <= value);
        let (start, end) = (self.knots[bin], self.knots[bin + 1]);
        let bins = &mut bins[..self.knots.len() - 1];
        bins[..bin].fill(1.0);
        bins[bin] = ((value - start) / (end - start)).clamp(0.0, 1.0) as f32;
        bins[bin + 1..].fill(0.0);
    }
}

fn smooth_clip(value: f64) -> f64 {
    let share = value / SMOOTH_CLIP;
    // The square of a very large number is infinite.
    if share.abs() > 1e150 { SMOOTH_CLIP.copysign(value) } else { value / share.mul_add(share, 1.0).sqrt() }
}

/// Whether two values differ by no more than single precision can tell, beside their magnitude.
fn is_negligible(low: f64, high: f64) -> bool {
    high / 2.0 - low / 2.0 <= f64::from(f32::EPSILON) * (low.abs() / 2.0).max(high.abs() / 2.0)
}

/// The quantile of sorted values, linear between two of them.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    let part = position.fract();
    below.mul_add(1.0 - part, above * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaling(mut values: Vec<f64>, bins: usize) -> Scaling {
        values.sort_unstable_by(f64::total_cmp);
        let scaling = Scaling::of(&values, bins).expect("different values");
        assert!(scaling.is_valid(), "{scaling:?}");
        scaling
    }

    fn written(scaling: &Scaling, value: Option<f64>) -> Vec<f32> {
        let mut slots = vec![f32::NAN; scaling.width()];
        scaling.write(value, &mut slots);
        slots
    }

    #[test]
    fn quartiles_scale_and_the_median_is_zero() {
        let scaling = scaling((0..=100).map(f64::from).collect(), 0);
        assert_eq!((scaling.low, scaling.median, scaling.high, scaling.scale), (0.0, 50.0, 100.0, 50.0));
        assert_eq!(written(&scaling, None), [0.0]);
        // One quartile distance from the median: 1 / sqrt(1 + 1 / 9).
        assert!((written(&scaling, Some(100.0))[0] - 0.948_683_3).abs() < 1e-6);
    }

    #[test]
    fn bins_are_filled_up_to_the_value() {
        let scaling = scaling((0..=100).map(f64::from).collect(), 4);
        assert_eq!(scaling.knots, [0.0, 25.0, 50.0, 75.0, 100.0]);
        let bins = |value: f64| written(&scaling, Some(value))[1..].to_vec();
        assert_eq!(bins(60.0), [1.0, 1.0, 0.4, 0.0]);
        assert_eq!(bins(50.0), [1.0, 1.0, 0.0, 0.0]);
        assert_eq!((bins(-7.0), bins(1e300)), (vec![0.0; 4], vec![1.0; 4]));
        assert_eq!(written(&scaling, None), written(&scaling, Some(50.0)));
    }

    #[test]
    fn equal_quantiles_share_a_bin() {
        let mostly_zero = scaling([vec![0.0; 90], (1..=10).map(f64::from).collect()].concat(), 10);
        assert_eq!(mostly_zero.scale, 5.0, "half the range, because the quartiles are the same");
        assert!(mostly_zero.knots.len() <= 3 && mostly_zero.knots.first() == Some(&0.0), "{mostly_zero:?}");
        assert_eq!(scaling(vec![0.0, 1.0], 1).width(), 1, "one bin is the number itself");
    }

    #[test]
    fn values_that_single_precision_cannot_tell_apart_are_constant() {
        assert_eq!(Scaling::of(&[], 8), None);
        assert_eq!(Scaling::of(&[0.0; 5], 8), None);
        assert_eq!(Scaling::of(&[0.3, 0.300_000_000_000_000_04], 8), None);
        assert_eq!(Scaling::of(&[-1e9, -1e9 + 1.0], 8), None);
        assert!(Scaling::of(&[1.7e9, 1.7e9 + 3600.0], 8).is_some(), "an hour of seconds since 1970");
        assert!(Scaling::of(&[0.0, 1e-300], 8).is_some());
    }

    #[test]
    fn every_encoding_is_finite() {
        for values in
            [vec![f64::MIN, 0.0, f64::MAX], vec![0.0, f64::MIN_POSITIVE], vec![-1e308, 1e308], vec![0.0, 1e-320]]
        {
            let Some(scaling) = Scaling::of(&values, 4) else { continue };
            assert!(scaling.is_valid(), "{scaling:?}");
            for value in [f64::MIN, -1.0, 0.0, 1e-321, 1.0, f64::MAX] {
                let slots = written(&scaling, Some(value));
                assert!(
                    slots.iter().all(|slot| slot.is_finite() && slot.abs() <= 3.0),
                    "{scaling:?} {value}: {slots:?}"
                );
            }
        }
    }
}
