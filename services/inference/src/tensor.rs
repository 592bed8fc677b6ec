//! Tensors of the Open Inference Protocol as rows, whichever encoding of the protocol carries them.
//!
//! Each feature is one named tensor of shape `[n]` or `[n, 1]` with the same `n`, in any order; or, if all features are numbers, one tensor
//! of shape `[n, features]` has them in the order of the model's metadata. Another numeric type is converted where that loses nothing. Everything else that does not match the signature is refused with the tensor's name, the expected and the
//! given value, and the remedy.
//!
//! A missing value is NaN in a float tensor, an empty text in a BYTES tensor, and `false` in the BOOL tensor `<feature>.valid`, which may
//! accompany a tensor of any type and in which `true` marks the values that are there. It is accepted only where the signature allows it.
//!
//! The BYTES tensor `entity_key` says what each row is about, so that its outcome can be reported by it. It is no input, unless the model
//! has an input of this name.

pub(crate) mod elements;
pub(crate) mod entity_key;
mod matrix;
pub(crate) mod output;

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, StringBuilder},
    buffer::NullBuffer,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use rekindle_bundle::{Datatype, Input, Signature};
use rekindle_domain::{ColumnKind, event_time};

use self::{
    elements::{ElementType, Elements},
    entity_key::ENTITY_KEY,
};

/// The name of the whole request, where an error is about no part of it.
pub(crate) const BODY: &str = "body";
/// Suffix of the name of the BOOL tensor that marks which values of a feature are there.
pub(crate) const VALID: &str = ".valid";
/// Why a missing value is refused.
const NEVER_MISSING: &str = "but this feature was never missing in training";
/// Whole numbers up to this magnitude are exact in a 64-bit float: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Input that the model's signature does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub(crate) struct InvalidInput {
    /// The part of the request, e.g. `inputs[distance]`.
    pub(crate) field: String,
    /// What was given, what is expected, and the remedy.
    pub(crate) problem: String,
}

impl InvalidInput {
    /// A problem of one part of the request.
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// A problem of one input tensor.
    pub(crate) fn of_tensor(name: &str, problem: impl Into<String>) -> Self {
        Self::new(format!("inputs[{}]", shortened(name)), problem)
    }
}

/// A caller's text, shortened so that a message can repeat it.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// One input tensor of a request, borrowed from its message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tensor<'a> {
    /// The feature.
    pub(crate) name: &'a str,
    /// The protocol's name of the element type.
    pub(crate) datatype: &'a str,
    /// The sizes of the dimensions.
    pub(crate) shape: &'a [i64],
    /// The elements, row-major.
    pub(crate) elements: Elements<'a>,
}

/// The rows of a request.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    /// One column per input of the signature, in its order.
    pub(crate) inputs: RecordBatch,
    /// What each row is about, if the request says so.
    pub(crate) entity_keys: Option<StringArray>,
}

/// The inputs of one model version, prepared for decoding.
#[derive(Debug)]
pub(crate) struct Inputs {
    inputs: Vec<Input>,
    positions: HashMap<String, usize>,
    schema: SchemaRef,
    time_input: Option<usize>,
}

/// What a request may contain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    /// The most rows.
    pub(crate) rows: usize,
    /// Whether tensors that are no input of the model are ignored, instead of refused.
    pub(crate) unknown_inputs: bool,
}

impl Inputs {
    /// The inputs of a signature. Fails, with a sentence, if the prediction log cannot represent an input.
    pub(crate) fn new(signature: &Signature) -> Result<Self, String> {
        if let Some(input) = signature.inputs.iter().find(|input| input.datatype == Datatype::Fp32) {
            return Err(format!("input {:?} is FP32: expected BOOL, INT64, FP64 or BYTES", input.name));
        }
        let inputs = signature.inputs.clone();
        let positions: HashMap<_, _> = inputs.iter().enumerate().map(|(at, input)| (input.name.clone(), at)).collect();
        let fields: Vec<_> =
            inputs.iter().map(|input| Field::new(&input.name, input.arrow_type(), input.nullable)).collect();
        let time_input = signature.time_input.as_ref().and_then(|name| positions.get(name).copied());
        Ok(Self { inputs, positions, schema: Arc::new(Schema::new(fields)), time_input })
    }

