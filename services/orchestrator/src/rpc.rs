//! The gRPC service: decode, call, encode.

mod audit;

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _};
use rekindle_client::wire::{
    delivery as delivery_wire, deployment, field, policy as policy_wire, replica, trigger, workflow as workflow_wire,
};
use rekindle_domain::{ModelName, WorkflowId, text};
use rekindle_proto::orchestrator::{
    ApproveWorkflowRequest, ChangeWorkflowRequest, DeliveryMetrics, DeployRequest, Deployment,
    GetDeliveryMetricsRequest, GetDeploymentRequest, GetPolicyRequest, GetWorkflowRequest, ListDeploymentsRequest,
    ListDeploymentsResponse, ListIgnoredTriggersRequest, ListIgnoredTriggersResponse, ListReplicasRequest,
    ListReplicasResponse, ListWorkflowsRequest, ListWorkflowsResponse, Policy, RollbackRequest, SetPolicyRequest,
    SetTrafficRequest, StartWorkflowRequest, Workflow,
    audit_server::AuditServer,
    orchestrator_server::{Orchestrator, OrchestratorServer},
};
use rekindle_runtime::grpc::RoutesBuilder;
use rekindle_service::{Call, Intent};
use rekindle_store::page;
use tokio::{sync::Semaphore, time::Instant};
use tonic::{Request, Response, Status};

use crate::{
    Error,
    core::Core,
    delivery,
    deploy::{self, Deploy, Rollback, Traffic},
    deployment::Record,
    manage, policy, store, watch, workflow,
};

/// Weighted versions of one deployment, at most: every replica holds each of them in memory.
const MAX_WEIGHTED: usize = 8;

/// The gRPC service.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    core: Arc<Core>,
    watchers: Arc<Semaphore>,
}

/// Adds the services.
pub(crate) fn register(core: Arc<Core>, routes: &mut RoutesBuilder) {
    let limit = routes.max_request_bytes();
    let watchers = Arc::new(Semaphore::new(core.config.watchers));
    let rpc = Rpc { core, watchers };
    routes
        .add_service(OrchestratorServer::new(rpc.clone()).max_decoding_message_size(limit))
        .add_service(AuditServer::new(rpc).max_decoding_message_size(limit));
}

fn model(call: &Call, text: &str) -> Result<ModelName, Error> {
    Ok(call.name("model", text)?)
}

fn id(text: &str) -> Result<WorkflowId, Error> {
    Ok(field::parse("id", text)?)
}

/// The reason that a caller gives. It passes to the registry and the trainer, which check it alike.
fn why(text: String) -> Result<String, Error> {
    text::check_reason(&text).map_err(|error| Error::invalid("why", error))?;
    Ok(text)
}

fn page(size: u32, token: &str) -> Result<page::Page, Error> {
    page::parse(size, token).map_err(|error| Error::invalid("page_token", error))
}

impl Rpc {
    async fn answer(&self, workflow: &workflow::Workflow) -> Result<Response<Workflow>, Status> {
        let steps = store::workflows::steps(&self.core.db, workflow.id).await?;
        Ok(Response::new(workflow_wire::to_wire(&workflow.status(steps))))
    }
}

#[tonic::async_trait]
impl Orchestrator for Rpc {
    type WatchWorkflowStream = Pin<Box<dyn Stream<Item = Result<Workflow, Status>> + Send>>;

    async fn set_policy(&self, request: Request<SetPolicyRequest>) -> Result<Response<Policy>, Status> {
        let (call, request) = Call::open(request)?;
        let given = field::nested("policy", request.policy, policy_wire::from_wire);
        let (mut given, _) = given.map_err(Error::from)?;
        (given.model, given.dataset) = (call.qualify(given.model), call.qualify(given.dataset));
        let revised = policy::set(&self.core, &call, given, request.expected_revision).await?;
        Ok(Response::new(policy_wire::to_wire(&revised.policy, revised.revision)))
    }

    async fn get_policy(&self, request: Request<GetPolicyRequest>) -> Result<Response<Policy>, Status> {
        let (call, request) = Call::open(request)?;
        let model = model(&call, &request.model)?;
        let revised = store::policies::get(&self.core.db, &model).await?;
        let revised = revised.ok_or_else(|| Error::not_found("policy of", &model))?;
        Ok(Response::new(policy_wire::to_wire(&revised.policy, revised.revision)))
    }

