//! The two reconcilers: one of deployments, one of workflows. A notification or a timer wakes them, they take no input, and they read the
//! state from the database each time. They act only while this instance holds the lease.

mod deployments;
mod workflows;

pub(crate) use self::{deployments::run as deployments, workflows::run as workflows};
