//! The elements of a tensor in JSON: nested or flat lists of numbers, texts or booleans, and null for a missing value.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, SeqAccess, Visitor},
};

use crate::tensor::elements::{ElementType, Elements, Typed};

/// Integers up to this magnitude are exact in a 64-bit float: 2^53.
const EXACT: u64 = 1 << 53;

/// Elements in row-major order, whatever their nesting.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Data {
    values: Values,
    length: usize,
    /// Positions of nulls, which have a value that does not matter.
    nulls: Vec<usize>,
}

#[derive(Debug, Clone, Default, PartialEq)]
enum Values {
    #[default]
    None,
    Bools(Vec<bool>),
    Integers(Vec<i64>),
    Numbers(Vec<f64>),
    Texts(Vec<Vec<u8>>),
}

/// Elements in the types of the protocol's messages.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Owned {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Bytes(Vec<Vec<u8>>),
}

impl Owned {
    pub(super) fn elements(&self) -> Elements<'_> {
        let values = match self {
            Self::Bool(values) => Typed::Bool(values),
            Self::Int32(values) => Typed::Int32(values),
            Self::Int64(values) => Typed::Int64(values),
            Self::Uint32(values) => Typed::Uint32(values),
            Self::Uint64(values) => Typed::Uint64(values),
            Self::Fp32(values) => Typed::Fp32(values),
            Self::Fp64(values) => Typed::Fp64(values),
            Self::Bytes(values) => Typed::Bytes(values),
        };
        Elements::Typed { field: "data", values }
    }
}

impl Data {
    /// Which elements are there; `None` if all are.
    pub(super) fn validity(&self) -> Option<Vec<bool>> {
        if self.nulls.is_empty() {
            return None;
        }
        let mut valid = vec![true; self.length];
        self.nulls.iter().for_each(|&position| valid[position] = false);
        Some(valid)
    }

    /// The elements as those of a tensor of this datatype. One that the protocol does not have is refused by its decoder.
    pub(super) fn of_type(&self, datatype: &str) -> Result<Owned, String> {
        Ok(match ElementType::parse(datatype) {
            Some(ElementType::Bool) => Owned::Bool(self.bools()?),
            Some(ElementType::Int8 | ElementType::Int16 | ElementType::Int32) => {
                Owned::Int32(narrowed(self.integers()?)?)
            }
            Some(ElementType::Uint8 | ElementType::Uint16 | ElementType::Uint32) => {
                Owned::Uint32(narrowed(self.integers()?)?)
            }
            Some(ElementType::Uint64) => Owned::Uint64(narrowed(self.integers()?)?),
            #[expect(clippy::cast_possible_truncation, reason = "the tensor has single precision")]
            Some(ElementType::Fp16 | ElementType::Bf16 | ElementType::Fp32) => {
                Owned::Fp32(self.numbers()?.into_iter().map(|number| number as f32).collect())
            }
            Some(ElementType::Fp64) => Owned::Fp64(self.numbers()?),
            Some(ElementType::Bytes) => Owned::Bytes(self.texts()?),
            Some(ElementType::Int64) | None => Owned::Int64(self.integers()?),
        })
    }

    fn bools(&self) -> Result<Vec<bool>, String> {
        match &self.values {
            Values::None => Ok(vec![false; self.length]),
            Values::Bools(values) => Ok(values.clone()),
            Values::Integers(values) if values.iter().all(|value| [0, 1].contains(value)) => {
                Ok(values.iter().map(|&value| value == 1).collect())
            }
            other => Err(format!("has {}, expected true or false", other.kind())),
        }
    }

