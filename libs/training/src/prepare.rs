//! Preparation of the rows for training: features, target, split and encoding.

use std::{ops::Range, sync::Arc};

use arrow::array::RecordBatch;
use rekindle_bundle::{
    Datatype, Input, Output, Prediction, Signature, Targets,
    column::{self, Cells},
    network::Network,
    pipeline::{Encoder, Feature, Pipeline},
};
use rekindle_dataset::Table;
use rekindle_domain::{
    ColumnKind, Recipe,
    recipe::{ModelRecipe, RowWeights},
    validation::Violations,
};

use crate::{
    Error, TrainInput,
    fit::{fit, pixels},
    goal::Goal,
    row_weights::weights,
    rows::{Rows, is_kept},
};

/// Minimum number of rows for training and validation together.
const MIN_ROWS: usize = 50;

/// The rows in the order of time, with everything that is determined before training.
pub(crate) struct Prepared {
    pub(crate) goal: Goal,
    /// The classes, shared by all predictions.
    classes: Vec<Arc<str>>,
    pub(crate) signature: Signature,
    pub(crate) table: Table,
    pub(crate) targets: Targets,
    /// Bins of the encoding of a number.
    bins: usize,
    /// Whether the features are the values of an image.
    is_image: bool,
    /// The time column, if the recipe needs the times of the rows.
    time_column: Option<String>,
    /// How long before the latest training row rows are used, in milliseconds.
    lookback: Option<i64>,
    weights: RowWeights,
    /// The first validation row.
    pub(crate) split: usize,
    /// Exclusive upper bound of the event times, in milliseconds since 1970 UTC.
    pub(crate) trained_until: Option<i64>,
}

/// Training rows, encoded with a pipeline that is fitted on them alone.
pub(crate) struct Fold {
    /// The positions of the rows.
    pub(crate) training: Range<usize>,
    pub(crate) encoder: Arc<Encoder>,
    pub(crate) rows: Rows,
    /// How much each row counts; `None` if all count the same.
    pub(crate) weights: Option<Vec<f32>>,
}

