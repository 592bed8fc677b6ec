//! A profile as a table for a terminal.

use rekindle_statistics::profile::{BUCKETS, Categorical, Column, ColumnProfile, Numeric, Profile};

use crate::{
    figures::{counted, moment, number, percent, rows},
    printable, table,
};

/// Most frequent values of a categorical column that are shown, and the characters that each is cut to.
const TOP: usize = 3;
const TOP_CHARACTERS: usize = 24;

/// A profile as a table: one line per column, and the numbers of columns and rows. Lines are wrapped at `width` characters, if given.
pub fn profile_table(profile: &Profile, width: Option<u16>) -> String {
    let header = ["column", "kind", "missing", "distinct", "values"];
    let mut lines = table::lines(&header, profile.columns.iter().map(line), width);
    lines.push(String::new());
    lines.push(format!("{}, {}", counted(profile.columns.len() as u64, "column"), counted(profile.rows, "row")));
    lines.join("\n")
}

fn line(column: &Column) -> Vec<String> {
    let values = match &column.profile {
        ColumnProfile::Numeric(numeric) => numbers(numeric),
        ColumnProfile::Categorical(categorical) | ColumnProfile::Boolean(categorical) => categories(categorical),
        ColumnProfile::Timestamp(timestamp) => span(timestamp.span()),
    };
    vec![
        printable(&column.name),
        column.profile.kind().to_string(),
        column.profile.missing_share().map(percent).unwrap_or_default(),
        distinct(&column.profile).unwrap_or_default(),
        values,
    ]
}

/// Distinct values in words.
pub(crate) fn distinct(profile: &ColumnProfile) -> Option<String> {
    match profile {
        ColumnProfile::Numeric(numeric) => Some(match numeric.distinct() {
            Some(distinct) => rows(distinct as u64),
            None => format!("over {}", rows(BUCKETS as u64)),
        }),
        ColumnProfile::Categorical(categorical) | ColumnProfile::Boolean(categorical) => {
            let (distinct, _) = categorical.distinct();
            let text = rows(distinct.round() as u64);
            Some(if categorical.is_exact() { text } else { format!("about {text}") })
        }
        ColumnProfile::Timestamp(_) => None,
    }
}

fn numbers(numeric: &Numeric) -> String {
    let figures = numeric.range().zip(numeric.quantile(0.5));
    let words = |((min, max), median)| format!("{} to {}, median {}", number(min), number(max), number(median));
    figures.map(words).unwrap_or_default()
}

fn categories(categorical: &Categorical) -> String {
    let top = categorical.top(TOP).into_iter().map(|(name, count)| {
        let name: String = name.chars().take(TOP_CHARACTERS).collect();
        format!("{} ({})", printable(&name), rows(count))
    });
    top.collect::<Vec<_>>().join(", ")
}

fn span(span: Option<(i64, i64)>) -> String {
    span.map(|(first, last)| format!("{} to {}", moment(first), moment(last))).unwrap_or_default()
}
