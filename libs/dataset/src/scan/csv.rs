use std::{borrow::Cow, collections::BTreeSet, ops::ControlFlow};

use arrow::datatypes::SchemaRef;

use super::{
    Expectation, Progress, ScanBatch, ScanColumn, ScanOptions, SkipReason, Skipped, Stray,
    blocks::{Blocks, Input},
    builder::{Built, ColumnBuilder, type_of},
    expectation, put_together, schema_of,
};
use crate::{
    Error, Kind,
    csv::Narrowest,
    schema::{check_names, kind_of},
};

/// What parts fields in files that are called CSV all the same.
const SEPARATORS: [char; 3] = [';', '\t', '|'];

/// Characters of a header that show what is meant.
const HEADER_CHARS: usize = 80;

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
    missing: BTreeSet<String>,
    batch_rows: usize,
    batch_bytes: usize,
    passes: Passes,
    rows_read: u64,
    size: u64,
}

/// How often the file is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passes {
    One,
    /// The first found so many rows.
    Two {
        rows: u64,
    },
}

/// What is known of a column, or nothing yet.
type Survey = Vec<Narrowest>;

/// What is read of a file.
#[derive(Default)]
pub(super) struct Choice {
    /// The place of each of the columns.
    fields: Vec<usize>,
    pub(super) columns: Vec<ScanColumn>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) strays: Vec<Stray>,
}

impl CsvScan {
    /// Of `size` bytes, or 0 if that is not known.
    pub(super) fn open(
        input: Box<dyn Input>,
        size: u64,
        options: &ScanOptions,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<(Self, Choice), Error> {
        let mut blocks = Blocks::new(input, options);
        let names = header(&mut blocks, options)?;
        let (passes, surveyed) = if options.expected.is_some() {
            (Passes::One, vec![Narrowest::new(); names.len()])
        } else {
            let watch = |read| watch(Progress { done: read, total: 2 * size });
            let (rows, surveyed) = survey(&mut blocks, names.len(), options, watch)?;
            blocks.rewind()?;
            if header(&mut blocks, options)? != names {
                return Err(Error::Changed);
            }
            (Passes::Two { rows }, surveyed)
        };
        let width = names.len();
        let choice = choose(names, &surveyed, options);
        let builders = choice.fields.iter().zip(&choice.columns);
        let builders = builders.map(|(&field, column)| (field, ColumnBuilder::new(&column.data_type)));
        let scan = Self {
            blocks,
            width,
            builders: builders.collect(),
            schema: schema_of(&choice.columns),
            missing: options.missing.clone(),
            batch_rows: options.batch_rows.max(1),
            batch_bytes: options.batch_bytes,
            passes,
            rows_read: 0,
            size,
        };
        Ok((scan, choice))
    }

    pub(super) fn progress(&self) -> Progress {
        let read = self.blocks.bytes_read();
        match self.passes {
            Passes::One => Progress { done: read, total: self.size },
            Passes::Two { .. } => Progress { done: self.size + read, total: 2 * self.size },
        }
    }

    /// The next rows, or `None` at the end.
    pub(super) fn batch(&mut self) -> Result<Option<ScanBatch>, Error> {
        let (mut rows, mut bytes) = (0, 0);
        let Self { blocks, builders, width, missing, batch_rows, batch_bytes, .. } = self;
        blocks.visit(|fields, line| {
            check_width(fields, *width, line)?;
            for (field, builder) in &mut *builders {
                let text = &fields[*field];
                bytes += text.len();
                builder.push((!is_missing(text, missing)).then_some(text))?;
            }
            rows += 1;
            Ok(if rows == *batch_rows || bytes > *batch_bytes {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        self.rows_read += rows as u64;
        let built: Vec<Built> = self.builders.iter_mut().map(|(_, builder)| builder.finish()).collect();
        if let Passes::Two { rows: before } = self.passes {
            let is_longer = self.rows_read > before;
            let is_shorter = rows == 0 && self.rows_read < before;
            if is_longer || is_shorter || built.iter().any(|column| column.unparsable > 0) {
                return Err(Error::Changed);
            }
        }
        if rows == 0 {
            return Ok(None);
        }
        put_together(&self.schema, built, rows).map(Some)
    }
}

fn is_missing(text: &str, missing: &BTreeSet<String>) -> bool {
    text.is_empty() || !missing.is_empty() && missing.contains(text)
}

/// Reads the first record. A column without a name, as table libraries write the index of rows, is called by its place.
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
    check_separator(&names, options.separator)?;
    let is_blank = names.len() == 1;
    let unnamed = names.iter_mut().enumerate().filter(|(_, name)| name.is_empty() && !is_blank);
    unnamed.for_each(|(place, name)| *name = format!("column {}", place + 1));
    check_names(names.iter().map(String::as_str))?;
    Ok(names)
}

/// Refuses a header of one field that has what else parts fields.
fn check_separator(names: &[String], separator: u8) -> Result<(), Error> {
    let [header] = names else { return Ok(()) };
    let found = header.chars().find(|&found| SEPARATORS.contains(&found) && found != char::from(separator));
    found.map_or(Ok(()), |found| Err(Error::Separator { found, header: header.chars().take(HEADER_CHARS).collect() }))
}

/// Reads all rows, to count them and to find every column's canonical type, telling `watch` the bytes read.
fn survey(
    blocks: &mut Blocks,
    width: usize,
    options: &ScanOptions,
    mut watch: impl FnMut(u64),
) -> Result<(u64, Survey), Error> {
    let mut columns = vec![Narrowest::new(); width];
    let mut all = 0;
    loop {
        let mut rows = 0;
        blocks.visit(|fields, line| {
            check_width(fields, width, line)?;
            let present = columns.iter_mut().zip(fields).filter(|(_, field)| !is_missing(field, &options.missing));
            present.for_each(|(column, field)| column.see(field));
            rows += 1;
            Ok(if rows == WATCH_ROWS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        watch(blocks.bytes_read());
        all += rows as u64;
        if rows < WATCH_ROWS {
            return Ok((all, columns));
        }
    }
}

fn check_width(fields: &[Cow<'_, str>], width: usize, line: usize) -> Result<(), Error> {
    if fields.len() == width { Ok(()) } else { Err(Error::Ragged { line, expected: width, got: fields.len() }) }
}

/// The fields that are read, as which columns, and the rest.
fn choose(names: Vec<String>, surveyed: &[Narrowest], options: &ScanOptions) -> Choice {
    let mut choice = Choice::default();
    for (field, (name, surveyed)) in names.into_iter().zip(surveyed).enumerate() {
        let own = surveyed.data_type();
        let own_kind = kind_of(&own).unwrap_or(Kind::Categorical);
        let (kind, data_type) = match expectation(options, &name) {
            Expectation::Skip => {
                choice.skipped.push(Skipped { name, reason: SkipReason::Unexpected });
                continue;
            }
            Expectation::Kind(kind) => (kind, type_of(kind)),
            Expectation::Own if own_kind == Kind::Categorical => (own_kind, type_of(own_kind)),
            Expectation::Own => (own_kind, own),
        };
        let stray = surveyed.stray().map(|value| Stray { column: name.clone(), value: value.to_owned() });
        choice.strays.extend(stray);
        choice.fields.push(field);
        choice.columns.push(ScanColumn { name, kind, data_type });
    }
    choice
}
