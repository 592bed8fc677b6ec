/// Counts of neighbouring prefixes in adjacent memory, which needs a fraction of the memory of a hash table, and no search.
#[derive(Debug, Clone)]
pub(in crate::sketch::prefix_counts) struct Pages {
    /// The pages by the hash of their number, with linear probing; a power of two entries, at most a quarter of them used.
    directory: Vec<Entry>,
    /// A column with a larger count is converted to a hash table.
    counts: Vec<[u32; PREFIXES]>,
    /// Counts above zero.
    used: usize,
    /// The largest number of pages that is worthwhile.
    most: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The leading bits of the prefixes of the page.
    number: u64,
    /// The index of its counts, or [`NOWHERE`].
    place: u32,
}

const EMPTY: Entry = Entry { number: 0, place: NOWHERE };
const NOWHERE: u32 = u32::MAX;

const PAGE_BITS: u32 = 6;
const PREFIXES: usize = 1 << PAGE_BITS;

/// Count cells per prefix of the capacity, most of them zero, below which pages are chosen, and above which they are converted to a hash
/// table, which takes as much memory as the latter.
const BEGIN_BELOW: usize = 6;
const END_ABOVE: usize = 8;

impl Pages {
    /// Without counts, with space for these prefixes; `None` if they are too sparse.
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

    /// Adds to a count, unless that needs more than the largest number of pages, or a larger count than fits.
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
        let Some(sum) = u32::try_from(rows).ok().and_then(|rows| count.checked_add(rows)) else { return false };
        self.used += usize::from(*count == 0 && rows > 0);
        *count = sum;
        true
    }

    pub(super) fn get(&self, prefix: u64) -> u64 {
        let entry = self.directory[self.slot(prefix >> PAGE_BITS)];
        self.counts.get(entry.place as usize).map_or(0, |page| page[index(prefix)].into())
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        let pages = self.directory.iter().filter(|entry| entry.place != NOWHERE);
        pages.flat_map(|entry| {
            let prefixes = (entry.number << PAGE_BITS..).zip(self.counts[entry.place as usize]);
            prefixes.filter(|(_, rows)| *rows > 0).map(|(prefix, rows)| (prefix, rows.into()))
        })
    }

    /// The entry of a page, or the empty entry for it.
    #[inline]
    fn slot(&self, number: u64) -> usize {
        let mask = self.directory.len() - 1;
        // Fibonacci hashing: the leading bits of the product depend on every bit of the number.
        let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut slot = (hash >> (u64::BITS - self.directory.len().trailing_zeros())) as usize;
        while self.directory[slot].number != number && self.directory[slot].place != NOWHERE {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// Adds a page of zeros, unless the largest number is reached.
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

/// The position of a prefix in its page.
#[inline]
fn index(prefix: u64) -> usize {
    (prefix % PREFIXES as u64) as usize
}
