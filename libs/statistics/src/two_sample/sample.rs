use super::moments::Moments;
use crate::{
    Error,
    error::{check_rows, check_size},
};

/// The largest number of rows of a sample, up to which a count is exact as a float.
pub const MAX_ROWS: u64 = 1 << 53;

/// A one-dimensional sample as its distinct values, ascending, with their counts.
///
/// Statistics of ordered data take two samples, so that their cost grows with the distinct values and not with
/// the rows. Infinities are the extreme values; NaN is an error; -0.0 is 0.0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    values: Vec<f64>,
    counts: Vec<u64>,
    rows: u64,
}

impl Sample {
    /// Sorts and counts the values of a column. Without values the sample is empty.
    ///
    /// # Errors
    /// A NaN: missing values are not part of a sample and are counted separately.
    pub fn new(values: &[f64]) -> Result<Self, Error> {
        check_numbers(values.iter().copied())?;
        // Adding 0.0 turns -0.0 into 0.0 and does not change any other value.
        let mut sorted: Vec<f64> = values.iter().map(|value| value + 0.0).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Self::from_sorted(sorted.into_iter().map(|value| (value, 1)))
    }

    /// A sample of counted values in any order. Counts of equal values are added up, values with a
    /// count of zero are dropped.
    ///
    /// # Errors
    /// A NaN; more than [`MAX_ROWS`] rows.
    pub fn from_counts(pairs: impl IntoIterator<Item = (f64, u64)>) -> Result<Self, Error> {
        let mut pairs: Vec<(f64, u64)> = pairs.into_iter().map(|(value, count)| (value + 0.0, count)).collect();
        check_numbers(pairs.iter().map(|pair| pair.0))?;
        pairs.retain(|pair| pair.1 > 0);
        pairs.sort_unstable_by(|left, right| left.0.total_cmp(&right.0));
        Self::from_sorted(pairs.into_iter())
    }

    fn from_sorted(pairs: impl Iterator<Item = (f64, u64)>) -> Result<Self, Error> {
        let mut sample = Self::default();
        for (value, count) in pairs {
            sample.rows = sample.rows.saturating_add(count);
            check_size("sample", MAX_ROWS, sample.rows)?;
            match sample.counts.last_mut() {
                Some(last) if sample.values.last() == Some(&value) => *last += count,
                _ => {
                    sample.values.push(value);
                    sample.counts.push(count);
                }
            }
        }
        Ok(sample)
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The distinct values, ascending.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The count of each of [`Self::values`], at least 1.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The number of distinct values.
    pub fn distinct(&self) -> usize {
        self.values.len()
    }

    /// Whether the sample has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The mean, in the unit of the values; absent without rows and with infinite values.
    pub fn mean(&self) -> Option<f64> {
        Moments::of(self.weighted()).map(|moments| moments.mean())
    }

    /// The standard deviation, in the unit of the values, with the divisor `rows - ddof`: 0 for the deviation of the rows, 1 for
    /// the estimate of the population. Absent if the divisor is not positive or a value is infinite. Capped at the largest float.
    pub fn std(&self, ddof: u64) -> Option<f64> {
        let divisor = self.rows.checked_sub(ddof).filter(|divisor| *divisor > 0)?;
        Moments::of(self.weighted()).map(|moments| moments.std(divisor as f64))
    }

    fn weighted(&self) -> impl Iterator<Item = (f64, f64)> + Clone {
        self.values.iter().zip(&self.counts).map(|(value, count)| (*value, *count as f64))
    }
}

/// A distinct value of two samples together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    /// The value.
    pub(crate) value: f64,
    /// Rows of the first and of the second sample with the value.
    pub(crate) counts: [u64; 2],
    /// Cumulative rows of the first and of the second sample.
    pub(crate) through: [u64; 2],
}

