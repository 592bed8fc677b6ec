//! The spellings of times.

use chrono::NaiveDate;
use rekindle_domain::{dataset::TimeFormat, event_time};

/// The spellings that are read without an option; for messages.
pub(crate) const SPELLINGS: &str = "2024-03-01, 2024/03/01, 2024-03-01 10:30 and 2024-03-01T10:30:00.250, the last two also with Z, UTC, +00, \
     +0000 or +00:00";

/// Milliseconds since 1970 of a time in ISO 8601 or close to it: a date `YYYY-MM-DD` or `YYYY/MM/DD`; then, after a space or `T`, a time
/// of day `HH:MM`, `HH:MM:SS` or with a fraction; then `Z`, `UTC`, `GMT` or an offset `+HH`, `+HHMM` or `+HH:MM`, also after a
/// space. UTC without an offset. Truncated to milliseconds, and in the years 1 to 9999.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    let text = text.as_bytes();
    // Most texts are not times.
    if text.len() < 10 || !text[0].is_ascii_digit() || !matches!(text[4], b'-' | b'/') {
        return None;
    }
    plain(text).or_else(|| spelled(text))
}

/// The most frequent spellings, `YYYY-MM-DD` and `YYYY-MM-DD HH:MM:SS`, also with `T`, at fixed places. `None` for all else.
fn plain(text: &[u8]) -> Option<i64> {
    let number = |at: usize| {
        let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
        (tens < 10 && ones < 10).then(|| u32::from(10 * tens + ones))
    };
    let time = match (text.len(), text.get(10)) {
        (10, _) => (0, 0, 0),
        (19, Some(b' ' | b'T')) if text[13] == b':' && text[16] == b':' => (number(11)?, number(14)?, number(17)?),
        _ => return None,
    };
    (text[4] == b'-' && text[7] == b'-').then_some(())?;
    let year = 100 * number(0)? + number(2)?;
    let date = NaiveDate::from_ymd_opt(year.cast_signed(), number(5)?, number(8)?)?;
    let millis = date.and_hms_opt(time.0, time.1, time.2)?.and_utc().timestamp_millis();
    (year > 0).then_some(millis)
}

/// Any other spelling of ISO 8601.
fn spelled(text: &[u8]) -> Option<i64> {
    let mut rest = Rest(text);
    let year = rest.number(4, 4)?;
    let separator = rest.any_of(b"-/")?;
    let month = rest.number(2, 2)?;
    rest.exactly(separator)?;
    let day = rest.number(2, 2)?;
    finish(midnight(year, month, day)?, rest, 2)
}

/// Milliseconds since 1970 of a time that is written as declared, or in ISO 8601.
pub(crate) fn parse_time(text: &str, format: TimeFormat) -> Option<i64> {
    let iso = parse_timestamp(text);
    if iso.is_some() {
        return iso;
    }
    match format {
        TimeFormat::Iso => None,
        TimeFormat::DayFirst => numeric_date(text.as_bytes(), |day, month| (day, month)),
        TimeFormat::MonthFirst => numeric_date(text.as_bytes(), |month, day| (day, month)),
        TimeFormat::Epoch(unit) => match text.parse::<i64>() {
            Ok(whole) => unit.millis(whole),
            Err(_) => unit.millis_of_float(super::parse_number(text)?),
        },
    }
}

/// What a format reads, beside ISO 8601; for messages.
pub(crate) fn expected(format: TimeFormat) -> &'static str {
    match format {
        TimeFormat::Iso => "it reads 2024-12-31, 2024-12-31 10:30 and the like",
        TimeFormat::DayFirst => "it reads 31/12/2024, 31.12.2024 10:30 and the like",
        TimeFormat::MonthFirst => "it reads 12/31/2024, 12/31/2024 10:30 PM and the like",
        TimeFormat::Epoch(_) => "it reads numbers in the years 1 to 9999",
    }
}

/// A date of numbers with the year last, and a time of day.
fn numeric_date(text: &[u8], order: fn(u32, u32) -> (u32, u32)) -> Option<i64> {
    let mut rest = Rest(text);
    let first = rest.number(1, 2)?;
    let separator = rest.any_of(b"/.-")?;
    let second = rest.number(1, 2)?;
    rest.exactly(separator)?;
    let year = rest.number(4, 4)?;
    let (day, month) = order(first, second);
    finish(midnight(year, month, day)?, rest, 1)
}

