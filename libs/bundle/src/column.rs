//! Typed access to the columns of a batch.

use std::borrow::Cow;

use arrow::{
    array::{
        Array, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    },
    datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType},
};

use rekindle_statistics::blocks::FixedBins;

/// A column of one of the canonical types.
#[derive(Debug, Clone, Copy)]
pub enum Cells<'a> {
    /// `Int64`.
    Int(&'a Int64Array),
    /// `Float64`.
    Float(&'a Float64Array),
    /// `Utf8`.
    Text(&'a StringArray),
    /// `Boolean`.
    Bool(&'a BooleanArray),
    /// `Timestamp` in milliseconds.
    Timestamp(&'a TimestampMillisecondArray),
}

impl<'a> Cells<'a> {
    /// `None` if the type is not a canonical one.
    pub fn of(array: &'a dyn Array) -> Option<Self> {
        Some(match array.data_type() {
            DataType::Int64 => Self::Int(array.as_primitive::<Int64Type>()),
            DataType::Float64 => Self::Float(array.as_primitive::<Float64Type>()),
            DataType::Utf8 => Self::Text(array.as_string::<i32>()),
            DataType::Boolean => Self::Bool(array.as_boolean()),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Self::Timestamp(array.as_primitive::<TimestampMillisecondType>())
            }
            _ => return None,
        })
    }

    pub(crate) fn array(&self) -> &'a dyn Array {
        match *self {
            Self::Int(array) => array,
            Self::Float(array) => array,
            Self::Text(array) => array,
            Self::Bool(array) => array,
            Self::Timestamp(array) => array,
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.array().len()
    }

    /// The number of missing values.
    pub fn missing(&self) -> usize {
        self.array().null_count()
    }

    /// Whether the row's value is missing.
    pub fn is_missing(&self, row: usize) -> bool {
        self.array().is_null(row)
    }

    /// The row's value as a finite number. Infinities and not-a-number count as missing.
    pub fn number(&self, row: usize) -> Option<f64> {
        if self.is_missing(row) {
            return None;
        }
        match self {
            #[expect(
                clippy::cast_precision_loss,
                reason = "features are doubles; integers beyond 2^53 lose their last digits"
            )]
            Self::Int(array) => Some(array.value(row) as f64),
            Self::Float(array) => Some(array.value(row)).filter(|value| value.is_finite()),
            Self::Bool(array) => Some(f64::from(u8::from(array.value(row)))),
            Self::Text(_) | Self::Timestamp(_) => None,
        }
    }

    /// The row's value as a text.
    pub fn text(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Text(array) if array.is_valid(row) => Some(array.value(row)),
            _ => None,
        }
    }

    /// The row's value as a boolean.
    pub fn boolean(&self, row: usize) -> Option<bool> {
        match self {
            Self::Bool(array) if array.is_valid(row) => Some(array.value(row)),
            _ => None,
        }
    }

    /// The row's bin among those of the reference.
    pub fn bin(&self, bins: &FixedBins, row: usize) -> usize {
        match self {
            Self::Int(_) | Self::Float(_) => bins.of_number(self.number(row)),
            Self::Text(_) | Self::Timestamp(_) => bins.of_text(self.text(row)),
            Self::Bool(_) => bins.of_flag(self.boolean(row)),
        }
    }

    /// The row's value as a timestamp, in milliseconds since 1970 UTC.
    pub fn timestamp(&self, row: usize) -> Option<i64> {
        match self {
            Self::Timestamp(array) if array.is_valid(row) => Some(array.value(row)),
            Self::Int(array) if array.is_valid(row) => Some(array.value(row)),
            _ => None,
        }
    }

    /// The row's value as the name of a class: texts as they are, numbers without a fraction as integers, booleans as
    /// `true` and `false`.
    pub fn class(&self, row: usize) -> Option<Cow<'a, str>> {
        if self.is_missing(row) {
            return None;
        }
        match self {
            Self::Text(array) => Some(Cow::Borrowed(array.value(row))),
            Self::Int(array) => Some(Cow::Owned(array.value(row).to_string())),
            Self::Float(array) => Some(Cow::Owned(class_of_number(array.value(row)))),
            Self::Bool(array) => Some(Cow::Borrowed(if array.value(row) { "true" } else { "false" })),
            Self::Timestamp(_) => None,
        }
    }
}

/// A number as the name of a class. `Display` writes a double without a fraction as an integer.
pub(crate) fn class_of_number(number: f64) -> String {
    number.to_string()
}

/// The column with this name. The column at `expected` is checked first: callers that send columns in the order of the
/// signature avoid the search.
pub fn find<'a>(batch: &'a RecordBatch, name: &str, expected: usize) -> Option<&'a dyn Array> {
    let fields = batch.schema_ref().fields();
    let index = match fields.get(expected) {
        Some(field) if field.name() == name => expected,
        _ => fields.iter().position(|field| field.name() == name)?,
    };
    Some(batch.column(index).as_ref())
}
