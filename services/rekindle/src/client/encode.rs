//! Rows of a table as inference requests, typed by the model's own metadata.

use anyhow::{Context as _, Result, bail, ensure};
use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType},
};
use bytes::Bytes;
use rekindle_dataset::Table;
use rekindle_proto::inference::{
    InferParameter, ModelInferRequest, ModelMetadataResponse, infer_parameter::ParameterChoice,
    model_infer_request::InferInputTensor, model_metadata_response::TensorMetadata,
};

/// Makes a request of any row of a table. Columns that the model does not take are left out.
#[derive(Debug)]
pub(crate) struct RowEncoder {
    model: String,
    inputs: Vec<Input>,
    /// The time of each row, where the model takes no time itself; sent as the request's `event_time`.
    event_times: Option<Vec<i64>>,
}

#[derive(Debug)]
struct Input {
    tensor: InferInputTensor,
    encode: Encode,
    column: ArrayRef,
}

#[derive(Debug, Clone, Copy)]
enum Encode {
    Integer,
    Time,
    Float,
    IntegerAsFloat,
    Boolean,
    Text,
}

impl RowEncoder {
    /// An encoder for a model, by its metadata. Fails where the table lacks a feature, or holds one in a type that does not fit.
    pub(crate) fn new(metadata: &ModelMetadataResponse, table: &Table, time_column: Option<&str>) -> Result<Self> {
        let inputs = metadata.inputs.iter().map(|meta| input(meta, table)).collect::<Result<Vec<_>>>()?;
        let knows_time = inputs.iter().any(|input| matches!(input.encode, Encode::Time));
        let event_times = match time_column {
            Some(column) if !knows_time => Some(table.times(column)?.to_vec()),
            _ => None,
        };
        Ok(Self { model: metadata.name.clone(), inputs, event_times })
    }

    /// The request of one row.
    pub(crate) fn request(&self, row: usize) -> Result<ModelInferRequest> {
        let raw = self
            .inputs
            .iter()
            .map(|input| input.element(row).with_context(|| format!("row {row}, column {:?}", input.tensor.name)));
        let mut request = ModelInferRequest {
            model_name: self.model.clone(),
            inputs: self.inputs.iter().map(|input| input.tensor.clone()).collect(),
            raw_input_contents: raw.collect::<Result<_>>()?,
            ..Default::default()
        };
        if let Some(times) = &self.event_times {
            let time = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(times[row])) };
            request.parameters.insert("event_time".into(), time);
        }
        Ok(request)
    }
}

fn input(meta: &TensorMetadata, table: &Table) -> Result<Input> {
    let column = table.column(&meta.name).with_context(|| format!("the model takes a feature {:?}", meta.name))?;
    let encode = match (meta.datatype.as_str(), column.data_type()) {
        ("INT64", DataType::Int64) => Encode::Integer,
        ("INT64", DataType::Timestamp(..)) => Encode::Time,
        ("FP64", DataType::Float64) => Encode::Float,
        ("FP64", DataType::Int64) => Encode::IntegerAsFloat,
        ("BOOL", DataType::Boolean) => Encode::Boolean,
        ("BYTES", DataType::Utf8) => Encode::Text,
        (wanted, found) => bail!("column {:?} holds {found}; the model takes {wanted}", meta.name),
    };
    let tensor = InferInputTensor {
        name: meta.name.clone(),
        datatype: meta.datatype.clone(),
        shape: vec![1, 1],
        ..Default::default()
    };
    Ok(Input { tensor, encode, column: column.clone() })
}

impl Input {
    fn element(&self, row: usize) -> Result<Bytes> {
        let column = &self.column;
        let missing = column.is_null(row);
        Ok(match self.encode {
            Encode::Float if missing => f64::NAN.to_le_bytes().to_vec().into(),
            Encode::IntegerAsFloat if missing => f64::NAN.to_le_bytes().to_vec().into(),
            Encode::Text if missing => text(""),
            _ if missing => bail!("there is no value, and the model takes none missing here"),
            Encode::Integer => column.as_primitive::<Int64Type>().value(row).to_le_bytes().to_vec().into(),
            Encode::Time => column.as_primitive::<TimestampMillisecondType>().value(row).to_le_bytes().to_vec().into(),
            Encode::Float => column.as_primitive::<Float64Type>().value(row).to_le_bytes().to_vec().into(),
            Encode::IntegerAsFloat => as_float(column.as_primitive::<Int64Type>().value(row))?,
            Encode::Boolean => vec![u8::from(column.as_boolean().value(row))].into(),
            Encode::Text => text(column.as_string::<i32>().value(row)),
        })
    }
}

fn as_float(integer: i64) -> Result<Bytes> {
    ensure!(integer.unsigned_abs() <= 1 << 53, "{integer} is too large to be sent as FP64 without loss");
    #[expect(clippy::cast_precision_loss, reason = "checked above")]
    let float = integer as f64;
    Ok(float.to_le_bytes().to_vec().into())
}

/// A BYTES element: its length in 4 little-endian bytes, then itself.
pub(crate) fn text(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes(), text.as_bytes()].concat().into()
}
