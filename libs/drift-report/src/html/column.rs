//! One column of the page: its verdict, its charts and its numbers.

use rekindle_statistics::{
    convention::Scores,
    drift::{BlockTest, ColumnDrift, Sides, Verdict},
    profile::{ColumnKind, ColumnProfile, Numeric},
};

use super::{
    advice,
    chart::{self, Chart},
    parts::Parts,
};
use crate::{
    DriftReport,
    figures::{self, chance, number, percent, rows},
    printable, profile, table,
};

/// One column, ready for the page.
pub(super) struct Column {
    /// Its position in the reference, which links refer to.
    pub id: usize,
    pub name: String,
    pub kind: String,
    pub tag: Tag,
    pub reason: String,
    pub advice: String,
    /// The cells of the overview after its name, kind and verdict.
    pub figures: Vec<Figure>,
    pub pictures: Vec<Picture>,
    pub evidence: Vec<Evidence>,
    pub sides: Vec<Row>,
    pub is_stable: bool,
}

/// A cell of the overview with the name of its column, which narrow pages show beside it.
pub(super) struct Figure {
    pub name: &'static str,
    pub value: String,
}

/// A verdict as a word and a sign, so that no information is in the colour alone.
#[derive(Clone, Copy)]
pub(super) struct Tag {
    pub word: &'static str,
    pub sign: &'static str,
}

/// A chart with its caption.
pub(super) struct Picture {
    pub title: String,
    pub description: String,
    pub chart: Chart,
}

/// A number that the verdict is based on, or a statistic beside it.
pub(super) struct Evidence {
    pub name: &'static str,
    pub value: String,
    pub remark: String,
}

/// A number of each side; empty where a side has none.
pub(super) struct Row {
    pub name: &'static str,
    pub reference: String,
    pub current: String,
}

impl Tag {
    pub(super) fn of(verdict: Verdict) -> Self {
        let sign = match verdict {
            Verdict::Drifted => "▲",
            Verdict::Stable => "●",
            Verdict::Inconclusive => "?",
        };
        Self { word: table::verdict(verdict), sign }
    }
}

impl Column {
    /// The column at a position in the reference.
    pub(super) fn of(id: usize, report: &DriftReport) -> Option<Self> {
        let (column, scores) = (report.comparison.columns.get(id)?, report.statistics.get(id)?);
        let reference = report.reference.profile.column(&column.name)?;
        let absent = reference.none_of(report.comparison.rows.current);
        let current = report.current.profile.column(&column.name).unwrap_or(&absent);
        Some(Self {
            id,
            name: printable(&column.name),
            kind: column.kind.to_string(),
            tag: Tag::of(column.verdict),
            reason: sentence(&printable(&column.reason)),
            advice: advice::of(column, report),
            figures: figures(column, report),
            pictures: pictures(column, reference, current, report.comparison.rows),
            evidence: evidence(column, scores, report),
            sides: sides(column, reference, current),
            is_stable: column.verdict == Verdict::Stable,
        })
    }
}

/// The cells of the overview after name, kind and verdict.
fn figures(column: &ColumnDrift, report: &DriftReport) -> Vec<Figure> {
    let missing = match (percent(column.missing.reference), percent(column.missing.current)) {
        (reference, current) if reference == current => current,
        (reference, current) => format!("{reference} → {current}"),
    };
    let figure = |name, value| Figure { name, value };
    vec![
        figure("effect", number(column.effect)),
        figure("min. detectable", column.minimum_detectable_effect.map(number).unwrap_or_default()),
        figure("p-value", chance(column.p_value)),
        figure("missing", missing),
        figure("share of shift", share(column, report)),
    ]
}

fn share(column: &ColumnDrift, report: &DriftReport) -> String {
    match report.not_counted(column) {
        Some(_) => "not counted".to_owned(),
        None => percent(column.cause_share),
    }
}

fn pictures(
    column: &ColumnDrift,
    reference: &ColumnProfile,
    current: &ColumnProfile,
    rows: Sides<u64>,
) -> Vec<Picture> {
    let mut pictures = vec![Picture::of("Rows by value", &Parts::of(column, reference, current), rows)];
    if let Some(lengths) = Parts::of_lengths(reference, current) {
        pictures.push(Picture::of("Rows by text length, in characters", &lengths, rows));
    }
    pictures
}

impl Picture {
    fn of(title: &str, parts: &Parts, rows: Sides<u64>) -> Self {
        let chart = chart::draw(parts, rows);
        let gap = |part: &&super::parts::Part| {
            (part.current as f64 / rows.current.max(1) as f64 - part.reference as f64 / rows.reference.max(1) as f64)
                .abs()
        };
        let most = parts.all().iter().zip(&chart.pairs).max_by(|a, b| gap(&a.0).total_cmp(&gap(&b.0)));
        let largest = most.map(|(_, pair)| {
            format!(
                " The largest difference is at {}: {} of the reference, {} of the current data.",
                printable(&pair.label),
                pair.shares.reference,
                pair.shares.current
            )
        });
        let description =
            format!("Shares of the rows of the reference and the current data.{}", largest.unwrap_or_default());
        Self { title: title.to_owned(), description, chart }
    }
}

