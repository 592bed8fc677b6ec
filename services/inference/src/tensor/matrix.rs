//! All features of a model as one tensor of shape `[n, features]`, for models whose features are all numbers.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use rekindle_bundle::{Datatype, Input};

use super::{ElementType, Given, Inputs, InvalidInput, Tensor, numbers, shortened, timestamps, whole};

impl Inputs {
    /// Whether all features are numbers.
    pub(super) fn is_numeric(&self) -> bool {
        self.inputs.iter().all(|input| input.datatype != Datatype::Bytes)
    }

    /// Whether a tensor has all features: by its shape, and because no feature has its name.
    pub(super) fn is_matrix(&self, tensor: &Tensor<'_>) -> bool {
        let features = i64::try_from(self.inputs.len()).ok();
        let has_shape = matches!(*tensor.shape, [_, columns] if Some(columns) == features);
        has_shape && self.is_numeric() && !self.positions.contains_key(tensor.name)
    }

    /// The columns of a tensor with all features, in their order. No feature may be given beside it.
    pub(super) fn matrix(
        &self,
        tensor: &Tensor<'_>,
        rows: usize,
        given: &[Given<'_>],
    ) -> Result<Vec<ArrayRef>, InvalidInput> {
        let refused = |problem: String| InvalidInput::of_tensor(tensor.name, problem);
        if let Some((input, _)) = self.inputs.iter().zip(given).find(|(_, given)| given.is_given()) {
            let name = &input.name;
            return Err(refused(format!(
                "has all features, and so has {name:?} its own tensor: send one or the other"
            )));
        }
        let features = self.inputs.len();
        let datatype = ElementType::parse(tensor.datatype)
            .filter(|given| given.is_float())
            .ok_or_else(|| refused(format!("has datatype {:?}, expected FP32 or FP64", shortened(tensor.datatype))))?;
        let elements = rows.checked_mul(features).ok_or_else(|| refused("is too large".to_owned()))?;
        let values = tensor.elements.floats(datatype, elements).map_err(&refused)?;
        let column = |(at, input): (usize, &Input)| {
            let values: Vec<f64> = values[at..].iter().step_by(features).copied().collect();
            convert(input, values).map_err(|problem| refused(format!("column {at} ({}): {problem}", input.name)))
        };
        self.inputs.iter().enumerate().map(column).collect()
    }
}

/// The values of one feature in its own type.
fn convert(input: &Input, values: Vec<f64>) -> Result<ArrayRef, String> {
    let numbers = numbers(values, input.nullable, None)?;
    Ok(match input.datatype {
        Datatype::Int64 => Arc::new(timestamps(input, whole(&numbers)?)?),
        Datatype::Bool => {
            let flag = |(row, number): (usize, Option<f64>)| match number {
                None => Ok(None),
                Some(0.0) => Ok(Some(false)),
                Some(1.0) => Ok(Some(true)),
                Some(other) => Err(format!("row {row} is {other}, expected 0 or 1")),
            };
            let flags: BooleanArray = numbers.iter().enumerate().map(flag).collect::<Result<_, String>>()?;
            Arc::new(flags) as Arc<dyn Array>
        }
        Datatype::Fp32 | Datatype::Fp64 | Datatype::Bytes => Arc::new(numbers),
    })
}
