//! A model's rows are predicted one by one and together, to see that neither changes the other.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray},
    datatypes::{Field, Schema},
};

use super::TOLERANCE;
use crate::{Datatype, Error, Input, Signature, engine::Outputs, manifest::MODEL};

/// Rows that are tried.
const ROWS: usize = 3;

/// Runs a few different rows in batches of other sizes.
///
/// # Errors
/// The model fails, its scores are not those of the manifest, or the answer to a row depends on the others.
pub(crate) fn check(signature: &Signature, run: impl Fn(&RecordBatch) -> Result<Outputs, Error>) -> Result<(), Error> {
    let rows = rows(signature)?;
    let together = scores(run(&rows)?)?;
    let width = together.len() / ROWS;
    for row in 0..ROWS {
        let alone = scores(run(&rows.slice(row, 1))?)?;
        let among = &together[row * width..(row + 1) * width];
        if let Some((one, other)) = alone.iter().zip(among).find(|(one, other)| !is_close(**one, **other)) {
            let problem = format!(
                "the answer to a row depends on the other rows of its batch: {one} alone and {other} among {ROWS}: export \
                 the model without operations over the batch"
            );
            return Err(Error::invalid(MODEL, problem));
        }
    }
    Ok(())
}

fn is_close(one: f32, other: f32) -> bool {
    one == other || (one.is_nan() && other.is_nan()) || (one - other).abs() <= TOLERANCE * one.abs().max(1.0)
}

/// The scores, if they are what they are said to be.
fn scores(outputs: Outputs) -> Result<Vec<f32>, Error> {
    match outputs {
        Outputs::Raw(raw) => Ok(raw),
        Outputs::Probabilities(probabilities) => {
            let valid = -TOLERANCE..=1.0 + TOLERANCE;
            match probabilities.iter().find(|probability| !probability.is_nan() && !valid.contains(*probability)) {
                Some(other) => Err(Error::invalid(
                    MODEL,
                    format!("{other} is no probability: name another output, or import its scores as logits"),
                )),
                None => Ok(probabilities),
            }
        }
    }
}

fn rows(signature: &Signature) -> Result<RecordBatch, Error> {
    let inputs = &signature.inputs;
    let fields: Vec<Field> =
        inputs.iter().map(|input| Field::new(&input.name, input.arrow_type(), input.nullable)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), inputs.iter().map(values).collect())
        .map_err(|error| Error::invalid("signature", error))
}

/// Values of [`ROWS`] rows.
fn values(input: &Input) -> ArrayRef {
    match input.datatype {
        Datatype::Bool => Arc::new(BooleanArray::from(vec![false, true, false])),
        Datatype::Int64 => Arc::new(Int64Array::from(vec![0, 1, 0])),
        Datatype::Fp64 | Datatype::Fp32 => Arc::new(Float64Array::from(vec![0.0, 1.0, -1.0])),
        Datatype::Bytes => Arc::new(StringArray::from(vec!["", "a", ""])),
    }
}
