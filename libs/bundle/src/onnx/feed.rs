//! From the columns of a batch to the input tensors of a file.

use std::{borrow::Cow, ops::Range};

use arrow::array::{Array, RecordBatch};
use ort::{
    session::SessionInputValue,
    value::{PrimitiveTensorElementType, Tensor},
};
use rekindle_domain::ColumnKind;

use super::{
    InputForm, Onnx,
    file::{Element, File, Outlet},
};
use crate::{
    Datatype, Error, Input, Manifest,
    column::{self, Cells},
    manifest::MODEL,
};

/// Rows that are written at a time: their part of the matrix stays in the cache of the processor.
const BLOCK: usize = 32;

/// The input tensors of a file, prepared for rows.
#[derive(Debug)]
pub(super) struct Feed {
    inputs: Vec<Input>,
    tensors: Tensors,
}

#[derive(Debug)]
enum Tensors {
    /// One per input, with its element type and its rank.
    Columns(Vec<(Element, usize)>),
    /// One of floats or doubles with all inputs.
    Matrix { name: String, is_double: bool },
}

type Named<'a> = (Cow<'a, str>, SessionInputValue<'static>);

impl Feed {
    /// Checks that the inputs of the signature are those of the file.
    pub(super) fn new(manifest: &Manifest, onnx: &Onnx, file: &File) -> Result<Self, Error> {
        let inputs = manifest.signature.inputs.clone();
        let tensors = match &onnx.inputs {
            InputForm::Matrix { tensor } => matrix(&inputs, tensor, file)?,
            InputForm::Columns => columns(&inputs, file)?,
        };
        Ok(Self { inputs, tensors })
    }

    /// The tensors of rows, by name.
    pub(super) fn values(&self, rows: &RecordBatch) -> Result<Vec<Named<'_>>, Error> {
        match &self.tensors {
            Tensors::Matrix { name, is_double: false } => Ok(vec![(name.into(), self.matrix::<f32>(rows)?)]),
            Tensors::Matrix { name, is_double: true } => Ok(vec![(name.into(), self.matrix::<f64>(rows)?)]),
            Tensors::Columns(tensors) => self
                .inputs
                .iter()
                .zip(tensors)
                .enumerate()
                .map(|(position, (input, &(element, rank)))| {
                    let cells = cells(rows, input, position)?;
                    Ok((input.name.as_str().into(), tensor(input, &cells, element, rank)?))
                })
                .collect(),
        }
    }

    fn matrix<T: Float>(&self, rows: &RecordBatch) -> Result<SessionInputValue<'static>, Error> {
        let (count, width) = (rows.num_rows(), self.inputs.len());
        let column = |(position, input): (usize, &Input)| cells(rows, input, position);
        let columns = self.inputs.iter().enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
        let mut values = vec![T::MISSING; count * width];
        for start in (0..count).step_by(BLOCK) {
            let block = start..count.min(start + BLOCK);
            for (position, cells) in columns.iter().enumerate() {
                let slots = values[start * width..block.end * width].iter_mut().skip(position).step_by(width);
                fill(slots, cells, block.clone());
            }
        }
        primitive(vec![count, width], values)
    }
}

/// Writes the numbers of some rows of a column. Slots of missing values stay as they are.
fn fill<'a, T: Float>(slots: impl Iterator<Item = &'a mut T>, cells: &Cells<'_>, rows: Range<usize>) {
    match cells {
        // Most columns are such. An infinity counts as missing, as for [`Cells::number`].
        Cells::Float(column) if column.null_count() == 0 => {
            let finite = |number: f64| if number.is_finite() { T::of(number) } else { T::MISSING };
            slots.zip(&column.values()[rows]).for_each(|(slot, number)| *slot = finite(*number));
        }
        cells => slots.zip(rows).for_each(|(slot, row)| {
            if let Some(number) = number(cells, row) {
                *slot = T::of(number);
            }
        }),
    }
}

/// A float of either size.
trait Float: PrimitiveTensorElementType + Copy + std::fmt::Debug + 'static {
    const MISSING: Self;
    fn of(number: f64) -> Self;
}

impl Float for f32 {
    const MISSING: Self = Self::NAN;
    fn of(number: f64) -> Self {
        number as Self
    }
}

impl Float for f64 {
    const MISSING: Self = Self::NAN;
    fn of(number: f64) -> Self {
        number
    }
}

fn cells<'a>(rows: &'a RecordBatch, input: &Input, position: usize) -> Result<Cells<'a>, Error> {
    let array = column::find(rows, &input.name, position).ok_or_else(|| Error::InputMissing(input.name.clone()))?;
    Cells::of(array).ok_or_else(|| mistyped(input, array))
}

/// A row's number, of which booleans are 0 and 1, and instants milliseconds since 1970 UTC.
fn number(cells: &Cells<'_>, row: usize) -> Option<f64> {
    match cells {
        #[expect(clippy::cast_precision_loss, reason = "instants of the years 1 to 9999 are below 2^53")]
        Cells::Timestamp(_) => cells.timestamp(row).map(|instant| instant as f64),
        _ => cells.number(row),
    }
}

