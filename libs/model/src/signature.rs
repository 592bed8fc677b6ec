//! What a model takes and gives: named, typed tensors as the Open Inference Protocol knows them.

use arrow::datatypes::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

/// What a model takes and gives. Every tensor has the rows as its first dimension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// One per feature, in the order of the training table's columns.
    pub inputs: Vec<Input>,
    /// In the order in which predictions give them.
    pub outputs: Vec<Output>,
    /// The input that says when a row happened, if one does.
    pub time_input: Option<String>,
}

impl Signature {
    /// The input of that name.
    pub fn input(&self, name: &str) -> Option<&Input> {
        self.inputs.iter().find(|input| input.name == name)
    }
}

/// One feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The column's name.
    pub name: String,
    /// The element type on the wire.
    pub datatype: Datatype,
    /// What the values mean.
    pub kind: Kind,
    /// Whether a value may be missing: some training row lacked one.
    pub nullable: bool,
}

impl Input {
    /// The Arrow type in which the column must come. Timestamps are also taken as `Int64`, milliseconds since 1970 UTC.
    pub fn arrow_type(&self) -> DataType {
        match self.datatype {
            Datatype::Bool => DataType::Boolean,
            Datatype::Int64 => DataType::Int64,
            Datatype::Fp32 => DataType::Float32,
            Datatype::Fp64 => DataType::Float64,
            Datatype::Bytes => DataType::Utf8,
        }
    }

    /// Whether a column of this Arrow type can feed the input.
    pub fn accepts(&self, given: &DataType) -> bool {
        *given == self.arrow_type()
            || (self.kind == Kind::Timestamp && matches!(given, DataType::Timestamp(TimeUnit::Millisecond, _)))
            || (self.datatype == Datatype::Fp64 && *given == DataType::Int64)
    }
}

/// What the values of a feature mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A quantity.
    Numeric,
    /// One of several names.
    Categorical,
    /// An instant.
    Timestamp,
    /// Yes or no.
    Boolean,
}

impl From<rekindle_dataset::Kind> for Kind {
    fn from(kind: rekindle_dataset::Kind) -> Self {
        match kind {
            rekindle_dataset::Kind::Numeric => Self::Numeric,
            rekindle_dataset::Kind::Categorical => Self::Categorical,
            rekindle_dataset::Kind::Timestamp => Self::Timestamp,
            rekindle_dataset::Kind::Boolean => Self::Boolean,
        }
    }
}

/// One tensor of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// The element type on the wire.
    pub datatype: Datatype,
    /// Its shape; -1 stands for the number of rows.
    pub shape: Vec<i64>,
}

/// Element types, named as the Open Inference Protocol names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    /// One byte, 0 or 1.
    Bool,
    /// A signed 64-bit integer.
    Int64,
    /// An IEEE 754 double; in a nullable input not-a-number means missing.
    Fp64,
    /// An IEEE 754 single.
    Fp32,
    /// Text in UTF-8.
    Bytes,
}

impl Datatype {
    /// The protocol's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Int64 => "INT64",
            Self::Fp64 => "FP64",
            Self::Fp32 => "FP32",
            Self::Bytes => "BYTES",
        }
    }
}

impl std::fmt::Display for Datatype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datatypes_are_spelt_as_in_the_protocol() {
        for datatype in [Datatype::Bool, Datatype::Int64, Datatype::Fp64, Datatype::Fp32, Datatype::Bytes] {
            assert_eq!(serde_json::to_value(datatype).expect("json"), datatype.as_str());
        }
    }

    #[test]
    fn an_instant_is_taken_as_timestamp_or_integer() {
        let input = Input { name: "at".into(), datatype: Datatype::Int64, kind: Kind::Timestamp, nullable: false };
        assert!(input.accepts(&DataType::Int64));
        assert!(input.accepts(&DataType::Timestamp(TimeUnit::Millisecond, None)));
        assert!(!input.accepts(&DataType::Utf8));
        let number = Input { kind: Kind::Numeric, ..input };
        assert!(!number.accepts(&DataType::Timestamp(TimeUnit::Millisecond, None)));
    }
}