fn evidence(column: &ColumnDrift, scores: &Scores, report: &DriftReport) -> Vec<Evidence> {
    let margin = number(report.options.settings.margin);
    let line = |name, value: Option<String>, remark: String| value.map(|value| Evidence { name, value, remark });
    let plain = |name, value: Option<f64>| line(name, value.map(number), String::new());
    let tested = |name, test: Option<rekindle_statistics::two_sample::Test>| {
        let remark = test.map(|test| format!("p {}", chance(test.p_value))).unwrap_or_default();
        line(name, test.map(|test| number(test.statistic)), remark)
    };
    let lines = [
        line("Effect", Some(number(column.effect)), format!("matters above {margin}")),
        line(
            "Smallest detectable effect",
            column.minimum_detectable_effect.map(number),
            format!("stable requires at most {margin}"),
        ),
        line("p-value", Some(chance(column.p_value)), format!("significant below {}", chance(report.comparison.level))),
        line(
            "Effect beside the blocks of the reference",
            column.blocks.map(|test| number(test.effect)),
            column.blocks.map(|test| beside_blocks(&test)).unwrap_or_default(),
        ),
        line(
            "p-value beside the blocks",
            column.blocks.map(|test| chance(test.p_value)),
            format!("significant below {}", chance(report.comparison.level / 2.0)),
        ),
        line("Share of the shift", Some(share(column, report)), counted_out(column, report)),
        plain("PSI", scores.psi),
        plain("Jensen-Shannon", scores.jensen_shannon),
        plain("Wasserstein", scores.wasserstein),
        tested("Kolmogorov-Smirnov", scores.ks),
        tested("Chi-square", scores.chi_square),
    ];
    lines.into_iter().flatten().collect()
}

/// E.g. `17 blocks of 7 days have up to 4.4; they are worth 9.5 independent ones`.
fn beside_blocks(test: &BlockTest) -> String {
    format!(
        "{} blocks of {} have up to {}; they are worth {} independent ones",
        test.blocks,
        test.length_in_words(),
        number(test.largest_effect),
        number(test.effective_blocks)
    )
}

fn counted_out(column: &ColumnDrift, report: &DriftReport) -> String {
    report.not_counted(column).map(|what| format!("{what} is no cause")).unwrap_or_default()
}

fn sides(column: &ColumnDrift, reference: &ColumnProfile, current: &ColumnProfile) -> Vec<Row> {
    let row = |name, value: &dyn Fn(&ColumnProfile) -> Option<String>| Row {
        name,
        reference: value(reference).unwrap_or_default(),
        current: value(current).unwrap_or_default(),
    };
    let shares =
        |name, shares: Sides| Row { name, reference: percent(shares.reference), current: percent(shares.current) };
    let of_current =
        |name, share: Option<f64>| share.map(|share| Row { name, reference: String::new(), current: percent(share) });
    let numeric =
        |name, value: fn(&Numeric) -> Option<f64>| row(name, &|side| numbers(side).and_then(value).map(number));
    let mut lines = vec![row("Rows", &|side| Some(rows(side.rows()))), shares("Missing", column.missing)];
    lines.extend((column.kind == ColumnKind::Numeric).then(|| shares("Not finite", column.non_finite)));
    lines.extend(of_current("Out of range", column.out_of_range_share));
    lines.extend(of_current("Unseen values", column.unseen_share));
    lines.extend([
        row("Distinct values", &profile::distinct),
        numeric("Mean", |side| side.moments().mean()),
        numeric("Standard deviation", |side| side.moments().std(1)),
        numeric("Minimum", |side| side.range().map(|range| range.0)),
        numeric("25 % quantile", |side| side.quantile(0.25)),
        numeric("Median", |side| side.quantile(0.5)),
        numeric("75 % quantile", |side| side.quantile(0.75)),
        numeric("Maximum", |side| side.range().map(|range| range.1)),
        row("First", &|side| moment(side, |span| span.0)),
        row("Last", &|side| moment(side, |span| span.1)),
    ]);
    lines.retain(|line| !line.reference.is_empty() || !line.current.is_empty());
    lines
}

fn numbers(side: &ColumnProfile) -> Option<&Numeric> {
    match side {
        ColumnProfile::Numeric(numeric) => Some(numeric),
        _ => None,
    }
}

fn moment(side: &ColumnProfile, end: fn((i64, i64)) -> i64) -> Option<String> {
    match side {
        ColumnProfile::Timestamp(times) => times.span().map(|span| figures::moment(end(span))),
        _ => None,
    }
}

/// With a capital letter at the beginning, and a full stop unless it ends with another mark.
fn sentence(words: &str) -> String {
    let mut characters = words.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if words.is_empty() || words.ends_with(['?', '.', '!']) { "" } else { "." };
    format!("{first}{}{end}", characters.as_str())
}
