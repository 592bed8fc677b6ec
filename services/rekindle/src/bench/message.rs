//! Requests in the form in which they are sent.

use std::collections::BTreeMap;

use rekindle_client::{
    inference::{Parameter, RawRequest},
    wire::inference::encode_raw,
};
use rekindle_domain::Traffic;
use serde_json::{Map, Value, json};

use super::{inputs::Tensor, target::Message};
use crate::client::encode::TRAFFIC;

/// How elements are sent over REST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elements {
    /// In the JSON of the request.
    Json,
    /// After it, by the binary tensor extension. The answer has the same form.
    Binary,
}

/// A gRPC request with raw contents.
pub(crate) fn grpc(model: &str, version: &str, traffic: Option<Traffic>, tensors: Vec<Tensor>) -> Message {
    let traffic = traffic.map(|traffic| (TRAFFIC.to_owned(), Parameter::Text(traffic.to_string())));
    let parameters: BTreeMap<_, _> = traffic.into_iter().collect();
    Message::grpc(&encode_raw(RawRequest {
        model: model.to_owned(),
        version: version.to_owned(),
        parameters,
        inputs: tensors.into_iter().map(|tensor| tensor.raw).collect(),
    }))
}

/// A REST request.
pub(crate) fn rest(elements: Elements, traffic: Option<Traffic>, tensors: Vec<Tensor>) -> Message {
    let mut parameters = Map::new();
    if let Some(traffic) = traffic {
        parameters.insert(TRAFFIC.to_owned(), json!(traffic.as_str()));
    }
    let (mut inputs, mut binary) = (Vec::new(), Vec::new());
    for Tensor { raw, data } in tensors {
        let mut input = json!({ "name": raw.name, "datatype": raw.datatype, "shape": raw.shape });
        match elements {
            Elements::Json => input["data"] = data,
            Elements::Binary => {
                input["parameters"] = json!({ "binary_data_size": raw.contents.len() });
                binary.extend_from_slice(&raw.contents);
            }
        }
        inputs.push(input);
    }
    if elements == Elements::Binary {
        parameters.insert("binary_data_output".to_owned(), json!(true));
    }
    let mut body = json!({ "inputs": inputs });
    // Servers other than ours get no parameter that they do not know.
    if !parameters.is_empty() {
        body["parameters"] = Value::Object(parameters);
    }
    let body = body.to_string().into_bytes();
    match elements {
        Elements::Json => Message::json(body),
        Elements::Binary => Message::binary(body, &binary),
    }
}

#[cfg(test)]
mod tests {
    use rekindle_client::inference::RawTensor;

    use super::*;

    fn tensors() -> Vec<Tensor> {
        let raw = RawTensor {
            name: "x".to_owned(),
            datatype: "INT16".to_owned(),
            shape: vec![2, 1],
            contents: vec![1, 0, 2, 0].into(),
        };
        vec![Tensor { raw, data: json!([1, 2]) }]
    }

    #[test]
    fn a_grpc_request_is_one_frame() {
        let Message { headers, body } = grpc("m", "", None, tensors());
        assert!(headers["content-type"] == "application/grpc" && headers["te"] == "trailers", "{headers:?}");
        let (prefix, message) = body.split_at(5);
        assert_eq!(prefix, [0, 0, 0, 0, u8::try_from(message.len()).expect("short")]);
        assert!(!message.windows(7).any(|word| word == b"traffic"), "no parameter unless asked");
        let marked = grpc("m", "", Some(Traffic::Test), tensors()).body;
        assert!(marked.windows(7).any(|word| word == b"traffic"));
    }

    #[test]
    fn a_rest_request_has_its_elements_in_json_or_behind_it() {
        let body: Value = serde_json::from_slice(&rest(Elements::Json, None, tensors()).body).expect("JSON");
        assert_eq!(body, json!({ "inputs": [{ "name": "x", "datatype": "INT16", "shape": [2, 1], "data": [1, 2] }] }));
        let Message { headers, body } = rest(Elements::Binary, Some(Traffic::Test), tensors());
        let length: usize =
            headers["inference-header-content-length"].to_str().expect("text").parse().expect("a number");
        let (head, elements) = body.split_at(length);
        let head: Value = serde_json::from_slice(head).expect("JSON");
        assert_eq!((&head["parameters"]["traffic"], elements), (&json!("test"), &[1, 0, 2, 0][..]));
        assert_eq!(head["inputs"][0]["parameters"]["binary_data_size"], 4);
        assert!(head["inputs"][0].get("data").is_none());
    }
}
