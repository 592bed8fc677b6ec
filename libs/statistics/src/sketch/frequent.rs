use datasketches::frequencies::{ErrorType, FrequentItemsSketch};
use serde::{Deserialize, Serialize};

use super::bytes::Base64Bytes;

/// The number of counters. The error of a count is at most 0.35 % of the rows (3.5 / 1024), so that a text with more than twice that
/// share is never missed.
const COUNTERS: usize = 1024;

/// The number of counters in the header of the sketch.
const LG_COUNTERS: u8 = COUNTERS.ilog2() as u8;

/// The most frequent texts: the frequent-items sketch of Apache DataSketches (Misra and Gries 1982, in the fast version of
/// Anderson et al. 2017). The error of a count is at most [`max_error`](Self::max_error) rows.
///
/// The rare texts that are kept depend on the order of the rows; verdicts do not use this sketch, only displayed names do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Base64Bytes", into = "Base64Bytes")]
pub struct Frequent(FrequentItemsSketch<String>);

impl Frequent {
    /// Without texts.
    pub fn new() -> Self {
        Self(FrequentItemsSketch::new(COUNTERS).expect("1024 is a power of two within the sketch's range"))
    }

    /// Counts a text.
    pub fn add(&mut self, text: &str, rows: u64) {
        self.0.update_with_count_ref(text, rows);
    }

    /// Adds the counts of another part.
    pub fn merge(&mut self, other: &Self) {
        self.0.merge(&other.0);
    }

    /// The most frequent texts with lower bounds of their rows, at most `limit`, in descending order.
    pub fn top(&self, limit: usize) -> Vec<(String, u64)> {
        let rows = self.0.frequent_items(ErrorType::NoFalsePositives);
        let mut top: Vec<(String, u64)> = rows.into_iter().map(|row| (row.item().clone(), row.lower_bound())).collect();
        top.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        top.truncate(limit);
        top
    }

    /// All rows counted.
    pub fn rows(&self) -> u64 {
        self.0.total_weight()
    }

    /// The largest possible error of a count, in rows.
    pub fn max_error(&self) -> u64 {
        self.0.maximum_error()
    }
}

impl Default for Frequent {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Frequent {
    fn eq(&self, other: &Self) -> bool {
        self.0.total_weight() == other.0.total_weight() && self.top(COUNTERS) == other.top(COUNTERS)
    }
}

impl From<Frequent> for Base64Bytes {
    fn from(frequent: Frequent) -> Self {
        Self::of(&frequent.0.serialize())
    }
}

impl TryFrom<Base64Bytes> for Frequent {
    type Error = String;

    fn try_from(stored: Base64Bytes) -> Result<Self, String> {
        let bytes = stored.bytes()?;
        // A forged header could cause an allocation of gigabytes.
        if bytes.get(3) != Some(&LG_COUNTERS) {
            return Err(format!("the sketch does not have {COUNTERS} counters"));
        }
        let sketch = FrequentItemsSketch::deserialize(&bytes).map_err(|error| error.to_string())?;
        if sketch.maximum_error() > sketch.total_weight() {
            return Err("the sketch's error exceeds its rows".to_owned());
        }
        Ok(Self(sketch))
    }
}
