use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, StringDictionaryBuilder, TimestampMillisecondBuilder,
    },
    datatypes::{DataType, Int32Type},
};

use crate::{
    Error, Kind, canonical_timestamp,
    csv::{is_whole_number, parse_boolean, parse_integer, parse_number, parse_timestamp},
};

/// The type of a text column in a batch.
pub(super) fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The type in which values given as text come if their kind was expected.
pub(super) fn type_of(kind: Kind) -> DataType {
    match kind {
        Kind::Numeric => DataType::Float64,
        Kind::Categorical => dictionary(),
        Kind::Timestamp => canonical_timestamp(),
        Kind::Boolean => DataType::Boolean,
    }
}

/// One column of a batch, made from text value by value.
pub(super) struct ColumnBuilder {
    values: Values,
    unparsable: u64,
    example: Option<String>,
}

/// A column of a batch, and what did not fit into it.
pub(super) struct Built {
    pub(super) array: ArrayRef,
    /// Values that did not parse.
    pub(super) unparsable: u64,
    /// The first of them, cut.
    pub(super) example: Option<String>,
}

/// Characters of a value that are enough to find it by.
const EXAMPLE_CHARS: usize = 40;

enum Values {
    Integers(Int64Builder),
    Numbers(Float64Builder),
    Booleans(BooleanBuilder),
    Times(TimestampMillisecondBuilder),
    Text(StringDictionaryBuilder<Int32Type>),
}

impl ColumnBuilder {
    /// Of `Int64`, `Float64`, `Boolean`, the canonical timestamp, or else text.
    pub(super) fn new(data_type: &DataType) -> Self {
        let values = match data_type {
            DataType::Int64 => Values::Integers(Int64Builder::new()),
            DataType::Float64 => Values::Numbers(Float64Builder::new()),
            DataType::Boolean => Values::Booleans(BooleanBuilder::new()),
            DataType::Timestamp(..) => Values::Times(TimestampMillisecondBuilder::new()),
            _ => Values::Text(StringDictionaryBuilder::new()),
        };
        Self { values, unparsable: 0, example: None }
    }

    /// Adds a value, or a missing one. What does not parse is added as missing, and counted.
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
            Values::Times(values) => {
                let value = text.and_then(parse_timestamp);
                values.append_option(value);
                value.is_some()
            }
            Values::Text(values) => {
                match text {
                    Some(text) => _ = values.append(text).map_err(Error::arrow("put a text column together"))?,
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

    /// The values added since the last time.
    pub(super) fn finish(&mut self) -> Built {
        let array: ArrayRef = match &mut self.values {
            Values::Integers(values) => Arc::new(values.finish()),
            Values::Numbers(values) => Arc::new(values.finish()),
            Values::Booleans(values) => Arc::new(values.finish()),
            Values::Times(values) => Arc::new(values.finish()),
            Values::Text(values) => Arc::new(values.finish()),
        };
        Built { array, unparsable: std::mem::take(&mut self.unparsable), example: self.example.take() }
    }
}

/// A whole number that a float rounds is refused where types are inferred, since it may be a code; in a column
/// of numbers it is a large number.
fn number(text: &str) -> Option<f64> {
    parse_number(text).or_else(|| is_whole_number(text).then(|| text.parse().ok()).flatten())
}
