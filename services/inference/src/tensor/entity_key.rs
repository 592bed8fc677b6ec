//! The tensor that says what each row is about.

use std::borrow::Cow;

use arrow::array::{StringArray, StringBuilder};
use rekindle_client::wire::raw;
use rekindle_dataset::prediction_log;
use rekindle_domain::outcome::PredictedRow;

use super::{
    InvalidInput, Tensor,
    elements::{Elements, Typed},
};

/// The tensor's name.
pub(crate) const ENTITY_KEY: &str = prediction_log::ENTITY_KEY;

/// The key of the first row, if it can be read.
pub(crate) fn first<'a>(tensor: &Tensor<'a>) -> Option<Cow<'a, [u8]>> {
    let bytes = match tensor.elements {
        Elements::Raw(raw) => raw::split_text(raw)?.0,
        Elements::Typed { values: Typed::Bytes(texts), .. } => texts.first()?,
        Elements::Typed { .. } => return None,
    };
    (tensor.datatype == "BYTES" && !bytes.is_empty()).then_some(Cow::Borrowed(bytes))
}

/// The key of each row; an empty text is none.
pub(super) fn decode(tensor: &Tensor<'_>, rows: usize) -> Result<StringArray, InvalidInput> {
    let decoded = if tensor.datatype == "BYTES" {
        keys(tensor, rows)
    } else {
        Err(format!("has datatype {}, expected BYTES", super::shortened(tensor.datatype)))
    };
    decoded.map_err(|problem| InvalidInput::of_tensor(ENTITY_KEY, problem))
}

fn keys(tensor: &Tensor<'_>, rows: usize) -> Result<StringArray, String> {
    let mut builder = StringBuilder::with_capacity(rows, tensor.elements.byte_len());
    tensor.elements.each_text(rows, |row, bytes| {
        let (length, most) = (bytes.len(), PredictedRow::MAX_KEY);
        if length > most {
            return Err(format!("row {row} has {length} bytes, expected at most {most}"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| format!("row {row} is not UTF-8 text"))?;
        builder.append_option(Some(text).filter(|text| !text.is_empty()));
        Ok(())
    })?;
    Ok(builder.finish())
}
