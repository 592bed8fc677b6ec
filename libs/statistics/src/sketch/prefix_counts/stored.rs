use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};

use super::{PrefixCounts, table::Table};

/// Why stored counts are invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixCountsError {
    /// The text is not the base64 of pairs of integers.
    #[error("the counts cannot be decoded: {0}")]
    Decode(String),
    /// Inconsistent numbers.
    #[error("the counts are inconsistent: {0}")]
    Inconsistent(&'static str),
}

/// The largest capacity of a valid file.
const MAX_CAPACITY: usize = 1 << 24;

/// The stored form of counts: the prefixes in ascending order, each as the difference from the previous one, with its count,
/// as variable-length integers (postcard) in base64.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    capacity: usize,
    shift: u32,
    counts: String,
}

impl From<PrefixCounts> for Stored {
    fn from(counts: PrefixCounts) -> Self {
        let mut before = 0;
        let steps = counts.at_shift(counts.shift).into_iter().map(|(prefix, rows)| {
            let step = prefix - before;
            before = prefix;
            (step, rows)
        });
        let steps: Vec<(u64, u64)> = steps.collect();
        let bytes = postcard::to_allocvec(&steps).expect("a list of integers always encodes");
        Self { capacity: counts.capacity, shift: counts.shift, counts: BASE64.encode(bytes) }
    }
}

impl TryFrom<Stored> for PrefixCounts {
    type Error = PrefixCountsError;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        use PrefixCountsError::Inconsistent;
        if !(2..=MAX_CAPACITY).contains(&stored.capacity) {
            return Err(Inconsistent("the capacity is out of range"));
        }
        if stored.shift >= u64::BITS {
            return Err(Inconsistent("all bits of a key are dropped"));
        }
        let bytes = BASE64.decode(&stored.counts).map_err(|error| PrefixCountsError::Decode(error.to_string()))?;
        let steps: Vec<(u64, u64)> =
            postcard::from_bytes(&bytes).map_err(|error| PrefixCountsError::Decode(error.to_string()))?;
        if steps.len() > stored.capacity {
            return Err(Inconsistent("there are more prefixes than the capacity"));
        }
        let table = table(&steps, stored.shift)?;
        Ok(Self { capacity: stored.capacity, shift: stored.shift, table, sorted: std::sync::OnceLock::new() })
    }
}

fn table(steps: &[(u64, u64)], shift: u32) -> Result<Table, PrefixCountsError> {
    use PrefixCountsError::Inconsistent;
    let largest = u64::MAX >> shift;
    let (mut pairs, mut prefix, mut rows) = (Vec::with_capacity(steps.len()), 0_u64, 0_u64);
    for (index, &(step, count)) in steps.iter().enumerate() {
        prefix =
            prefix.checked_add(step).filter(|&next| next <= largest).ok_or(Inconsistent("a prefix is too large"))?;
        rows = rows.checked_add(count).ok_or(Inconsistent("the rows are too many to count"))?;
        if count == 0 || (step == 0 && index > 0) {
            return Err(Inconsistent("a prefix is empty or occurs twice"));
        }
        pairs.push((prefix, count));
    }
    Ok(Table::Listed(pairs))
}
