//! Models: a name, as other records and subjects have it, a title of any spelling, and versions.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rekindle_client::wire::event;
use rekindle_domain::{
    Alias, ModelName, Namespace,
    audit::Entry,
    model_version::{RegisteredModel, Update},
    text,
};
use rekindle_service::{Call, RequestError};
use rekindle_store::{audit, in_transaction};
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction};
use uuid::Uuid;

use crate::{
    Error,
    model_version::{self, Registered},
    store, title,
};

/// A model without its versions and aliases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) name: ModelName,
    /// The number of the latest version, deleted or not; 0 without one.
    pub(crate) latest: u32,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) deleted_at: Option<DateTime<Utc>>,
}

impl Model {
    /// The model for its parts, which are read apart.
    pub(crate) fn with(self, latest: Option<Registered>, aliases: Vec<Alias>) -> RegisteredModel {
        let Self { name, latest: _, title, description, tags, created_at, updated_at, deleted_at } = self;
        let latest = latest.map(|latest| model_version::with_those_of(latest, &aliases));
        RegisteredModel { name, title, description, tags, created_at, updated_at, deleted_at, latest, aliases }
    }
}

/// Creates a model of a title, without a version. A deleted one of this title whose versions are deleted, too, is restored, with other
/// description and tags; the numbers of its versions are not used again.
pub(crate) async fn create(
    db: &DatabaseConnection,
    call: Call,
    title: String,
    description: String,
    tags: BTreeMap<String, String>,
) -> Result<Model, Error> {
    title::check("name", &title)?;
    title::check_tags(&tags)?;
    check_description(&description)?;
    let name =
        call.qualify(title::name_of(&title).parse::<ModelName>().map_err(|error| Error::invalid("name", error))?);
    in_transaction(db, async move |txn| {
        let (title, description, tags) = (title.clone(), description.clone(), tags.clone());
        let found = match store::models::by_title(txn, &title).await? {
            Some(found) => Some(found),
            None => store::models::model(txn, &name).await?,
        };
        let has_versions = match &found {
            Some(found) => store::models::get(txn, &found.name, None).await?.is_some(),
            None => false,
        };
        let model = match found {
            Some(deleted) if deleted.deleted_at.is_some() && deleted.title == title && !has_versions => {
                let model = Model { description, tags, updated_at: call.now, deleted_at: None, ..deleted };
                store::models::update_model(txn, &model).await?;
                model
            }
            Some(other) => return Err(exists(&other)),
            None => {
                let name = name.clone();
                let (created_at, updated_at) = (call.now, call.now);
                let model =
                    Model { name, latest: 0, title, description, tags, created_at, updated_at, deleted_at: None };
                store::models::insert_model(txn, &model).await?;
                model
            }
        };
        record(txn, &call, None, &model).await?;
        Ok(model)
    })
    .await
}

fn check_description(description: &str) -> Result<(), Error> {
    text::check_description(description).map_err(|problem| Error::invalid("description", problem))
}

fn exists(other: &Model) -> Error {
    let state = if other.deleted_at.is_some() { "deleted model" } else { "model" };
    let message = format!("{state} {:?} already exists, with the name {}", other.title, other.name);
    let metadata = vec![("model", other.name.to_string())];
    RequestError::AlreadyExists { reason: "MODEL_EXISTS", message, metadata }.into()
}

/// Makes the model of this name, unless there is one; a deleted one is refused.
pub(crate) async fn ensure(txn: &DatabaseTransaction, call: &Call, name: &ModelName) -> Result<(), Error> {
    match store::models::model(txn, name).await? {
        Some(model) if model.deleted_at.is_some() => Err(deleted(name)),
        Some(_) => Ok(()),
        None => {
            let title = free_title(txn, name).await?;
            let model = Model {
                name: name.clone(),
                latest: 0,
                title,
                description: String::new(),
                tags: BTreeMap::new(),
                created_at: call.now,
                updated_at: call.now,
                deleted_at: None,
            };
            store::models::insert_model(txn, &model).await?;
            if model.title == name.as_str() {
                return Ok(());
            }
            // The event of the version does not have it, and each event has an id of its own.
            record(txn, &Call { id: Uuid::now_v7(), ..call.clone() }, None, &model).await
        }
    }
}

/// The name as a title, or with a number if a model of another name has been given it.
async fn free_title(txn: &DatabaseTransaction, name: &ModelName) -> Result<String, Error> {
    let mut title = name.to_string();
    for number in 2_u32.. {
        if store::models::by_title(txn, &title).await?.is_none() {
            break;
        }
        title = format!("{name} ({number})");
    }
    Ok(title)
}

/// Refuses a model that is deleted.
pub(crate) fn must_not_be_deleted(model: &Model) -> Result<(), Error> {
    if model.deleted_at.is_some() { Err(deleted(&model.name)) } else { Ok(()) }
}

