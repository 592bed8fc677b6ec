//! Truth to prediction: which rows there are, and the last told outcome of each.
//!
//! The join holds the keys of one window or span and at most one truth for each; outcomes stream past it, so its memory
//! follows the rows asked for and not the outcomes that were ever told. The order in which rows and outcomes are fed
//! does not matter beyond "rows first": what was told last is decided by [`Told`], not by arrival.

use std::collections::HashMap;

use crate::outcome::{Key, Truth};

/// When an outcome was told: the bus's time of the message, its place in the stream, and the line in the message. The greatest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// Nanoseconds since 1970-01-01 UTC, by the bus's clock.
    pub at: i64,
    /// Sequence in the stream.
    pub sequence: u64,
    /// Line in the message, from 1.
    pub line: u32,
}

/// Rows, and what turned out.
#[derive(Debug, Default)]
pub struct Join {
    places: HashMap<Key, usize>,
    truths: Vec<Option<(Told, Truth)>>,
}

impl Join {
    /// Makes place for a row; `false` where it is there already, which makes a second logging of the same row harmless.
    pub fn add_row(&mut self, key: Key) -> bool {
        let place = self.truths.len();
        let is_new = *self.places.entry(key).or_insert(place) == place;
        if is_new {
            self.truths.push(None);
        }
        is_new
    }

    /// Takes note of an outcome; those of rows that were not added are passed over.
    pub fn tell(&mut self, key: Key, told: Told, truth: impl FnOnce() -> Truth) {
        let Some(&place) = self.places.get(&key) else { return };
        let slot = &mut self.truths[place];
        if slot.as_ref().is_none_or(|(before, _)| *before < told) {
            *slot = Some((told, truth()));
        }
    }

    /// The truth of each row, in the order in which the rows were added.
    pub fn truths(&self) -> impl ExactSizeIterator<Item = Option<&Truth>> {
        self.truths.iter().map(|slot| slot.as_ref().map(|(_, truth)| truth))
    }

    /// Rows with a truth.
    pub fn labelled(&self) -> usize {
        self.truths.iter().flatten().count()
    }
}

/// A share of all keys, the same for every reader: one key in `of`. Prediction ids end in random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// 1 takes every key.
    pub of: u64,
}

impl Sample {
    /// The share that keeps about `limit` of `rows`.
    pub fn of_rows(rows: u64, limit: u64) -> Self {
        Self { of: rows.div_ceil(limit.max(1)).max(1) }
    }

    /// Whether a key belongs to the share.
    pub fn takes(self, key: Key) -> bool {
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

    fn told(at: u8, line: u8) -> Told {
        Told { at: i64::from(at), sequence: u64::from(at), line: u32::from(line) }
    }

    #[test]
    fn the_last_told_wins_whichever_comes_first() {
        for order in [[0, 1], [1, 0]] {
            let mut join = Join::default();
            assert!(join.add_row(key(1)));
            assert!(!join.add_row(key(1)));
            for step in order {
                join.tell(key(1), told(step, 1), || Truth::Number(f64::from(step)));
            }
            assert_eq!(join.truths().collect::<Vec<_>>(), [Some(&Truth::Number(1.0))]);
        }
    }

    #[test]
    fn a_sample_takes_its_share_and_the_whole_takes_all() {
        assert_eq!(Sample::of_rows(10, 100), Sample { of: 1 });
        assert_eq!(Sample::of_rows(0, 0), Sample { of: 1 });
        let tenth = Sample::of_rows(1_000, 100);
        let taken = (0..10_000u128).filter(|&n| tenth.takes(Key { prediction: n, row: 0 })).count();
        assert!((850..1150).contains(&taken), "{taken}");
    }

    proptest! {
        /// Late, twice, before their prediction, out of order: the same as a table built from the whole log at once.
        #[test]
        fn same_as_the_naive_join(
            rows in proptest::collection::vec(0u8..20, 0..40),
            outcomes in proptest::collection::vec((0u8..30, any::<u8>(), any::<u8>(), -5i8..5), 0..80),
            rotation in any::<prop::sample::Index>(),
        ) {
            let mut naive: BTreeMap<Key, (Told, i8)> = BTreeMap::new();
            let mut seen = BTreeSet::new();
            // Two different truths told at the very same place cannot be: a place in the log holds one.
            let outcomes: Vec<_> =
                outcomes.into_iter().filter(|&(_, at, line, _)| seen.insert((at, line))).collect();
            for &(k, at, line, value) in &outcomes {
                let entry = naive.entry(key(k)).or_insert((told(at, line), value));
                if told(at, line) > entry.0 {
                    *entry = (told(at, line), value);
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
                join.tell(key(k), told(at, line), || Truth::Number(f64::from(value)));
            }
            let expected: Vec<Option<Truth>> =
                added.iter().map(|k| naive.get(k).map(|(_, value)| Truth::Number(f64::from(*value)))).collect();
            prop_assert_eq!(join.truths().map(|truth| truth.cloned()).collect::<Vec<_>>(), expected.clone());
            prop_assert_eq!(join.labelled(), expected.iter().flatten().count());
        }
    }
}
