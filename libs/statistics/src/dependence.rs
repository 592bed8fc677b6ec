//! Whether one column is a function of another.

use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::{Error, error::check_rows};

/// Chatterjee's rank correlation of `y` given `x`: close to 1 if `y` is a function of `x`, close to 0 if they are independent, whatever
/// the function. It is not symmetric (Chatterjee 2021, "A New Coefficient of Correlation", equation 2).
///
/// Of both columns only the order counts, so that ranks or codes will do. Rows of equal `x` are ordered at random, by `seed`. `None` if
/// `y` is constant.
///
/// # Errors
/// Columns of different lengths; fewer than two rows.
pub fn chatterjee(x: &[u32], y: &[u32], seed: u64) -> Result<Option<f64>, Error> {
    const WHAT: &str = "Chatterjee's rank correlation";
    if x.len() != y.len() {
        return Err(Error::Lengths { what: WHAT, left: x.len(), right: y.len() });
    }
    check_rows(WHAT, 2, y.len())?;
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order.sort_by_key(|&row| x[row]);
    let mut sorted = y.to_vec();
    sorted.sort_unstable();
    let at_most = |value: u32| sorted.partition_point(|&other| other <= value) as f64;
    let below = |value: u32| sorted.partition_point(|&other| other < value) as f64;
    let rows = y.len() as f64;
    let spread: f64 = y.iter().map(|&value| below(value) * (rows - below(value))).sum();
    let steps: f64 = order.windows(2).map(|pair| (at_most(y[pair[1]]) - at_most(y[pair[0]])).abs()).sum();
    Ok((spread > 0.0).then(|| 1.0 - rows * steps / (2.0 * spread)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(x: &[u32], y: &[u32]) -> f64 {
        chatterjee(x, y, 0).expect("valid").expect("y varies")
    }

    #[test]
    fn without_ties_the_value_of_a_function_depends_on_the_rows_alone() {
        // Chatterjee (2021), remark 4: (n - 2) / (n + 1).
        let x: Vec<u32> = (0..200).collect();
        for y in [x.clone(), x.iter().rev().copied().collect()] {
            assert!((of(&x, &y) - 198.0 / 201.0).abs() < 1e-12);
        }
        // By hand: ranks 2, 4, 1, 3 with steps 2, 3, 2; 1 - 4 * 7 / (2 * (0 + 3 + 4 + 3)).
        assert!((of(&[1, 2, 3, 4], &[20, 40, 10, 30]) + 0.4).abs() < 1e-12);
    }

    #[test]
    fn a_function_that_is_not_monotone_is_found_and_its_inverse_is_none() {
        let x: Vec<u32> = (0..1000).collect();
        let y: Vec<u32> = x.iter().map(|x| x.abs_diff(500)).collect();
        assert!(of(&x, &y) > 0.98, "{}", of(&x, &y));
        assert!(of(&y, &x) < 0.6, "{}", of(&y, &x));
    }

    #[test]
    fn rows_of_equal_x_say_nothing_in_whatever_order_they_are() {
        let y: Vec<u32> = (0..1000).map(|row| u32::from(row >= 500)).collect();
        assert!(of(&[7; 1000], &y).abs() < 0.15, "{}", of(&[7; 1000], &y));
        let codes: Vec<u32> = (0..1000).map(|row| row % 10).collect();
        let classes: Vec<u32> = codes.iter().map(|code| u32::from([1, 4, 5].contains(code))).collect();
        assert!(of(&codes, &classes) > 0.98);
    }

    #[test]
    fn undefined_inputs_are_none_or_an_error() {
        assert_eq!(chatterjee(&[1, 2, 3], &[5, 5, 5], 0), Ok(None));
        assert!(chatterjee(&[1], &[1], 0).is_err() && chatterjee(&[1, 2], &[1, 2, 3], 0).is_err());
    }
}
