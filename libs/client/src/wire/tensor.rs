//! Tensors of the Open Inference Protocol and the raw form of their elements: little-endian, row-major; a BYTES element follows its
//! length in four bytes.

use std::{fmt, str::FromStr};

use bytes::Bytes;

use super::raw;

/// A named tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The name.
    pub name: String,
    /// The sizes; their product is the number of elements.
    pub shape: Vec<i64>,
    /// The elements, row-major.
    pub elements: Elements,
}

/// The elements of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Elements {
    /// BOOL.
    Bool(Vec<bool>),
    /// INT64.
    Int64(Vec<i64>),
    /// FP32.
    Fp32(Vec<f32>),
    /// FP64.
    Fp64(Vec<f64>),
    /// BYTES: texts.
    Text(Vec<String>),
}

/// The type of the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Datatype {
    /// BOOL.
    Bool,
    /// INT64.
    Int64,
    /// FP32.
    Fp32,
    /// FP64.
    Fp64,
    /// BYTES.
    Bytes,
}

/// A type that this client does not support.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("datatype {given:?} is not supported: expected BOOL, INT64, FP32, FP64 or BYTES")]
pub struct UnsupportedDatatype {
    /// The type as given.
    pub given: String,
}

/// Raw contents that are not elements of the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes are not elements of type {datatype}")]
pub struct InvalidContents {
    /// The type.
    pub datatype: Datatype,
    /// The length of the contents.
    pub length: usize,
}

impl Tensor {
    /// A tensor of one column: shape `[rows, 1]`.
    pub fn column(name: impl Into<String>, elements: Elements) -> Self {
        let rows = i64::try_from(elements.len()).unwrap_or(i64::MAX);
        Self { name: name.into(), shape: vec![rows, 1], elements }
    }
}

impl Elements {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Fp32(values) => values.len(),
            Self::Fp64(values) => values.len(),
            Self::Text(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their type.
    pub fn datatype(&self) -> Datatype {
        match self {
            Self::Bool(_) => Datatype::Bool,
            Self::Int64(_) => Datatype::Int64,
            Self::Fp32(_) => Datatype::Fp32,
            Self::Fp64(_) => Datatype::Fp64,
            Self::Text(_) => Datatype::Bytes,
        }
    }

    /// The raw contents.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Bool(values) => values.iter().map(|&value| u8::from(value)).collect(),
            Self::Int64(values) => raw::encode(values, i64::to_le_bytes),
            Self::Fp32(values) => raw::encode(values, f32::to_le_bytes),
            Self::Fp64(values) => raw::encode(values, f64::to_le_bytes),
            Self::Text(values) => raw::encode_texts(values),
        }
    }

    /// The elements that raw contents hold. Texts that are not UTF-8 are replaced.
    pub fn decode(datatype: Datatype, raw: &[u8]) -> Result<Self, InvalidContents> {
        let invalid = InvalidContents { datatype, length: raw.len() };
        match datatype {
            Datatype::Bool => Ok(Self::Bool(raw.iter().map(|&byte| byte != 0).collect())),
            Datatype::Int64 => raw::decode(raw, i64::from_le_bytes).map(Self::Int64).ok_or(invalid),
            Datatype::Fp32 => raw::decode(raw, f32::from_le_bytes).map(Self::Fp32).ok_or(invalid),
            Datatype::Fp64 => raw::decode(raw, f64::from_le_bytes).map(Self::Fp64).ok_or(invalid),
            Datatype::Bytes => texts(raw).map(Self::Text).ok_or(invalid),
        }
    }
}

fn texts(mut raw: &[u8]) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    while !raw.is_empty() {
        let (text, rest) = raw::split_text(raw)?;
        texts.push(String::from_utf8_lossy(text).into_owned());
        raw = rest;
    }
    Some(texts)
}

impl Datatype {
    /// The name in the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Int64 => "INT64",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }
}

impl FromStr for Datatype {
    type Err = UnsupportedDatatype;

    fn from_str(text: &str) -> Result<Self, UnsupportedDatatype> {
        let all = [Self::Bool, Self::Int64, Self::Fp32, Self::Fp64, Self::Bytes];
        let found = all.into_iter().find(|datatype| datatype.name() == text);
        found.ok_or_else(|| UnsupportedDatatype { given: text.chars().take(80).collect() })
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_survive_their_raw_form() {
        for elements in [
            Elements::Bool(vec![true, false]),
            Elements::Int64(vec![i64::MIN, 7]),
            Elements::Fp32(vec![1.5, -0.0]),
            Elements::Fp64(vec![f64::MAX, 1e-300]),
            Elements::Text(vec![String::new(), "Zoë".into()]),
        ] {
            assert_eq!(Elements::decode(elements.datatype(), &elements.encode()), Ok(elements));
        }
    }

    #[test]
    fn contents_that_end_in_the_middle_of_an_element_are_refused() {
        for datatype in [Datatype::Int64, Datatype::Fp32, Datatype::Fp64, Datatype::Bytes] {
            assert!(Elements::decode(datatype, &[1, 0, 0]).is_err(), "{datatype}");
        }
        assert!(Elements::decode(Datatype::Bytes, &[9, 0, 0, 0, b'x']).is_err(), "shorter than announced");
        assert!("FP128".parse::<Datatype>().is_err());
    }
}
