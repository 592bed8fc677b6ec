//! Dataset versions: rows read from files, stored as one canonical Parquet blob, and described.
//!
//! Registering the same content with another idempotency key makes another version: its digest shows that the content is the
//! same, and its number, description and parents record the registration.

mod import;

use rekindle_artifacts::Artifacts;
use rekindle_client::wire::event;
use rekindle_domain::{
    DatasetName, Digest, Namespace,
    dataset::{DatasetRegistration, DatasetVersion},
};
use rekindle_service::{Call, Intent};
use rekindle_store::{audit, in_transaction};
use sea_orm::DatabaseConnection;
use serde::{Deserialize, Serialize};

pub(crate) use self::import::Importer;
use crate::{Error, garbage, store};

/// The version that a call has made.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    name: DatasetName,
    version: u32,
}

/// Makes the next version of a dataset, once per intent.
///
/// A crash leaves no incomplete version: the row is committed after the blob is durable and verified, and temporary files vanish
/// with the process. Staged sources are removed after the commit, or by the sweeper.
pub(crate) async fn register(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    importer: &Importer,
    call: Call,
    intent: Intent,
    registration: DatasetRegistration,
) -> Result<DatasetVersion, Error> {
    // Checked before the work, and again in the transaction, where the answer is certain.
    if let Some(made) = intent.earlier::<Made, Error>(db).await? {
        return get(db, &made.name, Some(made.version)).await;
    }
    let imported = match importer.import(artifacts, registration, call.now).await {
        Ok(imported) => imported,
        Err(missing @ Error::NoBlob { .. }) => {
            // A call with the same key may have registered the sources since the first check, and removed them.
            let made = intent.earlier::<Made, Error>(db).await?.ok_or(missing)?;
            return get(db, &made.name, Some(made.version)).await;
        }
        Err(error) => return Err(error),
    };
    let version = imported.version;
    let stored = artifacts.clone();
    let made = in_transaction(db, async move |txn| {
        if let Some(made) = intent.earlier::<Made, Error>(txn).await? {
            return Ok::<_, Error>(made);
        }
        garbage::pin(txn, &stored, &[version.blob]).await?;
        let number = store::datasets::take_number(txn, &version.name, call.now).await?;
        let version = DatasetVersion { version: number, ..version.clone() };
        store::datasets::insert(txn, &version).await?;
        let made = Made { name: version.name.clone(), version: number };
        intent.record(txn, &made, call.now).await?;
        audit::record(txn, call.change(event::dataset_version_registered(&version), &version.name)).await?;
        Ok(made)
    })
    .await?;
    discard(artifacts, &imported.staged).await;
    get(db, &made.name, Some(made.version)).await
}

/// Removes staged sources that have been registered. What fails here is left to the sweeper.
async fn discard(artifacts: &Artifacts, staged: &[Digest]) {
    for digest in staged {
        if let Err(error) = artifacts.discard_staged(digest).await {
            tracing::warn!(%digest, error = &error as &dyn std::error::Error, "failed to remove a registered source");
        }
    }
}

/// One version; `None` is the latest.
pub(crate) async fn get(
    db: &DatabaseConnection,
    name: &DatasetName,
    version: Option<u32>,
) -> Result<DatasetVersion, Error> {
    let found = store::datasets::get(db, name, version).await?;
    found.ok_or_else(|| match version {
        Some(version) => Error::not_found("dataset version", format!("{name}/{version}")),
        None => Error::not_found("dataset", name),
    })
}

/// The latest version of each dataset of a namespace, by name after one, at most `limit`.
pub(crate) async fn latest_of_each(
    db: &DatabaseConnection,
    namespace: &Namespace,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<DatasetVersion>, Error> {
    Ok(store::datasets::latest_of_each(db, namespace, after.as_deref(), limit).await?)
}

/// The versions of one dataset before a version, newest first, at most `limit`.
pub(crate) async fn versions(
    db: &DatabaseConnection,
    name: &DatasetName,
    before: Option<u32>,
    limit: u64,
) -> Result<Vec<DatasetVersion>, Error> {
    let versions = store::datasets::versions(db, name, before, limit).await?;
    if versions.is_empty() && before.is_none() {
        return Err(Error::not_found("dataset", name));
    }
    Ok(versions)
}
