use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{BufReader, BufWriter, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use arrow::{
    array::{AsArray as _, RecordBatch},
    compute,
    datatypes::TimestampMillisecondType,
    error::ArrowError,
    ipc::{reader::StreamReader, writer::StreamWriter},
};

use super::scratch_file;
use crate::{Error, size::rows_filling};

/// Bytes of values of a batch that comes out, and of each batch of a run.
const BATCH_BYTES: usize = 128 << 10;

/// Rows of a batch that comes out.
const BATCH_ROWS: usize = 8 * 1024;

/// Runs merged at a time. Each takes a batch of memory.
const FAN_IN: usize = 128;

/// Takes the rows that come out, in order.
type Sink<'a> = dyn FnMut(&RecordBatch) -> Result<(), Error> + 'a;

/// Sorts rows by time in bounded memory. Rows of equal time keep their order.
///
/// An external merge sort: rows are collected until they take `memory`, then sorted and written to disk as a run; at the end
/// the runs are merged. Rows that all fit into `memory` never reach the disk.
pub(super) struct Sorter {
    /// Index of the time column, which has no missing value.
    time: usize,
    memory: usize,
    scratch: PathBuf,
    rows: Vec<RecordBatch>,
    bytes: usize,
    /// In the order of their rows.
    runs: Vec<File>,
}

impl Sorter {
    pub(super) fn new(time: usize, memory: usize, scratch: &Path) -> Self {
        Self { time, memory, scratch: scratch.to_owned(), rows: Vec::new(), bytes: 0, runs: Vec::new() }
    }

    /// Adds rows.
    pub(super) fn add(&mut self, batch: RecordBatch) -> Result<(), Error> {
        if batch.num_rows() > 0 {
            self.bytes += batch.get_array_memory_size() + batch.num_rows() * size_of::<Position>();
            self.rows.push(batch);
        }
        if self.bytes >= self.memory { self.write_run() } else { Ok(()) }
    }

    fn write_run(&mut self) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let Some(first) = rows.first() else { return Ok(()) };
        let mut run = RunWriter::new(first, &self.scratch)?;
        sorted(&rows, self.time, &mut |batch| run.write(batch))?;
        self.runs.push(run.finish()?);
        Ok(())
    }

    /// Passes all rows to `sink`, in order.
    pub(super) fn finish(mut self, sink: &mut Sink<'_>) -> Result<(), Error> {
        if self.runs.is_empty() {
            return sorted(&self.rows, self.time, sink);
        }
        self.write_run()?;
        // Consecutive runs are merged, so that rows of equal time keep their order.
        while self.runs.len() > FAN_IN {
            let mut runs = std::mem::take(&mut self.runs).into_iter();
            loop {
                let group: Vec<File> = runs.by_ref().take(FAN_IN).collect();
                if group.is_empty() {
                    break;
                }
                let merged = self.merge_to_run(group)?;
                self.runs.push(merged);
            }
        }
        merge(std::mem::take(&mut self.runs), self.time, sink)
    }

    fn merge_to_run(&self, runs: Vec<File>) -> Result<File, Error> {
        let mut writer: Option<RunWriter> = None;
        merge(runs, self.time, &mut |batch| {
            let writer = match &mut writer {
                Some(writer) => writer,
                None => writer.insert(RunWriter::new(batch, &self.scratch)?),
            };
            writer.write(batch)
        })?;
        writer.map_or_else(|| scratch_file(&self.scratch), RunWriter::finish)
    }
}

/// The time of a row, its batch, and its row there.
type Position = (i64, u32, u32);

/// Passes rows in memory to `sink`, in order of time.
fn sorted(rows: &[RecordBatch], time: usize, sink: &mut Sink<'_>) -> Result<(), Error> {
    let mut order: Vec<Position> = Vec::with_capacity(rows.iter().map(RecordBatch::num_rows).sum());
    for (batch, rows) in (0..).zip(rows) {
        order.extend((0..).zip(times(rows, time)).map(|(row, &time)| (time, batch, row)));
    }
    // The position breaks ties, so that an unstable sort, which takes no further memory, is stable.
    order.sort_unstable();
    let batches: Vec<&RecordBatch> = rows.iter().collect();
    for part in order.chunks(BATCH_ROWS) {
        let indices: Vec<(usize, usize)> = part.iter().map(|&(_, batch, row)| (batch as usize, row as usize)).collect();
        sink(&interleave(&batches, &indices)?)?;
    }
    Ok(())
}

