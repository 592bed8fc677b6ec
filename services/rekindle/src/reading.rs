//! How data files are read: the options that every command with a data file has, and the notes on what is read.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, bail};
use rekindle_dataset::{Error, Note};
use rekindle_domain::dataset::{ReadOptions, TimeFormat, parse_separator};
use rekindle_drift_report::printable;

/// The options of reading.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ReadArgs {
    /// Field delimiter of CSV files, e.g. ';', or the word tab
    #[arg(long, value_name = "CHAR", default_value = ",", value_parser = parse_separator)]
    separator: u8,
    /// Texts that stand for a missing value, in addition to the empty field, e.g. NA,null; a number such as -999 or inf stands for
    /// the number, in Parquet files too
    #[arg(long, value_name = "TEXT,..", value_delimiter = ',', allow_hyphen_values = true)]
    missing: Vec<String>,
    /// How times are written: day-first, month-first, epoch-s, epoch-ms, epoch-us or epoch-ns, of one column or without COL of all; an
    /// epoch without COL is that of --time
    #[arg(long, value_name = "[COL=]FORMAT,..", value_delimiter = ',', value_parser = time_format)]
    time_format: Vec<(Option<String>, TimeFormat)>,
}

impl ReadArgs {
    /// The options, where `time` is the column that orders the rows.
    ///
    /// # Errors
    /// An epoch format of no column, or two formats for one.
    pub(crate) fn options(&self, time: Option<&str>) -> Result<ReadOptions> {
        let (mut general, mut time_formats) = (None, BTreeMap::new());
        for (column, format) in &self.time_format {
            let earlier = match (column.as_deref(), format) {
                (Some(column), &format) => time_formats.insert(column.to_owned(), format),
                (None, &format @ TimeFormat::Epoch(_)) => match time {
                    Some(time) => time_formats.insert(time.to_owned(), format),
                    None => bail!("--time-format {format}: name the column, as in --time-format COL={format}"),
                },
                (None, &format) => general.replace(format),
            };
            if let Some(earlier) = earlier {
                bail!("--time-format: {earlier} and {format} are given for the same columns; choose one");
            }
        }
        let missing = self.missing.iter().cloned().collect();
        Ok(ReadOptions { separator: self.separator, missing, time_format: general.unwrap_or_default(), time_formats })
    }
}

fn time_format(text: &str) -> Result<(Option<String>, TimeFormat), String> {
    match text.rsplit_once('=') {
        Some(("", _)) => Err("the column before '=' is empty".to_owned()),
        Some((column, format)) => Ok((Some(column.to_owned()), format.parse()?)),
        None => Ok((None, text.parse()?)),
    }
}

/// Names the file that could not be read, and the option that may help.
pub(crate) fn failed(path: &Path, error: Error) -> anyhow::Error {
    let option = match error {
        Error::Separator { .. } => ": --separator",
        Error::Time { .. } | Error::Epoch { .. } => ": --time-format",
        Error::Infinite { .. } => ": --missing",
        _ => "",
    };
    anyhow::Error::new(error).context(format!("{}{option}", path.display()))
}

/// Prints notes on a file to standard error.
pub(crate) fn print_notes(path: &Path, notes: &[Note]) {
    for note in notes {
        eprintln!("note: {}: {}", path.display(), printable(&note.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use rekindle_domain::dataset::EpochUnit;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        reading: ReadArgs,
    }

    fn options(arguments: &[&str], time: Option<&str>) -> Result<ReadOptions> {
        Line::try_parse_from(std::iter::once(&"test").chain(arguments))?.reading.options(time)
    }

    #[test]
    fn options_are_parsed() {
        assert_eq!(options(&[], None).unwrap(), ReadOptions::default());
        let found =
            options(&["--separator", "tab", "--missing", "-999,NA", "--time-format", "day-first,a=b=epoch-s"], None);
        let expected = ReadOptions {
            separator: b'\t',
            missing: ["-999", "NA"].map(str::to_owned).into(),
            time_format: TimeFormat::DayFirst,
            time_formats: [("a=b".to_owned(), TimeFormat::Epoch(EpochUnit::Seconds))].into(),
        };
        assert_eq!(found.unwrap(), expected);
        let of_time = options(&["--time-format", "epoch-ms"], Some("at")).unwrap().time_formats;
        assert_eq!(of_time, [("at".to_owned(), TimeFormat::Epoch(EpochUnit::Millis))].into());
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        for (arguments, time, words) in [
            (&["--time-format", "epoch-ms"][..], None, "name the column"),
            (&["--time-format", "day-first,month-first"], None, "choose one"),
            (&["--time-format", "epoch-ms,at=epoch-s"], Some("at"), "choose one"),
            (&["--time-format", "dmy"], None, "expected one of"),
            (&["--separator", "ab"], None, "one ASCII character"),
        ] {
            let message = options(arguments, time).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
