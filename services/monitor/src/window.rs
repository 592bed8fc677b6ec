//! Event-time windows: their bounds, when they close, and which rows are late. Pure arithmetic on milliseconds since 1970-01-01 UTC.
//!
//! The watermark is the event clock of a model's log minus the allowed lateness. A window closes when the watermark reaches its end. The
//! window of a row, and whether the row is late, follow from the log alone and never from the time of evaluation: each chunk records the
//! event clock before it.

use rekindle_domain::WatchSettings;

/// A half-open span of event time, `[from, until)`, in milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// First millisecond of the window.
    pub from: i64,
    /// First millisecond after the window.
    pub until: i64,
}

impl Window {
    /// Whether an event time lies in the window.
    pub fn contains(&self, event_time: i64) -> bool {
        (self.from..self.until).contains(&event_time)
    }
}

/// The first and the last event time of some rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Event time of the earliest row.
    pub first: i64,
    /// Event time of the latest row.
    pub last: i64,
}

impl Span {
    /// The smallest span that contains both.
    pub fn with(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

impl Window {
    /// The part of a span that lies in the window.
    pub fn clip(&self, span: Span) -> Span {
        Span { first: span.first.max(self.from), last: span.last.min(self.until - 1) }
    }

    /// Whether the rows of one version (`own`) represent the whole window rather than a part of it: a version deployed on a Thursday
    /// has answered no request of a weekend, and would appear to have drifted. `all` is the span of every version's rows in the window,
    /// and `log_began` the first event time of the log; a tenth of the window may be missing at either end.
    pub fn is_covered_by(&self, own: Span, all: Span, log_began: i64) -> bool {
        let slack = (self.until - self.from) / 10;
        let begins = if log_began < self.from { all.first } else { self.from };
        own.first - begins <= slack && all.last - own.last <= slack
    }
}

/// How event time is divided into windows, and how long late rows and outcomes are waited for. All in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Length of a window, at least 1.
    pub length: i64,
    /// Offset of the windows from multiples of their length, in `[0, length)`.
    pub offset: i64,
    /// How far behind the latest event time a row may arrive and still be counted.
    pub lateness: i64,
    /// How long after a window's end its outcomes are waited for, measured on the watermark.
    pub label_wait: i64,
}

impl Timing {
    /// The timing of a model's windows.
    pub fn of(settings: &WatchSettings) -> Self {
        let millis = |span: std::time::Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self {
            length: millis(settings.window).max(1),
            offset: millis(settings.window_offset),
            lateness: millis(settings.lateness),
            label_wait: millis(settings.label_wait),
        }
    }

    /// The window that contains an event time.
    pub fn window_of(&self, event_time: i64) -> Window {
        let from = event_time.saturating_sub(event_time.saturating_sub(self.offset).rem_euclid(self.length));
        Window { from, until: from.saturating_add(self.length) }
    }

    /// The window that contains `event_time`, without its part before `cursor`: up to there windows are reported. The two overlap only
    /// after the window length or offset was changed.
    pub fn window_from(&self, cursor: Option<i64>, event_time: i64) -> Window {
        let window = self.window_of(event_time);
        Window { from: cursor.map_or(window.from, |cursor| window.from.max(cursor)), ..window }
    }

    /// The event time up to which no more rows are expected: the watermark.
    pub fn watermark(&self, latest_event: i64) -> i64 {
        latest_event.saturating_sub(self.lateness)
    }

    /// Whether a window is closed at the latest event time `latest_event`.
    pub fn is_closed(&self, window: &Window, latest_event: i64) -> bool {
        self.watermark(latest_event) >= window.until
    }

    /// Whether the label wait of a window that ends at `until` is over.
    pub fn labels_are_due(&self, until: i64, latest_event: i64) -> bool {
        self.watermark(latest_event) >= until.saturating_add(self.label_wait)
    }

    /// Whether a row arrived after its window had closed; `latest_before` is the latest event time in the log before its chunk.
    pub fn is_late(&self, event_time: i64, latest_before: Option<i64>) -> bool {
        latest_before.is_some_and(|latest| self.is_closed(&self.window_of(event_time), latest))
    }

    /// The smallest `latest_before` at which a chunk is too late for `window`.
    pub fn late_from(&self, window: &Window) -> i64 {
        window.until.saturating_add(self.lateness)
    }

