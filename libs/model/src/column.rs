//! One column of a batch, read cell by cell in whichever of the canonical types it has.

use std::borrow::Cow;

use arrow::{
    array::{
        Array, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    },
    datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType},
};

/// A column of a canonical type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cells<'a> {
    Int(&'a Int64Array),
    Float(&'a Float64Array),
    Text(&'a StringArray),
    Flag(&'a BooleanArray),
    Instant(&'a TimestampMillisecondArray),
}

impl<'a> Cells<'a> {
    /// `None` where the type is not a canonical one.
    pub(crate) fn of(array: &'a dyn Array) -> Option<Self> {
        Some(match array.data_type() {
            DataType::Int64 => Self::Int(array.as_primitive::<Int64Type>()),
            DataType::Float64 => Self::Float(array.as_primitive::<Float64Type>()),
            DataType::Utf8 => Self::Text(array.as_string::<i32>()),
            DataType::Boolean => Self::Flag(array.as_boolean()),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Self::Instant(array.as_primitive::<TimestampMillisecondType>())
            }
            _ => return None,
        })
    }

    fn array(&self) -> &'a dyn Array {
        match *self {
            Self::Int(array) => array,
            Self::Float(array) => array,
            Self::Text(array) => array,
            Self::Flag(array) => array,
            Self::Instant(array) => array,
        }
    }

    /// Whether the cell holds nothing.
    pub(crate) fn is_missing(&self, row: usize) -> bool {
        self.array().is_null(row)
    }

    /// The cell as a finite number; anything else, infinity included, counts as missing.
    pub(crate) fn number(&self, row: usize) -> Option<f64> {
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
            Self::Flag(array) => Some(f64::from(u8::from(array.value(row)))),
            Self::Text(_) | Self::Instant(_) => None,
        }
    }

    /// The cell as a name.
    pub(crate) fn text(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Text(array) if array.is_valid(row) => Some(array.value(row)),
            _ => None,
        }
    }

    /// The cell as yes or no.
    pub(crate) fn flag(&self, row: usize) -> Option<bool> {
        match self {
            Self::Flag(array) if array.is_valid(row) => Some(array.value(row)),
            _ => None,
        }
    }

    /// The cell as an instant, in milliseconds since 1970 UTC.
    pub(crate) fn instant(&self, row: usize) -> Option<i64> {
        match self {
            Self::Instant(array) if array.is_valid(row) => Some(array.value(row)),
            Self::Int(array) if array.is_valid(row) => Some(array.value(row)),
            _ => None,
        }
    }

    /// The cell as the name of a class: texts as they are, numbers without a decimal part as integers, `true` and `false`.
    pub(crate) fn label(&self, row: usize) -> Option<Cow<'a, str>> {
        if self.is_missing(row) {
            return None;
        }
        match self {
            Self::Text(array) => Some(Cow::Borrowed(array.value(row))),
            Self::Int(array) => Some(Cow::Owned(array.value(row).to_string())),
            Self::Float(array) => Some(Cow::Owned(number_label(array.value(row)))),
            Self::Flag(array) => Some(Cow::Borrowed(if array.value(row) { "true" } else { "false" })),
            Self::Instant(_) => None,
        }
    }
}

/// A number as the name of a class. `Display` writes a double without a decimal part as an integer does.
pub(crate) fn number_label(number: f64) -> String {
    number.to_string()
}

/// The column of that name. It is looked for at `expected` first, where a caller that follows the signature puts it.
pub(crate) fn find<'a>(batch: &'a RecordBatch, name: &str, expected: usize) -> Option<&'a dyn Array> {
    let fields = batch.schema_ref().fields();
    let index = match fields.get(expected) {
        Some(field) if field.name() == name => expected,
        _ => fields.iter().position(|field| field.name() == name)?,
    };
    Some(batch.column(index).as_ref())
}
