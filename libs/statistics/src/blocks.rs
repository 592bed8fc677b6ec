//! Blocks of time: how much the periods of the reference data differ from each other.
//!
//! The rows of one period share their weather, their season and their news, so that two periods differ by more than two random samples do,
//! without any change. [`Blocks`] keeps the counts of every column of the reference per block of time. From them [`Variation`] estimates
//! the variance between blocks, the number of independent blocks that they are worth, and the largest difference of one block from the
//! others. [`drift::compare_in_blocks`](crate::drift::compare_in_blocks) judges a window by these.
//!
//! # Model
//! The distance of a sample of `n` rows from the reference is the population stability index over fixed bins. It is the sum of a
//! contribution of the block, `between * t^2`, and of the sampling of rows, `noise * chi^2` with `noise = 1/n + 1/N`: a design effect as
//! in Rao and Scott (1981, "The analysis of categorical data from complex sample surveys"), with three differences for small levels:
//!
//! - the contribution of the block has one degree of freedom, which is the least favourable case: a few large eigenvalues have a longer tail
//!   than their mean, and their number cannot be estimated from few blocks;
//! - it is divided by its estimate from the blocks, so that `t` has Student's distribution with the degrees of freedom of the effective
//!   number of blocks. Few blocks make a comparison inconclusive rather than eager;
//! - neighbouring blocks may be similar. Their autocorrelation, from the ratio of the distances between neighbours and all blocks (von
//!   Neumann 1941), plus one standard error, determines the effective number of blocks.

mod bins;
mod calendar;
mod counter;
mod tail;
mod variation;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use bins::FixedBins;
pub use calendar::{Calendar, MAX_BLOCKS};
pub use counter::Counter;
pub use variation::{Distance, Variation};

use crate::{Error, profile::MAX_ROWS};

/// The format that this crate writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// Blocks of which a comparison consists, if the reference has as many: blocks shorter than the window are used otherwise.
const ENOUGH_BLOCKS: usize = 16;

/// The fewest blocks whose variation is estimated.
const FEWEST_BLOCKS: usize = 3;

/// The fewest rows of a block: with fewer, its shares are mostly noise.
const FEWEST_ROWS: u64 = 20;

/// The fewest rows of a typical block, if shorter blocks than the window are used.
const ROWS_OF_SHORT_BLOCK: u64 = 50;

/// The counts of the columns of a table per block of time. Blocks are merged for windows that are longer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Blocks {
    calendar: Calendar,
    /// Rows of each block.
    rows: Vec<u64>,
    columns: Vec<BlockColumn>,
}

/// The counts of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockColumn {
    name: String,
    bins: FixedBins,
    /// Block by block, the rows of each bin.
    counts: Vec<u64>,
}

/// The variation of each column between blocks of about the length of a window, by name.
pub type Variations = BTreeMap<String, Variation>;

impl Blocks {
    /// The counts of all columns.
    ///
    /// # Errors
    /// Columns with different numbers of rows in a block.
    pub fn new(calendar: Calendar, columns: Vec<BlockColumn>) -> Result<Self, Error> {
        let rows = columns.first().map_or_else(Vec::new, BlockColumn::rows);
        let blocks = Self { calendar, rows, columns };
        blocks.check().map_err(|reason| Error::Blocks(reason.to_owned()))?;
        Ok(blocks)
    }

    /// The division of time.
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// The variation of every column between blocks of about the length of a window of `window` milliseconds. A column is absent if fewer
    /// than three blocks are complete.
    ///
    /// Shorter blocks are merged to at most the length of the window. If that gives fewer than sixteen blocks, blocks of half the length
    /// are used, as long as they have enough rows: they differ from each other by more than the windows do, which is conservative.
    pub fn variations(&self, window: i64) -> Variations {
        let groups = self.groups_for(window);
        let found = self.columns.iter().map(|column| {
            let counts: Vec<Vec<u64>> = groups.members.iter().map(|blocks| column.sum(blocks.clone())).collect();
            (column.name.clone(), Variation::of(&column.bins, &counts, groups.length, window))
        });
        found.filter_map(|(name, variation)| Some((name, variation?))).collect()
    }

