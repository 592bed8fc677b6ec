//! `rekindle profile`: profiles a file, so that others can be compared with it without its rows.

use std::{io::IsTerminal as _, path::PathBuf};

use anyhow::{Context as _, Result};
use rekindle_drift_report::{DataSource, printable, profile_table};
use rekindle_statistics::profile::BUCKETS;

use super::{output_file::OutputFile, selection::Selection, source::Reader};
use crate::{
    client::output::{self, Format},
    reading::ReadArgs,
};

/// The arguments of `rekindle profile`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Parquet or CSV, or an existing profile to show
    file: PathBuf,
    /// File to write the profile to
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Use the columns and kinds of this file or profile, so that the new profile can be compared with it
    #[arg(long, value_name = "REFERENCE", conflicts_with_all = ["columns", "ignore", "categorical"])]
    like: Option<PathBuf>,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    reading: ReadArgs,
    /// Print no progress bar and no notes
    #[arg(long, short)]
    quiet: bool,
}

const AFTER_HELP: &str = "\
Without --output, prints a table to a terminal, and the profile as JSON to a pipe or with --json.";

/// Profiles a file, or shows a profile.
pub(crate) fn run(args: &Args, format: Format) -> Result<()> {
    let inputs = std::iter::once(&args.file).chain(&args.like).map(PathBuf::as_path);
    let output = args.output.as_ref().map(|path| OutputFile::prepare(path, inputs)).transpose()?;
    let source = read(args)?;
    // A profile of thousands of columns has some ten megabytes, so it is kept once.
    let mut json = source.profile.to_bytes();
    json.push(b'\n');
    let is_written = output.is_some();
    if let Some(output) = output {
        output.write(&json)?;
    }
    let text = match format {
        Format::Table if is_written || std::io::stdout().is_terminal() => {
            drop(json);
            format!("{}\n", profile_table(&source.profile, super::terminal_width()))
        }
        _ => String::from_utf8(json).context("the profile is not UTF-8")?,
    };
    output::print_all(&text).context("cannot print the profile")?;
    if !args.quiet {
        let skipped = source.unsupported().map(|column| format!("{:?} is skipped: {}", column.name, column.reason));
        skipped.chain(source.notes.iter().map(|note| printable(note))).for_each(|note| eprintln!("note: {note}"));
    }
    Ok(())
}

fn read(args: &Args) -> Result<DataSource> {
    let bar = super::progress(args.quiet, [args.file.as_path()]);
    let reading = args.reading.options(None)?;
    let reader = Reader { buckets: BUCKETS, reading: &reading, bar: &bar };
    let source = match &args.like {
        Some(reference) => reader.like(&args.file, reader.kinds(reference)?),
        None => reader.reference(&args.file, &args.selection),
    };
    bar.finish_and_clear();
    source
}
