//! Principals: the people and services that call.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest subject, in characters.
pub const MAX_LEN: usize = 256;

/// The subject of a caller, as recorded with every change that it makes. It is 1 to 256 characters without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Principal(String);

/// Why a text is not a principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("principal {given:?} is not valid: expected 1 to 256 characters without control characters")]
pub struct InvalidPrincipal {
    /// The text as given, cut to 80 characters.
    pub given: String,
}

impl Principal {
    /// The principal of a caller that does not identify itself.
    pub const ANONYMOUS: &'static str = "anonymous";

    /// A caller that does not identify itself.
    pub fn anonymous() -> Self {
        Self(Self::ANONYMOUS.to_owned())
    }

    /// One of the services of the platform, e.g. `service:orchestrator`.
    pub fn service(name: &'static str) -> Self {
        Self(format!("service:{name}"))
    }

    /// The subject as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the caller did not identify itself.
    pub fn is_anonymous(&self) -> bool {
        self.0 == Self::ANONYMOUS
    }
}

impl FromStr for Principal {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Self, InvalidPrincipal> {
        let valid = (1..=MAX_LEN).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidPrincipal { given: text.chars().take(80).collect() }) }
    }
}

impl TryFrom<String> for Principal {
    type Error = InvalidPrincipal;

    fn try_from(text: String) -> Result<Self, InvalidPrincipal> {
        text.parse()
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> String {
        principal.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_a_short_printable_text() {
        for text in ["alice", "alice@example.com", "service:orchestrator", "Zoë"] {
            assert_eq!(text.parse::<Principal>().expect(text).as_str(), text);
        }
        for text in ["", "a\nb", &"x".repeat(257)] {
            assert!(text.parse::<Principal>().is_err(), "{text:?}");
        }
        assert!(Principal::anonymous().is_anonymous() && !Principal::service("monitor").is_anonymous());
    }
}
