use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions, new_null_array},
    datatypes::{DataType, Field, Float64Type, Schema as ArrowSchema, SchemaRef, TimestampMillisecondType},
};
use rekindle_domain::{
    dataset::{EpochUnit, SourceColumns, TimeFormat},
    event_time,
};

use super::{IngestError, IngestOptions, Part, PlannedColumn};
use crate::{
    Error, Note, NoteKind, Scan,
    cast::{epochs, lossless, number_range, times, wider},
    read::check_formats,
    schema::{canonical_timestamp, kind_of, type_name},
    table::type_of_kind,
};

/// Opens the sources again: all of them, or the numbers of one column.
pub(super) type Open<'a> = dyn Fn(Option<&str>) -> Result<Vec<Scan>, IngestError> + 'a;

/// The columns of the result, and where they come from.
pub(super) struct Columns {
    columns: Vec<Column>,
    time: Option<usize>,
    schema: SchemaRef,
}

struct Column {
    name: String,
    /// Its index in each source; `None` if the source lacks it.
    indices: Vec<Option<usize>>,
    /// The type that holds the values of every source.
    common: DataType,
    /// Its type in the result; `None` as long as it depends on the values.
    target: Option<DataType>,
    /// How its times are written, where they are text.
    format: TimeFormat,
    /// The unit of its times, where they are numbers.
    unit: EpochUnit,
}

impl Columns {
    /// The columns of the sources, in the order in which they first occur, in the requested kinds, or in types that hold the values of all.
    pub(super) fn of(scans: &[Scan], options: &IngestOptions) -> Result<Self, IngestError> {
        if scans.is_empty() {
            return Err(Part::Sources.error()(Error::Concat("there are no tables")));
        }
        let mut names: Vec<&str> = Vec::new();
        let mut seen = HashSet::new();
        for column in scans.iter().flat_map(Scan::columns) {
            if seen.insert(column.name.as_str()) {
                names.push(&column.name);
            }
        }
        if names.len() > options.limits.columns {
            return Err(Part::Sources.error()(Error::TooLarge { what: "columns", limit: options.limits.columns }));
        }
        let columns = names.into_iter().map(|name| Column::of(name, scans, options));
        let columns: Vec<Column> = match options.columns {
            SourceColumns::Any => columns.collect(),
            SourceColumns::Common => columns.filter(|column| column.indices.iter().all(Option::is_some)).collect(),
        };
        // A file that shares no column with another is not a part of the same dataset.
        let is_shared = |source: usize| {
            let mut of_source = columns.iter().filter(|column| column.indices[source].is_some());
            of_source.any(|column| column.indices.iter().flatten().count() > 1)
        };
        if scans.len() > 1 && !(0..scans.len()).all(is_shared) {
            return Err(Part::Sources.error()(Error::Concat("they have no column in common")));
        }
        let columns = Self { columns, time: None, schema: Arc::new(ArrowSchema::empty()) };
        for name in options.kinds.keys() {
            columns.index(name).map_err(Part::Kinds.error())?;
        }
        check_formats(&options.reading, columns.columns.iter().map(|column| column.name.as_str()))
            .map_err(Part::Reading.error())?;
        Ok(columns)
    }

    /// Decides what depends on values.
    ///
    /// # Errors
    /// Those of the sources; times since 1970 in no certain unit; a time column that is none.
    pub(super) fn decide(
        mut self,
        scans: &[Scan],
        open: &Open<'_>,
        time_column: Option<&str>,
    ) -> Result<Self, IngestError> {
        for (index, column) in self.columns.iter_mut().enumerate() {
            let orders = time_column == Some(column.name.as_str());
            if column.has_numeric_times(scans, orders) {
                column.decide_unit(scans, open, orders)?;
            }
            if orders {
                column.check_orders(scans)?;
                self.time = Some(index);
            }
        }
        if let (Some(name), None) = (time_column, self.time) {
            self.index(name).map_err(Part::TimeColumn.error())?;
        }
        if self.depend_on_values() {
            self.infer_numbers(open(None)?)?;
        }
        self.set_schema();
        Ok(self)
    }

