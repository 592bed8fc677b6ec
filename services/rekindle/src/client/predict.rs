//! `rekindle predict`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use rekindle_client::{
    Inference,
    inference::{Datatype, Elements, InferRequest, InferResponse, ModelMetadata, Parameter, Tensor, TensorMetadata},
    wire,
};
use rekindle_domain::{ModelName, Traffic};
use serde_json::{Map, Value, json};

use super::{
    Global,
    encode::{EVENT_TIME, RowEncoder, TRAFFIC, missing},
    exit,
    failures::Failures,
    file, output, parse, tensor,
};
use crate::reading::ReadArgs;

/// The arguments of `rekindle predict`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without features, the command lists the inputs of the model. The requests are tests unless --traffic says otherwise: they are logged,
and enter no monitoring window. Rows of a file that fail are named, and the others are predicted; then the exit code is 3.

Examples:
  rekindle predict flight-delay
  rekindle predict flight-delay carrier=UA origin=EWR distance=1400 dep_delay=3.5 time_hour=2013-05-01T06:00:00Z
  rekindle predict flight-delay --file flights.csv --rows 5 --json")]
pub(crate) struct Args {
    /// Model name
    model: ModelName,
    /// Feature values; an empty value is a missing value
    #[arg(value_name = "FEATURE=VALUE", value_parser = parse::pair, conflicts_with = "file")]
    features: Vec<(String, String)>,
    /// Predict the rows of a CSV or Parquet file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Maximum number of rows of the file
    #[arg(long, value_name = "N", default_value_t = 10, requires = "file")]
    rows: usize,
    /// Model version that must serve the request; by default the deployed version
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// Event time of the rows, for a model without a time feature
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    event_time: Option<chrono::DateTime<chrono::Utc>>,
    /// What the requests are sent for: test (which is not monitored), live, or replay (rows of the past, which are monitored)
    #[arg(long, value_name = "TRAFFIC", default_value_t = Traffic::Test)]
    traffic: Traffic,
    #[command(flatten)]
    reading: ReadArgs,
}

/// Predicts. Returns whether every row of a file was answered.
pub(crate) async fn run(args: Args, global: &Global) -> Result<bool> {
    let replicas = global.platform()?.replicas().await?;
    let replica = replicas.first().context("no inference replica is known")?;
    let metadata = replica.model_metadata(args.model.as_str()).await?;
    if args.features.is_empty() && args.file.is_none() {
        inputs(&metadata, global);
        return Ok(true);
    }
    let Some(path) = &args.file else {
        let request = request(&metadata, &args.features)?;
        print(vec![args.answer(replica, request).await?], global);
        return Ok(true);
    };
    let table = file::read_for(&metadata, path, &args.reading.options(None)?)?;
    let encoder = RowEncoder::new(&metadata, &table, None)?;
    let (mut answers, mut failures) = (Vec::new(), Failures::default());
    for row in 0..table.rows().min(args.rows) {
        let answer = match encoder.request(row, args.traffic) {
            Ok(request) => args.answer(replica, request).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => answers.push(answer),
            // Without a replica, no row can be answered.
            Err(error) if exit::is_unreachable(&error) => return Err(error),
            Err(error) => failures.add(row, &error),
        }
    }
    print(answers, global);
    failures.print();
    Ok(failures.count == 0)
}

impl Args {
    async fn answer(&self, replica: &Inference, mut request: InferRequest) -> Result<Value> {
        request.version = self.version;
        request.parameters.insert(TRAFFIC.to_owned(), Parameter::Text(self.traffic.to_string()));
        if let Some(time) = self.event_time {
            request.parameters.insert(EVENT_TIME.to_owned(), Parameter::Integer(time.timestamp_millis()));
        }
        Ok(answer(&replica.infer(request).await?))
    }
}

fn inputs(metadata: &ModelMetadata, global: &Global) {
    global.format().list(&metadata.inputs, wire::inference::tensor_to_json, &["feature", "type"], |input| {
        vec![input.name.clone(), input.datatype.clone()]
    });
}

