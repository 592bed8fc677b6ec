//! Models, aliases and lineage on the wire.

use rekindle_domain::{
    AliasName, Digest, ModelName,
    model_version::{Approval, VersionStatus},
};
use rekindle_proto::{
    registry::{
        self as wire, GetAliasHistoryRequest, GetAliasHistoryResponse, GetAliasRequest, GetLineageRequest,
        GetModelVersionRequest, ListModelVersionsRequest, ListModelVersionsResponse, ListModelsRequest,
        ListModelsResponse, RegisterModelVersionRequest, ReviewModelVersionRequest, SetAliasRequest,
        get_model_version_request, models_server::Models,
    },
    time::to_wire,
};
use tonic::{Request, Response, Status};

use super::{
    cursor, datasets::version_to_wire as dataset_to_wire, moment, number, open, page, parse, runs::run_to_wire, text,
};
use crate::{
    App, Error,
    alias::{self, AliasMove, Target},
    call::Intent,
    config::Limits,
    lineage,
    model_version::{self, Judgement, Model, ModelVersion, Registration, Review, Which},
};

#[tonic::async_trait]
impl Models for App {
    async fn register_model_version(
        &self,
        request: Request<RegisterModelVersionRequest>,
    ) -> Result<Response<wire::ModelVersion>, Status> {
        let (call, request) = open(request);
        let intent = Intent::of("RegisterModelVersion", &request.idempotency_key, &request)?;
        let registration = Registration {
            model: parse("model", &request.model)?,
            bundle: parse("bundle_digest", &request.bundle_digest)?,
            description: text("description", request.description, &self.0.config.limits)?,
        };
        let made = model_version::register(&self.0.db, &self.0.artifacts, call, intent, registration).await?;
        Ok(Response::new(version_to_wire(made)))
    }

    async fn get_model_version(
        &self,
        request: Request<GetModelVersionRequest>,
    ) -> Result<Response<wire::ModelVersion>, Status> {
        let (_, request) = open(request);
        let model = parse("model", &request.model)?;
        let version = model_version::get(&self.0.db, &model, &which(request.which)?).await?;
        Ok(Response::new(version_to_wire(version)))
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let (_, request) = open(request);
        let page = page(request.page_size, &request.page_token)?;
        let found = model_version::models(&self.0.db, page.after.as_deref(), page.size).await?;
        let (found, next_page_token) = page.cut(found, |model| model.latest.model.to_string());
        let models = found.into_iter().map(model_to_wire).collect();
        Ok(Response::new(ListModelsResponse { models, next_page_token }))
    }

    async fn list_model_versions(
        &self,
        request: Request<ListModelVersionsRequest>,
    ) -> Result<Response<ListModelVersionsResponse>, Status> {
        let (_, request) = open(request);
        let model: ModelName = parse("model", &request.model)?;
        let page = page(request.page_size, &request.page_token)?;
        let found = model_version::versions(&self.0.db, &model, cursor(&page)?, page.size).await?;
        let (found, next_page_token) = page.cut(found, |version| version.version.to_string());
        let versions = found.into_iter().map(version_to_wire).collect();
        Ok(Response::new(ListModelVersionsResponse { versions, next_page_token }))
    }

    async fn review_model_version(
        &self,
        request: Request<ReviewModelVersionRequest>,
    ) -> Result<Response<wire::ModelVersion>, Status> {
        let (call, request) = open(request);
        let judgement = judgement(request, &self.0.config.limits)?;
        let version = model_version::review(&self.0.db, call, judgement).await?;
        Ok(Response::new(version_to_wire(version)))
    }

    async fn set_alias(&self, request: Request<SetAliasRequest>) -> Result<Response<wire::Alias>, Status> {
        let (call, request) = open(request);
        let limits = &self.0.config.limits;
        let target = Target {
            model: parse("model", &request.model)?,
            alias: parse("alias", &request.alias)?,
            version: version_number(request.version)?,
            expected_revision: request.expected_revision,
            by: text("by", request.by, limits)?,
            why: text("why", request.why, limits)?,
        };
        let moved = alias::set(&self.0.db, call, target).await?;
        Ok(Response::new(alias_to_wire(moved)))
    }

    async fn get_alias(&self, request: Request<GetAliasRequest>) -> Result<Response<wire::Alias>, Status> {
        let (_, request) = open(request);
        let (model, alias) = (parse("model", &request.model)?, parse("alias", &request.alias)?);
        let found = alias::get(&self.0.db, &model, &alias).await?;
        Ok(Response::new(alias_to_wire(found)))
    }

