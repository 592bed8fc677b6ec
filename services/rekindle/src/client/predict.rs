//! `rekindle predict`: answers for a row given as words, or for the rows of a file.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use rekindle_proto::{
    client::channel,
    inference::{
        InferParameter, ModelInferRequest, ModelInferResponse, ModelMetadataResponse,
        grpc_inference_service_client::GrpcInferenceServiceClient, infer_parameter::ParameterChoice,
        model_infer_request::InferInputTensor, model_metadata_response::TensorMetadata,
    },
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{
    Global,
    connection::Connection,
    encode::{RowEncoder, text},
    file, output, parse,
    replay::{REQUEST_TIMEOUT, metadata},
};

/// What to predict.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without features, the model's inputs are listed.

Examples:
  rekindle predict flight-delay
  rekindle predict flight-delay carrier=UA origin=EWR distance=1400 dep_delay=3.5 time_hour=2013-05-01T06:00:00Z
  rekindle predict flight-delay --file flights.csv --rows 5 --json")]
pub(crate) struct Args {
    /// The model
    model: String,
    /// Features and their values; an empty value is a missing one
    #[arg(value_name = "FEATURE=VALUE", value_parser = parse::pair, conflicts_with = "file")]
    features: Vec<(String, String)>,
    /// Take the rows of a CSV or Parquet file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Take at most so many rows of the file
    #[arg(long, value_name = "N", default_value_t = 10, requires = "file")]
    rows: usize,
    /// The version that must answer; by default whichever serves
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// When the rows happened, for a model that takes no time itself
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    event_time: Option<chrono::DateTime<chrono::Utc>>,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<()> {
    let mut client = replica(&global.connect()?).await?;
    let meta = metadata(client.clone(), &args.model).await?;
    if args.features.is_empty() && args.file.is_none() {
        return inputs(&meta, global);
    }
    let mut requests = match &args.file {
        Some(path) => rows(&meta, path, args.rows)?,
        None => vec![request(&meta, &args.features)?],
    };
    let mut answers = Vec::with_capacity(requests.len());
    for mut request in requests.drain(..) {
        request.model_version = args.version.map(|version| version.to_string()).unwrap_or_default();
        if let Some(time) = args.event_time {
            let time = ParameterChoice::Int64Param(time.timestamp_millis());
            request.parameters.insert("event_time".into(), InferParameter { parameter_choice: Some(time) });
        }
        answers.push(client.model_infer(request).await.context("the request was refused")?.into_inner());
    }
    print(&answers, global)
}

/// The first replica that is known.
async fn replica(connection: &Connection) -> Result<GrpcInferenceServiceClient<Channel>> {
    let replicas = connection.replicas().await?;
    let address = replicas.first().context("no inference replica is known")?;
    Ok(GrpcInferenceServiceClient::new(channel(&format!("http://{address}"), REQUEST_TIMEOUT)?))
}

fn inputs(meta: &ModelMetadataResponse, global: &Global) -> Result<()> {
    global.format().list(&meta.inputs, &["feature", "type"], |input| vec![input.name.clone(), input.datatype.clone()]);
    Ok(())
}

fn rows(meta: &ModelMetadataResponse, path: &std::path::Path, rows: usize) -> Result<Vec<ModelInferRequest>> {
    let table = file::read(path)?;
    let encoder = RowEncoder::new(meta, &table, None)?;
    (0..table.rows().min(rows)).map(|row| encoder.request(row)).collect()
}

/// A request of one row, each value read as the model's metadata has it.
fn request(meta: &ModelMetadataResponse, features: &[(String, String)]) -> Result<ModelInferRequest> {
    let known = || meta.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ");
    for (name, _) in features {
        if !meta.inputs.iter().any(|input| input.name == *name) {
            bail!("{name:?} is no feature of {}: it takes {}", meta.name, known());
        }
    }
    let mut request = ModelInferRequest { model_name: meta.name.clone(), ..Default::default() };
    for input in &meta.inputs {
        let value = features.iter().find(|(name, _)| *name == input.name);
        let (_, value) = value.with_context(|| format!("{:?} is missing: the model takes {}", input.name, known()))?;
        request.raw_input_contents.push(element(input, value)?);
        request.inputs.push(InferInputTensor {
            name: input.name.clone(),
            datatype: input.datatype.clone(),
            shape: vec![1, 1],
            ..Default::default()
        });
    }
    Ok(request)
}

/// One element, little-endian. A time may be written out for an INT64 input.
fn element(input: &TensorMetadata, value: &str) -> Result<Bytes> {
    let wrong = |expected: &str| format!("{}={value}: expected {expected}", input.name);
    Ok(match input.datatype.as_str() {
        "INT64" => {
            let number =
                value.parse::<i64>().ok().or_else(|| parse::time(value).ok().map(|time| time.timestamp_millis()));
            Bytes::copy_from_slice(&number.with_context(|| wrong("a whole number or a time"))?.to_le_bytes())
        }
        "FP64" if value.is_empty() => Bytes::copy_from_slice(&f64::NAN.to_le_bytes()),
        "FP64" => Bytes::copy_from_slice(&value.parse::<f64>().with_context(|| wrong("a number"))?.to_le_bytes()),
        "BOOL" => Bytes::copy_from_slice(&[u8::from(value.parse::<bool>().with_context(|| wrong("true or false"))?)]),
        "BYTES" => text(value),
        other => bail!("{} is of type {other}, which this program cannot send", input.name),
    })
}

/// Elements of an output tensor as JSON.
pub(crate) fn decode(datatype: &str, raw: &[u8]) -> Result<Value> {
    match datatype {
        "FP32" => {
            ensure!(raw.len().is_multiple_of(4), "an FP32 tensor of {} bytes", raw.len());
            Ok(raw.chunks_exact(4).map(|b| single(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect())
        }
        "BYTES" => {
            let (mut texts, mut rest) = (Vec::new(), raw);
            while let Some((length, tail)) = rest.split_first_chunk::<4>() {
                let length = u32::from_le_bytes(*length) as usize;
                let (text, tail) = tail.split_at_checked(length).context("a BYTES tensor that ends too early")?;
                texts.push(Value::String(String::from_utf8_lossy(text).into_owned()));
                rest = tail;
            }
            ensure!(rest.is_empty(), "a BYTES tensor with {} bytes left over", rest.len());
            Ok(Value::Array(texts))
        }
        other => bail!("an output of type {other}, which this program cannot read"),
    }
}

/// A single in the fewest digits that tell it from all others; as a double it would show digits that it does not have.
fn single(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, |value| json!(value))
}

fn print(answers: &[ModelInferResponse], global: &Global) -> Result<()> {
    let answers = answers.iter().map(answer).collect::<Result<Vec<Value>>>()?;
    if global.json {
        output::print_json(&Value::Array(answers));
        return Ok(());
    }
    let text = |answer: &Value, name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let lines = answers.iter().map(|answer| {
        let outputs = answer["outputs"].as_object().into_iter().flatten();
        let outputs: Vec<_> = outputs.map(|(name, values)| format!("{name} {}", plain(values))).collect();
        vec![text(answer, "prediction_id"), text(answer, "model_version"), outputs.join(", "), text(answer, "replica")]
    });
    output::print_table(&["prediction", "version", "answer", "replica"], lines);
    Ok(())
}

/// An answer with its outputs by name.
fn answer(response: &ModelInferResponse) -> Result<Value> {
    let mut told = serde_json::Map::new();
    told.insert("model".into(), json!(response.model_name));
    told.insert("model_version".into(), json!(response.model_version));
    for (name, parameter) in &response.parameters {
        if let Some(ParameterChoice::StringParam(text)) = &parameter.parameter_choice {
            told.insert(name.clone(), json!(text));
        }
    }
    let outputs = response.outputs.iter().zip(&response.raw_output_contents);
    let outputs = outputs.map(|(output, raw)| Ok((output.name.clone(), decode(&output.datatype, raw)?)));
    told.insert("outputs".into(), Value::Object(outputs.collect::<Result<_>>()?));
    Ok(Value::Object(told))
}

/// Values of one row without the marks of JSON.
pub(crate) fn plain(values: &Value) -> String {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    values.as_array().map(|values| values.iter().map(word).collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(inputs: &[(&str, &str)]) -> ModelMetadataResponse {
        let input = |(name, datatype): &(&str, &str)| TensorMetadata {
            name: (*name).into(),
            datatype: (*datatype).into(),
            shape: vec![-1, 1],
        };
        ModelMetadataResponse { name: "m".into(), inputs: inputs.iter().map(input).collect(), ..Default::default() }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn words_become_little_endian_elements_in_the_models_order() {
        let meta = meta(&[("at", "INT64"), ("x", "FP64"), ("on", "BOOL"), ("who", "BYTES")]);
        let given = pairs(&[("who", "UA"), ("x", "1.5"), ("on", "true"), ("at", "1970-01-01T00:00:01Z")]);
        let request = request(&meta, &given).expect("valid");
        let expected: [&[u8]; 4] = [&1000i64.to_le_bytes(), &1.5f64.to_le_bytes(), &[1], b"\x02\0\0\0UA"];
        assert_eq!(request.raw_input_contents, expected);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let meta = meta(&[("x", "FP64")]);
        for (given, word) in [(&[("y", "1")][..], "\"y\""), (&[], "\"x\" is missing"), (&[("x", "one")], "x=one")] {
            let problem = request(&meta, &pairs(given)).expect_err(word);
            assert!(format!("{problem:#}").contains(word), "{problem:#}");
        }
    }

    #[test]
    fn outputs_are_read_back() {
        let singles = [0.25f32.to_le_bytes(), 0.75f32.to_le_bytes()].concat();
        assert_eq!(decode("FP32", &singles).expect("singles"), json!([0.25, 0.75]));
        assert_eq!(decode("FP32", &0.1f32.to_le_bytes()).expect("a single").to_string(), "[0.1]");
        assert_eq!(decode("BYTES", b"\x01\0\0\0a\x02\0\0\0bc").expect("texts"), json!(["a", "bc"]));
        assert!(decode("BYTES", b"\x09\0\0\0a").is_err() && decode("FP32", b"abc").is_err());
    }
}
