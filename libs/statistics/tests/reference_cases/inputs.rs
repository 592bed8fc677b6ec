//! Inputs, listed or generated from a description.

use std::collections::BTreeMap;

use rekindle_statistics::{Error, convention::Categories, two_sample::Sample};
use serde_json::Value;

/// A number; special values are strings.
pub(crate) fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some("NaN") => f64::NAN,
        Some("Infinity") => f64::INFINITY,
        Some("-Infinity") => f64::NEG_INFINITY,
        Some(other) => panic!("{other} is not a number"),
        None => value.as_f64().expect("a number"),
    }
}

/// A list of numbers, listed or generated.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    if let Some(list) = value.as_array() {
        return list.iter().map(number).collect();
    }
    let plain = match value["kind"].as_str().expect("a kind") {
        "rle" => runs(value).flat_map(|(value, rows)| vec![number(value); rows]).collect(),
        "modseq" => (0..count(value)).map(|i| ((i * 7919) % 10_007) as f64 / 10_007.0).collect(),
        "lcg" => congruential(value).collect(),
        "bernoulli_lcg" => {
            let p = value["p"].as_f64().expect("a probability");
            congruential(value).map(|draw| f64::from(u8::from(draw < p))).collect()
        }
        "concat" => value["parts"].as_array().expect("parts").iter().flat_map(numbers).collect(),
        other => panic!("{other} is no generator"),
    };
    scaled(value, plain)
}

/// As [`numbers`], without missing ones, for conventions that drop them.
pub(crate) fn sample_of_present(value: &Value) -> Sample {
    let present: Vec<f64> = numbers(value).into_iter().filter(|value| !value.is_nan()).collect();
    Sample::new(&present).expect("no value is NaN")
}

/// As [`numbers`], an error if one is NaN.
pub(crate) fn sample(value: &Value) -> Result<Sample, Error> {
    Sample::new(&numbers(value))
}

/// Names in order; numbers by their digits.
pub(crate) fn names(value: &Value) -> Vec<String> {
    if let Some(list) = value.as_array() {
        return list.iter().map(name).collect();
    }
    runs(value).flat_map(|(value, rows)| vec![name(value); rows]).collect()
}

/// The count of each name.
pub(crate) fn name_counts(names: &[String]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.clone()).or_default() += 1;
    }
    counts
}

/// Both sides of a categorical column.
pub(crate) fn categories(reference: &[String], window: &[String]) -> Categories {
    Categories::new(name_counts(reference), name_counts(window))
}

/// A list of counts.
pub(crate) fn counts(value: &Value) -> Vec<u64> {
    value.as_array().expect("a list").iter().map(|count| count.as_u64().expect("a count")).collect()
}

fn name(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn runs(value: &Value) -> impl Iterator<Item = (&Value, usize)> {
    let pairs = value["pairs"].as_array().expect("pairs");
    pairs.iter().map(|pair| (&pair[0], usize::try_from(pair[1].as_u64().expect("a count")).expect("a small count")))
}

fn count(value: &Value) -> u64 {
    value["n"].as_u64().expect("a count")
}

fn congruential(value: &Value) -> impl Iterator<Item = f64> {
    const MODULUS: u64 = 1 << 31;
    let mut state = value["seed"].as_u64().expect("a seed");
    (0..count(value)).map(move |_| {
        state = (1_103_515_245 * state + 12_345) % MODULUS;
        state as f64 / MODULUS as f64
    })
}

/// Values after an optional scale and an optional shift.
fn scaled(value: &Value, plain: Vec<f64>) -> Vec<f64> {
    let (scale, shift) = (value["scale"].as_f64().unwrap_or(1.0), value["shift"].as_f64().unwrap_or(0.0));
    plain.into_iter().map(|x| x * scale + shift).collect()
}
