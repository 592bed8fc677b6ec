//! From a file to a bundle: the signature, which the file and the options give, the reference profile and the metrics of the data that are
//! named, and the model card.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use arrow::{
    array::{Array, AsArray as _, RecordBatch, UInt64Array},
    compute::{take, take_record_batch},
    datatypes::TimestampMillisecondType,
    error::ArrowError,
};
use bytes::Bytes;
use rekindle_domain::{ColumnKind, Digest, Task};
use serde::{Deserialize, Serialize};

use super::{
    InputForm, Onnx, Scores,
    feed::{datatype, rank},
    file::{Element, File, Outlet},
};
use crate::{
    Backend, Bundle, Datatype, Error, Input, LossSample, Manifest, Model, Output, Provenance, Reference, Signature,
    ValidationRows, card,
    column::Cells,
    importance::{self, Importance, PERMUTATIONS},
    manifest::{CARD, FORMAT_VERSION, LOSS_SAMPLE, MODEL, PROFILE, ReferenceLoss},
    score,
    target::Targets,
};

/// The time that the importance of the inputs may take.
const IMPORTANCE_TIME: Duration = Duration::from_secs(10);

/// What a file does not say about its model. Everything but the target may be left out where the file, or the data, tell it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The column that is predicted.
    pub target: String,
    /// The task.
    pub task: Option<Task>,
    /// The classes in the order of the scores; the last of two is the positive class.
    pub classes: Vec<String>,
    /// The names of the features of a matrix, in its order.
    pub features: Vec<String>,
    /// The inputs whose values may be missing.
    pub nullable: Vec<String>,
    /// Columns of the data that are neither features nor the target.
    pub ignore: Vec<String>,
    /// The output with the scores.
    pub output: Option<String>,
    /// What the scores are.
    pub scores: Option<Scores>,
    /// What a training of this platform says about the rows; `None` for a model that was trained elsewhere.
    #[serde(default)]
    pub training: Option<Training>,
}

/// The training that made a file. Times are in milliseconds since 1970 UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The run.
    pub run_id: String,
    /// Rows at or after this time are left out.
    pub until: Option<i64>,
    /// Rows at or after this time were not trained on: loss, metrics and importance are theirs alone.
    pub validation_from: Option<i64>,
}

/// The rows that the model was trained on, or rows like them.
#[derive(Debug, Clone, Copy)]
pub struct Data<'a> {
    /// The rows, of canonical types.
    pub rows: &'a RecordBatch,
    /// The content digest of the dataset version.
    pub digest: Digest,
    /// The column with the time of a row.
    pub time_column: Option<&'a str>,
}

impl Data<'_> {
    /// The rows in order of time; `None` if they are, or have no times.
    fn in_time_order(&self) -> Result<Option<RecordBatch>, Error> {
        let Some(times) = self.times().filter(|times| !times.is_sorted()) else { return Ok(None) };
        let mut order: Vec<usize> = (0..times.len()).collect();
        order.sort_by_key(|&row| times[row]);
        let order = UInt64Array::from_iter_values(order.into_iter().map(|row| row as u64));
        take_record_batch(self.rows, &order).map(Some).map_err(|error| Error::invalid("dataset", error))
    }

    /// The position of the first row at or after a time; the rows are in order of time.
    fn first_from(&self, field: &'static str, time: i64) -> Result<usize, Error> {
        let times = self.times().ok_or_else(|| Error::import(field, "is set, and not every row has a time"))?;
        Ok(times.partition_point(|&at| at < time))
    }

    /// The times of the rows, in milliseconds since 1970 UTC, if every row has one.
    fn times(&self) -> Option<&[i64]> {
        let times = self.rows.column_by_name(self.time_column?)?.as_primitive_opt::<TimestampMillisecondType>()?;
        (times.null_count() == 0).then(|| times.values().as_ref())
    }
}

