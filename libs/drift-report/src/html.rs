//! A report as an HTML page: one file that fetches nothing, runs no script, and is readable in print and without colours.

mod advice;
mod chart;
mod column;
mod head;
mod parts;

use askama::Template;
use rekindle_statistics::drift::Verdict;

use self::{column::Column, head::Head};
use crate::{DataSource, DriftReport, Error, SkippedColumn, figures::percent, printable};

impl DriftReport {
    /// The report as a self-contained HTML page.
    ///
    /// # Errors
    /// [`Error::Html`].
    pub fn to_html(&self) -> Result<String, Error> {
        let page = Page {
            reference: printable(&self.reference.name),
            current: printable(&self.current.name),
            head: Head::of(self),
            causes: causes(self),
            not_counted: not_counted(self),
            columns: columns(self),
            new_columns: self.comparison.new_columns.iter().map(|name| printable(name)).collect(),
            skipped: skipped(&self.reference).chain(skipped(&self.current)).collect(),
            notes: self.notes.iter().map(|note| printable(note)).collect(),
        };
        Ok(page.render()?)
    }
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    reference: String,
    current: String,
    head: Head,
    causes: Vec<Cause>,
    /// Drifted columns that are no cause.
    not_counted: Vec<NotCounted>,
    /// Drifted ones first, then inconclusive ones.
    columns: Vec<Column>,
    new_columns: Vec<String>,
    skipped: Vec<Skipped>,
    notes: Vec<String>,
}

/// A drifted column with its share of the shift.
struct Cause {
    id: usize,
    name: String,
    /// Width of its bar, in percent.
    width: f64,
    share: String,
    reason: String,
}

/// A drifted column without a share of the shift.
struct NotCounted {
    id: usize,
    name: String,
    /// What it is, e.g. `a running number`.
    what: &'static str,
}

/// A column that is not compared.
struct Skipped {
    source: String,
    name: String,
    reason: String,
}

fn columns(report: &DriftReport) -> Vec<Column> {
    let with = |verdict| report.columns_by_share().into_iter().filter(move |column| column.verdict == verdict);
    let ordered = [Verdict::Drifted, Verdict::Inconclusive, Verdict::Stable].into_iter().flat_map(with);
    ordered.filter_map(|column| Column::of(id(report, &column.name)?, report)).collect()
}

/// The position of a column in the reference, which links refer to.
fn id(report: &DriftReport, name: &str) -> Option<usize> {
    report.comparison.columns.iter().position(|column| column.name == name)
}

fn causes(report: &DriftReport) -> Vec<Cause> {
    let columns = report.columns_by_share();
    let drifted = columns.into_iter().filter(|column| column.verdict == Verdict::Drifted);
    let causes = drifted.filter(|column| report.not_counted(column).is_none()).filter_map(|column| {
        Some(Cause {
            id: id(report, &column.name)?,
            name: printable(&column.name),
            width: (1000.0 * column.cause_share).round() / 10.0,
            share: percent(column.cause_share),
            reason: printable(&column.reason),
        })
    });
    causes.collect()
}

fn not_counted(report: &DriftReport) -> Vec<NotCounted> {
    let found = report.comparison.columns.iter().enumerate().filter_map(|(id, column)| {
        Some(NotCounted { id, name: printable(&column.name), what: report.not_counted(column)? })
    });
    found.collect()
}

fn skipped(source: &DataSource) -> impl Iterator<Item = Skipped> {
    source.unsupported().map(|SkippedColumn { name, reason }| Skipped {
        source: printable(&source.name),
        name: printable(name),
        reason: printable(&reason.to_string()),
    })
}
