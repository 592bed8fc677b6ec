//! After learning: what is to be expected of the model, and the bundle.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use bytes::Bytes;
use rekindle_domain::Task;
use rekindle_statistics::profile::ColumnProfile;

use super::{Learnt, Origin, TrainInput, mean, prepare::Prepared};
use crate::{
    Bundle, Error, Manifest, Prediction, Provenance, Reference,
    card::{self, Facts},
    column::{self, Cells},
    manifest::{CARD, FORMAT_VERSION, PIPELINE, PROFILE, ReferenceLoss, WEIGHTS},
    reference::FeatureProfile,
    score,
    signature::Kind,
};

/// The library whose arithmetic decides the weights.
const LIBRARY: &str = "burn 0.22.1 (flex)";

pub(super) fn seal(
    input: &TrainInput<'_>,
    origin: &Origin,
    prepared: &Prepared,
    learnt: Learnt,
) -> Result<Bundle, Error> {
    let task = prepared.goal.task;
    let validated = prepared.predict(&learnt.network, &prepared.validation);
    let losses = score::losses(task, &validated, &prepared.validation_targets)?;
    let mut metrics = score::metrics(task, &validated, &prepared.validation_targets)?;
    metrics.insert("train_loss".to_owned(), learnt.train_loss);
    metrics.insert("best_epoch".to_owned(), f64::from(learnt.best_epoch));
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        task,
        classes: prepared.goal.classes.clone(),
        target: input.recipe.target.clone(),
        architecture: input.recipe.architecture.clone(),
        signature: prepared.signature.clone(),
        blobs: BTreeMap::new(),
        metrics,
        reference: reference_loss(&losses),
        provenance: Provenance {
            run_id: origin.run_id.clone(),
            dataset_digests: origin.dataset_digests.clone(),
            code_revision: origin.code_revision.clone(),
            seed: input.recipe.seed,
            toolchain: format!("{LIBRARY}, {}-{}", std::env::consts::ARCH, std::env::consts::OS),
            trained_until: prepared.trained_until,
            recipe: input.recipe.clone(),
        },
    };
    let facts = Facts {
        training_rows: prepared.training.rows,
        validation_rows: prepared.validation.rows,
        epochs: learnt.epochs,
        best_epoch: learnt.best_epoch,
    };
    let trained = prepared.predict(&learnt.network, &prepared.training);
    let reference =
        Reference { features: feature_profiles(prepared)?, prediction: prediction_profile(task, &trained, &validated) };
    let blobs = BTreeMap::from([
        (WEIGHTS.to_owned(), learnt.network.to_bytes()?),
        (PIPELINE.to_owned(), Bytes::from(prepared.encoder.pipeline().to_bytes()?)),
        (PROFILE.to_owned(), reference.to_bytes()?),
        (CARD.to_owned(), Bytes::from(card::write(&manifest, &facts))),
    ]);
    Ok(Bundle::seal(manifest, blobs))
}

fn reference_loss(losses: &[f64]) -> ReferenceLoss {
    let loss_mean = mean(losses);
    let squares = losses.iter().map(|loss| (loss - loss_mean).powi(2)).sum::<f64>();
    let loss_std = (squares / (losses.len() as f64 - 1.0).max(1.0)).sqrt();
    ReferenceLoss { loss_mean, loss_std, rows: losses.len() as u64 }
}

fn feature_profiles(prepared: &Prepared) -> Result<Vec<FeatureProfile>, Error> {
    let profiled = prepared.signature.inputs.iter().filter(|input| input.kind != Kind::Timestamp);
    profiled
        .map(|input| {
            let array = column::find(&prepared.batch, &input.name, 0);
            let cells = array.and_then(Cells::of).ok_or_else(|| Error::InputMissing(input.name.clone()))?;
            Ok(FeatureProfile { name: input.name.clone(), profile: feature_profile(&prepared.batch, &cells) })
        })
        .collect()
}

/// Numbers by value; texts by name; flags by the names `true` and `false`.
fn feature_profile(batch: &RecordBatch, cells: &Cells<'_>) -> ColumnProfile {
    let rows = 0..batch.num_rows();
    match cells {
        Cells::Int(_) | Cells::Float(_) => ColumnProfile::from_numeric(rows.map(|row| cells.number(row))),
        Cells::Text(_) | Cells::Instant(_) => ColumnProfile::from_categorical(rows.map(|row| cells.text(row))),
        Cells::Flag(_) => ColumnProfile::from_categorical(
            rows.map(|row| cells.flag(row).map(|yes| if yes { "true" } else { "false" })),
        ),
    }
}

fn prediction_profile(task: Task, trained: &Prediction, validated: &Prediction) -> ColumnProfile {
    let parts = [trained, validated];
    if task == Task::Multiclass {
        let labels = parts.iter().flat_map(|part| part.labels().unwrap_or_default());
        ColumnProfile::from_categorical(labels.map(|label| Some(&**label)))
    } else {
        let scores = parts.iter().flat_map(|part| part.scores().1);
        ColumnProfile::from_numeric(scores.map(|&score| Some(f64::from(score))))
    }
}
