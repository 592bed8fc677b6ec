//! `rekindle workflows`.

use std::pin::pin;

use anyhow::{Result, bail};
use clap::Subcommand;
use futures::StreamExt as _;
use rekindle_client::{
    Orchestrator,
    orchestrator::WorkflowChange,
    wire::{trigger, workflow},
};
use rekindle_domain::{
    IdPrefix, ModelName, WorkflowId, WorkflowState,
    model_version::VersionSelector,
    workflow::{Decision, WorkflowStatus},
};
use uuid::Uuid;

use super::{
    Global,
    output::{Fields, Format, optional, when, words},
    page::Limit,
    reason::Reason,
};

/// Commands for workflows.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List workflows, newest first
    List {
        /// Only workflows of this model
        #[arg(long, value_name = "NAME")]
        model: Option<ModelName>,
        #[command(flatten)]
        limit: Limit,
    },
    /// List the triggers that started no workflow since the latest one of a model, and why
    Ignored {
        /// Model name
        model: ModelName,
    },
    /// Show a workflow and its steps
    Show {
        /// Workflow id, or its first digits
        id: IdPrefix,
    },
    /// Print each step of a workflow until it ends; exit with code 3 if it does not succeed
    Watch {
        /// Workflow id, or its first digits
        id: IdPrefix,
    },
    /// Start a retraining workflow manually
    Start {
        /// Model name
        model: ModelName,
        /// Print each step until the workflow ends; exit with code 3 if it does not succeed
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        reason: Reason,
    },
    /// Pause a workflow before its next step
    Pause(Change),
    /// Resume a paused workflow
    Resume(Change),
    /// Cancel a workflow; replicas that serve its version return to the stable version
    Cancel(Change),
    /// Approve the rollout of a workflow that awaits approval
    Approve(Change),
    /// Decline the rollout of a workflow that awaits approval
    Reject(Change),
}

/// A change of a workflow.
#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    /// Workflow id, or its first digits
    id: IdPrefix,
    #[command(flatten)]
    reason: Reason,
}

/// Runs the command. Returns whether a watched workflow succeeded.
pub(crate) async fn run(command: Command, global: &Global) -> Result<bool> {
    let format = global.format();
    let changed = match command {
        Command::List { model, limit } => {
            let orchestrator = global.platform()?.orchestrator();
            let workflows = limit.fetch(async |page| orchestrator.workflows(model.as_ref(), page).await).await?;
            if let Some(model) = model.filter(|_| workflows.is_empty()) {
                // A model of that name exists, and had no workflow.
                global.platform()?.registry().model_version(&model, &VersionSelector::Latest).await?;
            }
            list(&workflows, format);
            return Ok(true);
        }
        Command::Ignored { model } => {
            ignored(&model, global).await?;
            return Ok(true);
        }
        Command::Watch { id } => {
            let orchestrator = global.platform()?.orchestrator();
            let id = orchestrator.find_workflow(&id).await?.id;
            return watch(&orchestrator, id, format).await;
        }
        Command::Start { model, reason, watch: is_watched } => {
            let orchestrator = global.platform()?.called_by(reason.by).orchestrator();
            let started = orchestrator.start_workflow(&model, reason.why, Uuid::now_v7().to_string()).await?;
            if is_watched {
                return watch(&orchestrator, started.id, format).await;
            }
            started
        }
        Command::Show { id } => global.platform()?.orchestrator().find_workflow(&id).await?,
        Command::Pause(given) => change(given, WorkflowChange::Pause, global).await?,
        Command::Resume(given) => change(given, WorkflowChange::Resume, global).await?,
        Command::Cancel(given) => change(given, WorkflowChange::Cancel, global).await?,
        Command::Approve(given) => decide(given, Decision::Approve, global).await?,
        Command::Reject(given) => decide(given, Decision::Decline, global).await?,
    };
    format.one(&changed, workflow::to_json, fields);
    Ok(true)
}

