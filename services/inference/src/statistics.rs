//! What the requests for one version cost since it was loaded: counts, and durations by phase.
//!
//! Recording takes no lock and does not allocate. Counts and durations are read by the protocol's statistics and by the metrics, so that both
//! agree.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::error::RequestError;

/// A part of the time that a request takes on this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting for a place to compute.
    Queue,
    /// Decoding the message.
    Decode,
    /// Computing the prediction.
    Compute,
    /// Recording the prediction for the log, and encoding the answer.
    Encode,
}

impl Phase {
    /// All phases, in the order of their numbers.
    pub(crate) const ALL: [Self; 4] = [Self::Queue, Self::Decode, Self::Compute, Self::Encode];
}

/// Why a request has no answer, as the metrics of Triton distinguish it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Refused because of too many requests.
    Rejected,
    /// The caller has gone, or its deadline has passed.
    Canceled,
    /// The model failed.
    Backend,
    /// The request is not valid.
    Other,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub(crate) const ALL: [Self; 4] = [Self::Rejected, Self::Canceled, Self::Backend, Self::Other];

    /// The name in the metrics of Triton.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rejected => "REJECTED",
            Self::Canceled => "CANCELED",
            Self::Backend => "BACKEND",
            Self::Other => "OTHER",
        }
    }
}

impl From<&RequestError> for Reason {
    fn from(error: &RequestError) -> Self {
        match error {
            RequestError::TooManyRequests { .. } | RequestError::QueueFull { .. } => Self::Rejected,
            RequestError::PredictionFailed { .. } => Self::Backend,
            _ => Self::Other,
        }
    }
}

/// Upper bounds of the buckets, in microseconds; one more bucket has no bound.
pub(crate) const BOUNDS: [u64; 16] =
    [10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000];

/// The distribution of durations.
#[derive(Debug, Default)]
struct Durations {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Durations {
    fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|&bound| bound * 1_000 < nanos);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    fn read(&self) -> Distribution {
        Distribution {
            buckets: array::from_fn(|bucket| self.buckets[bucket].load(Relaxed)),
            nanos: self.nanos.load(Relaxed),
        }
    }
}

/// Sub-buckets of each power of two.
const FINE: usize = 8;
/// Powers of two, in microseconds: up to 134 s.
const POWERS: usize = 25;

/// The distribution of durations in buckets of at most 12.5 % of their durations, from which quantiles are read.
#[derive(Debug)]
struct FineDurations([AtomicU64; FINE * POWERS]);

impl Default for FineDurations {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl FineDurations {
    /// The bucket of a duration in microseconds, and the durations that it begins and ends with.
    fn bucket(micros: u64) -> (usize, u64, u64) {
        let fine = FINE as u64;
        if micros < fine {
            return (micros as usize, micros, micros + 1);
        }
        let power = u64::from(micros.ilog2());
        let width = 1 << (power - 3);
        let lower = micros / width * width;
        let bucket = (power - 2) * fine + (lower / width - fine);
        (usize::try_from(bucket).unwrap_or(usize::MAX).min(FINE * POWERS - 1), lower, lower.saturating_add(width))
    }

    fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.0[Self::bucket(micros).0].fetch_add(1, Relaxed);
    }

    /// The quantile in microseconds, interpolated within its bucket; 0 without durations.
    fn quantile(&self, quantile: f64) -> u64 {
        let counts: [u64; FINE * POWERS] = array::from_fn(|bucket| self.0[bucket].load(Relaxed));
        let rank = quantile * counts.iter().sum::<u64>() as f64;
        let (mut below, mut micros) = (0, 0);
        for count in counts {
            let (_, lower, upper) = Self::bucket(micros);
            if count > 0 && (below + count) as f64 >= rank {
                let share = (rank - below as f64) / count as f64;
                return lower + (share * (upper - lower) as f64).round() as u64;
            }
            (below, micros) = (below + count, upper);
        }
        0
    }
}

/// Durations as they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Distribution {
    /// The number of durations in each bucket, not cumulated.
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
    /// The sum of all durations, in nanoseconds.
    pub(crate) nanos: u64,
}

