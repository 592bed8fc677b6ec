//! The trainer as its callers see it: over gRPC, with a real nats-server and a real registry.

mod evaluating;
mod sandbox;
mod submitting;
mod training;
