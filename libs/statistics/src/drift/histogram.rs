use super::bins::{Bin, BinKind};
use crate::profile::{Bucket, Numeric};

/// The share of the values that a chart leaves out on either side.
const CUT_SHARE: f64 = 0.005;

/// The central quantiles, whose distance limits how far a drawn value is from them: in few rows a single outlier is more than
/// [`CUT_SHARE`].
const MIDDLE: (f64, f64) = (0.05, 0.95);

/// The largest distance of a drawn value from the central quantiles, in multiples of their distance.
const REACH: f64 = 1.5;

/// A histogram of two numeric columns for a chart: at most about `bins` bins of equal width with round limits; the values below and above
/// them come first and last. Empty without a finite value on either side.
///
/// The bins cover all but half a percent of both samples on each side, or less if those values are far away, so that an outlier does
/// not compress the chart. Bins of integers contain equally many integers and are named by the first and the last. Limits of other bins
/// belong to the bin above; that of the last bin belongs to it, so that `Above` holds larger values only.
pub fn histogram(reference: &Numeric, current: &Numeric, bins: usize) -> Vec<Bin> {
    let (low, high) = match (ends(reference), ends(current)) {
        (Some(one), Some(other)) => (one.0.min(other.0), one.1.max(other.1)),
        (one, other) => match one.or(other) {
            Some(ends) => ends,
            None => return Vec::new(),
        },
    };
    let buckets = reference.aligned(current);
    let grid = Grid::over(low, high, bins.max(1) as f64, buckets.iter().all(is_whole));
    let mut counted = grid.empty();
    for bucket in buckets {
        let bin = &mut counted[grid.index(bucket.middle())];
        bin.reference += bucket.rows.0;
        bin.current += bucket.rows.1;
    }
    counted
}

/// The drawn range of one column: its outermost values that are not far away.
fn ends(numeric: &Numeric) -> Option<(f64, f64)> {
    let (low, high) = (numeric.quantile(CUT_SHARE)?, numeric.quantile(1.0 - CUT_SHARE)?);
    let (first, last) = (numeric.quantile(MIDDLE.0)?, numeric.quantile(MIDDLE.1)?);
    let reach = if first < last { REACH * (last - first) } else { f64::INFINITY };
    let (low, high) = (low.max(first - reach), high.min(last + reach));
    // At least `first` is among them.
    let mut near = numeric.values().into_iter().map(|(value, _)| value).filter(|value| (low..=high).contains(value));
    let least = near.next()?;
    Some((least, near.next_back().unwrap_or(least)))
}

fn is_whole(bucket: &Bucket<(u64, u64)>) -> bool {
    bucket.low == bucket.high && bucket.low.fract() == 0.0
}

/// Equally wide bins.
struct Grid {
    /// The smallest and the largest number in the bins.
    low: f64,
    high: f64,
    width: f64,
    bins: usize,
    whole: bool,
}

impl Grid {
    fn over(low: f64, high: f64, bins: f64, whole: bool) -> Self {
        let width = high / bins - low / bins;
        let width = if whole {
            round_width(width.max(1.0), &[1.0, 2.0, 5.0])
        } else {
            round_width(width, &[1.0, 2.0, 2.5, 5.0])
        };
        let (first, last) = ((low / width).floor(), (high / width).floor() + 1.0);
        // Floats cannot distinguish the limits: one bin for all.
        if !(width > 0.0 && width.is_finite()) || first.abs().max(last.abs()) > 1e15 {
            return Self { low, high, width: 1.0, bins: 1, whole: false };
        }
        let high = last * width - if whole { 1.0 } else { 0.0 };
        Self { low: first * width, high, width, bins: (last - first) as usize, whole }
    }

    /// The index of the bin of a value; the first and the last bin are those beyond the range.
    fn index(&self, value: f64) -> usize {
        match value {
            _ if value < self.low => 0,
            _ if value > self.high => self.bins + 1,
            _ => 1 + (((value - self.low) / self.width) as usize).min(self.bins - 1),
        }
    }

