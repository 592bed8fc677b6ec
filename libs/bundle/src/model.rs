//! A loaded model.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow::datatypes::{Field, Schema};
use rekindle_domain::Task;

use crate::{
    Bundle, Datatype, Error, Explanation, Input, Manifest, Prediction, Signature,
    column::{self, Cells},
    engine::Engine,
    explanation,
    manifest::MANIFEST,
    onnx, score,
    target::Targets,
};

/// A model loaded from a verified bundle. Prediction changes no state: one model serves any number of threads. A network takes no lock;
/// an ONNX model has a few sessions, each of which computes one prediction at a time.
#[derive(Debug)]
pub struct Model {
    manifest: Manifest,
    classes: Vec<Arc<str>>,
    engine: Engine,
}

impl Model {
    /// Loads a model and checks that the parts of the bundle fit each other.
    pub fn from_bundle(bundle: &Bundle) -> Result<Self, Error> {
        let manifest = bundle.manifest.clone();
        check_classes(&manifest)?;
        let classes = manifest.classes.iter().flatten().map(|class| Arc::from(class.as_str())).collect();
        Ok(Self { manifest, classes, engine: Engine::load(bundle)? })
    }

    /// The manifest of the bundle.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How far the score of a row may differ from that of another batch or machine: this share of it, and at least this much. A network has
    /// the same bits in every batch.
    pub fn tolerance(&self) -> f32 {
        match &self.engine {
            Engine::Network { .. } => 0.0,
            Engine::Onnx(_) => onnx::TOLERANCE,
        }
    }

    /// The name of the platform in the metadata of the Open Inference Protocol.
    pub fn platform(&self) -> &'static str {
        self.manifest.backend.platform()
    }

    /// Inputs and outputs.
    pub fn signature(&self) -> &Signature {
        &self.manifest.signature
    }

    /// Predicts every row of a request. Columns are matched by name and further columns are ignored.
    ///
    /// # Errors
    /// A column is missing or has another type than its input; a value is infinite; a value is missing in an input that
    /// is not nullable.
    pub fn predict(&self, rows: &RecordBatch) -> Result<Prediction, Error> {
        for (position, input) in self.manifest.signature.inputs.iter().enumerate() {
            let array =
                column::find(rows, &input.name, position).ok_or_else(|| Error::InputMissing(input.name.clone()))?;
            check(input, array)?;
        }
        self.score(rows)
    }

    /// Predicts every row of a registered table. Unlike [`Self::predict`] it imputes missing values also in inputs that
    /// are not nullable, and accepts integers as `Float64`.
    pub fn score(&self, rows: &RecordBatch) -> Result<Prediction, Error> {
        Ok(Prediction::from_outputs(self.manifest.task, &self.classes, self.engine.run(rows)?))
    }

    /// Explains `prediction`, which this model has made for `rows`.
    pub fn explain(&self, rows: &RecordBatch, prediction: &Prediction) -> Result<Explanation, Error> {
        let labels = prediction.labels().filter(|_| self.manifest.task == Task::Multiclass);
        let class = |row: usize| {
            let label = labels.and_then(|labels| labels.get(row));
            label.and_then(|label| self.classes.iter().position(|class| class == label)).unwrap_or(0)
        };
        self.engine.explain(rows, class).unwrap_or_else(|| self.explain_by_sampling(rows, class))
    }

    fn explain_by_sampling(&self, rows: &RecordBatch, class: impl Fn(usize) -> usize) -> Result<Explanation, Error> {
        let (baseline, inputs) = (self.default_row()?, &self.manifest.signature.inputs);
        let find = |(position, input): (usize, &Input)| {
            column::find(rows, &input.name, position).ok_or_else(|| Error::InputMissing(input.name.clone()))
        };
        let columns = inputs.iter().enumerate().map(find).collect::<Result<Vec<_>, _>>()?;
        let mut explanation = Explanation::new(inputs.len());
        for row in 0..rows.num_rows() {
            let pair = explanation::beside(baseline.columns(), &columns, row)?;
            let scores = |columns: &[ArrayRef]| {
                let prediction = self.score(&explanation::batch(&baseline, columns)?)?;
                Ok(score::explained(self.manifest.task, &prediction, class(row)))
            };
            let (contributions, baseline, score) = explanation::shapley(&pair, scores)?;
            explanation.contributions.extend(contributions);
            explanation.baselines.push(baseline);
            explanation.scores.push(score);
        }
        Ok(explanation)
    }

    /// Predicts one row of default values, so that the first request finds warm caches.
    pub fn warm_up(&self) -> Result<(), Error> {
        let prediction = self.predict_default()?;
        let (_, scores) = prediction.scores();
        if scores.iter().all(|score| score.is_finite()) {
            Ok(())
        } else {
            Err(Error::invalid(self.manifest.backend.roles()[0], "the warm-up prediction is not finite"))
        }
    }

    /// Checks that the answer to a row does not depend on the other rows of its batch. A network is such by construction.
    pub(crate) fn check_rows(&self) -> Result<(), Error> {
        match &self.engine {
            Engine::Network { .. } => Ok(()),
            Engine::Onnx(sessions) => onnx::check_rows(self.signature(), |rows| sessions.run(rows)),
        }
    }

    /// Predicts one row of default values.
    pub(crate) fn predict_default(&self) -> Result<Prediction, Error> {
        self.predict(&self.default_row()?)
    }

    /// One row of default values, which may be missing in features that allow it.
    fn default_row(&self) -> Result<RecordBatch, Error> {
        let inputs = &self.manifest.signature.inputs;
        let fields: Vec<Field> =
            inputs.iter().map(|input| Field::new(&input.name, input.arrow_type(), input.nullable)).collect();
        let columns = inputs.iter().map(default_value).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
            .map_err(|error| Error::invalid("signature", error))
    }

    /// The labels of rows that have the target column.
    pub fn targets(&self, rows: &RecordBatch) -> Result<Targets, Error> {
        let name = &self.manifest.target;
        let array = rows
            .column_by_name(name)
            .ok_or_else(|| Error::target(name, "the target column is missing: evaluate on labelled rows"))?;
        let cells = Cells::of(array.as_ref())
            .ok_or_else(|| Error::target(name, format!("{} cannot be a target", array.data_type())))?;
        Targets::from_column(name, &cells, self.manifest.classes.as_deref())
    }

    /// The loss of each row: log loss in nats, or squared error in the target's units squared.
    pub fn losses(&self, prediction: &Prediction, targets: &Targets) -> Result<Vec<f64>, Error> {
        score::losses(self.manifest.task, prediction, targets)
    }

    /// Metrics of labelled rows by name: [`score::metrics`].
    pub fn metrics(&self, prediction: &Prediction, targets: &Targets) -> Result<BTreeMap<String, f64>, Error> {
        score::metrics(self.manifest.task, prediction, targets)
    }
}

