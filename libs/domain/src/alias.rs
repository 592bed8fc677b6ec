//! Aliases: named pointers to model versions, moved by compare-and-set, with their history.

use chrono::{DateTime, Utc};

use crate::{AliasName, Digest, ModelName, VersionRef};

/// An alias after one of its moves; the latest move says where it points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The model.
    pub model: ModelName,
    /// The alias, e.g. `champion`.
    pub alias: AliasName,
    /// The version it points at.
    pub version: u32,
    /// The bundle of that version.
    pub bundle: Digest,
    /// 1 for the first move.
    pub revision: u64,
    /// The principal that moved it.
    pub by: String,
    /// The reason given.
    pub why: String,
    /// When.
    pub moved_at: DateTime<Utc>,
    /// Whether this move deleted the alias; version and bundle are those that it pointed at before.
    pub deleted: bool,
}

/// A move to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasMove {
    /// The model.
    pub model: ModelName,
    /// The alias.
    pub alias: AliasName,
    /// The version to point at.
    pub version: u32,
    /// 0: the alias must not exist.
    pub expected_revision: u64,
    /// The reason.
    pub why: String,
}

/// Two aliases of a model whose versions are to be exchanged, each with its expected revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasSwap {
    /// The model.
    pub model: ModelName,
    /// One alias.
    pub one: (AliasName, u64),
    /// The other.
    pub other: (AliasName, u64),
    /// The reason.
    pub why: String,
}

/// What a version needs before an alias is moved to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasProtection {
    /// The model.
    pub model: ModelName,
    /// The alias.
    pub alias: AliasName,
    /// The principals whose last review of the version approves it. 0: the alias is not protected.
    pub approvals: u32,
    /// Whether the approval of the version's author does not count.
    pub except_author: bool,
    /// The principal that has set it; empty if nobody has.
    pub by: String,
    /// The reason given.
    pub why: String,
    /// When it was set.
    pub at: Option<DateTime<Utc>>,
}

impl Alias {
    /// The version as serving needs it.
    pub fn reference(&self) -> VersionRef {
        VersionRef { version: self.version, bundle: self.bundle }
    }
}