/// The distinct values of both samples, ascending, each once.
pub(crate) fn merged<'s>(left: &'s Sample, right: &'s Sample) -> impl Iterator<Item = Step> + 's {
    let (mut at_left, mut at_right, mut through) = (0, 0, [0, 0]);
    std::iter::from_fn(move || {
        let value = match (left.values.get(at_left), right.values.get(at_right)) {
            (Some(left), Some(right)) => left.min(*right),
            (Some(value), None) | (None, Some(value)) => *value,
            (None, None) => return None,
        };
        let counts = [take(left, &mut at_left, value), take(right, &mut at_right, value)];
        through = [through[0] + counts[0], through[1] + counts[1]];
        Some(Step { value, counts, through })
    })
}

/// The rows with this value, if it is the next one of the sample.
fn take(sample: &Sample, at: &mut usize, value: f64) -> u64 {
    if sample.values.get(*at) != Some(&value) {
        return 0;
    }
    *at += 1;
    sample.counts[*at - 1]
}

/// Checks that both samples have at least `need` rows.
pub(crate) fn check_samples(what: &'static str, need: usize, left: &Sample, right: &Sample) -> Result<(), Error> {
    check_rows(what, need, usize::try_from(left.rows.min(right.rows)).unwrap_or(usize::MAX))
}

fn check_numbers(values: impl Iterator<Item = f64>) -> Result<(), Error> {
    match values.enumerate().find(|(_, value)| value.is_nan()) {
        Some((row, value)) => Err(Error::Value { what: "sample", row, value, expected: "a number" }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_counted_together_in_any_order() {
        let sample = Sample::new(&[2.0, -0.0, f64::INFINITY, 0.0, 2.0]).expect("numbers");
        assert_eq!((sample.values(), sample.counts()), (&[0.0, 2.0, f64::INFINITY][..], &[2, 2, 1][..]));
        assert!(sample.values()[0].is_sign_positive());
        let pairs = [(2.0, 1), (f64::INFINITY, 1), (7.0, 0), (0.0, 2), (2.0, 1)];
        assert_eq!(Sample::from_counts(pairs).expect("numbers"), sample);
        assert_eq!((sample.rows(), sample.distinct(), sample.mean(), sample.std(0)), (5, 3, None, None));
    }

    #[test]
    fn moments_survive_huge_values_and_constants() {
        let sample = Sample::new(&[1e308, 1e308, -1e308, -1e308]).expect("numbers");
        assert_eq!((sample.mean(), sample.std(0)), (Some(0.0), Some(1e308)));
        let constant = Sample::from_counts([(0.1, 1_000_003)]).expect("numbers");
        assert_eq!((constant.mean(), constant.std(1)), (Some(0.1), Some(0.0)));
        // numpy 2.4.6: the deviation does not lose digits to the large mean.
        let shifted = Sample::new(&[1e9, 1e9 + 1.0, 1e9 + 2.0]).expect("numbers");
        assert_eq!((shifted.mean(), shifted.std(1)), (Some(1e9 + 1.0), Some(1.0)));
        let single = Sample::new(&[3.0]).expect("numbers");
        assert_eq!((single.std(0), single.std(1)), (Some(0.0), None));
        assert_eq!(Sample::default().mean(), None);
    }

    #[test]
    fn nan_and_too_many_rows_are_errors() {
        assert!(matches!(Sample::new(&[1.0, f64::NAN]), Err(Error::Value { row: 1, .. })));
        assert!(Sample::from_counts([(f64::NAN, 0)]).is_err());
        assert!(matches!(Sample::from_counts([(1.0, u64::MAX), (2.0, 1)]), Err(Error::TooManyRows { .. })));
    }

    #[test]
    fn merged_samples_have_every_value_once() {
        let (left, right) = (Sample::new(&[1.0, 3.0, 3.0]), Sample::new(&[2.0, 3.0, 4.0]));
        let steps: Vec<Step> = merged(&left.expect("numbers"), &right.expect("numbers")).collect();
        assert_eq!(steps.iter().map(|step| step.value).collect::<Vec<_>>(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(steps.iter().map(|step| step.through).collect::<Vec<_>>(), [[1, 0], [1, 1], [3, 2], [3, 3]]);
        assert_eq!(steps[2].counts, [2, 1]);
    }
}
