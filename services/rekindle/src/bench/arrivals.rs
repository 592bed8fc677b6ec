//! The arrivals of an open loop.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// A Poisson process: the times from its start at which requests are due, in order, without end. Equal seeds give equal times.
#[derive(Debug)]
pub(crate) struct Arrivals {
    random: ChaCha8Rng,
    /// Arrivals per second.
    rate: f64,
    /// The time of the last arrival, in seconds.
    at: f64,
}

impl Arrivals {
    /// Arrivals with the mean `rate` per second, greater than 0.
    pub(crate) fn new(rate: f64, seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), rate, at: 0.0 }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // The gaps of a Poisson process have the exponential distribution, here by inversion. 1 - u is in (0, 1].
        let u: f64 = self.random.random();
        self.at += -(1.0 - u).ln() / self.rate;
        Duration::try_from_secs_f64(self.at).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 1000.0;
    const SECONDS: usize = 1000;

    /// The arrivals of each of the first seconds.
    fn counts(seed: u64) -> Vec<f64> {
        let mut counts = vec![0.0; SECONDS];
        for at in Arrivals::new(RATE, seed) {
            match counts.get_mut(usize::try_from(at.as_secs()).expect("small")) {
                Some(count) => *count += 1.0,
                None => break,
            }
        }
        counts
    }

    /// Mean and variance of the counts are those of a Poisson distribution, within five standard errors: the mean of n counts has the
    /// standard error sqrt(rate / n), and the variance has about rate * sqrt(2 / n).
    #[test]
    fn counts_per_second_have_the_mean_and_the_variance_of_a_poisson_distribution() {
        let n = SECONDS as f64;
        for seed in 0..5 {
            let counts = counts(seed);
            let mean = counts.iter().sum::<f64>() / n;
            let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / (n - 1.0);
            assert!((mean - RATE).abs() < 5.0 * (RATE / n).sqrt(), "seed {seed}: mean {mean}");
            assert!((variance - RATE).abs() < 5.0 * RATE * (2.0 / n).sqrt(), "seed {seed}: variance {variance}");
        }
    }

    /// The share of gaps above x is exp(-rate x), within five standard errors of a binomial share.
    #[test]
    fn gaps_have_an_exponential_distribution() {
        const GAPS: usize = 100_000;
        let times: Vec<Duration> = Arrivals::new(RATE, 7).take(GAPS + 1).collect();
        assert!(times.is_sorted());
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        for mean_gaps in [0.1, 0.5, 1.0, 2.0, 4.0] {
            let expected = f64::exp(-mean_gaps);
            let share = gaps.iter().filter(|&&gap| gap > mean_gaps / RATE).count() as f64 / GAPS as f64;
            let error = (expected * (1.0 - expected) / GAPS as f64).sqrt();
            assert!((share - expected).abs() < 5.0 * error, "above {mean_gaps} mean gaps: {share}, not {expected}");
        }
    }

    #[test]
    fn equal_seeds_give_equal_arrivals() {
        let first = |seed| Arrivals::new(RATE, seed).take(100).collect::<Vec<_>>();
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }
}
