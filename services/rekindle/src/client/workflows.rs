//! `rekindle workflows`: trips round the loop.

use anyhow::{Result, bail};
use clap::Subcommand;
use rekindle_proto::orchestrator::{
    ApproveWorkflowRequest, ChangeWorkflowRequest, GetWorkflowRequest, ListWorkflowsRequest, StartWorkflowRequest,
    Workflow, WorkflowState,
};
use uuid::Uuid;

use super::{
    Global,
    connection::Connection,
    output::{Fields, Format, version, when, word},
    page::Limit,
    reason::Reason,
};

/// What to do with workflows.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List workflows, newest first
    List {
        /// Only those of this model
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        model: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show one workflow and the steps it has taken
    Show {
        /// The workflow's id
        id: String,
    },
    /// Follow a workflow until it ends; ends with 3 where it does not succeed
    Watch {
        /// The workflow's id
        id: String,
    },
    /// Start a trip round the loop by hand
    Start {
        /// The model
        model: String,
        /// Follow it until it ends; ends with 3 where it does not succeed
        #[arg(long)]
        watch: bool,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "")]
        why: String,
    },
    /// Hold a workflow before its next step
    Pause(Change),
    /// Let a held workflow go on
    Resume(Change),
    /// End a workflow; replicas that moved go back
    Cancel(Change),
    /// Let a workflow that waits for it roll its version out
    Approve(Change),
    /// Refuse a workflow that waits for approval
    Reject(Change),
}

/// Which workflow, who and why.
#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    /// The workflow's id
    id: String,
    #[command(flatten)]
    reason: Reason,
}

/// Carries the command out. Returns whether a workflow that was watched succeeded.
pub(crate) async fn run(command: Command, global: &Global) -> Result<bool> {
    let (connection, format) = (global.connect()?, global.format());
    let mut client = connection.orchestrator();
    let changed = match command {
        Command::List { model, limit } => {
            list(&connection, model, limit, format).await?;
            return Ok(true);
        }
        Command::Watch { id } => return watch(&connection, id, format).await,
        Command::Start { model, why, watch: follow } => {
            let request = StartWorkflowRequest { idempotency_key: Uuid::now_v7().to_string(), model, why };
            let started = client.start_workflow(request).await?.into_inner();
            if follow {
                return watch(&connection, started.id, format).await;
            }
            started
        }
        Command::Show { id } => client.get_workflow(GetWorkflowRequest { id }).await?.into_inner(),
        Command::Pause(change) => client.pause_workflow(change.request()).await?.into_inner(),
        Command::Resume(change) => client.resume_workflow(change.request()).await?.into_inner(),
        Command::Cancel(change) => client.cancel_workflow(change.request()).await?.into_inner(),
        Command::Approve(change) => client.approve_workflow(change.verdict(true)).await?.into_inner(),
        Command::Reject(change) => client.approve_workflow(change.verdict(false)).await?.into_inner(),
    };
    format.message(&changed, fields);
    Ok(true)
}

impl Change {
    fn request(self) -> ChangeWorkflowRequest {
        ChangeWorkflowRequest { id: self.id, by: self.reason.by, why: self.reason.why }
    }

    fn verdict(self, approve: bool) -> ApproveWorkflowRequest {
        ApproveWorkflowRequest { id: self.id, approve, by: self.reason.by, why: self.reason.why }
    }
}

async fn list(connection: &Connection, model: String, limit: Limit, format: Format) -> Result<()> {
    let mut client = connection.orchestrator();
    let workflows = limit
        .fetch(async |page_size, page_token| {
            let request = ListWorkflowsRequest { model: model.clone(), page_size, page_token };
            let page = client.list_workflows(request).await?.into_inner();
            Ok((page.workflows, page.next_page_token))
        })
        .await?;
    let header = ["workflow", "model", "trigger", "state", "from", "to", "queued", "ended", "reason"];
    format.list(&workflows, &header, |workflow| {
        vec![
            workflow.id.clone(),
            workflow.model.clone(),
            trigger(workflow),
            state(workflow),
            version(workflow.from_version),
            version(workflow.to_version),
            when(workflow.queued_at),
            when(workflow.ended_at),
            workflow.reason.clone(),
        ]
    });
    Ok(())
}

/// Prints each move. A stream that ends before the workflow does is an error, not an end.
async fn watch(connection: &Connection, id: String, format: Format) -> Result<bool> {
    let mut moves = connection.orchestrator().watch_workflow(GetWorkflowRequest { id }).await?.into_inner();
    let mut last = None;
    while let Some(workflow) = moves.message().await? {
        format.line(&workflow, |workflow| {
            let entered = workflow.steps.last().and_then(|step| step.entered_at);
            format!("{}  {:<17}  {}", when(entered), state(workflow), workflow.reason)
        });
        last = Some(workflow.state());
    }
    match last {
        Some(state) if has_ended(state) => Ok(state == WorkflowState::Succeeded),
        _ => bail!("the orchestrator ended the stream before the workflow ended: watch it again"),
    }
}

fn has_ended(state: WorkflowState) -> bool {
    use WorkflowState::{Cancelled, Failed, Rejected, RolledBack, Succeeded};
    matches!(state, Succeeded | Rejected | RolledBack | Failed | Cancelled)
}

/// A workflow's state in words.
fn state(workflow: &Workflow) -> String {
    let state = word(workflow.state().as_str_name(), "WORKFLOW_STATE_").replace('_', " ");
    if workflow.paused { format!("{state} (paused)") } else { state }
}

fn trigger(workflow: &Workflow) -> String {
    word(workflow.trigger().as_str_name(), "TRIGGER_")
}

fn fields(workflow: &Workflow) -> Fields {
    let steps = workflow.steps.iter().map(|step| {
        let name = word(step.state().as_str_name(), "WORKFLOW_STATE_").replace('_', " ");
        format!("{}  {name:<17}  {}", when(step.entered_at), step.reason)
    });
    vec![
        ("workflow", workflow.id.clone()),
        ("model", workflow.model.clone()),
        ("trigger", trigger(workflow)),
        ("cause", workflow.cause.clone()),
        ("state", state(workflow)),
        ("reason", workflow.reason.clone()),
        ("from version", version(workflow.from_version)),
        ("to version", version(workflow.to_version)),
        ("dataset", workflow.dataset_version.clone()),
        ("training run", workflow.train_run_id.clone()),
        ("evaluation run", workflow.evaluate_run_id.clone()),
        ("evaluation", workflow.evaluation_digest.clone()),
        ("window closed", when(workflow.window_closed_at)),
        ("queued", when(workflow.queued_at)),
        ("served everywhere", when(workflow.serving_everywhere_at)),
        ("ended", when(workflow.ended_at)),
        ("steps", steps.map(|step| step.trim_end().to_owned()).collect::<Vec<_>>().join("\n")),
    ]
}
