use std::{borrow::Cow, ops::ControlFlow};

use arrow::datatypes::SchemaRef;

use rekindle_domain::{ColumnKind, dataset::TimeFormat};

use super::{
    Expectation, Progress, ScanBatch, ScanColumn, ScanOptions, SkipReason, Skipped, assemble,
    blocks::{Blocks, Input},
    builder::{Built, ColumnBuilder, text_type, type_of},
    expectation,
    missing::Missing,
    schema_of,
};
use crate::{
    Error, Note,
    csv::{Narrowest, expected},
    schema::{check_names, kind_of},
};

/// Other delimiters that files named CSV use.
const SEPARATORS: [char; 3] = [';', '\t', '|'];

/// Characters of a reported header.
const HEADER_CHARS: usize = 80;

/// Rows between two reports of progress while types are inferred.
const WATCH_ROWS: usize = 64 * 1024;

/// A CSV file.
pub(super) struct CsvScan {
    blocks: Blocks,
    /// Of the header; none once the header has been read for the last time.
    header: Option<Header>,
    /// Fields of a record.
    width: usize,
    /// For every column read, the index of its field and its builder.
    builders: Vec<(usize, ColumnBuilder)>,
    /// For every column read, the least and the greatest number.
    ranges: Vec<Option<(f64, f64)>>,
    schema: SchemaRef,
    options: ScanOptions,
    missing: Missing,
    passes: Passes,
    rows_read: u64,
    size: u64,
}

/// How often the file is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passes {
    One,
    Two {
        /// Counted by the first pass.
        rows: u64,
    },
}

/// The columns of a file that are read.
#[derive(Default)]
pub(super) struct Choice {
    /// The field index of each column.
    pub(super) fields: Vec<usize>,
    pub(super) columns: Vec<ScanColumn>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) notes: Vec<Note>,
    /// For each column, the least and the greatest number.
    pub(super) ranges: Vec<Option<(f64, f64)>>,
}

/// The first record.
#[derive(Clone, PartialEq, Eq)]
struct Header {
    names: Vec<String>,
    /// Whether a column has a name of its own.
    named: Vec<bool>,
}