/// Makes a bundle of a file. ONNX Runtime runs the model on the rows of `data`, if there are any: the reference profile and the expected
/// loss (where the rows have the target) are theirs. Without data the profile is empty.
///
/// # Errors
/// [`Error::Invalid`] if the file is refused, [`Error::Import`] if an option does not fit it or is missing, and any error of a prediction of
/// the rows.
pub fn import(model: Bytes, options: &Import, data: Option<Data<'_>>) -> Result<Bundle, Error> {
    let file = File::parse(&model)?;
    let manifest = manifest(&file, options, data.as_ref())?;
    let empty = Reference::empty(manifest.task, &manifest.signature);
    let mut bundle = seal(manifest, model, (&empty, None), &file, &[])?;
    if let Some(data) = data {
        let ordered = data.in_time_order()?;
        let data = Data { rows: ordered.as_ref().unwrap_or(data.rows), ..data };
        let training = options.training.clone().unwrap_or_default();
        let rows = match training.until {
            Some(until) => data.rows.slice(0, data.first_from("until", until)?),
            None => data.rows.clone(),
        };
        let data = Data { rows: &rows, ..data };
        let first = training.validation_from.map_or(Ok(0), |from| data.first_from("validation_from", from))?;
        if training.validation_from.is_some() && first == rows.num_rows() {
            return Err(Error::import("validation_from", "leaves no rows to measure the loss on"));
        }
        let loaded = Model::from_bundle(&bundle)?;
        let prediction = loaded.score(data.rows)?;
        let Bundle { mut manifest, mut blobs } = bundle;
        let (mut importances, mut sample, times) = (Vec::new(), None, data.times());
        let mut reference = Reference::of(manifest.task, &manifest.signature, data.rows, &prediction, times)?;
        if data.rows.column_by_name(&manifest.target).is_some() {
            let rows = rows.slice(first, rows.num_rows() - first);
            let prediction = if first == 0 { prediction } else { loaded.score(&rows)? };
            let targets = targets(&manifest, &loaded, &rows)?;
            let losses = score::losses(manifest.task, &prediction, &targets)?;
            manifest.metrics = score::metrics(manifest.task, &prediction, &targets)?;
            manifest.reference = match times {
                Some(_) => ReferenceLoss::in_order(&losses),
                None => ReferenceLoss::of(&losses),
            };
            importances = self::importances(&loaded, &rows)?;
            reference = reference.validated(&ValidationRows {
                task: manifest.task,
                rows: &rows,
                prediction: &prediction,
                targets: &targets,
                importances: &importances,
            })?;
            let features = reference.by_importance().into_iter().map(|feature| feature.name.as_str());
            sample = Some(LossSample::of(&rows, features, &losses)?);
        }
        let model = blobs.remove(MODEL).unwrap_or_default();
        bundle = seal(manifest, model, (&reference, sample.as_ref()), &file, &importances)?;
    }
    Ok(bundle)
}

fn seal(
    manifest: Manifest,
    model: Bytes,
    (reference, sample): (&Reference, Option<&LossSample>),
    file: &File,
    importances: &[Importance],
) -> Result<Bundle, Error> {
    let mut blobs = BTreeMap::from([
        (MODEL.to_owned(), model),
        (PROFILE.to_owned(), reference.to_bytes()?),
        (CARD.to_owned(), Bytes::from(card::render_imported(&manifest, file, importances))),
    ]);
    if let Some(sample) = sample {
        blobs.insert(LOSS_SAMPLE.to_owned(), sample.to_bytes()?);
    }
    Ok(Bundle::seal(manifest, blobs))
}

/// The targets of the rows, at least one of which the model knows.
fn targets(manifest: &Manifest, model: &Model, rows: &RecordBatch) -> Result<Targets, Error> {
    let targets = model.targets(rows)?;
    if let Targets::Classes(labels) = &targets
        && labels.iter().all(Option::is_none)
    {
        let classes = manifest.classes.as_deref().unwrap_or_default().join(", ");
        let problem = format!(
            "are {classes}, and column {:?} of the dataset has none of them: name its values in the order of the scores",
            manifest.target
        );
        return Err(Error::import("classes", problem));
    }
    Ok(targets)
}