impl Distribution {
    /// The number of durations.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The statistics of one version.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    answered: Durations,
    latencies: FineDurations,
    phases: [Durations; Phase::ALL.len()],
    failures: [AtomicU64; Reason::ALL.len()],
    failed_nanos: AtomicU64,
    rows: AtomicU64,
    executions: AtomicU64,
    last_answered: AtomicU64,
    in_flight: AtomicU64,
    guarded: AtomicU64,
}

/// Statistics as they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Answered requests.
    pub(crate) answered: Distribution,
    /// Each phase of the answered requests, in the order of [`Phase::ALL`].
    pub(crate) phases: [Distribution; Phase::ALL.len()],
    /// Requests without an answer, by reason in the order of [`Reason::ALL`].
    pub(crate) failures: [u64; Reason::ALL.len()],
    /// The time that requests without an answer took, in nanoseconds.
    pub(crate) failed_nanos: u64,
    /// Predicted rows.
    pub(crate) rows: u64,
    /// Executions of the model. One predicts the rows of one or more requests.
    pub(crate) executions: u64,
    /// When the latest request was answered, in milliseconds since 1970 UTC; 0 before the first one.
    pub(crate) last_answered: u64,
    /// Requests in flight.
    pub(crate) in_flight: u64,
}

impl Reading {
    /// Requests without an answer for this reason.
    pub(crate) fn failures(&self, reason: Reason) -> u64 {
        self.failures[reason as usize]
    }
}

impl Statistics {
    /// Counts a request in flight.
    pub(crate) fn enter(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// Counts the end of a request in flight.
    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Counts an answered request in which a guardrail has clipped or flagged a value.
    pub(crate) fn guarded(&self) {
        self.guarded.fetch_add(1, Relaxed);
    }

    /// The requests so counted.
    pub(crate) fn guarded_requests(&self) -> u64 {
        self.guarded.load(Relaxed)
    }

    /// Counts an execution of the model.
    pub(crate) fn executed(&self) {
        self.executions.fetch_add(1, Relaxed);
    }

    /// The 99th percentile of the time that answered requests took, in microseconds; 0 before the first one.
    pub(crate) fn p99_micros(&self) -> u64 {
        self.latencies.quantile(0.99)
    }

    /// Reads everything. Requests that end meanwhile may be counted in part.
    pub(crate) fn read(&self) -> Reading {
        Reading {
            answered: self.answered.read(),
            phases: array::from_fn(|phase| self.phases[phase].read()),
            failures: array::from_fn(|reason| self.failures[reason].load(Relaxed)),
            failed_nanos: self.failed_nanos.load(Relaxed),
            rows: self.rows.load(Relaxed),
            executions: self.executions.load(Relaxed),
            last_answered: self.last_answered.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
        }
    }
}

/// Measures one request. Dropped before its end is recorded, it records that the caller has gone.
pub(crate) struct Stopwatch<'a> {
    statistics: &'a Statistics,
    started: Instant,
    phase_began: Instant,
    phases: [Duration; Phase::ALL.len()],
    is_recorded: bool,
}

impl<'a> Stopwatch<'a> {
    /// A request that began at `started`.
    pub(crate) fn new(statistics: &'a Statistics, started: Instant) -> Self {
        Self { statistics, started, phase_began: started, phases: Default::default(), is_recorded: false }
    }

    /// A phase ends, and the next one begins.
    pub(crate) fn end(&mut self, phase: Phase) {
        let now = Instant::now();
        self.phases[phase as usize] += now - self.phase_began;
        self.phase_began = now;
    }

    /// The time that phases took which ended on another thread.
    pub(crate) fn add(&mut self, phase: Phase, duration: Duration) {
        self.phases[phase as usize] += duration;
        self.phase_began = Instant::now();
    }