    fn integers(&self) -> Result<Vec<i64>, String> {
        #[expect(clippy::cast_possible_truncation, reason = "whole numbers up to 2^53 in magnitude")]
        let whole = |(position, &number): (usize, &f64)| match number.fract() == 0.0 && number.abs() <= EXACT as f64 {
            true => Ok(number as i64),
            // JSON has no other not-a-number than the null that was read as one.
            false if number.is_nan() => Ok(0),
            false => Err(format!("element {position} is {number}, expected a whole number")),
        };
        match &self.values {
            Values::None => Ok(vec![0; self.length]),
            Values::Integers(values) => Ok(values.clone()),
            Values::Numbers(values) => values.iter().enumerate().map(whole).collect(),
            other => Err(format!("has {}, expected whole numbers", other.kind())),
        }
    }

    fn numbers(&self) -> Result<Vec<f64>, String> {
        match &self.values {
            Values::None => Ok(vec![f64::NAN; self.length]),
            Values::Numbers(values) => Ok(values.clone()),
            Values::Integers(values) => values.iter().map(|&value| exact(value)).collect(),
            other => Err(format!("has {}, expected numbers", other.kind())),
        }
    }

    fn texts(&self) -> Result<Vec<Vec<u8>>, String> {
        match &self.values {
            Values::None => Ok(vec![Vec::new(); self.length]),
            Values::Texts(values) => Ok(values.clone()),
            other => Err(format!("has {}, expected texts", other.kind())),
        }
    }

    fn null(&mut self) {
        self.nulls.push(self.length);
        match &mut self.values {
            Values::None => {}
            Values::Bools(values) => values.push(false),
            Values::Integers(values) => values.push(0),
            Values::Numbers(values) => values.push(f64::NAN),
            Values::Texts(values) => values.push(Vec::new()),
        }
        self.length += 1;
    }

    fn bool(&mut self, value: bool) -> Result<(), String> {
        if let Values::None = self.values {
            self.values = Values::Bools(vec![false; self.length]);
        }
        match &mut self.values {
            Values::Bools(values) => values.push(value),
            other => return Err(mixed("booleans", other)),
        }
        self.length += 1;
        Ok(())
    }

    fn integer(&mut self, value: i64) -> Result<(), String> {
        if let Values::None = self.values {
            self.values = Values::Integers(vec![0; self.length]);
        }
        match &mut self.values {
            Values::Integers(values) => values.push(value),
            Values::Numbers(values) => values.push(exact(value)?),
            other => return Err(mixed("numbers", other)),
        }
        self.length += 1;
        Ok(())
    }

    fn number(&mut self, value: f64) -> Result<(), String> {
        match &self.values {
            Values::None => self.values = Values::Numbers(vec![f64::NAN; self.length]),
            Values::Integers(values) => {
                self.values = Values::Numbers(values.iter().map(|&value| exact(value)).collect::<Result<_, _>>()?);
            }
            _ => {}
        }
        match &mut self.values {
            Values::Numbers(values) => values.push(value),
            other => return Err(mixed("numbers", other)),
        }
        self.length += 1;
        Ok(())
    }

    fn text(&mut self, value: &str) -> Result<(), String> {
        if let Values::None = self.values {
            self.values = Values::Texts(vec![Vec::new(); self.length]);
        }
        match &mut self.values {
            Values::Texts(values) => values.push(value.as_bytes().to_vec()),
            other => return Err(mixed("texts", other)),
        }
        self.length += 1;
        Ok(())
    }
}

fn exact(value: i64) -> Result<f64, String> {
    match value.unsigned_abs() <= EXACT {
        true => Ok(value as f64),
        false => Err(format!("has the integer {value}, which a 64-bit float does not hold exactly")),
    }
}

fn mixed(one: &str, other: &Values) -> String {
    format!("has {one} beside {}: send values of one type", other.kind())
}

fn narrowed<T: TryFrom<i64>>(values: Vec<i64>) -> Result<Vec<T>, String> {
    let narrow = |value: i64| T::try_from(value).map_err(|_| format!("has {value}, which is out of range"));
    values.into_iter().map(narrow).collect()
}

