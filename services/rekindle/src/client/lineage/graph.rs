//! A lineage as a tree, as JSON, in the language of Graphviz, or as a picture.

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use layout::{backends::svg::SVGWriter, gv};
use rekindle_client::wire;
use rekindle_domain::{
    lineage::{Extent, LineageEdge, LineageGraph, LineageKind, LineageNode, LineageSubject},
    model_version::VersionSelector,
};

use super::Subject;
use crate::client::{
    Global,
    output::{emit, print_json},
    page::Limit,
    platform::Platform,
};

/// How a graph is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// As indented lines
    Tree,
    /// In the language of Graphviz
    Dot,
    /// As a picture
    Svg,
}

/// Prints a graph, with the deployments of its model versions.
pub(super) async fn print(
    platform: &Platform,
    subject: Subject,
    (form, extent): (Form, Extent),
    global: &Global,
) -> Result<()> {
    let registry = platform.registry();
    let subject = match subject {
        Subject::Version { model, selector: VersionSelector::Latest } => LineageSubject::ModelVersion(model, None),
        Subject::Version { model, selector } => {
            let version = registry.model_version(&model, &selector).await?.version;
            LineageSubject::ModelVersion(model, Some(version))
        }
        Subject::Bundle(bundle) => {
            let lineage = registry.lineage(bundle).await?;
            let version = lineage.versions.first().context("no version has this bundle")?;
            LineageSubject::ModelVersion(version.model.clone(), Some(version.version))
        }
        Subject::Run(prefix) => LineageSubject::Run(registry.find_run(&prefix).await?.id),
        Subject::Dataset(name, version) => LineageSubject::DatasetVersion(name, version),
        Subject::Prediction(_) => bail!("a prediction has no graph: ask for that of its model version"),
    };
    let mut graph = registry.lineage_graph(&subject, extent).await?;
    if extent.results {
        add_deployments(platform, &mut graph).await?;
    }
    match form {
        _ if global.json => print_json(&wire::lineage::graph_to_json(&graph)),
        Form::Tree => tree(&graph).iter().for_each(|line| emit(line)),
        Form::Dot => emit(dot(&graph).trim_end()),
        Form::Svg => emit(&svg(&graph)?),
    }
    Ok(())
}

/// The deployments that serve one of the versions.
async fn add_deployments(platform: &Platform, graph: &mut LineageGraph) -> Result<()> {
    let orchestrator = platform.orchestrator();
    let deployments = Limit::NONE.fetch(async |page| orchestrator.deployments(page).await).await?;
    for deployment in deployments {
        let version = format!("model-version/{}/{}", deployment.model, deployment.stable.version);
        if graph.nodes.iter().any(|node| node.id == version) {
            let id = format!("deployment/{}", deployment.model);
            let detail = format!("generation {}", deployment.generation);
            graph.nodes.push(LineageNode { id: id.clone(), kind: LineageKind::Deployment, detail });
            graph.edges.push(LineageEdge { from: version, to: id });
        }
    }
    Ok(())
}

/// The subject, below it what it was made from, and what was made from it. What occurs again is not repeated.
fn tree(graph: &LineageGraph) -> Vec<String> {
    let mut lines = vec![label(graph, &graph.subject)];
    for (mark, sources) in [("from", true), ("to", false)] {
        let mut seen = BTreeSet::from([graph.subject.as_str()]);
        branch(graph, &graph.subject, (mark, sources), 1, &mut seen, &mut lines);
    }
    lines
}

fn branch<'a>(
    graph: &'a LineageGraph,
    of: &str,
    (mark, sources): (&str, bool),
    depth: usize,
    seen: &mut BTreeSet<&'a str>,
    lines: &mut Vec<String>,
) {
    let next = |edge: &'a LineageEdge| {
        let (end, other) = if sources { (&edge.to, &edge.from) } else { (&edge.from, &edge.to) };
        (end == of).then_some(other.as_str())
    };
    for node in graph.edges.iter().filter_map(next) {
        let is_new = seen.insert(node);
        let again = if is_new { "" } else { " (above)" };
        lines.push(format!("{}{mark} {}{again}", "  ".repeat(depth), label(graph, node)));
        if is_new {
            branch(graph, node, (mark, sources), depth + 1, seen, lines);
        }
    }
}

fn label(graph: &LineageGraph, id: &str) -> String {
    let detail = graph.nodes.iter().find(|node| node.id == id).map(|node| node.detail.as_str()).unwrap_or_default();
    if detail.is_empty() { id.to_owned() } else { format!("{id} ({detail})") }
}

/// In the language of Graphviz.
fn dot(graph: &LineageGraph) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "'"));
    let mut text = "digraph lineage {\n  rankdir=LR;\n".to_owned();
    for node in &graph.nodes {
        let shape = if node.kind == LineageKind::Run { "ellipse" } else { "box" };
        let detail = if node.detail.is_empty() { String::new() } else { format!("\\n{}", node.detail) };
        let label = quoted(&format!("{}{detail}", node.id));
        _ = writeln!(text, "  {} [shape={shape}, label={label}];", quoted(&node.id));
    }
    for edge in &graph.edges {
        _ = writeln!(text, "  {} -> {};", quoted(&edge.from), quoted(&edge.to));
    }
    text.push_str("}\n");
    text
}

fn svg(graph: &LineageGraph) -> Result<String> {
    let parsed = gv::DotParser::new(&dot(graph)).process();
    let parsed = parsed.map_err(|problem| anyhow::anyhow!("the graph has no layout: {problem}"))?;
    let mut builder = gv::GraphBuilder::new();
    builder.visit_graph(&parsed);
    let mut picture = SVGWriter::new();
    builder.get().do_it(false, false, false, &mut picture);
    Ok(picture.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> LineageGraph {
        let node = |id: &str, kind| LineageNode { id: id.to_owned(), kind, detail: "7 \"rows\"".to_owned() };
        let edge = |from: &str, to: &str| LineageEdge { from: from.to_owned(), to: to.to_owned() };
        LineageGraph {
            subject: "run/1".to_owned(),
            nodes: vec![
                node("dataset-version/d/1", LineageKind::DatasetVersion),
                node("dataset-version/d/2", LineageKind::DatasetVersion),
                node("run/1", LineageKind::Run),
                node("model-version/m/1", LineageKind::ModelVersion),
                node("alias/m/champion", LineageKind::Alias),
            ],
            edges: vec![
                edge("dataset-version/d/1", "dataset-version/d/2"),
                edge("dataset-version/d/1", "run/1"),
                edge("dataset-version/d/2", "run/1"),
                edge("run/1", "model-version/m/1"),
                edge("model-version/m/1", "alias/m/champion"),
            ],
        }
    }

    #[test]
    fn a_tree_has_each_branch_once() {
        let lines: Vec<String> = tree(&graph()).iter().map(|line| line.replace(" (7 \"rows\")", "")).collect();
        assert_eq!(
            lines,
            [
                "run/1",
                "  from dataset-version/d/1",
                "  from dataset-version/d/2",
                "    from dataset-version/d/1 (above)",
                "  to model-version/m/1",
                "    to alias/m/champion",
            ]
        );
    }

    #[test]
    fn a_graph_is_written_for_graphviz_and_drawn() {
        let text = dot(&graph());
        assert!(text.contains("\"run/1\" -> \"model-version/m/1\";") && text.ends_with("}\n"), "{text}");
        let picture = svg(&graph()).expect("drawn");
        assert!(picture.contains("<svg") && picture.contains("alias/m/champion"), "{picture}");
    }
}
