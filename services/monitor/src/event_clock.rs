//! The event clock of a model's log: the latest event time that the rows agree on, from which the watermark follows.
//!
//! If the latest event time of any row were the clock, one request with a wrong time would make every later row late. So a time that is
//! near the clock, at most one window ahead, advances it. A time that is further ahead waits until [`ROWS`] rows of [`REQUESTS`] requests
//! are ahead: then the clock moves to the earliest of them. Each row near the clock takes a vote from those that are furthest ahead, so
//! that rare errors do not add up. The first rows of a log are all ahead: before there are [`ROWS`] of them, no window closes and no row is
//! late.
//!
//! The clock is a function of the log alone: of its rows in the order in which they are captured, and of the window length then.

use rekindle_domain::{event_time, prediction_log::RowsAhead};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Rows that must be ahead of the clock to move it.
pub(crate) const ROWS: u32 = 20;
/// Requests that these rows must be of.
pub(crate) const REQUESTS: usize = 3;

/// The state of the clock. Event times in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EventClock {
    latest: Option<i64>,
    ahead: Vec<Ahead>,
}

/// Rows of one request that are ahead of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Ahead {
    /// The earliest of their event times.
    time: i64,
    /// How many, at most [`ROWS`].
    rows: u32,
    /// The request. A replica logs a large one in several messages.
    request: Uuid,
}

impl EventClock {
    /// A clock as it was stored.
    pub(crate) fn new(latest: Option<i64>, ahead: Vec<Ahead>) -> Self {
        // Builds before this module let rows beyond the range of event times move the clock.
        Self { latest: latest.filter(|latest| event_time::RANGE.contains(latest)), ahead }
    }

    /// The latest event time that the rows agree on.
    pub(crate) fn latest(&self) -> Option<i64> {
        self.latest
    }

    /// The number of rows ahead of the clock, of which each request counts at most [`ROWS`], and the earliest event time of them.
    pub(crate) fn rows_ahead(&self) -> Option<RowsAhead> {
        let first = self.ahead.first()?;
        let rows = self.ahead.iter().map(|ahead| u64::from(ahead.rows)).sum();
        Some(RowsAhead { rows, requests: self.ahead.len() as u64, from: event_time::clamped(first.time) })
    }

    /// The rows ahead of the clock, by request, the nearest first.
    pub(crate) fn ahead(&self) -> &[Ahead] {
        &self.ahead
    }

    /// Takes rows of one request. `window` is the window length.
    pub(crate) fn take(&mut self, request: Uuid, mut times: Vec<i64>, window: i64) {
        times.sort_unstable();
        // The clock before the request decides: its own rows cannot lead each other on.
        let limit = self.latest.map(|latest| latest.saturating_add(window));
        let near = limit.map_or(0, |limit| times.partition_point(|&time| time <= limit));
        if let Some(&last) = times[..near].last() {
            self.latest = self.latest.max(Some(last));
            self.reach(window);
        }
        self.outvote(near);
        let Some(&time) = times.get(near) else { return };
        let rows = u32::try_from(times.len() - near).unwrap_or(ROWS);
        let mut ahead = Ahead { time, rows: rows.min(ROWS), request };
        if let Some(index) = self.ahead.iter().position(|other| other.request == request) {
            let other = self.ahead.remove(index);
            ahead = Ahead { time: other.time.min(time), rows: (other.rows + ahead.rows).min(ROWS), request };
        }
        self.ahead.insert(self.ahead.partition_point(|other| *other <= ahead), ahead);
        if self.ahead.len() >= REQUESTS && self.ahead.iter().map(|ahead| ahead.rows).sum::<u32>() >= ROWS {
            self.latest = Some(self.ahead.remove(0).time);
            self.reach(window);
        }
    }

    /// Advances over the rows ahead that are near by now.
    fn reach(&mut self, window: i64) {
        while let (Some(latest), Some(first)) = (self.latest, self.ahead.first())
            && first.time <= latest.saturating_add(window)
        {
            self.latest = Some(latest.max(first.time));
            self.ahead.remove(0);
        }
    }