fn check_classes(manifest: &Manifest) -> Result<(), Error> {
    match (manifest.task, manifest.classes.as_ref().map(Vec::len)) {
        (Task::Regression, None) | (Task::Binary, Some(2)) => Ok(()),
        (Task::Multiclass, Some(classes)) if classes >= 2 => Ok(()),
        (task, classes) => Err(Error::invalid(MANIFEST, format!("task {task:?} does not fit {classes:?} classes"))),
    }
}

fn check(input: &Input, array: &dyn Array) -> Result<(), Error> {
    if !input.accepts(array.data_type()) {
        return Err(Error::InputType {
            input: input.name.clone(),
            expected: input.arrow_type().to_string(),
            got: array.data_type().to_string(),
        });
    }
    if !input.nullable
        && array.null_count() > 0
        && let Some(row) = (0..array.len()).find(|&row| array.is_null(row))
    {
        return Err(Error::ValueMissing { input: input.name.clone(), row });
    }
    let Some(Cells::Float(numbers)) = Cells::of(array) else { return Ok(()) };
    // Most columns are such, and a loop without an exit is a few times faster.
    if numbers.values().iter().fold(true, |all, value| all & value.is_finite()) {
        return Ok(());
    }
    // The wire encodes a missing number as not-a-number.
    let refused = |value: f64| value.is_infinite() || (value.is_nan() && !input.nullable);
    let first = match numbers.null_count() {
        0 => numbers.values().iter().position(|&value| refused(value)),
        _ => numbers.iter().position(|value| value.is_some_and(refused)),
    };
    match first {
        Some(row) => Err(Error::NotFinite { input: input.name.clone(), row, value: numbers.value(row) }),
        None => Ok(()),
    }
}

fn default_value(input: &Input) -> ArrayRef {
    match input.datatype {
        Datatype::Bool => Arc::new(BooleanArray::from(vec![false])),
        Datatype::Int64 => Arc::new(Int64Array::from(vec![0])),
        Datatype::Fp64 | Datatype::Fp32 => Arc::new(Float64Array::from(vec![0.0])),
        Datatype::Bytes => Arc::new(StringArray::from(vec![""])),
    }
}
