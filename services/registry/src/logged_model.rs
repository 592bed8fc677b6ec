//! Models that runs log with MLflow's clients: files with params, tags and metrics, of which model versions are made.

use std::{collections::BTreeMap, str::FromStr};

use chrono::{DateTime, Utc};
use rekindle_domain::{RunId, audit::Entry};
use rekindle_service::Call;
use rekindle_store::{audit, in_transaction};
use sea_orm::DatabaseConnection;
use serde_json::json;
use uuid::Uuid;

use crate::{Error, bounds::check_texts, config::Limits, store};

/// A model that a run has logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoggedModel {
    pub(crate) id: Uuid,
    /// The number of the experiment.
    pub(crate) experiment: i64,
    pub(crate) name: String,
    pub(crate) model_type: String,
    pub(crate) run: Option<RunId>,
    pub(crate) status: Status,
    pub(crate) status_message: String,
    pub(crate) params: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) deleted_at: Option<DateTime<Utc>>,
}

/// Whether the files of a logged model are complete, by MLflow's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Pending,
    Ready,
    Failed,
}

/// The last value of a metric of a logged model, of one run and, if the metric is of one, of one dataset.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelMetric {
    pub(crate) run: RunId,
    pub(crate) name: String,
    /// Empty if the metric is of no dataset.
    pub(crate) dataset_name: String,
    pub(crate) dataset_digest: String,
    pub(crate) value: f64,
    pub(crate) step: i64,
    pub(crate) time_ms: Option<i64>,
}

impl Status {
    const ALL: [Self; 3] = [Self::Pending, Self::Ready, Self::Failed];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "LOGGED_MODEL_PENDING",
            Self::Ready => "LOGGED_MODEL_READY",
            Self::Failed => "LOGGED_MODEL_UPLOAD_FAILED",
        }
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|status| status.name() == name);
        found.ok_or_else(|| format!("{name:?} is no status: expected one of {names}"))
    }
}

/// The id as MLflow has it: `m-` and 32 hexadecimal digits.
pub(crate) fn id_text(id: Uuid) -> String {
    format!("m-{}", id.simple())
}

/// The id that a text has.
pub(crate) fn parse_id(text: &str) -> Result<Uuid, Error> {
    let id = text.strip_prefix("m-").and_then(|digits| Uuid::try_parse(digits).ok());
    id.ok_or_else(|| Error::not_found("logged model", text))
}

/// Creates a logged model without files.
pub(crate) async fn create(
    db: &DatabaseConnection,
    call: Call,
    model: LoggedModel,
    limits: Limits,
) -> Result<LoggedModel, Error> {
    check(&model, &limits)?;
    in_transaction(db, async move |txn| {
        store::logged_models::insert(txn, &model).await?;
        let after = json!({ "name": model.name, "run": model.run, "params": model.params, "tags": model.tags });
        let entry = call.entry("logged-model.created", format!("logged-model/{}", id_text(model.id)));
        audit::append(txn, Entry { after: after.to_string(), ..entry }).await?;
        Ok(model.clone())
    })
    .await
}

fn check(model: &LoggedModel, limits: &Limits) -> Result<(), Error> {
    check_texts("params", &model.params, limits)?;
    check_texts("tags", &model.tags, limits)?;
    let short = [("name", &model.name), ("model_type", &model.model_type), ("status_message", &model.status_message)];
    for (field, text) in short {
        if text.chars().count() > limits.text_chars || text.contains('\0') {
            let problem =
                format!("is no text of at most {} characters, the limit registry.limits.text_chars", limits.text_chars);
            return Err(Error::invalid(field, problem));
        }
    }
    Ok(())
}

/// One logged model that is not deleted.
pub(crate) async fn get(db: &DatabaseConnection, id: Uuid) -> Result<LoggedModel, Error> {
    let found = store::logged_models::get(db, id).await?.filter(|model| model.deleted_at.is_none());
    found.ok_or_else(|| Error::not_found("logged model", id_text(id)))
}

/// Changes a logged model that is not deleted; `action` is the name of the change in the audit trail.
pub(crate) async fn change(
    db: &DatabaseConnection,
    call: Call,
    id: Uuid,
    action: String,
    limits: Limits,
    apply: impl Fn(&mut LoggedModel) -> Result<(), Error> + Send + Sync + 'static,
) -> Result<LoggedModel, Error> {
    in_transaction(db, async move |txn| {
        let found = store::logged_models::get(txn, id).await?.filter(|model| model.deleted_at.is_none());
        let mut model = found.ok_or_else(|| Error::not_found("logged model", id_text(id)))?;
        apply(&mut model)?;
        check(&model, &limits)?;
        model.updated_at = call.now;
        store::logged_models::update(txn, &model).await?;
        let after = json!({ "status": model.status.name(), "params": model.params, "tags": model.tags });
        let entry = call.entry(&action, format!("logged-model/{}", id_text(id)));
        audit::append(txn, Entry { after: after.to_string(), ..entry }).await?;
        Ok(model)
    })
    .await
}
