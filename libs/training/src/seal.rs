//! Sealing of a trained model as a bundle: expected loss, reference profile, model card and provenance.

use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_bundle::{
    Backend, Bundle, Manifest, Prediction, Provenance, Reference,
    card::{self, TrainingSummary},
    column::Cells,
    manifest::{CARD, FORMAT_VERSION, PIPELINE, PROFILE, ReferenceLoss, WEIGHTS},
    network::Network,
    pipeline::Pipeline,
    reference::FeatureProfile,
    score,
};
use rekindle_domain::{ColumnKind, Task};
use rekindle_statistics::profile::ColumnProfile;

use crate::{Error, Origin, TrainInput, prepare::Prepared, train::mean};

/// The version of burn, whose arithmetic determines the weights. A test compares it with the lock file.
const BURN_VERSION: &str = "0.22.1";

/// The result of training with early stopping.
pub(crate) struct Validated {
    /// Predictions of the validation rows by the network of the best epoch.
    pub(crate) prediction: Prediction,
    /// Training loss of the best epoch.
    pub(crate) train_loss: f64,
    pub(crate) epochs: u32,
    pub(crate) best_epoch: u32,
}

/// The network to serve, trained on all rows.
pub(crate) struct Served {
    pub(crate) network: Network,
    pub(crate) pipeline: Pipeline,
    /// Predictions of all rows.
    pub(crate) prediction: Prediction,
}

pub(crate) fn seal(
    input: &TrainInput<'_>,
    origin: &Origin,
    prepared: &Prepared,
    validated: &Validated,
    served: &Served,
) -> Result<Bundle, Error> {
    let manifest = manifest(input, origin, prepared, validated)?;
    let summary = TrainingSummary {
        training_rows: prepared.split,
        validation_rows: prepared.table.rows() - prepared.split,
        epochs: validated.epochs,
        best_epoch: validated.best_epoch,
    };
    let reference = Reference {
        features: feature_profiles(prepared)?,
        prediction: prediction_profile(prepared.goal.task, &served.prediction),
    };
    let blobs = BTreeMap::from([
        (WEIGHTS.to_owned(), served.network.to_bytes()?),
        (PIPELINE.to_owned(), served.pipeline.to_bytes()?),
        (PROFILE.to_owned(), reference.to_bytes()?),
        (CARD.to_owned(), Bytes::from(card::render(&manifest, &summary))),
    ]);
    Ok(Bundle::seal(manifest, blobs))
}

/// The manifest without blobs.
fn manifest(
    input: &TrainInput<'_>,
    origin: &Origin,
    prepared: &Prepared,
    validated: &Validated,
) -> Result<Manifest, Error> {
    let task = prepared.goal.task;
    let labels = prepared.targets.slice(prepared.split..prepared.table.rows());
    let losses = score::losses(task, &validated.prediction, &labels)?;
    let mut metrics = score::metrics(task, &validated.prediction, &labels)?;
    metrics.insert("train_loss".to_owned(), validated.train_loss);
    metrics.insert("best_epoch".to_owned(), f64::from(validated.best_epoch));
    Ok(Manifest {
        format_version: FORMAT_VERSION,
        backend: Backend::Network,
        task,
        classes: prepared.goal.classes.clone(),
        target: input.recipe.target.clone(),
        architecture: input.recipe.model.architecture(),
        signature: prepared.signature.clone(),
        blobs: BTreeMap::new(),
        metrics,
        reference: reference_loss(&losses),
        provenance: Provenance {
            run_id: origin.run_id.clone(),
            dataset_digests: origin.dataset_digests.clone(),
            code_revision: origin.code_revision.clone(),
            seed: input.recipe.seed,
            toolchain: format!("burn {BURN_VERSION} (flex), {}-{}", std::env::consts::ARCH, std::env::consts::OS),
            trained_until: prepared.trained_until,
            recipe: input.recipe.clone(),
        },
    })
}

fn reference_loss(losses: &[f64]) -> ReferenceLoss {
    let loss_mean = mean(losses);
    let squares = losses.iter().map(|loss| (loss - loss_mean).powi(2)).sum::<f64>();
    let loss_std = (squares / (losses.len() as f64 - 1.0).max(1.0)).sqrt();
    ReferenceLoss { loss_mean, loss_std, rows: losses.len() as u64 }
}

fn feature_profiles(prepared: &Prepared) -> Result<Vec<FeatureProfile>, Error> {
    let profiled = prepared.signature.inputs.iter().filter(|input| input.kind != ColumnKind::Timestamp);
    profiled
        .map(|input| {
            let cells = prepared.cells(&input.name)?;
            Ok(FeatureProfile { name: input.name.clone(), profile: feature_profile(&cells) })
        })
        .collect()
}

fn feature_profile(cells: &Cells<'_>) -> ColumnProfile {
    let rows = 0..cells.rows();
    match cells {
        Cells::Int(_) | Cells::Float(_) => ColumnProfile::of_numbers(rows.map(|row| cells.number(row))),
        Cells::Text(_) | Cells::Timestamp(_) => ColumnProfile::of_texts(rows.map(|row| cells.text(row))),
        Cells::Bool(_) => ColumnProfile::of_flags(rows.map(|row| cells.boolean(row))),
    }
}

fn prediction_profile(task: Task, prediction: &Prediction) -> ColumnProfile {
    if task == Task::Multiclass {
        ColumnProfile::of_texts(prediction.labels().unwrap_or_default().iter().map(|label| Some(&**label)))
    } else {
        ColumnProfile::of_numbers(prediction.scores().1.iter().map(|&score| Some(f64::from(score))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burn_version_matches_the_lock_file() {
        let lock = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"));
        let version = lock.lines().skip_while(|line| *line != r#"name = "burn""#).nth(1);
        assert_eq!(version, Some(format!("version = \"{BURN_VERSION}\"").as_str()));
    }
}
