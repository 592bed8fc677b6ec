//! How the values of files are read.

use rekindle_domain::{
    dataset::{EpochUnit, ReadOptions, SourceColumns, TimeFormat, parse_separator},
    validation::{Checks, Violations},
};
use rekindle_proto::registry as wire;

use super::field::enumeration;

/// Options as a message; `None` if they are the defaults.
pub fn to_wire(options: &ReadOptions) -> Option<wire::ReadOptions> {
    let defaults = ReadOptions::default();
    let format = |(name, &format): (&String, &TimeFormat)| (name.clone(), format_to_wire(format).into());
    (*options != defaults).then(|| wire::ReadOptions {
        separator: if options.separator == defaults.separator {
            String::new()
        } else {
            char::from(options.separator).to_string()
        },
        missing: options.missing.iter().cloned().collect(),
        time_format: format_to_wire(options.time_format).into(),
        time_formats: options.time_formats.iter().map(format).collect(),
    })
}

/// The options of a message; unset ones have their defaults.
pub fn from_wire(given: Option<wire::ReadOptions>) -> Result<ReadOptions, Violations> {
    let Some(given) = given else { return Ok(ReadOptions::default()) };
    let defaults = ReadOptions::default();
    let mut checks = Checks::new();
    let separator = match given.separator.as_str() {
        "" => defaults.separator,
        text => checks.parsed("reading.separator", parse_separator(text)).unwrap_or(defaults.separator),
    };
    let time_format = match given.time_format {
        0 => defaults.time_format,
        format => checks.taken_here(format_from_wire("reading.time_format", format)).unwrap_or_default(),
    };
    if let TimeFormat::Epoch(_) = time_format {
        checks.violation("reading.time_format", "is an epoch: name its columns in time_formats");
    }
    let time_formats = given.time_formats.into_iter().filter_map(|(name, format)| {
        let field = format!("reading.time_formats[{name}]");
        checks.taken_here(format_from_wire(&field, format)).map(|format| (name, format))
    });
    let time_formats = time_formats.collect();
    checks.finish()?;
    Ok(ReadOptions { separator, missing: given.missing.into_iter().collect(), time_format, time_formats })
}

fn format_to_wire(format: TimeFormat) -> wire::TimeFormat {
    match format {
        TimeFormat::Iso => wire::TimeFormat::Iso,
        TimeFormat::DayFirst => wire::TimeFormat::DayFirst,
        TimeFormat::MonthFirst => wire::TimeFormat::MonthFirst,
        TimeFormat::Epoch(EpochUnit::Seconds) => wire::TimeFormat::EpochSeconds,
        TimeFormat::Epoch(EpochUnit::Millis) => wire::TimeFormat::EpochMillis,
        TimeFormat::Epoch(EpochUnit::Micros) => wire::TimeFormat::EpochMicros,
        TimeFormat::Epoch(EpochUnit::Nanos) => wire::TimeFormat::EpochNanos,
    }
}

fn format_from_wire(field: &str, given: i32) -> Result<TimeFormat, Violations> {
    let of = |format| TimeFormat::ALL.into_iter().find(|&own| format_to_wire(own) == format);
    enumeration(
        field,
        given,
        "TIME_FORMAT_ISO, TIME_FORMAT_DAY_FIRST, TIME_FORMAT_MONTH_FIRST, TIME_FORMAT_EPOCH_..",
        of,
    )
}

/// Which columns are kept, as its number.
pub fn columns_to_wire(columns: SourceColumns) -> i32 {
    match columns {
        // The default is not written, so that a request is the same as before there was a choice.
        SourceColumns::Any => wire::SourceColumns::Unspecified.into(),
        SourceColumns::Common => wire::SourceColumns::Common.into(),
    }
}

/// Which columns are kept.
pub fn columns_from_wire(given: i32) -> Result<SourceColumns, Violations> {
    enumeration("columns", given, "SOURCE_COLUMNS_ANY, SOURCE_COLUMNS_COMMON", |columns| match columns {
        wire::SourceColumns::Unspecified | wire::SourceColumns::Any => Some(SourceColumns::Any),
        wire::SourceColumns::Common => Some(SourceColumns::Common),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_and_defaults_are_not_sent() {
        assert_eq!(to_wire(&ReadOptions::default()), None);
        assert_eq!(from_wire(None), Ok(ReadOptions::default()));
        for separator in [b';', b'\t', b','] {
            let options = ReadOptions {
                separator,
                missing: ["NA", "-999"].map(str::to_owned).into(),
                time_format: TimeFormat::DayFirst,
                time_formats: TimeFormat::ALL.map(|format| (format!("in {format}"), format)).into(),
            };
            assert_eq!(from_wire(to_wire(&options)), Ok(options));
        }
    }

    #[test]
    fn each_violation_is_named() {
        let given = wire::ReadOptions {
            separator: "ab".into(),
            missing: Vec::new(),
            time_format: wire::TimeFormat::EpochMillis.into(),
            time_formats: [("at".to_owned(), 99)].into(),
        };
        let fields: Vec<_> = from_wire(Some(given)).expect_err("three").into_iter().map(|v| v.field).collect();
        assert_eq!(fields, ["reading.separator", "reading.time_format", "reading.time_formats[at]"]);
    }
}