fn interleave(batches: &[&RecordBatch], indices: &[(usize, usize)]) -> Result<RecordBatch, Error> {
    compute::interleave_record_batch(batches, indices).map_err(Error::arrow("sort rows"))
}

fn times(batch: &RecordBatch, time: usize) -> &[i64] {
    batch.column(time).as_primitive::<TimestampMillisecondType>().values()
}

/// Merges sorted runs. Of rows of equal time those of the earlier run come first.
fn merge(runs: Vec<File>, time: usize, sink: &mut Sink<'_>) -> Result<(), Error> {
    let mut readers = runs.into_iter().map(RunReader::open).collect::<Result<Vec<_>, _>>()?;
    let mut heap = BinaryHeap::new();
    for (run, reader) in readers.iter_mut().enumerate() {
        if reader.advance()? {
            heap.push(Reverse((reader.time(time), run)));
        }
    }
    let mut picked = Picked::default();
    while let Some(Reverse((_, run))) = heap.pop() {
        let reader = &mut readers[run];
        let batch = picked.batch(run, reader);
        loop {
            picked.indices.push((batch, reader.row));
            if !reader.next_row() {
                picked.pass_on(sink)?;
                if reader.advance()? {
                    heap.push(Reverse((reader.time(time), run)));
                }
                break;
            }
            if picked.indices.len() == BATCH_ROWS {
                picked.pass_on(sink)?;
                heap.push(Reverse((reader.time(time), run)));
                break;
            }
            let next = (reader.time(time), run);
            if heap.peek().is_some_and(|Reverse(other)| *other < next) {
                heap.push(Reverse(next));
                break;
            }
        }
    }
    picked.pass_on(sink)
}

/// Rows picked from the current batches of runs.
#[derive(Default)]
struct Picked {
    /// With the run that each is of.
    batches: Vec<(usize, RecordBatch)>,
    indices: Vec<(usize, usize)>,
}

impl Picked {
    /// The position of a run's current batch among those picked from.
    fn batch(&mut self, run: usize, reader: &RunReader) -> usize {
        if let Some(position) = self.batches.iter().position(|(of, _)| *of == run) {
            return position;
        }
        self.batches.push((run, reader.batch.clone()));
        self.batches.len() - 1
    }

    /// Passes the rows on and forgets the batches, before one of them is replaced by the next of its run.
    fn pass_on(&mut self, sink: &mut Sink<'_>) -> Result<(), Error> {
        if !self.indices.is_empty() {
            let batches: Vec<&RecordBatch> = self.batches.iter().map(|(_, batch)| batch).collect();
            sink(&interleave(&batches, &self.indices)?)?;
        }
        self.batches.clear();
        self.indices.clear();
        Ok(())
    }
}

/// Sorted rows on disk, as an Arrow IPC stream of small batches.
struct RunWriter(StreamWriter<BufWriter<File>>);

impl RunWriter {
    fn new(like: &RecordBatch, scratch: &Path) -> Result<Self, Error> {
        let file = BufWriter::new(scratch_file(scratch)?);
        Ok(Self(StreamWriter::try_new(file, &like.schema()).map_err(failed("write"))?))
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let mut from = 0;
        while from < batch.num_rows() {
            let rows = rows_filling(batch, from, batch.num_rows() - from, BATCH_BYTES);
            self.0.write(&batch.slice(from, rows)).map_err(failed("write"))?;
            from += rows;
        }
        Ok(())
    }

    fn finish(self) -> Result<File, Error> {
        let mut file = self.0.into_inner().map_err(failed("write"))?;
        file.flush().map_err(Error::scratch("write"))?;
        file.into_inner().map_err(|error| Error::scratch("write")(error.into_error()))
    }
}

