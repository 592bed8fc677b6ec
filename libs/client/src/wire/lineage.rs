//! Lineage.

use rekindle_domain::{
    lineage::{Extent, Lineage, LineageEdge, LineageGraph, LineageKind, LineageNode, LineageSubject},
    validation::Violations,
};
use rekindle_proto::{
    json,
    registry::{self as wire, get_lineage_graph_request::Subject},
};
use serde_json::Value;

use super::{
    dataset,
    field::{each, enumeration, nested_optional, parse},
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

/// What a graph is asked for, as a request.
pub fn subject_to_wire(subject: &LineageSubject, extent: Extent) -> wire::GetLineageGraphRequest {
    let subject = match subject {
        LineageSubject::ModelVersion(model, version) => {
            Subject::ModelVersion(wire::VersionOfModel { model: model.to_string(), version: *version })
        }
        LineageSubject::Run(id) => Subject::RunId(id.to_string()),
        LineageSubject::DatasetVersion(name, version) => {
            Subject::DatasetVersion(wire::VersionOfDataset { name: name.to_string(), version: *version })
        }
    };
    wire::GetLineageGraphRequest {
        subject: Some(subject),
        without_sources: !extent.sources,
        without_results: !extent.results,
    }
}

/// What a request asks for.
pub fn subject_from_wire(given: wire::GetLineageGraphRequest) -> Result<(LineageSubject, Extent), Violations> {
    let extent = Extent { sources: !given.without_sources, results: !given.without_results };
    let number = |field: &str, version: Option<u32>| match version {
        Some(0) => Err(Violations::of(format!("{field}.version"), "is 0: expected a number from 1")),
        other => Ok(other),
    };
    let subject = match given.subject {
        None => return Err(Violations::of("subject", "is missing: name a model version, a run or a dataset version")),
        Some(Subject::RunId(id)) => LineageSubject::Run(parse("run_id", &id)?),
        Some(Subject::ModelVersion(of)) => {
            LineageSubject::ModelVersion(parse("model_version.model", &of.model)?, number("model_version", of.version)?)
        }
        Some(Subject::DatasetVersion(of)) => LineageSubject::DatasetVersion(
            parse("dataset_version.name", &of.name)?,
            number("dataset_version", of.version)?,
        ),
    };
    Ok((subject, extent))
}

/// A graph as a message.
pub fn graph_to_wire(graph: &LineageGraph) -> wire::LineageGraph {
    let node = |node: &LineageNode| wire::LineageNode {
        id: node.id.clone(),
        kind: kind_to_wire(node.kind).into(),
        detail: node.detail.clone(),
    };
    let edge = |edge: &LineageEdge| wire::LineageEdge { from: edge.from.clone(), to: edge.to.clone() };
    wire::LineageGraph {
        subject: graph.subject.clone(),
        nodes: graph.nodes.iter().map(node).collect(),
        edges: graph.edges.iter().map(edge).collect(),
    }
}

/// The graph in proto3 JSON.
pub fn graph_to_json(graph: &LineageGraph) -> Value {
    json::to_value(&graph_to_wire(graph))
}

/// The graph that a message holds.
pub fn graph_from_wire(given: wire::LineageGraph) -> Result<LineageGraph, Violations> {
    let node = |node: wire::LineageNode| {
        Ok(LineageNode { id: node.id, kind: kind_from_wire("kind", node.kind)?, detail: node.detail })
    };
    Ok(LineageGraph {
        subject: given.subject,
        nodes: each("nodes", given.nodes, node)?,
        edges: given.edges.into_iter().map(|edge| LineageEdge { from: edge.from, to: edge.to }).collect(),
    })
}

fn kind_to_wire(kind: LineageKind) -> wire::LineageKind {
    match kind {
        LineageKind::DatasetVersion => wire::LineageKind::DatasetVersion,
        LineageKind::CodeRevision => wire::LineageKind::CodeRevision,
        LineageKind::Run => wire::LineageKind::Run,
        LineageKind::ModelVersion => wire::LineageKind::ModelVersion,
        LineageKind::Alias => wire::LineageKind::Alias,
        LineageKind::Deployment => wire::LineageKind::Deployment,
    }
}

fn kind_from_wire(field: &str, given: i32) -> Result<LineageKind, Violations> {
    enumeration(field, given, "LINEAGE_KIND_RUN or another", |kind| match kind {
        wire::LineageKind::Unspecified => None,
        wire::LineageKind::DatasetVersion => Some(LineageKind::DatasetVersion),
        wire::LineageKind::CodeRevision => Some(LineageKind::CodeRevision),
        wire::LineageKind::Run => Some(LineageKind::Run),
        wire::LineageKind::ModelVersion => Some(LineageKind::ModelVersion),
        wire::LineageKind::Alias => Some(LineageKind::Alias),
        wire::LineageKind::Deployment => Some(LineageKind::Deployment),
    })
}

#[cfg(test)]
mod graph_tests {
    use rekindle_domain::RunId;

    use super::*;

    #[test]
    fn subjects_and_graphs_survive() {
        for subject in [
            LineageSubject::ModelVersion("m".parse().expect("a name"), Some(2)),
            LineageSubject::Run(RunId::new(uuid::Uuid::from_u128(7))),
            LineageSubject::DatasetVersion("d".parse().expect("a name"), None),
        ] {
            let extent = Extent { sources: true, results: false };
            assert_eq!(subject_from_wire(subject_to_wire(&subject, extent)), Ok((subject, extent)));
        }
        subject_from_wire(wire::GetLineageGraphRequest::default()).expect_err("no subject");
        let kinds = [
            LineageKind::DatasetVersion,
            LineageKind::CodeRevision,
            LineageKind::Run,
            LineageKind::ModelVersion,
            LineageKind::Alias,
            LineageKind::Deployment,
        ];
        let nodes = kinds.map(|kind| LineageNode { id: format!("{kind:?}"), kind, detail: "d".into() }).to_vec();
        let edges = vec![LineageEdge { from: "Run".into(), to: "Alias".into() }];
        let graph = LineageGraph { subject: "Run".into(), nodes, edges };
        assert_eq!(graph_from_wire(graph_to_wire(&graph)), Ok(graph));
    }
}
