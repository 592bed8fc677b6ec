//! `rekindle profile`: what is remembered of a file, to compare others with when the file is gone.

use std::{io::IsTerminal as _, path::PathBuf};

use anyhow::Result;
use rekindle_statistics::profile::{BUCKETS, Categorical, Column, ColumnProfile, Numeric, Profile};

use super::{
    comparison::Source,
    figures::percent,
    output_file::OutputFile,
    selection::Selection,
    source::{CsvFormat, Reader},
    table::printable,
};
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
    /// Take the columns and their kinds from this file or profile: what the profile will be compared with
    #[arg(long, value_name = "REFERENCE", conflicts_with_all = ["columns", "ignore", "categorical"])]
    like: Option<PathBuf>,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    csv: CsvFormat,
    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

const AFTER_HELP: &str = "\
Without --output, a terminal is shown a table; anything else is given the profile, as with --json.";

/// Profiles a file.
pub(crate) fn run(args: &Args, format: Format) -> Result<()> {
    let inputs = std::iter::once(&args.file).chain(&args.like).map(PathBuf::as_path);
    let output = args.output.as_ref().map(|path| OutputFile::prepare(path, inputs)).transpose()?;
    let source = read(args)?;
    let json = String::from_utf8_lossy(&source.profile.to_bytes()).into_owned();
    let is_written = output.is_some();
    if let Some(output) = output {
        output.write(format!("{json}\n").as_bytes())?;
    }
    match format {
        Format::Table if is_written || std::io::stdout().is_terminal() => print(&source.profile),
        _ => output::emit(&json),
    }
    if !args.quiet {
        let left_out =
            source.unsupported().map(|skipped| format!("{:?} was left out: {}", skipped.name, skipped.reason));
        left_out.chain(source.notes.iter().map(|note| printable(note))).for_each(|note| eprintln!("note: {note}"));
    }
    Ok(())
}

fn read(args: &Args) -> Result<Source> {
    let bar = super::progress(args.quiet, [args.file.as_path()]);
    let reader = Reader { buckets: BUCKETS, format: &args.csv, bar: &bar };
    let source = match &args.like {
        Some(reference) => reader.like(&args.file, reader.kinds(reference)?),
        None => reader.reference(&args.file, &args.selection),
    };
    bar.finish_and_clear();
    source
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
    let missing = column.profile.missing_share().map(percent).unwrap_or_default();
    vec![printable(&column.name), column.profile.kind().to_string(), missing, different, values]
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