/// A run being read.
struct RunReader {
    reader: StreamReader<BufReader<File>>,
    batch: RecordBatch,
    row: usize,
}

impl RunReader {
    fn open(mut file: File) -> Result<Self, Error> {
        file.rewind().map_err(Error::scratch("read"))?;
        let reader = StreamReader::try_new(BufReader::new(file), None).map_err(failed("read"))?;
        let batch = RecordBatch::new_empty(reader.schema());
        Ok(Self { reader, batch, row: 0 })
    }

    /// Goes to the first row of the next batch; false at the end.
    fn advance(&mut self) -> Result<bool, Error> {
        self.row = 0;
        match self.reader.next() {
            Some(batch) => self.batch = batch.map_err(failed("read"))?,
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Goes to the next row of the batch; false at its end.
    fn next_row(&mut self) -> bool {
        self.row += 1;
        self.row < self.batch.num_rows()
    }

    fn time(&self, time: usize) -> i64 {
        times(&self.batch, time)[self.row]
    }
}

fn failed(operation: &'static str) -> impl FnOnce(ArrowError) -> Error {
    move |error| match error {
        ArrowError::IoError(_, source) => Error::Scratch { operation, source },
        error => Error::Scratch { operation, source: std::io::Error::other(error) },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{Int64Array, TimestampMillisecondArray},
        datatypes::Int64Type,
    };
    use proptest::prelude::*;

    use super::*;

    fn batch(times: &[i64], first: i64) -> RecordBatch {
        let numbers: Int64Array = (first..).take(times.len()).map(Some).collect();
        let times = TimestampMillisecondArray::from(times.to_vec());
        RecordBatch::try_from_iter([("time", Arc::new(times) as _), ("number", Arc::new(numbers) as _)])
            .expect("a batch")
    }

    /// Sorts rows numbered in their order, in batches of `batch_rows`.
    fn sort(input: &[i64], batch_rows: usize, memory: usize) -> (Vec<(i64, i64)>, usize) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sorter = Sorter::new(0, memory, folder.path());
        for (index, times) in input.chunks(batch_rows).enumerate() {
            let first = i64::try_from(index * batch_rows).expect("few rows");
            sorter.add(batch(times, first)).expect("added");
        }
        let runs = sorter.runs.len();
        let mut rows = Vec::new();
        sorter
            .finish(&mut |batch| {
                let numbers = batch.column(1).as_primitive::<Int64Type>().values();
                rows.extend(times(batch, 0).iter().copied().zip(numbers.iter().copied()));
                Ok(())
            })
            .expect("sorted");
        (rows, runs)
    }

    fn expected(input: &[i64]) -> Vec<(i64, i64)> {
        let mut rows: Vec<(i64, i64)> = input.iter().copied().zip(0..).collect();
        rows.sort_by_key(|&(time, _)| time);
        rows
    }

    proptest! {
        #[test]
        fn rows_come_in_order_of_time_and_keep_their_order_within(
            input in prop::collection::vec(0_i64..40, 0..400),
            batch_rows in 1_usize..50,
            memory in prop::sample::select(vec![1_usize, 2_000, 1 << 20]),
        ) {
            prop_assert_eq!(sort(&input, batch_rows, memory).0, expected(&input));
        }
    }

    #[test]
    fn many_runs_are_merged_in_several_passes() {
        let input: Vec<i64> = (0..FAN_IN * 3 + 5).zip(0..).map(|(_, row)| row * 7919 % 101).collect();
        let (rows, runs) = sort(&input, 1, 1);
        assert_eq!(runs, FAN_IN * 3 + 5);
        assert_eq!(rows, expected(&input));
    }

    #[test]
    fn large_runs_span_several_batches() {
        let input: Vec<i64> = (0..200_000_i64).map(|row| row * 7919 % 100_003).collect();
        let (rows, runs) = sort(&input, 8192, 1 << 20);
        assert!(runs > 1, "{runs}");
        assert_eq!(rows, expected(&input));
    }
}
