//! The service `Models`: versions, reviews, aliases and lineage.

use prost::Message as _;
use rekindle_client::wire::{self, field};
use rekindle_domain::{
    AliasName, Digest, ModelName,
    lineage::LineageSubject,
    model_version::{ModelImport, ModelVersion, RegisteredModel, Review, Update, VersionSelector},
    text,
    validation::Checks,
};
use rekindle_proto::registry::{
    self as proto, DeleteAliasRequest, DeleteModelRequest, DeleteModelResponse, GetAliasHistoryRequest,
    GetAliasHistoryResponse, GetAliasProtectionRequest, GetAliasRequest, GetLineageGraphRequest, GetLineageRequest,
    GetModelRequest, GetModelVersionRequest, ImportModelVersionRequest, ListModelVersionsRequest,
    ListModelVersionsResponse, ListModelsRequest, ListModelsResponse, ListReviewsRequest, ListReviewsResponse,
    ProtectAliasRequest, RegisterModelVersionRequest, RestoreModelRequest, ReviewModelVersionRequest, SetAliasRequest,
    SwapAliasesRequest, SwapAliasesResponse, UpdateModelRequest, UpdateModelVersionRequest, models_server::Models,
};
use rekindle_service::{Call, Intent};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Bounds, cursor, page, parse, truncated};
use crate::{
    App, Error, alias,
    config::Limits,
    lineage, model,
    model_version::{self, Registered, Registration, ReviewRequest},
};

fn answer(version: &ModelVersion) -> Response<proto::ModelVersion> {
    Response::new(wire::model_version::to_wire(version))
}

#[tonic::async_trait]
impl Models for App {
    async fn register_model_version(
        &self,
        request: Request<RegisterModelVersionRequest>,
    ) -> Result<Response<proto::ModelVersion>, Status> {
        let (call, request) = Call::open(request)?;
        let intent = Intent::of("RegisterModelVersion", &call.namespace, &request.idempotency_key, &request)?;
        let registration = registration(&call, request, &self.0.config.limits)?;
        let created = model_version::register(&self.0.db, &self.0.bundles, call, intent, registration).await?;
        Ok(answer(&created))
    }

    async fn import_model_version(
        &self,
        request: Request<ImportModelVersionRequest>,
    ) -> Result<Response<proto::ModelVersion>, Status> {
        let (call, request) = Call::open(request)?;
        let intent = Intent::of("ImportModelVersion", &call.namespace, &request.idempotency_key, &request)?;
        let import = model_import(&call, request, &self.0.config.limits)?;
        // It holds what it reads of blobs and files.
        let created = Box::pin(model_version::import(&self.0.db, &self.0.bundles, call, intent, import)).await?;
        Ok(answer(&created))
    }

    async fn get_model_version(
        &self,
        request: Request<GetModelVersionRequest>,
    ) -> Result<Response<proto::ModelVersion>, Status> {
        let (call, request) = Call::open(request)?;
        let model = call.name("model", &request.model).map_err(Error::from)?;
        let selector = wire::model_version::selector_from_wire(request.selector).map_err(Error::from)?;
        Ok(answer(&model_version::get(&self.0.db, &model, &selector).await?))
    }

    async fn get_model(&self, request: Request<GetModelRequest>) -> Result<Response<proto::Model>, Status> {
        let (call, request) = Call::open(request)?;
        let name = call.name("model", &request.model).map_err(Error::from)?;
        self.model(&name).await
    }

    async fn update_model(&self, request: Request<UpdateModelRequest>) -> Result<Response<proto::Model>, Status> {
        let (call, request) = Call::open(request)?;
        let UpdateModelRequest { model, title, description, tags, delete_tags } = request;
        let name: ModelName = call.name("model", &model).map_err(Error::from)?;
        let update = Update { title, description, delete_tags, tags };
        check_update(&update, &self.0.config.limits)?;
        model::update(&self.0.db, call, name.clone(), update).await?;
        self.model(&name).await
    }

    async fn update_model_version(
        &self,
        request: Request<UpdateModelVersionRequest>,
    ) -> Result<Response<proto::ModelVersion>, Status> {
        let (call, request) = Call::open(request)?;
        let UpdateModelVersionRequest { model, version, description, tags, delete_tags } = request;
        let name: ModelName = call.name("model", &model).map_err(Error::from)?;
        let number = self::version(version)?;
        let update = Update { title: None, description, delete_tags, tags };
        check_update(&update, &self.0.config.limits)?;
        let apply = move |registered: &mut Registered| {
            model::apply(&update, &mut registered.version.description, &mut registered.version.tags)
        };
        model_version::change(&self.0.db, call, name.clone(), number, apply).await?;
        Ok(answer(&model_version::get(&self.0.db, &name, &VersionSelector::Number(number)).await?))
    }

