//! Bounds of texts that pass from service to service. Whoever takes one first refuses it, so that no later service has to.

/// Characters of a reason at most.
pub const REASON_CHARS: usize = 4096;
/// Characters of a description at most.
pub const DESCRIPTION_CHARS: usize = 65_536;

/// Why a text is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// It is too long.
    #[error("has {chars} characters: expected at most {limit}")]
    TooLong {
        /// Its characters.
        chars: usize,
        /// The limit.
        limit: usize,
    },
    /// It has a character that not every database keeps.
    #[error("has a NUL character: remove it")]
    Nul,
}

/// Checks the reason that a caller gives for a change.
pub fn check_reason(text: &str) -> Result<(), InvalidText> {
    check(text, REASON_CHARS)
}

/// Checks the description of a model version.
pub fn check_description(text: &str) -> Result<(), InvalidText> {
    check(text, DESCRIPTION_CHARS)
}

/// Checks a text that may have this many characters.
pub fn check(text: &str, limit: usize) -> Result<(), InvalidText> {
    let chars = text.chars().count();
    if chars > limit {
        return Err(InvalidText::TooLong { chars, limit });
    }
    if text.contains('\0') { Err(InvalidText::Nul) } else { Ok(()) }
}

/// A reason that a service composes, e.g. from that of a caller: cut to the longest reason that is valid.
pub fn reason(composed: &str) -> String {
    let kept = composed.chars().filter(|char| *char != '\0');
    match composed.char_indices().nth(REASON_CHARS) {
        None => kept.collect(),
        Some(_) => kept.take(REASON_CHARS - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_in_characters_and_have_no_nul() {
        assert_eq!(check_reason(&"ä".repeat(REASON_CHARS)), Ok(()));
        let long = check_reason(&"ä".repeat(REASON_CHARS + 1)).expect_err("too long");
        assert_eq!(long.to_string(), "has 4097 characters: expected at most 4096");
        assert_eq!(check_description("a\0b"), Err(InvalidText::Nul));
        assert_eq!(check_description("two\nlines"), Ok(()));
    }

    #[test]
    fn a_composed_reason_is_always_valid() {
        for text in ["", "short", "a\0b", &"ä".repeat(REASON_CHARS), &"ä".repeat(REASON_CHARS + 1), &"\0".repeat(9000)]
        {
            assert_eq!(check_reason(&reason(text)), Ok(()));
        }
        assert_eq!(reason("short"), "short");
        assert!(reason(&"a".repeat(5000)).ends_with("a…"));
    }
}
