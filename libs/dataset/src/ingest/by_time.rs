use arrow::{
    array::{Array as _, AsArray as _, BooleanArray, RecordBatch},
    compute,
    datatypes::TimestampMillisecondType,
};

use super::{IngestError, IngestOptions, Part, output::Output, sort::Sorter};
use crate::{Error, TimeRange, table::date};

/// Bytes of values that are sorted in memory.
const SORT_BYTES: usize = 32 << 20;

/// Keeps the rows of a time range, in order of time.
pub(super) struct ByTime {
    index: usize,
    name: String,
    from: i64,
    until: Option<i64>,
    /// The earliest and the latest time kept, each with its row in the input.
    range: Option<[(i64, u64); 2]>,
    sorter: Sorter,
}

impl ByTime {
    pub(super) fn new(index: usize, name: &str, options: &IngestOptions) -> Self {
        Self {
            index,
            name: name.to_owned(),
            from: options.from.map_or(i64::MIN, |time| time.timestamp_millis()),
            until: options.until.map(|time| time.timestamp_millis()),
            range: None,
            sorter: Sorter::new(index, SORT_BYTES, &options.scratch),
        }
    }

    /// Adds rows, before which there were `start`.
    pub(super) fn add(&mut self, batch: &RecordBatch, start: u64) -> Result<(), IngestError> {
        let kept = self.in_range(batch, start).map_err(Part::TimeColumn.error())?;
        self.sorter.add(kept).map_err(Part::Scratch.error())
    }

    fn in_range(&mut self, batch: &RecordBatch, start: u64) -> Result<RecordBatch, Error> {
        let times = batch.column(self.index).as_primitive::<TimestampMillisecondType>();
        if let Some(row) = (0..times.len()).find(|&row| times.is_null(row)) {
            return Err(Error::MissingTime { column: self.name.clone(), row }.after_rows(start));
        }
        let (from, until) = (self.from, self.until);
        let is_inside = |time: i64| time >= from && until.is_none_or(|until| time < until);
        for (&time, row) in times.values().iter().zip(start..).filter(|&(&time, _)| is_inside(time)) {
            let [earliest, latest] = self.range.get_or_insert([(time, row); 2]);
            if time < earliest.0 {
                *earliest = (time, row);
            }
            if time > latest.0 {
                *latest = (time, row);
            }
        }
        let keep: BooleanArray = times.values().iter().map(|&time| Some(is_inside(time))).collect();
        if keep.true_count() == batch.num_rows() {
            return Ok(batch.clone());
        }
        compute::filter_record_batch(batch, &keep).map_err(Error::arrow("select rows"))
    }

    /// Writes the rows; returns the earliest and the latest time.
    pub(super) fn finish(self, output: &mut Output) -> Result<Option<TimeRange>, IngestError> {
        let date = |(time, row): (i64, u64)| {
            let row = usize::try_from(row).unwrap_or(usize::MAX);
            date(&self.name, row, time).map_err(Part::TimeColumn.error())
        };
        let range = self.range.map(|[earliest, latest]| Ok((date(earliest)?, date(latest)?))).transpose()?;
        self.sorter.finish(&mut |batch| output.write(batch)).map_err(Part::Scratch.error())?;
        Ok(range)
    }
}