/// The importance of each input for the model, on the rows; none if a slow model would take longer than [`IMPORTANCE_TIME`] for it.
fn importances(model: &Model, rows: &RecordBatch) -> Result<Vec<Importance>, Error> {
    let taken = |positions: &[usize]| UInt64Array::from_iter_values(positions.iter().map(|&at| at as u64));
    let arrow = |error: ArrowError| Error::invalid("dataset", error);
    let rows = take_record_batch(rows, &taken(&importance::sample(rows.num_rows(), model.signature().inputs.len())))
        .map_err(arrow)?;
    let (targets, task) = (model.targets(&rows)?, model.manifest().task);
    let inputs: Vec<&str> = model.signature().inputs.iter().map(|input| input.name.as_str()).collect();
    let began = Instant::now();
    model.score(&rows)?;
    let predictions = u32::try_from(1 + inputs.len() * PERMUTATIONS).unwrap_or(u32::MAX);
    if began.elapsed().saturating_mul(predictions) > IMPORTANCE_TIME {
        return Ok(Vec::new());
    }
    importance::permutation(&inputs, rows.num_rows(), |permuted| {
        let mut columns = rows.columns().to_vec();
        if let Some((input, order)) = permuted {
            let at = rows.schema().index_of(inputs[input]).map_err(arrow)?;
            columns[at] = take(&columns[at], &taken(order), None).map_err(arrow)?;
        }
        let rows = RecordBatch::try_new(rows.schema(), columns).map_err(arrow)?;
        let losses = score::losses(task, &model.score(&rows)?, &targets)?;
        Ok(losses.iter().sum::<f64>() / losses.len() as f64)
    })
}

fn manifest(file: &File, options: &Import, data: Option<&Data<'_>>) -> Result<Manifest, Error> {
    if options.target.is_empty() {
        return Err(Error::import("target", "is empty: name the column that the model predicts"));
    }
    let (form, inputs) = inputs(file, options, data)?;
    let output = output(file, options)?;
    let (task, classes) = task(file, options, output)?;
    let scores = scores(options, task)?;
    if let Some(unknown) = options.nullable.iter().find(|name| !inputs.iter().any(|input| input.name == **name)) {
        return Err(Error::import("nullable", format!("names {unknown:?}, which is no input: {}", names(&inputs))));
    }
    let time_input = data.and_then(|data| data.time_column).filter(|time| inputs.iter().any(|i| i.name == **time));
    Ok(Manifest {
        format_version: FORMAT_VERSION,
        backend: Backend::Onnx,
        task,
        target: options.target.clone(),
        architecture: None,
        onnx: Some(Box::new(Onnx { inputs: form, output: output.name.clone(), scores })),
        signature: Signature {
            outputs: Output::of_task(task, classes.as_ref().map_or(0, Vec::len)),
            time_input: time_input.map(str::to_owned),
            inputs,
        },
        classes,
        blobs: BTreeMap::new(),
        metrics: BTreeMap::new(),
        reference: ReferenceLoss::of(&[]),
        provenance: Provenance {
            run_id: options.training.as_ref().map(|training| training.run_id.clone()).unwrap_or_default(),
            dataset_digests: data.map(|data| data.digest).into_iter().collect(),
            code_revision: String::new(),
            seed: 0,
            toolchain: format!("imported from ONNX, written by {}", unnamed(&file.producer)),
            trained_until: data.and_then(|data| trained_until(data, options.training.as_ref())),
            recipe: None,
        },
    })
}

fn unnamed(producer: &str) -> &str {
    if producer.is_empty() { "an unnamed program" } else { producer }
}

/// After the last row of the data, and not after the time at which the rows of the training end.
fn trained_until(data: &Data<'_>, training: Option<&Training>) -> Option<i64> {
    let times = Cells::of(data.rows.column_by_name(data.time_column?)?.as_ref())?;
    let last = (0..times.rows()).filter_map(|row| times.timestamp(row)).max();
    let until = training.and_then(|training| training.until).unwrap_or(i64::MAX);
    last.map(|last| last.saturating_add(1).min(until))
}

