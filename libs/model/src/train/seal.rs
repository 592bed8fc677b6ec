//! After learning: what is to be expected of the model, and the bundle.

use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_domain::Task;
use rekindle_statistics::profile::ColumnProfile;

use super::{Expected, Learnt, Origin, TrainInput, mean, prepare::Prepared};
use crate::{
    Bundle, Error, Manifest, Prediction, Provenance, Reference,
    card::{self, Facts},
    column::Cells,
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
    expected: &Expected,
    learnt: &Learnt,
) -> Result<Bundle, Error> {
    let task = prepared.goal.task;
    let rows = prepared.table.rows();
    let truth = prepared.targets.slice(prepared.split..rows);
    let losses = score::losses(task, &expected.validated, &truth)?;
    let mut metrics = score::metrics(task, &expected.validated, &truth)?;
    metrics.insert("train_loss".to_owned(), expected.train_loss);
    metrics.insert("best_epoch".to_owned(), f64::from(expected.best_epoch));
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
        training_rows: prepared.split,
        validation_rows: rows - prepared.split,
        epochs: expected.epochs,
        best_epoch: expected.best_epoch,
    };
    let answers = prepared.predict(&learnt.network, &learnt.fold.rows);
    let reference = Reference { features: feature_profiles(prepared)?, prediction: prediction_profile(task, &answers) };
    let blobs = BTreeMap::from([
        (WEIGHTS.to_owned(), learnt.network.to_bytes()?),
        (PIPELINE.to_owned(), Bytes::from(learnt.fold.encoder.pipeline().to_bytes()?)),
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
            let cells = prepared.cells(&input.name)?;
            Ok(FeatureProfile { name: input.name.clone(), profile: feature_profile(prepared.table.rows(), &cells) })
        })
        .collect()
}

fn feature_profile(rows: usize, cells: &Cells<'_>) -> ColumnProfile {
    let rows = 0..rows;
    match cells {
        Cells::Int(_) | Cells::Float(_) => ColumnProfile::of_numbers(rows.map(|row| cells.number(row))),
        Cells::Text(_) | Cells::Instant(_) => ColumnProfile::of_texts(rows.map(|row| cells.text(row))),
        Cells::Flag(_) => ColumnProfile::of_flags(rows.map(|row| cells.flag(row))),
    }
}

fn prediction_profile(task: Task, answers: &Prediction) -> ColumnProfile {
    if task == Task::Multiclass {
        ColumnProfile::of_texts(answers.labels().unwrap_or_default().iter().map(|label| Some(&**label)))
    } else {
        ColumnProfile::of_numbers(answers.scores().1.iter().map(|&score| Some(f64::from(score))))
    }
}
