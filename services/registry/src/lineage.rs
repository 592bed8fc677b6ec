//! Lineage: from a bundle to its versions, its run, and the datasets of the run with their ancestors.

use std::collections::BTreeSet;

use rekindle_domain::{Digest, dataset::DatasetVersion, lineage::Lineage};
use rekindle_service::RequestError;
use sea_orm::DatabaseConnection;

use crate::{Error, model_version, run, store};

/// Datasets of one lineage at most. A larger one is refused rather than truncated.
const MAX_DATASETS: usize = 10_000;

/// The lineage of a bundle. Parents that are not dataset versions (export manifests) appear only in the `parents` of their children.
pub(crate) async fn of_bundle(db: &DatabaseConnection, bundle: &Digest) -> Result<Lineage, Error> {
    let versions = store::models::by_bundle(db, bundle).await?;
    let Some(first) = versions.first() else { return Err(Error::not_found("model version of bundle", bundle)) };
    let run = match first.version.run {
        Some(id) => match run::get(db, id).await {
            Ok(run) => Some(run),
            Err(Error::Request(RequestError::NotFound { .. })) => None,
            Err(error) => return Err(error),
        },
        None => None,
    };
    let mut roots: BTreeSet<Digest> = first.datasets.iter().copied().collect();
    roots.extend(run.iter().flat_map(|run| run.dataset_digests.iter().copied()));
    let datasets = ancestors(db, roots).await?;
    Ok(Lineage { versions: model_version::with_aliases(db, versions).await?, run, datasets })
}

/// Breadth first, one query per generation. Digests that were visited are not visited again, so that a cycle ends.
async fn ancestors(db: &DatabaseConnection, roots: BTreeSet<Digest>) -> Result<Vec<DatasetVersion>, Error> {
    /// Digests of one query; both databases allow many more parameters.
    const AT_ONCE: usize = 500;
    let (mut seen, mut generation) = (roots.clone(), roots);
    let mut found: Vec<DatasetVersion> = Vec::new();
    let mut taken = BTreeSet::new();
    while !generation.is_empty() {
        let digests: Vec<Digest> = generation.into_iter().collect();
        generation = BTreeSet::new();
        for digests in digests.chunks(AT_ONCE) {
            for version in store::datasets::by_digests(db, digests).await? {
                if !taken.insert((version.name.clone(), version.version)) {
                    continue;
                }
                generation.extend(version.parents.iter().copied().filter(|parent| seen.insert(*parent)));
                found.push(version);
            }
        }
        if found.len() > MAX_DATASETS {
            let message =
                format!("the limit of {MAX_DATASETS} dataset versions is exceeded: read the lineage of its datasets");
            return Err(Error::refused("LINEAGE_TOO_LARGE", message, [("limit", MAX_DATASETS.to_string())]));
        }
    }
    Ok(found)
}
