//! What a load measured.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use super::failure::{Failure, Failures, Kind};

/// Quantiles are exact to three digits.
const DIGITS: u8 = 3;
/// Times are counted in nanoseconds up to this.
const LONGEST: Duration = Duration::from_secs(3600);

/// The requests of a load, and how long they took. Requests of the warm-up are counted, and nothing else is known of them.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Requests of the warm-up.
    pub warm_up: u64,
    /// Answered requests.
    pub answered: u64,
    /// Failed requests by kind.
    pub failures: Failures,
    /// From the time at which a request was due to its answer, in nanoseconds. A request without an answer within the timeout counts with the
    /// timeout: without it, the slowest requests would be missing. One that failed otherwise does not count.
    pub latencies: Histogram<u64>,
    /// From the time at which a request was due to the time at which it was sent, in nanoseconds.
    pub delays: Histogram<u64>,
    /// Bytes of the answers.
    pub received: u64,
    /// From the end of the warm-up to the end of the last request, or to the planned end if that is later.
    pub elapsed: Duration,
}

/// One request, with times from the end of the warm-up.
#[derive(Debug)]
pub(crate) struct Sample {
    /// From when it was due until it was sent.
    pub delay: Duration,
    /// From when it was due until its end.
    pub latency: Duration,
    /// Its end.
    pub ended: Duration,
    /// The bytes of the answer.
    pub result: Result<usize, Failure>,
}

impl Measured {
    /// Nothing yet.
    pub(crate) fn nothing() -> Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, nanos(LONGEST), DIGITS).context("the bounds of latencies");
        Ok(Self {
            warm_up: 0,
            answered: 0,
            failures: Failures::default(),
            latencies: histogram()?,
            delays: histogram()?,
            received: 0,
            elapsed: Duration::ZERO,
        })
    }

    /// Adds a request.
    pub(crate) fn add(&mut self, sample: Sample) {
        self.elapsed = self.elapsed.max(sample.ended);
        self.delays.saturating_record(nanos(sample.delay));
        match sample.result {
            Ok(bytes) => {
                self.answered += 1;
                self.received += bytes as u64;
                self.latencies.saturating_record(nanos(sample.latency));
            }
            Err(failure) => {
                if failure.kind == Kind::Timeout {
                    self.latencies.saturating_record(nanos(sample.latency));
                }
                self.failures.add(failure);
            }
        }
    }

    /// Requests, without those of the warm-up.
    pub(crate) fn requests(&self) -> u64 {
        self.answered + self.failures.count()
    }

    /// Answered requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The latency that this share of the requests does not exceed; zero without requests.
    pub(crate) fn latency(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.latencies.value_at_quantile(quantile))
    }

    /// The mean latency.
    pub(crate) fn mean(&self) -> Duration {
        Duration::from_nanos(self.latencies.mean() as u64)
    }

    /// The longest latency, to three digits.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_nanos(self.latencies.max())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(latency: u64, result: Result<usize, Failure>) -> Sample {
        let latency = Duration::from_millis(latency);
        Sample { delay: Duration::from_millis(1), latency, ended: latency + Duration::from_secs(1), result }
    }

    #[test]
    fn quantiles_and_rates_are_those_of_the_samples() {
        let mut measured = Measured::nothing().expect("bounds");
        (1..=1000).for_each(|latency| measured.add(sample(latency, Ok(7))));
        assert_eq!((measured.answered, measured.requests(), measured.received), (1000, 1000, 7000));
        assert_eq!(measured.elapsed, Duration::from_secs(2));
        assert!((measured.rate() - 500.0).abs() < 1e-9);
        for (quantile, expected) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let found = measured.latency(quantile).as_secs_f64() * 1e3;
            assert!((found / expected - 1.0).abs() < 2e-3, "{quantile}: {found} ms, not {expected} ms");
        }
        let mean = measured.mean().as_secs_f64() * 1e3;
        assert!((mean / 500.5 - 1.0).abs() < 2e-3, "{mean}");
        assert!((measured.longest().as_secs_f64() - 1.0).abs() < 2e-3);
    }

    #[test]
    fn of_failed_requests_only_those_without_an_answer_have_a_latency() {
        let mut measured = Measured::nothing().expect("bounds");
        measured.add(sample(1, Ok(0)));
        for kind in [Kind::Grpc(8), Kind::Http(429), Kind::Connection, Kind::NotSent] {
            measured.add(sample(1, Err(Failure::new(kind, "at once"))));
        }
        assert_eq!((measured.latencies.len(), measured.answered, measured.requests()), (1, 1, 5));
        measured.add(sample(9000, Err(Failure::new(Kind::Timeout, "nothing came"))));
        assert_eq!((measured.latencies.len(), measured.failures.count()), (2, 5));
        assert!(measured.longest() > Duration::from_secs(8), "the wait is among the latencies");
        assert_eq!(measured.delays.len(), 6, "every request was due");
    }

    #[test]
    fn nothing_measured_divides_by_nothing() {
        let measured = Measured::nothing().expect("bounds");
        assert_eq!((measured.requests(), measured.rate(), measured.latency(0.99)), (0, 0.0, Duration::ZERO));
    }
}