fn deleted(name: &ModelName) -> Error {
    let message = format!("model {name} is deleted: restore it first");
    Error::refused("MODEL_DELETED", message, [("model", name.to_string())])
}

/// One model, deleted or not.
pub(crate) async fn read(db: &impl ConnectionTrait, name: &ModelName) -> Result<Model, Error> {
    store::models::model(db, name).await?.ok_or_else(|| Error::not_found("model", name))
}

/// One model with its latest version and its aliases.
pub(crate) async fn get(db: &DatabaseConnection, name: &ModelName) -> Result<RegisteredModel, Error> {
    Ok(complete(db, vec![read(db, name).await?]).await?.remove(0))
}

/// Models of a namespace by name after one, at most `limit`.
pub(crate) async fn list(
    db: &DatabaseConnection,
    namespace: &Namespace,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<RegisteredModel>, Error> {
    complete(db, store::models::list(db, namespace, after.as_deref(), limit).await?).await
}

/// These models with their latest versions and their aliases.
pub(crate) async fn complete(db: &DatabaseConnection, models: Vec<Model>) -> Result<Vec<RegisteredModel>, Error> {
    let names: Vec<&ModelName> = models.iter().map(|model| &model.name).collect();
    let mut latest = store::models::latest_of(db, &names).await?;
    let aliases = store::aliases::of_models(db, &names).await?;
    let complete = |model: Model| {
        let aliases = aliases.iter().filter(|alias| alias.model == model.name).cloned().collect();
        let latest = latest.remove(&model.name);
        model.with(latest, aliases)
    };
    Ok(models.into_iter().map(complete).collect())
}

/// Changes title, description and tags of a model that is not deleted.
pub(crate) async fn update(db: &DatabaseConnection, call: Call, name: ModelName, update: Update) -> Result<(), Error> {
    if let Some(title) = &update.title {
        title::check("title", title)?;
    }
    in_transaction(db, async move |txn| {
        let before = read(txn, &name).await?;
        if before.deleted_at.is_some() {
            return Err(deleted(&name));
        }
        let mut model = before.clone();
        if let Some(title) = &update.title
            && *title != model.title
        {
            if let Some(other) = store::models::by_title(txn, title).await? {
                return Err(exists(&other));
            }
            model.title.clone_from(title);
        }
        apply(&update, &mut model.description, &mut model.tags)?;
        if model == before {
            return Ok(());
        }
        model.updated_at = call.now;
        store::models::update_model(txn, &model).await?;
        record(txn, &call, Some(before), &model).await
    })
    .await
}

/// Applies what a model and a version have in common.
pub(crate) fn apply(
    update: &Update,
    description: &mut String,
    tags: &mut BTreeMap<String, String>,
) -> Result<(), Error> {
    if let Some(given) = &update.description {
        check_description(given)?;
        description.clone_from(given);
    }
    for name in &update.delete_tags {
        tags.remove(name);
    }
    tags.extend(update.tags.clone());
    title::check_tags(tags)
}

/// Deletes a model without aliases, or restores it.
pub(crate) async fn set_deleted(
    db: &DatabaseConnection,
    call: Call,
    name: ModelName,
    why: String,
    is_deleted: bool,
) -> Result<(), Error> {
    in_transaction(db, async move |txn| {
        let before = read(txn, &name).await?;
        if before.deleted_at.is_some() == is_deleted {
            return Ok(());
        }
        if is_deleted {
            must_not_be_used(&store::aliases::of_models(txn, &[&name]).await?, &format!("model {name}"))?;
        }
        let deleted_at = is_deleted.then_some(call.now);
        let model = Model { deleted_at, updated_at: call.now, ..before.clone() };
        store::models::update_model(txn, &model).await?;
        let action = if is_deleted { "model.deleted" } else { "model.restored" };
        audit::append(txn, Entry { reason: why.clone(), ..call.entry(action, format!("model/{name}")) }).await?;
        record(txn, &call, Some(before), &model).await
    })
    .await
}

/// Refuses to delete what aliases point at.
pub(crate) fn must_not_be_used(aliases: &[Alias], what: &str) -> Result<(), Error> {
    if aliases.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> =
        aliases.iter().map(|alias| format!("{} (version {})", alias.alias, alias.version)).collect();
    let listed = listed.join(", ");
    let message = format!("{what} cannot be deleted: it has the alias {listed}; move or delete the alias first");
    Err(Error::refused("MODEL_IN_USE", message, [("aliases", listed)]))
}

/// Records a change with its event.
async fn record(txn: &DatabaseTransaction, call: &Call, before: Option<Model>, after: &Model) -> Result<(), Error> {
    let fact = |model: Model| event::model_changed(&model.with(None, Vec::new()));
    let change = call.change(fact(after.clone()), &after.name);
    let change = match before {
        Some(before) => change.over(fact(before).data),
        None => change,
    };
    Ok(audit::record(txn, change).await?)
}
