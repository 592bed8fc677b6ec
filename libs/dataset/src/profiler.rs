use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray as _, BooleanArray, PrimitiveArray, TimestampMillisecondArray,
        downcast_integer_array,
    },
    datatypes::{DataType, Float32Type, Float64Type, Int32Type, TimestampMillisecondType},
};
use rekindle_domain::ColumnKind;
use rekindle_statistics::profile::{
    BUCKETS, Categorical, Column, ColumnProfile, Numeric, Profile, Timestamp, flag_name,
};

use crate::{ScanBatch, ScanColumn};

/// Makes the [`Profile`] of a [`Scan`](crate::Scan) in [`Types::Stored`](crate::Types::Stored), batch by batch. Its memory depends on
/// the columns, not on their rows.
///
/// A missing value counts as missing. A value that does not parse as the expected kind of its column
/// ([`ScanBatch::unparsable`]) counts as unreadable. Any value is a category.
///
/// Integers are counted as the nearest float, so beyond 2^53 adjacent integers may count as one.
pub struct Profiler {
    rows: u64,
    columns: Vec<(String, Counter)>,
    /// Reused by all columns.
    buffer: Vec<f64>,
}

/// The counts of a column so far.
enum Counter {
    Numbers(Numeric),
    Texts(Texts),
    Flags(Categorical),
    Times(Timestamp),
}

impl Profiler {
    /// For the columns of a scan.
    pub fn new(columns: &[ScanColumn]) -> Self {
        Self::with_buckets(columns, BUCKETS)
    }

    /// For the columns of a scan, with another number of buckets for numeric columns: statistics are exact up to that many distinct
    /// values, which take about 60 bytes each.
    pub fn with_buckets(columns: &[ScanColumn], buckets: usize) -> Self {
        let counter = |column: &ScanColumn| (column.name.clone(), Counter::new(column.kind, buckets));
        Self { rows: 0, columns: columns.iter().map(counter).collect(), buffer: Vec::new() }
    }

    /// Counts the rows of a batch of the same scan.
    pub fn add(&mut self, batch: &ScanBatch) {
        self.rows += batch.rows.num_rows() as u64;
        let arrays = batch.rows.columns().iter().zip(&batch.unparsable);
        for ((_, counter), (array, &unparsable)) in self.columns.iter_mut().zip(arrays) {
            counter.add(array, unparsable, &mut self.buffer);
        }
    }

    /// The profile of all rows counted.
    pub fn finish(self) -> Profile {
        let columns = self.columns.into_iter().map(|(name, counter)| Column { name, profile: counter.finish() });
        Profile::new(self.rows, columns.collect())
    }
}

impl Counter {
    fn new(kind: ColumnKind, buckets: usize) -> Self {
        match kind {
            ColumnKind::Numeric => Self::Numbers(Numeric::with_buckets(buckets)),
            ColumnKind::Categorical => Self::Texts(Texts::new()),
            ColumnKind::Boolean => Self::Flags(Categorical::new()),
            ColumnKind::Timestamp => Self::Times(Timestamp::new()),
        }
    }

    fn add(&mut self, array: &ArrayRef, unparsable: u64, buffer: &mut Vec<f64>) {
        let missing = (array.null_count() as u64).saturating_sub(unparsable);
        match self {
            Self::Numbers(numbers) => {
                add_numbers(numbers, array, buffer);
                numbers.add_missing(missing);
                numbers.add_unreadable(unparsable);
            }
            Self::Texts(texts) => texts.add(array, missing),
            Self::Flags(flags) => {
                add_flags(flags, array.as_boolean());
                flags.add(None, missing);
                flags.add_unreadable(unparsable);
            }
            Self::Times(times) => {
                add_times(times, array.as_primitive::<TimestampMillisecondType>());
                times.add_missing(missing);
                times.add_unreadable(unparsable);
            }
        }
    }

    fn finish(self) -> ColumnProfile {
        match self {
            Self::Numbers(mut numbers) => {
                numbers.compact();
                ColumnProfile::Numeric(numbers)
            }
            Self::Texts(texts) => ColumnProfile::Categorical(texts.finish()),
            Self::Flags(flags) => ColumnProfile::Boolean(flags),
            Self::Times(times) => ColumnProfile::Timestamp(times),
        }
    }
}