    /// Lets the sources be read as the columns need it: those that become text as the source spells them.
    pub(super) fn prepare(&self, scans: &mut [Scan]) {
        let is_text = |name: &str| {
            let column = self.columns.iter().find(|column| column.name == name);
            column.is_some_and(|column| column.target == Some(DataType::Utf8))
        };
        scans.iter_mut().for_each(|scan| scan.read_as_text(is_text));
    }

    /// The index of a column of the result.
    pub(super) fn index(&self, name: &str) -> Result<usize, Error> {
        let found = self.columns.iter().position(|column| column.name == name);
        let have = || self.columns.iter().map(|column| column.name.clone()).collect();
        found.ok_or_else(|| Error::NoColumn { name: name.to_owned(), have: have() })
    }

    /// Whether the values decide the type of a column: text that is to be numeric, or floats beside integers.
    fn depend_on_values(&self) -> bool {
        self.columns.iter().any(|column| column.target.is_none())
    }

    /// Decides the types that depend on values, which takes a pass over the sources: `Int64` if every value is an integer, else
    /// `Float64`.
    fn infer_numbers(&mut self, scans: Vec<Scan>) -> Result<(), IngestError> {
        for (source, scan) in scans.into_iter().enumerate() {
            let mut rows = 0;
            for batch in scan {
                let batch = batch.map_err(Part::Source(source).error())?.rows;
                for column in self.columns.iter_mut().filter(|column| column.target.is_none()) {
                    let texts = column.convert(source, &batch, &DataType::Utf8, rows)?;
                    let is_integer = |text: Option<&str>| text.is_none_or(|text| text.parse::<i64>().is_ok());
                    if !texts.as_string::<i32>().iter().all(is_integer) {
                        column.target = Some(DataType::Float64);
                    }
                }
                rows += batch.num_rows() as u64;
                if !self.depend_on_values() {
                    break;
                }
            }
        }
        for column in &mut self.columns {
            column.target.get_or_insert(DataType::Int64);
        }
        Ok(())
    }

    fn set_schema(&mut self) {
        let fields = self.names_and_types().map(|(name, data_type)| Field::new(name, data_type.clone(), true));
        self.schema = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
    }

    /// The columns of a batch of one source, in the types of the result. Rows in errors count from the start of the source, of which
    /// `source_rows` come before the batch, or of all sources, of which `rows` do.
    pub(super) fn convert(
        &self,
        source: usize,
        batch: &RecordBatch,
        source_rows: u64,
        rows: u64,
    ) -> Result<RecordBatch, IngestError> {
        let array = |column: &Column| {
            let target = column.target.as_ref().unwrap_or(&column.common);
            // What becomes text keeps the spelling of its source, and integers their digits, which the common type may not have.
            let is_direct = matches!(target, DataType::Utf8 | DataType::Int64 | DataType::Timestamp(..));
            let common = if is_direct { target } else { &column.common };
            let array = column.convert(source, batch, common, source_rows)?;
            let array = lossless(&column.name, &array, target);
            let array = array.map_err(|error| Part::Kinds.error()(error.after_rows(rows)))?;
            check_values(&column.name, &array)
                .map_err(|error| Part::Source(source).error()(error.after_rows(source_rows)))?;
            Ok(array)
        };
        let arrays = self.columns.iter().map(array).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(Error::arrow("assemble the columns"))
            .map_err(Part::Sources.error())
    }

