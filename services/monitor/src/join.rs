//! Joins labels to predicted rows.
//!
//! The join holds the keys of one window or span and at most one label for each; outcomes stream past it, so its memory grows with the
//! rows requested and not with the outcomes ever reported. Rows come first; beyond that the order of the input does not matter: of
//! several outcomes of one row the one with the greatest [`Position`] is valid, whenever it arrives.

use std::collections::HashMap;

use rekindle_domain::outcome::Label;

use crate::outcome::{Key, Position};

/// Rows and their labels.
#[derive(Debug, Default)]
pub struct Join {
    slots: HashMap<Key, usize>,
    ids: Option<(u128, u128)>,
    labels: Vec<Option<(Position, Label)>>,
}

impl Join {
    /// Adds a slot for a row; `false` if it has one already, so that a row that was logged twice counts once.
    pub fn add_row(&mut self, key: Key) -> bool {
        let slot = self.labels.len();
        let is_new = *self.slots.entry(key).or_insert(slot) == slot;
        if is_new {
            self.labels.push(None);
            let id = key.prediction;
            self.ids = Some(self.ids.map_or((id, id), |(min, max)| (min.min(id), max.max(id))));
        }
        is_new
    }

    /// The smallest and the greatest prediction id of the rows.
    pub fn ids(&self) -> Option<(u128, u128)> {
        self.ids
    }

    /// Adds an outcome; outcomes of rows that were not added are ignored.
    pub fn add_outcome(&mut self, key: Key, position: Position, label: impl FnOnce() -> Label) {
        let Some(&slot) = self.slots.get(&key) else { return };
        let slot = &mut self.labels[slot];
        if slot.as_ref().is_none_or(|(before, _)| *before < position) {
            *slot = Some((position, label()));
        }
    }

    /// The label of each row, in the order in which the rows were added.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = Option<&Label>> {
        self.labels.iter().map(|slot| slot.as_ref().map(|(_, label)| label))
    }

    /// Number of rows with a label.
    pub fn labelled(&self) -> usize {
        self.labels.iter().flatten().count()
    }
}

/// A share of all keys: one key in `of`, chosen by hash, so that every scan of the same rows takes the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// 1 selects every key.
    pub of: u64,
}

impl Sample {
    /// The share that selects about `limit` of `rows`.
    pub fn of_rows(rows: u64, limit: u64) -> Self {
        Self { of: rows.div_ceil(limit.max(1)).max(1) }
    }

    /// Whether a key belongs to the share.
    pub fn selects(self, key: Key) -> bool {
        // Prediction ids end in random bits, but their first bits are a time: the hash mixes both.
        self.of == 1 || splitmix(key.prediction as u64 ^ u64::from(key.row)).is_multiple_of(self.of)
    }
}

/// Finaliser of SplitMix64 (Steele, Lea and Flood 2014, figure 17).
fn splitmix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> Key {
        Key { prediction: u128::from(n / 2), row: u32::from(n % 2) }
    }

    fn position(at: u8, line: u8) -> Position {
        Position { at: i64::from(at), sequence: u64::from(at), line: u32::from(line) }
    }

    #[test]
    fn the_outcome_reported_last_is_valid_in_any_order_of_arrival() {
        for order in [[0, 1], [1, 0]] {
            let mut join = Join::default();
            assert!(join.add_row(key(1)));
            assert!(!join.add_row(key(1)));
            for step in order {
                join.add_outcome(key(1), position(step, 1), || Label::Number(f64::from(step)));
            }
            assert_eq!(join.labels().collect::<Vec<_>>(), [Some(&Label::Number(1.0))]);
        }
    }

    #[test]
    fn a_sample_selects_its_share_of_the_keys() {
        assert_eq!(Sample::of_rows(10, 100), Sample { of: 1 });
        assert_eq!(Sample::of_rows(0, 0), Sample { of: 1 });
        let tenth = Sample::of_rows(1_000, 100);
        let selected = (0..10_000u128).filter(|&n| tenth.selects(Key { prediction: n, row: 0 })).count();
        assert!((850..1150).contains(&selected), "{selected}");
    }

    proptest! {
        /// Outcomes that arrive late, repeatedly, before their prediction or out of order give the same labels as a table that is
        /// built from the whole log at once.
        #[test]
        fn labels_equal_those_of_a_naive_join(
            rows in proptest::collection::vec(0u8..20, 0..40),
            outcomes in proptest::collection::vec((0u8..30, any::<u8>(), any::<u8>(), -5i8..5), 0..80),
            rotation in any::<prop::sample::Index>(),
        ) {
            let mut naive: BTreeMap<Key, (Position, i8)> = BTreeMap::new();
            let mut seen = BTreeSet::new();
            // A position in the stream holds one outcome.
            let outcomes: Vec<_> =
                outcomes.into_iter().filter(|&(_, at, line, _)| seen.insert((at, line))).collect();
            for &(k, at, line, value) in &outcomes {
                let entry = naive.entry(key(k)).or_insert((position(at, line), value));
                if position(at, line) > entry.0 {
                    *entry = (position(at, line), value);
                }
            }
            let mut join = Join::default();
            let added: Vec<Key> = rows.iter().map(|&n| key(n)).filter(|&k| join.add_row(k)).collect();
            prop_assert_eq!(added.len(), rows.iter().collect::<BTreeSet<_>>().len());
            let mut shuffled = outcomes.clone();
            if !shuffled.is_empty() {
                let middle = rotation.index(shuffled.len());
                shuffled.rotate_left(middle);
            }
            for (k, at, line, value) in shuffled.iter().chain(&outcomes).copied() {
                join.add_outcome(key(k), position(at, line), || Label::Number(f64::from(value)));
            }
            let expected: Vec<Option<Label>> =
                added.iter().map(|k| naive.get(k).map(|(_, value)| Label::Number(f64::from(*value)))).collect();
            prop_assert_eq!(join.labels().map(|label| label.cloned()).collect::<Vec<_>>(), expected.clone());
            prop_assert_eq!(join.labelled(), expected.iter().flatten().count());
        }
    }
}
