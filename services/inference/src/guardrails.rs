//! Guardrails: what inputs and outputs of a model may be beyond what its signature allows, as configured per model.
//!
//! Inputs are checked before the model computes, outputs after it. A value outside of its range is refused with the request, replaced by
//! the nearest bound, or flagged; a missing value and a category that the reference data does not have are accepted, flagged or refused.
//! The prediction log has the inputs as they were received, and the outputs as they were answered.

mod hits;

use std::{collections::HashSet, fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch},
    datatypes::{Float64Type, Int64Type},
};
use rekindle_bundle::{Datatype, Input, Output, Prediction, Reference, Signature, Values};
use rekindle_domain::{ColumnKind, ModelName};

pub(crate) use self::hits::Hits;
use self::hits::Rule;
use crate::{
    config::{Action, ModelGuardrails, Policy, Range},
    tensor::InvalidInput,
};

/// The guardrails of one version of a model.
#[derive(Debug, Default)]
pub(crate) struct Guardrails {
    inputs: Vec<InputGuard>,
    outputs: Vec<OutputGuard>,
}

#[derive(Debug)]
struct InputGuard {
    /// The position of the input.
    input: usize,
    rule: Rule,
    check: Check,
}

#[derive(Debug)]
enum Check {
    Range(Bounds),
    Missing,
    /// The categories of the reference data.
    Unseen(HashSet<String>),
}

#[derive(Debug)]
struct OutputGuard {
    /// The position of the output.
    output: usize,
    rule: Rule,
    bounds: Bounds,
}

/// The smallest and the largest value that is allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bounds {
    min: f64,
    max: f64,
}

/// An output that a guardrail refuses.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("outputs[{output}]: {problem}")]
pub(crate) struct RefusedOutput {
    /// The output's name.
    pub(crate) output: String,
    /// The row, the value and the bounds.
    pub(crate) problem: String,
}

impl Guardrails {
    /// The guardrails of a version. Fails, with a sentence, if they name what the version does not have.
    pub(crate) fn new(
        model: &ModelName,
        config: &ModelGuardrails,
        signature: &Signature,
        reference: &Reference,
    ) -> Result<Self, String> {
        let ranges = config.inputs.iter().map(|range| input_range(model, range, signature));
        let mut inputs = ranges.collect::<Result<Vec<_>, _>>()?;
        inputs.extend(missing_values(model, config.missing_values, signature));
        inputs.extend(unseen_categories(model, config.unseen_categories, signature, reference));
        let outputs = config.outputs.iter().map(|range| output_range(model, range, signature));
        Ok(Self { inputs, outputs: outputs.collect::<Result<_, _>>()? })
    }

    /// The rows as the model may get them, if they are others, with what was found added to `hits`.
    pub(crate) fn check_inputs(
        &self,
        rows: &RecordBatch,
        hits: &mut Hits,
    ) -> Result<Option<RecordBatch>, InvalidInput> {
        let mut checked = None;
        for InputGuard { input, rule, check } in &self.inputs {
            let column = rows.column(*input);
            let found = check.violations(column);
            if found.is_empty() {
                continue;
            }
            rule.count(found.len());
            if rule.action == Action::Reject {
                let problem = check.problem(column, found[0]);
                return Err(InvalidInput::of_tensor(&rule.subject, problem));
            }
            hits.add(rule, found);
            if let (Action::Clip, Check::Range(bounds)) = (rule.action, check) {
                let columns: &mut Vec<ArrayRef> = checked.get_or_insert_with(|| rows.columns().to_vec());
                columns[*input] = bounds.clip(column);
            }
        }
        let table = |columns| RecordBatch::try_new(rows.schema(), columns);
        checked
            .map(table)
            .transpose()
            .map_err(|error| InvalidInput::new("inputs", format!("do not form a table: {error}")))
    }