/// The output with the scores: the one that is named, or else the only one of floats.
fn output<'a>(file: &'a File, options: &Import) -> Result<&'a Outlet, Error> {
    let listed = || {
        let outputs = file.outputs.iter().map(|output| format!("{:?}: {output}", output.name));
        outputs.collect::<Vec<_>>().join(", ")
    };
    let of_floats: Vec<&Outlet> = file.outputs.iter().filter(|output| output.element.is_float()).collect();
    let found = match (&options.output, of_floats.as_slice()) {
        (Some(name), _) => file.outputs.iter().find(|output| output.name == *name),
        (None, [only]) => Some(*only),
        (None, []) => None,
        (None, _) => {
            return Err(Error::import("output", format!("is missing: name the one with the scores of {}", listed())));
        }
    };
    let has_maps = file.outputs.iter().any(|output| output.element == Element::Sequence);
    match found {
        Some(output) if output.element.is_float() && output.shape.len() <= 2 => Ok(output),
        Some(output) if output.element != Element::Sequence => {
            Err(Error::import("output", format!("{:?} is {output}, expected floats [?] or [?, width]", output.name)))
        }
        _ if has_maps => Err(Error::invalid(
            MODEL,
            "its probabilities are a sequence of maps (operator ZipMap): export it with zipmap=False (skl2onnx: \
             options={id(model): {'zipmap': False}}; onnxmltools: convert_lightgbm(.., zipmap=False)), or delete that operator",
        )),
        _ => Err(Error::import("output", format!("is none of the file's outputs of floats: {}", listed()))),
    }
}

fn width(output: &Outlet) -> Option<u64> {
    match output.shape.as_slice() {
        [_] => Some(1),
        [_, width] => *width,
        _ => None,
    }
}

/// The task and its classes.
fn task(file: &File, options: &Import, output: &Outlet) -> Result<(Task, Option<Vec<String>>), Error> {
    let given = Some(options.classes.clone()).filter(|classes| !classes.is_empty());
    let numbers = options.task.is_none() && options.scores == Some(Scores::Numbers);
    if numbers || options.task == Some(Task::Regression) {
        return match given {
            Some(_) => Err(Error::import("classes", "are given for a regression")),
            None => Ok((Task::Regression, None)),
        };
    }
    let named = given.or_else(|| file.classes.clone());
    let of_two = || Some(vec!["0".to_owned(), "1".to_owned()]).filter(|_| options.task == Some(Task::Binary));
    let Some(classes) = named.or_else(of_two) else {
        return match (options.task, width(output)) {
            (None, Some(1)) => Ok((Task::Regression, None)),
            (_, width) => {
                let width = width.map_or("several".to_owned(), |width| width.to_string());
                let problem = format!(
                    "are missing: {output} has {width} scores per row and the file does not name its classes: give them in \
                     the order of the scores"
                );
                Err(Error::import("classes", problem))
            }
        };
    };
    let task = if classes.len() == 2 { Task::Binary } else { Task::Multiclass };
    let fits = match width(output) {
        None => true,
        Some(1) => task == Task::Binary,
        Some(width) => width == classes.len() as u64,
    };
    if !fits || classes.len() < 2 {
        let problem =
            format!("are {} ({}), and {output} has not as many scores per row", classes.len(), classes.join(", "));
        return Err(Error::import("classes", problem));
    }
    if options.task.is_some_and(|given| given != task) {
        return Err(Error::import("task", format!("does not fit {} classes: {}", classes.len(), classes.join(", "))));
    }
    Ok((task, Some(classes)))
}

fn scores(options: &Import, task: Task) -> Result<Scores, Error> {
    let default = if task == Task::Regression { Scores::Numbers } else { Scores::Probabilities };
    match options.scores.unwrap_or(default) {
        scores if (scores == Scores::Numbers) == (default == Scores::Numbers) => Ok(scores),
        other => Err(Error::import("scores", format!("of a {task:?} model are not {}", other.name()))),
    }
}

/// The form of the inputs, and the inputs of the signature.
fn inputs(file: &File, options: &Import, data: Option<&Data<'_>>) -> Result<(InputForm, Vec<Input>), Error> {
    match file.inputs.as_slice() {
        [only] if is_matrix(only, options) => {
            let names = features(only, options, data)?;
            let input = |name: String| input(name, only, options, data);
            let inputs = names.into_iter().map(input).collect::<Result<_, _>>()?;
            Ok((InputForm::Matrix { tensor: only.name.clone() }, inputs))
        }
        columns => {
            if !options.features.is_empty() {
                let problem = "are given, and the file has one input per feature with a name of its own";
                return Err(Error::import("features", problem));
            }
            if let Some(other) = columns.iter().find(|column| rank(column).is_none()) {
                return Err(Error::invalid(MODEL, unfit(other, columns.len())));
            }
            let input = |column: &Outlet| input(column.name.clone(), column, options, data);
            Ok((InputForm::Columns, columns.iter().map(input).collect::<Result<_, _>>()?))
        }
    }
}