    async fn list_ignored_triggers(
        &self,
        request: Request<ListIgnoredTriggersRequest>,
    ) -> Result<Response<ListIgnoredTriggersResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let model = model(&call, &request.model)?;
        let ignored = store::ignored::of_model(&self.core.db, &model).await?;
        Ok(Response::new(ListIgnoredTriggersResponse { triggers: ignored.iter().map(trigger::to_wire).collect() }))
    }

    async fn start_workflow(&self, request: Request<StartWorkflowRequest>) -> Result<Response<Workflow>, Status> {
        let (call, request) = Call::open(request)?;
        let intent = Intent::of("StartWorkflow", &call.namespace, &request.idempotency_key, &request)?;
        let model = model(&call, &request.model)?;
        let workflow = manage::start(&self.core, &call, intent, model, why(request.why)?).await?;
        self.answer(&workflow).await
    }

    async fn get_workflow(&self, request: Request<GetWorkflowRequest>) -> Result<Response<Workflow>, Status> {
        let (_, request) = Call::open(request)?;
        let prefix = field::parse("id", &request.id).map_err(Error::from)?;
        let workflow = manage::find(&self.core, &prefix).await?;
        self.answer(&workflow).await
    }

    async fn list_workflows(
        &self,
        request: Request<ListWorkflowsRequest>,
    ) -> Result<Response<ListWorkflowsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let model = call.optional_name("model", &request.model).map_err(Error::from)?;
        let page = page(request.page_size, &request.page_token)?;
        let rows = store::workflows::list(&self.core.db, &call.namespace, model.as_ref(), &page).await?;
        let mut found = Vec::with_capacity(rows.len());
        for workflow in &rows {
            found.push(workflow.status(store::workflows::steps(&self.core.db, workflow.id).await?));
        }
        let (workflows, next_page_token) = page.cut(found, |workflow| workflow.id.to_string(), workflow_wire::to_wire);
        Ok(Response::new(ListWorkflowsResponse { workflows, next_page_token }))
    }

    async fn watch_workflow(
        &self,
        request: Request<GetWorkflowRequest>,
    ) -> Result<Response<Self::WatchWorkflowStream>, Status> {
        let (_, request) = Call::open(request)?;
        let id = manage::get(&self.core, id(&request.id)?).await?.id;
        let permit = watch::admit(&self.watchers, self.core.config.watchers)?;
        let changes = watch::changes(self.core.clone(), id, permit);
        let encode =
            |status: Result<_, Error>| status.map(|status| workflow_wire::to_wire(&status)).map_err(Status::from);
        Ok(Response::new(Box::pin(changes.map(encode))))
    }

    async fn pause_workflow(&self, request: Request<ChangeWorkflowRequest>) -> Result<Response<Workflow>, Status> {
        let (call, request) = Call::open(request)?;
        let workflow = manage::pause(&self.core, &call, id(&request.id)?, &why(request.why)?).await?;
        self.answer(&workflow).await
    }

    async fn resume_workflow(&self, request: Request<ChangeWorkflowRequest>) -> Result<Response<Workflow>, Status> {
        let (call, request) = Call::open(request)?;
        let workflow = manage::resume(&self.core, &call, id(&request.id)?, &why(request.why)?).await?;
        self.answer(&workflow).await
    }

    async fn cancel_workflow(&self, request: Request<ChangeWorkflowRequest>) -> Result<Response<Workflow>, Status> {
        let (call, request) = Call::open(request)?;
        let workflow = manage::cancel(&self.core, &call, id(&request.id)?, &why(request.why)?).await?;
        self.answer(&workflow).await
    }

    async fn approve_workflow(&self, request: Request<ApproveWorkflowRequest>) -> Result<Response<Workflow>, Status> {
        let (call, request) = Call::open(request)?;
        let decision = workflow_wire::decision_from_wire("decision", request.decision).map_err(Error::from)?;
        let workflow = manage::decide(&self.core, &call, id(&request.id)?, decision, why(request.why)?).await?;
        self.answer(&workflow).await
    }

    async fn deploy(&self, request: Request<DeployRequest>) -> Result<Response<Deployment>, Status> {
        let (call, request) = Call::open(request)?;
        let intent = Intent::of("Deploy", &call.namespace, &request.idempotency_key, &request)?;
        if request.version == Some(0) {
            return Err(Error::invalid("version", "is 0: expected a number from 1, or unset for the champion").into());
        }
        let deploy = Deploy {
            model: model(&call, &request.model)?,
            version: request.version,
            expected_revision: request.expected_revision,
            why: why(request.why)?,
        };
        let record = deploy::deploy(&self.core, &call, intent, deploy).await?;
        Ok(Response::new(deployment::to_wire(&record.status())))
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Result<Response<Deployment>, Status> {
        let (call, request) = Call::open(request)?;
        let intent = Intent::of("Rollback", &call.namespace, &request.idempotency_key, &request)?;
        let rollback = Rollback { model: model(&call, &request.model)?, why: why(request.why)? };
        let record = deploy::rollback(&self.core, &call, intent, rollback).await?;
        Ok(Response::new(deployment::to_wire(&record.status())))
    }

    async fn set_traffic(&self, request: Request<SetTrafficRequest>) -> Result<Response<Deployment>, Status> {
        let (call, request) = Call::open(request)?;
        let given = request.weighted.len();
        if given > MAX_WEIGHTED {
            let problem = format!("has {given} versions: expected at most {MAX_WEIGHTED}");
            return Err(Error::invalid("weighted", problem).into());
        }
        if let Some(at) = request.weighted.iter().position(|weighted| weighted.version == 0) {
            let field = format!("weighted[{at}].version");
            return Err(Error::invalid(field, "is 0: expected a number from 1").into());
        }
        let intent = Intent::of("SetTraffic", &call.namespace, &request.idempotency_key, &request)?;
        let traffic = Traffic {
            model: model(&call, &request.model)?,
            weighted: request.weighted.iter().map(|weighted| (weighted.version, weighted.weight)).collect(),
            shadow: Some(request.shadow).filter(|&shadow| shadow > 0),
            expected_revision: request.expected_revision,
            why: why(request.why)?,
        };
        let record = deploy::set_traffic(&self.core, &call, intent, traffic).await?;
        Ok(Response::new(deployment::to_wire(&record.status())))
    }

    async fn get_deployment(&self, request: Request<GetDeploymentRequest>) -> Result<Response<Deployment>, Status> {
        let (call, request) = Call::open(request)?;
        let model = model(&call, &request.model)?;
        let record = self.core.deployment(&model).await?;
        let record = record.ok_or_else(|| Error::not_found("deployment of", &model))?;
        Ok(Response::new(deployment::to_wire(&record.status())))
    }

    async fn list_deployments(
        &self,
        request: Request<ListDeploymentsRequest>,
    ) -> Result<Response<ListDeploymentsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let page = page(request.page_size, &request.page_token)?;
        let rows = store::deployments::list(&self.core.db, &call.namespace, &page).await?;
        let name = |record: &Record| record.deployment.model.to_string();
        let (deployments, next_page_token) = page.cut(rows, name, |record| deployment::to_wire(&record.status()));
        Ok(Response::new(ListDeploymentsResponse { deployments, next_page_token }))
    }

    async fn get_delivery_metrics(
        &self,
        request: Request<GetDeliveryMetricsRequest>,
    ) -> Result<Response<DeliveryMetrics>, Status> {
        let (call, request) = Call::open(request)?;
        let asked = delivery::Asked {
            model: call.optional_name("model", &request.model).map_err(Error::from)?,
            from: field::optional_time("from", request.from).map_err(Error::from)?,
            until: field::optional_time("until", request.until).map_err(Error::from)?,
        };
        let (span, metrics) = delivery::metrics(&self.core, &call, &asked).await?;
        Ok(Response::new(delivery_wire::to_wire(&span, &metrics)))
    }

    async fn list_replicas(
        &self,
        request: Request<ListReplicasRequest>,
    ) -> Result<Response<ListReplicasResponse>, Status> {
        let (_, request) = Call::open(request)?;
        let page = page(request.page_size, &request.page_token)?;
        let live = self.core.fleet.live(Instant::now());
        let after = |id: &str| page.after.as_deref().is_none_or(|after| id > after);
        let size = usize::try_from(page.fetch()).unwrap_or(usize::MAX);
        let rows = live.into_iter().filter(|state| after(state.replica.as_str())).take(size).collect();
        let (replicas, next_page_token) =
            page.cut(rows, |state| state.replica.to_string(), |state| replica::to_wire(state));
        Ok(Response::new(ListReplicasResponse { replicas, next_page_token }))
    }
}
