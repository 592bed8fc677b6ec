//! Whole platforms for tests: the real program, started as an operator would, on free ports and in a temporary folder.
//!
//! [`Platform`] is `rekindle up`; [`Cluster`] is each service as a process of its own. Both hand out the same [`Clients`], so a
//! story is told once and runs on every wiring. Both end what they started when dropped.

pub mod clients;
pub mod cluster;
pub mod platform;
pub mod process;
pub mod story;
pub mod table;
pub mod wiring;

pub use clients::Clients;
pub use cluster::{Cluster, Service};
pub use platform::Platform;
pub use wiring::Wiring;