    /// The prediction as it may be answered, if it is another one, with what was found added to `hits`.
    pub(crate) fn check_outputs(
        &self,
        prediction: &Prediction,
        hits: &mut Hits,
    ) -> Result<Option<Prediction>, RefusedOutput> {
        let mut checked = None;
        for OutputGuard { output, rule, bounds } in &self.outputs {
            let Some(Values::Fp32 { width, values }) = prediction.outputs.get(*output) else { continue };
            let is_outside = |row: &[f32]| row.iter().any(|&value| !bounds.contains_single(value));
            let found: Vec<usize> = positions(values.chunks((*width).max(1)).map(is_outside));
            if found.is_empty() {
                continue;
            }
            rule.count(found.len());
            match rule.action {
                Action::Reject => {
                    let row = found[0];
                    let outside = values[row * width..][..*width].iter().find(|&&value| !bounds.contains_single(value));
                    let value = outside.copied().unwrap_or(f32::NAN);
                    let problem = format!("row {row} is {value}, which the guardrail refuses: it allows {bounds}");
                    return Err(RefusedOutput { output: rule.subject.clone(), problem });
                }
                Action::Clip => {
                    let answered = checked.get_or_insert_with(|| prediction.clone());
                    if let Some(Values::Fp32 { values, .. }) = answered.outputs.get_mut(*output) {
                        values.iter_mut().for_each(|value| *value = value.clamp(bounds.min as f32, bounds.max as f32));
                    }
                }
                Action::Flag => {}
            }
            hits.add(rule, found);
        }
        Ok(checked)
    }
}

fn input_range(model: &ModelName, range: &Range, signature: &Signature) -> Result<InputGuard, String> {
    let named = |input: &Input| input.name == range.name && input.kind == ColumnKind::Numeric;
    let input = signature.inputs.iter().position(named);
    let input = input.ok_or_else(|| format!("guardrail inputs[{}]: no numeric input has this name", range.name))?;
    let bounds = Bounds::of(range);
    if signature.inputs[input].datatype == Datatype::Int64 && bounds.min.ceil() > bounds.max.floor() {
        return Err(format!("guardrail inputs[{}]: no whole number is within {bounds}", range.name));
    }
    let rule = Rule::new(model, "inputs", &range.name, "range", range.action);
    Ok(InputGuard { input, rule, check: Check::Range(bounds) })
}

fn output_range(model: &ModelName, range: &Range, signature: &Signature) -> Result<OutputGuard, String> {
    let named = |output: &Output| output.name == range.name && output.datatype == Datatype::Fp32;
    let output = signature.outputs.iter().position(named);
    let output = output.ok_or_else(|| format!("guardrail outputs[{}]: no numeric output has this name", range.name))?;
    let rule = Rule::new(model, "outputs", &range.name, "range", range.action);
    Ok(OutputGuard { output, rule, bounds: Bounds::of(range) })
}

/// A guard of every input whose values may be missing.
fn missing_values(model: &ModelName, policy: Policy, signature: &Signature) -> Vec<InputGuard> {
    let Some(action) = policy.action() else { return Vec::new() };
    let nullable = signature.inputs.iter().enumerate().filter(|(_, input)| input.nullable);
    let guard = |(at, input): (usize, &Input)| InputGuard {
        input: at,
        rule: Rule::new(model, "inputs", &input.name, "missing", action),
        check: Check::Missing,
    };
    nullable.map(guard).collect()
}

/// A guard of every categorical input. Those whose values the reference data do not list are left out, which the log of the replica says.
fn unseen_categories(
    model: &ModelName,
    policy: Policy,
    signature: &Signature,
    reference: &Reference,
) -> Vec<InputGuard> {
    let Some(action) = policy.action() else { return Vec::new() };
    let texts = signature.inputs.iter().enumerate().filter(|(_, input)| input.datatype == Datatype::Bytes);
    let guard = |(at, input): (usize, &Input)| {
        let Some(known) = reference.categories(&input.name) else {
            tracing::warn!(
                %model, input = %input.name,
                "the guardrail of unseen categories does not apply: the reference data does not list the values"
            );
            return None;
        };
        let rule = Rule::new(model, "inputs", &input.name, "unseen", action);
        Some(InputGuard { input: at, rule, check: Check::Unseen(known) })
    };
    texts.filter_map(guard).collect()
}

