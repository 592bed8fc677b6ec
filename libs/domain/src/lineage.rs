//! Lineage: from a bundle to its versions, run and datasets.

use crate::{DatasetName, ModelName, RunId, dataset::DatasetVersion, model_version::ModelVersion, run::Run};

/// Where a bundle comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Lineage {
    /// Every version with this bundle.
    pub versions: Vec<ModelVersion>,
    /// The run that made it, if this registry has it.
    pub run: Option<Run>,
    /// The datasets of the run and their ancestors.
    pub datasets: Vec<DatasetVersion>,
}

/// What something was made from, and what was made from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineageGraph {
    /// The id of the node that was asked for.
    pub subject: String,
    /// Each once.
    pub nodes: Vec<LineageNode>,
    /// Each once.
    pub edges: Vec<LineageEdge>,
}

/// Something in a lineage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineageNode {
    /// Unique in the graph, e.g. `model-version/flight-delay/3`.
    pub id: String,
    /// What it is.
    pub kind: LineageKind,
    /// What else there is to say.
    pub detail: String,
}

/// One step of a lineage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineageEdge {
    /// The source.
    pub from: String,
    /// What was made from it.
    pub to: String,
}

/// What is in a lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineageKind {
    /// Rows.
    DatasetVersion,
    /// A revision of the code of a run.
    CodeRevision,
    /// A run.
    Run,
    /// A model version.
    ModelVersion,
    /// An alias that points at a model version.
    Alias,
    /// The routes that serve a model version.
    Deployment,
}

/// Of what a lineage is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineageSubject {
    /// A model version; the latest without a number.
    ModelVersion(ModelName, Option<u32>),
    /// A run.
    Run(RunId),
    /// A dataset version; the latest without a number.
    DatasetVersion(DatasetName, Option<u32>),
}

/// Which part of a lineage is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// What the subject was made from.
    pub sources: bool,
    /// What was made from the subject.
    pub results: bool,
}
