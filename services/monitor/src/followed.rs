//! How far outcomes have followed predictions.
//!
//! The watermark follows predictions alone, and outcomes travel apart from them: after a pause both lie on the bus, and either may be
//! captured first. A window judged when the watermark says so would then be judged without outcomes that were long told, and
//! for good. So where the log of predictions has come to some event time, the last outcome that the bus then held is noted, and
//! only once all up to it are captured do windows count as due up to that time. Outcomes that are told later are not waited for,
//! so that this ends however many keep coming, and at once where there are none.
//!
//! The note lives in memory. A monitor that was started anew makes it anew, of what the bus holds then, which is never less.

use rekindle_bus::streams::Progress;

/// Of one model.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// The latest event time up to which outcomes have followed.
    until: Option<i64>,
    /// A later one, and the outcome to be captured before it counts.
    awaited: Option<(i64, u64)>,
}

impl Followed {
    /// Takes note of how far the outcomes' capture has come, asked after the predictions had come to `latest`.
    pub(crate) fn note(&mut self, latest: i64, outcomes: Progress) {
        if outcomes.has_passed(outcomes.last) {
            (self.until, self.awaited) = (Some(latest), None);
            return;
        }
        if let Some((until, _)) = self.awaited.take_if(|(_, last)| outcomes.has_passed(*last)) {
            self.until = Some(until);
        }
        self.awaited.get_or_insert((latest, outcomes.last));
    }

    /// The latest event time up to which outcomes have followed; `None` before any is known.
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
        let mut followed = Followed::default();
        followed.note(10, progress(0, 5));
        assert_eq!(followed.until(), None);
        // What was told meanwhile is not waited for, but later predictions wait for it.
        followed.note(20, progress(4, 8));
        assert_eq!(followed.until(), None);
        followed.note(30, progress(5, 9));
        assert_eq!(followed.until(), Some(10));
        followed.note(40, progress(8, 12));
        assert_eq!(followed.until(), Some(10));
        followed.note(50, progress(9, 13));
        assert_eq!(followed.until(), Some(30));
    }

    #[test]
    fn where_nothing_is_left_nothing_is_waited_for() {
        let mut followed = Followed::default();
        followed.note(10, progress(0, 0));
        assert_eq!(followed.until(), Some(10));
        followed.note(20, progress(6, 7));
        followed.note(30, progress(8, 8));
        assert_eq!(followed.until(), Some(30));
    }

    #[test]
    fn a_stream_that_begins_again_is_waited_for_no_longer_than_it_lasts() {
        let mut followed = Followed::default();
        followed.note(10, progress(900, 1000));
        followed.note(20, progress(1, 2));
        assert_eq!(followed.until(), None);
        followed.note(30, progress(2, 2));
        assert_eq!(followed.until(), Some(30));
    }
}
