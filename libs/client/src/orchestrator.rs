//! The orchestrator: policies, workflows, deployments and replicas.

use std::ops::Range;

use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt as _};
use rekindle_domain::{
    IdPrefix, ModelName, Policy, ReplicaState, WorkflowId,
    delivery::DeliveryMetrics,
    deployment_status::DeploymentStatus,
    trigger::IgnoredTrigger,
    workflow::{Decision, WorkflowStatus},
};
use rekindle_proto::orchestrator::{self as proto, orchestrator_client::OrchestratorClient};
use tonic::Status;

use crate::{
    Connection, Error, Page, PageRequest,
    registry::page_of,
    wire::{delivery, deployment, field, policy, replica, time, trigger, workflow},
};

/// A client of the orchestrator; clones share the connection.
#[derive(Debug, Clone)]
pub struct Orchestrator(Connection);

/// A deployment to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployRequest {
    /// A repeated key deploys nothing twice.
    pub idempotency_key: String,
    /// The model.
    pub model: ModelName,
    /// `None` is the version that `champion` points at.
    pub version: Option<u32>,
    /// `None` is any revision.
    pub expected_revision: Option<u64>,
    /// The reason.
    pub why: String,
}

/// Which versions beside the stable one get requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficRequest {
    /// A repeated key changes nothing twice.
    pub idempotency_key: String,
    /// The model.
    pub model: ModelName,
    /// Versions that answer a share of the requests, in 1/10,000 of them. Replaces the present ones.
    pub weighted: Vec<(u32, u32)>,
    /// The version that gets a copy of the requests. Replaces the present one.
    pub shadow: Option<u32>,
    /// `None` is any revision.
    pub expected_revision: Option<u64>,
    /// The reason.
    pub why: String,
}

/// A change of a workflow that a caller makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkflowChange {
    /// No further step starts.
    Pause,
    /// The next step starts.
    Resume,
    /// It ends, after the return of every replica that serves the challenger.
    Cancel,
}

