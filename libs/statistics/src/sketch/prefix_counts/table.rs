/// An open-addressed table from prefixes to counts above zero, with linear probing. It is what a profile of a large
/// file spends its time in: several times as fast as the standard map, since keys and counts are plain integers and an
/// empty slot is a count of zero.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Prefix and count; a power of two of them.
    slots: Vec<(u64, u64)>,
    used: usize,
}

/// Slots that a new table starts with, so that small columns stay small.
const FIRST_SLOTS: usize = 64;

impl Table {
    pub(super) fn new() -> Self {
        Self { slots: vec![(0, 0); FIRST_SLOTS], used: 0 }
    }

    /// A table that has room for that many prefixes without growing.
    pub(super) fn with_room_for(prefixes: usize) -> Self {
        Self { slots: vec![(0, 0); (2 * prefixes).next_power_of_two().max(FIRST_SLOTS)], used: 0 }
    }

    #[inline]
    pub(super) fn add(&mut self, prefix: u64, rows: u64) {
        let index = self.slot(prefix);
        let slot = &mut self.slots[index];
        if slot.1 == 0 && rows > 0 {
            slot.0 = prefix;
            slot.1 = rows;
            self.used += 1;
            self.grow_if_crowded();
        } else {
            slot.1 += rows;
        }
    }

    pub(super) fn get(&self, prefix: u64) -> u64 {
        self.slots[self.slot(prefix)].1
    }

    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.slots.iter().copied().filter(|slot| slot.1 > 0)
    }

    /// The slot that holds a prefix, or the empty one where it belongs.
    #[inline]
    fn slot(&self, prefix: u64) -> usize {
        let mask = self.slots.len() - 1;
        // Fibonacci hashing: the product's leading bits depend on every bit of the prefix.
        let hash = prefix.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut index = (hash >> (u64::BITS - self.slots.len().trailing_zeros())) as usize;
        while self.slots[index].1 != 0 && self.slots[index].0 != prefix {
            index = (index + 1) & mask;
        }
        index
    }

    fn grow_if_crowded(&mut self) {
        if 2 * self.used <= self.slots.len() {
            return;
        }
        let larger = vec![(0, 0); self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, larger);
        for (prefix, rows) in old.into_iter().filter(|slot| slot.1 > 0) {
            let index = self.slot(prefix);
            self.slots[index] = (prefix, rows);
        }
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.used == other.used && self.iter().all(|(prefix, rows)| other.get(prefix) == rows)
    }
}

impl Eq for Table {}
