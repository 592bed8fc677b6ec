//! Abbreviated ids: the first digits of an id, as people type them.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// Hexadecimal digits of a whole id.
const DIGITS: usize = 32;

/// The first digits of an id, or all of them: hexadecimal, with the hyphens of a UUID or without. The ids that it abbreviates are a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPrefix {
    text: String,
    first: Uuid,
    last: Uuid,
}

/// Why a text does not abbreviate an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is {given:?}: expected an id, e.g. 018f6e1a-5f2b-7c31-9a52-0c8e4f6b1d20, or its first digits, at least {}",
    IdPrefix::LEAST_DIGITS
)]
pub struct InvalidIdPrefix {
    /// The text as given, cut to 80 characters.
    pub given: String,
}

impl IdPrefix {
    /// The least number of digits.
    pub const LEAST_DIGITS: usize = 4;

    /// The lowest and the highest id with these first digits.
    pub const fn range(&self) -> (Uuid, Uuid) {
        (self.first, self.last)
    }

    /// Whether all digits are given.
    pub fn is_whole(&self) -> bool {
        self.first == self.last
    }

    /// The digits as given.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for IdPrefix {
    type Err = InvalidIdPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidIdPrefix> {
        let invalid = || InvalidIdPrefix { given: text.chars().take(80).collect() };
        let digits: String = text.chars().filter(|&c| c != '-').map(|c| c.to_ascii_lowercase()).collect();
        // Checked here, since `from_str_radix` accepts a sign.
        let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_hexadecimal || !(Self::LEAST_DIGITS..=DIGITS).contains(&digits.len()) {
            return Err(invalid());
        }
        let (first, last) = filled(&digits, '0').zip(filled(&digits, 'f')).ok_or_else(invalid)?;
        let is_hyphenated = first.to_string().starts_with(&text.to_ascii_lowercase());
        let is_plain = !text.contains('-');
        if is_hyphenated || is_plain { Ok(Self { text: text.to_owned(), first, last }) } else { Err(invalid()) }
    }
}

/// The id whose other digits are all `with`.
fn filled(digits: &str, with: char) -> Option<Uuid> {
    let rest = std::iter::repeat_n(with, DIGITS.saturating_sub(digits.len()));
    u128::from_str_radix(&digits.chars().chain(rest).collect::<String>(), 16).ok().map(Uuid::from_u128)
}

impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "018f6e1a-5f2b-7c31-9a52-0c8e4f6b1d20";

    #[test]
    fn an_id_is_within_the_range_of_its_first_digits_only() {
        let id: Uuid = ID.parse().expect("a UUID");
        for digits in ["018f", "018F6E", "018f6e1a-", "018f6e1a-5f2b-7", "018f6e1a5f2b7", ID] {
            let prefix: IdPrefix = digits.parse().expect(digits);
            let (first, last) = prefix.range();
            assert!(first <= id && id <= last, "{digits}");
            assert_eq!((prefix.is_whole(), prefix.as_str()), (digits == ID, digits));
        }
        let (first, last) = "018f6e1b".parse::<IdPrefix>().expect("digits").range();
        assert!(id < first && first < last);
        assert!("018f6e1a5f2b7c319a520c8e4f6b1d20".parse::<IdPrefix>().expect("all digits").is_whole());
    }

    #[test]
    fn other_texts_are_refused_with_what_is_expected() {
        for text in ["", "018", "0-1-8", "018g", "+018f", "018f-6e1a", "018f6e1a--", &format!("{ID}0"), "über"] {
            let refused = text.parse::<IdPrefix>().expect_err(text).to_string();
            assert!(refused.contains(&format!("{text:?}")) && refused.contains("at least 4"), "{refused}");
        }
    }
}