    async fn delete_model(
        &self,
        request: Request<DeleteModelRequest>,
    ) -> Result<Response<DeleteModelResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let (name, number) = self::model_or_version(&call, &request.model, request.version)?;
        let why = super::why(request.why)?;
        match number {
            None => model::set_deleted(&self.0.db, call, name, why, true).await?,
            Some(number) => model_version::set_deleted(&self.0.db, call, name, number, why, true).await?,
        }
        Ok(Response::new(DeleteModelResponse {}))
    }

    async fn restore_model(&self, request: Request<RestoreModelRequest>) -> Result<Response<proto::Model>, Status> {
        let (call, request) = Call::open(request)?;
        let (name, number) = self::model_or_version(&call, &request.model, request.version)?;
        let why = super::why(request.why)?;
        match number {
            None => model::set_deleted(&self.0.db, call, name.clone(), why, false).await?,
            Some(number) => model_version::set_deleted(&self.0.db, call, name.clone(), number, why, false).await?,
        }
        self.model(&name).await
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let page = page(request.page_size, &request.page_token)?;
        let fetch = |after, limit| model::list(&self.0.db, &call.namespace, after, limit);
        let name = |model: &RegisteredModel| model.name.to_string();
        let filled = page.fill(page.after.clone(), fetch, name, wire::model_version::model_to_wire).await;
        let (models, next_page_token) = filled?;
        Ok(Response::new(ListModelsResponse { models, next_page_token }))
    }

    async fn list_model_versions(
        &self,
        request: Request<ListModelVersionsRequest>,
    ) -> Result<Response<ListModelVersionsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let model = call.name("model", &request.model).map_err(Error::from)?;
        let page = page(request.page_size, &request.page_token)?;
        let fetch = |before, limit| model_version::versions(&self.0.db, &model, before, limit);
        let number = |version: &ModelVersion| version.version;
        let filled = page.fill(cursor(&page)?, fetch, number, wire::model_version::to_wire).await;
        let (versions, next_page_token) = filled?;
        Ok(Response::new(ListModelVersionsResponse { versions, next_page_token }))
    }

    async fn review_model_version(
        &self,
        request: Request<ReviewModelVersionRequest>,
    ) -> Result<Response<proto::ModelVersion>, Status> {
        let (call, request) = Call::open(request)?;
        let request = review_request(&call, request, &self.0.config.limits)?;
        Ok(answer(&model_version::review(&self.0.db, call, request).await?))
    }

    async fn set_alias(&self, request: Request<SetAliasRequest>) -> Result<Response<proto::Alias>, Status> {
        let (call, request) = Call::open(request)?;
        let mut bounds = Bounds::new(&self.0.config.limits);
        bounds.checks.parsed("why", text::check_reason(&request.why));
        let target = bounds.checks.taken_here(wire::alias::move_from_wire(request));
        bounds.finish().map_err(Error::from)?;
        let mut target = target.ok_or_else(|| Error::invalid("alias", "is missing"))?;
        target.model = call.qualify(target.model);
        let moved = alias::set(&self.0.db, call, target).await?;
        Ok(Response::new(wire::alias::to_wire(&moved)))
    }

    async fn list_reviews(
        &self,
        request: Request<ListReviewsRequest>,
    ) -> Result<Response<ListReviewsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let name: ModelName = call.name("model", &request.model).map_err(Error::from)?;
        let number = self::version(request.version)?;
        let page = page(request.page_size, &request.page_token)?;
        let fetch = |before, limit| model_version::reviews(&self.0.db, &name, number, before, limit);
        let to_wire = |(_, review): &(u64, Review)| wire::model_version::review_to_wire(review);
        let (reviews, next_page_token) = page.fill(cursor(&page)?, fetch, |(number, _)| *number, to_wire).await?;
        Ok(Response::new(ListReviewsResponse { reviews, next_page_token }))
    }

    async fn swap_aliases(
        &self,
        request: Request<SwapAliasesRequest>,
    ) -> Result<Response<SwapAliasesResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut swap = wire::alias::swap_from_wire(request).map_err(Error::from)?;
        swap.why = super::why(swap.why)?;
        swap.model = call.qualify(swap.model);
        // Each move has an event of its own.
        let other = Call { id: Uuid::now_v7(), ..call.clone() };
        let (one, other) = alias::swap(&self.0.db, (call, other), swap).await?;
        let (one, other) = (Some(wire::alias::to_wire(&one)), Some(wire::alias::to_wire(&other)));
        Ok(Response::new(SwapAliasesResponse { one, other }))
    }

    async fn delete_alias(&self, request: Request<DeleteAliasRequest>) -> Result<Response<proto::Alias>, Status> {
        let (call, request) = Call::open(request)?;
        let name = call.name("model", &request.model).map_err(Error::from)?;
        let (alias, why) = (parse("alias", &request.alias)?, super::why(request.why)?);
        let expected = Some(request.expected_revision);
        let deleted = alias::delete(&self.0.db, call, name, alias, expected, why).await?;
        Ok(Response::new(wire::alias::to_wire(&deleted)))
    }

    async fn protect_alias(
        &self,
        request: Request<ProtectAliasRequest>,
    ) -> Result<Response<proto::AliasProtection>, Status> {
        let (call, request) = Call::open(request)?;
        let name = call.name("model", &request.model).map_err(Error::from)?;
        let (alias, why) = (parse("alias", &request.alias)?, super::why(request.why)?);
        let rule = (request.approvals, request.except_author);
        let set = alias::protect(&self.0.db, call, name, alias, rule, why).await?;
        Ok(Response::new(wire::alias::protection_to_wire(&set)))
    }

    async fn get_alias_protection(
        &self,
        request: Request<GetAliasProtectionRequest>,
    ) -> Result<Response<proto::AliasProtection>, Status> {
        let (call, request) = Call::open(request)?;
        let name = call.name("model", &request.model).map_err(Error::from)?;
        let found = alias::protection(&self.0.db, name, parse("alias", &request.alias)?).await?;
        Ok(Response::new(wire::alias::protection_to_wire(&found)))
    }

    async fn get_alias(&self, request: Request<GetAliasRequest>) -> Result<Response<proto::Alias>, Status> {
        let (call, request) = Call::open(request)?;
        let model = call.name("model", &request.model).map_err(Error::from)?;
        let alias = parse("alias", &request.alias)?;
        let found = alias::get(&self.0.db, &model, &alias).await?;
        Ok(Response::new(wire::alias::to_wire(&found)))
    }

    async fn get_alias_history(
        &self,
        request: Request<GetAliasHistoryRequest>,
    ) -> Result<Response<GetAliasHistoryResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let model = call.name("model", &request.model).map_err(Error::from)?;
        let name: AliasName = parse("alias", &request.alias)?;
        if let Some(time) = field::optional_time("at", request.at).map_err(Error::from)? {
            let in_force = alias::at(&self.0.db, &model, &name, truncated(time)).await?;
            let moves = in_force.iter().map(wire::alias::to_wire).collect();
            return Ok(Response::new(GetAliasHistoryResponse { moves, next_page_token: String::new() }));
        }
        let page = page(request.page_size, &request.page_token)?;
        let found = alias::history(&self.0.db, &model, &name, cursor(&page)?, page.fetch()).await?;
        let (moves, next_page_token) = page.cut(found, |alias| alias.revision.to_string(), wire::alias::to_wire);
        Ok(Response::new(GetAliasHistoryResponse { moves, next_page_token }))
    }

    async fn get_lineage(&self, request: Request<GetLineageRequest>) -> Result<Response<proto::Lineage>, Status> {
        let (_, request) = Call::open(request)?;
        let bundle: Digest = parse("bundle_digest", &request.bundle_digest)?;
        let sizes = lineage::Sizes {
            of_version: |version| wire::model_version::to_wire(version).encoded_len(),
            of_dataset: |dataset| wire::dataset::to_wire(dataset).encoded_len(),
            most: rekindle_store::page::MAX_BYTES,
        };
        let lineage = lineage::of_bundle(&self.0.db, &bundle, sizes).await?;
        Ok(Response::new(wire::lineage::to_wire(&lineage)))
    }

    async fn get_lineage_graph(
        &self,
        request: Request<GetLineageGraphRequest>,
    ) -> Result<Response<proto::LineageGraph>, Status> {
        let (call, request) = Call::open(request)?;
        let (subject, extent) = wire::lineage::subject_from_wire(request).map_err(Error::from)?;
        let subject = match subject {
            LineageSubject::ModelVersion(model, number) => LineageSubject::ModelVersion(call.qualify(model), number),
            LineageSubject::DatasetVersion(name, number) => LineageSubject::DatasetVersion(call.qualify(name), number),
            of_run @ LineageSubject::Run(_) => of_run,
        };
        let graph = Box::pin(lineage::graph(&self.0.db, subject, extent)).await?;
        Ok(Response::new(wire::lineage::graph_to_wire(&graph)))
    }
}

