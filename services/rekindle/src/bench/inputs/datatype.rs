//! The types of the protocol: their raw form and their form in JSON.

use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use half::{bf16, f16};
use serde_json::{Value, json};

use super::Cell;

/// The type of the elements of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Datatype {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

/// Every type with its name.
const NAMES: [(Datatype, &str); 14] = [
    (Datatype::Bool, "BOOL"),
    (Datatype::Int8, "INT8"),
    (Datatype::Int16, "INT16"),
    (Datatype::Int32, "INT32"),
    (Datatype::Int64, "INT64"),
    (Datatype::Uint8, "UINT8"),
    (Datatype::Uint16, "UINT16"),
    (Datatype::Uint32, "UINT32"),
    (Datatype::Uint64, "UINT64"),
    (Datatype::Fp16, "FP16"),
    (Datatype::Bf16, "BF16"),
    (Datatype::Fp32, "FP32"),
    (Datatype::Fp64, "FP64"),
    (Datatype::Bytes, "BYTES"),
];

impl FromStr for Datatype {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let named = NAMES.into_iter().find(|(_, name)| *name == text);
        named.map(|(datatype, _)| datatype).with_context(|| {
            let known: Vec<&str> = NAMES.into_iter().map(|(_, name)| name).collect();
            format!("datatype {text:?} is not supported: expected one of {}", known.join(", "))
        })
    }
}

impl Datatype {
    pub(crate) fn name(self) -> &'static str {
        NAMES.into_iter().find(|(datatype, _)| *datatype == self).map_or("", |(_, name)| name)
    }

    /// Whether a value of the type stands for a missing one.
    pub(crate) fn has_missing(self) -> bool {
        matches!(self, Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64 | Self::Bytes)
    }

    /// Appends the raw form of a value. A missing one is NaN, the empty text, or a zero.
    ///
    /// # Errors
    /// The type has no such value.
    pub(crate) fn encode(self, cell: &Cell, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Bool => out.push(u8::from(boolean(cell)?)),
            Self::Int8 => out.extend(self.integer::<i8>(cell)?.to_le_bytes()),
            Self::Int16 => out.extend(self.integer::<i16>(cell)?.to_le_bytes()),
            Self::Int32 => out.extend(self.integer::<i32>(cell)?.to_le_bytes()),
            Self::Int64 => out.extend(self.integer::<i64>(cell)?.to_le_bytes()),
            Self::Uint8 => out.extend(self.integer::<u8>(cell)?.to_le_bytes()),
            Self::Uint16 => out.extend(self.integer::<u16>(cell)?.to_le_bytes()),
            Self::Uint32 => out.extend(self.integer::<u32>(cell)?.to_le_bytes()),
            Self::Uint64 => out.extend(self.integer::<u64>(cell)?.to_le_bytes()),
            Self::Fp16 => out.extend(f16::from_f64(number(cell)?).to_le_bytes()),
            Self::Bf16 => out.extend(bf16::from_f64(number(cell)?).to_le_bytes()),
            #[expect(clippy::cast_possible_truncation, reason = "rounded to the nearest")]
            Self::Fp32 => out.extend((number(cell)? as f32).to_le_bytes()),
            Self::Fp64 => out.extend(number(cell)?.to_le_bytes()),
            Self::Bytes => {
                let text = text(cell);
                out.extend(u32::try_from(text.len()).context("a text of 4 GiB")?.to_le_bytes());
                out.extend(text.as_bytes());
            }
        }
        Ok(())
    }

    /// A value that [`Self::encode`] accepts, as JSON.
    pub(crate) fn json(self, cell: &Cell) -> Value {
        match (self, cell) {
            (_, Cell::Missing) => Value::Null,
            (Self::Bytes, cell) => json!(text(cell)),
            (Self::Bool, cell) => json!(boolean(cell).unwrap_or_default()),
            (_, Cell::Number(value)) if !self.has_missing() => json!(whole(*value)),
            (_, Cell::Number(value)) => json!(value),
            (_, Cell::Integer(value)) => json!(value),
            (_, Cell::Boolean(value)) => json!(value),
            (_, Cell::Text(value)) => json!(value),
        }
    }

    fn integer<T: TryFrom<i64> + Default>(self, cell: &Cell) -> Result<T> {
        let value = match cell {
            Cell::Missing => return Ok(T::default()),
            Cell::Integer(value) => Some(*value),
            Cell::Number(value) => whole(*value),
            Cell::Boolean(_) | Cell::Text(_) => None,
        };
        let value = value.and_then(|value| T::try_from(value).ok());
        value.with_context(|| format!("{} is no {}", text(cell), self.name()))
    }
}

