//! Tables larger than memory: the values of each column are in temporary files that are mapped into memory.
//!
//! The operating system reads mapped pages when they are used, and drops them when memory is needed for something else. Everything that
//! takes a [`Table`] takes such a table, too.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use arrow::{
    array::{
        Array as _, ArrayData, ArrayRef, AsArray as _, BooleanBufferBuilder, NullBufferBuilder, RecordBatch, make_array,
    },
    buffer::Buffer,
    datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType},
};
use bytes::Bytes;
use rekindle_domain::{ColumnKind, dataset::FileFormat};

use crate::{
    Error, Limits, Scan, Section, Table,
    ingest::scratch_file,
    read::{Budget, canonical, collect},
};

/// Bytes of the values of a table that is read into memory, at most.
const MOST_IN_MEMORY: u64 = 256 << 20;

/// Bytes of a text, more or less: its offset and some ten characters.
const TEXT_BYTES: u64 = 16;

/// Whether [`read_table`] reads so many rows of columns of these kinds into memory, and not into temporary files.
pub fn is_read_into_memory(rows: u64, columns: impl IntoIterator<Item = ColumnKind>) -> bool {
    values_bytes(rows, columns) <= MOST_IN_MEMORY
}

fn values_bytes(rows: u64, columns: impl IntoIterator<Item = ColumnKind>) -> u64 {
    rows.saturating_mul(columns.into_iter().map(value_bytes).sum())
}

/// Bytes of a value of a column in memory.
pub fn value_bytes(kind: ColumnKind) -> u64 {
    match kind {
        ColumnKind::Categorical => TEXT_BYTES,
        ColumnKind::Boolean | ColumnKind::Numeric | ColumnKind::Timestamp => size_of::<i64>() as u64,
    }
}

/// Reads a Parquet file: into memory if its values take 256 MiB at most, else into temporary files in the folder `scratch`, which have no
/// name and last as long as the table. Bytes of values are not limited then, but for 2 GiB of text in one column. Rows that are selected or
/// sorted are copied into memory.
///
/// # Errors
/// As [`read_parquet`](crate::read_parquet); a temporary file cannot be written or mapped.
pub fn read_table(file: Section, scratch: &Path) -> Result<Table, Error> {
    Ok(read_at_most(MOST_IN_MEMORY, &file, scratch)?.0)
}

/// Reads a file, into memory up to so many bytes of values. Also returns whether it is in memory.
fn read_at_most(most: u64, file: &Section, scratch: &Path) -> Result<(Table, bool), Error> {
    let unlimited = Limits { bytes: usize::MAX, ..Limits::default() };
    let scan = || Scan::of_input(file.clone(), FileFormat::Parquet, &canonical(&unlimited, &Default::default()));
    let first = scan()?;
    let kinds = first.columns().iter().map(|column| column.kind);
    if values_bytes(first.declared_rows().unwrap_or(u64::MAX), kinds) > most {
        return Ok((spill(first, scratch, &unlimited)?, false));
    }
    let in_memory = Limits { bytes: usize::try_from(most).unwrap_or(usize::MAX), ..unlimited };
    match collect(first, FileFormat::Parquet, &in_memory, |_| false) {
        // Its texts are longer than usual.
        Err(Error::TooLarge { what: "bytes", .. }) => Ok((spill(scan()?, scratch, &unlimited)?, false)),
        read => Ok((read?.0, true)),
    }
}

/// Reads what a scan returns into temporary files.
fn spill(mut scan: Scan, scratch: &Path, limits: &Limits) -> Result<Table, Error> {
    let columns = scan.columns().to_vec();
    let mut budget = Budget::new(*limits);
    budget.check_rows(scan.declared_rows())?;
    let written = columns.iter().map(|column| SpilledColumn::new(&column.name, column.data_type.clone(), scratch));
    let mut written = written.collect::<Result<Vec<_>, _>>()?;
    for batch in scan.by_ref() {
        let batch: RecordBatch = batch?.rows;
        budget.take(&batch)?;
        for (column, array) in written.iter_mut().zip(batch.columns()) {
            column.add(array)?;
        }
    }
    let arrays = columns.iter().zip(written).map(|(column, written)| Ok((column.name.clone(), written.finish()?)));
    Table::from_columns(arrays.collect::<Result<_, Error>>()?, budget.rows())
}

