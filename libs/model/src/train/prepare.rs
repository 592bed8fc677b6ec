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

/// The rows in the order of time, and all that was decided about them before learning.
pub(super) struct Prepared {
    pub(super) goal: Goal,
    /// The classes, shared by every answer.
    pub(super) labels: Vec<Arc<str>>,
    pub(super) signature: Signature,
    pub(super) table: Table,
    pub(super) targets: Targets,
    /// The first validation row.
    pub(super) split: usize,
    /// No row at or after this was seen; milliseconds since 1970 UTC.
    pub(super) trained_until: Option<i64>,
}

/// The earliest rows, encoded for learning by a pipeline that was fitted on them alone.
pub(super) struct Fold {
    pub(super) encoder: Encoder,
    pub(super) rows: Encoded,
    pub(super) targets: Targets,
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
    let inputs = inputs(&table, input.recipe)?;
    let time_input = input.time_column.filter(|time| inputs.iter().any(|input| input.name == **time));
    let classes = goal.classes.as_deref().unwrap_or_default();
    let signature = Signature {
        inputs,
        outputs: prediction::outputs(goal.task, classes.len()),
        time_input: time_input.map(str::to_owned),
    };
    Ok(Prepared {
        labels: classes.iter().map(|class| Arc::from(class.as_str())).collect(),
        trained_until: trained_until(batch, input.time_column),
        targets: all_targets,
        goal,
        signature,
        split,
        table,
    })
}

impl Prepared {
    /// The first `rows` rows, as something to learn from.
    pub(super) fn fold(&self, rows: usize) -> Result<Fold, Error> {
        let feature = |input: &Input| {
            let cells = self.cells(&input.name)?;
            Ok(Feature { name: input.name.clone(), encoding: fit(&input.name, input.kind, &cells, 0..rows)? })
        };
        let features = self.signature.inputs.iter().map(feature).collect::<Result<_, Error>>()?;
        let encoder = Encoder::new(Pipeline { features });
        let batch = self.table.batch.slice(0, rows);
        Ok(Fold { rows: encoder.encode(&batch)?, targets: self.targets.slice(0..rows), encoder })
    }

    /// The validation rows, encoded, and their truth.
    pub(super) fn validation(&self, encoder: &Encoder) -> Result<(Encoded, Targets), Error> {
        let rows = self.table.rows();
        let batch = self.table.batch.slice(self.split, rows - self.split);
        Ok((encoder.encode(&batch)?, self.targets.slice(self.split..rows)))
    }

    /// The values of a feature.
    pub(super) fn cells(&self, name: &str) -> Result<Cells<'_>, Error> {
        let array = column::find(&self.table.batch, name, 0);
        array.and_then(Cells::of).ok_or_else(|| Error::InputMissing(name.to_owned()))
    }
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

fn inputs(table: &Table, recipe: &Recipe) -> Result<Vec<Input>, Error> {
    let columns = table.schema.columns.iter().enumerate().filter(|(_, column)| is_feature(recipe, &column.name));
    let inputs = columns.map(|(position, column)| {
        let name = &column.name;
        let array = column::find(&table.batch, name, position).ok_or_else(|| Error::InputMissing(name.clone()))?;
        let cells = Cells::of(array).ok_or_else(|| {
            Error::training(name, format!("{} cannot be a feature: ignore the column", array.data_type()))
        })?;
        Ok(describe(name, Kind::from(column.kind), &cells, table.rows()))
    });
    let inputs = inputs.collect::<Result<Vec<_>, Error>>()?;
    if inputs.is_empty() {
        let problem = "no other column is left to predict it from: ignore fewer columns";
        return Err(Error::training(&recipe.target, problem));
    }
    Ok(inputs)
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
