//! The signature: named and typed input and output tensors in the terms of the Open Inference Protocol.

use arrow::datatypes::{DataType, TimeUnit};
use rekindle_domain::{ColumnKind, Task};
use serde::{Deserialize, Serialize};

/// Inputs and outputs of a model. The first dimension of every tensor is the row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// One per feature, in the order of the training table's columns.
    pub inputs: Vec<Input>,
    /// In the order of a prediction's outputs.
    pub outputs: Vec<Output>,
    /// The input with the event time of a row, if there is one.
    pub time_input: Option<String>,
}

impl Signature {
    /// The input with this name.
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
    /// The kind of values.
    pub kind: ColumnKind,
    /// Whether values may be missing: some training row has none. In a request, the BOOL tensor `<name>.valid` marks missing values of any
    /// type.
    pub nullable: bool,
}

impl Input {
    /// The Arrow type of the column. Timestamps are `Int64`: milliseconds since 1970 UTC.
    pub fn arrow_type(&self) -> DataType {
        match self.datatype {
            Datatype::Bool => DataType::Boolean,
            Datatype::Int64 => DataType::Int64,
            Datatype::Fp32 => DataType::Float32,
            Datatype::Fp64 => DataType::Float64,
            Datatype::Bytes => DataType::Utf8,
        }
    }

    /// Whether a column of this Arrow type is valid for the input.
    pub fn accepts(&self, given: &DataType) -> bool {
        *given == self.arrow_type()
            || (self.kind == ColumnKind::Timestamp && matches!(given, DataType::Timestamp(TimeUnit::Millisecond, _)))
            || (self.datatype == Datatype::Fp64 && *given == DataType::Int64)
    }
}

/// One output tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The name.
    pub name: String,
    /// The element type on the wire.
    pub datatype: Datatype,
    /// The shape; -1 is the number of rows.
    pub shape: Vec<i64>,
}

/// Element types of the Open Inference Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    /// One byte, 0 or 1.
    Bool,
    /// A signed 64-bit integer, exact to its last digit.
    Int64,
    /// An IEEE 754 double; not-a-number is a missing value in a nullable input.
    Fp64,
    /// An IEEE 754 single.
    Fp32,
    /// UTF-8 text.
    Bytes,
}

impl Output {
    /// The outputs of a task with this many classes.
    pub fn of_task(task: Task, classes: usize) -> Vec<Self> {
        let output = |name: &str, datatype, width| Self { name: name.to_owned(), datatype, shape: vec![-1, width] };
        let label = output("label", Datatype::Bytes, 1);
        match task {
            Task::Binary => vec![output("probability", Datatype::Fp32, 1), label],
            Task::Multiclass => {
                vec![output("probabilities", Datatype::Fp32, i64::try_from(classes).unwrap_or(i64::MAX)), label]
            }
            Task::Regression => vec![output("prediction", Datatype::Fp32, 1)],
        }
    }
}

impl Datatype {
    /// The name in the protocol.
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
    fn datatypes_serialize_to_protocol_names() {
        for datatype in [Datatype::Bool, Datatype::Int64, Datatype::Fp64, Datatype::Fp32, Datatype::Bytes] {
            assert_eq!(serde_json::to_value(datatype).expect("json"), datatype.as_str());
        }
    }

    #[test]
    fn timestamp_input_accepts_timestamp_and_integer() {
        let input =
            Input { name: "at".into(), datatype: Datatype::Int64, kind: ColumnKind::Timestamp, nullable: false };
        assert!(input.accepts(&DataType::Int64));
        assert!(input.accepts(&DataType::Timestamp(TimeUnit::Millisecond, None)));
        assert!(!input.accepts(&DataType::Utf8));
        let number = Input { kind: ColumnKind::Numeric, ..input };
        assert!(!number.accepts(&DataType::Timestamp(TimeUnit::Millisecond, None)));
    }
}