    /// The columns with their types in each source.
    pub(super) fn planned(&self, scans: &[Scan]) -> Vec<PlannedColumn> {
        let found = |scan: &Scan, index: usize| {
            let column = &scan.columns()[index];
            if column.is_empty { DataType::Null } else { column.data_type.clone() }
        };
        let of = |column: &Column| PlannedColumn {
            name: column.name.clone(),
            sources: scans
                .iter()
                .zip(&column.indices)
                .map(|(scan, index)| index.map(|index| found(scan, index)))
                .collect(),
            data_type: column.target.clone().unwrap_or(column.common.clone()),
        };
        self.columns.iter().map(of).collect()
    }

    /// Adds notes on numbers that are read as times.
    pub(super) fn note_epochs(&self, scans: &[Scan], notes: &mut [Vec<Note>]) {
        let of_times = self.columns.iter().filter(|column| column.target.as_ref() == Some(&canonical_timestamp()));
        for column in of_times {
            for (source, _, _) in column.types(scans).filter(|(_, _, found)| is_numeric(found)) {
                notes[source].push(Note { column: column.name.clone(), kind: NoteKind::Epoch { unit: column.unit } });
            }
        }
    }

    /// The names and types of the result's columns.
    pub(super) fn names_and_types(&self) -> impl Iterator<Item = (&str, &DataType)> {
        self.columns.iter().map(|column| (column.name.as_str(), column.target.as_ref().unwrap_or(&column.common)))
    }

    /// The index and the name of the time column.
    pub(super) fn time(&self) -> Option<(usize, &str)> {
        self.time.map(|index| (index, self.columns[index].name.as_str()))
    }
}

impl Column {
    fn of(name: &str, scans: &[Scan], options: &IngestOptions) -> Self {
        let index_in = |scan: &Scan| scan.columns().iter().position(|column| column.name == name);
        let indices: Vec<Option<usize>> = scans.iter().map(index_in).collect();
        let known = || {
            let columns = scans.iter().zip(&indices).filter_map(|(scan, index)| Some(&scan.columns()[(*index)?]));
            columns.filter(|column| !column.is_empty).map(|column| column.data_type.clone())
        };
        let common = known().reduce(|one, other| wider(&one, &other)).unwrap_or(DataType::Utf8);
        let target = match options.kinds.get(name) {
            Some(&kind) if Some(kind) != kind_of(&common) => type_of_kind(&common, kind),
            // Whole numbers are often stored as floats for want of a missing integer: they stay integers beside integers.
            _ if common == DataType::Float64 && known().any(|found| found == DataType::Int64) => None,
            _ => Some(common.clone()),
        };
        let format = options.reading.time_format_of(name);
        Self { name: name.to_owned(), indices, common, target, format, unit: EpochUnit::Millis }
    }