impl App {
    async fn model(&self, name: &ModelName) -> Result<Response<proto::Model>, Status> {
        Ok(Response::new(wire::model_version::model_to_wire(&model::get(&self.0.db, name).await?)))
    }
}

/// The number of a version, from 1.
fn version(number: u32) -> Result<u32, Error> {
    if number > 0 { Ok(number) } else { Err(Error::invalid("version", "is 0: expected a number from 1")) }
}

fn model_or_version(call: &Call, model: &str, number: Option<u32>) -> Result<(ModelName, Option<u32>), Error> {
    Ok((call.name("model", model)?, number.map(version).transpose()?))
}

fn check_update(update: &Update, limits: &Limits) -> Result<(), Error> {
    let mut bounds = Bounds::new(limits);
    if let Some(description) = &update.description {
        bounds.checks.parsed("description", text::check_description(description));
    }
    bounds.texts("tags", &update.tags);
    bounds.at_most("delete_tags", update.delete_tags.len(), ("entries", limits.entries));
    Ok(bounds.finish()?)
}

fn registration(call: &Call, request: RegisterModelVersionRequest, limits: &Limits) -> Result<Registration, Error> {
    let mut bounds = Bounds::new(limits);
    let model = bounds.checks.parsed::<ModelName, _>("model", request.model.parse());
    let bundle = bounds.checks.parsed("bundle_digest", request.bundle_digest.parse());
    bounds.checks.parsed("description", text::check_description(&request.description));
    bounds.finish()?;
    let (model, bundle) = model.zip(bundle).ok_or_else(|| Error::invalid("model", "is missing"))?;
    Ok(Registration { model: call.qualify(model), bundle, description: request.description })
}

