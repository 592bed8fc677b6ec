//! One version of a model. Its bundle never changes; its review does, each time by an update that is guarded by the
//! revision that was read.

use rekindle_domain::model_version::{Approval as DomainApproval, VersionStatus};
use sea_orm::entity::prelude::*;

use super::{Digests, Numbers, Texts};

/// The status as the database spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::None)", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    Ready,
    NotServable,
}

impl From<VersionStatus> for Status {
    fn from(status: VersionStatus) -> Self {
        match status {
            VersionStatus::Ready => Self::Ready,
            VersionStatus::NotServable => Self::NotServable,
        }
    }
}

impl From<Status> for VersionStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Ready => Self::Ready,
            Status::NotServable => Self::NotServable,
        }
    }
}

/// The approval as the database spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::None)", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Approval {
    Pending,
    Approved,
    Rejected,
}

impl From<DomainApproval> for Approval {
    fn from(approval: DomainApproval) -> Self {
        match approval {
            DomainApproval::Pending => Self::Pending,
            DomainApproval::Approved => Self::Approved,
            DomainApproval::Rejected => Self::Rejected,
        }
    }
}

impl From<Approval> for DomainApproval {
    fn from(approval: Approval) -> Self {
        match approval {
            Approval::Pending => Self::Pending,
            Approval::Approved => Self::Approved,
            Approval::Rejected => Self::Rejected,
        }
    }
}

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "model_versions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub model: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i32,
    pub status: Status,
    pub status_reason: String,
    pub bundle_digest: String,
    /// The run named by the bundle's provenance.
    pub run_id: Option<Uuid>,
    /// The datasets named by the bundle's provenance.
    pub dataset_digests: Digests,
    pub description: String,
    pub metrics: Numbers,
    pub approval: Approval,
    pub reviewed_by: String,
    pub review_reason: String,
    pub reviewed_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
    pub revision: i64,
    pub tags: Texts,
    /// The principal that registered it.
    pub author: String,
    /// Of the last review.
    pub evidence: Texts,
    pub updated_at: Option<DateTimeUtc>,
    pub deleted_at: Option<DateTimeUtc>,
    /// The address of its files, as MLflow's client gave it.
    pub source: String,
    pub run_link: String,
    /// MLflow's stage; empty: none.
    pub stage: String,
    pub logged_model_id: Option<Uuid>,
}

impl ActiveModelBehavior for ActiveModel {}
