//! Drift by feature and window: a table of coloured cells, each with a sign and a text, so that nothing is in the colour alone.

use chrono::{DateTime, Utc};
use rekindle_domain::report::{ColumnDrift, Verdict, WindowReport};

use super::{by_window, format::day};

/// Columns of the table. With more windows, each column shows several of them.
const COLUMNS: usize = 60;

/// Dates above the columns; more would overlap.
const DATES: usize = 24;

/// The limits of the colours, in units of the population stability index, and the names of the steps between them.
const STEPS: [(f64, &str); 5] =
    [(0.1, "below 0.1"), (0.2, "0.1 to 0.2"), (0.5, "0.2 to 0.5"), (1.0, "0.5 to 1"), (f64::INFINITY, "1 or more")];

/// The table.
pub(crate) struct HeatMap {
    /// Above each column; empty where dates would overlap.
    pub dates: Vec<String>,
    pub rows: Vec<Row>,
    /// Windows in each column.
    pub windows_each: usize,
    pub legend: Vec<Step>,
}

/// One feature.
pub(crate) struct Row {
    pub name: String,
    pub cells: Vec<Cell>,
}

/// One feature in the windows of one column.
pub(crate) struct Cell {
    /// The class of its colour.
    pub class: String,
    pub sign: &'static str,
    /// The window, the numbers and the reason.
    pub title: String,
}

/// A colour of the scale.
pub(crate) struct Step {
    pub class: String,
    pub range: &'static str,
}

/// One row per feature, the most drifted first; windows in time order.
pub(super) fn of(reports: &[WindowReport]) -> HeatMap {
    let windows: Vec<(DateTime<Utc>, &WindowReport)> =
        by_window(reports).into_iter().map(|((from, _), report)| (from, report)).collect();
    let windows_each = windows.len().div_ceil(COLUMNS).max(1);
    let columns: Vec<&[(DateTime<Utc>, &WindowReport)]> = windows.chunks(windows_each).collect();
    let row = |name: String| {
        let cells = columns.iter().map(|windows| worst(windows, &name)).collect();
        Row { name, cells }
    };
    let every = columns.len().div_ceil(DATES).max(1);
    let date = |(index, windows): (usize, &&[(DateTime<Utc>, &WindowReport)])| {
        windows.first().filter(|_| index.is_multiple_of(every)).map(|window| day(window.0)).unwrap_or_default()
    };
    HeatMap {
        dates: columns.iter().enumerate().map(date).collect(),
        rows: names(&windows).into_iter().map(row).collect(),
        windows_each,
        legend: (0..STEPS.len()).map(|step| Step { class: format!("h{step}"), range: STEPS[step].1 }).collect(),
    }
}

/// The features by descending sum of their indices.
fn names(windows: &[(DateTime<Utc>, &WindowReport)]) -> Vec<String> {
    let mut sums: Vec<(&str, f64)> = Vec::new();
    for feature in windows.iter().flat_map(|(_, report)| report.drift.columns()) {
        match sums.iter_mut().find(|(name, _)| *name == feature.name) {
            Some((_, sum)) => *sum += feature.psi.max(0.0),
            None => sums.push((&feature.name, feature.psi.max(0.0))),
        }
    }
    sums.sort_by(|a, b| b.1.total_cmp(&a.1));
    sums.into_iter().map(|(name, _)| name.to_owned()).collect()
}

/// The cell of the window with the largest shift: a drifted one before the others, an inconclusive one last.
fn worst(windows: &[(DateTime<Utc>, &WindowReport)], name: &str) -> Cell {
    let found = windows.iter().filter_map(|(from, report)| {
        let feature = report.drift.columns().find(|feature| feature.name == name)?;
        Some((*from, feature))
    });
    let rank = |feature: &ColumnDrift| match feature.verdict {
        Verdict::Drifted => 2,
        Verdict::Stable => 1,
        Verdict::Inconclusive => 0,
    };
    let worst = found.max_by(|(_, a), (_, b)| rank(a).cmp(&rank(b)).then(a.psi.total_cmp(&b.psi)));
    match (worst, windows.first()) {
        (Some((from, feature)), _) => cell(from, feature),
        (None, first) => {
            let from = first.map(|window| day(window.0)).unwrap_or_default();
            Cell { class: "none".to_owned(), sign: "", title: format!("{from}: not monitored") }
        }
    }
}

fn cell(from: DateTime<Utc>, feature: &ColumnDrift) -> Cell {
    let because = because(feature);
    let numbers = || format!("PSI {:.3}, p {}", feature.psi, Short(feature.p_value));
    let step = STEPS.iter().position(|(limit, _)| feature.psi < *limit).unwrap_or(STEPS.len() - 1);
    let (class, sign, title) = match feature.verdict {
        Verdict::Inconclusive => ("unsure".to_owned(), "?", format!("inconclusive{because}")),
        Verdict::Drifted => (format!("h{step}"), "▲", format!("drifted, {}{because}", numbers())),
        Verdict::Stable => (format!("h{step}"), "", format!("stable, {}{because}", numbers())),
    };
    Cell { class, sign, title: format!("{}: {title}", day(from)) }
}

/// The reason, as the end of a sentence; empty if none was recorded.
fn because(feature: &ColumnDrift) -> String {
    if feature.reason.is_empty() { String::new() } else { format!(": {}", feature.reason) }
}

/// A p-value with three decimals, or in scientific notation if it is smaller.
struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 >= 0.001 { write!(f, "{:.3}", self.0) } else { write!(f, "{:.0e}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::window, *};

    #[test]
    fn a_cell_shows_the_verdict_as_a_sign_and_the_reason() {
        let shown = |verdict: Verdict, reason: &str| {
            let report = window(0, verdict, 0.3, reason);
            let map = of(&[report]);
            let cell = &map.rows[0].cells[0];
            (cell.class.clone(), cell.sign, cell.title.clone())
        };
        let inconclusive = shown(Verdict::Inconclusive, "7 rows are too few");
        assert_eq!(inconclusive, ("unsure".into(), "?", "1970-01-01: inconclusive: 7 rows are too few".into()));
        let drifted = shown(Verdict::Drifted, "the unit has changed");
        assert_eq!(drifted, ("h2".into(), "▲", "1970-01-01: drifted, PSI 0.300, p 0.250: the unit has changed".into()));
        assert_eq!(shown(Verdict::Stable, "").2, "1970-01-01: stable, PSI 0.300, p 0.250");
    }

    #[test]
    fn many_windows_share_columns_and_the_worst_one_is_shown() {
        let mut reports: Vec<WindowReport> = (0..500).map(|week| window(week, Verdict::Stable, 0.01, "")).collect();
        reports[301] = window(301, Verdict::Drifted, 2.0, "");
        reports[302] = window(302, Verdict::Inconclusive, 9.0, "");
        let map = of(&reports);
        assert_eq!((map.windows_each, map.dates.len()), (9, 56));
        let row = &map.rows[0];
        let drifted: Vec<usize> = (0..56).filter(|&index| row.cells[index].sign == "▲").collect();
        assert_eq!(drifted, [301 / 9]);
        assert!(map.dates.iter().filter(|date| !date.is_empty()).count() <= DATES);
    }
}
