//! The numbers that rekindle decides by: whether data have moved and which columns are to blame, how good a model is, whether a
//! challenger is better, whether losses have risen.
//!
//! Values and counts in, numbers out. Nothing here reads a clock, a file or a random source (a seed is an argument), and no
//! function needs a model or a table. Each family has its own module, of pure functions whose documentation names the
//! convention, the formula's source and the edge cases:
//!
//! - [`drift`]: a window against a reference: drifted, stable, or cannot tell, and why; [`cause`]: which columns are to blame;
//! - [`profile`]: what is remembered of a table's columns, small enough to travel in a bundle, on the mergeable summaries of [`sketch`];
//! - [`two_sample`]: the statistics between two samples one by one; [`convention`]: the same as other tools bin and normalise them;
//! - [`multiple`]: many tests at once;
//! - [`stream`]: detectors that take one value at a time, and tests that may be looked at after every row;
//! - [`quality`]: log loss, AUC, accuracy, Brier score, MAE, RMSE, R2;
//! - [`paired`]: the mean improvement of one model over another on the same rows;
//! - [`rise`]: whether a window's mean loss lies above a reference.
//!
//! Conventions shared by all families:
//! - an input that has no answer gives an [`Error`] or `None`. No result is NaN, and none is infinite unless its
//!   documentation says when (a divergence between shares of which one is zero, an odds ratio); nothing panics on
//!   numbers of any kind;
//! - a p-value treats both samples as random, unless its documentation says otherwise: the reference is a sample too;
//! - "cannot tell" is an answer. It comes with the smallest effect that could have been seen;
//! - the result does not depend on the order of the rows, save for the last bits of a sum. Where the order is part of
//!   the question it does: in [`stream`] and in [`paired::improvement_in_order`].

pub mod cause;
pub mod convention;
pub mod drift;
mod error;
pub mod multiple;
pub mod paired;
pub mod profile;
pub mod quality;
pub mod rise;
pub mod sketch;
pub mod stream;
pub mod two_sample;

pub use error::Error;
