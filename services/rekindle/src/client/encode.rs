//! Rows of a table as prediction requests, typed by the metadata of the model.

use anyhow::{Context as _, Result, bail, ensure};
use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType},
};
use rekindle_client::inference::{Datatype, Elements, InferRequest, ModelMetadata, Parameter, Tensor, TensorMetadata};
use rekindle_dataset::Table;

/// The parameter that holds the event time of a request, in milliseconds since 1970-01-01 UTC.
pub(crate) const EVENT_TIME: &str = "event_time";
/// Integers up to this magnitude are exact as FP64.
const MAX_EXACT: u64 = 1 << 53;

/// Encodes any row of a table as a request. Columns that are not inputs of the model are omitted.
#[derive(Debug)]
pub(crate) struct RowEncoder {
    model: String,
    inputs: Vec<Input>,
    /// The time of each row, sent as the parameter `event_time`; `None` if an input is the time.
    event_times: Option<Vec<i64>>,
}

#[derive(Debug)]
struct Input {
    name: String,
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
    /// An encoder for a model. Fails if the table lacks an input, or has it in a type that does not fit.
    pub(crate) fn new(metadata: &ModelMetadata, table: &Table, time_column: Option<&str>) -> Result<Self> {
        let inputs = metadata.inputs.iter().map(|meta| input(meta, table)).collect::<Result<Vec<_>>>()?;
        let has_time = inputs.iter().any(|input| matches!(input.encode, Encode::Time));
        let event_times = match time_column {
            Some(column) if !has_time => Some(table.times(column)?.to_vec()),
            _ => None,
        };
        Ok(Self { model: metadata.name.clone(), inputs, event_times })
    }

    /// The request of one row.
    pub(crate) fn request(&self, row: usize) -> Result<InferRequest> {
        let tensor = |input: &Input| {
            let elements = input.elements(row).with_context(|| format!("row {row}, column {:?}", input.name))?;
            Ok(Tensor::column(input.name.clone(), elements))
        };
        let time = self.event_times.as_ref().map(|times| (EVENT_TIME.to_owned(), Parameter::Integer(times[row])));
        Ok(InferRequest {
            model: self.model.clone(),
            parameters: time.into_iter().collect(),
            inputs: self.inputs.iter().map(tensor).collect::<Result<_>>()?,
            ..InferRequest::default()
        })
    }
}

fn input(meta: &TensorMetadata, table: &Table) -> Result<Input> {
    let column = table.column(&meta.name).with_context(|| format!("the model requires the feature {:?}", meta.name))?;
    let encode = match (meta.datatype.parse::<Datatype>(), column.data_type()) {
        (Ok(Datatype::Int64), DataType::Int64) => Encode::Integer,
        (Ok(Datatype::Int64), DataType::Timestamp(..)) => Encode::Time,
        (Ok(Datatype::Fp64), DataType::Float64) => Encode::Float,
        (Ok(Datatype::Fp64), DataType::Int64) => Encode::IntegerAsFloat,
        (Ok(Datatype::Bool), DataType::Boolean) => Encode::Boolean,
        (Ok(Datatype::Bytes), DataType::Utf8) => Encode::Text,
        (_, found) => bail!("column {:?} is {found}: the model requires {}", meta.name, meta.datatype),
    };
    Ok(Input { name: meta.name.clone(), encode, column: column.clone() })
}

