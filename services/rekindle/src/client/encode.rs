//! Rows of a table as prediction requests, typed by the metadata of the model.

use anyhow::{Context as _, Result, bail, ensure};
use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType},
};
use rekindle_client::inference::{Datatype, Elements, InferRequest, ModelMetadata, Parameter, Tensor, TensorMetadata};
use rekindle_dataset::Table;
use rekindle_domain::Traffic;

/// The parameter that holds the event time of a request, in milliseconds since 1970-01-01 UTC.
pub(crate) const EVENT_TIME: &str = "event_time";
/// The parameter that says what a request is sent for.
pub(crate) const TRAFFIC: &str = "traffic";
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
    pub(crate) fn request(&self, row: usize, traffic: Traffic) -> Result<InferRequest> {
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            inputs.extend(input.tensors(row).with_context(|| format!("column {:?}", input.name))?);
        }
        let time = self.event_times.as_ref().map(|times| (EVENT_TIME.to_owned(), Parameter::Integer(times[row])));
        let traffic = (TRAFFIC.to_owned(), Parameter::Text(traffic.to_string()));
        Ok(InferRequest {
            model: self.model.clone(),
            parameters: time.into_iter().chain([traffic]).collect(),
            inputs,
            ..InferRequest::default()
        })
    }
}

fn input(meta: &TensorMetadata, table: &Table) -> Result<Input> {
    let column = table.column(&meta.name).with_context(|| format!("the model requires the feature {:?}", meta.name))?;
    let encode = match (meta.datatype.parse::<Datatype>(), column.data_type()) {
        (Ok(Datatype::Int64), DataType::Int64) => Encode::Integer,
        (Ok(Datatype::Int64), DataType::Timestamp(..)) => Encode::Time,
        // The replica checks that the numbers are whole.
        (Ok(Datatype::Fp64 | Datatype::Int64), DataType::Float64) => Encode::Float,
        (Ok(Datatype::Fp64), DataType::Int64) => Encode::IntegerAsFloat,
        (Ok(Datatype::Bool), DataType::Boolean) => Encode::Boolean,
        (Ok(Datatype::Bytes), DataType::Utf8) => Encode::Text,
        (_, found) => bail!("column {:?} is {found}: the model requires {}", meta.name, meta.datatype),
    };
    Ok(Input { name: meta.name.clone(), encode, column: column.clone() })
}

impl Input {
    /// The tensors of one row. A missing number is NaN and a missing text is empty; a missing value of another type has a placeholder, and a
    /// second tensor marks it.
    fn tensors(&self, row: usize) -> Result<Vec<Tensor>> {
        let column = &self.column;
        if column.is_null(row) {
            return Ok(missing(&self.name, self.encode.placeholder()));
        }
        let elements = match self.encode {
            Encode::Integer => Elements::Int64(vec![column.as_primitive::<Int64Type>().value(row)]),
            Encode::Time => Elements::Int64(vec![column.as_primitive::<TimestampMillisecondType>().value(row)]),
            Encode::Float => Elements::Fp64(vec![column.as_primitive::<Float64Type>().value(row)]),
            Encode::IntegerAsFloat => Elements::Fp64(vec![as_float(column.as_primitive::<Int64Type>().value(row))?]),
            Encode::Boolean => Elements::Bool(vec![column.as_boolean().value(row)]),
            Encode::Text => Elements::Text(vec![column.as_string::<i32>().value(row).to_owned()]),
        };
        Ok(vec![Tensor::column(self.name.clone(), elements)])
    }
}

impl Encode {
    fn placeholder(self) -> Datatype {
        match self {
            Self::Integer | Self::Time => Datatype::Int64,
            Self::Float | Self::IntegerAsFloat => Datatype::Fp64,
            Self::Boolean => Datatype::Bool,
            Self::Text => Datatype::Bytes,
        }
    }
}

/// The tensors of one missing value.
pub(crate) fn missing(name: &str, datatype: Datatype) -> Vec<Tensor> {
    let (elements, is_marked) = match datatype {
        Datatype::Fp64 => (Elements::Fp64(vec![f64::NAN]), false),
        Datatype::Fp32 => (Elements::Fp32(vec![f32::NAN]), false),
        Datatype::Bytes => (Elements::Text(vec![String::new()]), false),
        Datatype::Int64 => (Elements::Int64(vec![0]), true),
        Datatype::Bool => (Elements::Bool(vec![false]), true),
    };
    let marked = is_marked.then(|| Tensor::column(format!("{name}.valid"), Elements::Bool(vec![false])));
    [Tensor::column(name, elements)].into_iter().chain(marked).collect()
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
        let first = encoder.request(0, Traffic::Replay).expect("encoded");
        let elements: Vec<_> = first.inputs.iter().map(|input| input.elements.clone()).collect();
        let expected = [Elements::Fp64(vec![3.0]), Elements::Fp64(vec![1.5]), Elements::Text(vec!["a".into()])];
        assert_eq!(elements, expected);
        assert_eq!(first.parameters[EVENT_TIME], Parameter::Integer(1_704_067_201_000));
        let second = encoder.request(1, Traffic::Replay).expect("encoded");
        assert!(matches!(&second.inputs[1].elements, Elements::Fp64(values) if values[0].is_nan()));
        assert_eq!(second.inputs[2].elements, Elements::Text(vec![String::new()]));
    }

    #[test]
    fn the_event_time_is_not_sent_twice() {
        let table = table("t,n\n2024-01-01 00:00:01,3\n");
        let encoder =
            RowEncoder::new(&metadata(&[("t", "INT64"), ("n", "INT64")]), &table, Some("t")).expect("it fits");
        let request = encoder.request(0, Traffic::Replay).expect("encoded");
        assert_eq!(request.inputs[0].elements, Elements::Int64(vec![1_704_067_201_000]));
        assert_eq!(request.parameters, [(TRAFFIC.to_owned(), Parameter::Text("replay".to_owned()))].into());
    }

    #[test]
    fn a_missing_value_is_marked_and_what_cannot_be_encoded_is_named() {
        let table = table("n,big\n1,9007199254740993\n,1\n");
        let encoder = RowEncoder::new(&metadata(&[("n", "INT64")]), &table, None).expect("it fits");
        let missing = encoder.request(1, Traffic::Test).expect("encoded").inputs;
        let expected = [("n", Elements::Int64(vec![0])), ("n.valid", Elements::Bool(vec![false]))];
        assert_eq!(missing, expected.map(|(name, elements)| Tensor::column(name, elements)));
        let problem = |metadata: &ModelMetadata| match RowEncoder::new(metadata, &table, None) {
            Ok(encoder) => encoder
                .request(0, Traffic::Replay)
                .and_then(|_| encoder.request(1, Traffic::Replay))
                .expect_err("a problem"),
            Err(problem) => problem,
        };
        for (input, words) in [
            (("other", "FP64"), "requires the feature \"other\""),
            (("n", "BOOL"), "requires BOOL"),
            (("big", "FP64"), "9007199254740993 is not exact"),
        ] {
            let problem = format!("{:#}", problem(&metadata(&[input])));
            assert!(problem.contains(words), "{problem}");
        }
    }
}
