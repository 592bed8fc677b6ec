//! The output of commands: tables for people, or JSON for programs. The JSON of a noun is that of its message, in proto3 JSON.

use std::io::{IsTerminal as _, Write as _};

use chrono::{DateTime, Utc};
use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use indicatif::{ProgressBar, ProgressStyle};
use rekindle_drift_report::printable;
use serde_json::Value;

/// The format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Table,
    Json,
}

impl Format {
    /// Prints one thing: its JSON, or its fields.
    pub(crate) fn one<T>(self, thing: &T, json: impl FnOnce(&T) -> Value, fields: impl FnOnce(&T) -> Fields) {
        match self {
            Self::Json => print_json(&json(thing)),
            Self::Table => print_fields(&fields(thing)),
        }
    }

    /// Prints a list: a JSON array, or a table with a line per item.
    pub(crate) fn list<T>(
        self,
        items: &[T],
        json: impl Fn(&T) -> Value,
        header: &[&str],
        line: impl Fn(&T) -> Vec<String>,
    ) {
        match self {
            Self::Json => print_json(&items.iter().map(json).collect()),
            Self::Table => print_table(header, items.iter().map(line)),
        }
    }

    /// Prints one thing of a stream on one line: its JSON, or text.
    pub(crate) fn line<T>(self, thing: &T, json: impl FnOnce(&T) -> Value, text: impl FnOnce(&T) -> String) {
        match self {
            Self::Json => emit_json(&json(thing)),
            Self::Table => emit(&text(thing)),
        }
    }
}

/// Prints lines. A reader that has closed the pipe is no error: the exit code is for the caller, not for the reader.
///
/// # Errors
/// Writing failed for another reason.
pub(crate) fn print_all(lines: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Text of several lines, with every other control character escaped: what is in the platform does not act on a terminal.
pub(crate) fn printable_lines(text: &str) -> String {
    text.split_inclusive(['\n', '\t'])
        .map(|part| match part.strip_suffix(['\n', '\t']) {
            Some(plain) => printable(plain) + &part[plain.len()..],
            None => printable(part),
        })
        .collect()
}

/// Prints a line, or several, with control characters escaped.
pub(crate) fn emit(line: &str) {
    emit_as_is(&printable_lines(line));
}

/// Prints JSON on one line.
pub(crate) fn emit_json(value: &Value) {
    emit_as_is(&value.to_string());
}

/// Prints a line. If the reader has closed the pipe (`| head`), the program exits silently, as other tools do.
fn emit_as_is(line: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        std::process::exit(i32::from(error.kind() != std::io::ErrorKind::BrokenPipe));
    }
}

/// Names and values of the fields of one thing.
pub(crate) type Fields = Vec<(&'static str, String)>;

pub(crate) fn print_json(value: &Value) {
    emit_as_is(&format!("{value:#}"));
}

/// Prints names and values; fields without a value are omitted.
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
    // A field may have several lines; a line of a list is one.
    let shown = if header.is_some() { printable } else { printable_lines };
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(header) = header {
        table.set_header(header);
    }
    for line in lines {
        table.add_row(line.iter().map(|cell| shown(cell)));
    }
    table.to_string().lines().map(|line| line.trim_end().to_owned()).collect()
}

/// A time to the second, in UTC; empty for `None`.
pub(crate) fn when(time: impl Into<Option<DateTime<Utc>>>) -> String {
    time.into().map(|time| time.format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}

/// A status in lower case: `ROLLING_OUT` becomes `rolling out`.
pub(crate) fn words(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', " ")
}

/// The first 12 digits of a digest, or the first 12 characters of another text.
pub(crate) fn short(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}

/// A value as text; empty for `None`.
pub(crate) fn optional(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A number for people: four decimals, or scientific notation for very small and very large ones.
pub(crate) fn number(value: f64) -> String {
    let plain = value == 0.0 || (1e-3..1e9).contains(&value.abs());
    if plain { format!("{value:.4}") } else { format!("{value:.3e}") }
}

/// Names and numbers on one line, by name.
pub(crate) fn numbers<'a>(numbers: impl IntoIterator<Item = (&'a String, &'a f64)>) -> String {
    let mut shown: Vec<String> =
        numbers.into_iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
    shown.sort();
    shown.join(", ")
}

/// The metrics shown in lists: those by which models are compared, of the best epoch where known.
pub(crate) fn main_numbers<'a>(numbers: impl IntoIterator<Item = (&'a String, &'a f64)>) -> String {
    const MAIN: [&str; 5] = ["log_loss", "auc", "mae", "rmse", "r2"];
    let mut main = std::collections::BTreeMap::new();
    for (name, value) in numbers {
        let (plain, best) = name.strip_prefix("best.").map_or((name.as_str(), false), |plain| (plain, true));
        if MAIN.contains(&plain) && (best || !main.contains_key(plain)) {
            main.insert(plain, *value);
        }
    }
    main.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect::<Vec<_>>().join(", ")
}

/// A progress bar on standard error, hidden unless that is a terminal.
pub(crate) fn bar(total: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
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
        let main = main_numbers(metrics.iter().map(|(name, value)| (name, value)));
        assert_eq!(main, "auc 0.7000, log_loss 0.5000, mae 2.0000");
    }

    #[test]
    fn control_characters_are_escaped_in_tables_and_texts() {
        let lines = table(&["name", "why"], [vec!["m\u{1b}[2J".to_owned(), "first\nsecond\r\t\u{9b}".to_owned()]]);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].contains(r"m\u{1b}[2J") && lines[1].contains(r"first\nsecond\r\t\u{9b}"), "{lines:?}");
        let fields = rows([vec!["why:".to_owned(), "first\nsecond\u{7}".to_owned()]], None);
        assert_eq!(fields.len(), 2, "{fields:?}");
        assert!(fields[1].contains(r"second\u{7}"), "{fields:?}");
        assert_eq!(printable_lines("a\tb\nc\u{1b}\n"), "a\tb\nc\\u{1b}\n");
    }

    #[test]
    fn statuses_are_words() {
        assert_eq!(words("ROLLING_OUT"), "rolling out");
    }
}