impl Orchestrator {
    /// A client on a connection.
    pub fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// Sets a policy over the expected revision (0: none has been set). Returns the new revision with it.
    pub async fn set_policy(&self, given: &Policy, expected_revision: u64) -> Result<(Policy, u64), Error> {
        let operation = "set the policy";
        let request = proto::SetPolicyRequest { policy: Some(policy::to_wire(given, 0)), expected_revision };
        let call = || async { OrchestratorClient::new(self.0.stub()).set_policy(request.clone()).await };
        policy::recorded(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// The policy of a model and its revision.
    pub async fn policy(&self, model: &ModelName) -> Result<(Policy, u64), Error> {
        let operation = "read the policy";
        let request = proto::GetPolicyRequest { model: model.to_string() };
        let call = || async { OrchestratorClient::new(self.0.stub()).get_policy(request.clone()).await };
        policy::recorded(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// The triggers that started no workflow since the latest one of the model was queued.
    pub async fn ignored_triggers(&self, model: &ModelName) -> Result<Vec<IgnoredTrigger>, Error> {
        let operation = "list the ignored triggers";
        let request = proto::ListIgnoredTriggersRequest { model: model.to_string() };
        let call = || async { OrchestratorClient::new(self.0.stub()).list_ignored_triggers(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        field::each("triggers", answer.triggers, trigger::from_wire).map_err(Error::response(operation))
    }

    /// How fast and how well changes of a model, or of all, reach production, and the span that the metrics are of. Without `from`, it is the
    /// 30 days before `until`; without `until`, it ends now.
    pub async fn delivery_metrics(
        &self,
        model: Option<&ModelName>,
        from: Option<DateTime<Utc>>,
        until: Option<DateTime<Utc>>,
    ) -> Result<(Range<DateTime<Utc>>, DeliveryMetrics), Error> {
        let operation = "read the delivery metrics";
        let model = model.map(ToString::to_string).unwrap_or_default();
        let [from, until] = [from, until].map(|time| time.map(time::to_wire));
        let request = proto::GetDeliveryMetricsRequest { model, from, until };
        let call = || async { OrchestratorClient::new(self.0.stub()).get_delivery_metrics(request.clone()).await };
        delivery::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Starts a retraining workflow.
    pub async fn start_workflow(
        &self,
        model: &ModelName,
        why: impl Into<String>,
        idempotency_key: impl Into<String>,
    ) -> Result<WorkflowStatus, Error> {
        let operation = "start the workflow";
        let (model, why, idempotency_key) = (model.to_string(), why.into(), idempotency_key.into());
        let request = proto::StartWorkflowRequest { idempotency_key, model, why };
        let call = || async { OrchestratorClient::new(self.0.stub()).start_workflow(request.clone()).await };
        workflow::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// One workflow.
    pub async fn workflow(&self, id: WorkflowId) -> Result<WorkflowStatus, Error> {
        self.get_workflow(id.to_string()).await
    }

    /// The one workflow whose id begins so.
    pub async fn find_workflow(&self, prefix: &IdPrefix) -> Result<WorkflowStatus, Error> {
        self.get_workflow(prefix.to_string()).await
    }

    async fn get_workflow(&self, id: String) -> Result<WorkflowStatus, Error> {
        let operation = "read the workflow";
        let request = proto::GetWorkflowRequest { id };
        let call = || async { OrchestratorClient::new(self.0.stub()).get_workflow(request.clone()).await };
        workflow::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Workflows, of one model or of all, newest first.
    pub async fn workflows(&self, model: Option<&ModelName>, page: PageRequest) -> Result<Page<WorkflowStatus>, Error> {
        let operation = "list the workflows";
        let model = model.map(ToString::to_string).unwrap_or_default();
        let request = proto::ListWorkflowsRequest { model, page_size: page.size, page_token: page.token };
        let call = || async { OrchestratorClient::new(self.0.stub()).list_workflows(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        page_of(operation, field::each("workflows", answer.workflows, workflow::from_wire), answer.next_page_token)
    }

    /// The workflow now and after each transition, until it ends. The deadline of the connection does not apply to the stream.
    pub async fn watch_workflow(
        &self,
        id: WorkflowId,
    ) -> Result<impl Stream<Item = Result<WorkflowStatus, Error>> + use<>, Error> {
        let operation = "watch the workflow";
        let request = proto::GetWorkflowRequest { id: id.to_string() };
        let call = || async { OrchestratorClient::new(self.0.stub()).watch_workflow(request.clone()).await };
        let answers = self.0.call(operation, call).await?;
        let convert = move |answer: Result<proto::Workflow, Status>| {
            let answer = answer.map_err(|status| Error::call(operation, status))?;
            workflow::from_wire(answer).map_err(Error::response(operation))
        };
        Ok(answers.map(convert))
    }

    /// Pauses, resumes or cancels a workflow; repeating it has no effect.
    pub async fn change_workflow(
        &self,
        id: WorkflowId,
        change: WorkflowChange,
        why: impl Into<String>,
    ) -> Result<WorkflowStatus, Error> {
        let operation = match change {
            WorkflowChange::Pause => "pause the workflow",
            WorkflowChange::Resume => "resume the workflow",
            WorkflowChange::Cancel => "cancel the workflow",
        };
        let request = proto::ChangeWorkflowRequest { id: id.to_string(), why: why.into() };
        let call = || async {
            let (mut client, request) = (OrchestratorClient::new(self.0.stub()), request.clone());
            match change {
                WorkflowChange::Pause => client.pause_workflow(request).await,
                WorkflowChange::Resume => client.resume_workflow(request).await,
                WorkflowChange::Cancel => client.cancel_workflow(request).await,
            }
        };
        workflow::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Approves or declines a challenger; repeating the same decision has no effect.
    pub async fn decide_workflow(
        &self,
        id: WorkflowId,
        decision: Decision,
        why: impl Into<String>,
    ) -> Result<WorkflowStatus, Error> {
        let operation = "decide on the workflow";
        let decision = workflow::decision_to_wire(decision).into();
        let request = proto::ApproveWorkflowRequest { id: id.to_string(), why: why.into(), decision };
        let call = || async { OrchestratorClient::new(self.0.stub()).approve_workflow(request.clone()).await };
        workflow::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Starts to roll a version out.
    pub async fn deploy(&self, deploy: &DeployRequest) -> Result<DeploymentStatus, Error> {
        let operation = "deploy";
        let request = proto::DeployRequest {
            idempotency_key: deploy.idempotency_key.clone(),
            model: deploy.model.to_string(),
            version: deploy.version,
            expected_revision: deploy.expected_revision,
            why: deploy.why.clone(),
        };
        let call = || async { OrchestratorClient::new(self.0.stub()).deploy(request.clone()).await };
        deployment::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Sets which versions beside the stable one get requests.
    pub async fn set_traffic(&self, traffic: &TrafficRequest) -> Result<DeploymentStatus, Error> {
        let operation = "set the traffic";
        let weighted = traffic.weighted.iter();
        let request = proto::SetTrafficRequest {
            idempotency_key: traffic.idempotency_key.clone(),
            model: traffic.model.to_string(),
            weighted: weighted.map(|&(version, weight)| proto::VersionWeight { version, weight }).collect(),
            shadow: traffic.shadow.unwrap_or(0),
            expected_revision: traffic.expected_revision,
            why: traffic.why.clone(),
        };
        let call = || async { OrchestratorClient::new(self.0.stub()).set_traffic(request.clone()).await };
        deployment::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// Starts to return to the previous stable version.
    pub async fn rollback(
        &self,
        model: &ModelName,
        why: impl Into<String>,
        idempotency_key: impl Into<String>,
    ) -> Result<DeploymentStatus, Error> {
        let operation = "roll back";
        let (model, why, idempotency_key) = (model.to_string(), why.into(), idempotency_key.into());
        let request = proto::RollbackRequest { idempotency_key, model, why };
        let call = || async { OrchestratorClient::new(self.0.stub()).rollback(request.clone()).await };
        deployment::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// The deployment of a model.
    pub async fn deployment(&self, model: &ModelName) -> Result<DeploymentStatus, Error> {
        let operation = "read the deployment";
        let request = proto::GetDeploymentRequest { model: model.to_string() };
        let call = || async { OrchestratorClient::new(self.0.stub()).get_deployment(request.clone()).await };
        deployment::from_wire(self.0.call(operation, call).await?).map_err(Error::response(operation))
    }

    /// The deployments, by model.
    pub async fn deployments(&self, page: PageRequest) -> Result<Page<DeploymentStatus>, Error> {
        let operation = "list the deployments";
        let request = proto::ListDeploymentsRequest { page_size: page.size, page_token: page.token };
        let call = || async { OrchestratorClient::new(self.0.stub()).list_deployments(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        page_of(
            operation,
            field::each("deployments", answer.deployments, deployment::from_wire),
            answer.next_page_token,
        )
    }

    /// The live replicas, by id.
    pub async fn replicas(&self, page: PageRequest) -> Result<Page<ReplicaState>, Error> {
        let operation = "list the replicas";
        let request = proto::ListReplicasRequest { page_size: page.size, page_token: page.token };
        let call = || async { OrchestratorClient::new(self.0.stub()).list_replicas(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        page_of(operation, field::each("replicas", answer.replicas, replica::from_wire), answer.next_page_token)
    }
}
