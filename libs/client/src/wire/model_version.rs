//! Registered models and their versions.

use rekindle_domain::{
    model_version::{Approval, ModelVersion, RegisteredModel, Review, VersionSelector, VersionStatus},
    validation::Violations,
};
use rekindle_proto::{
    json,
    registry::{self as wire, get_model_version_request::Selector},
};
use serde_json::Value;

use super::{
    alias,
    field::{each, enumeration, nested, nested_optional, optional_time, parse, parse_optional, required_time},
    time,
};

/// A version as a message.
pub fn to_wire(version: &ModelVersion) -> wire::ModelVersion {
    wire::ModelVersion {
        model: version.model.to_string(),
        version: version.version,
        status: status_to_wire(version.status).into(),
        status_reason: version.status_reason.clone(),
        bundle_digest: version.bundle.to_string(),
        run_id: version.run.map(|run| run.to_string()).unwrap_or_default(),
        description: version.description.clone(),
        review: Some(review_to_wire(&version.review)),
        metrics: version.metrics.clone().into_iter().collect(),
        aliases: version.aliases.clone(),
        created_at: Some(time::to_wire(version.created_at)),
        revision: version.revision,
        tags: version.tags.clone(),
        author: version.author.clone(),
        deleted_at: version.deleted_at.map(time::to_wire),
    }
}

/// The version in proto3 JSON.
pub fn to_json(version: &ModelVersion) -> Value {
    json::to_value(&to_wire(version))
}

/// The version that a message holds.
pub fn from_wire(given: wire::ModelVersion) -> Result<ModelVersion, Violations> {
    Ok(ModelVersion {
        model: parse("model", &given.model)?,
        version: given.version,
        status: status_from_wire("status", given.status)?,
        status_reason: given.status_reason,
        bundle: parse("bundle_digest", &given.bundle_digest)?,
        run: parse_optional("run_id", &given.run_id)?,
        description: given.description,
        tags: given.tags,
        author: given.author,
        review: nested("review", given.review, review_from_wire)?,
        metrics: given.metrics.into_iter().collect(),
        aliases: given.aliases,
        created_at: required_time("created_at", given.created_at)?,
        deleted_at: optional_time("deleted_at", given.deleted_at)?,
        revision: given.revision,
    })
}

/// A registered model as a message.
pub fn model_to_wire(model: &RegisteredModel) -> wire::Model {
    wire::Model {
        name: model.name.to_string(),
        latest: model.latest.as_ref().map(to_wire),
        aliases: model.aliases.iter().map(alias::to_wire).collect(),
        title: model.title.clone(),
        description: model.description.clone(),
        tags: model.tags.clone(),
        created_at: Some(time::to_wire(model.created_at)),
        updated_at: Some(time::to_wire(model.updated_at)),
        deleted_at: model.deleted_at.map(time::to_wire),
    }
}

/// The registered model in proto3 JSON.
pub fn model_to_json(model: &RegisteredModel) -> Value {
    json::to_value(&model_to_wire(model))
}

/// The registered model that a message holds.
pub fn model_from_wire(given: wire::Model) -> Result<RegisteredModel, Violations> {
    Ok(RegisteredModel {
        name: parse("name", &given.name)?,
        title: given.title,
        description: given.description,
        tags: given.tags,
        created_at: required_time("created_at", given.created_at)?,
        updated_at: required_time("updated_at", given.updated_at)?,
        deleted_at: optional_time("deleted_at", given.deleted_at)?,
        latest: nested_optional("latest", given.latest, from_wire)?,
        aliases: each("aliases", given.aliases, alias::from_wire)?,
    })
}

/// A selector as the field of a request.
pub fn selector_to_wire(selector: &VersionSelector) -> Option<Selector> {
    match selector {
        VersionSelector::Latest => None,
        VersionSelector::Number(number) => Some(Selector::Version(*number)),
        VersionSelector::Alias(alias) => Some(Selector::Alias(alias.to_string())),
    }
}

/// The selector that a request holds.
pub fn selector_from_wire(given: Option<Selector>) -> Result<VersionSelector, Violations> {
    match given {
        None => Ok(VersionSelector::Latest),
        Some(Selector::Version(0)) => Err(Violations::of("version", "is 0: expected a number from 1")),
        Some(Selector::Version(number)) => Ok(VersionSelector::Number(number)),
        Some(Selector::Alias(alias)) => Ok(VersionSelector::Alias(parse("alias", &alias)?)),
    }
}

