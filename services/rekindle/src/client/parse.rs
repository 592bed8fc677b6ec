//! Values of the command line.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use rekindle_proto::registry::ColumnKind;

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
    let kind = match kind.as_str() {
        "numeric" => ColumnKind::Numeric,
        "categorical" => ColumnKind::Categorical,
        "timestamp" => ColumnKind::Timestamp,
        "boolean" => ColumnKind::Boolean,
        other => return Err(format!("{other:?} is no kind: use numeric, categorical, timestamp or boolean")),
    };
    Ok((column, kind))
}

/// `NAME=VALUE`; the value may be empty and may hold further `=`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() {
        return Err("the name before '=' is empty".into());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// A share of something: a number from 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("expected a number from 0 to 1".into()) }
}

/// A number above zero.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().map_err(|error| error.to_string())?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("expected a number above 0".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_may_be_short() {
        for text in ["2013-05-01", "2013-05-01T00:00:00Z", "2013-05-01 00:00:00", "2013-05-01T02:00:00+02:00"] {
            assert_eq!(time(text).expect(text).timestamp(), 1_367_366_400, "{text}");
        }
        assert!(time("May").is_err());
    }

    #[test]
    fn pairs_are_split_at_the_first_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("=b").is_err() && pair("a").is_err());
        assert!(kind("a=number").is_err());
    }

    #[test]
    fn numbers_have_bounds() {
        assert!(share("1.1").is_err() && share("0.25").is_ok());
        assert!(positive("0").is_err() && positive("NaN").is_err() && positive("5").is_ok());
    }
}