/// A column of canonical type that is being written.
struct SpilledColumn {
    name: String,
    data_type: DataType,
    rows: usize,
    /// Which rows have a value; without bits as long as all have one.
    valid: NullBufferBuilder,
    values: Values,
}

/// The values of a column, in the layout of Arrow.
enum Values {
    /// 8 bytes each.
    Words(SpilledBuffer),
    /// A bit each.
    Flags(BooleanBufferBuilder),
    Texts {
        offsets: SpilledBuffer,
        texts: SpilledBuffer,
    },
}

impl SpilledColumn {
    fn new(name: &str, data_type: DataType, scratch: &Path) -> Result<Self, Error> {
        let values = match data_type {
            DataType::Boolean => Values::Flags(BooleanBufferBuilder::new(0)),
            DataType::Utf8 => {
                let mut offsets = SpilledBuffer::new(scratch)?;
                offsets.write(&0_i32.to_ne_bytes())?;
                Values::Texts { offsets, texts: SpilledBuffer::new(scratch)? }
            }
            _ => Values::Words(SpilledBuffer::new(scratch)?),
        };
        Ok(Self { name: name.to_owned(), data_type, rows: 0, valid: NullBufferBuilder::new(0), values })
    }

    fn add(&mut self, array: &ArrayRef) -> Result<(), Error> {
        match &mut self.values {
            Values::Words(words) => words.write(match self.data_type {
                DataType::Int64 => array.as_primitive::<Int64Type>().values().inner(),
                DataType::Float64 => array.as_primitive::<Float64Type>().values().inner(),
                _ => array.as_primitive::<TimestampMillisecondType>().values().inner(),
            })?,
            Values::Flags(flags) => flags.append_buffer(array.as_boolean().values()),
            Values::Texts { offsets, texts } => {
                let array = array.as_string::<i32>();
                let found = array.value_offsets();
                let (first, last) = (found[0], found[array.len()]);
                let before =
                    i32::try_from(texts.length).ok().filter(|before| before.checked_add(last - first).is_some());
                let before = before.ok_or_else(|| Error::TooMuchText { column: self.name.clone() })?;
                for offset in &found[1..] {
                    offsets.write(&(before + (offset - first)).to_ne_bytes())?;
                }
                let (first, last) = (first.unsigned_abs() as usize, last.unsigned_abs() as usize);
                texts.write(&array.value_data()[first..last])?;
            }
        }
        self.rows += array.len();
        match array.nulls() {
            Some(nulls) => self.valid.append_buffer(nulls),
            None => self.valid.append_n_non_nulls(array.len()),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ArrayRef, Error> {
        let array = ArrayData::builder(self.data_type).len(self.rows);
        let array = match self.values {
            Values::Words(words) => array.add_buffer(words.finish()?),
            Values::Flags(mut flags) => array.add_buffer(flags.finish().into_inner()),
            Values::Texts { offsets, texts } => array.add_buffer(offsets.finish()?).add_buffer(texts.finish()?),
        };
        let array = array.nulls(self.valid.finish()).build();
        Ok(make_array(array.map_err(Error::arrow("assemble a column"))?))
    }
}

/// A buffer that is being written to a temporary file.
struct SpilledBuffer {
    file: BufWriter<File>,
    length: u64,
}

impl SpilledBuffer {
    fn new(scratch: &Path) -> Result<Self, Error> {
        Ok(Self { file: BufWriter::new(scratch_file(scratch)?), length: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.length += bytes.len() as u64;
        self.file.write_all(bytes).map_err(Error::scratch("write"))
    }

    fn finish(self) -> Result<Buffer, Error> {
        if self.length == 0 {
            return Ok(Buffer::default());
        }
        let file = self.file.into_inner().map_err(|error| Error::scratch("write")(error.into_error()))?;
        #[expect(unsafe_code, reason = "a file cannot be mapped otherwise: another process may change it")]
        // SAFETY: the file has no name and this is its only handle, so that nobody changes it.
        let mapped = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::scratch("map"))?;
        Ok(Buffer::from(Bytes::from_owner(mapped)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray};

    use super::*;
    use crate::{ScanOptions, write_parquet};

    fn table(rows: i64) -> Table {
        let every = |n: i64, row: i64| row % n == 0;
        let columns: [(&str, ArrayRef); 5] = [
            ("at", Arc::new((0..rows).map(Some).collect::<TimestampMillisecondArray>())),
            (
                "x",
                Arc::new((0..rows).map(|row| (!every(7, row)).then_some(row as f64 / 3.0)).collect::<Float64Array>()),
            ),
            ("n", Arc::new((0..rows).collect::<Int64Array>())),
            (
                "flag",
                Arc::new((0..rows).map(|row| (!every(5, row)).then_some(every(3, row))).collect::<BooleanArray>()),
            ),
            (
                "text",
                Arc::new(
                    (0..rows).map(|row| (!every(11, row)).then(|| format!("é{}", row % 97))).collect::<StringArray>(),
                ),
            ),
        ];
        Table::from_batch(&RecordBatch::try_from_iter(columns).expect("columns of one length")).expect("a table")
    }

    fn spilled(table: &Table) -> Table {
        let parquet = write_parquet(table).expect("a file");
        // Batches whose lengths are no multiples of eight, so that bits are shifted.
        let options = ScanOptions { batch_rows: 1001, ..canonical(&Limits::default(), &Default::default()) };
        let scan = Scan::of_bytes(parquet, &options).expect("a scan");
        spill(scan, &std::env::temp_dir(), &Limits::default()).expect("a table in temporary files")
    }

    #[test]
    fn a_table_in_temporary_files_is_equal_to_one_in_memory() {
        for rows in [0, 1, 20_000] {
            let table = table(rows);
            assert_eq!(spilled(&table), table, "{rows} rows");
        }
    }

    #[test]
    fn a_part_of_a_table_in_temporary_files_outlives_it() {
        let table = table(5000);
        let part = spilled(&table).slice(4000, 100);
        assert_eq!(part, table.slice(4000, 100));
    }

    #[test]
    fn a_table_is_read_into_memory_if_it_fits_and_else_into_files() {
        let read = |table: &Table, most: u64| {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(&write_parquet(table).expect("a file")).expect("written");
            let file = Section::whole(file).expect("a file");
            let (read, is_in_memory) = read_at_most(most, &file, &std::env::temp_dir()).expect("a table");
            assert_eq!(&read, table);
            is_in_memory
        };
        let numbers = table(1_000).project(&["x", "n"]).expect("columns");
        assert!(read(&numbers, 16_000));
        assert!(!read(&numbers, 15_999));
        // Texts that are longer than usual show when they are read.
        let texts: StringArray = (0..1_000).map(|row| Some(format!("{row:0>100}"))).collect();
        let columns: [(&str, ArrayRef); 1] = [("text", Arc::new(texts))];
        let texts = Table::from_batch(&RecordBatch::try_from_iter(columns).expect("a column")).expect("a table");
        assert!(read(&texts, 104_000));
        assert!(!read(&texts, 103_999));
    }

    #[test]
    fn tables_of_more_than_256_mib_are_not_read_into_memory() {
        let kinds = [ColumnKind::Numeric, ColumnKind::Categorical];
        assert!(is_read_into_memory((256 << 20) / 24, kinds));
        assert!(!is_read_into_memory((256 << 20) / 24 + 1, kinds));
        assert!(!is_read_into_memory(u64::MAX, kinds));
    }
}