impl Values {
    fn kind(&self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Bools(_) => "booleans",
            Self::Integers(_) | Self::Numbers(_) => "numbers",
            Self::Texts(_) => "texts",
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut data = Self::default();
        deserializer.deserialize_seq(Into(&mut data))?;
        Ok(data)
    }
}

/// Appends what it visits, lists element by element.
struct Into<'a>(&'a mut Data);

impl<'de> DeserializeSeed<'de> for Into<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Into<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers, texts, booleans and nulls, or of such lists")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Into(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.null();
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.0.bool(value).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.0.integer(value).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        let value = i64::try_from(value).map_err(|_| E::custom(format!("{value} is above 2^63 - 1")))?;
        self.visit_i64(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.number(value).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.0.text(value).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str, datatype: &str) -> Result<Owned, String> {
        serde_json::from_str::<Data>(json).map_err(|error| error.to_string())?.of_type(datatype)
    }

    #[test]
    fn elements_have_the_type_of_the_tensor() {
        for (json, datatype, expected) in [
            ("[[1], [2]]", "INT64", Owned::Int64(vec![1, 2])),
            ("[1, 2.5]", "FP64", Owned::Fp64(vec![1.0, 2.5])),
            ("[1, 2]", "FP32", Owned::Fp32(vec![1.0, 2.0])),
            ("[1.0, -3e2]", "INT32", Owned::Int32(vec![1, -300])),
            ("[255]", "UINT8", Owned::Uint32(vec![255])),
            ("[7]", "UINT64", Owned::Uint64(vec![7])),
            ("[true, false]", "BOOL", Owned::Bool(vec![true, false])),
            ("[1, 0]", "BOOL", Owned::Bool(vec![true, false])),
            (r#"[["é", ""]]"#, "BYTES", Owned::Bytes(vec!["é".into(), Vec::new()])),
            ("[]", "FP64", Owned::Fp64(Vec::new())),
        ] {
            assert_eq!(of(json, datatype), Ok(expected), "{json}");
        }
    }

    #[test]
    fn null_is_a_missing_value_of_any_type() {
        let data: Data = serde_json::from_str("[null, 3, null]").expect("a list");
        assert_eq!(data.validity(), Some(vec![false, true, false]));
        assert_eq!(data.of_type("INT64"), Ok(Owned::Int64(vec![0, 3, 0])));
        let data: Data = serde_json::from_str("[[null], [0.5]]").expect("a list");
        assert!(matches!(data.of_type("FP64"), Ok(Owned::Fp64(values)) if values[0].is_nan() && values[1] == 0.5));
        assert_eq!(of("[null, 2.0]", "INT64"), Ok(Owned::Int64(vec![0, 2])));
        for datatype in ["BOOL", "INT8", "UINT64", "FP32", "BYTES"] {
            assert!(of("[null]", datatype).is_ok(), "{datatype}");
        }
        assert_eq!(serde_json::from_str::<Data>("[1]").expect("a list").validity(), None);
    }

    #[test]
    fn what_a_tensor_cannot_hold_is_refused() {
        for (json, datatype, words) in [
            ("[1.5]", "INT64", "element 0 is 1.5"),
            ("[-1]", "UINT64", "-1, which is out of range"),
            ("[3000000000]", "INT32", "out of range"),
            ("[18446744073709551615]", "UINT64", "above 2^63 - 1"),
            ("[9007199254740993]", "FP64", "9007199254740993"),
            ("[1, \"a\"]", "INT64", "texts beside numbers"),
            ("[true, 1]", "BOOL", "numbers beside booleans"),
            ("[1]", "BYTES", "expected texts"),
            ("[2]", "BOOL", "expected true or false"),
            ("[{}]", "INT64", "a list of numbers"),
            ("5", "INT64", "a list of numbers"),
        ] {
            let refused = of(json, datatype).expect_err(json);
            assert!(refused.contains(words), "{json}: {refused}");
        }
    }
}
