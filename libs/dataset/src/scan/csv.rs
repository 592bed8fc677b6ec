use std::{borrow::Cow, ops::ControlFlow};

use arrow::datatypes::{DataType, SchemaRef};

use super::{
    Expectation, Progress, ScanBatch, ScanColumn, ScanOptions, SkipReason, Skipped,
    blocks::{Blocks, Input},
    builder::{ColumnBuilder, type_of},
    expectation, put_together, schema_of,
};
use crate::{
    Error, Kind,
    csv::Narrowest,
    schema::{check_names, kind_of},
};

/// Rows between two reports of progress while types are determined.
const WATCH_ROWS: usize = 64 * 1024;

/// A CSV file past its header.
pub(super) struct CsvScan {
    blocks: Blocks,
    /// Fields of a record.
    width: usize,
    /// For every column read, its field and what is being made of it.
    builders: Vec<(usize, ColumnBuilder)>,
    schema: SchemaRef,
    batch_rows: usize,
    batch_bytes: usize,
    passes: Passes,
    size: u64,
}

/// How often the file is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passes {
    One,
    Two,
}

impl CsvScan {
    /// Of `size` bytes, or 0 if that is not known.
    pub(super) fn open(
        input: Box<dyn Input>,
        size: u64,
        options: &ScanOptions,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<(Self, Vec<ScanColumn>, Vec<Skipped>), Error> {
        let mut blocks = Blocks::new(input, options);
        let names = header(&mut blocks, options)?;
        let (passes, types) = if options.expected.is_some() {
            (Passes::One, vec![DataType::Utf8; names.len()])
        } else {
            let types = survey(&mut blocks, names.len(), |read| watch(Progress { done: read, total: 2 * size }))?;
            blocks.rewind()?;
            header(&mut blocks, options)?;
            (Passes::Two, types)
        };
        let width = names.len();
        let (fields, columns, skipped) = choose(names, &types, options);
        let builders =
            fields.iter().zip(&columns).map(|(&field, column)| (field, ColumnBuilder::new(&column.data_type)));
        let scan = Self {
            blocks,
            width,
            builders: builders.collect(),
            schema: schema_of(&columns),
            batch_rows: options.batch_rows.max(1),
            batch_bytes: options.batch_bytes,
            passes,
            size,
        };
        Ok((scan, columns, skipped))
    }

    pub(super) fn progress(&self) -> Progress {
        let read = self.blocks.bytes_read();
        match self.passes {
            Passes::One => Progress { done: read, total: self.size },
            Passes::Two => Progress { done: self.size + read, total: 2 * self.size },
        }
    }

    /// The next rows, or `None` at the end.
    pub(super) fn batch(&mut self) -> Result<Option<ScanBatch>, Error> {
        let (mut rows, mut bytes) = (0, 0);
        let Self { blocks, builders, width, batch_rows, batch_bytes, .. } = self;
        blocks.visit(|fields, line| {
            check_width(fields, *width, line)?;
            for (field, builder) in &mut *builders {
                let text = &fields[*field];
                bytes += text.len();
                builder.push((!text.is_empty()).then_some(text))?;
            }
            rows += 1;
            Ok(if rows == *batch_rows || bytes > *batch_bytes {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        if rows == 0 {
            return Ok(None);
        }
        let (arrays, unparsable): (Vec<_>, Vec<_>) = builders.iter_mut().map(|(_, builder)| builder.finish()).unzip();
        if self.passes == Passes::Two && unparsable.iter().any(|&count| count > 0) {
            return Err(Error::Changed);
        }
        put_together(&self.schema, arrays, rows, unparsable).map(Some)
    }
}

/// Reads the first record.
fn header(blocks: &mut Blocks, options: &ScanOptions) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = Vec::new();
    blocks.visit(|fields, _| {
        names.extend(fields.iter().map(ToString::to_string));
        Ok(ControlFlow::Break(()))
    })?;
    if blocks.is_blank() {
        return Err(Error::Empty { what: "nothing in it" });
    }
    if names.len() > options.columns {
        return Err(Error::TooLarge { what: "columns", limit: options.columns });
    }
    check_names(names.iter().map(String::as_str))?;
    Ok(names)
}

/// Reads all rows to find every column's canonical type, telling `watch` the bytes read.
fn survey(blocks: &mut Blocks, width: usize, mut watch: impl FnMut(u64)) -> Result<Vec<DataType>, Error> {
    let mut columns = vec![Narrowest::new(); width];
    loop {
        let mut rows = 0;
        blocks.visit(|fields, line| {
            check_width(fields, width, line)?;
            for (column, field) in columns.iter_mut().zip(fields).filter(|(_, field)| !field.is_empty()) {
                column.see(field);
            }
            rows += 1;
            Ok(if rows == WATCH_ROWS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        watch(blocks.bytes_read());
        if rows < WATCH_ROWS {
            return Ok(columns.iter().map(Narrowest::data_type).collect());
        }
    }
}

fn check_width(fields: &[Cow<'_, str>], width: usize, line: usize) -> Result<(), Error> {
    if fields.len() == width { Ok(()) } else { Err(Error::Ragged { line, expected: width, got: fields.len() }) }
}

type Choice = (Vec<usize>, Vec<ScanColumn>, Vec<Skipped>);

/// The fields that are read, as which columns, and the rest. `types` are those that the columns have of their own.
fn choose(names: Vec<String>, types: &[DataType], options: &ScanOptions) -> Choice {
    let (mut fields, mut columns, mut skipped) = Choice::default();
    for (field, (name, own)) in names.into_iter().zip(types).enumerate() {
        let own_kind = kind_of(own).unwrap_or(Kind::Categorical);
        let (kind, data_type) = match expectation(options, &name) {
            Expectation::Skip => {
                skipped.push(Skipped { name, reason: SkipReason::Unexpected });
                continue;
            }
            Expectation::Kind(kind) => (kind, type_of(kind)),
            Expectation::Own if own_kind == Kind::Categorical => (own_kind, type_of(own_kind)),
            Expectation::Own => (own_kind, own.clone()),
        };
        fields.push(field);
        columns.push(ScanColumn { name, kind, data_type });
    }
    (fields, columns, skipped)
}
