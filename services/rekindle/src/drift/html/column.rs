//! One column of the report: its verdict, its picture and its numbers.

use rekindle_statistics::{
    convention::Scores,
    drift::{ColumnDrift, Sides, Verdict},
    profile::{ColumnKind, ColumnProfile, Numeric},
};

use super::{
    advice,
    chart::{self, Chart},
    parts::Parts,
};
use crate::{
    client::output,
    drift::{
        comparison::Comparison,
        figures::{chance, number, percent, rows},
        table::{self, printable},
    },
};

/// One column, ready for the page.
pub(super) struct Column {
    /// Its place in the reference, by which the page links to it.
    pub id: usize,
    pub name: String,
    pub kind: String,
    pub tag: Tag,
    pub reason: String,
    pub advice: String,
    pub figures: Vec<Figure>,
    pub pictures: Vec<Picture>,
    pub evidence: Vec<Evidence>,
    pub sides: Vec<Row>,
    pub is_stable: bool,
}

/// A verdict as a word and a sign, so that its colour says nothing of its own.
#[derive(Clone, Copy)]
pub(super) struct Tag {
    pub word: &'static str,
    pub sign: &'static str,
}

/// A number for the overview.
pub(super) type Figure = String;

/// A chart with its caption.
pub(super) struct Picture {
    pub title: String,
    pub description: String,
    pub chart: Chart,
}

/// A number that the verdict rests on, or that stands beside it.
pub(super) struct Evidence {
    pub name: &'static str,
    pub value: String,
    pub remark: String,
}

/// A number of both sides; empty where it has none.
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
            Verdict::Unknown => "?",
        };
        Self { word: table::verdict(verdict), sign }
    }
}

impl Column {
    /// The column at a place in the reference.
    pub(super) fn of(id: usize, comparison: &Comparison) -> Option<Self> {
        let (column, scores) = (comparison.report.columns.get(id)?, comparison.scores.get(id)?);
        let reference = comparison.reference.profile.column(&column.name)?;
        let absent = reference.none_of(comparison.report.rows.current);
        let current = comparison.current.profile.column(&column.name).unwrap_or(&absent);
        Some(Self {
            id,
            name: printable(&column.name),
            kind: column.kind.to_string(),
            tag: Tag::of(column.verdict),
            reason: sentence(&printable(&column.reason)),
            advice: advice::of(column, comparison),
            figures: figures(column),
            pictures: pictures(column, reference, current, comparison.report.rows),
            evidence: evidence(column, scores, comparison),
            sides: sides(column, reference, current),
            is_stable: column.verdict == Verdict::Stable,
        })
    }
}

/// What the overview has of a column, beside its name, kind and verdict.
fn figures(column: &ColumnDrift) -> Vec<Figure> {
    let missing = match (percent(column.missing.reference), percent(column.missing.current)) {
        (before, now) if before == now => now,
        (before, now) => format!("{before} → {now}"),
    };
    vec![
        number(column.effect),
        column.minimum_detectable_effect.map(number).unwrap_or_default(),
        chance(column.p_value),
        missing,
        percent(column.cause_share),
    ]
}

fn pictures(
    column: &ColumnDrift,
    reference: &ColumnProfile,
    current: &ColumnProfile,
    rows: Sides<u64>,
) -> Vec<Picture> {
    let mut pictures = vec![Picture::of("Rows by value", &Parts::of(column, reference, current), rows)];
    if let Some(lengths) = Parts::of_lengths(reference, current) {
        pictures.push(Picture::of("Rows by the length of the text, in characters", &lengths, rows));
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
        let moved = most.map(|(_, pair)| {
            format!(
                " They lie furthest apart at {}: {} of the reference, {} of the data.",
                printable(&pair.label),
                pair.shares.reference,
                pair.shares.current
            )
        });
        let description = format!("Shares of the rows of the reference and of the data.{}", moved.unwrap_or_default());
        Self { title: title.to_owned(), description, chart }
    }
}

fn evidence(column: &ColumnDrift, scores: &Scores, comparison: &Comparison) -> Vec<Evidence> {
    let settings = &comparison.settings;
    let line = |name, value: Option<String>, remark: String| value.map(|value| Evidence { name, value, remark });
    let plain = |name, value: Option<f64>| line(name, value.map(number), String::new());
    let tested = |name, test: Option<rekindle_statistics::two_sample::Test>| {
        let remark = test.map(|test| format!("p {}", chance(test.p_value))).unwrap_or_default();
        line(name, test.map(|test| number(test.statistic)), remark)
    };
    let lines = [
        line("Effect", Some(number(column.effect)), format!("matters above {}", number(settings.margin))),
        line(
            "Smallest detectable effect",
            column.minimum_detectable_effect.map(number),
            format!("stable takes at most {}", number(settings.margin)),
        ),
        line("p-value", Some(chance(column.p_value)), format!("is real below {}", chance(comparison.report.level))),
        line("Share of the shift", Some(percent(column.cause_share)), String::new()),
        plain("PSI", scores.psi),
        plain("Jensen-Shannon", scores.jensen_shannon),
        plain("Wasserstein", scores.wasserstein),
        tested("Kolmogorov-Smirnov", scores.ks),
        tested("Chi-square", scores.chi_square),
    ];
    lines.into_iter().flatten().collect()
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
        row("Different values", &different),
        numeric("Mean", |side| side.moments().mean()),
        numeric("Standard deviation", |side| side.moments().std(1)),
        numeric("Smallest", |side| side.range().map(|range| range.0)),
        numeric("Lower quarter", |side| side.quantile(0.25)),
        numeric("Median", |side| side.quantile(0.5)),
        numeric("Upper quarter", |side| side.quantile(0.75)),
        numeric("Largest", |side| side.range().map(|range| range.1)),
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

fn different(side: &ColumnProfile) -> Option<String> {
    match side {
        ColumnProfile::Numeric(numeric) => match numeric.distinct() {
            Some(distinct) => Some(rows(distinct as u64)),
            None => Some(format!("over {}", rows(rekindle_statistics::profile::BUCKETS as u64))),
        },
        ColumnProfile::Categorical(side) | ColumnProfile::Boolean(side) => {
            let (distinct, _) = side.distinct();
            Some(if side.is_exact() { rows(distinct as u64) } else { format!("about {}", number(distinct.round())) })
        }
        ColumnProfile::Timestamp(_) => None,
    }
}

fn moment(side: &ColumnProfile, end: fn((i64, i64)) -> i64) -> Option<String> {
    match side {
        ColumnProfile::Timestamp(times) => {
            chrono::DateTime::from_timestamp_millis(end(times.span()?)).map(|time| output::moment(&time))
        }
        _ => None,
    }
}

/// With a capital letter and a full stop, unless it ends with a mark of its own.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    let end = if words.is_empty() || words.ends_with(['?', '.', '!']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}
