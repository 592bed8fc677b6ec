//! The wire: generated messages, servers and clients of every gRPC package, the proto3 JSON mapping of events, and what processes tell each
//! other in metadata: trace context, and why a server is not ready.
//!
//! Nothing is decided here. Messages are named in this crate, in `rekindle-client` (which converts them to and from domain types) and in
//! the rpc layer of each service.

pub mod error;
pub mod health;
pub mod json;
pub mod trace;

/// Files of every package, for the reflection service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

// The generated code refers from package to package by relative paths, so the modules nest as the packages do.
mod generated {
    #![allow(unreachable_pub, rust_2018_idioms, clippy::all, clippy::unwrap_used, clippy::large_futures)]

    pub mod inference {
        tonic::include_proto!("inference");
    }
    pub mod rekindle {
        pub mod inference {
            pub mod v1 {
                tonic::include_proto!("rekindle.inference.v1");
            }
        }
        pub mod audit {
            pub mod v1 {
                tonic::include_proto!("rekindle.audit.v1");
            }
        }
        pub mod registry {
            pub mod v1 {
                tonic::include_proto!("rekindle.registry.v1");
            }
        }
        pub mod trainer {
            pub mod v1 {
                tonic::include_proto!("rekindle.trainer.v1");
            }
        }
        pub mod monitor {
            pub mod v1 {
                tonic::include_proto!("rekindle.monitor.v1");
            }
        }
        pub mod orchestrator {
            pub mod v1 {
                tonic::include_proto!("rekindle.orchestrator.v1");
            }
        }
        pub mod events {
            pub mod v1 {
                tonic::include_proto!("rekindle.events.v1");
            }
        }
    }
}

pub use generated::{
    inference,
    rekindle::{
        audit::v1 as audit, events::v1 as events, inference::v1 as replica, monitor::v1 as monitor,
        orchestrator::v1 as orchestrator, registry::v1 as registry, trainer::v1 as trainer,
    },
};
