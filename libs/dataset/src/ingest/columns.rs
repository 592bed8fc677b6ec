use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef},
};

use super::{IngestError, IngestOptions, Part};
use crate::{
    Error, Scan,
    cast::{lossless, wider},
    schema::{canonical_timestamp, kind_of, type_name},
    table::type_of_kind,
};

/// The columns of the result, and where they come from.
pub(super) struct Columns {
    columns: Vec<Column>,
    time: Option<usize>,
    schema: SchemaRef,
}

struct Column {
    name: String,
    /// Its index in each source.
    indices: Vec<usize>,
    /// The type that holds the values of every source.
    common: DataType,
    /// Its type in the result; `None` as long as it depends on the values.
    target: Option<DataType>,
}

impl Columns {
    /// The columns that all sources have, in the order of the first, in the requested kinds, or in types that hold the values of all.
    pub(super) fn of(scans: &[Scan], options: &IngestOptions) -> Result<Self, IngestError> {
        let (first, rest) =
            scans.split_first().ok_or(Error::Concat("there are no tables")).map_err(Part::Sources.error())?;
        let index_in = |scan: &Scan, name: &str| scan.columns().iter().position(|column| column.name == name);
        let mut columns = Vec::new();
        for (index, column) in first.columns().iter().enumerate() {
            let others = rest.iter().map(|scan| index_in(scan, &column.name));
            let Some(indices) = std::iter::once(Some(index)).chain(others).collect::<Option<Vec<_>>>() else {
                continue;
            };
            let known = scans.iter().zip(&indices).map(|(scan, &index)| &scan.columns()[index]);
            let known = known.filter(|column| !column.is_empty).map(|column| column.data_type.clone());
            let common = known.reduce(|one, other| wider(&one, &other)).unwrap_or(DataType::Utf8);
            let has_integers = |(scan, &index): (&Scan, &usize)| scan.columns()[index].data_type == DataType::Int64;
            let target = match options.kinds.get(&column.name) {
                Some(&kind) if Some(kind) != kind_of(&common) => type_of_kind(&common, kind),
                // Whole numbers are often stored as floats for want of a missing integer: they stay integers beside integers.
                _ if common == DataType::Float64 && scans.iter().zip(&indices).any(has_integers) => None,
                _ => Some(common.clone()),
            };
            columns.push(Column { name: column.name.clone(), indices, common, target });
        }
        if columns.is_empty() && !first.columns().is_empty() {
            return Err(Part::Sources.error()(Error::Concat("they have no column in common")));
        }
        let mut columns = Self { columns, time: None, schema: Arc::new(ArrowSchema::empty()) };
        for name in options.kinds.keys() {
            columns.index(name).map_err(Part::Kinds.error())?;
        }
        if let Some(name) = &options.time_column {
            columns.time = Some(columns.time_index(name).map_err(Part::TimeColumn.error())?);
        }
        columns.set_schema();
        Ok(columns)
    }

    /// Lets the sources be read as the columns need it: those that become text as the source spells them.
    pub(super) fn prepare(&self, scans: &mut [Scan]) {
        let is_text = |name: &str| {
            let column = self.columns.iter().find(|column| column.name == name);
            column.is_some_and(|column| column.target == Some(DataType::Utf8))
        };
        scans.iter_mut().for_each(|scan| scan.read_as_text(is_text));
    }

    fn index(&self, name: &str) -> Result<usize, Error> {
        let found = self.columns.iter().position(|column| column.name == name);
        let have = || self.columns.iter().map(|column| column.name.clone()).collect();
        found.ok_or_else(|| Error::NoColumn { name: name.to_owned(), have: have() })
    }

    fn time_index(&self, name: &str) -> Result<usize, Error> {
        let index = self.index(name)?;
        let found = self.columns[index].target.clone().unwrap_or(DataType::Float64);
        if found == canonical_timestamp() {
            return Ok(index);
        }
        let expected = "a timestamp; set its kind to timestamp, or choose another column";
        Err(Error::Type { column: name.to_owned(), found: type_name(&found), expected })
    }

    /// Whether the values decide the type of a column: text that is to be numeric, or floats beside integers.
    pub(super) fn depend_on_values(&self) -> bool {
        self.columns.iter().any(|column| column.target.is_none())
    }

    /// Decides the types that depend on values, which takes a pass over the sources: `Int64` if every value is an integer, else
    /// `Float64`.
    pub(super) fn infer_numbers(&mut self, scans: Vec<Scan>) -> Result<(), IngestError> {
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
        self.set_schema();
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
            let common = if matches!(target, DataType::Utf8 | DataType::Int64) { target } else { &column.common };
            let array = column.convert(source, batch, common, source_rows)?;
            lossless(&column.name, &array, target).map_err(|error| Part::Kinds.error()(error.after_rows(rows)))
        };
        let arrays = self.columns.iter().map(array).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(Error::arrow("assemble the columns"))
            .map_err(Part::Sources.error())
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
    /// The values of a batch of one source in a type.
    fn convert(
        &self,
        source: usize,
        batch: &RecordBatch,
        to: &DataType,
        source_rows: u64,
    ) -> Result<ArrayRef, IngestError> {
        let array = batch.column(self.indices[source]);
        lossless(&self.name, array, to).map_err(|error| Part::Sources.error()(error.after_rows(source_rows)))
    }
}
