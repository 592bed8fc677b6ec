//! Experiments: what runs are grouped by. Each has a name, as runs have it, and a title of any spelling.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rekindle_domain::{ExperimentName, audit::Entry};
use rekindle_service::{Call, RequestError};
use rekindle_store::{audit, in_transaction};
use sea_orm::DatabaseConnection;
use serde_json::json;

use crate::{Error, store, title};

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

impl Experiment {
    /// What can change of it, for the audit trail.
    fn to_json(&self) -> String {
        json!({ "title": self.title, "tags": self.tags, "deleted": self.deleted_at.is_some() }).to_string()
    }
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
    call: Call,
    title: String,
    tags: BTreeMap<String, String>,
) -> Result<i64, Error> {
    title::check("name", &title)?;
    title::check_tags(&tags)?;
    let name = name_of(&title)?;
    in_transaction(db, async move |txn| {
        if let Some(earlier) = store::experiments::by_title(txn, &title).await? {
            return Err(exists(&earlier));
        }
        if let Some(earlier) = store::experiments::by_name(txn, &name).await? {
            return Err(exists(&earlier));
        }
        let (name, title, tags) = (name.clone(), title.clone(), tags.clone());
        let (created_at, updated_at) = (call.now, call.now);
        let new = Experiment { id: 0, name, title, tags, created_at, updated_at, deleted_at: None };
        let id = store::experiments::insert(txn, &new).await?;
        let entry = call.entry("experiment.created", format!("experiment/{}", new.name));
        audit::append(txn, Entry { after: new.to_json(), ..entry }).await?;
        Ok(id)
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
    call: Call,
    id: i64,
    apply: impl Fn(&mut Experiment) + Send + Sync + 'static,
) -> Result<(), Error> {
    in_transaction(db, async move |txn| {
        let mut experiment =
            store::experiments::get(txn, id).await?.ok_or_else(|| Error::not_found("experiment", id))?;
        let before = experiment.clone();
        apply(&mut experiment);
        if experiment.title != before.title {
            title::check("name", &experiment.title)?;
            if let Some(other) = store::experiments::by_title(txn, &experiment.title).await? {
                return Err(exists(&other));
            }
        }
        title::check_tags(&experiment.tags)?;
        experiment.updated_at = call.now;
        let entry = call.entry("experiment.changed", format!("experiment/{}", experiment.name));
        audit::append(txn, Entry { before: before.to_json(), after: experiment.to_json(), ..entry }).await?;
        Ok(store::experiments::update(txn, &experiment).await?)
    })
    .await
}

fn exists(earlier: &Experiment) -> Error {
    let state = if earlier.deleted_at.is_some() { "deleted experiment" } else { "experiment" };
    let message = format!("{state} {:?} ({}) already exists with number {}", earlier.title, earlier.name, earlier.id);
    let metadata = vec![("id", earlier.id.to_string())];
    RequestError::AlreadyExists { reason: "EXPERIMENT_EXISTS", message, metadata }.into()
}

/// The name of an experiment with a title. That of earlier releases began with `e-` if the title has no letters and digits.
fn name_of(title: &str) -> Result<ExperimentName, Error> {
    title::name_of(title).parse().map_err(|error| Error::invalid("name", error))
}