fn is_matrix(only: &Outlet, options: &Import) -> bool {
    let is_wide = matches!(only.shape.as_slice(), [None, width] if *width != Some(1) || !options.features.is_empty());
    is_wide && only.element.is_float()
}

/// Why an input is no column of rows, and how to export it.
fn unfit(input: &Outlet, inputs: usize) -> String {
    let name = &input.name;
    match input.shape.as_slice() {
        [Some(rows), ..] => format!(
            "its input {name:?} is {input}, for {rows} rows: export it with a dynamic first dimension (skl2onnx: \
             FloatTensorType([None, width]); PyTorch: dynamic_shapes or dynamic_axes)"
        ),
        _ if inputs == 1 => {
            format!("its input {name:?} is {input}, expected floats [?, features], or one column [?, 1]")
        }
        _ => {
            format!("its input {name:?} is {input}, expected one column [?] or [?, 1], as it is one of {inputs} inputs")
        }
    }
}

/// The names of the features of a matrix: those that are given, or else the columns of the data, or else `f0`, `f1`, ...
fn features(matrix: &Outlet, options: &Import, data: Option<&Data<'_>>) -> Result<Vec<String>, Error> {
    let width = matrix.shape.last().copied().flatten();
    let names = match data {
        _ if !options.features.is_empty() => options.features.clone(),
        Some(data) => {
            let is_other = |name: &String| {
                *name == options.target || Some(name.as_str()) == data.time_column || options.ignore.contains(name)
            };
            let fields = data.rows.schema_ref().fields().iter().map(|field| field.name().clone());
            fields.filter(|name| !is_other(name)).collect()
        }
        None => (0..width.unwrap_or(0)).map(|position| format!("f{position}")).collect(),
    };
    match width {
        Some(width) if width != names.len() as u64 => {
            let problem = format!(
                "are {} ({}), and the file takes {width}: name them in its order, or ignore the other columns",
                names.len(),
                names.join(", ")
            );
            Err(Error::import("features", problem))
        }
        None if names.is_empty() => Err(Error::import(
            "features",
            "are missing: the file does not say how many it takes: name them in its order",
        )),
        _ => Ok(names),
    }
}

fn input(name: String, outlet: &Outlet, options: &Import, data: Option<&Data<'_>>) -> Result<Input, Error> {
    let (datatype, kind) = datatype(outlet.element).ok_or_else(|| {
        let problem =
            format!("its input {:?} is {outlet}: expected float, double, int32, int64, bool or string", outlet.name);
        Error::invalid(MODEL, problem)
    })?;
    let mut input = Input { datatype, kind, nullable: options.nullable.contains(&name), name };
    let Some(data) = data else { return Ok(input) };
    let column = data.rows.column_by_name(&input.name).ok_or_else(|| {
        let problem =
            format!("has no column {:?}, which is an input of the file: rename a column, or the input", input.name);
        Error::import("dataset", problem)
    })?;
    let cells = Cells::of(column.as_ref());
    input.nullable |= column.null_count() > 0;
    match cells {
        Some(Cells::Timestamp(_)) if datatype == Datatype::Int64 => input.kind = ColumnKind::Timestamp,
        // A matrix of floats takes whole numbers and booleans as they are in the data.
        Some(Cells::Int(_)) if datatype == Datatype::Fp64 && rank(outlet).is_none() => input.datatype = Datatype::Int64,
        Some(Cells::Bool(_)) if datatype == Datatype::Fp64 && rank(outlet).is_none() => {
            (input.datatype, input.kind) = (Datatype::Bool, ColumnKind::Boolean);
        }
        _ => {}
    }
    Ok(input)
}

fn names(inputs: &[Input]) -> String {
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    names.join(", ")
}

impl Error {
    fn import(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Import { field, problem: problem.into() }
    }
}
