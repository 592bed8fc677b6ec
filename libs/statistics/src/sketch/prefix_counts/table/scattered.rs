/// A hash table from prefixes to counts. It is several times as fast as the standard map: keys and counts are integers, an empty slot is a
/// count of zero, and a prefix is nearly always in the cache line given by its hash, where it is found without branches.
#[derive(Debug, Clone)]
pub(in crate::sketch::prefix_counts) struct Scattered {
    /// At least [`FIRST_LINES`].
    lines: Vec<Line>,
    used: usize,
}

/// The slots of one cache line, filled from the first. A prefix is in the first line with a free slot, starting at its own.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Line([Slot; SLOTS]);

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    prefix: u64,
    /// 0 if the slot is empty.
    rows: u64,
}

const SLOTS: usize = 4;

/// Lines of a new table, few so that small columns need little memory.
const FIRST_LINES: usize = 16;

impl Scattered {
    pub(super) fn new() -> Self {
        Self::with_lines(FIRST_LINES)
    }

    /// A table with space for `prefixes` prefixes without growing.
    pub(super) fn with_room_for(prefixes: usize) -> Self {
        Self::with_lines((4 * prefixes).div_ceil(3 * SLOTS).max(FIRST_LINES))
    }

    fn with_lines(lines: usize) -> Self {
        Self { lines: vec![Line::default(); lines], used: 0 }
    }

    #[inline]
    pub(super) fn add(&mut self, prefix: u64, rows: u64) {
        let line = self.line(prefix);
        match self.lines[line].likely(prefix) {
            Some(slot) => slot.rows += rows,
            None => self.search_and_add(line, prefix, rows),
        }
    }

    pub(super) fn get(&self, prefix: u64) -> u64 {
        let mut line = self.line(prefix);
        loop {
            match self.lines[line].0.iter().find(|slot| slot.rows == 0 || slot.prefix == prefix) {
                Some(slot) => return slot.rows,
                None => line = self.next(line),
            }
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.lines.iter().flat_map(|line| line.0).filter(|slot| slot.rows > 0).map(|slot| (slot.prefix, slot.rows))
    }

    /// The line of a prefix.
    #[inline]
    fn line(&self, prefix: u64) -> usize {
        // Fibonacci hashing: the leading bits of the product depend on every bit of the prefix.
        let hash = prefix.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The leading 32 bits, scaled to the number of lines (Lemire 2019).
        (((hash >> 32) * self.lines.len() as u64) >> 32) as usize
    }

    fn next(&self, line: usize) -> usize {
        if line + 1 < self.lines.len() { line + 1 } else { 0 }
    }

    /// Adds a prefix that is new, or not in its own line.
    #[cold]
    fn search_and_add(&mut self, mut line: usize, prefix: u64, rows: u64) {
        if rows == 0 {
            return;
        }
        loop {
            match self.lines[line].0.iter_mut().find(|slot| slot.rows == 0 || slot.prefix == prefix) {
                Some(slot) => {
                    self.used += usize::from(slot.rows == 0);
                    *slot = Slot { prefix, rows: slot.rows + rows };
                    return self.grow_if_crowded();
                }
                None => line = self.next(line),
            }
        }
    }

    /// Keeps a quarter of the slots free. Growing by half rather than doubling halves the memory that thousands of columns waste at once.
    fn grow_if_crowded(&mut self) {
        if 4 * self.used <= 3 * SLOTS * self.lines.len() {
            return;
        }
        let mut larger = Self::with_lines(self.lines.len() * 3 / 2);
        self.iter().for_each(|(prefix, rows)| larger.add(prefix, rows));
        *self = larger;
    }
}

impl Line {
    /// The slot of a prefix, if it is in this line. It may be missed if the prefix is 0, which equals an empty slot.
    #[inline]
    fn likely(&mut self, prefix: u64) -> Option<&mut Slot> {
        let is = |index: usize| self.0[index].prefix == prefix;
        // Each `if` selects one of two numbers, which compiles to no branch.
        let index = if is(1) { 1 } else { 0 };
        let index = if is(2) { 2 } else { index };
        let index = if is(3) { 3 } else { index };
        let slot = &mut self.0[index];
        (slot.prefix == prefix && slot.rows > 0).then_some(slot)
    }
}
