//! One notion of a missing value: null, not-a-number and the empty text are the same, since CSV has no other way to write it, and so
//! are the spellings that were declared.

use std::collections::BTreeSet;

use arrow::{
    array::{Array as _, ArrayRef, ArrowPrimitiveType, AsArray as _, BooleanArray, PrimitiveArray, StringArray},
    buffer::BooleanBuffer,
    compute::{self, nullif},
    datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type},
};

use crate::{
    Error,
    csv::{parse_integer, parse_number},
};

/// The declared spellings of a missing value.
#[derive(Debug, Clone, Default)]
pub(super) struct Missing {
    texts: BTreeSet<String>,
    /// The numbers among them.
    numbers: Vec<f64>,
    integers: Vec<i64>,
}

impl Missing {
    pub(super) fn new(texts: &BTreeSet<String>) -> Self {
        let numbers = texts.iter().filter_map(|text| parse_number(text)).collect();
        let integers = texts.iter().filter_map(|text| parse_integer(text)).collect();
        Self { texts: texts.clone(), numbers, integers }
    }

    /// Whether a text stands for a missing value.
    pub(super) fn has(&self, text: &str) -> bool {
        text.is_empty() || !self.texts.is_empty() && self.texts.contains(text)
    }

    /// The column with null for every missing value.
    pub(super) fn unified(&self, array: ArrayRef) -> Result<ArrayRef, Error> {
        let missing = match array.data_type() {
            DataType::Float64 => positions(array.as_primitive::<Float64Type>(), |value: f64| self.has_number(value)),
            DataType::Float32 => {
                positions(array.as_primitive::<Float32Type>(), |value: f32| self.has_number(f64::from(value)))
            }
            data_type if data_type.is_integer() && !self.integers.is_empty() => self.integers_of(&array)?,
            DataType::Utf8 => self.texts_of(array.as_string::<i32>()),
            DataType::Dictionary(keys, values) if **keys == DataType::Int32 && **values == DataType::Utf8 => {
                let array = array.as_dictionary::<Int32Type>();
                self.texts_of(array.values().as_string::<i32>()).map(|missing| {
                    let is_missing = |key: i32| usize::try_from(key).is_ok_and(|key| missing.value(key));
                    array.keys().iter().map(|key| key.is_some_and(is_missing)).collect()
                })
            }
            _ => None,
        };
        let Some(missing) = missing else { return Ok(array) };
        nullif(&array, &BooleanArray::new(missing, None)).map_err(Error::arrow("mark missing values"))
    }

    fn has_number(&self, value: f64) -> bool {
        value.is_nan() || !self.numbers.is_empty() && self.numbers.contains(&value)
    }

    /// Where whole numbers of any width are missing.
    fn integers_of(&self, array: &ArrayRef) -> Result<Option<BooleanBuffer>, Error> {
        // What no Int64 holds becomes null, and is none of the declared numbers.
        let whole = compute::cast(array, &DataType::Int64).map_err(Error::arrow("compare whole numbers"))?;
        Ok(positions(whole.as_primitive::<Int64Type>(), |value| self.integers.contains(&value)))
    }

    /// Where texts are missing; `None` if nowhere.
    fn texts_of(&self, texts: &StringArray) -> Option<BooleanBuffer> {
        let is_missing = |row: usize| {
            texts.is_valid(row)
                && if self.texts.is_empty() { texts.value_length(row) == 0 } else { self.has(texts.value(row)) }
        };
        let any = (0..texts.len()).any(is_missing);
        any.then(|| BooleanBuffer::collect_bool(texts.len(), is_missing))
    }
}

/// Where the values are missing; `None` if nowhere.
fn positions<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    is_missing: impl Fn(T::Native) -> bool,
) -> Option<BooleanBuffer> {
    let values = array.values();
    let any = values.iter().any(|&value| is_missing(value));
    any.then(|| values.iter().map(|&value| is_missing(value)).collect())
}