    /// The types of the column in the sources.
    fn types<'a>(&'a self, scans: &'a [Scan]) -> impl Iterator<Item = (usize, usize, &'a DataType)> {
        let columns = scans.iter().zip(&self.indices).enumerate();
        columns.filter_map(|(source, (scan, index))| Some((source, (*index)?, &scan.columns()[(*index)?].data_type)))
    }

    /// Whether a source has numbers where the result has, or might have, times.
    fn has_numeric_times(&self, scans: &[Scan], orders: bool) -> bool {
        let has_times = self.target.as_ref() == Some(&canonical_timestamp());
        (has_times || orders && is_numeric(&self.common)) && self.types(scans).any(|(_, _, found)| is_numeric(found))
    }

    /// Infers the unit of numbers that are times. The numbers of a column that only orders the rows must be certain to be times.
    fn decide_unit(&mut self, scans: &[Scan], open: &Open<'_>, orders: bool) -> Result<(), IngestError> {
        let Some((least, greatest)) = self.range(scans, open)? else { return Ok(()) };
        if self.target.as_ref() == Some(&canonical_timestamp()) {
            let unit = EpochUnit::inferred(least, greatest);
            let failed = |source| Error::Epoch { column: self.name.clone(), source };
            let part = if orders { Part::TimeColumn } else { Part::Sources };
            self.unit = unit.map_err(failed).map_err(part.error())?;
        } else if let Some(unit) = EpochUnit::certain(least, greatest) {
            (self.unit, self.target) = (unit, Some(canonical_timestamp()));
        }
        Ok(())
    }

    /// The least and the greatest number of all sources.
    fn range(&self, scans: &[Scan], open: &Open<'_>) -> Result<Option<(f64, f64)>, IngestError> {
        let mut range: Option<(f64, f64)> = None;
        let mut add = |(least, greatest): (f64, f64)| {
            let known = range.get_or_insert((least, greatest));
            *known = (known.0.min(least), known.1.max(greatest));
        };
        let mut unread: Vec<usize> = Vec::new();
        for (source, index, found) in self.types(scans) {
            match (found, scans[source].range(index)) {
                (DataType::Int64 | DataType::Float64, Some(range)) => add(range),
                (DataType::Int64 | DataType::Float64, None) => unread.push(source),
                _ => {}
            }
        }
        if unread.is_empty() {
            return Ok(range);
        }
        for (source, scan) in
            open(Some(&self.name))?.into_iter().enumerate().filter(|(source, _)| unread.contains(source))
        {
            for batch in scan {
                let rows = batch.map_err(Part::Source(source).error())?.rows;
                number_range(rows.column(0)).map_err(Part::Source(source).error())?.into_iter().for_each(&mut add);
            }
        }
        Ok(range)
    }

    /// Checks that the column can order the rows.
    fn check_orders(&self, scans: &[Scan]) -> Result<(), IngestError> {
        if let Some(index) = self.indices.iter().position(Option::is_none) {
            let have = scans[index].columns().iter().map(|column| column.name.clone()).collect();
            return Err(Part::TimeColumn.error()(Error::NoTimeColumn { index, column: self.name.clone(), have }));
        }
        let found = self.target.clone().unwrap_or(DataType::Float64);
        if found == canonical_timestamp() {
            return Ok(());
        }
        let expected =
            "a timestamp; declare how its times are written, set its kind to timestamp, or choose another column";
        Err(Part::TimeColumn.error()(Error::Type { column: self.name.clone(), found: type_name(&found), expected }))
    }

    /// The values of a batch of one source in a type.
    fn convert(
        &self,
        source: usize,
        batch: &RecordBatch,
        to: &DataType,
        source_rows: u64,
    ) -> Result<ArrayRef, IngestError> {
        let Some(index) = self.indices[source] else { return Ok(new_null_array(to, batch.num_rows())) };
        let array = batch.column(index);
        let converted = match (array.data_type(), to) {
            (DataType::Int64 | DataType::Float64, DataType::Timestamp(..)) => epochs(&self.name, array, self.unit),
            (DataType::Utf8, DataType::Timestamp(..)) => times(&self.name, array, self.format),
            _ => lossless(&self.name, array, to),
        };
        converted.map_err(|error| Part::Sources.error()(error.after_rows(source_rows)))
    }
}

fn is_numeric(found: &DataType) -> bool {
    matches!(found, DataType::Int64 | DataType::Float64)
}

/// Refuses what no request may have: infinite numbers, and times outside of the years 1 to 9999.
fn check_values(column: &str, array: &ArrayRef) -> Result<(), Error> {
    let column = || column.to_owned();
    if let Some(numbers) = array.as_primitive_opt::<Float64Type>() {
        let infinite =
            numbers.iter().enumerate().find_map(|(row, value)| Some((row, value?)).filter(|v| v.1.is_infinite()));
        return infinite.map_or(Ok(()), |(row, value)| Err(Error::Infinite { column: column(), row, value }));
    }
    let Some(times) = array.as_primitive_opt::<TimestampMillisecondType>() else { return Ok(()) };
    for (row, time) in times.iter().enumerate() {
        if let Some(Err(problem)) = time.map(event_time::checked) {
            return Err(Error::OutOfRange { column: column(), row, problem });
        }
    }
    Ok(())
}
