//! The elements of one input tensor, in the raw encoding or typed, as native values of the type that a feature has.
//!
//! Errors do not name the tensor, which the caller adds.

use std::ops::RangeInclusive;

use half::{bf16, f16};
use rekindle_client::wire::raw;

/// The protocol's element types that a tabular feature can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElementType {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    /// Half precision.
    Fp16,
    /// The upper half of single precision.
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

impl ElementType {
    /// The type of that name in the protocol.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "BOOL" => Self::Bool,
            "INT8" => Self::Int8,
            "INT16" => Self::Int16,
            "INT32" => Self::Int32,
            "INT64" => Self::Int64,
            "UINT8" => Self::Uint8,
            "UINT16" => Self::Uint16,
            "UINT32" => Self::Uint32,
            "UINT64" => Self::Uint64,
            "FP16" => Self::Fp16,
            "BF16" => Self::Bf16,
            "FP32" => Self::Fp32,
            "FP64" => Self::Fp64,
            "BYTES" => Self::Bytes,
            _ => return None,
        })
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64)
    }

    pub(crate) fn is_integer(self) -> bool {
        !self.is_float() && !matches!(self, Self::Bool | Self::Bytes)
    }

    /// The values of an integer type, as far as 64 signed bits hold them.
    fn range(self) -> RangeInclusive<i64> {
        match self {
            Self::Int8 => i8::MIN.into()..=i8::MAX.into(),
            Self::Int16 => i16::MIN.into()..=i16::MAX.into(),
            Self::Int32 => i32::MIN.into()..=i32::MAX.into(),
            Self::Uint8 => 0..=u8::MAX.into(),
            Self::Uint16 => 0..=u16::MAX.into(),
            Self::Uint32 => 0..=u32::MAX.into(),
            _ => i64::MIN..=i64::MAX,
        }
    }
}

/// The elements of one tensor, borrowed from its message: a copy in between would cost every request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Elements<'a> {
    /// In the raw encoding.
    Raw(&'a [u8]),
    /// In a field of the message.
    Typed {
        /// The name of the field, for errors.
        field: &'static str,
        /// Its values.
        values: Typed<'a>,
    },
}