impl Prepared {
    /// Orders the rows by time, determines task, classes, features and split, and checks that they can be trained on.
    pub(crate) fn from_input(input: &TrainInput<'_>) -> Result<Self, Error> {
        let table = in_time_order(input)?;
        let rows = table.rows();
        if rows < MIN_ROWS {
            return Err(Error::TooFewRows { rows, needed: MIN_ROWS });
        }
        let target = &input.recipe.target;
        let cells = target_cells(&table.batch, target)?;
        let goal = Goal::of(target, &cells, input.recipe.task)?;
        let classes = goal.classes.as_deref();
        let targets = Targets::from_column(target, &cells, classes)?;
        let split = split(rows, input.recipe.validation_share);
        let time_column = needed_times(&table, input)?;
        let lookback = input.recipe.lookback.map(|span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
        let inputs = inputs(&table, input.recipe)?;
        let is_image = is_image(input.recipe, &inputs)?;
        let time_input = input.time_column.filter(|time| inputs.iter().any(|input| input.name == **time));
        let classes = classes.unwrap_or_default();
        let signature = Signature {
            inputs,
            outputs: Output::of_task(goal.task, classes.len()),
            time_input: time_input.map(str::to_owned),
        };
        let prepared = Self {
            classes: classes.iter().map(|class| Arc::from(class.as_str())).collect(),
            trained_until: trained_until(&table, input.time_column)?,
            goal,
            signature,
            targets,
            bins: input.recipe.model.bins(),
            is_image,
            time_column,
            lookback,
            weights: input.recipe.weights.clone(),
            split,
            table,
        };
        let training = prepared.training_rows(split);
        if training.len() < MIN_ROWS / 2 {
            return Err(Error::TooFewRows { rows: training.len(), needed: MIN_ROWS / 2 });
        }
        check_training_classes(target, &prepared.targets.slice(training))?;
        Ok(prepared)
    }

    /// The rows before `end` that are trained on.
    pub(crate) fn training_rows(&self, end: usize) -> Range<usize> {
        let first = self.event_times().zip(self.lookback).and_then(|(times, lookback)| {
            let earliest = times.get(end.checked_sub(1)?)?.saturating_sub(lookback);
            Some(times[..end].partition_point(|time| *time < earliest))
        });
        first.unwrap_or(0)..end
    }

    /// The times of the rows, in milliseconds since 1970 UTC, if the recipe needs them.
    fn event_times(&self) -> Option<&[i64]> {
        self.table.times(self.time_column.as_deref()?).ok()
    }

    /// The times of the rows, in milliseconds since 1970 UTC; `None` without a time column.
    pub(crate) fn times(&self, input: &TrainInput<'_>) -> Result<Option<&[i64]>, Error> {
        times(&self.table, input.time_column)
    }

    /// The training rows among those before `end`.
    pub(crate) fn fold(&self, end: usize) -> Result<Fold, Error> {
        let training = self.training_rows(end);
        let encoder = Arc::new(self.encoder(end)?);
        let rows = self.rows(&encoder, training.clone())?;
        Ok(Fold { rows, weights: self.row_weights(training.clone())?, training, encoder })
    }

    /// Some of the rows as the input of a network.
    pub(crate) fn rows(&self, encoder: &Arc<Encoder>, rows: Range<usize>) -> Result<Rows, Error> {
        let pipeline = encoder.pipeline();
        let features = pipeline.width() + pipeline.cardinalities().len();
        let keep = is_kept(self.table.rows() as u64, features as u64);
        Rows::new(encoder.clone(), &self.table.batch.slice(rows.start, rows.len()), keep)
    }

    /// How much each validation row counts in the loss that decides the number of epochs; `None` if all count the same. A half-life is left
    /// out: the rows are the latest.
    pub(crate) fn validation_weights(&self) -> Result<Option<Vec<f32>>, Error> {
        let wanted = RowWeights { half_life: None, ..self.weights.clone() };
        self.weighted(&wanted, self.split..self.table.rows())
    }

    fn row_weights(&self, training: Range<usize>) -> Result<Option<Vec<f32>>, Error> {
        self.weighted(&self.weights, training)
    }

    fn weighted(&self, wanted: &RowWeights, rows: Range<usize>) -> Result<Option<Vec<f32>>, Error> {
        let column = match &wanted.column {
            Some(name) => Some(target_cells(&self.table.batch, name)?),
            None => None,
        };
        weights(wanted, column.as_ref(), self.event_times(), &self.targets, rows)
    }

    /// The pipeline that is fitted on the training rows among those before `end`.
    pub(crate) fn encoder(&self, end: usize) -> Result<Encoder, Error> {
        let training = self.training_rows(end);
        let of_pixels = if self.is_image { Some(pixels(&self.all_cells()?, training.clone())) } else { None };
        let feature = |input: &Input| {
            let encoding = match &of_pixels {
                Some(encoding) => encoding.clone(),
                None => fit(&input.name, input.kind, &self.cells(&input.name)?, training.clone(), self.bins)?,
            };
            Ok(Feature { name: input.name.clone(), encoding })
        };
        let features = self.signature.inputs.iter().map(feature).collect::<Result<_, Error>>()?;
        let pipeline = Pipeline { features };
        if pipeline.width() == 0 && pipeline.cardinalities().is_empty() {
            let names: Vec<&str> = self.signature.inputs.iter().map(|input| input.name.as_str()).collect();
            let problem = "the training rows have no feature with more than one value: register other columns or rows";
            return Err(Error::column(names.join(", "), problem));
        }
        Ok(Encoder::new(pipeline))
    }

    /// The validation rows and their labels.
    pub(crate) fn validation(&self, encoder: &Arc<Encoder>) -> Result<(Rows, Targets), Error> {
        let validation = self.split..self.table.rows();
        Ok((self.rows(encoder, validation.clone())?, self.targets.slice(validation)))
    }

    /// The values of each feature.
    fn all_cells(&self) -> Result<Vec<Cells<'_>>, Error> {
        self.signature.inputs.iter().map(|input| self.cells(&input.name)).collect()
    }

    /// The values of a feature.
    pub(crate) fn cells(&self, name: &str) -> Result<Cells<'_>, Error> {
        let array = column::find(&self.table.batch, name, 0);
        Ok(array.and_then(Cells::of).ok_or_else(|| rekindle_bundle::Error::InputMissing(name.to_owned()))?)
    }

    /// The predictions of a network.
    pub(crate) fn predict(&self, network: &Network, rows: &Rows) -> Result<Prediction, Error> {
        Ok(self.prediction(rows.forward(network)?))
    }

    /// The predictions of raw outputs.
    pub(crate) fn prediction(&self, outputs: Vec<f32>) -> Prediction {
        Prediction::from_raw(self.goal.task, &self.classes, outputs)
    }
}

/// The time column, if the recipe needs the times of the rows.
fn needed_times(table: &Table, input: &TrainInput<'_>) -> Result<Option<String>, Error> {
    let recipe = input.recipe;
    let field = match (recipe.lookback, recipe.weights.half_life) {
        (None, None) => return Ok(None),
        (Some(_), _) => "lookback",
        (None, Some(_)) => "weights.half_life",
    };
    let problem = "requires a time column: register the dataset with one, or train on all rows alike";
    times(table, input.time_column)?.ok_or_else(|| Error::Recipe(Violations::of(field, problem)))?;
    Ok(input.time_column.map(str::to_owned))
}

