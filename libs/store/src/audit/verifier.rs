//! The check of a trail, entry by entry.

use rekindle_domain::audit::{Fault, Seal, Sealed, Verification};

/// Faults that a verification names.
const FAULTS: usize = 100;

/// Checks entries in the order of their positions, and compares them with seals that are known otherwise.
#[derive(Debug, Clone)]
pub(super) struct Verifier<'a> {
    known: Vec<&'a Seal>,
    /// The hash of the entry before, if it was read.
    previous: Option<String>,
    expected: u64,
    found: Verification,
}

impl<'a> Verifier<'a> {
    /// `published` are the seals that were published; `head` is the last one as the database has it.
    pub(super) fn new(published: &'a [Seal], head: Option<&'a Seal>) -> Self {
        let found = Verification {
            published: published.iter().map(|seal| seal.position).max().unwrap_or(0),
            ..Verification::default()
        };
        let mut known: Vec<&Seal> = published.iter().chain(head).collect();
        known.sort_by_key(|seal| seal.position);
        Self { known, previous: Some(String::new()), expected: 1, found }
    }

    /// Adds a fault that is of no entry.
    pub(super) fn fault(&mut self, position: u64, problem: impl Into<String>) {
        if self.found.faults.len() < FAULTS {
            self.found.faults.push(Fault { position, problem: problem.into() });
        }
    }

    /// Checks an entry at a position, which is that of its seal, or of an entry that has none.
    pub(super) fn add(&mut self, position: i64, sealed: Sealed) {
        let Sealed { entry, seal } = sealed;
        let place = u64::try_from(position).unwrap_or(0);
        let Some(seal) = seal.filter(|_| place > 0) else {
            return self
                .fault(place, format!("was inserted, or has lost its hash: {} of {}", entry.action, entry.object));
        };
        self.found.entries += 1;
        if place > self.expected {
            self.fault(self.expected, missing(self.expected, place - 1));
            self.previous = None;
        }
        if self.previous.as_ref().is_some_and(|previous| entry.hash(place, previous) != seal.hash) {
            self.fault(place, format!("was changed, or the one before: {} of {}", entry.action, entry.object));
        }
        let from = self.known.partition_point(|known| known.position < place);
        let mut known = self.known[from..].iter().take_while(|known| known.position == place);
        if known.any(|known| known.hash != seal.hash) {
            self.fault(place, "has another hash than was published: entries up to it were changed");
        }
        self.expected = place + 1;
        self.previous = Some(seal.hash);
    }

    /// What was found, after the last entry.
    pub(super) fn finish(mut self) -> Verification {
        let last = self.known.last().map_or(0, |seal| seal.position);
        if last >= self.expected {
            self.fault(self.expected, missing(self.expected, last));
        }
        self.found.hash = self.previous.unwrap_or_default();
        self.found
    }
}

fn missing(first: u64, last: u64) -> String {
    if first == last { "is missing".to_owned() } else { format!("is missing, and all up to {last}") }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use rekindle_domain::audit::Entry;
    use uuid::Uuid;

    use super::*;

    /// A trail as a service writes it.
    fn trail(count: u64) -> Vec<Sealed> {
        let mut hash = String::new();
        let sealed = |position: u64| {
            let entry = Entry {
                request_id: Uuid::from_u128(position.into()),
                actor: format!("person-{}", position % 7),
                action: "alias.moved".to_owned(),
                object: format!("alias/model-{}", position % 50),
                before: format!("{{\"version\":{}}}", position - 1),
                after: format!("{{\"version\":{position}}}"),
                reason: "better".to_owned(),
                correlation_id: "workflow".to_owned(),
                time: DateTime::from_timestamp(1_700_000_000, 0).expect("a time"),
            };
            hash = entry.hash(position, &hash);
            Sealed { entry, seal: Some(Seal { position, hash: hash.clone() }) }
        };
        (1..=count).map(sealed).collect()
    }

    fn add(verifier: &mut Verifier<'_>, sealed: &Sealed) {
        let position = sealed.seal.as_ref().and_then(|seal| i64::try_from(seal.position).ok()).expect("sealed");
        verifier.add(position, sealed.clone());
    }

    /// The positions of the faults that a verification has found once it has read these entries after those before, or at its end.
    fn faults<'e>(before: &Verifier<'_>, entries: impl IntoIterator<Item = &'e Sealed>, at_end: bool) -> Vec<u64> {
        let mut verifier = before.clone();
        entries.into_iter().for_each(|entry| add(&mut verifier, entry));
        let found = if at_end { verifier.finish() } else { verifier.found };
        found.faults.into_iter().map(|fault| fault.position).collect()
    }

    /// Flips a bit of one of the texts of an entry, another one each time.
    fn flipped(sealed: &Sealed, index: usize) -> Sealed {
        let mut sealed = sealed.clone();
        let Entry { actor, action, object, before, after, reason, correlation_id, .. } = &mut sealed.entry;
        let text = [actor, action, object, before, after, reason, correlation_id].into_iter().nth(index % 7);
        let text = text.expect("one of seven");
        let mut bytes = std::mem::take(text).into_bytes();
        let at = index % bytes.len();
        bytes[at] ^= 1;
        *text = String::from_utf8(bytes).expect("ASCII");
        sealed
    }

    #[test]
    fn each_of_ten_thousand_entries_is_found_if_it_is_flipped_dropped_swapped_or_the_first_of_those_cut_off() {
        const ENTRIES: u64 = 10_000;
        let trail = trail(ENTRIES);
        let head = trail.last().and_then(|last| last.seal.clone()).expect("sealed");
        let mut verifier = Verifier::new(&[], Some(&head));
        for (index, sealed) in trail.iter().enumerate() {
            let place = index as u64 + 1;
            let (next, is_last) = (trail.get(index + 1), place == ENTRIES);
            let changed = flipped(sealed, index);
            assert_eq!(faults(&verifier, [&changed], false), [place], "{place} changed");
            assert_eq!(faults(&verifier, next, is_last), [place], "{place} dropped");
            assert_eq!(faults(&verifier, [], true), [place], "{place} and all after it dropped");
            if let Some(next) = next {
                // Each keeps the position and the hash of its place.
                let one = Sealed { entry: next.entry.clone(), seal: sealed.seal.clone() };
                let other = Sealed { entry: sealed.entry.clone(), seal: next.seal.clone() };
                assert_eq!(faults(&verifier, [&one, &other], false), [place, place + 1], "{place} swapped");
            }
            add(&mut verifier, sealed);
        }
        let found = verifier.finish();
        assert_eq!((found.entries, found.faults, found.hash), (ENTRIES, vec![], head.hash));
    }
}