/// Milliseconds since 1970 at the start of a day.
fn midnight(year: u32, month: u32, day: u32) -> Option<i64> {
    let date = NaiveDate::from_ymd_opt(year.cast_signed(), month, day)?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

/// Adds the time of day and the offset, whose hours have `hour_digits` digits at least.
fn finish(midnight: i64, mut rest: Rest<'_>, hour_digits: usize) -> Option<i64> {
    let mut millis = midnight;
    if !rest.is_empty() {
        // A date with an offset and no time of day may be a number such as 2024-03-01-05.
        rest.any_of(b" Tt")?;
        millis += rest.time_of_day(hour_digits)?;
        millis -= rest.offset()?;
    }
    event_time::checked(millis).ok()
}

/// The text that has not been read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Between `least` and `most` digits.
    fn number(&mut self, least: usize, most: usize) -> Option<u32> {
        let digits = self.0.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.0.split_at_checked(digits).filter(|_| digits >= least)?;
        self.0 = rest;
        Some(number.iter().fold(0, |value, byte| 10 * value + u32::from(byte - b'0')))
    }

    fn any_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (&first, rest) = self.0.split_first().filter(|(first, _)| bytes.contains(first))?;
        self.0 = rest;
        Some(first)
    }

    fn exactly(&mut self, byte: u8) -> Option<u8> {
        self.any_of(&[byte])
    }

    fn word(&mut self, word: &[u8]) -> bool {
        let begins = self.0.get(..word.len()).is_some_and(|text| text.eq_ignore_ascii_case(word));
        if begins {
            self.0 = &self.0[word.len()..];
        }
        begins
    }

    /// Milliseconds since midnight. A leap second is the next minute's first.
    fn time_of_day(&mut self, hour_digits: usize) -> Option<i64> {
        let mut hour = self.number(hour_digits, 2)?;
        self.exactly(b':')?;
        let minute = self.number(2, 2)?;
        let (mut second, mut fraction) = (0, 0);
        if self.exactly(b':').is_some() {
            second = self.number(2, 2)?;
            if self.any_of(b".,").is_some() {
                fraction = self.fraction()?;
            }
        }
        // Month-first and day-first times are written with AM and PM.
        if hour_digits == 1 {
            let (is_morning, is_afternoon) = (self.word(b" am"), self.word(b" pm"));
            if is_morning || is_afternoon {
                (1..=12).contains(&hour).then_some(())?;
                hour = hour % 12 + if is_afternoon { 12 } else { 0 };
            }
        }
        (hour < 24 && minute < 60 && second <= 60).then_some(())?;
        Some(i64::from(hour * 3600 + minute * 60 + second) * 1000 + fraction)
    }

    /// Milliseconds of the digits after the point, any number of them.
    fn fraction(&mut self) -> Option<i64> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, rest) = self.0.split_at_checked(digits).filter(|_| digits > 0)?;
        self.0 = rest;
        Some((0..3).fold(0, |value, at| 10 * value + fraction.get(at).map_or(0, |byte| i64::from(byte - b'0'))))
    }

    /// Milliseconds of the offset, to the end.
    fn offset(&mut self) -> Option<i64> {
        if self.is_empty() {
            return Some(0);
        }
        _ = self.exactly(b' ');
        let named = [&b"UTC"[..], b"GMT", b"Z"].into_iter().any(|name| self.word(name));
        if named {
            return self.is_empty().then_some(0);
        }
        let sign = if self.any_of(b"+-")? == b'+' { 1 } else { -1 };
        let hours = self.number(2, 2)?;
        let has_colon = self.exactly(b':').is_some();
        let minutes = if self.is_empty() && !has_colon { 0 } else { self.number(2, 2)? };
        (self.is_empty() && hours < 24 && minutes < 60).then_some(())?;
        Some(sign * i64::from(hours * 60 + minutes) * 60_000)
    }
}

/// Names of months and days, by their first three letters.
const NAMES: [&str; 19] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "mon", "tue", "wed", "thu",
    "fri", "sat", "sun",
];

/// Whether a text that is not read as a time looks like one to people: numbers of a day, a month and a year in any order, or the name
/// of a month and numbers.
pub(crate) fn looks_like_time(text: &str) -> bool {
    let is_possible = text.len() >= 6 && text.len() <= 40 && text.bytes().filter(u8::is_ascii_digit).count() >= 3;
    is_possible && (looks_numeric(text) || looks_named(text))
}

fn looks_numeric(text: &str) -> bool {
    let date = text.split([' ', 'T']).next().unwrap_or_default();
    let Some(separator) = date.chars().find(|c| !c.is_ascii_digit()).filter(|c| "/.-".contains(*c)) else {
        return false;
    };
    let parts: Vec<&str> = date.split(separator).collect();
    let [one, two, three] = parts[..] else { return false };
    let within =
        |part: &str, most: u32| part.len() <= 2 && part.parse::<u32>().is_ok_and(|number| (1..=most).contains(&number));
    let is_day = |one, other| within(one, 31) && within(other, 12) || within(one, 12) && within(other, 31);
    let is_year = |part: &str| part.len() == 4 && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_short_year = |part: &str| separator == '/' && part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    is_year(one) && is_day(two, three) || (is_year(three) || is_short_year(three)) && is_day(one, two)
}

fn looks_named(text: &str) -> bool {
    let is_name = |word: &str| {
        let start = word.get(..3).unwrap_or_default().to_ascii_lowercase();
        word.len() <= 9 && NAMES.contains(&start.as_str())
    };
    let is_known = |word: &str| {
        word.bytes().all(|byte| byte.is_ascii_digit())
            || is_name(word)
            || matches!(word, "AM" | "PM" | "UTC" | "GMT" | "Z")
    };
    let words = || text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let named = words().filter(|word| is_name(word)).count();
    (1..=2).contains(&named) && words().count() >= 3 && words().all(is_known)
}
