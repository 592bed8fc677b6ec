//! Deletion and restoration of dataset versions. Rows stay, and so does the lineage of what was made from them.

use rekindle_client::wire::event;
use rekindle_domain::{DatasetName, dataset::DatasetVersion};
use rekindle_service::Call;
use rekindle_store::{audit, in_transaction};
use sea_orm::{DatabaseConnection, DatabaseTransaction};
use uuid::Uuid;

use crate::{Error, model_version::Registered, store};

/// Users of a dataset that the refusal of its deletion names.
const NAMED: usize = 10;

/// What is deleted or restored.
pub(crate) struct Change {
    pub(crate) name: DatasetName,
    /// All versions if there is none.
    pub(crate) version: Option<u32>,
    pub(crate) why: String,
    /// Deleted, or restored.
    pub(crate) is_deleted: bool,
}

/// Deletes or restores versions, all of them or none. Returns those that were not deleted, or not restored, before.
pub(crate) async fn apply(db: &DatabaseConnection, call: Call, change: Change) -> Result<Vec<u32>, Error> {
    in_transaction(db, async move |txn| {
        let Change { name, version, why, is_deleted } = &change;
        let versions = store::datasets::all_versions(txn, name, *version).await?;
        if versions.is_empty() {
            let resource = if version.is_some() { "dataset version" } else { "dataset" };
            let id = version.map_or_else(|| name.to_string(), |version| format!("{name}/{version}"));
            return Err(Error::not_found(resource, id));
        }
        let mut changed = Vec::new();
        for before in versions.into_iter().filter(|version| version.deleted_at.is_some() != *is_deleted) {
            if *is_deleted {
                must_not_be_used(txn, &before).await?;
            }
            let after = DatasetVersion { deleted_at: is_deleted.then_some(call.now), ..before.clone() };
            store::datasets::set_deleted(txn, &after).await?;
            let fact = event::dataset_version_changed(&after, why);
            let before = event::dataset_version_changed(&before, "").data;
            // Each event has an id of its own.
            let call = Call { id: Uuid::now_v7(), ..call.clone() };
            audit::record(txn, call.change(fact, name).over(before)).await?;
            changed.push(after.version);
        }
        Ok(changed)
    })
    .await
}

/// Refuses to delete rows of which a model was made that is not deleted, or that a run in progress reads, unless another version has the same.
async fn must_not_be_used(txn: &DatabaseTransaction, version: &DatasetVersion) -> Result<(), Error> {
    let same = store::datasets::by_digests(txn, &[version.content]).await?;
    let is_other = |other: &DatasetVersion| {
        other.content == version.content && (&other.name, other.version) != (&version.name, version.version)
    };
    if same.iter().any(|other| is_other(other) && other.deleted_at.is_none()) {
        return Ok(());
    }
    let limit = NAMED as u64 + 1;
    // A run may name the rows by either digest.
    let mut users = Vec::new();
    for digest in [&version.content, &version.blob] {
        let models = store::models::live_of_dataset(txn, digest, limit).await?;
        let named = |found: &Registered| format!("model-version/{}/{}", found.version.model, found.version.version);
        users.extend(models.iter().map(named));
        let runs = store::runs::in_progress_of_dataset(txn, digest, limit).await?;
        users.extend(runs.iter().map(|leased| format!("run/{}", leased.run.id)));
    }
    users.sort();
    users.dedup();
    if users.is_empty() {
        return Ok(());
    }
    let more = if users.len() > NAMED { " and more" } else { "" };
    users.truncate(NAMED);
    let (dataset, users) = (version.reference(), users.join(", ") + more);
    let message = format!("dataset version {dataset} cannot be deleted: {users} are made of it; delete these first");
    Err(Error::refused("DATASET_IN_USE", message, [("dataset", dataset), ("users", users)]))
}
