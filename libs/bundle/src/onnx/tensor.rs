//! Checks of a tensor that is stored in a file: an initializer, or the value of an attribute.

use super::wire::{Fields, Value, numbers, packed, text};

/// Dimensions that a tensor may have at most.
const MAX_DIMENSIONS: usize = 16;

/// The claims of a `TensorProto`, and what it has.
#[derive(Debug, Default)]
struct Stored {
    name: String,
    dims: Vec<u64>,
    data_type: u64,
    /// Bytes of `raw_data`.
    raw: u64,
    /// Elements of the typed lists.
    elements: u64,
    is_external: bool,
}

/// Checks that a tensor has its data in the file, as many as its shape says; returns its name.
pub(super) fn check(what: &str, bytes: &[u8]) -> Result<String, String> {
    let stored = read(bytes).map_err(|problem| format!("{what}: {problem}"))?;
    let what = format!("{what} {:?}", stored.name);
    if stored.is_external {
        return Err(format!(
            "{what} has external data: save the model as one file (onnx.save_model with save_as_external_data=False)"
        ));
    }
    let claimed = stored.dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
    let held = held(stored.data_type).ok_or_else(|| format!("{what} has the unknown type {}", stored.data_type))?;
    let (per, given, of) = match stored.raw {
        0 => (held.elements, stored.elements, "elements"),
        raw => (held.raw, raw, "bytes"),
    };
    let expected = claimed.and_then(|claimed| claimed.checked_mul(per)).map(|halves| halves.div_ceil(2));
    match expected {
        Some(expected) if expected == given => Ok(stored.name),
        Some(expected) => Err(format!("{what} claims {expected} {of} by its shape {:?} and has {given}", stored.dims)),
        None => {
            Err(format!("{what} claims more {of} than a file can have by its shape {:?}, and has {given}", stored.dims))
        }
    }
}

fn read(bytes: &[u8]) -> Result<Stored, String> {
    let mut stored = Stored::default();
    for field in Fields::of("a tensor", bytes) {
        match field? {
            (1, value) => stored.dims.extend(numbers(value, MAX_DIMENSIONS)?),
            (2, Value::Number(data_type)) => stored.data_type = data_type,
            (4, Value::Bytes(floats)) => stored.elements += floats.len() as u64 / 4,
            (10, Value::Bytes(doubles)) => stored.elements += doubles.len() as u64 / 8,
            (5 | 7 | 11, Value::Bytes(integers)) => stored.elements += packed(integers),
            (4..=7 | 10 | 11, _) => stored.elements += 1,
            (8, name) => stored.name = text("the name of a tensor", name)?,
            (9, Value::Bytes(raw)) => stored.raw = raw.len() as u64,
            (13, _) | (14, Value::Number(1..)) => stored.is_external = true,
            _ => {}
        }
        if stored.dims.len() > MAX_DIMENSIONS {
            return Err(format!("tensor {:?} has more than {MAX_DIMENSIONS} dimensions", stored.name));
        }
    }
    Ok(stored)
}

/// What one element takes, in halves: pairs of 4-bit integers share a byte.
struct Held {
    raw: u64,
    elements: u64,
}

/// What an element of a `TensorProto.DataType` takes; `None` for an unknown type.
fn held(data_type: u64) -> Option<Held> {
    let (raw, elements) = match data_type {
        21..=23 => (1, 1),
        2 | 3 | 9 | 17..=20 | 24 => (2, 2),
        4 | 5 | 10 | 16 => (4, 2),
        1 | 6 | 12 => (8, 2),
        7 | 11 | 13 => (16, 2),
        // Complex numbers, of which the lists have both parts.
        14 => (16, 4),
        15 => (32, 4),
        // Texts have no raw form: none fits.
        8 => (u64::MAX, 2),
        _ => return None,
    };
    Some(Held { raw, elements })
}
