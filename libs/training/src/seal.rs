//! Sealing of a trained model as a bundle: expected loss, reference profile, model card and provenance.

use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_bundle::{
    Backend, Bundle, LossSample, Manifest, Prediction, Provenance, Reference, Targets, ValidationRows,
    card::{self, TrainingSummary},
    importance::Importance,
    manifest::{CARD, FORMAT_VERSION, LOSS_SAMPLE, PIPELINE, PROFILE, ReferenceLoss, WEIGHTS},
    network::Network,
    pipeline::Pipeline,
    score,
};

use crate::{Error, Origin, TrainInput, baseline::baselines, prepare::Prepared};

/// The version of burn, whose arithmetic determines the weights. A test compares it with the lock file.
const BURN_VERSION: &str = "0.22.1";

/// The result of training with early stopping.
pub(crate) struct Validated {
    /// The network of the best epoch.
    pub(crate) network: Network,
    /// Its predictions of the validation rows.
    pub(crate) prediction: Prediction,
    /// Their losses.
    pub(crate) losses: Vec<f64>,
    /// Their losses before the calibration, times the weights of the rows: what recipes are compared by.
    pub(crate) criterion: Vec<f64>,
    /// What the log odds were divided by.
    pub(crate) temperature: f64,
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
    importances: &[Importance],
    served: &Served,
) -> Result<Bundle, Error> {
    let task = prepared.goal.task;
    let targets = prepared.targets.slice(prepared.split..prepared.table.rows());
    let losses = &validated.losses;
    let manifest = manifest(input, origin, prepared, validated, &targets)?;
    let summary = TrainingSummary {
        training_rows: prepared.training_rows(prepared.split).len(),
        served_rows: prepared.training_rows(prepared.table.rows()).len(),
        validation_rows: prepared.table.rows() - prepared.split,
        epochs: validated.epochs,
        best_epoch: validated.best_epoch,
        temperature: Some(validated.temperature).filter(|temperature| *temperature != 1.0),
        baselines: baselines(
            &prepared.targets.slice(prepared.training_rows(prepared.split)),
            &targets,
            input.time_column.is_some(),
        ),
    };
    let times = prepared.times(input)?;
    let reference = Reference::of(task, &prepared.signature, &prepared.table.batch, &served.prediction, times)?;
    let rows = prepared.table.batch.slice(prepared.split, summary.validation_rows);
    let reference = reference.validated(&ValidationRows {
        task,
        rows: &rows,
        prediction: &validated.prediction,
        targets: &targets,
        importances,
    })?;
    let features = reference.by_importance().into_iter().map(|feature| feature.name.as_str());
    let sample = LossSample::of(&rows, features, losses)?;
    let blobs = BTreeMap::from([
        (WEIGHTS.to_owned(), served.network.to_bytes()?),
        (PIPELINE.to_owned(), served.pipeline.to_bytes()?),
        (PROFILE.to_owned(), reference.to_bytes()?),
        (LOSS_SAMPLE.to_owned(), sample.to_bytes()?),
        (CARD.to_owned(), Bytes::from(card::render(&manifest, &summary, importances, &served.pipeline))),
    ]);
    Ok(Bundle::seal(manifest, blobs))
}

/// The manifest without blobs.
fn manifest(
    input: &TrainInput<'_>,
    origin: &Origin,
    prepared: &Prepared,
    validated: &Validated,
    targets: &Targets,
) -> Result<Manifest, Error> {
    let task = prepared.goal.task;
    let mut metrics = score::metrics(task, &validated.prediction, targets)?;
    metrics.insert("train_loss".to_owned(), validated.train_loss);
    metrics.insert("best_epoch".to_owned(), f64::from(validated.best_epoch));
    Ok(Manifest {
        format_version: FORMAT_VERSION,
        backend: Backend::Network,
        task,
        classes: prepared.goal.classes.clone(),
        target: input.recipe.target.clone(),
        architecture: Some(input.recipe.model.architecture()),
        onnx: None,
        signature: prepared.signature.clone(),
        blobs: BTreeMap::new(),
        metrics,
        reference: match input.time_column {
            Some(_) => ReferenceLoss::in_order(&validated.losses),
            None => ReferenceLoss::of(&validated.losses),
        },
        provenance: Provenance {
            run_id: origin.run_id.clone(),
            dataset_digests: origin.dataset_digests.clone(),
            code_revision: origin.code_revision.clone(),
            seed: input.recipe.seed,
            toolchain: format!("burn {BURN_VERSION} (flex), {}-{}", std::env::consts::ARCH, std::env::consts::OS),
            trained_until: prepared.trained_until,
            recipe: Some(Box::new(input.recipe.clone())),
        },
    })
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