    /// Takes one vote from the furthest rows for each row near the clock.
    fn outvote(&mut self, near: usize) {
        let mut votes = u32::try_from(near).unwrap_or(u32::MAX);
        while votes > 0
            && let Some(furthest) = self.ahead.last_mut()
        {
            let taken = votes.min(furthest.rows);
            (votes, furthest.rows) = (votes - taken, furthest.rows - taken);
            if furthest.rows == 0 {
                self.ahead.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;

    /// Takes a request of its own.
    fn take(clock: &mut EventClock, times: Vec<i64>, window: i64) {
        clock.take(Uuid::new_v4(), times, window);
    }

    fn started() -> EventClock {
        let mut clock = EventClock::default();
        for hour in 0..i64::from(ROWS) {
            take(&mut clock, vec![hour * HOUR], DAY);
        }
        clock
    }

    #[test]
    fn the_clock_starts_once_enough_rows_have_come() {
        let mut clock = EventClock::default();
        take(&mut clock, (0..100).map(|hour| hour * HOUR).collect(), DAY);
        take(&mut clock, vec![100 * HOUR], DAY);
        assert_eq!(clock.latest(), None, "of two requests");
        take(&mut clock, vec![101 * HOUR], DAY);
        assert_eq!(clock.latest(), Some(0), "a request is one vote for the earliest of its rows");
        take(&mut clock, (100..110).map(|hour| hour * HOUR).collect(), 7 * DAY);
        assert_eq!(clock.latest(), Some(109 * HOUR));
        assert_eq!(started().latest(), Some(19 * HOUR));
    }

    #[test]
    fn one_request_far_ahead_moves_nothing_however_many_rows_it_has() {
        for first in [true, false] {
            let mut clock = if first { EventClock::default() } else { started() };
            take(&mut clock, vec![30 * YEAR; 1_000], DAY);
            for hour in 0..1_000 {
                take(&mut clock, vec![hour * HOUR], DAY);
            }
            assert_eq!(clock.latest(), Some(999 * HOUR), "first: {first}");
            assert!(clock.ahead().is_empty(), "outvoted: {:?}", clock.ahead());
        }
    }

    #[test]
    fn a_request_in_several_messages_is_one() {
        let mut clock = started();
        let request = Uuid::new_v4();
        for _ in 0..10 {
            clock.take(request, vec![YEAR; 1_000], DAY);
        }
        assert_eq!((clock.latest(), clock.ahead().len()), (Some(19 * HOUR), 1));
        assert_eq!(clock.rows_ahead().map(|ahead| (ahead.rows, ahead.requests)), Some((ROWS.into(), 1)));
    }

    #[test]
    fn one_request_far_behind_moves_nothing() {
        let mut clock = EventClock::default();
        take(&mut clock, vec![0], DAY);
        for hour in 0..50 {
            take(&mut clock, vec![30 * YEAR + hour * HOUR], DAY);
        }
        assert_eq!(clock.latest(), Some(30 * YEAR + 49 * HOUR));
        take(&mut clock, vec![-YEAR], DAY);
        assert_eq!(clock.latest(), Some(30 * YEAR + 49 * HOUR));
    }

    #[test]
    fn traffic_that_resumes_after_a_pause_moves_the_clock() {
        let mut clock = started();
        for hour in 0..i64::from(ROWS) {
            assert_eq!(clock.latest(), Some(19 * HOUR));
            take(&mut clock, vec![YEAR + hour * HOUR], DAY);
        }
        assert_eq!(clock.latest(), Some(YEAR + 19 * HOUR));
    }

    #[test]
    fn rare_errors_do_not_add_up() {
        let mut clock = started();
        for hour in 20..10_000 {
            take(&mut clock, vec![hour * HOUR], DAY);
            if hour % 10 == 0 {
                take(&mut clock, vec![hour * HOUR + YEAR], DAY);
            }
            assert_eq!(clock.latest(), Some(hour * HOUR));
        }
    }

    #[test]
    fn a_stored_time_out_of_range_is_forgotten() {
        assert_eq!(EventClock::new(Some(i64::MAX), Vec::new()), EventClock::default());
    }

    proptest! {
        /// Never back, never beyond the rows, and bounded, whatever comes.
        #[test]
        fn the_clock_only_advances(requests in prop::collection::vec(prop::collection::vec(any::<i64>(), 0..30), 0..60)) {
            let mut clock = EventClock::default();
            let mut greatest = i64::MIN;
            for times in requests {
                greatest = times.iter().copied().fold(greatest, i64::max);
                let before = clock.latest();
                take(&mut clock, times, DAY);
                prop_assert!(clock.latest() >= before && clock.latest() <= Some(greatest));
                prop_assert!(clock.ahead().len() < ROWS as usize);
            }
        }
    }
}
