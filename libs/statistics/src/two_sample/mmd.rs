use std::cmp::Ordering;

use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use super::moments::Moments;
use crate::{
    Error,
    error::{check_finite, check_option, check_rows, check_size},
};

/// The most rows of both samples together: the kernel of every pair is held in memory, 32 MiB for so many.
pub const MAX_MMD_ROWS: u64 = 2048;

/// The fewest regroupings: with fewer no p-value is as small as 0.05.
pub const LEAST_PERMUTATIONS: u32 = 19;

const WHAT: &str = "maximum mean discrepancy";

/// How the test is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MmdSettings {
    /// Random regroupings of the rows that the statistic is compared with, at least [`LEAST_PERMUTATIONS`]. The
    /// smallest p-value is 1 / (permutations + 1).
    pub permutations: u32,
    /// Seed of the regroupings: the same seed gives the same p-value.
    pub seed: u64,
}

impl Default for MmdSettings {
    fn default() -> Self {
        Self { permutations: 199, seed: 0 }
    }
}

/// Whether two samples of several columns have one joint distribution. No number is NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mmd {
    /// The unbiased estimate of the squared discrepancy: about 0 for equal distributions, at times below, at most 2.
    pub statistic: f64,
    /// Share of the regroupings, the one observed among them, whose statistic is at least as large.
    pub p_value: f64,
    /// The Gaussian kernel's standard deviation, in standardised columns.
    pub bandwidth: f64,
}

/// The kernel two-sample test of Gretton et al. (2012), "A kernel two-sample test", JMLR 13: the unbiased quadratic estimate
/// (their lemma 6) with a Gaussian kernel whose bandwidth is the median distance between pooled rows (their section 8).
/// It finds a change of dependence between columns that no single column shows.
///
/// Both samples are tables in row-major order with the same `columns`. Each column is divided by its standard
/// deviation over the pooled rows, so that units do not matter; a constant column has no say. The p-value is `(b + 1)
/// / (B + 1)`, b of B random regroupings being at least as far apart (Phipson and Smyth 2010), and so is never 0 and
/// holds at any size. The result depends neither on the order of the rows nor on which sample comes first: both are
/// put in an order of their own before anything is drawn.
///
/// Edge cases. A single value far beyond all others (1e300 among values of one) makes the deviation of its column so
/// large that all else in the column is equal: the test is blind to it. Clip such values first. Time and
/// memory grow with the square of the rows; of larger tables, give a random subsample.
///
/// # Errors
/// No columns, or values that are not whole rows; fewer than two rows in a sample; more than [`MAX_MMD_ROWS`] together; a value
/// that is not finite; fewer than [`LEAST_PERMUTATIONS`].
pub fn mmd(reference: &[f64], window: &[f64], columns: usize, settings: &MmdSettings) -> Result<Mmd, Error> {
    let (n, m) = (check_table(reference, columns)?, check_table(window, columns)?);
    check_size(WHAT, MAX_MMD_ROWS, (n + m) as u64)?;
    let permutations = f64::from(settings.permutations);
    let enough = settings.permutations >= LEAST_PERMUTATIONS;
    check_option("permutations of the kernel test", permutations, enough, "at least 19")?;
    let pooled = standardised(in_own_order(reference, window, columns), columns);
    let mut matrix = squared_distances(&pooled, columns, n + m);
    let bandwidth = median_distance(&matrix, n + m);
    matrix.iter_mut().for_each(|distance| *distance = (-*distance / (2.0 * bandwidth * bandwidth)).exp());
    let kernel = Kernel::new(matrix, n + m);
    let mut order: Vec<usize> = (0..n + m).collect();
    let smaller = n.min(m);
    let observed = kernel.discrepancy(&order[..smaller]);
    let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
    let regrouped = (0..settings.permutations).filter(|_| {
        let (group, _) = order.partial_shuffle(&mut random, smaller);
        // Equal up to the order of their sums is equal.
        kernel.discrepancy(group) >= observed - 1e-12
    });
    let p_value = (regrouped.count() as f64 + 1.0) / (permutations + 1.0);
    Ok(Mmd { statistic: observed, p_value, bandwidth })
}

