//! What a command prints: tables for people, or the messages themselves as proto3 JSON for programs.

use std::io::{IsTerminal as _, Write as _};

use chrono::{DateTime, Utc};
use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use indicatif::{ProgressBar, ProgressStyle};
use prost_types::Timestamp;
use rekindle_proto::{json, time::from_wire};
use serde_json::Value;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Table,
    Json,
}

impl Format {
    /// Prints one message: its JSON, or the fields that `show` picks.
    pub(crate) fn message<M: json::Named>(self, message: &M, show: impl FnOnce(&M) -> Fields) {
        match self {
            Self::Json => print_json(&json::to_value(message)),
            Self::Table => print_fields(&show(message)),
        }
    }

    /// Prints messages: a JSON array, or a table with a line for each.
    pub(crate) fn list<M: json::Named>(self, messages: &[M], header: &[&str], line: impl Fn(&M) -> Vec<String>) {
        match self {
            Self::Json => print_json(&Value::Array(messages.iter().map(json::to_value).collect())),
            Self::Table => print_table(header, messages.iter().map(line)),
        }
    }

    /// Prints one message of a stream: its JSON on one line, or a line of text.
    pub(crate) fn line<M: json::Named>(self, message: &M, text: impl FnOnce(&M) -> String) {
        match self {
            Self::Json => emit(&json::to_value(message).to_string()),
            Self::Table => emit(&text(message)),
        }
    }

    /// Prints a result that is no message.
    pub(crate) fn value(self, value: &Value, show: impl FnOnce() -> Fields) {
        match self {
            Self::Json => print_json(value),
            Self::Table => print_fields(&show()),
        }
    }
}

/// Prints lines, and does not mind a reader who has seen enough: what the program ends with is for its caller, not for the reader.
///
/// # Errors
/// Nothing can be printed, but not because the reader has gone.
pub(crate) fn print_all(lines: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Prints a line. A reader who has seen enough (`| head`) ends the program without a word, as other tools do.
pub(crate) fn emit(line: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        std::process::exit(i32::from(error.kind() != std::io::ErrorKind::BrokenPipe));
    }
}

/// Names and values of one thing.
pub(crate) type Fields = Vec<(&'static str, String)>;

pub(crate) fn print_json(value: &Value) {
    emit(&format!("{value:#}"));
}

/// Prints names and values, leaving out what has none.
pub(crate) fn print_fields(fields: &Fields) {
    let filled = fields.iter().filter(|(_, value)| !value.is_empty());
    print_rows(filled.map(|(name, value)| vec![format!("{name}:"), value.clone()]), None);
}

/// Prints a table without a header.
pub(crate) fn print_lines(lines: Vec<Vec<String>>) {
    print_rows(lines, None);
}

/// Prints a table with a header.
pub(crate) fn print_table(header: &[&str], lines: impl IntoIterator<Item = Vec<String>>) {
    table(header, lines).iter().for_each(|line| emit(line));
}

fn print_rows(lines: impl IntoIterator<Item = Vec<String>>, header: Option<Vec<String>>) {
    rows(lines, header).iter().for_each(|line| emit(line));
}

/// The lines of a table with a header.
pub(crate) fn table(header: &[&str], lines: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    rows(lines, Some(header.iter().map(|name| name.to_uppercase()).collect()))
}

fn rows(lines: impl IntoIterator<Item = Vec<String>>, header: Option<Vec<String>>) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(header) = header {
        table.set_header(header);
    }
    for line in lines {
        table.add_row(line);
    }
    // The table pads every line to its width, which only gets in the way of those who copy it.
    table.to_string().lines().map(|line| line.trim_end().to_owned()).collect()
}

/// A time to the second, in UTC; empty where there is none.
pub(crate) fn when(time: Option<Timestamp>) -> String {
    time.and_then(from_wire).map(|time| moment(&time)).unwrap_or_default()
}

/// A time to the second, in UTC.
pub(crate) fn moment(time: &DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A wire enum's name without its prefix, in lower case: `RUN_STATUS_LOST` is `lost`.
pub(crate) fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

/// The beginning of a digest, enough to tell it from others.
pub(crate) fn short(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}

/// A number for people: four decimals, or as many digits as a very small or large one needs.
pub(crate) fn number(value: f64) -> String {
    let plain = value == 0.0 || (1e-3..1e9).contains(&value.abs());
    if plain { format!("{value:.4}") } else { format!("{value:.3e}") }
}

/// A version number, or nothing for 0.
pub(crate) fn version(version: u32) -> String {
    if version == 0 { String::new() } else { version.to_string() }
}

/// Names and numbers on one line, by name.
pub(crate) fn numbers<'a>(numbers: impl IntoIterator<Item = (&'a String, &'a f64)>) -> String {
    let mut told: Vec<String> = numbers.into_iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
    told.sort();
    told.join(", ")
}

/// The metrics that lists have room for: those of the best epoch, and of them what models are compared by.
pub(crate) fn main_numbers<'a>(numbers: impl IntoIterator<Item = (&'a String, &'a f64)>) -> String {
    const MAIN: [&str; 5] = ["log_loss", "auc", "mae", "rmse", "r2"];
    let mut told = std::collections::BTreeMap::new();
    for (name, value) in numbers {
        let (plain, best) = name.strip_prefix("best.").map_or((name.as_str(), false), |plain| (plain, true));
        if MAIN.contains(&plain) && (best || !told.contains_key(plain)) {
            told.insert(plain, *value);
        }
    }
    told.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect::<Vec<_>>().join(", ")
}

/// A bar on standard error, hidden where that is no terminal.
pub(crate) fn bar(total: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    // A template is ours and constant; a wrong one costs its looks, not the command.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_readable() {
        for (value, text) in [(0.0, "0.0000"), (0.51234, "0.5123"), (-12.0, "-12.0000"), (1e-9, "1.000e-9")] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn lists_show_the_best_of_the_main_metrics() {
        let metrics = [
            ("auc", 0.6),
            ("best.auc", 0.7),
            ("best.train_loss", 0.1),
            ("mae", 2.0),
            ("best.log_loss", 0.5),
            ("log_loss", 0.9),
        ];
        let metrics: Vec<(String, f64)> = metrics.map(|(name, value)| (name.to_owned(), value)).into();
        let told = main_numbers(metrics.iter().map(|(name, value)| (name, value)));
        assert_eq!(told, "auc 0.7000, log_loss 0.5000, mae 2.0000");
    }

    #[test]
    fn enums_lose_their_prefix() {
        assert_eq!(word("RUN_STATUS_LOST", "RUN_STATUS_"), "lost");
    }
}