impl CsvScan {
    /// Opens a file of `size` bytes, or 0 if that is unknown. After the pass that infers types the scan holds no text until the first
    /// batch is read, so that many files can be open.
    pub(super) fn open(
        input: Box<dyn Input>,
        size: u64,
        options: &ScanOptions,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<(Self, Choice), Error> {
        let mut blocks = Blocks::new(input, options);
        let header = read_header(&mut blocks, options)?;
        let width = header.names.len();
        let missing = Missing::new(&options.reading.missing);
        let (passes, kept, inferred) = if options.expected.is_some() {
            (Passes::One, None, vec![Narrowest::new(TimeFormat::Iso); width])
        } else {
            let watch = |read| watch(Progress { done: read, total: 2 * size });
            let (rows, inferred) = infer(&mut blocks, &header.names, options, &missing, watch)?;
            blocks.rewind()?;
            (Passes::Two { rows }, Some(header.clone()), inferred)
        };
        let mut choice = choose(header, &inferred, options);
        let builders = choice.fields.iter().zip(&choice.columns);
        let builders = builders.map(|(&field, column)| (field, builder(column, options)));
        let scan = Self {
            blocks,
            header: kept,
            width,
            builders: builders.collect(),
            ranges: std::mem::take(&mut choice.ranges),
            missing,
            schema: schema_of(&choice.columns),
            options: options.clone(),
            passes,
            rows_read: 0,
            size,
        };
        Ok((scan, choice))
    }

    /// Reads the columns in other types than those inferred.
    pub(super) fn set_types(&mut self, columns: &[ScanColumn]) {
        for ((_, builder), column) in self.builders.iter_mut().zip(columns) {
            *builder = self::builder(column, &self.options);
        }
        self.schema = schema_of(columns);
    }

    /// The number of rows that the first of two passes counted.
    pub(super) fn declared_rows(&self) -> Option<u64> {
        match self.passes {
            Passes::One => None,
            Passes::Two { rows } => Some(rows),
        }
    }

    /// The least and the greatest number of a column, as the pass that inferred its type saw them.
    pub(super) fn range(&self, column: usize) -> Option<(f64, f64)> {
        self.ranges.get(column).copied().flatten()
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
        if let Some(header) = self.header.take()
            && read_header(&mut self.blocks, &self.options)? != header
        {
            return Err(Error::Changed);
        }
        let rows = self.read_rows()?;
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
        assemble(&self.schema, built, rows, &self.missing).map(Some)
    }

    /// Reads the rows of a batch into the builders; returns their number.
    fn read_rows(&mut self) -> Result<usize, Error> {
        let (mut rows, mut bytes) = (0, 0);
        let Self { blocks, builders, width, options, missing, .. } = self;
        blocks.visit(|fields, line| {
            check_width(fields, *width, line)?;
            for (field, builder) in &mut *builders {
                let text = &fields[*field];
                bytes += text.len();
                builder.push((!missing.has(text)).then_some(text))?;
            }
            rows += 1;
            Ok(if rows >= options.batch_rows.max(1) || bytes > options.batch_bytes {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        Ok(rows)
    }
}

fn builder(column: &ScanColumn, options: &ScanOptions) -> ColumnBuilder {
    ColumnBuilder::new(&column.data_type, options.reading.time_format_of(&column.name))
}

/// Reads the first record. Libraries write the index of rows as a column without a name; it is named by its position.
fn read_header(blocks: &mut Blocks, options: &ScanOptions) -> Result<Header, Error> {
    let mut names: Vec<String> = Vec::new();
    blocks.visit(|fields, _| {
        names.extend(fields.iter().map(ToString::to_string));
        Ok(ControlFlow::Break(()))
    })?;
    if blocks.is_blank() {
        return Err(Error::Empty { what: "no content" });
    }
    if names.len() > options.columns {
        return Err(Error::TooLarge { what: "columns", limit: options.columns });
    }
    check_separator(&names, options.reading.separator)?;
    let is_blank = names.len() == 1;
    let named: Vec<bool> = names.iter().map(|name| is_blank || !name.is_empty()).collect();
    let unnamed = names.iter_mut().enumerate().zip(&named).filter(|(_, named)| !**named);
    unnamed.for_each(|((index, name), _)| *name = format!("column {}", index + 1));
    check_names(names.iter().map(String::as_str))?;
    Ok(Header { names, named })
}

/// Refuses a header of one field that contains another usual delimiter.
fn check_separator(names: &[String], separator: u8) -> Result<(), Error> {
    let [header] = names else { return Ok(()) };
    let found = header.chars().find(|&found| SEPARATORS.contains(&found) && found != char::from(separator));
    found.map_or(Ok(()), |found| Err(Error::Separator { found, header: header.chars().take(HEADER_CHARS).collect() }))
}

/// Reads all rows to count them and to infer every column's canonical type. `watch` is called with the bytes read.
fn infer(
    blocks: &mut Blocks,
    names: &[String],
    options: &ScanOptions,
    missing: &Missing,
    mut watch: impl FnMut(u64),
) -> Result<(u64, Vec<Narrowest>), Error> {
    let reading = &options.reading;
    let narrowest = |name: &String| match reading.time_formats.get(name) {
        Some(&format) => Narrowest::of_times(format),
        None => Narrowest::new(reading.time_format),
    };
    let mut columns: Vec<Narrowest> = names.iter().map(narrowest).collect();
    let mut all = 0;
    loop {
        let mut rows = 0;
        blocks.visit(|fields, line| {
            check_width(fields, names.len(), line)?;
            let present = columns.iter_mut().zip(fields).enumerate().filter(|(_, (_, field))| !missing.has(field));
            for (index, (column, field)) in present {
                if !column.see(field) {
                    let row = usize::try_from(all).unwrap_or(usize::MAX).saturating_add(rows);
                    return Err(no_time(&names[index], row, field, reading.time_format_of(&names[index])));
                }
            }
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

/// A value of a column that was declared to hold times.
pub(super) fn no_time(column: &str, row: usize, value: &str, format: TimeFormat) -> Error {
    let value = value.chars().take(VALUE_CHARS).collect();
    Error::Time { column: column.to_owned(), row, value, format, expected: expected(format) }
}

/// Characters of a reported value.
const VALUE_CHARS: usize = 40;

fn check_width(fields: &[Cow<'_, str>], width: usize, line: usize) -> Result<(), Error> {
    if fields.len() == width { Ok(()) } else { Err(Error::Ragged { line, expected: width, got: fields.len() }) }
}

/// Chooses the fields that are read, and their types.
fn choose(header: Header, inferred: &[Narrowest], options: &ScanOptions) -> Choice {
    let mut choice = Choice::default();
    let names = header.names.into_iter().zip(header.named);
    for (field, ((name, is_named), inferred)) in names.zip(inferred).enumerate() {
        let own = inferred.data_type();
        let own_kind = kind_of(&own).unwrap_or(ColumnKind::Categorical);
        let (kind, data_type) = match expectation(options, &name) {
            Expectation::Skip => {
                choice.skipped.push(Skipped { name, reason: SkipReason::Unexpected });
                continue;
            }
            Expectation::Kind(kind) => (kind, type_of(kind, options.types)),
            Expectation::Own if own_kind == ColumnKind::Categorical => (own_kind, text_type(options.types)),
            Expectation::Own => (own_kind, own),
        };
        choice.notes.extend(Note::of_index(&name, is_named));
        choice.notes.extend(inferred.text_reason().map(|reason| Note::of_text(&name, reason)));
        choice.notes.extend(inferred.range().and_then(|range| Note::of_numbers(&name, range)));
        choice.ranges.push(inferred.range());
        choice.fields.push(field);
        let is_empty = options.expected.is_none() && inferred.is_empty();
        choice.columns.push(ScanColumn { name, kind, data_type, is_empty });
    }
    choice
}
