//! Event-time windows: where they lie, when they close, and which rows come too late. Pure arithmetic on milliseconds since
//! 1970-01-01 UTC.
//!
//! The watermark is the latest event time seen in a model's log minus the lateness. A window closes when the watermark reaches its
//! end. What a row's window was, and whether the row was late, follows from the log alone and never from when somebody looked: each
//! segment remembers the latest event time before it.

/// A half-open span of event time, `[from, until)`, in milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// First millisecond inside.
    pub from: i64,
    /// First millisecond after.
    pub until: i64,
}

impl Window {
    /// Whether an event time lies inside.
    pub fn contains(&self, event_time: i64) -> bool {
        (self.from..self.until).contains(&event_time)
    }
}

/// The first and the last event time of some rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Of the earliest row.
    pub first: i64,
    /// Of the latest row.
    pub last: i64,
}

impl Span {
    /// The span that holds both.
    pub fn with(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

impl Window {
    /// The part of a span that lies inside.
    pub fn clip(&self, span: Span) -> Span {
        Span { first: span.first.max(self.from), last: span.last.min(self.until - 1) }
    }

    /// Whether the rows of one version (`own`) stand for the whole window rather than for a part of it: a model that took over on a
    /// Thursday has seen no weekend, and would seem to have drifted. `all` is the span of every version's rows in the window, and
    /// `log_began` the first row ever; a tenth of the window may be missing at either end.
    pub fn is_covered_by(&self, own: Span, all: Span, log_began: i64) -> bool {
        let slack = (self.until - self.from) / 10;
        let begins = if log_began < self.from { all.first } else { self.from };
        own.first - begins <= slack && all.last - own.last <= slack
    }
}

/// How event time is cut into windows, and how long stragglers and outcomes are waited for. All in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Length of a window, at least 1.
    pub length: i64,
    /// Where the first window after 1970-01-01 UTC begins, in `[0, length)`.
    pub offset: i64,
    /// How far behind the latest event time a row may come and still be counted.
    pub lateness: i64,
    /// How long after a window's end its outcomes are waited for, counted on the watermark.
    pub label_wait: i64,
}

impl Timing {
    /// The window of the grid that holds an event time.
    pub fn window_of(&self, event_time: i64) -> Window {
        let from = event_time.saturating_sub(event_time.saturating_sub(self.offset).rem_euclid(self.length));
        Window { from, until: from.saturating_add(self.length) }
    }

    /// The window that holds `event_time`, cut off at `cursor` where everything before was reported already, which happens once after
    /// the grid was changed.
    pub fn window_from(&self, cursor: Option<i64>, event_time: i64) -> Window {
        let window = self.window_of(event_time);
        Window { from: cursor.map_or(window.from, |cursor| window.from.max(cursor)), ..window }
    }

    /// The event time up to which no more rows are expected.
    pub fn watermark(&self, latest_event: i64) -> i64 {
        latest_event.saturating_sub(self.lateness)
    }

    /// Whether a window is closed once `latest_event` was seen.
    pub fn is_closed(&self, window: &Window, latest_event: i64) -> bool {
        self.watermark(latest_event) >= window.until
    }

    /// Whether outcomes of a window are no longer waited for.
    pub fn labels_are_due(&self, until: i64, latest_event: i64) -> bool {
        self.watermark(latest_event) >= until.saturating_add(self.label_wait)
    }

    /// Whether a row arrived after its window had closed; `latest_before` is the latest event time in the log before its segment.
    pub fn is_late(&self, event_time: i64, latest_before: Option<i64>) -> bool {
        latest_before.is_some_and(|latest| self.is_closed(&self.window_of(event_time), latest))
    }

    /// The smallest `latest_before` at which a segment comes too late for `window`.
    pub fn late_from(&self, window: &Window) -> i64 {
        window.until.saturating_add(self.lateness)
    }

    /// How many windows of the grid begin in `[cursor, latest_event]`, counting the one that holds `cursor`.
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
    fn only_a_version_that_answered_throughout_stands_for_a_window() {
        let window = Window { from: 100, until: 200 };
        let span = |first, last| Span { first, last };
        let all = span(100, 199);
        assert!(window.is_covered_by(all, all, 0));
        assert!(window.is_covered_by(span(110, 189), all, 0));
        assert!(!window.is_covered_by(span(111, 199), all, 0), "took over within the window");
        assert!(!window.is_covered_by(span(100, 188), all, 0), "was replaced within the window");
        // Rows may be missing because nothing happened, but not because nobody looked yet.
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
    fn a_row_is_late_only_when_its_window_had_closed_before_its_segment() {
        let timing = daily();
        assert!(!timing.is_late(DAY - 1, None));
        assert!(!timing.is_late(DAY - 1, Some(DAY + DAY / 24 - 1)));
        assert!(timing.is_late(DAY - 1, Some(DAY + DAY / 24)));
        assert!(!timing.is_late(DAY, Some(DAY + DAY / 24)));
    }

    #[test]
    fn a_changed_grid_never_counts_a_row_twice() {
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
        fn lateness_by_row_and_by_segment_agree(time in 0i64..100_000, before in 0i64..200_000, lateness in 0i64..5_000) {
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
