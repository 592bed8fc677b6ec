//! Fields of messages: parsed, or a violation that names them.

use std::{fmt::Display, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use rekindle_domain::validation::{Checks, Violations};

use super::time;

/// A name, a digest or an id.
pub fn parse<T: FromStr<Err: Display>>(field: impl Into<String>, text: &str) -> Result<T, Violations> {
    text.parse().map_err(|error| Violations::of(field, error))
}

/// A name, a digest or an id; empty is none.
pub fn parse_optional<T: FromStr<Err: Display>>(field: impl Into<String>, text: &str) -> Result<Option<T>, Violations> {
    if text.is_empty() { Ok(None) } else { parse(field, text).map(Some) }
}

/// Names, digests or ids of a repeated field.
pub fn parse_all<T: FromStr<Err: Display>>(field: &str, texts: &[String]) -> Result<Vec<T>, Violations> {
    let mut checks = Checks::new();
    let items = texts.iter().enumerate();
    let parsed: Vec<T> =
        items.filter_map(|(index, text)| checks.parsed(&format!("{field}[{index}]"), text.parse())).collect();
    checks.finish().map(|()| parsed)
}

/// A message that must be set.
pub fn required<T>(field: &str, message: Option<T>) -> Result<T, Violations> {
    message.ok_or_else(|| Violations::of(field, "is missing"))
}

/// A time that may be unset.
pub fn optional_time(field: &str, given: Option<prost_types::Timestamp>) -> Result<Option<DateTime<Utc>>, Violations> {
    let out_of_range = || Violations::of(field, "timestamp out of range: expected the years 1 to 9999");
    given.map(|given| time::from_wire(given).ok_or_else(out_of_range)).transpose()
}

/// A time that must be set.
pub fn required_time(field: &str, given: Option<prost_types::Timestamp>) -> Result<DateTime<Utc>, Violations> {
    required(field, optional_time(field, given)?)
}

/// A span, or its default if unset.
pub fn span_or(field: &str, given: Option<prost_types::Duration>, default: Duration) -> Result<Duration, Violations> {
    let Some(given) = given else { return Ok(default) };
    let seconds = given.seconds;
    time::span_from_wire(given)
        .ok_or_else(|| Violations::of(field, format!("is {seconds} s: expected a span of at least 0")))
}

/// A span, if it is set.
pub fn optional_span(field: &str, given: Option<prost_types::Duration>) -> Result<Option<Duration>, Violations> {
    given.map(|given| span_or(field, Some(given), Duration::ZERO)).transpose()
}

/// The value of an enumeration, never its unspecified one. `expected` lists the names.
pub fn enumeration<W, T>(
    field: impl Into<String>,
    given: i32,
    expected: &str,
    of: impl FnOnce(W) -> Option<T>,
) -> Result<T, Violations>
where
    W: TryFrom<i32>,
{
    let value = W::try_from(given).ok().and_then(of);
    value.ok_or_else(|| Violations::of(field, format!("is {given}: expected one of {expected}")))
}

/// The messages of a repeated field, each converted; the violations name the index.
pub fn each<W, T>(
    field: &str,
    given: Vec<W>,
    convert: impl Fn(W) -> Result<T, Violations>,
) -> Result<Vec<T>, Violations> {
    let mut checks = Checks::new();
    let numbered = given.into_iter().enumerate();
    let items =
        numbered.filter_map(|(index, item)| checks.taken(&format!("{field}[{index}]"), convert(item))).collect();
    checks.finish().map(|()| items)
}

/// A message that must be set, converted; the violations lie within `field`.
pub fn nested<W, T>(
    field: &str,
    given: Option<W>,
    convert: impl FnOnce(W) -> Result<T, Violations>,
) -> Result<T, Violations> {
    convert(required(field, given)?).map_err(|violations| violations.within(field))
}

/// A message that may be unset, converted; the violations lie within `field`.
pub fn nested_optional<W, T>(
    field: &str,
    given: Option<W>,
    convert: impl FnOnce(W) -> Result<T, Violations>,
) -> Result<Option<T>, Violations> {
    given.map(convert).transpose().map_err(|violations| violations.within(field))
}