    /// The time since the request began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Records an answer of so many rows. `at` is when it was given, in milliseconds since 1970 UTC.
    pub(crate) fn answered(mut self, rows: usize, at: i64) {
        self.is_recorded = true;
        let statistics = self.statistics;
        statistics.answered.record(self.phase_began - self.started);
        statistics.latencies.record(self.phase_began - self.started);
        for (durations, duration) in statistics.phases.iter().zip(self.phases) {
            durations.record(duration);
        }
        statistics.rows.fetch_add(rows as u64, Relaxed);
        statistics.last_answered.fetch_max(u64::try_from(at).unwrap_or(0), Relaxed);
    }

    /// Records that the request has no answer.
    pub(crate) fn failed(mut self, error: &RequestError) {
        self.end_without_answer(error.into());
    }

    fn end_without_answer(&mut self, reason: Reason) {
        self.is_recorded = true;
        self.statistics.failures[reason as usize].fetch_add(1, Relaxed);
        let nanos = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.statistics.failed_nanos.fetch_add(nanos, Relaxed);
    }
}

impl Drop for Stopwatch<'_> {
    fn drop(&mut self) {
        if !self.is_recorded {
            self.end_without_answer(Reason::Canceled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_durations_to_an_eighth() {
        let durations = FineDurations::default();
        assert_eq!(durations.quantile(0.99), 0);
        for _ in 0..70 {
            durations.record(Duration::from_millis(9));
        }
        for _ in 0..30 {
            durations.record(Duration::from_millis(11));
        }
        for (quantile, micros) in [(0.5, 9_000.0), (0.99, 11_000.0)] {
            let found = durations.quantile(quantile) as f64;
            assert!((found / micros - 1.0).abs() <= 0.125, "{quantile}: {found}");
        }
        let longest = FineDurations::default();
        longest.record(Duration::from_secs(3_600));
        assert!(longest.quantile(0.99) > 100_000_000, "the last bucket has no end: {}", longest.quantile(0.99));
    }

    #[test]
    fn every_duration_has_a_bucket_whose_neighbours_meet() {
        let (mut micros, mut last) = (0, None);
        while micros < 1 << 28 {
            let (bucket, lower, upper) = FineDurations::bucket(micros);
            assert!(lower == micros && upper > lower, "{micros}");
            assert_eq!(FineDurations::bucket(upper - 1).0, bucket, "{micros}");
            if bucket + 1 < FINE * POWERS {
                assert_eq!(last.map_or(0, |last: usize| last + 1), bucket, "{micros}");
            }
            (micros, last) = (upper, Some(bucket));
        }
        assert_eq!(FineDurations::bucket(u64::MAX).0, FINE * POWERS - 1);
    }

    #[test]
    fn phases_add_up_to_the_request() {
        let statistics = Statistics::default();
        let mut stopwatch = Stopwatch::new(&statistics, Instant::now());
        Phase::ALL.into_iter().for_each(|phase| stopwatch.end(phase));
        stopwatch.answered(3, 7);
        let reading = statistics.read();
        assert_eq!((reading.answered.count(), reading.rows, reading.last_answered), (1, 3, 7));
        assert_eq!(reading.phases.iter().map(|phase| phase.nanos).sum::<u64>(), reading.answered.nanos);
        assert_eq!(reading.phases.map(|phase| phase.count()), [1; 4]);
        assert_eq!(reading.failures, [0; 4]);
    }

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let durations = Durations::default();
        for (micros, bucket) in [(0, 0), (10, 0), (11, 1), (10_000_000, 15), (10_000_001, 16)] {
            let before = durations.read().buckets[bucket];
            durations.record(Duration::from_micros(micros));
            assert_eq!(durations.read().buckets[bucket], before + 1, "{micros}");
        }
    }

    #[test]
    fn a_request_without_an_answer_has_one_reason() {
        let statistics = Statistics::default();
        drop(Stopwatch::new(&statistics, Instant::now()));
        Stopwatch::new(&statistics, Instant::now()).failed(&RequestError::TooManyRequests { limit: 1 });
        let reading = statistics.read();
        assert_eq!((reading.failures(Reason::Canceled), reading.failures(Reason::Rejected)), (1, 1));
        assert_eq!((reading.failures.iter().sum::<u64>(), reading.answered.count()), (2, 0));
    }
}
