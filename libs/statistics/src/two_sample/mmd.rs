use std::cmp::Ordering;

use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use super::moments::Moments;
use crate::{
    Error,
    error::{check_finite, check_option, check_rows, check_size},
};

/// The largest number of rows of both samples together: the kernel matrix of that many takes 32 MiB of memory.
pub const MAX_MMD_ROWS: u64 = 2048;

/// The smallest number of permutations: with fewer, no p-value is as small as 0.05.
pub const LEAST_PERMUTATIONS: u32 = 19;

const WHAT: &str = "maximum mean discrepancy";

/// The settings of the test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MmdSettings {
    /// Random permutations of the rows with which the statistic is compared, at least [`LEAST_PERMUTATIONS`]. The
    /// smallest p-value is 1 / (permutations + 1).
    pub permutations: u32,
    /// Seed of the permutations: the same seed gives the same p-value.
    pub seed: u64,
}

impl Default for MmdSettings {
    fn default() -> Self {
        Self { permutations: 199, seed: 0 }
    }
}

/// The result of the kernel two-sample test. No number is NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mmd {
    /// The unbiased estimate of the squared discrepancy: about 0 for equal distributions, possibly negative, at most 2.
    pub statistic: f64,
    /// Share of the permutations, including the observed grouping, whose statistic is at least as large.
    pub p_value: f64,
    /// The standard deviation of the Gaussian kernel, in standardised columns.
    pub bandwidth: f64,
}

/// The kernel two-sample test of Gretton et al. (2012), "A kernel two-sample test", JMLR 13: the unbiased quadratic estimate
/// (their lemma 6) with a Gaussian kernel whose bandwidth is the median distance between pooled rows (their section 8).
/// It detects a change of the dependence between columns, which no test of a single column detects.
///
/// Both samples are tables in row-major order with the same `columns`. Each column is divided by its standard
/// deviation over the pooled rows, so that units do not matter; constant columns have no influence. The p-value is `(b + 1)
/// / (B + 1)`, where b of B random permutations have at least the observed discrepancy (Phipson and Smyth 2010); it is never 0 and
/// valid at any size. The result depends neither on the order of the rows nor on the order of the samples: both are
/// sorted before the permutations are drawn.
///
/// Edge cases. An extreme outlier (1e300 among values of about 1) makes the deviation of its column so
/// large that all other values of the column are equal to the test. Clip such values first. Time and
/// memory grow with the square of the rows; use a random subsample of larger tables.
///
/// # Errors
/// No columns, or an incomplete row; fewer than two rows in a sample; more than [`MAX_MMD_ROWS`] together; a value
/// that is not finite; fewer than [`LEAST_PERMUTATIONS`] permutations.
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
        // Sums of the same terms in another order count as equal.
        kernel.discrepancy(group) >= observed - 1e-12
    });
    let p_value = (regrouped.count() as f64 + 1.0) / (permutations + 1.0);
    Ok(Mmd { statistic: observed, p_value, bandwidth })
}

/// All rows in one table: those of the smaller sample first, since it costs less to visit, with the rows of each sample ascending. Of
/// samples of equal size the first is the one with the smaller rows.
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

/// Lexicographic order, with 0.0 equal to -0.0.
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

/// Each column minus its mean, divided by its standard deviation (divisor n); 0 for a constant column.
fn standardised(mut rows: Vec<f64>, columns: usize) -> Vec<f64> {
    for column in 0..columns {
        let cells = || (column..rows.len()).step_by(columns);
        let Some(moments) = Moments::of(cells().map(|cell| (rows[cell], 1.0))) else { continue };
        let standardise = |value: f64| if moments.vary() { moments.standardised(value) } else { 0.0 };
        cells().for_each(|cell| rows[cell] = standardise(rows[cell]));
    }
    rows
}

/// The squared distances of all pairs of rows: a symmetric matrix in row-major order.
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

/// The median distance between distinct rows; 1 if all are equal.
fn median_distance(squares: &[f64], count: usize) -> f64 {
    let pairs = (0..count).flat_map(|i| &squares[i * count..i * count + i]);
    let mut positive: Vec<f64> = pairs.copied().filter(|square| *square > 0.0).collect();
    if positive.is_empty() {
        return 1.0;
    }
    let middle = positive.len() / 2;
    positive.select_nth_unstable_by(middle, f64::total_cmp).1.sqrt()
}

/// The kernel matrix, with the sums that no permutation changes.
struct Kernel {
    matrix: Vec<f64>,
    count: usize,
    /// The sum of the kernel of each row with all others.
    sums: Vec<f64>,
    total: f64,
}

impl Kernel {
    fn new(matrix: Vec<f64>, count: usize) -> Self {
        // The kernel of a row with itself is 1 and not part of the estimate.
        let sums: Vec<f64> = matrix.chunks_exact(count).map(|row| row.iter().sum::<f64>() - 1.0).collect();
        let total = sums.iter().sum();
        Self { matrix, count, sums, total }
    }

    /// The estimate for `group` and all other rows. Only pairs within the group are visited; the rest follows from the
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
