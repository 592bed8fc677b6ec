mod stored;
mod table;

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

pub use stored::PrefixCountsError;

/// Counts of 64-bit keys, exact for at most `capacity` distinct keys. With more, keys are counted by their leading bits, as many as give at
/// most `capacity` distinct prefixes.
///
/// The number of dropped bits ([`shift`](Self::shift)) depends on the set of keys alone: dropping a bit never increases the number of
/// prefixes, and no subset of the keys needs a larger shift than the whole. So the counts depend neither on the order of
/// the keys nor on the order of merges. (The collapsing follows UDDSketch: Epicoco, Melle, Cafaro and Pulimeno
/// 2020; the prefixes of ordered floats are logarithmic buckets with linear steps between powers of two, the
/// "linear" mapping of DDSketch: Masson, Rim and Lee 2019.)
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "stored::Stored", into = "stored::Stored")]
pub struct PrefixCounts {
    capacity: usize,
    shift: u32,
    table: table::Table,
    /// The sorted content, cached until the next change, since a reference is compared many times.
    sorted: OnceLock<Vec<(u64, u64)>>,
}

impl PrefixCounts {
    /// Without keys, for up to `capacity` (at least 2) distinct prefixes.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(2);
        Self { capacity, shift: 0, table: table::Table::new(), sorted: OnceLock::new() }
    }

    /// Counts a key `rows` times.
    #[inline]
    pub fn add(&mut self, key: u64, rows: u64) {
        self.forget_order();
        self.table.add(key >> self.shift, rows);
        if self.table.len() > self.capacity {
            self.coarsen();
        }
    }

    /// Counts keys once each.
    pub fn add_all(&mut self, keys: impl ExactSizeIterator<Item = u64>) {
        if self.is_empty() && keys.len() > self.capacity {
            self.begin_with(keys.collect());
        } else {
            keys.for_each(|key| self.add(key, 1));
        }
    }

    /// Adds the counts of another part; the result has the smaller capacity of the two.
    pub fn merge(&mut self, other: &Self) {
        self.forget_order();
        self.capacity = self.capacity.min(other.capacity);
        self.coarsen_to(self.shift.max(other.shift));
        for (prefix, rows) in other.table.iter() {
            self.table.add(prefix >> (self.shift - other.shift), rows);
            if self.table.len() > self.capacity {
                // The remaining prefixes have the old shift, which the line above allows for.
                self.coarsen();
            }
        }
        if self.table.len() > self.capacity {
            self.coarsen();
        }
    }

    /// Frees the space for further keys and for look-ups: the least memory for counts that are complete. They can still be added to.
    pub fn compact(&mut self) {
        if !matches!(self.table, table::Table::Listed(_)) {
            self.table = table::Table::Listed(self.sorted().to_vec());
            self.sorted = OnceLock::new();
        }
    }

    /// Trailing bits dropped from every key: 0 while the counts are exact, at most 63 since two prefixes always fit.
    pub fn shift(&self) -> u32 {
        self.shift
    }

    /// Whether every key has a count of its own.
    pub fn is_exact(&self) -> bool {
        self.shift == 0
    }

    /// The number of distinct prefixes.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no key was counted.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// All rows counted.
    pub fn rows(&self) -> u64 {
        self.table.iter().map(|(_, rows)| rows).sum()
    }

    /// The prefixes in ascending order with their counts, at `shift`, which is at least the own shift.
    pub fn at_shift(&self, shift: u32) -> Vec<(u64, u64)> {
        shortened(self.sorted(), shift.saturating_sub(self.shift))
    }

    /// The first and the last key of a prefix at a shift.
    pub fn keys_of(prefix: u64, shift: u32) -> (u64, u64) {
        let first = prefix << shift;
        (first, first | ((1 << shift) - 1))
    }

    /// Counts many initial keys at the shift that they need. One by one, the shift would grow bit by bit.
    fn begin_with(&mut self, mut keys: Vec<u64>) {
        keys.sort_unstable();
        let pairs: Vec<(u64, u64)> = keys.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u64)).collect();
        let shift = shift_for(&pairs, self.capacity);
        self.table = table::Table::of(&shortened(&pairs, shift), self.capacity);
        self.shift = shift;
        self.forget_order();
    }

    /// The prefixes in ascending order with their counts.
    fn sorted(&self) -> &[(u64, u64)] {
        if let table::Table::Listed(pairs) = &self.table {
            return pairs;
        }
        self.sorted.get_or_init(|| {
            let mut pairs: Vec<(u64, u64)> = self.table.iter().collect();
            pairs.sort_unstable_by_key(|pair| pair.0);
            pairs
        })
    }

    #[inline]
    fn forget_order(&mut self) {
        if self.sorted.get().is_some() {
            self.sorted = OnceLock::new();
        }
    }

    /// Drops as few bits as bring the number of prefixes within the capacity.
    #[cold]
    fn coarsen(&mut self) {
        self.forget_order();
        let drop = shift_for(self.sorted(), self.capacity);
        self.coarsen_to(self.shift + drop);
    }

    fn coarsen_to(&mut self, shift: u32) {
        if shift == self.shift {
            return;
        }
        let pairs = self.at_shift(shift);
        self.forget_order();
        self.shift = shift;
        self.table = table::Table::of(&pairs, self.capacity);
    }
}

/// Ascending prefixes without their last `drop` bits, with the counts of equal ones added up.
fn shortened(prefixes: &[(u64, u64)], drop: u32) -> Vec<(u64, u64)> {
    let mut pairs: Vec<(u64, u64)> = prefixes.iter().map(|&(prefix, rows)| (prefix >> drop, rows)).collect();
    pairs.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        kept.1 += if same { later.1 } else { 0 };
        same
    });
    pairs
}

/// The smallest number of bits to drop so that at most `capacity` of the ascending, distinct prefixes remain.
fn shift_for(prefixes: &[(u64, u64)], capacity: usize) -> u32 {
    let Some(surplus) = prefixes.len().checked_sub(capacity + 1) else { return 0 };
    // Two neighbours become equal when all bits in which they differ are dropped.
    let bits = |pair: &[(u64, u64)]| u64::BITS - (pair[0].0 ^ pair[1].0).leading_zeros();
    let mut needed: Vec<u32> = prefixes.windows(2).map(bits).collect();
    needed.sort_unstable();
    needed[surplus]
}

/// The prefixes of two counts at the coarser shift of the two, ascending, with the rows of each.
pub(crate) fn aligned(left: &PrefixCounts, right: &PrefixCounts) -> Vec<(u64, (u64, u64))> {
    let shift = left.shift.max(right.shift);
    let (left, right) = (left.at_shift(shift), right.at_shift(shift));
    let mut right = right.into_iter().peekable();
    let mut pairs = Vec::with_capacity(left.len() + right.len());
    for (prefix, rows) in left {
        pairs.extend(
            std::iter::from_fn(|| right.next_if(|next| next.0 < prefix)).map(|(prefix, rows)| (prefix, (0, rows))),
        );
        let beside = right.next_if(|next| next.0 == prefix).map_or(0, |next| next.1);
        pairs.push((prefix, (rows, beside)));
    }
    pairs.extend(right.map(|(prefix, rows)| (prefix, (0, rows))));
    pairs
}

impl PartialEq for PrefixCounts {
    fn eq(&self, other: &Self) -> bool {
        self.capacity == other.capacity && self.shift == other.shift && self.table == other.table
    }
}

impl Eq for PrefixCounts {}
