//! What the report says at its top: the verdict, and what it rests on, for whoever reads no further.

use rekindle_statistics::{
    convention::Convention,
    drift::{ColumnDrift, Verdict},
};

use super::column::Tag;
use crate::drift::comparison::{Comparison, Weighting};
use crate::drift::figures::{chance, counted, cut, number, percent, rows};

/// The top of the report.
pub(super) struct Head {
    pub tag: Tag,
    /// The verdict in a sentence.
    pub verdict: String,
    /// What to do about it.
    pub advice: &'static str,
    pub cards: Vec<Card>,
    pub budget: String,
    pub margin: String,
    /// Whose statistics stand beside the verdict.
    pub convention: &'static str,
    pub weighting: &'static str,
}

/// A figure with what it is.
pub(super) struct Card {
    pub figure: String,
    pub what: String,
}

impl Head {
    pub(super) fn of(comparison: &Comparison) -> Self {
        Self {
            tag: Tag::of(comparison.report.verdict),
            verdict: verdict(comparison),
            advice: advice(comparison),
            cards: cards(comparison),
            budget: budget(comparison),
            margin: margin(comparison.settings.margin),
            convention: convention(comparison.convention),
            weighting: weighting(comparison.weighting),
        }
    }
}

fn count(comparison: &Comparison, verdict: Verdict) -> u64 {
    comparison.report.columns.iter().filter(|column| column.verdict == verdict).count() as u64
}

fn verdict(comparison: &Comparison) -> String {
    let columns = &comparison.report.columns;
    let (all, unknown) = (counted(columns.len() as u64, "column"), count(comparison, Verdict::Unknown));
    let untold = match unknown {
        0 => String::new(),
        1 => "; 1 cannot be told".to_owned(),
        unknown => format!("; {} cannot be told", rows(unknown)),
    };
    match comparison.report.verdict {
        Verdict::Drifted => {
            format!("{} of {all} moved{untold}.{}", rows(count(comparison, Verdict::Drifted)), foremost(columns))
        }
        Verdict::Stable => format!("no shift that matters in any of {all}."),
        Verdict::Unknown if columns.is_empty() => "there are no columns to compare.".to_owned(),
        Verdict::Unknown => match count(comparison, Verdict::Stable) {
            0 => format!("nothing can be told of any of {all}."),
            stable => format!("no shift that matters in {} of {all}{untold}.", rows(stable)),
        },
    }
}

/// The drifted column that the shift is most to be laid to, if there are others.
fn foremost(columns: &[ColumnDrift]) -> String {
    let drifted = || columns.iter().filter(|column| column.verdict == Verdict::Drifted);
    match drifted().max_by(|a, b| a.cause_share.total_cmp(&b.cause_share)) {
        Some(most) if drifted().count() > 1 => {
            format!(
                " The largest part of the shift is that of {:?}: {}.",
                cut(&most.name, 40),
                percent(most.cause_share)
            )
        }
        _ => String::new(),
    }
}

fn advice(comparison: &Comparison) -> &'static str {
    match comparison.report.verdict {
        Verdict::Drifted => {
            "Begin with the first of the columns below. Rule out a fault in the data (gaps, units, columns that changed places) \
             before the model is retrained; then measure the model on recent labelled rows, and retrain if it has become worse."
        }
        Verdict::Stable => "Nothing has to be done. A shift of the size that matters would have been seen.",
        Verdict::Unknown => {
            "Collect more rows and compare again. Of the columns that cannot be told this is neither good news nor bad."
        }
    }
}

fn cards(comparison: &Comparison) -> Vec<Card> {
    let verdict =
        |verdict: Verdict, what: &str| Card { figure: rows(count(comparison, verdict)), what: what.to_owned() };
    let side = |rows_of: u64, what: &str| Card { figure: rows(rows_of), what: what.to_owned() };
    vec![
        verdict(Verdict::Drifted, "▲ drifted"),
        verdict(Verdict::Unknown, "? unknown"),
        verdict(Verdict::Stable, "● stable"),
        side(comparison.report.rows.reference, "rows of the reference"),
        side(comparison.report.rows.current, "rows of the data"),
    ]
}

fn budget(comparison: &Comparison) -> String {
    let (settings, columns) = (&comparison.settings, comparison.report.columns.len() as u64);
    let windows = match settings.looks {
        1 => "in this comparison".to_owned(),
        looks => format!("in {looks} windows such as this one"),
    };
    format!(
        "If nothing ever moved, there would be a false alarm {windows}, over {} together, with a chance of at most {}. \
         So a column's difference counts as real if chance would make one as large with a probability below {}.",
        counted(columns, "column"),
        percent(settings.false_alarms),
        chance(comparison.report.level)
    )
}

/// The index of two normal distributions of the same width that lie `d` standard deviations apart is `d` squared.
fn margin(margin: f64) -> String {
    format!(
        "A difference matters if its effect is above {}: as much as if a bell curve were shifted by {} of its standard deviation.",
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

fn weighting(weighting: Weighting) -> &'static str {
    match weighting {
        Weighting::Effect => "A column's share of the shift is its part of the effects of those that drifted.",
        Weighting::Importance => {
            "A column's share of the shift is its part of the effects of those that drifted, each weighted by the importance given."
        }
        Weighting::Prediction => {
            "A column's share of the shift is how far its shift alone moves the mean prediction, of all that drifted together."
        }
    }
}