    fn empty(&self) -> Vec<Bin> {
        let below = std::iter::once(BinKind::Below { than: self.low });
        let above = std::iter::once(BinKind::Above { than: self.high });
        let kinds = below.chain((0..self.bins).map(|index| self.interval(index))).chain(above);
        kinds.map(|kind| Bin::new(kind, 0, 0)).collect()
    }

    fn interval(&self, index: usize) -> BinKind {
        if self.bins == 1 && !self.whole {
            return BinKind::Interval { low: self.low, high: self.high };
        }
        let low = self.low + self.width * index as f64;
        BinKind::Interval { low, high: if self.whole { low + self.width - 1.0 } else { low + self.width } }
    }
}

/// The smallest number of at least `width` that is one of the steps times a power of ten.
fn round_width(width: f64, steps: &[f64]) -> f64 {
    let unit = 10_f64.powf(width.log10().floor());
    let step = steps.iter().copied().find(|step| step * unit >= width * (1.0 - 1e-9));
    step.unwrap_or(10.0) * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(values: impl IntoIterator<Item = f64>) -> Numeric {
        let mut numeric = Numeric::new();
        numeric.add_all(&values.into_iter().collect::<Vec<_>>());
        numeric
    }

    fn rows(bins: &[Bin]) -> (u64, u64) {
        bins.iter().fold((0, 0), |sum, bin| (sum.0 + bin.reference, sum.1 + bin.current))
    }

    #[test]
    fn every_value_is_in_a_bin_and_the_limits_are_round() {
        let bins = histogram(&numbers((0..1000).map(|i| f64::from(i) * 0.037)), &numbers((0..50).map(f64::from)), 24);
        assert_eq!(rows(&bins), (1000, 50));
        assert!(bins.len() <= 24 + 4, "{}", bins.len());
        let BinKind::Interval { low, high } = bins[2].kind else { panic!("{:?}", bins[2]) };
        assert_eq!((low, high), (2.5, 5.0));
    }

    #[test]
    fn integers_are_not_split() {
        let bins = histogram(&numbers((1..=12).map(f64::from)), &numbers([3.0; 20]), 24);
        assert_eq!(bins[1].kind, BinKind::Interval { low: 1.0, high: 1.0 });
        assert_eq!((bins[3].reference, bins[3].current), (1, 20));
    }

    #[test]
    fn values_above_the_bins_are_above_their_label() {
        // Few rows of 4 and 5: the bins end below them, or at them.
        for step in [1.0, 0.5] {
            let values = || (0..4000).map(|row| f64::from(row % 4) * step);
            for beyond in [4.0 * step, 5.0 * step] {
                let bins = histogram(&numbers(values().chain([beyond; 3])), &numbers(values()), 36);
                assert_eq!(rows(&bins), (4003, 4000));
                for bin in &bins {
                    match bin.kind {
                        BinKind::Above { than } => assert!(bin.reference == 0 || beyond > than, "{bin:?}, {beyond}"),
                        BinKind::Interval { low, high } if (low..=high).contains(&beyond) => {}
                        _ => assert!(bin.reference != 3, "{bin:?}, {beyond}"),
                    }
                }
            }
        }
    }

    #[test]
    fn an_outlier_in_few_rows_does_not_compress_the_chart() {
        let outlier = numbers((0..40).map(|i| f64::from(i) / 7.0).chain([1e300]));
        let bins = histogram(&outlier, &outlier, 24);
        assert_eq!(bins.last().map(|bin| (bin.reference, bin.current)), Some((1, 1)));
        assert!(bins.iter().filter(|bin| bin.current > 0).count() > 10);
    }

    #[test]
    fn any_numbers_have_a_histogram() {
        for values in [
            vec![f64::MIN, f64::MAX],
            vec![5e-324, 1e-323],
            vec![1e15, 1e15 + 0.125],
            vec![0.3],
            vec![1e300],
            vec![-0.0, 0.0],
            vec![9e18, 9e18 + 2048.0],
        ] {
            let bins = histogram(&numbers(values.iter().copied()), &numbers(values.iter().copied()), 24);
            assert_eq!(rows(&bins), (values.len() as u64, values.len() as u64), "{values:?}");
        }
        assert!(histogram(&Numeric::new(), &Numeric::new(), 24).is_empty());
    }
}