async fn change(given: Change, change: WorkflowChange, global: &Global) -> Result<WorkflowStatus> {
    let orchestrator = global.platform()?.called_by(given.reason.by).orchestrator();
    let id = orchestrator.find_workflow(&given.id).await?.id;
    Ok(orchestrator.change_workflow(id, change, given.reason.why).await?)
}

async fn decide(given: Change, decision: Decision, global: &Global) -> Result<WorkflowStatus> {
    let orchestrator = global.platform()?.called_by(given.reason.by).orchestrator();
    let id = orchestrator.find_workflow(&given.id).await?.id;
    Ok(orchestrator.decide_workflow(id, decision, given.reason.why).await?)
}

async fn ignored(model: &ModelName, global: &Global) -> Result<()> {
    let orchestrator = global.platform()?.orchestrator();
    // A model without a policy has no triggers.
    orchestrator.policy(model).await?;
    let ignored = orchestrator.ignored_triggers(model).await?;
    let header = ["trigger", "reason", "count", "first", "last", "explanation"];
    global.format().list(&ignored, trigger::to_json, &header, |ignored| {
        vec![
            words(ignored.trigger.name()),
            words(ignored.reason.name()),
            ignored.count.to_string(),
            when(ignored.first_at),
            when(ignored.last_at),
            ignored.explanation.clone(),
        ]
    });
    Ok(())
}

fn list(workflows: &[WorkflowStatus], format: Format) {
    let header = ["workflow", "model", "trigger", "state", "from", "to", "queued", "ended", "reason"];
    format.list(workflows, workflow::to_json, &header, |workflow| {
        vec![
            workflow.id.to_string(),
            workflow.model.to_string(),
            words(workflow.trigger.name()),
            state(workflow),
            optional(workflow.from_version),
            optional(workflow.to_version),
            when(workflow.queued_at),
            when(workflow.ended_at),
            workflow.reason.clone(),
        ]
    });
}

/// Prints each step. A stream that ends before the workflow does is an error.
async fn watch(orchestrator: &Orchestrator, id: WorkflowId, format: Format) -> Result<bool> {
    let mut steps = pin!(orchestrator.watch_workflow(id).await?);
    let mut last = None;
    while let Some(workflow) = steps.next().await {
        let workflow = workflow?;
        format.line(&workflow, workflow::to_json, |workflow| {
            let entered = workflow.steps.last().map(|step| step.entered_at);
            format!("{}  {:<17}  {}", when(entered), state(workflow), workflow.reason)
        });
        last = Some(workflow.state);
    }
    match last {
        Some(state) if state.is_terminal() => Ok(state == WorkflowState::Succeeded),
        _ => bail!("the orchestrator closed the stream before the workflow ended: run `rekindle workflows watch {id}`"),
    }
}

fn state(workflow: &WorkflowStatus) -> String {
    let state = words(workflow.state.name());
    if workflow.paused { format!("{state} (paused)") } else { state }
}

fn fields(workflow: &WorkflowStatus) -> Fields {
    let steps = workflow.steps.iter().map(|step| {
        let line = format!("{}  {:<17}  {}", when(step.entered_at), words(step.state.name()), step.reason);
        line.trim_end().to_owned()
    });
    vec![
        ("workflow", workflow.id.to_string()),
        ("model", workflow.model.to_string()),
        ("trigger", words(workflow.trigger.name())),
        ("cause", workflow.cause.clone()),
        ("state", state(workflow)),
        ("reason", workflow.reason.clone()),
        ("from version", optional(workflow.from_version)),
        ("to version", optional(workflow.to_version)),
        ("dataset", workflow.dataset_version.clone()),
        ("training run", optional(workflow.train_run)),
        ("evaluation run", optional(workflow.evaluate_run)),
        ("refit run", optional(workflow.refit_run)),
        ("evaluation", optional(workflow.evaluation)),
        ("window closed", when(workflow.window_closed_at)),
        ("queued", when(workflow.queued_at)),
        ("served everywhere", when(workflow.serving_everywhere_at)),
        ("ended", when(workflow.ended_at)),
        ("steps", steps.collect::<Vec<_>>().join("\n")),
    ]
}