    /// The name of an input.
    pub(crate) fn name(&self, input: usize) -> &str {
        &self.inputs[input].name
    }

    /// The column of `rows` that has the time of each event in milliseconds since 1970 UTC, if the model has such an input and every
    /// row has a value.
    pub(crate) fn event_time_column(&self, rows: &RecordBatch) -> Option<usize> {
        self.time_input.filter(|&column| {
            let column = rows.column(column);
            *column.data_type() == DataType::Int64 && column.null_count() == 0
        })
    }

    /// The rows of a request, at least one.
    pub(crate) fn decode<'a>(
        &self,
        tensors: impl Iterator<Item = Tensor<'a>>,
        accepted: Accepted,
    ) -> Result<Rows, InvalidInput> {
        let mut tensors = tensors.peekable();
        let first =
            *tensors.peek().ok_or_else(|| InvalidInput::new("inputs", "is empty: send one tensor per feature"))?;
        let rows = row_count(&first, accepted.rows)?;
        let (mut given, mut entity_key, mut all) = (vec![Given::default(); self.inputs.len()], None, None);
        for tensor in tensors {
            let is_matrix = self.is_matrix(&tensor);
            let part = match tensor.name {
                ENTITY_KEY if !self.positions.contains_key(ENTITY_KEY) => Some(&mut entity_key),
                _ if is_matrix => Some(&mut all),
                name => self.part(name, &mut given),
            };
            let Some(part) = part else {
                if accepted.unknown_inputs {
                    continue;
                }
                return Err(self.unknown(tensor.name));
            };
            if part.is_some() {
                return Err(InvalidInput::of_tensor(tensor.name, "occurs twice: send each feature once"));
            }
            if !is_matrix {
                must_be_a_column(&tensor)?;
            }
            must_have_rows(&tensor, rows, &first)?;
            *part = Some(tensor);
        }
        let columns = match all {
            Some(matrix) => self.matrix(&matrix, rows, &given)?,
            None => {
                let columns = self.inputs.iter().zip(&given).map(|(input, given)| given.column(input, rows));
                columns.collect::<Result<_, _>>()?
            }
        };
        let inputs = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| InvalidInput::new("inputs", format!("do not form a table: {error}")))?;
        Ok(Rows { inputs, entity_keys: entity_key.map(|tensor| entity_key::decode(&tensor, rows)).transpose()? })
    }

    /// The part of a feature that a tensor of this name is.
    fn part<'a, 'b>(&self, name: &str, given: &'b mut [Given<'a>]) -> Option<&'b mut Option<Tensor<'a>>> {
        if let Some(&position) = self.positions.get(name) {
            return Some(&mut given[position].values);
        }
        let &position = self.positions.get(name.strip_suffix(VALID)?)?;
        Some(&mut given[position].valid)
    }

    fn unknown(&self, name: &str) -> InvalidInput {
        let names: Vec<_> = self.inputs.iter().map(|input| input.name.as_str()).collect();
        let (names, features) = (names.join(", "), names.len());
        let matrix = if self.is_numeric() {
            format!(", or all of them as one tensor of shape [n, {features}]")
        } else {
            String::new()
        };
        InvalidInput::of_tensor(name, format!("is not an input of this model: its inputs are {names}{matrix}"))
    }
}

/// The tensors of one feature.
#[derive(Debug, Clone, Copy, Default)]
struct Given<'a> {
    values: Option<Tensor<'a>>,
    /// Which values are there, if some are marked as missing.
    valid: Option<Tensor<'a>>,
}

impl Given<'_> {
    fn is_given(&self) -> bool {
        self.values.is_some() || self.valid.is_some()
    }

    fn column(&self, input: &Input, rows: usize) -> Result<ArrayRef, InvalidInput> {
        let values = self.values.as_ref().ok_or_else(|| {
            let datatype = input.datatype;
            InvalidInput::of_tensor(&input.name, format!("is missing: send a {datatype} tensor of shape [n]"))
        })?;
        let valid = self.valid.as_ref().map(|valid| validity(valid, rows)).transpose()?.flatten();
        column(input, values, rows, valid)
    }
}

