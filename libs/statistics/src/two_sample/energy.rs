use super::{Sample, wasserstein};
use crate::Error;

/// The energy distance, in the square root of the values' unit: `sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|)`, where X and X' are random
/// rows of the reference and Y and Y' of the window (Szekely and Rizzo 2013, "Energy statistics: a class of
/// statistics based on distances").
///
/// In one dimension it is `sqrt(2 * integral of (F - G)^2)` over the two empirical distribution functions, and is computed in this
/// form; as `scipy.stats.energy_distance`. Like [`wasserstein()`](super::wasserstein()), it is 0 only for samples of equal shares.
///
/// # Errors
/// A sample without rows; an infinite value.
pub fn energy_distance(reference: &Sample, window: &Sample) -> Result<f64, Error> {
    wasserstein::check("energy distance", reference, window)?;
    let scale = wasserstein::scale(reference, window);
    let strips = wasserstein::strips(reference, window, scale);
    let area = strips.fold(0.0, |area, (width, height)| area + width * height * height);
    Ok((2.0 * area).sqrt() / scale.sqrt())
}
