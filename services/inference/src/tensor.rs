//! Tensors of the Open Inference Protocol to Arrow arrays and back.
//!
//! Reads the wire types where they lie: a second form in between would cost every request a copy.
//! Each feature is one named input of shape `[n]` or `[n, 1]`, `n` the same for all, in any order. A narrower type of the same
//! family is widened, which loses nothing; everything else that is not what the signature says is refused with the
//! feature's name, what was expected, what came and how to mend it.
//!
//! A missing value travels as NaN, or as an empty text, and only where the signature allows it.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringBuilder},
    datatypes::{Field, Schema, SchemaRef},
};
use bytes::Bytes;
use rekindle_model::{Datatype, Input, Signature};
use rekindle_proto::inference::{InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor};

use crate::elements::{Elements, NOTHING, WireType};

/// Input that the model's signature does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub(crate) struct BadInput {
    /// The part of the request, e.g. `inputs[distance]`.
    pub(crate) field: String,
    /// What was expected, what came, and the way out.
    pub(crate) problem: String,
}

impl BadInput {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    pub(crate) fn of_input(name: &str, problem: impl Into<String>) -> Self {
        Self::new(format!("inputs[{}]", shortened(name)), problem)
    }
}

/// A caller's text, cut so that it can be repeated in a message.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// What a model takes, made ready for decoding: computed once per version.
#[derive(Debug)]
pub(crate) struct InputPlan {
    inputs: Vec<Input>,
    positions: HashMap<String, usize>,
    schema: SchemaRef,
    time_input: Option<usize>,
}

impl InputPlan {
    /// The plan of a signature. Fails, with a sentence, on an input whose values the prediction log cannot keep.
    pub(crate) fn new(signature: &Signature) -> Result<Self, String> {
        if let Some(input) = signature.inputs.iter().find(|input| input.datatype == Datatype::Fp32) {
            return Err(format!("input {:?} is FP32, expected BOOL, INT64, FP64 or BYTES", input.name));
        }
        let inputs = signature.inputs.clone();
        let positions: HashMap<_, _> = inputs.iter().enumerate().map(|(at, input)| (input.name.clone(), at)).collect();
        let fields: Vec<_> =
            inputs.iter().map(|input| Field::new(&input.name, input.arrow_type(), input.nullable)).collect();
        let time_input = signature.time_input.as_ref().and_then(|name| positions.get(name).copied());
        Ok(Self { inputs, positions, schema: Arc::new(Schema::new(fields)), time_input })
    }

    /// The column that holds the time of the event, in milliseconds since 1970 UTC, if the model takes one.
    pub(crate) fn time_input(&self) -> Option<usize> {
        self.time_input
    }

