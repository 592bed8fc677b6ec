//! The outcome watermark: up to which event time the outcomes of a model's predictions are captured.
//!
//! The watermark of windows follows predictions alone, and outcomes travel in a stream of their own: after a pause both wait on the bus,
//! and either may be captured first. A window evaluated as soon as its label wait is over would then be evaluated without outcomes that
//! were reported long before, and for good. So once predictions are captured up to some event time, the last outcome that the bus holds
//! at that moment is recorded, and windows count as due up to that event time only when every outcome up to the recorded one is captured.
//! Outcomes reported later are not waited for, so the wait ends however many keep arriving.
//!
//! The value is held in memory. A restarted monitor, or one that takes a model over, starts with what the bus holds then, which is never
//! less.

use rekindle_bus::streams::Progress;

/// The outcome watermark of one model.
#[derive(Debug, Default)]
pub(crate) struct OutcomeWatermark {
    /// Event time up to which outcomes are captured, in milliseconds.
    until: Option<i64>,
    /// A later event time, and the sequence of the outcome that must be captured before it counts.
    pending: Option<(i64, u64)>,
}

impl OutcomeWatermark {
    /// Advances the watermark. `outcomes` is the progress of the outcomes' capture, read after predictions were captured up to
    /// `latest_event`.
    pub(crate) fn advance(&mut self, latest_event: i64, outcomes: Progress) {
        if outcomes.has_passed(outcomes.last) {
            (self.until, self.pending) = (Some(latest_event), None);
            return;
        }
        if let Some((until, _)) = self.pending.take_if(|(_, last)| outcomes.has_passed(*last)) {
            self.until = Some(until);
        }
        self.pending.get_or_insert((latest_event, outcomes.last));
    }

    /// Event time up to which outcomes are captured, in milliseconds; `None` before any is known.
    pub(crate) fn until(&self) -> Option<i64> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(done: u64, last: u64) -> Progress {
        Progress { last, done }
    }

    #[test]
    fn predictions_count_once_the_outcomes_of_their_time_are_captured() {
        let mut watermark = OutcomeWatermark::default();
        watermark.advance(10, progress(0, 5));
        assert_eq!(watermark.until(), None);
        // Outcomes reported meanwhile are not waited for, but later predictions wait for them.
        watermark.advance(20, progress(4, 8));
        assert_eq!(watermark.until(), None);
        watermark.advance(30, progress(5, 9));
        assert_eq!(watermark.until(), Some(10));
        watermark.advance(40, progress(8, 12));
        assert_eq!(watermark.until(), Some(10));
        watermark.advance(50, progress(9, 13));
        assert_eq!(watermark.until(), Some(30));
    }

    #[test]
    fn nothing_is_waited_for_once_every_outcome_is_captured() {
        let mut watermark = OutcomeWatermark::default();
        watermark.advance(10, progress(0, 0));
        assert_eq!(watermark.until(), Some(10));
        watermark.advance(20, progress(6, 7));
        watermark.advance(30, progress(8, 8));
        assert_eq!(watermark.until(), Some(30));
    }

    #[test]
    fn a_recreated_stream_is_waited_for_no_longer_than_it_lasts() {
        let mut watermark = OutcomeWatermark::default();
        watermark.advance(10, progress(900, 1000));
        watermark.advance(20, progress(1, 2));
        assert_eq!(watermark.until(), None);
        watermark.advance(30, progress(2, 2));
        assert_eq!(watermark.until(), Some(30));
    }
}
