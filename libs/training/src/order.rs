//! The order in which an epoch visits its rows.

use rand::{Rng, seq::SliceRandom};

/// Rows that are shuffled as a whole, at most.
const WINDOW: usize = 1 << 20;
/// Consecutive rows that stay in one window.
const BLOCK: usize = 1 << 14;

/// A permutation of the rows, another one for each epoch.
///
/// Of more than a million rows, blocks of consecutive rows are shuffled, and the rows within windows of 64 blocks. An epoch then uses the
/// rows of one window after the other, so that rows in files need not be in memory all at once.
#[derive(Debug)]
pub(crate) struct Order {
    rows: Vec<u32>,
    window: usize,
    block: usize,
}

impl Order {
    /// The rows in their own order, of which there are fewer than 2³².
    pub(crate) fn of(rows: usize) -> Self {
        Self::windowed(rows, WINDOW, BLOCK)
    }

    fn windowed(rows: usize, window: usize, block: usize) -> Self {
        Self { rows: (0..).take(rows).collect(), window, block }
    }

    /// The order of the next epoch.
    pub(crate) fn shuffle(&mut self, random: &mut impl Rng) {
        let Self { rows, window, block } = self;
        if rows.len() > *window {
            let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            let mut blocks: Vec<u32> = (0..count).step_by(*block).collect();
            blocks.shuffle(random);
            let length = u32::try_from(*block).unwrap_or(u32::MAX);
            let shuffled = blocks.into_iter().flat_map(|start| start..count.min(start.saturating_add(length)));
            rows.iter_mut().zip(shuffled).for_each(|(row, shuffled)| *row = shuffled);
        }
        rows.chunks_mut(*window).for_each(|window| window.shuffle(random));
    }

    /// The positions of the rows, in groups of so many.
    pub(crate) fn batches(&self, size: usize) -> impl Iterator<Item = Vec<usize>> {
        self.rows.chunks(size).map(|batch| batch.iter().map(|&row| row as usize).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn every_row_is_visited_once_and_a_window_uses_few_blocks() {
        let mut order = Order::windowed(1003, 100, 10);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut earlier = order.rows.clone();
        for _ in 0..3 {
            order.shuffle(&mut random);
            assert_ne!(order.rows, earlier);
            earlier.clone_from(&order.rows);
            let mut sorted = order.rows.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..1003));
            for window in order.rows.chunks(100) {
                let mut blocks: Vec<u32> = window.iter().map(|row| row / 10).collect();
                blocks.sort_unstable();
                blocks.dedup();
                // The last block is short, so that windows after it begin within a block.
                assert!(blocks.len() <= 11, "{blocks:?}");
                assert!(!window.is_sorted());
            }
        }
    }

    #[test]
    fn few_rows_are_shuffled_as_a_whole() {
        let mut order = Order::windowed(1000, 1000, 10);
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(1));
        let mut shuffled: Vec<u32> = (0..1000).collect();
        shuffled.shuffle(&mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(order.rows, shuffled);
    }
}
