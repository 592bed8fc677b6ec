//! Titles and tags: names of any spelling for experiments and models, beside the names that other records and subjects have.

use std::collections::BTreeMap;

use rekindle_domain::Digest;

use crate::Error;

/// The longest title, in characters.
const MAX_TITLE: usize = 500;
/// Largest number of tags, and of their bytes together.
const MAX_TAGS: usize = 1000;
const MAX_TAGS_BYTES: usize = 256 << 10;
/// The longest readable part of a name that is made of a title.
const READABLE: usize = 48;

/// Checks a title, which a field has.
pub(crate) fn check(field: &str, title: &str) -> Result<(), Error> {
    let is_valid =
        !title.trim().is_empty() && title.chars().count() <= MAX_TITLE && !title.chars().any(char::is_control);
    if is_valid {
        return Ok(());
    }
    Err(Error::invalid(field, format!("is no name: expected 1 to {MAX_TITLE} characters without control characters")))
}

/// Checks the tags of an experiment, a model or a version.
pub(crate) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    let bytes: usize = tags.iter().map(|(name, value)| name.len() + value.len()).sum();
    if tags.len() > MAX_TAGS || bytes > MAX_TAGS_BYTES {
        let problem =
            format!("has {} tags of {bytes} bytes: expected at most {MAX_TAGS} of {MAX_TAGS_BYTES}", tags.len());
        return Err(Error::invalid("tags", problem));
    }
    if tags.iter().any(|(name, value)| name.is_empty() || name.contains('\0') || value.contains('\0')) {
        return Err(Error::invalid("tags", "has an empty name, or a NUL character"));
    }
    Ok(())
}

/// The name for a title: the title itself if it is one, else its letters and digits and the beginning of its digest.
pub(crate) fn name_of(title: &str) -> String {
    if title.parse::<rekindle_domain::ModelName>().is_ok() && !title.contains('.') {
        return title.to_owned();
    }
    let words: Vec<String> = title
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let readable: String = words.join("-").chars().take(READABLE).collect();
    let digest = Digest::of(title.as_bytes()).hex();
    let unique = digest.get(..10).unwrap_or_default();
    let name = if readable.is_empty() { format!("x-{unique}") } else { format!("{readable}-{unique}") };
    name.replace("--", "-")
}

#[cfg(test)]
mod tests {
    use rekindle_domain::ExperimentName;

    use super::*;

    #[test]
    fn a_title_has_one_name_and_another_title_another() {
        assert_eq!(name_of("flights"), "flights");
        for (title, beginning) in [
            ("Flights", "flights-"),
            ("flights ", "flights-"),
            ("team.flights", "team-flights-"),
            ("/Users/me@example.com/My Experiment #3", "users-me-example-com-my-experiment-3-"),
            ("実験", "x-"),
            ("-", "x-"),
            (&"x ".repeat(300), "x-x-x-"),
        ] {
            let name = name_of(title);
            assert!(name.starts_with(beginning), "{title}: {name}");
            assert_eq!(name_of(title), name);
            name.parse::<ExperimentName>().expect("a name");
        }
        assert_ne!(name_of("Flights"), name_of("flights "));
        assert_ne!(name_of("a b"), name_of("a  b"));
    }
}
