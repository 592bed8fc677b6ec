//! Comparison of proportions in two samples: a large-sample test and an exact test.

use super::contingency::upper_tail;
use crate::{Error, error::check_size};

/// The hits among the rows of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The hits; at most `rows`.
    pub hits: u64,
    /// All rows.
    pub rows: u64,
}

/// The two-proportion z-test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ZTest {
    /// Difference of the shares, window minus reference, in standard errors.
    pub statistic: f64,
    /// Probability of a difference at least this large in either direction if the shares are equal.
    pub p_value: f64,
}

/// Tests whether two shares differ, with the variance of the pooled share (Fleiss, Levin and Paik 2003, section 3.1, without
/// continuity correction). Its square is Pearson's chi-square of the same table. Valid for at least ten hits and ten misses
/// on each side.
///
/// If all rows are hits or none is, the shares are equal: statistic 0, p 1.
///
/// # Errors
/// A side without rows; more hits than rows.
pub fn two_proportions(reference: Part, window: Part) -> Result<ZTest, Error> {
    const WHAT: &str = "two-proportion z-test";
    check(WHAT, reference)?;
    check(WHAT, window)?;
    let (n, m) = (reference.rows as f64, window.rows as f64);
    let pooled = (reference.hits as f64 + window.hits as f64) / (n + m);
    let variance = pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m);
    if variance <= 0.0 {
        return Ok(ZTest { statistic: 0.0, p_value: 1.0 });
    }
    let statistic = (window.hits as f64 / m - reference.hits as f64 / n) / variance.sqrt();
    // The square of a standard normal variable is chi-square, so both tails together are its upper tail.
    Ok(ZTest { statistic, p_value: upper_tail(statistic * statistic, 1) })
}

/// Fisher's exact test of a table of two by two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fisher {
    /// Sample odds ratio, reference to window: `(hits / misses) / (hits / misses)`; infinite if a denominator is zero,
    /// absent if all rows are hits or none is.
    pub odds_ratio: Option<f64>,
    /// Probability of a table at most as probable as this one if the shares are equal.
    pub p_value: f64,
    /// Twice the probability of the smaller tail, at most 1: the other common two-sided p-value, at least half of
    /// `p_value`.
    pub doubled_tail: f64,
}

/// The largest number of rows of both sides together for [`fisher_exact`]: at most about 10^7 steps.
pub const MOST_ROWS: u64 = 1 << 40;

/// Fisher's exact test (Fisher 1935, "The logic of inductive inference"), two-sided: given the sums of the table, the
/// probability of all tables that are at most as probable as the observed one. As `scipy.stats.fisher_exact`. Valid for any
/// counts; the time grows with the square root of the rows. P-values below 1e-290 are given as 0.
///
/// If all rows are hits or none is, only one table is possible: p 1.
///
/// # Errors
/// A side without rows; more hits than rows; more than [`MOST_ROWS`] rows.
pub fn fisher_exact(reference: Part, window: Part) -> Result<Fisher, Error> {
    const WHAT: &str = "Fisher's exact test";
    check(WHAT, reference)?;
    check(WHAT, window)?;
    check_size(WHAT, MOST_ROWS, reference.rows.saturating_add(window.rows))?;
    let tables = Tables::new(reference, window);
    let Tails { alike, at_most, at_least } = tails(&tables, reference.hits);
    let doubled_tail = (2.0 * f64::min(at_most, at_least)).min(1.0);
    Ok(Fisher { odds_ratio: odds_ratio(reference, window), p_value: alike.min(1.0), doubled_tail })
}

fn odds_ratio(reference: Part, window: Part) -> Option<f64> {
    let (a, b) = (reference.hits as f64, (reference.rows - reference.hits) as f64);
    let (c, d) = (window.hits as f64, (window.rows - window.hits) as f64);
    if a + c == 0.0 || b + d == 0.0 {
        return None;
    }
    Some(if b * c > 0.0 { a * d / (b * c) } else { f64::INFINITY })
}

/// All tables with the sums of the observed one, by the hits of the reference: a hypergeometric
/// distribution.
struct Tables {
    hits: f64,
    reference_rows: f64,
    rows: f64,
    least: u64,
    most: u64,
}

impl Tables {
    fn new(reference: Part, window: Part) -> Self {
        let hits = reference.hits + window.hits;
        Self {
            hits: hits as f64,
            reference_rows: reference.rows as f64,
            rows: (reference.rows + window.rows) as f64,
            least: hits.saturating_sub(window.rows),
            most: hits.min(reference.rows),
        }
    }

    fn mode(&self) -> u64 {
        let mode = (self.hits + 1.0) * (self.reference_rows + 1.0) / (self.rows + 2.0);
        (mode as u64).clamp(self.least, self.most)
    }

    /// Ratio of the probabilities of `x + 1` and `x` hits in the reference.
    fn step_up(&self, x: u64) -> f64 {
        let x = x as f64;
        (self.hits - x) / (x + 1.0)
            * ((self.reference_rows - x) / (self.rows - self.hits - self.reference_rows + x + 1.0))
    }

    /// Tables from the mode upwards with their weights, relative to the mode, until they are negligible.
    fn upwards(&self) -> impl Iterator<Item = (u64, f64)> + '_ {
        let start = (self.mode(), 1.0);
        let next = |&(x, weight): &(u64, f64)| (x < self.most).then(|| (x + 1, weight * self.step_up(x)));
        std::iter::successors(Some(start), next).take_while(|(_, weight)| *weight > NEGLIGIBLE)
    }

    /// Tables from the mode downwards, without the mode, as [`Tables::upwards`].
    fn downwards(&self) -> impl Iterator<Item = (u64, f64)> + '_ {
        let start = (self.mode(), 1.0);
        let next = |&(x, weight): &(u64, f64)| (x > self.least).then(|| (x - 1, weight / self.step_up(x - 1)));
        std::iter::successors(Some(start), next).skip(1).take_while(|(_, weight)| *weight > NEGLIGIBLE)
    }
}

/// The weight, relative to the most probable table, below which tables are omitted.
const NEGLIGIBLE: f64 = 1e-300;

/// Tolerance within which weights count as equal, since those of equally probable tables differ by rounding.
const EQUAL: f64 = 1.0 + 1e-10;

struct Tails {
    alike: f64,
    at_most: f64,
    at_least: f64,
}

/// The weights are computed by recurrence from the mode outwards and divided by their sum, which keeps thirteen digits, while
/// logarithms of factorials of 10^7 keep eight.
fn tails(tables: &Tables, seen: u64) -> Tails {
    let walk = || tables.upwards().chain(tables.downwards());
    let weight_seen = walk().find(|(x, _)| *x == seen).map_or(0.0, |(_, weight)| weight);
    let (mut total, mut sums) = (0.0, Tails { alike: 0.0, at_most: 0.0, at_least: 0.0 });
    for (x, weight) in walk() {
        total += weight;
        if weight <= weight_seen * EQUAL {
            sums.alike += weight;
        }
        if x <= seen {
            sums.at_most += weight;
        }
        if x >= seen {
            sums.at_least += weight;
        }
    }
    Tails { alike: sums.alike / total, at_most: sums.at_most / total, at_least: sums.at_least / total }
}

fn check(what: &'static str, part: Part) -> Result<(), Error> {
    if part.rows == 0 {
        return Err(Error::TooFewRows { what, need: 1, got: 0 });
    }
    if part.hits > part.rows {
        return Err(Error::Part { what, hits: part.hits, rows: part.rows });
    }
    Ok(())
}
