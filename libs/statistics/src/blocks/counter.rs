//! Counting the rows of one column per block.

use super::{BlockColumn, Calendar, FixedBins};
use crate::profile::ColumnProfile;

/// Counts the rows of one column per block and bin.
#[derive(Debug, Clone)]
pub struct Counter {
    column: BlockColumn,
    blocks: usize,
}

impl Counter {
    /// Without rows; `None` if the column has no [`FixedBins`].
    pub fn new(name: &str, reference: &ColumnProfile, calendar: &Calendar) -> Option<Self> {
        let (bins, blocks) = (FixedBins::of(reference)?, calendar.blocks());
        let counts = vec![0; bins.len() * blocks];
        Some(Self { column: BlockColumn { name: name.to_owned(), bins, counts }, blocks })
    }

    /// Counts a row of a numeric column; `None` is a missing value.
    pub fn add_number(&mut self, block: usize, number: Option<f64>) {
        self.count(block, self.column.bins.of_number(number));
    }

    /// Counts a row of a categorical column; `None` is a missing value.
    pub fn add_text(&mut self, block: usize, text: Option<&str>) {
        self.count(block, self.column.bins.of_text(text));
    }

    /// Counts a row of a boolean column; `None` is a missing value.
    pub fn add_flag(&mut self, block: usize, flag: Option<bool>) {
        self.count(block, self.column.bins.of_flag(flag));
    }

    /// Counts a row with a value that is not of the kind of the column.
    pub fn add_unreadable(&mut self, block: usize) {
        self.count(block, self.column.bins.unreadable());
    }

    /// The counts.
    pub fn finish(self) -> BlockColumn {
        self.column
    }

    fn count(&mut self, block: usize, bin: usize) {
        debug_assert!(block < self.blocks, "a block of the calendar");
        let width = self.column.bins.len();
        if let Some(rows) = self.column.counts.get_mut(block * width + bin) {
            *rows += 1;
        }
    }
}
