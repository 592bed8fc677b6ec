//! A comparison for the browser: one file that fetches nothing, runs no script, and can be read on paper and without colours.

mod advice;
mod chart;
mod column;
mod head;
mod parts;

use anyhow::Result;
use askama::Template;
use rekindle_statistics::drift::Verdict;

use self::{column::Column, head::Head};
use super::{
    comparison::{Comparison, Skipped},
    table::{self, printable},
};
use crate::drift::figures::percent;

/// Writes the page.
pub(super) fn render(comparison: &Comparison) -> Result<String> {
    let columns = columns(comparison);
    let page = Page {
        reference: printable(&comparison.reference.name),
        current: printable(&comparison.current.name),
        head: Head::of(comparison),
        causes: causes(comparison),
        columns,
        new_columns: comparison.report.new_columns.iter().map(|name| printable(name)).collect(),
        skipped: skipped(comparison),
        notes: comparison.notes.iter().map(|note| printable(note)).collect(),
    };
    Ok(page.render()?)
}

#[derive(Template)]
#[template(path = "drift.html")]
struct Page {
    reference: String,
    current: String,
    head: Head,
    causes: Vec<Cause>,
    /// Drifted ones first, then those of which it cannot be told.
    columns: Vec<Column>,
    new_columns: Vec<String>,
    skipped: Vec<LeftOut>,
    notes: Vec<String>,
}

/// A drifted column with its part of the shift.
struct Cause {
    id: usize,
    name: String,
    /// Of the bar, in percent.
    width: f64,
    share: String,
    reason: String,
}

/// A column that was not looked at.
struct LeftOut {
    file: String,
    name: String,
    reason: String,
}

fn columns(comparison: &Comparison) -> Vec<Column> {
    let places =
        |wanted| table::ordered(&comparison.report.columns).into_iter().filter(move |column| column.verdict == wanted);
    let ordered = [Verdict::Drifted, Verdict::Unknown, Verdict::Stable].into_iter().flat_map(places);
    ordered.filter_map(|column| Column::of(place(comparison, &column.name)?, comparison)).collect()
}

/// A column's place in the reference, by which the parts of the page point to it.
fn place(comparison: &Comparison, name: &str) -> Option<usize> {
    comparison.report.columns.iter().position(|column| column.name == name)
}

fn causes(comparison: &Comparison) -> Vec<Cause> {
    let columns = table::ordered(&comparison.report.columns);
    let drifted = columns.into_iter().filter(|column| column.verdict == Verdict::Drifted);
    let causes = drifted.filter_map(|column| {
        Some(Cause {
            id: place(comparison, &column.name)?,
            name: printable(&column.name),
            width: (1000.0 * column.cause_share).round() / 10.0,
            share: percent(column.cause_share),
            reason: printable(&column.reason),
        })
    });
    causes.collect()
}

fn skipped(comparison: &Comparison) -> Vec<LeftOut> {
    let of = |source: &super::comparison::Source| {
        let file = printable(&source.name);
        let left_out = |skipped: &Skipped| LeftOut {
            file: file.clone(),
            name: printable(&skipped.name),
            reason: printable(&skipped.reason.to_string()),
        };
        source.unsupported().map(left_out).collect::<Vec<_>>()
    };
    of(&comparison.reference).into_iter().chain(of(&comparison.current)).collect()
}

#[cfg(test)]
mod tests;
