//! Whole platforms for tests: the program itself, started as an operator starts it, on free ports and in a temporary folder.
//!
//! [`Platform`] is `rekindle up`; [`Cluster`] is one process per service. Both have the same [`Clients`], so that a [`scenario`] runs on
//! every [`Wiring`]. Both end what they started when dropped.

pub mod clients;
pub mod cluster;
pub mod platform;
pub mod process;
pub mod scenario;
pub mod table;
pub mod wiring;

pub use clients::Clients;
pub use cluster::{Cluster, Service};
pub use platform::Platform;
pub use wiring::Wiring;