/// A request of one row, each value parsed as the type of its input.
fn request(metadata: &ModelMetadata, features: &[(String, String)]) -> Result<InferRequest> {
    let known = || metadata.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ");
    for (name, _) in features {
        if !metadata.inputs.iter().any(|input| input.name == *name) {
            bail!("{name:?} is not a feature of {}: its features are {}", metadata.name, known());
        }
    }
    let mut inputs = Vec::with_capacity(metadata.inputs.len());
    for input in &metadata.inputs {
        let value = features.iter().find(|(name, _)| *name == input.name);
        let (_, value) =
            value.with_context(|| format!("{:?} is missing: the features of the model are {}", input.name, known()))?;
        inputs.extend(tensors(input, value)?);
    }
    Ok(InferRequest { model: metadata.name.clone(), inputs, ..InferRequest::default() })
}

/// The tensors of one value. An INT64 input also accepts a time.
fn tensors(input: &TensorMetadata, value: &str) -> Result<Vec<Tensor>> {
    let invalid = |expected: &str| format!("{}={value}: expected {expected}", input.name);
    let datatype: Datatype = input.datatype.parse().with_context(|| format!("input {:?}", input.name))?;
    if value.is_empty() {
        return Ok(missing(&input.name, datatype));
    }
    let elements = match datatype {
        Datatype::Int64 => {
            let integer = value.parse().ok();
            let integer = integer.or_else(|| parse::time(value).ok().map(|time| time.timestamp_millis()));
            Elements::Int64(vec![integer.with_context(|| invalid("an integer or a time"))?])
        }
        Datatype::Fp64 => Elements::Fp64(vec![value.parse().with_context(|| invalid("a number"))?]),
        Datatype::Fp32 => Elements::Fp32(vec![value.parse().with_context(|| invalid("a number"))?]),
        Datatype::Bool => Elements::Bool(vec![value.parse().with_context(|| invalid("true or false"))?]),
        Datatype::Bytes => Elements::Text(vec![value.to_owned()]),
    };
    Ok(vec![Tensor::column(input.name.clone(), elements)])
}

fn print(answers: Vec<Value>, global: &Global) {
    if global.json {
        output::print_json(&Value::Array(answers));
        return;
    }
    let text = |answer: &Value, name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let lines = answers.iter().map(|answer| {
        let outputs = answer["outputs"].as_object().into_iter().flatten();
        let outputs: Vec<_> = outputs.map(|(name, values)| format!("{name} {}", tensor::plain(values))).collect();
        vec![text(answer, "prediction_id"), text(answer, "model_version"), outputs.join(", "), text(answer, "replica")]
    });
    output::print_table(&["prediction", "version", "output", "replica"], lines);
}

/// The response with its text parameters, and its outputs by name.
fn answer(response: &InferResponse) -> Value {
    let mut fields = Map::new();
    fields.insert("model".into(), json!(response.model));
    fields.insert("model_version".into(), json!(response.version));
    for (name, parameter) in &response.parameters {
        if let Parameter::Text(text) = parameter {
            fields.insert(name.clone(), json!(text));
        }
    }
    let outputs = response.outputs.iter().map(|output| (output.name.clone(), tensor::to_json(&output.elements)));
    fields.insert("outputs".into(), Value::Object(outputs.collect()));
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(inputs: &[(&str, &str)]) -> ModelMetadata {
        let input = |&(name, datatype): &(&str, &str)| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![-1, 1],
        };
        ModelMetadata {
            name: "m".to_owned(),
            versions: Vec::new(),
            platform: String::new(),
            inputs: inputs.iter().map(input).collect(),
            outputs: Vec::new(),
        }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_become_elements_in_the_order_of_the_inputs() {
        let metadata = metadata(&[("at", "INT64"), ("x", "FP64"), ("on", "BOOL"), ("who", "BYTES")]);
        let given = pairs(&[("who", "UA"), ("x", "1.5"), ("on", "true"), ("at", "1970-01-01T00:00:01Z")]);
        let request = request(&metadata, &given).expect("valid");
        let elements: Vec<_> = request.inputs.into_iter().map(|input| input.elements).collect();
        let expected = [
            Elements::Int64(vec![1000]),
            Elements::Fp64(vec![1.5]),
            Elements::Bool(vec![true]),
            Elements::Text(vec!["UA".to_owned()]),
        ];
        assert_eq!(elements, expected);
    }

    #[test]
    fn an_invalid_feature_is_named() {
        let metadata = metadata(&[("x", "FP64")]);
        for (given, word) in [(&[("y", "1")][..], "\"y\""), (&[], "\"x\" is missing"), (&[("x", "one")], "x=one")] {
            let problem = request(&metadata, &pairs(given)).expect_err(word);
            assert!(format!("{problem:#}").contains(word), "{problem:#}");
        }
    }
}
