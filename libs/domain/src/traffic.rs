//! What a prediction request is sent for.

use std::str::FromStr;

/// What a prediction request is sent for. Every request is answered and logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// The present: the event time is near the arrival of the request.
    #[default]
    Live,
    /// Rows of the past: any event time is accepted, and the rows are monitored.
    Replay,
    /// A test: any event time is accepted, and the rows enter no window, no quality and no export.
    Test,
}

/// A text that names no traffic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is {given:?}: expected live, replay or test")]
pub struct UnknownTraffic {
    /// The text as given, at most 80 characters of it.
    pub given: String,
}

impl Traffic {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Live, Self::Replay, Self::Test];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Replay => "replay",
            Self::Test => "test",
        }
    }
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Traffic {
    type Err = UnknownTraffic;

    fn from_str(text: &str) -> Result<Self, UnknownTraffic> {
        let named = Self::ALL.into_iter().find(|traffic| traffic.as_str() == text);
        named.ok_or_else(|| UnknownTraffic { given: text.chars().take(80).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_refused() {
        for traffic in Traffic::ALL {
            assert_eq!(traffic.to_string().parse(), Ok(traffic));
        }
        let refused = "Test".parse::<Traffic>().expect_err("another spelling");
        assert_eq!(refused.to_string(), "is \"Test\": expected live, replay or test");
    }
}
