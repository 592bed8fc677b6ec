use std::collections::HashMap;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType},
};
use serde::{Deserialize, Serialize};

use crate::{Table, cast::Value, normalise::canonical_bits};

/// How many of the most frequent values are kept.
const TOP: usize = 10;

/// Longest text of a value kept, in characters.
const VALUE_CHARS: usize = 100;

/// A column at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnSummary {
    /// The column.
    pub name: String,
    /// Rows without a value.
    pub missing: u64,
    /// Different values, not counting missing.
    pub distinct: u64,
    /// Smallest finite value. This and the next three are of numeric and timestamp columns (milliseconds since
    /// 1970) alone, over finite values, and absent without any.
    pub min: Option<f64>,
    /// Largest finite value.
    pub max: Option<f64>,
    /// Mean.
    pub mean: Option<f64>,
    /// Sample standard deviation (divisor n - 1); absent with fewer than two values.
    pub std: Option<f64>,
    /// The most frequent values, at most ten, those of equal count in order of their text.
    pub top: Vec<ValueCount>,
}

/// A value and how often it occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueCount {
    /// The value as text, cut to 100 characters.
    pub value: String,
    /// Rows that have it.
    pub count: u64,
}

/// Summarises every column, in order.
pub fn summarise(table: &Table) -> Vec<ColumnSummary> {
    let columns = table.schema.columns.iter().zip(table.batch.columns());
    columns.map(|(column, array)| summarise_column(&column.name, array)).collect()
}

fn summarise_column(name: &str, array: &ArrayRef) -> ColumnSummary {
    let (distinct, top, numbers) = match array.data_type() {
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>();
            let (distinct, top) = count(values.iter().flatten(), Value::Int);
            (distinct, top, values.iter().flatten().map(|v| v as f64).collect())
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            let bits = values.iter().flatten().map(canonical_bits);
            let (distinct, top) = count(bits, |bits| Value::Float(f64::from_bits(bits)));
            (distinct, top, values.iter().flatten().filter(|v| v.is_finite()).collect())
        }
        DataType::Boolean => {
            let (distinct, top) = count(array.as_boolean().iter().flatten(), Value::Bool);
            (distinct, top, Vec::new())
        }
        DataType::Utf8 => {
            let (distinct, top) = count(array.as_string::<i32>().iter().flatten(), Value::Text);
            (distinct, top, Vec::new())
        }
        _ => {
            let values = array.as_primitive::<TimestampMillisecondType>();
            let (distinct, top) = count(values.iter().flatten(), Value::Time);
            (distinct, top, values.iter().flatten().map(|v| v as f64).collect())
        }
    };
    let moments = Moments::of(&numbers);
    ColumnSummary {
        name: name.to_owned(),
        missing: array.null_count() as u64,
        distinct,
        min: moments.as_ref().map(|m| m.min),
        max: moments.as_ref().map(|m| m.max),
        mean: moments.as_ref().map(|m| m.mean),
        std: moments.as_ref().and_then(|m| m.std),
        top,
    }
}

/// The number of different values, and the most frequent of them.
fn count<'a, K: std::hash::Hash + Eq + Copy>(
    values: impl Iterator<Item = K>,
    as_value: impl Fn(K) -> Value<'a>,
) -> (u64, Vec<ValueCount>) {
    let mut counts: HashMap<K, u64> = HashMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    // Only values at least as frequent as the tenth need a text to be ordered by.
    let mut frequencies: Vec<u64> = counts.values().copied().collect();
    frequencies.sort_unstable_by(|a, b| b.cmp(a));
    let least = frequencies.get(TOP - 1).copied().unwrap_or(0);
    let mut top: Vec<ValueCount> = counts
        .iter()
        .filter(|&(_, &count)| count >= least)
        .map(|(&key, &count)| ValueCount { value: as_value(key).text(), count })
        .collect();
    top.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
    top.truncate(TOP);
    for kept in &mut top {
        if let Some((end, _)) = kept.value.char_indices().nth(VALUE_CHARS) {
            kept.value.truncate(end);
        }
    }
    (counts.len() as u64, top)
}

struct Moments {
    min: f64,
    max: f64,
    mean: f64,
    std: Option<f64>,
}

impl Moments {
    /// Of finite values. They are scaled by the largest, so that no sum of squares overflows.
    fn of(values: &[f64]) -> Option<Self> {
        let first = *values.first()?;
        let (min, max) = values.iter().fold((first, first), |(min, max), &v| (min.min(v), max.max(v)));
        let scale = min.abs().max(max.abs());
        if scale == 0.0 {
            return Some(Self { min, max, mean: 0.0, std: (values.len() > 1).then_some(0.0) });
        }
        let rows = values.len() as f64;
        let mean = values.iter().map(|v| v / scale).sum::<f64>() / rows;
        let squares: f64 = values.iter().map(|v| (v / scale - mean).powi(2)).sum();
        let std = (values.len() > 1).then(|| (squares / (rows - 1.0)).sqrt() * scale).filter(|std| std.is_finite());
        Some(Self { min, max, mean: mean * scale, std })
    }
}
