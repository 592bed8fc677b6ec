//! The answer to a prediction request: JSON, and after it the elements of the outputs that are to be binary.

use std::collections::BTreeMap;

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;
use rekindle_bundle::Values;
use serde::Serialize;
use serde_json::Value;

use super::request::{JSON_LENGTH, Message};
use crate::{infer::Answer, tensor::output::explained};

#[derive(Serialize)]
struct Json<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    parameters: BTreeMap<&'a str, String>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

#[derive(Serialize)]
struct Size {
    binary_data_size: usize,
}

/// Elements in row-major order.
#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Singles(&'a [f32]),
    Doubles(&'a [f64]),
    Texts(Vec<&'a str>),
}

/// The response to `message`.
pub(super) fn encode(model: &str, answer: &Answer<'_>, message: &Message<'_>) -> Response<Body> {
    let version = answer.version;
    let (mut outputs, mut binary) = (Vec::new(), Vec::new());
    for (position, tensor) in version.outputs.tensors(&answer.outputs, &answer.prediction).enumerate() {
        let raw = message.is_binary(position).then(|| tensor.raw());
        let data = match tensor.values {
            _ if raw.is_some() => None,
            Values::Fp32 { values, .. } => Some(Data::Singles(values)),
            Values::Text(texts) => Some(Data::Texts(texts.iter().map(AsRef::as_ref).collect())),
        };
        outputs.push(Output {
            name: tensor.name,
            datatype: tensor.datatype,
            shape: tensor.shape,
            parameters: raw.as_ref().map(|raw| Size { binary_data_size: raw.len() }),
            data,
        });
        binary.extend(raw);
    }
    for (name, width, elements) in answer.explanation.iter().flat_map(explained) {
        outputs.push(Output {
            name,
            datatype: "FP64",
            shape: [answer.prediction.rows, width].map(|size| i64::try_from(size).unwrap_or(i64::MAX)).to_vec(),
            parameters: None,
            data: Some(Data::Doubles(elements)),
        });
    }
    let parameters = answer.parameters().collect();
    let body = Json { model_name: model, model_version: &version.number, id: answer.request_id, parameters, outputs };
    let json = serde_json::to_vec(&body).expect("texts and numbers have a JSON form");
    respond(json, binary)
}

/// A response in JSON.
pub(super) fn json(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = respond(body.to_string().into_bytes(), Vec::new());
    *response.status_mut() = status;
    response
}

fn respond(json: Vec<u8>, binary: Vec<Bytes>) -> Response<Body> {
    let is_binary = !binary.is_empty();
    let (length, mut body) = (json.len(), json);
    binary.iter().for_each(|elements| body.extend_from_slice(elements));
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    let kind = if is_binary { "application/octet-stream" } else { "application/json" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if is_binary {
        headers.insert(JSON_LENGTH, length.into());
    }
    response
}
