//! One replica over gRPC, with a nats-server, an object store and trained bundles.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod answering;
mod damaged;
mod guardrails;
mod logging;
mod onnx;
mod poison;
mod readiness;
mod recorded;
mod repository;
mod rest;
mod serving;
mod world;
