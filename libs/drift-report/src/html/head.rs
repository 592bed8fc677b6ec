//! The head of the page: the verdict and what it is based on.

use rekindle_statistics::{
    convention::Convention,
    drift::{ColumnDrift, Verdict},
};

use super::column::Tag;
use crate::{
    Attribution, DriftReport,
    figures::{chance, counted, cut, number, percent, rows},
};

/// The head of the page.
pub(super) struct Head {
    pub tag: Tag,
    /// The verdict in a sentence.
    pub verdict: String,
    /// The recommended action.
    pub advice: &'static str,
    pub cards: Vec<Card>,
    pub budget: String,
    pub margin: String,
    /// Whose statistics are shown beside the verdict.
    pub convention: &'static str,
    /// The meaning of a share of the shift.
    pub attribution: &'static str,
}

/// A figure and its name.
pub(super) struct Card {
    pub figure: String,
    pub what: &'static str,
}

impl Head {
    pub(super) fn of(report: &DriftReport) -> Self {
        Self {
            tag: Tag::of(report.verdict()),
            verdict: verdict(report),
            advice: advice(report.verdict()),
            cards: cards(report),
            budget: budget(report),
            margin: margin(report.options.settings.margin),
            convention: convention(report.options.convention),
            attribution: attribution(report.attribution),
        }
    }
}

fn count(report: &DriftReport, verdict: Verdict) -> u64 {
    report.comparison.columns.iter().filter(|column| column.verdict == verdict).count() as u64
}

fn verdict(report: &DriftReport) -> String {
    let columns = &report.comparison.columns;
    let all = counted(columns.len() as u64, "column");
    let inconclusive = match count(report, Verdict::Inconclusive) {
        0 => String::new(),
        1 => "; 1 is inconclusive".to_owned(),
        many => format!("; {} are inconclusive", rows(many)),
    };
    match report.verdict() {
        Verdict::Drifted => {
            format!(
                "{} of {all} drifted{inconclusive}.{}",
                rows(count(report, Verdict::Drifted)),
                largest_share(columns)
            )
        }
        Verdict::Stable => format!("no shift above the margin in {all}."),
        Verdict::Inconclusive if columns.is_empty() => "no columns to compare.".to_owned(),
        Verdict::Inconclusive => match count(report, Verdict::Stable) {
            0 => format!("neither drift nor stability can be shown for {all}."),
            stable => format!("{} of {all} stable{inconclusive}.", rows(stable)),
        },
    }
}

/// The drifted column with the largest share of the shift, if there are others.
fn largest_share(columns: &[ColumnDrift]) -> String {
    let drifted = || columns.iter().filter(|column| column.verdict == Verdict::Drifted);
    match drifted().max_by(|a, b| a.cause_share.total_cmp(&b.cause_share)) {
        Some(largest) if largest.cause_share > 0.0 && largest.cause_share < 1.0 => {
            let name = cut(&largest.name, 40);
            format!(" {name:?} has the largest share of the shift: {}.", percent(largest.cause_share))
        }
        _ => String::new(),
    }
}

fn advice(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Drifted => {
            "Start with the first cause below. Rule out a data quality problem (missing values, units, swapped columns) before you \
             retrain. Then evaluate the model on recent labelled rows, and retrain if its quality has degraded."
        }
        Verdict::Stable => "No action is needed. The rows are enough to detect a shift above the margin.",
        Verdict::Inconclusive => "Collect more rows and compare again. An inconclusive column may have drifted or not.",
    }
}

fn cards(report: &DriftReport) -> Vec<Card> {
    let card = |figure: u64, what: &'static str| Card { figure: rows(figure), what };
    vec![
        card(count(report, Verdict::Drifted), "▲ drifted"),
        card(count(report, Verdict::Inconclusive), "? inconclusive"),
        card(count(report, Verdict::Stable), "● stable"),
        card(report.comparison.rows.reference, "reference rows"),
        card(report.comparison.rows.current, "current rows"),
    ]
}

fn budget(report: &DriftReport) -> String {
    let (settings, columns) = (&report.options.settings, report.comparison.columns.len() as u64);
    let windows = match settings.looks {
        1 => "in this comparison".to_owned(),
        looks => format!("in {looks} windows like this one"),
    };
    format!(
        "Without any drift, the probability of a false alarm {windows}, over {} together, is at most {}. \
         A difference in one column is therefore significant at a p-value below {}.",
        counted(columns, "column"),
        percent(settings.false_alarms),
        chance(report.comparison.level)
    )
}

/// The population stability index of two normal distributions of equal variance whose means differ by `d` standard deviations is `d`
/// squared.
fn margin(margin: f64) -> String {
    format!(
        "A difference matters if its effect is above {}, the effect of a shift of a normal distribution by {} standard deviations.",
        number(margin),
        number((margin.sqrt() * 100.0).round() / 100.0)
    )
}

fn convention(convention: Convention) -> &'static str {
    match convention {
        Convention::Rekindle => "rekindle",
        Convention::Evidently => "Evidently",
        Convention::Scipy => "scipy",
    }
}

fn attribution(attribution: Attribution) -> &'static str {
    match attribution {
        Attribution::Effect => {
            "the effect of the column, as a share of the effects of all drifted columns that may be a cause."
        }
        Attribution::Importance => {
            "the effect of the column times its importance, as a share of the weighted effects of all drifted columns that may be a cause."
        }
        Attribution::Prediction => {
            "how far the shift of the column alone moves the mean prediction, as a share of the sum over all drifted columns that may be a cause."
        }
    }
}
