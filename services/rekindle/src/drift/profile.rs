//! `rekindle profile`: what is remembered of a file, to compare others with when the file is gone.

use std::{io::IsTerminal as _, path::PathBuf};

use anyhow::Result;
use rekindle_statistics::profile::{BUCKETS, Categorical, Column, ColumnProfile, Numeric, Profile};

use super::{selection::Selection, source::Reader, table::printable};
use crate::client::output::{self, Format};

/// What `rekindle profile` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Parquet or CSV, or a profile to show
    file: PathBuf,
    /// Where to write the profile
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    selection: Selection,
    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

const AFTER_HELP: &str = "\
Without --output, a terminal is shown a table; anything else is given the profile, as with --json.";

/// Profiles a file.
pub(crate) fn run(args: &Args, format: Format) -> Result<()> {
    let bar = super::progress(args.quiet, [args.file.as_path()]);
    let source = Reader { buckets: BUCKETS, bar: &bar }.reference(&args.file, &args.selection)?;
    bar.finish_and_clear();
    let json = String::from_utf8_lossy(&source.profile.to_bytes()).into_owned();
    match &args.output {
        Some(path) => {
            super::write(path, format!("{json}\n").as_bytes())?;
            print(&source.profile);
        }
        None if format == Format::Json || !std::io::stdout().is_terminal() => output::emit(&json),
        None => print(&source.profile),
    }
    if !args.quiet {
        source
            .skipped
            .iter()
            .for_each(|skipped| eprintln!("note: {:?} was left out: {}", skipped.name, skipped.reason));
    }
    Ok(())
}

fn print(profile: &Profile) {
    let header = ["column", "kind", "missing", "different", "values"];
    output::print_table(&header, profile.columns.iter().map(line));
    output::emit("");
    output::emit(&format!("{} columns, {} rows", profile.columns.len(), profile.rows));
}

fn line(column: &Column) -> Vec<String> {
    let (different, values) = match &column.profile {
        ColumnProfile::Numeric(numeric) => numbers(numeric),
        ColumnProfile::Categorical(categorical) | ColumnProfile::Boolean(categorical) => categories(categorical),
        ColumnProfile::Timestamp(timestamp) => (String::new(), span(timestamp.span())),
    };
    let missing = column.profile.missing_share().map(|share| format!("{:.1} %", 100.0 * share)).unwrap_or_default();
    vec![printable(&column.name), column.profile.kind().to_owned(), missing, different, values]
}

fn numbers(numeric: &Numeric) -> (String, String) {
    let different = numeric.distinct().map_or_else(|| format!("over {BUCKETS}"), |different| different.to_string());
    let Some(((min, max), middle)) = numeric.range().zip(numeric.quantile(0.5)) else {
        return (different, String::new());
    };
    (different, format!("{} to {}, half up to {}", output::number(min), output::number(max), output::number(middle)))
}

fn categories(categorical: &Categorical) -> (String, String) {
    const TOP: usize = 3;
    const WIDTH: usize = 24;
    let (different, _) = categorical.distinct();
    let different = if categorical.is_exact() { format!("{different}") } else { format!("about {different:.0}") };
    let cut = |name: &str| name.chars().take(WIDTH).collect::<String>();
    let top = categorical.top(TOP).into_iter().map(|(name, rows)| format!("{} ({rows})", printable(&cut(&name))));
    (different, top.collect::<Vec<_>>().join(", "))
}

fn span(span: Option<(i64, i64)>) -> String {
    let at =
        |millis| chrono::DateTime::from_timestamp_millis(millis).map(|time| output::moment(&time)).unwrap_or_default();
    span.map(|(first, last)| format!("{} to {}", at(first), at(last))).unwrap_or_default()
}
