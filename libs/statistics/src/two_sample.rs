//! Two-sample statistics: distances between two samples of one column, and tests of their significance.
//!
//! Ordered data are two [`Sample`]s, the reference first. The distances are in the unit of the column
//! ([`wasserstein`]) or its square root ([`energy_distance`]), and 0.0, never -0.0, for equal shares; the tests ([`ks`],
//! [`cramer_von_mises`], [`mmd`]) give a p-value that treats both samples as random. Only [`mmd`] compares several
//! columns jointly; its rows are tables.
//!
//! With ties, the p-values of [`ks`] and [`cramer_von_mises`] are those of continuous data and therefore conservative: the tests alarm
//! less often than their level, and never for samples of equal shares. Compare heavily rounded columns as categories.
//!
//! [`drift`](crate::drift) and [`convention`](crate::convention) call most of these. The monitor will call [`mmd`] for several columns at
//! once, and [`cramer_von_mises`] and [`energy_distance`] for the distribution of losses; until then only tests do.

pub mod binning;
pub mod contingency;
mod cramer_von_mises;
pub mod divergence;
mod energy;
mod kolmogorov;
mod kolmogorov_smirnov;
mod mmd;
pub(crate) mod moments;
pub mod proportions;
mod sample;
mod wasserstein;

pub use cramer_von_mises::{CramerVonMises, MAX_EXACT_ROWS, cramer_von_mises};
pub use energy::energy_distance;
pub use kolmogorov::kolmogorov_survival;
pub(crate) use kolmogorov_smirnov::effective_rows;
pub use kolmogorov_smirnov::{Ks, ks, p_value_asymptotic, p_value_exact};
pub use mmd::{LEAST_PERMUTATIONS, MAX_MMD_ROWS, Mmd, MmdSettings, mmd};
pub use sample::{MAX_ROWS, Sample};
pub use wasserstein::wasserstein;

use serde::{Deserialize, Serialize};

/// The result of a test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// The statistic.
    pub statistic: f64,
    /// Probability of a statistic at least as extreme if both samples are from one population.
    pub p_value: f64,
}

/// The method of a p-value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Exact if that is cheap, else asymptotic.
    #[default]
    Auto,
    /// Over all assignments of the rows to the two samples; an error if that takes too long.
    Exact,
    /// From the limiting distribution of large samples.
    Asymptotic,
}
