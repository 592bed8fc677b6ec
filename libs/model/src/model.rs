//! A model that is ready to answer.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow::datatypes::{Field, Schema};
use rekindle_domain::Task;

use crate::{
    Bundle, Datatype, Error, Input, Manifest, Prediction, Signature,
    column::{self, Cells},
    manifest::{PIPELINE, WEIGHTS},
    network::{Network, Shape},
    pipeline::{Encoder, Pipeline},
    prediction::answer,
    score,
    target::{Targets, targets},
};

/// A network with its pipeline, made from a verified bundle. Answering needs no lock and changes nothing, so one model
/// serves any number of threads.
#[derive(Debug)]
pub struct Model {
    manifest: Manifest,
    encoder: Encoder,
    network: Network,
    classes: Vec<Arc<str>>,
}

impl Model {
    /// Makes a model of a bundle, and checks that its parts fit each other.
    pub fn from_bundle(bundle: &Bundle) -> Result<Self, Error> {
        let manifest = bundle.manifest.clone();
        let pipeline = Pipeline::from_bytes(bundle.blob(PIPELINE)?)?;
        let inputs = manifest.signature.inputs.iter().map(|input| input.name.as_str());
        if !inputs.eq(pipeline.features.iter().map(|feature| feature.name.as_str())) {
            return Err(Error::invalid(PIPELINE, "its features are not the inputs of the signature"));
        }
        let shape = Shape::new(&manifest.architecture, &pipeline, network_outputs(&manifest)?);
        let network = Network::from_bytes(bundle.blob(WEIGHTS)?, &shape)?;
        let classes = manifest.classes.iter().flatten().map(|class| Arc::from(class.as_str())).collect();
        Ok(Self { manifest, encoder: Encoder::new(pipeline), network, classes })
    }

    /// The manifest of the bundle that it was made from.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.manifest.signature
    }

    /// Answers each row. The columns are found by name; they must have the signature's types, finite numbers, and no
    /// missing value where the signature has none. Further columns are not looked at.
    pub fn predict(&self, rows: &RecordBatch) -> Result<Prediction, Error> {
        for (position, input) in self.manifest.signature.inputs.iter().enumerate() {
            let array =
                column::find(rows, &input.name, position).ok_or_else(|| Error::InputMissing(input.name.clone()))?;
            check(input, array)?;
        }
        self.score(rows)
    }

    /// Answers each row of a table that was registered rather than requested: missing values are imputed even where
    /// the training rows had none, and whole numbers may come as `Float64`.
    pub fn score(&self, rows: &RecordBatch) -> Result<Prediction, Error> {
        let raw = self.network.forward(&self.encoder.encode(rows)?);
        Ok(answer(self.manifest.task, &self.classes, raw))
    }

    /// Answers one row of plausible values, so that the first request finds caches and allocator warm.
    pub fn warm_up(&self) -> Result<(), Error> {
        let inputs = &self.manifest.signature.inputs;
        let fields: Vec<Field> =
            inputs.iter().map(|input| Field::new(&input.name, input.arrow_type(), input.nullable)).collect();
        let columns = inputs.iter().map(plain_value).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
            .map_err(|error| Error::invalid("signature", error))?;
        let prediction = self.predict(&batch)?;
        let (_, scores) = prediction.scores();
        if scores.iter().all(|score| score.is_finite()) {
            Ok(())
        } else {
            Err(Error::invalid(WEIGHTS, "the first prediction is not finite"))
        }
    }

    /// The true values of rows that have the target column.
    pub fn targets(&self, rows: &RecordBatch) -> Result<Targets, Error> {
        let name = &self.manifest.target;
        let array = rows
            .column_by_name(name)
            .ok_or_else(|| Error::training(name, "the target is not a column: evaluate on labelled rows"))?;
        let cells = Cells::of(array.as_ref())
            .ok_or_else(|| Error::training(name, format!("{} cannot be a target", array.data_type())))?;
        targets(name, &cells, rows.num_rows(), self.manifest.classes.as_deref())
    }

    /// The loss of each row: log loss in nats, or the squared error in the target's units squared.
    pub fn losses(&self, prediction: &Prediction, targets: &Targets) -> Result<Vec<f64>, Error> {
        score::losses(self.manifest.task, prediction, targets)
    }

    /// The metrics of rows whose truth is known, by name: `log_loss`, `accuracy`, and for two classes `auc` and `brier`;
    /// `mae`, `rmse` and `r2` for numbers. A metric that the rows do not define, such as the AUC of one class, is left out.
    pub fn metrics(&self, prediction: &Prediction, targets: &Targets) -> Result<BTreeMap<String, f64>, Error> {
        score::metrics(self.manifest.task, prediction, targets)
    }
}

fn network_outputs(manifest: &Manifest) -> Result<usize, Error> {
    match (manifest.task, manifest.classes.as_ref().map(Vec::len)) {
        (Task::Regression, None) | (Task::Binary, Some(2)) => Ok(1),
        (Task::Multiclass, Some(classes)) if classes >= 2 => Ok(classes),
        (task, classes) => Err(Error::invalid("manifest", format!("a {task:?} task cannot have {classes:?} classes"))),
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
    // Not-a-number is the wire's word for a missing value.
    let refused = |value: f64| value.is_infinite() || (value.is_nan() && !input.nullable);
    match numbers.iter().position(|value| value.is_some_and(refused)) {
        Some(row) => Err(Error::NotFinite { input: input.name.clone(), row, value: numbers.value(row) }),
        None => Ok(()),
    }
}

fn plain_value(input: &Input) -> ArrayRef {
    match input.datatype {
        Datatype::Bool => Arc::new(BooleanArray::from(vec![false])),
        Datatype::Int64 => Arc::new(Int64Array::from(vec![0])),
        Datatype::Fp64 | Datatype::Fp32 => Arc::new(Float64Array::from(vec![0.0])),
        Datatype::Bytes => Arc::new(StringArray::from(vec![""])),
    }
}
