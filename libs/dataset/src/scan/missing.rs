//! One notion of a missing value: null, not-a-number and the empty text are the same, since CSV has no other way to write it.

use arrow::{
    array::{Array as _, ArrayRef, ArrowPrimitiveType, AsArray as _, BooleanArray, PrimitiveArray, StringArray},
    buffer::BooleanBuffer,
    compute::nullif,
    datatypes::{DataType, Float32Type, Float64Type, Int32Type},
};

use crate::Error;

/// The column with null for every missing value.
pub(super) fn unified(array: ArrayRef) -> Result<ArrayRef, Error> {
    let missing = match array.data_type() {
        DataType::Float64 => positions(array.as_primitive::<Float64Type>(), f64::is_nan),
        DataType::Float32 => positions(array.as_primitive::<Float32Type>(), f32::is_nan),
        DataType::Utf8 => empty(array.as_string::<i32>()),
        DataType::Dictionary(keys, values) if **keys == DataType::Int32 && **values == DataType::Utf8 => {
            let array = array.as_dictionary::<Int32Type>();
            empty(array.values().as_string::<i32>()).map(|empty| {
                let is_empty = |key: i32| usize::try_from(key).is_ok_and(|key| empty.value(key));
                array.keys().iter().map(|key| key.is_some_and(is_empty)).collect()
            })
        }
        _ => None,
    };
    let Some(missing) = missing else { return Ok(array) };
    nullif(&array, &BooleanArray::new(missing, None)).map_err(Error::arrow("mark missing values"))
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

/// Where the texts are empty; `None` if nowhere.
fn empty(texts: &StringArray) -> Option<BooleanBuffer> {
    let is_empty = |row: usize| texts.value_length(row) == 0 && texts.is_valid(row);
    let any = (0..texts.len()).any(is_empty);
    any.then(|| BooleanBuffer::collect_bool(texts.len(), is_empty))
}
