//! The trainer as its callers see it: over gRPC, with a real nats-server and a real registry.

mod evaluating;
mod poison;
mod raw;
mod submitting;
mod training;
mod workers;
mod world;
