/// Counts of neighbouring prefixes side by side, for which a fraction of a hash table's memory does, and no search.
#[derive(Debug, Clone)]
pub(in crate::sketch::prefix_counts) struct Pages {
    /// The pages by their number, hashed, with linear probing; a power of two of them, a quarter of them taken at most.
    directory: Vec<Entry>,
    counts: Vec<[u64; PREFIXES]>,
    /// Counts above zero.
    used: usize,
    /// How many pages it is worth to have.
    most: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The leading bits of the page's prefixes.
    number: u64,
    /// Where its counts are, or [`NOWHERE`].
    place: u32,
}

const EMPTY: Entry = Entry { number: 0, place: NOWHERE };
const NOWHERE: u32 = u32::MAX;

const PAGE_BITS: u32 = 6;
const PREFIXES: usize = 1 << PAGE_BITS;

/// Counts that there may be for each prefix of the capacity, most of them zero, when pages are chosen, and when they
/// are given up again.
const BEGIN_BELOW: usize = 8;
const END_ABOVE: usize = 16;

impl Pages {
    /// No counts, with room for these prefixes; `None` if they lie too far apart.
    pub(super) fn with_room_for(prefixes: impl Iterator<Item = u64>, capacity: usize) -> Option<Self> {
        let mut numbers: Vec<u64> = prefixes.map(|prefix| prefix >> PAGE_BITS).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() * PREFIXES > BEGIN_BELOW * capacity {
            return None;
        }
        let most = (END_ABOVE * capacity / PREFIXES).min(NOWHERE as usize);
        let mut pages = Self { directory: vec![EMPTY; 4], counts: Vec::new(), used: 0, most };
        numbers.into_iter().for_each(|number| _ = pages.open(number));
        Some(pages)
    }

    /// Adds to a count, unless that would take a page too many.
    #[inline]
    pub(super) fn add(&mut self, prefix: u64, rows: u64) -> bool {
        let entry = self.directory[self.slot(prefix >> PAGE_BITS)];
        let place = if entry.place == NOWHERE {
            match self.open(prefix >> PAGE_BITS) {
                Some(place) => place,
                None => return false,
            }
        } else {
            entry.place
        };
        let count = &mut self.counts[place as usize][index(prefix)];
        self.used += usize::from(*count == 0 && rows > 0);
        *count += rows;
        true
    }

    pub(super) fn get(&self, prefix: u64) -> u64 {
        let entry = self.directory[self.slot(prefix >> PAGE_BITS)];
        self.counts.get(entry.place as usize).map_or(0, |page| page[index(prefix)])
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        let pages = self.directory.iter().filter(|entry| entry.place != NOWHERE);
        pages.flat_map(|entry| {
            let prefixes = (entry.number << PAGE_BITS..).zip(self.counts[entry.place as usize]);
            prefixes.filter(|(_, rows)| *rows > 0)
        })
    }

    /// The entry of a page, or the empty one where it belongs.
    #[inline]
    fn slot(&self, number: u64) -> usize {
        let mask = self.directory.len() - 1;
        // Fibonacci hashing: the product's leading bits depend on every bit of the number.
        let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut slot = (hash >> (u64::BITS - self.directory.len().trailing_zeros())) as usize;
        while self.directory[slot].number != number && self.directory[slot].place != NOWHERE {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// A page of zeros, unless there are enough.
    #[cold]
    fn open(&mut self, number: u64) -> Option<u32> {
        if self.counts.len() == self.most {
            return None;
        }
        if 4 * (self.counts.len() + 1) > self.directory.len() {
            let larger = vec![EMPTY; 2 * self.directory.len()];
            let smaller = std::mem::replace(&mut self.directory, larger);
            smaller.into_iter().filter(|entry| entry.place != NOWHERE).for_each(|entry| self.enter(entry));
        }
        let place = u32::try_from(self.counts.len()).ok()?;
        self.counts.push([0; PREFIXES]);
        self.enter(Entry { number, place });
        Some(place)
    }

    fn enter(&mut self, entry: Entry) {
        let slot = self.slot(entry.number);
        self.directory[slot] = entry;
    }
}

/// A prefix's place in its page.
#[inline]
fn index(prefix: u64) -> usize {
    (prefix % PREFIXES as u64) as usize
}
