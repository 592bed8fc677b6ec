//! The division of a span of time into blocks of equal length.

use serde::{Deserialize, Serialize};

/// The largest number of blocks that are kept.
pub const MAX_BLOCKS: usize = 256;

/// The fewest rows of an average block.
const ROWS_PER_BLOCK: u64 = 8;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Lengths of blocks, of which multiples make up the usual windows. Longer ones are doubled.
const LENGTHS: [i64; 13] = [
    SECOND,
    5 * SECOND,
    15 * SECOND,
    MINUTE,
    5 * MINUTE,
    15 * MINUTE,
    HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    4 * DAY,
];

/// Blocks of equal length that begin at multiples of it since 1970-01-01 UTC. All times are in milliseconds since then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    length: i64,
    /// The times of the first and the last row.
    span: (i64, i64),
}

impl Calendar {
    /// At most [`MAX_BLOCKS`] blocks over the times of `rows` rows, from the first to the last, as short as the rows allow.
    pub fn over(span: (i64, i64), rows: u64) -> Self {
        let span = (span.0.min(span.1), span.0.max(span.1));
        let most = (rows / ROWS_PER_BLOCK).clamp(1, MAX_BLOCKS as u64);
        let is_enough = |length: i64| Self { length, span }.count() <= i128::from(most);
        let usual = LENGTHS.into_iter().find(|&length| is_enough(length));
        let length = usual.unwrap_or_else(|| {
            let mut length = LENGTHS[LENGTHS.len() - 1];
            while !is_enough(length) && length < i64::MAX / 4 {
                length *= 2;
            }
            length
        });
        Self { length, span }
    }

    /// The length of a block, in milliseconds.
    pub fn length(&self) -> i64 {
        self.length
    }

    /// The number of blocks, empty ones included.
    pub fn blocks(&self) -> usize {
        usize::try_from(self.count()).unwrap_or(usize::MAX)
    }

    /// The index of the block with this time; `None` outside of the span.
    pub fn block_of(&self, time: i64) -> Option<usize> {
        let is_within = (self.span.0..=self.span.1).contains(&time);
        is_within.then(|| usize::try_from(time.div_euclid(self.length) - self.first()).unwrap_or(usize::MAX))
    }

    /// Whether two blocks belong to one group of `merged` blocks.
    pub(super) fn are_in_one(&self, one: usize, other: usize, merged: i64) -> bool {
        self.group(one, merged) == self.group(other, merged)
    }

    /// Whether the rows cover the group of `merged` blocks that a block belongs to; a tenth may be missing at either end.
    pub(super) fn covers(&self, block: usize, merged: i64) -> bool {
        let length = i128::from(merged) * i128::from(self.length);
        let start = i128::from(self.group(block, merged)) * length;
        let (slack, (first, last)) = (length / 10, self.span);
        i128::from(first) - start <= slack && start + length - 1 - i128::from(last) <= slack
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        let is_valid = self.length > 0 && self.span.0 <= self.span.1 && self.count() <= MAX_BLOCKS as i128;
        if is_valid { Ok(()) } else { Err("the length or the number of the blocks is out of range") }
    }

    fn group(&self, block: usize, merged: i64) -> i64 {
        self.first().saturating_add(i64::try_from(block).unwrap_or(i64::MAX)).div_euclid(merged.max(1))
    }

    fn first(&self) -> i64 {
        self.span.0.div_euclid(self.length)
    }

    fn count(&self) -> i128 {
        i128::from(self.span.1.div_euclid(self.length)) - i128::from(self.first()) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_short_as_their_number_and_the_rows_allow() {
        for (days, rows, expected) in [
            (120, 100_000, 12 * HOUR),
            (120, 200, 8 * DAY),
            (731, 17_000, 4 * DAY),
            (3650, 1_000_000, 16 * DAY),
            (1, 1_000_000, 15 * MINUTE),
        ] {
            let calendar = Calendar::over((0, days * DAY - 1), rows);
            assert_eq!(calendar.length(), expected, "{days} days, {rows} rows");
            assert!(calendar.blocks() <= MAX_BLOCKS && calendar.check().is_ok());
        }
    }

    #[test]
    fn any_span_has_a_calendar() {
        for span in [(0, 0), (i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (i64::MAX - 1, i64::MAX), (-5, 5)] {
            let calendar = Calendar::over(span, u64::MAX);
            assert!((1..=MAX_BLOCKS).contains(&calendar.blocks()), "{calendar:?}");
            for time in [span.0, span.1] {
                assert!(calendar.block_of(time).is_some_and(|block| block < calendar.blocks()), "{calendar:?}");
            }
            for block in [0, calendar.blocks() - 1] {
                calendar.covers(block, 7);
                calendar.covers(block, i64::MAX);
            }
        }
        assert_eq!(Calendar::over((10, 20), 100).block_of(21), None);
    }

    #[test]
    fn groups_at_the_ends_are_complete_if_nine_tenths_are_covered() {
        let week = |from: i64, until: i64| Calendar { length: DAY, span: (4 * DAY + from, until) };
        // 1970-01-01 is a Thursday, so that groups of seven days begin on Thursdays.
        let calendar = week(0, 20 * DAY + 23 * HOUR);
        assert_eq!((calendar.covers(0, 7), calendar.covers(3, 7), calendar.covers(16, 7)), (false, true, true));
        assert!(!week(0, 20 * DAY - 1).covers(15, 7));
    }
}