fn model_import(call: &Call, request: ImportModelVersionRequest, limits: &Limits) -> Result<ModelImport, Error> {
    let mut bounds = Bounds::new(limits);
    bounds.checks.parsed("description", text::check_description(&request.description));
    let lists = [
        ("classes", &request.classes),
        ("features", &request.features),
        ("nullable", &request.nullable),
        ("ignore", &request.ignore),
    ];
    for (field, names) in lists {
        bounds.at_most(field, names.len(), ("columns", limits.columns));
        names.iter().enumerate().for_each(|(index, name)| bounds.name(&format!("{field}[{index}]"), name));
    }
    for (field, name) in [("target", &request.target), ("output", &request.output)] {
        bounds.text(field, name);
    }
    let import = bounds.checks.taken_here(wire::model_import::from_wire(request));
    bounds.finish()?;
    let import = import.ok_or_else(|| Error::invalid("model", "is missing"))?;
    let dataset = import.dataset.map(|(name, version)| (call.qualify(name), version));
    Ok(ModelImport { model: call.qualify(import.model), dataset, ..import })
}

fn review_request(call: &Call, request: ReviewModelVersionRequest, limits: &Limits) -> Result<ReviewRequest, Error> {
    let mut bounds = Bounds::new(limits);
    let model = bounds.checks.parsed::<ModelName, _>("model", request.model.parse());
    let approval = wire::model_version::approval_from_wire("approval", request.approval);
    let approval = bounds.checks.taken_here(approval);
    let checks: &mut Checks = &mut bounds.checks;
    checks.require(request.version > 0, "version", request.version, "a number from 1");
    bounds.checks.parsed("why", text::check_reason(&request.why));
    bounds.texts("evidence", &request.evidence);
    bounds.finish()?;
    let (model, approval) = model.zip(approval).ok_or_else(|| Error::invalid("model", "is missing"))?;
    let ReviewModelVersionRequest { version, why, expected_revision, evidence, .. } = request;
    Ok(ReviewRequest { model: call.qualify(model), version, approval, why, expected_revision, evidence })
}
