//! Whether messages arrive in the order of their stream.

use std::collections::BTreeSet;

/// The sequences that were captured under one epoch.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The sequence after the greatest one so far; `None` before the first batch.
    next: Option<u64>,
    /// Where gaps of this batch begin that were found before: the stream was read again since, and no longer has these messages.
    known_gaps: BTreeSet<u64>,
}

impl Order {
    pub(super) fn has_begun(&self) -> bool {
        self.next.is_some()
    }

    /// Begins after the sequence `done`: everything up to it is acknowledged, or has left the stream.
    pub(super) fn begin(&mut self, done: u64) {
        self.next = Some(done + 1);
    }

    /// Whether messages are missing before or between these, which then must not be captured: read the stream again. Redelivered messages
    /// have earlier sequences, and a gap that is found again is a gap in the stream, whose limits have removed the messages.
    pub(super) fn has_gap(&mut self, sequences: impl Iterator<Item = u64>) -> bool {
        let mut next = self.next;
        for sequence in sequences {
            if let Some(next) = next.filter(|&next| sequence > next)
                && self.known_gaps.insert(next)
            {
                return true;
            }
            next = next.max(Some(sequence + 1));
        }
        self.next = next;
        self.known_gaps.clear();
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(done: u64) -> Order {
        let mut order = Order::default();
        assert!(!order.has_begun());
        order.begin(done);
        order
    }

    #[test]
    fn messages_in_order_and_redeliveries_have_no_gap() {
        let mut order = after(6);
        assert!(!order.has_gap([7, 8, 9].into_iter()));
        assert!(!order.has_gap([8, 10, 9, 11].into_iter()));
        assert!(!order.has_gap([12].into_iter()));
    }

    #[test]
    fn a_gap_is_read_again_before_anything_newer_is_captured() {
        let mut order = after(0);
        assert!(order.has_gap([3, 4].into_iter()), "another instance took the first messages");
        assert!(!order.has_gap([1, 2].into_iter()));
        assert!(order.has_gap([4, 5].into_iter()));
        assert!(!order.has_gap([3, 4, 5, 6].into_iter()));
        assert!(order.has_gap([7, 9].into_iter()));
    }

    #[test]
    fn gaps_that_stay_are_accepted() {
        let mut order = after(1);
        assert!(order.has_gap([4, 8].into_iter()));
        assert!(order.has_gap([4, 8].into_iter()), "the second of two gaps");
        assert!(!order.has_gap([4, 8].into_iter()));
        assert!(order.has_gap([10].into_iter()), "a new gap");
    }
}
