//! The model card, in Markdown: purpose, metrics, training data and limits of a model.

use std::fmt::{Result, Write as _};

use rekindle_domain::{Architecture, Digest, Task};

use crate::{
    Manifest,
    importance::{Importance, MAX_ROWS, PERMUTATIONS},
    onnx::File,
    pipeline::{Encoding, Feature, MIN_VALUE_ROWS, Pipeline},
};

/// What the card says about training beyond the manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingSummary {
    /// Rows before the validation rows.
    pub training_rows: usize,
    /// Rows that the served network is trained on.
    pub served_rows: usize,
    /// Rows held out for early stopping and for the metrics.
    pub validation_rows: usize,
    /// Epochs until early stopping.
    pub epochs: u32,
    /// The epoch with the lowest validation loss, from 1.
    pub best_epoch: u32,
    /// What the log odds are divided by; `None` if they are not calibrated.
    pub temperature: Option<f64>,
    /// The metrics of predictions that use no feature.
    pub baselines: Vec<Baseline>,
}

/// A metric, on the validation rows, of a prediction that uses no feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// What is predicted for every row.
    pub name: String,
    /// The metric.
    pub metric: String,
    /// Its value.
    pub value: f64,
}

/// Renders the card. Its content comes from the arguments alone.
pub fn render(
    manifest: &Manifest,
    training: &TrainingSummary,
    importances: &[Importance],
    pipeline: &Pipeline,
) -> String {
    let mut card = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut card, manifest, training, importances, pipeline);
    card
}

fn write(
    card: &mut String,
    manifest: &Manifest,
    training: &TrainingSummary,
    importances: &[Importance],
    pipeline: &Pipeline,
) -> Result {
    let target = &manifest.target;
    writeln!(card, "# {target}\n")?;
    writeln!(
        card,
        "Predicts `{target}`: {}, with {}.\n",
        output(manifest),
        architecture(manifest.architecture.as_ref())
    )?;
    training_data(card, manifest, training)?;
    writeln!(card, "\n## Metrics on the validation rows\n\n| metric | value |\n|---|---|")?;
    for (name, value) in &manifest.metrics {
        writeln!(card, "| {name} | {value:.4} |")?;
    }
    if !training.baselines.is_empty() {
        writeln!(card, "\nBaselines, which use no feature:\n\n| prediction | metric | value |\n|---|---|---|")?;
        for Baseline { name, metric, value } in &training.baselines {
            writeln!(card, "| {name} | {metric} | {value:.4} |")?;
        }
    }
    if let Some(temperature) = training.temperature {
        writeln!(card, "\nThe probabilities are calibrated on the validation rows: temperature {temperature:.3}.")?;
    }
    inputs(card, manifest)?;
    features(card, manifest.task, importances)?;
    writeln!(card, "\n## Limitations\n")?;
    writeln!(
        card,
        "Predictions for rows unlike the training rows are unreliable. Numbers beyond those of the training rows count as the nearest of them. Category values with fewer than {MIN_VALUE_ROWS} training rows are treated as unknown."
    )?;
    unused(card, pipeline)?;
    let provenance = &manifest.provenance;
    writeln!(card, "\n## Provenance\n")?;
    writeln!(
        card,
        "Run `{}`, code revision `{}`, seed {}, {}.",
        provenance.run_id, provenance.code_revision, provenance.seed, provenance.toolchain
    )
}

/// The features that the model does not use.
fn unused(card: &mut String, pipeline: &Pipeline) -> Result {
    let unused = pipeline.features.iter().filter(|feature| matches!(feature.encoding, Encoding::Constant { .. }));
    for Feature { name, encoding } in unused {
        let missing = if encoding.width() == 0 { "" } else { ", but for whether it is missing" };
        writeln!(card, "\n`{name}` had one value or none in all training rows and is not used{missing}.")?;
    }
    Ok(())
}

/// Renders the card of an imported model. Its content comes from `manifest`, `file` and `importances` alone.
pub(crate) fn render_imported(manifest: &Manifest, file: &File, importances: &[Importance]) -> String {
    let mut card = String::new();
    // Writing to a String cannot fail.
    let _ = write_imported(&mut card, manifest, file, importances);
    card
}

