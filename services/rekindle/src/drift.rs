//! `rekindle drift` and `rekindle profile`: has a table moved away from another? They need no platform.
//!
//! Files are streamed, so their size does not matter. All judgement is in `rekindle_statistics`; here are the files, the
//! choice of columns, and the telling.

mod comparison;
mod figures;
mod html;
mod importance;
mod json;
mod notes;
mod output_file;
mod prediction;
mod profile;
mod scores;
mod selection;
mod source;
mod summary;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget};
use rekindle_statistics::{
    cause,
    convention::Convention,
    drift::{ColumnDrift, Settings, Verdict},
    profile::Profile,
};

use self::{
    comparison::{Comparison, Source, Weighting},
    importance::Importance,
    output_file::OutputFile,
    selection::Selection,
    source::Reader,
};
use crate::client::{exit, output};

/// The commands that need files alone.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Compare two files: which columns have drifted, by how much, and whether it can be told
    Drift(Args),
    /// Sum a file up, to compare others with it later
    Profile(profile::Args),
}

/// Carries a command out.
pub(crate) fn run(command: &Command, format: output::Format) -> Result<ExitCode> {
    match command {
        Command::Drift(args) => drift(args, format),
        Command::Profile(args) => profile::run(args, format).map(|()| ExitCode::SUCCESS),
    }
}

/// What `rekindle drift` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// What the data are held against: Parquet, CSV, or a profile that `rekindle profile` made of one
    reference: PathBuf,
    /// The data: Parquet, CSV, or a profile
    current: PathBuf,
    /// Also write a report for the browser, in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// End with code 3 if the verdict is drifted, else with 0
    #[arg(long)]
    fail_on_drift: bool,
    /// End with code 3 if the verdict is unknown, as it is of a file without rows
    #[arg(long)]
    fail_on_unknown: bool,
    /// Whose binning and normalisation the statistics in the JSON and on the page follow; the verdict is always rekindle's
    #[arg(long, value_enum, default_value_t, value_name = "WHOSE")]
    convention: Whose,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    csv: source::CsvFormat,
    #[command(flatten)]
    verdict: VerdictArgs,
    /// What columns count for when the shift is shared out among them: NAME=WEIGHT,.. or a file, either a JSON object
    /// of numbers or CSV of name and weight; those not named count 0
    #[arg(long, value_name = "FILE|NAME=WEIGHT,..")]
    importance: Option<Importance>,
    /// Share the shift out by how far each column's alone moves the mean of this column of the reference, a model's
    /// prediction; the reference is read a second time
    #[arg(long, value_name = "COL", conflicts_with = "importance")]
    prediction: Option<String>,
    /// No progress bar and no notes
    #[arg(long, short)]
    quiet: bool,
}

const AFTER_HELP: &str = "\
Drifted means that a difference is real, given the budget for false alarms, and that it matters, being above the margin. \
Stable is only said where a shift that matters would have been seen; else it is unknown.";

#[derive(Debug, clap::Args)]
struct VerdictArgs {
    /// The least population stability index that matters, over what chance makes it
    #[arg(long, value_name = "PSI", default_value_t = Settings::default().margin, value_parser = positive)]
    margin: f64,
    /// The chance of any false alarm, over all columns and looks together
    #[arg(long, value_name = "SHARE", default_value_t = Settings::default().false_alarms, value_parser = share)]
    false_alarms: f64,
    /// How many windows are compared with this reference before the budget is used up
    #[arg(long, value_name = "N", default_value_t = Settings::default().looks, value_parser = clap::value_parser!(u32).range(1..))]
    looks: u32,
}

