use arrow::{
    array::{Array, ArrayRef, AsArray as _, downcast_integer_array},
    datatypes::{DataType, Float32Type, Float64Type, Int32Type, TimestampMillisecondType},
};
use rekindle_statistics::{
    Error,
    blocks::{Blocks, Calendar, Counter},
    profile::Profile,
};

use crate::{ScanBatch, ScanColumn};

/// Counts the rows of a scan per block of time, batch by batch, for the columns that a profile of the same rows has. Its memory depends on
/// the columns, not on their rows.
///
/// Rows without a time are in no block. A value that does not parse counts as missing.
pub struct BlockProfiler {
    calendar: Calendar,
    time: usize,
    /// By the columns of the scan; `None` of a column whose values are not compared.
    counters: Vec<Option<Counter>>,
}

impl BlockProfiler {
    /// For the columns of a scan. `None` if the profile has no timestamps of the column `time`, or the scan does not have that column.
    pub fn new(columns: &[ScanColumn], profile: &Profile, time: &str) -> Option<Self> {
        let span = match profile.column(time)? {
            rekindle_statistics::profile::ColumnProfile::Timestamp(times) => times.span()?,
            _ => return None,
        };
        let calendar = Calendar::over(span, profile.rows);
        let counter = |column: &ScanColumn| Counter::new(&column.name, profile.column(&column.name)?, &calendar);
        Some(Self {
            calendar,
            time: columns.iter().position(|column| column.name == time)?,
            counters: columns.iter().map(counter).collect(),
        })
    }

    /// Counts the rows of a batch.
    pub fn add(&mut self, batch: &ScanBatch) {
        let times = batch.rows.column(self.time).as_primitive::<TimestampMillisecondType>();
        let blocks: Vec<Option<usize>> =
            times.iter().map(|time| time.and_then(|time| self.calendar.block_of(time))).collect();
        for (counter, array) in self.counters.iter_mut().zip(batch.rows.columns()) {
            if let Some(counter) = counter {
                count(counter, array, &blocks);
            }
        }
    }

    /// The counts of all rows.
    ///
    /// # Errors
    /// None for batches of one scan.
    pub fn finish(self) -> Result<Blocks, Error> {
        Blocks::new(self.calendar, self.counters.into_iter().flatten().map(Counter::finish).collect())
    }
}

fn count(counter: &mut Counter, array: &ArrayRef, blocks: &[Option<usize>]) {
    let rows = || blocks.iter().enumerate().filter_map(|(row, block)| Some((row, (*block)?)));
    downcast_integer_array!(
        array => for (row, block) in rows() {
            counter.add_number(block, array.is_valid(row).then(|| array.value(row) as f64));
        },
        DataType::Float64 => {
            let numbers = array.as_primitive::<Float64Type>();
            for (row, block) in rows() {
                counter.add_number(block, numbers.is_valid(row).then(|| numbers.value(row)));
            }
        }
        DataType::Float32 => {
            let numbers = array.as_primitive::<Float32Type>();
            for (row, block) in rows() {
                counter.add_number(block, numbers.is_valid(row).then(|| f64::from(numbers.value(row))));
            }
        }
        DataType::Boolean => {
            let flags = array.as_boolean();
            for (row, block) in rows() {
                counter.add_flag(block, flags.is_valid(row).then(|| flags.value(row)));
            }
        }
        _ => {
            let texts = array.as_dictionary::<Int32Type>();
            let (keys, values) = (texts.keys(), texts.values().as_string::<i32>());
            for (row, block) in rows() {
                // Arrow checks that valid keys are within the dictionary.
                let key = keys.is_valid(row).then(|| keys.value(row) as usize);
                counter.add_text(block, key.filter(|&key| values.is_valid(key)).map(|key| values.value(key)));
            }
        }
    );
}
