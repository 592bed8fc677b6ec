//! Parsers of command-line values.

use std::{str::FromStr, time::Duration};

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use rekindle_domain::{AliasName, ColumnKind, model_version::VersionSelector};

/// A time: RFC 3339, or `YYYY-MM-DD` with an optional `HH:MM:SS` in UTC.
pub(crate) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let seconds = NaiveDateTime::parse_from_str(&text.replace('T', " "), "%Y-%m-%d %H:%M:%S").ok();
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
    let time = seconds.or_else(day).ok_or("expected e.g. 2013-05-01 or 2013-05-01T06:00:00Z")?;
    Ok(time.and_utc())
}

/// `COL=KIND`.
pub(crate) fn kind(text: &str) -> Result<(String, ColumnKind), String> {
    let (column, kind) = pair(text)?;
    let found = ColumnKind::ALL.into_iter().find(|known| known.name() == kind);
    match found {
        Some(kind) => Ok((column, kind)),
        None => Err(format!("unknown kind {kind:?}: expected numeric, categorical, timestamp or boolean")),
    }
}

/// A version of a model: its number, or an alias.
pub(crate) fn version(text: &str) -> Result<VersionSelector, String> {
    match text.parse() {
        Ok(0) => Err("versions are numbered from 1".to_owned()),
        Ok(number) => Ok(VersionSelector::Number(number)),
        Err(_) => text.parse::<AliasName>().map(VersionSelector::Alias).map_err(|error| error.to_string()),
    }
}

/// `NAME=VALUE`; the value may be empty and may contain further `=`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() {
        return Err("the name before '=' is empty".into());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// A whole number of at least 0.
pub(crate) fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number of at least 0".to_owned())
}

/// A whole number of at least 1.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "expected a whole number of at least 1".to_owned())
}

/// A number.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "expected a number, e.g. 0.05".to_owned())
}

/// A duration.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("expected a duration, e.g. 30m, 12h or 7d: {error}"))
}

/// A number greater than zero.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    let number = number(text)?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("expected a number greater than 0".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_without_an_offset_are_utc() {
        for text in ["2013-05-01", "2013-05-01T00:00:00Z", "2013-05-01 00:00:00", "2013-05-01T02:00:00+02:00"] {
            assert_eq!(time(text).expect(text).timestamp(), 1_367_366_400, "{text}");
        }
        assert!(time("May").is_err());
    }

    #[test]
    fn pairs_are_split_at_the_first_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("=b").is_err() && pair("a").is_err());
        assert!(kind("a=number").is_err() && kind("a=numeric").is_ok());
    }

    #[test]
    fn a_version_is_a_number_or_an_alias() {
        assert_eq!(version("3"), Ok(VersionSelector::Number(3)));
        assert!(matches!(version("champion"), Ok(VersionSelector::Alias(_))));
        assert!(version("0").is_err() && version("Not A Name").is_err());
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(whole("7"), Ok(7_u32));
        for text in ["", "x", "-1", "1.5", "5000000000"] {
            assert_eq!(whole::<u32>(text), Err("expected a whole number of at least 0".to_owned()), "{text}");
        }
        assert_eq!((count("1"), count("0").is_err(), count("-1").is_err()), (Ok(1), true, true));
        assert_eq!(span("7d").map(|span| span.as_secs()), Ok(604_800));
        assert!(span("soon").is_err_and(|problem| problem.starts_with("expected a duration, e.g. 30m")));
        assert!(positive("0").is_err() && positive("NaN").is_err() && positive("5").is_ok());
    }
}
