//! Lineage: from a bundle to the versions made from it, the run that made it, and every dataset that went into it.

use std::collections::BTreeSet;

use rekindle_domain::Digest;
use sea_orm::DatabaseConnection;

use crate::{
    Error,
    dataset::DatasetVersion,
    model_version::{self, ModelVersion},
    run::{self, Run},
    store,
};

/// Datasets of one lineage at most. A walk that meets more is refused rather than cut.
const MAX_DATASETS: usize = 10_000;

/// Where a bundle comes from.
#[derive(Debug, Clone)]
pub(crate) struct Lineage {
    /// Every version made from the bundle.
    pub versions: Vec<ModelVersion>,
    /// The run that made it; `None` where the bundle names none, or one of another registry.
    pub run: Option<Run>,
    /// The datasets that it was made from, then their parents, and so on; each once. Parents that are no dataset versions
    /// (manifests of captured rows) are named by their children alone.
    pub datasets: Vec<DatasetVersion>,
}

/// Walks back from a bundle.
pub(crate) async fn of_bundle(db: &DatabaseConnection, bundle: &Digest) -> Result<Lineage, Error> {
    let versions = store::models::by_bundle(db, bundle).await?;
    let Some(first) = versions.first() else { return Err(Error::not_found("model version of bundle", bundle)) };
    let run = match first.run {
        Some(id) => match run::get(db, id).await {
            Ok(run) => Some(run),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error),
        },
        None => None,
    };
    let mut roots: BTreeSet<Digest> = first.datasets.iter().copied().collect();
    roots.extend(run.iter().flat_map(|run| run.dataset_digests.iter().copied()));
    let datasets = ancestors(db, roots).await?;
    Ok(Lineage { versions: model_version::with_aliases(db, versions).await?, run, datasets })
}

/// Generation by generation, so that one query serves all datasets of one; digests already seen end the walk, also round a circle.
async fn ancestors(db: &DatabaseConnection, roots: BTreeSet<Digest>) -> Result<Vec<DatasetVersion>, Error> {
    /// Digests of one query: either database binds many more.
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
            return Err(Error::Refused {
                reason: "LINEAGE_TOO_LARGE",
                message: format!("more than {MAX_DATASETS} dataset versions went into it: walk back from its datasets"),
                facts: vec![("limit", MAX_DATASETS.to_string())],
            });
        }
    }
    Ok(found)
}
