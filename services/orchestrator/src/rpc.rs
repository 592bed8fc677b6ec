//! The gRPC service: decode, call, encode.

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use rekindle_proto::client::Context;
use rekindle_proto::orchestrator::{
    ApproveWorkflowRequest, ChangeWorkflowRequest, DeployRequest, Deployment, GetDeploymentRequest, GetPolicyRequest,
    GetWorkflowRequest, ListDeploymentsRequest, ListDeploymentsResponse, ListReplicasRequest, ListReplicasResponse,
    ListWorkflowsRequest, ListWorkflowsResponse, Policy, RollbackRequest, SetPolicyRequest, StartWorkflowRequest,
    Workflow, orchestrator_server::Orchestrator,
};
use rekindle_store::page;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use crate::{
    Error,
    core::{Core, now},
    deploy, manage, policy, store, watch,
    wire::{deployment_to_wire, model_from_wire, policy_to_wire, replica_to_wire, workflow_to_wire},
    workflow,
};

/// The service's face.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    core: Arc<Core>,
    watchers: Arc<Semaphore>,
}

impl Rpc {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let watchers = Arc::new(Semaphore::new(core.config.watchers));
        Self { core, watchers }
    }

    async fn answer(&self, workflow: &workflow::Workflow) -> Result<Response<Workflow>, Status> {
        let steps = store::workflows::steps(&self.core.db, workflow.id).await?;
        Ok(Response::new(workflow_to_wire(workflow, &steps)))
    }
}

#[tonic::async_trait]
impl Orchestrator for Rpc {
    type WatchWorkflowStream = Pin<Box<dyn Stream<Item = Result<Workflow, Status>> + Send>>;

    async fn set_policy(&self, request: Request<SetPolicyRequest>) -> Result<Response<Policy>, Status> {
        let context = Context::of(request.metadata());
        let revised = policy::set(&self.core, request.into_inner(), context, now()).await?;
        Ok(Response::new(policy_to_wire(&revised)))
    }

    async fn get_policy(&self, request: Request<GetPolicyRequest>) -> Result<Response<Policy>, Status> {
        let model = model_from_wire("model", &request.into_inner().model)?;
        let revised = store::policies::get(&self.core.db, &model).await?;
        let revised = revised.ok_or_else(|| Error::not_found("policy of", &model))?;
        Ok(Response::new(policy_to_wire(&revised)))
    }

    async fn start_workflow(&self, request: Request<StartWorkflowRequest>) -> Result<Response<Workflow>, Status> {
        let id = uuid::Uuid::now_v7();
        let workflow = manage::start(&self.core, request.into_inner(), id, now()).await?;
        Ok(Response::new(workflow))
    }

    async fn get_workflow(&self, request: Request<GetWorkflowRequest>) -> Result<Response<Workflow>, Status> {
        let workflow = manage::get(&self.core, &request.into_inner().id).await?;
        self.answer(&workflow).await
    }

    async fn list_workflows(
        &self,
        request: Request<ListWorkflowsRequest>,
    ) -> Result<Response<ListWorkflowsResponse>, Status> {
        let request = request.into_inner();
        let model = match request.model.as_str() {
            "" => None,
            model => Some(model_from_wire("model", model)?),
        };
        let page = page(request.page_size, &request.page_token)?;
        let rows = store::workflows::list(&self.core.db, model.as_ref(), &page).await?;
        let (rows, next_page_token) = page.cut(rows, |workflow| workflow.id.to_string());
        let mut workflows = Vec::with_capacity(rows.len());
        for workflow in &rows {
            let steps = store::workflows::steps(&self.core.db, workflow.id).await?;
            workflows.push(workflow_to_wire(workflow, &steps));
        }
        Ok(Response::new(ListWorkflowsResponse { workflows, next_page_token }))
    }

    async fn watch_workflow(
        &self,
        request: Request<GetWorkflowRequest>,
    ) -> Result<Response<Self::WatchWorkflowStream>, Status> {
        let id = manage::get(&self.core, &request.into_inner().id).await?.id;
        let permit = watch::admit(&self.watchers, self.core.config.watchers)?;
        Ok(Response::new(Box::pin(watch::follow(self.core.clone(), id, permit))))
    }

    async fn pause_workflow(&self, request: Request<ChangeWorkflowRequest>) -> Result<Response<Workflow>, Status> {
        let workflow = manage::pause(&self.core, request.into_inner(), now()).await?;
        self.answer(&workflow).await
    }

    async fn resume_workflow(&self, request: Request<ChangeWorkflowRequest>) -> Result<Response<Workflow>, Status> {
        let workflow = manage::resume(&self.core, request.into_inner(), now()).await?;
        self.answer(&workflow).await
    }

    async fn cancel_workflow(&self, request: Request<ChangeWorkflowRequest>) -> Result<Response<Workflow>, Status> {
        let workflow = manage::cancel(&self.core, request.into_inner(), now()).await?;
        self.answer(&workflow).await
    }

    async fn approve_workflow(&self, request: Request<ApproveWorkflowRequest>) -> Result<Response<Workflow>, Status> {
        let workflow = manage::approve(&self.core, request.into_inner(), now()).await?;
        self.answer(&workflow).await
    }

    async fn deploy(&self, request: Request<DeployRequest>) -> Result<Response<Deployment>, Status> {
        let context = Context::of(request.metadata());
        Ok(Response::new(deploy::deploy(&self.core, request.into_inner(), context, now()).await?))
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Result<Response<Deployment>, Status> {
        Ok(Response::new(deploy::rollback(&self.core, request.into_inner(), now()).await?))
    }

    async fn get_deployment(&self, request: Request<GetDeploymentRequest>) -> Result<Response<Deployment>, Status> {
        let model = model_from_wire("model", &request.into_inner().model)?;
        let record = self.core.deployment(&model).await?;
        let record = record.ok_or_else(|| Error::not_found("deployment of", &model))?;
        Ok(Response::new(deployment_to_wire(&record)))
    }

    async fn list_deployments(
        &self,
        request: Request<ListDeploymentsRequest>,
    ) -> Result<Response<ListDeploymentsResponse>, Status> {
        let request = request.into_inner();
        let page = page(request.page_size, &request.page_token)?;
        let rows = store::deployments::list(&self.core.db, &page).await?;
        let (rows, next_page_token) = page.cut(rows, |record| record.deployment.model.to_string());
        let deployments = rows.iter().map(deployment_to_wire).collect();
        Ok(Response::new(ListDeploymentsResponse { deployments, next_page_token }))
    }

    async fn list_replicas(
        &self,
        _request: Request<ListReplicasRequest>,
    ) -> Result<Response<ListReplicasResponse>, Status> {
        let replicas = self.core.fleet.live(tokio::time::Instant::now()).iter().map(replica_to_wire).collect();
        Ok(Response::new(ListReplicasResponse { replicas }))
    }
}

fn page(size: u32, token: &str) -> Result<page::Page, Error> {
    page::parse(size, token).map_err(|error| Error::invalid("page_token", error))
}