    /// Number of windows that begin in `[cursor, latest_event]`, including the one that contains `cursor`.
    pub fn open(&self, cursor: i64, latest_event: i64) -> u64 {
        let first = self.window_of(cursor).from;
        let last = self.window_of(latest_event).from;
        u64::try_from((last.saturating_sub(first)) / self.length + 1).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400_000;

    fn daily() -> Timing {
        Timing { length: DAY, offset: 0, lateness: DAY / 24, label_wait: DAY }
    }

    #[test]
    fn windows_begin_at_multiples_plus_the_offset() {
        assert_eq!(daily().window_of(DAY + 5), Window { from: DAY, until: 2 * DAY });
        assert_eq!(daily().window_of(-1), Window { from: -DAY, until: 0 });
        let shifted = Timing { offset: 10, ..daily() };
        assert_eq!(shifted.window_of(5), Window { from: 10 - DAY, until: 10 });
        assert_eq!(shifted.window_of(10), Window { from: 10, until: 10 + DAY });
    }

    #[test]
    fn only_a_version_that_answered_throughout_represents_a_window() {
        let window = Window { from: 100, until: 200 };
        let span = |first, last| Span { first, last };
        let all = span(100, 199);
        assert!(window.is_covered_by(all, all, 0));
        assert!(window.is_covered_by(span(110, 189), all, 0));
        assert!(!window.is_covered_by(span(111, 199), all, 0), "deployed within the window");
        assert!(!window.is_covered_by(span(100, 188), all, 0), "was replaced within the window");
        // Rows may be missing because no request was sent, but not because the log had not begun.
        assert!(window.is_covered_by(span(150, 160), span(150, 160), 99));
        assert!(!window.is_covered_by(span(150, 199), span(150, 199), 150));
        assert!(window.is_covered_by(span(105, 199), span(105, 199), 105));
        assert_eq!(window.clip(span(50, 300)), all);
    }

    #[test]
    fn a_window_closes_when_the_watermark_reaches_its_end() {
        let (timing, window) = (daily(), Window { from: 0, until: DAY });
        assert!(!timing.is_closed(&window, DAY + DAY / 24 - 1));
        assert!(timing.is_closed(&window, DAY + DAY / 24));
        assert!(!timing.labels_are_due(DAY, 2 * DAY));
        assert!(timing.labels_are_due(DAY, 2 * DAY + DAY / 24));
    }

    #[test]
    fn a_row_is_late_only_if_its_window_had_closed_before_its_chunk() {
        let timing = daily();
        assert!(!timing.is_late(DAY - 1, None));
        assert!(!timing.is_late(DAY - 1, Some(DAY + DAY / 24 - 1)));
        assert!(timing.is_late(DAY - 1, Some(DAY + DAY / 24)));
        assert!(!timing.is_late(DAY, Some(DAY + DAY / 24)));
    }

    #[test]
    fn a_changed_window_length_counts_no_row_twice() {
        let weekly = Timing { length: 7 * DAY, ..daily() };
        let window = weekly.window_from(Some(9 * DAY), 9 * DAY + 3);
        assert_eq!(window, Window { from: 9 * DAY, until: 14 * DAY });
    }

    #[test]
    fn open_windows_are_counted_from_the_cursor() {
        assert_eq!(daily().open(0, 0), 1);
        assert_eq!(daily().open(0, DAY - 1), 1);
        assert_eq!(daily().open(DAY, 3 * DAY), 3);
        assert_eq!(daily().open(5 * DAY, DAY), 0);
    }

    proptest! {
        #[test]
        fn every_time_lies_in_exactly_its_window(
            time in -1_000_000_000_000i64..4_000_000_000_000, length in 1i64..10_000_000_000, offset in 0i64..1_000_000
        ) {
            let timing = Timing { length, offset: offset % length, lateness: 0, label_wait: 0 };
            let window = timing.window_of(time);
            prop_assert!(window.contains(time));
            prop_assert_eq!(window.until - window.from, length);
            prop_assert_eq!((window.from - timing.offset).rem_euclid(length), 0);
            prop_assert_eq!(timing.window_of(window.until).from, window.until);
        }

        #[test]
        fn lateness_by_row_and_by_chunk_agree(time in 0i64..100_000, before in 0i64..200_000, lateness in 0i64..5_000) {
            let timing = Timing { length: 1_000, offset: 0, lateness, label_wait: 0 };
            let window = timing.window_of(time);
            prop_assert_eq!(timing.is_late(time, Some(before)), before >= timing.late_from(&window));
        }

        #[test]
        fn no_window_size_or_time_overflows(time in any::<i64>(), length in 1i64..i64::MAX, lateness in 0i64..i64::MAX) {
            let timing = Timing { length, offset: 0, lateness, label_wait: lateness };
            let window = timing.window_of(time);
            let _ = (timing.is_closed(&window, time), timing.labels_are_due(window.until, time), timing.late_from(&window));
        }
    }
}
