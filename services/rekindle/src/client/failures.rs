//! Rows that were not answered: how many, and the first of them with the reason.

use super::{exit, output};

/// Rows that are named.
const NAMED: usize = 3;

/// The rows of a file that were not answered.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// How many.
    pub(crate) count: u64,
    /// The first of them, from 0, each with the reason.
    pub(crate) first: Vec<(usize, String)>,
}

impl Failures {
    /// Adds a row.
    pub(crate) fn add(&mut self, row: usize, error: &anyhow::Error) {
        self.count += 1;
        self.first.push((row, exit::message(error)));
        // Answers arrive in any order.
        self.first.sort_by_key(|(row, _)| *row);
        self.first.truncate(NAMED);
    }

    /// Prints the number of failed rows and the first of them on standard error.
    pub(crate) fn print(&self) {
        for (row, reason) in &self.first {
            eprintln!("row {row} failed: {}", output::printable_lines(reason));
        }
        let others = self.count.saturating_sub(self.first.len() as u64);
        if others > 0 {
            eprintln!("{others} more rows failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rows_are_named_whatever_the_order_and_all_are_counted() {
        let mut failures = Failures::default();
        for row in [9, 4, 7, 1, 8] {
            failures.add(row, &anyhow::anyhow!("refused {row}"));
        }
        assert_eq!(failures.count, 5);
        assert_eq!(failures.first.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 4, 7]);
        assert_eq!(failures.first[0].1, "refused 1");
    }
}
