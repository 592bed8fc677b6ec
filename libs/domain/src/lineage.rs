//! Lineage: from a bundle to its versions, run and datasets.

use crate::{dataset::DatasetVersion, model_version::ModelVersion, run::Run};

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
