//! Tensors whose data lie in files beside the model, as `onnx.save_model(.., save_as_external_data=True)` writes them. A version is one
//! file, so they are embedded before it is checked.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::{
    MAX_FILE_BYTES,
    wire::{Fields, Value, text},
};
use crate::{Error, manifest::MODEL};

/// Numbers of fields: of `ModelProto`, `GraphProto` and `TensorProto`.
const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
const RAW_DATA: u32 = 9;
const EXTERNAL_DATA: u32 = 13;
const DATA_LOCATION: u32 = 14;

/// The model with the data of its initializers that lie in these files, by the names that the model has for them.
///
/// # Errors
/// [`Error::Invalid`] if the model is malformed, names another file, or becomes larger than [`MAX_FILE_BYTES`].
pub fn embed(model: &[u8], files: &BTreeMap<String, Bytes>) -> Result<Bytes, Error> {
    let mut added = 0_u64;
    let mut graph = |graph: &[u8]| {
        rewrite("the graph", graph, |number, tensor| match number {
            INITIALIZER => embed_tensor(tensor, files, &mut added),
            _ => Ok(None),
        })
    };
    let embedded = rewrite("the model", model, |number, bytes| match number {
        GRAPH => graph(bytes).map(Some),
        _ => Ok(None),
    });
    embedded.map(Bytes::from).map_err(|problem| Error::invalid(MODEL, problem))
}

/// A copy of a message in which `change` may replace the content of fields.
fn rewrite(
    message: &'static str,
    bytes: &[u8],
    mut change: impl FnMut(u32, &[u8]) -> Result<Option<Vec<u8>>, String>,
) -> Result<Vec<u8>, String> {
    let mut copy = Vec::with_capacity(bytes.len());
    let mut fields = Fields::of(message, bytes);
    loop {
        let before = fields.rest();
        let Some(field) = fields.next() else { return Ok(copy) };
        let (number, value) = field?;
        let replaced = match value {
            Value::Bytes(inner) => change(number, inner)?,
            Value::Number(_) | Value::Fixed => None,
        };
        match replaced {
            Some(content) => append(number, &content, &mut copy),
            None => copy.extend_from_slice(&before[..before.len() - fields.rest().len()]),
        }
    }
}

fn append(number: u32, content: &[u8], to: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, to);
    encode_varint(content.len() as u64, to);
    to.extend_from_slice(content);
}

/// The tensor with its data; `None` if it has them already.
fn embed_tensor(tensor: &[u8], files: &BTreeMap<String, Bytes>, added: &mut u64) -> Result<Option<Vec<u8>>, String> {
    let mut place = BTreeMap::new();
    let mut copy = Vec::new();
    let mut fields = Fields::of("a tensor", tensor);
    loop {
        let before = fields.rest();
        let Some(field) = fields.next() else { break };
        match field? {
            (EXTERNAL_DATA, Value::Bytes(entry)) => {
                let (key, value) = pair(entry)?;
                place.insert(key, value);
            }
            (EXTERNAL_DATA | DATA_LOCATION | RAW_DATA, _) => {}
            _ => copy.extend_from_slice(&before[..before.len() - fields.rest().len()]),
        }
    }
    if place.is_empty() {
        return Ok(None);
    }
    let location = place.get("location").ok_or("a tensor has external data without a location")?;
    let file = files.get(location).ok_or_else(|| format!("a tensor has its data in {location:?}, which is missing"))?;
    let number = |key: &str, default: usize| match place.get(key) {
        Some(text) => text.parse().map_err(|_| format!("a tensor has the {key} {text:?} in {location:?}")),
        None => Ok(default),
    };
    let offset = number("offset", 0)?;
    let length = number("length", file.len().saturating_sub(offset))?;
    let data = offset.checked_add(length).and_then(|end| file.get(offset..end));
    let data = data.ok_or_else(|| format!("a tensor has its data beyond the {} bytes of {location:?}", file.len()))?;
    *added += data.len() as u64;
    if *added > MAX_FILE_BYTES {
        return Err(format!("its tensors have more than {MAX_FILE_BYTES} bytes"));
    }
    append(RAW_DATA, data, &mut copy);
    Ok(Some(copy))
}

/// The key and the value of a `StringStringEntryProto`.
fn pair(entry: &[u8]) -> Result<(String, String), String> {
    let (mut key, mut value) = (String::new(), String::new());
    for field in Fields::of("an entry", entry) {
        match field? {
            (1, given) => key = text("the key of an entry", given)?,
            (2, given) => value = text("the value of an entry", given)?,
            _ => {}
        }
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(u32, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        fields.iter().for_each(|(number, content)| append(*number, content, &mut bytes));
        bytes
    }

    /// A model of one initializer with these entries of external data.
    fn model(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tensor = message(&[(8, b"weights")]);
        for (key, value) in entries {
            append(EXTERNAL_DATA, &message(&[(1, key.as_bytes()), (2, value.as_bytes())]), &mut tensor);
        }
        encode_key(DATA_LOCATION, WireType::Varint, &mut tensor);
        encode_varint(1, &mut tensor);
        message(&[(2, b"producer"), (GRAPH, &message(&[(INITIALIZER, &tensor), (2, b"name")]))])
    }

    #[test]
    fn data_of_files_are_embedded_and_nothing_else_changes() {
        let files = BTreeMap::from([("w.bin".to_owned(), Bytes::from_static(b"0123456789"))]);
        for (entries, data) in [
            (&[("location", "w.bin"), ("offset", "2"), ("length", "3")][..], &b"234"[..]),
            (&[("location", "w.bin")], b"0123456789"),
        ] {
            let expected = message(&[(8, b"weights"), (RAW_DATA, data)]);
            let expected = message(&[(2, b"producer"), (GRAPH, &message(&[(INITIALIZER, &expected), (2, b"name")]))]);
            let embedded = embed(&model(entries), &files).expect("valid");
            assert_eq!(embedded, expected);
            assert_eq!(embed(&embedded, &BTreeMap::new()).expect("nothing is left"), expected);
        }
        for (entries, problem) in [
            (&[("location", "../w.bin")][..], "which is missing"),
            (&[("location", "w.bin"), ("offset", "8"), ("length", "3")], "beyond the 10 bytes"),
            (&[("location", "w.bin"), ("offset", "18446744073709551615"), ("length", "2")], "beyond"),
            (&[("location", "w.bin"), ("length", "-1")], "the length \"-1\""),
            (&[("offset", "1")], "without a location"),
        ] {
            let refused = embed(&model(entries), &files).expect_err(problem).to_string();
            assert!(refused.contains(problem), "{refused}");
        }
        embed(b"\x3a\x7fgarbage", &files).expect_err("truncated");
    }
}
