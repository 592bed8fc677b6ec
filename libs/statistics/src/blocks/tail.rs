//! The tail of the distribution of distances.

use statrs::{
    distribution::{ChiSquared, ContinuousCDF as _, StudentsT},
    function::gamma::ln_gamma,
};

/// Steps of the integration; the error is below 1e-3 of the result.
const STEPS: usize = 128;

/// The probability that `between * t^2 + noise * chi^2` exceeds `distance`, where `t` has Student's distribution with `freedom` degrees of
/// freedom and `chi^2` a chi-square distribution with `others`; the two are independent.
///
/// The integral over the chi distribution, by Simpson's rule.
pub(super) fn tail(distance: f64, between: f64, freedom: f64, noise: f64, others: usize) -> f64 {
    if distance <= 0.0 {
        return 1.0;
    }
    let Ok(student) = StudentsT::new(0.0, 1.0, freedom) else { return 1.0 };
    let two_sided = |rest: f64| 2.0 * student.sf((rest.max(0.0) / between).sqrt());
    let Ok(chi_squared) = ChiSquared::new(others as f64) else { return two_sided(distance) };
    if noise <= 0.0 {
        return two_sided(distance);
    }
    let k = others as f64;
    // Beyond ten standard deviations, and more for few degrees of freedom, nothing is left.
    let end = (distance / noise).min(k + 10.0 * (2.0 * k).sqrt() + 100.0);
    let ln_scale = (k / 2.0 - 1.0) * std::f64::consts::LN_2 + ln_gamma(k / 2.0);
    let integrand = |z: f64| match z {
        0.0 if others > 1 => 0.0,
        _ => {
            ((k - 1.0) * z.max(f64::MIN_POSITIVE).ln() - z * z / 2.0 - ln_scale).exp()
                * two_sided(distance - noise * z * z)
        }
    };
    // By the angle whose sine is proportional to chi, the integrand is smooth at its end.
    let step = std::f64::consts::FRAC_PI_2 / STEPS as f64;
    let at_angle = |angle: f64| integrand(end.sqrt() * angle.sin()) * end.sqrt() * angle.cos();
    let weighted = (0..=STEPS).map(|index| {
        let weight = match index {
            0 | STEPS => 1.0,
            _ if index % 2 == 1 => 4.0,
            _ => 2.0,
        };
        weight * at_angle(index as f64 * step)
    });
    (weighted.sum::<f64>() * step / 3.0 + chi_squared.sf(end)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tails_are_those_of_the_parts() {
        // Student's t with 5 degrees of freedom exceeds 4 on either side with 0.010323 (scipy 1.17).
        assert!((tail(16.0, 1.0, 5.0, 1e-9, 3) - 0.010_323).abs() < 1e-5);
        // Chi-square with 9 + 1 degrees of freedom exceeds 30 with 8.5664e-4.
        let chi_square = tail(30.0, 1.0, 1e8, 1.0, 9);
        assert!((chi_square / 8.566_4e-4 - 1.0).abs() < 1e-3, "{chi_square}");
    }

    #[test]
    fn a_sum_is_between_its_parts() {
        for (distance, between, freedom, noise, others) in [
            (40.0, 1.0, 7.0, 0.5, 9),
            (10.0, 0.1, 15.0, 0.1, 1),
            (500.0, 2.0, 0.1, 1.0, 30),
            (3.0, 0.5, 49.0, 0.01, 12),
        ] {
            let alone = tail(distance, between, freedom, 0.0, others);
            let sum = tail(distance, between, freedom, noise, others);
            let shifted = tail(distance - noise * (others as f64 + 40.0), between, freedom, 0.0, others);
            assert!(alone < sum && sum <= shifted + 1e-6, "{alone} {sum} {shifted}");
        }
        assert_eq!((tail(0.0, 1.0, 3.0, 1.0, 2), tail(-1.0, 1.0, 3.0, 1.0, 2)), (1.0, 1.0));
    }
}