/// Typed elements, in the types that the protocol's messages have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Typed<'a> {
    Bool(&'a [bool]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Uint32(&'a [u32]),
    Uint64(&'a [u64]),
    Fp32(&'a [f32]),
    Fp64(&'a [f64]),
    Bytes(&'a [Vec<u8>]),
}

/// Integers up to this magnitude are exact in a 64-bit float.
const EXACT: u64 = 1 << 53;

impl Elements<'_> {
    /// An upper bound of the bytes of all texts.
    pub(crate) fn byte_len(&self) -> usize {
        match self {
            Self::Raw(raw) => raw.len(),
            Self::Typed { values: Typed::Bytes(texts), .. } => texts.iter().map(Vec::len).sum(),
            Self::Typed { .. } => 0,
        }
    }

    /// The elements of a BOOL tensor, or of one of numbers that are 0 or 1.
    pub(crate) fn flags(&self, given: ElementType, rows: usize) -> Result<Vec<bool>, String> {
        if given == ElementType::Bool {
            return self.booleans(rows);
        }
        let flag = |(row, value): (usize, f64)| match value {
            0.0 => Ok(false),
            1.0 => Ok(true),
            other => Err(format!("row {row} is {other}, expected 0 or 1")),
        };
        self.floats(given, rows)?.into_iter().enumerate().map(flag).collect()
    }

    /// The elements of a BOOL tensor.
    pub(crate) fn booleans(&self, rows: usize) -> Result<Vec<bool>, String> {
        match *self {
            Self::Raw(raw) => fixed::<1, _>(raw, rows, |[byte]| byte)?
                .into_iter()
                .enumerate()
                .map(|(row, byte)| match byte {
                    0 => Ok(false),
                    1 => Ok(true),
                    other => Err(format!("row {row} is the byte {other}, expected 0 or 1")),
                })
                .collect(),
            Self::Typed { field, values: Typed::Bool(values) } => counted(values, rows, field).map(<[bool]>::to_vec),
            Self::Typed { field, .. } => Err(mismatch(field)),
        }
    }

    /// The elements of a tensor of any integer type. Those of UINT64 are at most 2^63 - 1.
    pub(crate) fn integers(&self, given: ElementType, rows: usize) -> Result<Vec<i64>, String> {
        match *self {
            Self::Raw(raw) => raw_integers(raw, given, rows),
            Self::Typed { field, values: Typed::Uint64(values) } => {
                signed(counted(values, rows, field)?.iter().copied())
            }
            Self::Typed { field, values: Typed::Int32(values) } => {
                within(counted(values, rows, field)?.iter().map(|&value| i64::from(value)), given.range())
            }
            Self::Typed { field, values: Typed::Uint32(values) } => {
                within(counted(values, rows, field)?.iter().map(|&value| i64::from(value)), given.range())
            }
            Self::Typed { field, values: Typed::Int64(values) } => {
                within(counted(values, rows, field)?.iter().copied(), given.range())
            }
            Self::Typed { field, .. } => Err(mismatch(field)),
        }
    }

    /// The elements of a tensor of a float type, or of an integer type as far as a float holds them exactly.
    pub(crate) fn floats(&self, given: ElementType, rows: usize) -> Result<Vec<f64>, String> {
        match (*self, given) {
            (Self::Raw(raw), ElementType::Fp64) => fixed(raw, rows, f64::from_le_bytes),
            (Self::Raw(raw), ElementType::Fp16) => fixed(raw, rows, |bytes| f16::from_le_bytes(bytes).to_f64()),
            (Self::Raw(raw), ElementType::Bf16) => fixed(raw, rows, |bytes| bf16::from_le_bytes(bytes).to_f64()),
            (Self::Raw(raw), ElementType::Fp32) => fixed(raw, rows, |bytes| f64::from(f32::from_le_bytes(bytes))),
            (Self::Raw(raw), ElementType::Uint64) => exact(fixed(raw, rows, u64::from_le_bytes)?, |value| value),
            (Self::Typed { field, values: Typed::Fp64(values) }, _) => {
                counted(values, rows, field).map(<[f64]>::to_vec)
            }
            (Self::Typed { field, values: Typed::Fp32(values) }, _) => {
                Ok(counted(values, rows, field)?.iter().copied().map(f64::from).collect())
            }
            (Self::Typed { field, values: Typed::Uint64(values) }, _) => {
                exact(counted(values, rows, field)?.to_vec(), |value| value)
            }
            (elements, integer) => exact(elements.integers(integer, rows)?, i64::unsigned_abs),
        }
    }

    /// Passes every element of a BYTES tensor to `take`, with its row.
    pub(crate) fn each_text(
        &self,
        rows: usize,
        mut take: impl FnMut(usize, &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        match *self {
            Self::Typed { field, values: Typed::Bytes(texts) } => {
                let texts = counted(texts, rows, field)?;
                texts.iter().enumerate().try_for_each(|(row, bytes)| take(row, bytes))
            }
            Self::Typed { field, .. } => Err(mismatch(field)),
            Self::Raw(bytes) => {
                let mut rest = bytes;
                for row in 0..rows {
                    let (text, after) = raw::split_text(rest).ok_or_else(|| {
                        format!("ends within row {row}: expected {rows} elements, each after its length in 4 little-endian bytes")
                    })?;
                    take(row, text)?;
                    rest = after;
                }
                if rest.is_empty() {
                    Ok(())
                } else {
                    Err(format!("has {} bytes after its {rows} elements", rest.len()))
                }
            }
        }
    }
}

fn mismatch(field: &str) -> String {
    format!("has elements in {field}, which is not the field of its datatype")
}

fn fixed<const WIDTH: usize, T>(bytes: &[u8], rows: usize, value: impl Fn([u8; WIDTH]) -> T) -> Result<Vec<T>, String> {
    raw::decode(bytes, value).filter(|values| values.len() == rows).ok_or_else(|| {
        let expected = rows.saturating_mul(WIDTH);
        format!("has {} raw bytes, expected {expected}: {rows} elements of {WIDTH}", bytes.len())
    })
}

fn counted<'a, T>(values: &'a [T], rows: usize, field: &str) -> Result<&'a [T], String> {
    if values.len() == rows {
        return Ok(values);
    }
    Err(format!("has {} elements in {field}, expected {rows}", values.len()))
}

fn raw_integers(raw: &[u8], given: ElementType, rows: usize) -> Result<Vec<i64>, String> {
    match given {
        ElementType::Int8 => fixed(raw, rows, |bytes| i8::from_le_bytes(bytes).into()),
        ElementType::Int16 => fixed(raw, rows, |bytes| i16::from_le_bytes(bytes).into()),
        ElementType::Int32 => fixed(raw, rows, |bytes| i32::from_le_bytes(bytes).into()),
        ElementType::Uint8 => fixed(raw, rows, |bytes| u8::from_le_bytes(bytes).into()),
        ElementType::Uint16 => fixed(raw, rows, |bytes| u16::from_le_bytes(bytes).into()),
        ElementType::Uint32 => fixed(raw, rows, |bytes| u32::from_le_bytes(bytes).into()),
        ElementType::Uint64 => signed(fixed(raw, rows, u64::from_le_bytes)?.into_iter()),
        _ => fixed(raw, rows, i64::from_le_bytes),
    }
}

fn signed(values: impl Iterator<Item = u64>) -> Result<Vec<i64>, String> {
    let signed = |(row, value): (usize, u64)| {
        i64::try_from(value)
            .map_err(|_| format!("row {row} is {value}, above the largest INT64: expected at most {}", i64::MAX))
    };
    values.enumerate().map(signed).collect()
}

fn within(values: impl Iterator<Item = i64>, range: RangeInclusive<i64>) -> Result<Vec<i64>, String> {
    values
        .enumerate()
        .map(|(row, value)| {
            if range.contains(&value) {
                return Ok(value);
            }
            let (least, most) = (range.start(), range.end());
            Err(format!("row {row} is {value}, outside the range of its datatype: expected {least} to {most}"))
        })
        .collect()
}

trait ToFloat: Copy + std::fmt::Display {
    fn to_float(self) -> f64;
}

impl ToFloat for i64 {
    #[expect(clippy::cast_precision_loss, reason = "called only below 2^53 in magnitude, where it is exact")]
    fn to_float(self) -> f64 {
        self as f64
    }
}

impl ToFloat for u64 {
    #[expect(clippy::cast_precision_loss, reason = "called only up to 2^53, where it is exact")]
    fn to_float(self) -> f64 {
        self as f64
    }
}

fn exact<T: ToFloat>(values: Vec<T>, magnitude: impl Fn(T) -> u64) -> Result<Vec<f64>, String> {
    values
        .into_iter()
        .enumerate()
        .map(|(row, value)| {
            if magnitude(value) <= EXACT {
                Ok(value.to_float())
            } else {
                Err(format!("row {row} is {value}, which FP64 cannot represent exactly: send FP64"))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_elements_of_another_type_are_refused() {
        let elements = Elements::Typed { field: "data", values: Typed::Bool(&[true]) };
        let problem = elements.floats(ElementType::Fp64, 1).expect_err("not numbers");
        assert!(problem.contains("data"), "{problem}");
        assert!(elements.integers(ElementType::Int64, 1).is_err());
        assert!(elements.each_text(1, |_, _| Ok(())).is_err());
        assert!(Elements::Typed { field: "data", values: Typed::Fp64(&[1.0]) }.booleans(1).is_err());
    }

    #[test]
    fn narrow_floats_are_widened_without_loss() {
        let halves = [f16::from_f64(-1.5), f16::from_f64(65_504.0), f16::NAN].map(f16::to_le_bytes).concat();
        let numbers = Elements::Raw(&halves).floats(ElementType::Fp16, 3).expect("three numbers");
        assert!(numbers[..2] == [-1.5, 65_504.0] && numbers[2].is_nan(), "{numbers:?}");
        let brains = [bf16::from_f64(0.15625), bf16::MAX].map(bf16::to_le_bytes).concat();
        let numbers = Elements::Raw(&brains).floats(ElementType::Bf16, 2).expect("two numbers");
        assert_eq!(numbers, [0.15625, bf16::MAX.to_f64()]);
        assert!(Elements::Raw(&brains[..3]).floats(ElementType::Bf16, 2).is_err());
    }

    #[test]
    fn integers_of_every_width_are_taken_where_they_fit() {
        let raw = [7_u64, u64::MAX].map(u64::to_le_bytes).concat();
        assert_eq!(Elements::Raw(&raw[..8]).integers(ElementType::Uint64, 1), Ok(vec![7]));
        let problem = Elements::Raw(&raw).integers(ElementType::Uint64, 2).expect_err("too large");
        assert!(problem.starts_with("row 1 is 18446744073709551615"), "{problem}");
        assert_eq!(Elements::Raw(&[0, 1]).flags(ElementType::Int8, 2), Ok(vec![false, true]));
        let problem = Elements::Raw(&[0, 2]).flags(ElementType::Uint8, 2).expect_err("no flag");
        assert_eq!(problem, "row 1 is 2, expected 0 or 1");
    }
}