fn tensor(
    input: &Input,
    cells: &Cells<'_>,
    element: Element,
    rank: usize,
) -> Result<SessionInputValue<'static>, Error> {
    let rows = cells.rows();
    let shape = if rank == 1 { vec![rows] } else { vec![rows, 1] };
    let numbers = (0..rows).map(|row| number(cells, row));
    let missing = |row| Error::ValueMissing { input: input.name.clone(), row };
    match (element, cells) {
        (Element::Float, Cells::Int(_) | Cells::Float(_)) => {
            primitive(shape, numbers.map(|number| number.map_or(f32::NAN, f32::of)).collect())
        }
        (Element::Double, Cells::Int(_) | Cells::Float(_)) => {
            primitive(shape, numbers.map(|number| number.unwrap_or(f64::NAN)).collect())
        }
        (Element::Int64, Cells::Int(_) | Cells::Timestamp(_)) => {
            let integers = (0..rows).map(|row| cells.timestamp(row).ok_or_else(|| missing(row)));
            primitive(shape, integers.collect::<Result<Vec<_>, _>>()?)
        }
        (Element::Int32, Cells::Int(_)) => {
            let integers = (0..rows).map(|row| {
                let integer = cells.timestamp(row).ok_or_else(|| missing(row))?;
                i32::try_from(integer).map_err(|_| Error::OutOfRange { input: input.name.clone(), row, value: integer })
            });
            primitive(shape, integers.collect::<Result<Vec<_>, _>>()?)
        }
        (Element::Bool, Cells::Bool(_)) => {
            let booleans = (0..rows).map(|row| cells.boolean(row).ok_or_else(|| missing(row)));
            primitive(shape, booleans.collect::<Result<Vec<_>, _>>()?)
        }
        (Element::Text, Cells::Text(_)) => {
            let texts: Vec<String> = (0..rows).map(|row| cells.text(row).unwrap_or_default().to_owned()).collect();
            let tensor = Tensor::from_string_array((shape, texts.as_slice())).map_err(unfit)?;
            Ok(tensor.into())
        }
        (_, other) => Err(mistyped(input, other.array())),
    }
}

fn primitive<T>(shape: Vec<usize>, values: Vec<T>) -> Result<SessionInputValue<'static>, Error>
where
    T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    Ok(Tensor::from_array((shape, values)).map_err(unfit)?.into())
}

fn unfit(error: ort::Error) -> Error {
    Error::Run { problem: error.to_string() }
}

fn mistyped(input: &Input, array: &dyn Array) -> Error {
    Error::InputType {
        input: input.name.clone(),
        expected: input.arrow_type().to_string(),
        got: array.data_type().to_string(),
    }
}

fn matrix(inputs: &[Input], tensor: &str, file: &File) -> Result<Tensors, Error> {
    let [only] = file.inputs.as_slice() else {
        return Err(Error::invalid(MODEL, format!("it has {} inputs, expected {tensor:?} alone", file.inputs.len())));
    };
    let is_matrix =
        matches!(only.shape.as_slice(), [None, width] if width.is_none_or(|width| width == inputs.len() as u64));
    if only.name != tensor || !only.element.is_float() || !is_matrix {
        let problem =
            format!("its input {:?} is {only}, expected {tensor:?} with {} features", only.name, inputs.len());
        return Err(Error::invalid(MODEL, problem));
    }
    if let Some(text) = inputs.iter().find(|input| input.datatype == Datatype::Bytes) {
        return Err(Error::invalid(MODEL, format!("its input is floats, and {:?} is a text", text.name)));
    }
    Ok(Tensors::Matrix { name: tensor.to_owned(), is_double: only.element == Element::Double })
}

fn columns(inputs: &[Input], file: &File) -> Result<Tensors, Error> {
    if let Some(unknown) = file.inputs.iter().find(|outlet| !inputs.iter().any(|input| input.name == outlet.name)) {
        return Err(Error::invalid(MODEL, format!("its input {:?} is no input of the signature", unknown.name)));
    }
    let tensor = |input: &Input| {
        let outlet = file.inputs.iter().find(|outlet| outlet.name == input.name);
        let outlet = outlet.ok_or_else(|| Error::invalid(MODEL, format!("it has no input {:?}", input.name)))?;
        let rank = rank(outlet).ok_or_else(|| {
            let problem = format!("its input {:?} is {outlet}, expected [?] or [?, 1]", outlet.name);
            Error::invalid(MODEL, problem)
        })?;
        let fits = datatype(outlet.element).is_some_and(|(datatype, _)| datatype == input.datatype);
        let can_miss = outlet.element.is_float() || outlet.element == Element::Text;
        if !fits || (input.nullable && !can_miss) {
            let nullable = if input.nullable { "nullable " } else { "" };
            let problem = format!("its input {:?} is {outlet}, which is no {nullable}{}", outlet.name, input.datatype);
            return Err(Error::invalid(MODEL, problem));
        }
        Ok((outlet.element, rank))
    };
    inputs.iter().map(tensor).collect::<Result<_, _>>().map(Tensors::Columns)
}

/// The rank of an input with one feature; `None` for another.
pub(super) fn rank(outlet: &Outlet) -> Option<usize> {
    match outlet.shape.as_slice() {
        [None] => Some(1),
        [None, Some(1)] => Some(2),
        _ => None,
    }
}

/// The datatype of a signature for elements of a file, and the kind of the values; `None` if there is none.
pub(super) fn datatype(element: Element) -> Option<(Datatype, ColumnKind)> {
    Some(match element {
        Element::Float | Element::Double => (Datatype::Fp64, ColumnKind::Numeric),
        Element::Int32 | Element::Int64 => (Datatype::Int64, ColumnKind::Numeric),
        Element::Bool => (Datatype::Bool, ColumnKind::Boolean),
        Element::Text => (Datatype::Bytes, ColumnKind::Categorical),
        Element::Sequence | Element::Other(_) => return None,
    })
}
