use std::collections::HashMap;

use rekindle_domain::dataset::ValueCount;
use rekindle_statistics::sketch::Distinct;
use twox_hash::XxHash3_64;

/// Distinct values that are counted exactly.
const EXACT: usize = 1 << 19;

/// Bytes of text kept to name values by.
const NAME_BYTES: usize = 32 << 20;

/// The most frequent values that are reported.
const TOP: usize = 10;

/// Characters of a value that are reported.
const VALUE_CHARS: usize = 100;

/// Counts rows by value in bounded memory.
///
/// Exact up to [`EXACT`] distinct values. Beyond, the number of distinct values is HyperLogLog's estimate, and the counts are lower
/// bounds (Misra and Gries 1982): whenever there are too many, the median count is subtracted from all and those that reach zero go.
pub(super) struct Tally {
    /// By bits of the value, or by a 64-bit hash of the text: with 2^19 texts two share one with a chance below 1e-8.
    counts: HashMap<u64, Count>,
    /// The names of texts, cut, one after the other: allocated one by one they would fragment the heap.
    names: String,
    /// Of all values; `None` as long as `counts` has each.
    distinct: Option<Distinct>,
    limit: usize,
}

#[derive(Clone, Copy, Default)]
struct Count {
    rows: u64,
    /// The name among the names; empty for a value of fixed width.
    start: u32,
    length: u32,
}

impl Count {
    fn name(self, names: &str) -> &str {
        &names[self.start as usize..(self.start + self.length) as usize]
    }
}

impl Tally {
    pub(super) fn new() -> Self {
        Self::with_limit(EXACT)
    }

    fn with_limit(limit: usize) -> Self {
        Self { counts: HashMap::new(), names: String::new(), distinct: None, limit }
    }

    /// Adds a value of fixed width.
    pub(super) fn add_key(&mut self, key: u64) {
        self.counts.entry(key).or_default().rows += 1;
        self.after_add(key);
    }

    /// Adds a text.
    pub(super) fn add_text(&mut self, text: &str) {
        let key = XxHash3_64::oneshot(text.as_bytes());
        let names = &mut self.names;
        self.counts.entry(key).or_insert_with(|| append(names, cut(text))).rows += 1;
        self.after_add(key);
    }

    fn after_add(&mut self, key: u64) {
        if let Some(distinct) = &mut self.distinct {
            distinct.add(key);
        }
        if self.counts.len() > self.limit || self.names.len() > NAME_BYTES {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        let counts = &mut self.counts;
        self.distinct.get_or_insert_with(|| {
            let mut distinct = Distinct::new();
            counts.keys().for_each(|&key| distinct.add(key));
            distinct
        });
        let mut sorted: Vec<u64> = counts.values().map(|count| count.rows).collect();
        let middle = sorted.len() / 2;
        let median = *sorted.select_nth_unstable(middle).1;
        counts.retain(|_, count| count.rows > median);
        let mut names = String::new();
        for count in counts.values_mut() {
            let rows = count.rows - median;
            *count = Count { rows, ..append(&mut names, count.name(&self.names)) };
        }
        self.names = names;
    }

    /// The number of distinct values, beyond the limit an estimate.
    pub(super) fn distinct(&self) -> u64 {
        self.distinct.as_ref().map_or(self.counts.len() as u64, |distinct| distinct.estimate().round() as u64)
    }

    /// The most frequent values, those of equal count in order of their text, which `as_text` gives of a key and its name.
    pub(super) fn top(&self, as_text: impl Fn(u64, &str) -> String) -> Vec<ValueCount> {
        // Only values at least as frequent as the tenth are written as text, which is slow.
        let mut frequencies: Vec<u64> = self.counts.values().map(|count| count.rows).collect();
        frequencies.sort_unstable_by(|a, b| b.cmp(a));
        let least = frequencies.get(TOP - 1).copied().unwrap_or(0);
        let mut top = Vec::new();
        for (&key, count) in self.counts.iter().filter(|(_, count)| count.rows >= least) {
            top.push(ValueCount { value: as_text(key, count.name(&self.names)), count: count.rows });
            // Of values that are all equally rare, not every text is held at once.
            if top.len() > 100 * TOP {
                keep_most_frequent(&mut top);
            }
        }
        keep_most_frequent(&mut top);
        top
    }
}

/// Appends a name; returns its position with no rows.
fn append(names: &mut String, name: &str) -> Count {
    let position = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let count = Count { rows: 0, start: position(names.len()), length: position(name.len()) };
    names.push_str(name);
    count
}

fn keep_most_frequent(values: &mut Vec<ValueCount>) {
    values.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
    values.truncate(TOP);
}

fn cut(text: &str) -> &str {
    text.char_indices().nth(VALUE_CHARS).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_up_to_the_limit_and_bounds_beyond() {
        let mut tally = Tally::with_limit(100);
        (0..100).for_each(|key| tally.add_key(key));
        assert_eq!(tally.distinct(), 100);
        for key in 0..20_000 {
            tally.add_key(key);
            tally.add_key(7);
        }
        let estimate = tally.distinct() as f64;
        assert!((estimate / 20_000.0 - 1.0).abs() < 0.05, "{estimate}");
        let top = tally.top(|key, _| key.to_string());
        assert_eq!(top[0].value, "7");
        assert!(top[0].count <= 20_002 && top[0].count > 19_000, "{}", top[0].count);
        assert!(tally.counts.len() <= 100);
    }

    #[test]
    fn texts_are_named_by_what_fits() {
        let mut tally = Tally::with_limit(3);
        let long = "é".repeat(150);
        for text in [&long, "a", &long] {
            tally.add_text(text);
        }
        let top = tally.top(|_, name| name.to_owned());
        assert_eq!(top[0], ValueCount { value: "é".repeat(100), count: 2 });
        ["b", "c", "d", "", &long].into_iter().for_each(|text| tally.add_text(text));
        assert!(tally.counts.len() <= 3 && tally.names.chars().count() <= 3 * VALUE_CHARS, "{}", tally.names);
    }
}
