//! Lineage as a graph: from datasets and code over runs to model versions and aliases, walked in both directions.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_domain::{
    Digest, ModelName, RunId,
    dataset::DatasetVersion,
    lineage::{Extent, LineageEdge, LineageGraph, LineageKind, LineageNode, LineageSubject},
    model_version::ModelVersion,
    run::Run,
};
use sea_orm::DatabaseConnection;

use crate::{
    Error, dataset,
    model_version::{self, Registered},
    run, store,
};

/// Nodes of a graph at most.
const MAX_NODES: usize = 2000;
/// Digests of one query.
const AT_ONCE: usize = 32;

/// What the subject was made from, and what was made from it.
pub(crate) async fn graph(
    db: &DatabaseConnection,
    subject: LineageSubject,
    extent: Extent,
) -> Result<LineageGraph, Error> {
    let mut walk = Walk { db, nodes: BTreeMap::new(), edges: BTreeSet::new() };
    let subject = match subject {
        LineageSubject::ModelVersion(model, number) => {
            let found = match number {
                Some(number) => model_version::read(db, &model, number).await?,
                None => store::models::get(db, &model, None).await?.ok_or_else(|| Error::not_found("model", &model))?,
            };
            let id = walk.version(&found.version)?;
            if extent.sources {
                walk.sources_of_version(&id, found.version.run, &found.datasets).await?;
            }
            if extent.results {
                walk.aliases(&[(found.version.model.clone(), found.version.version)]).await?;
            }
            id
        }
        LineageSubject::Run(id) => {
            let run = run::get(db, id).await?;
            let id = walk.run(&run)?;
            if extent.sources {
                walk.sources_of_run(&run).await?;
            }
            if extent.results {
                walk.results_of_runs(&[run.id]).await?;
            }
            id
        }
        LineageSubject::DatasetVersion(name, version) => {
            let found = dataset::get(db, &name, version).await?;
            let id = walk.dataset(&found)?;
            if extent.sources {
                walk.ancestors(&id, &found.parents).await?;
            }
            if extent.results {
                walk.results_of_dataset(found).await?;
            }
            id
        }
    };
    Ok(LineageGraph { subject, nodes: walk.nodes.into_values().collect(), edges: walk.edges.into_iter().collect() })
}

/// The nodes and edges that were found.
struct Walk<'a> {
    db: &'a DatabaseConnection,
    nodes: BTreeMap<String, LineageNode>,
    edges: BTreeSet<LineageEdge>,
}