    async fn get_alias_history(
        &self,
        request: Request<GetAliasHistoryRequest>,
    ) -> Result<Response<GetAliasHistoryResponse>, Status> {
        let (_, request) = open(request);
        let (model, name): (ModelName, AliasName) = (parse("model", &request.model)?, parse("alias", &request.alias)?);
        if let Some(time) = moment("at", request.at)? {
            let in_force = alias::at(&self.0.db, &model, &name, time).await?;
            let moves = in_force.map(alias_to_wire).into_iter().collect();
            return Ok(Response::new(GetAliasHistoryResponse { moves, next_page_token: String::new() }));
        }
        let page = page(request.page_size, &request.page_token)?;
        let found = alias::history(&self.0.db, &model, &name, cursor(&page)?, page.size).await?;
        let (found, next_page_token) = page.cut(found, |alias| alias.revision.to_string());
        let moves = found.into_iter().map(alias_to_wire).collect();
        Ok(Response::new(GetAliasHistoryResponse { moves, next_page_token }))
    }

    async fn get_lineage(&self, request: Request<GetLineageRequest>) -> Result<Response<wire::Lineage>, Status> {
        let (_, request) = open(request);
        let bundle: Digest = parse("bundle_digest", &request.bundle_digest)?;
        let lineage = lineage::of_bundle(&self.0.db, &bundle).await?;
        Ok(Response::new(wire::Lineage {
            versions: lineage.versions.into_iter().map(version_to_wire).collect(),
            run: lineage.run.map(run_to_wire),
            datasets: lineage.datasets.into_iter().map(dataset_to_wire).collect(),
        }))
    }
}

fn which(which: Option<get_model_version_request::Which>) -> Result<Which, Error> {
    match which {
        None => Ok(Which::Latest),
        Some(get_model_version_request::Which::Version(version)) => {
            Ok(number(version).map_or(Which::Latest, Which::Number))
        }
        Some(get_model_version_request::Which::Alias(alias)) => Ok(Which::Alias(parse("alias", &alias)?)),
    }
}

fn version_number(version: u32) -> Result<u32, Error> {
    number(version).ok_or_else(|| Error::invalid("version", "is 0: name the version, they begin with 1"))
}

fn judgement(request: ReviewModelVersionRequest, limits: &Limits) -> Result<Judgement, Error> {
    let approval = match wire::Approval::try_from(request.approval) {
        Ok(wire::Approval::Pending) => Approval::Pending,
        Ok(wire::Approval::Approved) => Approval::Approved,
        Ok(wire::Approval::Rejected) => Approval::Rejected,
        Ok(wire::Approval::Unspecified) | Err(_) => {
            let problem = format!("is {}: use APPROVAL_PENDING, _APPROVED or _REJECTED", request.approval);
            return Err(Error::invalid("approval", problem));
        }
    };
    if request.by.is_empty() {
        return Err(Error::invalid("by", "is empty: a review is recorded with who gave it"));
    }
    Ok(Judgement {
        model: parse("model", &request.model)?,
        version: version_number(request.version)?,
        approval,
        by: text("by", request.by, limits)?,
        why: text("why", request.why, limits)?,
        expected_revision: request.expected_revision,
    })
}

fn version_to_wire(version: ModelVersion) -> wire::ModelVersion {
    wire::ModelVersion {
        model: version.model.into(),
        version: version.version,
        status: status_to_wire(version.status).into(),
        status_reason: version.status_reason,
        bundle_digest: version.bundle.to_string(),
        run_id: version.run.map(|run| run.to_string()).unwrap_or_default(),
        description: version.description,
        review: Some(review_to_wire(version.review)),
        metrics: version.metrics.into_iter().collect(),
        aliases: version.aliases,
        created_at: Some(to_wire(version.created_at)),
        revision: version.revision,
    }
}

fn status_to_wire(status: VersionStatus) -> wire::VersionStatus {
    match status {
        VersionStatus::PendingRegistration => wire::VersionStatus::PendingRegistration,
        VersionStatus::Ready => wire::VersionStatus::Ready,
        VersionStatus::FailedRegistration => wire::VersionStatus::FailedRegistration,
    }
}

fn review_to_wire(review: Review) -> wire::Review {
    let approval = match review.approval {
        Approval::Pending => wire::Approval::Pending,
        Approval::Approved => wire::Approval::Approved,
        Approval::Rejected => wire::Approval::Rejected,
    };
    wire::Review { approval: approval.into(), by: review.by, why: review.why, at: review.at.map(to_wire) }
}

fn model_to_wire(model: Model) -> wire::Model {
    wire::Model {
        name: model.latest.model.to_string(),
        latest: Some(version_to_wire(model.latest)),
        aliases: model.aliases.into_iter().map(alias_to_wire).collect(),
    }
}

fn alias_to_wire(alias: AliasMove) -> wire::Alias {
    wire::Alias {
        model: alias.model.into(),
        alias: alias.alias.into(),
        version: alias.version,
        bundle_digest: alias.bundle.to_string(),
        revision: alias.revision,
        by: alias.by,
        why: alias.why,
        moved_at: Some(to_wire(alias.moved_at)),
    }
}
