//! `rekindle drift` and `rekindle profile`: compare data files and profile them. Neither needs the platform.
//!
//! Files are streamed, so memory does not depend on their size. Verdicts come from `rekindle_statistics`, reports from
//! `rekindle_drift_report`; this module has the arguments, the files, the progress bar and the exit codes.

mod blocks;
mod importance;
mod notes;
mod output_file;
mod profile;
mod selection;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use comfy_table::Table;
use indicatif::{ProgressBar, ProgressDrawTarget};
use rekindle_domain::ColumnKind;
use rekindle_drift_report::{DataSource, DriftReport, Options, PredictionScan, printable, profile_buckets};
use rekindle_statistics::{
    convention::Convention,
    drift::{Settings, Verdict},
};

use self::{blocks::BlockArgs, importance::Importance, output_file::OutputFile, selection::Selection, source::Reader};
use crate::{
    client::{exit, output},
    reading::ReadArgs,
};

/// The commands that work on files, without the platform.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Detect data drift between two files: the columns that drifted, by how much, and why
    Drift(Args),
    /// Profile a file, to compare other files with it later
    Profile(profile::Args),
}

/// Runs a command.
pub(crate) fn run(command: &Command, format: output::Format) -> Result<ExitCode> {
    match command {
        Command::Drift(args) => drift(args, format),
        Command::Profile(args) => profile::run(args, format).map(|()| ExitCode::SUCCESS),
    }
}

/// The arguments of `rekindle drift`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Reference data: Parquet, CSV, or a profile made by `rekindle profile`
    reference: PathBuf,
    /// Current data: Parquet, CSV, or a profile
    current: PathBuf,
    /// Also write the report as a self-contained HTML file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Exit with code 3 if the verdict is drifted
    #[arg(long)]
    fail_on_drift: bool,
    /// Exit with code 3 if the verdict is inconclusive, for example because a file has no rows
    #[arg(long, alias = "fail-on-unknown")]
    fail_on_inconclusive: bool,
    /// Compute the statistics in JSON and HTML with the binning and normalisation of this tool; the verdict does not change
    #[arg(long, value_enum, default_value_t, value_name = "TOOL")]
    convention: Tool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    reading: ReadArgs,
    #[command(flatten)]
    verdict: VerdictArgs,
    #[command(flatten)]
    blocks: BlockArgs,
    /// Feature importances for attributing the shift to columns: NAME=WEIGHT,.. or a file (a JSON object of numbers, or CSV
    /// with the columns name and weight); a column without an entry has importance 0
    #[arg(long, value_name = "FILE|NAME=WEIGHT,..")]
    importance: Option<Importance>,
    /// Column of the reference data that holds the predictions of a model; attributes the shift by how far each column alone
    /// moves the mean prediction, and reads the reference data twice
    #[arg(long, value_name = "COL", conflicts_with = "importance")]
    prediction: Option<String>,
    /// Column that a model predicts; it is compared, but is not counted as a cause of the shift
    #[arg(long, value_name = "COL")]
    target: Option<String>,
    /// Print no progress bar and no notes
    #[arg(long, short)]
    quiet: bool,
}

const AFTER_HELP: &str = "\
Drifted: the difference is significant, given the false-alarm rate, and above the margin. \
Stable: it is not, and the rows are enough to detect a shift above the margin. Inconclusive: neither. \
With --time, a difference is drift only if it is also more than the periods of the reference differ from each other.";

#[derive(Debug, clap::Args)]
struct VerdictArgs {
    /// Minimum effect that counts as drift; the effect is the population stability index minus its expected value without drift
    #[arg(long, value_name = "PSI", default_value_t = Settings::default().margin, value_parser = positive)]
    margin: f64,
    /// Probability of any false alarm, over all columns and windows together
    #[arg(long, value_name = "SHARE", default_value_t = Settings::default().false_alarms, value_parser = share)]
    false_alarms: f64,
    /// Number of windows that are compared with this reference and share the false-alarm probability
    #[arg(long, value_name = "N", default_value_t = Settings::default().looks, value_parser = clap::value_parser!(u32).range(1..))]
    looks: u32,
}