fn write_imported(card: &mut String, manifest: &Manifest, file: &File, importances: &[Importance]) -> Result {
    let (target, producer) = (&manifest.target, &file.producer);
    writeln!(card, "# {target}\n")?;
    writeln!(card, "Predicts `{target}`: {}, with a model in the ONNX format.\n", output(manifest))?;
    writeln!(card, "## Reference data\n")?;
    match manifest.provenance.dataset_digests.as_slice() {
        [] => writeln!(card, "None were named at the import: neither drift nor a rise of the loss can be measured.")?,
        digests => datasets(card, digests)?,
    }
    if !manifest.metrics.is_empty() {
        writeln!(card, "\n## Metrics on the reference data\n\n| metric | value |\n|---|---|")?;
        for (name, value) in &manifest.metrics {
            writeln!(card, "| {name} | {value:.4} |")?;
        }
    }
    inputs(card, manifest)?;
    features(card, manifest.task, importances)?;
    writeln!(card, "\n## Provenance\n")?;
    let producer = if producer.is_empty() { "a program that is not named" } else { producer };
    writeln!(card, "Imported; the file was written by {producer}.")
}

fn training_data(card: &mut String, manifest: &Manifest, training: &TrainingSummary) -> Result {
    let TrainingSummary { training_rows, served_rows, validation_rows, epochs, best_epoch, .. } = *training;
    writeln!(card, "## Training data\n")?;
    writeln!(
        card,
        "Trained on {training_rows} rows with early stopping on the following {validation_rows} rows (best epoch: \
         {best_epoch} of {epochs}). The metrics are those of this network on the validation rows. The served network \
         is trained on {} {served_rows} rows for {best_epoch} epochs.\n",
        if served_rows == training_rows + validation_rows { "all" } else { "the latest" }
    )?;
    datasets(card, &manifest.provenance.dataset_digests)
}

fn datasets(card: &mut String, digests: &[Digest]) -> Result {
    digests.iter().try_for_each(|digest| writeln!(card, "- dataset `{digest}`"))
}

fn inputs(card: &mut String, manifest: &Manifest) -> Result {
    writeln!(card, "\n## Inputs\n\n| name | datatype | kind | nullable |\n|---|---|---|---|")?;
    for input in &manifest.signature.inputs {
        let nullable = if input.nullable { "yes" } else { "no" };
        writeln!(card, "| `{}` | {} | {:?} | {nullable} |", input.name, input.datatype, input.kind)?;
    }
    Ok(())
}

/// The importance of each feature; nothing if none was computed.
fn features(card: &mut String, task: Task, importances: &[Importance]) -> Result {
    if importances.is_empty() {
        return Ok(());
    }
    let loss = if task == Task::Regression { "squared error" } else { "log loss" };
    writeln!(card, "\n## Feature importance\n")?;
    writeln!(
        card,
        "Increase of the {loss} when the values of the feature are permuted among at most {MAX_ROWS} of the rows that the metrics are of: \
         mean and standard deviation of {PERMUTATIONS} permutations.\n\n| feature | mean | std |\n|---|---|---|"
    )?;
    importances.iter().try_for_each(|one| writeln!(card, "| `{}` | {:.4} | {:.4} |", one.feature, one.mean, one.std))
}

fn output(manifest: &Manifest) -> String {
    let classes = manifest.classes.as_deref().unwrap_or_default();
    match manifest.task {
        Task::Binary => format!("the probability of `{}`", classes.last().map_or("", String::as_str)),
        Task::Multiclass => format!("the probabilities of {} classes", classes.len()),
        Task::Regression => "a number".to_owned(),
    }
}

fn architecture(architecture: Option<&Architecture>) -> String {
    match architecture {
        None => "an imported model".to_owned(),
        Some(Architecture::Linear) => "a linear model".to_owned(),
        Some(Architecture::TabM { members, bins, hidden, dropout }) => format!(
            "an ensemble of {members} multi-layer perceptrons that share their hidden layers ({hidden:?}, dropout {dropout}), with entity embeddings \
             for categorical features and piecewise-linear encodings of numbers in {bins} bins"
        ),
        Some(Architecture::Mlp { hidden, dropout }) => format!(
            "a multi-layer perceptron (hidden layers {hidden:?}, dropout {dropout}) with entity embeddings for \
             categorical features"
        ),
        Some(Architecture::Cnn { image, filters, hidden, dropout }) => format!(
            "a convolutional network for images of {image} values (layers of {filters:?} filters of 3x3 pixels with 2x2 pooling, fully connected \
             layers {hidden:?}, dropout {dropout})"
        ),
    }
}