/// A review as a message.
pub fn review_to_wire(review: &Review) -> wire::Review {
    wire::Review {
        approval: approval_to_wire(review.approval).into(),
        by: review.by.clone(),
        why: review.why.clone(),
        at: review.at.map(time::to_wire),
        evidence: review.evidence.clone(),
    }
}

/// The review in proto3 JSON.
pub fn review_to_json(review: &Review) -> Value {
    json::to_value(&review_to_wire(review))
}

/// The review that a message holds.
pub fn review_from_wire(given: wire::Review) -> Result<Review, Violations> {
    Ok(Review {
        approval: approval_from_wire("approval", given.approval)?,
        by: given.by,
        why: given.why,
        at: optional_time("at", given.at)?,
        evidence: given.evidence,
    })
}

fn status_to_wire(status: VersionStatus) -> wire::VersionStatus {
    match status {
        VersionStatus::Ready => wire::VersionStatus::Ready,
        VersionStatus::NotServable => wire::VersionStatus::NotServable,
    }
}

fn status_from_wire(field: &str, given: i32) -> Result<VersionStatus, Violations> {
    enumeration(field, given, "VERSION_STATUS_READY, VERSION_STATUS_NOT_SERVABLE", |status| match status {
        wire::VersionStatus::Unspecified => None,
        wire::VersionStatus::Ready => Some(VersionStatus::Ready),
        wire::VersionStatus::NotServable => Some(VersionStatus::NotServable),
    })
}

/// An approval as its enumeration.
pub fn approval_to_wire(approval: Approval) -> wire::Approval {
    match approval {
        Approval::Pending => wire::Approval::Pending,
        Approval::Approved => wire::Approval::Approved,
        Approval::Rejected => wire::Approval::Rejected,
    }
}

/// The approval that a field holds.
pub fn approval_from_wire(field: &str, given: i32) -> Result<Approval, Violations> {
    enumeration(field, given, "APPROVAL_PENDING, APPROVAL_APPROVED, APPROVAL_REJECTED", |approval| match approval {
        wire::Approval::Unspecified => None,
        wire::Approval::Pending => Some(Approval::Pending),
        wire::Approval::Approved => Some(Approval::Approved),
        wire::Approval::Rejected => Some(Approval::Rejected),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::DateTime;
    use rekindle_domain::{AliasName, Digest};

    use super::*;

    #[test]
    fn versions_survive_with_every_approval() {
        for approval in [Approval::Pending, Approval::Approved, Approval::Rejected] {
            let evidence = BTreeMap::from([("verdict".into(), "passed".into())]);
            let (by, why) = ("alice".into(), "better".into());
            let review = Review { approval, by, why, at: Some(DateTime::UNIX_EPOCH), evidence };
            let version = ModelVersion {
                model: "m".parse().expect("a name"),
                version: 3,
                status: VersionStatus::Ready,
                status_reason: String::new(),
                bundle: Digest::of(b"bundle"),
                run: None,
                description: "first".into(),
                tags: BTreeMap::from([("team".into(), "risk".into())]),
                author: "bob".into(),
                review,
                metrics: BTreeMap::from([("auc".into(), 0.7)]),
                aliases: vec!["champion".into()],
                created_at: DateTime::UNIX_EPOCH,
                deleted_at: Some(DateTime::UNIX_EPOCH),
                revision: 1,
            };
            let model = RegisteredModel {
                name: version.model.clone(),
                title: "M".into(),
                description: "a model".into(),
                tags: version.tags.clone(),
                created_at: DateTime::UNIX_EPOCH,
                updated_at: DateTime::UNIX_EPOCH,
                deleted_at: None,
                latest: Some(version.clone()),
                aliases: vec![],
            };
            assert_eq!(to_json(&version)["review"]["approval"], format!("APPROVAL_{}", approval.name()));
            assert_eq!(model_to_json(&model)["latest"], to_json(&version));
            assert_eq!(from_wire(to_wire(&version)), Ok(version));
            assert_eq!(model_from_wire(model_to_wire(&model)), Ok(model));
        }
    }

    #[test]
    fn selectors_survive_and_zero_is_not_the_latest() {
        for selector in
            [VersionSelector::Latest, VersionSelector::Number(2), VersionSelector::Alias(AliasName::champion())]
        {
            assert_eq!(selector_from_wire(selector_to_wire(&selector)), Ok(selector));
        }
        assert!(selector_from_wire(Some(Selector::Version(0))).is_err());
    }
}
