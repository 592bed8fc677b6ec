//! `rekindle models import`.

use std::path::PathBuf;

use anyhow::Result;
use rekindle_client::{Registry, registry::UploadPurpose};
use rekindle_domain::{
    DatasetName, ModelName,
    model_version::{ModelImport, ModelVersion, Scores},
};
use uuid::Uuid;

use crate::client::{output, train::TaskArg, upload::upload_file};

/// An import.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file is checked, and run once by ONNX Runtime where the registry runs. Names and types are those of the file, and of the dataset if one
is named. Name the dataset that the model was trained on, so that drift from it can be measured; if it has the target, the metrics and the
expected loss are those of its rows.

Examples:
  rekindle models import flight-delay model.onnx --target late --dataset flights --ignore flight
  rekindle models import churn model.onnx --target churned --features age,income,visits --classes no,yes
  rekindle models import price net.onnx --target price --task regression --dataset sales@3")]
pub(crate) struct Import {
    /// Model name
    model: ModelName,
    /// File in the ONNX format
    file: PathBuf,
    /// Column that the model predicts; outcomes report it
    #[arg(long, value_name = "COL")]
    target: String,
    /// Task; by the number of classes by default
    #[arg(long, value_enum)]
    task: Option<TaskArg>,
    /// Classes in the order of the scores, the last of two being the positive class; by default those that the file names
    #[arg(long, value_name = "CLASS,..", value_delimiter = ',')]
    classes: Vec<String>,
    /// Names of the features, in the order of the columns of the one tensor that the file takes; by default those of the dataset, or f0,
    /// f1 and so on
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    features: Vec<String>,
    /// Inputs whose values may be missing; by default those that miss some in the dataset
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    nullable: Vec<String>,
    /// Output of the file that has the scores, if several could
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// What the scores are; probabilities of classes, and numbers of a regression, by default
    #[arg(long, value_enum)]
    scores: Option<ScoresArg>,
    /// Dataset that the model was trained on, or one like it, with its version; the latest by default
    #[arg(long, value_name = "NAME[@N]", value_parser = dataset)]
    dataset: Option<(DatasetName, Option<u32>)>,
    /// Columns of the dataset that are neither features nor the target
    #[arg(long, value_name = "COL,..", value_delimiter = ',')]
    ignore: Vec<String>,
    /// Description of the version
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// Idempotency key; a repeated call with the same key returns the version that the first call created
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// What the scores of a file are.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ScoresArg {
    /// Probabilities of classes
    Probabilities,
    /// Log odds of the positive class, or logits of each class
    Logits,
    /// Numbers
    Numbers,
}

impl From<ScoresArg> for Scores {
    fn from(scores: ScoresArg) -> Self {
        match scores {
            ScoresArg::Probabilities => Self::Probabilities,
            ScoresArg::Logits => Self::Logits,
            ScoresArg::Numbers => Self::Numbers,
        }
    }
}

/// `NAME` or `NAME@VERSION`.
fn dataset(text: &str) -> Result<(DatasetName, Option<u32>), String> {
    let (name, version) = text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
    let version = version.map(|version| match version.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("version {version:?} is not a number from 1")),
    });
    Ok((name.parse().map_err(|error| format!("{error}"))?, version.transpose()?))
}

/// Uploads the file and creates the version.
pub(super) async fn run(given: Import, registry: &Registry) -> Result<ModelVersion> {
    let file = upload_file(registry, UploadPurpose::Blob, &given.file, |_| {}).await?;
    let idempotency_key = given.idempotency_key.unwrap_or_else(|| Uuid::now_v7().to_string());
    let import = ModelImport {
        model: given.model,
        file,
        target: given.target,
        task: given.task.map(Into::into),
        classes: given.classes,
        features: given.features,
        nullable: given.nullable,
        output: given.output,
        scores: given.scores.map(Into::into),
        dataset: given.dataset,
        ignore: given.ignore,
        description: given.description,
        training: None,
    };
    let running = output::bar(0, "{spinner} checking the model {elapsed}");
    running.enable_steady_tick(std::time::Duration::from_millis(100));
    let imported = registry.import_version(&import, idempotency_key).await;
    running.finish_and_clear();
    Ok(imported?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_may_have_a_version() {
        let name: DatasetName = "sales".parse().expect("a name");
        assert_eq!(dataset("sales"), Ok((name.clone(), None)));
        assert_eq!(dataset("sales@3"), Ok((name, Some(3))));
        for text in ["sales@0", "sales@", "sales@x", "No Name", ""] {
            assert!(dataset(text).is_err(), "{text}");
        }
    }
}