/// Which values are there; `None` if all are.
fn validity(tensor: &Tensor<'_>, rows: usize) -> Result<Option<NullBuffer>, InvalidInput> {
    if ElementType::parse(tensor.datatype) != Some(ElementType::Bool) {
        let problem =
            format!("has datatype {:?}, expected BOOL: false marks a missing value", shortened(tensor.datatype));
        return Err(InvalidInput::of_tensor(tensor.name, problem));
    }
    let valid = tensor.elements.booleans(rows).map_err(|problem| InvalidInput::of_tensor(tensor.name, problem))?;
    Ok(Some(NullBuffer::from(valid)).filter(|valid| valid.null_count() > 0))
}

fn row_count(first: &Tensor<'_>, max_rows: usize) -> Result<usize, InvalidInput> {
    match rows_of(first)? {
        0 => Err(InvalidInput::of_tensor(first.name, "has no rows: send at least one")),
        rows if rows > max_rows => Err(InvalidInput::of_tensor(
            first.name,
            format!("has {rows} rows, more than max_rows_per_request = {max_rows}: split the request"),
        )),
        rows => Ok(rows),
    }
}

fn rows_of(tensor: &Tensor<'_>) -> Result<usize, InvalidInput> {
    let rows = match *tensor.shape {
        [n] | [n, _] => usize::try_from(n).ok(),
        _ => None,
    };
    rows.ok_or_else(|| not_a_column(tensor))
}

/// A feature has one element per row.
fn must_be_a_column(tensor: &Tensor<'_>) -> Result<(), InvalidInput> {
    if matches!(tensor.shape, [_] | [_, 1]) { Ok(()) } else { Err(not_a_column(tensor)) }
}

fn not_a_column(tensor: &Tensor<'_>) -> InvalidInput {
    let shape = &tensor.shape[..tensor.shape.len().min(8)];
    InvalidInput::of_tensor(tensor.name, format!("has shape {shape:?}, expected [n] or [n, 1] for n rows"))
}

fn must_have_rows(tensor: &Tensor<'_>, rows: usize, first: &Tensor<'_>) -> Result<(), InvalidInput> {
    let given = rows_of(tensor)?;
    if given == rows {
        return Ok(());
    }
    let first = shortened(first.name);
    let problem = format!("has {given} rows but input {first:?} has {rows}: send one element per row in every input");
    Err(InvalidInput::of_tensor(tensor.name, problem))
}

fn column(
    input: &Input,
    tensor: &Tensor<'_>,
    rows: usize,
    valid: Option<NullBuffer>,
) -> Result<ArrayRef, InvalidInput> {
    let given =
        ElementType::parse(tensor.datatype).filter(|given| accepts(input.datatype, *given)).ok_or_else(|| {
            InvalidInput::of_tensor(
                &input.name,
                format!("has datatype {:?}, expected {}", shortened(tensor.datatype), accepted(input.datatype)),
            )
        })?;
    let (elements, valid) = (tensor.elements, valid.as_ref());
    let column: Result<ArrayRef, String> = match input.datatype {
        Datatype::Bool => elements
            .flags(given, rows)
            .map(|values| Arc::new(BooleanArray::new(values.into(), valid.cloned())) as ArrayRef),
        Datatype::Int64 if given.is_float() => elements
            .floats(given, rows)
            .and_then(|values| numbers(values, input.nullable, valid))
            .and_then(|values| whole(&values))
            .and_then(|values| timestamps(input, values))
            .map(|values| Arc::new(values) as ArrayRef),
        Datatype::Int64 => elements
            .integers(given, rows)
            .and_then(|values| timestamps(input, Int64Array::new(values.into(), valid.cloned())))
            .map(|values| Arc::new(values) as ArrayRef),
        Datatype::Fp32 | Datatype::Fp64 => elements
            .floats(given, rows)
            .and_then(|values| numbers(values, input.nullable, valid))
            .map(|numbers| Arc::new(numbers) as ArrayRef),
        Datatype::Bytes => texts(&elements, rows, input.nullable, valid),
    };
    let column = column.map_err(|problem| InvalidInput::of_tensor(&input.name, problem))?;
    match valid.filter(|_| !input.nullable).and_then(|valid| valid.iter().position(|is_valid| !is_valid)) {
        Some(row) => {
            let name = &input.name;
            let problem = format!("row {row} is missing by {name}{VALID}, {NEVER_MISSING}: send a value");
            Err(InvalidInput::of_tensor(name, problem))
        }
        None => Ok(column),
    }
}