impl Walk<'_> {
    fn add(&mut self, id: String, kind: LineageKind, detail: String) -> Result<String, Error> {
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&id) {
            let message =
                format!("the lineage has more than {MAX_NODES} nodes: ask for one direction, or for a later subject");
            return Err(Error::refused("LINEAGE_TOO_LARGE", message, [("limit", MAX_NODES.to_string())]));
        }
        self.nodes.insert(id.clone(), LineageNode { id: id.clone(), kind, detail });
        Ok(id)
    }

    fn edge(&mut self, from: &str, to: &str) {
        self.edges.insert(LineageEdge { from: from.to_owned(), to: to.to_owned() });
    }

    fn version(&mut self, version: &ModelVersion) -> Result<String, Error> {
        let id = version_id(&version.model, version.version);
        let detail = format!("{}, {}", version.review.approval.name().to_lowercase(), version.created_at.format("%F"));
        self.add(id, LineageKind::ModelVersion, detail)
    }

    fn run(&mut self, run: &Run) -> Result<String, Error> {
        let detail =
            format!("{} of {}, {}", run.status.name().to_lowercase(), run.experiment, run.created_at.format("%F"));
        self.add(format!("run/{}", run.id), LineageKind::Run, detail)
    }

    fn dataset(&mut self, dataset: &DatasetVersion) -> Result<String, Error> {
        let span = dataset.time_range.map(|(first, last)| format!(", {} to {}", first.format("%F"), last.format("%F")));
        let deleted = if dataset.deleted_at.is_some() { ", deleted" } else { "" };
        let detail = format!("{} rows{}{deleted}", dataset.rows, span.unwrap_or_default());
        self.add(format!("dataset-version/{}/{}", dataset.name, dataset.version), LineageKind::DatasetVersion, detail)
    }

    /// The run of a version, and the datasets that its bundle names and the run does not.
    async fn sources_of_version(&mut self, id: &str, run: Option<RunId>, datasets: &[Digest]) -> Result<(), Error> {
        let found = match run {
            Some(run) => store::runs::get(self.db, run).await?,
            None => None,
        };
        let Some(leased) = found else { return self.ancestors(id, datasets).await };
        let run = self.run(&leased.run)?;
        self.edge(&run, id);
        self.sources_of_run(&leased.run).await?;
        let is_other = |digest: &&Digest| !leased.run.dataset_digests.contains(digest);
        let others: Vec<Digest> = datasets.iter().filter(is_other).copied().collect();
        self.ancestors(id, &others).await
    }

    async fn sources_of_run(&mut self, run: &Run) -> Result<(), Error> {
        let id = format!("run/{}", run.id);
        if !run.code_revision.is_empty() {
            let code =
                self.add(format!("code-revision/{}", run.code_revision), LineageKind::CodeRevision, String::new())?;
            self.edge(&code, &id);
        }
        self.ancestors(&id, &run.dataset_digests).await
    }

    /// The dataset versions with these contents that something was made from, and their parents. A digest is visited once.
    async fn ancestors(&mut self, of: &str, digests: &[Digest]) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        let mut left: Vec<(String, Digest)> = digests.iter().map(|digest| (of.to_owned(), *digest)).collect();
        while !left.is_empty() {
            let batch: Vec<_> = left.split_off(left.len().saturating_sub(AT_ONCE));
            let contents: Vec<Digest> = batch.iter().map(|(_, digest)| *digest).collect();
            for dataset in store::datasets::by_digests(self.db, &contents).await? {
                let id = self.dataset(&dataset)?;
                let named = |digest: &Digest| *digest == dataset.content || *digest == dataset.blob;
                for (child, _) in batch.iter().filter(|(_, digest)| named(digest)) {
                    if *child != id {
                        self.edge(&id, child);
                    }
                }
                if seen.insert(id.clone()) {
                    left.extend(dataset.parents.iter().map(|parent| (id.clone(), *parent)));
                }
            }
        }
        Ok(())
    }

    /// The dataset versions that were derived from a dataset, their runs, and what these have made.
    async fn results_of_dataset(&mut self, first: DatasetVersion) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        let mut left = vec![first];
        while let Some(dataset) = left.pop() {
            let id = self.dataset(&dataset)?;
            if !seen.insert(id.clone()) {
                continue;
            }
            for child in store::datasets::children_of(self.db, &dataset).await? {
                let child_id = self.dataset(&child)?;
                if child_id != id {
                    self.edge(&id, &child_id);
                    left.push(child);
                }
            }
            let runs = store::runs::of_dataset(self.db, &dataset.content, MAX_NODES as u64).await?;
            for leased in &runs {
                let run = self.run(&leased.run)?;
                self.edge(&id, &run);
            }
            let ids: Vec<RunId> = runs.iter().map(|leased| leased.run.id).collect();
            self.results_of_runs(&ids).await?;
            // Models that were imported with the dataset, which their runs do not name.
            let imported = store::models::of_dataset(self.db, &dataset.content, MAX_NODES as u64).await?;
            let is_imported = |registered: &Registered| registered.version.run.is_none_or(|run| !ids.contains(&run));
            for registered in imported.into_iter().filter(is_imported) {
                let version = self.version(&registered.version)?;
                self.edge(&id, &version);
                self.aliases(&[(registered.version.model, registered.version.version)]).await?;
            }
        }
        Ok(())
    }

    async fn results_of_runs(&mut self, runs: &[RunId]) -> Result<(), Error> {
        for runs in runs.chunks(AT_ONCE) {
            let versions = store::models::of_runs(self.db, runs, MAX_NODES as u64).await?;
            let mut made = Vec::new();
            for registered in versions {
                let id = self.version(&registered.version)?;
                if let Some(run) = registered.version.run {
                    self.edge(&format!("run/{run}"), &id);
                }
                made.push((registered.version.model, registered.version.version));
            }
            self.aliases(&made).await?;
        }
        Ok(())
    }

    /// The aliases that point at these versions.
    async fn aliases(&mut self, versions: &[(ModelName, u32)]) -> Result<(), Error> {
        let models: BTreeSet<&ModelName> = versions.iter().map(|(model, _)| model).collect();
        let models: Vec<&ModelName> = models.into_iter().collect();
        for alias in store::aliases::of_models(self.db, &models).await? {
            if versions.contains(&(alias.model.clone(), alias.version)) {
                let detail = format!("since {}", alias.moved_at.format("%F"));
                let id = self.add(format!("alias/{}/{}", alias.model, alias.alias), LineageKind::Alias, detail)?;
                self.edge(&version_id(&alias.model, alias.version), &id);
            }
        }
        Ok(())
    }
}

fn version_id(model: &ModelName, number: u32) -> String {
    format!("model-version/{model}/{number}")
}
