//! Elements of tensors as JSON and as text.

use rekindle_client::inference::Elements;
use serde_json::{Value, json};

/// The elements as a JSON array.
pub(crate) fn to_json(elements: &Elements) -> Value {
    match elements {
        Elements::Bool(values) => json!(values),
        Elements::Int64(values) => json!(values),
        Elements::Fp32(values) => values.iter().map(|&value| single(value)).collect(),
        Elements::Fp64(values) => json!(values),
        Elements::Text(values) => json!(values),
    }
}

/// A single in the fewest digits that identify it. Converted to a double directly, it would show digits that it does not have.
fn single(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, |value| json!(value))
}

/// The elements of a JSON array, separated by spaces and without quotes.
pub(crate) fn plain(values: &Value) -> String {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    values.as_array().map(|values| values.iter().map(word).collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singles_show_only_the_digits_that_they_have() {
        assert_eq!(to_json(&Elements::Fp32(vec![0.1, 0.75])).to_string(), "[0.1,0.75]");
        let texts = to_json(&Elements::Text(vec!["a".into(), "b c".into()]));
        assert_eq!((texts.to_string().as_str(), plain(&texts).as_str()), (r#"["a","b c"]"#, "a b c"));
    }
}
