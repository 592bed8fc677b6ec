//! Lineage: from a bundle to its versions, its run, and the datasets of the run with their ancestors.

mod graph;

use std::collections::BTreeSet;

use rekindle_domain::{Digest, dataset::DatasetVersion, lineage::Lineage, model_version::ModelVersion};
use rekindle_service::RequestError;
use sea_orm::DatabaseConnection;

pub(crate) use self::graph::graph;
use crate::{Error, model_version, run, store};

/// Datasets, and versions, of one lineage at most. A larger one is refused rather than truncated.
const MAX_ENTRIES: usize = 10_000;

/// Sizes of what a lineage contains, as its caller encodes it, and the most bytes of all of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) of_version: fn(&ModelVersion) -> usize,
    pub(crate) of_dataset: fn(&DatasetVersion) -> usize,
    pub(crate) most: usize,
}

/// The lineage of a bundle. Parents that are not dataset versions (export manifests) appear only in the `parents` of their children.
pub(crate) async fn of_bundle(db: &DatabaseConnection, bundle: &Digest, sizes: Sizes) -> Result<Lineage, Error> {
    let versions = store::models::by_bundle(db, bundle, MAX_ENTRIES as u64 + 1).await?;
    if versions.len() > MAX_ENTRIES {
        return Err(too_large(format!("{MAX_ENTRIES} model versions")));
    }
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
    let versions = model_version::with_aliases(db, versions).await?;
    let versions_bytes = versions.iter().map(sizes.of_version).fold(0, usize::saturating_add);
    let mut datasets = Datasets { found: Vec::new(), bytes: versions_bytes, sizes, with_columns: true };
    datasets.check()?;
    ancestors(db, roots, &mut datasets).await?;
    Ok(Lineage { versions, run, datasets: datasets.found })
}

/// Breadth first. Digests that were visited are not visited again, so that a cycle ends.
async fn ancestors(db: &DatabaseConnection, roots: BTreeSet<Digest>, datasets: &mut Datasets) -> Result<(), Error> {
    /// Digests of one query, which bounds the rows in memory before their size is checked.
    const AT_ONCE: usize = 64;
    let (mut seen, mut generation) = (roots.clone(), roots);
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
                datasets.add(version)?;
            }
        }
    }
    Ok(())
}

/// The datasets of a lineage. Where they would exceed its size, they are without columns and profiles.
struct Datasets {
    found: Vec<DatasetVersion>,
    /// Those of everything that was added, and of the versions.
    bytes: usize,
    sizes: Sizes,
    with_columns: bool,
}

impl Datasets {
    fn add(&mut self, version: DatasetVersion) -> Result<(), Error> {
        self.push(version);
        if self.with_columns && self.bytes > self.sizes.most {
            self.with_columns = false;
            for version in std::mem::take(&mut self.found) {
                self.bytes -= (self.sizes.of_dataset)(&version);
                self.push(version);
            }
        }
        self.check()
    }

    fn check(&self) -> Result<(), Error> {
        if self.bytes > self.sizes.most {
            return Err(too_large(format!("{} bytes", self.sizes.most)));
        }
        if self.found.len() > MAX_ENTRIES {
            return Err(too_large(format!("{MAX_ENTRIES} dataset versions")));
        }
        Ok(())
    }

    fn push(&mut self, mut version: DatasetVersion) {
        if !self.with_columns {
            (version.columns, version.profile, version.schema) = (Vec::new(), Vec::new(), None);
        }
        self.bytes += (self.sizes.of_dataset)(&version);
        self.found.push(version);
    }
}

fn too_large(limit: String) -> Error {
    let message = format!(
        "the lineage exceeds the limit of {limit}: read its model versions, its run and its datasets one by one"
    );
    Error::refused("LINEAGE_TOO_LARGE", message, [("limit", limit)])
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use rekindle_domain::{ColumnKind, dataset::Column};

    use super::*;

    /// A dataset of one column.
    fn dataset(version: u32) -> DatasetVersion {
        let column = Column { name: "a".into(), data_type: "Int64".into(), kind: ColumnKind::Numeric, nullable: false };
        DatasetVersion {
            name: "trips".parse().expect("a name"),
            version,
            content: Digest::of(b"rows"),
            blob: Digest::of(b"file"),
            rows: 1,
            bytes: 1,
            columns: vec![column],
            time_column: None,
            time_range: None,
            parents: Vec::new(),
            description: String::new(),
            profile: Vec::new(),
            created_at: DateTime::UNIX_EPOCH,
            schema: None,
            violations: Vec::new(),
            deleted_at: None,
        }
    }

    fn added(count: u32, most: usize) -> Result<Vec<DatasetVersion>, Error> {
        let of_dataset = |version: &DatasetVersion| 10 + 100 * version.columns.len();
        let sizes = Sizes { of_version: |_| 0, of_dataset, most };
        let mut datasets = Datasets { found: Vec::new(), bytes: 0, sizes, with_columns: true };
        (1..=count).try_for_each(|version| datasets.add(dataset(version)))?;
        Ok(datasets.found)
    }

    #[test]
    fn a_large_lineage_is_without_columns_and_a_larger_one_is_refused() {
        let complete = added(3, 330).expect("fits");
        assert!(complete.iter().all(|dataset| dataset.columns.len() == 1), "{complete:?}");
        let reduced = added(33, 330).expect("fits without columns");
        assert!(reduced.len() == 33 && reduced.iter().all(|dataset| dataset.columns.is_empty()), "{reduced:?}");
        let refused = added(34, 330).expect_err("too large").to_string();
        assert!(refused.contains("limit of 330 bytes"), "{refused}");
    }
}
