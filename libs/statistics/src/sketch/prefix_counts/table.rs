//! A map from prefixes to positive counts. Profiling a large file spends its time here, in the tables of one column after another, so the
//! design minimises the cache lines that a batch of values touches.

mod pages;
mod scattered;

use pages::Pages;
use scattered::Scattered;

/// Counts by prefix: in pages if prefixes are close to each other, as those of a continuous quantity are once they are short, else in a
/// hash table. A list takes the least memory; it becomes a hash table with the next count.
#[derive(Debug, Clone)]
pub(super) enum Table {
    Scattered(Scattered),
    Pages(Pages),
    /// Ascending prefixes with their positive counts.
    Listed(Vec<(u64, u64)>),
}

impl Table {
    pub(super) fn new() -> Self {
        Self::Scattered(Scattered::new())
    }

    /// A table of distinct prefixes, with space for `capacity`.
    pub(super) fn of(prefixes: &[(u64, u64)], capacity: usize) -> Self {
        let mut table = match Pages::with_room_for(prefixes.iter().map(|(prefix, _)| *prefix), capacity) {
            Some(pages) => Self::Pages(pages),
            None => Self::Scattered(Scattered::with_room_for(capacity)),
        };
        prefixes.iter().for_each(|&(prefix, rows)| table.add(prefix, rows));
        table
    }

    #[inline]
    pub(super) fn add(&mut self, prefix: u64, rows: u64) {
        match self {
            Self::Scattered(scattered) => scattered.add(prefix, rows),
            Self::Pages(pages) => {
                if !pages.add(prefix, rows) {
                    self.scatter();
                    self.add(prefix, rows);
                }
            }
            Self::Listed(_) => {
                self.scatter();
                self.add(prefix, rows);
            }
        }
    }

    pub(super) fn get(&self, prefix: u64) -> u64 {
        match self {
            Self::Scattered(scattered) => scattered.get(prefix),
            Self::Pages(pages) => pages.get(prefix),
            Self::Listed(list) => list.binary_search_by_key(&prefix, |pair| pair.0).map_or(0, |index| list[index].1),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Scattered(scattered) => scattered.len(),
            Self::Pages(pages) => pages.len(),
            Self::Listed(list) => list.len(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        let (scattered, pages, list) = match self {
            Self::Scattered(scattered) => (Some(scattered.iter()), None, [].as_slice()),
            Self::Pages(pages) => (None, Some(pages.iter()), [].as_slice()),
            Self::Listed(list) => (None, None, list.as_slice()),
        };
        scattered.into_iter().flatten().chain(pages.into_iter().flatten()).chain(list.iter().copied())
    }

    /// Converts pages or a list to a hash table.
    #[cold]
    fn scatter(&mut self) {
        let mut scattered = Scattered::with_room_for(self.len());
        self.iter().for_each(|(prefix, rows)| scattered.add(prefix, rows));
        *self = Self::Scattered(scattered);
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(prefix, rows)| other.get(prefix) == rows)
    }
}

impl Eq for Table {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Counts the prefixes in a table that starts with the first few, and in a standard map.
    fn count(prefixes: &[u64], first: usize, capacity: usize) -> (Table, BTreeMap<u64, u64>) {
        let (first, later) = prefixes.split_at(first);
        let mut map = BTreeMap::new();
        first.iter().for_each(|prefix| *map.entry(*prefix).or_insert(0) += 1);
        let pairs: Vec<(u64, u64)> = map.iter().map(|(&prefix, &rows)| (prefix, rows)).collect();
        let mut table = Table::of(&pairs, capacity);
        for prefix in later {
            table.add(*prefix, 1);
            *map.entry(*prefix).or_insert(0) += 1;
        }
        (table, map)
    }

    #[test]
    fn counts_equal_those_of_a_standard_map_for_any_prefixes() {
        let near: Vec<u64> = (0..5000_u64).map(|i| 1_000_000 + i * i % 3001).collect();
        let far: Vec<u64> = (0..5000_u64).map(|i| (i * i % 3001).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let from_near_to_far = [&near[..], &far[..]].concat();
        for (prefixes, begins, ends) in [(&near, true, true), (&far, false, false), (&from_near_to_far, true, false)] {
            let (table, map) = count(prefixes, 3000, 4096);
            let (begun, _) = count(&prefixes[..3000], 3000, 4096);
            assert_eq!((matches!(begun, Table::Pages(_)), matches!(table, Table::Pages(_))), (begins, ends));
            assert_eq!(table.iter().collect::<BTreeMap<_, _>>(), map);
            assert_eq!(table.len(), map.len());
            assert!(map.iter().all(|(&prefix, &rows)| table.get(prefix) == rows));
            assert_eq!(
                (table.get(0), table.get(999_999), table.get(u64::MAX)),
                (map.get(&0).copied().unwrap_or(0), 0, 0)
            );
            assert_eq!(table, count(prefixes, 0, 4096).0);
            let mut listed = Table::Listed(map.clone().into_iter().collect());
            assert_eq!(listed, table);
            assert!(map.iter().all(|(&prefix, &rows)| listed.get(prefix) == rows));
            assert_eq!(listed.get(u64::MAX), 0);
            map.iter().for_each(|(&prefix, &rows)| listed.add(prefix, rows));
            assert!(map.iter().all(|(&prefix, &rows)| listed.get(prefix) == 2 * rows));
        }
    }

    #[test]
    fn counts_beyond_32_bits_are_exact() {
        let mut table = Table::of(&[(1, 1)], 4096);
        assert!(matches!(table, Table::Pages(_)));
        for (prefix, rows) in [(1, u64::from(u32::MAX) - 1), (1, 1), (2, u64::MAX)] {
            table.add(prefix, rows);
        }
        assert_eq!((table.get(1), table.get(2), table.len()), (u64::from(u32::MAX) + 1, u64::MAX, 2));
    }

    #[test]
    fn zero_rows_add_no_prefix() {
        for mut table in [Table::new(), Table::of(&[(1, 1)], 4096)] {
            let len = table.len();
            table.add(0, 0);
            table.add(7, 0);
            assert_eq!((table.len(), table.get(7)), (len, 0));
            table.add(0, 2);
            table.add(0, 1);
            assert_eq!((table.len(), table.get(0)), (len + 1, 3));
        }
    }
}
