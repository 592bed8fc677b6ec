//! Before learning: which columns, which rows for what, and their encoding.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use rekindle_dataset::Table;
use rekindle_domain::Recipe;

use super::TrainInput;
use crate::{
    Datatype, Error, Input, Signature,
    column::{self, Cells},
    pipeline::{Encoded, Encoder, Feature, Pipeline, fit},
    prediction,
    signature::Kind,
    target::{Goal, Targets, targets},
};

/// Rows for learning and for validation together at least.
const MIN_ROWS: usize = 50;

/// Rows split and encoded, and all that was decided on the way.
pub(super) struct Prepared {
    pub(super) goal: Goal,
    /// The classes, shared by every answer.
    pub(super) labels: Vec<Arc<str>>,
    pub(super) signature: Signature,
    pub(super) encoder: Encoder,
    pub(super) training: Encoded,
    pub(super) training_targets: Targets,
    pub(super) validation: Encoded,
    pub(super) validation_targets: Targets,
    /// The rows in the order of time, training rows first.
    pub(super) batch: RecordBatch,
    /// No row at or after this was seen; milliseconds since 1970 UTC.
    pub(super) trained_until: Option<i64>,
}

pub(super) fn prepare(input: &TrainInput<'_>) -> Result<Prepared, Error> {
    let table = in_time_order(input)?;
    let (batch, rows) = (&table.batch, table.rows());
    if rows < MIN_ROWS {
        return Err(Error::TooFewRows { rows, needed: MIN_ROWS });
    }
    let target = &input.recipe.target;
    let cells = target_cells(batch, target)?;
    let goal = Goal::of(target, &cells, rows, input.recipe.task)?;
    let all_targets = targets(target, &cells, rows, goal.classes.as_deref())?;
    let split = split(rows, input.recipe.validation_share);
    check_training_classes(target, &all_targets.slice(0..split))?;
    let (inputs, features) = features(&table, input, split)?;
    let time_input = input.time_column.filter(|time| inputs.iter().any(|input| input.name == **time));
    let classes = goal.classes.as_deref().unwrap_or_default();
    let signature = Signature {
        inputs,
        outputs: prediction::outputs(goal.task, classes.len()),
        time_input: time_input.map(str::to_owned),
    };
    let encoder = Encoder::new(Pipeline { features });
    Ok(Prepared {
        labels: classes.iter().map(|class| Arc::from(class.as_str())).collect(),
        training: encoder.encode(&batch.slice(0, split))?,
        training_targets: all_targets.slice(0..split),
        validation: encoder.encode(&batch.slice(split, rows - split))?,
        validation_targets: all_targets.slice(split..rows),
        trained_until: trained_until(batch, input.time_column),
        goal,
        signature,
        encoder,
        batch: table.batch,
    })
}

fn in_time_order(input: &TrainInput<'_>) -> Result<Table, Error> {
    match input.time_column {
        Some(time) => input.table.sort_by_time(time).map_err(|error| Error::training(time, error.to_string())),
        None => Ok(input.table.clone()),
    }
}

fn target_cells<'a>(batch: &'a RecordBatch, target: &str) -> Result<Cells<'a>, Error> {
    let Some(array) = batch.column_by_name(target) else {
        let known: Vec<&str> = batch.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
        return Err(Error::training(target, format!("the target is not a column: choose one of {}", known.join(", "))));
    };
    Cells::of(array.as_ref())
        .ok_or_else(|| Error::training(target, format!("{} cannot be a target", array.data_type())))
}

/// The first validation row: at least one row lies on each side.
fn split(rows: usize, validation_share: f64) -> usize {
    let held_out = (rows as f64 * validation_share).round() as usize;
    rows - held_out.clamp(1, rows - 1)
}

fn check_training_classes(target: &str, training: &Targets) -> Result<(), Error> {
    let Targets::Classes(classes) = training else { return Ok(()) };
    if classes.windows(2).any(|pair| pair[0] != pair[1]) {
        return Ok(());
    }
    let problem = "the rows before the validation rows all have one class: register an earlier span, or lower \
                   validation_share";
    Err(Error::training(target, problem))
}

fn features(table: &Table, input: &TrainInput<'_>, split: usize) -> Result<(Vec<Input>, Vec<Feature>), Error> {
    let (mut inputs, mut features) = (Vec::new(), Vec::new());
    for (position, column) in table.schema.columns.iter().enumerate().filter(|(_, c)| is_feature(input.recipe, &c.name))
    {
        let name = &column.name;
        let array = column::find(&table.batch, name, position).ok_or_else(|| Error::InputMissing(name.clone()))?;
        let kind = Kind::from(column.kind);
        let cells = Cells::of(array).ok_or_else(|| {
            Error::training(name, format!("{} cannot be a feature: ignore the column", array.data_type()))
        })?;
        features.push(Feature { name: name.clone(), encoding: fit(name, kind, &cells, 0..split)? });
        inputs.push(describe(name, kind, &cells, table.rows()));
    }
    if inputs.is_empty() {
        let problem = "no other column is left to predict it from: ignore fewer columns";
        return Err(Error::training(&input.recipe.target, problem));
    }
    Ok((inputs, features))
}

fn is_feature(recipe: &Recipe, name: &str) -> bool {
    // Ignored columns need not exist: captured rows never had those that are known only with the label.
    *name != recipe.target && !recipe.ignore.iter().any(|ignored| ignored == name)
}

fn describe(name: &str, kind: Kind, cells: &Cells<'_>, rows: usize) -> Input {
    let (nullable, datatype) = match cells {
        Cells::Float(_) => ((0..rows).any(|row| cells.number(row).is_none()), Datatype::Fp64),
        _ => {
            let nullable = (0..rows).any(|row| cells.is_missing(row));
            let datatype = match cells {
                // The protocol's integers have no value for "missing"; its doubles have not-a-number.
                Cells::Int(_) if nullable => Datatype::Fp64,
                Cells::Text(_) => Datatype::Bytes,
                Cells::Flag(_) => Datatype::Bool,
                Cells::Int(_) | Cells::Float(_) | Cells::Instant(_) => Datatype::Int64,
            };
            (nullable, datatype)
        }
    };
    Input { name: name.to_owned(), datatype, kind, nullable }
}

fn trained_until(batch: &RecordBatch, time_column: Option<&str>) -> Option<i64> {
    let array = batch.column_by_name(time_column?)?;
    let cells = Cells::of(array.as_ref())?;
    let last = (0..array.len()).filter_map(|row| cells.instant(row)).max()?;
    Some(last.saturating_add(1))
}
