//! From any Arrow type to one of the five canonical types.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Float64Array, PrimitiveArray, TimestampMillisecondArray},
    compute::{self, CastOptions},
    datatypes::{
        ArrowPrimitiveType, DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType, UInt64Type,
    },
};

use crate::{Error, schema::canonical_timestamp};

/// The canonical type of a column of type `found`.
///
/// # Errors
/// It has none; the error names the remedy.
pub(crate) fn canonical_type(name: &str, found: &DataType) -> Result<DataType, Error> {
    use DataType as T;
    match found {
        T::Int64 | T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => Ok(T::Int64),
        T::Float64 | T::Float16 | T::Float32 => Ok(T::Float64),
        found if is_whole_decimal(found) => Ok(T::Int64),
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => Ok(T::Float64),
        T::Boolean => Ok(T::Boolean),
        T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Null => Ok(T::Utf8),
        T::Dictionary(_, values) => canonical_type(name, values),
        T::Date32 | T::Date64 | T::Timestamp(..) => Ok(canonical_timestamp()),
        other => Err(unsupported(name, other)),
    }
}

/// Whether a type holds whole numbers that all are `Int64`: decimals without a fraction of 18 digits at most.
pub(crate) fn is_whole_decimal(found: &DataType) -> bool {
    use DataType as T;
    match *found {
        T::Decimal32(digits, scale) | T::Decimal64(digits, scale) => scale == 0 && digits <= 18,
        T::Decimal128(digits, scale) | T::Decimal256(digits, scale) => scale == 0 && digits <= 18,
        _ => false,
    }
}

/// The floats nearest to decimals, as their text is read in a CSV file.
pub(crate) fn float_of_decimal(array: &ArrayRef) -> Result<ArrayRef, Error> {
    // A cast divides floats, which rounds twice where the digits exceed those of a float.
    let texts = cast(array, &DataType::Utf8)?;
    let numbers = texts.as_string::<i32>().iter().map(|text| text.and_then(|text| text.parse().ok()));
    Ok(Arc::new(numbers.collect::<Float64Array>()))
}

/// Converts a column to its canonical type. Integers widen to `Int64`, floats to `Float64` exactly; decimals without a fraction become
/// `Int64` if it holds them, and others the nearest `Float64`; text of any layout,
/// dictionaries included, becomes `Utf8`; dates become midnight in UTC; timestamps keep their instant, truncated to
/// milliseconds (towards the past).
pub(crate) fn normalise(name: &str, array: &ArrayRef) -> Result<ArrayRef, Error> {
    use DataType as T;
    match array.data_type() {
        T::Int64 | T::Float64 | T::Boolean | T::Utf8 => Ok(array.clone()),
        T::UInt64 => unsigned(name, array),
        T::Dictionary(_, values) => normalise(name, &cast(array, values)?),
        T::Timestamp(unit, _) => timestamp(name, array, *unit),
        found if found.is_decimal() && !is_whole_decimal(found) => float_of_decimal(array),
        other => cast(array, &canonical_type(name, other)?),
    }
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, Error> {
    // A "safe" cast would turn what does not fit into a missing value.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    compute::cast_with_options(array, to, &options).map_err(Error::arrow("convert a column to its canonical type"))
}

fn unsigned(name: &str, array: &ArrayRef) -> Result<ArrayRef, Error> {
    let values = array.as_primitive::<UInt64Type>();
    match values.iter().enumerate().find_map(|(row, v)| v.filter(|&v| i64::try_from(v).is_err()).map(|v| (row, v))) {
        Some((row, value)) => Err(Error::Lossy { column: name.to_owned(), row, value: value.to_string(), to: "Int64" }),
        None => cast(array, &DataType::Int64),
    }
}

fn timestamp(name: &str, array: &ArrayRef, unit: TimeUnit) -> Result<ArrayRef, Error> {
    match unit {
        TimeUnit::Second => {
            let values = array.as_primitive::<TimestampSecondType>();
            let millis: Vec<Option<i64>> = (0..values.len())
                .map(|row| match values.is_valid(row).then(|| values.value(row)) {
                    Some(seconds) => seconds.checked_mul(1000).map(Some).ok_or_else(|| Error::Lossy {
                        column: name.to_owned(),
                        row,
                        value: seconds.to_string(),
                        to: "Timestamp(ms)",
                    }),
                    None => Ok(None),
                })
                .collect::<Result<_, Error>>()?;
            Ok(Arc::new(TimestampMillisecondArray::from(millis)))
        }
        TimeUnit::Millisecond => Ok(floor_to_millis(array.as_primitive::<TimestampMillisecondType>(), 1)),
        TimeUnit::Microsecond => Ok(floor_to_millis(array.as_primitive::<TimestampMicrosecondType>(), 1000)),
        TimeUnit::Nanosecond => Ok(floor_to_millis(array.as_primitive::<TimestampNanosecondType>(), 1_000_000)),
    }
}

fn floor_to_millis<T: ArrowPrimitiveType<Native = i64>>(values: &PrimitiveArray<T>, per_milli: i64) -> ArrayRef {
    Arc::new(values.unary::<_, TimestampMillisecondType>(|value| value.div_euclid(per_milli)))
}

fn unsupported(name: &str, found: &DataType) -> Error {
    use DataType as T;
    let fix = match found {
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => {
            "store text as strings, or drop the column"
        }
        T::List(_) | T::LargeList(_) | T::FixedSizeList(..) | T::Struct(_) | T::Map(..) => "store one value per row",
        _ => "use integers, floats, strings, booleans or timestamps",
    };
    Error::Unsupported { column: name.to_owned(), found: found.to_string(), fix }
}

/// The bits of a float, the same for every NaN, so that equal content has equal bits.
pub(crate) fn canonical_bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}
