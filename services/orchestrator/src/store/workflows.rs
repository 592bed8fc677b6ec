//! Workflows and the states they went through.

use chrono::{DateTime, Utc};
use rekindle_domain::{IdPrefix, ModelName, Namespace, WorkflowId, WorkflowState, workflow::WorkflowStep};
use rekindle_store::{page::Page, within};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait as _, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait as _,
};

use super::{
    entity::{
        workflow::{ActiveModel, Column, Entity, Model},
        workflow_step,
    },
    from_json, signed, to_json,
};
use crate::{Error, workflow::Workflow};

/// A workflow.
pub(crate) async fn get(db: &impl ConnectionTrait, id: WorkflowId) -> Result<Option<Workflow>, Error> {
    Entity::find_by_id(id.uuid()).one(db).await?.map(read).transpose()
}

/// Workflows whose id begins so, by id.
pub(crate) async fn beginning_with(
    db: &impl ConnectionTrait,
    prefix: &IdPrefix,
    limit: u64,
) -> Result<Vec<Workflow>, Error> {
    let (first, last) = prefix.range();
    let query = Entity::find().filter(Column::Id.between(first, last)).order_by_asc(Column::Id).limit(limit);
    query.all(db).await?.into_iter().map(read).collect()
}

/// Every workflow that has not ended.
pub(crate) async fn active(db: &impl ConnectionTrait) -> Result<Vec<Workflow>, Error> {
    let rows = Entity::find().filter(Column::ActiveModel.is_not_null()).order_by_asc(Column::Id).all(db).await?;
    rows.into_iter().map(read).collect()
}

/// The workflow of a model that has not ended.
pub(crate) async fn active_of(db: &impl ConnectionTrait, model: &ModelName) -> Result<Option<Workflow>, Error> {
    Entity::find().filter(Column::ActiveModel.eq(model.as_str())).one(db).await?.map(read).transpose()
}

/// The end of the window, in event time, of the last workflow of a model that got as far as training.
pub(crate) async fn last_window(db: &impl ConnectionTrait, model: &ModelName) -> Result<Option<DateTime<Utc>>, Error> {
    let row = Entity::find()
        .filter(Column::Model.eq(model.as_str()))
        .filter(Column::CooldownFrom.is_not_null())
        .order_by_desc(Column::CooldownFrom)
        .limit(1)
        .one(db)
        .await?;
    Ok(row.and_then(|row| row.cooldown_from))
}

/// The latest workflows of a model, the newest first.
pub(crate) async fn latest(db: &impl ConnectionTrait, model: &ModelName, limit: u64) -> Result<Vec<Workflow>, Error> {
    let query = Entity::find().filter(Column::Model.eq(model.as_str())).order_by_desc(Column::Id).limit(limit);
    query.all(db).await?.into_iter().map(read).collect()
}

/// The trainings of a model that began at `since` or later.
pub(crate) async fn trainings_since(
    db: &impl ConnectionTrait,
    model: &ModelName,
    since: DateTime<Utc>,
) -> Result<u64, Error> {
    let of_model = Entity::find().select_only().column(Column::Id).filter(Column::Model.eq(model.as_str()));
    let began = workflow_step::Entity::find()
        .filter(workflow_step::Column::WorkflowId.in_subquery(of_model.into_query()))
        .filter(workflow_step::Column::State.eq(WorkflowState::Training.name()))
        .filter(workflow_step::Column::EnteredAt.gte(since));
    Ok(began.count(db).await?)
}

/// One page of workflows, of one model or of a namespace, newest first.
pub(crate) async fn list(
    db: &impl ConnectionTrait,
    namespace: &Namespace,
    model: Option<&ModelName>,
    page: &Page,
) -> Result<Vec<Workflow>, Error> {
    let mut query = Entity::find().order_by_desc(Column::Id).limit(page.fetch());
    query = match model {
        Some(model) => query.filter(Column::Model.eq(model.as_str())),
        None => query.filter(within(namespace, Column::Model)),
    };
    if let Some(after) = &page.after {
        let after: WorkflowId = after.parse().map_err(|error| Error::invalid("page_token", error))?;
        query = query.filter(Column::Id.lt(after.uuid()));
    }
    query.all(db).await?.into_iter().map(read).collect()
}

/// Adds a workflow and its first step.
pub(crate) async fn insert(txn: &impl ConnectionTrait, workflow: &Workflow) -> Result<(), Error> {
    Entity::insert(row(workflow)?).exec_without_returning(txn).await?;
    add_step(txn, workflow, workflow.queued_at).await
}

/// Writes a workflow over the epoch that was read.
pub(crate) async fn update(txn: &impl ConnectionTrait, read_epoch: u64, workflow: &Workflow) -> Result<(), Error> {
    let updated = Entity::update_many()
        .set(row(workflow)?)
        .filter(Column::Id.eq(workflow.id.uuid()))
        .filter(Column::Epoch.eq(signed(read_epoch)?))
        .exec(txn)
        .await?;
    match updated.rows_affected {
        1 => Ok(()),
        _ => Err(Error::Raced { what: format!("workflow {}", workflow.id) }),
    }
}

/// Notes the state that a workflow has entered.
pub(crate) async fn add_step(txn: &impl ConnectionTrait, workflow: &Workflow, now: DateTime<Utc>) -> Result<(), Error> {
    let row = workflow_step::ActiveModel {
        workflow_id: Set(workflow.id.uuid()),
        epoch: Set(signed(workflow.epoch)?),
        state: Set(workflow.state.name().to_owned()),
        entered_at: Set(now),
        reason: Set(workflow.reason.clone()),
    };
    workflow_step::Entity::insert(row).exec_without_returning(txn).await?;
    Ok(())
}

/// The states that a workflow has entered, in order.
pub(crate) async fn steps(db: &impl ConnectionTrait, id: WorkflowId) -> Result<Vec<WorkflowStep>, Error> {
    let rows = workflow_step::Entity::find()
        .filter(workflow_step::Column::WorkflowId.eq(id.uuid()))
        .order_by_asc(workflow_step::Column::Epoch)
        .all(db)
        .await?;
    let step = |row: workflow_step::Model| {
        let state = WorkflowState::from_name(&row.state)
            .ok_or_else(|| DbErr::Type(format!("{:?} is not a workflow state", row.state)))?;
        Ok(WorkflowStep { state, entered_at: row.entered_at, reason: row.reason })
    };
    rows.into_iter().map(step).collect()
}

fn row(workflow: &Workflow) -> Result<ActiveModel, Error> {
    Ok(ActiveModel {
        id: Set(workflow.id.uuid()),
        model: Set(workflow.model.to_string()),
        active_model: Set((!workflow.state.is_terminal()).then(|| workflow.model.to_string())),
        state: Set(workflow.state.name().to_owned()),
        epoch: Set(signed(workflow.epoch)?),
        cooldown_from: Set(workflow.window_until.filter(|_| workflow.progress.dataset.is_some())),
        record: Set(to_json(workflow)?),
    })
}

fn read(row: Model) -> Result<Workflow, Error> {
    Ok(from_json("workflows", row.record)?)
}