fn accepts(datatype: Datatype, given: ElementType) -> bool {
    match datatype {
        Datatype::Bool => given != ElementType::Bytes,
        Datatype::Int64 | Datatype::Fp32 | Datatype::Fp64 => given.is_integer() || given.is_float(),
        Datatype::Bytes => given == ElementType::Bytes,
    }
}

fn accepted(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "BOOL (or a numeric type with 0 and 1)",
        Datatype::Int64 => "INT64 (or another integer type, or a float type with whole numbers)",
        Datatype::Fp32 | Datatype::Fp64 => "FP64 (or another float type, or an integer type)",
        Datatype::Bytes => "BYTES",
    }
}

/// The values of an INT64 feature, which are in range if they are times.
fn timestamps(input: &Input, values: Int64Array) -> Result<Int64Array, String> {
    if input.kind != ColumnKind::Timestamp {
        return Ok(values);
    }
    let invalid = values.iter().enumerate().find_map(|(row, time)| Some((row, event_time::checked(time?).err()?)));
    invalid.map_or(Ok(values), |(row, error)| Err(format!("row {row} {error}")))
}

/// Numbers as integers, if each is one that a float holds exactly.
fn whole(numbers: &Float64Array) -> Result<Int64Array, String> {
    #[expect(clippy::cast_possible_truncation, reason = "whole numbers up to 2^53 in magnitude")]
    let whole = |(row, number): (usize, Option<f64>)| match number {
        Some(number) if number.fract() != 0.0 => Err(format!("row {row} is {number}, expected a whole number")),
        Some(number) if number.abs() > EXACT => {
            Err(format!("row {row} is {number}, above 2^53 in magnitude, where floats skip integers: send INT64"))
        }
        number => Ok(number.map(|number| number as i64)),
    };
    numbers.iter().enumerate().map(whole).collect()
}

/// NaN becomes a missing value where one is allowed. Infinities are refused.
fn numbers(values: Vec<f64>, nullable: bool, valid: Option<&NullBuffer>) -> Result<Float64Array, String> {
    let is_valid = |row| valid.is_none_or(|valid| valid.is_valid(row));
    let is_number = |row: usize, value: f64| value.is_finite() && is_valid(row);
    let Some(first) = (0..values.len()).find(|&row| is_valid(row) && !values[row].is_finite()) else {
        return Ok(Float64Array::new(values.into(), valid.cloned()));
    };
    if let Some(row) = (0..values.len()).find(|&row| is_valid(row) && values[row].is_infinite()) {
        return Err(format!("row {row} is infinite, expected a finite number"));
    }
    if !nullable {
        return Err(format!("row {first} is NaN, which means missing, {NEVER_MISSING}: send a number"));
    }
    Ok(values.into_iter().enumerate().map(|(row, value)| is_number(row, value).then_some(value)).collect())
}

fn texts(elements: &Elements<'_>, rows: usize, nullable: bool, valid: Option<&NullBuffer>) -> Result<ArrayRef, String> {
    let mut builder = StringBuilder::with_capacity(rows, elements.byte_len());
    elements.each_text(rows, |row, bytes| {
        if valid.is_some_and(|valid| valid.is_null(row)) {
            builder.append_null();
            return Ok(());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| format!("row {row} is not UTF-8 text"))?;
        match (text.is_empty(), nullable) {
            (false, _) => builder.append_value(text),
            (true, true) => builder.append_null(),
            (true, false) => {
                return Err(format!("row {row} is empty, which means missing, {NEVER_MISSING}: send a text"));
            }
        }
        Ok(())
    })?;
    Ok(Arc::new(builder.finish()))
}
