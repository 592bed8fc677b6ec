//! The two loops that make happen what must: one moves deployments, the other workflows. Both are woken by whatever
//! happened and by a timer, take no input, and read the truth from the database each time. They act only while this instance
//! holds the lease.

mod deployments;
mod workflows;

pub(crate) use self::{deployments::run as deployments, workflows::run as workflows};
