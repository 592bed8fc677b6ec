use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder, StringDictionaryBuilder,
        TimestampMillisecondBuilder,
    },
    datatypes::{DataType, Int32Type},
};

use rekindle_domain::{ColumnKind, dataset::TimeFormat};

use super::Types;
use crate::{
    Error, canonical_timestamp,
    csv::{is_whole_number, parse_boolean, parse_integer, parse_number, parse_time},
};

/// `Dictionary(Int32, Utf8)`.
pub(super) fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The type of a text column.
pub(super) fn text_type(types: Types) -> DataType {
    match types {
        Types::Stored => dictionary(),
        Types::Canonical => DataType::Utf8,
    }
}

/// The type of a column that is parsed from text because its kind was expected.
pub(super) fn type_of(kind: ColumnKind, types: Types) -> DataType {
    match kind {
        ColumnKind::Numeric => DataType::Float64,
        ColumnKind::Categorical => text_type(types),
        ColumnKind::Timestamp => canonical_timestamp(),
        ColumnKind::Boolean => DataType::Boolean,
    }
}

/// Builds one column of a batch from text, value by value.
pub(super) struct ColumnBuilder {
    values: Values,
    unparsable: u64,
    example: Option<String>,
}

/// A column of a batch, and the values that did not parse.
pub(super) struct Built {
    pub(super) array: ArrayRef,
    /// Values that did not parse.
    pub(super) unparsable: u64,
    /// The first of them, cut.
    pub(super) example: Option<String>,
}

/// Characters of a reported value.
const EXAMPLE_CHARS: usize = 40;

enum Values {
    Integers(Int64Builder),
    Numbers(Float64Builder),
    Booleans(BooleanBuilder),
    Times(TimestampMillisecondBuilder, TimeFormat),
    Text(StringBuilder),
    Dictionary(StringDictionaryBuilder<Int32Type>),
}

impl ColumnBuilder {
    /// For `Int64`, `Float64`, `Boolean`, the canonical timestamp written in a format, `Utf8`, or else a dictionary of text. Takes no
    /// memory before the first value.
    pub(super) fn new(data_type: &DataType, times: TimeFormat) -> Self {
        let values = match data_type {
            DataType::Int64 => Values::Integers(Int64Builder::with_capacity(0)),
            DataType::Float64 => Values::Numbers(Float64Builder::with_capacity(0)),
            DataType::Boolean => Values::Booleans(BooleanBuilder::with_capacity(0)),
            DataType::Timestamp(..) => Values::Times(TimestampMillisecondBuilder::with_capacity(0), times),
            DataType::Utf8 => Values::Text(StringBuilder::with_capacity(0, 0)),
            _ => Values::Dictionary(StringDictionaryBuilder::with_capacity(0, 0, 0)),
        };
        Self { values, unparsable: 0, example: None }
    }

    /// Appends a value, or a missing one. A value that does not parse is appended as missing, and counted.
    pub(super) fn push(&mut self, text: Option<&str>) -> Result<(), Error> {
        let parsed = match &mut self.values {
            Values::Integers(values) => {
                let value = text.and_then(parse_integer);
                values.append_option(value);
                value.is_some()
            }
            Values::Numbers(values) => {
                let value = text.and_then(number);
                values.append_option(value);
                value.is_some()
            }
            Values::Booleans(values) => {
                let value = text.and_then(parse_boolean);
                values.append_option(value);
                value.is_some()
            }
            Values::Times(values, format) => {
                let value = text.and_then(|text| parse_time(text, *format));
                values.append_option(value);
                value.is_some()
            }
            Values::Text(values) => {
                values.append_option(text);
                true
            }
            Values::Dictionary(values) => {
                match text {
                    Some(text) => _ = values.append(text).map_err(Error::arrow("build a text column"))?,
                    None => values.append_null(),
                }
                true
            }
        };
        if let Some(text) = text.filter(|_| !parsed) {
            self.unparsable += 1;
            self.example.get_or_insert_with(|| text.chars().take(EXAMPLE_CHARS).collect());
        }
        Ok(())
    }

    /// The values appended since the last call.
    pub(super) fn finish(&mut self) -> Built {
        let array: ArrayRef = match &mut self.values {
            Values::Integers(values) => Arc::new(values.finish()),
            Values::Numbers(values) => Arc::new(values.finish()),
            Values::Booleans(values) => Arc::new(values.finish()),
            Values::Times(values, _) => Arc::new(values.finish()),
            Values::Text(values) => Arc::new(values.finish()),
            Values::Dictionary(values) => Arc::new(values.finish()),
        };
        Built { array, unparsable: std::mem::take(&mut self.unparsable), example: self.example.take() }
    }
}

/// A whole number that a float rounds is not a number where types are inferred, since it may be a code; in a column
/// that is expected to be numeric it is a large number.
fn number(text: &str) -> Option<f64> {
    parse_number(text).or_else(|| is_whole_number(text).then(|| text.parse().ok()).flatten())
}