/// All rows in one table: those of the smaller sample first, which is the cheaper one to visit, and each sample's
/// ascending. Of samples of one size the first
/// is the one whose rows are.
fn in_own_order(reference: &[f64], window: &[f64], columns: usize) -> Vec<f64> {
    let [mut first, mut second] = [reference, window].map(|table| {
        let mut rows: Vec<&[f64]> = table.chunks_exact(columns).collect();
        rows.sort_unstable_by(|left, right| compare(left, right));
        rows.concat()
    });
    if first.len().cmp(&second.len()).then_with(|| compare(&first, &second)) == Ordering::Greater {
        std::mem::swap(&mut first, &mut second);
    }
    first.append(&mut second);
    first
}

/// By the first values that differ; 0.0 and -0.0 do not.
fn compare(left: &[f64], right: &[f64]) -> Ordering {
    let pairs = left.iter().zip(right).map(|(left, right)| (left + 0.0).total_cmp(&(right + 0.0)));
    pairs.fold(Ordering::Equal, Ordering::then)
}

fn check_table(values: &[f64], columns: usize) -> Result<usize, Error> {
    if columns == 0 || !values.len().is_multiple_of(columns) {
        return Err(Error::Ragged { what: WHAT, values: values.len(), columns });
    }
    check_rows(WHAT, 2, values.len() / columns)?;
    check_finite(WHAT, values)?;
    Ok(values.len() / columns)
}

/// Each column less its mean, over its standard deviation (divisor n); a constant column is 0.
fn standardised(mut rows: Vec<f64>, columns: usize) -> Vec<f64> {
    for column in 0..columns {
        let cells = || (column..rows.len()).step_by(columns);
        let Some(moments) = Moments::of(cells().map(|cell| (rows[cell], 1.0))) else { continue };
        let standardise = |value: f64| if moments.vary() { moments.standardised(value) } else { 0.0 };
        cells().for_each(|cell| rows[cell] = standardise(rows[cell]));
    }
    rows
}

/// The squared distance between every two rows: a symmetric matrix, row by row.
fn squared_distances(rows: &[f64], columns: usize, count: usize) -> Vec<f64> {
    let mut matrix = vec![0.0; count * count];
    for (i, left) in rows.chunks_exact(columns).enumerate() {
        for (j, right) in rows.chunks_exact(columns).enumerate().take(i) {
            let distance = left.iter().zip(right).map(|(l, r)| (l - r) * (l - r)).sum();
            (matrix[i * count + j], matrix[j * count + i]) = (distance, distance);
        }
    }
    matrix
}

/// The median distance between two rows that differ; 1 if none do.
fn median_distance(squares: &[f64], count: usize) -> f64 {
    let pairs = (0..count).flat_map(|i| &squares[i * count..i * count + i]);
    let mut positive: Vec<f64> = pairs.copied().filter(|square| *square > 0.0).collect();
    if positive.is_empty() {
        return 1.0;
    }
    let middle = positive.len() / 2;
    positive.select_nth_unstable_by(middle, f64::total_cmp).1.sqrt()
}

/// The kernel of every two rows, with the sums that a regrouping leaves as they are.
struct Kernel {
    matrix: Vec<f64>,
    count: usize,
    /// Of each row, the kernel with all others.
    sums: Vec<f64>,
    total: f64,
}

impl Kernel {
    fn new(matrix: Vec<f64>, count: usize) -> Self {
        // The kernel of a row with itself is 1 and has no part in the estimate.
        let sums: Vec<f64> = matrix.chunks_exact(count).map(|row| row.iter().sum::<f64>() - 1.0).collect();
        let total = sums.iter().sum();
        Self { matrix, count, sums, total }
    }

    /// The estimate for `group` against all other rows. Only pairs within the group are visited; the rest follows from the
    /// sums.
    fn discrepancy(&self, group: &[usize]) -> f64 {
        let (n, m) = (group.len() as f64, (self.count - group.len()) as f64);
        let with_earlier = |(at, row): (usize, &usize)| {
            let kernels = &self.matrix[row * self.count..(row + 1) * self.count];
            group[..at].iter().map(|other| kernels[*other]).sum::<f64>()
        };
        let within = 2.0 * group.iter().enumerate().map(with_earlier).sum::<f64>();
        let across = group.iter().map(|row| self.sums[*row]).sum::<f64>() - within;
        let others = self.total - within - 2.0 * across;
        within / (n * (n - 1.0)) + others / (m * (m - 1.0)) - 2.0 * across / (n * m)
    }
}