impl Input {
    /// The element of one row. Missing numbers are NaN and missing texts are empty; other types have no missing value.
    fn elements(&self, row: usize) -> Result<Elements> {
        let column = &self.column;
        let missing = column.is_null(row);
        Ok(match self.encode {
            Encode::Float | Encode::IntegerAsFloat if missing => Elements::Fp64(vec![f64::NAN]),
            Encode::Text if missing => Elements::Text(vec![String::new()]),
            _ if missing => bail!("the value is missing, but the input is not nullable"),
            Encode::Integer => Elements::Int64(vec![column.as_primitive::<Int64Type>().value(row)]),
            Encode::Time => Elements::Int64(vec![column.as_primitive::<TimestampMillisecondType>().value(row)]),
            Encode::Float => Elements::Fp64(vec![column.as_primitive::<Float64Type>().value(row)]),
            Encode::IntegerAsFloat => Elements::Fp64(vec![as_float(column.as_primitive::<Int64Type>().value(row))?]),
            Encode::Boolean => Elements::Bool(vec![column.as_boolean().value(row)]),
            Encode::Text => Elements::Text(vec![column.as_string::<i32>().value(row).to_owned()]),
        })
    }
}

fn as_float(integer: i64) -> Result<f64> {
    ensure!(
        integer.unsigned_abs() <= MAX_EXACT,
        "{integer} is not exact as FP64: expected a magnitude of at most 2^53"
    );
    #[expect(clippy::cast_precision_loss, reason = "checked above")]
    let float = integer as f64;
    Ok(float)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(inputs: &[(&str, &str)]) -> ModelMetadata {
        let tensor = |&(name, datatype): &(&str, &str)| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![-1, 1],
        };
        ModelMetadata {
            name: "m".to_owned(),
            versions: Vec::new(),
            platform: String::new(),
            inputs: inputs.iter().map(tensor).collect(),
            outputs: Vec::new(),
        }
    }

    fn table(csv: &str) -> Table {
        rekindle_dataset::read_csv(csv.as_bytes().to_vec().into()).expect("a table")
    }

    #[test]
    fn rows_are_encoded_in_the_types_of_the_model() {
        let table = table("t,n,x,s\n2024-01-01 00:00:01,3,1.5,a\n2024-01-01 00:00:02,4,,\n");
        let metadata = metadata(&[("n", "FP64"), ("x", "FP64"), ("s", "BYTES")]);
        let encoder = RowEncoder::new(&metadata, &table, Some("t")).expect("it fits");
        let first = encoder.request(0).expect("encoded");
        let elements: Vec<_> = first.inputs.iter().map(|input| input.elements.clone()).collect();
        let expected = [Elements::Fp64(vec![3.0]), Elements::Fp64(vec![1.5]), Elements::Text(vec!["a".into()])];
        assert_eq!(elements, expected);
        assert_eq!(first.parameters[EVENT_TIME], Parameter::Integer(1_704_067_201_000));
        let second = encoder.request(1).expect("encoded");
        assert!(matches!(&second.inputs[1].elements, Elements::Fp64(values) if values[0].is_nan()));
        assert_eq!(second.inputs[2].elements, Elements::Text(vec![String::new()]));
    }

    #[test]
    fn the_event_time_is_not_sent_twice() {
        let table = table("t,n\n2024-01-01 00:00:01,3\n");
        let encoder =
            RowEncoder::new(&metadata(&[("t", "INT64"), ("n", "INT64")]), &table, Some("t")).expect("it fits");
        let request = encoder.request(0).expect("encoded");
        assert_eq!(request.inputs[0].elements, Elements::Int64(vec![1_704_067_201_000]));
        assert!(request.parameters.is_empty());
    }

    #[test]
    fn what_cannot_be_encoded_is_named() {
        let table = table("n,big\n1,9007199254740993\n,1\n");
        let problem = |metadata: &ModelMetadata| match RowEncoder::new(metadata, &table, None) {
            Ok(encoder) => encoder.request(0).and_then(|_| encoder.request(1)).expect_err("a problem"),
            Err(problem) => problem,
        };
        for (input, words) in [
            (("other", "FP64"), "requires the feature \"other\""),
            (("n", "BOOL"), "requires BOOL"),
            (("n", "INT64"), "row 1, column \"n\": the value is missing"),
            (("big", "FP64"), "9007199254740993 is not exact"),
        ] {
            let problem = format!("{:#}", problem(&metadata(&[input])));
            assert!(problem.contains(words), "{problem}");
        }
    }
}
