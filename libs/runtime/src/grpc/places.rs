//! Places that the connections of a server share.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A bounded number of places, of which a connection may hold at most as many as remain free: one connection has at most half of
/// them, and however many hold all that they may, others find a place (Choudhury and Hahne, Dynamic Queue Length Thresholds for
/// Shared-Memory Packet Switches, 1998).
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    taken: AtomicUsize,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, taken: AtomicUsize::new(0) }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes `count` places for the connection that holds `held`, all or none.
    pub(super) fn take(&self, held: &AtomicUsize, count: usize) -> bool {
        let mine = held.load(Ordering::Acquire);
        let taken = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            let free = self.limit.saturating_sub(taken);
            (mine.checked_add(count)? <= free).then_some(taken + count)
        });
        if taken.is_ok() {
            held.fetch_add(count, Ordering::AcqRel);
        }
        taken.is_ok()
    }

    /// Returns places that were taken.
    pub(super) fn give_back(&self, held: &AtomicUsize, count: usize) {
        held.fetch_sub(count, Ordering::AcqRel);
        self.taken.fetch_sub(count, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_many_as_possible(places: &Places, held: &AtomicUsize) -> usize {
        while places.take(held, 1) {}
        held.load(Ordering::Acquire)
    }

    #[test]
    fn a_connection_holds_at_most_what_is_free_and_leaves_places_for_others() {
        let places = Places::new(100);
        let connections: [AtomicUsize; 5] = Default::default();
        let held: Vec<_> = connections.iter().map(|held| as_many_as_possible(&places, held)).collect();
        assert_eq!(held[0], 50);
        assert!(held.iter().all(|held| *held > 0), "each finds a place: {held:?}");
        let newcomer = AtomicUsize::new(0);
        assert!(places.take(&newcomer, 1), "five that took all they may leave places");
    }

    #[test]
    fn places_are_taken_all_or_none_and_can_be_taken_again() {
        let (places, held) = (Places::new(10), AtomicUsize::new(0));
        assert!(!places.take(&held, 11) && !places.take(&held, usize::MAX));
        assert!(places.take(&held, 10), "a connection that is alone takes what a request needs");
        assert!(!places.take(&AtomicUsize::new(0), 1));
        places.give_back(&held, 10);
        assert!(places.take(&AtomicUsize::new(0), 10));
    }
}