    /// The rows of a request: one column per input of the signature, in its order; 1 to `max_rows` rows.
    pub(crate) fn decode(&self, request: &ModelInferRequest, max_rows: usize) -> Result<RecordBatch, BadInput> {
        let raw = raw_contents(request)?;
        let rows = row_count(request, max_rows)?;
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.inputs.len()];
        for (at, tensor) in request.inputs.iter().enumerate() {
            let position = self.position(tensor)?;
            if columns[position].is_some() {
                return Err(BadInput::of_input(&tensor.name, "is given twice: send each feature once"));
            }
            let tensor_rows = rows_of(tensor)?;
            if tensor_rows != rows {
                let first = shortened(&request.inputs[0].name);
                return Err(BadInput::of_input(
                    &tensor.name,
                    format!(
                        "has {tensor_rows} rows where input {first:?} has {rows}: send one element per row in every input"
                    ),
                ));
            }
            columns[position] = Some(column(&self.inputs[position], tensor, raw.map(|raw| &raw[at]), rows)?);
        }
        let columns = self.all_present(columns)?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| BadInput::new("inputs", format!("do not form a table: {error}")))
    }

    fn position(&self, tensor: &InferInputTensor) -> Result<usize, BadInput> {
        self.positions.get(&tensor.name).copied().ok_or_else(|| {
            BadInput::of_input(&tensor.name, format!("is not an input of this model: it takes {}", self.names()))
        })
    }

    fn all_present(&self, columns: Vec<Option<ArrayRef>>) -> Result<Vec<ArrayRef>, BadInput> {
        columns
            .into_iter()
            .zip(&self.inputs)
            .map(|(column, input)| {
                column.ok_or_else(|| {
                    let datatype = input.datatype.as_str();
                    BadInput::of_input(&input.name, format!("is missing: send a {datatype} tensor of shape [n]"))
                })
            })
            .collect()
    }

    fn names(&self) -> String {
        self.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// The raw contents, one per input, or `None` where the request carries typed contents.
fn raw_contents(request: &ModelInferRequest) -> Result<Option<&[Bytes]>, BadInput> {
    let (raw, inputs) = (&request.raw_input_contents, &request.inputs);
    if raw.is_empty() {
        return Ok(None);
    }
    if raw.len() != inputs.len() {
        return Err(BadInput::new(
            "raw_input_contents",
            format!("has {} entries for {} inputs: send one per input, in the same order", raw.len(), inputs.len()),
        ));
    }
    match inputs.iter().find(|tensor| tensor.contents.as_ref().is_some_and(holds_something)) {
        Some(tensor) => Err(BadInput::of_input(
            &tensor.name,
            "has typed contents although the request has raw_input_contents: send one or the other",
        )),
        None => Ok(Some(raw)),
    }
}

fn holds_something(contents: &InferTensorContents) -> bool {
    *contents != NOTHING
}

fn row_count(request: &ModelInferRequest, max_rows: usize) -> Result<usize, BadInput> {
    let first =
        request.inputs.first().ok_or_else(|| BadInput::new("inputs", "is empty: send one tensor per feature"))?;
    match rows_of(first)? {
        0 => Err(BadInput::of_input(&first.name, "has no rows: send at least one")),
        rows if rows > max_rows => Err(BadInput::of_input(
            &first.name,
            format!("has {rows} rows, more than max_rows_per_request = {max_rows}: split the request"),
        )),
        rows => Ok(rows),
    }
}

fn rows_of(tensor: &InferInputTensor) -> Result<usize, BadInput> {
    let rows = match tensor.shape[..] {
        [n] | [n, 1] => usize::try_from(n).ok(),
        _ => None,
    };
    rows.ok_or_else(|| {
        let shape = &tensor.shape[..tensor.shape.len().min(8)];
        BadInput::of_input(&tensor.name, format!("has shape {shape:?}, expected [n] or [n, 1] for n rows"))
    })
}

fn column(input: &Input, tensor: &InferInputTensor, raw: Option<&Bytes>, rows: usize) -> Result<ArrayRef, BadInput> {
    let wire = WireType::parse(&tensor.datatype).filter(|wire| accepts(input.datatype, *wire)).ok_or_else(|| {
        BadInput::of_input(
            &input.name,
            format!("has datatype {:?}, expected {}", shortened(&tensor.datatype), accepted(input.datatype)),
        )
    })?;
    let elements = match (raw, &tensor.contents) {
        (Some(raw), _) => Elements::Raw(raw),
        (None, Some(contents)) => Elements::Typed(contents),
        (None, None) => Elements::Typed(&NOTHING),
    };
    let column: Result<ArrayRef, String> = match input.datatype {
        Datatype::Bool => elements.booleans(rows).map(|values| Arc::new(BooleanArray::from(values)) as ArrayRef),
        Datatype::Int64 => elements.integers(wire, rows).map(|values| Arc::new(Int64Array::from(values)) as ArrayRef),
        Datatype::Fp32 | Datatype::Fp64 => elements
            .floats(wire, rows)
            .and_then(|values| numbers(values, input.nullable))
            .map(|a| Arc::new(a) as ArrayRef),
        Datatype::Bytes => texts(&elements, rows, input.nullable),
    };
    column.map_err(|problem| BadInput::of_input(&input.name, problem))
}

fn accepts(datatype: Datatype, wire: WireType) -> bool {
    match datatype {
        Datatype::Bool => wire == WireType::Bool,
        Datatype::Int64 => wire.is_integer() && wire != WireType::Uint64,
        Datatype::Fp32 | Datatype::Fp64 => wire.is_integer() || wire.is_float(),
        Datatype::Bytes => wire == WireType::Bytes,
    }
}

fn accepted(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "BOOL",
        Datatype::Int64 => "INT64 (or INT8, INT16, INT32, UINT8, UINT16, UINT32)",
        Datatype::Fp32 | Datatype::Fp64 => "FP64 (or FP32, or an integer type)",
        Datatype::Bytes => "BYTES",
    }
}

/// NaN becomes a missing value where one is allowed; infinities never pass.
fn numbers(values: Vec<f64>, nullable: bool) -> Result<Float64Array, String> {
    let Some(first) = values.iter().position(|value| !value.is_finite()) else {
        return Ok(Float64Array::from(values));
    };
    if let Some(row) = values.iter().position(|value| value.is_infinite()) {
        return Err(format!("row {row} is infinite, expected a finite number"));
    }
    if !nullable {
        return Err(format!(
            "row {first} is NaN, which means missing, but this feature was never missing in training: send a number"
        ));
    }
    Ok(values.into_iter().map(|value| (!value.is_nan()).then_some(value)).collect())
}

fn texts(elements: &Elements<'_>, rows: usize, nullable: bool) -> Result<ArrayRef, String> {
    let mut builder = StringBuilder::with_capacity(rows, elements.byte_len());
    elements.each_text(rows, |row, bytes| {
        let text = std::str::from_utf8(bytes).map_err(|_| format!("row {row} is not UTF-8 text"))?;
        match (text.is_empty(), nullable) {
            (false, _) => builder.append_value(text),
            (true, true) => builder.append_null(),
            (true, false) => {
                return Err(format!(
                    "row {row} is empty, which means missing, but this feature was never missing in training: send a text"
                ));
            }
        }
        Ok(())
    })?;
    Ok(Arc::new(builder.finish()))
}

#[cfg(test)]
mod tests;