impl VerdictArgs {
    fn settings(&self) -> Settings {
        Settings { margin: self.margin, false_alarms: self.false_alarms, looks: self.looks }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Tool {
    /// Evidently 0.7 under pandas
    Evidently,
    /// scipy's functions with their defaults
    Scipy,
    /// The statistics that the verdict is based on
    #[default]
    Rekindle,
}

impl From<Tool> for Convention {
    fn from(tool: Tool) -> Self {
        match tool {
            Tool::Evidently => Self::Evidently,
            Tool::Scipy => Self::Scipy,
            Tool::Rekindle => Self::Rekindle,
        }
    }
}

/// Compares two sources, prints and writes the report, and chooses the exit code.
fn drift(args: &Args, format: output::Format) -> Result<ExitCode> {
    let inputs = [args.reference.as_path(), &args.current];
    let page = args.html.as_ref().map(|path| OutputFile::prepare(path, inputs)).transpose()?;
    let report = compare(args)?;
    let text = match format {
        output::Format::Json => report.to_json()?,
        output::Format::Table => report.to_table(terminal_width()),
    };
    output::print_all(&format!("{text}\n")).context("cannot print the report")?;
    if !args.quiet {
        report.notes().iter().for_each(|note| eprintln!("note: {}", printable(note)));
    }
    if let Some(page) = page {
        page.write(report.to_html()?.as_bytes())?;
    }
    let fails = match report.verdict() {
        Verdict::Drifted => args.fail_on_drift,
        Verdict::Inconclusive => args.fail_on_inconclusive,
        Verdict::Stable => false,
    };
    Ok(if fails { ExitCode::from(exit::NEGATIVE) } else { ExitCode::SUCCESS })
}

fn compare(args: &Args) -> Result<DriftReport> {
    let convention = Convention::from(args.convention);
    let passes = [true, args.prediction.is_some(), args.blocks.is_given()].into_iter().filter(|is_read| *is_read);
    let bar = progress(args.quiet, passes.map(|_| args.reference.as_path()).chain([args.current.as_path()]));
    let reading = args.reading.options(None)?;
    let reader = Reader { buckets: profile_buckets(convention), reading: &reading, bar: &bar };
    let (reference, current) = read(args, reader)?;
    let mut kinds = source::kinds(&reference.profile);
    let options = Options { settings: args.verdict.settings(), convention };
    let variations = args.blocks.variations(reader, &args.reference, &reference, &current.profile)?;
    let mut report = DriftReport::compare_in_blocks(reference, current, &variations, options)?;
    if let Some(target) = &args.target {
        report.set_target(target).context("--target")?;
    }
    if let Some(importance) = &args.importance {
        report.attribute_by_importance(importance.by_column()).context("--importance")?;
    }
    if let Some(prediction) = &args.prediction {
        let own = kinds.get(prediction).copied().filter(|kind| *kind == ColumnKind::Boolean);
        kinds.insert(prediction.clone(), own.unwrap_or(ColumnKind::Numeric));
        let mut scan = PredictionScan::new(&report, prediction);
        reader.visit(&args.reference, kinds, |_, batch| scan.add(&batch.rows).context("--prediction"))?;
        let shifts = scan.finish().with_context(|| format!("--prediction: {}", args.reference.display()))?;
        report.attribute_by_prediction(shifts);
    }
    bar.finish_and_clear();
    Ok(report)
}

/// Reads both sources.
fn read(args: &Args, reader: Reader<'_>) -> Result<(DataSource, DataSource)> {
    let reference = reader.reference(&args.reference, &args.selection)?;
    let mut current = reader.current(&args.current, &reference.profile)?;
    args.selection.check_ignored(&reference, &current)?;
    args.selection.retain_new(&mut current);
    Ok((reference, current))
}

/// The width of the terminal, if standard output is one.
fn terminal_width() -> Option<u16> {
    Table::new().width()
}

/// A progress bar over the bytes of the files that have a size.
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
        _ => bail!("expected a number above 0"),
    }
}

fn share(text: &str) -> Result<f64> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value < 1.0 => Ok(value),
        _ => bail!("expected a number above 0 and below 1"),
    }
}
