//! Why a column is text although most of its values look like another type.

use rekindle_domain::dataset::TimeFormat;

use super::{looks_like_time, parse_number, parse_time};

/// Values after which a text column is no longer searched.
const SEARCHED: u64 = 10_000;

/// Values of a type per other value from which a column counts as of this type with stray values.
const MOST: u64 = 9;

/// Characters of a reported value.
const STRAY_CHARS: usize = 40;

/// Why a column is text although most of its values look like another type; with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TextReason {
    /// Most values are numbers; this one is not.
    NoNumber(String),
    /// Most values are times; this one is not.
    NoTime(String),
    /// Numbers, but some are written with more than digits.
    Spelled(Spelling, String),
    /// Numbers, but some have leading zeros, as codes have.
    LeadingZeros(String),
    /// Times, but written otherwise.
    UnreadTimes(String),
}

/// How numbers are written that are not read as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// With a currency sign: `$12.50`.
    Currency,
    /// With a percent sign: `12 %`.
    Percent,
    /// With a separator of thousands: `1,234` or `1 234,50`.
    Thousands,
    /// With a decimal comma: `0,5`.
    DecimalComma,
    /// With space around: ` 12`.
    Padded,
}

impl Spelling {
    /// How a text spells a number that is not read as one.
    pub fn of(text: &str) -> Option<Self> {
        let bare = text.trim();
        if !bare.bytes().any(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let unsigned = bare.strip_prefix(['-', '+']).unwrap_or(bare);
        // Whether the text has one of the signs, and is a number without it.
        let is_number_with = |signs: &[char]| {
            let rest = unsigned.trim_matches(signs).trim();
            rest.len() < unsigned.len() && (parse_number(rest).is_some() || grouped(rest).is_some())
        };
        if is_number_with(CURRENCIES) {
            Some(Self::Currency)
        } else if is_number_with(&['%']) {
            Some(Self::Percent)
        } else if bare.len() < text.len() && parse_number(bare).is_some() {
            Some(Self::Padded)
        } else {
            grouped(bare)
        }
    }
}

const CURRENCIES: &[char] = &['$', '€', '£', '¥', '₹'];

/// Digits in groups of three, and a decimal comma.
fn grouped(text: &str) -> Option<Spelling> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    for group in [',', '.', ' ', '\u{a0}', '\u{202f}', '\''] {
        let is_point = |c: char| c != group && matches!(c, '.' | ',');
        let (whole, fraction) = digits.rsplit_once(is_point).map_or((digits, None), |(w, f)| (w, Some(f)));
        let mut groups = whole.split(group);
        let is_led = groups.next().is_some_and(|first| (1..=3).contains(&first.len()) && is_digits(first));
        let is_grouped = whole.contains(group) && groups.all(|rest| rest.len() == 3 && is_digits(rest));
        if is_led && is_grouped && fraction.is_none_or(is_digits) {
            return Some(Spelling::Thousands);
        }
    }
    let (whole, fraction) = digits.split_once(',')?;
    (is_digits(whole) && is_digits(fraction)).then_some(Spelling::DecimalComma)
}

/// The values that keep a column from being numeric.
#[derive(Debug, Clone, Default)]
pub(super) struct Strays {
    pub(super) numbers: u64,
    times: u64,
    others: u64,
    first: Option<String>,
    spelled: Option<(Spelling, String)>,
    spelled_numbers: u64,
    code: Option<String>,
    unread_times: u64,
    first_unread: Option<String>,
}

impl Strays {
    /// Whether more values are looked at.
    pub(super) fn is_searching(&self) -> bool {
        self.numbers + self.times + self.spelled_numbers + self.unread_times + self.others < SEARCHED
    }

    pub(super) fn see(&mut self, text: &str, is_number: bool, format: TimeFormat) {
        let cut = || text.chars().take(STRAY_CHARS).collect::<String>();
        if is_number {
            self.numbers += 1;
        } else if text.parse::<f64>().is_ok() {
            // A code such as 0123, or a number that would be rounded: the column is text by intent.
            self.numbers += 1;
            self.code.get_or_insert_with(cut);
        } else if let Some(spelling) = Spelling::of(text) {
            self.spelled_numbers += 1;
            self.spelled.get_or_insert_with(|| (spelling, cut()));
        } else if parse_time(text, format).is_some() {
            self.times += 1;
        } else if looks_like_time(text) {
            self.unread_times += 1;
            self.first_unread.get_or_insert_with(cut);
        } else {
            self.others += 1;
            self.first.get_or_insert_with(cut);
        }
    }

    /// Why the column is text. The most frequent type of its values decides.
    pub(super) fn reason(&self) -> Option<TextReason> {
        let numbers = self.numbers + self.spelled_numbers;
        let times = self.times + self.unread_times;
        let is_most = |count: u64, others: u64| count > 0 && count >= MOST * others;
        if is_most(numbers, self.others + times) {
            let (spelled, code, first) = (&self.spelled, &self.code, &self.first);
            return spelled
                .clone()
                .map(|(spelling, value)| TextReason::Spelled(spelling, value))
                .or_else(|| code.clone().map(TextReason::LeadingZeros))
                .or_else(|| first.clone().or_else(|| self.first_unread.clone()).map(TextReason::NoNumber));
        }
        if is_most(times, self.others + numbers) {
            let unread = self.first_unread.clone().map(TextReason::UnreadTimes);
            return unread.or_else(|| self.first.clone().map(TextReason::NoTime));
        }
        None
    }
}
