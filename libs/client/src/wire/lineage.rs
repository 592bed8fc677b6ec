//! Lineage.

use rekindle_domain::{lineage::Lineage, validation::Violations};
use rekindle_proto::{json, registry as wire};
use serde_json::Value;

use super::{
    dataset,
    field::{each, nested_optional},
    model_version, run,
};

/// Lineage as a message.
pub fn to_wire(lineage: &Lineage) -> wire::Lineage {
    wire::Lineage {
        versions: lineage.versions.iter().map(model_version::to_wire).collect(),
        run: lineage.run.as_ref().map(run::to_wire),
        datasets: lineage.datasets.iter().map(dataset::to_wire).collect(),
    }
}

/// The lineage in proto3 JSON.
pub fn to_json(lineage: &Lineage) -> Value {
    json::to_value(&to_wire(lineage))
}

/// The lineage that a message holds.
pub fn from_wire(given: wire::Lineage) -> Result<Lineage, Violations> {
    Ok(Lineage {
        versions: each("versions", given.versions, model_version::from_wire)?,
        run: nested_optional("run", given.run, run::from_wire)?,
        datasets: each("datasets", given.datasets, dataset::from_wire)?,
    })
}
