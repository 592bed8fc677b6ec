//! The statistics behind every decision of rekindle: data drift and its attribution to columns, model quality, champion against
//! challenger, degradation.
//!
//! The inputs are values and counts, the results are numbers. Nothing here reads a clock, a file or a random source (a seed is an
//! argument), and no function needs a model or a table. Each family has a module of pure functions, whose documentation names the
//! convention, the source of the formula and the edge cases:
//!
//! - [`blocks`]: how much the periods of the reference data differ from each other;
//! - [`drift`]: compares a window with a reference: drifted, stable or inconclusive, with a reason; [`cause`]: attributes the shift to
//!   columns, and [`effect`] says what the shift of one column does to predictions and loss;
//! - [`profile`]: summaries of the columns of a table, small enough for a model bundle, built on the mergeable sketches of [`sketch`];
//! - [`dependence`]: whether one column is a function of another; [`association`]: whether two series rise and fall together;
//!   [`correlation`]: whether the correlations of columns changed;
//! - [`two_sample`]: single two-sample statistics; [`convention`]: the same with the bins and normalisation of other tools;
//! - [`multiple`]: correction for multiple tests;
//! - [`stream`]: change detectors that take one value at a time, and sequential tests that are valid after every row;
//! - [`quality`]: log loss, AUC, accuracy, Brier score, MAE, RMSE, R2;
//! - [`paired`]: the mean improvement of one model over another on the same rows;
//! - [`performance`]: the metrics of a window as expected from its predictions alone;
//! - [`prediction`]: where the next value of a sample is expected;
//! - [`rise`]: whether the mean loss of a window is above a reference; [`slices`]: of which part of the rows it rose most.
//!
//! Conventions shared by all families:
//! - an input for which a statistic is undefined gives an [`Error`] or `None`. No result is NaN, and none is infinite unless its
//!   documentation states when (a divergence between shares of which one is zero, an odds ratio); no number causes a panic;
//! - a p-value treats both samples as random, unless its documentation says otherwise: the reference is a sample too;
//! - a comparison can be inconclusive. It then states the smallest detectable effect;
//! - the result does not depend on the order of the rows, except for the last bits of a sum. The exceptions, where the order
//!   matters, are [`stream`], [`performance`], [`slices`] and [`paired::improvement_in_order`].

pub mod association;
pub mod blocks;
pub mod cause;
pub mod convention;
pub mod correlation;
pub mod dependence;
pub mod drift;
pub mod effect;
mod error;
pub mod multiple;
pub mod paired;
pub mod performance;
pub mod prediction;
pub mod profile;
pub mod quality;
pub mod rise;
pub mod sketch;
pub mod slices;
pub mod stream;
pub mod two_sample;

pub use error::Error;
