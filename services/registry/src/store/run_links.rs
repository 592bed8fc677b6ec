//! Datasets that runs have read, and models that they have read and written.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rekindle_domain::RunId;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, sea_query::OnConflict,
};
use serde_json::Value;

use super::entity::run_link;
pub(crate) use super::entity::run_link::Kind;

/// What a run has read or written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Link {
    pub(crate) kind: Kind,
    /// Unique among the links of the run of this kind.
    pub(crate) key: String,
    /// As MLflow's API has it.
    pub(crate) data: Value,
}

impl Link {
    /// The link with the tags of the earlier one, if it has none itself: clients log a dataset again, without its context, with each metric.
    pub(crate) fn with_tags_of(mut self, earlier: &[Self]) -> Self {
        let same = |other: &&Self| other.kind == self.kind && other.key == self.key;
        let has_tags = |data: &Value| data["tags"].as_array().is_some_and(|tags| !tags.is_empty());
        if let Some(other) = earlier.iter().find(same)
            && has_tags(&other.data)
            && !has_tags(&self.data)
        {
            self.data["tags"] = other.data["tags"].clone();
        }
        self
    }
}

/// Writes links over those with the same keys.
pub(crate) async fn put(
    txn: &impl ConnectionTrait,
    run: RunId,
    links: &[Link],
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    use run_link::Column;
    for Link { kind, key, data } in links {
        let (key, data) = (key.clone(), data.clone());
        let row = run_link::Model { run_id: run.uuid(), kind: *kind, key, data, written_at: now };
        let replace = OnConflict::columns([Column::RunId, Column::Kind, Column::Key])
            .update_columns([Column::Data, Column::WrittenAt])
            .to_owned();
        run_link::Entity::insert(row.into_active_model()).on_conflict(replace).exec_without_returning(txn).await?;
    }
    Ok(())
}

/// The links of runs, in the order in which they were written.
pub(crate) async fn of_runs(db: &impl ConnectionTrait, runs: &[RunId]) -> Result<BTreeMap<RunId, Vec<Link>>, DbErr> {
    let rows = run_link::Entity::find()
        .filter(run_link::Column::RunId.is_in(runs.iter().map(|run| run.uuid())))
        .order_by_asc(run_link::Column::WrittenAt)
        .order_by_asc(run_link::Column::Key)
        .all(db)
        .await?;
    let mut links = BTreeMap::<_, Vec<_>>::new();
    for run_link::Model { run_id, kind, key, data, .. } in rows {
        links.entry(RunId::new(run_id)).or_default().push(Link { kind, key, data });
    }
    Ok(links)
}
