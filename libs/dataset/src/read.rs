use arrow::{
    array::{Array, ArrayRef, RecordBatch},
    compute,
    datatypes::DataType,
};
use bytes::Bytes;
use rekindle_domain::dataset::{FileFormat, ReadOptions};

use crate::{Error, Limits, Note, Scan, ScanOptions, Table, Types, cast::lossless, size::rows_bytes};

/// Reads a file in a format, with options, within the default [`Limits`]. Also returns the notes on it. Columns that `is_text` accepts by
/// name are text: as a CSV file spells them, and in the canonical spelling of a category where a Parquet file has another type.
///
/// # Errors
/// As [`read_csv`] and [`read_parquet`]; a value that is not written as the options declare; a time format of no column.
pub fn read_as(
    bytes: Bytes,
    format: FileFormat,
    reading: &ReadOptions,
    is_text: impl Fn(&str) -> bool,
) -> Result<(Table, Vec<Note>), Error> {
    read(bytes, format, &Limits::default(), reading, is_text)
}

/// Reads a CSV file within the default [`Limits`].
///
/// # Errors
/// Malformed input, with the line, the column and the remedy.
pub fn read_csv(bytes: Bytes) -> Result<Table, Error> {
    read_csv_within(bytes, &Limits::default())
}

/// Reads a CSV file.
///
/// # Errors
/// As [`read_csv`], and input beyond the limits.
pub fn read_csv_within(bytes: Bytes, limits: &Limits) -> Result<Table, Error> {
    if bytes.len() > limits.bytes {
        return Err(Error::TooLarge { what: "bytes", limit: limits.bytes });
    }
    Ok(read(bytes, FileFormat::Csv, limits, &ReadOptions::default(), |_| false)?.0)
}

/// Reads a Parquet file within the default [`Limits`] and converts every column to its canonical type.
///
/// # Errors
/// Damaged or not Parquet; unusable or duplicate names; a column whose type has no canonical form.
pub fn read_parquet(bytes: Bytes) -> Result<Table, Error> {
    read_parquet_within(bytes, &Limits::default())
}

/// Reads a Parquet file.
///
/// # Errors
/// As [`read_parquet`], and content beyond the limits.
pub fn read_parquet_within(bytes: Bytes, limits: &Limits) -> Result<Table, Error> {
    Ok(read(bytes, FileFormat::Parquet, limits, &ReadOptions::default(), |_| false)?.0)
}

/// What scans of whole files to canonical types have in common.
pub(crate) fn canonical(limits: &Limits, reading: &ReadOptions) -> ScanOptions {
    ScanOptions {
        types: Types::Canonical,
        columns: limits.columns,
        text_bytes: limits.bytes,
        reading: reading.clone(),
        ..ScanOptions::default()
    }
}

/// Refuses time formats of columns that do not exist.
///
/// # Errors
/// The first that does not exist.
pub fn check_formats<'a>(reading: &ReadOptions, columns: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    if reading.time_formats.is_empty() {
        return Ok(());
    }
    let have: Vec<String> = columns.map(str::to_owned).collect();
    match reading.time_formats.keys().find(|name| !have.contains(name)) {
        Some(name) => Err(Error::NoColumn { name: name.clone(), have }),
        None => Ok(()),
    }
}

fn read(
    bytes: Bytes,
    format: FileFormat,
    limits: &Limits,
    reading: &ReadOptions,
    is_text: impl Fn(&str) -> bool,
) -> Result<(Table, Vec<Note>), Error> {
    let mut scan = Scan::of_bytes_in(bytes, format, &canonical(limits, reading))?;
    scan.read_as_text(&is_text);
    check_formats(reading, scan.columns().iter().map(|column| column.name.as_str()))?;
    collect(scan, format, limits, is_text)
}

/// Reads what a scan returns into memory.
pub(crate) fn collect(
    mut scan: Scan,
    format: FileFormat,
    limits: &Limits,
    is_text: impl Fn(&str) -> bool,
) -> Result<(Table, Vec<Note>), Error> {
    let mut budget = Budget::new(*limits);
    budget.check_rows(scan.declared_rows())?;
    let mut parts: Vec<Vec<ArrayRef>> = scan.columns().iter().map(|_| Vec::new()).collect();
    for batch in scan.by_ref() {
        let batch = batch?.rows;
        budget.take(&batch)?;
        for (column, array) in parts.iter_mut().zip(batch.columns()) {
            column.push(array.clone());
        }
    }
    let columns = scan.columns().iter().zip(parts).map(|(column, parts)| {
        let empty = [arrow::array::new_empty_array(&column.data_type)];
        let parts = if parts.is_empty() { &empty[..] } else { &parts };
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        let whole = compute::concat(&parts).map_err(Error::arrow("concatenate a column"))?;
        let whole = if is_text(&column.name) { lossless(&column.name, &whole, &DataType::Utf8)? } else { whole };
        Ok((column.name.clone(), whole))
    });
    if format == FileFormat::Csv && budget.rows == 0 {
        return Err(Error::Empty { what: "no rows after the header" });
    }
    let table = Table::from_columns(columns.collect::<Result<_, Error>>()?, budget.rows)?;
    Ok((table, scan.notes().to_vec()))
}

/// Counts what has been read against the limits.
pub(crate) struct Budget {
    limits: Limits,
    rows: usize,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, rows: 0, bytes: 0 }
    }

    /// Refuses a number of rows before they are read.
    pub(crate) fn check_rows(&self, rows: Option<u64>) -> Result<(), Error> {
        match rows {
            Some(rows) if rows > self.limits.rows as u64 => Err(self.too_many_rows()),
            _ => Ok(()),
        }
    }

    /// Adds rows that have been read. What a file declares may be false.
    pub(crate) fn take(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.rows += batch.num_rows();
        self.bytes += rows_bytes(batch, 0, batch.num_rows());
        if self.rows > self.limits.rows {
            return Err(self.too_many_rows());
        }
        if self.bytes > self.limits.bytes {
            return Err(Error::TooLarge { what: "bytes", limit: self.limits.bytes });
        }
        Ok(())
    }

    /// Rows that have been read.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    fn too_many_rows(&self) -> Error {
        Error::TooLarge { what: "rows", limit: self.limits.rows }
    }
}
