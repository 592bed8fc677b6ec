//! Two samples of one column: how far apart are they, and could chance alone have made it so?
//!
//! Ordered data come as two [`Sample`]s, the reference first. The distances are in the unit of the column
//! ([`wasserstein`]) or its square root ([`energy_distance`]), and 0.0, never -0.0, for equal shares; the tests ([`ks`],
//! [`cramer_von_mises`], [`mmd`]) give a p-value that takes both samples as drawn. [`mmd`] alone looks at several
//! columns together, and its rows come as tables.
//!
//! Where values tie, the p-values of [`ks`] and [`cramer_von_mises`] are those of continuous data, and so rather too large
//! than too small: the tests alarm less often than they say, and never for samples of equal shares. Heavily rounded
//! columns are better compared as categories.

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

/// A test's result.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// The statistic.
    pub statistic: f64,
    /// Chance of one at least as extreme if both samples are from one population.
    pub p_value: f64,
}

/// How a p-value is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Exact where that is cheap, else asymptotic.
    #[default]
    Auto,
    /// Over all ways in which the rows could have fallen to the two samples; refused where that takes too long.
    Exact,
    /// From the distribution that large samples tend to.
    Asymptotic,
}