impl VerdictArgs {
    fn settings(&self) -> Settings {
        Settings { margin: self.margin, false_alarms: self.false_alarms, looks: self.looks }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Whose {
    /// Evidently 0.7 under pandas
    Evidently,
    /// The plain functions of scipy
    Scipy,
    /// Those that the verdict rests on
    #[default]
    Rekindle,
}

impl From<Whose> for Convention {
    fn from(whose: Whose) -> Self {
        match whose {
            Whose::Evidently => Self::Evidently,
            Whose::Scipy => Self::Scipy,
            Whose::Rekindle => Self::Rekindle,
        }
    }
}

/// Compares two sources, tells what was found, and chooses the exit code.
fn drift(args: &Args, format: output::Format) -> Result<ExitCode> {
    let inputs = [args.reference.as_path(), &args.current];
    let page = args.html.as_ref().map(|path| OutputFile::prepare(path, inputs)).transpose()?;
    let comparison = compare(args)?;
    let told = match format {
        output::Format::Json => json::of(&comparison)?,
        output::Format::Table => table::of(&comparison),
    };
    output::print_all(&format!("{told}\n")).context("cannot print the result")?;
    if !args.quiet {
        comparison.notes.iter().for_each(|note| eprintln!("note: {}", table::printable(note)));
    }
    if let Some(page) = page {
        page.write(html::render(&comparison)?.as_bytes())?;
    }
    let fails = match comparison.report.verdict {
        Verdict::Drifted => args.fail_on_drift,
        Verdict::Unknown => args.fail_on_unknown,
        Verdict::Stable => false,
    };
    Ok(if fails { ExitCode::from(exit::SAID_NO) } else { ExitCode::SUCCESS })
}

fn compare(args: &Args) -> Result<Comparison> {
    let convention = Convention::from(args.convention);
    let again = args.prediction.is_some().then_some(args.reference.as_path());
    let bar = progress(args.quiet, [args.reference.as_path(), &args.current].into_iter().chain(again));
    let reader = Reader { buckets: scores::buckets(convention), format: &args.csv, bar: &bar };
    let (reference, current, new_columns) = read(args, reader)?;
    let mut notes: Vec<String> = reference.notes.iter().chain(&current.notes).cloned().collect();
    let (scored, of_scores) = scores::by(convention, &reference.profile, &current.profile);
    notes.extend(of_scores);
    let (reference, current) = match convention {
        Convention::Rekindle => (reference, current),
        _ => (of_usual_size(reference), of_usual_size(current)),
    };
    let settings = args.verdict.settings();
    let mut report = rekindle_statistics::drift::compare(&reference.profile, &current.profile, &settings)?;
    report.new_columns = new_columns;
    say_what_is_unsupported(&mut report.columns, &current);
    let weighting = share_out(args, &reference.profile, &mut report.columns, reader, &mut notes)?;
    bar.finish_and_clear();
    let scores = scored.unwrap_or_else(|| report.columns.iter().map(scores::of_verdict).collect());
    Ok(Comparison { reference, current, report, settings, convention, scores, weighting, notes })
}

/// A column that is there, but in a type that is not read, is not the same as one that is gone.
fn say_what_is_unsupported(columns: &mut [ColumnDrift], current: &Source) {
    for skipped in current.unsupported() {
        let column = columns.iter_mut().find(|column| column.name == skipped.name);
        column.into_iter().for_each(|column| column.reason = skipped.reason.to_string());
    }
}

/// Both sources, and the names of the columns that only the data have.
fn read(args: &Args, reader: Reader<'_>) -> Result<(Source, Source, Vec<String>)> {
    let reference = reader.reference(&args.reference, &args.selection)?;
    let (current, mut new) = reader.current(&args.current, &reference.profile)?;
    new.retain(|name| reference.skipped.iter().all(|skipped| skipped.name != *name));
    args.selection.check_ignored(&reference, &new)?;
    Ok((reference, current, args.selection.of_new(new)))
}

/// Shares the shift out among the columns as the arguments say.
fn share_out(
    args: &Args,
    reference: &Profile,
    columns: &mut [ColumnDrift],
    reader: Reader<'_>,
    notes: &mut Vec<String>,
) -> Result<Weighting> {
    if let Some(importance) = &args.importance {
        let weights = importance.weights(reference)?;
        cause::share_out(columns, |name| weights.get(name).copied().unwrap_or(0.0));
        return Ok(Weighting::Importance);
    }
    let Some(prediction) = &args.prediction else { return Ok(Weighting::Effect) };
    notes.extend(prediction::share_out(columns, prediction, &args.reference, reader, source::kinds(reference))?);
    Ok(Weighting::Prediction)
}

/// A verdict does not depend on the convention that the statistics beside it follow, nor on the room that takes.
fn of_usual_size(source: Source) -> Source {
    Source { profile: scores::of_usual_size(source.profile), ..source }
}

/// A bar over the bytes of files, of those that have a size.
fn progress<'a>(quiet: bool, paths: impl IntoIterator<Item = &'a Path>) -> ProgressBar {
    let bytes = paths.into_iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum();
    let bar = output::bar(bytes, "{msg} [{bar:30}] {bytes} of {total_bytes}, {eta} left");
    if quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

fn positive(text: &str) -> Result<f64> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => bail!("give a number above 0"),
    }
}

fn share(text: &str) -> Result<f64> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value < 1.0 => Ok(value),
        _ => bail!("give a number between 0 and 1, neither included"),
    }
}
