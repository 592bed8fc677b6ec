//! Dataset versions: rows read from files, stored as one canonical Parquet blob, and described.
//!
//! Registering the same content with another idempotency key makes another version: its digest shows that the content is the
//! same, and its number, description and parents record the registration.

pub(crate) mod deletion;
mod import;

use rekindle_artifacts::Artifacts;
use rekindle_client::wire::event;
use rekindle_domain::{
    DatasetName, Digest, Namespace,
    dataset::{ColumnChange, DatasetRegistration, DatasetRows, DatasetVersion, comparison},
};
use rekindle_service::{Call, Intent};
use rekindle_store::{audit, in_transaction};
use sea_orm::DatabaseConnection;
use serde::{Deserialize, Serialize};

pub(crate) use self::import::Importer;
use crate::{Error, garbage::Present, store};

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
    let imported = match importer.import(db, artifacts, registration, call.now).await {
        Ok(imported) => imported,
        Err(missing @ Error::NoBlob { .. }) => {
            // A call with the same key may have registered the sources since the first check, and removed them.
            let made = intent.earlier::<Made, Error>(db).await?.ok_or(missing)?;
            return get(db, &made.name, Some(made.version)).await;
        }
        Err(error) => return Err(error),
    };
    let version = imported.version;
    let present = Present::find(db, artifacts, vec![version.blob]).await?;
    let stored = artifacts.clone();
    let made = in_transaction(db, async move |txn| {
        if let Some(made) = intent.earlier::<Made, Error>(txn).await? {
            return Ok::<_, Error>(made);
        }
        present.hold(txn, &stored).await?;
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

/// Rows of a version, at most `limit` after `offset`.
pub(crate) async fn rows(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    importer: &Importer,
    (name, version): (&DatasetName, Option<u32>),
    (offset, limit): (u64, u32),
) -> Result<DatasetRows, Error> {
    let version = get(db, name, version).await?;
    importer.rows(artifacts, &version, offset, limit).await
}

/// What differs between a base and a version. The version is the latest if `None`; the base the one before, or the latest of another dataset.
pub(crate) async fn compare(
    db: &DatabaseConnection,
    (base_name, base_version): (DatasetName, Option<u32>),
    (name, version): (DatasetName, Option<u32>),
) -> Result<(DatasetVersion, DatasetVersion, Vec<ColumnChange>), Error> {
    let version = get(db, &name, version).await?;
    let base = match base_version {
        None if base_name == name => {
            let before = store::datasets::versions(db, &name, Some(version.version), 1).await?.pop();
            before.ok_or_else(|| Error::not_found("dataset version before", version.reference()))?
        }
        base_version => get(db, &base_name, base_version).await?,
    };
    let changes = comparison::compare(&base, &version);
    Ok((base, version, changes))
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