fn in_time_order(input: &TrainInput<'_>) -> Result<Table, Error> {
    match input.time_column {
        Some(time) => input.table.sort_by_time(time).map_err(|error| Error::column(time, error.to_string())),
        None => Ok(input.table.clone()),
    }
}

fn target_cells<'a>(batch: &'a RecordBatch, target: &str) -> Result<Cells<'a>, Error> {
    let Some(array) = batch.column_by_name(target) else {
        let known: Vec<&str> = batch.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
        return Err(Error::column(target, format!("no such target column: choose one of {}", known.join(", "))));
    };
    Cells::of(array.as_ref()).ok_or_else(|| Error::column(target, format!("{} cannot be a target", array.data_type())))
}

/// The first validation row. Training and validation have at least one row each.
pub(crate) fn split(rows: usize, validation_share: f64) -> usize {
    let held_out = (rows as f64 * validation_share).round() as usize;
    rows - held_out.clamp(1, rows - 1)
}

fn check_training_classes(target: &str, training: &Targets) -> Result<(), Error> {
    let Targets::Classes(classes) = training else { return Ok(()) };
    if classes.windows(2).any(|pair| pair[0] != pair[1]) {
        return Ok(());
    }
    let problem =
        "all training rows have the same class: register rows from an earlier time, or lower validation_share";
    Err(Error::column(target, problem))
}

fn inputs(table: &Table, recipe: &Recipe) -> Result<Vec<Input>, Error> {
    let columns = table.schema.columns.iter().enumerate().filter(|(_, column)| is_feature(recipe, &column.name));
    let inputs = columns.map(|(position, column)| {
        let name = &column.name;
        let array = table.batch.column(position);
        let cells = Cells::of(array.as_ref()).ok_or_else(|| {
            Error::column(name, format!("{} cannot be a feature: ignore the column", array.data_type()))
        })?;
        Ok(describe(name, column.kind, &cells))
    });
    let inputs = inputs.collect::<Result<Vec<_>, Error>>()?;
    if inputs.is_empty() {
        let problem = "no feature columns are left: ignore fewer columns";
        return Err(Error::column(&recipe.target, problem));
    }
    Ok(inputs)
}

/// Whether the features are the values of an image: the recipe is for images.
///
/// # Errors
/// They are not those of an image of its shape.
fn is_image(recipe: &Recipe, inputs: &[Input]) -> Result<bool, Error> {
    let ModelRecipe::Cnn(cnn) = &recipe.model else { return Ok(false) };
    let image = cnn.image;
    if let Some(input) = inputs.iter().find(|input| input.kind != ColumnKind::Numeric) {
        let problem = "the values of an image are numbers: ignore the column, or choose another kind of model";
        return Err(Error::column(&input.name, problem));
    }
    if inputs.len() == image.values() {
        return Ok(true);
    }
    let (values, features) = (image.values(), inputs.len());
    let problem = format!("{image} has {values} values, and the rows have {features} features: ignore other columns");
    Err(Error::Recipe(Violations::of("cnn.image", problem)))
}

fn is_feature(recipe: &Recipe, name: &str) -> bool {
    // Ignored columns need not exist: captured rows lack the columns that are known only with the label.
    let is_weight = recipe.weights.column.as_deref() == Some(name);
    *name != recipe.target && !is_weight && !recipe.ignore.iter().any(|ignored| ignored == name)
}

fn describe(name: &str, kind: ColumnKind, cells: &Cells<'_>) -> Input {
    let nullable = match cells {
        Cells::Float(_) => (0..cells.rows()).any(|row| cells.number(row).is_none()),
        _ => cells.missing() > 0,
    };
    let datatype = match cells {
        Cells::Float(_) => Datatype::Fp64,
        Cells::Text(_) => Datatype::Bytes,
        Cells::Bool(_) => Datatype::Bool,
        Cells::Int(_) | Cells::Timestamp(_) => Datatype::Int64,
    };
    Input { name: name.to_owned(), datatype, kind, nullable }
}

fn trained_until(table: &Table, time_column: Option<&str>) -> Result<Option<i64>, Error> {
    let times = times(table, time_column)?;
    Ok(times.and_then(|times| times.iter().max()).map(|last| last.saturating_add(1)))
}

fn times<'a>(table: &'a Table, time_column: Option<&str>) -> Result<Option<&'a [i64]>, Error> {
    let Some(time) = time_column else { return Ok(None) };
    table.times(time).map(Some).map_err(|error| Error::column(time, error.to_string()))
}
