//! The elements of one tensor, raw or typed, as native values.
//!
//! Raw elements are little-endian without padding; BOOL is one byte; each BYTES element follows its length
//! in four bytes. Problems are told without the tensor's name, which the caller adds.

use bytes::Bytes;
use rekindle_proto::inference::InferTensorContents;

/// The protocol's datatypes that a tabular feature can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireType {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Fp32,
    Fp64,
    Bytes,
}

impl WireType {
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
            "FP32" => Self::Fp32,
            "FP64" => Self::Fp64,
            "BYTES" => Self::Bytes,
            _ => return None,
        })
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::Fp32 | Self::Fp64)
    }

    pub(crate) fn is_integer(self) -> bool {
        !self.is_float() && !matches!(self, Self::Bool | Self::Bytes)
    }
}

/// Whole numbers up to this magnitude are exact in a 64-bit float.
const EXACT: u64 = 1 << 53;

/// Contents of a tensor that has none.
pub(crate) static NOTHING: InferTensorContents = InferTensorContents {
    bool_contents: Vec::new(),
    int_contents: Vec::new(),
    int64_contents: Vec::new(),
    uint_contents: Vec::new(),
    uint64_contents: Vec::new(),
    fp32_contents: Vec::new(),
    fp64_contents: Vec::new(),
    bytes_contents: Vec::new(),
};