fn boolean(cell: &Cell) -> Result<bool> {
    match cell {
        Cell::Missing | Cell::Boolean(false) | Cell::Integer(0) => Ok(false),
        Cell::Boolean(true) | Cell::Integer(1) => Ok(true),
        other => bail!("{} is no BOOL", text(other)),
    }
}

fn number(cell: &Cell) -> Result<f64> {
    match cell {
        Cell::Missing => Ok(f64::NAN),
        Cell::Number(value) => Ok(*value),
        Cell::Integer(value) => {
            ensure!(value.unsigned_abs() <= 1 << 53, "{value} is not exact as a number: expected at most 2^53");
            #[expect(clippy::cast_precision_loss, reason = "checked above")]
            let number = *value as f64;
            Ok(number)
        }
        Cell::Boolean(_) | Cell::Text(_) => bail!("{} is no number", text(cell)),
    }
}

/// A number without a fraction as an integer.
fn whole(value: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "checked: whole and at most 2^53")]
    (value.fract() == 0.0 && value.abs() <= (1_u64 << 53) as f64).then_some(value as i64)
}

fn text(cell: &Cell) -> String {
    match cell {
        Cell::Missing => String::new(),
        Cell::Boolean(value) => value.to_string(),
        Cell::Integer(value) => value.to_string(),
        Cell::Number(value) => value.to_string(),
        Cell::Text(value) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(name: &str, cell: Cell) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        name.parse::<Datatype>().expect(name).encode(&cell, &mut out).ok().map(|()| out)
    }

    #[test]
    fn values_have_the_raw_form_of_their_type() {
        for (name, cell, expected) in [
            ("BOOL", Cell::Boolean(true), vec![1]),
            ("INT8", Cell::Integer(-1), vec![255]),
            ("UINT16", Cell::Number(258.0), vec![2, 1]),
            ("INT32", Cell::Integer(-2), vec![254, 255, 255, 255]),
            ("UINT64", Cell::Integer(1), vec![1, 0, 0, 0, 0, 0, 0, 0]),
            ("FP16", Cell::Number(1.5), vec![0x00, 0x3e]),
            ("BF16", Cell::Number(1.5), vec![0xc0, 0x3f]),
            ("FP32", Cell::Integer(1), vec![0, 0, 0x80, 0x3f]),
            ("FP64", Cell::Number(0.5), 0.5_f64.to_le_bytes().to_vec()),
            ("BYTES", Cell::Text("ab".into()), vec![2, 0, 0, 0, b'a', b'b']),
            ("BYTES", Cell::Integer(7), vec![1, 0, 0, 0, b'7']),
        ] {
            assert_eq!(encoded(name, cell.clone()), Some(expected), "{name} {cell:?}");
        }
        for (name, cell) in [
            ("BOOL", Cell::Integer(2)),
            ("INT8", Cell::Integer(128)),
            ("UINT8", Cell::Integer(-1)),
            ("INT64", Cell::Number(0.5)),
            ("FP64", Cell::Integer((1 << 53) + 1)),
            ("FP32", Cell::Text("1".into())),
        ] {
            assert_eq!(encoded(name, cell.clone()), None, "{name} {cell:?}");
        }
    }

    #[test]
    fn json_has_the_same_values() {
        for (name, cell, expected) in [
            ("INT64", Cell::Number(3.0), json!(3)),
            ("FP32", Cell::Number(0.25), json!(0.25)),
            ("BYTES", Cell::Integer(7), json!("7")),
            ("BOOL", Cell::Integer(1), json!(true)),
            ("FP64", Cell::Missing, Value::Null),
        ] {
            assert_eq!(name.parse::<Datatype>().expect(name).json(&cell), expected, "{name} {cell:?}");
        }
    }
}