/// The positions of what is true.
fn positions(are: impl Iterator<Item = bool>) -> Vec<usize> {
    are.enumerate().filter(|(_, is)| *is).map(|(at, _)| at).collect()
}

impl Check {
    /// The rows that violate it.
    fn violations(&self, column: &ArrayRef) -> Vec<usize> {
        match self {
            Self::Missing => positions((0..column.len()).map(|row| column.is_null(row))),
            Self::Unseen(known) => match column.as_string_opt::<i32>() {
                Some(texts) => positions(texts.iter().map(|text| text.is_some_and(|text| !known.contains(text)))),
                None => Vec::new(),
            },
            Self::Range(bounds) => positions(
                (0..column.len()).map(|row| number(column, row).is_some_and(|number| !bounds.contains(number))),
            ),
        }
    }

    fn problem(&self, column: &ArrayRef, row: usize) -> String {
        match self {
            Self::Missing => format!("row {row} is missing, which the guardrail refuses: send a value"),
            Self::Unseen(known) => format!(
                "row {row} is a category that the guardrail refuses: it is none of the {} of the reference data",
                known.len()
            ),
            Self::Range(bounds) => {
                let value = number(column, row).unwrap_or(f64::NAN);
                format!("row {row} is {value}, which the guardrail refuses: it allows {bounds}")
            }
        }
    }
}

/// A value of a numeric column.
fn number(column: &ArrayRef, row: usize) -> Option<f64> {
    if column.is_null(row) {
        return None;
    }
    if let Some(numbers) = column.as_primitive_opt::<Float64Type>() {
        return Some(numbers.value(row));
    }
    column.as_primitive_opt::<Int64Type>().map(|numbers| numbers.value(row) as f64)
}

impl Bounds {
    fn of(range: &Range) -> Self {
        Self { min: range.min.unwrap_or(f64::NEG_INFINITY), max: range.max.unwrap_or(f64::INFINITY) }
    }

    fn contains(&self, value: f64) -> bool {
        (self.min..=self.max).contains(&value)
    }

    /// Whether an output is within the bounds, which are singles as it is.
    fn contains_single(&self, value: f32) -> bool {
        (self.min as f32..=self.max as f32).contains(&value)
    }

    fn clamp(&self, value: f64) -> f64 {
        value.clamp(self.min, self.max)
    }

    /// The column with every number within the bounds; whole numbers stay whole.
    fn clip(&self, column: &ArrayRef) -> ArrayRef {
        if let Some(numbers) = column.as_primitive_opt::<Float64Type>() {
            let clipped: Float64Array = numbers.unary(|number| self.clamp(number));
            return Arc::new(clipped);
        }
        match column.as_primitive_opt::<Int64Type>() {
            #[expect(clippy::cast_possible_truncation, reason = "a bound beyond the integers saturates")]
            Some(numbers) => {
                let (min, max) = (self.min.ceil() as i64, self.max.floor() as i64);
                let clipped: Int64Array = numbers.unary(|number| number.max(min).min(max));
                Arc::new(clipped)
            }
            None => Arc::clone(column),
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min.is_finite(), self.max.is_finite()) {
            (true, true) => write!(f, "{} to {}", self.min, self.max),
            (true, false) => write!(f, "at least {}", self.min),
            _ => write!(f, "at most {}", self.max),
        }
    }
}

impl Policy {
    /// What happens on a hit; `None` if nothing is checked.
    fn action(self) -> Option<Action> {
        match self {
            Self::Accept => None,
            Self::Flag => Some(Action::Flag),
            Self::Reject => Some(Action::Reject),
        }
    }
}

#[cfg(test)]
mod tests;
