//! The lifecycle and the approval of a model version.

use serde::{Deserialize, Serialize};

/// `PENDING_REGISTRATION --verified--> READY`, or `--refused--> FAILED_REGISTRATION`. The registry owns both arrows:
/// a version is ready when every blob its bundle names is present and hashes to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum VersionStatus {
    /// Numbered, its bundle not yet verified.
    PendingRegistration,
    /// Verified; may be served.
    Ready,
    /// Its bundle is missing, corrupt or not a bundle.
    FailedRegistration,
}

impl VersionStatus {
    /// The status after the bundle was verified or refused; a settled version stays as it is.
    pub fn after_verification(self, verified: bool) -> Self {
        match (self, verified) {
            (Self::PendingRegistration, true) => Self::Ready,
            (Self::PendingRegistration, false) => Self::FailedRegistration,
            (settled, _) => settled,
        }
    }
}

/// Whether people (or a gate acting for them) let a version serve. Any approval may be changed to any other; who, when and why
/// are recorded with each change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Approval {
    /// Nobody has said.
    Pending,
    /// May serve.
    Approved,
    /// Must not serve.
    Rejected,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verification_settles_once() {
        use VersionStatus::{FailedRegistration, PendingRegistration, Ready};
        for (before, verified, after) in [
            (PendingRegistration, true, Ready),
            (PendingRegistration, false, FailedRegistration),
            (Ready, true, Ready),
            (Ready, false, Ready),
            (FailedRegistration, true, FailedRegistration),
            (FailedRegistration, false, FailedRegistration),
        ] {
            assert_eq!(before.after_verification(verified), after);
        }
    }
}
