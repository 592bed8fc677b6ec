//! The fields that runs are filtered and ordered by.

use rekindle_domain::run::RunStatus;

use crate::{
    filter::{self, Kind},
    mlflow::{RUN_NAME, USER},
};

pub(crate) type Field = filter::Field<Attribute>;
pub(crate) type Filter = filter::Filter<Attribute>;
pub(crate) type Order = filter::Order<Attribute>;

/// A field that every run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute {
    Id,
    ParentId,
    Experiment,
    Status,
    CodeRevision,
    CreatedAt,
    StartedAt,
    EndedAt,
}

impl filter::Attribute for Attribute {
    const ALL: &'static [Self] = &[
        Self::Id,
        Self::ParentId,
        Self::Experiment,
        Self::Status,
        Self::CodeRevision,
        Self::CreatedAt,
        Self::StartedAt,
        Self::EndedAt,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::ParentId => "parent_id",
            Self::Experiment => "experiment",
            Self::Status => "status",
            Self::CodeRevision => "code_revision",
            Self::CreatedAt => "created_at",
            Self::StartedAt => "started_at",
            Self::EndedAt => "ended_at",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::CreatedAt | Self::StartedAt | Self::EndedAt => Kind::Time,
            Self::Id | Self::ParentId => Kind::Run,
            Self::Experiment | Self::Status | Self::CodeRevision => Kind::Text,
        }
    }

    fn texts(self) -> Vec<&'static str> {
        if self == Self::Status { RunStatus::ALL.map(RunStatus::name).to_vec() } else { Vec::new() }
    }

    /// The names of MLflow.
    fn other_name(name: &str) -> Option<Field> {
        Some(match name {
            "run_id" => Field::Attribute(Self::Id),
            "start_time" => Field::Attribute(Self::StartedAt),
            "end_time" => Field::Attribute(Self::EndedAt),
            "created" => Field::Attribute(Self::CreatedAt),
            "run_name" => Field::Tag(RUN_NAME.to_owned()),
            "user_id" => Field::Tag(USER.to_owned()),
            _ => return None,
        })
    }
}
