//! The numbers that rekindle decides by: how good a model is, whether its inputs have moved, whether
//! a challenger is better, whether losses have risen.
//!
//! Slices and counts in, numbers out. Nothing here reads a clock, a file or a random source, and no
//! function needs a model or a table. Each family of statistics has its own module, of pure functions whose
//! documentation names the formula and its source:
//!
//! - [`quality`]: log loss, AUC, accuracy, Brier score, MAE, RMSE, R2;
//! - [`profile`]: what a column looked like in training, small enough to travel in a bundle, and the counts
//!   of a later window over the same bins;
//! - [`drift`]: a window against a profile: drifted, stable, or cannot tell;
//! - [`paired`]: the mean improvement of one model over another on the same rows;
//! - [`rise`]: whether a window's mean loss lies above a reference.
//!
//! Conventions shared by all families:
//! - an input that has no answer gives an [`Error`] or `None`, never NaN, and never a panic;
//! - a p-value treats both samples as random: the reference is a sample too;
//! - "cannot tell" is an answer. It comes with the smallest effect that could have been seen;
//! - the result does not depend on the order of the rows, save for the last bits of a sum.

pub mod drift;
mod error;
pub mod paired;
pub mod profile;
pub mod quality;
pub mod rise;

pub use error::Error;
