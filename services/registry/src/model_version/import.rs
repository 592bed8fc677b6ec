//! Imports of files in the ONNX format: the file becomes a bundle, which is registered as any other.
//!
//! The bundle is made here and not by the caller, so that a client of any language needs one upload and one call, and so that only the
//! machine of the registry needs ONNX Runtime.

use std::{collections::BTreeMap, sync::Arc};

use rekindle_bundle::{
    Manifest,
    manifest::{CARD, LOSS_SAMPLE, MODEL, PROFILE},
    onnx::{Import, MAX_FILE_BYTES, Training},
};
use rekindle_domain::{
    Digest,
    dataset::DatasetVersion,
    model_version::{ModelImport, ModelVersion, VersionSelector},
};
use rekindle_service::{Call, Intent};
use sea_orm::DatabaseConnection;

use super::{Bundles, Created, Registration, get, register};
use crate::{
    Error, dataset,
    isolation::{Dataset, MANIFEST, Outcome, ROWS, Task},
};

/// Creates the next version of a model from a stored file, once per intent.
pub(crate) async fn import(
    db: &DatabaseConnection,
    bundles: &Bundles,
    call: Call,
    intent: Intent,
    import: ModelImport,
) -> Result<ModelVersion, Error> {
    if let Some(created) = intent.earlier::<Created, Error>(db).await? {
        return get(db, &created.model, &VersionSelector::Number(created.version)).await;
    }
    let dataset = match &import.dataset {
        Some((name, version)) => Some(dataset::get(db, name, *version).await?),
        None => None,
    };
    let (model, description) = (import.model.clone(), import.description.clone());
    let bundle = bundles.make(import, dataset.as_ref(), &BTreeMap::new()).await?;
    register(db, bundles, call, intent, Registration { model, bundle, description }).await
}

impl Bundles {
    /// Makes a bundle of a stored file, and of files with data of its tensors, by their names; stores it, and returns its digest.
    pub(super) async fn make(
        &self,
        import: ModelImport,
        dataset: Option<&DatasetVersion>,
        external: &BTreeMap<String, Digest>,
    ) -> Result<Digest, Error> {
        // The semaphore is never closed.
        let _permit = Arc::clone(&self.permits).acquire_owned().await;
        let folder = self.isolation.folder()?;
        let file = self.artifacts.reader(&import.file).await.map_err(Error::of_blob("file_digest", import.file))?;
        check_size("file_digest", file.size(), ("the limit of a file", MAX_FILE_BYTES))?;
        folder.copy(MODEL, file).await?;
        let mut bytes = 0;
        let mut names = BTreeMap::new();
        for (number, (name, digest)) in external.iter().enumerate() {
            let data = self.artifacts.reader(digest).await?;
            bytes += data.size();
            check_size("file_digest", bytes, ("the limit of the files of a model", MAX_FILE_BYTES))?;
            let file = format!("external-{number}");
            folder.copy(&file, data).await?;
            names.insert(name.clone(), file);
        }
        if let Some(version) = dataset {
            let limit = ("the limit registry.onnx.dataset_bytes", self.isolation.dataset_bytes());
            check_size("dataset", version.bytes, limit)?;
            folder.copy(ROWS, self.artifacts.reader(&version.blob).await?).await?;
        }
        let dataset =
            dataset.map(|version| Dataset { digest: version.content, time_column: version.time_column.clone() });
        let task = Task::Import { options: Box::new(options(import)), dataset, external: names };
        match self.isolation.run(&folder, task).await? {
            Outcome::Done => {}
            Outcome::NoLibrary(problem) => return Err(Error::NoOnnxRuntime(problem)),
            Outcome::Refused { field, problem } => {
                return Err(Error::invalid(field.unwrap_or_else(|| "file_digest".to_owned()), problem));
            }
        }
        if !external.is_empty() {
            folder.store(MODEL, &self.artifacts).await?;
        }
        let bytes = folder.read(MANIFEST).await?;
        let manifest = Manifest::from_bytes(&bytes).map_err(|error| Error::invalid("file_digest", error))?;
        for role in [PROFILE, CARD, LOSS_SAMPLE].into_iter().filter(|role| manifest.blobs.contains_key(*role)) {
            self.artifacts.put(folder.read(role).await?).await?;
        }
        Ok(self.artifacts.put(bytes).await?)
    }
}

fn check_size(field: &str, size: u64, (name, limit): (&str, u64)) -> Result<(), Error> {
    if size <= limit {
        return Ok(());
    }
    Err(Error::invalid(field, format!("has {size} bytes, {name} is {limit}")))
}

fn options(import: ModelImport) -> Import {
    let ModelImport { target, task, classes, features, nullable, ignore, output, scores, training, .. } = import;
    let training = training.map(|training| Training {
        run_id: training.run.to_string(),
        until: training.until.map(|until| until.timestamp_millis()),
        validation_from: training.validation_from.map(|from| from.timestamp_millis()),
    });
    Import { target, task, classes, features, nullable, ignore, output, scores, training }
}