/// Counts the values that are not null, of any width, as floats.
fn add_numbers(numbers: &mut Numeric, array: &ArrayRef, buffer: &mut Vec<f64>) {
    if let Some(floats) = array.as_primitive_opt::<Float64Type>()
        && floats.null_count() == 0
    {
        return numbers.add_all(floats.values());
    }
    buffer.clear();
    downcast_integer_array!(
        array => gather(array, buffer, |value| value as f64),
        DataType::Float64 => gather(array.as_primitive::<Float64Type>(), buffer, |value| value),
        DataType::Float32 => gather(array.as_primitive::<Float32Type>(), buffer, f64::from),
        other => unreachable!("{other} is not a numeric type of a scan"),
    );
    numbers.add_all(buffer);
}

/// Appends the values that are not null, slice by slice.
fn gather<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, into: &mut Vec<f64>, float: impl Fn(T::Native) -> f64) {
    let values = array.values();
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => into.extend(values.iter().map(|&value| float(value))),
        Some(nulls) => {
            let runs = nulls.valid_slices();
            runs.for_each(|(start, end)| into.extend(values[start..end].iter().map(|&value| float(value))));
        }
    }
}

/// Dictionary-encoded text. Rows are counted by key, and by text once the dictionary changes.
struct Texts {
    categorical: Categorical,
    /// The texts that `rows` counts.
    dictionary: Option<ArrayRef>,
    /// Rows of each key.
    rows: Vec<u64>,
}

impl Texts {
    fn new() -> Self {
        Self { categorical: Categorical::new(), dictionary: None, rows: Vec::new() }
    }

    fn add(&mut self, array: &ArrayRef, missing: u64) {
        self.categorical.add(None, missing);
        let array = array.as_dictionary::<Int32Type>();
        if !self.dictionary.as_ref().is_some_and(|last| is_same(last, array.values())) {
            self.count_texts();
            self.rows.clear();
            self.rows.resize(array.values().len(), 0);
            self.dictionary = Some(array.values().clone());
        }
        let keys = array.keys();
        let rows = &mut self.rows;
        // Arrow checks that valid keys are within the dictionary.
        let mut count = |keys: &[i32]| keys.iter().for_each(|&key| rows[key as usize] += 1);
        match keys.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => count(keys.values()),
            Some(nulls) => nulls.valid_slices().for_each(|(start, end)| count(&keys.values()[start..end])),
        }
    }

    /// Adds the counts by key to those by text.
    fn count_texts(&mut self) {
        let Some(dictionary) = self.dictionary.take() else { return };
        let texts = dictionary.as_string::<i32>();
        for (key, &rows) in self.rows.iter().enumerate().filter(|(_, rows)| **rows > 0) {
            self.categorical.add(texts.is_valid(key).then(|| texts.value(key)), rows);
        }
    }

    fn finish(mut self) -> Categorical {
        self.count_texts();
        self.categorical.compact();
        self.categorical
    }
}

/// Whether two dictionaries are the same memory. The first is still referenced, so its memory cannot have been reused.
fn is_same(last: &ArrayRef, next: &ArrayRef) -> bool {
    let (last, next) = (last.as_string::<i32>(), next.as_string::<i32>());
    let is_same_nulls = match (last.nulls(), next.nulls()) {
        (None, None) => true,
        (Some(last), Some(next)) => last.inner().ptr_eq(next.inner()),
        _ => false,
    };
    last.offsets().ptr_eq(next.offsets()) && last.values().ptr_eq(next.values()) && is_same_nulls
}

fn add_flags(flags: &mut Categorical, array: &BooleanArray) {
    let yes = array.true_count() as u64;
    let no = array.false_count() as u64;
    flags.add(Some(flag_name(true)), yes);
    flags.add(Some(flag_name(false)), no);
}

fn add_times(times: &mut Timestamp, array: &TimestampMillisecondArray) {
    array.iter().flatten().for_each(|millis| times.add(Some(millis)));
}