/// Where the elements of one tensor are.
pub(crate) enum Elements<'a> {
    Raw(&'a Bytes),
    Typed(&'a InferTensorContents),
}

impl Elements<'_> {
    /// An upper bound of the bytes of all texts.
    pub(crate) fn byte_len(&self) -> usize {
        match self {
            Self::Raw(raw) => raw.len(),
            Self::Typed(contents) => contents.bytes_contents.iter().map(Vec::len).sum(),
        }
    }

    pub(crate) fn booleans(&self, rows: usize) -> Result<Vec<bool>, String> {
        match self {
            Self::Raw(raw) => fixed::<1, _>(raw, rows, |[byte]| byte)?
                .into_iter()
                .enumerate()
                .map(|(row, byte)| match byte {
                    0 => Ok(false),
                    1 => Ok(true),
                    other => Err(format!("row {row} is the byte {other}, expected 0 or 1")),
                })
                .collect(),
            Self::Typed(contents) => typed(&contents.bool_contents, rows, "bool_contents").map(<[bool]>::to_vec),
        }
    }

    /// Integers of any type but UINT64.
    pub(crate) fn integers(&self, wire: WireType, rows: usize) -> Result<Vec<i64>, String> {
        match self {
            Self::Raw(raw) => raw_integers(raw, wire, rows),
            Self::Typed(contents) => typed_integers(contents, wire, rows),
        }
    }

    /// Floats, and integers that a float holds exactly.
    pub(crate) fn floats(&self, wire: WireType, rows: usize) -> Result<Vec<f64>, String> {
        match (self, wire) {
            (Self::Raw(raw), WireType::Fp64) => fixed(raw, rows, f64::from_le_bytes),
            (Self::Raw(raw), WireType::Fp32) => fixed(raw, rows, |bytes| f64::from(f32::from_le_bytes(bytes))),
            (Self::Typed(contents), WireType::Fp64) => {
                typed(&contents.fp64_contents, rows, "fp64_contents").map(<[f64]>::to_vec)
            }
            (Self::Typed(contents), WireType::Fp32) => {
                let values = typed(&contents.fp32_contents, rows, "fp32_contents")?;
                Ok(values.iter().copied().map(f64::from).collect())
            }
            (Self::Raw(raw), WireType::Uint64) => exact(fixed(raw, rows, u64::from_le_bytes)?, |value| value),
            (Self::Typed(contents), WireType::Uint64) => {
                exact(typed(&contents.uint64_contents, rows, "uint64_contents")?.to_vec(), |value| value)
            }
            (_, integer) => exact(self.integers(integer, rows)?, i64::unsigned_abs),
        }
    }

    /// Hands every BYTES element to `take`, with its row.
    pub(crate) fn each_text(
        &self,
        rows: usize,
        mut take: impl FnMut(usize, &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        match self {
            Self::Typed(contents) => {
                let values = typed(&contents.bytes_contents, rows, "bytes_contents")?;
                values.iter().enumerate().try_for_each(|(row, bytes)| take(row, bytes))
            }
            Self::Raw(raw) => {
                let mut rest = &raw[..];
                for row in 0..rows {
                    let (text, after) = prefixed(rest).ok_or_else(|| {
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

fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

fn fixed<const WIDTH: usize, T>(raw: &[u8], rows: usize, value: impl Fn([u8; WIDTH]) -> T) -> Result<Vec<T>, String> {
    let (chunks, rest) = raw.as_chunks::<WIDTH>();
    if chunks.len() != rows || !rest.is_empty() {
        let expected = rows.saturating_mul(WIDTH);
        return Err(format!("has {} raw bytes, expected {expected}: {rows} elements of {WIDTH}", raw.len()));
    }
    Ok(chunks.iter().map(|chunk| value(*chunk)).collect())
}

fn typed<'a, T>(values: &'a [T], rows: usize, field: &str) -> Result<&'a [T], String> {
    if values.len() == rows {
        return Ok(values);
    }
    Err(format!("has {} elements in {field}, expected {rows}", values.len()))
}

fn raw_integers(raw: &[u8], wire: WireType, rows: usize) -> Result<Vec<i64>, String> {
    match wire {
        WireType::Int8 => fixed(raw, rows, |bytes| i8::from_le_bytes(bytes).into()),
        WireType::Int16 => fixed(raw, rows, |bytes| i16::from_le_bytes(bytes).into()),
        WireType::Int32 => fixed(raw, rows, |bytes| i32::from_le_bytes(bytes).into()),
        WireType::Uint8 => fixed(raw, rows, |bytes| u8::from_le_bytes(bytes).into()),
        WireType::Uint16 => fixed(raw, rows, |bytes| u16::from_le_bytes(bytes).into()),
        WireType::Uint32 => fixed(raw, rows, |bytes| u32::from_le_bytes(bytes).into()),
        _ => fixed(raw, rows, i64::from_le_bytes),
    }
}

fn typed_integers(contents: &InferTensorContents, wire: WireType, rows: usize) -> Result<Vec<i64>, String> {
    let signed = |least: i32, most: i32| {
        let values = typed(&contents.int_contents, rows, "int_contents")?;
        within(values.iter().map(|&value| i64::from(value)), i64::from(least)..=i64::from(most))
    };
    let unsigned = |most: u32| {
        let values = typed(&contents.uint_contents, rows, "uint_contents")?;
        within(values.iter().map(|&value| i64::from(value)), 0..=i64::from(most))
    };
    match wire {
        WireType::Int8 => signed(i8::MIN.into(), i8::MAX.into()),
        WireType::Int16 => signed(i16::MIN.into(), i16::MAX.into()),
        WireType::Int32 => signed(i32::MIN, i32::MAX),
        WireType::Uint8 => unsigned(u8::MAX.into()),
        WireType::Uint16 => unsigned(u16::MAX.into()),
        WireType::Uint32 => unsigned(u32::MAX),
        _ => typed(&contents.int64_contents, rows, "int64_contents").map(<[i64]>::to_vec),
    }
}

fn within(values: impl Iterator<Item = i64>, range: std::ops::RangeInclusive<i64>) -> Result<Vec<i64>, String> {
    values
        .enumerate()
        .map(|(row, value)| {
            let (least, most) = (range.start(), range.end());
            if range.contains(&value) {
                Ok(value)
            } else {
                Err(format!("row {row} is {value}, outside of its datatype: expected {least} to {most}"))
            }
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
                Err(format!("row {row} is {value}, which FP64 cannot hold exactly: send FP64"))
            }
        })
        .collect()
}