    fn groups_for(&self, window: i64) -> Groups {
        let mut groups = self.groups((window / self.calendar.length()).max(1));
        while groups.members.len() < ENOUGH_BLOCKS && groups.merged > 1 {
            let shorter = self.groups(groups.merged / 2);
            if shorter.members.len() <= groups.members.len() || shorter.median_rows < ROWS_OF_SHORT_BLOCK {
                break;
            }
            groups = shorter;
        }
        groups
    }

    /// Complete groups of `merged` consecutive blocks with enough rows.
    fn groups(&self, merged: i64) -> Groups {
        let mut members: Vec<std::ops::Range<usize>> = Vec::new();
        for block in 0..self.rows.len() {
            match members.last_mut() {
                Some(group) if self.calendar.are_in_one(group.start, block, merged) => group.end = block + 1,
                _ => members.push(block..block + 1),
            }
        }
        let rows = |group: &std::ops::Range<usize>| self.rows[group.clone()].iter().sum::<u64>();
        members.retain(|group| rows(group) >= FEWEST_ROWS && self.calendar.covers(group.start, merged));
        let mut counted: Vec<u64> = members.iter().map(rows).collect();
        counted.sort_unstable();
        let median_rows = counted.get(counted.len() / 2).copied().unwrap_or(0);
        Groups { merged, length: merged.saturating_mul(self.calendar.length()), members, median_rows }
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.columns.iter().any(|column| column.rows() != self.rows) {
            return Err("the columns have different numbers of rows in a block");
        }
        if self.rows.iter().fold(0, |sum: u64, rows| sum.saturating_add(*rows)) > MAX_ROWS {
            return Err("there are more rows than a profile can count");
        }
        if !self.columns.is_empty() && self.rows.len() != self.calendar.blocks() {
            return Err("the counts are not those of the blocks");
        }
        Ok(())
    }
}

/// Blocks that are merged to about the length of a window.
struct Groups {
    /// Blocks that a group consists of.
    merged: i64,
    /// In milliseconds.
    length: i64,
    /// The blocks of each group.
    members: Vec<std::ops::Range<usize>>,
    median_rows: u64,
}

impl BlockColumn {
    fn rows(&self) -> Vec<u64> {
        self.counts
            .chunks(self.bins.len())
            .map(|block| block.iter().fold(0, |sum: u64, rows| sum.saturating_add(*rows)))
            .collect()
    }

    /// The rows of each bin in several blocks together.
    fn sum(&self, blocks: std::ops::Range<usize>) -> Vec<u64> {
        let width = self.bins.len();
        let mut sum = vec![0; width];
        for block in self.counts[blocks.start * width..blocks.end * width].chunks(width) {
            sum.iter_mut().zip(block).for_each(|(sum, rows)| *sum += rows);
        }
        sum
    }
}

/// The stored fields, which are validated on reading.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format_version: u32,
    calendar: Calendar,
    columns: Vec<BlockColumn>,
}

impl From<Blocks> for Stored {
    fn from(blocks: Blocks) -> Self {
        Self { format_version: FORMAT_VERSION, calendar: blocks.calendar, columns: blocks.columns }
    }
}

impl TryFrom<Stored> for Blocks {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        if stored.format_version != FORMAT_VERSION {
            return Err(format!("the format is {}, expected {FORMAT_VERSION}", stored.format_version));
        }
        stored.calendar.check()?;
        if stored.columns.iter().any(|column| column.counts.len() != column.bins.len() * stored.calendar.blocks()) {
            return Err("a column does not have one count per block and bin".to_owned());
        }
        Self::new(stored.calendar, stored.columns).map_err(|error| error.to_string())
    }
}
