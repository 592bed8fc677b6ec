//! Multiple testing: adjusts p-values for the number of tests, so that one level holds for all of them together.
//!
//! The monitor will call it for alarms over several columns and slices at once; until then only tests do.
//!
//! | procedure | controls | valid |
//! |---|---|---|
//! | [`Procedure::Bonferroni`] | probability of any false rejection | always |
//! | [`Procedure::Holm`] | the same, with at least as many rejections | always |
//! | [`Procedure::BenjaminiHochberg`] | expected share of false rejections | for independent or positively dependent tests |
//! | [`Procedure::BenjaminiYekutieli`] | the same | always |
//! | [`e_benjamini_hochberg`] | the same, for e-values | always, and at any stopping time |

use crate::{Error, error::check_share};

/// A rule by which p-values are adjusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Procedure {
    /// Times the number of tests (Dunn 1961).
    Bonferroni,
    /// Step-down (Holm 1979): the smallest times the number of tests, the next times one less, and so on.
    Holm,
    /// Step-up (Benjamini and Hochberg 1995, section 3.1).
    BenjaminiHochberg,
    /// Step-up with the harmonic sum as a further factor (Benjamini and Yekutieli 2001, theorem 1.3).
    BenjaminiYekutieli,
}

/// The smallest level at which each test is rejected together with the others, in the given order (Yekutieli and Benjamini
/// 1999). For the two procedures of Benjamini as `scipy.stats.false_discovery_control`. Empty without tests.
///
/// # Errors
/// A p-value outside [0, 1].
pub fn adjusted(p_values: &[f64], procedure: Procedure) -> Result<Vec<f64>, Error> {
    check_probabilities(p_values)?;
    let tests = p_values.len() as f64;
    let harmonic: f64 = (1..=p_values.len()).map(|i| 1.0 / i as f64).sum();
    let factor = |rank: usize| match procedure {
        Procedure::Bonferroni => tests,
        Procedure::Holm => tests - rank as f64,
        Procedure::BenjaminiHochberg => tests / (rank + 1) as f64,
        Procedure::BenjaminiYekutieli => tests / (rank + 1) as f64 * harmonic,
    };
    let order = ascending(p_values);
    let mut in_order: Vec<f64> = order.iter().enumerate().map(|(rank, &test)| p_values[test] * factor(rank)).collect();
    match procedure {
        Procedure::Bonferroni => {}
        // A test is rejected only if all tests with smaller p-values are.
        Procedure::Holm => running(in_order.iter_mut(), f64::max),
        // A test is rejected if any test with a larger p-value is.
        Procedure::BenjaminiHochberg | Procedure::BenjaminiYekutieli => running(in_order.iter_mut().rev(), f64::min),
    }
    let mut values = vec![0.0; p_values.len()];
    for (value, test) in in_order.into_iter().zip(order) {
        values[test] = value.min(1.0);
    }
    Ok(values)
}

/// Which tests are rejected at `level`: those with an adjusted p-value of at most `level`.
///
/// # Errors
/// A p-value outside [0, 1]; a level outside (0, 1).
pub fn rejected(p_values: &[f64], procedure: Procedure, level: f64) -> Result<Vec<bool>, Error> {
    check_share("level", level)?;
    Ok(adjusted(p_values, procedure)?.into_iter().map(|p| p <= level).collect())
}

/// Which hypotheses the e-BH procedure rejects (Wang and Ramdas 2022, "False discovery rate control with
/// e-values", section 4.1): the `k` largest e-values, for the largest `k` for which all of them are at least `tests / (k
/// level)`. Independence is not required. An e-value may be infinite.
///
/// # Errors
/// An e-value that is negative or NaN; a level outside (0, 1).
pub fn e_benjamini_hochberg(e_values: &[f64], level: f64) -> Result<Vec<bool>, Error> {
    check_share("level", level)?;
    if let Some(row) = e_values.iter().position(|e| e.is_nan() || *e < 0.0) {
        let value = e_values[row];
        return Err(Error::Value { what: "e-values", row, value, expected: "a number of at least 0" });
    }
    let mut order = ascending(e_values);
    order.reverse();
    let enough = |rank: usize| e_values[order[rank]] * (rank + 1) as f64 * level >= e_values.len() as f64;
    let rejections = (0..order.len()).rev().find(|&rank| enough(rank)).map_or(0, |rank| rank + 1);
    let mut rejected = vec![false; e_values.len()];
    for &test in &order[..rejections] {
        rejected[test] = true;
    }
    Ok(rejected)
}

/// Indices of the values in ascending order. No value may be NaN.
fn ascending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    order
}

/// Replaces every value by the extreme of all values up to it.
fn running<'a>(values: impl Iterator<Item = &'a mut f64>, extreme: fn(f64, f64) -> f64) {
    let mut so_far = None;
    for value in values {
        *value = so_far.map_or(*value, |before| extreme(before, *value));
        so_far = Some(*value);
    }
}

fn check_probabilities(p_values: &[f64]) -> Result<(), Error> {
    match p_values.iter().position(|p| !(0.0..=1.0).contains(p)) {
        Some(row) => {
            Err(Error::Value { what: "p-values", row, value: p_values[row], expected: "a number from 0 to 1" })
        }
        None => Ok(()),
    }
}
