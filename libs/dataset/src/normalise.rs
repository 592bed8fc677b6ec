//! Other people's Arrow types to the five canonical ones.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, PrimitiveArray, TimestampMillisecondArray},
    compute::{self, CastOptions},
    datatypes::{
        ArrowPrimitiveType, DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType, UInt64Type,
    },
};

use crate::{Error, schema::canonical_timestamp};

/// Brings a column to its canonical type. Integers widen to `Int64`, floats to `Float64` exactly; text of any layout,
/// dictionaries included, becomes `Utf8`; dates are midnight; of a timestamp the instant is kept and what
/// is finer than a millisecond is cut off (towards the past).
pub(crate) fn normalise(name: &str, array: &ArrayRef) -> Result<ArrayRef, Error> {
    use DataType as T;
    match array.data_type() {
        T::Int64 | T::Float64 | T::Boolean | T::Utf8 => Ok(array.clone()),
        T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 | T::UInt32 => cast(array, &T::Int64),
        T::UInt64 => unsigned(name, array),
        T::Float16 | T::Float32 => cast(array, &T::Float64),
        T::LargeUtf8 | T::Utf8View | T::Null => cast(array, &T::Utf8),
        T::Dictionary(_, values) => normalise(name, &cast(array, values)?),
        T::Date32 | T::Date64 => cast(array, &canonical_timestamp()),
        T::Timestamp(unit, _) => timestamp(name, array, *unit),
        other => Err(unsupported(name, other)),
    }
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, Error> {
    // A "safe" cast would turn what does not fit into a missing value.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    compute::cast_with_options(array, to, &options).map_err(Error::arrow("bring a column to its canonical type"))
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
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => "store it as a 64-bit float",
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => {
            "store text as strings, or drop the column"
        }
        T::List(_) | T::LargeList(_) | T::FixedSizeList(..) | T::Struct(_) | T::Map(..) => "store one value per row",
        _ => "use integers, floats, strings, booleans or timestamps",
    };
    Error::Unsupported { column: name.to_owned(), found: found.to_string(), fix }
}

/// NaN in one spelling, so that equal content has equal bits.
pub(crate) fn canonical_bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}
