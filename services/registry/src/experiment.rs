//! Experiments: what runs are grouped by. Each has a name, as runs have it, and a title of any spelling.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rekindle_domain::{Digest, ExperimentName};
use rekindle_service::RequestError;
use rekindle_store::in_transaction;
use sea_orm::DatabaseConnection;

use crate::{Error, store};

/// The longest title, in characters.
const MAX_TITLE: usize = 500;
/// Largest number of tags, and of their bytes together.
const MAX_TAGS: usize = 1000;
const MAX_TAGS_BYTES: usize = 256 << 10;

/// A group of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Experiment {
    /// Its number.
    pub(crate) id: i64,
    pub(crate) name: ExperimentName,
    pub(crate) title: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) deleted_at: Option<DateTime<Utc>>,
}

/// Which records a list contains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum View {
    #[default]
    Active,
    Deleted,
    All,
}

/// Creates an experiment of a title and returns its number.
pub(crate) async fn create(
    db: &DatabaseConnection,
    title: String,
    tags: BTreeMap<String, String>,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    check_title(&title)?;
    check_tags(&tags)?;
    in_transaction(db, async move |txn| {
        if let Some(earlier) = store::experiments::by_title(txn, &title).await? {
            return Err(exists(&earlier));
        }
        let name = name_of(&title);
        if let Some(earlier) = store::experiments::by_name(txn, &name).await? {
            return Err(exists(&earlier));
        }
        let (title, tags) = (title.clone(), tags.clone());
        let new = Experiment { id: 0, name, title, tags, created_at: now, updated_at: now, deleted_at: None };
        Ok(store::experiments::insert(txn, &new).await?)
    })
    .await
}

/// The experiment with a number.
pub(crate) async fn get(db: &DatabaseConnection, id: i64) -> Result<Experiment, Error> {
    store::experiments::get(db, id).await?.ok_or_else(|| Error::not_found("experiment", id))
}

/// Changes an experiment.
pub(crate) async fn change(
    db: &DatabaseConnection,
    id: i64,
    now: DateTime<Utc>,
    apply: impl Fn(&mut Experiment) + Send + Sync + 'static,
) -> Result<(), Error> {
    in_transaction(db, async move |txn| {
        let mut experiment =
            store::experiments::get(txn, id).await?.ok_or_else(|| Error::not_found("experiment", id))?;
        let title = experiment.title.clone();
        apply(&mut experiment);
        if experiment.title != title {
            check_title(&experiment.title)?;
            if let Some(other) = store::experiments::by_title(txn, &experiment.title).await? {
                return Err(exists(&other));
            }
        }
        check_tags(&experiment.tags)?;
        experiment.updated_at = now;
        Ok(store::experiments::update(txn, &experiment).await?)
    })
    .await
}

fn check_title(title: &str) -> Result<(), Error> {
    let is_valid =
        !title.trim().is_empty() && title.chars().count() <= MAX_TITLE && !title.chars().any(char::is_control);
    if is_valid {
        return Ok(());
    }
    Err(Error::invalid("name", format!("is no name: expected 1 to {MAX_TITLE} characters without control characters")))
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Error> {
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

fn exists(earlier: &Experiment) -> Error {
    let state = if earlier.deleted_at.is_some() { "deleted experiment" } else { "experiment" };
    let message = format!("{state} {:?} ({}) already exists with number {}", earlier.title, earlier.name, earlier.id);
    let metadata = vec![("id", earlier.id.to_string())];
    RequestError::AlreadyExists { reason: "EXPERIMENT_EXISTS", message, metadata }.into()
}

/// The name for a title: the title itself if it is one, else its letters and digits and the beginning of its digest.
fn name_of(title: &str) -> ExperimentName {
    if let Ok(name) = title.parse::<ExperimentName>()
        && !title.contains('.')
    {
        return name;
    }
    let words: Vec<String> = title
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let readable: String = words.join("-").chars().take(48).collect();
    let digest = Digest::of(title.as_bytes()).to_string();
    let unique = digest.trim_start_matches("sha256:").get(..10).unwrap_or_default();
    let name = if readable.is_empty() { format!("e-{unique}") } else { format!("{readable}-{unique}") };
    name.replace("--", "-").parse().unwrap_or_else(|error| unreachable!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_has_one_name_and_another_title_another() {
        assert_eq!(name_of("flights").as_str(), "flights");
        for (title, beginning) in [
            ("Flights", "flights-"),
            ("flights ", "flights-"),
            ("team.flights", "team-flights-"),
            ("/Users/me@example.com/My Experiment #3", "users-me-example-com-my-experiment-3-"),
            ("実験", "e-"),
            ("-", "e-"),
            (&"x ".repeat(300), "x-x-x-"),
        ] {
            let name = name_of(title);
            assert!(name.as_str().starts_with(beginning), "{title}: {name}");
            assert_eq!(name_of(title), name);
        }
        assert_ne!(name_of("Flights"), name_of("flights "));
        assert_ne!(name_of("a b"), name_of("a  b"));
    }
}
