//! A run. Its status moves as [`rekindle_domain::run::RunStatus`] draws it, each time by an update that is
//! guarded by the revision that was read.

use rekindle_domain::run::RunStatus;
use sea_orm::entity::prelude::*;

use super::{Digests, Texts};

/// The status as the database spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::None)", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    Scheduled,
    Running,
    Finished,
    Failed,
    Killed,
    Lost,
}

impl From<RunStatus> for Status {
    fn from(status: RunStatus) -> Self {
        match status {
            RunStatus::Scheduled => Self::Scheduled,
            RunStatus::Running => Self::Running,
            RunStatus::Finished => Self::Finished,
            RunStatus::Failed => Self::Failed,
            RunStatus::Killed => Self::Killed,
            RunStatus::Lost => Self::Lost,
        }
    }
}

impl From<Status> for RunStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Scheduled => Self::Scheduled,
            Status::Running => Self::Running,
            Status::Finished => Self::Finished,
            Status::Failed => Self::Failed,
            Status::Killed => Self::Killed,
            Status::Lost => Self::Lost,
        }
    }
}

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "runs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub parent_id: Option<Uuid>,
    pub experiment: String,
    pub status: Status,
    pub params: Texts,
    pub tags: Texts,
    pub code_revision: String,
    pub dataset_digests: Digests,
    /// The seed's 64 bits, as a signed number.
    pub seed: i64,
    pub outputs: Texts,
    pub error: String,
    pub created_at: DateTimeUtc,
    pub started_at: Option<DateTimeUtc>,
    pub ended_at: Option<DateTimeUtc>,
    /// When a silent worker is taken for dead; `None` once the run has ended.
    pub deleted_at: Option<DateTimeUtc>,
    pub lease_until: Option<DateTimeUtc>,
    /// The lease that the creator has chosen, in milliseconds.
    pub lease_ms: Option<i64>,
    /// A [`rekindle_domain::run::RunProgress`].
    pub progress: Option<Json>,
    pub revision: i64,
}

impl ActiveModelBehavior for ActiveModel {}
