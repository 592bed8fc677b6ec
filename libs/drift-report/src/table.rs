//! A report as a table for a terminal.

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use rekindle_statistics::drift::{ColumnDrift, Verdict};

use crate::{DriftReport, figures::percent, printable, summary};

const HEADER: [&str; 8] =
    ["column", "kind", "verdict", "effect", "min. detectable", "share of shift", "missing", "reason"];

impl DriftReport {
    /// The columns by descending share of the shift, one per line, and a summary in sentences. Lines are wrapped at `width` characters,
    /// if given.
    pub fn to_table(&self, width: Option<u16>) -> String {
        let has_drifted = self.verdict() == Verdict::Drifted;
        let columns = self.columns_by_share().into_iter().map(|column| line(column, has_drifted));
        let mut lines = lines(&HEADER, columns, width);
        lines.push(String::new());
        lines.extend(summary::of(self));
        lines.join("\n")
    }
}

/// The lines of a table without borders.
pub(crate) fn lines(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>, width: Option<u16>) -> Vec<String> {
    let mut table = Table::new();
    // Without this the layout would depend on the terminal of the process.
    table.force_no_tty();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>());
    table.add_rows(rows);
    if let Some(width) = width {
        table.set_width(width);
    }
    table.to_string().lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Where nothing has drifted there is no shift to attribute.
fn line(column: &ColumnDrift, has_drifted: bool) -> Vec<String> {
    vec![
        printable(&column.name),
        column.kind.to_string(),
        verdict(column.verdict).to_owned(),
        format!("{:.3}", column.effect),
        column.minimum_detectable_effect.map(|least| format!("{least:.3}")).unwrap_or_default(),
        if has_drifted { percent(column.cause_share) } else { String::new() },
        missing(column),
        printable(&column.reason),
    ]
}

/// A verdict in a word.
pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Drifted => "drifted",
        Verdict::Stable => "stable",
        Verdict::Inconclusive => "inconclusive",
    }
}

/// The shares of missing values in the reference and the current data; empty where both are zero.
fn missing(column: &ColumnDrift) -> String {
    let (reference, current) = (column.missing.reference, column.missing.current);
    match reference == 0.0 && current == 0.0 {
        true => String::new(),
        false => format!("{} -> {}", percent(reference), percent(current)),
    }
}
